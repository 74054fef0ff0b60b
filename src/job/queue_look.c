/* SPDX-License-Identifier: MIT */
/* What clients read and change: jobs, lists, waiting, feeds, cancel, remove; see queue.h. */
#include <stdio.h>
#include <string.h>

#include "job/queue_impl.h"

/* ---- reading ---- */
limn_status limn_queue_get(limn_queue *q, const char *owner, const char *id, limn_job **out,
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
    return st;
}

limn_status limn_queue_counts(limn_queue *q, const char *owner, limn_job_counts *out,
                              limn_err *err) {
    return q->store->ops->counts(q->store, out, owner, err);
}

limn_status limn_queue_artifact(limn_queue *q, const char *owner, const char *sha,
                                limn_artifact *out, limn_err *err) {
    *out = (limn_artifact){0};
    if (!limn_sha_is_valid(sha))
        return limn_fail(err, LIMN_E_NOT_FOUND, "there is no such artifact");
    return q->store->ops->artifact(q->store, out, owner, sha, err);
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
static void stand_waiting(const limn_queue *q, int at, limn_standing *out) {
    double before = line_seconds(&q->line, at), running = 0;
    for (const limn_run *r = q->runs; r; r = r->next) {
        if (r->left_seconds < 0) running = -1;
        if (running >= 0 && r->left_seconds > running) running = r->left_seconds;
    }
    out->state = LIMN_JOB_QUEUED;
    out->position = at;
    if (before >= 0 && running >= 0) out->start_seconds = before + running;
    if (out->start_seconds >= 0 && q->line.items[at].seconds >= 0)
        out->left_seconds = out->start_seconds + q->line.items[at].seconds;
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
    int at = line_find(&q->line, id);
    if (r) {
        stand_running(r, out);
        out->position = 0;
        out->start_seconds = 0;
    } else if (at >= 0) {
        stand_waiting(q, at, out);
    }
    pthread_mutex_unlock(&q->lock);
    return LIMN_OK;
}

bool limn_queue_running(limn_queue *q, const char *owner, char out[LIMN_JOB_ID_LEN + 1]) {
    out[0] = 0;
    pthread_mutex_lock(&q->lock);
    /* The list has the newest first; who looks at "the" running job means the oldest. */
    for (const limn_run *r = q->runs; r; r = r->next)
        if (!r->lost && (!owner || strcmp(r->job->owner, owner) == 0))
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

/* ---- changing ---- */
typedef struct cancelling {
    limn_job *job;
    bool waited; /* it was in the line and is cancelled now */
} cancelling;

static limn_status cancel_job(limn_queue *q, void *arg, limn_err *err) {
    cancelling *c = arg;
    limn_job_change change = {.id = c->job->id,
                              .from = LIMN_JOB_QUEUED,
                              .to = LIMN_JOB_CANCELLED,
                              .epoch = -1,
                              .now_ms = queue_now_ms(q),
                              .error = LIMN_E_CANCELLED,
                              .error_text = "cancelled before it began"};
    limn_status st = q->store->ops->change(q->store, &change, err);
    c->waited = st == LIMN_OK;
    return st == LIMN_E_CONFLICT ? q->store->ops->request_cancel(q->store, c->job->id, err) : st;
}

static void cancelled_job(limn_queue *q, void *arg, limn_status st) {
    cancelling *c = arg;
    if (st != LIMN_OK) return;
    pthread_mutex_lock(&q->lock);
    limn_run *r = queue_find_run(q, c->job->id);
    if (c->waited) {
        line_remove(&q->line, c->job->id);
        q->stats.ended[LIMN_JOB_CANCELLED]++;
    } else if (r) {
        r->job->cancel_requested = true;
        limn_cancel_set(r->cancel);
    }
    pthread_mutex_unlock(&q->lock);
    if (c->waited)
        queue_post_state(q, c->job, LIMN_JOB_CANCELLED, LIMN_E_CANCELLED, c->job->epoch + 1);
}

limn_status limn_queue_cancel(limn_queue *q, const char *owner, const char *id,
                              limn_job_state *state, limn_err *err) {
    cancelling c = {0};
    limn_status st = limn_queue_get(q, owner, id, &c.job, err);
    if (st == LIMN_OK) st = queue_write(q, cancel_job, cancelled_job, &c, err);
    if (st == LIMN_OK && state) *state = c.waited ? LIMN_JOB_QUEUED : LIMN_JOB_RUNNING;
    limn_job_free(&c.job);
    return st;
}

limn_status limn_queue_cancel_waiting(limn_queue *q, const char *owner, int64_t *count,
                                      limn_err *err) {
    limn_job_query query = {
        .owner = owner, .states = 1u << LIMN_JOB_QUEUED, .oldest_first = true, .limit = 500};
    limn_job_page page;
    limn_status st = LIMN_OK;
    *count = 0;
    do {
        LIMN_TRY(q->store->ops->list(q->store, &page, &query, err));
        for (int i = 0; i < page.count && st == LIMN_OK; i++) {
            cancelling c = {.job = page.jobs[i]};
            st = queue_write(q, cancel_job, cancelled_job, &c, err);
            if (st == LIMN_OK && c.waited) ++*count;
            if (st == LIMN_E_CONFLICT || st == LIMN_E_NOT_FOUND) st = LIMN_OK;
        }
        query.cursor = page.next;
        limn_job_page_deinit(&page);
    } while (st == LIMN_OK && query.cursor);
out:
    return st;
}

static limn_status remove_job(limn_queue *q, void *arg, limn_err *err) {
    const limn_job *j = arg;
    return q->store->ops->remove(q->store, j->id, err);
}

static void removed_job(limn_queue *q, void *arg, limn_status st) {
    const limn_job *j = arg;
    if (st == LIMN_OK) queue_collect(q, j->artifacts, j->n_artifacts);
}

limn_status limn_queue_remove(limn_queue *q, const char *owner, const char *id, limn_err *err) {
    limn_job *j = NULL;
    limn_status st = limn_queue_get(q, owner, id, &j, err);
    if (st == LIMN_OK) st = queue_write(q, remove_job, removed_job, j, err);
    limn_job_free(&j);
    return st;
}

static limn_status write_tags(limn_queue *q, void *arg, limn_err *err) {
    const limn_job *j = arg;
    return q->store->ops->set_tags(q->store, j->id, (const char *const *)j->tags, j->n_tags, err);
}

limn_status limn_queue_set_tags(limn_queue *q, const char *owner, const char *id,
                                const char *const *tags, int n_tags, limn_err *err) {
    limn_job *j = NULL;
    limn_status st = limn_queue_get(q, owner, id, &j, err);
    if (st == LIMN_OK) st = limn_job_set_tags(j, tags, n_tags, err);
    if (st == LIMN_OK) st = queue_write(q, write_tags, NULL, j, err);
    limn_job_free(&j);
    return st;
}
