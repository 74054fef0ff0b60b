/* SPDX-License-Identifier: MIT */
/* Jobs in SQLite: the reading half of the vtable, each call on one of the reading connections. */
#include <stdio.h>
#include <string.h>

#include "job/store_sqlite.h"

/* ---- readers ---- */
/* A free connection, or a turn at the first one. */
static int reader_take(sqlite_store *s) {
    for (int i = 0; i < SQLITE_READERS; i++)
        if (pthread_mutex_trylock(&s->busy[i]) == 0) return i;
    pthread_mutex_lock(&s->busy[0]);
    return 0;
}

static void reader_give(sqlite_store *s, int i) {
    pthread_mutex_unlock(&s->busy[i]);
}

/* ---- rows ---- */
static limn_status take_text(char **field, sqlite3_stmt *row, int column, limn_err *err) {
    return limn_job_set_text(field, (const char *)sqlite3_column_text(row, column), err);
}

static void copy_column(char *out, size_t size, sqlite3_stmt *row, int column) {
    const char *text = (const char *)sqlite3_column_text(row, column);
    snprintf(out, size, "%s", text ? text : "");
}

limn_status limn_sqlite_job(limn_job **out, sqlite3_stmt *row, limn_err *err) {
    limn_status st = limn_job_new(out, err);
    if (st != LIMN_OK) return st;
    limn_job *j = *out;
    int c = 0;
    j->seq = sqlite3_column_int64(row, c++);
    copy_column(j->id, sizeof j->id, row, c++);
    j->rank = sqlite3_column_int64(row, c++);
    j->kind = (limn_job_kind)sqlite3_column_int(row, c++);
    j->lane = (limn_job_lane)sqlite3_column_int(row, c++);
    j->state = (limn_job_state)sqlite3_column_int(row, c++);
    LIMN_TRY(take_text(&j->owner, row, c++, err));
    LIMN_TRY(take_text(&j->source, row, c++, err));
    LIMN_TRY(take_text(&j->key, row, c++, err));
    LIMN_TRY(take_text(&j->parent, row, c++, err));
    LIMN_TRY(take_text(&j->trace, row, c++, err));
    j->priority = sqlite3_column_int(row, c++);
    j->keep = sqlite3_column_int(row, c++);
    j->preview_every = sqlite3_column_int(row, c++);
    LIMN_TRY(take_text(&j->model, row, c++, err));
    j->has_seed = sqlite3_column_type(row, c) != SQLITE_NULL;
    j->seed = sqlite3_column_int64(row, c++);
    LIMN_TRY(take_text(&j->words, row, c++, err));
    LIMN_TRY(take_text(&j->title, row, c++, err));
    copy_column(j->request_hash, sizeof j->request_hash, row, c++);
    j->work = sqlite3_column_double(row, c++);
    j->images = sqlite3_column_int(row, c++);
    j->created_ms = sqlite3_column_int64(row, c++);
    j->started_ms = sqlite3_column_int64(row, c++);
    j->finished_ms = sqlite3_column_int64(row, c++);
    j->deleted_ms = sqlite3_column_int64(row, c++);
    j->attempt = sqlite3_column_int(row, c++);
    j->max_attempts = sqlite3_column_int(row, c++);
    j->epoch = sqlite3_column_int64(row, c++);
    LIMN_TRY(take_text(&j->worker, row, c++, err));
    j->lease_until_ms = sqlite3_column_int64(row, c++);
    j->cancel_requested = sqlite3_column_int(row, c++);
    j->error = (limn_status)sqlite3_column_int(row, c++);
    LIMN_TRY(take_text(&j->error_text, row, c++, err));
    LIMN_TRY(take_text(&j->request, row, c++, err));
    LIMN_TRY(take_text(&j->result, row, c++, err));
    return LIMN_OK;
out:
    limn_job_free(out);
    return st;
}

/* idx, role, sha, mime, width, height, bytes, recipe, text, deleted_ms; texts are borrowed from the
 * row. */
static limn_artifact artifact_of(sqlite3_stmt *row) {
    limn_artifact a = {
        .index = sqlite3_column_int(row, 0),
        .role = (limn_artifact_role)sqlite3_column_int(row, 1),
        .width = sqlite3_column_int(row, 4),
        .height = sqlite3_column_int(row, 5),
        .bytes = sqlite3_column_int64(row, 6),
        .recipe = (char *)(uintptr_t)sqlite3_column_text(row, 7),
        .text = (char *)(uintptr_t)sqlite3_column_text(row, 8),
        .deleted_ms = sqlite3_column_int64(row, 9),
    };
    copy_column(a.sha, sizeof a.sha, row, 2);
    copy_column(a.mime, sizeof a.mime, row, 3);
    return a;
}

static limn_status read_tags(sqlite_conn *c, limn_job *j, limn_err *err) {
    const char *tags[LIMN_JOB_TAGS_MAX];
    char *copies[LIMN_JOB_TAGS_MAX] = {NULL};
    int n = 0;
    sqlite3_stmt *q;
    bool row;
    limn_status st =
        limn_sqlite_query(c, &q, err, "SELECT tag FROM tag WHERE job = ? LIMIT 16", "i", j->seq);
    while (st == LIMN_OK && (st = limn_sqlite_step(c, q, &row, err)) == LIMN_OK && row) {
        st = take_text(&copies[n], q, 0, err);
        tags[n] = copies[n];
        n++;
    }
    if (st == LIMN_OK && n > 0) st = limn_job_set_tags(j, tags, n, err);
    for (int i = 0; i < n; i++) limn_mem_free(copies[i]);
    return st;
}

limn_status limn_sqlite_details(sqlite_conn *c, limn_job *j, sqlite_files files, limn_err *err) {
    sqlite3_stmt *q;
    bool row;
    limn_status st = read_tags(c, j, err);
    if (st != LIMN_OK || files == SQLITE_FILES_NONE) return st;
    st = limn_sqlite_query(
        c, &q, err,
        "SELECT idx, role, sha, mime, width, height, bytes, recipe, text,"
        " deleted_ms FROM artifact WHERE job = ? AND (deleted_ms = 0 OR ?) ORDER BY idx",
        "ii", j->seq, (int64_t)(files == SQLITE_FILES_ALL));
    while (st == LIMN_OK && (st = limn_sqlite_step(c, q, &row, err)) == LIMN_OK && row) {
        limn_artifact a = artifact_of(q);
        st = limn_job_add_artifact(j, &a, err);
    }
    return st;
}

/* The job of a query's only row. */
static limn_status read_one(sqlite_conn *c, sqlite3_stmt *q, limn_job **out, const char *what,
                            limn_err *err) {
    bool row;
    limn_status st = limn_sqlite_step(c, q, &row, err);
    if (st != LIMN_OK) return st;
    if (!row) return limn_fail(err, LIMN_E_NOT_FOUND, "there is no job %s", what);
    st = limn_sqlite_job(out, q, err);
    sqlite3_reset(q);
    if (st == LIMN_OK) st = limn_sqlite_details(c, *out, SQLITE_FILES_ALL, err);
    if (st != LIMN_OK) limn_job_free(out);
    return st;
}

limn_status limn_sqlite_get(limn_store *store, limn_job **out, const char *id, limn_err *err) {
    sqlite_store *s = (sqlite_store *)store;
    sqlite3_stmt *q;
    *out = NULL;
    int r = reader_take(s);
    sqlite_conn *c = &s->reader[r];
    limn_status st =
        limn_sqlite_query(c, &q, err, "SELECT " SQLITE_JOB_FULL " FROM job WHERE id = ?", "t", id);
    if (st == LIMN_OK) st = read_one(c, q, out, id, err);
    reader_give(s, r);
    return st;
}

limn_status limn_sqlite_find_key(limn_store *store, limn_job **out, const char *owner,
                                 const char *key, limn_err *err) {
    sqlite_store *s = (sqlite_store *)store;
    sqlite3_stmt *q;
    *out = NULL;
    int r = reader_take(s);
    sqlite_conn *c = &s->reader[r];
    limn_status st = limn_sqlite_query(
        c, &q, err, "SELECT " SQLITE_JOB_FULL " FROM job WHERE owner = ? AND key = ?", "tt", owner,
        key);
    if (st == LIMN_OK) st = read_one(c, q, out, "with this key", err);
    reader_give(s, r);
    return st;
}

/* ---- lists ---- */
void limn_job_page_deinit(limn_job_page *page) {
    for (int i = 0; i < page->count; i++) limn_job_free(&page->jobs[i]);
    limn_mem_free(page->jobs);
    *page = (limn_job_page){0};
}

/* A WHERE clause and its values, in order. */
typedef struct filter {
    limn_buf sql;
    struct {
        const char *text; /* borrowed; NULL: a number */
        size_t len;
        int64_t number;
    } value[80];
    int n;
    bool failed;
} filter;

static void filter_number(filter *f, const char *sql, int64_t v) {
    limn_buf_adds(&f->sql, sql);
    if (f->n == 80)
        f->failed = true;
    else
        f->value[f->n++].number = v;
}

static void filter_text(filter *f, const char *sql, const char *text, size_t len) {
    if (f->n == 80) {
        f->failed = true;
        return;
    }
    f->value[f->n].text = text;
    f->value[f->n].len = len;
    limn_buf_adds(&f->sql, sql);
    f->n++;
}

static void filter_set(filter *f, const char *column, unsigned bits, int count) {
    const char *comma = "";
    limn_buf_addf(&f->sql, " AND %s IN (", column);
    for (int i = 0; i < count; i++)
        if (bits >> i & 1) {
            limn_buf_addf(&f->sql, "%s%d", comma, i);
            comma = ",";
        }
    limn_buf_addc(&f->sql, ')');
}

/* Words and times are asked of their indices alone, a twentieth of the table; the rows come in the
 * order of seq all the same. */
static void filter_words(filter *f, const char *words, bool deleted) {
    limn_buf_addf(&f->sql,
                  " AND seq IN (SELECT seq FROM job INDEXED BY job_words WHERE deleted_ms %s 0",
                  deleted ? ">" : "=");
    for (const char *p = words; *p && !f->failed;) {
        size_t len = strcspn(p, " \t\r\n");
        if (len > 0) filter_text(f, " AND instr(words, ?) > 0", p, len);
        p += len;
        p += strspn(p, " \t\r\n");
    }
    limn_buf_addc(&f->sql, ')');
}

static void filter_times(filter *f, int64_t from_ms, int64_t to_ms) {
    filter_number(f,
                  " AND seq IN (SELECT seq FROM job INDEXED BY job_created WHERE created_ms >= ?",
                  from_ms);
    filter_number(f, " AND created_ms <= ?)", to_ms ? to_ms : INT64_MAX);
}

static void filter_build(filter *f, const limn_job_query *q, int limit) {
    limn_buf_adds(&f->sql, "SELECT " SQLITE_JOB_LIGHT " FROM job WHERE deleted_ms ");
    limn_buf_adds(&f->sql, q->deleted ? "> 0" : "= 0");
    if (q->owner) filter_text(f, " AND owner = ?", q->owner, strlen(q->owner));
    if (q->states) filter_set(f, "state", q->states, LIMN_JOB_STATES);
    if (q->kinds) filter_set(f, "kind", q->kinds, LIMN_JOB_KINDS);
    if (q->words) filter_words(f, q->words, q->deleted);
    if (q->model) filter_text(f, " AND model = ?", q->model, strlen(q->model));
    if (q->seed) filter_number(f, " AND seed = ?", *q->seed);
    for (int i = 0; i < q->n_tags; i++)
        filter_text(f, " AND seq IN (SELECT job FROM tag WHERE tag = ?)", q->tags[i],
                    strlen(q->tags[i]));
    if (q->source) filter_text(f, " AND source = ?", q->source, strlen(q->source));
    if (q->parent) filter_text(f, " AND parent = ?", q->parent, strlen(q->parent));
    if (q->top_level) limn_buf_adds(&f->sql, " AND parent IS NULL");
    if (q->from_ms || q->to_ms) filter_times(f, q->from_ms, q->to_ms);
    if (q->cursor) filter_number(f, q->oldest_first ? " AND seq > ?" : " AND seq < ?", q->cursor);
    limn_buf_adds(&f->sql, q->oldest_first ? " ORDER BY seq" : " ORDER BY seq DESC");
    filter_number(f, " LIMIT ?", limit);
}

static limn_status filter_prepare(sqlite_conn *c, sqlite3_stmt **out, filter *f, limn_err *err) {
    if (f->failed || f->sql.failed)
        return limn_fail(err, LIMN_E_LIMIT, "the search has too many words or tags");
    if (sqlite3_prepare_v2(c->db, limn_buf_text(&f->sql), -1, out, NULL) != SQLITE_OK)
        return limn_sqlite_failed(c, err, "prepare a search");
    for (int i = 0; i < f->n; i++) {
        int rc = f->value[i].text ? sqlite3_bind_text(*out, i + 1, f->value[i].text,
                                                      (int)f->value[i].len, SQLITE_TRANSIENT)
                                  : sqlite3_bind_int64(*out, i + 1, f->value[i].number);
        if (rc != SQLITE_OK) return limn_sqlite_failed(c, err, "bind a search");
    }
    return LIMN_OK;
}

/* Up to `limit` rows into the page; one more sets its cursor. */
static limn_status fill_page(sqlite_conn *c, sqlite3_stmt *q, limn_job_page *out, int limit,
                             sqlite_files files, limn_err *err) {
    bool row;
    limn_status st = LIMN_OK;
    out->jobs = limn_mem_calloc((size_t)limit, sizeof(limn_job *));
    if (!out->jobs) return limn_fail(err, LIMN_E_NOMEM, "no memory for a list of jobs");
    while ((st = limn_sqlite_step(c, q, &row, err)) == LIMN_OK && row) {
        if (out->count == limit) {
            out->next = out->jobs[limit - 1]->seq;
            sqlite3_reset(q);
            break;
        }
        st = limn_sqlite_job(&out->jobs[out->count], q, err);
        if (st != LIMN_OK) break;
        out->count++;
    }
    for (int i = 0; i < out->count && st == LIMN_OK; i++)
        st = limn_sqlite_details(c, out->jobs[i], files, err);
    return st;
}

limn_status limn_sqlite_list(limn_store *store, limn_job_page *out, const limn_job_query *query,
                             limn_err *err) {
    sqlite_store *s = (sqlite_store *)store;
    *out = (limn_job_page){0};
    int limit = query->limit <= 0 ? 50 : query->limit > 500 ? 500 : query->limit;
    sqlite3_stmt *q = NULL;
    filter f = {0};
    limn_buf_init(&f.sql, 1 << 16);
    filter_build(&f, query, limit + 1);
    int r = reader_take(s);
    limn_status st = filter_prepare(&s->reader[r], &q, &f, err);
    sqlite_files files = query->with_artifacts ? SQLITE_FILES_LIVE : SQLITE_FILES_NONE;
    if (st == LIMN_OK) st = fill_page(&s->reader[r], q, out, limit, files, err);
    sqlite3_finalize(q);
    reader_give(s, r);
    limn_buf_deinit(&f.sql);
    if (st != LIMN_OK) limn_job_page_deinit(out);
    return st;
}

limn_status limn_sqlite_stale(limn_store *store, limn_job_page *out, const limn_retention *how,
                              limn_err *err) {
    static const char sql[] =
        "SELECT " SQLITE_JOB_LIGHT " FROM job WHERE state >= 2"
        " AND ((deleted_ms > 0 AND deleted_ms < ?5)"
        " OR ((finished_ms < ?1 OR (?2 > 0 AND seq <= (SELECT seq FROM job WHERE state >= 2"
        " ORDER BY seq DESC LIMIT 1 OFFSET ?2)))"
        " AND (?3 IS NULL OR NOT EXISTS (SELECT 1 FROM tag WHERE job = seq AND tag = ?3))))"
        " ORDER BY seq LIMIT ?4";
    sqlite_store *s = (sqlite_store *)store;
    *out = (limn_job_page){0};
    int limit = how->limit < 1 ? 1 : how->limit > 500 ? 500 : how->limit;
    sqlite3_stmt *q;
    int r = reader_take(s);
    sqlite_conn *c = &s->reader[r];
    limn_status st = limn_sqlite_query(c, &q, err, sql, "iitii", how->before_ms, how->max_jobs,
                                       how->spare_tag, (int64_t)limit, how->deleted_ms);
    if (st == LIMN_OK) st = fill_page(c, q, out, limit, SQLITE_FILES_ALL, err);
    reader_give(s, r);
    if (st != LIMN_OK) limn_job_page_deinit(out);
    return st;
}

/* ---- numbers ---- */
static limn_status count_rows(sqlite_conn *c, limn_job_counts *out, const char *owner,
                              limn_err *err) {
    sqlite3_stmt *q;
    bool row;
    limn_status st = limn_sqlite_query(c, &q, err,
                                       "SELECT state, count(*) FROM job"
                                       " WHERE deleted_ms = 0 AND (?1 IS NULL OR owner = ?1)"
                                       " GROUP BY state",
                                       "t", owner);
    while (st == LIMN_OK && (st = limn_sqlite_step(c, q, &row, err)) == LIMN_OK && row) {
        int state = sqlite3_column_int(q, 0);
        if (state >= 0 && state < LIMN_JOB_STATES) out->state[state] = sqlite3_column_int64(q, 1);
    }
    if (st == LIMN_OK)
        st = limn_sqlite_query(c, &q, err,
                               "SELECT kind, count(*), min(created_ms) FROM job WHERE state = 0"
                               " AND (?1 IS NULL OR owner = ?1) GROUP BY kind",
                               "t", owner);
    while (st == LIMN_OK && (st = limn_sqlite_step(c, q, &row, err)) == LIMN_OK && row) {
        int kind = sqlite3_column_int(q, 0);
        int64_t oldest = sqlite3_column_int64(q, 2);
        if (kind < 0 || kind >= LIMN_JOB_KINDS) continue;
        out->queued_kind[kind] = sqlite3_column_int64(q, 1);
        if (out->oldest_queued_ms == 0 || oldest < out->oldest_queued_ms)
            out->oldest_queued_ms = oldest;
    }
    return st;
}

limn_status limn_sqlite_counts(limn_store *store, limn_job_counts *out, const char *owner,
                               limn_err *err) {
    sqlite_store *s = (sqlite_store *)store;
    *out = (limn_job_counts){0};
    int r = reader_take(s);
    limn_status st = count_rows(&s->reader[r], out, owner, err);
    reader_give(s, r);
    return st;
}

limn_status limn_sqlite_done_since(limn_store *store, limn_job_done out[LIMN_JOB_LANES],
                                   int64_t since_ms, limn_err *err) {
    /* The state is compared as the index job_ended has it, then for what it is. */
    static const char sql[] =
        "SELECT lane, count(*), sum(images), sum(finished_ms - started_ms) FROM job"
        " WHERE state >= 2 AND finished_ms >= ?1 AND state = 2 AND kind <= ?2 GROUP BY lane";
    sqlite_store *s = (sqlite_store *)store;
    sqlite3_stmt *q;
    bool row;
    int r = reader_take(s);
    sqlite_conn *c = &s->reader[r];
    for (int i = 0; i < LIMN_JOB_LANES; i++) out[i] = (limn_job_done){0};
    limn_status st = limn_sqlite_query(c, &q, err, sql, "ii", since_ms, (int64_t)LIMN_JOB_GRID);
    while (st == LIMN_OK && (st = limn_sqlite_step(c, q, &row, err)) == LIMN_OK && row) {
        int lane = sqlite3_column_int(q, 0);
        if (lane < 0 || lane >= LIMN_JOB_LANES) continue;
        out[lane] = (limn_job_done){.jobs = sqlite3_column_int64(q, 1),
                                    .images = sqlite3_column_int64(q, 2),
                                    .busy_ms = sqlite3_column_int64(q, 3)};
    }
    reader_give(s, r);
    return st;
}

/* ---- artifacts ---- */
limn_status limn_sqlite_artifact(limn_store *store, limn_artifact *out, const char *owner,
                                 const char *sha, limn_err *err) {
    /* What a job drew knows more (its recipe) than what a job was given, or what was uploaded. */
    static const char sql[] =
        "SELECT idx, role, sha, mime, artifact.width, artifact.height, bytes, recipe, text, 0"
        " FROM artifact JOIN job ON job.seq = artifact.job"
        " WHERE sha = ?1 AND (?2 IS NULL OR owner = ?2)"
        " AND artifact.deleted_ms = 0 AND job.deleted_ms = 0"
        " ORDER BY recipe IS NULL, job.seq LIMIT 1";
    static const char held[] = "SELECT 0, 1, sha, mime, width, height, bytes, NULL, NULL, 0"
                               " FROM hold"
                               " WHERE sha = ?1 AND (?2 IS NULL OR owner = ?2) LIMIT 1";
    sqlite_store *s = (sqlite_store *)store;
    sqlite3_stmt *q;
    bool row = false;
    *out = (limn_artifact){0};
    int r = reader_take(s);
    sqlite_conn *c = &s->reader[r];
    limn_status st = limn_sqlite_query(c, &q, err, sql, "tt", sha, owner);
    if (st == LIMN_OK) st = limn_sqlite_step(c, q, &row, err);
    if (st == LIMN_OK && !row) {
        st = limn_sqlite_query(c, &q, err, held, "tt", sha, owner);
        if (st == LIMN_OK) st = limn_sqlite_step(c, q, &row, err);
    }
    if (st == LIMN_OK && !row)
        st = limn_fail(err, LIMN_E_NOT_FOUND, "there is no artifact %s", sha);
    if (st == LIMN_OK) {
        *out = artifact_of(q);
        const char *recipe = out->recipe, *text = out->text;
        out->recipe = out->text = NULL;
        st = limn_job_set_text(&out->recipe, recipe, err);
        if (st == LIMN_OK) st = limn_job_set_text(&out->text, text, err);
        if (st != LIMN_OK) limn_artifact_deinit(out);
        sqlite3_reset(q);
    }
    reader_give(s, r);
    return st;
}

limn_status limn_sqlite_is_used(limn_store *store, const char *sha, bool *used, limn_err *err) {
    sqlite_store *s = (sqlite_store *)store;
    sqlite3_stmt *q;
    *used = true;
    int r = reader_take(s);
    sqlite_conn *c = &s->reader[r];
    limn_status st = limn_sqlite_query(c, &q, err,
                                       "SELECT 1 FROM artifact WHERE sha = ?1 UNION ALL"
                                       " SELECT 1 FROM hold WHERE sha = ?1 LIMIT 1",
                                       "t", sha);
    if (st == LIMN_OK) st = limn_sqlite_step(c, q, used, err);
    if (st == LIMN_OK && *used) sqlite3_reset(q);
    reader_give(s, r);
    return st;
}

limn_status limn_sqlite_next_kept(limn_store *store, char sha[LIMN_SHA_LEN + 1], void **data,
                                  size_t *size, limn_err *err) {
    sqlite_store *s = (sqlite_store *)store;
    sqlite3_stmt *q;
    bool row = false;
    *data = NULL;
    int r = reader_take(s);
    sqlite_conn *c = &s->reader[r];
    limn_status st =
        limn_sqlite_query(c, &q, err,
                          "SELECT sha, data FROM kept WHERE sha > ? AND length(sha) = 64"
                          " ORDER BY sha LIMIT 1",
                          "t", sha);
    if (st == LIMN_OK) st = limn_sqlite_step(c, q, &row, err);
    if (st == LIMN_OK && !row) st = limn_fail(err, LIMN_E_NOT_FOUND, "nothing more is kept");
    if (st == LIMN_OK) {
        *size = (size_t)sqlite3_column_bytes(q, 1);
        *data = limn_mem_alloc(*size + 1);
        if (*data) {
            memcpy(*data, sqlite3_column_blob(q, 1), *size);
            memcpy(sha, sqlite3_column_text(q, 0), LIMN_SHA_LEN);
        } else {
            st = limn_fail(err, LIMN_E_NOMEM, "no memory for an artifact");
        }
        sqlite3_reset(q);
    }
    reader_give(s, r);
    return st;
}

limn_status limn_sqlite_check(limn_store *store, limn_err *err) {
    sqlite_store *s = (sqlite_store *)store;
    sqlite3_stmt *q;
    bool row = false;
    int r = reader_take(s);
    sqlite_conn *c = &s->reader[r];
    limn_status st = limn_sqlite_query(c, &q, err, "PRAGMA integrity_check(1)", "");
    if (st == LIMN_OK) st = limn_sqlite_step(c, q, &row, err);
    if (st == LIMN_OK && row) {
        const char *text = (const char *)sqlite3_column_text(q, 0);
        if (!text || strcmp(text, "ok") != 0)
            st = limn_fail(err, LIMN_E_FORMAT, "%s: is damaged: %s", s->path, text ? text : "?");
        sqlite3_reset(q);
    }
    if (st == LIMN_OK) st = limn_sqlite_query(c, &q, err, "PRAGMA foreign_key_check", "");
    if (st == LIMN_OK) st = limn_sqlite_step(c, q, &row, err);
    if (st == LIMN_OK && row) {
        sqlite3_reset(q);
        st = limn_fail(err, LIMN_E_FORMAT, "%s: a row refers to a job that is not there", s->path);
    }
    reader_give(s, r);
    return st;
}
