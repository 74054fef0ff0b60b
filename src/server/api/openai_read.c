/* SPDX-License-Identifier: MIT */
/* Fields, models and errors of the OpenAI routes; see openai.h. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/api/openai.h"

static limn_status read_field(json_t *values, const openai_field *f, json_t *v, limn_err *err) {
    static const char *const words[] = {"a whole number", "a number", "true or false", "a string"};
    bool fits = f->type == OPENAI_INT    ? json_is_integer(v)
                : f->type == OPENAI_REAL ? json_is_number(v)
                : f->type == OPENAI_BOOL ? json_is_boolean(v)
                                         : json_is_string(v);
    if (!fits) return limn_fail(err, LIMN_E_VALUE, "/%s: must be %s", f->name, words[f->type]);
    if (json_is_number(v)) {
        double x = json_number_value(v);
        if (!(x >= f->lo && x <= f->hi))
            return limn_fail(err, LIMN_E_VALUE, "/%s: must be from %g to %g", f->name, f->lo,
                             f->hi);
    }
    json_object_set(values, f->value, v);
    return LIMN_OK;
}

limn_status openai_read_fields(json_t *values, const json_t *body, const openai_field *fields,
                               int count, limn_err *err) {
    for (int i = 0; i < count; i++) {
        json_t *v = json_object_get(body, fields[i].name);
        if (!v || json_is_null(v)) continue;
        limn_status st = read_field(values, &fields[i], v, err);
        if (st != LIMN_OK) return st;
    }
    return LIMN_OK;
}

const char *openai_text(const json_t *object, const char *name) {
    const char *text = json_string_value(json_object_get(object, name));
    return text && *text ? text : NULL;
}

limn_status openai_check_model(limn_http_req *rq, const json_t *body, limn_shelf_kind kind,
                               bool required, limn_err *err) {
    const json_t *model = json_object_get(body, "model");
    const char *name = json_string_value(model);
    limn_shelf_item item = {0};
    if (!model || json_is_null(model)) {
        if (required) return limn_fail(err, LIMN_E_VALUE, "/model: is needed");
        return LIMN_OK;
    }
    if (!name) return limn_fail(err, LIMN_E_VALUE, "/model: must be a string");
    if (!rq->server->engine || !*name) return LIMN_OK;
    limn_status st = limn_shelf_find(rq->server->shelf, &item, kind, name, err);
    limn_shelf_item_deinit(&item);
    return st;
}

void openai_fail(limn_http_req *rq, const limn_err *err) {
    if (err->status == LIMN_E_NOT_FOUND)
        limn_http_fail(rq, LIMN_HTTP_NO_MODEL, "model", "%s", err->text);
    else
        limn_api_fail(rq, err);
}

void openai_sse(limn_buf *out, const char *event, json_t *data) {
    char *text = data ? json_dumps(data, JSON_COMPACT) : NULL;
    json_decref(data);
    if (!text) {
        out->failed = true;
        return;
    }
    if (event) limn_buf_addf(out, "event: %s\n", event);
    limn_buf_adds(out, "data: ");
    limn_buf_adds(out, text);
    limn_buf_adds(out, "\n\n");
    free(text);
}

static limn_http_code job_code(const limn_job *job) {
    return job->error == LIMN_OK ? LIMN_HTTP_CANCELLED : limn_http_error_find(job->error);
}

static const char *job_message(const limn_job *job) {
    if (job->error_text && *job->error_text) return job->error_text;
    return job->error == LIMN_OK ? "the job was cancelled" : limn_status_text(job->error);
}

json_t *openai_job_error(const limn_job *job) {
    return limn_http_error_json(job_code(job), NULL, job_message(job), NULL);
}

void openai_fail_job(limn_http_req *rq, const limn_job *job) {
    if (!job)
        limn_http_fail(rq, LIMN_HTTP_NO_JOB, NULL, "the job is gone");
    else
        limn_http_fail(rq, job_code(job), NULL, "%s", job_message(job));
}

const char *openai_model_name(limn_http_req *rq, const json_t *body) {
    const char *name = openai_text(body, "model");
    const char *kept = name ? limn_arena_strdup(&rq->arena, name) : NULL;
    return kept ? kept : "limn";
}

json_t *openai_fingerprint(void) {
    return json_sprintf("limn-%s", limn_version());
}
