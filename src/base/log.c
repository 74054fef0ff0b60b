/* SPDX-License-Identifier: MIT */
/* The log sink; see log.h. */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>

/* Set once at program start (see log.h); read-only afterwards. */
static struct {
    limn_log_sink *sink;
    void *user;
    limn_log_level least;
} state;

void limn_log_set(limn_log_sink *sink, void *user, limn_log_level least) {
    state.sink = sink;
    state.user = user;
    state.least = least;
}

void limn_log(limn_log_level level, const char *area, const char *fmt, ...) {
    if (!state.sink || level < state.least) return;
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    state.sink(state.user, level, area, text);
}
