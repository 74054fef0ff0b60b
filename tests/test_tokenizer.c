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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines_clip),
        cmocka_unit_test(test_lines_json),
        cmocka_unit_test(test_lines_qwen),
        cmocka_unit_test(test_lines_sentencepiece),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
