/* SPDX-License-Identifier: MIT */
/*
 * Scaled dot-product attention without a score matrix: out = softmax(scale * q k^T + bias) v.
 *
 * Long query ranges are cut into tiles of one kv head; a tile streams over the keys with a running
 * maximum and sum per query, so that memory does not grow with len_k (Milakov and Gimelshein 2018,
 * Dao et al. 2022). Few queries (decoding: at most LIMN_ATTENTION_FEW_QUERIES, or len_q times the
 * heads that share a kv head is at most LIMN_ATTENTION_FEW_ROWS) are instead cut along the keys,
 * all heads together where that gives tasks enough, and the parts are joined in order. Which way is
 * taken, and every sum, depends on the shape only: the same bits for any number of threads. Keys
 * beyond a causal limit have the weight 0; only rows of v that are not finite could touch a result.
 *
 * Nothing is allocated while it runs; limn_attention_scratch_bytes() says what ex->scratch must
 * hold. The program checks shapes when it builds the graph; here they are asserts. ex->cancel is
 * polled per task; after a cancelled run the output is undefined.
 */
#ifndef LIMN_KERNELS_ATTENTION_H
#define LIMN_KERNELS_ATTENTION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tensor/dtype.h"

struct limn_exec;
struct limn_kernels;

enum {
    LIMN_ATTENTION_FEW_ROWS = 8,
    LIMN_ATTENTION_FEW_QUERIES = 4, /* each has the bits of a query by itself */
    LIMN_ATTENTION_DIM_MAX = 1024
};

/* Element [b, i, h, d] lies at b * batch + i * row + h * head + d, strides in elements: q, k and v
 * may be windows into one fused projection, or into a KV cache. */
typedef struct limn_attn_view {
    const void *data;
    limn_dtype type; /* f32, f16, bf16; k and v also q8_0 (dim and strides whole blocks) */
    int64_t batch, row, head;
} limn_attn_view;

typedef struct limn_attention_args {
    limn_attn_view q;    /* [n, len_q, heads, dim] */
    limn_attn_view k;    /* [n, len_k, kv_heads, dim] */
    limn_attn_view v;    /* [n, len_k, kv_heads, dim_v] */
    void *out;           /* [n, len_q, heads, dim_v] */
    limn_dtype out_type; /* f32, f16 or bf16 */
    int64_t out_batch, out_row, out_head;
    int64_t n, len_q, len_k;
    int64_t heads, kv_heads; /* head h reads kv head h / (heads / kv_heads) */
    int64_t dim, dim_v;      /* 1..1024; dim_v 0: dim */
    float scale;             /* 0: 1 / sqrt(dim) */
    bool causal;             /* query i sees the keys j <= i + offset only */
    int64_t offset;          /* len_k - len_q when the queries are the newest positions */
    const float *bias; /* NULL, or added to the scaled score: [b * bias_batch + h * bias_head + i *
                        * bias_row + j]; a stride of 0 shares (a per-key mask: all three 0). -inf
                        * masks, and so does anything below -2.3e38 */
    int64_t bias_batch, bias_head, bias_row;
    bool exact; /* f32 throughout; else the bf16 unit may be used where there is one: q, k, v and
                 * the weights are then rounded to bf16, sums stay f32 */
} limn_attention_args;

/* A query that sees no key (len_k 0, all masked) gets 0. NaN in what it sees gives NaN. */
void limn_attention_run(const struct limn_exec *ex, const limn_attention_args *a);

/* Bytes of scratch for the same arguments and number of threads; SIZE_MAX on overflow. */
size_t limn_attention_scratch_bytes(const struct limn_kernels *k, const limn_attention_args *a,
                                    int threads);

/* ---- below: for the bodies of this family only ---- */

/* Queries q0 .. q0 + q_count - 1 of `heads` consecutive heads: of whole kv heads, or fewer that
 * share one. */
typedef struct limn_attention_block {
    const struct limn_kernels *kernels;
    const limn_attention_args *a;
    int64_t batch, head0, heads, q0, q_count;
} limn_attention_block;

/* Computes a block of one kv head over all its keys. A row is one query of one head. */
typedef struct limn_attention_tiler {
    int64_t panel; /* rows computed side by side; tiles should be multiples of it */
    size_t (*bytes)(const limn_attention_args *a, int64_t rows); /* scratch, multiple of 64 */
    void (*run)(const limn_attention_block *b, void *scratch);
} limn_attention_tiler;

/* Rows of keys or values. */
typedef struct limn_attention_rows_in {
    const void *data;
    limn_dtype type; /* f32, f16 or bf16 */
    int64_t stride;  /* elements between rows */
    int64_t keys, dim;
} limn_attention_rows_in;

typedef struct limn_attention_kernels {
    limn_attention_tiler f32, bf16; /* bf16 is f32's where there is no bf16 unit */
    /* s[r * s_stride + j] = q[r * x->dim ..] . x[j] for r < rows */
    void (*dots)(float *s, int64_t s_stride, const float *q, int64_t rows,
                 const limn_attention_rows_in *x);
    /* o[r * x->dim ..] += sum_j p[r * p_stride + j] x[j] for r < rows */
    void (*mix)(float *o, const float *p, int64_t p_stride, int64_t rows,
                const limn_attention_rows_in *x);
} limn_attention_kernels;

static inline int64_t limn_attention_dim_v(const limn_attention_args *a) {
    return a->dim_v > 0 ? a->dim_v : a->dim;
}
float limn_attention_scale(const limn_attention_args *a);
/* Number of keys that query i may see, 0..len_k. */
static inline int64_t limn_attention_visible(const limn_attention_args *a, int64_t i) {
    if (!a->causal) return a->len_k;
    int64_t seen = i + a->offset + 1;
    return seen < 0 ? 0 : seen < a->len_k ? seen : a->len_k;
}
/* Row of the bias for query i of a head; NULL without bias. */
static inline const float *limn_attention_bias_row(const limn_attention_args *a, int64_t batch,
                                                   int64_t head, int64_t i) {
    return a->bias ? a->bias + batch * a->bias_batch + head * a->bias_head + i * a->bias_row : NULL;
}
/* Rows of one head of a view, in bytes. */
typedef struct limn_attention_strip {
    const char *data;
    int64_t step, head, bytes; /* from row to row, from head to head, of a row's elements */
} limn_attention_strip;
static inline limn_attention_strip limn_attention_rows_of(const limn_attn_view *v, int64_t batch,
                                                          int64_t head, int64_t i, int64_t dim) {
    const limn_dtype_info *info = limn_dtype_get(v->type);
    int64_t block = info->block, at = batch * v->batch + head * v->head + i * v->row;
    return (limn_attention_strip){.data = (const char *)v->data + at / block * info->bytes,
                                  .step = v->row / block * info->bytes,
                                  .head = v->head / block * info->bytes,
                                  .bytes = dim / block * info->bytes};
}
/* Types whose rows the vector kernels read where they are; others become f32 first. */
static inline bool limn_attention_in_place(limn_dtype t) {
    return t == LIMN_F32 || t == LIMN_F16 || t == LIMN_BF16;
}
/* Asks for memory that will be needed soon. Inlined: GCC drops calls of functions that only ask. */
static inline __attribute__((always_inline)) void limn_attention_ask(const char *at,
                                                                     int64_t bytes) {
    for (int64_t o = 0; o < bytes; o += 64) __builtin_prefetch(at + o, 0, 3);
}
/* `count` rows of a view from row i0 as f32 into dst, dst_stride apart. */
void limn_attention_load(const struct limn_kernels *k, float *dst, int64_t dst_stride,
                         const limn_attn_view *v, int64_t batch, int64_t head, int64_t i0,
                         int64_t count, int64_t dim);
/* One result row; f32 in, the output's type out; to: where it goes. */
void limn_attention_put(const limn_attention_block *b, void *to, const float *row);
void limn_attention_store(const limn_attention_block *b, int64_t head, int64_t i, const float *row);

/* Few queries, in attention_rows.c: tasks of key ranges, joined. Bytes of scratch as above. */
bool limn_attention_is_few(const limn_attention_args *a);
size_t limn_attention_few_bytes(const limn_attention_args *a, int threads);
void limn_attention_few(const struct limn_exec *ex, const limn_attention_args *a);

/* Fillers of the dispatch table; called by kernels.c and x86_init.c only. */
void limn_attention_fill_c(limn_attention_kernels *t);
void limn_attention_fill_avx2(limn_attention_kernels *t);
void limn_attention_fill_avx512(limn_attention_kernels *t);
void limn_attention_fill_avx512bf16(limn_attention_kernels *t);

#endif
