/* SPDX-License-Identifier: MIT */
/*
 * The queue: the one door between front ends and work. Everything that computes goes through it.
 *
 *     limn_queue_submit --> runner.prepare --> row on the disk --> "acknowledged"
 *     worker: claim --> runner.run --> artifacts on the disk --> row on the disk --> ended
 *
 * A job that was acknowledged is never lost and ends exactly once: rows are committed with fsync
 * before anybody hears of them, a job whose process died runs again with the seed it was given at
 * submit, and an end is accepted only from the holder of the present epoch.
 *
 * Artifacts up to LIMN_ARTIFACT_SMALL bytes come to the disk as rows, in the commit of their job's
 * end, and get their files a moment later (queue_file.c); reading finds them either way.
 *
 * Threads: one writer thread owns all writes (requests that arrive together share one commit), one
 * makes files and thumbnails, one per worker runs jobs of its lane (job.h), and every function
 * below may be called from any thread. Calls that write wait for the disk (some milliseconds);
 * calls that read do not wait for writers. What is handed out the caller owns. `owner` is who asks:
 * NULL sees everything, others see their own jobs only and get E_NOT_FOUND for the rest.
 *
 * Statuses and what HTTP makes of them (limn_status_http): E_BUSY 429 (too many wait; retry after
 * the seconds given), E_UNAVAILABLE 503 (draining, disk full or failing), E_CONFLICT 409 (has ended
 * already), E_REUSED 422 (the key belongs to another request), E_NOT_FOUND 404.
 */
#ifndef LIMN_JOB_QUEUE_H
#define LIMN_JOB_QUEUE_H

#include "job/artifacts.h"
#include "job/events.h"
#include "job/runner.h"
#include "job/store.h"

typedef struct limn_queue limn_queue;

/* Clocks that tests can turn. */
typedef struct limn_queue_clock {
    int64_t (*unix_ms)(void *user);
    double (*seconds)(void *user); /* monotonic */
    void *user;
} limn_queue_clock;

/* Zero means the default in brackets. */
typedef struct limn_queue_options {
    int workers;            /* [1] threads that run jobs of one lane; -1: none */
    int max_queued;         /* [256] waiting jobs of all owners */
    int max_queued_owner;   /* [64] ... of one owner that is not "" */
    int max_attempts;       /* [3] */
    int lease_ms;           /* [60000]; renewed four times in this span */
    int64_t keep_jobs;      /* [10000] finished jobs in the history */
    int keep_days;          /* [90] */
    int64_t upload_ms;      /* [3600000] how long an upload waits for a job */
    int64_t trash_ms;       /* [86400000] how long deleted jobs can be restored; < 0: not at all */
    int trim_every_ms;      /* [60000] */
    bool no_heartbeat;      /* leases are not renewed (tests of fencing) */
    bool paused;            /* workers take nothing until limn_queue_resume */
    limn_queue_clock clock; /* all NULL: the system's */
    limn_hub_options events;
} limn_queue_options;

/* Takes store, artifacts and runner, also on failure; closes them in limn_queue_close. What ran
 * when the last process ended waits again, or fails when it has used up its attempts; files that no
 * row refers to are removed. */
limn_status limn_queue_open(limn_queue **out, limn_store *store, limn_artifacts *artifacts,
                            limn_runner *runner, const limn_queue_options *opt, limn_err *err);
/* The usual set below one folder: <dir>/jobs.db, <dir>/blobs, <dir>/thumbs. Takes the runner. */
limn_status limn_queue_open_dir(limn_queue **out, const char *dir, limn_runner *runner,
                                const limn_queue_options *opt, limn_err *err);
/* Opens those two. E_CONFLICT: another process has the folder. */
limn_status limn_queue_files_open(limn_store **store, limn_artifacts **artifacts, const char *dir,
                                  limn_err *err);
/* Stops at the next operation; jobs that were running wait again. All feeds must be closed. */
void limn_queue_close(limn_queue **q);
/* From now on submit answers E_UNAVAILABLE and workers take nothing new. Waits up to timeout_ms for
 * running jobs; those that are left then stop and wait again for the next start. true: none was. */
bool limn_queue_drain(limn_queue *q, int timeout_ms);
void limn_queue_pause(limn_queue *q);
void limn_queue_resume(limn_queue *q);

/* ---- submit ---- */
typedef struct limn_submitted {
    char id[LIMN_JOB_ID_LEN + 1];
    bool existing;        /* the key was known: this is the job it belongs to */
    limn_job_state state; /* of an existing job; else QUEUED */
    int64_t position;     /* in its lane; 0: next or running */
    double start_seconds; /* estimate until it begins; < 0: not known */
    double retry_seconds; /* with E_BUSY and E_UNAVAILABLE: when to try again */
} limn_submitted;

/* Would a submit be refused now for want of room? Cheap: ask before reading a large body. */
limn_status limn_queue_admit(limn_queue *q, const char *owner, limn_submitted *out, limn_err *err);
/* LIMN_OK: the job is on the disk. `out` is filled on failure too. */
limn_status limn_queue_submit(limn_queue *q, const limn_submit *submit, limn_submitted *out,
                              limn_err *err);
/* Keeps bytes that a coming request refers to as "artifact:<out->sha>", for an hour. */
limn_status limn_queue_upload(limn_queue *q, const char *owner, const void *data, size_t size,
                              limn_artifact *out, limn_err *err);

/* ---- look ---- */
limn_status limn_queue_get(limn_queue *q, const char *owner, const char *id, limn_job **out,
                           limn_err *err);
/* query->owner is the asker. */
limn_status limn_queue_list(limn_queue *q, const limn_job_query *query, limn_job_page *out,
                            limn_err *err);
limn_status limn_queue_counts(limn_queue *q, const char *owner, limn_job_counts *out,
                              limn_err *err);
/* Where a job stands; what its last progress report said. */
typedef struct limn_standing {
    limn_job_state state;
    int64_t
        position; /* jobs of its lane before it; 0 when it runs or is next; -1 when it has ended */
    double start_seconds; /* until it begins; 0: it has begun; < 0: not known */
    double left_seconds;  /* until it ends; < 0: not known */
    double progress;      /* 0..1 */
    int image, images, step, steps;
    char stage[24];
} limn_standing;
limn_status limn_queue_standing(limn_queue *q, const char *owner, const char *id,
                                limn_standing *out, limn_err *err);
/* Id of a job that is running now (of this owner); false when none is. */
bool limn_queue_running(limn_queue *q, const char *owner, char out[LIMN_JOB_ID_LEN + 1]);
/* Waits until the job has ended; *out is the job then. timeout_ms < 0: for ever. E_BUSY: it has not
 * ended yet (*out is the job as it is). */
limn_status limn_queue_wait(limn_queue *q, const char *owner, const char *id, int timeout_ms,
                            limn_job **out, limn_err *err);
/* A feed of one job (E_NOT_FOUND when the owner has none of this id) or of all (opt->job NULL). The
 * feed of a job that has ended long ago gives its final state. */
limn_status limn_queue_subscribe(limn_queue *q, const limn_feed_options *opt, limn_feed **out,
                                 limn_err *err);
/* The newest event of a kind that is kept of a job: for who polls (the preview of a running job).
 * NULL: none. The caller has made sure that the asker may see the job. */
const limn_job_event *limn_queue_last_event(limn_queue *q, const char *id,
                                            limn_job_event_kind kind);
/* An artifact that the owner may see, also of a job that runs; `out` is released with
 * limn_artifact_deinit. */
limn_status limn_queue_artifact(limn_queue *q, const char *owner, const char *sha,
                                limn_artifact *out, limn_err *err);
limn_artifacts *limn_queue_artifacts(limn_queue *q); /* borrowed */
limn_runner *limn_queue_runner(limn_queue *q);       /* borrowed */

/* ---- change ---- */
/* A waiting job is cancelled at once, a running one within one operation. *state: what it was.
 * E_CONFLICT: it has ended. */
limn_status limn_queue_cancel(limn_queue *q, const char *owner, const char *id,
                              limn_job_state *state, limn_err *err);
/* All waiting jobs of the owner; *count of them. */
limn_status limn_queue_cancel_waiting(limn_queue *q, const char *owner, int64_t *count,
                                      limn_err *err);
/* Gives up the picture that a running drawing works on (all of its batch); the job goes on with the
 * next one, and is cancelled when it ends without any. Other kinds have one result: they are
 * cancelled. E_CONFLICT: it does not run. */
limn_status limn_queue_skip(limn_queue *q, const char *owner, const char *id, limn_err *err);
/* What decides when a waiting job comes on. */
typedef struct limn_queue_move {
    const int *priority; /* NULL: as it is */
    /* New place among the owner's waiting jobs of the lane, 0 first, too large: last; it takes the
     * priority of that place and no other owner's job changes places with it. NULL: as it is. */
    const int64_t *position;
    int max_priority; /* that the asker may give */
} limn_queue_move;
/* E_CONFLICT: it does not wait. E_VALUE: the priority is not in -100..max_priority. */
limn_status limn_queue_move_job(limn_queue *q, const char *owner, const char *id,
                                const limn_queue_move *move, limn_err *err);
/* Deletes a finished job so that it can be restored for a while (limn_queue_options.trash_ms).
 * E_CONFLICT: it has not ended. */
limn_status limn_queue_delete(limn_queue *q, const char *owner, const char *id, limn_err *err);
/* E_NOT_FOUND: there is no such deleted job (any more). */
limn_status limn_queue_restore(limn_queue *q, const char *owner, const char *id, limn_err *err);
/* Removes a finished job, deleted or not, and the files that only it refers to. E_CONFLICT: it has
 * not ended. */
limn_status limn_queue_remove(limn_queue *q, const char *owner, const char *id, limn_err *err);
/* One file of a finished job that did not go in. `remove`: for good, also when it was deleted. */
limn_status limn_queue_delete_artifact(limn_queue *q, const char *owner, const char *id,
                                       const char *sha, bool remove, limn_err *err);
limn_status limn_queue_restore_artifact(limn_queue *q, const char *owner, const char *id,
                                        const char *sha, limn_err *err);
/* Replaces the tags. */
limn_status limn_queue_set_tags(limn_queue *q, const char *owner, const char *id,
                                const char *const *tags, int n_tags, limn_err *err);

/* ---- operation ---- */
/* What may be changed while it runs. */
typedef struct limn_queue_limits {
    int max_queued, max_queued_owner;
    int64_t keep_jobs;
    int keep_days;
    int64_t trash_ms; /* as in the options; not 0 */
} limn_queue_limits;
void limn_queue_get_limits(limn_queue *q, limn_queue_limits *out);
/* E_VALUE: nothing below 1. Not durable: whoever owns the settings sets them at each start. */
limn_status limn_queue_set_limits(limn_queue *q, const limn_queue_limits *limits, limn_err *err);
typedef struct limn_queue_stats {
    limn_job_counts counts;
    int workers; /* of each lane */
    int busy, lane_busy[LIMN_JOB_LANES];
    bool paused, draining;
    bool healthy;      /* the last write reached the disk */
    char trouble[200]; /* why not */
    double uptime_seconds;
    int64_t submitted, refused, ended[LIMN_JOB_STATES]; /* since the start */
    int64_t retries;                                    /* runs begun again */
    int64_t leases_lost;                                /* ends that were refused */
    int64_t commits, writes; /* writes / commits: how many share one fsync */
    int64_t blob_bytes;
    limn_hub_stats events;
} limn_queue_stats;
void limn_queue_get_stats(limn_queue *q, limn_queue_stats *out);
/* What the jobs that succeeded since then have made, by lane; loading models is left out. */
limn_status limn_queue_done_since(limn_queue *q, limn_job_done out[LIMN_JOB_LANES],
                                  int64_t since_ms, limn_err *err);
/* Seconds that a prepared job (runner.h) would run, from jobs of its kind and model before; of a
 * grid also from drawings. < 0: not known. */
double limn_queue_estimate(limn_queue *q, const limn_job *job);
/* LIMN_OK when submits would be taken; else why not (E_UNAVAILABLE). */
limn_status limn_queue_ready(limn_queue *q, limn_err *err);

#endif
