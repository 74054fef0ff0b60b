/* SPDX-License-Identifier: MIT */
/* Running the detection tables over a set; see detect.h. */
#include "formats/detect.h"

#include <stdio.h>
#include <string.h>

#include "formats/canon_map.h"
#include "formats/detect_rows.h"

static const struct {
    const char *word, *title;
} part_words[LIMN_PART_COUNT] = {
#define X(id, word, title) [LIMN_PART_##id] = {word, title},
    LIMN_PART_LIST(X)
#undef X
};

const char *limn_part_word(limn_part p) {
    return part_words[p].word;
}
const char *limn_part_title(limn_part p) {
    return part_words[p].title;
}

static limn_found *found_add(limn_model_info *info, limn_part part, const char *prefix,
                             const char *family, const char *title, const char *variant,
                             bool supported) {
    if (info->n_parts == LIMN_FOUND_MAX) return NULL;
    limn_found *f = &info->part[info->n_parts++];
    *f = (limn_found){.part = part,
                      .family = family,
                      .title = title,
                      .variant = variant ? variant : "",
                      .supported = supported};
    snprintf(f->prefix, sizeof f->prefix, "%s", prefix);
    return f;
}

const limn_found *limn_model_info_find(const limn_model_info *info, limn_part part) {
    for (size_t i = 0; i < info->n_parts; i++)
        if (info->part[i].part == part) return &info->part[i];
    return NULL;
}

const char *limn_found_config(const limn_found *f, const limn_weights *w) {
    return f->config_key[0] ? limn_weights_meta_str(w, f->config_key) : NULL;
}

/* ---- UNets ---- */
static int any_context(const limn_weights *w, const char *prefix) {
    static const char end[] = ".attn2.to_k.weight";
    size_t n = strlen(prefix), m = sizeof end - 1;
    for (size_t i = 0; i < limn_weights_count(w); i++) {
        const char *name = limn_weights_name(w, i);
        size_t len = strlen(name);
        if (len > m && strncmp(name, prefix, n) == 0 && strcmp(name + len - m, end) == 0)
            return limn_canon_dim(limn_weights_at(w, i), 1);
    }
    return 0;
}

static bool has(const limn_weights *w, const char *prefix, const char *name) {
    return limn_weights_findf(w, "%s%s", prefix, name) != NULL;
}

static bool facts_read(limn_unet_facts *f, const limn_weights *w, const char *p) {
    bool original = has(w, p, "input_blocks.0.0.weight") && has(w, p, "time_embed.0.weight") &&
                    has(w, p, "out.2.weight");
    bool diffusers = has(w, p, "conv_in.weight") && has(w, p, "time_embedding.linear_1.weight") &&
                     has(w, p, "up_blocks.0.resnets.0.conv1.weight");
    if (!original && !diffusers) return false;
    const char *in = original ? "input_blocks.0.0.weight" : "conv_in.weight";
    const char *add = original ? "label_emb.0.0.weight" : "add_embedding.linear_1.weight";
    f->in = limn_canon_dim(limn_weights_findf(w, "%s%s", p, in), 1);
    f->add = limn_canon_dim(limn_weights_findf(w, "%s%s", p, add), 1);
    f->context = any_context(w, p);
    f->mid = has(
        w, p, original ? "middle_block.0.in_layers.0.weight" : "mid_block.resnets.0.norm1.weight");
    f->mid_attention =
        has(w, p, original ? "middle_block.1.norm.weight" : "mid_block.attentions.0.norm.weight");
    f->deep_up = has(w, p,
                     original ? "output_blocks.3.1.transformer_blocks.1.norm1.weight"
                              : "up_blocks.1.attentions.0.transformer_blocks.1.norm1.weight");
    return true;
}

static bool facts_fit(const limn_unet_row *r, const limn_unet_facts *f) {
    int mid = !f->mid ? 3 : f->mid_attention ? 1 : 2;
    if (r->in && r->in != f->in) return false;
    if (r->context && r->context != f->context) return false;
    if (r->add == -1 ? f->add == 0 : r->add != f->add) return false;
    if (r->mid && r->mid != mid) return false;
    return !r->deep_up || (r->deep_up == 1) == f->deep_up;
}

static void unet_why(limn_found *found, const limn_unet_facts *f) {
    char add[64] = "";
    if (f->add) snprintf(add, sizeof add, ", the added embedding %d", f->add);
    snprintf(found->why, sizeof found->why,
             "conv_in takes %d channels and attn2.to_k text states %d wide%s%s", f->in, f->context,
             add, f->mid_attention ? "" : "; no attention in the middle");
}

static void unet_find(limn_model_info *info, const limn_weights *w) {
    const char *const *prefixes = limn_detect_prefixes(LIMN_PART_UNET);
    for (; *prefixes; prefixes++) {
        limn_unet_facts f = {0};
        if (!facts_read(&f, w, *prefixes)) continue;
        for (size_t i = 0; i < limn_unet_row_count; i++) {
            const limn_unet_row *r = &limn_unet_rows[i];
            if (!facts_fit(r, &f)) continue;
            limn_found *found = found_add(info, LIMN_PART_UNET, *prefixes, r->family, r->title,
                                          r->variant, r->supported);
            if (found) unet_why(found, &f);
            return;
        }
    }
}

/* ---- rows of keys ---- */
static bool row_fits(const limn_detect_row *r, const limn_weights *w, const char *prefix) {
    for (int k = 0; k < LIMN_DETECT_KEYS && r->key[k]; k++)
        if (!has(w, prefix, r->key[k])) return false;
    if (r->absent && has(w, prefix, r->absent)) return false;
    if (!r->dim_key) return true;
    return limn_canon_dim(limn_weights_findf(w, "%s%s", prefix, r->dim_key), r->dim) == r->value;
}

static void rows_find(limn_model_info *info, const limn_weights *w, limn_part part) {
    const char *const *prefixes = limn_detect_prefixes(part);
    for (; *prefixes; prefixes++)
        for (size_t i = 0; i < limn_detect_row_count; i++) {
            const limn_detect_row *r = &limn_detect_rows[i];
            if (r->part != part || !row_fits(r, w, *prefixes)) continue;
            limn_found *f =
                found_add(info, part, *prefixes, r->family, r->title, r->variant, r->supported);
            if (!f) return;
            bool vectors = r->dim_key && strstr(r->dim_key, "token_embedding");
            if (r->dim_key)
                snprintf(f->why, sizeof f->why, "'%s%s' %s %lld%s", *prefixes, r->dim_key,
                         vectors ? "has vectors of" : "takes", (long long)r->value,
                         vectors ? "" : " channels");
            else
                snprintf(f->why, sizeof f->why, "it has '%s%s'", *prefixes, r->key[0]);
            return;
        }
}

/* ---- language models by what their metadata says ---- */
static bool llm_find(limn_model_info *info, const limn_weights *w) {
    const char *arch = limn_weights_meta_str(w, "general.architecture");
    const limn_llm_row *r = limn_llm_row_find(arch);
    if (!r || (!has(w, "", "token_embd.weight") && !has(w, "", "v.patch_embd.weight") &&
               !has(w, "", "v.position_embd.weight") && r->part != LIMN_PART_TE3))
        return false;
    limn_found *f = found_add(info, r->part, "", r->family, r->title, "", r->supported);
    if (f) snprintf(f->why, sizeof f->why, "general.architecture is '%.40s'", arch);
    return true;
}

/* ---- adapters ---- */
typedef struct lora_base {
    const char *word, *family, *title;
} lora_base;

/* Names or widths that tell the base model. */
static void lora_base_find(limn_found *f, const limn_weights *w) {
    static const lora_base words[] = {
        {"double_blocks", "flux", "LoRA for FLUX.1"},
        {"single_transformer_blocks", "flux", "LoRA for FLUX.1"},
        {"joint_blocks", "sd3", "LoRA for Stable Diffusion 3"},
        {"img_mod", "qwen-image", "LoRA for Qwen-Image"},
        {"cross_attn_norm_k", "wan", "LoRA for Wan"},
        {"lora_te2_", "sdxl", "LoRA for Stable Diffusion XL"},
        {"text_encoder_2.", "sdxl", "LoRA for Stable Diffusion XL"},
    };
    int64_t context = 0;
    f->family = "unknown";
    f->title = "LoRA for a model that its shapes do not tell";
    f->supported = true;
    for (size_t i = 0; i < limn_weights_count(w); i++) {
        const char *name = limn_weights_name(w, i);
        const limn_tensor *t = limn_weights_at(w, i);
        for (size_t k = 0; k < sizeof words / sizeof words[0]; k++)
            if (strstr(name, words[k].word)) {
                f->family = words[k].family;
                f->title = words[k].title;
                f->supported = strcmp(f->family, "sdxl") == 0;
                snprintf(f->why, sizeof f->why, "it has '%.120s'", name);
                return;
            }
        bool cross = strstr(name, "attn2_to_k") || strstr(name, "attn2.to_k") ||
                     strstr(name, "attn2.processor.to_k");
        bool down = strstr(name, "lora_down") || strstr(name, "lora_A") ||
                    strstr(name, "lora.down") || strstr(name, "hada_w1_b") || strstr(name, ".diff");
        if (cross && down && t->shape.ndim >= 2) context = t->shape.dim[1];
    }
    static const struct {
        int64_t width;
        const char *family, *title;
    } widths[] = {{768, "sd1", "LoRA for Stable Diffusion 1.x"},
                  {1024, "sd2", "LoRA for Stable Diffusion 2.x"},
                  {2048, "sdxl", "LoRA for Stable Diffusion XL"}};
    for (size_t i = 0; i < sizeof widths / sizeof widths[0]; i++)
        if (widths[i].width == context) {
            f->family = widths[i].family;
            f->title = widths[i].title;
        }
    if (context)
        snprintf(f->why, sizeof f->why, "its factors of attn2.to_k take %lld channels",
                 (long long)context);
}

static void lora_find(limn_model_info *info, const limn_weights *w) {
    static const char *const marks[] = {".lora_down.",           ".lora_A.",   ".lora.down.",
                                        "_lora.down.",           ".hada_w1_a", ".lokr_w1",
                                        ".lora_linear_layer.",   ".w_norm",    ".oft_blocks",
                                        ".lora_magnitude_vector"};
    for (size_t i = 0; i < limn_weights_count(w); i++) {
        const char *name = limn_weights_name(w, i);
        bool full = strncmp(name, "lora_", 5) == 0 && strstr(name, ".diff");
        for (size_t k = 0; k < sizeof marks / sizeof marks[0] && !full; k++)
            full = strstr(name, marks[k]) != NULL;
        if (!full) continue;
        limn_found *f = found_add(info, LIMN_PART_LORA, "", "", "", "", true);
        if (!f) return;
        snprintf(f->why, sizeof f->why, "it has '%.120s'", name);
        lora_base_find(f, w);
        return;
    }
}

static void embedding_find(limn_model_info *info, const limn_weights *w) {
    const limn_tensor *l = limn_weights_find(w, "clip_l"), *g = limn_weights_find(w, "clip_g");
    const limn_tensor *one = limn_weights_find(w, "emb_params");
    const char *name = "emb_params";
    for (size_t i = 0; !one && i < limn_weights_count(w); i++)
        if (strncmp(limn_weights_name(w, i), "string_to_param.", 16) == 0) {
            one = limn_weights_at(w, i);
            name = "string_to_param";
        }
    if (!one && !g && limn_weights_count(w) == 1 && limn_weights_at(w, 0)->shape.ndim <= 2 &&
        limn_weights_at(w, 0)->shape.ndim >= 1) {
        one = limn_weights_at(w, 0);
        name = limn_weights_name(w, 0);
    }
    if (!one && !(g && l)) return;
    int width = one ? limn_canon_dim(one, one->shape.ndim - 1) : 0;
    bool xl = g && l;
    const char *family = xl              ? "sdxl"
                         : width == 768  ? "sd1"
                         : width == 1024 ? "sd2"
                         : width == 1280 ? "sdxl"
                                         : "unknown";
    limn_found *f =
        found_add(info, LIMN_PART_EMBEDDING, "", family,
                  xl ? "textual inversion for Stable Diffusion XL" : "textual inversion", "", true);
    if (!f) return;
    if (xl)
        snprintf(f->why, sizeof f->why, "it has 'clip_l' and 'clip_g'");
    else
        snprintf(f->why, sizeof f->why, "'%.80s' holds vectors of %d", name, width);
}

/* ---- what follows from the parts ---- */
static void config_key_set(limn_found *f, const limn_weights *w) {
    static const char *const component[LIMN_PART_COUNT] = {
        [LIMN_PART_UNET] = "unet",
        [LIMN_PART_DIT] = "transformer",
        [LIMN_PART_TE] = "text_encoder",
        [LIMN_PART_TE2] = "text_encoder_2",
        [LIMN_PART_VAE] = "vae",
        [LIMN_PART_TAESD] = "vae",
        [LIMN_PART_CONTROLNET] = "controlnet",
    };
    char own[96];
    size_t n = strlen(f->prefix);
    snprintf(own, sizeof own, "limn.config.%.*s", n ? (int)n - 1 : 0, f->prefix);
    if (n && limn_weights_meta_str(w, own)) {
        snprintf(f->config_key, sizeof f->config_key, "%s", own);
        return;
    }
    snprintf(own, sizeof own, "limn.config.%s", component[f->part] ? component[f->part] : "none");
    if (limn_weights_meta_str(w, own))
        snprintf(f->config_key, sizeof f->config_key, "%s", own);
    else if (n == 0 && limn_weights_meta_str(w, "limn.config"))
        snprintf(f->config_key, sizeof f->config_key, "limn.config");
}

/* The part with the longest prefix that the name has; an empty prefix takes what is left. */
static limn_found *owner_of(limn_model_info *info, const char *name) {
    limn_found *best = NULL;
    size_t best_n = 0;
    for (size_t i = 0; i < info->n_parts; i++) {
        size_t n = strlen(info->part[i].prefix);
        if (strncmp(name, info->part[i].prefix, n) != 0 || (best && n <= best_n)) continue;
        best = &info->part[i];
        best_n = n;
    }
    return best;
}

static void tensors_count(limn_model_info *info, const limn_weights *w) {
    for (size_t i = 0; i < limn_weights_count(w); i++) {
        const limn_tensor *t = limn_weights_at(w, i);
        limn_found *f = owner_of(info, limn_weights_name(w, i));
        int64_t n = limn_shape_count(&t->shape);
        size_t bytes = 0;
        if (!f) {
            if (info->other_tensors++ == 0)
                snprintf(info->other_first, sizeof info->other_first, "%s",
                         limn_weights_name(w, i));
            continue;
        }
        limn_tensor_bytes(&bytes, t->dtype, &t->shape);
        f->tensors++;
        f->params += n;
        f->bytes += bytes;
        f->dtype_params[t->dtype] += n;
    }
}

static const limn_found *main_part(const limn_model_info *info) {
    const limn_found *f = limn_model_info_find(info, LIMN_PART_DIT);
    if (!f) f = limn_model_info_find(info, LIMN_PART_UNET);
    return f ? f : info->n_parts ? &info->part[0] : NULL;
}

static void missing_find(limn_model_info *info, const limn_family_row *r) {
    for (int i = 0; i < 4 && r->needs[i]; i++) {
        bool there = limn_model_info_find(info, r->parts[i]) != NULL;
        if (r->parts[i] == LIMN_PART_VAE && limn_model_info_find(info, LIMN_PART_TAESD))
            there = true;
        if (!there) info->missing[info->n_missing++] = r->needs[i];
    }
}

/* Prediction: the scheduler's config, marks in the file, else the family's habit. */
static limn_status noise_find(limn_model_info *info, const limn_family_row *r,
                              const limn_weights *w, const char *net, limn_err *err) {
    const char *json = limn_weights_meta_str(w, "limn.config.scheduler");
    limn_status st = limn_trained_noise_parse(&info->noise, json ? json : "{}", err);
    if (st != LIMN_OK) return st;
    info->noise_is_sure = true;
    if (json) return LIMN_OK;
    info->noise.prediction = r->prediction;
    info->noise_is_sure = r->prediction_is_sure;
    const char *said = limn_weights_meta_str(w, "modelspec.prediction_type");
    if (said && (strcmp(said, "v") == 0 || strcmp(said, "epsilon") == 0)) {
        info->noise.prediction = said[0] == 'v' ? LIMN_TRAINED_V : LIMN_TRAINED_EPS;
        info->noise_is_sure = true;
    }
    if (info->variant[0] && strstr(info->variant, "inpaint")) {
        info->noise.prediction = LIMN_TRAINED_EPS;
        info->noise_is_sure = true;
    }
    if (limn_weights_find(w, "v_pred") || has(w, net, "v_pred")) {
        info->noise.prediction = LIMN_TRAINED_V;
        info->noise_is_sure = true;
    }
    info->noise.zero_snr = limn_weights_find(w, "ztsnr") || has(w, net, "ztsnr");
    if (limn_weights_find(w, "edm_mean") || limn_weights_find(w, "edm_vpred.sigma_max")) {
        info->noise.prediction = LIMN_TRAINED_EDM;
        info->noise.sigma_min = 0.002;
        info->noise.sigma_max = 80;
    }
    return LIMN_OK;
}

limn_status limn_detect(limn_model_info *out, const limn_weights *w, limn_err *err) {
    static const limn_part order[] = {
        LIMN_PART_TE,         LIMN_PART_TE2,      LIMN_PART_TE3,
        LIMN_PART_VAE,        LIMN_PART_TAESD,    LIMN_PART_CONTROLNET,
        LIMN_PART_IP_ADAPTER, LIMN_PART_UPSCALER, LIMN_PART_DETECTOR};
    *out = (limn_model_info){.family = "unknown", .title = "not recognised", .variant = ""};
    limn_status st = LIMN_OK;
    lora_find(out, w);
    if (out->n_parts == 0) {
        unet_find(out, w);
        if (out->n_parts == 0) rows_find(out, w, LIMN_PART_DIT);
        for (size_t i = 0; i < sizeof order / sizeof order[0]; i++) rows_find(out, w, order[i]);
        if (out->n_parts == 0 && !llm_find(out, w)) {
            rows_find(out, w, LIMN_PART_LLM);
            if (out->n_parts == 0) rows_find(out, w, LIMN_PART_VISION);
        }
        if (out->n_parts == 0) embedding_find(out, w);
    }
    tensors_count(out, w);
    out->supported = out->n_parts > 0;
    for (size_t i = 0; i < out->n_parts; i++) {
        config_key_set(&out->part[i], w);
        if (!out->part[i].supported) out->supported = false;
    }
    const limn_found *f = main_part(out);
    if (!f) return LIMN_OK;
    out->family = f->family;
    out->title = f->title;
    out->variant = f->variant;
    bool draws = f->part == LIMN_PART_UNET || f->part == LIMN_PART_DIT;
    const limn_family_row *r = draws ? limn_family_row_find(f->family) : NULL;
    if (!r) return LIMN_OK;
    missing_find(out, r);
    out->latent_scale = r->latent_scale;
    out->latent_shift = r->latent_shift;
    st = noise_find(out, r, w, f->prefix, err);
    if (st != LIMN_OK) limn_err_prefix(err, "%s", limn_weights_path(w));
    return st;
}
