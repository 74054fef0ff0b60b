/* SPDX-License-Identifier: MIT */
/* Reading a request and answering it; see http.h. */
#include <math.h>
#include <microhttpd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/server.h"

/* ---- reading ---- */

const char *limn_http_header(const limn_http_req *rq, const char *name) {
    return MHD_lookup_connection_value(rq->conn, MHD_HEADER_KIND, name);
}

const char *limn_http_query(const limn_http_req *rq, const char *name) {
    for (int i = 0; i < rq->n_query; i++)
        if (strcmp(rq->query[i].name, name) == 0) return rq->query[i].value;
    return NULL;
}

const char *limn_http_owner(const limn_http_req *rq) {
    return rq->who.scope == LIMN_SCOPE_ADMIN ? NULL : rq->who.owner;
}

const char *limn_http_printf(limn_http_req *rq, const char *fmt, ...) {
    char text[2048];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    const char *kept = limn_arena_strdup(&rq->arena, text);
    return kept ? kept : "";
}

const char *limn_http_origin(limn_http_req *rq) {
    const char *host = limn_http_header(rq, "Host");
    const char *proto =
        rq->server->set->trust_proxy ? limn_http_header(rq, "X-Forwarded-Proto") : NULL;
    return limn_http_printf(rq, "%s://%s", proto && strcmp(proto, "https") == 0 ? "https" : "http",
                            host ? host : "localhost");
}

/* ---- answering ---- */

static void set_response(limn_http_req *rq, int status, struct MHD_Response *r, const char *mime,
                         int64_t size) {
    if (rq->response) MHD_destroy_response(rq->response);
    rq->response = r;
    rq->status = status;
    rq->bytes_out = size;
    if (r && mime) MHD_add_response_header(r, "Content-Type", mime);
}

void limn_http_reply_bytes(limn_http_req *rq, int status, const char *mime, void *data,
                           size_t size) {
    struct MHD_Response *r =
        MHD_create_response_from_buffer_with_free_callback(size, data, limn_mem_free);
    if (!r) limn_mem_free(data);
    set_response(rq, status, r, mime, (int64_t)size);
}

void limn_http_reply_static(limn_http_req *rq, int status, const char *mime, const void *data,
                            size_t size) {
    set_response(
        rq, status,
        MHD_create_response_from_buffer(size, (void *)(uintptr_t)data, MHD_RESPMEM_PERSISTENT),
        mime, (int64_t)size);
}

void limn_http_reply_fd(limn_http_req *rq, int status, const char *mime, int fd, int64_t from,
                        int64_t size) {
    struct MHD_Response *r =
        MHD_create_response_from_fd_at_offset64((uint64_t)size, fd, (uint64_t)from);
    if (!r) close(fd);
    set_response(rq, status, r, mime, size);
}

void limn_http_reply_empty(limn_http_req *rq, int status) {
    limn_http_reply_static(rq, status, NULL, "", 0);
}

void limn_http_reply_json(limn_http_req *rq, int status, json_t *body) {
    char *text = body ? json_dumps(body, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    json_decref(body);
    if (!text) {
        static const char sorry[] = "{\"error\":{\"type\":\"server_error\",\"code\":"
                                    "\"out_of_memory\",\"param\":null,\"message\":\"no memory\"}}";
        limn_http_reply_static(rq, 507, "application/json", sorry, sizeof sorry - 1);
        return;
    }
    size_t n = strlen(text);
    struct MHD_Response *r = MHD_create_response_from_buffer(n, text, MHD_RESPMEM_MUST_FREE);
    if (!r) free(text);
    set_response(rq, status, r, "application/json", (int64_t)n);
}

void limn_http_add_header(limn_http_req *rq, const char *name, const char *value) {
    if (rq->response) MHD_add_response_header(rq->response, name, value);
}

/* ---- errors ---- */

json_t *limn_http_error_json(limn_http_code code, const char *param, const char *message,
                             const char *request_id) {
    const limn_http_error_row *row = limn_http_error_get(code);
    json_t *e = json_pack("{s:s, s:s, s:s?, s:s}", "type", row->type, "code", row->code, "param",
                          param, "message", message);
    if (request_id) json_object_set_new(e, "request_id", json_string(request_id));
    return e;
}

/* A1111 and SD.Next: {"error", "detail", "body", "errors"}; 422 as their framework has it. */
static json_t *sdapi_error(const limn_http_req *rq, limn_http_code code, const char *param,
                           const char *message) {
    const limn_http_error_row *row = limn_http_error_get(code);
    if (row->http == 422)
        return json_pack("{s:[{s:[s, s], s:s, s:s}], s:s}", "detail", "loc", "body",
                         param ? param : "", "msg", message, "type", row->code, "error",
                         "RequestValidationError");
    const char *name = row->http == 404 || row->http == 401 ? "HTTPException" : row->code;
    json_t *e = json_pack("{s:s, s:s, s:s, s:s}", "error", name, "detail", message, "body", "",
                          "errors", message);
    if (rq->server->set->compat == LIMN_COMPAT_SDNEXT)
        json_object_set_new(e, "code", json_integer(row->http));
    return e;
}

static void fail_text(limn_http_req *rq, limn_http_code code, const char *param,
                      const char *message) {
    const limn_http_error_row *row = limn_http_error_get(code);
    int status = row->http == 499 ? 409 : row->http;
    switch (rq->family) {
    case LIMN_FAMILY_SDAPI:
        /* their clients expect 422 for a wrong value */
        if (row->http == 400 && code != LIMN_HTTP_BAD_REQUEST && code != LIMN_HTTP_BAD_IMAGE) {
            code = LIMN_HTTP_INVALID;
            status = 422;
        }
        limn_http_reply_json(rq, status, sdapi_error(rq, code, param, message));
        break;
    case LIMN_FAMILY_PAGE: {
        size_t n = strlen(message);
        char *text = limn_mem_alloc(n + 2);
        if (!text) break; /* the core answers that there is no memory */
        memcpy(text, message, n);
        memcpy(text + n, "\n", 2);
        limn_http_reply_bytes(rq, status, "text/plain; charset=utf-8", text, n + 1);
        break;
    }
    case LIMN_FAMILY_NATIVE:
    case LIMN_FAMILY_OPENAI:
    case LIMN_FAMILIES: {
        json_t *e = limn_http_error_json(code, param, message, rq->id);
        limn_http_reply_json(rq, status, json_pack("{s:o}", "error", e));
        break;
    }
    }
    if (status == 401)
        limn_http_add_header(rq, "WWW-Authenticate", "Basic realm=\"limn\", charset=\"UTF-8\"");
    /* what failed here fails again: clients need not try by themselves */
    if (status >= 500 && status != 503) limn_http_add_header(rq, "x-should-retry", "false");
}

void limn_http_fail(limn_http_req *rq, limn_http_code code, const char *param, const char *fmt,
                    ...) {
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    fail_text(rq, code, param, text);
}

void limn_http_fail_err(limn_http_req *rq, const limn_err *err, double retry_seconds) {
    limn_http_code code = limn_http_error_find(err->status);
    const char *message = err->text[0] ? err->text : limn_status_text(err->status);
    char param[80] = "";
    if (message[0] == '/')
        snprintf(param, sizeof param, "%.*s", (int)strcspn(message + 1, ":/ "), message + 1);
    if (err->status == LIMN_E_INTERNAL || err->status == LIMN_E_IO)
        limn_server_log(rq->server, LIMN_LOG_ERROR, message, "request_id", rq->id, NULL);
    if (err->status == LIMN_E_IO) message = limn_status_text(err->status); /* no paths outside */
    fail_text(rq, code, param[0] ? param : NULL, message);
    if (retry_seconds > 0) {
        char seconds[32];
        snprintf(seconds, sizeof seconds, "%.0f", ceil(retry_seconds));
        limn_http_add_header(rq, "Retry-After", seconds);
    }
}
