/* SPDX-License-Identifier: MIT */
/*
 * Branch-free float functions that compilers turn into vector code when they stand in a loop. One
 * source for every instruction set, and the same bits on all of them (no fused operations).
 */
#ifndef LIMN_KERNELS_VMATH_H
#define LIMN_KERNELS_VMATH_H

#include <stdint.h>
#include <string.h>

#include "kernels/act.h"

/* e^x, relative error below 2e-7 on [-87, 88]; clamped outside; NaN stays NaN. Range reduction by
 * n ln 2 and the Taylor polynomial of degree 7 on |r| <= ln 2 / 2. */
static inline float limn_vexp(float x) {
    const float round_magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    float t = x * 1.44269504f + round_magic;
    float n = t - round_magic;
    float r = x - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    float p = 1.98412698e-4f;
    p = p * r + 1.38888889e-3f;
    p = p * r + 8.33333333e-3f;
    p = p * r + 4.16666667e-2f;
    p = p * r + 1.66666667e-1f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    uint32_t u;
    memcpy(&u, &t, 4);
    u = (u + 127) << 23; /* the low bits of t are n; the rest is shifted out */
    float s;
    memcpy(&s, &u, 4);
    return p * s;
}

static inline float limn_vsigmoid(float x) {
    return 1.0f / (1.0f + limn_vexp(-x));
}

static inline float limn_vtanh(float x) {
    return 1.0f - 2.0f / (1.0f + limn_vexp(2.0f * x));
}

/* erf, absolute error below 2e-7: Abramowitz and Stegun, formula 7.1.26. */
static inline float limn_verf(float x) {
    float z = __builtin_fabsf(x);
    float t = 1.0f / (1.0f + 0.3275911f * z);
    float p = 1.061405429f;
    p = p * t - 1.453152027f;
    p = p * t + 1.421413741f;
    p = p * t - 0.284496736f;
    p = p * t + 0.254829592f;
    float y = 1.0f - p * t * limn_vexp(-z * z);
    return __builtin_copysignf(y, x);
}

static inline float limn_vact(limn_act act, float slope, float x) {
    switch (act) {
    case LIMN_ACT_SILU: return x * limn_vsigmoid(x);
    case LIMN_ACT_GELU: return 0.5f * x * (1.0f + limn_verf(x * 0.70710678f));
    case LIMN_ACT_GELU_TANH: return x * limn_vsigmoid(1.59576912f * (x + 0.044715f * x * x * x));
    case LIMN_ACT_QUICK_GELU: return x * limn_vsigmoid(1.702f * x);
    case LIMN_ACT_RELU: return x > 0 ? x : 0;
    case LIMN_ACT_LEAKY_RELU: return x < 0 ? x * slope : x;
    case LIMN_ACT_TANH: return limn_vtanh(x);
    case LIMN_ACT_SIGMOID: return limn_vsigmoid(x);
    default: return x;
    }
}

#endif
