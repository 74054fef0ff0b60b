/* SPDX-License-Identifier: MIT */
/*
 * Quantised panels times 8-bit activations with AVX-512 VNNI: a register holds four elements of all
 * sixteen outputs of a panel, vpdpbusd adds four products of unsigned and signed codes to each. The
 * signed codes of q8_0 become unsigned by adding 128, which goes through the sums of x. The types
 * that are not here keep their AVX2 kernels.
 */
#include "kernels/gemm_body.h"
#include "kernels/quant_panel.h"
#include "kernels/x86/intrin.h"
#include "kernels/x86/quant_scales.h"

enum { NR = LIMN_QUANT_NR, MR = 8 };

/* As in gemm_zmm.h: emulated, one function with loops does for every height. */
#ifdef LIMN_SIMDE
#define QUANT_TILE static
#define EACH_ROW for (int r = 0; r < mr; r++)
#else
#define QUANT_TILE LIMN_INLINE
#define EACH_ROW _Pragma("GCC unroll 8") for (int r = 0; r < mr; r++)
#endif

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

/* -128 times the sum of x over a group. */
LIMN_INLINE __m512i less_128(const limn_q8_rows *x, int r, size_t group) {
    int16_t h[2];
    memcpy(h, (const char *)x->h + (size_t)r * x->stride + group * sizeof h, sizeof h);
    return _mm512_set1_epi32(-128 * (h[0] + h[1]));
}

LIMN_INLINE __m512 halves(const uint8_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
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

QUANT_TILE void tile_q8_0(const limn_quant_tile *t, const int mr) {
    const limn_q8_rows x = t->x;
    const uint8_t *b = t->b;
    const __m512i flip = _mm512_set1_epi32((int32_t)0x80808080);
    __m512 c[MR];
    totals_load(c, t, mr);
    for (size_t g = t->group0; g < t->group0 + t->groups; g++, b += NR * 34) {
        __m512i a[MR];
        EACH_ROW a[r] = less_128(&x, r, g);
        for (size_t s = 0; s < 8; s++) {
            __m512i w = _mm512_xor_si512(_mm512_loadu_si512(b + s * 64), flip);
            EACH_ROW a[r] = _mm512_dpbusd_epi32(a[r], w, word(&x, r, g * 32 + 4 * s));
        }
        add_sums(c, a, halves(b + NR * 32), &x, g, mr);
    }
    totals_store(c, t, mr);
}

/* Sums of a group of four-bit codes. */
LIMN_INLINE void group_nibbles(__m512i a[MR], const uint8_t *b, const limn_q8_rows *x, size_t at,
                               const int mr) {
    const __m512i low = _mm512_set1_epi32(0x0f0f0f0f);
    EACH_ROW a[r] = _mm512_setzero_si512();
    for (size_t s = 0; s < 4; s++) {
        __m512i w = _mm512_loadu_si512(b + s * 64);
        __m512i lo = _mm512_and_si512(w, low), hi = _mm512_and_si512(_mm512_srli_epi32(w, 4), low);
        EACH_ROW a[r] = _mm512_dpbusd_epi32(a[r], lo, word(x, r, at + 4 * s));
        EACH_ROW a[r] = _mm512_dpbusd_epi32(a[r], hi, word(x, r, at + 16 + 4 * s));
    }
}

QUANT_TILE void tile_q4_0(const limn_quant_tile *t, const int mr) {
    const limn_q8_rows x = t->x;
    const uint8_t *b = t->b;
    __m512 c[MR];
    totals_load(c, t, mr);
    for (size_t g = t->group0; g < t->group0 + t->groups; g++, b += NR * 18) {
        __m512i a[MR];
        __m512 scale = halves(b + LIMN_QUANT_NIBBLES);
        group_nibbles(a, b, &x, g * 32, mr);
        add_sums(c, a, scale, &x, g, mr);
        sub_minima(c, _mm512_mul_ps(scale, _mm512_set1_ps(8)), &x, g, mr);
    }
    totals_store(c, t, mr);
}

QUANT_TILE void tile_q4_k(const limn_quant_tile *t, const int mr) {
    const limn_q8_rows x = t->x;
    const uint8_t *b = t->b;
    __m512 c[MR];
    totals_load(c, t, mr);
    for (size_t g0 = t->group0; g0 < t->group0 + t->groups; g0 += 8) {
        const uint8_t *head = b;
        __m512 d = halves(head), dmin = halves(head + 2 * NR);
        b += LIMN_QUANT_K_HEAD;
        for (int i = 0; i < 8; i++, b += LIMN_QUANT_NIBBLES) {
            size_t g = g0 + (size_t)i;
            __m512i a[MR];
            __m128i sc, m; /* 0..63: their sign does not matter */
            scales_k45(&sc, &m, head, i);
            group_nibbles(a, b, &x, g * 32, mr);
            add_sums(c, a, _mm512_mul_ps(d, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(sc))), &x, g,
                     mr);
            sub_minima(c, _mm512_mul_ps(dmin, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(m))), &x, g,
                       mr);
        }
    }
    totals_store(c, t, mr);
}

static void next_rows(limn_quant_tile *t) {
    size_t bytes = MR * t->x.stride;
    t->x.q += bytes;
    t->x.d += bytes / 4;
    t->x.s += bytes / 4;
    t->x.h += bytes / 2;
    t->c += MR * t->c_stride;
    t->m -= MR;
}

#ifdef LIMN_SIMDE
#define HEIGHTS(name) tile_##name(&t, t.m)
#else
#define HEIGHTS(name)                                                                              \
    switch (t.m) {                                                                                 \
    case 7: tile_##name(&t, 7); break;                                                             \
    case 6: tile_##name(&t, 6); break;                                                             \
    case 5: tile_##name(&t, 5); break;                                                             \
    case 4: tile_##name(&t, 4); break;                                                             \
    case 3: tile_##name(&t, 3); break;                                                             \
    case 2: tile_##name(&t, 2); break;                                                             \
    default: tile_##name(&t, 1); break;                                                            \
    }
#endif
#define ROWS(name)                                                                                 \
    static void rows_##name(const limn_quant_tile *all) {                                          \
        limn_quant_tile t = *all;                                                                  \
        for (; t.m >= MR; next_rows(&t)) tile_##name(&t, MR);                                      \
        if (t.m > 0) HEIGHTS(name);                                                                \
    }
ROWS(q8_0)
ROWS(q4_0)
ROWS(q4_k)

void LIMN_ISA_FN(limn_gemm_fill_quant_vnni)(limn_gemm_kernels *k) {
    k->quant[LIMN_Q8_0] = (limn_quant_kernels){false, false, 34 * NR, rows_q8_0, NULL, rows_q8_0};
    k->quant[LIMN_Q4_0] = (limn_quant_kernels){false, true, 18 * NR, rows_q4_0, NULL, rows_q4_0};
    k->quant[LIMN_Q4_K] = (limn_quant_kernels){false, true, 18 * NR, rows_q4_k, NULL, rows_q4_k};
}
