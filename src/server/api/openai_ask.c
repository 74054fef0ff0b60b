/* SPDX-License-Identifier: MIT */
/* A question in OpenAI's words as SEE jobs, and pieces of their results; see openai.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "param/seeing.h"
#include "pipeline/call_schema.h"
#include "server/api/openai.h"
#include "text/grammar.h"

enum { CHOICES_MAX = 128, STOPS_MAX = 4, TOOLS_MAX = 128 };
#define SEED_MAX 9007199254740991.0

/* clang-format off */
static const openai_field fields[] = {
    {"temperature", "temperature", OPENAI_REAL, 0, 2},
    {"top_p", "top_p", OPENAI_REAL, 0, 1},
    {"presence_penalty", "presence_penalty", OPENAI_REAL, -2, 2},
    {"frequency_penalty", "frequency_penalty", OPENAI_REAL, -2, 2},
    {"max_tokens", "max_tokens", OPENAI_INT, 1, 1048576},
    {"max_completion_tokens", "max_tokens", OPENAI_INT, 1, 1048576},
    {"max_output_tokens", "max_tokens", OPENAI_INT, 1, 1048576},
    {"seed", "seed", OPENAI_INT, -SEED_MAX, SEED_MAX},
    /* of other servers of this dialect */
    {"top_k", "top_k", OPENAI_INT, 0, 1000000},
    {"min_p", "min_p", OPENAI_REAL, 0, 1},
    {"repetition_penalty", "repetition_penalty", OPENAI_REAL, 0.01, 10},
    {"repeat_penalty", "repetition_penalty", OPENAI_REAL, 0.01, 10},
    {"grammar", "grammar", OPENAI_TEXT, 0, 0},
};
/* clang-format on */

/* ---- options that are not plain values ---- */

static limn_status read_stop(json_t *values, const json_t *stop, limn_err *err) {
    json_t *list;
    if (!stop || json_is_null(stop)) return LIMN_OK;
    list = json_is_string(stop) ? json_pack("[O]", stop) : json_incref((json_t *)(uintptr_t)stop);
    json_object_set_new(values, "stop", list);
    bool fits = json_is_array(list) && json_array_size(list) <= STOPS_MAX;
    for (size_t i = 0; fits && i < json_array_size(list); i++)
        fits = json_string_length(json_array_get(list, i)) > 0;
    return fits ? LIMN_OK
                : limn_fail(err, LIMN_E_VALUE, "/stop: is a string or a list of at most %d",
                            STOPS_MAX);
}

static limn_status read_bias(json_t *values, json_t *bias, limn_err *err) {
    const char *id;
    json_t *v, *list;
    char text[64];
    if (!bias || json_is_null(bias)) return LIMN_OK;
    if (!json_is_object(bias)) return limn_fail(err, LIMN_E_VALUE, "/logit_bias: is an object");
    list = json_array();
    json_object_set_new(values, "logit_bias", list);
    json_object_foreach(bias, id, v) {
        double x = json_number_value(v);
        if (!json_is_number(v) || x < -100 || x > 100 || strlen(id) > 10 ||
            strspn(id, "0123456789") != strlen(id))
            return limn_fail(err, LIMN_E_VALUE,
                             "/logit_bias: has token ids and numbers from -100 to 100");
        snprintf(text, sizeof text, "%s:%g", id, x);
        json_array_append_new(list, json_string(text));
    }
    return LIMN_OK;
}

/* "include" of responses. */
static bool includes_logprobs(const json_t *list) {
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *word = json_string_value(json_array_get(list, i));
        if (word && strcmp(word, "message.output_text.logprobs") == 0) return true;
    }
    return false;
}

static limn_status read_logprobs(openai_ask *ask, json_t *values, const json_t *body,
                                 limn_err *err) {
    const json_t *want = json_object_get(body, "logprobs");
    const json_t *top = json_object_get(body, "top_logprobs");
    bool has_top = top && !json_is_null(top);
    if (want && !json_is_null(want) && !json_is_boolean(want))
        return limn_fail(err, LIMN_E_VALUE, "/logprobs: must be true or false");
    ask->logprobs = json_is_true(want) || includes_logprobs(json_object_get(body, "include"));
    if (has_top && (!json_is_integer(top) || json_integer_value(top) < 0 ||
                    json_integer_value(top) > LIMN_LOGPROBS_MAX))
        return limn_fail(err, LIMN_E_VALUE, "/top_logprobs: is a whole number, 0 to %d",
                         LIMN_LOGPROBS_MAX);
    if (has_top && !ask->logprobs && json_integer_value(top) > 0)
        return limn_fail(err, LIMN_E_VALUE,
                         "/top_logprobs: needs \"logprobs\": true (responses: "
                         "\"include\": [\"message.output_text.logprobs\"])");
    if (ask->logprobs)
        json_object_set_new(values, "logprobs", json_integer(json_integer_value(top)));
    return LIMN_OK;
}

/* A form that no answer could keep to is refused here, not by the job. */
static limn_status check_form(const char *text, bool schema, const char *where, bool strict,
                              limn_err *err) {
    limn_grammar *g = NULL;
    limn_err why = {0};
    limn_schema_options space = {.space = LIMN_JSON_ONE};
    limn_status st = schema ? limn_grammar_parse_schema(&g, text, strlen(text), &space, &why)
                            : limn_grammar_parse(&g, text, strlen(text), &why);
    limn_grammar_free(&g);
    if (st == LIMN_OK || (!strict && st == LIMN_E_UNSUPPORTED)) return LIMN_OK;
    return limn_fail(err, st == LIMN_E_NOMEM ? st : LIMN_E_VALUE, "/%s: %s", where, why.text);
}

/* "response_format" of chat, "text.format" of responses. */
static limn_status read_format(json_t *values, const json_t *body, limn_err *err) {
    const json_t *format = json_object_get(body, "response_format");
    if (!format) format = json_object_get(json_object_get(body, "text"), "format");
    const char *type = openai_text(format, "type");
    const json_t *schema = json_object_get(json_object_get(format, "json_schema"), "schema");
    if (!schema) schema = json_object_get(format, "schema");
    if (!format || json_is_null(format) || (type && strcmp(type, "text") == 0)) return LIMN_OK;
    if (type && strcmp(type, "json_object") == 0 && !schema) {
        json_object_set_new(values, "schema", json_string("{\"type\":\"object\"}"));
        return LIMN_OK;
    }
    if (!type || (strcmp(type, "json_schema") != 0 && strcmp(type, "json_object") != 0))
        return limn_fail(err, LIMN_E_VALUE,
                         "/response_format: its type is text, json_object or json_schema");
    if (!json_is_object(schema))
        return limn_fail(err, LIMN_E_VALUE, "/response_format: json_schema.schema is needed");
    char *text = json_dumps(schema, JSON_COMPACT);
    if (!text) return limn_fail(err, LIMN_E_NOMEM, "no memory for the schema");
    limn_status st = check_form(text, true, "response_format", true, err);
    if (st == LIMN_OK) json_object_set_new(values, "schema", json_string(text));
    free(text);
    return st;
}

static limn_status read_thinking(json_t *values, const json_t *body, limn_err *err) {
    const json_t *on =
        json_object_get(json_object_get(body, "chat_template_kwargs"), "enable_thinking");
    const json_t *effort = json_object_get(body, "reasoning_effort");
    if (!effort) effort = json_object_get(json_object_get(body, "reasoning"), "effort");
    if (effort && !json_is_null(effort) && !json_is_string(effort))
        return limn_fail(err, LIMN_E_VALUE, "/reasoning_effort: must be a string");
    bool none = json_is_string(effort) && strcmp(json_string_value(effort), "none") == 0;
    if (none || json_is_false(on)) json_object_set_new(values, "thinking", json_false());
    return LIMN_OK;
}

/* ---- tools ---- */

/* Responses write a tool flat, chat inside "function"; the model reads the latter. */
static json_t *tool_json(const json_t *tool) {
    const char *type = openai_text(tool, "type");
    json_t *f = json_object_get(tool, "function");
    if (type && strcmp(type, "function") != 0) return NULL;
    if (json_is_object(f))
        return openai_text(f, "name") ? json_incref((json_t *)(uintptr_t)tool) : NULL;
    if (!openai_text(tool, "name")) return NULL;
    f = json_deep_copy(tool);
    json_object_del(f, "type");
    json_object_del(f, "strict");
    return json_pack("{s:s, s:o}", "type", "function", "function", f);
}

/* A tool whose parameters cannot be understood; keywords that limn does not know are no fault, as
 * nothing holds the model to them; check_call does where something will. */
static limn_status check_tool(const json_t *tool, size_t at, limn_err *err) {
    const json_t *parameters = json_object_get(json_object_get(tool, "function"), "parameters");
    char where[48], *text;
    if (!parameters || json_is_null(parameters)) return LIMN_OK;
    snprintf(where, sizeof where, "tools/%zu/function/parameters", at);
    if (!json_is_object(parameters))
        return limn_fail(err, LIMN_E_VALUE, "/%s: is a JSON Schema", where);
    text = json_dumps(parameters, JSON_COMPACT);
    if (!text) return limn_fail(err, LIMN_E_NOMEM, "no memory for a tool");
    limn_status st = check_form(text, true, where, false, err);
    free(text);
    return st;
}

/* The form of a call of any of the tools can be made. */
static limn_status check_call(const json_t *list, limn_err *err) {
    char *texts[TOOLS_MAX] = {0}, *schema = NULL;
    size_t n = json_array_size(list);
    limn_err why = {0};
    limn_status st = LIMN_OK;
    for (size_t i = 0; i < n; i++) {
        texts[i] = json_dumps(json_array_get(list, i), JSON_COMPACT);
        LIMN_CHECK(err, texts[i], LIMN_E_NOMEM, "no memory for the tools");
    }
    st = limn_call_schema(&schema, (const char *const *)texts, n, &why);
    if (st == LIMN_E_VALUE) limn_fail(err, st, "/tools: %s", why.text);
    if (st == LIMN_OK) st = check_form(schema, true, "tools", true, err);
out:
    for (size_t i = 0; i < n; i++) free(texts[i]);
    limn_mem_free(schema);
    return st;
}

/* tool_choice: "none", "auto", "required", or the one that is to be called. */
typedef struct choice {
    bool none, must;
    const char *only; /* NULL: any */
} choice;

static limn_status read_choice(choice *c, const json_t *v, limn_err *err) {
    const char *word = json_string_value(v), *type = openai_text(v, "type");
    *c = (choice){0};
    if (!v || json_is_null(v) || (word && strcmp(word, "auto") == 0)) return LIMN_OK;
    c->none = word && strcmp(word, "none") == 0;
    c->must = word && strcmp(word, "required") == 0;
    if (type && strcmp(type, "function") == 0) { /* chat, responses */
        c->only = openai_text(json_object_get(v, "function"), "name");
        if (!c->only) c->only = openai_text(v, "name");
        c->must = c->only != NULL;
    }
    if (c->none || c->must) return LIMN_OK;
    return limn_fail(err, LIMN_E_VALUE,
                     "/tool_choice: is \"none\", \"auto\", \"required\" or a function with a name");
}

static limn_status read_tools(json_t *root, const json_t *body, limn_err *err) {
    const json_t *tools = json_object_get(body, "tools");
    choice c;
    limn_status st = read_choice(&c, json_object_get(body, "tool_choice"), err);
    if (st != LIMN_OK) return st;
    bool any = tools && !json_is_null(tools);
    if (any && (!json_is_array(tools) || json_array_size(tools) > TOOLS_MAX))
        return limn_fail(err, LIMN_E_VALUE, "/tools: is a list of at most %d", TOOLS_MAX);
    if (c.must && (!any || json_array_size(tools) == 0))
        return limn_fail(err, LIMN_E_VALUE, "/tool_choice: there are no tools to call");
    if (!any || c.none) return LIMN_OK;
    json_t *list = json_array();
    json_object_set_new(root, "tools", list);
    for (size_t i = 0; i < json_array_size(tools); i++) {
        json_t *tool = tool_json(json_array_get(tools, i));
        const char *name = openai_text(json_object_get(tool, "function"), "name");
        if (!tool)
            return limn_fail(err, LIMN_E_VALUE, "/tools/%zu: a function with a name is needed", i);
        st = check_tool(tool, i, err);
        bool wanted = !c.only || (name && strcmp(name, c.only) == 0);
        if (st == LIMN_OK && wanted && json_array_append(list, tool) != 0)
            st = limn_fail(err, LIMN_E_NOMEM, "no memory for the tools");
        json_decref(tool);
        if (st != LIMN_OK) return st;
    }
    if (c.must && json_array_size(list) == 0)
        return limn_fail(err, LIMN_E_VALUE, "/tool_choice: there is no tool '%.60s'", c.only);
    if (c.must) json_object_set_new(root, "must_call", json_true());
    return c.must ? check_call(list, err) : LIMN_OK;
}

/* ---- submitting ---- */

static limn_status read_shape(openai_ask *ask, const json_t *body, limn_err *err) {
    const json_t *n = json_object_get(body, "n"), *stream = json_object_get(body, "stream");
    const json_t *opt = json_object_get(body, "stream_options");
    ask->n = 1;
    if (n && !json_is_null(n)) {
        if (!json_is_integer(n) || json_integer_value(n) < 1 || json_integer_value(n) > CHOICES_MAX)
            return limn_fail(err, LIMN_E_VALUE, "/n: is a whole number, 1 to %d", CHOICES_MAX);
        ask->n = (int)json_integer_value(n);
    }
    if (stream && !json_is_boolean(stream) && !json_is_null(stream))
        return limn_fail(err, LIMN_E_VALUE, "/stream: must be true or false");
    ask->stream = json_is_true(stream);
    ask->usage = json_is_true(json_object_get(opt, "include_usage"));
    return LIMN_OK;
}

static limn_status read_options(limn_http_req *rq, openai_ask *ask, limn_params **see, json_t *root,
                                limn_err *err) {
    json_t *body = rq->json, *values = json_object();
    const json_t *model = json_object_get(body, "model");
    limn_status st = LIMN_OK;
    char *text = NULL;
    LIMN_CHECK(err, values, LIMN_E_NOMEM, "no memory for the request");
    LIMN_TRY(openai_check_model(rq, body, LIMN_SHELF_SEE, true, err));
    LIMN_TRY(read_shape(ask, body, err));
    LIMN_TRY(
        openai_read_fields(values, body, fields, (int)(sizeof fields / sizeof fields[0]), err));
    if (json_integer_value(json_object_get(values, "seed")) < 0) json_object_del(values, "seed");
    LIMN_TRY(read_stop(values, json_object_get(body, "stop"), err));
    LIMN_TRY(read_bias(values, json_object_get(body, "logit_bias"), err));
    LIMN_TRY(read_logprobs(ask, values, body, err));
    LIMN_TRY(read_format(values, body, err));
    LIMN_TRY(read_thinking(values, body, err));
    LIMN_TRY(read_tools(root, body, err));
    if (json_array_size(json_object_get(root, "tools")) && !json_object_get(root, "must_call"))
        LIMN_TRY(openai_check_tools(rq, json_string_value(model), err));
    LIMN_CHECK(err, !json_object_get(body, "chat_template"), LIMN_E_VALUE,
               "/chat_template: a model's own is used, none from requests");
    if (json_object_get(root, "must_call")) { /* a call has a form of its own */
        json_object_del(values, "schema");
        json_object_del(values, "grammar");
    }
    const char *grammar = openai_text(values, "grammar");
    if (grammar) LIMN_TRY(check_form(grammar, false, "grammar", true, err));
    json_object_set(values, "model", (json_t *)(uintptr_t)model);
    text = json_dumps(values, JSON_COMPACT);
    LIMN_CHECK(err, text, LIMN_E_NOMEM, "no memory for the request");
    LIMN_TRY(limn_params_new(see, LIMN_PARAMS_SEE, err));
    LIMN_TRY(limn_params_parse_json(*see, text, strlen(text), LIMN_FROM_API, err));
    LIMN_TRY(limn_api_check_names(*see, err));
out:
    free(text);
    json_decref(values);
    return st;
}

/* The seeds of further choices follow the first one's, so that they differ. */
static limn_status next_seed(limn_params *see, int by, limn_err *err) {
    char text[32];
    if (!limn_params_is_set(see, "seed")) return LIMN_OK;
    int64_t seed = limn_seeing_of(see)->seed;
    snprintf(text, sizeof text, "%lld",
             (long long)(seed < INT64_C(9007199254740991) ? seed + by : by));
    return limn_params_set(see, "seed", text, LIMN_FROM_API, err);
}

static bool submit_all(limn_http_req *rq, openai_ask *ask, limn_params *see, limn_submit *submit) {
    limn_submitted made;
    limn_err err = {0};
    if (ask->n > 1 && limn_http_header(rq, "Idempotency-Key")) {
        limn_http_fail(rq, LIMN_HTTP_BAD_VALUE, "n", "/n: with an Idempotency-Key it must be 1");
        return false;
    }
    ask->more = limn_arena_alloc(&rq->arena, (size_t)ask->n * sizeof *ask->more);
    for (int i = 0; i < ask->n; i++) {
        if (i > 0 && next_seed(see, 1, &err) != LIMN_OK) {
            limn_api_fail(rq, &err);
            return false;
        }
        if (!ask->more || !limn_api_submit(rq, submit, &made)) {
            limn_job_state was;
            for (int k = 0; ask->more && k < i; k++)
                limn_queue_cancel(rq->server->queue, NULL, k ? ask->more[k - 1] : ask->job, &was,
                                  NULL);
            if (!ask->more) limn_http_fail(rq, LIMN_HTTP_NO_MEMORY, NULL, "no memory");
            return false;
        }
        snprintf(i ? ask->more[i - 1] : ask->job, LIMN_JOB_ID_LEN + 1, "%s", made.id);
    }
    snprintf(rq->job, sizeof rq->job, "%s", ask->job);
    return true;
}

bool openai_submit_ask(limn_http_req *rq, openai_ask *ask, json_t *messages, bool keep) {
    json_t *root = json_pack("{s:o}", "messages", messages);
    limn_params *see = NULL;
    limn_err err = {0}, *e = &err;
    char *text = NULL;
    bool made = false;
    limn_status st = LIMN_OK;
    limn_submit submit = {.kind = LIMN_JOB_SEE, .source = "openai", .keep = keep};
    LIMN_CHECK(e, root, LIMN_E_NOMEM, "no memory for the request");
    LIMN_TRY(read_options(rq, ask, &see, root, e));
    if (ask->kept) json_object_set(root, "response", ask->kept);
    LIMN_TRY(limn_api_give_json(&submit, root, &text, e));
    submit.params = see;
    ask->model = openai_model_name(rq, rq->json);
    ask->created = limn_clock_unix_ms() / 1000;
    made = submit_all(rq, ask, see, &submit);
out:
    if (st != LIMN_OK) openai_fail(rq, e);
    free(text);
    limn_params_free(&see);
    json_decref(root);
    return made;
}

/* ---- results ---- */

const char *openai_finish(const json_t *result) {
    const char *why = openai_text(result, "finish_reason");
    if (!why) why = openai_text(result, "finish");
    if (json_array_size(json_object_get(result, "tool_calls"))) return "tool_calls";
    if (why && (strcmp(why, "length") == 0 || strcmp(why, "context") == 0)) return "length";
    return "stop";
}

json_t *openai_tool_calls(const json_t *result, const char *job, bool index) {
    const json_t *calls = json_object_get(result, "tool_calls");
    json_t *list = json_array_size(calls) ? json_array() : NULL;
    for (size_t i = 0; list && i < json_array_size(calls); i++) {
        const json_t *call = json_array_get(calls, i);
        const json_t *given = json_object_get(call, "arguments");
        const char *name = openai_text(call, "name");
        char id[64], *text = json_is_string(given) ? NULL : json_dumps(given, JSON_COMPACT);
        snprintf(id, sizeof id, "call_%.8s_%zu", job + LIMN_JOB_ID_LEN - 8, i);
        json_t *c = json_pack("{s:s, s:s, s:{s:s, s:s}}", "id", id, "type", "function", "function",
                              "name", name ? name : "", "arguments",
                              text                    ? text
                              : json_is_string(given) ? json_string_value(given)
                                                      : "{}");
        if (index) json_object_set_new(c, "index", json_integer((json_int_t)i));
        json_array_append_new(list, c);
        free(text);
    }
    return list;
}

static json_t *logprob_json(const json_t *p) {
    const char *text = json_string_value(json_object_get(p, "text"));
    if (!text) text = json_string_value(json_object_get(p, "token")); /* of an event */
    json_t *o = json_pack("{s:s, s:O}", "token", text ? text : "", "logprob",
                          json_object_get(p, "logprob"));
    json_object_set(o, "bytes", json_object_get(p, "bytes"));
    return o;
}

json_t *openai_logprobs(const json_t *list) {
    json_t *content = json_array();
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *row = json_array_get(list, i), *top = json_object_get(row, "top");
        const json_t *own = json_object_get(row, "token"); /* an event's row has it inside */
        json_t *o = logprob_json(json_is_object(own) ? own : row), *others = json_array();
        for (size_t k = 0; k < json_array_size(top); k++)
            json_array_append_new(others, logprob_json(json_array_get(top, k)));
        json_object_set_new(o, "top_logprobs", others);
        json_array_append_new(content, o);
    }
    return json_pack("{s:o, s:n}", "content", content, "refusal");
}

int64_t openai_usage(const json_t *result, const char *name) {
    return json_integer_value(json_object_get(json_object_get(result, "usage"), name));
}

const char *openai_fresh(openai_progress *p, const char *piece, size_t size, size_t *len) {
    size_t from = p->at, skip;
    p->at += size;
    *len = 0;
    if (p->broken || p->at <= p->sent) return piece;
    skip = p->sent > from ? p->sent - from : 0;
    *len = size - skip;
    p->sent = p->at;
    return piece + skip;
}

/* ---- probabilities in streams ---- */

static void odds_add_row(openai_odds *o, json_t *row) {
    if (o->at++ < o->sent) return; /* of a run before */
    if (!o->rows) o->rows = json_array();
    json_array_append(o->rows, row);
}

void openai_odds_add(openai_odds *o, const limn_job_event *e) {
    json_t *rows, *row;
    size_t i;
    if (!o->wanted || !e->data) return;
    rows = json_loadb(e->data, strnlen(e->data, e->size), 0, NULL);
    if (json_is_object(rows)) odds_add_row(o, rows);
    json_array_foreach(rows, i, row) odds_add_row(o, row);
    json_decref(rows);
}

void openai_odds_restart(openai_odds *o) {
    openai_odds_deinit(o);
    o->at = 0;
}

json_t *openai_odds_take(openai_odds *o) {
    json_t *list = o->rows ? openai_logprobs(o->rows) : NULL;
    o->sent += json_array_size(o->rows);
    openai_odds_deinit(o);
    return list;
}

json_t *openai_odds_rest(openai_odds *o, const json_t *result) {
    const json_t *all = json_object_get(result, "logprobs");
    if (!o->wanted) return NULL;
    openai_odds_restart(o);
    for (size_t i = 0; i < json_array_size(all); i++) odds_add_row(o, json_array_get(all, i));
    return openai_odds_take(o);
}

void openai_odds_deinit(openai_odds *o) {
    json_decref(o->rows);
    o->rows = NULL;
}
