/* SPDX-License-Identifier: MIT */
/*
 * The specification of the elementwise micro-kernels: one plain loop per formula of act.h and
 * elementwise.h, on libm.
 */
#include <math.h>

#include "kernels/elementwise.h"
#include "kernels/rowio.h"

#define ACT(name, id)                                                                              \
    static void name##_c(float *y, const float *x, float slope, int64_t n) {                       \
        for (int64_t i = 0; i < n; i++) y[i] = limn_act_apply(LIMN_ACT_##id, slope, x[i]);         \
    }

ACT(none, NONE)
ACT(silu, SILU)
ACT(gelu, GELU)
ACT(gelu_tanh, GELU_TANH)
ACT(quick_gelu, QUICK_GELU)
ACT(relu, RELU)
ACT(leaky_relu, LEAKY_RELU)
ACT(tanh, TANH)
ACT(sigmoid, SIGMOID)

static void exp_c(float *y, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = expf(x[i]);
}

static void erf_c(float *y, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = erff(x[i]);
}

static void affine_c(float *y, const float *x, float mul, float add, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = x[i] * mul + add;
}

#define BINARY(name, expr)                                                                         \
    static void name##_c(float *y, const float *as, const float *bs, float alpha, int64_t n) {     \
        (void)alpha;                                                                               \
        for (int64_t i = 0; i < n; i++) {                                                          \
            float a = as[i], b = bs[i];                                                            \
            y[i] = (expr);                                                                         \
        }                                                                                          \
    }

BINARY(add, a + b)
BINARY(sub, a - b)
BINARY(mul, a *b)
BINARY(div, a / b)
BINARY(add_scaled, a + alpha * b)

static void modulate_c(float *y, const float *x, const float *scale, const float *shift,
                       int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = x[i] * (1.0f + scale[i]) + shift[i];
}

static void gate_add_c(float *y, const float *x, const float *gate, const float *h, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = x[i] + gate[i] * h[i];
}

static void glu_c(const limn_glu_args *a) {
    for (int64_t r = 0; r < a->rows; r++)
        for (int64_t i = 0; i < a->cols; i++) {
            float v = limn_rowio_get(a->value.data, a->value.type, r * a->value.stride + i);
            float g = limn_rowio_get(a->gate.data, a->gate.type, r * a->gate.stride + i);
            limn_rowio_put(a->y.data, a->y.type, r * a->y.stride + i,
                           v * limn_act_apply(a->act, 0, g));
        }
}

static void bf16_to_f32_c(float *y, const uint16_t *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = limn_bf16_to_f32(x[i]);
}

static void f16_to_f32_c(float *y, const uint16_t *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = limn_f16_to_f32(x[i]);
}

static void q8_0_to_f32_c(float *y, const void *x, int64_t n) {
    limn_dtype_to_f32(y, x, LIMN_Q8_0, n);
}

static void f32_to_bf16_c(uint16_t *y, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = limn_f32_to_bf16(x[i]);
}

static void f32_to_f16_c(uint16_t *y, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = limn_f32_to_f16(x[i]);
}

void limn_elementwise_fill_c(limn_elementwise_kernels *e) {
    *e = (limn_elementwise_kernels){
        .act = {[LIMN_ACT_NONE] = none_c,
                [LIMN_ACT_SILU] = silu_c,
                [LIMN_ACT_GELU] = gelu_c,
                [LIMN_ACT_GELU_TANH] = gelu_tanh_c,
                [LIMN_ACT_QUICK_GELU] = quick_gelu_c,
                [LIMN_ACT_RELU] = relu_c,
                [LIMN_ACT_LEAKY_RELU] = leaky_relu_c,
                [LIMN_ACT_TANH] = tanh_c,
                [LIMN_ACT_SIGMOID] = sigmoid_c},
        .exp = exp_c,
        .erf = erf_c,
        .affine = affine_c,
        .binary = {[LIMN_BINARY_ADD] = add_c,
                   [LIMN_BINARY_SUB] = sub_c,
                   [LIMN_BINARY_MUL] = mul_c,
                   [LIMN_BINARY_DIV] = div_c,
                   [LIMN_BINARY_ADD_SCALED] = add_scaled_c},
        .modulate = modulate_c,
        .gate_add = gate_add_c,
        .glu = glu_c,
        .bf16_to_f32 = bf16_to_f32_c,
        .f16_to_f32 = f16_to_f32_c,
        .q8_0_to_f32 = q8_0_to_f32_c,
        .f32_to_bf16 = f32_to_bf16_c,
        .f32_to_f16 = f32_to_f16_c,
    };
}
