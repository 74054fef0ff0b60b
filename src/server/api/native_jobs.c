/* SPDX-License-Identifier: MIT */
/* Native routes about jobs and their events (docs/API.md, 3 and 4). */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "server/api/api.h"

static void reply_one(limn_http_req *rq, const char *id) {
    limn_err err = {0};
    limn_job *job = NULL;
    if (limn_queue_get(rq->server->queue, limn_http_owner(rq), id, &job, &err) == LIMN_OK)
        limn_http_reply_json(rq, 200,
                             json_pack("{s:o}", "job", limn_job_to_json(rq->server, job, true)));
    else if (err.status == LIMN_E_NOT_FOUND)
        limn_http_fail(rq, LIMN_HTTP_NO_JOB, NULL, "there is no such job");
    else
        limn_api_fail(rq, &err);
    limn_job_free(&job);
}

/* An id in the path; answers when it is none. */
static const char *job_id(limn_http_req *rq) {
    if (limn_job_id_is_valid(rq->args[0])) return rq->args[0];
    limn_http_fail(rq, LIMN_HTTP_NO_JOB, NULL, "there is no such job");
    return NULL;
}

static void fail_job(limn_http_req *rq, const limn_err *err) {
    if (err->status == LIMN_E_NOT_FOUND)
        limn_http_fail(rq, LIMN_HTTP_NO_JOB, NULL, "there is no such job");
    else if (err->status == LIMN_E_CONFLICT)
        limn_http_fail(rq, LIMN_HTTP_JOB_FINISHED, NULL, "%s", err->text);
    else
        limn_api_fail(rq, err);
}

void native_job(limn_http_req *rq) {
    const char *id = job_id(rq);
    if (id) reply_one(rq, id);
}

void native_job_cancel(limn_http_req *rq) {
    limn_err err = {0};
    limn_job_state was;
    const char *id = job_id(rq);
    if (!id) return;
    if (limn_queue_cancel(rq->server->queue, limn_http_owner(rq), id, &was, &err) == LIMN_OK)
        reply_one(rq, id);
    else
        fail_job(rq, &err);
}

void native_jobs_cancel(limn_http_req *rq) {
    limn_err err = {0};
    int64_t count = 0;
    if (limn_queue_cancel_waiting(rq->server->queue, limn_http_owner(rq), &count, &err) == LIMN_OK)
        limn_http_reply_json(rq, 200, json_pack("{s:I}", "cancelled", (json_int_t)count));
    else
        limn_api_fail(rq, &err);
}

/* ---- deleting and undoing ---- */

static bool wants_forever(limn_http_req *rq) {
    const char *text = limn_http_query(rq, "forever");
    return text && (strcmp(text, "1") == 0 || strcmp(text, "true") == 0);
}

void native_job_remove(limn_http_req *rq) {
    limn_err err = {0};
    limn_queue *q = rq->server->queue;
    const char *id = job_id(rq), *owner = limn_http_owner(rq);
    if (!id) return;
    limn_status st = wants_forever(rq) ? limn_queue_remove(q, owner, id, &err)
                                       : limn_queue_delete(q, owner, id, &err);
    if (st == LIMN_OK)
        limn_http_reply_empty(rq, 204);
    else
        fail_job(rq, &err);
}

void native_job_restore(limn_http_req *rq) {
    limn_err err = {0};
    const char *id = job_id(rq);
    if (!id) return;
    if (limn_queue_restore(rq->server->queue, limn_http_owner(rq), id, &err) == LIMN_OK)
        reply_one(rq, id);
    else
        fail_job(rq, &err);
}

/* The job may be there without such a picture: then that is what is missing. */
static void fail_artifact(limn_http_req *rq, const char *id, const limn_err *err) {
    limn_job *job = NULL;
    bool there = err->status == LIMN_E_NOT_FOUND &&
                 limn_queue_get(rq->server->queue, limn_http_owner(rq), id, &job, NULL) == LIMN_OK;
    limn_job_free(&job);
    if (there)
        limn_http_fail(rq, LIMN_HTTP_NO_ARTIFACT, NULL, "the job has no such picture");
    else
        fail_job(rq, err);
}

void native_job_artifact_remove(limn_http_req *rq) {
    limn_err err = {0};
    const char *id = job_id(rq);
    if (!id) return;
    if (limn_queue_delete_artifact(rq->server->queue, limn_http_owner(rq), id, rq->args[1],
                                   wants_forever(rq), &err) == LIMN_OK)
        limn_http_reply_empty(rq, 204);
    else
        fail_artifact(rq, id, &err);
}

void native_job_artifact_restore(limn_http_req *rq) {
    limn_err err = {0};
    const char *id = job_id(rq);
    if (!id) return;
    if (limn_queue_restore_artifact(rq->server->queue, limn_http_owner(rq), id, rq->args[1],
                                    &err) == LIMN_OK)
        reply_one(rq, id);
    else
        fail_artifact(rq, id, &err);
}

/* ---- changing ---- */

void native_job_skip(limn_http_req *rq) {
    limn_err err = {0};
    const char *id = job_id(rq);
    if (!id) return;
    if (limn_queue_skip(rq->server->queue, limn_http_owner(rq), id, &err) == LIMN_OK)
        reply_one(rq, id);
    else if (err.status == LIMN_E_CONFLICT)
        limn_http_fail(rq, LIMN_HTTP_CONFLICT, NULL, "%s", err.text);
    else
        fail_job(rq, &err);
}

/* The members of a change; the rest of the work is one call per kind of change. */
typedef struct job_change {
    bool tags, place;
    int priority;
    int64_t position;
    limn_queue_move move;
    limn_submit read; /* tags */
} job_change;

static limn_status read_place(job_change *c, const char *name, const json_t *v, limn_err *err) {
    bool position = strcmp(name, "position") == 0;
    if (!json_is_integer(v) || (position && json_integer_value(v) < 0))
        return limn_fail(err, LIMN_E_VALUE, "/%s: must be a whole number%s", name,
                         position ? ", 0 or more" : "");
    json_int_t n = json_integer_value(v);
    c->place = true;
    if (position) {
        c->position = n;
        c->move.position = &c->position;
        return LIMN_OK;
    }
    c->priority = n < INT_MIN ? INT_MIN : n > INT_MAX ? INT_MAX : (int)n;
    c->move.priority = &c->priority;
    return LIMN_OK;
}

static limn_status read_tag_list(limn_http_req *rq, job_change *c, const json_t *tags,
                                 limn_err *err) {
    json_t *wrapped = json_pack("{s:{s:O}}", "job", "tags", tags), *whole = rq->json;
    if (!wrapped) return limn_fail(err, LIMN_E_NOMEM, "no memory for tags");
    rq->json = wrapped; /* lives as long as the request: the tags are borrowed from it */
    json_object_set_new(wrapped, "body", whole);
    c->tags = true;
    return limn_api_read_job(rq, &c->read, err);
}

static limn_status read_change(limn_http_req *rq, job_change *c, limn_err *err) {
    const json_t *tags = json_object_get(rq->json, "tags");
    json_t *v;
    const char *key;
    limn_status st = LIMN_OK;
    c->move.max_priority = rq->who.scope == LIMN_SCOPE_ADMIN ? LIMN_JOB_PRIORITY_MAX : 0;
    json_object_foreach(rq->json, key, v) {
        if (strcmp(key, "tags") == 0) continue;
        if (strcmp(key, "priority") != 0 && strcmp(key, "position") != 0)
            return limn_fail(err, LIMN_E_USAGE, "/%.60s: cannot be changed", key);
        st = read_place(c, key, v, err);
        if (st != LIMN_OK) return st;
    }
    if (!c->place && !tags)
        return limn_fail(err, LIMN_E_USAGE, "one of tags, priority and position is needed");
    return tags ? read_tag_list(rq, c, tags, err) : LIMN_OK;
}

void native_job_change(limn_http_req *rq) {
    limn_err err = {0};
    limn_queue *q = rq->server->queue;
    job_change c = {0};
    const char *id = job_id(rq), *owner = limn_http_owner(rq);
    if (!id) return;
    limn_status st = read_change(rq, &c, &err);
    if (st == LIMN_OK && c.place) st = limn_queue_move_job(q, owner, id, &c.move, &err);
    if (st == LIMN_OK && c.tags)
        st = limn_queue_set_tags(q, owner, id, c.read.tags, c.read.n_tags, &err);
    if (st == LIMN_OK)
        reply_one(rq, id);
    else if (st == LIMN_E_CONFLICT)
        limn_http_fail(rq, LIMN_HTTP_CONFLICT, NULL, "%s", err.text);
    else
        fail_job(rq, &err);
}

/* ---- the list ---- */

/* "a,b" of words into bits; false and an answer for a word that is none. */
static bool read_words(limn_http_req *rq, const char *name, unsigned *bits, bool states) {
    const char *list = limn_http_query(rq, name);
    char word[32];
    *bits = 0;
    while (list && *list) {
        size_t n = strcspn(list, ",");
        limn_job_state state;
        limn_job_kind kind;
        if (n >= sizeof word) n = sizeof word - 1;
        memcpy(word, list, n);
        word[n] = 0;
        if (states ? limn_job_state_find(&state, word) : limn_job_kind_find(&kind, word)) {
            *bits |= 1u << (states ? (unsigned)state : (unsigned)kind);
        } else {
            limn_http_fail(rq, LIMN_HTTP_BAD_VALUE, name, "?%s= does not know \"%s\"", name, word);
            return false;
        }
        list += strcspn(list, ",");
        list += *list == ',';
    }
    return true;
}

static bool read_query(limn_http_req *rq, limn_job_query *q, int64_t *seed) {
    static const char *const tag_name = "tag";
    const char **tags = limn_arena_alloc(&rq->arena, sizeof *tags * LIMN_JOB_TAGS_MAX);
    const char *order = limn_http_query(rq, "order");
    int64_t limit;
    q->owner = limn_http_owner(rq);
    q->words = limn_http_query(rq, "q");
    q->model = limn_http_query(rq, "model");
    q->parent = limn_http_query(rq, "parent");
    q->with_artifacts = true;
    const char *deleted = limn_http_query(rq, "deleted");
    q->deleted = deleted && strcmp(deleted, "1") == 0;
    q->oldest_first = order && strcmp(order, "oldest") == 0;
    for (int i = 0; tags && i < rq->n_query && q->n_tags < LIMN_JOB_TAGS_MAX; i++)
        if (strcmp(rq->query[i].name, tag_name) == 0) tags[q->n_tags++] = rq->query[i].value;
    q->tags = tags;
    if (q->words && !*q->words) q->words = NULL;
    if (order && !q->oldest_first && strcmp(order, "newest") != 0) {
        limn_http_fail(rq, LIMN_HTTP_BAD_VALUE, "order", "?order= is newest or oldest");
        return false;
    }
    if (!limn_api_query_int(rq, "limit", 1, LIMN_LIMIT_PAGE_ROWS, 50, &limit) ||
        !limn_api_query_int(rq, "after", 1, INT64_MAX, 0, &q->cursor) ||
        !limn_api_query_int(rq, "from", 0, INT64_MAX, 0, &q->from_ms) ||
        !limn_api_query_int(rq, "to", 0, INT64_MAX, 0, &q->to_ms) ||
        !limn_api_query_int(rq, "seed", 0, INT64_MAX, -1, seed))
        return false;
    q->limit = (int)limit;
    if (*seed >= 0) q->seed = seed;
    return read_words(rq, "state", &q->states, true) && read_words(rq, "kind", &q->kinds, false);
}

void native_jobs(limn_http_req *rq) {
    limn_job_query q = {0};
    limn_job_page page = {0};
    limn_err err = {0};
    int64_t seed;
    if (!read_query(rq, &q, &seed)) return;
    if (limn_queue_list(rq->server->queue, &q, &page, &err) != LIMN_OK) {
        limn_api_fail(rq, &err);
        return;
    }
    json_t *list = json_array();
    for (int i = 0; i < page.count; i++)
        json_array_append_new(list, limn_job_to_json(rq->server, page.jobs[i], false));
    json_t *next = page.next ? json_sprintf("%lld", (long long)page.next) : json_null();
    limn_http_reply_json(rq, 200, json_pack("{s:o, s:o}", "data", list, "next", next));
    limn_job_page_deinit(&page);
}

/* ---- event streams ---- */

typedef struct event_stream {
    limn_server *server;
    bool all;
} event_stream;

/* "lost" and "bye", which have no number. */
static void add_plain(limn_buf *out, const char *type, const char *job) {
    json_t *o = limn_event_plain_json(type, job);
    char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
    if (text) limn_buf_addf(out, "event: %s\ndata: %s\n\n", type, text);
    free(text);
    json_decref(o);
}

static void stream_begin(void *user, limn_buf *out) {
    (void)user;
    limn_buf_adds(out, "retry: 2000\n\n");
}

static void stream_event(void *user, limn_buf *out, const limn_job_event *e, bool lost, bool *end) {
    event_stream *stream = user;
    bool last;
    if (lost) add_plain(out, "lost", stream->all ? NULL : e->job);
    const char *type = limn_event_type(e);
    if (type) limn_buf_addf(out, "id: %lld\nevent: %s\ndata: ", (long long)e->number, type);
    limn_event_write(out, stream->server, e, &last);
    if (type) limn_buf_adds(out, "\n\n");
    *end = last && !stream->all;
}

static void stream_bye(void *user, limn_buf *out) {
    (void)user;
    add_plain(out, "bye", NULL);
}

static void stream_free(void *user, bool ended) {
    (void)ended;
    limn_mem_free(user);
}

static void start_stream(limn_http_req *rq, const char *job) {
    static const limn_http_stream_ops ops = {stream_begin, stream_event, stream_bye, stream_free};
    const char *after = limn_http_header(rq, "Last-Event-ID");
    const char *previews = limn_http_query(rq, "previews");
    int64_t number = job ? 0 : -1;
    if (!after || !*after) after = limn_http_query(rq, "after");
    if (after && *after && !limn_int_parse(&number, after)) {
        limn_http_fail(rq, LIMN_HTTP_BAD_VALUE, "after", "that is no event id");
        return;
    }
    event_stream *stream = limn_mem_calloc(1, sizeof *stream);
    if (!stream) {
        limn_http_fail(rq, LIMN_HTTP_NO_MEMORY, NULL, "no memory for a stream");
        return;
    }
    *stream = (event_stream){rq->server, job == NULL};
    limn_feed_options opt = {.job = job,
                             .owner = limn_http_owner(rq),
                             .after = number,
                             .previews = !previews || strcmp(previews, "0") != 0};
    limn_http_stream(rq, &opt, 1, &ops, stream);
}

void native_job_events(limn_http_req *rq) {
    const char *id = job_id(rq);
    if (id) start_stream(rq, id);
}

void native_events(limn_http_req *rq) {
    start_stream(rq, NULL);
}

void native_socket(limn_http_req *rq) {
    limn_sockets_upgrade(rq);
}
