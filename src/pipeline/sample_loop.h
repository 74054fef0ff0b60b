/* SPDX-License-Identifier: MIT */
/*
 * The denoise loop of one pass over one batch: noise, schedule, solver, guider and network put
 * together. Knows nothing of files; latents in, latents out.
 */
#ifndef LIMN_PIPELINE_SAMPLE_LOOP_H
#define LIMN_PIPELINE_SAMPLE_LOOP_H

#include "pipeline/conditioning.h"
#include "pipeline/denoise.h"
#include "pipeline/draw_plan.h"

/* After each step: x0 [images, channels, h, w] is the picture so far (may be NULL). */
typedef void limn_step_done_fn(void *user, int done, int total, const float *x0);

/* Called before the first evaluation of each step; *changed: the network's weights are others. */
typedef limn_status limn_step_prepare_fn(void *user, bool *changed, int step, int steps,
                                         limn_err *err);

/* Networks are planned and packed, the steps begin. */
typedef void limn_sample_ready_fn(void *user);

typedef struct limn_sample_args {
    limn_backend *backend;
    limn_checkpoint *ckpt;
    const limn_draw_plan *plan;
    const limn_pass *pass;
    const limn_conditioning *positive, *negative;
    /* A second network that takes over after `refiner_switch` of the steps; NULL: none. */
    limn_checkpoint *refiner;
    const limn_conditioning *refiner_positive, *refiner_negative;
    double refiner_switch;
    int first_image;    /* index of the batch's first picture in the whole run: seeds count up */
    uint64_t seed_salt; /* hires draws other noise: 0 for the first pass */
    /* [channels, h, w] for all images, or per image with init_per_image; NULL: text to image */
    const float *init;
    bool init_per_image;
    const float *init_spread; /* [channels, h, w]: init is sampled with each picture's seed; NULL */
    const float *mask;        /* [channels, h, w], 1 = draw anew, or NULL */
    int fill;                 /* limn_inpaint_fill */
    const float *extra;
    int extra_channels;
    const atomic_bool *cancel;
    limn_step_done_fn *done;
    limn_step_prepare_fn *prepare; /* NULL: nothing changes between steps */
    limn_sample_ready_fn *ready;   /* or NULL */
    void *user;
} limn_sample_args;

/* x [images, channels, h, w] receives the latents of the finished pictures. */
limn_status limn_sample_run(float *x, const limn_sample_args *args, limn_err *err);
/* Seeds of picture `i` of the run (A1111: the seed counts up, or with a variation strength the
 * variation seed does). */
uint64_t limn_sample_seed(const limn_draw_plan *plan, int i);
uint64_t limn_sample_variation_seed(const limn_draw_plan *plan, int i);

#endif
