/* SPDX-License-Identifier: MIT */
/*
 * Row-wise streaming attention in plain C over the micro-kernels `dots` and `mix`, and their C
 * bodies. With the C bodies it is the specification of attention; with vector bodies it is the
 * decoding path, where reading the keys and values once is all that matters: a task takes a range
 * of keys for many heads, since the rows of all heads lie side by side, and goes through them in
 * the order of memory.
 */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/attention.h"
#include "kernels/exec.h"

enum {
    KEY_BLOCK = 64,          /* keys whose scores become weights together */
    STEP_KEYS = 8,           /* keys that one call multiplies */
    SPLIT_KEYS = 64,         /* keys of one decoding task */
    AHEAD_BYTES = 16 * 1024, /* what is asked for before it is read */
    JOIN_FLOATS = 1 << 15,   /* of parts that one task joins, about */
    TASKS_PER_THREAD = 2     /* at least, so that threads end together */
};

/* Scores that count as masked; what a mask of -FLT_MAX leaves after a score is added. */
static const float MASKED_BELOW = -2.3e38f;

static int64_t min_i64(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static size_t round64(size_t n) {
    return (n + 63) & ~(size_t)63;
}

/* Scratch of a stream beside its state. */
typedef struct scratch {
    float *q, *k, *v, *s; /* rows of q; a step of keys and of values; [rows][KEY_BLOCK] scores */
} scratch;

/* Takes `floats` from the scratch; addresses are numbers, so that sizing can start from 0. */
static float *take(uintptr_t *at, int64_t floats) {
    float *p = (float *)*at;
    *at += round64((size_t)floats * 4);
    return p;
}

static scratch lay_out(const limn_attention_args *a, int64_t rows, uintptr_t *at) {
    scratch s;
    s.q = take(at, rows * a->dim);
    s.k = take(at, STEP_KEYS * a->dim);
    s.v = take(at, STEP_KEYS * limn_attention_dim_v(a));
    s.s = take(at, rows * KEY_BLOCK);
    return s;
}

/* State of row h * q_count + i of a block: running maximum m, sum l, weighted values acc [dim_v].
 */
typedef struct state {
    float *m, *l, *acc; /* [rows], [rows], [rows, dim_v] */
} state;

static state take_state(const limn_attention_args *a, int64_t rows, uintptr_t *at) {
    state s;
    s.m = take(at, rows);
    s.l = take(at, rows);
    s.acc = take(at, rows * limn_attention_dim_v(a));
    return s;
}

/* Keys or values of a block: its first kv head's row 0 and what follows. */
typedef struct source {
    const limn_attn_view *view;
    limn_attention_strip at;
    int64_t dim;
} source;

/* A block on its way through its keys. */
typedef struct stream {
    const limn_attention_block *b;
    state to;
    scratch own;
    source in[2];                     /* keys, values */
    int64_t kv_head0, kv_heads, rows; /* rows: of each kv head */
    int64_t end, last;                /* of the keys; of all that may be read after them */
    int64_t ahead; /* keys that are asked for before they are read, whole steps */
} stream;

static source source_of(const limn_attn_view *v, int64_t batch, int64_t kv_head, int64_t dim) {
    return (source){v, limn_attention_rows_of(v, batch, kv_head, 0, dim), dim};
}

/* Rows [j, j + n) of kv head h: in place, or as f32 in the block's scratch. */
static limn_attention_rows_in view_rows(const stream *t, bool values, int64_t h, int64_t j,
                                        int64_t n) {
    const source *s = &t->in[values];
    if (limn_attention_in_place(s->view->type))
        return (limn_attention_rows_in){s->at.data + h * s->at.head + j * s->at.step, s->view->type,
                                        s->view->row, n, s->dim};
    float *buf = values ? t->own.v : t->own.k;
    limn_attention_load(t->b->kernels, buf, s->dim, s->view, t->b->batch, t->kv_head0 + h, j, n,
                        s->dim);
    return (limn_attention_rows_in){buf, LIMN_F32, s->dim, n, s->dim};
}

/* A place in the walk: all keys of a block, then its values, then the next block's keys. */
typedef struct place {
    int64_t j, keys, i; /* the block, and where in it */
    bool values;
} place;

/* Asks for a share of what comes about AHEAD_BYTES after the steps of all heads at a place, call h
 * of kv_heads: rows from end to end, as they lie. Inlined: GCC drops calls of functions that only
 * ask for lines. */
static inline __attribute__((always_inline)) void fetch_ahead(const stream *t, place p, int64_t h) {
    int64_t i = p.i + t->ahead;
    if (i >= p.keys) {
        i = p.keys < KEY_BLOCK ? 0 : i - p.keys;
        if (p.values) p.j += p.keys, p.keys = min_i64(KEY_BLOCK, t->last - p.j);
        p.values = !p.values;
    }
    const source *s = &t->in[p.values];
    int64_t head = h * STEP_KEYS % t->kv_heads;
    i += h * STEP_KEYS / t->kv_heads;
    for (int n = 0; n < STEP_KEYS && i < p.keys; n++) {
        const char *row = s->at.data + head * s->at.head + (p.j + i) * s->at.step;
        limn_attention_ask(row, s->at.bytes);
        if (++head == t->kv_heads) head = 0, i++;
    }
}

/* Scores of the first n keys of a block become weights; the row's state follows. */
static void update_row(const stream *t, int64_t row, const float *bias, int64_t n) {
    const limn_kernels *k = t->b->kernels;
    int64_t dv = limn_attention_dim_v(t->b->a);
    float *p = t->own.s + row * KEY_BLOCK, *acc = t->to.acc + row * dv, *max = t->to.m + row;
    float top = k->norm.scale_mask_max(p, p, bias, limn_attention_scale(t->b->a), n);
    float m = top > *max ? top : *max;
    if (m < MASKED_BELOW) m = -INFINITY;
    float shift = m == -INFINITY ? 0 : m; /* nothing seen yet: all weights become 0 */
    float keep = expf(*max - shift);
    float sum = (float)k->norm.exp_sum(p, shift, n);
    if (keep != 1) k->elementwise.affine(acc, acc, keep, 0, dv);
    t->to.l[row] = t->to.l[row] * keep + sum;
    *max = m;
}

static void score_keys(const stream *t, int64_t j, int64_t keys) {
    const limn_attention_args *a = t->b->a;
    for (int64_t i = 0; i < keys; i += STEP_KEYS)
        for (int64_t h = 0; h < t->kv_heads; h++) {
            int64_t row = h * t->rows, n = min_i64(STEP_KEYS, keys - i);
            limn_attention_rows_in k = view_rows(t, false, h, j + i, n);
            fetch_ahead(t, (place){j, keys, i, false}, h);
            t->b->kernels->attention.dots(t->own.s + row * KEY_BLOCK + i, KEY_BLOCK,
                                          t->own.q + row * a->dim, t->rows, &k);
        }
}

/* Keys of the block from j on that the query of a row sees. */
static int64_t seen_keys(const stream *t, int64_t row, int64_t j, int64_t keys) {
    int64_t see = limn_attention_visible(t->b->a, t->b->q0 + row % t->b->q_count) - j;
    return see < 0 ? 0 : min_i64(see, keys);
}

/* A value behind a row's limit is not even multiplied by 0: where rows of a kv head have different
 * limits, each is mixed by itself. */
static void mix_values(const stream *t, int64_t j, int64_t keys) {
    const limn_attention_args *a = t->b->a;
    int64_t dv = limn_attention_dim_v(a);
    bool all = limn_attention_visible(a, t->b->q0) >= j + keys;
    for (int64_t i = 0; i < keys; i += STEP_KEYS)
        for (int64_t h = 0; h < t->kv_heads; h++) {
            int64_t row = h * t->rows, n = min_i64(STEP_KEYS, keys - i);
            limn_attention_rows_in v = view_rows(t, true, h, j + i, n);
            fetch_ahead(t, (place){j, keys, i, true}, h);
            for (int64_t r = row; r < row + t->rows; r += all ? t->rows : 1) {
                if (!all) v.keys = seen_keys(t, r, j + i, n);
                t->b->kernels->attention.mix(t->to.acc + r * dv, t->own.s + r * KEY_BLOCK + i,
                                             KEY_BLOCK, all ? t->rows : 1, &v);
            }
        }
}

/* Streams keys [k0, k1) into `to`. */
static void stream_keys(const limn_attention_block *b, int64_t k0, int64_t k1, state to,
                        scratch own) {
    const limn_attention_args *a = b->a;
    int64_t group = min_i64(a->heads / a->kv_heads, b->heads), rows = b->heads * b->q_count;
    stream t = {.b = b,
                .to = to,
                .own = own,
                .kv_head0 = b->head0 / (a->heads / a->kv_heads),
                .kv_heads = b->heads / group,
                .rows = group * b->q_count};
    t.in[0] = source_of(&a->k, b->batch, t.kv_head0, a->dim);
    t.in[1] = source_of(&a->v, b->batch, t.kv_head0, limn_attention_dim_v(a));
    int64_t step = STEP_KEYS * t.kv_heads * t.in[0].at.bytes;
    t.ahead = min_i64((AHEAD_BYTES - 1) / step + 1, KEY_BLOCK / STEP_KEYS) * STEP_KEYS;
    for (int64_t r = 0; r < rows; r++) to.m[r] = -INFINITY, to.l[r] = 0;
    memset(to.acc, 0, (size_t)(rows * limn_attention_dim_v(a)) * 4);
    for (int64_t h = 0; h < b->heads; h++)
        limn_attention_load(b->kernels, own.q + h * b->q_count * a->dim, a->dim, &a->q, b->batch,
                            b->head0 + h, b->q0, b->q_count, a->dim);
    t.last = limn_attention_visible(a, b->q0 + b->q_count - 1);
    t.end = min_i64(k1, t.last);
    for (int64_t j = k0, keys; j < t.end; j += keys) {
        keys = min_i64(KEY_BLOCK, t.end - j);
        score_keys(&t, j, keys);
        for (int64_t r = 0; r < rows; r++) {
            int64_t i = b->q0 + r % b->q_count, see = seen_keys(&t, r, j, keys);
            const float *bias = limn_attention_bias_row(a, b->batch, b->head0 + r / b->q_count, i);
            if (see > 0) update_row(&t, r, bias ? bias + j : NULL, see);
        }
        mix_values(&t, j, keys);
    }
}

/* ---- few queries: key ranges, joined ---- */

/* Of each split of a batch entry the parts hold m and l of all its rows, then acc, as a state does.
 */
typedef struct few_job {
    const limn_exec *ex;
    const limn_attention_args *a;
    int64_t splits, cuts;        /* of the keys, of the kv heads */
    int64_t rows, rows_per_join; /* of a batch entry: heads * len_q */
    size_t part_bytes, worker_bytes;
    char *parts; /* [n, splits] */
} few_job;

bool limn_attention_is_few(const limn_attention_args *a) {
    return a->len_q * (a->heads / a->kv_heads) <= LIMN_ATTENTION_FEW_ROWS ||
           a->len_q <= LIMN_ATTENTION_FEW_QUERIES;
}

/* Heads are cut, as far as needed, only to give all threads work: no sum depends on it. */
static few_job few_plan(const limn_attention_args *a, int threads) {
    few_job j = {.a = a, .cuts = 1, .rows = a->heads * a->len_q};
    j.splits = a->len_k > SPLIT_KEYS ? (a->len_k - 1) / SPLIT_KEYS + 1 : 1;
    while (j.cuts < a->kv_heads &&
           (a->kv_heads % j.cuts != 0 || a->n * j.splits * j.cuts < TASKS_PER_THREAD * threads))
        j.cuts++;
    int64_t row = j.splits * limn_attention_dim_v(a);
    j.rows_per_join = row < JOIN_FLOATS ? JOIN_FLOATS / row : 1;
    uintptr_t part = 0, own = 0;
    take_state(a, j.rows, &part);
    take(&own, 2 * j.rows);
    lay_out(a, j.rows, &own);
    j.part_bytes = part;
    size_t weights = round64((size_t)j.splits * 4);
    j.worker_bytes = own > weights ? own : weights;
    return j;
}

size_t limn_attention_few_bytes(const limn_attention_args *a, int threads) {
    int64_t keys;
    if (!limn_mul_i64(&keys, a->n, a->len_k)) return SIZE_MAX;
    few_job j = few_plan(a, threads);
    size_t all, parts;
    bool ok = limn_mul_size(&all, j.worker_bytes, (size_t)(threads > 1 ? threads : 1)) &&
              limn_mul_size(&parts, j.part_bytes, (size_t)a->n) &&
              limn_mul_size(&parts, parts, (size_t)j.splits) && limn_add_size(&all, all, parts);
    return ok ? all : SIZE_MAX;
}

static state part_of(const few_job *j, int64_t batch, int64_t split) {
    uintptr_t at = (uintptr_t)(j->parts + (size_t)(batch * j->splits + split) * j->part_bytes);
    return take_state(j->a, j->rows, &at);
}

/* Rows [row, end) of a batch entry: its key ranges, first to last. */
static void join_rows(const few_job *j, int64_t batch, int64_t row, int64_t end, float *weight) {
    const limn_attention_args *a = j->a;
    const limn_kernels *k = j->ex->k;
    int64_t dv = limn_attention_dim_v(a);
    limn_attention_block b = {.kernels = k, .a = a, .batch = batch};
    limn_attention_rows_in in = {.type = LIMN_F32,
                                 .stride = (int64_t)(j->part_bytes / sizeof(float)),
                                 .keys = j->splits,
                                 .dim = dv};
    _Alignas(64) float sum[LIMN_ATTENTION_DIM_MAX];
    for (; row < end; row++) {
        float top = -INFINITY, l = 0;
        for (int64_t s = 0; s < j->splits; s++) {
            weight[s] = part_of(j, batch, s).m[row];
            if (weight[s] > top) top = weight[s];
        }
        k->norm.exp_sum(weight, top == -INFINITY ? 0 : top, j->splits);
        for (int64_t s = 0; s < j->splits; s++) l += weight[s] * part_of(j, batch, s).l[row];
        memset(sum, 0, (size_t)dv * sizeof *sum);
        in.data = part_of(j, batch, 0).acc + row * dv;
        k->attention.mix(sum, weight, 0, 1, &in);
        k->elementwise.affine(sum, sum, l != 0 ? 1.0f / l : 0, 0, dv);
        limn_attention_store(&b, row / a->len_q, row % a->len_q, sum);
    }
}

static char *own_scratch(const few_job *j, int worker) {
    return (char *)j->ex->scratch + (size_t)worker * j->worker_bytes;
}

static void join_task(void *arg, size_t task, int worker) {
    const few_job *j = arg;
    int64_t per_batch = (j->rows - 1) / j->rows_per_join + 1;
    int64_t row = (int64_t)task % per_batch * j->rows_per_join;
    join_rows(j, (int64_t)task / per_batch, row, min_i64(row + j->rows_per_join, j->rows),
              (float *)(void *)own_scratch(j, worker));
}

static void split_task(void *arg, size_t task, int worker) {
    const few_job *j = arg;
    const limn_attention_args *a = j->a;
    if (limn_exec_cancelled(j->ex)) return;
    int64_t cut = (int64_t)task % j->cuts, at = (int64_t)task / j->cuts, split = at % j->splits;
    limn_attention_block b = {.kernels = j->ex->k,
                              .a = a,
                              .batch = at / j->splits,
                              .heads = a->heads / j->cuts,
                              .q_count = a->len_q};
    b.head0 = cut * b.heads;
    int64_t row = b.head0 * a->len_q, rows = b.heads * a->len_q;
    uintptr_t own = (uintptr_t)own_scratch(j, worker);
    float *m = take(&own, 2 * rows); /* while it runs not in lines that other tasks write */
    state to = part_of(j, b.batch, split);
    state s = {.m = m, .l = m + rows, .acc = to.acc + row * limn_attention_dim_v(a)};
    stream_keys(&b, split * SPLIT_KEYS, min_i64((split + 1) * SPLIT_KEYS, a->len_k), s,
                lay_out(a, rows, &own));
    memcpy(to.m + row, s.m, (size_t)rows * sizeof *m);
    memcpy(to.l + row, s.l, (size_t)rows * sizeof *m);
    if (j->splits == 1)
        join_rows(j, b.batch, row, row + rows, (float *)(void *)own_scratch(j, worker));
}

void limn_attention_few(const limn_exec *ex, const limn_attention_args *a) {
    int threads = limn_pool_threads(ex->pool);
    few_job j = few_plan(a, threads);
    j.ex = ex;
    j.parts = (char *)ex->scratch + (size_t)threads * j.worker_bytes;
    limn_pool_run_near(ex->pool, split_task, &j, (size_t)(a->n * j.splits * j.cuts));
    if (j.splits > 1 && !limn_exec_cancelled(ex))
        limn_pool_run(ex->pool, join_task, &j,
                      (size_t)(a->n * ((j.rows - 1) / j.rows_per_join + 1)));
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

static size_t tile_bytes(const limn_attention_args *a, int64_t rows) {
    uintptr_t at = 0;
    take_state(a, rows, &at);
    lay_out(a, rows, &at);
    return at;
}

static void tile_c(const limn_attention_block *b, void *room) {
    uintptr_t at = (uintptr_t)room;
    int64_t rows = b->heads * b->q_count, dv = limn_attention_dim_v(b->a);
    state s = take_state(b->a, rows, &at);
    stream_keys(b, 0, b->a->len_k, s, lay_out(b->a, rows, &at));
    for (int64_t r = 0; r < rows; r++) {
        float *row = s.acc + r * dv;
        float inv = s.l[r] != 0 ? 1.0f / s.l[r] : 0;
        b->kernels->elementwise.affine(row, row, inv, 0, dv);
        limn_attention_store(b, b->head0 + r / b->q_count, b->q0 + r % b->q_count, row);
    }
}

void limn_attention_fill_c(limn_attention_kernels *t) {
    t->f32 = (limn_attention_tiler){1, tile_bytes, tile_c};
    t->bf16 = t->f32;
    t->dots = dots_c;
    t->mix = mix_c;
}
