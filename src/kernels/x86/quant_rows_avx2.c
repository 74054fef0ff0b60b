/* SPDX-License-Identifier: MIT */
/*
 * Rows of activations to 8 bits with AVX2, eight groups of 32 at a time: what a group has one of
 * (its largest value, its scale, its sums) then fills a register, one group to a lane.
 */
#include "kernels/gemm_body.h"
#include "kernels/quant_panel.h"
#include "kernels/x86/intrin.h"

enum { TOGETHER = 8 };

/* Largest absolute values of a group, eight of them. */
LIMN_INLINE __m256 peaks_of(const float *x) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    __m256 peak = _mm256_setzero_ps();
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        peak = _mm256_max_ps(peak, _mm256_andnot_ps(sign, _mm256_loadu_ps(x + 8 * i)));
    return peak;
}

/* Four vectors to the largest of each: lanes 0..3, of the lower and of the upper half. */
LIMN_INLINE __m256 tops_4(const __m256 *p) {
    __m256 a = _mm256_max_ps(_mm256_unpacklo_ps(p[0], p[1]), _mm256_unpackhi_ps(p[0], p[1]));
    __m256 b = _mm256_max_ps(_mm256_unpacklo_ps(p[2], p[3]), _mm256_unpackhi_ps(p[2], p[3]));
    __m256d c = _mm256_castps_pd(a), d = _mm256_castps_pd(b);
    return _mm256_max_ps(_mm256_castpd_ps(_mm256_unpacklo_pd(c, d)),
                         _mm256_castpd_ps(_mm256_unpackhi_pd(c, d)));
}

LIMN_INLINE __m256 tops_8(const __m256 p[TOGETHER]) {
    __m256 a = tops_4(p), b = tops_4(p + 4);
    return _mm256_max_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
}

/* limn_quant_power of each. */
LIMN_INLINE __m256 powers_8(__m256 d) {
    const __m256 least = _mm256_set1_ps(0x1p-100f), most = _mm256_set1_ps(0x1p100f);
    const __m256 beyond = _mm256_cmp_ps(d, most, _CMP_NLE_UQ);
    __m256i bits = _mm256_add_epi32(_mm256_castps_si256(d), _mm256_set1_epi32(0x7fffff));
    d = _mm256_castsi256_ps(_mm256_and_si256(bits, _mm256_set1_epi32(0x7f800000)));
    d = _mm256_andnot_ps(_mm256_cmp_ps(d, least, _CMP_LT_OQ), d);
    return _mm256_blendv_ps(d, _mm256_set1_ps(INFINITY), beyond);
}

/* Codes of a group in order, as 16 bits in `half` too. */
LIMN_INLINE __m256i codes_of(__m256i half[2], const float *x, float inverse) {
    const __m256 f = _mm256_set1_ps(inverse);
    __m256i c[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        c[i] = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 8 * i), f));
    half[0] = _mm256_permute4x64_epi64(_mm256_packs_epi32(c[0], c[1]), 0xd8);
    half[1] = _mm256_permute4x64_epi64(_mm256_packs_epi32(c[2], c[3]), 0xd8);
    return _mm256_permute4x64_epi64(_mm256_packs_epi16(half[0], half[1]), 0xd8);
}

/* limn_q8_rows.w of a group. */
LIMN_INLINE void put_wide(int16_t *w, const __m256i half[2]) {
    const __m256i order = _mm256_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15, 0,
                                           1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15);
    for (int i = 0; i < 2; i++)
        _mm256_storeu_si256((__m256i *)(w + 16 * i), _mm256_shuffle_epi8(half[i], order));
}

/* Sums of four neighbouring codes. */
LIMN_INLINE __m256i fours_of(__m256i codes) {
    return _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_set1_epi8(1), codes),
                             _mm256_set1_epi16(1));
}

LIMN_INLINE __m256i halves_4(const __m256i *v) {
    return _mm256_hadd_epi32(_mm256_hadd_epi32(v[0], v[1]), _mm256_hadd_epi32(v[2], v[3]));
}

/* Sums of the first and of the second half of eight groups, from fours_of each. */
LIMN_INLINE void sums_8(__m256i sum[2], const __m256i v[TOGETHER]) {
    __m256i a = halves_4(v), b = halves_4(v + 4);
    sum[0] = _mm256_permute2x128_si256(a, b, 0x20);
    sum[1] = _mm256_permute2x128_si256(a, b, 0x31);
}

/* Where the next groups go. */
typedef struct place {
    int8_t *q;
    int16_t *w, *h;
    float *d, *s;
    const float *x;
} place;

LIMN_INLINE void put_groups(const place *p, const int count, const bool powers, const bool biased) {
    const __m256i flip = _mm256_set1_epi8(biased ? -128 : 0);
    __m256 peak[TOGETHER], top, d, inverse;
    __m256i fours[TOGETHER], sum[2];
    float each[TOGETHER];
#pragma GCC unroll 8
    for (int g = 0; g < TOGETHER; g++)
        peak[g] = g < count ? peaks_of(p->x + 32 * g) : _mm256_setzero_ps();
    top = tops_8(peak);
    d = _mm256_div_ps(top, _mm256_set1_ps(127));
    if (powers) d = powers_8(d);
    inverse =
        powers ? _mm256_div_ps(_mm256_set1_ps(1), d) : _mm256_div_ps(_mm256_set1_ps(127), top);
    inverse = _mm256_and_ps(inverse, _mm256_cmp_ps(d, _mm256_setzero_ps(), _CMP_NLE_UQ));
    _mm256_storeu_ps(each, inverse);
#pragma GCC unroll 8
    for (int g = 0; g < TOGETHER; g++) {
        __m256i half[2];
        fours[g] = _mm256_setzero_si256();
        if (g >= count) continue;
        __m256i codes = codes_of(half, p->x + 32 * g, each[g]);
        fours[g] = fours_of(codes);
        if (p->w) put_wide(p->w + 32 * g, half);
        _mm256_storeu_si256((__m256i *)(p->q + 32 * g), _mm256_xor_si256(codes, flip));
    }
    sums_8(sum, fours);
    __m256 s = _mm256_mul_ps(d, _mm256_cvtepi32_ps(_mm256_add_epi32(sum[0], sum[1])));
    __m256i h = _mm256_blend_epi16(sum[0], _mm256_slli_epi32(sum[1], 16), 0xaa);
    if (biased && powers) d = _mm256_mul_ps(d, _mm256_set1_ps(LIMN_Q8_SHIFT));
    if (count == TOGETHER) {
        _mm256_storeu_ps(p->d, d);
        _mm256_storeu_ps(p->s, s);
        _mm256_storeu_si256((__m256i *)p->h, h);
        return;
    }
    memcpy(p->d, &d, (size_t)count * sizeof *p->d);
    memcpy(p->s, &s, (size_t)count * sizeof *p->s);
    memcpy(p->h, &h, (size_t)count * 2 * sizeof *p->h);
}

LIMN_INLINE void quantise(int8_t *q, int16_t *w, float *d, float *s, int16_t *h, const float *x,
                          size_t n, const bool powers, const bool biased) {
    for (size_t g = 0; g < n / 32; g += TOGETHER) {
        place p = {q + 32 * g, w ? w + 32 * g : NULL, h + 2 * g, d + g, s + g, x + 32 * g};
        size_t left = n / 32 - g;
        if (left >= TOGETHER)
            put_groups(&p, TOGETHER, powers, biased);
        else
            put_groups(&p, (int)left, powers, biased);
    }
}

static void quantise_q8(int8_t *q, int16_t *w, float *d, float *s, int16_t *h, const float *x,
                        size_t n, unsigned how) {
    if (how == (LIMN_Q8_POWERS | LIMN_Q8_BIASED))
        quantise(q, w, d, s, h, x, n, true, true);
    else
        quantise(q, w, d, s, h, x, n, how & LIMN_Q8_POWERS, how & LIMN_Q8_BIASED);
}

void limn_gemm_fill_quant_rows_avx2(limn_gemm_kernels *k) {
    k->quantise_q8 = quantise_q8;
}
