/* SPDX-License-Identifier: MIT */
/*
 * y[m, n] = act(x[m, k] . W[n, k]^T + bias[n] + add[m / add_rows, n]) * scale + residual[m, n]
 *
 * with W packed once (pack.h). The same bits for any number of threads. Which thread calls does not
 * matter; one call at a time per limn_exec.
 */
#ifndef LIMN_KERNELS_MATMUL_H
#define LIMN_KERNELS_MATMUL_H

#include "kernels/exec.h"
#include "kernels/pack.h"

/* Which half of the n sums of a row is the gate: y [m, n / 2] = value * act(gate), after the bias,
 * value and gate rounded to the type of y first. */
typedef enum limn_gate { LIMN_GATE_NONE, LIMN_GATE_FIRST, LIMN_GATE_SECOND } limn_gate;

/* What happens to a sum on its way out; all-zero except `scale` = 1 means nothing. */
typedef struct limn_epilogue {
    const float *bias; /* [n] or NULL */
    const float *add;  /* [ceil(m / add_rows), n] or NULL: one row for every add_rows output rows */
    int64_t add_rows;
    limn_act act;
    limn_gate gate; /* act is GELU or SILU, scale 1; neither add nor residual; products only, with
                     * halves of whole panels, of weights that are packed expanded */
    float slope;    /* LIMN_ACT_LEAKY_RELU */
    float scale;    /* after act, before residual */
    const void *residual;      /* [m, n] or NULL; may be y itself */
    limn_dtype residual_dtype; /* F32 or BF16 */
    int64_t residual_stride;   /* elements between rows */
} limn_epilogue;

typedef struct limn_matmul_args {
    void *y; /* [m, n] F32 or BF16; [m, n / 2] with a gate */
    limn_dtype y_dtype;
    int64_t y_stride; /* elements between rows */
    const void *x;    /* [m, k] F32 or BF16; must not overlap y */
    limn_dtype x_dtype;
    int64_t x_stride;
    int64_t m;
    const limn_packed *w; /* packed by the same dispatch table */
    limn_epilogue epi;
} limn_matmul_args;

/* Scratch for limn_matmul with these arguments (pointers are not read) on `threads` threads. */
size_t limn_matmul_scratch_bytes(const limn_kernels *k, const limn_matmul_args *a, int threads);
/* E_UNSUPPORTED (dtype), E_SHAPE (strides), E_CANCELLED. */
limn_status limn_matmul(const limn_exec *ex, const limn_matmul_args *a, limn_err *err);

/* Products of n <= LIMN_MATMUL_TOGETHER weights that may run in any order: side by side where rows
 * of one x meet quantised panels, so that threads wait for each other once. The bits of one after
 * the other. */
enum { LIMN_MATMUL_TOGETHER = 4 };
size_t limn_matmul_together_scratch_bytes(const limn_kernels *k, const limn_matmul_args *a, int n,
                                          int threads);
limn_status limn_matmul_together(const limn_exec *ex, const limn_matmul_args *a, int n,
                                 limn_err *err);

/* The specification: plain loops over unpacked weights `w` [n, k], sums in double. */
void limn_matmul_ref(const limn_matmul_args *a, const float *w, int64_t n, int64_t k);

#endif
