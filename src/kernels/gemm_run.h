/* SPDX-License-Identifier: MIT */
/* The driver of gemm.h's micro-kernels, shared by matmul.c and conv.c. Internal to kernels/. */
#ifndef LIMN_KERNELS_GEMM_RUN_H
#define LIMN_KERNELS_GEMM_RUN_H

#include "kernels/matmul.h"

typedef struct limn_gemm_job limn_gemm_job;

/* Writes the pointers of rows [row0, row0 + rows) for each tap: table[tap * rows_stride + i]. */
typedef void limn_gemm_rows_fn(const limn_gemm_job *job, const void **table, size_t rows_stride,
                               int64_t row0, int rows);

struct limn_gemm_job {
    const limn_exec *ex;
    const limn_packed *w;
    int64_t m;
    limn_gemm_rows_fn *fill_rows;
    const void *rows_arg;   /* of fill_rows */
    const float *row_scale; /* INT8: [m] */
    void *y;
    int64_t y_stride;
    bool y_bf16;
    const limn_epilogue *epi;
    void *scratch; /* limn_gemm_scratch_bytes */
};

/* gated: the epilogue has a gate */
size_t limn_gemm_scratch_bytes(const limn_kernels *k, const limn_packed *w, int64_t m, bool gated,
                               int threads);
limn_status limn_gemm_run(const limn_gemm_job *job, limn_err *err);

/* Sends the sums c [rows][gemm.nr] of one panel, or of neighbours that are not wider than gemm.nr
 * together, through the epilogue into rows [row0, row0 + rows). */
void limn_gemm_finish_panels(const limn_gemm_job *job, int64_t row0, int rows, int64_t panel,
                             int panels, float *c);
void limn_gemm_finish_panel(const limn_gemm_job *job, int64_t row0, int rows, int64_t panel,
                            float *c);

/* Brings the first line of each of these outputs into the cache, and of their residuals: asked for
 * before the products that they wait for. */
void limn_gemm_fetch_outputs(const limn_gemm_job *job, int64_t row0, int rows, int64_t panel);

/* Products of few rows with weights that stay in their file (LIMN_STORE_ROWS): each weight row is
 * expanded piece by piece in L1 and multiplied at once. With 8-bit activations (LIMN_COMPUTE_HALF,
 * where dot_q8 has the type) up to 16 rows go this way; more are faster with expanded panels. */
enum { LIMN_GEMM_FEW_ROWS = 4, LIMN_GEMM_Q8_ROWS = 16 };
bool limn_gemm_takes_few(const limn_gemm_kernels *g, const limn_packed *w, int64_t m);
size_t limn_gemm_few_scratch_bytes(const limn_packed *w, int64_t m, int threads);
/* x [m][k] f32, rows x_stride apart; limn_gemm_takes_few holds; fill_rows of the job is not used.
 */
limn_status limn_gemm_few(const limn_gemm_job *job, const float *x, int64_t x_stride,
                          limn_err *err);

/* One row times one weight: y [n] = w x [k], f32. */
typedef struct limn_gemm_one {
    const limn_packed *w;
    const float *x;
    float *y;
} limn_gemm_one;

/* Many of them side by side, with weights of one shape for which limn_gemm_takes_few holds: the
 * same bits as one after the other, and threads wait for each other once. */
size_t limn_gemm_ones_scratch_bytes(const limn_packed *w, int64_t count, int threads);
limn_status limn_gemm_ones(const limn_exec *ex, const limn_gemm_one *all, int64_t count,
                           void *scratch, limn_err *err);

/* Products of up to LIMN_MATMUL_TOGETHER weights in quantised panels (LIMN_STORE_QUANT) with one x,
 * side by side, so that threads wait for each other once; x as for limn_gemm_few, any number of
 * rows. limn_gemm_quant_is_few is the same for all. All jobs have the first one's scratch:
 * limn_gemm_quant_scratch_bytes of all, summed up. */
size_t limn_gemm_quant_scratch_bytes(const limn_kernels *k, const limn_packed *w, int64_t m,
                                     int threads);
/* Whether so many rows are few: tasks are panels of weights then, as they come from memory. */
bool limn_gemm_quant_is_few(const limn_kernels *k, const limn_packed *w, int64_t m);
limn_status limn_gemm_quant(const limn_gemm_job *jobs, int n, const float *x, int64_t x_stride,
                            limn_err *err);

/* y and residual are f32 or bf16, strides hold a row, scale is finite: E_UNSUPPORTED, E_SHAPE. */
limn_status limn_epilogue_check(const limn_epilogue *e, limn_dtype y_dtype, int64_t y_stride,
                                int64_t n, limn_err *err);

/* Converts rows of f32 / bf16 to a kernel's words; `k` elements in, k_pad out (filled up with
 * zeros). For U8X4 / S16X4 `inv_scale` multiplies first. `tmp` holds k f32. */
void limn_gemm_convert_row(const limn_gemm_kernels *g, void *dst, limn_words words, const void *src,
                           bool src_bf16, int64_t k, int64_t k_pad, float inv_scale, float *tmp);

/* The same for LIMN_WORDS_S16X2: w->ic_pad codes, then the scales. */
void limn_gemm_fix_row(const limn_gemm_kernels *g, void *dst, const limn_packed *w, const void *src,
                       bool src_bf16, float *tmp);

static inline size_t limn_gemm_align(size_t n) {
    return (n + 63) & ~(size_t)63;
}

#endif
