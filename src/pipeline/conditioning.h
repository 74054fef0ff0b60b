/* SPDX-License-Identifier: MIT */
/*
 * From prompt text to what a UNet attends to: the encode stage.
 *
 * A limn_conditioning holds, for every step of a run, the text states of one prompt (positive or
 * negative): parts of an AND composition, each with variants over ranges of steps. It owns its
 * numbers; after limn_conditioning_new it is immutable.
 */
#ifndef LIMN_PIPELINE_CONDITIONING_H
#define LIMN_PIPELINE_CONDITIONING_H

#include "backend/backend.h"
#include "param/gen.h"
#include "pipeline/checkpoint.h"
#include "text/prompt.h"

/* Text states of one variant. */
typedef struct limn_text_state {
    int64_t len;    /* tokens: chunks * window */
    float *context; /* [len, context_dim] */
    float *pooled;  /* [pooled dim] or NULL */
} limn_text_state;

typedef struct limn_conditioning limn_conditioning;

typedef struct limn_conditioning_args {
    limn_backend *backend;
    limn_checkpoint *ckpt;
    const limn_prompt *prompt;
    int steps;
    int clip_skip; /* A1111 counting: 1 = last layer; 0 = the model's own */
    limn_gen_emphasis emphasis;
    bool
        zero_empty; /* an empty text is all zeros (SDXL's negative prompt in diffusers and A1111) */
    const atomic_bool *cancel;
} limn_conditioning_args;

limn_status limn_conditioning_new(limn_conditioning **out, const limn_conditioning_args *args,
                                  limn_err *err);
void limn_conditioning_free(limn_conditioning **c);
/* Parts of the composition, at least 1, and the weight of each. */
int limn_conditioning_parts(const limn_conditioning *c);
float limn_conditioning_weight(const limn_conditioning *c, int part);
/* What `part` says at `step` (0-based; beyond the planned steps the last one holds). */
const limn_text_state *limn_conditioning_at(const limn_conditioning *c, int part, int step);

#endif
