/* SPDX-License-Identifier: MIT */
/* Canonical scope of Qwen3-VL's vision tower; see llm_config.h. */
#include <stdio.h>
#include <string.h>

#include "formats/canon_map.h"
#include "formats/llm_config.h"

static const char *const hf_prefixes[] = {"model.visual.", "visual."};

/* llama.cpp: gguf-py/gguf/constants.py */
static const limn_canon_rule top_rules[] = {
    {"v.patch_embd.bias", "patch_embed.proj.bias"},
    {"v.position_embd", "pos_embed"},
    {"v.post_ln", "merger.norm"},
    {"mm.0", "merger.linear_fc1"},
    {"mm.2", "merger.linear_fc2"},
};
static const limn_canon_rule block_rules[] = {
    {"ln1", "norm1"},
    {"ln2", "norm2"},
    {"attn_qkv", "attn.qkv"},
    {"attn_out", "attn.proj"},
    {"ffn_up", "mlp.linear_fc1"},
    {"ffn_down", "mlp.linear_fc2"},
};
static const limn_canon_rule merger_rules[] = {
    {"norm", "norm"}, {"fc1", "linear_fc1"}, {"fc2", "linear_fc2"}};
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* GGUF counts mergers by their block, transformers one after the other. */
static int merger_index(const limn_weights *w, int block) {
    int n = 0;
    for (int i = 0; i < block; i++)
        if (limn_weights_findf(w, "v.deepstack.%d.fc1.weight", i)) n++;
    return n;
}

static limn_canon_verdict gguf_name(void *user, const char *rest, char *name) {
    char tail[LIMN_CANON_NAME];
    const char *p = rest;
    if (strncmp(rest, "v.patch_embd.weight", 19) == 0) return LIMN_CANON_SKIP; /* joined below */
    if (limn_canon_rules(name, rest, top_rules, COUNT(top_rules))) return LIMN_CANON_KEEP;
    int n = limn_canon_number(&p, "v.blk");
    if (n >= 0 && limn_canon_rules(tail, p, block_rules, COUNT(block_rules)))
        return limn_canon_put(name, "blocks.%d.%.300s", n, tail);
    p = rest;
    n = limn_canon_number(&p, "v.deepstack");
    if (n >= 0 && n < 4096 && limn_canon_rules(tail, p, merger_rules, COUNT(merger_rules)))
        return limn_canon_put(name, "deepstack_merger_list.%d.%.300s", merger_index(user, n), tail);
    return LIMN_CANON_UNKNOWN;
}

static limn_canon_verdict hf_name(void *user, const char *rest, char *name) {
    (void)user;
    if (strcmp(rest, "patch_embed.proj.weight") == 0) return LIMN_CANON_SKIP; /* flattened below */
    return limn_canon_put(name, "%s", rest);
}

/* [width, c, t, p, p] as [width, c * t * p * p] */
static limn_status patch_flat(limn_canon *c, const limn_tensor *t, limn_err *err) {
    limn_tensor v = *t;
    int64_t count = limn_shape_count(&t->shape);
    if (t->shape.ndim < 2 || count <= 0 || t->shape.dim[0] <= 0)
        return limn_fail(err, LIMN_E_SHAPE, "patch_embed.proj.weight has no patches");
    v.shape = LIMN_SHAPE(t->shape.dim[0], count / t->shape.dim[0]);
    return limn_weights_add(c->out, "patch_embed.proj.weight", &v, err);
}

/* The two temporal slices of a GGUF file, each [width, c, p, p], as one [width, c, 2, p, p]. */
static limn_status patch_join(limn_canon *c, const limn_tensor *a, const limn_tensor *b,
                              limn_err *err) {
    limn_status st = LIMN_OK;
    void *data;
    LIMN_CHECK(err,
               a->shape.ndim == 4 && limn_shape_equal(&a->shape, &b->shape) &&
                   !limn_dtype_get(a->dtype)->quantised && !limn_dtype_get(b->dtype)->quantised,
               LIMN_E_SHAPE, "v.patch_embd.weight: its two slices do not fit");
    int64_t width = a->shape.dim[0], ch = a->shape.dim[1], area = a->shape.dim[2] * a->shape.dim[3];
    limn_shape s = LIMN_SHAPE(width, ch * 2 * area);
    LIMN_TRY(limn_weights_add_owned(c->out, "patch_embed.proj.weight", LIMN_F32, &s, &data, err));
    for (int64_t i = 0; i < width * ch; i++) {
        size_t a_size = (size_t)limn_dtype_get(a->dtype)->bytes;
        size_t b_size = (size_t)limn_dtype_get(b->dtype)->bytes;
        float *to = (float *)data + 2 * i * area;
        limn_dtype_to_f32(to, (const char *)a->data + (size_t)(i * area) * a_size, a->dtype, area);
        limn_dtype_to_f32(to + area, (const char *)b->data + (size_t)(i * area) * b_size, b->dtype,
                          area);
    }
out:
    return st;
}

limn_status limn_canon_vision(limn_weights **out, const limn_weights *w, limn_err *err) {
    limn_status st;
    limn_canon c;
    const char *prefix = "";
    *out = NULL;
    for (size_t i = 0; i < COUNT(hf_prefixes) && !prefix[0]; i++)
        if (limn_weights_has_prefix(w, hf_prefixes[i])) prefix = hf_prefixes[i];
    LIMN_TRY(limn_canon_begin(&c, w, prefix, err));
    const limn_tensor *a = limn_weights_find(w, "v.patch_embd.weight");
    const limn_tensor *b = limn_weights_find(w, "v.patch_embd.weight.1");
    const limn_tensor *t = limn_canon_source(&c, "patch_embed.proj.weight");
    if (t) {
        LIMN_TRY(limn_canon_walk(&c, hf_name, NULL));
        LIMN_TRY(patch_flat(&c, t, err));
    } else {
        LIMN_CHECK(err, a && b, LIMN_E_MISSING, "%s: holds no vision tower", limn_weights_path(w));
        LIMN_TRY(limn_canon_walk(&c, gguf_name, (void *)(uintptr_t)w));
        LIMN_TRY(patch_join(&c, a, b, err));
    }
out:
    return limn_canon_end(&c, out, st);
}

static bool put_original(char *name, size_t size, const char *before, const limn_canon_rule *rules,
                         size_t n, const char *rest) {
    for (size_t i = 0; i < n; i++) {
        size_t len = strlen(rules[i].to);
        if (strncmp(rest, rules[i].to, len) != 0 || (rest[len] != '.' && rest[len] != 0)) continue;
        int made = snprintf(name, size, "%s%s%s", before, rules[i].from, rest + len);
        return made > 0 && (size_t)made < size;
    }
    return false;
}

bool limn_canon_vision_gguf(char *name, size_t size, const char *canonical,
                            const limn_vision_config *cfg) {
    char before[64];
    const char *p = canonical;
    int n = limn_canon_number(&p, "blocks");
    if (n >= 0) {
        snprintf(before, sizeof before, "v.blk.%d.", n);
        return put_original(name, size, before, block_rules, COUNT(block_rules), p);
    }
    n = limn_canon_number(&p, "deepstack_merger_list");
    if (n >= 0 && n < cfg->n_deepstack) {
        snprintf(before, sizeof before, "v.deepstack.%d.", cfg->deepstack[n]);
        return put_original(name, size, before, merger_rules, COUNT(merger_rules), p);
    }
    return n < 0 && put_original(name, size, "", top_rules, COUNT(top_rules), canonical);
}
