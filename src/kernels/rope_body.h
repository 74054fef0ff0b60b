/* SPDX-License-Identifier: MIT */
/*
 * The bodies of the rope micro-kernels, written once: rope.c compiles them plainly, the files of an
 * instruction set compile them for its vectors. No contraction to fused operations is allowed in
 * any build, so the results are the same bits everywhere.
 */
#include "kernels/rope.h"

static void rope_half(float *y, const float *x, const float *cos, const float *sin, int64_t pairs) {
    for (int64_t i = 0; i < pairs; i++) {
        float u = x[i], v = x[i + pairs];
        y[i] = u * cos[i] - v * sin[i];
        y[i + pairs] = v * cos[i] + u * sin[i];
    }
}

static void rope_pair(float *y, const float *x, const float *cos, const float *sin, int64_t pairs) {
    for (int64_t i = 0; i < pairs; i++) {
        float u = x[2 * i], v = x[2 * i + 1];
        y[2 * i] = u * cos[i] - v * sin[i];
        y[2 * i + 1] = v * cos[i] + u * sin[i];
    }
}

static inline void rope_fill(limn_rope_kernels *r) {
    r->rotate[LIMN_ROPE_HALF] = rope_half;
    r->rotate[LIMN_ROPE_PAIR] = rope_pair;
}
