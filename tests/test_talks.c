/* SPDX-License-Identifier: MIT */
/*
 * Whole conversations as transformers answers them (golden/qwen3vl/talks.json): pictures of every
 * shape through the real resizing, clips of one to three slices with their times, several turns,
 * tool results with pictures and clips. Ids of the prompt and greedy tokens are equal, read whole
 * and continued from a cache.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <jansson.h>

#include "media/jail.h"
#include "see_test.h"

enum { MESSAGES = 8, PARTS = 6, FRAMES = 8 };

typedef struct conversation {
    limn_message messages[MESSAGES];
    limn_message_part parts[MESSAGES][PARTS];
    limn_tool_call call;
    char *arguments, *tool;
    const char *tools[1];
    limn_image *owned[MESSAGES * PARTS * FRAMES];
    const limn_image *frames[MESSAGES * PARTS * FRAMES];
    size_t n_owned;
    limn_talk talk;
} conversation;

static int number(const json_t *o, const char *key) {
    return (int)json_integer_value(json_object_get(o, key));
}

static void part_make(conversation *c, limn_message_part *part, const json_t *o) {
    const char *type = json_string_value(json_object_get(o, "type"));
    if (strcmp(type, "text") == 0) {
        part->kind = LIMN_MESSAGE_TEXT;
        part->text = json_string_value(json_object_get(o, "text"));
        return;
    }
    int n = strcmp(type, "video") == 0 ? number(o, "frames") : 1;
    size_t first = c->n_owned;
    for (int i = 0; i < n; i++) {
        limn_image *im = picture(number(o, "w"), number(o, "h"), number(o, "seed") + i);
        c->frames[c->n_owned] = im;
        c->owned[c->n_owned++] = im;
    }
    if (strcmp(type, "image") == 0)
        *part = (limn_message_part){.kind = LIMN_MESSAGE_IMAGE, .image = c->owned[first]};
    else
        *part = (limn_message_part){
            .kind = LIMN_MESSAGE_VIDEO, .frames = c->frames + first, .n_frames = (size_t)n};
}

static void conversation_make(conversation *c, const json_t *row, const json_t *tool) {
    size_t i, k;
    json_t *m, *p;
    *c = (conversation){.talk.messages = c->messages};
    json_array_foreach(json_object_get(row, "messages"), i, m) {
        const char *role = json_string_value(json_object_get(m, "role"));
        limn_message *to = &c->messages[i];
        to->role = strcmp(role, "user") == 0   ? LIMN_ROLE_USER
                   : strcmp(role, "tool") == 0 ? LIMN_ROLE_TOOL
                                               : LIMN_ROLE_ASSISTANT;
        to->parts = c->parts[i];
        json_array_foreach(json_object_get(m, "content"), k, p)
            part_make(c, &c->parts[i][to->n_parts++], p);
        json_t *call = json_array_get(json_object_get(m, "tool_calls"), 0);
        if (call) {
            json_t *f = json_object_get(call, "function");
            c->arguments = json_dumps(json_object_get(f, "arguments"), 0);
            c->call = (limn_tool_call){json_string_value(json_object_get(f, "name")), c->arguments};
            to->calls = &c->call;
            to->n_calls = 1;
        }
        c->talk.n_messages++;
        if (to->role != LIMN_ROLE_TOOL) continue;
        c->tool = json_dumps(tool, 0);
        c->tools[0] = c->tool;
        c->talk.tools = c->tools;
        c->talk.n_tools = 1;
    }
}

static void conversation_free(conversation *c) {
    for (size_t i = 0; i < c->n_owned; i++) limn_image_free(&c->owned[i]);
    free(c->arguments);
    free(c->tool);
}

static void same_ids(const char *name, const char *what, const int32_t *got, size_t n,
                     const json_t *want) {
    for (size_t i = 0; i < n && i < json_array_size(want); i++)
        if (got[i] != json_integer_value(json_array_get(want, i)))
            fail_msg("%s: %s %zu is %d, not %lld", name, what, i, got[i],
                     (long long)json_integer_value(json_array_get(want, i)));
    if (n != json_array_size(want))
        fail_msg("%s: %zu %s, not %zu", name, n, what, json_array_size(want));
}

/* Cached tokens of the look. */
static int64_t compare(limn_seer *s, const json_t *row, const json_t *tool) {
    limn_err err = {0};
    static conversation c;
    const char *name = json_string_value(json_object_get(row, "name"));
    limn_params *see = params(LIMN_PARAMS_SEE, "max_tokens=32;logprobs=0;temperature=0");
    limn_look *l = NULL;
    conversation_make(&c, row, tool);
    if (limn_look_new(&l, s, &c.talk, see, NULL, &err) != LIMN_OK)
        fail_msg("%s: %s", name, err.text);
    same_ids(name, "ids", l->prompt.ids.data, l->prompt.ids.len, json_object_get(row, "ids"));
    while (!limn_look_is_done(l)) OK(limn_seer_step(s, &err));
    same_ids(name, "tokens", l->result.ids.data, l->result.ids.len, json_object_get(row, "tokens"));
    int64_t cached = l->cached;
    limn_look_free(&l);
    limn_params_free(&see);
    conversation_free(&c);
    return cached;
}

static void test_talks(void **state) {
    (void)state;
    char path[512];
    json_t *root = json_load_file(golden_path(path, sizeof path, "qwen3vl/talks.json"), 0, NULL);
    json_t *row, *tool = json_object_get(root, "tool");
    size_t i;
    assert_true(json_array_size(json_object_get(root, "talks")) >= 15);
    json_array_foreach(json_object_get(root, "talks"), i, row) {
        limn_seer *s = seer_on("tiny_see", "context=1024");
        assert_int_equal(compare(s, row, tool), 0);
        /* again: everything but the last token comes from the cache */
        assert_int_equal(compare(s, row, tool), json_array_size(json_object_get(row, "ids")) - 1);
        limn_seer_free(&s);
    }
    json_decref(root);
}

/* ---- memory ---- */
/* A row of /proc/self/status in bytes. */
static int64_t status_bytes(const char *key) {
    char line[256];
    int64_t kb = 0;
    FILE *f = fopen("/proc/self/status", "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f))
        if (strncmp(line, key, strlen(key)) == 0) kb = atoll(line + strlen(key) + 1);
    fclose(f);
    return kb * 1024;
}

/* What is said before the work is not exceeded by it: the growth of the peak from before the model
 * was opened, for a picture that is the largest so far each time. LIMN_MEMORY_MODEL names a larger
 * model to measure (with LIMN_MEMORY_SIDE pixels a side). */
static void test_memory_is_as_said(void **state) {
    (void)state;
    limn_err err = {0};
    const char *model = getenv("LIMN_MEMORY_MODEL"), *side = getenv("LIMN_MEMORY_SIDE");
    int most = side ? atoi(side) : 256;
    FILE *f = fopen("/proc/self/clear_refs", "w"); /* the peak begins anew */
    if (f) fputs("5", f), fclose(f);
    int64_t before = status_bytes("VmHWM:");
    limn_params *app = params(LIMN_PARAMS_APP, "cache_dir=none;threads=2"),
                *see = params(LIMN_PARAMS_SEE, "max_tokens=4;temperature=0;context=2048");
    char path[512];
    limn_seer *s = NULL;
    limn_seer_info info;
    OK(limn_params_set(see, "model", model ? model : golden_path(path, sizeof path, "tiny_see"),
                       LIMN_FROM_API, &err));
    OK(limn_seer_new(&s, app, see, &err));
    limn_seer_get_info(&info, s);
    assert_true(info.need_bytes > info.weight_bytes + info.cache_bytes);
    for (int size = most / 4; size <= most; size *= 2) {
        limn_image *im = picture(size, size, size);
        limn_message_part parts[] = {{.kind = LIMN_MESSAGE_IMAGE, .image = im},
                                     {.kind = LIMN_MESSAGE_TEXT, .text = "what is it?"}};
        limn_message m = {.role = LIMN_ROLE_USER, .parts = parts, .n_parts = 2};
        limn_talk t = {.messages = &m, .n_messages = 1};
        limn_answer *a = NULL;
        OK(limn_see(&a, s, &t, see, NULL, &err));
        int64_t grown = status_bytes("VmHWM:") - before;
        if (model) /* a measurement is to be read */
            print_message("%d pixels: said %lld MB, peak %lld MB\n", size,
                          (long long)a->memory_bytes / 1000000, (long long)grown / 1000000);
        assert_true(a->memory_bytes > info.need_bytes);
        if (!model && size == most / 4) { /* limn info says the same */
            size_t told;
            OK(limn_seer_need_picture(&told, s, size, size, &err));
            assert_int_equal(a->memory_bytes, told);
        }
        assert_true(grown <= a->memory_bytes);
        limn_answer_free(&a);
        limn_image_free(&im);
    }
    limn_seer_free(&s);
    limn_params_free(&app);
    limn_params_free(&see);
}

/* 200 pictures, each another, more than the picture cache holds: after the first 50 nothing grows.
 */
static void test_memory_is_flat(void **state) {
    (void)state;
    limn_err err = {0};
    limn_seer *s = seer_on("tiny_see", "picture_cache=65536;context=256");
    limn_params *see = params(LIMN_PARAMS_SEE, "max_tokens=3;temperature=0");
    int64_t early = 0;
    for (int i = 0; i < 200; i++) {
        limn_image *im = picture(i % 3 ? 64 : 96, 64, 1000 + i);
        limn_message_part parts[] = {{.kind = LIMN_MESSAGE_IMAGE, .image = im},
                                     {.kind = LIMN_MESSAGE_TEXT, .text = "what is it?"}};
        limn_message m = {.role = LIMN_ROLE_USER, .parts = parts, .n_parts = 2};
        limn_talk t = {.messages = &m, .n_messages = 1};
        limn_answer *a = NULL;
        OK(limn_see(&a, s, &t, see, NULL, &err));
        limn_answer_free(&a);
        limn_image_free(&im);
        if (i == 50) early = status_bytes("VmRSS:");
    }
    int64_t grown = status_bytes("VmRSS:") - early;
    if (grown > 4 << 20 && !LIMN_SANITIZED) /* sanitizers keep freed memory */
        fail_msg("150 pictures took %lld kB more", (long long)grown / 1024);
    limn_seer_free(&s);
    limn_params_free(&see);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_is_as_said), /* first: its peak is its own */
        cmocka_unit_test(test_talks),
        cmocka_unit_test(test_memory_is_flat),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
