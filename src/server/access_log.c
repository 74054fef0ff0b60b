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

/* One line under construction: as it is written, and as the ring keeps it. */
typedef struct log_text {
    limn_buf out, ring;
    int64_t now;
    limn_log_level level;
    bool pairs;
} log_text;

static void begin_line(log_text *t, limn_server *s, limn_log_level level, const char *message,
                       const char *plain) {
    t->now = limn_clock_unix_ms();
    t->level = level;
    t->pairs = false;
    time_t seconds = (time_t)(t->now / 1000);
    struct tm tm;
    char when[32];
    limn_buf *b = &t->out;
    gmtime_r(&seconds, &tm);
    strftime(when, sizeof when, s->log_json ? "%Y-%m-%dT%H:%M:%S" : "%H:%M:%S", &tm);
    limn_buf_init(b, LINE_MAX_BYTES);
    limn_buf_init(&t->ring, LINE_MAX_BYTES);
    limn_buf_addf(&t->ring, "\"level\":\"%s\",\"message\":", level_words[level]);
    add_json(&t->ring, message);
    limn_buf_adds(&t->ring, ",\"fields\":{");
    if (s->log_json) {
        limn_buf_addf(b, "{\"ts\":\"%s.%03dZ\",\"level\":\"%s\",\"msg\":", when,
                      (int)(t->now % 1000), level_words[level]);
        add_json(b, message);
        return;
    }
    limn_buf_addf(b, "%s ", when);
    if (level >= LIMN_LOG_WARN) limn_buf_addf(b, "%s: ", level_words[level]);
    add_plain(b, plain);
}

static void add_to_ring(log_text *t, const char *name, const char *value) {
    limn_buf_addf(&t->ring, "%s\"%s\":", t->pairs ? "," : "", name);
    add_json(&t->ring, value);
    t->pairs = true;
}

static void add_pair(log_text *t, const limn_server *s, const char *name, const char *value) {
    if (s->log_json) {
        limn_buf_addf(&t->out, ",\"%s\":", name);
        add_json(&t->out, value);
    } else {
        limn_buf_addf(&t->out, "  %s=", name);
        add_plain(&t->out, value);
    }
    add_to_ring(t, name, value);
}

/* A number, which JSON has without quotes; not in the short form. */
static void add_number(log_text *t, const limn_server *s, const char *name, const char *value) {
    if (s->log_json) limn_buf_addf(&t->out, ",\"%s\":%s", name, value);
    add_to_ring(t, name, value);
}

static void end_line(log_text *t, limn_server *s) {
    if (s->log_json) limn_buf_addc(&t->out, '}');
    limn_buf_addc(&t->ring, '}');
    pthread_mutex_lock(&s->log_lock);
    if (s->hooks->log && !t->out.failed) s->hooks->log(s->hooks->user, limn_buf_text(&t->out));
    pthread_mutex_unlock(&s->log_lock);
    if (s->log && !t->ring.failed)
        limn_log_ring_add(s->log, t->level, t->now, limn_buf_text(&t->ring));
    limn_buf_deinit(&t->out);
    limn_buf_deinit(&t->ring);
}

void limn_server_log(limn_server *s, limn_log_level level, const char *message, ...) {
    log_text t;
    va_list ap;
    begin_line(&t, s, level, message, message);
    va_start(ap, message);
    for (const char *name; (name = va_arg(ap, const char *));)
        add_pair(&t, s, name, va_arg(ap, const char *));
    va_end(ap);
    end_line(&t, s);
}

void limn_server_log_sink(void *user, limn_log_level level, const char *area, const char *text) {
    limn_server_log(user, level, text, "area", area, NULL);
}

static void add_numbers(log_text *t, const limn_http_req *rq, double seconds) {
    char text[32];
    const limn_server *s = rq->server;
    snprintf(text, sizeof text, "%d", rq->status);
    add_number(t, s, "status", text);
    snprintf(text, sizeof text, "%.3f", seconds * 1e3);
    add_number(t, s, "ms", text);
    snprintf(text, sizeof text, "%zu", rq->body.len);
    add_number(t, s, "bytes_in", text);
    snprintf(text, sizeof text, "%lld", (long long)rq->bytes_out);
    add_number(t, s, "bytes_out", text);
}

void limn_server_log_request(const limn_http_req *rq, double seconds) {
    limn_server *s = rq->server;
    log_text t;
    char plain[64];
    bool quiet = rq->route && (rq->route->flags & LIMN_ROUTE_QUIET) && rq->status < 400;
    if (!s->set->log_requests || quiet) return;
    const char *path = rq->path ? rq->path : "?", *method = rq->method ? rq->method : "?";
    snprintf(plain, sizeof plain, "%d %7.1f ms  %-6s ", rq->status, seconds * 1e3, method);
    begin_line(&t, s, LIMN_LOG_INFO, "request", plain);
    if (s->log_json) {
        add_pair(&t, s, "request_id", rq->id);
        add_pair(&t, s, "method", method);
        add_pair(&t, s, "path", path);
        add_pair(&t, s, "route", rq->route ? rq->route->path : "");
        add_pair(&t, s, "address", rq->address);
        if (rq->trace[0]) add_pair(&t, s, "trace_id", rq->trace);
    } else {
        add_plain(&t.out, path);
        add_to_ring(&t, "request_id", rq->id);
        add_to_ring(&t, "method", method);
        add_to_ring(&t, "path", path);
    }
    if (rq->who.owner[0]) add_pair(&t, s, "owner", rq->who.owner);
    if (rq->job[0]) add_pair(&t, s, s->log_json ? "job_id" : "job", rq->job);
    add_numbers(&t, rq, seconds);
    end_line(&t, s);
}
