/* SPDX-License-Identifier: MIT */
/*
 * What the files of the SQLite store share: connections with their prepared statements, binding and
 * reading of rows. Not for other files.
 *
 * One connection writes and alone checkpoints the WAL (SQLite before 3.51.3 can lose a WAL that two
 * connections reset at once); some more read, each under its own lock.
 */
#ifndef LIMN_JOB_STORE_SQLITE_H
#define LIMN_JOB_STORE_SQLITE_H

#include <pthread.h>
#include <sqlite3.h>

#include "job/store.h"

enum { SQLITE_READERS = 4, SQLITE_STATEMENTS = 64 };

typedef struct sqlite_conn {
    sqlite3 *db;
    struct {
        const char *sql; /* the literal itself is the key */
        sqlite3_stmt *st;
    } cache[SQLITE_STATEMENTS];
    int n;
    bool broken; /* reading or writing the file failed: what is on the disk is not known */
} sqlite_conn;

typedef struct sqlite_store {
    limn_store head;
    char *path, *vfs;
    bool read_only;
    int lock_fd;
    sqlite_conn writer;
    bool relaxed; /* the writer does not wait for the disk now */
    sqlite_conn reader[SQLITE_READERS];
    pthread_mutex_t busy[SQLITE_READERS];
    int locks; /* that were made */
} sqlite_store;

/* Puts SQLite's error into err as a status of ours. */
limn_status limn_sqlite_failed(sqlite_conn *c, limn_err *err, const char *what);
/* A statement ready to step, bound by `types`: 'i' int64_t, 'd' double, 't' const char * (NULL: SQL
 * NULL), 'b' const void * and size_t. `sql` is a literal that is kept prepared. */
limn_status limn_sqlite_query(sqlite_conn *c, sqlite3_stmt **out, limn_err *err, const char *sql,
                              const char *types, ...);
/* Steps to a row: *row tells whether there is one. Resets the statement when there is none. */
limn_status limn_sqlite_step(sqlite_conn *c, sqlite3_stmt *st, bool *row, limn_err *err);
/* The same for statements without rows; *changed rows (may be NULL). */
limn_status limn_sqlite_run(sqlite_conn *c, limn_err *err, int *changed, const char *sql,
                            const char *types, ...);
/* Columns of a job in the order that limn_sqlite_job reads them. */
#define SQLITE_JOB_HEAD                                                                            \
    "seq, id, rank, kind, lane, state, owner, source, key, parent, trace, priority, keep, "        \
    "preview_every, model, "                                                                       \
    "seed, words, title, request_hash, work, images, created_ms, started_ms, finished_ms, "        \
    "deleted_ms, attempt, max_attempts, epoch, worker, lease_until_ms, cancel_requested, error, "  \
    "error_text"
#define SQLITE_JOB_FULL SQLITE_JOB_HEAD ", request, result"
#define SQLITE_JOB_LIGHT SQLITE_JOB_HEAD ", '', NULL"
limn_status limn_sqlite_job(limn_job **out, sqlite3_stmt *row, limn_err *err);
/* Tags and artifacts of a job. */
typedef enum sqlite_files { SQLITE_FILES_NONE, SQLITE_FILES_LIVE, SQLITE_FILES_ALL } sqlite_files;
limn_status limn_sqlite_details(sqlite_conn *c, limn_job *job, sqlite_files files, limn_err *err);

/* The reading half of the vtable, store_sqlite_read.c. */
limn_status limn_sqlite_get(limn_store *s, limn_job **out, const char *id, limn_err *err);
limn_status limn_sqlite_find_key(limn_store *s, limn_job **out, const char *owner, const char *key,
                                 limn_err *err);
limn_status limn_sqlite_list(limn_store *s, limn_job_page *out, const limn_job_query *query,
                             limn_err *err);
limn_status limn_sqlite_stale(limn_store *s, limn_job_page *out, const limn_retention *how,
                              limn_err *err);
limn_status limn_sqlite_counts(limn_store *s, limn_job_counts *out, const char *owner,
                               limn_err *err);
limn_status limn_sqlite_done_since(limn_store *s, limn_job_done out[LIMN_JOB_LANES],
                                   int64_t since_ms, limn_err *err);
limn_status limn_sqlite_artifact(limn_store *s, limn_artifact *out, const char *owner,
                                 const char *sha, limn_err *err);
limn_status limn_sqlite_is_used(limn_store *s, const char *sha, bool *used, limn_err *err);
limn_status limn_sqlite_next_kept(limn_store *s, char sha[LIMN_SHA_LEN + 1], void **data,
                                  size_t *size, limn_err *err);
limn_status limn_sqlite_check(limn_store *s, limn_err *err);

#endif
