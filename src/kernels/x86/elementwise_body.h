/* SPDX-License-Identifier: MIT */
/*
 * Vector bodies of the elementwise micro-kernels, for any vec_*.h. An element's result does not
 * depend on its lane or on being in a tail, so any cut into pieces gives the same bits.
 */
#include "kernels/elementwise.h"
#include "kernels/x86/glu_body.h"
#include "kernels/x86/vec_math.h"

/* One loop and its tail; `expr` sees x (and slope as s). */
#define ACT(name, expr)                                                                            \
    static void name##_v(float *y, const float *xs, float slope, int64_t n) {                      \
        vf s = vf_set1(slope), x;                                                                  \
        (void)s;                                                                                   \
        int64_t i = 0;                                                                             \
        for (; i + VF <= n; i += VF) {                                                             \
            x = vf_load(xs + i);                                                                   \
            vf_store(y + i, expr);                                                                 \
        }                                                                                          \
        if (i < n) {                                                                               \
            x = vf_load_n(xs + i, n - i);                                                          \
            vf_store_n(y + i, expr, n - i);                                                        \
        }                                                                                          \
    }

ACT(none, x)
ACT(silu, vm_silu(x))
ACT(gelu, vm_gelu(x))
ACT(gelu_tanh, vm_gelu_tanh(x))
ACT(quick_gelu, vm_gate(x, vf_mul(x, vf_set1(1.702f))))
ACT(relu, vf_max(x, vf_zero()))
ACT(leaky_relu, vf_select(vf_lt(x, vf_zero()), vf_mul(x, s), x))
ACT(tanh, vm_tanh(x))
ACT(sigmoid, vm_gate(vf_set1(1.0f), x))
ACT(exp, vm_exp(x))
ACT(erf, vm_erf(x))

static void exp1_v(float *y, const float *x, int64_t n) {
    exp_v(y, x, 0, n);
}

static void erf1_v(float *y, const float *x, int64_t n) {
    erf_v(y, x, 0, n);
}

static void affine_v(float *y, const float *x, float mul, float add, int64_t n) {
    vf m = vf_set1(mul), a = vf_set1(add);
    int64_t i = 0;
    for (; i + VF <= n; i += VF) vf_store(y + i, vf_fma(vf_load(x + i), m, a));
    if (i < n) vf_store_n(y + i, vf_fma(vf_load_n(x + i, n - i), m, a), n - i);
}

#define BINARY(name, expr)                                                                         \
    static void name##_v(float *y, const float *as, const float *bs, float alpha, int64_t n) {     \
        vf t = vf_set1(alpha), a, b;                                                               \
        (void)t;                                                                                   \
        int64_t i = 0;                                                                             \
        for (; i + VF <= n; i += VF) {                                                             \
            a = vf_load(as + i), b = vf_load(bs + i);                                              \
            vf_store(y + i, expr);                                                                 \
        }                                                                                          \
        if (i < n) {                                                                               \
            a = vf_load_n(as + i, n - i), b = vf_load_n(bs + i, n - i);                            \
            vf_store_n(y + i, expr, n - i);                                                        \
        }                                                                                          \
    }

BINARY(add, vf_add(a, b))
BINARY(sub, vf_sub(a, b))
BINARY(mul, vf_mul(a, b))
BINARY(div, vf_div(a, b))
BINARY(add_scaled, vf_fma(t, b, a))

#define TERNARY(name, expr)                                                                        \
    static void name##_v(float *y, const float *as, const float *bs, const float *cs, int64_t n) { \
        vf a, b, c;                                                                                \
        int64_t i = 0;                                                                             \
        for (; i + VF <= n; i += VF) {                                                             \
            a = vf_load(as + i), b = vf_load(bs + i), c = vf_load(cs + i);                         \
            vf_store(y + i, expr);                                                                 \
        }                                                                                          \
        if (i < n) {                                                                               \
            int64_t m = n - i;                                                                     \
            a = vf_load_n(as + i, m), b = vf_load_n(bs + i, m), c = vf_load_n(cs + i, m);          \
            vf_store_n(y + i, expr, m);                                                            \
        }                                                                                          \
    }

TERNARY(modulate, vf_fma(a, vf_add(vf_set1(1.0f), b), c))
TERNARY(gate_add, vf_fma(b, c, a))

/* Tails of 16-bit rows go through a full vector on the stack. */
#define WIDEN(name, load)                                                                          \
    static void name##_v(float *y, const uint16_t *x, int64_t n) {                                 \
        int64_t i = 0;                                                                             \
        for (; i + VF <= n; i += VF) vf_store(y + i, load(x + i));                                 \
        if (i < n) {                                                                               \
            uint16_t t[VF] = {0};                                                                  \
            memcpy(t, x + i, (size_t)(n - i) * 2);                                                 \
            vf_store_n(y + i, load(t), n - i);                                                     \
        }                                                                                          \
    }

#define NARROW(name, store)                                                                        \
    static void name##_v(uint16_t *y, const float *x, int64_t n) {                                 \
        int64_t i = 0;                                                                             \
        for (; i + VF <= n; i += VF) store(y + i, vf_load(x + i));                                 \
        if (i < n) {                                                                               \
            uint16_t t[VF];                                                                        \
            store(t, vf_load_n(x + i, n - i));                                                     \
            memcpy(y + i, t, (size_t)(n - i) * 2);                                                 \
        }                                                                                          \
    }

WIDEN(bf16_to_f32, vf_load_bf16)
WIDEN(f16_to_f32, vf_load_f16)
NARROW(f32_to_bf16, vf_store_bf16)
NARROW(f32_to_f16, vf_store_f16)

/* Blocks of an f16 scale and 32 signed bytes. */
static void q8_0_to_f32_v(float *y, const void *x, int64_t n) {
    const uint8_t *b = x;
    for (int64_t i = 0; i < n; i += 32, b += 34) {
        uint16_t h;
        memcpy(&h, b, 2);
        vf d = vf_set1(_cvtsh_ss(h));
        for (int j = 0; j < 32; j += VF) vf_store(y + i + j, vf_mul(d, vf_load_i8(b + 2 + j)));
    }
}

static void elementwise_fill(limn_elementwise_kernels *e) {
    *e = (limn_elementwise_kernels){
        .act = {[LIMN_ACT_NONE] = none_v,
                [LIMN_ACT_SILU] = silu_v,
                [LIMN_ACT_GELU] = gelu_v,
                [LIMN_ACT_GELU_TANH] = gelu_tanh_v,
                [LIMN_ACT_QUICK_GELU] = quick_gelu_v,
                [LIMN_ACT_RELU] = relu_v,
                [LIMN_ACT_LEAKY_RELU] = leaky_relu_v,
                [LIMN_ACT_TANH] = tanh_v,
                [LIMN_ACT_SIGMOID] = sigmoid_v},
        .exp = exp1_v,
        .erf = erf1_v,
        .affine = affine_v,
        .binary = {[LIMN_BINARY_ADD] = add_v,
                   [LIMN_BINARY_SUB] = sub_v,
                   [LIMN_BINARY_MUL] = mul_v,
                   [LIMN_BINARY_DIV] = div_v,
                   [LIMN_BINARY_ADD_SCALED] = add_scaled_v},
        .modulate = modulate_v,
        .gate_add = gate_add_v,
        .glu = glu_v,
        .bf16_to_f32 = bf16_to_f32_v,
        .f16_to_f32 = f16_to_f32_v,
        .q8_0_to_f32 = q8_0_to_f32_v,
        .f32_to_bf16 = f32_to_bf16_v,
        .f32_to_f16 = f32_to_f16_v,
    };
}
