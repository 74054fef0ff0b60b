/* SPDX-License-Identifier: MIT */
/*
 * The inside of `limn serve`: what the files of this folder share.
 *
 *     listener thread   accepts, reads the head through the gate, hands the socket over
 *     HTTP threads      libmicrohttpd: one loop each; handlers and continuations run here
 *     socket thread     all WebSockets
 *     watcher thread    parked requests: time limits, clients that went away, signs of life
 *     aside threads     handlers with large bodies, and large answers
 *     remote threads    fetch what requests name by URL, if the settings allow it
 *     worker threads    src/job
 *     other processes   decode what strangers send (media/decoders.h)
 *
 * The struct is filled before any thread starts and torn down after all have ended; members that
 * change later are atomic or say which lock they have.
 */
#ifndef LIMN_SERVER_SERVER_H
#define LIMN_SERVER_SERVER_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/log.h"
#include "job/runner_engine.h"
#include "media/decoders.h"
#include "param/serve.h"
#include "server/http.h"
#include "server/limits.h"
#include "server/log_ring.h"

enum { LIMN_HTTP_THREADS_MAX = 64 };

typedef struct limn_listener limn_listener;
typedef struct limn_sockets limn_sockets;
typedef struct limn_watcher limn_watcher;
typedef struct limn_metrics limn_metrics;
typedef struct limn_prefs limn_prefs;
typedef struct limn_remote limn_remote;
typedef struct limn_aside limn_aside;
typedef struct limn_state_cache limn_state_cache;
struct MHD_Daemon;

struct limn_server {
    limn_params *serve, *app; /* copies, as at the start */
    /* As they are now; those that were replaced live as long as the server. */
    const limn_serve_settings *_Atomic set;
    limn_params **settings; /* [n_settings]; main thread */
    int n_settings;
    const limn_serving *hooks;
    limn_queue *queue;
    limn_keyring *keys;
    limn_buckets *rates, *bad_keys;
    limn_metrics *metrics;
    limn_aside *aside;
    limn_remote *remote;     /* NULL: URLs are refused */
    limn_decoders *decoders; /* NULL: pictures are decoded here */
    limn_shelf *shelf;       /* of the engine runner, or own_shelf */
    limn_shelf *own_shelf;   /* with the stub */
    limn_runner *engine;     /* the engine runner; NULL with the stub */
    limn_prefs *prefs;
    limn_state_cache *states; /* event_json.h */
    limn_log_ring *log;       /* the newest lines */
    limn_watcher *watcher;
    limn_sockets *sockets;
    limn_listener *listener;
    struct MHD_Daemon *daemons[LIMN_HTTP_THREADS_MAX];
    int n_daemons;
    int port;
    bool loopback; /* listens where only this machine reaches it */
    bool log_json;
    pthread_mutex_t log_lock;
    int64_t started_ms;
    double started;
    atomic_bool draining, stopping;
    atomic_bool rate_given; /* the rate limit holds for this machine too */
    atomic_int_fast64_t bodies_bytes;
    atomic_int sse_clients, ws_clients;
    atomic_uint next_daemon;
};

/* ---- reload.c: the main thread between start and end ---- */
/* Until serving->stop is set: settings are read again when that is asked for, and the watchdog is
 * told as long as the server answers. */
void limn_server_run(limn_server *s);
double limn_server_rate(const limn_serve_settings *set, bool given);
/* limn_queue_limits.trash_ms of the setting trash_hours. */
int64_t limn_server_trash_ms(int64_t hours);

/* ---- http_core.c ---- */
limn_status limn_http_start(limn_server *s, limn_err *err);
/* New connections go to the daemons in turn; takes the socket. */
void limn_http_take(limn_server *s, int fd, const void *address, unsigned address_len);
/* After this no handler runs any more. Parked requests must have been ended. */
void limn_http_stop(limn_server *s);

/* ---- listener.c ---- */
limn_status limn_listener_start(limn_listener **out, limn_server *s, limn_err *err);
/* Stops accepting; connections that were handed over go on. */
void limn_listener_stop(limn_listener *l);
/* After the last connection has ended. */
void limn_listener_free(limn_listener **l);
/* A connection that was handed over has ended. */
void limn_listener_release(limn_listener *l, const void *address);
int limn_listener_port(const limn_listener *l);

/* ---- watcher.c: parked requests and streams ---- */
limn_status limn_watcher_start(limn_watcher **out, limn_server *s, limn_err *err);
/* Ends all that is parked (503 or bye), waits until they are gone, joins the thread. */
void limn_watcher_stop(limn_watcher **w);
/* After the HTTP threads have ended. */
void limn_watcher_free(limn_watcher **w);
/* Called by the core when a request with something parked is over. */
void limn_http_waiting_free(limn_http_waiting **w, bool completed);
/* Runs on the HTTP thread after a resume: true: the request is answered now (or failed). */
bool limn_http_waiting_run(limn_http_req *rq);

/* ---- sockets.c: WebSockets ---- */
limn_status limn_sockets_start(limn_sockets **out, limn_server *s, limn_err *err);
void limn_sockets_stop(limn_sockets **w);
/* The handler of GET /v1/ws. */
void limn_sockets_upgrade(limn_http_req *rq);

/* ---- access_log.c ---- */
/* One line: message and "name", value pairs up to NULL. */
void limn_server_log(limn_server *s, limn_log_level level, const char *message, ...)
    __attribute__((sentinel));
void limn_server_log_request(const limn_http_req *rq, double seconds);
/* The sink for limn_log while the server runs; user is the server. */
void limn_server_log_sink(void *user, limn_log_level level, const char *area, const char *text);

/* ---- metrics.c ---- */
limn_status limn_metrics_new(limn_metrics **out, limn_err *err);
void limn_metrics_free(limn_metrics **m);
void limn_metrics_request(limn_metrics *m, const limn_route *route, int status, double seconds);
typedef enum limn_metric {
    LIMN_METRIC_REFUSED, /* by the gate */
    LIMN_METRIC_RATE_LIMITED,
    LIMN_METRIC_AUTH_FAILED,
    LIMN_METRIC_CONNECTIONS,
    LIMN_METRICS
} limn_metric;
void limn_metrics_add(limn_metrics *m, limn_metric which);
void limn_metrics_format(limn_buf *out, limn_server *s);

/* ---- static_files.c ---- */
/* The studio's file for a path; answers rq and true, or false when there is none. */
bool limn_static_reply(limn_http_req *rq, const char *path);

/* ---- guard.c: after the route is known, before the body ---- */
/* Host, origin, key, scope, rate. false: rq has been answered. */
bool limn_guard_check(limn_http_req *rq);

/* ---- prefs.c: what may be changed while the server runs, kept in the data folder ---- */
limn_status limn_prefs_open(limn_prefs **out, limn_server *s, limn_err *err);
void limn_prefs_free(limn_prefs **p);
/* {"default_model", "queue_depth", "history_days", "history_jobs", "trash_hours", "paused",
 * "log_prompts"} */
json_t *limn_prefs_get(limn_prefs *p);
/* Members to change; E_USAGE, E_VALUE name them. Acts at once and is kept. */
limn_status limn_prefs_set(limn_prefs *p, const json_t *changes, limn_err *err);
bool limn_prefs_log_prompts(limn_prefs *p);
/* A free object per name (the page's, per owner; the options of sdapi). */
json_t *limn_prefs_get_object(limn_prefs *p, const char *group, const char *name);
limn_status limn_prefs_set_object(limn_prefs *p, const char *group, const char *name,
                                  const json_t *object, limn_err *err);

/* ---- remote.c: URLs in requests ---- */
/* *out NULL when the settings do not allow them. E_VALUE: a setting. */
limn_status limn_remote_start(limn_remote **out, limn_server *s, limn_err *err);
/* Ends what is being fetched and resumes who waits for it; NULL-safe. Before the HTTP threads. */
void limn_remote_stop(limn_remote *r);
void limn_remote_free(limn_remote **r);
/* Once per request, with its body read: true: suspended until its files are here, or not; then
 * limn_remote_end answers if they are not. Else it may have answered. */
bool limn_remote_begin(limn_http_req *rq);
void limn_remote_end(limn_http_req *rq);

/* ---- aside.c: long steps beside the HTTP threads ---- */
limn_status limn_aside_start(limn_aside **out, limn_err *err);
/* Does what waits, then ends; before the HTTP threads. NULL-safe. */
void limn_aside_stop(limn_aside *a);
void limn_aside_free(limn_aside **a);
/* From the request's HTTP thread: true: suspended until `step` was called elsewhere. false: it is
 * to be called here, unless the request has been answered (too many). */
bool limn_aside_begin(limn_http_req *rq, limn_http_handler *step);

/* ---- json_in.c ---- */
/* Strict JSON of at most JSON_DEPTH and JSON_NODES; E_FORMAT names line and column. */
limn_status limn_json_read(json_t **out, const char *text, size_t len, limn_err *err);

#endif
