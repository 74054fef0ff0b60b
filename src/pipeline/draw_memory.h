/* SPDX-License-Identifier: MIT */
/*
 * What a drawing takes beside the weights of its model: the networks' results, planned for its
 * size and batch as a run plans them, and its pictures. Nothing is computed or reserved, so that
 * it can be asked before a job is made. An estimate: the text is taken to be one chunk; a start
 * picture, LoRAs, a refiner and previews are left out. On the thread that has the engine.
 */
#ifndef LIMN_PIPELINE_DRAW_MEMORY_H
#define LIMN_PIPELINE_DRAW_MEMORY_H

#include "param/gen.h"
#include "pipeline/engine.h"

/* `engine` gives the backend (of gen's precision) and the memory bound; `ckpt` need not be its own.
 * What drawing would refuse is refused. */
limn_status limn_draw_memory(int64_t *bytes, limn_engine *engine, limn_checkpoint *ckpt,
                             const limn_gen *gen, limn_err *err);

#endif
