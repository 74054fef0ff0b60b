/* SPDX-License-Identifier: MIT */
/*
 * /v1/responses: the same questions in the newer shape; a response is a SEE job, its id names it,
 * so that it can be asked for again and continued (previous_response_id). See openai.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/api/openai.h"

enum { TURNS_MAX = 4096 };

/* ---- shapes ---- */

/* Responses have their probabilities as a bare list. Takes `odds`; NULL: none. */
static json_t *odds_list(json_t *odds) {
    json_t *list = json_incref(json_object_get(odds, "content"));
    json_decref(odds);
    return list ? list : json_array();
}

/* Takes `odds`. */
static json_t *text_part(const char *text, size_t len, json_t *odds) {
    return json_pack("{s:s, s:s%, s:[], s:o}", "type", "output_text", "text", text, len,
                     "annotations", "logprobs", odds);
}

/* Of a finished job; empty unless they were asked for. */
static json_t *all_odds(const json_t *result) {
    const json_t *list = json_object_get(result, "logprobs");
    return list ? odds_list(openai_logprobs(list)) : json_array();
}

static json_t *message_item(const char *job, const char *status, json_t *content) {
    char id[64];
    snprintf(id, sizeof id, "msg_%s", job);
    return json_pack("{s:s, s:s, s:s, s:s, s:o}", "type", "message", "id", id, "status", status,
                     "role", "assistant", "content", content);
}

static json_t *call_item(const json_t *call) {
    const json_t *f = json_object_get(call, "function");
    const char *id = openai_text(call, "id");
    return json_pack("{s:s, s:o, s:s, s:O, s:O, s:s}", "type", "function_call", "id",
                     json_sprintf("fc_%s", id), "call_id", id, "name", json_object_get(f, "name"),
                     "arguments", json_object_get(f, "arguments"), "status", "completed");
}

/* What a finished job said: a message when there is text, then the calls. */
static json_t *output_items(const json_t *result, const char *job) {
    const json_t *text = json_object_get(result, "text");
    json_t *items = json_array(), *calls = openai_tool_calls(result, job, false);
    if (json_string_length(text) || !calls)
        json_array_append_new(
            items,
            message_item(job, "completed",
                         json_pack("[o]", text_part(text ? json_string_value(text) : "",
                                                    json_string_length(text), all_odds(result)))));
    for (size_t i = 0; i < json_array_size(calls); i++)
        json_array_append_new(items, call_item(json_array_get(calls, i)));
    json_decref(calls);
    return items;
}

static json_t *usage_json(const json_t *result) {
    int64_t in = openai_usage(result, "prompt_tokens");
    int64_t out = openai_usage(result, "completion_tokens");
    return json_pack("{s:I, s:{s:I, s:I}, s:I, s:{s:I}, s:I}", "input_tokens", (json_int_t)in,
                     "input_tokens_details", "cached_tokens",
                     (json_int_t)openai_usage(result, "cached_tokens"), "image_tokens",
                     (json_int_t)openai_usage(result, "image_tokens"), "output_tokens",
                     (json_int_t)out, "output_tokens_details", "reasoning_tokens",
                     (json_int_t)openai_usage(result, "reasoning_tokens"), "total_tokens",
                     (json_int_t)(in + out));
}

static const char *status_word(const limn_job *job, const json_t *result) {
    switch (job->state) {
    case LIMN_JOB_QUEUED: return "queued";
    case LIMN_JOB_RUNNING: return "in_progress";
    case LIMN_JOB_SUCCEEDED:
        return strcmp(openai_finish(result), "length") == 0 ? "incomplete" : "completed";
    case LIMN_JOB_CANCELLED: return "cancelled";
    case LIMN_JOB_FAILED:
    case LIMN_JOB_STATES: break;
    }
    return "failed";
}

static json_t *job_error(const limn_job *job) {
    if (job->state != LIMN_JOB_FAILED) return json_null();
    json_t *e = openai_job_error(job);
    json_t *o =
        json_pack("{s:s, s:O}", "code", "server_error", "message", json_object_get(e, "message"));
    json_decref(e);
    return o;
}

/* Members of a request that a response repeats, and what it says when they were not given. */
static const struct {
    const char *name, *otherwise;
} repeated[] = {
    {"previous_response_id", "null"},
    {"instructions", "null"},
    {"tools", "[]"},
    {"tool_choice", "\"auto\""},
    {"metadata", "{}"},
    {"text", "{\"format\": {\"type\": \"text\"}}"},
    {"temperature", "null"},
    {"top_p", "null"},
    {"max_output_tokens", "null"},
    {"parallel_tool_calls", "true"},
    {"background", "false"},
    {"user", "null"},
};
enum { REPEATED = sizeof repeated / sizeof repeated[0] };

/* Those that are there, to be stored with the job. */
static json_t *to_keep(const json_t *body) {
    json_t *o = json_object();
    for (int i = 0; o && i < REPEATED; i++) {
        json_t *v = json_object_get(body, repeated[i].name);
        if (v && !json_is_null(v)) json_object_set(o, repeated[i].name, v);
    }
    return o;
}

static void add_repeated(json_t *o, const limn_job *job) {
    json_t *request = json_loads(job->request ? job->request : "{}", 0, NULL);
    const json_t *kept = json_object_get(request, "response");
    for (int i = 0; i < REPEATED; i++) {
        json_t *v = json_incref(json_object_get(kept, repeated[i].name));
        if (!v) v = json_loads(repeated[i].otherwise, JSON_DECODE_ANY, NULL);
        json_object_set_new(o, repeated[i].name, v);
    }
    json_decref(request);
}

static json_t *response_json(const limn_job *job, const char *model) {
    bool done = job->state == LIMN_JOB_SUCCEEDED;
    json_t *result = done && job->result ? json_loads(job->result, 0, NULL) : NULL;
    const char *status = status_word(job, result);
    bool cut = strcmp(status, "incomplete") == 0;
    json_t *o = json_pack("{s:o, s:s, s:I, s:s, s:o, s:o, s:s, s:o, s:o}", "id",
                          json_sprintf("resp_%s", job->id), "object", "response", "created_at",
                          (json_int_t)(job->created_ms / 1000), "status", status, "error",
                          job_error(job), "incomplete_details",
                          cut ? json_pack("{s:s}", "reason", "max_output_tokens") : json_null(),
                          "model", model && *model ? model : "limn", "output",
                          done ? output_items(result, job->id) : json_array(), "usage",
                          done ? usage_json(result) : json_null());
    add_repeated(o, job);
    json_decref(result);
    return o;
}

/* ---- whole ---- */

static void reply_job(limn_http_req *rq, limn_job *job, bool ended) {
    (void)ended;
    if (!job || job->state == LIMN_JOB_FAILED || job->state == LIMN_JOB_CANCELLED) {
        openai_fail_job(rq, job);
    } else {
        const char *model = rq->json ? openai_model_name(rq, rq->json) : job->model;
        limn_http_reply_json(rq, 200, response_json(job, model));
    }
}

/* ---- the stream ---- */

typedef struct stream {
    limn_queue *queue;
    char job[LIMN_JOB_ID_LEN + 1];
    char *model;
    int64_t number; /* of events */
    openai_progress text;
    openai_odds odds;
    bool begun; /* the message's item was opened */
} stream;

static void send(stream *s, limn_buf *out, const char *type, json_t *data) {
    json_object_set_new(data, "type", json_string(type));
    json_object_set_new(data, "sequence_number", json_integer(s->number++));
    openai_sse(out, type, data);
}

static void send_response(stream *s, limn_buf *out, const char *type) {
    limn_job *job = NULL;
    if (limn_queue_get(s->queue, NULL, s->job, &job, NULL) == LIMN_OK)
        send(s, out, type, json_pack("{s:o}", "response", response_json(job, s->model)));
    limn_job_free(&job);
}

static json_t *place(const stream *s, json_t *more) {
    json_t *o = json_pack("{s:o, s:i, s:i}", "item_id", json_sprintf("msg_%s", s->job),
                          "output_index", 0, "content_index", 0);
    json_object_update(o, more);
    json_decref(more);
    return o;
}

static void open_message(stream *s, limn_buf *out) {
    if (s->begun) return;
    s->begun = true;
    send(s, out, "response.output_item.added",
         json_pack("{s:i, s:o}", "output_index", 0, "item",
                   message_item(s->job, "in_progress", json_array())));
    send(s, out, "response.content_part.added",
         place(s, json_pack("{s:o}", "part", text_part("", 0, json_array()))));
}

/* Takes `odds`. */
static void send_text(stream *s, limn_buf *out, const char *text, size_t n, json_t *odds) {
    open_message(s, out);
    send(s, out, "response.output_text.delta",
         place(s, json_pack("{s:s%, s:o}", "delta", text, n, "logprobs", odds_list(odds))));
}

/* With the whole text and all probabilities, which are borrowed. */
static void close_message(stream *s, limn_buf *out, const char *text, size_t n, json_t *odds) {
    send(s, out, "response.output_text.done",
         place(s, json_pack("{s:s%, s:O}", "text", text, n, "logprobs", odds)));
    send(s, out, "response.content_part.done",
         place(s, json_pack("{s:o}", "part", text_part(text, n, json_incref(odds)))));
    send(s, out, "response.output_item.done",
         json_pack("{s:i, s:o}", "output_index", 0, "item",
                   message_item(s->job, "completed",
                                json_pack("[o]", text_part(text, n, json_incref(odds))))));
}

static void send_call(stream *s, limn_buf *out, int index, const json_t *call) {
    json_t *item = call_item(call), *open = json_copy(item);
    json_t *id = json_object_get(item, "id"), *arguments = json_object_get(item, "arguments");
    json_object_set_new(open, "arguments", json_string(""));
    json_object_set_new(open, "status", json_string("in_progress"));
    send(s, out, "response.output_item.added",
         json_pack("{s:i, s:o}", "output_index", index, "item", open));
    send(s, out, "response.function_call_arguments.delta",
         json_pack("{s:O, s:i, s:O}", "item_id", id, "output_index", index, "delta", arguments));
    send(s, out, "response.function_call_arguments.done",
         json_pack("{s:O, s:i, s:O, s:O}", "item_id", id, "output_index", index, "arguments",
                   arguments, "name", json_object_get(item, "name")));
    send(s, out, "response.output_item.done",
         json_pack("{s:i, s:o}", "output_index", index, "item", item));
}

static void send_end(stream *s, limn_buf *out, const limn_job *job) {
    json_t *result = json_loads(job->result ? job->result : "{}", 0, NULL);
    const json_t *text = json_object_get(result, "text");
    const char *words = text ? json_string_value(text) : "";
    size_t n = json_string_length(text);
    json_t *calls = openai_tool_calls(result, job->id, false);
    json_t *rest = openai_odds_rest(&s->odds, result), *odds = all_odds(result);
    if (rest || n > s->text.sent) send_text(s, out, words + s->text.sent, n - s->text.sent, rest);
    if (!calls) open_message(s, out);
    if (s->begun) close_message(s, out, words, n, odds);
    json_decref(odds);
    for (size_t i = 0; i < json_array_size(calls); i++)
        send_call(s, out, (int)i + (s->begun ? 1 : 0), json_array_get(calls, i));
    bool cut = strcmp(openai_finish(result), "length") == 0;
    send_response(s, out, cut ? "response.incomplete" : "response.completed");
    json_decref(calls);
    json_decref(result);
}

static void on_begin(void *user, limn_buf *out) {
    send_response(user, out, "response.created");
    send_response(user, out, "response.in_progress");
}

static void on_event(void *user, limn_buf *out, const limn_job_event *e, bool lost, bool *end) {
    stream *s = user;
    limn_job *job = NULL;
    size_t n;
    if (lost) s->text.broken = true;
    if (e->kind == LIMN_JOB_EVENT_TEXT && e->said == LIMN_SAID_TEXT) {
        const char *text = openai_fresh(&s->text, e->text, e->text_len, &n);
        openai_odds_add(&s->odds, e);
        if (n) send_text(s, out, text, n, openai_odds_take(&s->odds));
    }
    if (e->kind != LIMN_JOB_EVENT_STATE) return;
    if (!limn_job_state_is_final(e->state)) {
        s->text.at = 0;
        openai_odds_restart(&s->odds);
        return;
    }
    *end = true;
    if (limn_queue_get(s->queue, NULL, s->job, &job, NULL) == LIMN_OK &&
        job->state == LIMN_JOB_SUCCEEDED)
        send_end(s, out, job);
    else
        send_response(s, out, "response.failed");
    limn_job_free(&job);
}

static void on_bye(void *user, limn_buf *out) {
    send(user, out, "error",
         json_pack("{s:s, s:s, s:n}", "code", "server_error", "message", "the server is stopping",
                   "param"));
}

static void on_free(void *user, bool ended) {
    stream *s = user;
    limn_job_state was;
    if (!ended) limn_queue_cancel(s->queue, NULL, s->job, &was, NULL);
    openai_odds_deinit(&s->odds);
    limn_mem_free(s->model);
    limn_mem_free(s);
}

static void stream_response(limn_http_req *rq, const openai_ask *ask) {
    static const limn_http_stream_ops ops = {on_begin, on_event, on_bye, on_free};
    limn_feed_options opt = {.job = ask->job, .owner = limn_http_owner(rq)};
    stream *s = limn_mem_calloc(1, sizeof *s);
    char *model = limn_mem_strdup(ask->model);
    if (!s || !model) {
        limn_mem_free(s);
        limn_mem_free(model);
        limn_http_fail(rq, LIMN_HTTP_NO_MEMORY, NULL, "no memory for a stream");
        return;
    }
    s->queue = rq->server->queue;
    s->model = model;
    s->odds.wanted = ask->logprobs;
    snprintf(s->job, sizeof s->job, "%s", ask->job);
    limn_http_stream(rq, &opt, 1, &ops, s);
}

/* ---- turns before ---- */

/* The SEE job of a response id that the asker may see. */
static limn_status find_job(limn_http_req *rq, limn_job **out, const char *id, limn_err *err) {
    *out = NULL;
    if (strncmp(id, "resp_", 5) == 0 && limn_job_id_is_valid(id + 5) &&
        limn_queue_get(rq->server->queue, limn_http_owner(rq), id + 5, out, err) == LIMN_OK &&
        (*out)->kind == LIMN_JOB_SEE)
        return LIMN_OK;
    limn_job_free(out);
    return limn_fail(err, LIMN_E_VALUE, "/previous_response_id: there is no such response");
}

/* Everything that was said up to the end of a response. */
static limn_status past_messages(json_t **out, const limn_job *job, limn_err *err) {
    json_t *request = json_loads(job->request, 0, NULL);
    json_t *result = json_loads(job->result ? job->result : "{}", 0, NULL);
    json_t *past = json_deep_copy(json_object_get(request, "messages"));
    json_t *answer = json_pack("{s:s}", "role", "assistant");
    const json_t *text = json_object_get(result, "text");
    json_t *calls = json_object_get(result, "tool_calls"), *kept = NULL;
    limn_status st = LIMN_OK;
    LIMN_CHECK(err, job->state == LIMN_JOB_SUCCEEDED && json_is_array(past), LIMN_E_VALUE,
               "/previous_response_id: that response is not complete");
    if (json_string_length(text) || !json_array_size(calls))
        json_object_set_new(answer, "content", text ? json_deep_copy(text) : json_string(""));
    if (json_array_size(calls)) {
        kept = openai_tool_calls(result, job->id, false);
        json_t *list = json_array();
        for (size_t i = 0; i < json_array_size(kept); i++)
            json_array_append_new(list,
                                  json_pack("{s:O}", "function",
                                            json_object_get(json_array_get(kept, i), "function")));
        json_object_set_new(answer, "tool_calls", list);
    }
    json_array_append(past, answer);
    /* Instructions are of one response only. */
    if (json_object_get(json_object_get(request, "response"), "instructions"))
        json_array_remove(past, 0);
    LIMN_CHECK(err, json_array_size(past) <= TURNS_MAX, LIMN_E_LIMIT,
               "/previous_response_id: the conversation has too many turns");
    *out = past;
    past = NULL;
out:
    json_decref(kept);
    json_decref(past);
    json_decref(answer);
    json_decref(request);
    json_decref(result);
    return st;
}

static limn_status read_turns(limn_http_req *rq, json_t **out, limn_err *err) {
    const json_t *id = json_object_get(rq->json, "previous_response_id");
    const char *before = json_string_value(id);
    json_t *input = NULL, *messages = NULL, *past = NULL;
    limn_job *job = NULL;
    limn_status st = LIMN_OK;
    LIMN_CHECK(err, !id || json_is_null(id) || before, LIMN_E_VALUE,
               "/previous_response_id: must be a string");
    LIMN_TRY(openai_input_messages(&input, rq->json, err));
    LIMN_TRY(openai_read_messages(rq, &messages, input, err));
    if (before) {
        LIMN_TRY(find_job(rq, &job, before, err));
        LIMN_TRY(past_messages(&past, job, err));
        /* New instructions stand first again. */
        if (openai_text(rq->json, "instructions")) {
            json_array_insert(past, 0, json_array_get(messages, 0));
            json_array_remove(messages, 0);
        }
        json_array_extend(past, messages);
        json_decref(messages);
        messages = past;
    }
    *out = messages;
    messages = NULL;
out:
    limn_job_free(&job);
    json_decref(input);
    json_decref(messages);
    return st;
}

/* ---- handlers ---- */

static void no_response(limn_http_req *rq) {
    limn_http_fail(rq, LIMN_HTTP_NOT_FOUND, NULL, "there is no response \"%.80s\"", rq->args[0]);
}

static void reply_cancelled(limn_http_req *rq, limn_job *job, bool ended) {
    (void)ended;
    if (job)
        limn_http_reply_json(rq, 200, response_json(job, job->model));
    else
        no_response(rq);
}

void openai_responses(limn_http_req *rq) {
    limn_err err = {0};
    json_t *messages = NULL;
    openai_ask ask = {0};
    limn_job *job = NULL;
    bool background = json_is_true(json_object_get(rq->json, "background"));
    if (read_turns(rq, &messages, &err) != LIMN_OK) {
        openai_fail(rq, &err);
        return;
    }
    ask.kept = to_keep(rq->json);
    bool made = openai_submit_ask(rq, &ask, messages, background);
    json_decref(ask.kept);
    ask.kept = NULL;
    if (!made) return;
    if (ask.stream) {
        stream_response(rq, &ask);
    } else if (!background) {
        limn_http_wait(rq, ask.job, -1, true, reply_job);
    } else if (limn_queue_get(rq->server->queue, NULL, ask.job, &job, &err) == LIMN_OK) {
        reply_job(rq, job, false);
    } else {
        openai_fail(rq, &err);
    }
    limn_job_free(&job);
}

/* The response is told as it is then; one that has ended stays as it was. */
void openai_response_cancel(limn_http_req *rq) {
    limn_err err = {0};
    limn_job *job = NULL;
    limn_job_state was;
    if (find_job(rq, &job, rq->args[0], &err) != LIMN_OK) {
        no_response(rq);
        return;
    }
    json_t *request = json_loads(job->request, 0, NULL);
    bool background =
        json_is_true(json_object_get(json_object_get(request, "response"), "background"));
    json_decref(request);
    if (!background)
        limn_http_fail(rq, LIMN_HTTP_BAD_REQUEST, NULL,
                       "only a response that was made with \"background\" can be cancelled");
    else if (limn_queue_cancel(rq->server->queue, limn_http_owner(rq), job->id, &was, &err) !=
                 LIMN_OK &&
             err.status != LIMN_E_CONFLICT)
        openai_fail(rq, &err);
    else
        limn_http_wait(rq, limn_http_printf(rq, "%s", job->id), -1, false, reply_cancelled);
    limn_job_free(&job);
}

void openai_response_items(limn_http_req *rq) {
    limn_err err = {0};
    limn_job *job = NULL;
    if (find_job(rq, &job, rq->args[0], &err) == LIMN_OK)
        openai_items_reply(rq, job);
    else
        no_response(rq);
    limn_job_free(&job);
}

/* GET, and DELETE, of /v1/responses/{id}. */
void openai_response(limn_http_req *rq) {
    limn_err err = {0};
    limn_job *job = NULL;
    if (find_job(rq, &job, rq->args[0], &err) != LIMN_OK) {
        no_response(rq);
        return;
    }
    if (strcmp(rq->route->method, "DELETE") != 0)
        limn_http_reply_json(rq, 200, response_json(job, job->model));
    else if (limn_queue_remove(rq->server->queue, limn_http_owner(rq), job->id, &err) == LIMN_OK)
        limn_http_reply_json(
            rq, 200,
            json_pack("{s:s, s:s, s:b}", "id", rq->args[0], "object", "response", "deleted", 1));
    else
        openai_fail(rq, &err);
    limn_job_free(&job);
}
