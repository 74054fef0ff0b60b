/* SPDX-License-Identifier: MIT */
/*
 * Where jobs are kept: a small vtable of conditional writes and reads, without policy. The queue
 * (queue.h) decides, a store only makes it durable: SQLite (store_sqlite.h) inside one process;
 * another database can stand behind the same rows and the same tests.
 *
 * Writes come from one thread, between begin and commit; what was written is durable when commit
 * answers LIMN_OK (see begin), and not there at all when it does not. Reads may come from any
 * thread at any time and see committed rows only. Every write that changes a state names the state
 * (and epoch) that it expects to find: that is how two workers cannot both win.
 */
#ifndef LIMN_JOB_STORE_H
#define LIMN_JOB_STORE_H

#include "job/job.h"

typedef struct limn_store limn_store;

/* A conditional change of one job. Fields after `to` are written as they are given. */
typedef struct limn_job_change {
    const char *id;
    limn_job_state from, to;
    int64_t epoch;   /* must be the job's; -1: any */
    int64_t now_ms;  /* becomes finished_ms of a final state */
    int attempt_add; /* -1: the run that ends does not count (drained) */
    limn_status error;
    const char *error_text; /* NULL: "" */
    const char *result;     /* NULL: none */
    const limn_artifact *artifacts;
    int n_artifacts; /* added to those the job has; index is given by the store */
} limn_job_change;

/* What to hand to a worker. */
typedef struct limn_job_claim {
    const char *worker;
    limn_job_lane lane;
    int64_t now_ms, lease_until_ms;
    const char *model; /* that is ready: among jobs of the same priority those that use it go first,
                          as far as `reach` places ahead; NULL: strictly in order */
    int reach;
    bool passed; /* out: an older job was passed over */
} limn_job_claim;

/* Which jobs a list shows; zero-initialise: all of them, newest first. */
typedef struct limn_job_query {
    const char *owner; /* NULL: everybody's */
    unsigned states;   /* bits 1u << limn_job_state; 0: all */
    unsigned kinds;    /* bits 1u << limn_job_kind; 0: all */
    const char *words; /* all of these words occur; NULL: any text */
    const char *model; /* exactly; NULL: any */
    const int64_t *seed;
    const char *const *tags; /* all of these */
    int n_tags;
    const char *source, *parent;
    bool top_level;         /* no job that has a parent */
    int64_t from_ms, to_ms; /* created_ms, inclusive; 0: no bound */
    bool oldest_first;
    bool deleted;   /* those that were deleted, instead of the others */
    int64_t cursor; /* `next` of the page before; 0: first page */
    int limit;      /* 1..500; 0: 50 */
    bool with_artifacts;
} limn_job_query;

typedef struct limn_job_page {
    limn_job **jobs; /* [count] without requests and results */
    int count;
    int64_t next; /* cursor of the next page; 0: this was the last */
} limn_job_page;
void limn_job_page_deinit(limn_job_page *page);

typedef struct limn_job_counts {
    int64_t state[LIMN_JOB_STATES];
    int64_t queued_kind[LIMN_JOB_KINDS];
    int64_t oldest_queued_ms; /* created_ms; 0: none waits */
} limn_job_counts;

/* What the jobs of a lane that succeeded since some time have made. */
typedef struct limn_job_done {
    int64_t jobs, images;
    int64_t busy_ms; /* between their begin and end */
} limn_job_done;

/* Which finished jobs are too old to keep; 0: no bound. */
typedef struct limn_retention {
    int64_t max_jobs;      /* the newest stay */
    int64_t before_ms;     /* finished before this */
    int64_t deleted_ms;    /* deleted before this */
    const char *spare_tag; /* jobs with this tag stay, unless they were deleted; NULL: none */
    int limit;             /* rows of one answer, 1..500 */
} limn_retention;

typedef struct limn_store_ops {
    const char *name; /* "sqlite" */
    void (*close)(limn_store *s);

    /* ---- writes: one thread ---- */
    /* durable false: what is written may be lost with the power (not with the process), like the
     * news that a waiting job has begun; it is on the disk with the next durable commit. */
    limn_status (*begin)(limn_store *s, bool durable, limn_err *err);
    /* One request inside the transaction: undone alone when it fails. */
    limn_status (*mark)(limn_store *s, limn_err *err);
    void (*undo)(limn_store *s);
    limn_status (*commit)(limn_store *s, limn_err *err);
    void (*rollback)(limn_store *s);
    /* After a failed commit: a fresh connection, checked. */
    limn_status (*reopen)(limn_store *s, limn_err *err);

    /* Fills job->seq. E_CONFLICT: the owner's key is taken. */
    limn_status (*insert)(limn_store *s, limn_job *job, limn_err *err);
    /* queued -> running of the next job: epoch + 1, attempt + 1, *out as it is then. E_NOT_FOUND:
     * nothing waits. */
    limn_status (*claim)(limn_store *s, limn_job **out, limn_job_claim *claim, limn_err *err);
    /* E_CONFLICT when the job is not in `from` or of another epoch; E_NOT_FOUND. */
    limn_status (*change)(limn_store *s, const limn_job_change *change, limn_err *err);
    /* Extends the lease of a running job. E_CONFLICT as above. */
    limn_status (*renew)(limn_store *s, const char *id, int64_t epoch, int64_t until_ms,
                         limn_err *err);
    limn_status (*request_cancel)(limn_store *s, const char *id, limn_err *err);
    limn_status (*set_tags)(limn_store *s, const char *id, const char *const *tags, int n_tags,
                            limn_err *err);
    /* Where a waiting job stands. E_CONFLICT: it does not wait. */
    limn_status (*place)(limn_store *s, const char *id, int priority, int64_t rank, limn_err *err);
    /* A finished job is deleted (at_ms > 0; its key is free then) or restored (0). E_CONFLICT: it
     * has not ended, or is in that state already. */
    limn_status (*set_deleted)(limn_store *s, const char *id, int64_t at_ms, limn_err *err);
    /* The same for a file of a finished job that did not go in; at_ms < 0: its rows are removed.
     * E_NOT_FOUND: the job has none of this name in the other state. */
    limn_status (*set_artifact_deleted)(limn_store *s, const char *id, const char *sha,
                                        int64_t at_ms, limn_err *err);
    /* Removes up to `room` rows of files that were deleted before this time; sha[*n] of them. */
    limn_status (*drop_deleted)(limn_store *s, int64_t before_ms, char (*sha)[LIMN_SHA_LEN + 1],
                                int room, int *n, limn_err *err);
    /* A finished job and its artifact rows. E_CONFLICT: it has not ended. */
    limn_status (*remove)(limn_store *s, const char *id, limn_err *err);
    /* An upload that no job refers to yet, kept until `until_ms`. */
    limn_status (*hold)(limn_store *s, const limn_artifact *a, const char *owner, int64_t until_ms,
                        limn_err *err);
    limn_status (*drop_holds)(limn_store *s, int64_t now_ms, int *dropped, limn_err *err);

    /* The bytes of a small artifact, for the time until it has a file; once for each name. */
    limn_status (*keep)(limn_store *s, const char *sha, const void *data, size_t size,
                        limn_err *err);
    /* LIMN_OK also when there are none. */
    limn_status (*drop_kept)(limn_store *s, const char *sha, limn_err *err);

    /* ---- reads: any thread. What was deleted is seen by `get` and `stale` only, deleted jobs also
     * by a query for them. ---- */
    limn_status (*get)(limn_store *s, limn_job **out, const char *id, limn_err *err);
    limn_status (*find_key)(limn_store *s, limn_job **out, const char *owner, const char *key,
                            limn_err *err);
    limn_status (*list)(limn_store *s, limn_job_page *out, const limn_job_query *query,
                        limn_err *err);
    /* Finished jobs that retention gives up, oldest first, with their artifacts. */
    limn_status (*stale)(limn_store *s, limn_job_page *out, const limn_retention *how,
                         limn_err *err);
    limn_status (*counts)(limn_store *s, limn_job_counts *out, const char *owner, limn_err *err);
    /* By lane; what was deleted since then counts too. */
    limn_status (*done_since)(limn_store *s, limn_job_done out[LIMN_JOB_LANES], int64_t since_ms,
                              limn_err *err);
    /* An artifact of one of the owner's jobs or uploads (owner NULL: anybody's). E_NOT_FOUND. */
    limn_status (*artifact)(limn_store *s, limn_artifact *out, const char *owner, const char *sha,
                            limn_err *err);
    /* *used: some job or upload refers to it. */
    limn_status (*is_used)(limn_store *s, const char *sha, bool *used, limn_err *err);
    /* The first kept bytes whose name comes after `sha` ("": of all), and that name; freed with
     * limn_mem_free. E_NOT_FOUND: there are no more. */
    limn_status (*next_kept)(limn_store *s, char sha[LIMN_SHA_LEN + 1], void **data, size_t *size,
                             limn_err *err);
    /* E_FORMAT when the database is damaged. Slow. */
    limn_status (*check)(limn_store *s, limn_err *err);
} limn_store_ops;

struct limn_store {
    const limn_store_ops *ops;
};

typedef struct limn_sqlite_options {
    const char *path; /* of the database file; its folder must exist */
    const char *vfs;  /* SQLite VFS; NULL: the default one */
    bool read_only;   /* for looking at a store that a server may be using */
} limn_sqlite_options;
/* Opens or makes the database and brings its schema up to date. Takes an exclusive lock on
 * "<path>.lock" for as long as it is open: E_CONFLICT when another process has it. E_FORMAT: not a
 * database, damaged, or made by a newer limn. */
limn_status limn_store_sqlite_open(limn_store **out, const limn_sqlite_options *opt, limn_err *err);
void limn_store_close(limn_store **s);

#endif
