/* SPDX-License-Identifier: MIT */
/* Matrix products; see matmul.h. x is read in place when it already is what the kernel reads, else
 * it is converted once into scratch memory. */
#include "kernels/matmul.h"

#include <string.h>

#include "kernels/gemm_run.h"

enum { CONVERT_ROWS = 16 }; /* rows per conversion task */

typedef struct x_rows {
    const char *base;
    size_t row_bytes;
} x_rows;

typedef struct convert_job {
    const limn_exec *ex;
    const limn_matmul_args *a;
    limn_words words;
    char *rows;
    size_t row_bytes;
    float *row_scale; /* int8: [m] */
    float *tmp;       /* [threads][k] */
} convert_job;

static bool reads_in_place(const limn_matmul_args *a, limn_words words) {
    if (words == LIMN_WORDS_F32) return a->x_dtype == LIMN_F32;
    return words == LIMN_WORDS_BF16X2 && a->x_dtype == LIMN_BF16 && a->w->ic_pad == a->w->k;
}

static bool is_int8(limn_words words) {
    return words == LIMN_WORDS_U8X4 || words == LIMN_WORDS_S16X4;
}

/* Scratch: converted rows | row scales | one f32 row per thread | the driver's. */
typedef struct layout {
    limn_words words;
    size_t row_bytes, scale_off, tmp_off, tmp_row, run_off, total;
} layout;

/* Ways that read rows of f32 whatever the store's words are. */
static bool takes_few(const limn_kernels *k, const limn_matmul_args *a) {
    return limn_gemm_takes_few(&k->gemm, a->w, a->m);
}

static bool takes_quant(const limn_matmul_args *a) {
    return a->w->store == LIMN_STORE_QUANT;
}

static size_t run_bytes(const limn_kernels *k, const limn_matmul_args *a, int threads) {
    if (takes_quant(a)) return limn_gemm_quant_scratch_bytes(k, a->w, a->m, threads);
    if (takes_few(k, a)) return limn_gemm_few_scratch_bytes(a->w, a->m, threads);
    return limn_gemm_scratch_bytes(k, a->w, a->m, a->epi.gate != LIMN_GATE_NONE, threads);
}

static layout make_layout(const limn_kernels *k, const limn_matmul_args *a, int threads) {
    layout l = {.words = takes_few(k, a) ? LIMN_WORDS_F32 : limn_packed_words(a->w, k)};
    size_t m = a->m > 0 ? (size_t)a->m : 0;
    if (!reads_in_place(a, l.words)) {
        l.row_bytes = limn_gemm_align(limn_packed_row_bytes(a->w, l.words));
        l.scale_off = limn_gemm_align(l.row_bytes * m);
        l.tmp_off = l.scale_off + (is_int8(l.words) ? limn_gemm_align(m * sizeof(float)) : 0);
        l.tmp_row = limn_gemm_align((size_t)a->w->k * sizeof(float));
        l.run_off = l.tmp_off + l.tmp_row * (size_t)threads;
    }
    l.total = l.run_off + run_bytes(k, a, threads);
    return l;
}

size_t limn_matmul_scratch_bytes(const limn_kernels *k, const limn_matmul_args *a, int threads) {
    return make_layout(k, a, threads).total;
}

static void convert_rows(void *arg, size_t task, int worker) {
    const convert_job *job = arg;
    const limn_matmul_args *a = job->a;
    const limn_gemm_kernels *g = &job->ex->k->gemm;
    bool bf16 = a->x_dtype == LIMN_BF16;
    size_t k = (size_t)a->w->k, elem = bf16 ? 2 : 4;
    float *tmp = (float *)((char *)job->tmp + (size_t)worker * limn_gemm_align(k * sizeof *tmp));
    int64_t row = (int64_t)task * CONVERT_ROWS, end = row + CONVERT_ROWS;
    for (; row < end && row < a->m; row++) {
        const void *src = (const char *)a->x + (size_t)(row * a->x_stride) * elem;
        void *dst = job->rows + (size_t)row * job->row_bytes;
        bool src_bf16 = bf16;
        float inv = 0;
        if (job->row_scale) {
            if (bf16) {
                g->bf16_to_f32(tmp, src, k);
                src = tmp;
                src_bf16 = false;
            }
            float amax = g->max_abs(src, k);
            inv = amax > 0 ? 127.0f / amax : 0;
            job->row_scale[row] = amax / 127.0f;
        }
        if (job->words == LIMN_WORDS_S16X2)
            limn_gemm_fix_row(g, dst, a->w, src, src_bf16, tmp);
        else
            limn_gemm_convert_row(g, dst, job->words, src, src_bf16, a->w->k, a->w->ic_pad, inv,
                                  tmp);
    }
}

static void fill_rows(const limn_gemm_job *job, const void **table, size_t rows_stride,
                      int64_t row0, int rows) {
    const x_rows *x = job->rows_arg;
    (void)rows_stride;
    for (int i = 0; i < rows; i++) table[i] = x->base + (size_t)(row0 + i) * x->row_bytes;
}

static limn_status check(const limn_exec *ex, const limn_matmul_args *a, size_t need,
                         limn_err *err) {
    if (a->x_dtype != LIMN_F32 && a->x_dtype != LIMN_BF16)
        return limn_fail(err, LIMN_E_UNSUPPORTED, "a product cannot read %s",
                         limn_dtype_get(a->x_dtype)->name);
    if (a->w->taps != 1 || a->x_stride < a->w->k)
        return limn_fail(err, LIMN_E_SHAPE, "rows of %lld inputs do not fit a weight of %lld",
                         (long long)a->x_stride, (long long)a->w->k);
    if (ex->scratch_bytes < need)
        return limn_fail(err, LIMN_E_INTERNAL, "a product needs %zu bytes of scratch, has %zu",
                         need, ex->scratch_bytes);
    if (a->epi.gate == LIMN_GATE_NONE)
        return limn_epilogue_check(&a->epi, a->y_dtype, a->y_stride, a->w->n, err);
    limn_epilogue plain = a->epi;
    plain.gate = LIMN_GATE_NONE;
    if (takes_quant(a) || a->w->store == LIMN_STORE_ROWS || a->w->n % (2 * a->w->nr) != 0 ||
        plain.add || plain.residual || plain.scale != 1 ||
        (plain.act != LIMN_ACT_GELU && plain.act != LIMN_ACT_SILU))
        return limn_fail(err, LIMN_E_UNSUPPORTED, "a gated product of %lld outputs",
                         (long long)a->w->n);
    return limn_epilogue_check(&plain, a->y_dtype, a->y_stride, a->w->n / 2, err);
}

/* The rows of x as the kernels read them: in place, or converted into scratch. */
static x_rows ready_rows(const limn_exec *ex, const limn_matmul_args *a, const layout *l) {
    char *scratch = ex->scratch;
    if (l->row_bytes == 0)
        return (x_rows){a->x, (size_t)a->x_stride * (a->x_dtype == LIMN_BF16 ? 2 : 4)};
    convert_job c = {.ex = ex,
                     .a = a,
                     .words = l->words,
                     .rows = scratch,
                     .row_bytes = l->row_bytes,
                     .row_scale = is_int8(l->words) ? (float *)(scratch + l->scale_off) : NULL,
                     .tmp = (float *)(scratch + l->tmp_off)};
    limn_pool_run(ex->pool, convert_rows, &c, (size_t)((a->m + CONVERT_ROWS - 1) / CONVERT_ROWS));
    return (x_rows){scratch, l->row_bytes};
}

static limn_gemm_job job_of(const limn_exec *ex, const limn_matmul_args *a, char *scratch) {
    return (limn_gemm_job){.ex = ex,
                           .w = a->w,
                           .m = a->m,
                           .y = a->y,
                           .y_stride = a->y_stride,
                           .y_bf16 = a->y_dtype == LIMN_BF16,
                           .epi = &a->epi,
                           .scratch = scratch};
}

/* Whether products may run side by side: rows of one x meet quantised panels. */
static bool are_together(const limn_kernels *k, const limn_matmul_args *a, int n) {
    for (int i = 0; i < n; i++)
        if (!takes_quant(&a[i]) || a[i].m <= 0 ||
            limn_gemm_quant_is_few(k, a[i].w, a[i].m) !=
                limn_gemm_quant_is_few(k, a[0].w, a[0].m) ||
            a[i].x != a[0].x || a[i].x_dtype != a[0].x_dtype || a[i].m != a[0].m ||
            a[i].x_stride != a[0].x_stride || a[i].w->k != a[0].w->k)
            return false;
    return n > 1 && n <= LIMN_MATMUL_TOGETHER;
}

size_t limn_matmul_together_scratch_bytes(const limn_kernels *k, const limn_matmul_args *a, int n,
                                          int threads) {
    size_t sum = 0, most = 0;
    for (int i = 0; i < n; i++) {
        size_t bytes = limn_matmul_scratch_bytes(k, &a[i], threads);
        sum += bytes;
        if (bytes > most) most = bytes;
    }
    return are_together(k, a, n) ? sum : most;
}

limn_status limn_matmul_together(const limn_exec *ex, const limn_matmul_args *a, int n,
                                 limn_err *err) {
    limn_status st = LIMN_OK;
    limn_gemm_job jobs[LIMN_MATMUL_TOGETHER];
    if (!are_together(ex->k, a, n)) {
        for (int i = 0; i < n && st == LIMN_OK; i++) st = limn_matmul(ex, &a[i], err);
        return st;
    }
    size_t need = limn_matmul_together_scratch_bytes(ex->k, a, n, limn_pool_threads(ex->pool));
    layout l = make_layout(ex->k, a, limn_pool_threads(ex->pool));
    for (int i = 0; i < n && st == LIMN_OK; i++) {
        st = check(ex, &a[i], need, err);
        jobs[i] = job_of(ex, &a[i], (char *)ex->scratch + l.run_off);
    }
    if (st != LIMN_OK) return st;
    x_rows x = ready_rows(ex, a, &l);
    return limn_gemm_quant(jobs, n, (const float *)(const void *)x.base, (int64_t)(x.row_bytes / 4),
                           err);
}

limn_status limn_matmul(const limn_exec *ex, const limn_matmul_args *a, limn_err *err) {
    layout l = make_layout(ex->k, a, limn_pool_threads(ex->pool));
    limn_status st = check(ex, a, l.total, err);
    if (st != LIMN_OK || a->m <= 0) return st;
    char *scratch = ex->scratch;
    x_rows x = ready_rows(ex, a, &l);
    limn_gemm_job job = job_of(ex, a, scratch + l.run_off);
    job.fill_rows = fill_rows;
    job.rows_arg = &x;
    if (is_int8(l.words)) job.row_scale = (const float *)(void *)(scratch + l.scale_off);
    const float *rows = (const float *)(const void *)x.base;
    if (takes_quant(a)) return limn_gemm_quant(&job, 1, rows, (int64_t)(x.row_bytes / 4), err);
    if (takes_few(ex->k, a)) return limn_gemm_few(&job, rows, (int64_t)(x.row_bytes / 4), err);
    return limn_gemm_run(&job, err);
}

static float load_elem(const void *p, limn_dtype t, int64_t i) {
    return t == LIMN_BF16 ? limn_bf16_to_f32(((const uint16_t *)p)[i]) : ((const float *)p)[i];
}

/* Output j of row i of x . W^T + bias + add. */
static double ref_sum(const limn_matmul_args *a, const float *w, int64_t n, int64_t k, int64_t i,
                      int64_t j) {
    const limn_epilogue *e = &a->epi;
    double sum = 0;
    for (int64_t c = 0; c < k; c++)
        sum += (double)load_elem(a->x, a->x_dtype, i * a->x_stride + c) * w[j * k + c];
    if (e->bias) sum += e->bias[j];
    if (e->add) sum += e->add[i / e->add_rows * n + j];
    return sum;
}

void limn_matmul_ref(const limn_matmul_args *a, const float *w, int64_t n, int64_t k) {
    const limn_epilogue *e = &a->epi;
    int64_t half = e->gate == LIMN_GATE_NONE ? 0 : n / 2;
    int64_t gate = e->gate == LIMN_GATE_SECOND ? half : 0;
    for (int64_t i = 0; i < a->m; i++)
        for (int64_t j = 0; j < (half > 0 ? half : n); j++) {
            double sum = ref_sum(a, w, n, k, i, j + gate);
            float v = limn_act_apply(e->act, e->slope, (float)sum) * e->scale;
            if (half > 0) v *= (float)ref_sum(a, w, n, k, i, j + half - gate);
            if (e->residual)
                v += load_elem(e->residual, e->residual_dtype, i * e->residual_stride + j);
            if (a->y_dtype == LIMN_BF16)
                ((uint16_t *)a->y)[i * a->y_stride + j] = limn_f32_to_bf16(v);
            else
                ((float *)a->y)[i * a->y_stride + j] = v;
        }
}
