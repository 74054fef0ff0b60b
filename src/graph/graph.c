/* SPDX-License-Identifier: MIT */
/* The graph builder; see graph.h. */
#include "graph/graph.h"

#include <math.h>
#include <stdio.h>

#include "graph/op_table.h"

enum { MAX_NODES = 1 << 20 };

struct limn_graph {
    limn_arena arena;
    limn_node **nodes;
    int count, cap;
    int outputs;
    const char *label;
    limn_nn_tiles *tiles;
    bool wrap, narrow_sums;
    limn_err err; /* latched */
};

limn_status limn_graph_new(limn_graph **out, limn_err *err) {
    *out = limn_mem_calloc(1, sizeof **out);
    if (!*out) return limn_fail(err, LIMN_E_NOMEM, "no memory for a graph");
    limn_arena_init(&(*out)->arena);
    return LIMN_OK;
}

void limn_graph_free(limn_graph **g) {
    if (!g || !*g) return;
    limn_arena_deinit(&(*g)->arena);
    limn_mem_free((*g)->nodes);
    limn_mem_free(*g);
    *g = NULL;
}

limn_status limn_graph_check(const limn_graph *g, limn_err *err) {
    if (g->err.status != LIMN_OK) {
        if (err) *err = g->err;
        return g->err.status;
    }
    if (g->arena.failed) return limn_fail(err, LIMN_E_NOMEM, "no memory while building a graph");
    if (g->outputs == 0) return limn_fail(err, LIMN_E_INTERNAL, "a graph without an output");
    return LIMN_OK;
}

int limn_graph_count(const limn_graph *g) {
    return g->count;
}
limn_node *limn_graph_node(const limn_graph *g, int i) {
    return g->nodes[i];
}
limn_arena *limn_graph_arena(limn_graph *g) {
    return &g->arena;
}
void limn_graph_set_tiles(limn_graph *g, limn_nn_tiles *tiles) {
    g->tiles = tiles;
}

limn_nn_tiles *limn_graph_tiles(const limn_graph *g) {
    return g->tiles;
}

void limn_graph_set_wrap(limn_graph *g, bool wrap) {
    g->wrap = wrap;
}

bool limn_graph_wraps(const limn_graph *g) {
    return g->wrap;
}

void limn_graph_set_narrow_sums(limn_graph *g, bool narrow) {
    g->narrow_sums = narrow;
}

bool limn_graph_has_narrow_sums(const limn_graph *g) {
    return g->narrow_sums;
}

void limn_graph_set_label(limn_graph *g, const char *label) {
    g->label = limn_arena_strdup(&g->arena, label);
}

limn_node *limn_graph_fail(limn_graph *g, limn_status st, const char *fmt, ...) {
    if (g->err.status != LIMN_OK) return NULL;
    va_list ap;
    va_start(ap, fmt);
    limn_failv(&g->err, st, fmt, ap);
    va_end(ap);
    return NULL;
}

static bool nodes_reserve(limn_graph *g) {
    if (g->count < g->cap) return true;
    int cap = g->cap ? g->cap * 2 : 256;
    limn_node **p = cap <= MAX_NODES ? limn_mem_realloc(g->nodes, (size_t)cap * sizeof *p) : NULL;
    if (!p) {
        limn_graph_fail(g, LIMN_E_NOMEM, "no memory for a graph of more than %d nodes", g->count);
        return false;
    }
    g->nodes = p;
    g->cap = cap;
    return true;
}

/* Appends a node made from the template `t`; NULL once an error is latched or a source is NULL. */
static limn_node *node_add(limn_graph *g, const limn_node *t) {
    if (g->err.status != LIMN_OK) return NULL;
    for (int i = 0; i < t->n_src; i++)
        if (!t->src[i])
            return limn_graph_fail(g, LIMN_E_INTERNAL, "%s: a source is missing",
                                   limn_op_get(t->op)->name);
    for (int i = 0; i < t->n_src; i++) /* a state is read by the two ops made for it only */
        if ((limn_op_get(t->src[i]->op)->flags & LIMN_OPF_STATE) && t->op != LIMN_OP_STORE &&
            t->op != LIMN_OP_CACHED_ATTENTION)
            return limn_graph_fail(g, LIMN_E_INTERNAL, "%s: a state cannot be read like a tensor",
                                   limn_op_get(t->op)->name);
    limn_node *n = limn_arena_alloc(&g->arena, sizeof *n);
    if (!n || !nodes_reserve(g)) return NULL;
    *n = *t;
    n->id = g->count;
    if (!n->name) n->name = g->label;
    limn_err e = {0};
    if (limn_op_get(n->op)->infer(n, &e) != LIMN_OK)
        return limn_graph_fail(g, e.status, "%s%s%s", g->label ? g->label : "",
                               g->label ? ": " : "", e.text);
    g->nodes[g->count++] = n;
    return n;
}

limn_node *limn_g_input(limn_graph *g, const char *name, limn_dtype t, limn_shape shape) {
    limn_node n = {.op = LIMN_OP_INPUT, .dtype = t, .shape = shape};
    n.name = limn_arena_strdup(&g->arena, name);
    return node_add(g, &n);
}

limn_node *limn_g_state(limn_graph *g, const char *name, limn_dtype t, limn_shape shape) {
    limn_node n = {.op = LIMN_OP_STATE, .dtype = t, .shape = shape};
    n.name = limn_arena_strdup(&g->arena, name);
    return node_add(g, &n);
}

limn_node *limn_g_output(limn_graph *g, limn_node *x, const char *name) {
    if (!x || g->err.status != LIMN_OK) return NULL;
    if (limn_op_get(x->op)->flags & LIMN_OPF_STATE)
        return limn_graph_fail(g, LIMN_E_INTERNAL, "output '%s': a state cannot be an output",
                               name);
    /* A view or an input cannot be kept by itself: its storage belongs to another node. */
    if (x->op == LIMN_OP_INPUT || x->op == LIMN_OP_RESHAPE) x = limn_g_affine(g, x, 1.0f, 0.0f);
    if (!x) return NULL;
    x->is_output = true;
    x->name = limn_arena_strdup(&g->arena, name);
    g->outputs++;
    return x;
}

limn_node *limn_g_linear(limn_graph *g, limn_node *x, const limn_weight *w,
                         const limn_weight *bias) {
    if (!w) return limn_graph_fail(g, LIMN_E_MISSING, "linear: the weight is missing");
    limn_node n = {.op = LIMN_OP_LINEAR, .n_src = 1, .src = {x}, .w = w, .bias = bias};
    n.attr.mul = 1.0f;
    return node_add(g, &n);
}

limn_node *limn_g_exact(limn_node *linear) {
    if (linear) linear->attr.exact = true;
    return linear;
}

limn_node *limn_g_conv2d(limn_graph *g, limn_node *x, const limn_weight *w, const limn_weight *bias,
                         const limn_attr *a) {
    if (!w) return limn_graph_fail(g, LIMN_E_MISSING, "conv2d: the weight is missing");
    limn_node n = {.op = LIMN_OP_CONV2D, .n_src = 1, .src = {x}, .w = w, .bias = bias, .attr = *a};
    n.attr.mul = 1.0f;
    return node_add(g, &n);
}

static limn_node *norm_add(limn_graph *g, limn_op op, limn_node *x, const limn_weight *w,
                           const limn_weight *bias, const limn_attr *a) {
    limn_node n = {.op = op, .n_src = 1, .src = {x}, .w = w, .bias = bias, .attr = *a};
    return node_add(g, &n);
}

limn_node *limn_g_group_norm(limn_graph *g, limn_node *x, const limn_weight *w,
                             const limn_weight *bias, int groups, float eps) {
    return norm_add(g, LIMN_OP_GROUP_NORM, x, w, bias, &(limn_attr){.groups = groups, .eps = eps});
}

limn_node *limn_g_group_norm_given(limn_graph *g, limn_node *x, const limn_weight *w,
                                   const limn_weight *bias, int groups, limn_node *stats) {
    limn_node n = {.op = LIMN_OP_GROUP_NORM,
                   .n_src = 2,
                   .src = {x, stats},
                   .w = w,
                   .bias = bias,
                   .attr.groups = groups};
    return node_add(g, &n);
}

limn_node *limn_g_group_stats(limn_graph *g, limn_node *x, limn_node *window, int groups,
                              int factor) {
    limn_node n = {.op = LIMN_OP_GROUP_STATS,
                   .n_src = 2,
                   .src = {x, window},
                   .attr = {.groups = groups, .factor = factor}};
    return node_add(g, &n);
}

limn_node *limn_g_layer_norm(limn_graph *g, limn_node *x, const limn_weight *w,
                             const limn_weight *bias, float eps) {
    return norm_add(g, LIMN_OP_LAYER_NORM, x, w, bias, &(limn_attr){.eps = eps});
}

limn_node *limn_g_rms_norm(limn_graph *g, limn_node *x, const limn_weight *w, float eps) {
    return norm_add(g, LIMN_OP_RMS_NORM, x, w, NULL, &(limn_attr){.eps = eps});
}

limn_node *limn_g_attention(limn_graph *g, limn_node *q, limn_node *k, limn_node *v,
                            limn_node *mask, const limn_attr *a) {
    limn_node n = {
        .op = LIMN_OP_ATTENTION, .n_src = mask ? 4 : 3, .src = {q, k, v, mask}, .attr = *a};
    if (n.attr.scale == 0 && q && a->heads > 0 && q->shape.ndim == 3)
        n.attr.scale = (float)(1.0 / sqrt((double)q->shape.dim[2] / a->heads));
    return node_add(g, &n);
}

limn_node *limn_g_unary(limn_graph *g, limn_node *x, limn_act act) {
    limn_node n = {.op = LIMN_OP_UNARY, .n_src = 1, .src = {x}, .attr.act = act};
    return node_add(g, &n);
}

limn_node *limn_g_leaky_relu(limn_graph *g, limn_node *x, float slope) {
    limn_node n = {.op = LIMN_OP_UNARY, .n_src = 1, .src = {x}};
    n.attr.act = LIMN_ACT_LEAKY_RELU;
    n.attr.slope = slope;
    return node_add(g, &n);
}

limn_node *limn_g_glu(limn_graph *g, limn_node *x, limn_glu kind) {
    limn_node n = {.op = LIMN_OP_GLU, .n_src = 1, .src = {x}, .attr.glu = kind};
    return node_add(g, &n);
}

static limn_node *binary_add(limn_graph *g, limn_op op, limn_node *a, limn_node *b) {
    limn_node n = {.op = op, .n_src = 2, .src = {a, b}};
    return node_add(g, &n);
}

limn_node *limn_g_add(limn_graph *g, limn_node *x, limn_node *b) {
    return binary_add(g, LIMN_OP_ADD, x, b);
}
limn_node *limn_g_mul(limn_graph *g, limn_node *x, limn_node *b) {
    return binary_add(g, LIMN_OP_MUL, x, b);
}
limn_node *limn_g_concat(limn_graph *g, limn_node *a, limn_node *b) {
    return binary_add(g, LIMN_OP_CONCAT, a, b);
}
limn_node *limn_g_rows(limn_graph *g, limn_node *x, limn_node *index) {
    return binary_add(g, LIMN_OP_ROWS, x, index);
}

limn_node *limn_g_affine(limn_graph *g, limn_node *x, float mul, float add) {
    limn_node n = {.op = LIMN_OP_AFFINE, .n_src = 1, .src = {x}};
    n.attr.mul = mul;
    n.attr.add = add;
    return node_add(g, &n);
}

limn_node *limn_g_upsample(limn_graph *g, limn_node *x, int64_t oh, int64_t ow) {
    limn_node n = {.op = LIMN_OP_UPSAMPLE, .n_src = 1, .src = {x}};
    n.shape = LIMN_SHAPE(0, oh, ow, 0); /* the wanted size; the shape rule completes it */
    return node_add(g, &n);
}

limn_node *limn_g_reshape(limn_graph *g, limn_node *x, limn_shape shape) {
    limn_node n = {.op = LIMN_OP_RESHAPE, .n_src = 1, .src = {x}, .shape = shape};
    if (x) n.dtype = x->dtype;
    return node_add(g, &n);
}

limn_node *limn_g_timestep(limn_graph *g, limn_node *t, int64_t dim, bool flip, float shift) {
    limn_node n = {.op = LIMN_OP_TIMESTEP, .n_src = 1, .src = {t}, .shape = LIMN_SHAPE(0, dim)};
    n.attr.flip = flip;
    n.attr.shift = shift;
    n.attr.max_period = 10000.0f;
    return node_add(g, &n);
}

limn_node *limn_g_rope(limn_graph *g, limn_node *x, limn_node *cosines, limn_node *sines,
                       const limn_attr *a) {
    limn_node n = {.op = LIMN_OP_ROPE, .n_src = 3, .src = {x, cosines, sines}, .attr = *a};
    return node_add(g, &n);
}

limn_node *limn_g_slice(limn_graph *g, limn_node *x, int64_t offset, int64_t width) {
    limn_node n = {.op = LIMN_OP_SLICE, .n_src = 1, .src = {x}, .shape = LIMN_SHAPE(width)};
    n.attr.offset = offset;
    return node_add(g, &n);
}

limn_node *limn_g_prelu(limn_graph *g, limn_node *x, const limn_weight *slope) {
    if (!slope) return limn_graph_fail(g, LIMN_E_MISSING, "prelu: the slopes are missing");
    limn_node n = {.op = LIMN_OP_PRELU, .n_src = 1, .src = {x}, .w = slope};
    return node_add(g, &n);
}

limn_node *limn_g_store(limn_graph *g, limn_node *state, limn_node *x, limn_node *span) {
    limn_node n = {.op = LIMN_OP_STORE, .n_src = 3, .src = {state, x, span}};
    return node_add(g, &n);
}

limn_node *limn_g_cached_attention(limn_graph *g, limn_node *q, limn_node *k, limn_node *v,
                                   limn_node *span, const limn_attr *a) {
    limn_node n = {.op = LIMN_OP_CACHED_ATTENTION, .n_src = 4, .src = {q, k, v, span}, .attr = *a};
    if (n.attr.scale == 0 && q && a->heads > 0 && q->shape.ndim == 3)
        n.attr.scale = (float)(1.0 / sqrt((double)q->shape.dim[2] / a->heads));
    return node_add(g, &n);
}

static limn_node *shuffle_add(limn_graph *g, limn_op op, limn_node *x, int factor) {
    limn_node n = {.op = op, .n_src = 1, .src = {x}};
    n.attr.factor = factor;
    return node_add(g, &n);
}

limn_node *limn_g_pixel_shuffle(limn_graph *g, limn_node *x, int factor) {
    return shuffle_add(g, LIMN_OP_PIXEL_SHUFFLE, x, factor);
}
limn_node *limn_g_pixel_unshuffle(limn_graph *g, limn_node *x, int factor) {
    return shuffle_add(g, LIMN_OP_PIXEL_UNSHUFFLE, x, factor);
}

limn_node *limn_g_route(limn_graph *g, limn_node *logits, limn_node *span, int top) {
    limn_node n = {.op = LIMN_OP_ROUTE, .n_src = span ? 2 : 1, .src = {logits, span}};
    n.attr.top = top;
    return node_add(g, &n);
}

limn_node *limn_g_experts(limn_graph *g, limn_node *x, limn_node *route, const limn_weight *w,
                          bool input_major) {
    if (!w) return limn_graph_fail(g, LIMN_E_MISSING, "experts: the weight is missing");
    limn_node n = {.op = LIMN_OP_EXPERTS, .n_src = 2, .src = {x, route}, .w = w};
    n.attr.input_major = input_major;
    return node_add(g, &n);
}

limn_node *limn_g_mix(limn_graph *g, limn_node *y, limn_node *route) {
    return binary_add(g, LIMN_OP_MIX, y, route);
}
