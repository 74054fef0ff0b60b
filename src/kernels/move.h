/* SPDX-License-Identifier: MIT */
/*
 * Data movement: copies, layout changes, upsampling, gathers; and the sinusoid of a timestep.
 *
 * Elements are opaque bytes of `size` 1, 2, 4 or 8 unless a dtype is given; strides count elements.
 * Sources and destinations must not overlap. The same bits for any number of threads, since every
 * element is written once.
 */
#ifndef LIMN_KERNELS_MOVE_H
#define LIMN_KERNELS_MOVE_H

#include "base/status.h"
#include "kernels/elementwise.h"

typedef struct limn_copy_args {
    void *y;       /* [planes, rows, cols] */
    const void *x; /* [planes, rows, cols] */
    size_t size;   /* bytes per element */
    int64_t planes, rows, cols;
    int64_t y_plane, x_plane; /* strides between planes */
    int64_t y_row, x_row;     /* strides between rows; x_row 0 repeats one row */
} limn_copy_args;

/* Strided copy. Channel concatenation is one call per source, with y at its first channel and
 * y_row the full width; splitting is the reverse. */
void limn_copy_run(const struct limn_exec *ex, const limn_copy_args *a);

typedef struct limn_transpose_args {
    void *y;       /* [n, cols, rows] dense */
    const void *x; /* [n, rows, cols] dense */
    size_t size;
    int64_t n, rows, cols;
} limn_transpose_args;

/* NCHW -> NHWC with rows = C, cols = H * W; NHWC -> NCHW with rows = H * W, cols = C. */
void limn_transpose_run(const struct limn_exec *ex, const limn_transpose_args *a);

typedef struct limn_upsample_args {
    void *y;       /* [n, out_h, out_w, channels] dense */
    const void *x; /* [n, in_h, in_w, channels] dense */
    size_t size;
    int64_t n, in_h, in_w, out_h, out_w, channels;
} limn_upsample_args;

/* Nearest: source index floor(i * in / out), torch's "nearest"; 2x when out = 2 in, and the odd
 * sizes that a UNet's skip connections ask for. */
void limn_upsample_run(const struct limn_exec *ex, const limn_upsample_args *a);

typedef struct limn_gather_args {
    limn_rows y;       /* [rows, cols] f32, f16 or bf16 */
    const void *table; /* [table_rows, cols] dense, any dtype */
    limn_dtype type;
    int64_t table_rows;
    const int32_t *ids; /* [rows] */
    int64_t rows, cols; /* cols: whole blocks of the type */
} limn_gather_args;

/* Row ids[r] of the table, dequantised. E_VALUE names the first id outside 0..table_rows - 1;
 * nothing is written then. */
limn_status limn_gather_run(const struct limn_exec *ex, const limn_gather_args *a, limn_err *err);

typedef struct limn_timestep_args {
    float *y;        /* [n, dim] dense */
    const double *t; /* [n] */
    int64_t n, dim;
    double max_period;    /* 10000 */
    double shift;         /* downscale_freq_shift: 0 in Stable Diffusion's UNets, else 1 */
    bool flip_sin_to_cos; /* true: cosines in the first half */
} limn_timestep_args;

/* diffusers models/embeddings.py get_timestep_embedding: with half = dim / 2,
 * w_i = max_period^(-i / (half - shift)), y = [sin(t w), cos(t w)] or flipped; an odd dim ends in
 * 0. Angles in f64. */
void limn_timestep_run(const limn_timestep_args *a);

#endif
