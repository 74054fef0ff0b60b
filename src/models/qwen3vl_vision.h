/* SPDX-License-Identifier: MIT */
/*
 * The vision tower of Qwen3-VL (transformers models/qwen3_vl, Qwen3VLVisionModel): patches of 16 x
 * 16 pixels and two frames -> rows of the language model, one for each 2 x 2 patches, and the same
 * again from inner blocks (DeepStack). Attention stays within a frame pair and keeps no score
 * matrix, so one graph of one slice serves pictures and videos of its size.
 *
 * Patches, positions and rotary tables are inputs made by models/qwen3vl_host.h, all in merge
 * order.
 */
#ifndef LIMN_MODELS_QWEN3VL_VISION_H
#define LIMN_MODELS_QWEN3VL_VISION_H

#include "formats/llm_config.h"
#include "nn/nn.h"

typedef struct limn_vision_request {
    int64_t slices;     /* pictures or frame pairs of one size, encoded apart from each other */
    int64_t rows, cols; /* of the patch grid: multiples of the merge size */
    bool stages;        /* also give "patch_embed" and "block.N" */
} limn_vision_request;

/*
 * n = rows * cols patches, m = n / merge^2 output rows.
 * Inputs  "patches" f32 [slices, n, channels * temporal * patch^2]
 *         "pos" f32 [slices, n, width]
 *         "cos", "sin" f32 [n, head_dim / 2]
 * Output  "merged" [slices, m, out_width]; "deepstack.N" likewise
 */
void limn_vision_build(const limn_nn *nn, const limn_vision_config *cfg,
                       const limn_vision_request *req);

#endif
