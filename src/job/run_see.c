/* SPDX-License-Identifier: MIT */
/* Questions: from a stored request to a conversation, and the answer back; see run_see.h. */
#include "job/run_see.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/fsmap.h"
#include "job/request.h"
#include "param/param_json.h"
#include "param/seeing.h"

enum { PARTS_MAX = 512, FILES_MAX = 512, MESSAGES_MAX = 512, CALLS_MAX = 64 };

/* A conversation under construction; texts belong to the request's document or to the arena. */
typedef struct talk {
    limn_run *run;
    limn_arena arena;
    json_t *root;
    limn_message *messages;
    int n_messages;
    limn_fsmap *maps[FILES_MAX]; /* [n_maps] files that parts show */
    int n_maps;
    const char **tools; /* [n_tools] */
    size_t n_tools;
} talk;

static void talk_deinit(talk *t) {
    for (int i = 0; i < t->n_maps; i++) limn_fsmap_unref(&t->maps[i]);
    json_decref(t->root);
    limn_arena_deinit(&t->arena);
}

static limn_status no_memory(limn_err *err) {
    return limn_fail(err, LIMN_E_NOMEM, "no memory for a conversation");
}

static const char *member(const json_t *o, const char *name) {
    return json_string_value(json_object_get(o, name));
}

/* ---- pictures, clips, documents ---- */

/* The file of an artifact, mapped until the talk ends. Which frames and pages are seen is the
 * request's (rows "clips and pages"); the file has no name that a client should read. */
static limn_status add_file(talk *t, limn_message_part *part, const char *reference,
                            limn_err *err) {
    const char *sha = limn_request_reference(reference);
    char path[4200];
    if (!sha) return limn_fail(err, LIMN_E_VALUE, "the stored request has a bad reference");
    if (t->n_maps == FILES_MAX)
        return limn_fail(err, LIMN_E_LIMIT, "a conversation has at most %d files", FILES_MAX);
    limn_status st = limn_artifacts_file(limn_run_artifacts(t->run), sha, err);
    if (st != LIMN_OK) return st;
    limn_artifacts_path(limn_run_artifacts(t->run), path, sizeof path, sha);
    limn_fsmap *map;
    if (limn_fsmap_open(&map, path, NULL) != LIMN_OK)
        return limn_fail(err, LIMN_E_NOT_FOUND, "artifact %s is gone", sha);
    t->maps[t->n_maps++] = map;
    *part = (limn_message_part){.kind = LIMN_MESSAGE_FILE, .data = map->data, .size = map->size};
    return LIMN_OK;
}

/* ---- messages ---- */
static limn_status add_part(talk *t, limn_message_part *parts, int *n, const json_t *part,
                            limn_err *err) {
    const char *type = member(part, "type"), *text = member(part, "text");
    if (*n == PARTS_MAX)
        return limn_fail(err, LIMN_E_LIMIT, "a message has at most %d parts", PARTS_MAX);
    if (type && strcmp(type, "text") == 0 && text) {
        parts[(*n)++] =
            (limn_message_part){.kind = LIMN_MESSAGE_TEXT,
                                .text = text,
                                .len = json_string_length(json_object_get(part, "text"))};
        return LIMN_OK;
    }
    const char *reference = type ? member(part, type) : NULL;
    if (!reference) return limn_fail(err, LIMN_E_VALUE, "the stored request has a bad part");
    return add_file(t, &parts[(*n)++], reference, err);
}

static limn_status add_content(talk *t, limn_message *m, const json_t *content, limn_err *err) {
    limn_message_part *parts = limn_arena_alloc(&t->arena, PARTS_MAX * sizeof *parts);
    int n = 0;
    limn_status st = LIMN_OK;
    if (!parts) return no_memory(err);
    if (json_is_string(content)) {
        parts[n++] = (limn_message_part){.kind = LIMN_MESSAGE_TEXT,
                                         .text = json_string_value(content),
                                         .len = json_string_length(content)};
    }
    for (size_t i = 0; json_is_array(content) && i < json_array_size(content); i++)
        LIMN_TRY(add_part(t, parts, &n, json_array_get(content, i), err));
    m->parts = parts;
    m->n_parts = (size_t)n;
out:
    return st;
}

static limn_status add_calls(talk *t, limn_message *m, const json_t *list, limn_err *err) {
    size_t n = json_array_size(list);
    limn_tool_call *calls = n ? limn_arena_alloc(&t->arena, n * sizeof *calls) : NULL;
    if (n > CALLS_MAX) return limn_fail(err, LIMN_E_LIMIT, "a message has at most 64 tool calls");
    if (n && !calls) return no_memory(err);
    for (size_t i = 0; i < n; i++) {
        const json_t *f = json_object_get(json_array_get(list, i), "function");
        calls[i] = (limn_tool_call){member(f, "name"), member(f, "arguments")};
        if (!calls[i].name || !calls[i].arguments)
            return limn_fail(err, LIMN_E_VALUE,
                             "a tool call is {\"function\": {\"name\", \"arguments\"}}");
    }
    m->calls = calls;
    m->n_calls = n;
    return LIMN_OK;
}

static limn_status role_of(limn_role *out, const char *word, limn_err *err) {
    static const struct {
        const char *word;
        limn_role role;
    } roles[] = {{"system", LIMN_ROLE_SYSTEM},
                 {"developer", LIMN_ROLE_SYSTEM},
                 {"user", LIMN_ROLE_USER},
                 {"assistant", LIMN_ROLE_ASSISTANT},
                 {"tool", LIMN_ROLE_TOOL}};
    for (size_t i = 0; word && i < sizeof roles / sizeof roles[0]; i++)
        if (strcmp(roles[i].word, word) == 0) {
            *out = roles[i].role;
            return LIMN_OK;
        }
    return limn_fail(err, LIMN_E_VALUE, "role: %.40s is none of system, user, assistant, tool",
                     word ? word : "(none)");
}

static limn_status add_message(talk *t, const json_t *from, limn_err *err) {
    limn_message *m = &t->messages[t->n_messages++];
    limn_status st = LIMN_OK;
    LIMN_TRY(role_of(&m->role, member(from, "role"), err));
    LIMN_TRY(add_content(t, m, json_object_get(from, "content"), err));
    LIMN_TRY(add_calls(t, m, json_object_get(from, "tool_calls"), err));
    m->reasoning = member(from, "reasoning");
out:
    return st;
}

static limn_status add_tools(talk *t, const json_t *list, limn_err *err) {
    size_t n = json_array_size(list);
    t->tools = limn_arena_alloc(&t->arena, (n + 1) * sizeof *t->tools);
    if (!t->tools) return no_memory(err);
    for (size_t i = 0; i < n; i++) {
        char *text = json_dumps(json_array_get(list, i), JSON_COMPACT);
        t->tools[i] = text ? limn_arena_strdup(&t->arena, text) : NULL;
        free(text);
        if (!t->tools[i]) return no_memory(err);
    }
    t->n_tools = n;
    return LIMN_OK;
}

static limn_status talk_make(talk *t, const limn_params *see, limn_err *err) {
    const char *request = limn_run_job(t->run)->request, *prompt = limn_seeing_of(see)->prompt;
    limn_status st = LIMN_OK;
    LIMN_TRY(limn_json_load(&t->root, request, strlen(request), err));
    const json_t *list = json_object_get(t->root, "messages");
    size_t n = json_array_size(list);
    LIMN_CHECK(err, n <= MESSAGES_MAX, LIMN_E_LIMIT, "/messages: at most %d", MESSAGES_MAX);
    t->messages = limn_arena_alloc(&t->arena, (n + 1) * sizeof *t->messages);
    LIMN_CHECK(err, t->messages, LIMN_E_NOMEM, "no memory for a conversation");
    for (size_t i = 0; i < n; i++) LIMN_TRY(add_message(t, json_array_get(list, i), err));
    if (prompt[0]) {
        limn_message_part *part = limn_arena_alloc(&t->arena, sizeof *part);
        LIMN_CHECK(err, part, LIMN_E_NOMEM, "no memory for a conversation");
        *part = (limn_message_part){.kind = LIMN_MESSAGE_TEXT, .text = prompt};
        t->messages[t->n_messages++] =
            (limn_message){.role = LIMN_ROLE_USER, .parts = part, .n_parts = 1};
    }
    LIMN_TRY(add_tools(t, json_object_get(t->root, "tools"), err));
out:
    return st;
}

/* ---- answers ---- */
static void add_logprob(limn_buf *out, const limn_logprob *p) {
    limn_buf_addf(out, "{\"id\":%d,\"logprob\":%.6g,\"token\":", p->id, (double)p->logprob);
    char *text = limn_mem_strndup(p->text, p->len);
    limn_json_add_string(out, text && limn_utf8_is_valid(text, p->len) ? text : "");
    limn_mem_free(text);
    limn_buf_adds(out, ",\"bytes\":[");
    for (size_t i = 0; i < p->len; i++)
        limn_buf_addf(out, "%s%u", i ? "," : "", (unsigned)(unsigned char)p->text[i]);
    limn_buf_adds(out, "]}");
}

static bool said(void *user, const limn_said *s) {
    limn_run *run = user;
    limn_buf text;
    limn_buf_init(&text, 1 << 16);
    if (s->logprobs) {
        limn_buf_adds(&text, "{\"token\":");
        add_logprob(&text, &s->logprobs->token);
        limn_buf_adds(&text, ",\"top\":[");
        for (int i = 0; i < s->logprobs->n_top; i++) {
            limn_buf_adds(&text, i ? "," : "");
            add_logprob(&text, &s->logprobs->top[i]);
        }
        limn_buf_adds(&text, "]}");
    }
    if (s->len > 0 || s->logprobs)
        limn_run_text(run, s->kind, s->text, s->len, s->logprobs ? limn_buf_text(&text) : NULL);
    limn_buf_deinit(&text);
    return true;
}

static void event(void *user, const limn_event *e) {
    limn_run_report(user, e);
}

/* The object that limn.h wrote (taken), and what it ended with in OpenAI's words. */
static limn_status report(limn_run *run, char *json, limn_finish finish, bool calls,
                          limn_err *err) {
    json_t *root = NULL;
    char *text = NULL;
    limn_status st = LIMN_OK;
    bool cut =
        finish == LIMN_FINISH_LENGTH || finish == LIMN_FINISH_CONTEXT || finish == LIMN_FINISH_LOOP;
    LIMN_TRY(limn_json_load(&root, json, strlen(json), err));
    json_object_set_new(root, "finish_reason",
                        json_string(calls ? "tool_calls"
                                    : cut ? "length"
                                          : "stop"));
    json_object_set_new(root, "model", json_string(limn_run_job(run)->model));
    text = json_dumps(root, JSON_COMPACT | JSON_REAL_PRECISION(9));
    LIMN_CHECK(err, text, LIMN_E_NOMEM, "no memory for an answer");
    LIMN_TRY(limn_run_result(run, text, err));
out:
    limn_text_free(&json);
    json_decref(root);
    free(text);
    return st;
}

/* A task looks at the pictures of all messages; its words are the "prompt" of the values. */
static limn_status run_task(talk *t, limn_seer *seer, const limn_params *see,
                            const limn_look_watch *watch, limn_err *err) {
    limn_message_part *files = limn_arena_alloc(&t->arena, PARTS_MAX * sizeof *files);
    limn_sight *sight = NULL;
    size_t n = 0;
    char *json = NULL;
    limn_status st = LIMN_OK;
    LIMN_CHECK(err, files, LIMN_E_NOMEM, "no memory for a task");
    for (int i = 0; i < t->n_messages; i++)
        for (size_t k = 0; k < t->messages[i].n_parts; k++) {
            if (t->messages[i].parts[k].kind == LIMN_MESSAGE_TEXT) continue;
            LIMN_CHECK(err, n < PARTS_MAX, LIMN_E_LIMIT, "a task looks at most at %d pictures",
                       PARTS_MAX);
            files[n++] = t->messages[i].parts[k];
        }
    LIMN_TRY(limn_task_run(&sight, seer, files, n, see, watch, err));
    LIMN_TRY(limn_sight_format_json(&json, sight, err));
    st = report(t->run, json, sight->finish, false, err);
out:
    limn_sight_free(&sight);
    return st;
}

limn_status limn_run_see(limn_run *run, limn_seer *seer, const limn_params *see, limn_err *err) {
    talk t = {.run = run};
    limn_answer *answer = NULL;
    limn_params *options = NULL;
    char *json = NULL;
    limn_look_watch watch = {
        .said = said, .event = event, .user = run, .cancel = limn_run_cancel(run)};
    limn_status st = LIMN_OK;
    limn_arena_init(&t.arena);
    LIMN_TRY(talk_make(&t, see, err));
    if (strcmp(limn_seeing_of(see)->task, "ask") != 0) {
        st = run_task(&t, seer, see, &watch, err);
        goto out;
    }
    LIMN_TRY(limn_params_copy(&options, see, err));
    LIMN_TRY(limn_params_unset(options, "prompt", err)); /* is a message now */
    limn_talk conversation = {.messages = t.messages,
                              .n_messages = (size_t)t.n_messages,
                              .tools = t.tools,
                              .n_tools = t.n_tools,
                              .must_call = json_is_true(json_object_get(t.root, "must_call"))};
    LIMN_TRY(limn_see(&answer, seer, &conversation, options, &watch, err));
    LIMN_TRY(limn_answer_format_json(&json, answer, err));
    st = report(run, json, answer->finish, answer->n_calls > 0, err);
out:
    limn_answer_free(&answer);
    limn_params_free(&options);
    talk_deinit(&t);
    return st;
}
