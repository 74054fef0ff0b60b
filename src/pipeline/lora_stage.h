/* SPDX-License-Identifier: MIT */
/*
 * LoRA and its kin: from names in prompts and parameters to changed weights.
 *
 * The adapters change the weights of UNet and text encoders while these are packed, on any dtype;
 * a run with the same adapters as the last one packs nothing. The loaded files stay with the
 * checkpoint until others are asked for.
 */
#ifndef LIMN_PIPELINE_LORA_STAGE_H
#define LIMN_PIPELINE_LORA_STAGE_H

#include "pipeline/engine.h"

/* Applies "loras" of the request and <lora:...> of the prompt, in that order, and takes off those
 * of the run before. E_NOT_FOUND names a file that is not there; E_MISSING and E_SHAPE one that was
 * made for another model. Strengths are those of step 0 of `steps`. */
limn_status limn_lora_stage_apply(limn_engine *e, limn_checkpoint *ckpt, const limn_gen *gen,
                                  const limn_prompt *prompt, int steps, limn_err *err);
/* Before step `step`: strengths that change over the steps (<lora:a:0@0,1@0.5>) are set anew for
 * the UNet; those of text encoders stay as they were at the start. *changed: packed weights are
 * out of date and programs of the UNet must be made again, which packs what an adapter touches. */
limn_status limn_lora_stage_step(bool *changed, limn_checkpoint *ckpt, const limn_gen *gen,
                                 const limn_prompt *prompt, int step, int steps, limn_err *err);
/* Takes everything off and frees the files; NULL-safe. */
void limn_lora_stage_free(limn_checkpoint *ckpt);

#endif
