/* SPDX-License-Identifier: MIT */
/*
 * Requests that wait for a job, and event streams. Both follow a feed: while it has nothing, the
 * connection is suspended; the feed's wake (called by whoever posts an event) resumes it. One
 * thread looks after the suspended ones: time limits, clients that have gone, signs of life, and
 * the end of the server.
 *
 * Locks, in this order: the events hub's, a waiting's, libmicrohttpd's. The list has its own, and
 * a waiting is locked inside it.
 */
#include <microhttpd.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "server/server.h"

enum {
    LOOK_MS = 200,
    OUT_MAX = 32 << 20,
    STOP_ROUNDS = 100,
    ASIDE_BYTES = 256 << 10 /* a job's pictures from here on are put into an answer aside */
};

struct limn_http_waiting {
    limn_http_waiting *prev, *next;
    limn_http_req *rq;
    limn_feed **feeds;    /* [n_feeds], of jobs */
    int n_feeds, turn;    /* turn: the one that is asked first */
    limn_log_reader *log; /* NULL: of jobs */
    char job[LIMN_JOB_ID_LEN + 1];
    int fd;
    double deadline; /* clock; < 0: none */
    bool cancel, answered;
    limn_http_done *done;
    limn_job *job_ended;             /* what `done` is called with aside; NULL: nothing is */
    const limn_http_stream_ops *ops; /* NULL: a wait */
    void *user;
    limn_buf out; /* of a stream: bytes not sent yet */
    size_t sent;
    bool ended, lasted;   /* the stream is complete; ... and its last byte was taken */
    pthread_mutex_t lock; /* below */
    bool parked, woken, late, gone, closing, ping;
    double active; /* when bytes were made last */
};

struct limn_watcher {
    limn_server *server;
    pthread_t thread;
    pthread_mutex_t lock;
    limn_http_waiting list; /* ring */
    bool stopping;
};

static void wake(void *user) {
    limn_http_waiting *w = user;
    pthread_mutex_lock(&w->lock);
    w->woken = true;
    if (w->parked) {
        w->parked = false;
        MHD_resume_connection(w->rq->conn);
    }
    pthread_mutex_unlock(&w->lock);
}

/* Suspends, unless something happened since the feed was seen empty. */
static bool park(limn_http_waiting *w) {
    pthread_mutex_lock(&w->lock);
    bool wait = !w->woken && !w->late && !w->gone && !w->closing && !w->ping;
    if (wait) {
        w->parked = true;
        MHD_suspend_connection(w->rq->conn);
    }
    w->woken = false;
    pthread_mutex_unlock(&w->lock);
    return wait;
}

static void close_feeds(limn_http_waiting *w) {
    while (w->n_feeds > 0) limn_feed_close(&w->feeds[--w->n_feeds]);
    limn_mem_free(w->feeds);
    w->feeds = NULL;
}

/* What is followed. */
typedef struct source {
    const limn_feed_options *feeds; /* [count] of jobs */
    int count;
    const limn_log_query *log; /* with count 0 */
} source;

static limn_status follow(limn_http_waiting *w, const source *what, limn_err *err) {
    limn_server *s = w->rq->server;
    limn_status st = LIMN_OK;
    if (what->count == 0) return limn_log_reader_open(&w->log, s->log, what->log, wake, w, err);
    w->feeds = limn_mem_calloc((size_t)what->count, sizeof(limn_feed *));
    if (!w->feeds) return limn_fail(err, LIMN_E_NOMEM, "no memory to follow a job");
    const char *job = what->feeds[0].job;
    if (job) snprintf(w->job, sizeof w->job, "%s", job);
    for (int i = 0; i < what->count && st == LIMN_OK; i++) {
        limn_feed_options mine = what->feeds[i];
        mine.wake = wake;
        mine.user = w;
        st = limn_queue_subscribe(s->queue, &mine, &w->feeds[i], err);
        w->n_feeds += st == LIMN_OK;
    }
    if (st != LIMN_OK) close_feeds(w);
    return st;
}

static limn_http_waiting *waiting_new(limn_http_req *rq, const source *what, limn_err *err) {
    limn_http_waiting *w = limn_mem_calloc(1, sizeof *w);
    if (!w) {
        limn_fail(err, LIMN_E_NOMEM, "no memory to wait");
        return NULL;
    }
    w->rq = rq;
    w->deadline = -1;
    w->active = limn_clock_now();
    limn_buf_init(&w->out, OUT_MAX);
    pthread_mutex_init(&w->lock, NULL);
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(rq->conn, MHD_CONNECTION_INFO_CONNECTION_FD);
    w->fd = info ? info->connect_fd : -1;
    if (follow(w, what, err) != LIMN_OK) {
        pthread_mutex_destroy(&w->lock);
        limn_mem_free(w);
        return NULL;
    }
    limn_watcher *all = rq->server->watcher;
    pthread_mutex_lock(&all->lock);
    w->closing = all->stopping;
    w->prev = all->list.prev;
    w->next = &all->list;
    w->prev->next = w->next->prev = w;
    pthread_mutex_unlock(&all->lock);
    rq->waiting = w;
    return w;
}

void limn_http_waiting_free(limn_http_waiting **waiting, bool completed) {
    limn_http_waiting *w = *waiting;
    if (!w) return;
    *waiting = NULL;
    limn_watcher *all = w->rq->server->watcher;
    pthread_mutex_lock(&all->lock);
    w->prev->next = w->next;
    w->next->prev = w->prev;
    pthread_mutex_unlock(&all->lock);
    close_feeds(w);
    limn_log_reader_close(&w->log);
    limn_job_state was;
    if (!w->ops && w->cancel && !w->answered) /* the client went away before the end */
        limn_queue_cancel(w->rq->server->queue, NULL, w->job, &was, NULL);
    if (w->ops) {
        atomic_fetch_sub(&w->rq->server->sse_clients, 1);
        if (w->ops->free) w->ops->free(w->user, w->lasted && completed);
    }
    limn_job_free(&w->job_ended);
    limn_buf_deinit(&w->out);
    pthread_mutex_destroy(&w->lock);
    limn_mem_free(w);
}

/* ---- waiting for an end ---- */

void limn_http_wait(limn_http_req *rq, const char *job, int64_t timeout_ms, bool cancel,
                    limn_http_done *done) {
    limn_err err = {0};
    limn_feed_options opt = {.job = job, .owner = limn_http_owner(rq)};
    limn_http_waiting *w = waiting_new(rq, &(source){.feeds = &opt, .count = 1}, &err);
    if (!w) {
        limn_http_fail_err(rq, &err, 0);
        return;
    }
    w->cancel = cancel;
    w->done = done;
    if (timeout_ms >= 0) w->deadline = limn_clock_now() + (double)timeout_ms / 1000;
}

static bool job_has_ended(limn_http_waiting *w) {
    const limn_job_event *e;
    bool ended = false;
    while (!ended && (e = limn_feed_next(w->feeds[0], NULL))) {
        ended = e->kind == LIMN_JOB_EVENT_STATE && limn_job_state_is_final(e->state);
        limn_job_event_unref(&e);
    }
    return ended;
}

static bool is_large(const limn_job *job) {
    int64_t bytes = 0;
    for (int i = 0; job && i < job->n_artifacts; i++) bytes += job->artifacts[i].bytes;
    return bytes >= ASIDE_BYTES;
}

static void finish_aside(limn_http_req *rq) {
    limn_http_waiting *w = rq->waiting;
    w->done(rq, w->job_ended, true);
    if (!rq->response && rq->waiting == w)
        limn_http_fail(rq, LIMN_HTTP_INTERNAL, NULL, "no answer was made");
    if (rq->waiting != w) limn_http_waiting_free(&w, true); /* it waits for another job now */
}

/* true: goes on aside. */
static bool finish_wait(limn_http_waiting *w, bool ended) {
    limn_http_req *rq = w->rq;
    limn_job *job = NULL;
    limn_err err = {0};
    w->answered = true;
    limn_queue_get(rq->server->queue, NULL, w->job, &job, &err);
    if (ended && is_large(job)) {
        w->job_ended = job; /* freed with it */
        if (limn_aside_begin(rq, finish_aside)) return true;
        w->job_ended = NULL;
    }
    if (!rq->response) w->done(rq, job, ended);
    limn_job_free(&job);
    return false;
}

/* What ends the wait without the job's end. true: answered. */
static bool give_up(limn_http_waiting *w) {
    limn_http_req *rq = w->rq;
    pthread_mutex_lock(&w->lock);
    bool late = w->late, gone = w->gone, closing = w->closing;
    pthread_mutex_unlock(&w->lock);
    if (gone) {
        limn_http_fail(rq, LIMN_HTTP_CANCELLED, NULL, "the client went away");
    } else if (closing) {
        w->answered = true; /* the job stays */
        limn_http_fail(rq, LIMN_HTTP_UNAVAILABLE, NULL,
                       "the server is stopping; the job goes on at its next start");
        limn_http_add_header(rq, "Retry-After", "5");
    } else if (late) {
        finish_wait(w, false);
    }
    return gone || closing || late;
}

bool limn_http_waiting_run(limn_http_req *rq) {
    for (;;) {
        limn_http_waiting *w = rq->waiting;
        if (!w || w->ops) return true;
        if (job_has_ended(w)) {
            if (finish_wait(w, true)) return false;
            if (rq->waiting == w) return true;
            limn_http_waiting_free(&w, true); /* the continuation waits for another job now */
            continue;
        }
        if (give_up(w)) return true;
        if (park(w)) return false;
    }
}

/* ---- streams ---- */

/* The next line of the log as an event. */
static bool fill_from_log(limn_http_waiting *w) {
    bool lost;
    limn_buf line;
    limn_buf_init(&line, OUT_MAX);
    int64_t id = limn_log_reader_next(w->log, &line, &lost);
    if (lost) limn_buf_adds(&w->out, "event: lost\ndata: {\"type\":\"lost\"}\n\n");
    if (id)
        limn_buf_addf(&w->out, "id: %lld\nevent: log\ndata: %s\n\n", (long long)id,
                      limn_buf_text(&line));
    limn_buf_deinit(&line);
    return id || lost;
}

/* One event of the jobs that are followed, in turn, so that none waits for another's end. */
static bool fill_from_feeds(limn_http_waiting *w) {
    bool lost = false;
    const limn_job_event *e = NULL;
    for (int i = 0; i < w->n_feeds && !e; i++) {
        e = limn_feed_next(w->feeds[w->turn], &lost);
        w->turn = (w->turn + 1) % w->n_feeds;
    }
    if (!e) return false;
    w->ops->event(w->user, &w->out, e, lost, &w->ended);
    limn_job_event_unref(&e);
    return true;
}

/* One step of filling w->out. false: nothing to say now. */
static bool fill(limn_http_waiting *w) {
    limn_buf_clear(&w->out);
    w->sent = 0;
    if (w->log ? fill_from_log(w) : fill_from_feeds(w)) return true;
    pthread_mutex_lock(&w->lock);
    bool closing = w->closing, ping = w->ping;
    w->ping = false;
    pthread_mutex_unlock(&w->lock);
    if (closing) {
        if (w->ops->bye) w->ops->bye(w->user, &w->out);
        w->ended = true;
        return true;
    }
    if (ping) limn_buf_adds(&w->out, ": \n\n");
    return ping;
}

static ssize_t read_stream(void *user, uint64_t pos, char *to, size_t max) {
    limn_http_waiting *w = user;
    (void)pos;
    for (;;) {
        if (w->out.failed) return MHD_CONTENT_READER_END_WITH_ERROR;
        size_t left = w->out.len - w->sent;
        if (left) {
            size_t n = left < max ? left : max;
            memcpy(to, w->out.data + w->sent, n);
            w->sent += n;
            w->rq->bytes_out += (int64_t)n;
            pthread_mutex_lock(&w->lock);
            w->active = limn_clock_now();
            pthread_mutex_unlock(&w->lock);
            return (ssize_t)n;
        }
        if (w->ended) {
            w->lasted = true;
            return MHD_CONTENT_READER_END_OF_STREAM;
        }
        if (!fill(w) && park(w)) return 0;
    }
}

static void start_stream(limn_http_req *rq, const source *what, const limn_http_stream_ops *ops,
                         void *user) {
    limn_err err = {0};
    limn_server *s = rq->server;
    if (atomic_fetch_add(&s->sse_clients, 1) >= LIMN_LIMIT_SSE_CLIENTS) {
        atomic_fetch_sub(&s->sse_clients, 1);
        limn_http_fail(rq, LIMN_HTTP_UNAVAILABLE, NULL, "too many event streams are open");
        limn_http_add_header(rq, "Retry-After", "10");
        if (ops->free) ops->free(user, false);
        return;
    }
    limn_http_waiting *w = waiting_new(rq, what, &err);
    struct MHD_Response *r =
        w ? MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 16384, read_stream, w, NULL) : NULL;
    if (!r) {
        if (!w) {
            atomic_fetch_sub(&s->sse_clients, 1);
            if (ops->free) ops->free(user, false);
        }
        if (err.status != LIMN_OK)
            limn_http_fail_err(rq, &err, 0);
        else
            limn_http_fail(rq, LIMN_HTTP_NO_MEMORY, NULL, "no memory for a stream");
        if (!w) return;
    }
    w->ops = ops;
    w->user = user;
    if (!r) return;
    if (ops->begin) ops->begin(user, &w->out);
    rq->response = r;
    rq->status = 200;
    limn_http_add_header(rq, "Content-Type", "text/event-stream");
    limn_http_add_header(rq, "Cache-Control", "no-cache");
    limn_http_add_header(rq, "X-Accel-Buffering", "no");
}

void limn_http_stream(limn_http_req *rq, const limn_feed_options *opt, int count,
                      const limn_http_stream_ops *ops, void *user) {
    start_stream(rq, &(source){.feeds = opt, .count = count}, ops, user);
}

static void log_begin(void *user, limn_buf *out) {
    (void)user;
    limn_buf_adds(out, "retry: 2000\n\n");
}

static void log_bye(void *user, limn_buf *out) {
    (void)user;
    limn_buf_adds(out, "event: bye\ndata: {\"type\":\"bye\"}\n\n");
}

void limn_http_stream_log(limn_http_req *rq, const limn_log_query *query) {
    static const limn_http_stream_ops ops = {.begin = log_begin, .bye = log_bye};
    start_stream(rq, &(source){.log = query}, &ops, NULL);
}

/* ---- the thread ---- */

static bool client_left(int fd) {
    struct pollfd p = {.fd = fd, .events = POLLRDHUP};
    return fd >= 0 && poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR));
}

static void look_at(limn_http_waiting *w, double now, bool closing) {
    bool left = client_left(w->fd);
    pthread_mutex_lock(&w->lock);
    bool change = false;
    if (closing && !w->closing) change = w->closing = true;
    if (left && !w->gone && !w->ops) change = w->gone = true;
    if (w->deadline >= 0 && now > w->deadline && !w->late) change = w->late = true;
    if (w->ops && now - w->active > LIMN_LIMIT_PING_SECONDS) {
        w->active = now;
        change = w->ping = true;
    }
    if (w->ops && left) change = w->ping = true; /* writing finds out */
    if (change && w->parked) {
        w->parked = false;
        MHD_resume_connection(w->rq->conn);
    }
    pthread_mutex_unlock(&w->lock);
}

static void *run(void *user) {
    limn_watcher *all = user;
    bool stop = false;
    for (int rounds = 0; !stop;) {
        struct timespec nap = {0, (long)LOOK_MS * 1000000};
        nanosleep(&nap, NULL);
        pthread_mutex_lock(&all->lock);
        double now = limn_clock_now();
        for (limn_http_waiting *w = all->list.next; w != &all->list; w = w->next)
            look_at(w, now, all->stopping);
        bool empty = all->list.next == &all->list;
        if (all->stopping) stop = empty || ++rounds > STOP_ROUNDS;
        pthread_mutex_unlock(&all->lock);
    }
    return NULL;
}

limn_status limn_watcher_start(limn_watcher **out, limn_server *s, limn_err *err) {
    limn_watcher *w = *out = limn_mem_calloc(1, sizeof *w);
    if (!w) return limn_fail(err, LIMN_E_NOMEM, "no memory to watch");
    w->server = s;
    w->list.prev = w->list.next = &w->list;
    pthread_mutex_init(&w->lock, NULL);
    if (pthread_create(&w->thread, NULL, run, w) == 0) return LIMN_OK;
    limn_mem_free(w);
    *out = NULL;
    return limn_fail(err, LIMN_E_NOMEM, "no thread to watch");
}

void limn_watcher_stop(limn_watcher **w) {
    if (!*w) return;
    pthread_mutex_lock(&(*w)->lock);
    (*w)->stopping = true;
    pthread_mutex_unlock(&(*w)->lock);
    pthread_join((*w)->thread, NULL);
}

void limn_watcher_free(limn_watcher **w) {
    if (!*w) return;
    pthread_mutex_destroy(&(*w)->lock);
    limn_mem_free(*w);
    *w = NULL;
}
