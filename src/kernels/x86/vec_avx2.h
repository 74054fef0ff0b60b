/* SPDX-License-Identifier: MIT */
/*
 * A vector of f32 as the AVX2 files see it. vec_avx512.h offers the same names, so that the bodies
 * of elementwise, norm and attention (*_body.h in this folder) are written once for both.
 *
 * Tail loads give 0 in the lanes that are not read; tail stores touch n elements only.
 */
#ifndef LIMN_KERNELS_X86_VEC_AVX2_H
#define LIMN_KERNELS_X86_VEC_AVX2_H

#include <stdint.h>
#include <string.h>

#include "kernels/x86/intrin.h"

enum { VF = 8 };
typedef __m256 vf;
typedef __m256 vmask; /* all bits of a lane, or none */
typedef __m256i vi;

static inline vf vf_set1(float x) {
    return _mm256_set1_ps(x);
}
static inline vf vf_zero(void) {
    return _mm256_setzero_ps();
}
static inline vf vf_load(const float *p) {
    return _mm256_loadu_ps(p);
}
static inline void vf_store(float *p, vf v) {
    _mm256_storeu_ps(p, v);
}

static inline __m256i vf_tail_mask(int64_t n) {
    static const int32_t ones[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
    return _mm256_loadu_si256((const __m256i *)(const void *)(ones + 8 - n));
}
static inline vf vf_load_n(const float *p, int64_t n) {
    return _mm256_maskload_ps(p, vf_tail_mask(n));
}
static inline void vf_store_n(float *p, vf v, int64_t n) {
    _mm256_maskstore_ps(p, vf_tail_mask(n), v);
}

static inline vf vf_add(vf a, vf b) {
    return _mm256_add_ps(a, b);
}
static inline vf vf_sub(vf a, vf b) {
    return _mm256_sub_ps(a, b);
}
static inline vf vf_mul(vf a, vf b) {
    return _mm256_mul_ps(a, b);
}
static inline vf vf_div(vf a, vf b) {
    return _mm256_div_ps(a, b);
}
/* a * b + c */
static inline vf vf_fma(vf a, vf b, vf c) {
    return _mm256_fmadd_ps(a, b, c);
}
/* c - a * b */
static inline vf vf_fnma(vf a, vf b, vf c) {
    return _mm256_fnmadd_ps(a, b, c);
}
/* the second operand when either is NaN */
static inline vf vf_max(vf a, vf b) {
    return _mm256_max_ps(a, b);
}
static inline vf vf_min(vf a, vf b) {
    return _mm256_min_ps(a, b);
}
static inline vf vf_round(vf a) {
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static inline vf vf_abs(vf a) {
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a);
}
static inline vf vf_sign_of(vf a) {
    return _mm256_and_ps(_mm256_set1_ps(-0.0f), a);
}
static inline vf vf_xor(vf a, vf b) {
    return _mm256_xor_ps(a, b);
}
static inline vmask vf_lt(vf a, vf b) {
    return _mm256_cmp_ps(a, b, _CMP_LT_OQ);
}
static inline int vf_any(vmask m) {
    return _mm256_movemask_ps(m) != 0;
}
static inline vf vf_select(vmask m, vf yes, vf no) {
    return _mm256_blendv_ps(no, yes, m);
}
/* v where m, else 0 */
static inline vf vf_keep(vmask m, vf v) {
    return _mm256_and_ps(m, v);
}

/* p * 2^k for integral k in [-250, 250]; rounds once, also to a subnormal */
static inline vf vf_ldexp(vf p, vf k) {
    __m256i n = _mm256_cvtps_epi32(k), h = _mm256_srai_epi32(n, 1), g = _mm256_sub_epi32(n, h);
    __m256i bias = _mm256_set1_epi32(127);
    vf a = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(h, bias), 23));
    vf b = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(g, bias), 23));
    return vf_mul(vf_mul(p, a), b);
}
/* p * 2^k where `magic` holds k as the low bits of 1.5 * 2^23 + k and the result is normal */
static inline vf vf_scale_magic(vf p, vf magic) {
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p),
                                                _mm256_slli_epi32(_mm256_castps_si256(magic), 23)));
}
/* lane numbers 0, 1, ... */
static inline vf vf_iota(void) {
    return _mm256_setr_ps(0, 1, 2, 3, 4, 5, 6, 7);
}

static inline float vf_sum(vf a) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
static inline void vf_sum8(float out[8], const vf v[8]) {
    for (int i = 0; i < 8; i++) out[i] = vf_sum(v[i]);
}
static inline float vf_top(vf a) {
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

/* ---- 16-bit types: VF elements ---- */

static inline vf vf_load_bf16(const uint16_t *p) {
    __m256i w = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(w, 16));
}
/* The first or the second (odd) numbers of VF pairs. */
static inline vf vf_load_pairs(const uint16_t *p, size_t odd) {
    __m256i w = _mm256_loadu_si256((const __m256i *)(const void *)p);
    return _mm256_castsi256_ps(odd ? _mm256_and_si256(w, _mm256_set1_epi32((int)0xffff0000u))
                                   : _mm256_slli_epi32(w, 16));
}
static inline vf vf_load_f16(const uint16_t *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
}
/* signed bytes */
static inline vf vf_load_i8(const uint8_t *p) {
    __m128i b = _mm_loadl_epi64((const __m128i *)(const void *)p);
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(b));
}
static inline void vf_store_bf16(uint16_t *p, vf v) {
    __m256i u = _mm256_castps_si256(v), high = _mm256_srli_epi32(u, 16);
    __m256i odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
    __m256i r = _mm256_add_epi32(_mm256_add_epi32(u, _mm256_set1_epi32(0x7fff)), odd);
    __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
    __m256i quiet = _mm256_or_si256(high, _mm256_set1_epi32(0x40));
    r = _mm256_blendv_epi8(_mm256_srli_epi32(r, 16), quiet, nan);
    __m128i lo = _mm256_castsi256_si128(r), hi = _mm256_extracti128_si256(r, 1);
    _mm_storeu_si128((__m128i *)(void *)p, _mm_packus_epi32(lo, hi));
}
static inline void vf_store_f16(uint16_t *p, vf v) {
    __m128i h = _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    _mm_storeu_si128((__m128i *)(void *)p, h);
}

#endif
