/* SPDX-License-Identifier: MIT */
/* The server's end of decoding in other processes: the host (decoders.c) and a visit
 * (decode_visit.c). Internal to media/. */
#ifndef LIMN_MEDIA_DECODERS_IMPL_H
#define LIMN_MEDIA_DECODERS_IMPL_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "base/cancel.h"
#include "media/decode_wire.h"
#include "media/decoders.h"
#include "media/media_impl.h"

enum { LIMN_DEATHS_KEPT = 32 };

struct limn_decoders {
    char *program;
    int most, seconds;
    int64_t memory;
    pthread_mutex_t lock; /* of all below that is not atomic */
    pthread_cond_t freed; /* a visit has ended */
    int busy;
    pid_t host;                                /* 0: none */
    int control, report;                       /* -1: none */
    double started;                            /* < 0: never */
    limn_decode_died deaths[LIMN_DEATHS_KEPT]; /* a ring, newest at n_deaths - 1 */
    unsigned n_deaths;
    limn_decoders_state state;
    char why[LIMN_ERR_TEXT_MAX];
    atomic_bool stopping; /* cancels the first try */
    bool trying;          /* the thread below runs */
    pthread_t first_try;
    atomic_int_fast64_t files, crashed, late;
};

/* ---- decoders.c: for a visit ---- */
/* Waits for its turn and for a host. The caller releases it. E_UNAVAILABLE, E_CANCELLED. */
limn_status limn_decoders_enter(limn_decoders *d, const atomic_bool *cancel, limn_err *err);
void limn_decoders_leave(limn_decoders *d);
/* Hands a visit to an idle child: `line` and `data` stay the caller's. */
limn_status limn_decoders_send(limn_decoders *d, const limn_decode_ask *ask, int line, int data,
                               limn_err *err);
/* How a child ended, as waitpid says; -1: not known. Waits a moment for the news. */
int limn_decoders_death(limn_decoders *d, int pid);

/* ---- decode_visit.c ---- */
typedef struct limn_decode_visit limn_decode_visit;
/* A child that has got the data; `ask` without magic and size. */
limn_status limn_decode_visit_begin(limn_decode_visit **out, limn_decoders *d, limn_decode_ask ask,
                                    const void *data, size_t size, const atomic_bool *cancel,
                                    limn_err *err);
/* Its next answer: the status of the child, or how it failed. A body of r->bytes is still to be
 * read, only after LIMN_OK. */
limn_status limn_decode_visit_reply(limn_decode_visit *v, limn_decode_reply *r, limn_err *err);
limn_status limn_decode_visit_body(limn_decode_visit *v, void *data, size_t size, limn_err *err);
limn_status limn_decode_visit_step(limn_decode_visit *v, bool read, int64_t index, limn_err *err);
/* The number of its process. */
int limn_decode_visit_pid(const limn_decode_visit *v);
/* Kills the child. NULL-safe. */
void limn_decode_visit_end(limn_decode_visit **v);

/* ---- decode_away.c ---- */
/* The reader of a file that a child has open. */
limn_status limn_media_open_away(limn_media_reader *out, limn_decoders *d,
                                 const limn_media_input *in, limn_err *err);
/* What limn_decoders_use said. */
limn_decoders *limn_decoders_used(void);

#endif
