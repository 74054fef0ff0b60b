/* SPDX-License-Identifier: MIT */
/*
 * Quantised rows to f32 with AVX2, for the block types that models are shipped in, and dot products
 * of such expanded rows. Each value is computed with the same operations in the same order as
 * tensor/quant_block.c does, so the bits are the same.
 */
#include "kernels/gemm_body.h"
#include "kernels/x86/intrin.h"

LIMN_INLINE float half_at(const uint8_t *p) {
    uint16_t h;
    memcpy(&h, p, 2);
    return _cvtsh_ss(h);
}

/* Eight signed bytes as f32. */
LIMN_INLINE __m256 widen_8(__m128i bytes) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
}

/* dst[0..31] = codes * scale - shift, codes in 0..127 */
LIMN_INLINE void put_32(float *dst, __m256i codes, __m256 scale, __m256 shift, const bool shifted) {
    __m128i half[2] = {_mm256_castsi256_si128(codes), _mm256_extracti128_si256(codes, 1)};
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        __m128i eight = i & 1 ? _mm_srli_si128(half[i / 2], 8) : half[i / 2];
        __m256 v = _mm256_mul_ps(scale, widen_8(eight));
        _mm256_storeu_ps(dst + 8 * i, shifted ? _mm256_sub_ps(v, shift) : v);
    }
}

static void expand_q8_0(float *dst, const void *src, size_t n) {
    const uint8_t *b = src;
    for (size_t i = 0; i < n; i += 32, b += 34) {
        __m256 d = _mm256_set1_ps(half_at(b));
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            __m128i q = _mm_loadl_epi64((const __m128i *)(b + 2 + 8 * j));
            _mm256_storeu_ps(dst + i + 8 * (size_t)j, _mm256_mul_ps(d, widen_8(q)));
        }
    }
}

static void expand_q4_0(float *dst, const void *src, size_t n) {
    const uint8_t *b = src;
    const __m128i low = _mm_set1_epi8(15);
    const __m256i eight = _mm256_set1_epi8(8);
    for (size_t i = 0; i < n; i += 32, b += 18) {
        __m128i q = _mm_loadu_si128((const __m128i *)(b + 2));
        __m128i lo = _mm_and_si128(q, low), hi = _mm_and_si128(_mm_srli_epi16(q, 4), low);
        __m256i codes = _mm256_sub_epi8(_mm256_set_m128i(hi, lo), eight);
        put_32(dst + i, codes, _mm256_set1_ps(half_at(b)), _mm256_setzero_ps(), false);
    }
}

/* Scale and minimum of group g of q4_K and q5_K: 6 bits each, packed in 12 bytes. */
LIMN_INLINE void group_scale(const uint8_t *s, int g, float *scale, float *min) {
    int sc = g < 4 ? s[g] & 63 : (s[g + 4] & 15) | (s[g - 4] >> 6) << 4;
    int m = g < 4 ? s[g + 4] & 63 : s[g + 4] >> 4 | (s[g] >> 6) << 4;
    *scale = (float)sc;
    *min = (float)m;
}

/* One block of q4_K, or with fifth bits q5_K. */
LIMN_INLINE void expand_k45(float *dst, const uint8_t *b, const bool fifth) {
    float d = half_at(b), dmin = half_at(b + 2);
    const uint8_t *nibbles = b + (fifth ? 48 : 16);
    const __m256i low = _mm256_set1_epi8(15);
    __m256i top = fifth ? _mm256_loadu_si256((const __m256i *)(b + 16)) : _mm256_setzero_si256();
    for (int g = 0; g < 8; g++) {
        float sc, m;
        group_scale(b + 4, g, &sc, &m);
        __m256i q = _mm256_loadu_si256((const __m256i *)(nibbles + g / 2 * 32));
        if (g & 1) q = _mm256_srli_epi16(q, 4);
        q = _mm256_and_si256(q, low);
        if (fifth) {
            __m256i bit = _mm256_set1_epi8((char)(1 << g));
            __m256i set = _mm256_cmpeq_epi8(_mm256_and_si256(top, bit), bit);
            q = _mm256_or_si256(q, _mm256_and_si256(set, _mm256_set1_epi8(16)));
        }
        put_32(dst + g * 32, q, _mm256_set1_ps(d * sc), _mm256_set1_ps(dmin * m), true);
    }
}

static void expand_q4_k(float *dst, const void *src, size_t n) {
    const uint8_t *b = src;
    for (size_t i = 0; i < n; i += 256, b += 144) expand_k45(dst + i, b, false);
}

static void expand_q5_k(float *dst, const void *src, size_t n) {
    const uint8_t *b = src;
    for (size_t i = 0; i < n; i += 256, b += 176) expand_k45(dst + i, b, true);
}

/* Per 128 elements: 64 bytes of low nibbles (rows 0, 1 low halves, rows 2, 3 high halves) and 32
 * bytes whose bit pairs are the rows' top bits; a scale for every 16 elements. */
static void expand_q6_k(float *dst, const void *src, size_t n) {
    const uint8_t *b = src;
    const __m256i low = _mm256_set1_epi8(15), two = _mm256_set1_epi8(3);
    for (size_t i = 0; i < n; i += 256, b += 210) {
        float d = half_at(b + 208);
        for (int half = 0; half < 2; half++) {
            __m256i top = _mm256_loadu_si256((const __m256i *)(b + 128 + half * 32));
            for (int row = 0; row < 4; row++) {
                const uint8_t *at = b + half * 64 + (row & 1) * 32;
                const int8_t *sc = (const int8_t *)(b + 192 + half * 8 + row * 2);
                __m256i q = _mm256_loadu_si256((const __m256i *)at);
                if (row >> 1) q = _mm256_srli_epi16(q, 4);
                __m256i pair = _mm256_and_si256(_mm256_srli_epi16(top, 2 * row), two);
                q = _mm256_or_si256(_mm256_and_si256(q, low), _mm256_slli_epi16(pair, 4));
                q = _mm256_sub_epi8(q, _mm256_set1_epi8(32));
                __m128i part[2] = {_mm256_castsi256_si128(q), _mm256_extracti128_si256(q, 1)};
                float *to = dst + i + half * 128 + row * 32;
                for (int h = 0; h < 2; h++) {
                    __m256 f = _mm256_set1_ps(d * (float)sc[h]);
                    __m128i hi = _mm_srli_si128(part[h], 8);
                    _mm256_storeu_ps(to + h * 16, _mm256_mul_ps(f, widen_8(part[h])));
                    _mm256_storeu_ps(to + h * 16 + 8, _mm256_mul_ps(f, widen_8(hi)));
                }
            }
        }
    }
}

LIMN_INLINE float sum_8(__m256 v) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

/* rows <= 4; 4 / rows sums per row, so that the FMA latency is hidden for one row as well. */
LIMN_INLINE void dot_rows(float *out, const float *w, const float *const *x, size_t n,
                          const int rows) {
    const int sums = rows == 1 ? 4 : 2;
    __m256 acc[4][4];
    float tail[4] = {0};
    size_t i = 0, step = 8 * (size_t)sums;
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 4
        for (int s = 0; s < sums; s++) acc[r][s] = _mm256_setzero_ps();
    for (; i + step <= n; i += step)
#pragma GCC unroll 4
        for (int s = 0; s < sums; s++) {
            __m256 v = _mm256_loadu_ps(w + i + 8 * (size_t)s);
#pragma GCC unroll 4
            for (int r = 0; r < rows; r++)
                acc[r][s] =
                    _mm256_fmadd_ps(v, _mm256_loadu_ps(x[r] + i + 8 * (size_t)s), acc[r][s]);
        }
    for (; i < n; i++)
        for (int r = 0; r < rows; r++) tail[r] += w[i] * x[r][i];
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) {
        __m256 all = _mm256_add_ps(acc[r][0], acc[r][1]);
        if (sums == 4) all = _mm256_add_ps(all, _mm256_add_ps(acc[r][2], acc[r][3]));
        out[r] += sum_8(all) + tail[r];
    }
}

static void dot(float *out, const float *w, const float *const *x, int rows, size_t n) {
    switch (rows) {
    case 1: dot_rows(out, w, x, n, 1); break;
    case 2: dot_rows(out, w, x, n, 2); break;
    case 3: dot_rows(out, w, x, n, 3); break;
    default: dot_rows(out, w, x, n, 4); break;
    }
}

void limn_gemm_fill_expand_avx2(limn_gemm_kernels *k) {
    k->expand[LIMN_Q8_0] = expand_q8_0;
    k->expand[LIMN_Q4_0] = expand_q4_0;
    k->expand[LIMN_Q4_K] = expand_q4_k;
    k->expand[LIMN_Q5_K] = expand_q5_k;
    k->expand[LIMN_Q6_K] = expand_q6_k;
    k->dot = dot;
}
