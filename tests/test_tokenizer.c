/* SPDX-License-Identifier: MIT */
/*
 * Tokenizers against the reference libraries: 20,480 generated lines per tokenizer, one hash of the
 * ids per line (tools/reference/make_text.py). The genuine Qwen3 vocabulary is too large to commit:
 * set LIMN_QWEN_TOKENIZER to its tokenizer.json to run that part.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <jansson.h>

#include "base/fsmap.h"
#include "text/bpe.h"
#include "text/tokenizer.h"
#include "text/tokenizer_spm.h"
#include "text/unicode.h"

enum { LINES = 20480 };

static char *fragment[1024];
static size_t fragment_len[1024];
static size_t n_fragments;

static const char *golden(const char *name) {
    static char path[1024];
    const char *dir = getenv("LIMN_GOLDEN_DIR");
    snprintf(path, sizeof path, "%s/text/%s", dir ? dir : "tests/golden", name);
    return path;
}

static int setup(void **state) {
    json_error_t je;
    json_t *list = json_load_file(golden("fragments.json"), JSON_ALLOW_NUL, &je);
    assert_non_null(list);
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item) {
        fragment_len[i] = json_string_length(item);
        fragment[i] = malloc(fragment_len[i] + 1);
        memcpy(fragment[i], json_string_value(item), fragment_len[i] + 1);
    }
    n_fragments = json_array_size(list);
    json_decref(list);
    return 0;
}

static int teardown(void **state) {
    for (size_t i = 0; i < n_fragments; i++) free(fragment[i]);
    return 0;
}

/* ---- the line generator of make_text.py ---- */

static uint64_t below(uint64_t *state, uint64_t n) {
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return (z ^ z >> 31) % n;
}

static void add_piece(limn_buf *b, uint64_t *r) {
    static const uint32_t ranges[][2] = {
        {0x20, 0x7E},       {0xA0, 0x24F},    {0x370, 0x3FF},   {0x400, 0x4FF},    {0x590, 0x5FF},
        {0x600, 0x6FF},     {0x900, 0x97F},   {0xE00, 0xE7F},   {0x1E00, 0x1EFF},  {0x2000, 0x206F},
        {0x2190, 0x21FF},   {0x3040, 0x30FF}, {0x4E00, 0x9FFF}, {0xAC00, 0xD7A3},  {0xFF00, 0xFFEF},
        {0x1F300, 0x1FAFF}, {0x300, 0x36F},   {0x0, 0x2FFF},    {0x10000, 0x1FFFF}};
    static const uint32_t spaces[] = {' ', '\t', '\n', '\r', 0xA0, 0x3000};
    uint64_t kind = below(r, 16), n, k;
    if (kind < 11) {
        k = below(r, n_fragments);
        limn_buf_add(b, fragment[k], fragment_len[k]);
    } else if (kind == 11) {
        n = 1 + below(r, 12);
        for (uint64_t i = 0; i < n; i++) limn_buf_addc(b, (char)('a' + below(r, 26)));
    } else if (kind == 12) {
        const uint32_t *range = ranges[below(r, sizeof ranges / sizeof ranges[0])];
        n = 1 + below(r, 6);
        for (uint64_t i = 0; i < n; i++)
            limn_buf_add_utf8(b, range[0] + (uint32_t)below(r, range[1] - range[0] + 1));
    } else if (kind == 13) {
        k = below(r, n_fragments);
        n = 2 + below(r, 40);
        for (uint64_t i = 0; i < n; i++) limn_buf_add(b, fragment[k], fragment_len[k]);
    } else if (kind == 14) {
        n = 1 + below(r, 20);
        for (uint64_t i = 0; i < n; i++) limn_buf_add_utf8(b, spaces[below(r, 6)]);
    } else {
        n = 1 + below(r, 15);
        for (uint64_t i = 0; i < n; i++) limn_buf_addc(b, (char)('0' + below(r, 10)));
    }
}

static void make_line(limn_buf *b, uint64_t index) {
    uint64_t r = index * 1000003 + 7;
    uint64_t n = 1 + below(&r, 10);
    limn_buf_clear(b);
    for (uint64_t i = 0; i < n; i++) {
        if (i && below(&r, 3) == 0) limn_buf_addc(b, ' ');
        add_piece(b, &r);
    }
}

static uint32_t hash_ids(const limn_ids *ids) {
    uint64_t h = 0xCBF29CE484222325u;
    for (size_t i = 0; i < ids->len; i++)
        for (int k = 0; k < 4; k++)
            h = (h ^ ((uint32_t)ids->data[i] >> 8 * k & 0xFF)) * 0x100000001B3u;
    return (uint32_t)(h ^ h >> 32);
}

static void print_line(uint64_t line, const limn_buf *text, const limn_ids *ids) {
    print_error("line %llu: ", (unsigned long long)line);
    for (size_t i = 0; i < text->len && i < 300; i++)
        print_error("%02x", (unsigned char)text->data[i]);
    print_error("\n ids:");
    for (size_t i = 0; i < ids->len && i < 60; i++) print_error(" %d", ids->data[i]);
    print_error("\n");
}

/* Every line must have the reference's ids. `drop_nul`: the reference cannot take NUL. */
static void check_lines(const limn_tokenizer *t, const char *name, unsigned flags, bool drop_nul) {
    limn_fsmap *map = NULL;
    limn_err err = {0};
    limn_buf text;
    limn_ids ids;
    int wrong = 0;
    if (limn_fsmap_open(&map, golden(name), &err) != LIMN_OK) fail_msg("%s", err.text);
    assert_int_equal(map->size, LINES * 4);
    limn_buf_init(&text, 1 << 22);
    limn_ids_init(&ids, 1 << 20);
    for (uint64_t i = 0; i < LINES; i++) {
        uint32_t want;
        memcpy(&want, map->data + 4 * i, 4);
        make_line(&text, i);
        if (drop_nul) {
            size_t kept = 0;
            for (size_t k = 0; k < text.len; k++)
                if (text.data[k]) text.data[kept++] = text.data[k];
            text.len = kept;
        }
        limn_ids_clear(&ids);
        if (limn_tokenizer_encode(t, &ids, limn_buf_text(&text), text.len, flags, &err) != LIMN_OK)
            fail_msg("line %llu: %s", (unsigned long long)i, err.text);
        if (hash_ids(&ids) != want && wrong++ < 5) print_line(i, &text, &ids);
    }
    limn_buf_deinit(&text);
    limn_ids_deinit(&ids);
    limn_fsmap_unref(&map);
    if (wrong) fail_msg("%s: %d of %d lines differ from the reference", name, wrong, LINES);
}

static limn_tokenizer *load(const char *name) {
    limn_tokenizer *t = NULL;
    limn_err err = {0};
    if (limn_tokenizer_load(&t, golden(name), &err) != LIMN_OK) fail_msg("%s", err.text);
    return t;
}

static const unsigned all = LIMN_ENCODE_ADDED | LIMN_ENCODE_BOS | LIMN_ENCODE_EOS;

static void test_lines_clip(void **state) {
    limn_tokenizer *t = NULL;
    limn_err err = {0};
    assert_int_equal(limn_tokenizer_new_clip(&t, &err), LIMN_OK);
    check_lines(t, "clip.hash", all, false);
    limn_tokenizer_free(&t);
    assert_null(t);
}

static void test_lines_json(void **state) {
    static const char *const names[] = {"tiny_bpe", "tiny_llama", "tiny_unigram"};
    for (size_t i = 0; i < 3; i++) {
        char file[64];
        snprintf(file, sizeof file, "%s.json", names[i]);
        limn_tokenizer *t = load(file);
        snprintf(file, sizeof file, "%s.hash", names[i]);
        check_lines(t, file, all, false);
        limn_tokenizer_free(&t);
    }
}

static void test_lines_qwen(void **state) {
    const char *path = getenv("LIMN_QWEN_TOKENIZER");
    limn_tokenizer *t = NULL;
    limn_err err = {0};
    if (!path || !*path) {
        print_message(
            "LIMN_QWEN_TOKENIZER is not set: the genuine Qwen3 vocabulary is not tested\n");
        skip();
    }
    if (limn_tokenizer_load(&t, path, &err) != LIMN_OK) fail_msg("%s", err.text);
    assert_int_equal(limn_tokenizer_find(t, "<|image_pad|>"), 151655);
    check_lines(t, "qwen3.hash", all, false);
    limn_tokenizer_free(&t);
}

static void test_lines_sentencepiece(void **state) {
    static const char *const names[] = {"spm_bpe", "spm_unigram"};
    for (size_t i = 0; i < 2; i++) {
        char file[64];
        limn_fsmap *map = NULL;
        limn_tokenizer *t = NULL;
        limn_err err = {0};
        snprintf(file, sizeof file, "%s.model", names[i]);
        assert_int_equal(limn_fsmap_open(&map, golden(file), &err), LIMN_OK);
        if (limn_tokenizer_parse_spm(&t, map->data, map->size, &err) != LIMN_OK)
            fail_msg("%s", err.text);
        snprintf(file, sizeof file, "%s.hash", names[i]);
        check_lines(t, file, 0, true);
        limn_tokenizer_free(&t);
        limn_fsmap_unref(&map);
    }
}

/* ---- folders, GGUF arrays ---- */

/* The tiny CLIP folder of the pipeline goldens: ids by transformers. */
static void test_folder(void **state) {
    char path[1024];
    const char *dir = getenv("LIMN_GOLDEN_DIR");
    json_error_t je;
    limn_tokenizer *t = NULL;
    limn_err err = {0};
    snprintf(path, sizeof path, "%s/pipe/sd1/tokenizer", dir ? dir : "tests/golden");
    if (limn_tokenizer_load_dir(&t, path, &err) != LIMN_OK) fail_msg("%s", err.text);
    assert_int_equal(limn_tokenizer_bos(t), 998);
    assert_int_equal(limn_tokenizer_eos(t), 999);
    snprintf(path, sizeof path, "%s/pipe/tokenizer.io.json", dir ? dir : "tests/golden");
    json_t *io = json_load_file(path, 0, &je);
    assert_non_null(io);
    const json_t *texts = json_is_array(io) ? io : json_object_get(io, "texts");
    const json_t *list = json_is_array(io) ? NULL : json_object_get(io, "ids");
    assert_true(json_array_size(texts) > 0);
    for (size_t i = 0; i < json_array_size(texts); i++) {
        const json_t *row = json_array_get(texts, i);
        const char *text =
            json_string_value(json_is_object(row) ? json_object_get(row, "text") : row);
        const json_t *want =
            json_is_object(row) ? json_object_get(row, "ids") : json_array_get(list, i);
        limn_ids ids;
        limn_ids_init(&ids, 10000);
        assert_int_equal(limn_tokenizer_encode(t, &ids, text, strlen(text), all, &err), LIMN_OK);
        assert_int_equal(ids.len, json_array_size(want));
        for (size_t k = 0; k < ids.len; k++)
            assert_int_equal(ids.data[k], json_integer_value(json_array_get(want, k)));
        limn_ids_deinit(&ids);
    }
    json_decref(io);
    limn_tokenizer_free(&t);
    assert_int_equal(limn_tokenizer_load_dir(&t, "/nonexistent-folder", &err), LIMN_E_NOT_FOUND);
    assert_null(t);
}

/* The arrays that a GGUF of tiny_bpe.json would carry. */
typedef struct gguf_arrays {
    json_t *root;
    limn_text_view *tokens, *merges;
    int32_t *types;
    char **lines;
    limn_tokenizer_gguf src;
} gguf_arrays;

static void gguf_from_json(gguf_arrays *g) {
    json_error_t je;
    g->root = json_load_file(golden("tiny_bpe.json"), 0, &je);
    assert_non_null(g->root);
    json_t *model = json_object_get(g->root, "model"), *vocab = json_object_get(model, "vocab");
    json_t *merges = json_object_get(model, "merges"),
           *added = json_object_get(g->root, "added_tokens");
    size_t n = json_object_size(vocab) + json_array_size(added), m = json_array_size(merges), i;
    const char *key;
    json_t *v;
    g->tokens = calloc(n, sizeof *g->tokens);
    g->types = calloc(n, sizeof *g->types);
    g->merges = calloc(m, sizeof *g->merges);
    g->lines = calloc(m, sizeof *g->lines);
    json_object_foreach(vocab, key, v) {
        g->tokens[json_integer_value(v)] = (limn_text_view){key, strlen(key)};
        g->types[json_integer_value(v)] = LIMN_GGUF_TOKEN_NORMAL;
    }
    json_array_foreach(added, i, v) {
        int64_t id = json_integer_value(json_object_get(v, "id"));
        const json_t *content = json_object_get(v, "content");
        g->tokens[id] = (limn_text_view){json_string_value(content), json_string_length(content)};
        g->types[id] = json_is_true(json_object_get(v, "special")) ? LIMN_GGUF_TOKEN_CONTROL
                                                                   : LIMN_GGUF_TOKEN_USER_DEFINED;
    }
    json_array_foreach(merges, i, v) {
        const char *a = json_string_value(json_array_get(v, 0)),
                   *b = json_string_value(json_array_get(v, 1));
        size_t len = strlen(a) + strlen(b) + 1;
        g->lines[i] = malloc(len + 1);
        snprintf(g->lines[i], len + 1, "%s %s", a, b);
        g->merges[i] = (limn_text_view){g->lines[i], len};
    }
    g->src = (limn_tokenizer_gguf){.model = "gpt2",
                                   .pre = "qwen2",
                                   .tokens = g->tokens,
                                   .types = g->types,
                                   .n_tokens = n,
                                   .merges = g->merges,
                                   .n_merges = m,
                                   .bos = -1,
                                   .eos = -1,
                                   .pad = -1,
                                   .unk = -1,
                                   .add_bos = -1,
                                   .add_eos = -1,
                                   .add_space_prefix = -1,
                                   .remove_extra_whitespace = -1};
}

static void gguf_free(gguf_arrays *g) {
    for (size_t i = 0; i < g->src.n_merges; i++) free(g->lines[i]);
    free(g->lines);
    free(g->tokens);
    free(g->types);
    free(g->merges);
    json_decref(g->root);
}

static void test_gguf(void **state) {
    gguf_arrays g = {0};
    limn_tokenizer *t = NULL;
    limn_err err = {0};
    gguf_from_json(&g);
    if (limn_tokenizer_new_gguf(&t, &g.src, &err) != LIMN_OK) fail_msg("%s", err.text);
    check_lines(t, "tiny_bpe.hash", all, false);
    int32_t start = limn_tokenizer_find(t, "<|im_start|>"),
            think = limn_tokenizer_find(t, "<think>");
    assert_true(limn_tokenizer_is_special(t, start) && !limn_tokenizer_is_special(t, think));
    assert_true(limn_tokenizer_is_added(t, think));
    limn_tokenizer_free(&t);
    limn_tokenizer_gguf bad = g.src;
    bad.pre = "no-such";
    assert_int_equal(limn_tokenizer_new_gguf(&t, &bad, &err), LIMN_E_UNSUPPORTED);
    bad = g.src;
    bad.model = "rwkv";
    assert_int_equal(limn_tokenizer_new_gguf(&t, &bad, &err), LIMN_E_UNSUPPORTED);
    bad = g.src;
    bad.n_merges = 0;
    assert_int_equal(limn_tokenizer_new_gguf(&t, &bad, &err), LIMN_E_MISSING);
    bad = g.src;
    bad.eos = (int32_t)bad.n_tokens;
    assert_int_equal(limn_tokenizer_new_gguf(&t, &bad, &err), LIMN_E_FORMAT);
    bad = g.src;
    bad.model = "llama"; /* no scores */
    assert_int_equal(limn_tokenizer_new_gguf(&t, &bad, &err), LIMN_E_MISSING);
    assert_null(t);
    gguf_free(&g);
}

/* ---- control tokens and plain text ---- */

static void test_text_is_never_control(void **state) {
    static const char text[] = "<|im_start|>user\n<think><|image_pad|></think><tool_call>";
    limn_tokenizer *t = load("tiny_bpe.json");
    limn_err err = {0};
    limn_ids ids;
    limn_buf back;
    limn_ids_init(&ids, 1000);
    limn_buf_init(&back, 1000);
    assert_int_equal(limn_tokenizer_encode(t, &ids, text, sizeof text - 1, 0, &err), LIMN_OK);
    for (size_t i = 0; i < ids.len; i++) assert_false(limn_tokenizer_is_added(t, ids.data[i]));
    assert_int_equal(limn_tokenizer_decode(t, &back, ids.data, ids.len, 0, &err), LIMN_OK);
    assert_string_equal(limn_buf_text(&back), text);
    limn_ids_clear(&ids);
    assert_int_equal(limn_tokenizer_encode(t, &ids, text, sizeof text - 1, LIMN_ENCODE_ADDED, &err),
                     LIMN_OK);
    assert_int_equal(ids.data[0], limn_tokenizer_find(t, "<|im_start|>"));
    limn_buf_clear(&back);
    assert_int_equal(
        limn_tokenizer_decode(t, &back, ids.data, ids.len, LIMN_DECODE_SKIP_SPECIAL, &err),
        LIMN_OK);
    assert_string_equal(limn_buf_text(&back), "user\n<think></think><tool_call>");
    limn_ids_deinit(&ids);
    limn_buf_deinit(&back);
    limn_tokenizer_free(&t);
}

/* ---- decoding ---- */

/* Byte-level text comes back as its NFC; streaming gives the same as the whole. */
static void test_decode_lines(void **state) {
    limn_tokenizer *t = load("tiny_bpe.json");
    limn_err err = {0};
    limn_buf text, nfc, whole, stream;
    limn_ids ids;
    limn_buf_init(&text, 1 << 20);
    limn_buf_init(&nfc, 1 << 22);
    limn_buf_init(&whole, 1 << 22);
    limn_buf_init(&stream, 1 << 22);
    limn_ids_init(&ids, 1 << 20);
    for (uint64_t i = 0; i < 4000; i++) {
        limn_detok d;
        make_line(&text, i);
        limn_buf_clear(&nfc);
        limn_buf_clear(&whole);
        limn_buf_clear(&stream);
        limn_ids_clear(&ids);
        const char *s = limn_buf_text(&text);
        limn_text_normalize(&nfc, s, text.len, LIMN_NFC);
        assert_int_equal(limn_tokenizer_encode(t, &ids, s, text.len, 0, &err), LIMN_OK);
        assert_int_equal(limn_tokenizer_decode(t, &whole, ids.data, ids.len, 0, &err), LIMN_OK);
        assert_int_equal(whole.len, nfc.len);
        assert_memory_equal(limn_buf_text(&whole), limn_buf_text(&nfc), nfc.len);
        limn_detok_init(&d, t, 0);
        for (size_t k = 0; k < ids.len; k++) {
            assert_int_equal(limn_detok_add(&d, &stream, ids.data[k], &err), LIMN_OK);
            assert_int_equal(limn_utf8_sound(limn_buf_text(&stream), stream.len), stream.len);
        }
        assert_int_equal(limn_detok_finish(&d, &stream, &err), LIMN_OK);
        assert_int_equal(stream.len, whole.len);
        assert_memory_equal(limn_buf_text(&stream), limn_buf_text(&whole), whole.len);
    }
    limn_buf_deinit(&text);
    limn_buf_deinit(&nfc);
    limn_buf_deinit(&whole);
    limn_buf_deinit(&stream);
    limn_ids_deinit(&ids);
    limn_tokenizer_free(&t);
}

static void check_decode(const limn_tokenizer *t, const char *text, const char *want) {
    limn_ids ids;
    limn_buf out;
    limn_err err = {0};
    limn_ids_init(&ids, 1000);
    limn_buf_init(&out, 10000);
    assert_int_equal(limn_tokenizer_encode(t, &ids, text, strlen(text), all, &err), LIMN_OK);
    assert_int_equal(
        limn_tokenizer_decode(t, &out, ids.data, ids.len, LIMN_DECODE_SKIP_SPECIAL, &err), LIMN_OK);
    assert_string_equal(limn_buf_text(&out), want);
    limn_ids_deinit(&ids);
    limn_buf_deinit(&out);
}

static void test_decode_kinds(void **state) {
    limn_tokenizer *t = NULL;
    assert_int_equal(limn_tokenizer_new_clip(&t, NULL), LIMN_OK);
    check_decode(t, "A  photo of a CAT's", "a photo of a cat 's"); /* as transformers prints it */
    limn_tokenizer_free(&t);
    t = load("tiny_llama.json");
    check_decode(t, "the  lighthouse \xF0\x9F\xAB\xA0!", "the  lighthouse \xF0\x9F\xAB\xA0!");
    limn_tokenizer_free(&t);
    t = load("tiny_bpe.json");
    limn_buf out;
    limn_err err = {0};
    limn_buf_init(&out, 100);
    /* Half of a character, then something else: one replacement character. */
    int32_t half = limn_tokenizer_find(t, "\xC3\xB0"), a = limn_tokenizer_find(t, "a"); /* F0 */
    assert_true(half >= 0 && a >= 0);
    int32_t ids[] = {half, a, half};
    assert_int_equal(limn_tokenizer_decode(t, &out, ids, 3, 0, &err), LIMN_OK);
    assert_string_equal(limn_buf_text(&out), "\xEF\xBF\xBD"
                                             "a\xEF\xBF\xBD");
    ids[1] = 1 << 20;
    assert_int_equal(limn_tokenizer_decode(t, &out, ids, 3, 0, &err), LIMN_E_VALUE);
    limn_buf_deinit(&out);
    limn_tokenizer_free(&t);
}

/* ---- merging ---- */

static void test_scan_equals_heap(void **state) {
    limn_merges merges = {0};
    uint64_t r = 5;
    assert_int_equal(limn_merges_reserve(&merges, 4000, NULL), LIMN_OK);
    for (uint32_t i = 0; i < 3000; i++) {
        limn_merge m = {(int32_t)below(&r, 40), (int32_t)below(&r, 40), (int32_t)below(&r, 40),
                        (uint32_t)below(&r, 50)};
        limn_merges_add(&merges, &m);
    }
    limn_bpe_rules rules = {.merges = &merges};
    for (int round = 0; round < 20000; round++) {
        limn_bpe_scratch a = {0}, b = {.heap_only = true};
        size_t n = 1 + below(&r, 24);
        for (size_t i = 0; i < n; i++) {
            int32_t id = (int32_t)below(&r, 40);
            limn_bpe_add_symbol(&a, id, i, 1);
            limn_bpe_add_symbol(&b, id, i, 1);
        }
        limn_bpe_merge(&a, &rules, "");
        limn_bpe_merge(&b, &rules, "");
        for (int32_t i = 0; i >= 0; i = a.symbol[i].next) {
            assert_int_equal(a.symbol[i].id, b.symbol[i].id);
            assert_int_equal(a.symbol[i].next, b.symbol[i].next);
        }
        limn_bpe_scratch_deinit(&a);
        limn_bpe_scratch_deinit(&b);
    }
    limn_merges_deinit(&merges);
}

/* ---- hostile ---- */

static void test_long_text(void **state) {
    static const char *const fills[] = {"a",
                                        " ",
                                        "\n",
                                        "ab",
                                        "'",
                                        "\xCC\xA3\xCC\x87",
                                        "0",
                                        "\xE4\xB8\xAD",
                                        "<|",
                                        "\xFF",
                                        "\xF0\x9F",
                                        " a",
                                        "a\xCC\x87\xCC\xA3",
                                        "\t \n"};
    enum { BIG = 1 << 18 };
    limn_tokenizer *list[4] = {load("tiny_bpe.json"), load("tiny_llama.json"),
                               load("tiny_unigram.json"), NULL};
    char *text = malloc(BIG);
    assert_int_equal(limn_tokenizer_new_clip(&list[3], NULL), LIMN_OK);
    for (size_t f = 0; f < sizeof fills / sizeof fills[0]; f++) {
        size_t len = strlen(fills[f]);
        for (size_t i = 0; i < BIG; i++) text[i] = fills[f][i % len];
        for (int k = 0; k < 4; k++) {
            limn_ids ids;
            limn_err err = {0};
            limn_ids_init(&ids, 4 * BIG);
            if (limn_tokenizer_encode(list[k], &ids, text, BIG, all, &err) != LIMN_OK)
                fail_msg("fill %zu, tokenizer %d: %s", f, k, err.text);
            limn_ids_deinit(&ids);
        }
    }
    limn_ids ids;
    limn_err err = {0};
    limn_ids_init(&ids, 100);
    assert_int_equal(limn_tokenizer_encode(list[0], &ids, text, BIG, 0, &err), LIMN_E_LIMIT);
    limn_ids_deinit(&ids);
    for (int k = 0; k < 4; k++) limn_tokenizer_free(&list[k]);
    free(text);
}

static void test_bad_json(void **state) {
    static const struct {
        const char *text;
        limn_status st;
    } cases[] = {
        {"", LIMN_E_FORMAT},
        {"[]", LIMN_E_FORMAT},
        {"{}", LIMN_E_FORMAT},
        {"{\"model\": {}}", LIMN_E_FORMAT},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": []}} x",
         LIMN_E_FORMAT},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": -1}, \"merges\": []}}", LIMN_E_FORMAT},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 99999999}, \"merges\": []}}",
         LIMN_E_FORMAT},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 1e3}, \"merges\": []}}",
         LIMN_E_FORMAT},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 0}, \"merges\": []}}",
         LIMN_E_FORMAT},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"\\ud800\": 0}, \"merges\": []}}",
         LIMN_E_FORMAT},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": [\"a b\"]}}",
         LIMN_E_FORMAT},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": [\"a\"]}}",
         LIMN_E_FORMAT},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": [[\"a\"]]}}",
         LIMN_E_FORMAT},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}}}", LIMN_E_FORMAT},
        {"{\"model\": {\"type\": \"WordPiece\", \"vocab\": {\"a\": 0}}}", LIMN_E_UNSUPPORTED},
        {"{\"normalizer\": {\"type\": \"Odd\"}, \"model\": {\"vocab\": {\"a\": 0}, \"merges\": "
         "[]}}",
         LIMN_E_UNSUPPORTED},
        {"{\"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"Regex\": \"(\"}, \"behavior\": "
         "\"Isolated\"}, \"model\": {\"vocab\": {\"a\": 0}, \"merges\": []}}",
         LIMN_E_FORMAT},
        {"{\"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"Regex\": \"[a&&b]\"}, "
         "\"behavior\": "
         "\"Isolated\"}, \"model\": {\"vocab\": {\"a\": 0}, \"merges\": []}}",
         LIMN_E_UNSUPPORTED},
        {"{\"added_tokens\": [{\"id\": 5000000, \"content\": \"x\"}], \"model\": {\"vocab\": "
         "{\"a\": 0}, "
         "\"merges\": []}}",
         LIMN_E_FORMAT},
        {"{\"model\": {\"type\": \"Unigram\", \"unk_id\": 7, \"vocab\": [[\"a\", -1.0]]}}",
         LIMN_E_FORMAT},
        {"{\"model\": {\"type\": \"Unigram\", \"vocab\": [[\"a\", 1e999]]}}", LIMN_E_FORMAT},
        {"{\"model\": {\"type\": \"Unigram\", \"vocab\": []}}", LIMN_E_FORMAT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        limn_tokenizer *t = NULL;
        limn_err err = {0};
        limn_status st = limn_tokenizer_parse(&t, cases[i].text, strlen(cases[i].text), &err);
        if (st != cases[i].st) fail_msg("%s: status %d, %s", cases[i].text, st, err.text);
        assert_null(t);
        assert_true(err.text[0] != 0);
    }
    char deep[600] = "{\"model\":";
    for (size_t i = strlen(deep); i < 500; i++) deep[i] = '[';
    limn_tokenizer *t = NULL;
    assert_int_equal(limn_tokenizer_parse(&t, deep, 500, NULL), LIMN_E_FORMAT);
}

/* Every prefix and many single-byte changes of a small file: an answer, never a crash. */
static void test_damaged_json(void **state) {
    static const char good[] =
        "{\"added_tokens\":[{\"id\":4,\"content\":\"<s>\",\"special\":true,\"normalized\":false}],"
        "\"normalizer\":{\"type\":\"NFC\"},\"pre_tokenizer\":{\"type\":\"ByteLevel\"},\"decoder\":"
        "{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,"
        "\"\\u0120\":3},\"merges\":[\"a b\"]}}";
    uint64_t r = 1;
    for (int i = 0; i < 20000; i++) {
        char text[sizeof good];
        memcpy(text, good, sizeof good);
        size_t n = i < (int)sizeof good - 1 ? (size_t)i : sizeof good - 1;
        if (n == sizeof good - 1) text[below(&r, n)] = (char)below(&r, 256);
        limn_tokenizer *t = NULL;
        limn_ids ids;
        limn_ids_init(&ids, 100);
        if (limn_tokenizer_parse(&t, text, n, NULL) == LIMN_OK)
            assert_int_equal(limn_tokenizer_encode(t, &ids, "ab ba<s>", 8, all, NULL), LIMN_OK);
        limn_ids_deinit(&ids);
        limn_tokenizer_free(&t);
    }
}

static void test_no_memory(void **state) {
    static const char text[] = "the light\xCC\x81house <|im_start|> at dusk, oil painting";
    limn_fsmap *map = NULL;
    assert_int_equal(limn_fsmap_open(&map, golden("spm_bpe.model"), NULL), LIMN_OK);
    bool done = false;
    for (int64_t k = 0; k < 20000 && !done; k += 1 + k / 20) {
        limn_tokenizer *t = NULL;
        limn_ids ids;
        limn_ids_init(&ids, 1000);
        limn_mem_fail_after(k);
        limn_status st = limn_tokenizer_parse_spm(&t, map->data, map->size, NULL);
        if (st == LIMN_OK) st = limn_tokenizer_encode(t, &ids, text, sizeof text - 1, all, NULL);
        limn_mem_fail_after(-1);
        done = st == LIMN_OK;
        assert_true(done || st == LIMN_E_NOMEM || st == LIMN_E_LIMIT);
        limn_ids_deinit(&ids);
        limn_tokenizer_free(&t);
    }
    assert_true(done);
    limn_fsmap_unref(&map);
    limn_tokenizer *t = load("tiny_bpe.json");
    done = false;
    for (int64_t k = 0; k < 500 && !done; k++) {
        limn_ids ids;
        limn_ids_init(&ids, 1000);
        limn_mem_fail_after(k);
        limn_status st = limn_tokenizer_encode(t, &ids, text, sizeof text - 1, all, NULL);
        limn_mem_fail_after(-1);
        done = st == LIMN_OK;
        limn_ids_deinit(&ids);
    }
    assert_true(done);
    limn_tokenizer_free(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines_clip),
        cmocka_unit_test(test_lines_json),
        cmocka_unit_test(test_lines_qwen),
        cmocka_unit_test(test_lines_sentencepiece),
        cmocka_unit_test(test_folder),
        cmocka_unit_test(test_gguf),
        cmocka_unit_test(test_text_is_never_control),
        cmocka_unit_test(test_decode_lines),
        cmocka_unit_test(test_decode_kinds),
        cmocka_unit_test(test_scan_equals_heap),
        cmocka_unit_test(test_long_text),
        cmocka_unit_test(test_bad_json),
        cmocka_unit_test(test_damaged_json),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
