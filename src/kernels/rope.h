/* SPDX-License-Identifier: MIT */
/*
 * Rotary position embedding from tables that the host makes (f64 angles, f32 cos and sin), so that
 * scaling schemes, sections (M-RoPE), axes and negative positions are the host's business.
 *
 * Two layouts of the rotated pairs exist:
 *   HALF  (x[i], x[i + rot/2])   language models ("rotate_half" in transformers)
 *   PAIR  (x[2i], x[2i + 1])     Flux, Z-Image, Qwen-Image, Wan (complex numbers)
 * each pair (u, v) becomes (u cos - v sin, v cos + u sin). Elements from rot on are copied. Every
 * instruction set gives the same bits as the C body.
 */
#ifndef LIMN_KERNELS_ROPE_H
#define LIMN_KERNELS_ROPE_H

#include "kernels/elementwise.h"

typedef enum limn_rope_layout {
    LIMN_ROPE_HALF,
    LIMN_ROPE_PAIR,
    LIMN_ROPE_LAYOUT_COUNT
} limn_rope_layout;

/* Micro-kernels: y [2 * pairs] from x [2 * pairs], cos and sin [pairs]; y may be x. */
typedef struct limn_rope_kernels {
    void (*rotate[LIMN_ROPE_LAYOUT_COUNT])(float *y, const float *x, const float *cos,
                                           const float *sin, int64_t pairs);
} limn_rope_kernels;

typedef struct limn_rope_args {
    limn_rows y;    /* [rows, heads, dim]; stride between rows, heads lie dim apart */
    limn_rows_in x; /* [rows, heads, dim]; repeat and single unused; may be y's memory */
    int64_t rows, heads;
    int64_t dim;      /* at most 1024 */
    int64_t rot;      /* rotated elements of each head, even, <= dim */
    const float *cos; /* [table rows, rot / 2], table_stride apart */
    const float *sin;
    int64_t table_stride; /* elements; 0: one row for all */
    int64_t table_rows;   /* rows of x are taken modulo this (a batch shares its table); 0: no */
    limn_rope_layout layout;
} limn_rope_args;

void limn_rope_run(const struct limn_exec *ex, const limn_rope_args *a);

/* Fillers of the dispatch table; called by kernels.c and x86_init.c only. */
void limn_rope_fill_c(limn_rope_kernels *r);
void limn_rope_fill_avx2(limn_rope_kernels *r);
void limn_rope_fill_avx512(limn_rope_kernels *r);

#endif
