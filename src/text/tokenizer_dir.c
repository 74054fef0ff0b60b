/* SPDX-License-Identifier: MIT */
/*
 * A tokenizer's folder, as diffusers and transformers write it: tokenizer.json, or vocab.json and
 * merges.txt, or a SentencePiece model; tokenizer_config.json names the special tokens.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "text/jsonscan.h"
#include "text/tokenizer_impl.h"
#include "text/tokenizer_spm.h"

enum { PATH_LEN = 4096 };
#define FILE_LIMIT ((size_t)256 << 20)

static limn_status join(char *out, const char *dir, const char *name, limn_err *err) {
    size_t a = strlen(dir), b = strlen(name);
    if (a + b + 2 > PATH_LEN) return limn_fail(err, LIMN_E_VALUE, "the path is too long");
    memcpy(out, dir, a);
    out[a] = '/';
    memcpy(out + a + 1, name, b + 1);
    return LIMN_OK;
}

static bool has_file(const char *dir, const char *name) {
    char path[PATH_LEN];
    return join(path, dir, name, NULL) == LIMN_OK && access(path, F_OK) == 0;
}

/* A JSON object of a small file, NULL when the file is absent. */
static limn_status load_object(json_t **out, const char *dir, const char *name, limn_err *err) {
    char path[PATH_LEN];
    char *text = NULL;
    size_t n = 0;
    json_error_t je;
    limn_status st;
    *out = NULL;
    if (!has_file(dir, name)) return LIMN_OK;
    LIMN_TRY(join(path, dir, name, err));
    LIMN_TRY(limn_tokenizer_read_file(&text, &n, path, (size_t)16 << 20, err));
    *out = json_loadb(text, n, JSON_ALLOW_NUL, &je);
    LIMN_CHECK(err, *out, LIMN_E_FORMAT, "%s: line %d: %s", path, je.line, je.text);
    LIMN_CHECK(err, json_is_object(*out), LIMN_E_FORMAT, "%s: is no JSON object", path);
out:
    limn_mem_free(text);
    if (st != LIMN_OK && *out) {
        json_decref(*out);
        *out = NULL;
    }
    return st;
}

/* "eos_token": "</s>" or {"content": "</s>", ...}; NULL when not given. */
static const char *token_text(const json_t *config, const char *key) {
    const json_t *v = json_object_get(config, key);
    if (json_is_object(v)) v = json_object_get(v, "content");
    return json_string_value(v);
}

static void set_id(const limn_tokenizer *t, int32_t *to, const json_t *config, const char *key) {
    const char *text = token_text(config, key);
    int32_t id = text ? limn_tokenizer_find(t, text) : -1;
    if (id >= 0) *to = id;
}

static void set_ids(limn_tokenizer *t, const json_t *config) {
    if (!config) return;
    set_id(t, &t->bos, config, "bos_token");
    set_id(t, &t->eos, config, "eos_token");
    set_id(t, &t->pad, config, "pad_token");
    set_id(t, &t->unk, config, "unk_token");
}

/* ---- vocab.json + merges.txt ---- */

static limn_status read_vocab(limn_tokenizer *t, const char *text, size_t n, limn_err *err) {
    limn_status st;
    limn_jsonscan j;
    bool first = true, more;
    limn_jsonscan_init(&j, text, n);
    for (;;) {
        int64_t id;
        LIMN_TRY(limn_jsonscan_next(&j, '{', &first, &more, err));
        if (!more) break;
        LIMN_TRY(limn_jsonscan_string(&j, err));
        LIMN_TRY(limn_jsonscan_expect(&j, ':', err));
        LIMN_TRY(limn_jsonscan_int(&j, &id, err));
        LIMN_CHECK(err, id >= 0 && id < LIMN_VOCAB_MAX, LIMN_E_FORMAT,
                   "token id %lld is out of range", (long long)id);
        LIMN_TRY(
            limn_tokenizer_add_token(t, (int32_t)id, limn_buf_text(&j.key), j.key.len, true, err));
    }
out:
    limn_jsonscan_deinit(&j);
    return st;
}

static limn_status read_merge_lines(limn_tokenizer *t, const char *text, size_t n, limn_err *err) {
    limn_status st;
    size_t lines = 1;
    uint32_t rank = 0;
    for (size_t i = 0; i < n; i++) lines += text[i] == '\n';
    LIMN_TRY(limn_tokenizer_start_merges(t, lines, err));
    for (size_t i = 0; i < n;) {
        const char *nl = memchr(text + i, '\n', n - i);
        size_t end = nl ? (size_t)(nl - text) : n, len = end - i;
        limn_text_view line = {text + i, len && text[end - 1] == '\r' ? len - 1 : len};
        bool version = i == 0 && line.len >= 8 && memcmp(line.data, "#version", 8) == 0;
        i = end + 1;
        if (line.len == 0 || version) continue;
        LIMN_TRY(limn_tokenizer_add_merge_line(t, line, rank++, err));
    }
out:
    return st;
}

static limn_status add_special(limn_tokenizer *t, const json_t *config, const char *key,
                               limn_err *err) {
    const char *text = token_text(config, key);
    int32_t id = text && *text ? limn_tokenizer_find(t, text) : -1;
    if (id < 0 || strcmp(key, "pad_token") == 0) return LIMN_OK; /* SDXL pads with "!": a word */
    for (size_t i = 0; i < t->n_added; i++)
        if (t->added[i].id == id) return LIMN_OK;
    limn_added_token a = {.shown = {text, strlen(text)}, .id = id, .special = true};
    return limn_tokenizer_add_added(t, &a, err);
}

/* added_tokens.json: {"text": id}; added_tokens_decoder: {"id": {"content", "special", ...}}. */
static limn_status add_listed(limn_tokenizer *t, const json_t *plain, const json_t *config,
                              limn_err *err) {
    limn_status st = LIMN_OK;
    const char *key;
    json_t *v;
    json_object_foreach(json_object_get(config, "added_tokens_decoder"), key, v) {
        const char *text = json_string_value(json_object_get(v, "content"));
        long id = strtol(key, NULL, 10);
        LIMN_CHECK(err, text && id >= 0 && id < (long)LIMN_VOCAB_MAX, LIMN_E_FORMAT,
                   "added token \"%s\" has no id or content", key);
        limn_added_token a = {.shown = {text, strlen(text)},
                              .id = (int32_t)id,
                              .special = json_is_true(json_object_get(v, "special")),
                              .lstrip = json_is_true(json_object_get(v, "lstrip")),
                              .rstrip = json_is_true(json_object_get(v, "rstrip"))};
        LIMN_TRY(limn_tokenizer_add_added(t, &a, err));
    }
    json_object_foreach((json_t *)plain, key, v) {
        if (limn_tokenizer_find(t, key) >= 0) continue;
        LIMN_CHECK(err, json_is_integer(v), LIMN_E_FORMAT, "added token \"%s\" has no id", key);
        limn_added_token a = {.shown = {key, strlen(key)}, .id = (int32_t)json_integer_value(v)};
        LIMN_TRY(limn_tokenizer_add_added(t, &a, err));
    }
out:
    return st;
}

/* Splitting follows from the class, or from the vocabulary when there is no config. */
static limn_status set_class(limn_tokenizer *t, const json_t *config, bool clip, limn_err *err) {
    const char *class = json_string_value(json_object_get(config, "tokenizer_class"));
    bool qwen = class && strncmp(class, "Qwen2Tokenizer", 14) == 0;
    bool gpt2 = !class || strncmp(class, "GPT2Tokenizer", 13) == 0;
    if (clip) return limn_tokenizer_set_clip(t, err);
    if (!qwen && !gpt2)
        return limn_fail(err, LIMN_E_UNSUPPORTED,
                         "vocab.json of a %s cannot be read without its tokenizer.json", class);
    limn_status st = LIMN_OK;
    if (qwen) {
        LIMN_TRY(limn_ops_add_form(&t->normalize, LIMN_NFC, err));
        LIMN_TRY(limn_ops_add_split(&t->pre, limn_qwen2_regex, LIMN_SPLIT_ISOLATED, false, err));
    } else {
        if (json_is_true(json_object_get(config, "add_prefix_space")))
            LIMN_TRY(limn_ops_add_simple(&t->pre, LIMN_OP_PREFIX_SPACE, err));
        LIMN_TRY(limn_ops_add_split(&t->pre, limn_gpt2_regex, LIMN_SPLIT_ISOLATED, false, err));
    }
out:
    return st;
}

static limn_status fill_from_pair(limn_tokenizer *t, const char *vocab, size_t n_vocab,
                                  const char *merges, size_t n_merges, const json_t *config,
                                  const json_t *plain, limn_err *err) {
    static const char *const keys[] = {"bos_token", "eos_token", "unk_token", "pad_token"};
    limn_status st;
    t->byte_level = true;
    LIMN_TRY(read_vocab(t, vocab, n_vocab, err));
    bool clip = limn_vocab_find(&t->vocab, "a</w>", 5) >= 0;
    if (clip) {
        t->suffix_len = 4;
        t->suffix = limn_arena_strdup(&t->arena, "</w>");
        LIMN_CHECK(err, t->suffix, LIMN_E_NOMEM, "no memory for a tokenizer");
    }
    LIMN_TRY(set_class(t, config, clip, err));
    LIMN_TRY(read_merge_lines(t, merges, n_merges, err));
    LIMN_TRY(add_listed(t, plain, config, err));
    for (size_t i = 0; i < 4; i++) LIMN_TRY(add_special(t, config, keys[i], err));
    set_ids(t, config);
    if (clip) {
        static const char *const defaults[] = {"<|startoftext|>", "<|endoftext|>"};
        if (t->bos < 0) t->bos = limn_tokenizer_find(t, defaults[0]);
        if (t->eos < 0) t->eos = limn_tokenizer_find(t, defaults[1]);
        LIMN_CHECK(err, t->bos >= 0 && t->eos >= 0, LIMN_E_FORMAT,
                   "the CLIP vocabulary has no begin or end token");
        if (t->pad < 0) t->pad = t->eos;
        t->first_id = t->bos;
        t->last_id = t->eos;
    }
    st = limn_tokenizer_finish(t, err);
out:
    return st;
}

static limn_status load_pair(limn_tokenizer **out, const char *dir, const json_t *config,
                             limn_err *err) {
    limn_status st;
    char path[PATH_LEN];
    char *vocab = NULL, *merges = NULL;
    size_t n_vocab = 0, n_merges = 0;
    json_t *plain = NULL, *map = NULL;
    limn_tokenizer *t = NULL;
    LIMN_TRY(join(path, dir, "vocab.json", err));
    LIMN_TRY(limn_tokenizer_read_file(&vocab, &n_vocab, path, FILE_LIMIT, err));
    LIMN_TRY(join(path, dir, "merges.txt", err));
    LIMN_TRY(limn_tokenizer_read_file(&merges, &n_merges, path, FILE_LIMIT, err));
    LIMN_TRY(load_object(&plain, dir, "added_tokens.json", err));
    if (!config) {
        LIMN_TRY(load_object(&map, dir, "special_tokens_map.json", err));
        config = map;
    }
    LIMN_TRY(limn_tokenizer_start(&t, err));
    LIMN_TRY(fill_from_pair(t, vocab, n_vocab, merges, n_merges, config, plain, err));
    *out = t;
    t = NULL;
out:
    limn_tokenizer_free(&t);
    json_decref(plain);
    json_decref(map);
    limn_mem_free(vocab);
    limn_mem_free(merges);
    return st;
}

/* ---- the folder ---- */

static limn_status load_spm(limn_tokenizer **out, const char *dir, const char *name,
                            limn_err *err) {
    char path[PATH_LEN];
    char *data = NULL;
    size_t n = 0;
    limn_status st;
    LIMN_TRY(join(path, dir, name, err));
    LIMN_TRY(limn_tokenizer_read_file(&data, &n, path, FILE_LIMIT, err));
    LIMN_TRY(limn_tokenizer_parse_spm(out, data, n, err));
out:
    limn_mem_free(data);
    return st;
}

limn_status limn_tokenizer_load_dir(limn_tokenizer **out, const char *dir, limn_err *err) {
    static const char *const spm[] = {"tokenizer.model", "spiece.model"};
    limn_status st;
    char path[PATH_LEN];
    json_t *config = NULL;
    limn_tokenizer *t = NULL;
    LIMN_TRY(load_object(&config, dir, "tokenizer_config.json", err));
    if (has_file(dir, "tokenizer.json")) {
        LIMN_TRY(join(path, dir, "tokenizer.json", err));
        LIMN_TRY(limn_tokenizer_load(&t, path, err));
        set_ids(t, config);
    } else if (has_file(dir, "vocab.json") && has_file(dir, "merges.txt")) {
        LIMN_TRY(load_pair(&t, dir, config, err));
    } else {
        for (size_t i = 0; i < 2 && !t; i++)
            if (has_file(dir, spm[i])) LIMN_TRY(load_spm(&t, dir, spm[i], err));
        LIMN_CHECK(err, t, LIMN_E_NOT_FOUND,
                   "no tokenizer.json, vocab.json with merges.txt, or tokenizer.model");
    }
    *out = t;
    t = NULL;
out:
    if (st != LIMN_OK) limn_err_prefix(err, "%s", dir);
    limn_tokenizer_free(&t);
    json_decref(config);
    return st;
}
