/* SPDX-License-Identifier: MIT */
/*
 * Normalisation and softmax.
 *
 * Statistics are two-pass and stable: sums of f32 lanes over at most LIMN_NORM_PIECE elements are
 * collected in f64, and the second pass sums squares of differences from the first pass's mean with
 * a correction for that mean's own rounding. group_norm does both passes on chunks that stay in
 * the cache and joins the chunks by Chan's formula, in order. All partitions depend on the shape
 * only: the same bits for any number of threads.
 *
 * Activations may be f32, f16 or bf16; weights, biases and statistics are f32. An output may be the
 * same memory as its input when type and stride agree. Shapes are checked by assert only.
 */
#ifndef LIMN_KERNELS_NORM_H
#define LIMN_KERNELS_NORM_H

#include "kernels/elementwise.h"

/* Rows of activations, read in their own type. */
typedef struct limn_norm_block {
    const void *x;
    limn_dtype type; /* f32, f16, bf16 */
    int64_t rows, stride;
} limn_norm_block;

enum { LIMN_NORM_PIECE = 1024 /* elements whose sum may stay in f32 */ };

/* How a row becomes normal: y = ((x - mean) * rstd + offset) * weight + bias; weight NULL: 1, bias
 * NULL: 0. The offset carries what the f32 mean lacks. */
typedef struct limn_norm_row {
    float mean, rstd, offset;
} limn_norm_row;

/* Micro-kernels on rows of any length, and on the first n columns of blocks, whose sums are in row
 * order. */
typedef struct limn_norm_kernels {
    /* The sum of x */
    double (*row_sum)(const void *x, limn_dtype type, int64_t n);
    /* *sum = sum(x - shift), *sum_sq = sum((x - shift)^2) */
    void (*row_moments)(const void *x, limn_dtype type, float shift, int64_t n, double *sum,
                        double *sum_sq);
    /* Rows of a block, each by its own row[i], all by the same weight and bias. */
    void (*row_apply)(const limn_rows *y, const limn_norm_block *x, const limn_norm_row *row,
                      const float *weight, const float *bias, int64_t n);
    /* Columns: acc[c] += each x[c] */
    void (*col_add)(float *acc, const limn_norm_block *b, int64_t n);
    /* Columns: d = x[c] - mean[c]; s1[c] += d; s2[c] += d^2 */
    void (*col_moments)(float *s1, float *s2, const limn_norm_block *b, const float *mean,
                        int64_t n);
    /* y = (x - mean) * scale + bias per column (bias NULL: 0), then SiLU when asked; rows of x */
    void (*col_apply)(const limn_rows *y, const limn_norm_block *x, const float *mean,
                      const float *scale, const float *bias, bool silu, int64_t n);
    /* y = x * scale + mask (mask may be NULL; y may be x); returns the largest y, -inf for n = 0 */
    float (*scale_mask_max)(float *y, const float *x, const float *mask, float scale, int64_t n);
    /* x = exp(x - shift); returns the sum of the results */
    double (*exp_sum)(float *x, float shift, int64_t n);
} limn_norm_kernels;

/* ---- layer norm and rms norm ---- */

/* Row r, part p is x.data[r * x.stride + p * dim ..]: `parts` > 1 normalises each head of a row by
 * itself with the same weight [dim] (QK norm). */
typedef struct limn_row_norm_args {
    limn_rows y;         /* [rows, parts, dim] */
    limn_rows_in x;      /* [rows, parts, dim]; repeat and single unused */
    int64_t rows, parts; /* parts 0 counts as 1 */
    int64_t dim;
    const float *weight; /* [dim] or NULL (no affine part) */
    const float *bias;   /* [dim] or NULL */
    float eps;
    bool rms;                  /* x / sqrt(mean(x^2) + eps), no mean subtracted */
    bool weight_plus;          /* weight is stored minus one (Gemma): uses 1 + weight */
    limn_rows_in scale, shift; /* data NULL or [rows / repeat, parts * dim]: afterwards
                                * y * (1 + scale) + shift, as limn_modulate_run */
} limn_row_norm_args;

/* Dim 0 writes nothing. Largest error against f64: 2e-6 of the largest |y| of the row. */
void limn_row_norm_run(const struct limn_exec *ex, const limn_row_norm_args *a);

/* ---- group norm, channels last ---- */

typedef struct limn_group_norm_args {
    limn_rows y;    /* [n, pixels, channels]; stride between pixels */
    limn_rows_in x; /* [n, pixels, channels]; stride between pixels; repeat, single unused */
    int64_t n, pixels, channels;
    int64_t groups;      /* divides channels */
    const float *weight; /* [channels] or NULL */
    const float *bias;   /* [channels] or NULL */
    float eps;           /* 1e-5 in the UNet's residual blocks, 1e-6 elsewhere */
    bool silu;           /* y = silu(norm(x)) */
} limn_group_norm_args;

/* Bytes of ex->scratch for limn_group_norm_run and limn_group_norm_stats, for any number of
 * threads; SIZE_MAX when the shape is impossible. */
size_t limn_group_norm_scratch_bytes(const limn_group_norm_args *a);

/* mean and rstd [n, groups] of x; y is unused. For tiles that must share statistics and for
 * convolutions that normalise while they gather: there y = (x - mean) * (rstd * weight) + bias. */
void limn_group_norm_stats(const struct limn_exec *ex, const limn_group_norm_args *a, float *mean,
                           float *rstd);
/* Second half with given statistics [n, groups]; takes the scratch of limn_group_norm_run. */
void limn_group_norm_apply(const struct limn_exec *ex, const limn_group_norm_args *a,
                           const float *mean, const float *rstd);
/* mean and variance [groups] of the window of rows [y0, y1), columns [x0, x1) of one picture (n =
 * 1) that is `width` pixels wide; a->pixels: those of the window. a->y and a->eps are unused. */
typedef struct limn_norm_window {
    int64_t width, y0, x0, y1, x1;
} limn_norm_window;
void limn_group_norm_window(const struct limn_exec *ex, const limn_group_norm_args *a,
                            const limn_norm_window *w, float *mean, float *var);
/* Both. The statistics pass reads x once from memory, the second pass reads and writes it. */
void limn_group_norm_run(const struct limn_exec *ex, const limn_group_norm_args *a);

/* ---- softmax ---- */

typedef struct limn_softmax_args {
    limn_rows y;       /* [rows, cols], f32 only */
    limn_rows_in x;    /* [rows, cols], f32 only; repeat, single unused */
    limn_rows_in mask; /* data NULL or f32 [rows / repeat, cols], added; -inf masks */
    int64_t rows, cols;
    float scale; /* factor of x before the mask is added */
} limn_softmax_args;

/* y = softmax(x * scale + mask); a row whose every entry is -inf becomes 0. */
void limn_softmax_run(const struct limn_exec *ex, const limn_softmax_args *a);

/* Fillers of the dispatch table; called by kernels.c and x86_init.c only. */
void limn_norm_fill_c(limn_norm_kernels *m);
void limn_norm_fill_avx2(limn_norm_kernels *m);
void limn_norm_fill_avx512(limn_norm_kernels *m);
void limn_norm_fill_avx512bf16(limn_norm_kernels *m);

#endif
