/* SPDX-License-Identifier: MIT */
/*
 * Turns: several threads that compute with all cores each share them by time, one at a time.
 *
 * Whoever has a pool of threads (pool.h) of its own takes a turn around a piece of work and offers
 * it at points where it can wait. The turn goes to the party that has had the least time: a new
 * one gets it at the next such point, and two that always want it get half of the time each, also
 * when the pieces of one are a hundred times as long as those of the other. A party that comes back
 * within a moment of its end (the next token) and has time to its credit still finds the turn free.
 *
 * A limn_turn belongs to one thread at a time. All functions may be called from any thread.
 */
#ifndef LIMN_BASE_TURNS_H
#define LIMN_BASE_TURNS_H

#include <pthread.h>

#include "base/status.h"

typedef struct limn_turns limn_turns;

/* One party. Members are the turns' own. */
typedef struct limn_turn {
    limn_turns *turns; /* NULL: has all cores for itself, nothing below does anything */
    pthread_cond_t wake;
    double used;  /* seconds that it has had */
    double began; /* of the present turn */
    struct limn_turn *next;
} limn_turn;

/* E_NOMEM. */
limn_status limn_turns_new(limn_turns **out, limn_err *err);
/* After the last party has left. */
void limn_turns_free(limn_turns **turns);
/* `turns` NULL: leaves, or stays alone. */
void limn_turn_join(limn_turn *t, limn_turns *turns);
/* Waits for the turn. */
void limn_turn_begin(limn_turn *t);
/* Has the turn and could wait: gives it to who has had less time, and waits to get it back. One
 * atomic load when nobody waits. */
void limn_turn_offer(limn_turn *t);
void limn_turn_end(limn_turn *t);

#endif
