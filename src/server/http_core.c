/* SPDX-License-Identifier: MIT */
/*
 * From libmicrohttpd to handlers and back: the life of a request.
 *
 *     uri()     the request target is known: the request is made
 *     begin()   headers are known: gate, route, guard, room in the queue, declared length
 *     upload()  body, up to the route's limit
 *     finish()  JSON is parsed, the handler runs (large ones aside); or a parked request goes on
 *     done()    the answer is sent or the client is gone: log, counters, memory
 *
 * There are as many daemons as HTTP threads, each with its own epoll loop; a connection stays on
 * one of them.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <microhttpd.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "server/http_gate.h"
#include "server/server.h"

enum {
    CONNECTION_MEMORY = 24 * 1024,
    BODY_IGNORED = 4096,
    PARSE_ASIDE = 1 << 20, /* bodies from here on are parsed aside, */
    HANDLE_ASIDE = 4096    /* ... and handled: they may hold a file that is to be decoded */
};

/* ---- the target ---- */

static void make_id(char out[68]) {
    unsigned char bytes[8];
    randombytes_buf(bytes, sizeof bytes);
    memcpy(out, "r-", 2);
    sodium_bin2hex(out + 2, 2 * sizeof bytes + 1, bytes, sizeof bytes);
}

static bool is_id(const char *s) {
    size_t n = strlen(s);
    for (size_t i = 0; i < n; i++) {
        char c = s[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '.' || c == '_' || c == '-'))
            return false;
    }
    return n > 0 && n <= 64;
}

static bool is_hex(const char *s, size_t n) {
    bool any = false;
    for (size_t i = 0; i < n; i++) {
        if (!((s[i] >= '0' && s[i] <= '9') || (s[i] >= 'a' && s[i] <= 'f'))) return false;
        any |= s[i] != '0';
    }
    return any;
}

/* The trace id of "VV-TRACE-PARENT-FLAGS" (W3C Trace Context); nothing when it is not valid. */
static void read_trace(limn_http_req *rq) {
    const char *t = limn_http_header(rq, "traceparent");
    size_t n = t ? strlen(t) : 0;
    if (n < 55 || t[2] != '-' || t[35] != '-' || t[52] != '-' || (n > 55 && t[55] != '-')) return;
    bool first = t[0] == '0' && t[1] == '0';
    if ((first && n != 55) || (!first && !is_hex(t, 2)) || strncmp(t, "ff", 2) == 0) return;
    if (!is_hex(t + 3, 32) || !is_hex(t + 36, 16)) return;
    memcpy(rq->trace, t + 3, 32);
}

static void *uri(void *user, const char *target, struct MHD_Connection *conn) {
    limn_http_req *rq = limn_mem_calloc(1, sizeof *rq);
    if (!rq) return NULL;
    rq->server = user;
    rq->conn = conn;
    rq->started = limn_clock_now();
    limn_arena_init(&rq->arena);
    rq->target = limn_arena_strdup(&rq->arena, target);
    rq->content_type = "";
    make_id(rq->id);
    limn_buf_init(&rq->body, 0);
    return rq;
}

/* "a=1&b=two" into rq->query. */
static bool read_query(limn_http_req *rq, const char *text) {
    limn_http_arg *args =
        limn_arena_alloc(&rq->arena, sizeof(limn_http_arg) * LIMN_LIMIT_QUERY_ARGS);
    if (!args) return false;
    rq->query = args;
    while (*text) {
        size_t n = strcspn(text, "&");
        const char *eq = memchr(text, '=', n);
        size_t name_len = eq ? (size_t)(eq - text) : n;
        size_t value_len = eq ? n - name_len - 1 : 0;
        if (name_len) {
            char *name = limn_arena_alloc(&rq->arena, name_len + 1);
            char *value = limn_arena_alloc(&rq->arena, value_len + 1);
            if (rq->n_query == LIMN_LIMIT_QUERY_ARGS || !name || !value) return false;
            if (!limn_http_decode(name, text, name_len, true)) return false;
            if (eq && !limn_http_decode(value, eq + 1, value_len, true)) return false;
            args[rq->n_query++] = (limn_http_arg){name, value};
        }
        text += n + (text[n] == '&');
    }
    return true;
}

/* ---- headers ---- */

static enum MHD_Result gate_one(void *user, enum MHD_ValueKind kind, const char *name,
                                size_t name_len, const char *value, size_t value_len) {
    (void)kind;
    limn_http_gate_header(user, name, name_len, value ? value : "", value_len);
    return MHD_YES;
}

/* The gate's rules on what libmicrohttpd has parsed: for the second and later requests. */
static bool pass_gate(limn_http_req *rq, const char *method, const char *version) {
    limn_http_gate gate;
    limn_http_gate_line(&gate, method, strlen(method), rq->target, strlen(rq->target), version,
                        strlen(version));
    MHD_get_connection_values_n(rq->conn, MHD_HEADER_KIND, gate_one, &gate);
    limn_http_gate_end(&gate);
    if (!gate.status) return true;
    limn_metrics_add(rq->server->metrics, LIMN_METRIC_REFUSED);
    limn_http_fail(rq, limn_http_error_of(gate.status), NULL, "%s", gate.reason);
    limn_http_add_header(rq, "Connection", "close");
    return false;
}

static void read_address(limn_http_req *rq) {
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(rq->conn, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    const struct sockaddr *a = info ? info->client_addr : NULL;
    rq->local = true;
    snprintf(rq->address, sizeof rq->address, "local");
    if (a && a->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)a;
        inet_ntop(AF_INET, &in->sin_addr, rq->address, sizeof rq->address);
        rq->local = strncmp(rq->address, "127.", 4) == 0;
    } else if (a && a->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in = (const void *)a;
        inet_ntop(AF_INET6, &in->sin6_addr, rq->address, sizeof rq->address);
        rq->local =
            IN6_IS_ADDR_LOOPBACK(&in->sin6_addr) || strncmp(rq->address, "::ffff:127.", 11) == 0;
    }
    const char *via = rq->server->set->trust_proxy ? limn_http_header(rq, "X-Forwarded-For") : NULL;
    if (!via) return;
    const char *last = strrchr(via, ',');
    last = last ? last + 1 : via;
    while (*last == ' ') last++;
    unsigned char any[16];
    if (inet_pton(AF_INET, last, any) != 1 && inet_pton(AF_INET6, last, any) != 1) return;
    snprintf(rq->address, sizeof rq->address, "%s", last);
    rq->local = false;
}

static void no_route(limn_http_req *rq) {
    static const char *const names[] = {"GET, HEAD", "POST", "PUT", "PATCH", "DELETE"};
    char list[80] = "";
    unsigned allow = rq->allow;
    for (unsigned i = 0; i < 5; i++)
        if (allow & (1u << i))
            snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", *list ? ", " : "",
                     names[i]);
    if (!allow) {
        bool reads = strcmp(rq->method, "GET") == 0 || strcmp(rq->method, "HEAD") == 0;
        if (rq->family == LIMN_FAMILY_PAGE && reads && limn_static_reply(rq, rq->path)) return;
        limn_http_fail(rq, LIMN_HTTP_UNKNOWN_ROUTE, NULL, "there is no %.200s here", rq->path);
    } else if (strcmp(rq->method, "OPTIONS") == 0) {
        limn_http_reply_empty(rq, 204);
        limn_http_add_header(rq, "Allow", list);
    } else {
        limn_http_fail(rq, LIMN_HTTP_BAD_METHOD, NULL, "%s is not possible here, only %s",
                       rq->method, list);
        limn_http_add_header(rq, "Allow", list);
    }
}

static bool is_json_type(const char *type) {
    size_t n = strcspn(type, "; \t");
    return (n == 16 && strncasecmp(type, "application/json", n) == 0) ||
           (n > 5 && strncasecmp(type, "application/", 12) == 0 &&
            strncasecmp(type + n - 5, "+json", 5) == 0);
}

/* What the headers say about the body. */
static bool check_body(limn_http_req *rq) {
    const limn_route *row = rq->route;
    const char *length = limn_http_header(rq, "Content-Length");
    const char *coding = limn_http_header(rq, "Content-Encoding");
    const char *type = limn_http_header(rq, "Content-Type");
    bool chunked = limn_http_header(rq, "Transfer-Encoding") != NULL;
    rq->content_type = type ? type : "";
    rq->body_limit = row->body ? row->body : BODY_IGNORED;
    limn_buf_init(&rq->body, rq->body_limit + 1);
    bool empty = !chunked && (!length || strtoull(length, NULL, 10) == 0);
    uint64_t declared = length ? strtoull(length, NULL, 10) : 0;
    if (declared > rq->body_limit && declared <= 2 * (uint64_t)rq->body_limit &&
        !limn_http_header(rq, "Expect")) {
        /* a little too long: read to its end, as closing now might cost the client the answer */
        rq->refused = true;
        rq->status = 413;
    } else if (declared > rq->body_limit) {
        limn_http_fail(rq, LIMN_HTTP_BODY_TOO_LARGE, NULL, "the body may have %zu bytes at most",
                       rq->body_limit);
        return false;
    }
    if (coding && strcasecmp(coding, "identity") != 0) {
        limn_http_fail(rq, LIMN_HTTP_MEDIA_TYPE, NULL, "Content-Encoding is not accepted");
        return false;
    }
    if ((row->flags & LIMN_ROUTE_JSON) && !(empty && (row->flags & LIMN_ROUTE_OPTIONAL)) &&
        !is_json_type(rq->content_type)) {
        limn_http_fail(rq, LIMN_HTTP_MEDIA_TYPE, NULL, "Content-Type must be application/json");
        return false;
    }
    return true;
}

static bool check_room(limn_http_req *rq) {
    limn_submitted room = {0};
    limn_err err = {0};
    if (!(rq->route->flags & LIMN_ROUTE_SUBMIT)) return true;
    if (limn_queue_admit(rq->server->queue, rq->who.owner, &room, &err) == LIMN_OK) return true;
    limn_http_fail_err(rq, &err, room.retry_seconds > 0 ? room.retry_seconds : 5);
    return false;
}

static void begin(limn_http_req *rq, const char *method, const char *version) {
    limn_server *s = rq->server;
    read_address(rq);
    size_t n = rq->target ? strcspn(rq->target, "?") : 0;
    rq->path = rq->target ? limn_arena_strndup(&rq->arena, rq->target, n) : NULL;
    rq->method = limn_arena_strdup(&rq->arena, method);
    rq->family = rq->path ? limn_route_family(rq->path, n) : LIMN_FAMILY_PAGE;
    const char *id = limn_http_header(rq, "X-Request-Id");
    if (id && is_id(id)) snprintf(rq->id, sizeof rq->id, "%s", id);
    read_trace(rq);
    if (!rq->path || !rq->method) {
        limn_http_fail(rq, LIMN_HTTP_NO_MEMORY, NULL, "no memory for the request");
        return;
    }
    if (!pass_gate(rq, method, version)) return;
    if (!read_query(rq, rq->target[n] ? rq->target + n + 1 : "")) {
        limn_http_fail(rq, LIMN_HTTP_BAD_REQUEST, NULL, "the query cannot be read");
        return;
    }
    const limn_route_table *table = NULL;
    unsigned allow;
    rq->route = limn_route_find(&table, method, rq->path, n, &rq->arena, rq->args, &allow);
    if (rq->route) rq->family = table->family;
    if (!limn_guard_check(rq)) return;
    if (!rq->route) {
        rq->allow = allow;
        bool reads = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
        if (!reads) no_route(rq); /* an answer before the body closes the connection */
        return;
    }
    if (atomic_load(&s->stopping)) {
        limn_http_fail(rq, LIMN_HTTP_UNAVAILABLE, NULL, "the server is stopping");
        limn_http_add_header(rq, "Retry-After", "5");
        return;
    }
    if (rq->route->flags & LIMN_ROUTE_ABSENT) {
        limn_http_fail(rq, LIMN_HTTP_ABSENT, NULL, "%s is not there yet", rq->route->path);
        return;
    }
    if (!check_body(rq)) return;
    check_room(rq);
}

/* ---- body ---- */

/* A body that breaks a limit is read to its end and thrown away, so that the client hears why. */
static enum MHD_Result upload(limn_http_req *rq, const char *data, size_t *size) {
    size_t n = *size;
    *size = 0;
    if (!rq->refused) {
        limn_server *s = rq->server;
        bool room =
            atomic_fetch_add(&s->bodies_bytes, (int64_t)n) + (int64_t)n <= LIMN_LIMIT_BODIES_BYTES;
        if (room && rq->body.len + n <= rq->body_limit) {
            limn_buf_add(&rq->body, data, n);
            if (!rq->body.failed) return MHD_YES;
        }
        atomic_fetch_sub(&s->bodies_bytes, (int64_t)n);
        rq->refused = true;
        rq->status = room ? 413 : 503;
        rq->bytes_out = (int64_t)rq->body.len; /* what has been thrown away */
    }
    rq->bytes_out += (int64_t)n;
    return rq->bytes_out > 2 * (int64_t)rq->body_limit + (1 << 20) ? MHD_NO : MHD_YES;
}

static bool parse_body(limn_http_req *rq) {
    limn_err err = {0};
    if (rq->refused) {
        rq->bytes_out = 0;
        if (rq->status == 413)
            limn_http_fail(rq, LIMN_HTTP_BODY_TOO_LARGE, NULL,
                           "the body may have %zu bytes at most", rq->body_limit);
        else
            limn_http_fail(rq, LIMN_HTTP_UNAVAILABLE, NULL, "too many large requests at once");
        return false;
    }
    if (!(rq->route->flags & LIMN_ROUTE_JSON)) return true;
    if (rq->body.len == 0 && (rq->route->flags & LIMN_ROUTE_OPTIONAL)) {
        rq->json = json_object();
        return true;
    }
    if (limn_json_read(&rq->json, limn_buf_text(&rq->body), rq->body.len, &err) != LIMN_OK) {
        limn_http_fail(rq, LIMN_HTTP_BAD_JSON, NULL, "%s", err.text);
        return false;
    }
    if (!json_is_object(rq->json)) {
        limn_http_fail(rq, LIMN_HTTP_BAD_JSON, NULL, "the body must be a JSON object");
        return false;
    }
    return true;
}

/* ---- answer ---- */

/* As OpenAI's clients read them: in requests of this kind. */
static void add_rate(const limn_http_req *rq, struct MHD_Response *r) {
    double cost = rq->route && rq->route->cost > 0 ? rq->route->cost : 1;
    const struct {
        const char *name, *unit;
        double value;
    } all[] = {{"x-ratelimit-limit-requests", "", floor(rq->rate.burst / cost)},
               {"x-ratelimit-remaining-requests", "", floor(rq->rate.left / cost)},
               {"x-ratelimit-reset-requests", "s", ceil(rq->rate.full_seconds)}};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        char text[40];
        snprintf(text, sizeof text, "%.0f%s", all[i].value, all[i].unit);
        MHD_add_response_header(r, all[i].name, text);
    }
}

static enum MHD_Result send_answer(limn_http_req *rq) {
    struct MHD_Response *r = rq->response;
    if (!r) return MHD_NO;
    rq->response = NULL;
    MHD_add_response_header(r, "X-Request-Id", rq->id);
    MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
    if (!MHD_get_response_header(r, "Cache-Control"))
        MHD_add_response_header(r, "Cache-Control", "no-store");
    if (rq->family == LIMN_FAMILY_PAGE) {
        MHD_add_response_header(r, "X-Frame-Options", "DENY");
        MHD_add_response_header(r, "Referrer-Policy", "no-referrer");
        MHD_add_response_header(r, "Cross-Origin-Opener-Policy", "same-origin");
    }
    MHD_add_response_header(r, "Cross-Origin-Resource-Policy", "same-origin");
    if (!MHD_get_response_header(r, "Content-Security-Policy") && !rq->upgrade)
        MHD_add_response_header(r, "Content-Security-Policy",
                                "default-src 'none'; frame-ancestors 'none'");
    if (rq->family == LIMN_FAMILY_OPENAI && rq->rate.per_minute > 0) add_rate(rq, r);
    if (rq->family == LIMN_FAMILY_SDAPI) {
        char seconds[32];
        snprintf(seconds, sizeof seconds, "%.4f", limn_clock_now() - rq->started);
        MHD_add_response_header(r, "X-Process-Time", seconds);
    }
    enum MHD_Result ok = MHD_queue_response(rq->conn, (unsigned)rq->status, r);
    MHD_destroy_response(r);
    return ok;
}

static void parse(limn_http_req *rq) {
    parse_body(rq); /* answers when it cannot be read */
}

static void handle(limn_http_req *rq) {
    rq->route->handler(rq);
    if (!rq->response && !rq->waiting)
        limn_http_fail(rq, LIMN_HTTP_INTERNAL, NULL, "no answer was made");
}

/* true: suspended, it comes back. */
static bool do_step(limn_http_req *rq, limn_http_handler *step, bool aside) {
    if (aside && limn_aside_begin(rq, step)) return true;
    if (!rq->response) step(rq);
    return false;
}

/* From the complete request to its answer, or to what it waits for. true: suspended. */
static bool advance(limn_http_req *rq) {
    while (!rq->response && rq->stage != LIMN_HTTP_HANDLED) {
        limn_http_stage was = rq->stage;
        bool gone = false;
        rq->stage = was + 1;
        if (was == LIMN_HTTP_RECEIVED) {
            gone = do_step(rq, parse, rq->body.len >= PARSE_ASIDE && !rq->refused);
        } else if (was == LIMN_HTTP_PARSED) {
            gone = limn_remote_begin(rq);
        } else {
            if (rq->remote) limn_remote_end(rq);
            bool aside = rq->body.len >= HANDLE_ASIDE || (rq->route->flags & LIMN_ROUTE_ASIDE);
            if (!rq->response) gone = do_step(rq, handle, aside);
        }
        if (gone) return true;
    }
    return false;
}

static enum MHD_Result finish(limn_http_req *rq) {
    if (!rq->route)
        no_route(rq);
    else if (!rq->waiting && advance(rq))
        return MHD_YES;
    if (!rq->response && !limn_http_waiting_run(rq)) return MHD_YES; /* parked */
    if (!rq->response) limn_http_fail(rq, LIMN_HTTP_INTERNAL, NULL, "no answer was made");
    return send_answer(rq);
}

static enum MHD_Result access_request(void *user, struct MHD_Connection *conn, const char *url,
                                      const char *method, const char *version,
                                      const char *upload_data, size_t *upload_size, void **state) {
    (void)user;
    (void)url;
    limn_http_req *rq = *state;
    if (!rq) return MHD_NO;
    if (!rq->counted) {
        rq->counted = true;
        rq->conn = conn;
        begin(rq, method, version);
        return rq->response ? send_answer(rq) : MHD_YES;
    }
    if (*upload_size) return upload(rq, upload_data, upload_size);
    return finish(rq);
}

static void done(void *user, struct MHD_Connection *conn, void **state,
                 enum MHD_RequestTerminationCode how) {
    limn_http_req *rq = *state;
    limn_server *s = user;
    (void)conn;
    if (!rq) return;
    *state = NULL;
    double seconds = limn_clock_now() - rq->started;
    limn_http_waiting_free(&rq->waiting, how == MHD_REQUEST_TERMINATED_COMPLETED_OK);
    if (rq->counted) {
        limn_metrics_request(s->metrics, rq->route, rq->status, seconds);
        limn_server_log_request(rq, seconds);
    }
    if (rq->data && rq->free_data) rq->free_data(rq->data);
    limn_mem_free(rq->remote);
    if (rq->response) MHD_destroy_response(rq->response);
    atomic_fetch_sub(&s->bodies_bytes, (int64_t)rq->body.len);
    limn_buf_deinit(&rq->body);
    json_decref(rq->json);
    limn_arena_deinit(&rq->arena);
    limn_mem_free(rq);
}

static void connection_changed(void *user, struct MHD_Connection *conn, void **context,
                               enum MHD_ConnectionNotificationCode what) {
    limn_server *s = user;
    (void)context;
    if (what != MHD_CONNECTION_NOTIFY_CLOSED) return;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(conn, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    if (info && info->client_addr) limn_listener_release(s->listener, info->client_addr);
}

static void mhd_log(void *user, const char *fmt, va_list ap) {
    char text[512];
    (void)user;
    vsnprintf(text, sizeof text, fmt, ap);
    size_t n = strlen(text);
    while (n && text[n - 1] == '\n') text[--n] = 0;
    limn_log(LIMN_LOG_DEBUG, "http", "%s", text);
}

/* ---- daemons ---- */

void limn_http_take(limn_server *s, int fd, const void *address, unsigned address_len) {
    unsigned i = atomic_fetch_add(&s->next_daemon, 1) % (unsigned)s->n_daemons;
    if (MHD_add_connection(s->daemons[i], fd, address, (socklen_t)address_len) != MHD_YES)
        limn_listener_release(s->listener, address);
}

limn_status limn_http_start(limn_server *s, limn_err *err) {
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_NO_LISTEN_SOCKET | MHD_USE_ITC |
                     MHD_ALLOW_SUSPEND_RESUME | MHD_ALLOW_UPGRADE | MHD_USE_ERROR_LOG;
    int want = (int)s->set->http_threads;
    while (s->n_daemons < want) {
        struct MHD_Daemon *d = MHD_start_daemon(
            flags, 0, NULL, NULL, access_request, s, MHD_OPTION_EXTERNAL_LOGGER, mhd_log, s,
            MHD_OPTION_URI_LOG_CALLBACK, uri, s, MHD_OPTION_NOTIFY_COMPLETED, done, s,
            MHD_OPTION_NOTIFY_CONNECTION, connection_changed, s, MHD_OPTION_CONNECTION_LIMIT,
            (unsigned)s->set->max_connections + 64u, MHD_OPTION_CONNECTION_TIMEOUT,
            (unsigned)LIMN_LIMIT_IDLE_SECONDS, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
            (size_t)CONNECTION_MEMORY, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_END);
        if (!d) return limn_fail(err, LIMN_E_IO, "HTTP does not start: %s", strerror(errno));
        s->daemons[s->n_daemons++] = d;
    }
    return LIMN_OK;
}

void limn_http_stop(limn_server *s) {
    while (s->n_daemons > 0) {
        s->n_daemons--;
        MHD_stop_daemon(s->daemons[s->n_daemons]);
    }
}
