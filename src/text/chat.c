/* SPDX-License-Identifier: MIT */
/*
 * Conversations -> segments; see chat.h. The branches follow the Jinja templates of the models'
 * repositories (Qwen3-VL chat_template.json, the Thinking variant, Qwen3), with which test_chat.c
 * compares.
 */
#include "text/chat.h"

#include <string.h>

#include "text/chat_impl.h"

enum { TEXT_MAX = 256 << 20, MEDIA_MAX = 65536 };

typedef struct renderer {
    const limn_chat *chat;
    const limn_chat_options *opt;
    limn_arena *arena;
    limn_buf text; /* the open text segment */
    limn_chat_segment *seg;
    size_t n, cap;
    uint32_t images, videos;
    bool failed;
    limn_err *err;
} renderer;

/* ---- segments ---- */

static void add_segment(renderer *r, limn_chat_segment_kind kind, const char *s, size_t n,
                        uint32_t media) {
    if (r->n == r->cap) {
        size_t cap = r->cap ? r->cap * 2 : 64;
        void *p = limn_mem_realloc(r->seg, cap * sizeof *r->seg);
        if (!p) {
            r->failed = true;
            return;
        }
        r->seg = p;
        r->cap = cap;
    }
    char *copy = limn_arena_strndup(r->arena, s, n);
    if (!copy)
        r->failed = true;
    else
        r->seg[r->n++] = (limn_chat_segment){kind, copy, n, media};
}

static void flush_text(renderer *r) {
    if (r->text.len) add_segment(r, LIMN_SEGMENT_TEXT, r->text.data, r->text.len, 0);
    limn_buf_clear(&r->text);
}

static void put_text(renderer *r, const char *s, size_t n) {
    limn_buf_add(&r->text, s, n);
}

/* Words of the template itself: the spellings below are control tokens here, and only here. */
static void put_template(renderer *r, const char *s) {
    static const char *const controls[] = {
        "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>",  "<tool_call>",
        "</tool_call>", "<think>",    "</think>",         "<tool_response>", "</tool_response>"};
    /* plain ChatML has only the first two */
    size_t known =
        r->opt->template_id == LIMN_CHAT_CHATML ? 2 : sizeof controls / sizeof controls[0];
    while (*s) {
        size_t plain = strcspn(s, "<"), len = 0;
        put_text(r, s, plain);
        s += plain;
        for (size_t i = 0; *s && i < known && !len; i++)
            if (strncmp(s, controls[i], strlen(controls[i])) == 0) len = strlen(controls[i]);
        if (len) {
            flush_text(r);
            add_segment(r, LIMN_SEGMENT_CONTROL, s, len, 0);
        } else if (*s) {
            put_text(r, s, len = 1);
        }
        s += len;
    }
}

static limn_status put_media(renderer *r, limn_chat_part_kind kind) {
    bool image = kind == LIMN_CHAT_IMAGE;
    uint32_t *count = image ? &r->images : &r->videos;
    if (*count == MEDIA_MAX)
        return limn_fail(r->err, LIMN_E_LIMIT, "more than %d images or videos", MEDIA_MAX);
    if (r->opt->add_vision_id)
        limn_buf_addf(&r->text, "%s %u: ", image ? "Picture" : "Video", *count + 1);
    flush_text(r);
    if (image) add_segment(r, LIMN_SEGMENT_CONTROL, "<|vision_start|>", 16, 0);
    add_segment(r, image ? LIMN_SEGMENT_IMAGE : LIMN_SEGMENT_VIDEO, "", 0, *count);
    if (image) add_segment(r, LIMN_SEGMENT_CONTROL, "<|vision_end|>", 14, 0);
    ++*count;
    return LIMN_OK;
}

/* ---- contents ---- */

static bool has_vision(limn_chat_template t) {
    return t == LIMN_CHAT_QWEN3VL || t == LIMN_CHAT_QWEN3VL_THINKING;
}

static limn_status put_content(renderer *r, const limn_chat_message *m, bool media) {
    for (size_t i = 0; i < m->n_parts; i++) {
        const limn_chat_part *p = &m->parts[i];
        if (p->kind == LIMN_CHAT_TEXT) {
            put_text(r, p->text, p->len);
            continue;
        }
        if (!has_vision(r->opt->template_id))
            return limn_fail(r->err, LIMN_E_UNSUPPORTED, "this model takes no images or videos");
        if (!media)
            return limn_fail(r->err, LIMN_E_VALUE, "%s messages cannot hold images or videos",
                             m->role == LIMN_ROLE_SYSTEM ? "system" : "assistant");
        limn_status st = put_media(r, p->kind);
        if (st != LIMN_OK) return st;
    }
    return LIMN_OK;
}

/* All text of a message in one buffer; media are left out. */
static limn_status join_text(renderer *r, limn_buf *out, const limn_chat_message *m) {
    limn_buf_init(out, TEXT_MAX);
    for (size_t i = 0; i < m->n_parts; i++)
        if (m->parts[i].kind == LIMN_CHAT_TEXT)
            limn_buf_add(out, m->parts[i].text, m->parts[i].len);
    return out->failed ? limn_fail(r->err, LIMN_E_NOMEM, "no memory for a message") : LIMN_OK;
}

static void strip_newlines(const char **s, size_t *n, bool left, bool right) {
    while (left && *n && **s == '\n') (*s)++, (*n)--;
    while (right && *n && (*s)[*n - 1] == '\n') (*n)--;
}

/* An assistant's text, taken apart into thinking and answer. Views into `whole` or the message. */
typedef struct answer {
    limn_buf whole;
    limn_text_view thinking, content;
} answer;

static limn_text_view after_last(limn_text_view v, const char *mark) {
    size_t n = strlen(mark);
    for (size_t i = v.len; i >= n; i--)
        if (memcmp(v.data + i - n, mark, n) == 0) return (limn_text_view){v.data + i, v.len - i};
    return v;
}

static void split_answer(answer *a, const limn_chat_message *m) {
    a->content = (limn_text_view){limn_buf_text(&a->whole), a->whole.len};
    a->thinking = (limn_text_view){"", 0};
    if (m->reasoning) {
        a->thinking = (limn_text_view){m->reasoning, strlen(m->reasoning)};
        return;
    }
    const char *close = memmem(a->content.data, a->content.len, "</think>", 8);
    if (!close) return;
    a->thinking = (limn_text_view){a->content.data, (size_t)(close - a->content.data)};
    strip_newlines(&a->thinking.data, &a->thinking.len, false, true);
    a->thinking = after_last(a->thinking, "<think>");
    strip_newlines(&a->thinking.data, &a->thinking.len, true, false);
    a->content = after_last(a->content, "</think>");
    strip_newlines(&a->content.data, &a->content.len, true, false);
}

/* ---- messages ---- */

static limn_status put_calls(renderer *r, const limn_chat_message *m, bool has_content) {
    for (size_t i = 0; i < m->n_calls; i++) {
        const limn_tool_call *c = &m->calls[i];
        if (i || has_content) put_text(r, "\n", 1);
        put_template(r, "<tool_call>");
        put_text(r, "\n{\"name\": \"", 11);
        put_text(r, c->name, strlen(c->name));
        put_text(r, "\", \"arguments\": ", 16);
        limn_err ignored = {0};
        size_t before = r->text.len;
        limn_status st = limn_chat_dump_json(&r->text, c->arguments, &ignored);
        if (st == LIMN_E_NOMEM) return limn_fail(r->err, st, "%s", ignored.text);
        if (st != LIMN_OK) { /* no JSON: a string, which the templates print as it is */
            r->text.len = before;
            put_text(r, c->arguments, strlen(c->arguments));
        }
        put_text(r, "}\n", 2);
        put_template(r, "</tool_call>");
    }
    return LIMN_OK;
}

static limn_status put_tools(renderer *r, bool system) {
    limn_status st = LIMN_OK;
    put_template(r, "<|im_start|>system\n");
    if (system) {
        LIMN_TRY(put_content(r, &r->chat->messages[0], false));
        put_text(r, "\n\n", 2);
    }
    put_template(r, "# Tools\n\nYou may call one or more functions to assist with the user query."
                    "\n\nYou are provided with function signatures within <tools></tools> XML tags:"
                    "\n<tools>");
    for (size_t i = 0; i < r->chat->n_tools; i++) {
        put_text(r, "\n", 1);
        LIMN_TRY(limn_chat_dump_json(&r->text, r->chat->tools[i], r->err));
    }
    put_template(r, "\n</tools>\n\nFor each function call, return a json object with function name "
                    "and arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n"
                    "{\"name\": <function-name>, \"arguments\": <args-json-object>}\n</tool_call>"
                    "<|im_end|>\n");
out:
    return st;
}

static limn_status put_turn(renderer *r, const char *role, const limn_chat_message *m, bool media) {
    put_template(r, "<|im_start|>");
    put_text(r, role, strlen(role));
    put_text(r, "\n", 1);
    limn_status st = put_content(r, m, media);
    put_template(r, "<|im_end|>\n");
    return st;
}

/* Index of the last question: answers after it show their thinking. A user message that is one tool
 * response is not a question. */
static limn_status last_query(renderer *r, size_t *out) {
    limn_status st = LIMN_OK;
    *out = r->chat->n_messages - 1;
    for (size_t i = r->chat->n_messages; i-- > 0;) {
        const limn_chat_message *m = &r->chat->messages[i];
        if (m->role != LIMN_ROLE_USER) continue;
        limn_buf t;
        LIMN_TRY(join_text(r, &t, m));
        /* A medium at either end would stand before the mark. */
        bool ends_in_text = m->n_parts && m->parts[0].kind == LIMN_CHAT_TEXT &&
                            m->parts[m->n_parts - 1].kind == LIMN_CHAT_TEXT;
        bool response = ends_in_text && t.len >= 16 && !memcmp(t.data, "<tool_response>", 15) &&
                        !memcmp(t.data + t.len - 16, "</tool_response>", 16);
        limn_buf_deinit(&t);
        if (response) continue;
        *out = i;
        break;
    }
out:
    return st;
}

static limn_status put_assistant(renderer *r, size_t index, size_t query) {
    const limn_chat_message *m = &r->chat->messages[index];
    limn_chat_template t = r->opt->template_id;
    answer a = {.thinking = {"", 0}};
    limn_status st;
    for (size_t i = 0; i < m->n_parts; i++)
        if (m->parts[i].kind != LIMN_CHAT_TEXT) return put_content(r, m, false); /* says why */
    LIMN_TRY(join_text(r, &a.whole, m));
    a.content = (limn_text_view){limn_buf_text(&a.whole), a.whole.len};
    if (t == LIMN_CHAT_QWEN3VL_THINKING || t == LIMN_CHAT_QWEN3) split_answer(&a, m);
    put_template(r, "<|im_start|>assistant\n");
    bool last = index + 1 == r->chat->n_messages;
    bool thinks = t == LIMN_CHAT_QWEN3VL_THINKING || t == LIMN_CHAT_QWEN3;
    limn_text_view shown = a.content;
    if (thinks && index > query && (last || a.thinking.len)) {
        strip_newlines(&a.thinking.data, &a.thinking.len, true, true);
        strip_newlines(&shown.data, &shown.len, true, false);
        put_template(r, "<think>\n");
        put_text(r, a.thinking.data, a.thinking.len);
        put_template(r, "\n</think>\n\n");
    }
    put_text(r, shown.data, shown.len);
    LIMN_TRY(put_calls(r, m, a.content.len > 0));
    put_template(r, "<|im_end|>\n");
out:
    limn_buf_deinit(&a.whole);
    return st;
}

/* Neighbouring tool results share one user turn. */
static limn_status put_tool_result(renderer *r, size_t index) {
    const limn_chat_message *m = &r->chat->messages[index];
    limn_status st;
    if (index == 0 || m[-1].role != LIMN_ROLE_TOOL) put_template(r, "<|im_start|>user");
    put_template(r, "\n<tool_response>\n");
    LIMN_TRY(put_content(r, m, true));
    put_template(r, "\n</tool_response>");
    if (index + 1 == r->chat->n_messages || m[1].role != LIMN_ROLE_TOOL)
        put_template(r, "<|im_end|>\n");
out:
    return st;
}

static limn_status put_message(renderer *r, size_t index, size_t query) {
    const limn_chat_message *m = &r->chat->messages[index];
    limn_chat_template t = r->opt->template_id;
    switch (m->role) {
    case LIMN_ROLE_SYSTEM:
        if (index == 0) return LIMN_OK; /* already written */
        if (t == LIMN_CHAT_QWEN3VL)
            return limn_fail(r->err, LIMN_E_VALUE,
                             "message %zu: only the first message can be a system message", index);
        return put_turn(r, "system", m, false);
    case LIMN_ROLE_USER: return put_turn(r, "user", m, true);
    case LIMN_ROLE_ASSISTANT: return put_assistant(r, index, query);
    case LIMN_ROLE_TOOL:
        if (t == LIMN_CHAT_CHATML) return put_turn(r, "tool", m, true);
        return put_tool_result(r, index);
    }
    return limn_fail(r->err, LIMN_E_VALUE, "message %zu has no known role", index);
}

/* Thinking that has begun ends first; a model that may choose does not begin. */
static void put_call_opening(renderer *r) {
    if (r->opt->template_id == LIMN_CHAT_QWEN3VL_THINKING) put_template(r, "\n</think>\n\n");
    if (r->opt->template_id == LIMN_CHAT_QWEN3 && !r->opt->no_thinking)
        put_template(r, "<think>\n\n</think>\n\n");
    put_template(r, "<tool_call>\n");
}

static limn_status render(renderer *r) {
    limn_status st = LIMN_OK;
    const limn_chat *chat = r->chat;
    size_t query = 0;
    LIMN_CHECK(r->err, chat->n_messages > 0, LIMN_E_VALUE, "a chat needs at least one message");
    bool system = chat->messages[0].role == LIMN_ROLE_SYSTEM;
    bool without = r->opt->no_tools || r->opt->template_id == LIMN_CHAT_CHATML;
    LIMN_CHECK(r->err, !without || chat->n_tools == 0 || r->opt->begin_call, LIMN_E_UNSUPPORTED,
               "the model was not taught to call tools (its chat template has no place for them)");
    if (chat->n_tools)
        LIMN_TRY(put_tools(r, system));
    else if (system)
        LIMN_TRY(put_turn(r, "system", &chat->messages[0], false));
    LIMN_TRY(last_query(r, &query));
    for (size_t i = 0; i < chat->n_messages; i++) LIMN_TRY(put_message(r, i, query));
    if (r->opt->add_generation_prompt) {
        put_template(r, "<|im_start|>assistant\n");
        if (r->opt->template_id == LIMN_CHAT_QWEN3VL_THINKING) put_template(r, "<think>\n");
        if (r->opt->template_id == LIMN_CHAT_QWEN3 && r->opt->no_thinking)
            put_template(r, "<think>\n\n</think>\n\n");
        if (r->opt->begin_call) put_call_opening(r);
    }
    flush_text(r);
    LIMN_CHECK(r->err, !r->failed && !r->text.failed, LIMN_E_NOMEM, "no memory for a chat");
out:
    return st;
}

limn_status limn_chat_render(limn_chat_segment **out, size_t *count, limn_arena *arena,
                             const limn_chat *chat, const limn_chat_options *opt, limn_err *err) {
    limn_status st;
    renderer r = {.chat = chat, .opt = opt, .arena = arena, .err = err};
    limn_buf_init(&r.text, TEXT_MAX);
    LIMN_TRY(render(&r));
    *out = limn_arena_alloc(arena, r.n * sizeof **out);
    LIMN_CHECK(err, *out, LIMN_E_NOMEM, "no memory for a chat");
    memcpy(*out, r.seg, r.n * sizeof **out);
    *count = r.n;
out:
    limn_mem_free(r.seg);
    limn_buf_deinit(&r.text);
    return st;
}

limn_status limn_chat_print(limn_buf *out, const limn_chat_segment *segments, size_t count,
                            limn_err *err) {
    for (size_t i = 0; i < count; i++) {
        if (segments[i].kind == LIMN_SEGMENT_IMAGE)
            limn_buf_adds(out, "<|image_pad|>");
        else if (segments[i].kind == LIMN_SEGMENT_VIDEO)
            limn_buf_adds(out, "<|vision_start|><|video_pad|><|vision_end|>");
        else
            limn_buf_add(out, segments[i].text, segments[i].len);
    }
    return out->failed ? limn_fail(err, LIMN_E_LIMIT, "the chat exceeds %zu bytes", out->limit)
                       : LIMN_OK;
}
