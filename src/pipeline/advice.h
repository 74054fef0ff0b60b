/* SPDX-License-Identifier: MIT */
/*
 * What a model recommends for itself: sampler and schedule of its scheduler_config.json, and the
 * values of a limn.json beside model_index.json, for example
 *
 *     {"steps": 25, "cfg_scale": 4, "sampler": "DDIM", "schedule": "trailing"}
 *
 * Only values that say how to sample may stand there. A recommendation never replaces what the
 * user asked for. Pure functions on the caller's thread.
 */
#ifndef LIMN_PIPELINE_ADVICE_H
#define LIMN_PIPELINE_ADVICE_H

#include "param/gen.h"
#include "pipeline/checkpoint.h"

/* Sets what `gen` leaves open (source LIMN_FROM_MODEL). A schedule is advised for the advised
 * sampler only. E_VALUE or E_FORMAT: limn.json is wrong. */
limn_status limn_advice_apply(limn_params *gen, const limn_checkpoint *ckpt, limn_err *err);

#endif
