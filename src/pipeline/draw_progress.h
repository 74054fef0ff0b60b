/* SPDX-License-Identifier: MIT */
/*
 * From what stages do to what a front end sees: events with times left and previews. One per run,
 * on the thread that runs it.
 */
#ifndef LIMN_PIPELINE_DRAW_PROGRESS_H
#define LIMN_PIPELINE_DRAW_PROGRESS_H

#include "limn.h"
#include "pipeline/checkpoint.h"

typedef struct limn_progress {
    const limn_watch *watch; /* NULL: nobody looks */
    int image, images;
    const char *stage;
    double stage_begin, last;
    double total_work, done_work; /* as limn_pass_step_work counts */
    double begin;
    double first_step; /* when steps with work began; 0: not yet */
    double work_seconds;
} limn_progress;

void limn_progress_init(limn_progress *p, const limn_watch *watch, int images, double total_work);
/* Begins a stage and says so. */
void limn_progress_stage(limn_progress *p, const char *stage, int steps);
/* One step done; `work` in the same units as total_work. */
void limn_progress_step(limn_progress *p, int step, int steps, double work,
                        const limn_image *preview);
void limn_progress_note(limn_progress *p, const char *note);
/* True when the step should carry a preview. */
bool limn_progress_wants_preview(const limn_progress *p, int step, int steps);

/* A small picture from a latent [channels, h, w] by a linear fit of the decoder (four-channel
 * SD 1.x and SDXL latents); E_UNSUPPORTED for others. */
limn_status limn_preview_linear(limn_image **out, const limn_checkpoint *ckpt, const float *latent,
                                int64_t h, int64_t w, limn_err *err);

#endif
