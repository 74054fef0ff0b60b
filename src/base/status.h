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

#include "limn_status.h"

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
