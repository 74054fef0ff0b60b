/* SPDX-License-Identifier: MIT */
/* Decoder-only language models; see decoder.h. */
#include "models/decoder.h"

#include <stdio.h>

typedef struct builder {
    const limn_nn *nn;
    const limn_decoder_config *cfg;
    const limn_decoder_request *req;
    limn_node *cosines, *sines, *span;
} builder;

enum { NAME = 96 };

static limn_node *rms(const limn_nn *nn, limn_node *x, const char *name, float eps) {
    return limn_g_rms_norm(nn->g, x, limn_nn_need(nn, "%s.weight", name), eps);
}

static limn_node *projected(const builder *b, limn_node *x, int layer, const char *part) {
    char p[NAME];
    snprintf(p, sizeof p, "layers.%d.self_attn.%s_proj", layer, part);
    return limn_nn_linear(b->nn, x, p);
}

/* q or k after its projection: norm of each head if the model has one, rotation */
static limn_node *rotated(const builder *b, limn_node *x, int layer, const char *part, int heads) {
    const limn_nn *nn = b->nn;
    const limn_weight *norm = limn_nn_find(nn, "layers.%d.self_attn.%s_norm.weight", layer, part);
    if (norm) x = limn_g_rms_norm(nn->g, x, norm, b->cfg->norm_eps);
    limn_attr a = {.heads = heads, .rope_pairs = b->cfg->rope.pairs};
    return limn_g_rope(nn->g, x, b->cosines, b->sines, &a);
}

static limn_node *stored(const builder *b, limn_node *x, int layer, char kind) {
    const limn_decoder_config *c = b->cfg;
    char name[NAME];
    snprintf(name, sizeof name, "%c.%d", kind, layer);
    limn_shape s = LIMN_SHAPE(b->req->batch, b->req->rows, (int64_t)c->kv_heads * c->head_dim);
    return limn_g_store(b->nn->g, limn_g_state(b->nn->g, name, b->req->cache, s), x, b->span);
}

static limn_node *attention(const builder *b, limn_node *x, int layer) {
    const limn_decoder_config *c = b->cfg;
    const limn_nn *nn = b->nn;
    limn_attr a = {.heads = c->heads, .kv_heads = c->kv_heads, .causal = true};
    limn_node *q = projected(b, x, layer, "q"), *k = projected(b, x, layer, "k"); /* side by side */
    limn_node *v = projected(b, x, layer, "v"), *y;
    q = rotated(b, q, layer, "q", c->heads);
    k = rotated(b, k, layer, "k", c->kv_heads);
    if (b->req->rows > 0)
        y = limn_g_cached_attention(nn->g, q, stored(b, k, layer, 'k'), stored(b, v, layer, 'v'),
                                    b->span, &a);
    else
        y = limn_g_attention(nn->g, q, k, v, NULL, &a);
    return projected(b, y, layer, "o");
}

/* Slots of the chosen experts [n, len, top * 2 ff] -> [n, len, top * ff]: SwiGLU of each. */
static limn_node *gated(limn_graph *g, limn_node *x, int64_t top) {
    if (!x) return NULL;
    limn_shape s = x->shape;
    x = limn_g_reshape(g, x, LIMN_SHAPE(s.dim[0], s.dim[1] * top, s.dim[2] / top));
    x = limn_g_glu(g, x, LIMN_GLU_SWIGLU);
    return limn_g_reshape(g, x, LIMN_SHAPE(s.dim[0], s.dim[1], s.dim[2] / 2));
}

/* Joined experts come as [experts, in, out] from the hub and as [experts, out, in] from
 * transformers 5; told apart as it does: what has the shape of its own layout is taken as that. */
static limn_node *joined(const builder *b, limn_node *x, limn_node *route, const limn_weight *w,
                         int64_t out, int64_t in) {
    const limn_shape *s = w ? &w->t.shape : NULL;
    bool own = s && s->ndim == 3 && s->dim[1] == out && s->dim[2] == in;
    return limn_g_experts(b->nn->g, x, route, w, !own);
}

/* A mixture of experts, from files with one tensor for all experts: gate and up apart, as llama.cpp
 * stores them, or joined. */
static limn_node *experts(const builder *b, limn_node *x, const limn_weight *router, int layer) {
    const limn_nn *nn = b->nn;
    limn_graph *g = nn->g;
#define EXPERT(part) limn_nn_need(nn, "layers.%d.mlp.experts." part, layer)
    limn_node *logits = limn_g_exact(limn_g_linear(g, x, router, NULL));
    limn_node *route = limn_g_route(g, logits, b->span, b->cfg->experts_used);
    if (limn_nn_find(nn, "layers.%d.mlp.experts.gate_proj.weight", layer)) {
        limn_node *gate = limn_g_experts(g, x, route, EXPERT("gate_proj.weight"), false);
        limn_node *up = limn_g_experts(g, x, route, EXPERT("up_proj.weight"), false);
        x = limn_g_mul(g, limn_g_unary(g, gate, LIMN_ACT_SILU), up);
        x = limn_g_experts(g, x, route, EXPERT("down_proj.weight"), false);
    } else {
        const limn_decoder_config *c = b->cfg;
        x = joined(b, x, route, EXPERT("gate_up_proj"), 2 * c->expert_ff, c->width);
        x = gated(g, x, c->experts_used);
        x = joined(b, x, route, EXPERT("down_proj"), c->width, c->expert_ff);
    }
#undef EXPERT
    return limn_g_mix(g, x, route);
}

static limn_node *mlp(const builder *b, limn_node *x, int layer) {
    const limn_nn *nn = b->nn;
    const limn_weight *router = limn_nn_find(nn, "layers.%d.mlp.gate.weight", layer);
    if (router) return experts(b, x, router, layer);
    char p[NAME];
#define SUB(part) (snprintf(p, sizeof p, "layers.%d.mlp." part, layer), p)
    limn_node *gate = limn_nn_linear(nn, x, SUB("gate_proj")),
              *up = limn_nn_linear(nn, x, SUB("up_proj"));
    limn_node *h = limn_g_mul(nn->g, limn_g_unary(nn->g, gate, LIMN_ACT_SILU), up);
    return limn_nn_linear(nn, h, SUB("down_proj"));
#undef SUB
}

static limn_node *block(const builder *b, limn_node *x, int layer) {
    const limn_decoder_config *c = b->cfg;
    limn_graph *g = b->nn->g;
    char p[NAME];
    snprintf(p, sizeof p, "layers.%d.input_layernorm", layer);
    x = limn_g_add(g, attention(b, rms(b->nn, x, p, c->norm_eps), layer), x);
    snprintf(p, sizeof p, "layers.%d.post_attention_layernorm", layer);
    x = limn_g_add(g, mlp(b, rms(b->nn, x, p, c->norm_eps), layer), x);
    if (!b->req->deepstack || layer >= c->deepstack) return x;
    snprintf(p, sizeof p, "deepstack.%d", layer);
    limn_shape s = LIMN_SHAPE(b->req->batch, b->req->len, c->width);
    return limn_g_add(g, x, limn_g_input(g, p, LIMN_F32, s));
}

static void tap(const builder *b, limn_node *x, int n) {
    char name[NAME];
    for (int i = 0; i < b->req->n_taps; i++) {
        if (b->req->taps[i] != n) continue;
        snprintf(name, sizeof name, "hidden.%d", n);
        /* a copy: the node itself may be the in-place source of what follows */
        limn_g_output(b->nn->g, limn_g_affine(b->nn->g, x, 1, 0), name);
        return;
    }
}

static void head(const builder *b, limn_node *x) {
    const limn_decoder_request *r = b->req;
    const limn_nn *nn = b->nn;
    if (r->head == LIMN_HEAD_NONE && !r->norm) return;
    if (r->head == LIMN_HEAD_LAST && !r->norm) /* one row each is all that is needed */
        x = limn_g_rows(nn->g, x, limn_g_input(nn->g, "last", LIMN_I32, LIMN_SHAPE(r->batch)));
    x = rms(nn, x, "norm", b->cfg->norm_eps);
    if (r->norm) limn_g_output(nn->g, x, "norm");
    if (r->head == LIMN_HEAD_NONE) return;
    if (r->head == LIMN_HEAD_LAST && r->norm)
        x = limn_g_rows(nn->g, x, limn_g_input(nn->g, "last", LIMN_I32, LIMN_SHAPE(r->batch)));
    const limn_weight *w = b->cfg->tied ? NULL : limn_nn_find(nn, "lm_head.weight");
    if (!w) w = limn_nn_need(nn, "embed_tokens.weight");
    limn_g_output(nn->g, limn_g_linear(nn->g, x, w, NULL), "logits");
}

void limn_decoder_build(const limn_nn *nn, const limn_decoder_config *cfg,
                        const limn_decoder_request *req) {
    limn_graph *g = nn->g;
    int layers = req->layers > 0 ? req->layers : cfg->layers;
    bool whole = layers == cfg->layers || (req->head == LIMN_HEAD_NONE && !req->norm);
    if (layers > cfg->layers || !whole) {
        limn_graph_fail(g, LIMN_E_VALUE, "%d layers of a model of %d", layers, cfg->layers);
        return;
    }
    for (int i = 0; i < req->n_taps; i++)
        if (req->taps[i] < 0 || req->taps[i] > layers) {
            limn_graph_fail(g, LIMN_E_VALUE, "the states after layer %d of %d", req->taps[i],
                            layers);
            return;
        }
    builder b = {.nn = nn, .cfg = cfg, .req = req};
    limn_shape table = LIMN_SHAPE(req->batch, req->len, cfg->rope.dim / 2);
    limn_node *x =
        limn_g_input(g, "embeds", LIMN_F32, LIMN_SHAPE(req->batch, req->len, cfg->width));
    b.cosines = limn_g_input(g, "cos", LIMN_F32, table);
    b.sines = limn_g_input(g, "sin", LIMN_F32, table);
    int64_t span = req->branches ? 2 + req->len : 2;
    if (req->rows > 0) b.span = limn_g_input(g, "span", LIMN_I32, LIMN_SHAPE(req->batch, span));
    tap(&b, x, 0);
    for (int i = 0; i < layers; i++) {
        x = block(&b, x, i);
        tap(&b, x, i + 1);
    }
    head(&b, x);
}

limn_status limn_decoder_embed(float *embeds, const limn_nn *nn, const limn_decoder_config *cfg,
                               const int32_t *ids, int64_t n, limn_err *err) {
    const limn_weight *w = limn_nn_find(nn, "embed_tokens.weight");
    size_t bytes;
    if (!w || w->t.shape.ndim != 2 || w->t.shape.dim[1] != cfg->width ||
        !limn_dtype_row_bytes(&bytes, w->t.dtype, cfg->width))
        return limn_fail(err, LIMN_E_MISSING, "the language model has no token embedding of %d",
                         cfg->width);
    for (int64_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= w->t.shape.dim[0])
            return limn_fail(err, LIMN_E_VALUE, "token id %d is outside the vocabulary of %lld",
                             ids[i], (long long)w->t.shape.dim[0]);
        limn_dtype_to_f32(embeds + i * cfg->width, (const char *)w->t.data + (size_t)ids[i] * bytes,
                          w->t.dtype, cfg->width);
    }
    return LIMN_OK;
}
