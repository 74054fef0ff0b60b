/* SPDX-License-Identifier: MIT */
/*
 * A drawing request with every open question answered: names resolved to table rows, sizes and
 * model defaults filled in, seeds fixed. Made from a limn_gen before any network runs; what was
 * decided is written back into the record (source LIMN_FROM_MODEL), so that the recipe is complete.
 */
#ifndef LIMN_PIPELINE_DRAW_PLAN_H
#define LIMN_PIPELINE_DRAW_PLAN_H

#include "param/gen.h"
#include "pipeline/checkpoint.h"
#include "sample/guider.h"
#include "sample/solver.h"

/* One denoising pass: the first, or the hires one. */
typedef struct limn_pass {
    int64_t width, height; /* pixels, multiples of the latent scale */
    int steps;
    double strength; /* 1 for text to image */
    double cfg_scale;
    const limn_solver_row *solver;
    const limn_schedule *schedule; /* NULL: automatic */
} limn_pass;

typedef struct limn_draw_plan {
    limn_params *params; /* owned copy of the request with what was decided */
    limn_pass first, hires;
    bool wants_hires;
    bool has_init, has_mask;
    uint64_t seed, variation_seed;
    int images, batches; /* per batch, and how many */
    limn_guider_options guidance;
    const limn_guider *guider;
} limn_draw_plan;

/* Names only: sampler, schedule, sizes and combinations that need no model. */
limn_status limn_draw_names_check(const limn_gen *gen, limn_err *err);
limn_status limn_draw_plan_make(limn_draw_plan *out, const limn_gen *gen,
                                const limn_checkpoint *ckpt, limn_err *err);
void limn_draw_plan_deinit(limn_draw_plan *plan);

/* What a step costs: evaluations of the network times latent pixels; guided ones count twice. */
double limn_pass_step_work(const limn_pass *pass, int64_t latent_scale);
/* The same of all steps, passes and batches. */
double limn_draw_plan_work(const limn_draw_plan *plan, int64_t latent_scale);
/* Pixels of all pictures, as they are decoded. */
double limn_draw_plan_pixels(const limn_draw_plan *plan);

/* Solver options of a pass as the request sets them. */
limn_solver_options limn_pass_solver_options(const limn_gen *gen, const limn_solver_row *row);
limn_schedule_options limn_pass_schedule_options(const limn_gen *gen, const limn_checkpoint *ckpt);

#endif
