/* SPDX-License-Identifier: MIT */
/*
 * Starting and stopping, in this order and its reverse:
 *
 *     settings, keys -> queue with its runner -> prefs -> watcher, sockets, aside, remote -> HTTP
 *         -> listener
 *
 * Stopping: refuse new jobs and say so in /readyz (draining), give running jobs their time, end
 * what is parked, stop listening, let the HTTP threads finish, close the queue.
 */
#include "server/server.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/log.h"
#include "job/runner_stub.h"
#include "job/store_sqlite.h"
#include "server/auth_file.h"
#include "server/event_json.h"
#include "server/serve_paths.h"

/* Only this machine can reach the address. E_VALUE: it is no address. */
static limn_status is_loopback(bool *out, const char *host, limn_err *err) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *list = NULL;
    int bad = getaddrinfo(host, NULL, &hints, &list);
    *out = false;
    if (bad) return limn_fail(err, LIMN_E_VALUE, "--host %s: %s", host, gai_strerror(bad));
    const struct sockaddr *a = list->ai_addr;
    if (a->sa_family == AF_INET)
        *out = (ntohl(((const struct sockaddr_in *)(const void *)a)->sin_addr.s_addr) >> 24) == 127;
    else if (a->sa_family == AF_INET6)
        *out = IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)a)->sin6_addr);
    freeaddrinfo(list);
    return LIMN_OK;
}

static limn_status check_guard(limn_server *s, limn_err *err) {
    limn_status st = is_loopback(&s->loopback, s->set->host, err);
    if (st != LIMN_OK || s->loopback || limn_keyring_has_keys(s->keys)) return st;
    if (!s->set->insecure_no_auth)
        return limn_fail(err, LIMN_E_USAGE,
                         "others can reach %s: make a key first (limn key create), or say "
                         "--insecure-no-auth",
                         s->set->host);
    limn_server_log(s, LIMN_LOG_WARN,
                    "serving without keys on an address that others can reach: everybody may do "
                    "everything",
                    "host", s->set->host, NULL);
    return LIMN_OK;
}

/* ---- the queue ---- */

static limn_status open_stub(limn_server *s, limn_runner **runner, limn_err *err) {
    limn_stub_options opt = {.step_ms = (double)s->set->stub_ms, .misbehave = true};
    limn_status st = limn_shelf_new(&s->own_shelf, limn_params_text(s->app, "models_dir"), err);
    s->shelf = s->own_shelf;
    return st == LIMN_OK ? limn_runner_stub_new(runner, &opt, err) : st;
}

static limn_status open_runner(limn_server *s, limn_runner **runner, limn_artifacts *artifacts,
                               limn_err *err) {
    if (s->set->engine == LIMN_SERVE_STUB) return open_stub(s, runner, err);
    limn_status st = limn_runner_engine_new(runner, s->app, artifacts, err);
    if (st != LIMN_OK) return st;
    s->engine = *runner;
    s->shelf = limn_runner_engine_shelf(*runner);
    return LIMN_OK;
}

static limn_status open_queue(limn_server *s, limn_err *err) {
    const limn_serve_settings *set = s->set;
    limn_queue_options opt = {.max_queued = (int)set->queue_depth,
                              .max_queued_owner = (int)set->queue_depth,
                              .keep_jobs = set->history_jobs,
                              .trash_ms = limn_server_trash_ms(set->trash_hours),
                              .keep_days = (int)set->history_days};
    char dir[LIMN_SERVE_PATH_MAX], db[LIMN_SERVE_PATH_MAX];
    limn_store *store = NULL;
    limn_artifacts *artifacts = NULL;
    limn_runner *runner = NULL;
    limn_status st = LIMN_OK;
    LIMN_TRY(limn_serve_path_data(dir, s->serve, err));
    LIMN_TRY(limn_private_dir(dir, err));
    LIMN_TRY(limn_serve_path_in(db, s->serve, "jobs.db", err));
    LIMN_TRY(limn_store_sqlite_open(&store, &(limn_sqlite_options){.path = db}, err));
    LIMN_TRY(limn_artifacts_open(&artifacts, dir, err));
    LIMN_TRY(open_runner(s, &runner, artifacts, err));
    st = limn_queue_open(&s->queue, store, artifacts, runner, &opt, err);
    if (st == LIMN_OK) return LIMN_OK;
    s->engine = NULL; /* the queue has closed all three */
    return st;
out:
    limn_runner_close(&runner);
    limn_artifacts_close(&artifacts);
    limn_store_close(&store);
    return st;
}

/* ---- life ---- */

static limn_status open_guard(limn_server *s, limn_err *err) {
    char path[LIMN_SERVE_PATH_MAX], dir[LIMN_SERVE_PATH_MAX];
    bool given = limn_params_is_set(s->serve, "rate_limit");
    double rate = limn_server_rate(s->set, given);
    atomic_store(&s->rate_given, given);
    limn_status st = limn_serve_path_data(dir, s->serve, err);
    if (st == LIMN_OK) st = limn_private_dir(dir, err);
    if (st == LIMN_OK) st = limn_serve_path_keys(path, s->serve, err);
    if (st == LIMN_OK) st = limn_keyring_open(&s->keys, path, err);
    if (st == LIMN_OK) st = limn_buckets_new(&s->rates, rate, rate, err);
    if (st == LIMN_OK)
        st = limn_buckets_new(&s->bad_keys, LIMN_LIMIT_BAD_KEYS, LIMN_LIMIT_BAD_KEYS, err);
    return st == LIMN_OK ? check_guard(s, err) : st;
}

/* Before anything may decode: pictures of strangers are opened by other processes. */
static limn_status open_decoders(limn_server *s, limn_err *err) {
    limn_decoders_options o = {.most = (int)s->set->decode_files,
                               .seconds = (int)s->set->decode_seconds,
                               .memory = s->set->decode_memory << 20};
    if (!s->set->decode_apart) {
        limn_server_log(s, LIMN_LOG_WARN, "strangers' pictures are decoded in the server itself",
                        "decode_apart", "off", NULL);
        return LIMN_OK;
    }
    limn_status st = limn_decoders_start(&s->decoders, &o, err);
    if (st == LIMN_OK) limn_decoders_use(s->decoders);
    return st;
}

static limn_status start(limn_server *s, limn_err *err) {
    limn_status st = limn_metrics_new(&s->metrics, err);
    if (st == LIMN_OK) st = limn_log_ring_new(&s->log, err);
    if (st == LIMN_OK) st = limn_state_cache_new(&s->states, err);
    if (st == LIMN_OK) st = open_guard(s, err);
    if (st == LIMN_OK) st = open_decoders(s, err);
    if (st == LIMN_OK) st = open_queue(s, err);
    if (st == LIMN_OK) st = limn_prefs_open(&s->prefs, s, err);
    if (st == LIMN_OK && s->set->default_model[0])
        st = limn_shelf_set_default(s->shelf, LIMN_SHELF_DRAW, s->set->default_model, err);
    if (st == LIMN_OK) st = limn_watcher_start(&s->watcher, s, err);
    if (st == LIMN_OK) st = limn_sockets_start(&s->sockets, s, err);
    if (st == LIMN_OK) st = limn_aside_start(&s->aside, err);
    if (st == LIMN_OK) st = limn_remote_start(&s->remote, s, err);
    if (st == LIMN_OK) st = limn_http_start(s, err);
    if (st == LIMN_OK) st = limn_listener_start(&s->listener, s, err);
    if (st == LIMN_OK && s->decoders) st = limn_decoders_try(s->decoders, err);
    return st;
}

static void drain(limn_server *s) {
    atomic_store(&s->draining, true);
    limn_server_log(s, LIMN_LOG_INFO, "draining", NULL);
    if (!limn_queue_drain(s->queue, (int)s->set->drain_seconds * 1000))
        limn_server_log(s, LIMN_LOG_WARN, "running jobs wait for the next start", NULL);
}

static void stop(limn_server *s) {
    atomic_store(&s->stopping, true);
    if (s->watcher) limn_watcher_stop(&s->watcher);
    limn_sockets_stop(&s->sockets);
    limn_listener_stop(s->listener);
    limn_remote_stop(s->remote);
    limn_aside_stop(s->aside);
    limn_http_stop(s);
    limn_aside_free(&s->aside);
    limn_remote_free(&s->remote);
    limn_watcher_free(&s->watcher);
    limn_listener_free(&s->listener);
    limn_prefs_free(&s->prefs);
    limn_queue_close(&s->queue);
    limn_decoders_stop(&s->decoders);
    limn_shelf_free(&s->own_shelf);
    limn_buckets_free(&s->rates);
    limn_buckets_free(&s->bad_keys);
    limn_keyring_close(&s->keys);
    limn_metrics_free(&s->metrics);
    limn_state_cache_free(&s->states);
}

limn_status limn_serve(const limn_params *serve, const limn_params *app,
                       const limn_serving *serving, limn_err *err) {
    limn_server *s = limn_mem_calloc(1, sizeof *s);
    limn_status st = LIMN_OK;
    if (!s) return limn_fail(err, LIMN_E_NOMEM, "no memory to serve");
    s->hooks = serving;
    pthread_mutex_init(&s->log_lock, NULL);
    LIMN_TRY(limn_params_copy(&s->serve, serve, err));
    LIMN_TRY(limn_params_copy(&s->app, app, err));
    s->set = limn_serve_of(s->serve);
    s->log_json = s->set->log_format == LIMN_LOG_FORMAT_JSON ||
                  (s->set->log_format == LIMN_LOG_FORMAT_AUTO && !serving->terminal);
    s->started_ms = limn_clock_unix_ms();
    s->started = limn_clock_now();
    limn_log_set(limn_server_log_sink, s,
                 limn_params_int(app, "verbose") ? LIMN_LOG_DEBUG : LIMN_LOG_INFO);
    LIMN_TRY(start(s, err));
    s->port = limn_listener_port(s->listener);
    if (serving->ready) serving->ready(serving->user, s->set->host, s->port);
    if (serving->notify) serving->notify(serving->user, "READY=1");
    limn_server_run(s);
    if (serving->notify) serving->notify(serving->user, "STOPPING=1");
    drain(s);
out:
    stop(s);
    if (st == LIMN_OK) limn_server_log(s, LIMN_LOG_INFO, "stopped", NULL);
    limn_log_set(NULL, NULL, LIMN_LOG_ERROR);
    limn_log_ring_free(&s->log);
    for (int i = 0; i < s->n_settings; i++) limn_params_free(&s->settings[i]);
    limn_mem_free(s->settings);
    limn_params_free(&s->serve);
    limn_params_free(&s->app);
    pthread_mutex_destroy(&s->log_lock);
    limn_mem_free(s);
    return st;
}
