/* SPDX-License-Identifier: MIT */
/* Shape inference and cost of every op; see op_table.h and the contracts in graph.h. */
#include "graph/op_table.h"

#include <stdio.h>

typedef struct text96 {
    char s[96];
} text96;

static text96 shape_text(const limn_shape *s) {
    text96 t;
    limn_shape_format(s, t.s, sizeof t.s);
    return t;
}

static const char *weight_name(const limn_weight *w) {
    return w && w->name ? w->name : "?";
}

static int64_t last_dim(const limn_shape *s) {
    return s->ndim > 0 ? s->dim[s->ndim - 1] : 1;
}

static int64_t row_count(const limn_shape *s) {
    int64_t n = 1;
    for (int i = 0; i + 1 < s->ndim; i++) n *= s->dim[i];
    return n;
}

static limn_status vector_check(const limn_weight *v, int64_t want, const limn_node *n,
                                limn_err *err) {
    if (!v || (limn_shape_count(&v->t.shape) == want)) return LIMN_OK;
    return limn_fail(err, LIMN_E_SHAPE, "%s: has shape %s where %s needs %lld values",
                     weight_name(v), shape_text(&v->t.shape).s, limn_op_get(n->op)->name,
                     (long long)want);
}

static limn_status infer_input(limn_node *n, limn_err *err) {
    if (limn_shape_count(&n->shape) > 0) return LIMN_OK;
    return limn_fail(err, LIMN_E_SHAPE, "input '%s': shape %s is empty or too large",
                     n->name ? n->name : "?", shape_text(&n->shape).s);
}

static limn_status infer_same(limn_node *n, limn_err *err) {
    (void)err;
    n->shape = n->src[0]->shape;
    return LIMN_OK;
}

static limn_status infer_linear(limn_node *n, limn_err *err) {
    const limn_shape *ws = &n->w->t.shape, *xs = &n->src[0]->shape;
    bool trailing_ones = ws->ndim == 2 || (ws->ndim == 4 && ws->dim[2] == 1 && ws->dim[3] == 1) ||
                         (ws->ndim == 3 && ws->dim[2] == 1);
    if (!trailing_ones || xs->ndim < 1 || last_dim(xs) != ws->dim[1])
        return limn_fail(err, LIMN_E_SHAPE, "%s: shape %s does not multiply an input of shape %s",
                         weight_name(n->w), shape_text(ws).s, shape_text(xs).s);
    n->shape = *xs;
    n->shape.dim[xs->ndim - 1] = ws->dim[0];
    return vector_check(n->bias, ws->dim[0], n, err);
}

static limn_status infer_conv(limn_node *n, limn_err *err) {
    const limn_shape *ws = &n->w->t.shape, *xs = &n->src[0]->shape;
    limn_attr *a = &n->attr;
    if (ws->ndim != 4 || xs->ndim != 4 || xs->dim[3] != ws->dim[1])
        return limn_fail(err, LIMN_E_SHAPE, "%s: shape %s does not convolve an input of shape %s",
                         weight_name(n->w), shape_text(ws).s, shape_text(xs).s);
    if (a->stride == 0) a->stride = 1;
    int64_t up = a->upsample2 ? 2 : 1;
    int64_t h = xs->dim[1] * up + a->pad_t + a->pad_b - ws->dim[2];
    int64_t w = xs->dim[2] * up + a->pad_l + a->pad_r - ws->dim[3];
    if (h < 0 || w < 0)
        return limn_fail(err, LIMN_E_SHAPE, "%s: kernel %s is larger than its padded input %s",
                         weight_name(n->w), shape_text(ws).s, shape_text(xs).s);
    n->shape = LIMN_SHAPE(xs->dim[0], h / a->stride + 1, w / a->stride + 1, ws->dim[0]);
    return vector_check(n->bias, ws->dim[0], n, err);
}

static bool is_stats(const limn_node *s, int groups) {
    return s->dtype == LIMN_F32 && s->shape.ndim == 2 && s->shape.dim[0] == 2 &&
           s->shape.dim[1] == groups;
}

static limn_status infer_group_stats(limn_node *n, limn_err *err) {
    const limn_shape *x = &n->src[0]->shape;
    const limn_node *window = n->src[1];
    bool ok = x->ndim == 4 && x->dim[0] == 1 && n->attr.groups > 0 && n->attr.factor > 0 &&
              x->dim[3] % n->attr.groups == 0 && window->dtype == LIMN_I32 &&
              limn_shape_count(&window->shape) == 4;
    if (!ok)
        return limn_fail(err, LIMN_E_SHAPE, "statistics of %s in %d groups with a window %s",
                         shape_text(x).s, n->attr.groups, shape_text(&window->shape).s);
    n->shape = LIMN_SHAPE(2, n->attr.groups);
    return LIMN_OK;
}

static limn_status infer_norm(limn_node *n, limn_err *err) {
    const limn_shape *xs = &n->src[0]->shape;
    int64_t c = last_dim(xs);
    n->shape = *xs;
    if (n->op == LIMN_OP_GROUP_NORM && (xs->ndim < 3 || n->attr.groups < 1 || c % n->attr.groups))
        return limn_fail(err, LIMN_E_SHAPE, "%s: %lld channels do not split into %d groups",
                         weight_name(n->w), (long long)c, n->attr.groups);
    if (n->n_src == 2 && (xs->dim[0] != 1 || !is_stats(n->src[1], n->attr.groups)))
        return limn_fail(err, LIMN_E_SHAPE, "%s: statistics %s do not fit %s in %d groups",
                         weight_name(n->w), shape_text(&n->src[1]->shape).s, shape_text(xs).s,
                         n->attr.groups);
    if (n->op == LIMN_OP_RMS_NORM && n->w) {
        int64_t per = limn_shape_count(&n->w->t.shape);
        if (per > 0 && c % per == 0) return LIMN_OK;
    }
    limn_status st = vector_check(n->w, c, n, err);
    return st == LIMN_OK ? vector_check(n->bias, c, n, err) : st;
}

static limn_status infer_attention(limn_node *n, limn_err *err) {
    const limn_shape *q = &n->src[0]->shape, *k = &n->src[1]->shape, *v = &n->src[2]->shape;
    limn_attr *a = &n->attr;
    if (a->kv_heads == 0) a->kv_heads = a->heads;
    bool ok = q->ndim == 3 && k->ndim == 3 && limn_shape_equal(k, v) && q->dim[0] == k->dim[0] &&
              a->heads > 0 && a->kv_heads > 0 && a->heads % a->kv_heads == 0 &&
              q->dim[2] % a->heads == 0 && k->dim[2] % a->kv_heads == 0 &&
              q->dim[2] / a->heads == k->dim[2] / a->kv_heads;
    if (!ok)
        return limn_fail(err, LIMN_E_SHAPE,
                         "attention of %d heads (%d for keys): q %s, k %s, v %s "
                         "do not fit",
                         a->heads, a->kv_heads, shape_text(q).s, shape_text(k).s, shape_text(v).s);
    if (n->n_src == 4) {
        const limn_shape *m = &n->src[3]->shape;
        if (m->ndim != 2 || m->dim[0] != q->dim[1] || m->dim[1] != k->dim[1])
            return limn_fail(err, LIMN_E_SHAPE, "attention mask %s does not fit q %s and k %s",
                             shape_text(m).s, shape_text(q).s, shape_text(k).s);
    }
    n->shape = *q;
    return LIMN_OK;
}

static limn_status infer_glu(limn_node *n, limn_err *err) {
    n->shape = n->src[0]->shape;
    int64_t c = last_dim(&n->shape);
    if (n->shape.ndim < 1 || c % 2)
        return limn_fail(err, LIMN_E_SHAPE, "gated unit: %s cannot be halved",
                         shape_text(&n->shape).s);
    n->shape.dim[n->shape.ndim - 1] = c / 2;
    return LIMN_OK;
}

static limn_status infer_broadcast(limn_node *n, limn_err *err) {
    const limn_shape *x = &n->src[0]->shape, *b = &n->src[1]->shape;
    bool ok = b->ndim <= x->ndim;
    for (int i = 0; ok && i < b->ndim; i++) {
        int64_t db = b->dim[b->ndim - 1 - i], dx = x->dim[x->ndim - 1 - i];
        ok = db == dx || db == 1;
    }
    if (!ok)
        return limn_fail(err, LIMN_E_SHAPE, "%s: %s cannot be broadcast to %s",
                         limn_op_get(n->op)->name, shape_text(b).s, shape_text(x).s);
    n->shape = *x;
    return LIMN_OK;
}

static limn_status infer_concat(limn_node *n, limn_err *err) {
    const limn_shape *a = &n->src[0]->shape, *b = &n->src[1]->shape;
    bool ok = a->ndim == b->ndim && a->ndim > 0;
    for (int i = 0; ok && i + 1 < a->ndim; i++) ok = a->dim[i] == b->dim[i];
    if (!ok)
        return limn_fail(err, LIMN_E_SHAPE, "concat: %s and %s differ before the last dimension",
                         shape_text(a).s, shape_text(b).s);
    n->shape = *a;
    n->shape.dim[a->ndim - 1] += last_dim(b);
    return LIMN_OK;
}

/* The wanted size is already in n->shape (dims 1 and 2). */
static limn_status infer_upsample(limn_node *n, limn_err *err) {
    const limn_shape *x = &n->src[0]->shape;
    if (x->ndim != 4 || n->shape.dim[1] < x->dim[1] || n->shape.dim[2] < x->dim[2])
        return limn_fail(err, LIMN_E_SHAPE, "upsample: %s does not grow to %s", shape_text(x).s,
                         shape_text(&n->shape).s);
    n->shape = LIMN_SHAPE(x->dim[0], n->shape.dim[1], n->shape.dim[2], x->dim[3]);
    return LIMN_OK;
}

static limn_status infer_reshape(limn_node *n, limn_err *err) {
    const limn_shape *x = &n->src[0]->shape;
    if (limn_shape_count(x) == limn_shape_count(&n->shape)) return LIMN_OK;
    return limn_fail(err, LIMN_E_SHAPE, "reshape: %s has not as many elements as %s",
                     shape_text(x).s, shape_text(&n->shape).s);
}

/* n->shape.dim[1] holds the wanted width. */
static limn_status infer_timestep(limn_node *n, limn_err *err) {
    const limn_shape *t = &n->src[0]->shape;
    if (t->ndim != 1 || n->shape.dim[1] < 2 || n->shape.dim[1] % 2)
        return limn_fail(err, LIMN_E_SHAPE, "timestep embedding of width %lld for %s",
                         (long long)n->shape.dim[1], shape_text(t).s);
    n->shape = LIMN_SHAPE(t->dim[0], n->shape.dim[1]);
    return LIMN_OK;
}

static limn_status infer_rows(limn_node *n, limn_err *err) {
    const limn_shape *x = &n->src[0]->shape, *i = &n->src[1]->shape;
    if (x->ndim != 3 || i->ndim != 1 || i->dim[0] != x->dim[0] || n->src[1]->dtype != LIMN_I32)
        return limn_fail(err, LIMN_E_SHAPE, "rows: index %s does not fit %s", shape_text(i).s,
                         shape_text(x).s);
    n->shape = LIMN_SHAPE(x->dim[0], x->dim[2]);
    return LIMN_OK;
}

static limn_status infer_rope(limn_node *n, limn_err *err) {
    const limn_shape *x = &n->src[0]->shape, *c = &n->src[1]->shape;
    bool ok = x->ndim == 3 && n->attr.heads > 0 && x->dim[2] % n->attr.heads == 0 &&
              limn_shape_equal(c, &n->src[2]->shape) && (c->ndim == 2 || c->ndim == 3) &&
              c->dim[c->ndim - 2] == x->dim[1] && (c->ndim == 2 || c->dim[0] == x->dim[0]) &&
              2 * last_dim(c) <= x->dim[2] / n->attr.heads;
    if (!ok)
        return limn_fail(err, LIMN_E_SHAPE, "rope of %d heads: table %s does not fit %s",
                         n->attr.heads, shape_text(c).s, shape_text(x).s);
    n->shape = *x;
    return LIMN_OK;
}

/* {first, used}, and perhaps where the branch of each row begins. */
static bool is_span(const limn_node *span, int64_t n, int64_t len) {
    return span->dtype == LIMN_I32 && span->shape.ndim == 2 && span->shape.dim[0] == n &&
           (span->shape.dim[1] == 2 || span->shape.dim[1] == 2 + len);
}

static limn_status infer_state(limn_node *n, limn_err *err) {
    bool type = n->dtype == LIMN_F32 || n->dtype == LIMN_F16 || n->dtype == LIMN_BF16 ||
                n->dtype == LIMN_Q8_0;
    size_t bytes;
    if (type && n->shape.ndim == 3 && limn_shape_count(&n->shape) > 0 &&
        limn_tensor_bytes(&bytes, n->dtype, &n->shape))
        return LIMN_OK;
    return limn_fail(err, LIMN_E_SHAPE, "state '%s': cannot be %s %s", n->name ? n->name : "?",
                     limn_dtype_get(n->dtype)->name, shape_text(&n->shape).s);
}

static limn_status infer_store(limn_node *n, limn_err *err) {
    const limn_node *s = n->src[0];
    const limn_shape *x = &n->src[1]->shape;
    bool ok = s->op == LIMN_OP_STATE && x->ndim == 3 && x->dim[0] == s->shape.dim[0] &&
              x->dim[2] == s->shape.dim[2] && is_span(n->src[2], x->dim[0], x->dim[1]);
    if (!ok)
        return limn_fail(err, LIMN_E_SHAPE, "store: %s does not fit the state %s", shape_text(x).s,
                         shape_text(&s->shape).s);
    n->shape = s->shape;
    n->dtype = s->dtype;
    return LIMN_OK;
}

static limn_status infer_cached_attention(limn_node *n, limn_err *err) {
    const limn_node *kn = n->src[1], *vn = n->src[2];
    const limn_shape *q = &n->src[0]->shape, *k = &kn->shape;
    limn_attr *a = &n->attr;
    if (a->kv_heads == 0) a->kv_heads = a->heads;
    bool ok = kn->op == LIMN_OP_STORE && vn->op == LIMN_OP_STORE && q->ndim == 3 &&
              limn_shape_equal(k, &vn->shape) && q->dim[0] == k->dim[0] && a->heads > 0 &&
              a->kv_heads > 0 && a->heads % a->kv_heads == 0 && q->dim[2] % a->heads == 0 &&
              k->dim[2] % a->kv_heads == 0 && q->dim[2] / a->heads == k->dim[2] / a->kv_heads &&
              is_span(n->src[3], q->dim[0], q->dim[1]);
    if (!ok)
        return limn_fail(err, LIMN_E_SHAPE,
                         "attention of %d heads (%d for keys): q %s and the state %s do not fit",
                         a->heads, a->kv_heads, shape_text(q).s, shape_text(k).s);
    n->shape = *q;
    return LIMN_OK;
}

static limn_status infer_route(limn_node *n, limn_err *err) {
    const limn_shape *x = &n->src[0]->shape;
    bool ok = x->ndim == 3 && n->attr.top > 0 && n->attr.top <= x->dim[2] && x->dim[2] < 1 << 20 &&
              (n->n_src == 1 || is_span(n->src[1], x->dim[0], x->dim[1]));
    if (!ok)
        return limn_fail(err, LIMN_E_SHAPE, "route: %d experts cannot be chosen from %s",
                         n->attr.top, shape_text(x).s);
    n->shape = LIMN_SHAPE(x->dim[0], x->dim[1], 2 * n->attr.top);
    return LIMN_OK;
}

/* Rows of a choice: [n, len, 2 * top] beside [n, len, ...]. */
static bool is_route_of(const limn_node *route, const limn_shape *x) {
    const limn_shape *r = &route->shape;
    return route->op == LIMN_OP_ROUTE && x->ndim == 3 && r->dim[0] == x->dim[0] &&
           r->dim[1] == x->dim[1];
}

static limn_status infer_experts(limn_node *n, limn_err *err) {
    const limn_shape *x = &n->src[0]->shape, *w = &n->w->t.shape;
    bool ok = is_route_of(n->src[1], x) && w->ndim == 3;
    int64_t top = ok ? last_dim(&n->src[1]->shape) / 2 : 1, k = 0, m = 0;
    if (ok) {
        const limn_node *logits = n->src[1]->src[0];
        k = w->dim[n->attr.input_major ? 1 : 2], m = w->dim[n->attr.input_major ? 2 : 1];
        ok = w->dim[0] == last_dim(&logits->shape) && (x->dim[2] == k || x->dim[2] == top * k);
    }
    if (!ok)
        return limn_fail(err, LIMN_E_SHAPE, "%s: experts %s do not multiply %s", weight_name(n->w),
                         shape_text(w).s, shape_text(x).s);
    n->shape = LIMN_SHAPE(x->dim[0], x->dim[1], top * m);
    return LIMN_OK;
}

static limn_status infer_mix(limn_node *n, limn_err *err) {
    const limn_shape *y = &n->src[0]->shape, *r = &n->src[1]->shape;
    if (!is_route_of(n->src[1], y) || y->dim[2] % (r->dim[2] / 2) != 0)
        return limn_fail(err, LIMN_E_SHAPE, "mix: %s does not fit the choices %s", shape_text(y).s,
                         shape_text(r).s);
    n->shape = LIMN_SHAPE(y->dim[0], y->dim[1], y->dim[2] / (r->dim[2] / 2));
    return LIMN_OK;
}

/* The wanted width is in n->shape's last dimension. */
static limn_status infer_slice(limn_node *n, limn_err *err) {
    const limn_shape *x = &n->src[0]->shape;
    int64_t width = n->shape.dim[0], off = n->attr.offset;
    if (x->ndim < 1 || width < 1 || off < 0 || off + width > last_dim(x))
        return limn_fail(err, LIMN_E_SHAPE, "slice: columns %lld..%lld are outside %s",
                         (long long)off, (long long)(off + width), shape_text(x).s);
    n->shape = *x;
    n->shape.dim[x->ndim - 1] = width;
    return LIMN_OK;
}

static limn_status infer_prelu(limn_node *n, limn_err *err) {
    n->shape = n->src[0]->shape;
    if (limn_shape_count(&n->w->t.shape) == 1) return LIMN_OK;
    return vector_check(n->w, last_dim(&n->shape), n, err);
}

static limn_status infer_shuffle(limn_node *n, limn_err *err) {
    const limn_shape *x = &n->src[0]->shape;
    int64_t f = n->attr.factor;
    bool up = n->op == LIMN_OP_PIXEL_SHUFFLE;
    bool ok = x->ndim == 4 && f > 0 &&
              (up ? x->dim[3] % (f * f) == 0 : x->dim[1] % f == 0 && x->dim[2] % f == 0);
    if (!ok)
        return limn_fail(err, LIMN_E_SHAPE, "%s: %s does not divide by %lld",
                         limn_op_get(n->op)->name, shape_text(x).s, (long long)f);
    n->shape = up ? LIMN_SHAPE(x->dim[0], x->dim[1] * f, x->dim[2] * f, x->dim[3] / (f * f))
                  : LIMN_SHAPE(x->dim[0], x->dim[1] / f, x->dim[2] / f, x->dim[3] * f * f);
    return LIMN_OK;
}

static double flops_none(const limn_node *n) {
    (void)n;
    return 0;
}

static double flops_each(const limn_node *n) {
    return (double)limn_shape_count(&n->shape);
}

static double flops_linear(const limn_node *n) {
    double outputs = (double)last_dim(&n->shape) * (n->attr.gated ? 2 : 1);
    return 2.0 * (double)row_count(&n->shape) * outputs * (double)last_dim(&n->src[0]->shape);
}

static double flops_experts(const limn_node *n) {
    const limn_shape *w = &n->w->t.shape;
    return 2.0 * (double)limn_shape_count(&n->shape) * (double)w->dim[n->attr.input_major ? 1 : 2];
}

static double flops_conv(const limn_node *n) {
    const limn_shape *ws = &n->w->t.shape;
    return 2.0 * (double)limn_shape_count(&n->shape) *
           (double)(ws->dim[1] * ws->dim[2] * ws->dim[3]);
}

static double flops_attention(const limn_node *n) {
    const limn_shape *q = &n->src[0]->shape, *k = &n->src[1]->shape;
    return 4.0 * (double)(q->dim[0] * q->dim[1]) * (double)q->dim[2] * (double)k->dim[1];
}

#define NARROW (LIMN_OPF_NARROW_OUT | LIMN_OPF_NARROW_IN)

/* Columns: name, least and most sources, flags, shape rule, cost. */
static const limn_op_info rows[LIMN_OP_COUNT] = {
    /* clang-format off */
    [LIMN_OP_INPUT] = {"input", 0, 0, 0, infer_input, flops_none},
    [LIMN_OP_LINEAR] = {"linear", 1, 2, NARROW, infer_linear, flops_linear},
    [LIMN_OP_CONV2D] = {"conv2d", 1, 3, NARROW, infer_conv, flops_conv},
    [LIMN_OP_GROUP_STATS] = {"group_stats", 2, 2, 0, infer_group_stats, flops_each},
    [LIMN_OP_GROUP_NORM] = {"group_norm", 1, 2, NARROW | LIMN_OPF_INPLACE, infer_norm, flops_each},
    [LIMN_OP_LAYER_NORM] = {"layer_norm", 1, 1, LIMN_OPF_NARROW_OUT | LIMN_OPF_INPLACE, infer_norm, flops_each},
    [LIMN_OP_RMS_NORM] = {"rms_norm", 1, 1, LIMN_OPF_NARROW_OUT | LIMN_OPF_INPLACE, infer_norm, flops_each},
    [LIMN_OP_ATTENTION] = {"attention", 3, 4, NARROW, infer_attention, flops_attention},
    [LIMN_OP_UNARY] = {"unary", 1, 1, NARROW | LIMN_OPF_INPLACE, infer_same, flops_each},
    [LIMN_OP_GLU] = {"glu", 1, 1, NARROW, infer_glu, flops_each},
    [LIMN_OP_ADD] = {"add", 2, 2, LIMN_OPF_INPLACE, infer_broadcast, flops_each},
    [LIMN_OP_MUL] = {"mul", 2, 2, LIMN_OPF_INPLACE, infer_broadcast, flops_each},
    [LIMN_OP_AFFINE] = {"affine", 1, 1, LIMN_OPF_INPLACE, infer_same, flops_each},
    [LIMN_OP_CONCAT] = {"concat", 2, 2, 0, infer_concat, flops_none},
    [LIMN_OP_UPSAMPLE] = {"upsample", 1, 1, 0, infer_upsample, flops_none},
    [LIMN_OP_RESHAPE] = {"reshape", 1, 1, LIMN_OPF_VIEW, infer_reshape, flops_none},
    [LIMN_OP_TIMESTEP] = {"timestep", 1, 1, 0, infer_timestep, flops_none},
    [LIMN_OP_ROWS] = {"rows", 2, 2, 0, infer_rows, flops_none},
    [LIMN_OP_ROPE] = {"rope", 3, 3, LIMN_OPF_INPLACE, infer_rope, flops_each},
    [LIMN_OP_SLICE] = {"slice", 1, 1, 0, infer_slice, flops_none},
    [LIMN_OP_PRELU] = {"prelu", 1, 1, LIMN_OPF_INPLACE, infer_prelu, flops_each},
    [LIMN_OP_PIXEL_SHUFFLE] = {"pixel_shuffle", 1, 1, 0, infer_shuffle, flops_none},
    [LIMN_OP_PIXEL_UNSHUFFLE] = {"pixel_unshuffle", 1, 1, 0, infer_shuffle, flops_none},
    [LIMN_OP_STATE] = {"state", 0, 0, LIMN_OPF_STATE, infer_state, flops_none},
    [LIMN_OP_STORE] = {"store", 3, 3, LIMN_OPF_STATE, infer_store, flops_none},
    [LIMN_OP_CACHED_ATTENTION] = {"cached_attention", 4, 4, LIMN_OPF_NARROW_OUT,
                                  infer_cached_attention, flops_attention},
    [LIMN_OP_ROUTE] = {"route", 1, 2, 0, infer_route, flops_each},
    [LIMN_OP_EXPERTS] = {"experts", 2, 2, 0, infer_experts, flops_experts},
    [LIMN_OP_MIX] = {"mix", 2, 2, 0, infer_mix, flops_each},
    /* clang-format on */
};

const limn_op_info *limn_op_get(limn_op op) {
    return &rows[op];
}
