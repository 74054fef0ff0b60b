/* SPDX-License-Identifier: MIT */
/* The vocabulary that a GGUF file carries in its metadata -> a tokenizer; see vl_model.h. */
#include <string.h>

#include "pipeline/vl_model.h"

static limn_status views_get(const limn_text_view **out, size_t *n, limn_arena *a,
                             const limn_weights *w, const char *key, limn_err *err) {
    const limn_meta *m = limn_weights_meta_find(w, key);
    *out = NULL;
    *n = 0;
    if (!m) return LIMN_OK;
    if (!m->is_array || m->type != LIMN_META_STR || m->count > SIZE_MAX / sizeof(limn_text_view))
        return limn_fail(err, LIMN_E_FORMAT, "%s is no list of texts", key);
    limn_text_view *v = limn_arena_alloc(a, m->count * sizeof *v + 1);
    if (!v) return limn_fail(err, LIMN_E_NOMEM, "no memory for a vocabulary");
    for (size_t i = 0; i < m->count; i++) {
        limn_str_view s = limn_meta_str_at(m, i);
        v[i] = (limn_text_view){s.p, s.n};
    }
    *out = v;
    *n = m->count;
    return LIMN_OK;
}

/* [n] of a numeric array as float or int32; NULL when the key is absent. */
static limn_status numbers_get(void **out, limn_arena *a, const limn_weights *w, const char *key,
                               bool real, size_t n, limn_err *err) {
    const limn_meta *m = limn_weights_meta_find(w, key);
    *out = NULL;
    if (!m) return LIMN_OK;
    if (!m->is_array || m->count != n || m->type != (real ? LIMN_META_FLOAT : LIMN_META_INT))
        return limn_fail(err, LIMN_E_FORMAT, "%s does not have a number for each of %zu tokens",
                         key, n);
    float *f = limn_arena_alloc(a, n * sizeof *f + 1);
    if (!f) return limn_fail(err, LIMN_E_NOMEM, "no memory for a vocabulary");
    int32_t *v = (int32_t *)(void *)f;
    for (size_t i = 0; i < n; i++) {
        if (real)
            f[i] = (float)limn_meta_float_at(m, i);
        else
            v[i] = (int32_t)limn_meta_int_at(m, i);
    }
    *out = f;
    return LIMN_OK;
}

static int32_t id_get(const limn_weights *w, const char *key) {
    int64_t id = limn_weights_meta_int(w, key, -1);
    return id >= 0 && id <= INT32_MAX ? (int32_t)id : -1;
}

/* 0 or 1; -1: the file does not say */
static int flag_get(const limn_weights *w, const char *key) {
    const limn_meta *m = limn_weights_meta_find(w, key);
    if (!m || m->is_array || m->type != LIMN_META_BOOL) return -1;
    return limn_meta_int_at(m, 0) != 0;
}

limn_status limn_gguf_tokenizer(limn_tokenizer **out, const limn_weights *w, limn_err *err) {
    limn_status st = LIMN_OK;
    limn_arena arena;
    void *scores, *types;
    limn_tokenizer_gguf g = {
        .model = limn_weights_meta_str(w, "tokenizer.ggml.model"),
        .pre = limn_weights_meta_str(w, "tokenizer.ggml.pre"),
        .bos = id_get(w, "tokenizer.ggml.bos_token_id"),
        .eos = id_get(w, "tokenizer.ggml.eos_token_id"),
        .pad = id_get(w, "tokenizer.ggml.padding_token_id"),
        .unk = id_get(w, "tokenizer.ggml.unknown_token_id"),
        .add_bos = flag_get(w, "tokenizer.ggml.add_bos_token"),
        .add_eos = flag_get(w, "tokenizer.ggml.add_eos_token"),
        .add_space_prefix = flag_get(w, "tokenizer.ggml.add_space_prefix"),
        .remove_extra_whitespace = flag_get(w, "tokenizer.ggml.remove_extra_whitespaces"),
    };
    *out = NULL;
    limn_arena_init(&arena);
    LIMN_CHECK(err, g.model, LIMN_E_MISSING, "%s: has no tokenizer", limn_weights_path(w));
    LIMN_TRY(views_get(&g.tokens, &g.n_tokens, &arena, w, "tokenizer.ggml.tokens", err));
    LIMN_TRY(views_get(&g.merges, &g.n_merges, &arena, w, "tokenizer.ggml.merges", err));
    LIMN_TRY(numbers_get(&scores, &arena, w, "tokenizer.ggml.scores", true, g.n_tokens, err));
    LIMN_TRY(numbers_get(&types, &arena, w, "tokenizer.ggml.token_type", false, g.n_tokens, err));
    g.scores = scores;
    g.types = types;
    const limn_meta *map = limn_weights_meta_find(w, "tokenizer.ggml.precompiled_charsmap");
    if (map && map->is_array && map->type == LIMN_META_INT && map->width != 0 &&
        (map->width == 1 || map->width == -1))
        g.charsmap = (limn_text_view){map->data, map->count};
    LIMN_TRY(limn_tokenizer_new_gguf(out, &g, err));
out:
    if (st != LIMN_OK) limn_err_prefix(err, "%s", limn_weights_path(w));
    limn_arena_deinit(&arena);
    return st;
}
