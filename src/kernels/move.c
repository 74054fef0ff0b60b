/* SPDX-License-Identifier: MIT */
/* Data movement; see move.h. Memory-bound: plain C, blocked where both sides cannot stream. */
#include "kernels/move.h"

#include <math.h>
#include <string.h>

#include "kernels/rowio.h"

enum { TASK_BYTES = 1 << 17, TRANSPOSE_BLOCK = 16 };

/* Rows of `bytes` bytes that make one task. */
static int64_t rows_per_task(int64_t bytes) {
    return bytes <= 0 || bytes >= TASK_BYTES ? 1 : TASK_BYTES / bytes;
}

static size_t task_count(int64_t rows, int64_t per_task) {
    return (size_t)((rows + per_task - 1) / per_task);
}

/* ---- strided copy ---- */

typedef struct copy_job {
    const limn_copy_args *a;
    int64_t per_task;
} copy_job;

static void copy_task(void *arg, size_t task, int worker) {
    (void)worker;
    const copy_job *j = arg;
    const limn_copy_args *a = j->a;
    int64_t r0 = (int64_t)task * j->per_task, r1 = r0 + j->per_task;
    if (r1 > a->planes * a->rows) r1 = a->planes * a->rows;
    for (int64_t i = r0; i < r1; i++) {
        int64_t plane = i / a->rows, row = i % a->rows;
        int64_t y = plane * a->y_plane + row * a->y_row, x = plane * a->x_plane + row * a->x_row;
        memcpy((char *)a->y + y * (int64_t)a->size, (const char *)a->x + x * (int64_t)a->size,
               (size_t)a->cols * a->size);
    }
}

void limn_copy_run(const limn_exec *ex, const limn_copy_args *a) {
    if (a->planes <= 0 || a->rows <= 0 || a->cols <= 0) return;
    copy_job j = {a, rows_per_task(a->cols * (int64_t)a->size)};
    limn_pool_run(ex->pool, copy_task, &j, task_count(a->planes * a->rows, j.per_task));
}

/* ---- transpose ---- */

/* One block of at most 16 x 16 elements; each input row is at most one cache line of 4-byte
 * elements, and so is each output row. */
#define TRANSPOSE_FN(type)                                                                         \
    static void transpose_##type(void *yp, const void *xp, int64_t rows, int64_t cols,             \
                                 int64_t y_stride, int64_t x_stride) {                             \
        type *restrict y = yp;                                                                     \
        const type *restrict x = xp;                                                               \
        for (int64_t c = 0; c < cols; c++)                                                         \
            for (int64_t r = 0; r < rows; r++) y[c * y_stride + r] = x[r * x_stride + c];          \
    }
TRANSPOSE_FN(uint8_t)
TRANSPOSE_FN(uint16_t)
TRANSPOSE_FN(uint32_t)
TRANSPOSE_FN(uint64_t)

typedef void transpose_fn(void *y, const void *x, int64_t rows, int64_t cols, int64_t y_stride,
                          int64_t x_stride);

typedef struct transpose_job {
    const limn_transpose_args *a;
    transpose_fn *fn;
    int64_t bands; /* of TRANSPOSE_BLOCK input columns */
} transpose_job;

static void transpose_task(void *arg, size_t task, int worker) {
    (void)worker;
    const transpose_job *j = arg;
    const limn_transpose_args *a = j->a;
    int64_t image = (int64_t)task / j->bands, c0 = (int64_t)task % j->bands * TRANSPOSE_BLOCK;
    int64_t cols = a->cols - c0 < TRANSPOSE_BLOCK ? a->cols - c0 : TRANSPOSE_BLOCK;
    size_t base = (size_t)(image * a->rows * a->cols) * a->size;
    const char *x = (const char *)a->x + base + (size_t)c0 * a->size;
    char *y = (char *)a->y + base + (size_t)(c0 * a->rows) * a->size;
    for (int64_t r = 0; r < a->rows; r += TRANSPOSE_BLOCK) {
        int64_t rows = a->rows - r < TRANSPOSE_BLOCK ? a->rows - r : TRANSPOSE_BLOCK;
        j->fn(y + (size_t)r * a->size, x + (size_t)(r * a->cols) * a->size, rows, cols, a->rows,
              a->cols);
    }
}

void limn_transpose_run(const limn_exec *ex, const limn_transpose_args *a) {
    if (a->n <= 0 || a->rows <= 0 || a->cols <= 0) return;
    transpose_job j = {.a = a, .bands = (a->cols + TRANSPOSE_BLOCK - 1) / TRANSPOSE_BLOCK};
    assert(a->size == 1 || a->size == 2 || a->size == 4 || a->size == 8);
    j.fn = a->size == 1   ? transpose_uint8_t
           : a->size == 2 ? transpose_uint16_t
           : a->size == 4 ? transpose_uint32_t
                          : transpose_uint64_t;
    limn_pool_run(ex->pool, transpose_task, &j, (size_t)(a->n * j.bands));
}

/* ---- nearest upsampling ---- */

typedef struct upsample_job {
    const limn_upsample_args *a;
    int64_t per_task;
} upsample_job;

static void upsample_task(void *arg, size_t task, int worker) {
    (void)worker;
    const upsample_job *j = arg;
    const limn_upsample_args *a = j->a;
    size_t px = (size_t)a->channels * a->size;
    int64_t r0 = (int64_t)task * j->per_task, r1 = r0 + j->per_task;
    if (r1 > a->n * a->out_h) r1 = a->n * a->out_h;
    for (int64_t i = r0; i < r1; i++) {
        int64_t image = i / a->out_h, row = i % a->out_h * a->in_h / a->out_h;
        const char *x = (const char *)a->x + (size_t)((image * a->in_h + row) * a->in_w) * px;
        char *y = (char *)a->y + (size_t)(i * a->out_w) * px;
        for (int64_t c = 0; c < a->out_w; c++)
            memcpy(y + (size_t)c * px, x + (size_t)(c * a->in_w / a->out_w) * px, px);
    }
}

void limn_upsample_run(const limn_exec *ex, const limn_upsample_args *a) {
    if (a->n <= 0 || a->out_h <= 0 || a->out_w <= 0 || a->channels <= 0) return;
    assert(a->in_h > 0 && a->in_w > 0);
    upsample_job j = {a, rows_per_task(a->out_w * a->channels * (int64_t)a->size)};
    limn_pool_run(ex->pool, upsample_task, &j, task_count(a->n * a->out_h, j.per_task));
}

/* ---- gather ---- */

typedef struct gather_job {
    const limn_kernels *k;
    const limn_gather_args *a;
    size_t row_bytes;
    int64_t per_task;
} gather_job;

/* Block types count in whole blocks, so a piece of 1024 elements always is some. */
static void gather_task(void *arg, size_t task, int worker) {
    (void)worker;
    const gather_job *j = arg;
    const limn_gather_args *a = j->a;
    const limn_dtype_info *info = limn_dtype_get(a->type);
    _Alignas(64) float buf[LIMN_ROW_PIECE];
    int64_t r0 = (int64_t)task * j->per_task, r1 = r0 + j->per_task;
    if (r1 > a->rows) r1 = a->rows;
    for (int64_t r = r0; r < r1; r++) {
        const char *x = (const char *)a->table + (size_t)a->ids[r] * j->row_bytes;
        for (int64_t c = 0; c < a->cols; c += LIMN_ROW_PIECE) {
            int64_t n = a->cols - c < LIMN_ROW_PIECE ? a->cols - c : LIMN_ROW_PIECE;
            int64_t at = r * a->y.stride + c;
            float *y = limn_rowio_dest(buf, a->y.data, a->y.type, at);
            limn_row_to_f32(j->k, y, x + c / info->block * info->bytes, a->type, n);
            limn_rowio_store(j->k, a->y.data, a->y.type, at, y, n);
        }
    }
}

limn_status limn_gather_run(const limn_exec *ex, const limn_gather_args *a, limn_err *err) {
    gather_job j = {.k = ex->k, .a = a, .per_task = rows_per_task(a->cols * 4)};
    if (!limn_dtype_row_bytes(&j.row_bytes, a->type, a->cols))
        return limn_fail(err, LIMN_E_SHAPE, "rows of %lld elements are not whole %s blocks",
                         (long long)a->cols, limn_dtype_get(a->type)->name);
    for (int64_t r = 0; r < a->rows; r++)
        if (a->ids[r] < 0 || a->ids[r] >= a->table_rows)
            return limn_fail(err, LIMN_E_VALUE, "id %d at position %lld: the table has %lld rows",
                             (int)a->ids[r], (long long)r, (long long)a->table_rows);
    if (a->rows > 0 && a->cols > 0)
        limn_pool_run(ex->pool, gather_task, &j, task_count(a->rows, j.per_task));
    return LIMN_OK;
}

/* ---- timestep embedding ---- */

void limn_timestep_run(const limn_timestep_args *a) {
    int64_t half = a->dim / 2;
    for (int64_t i = 0; i < a->n; i++) {
        float *y = a->y + i * a->dim;
        float *sines = y + (a->flip_sin_to_cos ? half : 0);
        float *cosines = y + (a->flip_sin_to_cos ? 0 : half);
        for (int64_t c = 0; c < half; c++) {
            double w = exp(-log(a->max_period) * (double)c / ((double)half - a->shift));
            sines[c] = (float)sin(a->t[i] * w);
            cosines[c] = (float)cos(a->t[i] * w);
        }
        if (a->dim % 2) y[a->dim - 1] = 0;
    }
}
