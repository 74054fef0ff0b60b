/* SPDX-License-Identifier: MIT */
/*
 * What a handler sees: one request, and the ways to answer it.
 *
 * A request reaches its handler when it has passed the gate, matched a route, been authorised,
 * and its body is complete (and parsed, for JSON routes). The handler answers exactly once, with
 * one of the reply calls, or parks the request until a job has ended (limn_http_wait), or turns it
 * into a stream of a job's events (limn_http_stream). Handlers run on one of the HTTP threads and
 * must not block on work; they may wait for the disk. With a large body, or where the route says
 * so, they run beside those threads (aside.c) and may decode.
 *
 * A request belongs to the thread that runs its handler or continuation.
 */
#ifndef LIMN_SERVER_HTTP_H
#define LIMN_SERVER_HTTP_H

#include <jansson.h>

#include "base/mem.h"
#include "base/status.h"
#include "job/queue.h"
#include "server/auth.h"
#include "server/http_error.h"
#include "server/log_ring.h"

typedef struct limn_server limn_server;
typedef struct limn_http_req limn_http_req;
typedef struct limn_route limn_route;
struct MHD_Connection;
struct MHD_Response;

/* ---- routes ---- */

/* Whose manners an answer has, errors above all. */
typedef enum limn_http_family {
    LIMN_FAMILY_NATIVE,
    LIMN_FAMILY_SDAPI,
    LIMN_FAMILY_OPENAI,
    LIMN_FAMILY_PAGE, /* plain text for people */
    LIMN_FAMILIES
} limn_http_family;

typedef enum limn_route_flag {
    LIMN_ROUTE_JSON = 1 << 0,     /* body is a JSON object, parsed into req->json */
    LIMN_ROUTE_OPTIONAL = 1 << 1, /* ... that may be left out (json is then an empty object) */
    LIMN_ROUTE_RAW = 1 << 2,      /* body of another type; the handler checks req->content_type */
    LIMN_ROUTE_SUBMIT = 1 << 3,   /* makes a job: room in the queue is asked for before the body */
    LIMN_ROUTE_UPGRADE = 1 << 4,  /* WebSocket handshake */
    LIMN_ROUTE_ABSENT = 1 << 5,   /* known, not there: always 501 with its name */
    LIMN_ROUTE_QUIET = 1 << 6,    /* no line in the log (probes) */
    LIMN_ROUTE_LOOPBACK = 1 << 7, /* open on loopback as long as there are no keys */
    LIMN_ROUTE_ASIDE = 1 << 8,    /* takes long also without a large body (aside.c) */
} limn_route_flag;

typedef void limn_http_handler(limn_http_req *rq);

struct limn_route {
    const char *method; /* GET also answers HEAD */
    const char *path;   /* "/v1/jobs/{id}"; {id} is one segment */
    limn_scope scope;
    unsigned flags; /* limn_route_flag */
    int cost;       /* units of the rate limit */
    size_t body;    /* most bytes; 0: none allowed beyond 0 */
    limn_http_handler *handler;
    const char *summary;            /* for the OpenAPI page */
    const char *request, *response; /* names of schemas there; NULL: none */
    const char *example; /* a request body that succeeds (the tests send it); NULL: none */
};

typedef struct limn_route_table {
    limn_http_family family;
    const char *tag; /* for the OpenAPI page */
    const limn_route *rows;
    int count;
} limn_route_table;

extern const limn_route_table limn_page_routes, limn_native_routes, limn_sdapi_routes,
    limn_openai_routes;

/* All tables, ends with NULL. */
const limn_route_table *const *limn_route_tables(void);
enum { LIMN_ROUTE_ARGS = 3 };
/* The row for a path. NULL: none. *allow: methods that the path has, 1u << method index in
 * "GET POST PUT PATCH DELETE"; 0: no such path. args: decoded {segments}, in `arena`. */
const limn_route *limn_route_find(const limn_route_table **table, const char *method,
                                  const char *raw_path, size_t len, limn_arena *arena,
                                  const char *args[LIMN_ROUTE_ARGS], unsigned *allow);
/* Family of a path that has no route. */
limn_http_family limn_route_family(const char *raw_path, size_t len);

/* ---- a request ---- */

typedef struct limn_http_arg {
    const char *name, *value;
} limn_http_arg;

typedef struct limn_http_waiting limn_http_waiting;
typedef struct limn_remote_wait limn_remote_wait;

/* How far a complete request has come. */
typedef enum limn_http_stage {
    LIMN_HTTP_RECEIVED,
    LIMN_HTTP_PARSED,
    LIMN_HTTP_FETCHED, /* ... what it names by URL */
    LIMN_HTTP_HANDLED
} limn_http_stage;

struct limn_http_req {
    limn_server *server;
    const limn_route *route; /* NULL: none matched */
    limn_http_family family;
    const char *method, *path; /* raw path without query */
    const char *args[LIMN_ROUTE_ARGS];
    limn_http_arg *query;
    int n_query;
    const char *content_type; /* "" when there is none */
    limn_buf body;            /* bytes as they came */
    json_t *json;             /* of LIMN_ROUTE_JSON */
    limn_principal who;
    limn_rate rate;                /* what its asker may still do; per_minute 0: no limit */
    char id[68];                   /* request id */
    char trace[33];                /* trace id of its traceparent; "": none */
    char address[64];              /* of the client, for limits and the log */
    bool local;                    /* from this machine */
    char job[LIMN_JOB_ID_LEN + 1]; /* for the log; "" when it has none */
    limn_arena arena;              /* lives as long as the request */
    void *data;                    /* of the handler; free_data is called with it at the end */
    void (*free_data)(void *data);

    /* below: the core's own */
    struct MHD_Connection *conn;
    struct MHD_Response *response;
    limn_http_waiting *waiting;
    limn_remote_wait *remote; /* files that are being fetched for it */
    char *target;
    double started;
    size_t body_limit;
    unsigned allow; /* methods of a path without a row */
    bool upgrade, counted, refused;
    limn_http_stage stage;
    limn_http_req *aside_next; /* aside.c: the next in line, and what is to be done */
    limn_http_handler *aside_step;
    int status;
    int64_t bytes_out;
};

/* A header of the request, NULL when there is none. */
const char *limn_http_header(const limn_http_req *rq, const char *name);
/* A member of the query, decoded; NULL when there is none. */
const char *limn_http_query(const limn_http_req *rq, const char *name);
/* The owner to ask the queue with: NULL (sees all) for admins and without keys. */
const char *limn_http_owner(const limn_http_req *rq);
/* "http://host:port" as the client wrote it. */
const char *limn_http_origin(limn_http_req *rq);
/* More memory for a lasting text. */
const char *limn_http_printf(limn_http_req *rq, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* ---- answers; each takes what it is given, also on failure ---- */
void limn_http_reply_json(limn_http_req *rq, int status, json_t *body);
/* `data` from limn_mem_*. */
void limn_http_reply_bytes(limn_http_req *rq, int status, const char *mime, void *data,
                           size_t size);
/* Static memory. */
void limn_http_reply_static(limn_http_req *rq, int status, const char *mime, const void *data,
                            size_t size);
/* `size` bytes of the file from `from` on; takes the descriptor. */
void limn_http_reply_fd(limn_http_req *rq, int status, const char *mime, int fd, int64_t from,
                        int64_t size);
/* A file of `size` bytes, or the part of it that "Range" asks for (206, 416); takes the descriptor.
 * Several parts at once are answered with the whole, as a server may. */
void limn_http_reply_file(limn_http_req *rq, const char *mime, int fd, int64_t size,
                          const char *etag);
/* "If-None-Match" names this tag (with its quotes), or any. */
bool limn_http_has_tag(const limn_http_req *rq, const char *etag);
typedef enum limn_http_range {
    LIMN_HTTP_WHOLE, /* nothing that is understood is asked for */
    LIMN_HTTP_PART,
    LIMN_HTTP_NOTHING /* what is asked for is not in the file */
} limn_http_range;
/* The value of "Range", of a file of `size` bytes: *n bytes from *from on. */
limn_http_range limn_http_range_read(const char *text, int64_t size, int64_t *from, int64_t *n);
void limn_http_reply_empty(limn_http_req *rq, int status);
/* After a reply call, before the handler returns. */
void limn_http_add_header(limn_http_req *rq, const char *name, const char *value);

/* An error in the family's shape. `param`: the wrong member, or NULL. */
void limn_http_fail(limn_http_req *rq, limn_http_code code, const char *param, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* The same from a limn_err: the code by its status, the member from a text like "/steps: ...".
 * retry_seconds > 0 becomes Retry-After. */
void limn_http_fail_err(limn_http_req *rq, const limn_err *err, double retry_seconds);
/* The error object of the native shape, for other places (jobs, WebSocket). */
json_t *limn_http_error_json(limn_http_code code, const char *param, const char *message,
                             const char *request_id);

/* ---- answers that come later ---- */

/* Called on an HTTP thread, or beside them, with the job as it is then (borrowed; NULL: it cannot
 * be read), to answer `rq`. ended false: time is up. */
typedef void limn_http_done(limn_http_req *rq, limn_job *job, bool ended);
/* Parks the request until the job has ended or timeout_ms (< 0: never) is over. When the client
 * goes away before and `cancel` is set, the job is cancelled. */
void limn_http_wait(limn_http_req *rq, const char *job, int64_t timeout_ms, bool cancel,
                    limn_http_done *done);

/* How a feed becomes an event stream. Calls come from one HTTP thread at a time. */
typedef struct limn_http_stream_ops {
    /* First bytes, before any event; NULL: none. */
    void (*begin)(void *user, limn_buf *out);
    /* One event to bytes; *end ends the stream after them. lost: events before it are gone. */
    void (*event)(void *user, limn_buf *out, const limn_job_event *e, bool lost, bool *end);
    /* The server stops: last bytes; NULL: none. */
    void (*bye)(void *user, limn_buf *out);
    /* Over; ended false: the client went away before `end`. Frees user. */
    void (*free)(void *user, bool ended);
} limn_http_stream_ops;
/* Of each of opt[count], 1 or more: job, owner, after and previews say what to follow. Events of
 * several jobs come in one stream, in order within each; e->job says whose one is. */
void limn_http_stream(limn_http_req *rq, const limn_feed_options *opt, int count,
                      const limn_http_stream_ops *ops, void *user);
/* The same with lines of the log. */
void limn_http_stream_log(limn_http_req *rq, const limn_log_query *query);

#endif
