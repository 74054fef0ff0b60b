/* SPDX-License-Identifier: MIT */
/*
 * The tokenizer of a transformers folder as the arrays that GGUF files carry (llama.cpp
 * src/llama-vocab.cpp, gguf-py constants). Which of llama.cpp's splitting rules it follows is found
 * by trying them on a text that tells them apart; none of them fits: refused, for a file that
 * splits words differently would be worse than none.
 */
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "formats/gguf_export.h"
#include "text/tokenizer.h"

enum { VOCAB_MAX = 1 << 22, TEXT_MAX = 1 << 20 };

typedef struct vocab {
    limn_export *x;
    json_t *root, *config; /* tokenizer.json, tokenizer_config.json (may be NULL) */
    limn_tokenizer *t;     /* the folder's own: what the arrays must agree with */
    limn_tokenizer_gguf g;
    limn_text_view *tokens; /* [n] as limn_str_view reads it too */
    int32_t *types;
    float *scores;
    limn_text_view *merges;
    size_t n;
} vocab;

_Static_assert(sizeof(limn_text_view) == sizeof(limn_str_view), "views are written as they are");

static limn_status no_memory(limn_err *err) {
    return limn_fail(err, LIMN_E_NOMEM, "no memory for a vocabulary");
}

static json_t *load(const char *folder, const char *name, limn_err *err, limn_status *st) {
    char path[4096];
    json_error_t why;
    int n = snprintf(path, sizeof path, "%s/%s", folder, name);
    if (n < 0 || (size_t)n >= sizeof path || access(path, R_OK) != 0) return NULL;
    json_t *tree = json_load_file(path, JSON_ALLOW_NUL, &why);
    if (!tree && *st == LIMN_OK)
        *st = limn_fail(err, LIMN_E_FORMAT, "%s: line %d: %s", path, why.line, why.text);
    return tree;
}

static bool copy_view(limn_arena *a, limn_text_view *to, const char *s, size_t n) {
    *to = (limn_text_view){limn_arena_strndup(a, s, n), n};
    return to->data != NULL;
}

static limn_status token_put(vocab *v, json_int_t id, const char *s, size_t n, int32_t type,
                             limn_err *err) {
    if (id < 0 || (size_t)id >= v->n)
        return limn_fail(err, LIMN_E_FORMAT,
                         "tokenizer.json: id %lld of '%.60s', but the model has %zu", (long long)id,
                         s, v->n);
    v->types[id] = type;
    return copy_view(&v->x->arena, &v->tokens[id], s, n) ? LIMN_OK : no_memory(err);
}

static bool is_byte_piece(const char *s) {
    return strncmp(s, "<0x", 3) == 0 && strlen(s) == 6 && s[5] == '>';
}

static limn_status fill_tokens(vocab *v, bool pieces, limn_err *err) {
    const json_t *model = json_object_get(v->root, "model");
    json_t *list = json_object_get(model, "vocab"), *value;
    const char *unk = json_string_value(json_object_get(model, "unk_token"));
    const char *key;
    size_t i;
    limn_status st = LIMN_OK;
    json_object_foreach(list, key, value) {
        int32_t type = LIMN_GGUF_TOKEN_NORMAL;
        if (pieces && is_byte_piece(key)) type = LIMN_GGUF_TOKEN_BYTE;
        if (unk && strcmp(key, unk) == 0) type = LIMN_GGUF_TOKEN_UNKNOWN;
        LIMN_TRY(token_put(v, json_integer_value(value), key, strlen(key), type, err));
    }
    json_array_foreach(json_object_get(v->root, "added_tokens"), i, value) {
        const json_t *text = json_object_get(value, "content");
        bool special = json_is_true(json_object_get(value, "special"));
        json_int_t id = json_integer_value(json_object_get(value, "id"));
        bool is_unk = unk && json_is_string(text) && strcmp(json_string_value(text), unk) == 0;
        LIMN_CHECK(err, json_is_string(text), LIMN_E_FORMAT,
                   "tokenizer.json: an added token has no text");
        LIMN_TRY(token_put(v, id, json_string_value(text), json_string_length(text),
                           is_unk    ? LIMN_GGUF_TOKEN_UNKNOWN
                           : special ? LIMN_GGUF_TOKEN_CONTROL
                                     : LIMN_GGUF_TOKEN_USER_DEFINED,
                           err));
    }
    for (i = 0; i < v->n; i++) {
        if (v->tokens[i].data) continue;
        char pad[32];
        snprintf(pad, sizeof pad, "[PAD%zu]", i);
        LIMN_TRY(token_put(v, (json_int_t)i, pad, strlen(pad), LIMN_GGUF_TOKEN_UNUSED, err));
    }
out:
    return st;
}

/* A merge is "left right" or ["left", "right"]. */
static limn_status merge_text(vocab *v, limn_text_view *to, const json_t *m, limn_err *err) {
    limn_buf line;
    limn_buf_init(&line, TEXT_MAX);
    if (json_is_string(m)) {
        limn_buf_add(&line, json_string_value(m), json_string_length(m));
    } else {
        const char *l = json_string_value(json_array_get(m, 0));
        const char *r = json_string_value(json_array_get(m, 1));
        if (l && r) limn_buf_addf(&line, "%s %s", l, r);
    }
    limn_status st =
        line.len == 0 ? limn_fail(err, LIMN_E_FORMAT, "tokenizer.json: a bad merge") : LIMN_OK;
    if (st == LIMN_OK && !copy_view(&v->x->arena, to, limn_buf_text(&line), line.len))
        st = no_memory(err);
    limn_buf_deinit(&line);
    return st;
}

static limn_status fill_merges(vocab *v, limn_err *err) {
    const json_t *list = json_object_get(json_object_get(v->root, "model"), "merges");
    size_t n = json_array_size(list);
    v->merges = limn_arena_alloc(&v->x->arena, (n ? n : 1) * sizeof *v->merges);
    if (!v->merges) return no_memory(err);
    v->g.merges = v->merges;
    v->g.n_merges = n;
    for (size_t i = 0; i < n; i++) {
        limn_status st = merge_text(v, &v->merges[i], json_array_get(list, i), err);
        if (st != LIMN_OK) return st;
    }
    return LIMN_OK;
}

/* Pieces that are merged are made in the order of their scores: the rank of the first merge that
 * gives a piece, negative, says the same. */
static limn_status fill_scores(vocab *v, limn_err *err) {
    const json_t *vocabulary = json_object_get(json_object_get(v->root, "model"), "vocab");
    v->scores = limn_arena_alloc(&v->x->arena, v->n * sizeof *v->scores);
    if (!v->scores) return no_memory(err);
    v->g.scores = v->scores;
    for (size_t i = 0; i < v->g.n_merges; i++) {
        char piece[1024];
        limn_text_view m = v->merges[i];
        const char *gap = memchr(m.data + 1, ' ', m.len > 1 ? m.len - 1 : 0);
        if (!gap || m.len > sizeof piece) continue;
        size_t left = (size_t)(gap - m.data);
        snprintf(piece, sizeof piece, "%.*s%s", (int)left, m.data, gap + 1);
        const json_t *id = json_object_get(vocabulary, piece);
        if (!id || (size_t)json_integer_value(id) >= v->n) continue;
        float *score = &v->scores[json_integer_value(id)];
        if (*score == 0) *score = -(float)(i + 1);
    }
    return LIMN_OK;
}

/* ---- which splitting ---- */

static const char probe[] =
    "Hello,  world! It's 12345 o'clock; I'LL we've\r\n\r\n\tx = f(3.14);  // caf\xc3\xa9 "
    "cafe\xcc\x81\n"
    "\xe4\xbd\xa0\xe5\xa5\xbd\xe4\xb8\x96\xe7\x95\x8c 2024\xe5\xb9\xb4 "
    "\xd0\x9f\xd1\x80\xd0\xb8\xd0\xb2\xd0\xb5\xd1\x82 \xf0\x9f\xa6\x8a\xf0\x9f\x91\x8d "
    "HTTPServer camelCase ABCdef   \n  end   ";

static limn_status encode(limn_ids *ids, const limn_tokenizer *t, limn_err *err) {
    limn_ids_clear(ids);
    return limn_tokenizer_encode(t, ids, probe, sizeof probe - 1, 0, err);
}

static bool agrees(vocab *v, const limn_ids *want) {
    limn_tokenizer *t = NULL;
    limn_ids ids;
    limn_ids_init(&ids, TEXT_MAX);
    bool same = limn_tokenizer_new_gguf(&t, &v->g, NULL) == LIMN_OK &&
                encode(&ids, t, NULL) == LIMN_OK && ids.len == want->len &&
                memcmp(ids.data, want->data, ids.len * sizeof *ids.data) == 0;
    limn_ids_deinit(&ids);
    limn_tokenizer_free(&t);
    return same;
}

static limn_status find_splitting(vocab *v, limn_err *err) {
    limn_ids want;
    limn_ids_init(&want, TEXT_MAX);
    limn_status st = encode(&want, v->t, err);
    bool found = false;
    if (strcmp(v->g.model, "llama") == 0) {
        v->g.pre = "default";
        found = st == LIMN_OK && agrees(v, &want);
    }
    const char *name;
    for (int i = 0; st == LIMN_OK && !found && (name = limn_tokenizer_gguf_pre(i)); i++) {
        v->g.pre = name;
        found = strcmp(v->g.model, "gpt2") == 0 && agrees(v, &want);
    }
    limn_ids_deinit(&want);
    if (st == LIMN_OK && !found)
        return limn_fail(
            err, LIMN_E_UNSUPPORTED,
            "tokenizer.json: none of llama.cpp's tokenizers splits text like this one");
    return st;
}

/* ---- keys ---- */

static limn_status add_id(vocab *v, const char *key, int32_t id, limn_err *err) {
    return id >= 0 ? limn_export_add_u32(v->x, key, id, err) : LIMN_OK;
}

static limn_status add_flag(vocab *v, const char *key, const char *name, limn_err *err) {
    const json_t *flag = json_object_get(v->config, name);
    return json_is_boolean(flag) ? limn_export_add_bool(v->x, key, json_is_true(flag), err)
                                 : LIMN_OK;
}

static limn_status add_template(vocab *v, const char *folder, limn_err *err) {
    const char *key = "tokenizer.chat_template";
    const json_t *text = json_object_get(v->config, "chat_template");
    if (json_is_string(text)) return limn_export_add_text(v->x, key, json_string_value(text), err);
    char path[4096], *read = NULL;
    int n = snprintf(path, sizeof path, "%s/chat_template.jinja", folder);
    FILE *f = n > 0 && (size_t)n < sizeof path ? fopen(path, "rbe") : NULL;
    if (!f) return LIMN_OK; /* base models have none */
    read = limn_mem_alloc(TEXT_MAX);
    size_t len = read ? fread(read, 1, TEXT_MAX - 1, f) : 0;
    fclose(f);
    if (!read) return no_memory(err);
    read[len] = 0;
    limn_status st = limn_export_add_text(v->x, key, read, err);
    limn_mem_free(read);
    return st;
}

static limn_status add_keys(vocab *v, const char *folder, limn_err *err) {
    limn_export *x = v->x;
    limn_status st;
    LIMN_TRY(limn_export_add_text(x, "tokenizer.ggml.model", v->g.model, err));
    LIMN_TRY(limn_export_add_text(x, "tokenizer.ggml.pre", v->g.pre, err));
    LIMN_TRY(
        limn_export_add_array(x, "tokenizer.ggml.tokens", LIMN_META_STR, 0, v->tokens, v->n, err));
    if (v->scores)
        LIMN_TRY(limn_export_add_array(x, "tokenizer.ggml.scores", LIMN_META_FLOAT, 4, v->scores,
                                       v->n, err));
    LIMN_TRY(limn_export_add_array(x, "tokenizer.ggml.token_type", LIMN_META_INT, -4, v->types,
                                   v->n, err));
    if (!v->scores)
        LIMN_TRY(limn_export_add_array(x, "tokenizer.ggml.merges", LIMN_META_STR, 0, v->merges,
                                       v->g.n_merges, err));
    LIMN_TRY(add_id(v, "tokenizer.ggml.bos_token_id", v->g.bos, err));
    LIMN_TRY(add_id(v, "tokenizer.ggml.eos_token_id", v->g.eos, err));
    LIMN_TRY(add_id(v, "tokenizer.ggml.padding_token_id", v->g.pad, err));
    LIMN_TRY(add_id(v, "tokenizer.ggml.unknown_token_id", v->g.unk, err));
    LIMN_TRY(add_flag(v, "tokenizer.ggml.add_bos_token", "add_bos_token", err));
    LIMN_TRY(add_flag(v, "tokenizer.ggml.add_eos_token", "add_eos_token", err));
    LIMN_TRY(add_template(v, folder, err));
out:
    return st;
}

static limn_status read_model(vocab *v, const char *folder, int count, limn_err *err) {
    const json_t *model = json_object_get(v->root, "model");
    const char *type = json_string_value(json_object_get(model, "type"));
    bool pieces = json_is_true(json_object_get(model, "byte_fallback"));
    limn_status st;
    LIMN_CHECK(err, type && strcmp(type, "BPE") == 0, LIMN_E_UNSUPPORTED,
               "tokenizer.json: a \"%s\" model cannot be written to GGUF", type ? type : "?");
    LIMN_TRY(limn_tokenizer_load_dir(&v->t, folder, err));
    v->n = limn_tokenizer_count(v->t);
    if (v->n < (size_t)count) v->n = (size_t)count;
    LIMN_CHECK(err, v->n <= VOCAB_MAX && v->n <= (size_t)count, LIMN_E_FORMAT,
               "tokenizer.json: %zu tokens for a model of %d", v->n, count);
    v->tokens = limn_arena_alloc(&v->x->arena, v->n * sizeof *v->tokens);
    v->types = limn_arena_alloc(&v->x->arena, v->n * sizeof *v->types);
    LIMN_CHECK(err, v->tokens && v->types, LIMN_E_NOMEM, "no memory for a vocabulary");
    v->g = (limn_tokenizer_gguf){.model = pieces ? "llama" : "gpt2",
                                 .tokens = v->tokens,
                                 .types = v->types,
                                 .n_tokens = v->n,
                                 .bos = limn_tokenizer_bos(v->t),
                                 .eos = limn_tokenizer_eos(v->t),
                                 .pad = limn_tokenizer_pad(v->t),
                                 .unk = limn_tokenizer_unk(v->t),
                                 .add_bos = -1,
                                 .add_eos = -1,
                                 .add_space_prefix = -1,
                                 .remove_extra_whitespace = -1};
    LIMN_TRY(fill_tokens(v, pieces, err));
    LIMN_TRY(fill_merges(v, err));
    if (pieces) LIMN_TRY(fill_scores(v, err));
    LIMN_TRY(find_splitting(v, err));
out:
    return st;
}

limn_status limn_export_add_tokenizer(limn_export *x, const char *folder, int count,
                                      limn_err *err) {
    vocab v = {.x = x};
    limn_status st = LIMN_OK;
    v.root = load(folder, "tokenizer.json", err, &st);
    v.config = load(folder, "tokenizer_config.json", err, &st);
    if (st == LIMN_OK && !v.root) /* llama.cpp's word for a file without one */
        st = limn_export_add_text(x, "tokenizer.ggml.model", "no_vocab", err);
    else if (st == LIMN_OK)
        st = read_model(&v, folder, count, err);
    if (st == LIMN_OK && v.root) st = add_keys(&v, folder, err);
    limn_tokenizer_free(&v.t);
    json_decref(v.root);
    json_decref(v.config);
    return st;
}
