/* SPDX-License-Identifier: MIT */
/* A vector of f32 as the AVX-512 files see it; the same names as vec_avx2.h, read that first. */
#ifndef LIMN_KERNELS_X86_VEC_AVX512_H
#define LIMN_KERNELS_X86_VEC_AVX512_H

#include <stdint.h>
#include <string.h>

#include "kernels/x86/intrin.h"

enum { VF = 16 };
typedef __m512 vf;
typedef __mmask16 vmask;
typedef __m512i vi;

static inline vf vf_set1(float x) {
    return _mm512_set1_ps(x);
}
static inline vf vf_zero(void) {
    return _mm512_setzero_ps();
}
static inline vf vf_load(const float *p) {
    return _mm512_loadu_ps(p);
}
static inline void vf_store(float *p, vf v) {
    _mm512_storeu_ps(p, v);
}
static inline vf vf_load_n(const float *p, int64_t n) {
    return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}
static inline void vf_store_n(float *p, vf v, int64_t n) {
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), v);
}

static inline vf vf_add(vf a, vf b) {
    return _mm512_add_ps(a, b);
}
static inline vf vf_sub(vf a, vf b) {
    return _mm512_sub_ps(a, b);
}
static inline vf vf_mul(vf a, vf b) {
    return _mm512_mul_ps(a, b);
}
static inline vf vf_div(vf a, vf b) {
    return _mm512_div_ps(a, b);
}
static inline vf vf_fma(vf a, vf b, vf c) {
    return _mm512_fmadd_ps(a, b, c);
}
static inline vf vf_fnma(vf a, vf b, vf c) {
    return _mm512_fnmadd_ps(a, b, c);
}
/* The comparison spells out what the instruction does with NaN (the second operand), which an
 * emulation need not do. */
static inline vf vf_max(vf a, vf b) {
#ifdef LIMN_SIMDE
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_GT_OQ), b, a);
#else
    return _mm512_max_ps(a, b);
#endif
}
static inline vf vf_min(vf a, vf b) {
#ifdef LIMN_SIMDE
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), b, a);
#else
    return _mm512_min_ps(a, b);
#endif
}
static inline vf vf_round(vf a) {
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT);
}
static inline vf vf_abs(vf a) {
    return _mm512_castsi512_ps(
        _mm512_and_si512(_mm512_set1_epi32(0x7fffffff), _mm512_castps_si512(a)));
}
static inline vf vf_sign_of(vf a) {
    return _mm512_castsi512_ps(
        _mm512_and_si512(_mm512_set1_epi32(INT32_MIN), _mm512_castps_si512(a)));
}
static inline vf vf_xor(vf a, vf b) {
    return _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(a), _mm512_castps_si512(b)));
}
static inline vmask vf_lt(vf a, vf b) {
    return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ);
}
static inline int vf_any(vmask m) {
    return m != 0;
}
static inline vf vf_select(vmask m, vf yes, vf no) {
    return _mm512_mask_blend_ps(m, no, yes);
}
static inline vf vf_keep(vmask m, vf v) {
    return _mm512_maskz_mov_ps(m, v);
}

/* p * 2^k rounded once; the emulation overflows on the way, so it goes in two steps. */
static inline vf vf_ldexp(vf p, vf k) {
#ifdef LIMN_SIMDE
    __m512i n = _mm512_cvtps_epi32(k), h = _mm512_srai_epi32(n, 1), g = _mm512_sub_epi32(n, h);
    __m512i bias = _mm512_set1_epi32(127);
    vf a = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(h, bias), 23));
    vf b = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(g, bias), 23));
    return vf_mul(vf_mul(p, a), b);
#else
    return _mm512_scalef_ps(p, k);
#endif
}
#ifndef LIMN_SIMDE
#define VF_SHORT
/* z - floor(z); 0 for infinity */
static inline vf vf_fraction(vf z) {
    return _mm512_reduce_ps(z, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
}
/* p * 2^floor(z) */
static inline vf vf_ldexp_floor(vf p, vf z) {
    return _mm512_scalef_ps(p, z);
}
/* 1 / v within 2^-14 of it; 0 for infinity */
static inline vf vf_rcp14(vf v) {
    return _mm512_rcp14_ps(v);
}
#endif
static inline vf vf_scale_magic(vf p, vf magic) {
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(p),
                                                _mm512_slli_epi32(_mm512_castps_si512(magic), 23)));
}
/* table[k] where `magic` holds k as vf_scale_magic says, modulo 16. NaN picks any. */
#define VF_PICKS_16
static inline vf vf_pick(const float table[16], vf magic) {
#ifdef LIMN_SIMDE
    uint32_t k[16];
    float picked[16];
    memcpy(k, &magic, sizeof k);
    for (int i = 0; i < 16; i++) picked[i] = table[k[i] % 16];
    return vf_load(picked);
#else
    return _mm512_permutexvar_ps(_mm512_castps_si512(magic), vf_load(table));
#endif
}
static inline vf vf_iota(void) {
    return _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}

static inline __m256 vf_high_half(vf a) {
    return _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(a), 1));
}
static inline float vf_sum(vf a) {
    __m256 w = _mm256_add_ps(_mm512_castps512_ps256(a), vf_high_half(a));
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(w), _mm256_extractf128_ps(w, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
/* out[i] = vf_sum(v[i]), the same bits: eight sums side by side. */
static inline void vf_sum8(float out[8], const vf v[8]) {
#ifdef LIMN_SIMDE
    for (int i = 0; i < 8; i++) out[i] = vf_sum(v[i]);
#else
    __m512 two[4], four[2];
    for (int i = 0; i < 4; i++)
        two[i] = _mm512_add_ps(_mm512_shuffle_f32x4(v[2 * i], v[2 * i + 1], 0x44),
                               _mm512_shuffle_f32x4(v[2 * i], v[2 * i + 1], 0xee));
    for (int i = 0; i < 2; i++)
        four[i] = _mm512_add_ps(_mm512_shuffle_f32x4(two[2 * i], two[2 * i + 1], 0x88),
                                _mm512_shuffle_f32x4(two[2 * i], two[2 * i + 1], 0xdd));
    __m512d a = _mm512_castps_pd(four[0]), b = _mm512_castps_pd(four[1]);
    __m512 all = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)),
                               _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
    all = _mm512_add_ps(all, _mm512_permute_ps(all, 0xb1));
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 2, 6, 10, 14, 0, 0, 0, 0, 0, 0, 0, 0);
    _mm256_storeu_ps(out, _mm512_castps512_ps256(_mm512_permutexvar_ps(order, all)));
#endif
}
static inline float vf_top(vf a) {
    __m256 w = _mm256_max_ps(_mm512_castps512_ps256(a), vf_high_half(a));
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(w), _mm256_extractf128_ps(w, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

static inline vf vf_load_bf16(const uint16_t *p) {
    __m512i w = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(w, 16));
}
#ifndef LIMN_SIMDE /* parts of a vector of 16-bit numbers without a way through memory */
#define VF_PARTS_16
static inline __m256i vf_load_16_n(const uint16_t *p, int64_t n) {
    return _mm256_maskz_loadu_epi16((__mmask16)((1u << n) - 1), p);
}
static inline vf vf_load_bf16_n(const uint16_t *p, int64_t n) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(vf_load_16_n(p, n)), 16));
}
static inline vf vf_load_f16_n(const uint16_t *p, int64_t n) {
    return _mm512_cvtph_ps(vf_load_16_n(p, n));
}
#endif
/* The first or the second (odd) numbers of VF pairs. */
static inline vf vf_load_pairs(const uint16_t *p, size_t odd) {
    __m512i w = _mm512_loadu_si512((const void *)p);
    return _mm512_castsi512_ps(odd ? _mm512_and_si512(w, _mm512_set1_epi32((int)0xffff0000u))
                                   : _mm512_slli_epi32(w, 16));
}
static inline vf vf_load_f16(const uint16_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
static inline vf vf_load_i8(const uint8_t *p) {
    __m128i b = _mm_loadu_si128((const __m128i *)(const void *)p);
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(b));
}
/* Sixteen bf16 codes, rounded to nearest even, NaN kept. */
static inline __m512i vf_bf16_codes(vf v) {
    __m512i u = _mm512_castps_si512(v), high = _mm512_srli_epi32(u, 16);
    __m512i odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
    __m512i r = _mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), odd);
    __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
    __m512i quiet = _mm512_or_si512(high, _mm512_set1_epi32(0x40));
    return _mm512_mask_blend_epi32(nan, _mm512_srli_epi32(r, 16), quiet);
}
/* With the instruction, which takes denormal numbers as zeros; the loop around it is then about
 * twice as fast (files of the AVX-512 BF16 set). */
static inline void vf_store_bf16(uint16_t *p, vf v) {
#if defined(__AVX512BF16__) && !defined(LIMN_SIMDE)
    _mm256_storeu_si256((__m256i *)(void *)p, (__m256i)_mm512_cvtneps_pbh(v));
#else
    _mm256_storeu_si256((__m256i *)(void *)p, _mm512_cvtepi32_epi16(vf_bf16_codes(v)));
#endif
}
#if defined(__AVX512BF16__) && !defined(LIMN_SIMDE)
#define VF_STORES_2
static inline void vf_store2_bf16(uint16_t *p, vf v, vf w) {
    _mm512_storeu_si512((void *)p, (__m512i)_mm512_cvtne2ps_pbh(w, v));
}
#endif
static inline void vf_store_f16(uint16_t *p, vf v) {
    __m256 lo = _mm512_castps512_ps256(v), hi = vf_high_half(v);
    enum { NEAREST = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC };
    _mm_storeu_si128((__m128i *)(void *)p, _mm256_cvtps_ph(lo, NEAREST));
    _mm_storeu_si128((__m128i *)(void *)(p + 8), _mm256_cvtps_ph(hi, NEAREST));
}

#endif
