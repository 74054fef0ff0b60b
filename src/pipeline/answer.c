/* SPDX-License-Identifier: MIT */
/* What a look hands out, and its JSON; see see.h and limn.h. */
#include <jansson.h>
#include <string.h>

#include "pipeline/see.h"

/* An answer with everything that it points to, freed together. */
typedef struct box {
    limn_answer answer; /* first */
    limn_arena arena;
    limn_token_logprobs *tokens;
} box;

/* {"name": ..., "arguments": ...} as the model wrote it; what is no such object is no call, and its
 * text goes back into the answer. */
static bool call_parse(limn_tool_call *call, limn_arena *a, const char *text) {
    json_t *root = json_loads(text, 0, NULL), *arguments = json_object_get(root, "arguments");
    const char *name = json_string_value(json_object_get(root, "name"));
    char *dump = NULL;
    if (name && json_is_string(arguments))
        dump = limn_arena_strdup(a, json_string_value(arguments));
    else if (name && arguments) {
        char *made = json_dumps(arguments, JSON_COMPACT);
        if (made) dump = limn_arena_strdup(a, made);
        free(made);
    } else if (name)
        dump = limn_arena_strdup(a, "{}");
    *call = (limn_tool_call){name ? limn_arena_strdup(a, name) : NULL, dump};
    json_decref(root);
    return call->name && call->arguments;
}

static void calls_take(box *b, limn_buf *text, const limn_buf *calls) {
    size_t n = 0;
    for (size_t i = 0; i < calls->len; i++) n += calls->data[i] == 0;
    limn_tool_call *list = n > 0 ? limn_arena_alloc(&b->arena, n * sizeof *list) : NULL;
    for (const char *c = calls->data; list && c < calls->data + calls->len; c += strlen(c) + 1) {
        if (call_parse(&list[b->answer.n_calls], &b->arena, c)) {
            b->answer.n_calls++;
            continue;
        }
        limn_buf_adds(text, "<tool_call>\n");
        limn_buf_adds(text, c);
        limn_buf_adds(text, "\n</tool_call>");
    }
    b->answer.calls = b->answer.n_calls > 0 ? list : NULL;
}

limn_status limn_answer_make(limn_answer **out, limn_look *l, limn_err *err) {
    limn_status st = LIMN_OK;
    box *b = limn_mem_calloc(1, sizeof *b);
    limn_answer *a = &b->answer;
    limn_buf *text = &l->sink.text, *why = &l->sink.reasoning;
    *out = NULL;
    LIMN_CHECK(err, b, LIMN_E_NOMEM, "no memory for an answer");
    limn_arena_init(&b->arena);
    calls_take(b, text, &l->sink.calls);
    size_t end = why->len;
    while (end > 0 && strchr("\r\n", why->data[end - 1])) end--;
    *a = (limn_answer){
        .text = limn_arena_strndup(&b->arena, limn_buf_text(text), text->len),
        .len = text->len,
        .reasoning = end > 0 ? limn_arena_strndup(&b->arena, why->data, end) : NULL,
        .calls = a->calls,
        .n_calls = a->n_calls,
        .finish = l->result.finish,
        .stop = l->result.stop ? limn_arena_strdup(&b->arena, l->result.stop) : NULL,
        .prompt_tokens = (int64_t)l->prompt.ids.len,
        .image_tokens = l->prompt.image_tokens,
        .cached_tokens = l->cached,
        .completion_tokens = (int64_t)l->result.ids.len,
        .reasoning_tokens = l->sink.thoughts,
        .guessed_tokens = l->draft.guessed,
        .right_guesses = l->draft.hits,
        .images = (int)l->prompt.n_pictures,
        .cached_images = l->cached_images,
        .image_seconds = l->image_seconds,
        .read_seconds = l->read_seconds,
        .write_seconds = l->written - l->first,
        .first_seconds = l->first - l->began,
        .seed = l->seed,
        .memory_bytes = (int64_t)l->memory,
        .tokens = l->tokens,
        .n_tokens = l->n_tokens,
    };
    LIMN_CHECK(err, !b->arena.failed && !text->failed && !why->failed && !l->sink.calls.failed,
               LIMN_E_NOMEM, "no memory for an answer");
    b->tokens = l->tokens;
    l->tokens = NULL;
    *out = a;
    b = NULL;
out:
    a = b ? &b->answer : NULL;
    limn_answer_free(&a);
    return st;
}

void limn_answer_free(limn_answer **answer) {
    if (!answer || !*answer) return;
    box *b = (box *)(void *)*answer;
    limn_arena_deinit(&b->arena);
    limn_mem_free(b->tokens);
    limn_mem_free(b);
    *answer = NULL;
}

/* ---- JSON ---- */

static const char *const finish_words[] = {
    [LIMN_FINISH_STOP_ID] = "stop",     [LIMN_FINISH_STOP_STRING] = "stop",
    [LIMN_FINISH_LENGTH] = "length",    [LIMN_FINISH_CONTEXT] = "context",
    [LIMN_FINISH_CALLER] = "cancelled", [LIMN_FINISH_LOOP] = "loop"};

/* Bytes of a token that are not whole characters are given as numbers only. */
static json_t *logprob_json(const limn_logprob *p) {
    /* A NUL has no place in the JSON of others; the bytes tell it. */
    json_t *bytes = json_array(), *text = NULL;
    if (p->len > 0 && !memchr(p->text, 0, p->len)) text = json_stringn(p->text, p->len);
    for (size_t i = 0; i < p->len; i++)
        json_array_append_new(bytes, json_integer((unsigned char)p->text[i]));
    return json_pack("{s:i, s:o, s:o, s:f}", "id", (int)p->id, "text", text ? text : json_null(),
                     "bytes", bytes, "logprob", (double)p->logprob);
}

static json_t *logprobs_json(const limn_answer *a) {
    json_t *list = json_array();
    for (size_t i = 0; i < a->n_tokens; i++) {
        json_t *row = logprob_json(&a->tokens[i].token), *top = json_array();
        for (int k = 0; k < a->tokens[i].n_top; k++)
            json_array_append_new(top, logprob_json(&a->tokens[i].top[k]));
        json_object_set_new(row, "top", top);
        json_array_append_new(list, row);
    }
    return list;
}

static json_t *calls_json(const limn_answer *a) {
    json_t *list = json_array();
    for (size_t i = 0; i < a->n_calls; i++) {
        json_t *arguments = json_loads(a->calls[i].arguments, JSON_DECODE_ANY, NULL);
        if (!arguments) arguments = json_string(a->calls[i].arguments);
        json_array_append_new(
            list, json_pack("{s:s, s:o}", "name", a->calls[i].name, "arguments", arguments));
    }
    return list;
}

limn_status limn_answer_format_json(char **out, const limn_answer *a, limn_err *err) {
    json_t *root = json_pack(
        "{s:s%, s:s, s:{s:I, s:I, s:I, s:I, s:I}, s:{s:i, s:i}, s:{s:f, s:f, s:f, s:f}, s:I}",
        "text", a->text, a->len, "finish", finish_words[a->finish], "usage", "prompt_tokens",
        (json_int_t)a->prompt_tokens, "image_tokens", (json_int_t)a->image_tokens, "cached_tokens",
        (json_int_t)a->cached_tokens, "completion_tokens", (json_int_t)a->completion_tokens,
        "reasoning_tokens", (json_int_t)a->reasoning_tokens, "pictures", "count", a->images,
        "cached", a->cached_images, "seconds", "images", a->image_seconds, "read", a->read_seconds,
        "first", a->first_seconds, "write", a->write_seconds, "seed", (json_int_t)a->seed);
    char *dump = NULL;
    if (root && a->reasoning) json_object_set_new(root, "reasoning", json_string(a->reasoning));
    if (root && a->stop) json_object_set_new(root, "stop", json_string(a->stop));
    if (root && a->n_calls > 0) json_object_set_new(root, "tool_calls", calls_json(a));
    if (root && a->tokens) json_object_set_new(root, "logprobs", logprobs_json(a));
    if (root) dump = json_dumps(root, JSON_REAL_PRECISION(6));
    json_decref(root);
    *out = dump ? limn_mem_strdup(dump) : NULL;
    free(dump);
    return *out ? LIMN_OK : limn_fail(err, LIMN_E_NOMEM, "no memory for an answer");
}
