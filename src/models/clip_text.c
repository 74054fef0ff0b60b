/* SPDX-License-Identifier: MIT */
/* CLIP text encoders; see clip_text.h. */
#include "models/clip_text.h"

#include <stdio.h>

static limn_node *clip_layer(const limn_nn *nn, const limn_clip_config *cfg, limn_node *x, int i) {
    char p[64], name[96];
    limn_graph *g = nn->g;
    limn_act act = cfg->act == LIMN_CLIP_QUICK_GELU ? LIMN_ACT_QUICK_GELU : LIMN_ACT_GELU;
    snprintf(p, sizeof p, "text_model.encoder.layers.%d", i);
#define SUB(part) (snprintf(name, sizeof name, "%s." part, p), name)
    limn_node *h = limn_nn_layer_norm(nn, x, SUB("layer_norm1"), cfg->norm_eps);
    h = limn_nn_attention(nn, h, NULL, SUB("self_attn"), &limn_attention_clip, cfg->heads, true);
    x = limn_g_add(g, h, x);
    h = limn_nn_layer_norm(nn, x, SUB("layer_norm2"), cfg->norm_eps);
    h = limn_g_unary(g, limn_nn_linear(nn, h, SUB("mlp.fc1")), act);
    h = limn_nn_linear(nn, h, SUB("mlp.fc2"));
#undef SUB
    return limn_g_add(g, h, x);
}

void limn_clip_build(const limn_nn *nn, const limn_clip_config *cfg, const limn_clip_request *req) {
    limn_graph *g = nn->g;
    if (req->skip < 0 || req->skip > cfg->layers) {
        limn_graph_fail(g, LIMN_E_VALUE, "clip skip %d: the text encoder has %d layers", req->skip,
                        cfg->layers);
        return;
    }
    limn_node *x =
        limn_g_input(g, "embeds", LIMN_F32, LIMN_SHAPE(req->batch, req->len, cfg->width));
    limn_node *tap = NULL;
    int need = req->pooled ? cfg->layers : cfg->layers - req->skip;
    for (int i = 0; i <= need; i++) {
        if (i == cfg->layers - req->skip) tap = x;
        if (i < need) x = clip_layer(nn, cfg, x, i);
    }
    const char *norm = "text_model.final_layer_norm";
    limn_node *hidden = req->final_norm ? limn_nn_layer_norm(nn, tap, norm, cfg->norm_eps) : tap;
    limn_g_output(g, hidden, "hidden");
    if (!req->pooled) return;
    limn_node *end = limn_g_input(g, "end", LIMN_I32, LIMN_SHAPE(req->batch));
    limn_node *pooled = limn_g_rows(g, limn_nn_layer_norm(nn, x, norm, cfg->norm_eps), end);
    if (cfg->projection > 0) pooled = limn_nn_linear(nn, pooled, "text_projection");
    limn_g_output(g, pooled, "pooled");
}

static const void *row_of(const limn_weight *w, int64_t row) {
    size_t bytes = 0;
    (void)limn_dtype_row_bytes(&bytes, w->t.dtype, w->t.shape.dim[1]);
    return (const char *)w->t.data + (size_t)row * bytes;
}

limn_status limn_clip_embed(float *embeds, const limn_nn *nn, const limn_clip_config *cfg,
                            const int32_t *ids, int64_t len, const float *extra, int64_t n_extra,
                            limn_err *err) {
    const limn_weight *tok = limn_nn_find(nn, "text_model.embeddings.token_embedding.weight");
    const limn_weight *pos = limn_nn_find(nn, "text_model.embeddings.position_embedding.weight");
    limn_status st = LIMN_OK;
    int64_t width = cfg->width;
    float *p = limn_mem_alloc((size_t)width * sizeof *p);
    LIMN_CHECK(err, p, LIMN_E_NOMEM, "no memory for a text embedding");
    LIMN_CHECK(err, tok && pos, LIMN_E_MISSING, "the text encoder has no embedding tables");
    LIMN_CHECK(err, len <= pos->t.shape.dim[0], LIMN_E_SHAPE,
               "a text of %lld tokens: the encoder has %lld positions", (long long)len,
               (long long)pos->t.shape.dim[0]);
    for (int64_t i = 0; i < len; i++, embeds += width) {
        int64_t id = ids[i], vec = -1 - id;
        LIMN_CHECK(err, id < tok->t.shape.dim[0] && vec < n_extra, LIMN_E_VALUE,
                   "token id %lld is outside the vocabulary of %lld", (long long)id,
                   (long long)tok->t.shape.dim[0]);
        if (id >= 0)
            limn_dtype_to_f32(embeds, row_of(tok, id), tok->t.dtype, width);
        else
            memcpy(embeds, extra + vec * width, (size_t)width * sizeof *embeds);
        limn_dtype_to_f32(p, row_of(pos, i), pos->t.dtype, width);
        for (int64_t j = 0; j < width; j++) embeds[j] += p[j];
    }
out:
    limn_mem_free(p);
    return st;
}
