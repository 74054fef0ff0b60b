/* SPDX-License-Identifier: MIT */
/* Scopes of AutoencoderKL and AutoencoderTiny; see canon.h. */
#include <string.h>

#include "formats/canon_map.h"

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

/* ---- AutoencoderKL ---- */
static const limn_canon_rule attn_rules[] = {
    {"norm", "group_norm"},
    {"q", "to_q"},
    {"k", "to_k"},
    {"v", "to_v"},
    {"proj_out", "to_out.0"},
    {"query", "to_q"},
    {"key", "to_k"},
    {"value", "to_v"},
    {"proj_attn", "to_out.0"},
    {"group_norm", "group_norm"},
    {"to_q", "to_q"},
    {"to_k", "to_k"},
    {"to_v", "to_v"},
    {"to_out.0", "to_out.0"},
};
static const limn_canon_rule side_rules[] = {
    {"conv_in", "conv_in"},
    {"conv_out", "conv_out"},
    {"norm_out", "conv_norm_out"},
    {"conv_norm_out", "conv_norm_out"},
    {"down_blocks", "down_blocks"},
    {"up_blocks", "up_blocks"},
    {"mid_block.resnets", "mid_block.resnets"},
    {"mid.block_1", "mid_block.resnets.0"},
    {"mid.block_2", "mid_block.resnets.1"},
};
static const limn_canon_rule res_rules[] = {
    {"nin_shortcut", "conv_shortcut"},
    {"norm1", "norm1"},
    {"norm2", "norm2"},
    {"conv1", "conv1"},
    {"conv2", "conv2"},
    {"conv_shortcut", "conv_shortcut"},
};

typedef struct kl_names {
    int up_levels; /* original numbering counts the decoder's levels from the other end */
} kl_names;

static limn_canon_verdict level_name(char *name, const char *side, const char *blocks,
                                     const char *sampler, int level, const char *p) {
    char tail[LIMN_CANON_NAME];
    const char *conv = strstr(p, "sample.conv.");
    if (conv && (strncmp(p, "down", 4) == 0 || strncmp(p, "up", 2) == 0))
        return limn_canon_put(name, "%s.%s.%d.%s.0.conv.%s", side, blocks, level, sampler,
                              conv + 12);
    int n = limn_canon_number(&p, "block");
    if (n < 0 || !limn_canon_rules(tail, p, res_rules, COUNT(res_rules))) return LIMN_CANON_UNKNOWN;
    return limn_canon_put(name, "%s.%s.%d.resnets.%d.%.300s", side, blocks, level, n, tail);
}

/* A name below "encoder." or "decoder.". */
static limn_canon_verdict side_name(const kl_names *k, char *name, const char *side,
                                    const char *rest) {
    static const char *const attns[] = {"mid.attn_1.", "mid_block.attentions.0."};
    char tail[LIMN_CANON_NAME], tail2[LIMN_CANON_NAME];
    const char *p = rest;
    for (size_t i = 0; i < 2; i++) {
        size_t n = strlen(attns[i]);
        if (strncmp(rest, attns[i], n) != 0) continue;
        if (!limn_canon_rules(tail, rest + n, attn_rules, COUNT(attn_rules)))
            return LIMN_CANON_UNKNOWN;
        return limn_canon_put(name, "%s.mid_block.attentions.0.%.300s", side, tail);
    }
    int level = limn_canon_number(&p, "down");
    if (level >= 0) return level_name(name, side, "down_blocks", "downsamplers", level, p);
    level = limn_canon_number(&p, "up");
    if (level >= 0 && level < k->up_levels)
        return level_name(name, side, "up_blocks", "upsamplers", k->up_levels - 1 - level, p);
    if (!limn_canon_rules(tail, rest, side_rules, COUNT(side_rules))) return LIMN_CANON_UNKNOWN;
    const char *old = strstr(tail, ".nin_shortcut."); /* in the mid block */
    if (old) {
        limn_canon_put(tail2, "%.*s.conv_shortcut.%s", (int)(old - tail), tail, old + 14);
        return limn_canon_put(name, "%s.%.300s", side, tail2);
    }
    return limn_canon_put(name, "%s.%.300s", side, tail);
}

static limn_canon_verdict kl_name(void *user, const char *rest, char *name) {
    static const limn_canon_rule rules[] = {
        {"quant_conv", "quant_conv"},
        {"post_quant_conv", "post_quant_conv"},
        {"encoder.quant_conv", "quant_conv"}, /* FLUX.2 small decoder files */
        {"decoder.post_quant_conv", "post_quant_conv"},
        {"bn", "bn"},
    };
    if (limn_canon_rules(name, rest, rules, COUNT(rules))) return LIMN_CANON_KEEP;
    if (strncmp(rest, "encoder.", 8) == 0) return side_name(user, name, "encoder", rest + 8);
    if (strncmp(rest, "decoder.", 8) == 0) return side_name(user, name, "decoder", rest + 8);
    /* the training loss and EMA bookkeeping of original VAE files */
    if (strncmp(rest, "loss.", 5) == 0 || strncmp(rest, "model_ema.", 10) == 0)
        return LIMN_CANON_SKIP;
    return LIMN_CANON_UNKNOWN;
}

static limn_status kl_measure(limn_vae_config *cfg, const limn_weights *w, limn_err *err) {
    const limn_tensor *enc = limn_weights_find(w, "encoder.conv_in.weight");
    const limn_tensor *dec = limn_weights_find(w, "decoder.conv_in.weight");
    *cfg = (limn_vae_config){.in_channels = 3,
                             .out_channels = 3,
                             .groups = 32,
                             .norm_eps = 1e-6f,
                             .has_encoder = enc != NULL,
                             .has_decoder = dec != NULL};
    int down = limn_canon_count(w, 99, "encoder.down_blocks.", ".resnets.0.conv1.weight");
    int up = limn_canon_count(w, 99, "decoder.up_blocks.", ".resnets.0.conv1.weight");
    cfg->levels = enc ? down : up;
    if ((enc && dec && up != down) || cfg->levels < 1 || cfg->levels > LIMN_CFG_LEVELS)
        return limn_fail(err, LIMN_E_UNSUPPORTED,
                         "%s: autoencoder has %d encoder and %d decoder levels; 1 to %d, the same "
                         "in both, are supported",
                         limn_weights_path(w), down, up, LIMN_CFG_LEVELS);
    for (int l = 0; l < cfg->levels; l++) {
        int e = limn_canon_dim(
            limn_weights_findf(w, "encoder.down_blocks.%d.resnets.0.conv1.weight", l), 0);
        int d = limn_canon_dim(limn_weights_findf(w, "decoder.up_blocks.%d.resnets.0.conv1.weight",
                                                  cfg->levels - 1 - l),
                               0);
        cfg->channels[l] = enc ? e : d;
        cfg->dec_channels[l] = dec ? d : e;
    }
    if (enc) {
        cfg->in_channels = limn_canon_dim(enc, 1);
        cfg->layers = limn_canon_count(w, 16, "encoder.down_blocks.0.resnets.", ".conv1.weight");
        const limn_tensor *out = limn_weights_find(w, "encoder.conv_out.weight");
        cfg->latent_channels = limn_canon_dim(out, 0) / 2;
    }
    if (dec) {
        cfg->out_channels = limn_canon_dim(limn_weights_find(w, "decoder.conv_out.weight"), 0);
        cfg->latent_channels = limn_canon_dim(dec, 1);
        int up_layers = limn_canon_count(w, 16, "decoder.up_blocks.0.resnets.", ".conv1.weight");
        if (!enc) cfg->layers = up_layers - 1;
    }
    cfg->mid_attention =
        limn_weights_findf(w, "%s.mid_block.attentions.0.to_q.weight", dec ? "decoder" : "encoder");
    cfg->quant_conv = limn_weights_find(w, "quant_conv.weight") != NULL;
    cfg->post_quant_conv = limn_weights_find(w, "post_quant_conv.weight") != NULL;
    cfg->force_upcast = true;
    /* Latent scales are a property of the family that tensors cannot tell: SD 1.x and 2.x for 4
     * channels, FLUX.1 for 16. Detection corrects SDXL (0.13025) and SD3. */
    cfg->scaling_factor = cfg->latent_channels == 4    ? 0.18215f
                          : cfg->latent_channels == 16 ? 0.3611f
                                                       : 1;
    cfg->shift_factor = cfg->latent_channels == 16 ? 0.1159f : 0;
    return LIMN_OK;
}

limn_status limn_canon_vae(limn_weights **out, limn_vae_config *cfg, const limn_weights *w,
                           const char *prefix, const char *config_json, limn_err *err) {
    limn_status st;
    limn_canon c;
    kl_names k = {0};
    *out = NULL;
    LIMN_TRY(limn_canon_begin(&c, w, prefix, err));
    LIMN_CHECK(err,
               limn_canon_source(&c, "encoder.conv_in.weight") ||
                   limn_canon_source(&c, "decoder.conv_in.weight"),
               LIMN_E_MISSING, "%s: holds no autoencoder under '%s'", limn_weights_path(w), prefix);
    while (limn_canon_source(&c, "decoder.up.%d.block.0.norm1.weight", k.up_levels)) k.up_levels++;
    LIMN_TRY(limn_canon_walk(&c, kl_name, &k));
    LIMN_TRY(kl_measure(cfg, c.out, err));
    if (config_json) LIMN_TRY(limn_vae_config_parse(cfg, config_json, err));
out:
    return limn_canon_end(&c, out, st);
}

/* ---- TAESD ---- */
typedef struct tiny_names {
    bool bare_encoder, bare_decoder; /* a file with one half and names "0.weight" */
    int enc_shift, dec_shift;        /* the original decoder counts its clamp as module 0 */
    bool layers;                     /* diffusers: "encoder.layers.N" */
} tiny_names;

static limn_canon_verdict tiny_name(void *user, const char *rest, char *name) {
    const tiny_names *t = user;
    const char *p = rest;
    bool dec = t->bare_decoder;
    if (!t->bare_encoder && !t->bare_decoder) {
        dec = strncmp(p, "decoder.", 8) == 0;
        if (!dec && strncmp(p, "encoder.", 8) != 0) return LIMN_CANON_UNKNOWN;
        p += 8;
    }
    if (t->layers && strncmp(p, "layers.", 7) == 0) p += 7;
    int n = limn_canon_number(&p, "");
    int shift = dec ? t->dec_shift : t->enc_shift;
    if (n < shift || *p == 0) return LIMN_CANON_UNKNOWN;
    return limn_canon_put(name, "%s.layers.%d.%s", dec ? "decoder" : "encoder", n - shift, p);
}

/* Blocks per level: convolutions separate the levels, activations and upsamplers have no weights.
 * The first convolution is module 0; `up` levels end with one, down levels begin with one. */
static limn_status tiny_levels(int *blocks, int *levels, const limn_weights *w, const char *side,
                               limn_err *err) {
    int level = 0, count = 0, missing = 0;
    for (int n = 1; missing < 3; n++) {
        bool conv = limn_weights_findf(w, "%s.layers.%d.weight", side, n) != NULL;
        bool block = limn_weights_findf(w, "%s.layers.%d.conv.0.weight", side, n) != NULL;
        missing = conv || block ? 0 : missing + 1;
        if (block) count++;
        if (!conv) continue;
        if (level == LIMN_CFG_LEVELS)
            return limn_fail(err, LIMN_E_UNSUPPORTED, "%s: TAESD %s has more than %d levels",
                             limn_weights_path(w), side, LIMN_CFG_LEVELS);
        blocks[level++] = count;
        count = 0;
    }
    *levels = level;
    if (level > 0) return LIMN_OK;
    return limn_fail(err, LIMN_E_MISSING, "%s: TAESD %s has no levels", limn_weights_path(w), side);
}

static limn_status tiny_measure(limn_taesd_config *cfg, const limn_weights *w, limn_err *err) {
    const limn_tensor *enc = limn_weights_find(w, "encoder.layers.0.weight");
    const limn_tensor *dec = limn_weights_find(w, "decoder.layers.0.weight");
    *cfg = (limn_taesd_config){
        .has_encoder = enc != NULL, .has_decoder = dec != NULL, .scaling_factor = 1};
    limn_status st = LIMN_OK;
    int enc_levels = 0, dec_levels = 0, last = 0;
    if (enc) LIMN_TRY(tiny_levels(cfg->enc_blocks, &enc_levels, w, "encoder", err));
    if (dec) LIMN_TRY(tiny_levels(cfg->dec_blocks, &dec_levels, w, "decoder", err));
    for (int n = 0; enc && n < 256; n++)
        if (limn_weights_findf(w, "encoder.layers.%d.weight", n)) last = n;
    cfg->levels = dec ? dec_levels : enc_levels;
    LIMN_CHECK(err, !enc || !dec || enc_levels == dec_levels, LIMN_E_UNSUPPORTED,
               "%s: TAESD has %d encoder and %d decoder levels", limn_weights_path(w), enc_levels,
               dec_levels);
    cfg->channels = limn_canon_dim(dec ? dec : enc, 0);
    cfg->latent_channels =
        dec ? limn_canon_dim(dec, 1)
            : limn_canon_dim(limn_weights_findf(w, "encoder.layers.%d.weight", last), 0);
out:
    return st;
}

limn_status limn_canon_taesd(limn_weights **out, limn_taesd_config *cfg, const limn_weights *w,
                             const char *prefix, const char *config_json, limn_err *err) {
    limn_status st;
    limn_canon c;
    tiny_names t = {0};
    *out = NULL;
    LIMN_TRY(limn_canon_begin(&c, w, prefix, err));
    t.layers = limn_canon_source(&c, "encoder.layers.0.weight") ||
               limn_canon_source(&c, "decoder.layers.0.weight");
    if (!t.layers) {
        t.dec_shift = 1;
        t.bare_encoder = limn_canon_source(&c, "0.weight") != NULL;
        t.bare_decoder = !t.bare_encoder && limn_canon_source(&c, "1.weight") != NULL;
        LIMN_CHECK(err,
                   t.bare_encoder || t.bare_decoder || limn_canon_source(&c, "encoder.0.weight") ||
                       limn_canon_source(&c, "decoder.1.weight"),
                   LIMN_E_MISSING, "%s: holds no TAESD under '%s'", limn_weights_path(w), prefix);
    }
    LIMN_TRY(limn_canon_walk(&c, tiny_name, &t));
    LIMN_TRY(tiny_measure(cfg, c.out, err));
    if (config_json) LIMN_TRY(limn_taesd_config_parse(cfg, config_json, err));
out:
    return limn_canon_end(&c, out, st);
}
