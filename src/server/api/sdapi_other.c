/* SPDX-License-Identifier: MIT */
/* Progress, interrupting, memory, refreshing, versions: the rest of /sdapi/v1. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "server/api/sdapi.h"

/* ---- progress ---- */

/* The newest preview of a job as base64, or null. */
static json_t *newest_preview(limn_http_req *rq, const char *id) {
    limn_feed_options opt = {.job = id, .owner = limn_http_owner(rq), .previews = true};
    limn_feed *feed;
    json_t *found = NULL;
    if (limn_queue_subscribe(rq->server->queue, &opt, &feed, NULL) != LIMN_OK) return json_null();
    for (const limn_job_event *e; (e = limn_feed_next(feed, NULL)); limn_job_event_unref(&e)) {
        if (e->kind != LIMN_JOB_EVENT_PREVIEW || !e->size) continue;
        char *text = limn_base64_write(e->data, e->size);
        json_decref(found);
        found = text ? json_string_nocheck(text) : NULL;
        limn_mem_free(text);
    }
    limn_feed_close(&feed);
    return found ? found : json_null();
}

static bool find_running(limn_http_req *rq, char id[LIMN_JOB_ID_LEN + 1], limn_standing *at) {
    limn_queue *q = rq->server->queue;
    memset(at, 0, sizeof *at);
    id[0] = 0;
    return limn_queue_running(q, limn_http_owner(rq), id) &&
           limn_queue_standing(q, limn_http_owner(rq), id, at, NULL) == LIMN_OK &&
           at->state == LIMN_JOB_RUNNING;
}

static const char *time_stamp(limn_http_req *rq) {
    char text[32];
    time_t now = time(NULL);
    struct tm tm;
    gmtime_r(&now, &tm);
    strftime(text, sizeof text, "%Y%m%d%H%M%S", &tm);
    return limn_http_printf(rq, "%s", text);
}

void sdapi_progress(limn_http_req *rq) {
    const char *skip = limn_http_query(rq, "skip_current_image");
    bool picture = !(skip && (strcmp(skip, "true") == 0 || strcmp(skip, "1") == 0));
    char id[LIMN_JOB_ID_LEN + 1];
    limn_standing at;
    bool runs = find_running(rq, id, &at);
    /* idle must be exactly 0: clients wait for that */
    json_t *state = json_pack(
        "{s:b, s:b, s:b, s:s, s:i, s:s, s:i, s:i, s:i}", "skipped", 0, "interrupted", 0,
        "stopping_generation", 0, "job", runs ? at.stage : "", "job_count",
        runs ? (at.images > 0 ? at.images : 1) : 0, "job_timestamp", runs ? time_stamp(rq) : "0",
        "job_no", at.image, "sampling_step", at.step, "sampling_steps", at.steps);
    json_t *o = json_pack("{s:f, s:f, s:o, s:o, s:n}", "progress", runs ? at.progress : 0.0,
                          "eta_relative", runs && at.left_seconds > 0 ? at.left_seconds : 0.0,
                          "state", state, "current_image",
                          runs && picture ? newest_preview(rq, id) : json_null(), "textinfo");
    if (sdapi_is_sdnext(rq)) json_object_set_new(o, "id", json_string(id));
    limn_http_reply_json(rq, 200, o);
}

void sdapi_internal_progress(limn_http_req *rq) {
    char id[LIMN_JOB_ID_LEN + 1];
    limn_standing at;
    limn_job_counts counts = {0};
    bool runs = find_running(rq, id, &at);
    limn_queue_counts(rq->server->queue, limn_http_owner(rq), &counts, NULL);
    bool waits = counts.state[LIMN_JOB_QUEUED] > 0;
    limn_http_reply_json(
        rq, 200,
        json_pack("{s:b, s:b, s:b, s:o, s:o, s:n, s:i, s:s?}", "active", runs, "queued",
                  !runs && waits, "completed", !runs && !waits, "progress",
                  runs ? json_real(at.progress) : json_null(), "eta",
                  runs && at.left_seconds >= 0 ? json_real(at.left_seconds) : json_null(),
                  "live_preview", "id_live_preview", -1, "textinfo", runs ? at.stage : NULL));
}

/* The picture in work is given up, the rest of the batch goes on. */
void sdapi_skip(limn_http_req *rq) {
    char id[LIMN_JOB_ID_LEN + 1];
    limn_standing at;
    limn_err err = {0};
    if (find_running(rq, id, &at) &&
        limn_queue_skip(rq->server->queue, limn_http_owner(rq), id, &err) != LIMN_OK &&
        err.status != LIMN_E_CONFLICT) {
        limn_api_fail(rq, &err);
        return;
    }
    limn_http_reply_json(rq, 200, json_object());
}

void sdapi_interrupt(limn_http_req *rq) {
    char id[LIMN_JOB_ID_LEN + 1];
    limn_standing at;
    limn_job_state was;
    limn_err err = {0};
    if (find_running(rq, id, &at) &&
        limn_queue_cancel(rq->server->queue, limn_http_owner(rq), id, &was, &err) != LIMN_OK &&
        err.status != LIMN_E_CONFLICT) {
        limn_api_fail(rq, &err);
        return;
    }
    limn_http_reply_json(rq, 200, json_object());
}

/* ---- models ---- */

void sdapi_refresh(limn_http_req *rq) {
    limn_err err = {0};
    if (limn_shelf_refresh(rq->server->shelf, &err) == LIMN_OK)
        limn_http_reply_json(rq, 200, json_null());
    else
        limn_api_fail(rq, &err);
}

static void model_done(limn_http_req *rq, limn_job *job, bool ended) {
    limn_err err = {.status = job ? job->error : LIMN_E_NOT_FOUND};
    (void)ended;
    if (job && job->state == LIMN_JOB_SUCCEEDED) {
        limn_http_reply_json(rq, 200, json_object());
        return;
    }
    snprintf(err.text, sizeof err.text, "%s", job && job->error_text ? job->error_text : "");
    limn_api_fail(rq, &err);
}

static void model_job(limn_http_req *rq, limn_job_kind kind) {
    static const char spec[] = "{\"model\": \"\"}";
    limn_submit submit = {
        .kind = kind, .source = "sdapi", .keep = true, .json = spec, .json_len = sizeof spec - 1};
    limn_submitted made;
    if (limn_api_submit(rq, &submit, &made)) limn_http_wait(rq, made.id, -1, false, model_done);
}

void sdapi_reload(limn_http_req *rq) {
    model_job(rq, LIMN_JOB_LOAD);
}

void sdapi_unload(limn_http_req *rq) {
    model_job(rq, LIMN_JOB_UNLOAD);
}

/* ---- facts ---- */

void sdapi_memory(limn_http_req *rq) {
    json_t *m = limn_api_memory(rq->server);
    json_int_t total = json_integer_value(json_object_get(m, "total"));
    json_int_t available = json_integer_value(json_object_get(m, "available"));
    json_int_t rss = json_integer_value(json_object_get(m, "rss"));
    json_decref(m);
    limn_http_reply_json(rq, 200,
                         json_pack("{s:{s:I, s:I, s:I}, s:{s:s}}", "ram", "free", available, "used",
                                   rss, "total", total, "cuda", "error", "unavailable"));
}

void sdapi_version(limn_http_req *rq) {
    limn_http_reply_json(
        rq, 200,
        json_pack("{s:s, s:s, s:s}", "app", "limn", "version", limn_version(), "hash", ""));
}

void sdapi_status(limn_http_req *rq) {
    char id[LIMN_JOB_ID_LEN + 1];
    limn_standing at;
    limn_job_counts counts = {0};
    bool runs = find_running(rq, id, &at);
    limn_queue_counts(rq->server->queue, limn_http_owner(rq), &counts, NULL);
    json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:I}", "status",
                          runs ? "running" : "idle", "task", runs ? at.stage : "", "current",
                          runs ? at.stage : "", "id", id, "job", runs ? at.stage : "", "jobs",
                          runs ? 1 : 0, "total", at.images, "step", at.step, "steps", at.steps,
                          "queued", (json_int_t)counts.state[LIMN_JOB_QUEUED]);
    json_object_set_new(o, "uptime",
                        json_real((double)(limn_clock_unix_ms() - rq->server->started_ms) / 1e3));
    json_object_set_new(o, "elapsed", json_null());
    json_object_set_new(o, "eta",
                        runs && at.left_seconds >= 0 ? json_real(at.left_seconds) : json_null());
    json_object_set_new(o, "progress", json_real(runs ? at.progress : 0));
    json_object_set_new(o, "timestamp", json_string(time_stamp(rq)));
    limn_http_reply_json(rq, 200, o);
}

void sdapi_history(limn_http_req *rq) {
    const char *id = limn_http_query(rq, "id");
    limn_job_query q = {.owner = limn_http_owner(rq), .limit = 100, .with_artifacts = true};
    limn_job_page page = {0};
    limn_err err = {0};
    if (limn_queue_list(rq->server->queue, &q, &page, &err) != LIMN_OK) {
        limn_api_fail(rq, &err);
        return;
    }
    json_t *list = json_array();
    for (int i = page.count - 1; i >= 0; i--) {
        const limn_job *job = page.jobs[i];
        if (id && *id && strcmp(id, job->id) != 0) continue;
        json_t *outputs = json_array();
        for (int k = 0; k < job->n_artifacts; k++)
            if (job->artifacts[k].role == LIMN_ARTIFACT_RESULT)
                json_array_append_new(outputs, json_string(job->artifacts[k].sha));
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:f, s:o}", "id", job->id, "job",
                                              limn_job_kind_word(job->kind), "op",
                                              limn_job_state_word(job->state), "timestamp",
                                              (double)job->created_ms / 1e3, "outputs", outputs));
    }
    limn_job_page_deinit(&page);
    limn_http_reply_json(rq, 200, list);
}

void sdapi_queue(limn_http_req *rq) {
    limn_job_counts counts = {0};
    limn_err err = {0};
    if (limn_queue_counts(rq->server->queue, limn_http_owner(rq), &counts, &err) != LIMN_OK) {
        limn_api_fail(rq, &err);
        return;
    }
    limn_http_reply_json(rq, 200,
                         json_pack("{s:I, s:I}", "queued",
                                   (json_int_t)counts.state[LIMN_JOB_QUEUED], "running",
                                   (json_int_t)counts.state[LIMN_JOB_RUNNING]));
}

void sdapi_ping(limn_http_req *rq) {
    limn_http_reply_json(rq, 200, json_object());
}
