/* SPDX-License-Identifier: MIT */
/* Native routes that make jobs (draw, edit, upscale, grid, load, unload), and those that say what
 * that would take (docs/API.md, 2). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/api/api.h"

static void reply_job(limn_http_req *rq, const limn_job *job, int status) {
    char place[64];
    limn_http_reply_json(rq, status,
                         json_pack("{s:o}", "job", limn_job_to_json(rq->server, job, true)));
    snprintf(place, sizeof place, "/v1/jobs/%s", job->id);
    limn_http_add_header(rq, "Location", place);
}

static void waited(limn_http_req *rq, limn_job *job, bool ended) {
    if (job)
        reply_job(rq, job, ended ? 200 : 202);
    else
        limn_http_fail(rq, LIMN_HTTP_NO_JOB, NULL, "the job is gone");
}

void limn_api_make(limn_http_req *rq, limn_submit *submit) {
    limn_submitted made;
    limn_err err = {0};
    limn_job *job = NULL;
    int64_t wait;
    if (!limn_api_query_int(rq, "wait", 0, LIMN_LIMIT_WAIT_SECONDS, 0, &wait)) return;
    if (!limn_api_submit(rq, submit, &made)) return;
    if (wait > 0) {
        limn_http_wait(rq, made.id, wait * 1000, !submit->keep, waited);
        return;
    }
    if (limn_queue_get(rq->server->queue, NULL, made.id, &job, &err) == LIMN_OK)
        reply_job(rq, job, 202);
    else
        limn_api_fail(rq, &err);
    limn_job_free(&job);
}

/* The body of a drawing: `gen`, which `submit` borrows, is the caller's to free. */
static limn_status read_drawing(limn_http_req *rq, limn_submit *submit, limn_params **gen,
                                limn_err *err) {
    limn_status st = LIMN_OK;
    LIMN_TRY(limn_params_new(gen, LIMN_PARAMS_GEN, err));
    submit->params = *gen;
    LIMN_TRY(limn_api_read_job(rq, submit, err));
    LIMN_TRY(limn_api_read_params(rq, *gen, rq->json, err));
out:
    return st;
}

static void make_drawing(limn_http_req *rq, limn_job_kind kind, bool needs_image) {
    limn_err err = {0};
    limn_params *gen = NULL;
    limn_submit submit = {.kind = kind};
    limn_status st = read_drawing(rq, &submit, &gen, &err);
    if (st == LIMN_OK && needs_image && !limn_params_is_set(gen, "init_image"))
        st = limn_fail(&err, LIMN_E_VALUE, "/init_image: is needed here");
    if (st == LIMN_OK)
        limn_api_make(rq, &submit);
    else
        limn_api_fail(rq, &err);
    limn_params_free(&gen);
}

void native_draw(limn_http_req *rq) {
    make_drawing(rq, LIMN_JOB_DRAW, false);
}

void native_edit(limn_http_req *rq) {
    make_drawing(rq, LIMN_JOB_DRAW, true);
}

void native_upscale(limn_http_req *rq) {
    static const char *const known[] = {"image",    "upscaler",    "upscale", "format",  "quality",
                                        "lossless", "compression", "job",     "metadata"};
    const char *key;
    json_t *v;
    json_object_foreach(rq->json, key, v) {
        size_t i = 0, n = sizeof known / sizeof known[0];
        while (i < n && strcmp(known[i], key) != 0) i++;
        if (i < n) continue;
        limn_http_fail(rq, LIMN_HTTP_UNKNOWN_FIELD, key, "/%.60s: there is no such member", key);
        return;
    }
    json_t *image = json_object_get(rq->json, "image");
    if (!image) {
        limn_http_fail(rq, LIMN_HTTP_BAD_VALUE, "image", "/image: is needed here");
        return;
    }
    json_object_set(rq->json, "init_image", image);
    json_object_del(rq->json, "image");
    make_drawing(rq, LIMN_JOB_UPSCALE, true);
}

/* The body of a grid: `gen` and `text`, which `submit` borrows, are the caller's to free. */
static limn_status read_grid(limn_http_req *rq, limn_submit *submit, limn_params **gen, char **text,
                             limn_err *err) {
    json_t *params = json_object_get(rq->json, "params"), *axes = json_object_get(rq->json, "axes");
    const json_t *sheet = json_object_get(rq->json, "sheet");
    json_t *spec = NULL;
    limn_status st = LIMN_OK;
    LIMN_CHECK(err, json_is_object(params), LIMN_E_VALUE, "/params: must be an object");
    LIMN_CHECK(err, json_is_array(axes) && json_array_size(axes) >= 1 && json_array_size(axes) <= 3,
               LIMN_E_VALUE, "/axes: a list of 1 to 3");
    LIMN_TRY(limn_params_new(gen, LIMN_PARAMS_GEN, err));
    LIMN_TRY(limn_api_read_job(rq, submit, err));
    LIMN_TRY(limn_api_read_params(rq, *gen, params, err));
    spec = json_pack("{s:O, s:b}", "axes", axes, "sheet", !json_is_false(sheet));
    LIMN_TRY(limn_api_give_json(submit, spec, text, err));
    submit->params = *gen;
out:
    json_decref(spec);
    return st;
}

void native_grid(limn_http_req *rq) {
    limn_err err = {0};
    limn_params *gen = NULL;
    limn_submit submit = {.kind = LIMN_JOB_GRID};
    char *text = NULL;
    if (read_grid(rq, &submit, &gen, &text, &err) == LIMN_OK)
        limn_api_make(rq, &submit);
    else
        limn_api_fail(rq, &err);
    limn_params_free(&gen);
    free(text);
}

/* ---- what making would refuse, and what it would take ---- */

static limn_status prepare(limn_http_req *rq, limn_job **job, limn_submit *submit, limn_err *err) {
    limn_runner *runner = limn_queue_runner(rq->server->queue);
    limn_status st = limn_job_new(job, err);
    submit->owner = rq->who.owner;
    if (st == LIMN_OK) {
        (*job)->kind = submit->kind;
        st = runner->ops->prepare(runner, *job, submit, err);
    }
    return st;
}

/* Answers with the job's cost and `more` (taken; may be NULL). */
static void reply_check(limn_http_req *rq, const limn_job *job, json_t *more) {
    json_t *o = limn_api_cost(rq->server, job);
    json_object_set_new(o, "ok", json_true());
    json_object_set_new(o, "images", json_integer(job->images));
    json_object_update(o, more);
    json_decref(more);
    limn_http_reply_json(rq, 200, o);
}

void native_params_check(limn_http_req *rq) {
    limn_err err = {0};
    limn_params *gen = NULL;
    limn_job *job = NULL;
    limn_submit submit = {.kind = LIMN_JOB_DRAW};
    limn_status st = read_drawing(rq, &submit, &gen, &err);
    if (st == LIMN_OK) st = prepare(rq, &job, &submit, &err);
    if (st == LIMN_OK)
        reply_check(rq, job, json_pack("{s:o}", "params", limn_api_params_json(gen, false)));
    else
        limn_api_fail(rq, &err);
    limn_job_free(&job);
    limn_params_free(&gen);
}

void native_grid_check(limn_http_req *rq) {
    limn_err err = {0};
    limn_params *gen = NULL;
    limn_job *job = NULL;
    limn_submit submit = {.kind = LIMN_JOB_GRID};
    char *text = NULL;
    limn_status st = read_grid(rq, &submit, &gen, &text, &err);
    if (st == LIMN_OK) st = prepare(rq, &job, &submit, &err);
    if (st == LIMN_OK)
        reply_check(rq, job, NULL);
    else
        limn_api_fail(rq, &err);
    limn_job_free(&job);
    limn_params_free(&gen);
    free(text);
}

/* ---- models ---- */

static void make_model_job(limn_http_req *rq, limn_job_kind kind) {
    const json_t *model = json_object_get(rq->json, "model");
    limn_submit submit = {.kind = kind, .keep = true};
    if (model && !json_is_string(model)) {
        limn_http_fail(rq, LIMN_HTTP_BAD_VALUE, "model", "/model: must be a string");
        return;
    }
    limn_err err = {0};
    char *text = NULL;
    json_t *spec = json_pack("{s:s}", "model", model ? json_string_value(model) : "");
    if (limn_api_give_json(&submit, spec, &text, &err) == LIMN_OK)
        limn_api_make(rq, &submit);
    else
        limn_api_fail(rq, &err);
    json_decref(spec);
    free(text);
}

void native_load(limn_http_req *rq) {
    make_model_job(rq, LIMN_JOB_LOAD);
}

void native_unload(limn_http_req *rq) {
    make_model_job(rq, LIMN_JOB_UNLOAD);
}
