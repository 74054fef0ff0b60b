/* SPDX-License-Identifier: MIT */
/* What clients change: cancel, skip, move, delete and restore, tag; see queue.h. */
#include <string.h>

#include "job/queue_impl.h"

/* ---- stopping ---- */
typedef struct cancelling {
    limn_job *job;
    bool waited; /* it was in the line and is cancelled now */
} cancelling;

static limn_status cancel_job(limn_queue *q, void *arg, limn_err *err) {
    cancelling *c = arg;
    limn_job_change change = {.id = c->job->id,
                              .from = LIMN_JOB_QUEUED,
                              .to = LIMN_JOB_CANCELLED,
                              .epoch = -1,
                              .now_ms = queue_now_ms(q),
                              .error = LIMN_E_CANCELLED,
                              .error_text = "cancelled before it began"};
    limn_status st = q->store->ops->change(q->store, &change, err);
    c->waited = st == LIMN_OK;
    return st == LIMN_E_CONFLICT ? q->store->ops->request_cancel(q->store, c->job->id, err) : st;
}

static void cancelled_job(limn_queue *q, void *arg, limn_status st) {
    cancelling *c = arg;
    if (st != LIMN_OK) return;
    pthread_mutex_lock(&q->lock);
    limn_run *r = queue_find_run(q, c->job->id);
    if (c->waited) {
        line_remove(&q->line[c->job->lane], c->job->id);
        q->stats.ended[LIMN_JOB_CANCELLED]++;
    } else if (r) {
        r->job->cancel_requested = true;
        limn_cancel_set(r->cancel);
    }
    pthread_mutex_unlock(&q->lock);
    if (c->waited)
        queue_post_state(q, c->job, LIMN_JOB_CANCELLED, LIMN_E_CANCELLED, c->job->epoch + 1);
}

limn_status limn_queue_cancel(limn_queue *q, const char *owner, const char *id,
                              limn_job_state *state, limn_err *err) {
    cancelling c = {0};
    limn_status st = limn_queue_get(q, owner, id, &c.job, err);
    if (st == LIMN_OK) st = queue_write(q, cancel_job, cancelled_job, &c, err);
    if (st == LIMN_OK && state) *state = c.waited ? LIMN_JOB_QUEUED : LIMN_JOB_RUNNING;
    limn_job_free(&c.job);
    return st;
}

limn_status limn_queue_cancel_waiting(limn_queue *q, const char *owner, int64_t *count,
                                      limn_err *err) {
    limn_job_query query = {
        .owner = owner, .states = 1u << LIMN_JOB_QUEUED, .oldest_first = true, .limit = 500};
    limn_job_page page;
    limn_status st = LIMN_OK;
    *count = 0;
    do {
        LIMN_TRY(q->store->ops->list(q->store, &page, &query, err));
        for (int i = 0; i < page.count && st == LIMN_OK; i++) {
            cancelling c = {.job = page.jobs[i]};
            st = queue_write(q, cancel_job, cancelled_job, &c, err);
            if (st == LIMN_OK && c.waited) ++*count;
            if (st == LIMN_E_CONFLICT || st == LIMN_E_NOT_FOUND) st = LIMN_OK;
        }
        query.cursor = page.next;
        limn_job_page_deinit(&page);
    } while (st == LIMN_OK && query.cursor);
out:
    return st;
}

limn_status limn_queue_skip(limn_queue *q, const char *owner, const char *id, limn_err *err) {
    limn_job *j = NULL;
    limn_job_state was;
    limn_status st = limn_queue_get(q, owner, id, &j, err);
    if (st != LIMN_OK) return st;
    limn_job_kind kind = j->kind;
    limn_job_free(&j);
    pthread_mutex_lock(&q->lock);
    limn_run *r = queue_find_run(q, id);
    if (!r) {
        st = limn_fail(err, LIMN_E_CONFLICT, "the job does not run");
    } else if (kind == LIMN_JOB_DRAW) {
        r->skip = true;
        limn_cancel_set(r->cancel);
    }
    pthread_mutex_unlock(&q->lock);
    if (st != LIMN_OK || kind == LIMN_JOB_DRAW) return st;
    return limn_queue_cancel(q, owner, id, &was, err);
}

/* ---- moving ---- */
typedef struct moving {
    const limn_queue_move *how;
    const char *owner;
    limn_job *job;
    line_item *mine; /* [n] the owner's waiting jobs of the lane, as they are */
    line_item *wish; /* [n] as they shall be */
    int n, at;       /* at: of the job in `mine` */
} moving;

/* A copy of the owner's part of the line, which may not be held while the store works. The line
 * changes on the writer's thread only, where this runs. E_CONFLICT: the job is not in it. */
static limn_status copy_line(limn_queue *q, moving *m, limn_err *err) {
    pthread_mutex_lock(&q->lock);
    const line *l = &q->line[m->job->lane];
    m->mine = limn_mem_calloc((size_t)l->count * 2 + 1, sizeof *m->mine);
    m->at = -1;
    for (int i = 0; m->mine && i < l->count; i++) {
        if (m->owner && strcmp(l->items[i].owner, m->owner) != 0) continue;
        if (strcmp(l->items[i].id, m->job->id) == 0) m->at = m->n;
        m->mine[m->n++] = l->items[i];
    }
    pthread_mutex_unlock(&q->lock);
    if (!m->mine) return limn_fail(err, LIMN_E_NOMEM, "no memory to move a job");
    if (m->at < 0) return limn_fail(err, LIMN_E_CONFLICT, "the job does not wait any more");
    m->wish = m->mine + m->n;
    memcpy(m->wish, m->mine, (size_t)m->n * sizeof *m->wish);
    return LIMN_OK;
}

/* The job goes to its new place and takes the priority there. The jobs of that priority share out
 * the ranks that they have in the new order: places of other owners' jobs between them stay. */
static void wish_place(moving *m, int64_t position) {
    line_item moved = m->mine[m->at];
    int most = moved.priority > m->how->max_priority ? moved.priority : m->how->max_priority;
    int to = position < 0 ? 0 : position >= m->n ? m->n - 1 : (int)position;
    while (to < m->n - 1 && m->mine[to].priority > most) to++;
    moved.priority = m->mine[to].priority;
    memmove(&m->wish[m->at], &m->wish[m->at + 1], (size_t)(m->n - 1 - m->at) * sizeof moved);
    memmove(&m->wish[to + 1], &m->wish[to], (size_t)(m->n - 1 - to) * sizeof moved);
    m->wish[to] = moved;
    for (int i = 0; i < m->n; i++)
        for (int k = i + 1; k < m->n && m->wish[i].priority == moved.priority; k++)
            if (m->wish[k].priority == moved.priority && m->wish[k].rank < m->wish[i].rank) {
                int64_t rank = m->wish[k].rank;
                m->wish[k].rank = m->wish[i].rank;
                m->wish[i].rank = rank;
            }
}

static const line_item *find_item(const line_item *items, int n, const char *id) {
    while (n-- > 0)
        if (strcmp(items[n].id, id) == 0) return &items[n];
    return NULL;
}

static limn_status move_job(limn_queue *q, void *arg, limn_err *err) {
    moving *m = arg;
    limn_status st = copy_line(q, m, err);
    if (st != LIMN_OK) return st;
    if (m->how->priority) m->wish[m->at].priority = *m->how->priority;
    if (m->how->position) wish_place(m, *m->how->position);
    for (int i = 0; i < m->n && st == LIMN_OK; i++) {
        const line_item *is = find_item(m->mine, m->n, m->wish[i].id), *shall = &m->wish[i];
        if (is->priority == shall->priority && is->rank == shall->rank) continue;
        st = q->store->ops->place(q->store, shall->id, shall->priority, shall->rank, err);
        /* another one has begun meanwhile: its place is of no matter */
        if (st == LIMN_E_CONFLICT && strcmp(shall->id, m->job->id) != 0) st = LIMN_OK;
    }
    return st;
}

static void moved_job(limn_queue *q, void *arg, limn_status st) {
    const moving *m = arg;
    if (st != LIMN_OK) return;
    pthread_mutex_lock(&q->lock);
    line *l = &q->line[m->job->lane];
    for (int i = 0; i < l->count; i++) {
        const line_item *shall = find_item(m->wish, m->n, l->items[i].id);
        if (!shall) continue;
        l->items[i].priority = shall->priority;
        l->items[i].rank = shall->rank;
    }
    line_sort(l);
    pthread_mutex_unlock(&q->lock);
    queue_post_state(q, m->job, LIMN_JOB_QUEUED, LIMN_OK, m->job->epoch);
}

limn_status limn_queue_move_job(limn_queue *q, const char *owner, const char *id,
                                const limn_queue_move *move, limn_err *err) {
    moving m = {.how = move, .owner = owner};
    const int *p = move->priority;
    if (p && (*p < -LIMN_JOB_PRIORITY_MAX || *p > move->max_priority))
        return limn_fail(err, LIMN_E_VALUE, "/priority: %d is not in -100..%d", *p,
                         move->max_priority);
    limn_status st = limn_queue_get(q, owner, id, &m.job, err);
    if (st == LIMN_OK && m.job->state != LIMN_JOB_QUEUED)
        st = limn_fail(err, LIMN_E_CONFLICT, "the job is %s", limn_job_state_word(m.job->state));
    if (st == LIMN_OK) st = queue_write(q, move_job, moved_job, &m, err);
    limn_mem_free(m.mine);
    limn_job_free(&m.job);
    return st;
}

/* ---- deleting ---- */
typedef struct deleting {
    const limn_job *job;
    const char *sha; /* of one file; NULL: the job */
    int64_t at_ms;   /* 0: restore; < 0: remove */
} deleting;

static limn_status delete_it(limn_queue *q, void *arg, limn_err *err) {
    const deleting *d = arg;
    const limn_store_ops *ops = q->store->ops;
    if (d->sha) return ops->set_artifact_deleted(q->store, d->job->id, d->sha, d->at_ms, err);
    if (d->at_ms < 0) return ops->remove(q->store, d->job->id, err);
    return ops->set_deleted(q->store, d->job->id, d->at_ms, err);
}

static void deleted_it(limn_queue *q, void *arg, limn_status st) {
    const deleting *d = arg;
    limn_artifact one = {0};
    if (st != LIMN_OK || d->at_ms >= 0) return;
    if (!d->sha) {
        queue_collect(q, d->job->artifacts, d->job->n_artifacts);
        return;
    }
    memcpy(one.sha, d->sha, LIMN_SHA_LEN);
    queue_collect(q, &one, 1);
}

static limn_status change_deleted(limn_queue *q, const limn_job *job, const char *sha,
                                  int64_t at_ms, limn_err *err) {
    deleting d = {.job = job, .sha = sha, .at_ms = at_ms};
    if (sha && !limn_sha_is_valid(sha))
        return limn_fail(err, LIMN_E_NOT_FOUND, "the job has no such picture");
    if (!limn_job_state_is_final(job->state))
        return limn_fail(err, LIMN_E_CONFLICT, "the job is %s", limn_job_state_word(job->state));
    return queue_write(q, delete_it, deleted_it, &d, err);
}

/* When something is deleted now; -1: nothing can be restored. */
static int64_t deleted_now(limn_queue *q) {
    return queue_trash_ms(q) < 0 ? -1 : queue_now_ms(q);
}

limn_status limn_queue_delete(limn_queue *q, const char *owner, const char *id, limn_err *err) {
    limn_job *j = NULL;
    if (queue_trash_ms(q) < 0) return limn_queue_remove(q, owner, id, err);
    limn_status st = limn_queue_get(q, owner, id, &j, err);
    if (st == LIMN_OK) st = change_deleted(q, j, NULL, deleted_now(q), err);
    limn_job_free(&j);
    return st;
}

limn_status limn_queue_restore(limn_queue *q, const char *owner, const char *id, limn_err *err) {
    limn_job *j = NULL;
    limn_status st = queue_get_any(q, owner, id, &j, err);
    if (st == LIMN_OK && j->deleted_ms == 0)
        st = limn_fail(err, LIMN_E_NOT_FOUND, "there is no deleted job %s", id);
    if (st == LIMN_OK) st = change_deleted(q, j, NULL, 0, err);
    limn_job_free(&j);
    return st;
}

limn_status limn_queue_remove(limn_queue *q, const char *owner, const char *id, limn_err *err) {
    limn_job *j = NULL;
    limn_status st = queue_get_any(q, owner, id, &j, err);
    if (st == LIMN_OK) st = change_deleted(q, j, NULL, -1, err);
    limn_job_free(&j);
    return st;
}

limn_status limn_queue_delete_artifact(limn_queue *q, const char *owner, const char *id,
                                       const char *sha, bool remove, limn_err *err) {
    limn_job *j = NULL;
    limn_status st = limn_queue_get(q, owner, id, &j, err);
    if (st == LIMN_OK) st = change_deleted(q, j, sha, remove ? -1 : deleted_now(q), err);
    limn_job_free(&j);
    return st;
}

limn_status limn_queue_restore_artifact(limn_queue *q, const char *owner, const char *id,
                                        const char *sha, limn_err *err) {
    limn_job *j = NULL;
    limn_status st = limn_queue_get(q, owner, id, &j, err);
    if (st == LIMN_OK) st = change_deleted(q, j, sha, 0, err);
    limn_job_free(&j);
    return st;
}

/* ---- tags ---- */
static limn_status write_tags(limn_queue *q, void *arg, limn_err *err) {
    const limn_job *j = arg;
    return q->store->ops->set_tags(q->store, j->id, (const char *const *)j->tags, j->n_tags, err);
}

limn_status limn_queue_set_tags(limn_queue *q, const char *owner, const char *id,
                                const char *const *tags, int n_tags, limn_err *err) {
    limn_job *j = NULL;
    limn_status st = limn_queue_get(q, owner, id, &j, err);
    if (st == LIMN_OK) st = limn_job_set_tags(j, tags, n_tags, err);
    if (st == LIMN_OK) st = queue_write(q, write_tags, NULL, j, err);
    limn_job_free(&j);
    return st;
}
