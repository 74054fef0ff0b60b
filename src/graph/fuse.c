/* SPDX-License-Identifier: MIT */
/* Fusion rules as a table over (tail op); see fuse.h. */
#include "graph/fuse.h"

typedef struct fuser {
    int *uses;
    bool *live;
} fuser;

/* A producer whose only reader is the tail at hand. */
static bool is_private(const fuser *f, const limn_node *nd) {
    return f->uses[nd->id] == 1 && !nd->is_output;
}

static bool is_product(const limn_node *nd) {
    return (nd->op == LIMN_OP_LINEAR && !nd->attr.gated) || nd->op == LIMN_OP_CONV2D;
}

/* The tail becomes the producer; the tail keeps its id, name and output mark. */
static void take_over(fuser *f, limn_node *tail, limn_node *producer) {
    tail->op = producer->op;
    tail->w = producer->w;
    tail->bias = producer->bias;
    tail->attr = producer->attr;
    tail->n_src = producer->n_src;
    for (int i = 0; i < LIMN_NODE_SRC; i++) tail->src[i] = producer->src[i];
    f->live[producer->id] = false;
    f->uses[producer->id] = 0;
}

static void push_src(limn_node *nd, limn_node *src) {
    nd->src[nd->n_src++] = src;
}

/* unary(product) and unary(group_norm); only while the product has neither activation nor residual:
 * the epilogue's order is bias, channel add, activation, residual. */
static bool fuse_unary(fuser *f, limn_node *nd) {
    limn_node *p = nd->src[0];
    limn_act act = nd->attr.act;
    float slope = nd->attr.slope;
    bool fits =
        is_product(p) ? !p->attr.residual : p->op == LIMN_OP_GROUP_NORM && act == LIMN_ACT_SILU;
    if (!fits || p->attr.act != LIMN_ACT_NONE || !is_private(f, p)) return false;
    take_over(f, nd, p);
    nd->attr.act = act;
    nd->attr.slope = slope;
    return true;
}

/* conv + [n, 1, 1, c]: the time embedding of a residual block. */
static bool is_channel_vector(const limn_node *conv, const limn_node *b) {
    return b->shape.ndim == 4 && b->shape.dim[0] == conv->shape.dim[0] && b->shape.dim[1] == 1 &&
           b->shape.dim[2] == 1 && b->shape.dim[3] == conv->shape.dim[3] && b->dtype == LIMN_F32;
}

static bool fuse_add(fuser *f, limn_node *nd) {
    for (int side = 0; side < 2; side++) {
        limn_node *p = nd->src[side], *other = nd->src[1 - side];
        if (!is_product(p) || !is_private(f, p) || p->attr.residual) continue;
        bool same = limn_shape_equal(&p->shape, &other->shape);
        if (!same && p->op == LIMN_OP_CONV2D && side == 0 && is_channel_vector(p, other) &&
            !p->attr.channel_add && p->attr.act == LIMN_ACT_NONE) {
            take_over(f, nd, p);
            push_src(nd, other);
            nd->attr.channel_add = true;
            return true;
        }
        if (!same || other->dtype != LIMN_F32) continue;
        take_over(f, nd, p);
        push_src(nd, other);
        nd->attr.residual = true;
        return true;
    }
    return false;
}

/* glu(linear): the halves meet while both are in the cache. Halves must be whole panels of every
 * backend; quantised files have products of their own. */
static bool fuse_glu(fuser *f, limn_node *nd) {
    enum { HALF_UNIT = 64 };
    limn_node *p = nd->src[0];
    limn_glu kind = nd->attr.glu;
    int64_t half = nd->shape.dim[nd->shape.ndim - 1];
    if (p->op != LIMN_OP_LINEAR || !is_product(p) || !is_private(f, p) || p->attr.residual ||
        p->attr.act != LIMN_ACT_NONE || p->attr.mul != 1 || half % HALF_UNIT != 0 ||
        limn_dtype_get(p->w->t.dtype)->quantised)
        return false;
    take_over(f, nd, p);
    nd->attr.gated = true;
    nd->attr.glu = kind;
    return true;
}

/* conv(upsample 2x): the convolution reads each input pixel four times instead. */
static bool fuse_upsample(fuser *f, limn_node *nd) {
    limn_node *u = nd->src[0];
    if (u->op != LIMN_OP_UPSAMPLE || nd->attr.upsample2 || !is_private(f, u)) return false;
    limn_node *x = u->src[0];
    if (u->shape.dim[1] != 2 * x->shape.dim[1] || u->shape.dim[2] != 2 * x->shape.dim[2])
        return false;
    nd->src[0] = x;
    nd->attr.upsample2 = true;
    f->live[u->id] = false;
    f->uses[u->id] = 0;
    return true;
}

static bool fuse_node(fuser *f, limn_node *nd) {
    switch (nd->op) {
    case LIMN_OP_UNARY: return fuse_unary(f, nd);
    case LIMN_OP_ADD: return fuse_add(f, nd);
    case LIMN_OP_GLU: return fuse_glu(f, nd);
    case LIMN_OP_CONV2D: return fuse_upsample(f, nd);
    default: return false;
    }
}

void limn_graph_fuse(limn_graph *g, int *uses, bool *live) {
    fuser f = {uses, live};
    for (int i = 0; i < limn_graph_count(g); i++) {
        limn_node *nd = limn_graph_node(g, i);
        if (!live[i]) continue;
        while (fuse_node(&f, nd)) {
        }
    }
}
