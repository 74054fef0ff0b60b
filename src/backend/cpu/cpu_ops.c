/* SPDX-License-Identifier: MIT */
/* Ops of the CPU backend: node attributes to kernel arguments; see cpu_ops.h. */
#include "backend/cpu/cpu_ops.h"

#include <math.h>

#include "kernels/attention.h"
#include "kernels/conv.h"
#include "kernels/elementwise.h"
#include "kernels/experts.h"
#include "kernels/matmul.h"
#include "kernels/move.h"
#include "kernels/norm.h"
#include "kernels/rope.h"

static int64_t count_of(const limn_node *n) {
    return limn_shape_count(&n->shape);
}
static int64_t last_of(const limn_node *n) {
    return n->shape.dim[n->shape.ndim - 1];
}
static int64_t rows_of(const limn_node *n) {
    return count_of(n) / last_of(n);
}

static limn_rows rows_out(const cpu_step *s) {
    return (limn_rows){s->y, s->n->dtype, last_of(s->n)};
}

static limn_rows_in rows_in(const cpu_step *s, int i) {
    const limn_node *x = s->n->src[i];
    return (limn_rows_in){.data = s->x[i], .type = x->dtype, .stride = last_of(x), .repeat = 1};
}

static const float *vector_of(const limn_weight_entry *e) {
    return e ? e->vector : NULL;
}

/* ---- products ---- */
static limn_epilogue epilogue_of(const cpu_step *s) {
    const limn_attr *a = &s->n->attr;
    int at = 1;
    limn_epilogue e = {
        .bias = vector_of(s->bias), .act = a->act, .slope = a->slope, .scale = a->mul};
    if (a->channel_add) {
        e.add = s->x[at++];
        e.add_rows = rows_of(s->n) / s->n->shape.dim[0];
    }
    if (a->gated) {
        bool geglu = a->glu == LIMN_GLU_GEGLU;
        e.gate = geglu ? LIMN_GATE_SECOND : LIMN_GATE_FIRST;
        e.act = geglu ? LIMN_ACT_GELU : LIMN_ACT_SILU;
    }
    if (a->residual) {
        e.residual = s->x[at];
        e.residual_dtype = s->n->src[at]->dtype;
        e.residual_stride = last_of(s->n);
    }
    return e;
}

static limn_matmul_args matmul_args(const cpu_step *s) {
    return (limn_matmul_args){
        .y = s->y,
        .y_dtype = s->n->dtype,
        .y_stride = last_of(s->n),
        .x = s->x[0],
        .x_dtype = s->n->src[0]->dtype,
        .x_stride = last_of(s->n->src[0]),
        .m = rows_of(s->n),
        .w = s->w->packed,
        .epi = epilogue_of(s),
    };
}

static size_t linear_scratch(const cpu_step *s, const limn_kernels *k, int threads) {
    limn_matmul_args a = matmul_args(s);
    return limn_matmul_scratch_bytes(k, &a, threads);
}

static limn_status linear_run(const cpu_step *s, const limn_exec *ex, limn_err *err) {
    limn_matmul_args a = matmul_args(s);
    return limn_matmul(ex, &a, err);
}

/* A product that reads its source and nothing else: its result lies where nothing that the others
 * read has been. */
static bool is_lone_product(const cpu_step *s) {
    return s->n->op == LIMN_OP_LINEAR && s->n->n_src == 1 && !s->n->attr.gated;
}

int limn_cpu_together(const cpu_step *s, int left) {
    int n = 0;
    while (n < left && n < LIMN_MATMUL_TOGETHER && is_lone_product(s + n) &&
           s[n].n->src[0] == s->n->src[0])
        n++;
    return n;
}

static void together_args(limn_matmul_args args[LIMN_MATMUL_TOGETHER], const cpu_step *s) {
    for (int i = 0; i < s->together; i++) args[i] = matmul_args(s + i);
}

size_t limn_cpu_together_scratch(const cpu_step *s, const limn_kernels *k, int threads) {
    limn_matmul_args a[LIMN_MATMUL_TOGETHER];
    together_args(a, s);
    return limn_matmul_together_scratch_bytes(k, a, s->together, threads);
}

limn_status limn_cpu_together_run(const cpu_step *s, const limn_exec *ex, limn_err *err) {
    limn_matmul_args a[LIMN_MATMUL_TOGETHER];
    together_args(a, s);
    return limn_matmul_together(ex, a, s->together, err);
}

static limn_conv_args conv_args(const cpu_step *s) {
    const int64_t *x = s->n->src[0]->shape.dim, *w = s->n->w->t.shape.dim;
    const limn_attr *a = &s->n->attr;
    return (limn_conv_args){
        .shape = {.n = x[0],
                  .h = x[1],
                  .w = x[2],
                  .ic = x[3],
                  .oc = w[0],
                  .kh = (int)w[2],
                  .kw = (int)w[3],
                  .stride = a->stride,
                  .dilation = 1,
                  .pad_l = a->pad_l,
                  .pad_r = a->pad_r,
                  .pad_t = a->pad_t,
                  .pad_b = a->pad_b,
                  .upsample2 = a->upsample2,
                  .groups = 1},
        .y = s->y,
        .y_dtype = s->n->dtype,
        .y_stride = last_of(s->n),
        .x = s->x[0],
        .x_dtype = s->n->src[0]->dtype,
        .x_stride = x[3],
        .w = s->w->packed,
        .epi = epilogue_of(s),
    };
}

static size_t conv_scratch(const cpu_step *s, const limn_kernels *k, int threads) {
    limn_conv_args a = conv_args(s);
    return limn_conv_scratch_bytes(k, &a, threads);
}

static limn_status conv_run(const cpu_step *s, const limn_exec *ex, limn_err *err) {
    limn_conv_args a = conv_args(s);
    return limn_conv(ex, &a, err);
}

/* ---- norms ---- */
static limn_group_norm_args group_norm_args(const cpu_step *s) {
    int64_t n = s->n->shape.dim[0];
    return (limn_group_norm_args){
        .y = rows_out(s),
        .x = rows_in(s, 0),
        .n = n,
        .pixels = rows_of(s->n) / n,
        .channels = last_of(s->n),
        .groups = s->n->attr.groups,
        .weight = vector_of(s->w),
        .bias = vector_of(s->bias),
        .eps = s->n->attr.eps,
        .silu = s->n->attr.act == LIMN_ACT_SILU,
    };
}

static size_t group_norm_scratch(const cpu_step *s, const limn_kernels *k, int threads) {
    (void)k;
    (void)threads;
    limn_group_norm_args a = group_norm_args(s);
    return limn_group_norm_scratch_bytes(&a);
}

static limn_status group_norm_run(const cpu_step *s, const limn_exec *ex, limn_err *err) {
    (void)err;
    limn_group_norm_args a = group_norm_args(s);
    const float *given = s->n->n_src == 2 ? s->x[1] : NULL;
    if (given)
        limn_group_norm_apply(ex, &a, given, given + a.groups);
    else
        limn_group_norm_run(ex, &a);
    return LIMN_OK;
}

/* The parts of a window's rows. */
static size_t group_stats_scratch(const cpu_step *s, const limn_kernels *k, int threads) {
    (void)k;
    (void)threads;
    const int64_t *x = s->n->src[0]->shape.dim;
    return (size_t)x[1] * (size_t)s->n->attr.groups * 2 * sizeof(double);
}

static limn_status group_stats_run(const cpu_step *s, const limn_exec *ex, limn_err *err) {
    const int64_t *x = s->n->src[0]->shape.dim;
    const int32_t *at = s->x[1];
    int64_t f = s->n->attr.factor, groups = s->n->attr.groups;
    limn_norm_window w = {x[2], at[0] * f, at[1] * f, at[2] * f, at[3] * f};
    if (w.y0 < 0 || w.x0 < 0 || w.y1 <= w.y0 || w.x1 <= w.x0 || w.y1 > x[1] || w.x1 > x[2])
        return limn_fail(err, LIMN_E_LIMIT, "a window [%d, %d) x [%d, %d) does not lie in a tile",
                         at[0], at[2], at[1], at[3]);
    limn_group_norm_args a = {.x = rows_in(s, 0),
                              .n = 1,
                              .pixels = (w.y1 - w.y0) * (w.x1 - w.x0),
                              .channels = x[3],
                              .groups = groups};
    limn_group_norm_window(ex, &a, &w, s->y, (float *)s->y + groups);
    return LIMN_OK;
}

static limn_status row_norm_run(const cpu_step *s, const limn_exec *ex, limn_err *err) {
    (void)err;
    bool rms = s->n->op == LIMN_OP_RMS_NORM;
    int64_t dim = last_of(s->n), parts = 1;
    if (rms && s->n->w) parts = dim / limn_shape_count(&s->n->w->t.shape);
    limn_row_norm_args a = {
        .y = rows_out(s),
        .x = rows_in(s, 0),
        .rows = rows_of(s->n),
        .parts = parts,
        .dim = dim / parts,
        .weight = vector_of(s->w),
        .bias = vector_of(s->bias),
        .eps = s->n->attr.eps,
        .rms = rms,
    };
    limn_row_norm_run(ex, &a);
    return LIMN_OK;
}

/* ---- element-wise ---- */
static limn_status unary_run(const cpu_step *s, const limn_exec *ex, limn_err *err) {
    (void)err;
    limn_act_args a = {.y = rows_out(s),
                       .x = rows_in(s, 0),
                       .rows = rows_of(s->n),
                       .cols = last_of(s->n),
                       .act = s->n->attr.act,
                       .slope = s->n->attr.slope};
    limn_act_run(ex, &a);
    return LIMN_OK;
}

static limn_status affine_run(const cpu_step *s, const limn_exec *ex, limn_err *err) {
    (void)err;
    limn_affine_args a = {.y = rows_out(s),
                          .x = rows_in(s, 0),
                          .rows = rows_of(s->n),
                          .cols = last_of(s->n),
                          .mul = s->n->attr.mul,
                          .add = s->n->attr.add};
    limn_affine_run(ex, &a);
    return LIMN_OK;
}

static limn_status glu_run(const cpu_step *s, const limn_exec *ex, limn_err *err) {
    (void)err;
    bool geglu = s->n->attr.glu == LIMN_GLU_GEGLU;
    limn_rows_in first = rows_in(s, 0), second = first;
    size_t size = (size_t)limn_dtype_get(first.type)->bytes;
    second.data = (const char *)first.data + (size_t)last_of(s->n) * size;
    limn_glu_args a = {.y = rows_out(s),
                       .value = geglu ? first : second,
                       .gate = geglu ? second : first,
                       .rows = rows_of(s->n),
                       .cols = last_of(s->n),
                       .act = geglu ? LIMN_ACT_GELU : LIMN_ACT_SILU};
    limn_glu_run(ex, &a);
    return LIMN_OK;
}

/* The second operand of ADD / MUL. Its dimensions are: equal ones, then ones, then the last, which
 * is equal or one; anything else is refused. */
static limn_status broadcast_of(limn_rows_in *b, const cpu_step *s, limn_err *err) {
    const limn_shape *x = &s->n->shape, *t = &s->n->src[1]->shape;
    *b = rows_in(s, 1);
    b->single = last_of(s->n->src[1]) == 1 && last_of(s->n) != 1;
    int64_t repeat = 1;
    bool ones = false, fits = true;
    for (int d = 0; d + 1 < x->ndim; d++) {
        int at = d - (x->ndim - t->ndim);
        int64_t dim = at >= 0 ? t->dim[at] : 1;
        bool is_one = dim == 1 && x->dim[d] != 1;
        if (is_one)
            ones = true;
        else if (ones && x->dim[d] != 1)
            fits = false;
        if (is_one) repeat *= x->dim[d];
    }
    b->repeat = repeat;
    if (fits) return LIMN_OK;
    return limn_fail(err, LIMN_E_UNSUPPORTED, "broadcasting in the middle of a shape");
}

static limn_status binary_run(const cpu_step *s, const limn_exec *ex, limn_err *err) {
    limn_binary_args a = {.y = rows_out(s),
                          .a = rows_in(s, 0),
                          .rows = rows_of(s->n),
                          .cols = last_of(s->n),
                          .op = s->n->op == LIMN_OP_ADD ? LIMN_BINARY_ADD : LIMN_BINARY_MUL};
    limn_status st = broadcast_of(&a.b, s, err);
    if (st == LIMN_OK) limn_binary_run(ex, &a);
    return st;
}

/* ---- movement ---- */
static void copy_columns(const cpu_step *s, const limn_exec *ex, int src, int64_t y_at,
                         int64_t x_at, int64_t cols) {
    size_t size = (size_t)limn_dtype_get(s->n->dtype)->bytes;
    limn_copy_args a = {.y = (char *)s->y + (size_t)y_at * size,
                        .x = (const char *)s->x[src] + (size_t)x_at * size,
                        .size = size,
                        .planes = 1,
                        .rows = rows_of(s->n),
                        .cols = cols,
                        .y_row = last_of(s->n),
                        .x_row = last_of(s->n->src[src])};
    limn_copy_run(ex, &a);
}

static limn_status concat_run(const cpu_step *s, const limn_exec *ex, limn_err *err) {
    (void)err;
    int64_t first = last_of(s->n->src[0]);
    copy_columns(s, ex, 0, 0, 0, first);
    copy_columns(s, ex, 1, first, 0, last_of(s->n) - first);
    return LIMN_OK;
}

static limn_status slice_run(const cpu_step *s, const limn_exec *ex, limn_err *err) {
    (void)err;
    copy_columns(s, ex, 0, 0, s->n->attr.offset, last_of(s->n));
    return LIMN_OK;
}

static limn_status upsample_run(const cpu_step *s, const limn_exec *ex, limn_err *err) {
    (void)err;
    const int64_t *x = s->n->src[0]->shape.dim, *y = s->n->shape.dim;
    limn_upsample_args a = {.y = s->y,
                            .x = s->x[0],
                            .size = (size_t)limn_dtype_get(s->n->dtype)->bytes,
                            .n = x[0],
                            .in_h = x[1],
                            .in_w = x[2],
                            .out_h = y[1],
                            .out_w = y[2],
                            .channels = x[3]};
    limn_upsample_run(ex, &a);
    return LIMN_OK;
}

static limn_status timestep_run(const cpu_step *s, const limn_exec *ex, limn_err *err) {
    (void)ex;
    (void)err;
    const limn_attr *a = &s->n->attr;
    int64_t dim = last_of(s->n);
    for (int64_t i = 0; i < s->n->shape.dim[0]; i++) {
        double t = ((const float *)s->x[0])[i];
        limn_timestep_args args = {.y = (float *)s->y + i * dim,
                                   .t = &t,
                                   .n = 1,
                                   .dim = dim,
                                   .max_period = a->max_period,
                                   .shift = a->shift,
                                   .flip_sin_to_cos = a->flip};
        limn_timestep_run(&args);
    }
    return LIMN_OK;
}

static limn_status rows_run(const cpu_step *s, const limn_exec *ex, limn_err *err) {
    (void)ex;
    const int64_t *x = s->n->src[0]->shape.dim;
    size_t bytes = (size_t)x[2] * sizeof(float);
    for (int64_t i = 0; i < x[0]; i++) {
        int32_t row = ((const int32_t *)s->x[1])[i];
        if (row < 0 || row >= x[1])
            return limn_fail(err, LIMN_E_VALUE, "row %d of a sequence of %lld", row,
                             (long long)x[1]);
        memcpy((float *)s->y + i * x[2], (const float *)s->x[0] + (i * x[1] + row) * x[2], bytes);
    }
    return LIMN_OK;
}

static limn_status rope_run(const cpu_step *s, const limn_exec *ex, limn_err *err) {
    (void)err;
    const limn_attr *a = &s->n->attr;
    const limn_shape *t = &s->n->src[1]->shape;
    int64_t half = t->dim[t->ndim - 1];
    limn_rope_args args = {.y = rows_out(s),
                           .x = rows_in(s, 0),
                           .rows = rows_of(s->n),
                           .heads = a->heads,
                           .dim = last_of(s->n) / a->heads,
                           .rot = 2 * half,
                           .cos = s->x[1],
                           .sin = s->x[2],
                           .table_stride = half,
                           .table_rows = t->ndim == 2 ? t->dim[0] : 0,
                           .layout = a->rope_pairs ? LIMN_ROPE_PAIR : LIMN_ROPE_HALF};
    limn_rope_run(ex, &args);
    return LIMN_OK;
}

/* ---- attention ---- */
/* [n, len, heads * dim] */
static limn_attn_view attn_view(const cpu_step *s, int i, int heads) {
    const int64_t *d = s->n->src[i]->shape.dim;
    return (limn_attn_view){.data = s->x[i],
                            .type = s->n->src[i]->dtype,
                            .batch = d[1] * d[2],
                            .row = d[2],
                            .head = d[2] / heads};
}

static limn_attention_args attention_args(const cpu_step *s) {
    const limn_attr *a = &s->n->attr;
    const int64_t *q = s->n->src[0]->shape.dim, *k = s->n->src[1]->shape.dim;
    limn_attention_args args = {.q = attn_view(s, 0, a->heads),
                                .k = attn_view(s, 1, a->kv_heads),
                                .v = attn_view(s, 2, a->kv_heads),
                                .out = s->y,
                                .out_type = s->n->dtype,
                                .out_batch = q[1] * q[2],
                                .out_row = q[2],
                                .out_head = q[2] / a->heads,
                                .n = q[0],
                                .len_q = q[1],
                                .len_k = k[1],
                                .heads = a->heads,
                                .kv_heads = a->kv_heads,
                                .dim = q[2] / a->heads,
                                .scale = a->scale,
                                .causal = a->causal,
                                .offset = a->offset,
                                .exact = s->exact};
    if (s->n->n_src > 3) {
        args.bias = s->x[3];
        args.bias_row = k[1];
    }
    return args;
}

static size_t attention_scratch(const cpu_step *s, const limn_kernels *k, int threads) {
    limn_attention_args a = attention_args(s);
    return limn_attention_scratch_bytes(k, &a, threads);
}

static limn_status attention_run(const cpu_step *s, const limn_exec *ex, limn_err *err) {
    limn_attention_args a = attention_args(s);
    limn_attention_run(ex, &a);
    if (limn_exec_cancelled(ex)) return limn_fail(err, LIMN_E_CANCELLED, "cancelled");
    return LIMN_OK;
}

/* ---- states ---- */
typedef struct cache_span {
    int64_t first, used;
} cache_span;

/* Checks {first, used} of sequence b against the rows that were planned. */
static limn_status span_get(cache_span *out, const cpu_step *s, int span, int64_t b, int64_t len,
                            int64_t rows, limn_err *err) {
    const int32_t *at = (const int32_t *)s->x[span] + last_of(s->n->src[span]) * b;
    *out = (cache_span){at[0], at[1]};
    if (at[0] >= 0 && at[1] >= 0 && at[1] <= len && out->first + out->used <= rows) return LIMN_OK;
    return limn_fail(err, LIMN_E_LIMIT, "%d positions from %d on do not fit a context of %lld",
                     at[1], at[0], (long long)rows);
}

typedef struct store_job {
    const cpu_step *s;
    const limn_kernels *k;
    char *to;
    const float *from;
    size_t row_bytes;
    int64_t width;
} store_job;

static void store_task(void *arg, size_t task, int worker) {
    const store_job *j = arg;
    (void)worker;
    limn_row_from_f32(j->k, j->to + task * j->row_bytes, j->from + (int64_t)task * j->width,
                      j->s->n->dtype, j->width);
}

static limn_status store_run(const cpu_step *s, const limn_exec *ex, limn_err *err) {
    const int64_t *x = s->n->src[1]->shape.dim;
    int64_t rows = s->n->shape.dim[1];
    limn_status st = LIMN_OK;
    for (int64_t b = 0; b < x[0] && st == LIMN_OK; b++) {
        cache_span span;
        store_job j = {
            .s = s, .k = ex->k, .from = (const float *)s->x[1] + b * x[1] * x[2], .width = x[2]};
        st = span_get(&span, s, 2, b, x[1], rows, err);
        if (st != LIMN_OK) break;
        (void)limn_dtype_row_bytes(&j.row_bytes, s->n->dtype, x[2]);
        j.to = (char *)s->y + (size_t)(b * rows + span.first) * j.row_bytes;
        limn_pool_run(ex->pool, store_task, &j, (size_t)span.used);
    }
    return st;
}

/* `used` queries of sequence b over `keys` rows of its state. */
static limn_attention_args cached_args(const cpu_step *s, int64_t b, int64_t used, int64_t keys) {
    const limn_attr *a = &s->n->attr;
    const limn_node *kn = s->n->src[1];
    const int64_t *q = s->n->src[0]->shape.dim;
    int64_t width = kn->shape.dim[2];
    size_t q_size = (size_t)limn_dtype_get(s->n->src[0]->dtype)->bytes;
    size_t y_size = (size_t)limn_dtype_get(s->n->dtype)->bytes, row_bytes = 0;
    (void)limn_dtype_row_bytes(&row_bytes, kn->dtype, width);
    size_t q_at = (size_t)(b * q[1] * q[2]), k_at = (size_t)(b * kn->shape.dim[1]) * row_bytes;
    limn_attn_view view = {
        .type = kn->dtype, .batch = keys * width, .row = width, .head = width / a->kv_heads};
    limn_attention_args args = {.q = {.data = (const char *)s->x[0] + q_at * q_size,
                                      .type = s->n->src[0]->dtype,
                                      .batch = q[1] * q[2],
                                      .row = q[2],
                                      .head = q[2] / a->heads},
                                .k = view,
                                .v = view,
                                .out = (char *)s->y + q_at * y_size,
                                .out_type = s->n->dtype,
                                .out_batch = q[1] * q[2],
                                .out_row = q[2],
                                .out_head = q[2] / a->heads,
                                .n = 1,
                                .len_q = used,
                                .len_k = keys,
                                .heads = a->heads,
                                .kv_heads = a->kv_heads,
                                .dim = q[2] / a->heads,
                                .scale = a->scale,
                                .causal = true,
                                .offset = keys - used,
                                .exact = s->exact};
    /* unbound while the program is prepared: only the shape counts then */
    if (s->x[1]) args.k.data = (const char *)s->x[1] + k_at;
    if (s->x[2]) args.v.data = (const char *)s->x[2] + k_at;
    return args;
}

/* Where the branch of each query begins; NULL when all rows are one text. */
static const int32_t *branches_of(const cpu_step *s, int64_t b) {
    int64_t stride = last_of(s->n->src[3]);
    return stride > 2 ? (const int32_t *)s->x[3] + b * stride + 2 : NULL;
}

/* Which keys the queries of branches do not see: [used, keys], in front of the scratch. */
static size_t branches_bytes(const cpu_step *s) {
    if (last_of(s->n->src[3]) == 2) return 0;
    size_t bytes = (size_t)(s->n->shape.dim[1] * s->n->src[1]->shape.dim[1]) * sizeof(float);
    return (bytes + 63) & ~(size_t)63;
}

static limn_status branches_mask(float *bias, const int32_t *from, const cache_span *span,
                                 limn_err *err) {
    int64_t keys = span->first + span->used;
    for (int64_t i = 0; i < span->used; i++) {
        if (from[i] < 0 || from[i] > i)
            return limn_fail(err, LIMN_E_VALUE, "row %lld of a branch that begins at %d",
                             (long long)i, from[i]);
        for (int64_t j = 0; j < keys; j++)
            bias[i * keys + j] = j >= span->first && j < span->first + from[i] ? -INFINITY : 0;
    }
    return LIMN_OK;
}

/* The most that any number of queries takes: the longest chunk, or few rows over all keys. */
static size_t cached_scratch(const cpu_step *s, const limn_kernels *k, int threads) {
    int64_t len = s->n->shape.dim[1], rows = s->n->src[1]->shape.dim[1];
    size_t most = 0;
    for (int64_t used = 1; used <= len; used = used < LIMN_ATTENTION_FEW_ROWS ? used + 1 : len) {
        limn_attention_args a = cached_args(s, 0, used, rows);
        size_t bytes = limn_attention_scratch_bytes(k, &a, threads);
        if (bytes > most) most = bytes;
        if (used == len) break;
    }
    return most + branches_bytes(s);
}

static limn_status cached_run(const cpu_step *s, const limn_exec *ex, limn_err *err) {
    const int64_t *q = s->n->shape.dim;
    size_t row = (size_t)q[2] * (size_t)limn_dtype_get(s->n->dtype)->bytes;
    for (int64_t b = 0; b < q[0]; b++) {
        cache_span span;
        limn_status st = span_get(&span, s, 3, b, q[1], s->n->src[1]->shape.dim[1], err);
        if (st != LIMN_OK) return st;
        memset((char *)s->y + (size_t)(b * q[1] + span.used) * row, 0,
               (size_t)(q[1] - span.used) * row);
        if (span.used == 0) continue;
        limn_attention_args a = cached_args(s, b, span.used, span.first + span.used);
        limn_exec inner = *ex;
        const int32_t *from = branches_of(s, b);
        if (from) {
            st = branches_mask(ex->scratch, from, &span, err);
            if (st != LIMN_OK) return st;
            a.bias = ex->scratch;
            a.bias_row = span.first + span.used;
            inner.scratch = (char *)ex->scratch + branches_bytes(s);
            inner.scratch_bytes = ex->scratch_bytes - branches_bytes(s);
        }
        limn_attention_run(&inner, &a);
        if (limn_exec_cancelled(ex)) return limn_fail(err, LIMN_E_CANCELLED, "cancelled");
    }
    return LIMN_OK;
}

/* ---- mixtures of experts ---- */
static limn_status route_run(const cpu_step *s, const limn_exec *ex, limn_err *err) {
    (void)err;
    limn_route_args a = {.y = s->y,
                         .logits = s->x[0],
                         .rows = rows_of(s->n),
                         .experts = last_of(s->n->src[0]),
                         .top = s->n->attr.top,
                         .span = s->n->n_src > 1 ? s->x[1] : NULL,
                         .span_stride = s->n->n_src > 1 ? last_of(s->n->src[1]) : 0,
                         .len = s->n->shape.dim[1]};
    limn_route_run(ex, &a);
    return LIMN_OK;
}

static limn_experts_args experts_args(const cpu_step *s) {
    int64_t width = last_of(s->n->src[0]), k = s->w->experts[0]->k;
    return (limn_experts_args){.y = s->y,
                               .x = s->x[0],
                               .x_stride = width,
                               .x_part = width == k ? 0 : k,
                               .route = s->x[1],
                               .rows = rows_of(s->n),
                               .top = (int)(last_of(s->n->src[1]) / 2),
                               .w = s->w->experts,
                               .experts = s->n->w->t.shape.dim[0]};
}

static size_t experts_scratch(const cpu_step *s, const limn_kernels *k, int threads) {
    limn_experts_args a = experts_args(s);
    return limn_experts_scratch_bytes(k, &a, threads);
}

static limn_status experts_run(const cpu_step *s, const limn_exec *ex, limn_err *err) {
    limn_experts_args a = experts_args(s);
    return limn_experts_run(ex, &a, err);
}

static limn_status mix_run(const cpu_step *s, const limn_exec *ex, limn_err *err) {
    (void)err;
    limn_mix_args a = {.y = s->y,
                       .x = s->x[0],
                       .route = s->x[1],
                       .rows = rows_of(s->n),
                       .n = last_of(s->n),
                       .top = (int)(last_of(s->n->src[1]) / 2)};
    limn_mix_run(ex, &a);
    return LIMN_OK;
}

/* ---- upscalers: a row of pixels per task ---- */
static void prelu_task(void *arg, size_t task, int worker) {
    (void)worker;
    const cpu_step *s = arg;
    int64_t c = last_of(s->n), rows = rows_of(s->n), per = rows / s->n->shape.dim[0];
    if (s->n->shape.ndim == 4) per = s->n->shape.dim[2];
    bool one = limn_shape_count(&s->n->w->t.shape) == 1;
    const float *w = s->w->vector, *x = (const float *)s->x[0] + (int64_t)task * per * c;
    float *y = (float *)s->y + (int64_t)task * per * c;
    for (int64_t r = 0; r < per; r++, x += c, y += c)
        for (int64_t i = 0; i < c; i++) y[i] = x[i] < 0 ? x[i] * w[one ? 0 : i] : x[i];
}

static limn_status prelu_run(const cpu_step *s, const limn_exec *ex, limn_err *err) {
    (void)err;
    const limn_shape *d = &s->n->shape;
    size_t tasks = d->ndim == 4 ? (size_t)(d->dim[0] * d->dim[1]) : (size_t)d->dim[0];
    limn_pool_run(ex->pool, prelu_task, (void *)(uintptr_t)s, tasks);
    return LIMN_OK;
}

/* One row of the small map [w, c*f*f] against f rows of the large one. */
static void shuffle_task(void *arg, size_t task, int worker) {
    (void)worker;
    const cpu_step *s = arg;
    bool up = s->n->op == LIMN_OP_PIXEL_SHUFFLE;
    const int64_t *d = (up ? s->n->src[0] : s->n)->shape.dim;
    int64_t f = s->n->attr.factor, c = d[3] / (f * f), row = (int64_t)task;
    float *small = (float *)(up ? s->x[0] : s->y) + row * d[2] * d[3];
    float *big = (float *)(up ? s->y : s->x[0]) + row * f * d[2] * f * c;
    for (int64_t x = 0; x < d[2]; x++)
        for (int64_t k = 0; k < d[3]; k++) {
            int64_t i = k / f % f, j = k % f;
            float *b = &big[(i * d[2] * f + x * f + j) * c + k / (f * f)],
                  *a = &small[x * d[3] + k];
            if (up)
                *b = *a;
            else
                *a = *b;
        }
}

static limn_status shuffle_run(const cpu_step *s, const limn_exec *ex, limn_err *err) {
    (void)err;
    bool up = s->n->op == LIMN_OP_PIXEL_SHUFFLE;
    const int64_t *d = (up ? s->n->src[0] : s->n)->shape.dim;
    limn_pool_run(ex->pool, shuffle_task, (void *)(uintptr_t)s, (size_t)(d[0] * d[1]));
    return LIMN_OK;
}

const cpu_op limn_cpu_ops[LIMN_OP_COUNT] = {
    /* clang-format off */
    [LIMN_OP_LINEAR]     = {true, LIMN_USE_MATRIX, linear_scratch,     linear_run},
    [LIMN_OP_CONV2D]     = {true, LIMN_USE_CONV,   conv_scratch,       conv_run},
    [LIMN_OP_GROUP_NORM] = {true, LIMN_USE_VECTOR, group_norm_scratch, group_norm_run},
    [LIMN_OP_GROUP_STATS] = {true, LIMN_USE_VECTOR, group_stats_scratch, group_stats_run},
    [LIMN_OP_LAYER_NORM] = {true, LIMN_USE_VECTOR, NULL,               row_norm_run},
    [LIMN_OP_RMS_NORM]   = {true, LIMN_USE_VECTOR, NULL,               row_norm_run},
    [LIMN_OP_ATTENTION]  = {true, LIMN_USE_VECTOR, attention_scratch,  attention_run},
    [LIMN_OP_UNARY]      = {true, LIMN_USE_VECTOR, NULL,               unary_run},
    [LIMN_OP_GLU]        = {true, LIMN_USE_VECTOR, NULL,               glu_run},
    [LIMN_OP_ADD]        = {true, LIMN_USE_VECTOR, NULL,               binary_run},
    [LIMN_OP_MUL]        = {true, LIMN_USE_VECTOR, NULL,               binary_run},
    [LIMN_OP_AFFINE]     = {true, LIMN_USE_VECTOR, NULL,               affine_run},
    [LIMN_OP_CONCAT]     = {true, LIMN_USE_VECTOR, NULL,               concat_run},
    [LIMN_OP_UPSAMPLE]   = {true, LIMN_USE_VECTOR, NULL,               upsample_run},
    [LIMN_OP_TIMESTEP]   = {true, LIMN_USE_VECTOR, NULL,               timestep_run},
    [LIMN_OP_ROWS]       = {true, LIMN_USE_VECTOR, NULL,               rows_run},
    [LIMN_OP_ROPE]       = {true, LIMN_USE_VECTOR, NULL,               rope_run},
    [LIMN_OP_SLICE]      = {true, LIMN_USE_VECTOR, NULL,               slice_run},
    [LIMN_OP_PRELU]      = {true, LIMN_USE_VECTOR, NULL,               prelu_run},
    [LIMN_OP_PIXEL_SHUFFLE]   = {true, LIMN_USE_VECTOR, NULL,          shuffle_run},
    [LIMN_OP_PIXEL_UNSHUFFLE] = {true, LIMN_USE_VECTOR, NULL,          shuffle_run},
    [LIMN_OP_STORE]           = {true, LIMN_USE_VECTOR, NULL,          store_run},
    [LIMN_OP_CACHED_ATTENTION] = {true, LIMN_USE_VECTOR, cached_scratch, cached_run},
    [LIMN_OP_ROUTE]           = {true, LIMN_USE_VECTOR, NULL,          route_run},
    [LIMN_OP_EXPERTS]         = {true, LIMN_USE_EXPERTS, experts_scratch, experts_run},
    [LIMN_OP_MIX]             = {true, LIMN_USE_VECTOR, NULL,          mix_run},
    /* clang-format on */
};
