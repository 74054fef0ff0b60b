/* SPDX-License-Identifier: MIT */
/* Routes that belong to no interface: health, counters, documentation for people. */
#include <string.h>

#include "server/api/api.h"

void page_livez(limn_http_req *rq) {
    limn_http_reply_json(rq, 200, json_pack("{s:s}", "status", "ok"));
}

void page_readyz(limn_http_req *rq) {
    limn_server *s = rq->server;
    limn_err err = {0};
    bool draining = atomic_load(&s->draining);
    if (!draining && limn_queue_ready(s->queue, &err) == LIMN_OK) {
        limn_http_reply_json(rq, 200, json_pack("{s:s}", "status", "ok"));
        return;
    }
    limn_http_reply_json(rq, 503,
                         json_pack("{s:s, s:[s]}", "status", "unavailable", "reasons",
                                   draining ? "draining" : err.text));
    limn_http_add_header(rq, "Retry-After", "5");
}

void page_metrics(limn_http_req *rq) {
    limn_buf b;
    limn_buf_init(&b, 4 << 20);
    limn_metrics_format(&b, rq->server);
    size_t n = b.len;
    char *text = limn_buf_take(&b);
    if (text)
        limn_http_reply_bytes(rq, 200, "text/plain; version=0.0.4; charset=utf-8", text, n);
    else
        limn_http_fail(rq, LIMN_HTTP_NO_MEMORY, NULL, "no memory for counters");
    limn_buf_deinit(&b);
}

static const limn_route rows[] = {
    {.method = "GET",
     .path = "/livez",
     .flags = LIMN_ROUTE_QUIET,
     .handler = page_livez,
     .summary = "the process answers"},
    {.method = "GET",
     .path = "/readyz",
     .flags = LIMN_ROUTE_QUIET,
     .handler = page_readyz,
     .summary = "jobs are taken; 503 with reasons when not"},
    {.method = "GET",
     .path = "/metrics",
     .scope = LIMN_SCOPE_ADMIN,
     .flags = LIMN_ROUTE_QUIET,
     .handler = page_metrics,
     .summary = "counters in Prometheus' text format"},
    {.method = "GET",
     .path = "/docs",
     .cost = 1,
     .handler = page_docs,
     .summary = "this interface, to read"},
};

const limn_route_table limn_page_routes = {LIMN_FAMILY_PAGE, "server", rows,
                                           (int)(sizeof rows / sizeof rows[0])};
