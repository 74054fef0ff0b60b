/* SPDX-License-Identifier: MIT */
/*
 * The newest lines of the log, in memory, for who may look at them over HTTP (/v1/system/logs): a
 * bounded ring of numbered lines, each already the JSON object that is sent. A reader is a place in
 * it; adding never waits for readers.
 *
 * Any thread may call. A reader's wake function is called with the ring's lock held: it may set a
 * flag or resume a connection, and must not call the ring or log.
 */
#ifndef LIMN_SERVER_LOG_RING_H
#define LIMN_SERVER_LOG_RING_H

#include <stdbool.h>
#include <stdint.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/status.h"

enum { LIMN_LOG_RING_LINES = 2000, LIMN_LOG_RING_BYTES = 4 << 20 };

typedef struct limn_log_ring limn_log_ring;
typedef struct limn_log_reader limn_log_reader;

limn_status limn_log_ring_new(limn_log_ring **out, limn_err *err);
/* All readers must be closed. */
void limn_log_ring_free(limn_log_ring **ring);
/* `rest`: the members after "id" and "time" as JSON without braces. A line that finds no memory is
 * dropped. */
void limn_log_ring_add(limn_log_ring *ring, limn_log_level level, int64_t time_ms,
                       const char *rest);

typedef struct limn_log_query {
    int64_t after;        /* lines with larger numbers only; 0: all that are kept */
    int tail;             /* the newest of them at most; 0: all */
    limn_log_level least; /* lines of this level and worse */
} limn_log_query;

/* A JSON array of the lines, oldest first. */
void limn_log_ring_list(limn_log_ring *ring, limn_buf *out, const limn_log_query *query);

/* Begins with what the query says and goes on with what comes. */
limn_status limn_log_reader_open(limn_log_reader **out, limn_log_ring *ring,
                                 const limn_log_query *query, void (*wake)(void *user), void *user,
                                 limn_err *err);
void limn_log_reader_close(limn_log_reader **reader);
/* Appends the next line's object; its number. 0: there is none now, and `wake` is called once when
 * there is. *lost: lines before this one are no longer kept. */
int64_t limn_log_reader_next(limn_log_reader *reader, limn_buf *out, bool *lost);

#endif
