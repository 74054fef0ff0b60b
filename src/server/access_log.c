/* SPDX-License-Identifier: MIT */
/*
 * The log: one line per event, as JSON for machines or in short for people. Texts from outside are
 * escaped, so that no request can forge a line or speak to a terminal.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "server/server.h"

enum { LINE_MAX_BYTES = 8192 };

static const char *const level_words[] = {"debug", "info", "warn", "error"};

static void add_json(limn_buf *b, const char *text) {
    limn_buf_addc(b, '"');
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
        if (*c == '"' || *c == '\\')
            limn_buf_addf(b, "\\%c", *c);
        else if (*c < 0x20 || *c == 0x7f)
            limn_buf_addf(b, "\\u%04x", *c);
        else
            limn_buf_addc(b, (char)*c);
    }
    limn_buf_addc(b, '"');
}

static void add_plain(limn_buf *b, const char *text) {
    for (const unsigned char *c = (const unsigned char *)text; *c; c++)
        limn_buf_addc(b, *c < 0x20 || *c == 0x7f ? '?' : (char)*c);
}

static void begin_line(limn_buf *b, limn_server *s, limn_log_level level, const char *message) {
    int64_t now = limn_clock_unix_ms();
    time_t seconds = (time_t)(now / 1000);
    struct tm tm;
    char when[32];
    gmtime_r(&seconds, &tm);
    strftime(when, sizeof when, s->log_json ? "%Y-%m-%dT%H:%M:%S" : "%H:%M:%S", &tm);
    limn_buf_init(b, LINE_MAX_BYTES);
    if (s->log_json) {
        limn_buf_addf(b, "{\"ts\":\"%s.%03dZ\",\"level\":\"%s\",\"msg\":", when, (int)(now % 1000),
                      level_words[level]);
        add_json(b, message);
        return;
    }
    limn_buf_addf(b, "%s ", when);
    if (level >= LIMN_LOG_WARN) limn_buf_addf(b, "%s: ", level_words[level]);
    add_plain(b, message);
}

static void add_pair(limn_buf *b, const limn_server *s, const char *name, const char *value) {
    if (s->log_json) {
        limn_buf_addf(b, ",\"%s\":", name);
        add_json(b, value);
    } else {
        limn_buf_addf(b, "  %s=", name);
        add_plain(b, value);
    }
}

static void end_line(limn_buf *b, limn_server *s) {
    if (s->log_json) limn_buf_addc(b, '}');
    pthread_mutex_lock(&s->log_lock);
    if (s->hooks->log && !b->failed) s->hooks->log(s->hooks->user, limn_buf_text(b));
    pthread_mutex_unlock(&s->log_lock);
    limn_buf_deinit(b);
}

void limn_server_log(limn_server *s, limn_log_level level, const char *message, ...) {
    limn_buf b;
    va_list ap;
    if (!s->hooks->log) return;
    begin_line(&b, s, level, message);
    va_start(ap, message);
    for (const char *name; (name = va_arg(ap, const char *));)
        add_pair(&b, s, name, va_arg(ap, const char *));
    va_end(ap);
    end_line(&b, s);
}

void limn_server_log_sink(void *user, limn_log_level level, const char *area, const char *text) {
    limn_server_log(user, level, text, "area", area, NULL);
}

void limn_server_log_request(const limn_http_req *rq, double seconds) {
    limn_server *s = rq->server;
    limn_buf b;
    bool quiet = rq->route && (rq->route->flags & LIMN_ROUTE_QUIET) && rq->status < 400;
    if (!s->hooks->log || !s->set->log_requests || quiet) return;
    const char *path = rq->path ? rq->path : "?", *method = rq->method ? rq->method : "?";
    if (s->log_json) {
        begin_line(&b, s, LIMN_LOG_INFO, "request");
        add_pair(&b, s, "request_id", rq->id);
        add_pair(&b, s, "method", method);
        add_pair(&b, s, "path", path);
        add_pair(&b, s, "route", rq->route ? rq->route->path : "");
        add_pair(&b, s, "address", rq->address);
        if (rq->who.owner[0]) add_pair(&b, s, "owner", rq->who.owner);
        if (rq->job[0]) add_pair(&b, s, "job_id", rq->job);
        limn_buf_addf(&b, ",\"status\":%d,\"ms\":%.3f,\"bytes_in\":%zu,\"bytes_out\":%lld",
                      rq->status, seconds * 1e3, rq->body.len, (long long)rq->bytes_out);
    } else {
        char text[64];
        snprintf(text, sizeof text, "%d %7.1f ms  %-6s ", rq->status, seconds * 1e3, method);
        begin_line(&b, s, LIMN_LOG_INFO, text);
        add_plain(&b, path);
        if (rq->job[0]) add_pair(&b, s, "job", rq->job);
        if (rq->who.owner[0]) add_pair(&b, s, "owner", rq->who.owner);
    }
    end_line(&b, s);
}
