/* SPDX-License-Identifier: MIT */
/*
 * tokenizer.json -> tokenizer. The file is walked once to find its parts; `model.vocab` and
 * `model.merges` are streamed, the small trees go through jansson. Format: the `tokenizers` library
 * (tokenizers/src/{normalizers,pre_tokenizers,models,processors,decoders}).
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "text/jsonscan.h"
#include "text/tokenizer_impl.h"

enum { FILE_MAX_MB = 256, TREE_DEPTH = 8 };

typedef struct range {
    size_t begin, end; /* empty: absent */
} range;

/* Where the parts stand in the file. */
typedef struct json_parts {
    range added, normalizer, pre, post, decoder, model;
} json_parts;

typedef struct model_parts {
    range vocab, merges, type, unk_token, unk_id, byte_fallback, fuse_unk, ignore_merges, suffix,
        prefix, dropout;
} model_parts;

typedef struct part_name {
    const char *name;
    size_t offset; /* of the range */
} part_name;

/* ---- finding the parts ---- */

static limn_status find_parts(limn_jsonscan *j, const part_name *names, size_t count, void *parts,
                              limn_err *err) {
    limn_status st;
    bool first = true, more;
    for (;;) {
        range r;
        LIMN_TRY(limn_jsonscan_next(j, '{', &first, &more, err));
        if (!more) break;
        LIMN_TRY(limn_jsonscan_string(j, err));
        range *to = NULL;
        for (size_t i = 0; i < count; i++)
            if (strcmp(limn_buf_text(&j->key), names[i].name) == 0)
                to = (range *)((char *)parts + names[i].offset);
        LIMN_TRY(limn_jsonscan_expect(j, ':', err));
        LIMN_TRY(limn_jsonscan_skip(j, &r.begin, &r.end, err));
        if (to) *to = r;
    }
out:
    return st;
}

/* Parses a small part; *out NULL when it is absent. */
static limn_status part_tree(json_t **out, const char *s, range r, limn_err *err) {
    *out = NULL;
    if (r.begin == r.end) return LIMN_OK;
    if (r.end - r.begin > ((size_t)16 << 20))
        return limn_fail(err, LIMN_E_LIMIT, "a part of the tokenizer has %zu bytes",
                         r.end - r.begin);
    json_error_t je;
    size_t flags = JSON_DECODE_ANY | JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL;
    *out = json_loadb(s + r.begin, r.end - r.begin, flags, &je);
    if (!*out)
        return limn_fail(err, LIMN_E_FORMAT, "JSON is damaged after byte %zu: %s", r.begin,
                         je.text);
    return LIMN_OK;
}

static const char *get_string(const json_t *o, const char *key) {
    return json_string_value(json_object_get(o, key));
}

static bool get_bool(const json_t *o, const char *key, bool absent) {
    const json_t *v = json_object_get(o, key);
    return json_is_boolean(v) ? json_is_true(v) : absent;
}

static limn_text_view get_view(const json_t *v) {
    return (limn_text_view){json_string_value(v), json_string_length(v)};
}

static limn_status unknown(const char *what, const char *type, limn_err *err) {
    return limn_fail(err, LIMN_E_UNSUPPORTED, "%s \"%s\" is not known", what,
                     type ? type : "(none)");
}

/* {"String": ...} or {"Regex": ...} */
static limn_status get_pattern(const json_t *o, limn_text_view *out, bool *regex, limn_err *err) {
    const json_t *p = json_object_get(o, "pattern");
    const json_t *s = json_object_get(p, "String"), *r = json_object_get(p, "Regex");
    if (!json_is_string(s) && !json_is_string(r))
        return limn_fail(err, LIMN_E_FORMAT, "a pattern is neither String nor Regex");
    *regex = json_is_string(r);
    *out = get_view(*regex ? r : s);
    return LIMN_OK;
}

/* ---- normalizer ---- */

static int base64_value(char c) {
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

static limn_status add_charsmap(limn_text_ops *ops, const json_t *o, limn_err *err) {
    const json_t *v = json_object_get(o, "precompiled_charsmap");
    if (!json_is_string(v) || json_string_length(v) == 0) return LIMN_OK; /* null: no map */
    limn_text_view s = get_view(v);
    unsigned char *raw = limn_mem_alloc(s.len / 4 * 3 + 3);
    if (!raw) return limn_fail(err, LIMN_E_NOMEM, "no memory for a charsmap");
    size_t n = 0;
    unsigned bits = 0, held = 0;
    for (size_t i = 0; i < s.len && base64_value(s.data[i]) >= 0; i++) {
        held = held << 6 | (unsigned)base64_value(s.data[i]);
        bits += 6;
        if (bits < 8) continue;
        bits -= 8;
        raw[n++] = (unsigned char)(held >> bits);
    }
    limn_text_op op = {.kind = LIMN_OP_CHARSMAP};
    limn_status st = limn_charsmap_new(&op.map, raw, n, err);
    limn_mem_free(raw);
    return st == LIMN_OK ? limn_text_ops_add(ops, op, err) : st;
}

static limn_status add_normalizer(limn_text_ops *ops, const json_t *o, int depth, limn_err *err);

static limn_status add_normalizers(limn_text_ops *ops, const json_t *list, int depth,
                                   limn_err *err) {
    limn_status st = LIMN_OK;
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item) LIMN_TRY(add_normalizer(ops, item, depth + 1, err));
out:
    return st;
}

static limn_status add_replace(limn_text_ops *ops, const json_t *o, limn_err *err) {
    limn_text_view pattern;
    bool regex;
    limn_status st = get_pattern(o, &pattern, &regex, err);
    const json_t *content = json_object_get(o, "content");
    if (st != LIMN_OK) return st;
    if (!json_is_string(content)) return limn_fail(err, LIMN_E_FORMAT, "Replace has no content");
    return limn_ops_add_replace(ops, pattern, regex, get_view(content), err);
}

static limn_status add_normalizer(limn_text_ops *ops, const json_t *o, int depth, limn_err *err) {
    static const struct {
        const char *name;
        limn_normal_form form;
    } forms[] = {{"NFC", LIMN_NFC}, {"NFD", LIMN_NFD}, {"NFKC", LIMN_NFKC}, {"NFKD", LIMN_NFKD}};
    if (!o || json_is_null(o)) return LIMN_OK;
    const char *type = get_string(o, "type");
    if (!type || depth > TREE_DEPTH) return unknown("normalizer", type, err);
    for (size_t i = 0; i < 4; i++)
        if (strcmp(type, forms[i].name) == 0) return limn_ops_add_form(ops, forms[i].form, err);
    if (strcmp(type, "Sequence") == 0)
        return add_normalizers(ops, json_object_get(o, "normalizers"), depth, err);
    if (strcmp(type, "Lowercase") == 0) return limn_ops_add_simple(ops, LIMN_OP_LOWER, err);
    if (strcmp(type, "Replace") == 0) return add_replace(ops, o, err);
    if (strcmp(type, "Precompiled") == 0) return add_charsmap(ops, o, err);
    if (strcmp(type, "Prepend") == 0 && json_is_string(json_object_get(o, "prepend")))
        return limn_ops_add_text(ops, LIMN_OP_PREPEND, LIMN_PREPEND_ALWAYS,
                                 get_view(json_object_get(o, "prepend")), err);
    if (strcmp(type, "Strip") == 0) {
        limn_text_op op = {.kind = LIMN_OP_STRIP,
                           .left = get_bool(o, "strip_left", true),
                           .right = get_bool(o, "strip_right", true)};
        return limn_text_ops_add(ops, op, err);
    }
    return unknown("normalizer", type, err);
}

/* ---- pre_tokenizer ---- */

static limn_status get_scheme(const json_t *o, limn_prepend_scheme *out, limn_err *err) {
    const char *s = get_string(o, "prepend_scheme");
    bool prefix = get_bool(o, "add_prefix_space", true);
    *out = prefix ? LIMN_PREPEND_ALWAYS : LIMN_PREPEND_NEVER;
    if (!s) return LIMN_OK;
    if (strcmp(s, "always") == 0)
        *out = LIMN_PREPEND_ALWAYS;
    else if (strcmp(s, "first") == 0)
        *out = LIMN_PREPEND_FIRST;
    else if (strcmp(s, "never") == 0)
        *out = LIMN_PREPEND_NEVER;
    else
        return unknown("prepend_scheme", s, err);
    return LIMN_OK;
}

static limn_text_view get_replacement(const json_t *o) {
    const json_t *v = json_object_get(o, "replacement");
    if (json_is_string(v) && json_string_length(v)) return get_view(v);
    return (limn_text_view){LIMN_METASPACE, sizeof LIMN_METASPACE - 1};
}

static limn_status add_metaspace(limn_text_ops *ops, const json_t *o, limn_err *err) {
    limn_status st;
    limn_prepend_scheme scheme;
    limn_text_view mark = get_replacement(o);
    LIMN_TRY(get_scheme(o, &scheme, err));
    LIMN_TRY(limn_ops_add_text(ops, LIMN_OP_METASPACE, scheme, mark, err));
    if (get_bool(o, "split", true)) {
        limn_text_op op = {.kind = LIMN_OP_SPLIT, .behavior = LIMN_SPLIT_MERGE_NEXT};
        LIMN_TRY(limn_pattern_new(&op.pattern, mark.data, mark.len, false, err));
        LIMN_TRY(limn_text_ops_add(ops, op, err));
    }
out:
    return st;
}

static limn_status add_split(limn_text_ops *ops, const json_t *o, limn_err *err) {
    static const struct {
        const char *name;
        limn_split_behavior behavior;
    } rows[] = {{"Isolated", LIMN_SPLIT_ISOLATED},
                {"Removed", LIMN_SPLIT_REMOVED},
                {"MergedWithPrevious", LIMN_SPLIT_MERGE_PREVIOUS},
                {"MergedWithNext", LIMN_SPLIT_MERGE_NEXT},
                {"Contiguous", LIMN_SPLIT_CONTIGUOUS}};
    limn_text_op op = {.kind = LIMN_OP_SPLIT, .invert = get_bool(o, "invert", false)};
    const char *behavior = get_string(o, "behavior");
    limn_text_view pattern;
    bool regex, known = false;
    for (size_t i = 0; behavior && i < sizeof rows / sizeof rows[0]; i++) {
        if (strcmp(behavior, rows[i].name) != 0) continue;
        op.behavior = rows[i].behavior;
        known = true;
    }
    if (!known) return unknown("split behavior", behavior, err);
    limn_status st = get_pattern(o, &pattern, &regex, err);
    if (st == LIMN_OK) st = limn_pattern_new(&op.pattern, pattern.data, pattern.len, regex, err);
    return st == LIMN_OK ? limn_text_ops_add(ops, op, err) : st;
}

static limn_status add_byte_level(limn_tokenizer *t, const json_t *o, limn_err *err) {
    limn_status st = LIMN_OK;
    if (get_bool(o, "add_prefix_space", true))
        LIMN_TRY(limn_ops_add_simple(&t->pre, LIMN_OP_PREFIX_SPACE, err));
    if (get_bool(o, "use_regex", true))
        LIMN_TRY(limn_ops_add_split(&t->pre, limn_gpt2_regex, LIMN_SPLIT_ISOLATED, false, err));
    t->byte_level = true;
out:
    return st;
}

static limn_status add_pre(limn_tokenizer *t, const json_t *o, int depth, limn_err *err) {
    if (!o || json_is_null(o)) return LIMN_OK;
    const char *type = get_string(o, "type");
    if (!type || depth > TREE_DEPTH) return unknown("pre_tokenizer", type, err);
    if (strcmp(type, "Sequence") == 0) {
        limn_status st = LIMN_OK;
        size_t i;
        json_t *item;
        json_array_foreach(json_object_get(o, "pretokenizers"), i, item) if (st == LIMN_OK) st =
            add_pre(t, item, depth + 1, err);
        return st;
    }
    if (strcmp(type, "ByteLevel") == 0) return add_byte_level(t, o, err);
    if (strcmp(type, "Split") == 0) return add_split(&t->pre, o, err);
    if (strcmp(type, "Metaspace") == 0) return add_metaspace(&t->pre, o, err);
    if (strcmp(type, "Digits") == 0)
        return limn_ops_add_split(&t->pre, "\\p{N}",
                                  get_bool(o, "individual_digits", false) ? LIMN_SPLIT_ISOLATED
                                                                          : LIMN_SPLIT_CONTIGUOUS,
                                  false, err);
    if (strcmp(type, "WhitespaceSplit") == 0)
        return limn_ops_add_split(&t->pre, "\\s+", LIMN_SPLIT_REMOVED, false, err);
    if (strcmp(type, "Whitespace") == 0)
        return limn_ops_add_split(&t->pre, "\\w+|[^\\w\\s]+", LIMN_SPLIT_REMOVED, true, err);
    return unknown("pre_tokenizer", type, err);
}

/* ---- decoder ---- */

static limn_status set_decoder(limn_tokenizer *t, const json_t *o, int depth, limn_err *err) {
    if (!o || json_is_null(o)) return LIMN_OK;
    const char *type = get_string(o, "type");
    if (!type || depth > TREE_DEPTH) return unknown("decoder", type, err);
    if (strcmp(type, "Sequence") == 0) {
        limn_status st = LIMN_OK;
        size_t i;
        json_t *item;
        json_array_foreach(json_object_get(o, "decoders"), i, item) if (st == LIMN_OK) st =
            set_decoder(t, item, depth + 1, err);
        return st;
    }
    if (strcmp(type, "ByteLevel") == 0) {
        t->byte_level = true;
        return LIMN_OK;
    }
    if (strcmp(type, "ByteFallback") == 0 || strcmp(type, "Fuse") == 0) return LIMN_OK;
    if (strcmp(type, "BPEDecoder") == 0) return LIMN_OK; /* the model's suffix says the same */
    if (strcmp(type, "Strip") == 0) {
        const char *content = get_string(o, "content");
        bool plain = content && strcmp(content, " ") == 0 &&
                     json_integer_value(json_object_get(o, "stop")) == 0 &&
                     json_integer_value(json_object_get(o, "start")) <= 1;
        if (!plain) return unknown("decoder Strip of", content, err);
        t->strip_first = json_integer_value(json_object_get(o, "start")) == 1;
        return LIMN_OK;
    }
    limn_text_view mark;
    bool regex = false;
    limn_prepend_scheme scheme = LIMN_PREPEND_NEVER;
    limn_status st = LIMN_OK;
    if (strcmp(type, "Metaspace") == 0) {
        mark = get_replacement(o);
        st = get_scheme(o, &scheme, err);
        t->strip_first = scheme != LIMN_PREPEND_NEVER;
    } else if (strcmp(type, "Replace") == 0) {
        const char *content = get_string(o, "content");
        st = get_pattern(o, &mark, &regex, err);
        if (st == LIMN_OK && (regex || !content || strcmp(content, " ") != 0))
            return unknown("decoder Replace with", content, err);
    } else {
        return unknown("decoder", type, err);
    }
    if (st != LIMN_OK) return st;
    t->space = limn_arena_strndup(&t->arena, mark.data, mark.len);
    return t->space ? LIMN_OK : limn_fail(err, LIMN_E_NOMEM, "no memory for a tokenizer");
}

/* ---- model ---- */

static limn_status read_vocab_object(limn_tokenizer *t, limn_jsonscan *j, limn_err *err) {
    limn_status st;
    bool first = true, more;
    for (;;) {
        int64_t id;
        LIMN_TRY(limn_jsonscan_next(j, '{', &first, &more, err));
        if (!more) break;
        LIMN_TRY(limn_jsonscan_string(j, err));
        LIMN_TRY(limn_jsonscan_expect(j, ':', err));
        LIMN_TRY(limn_jsonscan_int(j, &id, err));
        LIMN_CHECK(err, id >= 0 && id < LIMN_VOCAB_MAX, LIMN_E_FORMAT,
                   "token id %lld is out of range", (long long)id);
        LIMN_TRY(limn_tokenizer_add_token(t, (int32_t)id, limn_buf_text(&j->key), j->key.len, true,
                                          err));
    }
out:
    return st;
}

/* Unigram: [["token", score], ...], ids by position. */
static limn_status read_vocab_list(limn_tokenizer *t, limn_jsonscan *j, limn_err *err) {
    limn_status st;
    bool first = true, more;
    size_t cap = 0;
    for (int32_t id = 0;; id++) {
        double score;
        LIMN_TRY(limn_jsonscan_next(j, '[', &first, &more, err));
        if (!more) break;
        LIMN_TRY(limn_jsonscan_expect(j, '[', err));
        LIMN_TRY(limn_jsonscan_string(j, err));
        LIMN_TRY(limn_jsonscan_expect(j, ',', err));
        LIMN_TRY(limn_tokenizer_add_token(t, id, limn_buf_text(&j->key), j->key.len, true, err));
        LIMN_TRY(limn_jsonscan_number(j, &score, err));
        LIMN_TRY(limn_jsonscan_expect(j, ']', err));
        if ((size_t)id >= cap) {
            cap = cap ? cap * 2 : 4096;
            double *p = limn_mem_realloc(t->scores, cap * sizeof *p);
            LIMN_CHECK(err, p, LIMN_E_NOMEM, "no memory for scores");
            t->scores = p;
        }
        t->scores[id] = score;
        t->n_scores = (size_t)id + 1;
    }
out:
    return st;
}

static limn_status read_merge_pair(limn_tokenizer *t, limn_jsonscan *j, limn_buf *left,
                                   uint32_t rank, limn_err *err) {
    limn_status st;
    LIMN_TRY(limn_jsonscan_expect(j, '[', err));
    LIMN_TRY(limn_jsonscan_string(j, err));
    limn_buf_clear(left);
    limn_buf_add(left, limn_buf_text(&j->key), j->key.len);
    LIMN_CHECK(err, !left->failed, LIMN_E_NOMEM, "no memory for merges");
    LIMN_TRY(limn_jsonscan_expect(j, ',', err));
    LIMN_TRY(limn_jsonscan_string(j, err));
    LIMN_TRY(limn_jsonscan_expect(j, ']', err));
    st = limn_tokenizer_add_merge(t, (limn_text_view){limn_buf_text(left), left->len},
                                  (limn_text_view){limn_buf_text(&j->key), j->key.len}, rank, err);
out:
    return st;
}

static size_t count_merges(const char *s, range r) {
    /* Every merge takes at least five bytes ("a b",) in both spellings; commas bound them better.
     */
    size_t n = 0;
    for (size_t i = r.begin; i < r.end; i++) n += s[i] == ',';
    return n + 1;
}

static limn_status read_merges(limn_tokenizer *t, const char *s, range r, limn_err *err) {
    limn_status st;
    bool first = true, more;
    limn_jsonscan j;
    limn_buf left;
    limn_buf_init(&left, 1u << 20);
    limn_jsonscan_init(&j, s, r.end);
    j.at = r.begin;
    LIMN_TRY(limn_tokenizer_start_merges(t, count_merges(s, r), err));
    for (uint32_t rank = 0;; rank++) {
        LIMN_TRY(limn_jsonscan_next(&j, '[', &first, &more, err));
        if (!more) break;
        if (limn_jsonscan_peek(&j) == '[') {
            LIMN_TRY(read_merge_pair(t, &j, &left, rank, err));
            continue;
        }
        LIMN_TRY(limn_jsonscan_string(&j, err));
        limn_text_view line = {limn_buf_text(&j.key), j.key.len};
        LIMN_TRY(limn_tokenizer_add_merge_line(t, line, rank, err));
    }
out:
    limn_buf_deinit(&left);
    limn_jsonscan_deinit(&j);
    return st;
}

static bool is_text(const char *s, range r, const char *want) {
    size_t n = strlen(want);
    return r.end - r.begin == n && memcmp(s + r.begin, want, n) == 0;
}

static limn_status read_model_flags(limn_tokenizer *t, const char *s, const model_parts *m,
                                    limn_err *err) {
    limn_status st;
    json_t *suffix = NULL, *prefix = NULL, *dropout = NULL;
    LIMN_TRY(part_tree(&suffix, s, m->suffix, err));
    LIMN_TRY(part_tree(&prefix, s, m->prefix, err));
    LIMN_TRY(part_tree(&dropout, s, m->dropout, err));
    LIMN_CHECK(err, !json_is_string(prefix) || json_string_length(prefix) == 0, LIMN_E_UNSUPPORTED,
               "continuing_subword_prefix is not supported");
    LIMN_CHECK(err, !json_is_number(dropout) || json_number_value(dropout) == 0, LIMN_E_UNSUPPORTED,
               "BPE dropout is not supported");
    t->byte_fallback = is_text(s, m->byte_fallback, "true");
    t->fuse_unk = is_text(s, m->fuse_unk, "true");
    t->ignore_merges = is_text(s, m->ignore_merges, "true");
    if (json_is_string(suffix) && json_string_length(suffix)) {
        t->suffix_len = json_string_length(suffix);
        t->suffix = limn_arena_strndup(&t->arena, json_string_value(suffix), t->suffix_len);
        LIMN_CHECK(err, t->suffix, LIMN_E_NOMEM, "no memory for a tokenizer");
    }
out:
    json_decref(suffix);
    json_decref(prefix);
    json_decref(dropout);
    return st;
}

static limn_status read_model(limn_tokenizer *t, const char *s, range where, limn_err *err) {
#define PART(field, name)                                                                          \
    { name, offsetof(model_parts, field) }
    static const part_name names[] = {PART(vocab, "vocab"),
                                      PART(merges, "merges"),
                                      PART(type, "type"),
                                      PART(unk_token, "unk_token"),
                                      PART(unk_id, "unk_id"),
                                      PART(byte_fallback, "byte_fallback"),
                                      PART(fuse_unk, "fuse_unk"),
                                      PART(ignore_merges, "ignore_merges"),
                                      PART(suffix, "end_of_word_suffix"),
                                      PART(prefix, "continuing_subword_prefix"),
                                      PART(dropout, "dropout")};
#undef PART
    limn_status st;
    model_parts m = {0};
    json_t *unk = NULL, *unk_id = NULL, *type = NULL;
    limn_jsonscan j;
    limn_jsonscan_init(&j, s, where.end);
    j.at = where.begin;
    LIMN_TRY(find_parts(&j, names, sizeof names / sizeof names[0], &m, err));
    LIMN_TRY(part_tree(&type, s, m.type, err));
    LIMN_TRY(part_tree(&unk, s, m.unk_token, err));
    LIMN_TRY(part_tree(&unk_id, s, m.unk_id, err));
    LIMN_TRY(read_model_flags(t, s, &m, err));
    LIMN_CHECK(err, m.vocab.end > m.vocab.begin, LIMN_E_FORMAT, "the model has no vocab");
    j.at = m.vocab.begin;
    bool list = limn_jsonscan_peek(&j) == '[';
    const char *name = json_string_value(type);
    LIMN_CHECK(err, !name || !strcmp(name, "BPE") || !strcmp(name, "Unigram"), LIMN_E_UNSUPPORTED,
               "model \"%s\" is not known", name ? name : "");
    if (list) {
        t->model = LIMN_MODEL_UNIGRAM;
        t->fuse_unk = true;
        LIMN_TRY(read_vocab_list(t, &j, err));
        if (json_is_integer(unk_id) && json_integer_value(unk_id) >= 0 &&
            json_integer_value(unk_id) < LIMN_VOCAB_MAX)
            t->unk = (int32_t)json_integer_value(unk_id);
    } else {
        LIMN_TRY(read_vocab_object(t, &j, err));
        LIMN_CHECK(err, m.merges.end > m.merges.begin, LIMN_E_FORMAT, "the model has no merges");
        LIMN_TRY(read_merges(t, s, m.merges, err));
        limn_text_view u = get_view(unk);
        if (u.data) t->unk = limn_tokenizer_model_find(t, u.data, u.len);
    }
out:
    json_decref(unk);
    json_decref(unk_id);
    json_decref(type);
    limn_jsonscan_deinit(&j);
    return st;
}

/* ---- added tokens and what stands around a text ---- */

static limn_status read_added(limn_tokenizer *t, const json_t *list, limn_err *err) {
    size_t i;
    json_t *o;
    json_array_foreach(list, i, o) {
        const json_t *id = json_object_get(o, "id"), *content = json_object_get(o, "content");
        if (!json_is_integer(id) || !json_is_string(content) || json_integer_value(id) < 0 ||
            json_integer_value(id) >= LIMN_VOCAB_MAX)
            return limn_fail(err, LIMN_E_FORMAT, "added token %zu has no id or content", i);
        if (json_string_length(content) == 0) continue; /* the reference ignores these */
        limn_added_token a = {.shown = get_view(content),
                              .id = (int32_t)json_integer_value(id),
                              .special = get_bool(o, "special", false),
                              .normalized = get_bool(o, "normalized", true),
                              .lstrip = get_bool(o, "lstrip", false),
                              .rstrip = get_bool(o, "rstrip", false),
                              .single_word = get_bool(o, "single_word", false)};
        limn_status st = limn_tokenizer_add_added(t, &a, err);
        if (st != LIMN_OK) return st;
    }
    return LIMN_OK;
}

/* "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": ...}, ...]: at most one on each side. */
static limn_status read_template(limn_tokenizer *t, const json_t *o, limn_err *err) {
    bool seen = false;
    size_t i;
    json_t *item;
    json_array_foreach(json_object_get(o, "single"), i, item) {
        const char *name = get_string(json_object_get(item, "SpecialToken"), "id");
        if (!name) {
            seen = true;
            continue;
        }
        int32_t *to = seen ? &t->last_id : &t->first_id;
        int32_t id = limn_tokenizer_find(t, name);
        if (id < 0) return limn_fail(err, LIMN_E_FORMAT, "post_processor names \"%s\"", name);
        if (*to >= 0)
            return limn_fail(err, LIMN_E_UNSUPPORTED,
                             "post_processor with several tokens in a row");
        *to = id;
    }
    return LIMN_OK;
}

static limn_status read_post(limn_tokenizer *t, const json_t *o, int depth, limn_err *err) {
    if (!o || json_is_null(o)) return LIMN_OK;
    const char *type = get_string(o, "type");
    if (!type || depth > TREE_DEPTH) return unknown("post_processor", type, err);
    if (strcmp(type, "ByteLevel") == 0) return LIMN_OK; /* offsets only */
    if (strcmp(type, "TemplateProcessing") == 0) return read_template(t, o, err);
    if (strcmp(type, "Sequence") == 0) {
        limn_status st = LIMN_OK;
        size_t i;
        json_t *item;
        json_array_foreach(json_object_get(o, "processors"), i, item) if (st == LIMN_OK) st =
            read_post(t, item, depth + 1, err);
        return st;
    }
    if (strcmp(type, "RobertaProcessing") == 0 || strcmp(type, "BertProcessing") == 0) {
        const char *cls = json_string_value(json_array_get(json_object_get(o, "cls"), 0));
        const char *sep = json_string_value(json_array_get(json_object_get(o, "sep"), 0));
        t->first_id = cls ? limn_tokenizer_find(t, cls) : -1;
        t->last_id = sep ? limn_tokenizer_find(t, sep) : -1;
        return LIMN_OK;
    }
    return unknown("post_processor", type, err);
}

/* ---- the whole ---- */

/* Added tokens may have ids behind the scored list: they get a score too, though no text leads to
 * them. */
static limn_status fit_scores(limn_tokenizer *t, limn_err *err) {
    if (t->model != LIMN_MODEL_UNIGRAM || t->vocab.n == 0) return LIMN_OK;
    double *p = limn_mem_realloc(t->scores, t->vocab.n * sizeof *p);
    if (!p) return limn_fail(err, LIMN_E_NOMEM, "no memory for scores");
    t->scores = p;
    for (size_t i = t->n_scores; i < t->vocab.n; i++) p[i] = 0;
    return LIMN_OK;
}

static limn_status read_parts(limn_tokenizer *t, const char *s, const json_parts *p,
                              limn_err *err) {
    limn_status st;
    json_t *norm = NULL, *pre = NULL, *post = NULL, *dec = NULL, *added = NULL;
    LIMN_TRY(part_tree(&norm, s, p->normalizer, err));
    LIMN_TRY(part_tree(&pre, s, p->pre, err));
    LIMN_TRY(part_tree(&post, s, p->post, err));
    LIMN_TRY(part_tree(&dec, s, p->decoder, err));
    LIMN_TRY(part_tree(&added, s, p->added, err));
    LIMN_TRY(add_normalizer(&t->normalize, norm, 0, err));
    LIMN_TRY(add_pre(t, pre, 0, err));
    LIMN_TRY(set_decoder(t, dec, 0, err));
    LIMN_TRY(read_model(t, s, p->model, err)); /* needs byte_level */
    LIMN_TRY(read_added(t, added, err));
    LIMN_TRY(read_post(t, post, 0, err));
    t->bos = t->first_id;
    t->eos = t->last_id;
    LIMN_TRY(fit_scores(t, err));
out:
    json_decref(norm);
    json_decref(pre);
    json_decref(post);
    json_decref(dec);
    json_decref(added);
    return st;
}

limn_status limn_tokenizer_parse(limn_tokenizer **out, const char *text, size_t n, limn_err *err) {
#define PART(field, name)                                                                          \
    { name, offsetof(json_parts, field) }
    static const part_name names[] = {PART(added, "added_tokens"), PART(normalizer, "normalizer"),
                                      PART(pre, "pre_tokenizer"),  PART(post, "post_processor"),
                                      PART(decoder, "decoder"),    PART(model, "model")};
#undef PART
    limn_status st;
    json_parts p = {0};
    limn_tokenizer *t = NULL;
    limn_jsonscan j;
    limn_jsonscan_init(&j, text, n);
    LIMN_CHECK(err, n <= (size_t)FILE_MAX_MB << 20, LIMN_E_LIMIT, "tokenizer of %zu bytes", n);
    LIMN_TRY(find_parts(&j, names, sizeof names / sizeof names[0], &p, err));
    LIMN_CHECK(err, limn_jsonscan_peek(&j) == 0 && j.at == n, LIMN_E_FORMAT,
               "something follows the JSON at byte %zu", j.at);
    LIMN_CHECK(err, p.model.end > p.model.begin && text[p.model.begin] == '{', LIMN_E_FORMAT,
               "there is no \"model\": not a tokenizer.json");
    LIMN_TRY(limn_tokenizer_start(&t, err));
    LIMN_TRY(read_parts(t, text, &p, err));
    LIMN_TRY(limn_tokenizer_finish(t, err));
    *out = t;
    t = NULL;
out:
    limn_tokenizer_free(&t);
    limn_jsonscan_deinit(&j);
    return st;
}

limn_status limn_tokenizer_load(limn_tokenizer **out, const char *path, limn_err *err) {
    char *text = NULL;
    size_t n = 0;
    limn_status st = limn_tokenizer_read_file(&text, &n, path, (size_t)FILE_MAX_MB << 20, err);
    if (st != LIMN_OK) return st;
    st = limn_tokenizer_parse(out, text, n, err);
    if (st != LIMN_OK) limn_err_prefix(err, "%s", path);
    limn_mem_free(text);
    return st;
}
