/* SPDX-License-Identifier: MIT */
/*
 * Quantised weights times 8-bit activations with AVX2: what decoding lives on. A group of 32
 * products is summed in integers (vpmaddubsw takes an unsigned and a signed factor: codes without
 * sign go in as they are, signed ones as magnitude times the activation with their sign), then
 * scaled into eight f32 sums. The minima of q4_K and q5_K go through the activations' own sums.
 * Layouts: tensor/quant_block.c.
 */
#include "kernels/gemm_body.h"
#include "kernels/x86/intrin.h"

enum { ROWS_MAX = 4 };

LIMN_INLINE float half_at(const uint8_t *p) {
    uint16_t h;
    memcpy(&h, p, 2);
    return _cvtsh_ss(h);
}

LIMN_INLINE float sum_8(__m256 v) {
    __m128 h = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    h = _mm_add_ps(h, _mm_movehl_ps(h, h));
    return _mm_cvtss_f32(_mm_add_ss(h, _mm_shuffle_ps(h, h, 1)));
}

LIMN_INLINE __m256i load_x(const limn_q8_rows *x, int r, size_t at) {
    return _mm256_load_si256((const __m256i *)(x->q + (size_t)r * x->stride + at));
}

/* Scales and sums of row r from group g on. */
LIMN_INLINE const float *d_of(const limn_q8_rows *x, int r, size_t g) {
    return (const float *)((const char *)x->d + (size_t)r * x->stride) + g;
}

LIMN_INLINE const float *s_of(const limn_q8_rows *x, int r, size_t g) {
    return (const float *)((const char *)x->s + (size_t)r * x->stride) + g;
}

/* Pair sums of 32 products of unsigned and signed codes. */
LIMN_INLINE __m256i pairs_u(__m256i w, __m256i x) {
    return _mm256_maddubs_epi16(w, x);
}

/* The same of two signed codes. */
LIMN_INLINE __m256i pairs_s(__m256i w, __m256i x) {
    return _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
}

LIMN_INLINE __m256 to_f32(__m256i pairs, __m256i factors) {
    return _mm256_cvtepi32_ps(_mm256_madd_epi16(pairs, factors));
}

LIMN_INLINE __m256i nibbles(const uint8_t *p) {
    __m128i q = _mm_loadu_si128((const __m128i *)p);
    __m256i both = _mm256_set_m128i(_mm_srli_epi16(q, 4), q);
    return _mm256_and_si256(both, _mm256_set1_epi8(15));
}

/* Two chains of sums per row, so that the latency of an FMA does not set the pace; lines are asked
 * for well before they are needed, across the ends of rows too. */
typedef struct sums {
    __m256 v[ROWS_MAX][2];
} sums;

enum { AHEAD = 1024 };

LIMN_INLINE void ask(const uint8_t *b) {
    _mm_prefetch((const char *)b + AHEAD, _MM_HINT_T0);
}

LIMN_INLINE void clear(sums *a, const int rows) {
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) a->v[r][0] = a->v[r][1] = _mm256_setzero_ps();
}

/* ---- blocks of 32 ---- */

LIMN_INLINE void block_q8_0(sums *a, const uint8_t *b, const limn_q8_rows *x, const int rows,
                            size_t i, const int chain) {
    __m256i w = _mm256_loadu_si256((const __m256i *)(b + 2));
    float d = half_at(b);
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
        a->v[r][chain] = _mm256_fmadd_ps(to_f32(pairs_s(w, load_x(x, r, i)), _mm256_set1_epi16(1)),
                                         _mm256_set1_ps(d * *d_of(x, r, i / 32)), a->v[r][chain]);
}

LIMN_INLINE void block_q4_0(sums *a, const uint8_t *b, const limn_q8_rows *x, const int rows,
                            size_t i, const int chain) {
    __m256i w = _mm256_sub_epi8(nibbles(b + 2), _mm256_set1_epi8(8));
    float d = half_at(b);
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
        a->v[r][chain] = _mm256_fmadd_ps(to_f32(pairs_s(w, load_x(x, r, i)), _mm256_set1_epi16(1)),
                                         _mm256_set1_ps(d * *d_of(x, r, i / 32)), a->v[r][chain]);
}

#define ROWS_OF_32(name, bytes)                                                                    \
    LIMN_INLINE void rows_##name(float *out, const uint8_t *b, const limn_q8_rows *x,              \
                                 const int rows, size_t k) {                                       \
        sums a;                                                                                    \
        size_t i = 0;                                                                              \
        clear(&a, rows);                                                                           \
        for (; i + 64 <= k; i += 64, b += 2 * (bytes)) {                                           \
            ask(b);                                                                                \
            block_##name(&a, b, x, rows, i, 0);                                                    \
            block_##name(&a, b + (bytes), x, rows, i + 32, 1);                                     \
        }                                                                                          \
        if (i < k) block_##name(&a, b, x, rows, i, 0);                                             \
        for (int r = 0; r < rows; r++) out[r] = sum_8(_mm256_add_ps(a.v[r][0], a.v[r][1]));        \
    }
ROWS_OF_32(q8_0, 34)
ROWS_OF_32(q4_0, 18)

/* ---- blocks of 256 ---- */

/* The eight scales and minima of q4_K and q5_K as f32; bytes as in group_scale of expand_avx2.c. */
LIMN_INLINE void scales_k45(__m256 *scale, __m256 *min, const uint8_t *s) {
    uint32_t a, b, c, v[4];
    memcpy(&a, s, 4);
    memcpy(&b, s + 4, 4);
    memcpy(&c, s + 8, 4);
    v[0] = a & 0x3f3f3f3f;
    v[1] = (c & 0x0f0f0f0f) | (a >> 6 & 0x03030303) << 4;
    v[2] = b & 0x3f3f3f3f;
    v[3] = (c >> 4 & 0x0f0f0f0f) | (b >> 6 & 0x03030303) << 4;
    __m128i all = _mm_loadu_si128((const __m128i *)v);
    *scale = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(all));
    *min = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(all, 8)));
}

LIMN_INLINE void rows_k45(float *out, const uint8_t *b, const limn_q8_rows *x, const int rows,
                          size_t k, const bool fifth) {
    const __m256i ones = _mm256_set1_epi16(1), low = _mm256_set1_epi8(15);
    const size_t codes = fifth ? 48 : 16;
    __m256 off[ROWS_MAX];
    sums a;
    clear(&a, rows);
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) off[r] = _mm256_setzero_ps();
    for (size_t i = 0; i < k; i += 256, b += codes + 128) {
        ask(b);
        ask(b + 64);
        __m256 scale, min;
        float step[ROWS_MAX][8] __attribute__((aligned(32)));
        scales_k45(&scale, &min, b + 4);
        scale = _mm256_mul_ps(scale, _mm256_set1_ps(half_at(b)));
        min = _mm256_mul_ps(min, _mm256_set1_ps(half_at(b + 2)));
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            _mm256_store_ps(step[r], _mm256_mul_ps(scale, _mm256_loadu_ps(d_of(x, r, i / 32))));
            off[r] = _mm256_fmadd_ps(min, _mm256_loadu_ps(s_of(x, r, i / 32)), off[r]);
        }
        __m256i top = _mm256_setzero_si256();
        if (fifth) top = _mm256_loadu_si256((const __m256i *)(b + 16));
#pragma GCC unroll 4
        for (int g = 0; g < 8; g += 2) {
            __m256i q = _mm256_loadu_si256((const __m256i *)(b + codes + (size_t)g * 16));
            __m256i w[2] = {_mm256_and_si256(q, low),
                            _mm256_and_si256(_mm256_srli_epi16(q, 4), low)};
            if (fifth) {
                const __m256i sixteen = _mm256_set1_epi8(16);
                w[0] = _mm256_or_si256(
                    w[0],
                    _mm256_and_si256(_mm256_slli_epi16(_mm256_srli_epi16(top, g), 4), sixteen));
                w[1] = _mm256_or_si256(
                    w[1],
                    _mm256_and_si256(_mm256_slli_epi16(_mm256_srli_epi16(top, g + 1), 4), sixteen));
            }
#pragma GCC unroll 2
            for (int h = 0; h < 2; h++)
#pragma GCC unroll 4
                for (int r = 0; r < rows; r++)
                    a.v[r][h] = _mm256_fmadd_ps(
                        to_f32(pairs_u(w[h], load_x(x, r, i + 32 * (size_t)(g + h))), ones),
                        _mm256_broadcast_ss(&step[r][g + h]), a.v[r][h]);
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++)
        out[r] = sum_8(_mm256_sub_ps(_mm256_add_ps(a.v[r][0], a.v[r][1]), off[r]));
}

/* Groups of 16: the two scales of 32 elements go in as the factors of the pair sums. */
LIMN_INLINE void rows_q6_k(float *out, const uint8_t *b, const limn_q8_rows *x, const int rows,
                           size_t k) {
    const __m256i low = _mm256_set1_epi8(15), two = _mm256_set1_epi8(48);
    const __m256i bias = _mm256_set1_epi8(32);
    sums a;
    clear(&a, rows);
    for (size_t i = 0; i < k; i += 256, b += 210) {
        ask(b);
        ask(b + 64);
        ask(b + 128);
        float step[ROWS_MAX][8] __attribute__((aligned(32)));
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++)
            _mm256_store_ps(step[r], _mm256_mul_ps(_mm256_set1_ps(half_at(b + 208)),
                                                   _mm256_loadu_ps(d_of(x, r, i / 32))));
        for (int half = 0; half < 2; half++) {
            __m256i ql[2], qh = _mm256_loadu_si256((const __m256i *)(b + 128 + half * 32));
            ql[0] = _mm256_loadu_si256((const __m256i *)(b + half * 64));
            ql[1] = _mm256_loadu_si256((const __m256i *)(b + half * 64 + 32));
#pragma GCC unroll 4
            for (int g = 0; g < 4; g++) {
                __m256i lo = g < 2 ? ql[g & 1] : _mm256_srli_epi16(ql[g & 1], 4);
                __m256i hi = g == 0   ? _mm256_slli_epi16(qh, 4)
                             : g == 1 ? _mm256_slli_epi16(qh, 2)
                             : g == 2 ? qh
                                      : _mm256_srli_epi16(qh, 2);
                __m256i w = _mm256_or_si256(_mm256_and_si256(lo, low), _mm256_and_si256(hi, two));
                w = _mm256_sub_epi8(w, bias);
                const int8_t *sc = (const int8_t *)(b + 192 + half * 8 + g * 2);
                __m256i factors = _mm256_set_m128i(_mm_set1_epi16(sc[1]), _mm_set1_epi16(sc[0]));
                size_t at = i + (size_t)half * 128 + (size_t)g * 32;
#pragma GCC unroll 4
                for (int r = 0; r < rows; r++)
                    a.v[r][g & 1] =
                        _mm256_fmadd_ps(to_f32(pairs_s(w, load_x(x, r, at)), factors),
                                        _mm256_broadcast_ss(&step[r][half * 4 + g]), a.v[r][g & 1]);
            }
        }
    }
    for (int r = 0; r < rows; r++) out[r] = sum_8(_mm256_add_ps(a.v[r][0], a.v[r][1]));
}

LIMN_INLINE void rows_q4_k(float *out, const uint8_t *b, const limn_q8_rows *x, const int rows,
                           size_t k) {
    rows_k45(out, b, x, rows, k, false);
}

LIMN_INLINE void rows_q5_k(float *out, const uint8_t *b, const limn_q8_rows *x, const int rows,
                           size_t k) {
    rows_k45(out, b, x, rows, k, true);
}

#define DOT(name)                                                                                  \
    static void dot_##name(float *out, const void *w, const limn_q8_rows *x, int rows, size_t k) { \
        switch (rows) {                                                                            \
        case 1: rows_##name(out, w, x, 1, k); break;                                               \
        case 2: rows_##name(out, w, x, 2, k); break;                                               \
        case 3: rows_##name(out, w, x, 3, k); break;                                               \
        default: rows_##name(out, w, x, 4, k); break;                                              \
        }                                                                                          \
    }
DOT(q8_0)
DOT(q4_0)
DOT(q4_k)
DOT(q5_k)
DOT(q6_k)

void limn_gemm_fill_dot_avx2(limn_gemm_kernels *k) {
    k->dot_q8[LIMN_Q8_0] = dot_q8_0;
    k->dot_q8[LIMN_Q4_0] = dot_q4_0;
    k->dot_q8[LIMN_Q4_K] = dot_q4_k;
    k->dot_q8[LIMN_Q5_K] = dot_q5_k;
    k->dot_q8[LIMN_Q6_K] = dot_q6_k;
}
