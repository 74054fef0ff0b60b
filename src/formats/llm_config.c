/* SPDX-License-Identifier: MIT */
/* Configurations of language models; see llm_config.h. */
#include "formats/llm_config.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "formats/canon_map.h"

enum { MAX_LAYERS = 1024, MAX_WIDTH = 1 << 17, MAX_VOCAB = 1 << 22, MAX_EXPERTS = 4096 };

static double number_get(const json_t *tree, const char *key, double fallback) {
    json_t *v = json_object_get(tree, key);
    return json_is_number(v) ? json_number_value(v) : fallback;
}

static int int_get(const json_t *tree, const char *key, int fallback) {
    double d = number_get(tree, key, fallback);
    return d >= -1e9 && d <= 1e9 ? (int)d : fallback;
}

static const char *word_get(const json_t *tree, const char *key, const char *fallback) {
    const char *s = json_string_value(json_object_get(tree, key));
    return s ? s : fallback;
}

static limn_status decoder_check(const limn_decoder_config *c, limn_err *err) {
    const limn_rope_config *r = &c->rope;
    bool ok = c->vocab > 0 && c->vocab <= MAX_VOCAB && c->width > 0 && c->width <= MAX_WIDTH &&
              c->layers > 0 && c->layers <= MAX_LAYERS && c->heads > 0 && c->kv_heads > 0 &&
              c->heads % c->kv_heads == 0 && c->head_dim > 0 && c->head_dim <= 1024 &&
              c->head_dim % 2 == 0 && c->ff > 0 && c->ff <= 8 * MAX_WIDTH && c->norm_eps > 0 &&
              c->norm_eps < 1 && r->theta > 1 && r->dim > 0 && r->dim <= c->head_dim &&
              r->dim % 2 == 0 && c->context > 0;
    int half = r->dim / 2, sum = r->section[0] + r->section[1] + r->section[2];
    if (sum > 0) /* each axis needs its places among i % 3 == axis */
        ok = ok && sum == half && r->section[0] > 0 && r->section[1] >= 0 && r->section[2] >= 0 &&
             3 * r->section[1] <= half + 1 && 3 * r->section[2] <= half;
    if (r->scaling != LIMN_ROPE_PLAIN) ok = ok && r->factor >= 1 && r->original > 0;
    if (c->experts != 0)
        ok = ok && c->experts > 0 && c->experts <= MAX_EXPERTS && c->experts_used > 0 &&
             c->experts_used <= c->experts && c->expert_ff > 0 && c->expert_ff <= MAX_WIDTH;
    if (r->scaling == LIMN_ROPE_LLAMA3) ok = ok && r->high_freq > r->low_freq && r->low_freq > 0;
    if (ok) return LIMN_OK;
    return limn_fail(err, LIMN_E_FORMAT,
                     "a language model of width %d, %d layers, %d heads (%d for keys) of %d, "
                     "vocabulary %d, rope sections %d %d %d, %d of %d experts makes no network",
                     c->width, c->layers, c->heads, c->kv_heads, c->head_dim, c->vocab,
                     r->section[0], r->section[1], r->section[2], c->experts_used, c->experts);
}

static limn_status vision_check(const limn_vl_config *cfg, limn_err *err) {
    const limn_vision_config *v = &cfg->vision;
    bool ok = v->width > 0 && v->width <= MAX_WIDTH && v->depth > 0 && v->depth <= MAX_LAYERS &&
              v->heads > 0 && v->width % (4 * v->heads) == 0 && v->ff > 0 &&
              v->ff <= 8 * MAX_WIDTH && v->patch > 0 && v->patch <= 64 && v->temporal == 2 &&
              v->merge == 2 && v->channels == 3 && v->side > 1 && v->side <= 1024 &&
              v->norm_eps > 0 && v->rope_theta > 1;
    for (int i = 0; i < v->n_deepstack; i++)
        ok = ok && v->deepstack[i] >= 0 && v->deepstack[i] < v->depth &&
             (i == 0 || v->deepstack[i] > v->deepstack[i - 1]);
    if (!ok || v->n_deepstack > cfg->text.layers)
        return limn_fail(
            err, LIMN_E_FORMAT,
            "a vision tower of width %d, %d blocks, %d heads, patch %d, %d positions a "
            "side makes no network",
            v->width, v->depth, v->heads, v->patch, v->side);
    if (v->out_width == cfg->text.width) return LIMN_OK;
    return limn_fail(err, LIMN_E_SHAPE,
                     "the vision tower gives rows of %d, the language model takes %d: these files "
                     "do not belong together",
                     v->out_width, cfg->text.width);
}

/* ---- config.json ---- */
static limn_status rope_parse(limn_rope_config *r, const json_t *text, limn_err *err) {
    const json_t *s = json_object_get(text, "rope_parameters");
    if (!json_is_object(s)) s = json_object_get(text, "rope_scaling");
    r->theta = number_get(text, "rope_theta", number_get(s, "rope_theta", 10000));
    r->original = number_get(s, "original_max_position_embeddings",
                             number_get(text, "max_position_embeddings", 0));
    r->factor = number_get(s, "factor", 1);
    r->low_freq = number_get(s, "low_freq_factor", 1);
    r->high_freq = number_get(s, "high_freq_factor", 4);
    r->beta_fast = number_get(s, "beta_fast", 32);
    r->beta_slow = number_get(s, "beta_slow", 1);
    const char *type = word_get(s, "rope_type", word_get(s, "type", "default"));
    if (strcmp(type, "linear") == 0)
        r->scaling = LIMN_ROPE_LINEAR;
    else if (strcmp(type, "llama3") == 0)
        r->scaling = LIMN_ROPE_LLAMA3;
    else if (strcmp(type, "yarn") == 0)
        r->scaling = LIMN_ROPE_YARN;
    else if (strcmp(type, "default") != 0 && strcmp(type, "mrope") != 0)
        return limn_fail(err, LIMN_E_UNSUPPORTED, "config.json: rope type \"%s\" is not supported",
                         type);
    const json_t *section = json_object_get(s, "mrope_section");
    if (!json_is_array(section)) return LIMN_OK;
    if (!json_is_true(json_object_get(s, "mrope_interleaved")))
        return limn_fail(err, LIMN_E_UNSUPPORTED,
                         "config.json: rope sections that are not interleaved (Qwen2-VL)");
    for (size_t i = 0; i < 3; i++)
        r->section[i] = (int)json_integer_value(json_array_get(section, i));
    return LIMN_OK;
}

static void stops_parse(limn_decoder_config *c, const json_t *v) {
    size_t n = json_is_array(v) ? json_array_size(v) : 1;
    for (size_t i = 0; i < n && c->n_stop < LIMN_STOP_MAX; i++) {
        const json_t *id = json_is_array(v) ? json_array_get(v, i) : v;
        if (json_is_integer(id) && json_integer_value(id) >= 0 && json_integer_value(id) < c->vocab)
            c->stop[c->n_stop++] = (int)json_integer_value(id);
    }
}

/* Qwen3-MoE's: softmax over all, the best few divided by their sum. */
static limn_status experts_parse(limn_decoder_config *c, const json_t *text, limn_err *err) {
    limn_status st = LIMN_OK;
    const char *type = word_get(text, "model_type", "");
    c->experts = int_get(text, "num_experts", int_get(text, "num_local_experts", 0));
    if (c->experts == 0) return LIMN_OK;
    c->experts_used = int_get(text, "num_experts_per_tok", 0);
    c->expert_ff = int_get(text, "moe_intermediate_size", 0);
    LIMN_CHECK(err, strncmp(type, "qwen3_vl_moe", 12) == 0 || strcmp(type, "qwen3_moe") == 0,
               LIMN_E_UNSUPPORTED, "config.json: the experts of \"%s\" are not supported", type);
    LIMN_CHECK(err, !json_is_false(json_object_get(text, "norm_topk_prob")), LIMN_E_UNSUPPORTED,
               "config.json: \"norm_topk_prob\" = false is not supported");
out:
    return st;
}

static limn_status text_parse(limn_decoder_config *c, const json_t *root, const json_t *text,
                              limn_err *err) {
    limn_status st = LIMN_OK;
    const char *act = word_get(text, "hidden_act", "silu");
    LIMN_CHECK(err, strcmp(act, "silu") == 0 || strcmp(act, "swish") == 0, LIMN_E_UNSUPPORTED,
               "config.json: \"hidden_act\" = %s is not supported", act);
    LIMN_CHECK(err,
               !json_is_true(json_object_get(text, "use_sliding_window")) ||
                   !json_is_integer(json_object_get(text, "sliding_window")),
               LIMN_E_UNSUPPORTED, "config.json: a sliding window is not supported");
    LIMN_TRY(experts_parse(c, text, err));
    c->vocab = int_get(text, "vocab_size", 0);
    c->width = int_get(text, "hidden_size", 0);
    c->layers = int_get(text, "num_hidden_layers", 0);
    c->heads = int_get(text, "num_attention_heads", 0);
    c->kv_heads = int_get(text, "num_key_value_heads", c->heads);
    c->head_dim = int_get(text, "head_dim", c->heads > 0 ? c->width / c->heads : 0);
    c->ff = int_get(text, "intermediate_size", 0);
    c->context = int_get(text, "max_position_embeddings", 0);
    c->norm_eps = (float)number_get(text, "rms_norm_eps", 1e-6);
    json_t *tie = json_object_get(text, "tie_word_embeddings");
    c->tied = json_is_true(tie) || json_is_true(json_object_get(root, "tie_word_embeddings"));
    c->rope.dim = c->head_dim;
    json_t *eos = json_object_get(root, "eos_token_id");
    stops_parse(c, eos ? eos : json_object_get(text, "eos_token_id"));
    LIMN_TRY(rope_parse(&c->rope, text, err));
    LIMN_TRY(decoder_check(c, err));
out:
    return st;
}

static limn_status vision_parse(limn_vl_config *cfg, const json_t *v, limn_err *err) {
    limn_vision_config *c = &cfg->vision;
    const char *act = word_get(v, "hidden_act", "gelu_pytorch_tanh");
    if (strcmp(act, "gelu_pytorch_tanh") != 0)
        return limn_fail(err, LIMN_E_UNSUPPORTED,
                         "config.json: vision \"hidden_act\" = %s is not supported", act);
    c->width = int_get(v, "hidden_size", 0);
    c->depth = int_get(v, "depth", 0);
    c->heads = int_get(v, "num_heads", 0);
    c->ff = int_get(v, "intermediate_size", 0);
    c->patch = int_get(v, "patch_size", 16);
    c->temporal = int_get(v, "temporal_patch_size", 2);
    c->merge = int_get(v, "spatial_merge_size", 2);
    c->channels = int_get(v, "in_channels", 3);
    c->out_width = int_get(v, "out_hidden_size", 0);
    c->side = (int)lround(sqrt(number_get(v, "num_position_embeddings", 0)));
    c->norm_eps = 1e-6f;
    c->rope_theta = number_get(json_object_get(v, "rope_parameters"), "rope_theta", 10000);
    json_t *deep = json_object_get(v, "deepstack_visual_indexes");
    size_t n = json_array_size(deep);
    if (n > LIMN_DEEPSTACK_MAX ||
        (double)c->side * c->side != number_get(v, "num_position_embeddings", 0))
        return limn_fail(err, LIMN_E_FORMAT,
                         "config.json: %zu merged blocks, or a position table that is no square",
                         n);
    for (size_t i = 0; i < n; i++)
        c->deepstack[i] = (int)json_integer_value(json_array_get(deep, i));
    c->n_deepstack = (int)n;
    cfg->text.deepstack = (int)n;
    cfg->has_vision = true;
    return vision_check(cfg, err);
}

limn_status limn_vl_config_parse(limn_vl_config *cfg, const char *json, limn_err *err) {
    limn_status st;
    json_error_t e;
    json_t *root = json_loads(json, 0, &e);
    *cfg = (limn_vl_config){0};
    LIMN_CHECK(err, json_is_object(root), LIMN_E_FORMAT, "config.json: line %d: %s", e.line,
               root ? "not an object" : e.text);
    cfg->image_token = int_get(root, "image_token_id", -1);
    cfg->video_token = int_get(root, "video_token_id", -1);
    cfg->vision_start = int_get(root, "vision_start_token_id", -1);
    cfg->vision_end = int_get(root, "vision_end_token_id", -1);
    const json_t *text = json_object_get(root, "text_config");
    const json_t *vision = json_object_get(root, "vision_config");
    LIMN_TRY(text_parse(&cfg->text, root, json_is_object(text) ? text : root, err));
    if (json_is_object(vision)) LIMN_TRY(vision_parse(cfg, vision, err));
out:
    json_decref(root);
    return st;
}

/* ---- preprocessor_config.json ---- */

static int64_t pixels_get(const json_t *tree, const char *edge, const char *name,
                          int64_t fallback) {
    json_t *v = json_object_get(json_object_get(tree, "size"), edge);
    if (!json_is_integer(v)) v = json_object_get(tree, name);
    return json_is_integer(v) && json_integer_value(v) > 0 ? json_integer_value(v) : fallback;
}

static limn_status pixels_parse(int64_t *least, int64_t *most, const limn_fsmap *map,
                                limn_err *err) {
    limn_status st = LIMN_OK;
    json_error_t e;
    static const char *const keys[] = {"image_mean", "image_std"};
    json_t *tree = json_loadb((const char *)map->data, map->size, 0, &e);
    LIMN_CHECK(err, json_is_object(tree), LIMN_E_FORMAT, "%s: line %d: %s", map->path, e.line,
               tree ? "not an object" : e.text);
    *least = pixels_get(tree, "shortest_edge", "min_pixels", *least);
    *most = pixels_get(tree, "longest_edge", "max_pixels", *most);
    LIMN_CHECK(err, *least <= *most, LIMN_E_FORMAT, "%s: pixels from %lld to %lld", map->path,
               (long long)*least, (long long)*most);
    for (size_t k = 0; k < 2; k++) {
        size_t i;
        json_t *v;
        json_array_foreach(json_object_get(tree, keys[k]), i, v) {
            LIMN_CHECK(err, json_number_value(v) == 0.5, LIMN_E_UNSUPPORTED,
                       "%s: \"%s\" other than 0.5 is not supported", map->path, keys[k]);
        }
    }
out:
    json_decref(tree);
    return st;
}

limn_status limn_vl_pixels_load(int64_t *least, int64_t *most, const char *dir, const char *name,
                                limn_err *err) {
    char path[4096];
    limn_fsmap *map = NULL;
    snprintf(path, sizeof path, "%.3900s/%s", dir, name);
    limn_status st = limn_fsmap_open(&map, path, err);
    if (st == LIMN_E_NOT_FOUND) return LIMN_OK;
    if (st == LIMN_OK) st = pixels_parse(least, most, map, err);
    limn_fsmap_unref(&map);
    return st;
}

/* ---- GGUF ---- */
typedef struct gguf_keys {
    const limn_weights *w;
    const char *arch;
} gguf_keys;

static double gguf_number(const gguf_keys *k, const char *key, double fallback) {
    char name[128];
    snprintf(name, sizeof name, "%.48s.%s", k->arch, key);
    const limn_meta *m = limn_weights_meta_find(k->w, name);
    if (!m || m->is_array) return fallback;
    if (m->type == LIMN_META_FLOAT) return limn_meta_float_at(m, 0);
    return m->type == LIMN_META_INT ? (double)limn_meta_int_at(m, 0) : fallback;
}

static int gguf_int(const gguf_keys *k, const char *key, int fallback) {
    double d = gguf_number(k, key, fallback);
    return d >= -1e9 && d <= 1e9 ? (int)d : fallback;
}

/* Architectures of llama.cpp that this decoder runs, and whether their rows are for pairs. */
typedef struct arch_row {
    const char *name;
    bool pairs, sections;
} arch_row;
static const arch_row archs[] = {
    {"llama", true, false},      {"qwen2", false, false},  {"qwen3", false, false},
    {"qwen3vl", false, true},    {"mistral", true, false}, {"qwen3moe", false, false},
    {"qwen3vlmoe", false, true},
};

static limn_status gguf_rope(limn_rope_config *r, const gguf_keys *k, const arch_row *row,
                             limn_err *err) {
    char name[96];
    r->theta = gguf_number(k, "rope.freq_base", 10000);
    r->pairs = row->pairs;
    r->factor = gguf_number(k, "rope.scaling.factor", 1);
    r->original =
        gguf_number(k, "rope.scaling.original_context_length", gguf_number(k, "context_length", 0));
    r->beta_fast = 32, r->beta_slow = 1;
    snprintf(name, sizeof name, "%.48s.rope.scaling.type", k->arch);
    const char *type = limn_weights_meta_str(k->w, name);
    if (type && strcmp(type, "yarn") == 0)
        r->scaling = LIMN_ROPE_YARN;
    else if (type && strcmp(type, "linear") == 0)
        r->scaling = LIMN_ROPE_LINEAR;
    else if (type && strcmp(type, "none") != 0)
        return limn_fail(err, LIMN_E_UNSUPPORTED, "rope scaling \"%s\" is not supported", type);
    snprintf(name, sizeof name, "%.48s.rope.dimension_sections", k->arch);
    const limn_meta *m = limn_weights_meta_find(k->w, name);
    for (size_t i = 0; row->sections && m && i < 3 && i < m->count; i++)
        r->section[i] = (int)limn_meta_int_at(m, i);
    return LIMN_OK;
}

/* rope_freqs.weight: how llama.cpp stores the scaling of Llama 3. */
static limn_status gguf_divide(limn_rope_config *r, const limn_weights *w, limn_err *err) {
    const limn_tensor *t = limn_weights_find(w, "rope_freqs.weight");
    if (!t) return LIMN_OK;
    int64_t n = limn_shape_count(&t->shape);
    if (n != r->dim / 2 || n > LIMN_ROPE_DIVIDE_MAX || limn_dtype_get(t->dtype)->quantised ||
        r->scaling != LIMN_ROPE_PLAIN)
        return limn_fail(err, LIMN_E_SHAPE,
                         "%s: rope_freqs.weight does not fit %d rotated elements",
                         limn_weights_path(w), r->dim);
    limn_dtype_to_f32(r->divide, t->data, t->dtype, n);
    for (int64_t i = 0; i < n; i++)
        if (!(r->divide[i] > 0))
            return limn_fail(err, LIMN_E_FORMAT, "%s: rope_freqs.weight holds %g",
                             limn_weights_path(w), (double)r->divide[i]);
    r->scaling = LIMN_ROPE_DIVIDE;
    return LIMN_OK;
}

static limn_status gguf_read(limn_vl_config *cfg, const limn_weights *w, const char *arch,
                             limn_err *err) {
    limn_decoder_config *c = &cfg->text;
    gguf_keys k = {w, arch};
    const arch_row *row = NULL;
    limn_status st = LIMN_OK;
    for (size_t i = 0; i < sizeof archs / sizeof archs[0]; i++)
        if (strcmp(archs[i].name, arch) == 0) row = &archs[i];
    LIMN_CHECK(err, row, LIMN_E_UNSUPPORTED, "%s: the architecture '%s' is not supported",
               limn_weights_path(w), arch);
    const limn_tensor *embed = limn_weights_find(w, "token_embd.weight");
    LIMN_CHECK(err, embed && embed->shape.ndim == 2, LIMN_E_MISSING, "%s: holds no token embedding",
               limn_weights_path(w));
    c->vocab = embed->shape.dim[0] <= MAX_VOCAB ? (int)embed->shape.dim[0] : 0;
    c->width = gguf_int(&k, "embedding_length", 0);
    c->layers = gguf_int(&k, "block_count", 0);
    c->heads = gguf_int(&k, "attention.head_count", 0);
    c->kv_heads = gguf_int(&k, "attention.head_count_kv", c->heads);
    c->head_dim = gguf_int(&k, "attention.key_length", c->heads > 0 ? c->width / c->heads : 0);
    c->ff = gguf_int(&k, "feed_forward_length", 0);
    c->experts = gguf_int(&k, "expert_count", 0);
    c->experts_used = gguf_int(&k, "expert_used_count", 0);
    c->expert_ff = gguf_int(&k, "expert_feed_forward_length", 0);
    if (c->ff == 0) c->ff = c->expert_ff; /* files of experts only */
    c->context = gguf_int(&k, "context_length", 0);
    c->norm_eps = (float)gguf_number(&k, "attention.layer_norm_rms_epsilon", 1e-6);
    c->tied = !limn_weights_find(w, "output.weight");
    c->rope.dim = gguf_int(&k, "rope.dimension_count", c->head_dim);
    c->deepstack = gguf_int(&k, "n_deepstack_layers", 0);
    int64_t eos = limn_weights_meta_int(w, "tokenizer.ggml.eos_token_id", -1);
    if (eos >= 0 && eos < c->vocab) c->stop[c->n_stop++] = (int)eos;
    LIMN_TRY(gguf_rope(&c->rope, &k, row, err));
    LIMN_TRY(decoder_check(c, err));
    LIMN_TRY(gguf_divide(&c->rope, w, err));
    /* The ids are those of the vocabulary, which all Qwen3-VL files share. */
    if (row->sections)
        cfg->vision_start = 151652, cfg->vision_end = 151653, cfg->image_token = 151655,
        cfg->video_token = 151656;
out:
    return st;
}

limn_status limn_vl_config_read(limn_vl_config *cfg, const limn_weights *w, limn_err *err) {
    const char *json = limn_weights_meta_str(w, "limn.config");
    const char *arch = limn_weights_meta_str(w, "general.architecture");
    if (json) return limn_vl_config_parse(cfg, json, err);
    *cfg = (limn_vl_config){
        .image_token = -1, .video_token = -1, .vision_start = -1, .vision_end = -1};
    if (arch) return gguf_read(cfg, w, arch, err);
    return limn_fail(err, LIMN_E_MISSING, "%s: has neither config.json nor GGUF keys",
                     limn_weights_path(w));
}

limn_status limn_vl_config_read_mmproj(limn_vl_config *cfg, const limn_weights *w, limn_err *err) {
    limn_vision_config *c = &cfg->vision;
    gguf_keys k = {w, "clip.vision"};
    const char *kind = limn_weights_meta_str(w, "clip.projector_type");
    if (!kind) kind = limn_weights_meta_str(w, "clip.vision.projector_type");
    if (!kind || strcmp(kind, "qwen3vl_merger") != 0)
        return limn_fail(err, LIMN_E_UNSUPPORTED, "%s: the projector '%s' is not supported",
                         limn_weights_path(w), kind ? kind : "?");
    c->width = gguf_int(&k, "embedding_length", 0);
    c->depth = gguf_int(&k, "block_count", 0);
    c->heads = gguf_int(&k, "attention.head_count", 0);
    c->ff = gguf_int(&k, "feed_forward_length", 0);
    c->patch = gguf_int(&k, "patch_size", 16);
    c->merge = gguf_int(&k, "spatial_merge_size", 2);
    c->temporal = 2;
    c->channels = 3;
    c->norm_eps = (float)gguf_number(&k, "attention.layer_norm_epsilon", 1e-6);
    c->rope_theta = 10000;
    c->out_width = gguf_int(&k, "projection_dim", 0);
    c->side = c->patch > 0 ? gguf_int(&k, "image_size", 0) / c->patch : 0;
    c->n_deepstack = 0;
    for (int i = 0; i < c->depth && i < MAX_LAYERS; i++)
        if (limn_weights_findf(w, "v.deepstack.%d.fc1.weight", i)) {
            if (c->n_deepstack == LIMN_DEEPSTACK_MAX)
                return limn_fail(err, LIMN_E_FORMAT, "%s: more than %d merged blocks",
                                 limn_weights_path(w), LIMN_DEEPSTACK_MAX);
            c->deepstack[c->n_deepstack++] = i;
        }
    cfg->has_vision = true;
    if (cfg->text.deepstack == 0) cfg->text.deepstack = c->n_deepstack;
    if (cfg->text.deepstack != c->n_deepstack)
        return limn_fail(err, LIMN_E_SHAPE, "%s: %d merged blocks where the model takes %d",
                         limn_weights_path(w), c->n_deepstack, cfg->text.deepstack);
    return vision_check(cfg, err);
}
