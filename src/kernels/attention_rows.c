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

/* Takes `floats` from the scratch. */
static float *take(char **at, int64_t floats) {
    float *p = (float *)*at;
    *at += round64((size_t)floats * 4);
    return p;
}

static limn_attention_state lay_out(const limn_attention_args *a, int64_t rows, char **at) {
    int64_t dv = limn_attention_dim_v(a);
    limn_attention_state s;
    s.m = take(at, rows);
    s.l = take(at, rows);
    s.acc = take(at, rows * dv);
    s.q = take(at, rows * a->dim);
    s.k = take(at, KEY_BLOCK * a->dim);
    s.v = take(at, KEY_BLOCK * dv);
    s.s = take(at, KEY_BLOCK);
    return s;
}

size_t limn_attention_rows_bytes(const limn_attention_args *a, int64_t rows) {
    char *at = NULL;
    lay_out(a, rows, &at);
    return (size_t)at;
}

/* Keys [k0, k0 + n), n visible ones, for one row. */
static void stream_block(const limn_attention_block *b, limn_attention_state *s, int64_t row,
                         const float *bias, int64_t n) {
    const limn_kernels *k = b->kernels;
    int64_t dim = b->a->dim, dv = limn_attention_dim_v(b->a);
    float *acc = s->acc + row * dv;
    k->attention.dots(s->s, s->q + row * dim, s->k, dim, n, dim);
    float top = k->norm.scale_mask_max(s->s, s->s, bias, limn_attention_scale(b->a), n);
    float m = top > s->m[row] ? top : s->m[row];
    if (m < MASKED_BELOW) m = -INFINITY;
    float shift = m == -INFINITY ? 0 : m; /* nothing seen yet: all weights become 0 */
    float keep = expf(s->m[row] - shift);
    float sum = (float)k->norm.exp_sum(s->s, shift, n);
    k->elementwise.affine(acc, acc, keep, 0, dv);
    k->attention.mix(acc, s->s, s->v, dv, n, dv);
    s->l[row] = s->l[row] * keep + sum;
    s->m[row] = m;
}

limn_attention_state limn_attention_rows(const limn_attention_block *b, int64_t k0, int64_t k1,
                                         void *scratch) {
    const limn_attention_args *a = b->a;
    int64_t rows = b->heads * b->q_count, dv = limn_attention_dim_v(a);
    char *at = scratch;
    limn_attention_state s = lay_out(a, rows, &at);
    for (int64_t r = 0; r < rows; r++) s.m[r] = -INFINITY, s.l[r] = 0;
    memset(s.acc, 0, (size_t)(rows * dv) * 4);
    for (int64_t h = 0; h < b->heads; h++)
        limn_attention_load(b->kernels, s.q + h * b->q_count * a->dim, a->dim, &a->q, b->batch,
                            b->head0 + h, b->q0, b->q_count, a->dim);
    int64_t last = limn_attention_visible(a, b->q0 + b->q_count - 1);
    if (k1 > last) k1 = last;
    int64_t kv_head = b->head0 / (a->heads / a->kv_heads);
    for (int64_t j = k0; j < k1; j += KEY_BLOCK) {
        int64_t keys = k1 - j < KEY_BLOCK ? k1 - j : KEY_BLOCK;
        limn_attention_load(b->kernels, s.k, a->dim, &a->k, b->batch, kv_head, j, keys, a->dim);
        limn_attention_load(b->kernels, s.v, dv, &a->v, b->batch, kv_head, j, keys, dv);
        for (int64_t r = 0; r < rows; r++) {
            int64_t i = b->q0 + r % b->q_count, see = limn_attention_visible(a, i) - j;
            if (see > keys) see = keys;
            if (see <= 0) continue;
            const float *bias = limn_attention_bias_row(a, b->batch, b->head0 + r / b->q_count, i);
            stream_block(b, &s, r, bias ? bias + j : NULL, see);
        }
    }
    return s;
}

/* ---- C bodies ---- */

static void dots_c(float *s, const float *q, const float *k, int64_t stride, int64_t keys,
                   int64_t dim) {
    for (int64_t j = 0; j < keys; j++) {
        const float *row = k + j * stride;
        float part[8] = {0}; /* eight sums: accuracy, and vectors for a compiler that has them */
        int64_t d = 0;
        for (; d + 8 <= dim; d += 8)
            for (int i = 0; i < 8; i++) part[i] += q[d + i] * row[d + i];
        for (; d < dim; d++) part[d % 8] += q[d] * row[d];
        s[j] = ((part[0] + part[4]) + (part[2] + part[6])) +
               ((part[1] + part[5]) + (part[3] + part[7]));
    }
}

static void mix_c(float *o, const float *p, const float *v, int64_t stride, int64_t keys,
                  int64_t dim) {
    for (int64_t j = 0; j < keys; j++)
        for (int64_t d = 0; d < dim; d++) o[d] += p[j] * v[j * stride + d];
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
