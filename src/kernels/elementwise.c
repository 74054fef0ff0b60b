/* SPDX-License-Identifier: MIT */
/*
 * Elementwise drivers; see elementwise.h.
 *
 * A job is a grid of row bands times column pieces. Each task walks its rows in pieces of
 * LIMN_ROW_PIECE elements: load (convert) the operands, call the f32 micro-kernel, store (convert).
 */
#include "kernels/elementwise.h"

#include <string.h>

#include "kernels/rowio.h"

static const char *const binary_names[LIMN_BINARY_COUNT] = {
#define X(id, name, formula) name,
    LIMN_BINARY_LIST(X)
#undef X
};

const char *limn_binary_name(limn_binary op) {
    return binary_names[op];
}

enum { MAX_INPUTS = 3 };

/* One job: y = fn(inputs). `fn` gets f32 pieces. */
typedef struct piece_job piece_job;
typedef void piece_fn(const piece_job *j, float *y, const float *const in[MAX_INPUTS], int64_t n);
struct piece_job {
    const limn_kernels *k;
    piece_fn *fn;
    const void *args;
    limn_rows y;
    limn_rows_in in[MAX_INPUTS];
    int inputs;
    int64_t rows, cols, band, col_step, col_tasks;
};

static const float *load_input(const piece_job *j, float *buf, const limn_rows_in *in, int64_t row,
                               int64_t col, int64_t n) {
    int64_t at = (in->repeat > 1 ? row / in->repeat : row) * in->stride;
    if (!in->single) return limn_rowio_load(j->k, buf, in->data, in->type, at + col, n);
    float one = *limn_rowio_load(j->k, buf, in->data, in->type, at, 1);
    for (int64_t i = 0; i < n; i++) buf[i] = one;
    return buf;
}

static void piece_task(void *arg, size_t task, int worker) {
    (void)worker;
    const piece_job *j = arg;
    _Alignas(64) float bufs[MAX_INPUTS][LIMN_ROW_PIECE], out[LIMN_ROW_PIECE];
    int64_t row0 = (int64_t)task / j->col_tasks * j->band;
    int64_t col0 = (int64_t)task % j->col_tasks * j->col_step;
    int64_t row1 = row0 + j->band < j->rows ? row0 + j->band : j->rows;
    int64_t col1 = col0 + j->col_step < j->cols ? col0 + j->col_step : j->cols;
    for (int64_t r = row0; r < row1; r++)
        for (int64_t c = col0; c < col1; c += LIMN_ROW_PIECE) {
            int64_t n = col1 - c < LIMN_ROW_PIECE ? col1 - c : LIMN_ROW_PIECE;
            const float *in[MAX_INPUTS] = {0};
            for (int i = 0; i < j->inputs; i++)
                if (j->in[i].data) in[i] = load_input(j, bufs[i], &j->in[i], r, c, n);
            int64_t at = r * j->y.stride + c;
            float *y = limn_rowio_dest(out, j->y.data, j->y.type, at);
            j->fn(j, y, in, n);
            limn_rowio_store(j->k, j->y.data, j->y.type, at, y, n);
        }
}

/* A dense operand may be seen as one long row. */
static bool is_flat(const limn_rows_in *in, int64_t cols) {
    return !in->data || (in->stride == cols && in->repeat <= 1 && !in->single);
}

static void piece_run(piece_job *j, const limn_exec *ex, int64_t rows, int64_t cols) {
    j->k = ex->k, j->rows = rows, j->cols = cols;
    assert(limn_rowio_is_type(j->y.type) && j->rows >= 0 && j->cols >= 0);
    if (j->rows == 0 || j->cols == 0) return;
    bool flat = j->y.stride == j->cols;
    for (int i = 0; i < j->inputs; i++) flat = flat && is_flat(&j->in[i], j->cols);
    if (flat) {
        j->cols *= j->rows;
        j->rows = 1;
    }
    j->col_step = LIMN_TASK_ELEMENTS;
    j->col_tasks = (j->cols + j->col_step - 1) / j->col_step;
    j->band = j->cols >= LIMN_TASK_ELEMENTS ? 1 : LIMN_TASK_ELEMENTS / j->cols;
    int64_t bands = (j->rows + j->band - 1) / j->band;
    limn_pool_run(ex->pool, piece_task, j, (size_t)(bands * j->col_tasks));
}

static void act_piece(const piece_job *j, float *y, const float *const in[], int64_t n) {
    const limn_act_args *a = j->args;
    j->k->elementwise.act[a->act](y, in[0], a->slope, n);
}

void limn_act_run(const limn_exec *ex, const limn_act_args *a) {
    piece_job j = {.fn = act_piece, .args = a, .y = a->y, .in = {a->x}, .inputs = 1};
    piece_run(&j, ex, a->rows, a->cols);
}

static void affine_piece(const piece_job *j, float *y, const float *const in[], int64_t n) {
    const limn_affine_args *a = j->args;
    j->k->elementwise.affine(y, in[0], a->mul, a->add, n);
}

void limn_affine_run(const limn_exec *ex, const limn_affine_args *a) {
    piece_job j = {.fn = affine_piece, .args = a, .y = a->y, .in = {a->x}, .inputs = 1};
    piece_run(&j, ex, a->rows, a->cols);
}

static void binary_piece(const piece_job *j, float *y, const float *const in[], int64_t n) {
    const limn_binary_args *a = j->args;
    j->k->elementwise.binary[a->op](y, in[0], in[1], a->alpha, n);
}

void limn_binary_run(const limn_exec *ex, const limn_binary_args *a) {
    piece_job j = {.fn = binary_piece, .args = a, .y = a->y, .in = {a->a, a->b}};
    j.inputs = 2;
    piece_run(&j, ex, a->rows, a->cols);
}

static void modulate_piece(const piece_job *j, float *y, const float *const in[], int64_t n) {
    static const float zeros[LIMN_ROW_PIECE];
    j->k->elementwise.modulate(y, in[0], in[1] ? in[1] : zeros, in[2] ? in[2] : zeros, n);
}

void limn_modulate_run(const limn_exec *ex, const limn_modulate_args *a) {
    piece_job j = {.fn = modulate_piece, .y = a->y, .in = {a->x, a->scale, a->shift}};
    j.inputs = 3;
    piece_run(&j, ex, a->rows, a->cols);
}

static void gate_add_piece(const piece_job *j, float *y, const float *const in[], int64_t n) {
    j->k->elementwise.gate_add(y, in[0], in[1], in[2], n);
}

void limn_gate_add_run(const limn_exec *ex, const limn_gate_add_args *a) {
    piece_job j = {.fn = gate_add_piece, .y = a->y, .in = {a->x, a->gate, a->h}};
    j.inputs = 3;
    piece_run(&j, ex, a->rows, a->cols);
}

static void glu_piece(const piece_job *j, float *y, const float *const in[], int64_t n) {
    const limn_glu_args *a = j->args;
    _Alignas(64) float act[LIMN_ROW_PIECE]; /* not y: that may be the memory of `value` */
    j->k->elementwise.act[a->act](act, in[1], 0, n);
    j->k->elementwise.binary[LIMN_BINARY_MUL](y, in[0], act, 0, n);
}

typedef struct glu_job {
    const limn_kernels *k;
    const limn_glu_args *a;
    int64_t band, col_step, col_tasks;
} glu_job;

static void glu_task(void *arg, size_t task, int worker) {
    (void)worker;
    const glu_job *j = arg;
    limn_glu_args a = *j->a;
    int64_t row = (int64_t)task / j->col_tasks * j->band;
    int64_t col = (int64_t)task % j->col_tasks * j->col_step;
    if (a.rows - row < j->band)
        a.rows -= row;
    else
        a.rows = j->band;
    a.cols = a.cols - col < j->col_step ? a.cols - col : j->col_step;
    a.y.data = (char *)a.y.data + (row * a.y.stride + col) * (a.y.type == LIMN_F32 ? 4 : 2);
    a.value.data = limn_rowio_at(a.value.data, a.value.type, row * a.value.stride + col);
    a.gate.data = limn_rowio_at(a.gate.data, a.gate.type, row * a.gate.stride + col);
    j->k->elementwise.glu(&a);
}

/* One loop from type to type. */
static void glu_direct(const limn_exec *ex, const limn_glu_args *a) {
    glu_job j = {ex->k, a, 1, LIMN_TASK_ELEMENTS, 1};
    if (a->cols < LIMN_TASK_ELEMENTS)
        j.band = LIMN_TASK_ELEMENTS / a->cols;
    else
        j.col_tasks = (a->cols + j.col_step - 1) / j.col_step;
    limn_pool_run(ex->pool, glu_task, &j, (size_t)((a->rows + j.band - 1) / j.band * j.col_tasks));
}

static bool is_plain(const limn_rows_in *in) {
    return in->repeat <= 1 && !in->single;
}

void limn_glu_run(const limn_exec *ex, const limn_glu_args *a) {
    assert(limn_rowio_is_type(a->y.type) && limn_rowio_is_type(a->value.type));
    if (a->rows <= 0 || a->cols <= 0) return;
    if ((a->act == LIMN_ACT_GELU || a->act == LIMN_ACT_SILU) && a->value.type == a->gate.type &&
        is_plain(&a->value) && is_plain(&a->gate)) {
        glu_direct(ex, a);
        return;
    }
    piece_job j = {.fn = glu_piece, .args = a, .y = a->y, .in = {a->value, a->gate}};
    j.inputs = 2;
    piece_run(&j, ex, a->rows, a->cols);
}

/* ---- conversion ---- */

typedef struct convert_job {
    const limn_kernels *k;
    const limn_convert_args *a;
    size_t block, block_bytes;
} convert_job;

static void convert_task(void *arg, size_t task, int worker) {
    (void)worker;
    const convert_job *j = arg;
    const limn_convert_args *a = j->a;
    _Alignas(64) float buf[LIMN_ROW_PIECE];
    int64_t end = (int64_t)(task + 1) * LIMN_TASK_ELEMENTS;
    if (end > a->n) end = a->n;
    for (int64_t i = (int64_t)task * LIMN_TASK_ELEMENTS; i < end; i += LIMN_ROW_PIECE) {
        int64_t n = end - i < LIMN_ROW_PIECE ? end - i : LIMN_ROW_PIECE;
        float *y = limn_rowio_dest(buf, a->y, a->y_type, i);
        limn_row_to_f32(j->k, y, (const char *)a->x + (size_t)i / j->block * j->block_bytes,
                        a->x_type, n);
        limn_rowio_store(j->k, a->y, a->y_type, i, y, n);
    }
}

void limn_row_to_f32(const limn_kernels *k, float *y, const void *x, limn_dtype t, int64_t n) {
    if (t == LIMN_BF16)
        k->elementwise.bf16_to_f32(y, x, n);
    else if (t == LIMN_F16)
        k->elementwise.f16_to_f32(y, x, n);
    else if (t == LIMN_Q8_0)
        k->elementwise.q8_0_to_f32(y, x, n);
    else
        limn_dtype_to_f32(y, x, t, n);
}

void limn_row_from_f32(const limn_kernels *k, void *y, const float *x, limn_dtype t, int64_t n) {
    if (t == LIMN_BF16)
        k->elementwise.f32_to_bf16(y, x, n);
    else if (t == LIMN_F16)
        k->elementwise.f32_to_f16(y, x, n);
    else
        limn_dtype_from_f32(y, x, t, n);
}

void limn_convert_run(const limn_exec *ex, const limn_convert_args *a) {
    const limn_dtype_info *info = limn_dtype_get(a->x_type);
    assert(a->n >= 0 && a->n % info->block == 0 && limn_rowio_is_type(a->y_type));
    convert_job j = {ex->k, a, (size_t)info->block, (size_t)info->bytes};
    int64_t tasks = (a->n + LIMN_TASK_ELEMENTS - 1) / LIMN_TASK_ELEMENTS;
    limn_pool_run(ex->pool, convert_task, &j, (size_t)tasks);
}
