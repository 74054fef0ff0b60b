/* SPDX-License-Identifier: MIT */
/*
 * What the main thread does while the server serves: settings and keys are read again when that is
 * asked for (SIGHUP), and the service manager hears that the server lives, as long as it answers.
 *
 * New settings take the place of the old ones in one step; threads that still read the old ones may
 * go on, they are kept to the end.
 */
#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/cancel.h"
#include "base/clock.h"
#include "server/server.h"

enum { RATE_DEFAULT = 1200, POLL_MS = 100, ANSWER_MS = 2000 };

double limn_server_rate(const limn_serve_settings *set, bool given) {
    return given ? (double)set->rate_limit : RATE_DEFAULT;
}

int64_t limn_server_trash_ms(int64_t hours) {
    return hours > 0 ? hours * 3600000 : -1;
}

/* ---- settings ---- */

/* A setting that is looked at only when the server starts. */
static void compare_fixed(limn_server *s, const limn_params *now) {
    static const char *const rows[] = {"host",   "port",          "socket",    "http_threads",
                                       "keys",   "data_dir",      "engine",    "stub_ms",
                                       "studio", "default_model", "log_format"};
    const limn_serve_settings *set = s->set;
    limn_buf was, is;
    limn_buf_init(&was, 1 << 16);
    limn_buf_init(&is, 1 << 16);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const limn_param *p = limn_param_find(&limn_serve_table, rows[i]);
        limn_buf_clear(&was);
        limn_buf_clear(&is);
        limn_param_format(&was, &set->head, p, false, -1);
        limn_param_format(&is, now, p, false, -1);
        if (strcmp(limn_buf_text(&was), limn_buf_text(&is)) != 0)
            limn_server_log(s, LIMN_LOG_WARN, "this setting changes at the next start", "setting",
                            rows[i], NULL);
    }
    limn_buf_deinit(&was);
    limn_buf_deinit(&is);
}

/* What the page has changed meanwhile stays, unless the file says something new about it. */
static void set_limits(limn_server *s, const limn_serve_settings *was,
                       const limn_serve_settings *now) {
    limn_queue_limits l;
    limn_err err = {0};
    limn_queue_get_limits(s->queue, &l);
    if (now->queue_depth != was->queue_depth)
        l.max_queued = l.max_queued_owner = (int)now->queue_depth;
    if (now->history_days != was->history_days) l.keep_days = (int)now->history_days;
    if (now->history_jobs != was->history_jobs) l.keep_jobs = now->history_jobs;
    if (now->trash_hours != was->trash_hours) l.trash_ms = limn_server_trash_ms(now->trash_hours);
    if (limn_queue_set_limits(s->queue, &l, &err) != LIMN_OK)
        limn_server_log(s, LIMN_LOG_WARN, err.text, NULL);
}

/* Keeps the values until the end; false: no memory, they are freed. */
static bool keep(limn_server *s, limn_params *now) {
    size_t n = (size_t)s->n_settings;
    limn_params **grown = limn_mem_realloc(s->settings, (n + 1) * sizeof(limn_params *));
    if (!grown) {
        limn_params_free(&now);
        return false;
    }
    s->settings = grown;
    grown[s->n_settings++] = now;
    return true;
}

static void reload(limn_server *s) {
    limn_params *now = NULL;
    limn_err err = {0};
    limn_keyring_reload(s->keys);
    if (s->hooks->settings && s->hooks->settings(s->hooks->user, &now, &err) != LIMN_OK) {
        limn_server_log(s, LIMN_LOG_ERROR, "the settings stay as they were", "reason", err.text,
                        NULL);
        return;
    }
    if (!now || !keep(s, now)) return;
    const limn_serve_settings *set = limn_serve_of(now), *was = s->set;
    bool given = limn_params_is_set(now, "rate_limit");
    double rate = limn_server_rate(set, given);
    compare_fixed(s, now);
    set_limits(s, was, set);
    limn_buckets_set(s->rates, rate, rate);
    atomic_store(&s->rate_given, given);
    s->set = set;
    limn_server_log(s, LIMN_LOG_INFO, "settings and keys were read again", NULL);
}

/* ---- the watchdog ---- */

static bool can(int fd, short what) {
    struct pollfd p = {.fd = fd, .events = what};
    return poll(&p, 1, ANSWER_MS) == 1 && (p.revents & what);
}

/* A request of our own is answered, so every part that a request passes is alive. */
static bool answers(const limn_server *s) {
    static const char ask[] = "GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    bool v6 = strchr(s->set->host, ':') != NULL;
    struct sockaddr_in a4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)s->port)};
    struct sockaddr_in6 a6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)s->port)};
    char text[16];
    int fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return false;
    bool any = inet_pton(AF_INET, s->set->host, &a4.sin_addr) != 1 || a4.sin_addr.s_addr == 0;
    if (any) a4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (inet_pton(AF_INET6, s->set->host, &a6.sin6_addr) != 1 ||
        IN6_IS_ADDR_UNSPECIFIED(&a6.sin6_addr))
        a6.sin6_addr = in6addr_loopback;
    const void *address = v6 ? (const void *)&a6 : (const void *)&a4;
    bool good = connect(fd, address, v6 ? sizeof a6 : sizeof a4) == 0 && can(fd, POLLOUT) &&
                send(fd, ask, sizeof ask - 1, MSG_NOSIGNAL) == (ssize_t)sizeof ask - 1 &&
                can(fd, POLLIN) && recv(fd, text, sizeof text, MSG_PEEK) >= 12 &&
                memcmp(text, "HTTP/1.1 200", 12) == 0;
    close(fd);
    return good;
}

/* ---- the thread ---- */

void limn_server_run(limn_server *s) {
    const limn_serving *h = s->hooks;
    double next = limn_clock_now();
    while (!h->stop || !limn_cancel_is_set(h->stop)) {
        struct timespec nap = {0, POLL_MS * 1000000L};
        nanosleep(&nap, NULL);
        if (h->reload && limn_cancel_is_set(h->reload)) {
            limn_cancel_clear(h->reload);
            if (h->notify) h->notify(h->user, "RELOADING=1");
            reload(s);
            if (h->notify) h->notify(h->user, "READY=1");
        }
        if (!h->notify || h->watchdog_seconds <= 0 || limn_clock_now() < next) continue;
        next = limn_clock_now() + h->watchdog_seconds;
        if (answers(s))
            h->notify(h->user, "WATCHDOG=1");
        else
            limn_server_log(s, LIMN_LOG_ERROR, "the server does not answer itself", NULL);
    }
}
