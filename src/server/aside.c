/* SPDX-License-Identifier: MIT */
/*
 * What takes long is done beside the HTTP threads: reading large bodies, decoding what came in,
 * putting large answers together. The connection is suspended meanwhile, so an HTTP thread goes on
 * with its other connections; the request belongs to the thread here until it is resumed.
 *
 * Few threads are enough: pictures are decoded by other processes, of which there are not many at
 * once either (decode_files). Who finds too many in front of it is told to come back.
 */
#include <microhttpd.h>

#include "server/server.h"

enum { THREADS = 8, WAITING_MAX = 256 };

struct limn_aside {
    pthread_mutex_t lock; /* of all below */
    pthread_cond_t more;
    limn_http_req *first, **last; /* through aside_next */
    int waiting, n_threads;
    bool stop;
    pthread_t threads[THREADS];
};

static void *run(void *self) {
    limn_aside *a = self;
    pthread_mutex_lock(&a->lock);
    for (;;) {
        while (!a->first && !a->stop) pthread_cond_wait(&a->more, &a->lock);
        limn_http_req *rq = a->first;
        if (!rq) break;
        a->first = rq->aside_next;
        if (!a->first) a->last = &a->first;
        a->waiting--;
        pthread_mutex_unlock(&a->lock);
        struct MHD_Connection *conn = rq->conn;
        rq->aside_step(rq);
        MHD_resume_connection(conn); /* rq is its HTTP thread's again */
        pthread_mutex_lock(&a->lock);
    }
    pthread_mutex_unlock(&a->lock);
    return NULL;
}

bool limn_aside_begin(limn_http_req *rq, limn_http_handler *step) {
    limn_aside *a = rq->server->aside;
    bool here = false, full = false;
    pthread_mutex_lock(&a->lock);
    here = a->stop || a->n_threads == 0;
    full = !here && a->waiting >= WAITING_MAX;
    if (!here && !full) {
        rq->aside_step = step;
        rq->aside_next = NULL;
        MHD_suspend_connection(rq->conn); /* before a thread can resume it */
        *a->last = rq;
        a->last = &rq->aside_next;
        a->waiting++;
        pthread_cond_signal(&a->more);
    }
    pthread_mutex_unlock(&a->lock);
    if (full) {
        limn_http_fail(rq, LIMN_HTTP_UNAVAILABLE, NULL, "too many large requests at once");
        limn_http_add_header(rq, "Retry-After", "5");
    }
    return !here && !full;
}

/* ---- life ---- */

limn_status limn_aside_start(limn_aside **out, limn_err *err) {
    limn_aside *a = *out = limn_mem_calloc(1, sizeof *a);
    limn_status st = LIMN_OK;
    if (!a) return limn_fail(err, LIMN_E_NOMEM, "no memory to serve");
    a->last = &a->first;
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->more, NULL);
    while (st == LIMN_OK && a->n_threads < THREADS) {
        if (pthread_create(&a->threads[a->n_threads], NULL, run, a) != 0)
            st = limn_fail(err, LIMN_E_NOMEM, "no threads to serve");
        else
            a->n_threads++;
    }
    return st;
}

void limn_aside_stop(limn_aside *a) {
    if (!a) return;
    pthread_mutex_lock(&a->lock);
    a->stop = true;
    pthread_cond_broadcast(&a->more);
    pthread_mutex_unlock(&a->lock);
    for (int i = 0; i < a->n_threads; i++) pthread_join(a->threads[i], NULL);
}

void limn_aside_free(limn_aside **a) {
    if (!*a) return;
    pthread_mutex_destroy(&(*a)->lock);
    pthread_cond_destroy(&(*a)->more);
    limn_mem_free(*a);
    *a = NULL;
}
