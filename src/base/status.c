/* SPDX-License-Identifier: MIT */
/* Status table and error text; see status.h. */
#include "base/status.h"

#include <stdio.h>
#include <string.h>

typedef struct status_row {
    limn_status st;
    const char *text;
    int http;
    int exit_code;
    int retryable;
} status_row;

static const status_row rows[] = {
#define X(id, num, text, http, exit_code, retry) {LIMN_##id, text, http, exit_code, retry},
    LIMN_STATUS_LIST(X)
#undef X
};

static const status_row *row_find(limn_status st) {
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (rows[i].st == st) return &rows[i];
    return &rows[sizeof rows / sizeof rows[0] - 1];
}

const char *limn_status_text(limn_status st) {
    return row_find(st)->text;
}
int limn_status_http(limn_status st) {
    return row_find(st)->http;
}
int limn_status_exit(limn_status st) {
    return row_find(st)->exit_code;
}
int limn_status_is_retryable(limn_status st) {
    return row_find(st)->retryable;
}

static void text_clean(char *text) {
    for (unsigned char *p = (unsigned char *)text; *p; p++)
        if (*p < 0x20 || *p == 0x7f) *p = '?';
}

limn_status limn_failv(limn_err *err, limn_status st, const char *fmt, va_list ap) {
    if (!err) return st;
    err->status = st;
    vsnprintf(err->text, sizeof err->text, fmt, ap);
    text_clean(err->text);
    return st;
}

limn_status limn_fail(limn_err *err, limn_status st, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    limn_failv(err, st, fmt, ap);
    va_end(ap);
    return st;
}

void limn_err_prefix(limn_err *err, const char *fmt, ...) {
    if (!err || err->status == LIMN_OK) return;
    char old[LIMN_ERR_TEXT_MAX];
    memcpy(old, err->text, sizeof old);
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(err->text, sizeof err->text, fmt, ap);
    va_end(ap);
    if (n < 0) n = 0;
    if ((size_t)n < sizeof err->text)
        snprintf(err->text + n, sizeof err->text - (size_t)n, ": %s", old);
    text_clean(err->text);
}
