/* SPDX-License-Identifier: MIT */
/*
 * The thread that does what nobody waits for: small artifacts leave the rows that came to the disk
 * with the end of their jobs and get their files, pictures get their thumbnails. It gathers for a
 * moment, so that the files of many short jobs do not stand in the way of the next ones, and their
 * rows go in one commit.
 *
 *     end of a job: row of the bytes (kept), pin with the bytes in memory
 *     here:         file on the disk --> row dropped --> pin released --> collected, if unused
 *
 * A row that is left when the process dies is held in memory again by the next one and takes the
 * same way; its file may be there already. Filings are added and ended on the writer's thread, and
 * only the filer takes them out of the list.
 */
#include <string.h>

#include "base/log.h"
#include "image/image.h"
#include "job/queue_impl.h"

enum { GATHER_MS = 250, GATHER_MAX = 64, TRY_AGAIN_MS = 500, SMALL_MAX = 256 };

struct filing {
    filing *next; /* `lock` */
    char sha[LIMN_SHA_LEN + 1];
    bool kept;         /* a row has its bytes, and the artifact is pinned: it needs its file */
    limn_image *small; /* what its thumbnail shows; NULL: made when somebody asks for it */
    bool filed;        /* the file is on the disk */
    bool gone;         /* nobody refers to it any more: released already; `lock` */
    bool over;
};

filing *queue_filing_new(const char *sha, bool kept, limn_image **small) {
    filing *f = limn_mem_calloc(1, sizeof *f);
    if (f) {
        memcpy(f->sha, sha, LIMN_SHA_LEN);
        f->kept = kept;
        f->small = *small;
        *small = NULL;
    }
    limn_image_free(small);
    return f;
}

void queue_filing_free(filing *f) {
    if (!f) return;
    limn_image_free(&f->small);
    limn_mem_free(f);
}

bool queue_filing_is_kept(const filing *f) {
    return f->kept;
}

void queue_file_later(limn_queue *q, filing *f) {
    filing **end = &q->filings;
    while (*end) end = &(*end)->next;
    *end = f;
    if (q->n_filings >= SMALL_MAX) limn_image_free(&f->small); /* too busy for thumbnails */
    if (++q->n_filings == 1 || q->n_filings == GATHER_MAX) pthread_cond_signal(&q->file);
}

void queue_file_free(limn_queue *q) {
    for (filing *f; (f = q->filings);) {
        q->filings = f->next;
        queue_filing_free(f);
    }
}

void queue_file_forget(limn_queue *q, const char *sha) {
    int pins = 0;
    pthread_mutex_lock(&q->lock);
    for (filing *f = q->filings; f; f = f->next)
        if (f->kept && !f->gone && !f->over && strcmp(f->sha, sha) == 0) {
            f->gone = true;
            pins++;
        }
    pthread_mutex_unlock(&q->lock);
    for (; pins > 0; pins--) limn_artifacts_unpin(q->artifacts, sha);
}

/* ---- what the last process left ---- */
static limn_status recover_one(limn_queue *q, const char *sha, const void *data, size_t size,
                               limn_err *err) {
    limn_image *none = NULL;
    limn_err why = {0};
    limn_status st = limn_artifacts_hold(q->artifacts, sha, data, size, &why);
    if (st == LIMN_E_FORMAT) { /* one picture is lost, not the server */
        limn_log(LIMN_LOG_ERROR, "queue", "%s", why.text);
        return LIMN_OK;
    }
    if (st != LIMN_OK) {
        if (err) *err = why;
        return st;
    }
    filing *f = queue_filing_new(sha, true, &none);
    if (!f) {
        limn_artifacts_unpin(q->artifacts, sha);
        return limn_fail(err, LIMN_E_NOMEM, "no memory for an artifact");
    }
    pthread_mutex_lock(&q->lock);
    queue_file_later(q, f);
    pthread_mutex_unlock(&q->lock);
    return LIMN_OK;
}

limn_status queue_file_recover(limn_queue *q, limn_err *err) {
    char sha[LIMN_SHA_LEN + 1] = "";
    limn_status st;
    int n = 0;
    for (;; n++) {
        void *data;
        size_t size;
        st = q->store->ops->next_kept(q->store, sha, &data, &size, err);
        if (st == LIMN_OK) st = recover_one(q, sha, data, size, err);
        limn_mem_free(data);
        if (st != LIMN_OK) break;
    }
    if (n > 0) limn_log(LIMN_LOG_INFO, "queue", "%d small files are still to be written", n);
    return st == LIMN_E_NOT_FOUND ? LIMN_OK : st;
}

/* ---- files ---- */
/* The next one (NULL: the first), and whether somebody still wants it. */
static filing *step_to(limn_queue *q, const filing *f, bool *wanted) {
    pthread_mutex_lock(&q->lock);
    filing *next = f ? f->next : q->filings;
    *wanted = next && !next->gone;
    pthread_mutex_unlock(&q->lock);
    return next;
}

/* As many as the disk allows; the first error of the others. */
static limn_status make_files(limn_queue *q, limn_err *err) {
    limn_status first = LIMN_OK;
    bool wanted;
    for (filing *f = NULL; (f = step_to(q, f, &wanted));) {
        limn_status st = LIMN_OK;
        if (f->kept && !f->filed && wanted)
            st = limn_artifacts_file(q->artifacts, f->sha, first == LIMN_OK ? err : NULL);
        if (st != LIMN_OK) {
            first = first == LIMN_OK ? st : first;
            continue;
        }
        f->filed = wanted;
        if (f->small && wanted) limn_artifacts_keep_thumb(q->artifacts, f->sha, f->small);
        limn_image_free(&f->small);
        if (!f->kept) f->over = true;
    }
    return first;
}

/* ---- rows; on the writer's thread, where alone filings come and are forgotten ---- */
static bool is_done(const filing *f) {
    return f->kept && !f->over && (f->filed || f->gone);
}

/* The same bytes were drawn again, and their row is all that is on the disk of them. */
static bool is_needed(const limn_queue *q, const char *sha) {
    for (const filing *f = q->filings; f; f = f->next)
        if (f->kept && !is_done(f) && !f->over && strcmp(f->sha, sha) == 0) return true;
    return false;
}

static limn_status drop_rows(limn_queue *q, void *arg, limn_err *err) {
    limn_status st = LIMN_OK;
    for (const filing *f = q->filings; f && st == LIMN_OK; f = f->next)
        if (is_done(f) && !is_needed(q, f->sha))
            st = q->store->ops->drop_kept(q->store, f->sha, err);
    return st;
}

/* A job that was removed while its file was being written could not take it along. */
static void dropped_rows(limn_queue *q, void *arg, limn_status st) {
    for (filing *f = q->filings; f && st == LIMN_OK; f = f->next) {
        if (!is_done(f)) continue;
        limn_artifact a = {0};
        memcpy(a.sha, f->sha, sizeof a.sha);
        f->over = true;
        if (!f->gone) limn_artifacts_unpin(q->artifacts, a.sha);
        queue_collect(q, &a, 1);
    }
}

/* ---- the thread ---- */
/* For a moment, or until there is much to do; after trouble in any case. */
static void gather(limn_queue *q, bool trouble) {
    struct timespec until = queue_after_ms(trouble ? TRY_AGAIN_MS : GATHER_MS);
    while (!q->stop_filer && (trouble || q->n_filings < GATHER_MAX))
        if (pthread_cond_timedwait(&q->file, &q->lock, &until) != 0) return;
}

static bool has_done(limn_queue *q) {
    bool done = false;
    pthread_mutex_lock(&q->lock);
    for (const filing *f = q->filings; f && !done; f = f->next) done = is_done(f);
    pthread_mutex_unlock(&q->lock);
    return done;
}

/* Frees what is over; `lock` held. */
static void tidy(limn_queue *q) {
    for (filing **at = &q->filings, *f; (f = *at);) {
        if (f->over) {
            *at = f->next;
            q->n_filings--;
            queue_filing_free(f);
        } else {
            at = &f->next;
        }
    }
}

static void note_trouble(limn_status before, limn_status now, const limn_err *err) {
    if (before == LIMN_OK && now != LIMN_OK)
        limn_log(LIMN_LOG_WARN, "queue", "small files wait in the database: %s", err->text);
    if (before != LIMN_OK && now == LIMN_OK)
        limn_log(LIMN_LOG_INFO, "queue", "small files are written again");
}

/* A row that is dropped without waiting for the disk may come back with the power: then its file is
 * found there. What the disk does not take is tried again, at last by the next process. */
void *queue_filer_main(void *queue) {
    limn_queue *q = queue;
    limn_status last = LIMN_OK;
    for (bool stop = false; !stop;) {
        limn_err err = {0};
        pthread_mutex_lock(&q->lock);
        while (!q->filings && !q->stop_filer) pthread_cond_wait(&q->file, &q->lock);
        gather(q, last != LIMN_OK);
        stop = q->stop_filer;
        pthread_mutex_unlock(&q->lock);
        limn_status st = make_files(q, &err), dropped = LIMN_OK;
        if (has_done(q)) /* a write without rows would say that the disk is well */
            dropped =
                queue_write_relaxed(q, drop_rows, dropped_rows, NULL, st == LIMN_OK ? &err : NULL);
        if (st == LIMN_OK) st = dropped;
        note_trouble(last, st, &err);
        last = st;
        pthread_mutex_lock(&q->lock);
        tidy(q);
        pthread_mutex_unlock(&q->lock);
    }
    return NULL;
}
