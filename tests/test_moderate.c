/* SPDX-License-Identifier: MIT */
/* Scores of a text from the answer of a model: booleans and what else could have stood there. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
/* After the headers that it needs. */
#include <cmocka.h>

#include "server/api/openai.h"

static const char *const names[OPENAI_CATEGORIES] = {"harassment",
                                                     "harassment/threatening",
                                                     "sexual",
                                                     "hate",
                                                     "hate/threatening",
                                                     "illicit",
                                                     "illicit/violent",
                                                     "self-harm/intent",
                                                     "self-harm/instructions",
                                                     "self-harm",
                                                     "sexual/minors",
                                                     "violence",
                                                     "violence/graphic"};

static json_t *token(const char *text, double p) {
    json_t *bytes = json_array();
    for (const char *c = text; *c; c++)
        json_array_append_new(bytes, json_integer((unsigned char)*c));
    /* The id is the text's first bytes: equal for equal texts. */
    return json_pack("{s:i, s:s, s:o, s:f}", "id", (int)text[0] * 256 + (int)text[strlen(text) - 1],
                     "text", text, "bytes", bytes, "logprob", log(p));
}

/* An answer that says `word` for each category, taken with p against q for the other one. */
static json_t *answer(const char *word, const char *other, double p, double q) {
    json_t *rows = json_array();
    char text[2048] = "{", piece[64];
    json_array_append_new(rows, token("{", 0.9));
    for (int c = 0; c < OPENAI_CATEGORIES; c++) {
        snprintf(piece, sizeof piece, "%s\"%s\":", c ? ", " : "", names[c]);
        strncat(text, piece, sizeof text - strlen(text) - 1);
        json_array_append_new(rows, token(piece, 0.9));
        json_t *row = token(word, p), *top = json_array();
        json_array_append_new(top, token(word, p));
        if (q > 0) json_array_append_new(top, token(other, q));
        json_array_append_new(top, token(" null", 0.001));
        json_object_set_new(row, "top", top);
        json_array_append_new(rows, row);
        strncat(text, word, sizeof text - strlen(text) - 1);
    }
    strncat(text, "}", sizeof text - strlen(text) - 1);
    return json_pack("{s:s, s:o}", "text", text, "logprobs", rows);
}

static void test_scores(void **state) {
    double scores[OPENAI_CATEGORIES] = {0};
    json_t *r = answer(" false", " true", 0.75, 0.25);
    assert_true(openai_moderate_scores(scores, r));
    for (int c = 0; c < OPENAI_CATEGORIES; c++) assert_true(fabs(scores[c] - 0.25) < 1e-9);
    json_decref(r);
    /* A higher score of another part stays, a lower one does not come in. */
    r = answer("true", "false", 0.6, 0.4);
    scores[3] = 0.9;
    assert_true(openai_moderate_scores(scores, r));
    assert_true(fabs(scores[0] - 0.6) < 1e-9 && scores[3] == 0.9);
    json_decref(r);
}

static void test_one_sided(void **state) {
    double scores[OPENAI_CATEGORIES] = {0};
    json_t *r = answer(" true", "", 0.999, 0);
    assert_true(openai_moderate_scores(scores, r));
    assert_true(scores[0] == 1);
    json_decref(r);
}

static void test_no_judgement(void **state) {
    double scores[OPENAI_CATEGORIES] = {0};
    json_t *r = answer(" true", " false", 0.001, 0.002); /* the form was forced */
    assert_false(openai_moderate_scores(scores, r));
    json_decref(r);
    r = answer(" true", " false", 0.5, 0.5);
    json_object_set_new(r, "text", json_string("{\"harassment\": true")); /* cut */
    assert_false(openai_moderate_scores(scores, r));
    json_object_del(r, "logprobs");
    assert_false(openai_moderate_scores(scores, r));
    json_decref(r);
    r = json_object();
    assert_false(openai_moderate_scores(scores, r));
    json_decref(r);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_scores),
                                       cmocka_unit_test(test_one_sided),
                                       cmocka_unit_test(test_no_judgement)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
