/* SPDX-License-Identifier: MIT */
/* What clients read: jobs, lists, waiting, feeds; see queue.h. */
#include <stdio.h>
#include <string.h>

#include "job/queue_impl.h"

/* ---- reading ---- */
limn_status queue_get_any(limn_queue *q, const char *owner, const char *id, limn_job **out,
                          limn_err *err) {
    *out = NULL;
    if (!limn_job_id_is_valid(id)) return limn_fail(err, LIMN_E_NOT_FOUND, "there is no such job");
    limn_status st = q->store->ops->get(q->store, out, id, err);
    if (st == LIMN_OK && owner && strcmp((*out)->owner, owner) != 0) {
        limn_job_free(out);
        st = limn_fail(err, LIMN_E_NOT_FOUND, "there is no job %s", id);
    }
    return st;
}

/* Of a job that runs: what it has finished so far; those rows come with its end. */
static limn_status add_outputs(limn_queue *q, limn_job *j, limn_err *err) {
    limn_status st = LIMN_OK;
    pthread_mutex_lock(&q->lock);
    const limn_run *r = queue_find_run(q, j->id);
    for (int i = 0; r && i < r->n_outputs && st == LIMN_OK; i++)
        st = limn_job_add_artifact(j, &r->outputs[i], err);
    pthread_mutex_unlock(&q->lock);
    return st;
}

static void hide_deleted(limn_job *j) {
    int n = 0;
    for (int i = 0; i < j->n_artifacts; i++)
        if (j->artifacts[i].deleted_ms > 0)
            limn_artifact_deinit(&j->artifacts[i]);
        else
            j->artifacts[n++] = j->artifacts[i];
    j->n_artifacts = n;
}

limn_status limn_queue_get(limn_queue *q, const char *owner, const char *id, limn_job **out,
                           limn_err *err) {
    limn_status st = queue_get_any(q, owner, id, out, err);
    if (st == LIMN_OK && (*out)->deleted_ms > 0)
        st = limn_fail(err, LIMN_E_NOT_FOUND, "there is no job %s", id);
    if (st == LIMN_OK) hide_deleted(*out);
    if (st == LIMN_OK && (*out)->state == LIMN_JOB_RUNNING) st = add_outputs(q, *out, err);
    if (st != LIMN_OK) limn_job_free(out);
    return st;
}

limn_status limn_queue_list(limn_queue *q, const limn_job_query *query, limn_job_page *out,
                            limn_err *err) {
    limn_job_query folded = *query;
    char *words = NULL;
    limn_status st = LIMN_OK;
    *out = (limn_job_page){0};
    if (query->words) {
        st = queue_fold_words(&words, query->words, err);
        folded.words = words;
    }
    if (st == LIMN_OK) st = q->store->ops->list(q->store, out, &folded, err);
    limn_mem_free(words);
    for (int i = 0; i < out->count && st == LIMN_OK && query->with_artifacts; i++)
        if (out->jobs[i]->state == LIMN_JOB_RUNNING) st = add_outputs(q, out->jobs[i], err);
    if (st != LIMN_OK) limn_job_page_deinit(out);
    return st;
}

limn_status limn_queue_counts(limn_queue *q, const char *owner, limn_job_counts *out,
                              limn_err *err) {
    return q->store->ops->counts(q->store, out, owner, err);
}

limn_status limn_queue_done_since(limn_queue *q, limn_job_done out[LIMN_JOB_LANES],
                                  int64_t since_ms, limn_err *err) {
    return q->store->ops->done_since(q->store, out, since_ms, err);
}

double limn_queue_estimate(limn_queue *q, const limn_job *job) {
    const line *l = &q->line[limn_job_kind_lane(job->kind)];
    pthread_mutex_lock(&q->lock);
    double s = line_estimate(l, job->kind, job->model, job->work);
    /* The work of both is counted in the same unit (limn_request_work). */
    if (s < 0 && job->kind == LIMN_JOB_GRID)
        s = line_estimate(l, LIMN_JOB_DRAW, job->model, job->work);
    pthread_mutex_unlock(&q->lock);
    return s;
}

static limn_status copy_artifact(limn_artifact *out, const limn_artifact *a, limn_err *err) {
    *out = *a;
    out->recipe = out->text = NULL;
    limn_status st = limn_job_set_text(&out->recipe, a->recipe, err);
    if (st == LIMN_OK) st = limn_job_set_text(&out->text, a->text, err);
    if (st != LIMN_OK) limn_artifact_deinit(out);
    return st;
}

/* A file that a run has finished, before its row is there. */
static limn_status find_output(limn_queue *q, const char *owner, const char *sha,
                               limn_artifact *out, limn_err *err) {
    limn_status st = LIMN_E_NOT_FOUND;
    pthread_mutex_lock(&q->lock);
    for (const limn_run *r = q->runs; r && st == LIMN_E_NOT_FOUND; r = r->next)
        for (int i = 0; i < r->n_outputs && st == LIMN_E_NOT_FOUND; i++)
            if (!r->lost && (!owner || strcmp(r->job->owner, owner) == 0) &&
                strcmp(r->outputs[i].sha, sha) == 0)
                st = copy_artifact(out, &r->outputs[i], err);
    pthread_mutex_unlock(&q->lock);
    return st;
}

limn_status limn_queue_artifact(limn_queue *q, const char *owner, const char *sha,
                                limn_artifact *out, limn_err *err) {
    *out = (limn_artifact){0};
    if (!limn_sha_is_valid(sha))
        return limn_fail(err, LIMN_E_NOT_FOUND, "there is no such artifact");
    limn_status st = find_output(q, owner, sha, out, err);
    return st == LIMN_E_NOT_FOUND ? q->store->ops->artifact(q->store, out, owner, sha, err) : st;
}

/* `lock` held. */
static void stand_running(const limn_run *r, limn_standing *out) {
    out->state = LIMN_JOB_RUNNING;
    out->left_seconds = r->left_seconds;
    out->progress = r->progress;
    out->image = r->image;
    out->images = r->images;
    out->step = r->step;
    out->steps = r->steps;
    snprintf(out->stage, sizeof out->stage, "%s", r->stage);
}

/* `lock` held. */
static void stand_waiting(const limn_queue *q, const line *l, int at, limn_standing *out) {
    out->state = LIMN_JOB_QUEUED;
    out->position = at;
    out->start_seconds = queue_start_seconds(q, (limn_job_lane)(l - q->line), at);
    if (out->start_seconds >= 0 && l->items[at].seconds >= 0)
        out->left_seconds = out->start_seconds + l->items[at].seconds;
}

limn_status limn_queue_standing(limn_queue *q, const char *owner, const char *id,
                                limn_standing *out, limn_err *err) {
    limn_job *j = NULL;
    limn_status st = limn_queue_get(q, owner, id, &j, err);
    if (st != LIMN_OK) return st;
    *out = (limn_standing){.state = j->state,
                           .position = -1,
                           .start_seconds = -1,
                           .left_seconds = -1,
                           .images = j->images};
    limn_job_free(&j);
    if (limn_job_state_is_final(out->state)) {
        out->start_seconds = out->left_seconds = 0;
        out->progress = out->state == LIMN_JOB_SUCCEEDED;
        return LIMN_OK;
    }
    pthread_mutex_lock(&q->lock);
    const limn_run *r = queue_find_run(q, id);
    int at;
    const line *l = queue_find_line(q, id, &at);
    if (r) {
        stand_running(r, out);
        out->position = 0;
        out->start_seconds = 0;
    } else if (l) {
        stand_waiting(q, l, at, out);
    }
    pthread_mutex_unlock(&q->lock);
    return LIMN_OK;
}

bool limn_queue_running(limn_queue *q, const char *owner, char out[LIMN_JOB_ID_LEN + 1]) {
    out[0] = 0;
    pthread_mutex_lock(&q->lock);
    /* The list has the newest first; who looks at "the" running job means the oldest one, and a
     * drawing before a question. */
    for (int lane = 0; lane < LIMN_JOB_LANES && !out[0]; lane++)
        for (const limn_run *r = q->runs; r; r = r->next)
            if (!r->lost && (int)r->job->lane == lane &&
                (!owner || strcmp(r->job->owner, owner) == 0))
                memcpy(out, r->job->id, LIMN_JOB_ID_LEN + 1);
    pthread_mutex_unlock(&q->lock);
    return out[0] != 0;
}

limn_artifacts *limn_queue_artifacts(limn_queue *q) {
    return q->artifacts;
}

limn_runner *limn_queue_runner(limn_queue *q) {
    return q->runner;
}

/* ---- following ---- */
/* A job that ended before this process began has no events: it gets its last one. */
static void restore_end(limn_queue *q, const limn_job *j) {
    limn_job_event e = {.kind = LIMN_JOB_EVENT_STATE,
                        .job_kind = j->kind,
                        .time_ms = j->finished_ms,
                        .state = j->state,
                        .error = j->error,
                        .left_seconds = 0,
                        .progress = 1};
    memcpy(e.job, j->id, sizeof e.job);
    limn_hub_restore(q->hub, &e, j->owner, j->epoch + 1);
}

limn_status limn_queue_subscribe(limn_queue *q, const limn_feed_options *opt, limn_feed **out,
                                 limn_err *err) {
    limn_job *j = NULL;
    *out = NULL;
    if (opt->job) {
        limn_status st = limn_queue_get(q, opt->owner, opt->job, &j, err);
        if (st != LIMN_OK) return st;
    }
    limn_status st = limn_feed_open(out, q->hub, opt, err);
    if (st == LIMN_OK && j && limn_job_state_is_final(j->state)) restore_end(q, j);
    limn_job_free(&j);
    return st;
}

const limn_job_event *limn_queue_last_event(limn_queue *q, const char *id,
                                            limn_job_event_kind kind) {
    return limn_job_id_is_valid(id) ? limn_hub_last(q->hub, id, kind) : NULL;
}

limn_status limn_queue_wait(limn_queue *q, const char *owner, const char *id, int timeout_ms,
                            limn_job **out, limn_err *err) {
    double until = queue_seconds(q) + timeout_ms * 1e-3;
    limn_feed_options opt = {.job = id, .owner = owner, .after = -1};
    limn_feed *feed = NULL;
    limn_status st = LIMN_OK;
    *out = NULL;
    LIMN_TRY(limn_queue_get(q, owner, id, out, err)); /* says what is wrong with the id */
    LIMN_TRY(limn_feed_open(&feed, q->hub, &opt, err));
    for (;;) {
        limn_job_free(out);
        LIMN_TRY(limn_queue_get(q, owner, id, out, err));
        if (limn_job_state_is_final((*out)->state)) break;
        double left = timeout_ms < 0 ? 1 : until - queue_seconds(q);
        if (left <= 0) {
            st = limn_fail(err, LIMN_E_BUSY, "the job has not ended yet");
            break;
        }
        const limn_job_event *e;
        bool again = false;
        while (!again &&
               (e = limn_feed_wait(feed, left > 1 ? 1000 : (int)(left * 1000) + 1, NULL))) {
            again = e->kind == LIMN_JOB_EVENT_STATE;
            limn_job_event_unref(&e);
        }
    }
out:
    limn_feed_close(&feed);
    return st;
}
