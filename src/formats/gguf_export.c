/* SPDX-License-Identifier: MIT */
/* Names, order and metadata of GGUF files; see gguf_export.h. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "formats/canon.h"
#include "formats/gguf_export.h"

enum { NAME_MAX_BYTES = 512, ROPE_MAX = 1024 };

/* ---- metadata ---- */

static limn_status no_memory(limn_err *err) {
    return limn_fail(err, LIMN_E_NOMEM, "no memory to describe a GGUF file");
}

static limn_status meta_add(limn_export *x, const limn_meta *m, limn_err *err) {
    if (x->n_meta == x->cap_meta) {
        size_t cap = x->cap_meta ? 2 * x->cap_meta : 64;
        limn_meta *list = limn_mem_realloc(x->meta, cap * sizeof *list);
        if (!list) return no_memory(err);
        x->meta = list;
        x->cap_meta = cap;
    }
    limn_meta *to = &x->meta[x->n_meta];
    *to = *m;
    to->key = limn_arena_strdup(&x->arena, m->key);
    if (!to->key) return no_memory(err);
    x->n_meta++;
    return LIMN_OK;
}

static limn_status scalar_add(limn_export *x, const char *key, limn_meta_type type, int width,
                              const void *value, size_t size, limn_err *err) {
    void *data = limn_arena_alloc(&x->arena, size);
    if (!data) return no_memory(err);
    memcpy(data, value, size);
    limn_meta m = {.key = key, .type = type, .count = 1, .data = data, .width = width};
    return meta_add(x, &m, err);
}

limn_status limn_export_add_text(limn_export *x, const char *key, const char *value,
                                 limn_err *err) {
    limn_str_view v = {limn_arena_strdup(&x->arena, value), strlen(value)};
    if (!v.p) return no_memory(err);
    return scalar_add(x, key, LIMN_META_STR, 0, &v, sizeof v, err);
}

limn_status limn_export_add_u32(limn_export *x, const char *key, int64_t value, limn_err *err) {
    uint32_t v = (uint32_t)value;
    if (value < 0 || value > UINT32_MAX)
        return limn_fail(err, LIMN_E_VALUE, "%s cannot be %lld", key, (long long)value);
    return scalar_add(x, key, LIMN_META_INT, 4, &v, sizeof v, err);
}

limn_status limn_export_add_f32(limn_export *x, const char *key, double value, limn_err *err) {
    float v = (float)value;
    return scalar_add(x, key, LIMN_META_FLOAT, 4, &v, sizeof v, err);
}

limn_status limn_export_add_bool(limn_export *x, const char *key, bool value, limn_err *err) {
    uint8_t v = value;
    return scalar_add(x, key, LIMN_META_BOOL, 1, &v, sizeof v, err);
}

limn_status limn_export_add_array(limn_export *x, const char *key, limn_meta_type type, int width,
                                  const void *data, size_t count, limn_err *err) {
    limn_meta m = {
        .key = key, .type = type, .is_array = true, .count = count, .data = data, .width = width};
    return meta_add(x, &m, err);
}

/* ---- tensors ---- */

static limn_status part_add(limn_export *x, const limn_export_part *part, limn_err *err) {
    if (x->n_parts == x->cap_parts) {
        size_t cap = x->cap_parts ? 2 * x->cap_parts : 256;
        limn_export_part *list = limn_mem_realloc(x->parts, cap * sizeof *list);
        if (!list) return no_memory(err);
        x->parts = list;
        x->cap_parts = cap;
    }
    limn_export_part *to = &x->parts[x->n_parts];
    *to = *part;
    to->name = limn_arena_strdup(&x->arena, part->name);
    if (!to->name) return no_memory(err);
    int64_t count = limn_shape_count(&to->shape);
    int64_t last = to->shape.ndim > 0 ? to->shape.dim[to->shape.ndim - 1] : 1;
    if (count < 1 || to->shape.ndim > 4)
        return limn_fail(err, LIMN_E_UNSUPPORTED, "%s: GGUF has no tensor of %d dimensions",
                         part->name, to->shape.ndim);
    if (to->shape.ndim == 0) to->shape = LIMN_SHAPE(1);
    bool single = to->order == LIMN_EXPORT_PAIRS && to->shape.ndim == 1; /* a bias to reorder */
    to->cols = single ? 1 : last;
    to->rows = count / to->cols;
    x->n_parts++;
    return LIMN_OK;
}

/* Where a row of the file stands in the source. */
static int64_t source_row(const limn_export_part *p, int64_t row) {
    if (p->order != LIMN_EXPORT_PAIRS) return row;
    int64_t dim = p->rows / p->heads, head = row / dim, in = row % dim;
    return head * dim + (in % 2) * (dim / 2) + in / 2;
}

/* Numbers [at, at + n) of a tensor, of one part if it lies in parts. */
static void read_at(float *dst, const limn_tensor *t, int64_t at, int64_t n) {
    const limn_dtype_info *info = limn_dtype_get(t->dtype);
    const char *data = t->data;
    if (t->parts) {
        int64_t each = limn_shape_count(&t->shape) / t->shape.dim[0];
        data = t->parts[at / each];
        at %= each;
    }
    limn_dtype_to_f32(dst, data + (size_t)(at / info->block) * (size_t)info->bytes, t->dtype, n);
}

/* Row `row` of a part of experts: where it begins in the source, [experts, all, cols]. */
static int64_t expert_row(const limn_export_part *p, int64_t row) {
    int64_t rows = p->shape.dim[1], all = p->from.shape.dim[1];
    return (row / rows * all + p->slice + row % rows) * p->cols;
}

/* dst [n, cols] = columns of [experts, cols, all], read in runs of neighbours. */
static void columns_read(float *dst, const limn_export_part *p, int64_t first, int64_t n) {
    enum { RUN = 64 };
    int64_t rows = p->shape.dim[1], all = p->from.shape.dim[2];
    float run[RUN];
    for (int64_t i = 0, len; i < n; i += len) {
        int64_t expert = (first + i) / rows, row = (first + i) % rows;
        len = rows - row < n - i ? rows - row : n - i;
        if (len > RUN) len = RUN;
        for (int64_t c = 0; c < p->cols; c++) {
            read_at(run, &p->from, (expert * p->cols + c) * all + p->slice + row, len);
            for (int64_t k = 0; k < len; k++) dst[(i + k) * p->cols + c] = run[k];
        }
    }
}

void limn_export_rows(float *dst, const limn_export_part *p, int64_t first, int64_t n) {
    if (p->order == LIMN_EXPORT_AS_IS) {
        read_at(dst, &p->from, first * p->cols, n * p->cols);
        return;
    }
    if (p->order == LIMN_EXPORT_COLUMNS) {
        columns_read(dst, p, first, n);
        return;
    }
    /* a slice [width * channels, 2, area]: rows are lines of the area */
    int64_t area = p->order == LIMN_EXPORT_SLICE
                       ? p->shape.dim[p->shape.ndim - 1] * p->shape.dim[p->shape.ndim - 2]
                       : 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t row = first + i, at = source_row(p, row) * p->cols;
        if (p->order == LIMN_EXPORT_PART) at = expert_row(p, row);
        if (p->order == LIMN_EXPORT_SLICE) {
            int64_t from = row * p->cols, kernel = from / area;
            at = (2 * kernel + p->slice) * area + from % area;
        }
        read_at(dst + i * p->cols, &p->from, at, p->cols);
    }
}

/* ---- language models ---- */

typedef struct llm_dialect {
    const char *arch;
    bool pairs;
} llm_dialect;

static llm_dialect dialect_of(const limn_vl_config *cfg, const limn_weights *llm) {
    bool moe = cfg->text.experts > 0;
    if (cfg->text.deepstack > 0 || cfg->text.rope.section[0] > 0)
        return (llm_dialect){moe ? "qwen3vlmoe" : "qwen3vl", false};
    if (moe) return (llm_dialect){"qwen3moe", false};
    if (limn_weights_find(llm, "layers.0.self_attn.q_norm.weight"))
        return (llm_dialect){"qwen3", false};
    if (limn_weights_find(llm, "layers.0.self_attn.q_proj.bias"))
        return (llm_dialect){"qwen2", false};
    return (llm_dialect){"llama", true};
}

static limn_status key_u32(limn_export *x, const char *arch, const char *key, int64_t v,
                           limn_err *err) {
    char name[96];
    snprintf(name, sizeof name, "%s.%s", arch, key);
    return limn_export_add_u32(x, name, v, err);
}

static limn_status key_f32(limn_export *x, const char *arch, const char *key, double v,
                           limn_err *err) {
    char name[96];
    snprintf(name, sizeof name, "%s.%s", arch, key);
    return limn_export_add_f32(x, name, v, err);
}

/* Llama 3's scaling as divisors of the frequencies (transformers modeling_rope_utils.py, "llama3").
 */
static limn_status rope_freqs(limn_export *x, const limn_rope_config *r, limn_err *err) {
    int half = r->dim / 2;
    float *data = limn_arena_alloc(&x->arena, (size_t)half * sizeof *data);
    if (!data) return no_memory(err);
    for (int i = 0; i < half; i++) {
        double f = pow(r->theta, -2.0 * i / r->dim), wave = 6.283185307179586 / f;
        double smooth = (r->original / wave - r->low_freq) / (r->high_freq - r->low_freq);
        if (wave < r->original / r->high_freq)
            data[i] = 1;
        else if (wave > r->original / r->low_freq)
            data[i] = (float)r->factor;
        else
            data[i] = (float)(1 / ((1 - smooth) / r->factor + smooth));
    }
    limn_export_part p = {.name = "rope_freqs.weight",
                          .from = {.dtype = LIMN_F32, .shape = LIMN_SHAPE(half), .data = data},
                          .shape = LIMN_SHAPE(half)};
    return part_add(x, &p, err);
}

static limn_status rope_keys(limn_export *x, const char *arch, const limn_rope_config *r,
                             limn_err *err) {
    char name[96];
    limn_status st = key_f32(x, arch, "rope.freq_base", r->theta, err);
    if (st == LIMN_OK && r->dim <= ROPE_MAX)
        st = key_u32(x, arch, "rope.dimension_count", r->dim, err);
    if (st == LIMN_OK && r->section[0] > 0) {
        int32_t *section = limn_arena_alloc(&x->arena, 4 * sizeof *section);
        if (!section) return no_memory(err);
        for (int i = 0; i < 3; i++) section[i] = r->section[i];
        snprintf(name, sizeof name, "%s.rope.dimension_sections", arch);
        st = limn_export_add_array(x, name, LIMN_META_INT, -4, section, 4, err);
    }
    if (st != LIMN_OK || r->scaling == LIMN_ROPE_PLAIN) return st;
    if (r->scaling == LIMN_ROPE_LLAMA3) return rope_freqs(x, r, err);
    snprintf(name, sizeof name, "%s.rope.scaling.type", arch);
    st = limn_export_add_text(x, name, r->scaling == LIMN_ROPE_YARN ? "yarn" : "linear", err);
    if (st == LIMN_OK) st = key_f32(x, arch, "rope.scaling.factor", r->factor, err);
    if (st == LIMN_OK && r->scaling == LIMN_ROPE_YARN)
        st = key_u32(x, arch, "rope.scaling.original_context_length", (int64_t)r->original, err);
    return st;
}

static const char *base_name(const char *path, char *buf, size_t size) {
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    size_t from = n;
    while (from > 0 && path[from - 1] != '/') from--;
    snprintf(buf, size, "%.*s", (int)(n - from), path + from);
    return buf;
}

static limn_status llm_keys(limn_export *x, const limn_vl_config *cfg, const char *arch,
                            limn_err *err) {
    const limn_decoder_config *c = &cfg->text;
    char name[256];
    limn_status st;
    LIMN_TRY(limn_export_add_text(x, "general.architecture", arch, err));
    LIMN_TRY(limn_export_add_text(x, "general.type", "model", err));
    LIMN_TRY(limn_export_add_text(x, "general.name",
                                  base_name(limn_weights_path(x->keep), name, sizeof name), err));
    LIMN_TRY(key_u32(x, arch, "block_count", c->layers, err));
    LIMN_TRY(key_u32(x, arch, "context_length", c->context, err));
    LIMN_TRY(key_u32(x, arch, "embedding_length", c->width, err));
    LIMN_TRY(key_u32(x, arch, "feed_forward_length", c->ff, err));
    LIMN_TRY(key_u32(x, arch, "attention.head_count", c->heads, err));
    LIMN_TRY(key_u32(x, arch, "attention.head_count_kv", c->kv_heads, err));
    LIMN_TRY(key_u32(x, arch, "attention.key_length", c->head_dim, err));
    LIMN_TRY(key_u32(x, arch, "attention.value_length", c->head_dim, err));
    LIMN_TRY(key_f32(x, arch, "attention.layer_norm_rms_epsilon", (double)c->norm_eps, err));
    LIMN_TRY(key_u32(x, arch, "vocab_size", c->vocab, err));
    if (c->deepstack > 0) LIMN_TRY(key_u32(x, arch, "n_deepstack_layers", c->deepstack, err));
    if (c->experts > 0) {
        LIMN_TRY(key_u32(x, arch, "expert_count", c->experts, err));
        LIMN_TRY(key_u32(x, arch, "expert_used_count", c->experts_used, err));
        LIMN_TRY(key_u32(x, arch, "expert_feed_forward_length", c->expert_ff, err));
    }
    LIMN_TRY(rope_keys(x, arch, &c->rope, err));
out:
    return st;
}

static bool ends_with(const char *s, const char *tail) {
    size_t n = strlen(s), m = strlen(tail);
    return n >= m && strcmp(s + n - m, tail) == 0;
}

/* Joined experts of a folder, in either layout (models/decoder.c), as llama.cpp's apart ones. */
static limn_status experts_add(limn_export *x, const limn_decoder_config *c, const char *name,
                               const limn_tensor *t, limn_err *err) {
    bool down = ends_with(name, "down_proj");
    int64_t out = down ? c->width : 2 * (int64_t)c->expert_ff, in = down ? c->expert_ff : c->width;
    int64_t each = down ? c->width : c->expert_ff;
    const limn_shape *s = &t->shape;
    bool own = s->ndim == 3 && s->dim[1] == out && s->dim[2] == in;
    bool hub = s->ndim == 3 && s->dim[1] == in && s->dim[2] == out;
    static const char *const parts[] = {"gate", "up"};
    const char *layer = name + strlen("layers.");
    limn_status st = LIMN_OK;
    if ((!own && !hub) || limn_dtype_get(t->dtype)->quantised)
        return limn_fail(err, LIMN_E_SHAPE, "'%s' is not [%d, %lld, %lld]", name, c->experts,
                         (long long)in, (long long)out);
    for (int i = 0; i < (down ? 1 : 2) && st == LIMN_OK; i++) {
        char to[NAME_MAX_BYTES];
        snprintf(to, sizeof to, "blk.%.*s.ffn_%s_exps.weight", (int)strcspn(layer, "."), layer,
                 down ? "down" : parts[i]);
        limn_export_part p = {.name = to,
                              .from = *t,
                              .shape = LIMN_SHAPE(s->dim[0], each, in),
                              .order = own ? LIMN_EXPORT_PART : LIMN_EXPORT_COLUMNS,
                              .slice = (int)(i * each)};
        st = part_add(x, &p, err);
    }
    return st;
}

static bool is_joined_experts(const char *name) {
    return ends_with(name, ".mlp.experts.gate_up_proj") ||
           ends_with(name, ".mlp.experts.down_proj");
}

static limn_status llm_parts(limn_export *x, const limn_vl_config *cfg, const limn_weights *llm,
                             bool pairs, limn_err *err) {
    for (size_t i = 0; i < limn_weights_count(llm); i++) {
        const char *name = limn_weights_name(llm, i);
        const limn_tensor *t = limn_weights_at(llm, i);
        char to[NAME_MAX_BYTES];
        if (cfg->text.tied && strcmp(name, "lm_head.weight") == 0) continue;
        if (ends_with(name, ".rotary_emb.inv_freq")) continue; /* made from the config */
        if (is_joined_experts(name)) {
            limn_status st = experts_add(x, &cfg->text, name, t, err);
            if (st != LIMN_OK) return st;
            continue;
        }
        if (!limn_canon_llm_gguf(to, sizeof to, name))
            return limn_fail(err, LIMN_E_UNSUPPORTED,
                             "%s: the tensor '%s' has no place in a GGUF file",
                             limn_weights_path(x->keep), name);
        limn_export_part p = {.name = to, .from = *t, .shape = t->shape};
        if (t->parts) p.order = LIMN_EXPORT_PART; /* row by row, wherever they lie */
        bool q = strstr(to, ".attn_q.") != NULL, k = strstr(to, ".attn_k.") != NULL;
        if (pairs && (q || k)) {
            p.order = LIMN_EXPORT_PAIRS;
            p.heads = q ? cfg->text.heads : cfg->text.kv_heads;
            if (t->shape.ndim < 1 || t->shape.dim[0] % (2 * p.heads) != 0)
                return limn_fail(err, LIMN_E_SHAPE, "'%s' cannot be cut into %d heads", name,
                                 p.heads);
        }
        limn_status st = part_add(x, &p, err);
        if (st != LIMN_OK) return st;
    }
    return LIMN_OK;
}

static limn_status export_llm(limn_export *x, limn_err *err) {
    limn_vl_config *cfg = limn_mem_calloc(1, sizeof *cfg);
    limn_weights *llm = NULL;
    limn_status st = cfg ? LIMN_OK : no_memory(err);
    if (st != LIMN_OK) return st;
    LIMN_TRY(limn_vl_config_read(cfg, x->keep, err));
    LIMN_TRY(limn_canon_llm(&llm, x->keep, err));
    LIMN_TRY(limn_weights_keep_parent(llm, x->keep, err));
    x->layers = cfg->text.layers;
    llm_dialect d = dialect_of(cfg, llm);
    LIMN_TRY(llm_keys(x, cfg, d.arch, err));
    LIMN_TRY(limn_export_add_tokenizer(x, limn_weights_path(x->keep), cfg->text.vocab, err));
    LIMN_TRY(llm_parts(x, cfg, llm, d.pairs, err));
    limn_weights_unref(&x->keep); /* the scope keeps its parent */
    x->keep = llm;
    llm = NULL;
out:
    limn_weights_unref(&llm);
    limn_mem_free(cfg);
    return st;
}

/* ---- the vision tower ---- */

bool limn_export_has_vision(const limn_weights *w) {
    return limn_weights_meta_str(w, "limn.config") &&
           (limn_weights_has_prefix(w, "model.visual.") || limn_weights_has_prefix(w, "visual."));
}

static limn_status floats_add(limn_export *x, const char *key, float value, size_t n,
                              limn_err *err) {
    float *data = limn_arena_alloc(&x->arena, n * sizeof *data);
    if (!data) return no_memory(err);
    for (size_t i = 0; i < n; i++) data[i] = value;
    return limn_export_add_array(x, key, LIMN_META_FLOAT, 4, data, n, err);
}

static limn_status vision_keys(limn_export *x, const limn_vision_config *c, limn_err *err) {
    limn_status st;
    uint8_t *deep = limn_arena_alloc(&x->arena, (size_t)c->depth);
    if (!deep) return no_memory(err);
    for (int i = 0; i < c->n_deepstack; i++) deep[c->deepstack[i]] = 1;
    LIMN_TRY(limn_export_add_text(x, "general.architecture", "clip", err));
    LIMN_TRY(limn_export_add_text(x, "general.type", "mmproj", err));
    LIMN_TRY(limn_export_add_bool(x, "clip.has_vision_encoder", true, err));
    LIMN_TRY(limn_export_add_text(x, "clip.projector_type", "qwen3vl_merger", err));
    LIMN_TRY(limn_export_add_bool(x, "clip.use_gelu", true, err));
    LIMN_TRY(limn_export_add_u32(x, "clip.vision.image_size", (int64_t)c->side * c->patch, err));
    LIMN_TRY(limn_export_add_u32(x, "clip.vision.patch_size", c->patch, err));
    LIMN_TRY(limn_export_add_u32(x, "clip.vision.embedding_length", c->width, err));
    LIMN_TRY(limn_export_add_u32(x, "clip.vision.feed_forward_length", c->ff, err));
    LIMN_TRY(limn_export_add_u32(x, "clip.vision.block_count", c->depth, err));
    LIMN_TRY(limn_export_add_u32(x, "clip.vision.attention.head_count", c->heads, err));
    LIMN_TRY(limn_export_add_f32(x, "clip.vision.attention.layer_norm_epsilon", (double)c->norm_eps,
                                 err));
    LIMN_TRY(limn_export_add_u32(x, "clip.vision.projection_dim", c->out_width, err));
    LIMN_TRY(limn_export_add_u32(x, "clip.vision.spatial_merge_size", c->merge, err));
    LIMN_TRY(floats_add(x, "clip.vision.image_mean", 0.5f, 3, err));
    LIMN_TRY(floats_add(x, "clip.vision.image_std", 0.5f, 3, err));
    LIMN_TRY(limn_export_add_array(x, "clip.vision.is_deepstack_layers", LIMN_META_BOOL, 1, deep,
                                   (size_t)c->depth, err));
out:
    return st;
}

/* Bounds of pictures, when the model's folder says them; without them readers take Qwen's own. */
static limn_status pixels_add(limn_export *x, const char *dir, limn_err *err) {
    int64_t least = 0, most = INT64_MAX;
    limn_status st = limn_vl_pixels_load(&least, &most, dir, "preprocessor_config.json", err);
    if (st == LIMN_OK && least > 0 && least <= UINT32_MAX)
        st = limn_export_add_u32(x, "clip.vision.image_min_pixels", least, err);
    if (st == LIMN_OK && most <= UINT32_MAX)
        st = limn_export_add_u32(x, "clip.vision.image_max_pixels", most, err);
    return st;
}

static limn_status vision_parts(limn_export *x, const limn_vision_config *c,
                                const limn_weights *tower, limn_err *err) {
    limn_status st = LIMN_OK;
    for (size_t i = 0; i < limn_weights_count(tower) && st == LIMN_OK; i++) {
        const char *name = limn_weights_name(tower, i);
        const limn_tensor *t = limn_weights_at(tower, i);
        char to[NAME_MAX_BYTES];
        limn_export_part p = {.name = to, .from = *t, .shape = t->shape};
        if (strcmp(name, "patch_embed.proj.weight") == 0) {
            p.order = LIMN_EXPORT_SLICE;
            p.shape = LIMN_SHAPE(c->width, c->channels, c->patch, c->patch);
            if (limn_shape_count(&t->shape) != 2 * limn_shape_count(&p.shape))
                return limn_fail(err, LIMN_E_SHAPE, "'%s' has another size than the config", name);
            p.name = "v.patch_embd.weight";
            st = part_add(x, &p, err);
            p.slice = 1;
            p.name = "v.patch_embd.weight.1";
        } else if (!limn_canon_vision_gguf(to, sizeof to, name, c)) {
            return limn_fail(err, LIMN_E_UNSUPPORTED,
                             "the tensor '%s' has no place in an mmproj file", name);
        }
        if (st == LIMN_OK) st = part_add(x, &p, err);
    }
    return st;
}

static limn_status export_vision(limn_export *x, limn_err *err) {
    limn_vl_config *cfg = limn_mem_calloc(1, sizeof *cfg);
    limn_weights *tower = NULL;
    limn_status st = cfg ? LIMN_OK : no_memory(err);
    if (st != LIMN_OK) return st;
    LIMN_TRY(limn_vl_config_read(cfg, x->keep, err));
    LIMN_CHECK(err, cfg->has_vision, LIMN_E_MISSING, "%s: holds no vision tower",
               limn_weights_path(x->keep));
    LIMN_TRY(limn_canon_vision(&tower, x->keep, err));
    LIMN_TRY(limn_weights_keep_parent(tower, x->keep, err));
    LIMN_TRY(vision_keys(x, &cfg->vision, err));
    LIMN_TRY(pixels_add(x, limn_weights_path(x->keep), err));
    LIMN_TRY(vision_parts(x, &cfg->vision, tower, err));
    limn_weights_unref(&x->keep);
    x->keep = tower;
    tower = NULL;
out:
    limn_weights_unref(&tower);
    limn_mem_free(cfg);
    return st;
}

/* ---- everything else: names and metadata stay ---- */

static bool is_rewritten(const char *key) {
    return strcmp(key, "general.file_type") == 0 ||
           strcmp(key, "general.quantization_version") == 0 || strncmp(key, "split.", 6) == 0 ||
           strncmp(key, "comfy.gguf.orig_shape.", 22) == 0;
}

static limn_status export_same(limn_export *x, limn_err *err) {
    limn_status st = LIMN_OK;
    const limn_weights *w = x->keep;
    for (size_t i = 0; i < limn_weights_meta_count(w) && st == LIMN_OK; i++) {
        const limn_meta *m = limn_weights_meta_at(w, i);
        if (!is_rewritten(m->key)) st = meta_add(x, m, err);
    }
    for (size_t i = 0; i < limn_weights_count(w) && st == LIMN_OK; i++) {
        const limn_tensor *t = limn_weights_at(w, i);
        limn_export_part p = {.name = limn_weights_name(w, i), .from = *t, .shape = t->shape};
        st = part_add(x, &p, err);
    }
    if (limn_weights_find(w, "token_embd.weight")) {
        x->kind = LIMN_EXPORT_LLM;
        while (limn_weights_findf(w, "blk.%d.attn_norm.weight", x->layers)) x->layers++;
    }
    return st;
}

limn_status limn_export_init(limn_export *x, limn_weights *w, limn_export_kind kind,
                             limn_err *err) {
    *x = (limn_export){.kind = kind, .keep = limn_weights_ref(w)};
    limn_arena_init(&x->arena);
    limn_status st = kind == LIMN_EXPORT_LLM      ? export_llm(x, err)
                     : kind == LIMN_EXPORT_VISION ? export_vision(x, err)
                                                  : export_same(x, err);
    if (st != LIMN_OK) limn_export_deinit(x);
    return st;
}

void limn_export_deinit(limn_export *x) {
    limn_mem_free(x->parts);
    limn_mem_free(x->meta);
    limn_arena_deinit(&x->arena);
    limn_weights_unref(&x->keep);
    *x = (limn_export){0};
}
