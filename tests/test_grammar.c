/* SPDX-License-Identifier: MIT */
/*
 * Constrained decoding: what a grammar accepts, that masks and acceptance agree, that random walks
 * along the masks end in JSON that satisfies the schema, and that bad grammars are refused.
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

#include "base/clock.h"
#include "base/mem.h"
#include "text/grammar.h"

static limn_tokenizer *tok;
static limn_token_trie *trie;
static int32_t stop;

static int setup(void **state) {
    char path[1024];
    const char *dir = getenv("LIMN_GOLDEN_DIR");
    snprintf(path, sizeof path, "%s/text/tiny_bpe.json", dir ? dir : "tests/golden");
    assert_int_equal(limn_tokenizer_load(&tok, path, NULL), LIMN_OK);
    assert_int_equal(limn_token_trie_new(&trie, tok, NULL), LIMN_OK);
    stop = limn_tokenizer_find(tok, "<|im_end|>");
    assert_true(stop >= 0);
    return 0;
}

static int teardown(void **state) {
    limn_token_trie_free(&trie);
    limn_tokenizer_free(&tok);
    return 0;
}

static limn_grammar *schema(const char *json, limn_json_space space) {
    limn_grammar *g = NULL;
    limn_err err = {0};
    limn_schema_options opt = {.space = space, .max_items = 5, .max_chars = 12};
    if (limn_grammar_parse_schema(&g, json, strlen(json), &opt, &err) != LIMN_OK)
        fail_msg("%s: %s", json, err.text);
    return g;
}

static limn_grammar *gbnf(const char *text) {
    limn_grammar *g = NULL;
    limn_err err = {0};
    if (limn_grammar_parse(&g, text, strlen(text), &err) != LIMN_OK) fail_msg("%s", err.text);
    return g;
}

static limn_constraint *walk(const limn_grammar *g) {
    limn_constraint *c = NULL;
    limn_err err = {0};
    if (limn_constraint_new(&c, g, trie, &stop, 1, &err) != LIMN_OK) fail_msg("%s", err.text);
    return c;
}

/* Whether the whole text belongs to the language. */
static bool matches(limn_constraint *c, const char *text) {
    limn_constraint_reset(c);
    return limn_constraint_accept_bytes(c, text, strlen(text), NULL) == LIMN_OK &&
           limn_constraint_is_complete(c);
}

/* Texts up to NULL, first those that match, after "!" those that do not. */
static void check_texts(limn_grammar *g, const char *name, const char *const *texts) {
    limn_constraint *c = walk(g);
    bool want = true;
    for (; *texts; texts++) {
        if (strcmp(*texts, "!") == 0)
            want = false;
        else if (matches(c, *texts) != want)
            fail_msg("%s: %s should %smatch", name, *texts, want ? "" : "not ");
    }
    limn_constraint_free(&c);
    limn_grammar_free(&g);
}

static void test_gbnf(void **state) {
    static const struct {
        const char *grammar;
        const char *texts[16];
    } cases[] = {
        {"root ::= \"a\" | \"b\" \"c\"", {"a", "bc", "!", "", "b", "ab", "abc"}},
        {"root ::= [a-c]+ \"\\n\"?", {"a", "abc\n", "!", "", "\n", "d"}},
        {"root ::= (x y)* # comment\nx ::= \"1\"\ny ::= \"2\"", {"", "12", "1212", "!", "1", "21"}},
        {"root ::= item{2,3}\nitem ::= [^0-9]",
         {"ab", "\xC3\xA9z\xF0\x9F\x99\x82", "!", "a", "abcd", "a1"}},
        {"root ::= \"(\" root? \")\"", {"()", "((()))", "!", "(", ")(", "(()"}},
        {"root ::= [\\u00e9-\\u0800] \"\\x41\"",
         {"\xC3\xA9"
          "A",
          "\xE0\xA0\x80"
          "A",
          "!",
          "\xC3\xA8"
          "A",
          "\xE0\xA0\x81"
          "A"}},
        {"root ::=\n  \"a\"\n  | \"b\"\n  | (\n \"c\"\n \"d\" )\n", {"a", "b", "cd", "!", "c"}},
        {"root ::= . .", {"ab", "\xE4\xB8\xAD\n", "!", "a", "\xE4\xB8"}},
        {"root ::= \"a\"{0} \"b\"{2} \"c\"{1,}", {"bbc", "bbccc", "!", "abbc", "bc", "bb"}},
        {"root ::= (\"a\"{2}){2}", {"aaaa", "!", "aa", "aaa", "aaaaa"}},
        {"root ::= ((\"a\" | \"b\")? \"c\")*", {"", "c", "acbc", "!", "a", "ab"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        check_texts(gbnf(cases[i].grammar), cases[i].grammar, cases[i].texts);
}

static void test_schema_texts(void **state) {
    static const struct {
        const char *schema;
        const char *texts[20];
    } cases[] = {
        {"{\"type\":\"string\"}",
         {"\"\"", "\"a\\n\\u00e9\xC3\xA9\"", "!", "a", "\"\n\"", "\"\\x\"", "\"", "\"\\udc00\""}},
        {"{\"type\":\"string\",\"minLength\":2,\"maxLength\":3}",
         {"\"ab\"", "\"\xE4\xB8\xAD\xE6\x96\x87\\n\"", "!", "\"a\"", "\"abcd\""}},
        {"{\"enum\":[\"a\",1,null,{\"x\":[true]}]}",
         {"\"a\"", "1", "null", "{\"x\":[true]}", "!", "a", "2", "{}"}},
        {"{\"const\":\"\\u00e9\\\"\"}", {"\"\xC3\xA9\\\"\"", "!", "\"\""}},
        {"{\"type\":[\"boolean\",\"null\"]}", {"true", "false", "null", "!", "0", "\"true\""}},
        {"{\"type\":\"integer\"}",
         {"0", "-5", "123456789012345", "!", "01", "1.0", "-", "+1", "1e3"}},
        {"{\"type\":\"number\"}", {"0", "-5.25", "1e10", "2.5E-3", "!", ".5", "1.", "00", "NaN"}},
        {"{\"type\":\"array\",\"items\":{\"type\":\"integer\"},\"minItems\":1,\"maxItems\":3}",
         {"[1]", "[ 1, 2,3 ]", "[\n  1,\n  2\n]", "!", "[]", "[1,2,3,4]", "[1,]", "[1 2]"}},
        {"{\"type\":\"array\"}",
         {"[]", "[1,\"a\",[{}],null,{\"a\":1}]", "!", "[1,2,3,4,5,6]", "[,]"}},
        {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":{\"type\":"
         "\"boolean\"},"
         "\"c\":{\"type\":\"null\"}},\"required\":[\"b\"]}",
         {"{\"b\":true}", "{\"a\":1,\"b\":true}", "{ \"a\": 1, \"b\": false, \"c\": null }",
          "{\"b\":true,\"c\":null}", "!", "{}", "{\"a\":1}", "{\"b\":true,\"a\":1}",
          "{,\"b\":true}", "{\"b\":true,}", "{\"b\":true,\"d\":1}"}},
        {"{\"type\":\"object\",\"properties\":{\"a\":{},\"b\":{}}}",
         {"{}", "{\"a\":1}", "{\"b\":[]}", "{\"a\":{},\"b\":\"x\"}", "!", "{\"b\":1,\"a\":1}",
          "{,}"}},
        {"{\"type\":\"object\",\"additionalProperties\":{\"type\":\"integer\"}}",
         {"{}", "{\"x\":1}", "{\"x\":1,\"y\":2}", "!", "{\"x\":\"y\"}", "{1:1}"}},
        {"{\"type\":\"object\",\"additionalProperties\":false}", {"{}", "{ }", "!", "{\"a\":1}"}},
        {"{\"anyOf\":[{\"type\":\"integer\"},{\"type\":\"string\",\"maxLength\":1}]}",
         {"12", "\"a\"", "!", "\"ab\"", "null"}},
        {"{\"$defs\":{\"n\":{\"type\":\"object\",\"properties\":{\"v\":{\"type\":\"integer\"},"
         "\"next\":"
         "{\"anyOf\":[{\"$ref\":\"#/$defs/"
         "n\"},{\"type\":\"null\"}]}},\"required\":[\"v\",\"next\"]}},"
         "\"$ref\":\"#/$defs/n\"}",
         {"{\"v\":1,\"next\":null}", "{\"v\":1,\"next\":{\"v\":2,\"next\":null}}", "!",
          "{\"v\":1}"}},
        {"{\"type\":\"string\",\"pattern\":\"^[A-Z]{2}-\\\\d+$\"}",
         {"\"AB-1\"", "\"ZZ-123\"", "!", "\"A-1\"", "\"AB-\"", "\"xAB-1\"", "\"AB-1x\""}},
        {"{\"type\":\"string\",\"pattern\":\"ab|c\"}",
         {"\"ab\"", "\"xxcx\"", "\"abab\"", "!", "\"a\"", "\"\"", "\"xyz\""}},
        {"{\"type\":\"string\",\"pattern\":\"^(a|b\\\"|\\\\\\\\)*$\"}",
         {"\"\"", "\"ab\\\"\"", "\"\\\\\\\\\"", "!", "\"b\"", "\"\"\""}},
        {"{\"type\":\"array\",\"prefixItems\":[{\"type\":\"integer\"},{\"type\":\"string\"}]}",
         {"[1,\"a\"]", "[ 1 , \"\" ]", "!", "[1]", "[\"a\",1]"}},
        {"true", {"1", "{\"a\":[1,{\"b\":null}]}", "!", "", "x"}},
        {"{\"type\":\"integer\",\"minimum\":0,\"exclusiveMaximum\":1000}",
         {"0", "7", "999", "!", "-1", "1000", "00"}},
        {"{\"type\":\"number\",\"minimum\":0,\"maximum\":1}",
         {"0", "1", "0.5", "0.999999", "1.0", "0.0", "!", "1.1", "-0.1", "2", "1.000001"}},
        {"{\"type\":\"number\",\"exclusiveMinimum\":-1.5,\"maximum\":12.25}",
         {"-1.49", "-1", "0", "-0.5", "12.25", "12.2", "11.999", "!", "-1.5", "12.251", "12.3",
          "13"}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        check_texts(schema(cases[i].schema, LIMN_JSON_PRETTY), cases[i].schema, cases[i].texts);
}

/* Every whole number near the bounds, and decimals on a grid. */
static void test_number_ranges(void **state) {
    static const int bounds[][2] = {{0, 0},      {-5, 5},   {7, 7},     {10, 99},  {9, 101},
                                    {-250, -17}, {-1, 300}, {123, 277}, {-9, -9},  {0, 1000},
                                    {99, 100},   {-100, 0}, {1, 9},     {55, 155}, {-300, 300}};
    char text[160], number[32];
    for (size_t i = 0; i < sizeof bounds / sizeof bounds[0]; i++) {
        int lo = bounds[i][0], hi = bounds[i][1];
        snprintf(text, sizeof text, "{\"type\":\"integer\",\"minimum\":%d,\"maximum\":%d}", lo, hi);
        limn_grammar *g = schema(text, LIMN_JSON_COMPACT);
        limn_constraint *c = walk(g);
        for (int v = -1100; v <= 1100; v++) {
            snprintf(number, sizeof number, "%d", v);
            if (matches(c, number) != (v >= lo && v <= hi)) fail_msg("%s: %s", text, number);
        }
        limn_constraint_free(&c);
        limn_grammar_free(&g);
        double a = lo / 8.0, b = hi / 8.0;
        snprintf(text, sizeof text, "{\"type\":\"number\",\"minimum\":%.3f,\"maximum\":%.3f}", a,
                 b);
        g = schema(text, LIMN_JSON_COMPACT);
        c = walk(g);
        for (int v = -2500; v <= 2500; v++) {
            double x = v / 64.0;
            snprintf(number, sizeof number, "%.6f", x);
            if (v < 0 && x == 0) continue;
            if (matches(c, number) != (x >= a && x <= b)) fail_msg("%s: %s", text, number);
        }
        limn_constraint_free(&c);
        limn_grammar_free(&g);
    }
}

/* ---- walks ---- */

static uint64_t below(uint64_t *state, uint64_t n) {
    uint64_t z = *state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return (z ^ z >> 31) % n;
}

static int32_t pick(const uint64_t *mask, uint64_t *r) {
    size_t n = limn_tokenizer_count(tok), count = 0;
    for (size_t i = 0; i < n; i++) count += mask[i / 64] >> i % 64 & 1;
    assert_true(count > 0); /* never a dead end */
    size_t k = below(r, count);
    for (size_t i = 0; i < n; i++)
        if ((mask[i / 64] >> i % 64 & 1) && k-- == 0) return (int32_t)i;
    return -1;
}

/* A random text of the grammar; NULL when it was not complete after 400 tokens. */
static char *random_text(limn_constraint *c, uint64_t *r) {
    limn_ids ids;
    limn_buf out;
    limn_err err = {0};
    bool done = false;
    limn_ids_init(&ids, 1000);
    limn_buf_init(&out, 1 << 16);
    limn_constraint_reset(c);
    while (!done && ids.len < 400) {
        const uint64_t *mask;
        if (limn_constraint_mask(c, &mask, &err) != LIMN_OK) fail_msg("%s", err.text);
        int32_t id = pick(mask, r);
        assert_true(id == stop || !limn_tokenizer_is_added(tok, id));
        assert_int_equal(limn_constraint_accept(c, id, &err), LIMN_OK);
        done = id == stop;
        if (!done) limn_ids_add(&ids, id);
    }
    limn_tokenizer_decode(tok, &out, ids.data, ids.len, 0, &err);
    limn_ids_deinit(&ids);
    char *text = done ? limn_buf_take(&out) : NULL;
    limn_buf_deinit(&out);
    return text;
}

static void test_random_objects(void **state) {
    static const char text[] = "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\","
                               "\"maxLength\":8},\"box\":"
                               "{\"type\":\"array\",\"items\":{\"type\":\"integer\",\"minimum\":0,"
                               "\"maximum\":1000},\"minItems\":4,"
                               "\"maxItems\":4},\"score\":{\"type\":\"number\",\"minimum\":0,"
                               "\"maximum\":1},\"kind\":{\"enum\":"
                               "[\"cat\",\"dog\"]},\"more\":{\"type\":\"array\",\"items\":{\"$"
                               "ref\":\"#\"},\"maxItems\":1}},"
                               "\"required\":[\"name\",\"box\",\"kind\"]}";
    limn_grammar *g = schema(text, LIMN_JSON_PRETTY);
    limn_constraint *c = walk(g);
    uint64_t r = 3;
    int whole = 0;
    for (int i = 0; i < 60; i++) {
        char *s = random_text(c, &r);
        if (!s) continue;
        json_error_t je;
        json_t *o = json_loads(s, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &je);
        if (!o) fail_msg("%s: %s", s, je.text);
        const json_t *box = json_object_get(o, "box"), *score = json_object_get(o, "score");
        const char *kind = json_string_value(json_object_get(o, "kind"));
        assert_true(json_is_string(json_object_get(o, "name")));
        assert_int_equal(json_array_size(box), 4);
        for (size_t k = 0; k < 4; k++)
            assert_in_range(json_integer_value(json_array_get(box, k)), 0, 1000);
        assert_true(!strcmp(kind, "cat") || !strcmp(kind, "dog"));
        if (score) assert_true(json_number_value(score) >= 0 && json_number_value(score) <= 1);
        json_decref(o);
        limn_mem_free(s);
        whole++;
    }
    assert_true(whole > 30);
    limn_constraint_free(&c);
    limn_grammar_free(&g);
}

/* A bit of the mask is set exactly when the token's bytes lead on. */
static void test_mask_is_acceptance(void **state) {
    limn_grammar *g =
        schema("{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\"},\"b\":{}}}",
               LIMN_JSON_PRETTY);
    limn_constraint *c = walk(g), *d = walk(g);
    size_t n = limn_tokenizer_count(tok);
    uint64_t r = 9;
    for (int round = 0; round < 20; round++) {
        limn_buf prefix;
        limn_buf_init(&prefix, 1 << 16);
        limn_constraint_reset(c);
        for (uint64_t steps = below(&r, 30); steps > 0; steps--) {
            const uint64_t *mask;
            assert_int_equal(limn_constraint_mask(c, &mask, NULL), LIMN_OK);
            int32_t id = pick(mask, &r);
            if (id == stop) break;
            limn_text_view v = limn_tokenizer_bytes(tok, id);
            limn_buf_add(&prefix, v.data, v.len);
            assert_int_equal(limn_constraint_accept(c, id, NULL), LIMN_OK);
        }
        const uint64_t *mask;
        assert_int_equal(limn_constraint_mask(c, &mask, NULL), LIMN_OK);
        for (size_t i = 0; i < n; i++) {
            bool set = mask[i / 64] >> i % 64 & 1;
            limn_constraint_reset(d);
            assert_int_equal(
                limn_constraint_accept_bytes(d, limn_buf_text(&prefix), prefix.len, NULL), LIMN_OK);
            assert_int_equal(limn_constraint_accept(d, (int32_t)i, NULL) == LIMN_OK, set);
        }
        limn_buf_deinit(&prefix);
    }
    limn_constraint_free(&c);
    limn_constraint_free(&d);
    limn_grammar_free(&g);
}

/* ---- refusals ---- */

static void test_bad_schemas(void **state) {
    static const struct {
        const char *text;
        limn_status st;
    } cases[] = {
        {"", LIMN_E_FORMAT},
        {"{", LIMN_E_FORMAT},
        {"3", LIMN_E_VALUE},
        {"false", LIMN_E_VALUE},
        {"{\"type\":\"strin\"}", LIMN_E_VALUE},
        {"{\"type\":3}", LIMN_E_VALUE},
        {"{\"not\":{}}", LIMN_E_UNSUPPORTED},
        {"{\"type\":\"integer\",\"multipleOf\":2}", LIMN_E_UNSUPPORTED},
        {"{\"enum\":[]}", LIMN_E_VALUE},
        {"{\"type\":\"integer\",\"minimum\":5,\"maximum\":4}", LIMN_E_VALUE},
        {"{\"type\":\"integer\",\"minimum\":\"x\"}", LIMN_E_VALUE},
        {"{\"type\":\"string\",\"minLength\":5,\"maxLength\":4}", LIMN_E_VALUE},
        {"{\"type\":\"string\",\"maxLength\":1e9}", LIMN_E_VALUE},
        {"{\"type\":\"string\",\"pattern\":\"(\"}", LIMN_E_FORMAT},
        {"{\"type\":\"string\",\"pattern\":\"a(?=b)\"}", LIMN_E_UNSUPPORTED},
        {"{\"type\":\"string\",\"pattern\":\"[a\"}", LIMN_E_FORMAT},
        {"{\"type\":\"string\",\"pattern\":\"a{9999}\"}", LIMN_E_UNSUPPORTED},
        {"{\"$ref\":\"#/nowhere\"}", LIMN_E_VALUE},
        {"{\"$ref\":\"http://example.org/x\"}", LIMN_E_VALUE},
        {"{\"allOf\":[{},{}]}", LIMN_E_UNSUPPORTED},
        {"{\"anyOf\":[{}],\"enum\":[1]}", LIMN_E_UNSUPPORTED},
        {"{\"anyOf\":[{}],\"minLength\":1}", LIMN_E_UNSUPPORTED},
        {"{\"type\":\"object\",\"properties\":{\"a\":{}},\"required\":[\"b\"]}",
         LIMN_E_UNSUPPORTED},
        {"{\"type\":\"array\",\"items\":{\"type\":\"string\",\"maxLength\":100000},\"maxItems\":"
         "1000000}",
         LIMN_E_LIMIT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        limn_grammar *g = NULL;
        limn_err err = {0};
        limn_schema_options opt = {.space = LIMN_JSON_PRETTY};
        limn_status st =
            limn_grammar_parse_schema(&g, cases[i].text, strlen(cases[i].text), &opt, &err);
        if (st != cases[i].st) fail_msg("%s: status %d, %s", cases[i].text, st, err.text);
        assert_null(g);
        assert_true(err.text[0] != 0);
    }
}

static void test_bad_gbnf(void **state) {
    static const char *const bad[] = {"",
                                      "root",
                                      "root ::= x",
                                      "a ::= \"b\"",
                                      "root ::= \"open",
                                      "root ::= [a",
                                      "root ::= [b-a]",
                                      "root ::= (\"a\"",
                                      "root ::= \"a\")",
                                      "root ::= \"\\q\"",
                                      "root ::= \"a\"{3,2}",
                                      "root ::= \"a\"{99999}",
                                      "root ::= \"a\"\nroot ::= \"b\"",
                                      "root = \"a\"",
                                      "root ::= *"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        limn_grammar *g = NULL;
        limn_err err = {0};
        limn_status st = limn_grammar_parse(&g, bad[i], strlen(bad[i]), &err);
        if (st != LIMN_E_FORMAT) fail_msg("%s: status %d", bad[i], st);
        assert_null(g);
    }
}

/* Grammars that explode or go round without reading: an answer in bounded time and memory. */
static void test_explosive(void **state) {
    static const char *const texts[] = {
        "root ::= root \"a\" | \"b\"",
        "root ::= root root | \"a\"",
        "root ::= x x\nx ::= y?\ny ::= x x \"a\" | root",
        "root ::= (\"a\"*)*",
        "root ::= ((\"\" | \"a\")*)*",
        "root ::= (\"a\"? \"a\"? \"a\"? \"a\"? \"a\"? \"a\"? \"a\"? \"a\"?)* \"b\"",
        "root ::= (.* \"a\" .{200}) | (.* \"b\" .{200})",
        "root ::= ((\"a\"{100}){100}){100}",
        "root ::= root",
    };
    double start = limn_clock_now();
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        limn_grammar *g = NULL;
        limn_constraint *c = NULL;
        limn_err err = {0};
        limn_status st = limn_grammar_parse(&g, texts[i], strlen(texts[i]), &err);
        if (st == LIMN_OK) st = limn_constraint_new(&c, g, trie, &stop, 1, &err);
        for (int k = 0; k < 40 && st == LIMN_OK; k++) {
            const uint64_t *mask;
            st = limn_constraint_mask(c, &mask, &err);
            if (st == LIMN_OK) st = limn_constraint_accept_bytes(c, k % 3 ? "a" : "b", 1, &err);
        }
        assert_true(st == LIMN_OK || st == LIMN_E_LIMIT || st == LIMN_E_VALUE);
        limn_constraint_free(&c);
        limn_grammar_free(&g);
    }
    assert_true(limn_clock_now() - start < 120);
}

static void test_no_memory(void **state) {
    static const char text[] =
        "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"array\",\"items\":"
        "{\"type\":\"number\",\"minimum\":0.5,\"maximum\":70}},\"b\":{\"type\":"
        "\"string\",\"pattern\":\"^a+$\"}}}";
    bool done = false;
    for (int64_t k = 0; k < 100000 && !done; k += 1 + k / 50) {
        limn_grammar *g = NULL;
        limn_constraint *c = NULL;
        limn_token_trie *x = NULL;
        const uint64_t *mask;
        limn_schema_options opt = {.max_items = 2};
        limn_mem_fail_after(k);
        limn_status st = limn_token_trie_new(&x, tok, NULL);
        if (st == LIMN_OK) st = limn_grammar_parse_schema(&g, text, sizeof text - 1, &opt, NULL);
        if (st == LIMN_OK) st = limn_constraint_new(&c, g, x, &stop, 1, NULL);
        if (st == LIMN_OK) st = limn_constraint_accept_bytes(c, "{\"a\":[5", 7, NULL);
        if (st == LIMN_OK) st = limn_constraint_mask(c, &mask, NULL);
        limn_mem_fail_after(-1);
        done = st == LIMN_OK;
        assert_true(done || st == LIMN_E_NOMEM);
        limn_constraint_free(&c);
        limn_grammar_free(&g);
        limn_token_trie_free(&x);
    }
    assert_true(done);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gbnf),
        cmocka_unit_test(test_schema_texts),
        cmocka_unit_test(test_number_ranges),
        cmocka_unit_test(test_random_objects),
        cmocka_unit_test(test_mask_is_acceptance),
        cmocka_unit_test(test_bad_schemas),
        cmocka_unit_test(test_bad_gbnf),
        cmocka_unit_test(test_explosive),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
