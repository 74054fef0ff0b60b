/* SPDX-License-Identifier: MIT */
/* Scopes of upscalers (RRDBNet, SRVGGNetCompact) and language models; see canon.h. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/canon_map.h"

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

/* ---- upscalers ---- */
enum { CONVS_MAX = 16 };

typedef struct rrdb_names {
    bool numbered;        /* "model.N": ESRGAN before Real-ESRGAN */
    int convs[CONVS_MAX]; /* numbers of the convolutions after model.1, ascending */
    int n_convs;
    int blocks;
} rrdb_names;

static const limn_canon_rule trunk_rules[] = {
    /* BasicSR before 2021 */
    {"trunk_conv", "conv_body"}, {"upconv1", "conv_up1"},      {"upconv2", "conv_up2"},
    {"HRconv", "conv_hr"},       {"conv_first", "conv_first"}, {"conv_body", "conv_body"},
    {"conv_up1", "conv_up1"},    {"conv_up2", "conv_up2"},     {"conv_up3", "conv_up3"},
    {"conv_hr", "conv_hr"},      {"conv_last", "conv_last"},
};

/* "RDB1.conv2.0.weight" or "rdb1.conv2.weight" -> "rdb1.conv2.weight" */
static limn_canon_verdict dense_name(char *name, int block, const char *p) {
    if (strncasecmp(p, "rdb", 3) != 0 || !isdigit((unsigned char)p[3]) ||
        strncmp(p + 4, ".conv", 5) != 0 || !isdigit((unsigned char)p[9]))
        return LIMN_CANON_UNKNOWN;
    const char *tail = p + 10;
    if (strncmp(tail, ".0.", 3) == 0) tail += 2;
    return limn_canon_put(name, "body.%d.rdb%c.conv%c%s", block, p[3], p[9], tail);
}

static limn_canon_verdict rrdb_name(void *user, const char *rest, char *name) {
    const rrdb_names *r = user;
    const char *p = rest;
    int n;
    if (limn_canon_rules(name, rest, trunk_rules, COUNT(trunk_rules))) return LIMN_CANON_KEEP;
    if ((n = limn_canon_number(&p, "body")) >= 0 || (n = limn_canon_number(&p, "RRDB_trunk")) >= 0)
        return dense_name(name, n, p);
    if (!r->numbered) return LIMN_CANON_UNKNOWN;
    if ((n = limn_canon_number(&p, "model.1.sub")) >= 0)
        return n == r->blocks ? limn_canon_put(name, "conv_body.%s", p) : dense_name(name, n, p);
    n = limn_canon_number(&p, "model");
    if (n == 0) return limn_canon_put(name, "conv_first.%s", p);
    for (int i = 0; i < r->n_convs; i++) {
        if (r->convs[i] != n) continue;
        if (i == r->n_convs - 1) return limn_canon_put(name, "conv_last.%s", p);
        if (i == r->n_convs - 2) return limn_canon_put(name, "conv_hr.%s", p);
        return limn_canon_put(name, "conv_up%d.%s", i + 1, p);
    }
    return LIMN_CANON_UNKNOWN;
}

static limn_canon_verdict srvgg_name(void *user, const char *rest, char *name) {
    const char *p = rest;
    (void)user;
    return limn_canon_number(&p, "body") >= 0 ? limn_canon_put(name, "%s", rest)
                                              : LIMN_CANON_UNKNOWN;
}

static void rrdb_scan(rrdb_names *r, const limn_canon *c) {
    r->numbered = limn_canon_source(c, "model.0.weight") != NULL;
    while (limn_canon_source(c, "model.1.sub.%d.RDB1.conv1.0.weight", r->blocks)) r->blocks++;
    for (int n = 2; n < 32 && r->n_convs < CONVS_MAX; n++)
        if (limn_canon_source(c, "model.%d.weight", n)) r->convs[r->n_convs++] = n;
}

static limn_status rrdb_measure(limn_upscaler_config *cfg, const limn_weights *w, limn_err *err) {
    const limn_tensor *first, *last, *grow;
    limn_status st;
    *cfg = (limn_upscaler_config){.kind = LIMN_UPSCALER_RRDB};
    LIMN_TRY(limn_weights_need(&first, w, "conv_first.weight", NULL, err));
    LIMN_TRY(limn_weights_need(&last, w, "conv_last.weight", NULL, err));
    LIMN_TRY(limn_weights_need(&grow, w, "body.0.rdb1.conv1.weight", NULL, err));
    cfg->features = limn_canon_dim(first, 0);
    cfg->growth = limn_canon_dim(grow, 0);
    cfg->blocks = limn_canon_count(w, 256, "body.", ".rdb1.conv1.weight");
    cfg->out_channels = cfg->in_channels = limn_canon_dim(last, 0);
    while (cfg->ups < 3 && limn_weights_findf(w, "conv_up%d.weight", cfg->ups + 1)) cfg->ups++;
    int in = limn_canon_dim(first, 1), square = in / (cfg->in_channels ? cfg->in_channels : 1);
    cfg->unshuffle = square == 16 ? 4 : square == 4 ? 2 : 1;
    cfg->scale = (1 << cfg->ups) / cfg->unshuffle;
    LIMN_CHECK(err, cfg->scale >= 1 && in == cfg->in_channels * cfg->unshuffle * cfg->unshuffle,
               LIMN_E_SHAPE, "%s: an upscaler from %d to %d channels is not known",
               limn_weights_path(w), in, cfg->out_channels);
out:
    return st;
}

static limn_status srvgg_measure(limn_upscaler_config *cfg, const limn_weights *w, limn_err *err) {
    const limn_tensor *first, *t = NULL;
    int last = 0;
    limn_status st;
    *cfg = (limn_upscaler_config){.kind = LIMN_UPSCALER_SRVGG, .unshuffle = 1};
    LIMN_TRY(limn_weights_need(&first, w, "body.0.weight", NULL, err));
    for (int n = 0; n < 512; n++) {
        const limn_tensor *at = limn_weights_findf(w, "body.%d.weight", n);
        if (!at) break;
        if (at->shape.ndim != 4) continue; /* the slope of a PReLU */
        t = at;
        last = n;
        cfg->blocks++;
    }
    cfg->blocks -= 2; /* first and last convolution */
    cfg->features = limn_canon_dim(first, 0);
    cfg->in_channels = cfg->out_channels = limn_canon_dim(first, 1);
    int wide = limn_canon_dim(t, 0);
    for (int s = 1; s <= 8; s++)
        if (wide == cfg->out_channels * s * s) cfg->scale = s;
    LIMN_CHECK(err, cfg->scale && cfg->blocks >= 0, LIMN_E_SHAPE,
               "%s: body.%d has %d channels, which is no square multiple of %d",
               limn_weights_path(w), last, wide, cfg->out_channels);
out:
    return st;
}

limn_status limn_canon_upscaler(limn_weights **out, limn_upscaler_config *cfg,
                                const limn_weights *w, const char *prefix, limn_err *err) {
    limn_status st;
    limn_canon c;
    rrdb_names r = {0};
    *out = NULL;
    LIMN_TRY(limn_canon_begin(&c, w, prefix, err));
    bool srvgg = limn_canon_source(&c, "body.0.weight") != NULL;
    LIMN_CHECK(err,
               srvgg || limn_canon_source(&c, "conv_first.weight") ||
                   limn_canon_source(&c, "model.0.weight"),
               LIMN_E_MISSING, "%s: holds no upscaler under '%s'", limn_weights_path(w), prefix);
    rrdb_scan(&r, &c);
    LIMN_TRY(limn_canon_walk(&c, srvgg ? srvgg_name : rrdb_name, &r));
    LIMN_TRY(srvgg ? srvgg_measure(cfg, c.out, err) : rrdb_measure(cfg, c.out, err));
out:
    return limn_canon_end(&c, out, st);
}

/* ---- language models ---- */
static const limn_canon_rule llm_top_rules[] = {
    /* llama.cpp: gguf-py/gguf/constants.py */
    {"token_embd", "embed_tokens"},
    {"output_norm", "norm"},
    {"output", "lm_head"},
};
static const limn_canon_rule llm_layer_rules[] = {
    {"attn_norm", "input_layernorm"},
    {"attn_q", "self_attn.q_proj"},
    {"attn_k", "self_attn.k_proj"},
    {"attn_v", "self_attn.v_proj"},
    {"attn_output", "self_attn.o_proj"},
    {"attn_q_norm", "self_attn.q_norm"},
    {"attn_k_norm", "self_attn.k_norm"},
    {"ffn_norm", "post_attention_layernorm"},
    {"ffn_gate", "mlp.gate_proj"},
    {"ffn_up", "mlp.up_proj"},
    {"ffn_down", "mlp.down_proj"},
    {"ffn_gate_inp", "mlp.gate"},
    {"ffn_gate_exps", "mlp.experts.gate_proj"},
    {"ffn_up_exps", "mlp.experts.up_proj"},
    {"ffn_down_exps", "mlp.experts.down_proj"},
};

static limn_canon_verdict llama_name(void *user, const char *rest, char *name) {
    char tail[LIMN_CANON_NAME];
    const char *p = rest;
    (void)user;
    if (limn_canon_rules(name, rest, llm_top_rules, COUNT(llm_top_rules))) return LIMN_CANON_KEEP;
    if (strcmp(rest, "rope_freqs.weight") == 0) return limn_canon_put(name, "%s", rest);
    int n = limn_canon_number(&p, "blk");
    if (n < 0 || !limn_canon_rules(tail, p, llm_layer_rules, COUNT(llm_layer_rules)))
        return LIMN_CANON_UNKNOWN;
    return limn_canon_put(name, "layers.%d.%.300s", n, tail);
}

static limn_canon_verdict hf_name(void *user, const char *rest, char *name) {
    static const char *const prefixes[] = {"model.language_model.", "language_model.model.",
                                           "language_model.", "model."};
    (void)user;
    if (strstr(rest, "visual.") == rest || strstr(rest, "model.visual.") == rest)
        return LIMN_CANON_SKIP; /* the vision tower: its own scope */
    for (size_t i = 0; i < COUNT(prefixes); i++) {
        size_t n = strlen(prefixes[i]);
        if (strncmp(rest, prefixes[i], n) != 0) continue;
        rest += n;
        break;
    }
    limn_canon_verdict v = limn_canon_put(name, "%s", rest);
    return v == LIMN_CANON_KEEP && limn_canon_is_expert(name) ? LIMN_CANON_JOIN : v;
}

limn_status limn_canon_llm(limn_weights **out, const limn_weights *w, limn_err *err) {
    limn_status st;
    limn_canon c;
    *out = NULL;
    LIMN_TRY(limn_canon_begin(&c, w, "", err));
    bool llama = limn_weights_find(w, "token_embd.weight") != NULL;
    LIMN_TRY(limn_canon_walk(&c, llama ? llama_name : hf_name, NULL));
    if (!llama) LIMN_TRY(limn_canon_experts(&c, hf_name, NULL));
    LIMN_CHECK(err, limn_weights_find(c.out, "embed_tokens.weight"), LIMN_E_MISSING,
               "%s: holds no language model (no token embedding)", limn_weights_path(w));
out:
    return limn_canon_end(&c, out, st);
}

bool limn_canon_llm_gguf(char *name, size_t size, const char *canonical) {
    const char *p = canonical;
    int layer = limn_canon_number(&p, "layers");
    const limn_canon_rule *rules = layer < 0 ? llm_top_rules : llm_layer_rules;
    size_t n = layer < 0 ? COUNT(llm_top_rules) : COUNT(llm_layer_rules);
    for (size_t i = 0; i < n; i++) {
        size_t len = strlen(rules[i].to);
        if (strncmp(p, rules[i].to, len) != 0 || p[len] != '.') continue;
        int made = layer < 0 ? snprintf(name, size, "%s%s", rules[i].from, p + len)
                             : snprintf(name, size, "blk.%d.%s%s", layer, rules[i].from, p + len);
        return made > 0 && (size_t)made < size;
    }
    return false;
}
