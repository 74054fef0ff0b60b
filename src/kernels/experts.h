/* SPDX-License-Identifier: MIT */
/*
 * A mixture of experts: which experts a row takes, and products with those only. Rows are sorted by
 * expert, so that each chosen expert is one product of all its rows; the weights of the others are
 * never read. The same bits for any number of threads.
 */
#ifndef LIMN_KERNELS_EXPERTS_H
#define LIMN_KERNELS_EXPERTS_H

#include "kernels/exec.h"
#include "kernels/pack.h"

typedef struct limn_route_args {
    float *y;            /* [rows][2 * top]: experts (-1: none), then their shares of 1 */
    const float *logits; /* [rows][experts] */
    int64_t rows, experts;
    int top;
    /* {first, used} of every `len` rows: those from `used` on choose nobody; NULL: all choose */
    const int32_t *span;
    int64_t span_stride, len;
} limn_route_args;

/* Ties go to the lower number; NaN is never chosen. */
void limn_route_run(const limn_exec *ex, const limn_route_args *a);

typedef struct limn_experts_args {
    float *y;                 /* [rows][top * n] */
    const float *x;           /* [rows], x_stride apart */
    int64_t x_stride, x_part; /* elements between rows, and between the parts of a row; 0: shared */
    const float *route;       /* [rows][2 * top], as limn_route_run gives it */
    int64_t rows;
    int top;
    limn_packed *const *w; /* [experts], of one shape */
    int64_t experts;
} limn_experts_args;

/* Scratch for limn_experts_run with these arguments (pointers but w are not read). */
size_t limn_experts_scratch_bytes(const limn_kernels *k, const limn_experts_args *a, int threads);
/* E_VALUE: a choice that is no expert; otherwise as limn_matmul. */
limn_status limn_experts_run(const limn_exec *ex, const limn_experts_args *a, limn_err *err);

typedef struct limn_mix_args {
    float *y;           /* [rows][n] */
    const float *x;     /* [rows][top * n] */
    const float *route; /* [rows][2 * top] */
    int64_t rows, n;
    int top;
} limn_mix_args;

void limn_mix_run(const limn_exec *ex, const limn_mix_args *a);

#endif
