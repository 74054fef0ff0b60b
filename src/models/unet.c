/* SPDX-License-Identifier: MIT */
/* UNet2DConditionModel; see unet.h. */
#include "models/unet.h"

#include <stdio.h>

enum { MAX_SKIPS = LIMN_CFG_LEVELS * (LIMN_CFG_LAYERS + 1) + 1 };

static const float transformer_norm_eps = 1e-6f, layer_norm_eps = 1e-5f;

typedef struct unet_state {
    const limn_nn *nn;
    const limn_unet_config *cfg;
    limn_node *temb;    /* silu(time embedding) [n, time_dim] */
    limn_node *context; /* [n, len, context_dim] */
    limn_node *skips[MAX_SKIPS];
    int n_skips;
} unet_state;

int limn_unet_time_ids(const limn_unet_config *cfg, int pooled_dim) {
    if (cfg->add_embed_dim == 0) return 0;
    int rest = cfg->add_embed_dim - pooled_dim;
    return pooled_dim > 0 && rest > 0 && rest % cfg->add_time_dim == 0 ? rest / cfg->add_time_dim
                                                                       : -1;
}

static limn_node *transformer_block(unet_state *u, limn_node *x, const char *p, int heads) {
    const limn_nn *nn = u->nn;
    limn_graph *g = nn->g;
    char name[160];
#define SUB(part) (snprintf(name, sizeof name, "%s." part, p), name)
    limn_node *h = limn_nn_layer_norm(nn, x, SUB("norm1"), layer_norm_eps);
    h = limn_nn_attention(nn, h, NULL, SUB("attn1"), &limn_attention_diffusers, heads, false);
    x = limn_g_add(g, h, x);
    h = limn_nn_layer_norm(nn, x, SUB("norm2"), layer_norm_eps);
    h = limn_nn_attention(nn, h, u->context, SUB("attn2"), &limn_attention_diffusers, heads, false);
    x = limn_g_add(g, h, x);
    h = limn_nn_layer_norm(nn, x, SUB("norm3"), layer_norm_eps);
    h = limn_g_glu(g, limn_nn_linear(nn, h, SUB("ff.net.0.proj")), LIMN_GLU_GEGLU);
    h = limn_nn_linear(nn, h, SUB("ff.net.2"));
#undef SUB
    return limn_g_add(g, h, x);
}

/* Transformer2DModel: norm, proj_in, blocks, proj_out, residual. */
static limn_node *spatial_transformer(unet_state *u, limn_node *x, const char *p, int depth,
                                      int heads) {
    const limn_nn *nn = u->nn;
    char name[128];
    snprintf(name, sizeof name, "%s.norm", p);
    limn_node *h = limn_nn_group_norm(nn, x, name, u->cfg->groups, transformer_norm_eps);
    snprintf(name, sizeof name, "%s.proj_in", p);
    h = limn_nn_linear(nn, limn_nn_to_tokens(nn, h), name);
    for (int i = 0; i < depth; i++) {
        snprintf(name, sizeof name, "%s.transformer_blocks.%d", p, i);
        h = transformer_block(u, h, name, heads);
    }
    snprintf(name, sizeof name, "%s.proj_out", p);
    h = limn_g_add(nn->g, limn_nn_linear(nn, h, name), limn_nn_to_tokens(nn, x));
    return limn_nn_to_map(nn, h, x);
}

static limn_node *resnet(unet_state *u, limn_node *x, const char *p) {
    limn_graph_set_label(u->nn->g, p);
    return limn_nn_resblock(u->nn, x, u->temb, p, u->cfg->groups, u->cfg->norm_eps);
}

static void skip_push(unet_state *u, limn_node *x) {
    if (u->n_skips < MAX_SKIPS) u->skips[u->n_skips++] = x;
}

static limn_node *down_block(unet_state *u, limn_node *x, int level) {
    const limn_unet_config *c = u->cfg;
    char p[96];
    for (int i = 0; i < c->down_layers[level]; i++) {
        snprintf(p, sizeof p, "down_blocks.%d.resnets.%d", level, i);
        x = resnet(u, x, p);
        snprintf(p, sizeof p, "down_blocks.%d.attentions.%d", level, i);
        if (c->down_depth[level][i] > 0)
            x = spatial_transformer(u, x, p, c->down_depth[level][i], c->heads[level]);
        skip_push(u, x);
    }
    if (level + 1 < c->levels) {
        snprintf(p, sizeof p, "down_blocks.%d.downsamplers.0.conv", level);
        x = limn_nn_conv(u->nn, x, p, 2);
        skip_push(u, x);
    }
    return x;
}

static limn_node *mid_block(unet_state *u, limn_node *x) {
    const limn_unet_config *c = u->cfg;
    if (c->mid_resnets > 0) x = resnet(u, x, "mid_block.resnets.0");
    if (c->mid_depth > 0)
        x = spatial_transformer(u, x, "mid_block.attentions.0", c->mid_depth,
                                c->heads[c->levels - 1]);
    if (c->mid_resnets > 1) x = resnet(u, x, "mid_block.resnets.1");
    return x;
}

static limn_node *up_block(unet_state *u, limn_node *x, int n) {
    const limn_unet_config *c = u->cfg;
    limn_graph *g = u->nn->g;
    char p[96];
    for (int i = 0; i < c->up_layers[n]; i++) {
        if (u->n_skips == 0)
            return limn_graph_fail(g, LIMN_E_SHAPE, "up_blocks.%d: more resnets than skips", n);
        snprintf(p, sizeof p, "up_blocks.%d.resnets.%d", n, i);
        x = resnet(u, limn_g_concat(g, x, u->skips[--u->n_skips]), p);
        snprintf(p, sizeof p, "up_blocks.%d.attentions.%d", n, i);
        if (c->up_depth[n][i] > 0)
            x = spatial_transformer(u, x, p, c->up_depth[n][i], c->heads[c->levels - 1 - n]);
    }
    if (n + 1 < c->levels) {
        /* The size of the next skip, so that odd latent sizes come back exactly. */
        const limn_node *like = u->n_skips > 0 ? u->skips[u->n_skips - 1] : NULL;
        if (!like || !x) return NULL;
        snprintf(p, sizeof p, "up_blocks.%d.upsamplers.0.conv", n);
        x = limn_g_upsample(g, x, like->shape.dim[1], like->shape.dim[2]);
        x = limn_nn_conv(u->nn, x, p, 1);
    }
    return x;
}

static limn_node *mlp(const limn_nn *nn, limn_node *x, const char *p) {
    char name[64];
    snprintf(name, sizeof name, "%s.linear_1", p);
    x = limn_g_unary(nn->g, limn_nn_linear(nn, x, name), LIMN_ACT_SILU);
    snprintf(name, sizeof name, "%s.linear_2", p);
    return limn_nn_linear(nn, x, name);
}

/* SDXL: pooled text and the sinusoids of the size ids, through an MLP of their own. */
static limn_node *added_embedding(const limn_nn *nn, const limn_unet_config *c,
                                  const limn_unet_request *req) {
    limn_graph *g = nn->g;
    int64_t batch = req->batch;
    int pooled = req->pooled_dim, ids = limn_unet_time_ids(c, pooled);
    if (ids < 0)
        return limn_graph_fail(g, LIMN_E_SHAPE,
                               "add_embedding of width %d does not fit a pooled text of width %d",
                               c->add_embed_dim, pooled);
    limn_node *text = limn_g_input(g, "text_embeds", LIMN_F32, LIMN_SHAPE(batch, pooled));
    limn_node *t = limn_g_input(g, "time_ids", LIMN_F32, LIMN_SHAPE(batch * ids));
    t = limn_g_timestep(g, t, c->add_time_dim, c->flip_sin_to_cos, c->freq_shift);
    t = limn_g_reshape(g, t, LIMN_SHAPE(batch, (int64_t)ids * c->add_time_dim));
    return mlp(nn, limn_g_concat(g, text, t), "add_embedding");
}

static limn_node *time_embedding(const limn_nn *nn, const limn_unet_config *c,
                                 const limn_unet_request *req) {
    limn_graph *g = nn->g;
    int64_t batch = req->batch;
    limn_node *t = limn_g_input(g, "timestep", LIMN_F32, LIMN_SHAPE(batch));
    t = limn_g_timestep(g, t, c->channels[0], c->flip_sin_to_cos, c->freq_shift);
    if (c->time_cond_dim > 0) {
        limn_node *w = limn_g_input(g, "guidance", LIMN_F32, LIMN_SHAPE(batch, c->time_cond_dim));
        t = limn_g_add(g, limn_nn_linear(nn, w, "time_embedding.cond_proj"), t);
    }
    t = mlp(nn, t, "time_embedding");
    if (c->add_embed_dim > 0) t = limn_g_add(g, t, added_embedding(nn, c, req));
    return limn_g_unary(g, t, LIMN_ACT_SILU);
}

void limn_unet_build(const limn_nn *nn, const limn_unet_config *cfg, const limn_unet_request *req) {
    limn_graph *g = nn->g;
    unet_state u = {.nn = nn, .cfg = cfg};
    limn_graph_set_label(g, "time_embedding");
    u.temb = time_embedding(nn, cfg, req);
    limn_shape sample = LIMN_SHAPE(req->batch, req->height, req->width, cfg->in_channels);
    limn_shape context = LIMN_SHAPE(req->batch, req->text_len, cfg->context_dim);
    limn_node *x = limn_g_input(g, "sample", LIMN_F32, sample);
    u.context = limn_g_input(g, "context", LIMN_F32, context);
    x = limn_nn_conv(nn, x, "conv_in", 1);
    skip_push(&u, x);
    for (int i = 0; i < cfg->levels; i++) x = down_block(&u, x, i);
    x = mid_block(&u, x);
    for (int i = 0; i < cfg->levels; i++) x = up_block(&u, x, i);
    limn_graph_set_label(g, "conv_out");
    x = limn_nn_group_norm(nn, x, "conv_norm_out", cfg->groups, cfg->norm_eps);
    x = limn_nn_conv(nn, limn_g_unary(g, x, LIMN_ACT_SILU), "conv_out", 1);
    limn_g_output(g, x, "out");
}
