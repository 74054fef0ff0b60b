/* SPDX-License-Identifier: MIT */
/*
 * Logging: one sink, set once by the program before threads start; without a sink nothing is
 * printed. Library code logs what a user may want to know (which model was detected, what was
 * skipped), never an error that it also returns. Any thread may log; the sink must be safe to call
 * from any thread.
 */
#ifndef LIMN_BASE_LOG_H
#define LIMN_BASE_LOG_H

typedef enum limn_log_level {
    LIMN_LOG_DEBUG,
    LIMN_LOG_INFO,
    LIMN_LOG_WARN,
    LIMN_LOG_ERROR
} limn_log_level;

typedef void limn_log_sink(void *user, limn_log_level level, const char *area, const char *text);

void limn_log_set(limn_log_sink *sink, void *user, limn_log_level least);
/* `area` is a short word such as "load" or "plan". */
void limn_log(limn_log_level level, const char *area, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#endif
