/* SPDX-License-Identifier: MIT */
/* Jobs in SQLite: opening, schema and the writing half of the vtable; see store.h. */
#include "job/store_sqlite.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

#define APPLICATION_ID 1818848622 /* "limn" */

/* One row per version, each applied in its own transaction; never edited, only appended to. */
static const char *const migrations[] = {
    /* 1 */
    "CREATE TABLE job ("
    " seq INTEGER PRIMARY KEY AUTOINCREMENT,"
    " id TEXT NOT NULL UNIQUE,"
    " kind INTEGER NOT NULL, state INTEGER NOT NULL CHECK (state BETWEEN 0 AND 4),"
    " owner TEXT NOT NULL, source TEXT NOT NULL, key TEXT, parent TEXT,"
    " priority INTEGER NOT NULL, keep INTEGER NOT NULL, preview_every INTEGER NOT NULL,"
    " model TEXT NOT NULL, seed INTEGER, words TEXT NOT NULL, title TEXT NOT NULL,"
    " request TEXT NOT NULL, request_hash TEXT NOT NULL, work REAL NOT NULL,"
    " images INTEGER NOT NULL, created_ms INTEGER NOT NULL, started_ms INTEGER NOT NULL,"
    " finished_ms INTEGER NOT NULL, attempt INTEGER NOT NULL, max_attempts INTEGER NOT NULL,"
    " epoch INTEGER NOT NULL, worker TEXT NOT NULL, lease_until_ms INTEGER NOT NULL,"
    " cancel_requested INTEGER NOT NULL, error INTEGER NOT NULL, error_text TEXT NOT NULL,"
    " result TEXT) STRICT;"
    "CREATE UNIQUE INDEX job_key ON job (owner, key) WHERE key IS NOT NULL;"
    "CREATE INDEX job_waiting ON job (priority DESC, seq) WHERE state = 0;"
    "CREATE INDEX job_running ON job (seq) WHERE state = 1;"
    "CREATE INDEX job_ended ON job (finished_ms) WHERE state >= 2;"
    "CREATE INDEX job_parent ON job (parent, seq) WHERE parent IS NOT NULL;"
    "CREATE INDEX job_owner ON job (owner, seq);"
    "CREATE INDEX job_created ON job (created_ms);"
    /* A job that has ended stays as it is, whatever the code above does. */
    "CREATE TRIGGER job_final BEFORE UPDATE OF state, epoch, error, result, finished_ms ON job"
    " WHEN OLD.state >= 2 BEGIN SELECT RAISE(ABORT, 'the job has ended'); END;"
    "CREATE TABLE artifact ("
    " job INTEGER NOT NULL REFERENCES job (seq) ON DELETE CASCADE,"
    " idx INTEGER NOT NULL, role INTEGER NOT NULL, sha TEXT NOT NULL, mime TEXT NOT NULL,"
    " width INTEGER NOT NULL, height INTEGER NOT NULL, bytes INTEGER NOT NULL,"
    " recipe TEXT, text TEXT, PRIMARY KEY (job, idx)) STRICT;"
    "CREATE INDEX artifact_sha ON artifact (sha, job);"
    "CREATE TABLE tag ("
    " job INTEGER NOT NULL REFERENCES job (seq) ON DELETE CASCADE,"
    " tag TEXT NOT NULL, PRIMARY KEY (job, tag)) STRICT, WITHOUT ROWID;"
    "CREATE INDEX tag_job ON tag (tag, job);"
    "CREATE TABLE hold ("
    " sha TEXT NOT NULL, owner TEXT NOT NULL, until_ms INTEGER NOT NULL, mime TEXT NOT NULL,"
    " width INTEGER NOT NULL, height INTEGER NOT NULL, bytes INTEGER NOT NULL,"
    " PRIMARY KEY (sha, owner)) STRICT, WITHOUT ROWID;"
    /* Every change of state, for audit and for the tests that count ends. */
    "CREATE TABLE log ("
    " job INTEGER NOT NULL REFERENCES job (seq) ON DELETE CASCADE,"
    " at_ms INTEGER NOT NULL, state INTEGER NOT NULL, epoch INTEGER NOT NULL) STRICT;"
    "CREATE INDEX log_job ON log (job);",
    /* 2: lanes, places that can be changed, deleting that can be undone, traces */
    "ALTER TABLE job ADD COLUMN rank INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE job ADD COLUMN lane INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE job ADD COLUMN trace TEXT NOT NULL DEFAULT '';"
    "ALTER TABLE job ADD COLUMN deleted_ms INTEGER NOT NULL DEFAULT 0;"
    "ALTER TABLE artifact ADD COLUMN deleted_ms INTEGER NOT NULL DEFAULT 0;"
    "UPDATE job SET rank = seq, lane = (kind = 2);"
    "DROP INDEX job_waiting;"
    "CREATE INDEX job_waiting ON job (lane, priority DESC, rank, seq) WHERE state = 0;"
    "CREATE INDEX job_deleted ON job (deleted_ms) WHERE deleted_ms > 0;"
    "CREATE INDEX artifact_deleted ON artifact (deleted_ms) WHERE deleted_ms > 0;",
    /* 3: searching reads the words of all jobs, not their whole rows (requests and results) */
    ("CREATE INDEX job_words ON job (words, deleted_ms);" /* one row: clang takes it for two */
     "CREATE INDEX job_seed ON job (seed) WHERE seed IS NOT NULL;"),
    /* 4: small artifacts come to the disk with the end of their job, and to their files later */
    "CREATE TABLE kept (sha TEXT PRIMARY KEY, data BLOB NOT NULL) STRICT;",
};
enum { SCHEMA_VERSION = sizeof migrations / sizeof migrations[0] };

/* ---- statements ---- */
static limn_status status_of(int rc) {
    switch (rc & 0xff) {
    case SQLITE_OK: return LIMN_OK;
    case SQLITE_FULL:
    case SQLITE_IOERR:
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_CANTOPEN:
    case SQLITE_READONLY: return LIMN_E_UNAVAILABLE;
    case SQLITE_NOMEM: return LIMN_E_NOMEM;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB: return LIMN_E_FORMAT;
    case SQLITE_CONSTRAINT: return LIMN_E_CONFLICT;
    case SQLITE_TOOBIG: return LIMN_E_LIMIT;
    default: return LIMN_E_INTERNAL;
    }
}

limn_status limn_sqlite_failed(sqlite_conn *c, limn_err *err, const char *what) {
    int rc = sqlite3_extended_errcode(c->db);
    if ((rc & 0xff) == SQLITE_IOERR) c->broken = true;
    return limn_fail(err, status_of(rc), "the job store cannot %s: %s", what,
                     rc == SQLITE_FULL ? "the disk is full" : sqlite3_errmsg(c->db));
}

static limn_status find_statement(sqlite_conn *c, sqlite3_stmt **out, const char *sql,
                                  limn_err *err) {
    for (int i = 0; i < c->n; i++)
        if (c->cache[i].sql == sql) {
            *out = c->cache[i].st;
            sqlite3_reset(*out);
            return LIMN_OK;
        }
    if (c->n == SQLITE_STATEMENTS)
        return limn_fail(err, LIMN_E_INTERNAL, "too many statements in the job store");
    if (sqlite3_prepare_v3(c->db, sql, -1, SQLITE_PREPARE_PERSISTENT, out, NULL) != SQLITE_OK)
        return limn_sqlite_failed(c, err, "prepare a statement");
    c->cache[c->n].sql = sql;
    c->cache[c->n++].st = *out;
    return LIMN_OK;
}

static limn_status bind_all(sqlite_conn *c, sqlite3_stmt *st, const char *types, va_list ap,
                            limn_err *err) {
    int rc = SQLITE_OK;
    for (int i = 0; types[i] && rc == SQLITE_OK; i++) {
        if (types[i] == 'i')
            rc = sqlite3_bind_int64(st, i + 1, va_arg(ap, int64_t));
        else if (types[i] == 'd')
            rc = sqlite3_bind_double(st, i + 1, va_arg(ap, double));
        else if (types[i] == 'b') {
            const void *data = va_arg(ap, const void *);
            rc = sqlite3_bind_blob64(st, i + 1, data, va_arg(ap, size_t), SQLITE_TRANSIENT);
        } else
            rc = sqlite3_bind_text(st, i + 1, va_arg(ap, const char *), -1, SQLITE_TRANSIENT);
    }
    return rc == SQLITE_OK ? LIMN_OK : limn_sqlite_failed(c, err, "bind a value");
}

limn_status limn_sqlite_query(sqlite_conn *c, sqlite3_stmt **out, limn_err *err, const char *sql,
                              const char *types, ...) {
    limn_status st = find_statement(c, out, sql, err);
    if (st != LIMN_OK) return st;
    va_list ap;
    va_start(ap, types);
    st = bind_all(c, *out, types, ap, err);
    va_end(ap);
    return st;
}

limn_status limn_sqlite_step(sqlite_conn *c, sqlite3_stmt *st, bool *row, limn_err *err) {
    int rc = sqlite3_step(st);
    *row = rc == SQLITE_ROW;
    if (rc == SQLITE_ROW) return LIMN_OK;
    limn_status status = LIMN_OK;
    if (rc != SQLITE_DONE) status = limn_sqlite_failed(c, err, "read or write");
    sqlite3_reset(st);
    return status;
}

limn_status limn_sqlite_run(sqlite_conn *c, limn_err *err, int *changed, const char *sql,
                            const char *types, ...) {
    sqlite3_stmt *q;
    bool row = true;
    limn_status st = find_statement(c, &q, sql, err);
    if (st != LIMN_OK) return st;
    va_list ap;
    va_start(ap, types);
    st = bind_all(c, q, types, ap, err);
    va_end(ap);
    while (st == LIMN_OK && row) st = limn_sqlite_step(c, q, &row, err);
    if (changed) *changed = sqlite3_changes(c->db);
    return st;
}

/* ---- connections ---- */
static void conn_close(sqlite_conn *c) {
    for (int i = 0; i < c->n; i++) sqlite3_finalize(c->cache[i].st);
    c->n = 0;
    sqlite3_close(c->db);
    c->db = NULL;
    c->broken = false;
}

static limn_status conn_exec(sqlite_conn *c, const char *sql, const char *what, limn_err *err) {
    if (sqlite3_exec(c->db, sql, NULL, NULL, NULL) == SQLITE_OK) return LIMN_OK;
    return limn_sqlite_failed(c, err, what);
}

static limn_status conn_open(sqlite_conn *c, const sqlite_store *s, bool write, limn_err *err) {
    int flags = (write ? SQLITE_OPEN_READWRITE : SQLITE_OPEN_READONLY) | SQLITE_OPEN_NOMUTEX;
    limn_status st = LIMN_OK;
    if (sqlite3_open_v2(s->path, &c->db, flags, s->vfs) != SQLITE_OK) {
        st = c->db ? limn_sqlite_failed(c, err, "open its database")
                   : limn_fail(err, LIMN_E_NOMEM, "no memory for the job store");
        goto out;
    }
    sqlite3_extended_result_codes(c->db, 1);
    sqlite3_busy_timeout(c->db, 5000);
    LIMN_TRY(conn_exec(c, "PRAGMA trusted_schema = OFF; PRAGMA foreign_keys = ON",
                       "prepare a connection", err));
    if (write)
        LIMN_TRY(conn_exec(c,
                           "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
                           "PRAGMA wal_autocheckpoint = 1000; PRAGMA journal_size_limit = 16777216",
                           "turn on its log", err));
    else
        LIMN_TRY(conn_exec(c, "PRAGMA query_only = ON; PRAGMA wal_autocheckpoint = 0",
                           "prepare a reader", err));
out:
    if (st != LIMN_OK) conn_close(c);
    return st;
}

static limn_status read_number(sqlite_conn *c, const char *sql, int64_t *out, limn_err *err) {
    sqlite3_stmt *q;
    bool row;
    limn_status st = limn_sqlite_query(c, &q, err, sql, "");
    if (st == LIMN_OK) st = limn_sqlite_step(c, q, &row, err);
    if (st != LIMN_OK) return st;
    *out = row ? sqlite3_column_int64(q, 0) : 0;
    sqlite3_reset(q);
    return LIMN_OK;
}

static limn_status migrate(sqlite_store *s, limn_err *err) {
    sqlite_conn *c = &s->writer;
    limn_status st = LIMN_OK;
    int64_t id = 0, version = 0, tables = 0;
    char sql[96];
    LIMN_TRY(read_number(c, "PRAGMA application_id", &id, err));
    LIMN_TRY(read_number(c, "PRAGMA user_version", &version, err));
    LIMN_TRY(read_number(c, "SELECT count(*) FROM sqlite_schema", &tables, err));
    LIMN_CHECK(err, id == APPLICATION_ID || (id == 0 && tables == 0), LIMN_E_FORMAT,
               "%s: is a database of another program", s->path);
    LIMN_CHECK(err, version <= SCHEMA_VERSION, LIMN_E_FORMAT,
               "%s: was made by a newer limn (schema %lld, this one knows %d)", s->path,
               (long long)version, SCHEMA_VERSION);
    for (; version < SCHEMA_VERSION; version++) {
        LIMN_TRY(conn_exec(c, "BEGIN IMMEDIATE", "begin", err));
        st = conn_exec(c, migrations[version], "change its schema", err);
        snprintf(sql, sizeof sql, "PRAGMA application_id = %d; PRAGMA user_version = %lld",
                 APPLICATION_ID, (long long)version + 1);
        if (st == LIMN_OK) st = conn_exec(c, sql, "change its schema", err);
        if (st == LIMN_OK) st = conn_exec(c, "COMMIT", "change its schema", err);
        if (st != LIMN_OK) {
            sqlite3_exec(c->db, "ROLLBACK", NULL, NULL, NULL);
            goto out;
        }
    }
out:
    return st;
}

/* "ok", or what is wrong. */
static limn_status quick_check(sqlite_conn *c, const char *path, const char *sql, limn_err *err) {
    sqlite3_stmt *q;
    bool row = false;
    limn_status st = limn_sqlite_query(c, &q, err, sql, "");
    if (st == LIMN_OK) st = limn_sqlite_step(c, q, &row, err);
    if (st != LIMN_OK) return st;
    const char *text = row ? (const char *)sqlite3_column_text(q, 0) : NULL;
    if (!text || strcmp(text, "ok") != 0)
        st = limn_fail(err, LIMN_E_FORMAT, "%s: is damaged: %s", path, text ? text : "no answer");
    sqlite3_reset(q);
    return st;
}

static limn_status take_lock(sqlite_store *s, limn_err *err) {
    limn_buf path;
    limn_buf_init(&path, 8192);
    limn_buf_addf(&path, "%s.lock", s->path);
    limn_status st = LIMN_OK;
    s->lock_fd = open(limn_buf_text(&path), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (s->lock_fd < 0)
        st = limn_fail(err, LIMN_E_UNAVAILABLE, "%s: cannot be opened: %s", limn_buf_text(&path),
                       strerror(errno));
    else if (fcntl(s->lock_fd, F_OFD_SETLK, &lock) != 0)
        st = errno == EAGAIN || errno == EACCES
                 ? limn_fail(err, LIMN_E_CONFLICT, "%s: another limn is using it", s->path)
                 : limn_fail(err, LIMN_E_UNAVAILABLE, "%s: cannot be locked: %s", s->path,
                             strerror(errno));
    limn_buf_deinit(&path);
    return st;
}

static void sqlite_close(limn_store *store) {
    sqlite_store *s = (sqlite_store *)store;
    for (int i = 0; i < SQLITE_READERS; i++) conn_close(&s->reader[i]);
    conn_close(&s->writer);
    for (int i = 0; i < s->locks; i++) pthread_mutex_destroy(&s->busy[i]);
    if (s->lock_fd >= 0) close(s->lock_fd);
    limn_mem_free(s->path);
    limn_mem_free(s->vfs);
    limn_mem_free(s);
}

/* Prompts are nobody else's business: the file is made with mode 0600, which SQLite then gives to
 * the files beside it. */
static limn_status make_file(const sqlite_store *s, limn_err *err) {
    int fd = open(s->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return limn_fail(err, LIMN_E_UNAVAILABLE, "%s: cannot be opened: %s", s->path,
                         strerror(errno));
    close(fd);
    return LIMN_OK;
}

/* ---- transactions ---- */
/* After a failed fsync nobody knows what is on the disk: look again through a new connection. */
static limn_status sqlite_reopen(limn_store *store, limn_err *err) {
    sqlite_store *s = (sqlite_store *)store;
    if (s->writer.db && !s->writer.broken) return LIMN_OK;
    conn_close(&s->writer);
    s->relaxed = false;
    limn_status st = conn_open(&s->writer, s, true, err);
    if (st == LIMN_OK) st = quick_check(&s->writer, s->path, "PRAGMA quick_check(1)", err);
    if (st != LIMN_OK) conn_close(&s->writer);
    return st;
}

static limn_status sqlite_begin(limn_store *store, bool durable, limn_err *err) {
    sqlite_store *s = (sqlite_store *)store;
    limn_status st = sqlite_reopen(store, err);
    if (st != LIMN_OK) return LIMN_E_UNAVAILABLE;
    if (s->relaxed == durable) {
        st = conn_exec(&s->writer,
                       durable ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL",
                       "choose when to wait for the disk", err);
        if (st != LIMN_OK) return st;
        s->relaxed = !durable;
    }
    return limn_sqlite_run(&s->writer, err, NULL, "BEGIN IMMEDIATE", "");
}

/* SQLite undoes a whole transaction by itself after some errors; what follows must not become one
 * of its own. */
static limn_status need_transaction(sqlite_conn *c, limn_err *err) {
    if (c->db && !sqlite3_get_autocommit(c->db)) return LIMN_OK;
    return limn_fail(err, LIMN_E_UNAVAILABLE, "the job store lost a transaction");
}

static limn_status sqlite_mark(limn_store *store, limn_err *err) {
    sqlite_conn *c = &((sqlite_store *)store)->writer;
    limn_status st = need_transaction(c, err);
    return st == LIMN_OK ? limn_sqlite_run(c, err, NULL, "SAVEPOINT one", "") : st;
}

static void sqlite_undo(limn_store *store) {
    limn_sqlite_run(&((sqlite_store *)store)->writer, NULL, NULL, "ROLLBACK TO one", "");
}

static limn_status sqlite_commit(limn_store *store, limn_err *err) {
    sqlite_conn *c = &((sqlite_store *)store)->writer;
    limn_status st = need_transaction(c, err);
    return st == LIMN_OK ? limn_sqlite_run(c, err, NULL, "COMMIT", "") : st;
}

static void sqlite_rollback(limn_store *store) {
    sqlite_store *s = (sqlite_store *)store;
    if (s->writer.db && !sqlite3_get_autocommit(s->writer.db))
        limn_sqlite_run(&s->writer, NULL, NULL, "ROLLBACK", "");
}

/* ---- writes ---- */
static limn_status write_log(sqlite_conn *c, int64_t seq, int64_t at_ms, limn_job_state state,
                             int64_t epoch, limn_err *err) {
    return limn_sqlite_run(c, err, NULL,
                           "INSERT INTO log (job, at_ms, state, epoch) VALUES (?, ?, ?, ?)", "iiii",
                           seq, at_ms, (int64_t)state, epoch);
}

static limn_status add_artifact(sqlite_conn *c, int64_t seq, const limn_artifact *a,
                                limn_err *err) {
    return limn_sqlite_run(
        c, err, NULL,
        "INSERT INTO artifact (job, idx, role, sha, mime, width, height, bytes, recipe, text)"
        " SELECT ?1, coalesce(max(idx) + 1, 0), ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9"
        " FROM artifact WHERE job = ?1",
        "iittiiitt", seq, (int64_t)a->role, a->sha, a->mime, (int64_t)a->width, (int64_t)a->height,
        a->bytes, a->recipe, a->text);
}

static limn_status write_tags(sqlite_conn *c, int64_t seq, const char *const *tags, int n,
                              limn_err *err) {
    limn_status st = limn_sqlite_run(c, err, NULL, "DELETE FROM tag WHERE job = ?", "i", seq);
    for (int i = 0; i < n && st == LIMN_OK; i++)
        st = limn_sqlite_run(c, err, NULL, "INSERT OR IGNORE INTO tag (job, tag) VALUES (?, ?)",
                             "it", seq, tags[i]);
    return st;
}

static limn_status insert_row(sqlite_conn *c, const limn_job *j, limn_err *err) {
    static const char sql[] =
        "INSERT INTO job (id, kind, state, owner, source, key, parent, priority, keep,"
        " preview_every, model, seed, words, title, request, request_hash, work, images,"
        " created_ms, started_ms, finished_ms, attempt, max_attempts, epoch, worker,"
        " lease_until_ms, cancel_requested, error, error_text, lane, trace)"
        " VALUES (?, ?, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, 0, ?, 0, '', 0,"
        " 0, 0, '', ?, ?)";
    sqlite3_stmt *q;
    bool row;
    limn_status st = limn_sqlite_query(
        c, &q, err, sql,
        "tittttiiititttt"
        "diiiit",
        j->id, (int64_t)j->kind, j->owner, j->source, j->key, j->parent, (int64_t)j->priority,
        (int64_t)j->keep, (int64_t)j->preview_every, j->model, j->seed, j->words, j->title,
        j->request, j->request_hash, j->work, (int64_t)j->images, j->created_ms,
        (int64_t)j->max_attempts, (int64_t)j->lane, j->trace);
    if (st == LIMN_OK && !j->has_seed) sqlite3_bind_null(q, 11);
    return st == LIMN_OK ? limn_sqlite_step(c, q, &row, err) : st;
}

static limn_status sqlite_insert(limn_store *store, limn_job *j, limn_err *err) {
    sqlite_conn *c = &((sqlite_store *)store)->writer;
    limn_status st = LIMN_OK;
    LIMN_TRY(insert_row(c, j, err));
    j->rank = j->seq = sqlite3_last_insert_rowid(c->db);
    LIMN_TRY(limn_sqlite_run(c, err, NULL, "UPDATE job SET rank = seq WHERE seq = ?", "i", j->seq));
    LIMN_TRY(write_tags(c, j->seq, (const char *const *)j->tags, j->n_tags, err));
    for (int i = 0; i < j->n_artifacts; i++) {
        LIMN_TRY(add_artifact(c, j->seq, &j->artifacts[i], err));
        j->artifacts[i].index = i;
    }
    LIMN_TRY(write_log(c, j->seq, j->created_ms, LIMN_JOB_QUEUED, 0, err));
out:
    return st;
}

/* One number from a query; 0 when there is no row. */
static limn_status first_number(sqlite_conn *c, sqlite3_stmt *q, int64_t *a, int64_t *b,
                                limn_err *err) {
    bool row;
    limn_status st = limn_sqlite_step(c, q, &row, err);
    *a = 0;
    if (st != LIMN_OK || !row) return st;
    *a = sqlite3_column_int64(q, 0);
    if (b) *b = sqlite3_column_int64(q, 1);
    sqlite3_reset(q);
    return LIMN_OK;
}

static limn_status pick_waiting(sqlite_conn *c, limn_job_claim *claim, int64_t *seq,
                                limn_err *err) {
    sqlite3_stmt *q;
    int64_t head = 0, priority = 0, other = 0;
    limn_status st = LIMN_OK;
    claim->passed = false;
    LIMN_TRY(limn_sqlite_query(c, &q, err,
                               "SELECT seq, priority FROM job WHERE state = 0 AND lane = ?"
                               " ORDER BY priority DESC, rank, seq LIMIT 1",
                               "i", (int64_t)claim->lane));
    LIMN_TRY(first_number(c, q, &head, &priority, err));
    *seq = head;
    if (head == 0 || !claim->model) goto out;
    LIMN_TRY(limn_sqlite_query(
        c, &q, err,
        "SELECT seq, 0 FROM (SELECT seq, rank, model FROM job WHERE"
        " state = 0 AND lane = ? AND priority = ? ORDER BY rank, seq LIMIT ?)"
        " WHERE model = ? ORDER BY rank, seq LIMIT 1",
        "iiit", (int64_t)claim->lane, priority, (int64_t)claim->reach, claim->model));
    LIMN_TRY(first_number(c, q, &other, NULL, err));
    if (other != 0 && other != head) {
        *seq = other;
        claim->passed = true;
    }
out:
    return st;
}

static limn_status sqlite_claim(limn_store *store, limn_job **out, limn_job_claim *claim,
                                limn_err *err) {
    sqlite_conn *c = &((sqlite_store *)store)->writer;
    sqlite3_stmt *q;
    int64_t seq = 0;
    bool row;
    limn_status st = LIMN_OK;
    *out = NULL;
    LIMN_TRY(pick_waiting(c, claim, &seq, err));
    LIMN_CHECK(err, seq != 0, LIMN_E_NOT_FOUND, "no job waits");
    LIMN_TRY(limn_sqlite_run(c, err, NULL,
                             "UPDATE job SET state = 1, epoch = epoch + 1, attempt = attempt + 1,"
                             " worker = ?, started_ms = ?, lease_until_ms = ?"
                             " WHERE seq = ? AND state = 0",
                             "tiii", claim->worker, claim->now_ms, claim->lease_until_ms, seq));
    LIMN_TRY(limn_sqlite_query(c, &q, err, "SELECT " SQLITE_JOB_FULL " FROM job WHERE seq = ?", "i",
                               seq));
    LIMN_TRY(limn_sqlite_step(c, q, &row, err));
    st = limn_sqlite_job(out, q, err);
    sqlite3_reset(q);
    LIMN_TRY(st);
    LIMN_TRY(limn_sqlite_details(c, *out, SQLITE_FILES_LIVE, err));
    LIMN_TRY(write_log(c, seq, claim->now_ms, LIMN_JOB_RUNNING, (*out)->epoch, err));
out:
    if (st != LIMN_OK) limn_job_free(out);
    return st;
}

/* What stands in the way of a conditional write that changed nothing. */
static limn_status why_not(sqlite_conn *c, const char *id, limn_err *err) {
    sqlite3_stmt *q;
    bool row;
    limn_status st = limn_sqlite_query(c, &q, err, "SELECT state FROM job WHERE id = ?", "t", id);
    if (st == LIMN_OK) st = limn_sqlite_step(c, q, &row, err);
    if (st != LIMN_OK) return st;
    if (!row) return limn_fail(err, LIMN_E_NOT_FOUND, "there is no job %s", id);
    limn_job_state state = (limn_job_state)sqlite3_column_int(q, 0);
    sqlite3_reset(q);
    return limn_fail(err, LIMN_E_CONFLICT, "the job is %s%s", limn_job_state_word(state),
                     state == LIMN_JOB_RUNNING ? " elsewhere" : " already");
}

static limn_status seq_of(sqlite_conn *c, const char *id, int64_t *seq, int64_t *epoch,
                          limn_err *err) {
    sqlite3_stmt *q;
    limn_status st =
        limn_sqlite_query(c, &q, err, "SELECT seq, epoch FROM job WHERE id = ?", "t", id);
    if (st == LIMN_OK) st = first_number(c, q, seq, epoch, err);
    if (st == LIMN_OK && *seq == 0) st = limn_fail(err, LIMN_E_NOT_FOUND, "there is no job %s", id);
    return st;
}

static limn_status sqlite_change(limn_store *store, const limn_job_change *ch, limn_err *err) {
    sqlite_conn *c = &((sqlite_store *)store)->writer;
    int changed = 0;
    int64_t seq = 0, epoch = 0;
    limn_status st = LIMN_OK;
    bool final = limn_job_state_is_final(ch->to);
    LIMN_CHECK(err, limn_job_state_may(ch->from, ch->to), LIMN_E_INTERNAL,
               "a job cannot go from %s to %s", limn_job_state_word(ch->from),
               limn_job_state_word(ch->to));
    LIMN_TRY(limn_sqlite_run(
        c, err, &changed,
        "UPDATE job SET state = ?1, finished_ms = ?2, attempt = attempt + ?3, error = ?4,"
        " error_text = ?5, result = ?6, worker = '', lease_until_ms = 0"
        " WHERE id = ?7 AND state = ?8 AND (?9 = -1 OR epoch = ?9)",
        "iiiitttii", (int64_t)ch->to, final ? ch->now_ms : (int64_t)0, (int64_t)ch->attempt_add,
        (int64_t)ch->error, ch->error_text ? ch->error_text : "", ch->result, ch->id,
        (int64_t)ch->from, ch->epoch));
    if (changed == 0) return why_not(c, ch->id, err);
    LIMN_TRY(seq_of(c, ch->id, &seq, &epoch, err));
    for (int i = 0; i < ch->n_artifacts; i++)
        LIMN_TRY(add_artifact(c, seq, &ch->artifacts[i], err));
    LIMN_TRY(write_log(c, seq, ch->now_ms, ch->to, epoch, err));
out:
    return st;
}

static limn_status sqlite_renew(limn_store *store, const char *id, int64_t epoch, int64_t until_ms,
                                limn_err *err) {
    sqlite_conn *c = &((sqlite_store *)store)->writer;
    int changed = 0;
    limn_status st = limn_sqlite_run(c, err, &changed,
                                     "UPDATE job SET lease_until_ms = ? WHERE id = ? AND epoch = ?"
                                     " AND state = 1",
                                     "iti", until_ms, id, epoch);
    return st == LIMN_OK && changed == 0 ? why_not(c, id, err) : st;
}

static limn_status sqlite_request_cancel(limn_store *store, const char *id, limn_err *err) {
    sqlite_conn *c = &((sqlite_store *)store)->writer;
    int changed = 0;
    limn_status st =
        limn_sqlite_run(c, err, &changed,
                        "UPDATE job SET cancel_requested = 1 WHERE id = ? AND state = 1", "t", id);
    return st == LIMN_OK && changed == 0 ? why_not(c, id, err) : st;
}

static limn_status sqlite_set_tags(limn_store *store, const char *id, const char *const *tags,
                                   int n, limn_err *err) {
    sqlite_conn *c = &((sqlite_store *)store)->writer;
    int64_t seq, epoch;
    limn_status st = seq_of(c, id, &seq, &epoch, err);
    return st == LIMN_OK ? write_tags(c, seq, tags, n, err) : st;
}

static limn_status sqlite_remove(limn_store *store, const char *id, limn_err *err) {
    sqlite_conn *c = &((sqlite_store *)store)->writer;
    int changed = 0;
    limn_status st =
        limn_sqlite_run(c, err, &changed, "DELETE FROM job WHERE id = ? AND state >= 2", "t", id);
    return st == LIMN_OK && changed == 0 ? why_not(c, id, err) : st;
}

static limn_status sqlite_place(limn_store *store, const char *id, int priority, int64_t rank,
                                limn_err *err) {
    sqlite_conn *c = &((sqlite_store *)store)->writer;
    int changed = 0;
    limn_status st = limn_sqlite_run(
        c, err, &changed, "UPDATE job SET priority = ?, rank = ? WHERE id = ? AND state = 0", "iit",
        (int64_t)priority, rank, id);
    return st == LIMN_OK && changed == 0 ? why_not(c, id, err) : st;
}

static limn_status sqlite_set_deleted(limn_store *store, const char *id, int64_t at_ms,
                                      limn_err *err) {
    sqlite_conn *c = &((sqlite_store *)store)->writer;
    int changed = 0;
    limn_status st = limn_sqlite_run(
        c, err, &changed,
        "UPDATE job SET deleted_ms = ?1, key = CASE WHEN ?1 > 0 THEN NULL ELSE key END"
        " WHERE id = ?2 AND state >= 2 AND (deleted_ms > 0) = (?1 = 0)",
        "it", at_ms, id);
    return st == LIMN_OK && changed == 0 ? why_not(c, id, err) : st;
}

static limn_status sqlite_set_artifact_deleted(limn_store *store, const char *id, const char *sha,
                                               int64_t at_ms, limn_err *err) {
    sqlite_conn *c = &((sqlite_store *)store)->writer;
    int changed = 0;
    int64_t seq = 0;
    limn_status st = seq_of(c, id, &seq, NULL, err);
    if (st != LIMN_OK) return st;
    if (at_ms < 0)
        st = limn_sqlite_run(c, err, &changed,
                             "DELETE FROM artifact WHERE job = ? AND sha = ? AND role <> ?", "iti",
                             seq, sha, (int64_t)LIMN_ARTIFACT_INPUT);
    else
        st = limn_sqlite_run(c, err, &changed,
                             "UPDATE artifact SET deleted_ms = ?1 WHERE job = ?2 AND sha = ?3"
                             " AND role <> ?4 AND (deleted_ms > 0) = (?1 = 0)",
                             "iiti", at_ms, seq, sha, (int64_t)LIMN_ARTIFACT_INPUT);
    if (st == LIMN_OK && changed == 0)
        st = limn_fail(err, LIMN_E_NOT_FOUND, "the job has no such picture");
    return st;
}

static limn_status sqlite_drop_deleted(limn_store *store, int64_t before_ms,
                                       char (*sha)[LIMN_SHA_LEN + 1], int room, int *n,
                                       limn_err *err) {
    sqlite_conn *c = &((sqlite_store *)store)->writer;
    sqlite3_stmt *q;
    bool row;
    *n = 0;
    limn_status st =
        limn_sqlite_query(c, &q, err,
                          "DELETE FROM artifact WHERE rowid IN (SELECT rowid FROM artifact WHERE"
                          " deleted_ms > 0 AND deleted_ms < ? LIMIT ?) RETURNING sha",
                          "ii", before_ms, (int64_t)room);
    while (st == LIMN_OK && (st = limn_sqlite_step(c, q, &row, err)) == LIMN_OK && row)
        if (*n < room)
            snprintf(sha[(*n)++], LIMN_SHA_LEN + 1, "%s", (const char *)sqlite3_column_text(q, 0));
    return st;
}

static limn_status sqlite_hold(limn_store *store, const limn_artifact *a, const char *owner,
                               int64_t until_ms, limn_err *err) {
    return limn_sqlite_run(&((sqlite_store *)store)->writer, err, NULL,
                           "INSERT OR REPLACE INTO hold (sha, owner, until_ms, mime, width, height,"
                           " bytes) VALUES (?, ?, ?, ?, ?, ?, ?)",
                           "ttitiii", a->sha, owner, until_ms, a->mime, (int64_t)a->width,
                           (int64_t)a->height, a->bytes);
}

static limn_status sqlite_drop_holds(limn_store *store, int64_t now_ms, int *dropped,
                                     limn_err *err) {
    return limn_sqlite_run(&((sqlite_store *)store)->writer, err, dropped,
                           "DELETE FROM hold WHERE until_ms < ?", "i", now_ms);
}

static limn_status sqlite_keep(limn_store *store, const char *sha, const void *data, size_t size,
                               limn_err *err) {
    return limn_sqlite_run(&((sqlite_store *)store)->writer, err, NULL,
                           "INSERT OR REPLACE INTO kept (sha, data) VALUES (?, ?)", "tb", sha, data,
                           size);
}

static limn_status sqlite_drop_kept(limn_store *store, const char *sha, limn_err *err) {
    return limn_sqlite_run(&((sqlite_store *)store)->writer, err, NULL,
                           "DELETE FROM kept WHERE sha = ?", "t", sha);
}

static const limn_store_ops sqlite_ops = {
    .name = "sqlite",
    .close = sqlite_close,
    .begin = sqlite_begin,
    .mark = sqlite_mark,
    .undo = sqlite_undo,
    .commit = sqlite_commit,
    .rollback = sqlite_rollback,
    .reopen = sqlite_reopen,
    .insert = sqlite_insert,
    .claim = sqlite_claim,
    .change = sqlite_change,
    .renew = sqlite_renew,
    .request_cancel = sqlite_request_cancel,
    .set_tags = sqlite_set_tags,
    .place = sqlite_place,
    .set_deleted = sqlite_set_deleted,
    .set_artifact_deleted = sqlite_set_artifact_deleted,
    .drop_deleted = sqlite_drop_deleted,
    .remove = sqlite_remove,
    .hold = sqlite_hold,
    .drop_holds = sqlite_drop_holds,
    .keep = sqlite_keep,
    .drop_kept = sqlite_drop_kept,
    .get = limn_sqlite_get,
    .find_key = limn_sqlite_find_key,
    .list = limn_sqlite_list,
    .stale = limn_sqlite_stale,
    .counts = limn_sqlite_counts,
    .done_since = limn_sqlite_done_since,
    .artifact = limn_sqlite_artifact,
    .is_used = limn_sqlite_is_used,
    .next_kept = limn_sqlite_next_kept,
    .check = limn_sqlite_check,
};

limn_status limn_store_sqlite_open(limn_store **out, const limn_sqlite_options *opt,
                                   limn_err *err) {
    *out = NULL;
    limn_status st = LIMN_OK;
    sqlite_store *s = limn_mem_calloc(1, sizeof *s);
    if (!s) return limn_fail(err, LIMN_E_NOMEM, "no memory for the job store");
    s->head.ops = &sqlite_ops;
    s->lock_fd = -1;
    s->read_only = opt->read_only;
    s->path = limn_mem_strdup(opt->path);
    LIMN_CHECK(err, s->path, LIMN_E_NOMEM, "no memory for the job store");
    LIMN_TRY(limn_job_set_text(&s->vfs, opt->vfs, err));
    for (; s->locks < SQLITE_READERS; s->locks++)
        LIMN_CHECK(err, pthread_mutex_init(&s->busy[s->locks], NULL) == 0, LIMN_E_NOMEM,
                   "no memory for the job store");
    if (!s->read_only) {
        LIMN_TRY(take_lock(s, err));
        LIMN_TRY(make_file(s, err));
        LIMN_TRY(conn_open(&s->writer, s, true, err));
        LIMN_TRY(quick_check(&s->writer, s->path, "PRAGMA quick_check(1)", err));
        LIMN_TRY(migrate(s, err));
    }
    for (int i = 0; i < SQLITE_READERS; i++) LIMN_TRY(conn_open(&s->reader[i], s, false, err));
    *out = &s->head;
    return LIMN_OK;
out:
    sqlite_close(&s->head);
    return st;
}

void limn_store_close(limn_store **s) {
    if (!s || !*s) return;
    (*s)->ops->close(*s);
    *s = NULL;
}
