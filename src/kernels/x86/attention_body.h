/* SPDX-License-Identifier: MIT */
/*
 * Streaming attention on f32 vectors, for any vec_*.h. See attention.h for the contract.
 *
 * A tile holds rows of queries in panels of QW = 2 VF; the heads that share a kv head follow each
 * other for each query, so that all of them use one copy of K and V, and a panel spans few queries.
 * Everything of a panel lies across the lanes:
 *     queries  Q [dim, QW]      scores  S [keys, QW]      result  O [dim_v, QW]
 * so that maxima, sums and rescaling are plain vector operations, and both products are the same
 * kernel: a few rows of broadcast elements (of K, then of V) times two vectors, accumulated in
 * registers. K and V are copied (converted) once per tile and key range into contiguous memory;
 * neither needs a transposed layout. Scores are kept in units of log2, so that exp is 2^x.
 *
 * The products work on 32-bit words: a word is one f32, or two bf16 that follow each other along
 * the summed dimension (PAIRS 2: along dim in Q and K, along the keys in S and V).
 *
 * The including file defines PAIRS, dot_words(acc, e, w) = acc + e . w, ROWS_MAIN (rows of the
 * register block), ROWS_PAD (row counts are rounded up to it, and to 4 at least) and
 * NEXT_ROWS(left), the block to use next; for PAIRS 2 also
 *     row_words(low, high)     words of 2 VF numbers of a row
 *     pair_words(low, high)    words of two rows
 *     weight_words(x0, x1)     pair_words(2^x0, 2^x1), powers below 2^-126 are 0
 */
#include <math.h>

#include "kernels/attention.h"
#include "kernels/rowio.h"
#include "kernels/kernels.h"
#include "kernels/x86/attention_load.h"
#include "kernels/x86/transpose8.h"
#include "kernels/x86/vec_math.h"

enum { QW = 2 * VF, WORD_ROUND = PAIRS == 2 ? VF : 8 };

#define ALWAYS_INLINE static inline __attribute__((always_inline))

static const float LOG2_E = 1.442695041f;
static const float MASKED = -3.3e38f; /* -2.3e38 in units of log2 */
/* A maximum counts as the running maximum until a score passes it by so much: weights may be up to
 * 2^8, which costs no digit, and results are hardly ever rescaled. */
static const float SLACK = 8;

static int64_t round_words(int64_t n) {
    return (n + WORD_ROUND - 1) / WORD_ROUND * WORD_ROUND;
}

static int64_t pad_rows(int64_t n) {
    n = (n + ROWS_PAD - 1) / ROWS_PAD * ROWS_PAD;
    return n < 4 ? 4 : n;
}

static int64_t word_count(int64_t n) {
    return (n + PAIRS - 1) / PAIRS;
}

/* Keys that are handled at a time: K and V tiles should stay in the second-level cache. */
static int64_t key_tile(const limn_attention_args *a) {
    return a->dim > 160 || limn_attention_dim_v(a) > 160 ? 48 : 96;
}

typedef struct tile_memory {
    float *q, *o; /* [panels, words, QW], [panels, v_stride, QW] */
    float *m, *l; /* [panels, QW] running maximum (log2 units) and sum */
    float *k, *v; /* words: [keys, words], [word_count(keys), v_stride] */
    float *s, *b; /* [keys, QW] scores; bias across the lanes */
    float *rows;  /* [QW, wide] rows before they are turned, or become words */
    int64_t keys, words, v_stride, wide, panels;
} tile_memory;

static float *take(uintptr_t *at, int64_t floats) {
    float *p = (float *)*at;
    *at += ((size_t)floats * 4 + 63) & ~(size_t)63;
    return p;
}

static tile_memory lay_out(const limn_attention_args *a, int64_t rows, uintptr_t *at) {
    int64_t dim = a->dim > limn_attention_dim_v(a) ? a->dim : limn_attention_dim_v(a);
    tile_memory t = {.keys = key_tile(a),
                     .words = round_words(word_count(a->dim)),
                     .v_stride = round_words(pad_rows(limn_attention_dim_v(a))),
                     .panels = (rows + QW - 1) / QW};
    t.wide = round_words(pad_rows(dim));
    if (t.wide < t.keys) t.wide = t.keys;
    t.q = take(at, t.panels * t.words * QW);
    t.o = take(at, t.panels * t.v_stride * QW);
    t.m = take(at, t.panels * QW);
    t.l = take(at, t.panels * QW);
    t.k = take(at, t.keys * t.words);
    t.v = take(at, word_count(t.keys) * t.v_stride);
    t.s = take(at, t.keys * QW);
    t.b = take(at, t.keys * QW);
    t.rows = take(at, t.wide * QW);
    return t;
}

static size_t tile_bytes_v(const limn_attention_args *a, int64_t rows) {
    uintptr_t at = 0;
    lay_out(a, rows, &at);
    return at;
}

/* One panel of rows; row r is of query r / heads of the block and its head r % heads. */
typedef struct panel {
    float *q, *o, *m, *l;
    int64_t r0, rows;    /* first row in the tile, rows */
    int64_t first, last; /* queries of the first and the last row */
} panel;

static panel panel_at(const limn_attention_block *b, const tile_memory *t, int64_t i) {
    panel p = {.q = t->q + i * t->words * QW,
               .o = t->o + i * t->v_stride * QW,
               .m = t->m + i * QW,
               .l = t->l + i * QW,
               .r0 = i * QW};
    int64_t left = b->q_count * b->heads - p.r0;
    p.rows = left < QW ? left : QW;
    p.first = b->q0 + p.r0 / b->heads;
    p.last = b->q0 + (p.r0 + p.rows - 1) / b->heads;
    return p;
}

/* What scores are less than they are: the running maximum, or 0 before there is one. */
static inline vf shift_of(const float *m) {
    vf x = vf_load(m);
    return vf_select(vf_lt(x, vf_set1(MASKED)), vf_zero(), x);
}

/* S[r] = K[r] . Q - shift for R keys; top: running maximum per lane */
ALWAYS_INLINE void score_block(const int R, float *s, const float *q, const float *k,
                               int64_t k_stride, int64_t words, const vf shift[2], vf *top0,
                               vf *top1) {
    vf acc[ROWS_MAIN][2];
    LIMN_UNROLL
    for (int r = 0; r < R; r++) {
        acc[r][0] = vf_sub(vf_zero(), shift[0]);
        acc[r][1] = vf_sub(vf_zero(), shift[1]);
    }
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

/* O[r] += sum_j V[j][r] S[j] for R columns of V; j counts rows of words */
ALWAYS_INLINE void mix_block(const int R, float *o, const float *s, const float *v,
                             int64_t v_stride, int64_t rows) {
    vf acc[ROWS_MAIN][2];
    LIMN_UNROLL
    for (int r = 0; r < R; r++) {
        acc[r][0] = vf_load(o + r * QW);
        acc[r][1] = vf_load(o + r * QW + VF);
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

/* Rows that are asked for while something else is worked on: a few beside each register block,
 * since a processor waits when too many are on their way. */
typedef struct ahead {
    limn_attention_strip rows;
    int64_t left, count; /* rows: still to be asked for, and at first */
    int64_t steps, due;  /* over so many steps; what is due, in 1 / steps of a row */
} ahead;

static inline void ask(ahead *x, int64_t steps) {
    for (x->due += steps * x->count; x->due >= x->steps && x->left > 0; x->due -= x->steps) {
        limn_attention_ask(x->rows.data, x->rows.bytes);
        x->rows.data += x->rows.step;
        x->left--;
    }
}

/* top: joins the maxima of the rows */
static void scores(const tile_memory *t, const panel *p, int64_t j0, int64_t keys, int64_t words,
                   vf top[2], ahead *x) {
    vf shift[2] = {shift_of(p->m), shift_of(p->m + VF)}, t0 = top[0], t1 = top[1];
    float *s = t->s + j0 * QW;
    const float *k = t->k + j0 * t->words, *q = p->q;
    for (int64_t j = 0, n; j < keys; j += n, s += n * QW, k += n * t->words) {
        n = NEXT_ROWS(keys - j);
        switch (n) {
        case ROWS_MAIN: score_block(ROWS_MAIN, s, q, k, t->words, words, shift, &t0, &t1); break;
        case 8:
            score_block(8 < ROWS_MAIN ? 8 : 4, s, q, k, t->words, words, shift, &t0, &t1);
            break;
        default: score_block(4, s, q, k, t->words, words, shift, &t0, &t1); break;
        }
        ask(x, n);
    }
    top[0] = t0, top[1] = t1;
}

static void mix(float *o, const float *s, const float *v, int64_t v_stride, int64_t cols,
                int64_t rows, ahead *x) {
    for (int64_t d = 0, n; d < cols; d += n, o += n * QW, v += n) {
        n = NEXT_ROWS(cols - d);
        switch (n) {
        case ROWS_MAIN: mix_block(ROWS_MAIN, o, s, v, v_stride, rows); break;
        case 8: mix_block(8 < ROWS_MAIN ? 8 : 4, o, s, v, v_stride, rows); break;
        default: mix_block(4, o, s, v, v_stride, rows); break;
        }
        ask(x, n);
    }
}

/* Bias of the panel's rows for keys [k0, k0 + keys) across the lanes. */
static void turn_bias(const limn_attention_block *b, const tile_memory *t, const panel *p,
                      int64_t k0, int64_t keys) {
    for (int64_t i = 0; i < QW; i++) {
        int64_t r = p->r0 + (i < p->rows ? i : p->rows - 1);
        const float *row =
            limn_attention_bias_row(b->a, b->batch, b->head0 + r % b->heads, b->q0 + r / b->heads);
        memcpy(t->rows + i * t->wide, row + k0, (size_t)keys * 4);
    }
    transpose_blocks(t->b, QW, t->rows, t->wide, QW, keys);
}

/* Adds the bias to rows [j0, keys) of S, masks what lies behind the causal limit, and joins their
 * maxima to top. */
static void mask_scores(const limn_attention_block *b, const tile_memory *t, const panel *p,
                        int64_t k0, int64_t j0, int64_t keys, vf top[2]) {
    _Alignas(64) float limit[QW];
    for (int64_t i = 0; i < QW; i++)
        limit[i] = (float)(limn_attention_visible(b->a, b->q0 + (p->r0 + i) / b->heads) - k0);
    if (b->a->bias) turn_bias(b, t, p, k0, keys);
    vf low = vf_set1(-INFINITY);
    for (int w = 0; w < 2; w++) {
        vf see = vf_load(limit + w * VF), high = top[w];
        for (int64_t j = j0; j < keys; j++) {
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

/* Words of 2^x0, 2^x1 to rows j and j + 1 of S; sum follows. */
ALWAYS_INLINE void store_powers(float *s, int64_t j, vf x0, vf x1, vf *sum) {
#if PAIRS == 2
    vf words = weight_words(x0, x1);
    vf_store(s + j / 2 * QW, words);
    *sum = dot_words(*sum, vf_ones(), words);
#else
    vf e0 = vm_exp2_neg(x0), e1 = vm_exp2_neg(x1);
    vf_store(s + j * QW, e0);
    vf_store(s + (j + 1) * QW, e1);
    *sum = vf_add(*sum, vf_add(e0, e1));
#endif
}

/* S becomes 2^(S - less), in words; the sums of what the words hold into sum. S has a spare row
 * after an odd number of keys. */
ALWAYS_INLINE void powers(float *s, int64_t keys, const vf *less, vf sum[2]) {
    vf sum0 = vf_zero(), sum1 = vf_zero();
    if (keys % 2)
        for (int w = 0; w < 2; w++) vf_store(s + keys * QW + w * VF, vf_set1(-INFINITY));
    for (int64_t j = 0; j < keys; j += 2) {
        const float *x = s + j * QW;
        vf x0 = vf_load(x), x1 = vf_load(x + QW);
        vf y0 = vf_load(x + VF), y1 = vf_load(x + QW + VF);
        if (less) {
            x0 = vf_sub(x0, less[0]), x1 = vf_sub(x1, less[0]);
            y0 = vf_sub(y0, less[1]), y1 = vf_sub(y1, less[1]);
        }
        store_powers(s, j, x0, x1, &sum0);
        store_powers(s + VF, j, y0, y1, &sum1);
    }
    sum[0] = sum0, sum[1] = sum1;
}

static void rescale(float *o, int64_t cols, const vf keep[2]) {
    for (int64_t d = 0; d < cols; d++)
        for (int w = 0; w < 2; w++)
            vf_store(o + d * QW + w * VF, vf_mul(vf_load(o + d * QW + w * VF), keep[w]));
}

/* S becomes weights 2^S, in words, less where a maximum grows: then what is there of results is
 * rescaled. m and l follow. */
static void weights(float *s, const panel *p, int64_t keys, int64_t cols, const vf top[2]) {
    vf less[2], keep[2], sum[2];
    int grows = 0, shrinks = 0;
    for (int w = 0; w < 2; w++) {
        vf old = vf_load(p->m + w * VF), low = vf_set1(MASKED), none = vf_set1(-INFINITY);
        vf one = vf_set1(1), top_w = vf_select(vf_lt(top[w], low), none, top[w]);
        vmask fresh = vf_lt(old, low);
        vmask more = vf_lt(vf_select(fresh, none, vf_set1(SLACK)), top_w);
        less[w] = vf_select(more, top_w, vf_zero());
        keep[w] = vf_select(more, vm_exp2_neg(vf_sub(vf_zero(), top_w)), one);
        keep[w] = vf_select(fresh, vf_zero(), keep[w]);
        grows |= vf_any(more);
        shrinks |= vf_any(vf_lt(keep[w], vf_select(fresh, vf_zero(), one)));
        vf_store(p->m + w * VF, vf_select(more, vf_add(shift_of(p->m + w * VF), top_w), old));
    }
    if (grows)
        powers(s, keys, less, sum);
    else
        powers(s, keys, NULL, sum);
    for (int w = 0; w < 2; w++)
        vf_store(p->l + w * VF, vf_fma(vf_load(p->l + w * VF), keep[w], sum[w]));
    if (shrinks) rescale(p->o, cols, keep);
}

#if PAIRS == 2
/* n elements of a row, times *scale where there is one, to words; zeros up to the next 2 VF. */
ALWAYS_INLINE void narrow_typed(float *to, const void *row, const limn_dtype type, int64_t n,
                                const float *scale) {
    for (int64_t d = 0; d < n; d += QW) {
        vf low = load_part(row, d, type, n), high = load_part(row, d + VF, type, n);
        if (scale) low = vf_mul(low, vf_set1(*scale)), high = vf_mul(high, vf_set1(*scale));
        vf_store(to + d / 2, row_words(low, high));
    }
}

static void narrow_row(float *to, const void *row, limn_dtype type, int64_t n, const float *scale) {
    switch (type) {
    case LIMN_F32: narrow_typed(to, row, LIMN_F32, n, scale); break;
    case LIMN_F16: narrow_typed(to, row, LIMN_F16, n, scale); break;
    default: narrow_typed(to, row, LIMN_BF16, n, scale); break;
    }
}

/* Two rows to one of words, zeros up to the next VF; no second row counts as zeros. */
ALWAYS_INLINE void pair_typed(float *to, const void *low, const void *high, const limn_dtype type,
                              int64_t n) {
    for (int64_t d = 0; d < n; d += VF) {
        vf second = high ? load_part(high, d, type, n) : vf_zero();
        vf_store(to + d, pair_words(load_part(low, d, type, n), second));
    }
}

static void pair_rows(float *to, const void *low, const void *high, limn_dtype type, int64_t n) {
    switch (type) {
    case LIMN_F32: pair_typed(to, low, high, LIMN_F32, n); break;
    case LIMN_F16: pair_typed(to, low, high, LIMN_F16, n); break;
    default: pair_typed(to, low, high, LIMN_BF16, n); break;
    }
}

/* What rows of a type are read as: what the vector loads do not know becomes f32. */
static limn_dtype read_as(limn_dtype type) {
    return type == LIMN_F16 || type == LIMN_BF16 ? type : LIMN_F32;
}

/* Row j, in place or in buf. */
static const void *read_row(const limn_attention_block *b, const limn_attention_strip *x, int64_t j,
                            limn_dtype type, float *buf, int64_t n) {
    const char *row = x->data + j * x->step;
    if (limn_attention_in_place(type)) return row;
    limn_row_to_f32(b->kernels, buf, row, type, n);
    return buf;
}
#endif

/* The rows of a block one after the other, in queries or results. */
typedef struct row_walk {
    limn_attention_strip x; /* from the present query on */
    int64_t heads, head;
    int64_t left; /* rows */
} row_walk;

static row_walk walk_rows(const limn_attention_block *b, limn_attention_strip x, int64_t from) {
    x.data += from / b->heads * x.step;
    return (row_walk){x, b->heads, from % b->heads, b->q_count * b->heads - from};
}

static inline char *walk(row_walk *w) {
    const char *row = w->x.data + w->head * w->x.head;
    w->left--;
    if (++w->head == w->heads) w->head = 0, w->x.data += w->x.step;
    return (char *)row;
}

/* Queries into panels, scaled; empty results. */
static void begin_tile(const limn_attention_block *b, const tile_memory *t) {
    const limn_attention_args *a = b->a;
    float scale = limn_attention_scale(a) * LOG2_E;
    limn_attention_strip q = limn_attention_rows_of(&a->q, b->batch, b->head0, b->q0, a->dim);
    row_walk rows = walk_rows(b, q, 0), next = walk_rows(b, q, QW);
    memset(t->rows, 0, (size_t)(QW * t->wide) * 4);
    for (int64_t i = 0; i < t->panels; i++) {
        panel p = panel_at(b, t, i);
        for (int64_t j = 0; j < p.rows; j++) {
            const void *from = walk(&rows);
            if (next.left > 0) limn_attention_ask(walk(&next), q.bytes);
            float *row = t->rows + j * t->wide;
#if PAIRS == 2
            narrow_row(row, from, a->q.type, a->dim, &scale);
#else
            limn_row_to_f32(b->kernels, row, from, a->q.type, a->dim);
#endif
        }
        transpose_blocks(p.q, QW, t->rows, t->wide, QW, t->words);
        if (PAIRS == 1) b->kernels->elementwise.affine(p.q, p.q, scale, 0, t->words * QW);
        memset(p.o, 0, (size_t)(t->v_stride * QW) * 4);
        for (int j = 0; j < QW; j++) p.m[j] = -INFINITY, p.l[j] = 0;
    }
}

/* Results of the panels, divided by the sums, to the output rows. */
static void end_tile(const limn_attention_block *b, const tile_memory *t) {
    const limn_attention_args *a = b->a;
    limn_attn_view view = {a->out, a->out_type, a->out_batch, a->out_row, a->out_head};
    limn_attention_strip out =
        limn_attention_rows_of(&view, b->batch, b->head0, b->q0, limn_attention_dim_v(a));
    row_walk rows = walk_rows(b, out, 0), next = walk_rows(b, out, QW);
    for (int64_t i = 0; i < t->panels; i++) {
        panel p = panel_at(b, t, i);
        _Alignas(64) float inv[QW];
        for (int j = 0; j < QW; j++) inv[j] = p.l[j] != 0 ? 1.0f / p.l[j] : 0.0f; /* NaN stays */
        vf part[2] = {vf_load(inv), vf_load(inv + VF)};
        rescale(p.o, t->v_stride, part);
        transpose_blocks(t->rows, t->wide, p.o, QW, t->v_stride, QW);
        for (int64_t j = 0; j < p.rows; j++) {
            limn_attention_put(b, walk(&rows), t->rows + j * t->wide);
            if (next.left > 0) limn_attention_ask(walk(&next), out.bytes);
        }
    }
}

static limn_attention_strip strip_of(const limn_attention_block *b, const limn_attn_view *v,
                                     int64_t i, int64_t dim) {
    return limn_attention_rows_of(v, b->batch, b->head0 / b->heads, i, dim);
}

/* Keys [k0, k0 + keys) into the tile's memory; register blocks that overhang see the last key. */
static void load_keys(const limn_attention_block *b, const tile_memory *t, int64_t k0,
                      int64_t keys) {
    const limn_attention_args *a = b->a;
    int64_t dv = limn_attention_dim_v(a);
#if PAIRS == 2
    limn_attention_strip k = strip_of(b, &a->k, k0, a->dim), v = strip_of(b, &a->v, k0, dv);
    for (int64_t j = 0; j < keys; j++) {
        const void *row = read_row(b, &k, j, a->k.type, t->rows, a->dim);
        narrow_row(t->k + j * t->words, row, read_as(a->k.type), a->dim, NULL);
    }
    for (int64_t j = 0; j < keys; j += 2) {
        const void *high = NULL, *low = read_row(b, &v, j, a->v.type, t->rows, dv);
        if (j + 1 < keys) high = read_row(b, &v, j + 1, a->v.type, t->rows + t->wide, dv);
        pair_rows(t->v + j / 2 * t->v_stride, low, high, read_as(a->v.type), dv);
    }
#else
    int64_t head = b->head0 / b->heads;
    limn_attention_load(b->kernels, t->k, t->words, &a->k, b->batch, head, k0, keys, a->dim);
    limn_attention_load(b->kernels, t->v, t->v_stride, &a->v, b->batch, head, k0, keys, dv);
    if (t->v_stride > dv)
        for (int64_t j = 0; j < keys; j++)
            memset(t->v + j * t->v_stride + dv, 0, (size_t)(t->v_stride - dv) * 4);
#endif
    for (int64_t j = keys; j < pad_rows(keys); j++) /* repeats: the maximum does not notice */
        memcpy(t->k + j * t->words, t->k + (keys - 1) * t->words, (size_t)t->words * 4);
}

/* Keys [k0, k0 + keys), which are in the tile's memory, for one panel; what none of its queries
 * sees is left out. next: rows to ask for beside each product. */
static void panel_step(const limn_attention_block *b, const tile_memory *t, const panel *p,
                       int64_t k0, int64_t keys, ahead next[2]) {
    const limn_attention_args *a = b->a;
    int64_t cols = pad_rows(limn_attention_dim_v(a)), words = word_count(a->dim);
    int64_t see = limn_attention_visible(a, p->last) - k0;
    int64_t open = limn_attention_visible(a, p->first) - k0; /* that all of them see */
    if (see <= 0) return;
    if (open < 0 || a->bias) open = 0;
    open = open < keys ? open / 4 * 4 : keys; /* whole blocks: no row behind may count */
    if (see < keys) keys = see;
    vf top[2] = {vf_set1(-INFINITY), vf_set1(-INFINITY)};
    if (open > 0) scores(t, p, 0, pad_rows(open), words, top, &next[0]);
    if (open < keys) {
        vf unmasked[2] = {top[0], top[1]};
        scores(t, p, open, pad_rows(keys - open), words, unmasked, &next[0]);
        mask_scores(b, t, p, k0, open, keys, top);
    }
    weights(t->s, p, keys, cols, top);
    mix(p->o, t->s, t->v, t->v_stride, cols, word_count(keys), &next[1]);
}

static void tile_v(const limn_attention_block *b, void *scratch) {
    const limn_attention_args *a = b->a;
    uintptr_t at = (uintptr_t)scratch;
    tile_memory t = lay_out(a, b->q_count * b->heads, &at);
    int64_t last = limn_attention_visible(a, b->q0 + b->q_count - 1), dv = limn_attention_dim_v(a);
    begin_tile(b, &t);
    for (int64_t k0 = 0, keys; k0 < last; k0 += keys) {
        keys = last - k0 < t.keys ? last - k0 : t.keys;
        int64_t then = k0 + keys, left = last - then < t.keys ? last - then : t.keys;
        ahead next[2] = {
            {strip_of(b, &a->k, then, a->dim), left, left, t.panels * pad_rows(keys), 0},
            {strip_of(b, &a->v, then, dv), left, left, t.panels * pad_rows(dv), 0}};
        load_keys(b, &t, k0, keys);
        for (int64_t i = 0; i < t.panels; i++) {
            panel p = panel_at(b, &t, i);
            panel_step(b, &t, &p, k0, keys, next);
        }
    }
    end_tile(b, &t);
}

static const limn_attention_tiler tiler = {QW, tile_bytes_v, tile_v};
