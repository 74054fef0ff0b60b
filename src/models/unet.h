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
    int pooled_dim; /* width of the pooled text vector; only with add_embed_dim */
} limn_unet_request;

/*
 * Inputs  "sample" f32 [batch, height, width, in_channels]
 *         "timestep" f32 [batch]
 *         "context" f32 [batch, text_len, context_dim]
 *         "text_embeds" f32 [batch, pooled_dim] and
 *         "time_ids" f32 [batch * ids per sample]: only with add_embed_dim
 *         "guidance" f32 [batch, time_cond_dim]: only with time_cond_dim
 * Output  "out" f32 [batch, height, width, out_channels]
 */
void limn_unet_build(const limn_nn *nn, const limn_unet_config *cfg, const limn_unet_request *req);

/* Size ids per sample: what add_embed_dim leaves beside the pooled text: 6 for SDXL (original h, w,
 * crop top, left, target h, w), 5 for its refiner (the last one an aesthetic score), 0 without an
 * added embedding, -1 when the widths do not fit. */
int limn_unet_time_ids(const limn_unet_config *cfg, int pooled_dim);

#endif
