/* SPDX-License-Identifier: MIT */
/*
 * The writer's thread: the only one that writes to the store. Requests that have gathered while the
 * last commit went to the disk share the next one. Between them it keeps house: leases, history,
 * uploads that nobody used.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "job/queue_impl.h"

enum { BATCH_MAX = 64, TICK_MS = 200, TICK_MIN_MS = 10, TRIM_ROWS = 100 };
#define JUMP_MS 3600000 /* a wall clock that moves this far against the other one has been set */

/* The request alone is at fault; what else is in the transaction may go on. */
static bool is_own_fault(limn_status st) {
    return st == LIMN_E_CONFLICT || st == LIMN_E_NOT_FOUND || st == LIMN_E_BUSY ||
           st == LIMN_E_VALUE || st == LIMN_E_REUSED || st == LIMN_E_LIMIT;
}

/* ---- asking ---- */
static limn_status ask(limn_queue *q, write_request r, limn_err *err) {
    if (pthread_cond_init(&r.cond, NULL) != 0)
        return limn_fail(err, LIMN_E_NOMEM, "no memory to write a job");
    pthread_mutex_lock(&q->lock);
    if (q->stop_writer) {
        r.st = limn_fail(&r.err, LIMN_E_UNAVAILABLE, "the queue is closing");
    } else {
        if (q->last)
            q->last->next = &r;
        else
            q->first = &r;
        q->last = &r;
        pthread_cond_signal(&q->asked);
        while (!r.done) pthread_cond_wait(&r.cond, &q->lock);
    }
    pthread_mutex_unlock(&q->lock);
    pthread_cond_destroy(&r.cond);
    if (r.st != LIMN_OK && err) *err = r.err;
    return r.st;
}

limn_status queue_write(limn_queue *q, write_fn *write, after_fn *after, void *arg, limn_err *err) {
    return ask(q, (write_request){.write = write, .after = after, .arg = arg}, err);
}

limn_status queue_write_relaxed(limn_queue *q, write_fn *write, after_fn *after, void *arg,
                                limn_err *err) {
    return ask(q, (write_request){.write = write, .after = after, .arg = arg, .relaxed = true},
               err);
}

/* ---- one transaction ---- */
/* Writes all requests; the status of the transaction as a whole. */
static limn_status write_batch(limn_queue *q, write_request *list, limn_err *err) {
    const limn_store_ops *ops = q->store->ops;
    bool durable = false;
    for (const write_request *r = list; r; r = r->next) durable |= !r->relaxed;
    limn_status st = ops->begin(q->store, durable, err);
    if (st != LIMN_OK) return st;
    for (write_request *r = list; r; r = r->next) {
        st = ops->mark(q->store, err);
        if (st != LIMN_OK) break;
        r->st = r->write(q, r->arg, &r->err);
        if (r->st == LIMN_OK) continue;
        if (!is_own_fault(r->st)) {
            st = r->st;
            if (err) *err = r->err;
            break;
        }
        ops->undo(q->store);
    }
    if (st == LIMN_OK) st = ops->commit(q->store, err);
    if (st != LIMN_OK) ops->rollback(q->store);
    return st;
}

/* Remembers whether the disk takes what it is given; a sick store is opened afresh. */
static void note_health(limn_queue *q, limn_status st, const limn_err *err) {
    limn_err again = {0};
    bool healthy = st == LIMN_OK;
    if (!healthy && (st == LIMN_E_UNAVAILABLE || st == LIMN_E_IO) &&
        q->store->ops->reopen(q->store, &again) != LIMN_OK)
        limn_log(LIMN_LOG_ERROR, "queue", "the store cannot be opened again: %s", again.text);
    pthread_mutex_lock(&q->lock);
    bool changed = q->stats.healthy != healthy;
    q->stats.healthy = healthy;
    snprintf(q->stats.trouble, sizeof q->stats.trouble, "%.*s", (int)sizeof q->stats.trouble - 1,
             healthy ? "" : err->text);
    pthread_mutex_unlock(&q->lock);
    if (changed)
        limn_log(healthy ? LIMN_LOG_INFO : LIMN_LOG_ERROR, "queue", "%s",
                 healthy ? "the store takes writes again" : err->text);
}

/* Runs the requests; callers go on as soon as their own is answered. */
static void serve(limn_queue *q, write_request *list) {
    limn_err err = {0};
    int n = 0;
    for (write_request *r = list; r; r = r->next) n++;
    limn_status st = write_batch(q, list, &err);
    for (write_request *r = list; r; r = r->next)
        if (st != LIMN_OK) {
            r->st = st;
            r->err = err;
        }
    note_health(q, st, &err);
    pthread_mutex_lock(&q->lock);
    q->stats.writes += n;
    q->stats.commits++;
    pthread_mutex_unlock(&q->lock);
    for (write_request *r = list, *next; r; r = next) {
        next = r->next; /* the request is gone once its caller goes on */
        if (r->after) r->after(q, r->arg, r->st);
        pthread_mutex_lock(&q->lock);
        r->done = true;
        pthread_cond_signal(&r->cond);
        pthread_mutex_unlock(&q->lock);
    }
}

/* A write of the writer itself. */
static limn_status serve_own(limn_queue *q, write_fn *write, after_fn *after, void *arg) {
    write_request r = {.write = write};
    limn_err err = {0};
    r.arg = arg;
    limn_status st = write_batch(q, &r, &err);
    note_health(q, st, &err);
    if (st == LIMN_OK) st = r.st;
    if (after) after(q, arg, st);
    return st;
}

void queue_collect(limn_queue *q, const limn_artifact *a, int n) {
    for (int i = 0; i < n; i++) {
        bool used = true;
        if (q->store->ops->is_used(q->store, a[i].sha, &used, NULL) != LIMN_OK || used) continue;
        queue_file_forget(q, a[i].sha);
        limn_artifacts_remove(q->artifacts, a[i].sha);
    }
}

/* ---- leases ---- */
typedef struct lease {
    char id[LIMN_JOB_ID_LEN + 1];
    int64_t epoch;
    bool expired;
    limn_job *job; /* a copy of what events need, when expired */
    limn_job_state to;
} lease;

static limn_status renew(limn_queue *q, void *arg, limn_err *err) {
    const lease *l = arg;
    return q->store->ops->renew(q->store, l->id, l->epoch, queue_now_ms(q) + q->opt.lease_ms, err);
}

static limn_status give_up(limn_queue *q, void *arg, limn_err *err) {
    lease *l = arg;
    limn_job_change c = {.id = l->id,
                         .from = LIMN_JOB_RUNNING,
                         .to = LIMN_JOB_QUEUED,
                         .epoch = l->epoch,
                         .now_ms = queue_now_ms(q)};
    if (l->job->cancel_requested) {
        c.to = LIMN_JOB_CANCELLED;
        c.error = LIMN_E_CANCELLED;
        c.error_text = "cancelled";
    } else if (l->job->attempt >= l->job->max_attempts) {
        c.to = LIMN_JOB_FAILED;
        c.error = LIMN_E_INTERNAL;
        c.error_text = "the worker stopped answering, each time that it was tried";
    }
    l->to = c.to;
    return q->store->ops->change(q->store, &c, err);
}

static void gave_up(limn_queue *q, void *arg, limn_status st) {
    lease *l = arg;
    if (st != LIMN_OK) return;
    pthread_mutex_lock(&q->lock);
    if (l->to == LIMN_JOB_QUEUED) {
        line_add(&q->line[l->job->lane], l->job);
        q->stats.retries++;
        queue_wake_lane(q, l->job->lane);
    } else {
        q->stats.ended[l->to]++;
    }
    pthread_mutex_unlock(&q->lock);
    queue_post_state(q, l->job, l->to, l->to == LIMN_JOB_FAILED ? LIMN_E_INTERNAL : LIMN_OK,
                     l->epoch + 1);
    limn_log(LIMN_LOG_WARN, "queue", "job %s: its worker lost the lease", l->id);
}

/* The next run whose lease is to be renewed or was lost; false when there is none. */
static bool next_lease(limn_queue *q, double now, lease *out) {
    bool found = false;
    pthread_mutex_lock(&q->lock);
    for (limn_run *r = q->runs; r && !found; r = r->next) {
        bool due = !q->opt.no_heartbeat && r->deadline - now < q->opt.lease_ms * 0.75e-3;
        bool expired = now > r->deadline;
        if (r->lost || (!due && !expired)) continue;
        memcpy(out->id, r->job->id, sizeof out->id);
        out->epoch = r->job->epoch;
        out->expired = expired && q->opt.no_heartbeat;
        out->job = NULL;
        if (out->expired) {
            r->lost = true;
            limn_cancel_set(r->cancel);
            out->job = r->job; /* stays until the run is over, which needs this thread */
        } else {
            r->deadline = now + q->opt.lease_ms * 1e-3;
        }
        found = true;
    }
    pthread_mutex_unlock(&q->lock);
    return found;
}

/* Leases are measured by the monotonic clock: a wall clock that is set does not end them. */
static void tend_leases(limn_queue *q) {
    lease l;
    while (next_lease(q, queue_seconds(q), &l)) {
        if (l.expired)
            serve_own(q, give_up, gave_up, &l);
        else
            serve_own(q, renew, NULL, &l);
    }
}

/* ---- history ---- */
static limn_status remove_page(limn_queue *q, void *arg, limn_err *err) {
    const limn_job_page *page = arg;
    limn_status st = LIMN_OK;
    for (int i = 0; i < page->count && st == LIMN_OK; i++) {
        st = q->store->ops->remove(q->store, page->jobs[i]->id, err);
        if (st == LIMN_E_NOT_FOUND) st = LIMN_OK;
    }
    return st;
}

/* Age is worth nothing once somebody has set the clock far forward. */
static bool clock_is_sane(limn_queue *q) {
    int64_t offset = queue_now_ms(q) - (int64_t)(queue_seconds(q) * 1000);
    int64_t moved = offset - q->wall_offset_ms;
    if (!q->clock_jumped && (moved > JUMP_MS || moved < -JUMP_MS)) {
        q->clock_jumped = true;
        limn_log(LIMN_LOG_WARN, "queue",
                 "the clock was set by %lld s: history is not trimmed by age until a restart",
                 (long long)(moved / 1000));
    }
    return !q->clock_jumped;
}

static void trim_history(limn_queue *q) {
    limn_job_page page;
    pthread_mutex_lock(&q->lock);
    limn_retention how = {.max_jobs = q->opt.keep_jobs, .spare_tag = "keep", .limit = TRIM_ROWS};
    int days = q->opt.keep_days;
    int64_t trash_ms = q->opt.trash_ms;
    pthread_mutex_unlock(&q->lock);
    if (clock_is_sane(q)) {
        how.before_ms = queue_now_ms(q) - (int64_t)days * 86400000;
        how.deleted_ms = queue_now_ms(q) - trash_ms;
    }
    if (q->store->ops->stale(q->store, &page, &how, NULL) != LIMN_OK) return;
    if (page.count > 0 && serve_own(q, remove_page, NULL, &page) == LIMN_OK)
        for (int i = 0; i < page.count; i++)
            queue_collect(q, page.jobs[i]->artifacts, page.jobs[i]->n_artifacts);
    if (page.count == TRIM_ROWS) q->next_trim = 0; /* there is more */
    limn_job_page_deinit(&page);
}

/* Files that were deleted singly and cannot be restored any more. */
typedef struct dropping {
    char sha[TRIM_ROWS][LIMN_SHA_LEN + 1];
    int n;
    int64_t before_ms;
} dropping;

static limn_status drop_deleted(limn_queue *q, void *arg, limn_err *err) {
    dropping *d = arg;
    return q->store->ops->drop_deleted(q->store, d->before_ms, d->sha, TRIM_ROWS, &d->n, err);
}

static void trim_deleted(limn_queue *q) {
    dropping d = {.before_ms = queue_now_ms(q) - queue_trash_ms(q)};
    if (!clock_is_sane(q) || serve_own(q, drop_deleted, NULL, &d) != LIMN_OK) return;
    for (int i = 0; i < d.n; i++) {
        limn_artifact a = {0};
        memcpy(a.sha, d.sha[i], sizeof a.sha);
        queue_collect(q, &a, 1);
    }
    if (d.n == TRIM_ROWS) q->next_trim = 0;
}

static limn_status drop_holds(limn_queue *q, void *arg, limn_err *err) {
    return q->store->ops->drop_holds(q->store, queue_now_ms(q), arg, err);
}

static bool is_used(void *user, const char *sha) {
    const limn_queue *q = user;
    bool used = true;
    return q->store->ops->is_used(q->store, sha, &used, NULL) != LIMN_OK || used;
}

/* A write that leaves nothing behind, to see whether the disk takes one again. */
static limn_status try_write(limn_queue *q, void *arg, limn_err *err) {
    limn_artifact none = {.bytes = 0};
    int dropped;
    limn_status st = q->store->ops->hold(q->store, &none, "", 0, err);
    return st == LIMN_OK ? q->store->ops->drop_holds(q->store, 1, &dropped, err) : st;
}

static void keep_house(limn_queue *q) {
    double now = queue_seconds(q);
    pthread_mutex_lock(&q->lock);
    bool healthy = q->stats.healthy;
    pthread_mutex_unlock(&q->lock);
    tend_leases(q);
    if (!healthy && now >= q->next_try) {
        q->next_try = now + 0.5;
        serve_own(q, try_write, NULL, NULL);
    }
    if (now < q->next_trim) return;
    int dropped = 0;
    int64_t removed;
    q->next_trim = now + q->opt.trim_every_ms * 1e-3;
    if (clock_is_sane(q) && serve_own(q, drop_holds, NULL, &dropped) == LIMN_OK && dropped > 0)
        limn_artifacts_sweep(q->artifacts, is_used, q, &removed);
    trim_history(q);
    trim_deleted(q);
}

/* ---- the thread ---- */
/* Often enough for leases to end in time. */
static long tick_ms(const limn_queue *q) {
    int least =
        q->opt.lease_ms / 4 < q->opt.trim_every_ms ? q->opt.lease_ms / 4 : q->opt.trim_every_ms;
    return least < TICK_MIN_MS ? TICK_MIN_MS : least > TICK_MS ? TICK_MS : least;
}

/* Takes up to BATCH_MAX requests; NULL after a tick without any. `lock` held. */
static write_request *take_batch(limn_queue *q) {
    if (!q->first && !q->stop_writer) {
        struct timespec until = queue_after_ms(tick_ms(q));
        pthread_cond_timedwait(&q->asked, &q->lock, &until);
    }
    write_request *list = q->first, *end = list;
    for (int i = 1; end && end->next && i < BATCH_MAX; i++) end = end->next;
    q->first = end ? end->next : NULL;
    if (!q->first) q->last = NULL;
    if (end) end->next = NULL;
    return list;
}

void *queue_writer_main(void *queue) {
    limn_queue *q = queue;
    for (;;) {
        pthread_mutex_lock(&q->lock);
        write_request *list = take_batch(q);
        bool stop = q->stop_writer && !list;
        pthread_mutex_unlock(&q->lock);
        if (stop) return NULL;
        if (list) serve(q, list);
        keep_house(q);
    }
}
