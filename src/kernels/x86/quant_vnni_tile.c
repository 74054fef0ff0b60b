/* SPDX-License-Identifier: MIT */
/*
 * Tiles of many rows with AVX-512 VNNI: five rows of x times two quantised panels.
 *
 * A stretch of both panels is expanded into the first cache as signed codes, and x comes as codes
 * without sign, 128 more, so that what the 128 adds does not depend on x: it goes in once for each
 * output as the sum that a group begins with. A step of the inner loop is then two loads of codes,
 * five broadcasts and ten vpdpbusd; what a group costs besides (conversion, scales, minima) is
 * shared by its eight steps.
 */
#include "kernels/x86/quant_zmm.h"

/* With six rows spills and moves would take back what fewer loads give. */
enum { MR = LIMN_Q8_BLOCK, NP = 2 };

/* What every expanded group begins with. */
typedef struct expanded {
    uint8_t codes[8][NR * 4];
    int32_t begin[NR]; /* -128 times the sum of codes; q6_K: of the first half */
    float scale[NR];
} expanded;

typedef struct group {
    expanded h;
    float min[NR];
} group;

/* A group of q6_K, whose halves have scales of their own. */
typedef struct group_6 {
    expanded h;
    float part[2][NR];
    int32_t second[NR]; /* what the second half begins with */
} group_6;

LIMN_INLINE void put(void *to, __m512i v) {
    _mm512_storeu_si512(to, v);
}

/* Stores codes and gives 128 times their sum. */
LIMN_INLINE __m512i put_codes(uint8_t (*to)[NR * 4], const __m512i *w, const int words) {
    const __m512i all = _mm512_set1_epi32((int32_t)0x80808080);
    __m512i sum = _mm512_setzero_si512();
    LIMN_UNROLL
    for (int s = 0; s < words; s++) {
        put(to[s], w[s]);
        sum = _mm512_dpbusd_epi32(sum, all, w[s]);
    }
    return sum;
}

LIMN_INLINE void put_group(group *to, const __m512i w[8], __m512 scale, __m512 min) {
    put(to->h.begin, _mm512_sub_epi32(_mm512_setzero_si512(), put_codes(to->h.codes, w, 8)));
    _mm512_storeu_ps(to->h.scale, scale);
    _mm512_storeu_ps(to->min, min);
}

static void expand_q8_0(void *codes, float *scale, float *min, const void *blocks, size_t groups) {
    const uint8_t *b = blocks;
    group *to = codes;
    (void)scale;
    (void)min;
    for (size_t g = 0; g < groups; g++, b += NR * 34, to++) {
        __m512i w[8];
        LIMN_UNROLL
        for (int s = 0; s < 8; s++) w[s] = zmm_codes(b + s * 64);
        put_group(to, w, zmm_halves(b + NR * 32), _mm512_setzero_ps());
    }
}

static void expand_q4_0(void *codes, float *scale, float *min, const void *blocks, size_t groups) {
    const uint8_t *b = blocks;
    group *to = codes;
    (void)scale;
    (void)min;
    for (size_t g = 0; g < groups; g++, b += NR * 18, to++) {
        __m512i w[8];
        zmm_fours(w, b);
        LIMN_UNROLL
        for (int s = 0; s < 8; s++) w[s] = _mm512_sub_epi8(w[s], _mm512_set1_epi8(8));
        put_group(to, w, zmm_halves(b + LIMN_QUANT_NIBBLES), _mm512_setzero_ps());
    }
}

LIMN_INLINE void expand_k45(group *to, const uint8_t *b, size_t groups, const bool fifth) {
    for (size_t g0 = 0; g0 < groups; g0 += 8) {
        const uint8_t *head = b;
        __m512 d = zmm_halves(head), dmin = zmm_halves(head + 2 * NR);
        b += LIMN_QUANT_K_HEAD;
        for (int i = 0; i < 8; i++, to++, b += LIMN_QUANT_NIBBLES + (fifth ? 4 * NR : 0)) {
            __m512i w[8];
            __m128i sc, m;
            scales_k45(&sc, &m, head, i);
            if (fifth)
                zmm_fives(w, b);
            else
                zmm_fours(w, b);
            put_group(to, w, _mm512_mul_ps(d, zmm_bytes_f32(sc)),
                      _mm512_mul_ps(dmin, zmm_bytes_f32(m)));
        }
    }
}

static void expand_q4_k(void *codes, float *scale, float *min, const void *blocks, size_t groups) {
    (void)scale;
    (void)min;
    expand_k45(codes, blocks, groups, false);
}

static void expand_q5_k(void *codes, float *scale, float *min, const void *blocks, size_t groups) {
    (void)scale;
    (void)min;
    expand_k45(codes, blocks, groups, true);
}

static void expand_q6_k(void *codes, float *scale, float *min, const void *blocks, size_t groups) {
    const uint8_t *b = blocks;
    group_6 *to = codes;
    (void)scale;
    (void)min;
    for (size_t g0 = 0; g0 < groups; g0 += 8) {
        const uint8_t *head = b, *parts = head + LIMN_QUANT_6_SCALES;
        __m512 d = zmm_halves(head);
        b += LIMN_QUANT_6_HEAD;
        for (int i = 0; i < 8; i++, to++, parts += 2 * NR, b += LIMN_QUANT_NIBBLES + 8 * NR) {
            __m512i w[8];
            zmm_sixes(w, b);
            LIMN_UNROLL
            for (int s = 0; s < 8; s++) w[s] = _mm512_sub_epi8(w[s], _mm512_set1_epi8(32));
            LIMN_UNROLL
            for (int h = 0; h < 2; h++) {
                __m128i part = _mm_load_si128((const __m128i *)(parts + h * NR));
                __m512i sum = put_codes(to->h.codes + 4 * h, w + 4 * h, 4);
                put(h ? to->second : to->h.begin, _mm512_sub_epi32(_mm512_setzero_si512(), sum));
                _mm512_storeu_ps(to->part[h], zmm_bytes_f32(part));
            }
            _mm512_storeu_ps(to->h.scale, d);
        }
    }
}

/* ---- products ---- */

LIMN_INLINE __m512i codes_of(const void *p) {
    int32_t v;
    memcpy(&v, p, sizeof v);
    return _mm512_set1_epi32(v);
}

LIMN_INLINE __m512 one_of(const float *p) {
    float v;
    memcpy(&v, p, sizeof v);
    return _mm512_set1_ps(v);
}

/* Adds the products of `words` words from word `first` on. */
LIMN_INLINE void add_words(__m512i a[NP][MR], const expanded *const b[NP], const limn_q8_block *x,
                           const int first, const int words, const int mr, const int np) {
    LIMN_UNROLL
    for (int s = first; s < first + words; s++) {
        __m512i w[NP];
        EACH_PANEL w[p] = zmm_codes(b[p]->codes[s]);
        EACH_ROW {
            __m512i v = codes_of(x->q[r] + 4 * s);
            EACH_PANEL a[p][r] = _mm512_dpbusd_epi32(a[p][r], v, w[p]);
        }
    }
}

LIMN_INLINE void totals_load(__m512 c[NP][MR], const limn_quant_tile *t, const int mr,
                             const int np) {
    EACH_PANEL EACH_ROW c[p][r] =
        t->accumulate ? _mm512_loadu_ps(t->c + (size_t)p * t->c_panel + (size_t)r * t->c_stride)
                      : _mm512_setzero_ps();
}

LIMN_INLINE void totals_store(const __m512 c[NP][MR], const limn_quant_tile *t, const int mr,
                              const int np) {
    EACH_PANEL EACH_ROW _mm512_storeu_ps(t->c + (size_t)p * t->c_panel + (size_t)r * t->c_stride,
                                         c[p][r]);
}

/* c = fma(sum, scale * d, c) */
LIMN_INLINE void add_sums(__m512 c[NP][MR], const __m512i a[NP][MR], const expanded *const b[NP],
                          const limn_q8_block *x, const int mr, const int np) {
    EACH_ROW {
        __m512 d = one_of(&x->d[r]);
        EACH_PANEL c[p][r] = _mm512_fmadd_ps(
            _mm512_cvtepi32_ps(a[p][r]), _mm512_mul_ps(_mm512_loadu_ps(b[p]->scale), d), c[p][r]);
    }
}

/*
 * Where d is a power of two, a sum begins with the bits of LIMN_Q8_SHIFT * d, which is what x->d
 * holds: adding an integer to these bits adds so many times d to that float, and a subtraction
 * gives sum * d. None of it needs the two ports that multiply.
 */
LIMN_INLINE __m512i begin_at(const int32_t *begin, const limn_q8_block *x, int r) {
    return _mm512_add_epi32(_mm512_loadu_si512(begin), codes_of(&x->d[r]));
}

LIMN_INLINE __m512 times_d(__m512i sum, const limn_q8_block *x, int r) {
    return _mm512_sub_ps(_mm512_castsi512_ps(sum), one_of(&x->d[r]));
}

/* c = fma(sum * d, scale, c) */
LIMN_INLINE void add_shifted(__m512 c[NP][MR], const __m512i a[NP][MR], const expanded *const b[NP],
                             const limn_q8_block *x, const int mr, const int np) {
    EACH_ROW EACH_PANEL c[p][r] =
        _mm512_fmadd_ps(times_d(a[p][r], x, r), _mm512_loadu_ps(b[p]->scale), c[p][r]);
}

/* c = fma(-min, s, c) */
LIMN_INLINE void sub_minima(__m512 c[NP][MR], const expanded *const b[NP], const limn_q8_block *x,
                            const int mr, const int np) {
    EACH_ROW {
        __m512 s = one_of(&x->s[r]);
        EACH_PANEL c[p][r] =
            _mm512_fnmadd_ps(_mm512_loadu_ps(((const group *)b[p])->min), s, c[p][r]);
    }
}

/* c with the sums of a group; `powers`: see begin_at. */
LIMN_INLINE void add_group(__m512 c[NP][MR], const expanded *const b[NP], const limn_q8_block *x,
                           const int mr, const int np, const bool powers) {
    __m512i a[NP][MR];
    EACH_ROW EACH_PANEL a[p][r] =
        powers ? begin_at(b[p]->begin, x, r) : _mm512_loadu_si512(b[p]->begin);
    add_words(a, b, x, 0, 8, mr, np);
    (powers ? add_shifted : add_sums)(c, a, b, x, mr, np);
}

/* The same of q6_K. Sums of halves times their scales are whole numbers below 2^24, so that floats
 * hold them and their sum. */
LIMN_INLINE void add_group_6(__m512 c[NP][MR], const expanded *const b[NP], const limn_q8_block *x,
                             const int mr, const int np) {
    const group_6 *six[NP];
    __m512i a[NP][MR];
    __m512 first[NP][MR];
    EACH_PANEL six[p] = (const group_6 *)b[p];
    EACH_ROW EACH_PANEL a[p][r] = begin_at(b[p]->begin, x, r);
    add_words(a, b, x, 0, 4, mr, np);
    EACH_ROW EACH_PANEL {
        first[p][r] = _mm512_mul_ps(times_d(a[p][r], x, r), _mm512_loadu_ps(six[p]->part[0]));
        a[p][r] = begin_at(six[p]->second, x, r);
    }
    add_words(a, b, x, 4, 4, mr, np);
    EACH_ROW EACH_PANEL {
        __m512 both =
            _mm512_fmadd_ps(times_d(a[p][r], x, r), _mm512_loadu_ps(six[p]->part[1]), first[p][r]);
        c[p][r] = _mm512_fmadd_ps(both, _mm512_loadu_ps(b[p]->scale), c[p][r]);
    }
}

/* What a block of rows asks for, a line of each kind in a group. */
typedef struct asked {
    const char *w[NP];
    size_t left; /* bytes of each */
    const char *y;
    int rows;
} asked;

LIMN_INLINE void ask(asked *a, const limn_quant_tile *t, const int np) {
    if (a->left) {
        EACH_PANEL {
            _mm_prefetch(a->w[p], _MM_HINT_T1);
            a->w[p] += 64;
        }
        a->left = a->left > 64 ? a->left - 64 : 0;
    }
    if (a->rows > 0) {
        __builtin_prefetch(a->y, 1, 3);
        if (np > 1) __builtin_prefetch(a->y + t->y_panel, 1, 3);
        a->y += t->y_stride;
        a->rows--;
    }
}

typedef enum tile_kind { SIGNED, POWERS, MINIMA, SIXES } tile_kind;

LIMN_INLINE void tile_any(const limn_quant_tile *t, const int mr, const int np,
                          const tile_kind kind) {
    const size_t bytes = kind == SIXES ? sizeof(group_6) : sizeof(group);
    const limn_q8_block *x = t->blocks;
    const expanded *b[NP];
    __m512 c[NP][MR];
    EACH_PANEL b[p] =
        (const expanded *)(const void *)((const char *)t->b + (size_t)p * t->b_stride);
    asked near = {.left = t->fetch[0] ? t->fetch_bytes : 0, .y = t->y, .rows = t->y ? mr : 0};
    EACH_PANEL near.w[p] = t->fetch[p];
    totals_load(c, t, mr, np);
    for (size_t g = 0; g < t->groups; g++, x++) {
        ask(&near, t, np);
        if (kind == MINIMA) sub_minima(c, b, x, mr, np);
        if (kind == SIXES)
            add_group_6(c, b, x, mr, np);
        else
            add_group(c, b, x, mr, np, kind != SIGNED);
        EACH_PANEL b[p] = (const expanded *)(const void *)((const char *)b[p] + bytes);
    }
    totals_store(c, t, mr, np);
}

QUANT_TILE void tile_signed(const limn_quant_tile *t, const int mr, const int np) {
    tile_any(t, mr, np, SIGNED);
}

QUANT_TILE void tile_powers(const limn_quant_tile *t, const int mr, const int np) {
    tile_any(t, mr, np, POWERS);
}

QUANT_TILE void tile_minima(const limn_quant_tile *t, const int mr, const int np) {
    tile_any(t, mr, np, MINIMA);
}

QUANT_TILE void tile_sixes(const limn_quant_tile *t, const int mr, const int np) {
    tile_any(t, mr, np, SIXES);
}

LIMN_INLINE void next_rows(limn_quant_tile *t) {
    t->blocks += t->blocks_stride;
    t->c += (size_t)MR * t->c_stride;
    for (int p = 0; p < NP && t->fetch[p]; p++) t->fetch[p] += t->fetch_bytes;
    t->y = t->y ? t->y + (size_t)MR * t->y_stride : NULL;
    t->m -= MR;
}

#ifdef LIMN_ROLLED
#define HEIGHTS(name, np) tile_##name(&t, mr, np)
#else
#define HEIGHTS(name, np)                                                                          \
    switch (mr) {                                                                                  \
    case 5: tile_##name(&t, 5, np); break;                                                         \
    case 4: tile_##name(&t, 4, np); break;                                                         \
    case 3: tile_##name(&t, 3, np); break;                                                         \
    case 2: tile_##name(&t, 2, np); break;                                                         \
    default: tile_##name(&t, 1, np); break;                                                        \
    }
#endif
#define TILE(name, np, suffix)                                                                     \
    static void name##suffix(const limn_quant_tile *all) {                                         \
        limn_quant_tile t = *all;                                                                  \
        size_t left = t.fetch_bytes, share = t.fetch_bytes / (size_t)((t.m + MR - 1) / MR) + 1;    \
        for (; t.m > 0; next_rows(&t)) {                                                           \
            int mr = t.m < MR ? t.m : MR;                                                          \
            t.fetch_bytes = share < left ? share : left;                                           \
            left -= t.fetch_bytes;                                                                 \
            HEIGHTS(name, np);                                                                     \
        }                                                                                          \
    }
#define TILES(name)                                                                                \
    TILE(name, 1, _one)                                                                            \
    TILE(name, 2, _pair)                                                                           \
    static void many_##name(const limn_quant_tile *t) {                                            \
        (t->panels > 1 ? name##_pair : name##_one)(t);                                             \
    }
TILES(signed)
TILES(powers)
TILES(minima)
TILES(sixes)

static void set(limn_quant_kernels *k, size_t group_bytes,
                void (*expand)(void *, float *, float *, const void *, size_t),
                void (*tile)(const limn_quant_tile *)) {
    k->wide = false;
    k->minima = false;
    k->pair = true;
    k->group_bytes = group_bytes;
    k->expand = expand;
    k->tile = tile;
}

void LIMN_ISA_FN(limn_gemm_fill_quant_vnni_tile)(limn_gemm_kernels *k) {
    set(&k->quant[LIMN_Q8_0], sizeof(group), expand_q8_0, many_signed);
    set(&k->quant[LIMN_Q4_0], sizeof(group), expand_q4_0, many_powers);
    set(&k->quant[LIMN_Q4_K], sizeof(group), expand_q4_k, many_minima);
    set(&k->quant[LIMN_Q5_K], sizeof(group), expand_q5_k, many_minima);
    set(&k->quant[LIMN_Q6_K], sizeof(group_6), expand_q6_k, many_sixes);
}
