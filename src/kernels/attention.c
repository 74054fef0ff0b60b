/* SPDX-License-Identifier: MIT */
/* Driver of attention: plan, tasks; see attention.h. Few queries: attention_rows.c. */
#include "kernels/attention.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/rowio.h"

enum {
    TILE_FLOATS = 1 << 17, /* query tile: rows x dim, at most half a MiB of results */
    TILE_ROWS = 512        /* and no more than these */
};

float limn_attention_scale(const limn_attention_args *a) {
    return a->scale != 0 ? a->scale : (float)(1.0 / sqrt((double)a->dim));
}

void limn_attention_load(const limn_kernels *k, float *dst, int64_t dst_stride,
                         const limn_attn_view *v, int64_t batch, int64_t head, int64_t i0,
                         int64_t count, int64_t dim) {
    limn_attention_strip x = limn_attention_rows_of(v, batch, head, i0, dim);
    for (int64_t i = 0; i < count; i++, dst += dst_stride)
        if (v->type == LIMN_F32)
            memcpy(dst, x.data + i * x.step, (size_t)dim * 4);
        else
            limn_row_to_f32(k, dst, x.data + i * x.step, v->type, dim);
}

void limn_attention_put(const limn_attention_block *b, void *to, const float *row) {
    int64_t dv = limn_attention_dim_v(b->a);
    if (b->a->out_type == LIMN_F32)
        memcpy(to, row, (size_t)dv * 4);
    else
        limn_rowio_store(b->kernels, to, b->a->out_type, 0, row, dv);
}

void limn_attention_store(const limn_attention_block *b, int64_t head, int64_t i,
                          const float *row) {
    const limn_attention_args *a = b->a;
    int64_t at = b->batch * a->out_batch + i * a->out_row + head * a->out_head;
    limn_attention_put(b, (char *)a->out + at * limn_dtype_get(a->out_type)->bytes, row);
}

typedef struct attention_job {
    const limn_exec *ex;
    const limn_attention_args *a;
    const limn_attention_tiler *tiler;
    size_t worker_bytes; /* scratch of one worker */
    int64_t tile, tiles; /* queries of a tile, tiles per kv head */
} attention_job;

/* Queries of a tile. Many, since each tile converts all keys and values for itself, and its queries
 * and results are passed over once for 96 keys only (the second cache holds them, and the third is
 * near enough). Fewer when threads would be idle; whole panels. A query's result does not depend on
 * its tile, so the number of threads may matter here. Fewer queries never give larger tiles:
 * scratch for the most is enough for all. */
static int64_t tile_queries(const limn_attention_args *a, const limn_attention_tiler *t,
                            int threads) {
    int64_t wide = a->dim > limn_attention_dim_v(a) ? a->dim : limn_attention_dim_v(a);
    int64_t rows = TILE_FLOATS / wide, group = a->heads / a->kv_heads, tiles = a->n * a->kv_heads;
    int64_t n = (rows > TILE_ROWS ? TILE_ROWS : rows) / group, whole = 1;
    while (n * group > 32 && tiles * ((a->len_q + n - 1) / n) < 8 * threads) n /= 2;
    while (whole * group % t->panel != 0) whole *= 2;
    return n > whole ? (n + whole - 1) / whole * whole : whole;
}

static attention_job plan(const limn_kernels *k, const limn_attention_args *a, int threads) {
    attention_job j = {.a = a, .tiler = a->exact ? &k->attention.f32 : &k->attention.bf16};
    j.tile = tile_queries(a, j.tiler, threads);
    j.tiles = (a->len_q + j.tile - 1) / j.tile;
    j.worker_bytes = j.tiler->bytes(a, j.tile * (a->heads / a->kv_heads));
    return j;
}

size_t limn_attention_scratch_bytes(const limn_kernels *k, const limn_attention_args *a,
                                    int threads) {
    int64_t queries, keys;
    size_t all;
    if (!limn_mul_i64(&queries, a->n, a->heads) || !limn_mul_i64(&queries, queries, a->len_q) ||
        !limn_mul_i64(&keys, a->n, a->heads) || !limn_mul_i64(&keys, keys, a->len_k))
        return SIZE_MAX;
    if (limn_attention_is_few(a)) return limn_attention_few_bytes(a, threads);
    size_t workers = (size_t)(threads > 1 ? threads : 1);
    return limn_mul_size(&all, plan(k, a, threads).worker_bytes, workers) ? all : SIZE_MAX;
}

/* Causal tiles see more keys the later they come: they go first, so that threads end together. */
static void tile_task(void *arg, size_t task, int worker) {
    const attention_job *j = arg;
    const limn_attention_args *a = j->a;
    if (limn_exec_cancelled(j->ex)) return;
    int64_t all = a->n * a->kv_heads, i = (int64_t)task;
    int64_t tile = a->causal ? j->tiles - 1 - i / all : i % j->tiles;
    int64_t bh = a->causal ? i % all : i / j->tiles;
    limn_attention_block b = {.kernels = j->ex->k,
                              .a = a,
                              .batch = bh / a->kv_heads,
                              .heads = a->heads / a->kv_heads,
                              .q0 = tile * j->tile};
    b.head0 = bh % a->kv_heads * b.heads;
    b.q_count = a->len_q - b.q0 < j->tile ? a->len_q - b.q0 : j->tile;
    j->tiler->run(&b, (char *)j->ex->scratch + (size_t)worker * j->worker_bytes);
}

void limn_attention_run(const limn_exec *ex, const limn_attention_args *a) {
    assert(a->kv_heads > 0 && a->heads % a->kv_heads == 0);
    assert(a->dim > 0 && a->dim <= LIMN_ATTENTION_DIM_MAX);
    assert(limn_attention_dim_v(a) <= LIMN_ATTENTION_DIM_MAX && limn_rowio_is_type(a->out_type));
    if (a->n <= 0 || a->len_q <= 0 || a->heads <= 0) return;
    int threads = limn_pool_threads(ex->pool);
    assert(ex->scratch_bytes >= limn_attention_scratch_bytes(ex->k, a, threads));
    if (limn_attention_is_few(a)) {
        limn_attention_few(ex, a);
        return;
    }
    attention_job j = plan(ex->k, a, threads);
    j.ex = ex;
    limn_pool_run(ex->pool, tile_task, &j, (size_t)(a->n * a->kv_heads * j.tiles));
}
