/* SPDX-License-Identifier: MIT */
/*
 * Activation functions by name, and their plain definition. The enum is shared by the graph (op
 * attributes) and by every kernel with an epilogue; limn_act_apply is the specification that the
 * vector kernels are tested against. Pure, any thread.
 */
#ifndef LIMN_KERNELS_ACT_H
#define LIMN_KERNELS_ACT_H

#include <math.h>

/* As an op of their own and as the epilogue of matrix products and convolutions. */
typedef enum limn_act {
    LIMN_ACT_NONE,
    LIMN_ACT_SILU,
    LIMN_ACT_GELU,       /* exact, by erf */
    LIMN_ACT_GELU_TANH,  /* tanh approximation */
    LIMN_ACT_QUICK_GELU, /* x * sigmoid(1.702 x) */
    LIMN_ACT_RELU,
    LIMN_ACT_LEAKY_RELU, /* x < 0 ? x * slope : x */
    LIMN_ACT_TANH,
    LIMN_ACT_SIGMOID,
    LIMN_ACT_COUNT
} limn_act;

typedef enum limn_glu {
    LIMN_GLU_GEGLU,  /* halves [value | gate]: value * gelu_erf(gate), as diffusers' GEGLU */
    LIMN_GLU_SWIGLU, /* halves [gate | value]: silu(gate) * value */
} limn_glu;

static inline float limn_act_apply(limn_act act, float slope, float x) {
    switch (act) {
    case LIMN_ACT_SILU: return x / (1.0f + expf(-x));
    case LIMN_ACT_GELU: return 0.5f * x * (1.0f + erff(x * 0.70710678f));
    case LIMN_ACT_GELU_TANH:
        return 0.5f * x * (1.0f + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
    case LIMN_ACT_QUICK_GELU: return x / (1.0f + expf(-1.702f * x));
    case LIMN_ACT_RELU: return x > 0 ? x : 0;
    case LIMN_ACT_LEAKY_RELU: return x < 0 ? x * slope : x;
    case LIMN_ACT_TANH: return tanhf(x);
    case LIMN_ACT_SIGMOID: return 1.0f / (1.0f + expf(-x));
    default: return x;
    }
}

#endif
