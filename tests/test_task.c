/* SPDX-License-Identifier: MIT */
/*
 * Tasks: parsers against everything that a model may write, and every task in every format on the
 * tiny model, whose words mean nothing but whose answers are typed all the same.
 */
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

#include "see_test.h" /* first: the next one needs pictures */

#include "media_test.h"
#include "pipeline/task.h"

/* ---- parsers ---- */

static void rows(limn_findings *f, const char *text) {
    limn_err err = {0};
    limn_task_frame frame = {.picture = 2, .width = 200, .height = 100};
    limn_findings_init(f);
    OK(limn_task_rows_parse(f, text, strlen(text), &frame, &err));
}

static void test_boxes_are_read(void **state) {
    (void)state;
    static const char *const same[] = {
        "[{\"bbox_2d\": [100, 200, 500, 1000], \"label\": \"fox\"}]",
        "```json\n[{\"bbox_2d\": [100, 200, 500, 1000], \"label\": \"fox\"}]\n```",
        "Here it is [see below]: [{\"bbox_2d\": [500, 1000, 100, 200], \"label\": \"fox\"}] Done.",
        "{\"bbox_2d\": [100, 200, 500, 1000], \"label\": \"fox\"}",
        "{\"objects\": [{\"bbox\": [100.0, 200, 500, 1013], \"name\": \"fox\"}]}",
        "[{\"bbox_2d\": [100, 200, 500, 1000], \"label\": \"fox\"}, {\"bbox_2d\": [1, 2",
        ("[{\"bbox_2d\": [100, 200, 500, 1000], \"label\": \"fox\"}, {\"bbox_2d\": [1, 2, 3, 4], "
         "\"lab"),
        "[{\"label\": \"fox\", \"bbox_2d\": [100, 200, 500, 1000]}, \"and so on, \\\"",
    };
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        limn_findings f;
        rows(&f, same[i]);
        if (f.n != 1) fail_msg("row %zu: %zu findings", i, f.n);
        assert_string_equal(f.list[0].label, "fox");
        assert_true(f.list[0].has_box);
        assert_int_equal(f.list[0].picture, 2);
        const double want[] = {20, 20, 100, 100}; /* of 200 x 100 pixels */
        for (int k = 0; k < 4; k++) assert_true(fabs(f.list[0].box[k] - want[k]) < 1e-9);
        assert_int_equal(f.cut, i >= 5);
        limn_findings_deinit(&f);
    }
}

static void test_other_rows(void **state) {
    (void)state;
    limn_findings f;
    rows(&f,
         "[{\"point_2d\": [500, 500], \"label\": \"eye\"}, {\"point_2d\": [1, 2, 3]}, 7, null]");
    assert_int_equal(f.n, 1);
    assert_int_equal(f.dropped, 3);
    assert_true(f.list[0].has_point && f.list[0].point[0] == 100 && f.list[0].point[1] == 50);
    limn_findings_deinit(&f);
    rows(&f, "[{\"start\": \"00:01.5\", \"end\": \"01:02\", \"description\": \"it goes\"},"
             " {\"start\": 5, \"end\": 2, \"description\": \"backwards\"},"
             " {\"start\": -1, \"end\": 2, \"description\": \"before\"}]");
    assert_int_equal(f.n, 1);
    assert_int_equal(f.dropped, 2);
    assert_true(f.list[0].start == 1.5 && f.list[0].end == 62);
    assert_string_equal(f.list[0].text, "it goes");
    limn_findings_deinit(&f);
    rows(&f, "{\"00:23.00 - 00:48.50\": \"a\", \"1:00:00 - 1:00:01\": \"b\", \"x - y\": \"c\"}");
    assert_int_equal(f.n, 2);
    assert_true(f.list[0].end == 48.5 && f.list[1].start == 3600);
    limn_findings_deinit(&f);
    rows(&f, "[{\"time\": 2.5, \"bbox_2d\": [0, 0, 10, 10], \"label\": \"ball\"}]");
    assert_true(f.n == 1 && f.list[0].has_time && f.list[0].start == 2.5 && f.list[0].end == 2.5);
    limn_findings_deinit(&f);
    rows(&f, "[{\"category\": \"none\"}]");
    assert_true(f.n == 1 && !f.list[0].has_box);
    limn_findings_deinit(&f);
}

/* Nothing is found behind the end of a clip. */
static void test_times_are_in_the_clip(void **state) {
    (void)state;
    static const char *const forms[] = {"[{\"start\": 1, \"end\": 65020, \"description\": \"a\"},"
                                        " {\"start\": 12.6, \"end\": 13, \"description\": \"b\"}]",
                                        "{\"0:01 - 9:00\": \"a\", \"0:13 - 0:14\": \"b\"}"};
    limn_task_frame frame = {.width = 8, .height = 8, .end = 12.5};
    limn_err err = {0};
    for (int i = 0; i < 2; i++) {
        limn_findings f;
        limn_findings_init(&f);
        OK(limn_task_rows_parse(&f, forms[i], strlen(forms[i]), &frame, &err));
        assert_int_equal(f.n, 1);
        assert_true(f.list[0].start == 1 && f.list[0].end == 12.5);
        limn_findings_deinit(&f);
    }
}

/* Anything at all: no crash, no finding out of its picture. */
static void test_hostile_answers(void **state) {
    (void)state;
    static const char *const bad[] = {
        "",
        " ",
        "[",
        "{",
        "[[[[",
        "]",
        "}}}",
        "\"",
        "[\"",
        "{\"",
        "{\"a\":",
        "null",
        "I do not know.",
        "[{\"bbox_2d\": [1e999, 0, 0, 0]}]",
        "[{\"bbox_2d\": [1, 2, 3]}]",
        "[{\"bbox_2d\": [\"1\", \"2\", \"3\", \"4\"]}]",
        "[{\"bbox_2d\": {}}]",
        "[{\"bbox_2d\": [-400, 0, 10, 10], \"label\": \"far off\"}]",
        "[{\"bbox_2d\": [0, 0, 5000, 10], \"label\": \"pixels\"}]",
        "{\"a\": {\"a\": {\"a\": {\"a\": []}}}}",
        "[{\"label\": 7}]",
        "[{\"start\": \"soon\"}]",
        "{\"00:00 - \": \"x\"}",
        "\xff\xfe[{\"label\": \"\xc3\"}]",
        "```json",
        "``` ``` ```",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        limn_findings f;
        rows(&f, bad[i]);
        if (f.n != 0) fail_msg("row %zu gave a finding", i);
        limn_findings_deinit(&f);
    }
    /* deep, long, and every cut of something good */
    size_t n = 1 << 20;
    char *deep = malloc(n + 1);
    memset(deep, '[', n);
    deep[n] = 0;
    limn_findings f;
    rows(&f, deep);
    assert_int_equal(f.n, 0);
    limn_findings_deinit(&f);
    memset(deep, '"', n);
    rows(&f, deep);
    limn_findings_deinit(&f);
    free(deep);
    static const char good[] =
        "```json\n[{\"bbox_2d\": [1, 2, 3, 4], \"label\": \"a \\\"b\\\" [c]\"},\n"
        "{\"bbox_2d\": [5, 6, 7, 8], \"label\": \"\\u00e9\"}]\n```";
    for (size_t len = 0; len <= strlen(good); len++) {
        char *part = malloc(len + 1); /* exactly as long: a reader past the end is found */
        memcpy(part, good, len);
        part[len] = 0;
        rows(&f, part);
        assert_true(f.n <= 2);
        for (size_t i = 0; i < f.n; i++) {
            assert_true(f.list[i].has_box);
            assert_string_equal(f.list[i].label, i == 0 ? "a \"b\" [c]" : "\xc3\xa9");
        }
        limn_findings_deinit(&f);
        free(part);
    }
}

static void tags(const char *text, const char *want) {
    limn_err err = {0};
    limn_findings f;
    char got[512] = "";
    limn_findings_init(&f);
    OK(limn_task_tags_parse(&f, text, strlen(text), 0, &err));
    for (size_t i = 0; i < f.n; i++) {
        strcat(got, i ? "|" : "");
        strcat(got, f.list[i].label);
    }
    assert_string_equal(got, want);
    limn_findings_deinit(&f);
}

static void test_tags_and_times(void **state) {
    (void)state;
    tags("a fox, a tree and the sun.", "a fox|a tree|the sun");
    tags("- fox\n- tree\n* sun", "fox|tree|sun");
    tags("1. fox\n2. tree", "fox|tree");
    tags("[\"fox\", 3, \"tree\", \"fox\"]", "fox|tree");
    tags("{\"tags\": [\"fox\"", "fox");
    tags("", "");
    tags(" ,,; \n", "");
    double s;
    static const struct {
        const char *text;
        double want; /* < 0: no time */
    } times[] = {{"12.5", 12.5},   {"01:23.4", 83.4}, {"1:02:03", 3723}, {"5 s", 5},
                 {"5 seconds", 5}, {"", -1},          {":", -1},         {"1:", -1},
                 {"a", -1},        {"-5", -1},        {"1:2:3:4", -1},   {"1e300", -1},
                 {"nan", -1},      {"5 min", -1}};
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        bool ok = limn_task_time_parse(&s, times[i].text);
        if (ok != (times[i].want >= 0) || (ok && fabs(s - times[i].want) > 1e-9))
            fail_msg("\"%s\" was read as %g", times[i].text, ok ? s : -1);
    }
}

/* ---- runs on the tiny model ---- */

static limn_seer *seer_new(void) {
    return seer_on("tiny_see", "");
}

typedef struct ear {
    char text[65536];
} ear;

static bool hear(void *user, const limn_said *s) {
    ear *e = user;
    strncat(e->text, s->text, sizeof e->text - strlen(e->text) - 1);
    return true;
}

static limn_status run(limn_sight **out, limn_seer *s, const limn_image *const *im, size_t n,
                       const char *options, ear *e, limn_err *err) {
    limn_params *see = params(LIMN_PARAMS_SEE, options);
    limn_message_part parts[4];
    for (size_t i = 0; i < n; i++)
        parts[i] = (limn_message_part){.kind = LIMN_MESSAGE_IMAGE, .image = im[i]};
    limn_look_watch w = {.said = hear, .user = e};
    e->text[0] = 0;
    limn_status st = limn_task_run(out, s, parts, n, see, &w, err);
    limn_params_free(&see);
    return st;
}

/* Every task, every format: what was said is what is returned, findings are in their pictures. */
static void test_every_task(void **state) {
    (void)state;
    limn_err err = {0};
    limn_seer *s = seer_new();
    limn_image *im[2] = {picture(96, 64, 1), picture(96, 64, 2)};
    static ear e;
    limn_task_info t;
    for (int i = 0; limn_task_get_info(&t, i); i++)
        for (int k = 0; t.formats[k]; k++)
            for (int with = 0; with < 2; with++) { /* without and with words */
                char options[256];
                const char *words = strcmp(t.words, "categories") == 0 ? "fox, tree" : "name of it";
                bool needs = t.least_pictures == 0 || strcmp(t.name, "points") == 0 ||
                             strcmp(t.name, "follow") == 0 || strcmp(t.name, "extract") == 0;
                if ((!t.words[0] && with) || (needs && !with)) continue;
                snprintf(options, sizeof options, "task=%s;format=%s;max_tokens=150%s%s", t.name,
                         t.formats[k], with ? ";prompt=" : "", with ? words : "");
                limn_sight *sight = NULL;
                limn_status st =
                    run(&sight, s, (const limn_image *const *)im, 2, options, &e, &err);
                if (st != LIMN_OK) fail_msg("%s: %s", options, err.text);
                assert_string_equal(sight->text, e.text);
                assert_string_equal(sight->task, t.name);
                assert_string_equal(sight->format, t.formats[k]);
                for (size_t j = 0; j < sight->n_findings; j++) {
                    const limn_finding *f = &sight->findings[j];
                    assert_in_range(f->picture, 0, sight->n_pictures - 1);
                    assert_true(f->score <= 1);
                    if (!f->has_box) continue;
                    assert_true(f->box[0] >= 0 && f->box[0] <= f->box[2] && f->box[2] <= 96);
                    assert_true(f->box[1] >= 0 && f->box[1] <= f->box[3] && f->box[3] <= 64);
                }
                char *json = NULL;
                OK(limn_sight_format_json(&json, sight, &err));
                json_t *root = json_loads(json, 0, NULL);
                assert_true(json_is_object(root));
                assert_int_equal(json_array_size(json_object_get(root, "findings")),
                                 sight->n_findings);
                json_decref(root);
                limn_text_free(&json);
                limn_sight_free(&sight);
            }
    limn_seer_free(&s);
    for (int i = 0; i < 2; i++) limn_image_free(&im[i]);
}

/* A real clip through the tasks that take clips, and refused by one that takes pictures. */
static void test_clip_files(void **state) {
    (void)state;
    limn_err err = {0};
    static const char *const tasks[] = {"task=video;max_tokens=8", "task=events;max_tokens=40",
                                        "task=follow;categories=ball;max_tokens=40",
                                        "task=ask;prompt=what is it?;max_tokens=8"};
    char path[] = "/tmp/limn-clip-XXXXXX.mp4";
    int fd = mkstemps(path, 4);
    assert_true(fd >= 0);
    close(fd);
    clip_options o = {.container = "mp4",
                      .codec = AV_CODEC_ID_MPEG4,
                      .pixels = AV_PIX_FMT_YUV420P,
                      .frames = 12,
                      .fps = 4,
                      .gop = 6};
    clip_make(path, &o);
    limn_seer *s = seer_new();
    limn_message_part file = {.kind = LIMN_MESSAGE_FILE, .path = path};
    for (size_t i = 0; i < 4; i++) {
        limn_params *see = params(LIMN_PARAMS_SEE, tasks[i]);
        limn_sight *sight = NULL;
        OK(limn_task_run(&sight, s, &file, 1, see, NULL, &err));
        assert_true(sight->image_tokens > 0);
        for (size_t k = 0; k < sight->n_findings; k++)
            if (sight->findings[k].has_box) assert_true(sight->findings[k].box[2] <= CLIP_W);
        limn_sight_free(&sight);
        limn_params_free(&see);
    }
    limn_params *see = params(LIMN_PARAMS_SEE, "task=ocr");
    limn_sight *sight = NULL;
    assert_int_equal(limn_task_run(&sight, s, &file, 1, see, NULL, &err), LIMN_E_USAGE);
    limn_params_free(&see);
    limn_seer_free(&s);
    unlink(path);
}

/* Scores: they sum to one, the best is chosen, and they are what greedy answers follow. */
static void test_scores(void **state) {
    (void)state;
    limn_err err = {0};
    limn_seer *s = seer_new();
    const limn_image *im[] = {picture(64, 64, 3)};
    static ear e;
    limn_sight *sight;
    OK(run(&sight, s, im, 1,
           "task=classify;categories=the user;categories=a text;categories=an answer", &e, &err));
    assert_int_equal(sight->n_findings, 3);
    double sum = 0;
    for (size_t i = 0; i < 3; i++) {
        sum += sight->findings[i].score;
        assert_int_equal(sight->findings[i].chosen, i == 0);
        assert_true(i == 0 || sight->findings[i].score <= sight->findings[i - 1].score);
    }
    assert_true(fabs(sum - 1) < 1e-9);
    limn_sight_free(&sight);
    OK(run(&sight, s, im, 1,
           "task=moderate;policy={\"categories\":[{\"name\":\"weapon\",\"threshold\":0.000001},"
           "\"wine\"],\"reasons\":true}",
           &e, &err));
    assert_int_equal(sight->n_findings, 3); /* and none */
    for (size_t i = 0; i < 3; i++)
        if (strcmp(sight->findings[i].label, "weapon") == 0)
            assert_int_equal(sight->findings[i].chosen, sight->findings[i].score >= 0.000001);
    limn_sight_free(&sight);
    limn_seer_free(&s);
    limn_image *owned = (limn_image *)(uintptr_t)im[0];
    limn_image_free(&owned);
}

static void test_refusals(void **state) {
    (void)state;
    limn_err err = {0};
    limn_seer *s = seer_new();
    const limn_image *im[] = {picture(64, 64, 3)};
    static ear e;
    static const struct {
        const char *options;
        size_t pictures;
        limn_status want;
    } rows_[] = {
        {"task=nonsense", 1, LIMN_E_USAGE},
        {"task=ocr;format=html", 1, LIMN_E_USAGE},
        {"task=ocr;prompt=what?", 1, LIMN_E_USAGE},
        {"task=ocr", 0, LIMN_E_USAGE},
        {"task=ask", 1, LIMN_E_USAGE},
        {"task=points", 1, LIMN_E_USAGE},
        {"task=extract", 1, LIMN_E_USAGE},
        {"task=extract;categories=a", 1, LIMN_E_USAGE},
        {"task=caption;categories=a", 1, LIMN_E_USAGE},
        {"task=boxes;categories=a;prompt=b", 1, LIMN_E_USAGE},
        {"task=boxes;schema={}", 1, LIMN_E_USAGE},
        {"task=caption;policy={}", 1, LIMN_E_USAGE},
        {"task=moderate;policy={", 1, LIMN_E_VALUE},
        {"task=moderate;policy={}", 1, LIMN_E_VALUE},
        {"task=moderate;policy={\"categories\":[\"none\"]}", 1, LIMN_E_VALUE},
        {"task=moderate;policy={\"categories\":[\"a\",\"a\"]}", 1, LIMN_E_VALUE},
        {"task=moderate;policy={\"categories\":[\"a\"],\"x\":1}", 1, LIMN_E_VALUE},
        {"task=moderate;policy={\"categories\":[{\"name\":\"a\",\"threshold\":7}]}", 1,
         LIMN_E_VALUE},
    };
    for (size_t i = 0; i < sizeof rows_ / sizeof rows_[0]; i++) {
        limn_sight *sight;
        limn_status st = run(&sight, s, im, rows_[i].pictures, rows_[i].options, &e, &err);
        if (st != rows_[i].want) fail_msg("%s: %s", rows_[i].options, limn_status_text(st));
        assert_null(sight);
    }
    limn_seer_free(&s);
    limn_image *owned = (limn_image *)(uintptr_t)im[0];
    limn_image_free(&owned);
}

/* Marks change the picture where they are and nowhere else. */
static void test_drawing(void **state) {
    (void)state;
    limn_err err = {0};
    limn_image *im = picture(200, 100, 1), *drawn;
    const limn_finding list[] = {
        {.label = "", .text = "", .score = -1, .has_box = true, .box = {20, 30, 120, 80}},
        {.label = "", .text = "", .score = -1, .has_point = true, .point = {160, 50}},
        {.label = "",
         .text = "",
         .score = -1,
         .has_box = true,
         .box = {0, 0, 200, 100},
         .picture = 1}};
    const limn_sight_picture pictures[] = {{"", 1, 200, 100}, {"", 1, 200, 100}};
    limn_sight s = {.findings = list, .n_findings = 3, .pictures = pictures, .n_pictures = 2};
    OK(limn_sight_draw(&drawn, &s, im, 0, &err));
    int changed = 0, outside = 0;
    for (int y = 0; y < 100; y++)
        for (int x = 0; x < 200; x++) {
            size_t at = ((size_t)y * 200 + (size_t)x) * 3;
            if (memcmp(im->data + at, drawn->data + at, 3) == 0) continue;
            changed++;
            bool box = x >= 20 && x < 120 && y >= 30 && y < 80 &&
                       !(x >= 22 && x < 118 && y >= 32 && y < 78);
            bool point = hypot(x - 160, y - 50) <= 6;
            outside += !box && !point;
        }
    assert_true(changed > 250);
    assert_int_equal(outside, 0);
    limn_image_free(&drawn);
    assert_int_equal(limn_sight_draw(&drawn, &s, im, 5, &err), LIMN_E_VALUE);
    limn_image *other = picture(64, 64, 1);
    assert_int_equal(limn_sight_draw(&drawn, &s, other, 0, &err), LIMN_E_VALUE);
    limn_image_free(&other);
    limn_image_free(&im);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_boxes_are_read),
        cmocka_unit_test(test_other_rows),
        cmocka_unit_test(test_times_are_in_the_clip),
        cmocka_unit_test(test_hostile_answers),
        cmocka_unit_test(test_tags_and_times),
        cmocka_unit_test(test_clip_files),
        cmocka_unit_test(test_every_task),
        cmocka_unit_test(test_scores),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_drawing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
