/* SPDX-License-Identifier: MIT */
/* Few rows times quantised weights in the file's own order; see gemm_run.h. One task per group of
 * panels; sums run over a row in order, whatever the number of threads. Either the weights are
 * expanded piece by piece, or the activations are rounded to 8 bits and whole rows are multiplied
 * as they lie in the file: then memory is the limit. */
#include <string.h>

#include "kernels/gemm_run.h"

enum { PIECE = 1024 /* elements expanded at a time, a multiple of every block */ };

/* Activations in 8 bits where the table has a product for them and f32 was not asked for. */
static bool takes_q8(const limn_gemm_kernels *g, const limn_packed *w) {
    return w->compute == LIMN_COMPUTE_HALF && g->dot_q8[w->row_dtype] && w->k % 32 == 0;
}

bool limn_gemm_takes_few(const limn_gemm_kernels *g, const limn_packed *w, int64_t m) {
    if (w->store != LIMN_STORE_ROWS || w->input_major) return false;
    return m <= (takes_q8(g, w) ? LIMN_GEMM_Q8_ROWS : LIMN_GEMM_FEW_ROWS);
}

typedef struct few_job {
    const limn_gemm_job *job;
    const float *x;
    int64_t x_stride;
    int64_t panels; /* per task */
    size_t tile_bytes, worker_bytes;
    char *rows; /* [m][q8_bytes] with 8-bit activations, else NULL */
} few_job;

enum { QUANTISE_ROWS = 8 }; /* per task */

static size_t tile_bytes(const limn_packed *w, int64_t m) {
    return limn_gemm_align((size_t)m * (size_t)w->nr * sizeof(float));
}

/* Bytes of codes of one row; scales, sums and sums of halves follow. */
static size_t scales_bytes(const limn_packed *w) {
    return limn_gemm_align((size_t)w->k / 32 * sizeof(float));
}

static size_t q8_bytes(const limn_packed *w) {
    return limn_gemm_align((size_t)w->k) + 3 * scales_bytes(w);
}

static limn_q8_rows rows_from(const few_job *f, int64_t row) {
    const limn_packed *w = f->job->w;
    const char *at = f->rows + (size_t)row * q8_bytes(w);
    const char *d = at + limn_gemm_align((size_t)w->k), *s = d + scales_bytes(w);
    return (limn_q8_rows){.q = (const int8_t *)at,
                          .d = (const float *)(const void *)d,
                          .s = (const float *)(const void *)s,
                          .h = (const int16_t *)(const void *)(s + scales_bytes(w)),
                          .stride = q8_bytes(w)};
}

static size_t worker_bytes(const limn_packed *w, int64_t m) {
    return tile_bytes(w, m) + PIECE * sizeof(float);
}

size_t limn_gemm_few_scratch_bytes(const limn_packed *w, int64_t m, int threads) {
    return worker_bytes(w, m) * (size_t)threads + (size_t)m * q8_bytes(w);
}

static void quantise_task(void *arg, size_t task, int worker) {
    const few_job *f = arg;
    const limn_packed *w = f->job->w;
    int64_t i = (int64_t)task * QUANTISE_ROWS, end = i + QUANTISE_ROWS;
    for (; i < end && i < f->job->m; i++) {
        limn_q8_rows x = rows_from(f, i);
        f->job->ex->k->gemm.quantise_q8((int8_t *)x.q, NULL, (float *)x.d, (float *)x.s,
                                        (int16_t *)x.h, f->x + i * f->x_stride, (size_t)w->k, 0);
    }
}

/* One weight row of a panel after the other against four rows of x, which stay in the first cache.
 */
static void panel_q8(const few_job *f, float *tile, const char *row, int64_t rows) {
    const limn_packed *w = f->job->w;
    const limn_gemm_kernels *g = &f->job->ex->k->gemm;
    for (int64_t i = 0; i < f->job->m; i += LIMN_GEMM_FEW_ROWS) {
        int64_t left = f->job->m - i;
        int m = (int)(left < LIMN_GEMM_FEW_ROWS ? left : LIMN_GEMM_FEW_ROWS);
        limn_q8_rows x = rows_from(f, i);
        for (int64_t j = 0; j < rows; j++) {
            float out[LIMN_GEMM_FEW_ROWS];
            g->dot_q8[w->row_dtype](out, row + (size_t)j * w->row_bytes, &x, m, (size_t)w->k);
            for (int r = 0; r < m; r++) tile[(i + r) * w->nr + j] = out[r];
        }
    }
}

static void few_task(void *arg, size_t task, int worker) {
    const few_job *f = arg;
    const limn_gemm_job *job = f->job;
    const limn_packed *w = job->w;
    const limn_gemm_kernels *g = &job->ex->k->gemm;
    const limn_dtype_info *info = limn_dtype_get(w->row_dtype);
    if (limn_exec_cancelled(job->ex)) return;
    float *tile = (float *)((char *)job->scratch + (size_t)worker * f->worker_bytes);
    float *piece = (float *)((char *)tile + f->tile_bytes);
    int m = (int)job->m;
    int64_t panel = (int64_t)task * f->panels, end = panel + f->panels;
    for (; panel < end && panel < w->panels; panel++) {
        memset(tile, 0, f->tile_bytes);
        int64_t row0 = panel * w->nr, rows = w->n - row0 < w->nr ? w->n - row0 : w->nr;
        const char *first = (const char *)w->data + (size_t)row0 * w->row_bytes;
        if (f->rows) panel_q8(f, tile, first, rows);
        for (int64_t j = f->rows ? rows : 0; j < rows; j++) {
            const char *row = first + (size_t)j * w->row_bytes;
            float out[LIMN_GEMM_FEW_ROWS] = {0};
            for (int64_t c = 0; c < w->k; c += PIECE) {
                size_t n = (size_t)(w->k - c < PIECE ? w->k - c : PIECE);
                const float *x[LIMN_GEMM_FEW_ROWS];
                for (int i = 0; i < m; i++) x[i] = f->x + i * f->x_stride + c;
                g->expand[w->row_dtype](piece, row + (size_t)(c / info->block * info->bytes), n);
                g->dot(out, piece, x, m, n);
            }
            for (int i = 0; i < m; i++) tile[i * w->nr + j] = out[i];
        }
        limn_gemm_finish_panel(job, 0, m, panel, tile);
    }
}

limn_status limn_gemm_few(const limn_gemm_job *job, const float *x, int64_t x_stride,
                          limn_err *err) {
    const limn_packed *w = job->w;
    int threads = limn_pool_threads(job->ex->pool);
    few_job f = {.job = job, .x = x, .x_stride = x_stride, .tile_bytes = tile_bytes(w, job->m)};
    f.worker_bytes = worker_bytes(w, job->m);
    if (takes_q8(&job->ex->k->gemm, w)) {
        f.rows = (char *)job->scratch + f.worker_bytes * (size_t)threads;
        limn_pool_run(job->ex->pool, quantise_task, &f,
                      (size_t)((job->m + QUANTISE_ROWS - 1) / QUANTISE_ROWS));
    }
    f.panels = (w->panels + 8 * threads - 1) / (8 * threads); /* about eight tasks per thread */
    limn_pool_run(job->ex->pool, few_task, &f, (size_t)((w->panels + f.panels - 1) / f.panels));
    if (limn_exec_cancelled(job->ex)) return limn_fail(err, LIMN_E_CANCELLED, "cancelled");
    return LIMN_OK;
}

/* ---- many products of one row ---- */
typedef struct ones_job {
    const limn_exec *ex;
    const limn_gemm_one *all;
    char *scratch, *rows;  /* rows: [count][q8_bytes], or one row for all; or NULL */
    size_t row_step;       /* bytes between rows; 0: one */
    int64_t parts, panels; /* tasks of a product, panels of a task */
    size_t tile_bytes, worker_bytes;
} ones_job;

static const limn_epilogue plain = {.scale = 1};

static void ones_quantise_task(void *arg, size_t task, int worker) {
    const ones_job *o = arg;
    const limn_gemm_one *one = &o->all[task];
    limn_gemm_job job = {.ex = o->ex, .w = one->w, .m = 1};
    few_job f = {.job = &job, .x = one->x, .rows = o->rows + task * o->row_step};
    quantise_task(&f, 0, worker);
}

static void ones_task(void *arg, size_t task, int worker) {
    const ones_job *o = arg;
    size_t at = task / (size_t)o->parts;
    const limn_gemm_one *one = &o->all[at];
    limn_gemm_job job = {.ex = o->ex,
                         .w = one->w,
                         .m = 1,
                         .y = one->y,
                         .y_stride = one->w->n,
                         .epi = &plain,
                         .scratch = o->scratch};
    few_job f = {.job = &job,
                 .x = one->x,
                 .panels = o->panels,
                 .tile_bytes = o->tile_bytes,
                 .worker_bytes = o->worker_bytes,
                 .rows = o->rows ? o->rows + at * o->row_step : NULL};
    few_task(&f, task % (size_t)o->parts, worker);
}

size_t limn_gemm_ones_scratch_bytes(const limn_packed *w, int64_t count, int threads) {
    return worker_bytes(w, 1) * (size_t)threads + (size_t)count * q8_bytes(w);
}

limn_status limn_gemm_ones(const limn_exec *ex, const limn_gemm_one *all, int64_t count,
                           void *scratch, limn_err *err) {
    enum { TASK_BYTES = 64 * 1024 /* of weights, about */ };
    const limn_packed *w = all[0].w;
    int threads = limn_pool_threads(ex->pool);
    ones_job o = {.ex = ex,
                  .all = all,
                  .scratch = scratch,
                  .tile_bytes = tile_bytes(w, 1),
                  .worker_bytes = worker_bytes(w, 1)};
    o.panels = TASK_BYTES / ((int64_t)w->row_bytes * w->nr) + 1;
    o.parts = (w->panels + o.panels - 1) / o.panels;
    if (takes_q8(&ex->k->gemm, w)) {
        o.rows = o.scratch + o.worker_bytes * (size_t)threads;
        for (int64_t i = 1; i < count; i++)
            if (all[i].x != all[0].x) o.row_step = q8_bytes(w);
        limn_pool_run(ex->pool, ones_quantise_task, &o, o.row_step > 0 ? (size_t)count : 1);
    }
    limn_pool_run_near(ex->pool, ones_task, &o, (size_t)(count * o.parts));
    if (limn_exec_cancelled(ex)) return limn_fail(err, LIMN_E_CANCELLED, "cancelled");
    return LIMN_OK;
}
