/* SPDX-License-Identifier: MIT */
/*
 * From logits to the next token: biases, penalties, temperature, top-k, top-p, min-p, a seeded
 * draw, and log-probabilities for whoever asks. Order and meaning are those of transformers'
 * generation/logits_process.py (repetition, temperature, top-k, top-p, min-p) and of OpenAI's API
 * (logit_bias, presence and frequency penalties over what was generated, logprobs).
 *
 * The draw for token number i depends on seed and i only. One thread at a time.
 */
#ifndef LIMN_PIPELINE_TOKEN_PICKER_H
#define LIMN_PIPELINE_TOKEN_PICKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum { LIMN_TOP_LOGPROBS_MAX = 20 };

typedef struct limn_logit_bias {
    int32_t id;
    float add; /* -INFINITY forbids the token */
} limn_logit_bias;

typedef struct limn_pick_options {
    float temperature; /* 0: always the likeliest */
    int top_k;         /* 0: off */
    float top_p;       /* 0 < top_p <= 1; 1: off */
    float min_p;       /* 0..1, of the likeliest token's probability; 0: off */
    float repetition;  /* > 0: divides (negative: multiplies) logits of ids seen anywhere; 1: off */
    float presence, frequency; /* subtracted once / per occurrence in the generated text; 0: off */
    uint64_t seed;
    const limn_logit_bias *bias; /* copied */
    size_t n_bias;
    int top_logprobs; /* 0..20 of the likeliest tokens to report */
} limn_pick_options;

/* As a plain start: temperature 0, everything else off. */
extern const limn_pick_options limn_pick_greedy;

typedef struct limn_token_prob {
    int32_t id;
    float logprob; /* natural, of the model's own distribution before any option */
} limn_token_prob;

typedef struct limn_pick {
    int32_t id;
    float logprob;
    limn_token_prob top[LIMN_TOP_LOGPROBS_MAX]; /* likeliest first */
    int n_top;
} limn_pick;

typedef struct limn_token_picker limn_token_picker;

/* Ids from `usable` on (rows of the output layer without a token) are never picked; 0: all of
 * vocab. E_VALUE names the option that is out of range. */
limn_status limn_token_picker_new(limn_token_picker **out, int32_t vocab, int32_t usable,
                                  const limn_pick_options *opt, limn_err *err);
void limn_token_picker_free(limn_token_picker **p);
/* Ids of the prompt: only the repetition penalty sees them. */
void limn_token_picker_prompt(limn_token_picker *p, const int32_t *ids, size_t n);
/* Picks from logits [vocab] and remembers the choice. `allowed` NULL or a bit set [vocab / 32 + 1]
 * of the only ids that may be picked. E_INTERNAL when the network gave no numbers, E_VALUE when
 * nothing is allowed. */
limn_status limn_token_picker_take(limn_token_picker *p, limn_pick *out, const float *logits,
                                   const uint32_t *allowed, limn_err *err);

#endif
