/* SPDX-License-Identifier: MIT */
/* Threads that run jobs, and what runners may do with their run; see runner.h. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "image/image.h"
#include "job/queue_impl.h"

enum { IDLE_MS = 1000, RETRY_MS = 100, AFFINITY_REACH = 4, AFFINITY_TURNS = 4 };
#define REPORT_SECONDS 0.05 /* progress more often than this is left out */

/* ---- runs ---- */
limn_run *queue_find_run(limn_queue *q, const char *id) {
    for (limn_run *r = q->runs; r; r = r->next)
        if (!r->lost && strcmp(r->job->id, id) == 0) return r;
    return NULL;
}

void queue_stop_run(limn_run *r) {
    r->requeue = true;
    limn_cancel_set(r->cancel);
}

static void run_free(limn_run **run) {
    limn_run *r = *run;
    if (!r) return;
    for (int i = 0; i < r->n_outputs; i++) {
        limn_artifact_deinit(&r->outputs[i]);
        queue_filing_free(r->filings[i]);
    }
    limn_mem_free(r->outputs);
    limn_mem_free(r->filings);
    limn_mem_free(r->result);
    limn_job_free(&r->job);
    limn_cancel_free(&r->cancel);
    limn_mem_free(r);
    *run = NULL;
}

static limn_run *run_new(limn_queue *q, limn_err *err) {
    limn_run *r = limn_mem_calloc(1, sizeof *r);
    if (!r || limn_cancel_new(&r->cancel, err) != LIMN_OK) {
        limn_mem_free(r);
        limn_fail(err, LIMN_E_NOMEM, "no memory to run a job");
        return NULL;
    }
    r->q = q;
    r->left_seconds = -1;
    return r;
}

void queue_post_state(limn_queue *q, const limn_job *job, limn_job_state state, limn_status error,
                      int64_t epoch) {
    limn_job_event e = {.kind = LIMN_JOB_EVENT_STATE,
                        .job_kind = job->kind,
                        .time_ms = queue_now_ms(q),
                        .state = state,
                        .error = error,
                        .left_seconds = -1,
                        .progress = limn_job_state_is_final(state) ? 1 : 0};
    memcpy(e.job, job->id, sizeof e.job);
    limn_hub_post(q->hub, &e, job->owner, epoch);
}

/* ---- taking ---- */
typedef struct taking {
    limn_run *run;
    char worker[40];
    char model[256];
    limn_job_lane lane;
    bool passed;
    bool claiming; /* counted in the queue's `claiming` */
} taking;

static limn_status take_job(limn_queue *q, void *arg, limn_err *err) {
    taking *t = arg;
    limn_job_claim c = {.worker = t->worker,
                        .lane = t->lane,
                        .now_ms = queue_now_ms(q),
                        .lease_until_ms = queue_now_ms(q) + q->opt.lease_ms,
                        .reach = AFFINITY_REACH};
    pthread_mutex_lock(&q->lock);
    if (t->model[0] && q->passed_over[t->lane] < AFFINITY_TURNS) c.model = t->model;
    t->claiming = !q->paused && !q->draining && !q->stop_workers;
    q->claiming += t->claiming;
    pthread_mutex_unlock(&q->lock);
    if (!t->claiming) return limn_fail(err, LIMN_E_NOT_FOUND, "the queue is paused");
    limn_status st = q->store->ops->claim(q->store, &t->run->job, &c, err);
    t->passed = c.passed;
    return st;
}

/* With the lock. Others saw the job running since the commit: who stopped all runs meanwhile (the
 * queue closes) meant this one too. */
static void add_run(limn_queue *q, taking *t) {
    limn_run *r = t->run;
    line_remove(&q->line[t->lane], r->job->id);
    q->passed_over[t->lane] = t->passed ? q->passed_over[t->lane] + 1 : 0;
    r->next = q->runs;
    q->runs = r;
    q->stats.busy++;
    q->stats.lane_busy[t->lane]++;
    if (q->stop_workers) queue_stop_run(r);
}

static void took_job(limn_queue *q, void *arg, limn_status st) {
    taking *t = arg;
    limn_run *r = t->run;
    if (st == LIMN_OK) {
        r->began = queue_seconds(q);
        r->deadline = r->began + q->opt.lease_ms * 1e-3;
        r->images = r->job->images;
    }
    pthread_mutex_lock(&q->lock);
    if (st == LIMN_OK) add_run(q, t);
    q->claiming -= t->claiming;
    t->claiming = false;
    pthread_cond_broadcast(&q->idle);
    pthread_mutex_unlock(&q->lock);
    if (st != LIMN_OK) return;
    queue_post_state(q, r->job, LIMN_JOB_RUNNING, LIMN_OK, r->job->epoch);
}

/* ---- ending ---- */
typedef struct ending {
    limn_run *run;
    limn_job_change change;
} ending;

/* The bytes of a small output, in the same commit as the end that names it. */
static limn_status keep_output(limn_queue *q, const char *sha, limn_err *err) {
    void *data;
    size_t size;
    limn_status st = limn_artifacts_read(q->artifacts, &data, &size, sha, err);
    if (st == LIMN_OK) st = q->store->ops->keep(q->store, sha, data, size, err);
    limn_mem_free(data);
    return st;
}

static limn_status end_job(limn_queue *q, void *arg, limn_err *err) {
    const ending *e = arg;
    limn_status st = q->store->ops->change(q->store, &e->change, err);
    for (int i = 0; i < e->change.n_artifacts && st == LIMN_OK; i++)
        if (queue_filing_is_kept(e->run->filings[i]))
            st = keep_output(q, e->run->outputs[i].sha, err);
    return st;
}

/* The run leaves the list on the writer's thread, so that nobody sees one that is over. */
static void unlink_run(limn_queue *q, limn_run *r) {
    limn_run **at = &q->runs;
    while (*at && *at != r) at = &(*at)->next;
    if (*at) *at = r->next;
    q->stats.busy--;
    q->stats.lane_busy[r->job->lane]--;
    pthread_cond_broadcast(&q->idle);
}

static void note_end(limn_queue *q, const ending *e) {
    limn_run *r = e->run;
    if (e->change.to == LIMN_JOB_QUEUED) {
        line_add(&q->line[r->job->lane], r->job);
        queue_wake_lane(q, r->job->lane);
        return;
    }
    q->stats.ended[e->change.to]++;
    if (e->change.to == LIMN_JOB_SUCCEEDED)
        line_learn(&q->line[r->job->lane], r->job->kind, r->job->model, r->job->work,
                   queue_seconds(q) - r->began);
}

static void unpin_outputs(limn_run *r) {
    for (int i = 0; i < r->n_outputs; i++) limn_artifacts_unpin(r->q->artifacts, r->outputs[i].sha);
}

/* The end is on the disk: the rest is not waited for. */
static void hand_on_files(limn_run *r) {
    limn_queue *q = r->q;
    for (int i = 0; i < r->n_outputs; i++)
        if (!queue_filing_is_kept(r->filings[i]))
            limn_artifacts_unpin(q->artifacts, r->outputs[i].sha);
    pthread_mutex_lock(&q->lock);
    for (int i = 0; i < r->n_outputs; i++) {
        queue_file_later(q, r->filings[i]);
        r->filings[i] = NULL;
    }
    pthread_mutex_unlock(&q->lock);
}

static void ended_job(limn_queue *q, void *arg, limn_status st) {
    ending *e = arg;
    limn_run *r = e->run;
    if (st != LIMN_OK && st != LIMN_E_CONFLICT && st != LIMN_E_NOT_FOUND) return; /* again */
    pthread_mutex_lock(&q->lock);
    unlink_run(q, r);
    if (st == LIMN_OK)
        note_end(q, e);
    else
        q->stats.leases_lost++;
    pthread_mutex_unlock(&q->lock);
    if (st == LIMN_OK)
        queue_post_state(q, r->job, e->change.to, e->change.error,
                         r->job->epoch + (e->change.to == LIMN_JOB_QUEUED));
    if (st == LIMN_OK && e->change.n_artifacts > 0) {
        hand_on_files(r);
        return;
    }
    unpin_outputs(r);
    queue_collect(q, r->outputs, r->n_outputs);
}

static void decide(ending *e, limn_status st, const limn_err *err) {
    limn_run *r = e->run;
    limn_job_change *c = &e->change;
    pthread_mutex_lock(&r->q->lock);
    bool requeue = r->requeue && !r->job->cancel_requested;
    pthread_mutex_unlock(&r->q->lock);
    *c = (limn_job_change){.id = r->job->id,
                           .from = LIMN_JOB_RUNNING,
                           .epoch = r->job->epoch,
                           .now_ms = queue_now_ms(r->q),
                           .error = st,
                           .error_text = st == LIMN_OK ? "" : err->text};
    if (st == LIMN_OK) {
        c->to = LIMN_JOB_SUCCEEDED;
    } else if (st == LIMN_E_CANCELLED && requeue) {
        c->to = LIMN_JOB_QUEUED;
        c->attempt_add = -1;
        c->error = LIMN_OK;
        c->error_text = "";
        return;
    } else {
        c->to = st == LIMN_E_CANCELLED ? LIMN_JOB_CANCELLED : LIMN_JOB_FAILED;
    }
    /* Pictures that were finished before the end stay, also when the rest failed. */
    c->result = r->result;
    c->artifacts = r->outputs;
    c->n_artifacts = r->n_outputs;
}

static void sleep_ms(int ms) {
    struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};
    nanosleep(&t, NULL);
}

/* Until the end is on the disk. While the disk refuses, the job stays "running": should the process
 * die now, it runs again. */
static void finish(limn_run *r, limn_status st, limn_err *err) {
    limn_queue *q = r->q;
    ending e = {.run = r};
    limn_err why = {0};
    decide(&e, st, err);
    for (;;) {
        st = queue_write(q, end_job, ended_job, &e, &why);
        if (st == LIMN_OK || st == LIMN_E_CONFLICT || st == LIMN_E_NOT_FOUND) return;
        pthread_mutex_lock(&q->lock);
        bool stop = q->stop_workers;
        if (stop) unlink_run(q, r);
        pthread_mutex_unlock(&q->lock);
        if (stop) {
            unpin_outputs(r);
            return;
        }
        sleep_ms(RETRY_MS);
    }
}

/* ---- the thread ---- */
/* Waits until there may be work; false at the end. */
static bool wait_for_work(limn_queue *q, limn_job_lane lane, uint64_t *seen) {
    bool idle_called = false;
    pthread_mutex_lock(&q->lock);
    while (!q->stop_workers && (q->paused || q->draining || q->work_count[lane] == *seen)) {
        struct timespec until = queue_after_ms(IDLE_MS);
        int rc = pthread_cond_timedwait(&q->work, &q->lock, &until);
        if (rc == 0 || idle_called || !q->runner->ops->idle || q->stop_workers) continue;
        idle_called = true;
        pthread_mutex_unlock(&q->lock);
        q->runner->ops->idle(q->runner);
        pthread_mutex_lock(&q->lock);
    }
    *seen = q->work_count[lane];
    bool go = !q->stop_workers;
    pthread_mutex_unlock(&q->lock);
    return go;
}

static void run_one(limn_run *r) {
    limn_queue *q = r->q;
    limn_err err = {0};
    limn_status st;
    do /* skipped before any picture was in work: from the beginning */
        st = q->runner->ops->run(q->runner, r, &err);
    while (st == LIMN_E_CANCELLED && r->n_outputs == 0 && limn_run_skip(r));
    if (st == LIMN_OK && r->skipped > 0 && r->n_outputs == 0) {
        limn_cancel_set(r->cancel);
        st = limn_fail(&err, LIMN_E_CANCELLED, "every picture was skipped");
    }
    if (st == LIMN_E_CANCELLED && !limn_cancel_is_set(r->cancel))
        st = limn_fail(&err, LIMN_E_INTERNAL, "the run ended itself as cancelled");
    if (st != LIMN_OK && st != LIMN_E_CANCELLED)
        limn_log(LIMN_LOG_WARN, "queue", "job %s failed: %s", r->job->id, err.text);
    finish(r, st, &err);
}

/* Takes jobs until none waits. That one has begun need not be on the disk: should the power fail,
 * it waits as before. */
static void run_all(limn_queue *q, taking *t) {
    for (;;) {
        limn_err err = {0};
        t->run = run_new(q, &err);
        if (!t->run) {
            sleep_ms(RETRY_MS);
            continue;
        }
        t->model[0] = 0;
        if (q->runner->ops->ready_model)
            q->runner->ops->ready_model(q->runner, t->lane, t->model, sizeof t->model);
        limn_status st = queue_write_relaxed(q, take_job, took_job, t, &err);
        if (st == LIMN_OK) run_one(t->run);
        run_free(&t->run);
        if (st == LIMN_E_NOT_FOUND) return;
        pthread_mutex_lock(&q->lock);
        bool stop = q->stop_workers;
        pthread_mutex_unlock(&q->lock);
        if (stop) return;
        if (st != LIMN_OK) sleep_ms(RETRY_MS);
    }
}

void *queue_worker_main(void *arg) {
    const worker *self = arg;
    limn_queue *q = self->q;
    taking t = {.lane = self->lane};
    uint64_t seen = 0;
    char id[LIMN_JOB_ID_LEN + 1];
    limn_job_id_make(id, 0);
    snprintf(t.worker, sizeof t.worker, "worker-%.12s", id + 24);
    limn_artifacts_prepare(q->artifacts);
    while (wait_for_work(q, t.lane, &seen)) run_all(q, &t);
    return NULL;
}

/* ---- what runners may do ---- */
const limn_job *limn_run_job(const limn_run *run) {
    return run->job;
}

limn_artifacts *limn_run_artifacts(limn_run *run) {
    return run->q->artifacts;
}

const limn_cancel *limn_run_cancel(const limn_run *run) {
    return run->cancel;
}

static limn_job_event event_for(const limn_run *r, limn_job_event_kind kind) {
    limn_job_event e = {.kind = kind,
                        .job_kind = r->job->kind,
                        .time_ms = queue_now_ms(r->q),
                        .state = LIMN_JOB_RUNNING,
                        .left_seconds = -1,
                        .progress = -1};
    memcpy(e.job, r->job->id, sizeof e.job);
    return e;
}

/* A run that was given to somebody else has nothing to say any more. */
static void post(limn_run *r, const limn_job_event *e) {
    pthread_mutex_lock(&r->q->lock);
    bool lost = r->lost;
    pthread_mutex_unlock(&r->q->lock);
    if (!lost) limn_hub_post(r->q->hub, e, r->job->owner, r->job->epoch);
}

/* Share of the whole job that is done: by time when the runner knows it, else by pictures and
 * steps. Never falls. */
static double progress_of(const limn_run *r, const limn_event *e, double now) {
    double share = 0, passed = now - r->began;
    if (e->left_seconds >= 0 && passed + e->left_seconds > 0)
        share = passed / (passed + e->left_seconds);
    else if (e->images > 0 && e->steps > 0)
        share = (e->image + (double)e->step / e->steps) / e->images;
    if (share > 1) share = 1;
    return share > r->progress ? share : r->progress;
}

static void post_preview(limn_run *run, const limn_event *e) {
    limn_file_options how = LIMN_FILE_OPTIONS;
    limn_job_event p = event_for(run, LIMN_JOB_EVENT_PREVIEW);
    void *data = NULL;
    how.format = "jpeg";
    how.quality = 80;
    if (limn_image_encode(&data, &p.size, e->preview, &how, NULL, NULL) != LIMN_OK) return;
    p.data = data;
    p.mime = "image/jpeg";
    p.width = e->preview->width;
    p.height = e->preview->height;
    p.image = e->image;
    p.images = e->images;
    p.step = e->step;
    p.steps = e->steps;
    post(run, &p);
    limn_bytes_free(&data);
}

/* Stages are constants of whoever reports them; the ring keeps the pointer. */
static const char *stage_word(const char *stage) {
    static const char *const known[] = {"load", "encode",  "denoise", "decode", "hires",
                                        "save", "upscale", "image",   "read",   "write",
                                        "plan", "sheet",   "memory"};
    for (size_t i = 0; stage && i < sizeof known / sizeof known[0]; i++)
        if (strcmp(stage, known[i]) == 0) return known[i];
    return "work";
}

void limn_run_report(limn_run *run, const limn_event *e) {
    limn_queue *q = run->q;
    limn_job_event p = event_for(run, LIMN_JOB_EVENT_PROGRESS);
    double now = queue_seconds(q);
    p.stage = stage_word(e->stage);
    pthread_mutex_lock(&q->lock);
    bool same = strcmp(run->stage, p.stage) == 0;
    bool skip = same && now - run->last_report < REPORT_SECONDS && e->step < e->steps;
    if (!same) snprintf(run->stage, sizeof run->stage, "%s", p.stage);
    run->progress = p.progress = progress_of(run, e, now);
    run->image = p.image = e->image;
    run->images = p.images = e->images > 0 ? e->images : run->job->images;
    run->step = p.step = e->step;
    run->steps = p.steps = e->steps;
    run->left_seconds = p.left_seconds = e->left_seconds;
    if (!skip) run->last_report = now;
    pthread_mutex_unlock(&q->lock);
    p.step_seconds = e->step_seconds;
    if (!skip) post(run, &p);
    if (e->preview) post_preview(run, e);
    if (e->note) limn_run_note(run, e->note);
}

void limn_run_wait_memory(limn_run *run) {
    limn_run_report(run, &(limn_event){.stage = "memory", .left_seconds = -1});
}

void limn_run_note(limn_run *run, const char *text) {
    limn_job_event e = event_for(run, LIMN_JOB_EVENT_NOTE);
    e.text = text;
    e.text_len = strlen(text);
    post(run, &e);
}

void limn_run_text(limn_run *run, limn_said_kind said, const char *text, size_t len,
                   const char *logprobs) {
    limn_job_event e = event_for(run, LIMN_JOB_EVENT_TEXT);
    e.said = said;
    e.text = text;
    e.text_len = len;
    e.data = logprobs;
    e.size = logprobs ? strlen(logprobs) + 1 : 0;
    e.mime = "application/json";
    post(run, &e);
}

bool limn_run_skip(limn_run *run) {
    limn_queue *q = run->q;
    pthread_mutex_lock(&q->lock);
    bool skip = run->skip && !run->lost && !run->requeue && !run->job->cancel_requested;
    if (skip) {
        run->skip = false;
        run->skipped++;
        limn_cancel_clear(run->cancel);
    }
    pthread_mutex_unlock(&q->lock);
    return skip;
}

/* Adds an output to the run, which takes both. */
static limn_status add_output(limn_run *run, const limn_artifact *made, filing *f, limn_err *err) {
    size_t n = (size_t)run->n_outputs + 1;
    pthread_mutex_lock(&run->q->lock);
    limn_artifact *outputs = limn_mem_realloc(run->outputs, n * sizeof *outputs);
    if (outputs) run->outputs = outputs;
    filing **filings = limn_mem_realloc(run->filings, n * sizeof *filings);
    if (filings) run->filings = filings;
    bool ok = outputs && filings;
    if (ok) {
        filings[run->n_outputs] = f;
        outputs[run->n_outputs++] = *made;
    }
    pthread_mutex_unlock(&run->q->lock);
    return ok ? LIMN_OK : limn_fail(err, LIMN_E_NOMEM, "no memory for an artifact");
}

limn_status limn_run_output(limn_run *run, const limn_artifact *a, const void *data, size_t size,
                            const limn_image *image, limn_err *err) {
    limn_artifact made = {.role = a->role, .index = run->job->n_artifacts + run->n_outputs};
    limn_image *small = NULL;
    filing *f = NULL;
    bool later;
    limn_status st =
        limn_artifacts_put_later(run->q->artifacts, &made, data, size, image, &later, err);
    if (st != LIMN_OK) return st;
    LIMN_TRY(limn_job_set_text(&made.recipe, a->recipe, err));
    LIMN_TRY(limn_job_set_text(&made.text, a->text, err));
    if (image) LIMN_TRY(limn_artifacts_shrink(&small, image, err));
    f = queue_filing_new(made.sha, later, &small);
    LIMN_CHECK(err, f, LIMN_E_NOMEM, "no memory for an artifact");
    LIMN_TRY(add_output(run, &made, f, err));
    limn_job_event e = event_for(run, LIMN_JOB_EVENT_OUTPUT);
    e.artifact = &made;
    post(run, &e);
    return LIMN_OK;
out:
    limn_artifacts_unpin(run->q->artifacts, made.sha);
    limn_artifact_deinit(&made);
    limn_image_free(&small);
    queue_filing_free(f);
    return st;
}

limn_status limn_run_result(limn_run *run, const char *json, limn_err *err) {
    if (strlen(json) > LIMN_JOB_RESULT_MAX)
        return limn_fail(err, LIMN_E_LIMIT, "the result is larger than 16 MB");
    return limn_job_set_text(&run->result, json, err);
}

void limn_runner_close(limn_runner **r) {
    if (!r || !*r) return;
    (*r)->ops->close(*r);
    *r = NULL;
}
