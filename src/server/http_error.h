/* SPDX-License-Identifier: MIT */
/*
 * The error table: every way in which a request can be refused, once. Families (native, sdapi,
 * OpenAI) differ in the shape around it only. Immutable; any thread.
 */
#ifndef LIMN_SERVER_HTTP_ERROR_H
#define LIMN_SERVER_HTTP_ERROR_H

#include "base/status.h"

/* X(id, http status, type, code) */
#define LIMN_HTTP_ERROR_LIST(X)                                                                    \
    X(BAD_REQUEST, 400, "invalid_request_error", "bad_request")                                    \
    X(BAD_JSON, 400, "invalid_request_error", "bad_json")                                          \
    X(UNKNOWN_FIELD, 400, "invalid_request_error", "unknown_field")                                \
    X(BAD_VALUE, 400, "invalid_request_error", "value_out_of_range")                               \
    X(CONTEXT, 400, "invalid_request_error", "context_length_exceeded")                            \
    X(BAD_IMAGE, 400, "invalid_request_error", "bad_image")                                        \
    X(MISSING_KEY, 401, "authentication_error", "missing_key")                                     \
    X(INVALID_KEY, 401, "authentication_error", "invalid_key")                                     \
    X(MISSING_SCOPE, 403, "permission_error", "missing_scope")                                     \
    X(FOREIGN_ORIGIN, 403, "permission_error", "foreign_origin")                                   \
    X(BAD_HOST, 403, "permission_error", "bad_host")                                               \
    X(UNKNOWN_ROUTE, 404, "not_found_error", "unknown_route")                                      \
    X(NO_JOB, 404, "not_found_error", "job_not_found")                                             \
    X(NO_ARTIFACT, 404, "not_found_error", "artifact_not_found")                                   \
    X(NO_MODEL, 404, "not_found_error", "model_not_found")                                         \
    X(NOT_FOUND, 404, "not_found_error", "not_found")                                              \
    X(BAD_METHOD, 405, "invalid_request_error", "method_not_allowed")                              \
    X(JOB_FINISHED, 409, "conflict_error", "job_finished")                                         \
    X(CONFLICT, 409, "conflict_error", "conflict")                                                 \
    X(BODY_TOO_LARGE, 413, "invalid_request_error", "body_too_large")                              \
    X(URI_TOO_LONG, 414, "invalid_request_error", "uri_too_long")                                  \
    X(MEDIA_TYPE, 415, "invalid_request_error", "unsupported_media_type")                          \
    X(BAD_RANGE, 416, "invalid_request_error", "range_not_satisfiable")                            \
    X(EXPECTATION, 417, "invalid_request_error", "expectation_failed")                             \
    X(REUSED, 422, "invalid_request_error", "idempotency_mismatch")                                \
    X(BAD_FILE, 422, "invalid_request_error", "bad_file")                                          \
    X(BAD_MODEL, 422, "invalid_request_error", "bad_model")                                        \
    X(INVALID, 422, "invalid_request_error", "validation_error")                                   \
    X(UPGRADE, 426, "invalid_request_error", "upgrade_required")                                   \
    X(RATE_LIMITED, 429, "rate_limit_error", "rate_limited")                                       \
    X(QUEUE_FULL, 429, "rate_limit_error", "queue_full")                                           \
    X(HEADERS_TOO_LARGE, 431, "invalid_request_error", "headers_too_large")                        \
    X(CANCELLED, 499, "cancelled_error", "cancelled")                                              \
    X(INTERNAL, 500, "server_error", "internal_error")                                             \
    X(IO, 500, "server_error", "io_error")                                                         \
    X(NUMERIC, 500, "server_error", "numeric_error")                                               \
    X(ABSENT, 501, "not_implemented_error", "not_implemented")                                     \
    X(UNAVAILABLE, 503, "unavailable_error", "unavailable")                                        \
    X(VERSION, 505, "invalid_request_error", "http_version")                                       \
    X(NO_MEMORY, 507, "server_error", "out_of_memory")

typedef enum limn_http_code {
#define X(id, http, type, code) LIMN_HTTP_##id,
    LIMN_HTTP_ERROR_LIST(X)
#undef X
        LIMN_HTTP_CODES
} limn_http_code;

typedef struct limn_http_error_row {
    int http;
    const char *type, *code;
} limn_http_error_row;
const limn_http_error_row *limn_http_error_get(limn_http_code code);
/* The row for a status of the library. */
limn_http_code limn_http_error_find(limn_status st);
/* The first row of an HTTP status; INTERNAL when there is none. */
limn_http_code limn_http_error_of(int http);

#endif
