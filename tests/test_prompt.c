/* SPDX-License-Identifier: MIT */
/*
 * Prompt syntax. The schedule and emphasis tables are the documented examples of A1111's
 * prompt_parser.py; chunks are checked against its rules by hand.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "text/prompt.h"
#include "text/styles.h"

static limn_prompt *parse(const char *text, const limn_prompt_options *opt) {
    limn_prompt *p = NULL;
    limn_err err = {0};
    if (limn_prompt_parse(&p, text, strlen(text), opt, &err) != LIMN_OK)
        fail_msg("%s: %s", text, err.text);
    return p;
}

static void expect_error(const char *text, size_t n, const limn_prompt_options *opt,
                         limn_status st) {
    limn_prompt *p = NULL;
    limn_err err = {0};
    assert_int_equal(limn_prompt_parse(&p, text, n, opt, &err), st);
    assert_null(p);
    assert_true(err.text[0] != 0);
}

static const char *text_of(const limn_prompt_part *part, size_t range) {
    return part->variants[part->ranges[range].variant].encoder[0];
}

/* ---- schedules ---- */

typedef struct schedule_case {
    const char *prompt;
    struct {
        int to;
        const char *text;
    } range[12];
} schedule_case;

static void check_schedules(const schedule_case *cases, size_t n, const limn_prompt_options *opt) {
    for (size_t i = 0; i < n; i++) {
        limn_prompt *p = parse(cases[i].prompt, opt);
        assert_int_equal(p->n_parts, 1);
        const limn_prompt_part *part = &p->parts[0];
        int from = 0;
        size_t k = 0;
        for (; k < 12 && cases[i].range[k].text; k++) {
            if (k >= part->n_ranges) fail_msg("%s: only %zu ranges", cases[i].prompt, k);
            if (strcmp(text_of(part, k), cases[i].range[k].text) != 0)
                fail_msg("%s: range %zu is \"%s\"", cases[i].prompt, k, text_of(part, k));
            assert_int_equal(part->ranges[k].from, from);
            assert_int_equal(part->ranges[k].to, cases[i].range[k].to);
            from = cases[i].range[k].to;
        }
        assert_int_equal(part->n_ranges, k);
        limn_prompt_free(&p);
    }
}

static void test_schedule_a1111(void **state) {
    static const schedule_case cases[] = {
        {"test", {{10, "test"}}},
        {"a [b:3]", {{3, "a "}, {10, "a b"}}},
        {"a [b: 3]", {{3, "a "}, {10, "a b"}}},
        {"a [[[b]]:2]", {{2, "a "}, {10, "a [[b]]"}}},
        {"[(a:2):3]", {{3, ""}, {10, "(a:2)"}}},
        {"a [b : c : 1] d", {{1, "a b  d"}, {10, "a  c  d"}}},
        {"a[b:[c:d:2]:1]e", {{1, "abe"}, {2, "ace"}, {10, "ade"}}},
        {"a [unbalanced", {{10, "a [unbalanced"}}},
        {"a [b:.5] c", {{5, "a  c"}, {10, "a b c"}}},
        {"a [{b|d{:.5] c", {{5, "a  c"}, {10, "a {b|d{ c"}}},
        {"((a][:b:c [d:3]", {{3, "((a][:b:c "}, {10, "((a][:b:c d"}}},
        {"[a|(b:1.1)]",
         {{1, "a"},
          {2, "(b:1.1)"},
          {3, "a"},
          {4, "(b:1.1)"},
          {5, "a"},
          {6, "(b:1.1)"},
          {7, "a"},
          {8, "(b:1.1)"},
          {9, "a"},
          {10, "(b:1.1)"}}},
        {"[fe|]male",
         {{1, "female"},
          {2, "male"},
          {3, "female"},
          {4, "male"},
          {5, "female"},
          {6, "male"},
          {7, "female"},
          {8, "male"},
          {9, "female"},
          {10, "male"}}},
        {"[fe|||]male",
         {{1, "female"}, {4, "male"}, {5, "female"}, {8, "male"}, {9, "female"}, {10, "male"}}},
        {"[a::4]b", {{4, "ab"}, {10, "b"}}},
        {"[a:b]", {{10, "[a:b]"}}},
        {"[a:b:c:3]", {{10, "[a:b:c:3]"}}},
        {"[a:b:99]", {{10, "a"}}},
        {"[a:b:0]", {{10, "b"}}},
        {"[a:b:-3]", {{10, "b"}}},
        {"[a:b:0.25]", {{2, "a"}, {10, "b"}}},
        {"\\[a:b:3\\] x", {{10, "\\[a:b:3\\] x"}}},
        {"", {{10, ""}}},
    };
    /* The brace case is about an unbalanced brace: no choice is made there. */
    check_schedules(cases, sizeof cases / sizeof cases[0], &(limn_prompt_options){.steps = 10});
}

static void test_schedule_second_pass(void **state) {
    /* A1111: g = get_learned_conditioning_prompt_schedules([p], 10, 10) */
    static const schedule_case cases[] = {
        {"a [b:.5] c", {{10, "a b c"}}},
        {"a [b:1.5] c", {{5, "a  c"}, {10, "a b c"}}},
        {"a [b:13] c", {{3, "a  c"}, {10, "a b c"}}},
    };
    check_schedules(cases, 3, &(limn_prompt_options){.steps = 10, .first_pass = 10});
}

static void test_variants_are_distinct(void **state) {
    limn_prompt *p = parse("[a|b|a]c", &(limn_prompt_options){.steps = 1000});
    assert_int_equal(p->parts[0].n_variants, 2);
    assert_int_equal(p->parts[0].ranges[p->parts[0].n_ranges - 1].to, 1000);
    limn_prompt_free(&p);
    assert_null(p);
}

/* ---- emphasis ---- */

typedef struct emphasis_case {
    const char *text;
    struct {
        const char *text;
        double weight;
    } piece[10];
} emphasis_case;

static void test_emphasis(void **state) {
    static const emphasis_case cases[] = {
        {"normal text", {{"normal text", 1}}},
        {"an (important) word", {{"an ", 1}, {"important", 1.1}, {" word", 1}}},
        {"(unbalanced", {{"unbalanced", 1.1}}},
        {"\\(literal\\]", {{"(literal]", 1}}},
        {"(unnecessary)(parens)", {{"unnecessaryparens", 1.1}}},
        {"a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
         {{"a ", 1},
          {"house", 1.573},
          {" ", 1.1},
          {"on", 1},
          {" a ", 1.1},
          {"hill", 0.55},
          {", sun, ", 1.1},
          {"sky", 1.4641},
          {".", 1.1}}},
        {"a:1.3) b", {{"a:1.3) b", 1}}},
        {"(a: +1.5 )", {{"a", 1.5}}},
        {"(a:-.5)", {{"a", -0.5}}},
        {"(a:1.2.3)", {{"a:1.2.3", 1.1}}},
        {"back\\slash\\\\ end\\", {{"backslash\\ end", 1}}},
        {"a) b]", {{"a) b]", 1}}},
        {"", {{"", 1}}},
        {"one BREAK two", {{"one", 1}, {NULL, 1}, {"two", 1}}},
        {"(one\n BREAK\ttwo:1.2)", {{"one", 1.2}, {NULL, 1}, {"two", 1.2}}},
        {"BREAKFAST aBREAK", {{"BREAKFAST aBREAK", 1}}},
        {"BREAK BREAK", {{NULL, 1}, {NULL, 1}}},
    };
    static const size_t counts[] = {1, 3, 1, 1, 1, 9, 1, 1, 1, 1, 1, 1, 1, 3, 3, 1, 2};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        limn_arena arena;
        limn_arena_init(&arena);
        limn_prompt_piece *p;
        size_t n;
        assert_int_equal(
            limn_prompt_emphasis(&p, &n, &arena, cases[i].text, strlen(cases[i].text), NULL),
            LIMN_OK);
        if (n != counts[i]) fail_msg("%s: %zu pieces", cases[i].text, n);
        for (size_t k = 0; k < n; k++) {
            const char *want = cases[i].piece[k].text;
            if (!want != !p[k].text || (want && strcmp(want, p[k].text) != 0))
                fail_msg("%s: piece %zu is \"%s\"", cases[i].text, k,
                         p[k].text ? p[k].text : "BREAK");
            double diff = p[k].weight - cases[i].piece[k].weight;
            if (diff > 1e-6 || diff < -1e-6) fail_msg("%s: weight %g", cases[i].text, p[k].weight);
        }
        limn_arena_deinit(&arena);
    }
}

/* ---- chunks ---- */

static limn_tokenizer *clip(void) {
    limn_tokenizer *t = NULL;
    assert_int_equal(limn_tokenizer_new_clip(&t, NULL), LIMN_OK);
    return t;
}

static size_t encode(limn_prompt_chunk **c, const limn_tokenizer *t, const char *text,
                     const limn_prompt_encode_options *opt) {
    size_t n = 0;
    limn_err err = {0};
    if (limn_prompt_encode(c, &n, t, text, strlen(text), opt, &err) != LIMN_OK)
        fail_msg("%s", err.text);
    return n;
}

static void test_chunks(void **state) {
    limn_tokenizer *t = clip();
    limn_prompt_chunk *c;
    limn_prompt_encode_options opt = {.pad = -1, .comma_backtrack = 20};
    assert_int_equal(encode(&c, t, "a (photo:1.5) of a cat", &opt), 1);
    static const int32_t want[] = {49406, 320, 1125, 539, 320, 2368, 49407, 49407};
    assert_memory_equal(c[0].ids, want, sizeof want);
    assert_int_equal(c[0].ids[76], 49407);
    assert_int_equal(c[0].used, 5);
    assert_true(c[0].weights[1] == 1.0f && c[0].weights[2] == 1.5f && c[0].weights[3] == 1.0f);
    limn_mem_free(c);
    opt.pad = 0;
    assert_int_equal(encode(&c, t, "a BREAK cat", &opt), 2);
    assert_int_equal(c[0].used, 1);
    assert_int_equal(c[0].ids[2], 49407);
    assert_int_equal(c[0].ids[3], 0);
    assert_int_equal(c[1].ids[1], 2368);
    limn_mem_free(c);
    assert_int_equal(encode(&c, t, "", &opt), 1);
    assert_int_equal(c[0].used, 0);
    assert_int_equal(c[0].ids[1], 49407);
    limn_mem_free(c);
    opt.no_emphasis = true;
    assert_int_equal(encode(&c, t, "(a) BREAK", &opt), 1);
    assert_int_equal(c[0].used, 4);
    limn_mem_free(c);
    opt.window = 4; /* a small model: two tokens a chunk */
    assert_int_equal(encode(&c, t, "a cat a", &opt), 2);
    assert_int_equal(c[0].ids[2], 2368);
    assert_int_equal(c[0].ids[3], 49407);
    assert_int_equal(c[1].ids[1], 320);
    assert_int_equal(c[1].ids[2], 49407);
    assert_int_equal(c[1].ids[3], 0);
    limn_mem_free(c);
    limn_tokenizer_free(&t);
}

/* "a, a, ..." of 74 tokens and five more: the comma rule moves the tail. */
static void test_chunk_comma(void **state) {
    limn_tokenizer *t = clip();
    limn_prompt_chunk *c;
    limn_buf b;
    limn_prompt_encode_options opt = {.pad = -1, .comma_backtrack = 20};
    limn_buf_init(&b, 4096);
    for (int i = 0; i < 35; i++) limn_buf_adds(&b, "cat, ");
    limn_buf_adds(&b, "dog dog dog dog dog dog dog dog");
    assert_int_equal(encode(&c, t, limn_buf_text(&b), &opt), 2);
    assert_int_equal(c[0].used, 70);
    assert_int_equal(c[0].ids[70], 267); /* the comma stays */
    assert_int_equal(c[1].used, 8);
    limn_mem_free(c);
    opt.comma_backtrack = 0;
    assert_int_equal(encode(&c, t, limn_buf_text(&b), &opt), 2);
    assert_int_equal(c[0].used, 75);
    assert_int_equal(c[1].used, 3);
    limn_mem_free(c);
    limn_buf_clear(&b);
    for (int i = 0; i < 76; i++) limn_buf_adds(&b, "cat ");
    opt.comma_backtrack = 20;
    assert_int_equal(encode(&c, t, limn_buf_text(&b), &opt), 2);
    assert_int_equal(c[1].used, 1);
    limn_mem_free(c);
    limn_buf_deinit(&b);
    limn_tokenizer_free(&t);
}

static void test_chunk_embeddings(void **state) {
    static const limn_prompt_embedding list[] = {
        {"bad", 2}, {"bad-hands-5", 5}, {"<sks>", 1}, {"wide", 75}};
    limn_tokenizer *t = clip();
    limn_prompt_chunk *c;
    limn_prompt_encode_options opt = {
        .embeddings = list, .n_embeddings = 4, .pad = -1, .comma_backtrack = 20};
    assert_int_equal(encode(&c, t, "cat (bad-hands-5:1.2) Bad embedding:bad <sks>", &opt), 1);
    assert_int_equal(c[0].used, 1 + 5 + 2 + 2 + 1);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(c[0].embed[2 + i], 1);
        assert_int_equal(c[0].row[2 + i], i);
        assert_int_equal(c[0].ids[2 + i], 0);
        assert_true(c[0].weights[2 + i] == 1.2f);
    }
    assert_int_equal(c[0].embed[7], 0);
    assert_int_equal(c[0].embed[9], 0);
    assert_int_equal(c[0].embed[11], 2);
    assert_int_equal(c[0].embed[12], -1);
    limn_mem_free(c);
    assert_int_equal(encode(&c, t, "cat wide cat", &opt), 3); /* never cut */
    assert_int_equal(c[1].used, 75);
    assert_int_equal(c[1].row[75], 74);
    limn_mem_free(c);
    limn_prompt_embedding bad = {"x", 76};
    opt.embeddings = &bad;
    opt.n_embeddings = 1;
    size_t n;
    limn_err err = {0};
    assert_int_equal(limn_prompt_encode(&c, &n, t, "x", 1, &opt, &err), LIMN_E_VALUE);
    limn_tokenizer_free(&t);
}

/* ---- AND, encoders, breaks, comments ---- */

static void test_and(void **state) {
    limn_prompt *p =
        parse("a cat AND a dog:0.5 AND [x:y:5] :-1.2 ANDROID", &(limn_prompt_options){.steps = 10});
    assert_int_equal(p->n_parts, 3);
    assert_true(p->parts[0].weight == 1.0f);
    assert_string_equal(text_of(&p->parts[0], 0), "a cat ");
    assert_true(p->parts[1].weight == 0.5f);
    assert_string_equal(text_of(&p->parts[1], 0), " a dog");
    assert_string_equal(text_of(&p->parts[2], 0), " x :-1.2 ANDROID");
    limn_prompt_free(&p);
    p = parse("a:2", &(limn_prompt_options){.steps = 10}); /* no AND: no weight */
    assert_string_equal(text_of(&p->parts[0], 0), "a:2");
    limn_prompt_free(&p);
    p = parse("a AND b : -1.5", &(limn_prompt_options){.steps = 10});
    assert_true(p->parts[1].weight == -1.5f);
    assert_string_equal(text_of(&p->parts[1], 0), " b");
    limn_prompt_free(&p);
}

static void test_encoders(void **state) {
    limn_prompt *p =
        parse("base TE2: second [x:y:1] TE4:  fourth", &(limn_prompt_options){.steps = 2});
    const limn_prompt_variant *v = p->parts[0].variants;
    assert_int_equal(p->parts[0].n_variants, 2);
    assert_string_equal(v[0].encoder[0], "base");
    assert_string_equal(v[0].encoder[1], "second x");
    assert_string_equal(v[1].encoder[1], "second y");
    assert_null(v[0].encoder[2]);
    assert_string_equal(v[0].encoder[3], "fourth");
    limn_prompt_free(&p);
    p = parse("NOTE2: x", &(limn_prompt_options){.steps = 2});
    assert_null(p->parts[0].variants[0].encoder[1]);
    limn_prompt_free(&p);
}

static void test_breaks_and_comments(void **state) {
    limn_prompt_options opt = {.steps = 1, .line_breaks = true, .hash_breaks = true};
    limn_prompt *p = parse("\n a\n\nb ## c\n", &opt);
    assert_string_equal(text_of(&p->parts[0], 0), " a BREAK b  BREAK c");
    limn_prompt_free(&p);
    p = parse("a\nb ## c", &(limn_prompt_options){.steps = 1});
    assert_string_equal(text_of(&p->parts[0], 0), "a\nb ## c");
    limn_prompt_free(&p);
    p = parse("a # note\nb ## c", &(limn_prompt_options){.steps = 1, .comments = true});
    assert_string_equal(text_of(&p->parts[0], 0), "a \nb ## c");
    limn_prompt_free(&p);
    p = parse("(a) [b:c:1] <lora:x:1> AND", &(limn_prompt_options){.steps = 5, .raw = true});
    assert_string_equal(text_of(&p->parts[0], 0), "(a) [b:c:1] <lora:x:1> AND");
    assert_int_equal(p->n_nets, 0);
    limn_prompt_free(&p);
}

/* ---- networks ---- */

static void test_nets(void **state) {
    limn_prompt_options opt = {.steps = 11};
    limn_prompt *p = parse("a <lora:my style:0.8> b<LyCO:x:te=0.5:unet=0@0,1@0.5:in=0.2:dyn=8:high>"
                           "<hypernet:h>c <concept> <lora:z:0.3:0.6:_tag_>",
                           &opt);
    assert_string_equal(text_of(&p->parts[0], 0), "a  bc <concept> ");
    assert_int_equal(p->n_nets, 4);
    const limn_prompt_net *n = p->nets;
    assert_string_equal(n[0].type, "lora");
    assert_string_equal(n[0].name, "my style");
    assert_true(limn_prompt_curve_at(&n[0].strength, 3, 11, 1) == 0.8f);
    assert_int_equal(n[0].unet.n, 0);
    assert_string_equal(n[1].type, "lora");
    assert_true(limn_prompt_curve_at(&n[1].te, 0, 11, 1) == 0.5f);
    assert_true(limn_prompt_curve_at(&n[1].unet, 0, 11, 1) == 0.0f);
    assert_true(limn_prompt_curve_at(&n[1].unet, 5, 11, 1) == 1.0f);
    float mid = limn_prompt_curve_at(&n[1].unet, 2, 11, 1);
    assert_true(mid > 0.399f && mid < 0.401f);
    assert_true(limn_prompt_curve_at(&n[1].unet, 10, 11, 1) == 1.0f);
    assert_true(limn_prompt_curve_at(&n[1].strength, 10, 11, 7) == 7.0f);
    assert_int_equal(n[1].dyn, 8);
    assert_int_equal(n[1].stage, 1);
    assert_string_equal(n[2].name, "h");
    assert_true(limn_prompt_curve_at(&n[3].strength, 0, 11, 1) == 0.3f);
    assert_true(limn_prompt_curve_at(&n[3].unet, 0, 11, 1) == 0.6f);
    assert_string_equal(n[3].args, "0.3:0.6:_tag_");
    limn_prompt_free(&p);
    expect_error("<lora:x:abc>", 12, &opt, LIMN_E_VALUE);
    expect_error("<lora:x:nan>", 12, &opt, LIMN_E_VALUE);
    expect_error("<lora:x:0@>", 11, &opt, LIMN_E_VALUE);
    p = parse("a <b <c:> d < e:f", &opt);
    assert_string_equal(text_of(&p->parts[0], 0), "a <b <c:> d < e:f");
    limn_prompt_free(&p);
}

/* ---- choices and wildcards ---- */

static void test_choices(void **state) {
    int count[3] = {0};
    for (uint64_t seed = 0; seed < 3000; seed++) {
        limn_prompt_options opt = {.steps = 1, .seed = seed};
        limn_prompt *p = parse("x{ a |b:0.6|{c|c}}y", &opt);
        const char *s = p->expanded;
        assert_int_equal(strlen(s), 3);
        assert_true(s[0] == 'x' && s[2] == 'y' && s[1] >= 'a' && s[1] <= 'c');
        count[s[1] - 'a']++;
        limn_prompt_free(&p);
    }
    assert_in_range(count[1], 1700, 1900); /* 0.6 */
    assert_in_range(count[0], 520, 680);   /* half of the rest */
    limn_prompt *p = parse("{x} \\{a|b\\} {prompt}", &(limn_prompt_options){.steps = 1});
    assert_string_equal(p->expanded, "{x} \\{a|b\\} {prompt}");
    limn_prompt_free(&p);
    p = parse("{[a|b]:1|(c:0)}", &(limn_prompt_options){.steps = 2, .seed = 5});
    assert_string_equal(p->expanded, "[a|b]");
    limn_prompt_free(&p);
}

static void write_file(const char *dir, const char *name, const char *text) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void remove_file(const char *dir, const char *name) {
    char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    remove(path);
}

static void test_wildcards(void **state) {
    char root[] = "/tmp/limn-wild-XXXXXX", dir[64], sub[96];
    assert_non_null(mkdtemp(root));
    snprintf(dir, sizeof dir, "%s/w", root);
    snprintf(sub, sizeof sub, "%s/w/sub", root);
    assert_int_equal(mkdir(dir, 0700), 0);
    assert_int_equal(mkdir(sub, 0700), 0);
    write_file(root, "secret.txt", "secret\n");
    write_file(dir, "one.txt", "# comment\n\n  only line \n");
    write_file(dir, "loop.txt", "__loop__\n");
    write_file(dir, "bars.txt", "red|red\n");
    write_file(dir, "nest.txt", "<__one__ {z|z}>\n");
    write_file(sub, "deep.txt", "deep\n");
    char link_path[128];
    snprintf(link_path, sizeof link_path, "%s/link.txt", dir);
    assert_int_equal(symlink("../secret.txt", link_path), 0);
    limn_prompt_options opt = {.steps = 1, .wildcard_dir = dir};
    limn_prompt *p = parse("__one__, __bars__ __nest__ __deep__ __sub/deep__ __sub/__ a__b", &opt);
    assert_string_equal(p->expanded, "only line, red <only line z> deep deep deep a__b");
    limn_prompt_free(&p);
    expect_error("__loop__", 8, &opt, LIMN_E_LIMIT);
    expect_error("__none__", 8, &opt, LIMN_E_NOT_FOUND);
    expect_error("__../secret__", 13, &opt, LIMN_E_VALUE);
    expect_error("__sub/../../secret__", 20, &opt, LIMN_E_VALUE);
    expect_error("__/etc/passwd__", 15, &opt, LIMN_E_VALUE);
    expect_error("__link__", 8, &opt, LIMN_E_NOT_FOUND);
    opt.wildcard_dir = NULL;
    p = parse("__one__", &opt);
    assert_string_equal(p->expanded, "__one__");
    limn_prompt_free(&p);
    static const char *const files[] = {
        "w/one.txt",      "w/loop.txt", "w/bars.txt", "w/nest.txt", "w/link.txt",
        "w/sub/deep.txt", "w/sub",      "w",          "secret.txt", ""};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) remove_file(root, files[i]);
}

/* ---- styles ---- */

static void test_styles(void **state) {
    char root[] = "/tmp/limn-style-XXXXXX", path[64];
    assert_non_null(mkdtemp(root));
    write_file(
        root, "a.csv",
        "\xEF\xBB\xBFname,prompt,negative_prompt\r\nOil,\"oil painting of {prompt}, \"\"thick\"\" "
        "paint\",photo\r\nPlain,sharp,\r\n");
    write_file(root, "b.json",
               "[{\"name\": \"Oil2\", \"prompt\": \"SUBJ, canvas\", \"negative\": \"blur\","
               "  \"wildcards\": \"SUBJ=one,one\"}]");
    limn_styles *s = NULL;
    limn_err err = {0};
    if (limn_styles_load(&s, root, &err) != LIMN_OK) fail_msg("%s", err.text);
    assert_int_equal(s->n, 3);
    limn_buf a, b;
    limn_buf_init(&a, 4096);
    limn_buf_init(&b, 4096);
    const char *names[] = {"Oil", "Plain", "Oil2"};
    assert_int_equal(limn_styles_apply(s, &a, &b, names, 3, " a cat", "", 1, &err), LIMN_OK);
    assert_string_equal(limn_buf_text(&a),
                        "oil painting of  a cat, \"thick\" paint, sharp, one, canvas");
    assert_string_equal(limn_buf_text(&b), "photo, blur");
    names[0] = "None";
    assert_int_equal(limn_styles_apply(s, &a, &b, names, 1, "x", "", 1, &err), LIMN_E_NOT_FOUND);
    limn_styles_free(&s);
    write_file(root, "a.csv", "name,prompt\nx,\"open\n");
    assert_int_equal(limn_styles_load(&s, root, &err), LIMN_E_FORMAT);
    snprintf(path, sizeof path, "%s/none", root);
    assert_int_equal(limn_styles_load(&s, path, &err), LIMN_E_NOT_FOUND);
    assert_null(s);
    limn_buf_deinit(&a);
    limn_buf_deinit(&b);
    remove_file(root, "a.csv");
    remove_file(root, "b.json");
    remove(root);
}

/* ---- spans ---- */

static void test_spans(void **state) {
    static const char text[] = "(a:1.2) [b:c:3] {d|e:0.5} \\( <lora:(:1> __w__ BREAK ) x:1";
    limn_prompt_span *s;
    size_t n;
    char kinds[64];
    assert_int_equal(
        limn_prompt_spans(&s, &n, text, sizeof text - 1, &(limn_prompt_options){.steps = 1}, NULL),
        LIMN_OK);
    assert_true(n < sizeof kinds);
    for (size_t i = 0; i < n; i++) {
        kinds[i] = "BNKNWECS"[s[i].kind];
        if (s[i].kind == LIMN_SPAN_NETWORK) kinds[i] = 'L';
        assert_true(s[i].begin < s[i].end && s[i].end <= sizeof text - 1);
        if (i) assert_true(s[i].begin >= s[i - 1].end);
    }
    kinds[n] = 0;
    assert_string_equal(kinds, "BBNB"
                               "BBBNB"
                               "BBBNB"
                               "ELWKS");
    assert_int_equal(s[2].begin, 3);
    assert_int_equal(s[2].end, 6);
    limn_mem_free(s);
}

/* ---- hostile ---- */

static void test_hostile(void **state) {
    limn_prompt_options opt = {.steps = 50, .line_breaks = true};
    size_t big = 10 << 20;
    char *text = malloc(big);
    memset(text, '(', big);
    double start = limn_clock_now();
    expect_error(text, big, &opt, LIMN_E_LIMIT);
    static const char *const fills[] = {
        "(",     "[",     "{",   "[a|",  "{a|",     "[a:",       "<a:", "__a",  "_",
        "\\",    ")",     "]",   "}",    "|",       ":",         "#",   "AND ", "BREAK ",
        "[a|b]", "{a|b}", "([{", "TE2:", "(a:1.1)", "[[a]:b:3]", "\n"};
    size_t n = LIMN_PROMPT_BYTES;
    for (size_t i = 0; i < sizeof fills / sizeof fills[0]; i++) {
        size_t len = strlen(fills[i]);
        for (size_t k = 0; k < n; k++) text[k] = fills[i][k % len];
        limn_prompt *p = NULL;
        limn_prompt_span *s = NULL;
        limn_arena arena;
        limn_prompt_piece *piece;
        size_t count;
        limn_err err = {0};
        limn_arena_init(&arena);
        limn_status st = limn_prompt_parse(&p, text, n, &opt, &err);
        assert_true(st == LIMN_OK || st == LIMN_E_LIMIT);
        st = limn_prompt_emphasis(&piece, &count, &arena, text, n, &err);
        assert_true(st == LIMN_OK || st == LIMN_E_LIMIT);
        assert_int_equal(limn_prompt_spans(&s, &count, text, n, &opt, &err), LIMN_OK);
        limn_mem_free(s);
        limn_arena_deinit(&arena);
        limn_prompt_free(&p);
    }
    assert_true(limn_clock_now() - start < 60); /* each is linear; a slow one would take minutes */
    expect_error("a\xff", 2, &opt, LIMN_E_VALUE);
    expect_error("a\0b", 3, &opt, LIMN_E_VALUE);
    opt.steps = 0;
    expect_error("a", 1, &opt, LIMN_E_VALUE);
    free(text);
}

static void test_no_memory(void **state) {
    static const char text[] = "a [b:c:3] (d:1.2) {e|f} <lora:x:0@0,1@1> AND [g|h] TE2: i";
    limn_prompt_options opt = {.steps = 5};
    limn_tokenizer *t = clip();
    limn_prompt_encode_options enc = {.pad = -1, .comma_backtrack = 20};
    bool done = false;
    for (int64_t k = 0; k < 3000 && !done; k++) {
        limn_prompt *p = NULL;
        limn_prompt_chunk *c = NULL;
        size_t n;
        limn_mem_fail_after(k);
        limn_status st = limn_prompt_parse(&p, text, sizeof text - 1, &opt, NULL);
        if (st == LIMN_OK) st = limn_prompt_encode(&c, &n, t, "a (b:2) c", 9, &enc, NULL);
        limn_mem_fail_after(-1);
        done = st == LIMN_OK;
        assert_true(done || st == LIMN_E_NOMEM || st == LIMN_E_LIMIT);
        limn_mem_free(c);
        limn_prompt_free(&p);
    }
    assert_true(done);
    limn_tokenizer_free(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_schedule_a1111),
        cmocka_unit_test(test_schedule_second_pass),
        cmocka_unit_test(test_variants_are_distinct),
        cmocka_unit_test(test_emphasis),
        cmocka_unit_test(test_chunks),
        cmocka_unit_test(test_chunk_comma),
        cmocka_unit_test(test_chunk_embeddings),
        cmocka_unit_test(test_and),
        cmocka_unit_test(test_encoders),
        cmocka_unit_test(test_breaks_and_comments),
        cmocka_unit_test(test_nets),
        cmocka_unit_test(test_choices),
        cmocka_unit_test(test_wildcards),
        cmocka_unit_test(test_styles),
        cmocka_unit_test(test_spans),
        cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
