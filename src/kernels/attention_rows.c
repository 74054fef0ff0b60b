/* SPDX-License-Identifier: MIT */
/*
 * Row-wise streaming attention in plain C over the micro-kernels `dots` and `mix`, and their C
 * bodies. With the C bodies it is the specification of attention; with vector bodies it is the
 * decoding path, where reading the keys and values once is all that matters.
 */
#include <math.h>
#include <string.h>

#include "kernels/attention.h"
#include "kernels/kernels.h"

enum { KEY_BLOCK = 64 };

/* Scores that count as masked; what a mask of -FLT_MAX leaves after a score is added. */
static const float MASKED_BELOW = -2.3e38f;

static size_t round64(size_t n) {
    return (n + 63) & ~(size_t)63;
}

/* Takes `floats` from the scratch; addresses are numbers, so that sizing can start from 0. */
static float *take(uintptr_t *at, int64_t floats) {
    float *p = (float *)*at;
    *at += round64((size_t)floats * 4);
    return p;
}

static limn_attention_state lay_out(const limn_attention_args *a, int64_t rows, uintptr_t *at) {
    int64_t dv = limn_attention_dim_v(a);
    limn_attention_state s;
    s.m = take(at, rows);
    s.l = take(at, rows);
    s.acc = take(at, rows * dv);
    s.q = take(at, rows * a->dim);
    s.k = take(at, KEY_BLOCK * a->dim);
    s.v = take(at, KEY_BLOCK * dv);
    s.s = take(at, rows * KEY_BLOCK);
    return s;
}

size_t limn_attention_rows_bytes(const limn_attention_args *a, int64_t rows) {
    uintptr_t at = 0;
    lay_out(a, rows, &at);
    return at;
}

/* Keys or values [j, j + keys) of a kv head: in place when the micro-kernels read the type, else as
 * f32 in buf. */
static limn_attention_rows_in view_rows(const limn_attention_block *b, const limn_attn_view *v,
                                        float *buf, int64_t j, int64_t keys, int64_t dim) {
    int64_t head = b->head0 / (b->a->heads / b->a->kv_heads);
    limn_attention_rows_in x = {.type = v->type, .stride = v->row, .keys = keys, .dim = dim};
    if (v->type == LIMN_F32 || v->type == LIMN_F16 || v->type == LIMN_BF16) {
        int64_t at = b->batch * v->batch + head * v->head + j * v->row;
        x.data = (const char *)v->data + at * (v->type == LIMN_F32 ? 4 : 2);
        return x;
    }
    limn_attention_load(b->kernels, buf, dim, v, b->batch, head, j, keys, dim);
    return (limn_attention_rows_in){buf, LIMN_F32, dim, keys, dim};
}

/* Asks for keys or values [j, j + keys) of a kv head: its rows lie among those of other heads,
 * which no processor foresees. */
static void fetch_rows(const limn_attention_block *b, const limn_attn_view *v, int64_t j,
                       int64_t keys, int64_t dim) {
    const limn_dtype_info *info = limn_dtype_get(v->type);
    int64_t head = b->head0 / (b->a->heads / b->a->kv_heads);
    int64_t at = b->batch * v->batch + head * v->head + j * v->row;
    int64_t bytes = dim / info->block * info->bytes;
    for (int64_t i = 0; i < keys; i++, at += v->row) {
        const char *row = (const char *)v->data + at / info->block * info->bytes;
        for (int64_t o = 0; o < bytes; o += 64) __builtin_prefetch(row + o, 0, 3);
    }
}

/* Scores of the first n keys of a block become weights; the row's state follows. */
static void update_row(const limn_attention_block *b, limn_attention_state *s, int64_t row,
                       const float *bias, int64_t n) {
    const limn_kernels *k = b->kernels;
    int64_t dv = limn_attention_dim_v(b->a);
    float *p = s->s + row * KEY_BLOCK, *acc = s->acc + row * dv;
    float top = k->norm.scale_mask_max(p, p, bias, limn_attention_scale(b->a), n);
    float m = top > s->m[row] ? top : s->m[row];
    if (m < MASKED_BELOW) m = -INFINITY;
    float shift = m == -INFINITY ? 0 : m; /* nothing seen yet: all weights become 0 */
    float keep = expf(s->m[row] - shift);
    float sum = (float)k->norm.exp_sum(p, shift, n);
    if (keep != 1) k->elementwise.affine(acc, acc, keep, 0, dv);
    s->l[row] = s->l[row] * keep + sum;
    s->m[row] = m;
}

/* One block of keys for all rows, before `left` others. Rows that see fewer keys than the block has
 * are mixed by themselves, so that a value behind the limit is not even multiplied by 0. */
static void stream_block(const limn_attention_block *b, limn_attention_state *s, int64_t j,
                         int64_t keys, int64_t left) {
    const limn_attention_args *a = b->a;
    int64_t rows = b->heads * b->q_count, dv = limn_attention_dim_v(a);
    limn_attention_rows_in k = view_rows(b, &a->k, s->k, j, keys, a->dim);
    limn_attention_rows_in v = view_rows(b, &a->v, s->v, j, keys, dv);
    fetch_rows(b, &a->v, j, keys, dv);
    b->kernels->attention.dots(s->s, KEY_BLOCK, s->q, rows, &k);
    fetch_rows(b, &a->k, j + keys, left < KEY_BLOCK ? left : KEY_BLOCK, a->dim);
    bool all = limn_attention_visible(a, b->q0) >= j + keys;
    for (int64_t r = 0; r < rows; r++) {
        int64_t i = b->q0 + r % b->q_count, see = limn_attention_visible(a, i) - j;
        if (see > keys) see = keys;
        if (see <= 0) continue;
        const float *bias = limn_attention_bias_row(a, b->batch, b->head0 + r / b->q_count, i);
        update_row(b, s, r, bias ? bias + j : NULL, see);
        v.keys = see;
        if (!all)
            b->kernels->attention.mix(s->acc + r * dv, s->s + r * KEY_BLOCK, KEY_BLOCK, 1, &v);
    }
    if (all) b->kernels->attention.mix(s->acc, s->s, KEY_BLOCK, rows, &v);
}

limn_attention_state limn_attention_rows(const limn_attention_block *b, int64_t k0, int64_t k1,
                                         void *scratch) {
    const limn_attention_args *a = b->a;
    int64_t rows = b->heads * b->q_count, dv = limn_attention_dim_v(a);
    uintptr_t at = (uintptr_t)scratch;
    limn_attention_state s = lay_out(a, rows, &at);
    for (int64_t r = 0; r < rows; r++) s.m[r] = -INFINITY, s.l[r] = 0;
    memset(s.acc, 0, (size_t)(rows * dv) * 4);
    for (int64_t h = 0; h < b->heads; h++)
        limn_attention_load(b->kernels, s.q + h * b->q_count * a->dim, a->dim, &a->q, b->batch,
                            b->head0 + h, b->q0, b->q_count, a->dim);
    int64_t last = limn_attention_visible(a, b->q0 + b->q_count - 1);
    if (k1 > last) k1 = last;
    for (int64_t j = k0, keys; j < k1; j += keys) {
        keys = k1 - j < KEY_BLOCK ? k1 - j : KEY_BLOCK;
        stream_block(b, &s, j, keys, k1 - j - keys);
    }
    return s;
}

/* ---- C bodies ---- */

static const float *row_f32(float *buf, const limn_attention_rows_in *x, int64_t j) {
    if (x->type == LIMN_F32) return (const float *)x->data + j * x->stride;
    limn_dtype_to_f32(buf, (const uint16_t *)x->data + j * x->stride, x->type, x->dim);
    return buf;
}

static void dots_c(float *s, int64_t s_stride, const float *q, int64_t rows,
                   const limn_attention_rows_in *x) {
    float buf[LIMN_ATTENTION_DIM_MAX];
    for (int64_t j = 0; j < x->keys; j++) {
        const float *key = row_f32(buf, x, j);
        for (int64_t r = 0; r < rows; r++) {
            const float *query = q + r * x->dim;
            float part[8] = {0}; /* eight sums: accuracy, and vectors if the compiler has them */
            int64_t d = 0;
            for (; d + 8 <= x->dim; d += 8)
                for (int i = 0; i < 8; i++) part[i] += query[d + i] * key[d + i];
            for (; d < x->dim; d++) part[d % 8] += query[d] * key[d];
            s[r * s_stride + j] = ((part[0] + part[4]) + (part[2] + part[6])) +
                                  ((part[1] + part[5]) + (part[3] + part[7]));
        }
    }
}

static void mix_c(float *o, const float *p, int64_t p_stride, int64_t rows,
                  const limn_attention_rows_in *x) {
    float buf[LIMN_ATTENTION_DIM_MAX];
    for (int64_t j = 0; j < x->keys; j++) {
        const float *value = row_f32(buf, x, j);
        for (int64_t r = 0; r < rows; r++)
            for (int64_t d = 0; d < x->dim; d++)
                o[r * x->dim + d] += p[r * p_stride + j] * value[d];
    }
}

static void tile_c(const limn_attention_block *b, void *scratch) {
    limn_attention_state s = limn_attention_rows(b, 0, b->a->len_k, scratch);
    int64_t dv = limn_attention_dim_v(b->a);
    for (int64_t i = 0; i < b->q_count; i++) {
        float *row = s.acc + i * dv;
        float inv = s.l[i] != 0 ? 1.0f / s.l[i] : 0;
        b->kernels->elementwise.affine(row, row, inv, 0, dv);
        limn_attention_store(b, b->head0, b->q0 + i, row);
    }
}

void limn_attention_fill_c(limn_attention_kernels *t) {
    t->f32 = (limn_attention_tiler){1, limn_attention_rows_bytes, tile_c};
    t->bf16 = t->f32;
    t->dots = dots_c;
    t->mix = mix_c;
}
