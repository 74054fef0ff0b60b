/* SPDX-License-Identifier: MIT */
/*
 * Text encoder scopes; see canon.h. OpenCLIP keeps query, key and value in one tensor and its text
 * projection transposed. The last block and the projection of an encoder under "cond_stage_model."
 * that is not CLIP-L (SD 2.x) are never used and left out, as diffusers' own conversion does.
 */
#include <stdio.h>
#include <string.h>

#include "formats/canon_map.h"

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

typedef struct clip_names {
    char sub[64];     /* between the caller's prefix and the names */
    bool open;        /* OpenCLIP names */
    bool bare;        /* transformers names without "text_model." */
    int unused_layer; /* -1: none */
} clip_names;

static const limn_canon_rule open_rules[] = {
    {"token_embedding", "text_model.embeddings.token_embedding"},
    {"positional_embedding", "text_model.embeddings.position_embedding.weight"},
    {"ln_final", "text_model.final_layer_norm"},
};
static const limn_canon_rule layer_rules[] = {
    {"ln_1", "layer_norm1"},
    {"ln_2", "layer_norm2"},
    {"mlp.c_fc", "mlp.fc1"},
    {"mlp.c_proj", "mlp.fc2"},
    {"attn.out_proj", "self_attn.out_proj"},
};

static bool is_dropped(const char *rest) {
    static const char *const names[] = {"logit_scale", "attn_mask",
                                        "text_model.embeddings.position_ids",
                                        "embeddings.position_ids", "transformer.text_projection"};
    for (size_t i = 0; i < COUNT(names); i++)
        if (strcmp(rest, names[i]) == 0) return true;
    return false;
}

static limn_canon_verdict open_name(const clip_names *n, const char *rest, char *name) {
    char tail[LIMN_CANON_NAME];
    const char *p = rest;
    if (limn_canon_rules(name, rest, open_rules, COUNT(open_rules))) return LIMN_CANON_KEEP;
    /* handled apart: split or transposed */
    if (strcmp(rest, "text_projection") == 0 || strcmp(rest, "text_projection.weight") == 0 ||
        strstr(rest, ".attn.in_proj_"))
        return LIMN_CANON_SKIP;
    int layer = limn_canon_number(&p, "transformer.resblocks");
    if (layer < 0 || !limn_canon_rules(tail, p, layer_rules, COUNT(layer_rules)))
        return LIMN_CANON_UNKNOWN;
    if (layer == n->unused_layer) return LIMN_CANON_SKIP;
    return limn_canon_put(name, "text_model.encoder.layers.%d.%.300s", layer, tail);
}

static limn_canon_verdict clip_name(void *user, const char *rest, char *name) {
    const clip_names *n = user;
    size_t sub = strlen(n->sub);
    if (is_dropped(rest)) return LIMN_CANON_SKIP;
    if (strcmp(rest, "text_projection.weight") == 0 && !n->open)
        return limn_canon_put(name, "%s", rest);
    if (strncmp(rest, n->sub, sub) != 0) return LIMN_CANON_UNKNOWN;
    rest += sub;
    if (is_dropped(rest)) return LIMN_CANON_SKIP;
    if (n->open) return open_name(n, rest, name);
    const char *p = n->bare ? rest : strncmp(rest, "text_model.", 11) == 0 ? rest + 11 : NULL;
    if (strcmp(rest, "text_projection.weight") == 0) return limn_canon_put(name, "%s", rest);
    if (!p) return LIMN_CANON_UNKNOWN;
    const char *q = p;
    if (limn_canon_number(&q, "encoder.layers") == n->unused_layer && n->unused_layer >= 0)
        return LIMN_CANON_SKIP;
    static const char *const tops[] = {"embeddings.", "encoder.layers.", "final_layer_norm."};
    for (size_t i = 0; i < COUNT(tops); i++)
        if (strncmp(p, tops[i], strlen(tops[i])) == 0)
            return limn_canon_put(name, "text_model.%s", p);
    return LIMN_CANON_UNKNOWN;
}

/* Rows [part * n / 3, (part + 1) * n / 3) of a fused tensor. */
static limn_status third_add(limn_canon *c, const limn_tensor *t, int layer, int part,
                             const char *kind) {
    static const char *const parts[] = {"q", "k", "v"};
    char name[LIMN_CANON_NAME];
    size_t bytes;
    limn_tensor v = *t;
    if (t->shape.ndim < 1 || t->shape.dim[0] % 3 != 0 ||
        !limn_tensor_bytes(&bytes, t->dtype, &t->shape))
        return limn_fail(c->err, LIMN_E_SHAPE, "%s: in_proj_%s of layer %d is not three parts",
                         limn_weights_path(c->src), kind, layer);
    v.shape.dim[0] /= 3;
    if (!limn_tensor_bytes(&bytes, v.dtype, &v.shape))
        return limn_fail(c->err, LIMN_E_SHAPE, "%s: in_proj_%s of layer %d has no whole blocks",
                         limn_weights_path(c->src), kind, layer);
    v.data = (uint8_t *)t->data + bytes * (size_t)part;
    snprintf(name, sizeof name, "text_model.encoder.layers.%d.self_attn.%s_proj.%s", layer,
             parts[part], kind);
    return limn_weights_add(c->out, name, &v, c->err);
}

static limn_status fused_split(limn_canon *c, const clip_names *n, int layers) {
    static const char *const kinds[] = {"weight", "bias"};
    limn_status st = LIMN_OK;
    for (int l = 0; l < layers; l++)
        for (int k = 0; k < 2; k++) {
            const limn_tensor *t = limn_canon_source(
                c, "%stransformer.resblocks.%d.attn.in_proj_%s", n->sub, l, kinds[k]);
            for (int part = 0; t && part < 3 && st == LIMN_OK; part++)
                st = third_add(c, t, l, part, kinds[k]);
        }
    return st;
}

/* [width, projection] -> [projection, width], f32 for types that cannot be written, else as is. */
static limn_status projection_turn(limn_canon *c, const limn_tensor *t) {
    if (t->shape.ndim != 2)
        return limn_fail(c->err, LIMN_E_SHAPE, "%s: text_projection has %d dimensions, not 2",
                         limn_weights_path(c->src), t->shape.ndim);
    int64_t rows = t->shape.dim[0], cols = t->shape.dim[1];
    bool plain = !limn_dtype_get(t->dtype)->quantised;
    limn_dtype dtype = plain ? t->dtype : LIMN_F32;
    limn_shape shape = LIMN_SHAPE(cols, rows);
    size_t width = (size_t)limn_dtype_get(dtype)->bytes, row_bytes;
    void *made = NULL;
    limn_status st =
        limn_weights_add_owned(c->out, "text_projection.weight", dtype, &shape, &made, c->err);
    if (st != LIMN_OK || rows == 0 || cols == 0) return st;
    float *row = limn_mem_alloc((size_t)cols * sizeof *row);
    if (!row)
        return limn_fail(c->err, LIMN_E_NOMEM, "%s: no memory to turn text_projection",
                         limn_weights_path(c->src));
    limn_dtype_row_bytes(&row_bytes, t->dtype, cols);
    for (int64_t r = 0; r < rows; r++) {
        const uint8_t *src = (const uint8_t *)t->data + (size_t)r * row_bytes;
        if (!plain) limn_dtype_to_f32(row, src, t->dtype, cols);
        for (int64_t k = 0; k < cols; k++)
            memcpy((uint8_t *)made + (size_t)(k * rows + r) * width,
                   plain ? src + (size_t)k * width : (const uint8_t *)&row[k], width);
    }
    limn_mem_free(row);
    return LIMN_OK;
}

static limn_status dialect_find(clip_names *n, const limn_canon *c) {
    static const char *const subs[] = {"", "transformer.", "model.", "text_encoder.",
                                       "model.transformer."};
    *n = (clip_names){.unused_layer = -1};
    for (size_t i = 0; i < COUNT(subs); i++) {
        snprintf(n->sub, sizeof n->sub, "%s", subs[i]);
        if (limn_canon_source(c, "%stext_model.embeddings.token_embedding.weight", subs[i]))
            return LIMN_OK;
        n->bare = limn_canon_source(c, "%sembeddings.token_embedding.weight", subs[i]) != NULL;
        if (n->bare) return LIMN_OK;
        n->open = limn_canon_source(c, "%stoken_embedding.weight", subs[i]) != NULL;
        if (n->open) return LIMN_OK;
    }
    return limn_fail(c->err, LIMN_E_MISSING, "%s: holds no CLIP text encoder under '%s'",
                     limn_weights_path(c->src), c->prefix);
}

static int source_layers(const limn_canon *c, const clip_names *n) {
    int l = 0;
    const char *form = n->open   ? "transformer.resblocks.%d.ln_1.weight"
                       : n->bare ? "encoder.layers.%d.layer_norm1.weight"
                                 : "text_model.encoder.layers.%d.layer_norm1.weight";
    char name[LIMN_CANON_NAME];
    for (; l < 256; l++) {
        int at = snprintf(name, sizeof name, "%s", n->sub);
        const char *mark = strstr(form, "%d");
        snprintf(name + at, sizeof name - (size_t)at, "%.*s%d%s", (int)(mark - form), form, l,
                 mark + 2);
        if (!limn_canon_source(c, "%s", name)) break;
    }
    return l;
}

static limn_status measure(limn_clip_config *cfg, const limn_weights *w, limn_err *err) {
    const limn_tensor *tok, *pos, *fc1;
    limn_status st;
    *cfg = (limn_clip_config){.norm_eps = 1e-5f};
    LIMN_TRY(limn_weights_need(&tok, w, "text_model.embeddings.token_embedding.weight", NULL, err));
    LIMN_TRY(
        limn_weights_need(&pos, w, "text_model.embeddings.position_embedding.weight", NULL, err));
    LIMN_TRY(limn_weights_need(&fc1, w, "text_model.encoder.layers.0.mlp.fc1.weight", NULL, err));
    cfg->vocab = limn_canon_dim(tok, 0);
    cfg->width = limn_canon_dim(tok, 1);
    cfg->positions = limn_canon_dim(pos, 0);
    cfg->ff = limn_canon_dim(fc1, 0);
    cfg->layers = limn_canon_count(w, 256, "text_model.encoder.layers.", ".layer_norm1.weight");
    cfg->projection = limn_canon_dim(limn_weights_find(w, "text_projection.weight"), 0);
    LIMN_CHECK(err, cfg->vocab >= 2 && cfg->width > 0, LIMN_E_SHAPE,
               "%s: the token embedding of the text encoder is empty", limn_weights_path(w));
    cfg->heads = cfg->width >= 64 ? cfg->width / 64 : 1;
    /* OpenAI's CLIP-L has the quick form; every OpenCLIP model that SD uses has the exact one. */
    cfg->act = cfg->width == 768 ? LIMN_CLIP_QUICK_GELU : LIMN_CLIP_GELU;
    cfg->bos = cfg->vocab - 2;
    cfg->eos = cfg->vocab - 1;
    cfg->pad = cfg->act == LIMN_CLIP_QUICK_GELU ? cfg->eos : 0;
out:
    return st;
}

limn_status limn_canon_clip(limn_weights **out, limn_clip_config *cfg, const limn_weights *w,
                            const char *prefix, const char *config_json, limn_err *err) {
    limn_status st;
    limn_canon c;
    clip_names n;
    *out = NULL;
    LIMN_TRY(limn_canon_begin(&c, w, prefix, err));
    LIMN_TRY(dialect_find(&n, &c));
    int layers = source_layers(&c, &n);
    bool sd2 = strncmp(prefix, "cond_stage_model.", 17) == 0 && (n.open || layers == 24);
    if (sd2 && layers > 1) n.unused_layer = --layers;
    LIMN_TRY(limn_canon_walk(&c, clip_name, &n));
    if (n.open) {
        LIMN_TRY(fused_split(&c, &n, layers));
        const limn_tensor *t = limn_canon_source(&c, "%stext_projection", n.sub);
        if (!t) t = limn_canon_source(&c, "%stext_projection.weight", n.sub);
        if (t && !sd2) LIMN_TRY(projection_turn(&c, t));
    }
    LIMN_TRY(measure(cfg, c.out, err));
    if (config_json) LIMN_TRY(limn_clip_config_parse(cfg, config_json, err));
out:
    return limn_canon_end(&c, out, st);
}
