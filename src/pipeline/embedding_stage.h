/* SPDX-License-Identifier: MIT */
/*
 * Textual inversions: files of vectors that stand where a word stands in a prompt. The word is the
 * file's stem. Each text encoder takes the vectors of its own width (SDXL files hold two sets).
 */
#ifndef LIMN_PIPELINE_EMBEDDING_STAGE_H
#define LIMN_PIPELINE_EMBEDDING_STAGE_H

#include "pipeline/checkpoint.h"

/* Loads `n` files into the checkpoint's text encoders (memory of its arena). E_SHAPE when a file
 * has no vectors as wide as an encoder, E_LIMIT when one has more than a chunk holds. */
limn_status limn_embedding_stage_load(limn_checkpoint *ckpt, const char *const *paths, int n,
                                      limn_err *err);

#endif
