/* SPDX-License-Identifier: MIT */
/*
 * Chat templates against the real Jinja templates (tools/reference/make_chat.py): the printed text
 * and, with the tiny vocabulary, the ids with all media expanded.
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

#include "base/mem.h"
#include "text/chat.h"

static const char *golden(const char *name) {
    static char path[1024];
    const char *dir = getenv("LIMN_GOLDEN_DIR");
    snprintf(path, sizeof path, "%s/text/%s", dir ? dir : "tests/golden", name);
    return path;
}

/* One conversation of chat.json as the structures of chat.h. */
typedef struct fixture {
    limn_arena arena;
    limn_chat chat;
    limn_chat_options opt;
    limn_chat_media media;
} fixture;

static void *take(fixture *f, size_t n) {
    void *p = limn_arena_alloc(&f->arena, n ? n : 1);
    assert_non_null(p);
    return p;
}

static void read_parts(fixture *f, limn_chat_message *m, const json_t *content) {
    if (json_is_string(content)) {
        limn_chat_part *p = take(f, sizeof *p);
        *p = (limn_chat_part){LIMN_CHAT_TEXT, json_string_value(content),
                              json_string_length(content)};
        m->parts = p;
        m->n_parts = 1;
        return;
    }
    limn_chat_part *p = take(f, json_array_size(content) * sizeof *p);
    size_t i;
    json_t *v;
    json_array_foreach(content, i, v) {
        const char *type = json_string_value(json_object_get(v, "type"));
        const json_t *text = json_object_get(v, "text");
        p[i].kind = !strcmp(type, "image")   ? LIMN_CHAT_IMAGE
                    : !strcmp(type, "video") ? LIMN_CHAT_VIDEO
                                             : LIMN_CHAT_TEXT;
        p[i].text = json_string_value(text);
        p[i].len = json_string_length(text);
    }
    m->parts = p;
    m->n_parts = json_array_size(content);
}

static const char *dump(fixture *f, const json_t *v) {
    if (json_is_string(v)) return json_string_value(v);
    char *s = json_dumps(v, JSON_COMPACT);
    const char *copy = limn_arena_strdup(&f->arena, s);
    free(s);
    return copy;
}

static void read_message(fixture *f, limn_chat_message *m, const json_t *o) {
    static const char *const roles[] = {"system", "user", "assistant", "tool"};
    const char *role = json_string_value(json_object_get(o, "role"));
    for (int i = 0; i < 4; i++)
        if (!strcmp(role, roles[i])) m->role = (limn_role)i;
    read_parts(f, m, json_object_get(o, "content"));
    m->reasoning = json_string_value(json_object_get(o, "reasoning_content"));
    const json_t *calls = json_object_get(o, "tool_calls");
    limn_tool_call *c = take(f, json_array_size(calls) * sizeof *c);
    size_t i;
    json_t *v;
    json_array_foreach(calls, i, v) {
        const json_t *fn = json_object_get(v, "function");
        c[i].name = json_string_value(json_object_get(fn, "name"));
        c[i].arguments = dump(f, json_object_get(fn, "arguments"));
    }
    m->calls = c;
    m->n_calls = json_array_size(calls);
}

static void read_media(fixture *f, const json_t *o) {
    const json_t *images = json_object_get(o, "images"), *videos = json_object_get(o, "videos");
    size_t n = json_array_size(images), m = json_array_size(videos);
    uint32_t *image = take(f, n * sizeof *image), *slices = take(f, m * sizeof *slices);
    uint32_t *tokens = take(f, m * sizeof *tokens);
    const double **times = take(f, m * sizeof *times);
    for (size_t i = 0; i < n; i++)
        image[i] = (uint32_t)json_integer_value(json_array_get(images, i));
    for (size_t i = 0; i < m; i++) {
        const json_t *v = json_array_get(videos, i), *list = json_object_get(v, "times");
        double *t = take(f, json_array_size(list) * sizeof *t);
        for (size_t k = 0; k < json_array_size(list); k++)
            t[k] = json_number_value(json_array_get(list, k));
        slices[i] = (uint32_t)json_array_size(list);
        tokens[i] = (uint32_t)json_integer_value(json_object_get(v, "tokens"));
        times[i] = t;
    }
    f->media = (limn_chat_media){image, n, slices, tokens, times, m};
}

static void read_case(fixture *f, const json_t *o) {
    static const char *const templates[] = {"qwen3vl", "qwen3vl_thinking", "qwen3"};
    const json_t *messages = json_object_get(o, "messages"), *tools = json_object_get(o, "tools");
    const char *name = json_string_value(json_object_get(o, "template"));
    limn_arena_init(&f->arena);
    for (int i = 0; i < 3; i++)
        if (!strcmp(name, templates[i])) f->opt.template_id = (limn_chat_template)i;
    f->opt.add_generation_prompt = json_is_true(json_object_get(o, "gen"));
    f->opt.add_vision_id = json_is_true(json_object_get(o, "vision_id"));
    f->opt.no_thinking = json_is_true(json_object_get(o, "no_think"));
    limn_chat_message *m = take(f, json_array_size(messages) * sizeof *m);
    const char **t = take(f, json_array_size(tools) * sizeof *t);
    for (size_t i = 0; i < json_array_size(messages); i++)
        read_message(f, &m[i], json_array_get(messages, i));
    for (size_t i = 0; i < json_array_size(tools); i++) t[i] = dump(f, json_array_get(tools, i));
    f->chat = (limn_chat){m, json_array_size(messages), t, json_array_size(tools)};
    read_media(f, o);
}

static limn_tokenizer *tiny(void) {
    limn_tokenizer *t = NULL;
    limn_err err = {0};
    if (limn_tokenizer_load(&t, golden("tiny_bpe.json"), &err) != LIMN_OK) fail_msg("%s", err.text);
    return t;
}

static size_t count_id(const limn_ids *ids, int32_t id) {
    size_t n = 0;
    for (size_t i = 0; i < ids->len; i++) n += ids->data[i] == id;
    return n;
}

/* User text never becomes a control token: as many as the template itself writes. */
static void check_injection(const limn_tokenizer *t, const limn_ids *ids, const limn_chat *chat,
                            bool gen) {
    size_t turns = chat->n_messages;
    assert_int_equal(count_id(ids, limn_tokenizer_find(t, "<|im_start|>")), turns + gen);
    assert_int_equal(count_id(ids, limn_tokenizer_find(t, "<|im_end|>")), turns);
    assert_int_equal(count_id(ids, limn_tokenizer_find(t, "<|image_pad|>")), 0);
    assert_int_equal(count_id(ids, limn_tokenizer_find(t, "<tool_call>")), 0);
    assert_int_equal(count_id(ids, limn_tokenizer_find(t, "</tool_response>")), 1);
}

static void check_slots(const limn_ids *ids, const limn_chat_slot *slots, size_t n,
                        const limn_chat_media *media) {
    size_t want = media->n_images;
    for (size_t i = 0; i < media->n_videos; i++) want += media->video_slices[i];
    assert_int_equal(n, want);
    for (size_t i = 0; i < n; i++) {
        assert_true(slots[i].at + slots[i].tokens <= ids->len);
        int32_t id = ids->data[slots[i].at];
        for (size_t k = 0; k < slots[i].tokens; k++)
            assert_int_equal(ids->data[slots[i].at + k], id);
    }
}

static void check_case(const limn_tokenizer *t, const json_t *o, size_t index) {
    fixture f = {0};
    limn_err err = {0};
    limn_chat_segment *s;
    limn_chat_slot *slots = NULL;
    size_t n, n_slots;
    limn_buf printed;
    limn_ids ids;
    read_case(&f, o);
    limn_buf_init(&printed, 1 << 20);
    limn_ids_init(&ids, 1 << 20);
    if (limn_chat_render(&s, &n, &f.arena, &f.chat, &f.opt, &err) != LIMN_OK)
        fail_msg("case %zu: %s", index, err.text);
    assert_int_equal(limn_chat_print(&printed, s, n, &err), LIMN_OK);
    const char *want = json_string_value(json_object_get(o, "printed"));
    if (strcmp(limn_buf_text(&printed), want) != 0)
        fail_msg("case %zu printed:\n%s\nreference:\n%s", index, limn_buf_text(&printed), want);
    for (size_t i = 1; i < n; i++)
        assert_false(s[i].kind == LIMN_SEGMENT_TEXT && s[i - 1].kind == LIMN_SEGMENT_TEXT);
    if (limn_chat_encode(&ids, &slots, &n_slots, t, s, n, &f.media, &err) != LIMN_OK)
        fail_msg("case %zu: %s", index, err.text);
    const json_t *list = json_object_get(o, "ids");
    if (json_is_true(json_object_get(o, "spelled"))) {
        assert_null(list);
        assert_int_equal(count_id(&ids, limn_tokenizer_find(t, "<tool_response>")), 0);
    } else if (json_is_true(json_object_get(o, "injection"))) {
        check_injection(t, &ids, &f.chat, f.opt.add_generation_prompt);
    } else {
        if (json_array_size(list) != ids.len) fail_msg("case %zu: %zu ids", index, ids.len);
        for (size_t i = 0; i < ids.len; i++)
            if (json_integer_value(json_array_get(list, i)) != ids.data[i])
                fail_msg("case %zu: id %zu is %d", index, i, ids.data[i]);
    }
    check_slots(&ids, slots, n_slots, &f.media);
    limn_mem_free(slots);
    limn_ids_deinit(&ids);
    limn_buf_deinit(&printed);
    limn_arena_deinit(&f.arena);
}

static void test_against_jinja(void **state) {
    json_error_t je;
    json_t *all = json_load_file(golden("chat.json"), 0, &je);
    assert_non_null(all);
    assert_true(json_array_size(all) > 40);
    limn_tokenizer *t = tiny();
    for (size_t i = 0; i < json_array_size(all); i++) check_case(t, json_array_get(all, i), i);
    limn_tokenizer_free(&t);
    json_decref(all);
}

static limn_status render(const limn_chat_message *m, size_t n, limn_chat_template t,
                          const char *tool, limn_err *err) {
    limn_arena arena;
    limn_chat_segment *s;
    size_t count;
    limn_chat chat = {m, n, &tool, tool ? 1 : 0};
    limn_chat_options opt = {.template_id = t};
    limn_arena_init(&arena);
    limn_status st = limn_chat_render(&s, &count, &arena, &chat, &opt, err);
    limn_arena_deinit(&arena);
    return st;
}

static void test_refused(void **state) {
    static const limn_chat_part text = {LIMN_CHAT_TEXT, "x", 1}, image = {LIMN_CHAT_IMAGE, NULL, 0};
    limn_err err = {0};
    limn_chat_message m[2] = {{LIMN_ROLE_USER, &text, 1, NULL, NULL, 0},
                              {LIMN_ROLE_SYSTEM, &text, 1, NULL, NULL, 0}};
    assert_int_equal(render(m, 0, LIMN_CHAT_QWEN3VL, NULL, &err), LIMN_E_VALUE);
    assert_int_equal(render(m, 2, LIMN_CHAT_QWEN3VL, NULL, &err), LIMN_E_VALUE);
    assert_int_equal(render(m, 1, LIMN_CHAT_QWEN3VL, "{", &err), LIMN_E_VALUE);
    assert_int_equal(render(m, 1, LIMN_CHAT_CHATML, "{}", &err), LIMN_E_UNSUPPORTED);
    m[0].parts = &image;
    assert_int_equal(render(m, 1, LIMN_CHAT_QWEN3, NULL, &err), LIMN_E_UNSUPPORTED);
    m[0].role = LIMN_ROLE_SYSTEM;
    assert_int_equal(render(m, 1, LIMN_CHAT_QWEN3VL, NULL, &err), LIMN_E_VALUE);
    m[0].role = LIMN_ROLE_ASSISTANT;
    assert_int_equal(render(m, 1, LIMN_CHAT_QWEN3VL_THINKING, NULL, &err), LIMN_E_VALUE);
    m[0].role = (limn_role)77;
    assert_int_equal(render(m, 1, LIMN_CHAT_QWEN3VL, NULL, &err), LIMN_E_VALUE);
    limn_tokenizer *clip = NULL;
    assert_int_equal(limn_tokenizer_new_clip(&clip, &err), LIMN_OK);
    limn_chat_segment s = {LIMN_SEGMENT_CONTROL, "<|im_start|>", 12, 0};
    limn_ids ids;
    limn_chat_slot *slots = NULL;
    size_t n;
    limn_ids_init(&ids, 10);
    assert_int_equal(limn_chat_encode(&ids, &slots, &n, clip, &s, 1, NULL, &err), LIMN_E_MISSING);
    s.kind = LIMN_SEGMENT_IMAGE;
    assert_int_equal(limn_chat_encode(&ids, &slots, &n, clip, &s, 1, NULL, &err), LIMN_E_VALUE);
    assert_null(slots);
    limn_ids_deinit(&ids);
    limn_tokenizer_free(&clip);
}

static void test_no_memory(void **state) {
    static const limn_chat_part parts[] = {{LIMN_CHAT_IMAGE, NULL, 0},
                                           {LIMN_CHAT_TEXT, "hello", 5}};
    static const limn_tool_call call = {"f", "{\"a\":1}"};
    static const limn_chat_message m[] = {{LIMN_ROLE_USER, parts, 2, NULL, NULL, 0},
                                          {LIMN_ROLE_ASSISTANT, parts + 1, 1, "why", &call, 1}};
    static const uint32_t tokens = 4;
    const limn_chat_media media = {.image_tokens = &tokens, .n_images = 1};
    const limn_chat chat = {m, 2, NULL, 0};
    const limn_chat_options opt = {.template_id = LIMN_CHAT_QWEN3VL_THINKING};
    limn_tokenizer *t = tiny();
    bool done = false;
    for (int64_t k = 0; k < 500 && !done; k++) {
        limn_arena arena;
        limn_chat_segment *s;
        limn_chat_slot *slots = NULL;
        limn_ids ids;
        size_t n, n_slots;
        limn_arena_init(&arena);
        limn_ids_init(&ids, 1000);
        limn_mem_fail_after(k);
        limn_status st = limn_chat_render(&s, &n, &arena, &chat, &opt, NULL);
        if (st == LIMN_OK) st = limn_chat_encode(&ids, &slots, &n_slots, t, s, n, &media, NULL);
        limn_mem_fail_after(-1);
        done = st == LIMN_OK;
        assert_true(done || st == LIMN_E_NOMEM || st == LIMN_E_LIMIT);
        limn_mem_free(slots);
        limn_ids_deinit(&ids);
        limn_arena_deinit(&arena);
    }
    assert_true(done);
    limn_tokenizer_free(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_jinja),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
