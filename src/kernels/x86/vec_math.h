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

/* 2^x for x <= 126, flushing results below 2^-126 to 0 (-infinity gives 0); NaN stays NaN. Exactly
 * 1 at 0. Relative error below 2e-7. */
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

#ifdef VF_PICKS_16
/* Phi(z) - 1/2 near the multiples of PHI_WIDTH, by powers of the distance; 1/2 at the last */
#define PHI_WIDTH 0.375f
static const float phi_segments[6][16] = {
    {0, 0.146169767f, 0.27337265f, 0.369705468f, 0.43319279f, 0.469603628f, 0.487775534f,
     0.495667547f, 0.498650104f, 0.499630928f, 0.499911577f, 0.499981463f, 0.499996603f,
     0.499999464f, 0.499999911f, 0.5f},
    {0.398942262f, 0.37185508f, 0.301137447f, 0.211876646f, 0.1295176f, 0.0687862784f,
     0.0317396484f, 0.0127241798f, 0.00443184795f, 0.00134111894f, 0.000352595933f, 8.05406235e-05f,
     1.598382e-05f, 2.75596949e-06f, 4.12854376e-07f, 0},
    {0, -0.0697210133f, -0.112924434f, -0.119179711f, -0.0971386433f, -0.064488098f, -0.0357077979f,
     -0.0167006962f, -0.00664769765f, -0.00226300396f, -0.000661024824f, -0.000166071404f,
     -3.59478472e-05f, -6.71312227e-06f, -1.08266352e-06f, 0},
    {-0.0664891005f, -0.0532595292f, -0.021958435f, 0.00937873404f, 0.0269820187f, 0.028840052f,
     0.0214907732f, 0.0124925626f, 0.00590925524f, 0.00232249987f, 0.000767586054f, 0.000214952976f,
     5.12669176e-05f, 1.04519331e-05f, 1.82639792e-06f, 0},
    {0, 0.0164753161f, 0.0227785464f, 0.017156532f, 0.00610539457f, -0.00269762543f,
     -0.00608495204f, -0.00539881038f, -0.00332962675f, -0.00159261329f, -0.000616451725f,
     -0.000197295682f, -5.2876414e-05f, -1.19641227e-05f, -2.29837269e-06f, 0},
    {0.00990083721f, 0.00669673271f, -0.000123111997f, -0.00522403186f, -0.00582969235f,
     -0.00328559824f, -0.000480259303f, 0.000952905859f, 0.0011020141f, 0.000720284996f,
     0.000344072527f, 0.000129315144f, 3.95175011e-05f, 9.99777967e-06f, 2.11759289e-06f, 0},
};

/* x Phi(x) without exp or division. Phi is within 3e-8: small results of negative x keep as many
 * digits as 1 + erf has there. Exactly x or 0 from |x| = 5.44 on. */
static inline vf vm_gelu(vf x) {
    vf z = vf_min(vf_set1(15 * PHI_WIDTH), vf_abs(x)); /* NaN stays */
    vf magic = vf_set1(12582912.0f);                   /* as in vm_exp2_neg */
    vf t = vf_fma(z, vf_set1(1 / PHI_WIDTH), magic);
    vf d = vf_fnma(vf_sub(t, magic), vf_set1(PHI_WIDTH), z);
    vf p = vf_pick(phi_segments[5], t);
    for (int i = 4; i >= 0; i--) p = vf_fma(p, d, vf_pick(phi_segments[i], t));
    return vf_mul(x, vf_add(vf_set1(0.5f), vf_xor(p, vf_sign_of(x))));
}
#else
/* x Phi(x); Phi by erfc of |x| / sqrt 2, so that the negative tail keeps its relative accuracy */
static inline vf vm_gelu(vf x) {
    vf half = vf_mul(x, vf_set1(0.5f)), s = vf_mul(x, half); /* s = z^2 = x^2 / 2 */
    vf lost = vf_fma(x, half, vf_sub(vf_zero(), s));         /* what rounding took from it */
    vf e = vm_exp(vf_sub(vf_zero(), s));
    e = vf_select(vf_lt(s, vf_set1(1e30f)), vf_fnma(e, lost, e), e);
    vf c = vm_erfc_tail(vf_mul(vf_abs(x), vf_set1(0.7071067812f)), e);
    return vf_mul(half, vf_select(vf_lt(x, vf_zero()), c, vf_sub(vf_set1(2.0f), c)));
}
#endif

/* x / (1 + e^(-a)). The exponential is vm_exp's with r = -rest and its terms two by two: what waits
 * for what is the limit here, so a shorter chain is worth half an ulp. */
static inline vf vm_gate(vf x, vf a) {
    vf one = vf_set1(1.0f);
    vf c = vf_min(vf_set1(89.0f), vf_max(vf_set1(-89.0f), a)); /* NaN stays */
    vf k = vf_round(vf_mul(c, vf_set1(-1.442695041f)));
    vf r = vf_fma(k, vf_set1(0.693147182f), c);
    r = vf_fma(k, vf_set1(-1.904654323e-9f), r);
    vf s = vf_mul(r, r);
    vf low = vf_fma(r, vf_set1(-0.1666652063f), vf_set1(0.4999999345f));
    vf high = vf_fma(r, vf_set1(-0.008368716879f), vf_set1(0.04166838803f));
    high = vf_fma(s, vf_set1(0.00138145994f), high);
    vf e = vf_fma(s, vf_fma(s, high, low), vf_sub(one, r));
    return vf_div(x, vf_add(one, vf_ldexp(e, k)));
}

static inline vf vm_silu(vf x) {
    return vm_gate(x, x);
}

/* v = silu(v), n <= 8 of them, for results of 8 bits (bf16): relative error below 4e-6. Step by
 * step for all vectors, as each step waits for the one before: one vector after the other took a
 * fifth longer. The quotient is an approximate reciprocal, improved once. */
static inline __attribute__((always_inline)) void vm_silu_short(vf *v, const int n) {
#ifdef VF_SHORT
#define EACH                                                                                       \
    LIMN_UNROLL                                                                                    \
    for (int k = 0; k < n; k++)
    vf z[8], p[8], f[8];
    EACH z[k] = vf_mul(v[k], vf_set1(-1.442695041f));
    EACH f[k] = vf_fraction(z[k]);
    EACH p[k] = vf_fma(f[k], vf_set1(0.01353416794f), vf_set1(0.05201146053f));
    EACH p[k] = vf_fma(f[k], p[k], vf_set1(0.241442757f));
    EACH p[k] = vf_fma(f[k], p[k], vf_set1(0.6930038344f));
    EACH p[k] = vf_fma(f[k], p[k], vf_set1(1.000002593f));
    EACH p[k] = vf_min(vf_ldexp_floor(p[k], z[k]), vf_set1(0x1p125f)); /* NaN stays in v */
    EACH p[k] = vf_add(p[k], vf_set1(1.0f));
    EACH f[k] = vf_rcp14(p[k]);
    EACH p[k] = vf_fnma(p[k], f[k], vf_set1(2.0f));
    EACH v[k] = vf_mul(vf_mul(v[k], f[k]), p[k]);
#undef EACH
#else
    for (int k = 0; k < n; k++) v[k] = vm_silu(v[k]);
#endif
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
