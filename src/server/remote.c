/* SPDX-License-Identifier: MIT */
/*
 * URLs in requests, when the settings allow them: before a handler sees a body, the files that it
 * names are fetched by threads of their own while the connection is suspended, and their references
 * take the place of the URLs. Where a URL may stand is a list (below): in a prompt it is words.
 */
#include <microhttpd.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "param/serve.h"
#include "server/api/api.h"
#include "server/remote_fetch.h"

enum { THREADS = 4, WAITING_MAX = 64, FOUND_MAX = 64 };

/* A URL in a body. */
typedef struct found {
    json_t *in; /* object or list; borrowed */
    const char *key;
    size_t index;
    const char *member; /* of the body, for errors */
} found;

struct limn_remote_wait {
    limn_remote_wait *next;
    limn_http_req *rq;
    found urls[FOUND_MAX];
    int n_urls;
    limn_err err;
    const char *member; /* of the URL that failed */
};

struct limn_remote {
    limn_server *server;
    limn_remote_rules rules;
    pthread_mutex_t lock;
    pthread_cond_t more;
    limn_remote_wait *first, **last; /* wait for a thread */
    int waiting, n_threads;
    atomic_bool stop;
    pthread_t threads[THREADS];
};

/* ---- finding ---- */

static bool is_url(const json_t *v) {
    const char *s = json_string_value(v);
    return s && (strncasecmp(s, "http://", 7) == 0 || strncasecmp(s, "https://", 8) == 0);
}

static bool is_among(const char *key, const char *const *list) {
    for (; *list; list++)
        if (strcmp(key, *list) == 0) return true;
    return false;
}

/* false: too many. */
static bool add_found(limn_remote_wait *w, json_t *in, const char *key, size_t index,
                      const char *member) {
    if (w->n_urls == FOUND_MAX) return false;
    w->urls[w->n_urls++] = (found){in, key, index, member};
    return true;
}

static bool find(limn_remote_wait *w, json_t *v, const char *member) {
    static const char *const leaves[] = {"url",  "image_url",  "video_url", "file_url", "image",
                                         "file", "init_image", "mask",      NULL};
    static const char *const lists[] = {"images", "files", "init_images", NULL};
    static const char *const inner[] = {"messages",  "input", "content", "image_url",
                                        "video_url", "file",  "params",  NULL};
    const char *key;
    json_t *child;
    size_t i;
    json_array_foreach(v, i, child) {
        if (json_is_object(child) && !find(w, child, member)) return false;
    }
    json_object_foreach(v, key, child) {
        const char *top = member ? member : key;
        bool ok = true;
        if (is_among(key, leaves) && is_url(child)) ok = add_found(w, v, key, 0, top);
        if (ok && is_among(key, inner) && !json_is_string(child)) ok = find(w, child, top);
        if (is_among(key, lists)) {
            json_t *item;
            json_array_foreach(child, i, item) {
                if (ok && is_url(item)) ok = add_found(w, child, NULL, i, top);
            }
        }
        if (!ok) return false;
    }
    return true;
}

/* ---- fetching ---- */

static limn_status fetch(limn_remote *r, limn_http_req *rq, found *f, limn_err *err) {
    limn_artifact a = {0};
    limn_media_facts facts;
    limn_buf body;
    char ref[LIMN_PICTURE_REF_MAX];
    const json_t *v = f->key ? json_object_get(f->in, f->key) : json_array_get(f->in, f->index);
    limn_status st = LIMN_OK;
    limn_buf_init(&body, r->rules.bytes + 1);
    LIMN_TRY(limn_remote_get(&body, json_string_value(v), &r->rules, err));
    LIMN_TRY(limn_media_keep(rq, &a, &facts, limn_buf_text(&body), body.len, err));
    snprintf(ref, sizeof ref, "artifact:%s", a.sha);
    int bad = f->key ? json_object_set_new(f->in, f->key, json_string(ref))
                     : json_array_set_new(f->in, f->index, json_string(ref));
    if (bad) st = limn_fail(err, LIMN_E_NOMEM, "no memory for the request");
out:
    limn_artifact_deinit(&a);
    limn_buf_deinit(&body);
    return st;
}

static void do_wait(limn_remote *r, limn_remote_wait *w) {
    limn_status st = LIMN_OK;
    for (int i = 0; i < w->n_urls && st == LIMN_OK; i++) {
        st = atomic_load(&r->stop)
                 ? limn_fail(&w->err, LIMN_E_UNAVAILABLE, "the server is stopping")
                 : fetch(r, w->rq, &w->urls[i], &w->err);
        if (st != LIMN_OK) w->member = w->urls[i].member;
    }
    MHD_resume_connection(w->rq->conn);
}

static void *run_thread(void *self) {
    limn_remote *r = self;
    pthread_mutex_lock(&r->lock);
    for (;;) {
        while (!r->first && !atomic_load(&r->stop)) pthread_cond_wait(&r->more, &r->lock);
        limn_remote_wait *w = r->first;
        if (!w) break;
        r->first = w->next;
        if (!r->first) r->last = &r->first;
        r->waiting--;
        pthread_mutex_unlock(&r->lock);
        do_wait(r, w);
        pthread_mutex_lock(&r->lock);
    }
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

/* ---- for the core ---- */

/* Joins the line; the connection is suspended before a thread can resume it. */
static bool line_up(limn_remote *r, limn_remote_wait *w) {
    pthread_mutex_lock(&r->lock);
    bool room = r->waiting < WAITING_MAX && !atomic_load(&r->stop);
    if (room) {
        w->rq->remote = w;
        MHD_suspend_connection(w->rq->conn);
        *r->last = w;
        r->last = &w->next;
        r->waiting++;
        pthread_cond_signal(&r->more);
    }
    pthread_mutex_unlock(&r->lock);
    return room;
}

bool limn_remote_begin(limn_http_req *rq) {
    limn_remote *r = rq->server->remote;
    if (!r || !rq->json) return false;
    limn_remote_wait *w = limn_mem_calloc(1, sizeof *w);
    if (!w) {
        limn_http_fail(rq, LIMN_HTTP_NO_MEMORY, NULL, "no memory for the request");
        return false;
    }
    w->rq = rq;
    if (!find(w, rq->json, NULL))
        limn_http_fail(rq, LIMN_HTTP_BAD_VALUE, NULL, "more than %d URLs in one request",
                       LIMN_LIMIT_IMAGES_IN);
    else if (w->n_urls > LIMN_LIMIT_IMAGES_IN)
        limn_http_fail(rq, LIMN_HTTP_BAD_VALUE, w->urls[0].member,
                       "more than %d URLs in one request", LIMN_LIMIT_IMAGES_IN);
    else if (w->n_urls > 0 && line_up(r, w))
        return true;
    else if (w->n_urls > 0)
        limn_http_fail(rq, LIMN_HTTP_UNAVAILABLE, NULL, "too many files are being fetched");
    limn_mem_free(w);
    return false;
}

void limn_remote_end(limn_http_req *rq) {
    limn_remote_wait *w = rq->remote;
    rq->remote = NULL;
    if (w->err.status == LIMN_E_FORMAT || w->err.status == LIMN_E_LIMIT)
        limn_http_fail(rq, LIMN_HTTP_BAD_IMAGE, w->member, "/%s: %s", w->member, w->err.text);
    else if (w->err.status == LIMN_E_VALUE)
        limn_http_fail(rq, LIMN_HTTP_BAD_VALUE, w->member, "/%s: %s", w->member, w->err.text);
    else if (w->err.status != LIMN_OK)
        limn_api_fail(rq, &w->err);
    limn_mem_free(w);
}

/* ---- life ---- */

static limn_status read_rules(limn_remote *r, limn_err *err) {
    const limn_serve_settings *set = r->server->set;
    r->rules = (limn_remote_rules){.http = set->remote_http,
                                   .hosts = (const char *const *)set->remote_hosts.item,
                                   .n_hosts = set->remote_hosts.count,
                                   .privates = (const char *const *)set->remote_private.item,
                                   .n_privates = set->remote_private.count,
                                   .seconds = (int)set->remote_seconds,
                                   .bytes = (size_t)set->remote_size << 20,
                                   .stop = &r->stop};
    for (int i = 0; i < r->rules.n_privates; i++)
        if (limn_remote_check_private(r->rules.privates[i], err) != LIMN_OK) {
            limn_err_prefix(err, "--remote-private");
            return LIMN_E_VALUE;
        }
    return LIMN_OK;
}

limn_status limn_remote_start(limn_remote **out, limn_server *s, limn_err *err) {
    *out = NULL;
    if (!s->set->remote_media) return LIMN_OK;
    limn_remote *r = limn_mem_calloc(1, sizeof *r);
    if (!r) return limn_fail(err, LIMN_E_NOMEM, "no memory to fetch files");
    r->server = s;
    r->last = &r->first;
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->more, NULL);
    limn_status st = read_rules(r, err);
    while (st == LIMN_OK && r->n_threads < THREADS) {
        if (pthread_create(&r->threads[r->n_threads], NULL, run_thread, r) != 0)
            st = limn_fail(err, LIMN_E_NOMEM, "no threads to fetch files");
        else
            r->n_threads++;
    }
    *out = r;
    if (st != LIMN_OK) {
        limn_remote_stop(r);
        limn_remote_free(out);
    }
    return st;
}

void limn_remote_stop(limn_remote *r) {
    if (!r) return;
    pthread_mutex_lock(&r->lock);
    atomic_store(&r->stop, true);
    pthread_cond_broadcast(&r->more);
    pthread_mutex_unlock(&r->lock);
    for (int i = 0; i < r->n_threads; i++) pthread_join(r->threads[i], NULL);
    r->n_threads = 0;
}

void limn_remote_free(limn_remote **r) {
    if (!*r) return;
    pthread_mutex_destroy(&(*r)->lock);
    pthread_cond_destroy(&(*r)->more);
    limn_mem_free(*r);
    *r = NULL;
}
