/* SPDX-License-Identifier: MIT */
/* param: the table's own rules, ranges, and command line -> JSON -> text identity. */
#include <fcntl.h>
#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include <jansson.h>

#include "param/app.h"
#include "param/gen.h"
#include "param/seeing.h"

static limn_params *new_gen(void) {
    limn_params *p;
    assert_int_equal(limn_params_new(&p, LIMN_PARAMS_GEN, NULL), LIMN_OK);
    return p;
}

/* ---- the table ---- */

static size_t field_size(const limn_param *p) {
    switch (p->type) {
    case LIMN_TYPE_INT:
    case LIMN_TYPE_BYTES: return sizeof(int64_t);
    case LIMN_TYPE_REAL: return sizeof(double);
    case LIMN_TYPE_BOOL: return sizeof(bool);
    case LIMN_TYPE_ENUM: return sizeof(int);
    case LIMN_TYPE_TEXT: return sizeof(char *);
    case LIMN_TYPE_LIST: return sizeof(limn_texts);
    }
    return 0;
}

/* Every field of the struct belongs to exactly one row; only alignment gaps are uncovered. */
static void check_coverage(const limn_param_table *t) {
    unsigned char *used = calloc(1, t->size);
    memset(used, 1, sizeof(limn_params));
    for (int i = 0; i < t->count; i++)
        for (size_t k = 0; k < field_size(&t->rows[i]); k++) {
            assert_int_equal(used[t->rows[i].offset + k], 0);
            used[t->rows[i].offset + k] = 1;
        }
    for (size_t at = 0, gap = 0; at < t->size; at++) {
        gap = used[at] ? 0 : gap + 1;
        assert_true(gap < 8);
    }
    free(used);
}

static void check_names(const limn_param_table *t, const limn_param_table *other) {
    for (int i = 0; i < t->count; i++) {
        const limn_param *p = &t->rows[i];
        assert_ptr_equal(limn_param_find(t, p->name), p);
        if (p->cli) assert_ptr_equal(limn_param_find(t, p->cli), p);
        assert_null(limn_param_find(other, p->name));
        for (const char *a = p->aliases; a; a = strchr(a, '|') ? strchr(a, '|') + 1 : NULL) {
            char word[64];
            snprintf(word, sizeof word, "%.*s", (int)strcspn(a, "|"), a);
            assert_ptr_equal(limn_param_find(t, word), p);
        }
        for (int k = 0; k < i; k++) {
            if (p->cli_short) assert_int_not_equal(p->cli_short, t->rows[k].cli_short);
            if (p->png && t->rows[k].png) assert_string_not_equal(p->png, t->rows[k].png);
        }
        for (int k = 0; p->cli_short && k < other->count; k++)
            assert_int_not_equal(p->cli_short, other->rows[k].cli_short);
        assert_non_null(p->group);
        assert_non_null(p->help);
        assert_true(p->help[strlen(p->help) - 1] != '.');
    }
}

static void test_table_rules(void **state) {
    (void)state;
    check_coverage(&limn_gen_table);
    check_coverage(&limn_app_table);
    check_coverage(&limn_seeing_table);
    check_names(&limn_gen_table, &limn_app_table);
    check_names(&limn_app_table, &limn_gen_table);
    check_names(&limn_seeing_table, &limn_app_table);
    check_names(&limn_app_table, &limn_seeing_table);
    assert_true(limn_gen_table.count <= LIMN_PARAM_MAX);
}

/* ---- values ---- */

static void expect_bad(const char *name, const char *value, limn_status want, const char *text) {
    limn_params *p = new_gen();
    limn_err err = {0};
    assert_int_equal(limn_params_set(p, name, value, LIMN_FROM_CLI, &err), want);
    if (!strstr(err.text, text)) fail_msg("%s=%s said: %s", name, value, err.text);
    assert_false(limn_params_is_set(p, name));
    limn_params_free(&p);
}

static void test_bad_values(void **state) {
    (void)state;
    expect_bad("steps", "0", LIMN_E_VALUE, "steps 0: must be a whole number from 1 to 1000");
    expect_bad("steps", "-1", LIMN_E_VALUE, "from 1 to 1000");
    expect_bad("steps", "2147483648", LIMN_E_VALUE, "from 1 to 1000");
    expect_bad("steps", "99999999999999999999", LIMN_E_VALUE, "from 1 to 1000");
    expect_bad("steps", "20.5", LIMN_E_VALUE, "whole number");
    expect_bad("steps", "", LIMN_E_VALUE, "whole number");
    expect_bad("width", "0", LIMN_E_VALUE, "multiple of 8 from 16 to 16384");
    expect_bad("width", "7", LIMN_E_VALUE, "multiple of 8");
    expect_bad("width", "513", LIMN_E_VALUE, "multiple of 8");
    expect_bad("cfg_scale", "nan", LIMN_E_VALUE, "number from 0 to 100");
    expect_bad("cfg_scale", "inf", LIMN_E_VALUE, "number from 0 to 100");
    expect_bad("cfg_scale", "1e999", LIMN_E_VALUE, "number from 0 to 100");
    expect_bad("cfg_scale", "0x10", LIMN_E_VALUE, "number from 0 to 100");
    expect_bad("cfg_scale", "7,5", LIMN_E_VALUE, "number from 0 to 100");
    expect_bad("strength", "1.01", LIMN_E_VALUE, "number from 0 to 1");
    expect_bad("rng", "dice", LIMN_E_VALUE, "must be cpu or cuda");
    expect_bad("tiny_vae", "maybe", LIMN_E_VALUE, "on or off");
    expect_bad("seed", "-2", LIMN_E_VALUE, "from 0 to");
    expect_bad("prompt", "a\xff", LIMN_E_VALUE, "UTF-8");
    expect_bad("prompt", "a\x1b[2J", LIMN_E_VALUE, "control");
    expect_bad("stepps", "3", LIMN_E_USAGE, "did you mean steps?");
    char *huge = malloc(10000001);
    memset(huge, 'a', 10000000);
    huge[10000000] = 0;
    expect_bad("prompt", huge, LIMN_E_LIMIT, "10000000 bytes of text, at most 262144");
    free(huge);
}

static void test_values(void **state) {
    (void)state;
    limn_params *p = new_gen();
    const limn_gen *g = limn_gen_of(p);
    assert_int_equal(g->steps, 20);
    assert_false(limn_params_is_set(p, "steps"));
    assert_int_equal(limn_params_set(p, "num-inference-steps", "8", LIMN_FROM_CLI, NULL), LIMN_OK);
    assert_int_equal(g->steps, 8);
    /* a weaker source does not replace a stronger one */
    assert_int_equal(limn_params_set(p, "steps", "30", LIMN_FROM_MODEL, NULL), LIMN_OK);
    assert_int_equal(g->steps, 8);
    assert_int_equal(limn_params_source(p, "steps"), LIMN_FROM_CLI);
    assert_int_equal(limn_params_unset(p, "steps", NULL), LIMN_OK);
    assert_int_equal(g->steps, 20);
    assert_int_equal(limn_params_set(p, "seed", "5", LIMN_FROM_CLI, NULL), LIMN_OK);
    assert_int_equal(limn_params_set(p, "seed", "random", LIMN_FROM_CLI, NULL), LIMN_OK);
    assert_false(limn_params_is_set(p, "seed"));
    assert_int_equal(limn_params_set(p, "rng", "NV", LIMN_FROM_CLI, NULL), LIMN_OK);
    assert_int_equal(g->rng, LIMN_GEN_RNG_CUDA);
    assert_int_equal(limn_params_set(p, "lora", "a:0.5", LIMN_FROM_FILE, NULL), LIMN_OK);
    assert_int_equal(limn_params_set(p, "lora", "b", LIMN_FROM_FILE, NULL), LIMN_OK);
    assert_int_equal(g->loras.count, 2);
    assert_int_equal(limn_params_set(p, "lora", "c", LIMN_FROM_CLI, NULL), LIMN_OK);
    assert_int_equal(g->loras.count, 1);
    assert_string_equal(limn_params_list_item(p, "loras", 0), "c");
    limn_params_free(&p);
    assert_int_equal(limn_params_new(&p, LIMN_PARAMS_APP, NULL), LIMN_OK);
    assert_int_equal(limn_params_set(p, "memory", "1.5GiB", LIMN_FROM_CLI, NULL), LIMN_OK);
    assert_int_equal(limn_app_of(p)->memory, 1610612736);
    assert_int_equal(limn_params_set(p, "memory", "6X", LIMN_FROM_CLI, NULL), LIMN_E_VALUE);
    limn_params_free(&p);
}

/* ---- command line ---- */

#define ARG(text) ((char[]){text}) /* argv is writable, string literals are not */

static void test_args(void **state) {
    (void)state;
    limn_params *sets[2];
    limn_err err = {0};
    char *argv[] = {ARG("a cat"),  ARG("--steps=5"),         ARG("-g7.5"),     ARG("-W"),
                    ARG("64"),     ARG("--no-metadata"),     ARG("--threads"), ARG("2"),
                    ARG("--json"), ARG("--negative-prompt"), ARG("-1 dog"),    ARG("--"),
                    ARG("--seed")};
    int rest;
    assert_int_equal(limn_params_new(&sets[0], LIMN_PARAMS_GEN, NULL), LIMN_OK);
    assert_int_equal(limn_params_new(&sets[1], LIMN_PARAMS_APP, NULL), LIMN_OK);
    assert_int_equal(limn_params_parse_args(sets, 2, 13, argv, &rest, &err), LIMN_OK);
    assert_int_equal(rest, 2);
    assert_string_equal(argv[0], "a cat");
    assert_string_equal(argv[1], "--seed");
    const limn_gen *g = limn_gen_of(sets[0]);
    assert_int_equal(g->steps, 5);
    assert_true(g->cfg_scale == 7.5);
    assert_int_equal(g->width, 64);
    assert_false(g->metadata);
    assert_string_equal(g->negative_prompt, "-1 dog");
    assert_int_equal(limn_app_of(sets[1])->threads, 2);
    assert_true(limn_app_of(sets[1])->json);
    char *bad[][2] = {{ARG("--stesp"), ARG("unknown option --stesp (did you mean --steps?)")},
                      {ARG("-Z"), ARG("unknown option -Z")},
                      {ARG("--steps"), ARG("--steps: needs a value")},
                      {ARG("--no-steps"), ARG("unknown option --no-steps")},
                      {ARG("--no-json=1"), ARG("--no-json: takes no value")},
                      {ARG("--steps=0"), ARG("--steps 0: must be a whole number from 1 to 1000")}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_not_equal(limn_params_parse_args(sets, 2, 1, bad[i], &rest, &err), LIMN_OK);
        if (!strstr(err.text, bad[i][1])) fail_msg("%s said: %s", bad[i][0], err.text);
    }
    limn_params_free(&sets[0]);
    limn_params_free(&sets[1]);
}

/* ---- JSON ---- */

static void expect_bad_json(const char *text, limn_status want, const char *says) {
    limn_params *p = new_gen();
    limn_err err = {0};
    assert_int_equal(limn_params_set(p, "steps", "9", LIMN_FROM_CLI, NULL), LIMN_OK);
    assert_int_equal(limn_params_parse_json(p, text, strlen(text), LIMN_FROM_API, &err), want);
    if (!strstr(err.text, says)) fail_msg("%s said: %s", text, err.text);
    assert_int_equal(limn_gen_of(p)->steps, 9); /* nothing half done */
    limn_params_free(&p);
}

static void test_json_errors(void **state) {
    (void)state;
    expect_bad_json("{\"steps\": 5, \"cfg\": 101}", LIMN_E_VALUE, "/cfg 101: must be a number");
    expect_bad_json("{\"steps\": 5, \"foo\": 1}", LIMN_E_VALUE, "/foo: there is no such parameter");
    expect_bad_json("{\"steps\": \"5\"}", LIMN_E_VALUE, "/steps: must be a whole number");
    expect_bad_json("{\"steps\": 5.5}", LIMN_E_VALUE, "/steps: must be a whole number");
    expect_bad_json("{\"loras\": [\"a\", 1]}", LIMN_E_VALUE, "/loras/1: must be a string");
    expect_bad_json("{\"steps\": 5, \"steps\": 6}", LIMN_E_FORMAT, "JSON line 1");
    expect_bad_json("[1]", LIMN_E_VALUE, "must be an object");
    expect_bad_json("{\"prompt\": \"a\\u0000b\"}", LIMN_E_FORMAT, "JSON line 1");
    expect_bad_json("{", LIMN_E_FORMAT, "JSON line 1");
}

static void test_schema_and_page(void **state) {
    (void)state;
    for (int kind = 0; kind < LIMN_PARAMS_KINDS; kind++) {
        char *text, *values;
        limn_params *p;
        assert_int_equal(limn_params_schema(&text, (limn_params_kind)kind, NULL, NULL), LIMN_OK);
        json_t *schema = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
        assert_non_null(schema);
        json_t *properties = json_object_get(schema, "properties");
        assert_int_equal(json_object_size(properties), limn_params_count((limn_params_kind)kind));
        assert_int_equal(limn_params_new(&p, (limn_params_kind)kind, NULL), LIMN_OK);
        assert_int_equal(limn_params_format_json(&values, p, true, NULL), LIMN_OK);
        json_t *all = json_loads(values, JSON_REJECT_DUPLICATES, NULL);
        assert_int_equal(json_object_size(all), json_object_size(properties));
        json_decref(all);
        json_decref(schema);
        limn_text_free(&text);
        limn_text_free(&values);
        limn_params_free(&p);
    }
}

/* docs/PARAMETERS.md is what the tables say (make docs). */
static void test_page_is_fresh(void **state) {
    (void)state;
    char path[1024], *text;
    const char *dir = getenv("LIMN_DOCS_DIR");
    assert_non_null(dir);
    snprintf(path, sizeof path, "%s/PARAMETERS.md", dir);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    char *file = calloc(1, 1 << 20);
    assert_true(fread(file, 1, (1 << 20) - 1, f) > 0);
    fclose(f);
    assert_int_equal(limn_params_markdown(&text, NULL), LIMN_OK);
    if (strcmp(file, text) != 0) fail_msg("docs/PARAMETERS.md is stale: make docs");
    limn_text_free(&text);
    free(file);
}

/* ---- identity ---- */

static uint64_t random_next(uint64_t *s) {
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s * 2685821657736338717u;
}

static const char *const pieces[] = {"a cat",
                                     "\n",
                                     "Negative prompt:",
                                     " ",
                                     ", ",
                                     "Steps: 20, Sampler: x, Seed: 1",
                                     "\"",
                                     "\\",
                                     "(word:1.3)",
                                     "\xc3\xa9",
                                     "\xe2\x9c\xa8",
                                     "\t",
                                     "BREAK",
                                     "<lora:x:0.8>",
                                     "App: limn",
                                     "[a|b]",
                                     "{",
                                     "Prompt: \"",
                                     ":",
                                     "  ",
                                     "\r\n",
                                     "0",
                                     "ends with \\"};

static void random_text(char *out, size_t size, uint64_t *s) {
    size_t n = random_next(s) % 8, at = 0;
    out[0] = 0;
    for (size_t i = 0; i < n; i++) {
        const char *p = pieces[random_next(s) % (sizeof pieces / sizeof pieces[0])];
        if (at + strlen(p) + 1 > size) break;
        memcpy(out + at, p, strlen(p) + 1);
        at += strlen(p);
    }
}

static void random_value(char *out, size_t size, const limn_param *p, uint64_t *s) {
    double share = (double)(random_next(s) >> 11) / 9007199254740992.0;
    int n = 0;
    switch (p->type) {
    case LIMN_TYPE_INT: {
        int64_t step = p->multiple > 1 ? p->multiple : 1;
        int64_t v = (int64_t)(p->min + share * (p->max - p->min)) / step * step;
        snprintf(out, size, "%lld", (long long)(v < p->min ? v + step : v));
        break;
    }
    case LIMN_TYPE_BYTES: snprintf(out, size, "%lld", (long long)(share * p->max)); break;
    case LIMN_TYPE_REAL: snprintf(out, size, "%.17g", p->min + share * (p->max - p->min)); break;
    case LIMN_TYPE_BOOL: snprintf(out, size, share < 0.5 ? "on" : "off"); break;
    case LIMN_TYPE_ENUM:
        while (p->words[n].name) n++;
        snprintf(out, size, "%s", p->words[(int)(share * n)].name);
        break;
    case LIMN_TYPE_TEXT:
    case LIMN_TYPE_LIST: random_text(out, size, s); break;
    }
}

/* Fills some rows through the command line. */
static void random_fill(limn_params *p, uint64_t *s) {
    const limn_param_table *t = limn_param_table_get(p->kind);
    for (int i = 0; i < t->count; i++) {
        const limn_param *row = &t->rows[i];
        int times = row->type == LIMN_TYPE_LIST ? (int)(random_next(s) % 4) : 1;
        if (random_next(s) % 2) continue;
        for (int k = 0; k < times; k++) {
            char value[512], option[640], *argv[] = {option};
            int rest;
            limn_err err = {0};
            random_value(value, sizeof value, row, s);
            snprintf(option, sizeof option, "--%s=%s", row->cli ? row->cli : row->name, value);
            if (limn_params_parse_args(&p, 1, 1, argv, &rest, &err) != LIMN_OK)
                fail_msg("%s: %s", option, err.text);
        }
    }
}

static void expect_same(const limn_params *a, const limn_params *b, unsigned flags,
                        const char *how) {
    const limn_param_table *t = limn_param_table_get(a->kind);
    for (int i = 0; i < t->count; i++) {
        if ((t->rows[i].flags & flags) != flags) continue;
        if (!limn_param_equal(a, b, &t->rows[i])) fail_msg("%s changes %s", how, t->rows[i].name);
        if (a->source[i] != LIMN_FROM_DEFAULT && b->source[i] == LIMN_FROM_DEFAULT)
            fail_msg("%s loses that %s is set", how, t->rows[i].name);
    }
}

static void test_identity(void **state) {
    (void)state;
    uint64_t s = 88172645463325252u;
    for (int round = 0; round < 3000; round++) {
        limn_params *a = new_gen(), *b = new_gen(), *c = new_gen();
        limn_err err = {0};
        char *json, *text, *unknown;
        random_fill(a, &s);
        assert_int_equal(limn_params_format_json(&json, a, false, NULL), LIMN_OK);
        if (limn_params_parse_json(b, json, strlen(json), LIMN_FROM_API, &err) != LIMN_OK)
            fail_msg("%s\n%s", err.text, json);
        expect_same(a, b, 0, "JSON");
        expect_same(b, a, 0, "JSON");
        assert_int_equal(limn_params_format_text(&text, b, NULL), LIMN_OK);
        if (limn_params_parse_text(c, text, strlen(text), LIMN_FROM_FILE, &unknown, &err) !=
            LIMN_OK)
            fail_msg("%s\n%s", err.text, text);
        if (unknown) fail_msg("own text has unknown keys: %s\n%s", unknown, text);
        expect_same(a, c, LIMN_P_META, "text");
        limn_text_free(&json);
        limn_text_free(&text);
        limn_params_free(&a);
        limn_params_free(&b);
        limn_params_free(&c);
    }
}

/* A German desktop writes and reads the same numbers. */
static void test_locale(void **state) {
    (void)state;
    const char *found = setlocale(LC_ALL, "de_DE.UTF-8");
    limn_params *p = new_gen();
    char *json;
    assert_int_equal(limn_params_set(p, "cfg_scale", "7.5", LIMN_FROM_CLI, NULL), LIMN_OK);
    assert_int_equal(limn_params_format_json(&json, p, false, NULL), LIMN_OK);
    assert_string_equal(json, "{\"cfg_scale\": 7.5}");
    limn_text_free(&json);
    limn_params_free(&p);
    setlocale(LC_ALL, "C");
    if (!found) print_message("(no German locale here: checked in the C locale only)\n");
}

/* Every allocation fails once: an error each time, nothing leaked, nothing half done. */
static void test_no_memory(void **state) {
    (void)state;
    static const char text[] = "a cat\nNegative prompt: dog\nSteps: 5, Sampler: Euler a, Seed: 7, "
                               "Size: 64x64, LoRAs: \"[\\\"a\\\"]\", Foo: 1";
    bool done = false;
    for (int n = 0; n < 2000 && !done; n++) {
        limn_params *p = NULL, *q = NULL;
        char *out = NULL, *json = NULL;
        limn_mem_fail_after(n);
        done =
            limn_params_new(&p, LIMN_PARAMS_GEN, NULL) == LIMN_OK &&
            limn_params_parse_text(p, text, strlen(text), LIMN_FROM_FILE, NULL, NULL) == LIMN_OK &&
            limn_params_format_text(&out, p, NULL) == LIMN_OK &&
            limn_params_format_json(&json, p, true, NULL) == LIMN_OK &&
            limn_params_copy(&q, p, NULL) == LIMN_OK;
        limn_mem_fail_after(-1);
        limn_text_free(&out);
        limn_text_free(&json);
        limn_params_free(&p);
        limn_params_free(&q);
    }
    assert_true(done);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table_rules),   cmocka_unit_test(test_bad_values),
        cmocka_unit_test(test_values),        cmocka_unit_test(test_args),
        cmocka_unit_test(test_json_errors),   cmocka_unit_test(test_schema_and_page),
        cmocka_unit_test(test_page_is_fresh), cmocka_unit_test(test_identity),
        cmocka_unit_test(test_locale),        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
