/* SPDX-License-Identifier: MIT */
/*
 * Quantised panels times 8-bit activations with AVX2. A register holds four elements of eight
 * outputs; four elements of a row of x are broadcast against it.
 *
 * Codes without sign (four, five, six bits) go through vpmaddubsw, whose pair sums are added in 16
 * bits as long as they cannot overflow: 8 times 2 * 15 * 127, 4 times 2 * 31 * 127, twice 2 * 63 *
 * 127. Signed ones (q8_0) go through vpmaddwd, widened to 16 bits as even and odd elements, which
 * is why limn_q8_rows.w has its order. Up to four rows unpack the panel's blocks as they go (memory
 * is the limit); more rows share codes that were expanded once, where that is worth it.
 */
#include "kernels/gemm_body.h"
#include "kernels/quant_panel.h"
#include "kernels/x86/intrin.h"
#include "kernels/x86/quant_scales.h"

enum { NR = LIMN_QUANT_NR, MR = LIMN_QUANT_FEW, AHEAD = 2048 };

#define EACH_ROW _Pragma("GCC unroll 4") for (int r = 0; r < mr; r++)
#define EACH_HALF _Pragma("GCC unroll 2") for (int h = 0; h < 2; h++)

/* Keeps the compiler from adding up in another order, which would cost registers. */
#define PIN(v) __asm__("" : "+x"(v))

typedef struct sums {
    __m256i v[MR][2];
} sums;

LIMN_INLINE __m256i load(const void *p) {
    return _mm256_load_si256((const __m256i *)p);
}

LIMN_INLINE __m256i word(const void *p) {
    int32_t v;
    memcpy(&v, p, 4);
    return _mm256_set1_epi32(v);
}

LIMN_INLINE void clear(sums *a, const int mr) {
    EACH_ROW EACH_HALF a->v[r][h] = _mm256_setzero_si256();
}

/* Eight of the sixteen f16 at p. */
LIMN_INLINE __m256 halves(const uint8_t *p, int h) {
    return _mm256_cvtph_ps(_mm_load_si128((const __m128i *)(p + 16 * h)));
}

/* Eight of sixteen unsigned bytes. */
LIMN_INLINE __m256 bytes_f32(__m128i v, int h) {
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(h ? _mm_srli_si128(v, 8) : v));
}

/* The sums of a tile in memory or, for few rows, in registers. */
typedef struct totals {
    __m256 v[MR][2];
} totals;

LIMN_INLINE void totals_load(totals *c, const limn_quant_tile *t, const int mr) {
    EACH_ROW EACH_HALF c->v[r][h] = t->accumulate
                                        ? _mm256_load_ps(t->c + (size_t)r * t->c_stride + 8 * h)
                                        : _mm256_setzero_ps();
}

LIMN_INLINE void totals_store(const totals *c, const limn_quant_tile *t, const int mr) {
    EACH_ROW EACH_HALF _mm256_store_ps(t->c + (size_t)r * t->c_stride + 8 * h, c->v[r][h]);
}

/* What a row of x has for a group, broadcast. */
LIMN_INLINE __m256 one_of(const float *p, const limn_q8_rows *x, int r, size_t group) {
    return _mm256_broadcast_ss((const float *)((const char *)p + (size_t)r * x->stride) + group);
}

/* c = fma(sum, scale * d, c) */
LIMN_INLINE void add_sums(totals *c, const sums *a, const __m256 scale[2], const limn_q8_rows *x,
                          size_t group, const int mr) {
    EACH_ROW {
        __m256 d = one_of(x->d, x, r, group);
        EACH_HALF c->v[r][h] =
            _mm256_fmadd_ps(_mm256_cvtepi32_ps(a->v[r][h]), _mm256_mul_ps(scale[h], d), c->v[r][h]);
    }
}

/* c = fma(-min, s, c), before the sums of the same group */
LIMN_INLINE void sub_minima(totals *c, const __m256 min[2], const limn_q8_rows *x, size_t group,
                            const int mr) {
    EACH_ROW {
        __m256 s = one_of(x->s, x, r, group);
        EACH_HALF c->v[r][h] = _mm256_fnmadd_ps(min[h], s, c->v[r][h]);
    }
}

LIMN_INLINE __m256i pairs_to_32(__m256i pairs) {
    return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

/* Asks for what comes `ahead` bytes later. */
LIMN_INLINE void ask(const uint8_t *b, const int ahead, const int lines) {
#pragma GCC unroll 10
    for (int i = 0; i < lines; i++) _mm_prefetch((const char *)b + ahead + 64 * i, _MM_HINT_T0);
}

/* ---- few rows ---- */

/* Adds the products of word `s` with unsigned codes to sums of pairs. */
LIMN_INLINE void mul_u8(sums *a, const __m256i w[2], const limn_q8_rows *x, size_t at,
                        const int mr) {
    EACH_ROW {
        __m256i v = word(x->q + (size_t)r * x->stride + at);
        EACH_HALF {
            a->v[r][h] = _mm256_add_epi16(a->v[r][h], _mm256_maddubs_epi16(w[h], v));
            PIN(a->v[r][h]);
        }
    }
}

LIMN_INLINE void few_q8_0(const limn_quant_tile *t, const int mr) {
    const uint8_t *b = t->b;
    const limn_q8_rows x = t->x;
    totals c;
    totals_load(&c, t, mr);
    for (size_t g = t->group0; g < t->group0 + t->groups; g++, b += NR * 34) {
        sums a;
        clear(&a, mr);
        ask(b, AHEAD, 9);
#pragma GCC unroll 8
        for (int s = 0; s < 8; s++) {
            __m256i even[2], odd[2];
            EACH_HALF {
                __m256i w = load(b + s * 64 + h * 32);
                even[h] = _mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8);
                odd[h] = _mm256_srai_epi16(w, 8);
            }
            EACH_ROW {
                const int16_t *q = x.w + (size_t)r * (x.stride / 2) + g * 32 + 4 * (size_t)s;
                __m256i v0 = word(q), v1 = word(q + 2);
                EACH_HALF {
                    __m256i p = _mm256_add_epi32(_mm256_madd_epi16(even[h], v0),
                                                 _mm256_madd_epi16(odd[h], v1));
                    a.v[r][h] = _mm256_add_epi32(a.v[r][h], p);
                    PIN(a.v[r][h]);
                }
            }
        }
        __m256 scale[2] = {halves(b + NR * 32, 0), halves(b + NR * 32, 1)};
        add_sums(&c, &a, scale, &x, g, mr);
    }
    totals_store(&c, t, mr);
}

/* Pair sums of a group of four-bit codes. */
LIMN_INLINE void group_nibbles(sums *a, const uint8_t *b, const limn_q8_rows *x, size_t at,
                               const int mr) {
    const __m256i low = _mm256_set1_epi8(15);
    clear(a, mr);
#pragma GCC unroll 4
    for (int s = 0; s < 4; s++) {
        __m256i lo[2], hi[2];
        EACH_HALF {
            __m256i w = load(b + s * 64 + h * 32);
            lo[h] = _mm256_and_si256(w, low);
            hi[h] = _mm256_and_si256(_mm256_srli_epi16(w, 4), low);
        }
        mul_u8(a, lo, x, at + 4 * (size_t)s, mr);
        mul_u8(a, hi, x, at + 16 + 4 * (size_t)s, mr);
    }
    EACH_ROW EACH_HALF a->v[r][h] = pairs_to_32(a->v[r][h]);
}

/* Codes of q4_0 have 8 too much. */
LIMN_INLINE void sub_eights(sums *a, const limn_q8_rows *x, size_t group, const int mr) {
    EACH_ROW {
        __m256i p = _mm256_madd_epi16(word(x->h + (size_t)r * (x->stride / 2) + 2 * group),
                                      _mm256_set1_epi16(8));
        EACH_HALF a->v[r][h] = _mm256_sub_epi32(a->v[r][h], p);
    }
}

LIMN_INLINE void few_q4_0(const limn_quant_tile *t, const int mr) {
    const uint8_t *b = t->b;
    const limn_q8_rows x = t->x;
    totals c;
    totals_load(&c, t, mr);
    for (size_t g = t->group0; g < t->group0 + t->groups; g++, b += NR * 18) {
        sums a;
        ask(b, AHEAD, 5);
        __m256 scale[2];
        group_nibbles(&a, b, &x, g * 32, mr);
        sub_eights(&a, &x, g, mr);
        EACH_HALF scale[h] = halves(b + LIMN_QUANT_NIBBLES, h);
        add_sums(&c, &a, scale, &x, g, mr);
    }
    totals_store(&c, t, mr);
}

/* Fifth bits of word s, in place. */
LIMN_INLINE __m256i fifth_bit(__m256i bits, const int s) {
    const __m256i sixteen = _mm256_set1_epi8(16);
    bits = s < 4 ? _mm256_slli_epi16(bits, 4 - s) : _mm256_srli_epi16(bits, s - 4);
    return _mm256_and_si256(bits, sixteen);
}

/* Pair sums of a group of five-bit codes. */
LIMN_INLINE void group_fives(sums *a, const uint8_t *b, const limn_q8_rows *x, size_t at,
                             const int mr) {
    const __m256i low = _mm256_set1_epi8(15);
    sums high;
    clear(a, mr);
    clear(&high, mr);
    __m256i bits[2];
    EACH_HALF bits[h] = load(b + LIMN_QUANT_NIBBLES + 32 * h);
#pragma GCC unroll 4
    for (int s = 0; s < 4; s++) {
        __m256i lo[2], hi[2];
        EACH_HALF {
            __m256i w = load(b + s * 64 + h * 32);
            lo[h] = _mm256_or_si256(_mm256_and_si256(w, low), fifth_bit(bits[h], s));
            hi[h] = _mm256_or_si256(_mm256_and_si256(_mm256_srli_epi16(w, 4), low),
                                    fifth_bit(bits[h], s + 4));
        }
        mul_u8(a, lo, x, at + 4 * (size_t)s, mr);
        mul_u8(&high, hi, x, at + 16 + 4 * (size_t)s, mr);
    }
    EACH_ROW EACH_HALF a->v[r][h] =
        _mm256_add_epi32(pairs_to_32(a->v[r][h]), pairs_to_32(high.v[r][h]));
}

LIMN_INLINE void few_k45(const limn_quant_tile *t, const int mr, const bool fifth) {
    const uint8_t *b = t->b;
    const limn_q8_rows x = t->x;
    totals c;
    totals_load(&c, t, mr);
    for (size_t g0 = t->group0; g0 < t->group0 + t->groups; g0 += 8) {
        const uint8_t *head = b;
        __m256 d[2], dmin[2];
        EACH_HALF {
            d[h] = halves(head, h);
            dmin[h] = halves(head + 2 * NR, h);
        }
        ask(b, AHEAD, 4);
        b += LIMN_QUANT_K_HEAD;
/* unrolled, it would leave the cache of decoded instructions: 12 GB/s instead of 24 */
#pragma GCC unroll 1
        for (int i = 0; i < 8; i++) {
            size_t g = g0 + (size_t)i;
            sums a;
            __m128i sc, m;
            ask(b, AHEAD, fifth ? 5 : 4);
            scales_k45(&sc, &m, head, i);
            __m256 scale[2], min[2];
            EACH_HALF min[h] = _mm256_mul_ps(dmin[h], bytes_f32(m, h));
            sub_minima(&c, min, &x, g, mr);
            if (fifth)
                group_fives(&a, b, &x, g * 32, mr);
            else
                group_nibbles(&a, b, &x, g * 32, mr);
            EACH_HALF scale[h] = _mm256_mul_ps(d[h], bytes_f32(sc, h));
            add_sums(&c, &a, scale, &x, g, mr);
            b += LIMN_QUANT_NIBBLES + (fifth ? 4 * NR : 0);
        }
    }
    totals_store(&c, t, mr);
}

LIMN_INLINE void few_q4_k(const limn_quant_tile *t, const int mr) {
    few_k45(t, mr, false);
}

LIMN_INLINE void few_q5_k(const limn_quant_tile *t, const int mr) {
    few_k45(t, mr, true);
}

/* Top bits of word s of a group, where they belong in the code. */
LIMN_INLINE __m256i top_bits(__m256i field, const int s) {
    field = s % 4 == 0   ? _mm256_slli_epi16(field, 4)
            : s % 4 == 1 ? _mm256_slli_epi16(field, 2)
            : s % 4 == 2 ? field
                         : _mm256_srli_epi16(field, 2);
    return _mm256_and_si256(field, _mm256_set1_epi8(48));
}

/* Eight of sixteen signed scales, one in each 16 bits of a 32-bit lane. */
LIMN_INLINE __m256i scales_16(const uint8_t *p, int h) {
    __m256i v = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(p + 8 * h)));
    return _mm256_blend_epi16(v, _mm256_slli_epi32(v, 16), 0xaa);
}

/* Words 4 part .. 4 part + 3 of both halves: unsigned codes of sixteen elements. */
LIMN_INLINE void sixes(__m256i w[4][2], const uint8_t *b, const int part) {
    const __m256i low = _mm256_set1_epi8(15);
    EACH_HALF {
        __m256i top = load(b + LIMN_QUANT_NIBBLES + part * 64 + h * 32);
#pragma GCC unroll 4
        for (int s = 0; s < 4; s++) {
            __m256i v = load(b + s * 64 + h * 32);
            if (part) v = _mm256_srli_epi16(v, 4);
            w[s][h] = _mm256_or_si256(_mm256_and_si256(v, low), top_bits(top, s));
        }
    }
}

/* Sum over a group of scale * (code - 32) * x: the 32 goes through the sums of x. */
LIMN_INLINE void group_sixes(sums *a, const uint8_t *b, const uint8_t *scales,
                             const limn_q8_rows *x, size_t group, const int mr) {
    __m256i sc[2][2]; /* [part][half] */
#pragma GCC unroll 2
    for (int part = 0; part < 2; part++) EACH_HALF sc[part][h] = scales_16(scales + part * NR, h);
    EACH_HALF {
        __m256i both = _mm256_blend_epi16(sc[0][h], sc[1][h], 0xaa);
        EACH_ROW {
            __m256i p =
                _mm256_madd_epi16(both, word(x->h + (size_t)r * (x->stride / 2) + 2 * group));
            a->v[r][h] = _mm256_sub_epi32(_mm256_setzero_si256(), _mm256_slli_epi32(p, 5));
        }
    }
#pragma GCC unroll 2
    for (int part = 0; part < 2; part++) {
        __m256i w[4][2];
        sixes(w, b, part);
#pragma GCC unroll 2
        for (int s = 0; s < 4; s += 2) EACH_ROW {
                const int8_t *q = x->q + (size_t)r * x->stride + group * 32 + 16 * part + 4 * s;
                __m256i v0 = word(q), v1 = word(q + 4);
                EACH_HALF {
                    __m256i pairs = _mm256_add_epi16(_mm256_maddubs_epi16(w[s][h], v0),
                                                     _mm256_maddubs_epi16(w[s + 1][h], v1));
                    a->v[r][h] =
                        _mm256_add_epi32(a->v[r][h], _mm256_madd_epi16(pairs, sc[part][h]));
                    PIN(a->v[r][h]);
                }
            }
    }
}

LIMN_INLINE void few_q6_k(const limn_quant_tile *t, const int mr) {
    const uint8_t *b = t->b;
    const limn_q8_rows x = t->x;
    totals c;
    totals_load(&c, t, mr);
    for (size_t g0 = t->group0; g0 < t->group0 + t->groups; g0 += 8) {
        const uint8_t *head = b;
        __m256 d[2];
        EACH_HALF d[h] = halves(head, h);
        ask(b, AHEAD, 5);
        b += LIMN_QUANT_6_HEAD;
        for (int i = 0; i < 8; i++) {
            size_t g = g0 + (size_t)i;
            sums a;
            ask(b, AHEAD, 6);
            group_sixes(&a, b, head + LIMN_QUANT_6_SCALES + 2 * NR * i, &x, g, mr);
            add_sums(&c, &a, d, &x, g, mr);
            b += LIMN_QUANT_NIBBLES + 8 * NR;
        }
    }
    totals_store(&c, t, mr);
}

/* ---- expansion ---- */

LIMN_INLINE void put_nibbles(__m256i *out, const uint8_t *b) {
    const __m256i low = _mm256_set1_epi8(15);
    for (int i = 0; i < 8; i++) {
        __m256i w = load(b + 32 * i);
        out[i] = _mm256_and_si256(w, low);
        out[i + 8] = _mm256_and_si256(_mm256_srli_epi16(w, 4), low);
    }
}

static void expand_q4_0(void *codes, float *scale, float *min, const void *blocks, size_t groups) {
    const uint8_t *b = blocks;
    __m256i *out = codes;
    (void)min;
    for (size_t g = 0; g < groups; g++, b += NR * 18, out += 16, scale += NR) {
        put_nibbles(out, b);
        EACH_HALF _mm256_store_ps(scale + 8 * h, halves(b + LIMN_QUANT_NIBBLES, h));
    }
}

LIMN_INLINE void expand_k45(__m256i *out, float *scale, float *min, const uint8_t *b, size_t groups,
                            const bool fifth) {
    for (size_t g0 = 0; g0 < groups; g0 += 8) {
        const uint8_t *head = b;
        b += LIMN_QUANT_K_HEAD;
        for (int i = 0; i < 8; i++, out += 16, scale += NR, min += NR) {
            __m128i sc, m;
            scales_k45(&sc, &m, head, i);
            put_nibbles(out, b);
            EACH_HALF {
                __m256i bits = fifth ? load(b + LIMN_QUANT_NIBBLES + 32 * h) : load(b);
#pragma GCC unroll 8
                for (int s = 0; fifth && s < 8; s++)
                    out[2 * s + h] = _mm256_or_si256(out[2 * s + h], fifth_bit(bits, s));
                _mm256_store_ps(scale + 8 * h, _mm256_mul_ps(halves(head, h), bytes_f32(sc, h)));
                _mm256_store_ps(min + 8 * h,
                                _mm256_mul_ps(halves(head + 2 * NR, h), bytes_f32(m, h)));
            }
            b += LIMN_QUANT_NIBBLES + (fifth ? 4 * NR : 0);
        }
    }
}

static void expand_q4_k(void *codes, float *scale, float *min, const void *blocks, size_t groups) {
    expand_k45(codes, scale, min, blocks, groups, false);
}

static void expand_q5_k(void *codes, float *scale, float *min, const void *blocks, size_t groups) {
    expand_k45(codes, scale, min, blocks, groups, true);
}

/* ---- many rows ---- */

LIMN_INLINE void load_scales(__m256 v[2], const float *p, size_t g) {
    EACH_HALF v[h] = _mm256_load_ps(p + g * NR + 8 * (size_t)h);
}

/* Unsigned codes; `fold` words are added up in 16 bits. With minima, or with 8 too much. */
LIMN_INLINE void tile_u8(const limn_quant_tile *t, const int mr, const int fold,
                         const bool minima) {
    const limn_q8_rows x = t->x;
    const uint8_t *b = t->b;
    const float *scales = t->scale, *mins = t->min;
    const int8_t *q = x.q + t->group0 * 32;
    const size_t groups = t->groups, group0 = t->group0;
    totals c;
    totals_load(&c, t, mr);
    for (size_t g = 0; g < groups; g++, b += 32 * NR, q += 32) {
        sums all, a;
#pragma GCC unroll 2
        for (int f = 0; f < 8; f += fold) {
#pragma GCC unroll 8
            for (int s = f; s < f + fold; s++) {
                __m256i w[2] = {load(b + s * 64), load(b + s * 64 + 32)};
                EACH_ROW {
                    __m256i v = word(q + (size_t)r * x.stride + 4 * s);
                    EACH_HALF {
                        __m256i p = _mm256_maddubs_epi16(w[h], v);
                        a.v[r][h] = s == f ? p : _mm256_add_epi16(a.v[r][h], p);
                        PIN(a.v[r][h]);
                    }
                }
            }
            EACH_ROW EACH_HALF {
                __m256i p = pairs_to_32(a.v[r][h]);
                all.v[r][h] = f == 0 ? p : _mm256_add_epi32(all.v[r][h], p);
            }
        }
        __m256 scale[2], min[2];
        load_scales(scale, scales, g);
        if (minima) {
            load_scales(min, mins, g);
            sub_minima(&c, min, &x, group0 + g, mr);
        } else {
            sub_eights(&all, &x, group0 + g, mr);
        }
        add_sums(&c, &all, scale, &x, group0 + g, mr);
    }
    totals_store(&c, t, mr);
}

LIMN_INLINE void tile_q4_0(const limn_quant_tile *t, const int mr) {
    tile_u8(t, mr, 8, false);
}

LIMN_INLINE void tile_q4_k(const limn_quant_tile *t, const int mr) {
    tile_u8(t, mr, 8, true);
}

LIMN_INLINE void tile_q5_k(const limn_quant_tile *t, const int mr) {
    tile_u8(t, mr, 4, true);
}

/* These are unpacked cheaply enough to be unpacked for every four rows. */
LIMN_INLINE void tile_q8_0(const limn_quant_tile *t, const int mr) {
    few_q8_0(t, mr);
}

LIMN_INLINE void tile_q6_k(const limn_quant_tile *t, const int mr) {
    few_q6_k(t, mr);
}

LIMN_INLINE void next_rows(limn_quant_tile *t) {
    size_t bytes = MR * t->x.stride;
    t->x.q += bytes;
    t->x.w = t->x.w ? t->x.w + bytes / 2 : NULL;
    t->x.d += bytes / 4;
    t->x.s += bytes / 4;
    t->x.h += bytes / 2;
    t->c += MR * t->c_stride;
}

#define FEW(name)                                                                                  \
    static void rows_##name(const limn_quant_tile *t) {                                            \
        switch (t->m) {                                                                            \
        case 1: few_##name(t, 1); break;                                                           \
        case 2: few_##name(t, 2); break;                                                           \
        case 3: few_##name(t, 3); break;                                                           \
        default: few_##name(t, 4); break;                                                          \
        }                                                                                          \
    }
#define TILE(name)                                                                                 \
    static void many_##name(const limn_quant_tile *all) {                                          \
        limn_quant_tile t = *all;                                                                  \
        for (; t.m >= MR; t.m -= MR) {                                                             \
            tile_##name(&t, MR);                                                                   \
            next_rows(&t);                                                                         \
        }                                                                                          \
        if (t.m == 3) tile_##name(&t, 3);                                                          \
        if (t.m == 2) tile_##name(&t, 2);                                                          \
        if (t.m == 1) tile_##name(&t, 1);                                                          \
    }
FEW(q8_0)
FEW(q4_0)
FEW(q4_k)
FEW(q5_k)
FEW(q6_k)
TILE(q4_0)
TILE(q4_k)
TILE(q5_k)
TILE(q8_0)
TILE(q6_k)

#define SET(ID, has_wide, has_min, bytes, few_name, fn, tile_name)                                 \
    k->quant[LIMN_##ID] = (limn_quant_kernels) {                                                   \
        .wide = has_wide, .minima = has_min, .few_rows = MR, .group_bytes = bytes * NR,            \
        .few = rows_##few_name, .expand = fn, .tile = many_##tile_name                             \
    }

void limn_gemm_fill_quant_avx2(limn_gemm_kernels *k) {
    SET(Q8_0, true, false, 34, q8_0, NULL, q8_0);
    SET(Q4_0, false, false, 32, q4_0, expand_q4_0, q4_0);
    SET(Q4_K, false, true, 32, q4_k, expand_q4_k, q4_k);
    SET(Q5_K, false, true, 32, q5_k, expand_q5_k, q5_k);
    SET(Q6_K, false, false, 27, q6_k, NULL, q6_k);
}
