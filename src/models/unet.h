/* SPDX-License-Identifier: MIT */
/*
 * The UNet of Stable Diffusion 1.x, 2.x, SDXL and their pruned, inpaint and edit variants
 * (diffusers models/unets/unet_2d_condition.py). One graph serves one batch, size and text length.
 */
#ifndef LIMN_MODELS_UNET_H
#define LIMN_MODELS_UNET_H

#include "formats/model_config.h"
#include "nn/nn.h"

typedef struct limn_unet_request {
    int64_t batch, height, width; /* of the latent */
    int64_t text_len;
} limn_unet_request;

/*
 * Inputs  "sample" f32 [batch, height, width, in_channels]
 *         "timestep" f32 [batch]
 *         "context" f32 [batch, text_len, context_dim]
 *         "text_embeds" f32 [batch, add_embed_dim - 6 (or 5) * add_time_dim] and
 *         "time_ids" f32 [batch * ids per sample]: only with add_embed_dim
 *         "guidance" f32 [batch, time_cond_dim]: only with time_cond_dim
 * Output  "out" f32 [batch, height, width, out_channels]
 */
void limn_unet_build(const limn_nn *nn, const limn_unet_config *cfg, const limn_unet_request *req);

/* Size ids per sample: 6 for SDXL, 5 for its refiner, 0 without an added embedding; the pooled
 * text has the rest of add_embed_dim. The refiner is told apart by its context of 1280. */
int limn_unet_time_ids(const limn_unet_config *cfg);
int limn_unet_pooled_dim(const limn_unet_config *cfg);

#endif
