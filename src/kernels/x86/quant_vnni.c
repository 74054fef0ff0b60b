/* SPDX-License-Identifier: MIT */
/*
 * Quantised panels times 8-bit activations with AVX-512 VNNI, few rows: the panel's blocks are
 * unpacked as they go, since memory is the limit. vpdpbusd adds four products of codes without sign
 * and signed x to each output. The signed codes of q8_0 become unsigned by adding 128, those of
 * q4_0 have 8 and those of q6_K 32 too much, which goes through the sums of x. Many rows:
 * quant_vnni_tile.c.
 */
#include "kernels/x86/quant_zmm.h"

enum { MR = 8, AHEAD = 8192 };

LIMN_INLINE __m512i word(const limn_q8_rows *x, int r, size_t at) {
    int32_t v;
    memcpy(&v, x->q + (size_t)r * x->stride + at, 4);
    return _mm512_set1_epi32(v);
}

LIMN_INLINE __m512 one_of(const float *p, const limn_q8_rows *x, int r, size_t group) {
    float v;
    memcpy(&v, (const char *)p + (size_t)r * x->stride + group * sizeof v, sizeof v);
    return _mm512_set1_ps(v);
}

/* Sum of x over half a group. */
LIMN_INLINE int half_sum(const limn_q8_rows *x, int r, size_t half) {
    int16_t h;
    memcpy(&h, (const char *)x->h + (size_t)r * x->stride + half * sizeof h, sizeof h);
    return h;
}

/* What a sum of a group begins with when its codes have `extra` too much. */
LIMN_INLINE __m512i without(const limn_q8_rows *x, int r, size_t group, const int extra) {
    int32_t halves;
    memcpy(&halves, (const char *)x->h + (size_t)r * x->stride + group * sizeof halves, 4);
    return _mm512_madd_epi16(_mm512_set1_epi32(halves), _mm512_set1_epi16((int16_t)-extra));
}

LIMN_INLINE void totals_load(__m512 c[MR], const limn_quant_tile *t, const int mr) {
    EACH_ROW c[r] =
        t->accumulate ? _mm512_loadu_ps(t->c + (size_t)r * t->c_stride) : _mm512_setzero_ps();
}

LIMN_INLINE void totals_store(const __m512 c[MR], const limn_quant_tile *t, const int mr) {
    EACH_ROW _mm512_storeu_ps(t->c + (size_t)r * t->c_stride, c[r]);
}

LIMN_INLINE void add_sums(__m512 c[MR], const __m512i a[MR], __m512 scale, const limn_q8_rows *x,
                          size_t group, const int mr) {
    EACH_ROW c[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(a[r]),
                                    _mm512_mul_ps(scale, one_of(x->d, x, r, group)), c[r]);
}

LIMN_INLINE void sub_minima(__m512 c[MR], __m512 min, const limn_q8_rows *x, size_t group,
                            const int mr) {
    EACH_ROW c[r] = _mm512_fnmadd_ps(min, one_of(x->s, x, r, group), c[r]);
}

/* Asks for the lines that come AHEAD bytes later, past the second cache: they are read once. */
LIMN_INLINE void ask(const uint8_t *b, const int lines) {
    LIMN_UNROLL
    for (int i = 0; i < lines; i++) _mm_prefetch((const char *)b + AHEAD + 64 * i, _MM_HINT_NTA);
}

/* Adds the products of words w[first..] of a group. */
LIMN_INLINE void add_words(__m512i a[MR], const __m512i w[8], const limn_q8_rows *x, size_t group,
                           const int first, const int words, const int mr) {
    LIMN_UNROLL
    for (int s = first; s < first + words; s++)
        EACH_ROW a[r] = _mm512_dpbusd_epi32(a[r], w[s], word(x, r, group * 32 + 4 * (size_t)s));
}

QUANT_TILE void few_q8_0(const limn_quant_tile *t, const int mr) {
    const limn_q8_rows x = t->x;
    const uint8_t *b = t->b;
    const __m512i flip = _mm512_set1_epi32((int32_t)0x80808080);
    __m512 c[MR];
    totals_load(c, t, mr);
    for (size_t g = t->group0; g < t->group0 + t->groups; g++, b += NR * 34) {
        __m512i a[MR], w[8];
        ask(b, 9);
        EACH_ROW a[r] = without(&x, r, g, 128);
        LIMN_UNROLL
        for (int s = 0; s < 8; s++) w[s] = _mm512_xor_si512(zmm_codes(b + s * 64), flip);
        add_words(a, w, &x, g, 0, 8, mr);
        add_sums(c, a, zmm_halves(b + NR * 32), &x, g, mr);
    }
    totals_store(c, t, mr);
}

QUANT_TILE void few_q4_0(const limn_quant_tile *t, const int mr) {
    const limn_q8_rows x = t->x;
    const uint8_t *b = t->b;
    __m512 c[MR];
    totals_load(c, t, mr);
    for (size_t g = t->group0; g < t->group0 + t->groups; g++, b += NR * 18) {
        __m512i a[MR], w[8];
        ask(b, 5);
        EACH_ROW a[r] = without(&x, r, g, 8);
        zmm_fours(w, b);
        add_words(a, w, &x, g, 0, 8, mr);
        add_sums(c, a, zmm_halves(b + LIMN_QUANT_NIBBLES), &x, g, mr);
    }
    totals_store(c, t, mr);
}

LIMN_INLINE void few_k45(const limn_quant_tile *t, const int mr, const bool fifth) {
    const limn_q8_rows x = t->x;
    const uint8_t *b = t->b;
    __m512 c[MR];
    totals_load(c, t, mr);
    for (size_t g0 = t->group0; g0 < t->group0 + t->groups; g0 += 8) {
        const uint8_t *head = b;
        __m512 d = zmm_halves(head), dmin = zmm_halves(head + 2 * NR);
        ask(b, 4);
        b += LIMN_QUANT_K_HEAD;
#pragma GCC unroll 1
        for (int i = 0; i < 8; i++, b += LIMN_QUANT_NIBBLES + (fifth ? 4 * NR : 0)) {
            size_t g = g0 + (size_t)i;
            __m512i a[MR], w[8];
            __m128i sc, m;
            ask(b, fifth ? 5 : 4);
            scales_k45(&sc, &m, head, i);
            EACH_ROW a[r] = _mm512_setzero_si512();
            if (fifth)
                zmm_fives(w, b);
            else
                zmm_fours(w, b);
            sub_minima(c, _mm512_mul_ps(dmin, zmm_bytes_f32(m)), &x, g, mr);
            add_words(a, w, &x, g, 0, 8, mr);
            add_sums(c, a, _mm512_mul_ps(d, zmm_bytes_f32(sc)), &x, g, mr);
        }
    }
    totals_store(c, t, mr);
}

QUANT_TILE void few_q4_k(const limn_quant_tile *t, const int mr) {
    few_k45(t, mr, false);
}

QUANT_TILE void few_q5_k(const limn_quant_tile *t, const int mr) {
    few_k45(t, mr, true);
}

QUANT_TILE void few_q6_k(const limn_quant_tile *t, const int mr) {
    const limn_q8_rows x = t->x;
    const uint8_t *b = t->b;
    __m512 c[MR];
    totals_load(c, t, mr);
    for (size_t g0 = t->group0; g0 < t->group0 + t->groups; g0 += 8) {
        const uint8_t *head = b;
        __m512 d = zmm_halves(head);
        ask(b, 5);
        b += LIMN_QUANT_6_HEAD;
#pragma GCC unroll 1
        for (int i = 0; i < 8; i++, b += LIMN_QUANT_NIBBLES + 8 * NR) {
            size_t g = g0 + (size_t)i;
            __m512i all[MR], w[8];
            ask(b, 6);
            zmm_sixes(w, b);
            EACH_ROW all[r] = _mm512_setzero_si512();
            LIMN_UNROLL
            for (int h = 0; h < 2; h++) {
                __m512i a[MR],
                    part = zmm_bytes(_mm_load_si128(
                        (const __m128i *)(head + LIMN_QUANT_6_SCALES + (2 * i + h) * NR)));
                EACH_ROW a[r] = _mm512_set1_epi32(-32 * half_sum(&x, r, 2 * g + (size_t)h));
                add_words(a, w, &x, g, 4 * h, 4, mr);
                EACH_ROW all[r] = _mm512_add_epi32(all[r], _mm512_mullo_epi32(a[r], part));
            }
            add_sums(c, all, d, &x, g, mr);
        }
    }
    totals_store(c, t, mr);
}

#ifdef LIMN_ROLLED
#define HEIGHTS(name) few_##name(t, t->m)
#else
#define HEIGHTS(name)                                                                              \
    switch (t->m) {                                                                                \
    case 8: few_##name(t, 8); break;                                                               \
    case 7: few_##name(t, 7); break;                                                               \
    case 6: few_##name(t, 6); break;                                                               \
    case 5: few_##name(t, 5); break;                                                               \
    case 4: few_##name(t, 4); break;                                                               \
    case 3: few_##name(t, 3); break;                                                               \
    case 2: few_##name(t, 2); break;                                                               \
    default: few_##name(t, 1); break;                                                              \
    }
#endif
#define FEW(ID, name)                                                                              \
    static void rows_##name(const limn_quant_tile *t) {                                            \
        HEIGHTS(name);                                                                             \
    }
#define SET(ID, name)                                                                              \
    k->quant[LIMN_##ID].few = rows_##name;                                                         \
    k->quant[LIMN_##ID].few_rows = MR;
#define EACH(X) X(Q8_0, q8_0) X(Q4_0, q4_0) X(Q4_K, q4_k) X(Q5_K, q5_k) X(Q6_K, q6_k)

EACH(FEW)

void LIMN_ISA_FN(limn_gemm_fill_quant_vnni)(limn_gemm_kernels *k) {
    EACH(SET)
    LIMN_ISA_FN(limn_gemm_fill_quant_vnni_tile)(k);
}
