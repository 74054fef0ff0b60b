/* SPDX-License-Identifier: MIT */
/* From a request to an acknowledged row, and uploads; see queue.h. */
#include <string.h>
#include <utf8proc.h>

#include "job/queue_impl.h"
#include "param/param.h"
#include "param/param_json.h"

enum { RETRY_DEFAULT = 5, RETRY_MAX = 60, TITLE_BYTES = 200 };

/* ---- room ---- */
limn_status queue_refuses(const limn_queue *q, limn_err *err) {
    if (q->draining || q->stop_writer)
        return limn_fail(err, LIMN_E_UNAVAILABLE, "the server is shutting down");
    if (!q->stats.healthy)
        return limn_fail(err, LIMN_E_UNAVAILABLE, "jobs cannot be kept at present: %s",
                         q->stats.trouble);
    return LIMN_OK;
}

/* `lock` held. */
static limn_status has_room(const limn_queue *q, const char *owner, limn_err *err) {
    int waiting = queue_count_waiting(q, NULL);
    if (waiting + q->reserved >= q->opt.max_queued)
        return limn_fail(err, LIMN_E_BUSY, "%d jobs wait already, which is the most", waiting);
    if (owner[0] && queue_count_waiting(q, owner) >= q->opt.max_queued_owner)
        return limn_fail(err, LIMN_E_BUSY, "%d jobs of yours wait already, which is the most",
                         q->opt.max_queued_owner);
    return LIMN_OK;
}

/* When the next place becomes free, as far as anybody knows; `lock` held. */
static double retry_after(const limn_queue *q) {
    double least = -1;
    for (const limn_run *r = q->runs; r; r = r->next)
        if (r->left_seconds >= 0 && (least < 0 || r->left_seconds < least)) least = r->left_seconds;
    if (least < 0) return RETRY_DEFAULT;
    return least < 1 ? 1 : least > RETRY_MAX ? RETRY_MAX : least;
}

limn_status limn_queue_admit(limn_queue *q, const char *owner, limn_submitted *out, limn_err *err) {
    *out = (limn_submitted){.position = -1, .start_seconds = -1};
    pthread_mutex_lock(&q->lock);
    limn_status st = queue_refuses(q, err);
    /* A store that failed is asked again by the submit itself: that is how it is found well. */
    if (st != LIMN_OK && !q->draining && !q->stop_writer) st = LIMN_OK;
    if (st == LIMN_OK) st = has_room(q, owner ? owner : "", err);
    if (st != LIMN_OK) {
        out->retry_seconds = retry_after(q);
        q->stats.refused++;
    }
    pthread_mutex_unlock(&q->lock);
    return st;
}

/* ---- what was asked ---- */
limn_status queue_fold_words(char **out, const char *text, limn_err *err) {
    utf8proc_uint8_t *folded = NULL;
    utf8proc_ssize_t n =
        utf8proc_map((const utf8proc_uint8_t *)text, 0, &folded,
                     UTF8PROC_NULLTERM | UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_CASEFOLD);
    if (n < 0) return limn_fail(err, LIMN_E_VALUE, "the text is not UTF-8");
    limn_status st = limn_job_set_text(out, (const char *)folded, err);
    free(folded);
    return st;
}

/* The beginning of the text on one line, cut between characters. */
static limn_status make_title(limn_job *j, limn_err *err) {
    char title[TITLE_BYTES + 1];
    size_t n = strlen(j->words);
    if (n > TITLE_BYTES) {
        n = TITLE_BYTES;
        while (n > 0 && ((unsigned char)j->words[n] & 0xc0) == 0x80) n--;
    }
    memcpy(title, j->words, n);
    title[n] = 0;
    for (char *c = title; *c; c++)
        if ((unsigned char)*c < 0x20) *c = ' ';
    return limn_job_set_text(&j->title, title, err);
}

/* A document with sorted members and no blanks, so that equal ones are equal texts. */
static limn_status canonical_json(limn_buf *out, const limn_submit *s, limn_err *err) {
    json_t *root = NULL;
    if (!s->json) return LIMN_OK;
    limn_status st = limn_json_load(&root, s->json, s->json_len, err);
    if (st != LIMN_OK) return st;
    char *text = json_dumps(root, JSON_COMPACT | JSON_SORT_KEYS);
    json_decref(root);
    if (!text) return limn_fail(err, LIMN_E_NOMEM, "no memory for a request");
    limn_buf_adds(out, text);
    free(text);
    return LIMN_OK;
}

/* What makes two requests the same one: before anything random was chosen. */
static limn_status hash_request(char out[LIMN_SHA_LEN + 1], const limn_submit *s, limn_err *err) {
    char *params = NULL;
    limn_buf text;
    limn_status st = LIMN_OK;
    limn_buf_init(&text, 64 << 20);
    limn_buf_addf(&text, "%s\n", limn_job_kind_word(s->kind));
    if (s->params) LIMN_TRY(limn_params_format_json(&params, s->params, false, err));
    if (params) limn_buf_adds(&text, params);
    limn_buf_addc(&text, '\n');
    LIMN_TRY(canonical_json(&text, s, err));
    LIMN_CHECK(err, !text.failed, LIMN_E_LIMIT, "the request is too long");
    limn_sha_make(out, limn_buf_text(&text), text.len);
out:
    limn_text_free(&params);
    limn_buf_deinit(&text);
    return st;
}

static bool is_short_text(const char *text, size_t max) {
    return !text || (strlen(text) <= max && limn_utf8_is_valid(text, strlen(text)));
}

static limn_status check_submit(const limn_submit *s, limn_err *err) {
    if ((unsigned)s->kind >= LIMN_JOB_KINDS)
        return limn_fail(err, LIMN_E_VALUE, "kind: there is no such kind of job");
    if (!is_short_text(s->owner, LIMN_JOB_OWNER_MAX) || !is_short_text(s->source, 32))
        return limn_fail(err, LIMN_E_VALUE, "owner and source are short texts");
    if (!is_short_text(s->key, LIMN_JOB_KEY_MAX) || (s->key && !s->key[0]))
        return limn_fail(err, LIMN_E_VALUE, "the idempotency key has 1 to %d bytes of UTF-8",
                         LIMN_JOB_KEY_MAX);
    if (s->priority < -LIMN_JOB_PRIORITY_MAX || s->priority > LIMN_JOB_PRIORITY_MAX)
        return limn_fail(err, LIMN_E_VALUE, "priority: %d is not in -100..100", s->priority);
    if (s->preview_every < 0 || s->preview_every > 1000)
        return limn_fail(err, LIMN_E_VALUE, "preview_every: %d is not in 0..1000",
                         s->preview_every);
    if (s->parent && !limn_job_id_is_valid(s->parent))
        return limn_fail(err, LIMN_E_VALUE, "parent: is not the id of a job");
    return LIMN_OK;
}

static limn_status make_job(limn_queue *q, limn_job **out, const limn_submit *s, limn_err *err) {
    limn_status st = limn_job_new(out, err);
    if (st != LIMN_OK) return st;
    limn_job *j = *out;
    j->kind = s->kind;
    j->lane = limn_job_kind_lane(s->kind);
    j->priority = s->priority;
    j->keep = s->keep;
    j->preview_every = s->preview_every;
    j->max_attempts = q->opt.max_attempts;
    j->created_ms = queue_now_ms(q);
    limn_job_id_make(j->id, j->created_ms);
    LIMN_TRY(limn_job_set_text(&j->owner, s->owner ? s->owner : "", err));
    LIMN_TRY(limn_job_set_text(&j->source, s->source ? s->source : "native", err));
    LIMN_TRY(limn_job_set_text(&j->key, s->key, err));
    LIMN_TRY(limn_job_set_text(&j->parent, s->parent, err));
    LIMN_TRY(limn_job_set_text(&j->trace, s->trace ? s->trace : "", err));
    LIMN_TRY(limn_job_set_tags(j, s->tags, s->n_tags, err));
    LIMN_TRY(q->runner->ops->prepare(q->runner, j, s, err));
    LIMN_CHECK(err, strlen(j->request) <= LIMN_JOB_REQUEST_MAX, LIMN_E_LIMIT,
               "the request is longer than 1 MB without its pictures");
    LIMN_TRY(make_title(j, err));
    char *folded = NULL;
    LIMN_TRY(queue_fold_words(&folded, j->words, err));
    limn_mem_free(j->words);
    j->words = folded;
out:
    if (st != LIMN_OK) limn_job_free(out);
    return st;
}

/* ---- pictures that go in ---- */
/* Each must be the owner's own, and stays pinned until the row that refers to it is committed. */
static limn_status pin_inputs(limn_queue *q, limn_job *j, const char *owner, int *pinned,
                              limn_err *err) {
    limn_status st = LIMN_OK;
    for (*pinned = 0; *pinned < j->n_artifacts && st == LIMN_OK; ++*pinned) {
        limn_artifact *a = &j->artifacts[*pinned], found;
        if (!limn_artifacts_pin(q->artifacts, a->sha))
            return limn_fail(err, LIMN_E_NOT_FOUND, "there is no such artifact");
        st = q->store->ops->artifact(q->store, &found, owner, a->sha, err);
        if (st != LIMN_OK) continue;
        memcpy(a->mime, found.mime, sizeof a->mime);
        a->width = found.width;
        a->height = found.height;
        a->bytes = found.bytes;
        limn_artifact_deinit(&found);
    }
    return st;
}

/* ---- writing ---- */
typedef struct submitting {
    limn_job *job;
    bool reserved;
} submitting;

static limn_status insert_job(limn_queue *q, void *arg, limn_err *err) {
    submitting *s = arg;
    pthread_mutex_lock(&q->lock);
    limn_status st = has_room(q, s->job->owner, err);
    if (st == LIMN_OK && (q->draining || q->stop_writer))
        st = limn_fail(err, LIMN_E_BUSY, "the server is shutting down");
    if (st == LIMN_OK) {
        q->reserved++;
        s->reserved = true;
    }
    pthread_mutex_unlock(&q->lock);
    return st == LIMN_OK ? q->store->ops->insert(q->store, s->job, err) : st;
}

static void inserted_job(limn_queue *q, void *arg, limn_status st) {
    submitting *s = arg;
    pthread_mutex_lock(&q->lock);
    if (s->reserved) q->reserved--;
    if (st == LIMN_OK) {
        line_add(&q->line[s->job->lane], s->job);
        q->stats.submitted++;
    }
    pthread_mutex_unlock(&q->lock);
    if (st != LIMN_OK) return;
    queue_post_state(q, s->job, LIMN_JOB_QUEUED, LIMN_OK, 0);
    pthread_mutex_lock(&q->lock);
    queue_wake_lane(q, s->job->lane);
    pthread_mutex_unlock(&q->lock);
}

static void fill_standing(limn_queue *q, limn_submitted *out, const char *id) {
    pthread_mutex_lock(&q->lock);
    int at;
    const line *l = queue_find_line(q, id, &at);
    out->position = l ? at : 0;
    out->start_seconds = l ? queue_start_seconds(q, (limn_job_lane)(l - q->line), at) : 0;
    pthread_mutex_unlock(&q->lock);
}

/* The job that this key made before. E_NOT_FOUND: the key is new. */
static limn_status find_existing(limn_queue *q, const limn_submit *s, const char *hash,
                                 limn_submitted *out, limn_err *err) {
    limn_job *j = NULL;
    limn_status st = q->store->ops->find_key(q->store, &j, s->owner ? s->owner : "", s->key, err);
    if (st != LIMN_OK) return st;
    if (strcmp(j->request_hash, hash) != 0) {
        st = limn_fail(err, LIMN_E_REUSED,
                       "the idempotency key was used before for another request");
    } else {
        memcpy(out->id, j->id, sizeof out->id);
        out->existing = true;
        out->state = j->state;
        fill_standing(q, out, j->id);
    }
    limn_job_free(&j);
    return st;
}

static limn_status submit_new(limn_queue *q, const limn_submit *s, const char *hash,
                              limn_submitted *out, limn_err *err) {
    submitting sub = {0};
    int pinned = 0;
    limn_status st = limn_queue_admit(q, s->owner, out, err);
    if (st != LIMN_OK) return st;
    LIMN_TRY(make_job(q, &sub.job, s, err));
    memcpy(sub.job->request_hash, hash, LIMN_SHA_LEN + 1);
    LIMN_TRY(pin_inputs(q, sub.job, s->owner, &pinned, err));
    LIMN_TRY(queue_write(q, insert_job, inserted_job, &sub, err));
    memcpy(out->id, sub.job->id, sizeof out->id);
    fill_standing(q, out, sub.job->id);
out:
    for (int i = 0; i < pinned; i++) limn_artifacts_unpin(q->artifacts, sub.job->artifacts[i].sha);
    limn_job_free(&sub.job);
    return st;
}

limn_status limn_queue_submit(limn_queue *q, const limn_submit *s, limn_submitted *out,
                              limn_err *err) {
    char hash[LIMN_SHA_LEN + 1];
    *out = (limn_submitted){.position = -1, .start_seconds = -1};
    limn_status st = LIMN_OK;
    LIMN_TRY(check_submit(s, err));
    LIMN_TRY(hash_request(hash, s, err));
    if (s->key) {
        st = find_existing(q, s, hash, out, err);
        if (st != LIMN_E_NOT_FOUND) return st;
    }
    st = submit_new(q, s, hash, out, err);
    /* Somebody else was first with this key. */
    if (st == LIMN_E_CONFLICT && s->key) st = find_existing(q, s, hash, out, err);
    if (st == LIMN_E_BUSY || st == LIMN_E_UNAVAILABLE) {
        pthread_mutex_lock(&q->lock);
        out->retry_seconds = retry_after(q);
        pthread_mutex_unlock(&q->lock);
    }
out:
    return st;
}

/* ---- uploads ---- */
typedef struct holding {
    const limn_artifact *a;
    const char *owner;
} holding;

static limn_status hold(limn_queue *q, void *arg, limn_err *err) {
    const holding *h = arg;
    return q->store->ops->hold(q->store, h->a, h->owner, queue_now_ms(q) + q->opt.upload_ms, err);
}

limn_status limn_queue_upload(limn_queue *q, const char *owner, const void *data, size_t size,
                              limn_artifact *out, limn_err *err) {
    holding h = {out, owner ? owner : ""};
    *out = (limn_artifact){.role = LIMN_ARTIFACT_INPUT};
    pthread_mutex_lock(&q->lock);
    bool stop = q->draining || q->stop_writer;
    pthread_mutex_unlock(&q->lock);
    if (stop) return limn_fail(err, LIMN_E_UNAVAILABLE, "the server is shutting down");
    limn_status st = limn_artifacts_put(q->artifacts, out, data, size, NULL, err);
    if (st != LIMN_OK) return st;
    st = queue_write(q, hold, NULL, &h, err);
    limn_artifacts_unpin(q->artifacts, out->sha);
    return st;
}
