/* SPDX-License-Identifier: MIT */
/*
 * Status codes and the error record: the part of the public interface that every layer shares.
 *
 * Programs include limn.h, which includes this file. Inside the library src/base/status.h adds the
 * functions that write errors. One row per status; the numbers and exit codes are part of the
 * interface and never change their meaning.
 */
#ifndef LIMN_STATUS_H
#define LIMN_STATUS_H

/* X(id, number, text, http status, process exit code, retryable) */
#define LIMN_STATUS_LIST(X)                                                                        \
    X(OK, 0, "ok", 200, 0, 0)                                                                      \
    X(E_USAGE, -1, "bad command line", 400, 2, 0)                                                  \
    X(E_VALUE, -2, "value out of range", 400, 2, 0)                                                \
    X(E_NOT_FOUND, -3, "not found", 404, 3, 0)                                                     \
    X(E_IO, -4, "input or output failed", 500, 4, 1)                                               \
    X(E_FORMAT, -5, "file is damaged or not of this format", 422, 5, 0)                            \
    X(E_UNSUPPORTED, -6, "not supported", 501, 6, 0)                                               \
    X(E_SHAPE, -7, "tensor shapes do not fit", 422, 7, 0)                                          \
    X(E_MISSING, -8, "part of the model is missing", 422, 8, 0)                                    \
    X(E_NOMEM, -9, "not enough memory", 507, 9, 1)                                                 \
    X(E_LIMIT, -10, "limit exceeded", 413, 10, 0)                                                  \
    X(E_CANCELLED, -11, "cancelled", 499, 130, 0)                                                  \
    X(E_NUMERIC, -12, "computation produced NaN or infinity", 500, 12, 0)                          \
    X(E_INTERNAL, -13, "internal error", 500, 70, 0)                                               \
    X(E_BUSY, -14, "too many jobs wait already", 429, 14, 1)                                       \
    X(E_CONFLICT, -15, "not possible in this state", 409, 15, 0)                                   \
    X(E_UNAVAILABLE, -16, "not available now", 503, 16, 1)                                         \
    X(E_REUSED, -17, "this key belongs to another request", 422, 17, 0)                            \
    X(E_CONTEXT, -18, "more than the model's context holds", 400, 18, 0)

typedef enum limn_status {
#define X(id, num, text, http, exit_code, retry) LIMN_##id = num,
    LIMN_STATUS_LIST(X)
#undef X
} limn_status;

#define LIMN_ERR_TEXT_MAX 512

/* An error with its text; zero-initialise. The text is always NUL-terminated UTF-8, one line. */
typedef struct limn_err {
    limn_status status;
    char text[LIMN_ERR_TEXT_MAX];
} limn_err;

/* Short fixed text of a status, for example "not found". Never NULL. */
const char *limn_status_text(limn_status st);
/* HTTP status of an answer that fails this way. */
int limn_status_http(limn_status st);
/* Process exit code of a command that fails this way. */
int limn_status_exit(limn_status st);
/* 1 when the same request may succeed later without being changed. */
int limn_status_is_retryable(limn_status st);

#endif
