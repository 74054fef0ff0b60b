/* SPDX-License-Identifier: MIT */
/* The queue's life: opening, recovery, draining, closing, and its numbers; see queue.h. */
#include "job/queue.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "job/queue_impl.h"

enum { HISTORY_FOR_RATES = 50 };

int64_t queue_now_ms(const limn_queue *q) {
    return q->opt.clock.unix_ms ? q->opt.clock.unix_ms(q->opt.clock.user) : limn_clock_unix_ms();
}

double queue_seconds(const limn_queue *q) {
    return q->opt.clock.seconds ? q->opt.clock.seconds(q->opt.clock.user) : limn_clock_now();
}

struct timespec queue_after_ms(long ms) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_sec += ms / 1000;
    t.tv_nsec += ms % 1000 * 1000000;
    if (t.tv_nsec >= 1000000000) {
        t.tv_sec++;
        t.tv_nsec -= 1000000000;
    }
    return t;
}

void queue_wake_lane(limn_queue *q, limn_job_lane lane) {
    q->work_count[lane]++;
    pthread_cond_broadcast(&q->work);
}

int queue_count_waiting(const limn_queue *q, const char *owner) {
    int n = 0;
    for (int i = 0; i < LIMN_JOB_LANES; i++)
        n += owner ? line_count_owner(&q->line[i], owner) : q->line[i].count;
    return n;
}

line *queue_find_line(limn_queue *q, const char *id, int *at) {
    for (int i = 0; i < LIMN_JOB_LANES; i++)
        if ((*at = line_find(&q->line[i], id)) >= 0) return &q->line[i];
    return NULL;
}

double queue_start_seconds(const limn_queue *q, limn_job_lane lane, int at) {
    double before = line_seconds(&q->line[lane], at), running = 0;
    for (const limn_run *r = q->runs; r; r = r->next) {
        if (r->job->lane != lane) continue;
        if (r->left_seconds < 0) running = -1;
        if (running >= 0 && r->left_seconds > running) running = r->left_seconds;
    }
    return before < 0 || running < 0 ? -1 : before + running;
}

/* ---- opening ---- */
static void set_defaults(limn_queue_options *o) {
    if (o->workers == 0) o->workers = 1;
    if (o->workers < 0) o->workers = 0;
    if (o->workers > MAX_WORKERS) o->workers = MAX_WORKERS;
    if (o->max_queued <= 0) o->max_queued = 256;
    if (o->max_queued_owner <= 0) o->max_queued_owner = 64;
    if (o->max_attempts <= 0) o->max_attempts = 3;
    if (o->lease_ms <= 0) o->lease_ms = 60000;
    if (o->keep_jobs <= 0) o->keep_jobs = 10000;
    if (o->keep_days <= 0) o->keep_days = 90;
    if (o->upload_ms <= 0) o->upload_ms = 3600000;
    if (o->trash_ms == 0) o->trash_ms = 86400000;
    if (o->trim_every_ms <= 0) o->trim_every_ms = 60000;
}

static limn_status make_cond(pthread_cond_t *c) {
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    int rc = pthread_cond_init(c, &attr);
    pthread_condattr_destroy(&attr);
    return rc == 0 ? LIMN_OK : LIMN_E_NOMEM;
}

static bool is_used(void *user, const char *sha) {
    const limn_queue *q = user;
    bool used = true;
    return q->store->ops->is_used(q->store, sha, &used, NULL) != LIMN_OK || used;
}

/* What a job that was running becomes now that its process is gone. */
static limn_status recover_one(limn_queue *q, const limn_job *j, limn_err *err) {
    char text[160];
    limn_job_change c = {.id = j->id,
                         .from = LIMN_JOB_RUNNING,
                         .to = LIMN_JOB_QUEUED,
                         .epoch = -1,
                         .now_ms = queue_now_ms(q)};
    if (j->cancel_requested) {
        c.to = LIMN_JOB_CANCELLED;
        c.error = LIMN_E_CANCELLED;
        c.error_text = "cancelled";
    } else if (j->attempt >= j->max_attempts) {
        snprintf(text, sizeof text,
                 "the process died while it ran this job, %d times in a row; it is not tried again",
                 j->attempt);
        c.to = LIMN_JOB_FAILED;
        c.error = LIMN_E_INTERNAL;
        c.error_text = text;
    } else {
        q->stats.retries++;
    }
    return q->store->ops->change(q->store, &c, err);
}

/* Nobody else can be running anything: the store is ours alone. */
static limn_status recover(limn_queue *q, limn_err *err) {
    const limn_store_ops *ops = q->store->ops;
    limn_job_query query = {.states = 1u << LIMN_JOB_RUNNING, .oldest_first = true, .limit = 500};
    limn_status st = LIMN_OK;
    do {
        limn_job_page page;
        LIMN_TRY(ops->list(q->store, &page, &query, err));
        query.cursor = page.next;
        st = ops->begin(q->store, true, err);
        for (int i = 0; i < page.count && st == LIMN_OK; i++)
            st = recover_one(q, page.jobs[i], err);
        if (st == LIMN_OK) st = ops->commit(q->store, err);
        if (st != LIMN_OK) ops->rollback(q->store);
        if (st == LIMN_OK && page.count > 0)
            limn_log(LIMN_LOG_INFO, "queue", "%d jobs were running when the process ended",
                     page.count);
        limn_job_page_deinit(&page);
    } while (st == LIMN_OK && query.cursor);
out:
    return st;
}

static limn_status load_line(limn_queue *q, limn_err *err) {
    limn_job_page page;
    limn_job_query query = {.states = 1u << LIMN_JOB_SUCCEEDED, .limit = HISTORY_FOR_RATES};
    limn_status st = q->store->ops->list(q->store, &page, &query, err);
    if (st != LIMN_OK) return st;
    for (int i = page.count - 1; i >= 0; i--) {
        const limn_job *j = page.jobs[i];
        line_learn(&q->line[j->lane], j->kind, j->model, j->work,
                   (double)(j->finished_ms - j->started_ms) / 1000);
    }
    limn_job_page_deinit(&page);
    query = (limn_job_query){.states = 1u << LIMN_JOB_QUEUED, .oldest_first = true, .limit = 500};
    do {
        st = q->store->ops->list(q->store, &page, &query, err);
        for (int i = 0; i < page.count && st == LIMN_OK; i++)
            if (!line_add(&q->line[page.jobs[i]->lane], page.jobs[i]))
                st = limn_fail(err, LIMN_E_NOMEM, "no memory for the queue");
        query.cursor = page.next;
        limn_job_page_deinit(&page);
    } while (st == LIMN_OK && query.cursor);
    return st;
}

static limn_status start_threads(limn_queue *q, limn_err *err) {
    if (pthread_create(&q->writer, NULL, queue_writer_main, q) != 0)
        return limn_fail(err, LIMN_E_UNAVAILABLE, "the queue's thread does not start");
    q->has_writer = true;
    if (pthread_create(&q->filer, NULL, queue_filer_main, q) != 0)
        return limn_fail(err, LIMN_E_UNAVAILABLE, "the thread that files does not start");
    q->has_filer = true;
    for (; q->n_workers < q->opt.workers * LIMN_JOB_LANES; q->n_workers++) {
        worker *w = &q->worker[q->n_workers];
        *w = (worker){.q = q, .lane = (limn_job_lane)(q->n_workers % LIMN_JOB_LANES)};
        if (pthread_create(&w->thread, NULL, queue_worker_main, w) != 0)
            return limn_fail(err, LIMN_E_UNAVAILABLE, "a worker's thread does not start");
    }
    return LIMN_OK;
}

limn_status limn_queue_open(limn_queue **out, limn_store *store, limn_artifacts *artifacts,
                            limn_runner *runner, const limn_queue_options *opt, limn_err *err) {
    *out = NULL;
    limn_status st = LIMN_OK;
    int64_t removed;
    limn_queue *q = limn_mem_calloc(1, sizeof *q);
    if (!q || pthread_mutex_init(&q->lock, NULL) != 0 || make_cond(&q->work) != LIMN_OK ||
        make_cond(&q->idle) != LIMN_OK || make_cond(&q->asked) != LIMN_OK ||
        make_cond(&q->file) != LIMN_OK) {
        limn_mem_free(q);
        limn_runner_close(&runner);
        limn_store_close(&store);
        limn_artifacts_close(&artifacts);
        return limn_fail(err, LIMN_E_NOMEM, "no memory for the queue");
    }
    q->store = store;
    q->artifacts = artifacts;
    q->runner = runner;
    if (opt) q->opt = *opt;
    set_defaults(&q->opt);
    q->paused = q->opt.paused;
    q->opened = queue_seconds(q);
    q->wall_offset_ms = queue_now_ms(q) - (int64_t)(q->opened * 1000);
    q->next_trim = q->opened;
    q->stats.healthy = true;
    q->stats.workers = q->opt.workers;
    /* workers look once by themselves */
    for (int i = 0; i < LIMN_JOB_LANES; i++) q->work_count[i] = 1;
    LIMN_TRY(limn_hub_new(&q->hub, &q->opt.events, err));
    LIMN_TRY(recover(q, err));
    LIMN_TRY(load_line(q, err));
    LIMN_TRY(queue_file_recover(q, err));
    limn_artifacts_sweep(q->artifacts, is_used, q, &removed);
    if (removed > 0)
        limn_log(LIMN_LOG_INFO, "queue", "%lld files that no job refers to were removed",
                 (long long)removed);
    LIMN_TRY(start_threads(q, err));
    *out = q;
    return LIMN_OK;
out:
    limn_queue_close(&q);
    return st;
}

limn_status limn_queue_files_open(limn_store **store, limn_artifacts **artifacts, const char *dir,
                                  limn_err *err) {
    limn_buf path;
    limn_status st = LIMN_OK;
    *store = NULL;
    limn_buf_init(&path, 4096);
    LIMN_TRY(limn_artifacts_open(artifacts, dir, err)); /* makes the folder */
    limn_buf_addf(&path, "%s/jobs.db", dir);
    LIMN_CHECK(err, !path.failed, LIMN_E_LIMIT, "%s: the path is too long", dir);
    limn_sqlite_options so = {.path = limn_buf_text(&path)};
    LIMN_TRY(limn_store_sqlite_open(store, &so, err));
out:
    limn_buf_deinit(&path);
    if (st != LIMN_OK) limn_artifacts_close(artifacts);
    return st;
}

limn_status limn_queue_open_dir(limn_queue **out, const char *dir, limn_runner *runner,
                                const limn_queue_options *opt, limn_err *err) {
    limn_store *store;
    limn_artifacts *artifacts;
    *out = NULL;
    limn_status st = limn_queue_files_open(&store, &artifacts, dir, err);
    if (st == LIMN_OK) return limn_queue_open(out, store, artifacts, runner, opt, err);
    limn_runner_close(&runner);
    return st;
}

/* ---- closing ---- */
/* Running jobs stop within one operation and wait again. `lock` held. */
static void stop_runs(limn_queue *q) {
    for (limn_run *r = q->runs; r; r = r->next) queue_stop_run(r);
}

static void stop_threads(limn_queue *q) {
    pthread_mutex_lock(&q->lock);
    q->stop_workers = q->draining = true;
    stop_runs(q);
    pthread_cond_broadcast(&q->work);
    pthread_mutex_unlock(&q->lock);
    for (int i = 0; i < q->n_workers; i++) pthread_join(q->worker[i].thread, NULL);
    pthread_mutex_lock(&q->lock);
    q->stop_filer = true;
    pthread_cond_signal(&q->file);
    pthread_mutex_unlock(&q->lock);
    if (q->has_filer) pthread_join(q->filer, NULL); /* it writes, so the writer goes last */
    pthread_mutex_lock(&q->lock);
    q->stop_writer = true;
    pthread_cond_signal(&q->asked);
    pthread_mutex_unlock(&q->lock);
    if (q->has_writer) pthread_join(q->writer, NULL);
}

void limn_queue_close(limn_queue **queue) {
    limn_queue *q = queue ? *queue : NULL;
    if (!q) return;
    stop_threads(q);
    limn_runner_close(&q->runner);
    limn_hub_free(&q->hub);
    limn_store_close(&q->store);
    limn_artifacts_close(&q->artifacts);
    queue_file_free(q);
    for (int i = 0; i < LIMN_JOB_LANES; i++) limn_mem_free(q->line[i].items);
    pthread_cond_destroy(&q->work);
    pthread_cond_destroy(&q->idle);
    pthread_cond_destroy(&q->asked);
    pthread_cond_destroy(&q->file);
    pthread_mutex_destroy(&q->lock);
    limn_mem_free(q);
    *queue = NULL;
}

/* With the lock. */
static bool is_busy(const limn_queue *q) {
    return q->runs || q->claiming > 0;
}

bool limn_queue_drain(limn_queue *q, int timeout_ms) {
    struct timespec until = queue_after_ms(timeout_ms);
    pthread_mutex_lock(&q->lock);
    q->draining = true;
    int rc = 0;
    while (is_busy(q) && rc == 0) rc = pthread_cond_timedwait(&q->idle, &q->lock, &until);
    bool quiet = !is_busy(q);
    for (stop_runs(q); is_busy(q) && q->n_workers > 0; stop_runs(q))
        pthread_cond_wait(&q->idle, &q->lock);
    pthread_mutex_unlock(&q->lock);
    return quiet;
}

void limn_queue_pause(limn_queue *q) {
    pthread_mutex_lock(&q->lock);
    q->paused = true;
    pthread_mutex_unlock(&q->lock);
}

void limn_queue_resume(limn_queue *q) {
    pthread_mutex_lock(&q->lock);
    q->paused = false;
    for (int i = 0; i < LIMN_JOB_LANES; i++) queue_wake_lane(q, (limn_job_lane)i);
    pthread_mutex_unlock(&q->lock);
}

/* ---- numbers ---- */
void limn_queue_get_limits(limn_queue *q, limn_queue_limits *out) {
    pthread_mutex_lock(&q->lock);
    *out = (limn_queue_limits){.max_queued = q->opt.max_queued,
                               .max_queued_owner = q->opt.max_queued_owner,
                               .keep_jobs = q->opt.keep_jobs,
                               .keep_days = q->opt.keep_days,
                               .trash_ms = q->opt.trash_ms};
    pthread_mutex_unlock(&q->lock);
}

int64_t queue_trash_ms(limn_queue *q) {
    pthread_mutex_lock(&q->lock);
    int64_t ms = q->opt.trash_ms;
    pthread_mutex_unlock(&q->lock);
    return ms;
}

limn_status limn_queue_set_limits(limn_queue *q, const limn_queue_limits *l, limn_err *err) {
    if (l->max_queued < 1 || l->max_queued_owner < 1 || l->keep_jobs < 1 || l->keep_days < 1 ||
        l->trash_ms == 0)
        return limn_fail(err, LIMN_E_VALUE, "the limits of the queue begin at 1");
    pthread_mutex_lock(&q->lock);
    q->opt.max_queued = l->max_queued;
    q->opt.max_queued_owner = l->max_queued_owner;
    q->opt.keep_jobs = l->keep_jobs;
    q->opt.keep_days = l->keep_days;
    q->opt.trash_ms = l->trash_ms;
    pthread_mutex_unlock(&q->lock);
    return LIMN_OK;
}

void limn_queue_get_stats(limn_queue *q, limn_queue_stats *out) {
    limn_job_counts counts = {0};
    (void)q->store->ops->counts(q->store, &counts, NULL, NULL);
    pthread_mutex_lock(&q->lock);
    *out = q->stats;
    out->paused = q->paused;
    out->draining = q->draining;
    pthread_mutex_unlock(&q->lock);
    out->counts = counts;
    out->uptime_seconds = queue_seconds(q) - q->opened;
    out->blob_bytes = limn_artifacts_bytes(q->artifacts);
    limn_hub_get_stats(q->hub, &out->events);
}

limn_status limn_queue_ready(limn_queue *q, limn_err *err) {
    pthread_mutex_lock(&q->lock);
    limn_status st = queue_refuses(q, err);
    pthread_mutex_unlock(&q->lock);
    return st;
}
