/* SPDX-License-Identifier: MIT */
/* POST /v1/chat/completions, whole or as a stream; see openai.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/api/openai.h"

/* ---- shapes ---- */

/* The prompt counts once, as the first choice read it; written and thought (a part of that) of all
 * choices together. */
static json_t *usage_json(const json_t *first, int64_t written, int64_t thought) {
    int64_t prompt = openai_usage(first, "prompt_tokens");
    return json_pack("{s:I, s:I, s:I, s:{s:I, s:I}, s:{s:I}}", "prompt_tokens", (json_int_t)prompt,
                     "completion_tokens", (json_int_t)written, "total_tokens",
                     (json_int_t)(prompt + written), "prompt_tokens_details", "cached_tokens",
                     (json_int_t)openai_usage(first, "cached_tokens"), "image_tokens",
                     (json_int_t)openai_usage(first, "image_tokens"), "completion_tokens_details",
                     "reasoning_tokens", (json_int_t)thought);
}

static json_t *choice_json(const json_t *result, const char *job, int index, bool logprobs) {
    const json_t *text = json_object_get(result, "text");
    const char *why = openai_text(result, "reasoning");
    json_t *calls = openai_tool_calls(result, job, false);
    bool silent = calls && json_string_length(text) == 0;
    json_t *message = json_pack("{s:s, s:o, s:n}", "role", "assistant", "content",
                                silent || !text ? json_null() : json_deep_copy(text), "refusal");
    if (why) json_object_set_new(message, "reasoning_content", json_string(why));
    if (calls) json_object_set_new(message, "tool_calls", calls);
    return json_pack("{s:i, s:o, s:o, s:s}", "index", index, "message", message, "logprobs",
                     logprobs ? openai_logprobs(json_object_get(result, "logprobs")) : json_null(),
                     "finish_reason", openai_finish(result));
}

/* ---- the whole answer ---- */

typedef struct chat {
    openai_ask ask;
    limn_queue *queue;
    int done; /* choices that are complete; the next one is waited for */
    json_t *choices;
    json_t *first; /* result of the first choice */
    int64_t written, thought;
} chat;

/* Those that nobody has waited for yet. */
static void free_chat(void *data) {
    chat *c = data;
    limn_job_state was;
    for (int i = c->done + 1; i < c->ask.n; i++)
        limn_queue_cancel(c->queue, NULL, c->ask.more[i - 1], &was, NULL);
    json_decref(c->choices);
    json_decref(c->first);
    limn_mem_free(c);
}

static void reply_chat(limn_http_req *rq, chat *c) {
    char id[64];
    snprintf(id, sizeof id, "chatcmpl-%s", c->ask.job);
    limn_http_reply_json(rq, 200,
                         json_pack("{s:s, s:s, s:I, s:s, s:o, s:O, s:o}", "id", id, "object",
                                   "chat.completion", "created", (json_int_t)c->ask.created,
                                   "model", c->ask.model, "system_fingerprint",
                                   openai_fingerprint(), "choices", c->choices, "usage",
                                   usage_json(c->first, c->written, c->thought)));
}

static void chat_done(limn_http_req *rq, limn_job *job, bool ended) {
    chat *c = rq->data;
    if (!job || !ended || job->state != LIMN_JOB_SUCCEEDED) {
        openai_fail_job(rq, job);
        return;
    }
    json_t *result = json_loads(job->result ? job->result : "{}", 0, NULL);
    json_array_append_new(c->choices, choice_json(result, job->id, c->done, c->ask.logprobs));
    c->written += openai_usage(result, "completion_tokens");
    c->thought += openai_usage(result, "reasoning_tokens");
    if (!c->first) c->first = json_incref(result);
    json_decref(result);
    if (++c->done < c->ask.n)
        limn_http_wait(rq, c->ask.more[c->done - 1], -1, true, chat_done);
    else
        reply_chat(rq, c);
}

/* ---- the stream ---- */

/* One choice: the text of one job. */
typedef struct stream_choice {
    char job[LIMN_JOB_ID_LEN + 1];
    openai_progress text, why;
    openai_odds odds;
    bool ended;
} stream_choice;

typedef struct chat_stream {
    limn_queue *queue;
    char id[64];
    char *model;
    int64_t created;
    bool usage, failed;
    int n, ended; /* choices: how many, and how many of them are complete */
    stream_choice *choices;
    json_t *first; /* as of a whole answer */
    int64_t written, thought;
} chat_stream;

/* One chunk; usage NULL: null. Takes both. */
static json_t *chunk(const chat_stream *s, json_t *choices, json_t *usage) {
    json_t *o = json_pack("{s:s, s:s, s:I, s:s, s:o, s:o}", "id", s->id, "object",
                          "chat.completion.chunk", "created", (json_int_t)s->created, "model",
                          s->model, "system_fingerprint", openai_fingerprint(), "choices", choices);
    if (s->usage) json_object_set_new(o, "usage", usage ? usage : json_null());
    return o;
}

/* Takes delta and logprobs; finish NULL: null. */
static void send_delta(const chat_stream *s, limn_buf *out, const stream_choice *c, json_t *delta,
                       json_t *logprobs, const char *finish) {
    json_t *choice =
        json_pack("{s:i, s:o, s:o, s:s?}", "index", (int)(c - s->choices), "delta", delta,
                  "logprobs", logprobs ? logprobs : json_null(), "finish_reason", finish);
    openai_sse(out, NULL, chunk(s, json_pack("[o]", choice), NULL));
}

static void chat_begin(void *user, limn_buf *out) {
    const chat_stream *s = user;
    for (int i = 0; i < s->n; i++)
        send_delta(s, out, &s->choices[i],
                   json_pack("{s:s, s:s, s:n}", "role", "assistant", "content", "", "refusal"),
                   NULL, NULL);
}

static void send_text(const chat_stream *s, limn_buf *out, stream_choice *c,
                      const limn_job_event *e) {
    bool why = e->said == LIMN_SAID_REASONING;
    size_t n;
    openai_odds_add(&c->odds, e);
    if (e->said == LIMN_SAID_CALL) return; /* whole calls follow at the end */
    const char *text = openai_fresh(why ? &c->why : &c->text, e->text, e->text_len, &n);
    if (n)
        send_delta(s, out, c, json_pack("{s:s%}", why ? "reasoning_content" : "content", text, n),
                   openai_odds_take(&c->odds), NULL);
}

/* A choice is complete; after the last one, how much was read and written in all. */
static void send_end(chat_stream *s, limn_buf *out, stream_choice *c, const limn_job *job,
                     bool *end) {
    json_t *result = json_loads(job->result ? job->result : "{}", 0, NULL);
    const json_t *text = json_object_get(result, "text");
    json_t *calls = openai_tool_calls(result, job->id, true);
    json_t *odds = openai_odds_rest(&c->odds, result);
    if (odds || json_string_length(text) > c->text.sent)
        send_delta(
            s, out, c,
            json_pack("{s:s}", "content", text ? json_string_value(text) + c->text.sent : ""), odds,
            NULL);
    if (calls) send_delta(s, out, c, json_pack("{s:o}", "tool_calls", calls), NULL, NULL);
    send_delta(s, out, c, json_object(), NULL, openai_finish(result));
    s->written += openai_usage(result, "completion_tokens");
    s->thought += openai_usage(result, "reasoning_tokens");
    if (c == s->choices) s->first = json_incref(result);
    json_decref(result);
    c->ended = true;
    *end = ++s->ended == s->n;
    if (!*end) return;
    if (s->usage)
        openai_sse(out, NULL, chunk(s, json_array(), usage_json(s->first, s->written, s->thought)));
    limn_buf_adds(out, "data: [DONE]\n\n");
}

static void send_failure(chat_stream *s, limn_buf *out, const limn_job *job) {
    s->failed = true;
    openai_sse(
        out, NULL,
        json_pack("{s:o}", "error",
                  job ? openai_job_error(job)
                      : limn_http_error_json(LIMN_HTTP_NO_JOB, NULL, "the job is gone", NULL)));
}

static void chat_event(void *user, limn_buf *out, const limn_job_event *e, bool lost, bool *end) {
    chat_stream *s = user;
    stream_choice *c = s->choices;
    limn_job *job = NULL;
    while (strcmp(c->job, e->job) != 0) c++; /* only these are followed */
    if (lost) c->text.broken = c->why.broken = true;
    if (e->kind == LIMN_JOB_EVENT_TEXT) send_text(s, out, c, e);
    if (e->kind != LIMN_JOB_EVENT_STATE) return;
    if (!limn_job_state_is_final(e->state)) {
        c->text.at = c->why.at = 0; /* it is written (again) from its beginning */
        openai_odds_restart(&c->odds);
        return;
    }
    limn_queue_get(s->queue, NULL, c->job, &job, NULL);
    if (job && job->state == LIMN_JOB_SUCCEEDED)
        send_end(s, out, c, job, end);
    else
        send_failure(s, out, job);
    *end = *end || s->failed;
    limn_job_free(&job);
}

static void chat_bye(void *user, limn_buf *out) {
    (void)user;
    openai_sse(out, NULL,
               json_pack("{s:o}", "error",
                         limn_http_error_json(LIMN_HTTP_UNAVAILABLE, NULL, "the server is stopping",
                                              NULL)));
}

static void chat_free(void *user, bool ended) {
    chat_stream *s = user;
    limn_job_state was;
    for (int i = 0; (!ended || s->failed) && i < s->n; i++)
        if (!s->choices[i].ended) limn_queue_cancel(s->queue, NULL, s->choices[i].job, &was, NULL);
    for (int i = 0; i < s->n; i++) openai_odds_deinit(&s->choices[i].odds);
    json_decref(s->first);
    limn_mem_free(s->choices);
    limn_mem_free(s->model);
    limn_mem_free(s);
}

static chat_stream *stream_new(limn_http_req *rq, const openai_ask *ask) {
    chat_stream *s = limn_mem_calloc(1, sizeof *s);
    if (!s) return NULL;
    s->queue = rq->server->queue;
    s->created = ask->created;
    s->usage = ask->usage;
    s->model = limn_mem_strdup(ask->model);
    s->choices = limn_mem_calloc((size_t)ask->n, sizeof *s->choices);
    snprintf(s->id, sizeof s->id, "chatcmpl-%s", ask->job);
    for (s->n = 0; s->choices && s->n < ask->n; s->n++) {
        s->choices[s->n].odds.wanted = ask->logprobs;
        snprintf(s->choices[s->n].job, sizeof s->choices->job, "%s",
                 s->n ? ask->more[s->n - 1] : ask->job);
    }
    if (s->model && s->choices) return s;
    chat_free(s, true);
    return NULL;
}

static void stream_chat(limn_http_req *rq, const openai_ask *ask) {
    static const limn_http_stream_ops ops = {chat_begin, chat_event, chat_bye, chat_free};
    chat_stream *s = stream_new(rq, ask);
    limn_feed_options *feeds = limn_arena_alloc(&rq->arena, (size_t)ask->n * sizeof *feeds);
    if (!s || !feeds) {
        if (s) chat_free(s, false);
        limn_http_fail(rq, LIMN_HTTP_NO_MEMORY, NULL, "no memory for a stream");
        return;
    }
    for (int i = 0; i < ask->n; i++)
        feeds[i] = (limn_feed_options){.job = s->choices[i].job, .owner = limn_http_owner(rq)};
    limn_http_stream(rq, feeds, ask->n, &ops, s);
}

void openai_chat(limn_http_req *rq) {
    limn_err err = {0};
    json_t *messages = NULL;
    openai_ask ask = {0};
    limn_status st =
        openai_read_messages(rq, &messages, json_object_get(rq->json, "messages"), &err);
    if (st != LIMN_OK) {
        openai_fail(rq, &err);
        return;
    }
    if (!openai_submit_ask(rq, &ask, messages, false)) return;
    if (ask.stream) {
        stream_chat(rq, &ask);
        return;
    }
    chat *c = limn_mem_calloc(1, sizeof *c);
    if (!c || !(c->choices = json_array())) {
        limn_mem_free(c);
        limn_http_fail(rq, LIMN_HTTP_NO_MEMORY, NULL, "no memory for an answer");
        return;
    }
    c->ask = ask;
    c->queue = rq->server->queue;
    rq->data = c;
    rq->free_data = free_chat;
    limn_http_wait(rq, ask.job, -1, true, chat_done);
}
