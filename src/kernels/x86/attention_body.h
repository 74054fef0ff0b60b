/* SPDX-License-Identifier: MIT */
/*
 * Streaming attention on f32 vectors, for any vec_*.h. See attention.h for the contract.
 *
 * A tile holds its queries in panels of QW = 2 VF. Everything of a panel lies across the lanes:
 *     queries  Q [dim, QW]      scores  S [keys, QW]      result  O [dim_v, QW]
 * so that maxima, sums and rescaling are plain vector operations, and both products are the same
 * kernel: a few rows of broadcast elements (of K, then of V) times two vectors, accumulated in
 * registers. K and V are copied (converted) once per tile and key range into contiguous memory;
 * neither needs a transposed layout. Scores are kept in units of log2, so that exp is 2^x.
 *
 * The products work on 32-bit words: a word is one f32, or two bf16 that follow each other along
 * the summed dimension (PAIRS 2: along dim in Q and K, along the keys in S and V). Words replace
 * the f32 numbers in place, in the first half of a row (Q, K) or of the rows (S, V).
 *
 * The including file defines PAIRS, dot_words(acc, e, w) = acc + e . w, for PAIRS 2
 * pair_words(low, high), and ROWS_MAIN (rows of the register block), ROWS_PAD (row counts are
 * rounded up to it, and to 4 at least) and NEXT_ROWS(left), the block to use next.
 */
#include <math.h>

#include "kernels/attention.h"
#include "kernels/kernels.h"
#include "kernels/x86/transpose8.h"
#include "kernels/x86/vec_math.h"

enum { QW = 2 * VF, V_ROUND = PAIRS == 2 ? VF : 8 };

#define ALWAYS_INLINE static inline __attribute__((always_inline))

static const float LOG2_E = 1.442695041f;
static const float MASKED = -3.3e38f; /* -2.3e38 in units of log2 */

static int64_t round8(int64_t n) {
    return (n + 7) & ~(int64_t)7;
}

static int64_t pad_rows(int64_t n) {
    n = (n + ROWS_PAD - 1) / ROWS_PAD * ROWS_PAD;
    return n < 4 ? 4 : n;
}

/* Keys that are handled at a time: K and V tiles should stay in the second-level cache. */
static int64_t key_tile(const limn_attention_args *a) {
    return a->dim > 160 || limn_attention_dim_v(a) > 160 ? 48 : 96;
}

typedef struct tile_memory {
    float *q, *o; /* [panels, dim8, QW], [panels, dim_v8, QW] */
    float *m, *l; /* [panels, QW] running maximum (log2 units) and sum */
    float *k, *v; /* [key_tile, k_stride], [key_tile, v_stride]; k also stages rows */
    float *s, *b; /* [key_tile, QW] scores; bias across the lanes */
    float *rows;  /* [QW, key_tile] bias rows before they are turned */
    int64_t keys, k_stride, v_stride, panels;
} tile_memory;

static float *take(uintptr_t *at, int64_t floats) {
    float *p = (float *)*at;
    *at += ((size_t)floats * 4 + 63) & ~(size_t)63;
    return p;
}

static tile_memory lay_out(const limn_attention_args *a, int64_t queries, uintptr_t *at) {
    int64_t dv = limn_attention_dim_v(a);
    tile_memory t = {.keys = key_tile(a),
                     .k_stride = round8(a->dim + PAIRS - 1),
                     .v_stride = (pad_rows(dv) + V_ROUND - 1) / V_ROUND * V_ROUND,
                     .panels = (queries + QW - 1) / QW};
    int64_t wide = t.k_stride > t.v_stride ? t.k_stride : t.v_stride;
    t.q = take(at, t.panels * t.k_stride * QW);
    t.o = take(at, t.panels * t.v_stride * QW);
    t.m = take(at, t.panels * QW);
    t.l = take(at, t.panels * QW);
    t.k = take(at, t.keys * wide);
    t.v = take(at, t.keys * t.v_stride);
    t.s = take(at, t.keys * QW);
    t.b = take(at, t.keys * QW);
    t.rows = take(at, t.keys * QW);
    return t;
}

static size_t tile_bytes_v(const limn_attention_args *a, int64_t queries) {
    uintptr_t at = 0;
    lay_out(a, queries, &at);
    return at;
}

static int64_t word_count(int64_t n) {
    return (n + PAIRS - 1) / PAIRS;
}

/* S[r] = K[r] . Q for R keys; top: running maximum per lane */
ALWAYS_INLINE void score_block(const int R, float *s, const float *q, const float *k,
                               int64_t k_stride, int64_t words, vf *top0, vf *top1) {
    vf acc[ROWS_MAIN][2];
    LIMN_UNROLL
    for (int r = 0; r < R; r++) acc[r][0] = acc[r][1] = vf_zero();
    for (int64_t d = 0; d < words; d++) {
        vf q0 = vf_load(q + d * QW), q1 = vf_load(q + d * QW + VF);
        LIMN_UNROLL
        for (int r = 0; r < R; r++) {
            vf e = vf_set1(k[r * k_stride + d]);
            acc[r][0] = dot_words(acc[r][0], e, q0);
            acc[r][1] = dot_words(acc[r][1], e, q1);
        }
    }
    LIMN_UNROLL
    for (int r = 0; r < R; r++) {
        vf_store(s + r * QW, acc[r][0]);
        vf_store(s + r * QW + VF, acc[r][1]);
        *top0 = vf_max(acc[r][0], *top0);
        *top1 = vf_max(acc[r][1], *top1);
    }
}

/* O[r] = O[r] * keep + sum_j V[j][r] S[j] for R columns of V; j counts rows of words */
ALWAYS_INLINE void mix_block(const int R, float *o, const float *s, const float *v,
                             int64_t v_stride, int64_t rows, vf keep0, vf keep1) {
    vf acc[ROWS_MAIN][2];
    LIMN_UNROLL
    for (int r = 0; r < R; r++) {
        acc[r][0] = vf_mul(vf_load(o + r * QW), keep0);
        acc[r][1] = vf_mul(vf_load(o + r * QW + VF), keep1);
    }
    for (int64_t j = 0; j < rows; j++) {
        vf p0 = vf_load(s + j * QW), p1 = vf_load(s + j * QW + VF);
        const float *row = v + j * v_stride;
        LIMN_UNROLL
        for (int r = 0; r < R; r++) {
            vf e = vf_set1(row[r]);
            acc[r][0] = dot_words(acc[r][0], e, p0);
            acc[r][1] = dot_words(acc[r][1], e, p1);
        }
    }
    LIMN_UNROLL
    for (int r = 0; r < R; r++) {
        vf_store(o + r * QW, acc[r][0]);
        vf_store(o + r * QW + VF, acc[r][1]);
    }
}

static void scores(float *s, const float *q, const float *k, int64_t k_stride, int64_t words,
                   int64_t keys, vf top[2]) {
    vf t0 = vf_set1(-INFINITY), t1 = t0;
    for (int64_t j = 0, n; j < keys; j += n, s += n * QW, k += n * k_stride) {
        n = NEXT_ROWS(keys - j);
        switch (n) {
        case ROWS_MAIN: score_block(ROWS_MAIN, s, q, k, k_stride, words, &t0, &t1); break;
        case 8: score_block(8 < ROWS_MAIN ? 8 : 4, s, q, k, k_stride, words, &t0, &t1); break;
        default: score_block(4, s, q, k, k_stride, words, &t0, &t1); break;
        }
    }
    top[0] = t0, top[1] = t1;
}

static void mix(float *o, const float *s, const float *v, int64_t v_stride, int64_t cols,
                int64_t rows, const vf keep[2]) {
    for (int64_t d = 0, n; d < cols; d += n, o += n * QW, v += n) {
        n = NEXT_ROWS(cols - d);
        switch (n) {
        case ROWS_MAIN: mix_block(ROWS_MAIN, o, s, v, v_stride, rows, keep[0], keep[1]); break;
        case 8: mix_block(8 < ROWS_MAIN ? 8 : 4, o, s, v, v_stride, rows, keep[0], keep[1]); break;
        default: mix_block(4, o, s, v, v_stride, rows, keep[0], keep[1]); break;
        }
    }
}

/* One panel and what of it is masked in the key range from k0. */
typedef struct panel {
    float *q, *o, *m, *l;
    int64_t i0, rows; /* first query, queries */
    bool masked;      /* bias, or a causal limit within this range */
} panel;

/* Bias of the panel's queries for keys [k0, k0 + keys) across the lanes. */
static void turn_bias(const limn_attention_block *b, const tile_memory *t, const panel *p,
                      int64_t k0, int64_t keys) {
    for (int64_t i = 0; i < QW; i++) {
        const float *row = limn_attention_bias_row(b->a, b->batch, b->head0,
                                                   p->i0 + (i < p->rows ? i : p->rows - 1));
        memcpy(t->rows + i * t->keys, row + k0, (size_t)keys * 4);
    }
    transpose_blocks(t->b, QW, t->rows, t->keys, QW, keys);
}

/* Adds the bias, masks what lies behind the causal limit, and finds the maxima of the first `keys`
 * rows of S. */
static void mask_scores(const limn_attention_block *b, const tile_memory *t, const panel *p,
                        int64_t k0, int64_t keys, vf top[2]) {
    _Alignas(64) float limit[QW];
    for (int64_t i = 0; i < QW; i++)
        limit[i] = (float)(limn_attention_visible(b->a, p->i0 + i) - k0);
    if (b->a->bias) turn_bias(b, t, p, k0, keys);
    vf low = vf_set1(-INFINITY);
    for (int w = 0; w < 2; w++) {
        vf see = vf_load(limit + w * VF), high = low;
        for (int64_t j = 0; j < keys; j++) {
            float *s = t->s + j * QW + w * VF;
            vf x = vf_load(s);
            if (b->a->bias) x = vf_fma(vf_load(t->b + j * QW + w * VF), vf_set1(LOG2_E), x);
            x = vf_select(vf_lt(vf_set1((float)j), see), x, low);
            vf_store(s, x);
            high = vf_max(x, high);
        }
        top[w] = high;
    }
}

/* Two rows of weights of the key pair j, j + 1 into S, as words. */
static inline void store_weights(float *s, int64_t j, int w, vf e0, vf e1) {
#if PAIRS == 2
    vf_store(s + j / 2 * QW + w * VF, pair_words(e0, e1));
#else
    vf_store(s + j * QW + w * VF, e0);
    vf_store(s + (j + 1) * QW + w * VF, e1);
#endif
}

/* S becomes 2^(S - m) with the new maximum m, in words; updates m and l; keep: factor for what was
 * there. S has a spare row after an odd number of keys. */
static void weights(float *s, const panel *p, int64_t keys, const vf top[2], vf keep[2]) {
    for (int w = 0; w < 2; w++) {
        vf old = vf_load(p->m + w * VF), m = vf_max(top[w], old);
        m = vf_select(vf_lt(m, vf_set1(MASKED)), vf_set1(-INFINITY), m);
        vf shift = vf_select(vf_lt(m, vf_set1(MASKED)), vf_zero(), m);
        keep[w] = vm_exp2_neg(vf_sub(old, shift));
        vf sum0 = vf_zero(), sum1 = vf_zero();
        int64_t j = 0;
        for (; j + 2 <= keys; j += 2) {
            float *x = s + j * QW + w * VF;
            vf e0 = vm_exp2_neg(vf_sub(vf_load(x), shift));
            vf e1 = vm_exp2_neg(vf_sub(vf_load(x + QW), shift));
            store_weights(s, j, w, e0, e1);
            sum0 = vf_add(sum0, e0);
            sum1 = vf_add(sum1, e1);
        }
        if (j < keys) {
            vf e = vm_exp2_neg(vf_sub(vf_load(s + j * QW + w * VF), shift));
            store_weights(s, j, w, e, vf_zero());
            sum0 = vf_add(sum0, e);
        }
        vf_store(p->m + w * VF, m);
        vf_store(p->l + w * VF, vf_fma(vf_load(p->l + w * VF), keep[w], vf_add(sum0, sum1)));
    }
}

static panel panel_at(const limn_attention_block *b, const tile_memory *t, int64_t i) {
    panel p = {.q = t->q + i * t->k_stride * QW,
               .o = t->o + i * t->v_stride * QW,
               .m = t->m + i * QW,
               .l = t->l + i * QW,
               .i0 = b->q0 + i * QW};
    p.rows = b->q_count - i * QW < QW ? b->q_count - i * QW : QW;
    return p;
}

/* f32 rows to words, in place; `n` elements each, and a zero where the last pair is half. */
static void narrow_rows(const limn_attention_block *b, float *rows, int64_t stride, int64_t count,
                        int64_t n) {
#if PAIRS == 2
    for (int64_t i = 0; i < count; i++) {
        float *row = rows + i * stride;
        if (n % 2) row[n] = 0;
        b->kernels->elementwise.f32_to_bf16((uint16_t *)row, row, n + n % 2);
    }
#else
    (void)b, (void)rows, (void)stride, (void)count, (void)n;
#endif
}

/* V rows to rows of words, in place: row j takes rows 2j and 2j + 1. */
static void pair_rows(const tile_memory *t, int64_t keys) {
#if PAIRS == 2
    if (keys % 2) memset(t->v + keys * t->v_stride, 0, (size_t)t->v_stride * 4);
    for (int64_t j = 0; j < keys; j += 2) {
        const float *low = t->v + j * t->v_stride, *high = low + t->v_stride;
        float *to = t->v + j / 2 * t->v_stride;
        for (int64_t d = 0; d < t->v_stride; d += VF)
            vf_store(to + d, pair_words(vf_load(low + d), vf_load(high + d)));
    }
#else
    (void)t, (void)keys;
#endif
}

/* Queries into panels, scaled; empty results. */
static void begin_tile(const limn_attention_block *b, const tile_memory *t) {
    const limn_attention_args *a = b->a;
    float scale = limn_attention_scale(a) * LOG2_E;
    for (int64_t i = 0; i < t->panels; i++) {
        panel p = panel_at(b, t, i);
        memset(t->k, 0, (size_t)(QW * t->k_stride) * 4);
        limn_attention_load(b->kernels, t->k, t->k_stride, &a->q, b->batch, b->head0, p.i0, p.rows,
                            a->dim);
        b->kernels->elementwise.affine(t->k, t->k, scale, 0, QW * t->k_stride);
        narrow_rows(b, t->k, t->k_stride, QW, a->dim);
        transpose_blocks(p.q, QW, t->k, t->k_stride, QW, t->k_stride);
        memset(p.o, 0, (size_t)(t->v_stride * QW) * 4);
        for (int j = 0; j < QW; j++) p.m[j] = -INFINITY, p.l[j] = 0;
    }
}

/* Results of the panels, divided by the sums, to the output rows. */
static void end_tile(const limn_attention_block *b, const tile_memory *t) {
    for (int64_t i = 0; i < t->panels; i++) {
        panel p = panel_at(b, t, i);
        _Alignas(64) float inv[QW];
        for (int j = 0; j < QW; j++) inv[j] = p.l[j] != 0 ? 1.0f / p.l[j] : 0.0f; /* NaN stays */
        for (int64_t d = 0; d < t->v_stride; d++)
            for (int w = 0; w < 2; w++) {
                float *o = p.o + d * QW + w * VF;
                vf_store(o, vf_mul(vf_load(o), vf_load(inv + w * VF)));
            }
        transpose_blocks(t->k, t->v_stride, p.o, QW, t->v_stride, QW);
        for (int64_t r = 0; r < p.rows; r++)
            limn_attention_store(b, b->head0, p.i0 + r, t->k + r * t->v_stride);
    }
}

/* Keys [k0, k0 + keys) into the tile's memory; register blocks that overhang see the last key. */
static void load_keys(const limn_attention_block *b, const tile_memory *t, int64_t k0,
                      int64_t keys) {
    const limn_attention_args *a = b->a;
    int64_t head = b->head0 / (a->heads / a->kv_heads), dv = limn_attention_dim_v(a);
    limn_attention_load(b->kernels, t->k, t->k_stride, &a->k, b->batch, head, k0, keys, a->dim);
    narrow_rows(b, t->k, t->k_stride, keys, a->dim);
    for (int64_t j = keys; j < pad_rows(keys); j++) /* repeats: the maximum does not notice */
        memcpy(t->k + j * t->k_stride, t->k + (keys - 1) * t->k_stride, (size_t)t->k_stride * 4);
    limn_attention_load(b->kernels, t->v, t->v_stride, &a->v, b->batch, head, k0, keys, dv);
    if (t->v_stride > dv)
        for (int64_t j = 0; j < keys; j++)
            memset(t->v + j * t->v_stride + dv, 0, (size_t)(t->v_stride - dv) * 4);
    pair_rows(t, keys);
}

static void tile_v(const limn_attention_block *b, void *scratch) {
    const limn_attention_args *a = b->a;
    uintptr_t at = (uintptr_t)scratch;
    tile_memory t = lay_out(a, b->q_count, &at);
    int64_t dv = pad_rows(limn_attention_dim_v(a));
    int64_t last = limn_attention_visible(a, b->q0 + b->q_count - 1);
    begin_tile(b, &t);
    for (int64_t k0 = 0; k0 < last; k0 += t.keys) {
        int64_t keys = a->len_k - k0 < t.keys ? a->len_k - k0 : t.keys;
        load_keys(b, &t, k0, keys);
        for (int64_t i = 0; i < t.panels; i++) {
            panel p = panel_at(b, &t, i);
            if (limn_attention_visible(a, p.i0 + p.rows - 1) <= k0) continue;
            p.masked = a->bias || limn_attention_visible(a, p.i0) < k0 + keys;
            vf top[2], keep[2];
            scores(t.s, p.q, t.k, t.k_stride, word_count(a->dim), pad_rows(keys), top);
            if (p.masked) mask_scores(b, &t, &p, k0, keys, top);
            weights(t.s, &p, keys, top, keep);
            mix(p.o, t.s, t.v, t.v_stride, dv, word_count(keys), keep);
        }
    }
    end_tile(b, &t);
}

static const limn_attention_tiler tiler = {QW, tile_bytes_v, tile_v};
