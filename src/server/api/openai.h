/* SPDX-License-Identifier: MIT */
/*
 * The OpenAI routes: /v1/chat/completions, /v1/responses, /v1/images/..., and the few routes of
 * llama-server that its clients probe.
 *
 *     request JSON --> openai_read_* --> limn_params + messages --> a SEE or DRAW job
 *     the job's end, or its events --> openai_*_answer, or chunks of a stream
 *
 * A request field that limn does not know is ignored, as every server of this dialect does; a known
 * one of the wrong type or range is a 400 that names it. A client that goes away cancels its job.
 * Handlers' thread only. Shapes: the OpenAI API reference, and what its SDKs check.
 */
#ifndef LIMN_SERVER_API_OPENAI_H
#define LIMN_SERVER_API_OPENAI_H

#include "server/api/api.h"

/* ---- openai_read.c: fields ---- */

typedef enum openai_type { OPENAI_INT, OPENAI_REAL, OPENAI_BOOL, OPENAI_TEXT } openai_type;

/* One field of a request and where it goes. */
typedef struct openai_field {
    const char *name;  /* in the request */
    const char *value; /* in limn's parameter table */
    openai_type type;
    double lo, hi; /* of numbers */
} openai_field;

/* Copies the fields that are there (and not null) into `values`. E_VALUE names the wrong one. */
limn_status openai_read_fields(json_t *values, const json_t *body, const openai_field *fields,
                               int count, limn_err *err);
/* A text member; NULL when it is missing, null or empty. */
const char *openai_text(const json_t *object, const char *name);
/* "model" of the request: a name of the shelf's `kind`. Without an engine (the stub) any name is
 * taken. E_NOT_FOUND, E_VALUE. `required`: it must be there. */
limn_status openai_check_model(limn_http_req *rq, const json_t *body, limn_shelf_kind kind,
                               bool required, limn_err *err);
/* Answers an error; an unknown model is 404 model_not_found. */
void openai_fail(limn_http_req *rq, const limn_err *err);
/* "data: {...}\n\n", with "event: ..." before it unless that is NULL. Takes `data`. */
void openai_sse(limn_buf *out, const char *event, json_t *data);
/* The error object of a job that did not succeed, for an answer or inside a stream. */
json_t *openai_job_error(const limn_job *job);
/* The same as an answer; job NULL: it was deleted meanwhile. */
void openai_fail_job(limn_http_req *rq, const limn_job *job);
/* "system_fingerprint": the program that answered. */
json_t *openai_fingerprint(void);
/* The name in answers: what the request said. Lives as long as the request. */
const char *openai_model_name(limn_http_req *rq, const json_t *body);

/* ---- openai_form.c: multipart/form-data ---- */

typedef struct openai_file {
    const void *data; /* in the request's body */
    size_t size;
} openai_file;
typedef struct openai_form {
    json_t *fields;          /* texts by name */
    openai_file image, mask; /* the first image */
    int n_images;
} openai_form;
/* Reads the request's body. E_VALUE. The form must be given back either way. */
limn_status openai_form_read(limn_http_req *rq, openai_form *form, limn_err *err);
void openai_form_deinit(openai_form *form);

/* ---- openai_messages.c: conversations ---- */

/* OpenAI's messages as the queue's: pictures, clips and documents become artifacts. */
limn_status openai_read_messages(limn_http_req *rq, json_t **out, const json_t *messages,
                                 limn_err *err);
/* "input" and "instructions" of /v1/responses as OpenAI's messages. */
limn_status openai_input_messages(json_t **out, const json_t *body, limn_err *err);

/* ---- openai_ask.c: a question as a job ---- */

/* What is asked and how the answer has to look. Texts live in the request's arena. */
typedef struct openai_ask {
    char job[LIMN_JOB_ID_LEN + 1];
    char (*more)[LIMN_JOB_ID_LEN + 1]; /* [n - 1] the other choices */
    const char *model;
    int64_t created; /* seconds */
    int n;
    bool stream, usage, logprobs;
    json_t *kept; /* NULL, or what is stored with the job as "response"; borrowed */
} openai_ask;

/* Reads the options of `body` (names of chat and of responses) and submits one SEE job for each of
 * the n answers. `messages`: the queue's (openai_read_messages), taken. keep: they go on when the
 * client goes away. false: rq has been answered. */
bool openai_submit_ask(limn_http_req *rq, openai_ask *ask, json_t *messages, bool keep);
/* "stop", "length", "tool_calls" of a finished SEE job's result. */
const char *openai_finish(const json_t *result);
/* [{"index", "id", "type": "function", "function": {"name", "arguments"}}] or NULL when there are
 * none; `index`: with their number, as streams have it. */
json_t *openai_tool_calls(const json_t *result, const char *job, bool index);
/* {"content": [...]} from limn's list. */
json_t *openai_logprobs(const json_t *list);
int64_t openai_usage(const json_t *result, const char *name);

/* What has been sent of a text that may be written again after a crash. */
typedef struct openai_progress {
    size_t sent, at; /* bytes: sent altogether; of the present run, seen */
    bool broken;     /* pieces were lost: the rest is sent at the end */
} openai_progress;
/* The part of a piece that is new; *len 0: nothing. */
const char *openai_fresh(openai_progress *p, const char *piece, size_t size, size_t *len);

/* Probabilities of tokens on their way into a stream. They come before the text that they belong
 * to, which may be held back, and go with the next text that is sent. */
typedef struct openai_odds {
    json_t *rows;    /* those that wait; NULL: none */
    size_t at, sent; /* tokens: of the present run, seen; altogether, sent */
    bool wanted;
} openai_odds;
void openai_odds_add(openai_odds *o, const limn_job_event *e);
/* The run begins again from its first token. */
void openai_odds_restart(openai_odds *o);
/* As in openai_logprobs, of those that wait; NULL: none. */
json_t *openai_odds_take(openai_odds *o);
/* The same of those of a finished job's result that were not sent. */
json_t *openai_odds_rest(openai_odds *o, const json_t *result);
void openai_odds_deinit(openai_odds *o);

/* ---- openai_moderate.c ---- */
enum { OPENAI_CATEGORIES = 13 };
/* The scores that the result of a text's job gives, where higher than what is there. false: the
 * model has not judged. */
bool openai_moderate_scores(double scores[OPENAI_CATEGORIES], const json_t *result);

/* ---- openai_policy.c ---- */
#define OPENAI_FLAG_AT 0.5 /* the score of what is flagged, unless a category says otherwise */
/* One thing that is judged. */
typedef struct openai_category {
    const char *name, *about;
    bool pictures; /* judged in pictures; texts are judged by all, or by none of a model's own */
    double at;     /* flagged from this score on */
} openai_category;
/* What a seeing model was taught to judge in pictures, and nothing else: moderation.json in its
 * folder, {"categories": ["weapon", {"name", "description", "threshold"}]}. *count 0: there is
 * none, the model reads whatever categories it is given. In the request's arena. E_FORMAT, E_IO. */
limn_status openai_policy_read(limn_http_req *rq, const openai_category **rows, int *count,
                               const char *path, limn_err *err);

/* ---- openai_items.c ---- */
/* Answers with the input items of a response's job. */
void openai_items_reply(limn_http_req *rq, const limn_job *job);

/* ---- openai_probes.c ---- */
/* E_UNSUPPORTED: the model's chat template has no place for tools, so that it would answer a
 * conversation with some in nonsense. NULL or "": the default model. */
limn_status openai_check_tools(limn_http_req *rq, const char *model, limn_err *err);

limn_http_handler openai_chat, openai_responses, openai_response, openai_response_cancel,
    openai_response_items, openai_image_make, openai_image_edit, openai_image_vary, openai_health,
    openai_props, openai_slots, openai_tokenize, openai_detokenize, openai_moderate;

#endif
