/* SPDX-License-Identifier: MIT */
/*
 * The stream of an answer, parted into thinking, text and tool calls by the marks that Qwen models
 * write: <think> ... </think>, <tool_call> ... </tool_call>; see see.h. What may be the beginning
 * of a mark is held back until it is certain.
 */
#include <string.h>

#include "pipeline/see.h"

enum { TEXT_MAX = 1 << 28, MARK_MAX = 16 };

typedef struct mark {
    const char *text;
    limn_said_kind in, to;
} mark;

static const mark marks[] = {
    {"<think>", LIMN_SAID_TEXT, LIMN_SAID_REASONING},
    {"</think>", LIMN_SAID_REASONING, LIMN_SAID_TEXT},
    {"<tool_call>", LIMN_SAID_TEXT, LIMN_SAID_CALL},
    {"</tool_call>", LIMN_SAID_CALL, LIMN_SAID_TEXT},
};
enum { MARKS = sizeof marks / sizeof marks[0] };

limn_status limn_look_sink_init(limn_look_sink *s, limn_said_kind first, bool tools) {
    *s = (limn_look_sink){.kind = first, .tools = tools, .fresh = first != LIMN_SAID_TEXT};
    limn_buf *all[] = {&s->pending, &s->text, &s->reasoning, &s->call, &s->calls};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) limn_buf_init(all[i], TEXT_MAX);
    return LIMN_OK;
}

void limn_look_sink_deinit(limn_look_sink *s) {
    limn_buf *all[] = {&s->pending, &s->text, &s->reasoning, &s->call, &s->calls};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) limn_buf_deinit(all[i]);
}

/* Thinking begins an answer or not at all; calls only come when there are tools. */
static bool counts(const limn_look_sink *s, const mark *m) {
    if (m->in != s->kind) return false;
    if (m->to == LIMN_SAID_REASONING) return !s->begun && s->reasoning.len == 0;
    return m->to != LIMN_SAID_CALL || s->tools;
}

static bool say(limn_look *l, limn_look_say *speak, const char *text, size_t len) {
    limn_look_sink *s = &l->sink;
    while (s->fresh && len > 0 && (*text == '\n' || *text == '\r')) text++, len--;
    if (len == 0) return true;
    s->fresh = false;
    limn_buf *to[] = {[LIMN_SAID_TEXT] = &s->text,
                      [LIMN_SAID_REASONING] = &s->reasoning,
                      [LIMN_SAID_CALL] = &s->call};
    limn_buf_add(to[s->kind], text, len);
    if (s->kind == LIMN_SAID_TEXT && strspn(text, " \t\r\n") < len) s->begun = true;
    return speak(l, s->kind, text, len);
}

static void call_close(limn_look_sink *s) {
    const char *text = limn_buf_text(&s->call);
    size_t n = s->call.len;
    while (n > 0 && strchr(" \t\r\n", text[n - 1])) n--;
    if (n > 0) {
        limn_buf_add(&s->calls, text, n);
        limn_buf_addc(&s->calls, 0);
    }
    limn_buf_clear(&s->call);
}

/* The earliest mark that counts here; NULL when there is none. */
static const mark *mark_find(const limn_look_sink *s, size_t *at) {
    const mark *found = NULL;
    for (int i = 0; i < MARKS; i++) {
        if (!counts(s, &marks[i])) continue;
        const char *text = limn_buf_text(&s->pending), *hit = strstr(text, marks[i].text);
        if (!hit || (found && (size_t)(hit - text) >= *at)) continue;
        *at = (size_t)(hit - text);
        found = &marks[i];
    }
    return found;
}

/* Bytes at the end that may become a mark. */
static size_t held(const limn_look_sink *s) {
    size_t most = 0;
    for (int i = 0; i < MARKS; i++) {
        if (!counts(s, &marks[i])) continue;
        for (size_t n = strlen(marks[i].text) - 1; n > most; n--)
            if (n <= s->pending.len &&
                memcmp(s->pending.data + s->pending.len - n, marks[i].text, n) == 0)
                most = n;
    }
    return most;
}

static void drop(limn_buf *b, size_t n) {
    memmove(b->data, b->data + n, b->len - n + 1);
    b->len -= n;
}

bool limn_look_sink_add(limn_look *l, limn_look_say *speak, const char *text, size_t len,
                        bool last) {
    limn_look_sink *s = &l->sink;
    const mark *m;
    size_t at = 0;
    bool more = true;
    s->thoughts += !last && s->kind == LIMN_SAID_REASONING;
    for (size_t i = 0; i < len;) { /* texts end with NUL: one inside becomes U+FFFD */
        size_t n = strnlen(text + i, len - i);
        limn_buf_add(&s->pending, text + i, n);
        if ((i += n) < len) limn_buf_adds(&s->pending, "\xef\xbf\xbd"), i++;
    }
    while (more && s->pending.len > 0 && (m = mark_find(s, &at)) != NULL) {
        more = say(l, speak, s->pending.data, at);
        drop(&s->pending, at + strlen(m->text));
        if (s->kind == LIMN_SAID_CALL) call_close(s);
        s->kind = m->to;
        s->fresh = true;
    }
    if (!more) return false;
    size_t keep = last ? 0 : held(s), n = s->pending.len - keep;
    if (n > 0) {
        char *copy = s->pending.data, end = copy[n];
        copy[n] = 0; /* a listener gets a terminated text */
        more = say(l, speak, copy, n);
        copy[n] = end;
        drop(&s->pending, n);
    }
    if (last && s->kind == LIMN_SAID_CALL) call_close(s);
    return more;
}
