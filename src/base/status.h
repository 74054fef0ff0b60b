/* SPDX-License-Identifier: MIT */
/*
 * Status codes and error text.
 *
 * Every fallible function of limn returns a limn_status and takes a `limn_err *err` into which the
 * one-line explanation goes; `err` may be NULL when the caller only wants the code. The text names
 * what is wrong and what would be right. An assert marks our own bug, a status the world's fault.
 *
 * A limn_err belongs to one thread at a time; nothing here is shared.
 */
#ifndef LIMN_BASE_STATUS_H
#define LIMN_BASE_STATUS_H

#include <stdarg.h>

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
    X(E_INTERNAL, -13, "internal error", 500, 70, 0)

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

/* Records `st` and the formatted text in `err` (if not NULL) and returns `st`. Control characters
 * in the text are replaced by '?', so that hostile file names cannot write to a terminal. */
limn_status limn_fail(limn_err *err, limn_status st, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
limn_status limn_failv(limn_err *err, limn_status st, const char *fmt, va_list ap);

/* Puts "prefix: " before a text that is already in `err`; used on the way up to add a file name. */
void limn_err_prefix(limn_err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Both need a local `limn_status st` and a label `out:`. */
#define LIMN_TRY(call)                                                                             \
    do {                                                                                           \
        st = (call);                                                                               \
        if (st != LIMN_OK) goto out;                                                               \
    } while (0)

#define LIMN_CHECK(err, cond, code, ...)                                                           \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            st = limn_fail((err), (code), __VA_ARGS__);                                            \
            goto out;                                                                              \
        }                                                                                          \
    } while (0)

#endif
