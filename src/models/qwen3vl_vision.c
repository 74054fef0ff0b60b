/* SPDX-License-Identifier: MIT */
/* Qwen3-VL's vision tower; see qwen3vl_vision.h. */
#include "models/qwen3vl_vision.h"

#include <stdio.h>

enum { NAME = 96 };

static limn_node *attention(const limn_nn *nn, const limn_vision_config *cfg, limn_node *x,
                            limn_node *cosines, limn_node *sines, int block) {
    limn_graph *g = nn->g;
    limn_attr a = {.heads = cfg->heads};
    char p[NAME];
    int64_t w = cfg->width;
    snprintf(p, sizeof p, "blocks.%d.attn.qkv", block);
    limn_node *qkv = limn_nn_linear(nn, x, p);
    limn_node *q = limn_g_rope(g, limn_g_slice(g, qkv, 0, w), cosines, sines, &a);
    limn_node *k = limn_g_rope(g, limn_g_slice(g, qkv, w, w), cosines, sines, &a);
    limn_node *y = limn_g_attention(g, q, k, limn_g_slice(g, qkv, 2 * w, w), NULL, &a);
    snprintf(p, sizeof p, "blocks.%d.attn.proj", block);
    return limn_nn_linear(nn, y, p);
}

static limn_node *block(const limn_nn *nn, const limn_vision_config *cfg, limn_node *x,
                        limn_node *cosines, limn_node *sines, int i) {
    limn_graph *g = nn->g;
    char p[NAME];
#define SUB(part) (snprintf(p, sizeof p, "blocks.%d." part, i), p)
    limn_node *h = limn_nn_layer_norm(nn, x, SUB("norm1"), cfg->norm_eps);
    x = limn_g_add(g, attention(nn, cfg, h, cosines, sines, i), x);
    h = limn_nn_layer_norm(nn, x, SUB("norm2"), cfg->norm_eps);
    h = limn_g_unary(g, limn_nn_linear(nn, h, SUB("mlp.linear_fc1")), LIMN_ACT_GELU_TANH);
    return limn_g_add(g, limn_nn_linear(nn, h, SUB("mlp.linear_fc2")), x);
#undef SUB
}

/* merge^2 neighbouring patches become one row. The last merger normalises patches, those of inner
 * blocks the joined row. Their GELU is the exact one. */
static limn_node *merger(const limn_nn *nn, const limn_vision_config *cfg,
                         const limn_vision_request *req, limn_node *x, const char *name,
                         bool norm_joined) {
    limn_graph *g = nn->g;
    char p[NAME];
    int64_t unit = (int64_t)cfg->merge * cfg->merge;
    limn_shape joined = LIMN_SHAPE(req->slices, req->rows * req->cols / unit, unit * cfg->width);
#define SUB(part) (snprintf(p, sizeof p, "%s." part, name), p)
    if (!norm_joined) x = limn_nn_layer_norm(nn, x, SUB("norm"), cfg->norm_eps);
    x = limn_g_reshape(g, x, joined);
    if (norm_joined) x = limn_nn_layer_norm(nn, x, SUB("norm"), cfg->norm_eps);
    x = limn_g_unary(g, limn_nn_linear(nn, x, SUB("linear_fc1")), LIMN_ACT_GELU);
    return limn_nn_linear(nn, x, SUB("linear_fc2"));
#undef SUB
}

static void stage(const limn_nn *nn, const limn_vision_request *req, limn_node *x,
                  const char *name) {
    if (req->stages) limn_g_output(nn->g, limn_g_affine(nn->g, x, 1, 0), name);
}

void limn_vision_build(const limn_nn *nn, const limn_vision_config *cfg,
                       const limn_vision_request *req) {
    limn_graph *g = nn->g;
    char name[NAME];
    int64_t n = req->rows * req->cols, dim = cfg->width / cfg->heads;
    int64_t in = (int64_t)cfg->channels * cfg->temporal * cfg->patch * cfg->patch;
    if (req->rows < 1 || req->cols < 1 || req->rows % cfg->merge || req->cols % cfg->merge) {
        limn_graph_fail(g, LIMN_E_VALUE, "a grid of %lld x %lld patches", (long long)req->rows,
                        (long long)req->cols);
        return;
    }
    limn_node *x = limn_g_input(g, "patches", LIMN_F32, LIMN_SHAPE(req->slices, n, in));
    limn_node *pos = limn_g_input(g, "pos", LIMN_F32, LIMN_SHAPE(req->slices, n, cfg->width));
    limn_node *cosines = limn_g_input(g, "cos", LIMN_F32, LIMN_SHAPE(n, dim / 2));
    limn_node *sines = limn_g_input(g, "sin", LIMN_F32, LIMN_SHAPE(n, dim / 2));
    x = limn_nn_linear(nn, x, "patch_embed.proj");
    stage(nn, req, x, "patch_embed");
    x = limn_g_add(g, x, pos);
    int deep = 0;
    for (int i = 0; i < cfg->depth; i++) {
        x = block(nn, cfg, x, cosines, sines, i);
        snprintf(name, sizeof name, "block.%d", i);
        stage(nn, req, x, name);
        if (deep == cfg->n_deepstack || cfg->deepstack[deep] != i) continue;
        snprintf(name, sizeof name, "deepstack_merger_list.%d", deep);
        limn_node *d = merger(nn, cfg, req, x, name, true);
        snprintf(name, sizeof name, "deepstack.%d", deep++);
        limn_g_output(g, d, name);
    }
    limn_g_output(g, merger(nn, cfg, req, x, "merger", false), "merged");
}
