/* SPDX-License-Identifier: MIT */
/*
 * The inside of the queue, shared by its files and nobody else:
 *   queue.c         opening, recovery, closing, numbers
 *   queue_submit.c  from a request to an acknowledged row; uploads
 *   queue_look.c    reading by clients
 *   queue_change.c  changing by clients
 *   queue_writer.c  the thread that owns all writes, and its housekeeping
 *   queue_worker.c  the threads that run jobs, and what runners may call
 *   queue_file.c    the thread that brings small artifacts to their files and makes thumbnails
 *   queue_line.c    who waits, in order, in memory: positions and estimates
 *
 * Locks: `lock` guards everything in limn_queue that is not said to be otherwise. It is never held
 * while the store, the artifacts or the runner work. The hub has its own lock, taken inside.
 */
#ifndef LIMN_JOB_QUEUE_IMPL_H
#define LIMN_JOB_QUEUE_IMPL_H

#include <pthread.h>

#include "job/queue.h"

/* ---- the line ---- */
typedef struct line_item {
    int64_t seq, rank;
    char id[LIMN_JOB_ID_LEN + 1];
    char owner[LIMN_JOB_OWNER_MAX + 1];
    limn_job_kind kind;
    int priority;
    double seconds; /* estimate; < 0: not known */
    char model[64]; /* as much as tells them apart */
    double work;
} line_item;

typedef struct rate {
    limn_job_kind kind;
    char model[64];
    double seconds,
        work; /* of past jobs, older ones counting less; large jobs tell more than small */
} rate;

enum { RATES = 32 };

typedef struct line {
    line_item *items; /* [count] by priority (falling), then rank, then seq */
    int count, cap;
    bool partial; /* a job waits that found no memory here */
    rate rates[RATES];
    int n_rates, next_rate;
} line;

/* false: no memory (the job waits all the same, without a position). */
bool line_add(line *l, const limn_job *job);
void line_remove(line *l, const char *id);
/* After priority or rank of an item have changed. */
void line_sort(line *l);
int line_find(const line *l, const char *id); /* -1: not there */
int line_count_owner(const line *l, const char *owner);
void line_learn(line *l, limn_job_kind kind, const char *model, double work, double seconds);
/* < 0: not known */
double line_estimate(const line *l, limn_job_kind kind, const char *model, double work);
/* Seconds of the first n jobs; jobs without an estimate count as an average one. */
double line_seconds(const line *l, int n);

/* ---- writes ---- */
/* Runs inside a transaction on the writer's thread. */
typedef limn_status write_fn(limn_queue *q, void *arg, limn_err *err);
/* After the commit (or its failure), on the same thread, before the caller goes on. */
typedef void after_fn(limn_queue *q, void *arg, limn_status st);

typedef struct write_request {
    write_fn *write;
    after_fn *after; /* NULL: nothing */
    void *arg;
    bool relaxed; /* need not be on the disk before the caller goes on (store.h, begin) */
    limn_status st;
    limn_err err;
    bool done;
    pthread_cond_t cond;
    struct write_request *next;
} write_request;

/* Blocks until it is on the disk or refused. E_UNAVAILABLE when the queue is closing. */
limn_status queue_write(limn_queue *q, write_fn *write, after_fn *after, void *arg, limn_err *err);
/* The same for what a dead process leaves in order anyhow: it does not wait for the disk. */
limn_status queue_write_relaxed(limn_queue *q, write_fn *write, after_fn *after, void *arg,
                                limn_err *err);
void *queue_writer_main(void *queue);
/* Files that no row refers to any more go; writer's thread, outside of a transaction. */
void queue_collect(limn_queue *q, const limn_artifact *a, int n);

/* ---- files ---- */
/* What is done for an artifact when nobody waits for it any more. */
typedef struct filing filing;

/* `kept`: a row has its bytes, so that it needs a file. Takes *small, the picture for its thumbnail
 * or NULL, also on failure; NULL: no memory. */
filing *queue_filing_new(const char *sha, bool kept, limn_image **small);
void queue_filing_free(filing *f);
bool queue_filing_is_kept(const filing *f);
/* Takes it; a pin of the artifact too when it is kept. Writer's thread, `lock` held. */
void queue_file_later(limn_queue *q, filing *f);
/* No row refers to these bytes any more: they need no file. Writer's thread. */
void queue_file_forget(limn_queue *q, const char *sha);
/* Holds what the last process kept in rows. Before there are threads. */
limn_status queue_file_recover(limn_queue *q, limn_err *err);
/* After the threads. */
void queue_file_free(limn_queue *q);
void *queue_filer_main(void *queue);

/* ---- runs ---- */
struct limn_run {
    limn_queue *q;
    limn_job *job;
    limn_cancel *cancel;
    struct limn_run *next;
    double deadline; /* of the lease, monotonic */
    double began;
    bool lost;    /* somebody else has it now */
    bool requeue; /* stopped by us, to go on later */
    int skipped;  /* pictures */
    bool skip;    /* `cancel` is meant for the picture in work only */
    /* what it has reported; `q->lock` */
    char stage[24];
    int image, images, step, steps;
    double left_seconds, progress, last_report;
    /* its results; changed by the running thread with `q->lock` */
    limn_artifact *outputs;
    filing **filings; /* [n_outputs]; NULL: handed on */
    int n_outputs;
    char *result; /* the running thread's */
};

void *queue_worker_main(void *queue);
/* `lock` held; NULL when it does not run here. */
limn_run *queue_find_run(limn_queue *q, const char *id);
/* With the lock: the run stops at the next operation and its job waits again. */
void queue_stop_run(limn_run *r);
void queue_post_state(limn_queue *q, const limn_job *job, limn_job_state state, limn_status error,
                      int64_t epoch);

enum { MAX_WORKERS = 8 }; /* of a lane */
typedef struct worker {
    struct limn_queue *q;
    limn_job_lane lane;
    pthread_t thread;
} worker;

struct limn_queue {
    limn_store *store;
    limn_artifacts *artifacts;
    limn_runner *runner;
    limn_hub *hub;
    limn_queue_options opt; /* workers, leases and clocks: constant; limits: `lock` */
    double opened;          /* monotonic */
    int64_t wall_offset_ms; /* wall clock - monotonic clock at the start */
    bool clock_jumped;      /* writer's thread: ages cannot be trusted */

    pthread_mutex_t lock;
    pthread_cond_t work;                 /* for workers: something waits, or the end */
    pthread_cond_t idle;                 /* for drain: a run ended, or a job was taken */
    pthread_cond_t asked;                /* for the writer: a request, or the end */
    pthread_cond_t file;                 /* for the filer: much to do, or the end */
    uint64_t work_count[LIMN_JOB_LANES]; /* changes whenever a lane has something to do */
    write_request *first, *last;
    filing *filings;
    int n_filings;
    bool stop_workers, stop_filer, stop_writer, paused, draining;
    line line[LIMN_JOB_LANES];
    int reserved; /* places of submits that are being written */
    limn_run *runs;
    int claiming; /* jobs that are "running" in the store, or soon will be, but not yet in `runs` */
    int passed_over[LIMN_JOB_LANES]; /* claims in a row that passed over an older job */
    limn_queue_stats stats;

    pthread_t writer, filer;
    worker worker[MAX_WORKERS * LIMN_JOB_LANES];
    bool has_writer, has_filer;
    int n_workers;
    double next_trim, next_try; /* monotonic; writer's thread */
};

/* How long what was deleted can be restored; < 0: not at all. Takes the lock. */
int64_t queue_trash_ms(limn_queue *q);
int64_t queue_now_ms(const limn_queue *q);
double queue_seconds(const limn_queue *q);
/* The time so many milliseconds from now, for waits on the queue's conditions. */
struct timespec queue_after_ms(long ms);
/* As limn_queue_get, also when it was deleted, and with its deleted files. */
limn_status queue_get_any(limn_queue *q, const char *owner, const char *id, limn_job **out,
                          limn_err *err);
/* Case-folded and composed, so that search finds what a person would call the same. */
limn_status queue_fold_words(char **out, const char *text, limn_err *err);
/* Workers of a lane look again; `lock` held. */
void queue_wake_lane(limn_queue *q, limn_job_lane lane);
/* Jobs in all lanes, of everybody (owner NULL) or of one owner; `lock` held. */
int queue_count_waiting(const limn_queue *q, const char *owner);
/* The lane in which a job waits, and its place there; NULL: it does not wait. `lock` held. */
line *queue_find_line(limn_queue *q, const char *id, int *at);
/* Seconds until the job at this place begins; < 0: not known. `lock` held. */
double queue_start_seconds(const limn_queue *q, limn_job_lane lane, int at);
/* E_UNAVAILABLE with the reason, when submits are not taken; `lock` held. */
limn_status queue_refuses(const limn_queue *q, limn_err *err);

#endif
