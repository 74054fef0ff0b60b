/* SPDX-License-Identifier: MIT */
/*
 * Guessed tokens never change an answer: with weights of every type that may be guessed with,
 * logits of several tokens at once have the bits of one after the other; whole answers, greedy and
 * sampled, with penalties, grammars, stop strings and short contexts, are the same token by token
 * with their log-probabilities, and so is what the next question finds in the cache.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <unistd.h>

#include "see_test.h"

/* ---- guessing ---- */

static void put(limn_ids *ids, const char *letters) {
    for (; *letters; letters++) limn_ids_add(ids, *letters);
}

static const char *guess_of(limn_draft *d, size_t most, const limn_draft_cost *cost, bool always) {
    static char text[9];
    int32_t ids[8];
    size_t n = limn_draft_guess(d, ids, most, cost, always);
    for (size_t i = 0; i < n; i++) text[i] = (char)ids[i];
    text[n] = 0;
    return text;
}

static void test_guesses(void **state) {
    (void)state;
    limn_err err = {0};
    limn_draft d;
    limn_draft_cost cost = {0};
    limn_ids before, after;
    limn_ids_init(&before, 1000);
    limn_ids_init(&after, 1000);
    put(&before, "the cat sat. ");
    OK(limn_draft_init(&d, &before, &after, &err));
    assert_string_equal(guess_of(&d, 3, &cost, false), "");
    put(&after, "the");
    assert_string_equal(guess_of(&d, 3, &cost, false), " ca");
    assert_string_equal(guess_of(&d, 8, &cost, false), " cat sat");
    put(&after, " c");
    assert_string_equal(guess_of(&d, 3, &cost, false), "at ");
    put(&after, "ow c");
    assert_string_equal(guess_of(&d, 3, &cost, false), "ow "); /* by two; the latest place */
    put(&after, "at");
    assert_string_equal(guess_of(&d, 3, &cost, false), " sa");
    put(&after, "zq");
    assert_string_equal(guess_of(&d, 3, &cost, false), "");
    put(&after, "zzz"); /* what follows may not be there yet */
    assert_string_equal(guess_of(&d, 3, &cost, false), "z");
    limn_draft_deinit(&d);
    limn_ids_deinit(&before);
    limn_ids_deinit(&after);
}

/* Guesses that are wrong, or cost more than they save, come rarely; right ones bring them back. */
static void test_it_has_to_pay(void **state) {
    (void)state;
    limn_err err = {0};
    limn_draft d;
    limn_draft_cost cost = {.one = {.seconds = 1}, .several = {.seconds = 1.3}};
    limn_ids before, after;
    int made = 0;
    limn_ids_init(&before, 1000);
    limn_ids_init(&after, 10000);
    put(&before, "abcabc");
    OK(limn_draft_init(&d, &before, &after, &err));
    for (int i = 0; i < 500; i++) {
        if (*guess_of(&d, 3, &cost, false)) limn_draft_learn(&d, 3, 0), made++;
        put(&after, (const char *[]){"a", "b", "c"}[i % 3]);
    }
    assert_in_range(made, 5, 30);
    for (int i = 500; i < 2500; i++) {
        if (*guess_of(&d, 3, &cost, false)) limn_draft_learn(&d, 3, 3), made++;
        put(&after, (const char *[]){"a", "b", "c"}[i % 3]);
    }
    assert_true(made > 1000);
    cost.several.seconds = 5; /* four tokens at once cost more than four */
    made = 0;
    for (int i = 0; i < 500; i++)
        if (*guess_of(&d, 3, &cost, false)) limn_draft_learn(&d, 3, 3), made++;
    assert_in_range(made, 0, 30);
    limn_draft_deinit(&d);
    limn_ids_deinit(&before);
    limn_ids_deinit(&after);
}

/* ---- logits ---- */

/* Every row of logits, read one by one and together. */
static void compare_rows(limn_seer *s, const char *name) {
    enum { FIRST = 21, ALL = 61 };
    limn_err err = {0};
    const float *logits[LIMN_READER_GUESSES];
    size_t row = (size_t)s->model->cfg.text.vocab * sizeof(float);
    char *alone = malloc(row * ALL);
    int32_t ids[ALL];
    int64_t zero = 0;
    for (int i = 0; i < ALL; i++) ids[i] = (i * 37 + 11) % 200;
    limn_reader_text text = {.ids = ids, .n = FIRST};
    OK(limn_reader_read(s->reader, 0, &text, logits, NULL, &err));
    limn_reader_mark mark = limn_reader_get_mark(s->reader, 0);
    for (int i = FIRST; i < ALL; i++) {
        OK(limn_reader_step(s->reader, 1, &zero, ids + i, logits, NULL, &err));
        memcpy(alone + (size_t)i * row, logits[0], row);
    }
    for (int k = 1; k <= LIMN_READER_GUESSES; k++) {
        limn_reader_set_mark(s->reader, 0, mark);
        for (int i = FIRST; i + k <= ALL; i += k) {
            OK(limn_reader_try(s->reader, 0, ids + i, k, logits, NULL, &err));
            for (int j = 0; j < k; j++) {
                if (memcmp(logits[j], alone + (size_t)(i + j) * row, row) != 0)
                    fail_msg("%s: row %d of %d differs", name, j, k);
                limn_reader_accept(s->reader, 0);
            }
            assert_int_equal(limn_reader_length(s->reader, 0), i + k);
        }
    }
    limn_reader_set_mark(s->reader, 0, (limn_reader_mark){0, 0});
    free(alone);
}

/* ---- answers ---- */

static const char *const questions[] = {
    "the cat and the dog and the cat and the dog and the cat",
    "{\"box\": [1, 2], \"text\": \"a\"}, {\"box\": [3, 4], \"text\": \"b\"}, {\"box\": [",
    "one two three",
};
static const char *const options[] = {
    "max_tokens=60;temperature=0;logprobs=3",
    "max_tokens=60;temperature=0.2;seed=7;logprobs=3;loop_limit=0",
    "max_tokens=60;temperature=0.9;top_k=40;top_p=0.95;seed=11;logprobs=3",
    "max_tokens=40;temperature=0;frequency_penalty=0.05;logprobs=3;stop=the",
    ("max_tokens=60;temperature=0.5;seed=3;logprobs=3;grammar=root ::= (\"the \" [a-c] \" "
     "box\\n\")*"),
    "temperature=0;logprobs=3;loop_limit=0", /* until the context is full */
};

typedef struct counts {
    int64_t guessed, hits;
} counts;

static limn_answer *answer_of(limn_seer *s, const limn_talk *t, const char *option, int draft,
                              counts *c) {
    limn_err err = {0};
    limn_params *see = params(LIMN_PARAMS_SEE, option);
    limn_look *l = NULL;
    limn_answer *a = NULL;
    OK(limn_params_set(see, "draft_tokens", draft ? "3" : "0", LIMN_FROM_API, &err));
    OK(limn_look_new(&l, s, t, see, NULL, &err));
    while (!limn_look_is_done(l)) OK(limn_seer_step(s, &err));
    c->guessed += l->draft.guessed;
    c->hits += l->draft.hits;
    OK(limn_look_take(&a, &l, &err));
    limn_params_free(&see);
    return a;
}

static void same(const limn_answer *a, const limn_answer *b, const char *name, int q, int o) {
    bool equal = a->n_tokens == b->n_tokens && a->finish == b->finish && a->len == b->len &&
                 memcmp(a->text, b->text, a->len) == 0 && a->cached_tokens == b->cached_tokens;
    for (size_t i = 0; equal && i < a->n_tokens; i++) {
        const limn_token_logprobs *x = &a->tokens[i], *y = &b->tokens[i];
        equal = x->token.id == y->token.id && x->token.logprob == y->token.logprob &&
                x->n_top == y->n_top;
        for (int k = 0; equal && k < x->n_top; k++)
            equal = x->top[k].id == y->top[k].id && x->top[k].logprob == y->top[k].logprob;
    }
    if (!equal) fail_msg("%s: question %d, options %d: another answer", name, q, o);
}

static limn_seer *open_on(const char *path, const char *opening) {
    limn_err err = {0};
    limn_seer *s = NULL;
    char full[512];
    limn_params *app = params(LIMN_PARAMS_APP, "cache_dir=none;threads=1"),
                *see = params(LIMN_PARAMS_SEE, opening);
    if (path[0] != '/') path = golden_path(full, sizeof full, path);
    OK(limn_params_set(see, "model", path, LIMN_FROM_API, &err));
    OK(limn_seer_new(&s, app, see, &err));
    limn_params_free(&app);
    limn_params_free(&see);
    return s;
}

/* All questions with and without guesses, and what comes after them. */
static void compare_answers(const char *path, const char *opening, const char *name) {
    counts c = {0};
    limn_seer *with = open_on(path, opening), *without = open_on(path, opening);
    assert_true(with->guesses);
    with->guess_always = true;
    compare_rows(with, name);
    for (int q = 0; q < 3; q++)
        for (size_t o = 0; o < sizeof options / sizeof options[0]; o++) {
            limn_message_part parts[3] = {{.kind = LIMN_MESSAGE_TEXT, .text = questions[q]},
                                          {.kind = LIMN_MESSAGE_TEXT},
                                          {.kind = LIMN_MESSAGE_TEXT, .text = "and then?"}};
            limn_message m[3] = {{.role = LIMN_ROLE_USER, .parts = parts, .n_parts = 1},
                                 {.role = LIMN_ROLE_ASSISTANT, .parts = parts + 1, .n_parts = 1},
                                 {.role = LIMN_ROLE_USER, .parts = parts + 2, .n_parts = 1}};
            limn_talk t = {.messages = m, .n_messages = 1};
            limn_answer *a = answer_of(with, &t, options[o], 1, &c),
                        *b = answer_of(without, &t, options[o], 0, &c);
            same(a, b, name, q, (int)o);
            parts[1].text = b->text; /* the next turn takes the cache over */
            t.n_messages = 3;
            if (o + 1 < sizeof options / sizeof options[0]) {
                limn_answer *x = answer_of(with, &t, options[0], 1, &c),
                            *y = answer_of(without, &t, options[0], 0, &c);
                same(x, y, name, q, (int)o + 100);
                limn_answer_free(&x);
                limn_answer_free(&y);
            }
            limn_answer_free(&a);
            limn_answer_free(&b);
        }
    assert_int_equal(without->cost.several.count, 0);
    limn_seer_free(&with);
    limn_seer_free(&without);
    if (c.hits == 0 || c.hits == c.guessed)
        fail_msg("%s: %lld of %lld guesses right", name, (long long)c.hits, (long long)c.guessed);
}

static void test_answers_are_the_same(void **state) {
    (void)state;
    compare_answers("tiny_see", "context=400;precision=exact;cache_type=f32", "bf16, exact");
    compare_answers("tiny_see", "context=400;precision=auto;cache_type=q8_0", "bf16");
    compare_answers("tiny_moe", "context=400;precision=auto", "experts");
}

/* Files of each type that keep their rows; the fixture of llama.cpp has rows of 256. */
static void test_quantised(void **state) {
    (void)state;
    static const char *const types[] = {"f16", "q8_0", "q4_0", "q4_k", "q5_k", "q6_k"};
    char dir[] = "/tmp/limn-draft-XXXXXX", file[64], from[512];
    limn_err err = {0};
    assert_non_null(mkdtemp(dir));
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        char *text = NULL;
        limn_quantize_options o = {.type = types[i], .overwrite = true, .threads = 1};
        snprintf(file, sizeof file, "%s/m.gguf", dir);
        OK(limn_quantize(&text, golden_path(from, sizeof from, "llama/mixed-00001-of-00003.gguf"),
                         file, &o, NULL, &err));
        limn_text_free(&text);
        compare_answers(file, "context=400;precision=auto;cache_type=f16", types[i]);
        unlink(file);
    }
    rmdir(dir);
}

/* Weights whose products have other bits for one row than for several are not guessed with. */
static void test_others_are_left_alone(void **state) {
    (void)state;
    limn_seer *s = open_on("llama/mixed-00001-of-00003.gguf", "context=400;precision=auto");
    counts c = {0};
    limn_message_part part = {.kind = LIMN_MESSAGE_TEXT, .text = questions[0]};
    limn_message m = {.role = LIMN_ROLE_USER, .parts = &part, .n_parts = 1};
    limn_talk t = {.messages = &m, .n_messages = 1};
    assert_false(s->guesses);
    limn_answer *a = answer_of(s, &t, options[0], 1, &c);
    assert_int_equal(c.guessed, 0);
    limn_answer_free(&a);
    limn_seer_free(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_guesses),
        cmocka_unit_test(test_it_has_to_pay),
        cmocka_unit_test(test_answers_are_the_same),
        cmocka_unit_test(test_quantised),
        cmocka_unit_test(test_others_are_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
