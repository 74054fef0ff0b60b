/* SPDX-License-Identifier: MIT */
/*
 * Guesses what a text says next from what it said before: where its last three (or two) tokens
 * stood earlier, the tokens behind them may follow again. Documents, tables and JSON repeat
 * themselves; a model that reads a few tokens at once for little more than one writes them faster
 * (prompt-lookup decoding, A. Saxena 2023). Whether it pays is measured: rows that are usually
 * right and a machine on which several rows cost little keep it on, anything else turns it off for
 * a while.
 *
 * Guesses never change a text: each token is picked from the model's own logits, and a guess only
 * saves the time when it is what was picked. One thread at a time.
 */
#ifndef LIMN_PIPELINE_DRAFT_H
#define LIMN_PIPELINE_DRAFT_H

#include "base/status.h"
#include "text/ids.h"

/* How long one token, and several at once, take: of a model on this machine. */
typedef struct limn_draft_time {
    double seconds; /* smoothed; 0: not known yet */
    int64_t count;  /* the first is not counted: programs are made in it */
} limn_draft_time;
typedef struct limn_draft_cost {
    limn_draft_time one, several;
} limn_draft_cost;

typedef struct limn_draft {
    const limn_ids *before, *after; /* prompt and answer, borrowed; `after` grows */
    uint32_t *places[2];   /* [SLOTS] of the last two, three tokens: where the next stood */
    size_t known;          /* tokens whose places are remembered */
    double right[2];       /* of a guess by two, three: tokens that are right, smoothed */
    int by;                /* what the last guess was made by: 0 or 1 */
    int64_t rest;          /* guesses that are left out until the next trial */
    int64_t rests;         /* how often it had to rest in a row */
    int64_t guessed, hits; /* tokens in all */
} limn_draft;

/* E_NOMEM. */
limn_status limn_draft_init(limn_draft *d, const limn_ids *before, const limn_ids *after,
                            limn_err *err);
void limn_draft_deinit(limn_draft *d);
/* The next tokens [most], as far as there is a guess that pays; their number. `always` guesses
 * whatever it costs. */
size_t limn_draft_guess(limn_draft *d, int32_t *ids, size_t most, const limn_draft_cost *cost,
                        bool always);
/* Of the last guess, of n tokens, so many were right. */
void limn_draft_learn(limn_draft *d, size_t n, size_t right);
void limn_draft_time_add(limn_draft_time *t, double seconds);

#endif
