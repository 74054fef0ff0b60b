/* SPDX-License-Identifier: MIT */
/* Shared layers; see nn.h. */
#include "nn/nn.h"

#include <stdarg.h>
#include <stdio.h>

enum { NAME_MAX_BYTES = 256 };

const limn_attention_names limn_attention_diffusers = {"to_q", "to_k", "to_v", "to_out.0"};
const limn_attention_names limn_attention_clip = {"q_proj", "k_proj", "v_proj", "out_proj"};

static const limn_weight *find_va(const limn_nn *nn, char *name, const char *fmt, va_list ap) {
    int n = vsnprintf(name, NAME_MAX_BYTES, fmt, ap);
    return n > 0 && n < NAME_MAX_BYTES ? nn->find(nn->user, name) : NULL;
}

const limn_weight *limn_nn_find(const limn_nn *nn, const char *fmt, ...) {
    char name[NAME_MAX_BYTES];
    va_list ap;
    va_start(ap, fmt);
    const limn_weight *w = find_va(nn, name, fmt, ap);
    va_end(ap);
    return w;
}

const limn_weight *limn_nn_need(const limn_nn *nn, const char *fmt, ...) {
    char name[NAME_MAX_BYTES];
    va_list ap;
    va_start(ap, fmt);
    const limn_weight *w = find_va(nn, name, fmt, ap);
    va_end(ap);
    if (!w) limn_graph_fail(nn->g, LIMN_E_MISSING, "the model has no tensor '%s'", name);
    return w;
}

limn_node *limn_nn_linear(const limn_nn *nn, limn_node *x, const char *p) {
    return limn_g_linear(nn->g, x, limn_nn_need(nn, "%s.weight", p),
                         limn_nn_find(nn, "%s.bias", p));
}

/* [n, rows, width] -> [n, rows, 2 * edge + width]: the ends of each row before its beginning and
 * the beginning behind its end. */
static limn_node *wrap_rows(limn_graph *g, limn_node *x, int64_t edge) {
    if (!x || edge == 0) return x;
    int64_t width = x->shape.dim[2];
    if (edge > width)
        return limn_graph_fail(g, LIMN_E_SHAPE, "a map is smaller than the edge that it repeats");
    limn_node *head = limn_g_slice(g, x, 0, edge), *tail = limn_g_slice(g, x, width - edge, edge);
    return limn_g_concat(g, limn_g_concat(g, tail, x), head);
}

/* x [n, h, w, c] -> [n, h + 2 ph, w + 2 pw, c], repeated on all sides (torch's padding_mode
 * "circular"): first along the rows, then the rows themselves. */
static limn_node *wrap_map(limn_graph *g, limn_node *x, int ph, int pw) {
    if (!x) return NULL;
    const int64_t n = x->shape.dim[0], h = x->shape.dim[1], w = x->shape.dim[2],
                  c = x->shape.dim[3];
    x = wrap_rows(g, limn_g_reshape(g, x, LIMN_SHAPE(n, h, w * c)), pw * c);
    if (x) x = limn_g_reshape(g, x, LIMN_SHAPE(n, 1, h * (w + 2 * pw) * c));
    x = wrap_rows(g, x, ph * (w + 2 * pw) * c);
    return x ? limn_g_reshape(g, x, LIMN_SHAPE(n, h + 2 * ph, w + 2 * pw, c)) : NULL;
}

limn_node *limn_nn_conv(const limn_nn *nn, limn_node *x, const char *p, int stride) {
    const limn_weight *w = limn_nn_need(nn, "%s.weight", p);
    if (!w) return NULL;
    int ph = w->t.shape.ndim == 4 ? (int)(w->t.shape.dim[2] / 2) : 0;
    int pw = w->t.shape.ndim == 4 ? (int)(w->t.shape.dim[3] / 2) : 0;
    if (limn_graph_wraps(nn->g) && x && x->shape.ndim == 4 && (ph || pw)) {
        x = wrap_map(nn->g, x, ph, pw);
        ph = pw = 0;
    }
    limn_attr a = {.stride = stride, .pad_l = pw, .pad_r = pw, .pad_t = ph, .pad_b = ph};
    return limn_g_conv2d(nn->g, x, w, limn_nn_find(nn, "%s.bias", p), &a);
}

limn_node *limn_nn_group_norm(const limn_nn *nn, limn_node *x, const char *p, int groups,
                              float eps) {
    const limn_weight *w = limn_nn_need(nn, "%s.weight", p), *b = limn_nn_need(nn, "%s.bias", p);
    limn_nn_tiles *t = limn_graph_tiles(nn->g);
    if (!t || !x) return limn_g_group_norm(nn->g, x, w, b, groups, eps);
    char name[32];
    int i = t->count++, factor = (int)(x->shape.dim[1] / t->unit_rows);
    snprintf(name, sizeof name, "stats.%d", i);
    limn_g_output(nn->g, limn_g_group_stats(nn->g, x, t->window, groups, factor), name);
    if (!t->given) return limn_g_group_norm(nn->g, x, w, b, groups, eps);
    snprintf(name, sizeof name, "shared.%d", i);
    limn_node *stats = limn_g_input(nn->g, name, LIMN_F32, LIMN_SHAPE(2, groups));
    return limn_g_group_norm_given(nn->g, x, w, b, groups, stats);
}

limn_node *limn_nn_layer_norm(const limn_nn *nn, limn_node *x, const char *p, float eps) {
    return limn_g_layer_norm(nn->g, x, limn_nn_need(nn, "%s.weight", p),
                             limn_nn_find(nn, "%s.bias", p), eps);
}

static limn_node *project(const limn_nn *nn, limn_node *x, const char *p, const char *part) {
    char name[NAME_MAX_BYTES];
    snprintf(name, sizeof name, "%s.%s", p, part);
    return limn_nn_linear(nn, x, name);
}

limn_node *limn_nn_attention(const limn_nn *nn, limn_node *x, limn_node *ctx, const char *p,
                             const limn_attention_names *names, int heads, bool causal) {
    if (!ctx) ctx = x;
    limn_node *q = project(nn, x, p, names->q);
    limn_node *k = project(nn, ctx, p, names->k);
    limn_node *v = project(nn, ctx, p, names->v);
    limn_attr a = {.heads = heads, .causal = causal};
    return project(nn, limn_g_attention(nn->g, q, k, v, NULL, &a), p, names->out);
}

limn_node *limn_nn_resblock(const limn_nn *nn, limn_node *x, limn_node *temb, const char *p,
                            int groups, float eps) {
    char name[NAME_MAX_BYTES];
    limn_graph *g = nn->g;
#define SUB(part) (snprintf(name, sizeof name, "%s." part, p), name)
    /* The shortcut comes first: x then dies in norm1, which may work in its place. */
    limn_node *skip = x;
    if (limn_nn_find(nn, "%s.conv_shortcut.weight", p))
        skip = limn_nn_conv(nn, x, SUB("conv_shortcut"), 1);
    limn_node *h = limn_nn_group_norm(nn, x, SUB("norm1"), groups, eps);
    h = limn_nn_conv(nn, limn_g_unary(g, h, LIMN_ACT_SILU), SUB("conv1"), 1);
    if (temb) {
        limn_node *t = limn_nn_linear(nn, temb, SUB("time_emb_proj"));
        if (t) t = limn_g_reshape(g, t, LIMN_SHAPE(t->shape.dim[0], 1, 1, t->shape.dim[1]));
        h = limn_g_add(g, h, t);
    }
    h = limn_nn_group_norm(nn, h, SUB("norm2"), groups, eps);
    h = limn_nn_conv(nn, limn_g_unary(g, h, LIMN_ACT_SILU), SUB("conv2"), 1);
#undef SUB
    return limn_g_add(g, h, skip);
}

limn_node *limn_nn_to_tokens(const limn_nn *nn, limn_node *x) {
    if (!x) return NULL;
    const int64_t *d = x->shape.dim;
    return limn_g_reshape(nn->g, x, LIMN_SHAPE(d[0], d[1] * d[2], d[3]));
}

limn_node *limn_nn_to_map(const limn_nn *nn, limn_node *tokens, const limn_node *like) {
    if (!tokens || !like) return NULL;
    const int64_t *d = like->shape.dim;
    return limn_g_reshape(nn->g, tokens, LIMN_SHAPE(d[0], d[1], d[2], tokens->shape.dim[2]));
}
