/* SPDX-License-Identifier: MIT */
/*
 * exp, erf, tanh and the activations on vectors. Included after vec_avx2.h or vec_avx512.h.
 *
 * The polynomials are near-minimax fits of our own, made by tools/fit_vec_math.py, which also
 * prints their errors. Errors of the whole functions are held by tests/test_elementwise.c.
 */
#ifndef LIMN_KERNELS_X86_VEC_MATH_H
#define LIMN_KERNELS_X86_VEC_MATH_H

/* e^x for all x: subnormal results, 0, infinity and NaN as expf. x = k ln 2 + r. */
static inline vf vm_exp(vf x) {
    x = vf_min(vf_set1(89.0f), vf_max(vf_set1(-104.5f), x)); /* NaN stays */
    vf k = vf_round(vf_mul(x, vf_set1(1.442695041f)));
    vf r = vf_fnma(k, vf_set1(0.693147182f), x); /* ln 2 in two parts */
    r = vf_fnma(k, vf_set1(-1.904654323e-9f), r);
    vf p = vf_fma(r, vf_set1(0.00138145994f), vf_set1(0.008368716879f));
    p = vf_fma(r, p, vf_set1(0.04166838803f));
    p = vf_fma(r, p, vf_set1(0.1666652063f));
    p = vf_fma(r, p, vf_set1(0.4999999345f));
    p = vf_add(vf_fma(vf_mul(r, r), p, r), vf_set1(1.0f));
    return vf_ldexp(p, k);
}

/* 2^x for x <= 0, flushing results below 2^-126 to 0 (-infinity gives 0); NaN stays NaN. Exactly 1
 * at 0. Relative error below 2e-7. */
static inline vf vm_exp2_neg(vf x) {
    vf magic = vf_set1(12582912.0f); /* 1.5 * 2^23: adding it rounds to an integer */
    vf c = vf_max(vf_set1(-126.0f), x);
    vf t = vf_add(c, magic);
    vf f = vf_sub(c, vf_sub(t, magic));
    vf p = vf_fma(f, vf_set1(0.001339890018f), vf_set1(0.009618437609f));
    p = vf_fma(f, p, vf_set1(0.0555033241f));
    p = vf_fma(f, p, vf_set1(0.2402264791f));
    p = vf_fma(f, p, vf_set1(0.6931472029f));
    p = vf_fma(f, p, vf_set1(1.0f));
    p = vf_scale_magic(p, t);
    return vf_select(vf_lt(x, vf_set1(-126.0f)), vf_zero(), p);
}

/* erfc(z) for z >= 0 given z and e^(-z^2) */
static inline vf vm_erfc_tail(vf z, vf e) {
    vf t = vf_div(vf_set1(1.0f), vf_fma(z, vf_set1(0.4f), vf_set1(1.0f)));
    vf p = vf_fma(t, vf_set1(0.0428812105f), vf_set1(-0.1482606343f));
    p = vf_fma(t, p, vf_set1(0.1004427996f));
    p = vf_fma(t, p, vf_set1(0.06909693222f));
    p = vf_fma(t, p, vf_set1(0.09280995603f));
    p = vf_fma(t, p, vf_set1(0.1878300459f));
    p = vf_fma(t, p, vf_set1(0.2033095799f));
    p = vf_fma(t, p, vf_set1(0.2262443394f));
    p = vf_fma(t, p, vf_set1(0.2256458402f));
    return vf_mul(vf_mul(e, t), p);
}

static inline vf vm_erf(vf x) {
    vf z = vf_abs(x), s = vf_mul(x, x);
    vf q = vf_fma(s, vf_set1(7.858032239e-5f), vf_set1(-0.0008011560831f));
    q = vf_fma(s, q, vf_set1(0.005188500352f));
    q = vf_fma(s, q, vf_set1(-0.02685391684f));
    q = vf_fma(s, q, vf_set1(0.1128358826f));
    q = vf_fma(s, q, vf_set1(-0.3761262622f));
    q = vf_fma(s, q, vf_set1(1.128379166f));
    vf tail = vm_erfc_tail(z, vm_exp(vf_sub(vf_zero(), s)));
    vf far = vf_xor(vf_sub(vf_set1(1.0f), tail), vf_sign_of(x));
    return vf_select(vf_lt(z, vf_set1(1.0f)), vf_mul(x, q), far);
}

/* x Phi(x); Phi by erfc of |x| / sqrt 2, so that the negative tail keeps its relative accuracy */
static inline vf vm_gelu(vf x) {
    vf half = vf_mul(x, vf_set1(0.5f)), s = vf_mul(x, half); /* s = z^2 = x^2 / 2 */
    vf lost = vf_fma(x, half, vf_sub(vf_zero(), s));         /* what rounding took from it */
    vf e = vm_exp(vf_sub(vf_zero(), s));
    e = vf_select(vf_lt(s, vf_set1(1e30f)), vf_fnma(e, lost, e), e);
    vf c = vm_erfc_tail(vf_mul(vf_abs(x), vf_set1(0.7071067812f)), e);
    return vf_mul(half, vf_select(vf_lt(x, vf_zero()), c, vf_sub(vf_set1(2.0f), c)));
}

/* x / (1 + e^(-a)) */
static inline vf vm_gate(vf x, vf a) {
    return vf_div(x, vf_add(vf_set1(1.0f), vm_exp(vf_sub(vf_zero(), a))));
}

static inline vf vm_silu(vf x) {
    return vm_gate(x, x);
}

/* (1 + tanh u) / 2 = 1 / (1 + e^(-2u)), u = sqrt(2 / pi) (x + 0.044715 x^3) */
static inline vf vm_gelu_tanh(vf x) {
    vf u = vf_fma(vf_mul(x, x), vf_set1(0.044715f * 1.5957691216f), vf_set1(1.5957691216f));
    return vm_gate(x, vf_mul(x, u));
}

static inline vf vm_tanh(vf x) {
    vf z = vf_abs(x), s = vf_mul(x, x);
    vf q = vf_fma(s, vf_set1(-0.005717045215f), vf_set1(0.02065058748f));
    q = vf_fma(s, q, vf_set1(-0.05374349816f));
    q = vf_fma(s, q, vf_set1(0.1333149129f));
    q = vf_fma(s, q, vf_set1(-0.3333328393f));
    vf near = vf_fma(vf_mul(x, s), q, x);
    vf e = vm_exp(vf_add(z, z)); /* 1 - 2 / (e^2z + 1) */
    vf far = vf_sub(vf_set1(1.0f), vf_div(vf_set1(2.0f), vf_add(e, vf_set1(1.0f))));
    return vf_select(vf_lt(z, vf_set1(0.625f)), near, vf_xor(far, vf_sign_of(x)));
}

#endif
