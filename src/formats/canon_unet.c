/* SPDX-License-Identifier: MIT */
/*
 * UNet scopes; see canon.h. The original (CompVis) files number their blocks through; which block
 * is a resnet, a resnet with attention or a resampler shows in the names below it, and from that
 * follows its level and place in diffusers' numbering.
 */
#include <string.h>

#include "formats/canon_map.h"

enum { BLOCKS = 64 };

typedef struct block {
    int level, index;
    bool resample; /* the block is (input) or contains (output) a resampler */
} block;

typedef struct original {
    block in[BLOCKS], out[BLOCKS];
    int n_in, n_out;
    bool mid_attention;
} original;

/* ---- what the original numbering means ---- */
static void input_scan(original *o, const limn_canon *c) {
    int level = 0, index = 0;
    for (int n = 1; n < BLOCKS; n++) {
        bool down = limn_canon_source(c, "input_blocks.%d.0.op.weight", n) != NULL;
        bool res = limn_canon_source(c, "input_blocks.%d.0.in_layers.0.weight", n) != NULL;
        if (!down && !res) break;
        o->in[n] = (block){level, index, down};
        o->n_in = n + 1;
        if (down) {
            level++;
            index = 0;
        } else {
            index++;
        }
    }
}

static void output_scan(original *o, const limn_canon *c) {
    int level = 0, index = 0;
    for (int n = 0; n < BLOCKS; n++) {
        if (!limn_canon_source(c, "output_blocks.%d.0.in_layers.0.weight", n)) break;
        bool up = limn_canon_source(c, "output_blocks.%d.1.conv.weight", n) ||
                  limn_canon_source(c, "output_blocks.%d.2.conv.weight", n);
        o->out[n] = (block){level, index++, up};
        o->n_out = n + 1;
        if (up) {
            level++;
            index = 0;
        }
    }
}

/* ---- names ---- */
static const limn_canon_rule res_rules[] = {
    {"in_layers.0", "norm1"},          {"in_layers.2", "conv1"},
    {"out_layers.0", "norm2"},         {"out_layers.3", "conv2"},
    {"emb_layers.1", "time_emb_proj"}, {"skip_connection", "conv_shortcut"},
};
static const limn_canon_rule top_rules[] = {
    {"input_blocks.0.0", "conv_in"},
    {"time_embed.0", "time_embedding.linear_1"},
    {"time_embed.2", "time_embedding.linear_2"},
    {"time_embed.cond_proj", "time_embedding.cond_proj"},
    {"time_embedding.cond_proj", "time_embedding.cond_proj"},
    {"label_emb.0.0", "add_embedding.linear_1"},
    {"label_emb.0.2", "add_embedding.linear_2"},
    {"out.0", "conv_norm_out"},
    {"out.2", "conv_out"},
};
#define COUNT(a) (sizeof(a) / sizeof(a)[0])

static limn_canon_verdict resnet_name(char *name, const char *blocks, int level, int index,
                                      const char *rest) {
    char tail[LIMN_CANON_NAME];
    if (!limn_canon_rules(tail, rest, res_rules, COUNT(res_rules))) return LIMN_CANON_UNKNOWN;
    return level < 0 ? limn_canon_put(name, "%s.resnets.%d.%.300s", blocks, index, tail)
                     : limn_canon_put(name, "%s.%d.resnets.%d.%.300s", blocks, level, index, tail);
}

static limn_canon_verdict input_name(const original *o, char *name, int n, const char *p) {
    if (n <= 0 || n >= o->n_in) return LIMN_CANON_UNKNOWN;
    const block *b = &o->in[n];
    int part = limn_canon_number(&p, "");
    if (b->resample && part == 0 && strncmp(p, "op.", 3) == 0)
        return limn_canon_put(name, "down_blocks.%d.downsamplers.0.conv.%s", b->level, p + 3);
    if (part == 0) return resnet_name(name, "down_blocks", b->level, b->index, p);
    if (part == 1)
        return limn_canon_put(name, "down_blocks.%d.attentions.%d.%s", b->level, b->index, p);
    return LIMN_CANON_UNKNOWN;
}

static limn_canon_verdict output_name(const original *o, char *name, int n, const char *p) {
    if (n < 0 || n >= o->n_out) return LIMN_CANON_UNKNOWN;
    const block *b = &o->out[n];
    int part = limn_canon_number(&p, "");
    if (part == 0) return resnet_name(name, "up_blocks", b->level, b->index, p);
    if (b->resample && (part == 1 || part == 2) && strncmp(p, "conv.", 5) == 0)
        return limn_canon_put(name, "up_blocks.%d.upsamplers.0.conv.%s", b->level, p + 5);
    if (part == 1)
        return limn_canon_put(name, "up_blocks.%d.attentions.%d.%s", b->level, b->index, p);
    return LIMN_CANON_UNKNOWN;
}

static limn_canon_verdict middle_name(const original *o, char *name, int n, const char *p) {
    if (n == 0) return resnet_name(name, "mid_block", -1, 0, p);
    if (o->mid_attention && n == 1) return limn_canon_put(name, "mid_block.attentions.0.%s", p);
    if (n == (o->mid_attention ? 2 : 1)) return resnet_name(name, "mid_block", -1, 1, p);
    return LIMN_CANON_UNKNOWN;
}

static limn_canon_verdict original_name(void *user, const char *rest, char *name) {
    const original *o = user;
    const char *p = rest;
    if (limn_canon_rules(name, rest, top_rules, COUNT(top_rules))) return LIMN_CANON_KEEP;
    int n = limn_canon_number(&p, "input_blocks");
    if (n >= 0) return input_name(o, name, n, p);
    n = limn_canon_number(&p, "output_blocks");
    if (n >= 0) return output_name(o, name, n, p);
    n = limn_canon_number(&p, "middle_block");
    if (n >= 0) return middle_name(o, name, n, p);
    /* markers of v-prediction and zero terminal SNR, empty tensors */
    if (strcmp(rest, "v_pred") == 0 || strcmp(rest, "ztsnr") == 0) return LIMN_CANON_SKIP;
    return LIMN_CANON_UNKNOWN;
}

static limn_canon_verdict same_name(void *user, const char *rest, char *name) {
    static const char *const tops[] = {"conv_in.",        "conv_out.",     "conv_norm_out.",
                                       "down_blocks.",    "up_blocks.",    "mid_block.",
                                       "time_embedding.", "add_embedding."};
    (void)user;
    for (size_t i = 0; i < COUNT(tops); i++)
        if (strncmp(rest, tops[i], strlen(tops[i])) == 0) return limn_canon_put(name, "%s", rest);
    return LIMN_CANON_UNKNOWN;
}

/* ---- the way back ---- */
static bool rules_back(char *out, const char *rest, const limn_canon_rule *rules, size_t n) {
    for (size_t i = 0; i < n; i++) {
        size_t m = strlen(rules[i].to);
        if (strncmp(rest, rules[i].to, m) == 0 && (rest[m] == '.' || rest[m] == 0))
            return limn_canon_put(out, "%s%s", rules[i].from, rest + m) == LIMN_CANON_KEEP;
    }
    return false;
}

/* "resnets.I.*" and "attentions.I.*" of original block n (mid block: of its I-th module pair). */
static bool module_back(char *out, const char *blocks, int n, const char *p) {
    char tail[LIMN_CANON_NAME];
    const char *q = p;
    if (limn_canon_number(&q, "attentions") >= 0)
        return limn_canon_put(out, "%s.%d.1.%s", blocks, n, q) == LIMN_CANON_KEEP;
    return limn_canon_number(&q, "resnets") >= 0 &&
           rules_back(tail, q, res_rules, COUNT(res_rules)) &&
           limn_canon_put(out, "%s.%d.0.%.300s", blocks, n, tail) == LIMN_CANON_KEEP;
}

static bool mid_back(char *out, const char *p) {
    char tail[LIMN_CANON_NAME];
    const char *q = p;
    if (limn_canon_number(&q, "attentions") == 0)
        return limn_canon_put(out, "middle_block.1.%s", q) == LIMN_CANON_KEEP;
    int i = limn_canon_number(&q, "resnets");
    return i >= 0 && rules_back(tail, q, res_rules, COUNT(res_rules)) &&
           limn_canon_put(out, "middle_block.%d.%.300s", 2 * i, tail) == LIMN_CANON_KEEP;
}

/* Index I in "resnets.I." or "attentions.I."; -1 for samplers. */
static int module_index(const char *p) {
    const char *q = p;
    int i = limn_canon_number(&q, "resnets");
    return i >= 0 ? i : limn_canon_number(&q, "attentions");
}

static bool name_back(char *out, const limn_unet_config *cfg, const char *p) {
    const char *q = p;
    int n = 1, level = limn_canon_number(&q, "down_blocks");
    if (level >= 0 && level < cfg->levels) {
        for (int l = 0; l < level; l++) n += cfg->down_layers[l] + 1;
        int i = module_index(q);
        if (i >= 0) return module_back(out, "input_blocks", n + i, q);
        return strncmp(q, "downsamplers.0.conv", 19) == 0 &&
               limn_canon_put(out, "input_blocks.%d.0.op%s", n + cfg->down_layers[level], q + 19) ==
                   LIMN_CANON_KEEP;
    }
    n = 0;
    level = limn_canon_number(&q, "up_blocks");
    if (level >= 0 && level < cfg->levels) {
        for (int l = 0; l < level; l++) n += cfg->up_layers[l];
        int i = module_index(q), last = cfg->up_layers[level] - 1;
        if (i >= 0) return module_back(out, "output_blocks", n + i, q);
        return strncmp(q, "upsamplers.0.conv", 17) == 0 &&
               limn_canon_put(out, "output_blocks.%d.%d.conv%s", n + last,
                              cfg->up_depth[level][last] ? 2 : 1, q + 17) == LIMN_CANON_KEEP;
    }
    if (strncmp(p, "mid_block.", 10) == 0) return mid_back(out, p + 10);
    return rules_back(out, p, top_rules, COUNT(top_rules));
}

bool limn_canon_unet_original(char *name, size_t size, const limn_unet_config *cfg,
                              const char *canonical) {
    char out[LIMN_CANON_NAME];
    if (!name_back(out, cfg, canonical) || strlen(out) >= size) return false;
    memcpy(name, out, strlen(out) + 1);
    return true;
}

/* ---- the config, from canonical tensors ---- */
static int depth_of(const limn_weights *w, const char *blocks, int level, int index) {
    int n = 0;
    while (n < 64 && limn_weights_findf(w, "%s.%d.attentions.%d.transformer_blocks.%d.norm1.weight",
                                        blocks, level, index, n))
        n++;
    return n;
}

static int layers_of(const limn_weights *w, const char *blocks, int level) {
    int n = 0;
    while (n <= LIMN_CFG_LAYERS &&
           limn_weights_findf(w, "%s.%d.resnets.%d.conv1.weight", blocks, level, n))
        n++;
    return n;
}

/* Width of the text states: the first cross attention says it. */
static int context_of(const limn_weights *w) {
    for (size_t i = 0; i < limn_weights_count(w); i++) {
        const char *name = limn_weights_name(w, i);
        static const char end[] = ".attn2.to_k.weight";
        size_t n = strlen(name), m = sizeof end - 1;
        if (n > m && strcmp(name + n - m, end) == 0)
            return limn_canon_dim(limn_weights_at(w, i), 1);
    }
    return 0;
}

static limn_status levels_measure(limn_unet_config *cfg, const limn_weights *w, limn_err *err) {
    const char *path = limn_weights_path(w);
    for (int l = 0; l <= LIMN_CFG_LEVELS; l++) {
        int down = layers_of(w, "down_blocks", l), up = layers_of(w, "up_blocks", l);
        if (!down && !up) break;
        if (l == LIMN_CFG_LEVELS || down > LIMN_CFG_LAYERS || up > LIMN_CFG_LAYERS)
            return limn_fail(err, LIMN_E_UNSUPPORTED,
                             "%s: UNet has more than %d levels or %d layers in one", path,
                             LIMN_CFG_LEVELS, LIMN_CFG_LAYERS);
        if (!down || !up)
            return limn_fail(err, LIMN_E_MISSING, "%s: UNet has no %s_blocks.%d", path,
                             down ? "up" : "down", l);
        cfg->levels = l + 1;
        cfg->down_layers[l] = down;
        cfg->up_layers[l] = up;
        cfg->channels[l] =
            limn_canon_dim(limn_weights_findf(w, "down_blocks.%d.resnets.0.conv1.weight", l), 0);
        for (int i = 0; i < down; i++) cfg->down_depth[l][i] = depth_of(w, "down_blocks", l, i);
        for (int i = 0; i < up; i++) cfg->up_depth[l][i] = depth_of(w, "up_blocks", l, i);
    }
    if (cfg->levels == 0)
        return limn_fail(err, LIMN_E_MISSING, "%s: UNet has no down_blocks.0", path);
    return LIMN_OK;
}

static limn_status measure(limn_unet_config *cfg, const limn_weights *w, limn_err *err) {
    *cfg = (limn_unet_config){.groups = 32,
                              .norm_eps = 1e-5f,
                              .add_time_dim = 256,
                              .flip_sin_to_cos = true,
                              .linear_proj = true};
    const limn_tensor *in, *out, *time;
    limn_status st;
    LIMN_TRY(limn_weights_need(&in, w, "conv_in.weight", NULL, err));
    LIMN_TRY(limn_weights_need(&out, w, "conv_out.weight", NULL, err));
    LIMN_TRY(limn_weights_need(&time, w, "time_embedding.linear_1.weight", NULL, err));
    LIMN_TRY(levels_measure(cfg, w, err));
    cfg->in_channels = limn_canon_dim(in, 1);
    cfg->out_channels = limn_canon_dim(out, 0);
    cfg->time_dim = limn_canon_dim(time, 0);
    cfg->mid_resnets = limn_canon_count(w, 8, "mid_block.resnets.", ".conv1.weight");
    cfg->mid_depth =
        limn_canon_count(w, 64, "mid_block.attentions.0.transformer_blocks.", ".norm1.weight");
    cfg->context_dim = context_of(w);
    cfg->add_embed_dim = limn_canon_dim(limn_weights_find(w, "add_embedding.linear_1.weight"), 1);
    cfg->time_cond_dim = limn_canon_dim(limn_weights_find(w, "time_embedding.cond_proj.weight"), 1);
out:
    return st;
}

/* 8 heads in SD 1.x (and its distilled kin), 64 channels per head since. */
static limn_status heads_guess(limn_unet_config *cfg, const limn_weights *w, limn_err *err) {
    for (int l = 0; l < cfg->levels; l++) {
        bool eight = cfg->context_dim == 768 && cfg->add_embed_dim == 0;
        cfg->heads[l] = eight ? 8 : cfg->channels[l] / 64;
        if (cfg->heads[l] == 0 || cfg->channels[l] % cfg->heads[l] != 0)
            return limn_fail(err, LIMN_E_UNSUPPORTED,
                             "%s: level %d of the UNet has %d channels, from which the number of "
                             "attention heads cannot be told: a config.json is needed",
                             limn_weights_path(w), l, cfg->channels[l]);
    }
    return LIMN_OK;
}

static bool proj_is_linear(const limn_canon *c) {
    for (size_t i = 0; i < limn_weights_count(c->src); i++) {
        const char *end = strstr(limn_weights_name(c->src, i), ".proj_in.weight");
        if (end && end[15] == 0) return limn_weights_at(c->src, i)->shape.ndim == 2;
    }
    return true;
}

limn_status limn_canon_unet(limn_weights **out, limn_unet_config *cfg, const limn_weights *w,
                            const char *prefix, const char *config_json, limn_err *err) {
    limn_status st;
    limn_canon c;
    original o = {0};
    *out = NULL;
    LIMN_TRY(limn_canon_begin(&c, w, prefix, err));
    if (limn_canon_source(&c, "input_blocks.0.0.weight")) {
        input_scan(&o, &c);
        output_scan(&o, &c);
        o.mid_attention = limn_canon_source(&c, "middle_block.1.norm.weight") != NULL;
        LIMN_TRY(limn_canon_walk(&c, original_name, &o));
    } else {
        LIMN_CHECK(err, limn_canon_source(&c, "conv_in.weight"), LIMN_E_MISSING,
                   "%s: holds no UNet under '%s'", limn_weights_path(w), prefix);
        LIMN_TRY(limn_canon_walk(&c, same_name, NULL));
    }
    LIMN_TRY(measure(cfg, c.out, err));
    cfg->linear_proj = proj_is_linear(&c);
    LIMN_TRY(config_json ? limn_unet_config_parse(cfg, config_json, err)
                         : heads_guess(cfg, c.out, err));
out:
    return limn_canon_end(&c, out, st);
}
