/* SPDX-License-Identifier: MIT */
/*
 * The picture that a drawing starts from: loading, fitting, masks, and their latents.
 *
 * Inpainting follows A1111: the mask is grown and blurred at picture size, the latent mask is its
 * area average, the masked content is prepared by "inpaint_fill", every denoised estimate keeps the
 * original where the mask is 0, and the result is laid over the original picture through the
 * blurred mask. With the area "masked" only the surroundings of the mask are drawn, at full size.
 */
#ifndef LIMN_PIPELINE_INIT_STAGE_H
#define LIMN_PIPELINE_INIT_STAGE_H

#include "image/image.h"
#include "pipeline/draw_plan.h"
#include "pipeline/vae_stage.h"

typedef struct limn_init {
    limn_image *original; /* as loaded, RGB; only with area "masked" larger than the drawing */
    limn_image *own;      /* RGB as loaded, with the fit "latent", until it is encoded */
    limn_image *picture;  /* RGB at the drawing's size */
    limn_image *mask;     /* one channel at the drawing's size, blurred; NULL: none */
    int crop_x, crop_y, crop_w, crop_h; /* part of `original` that is drawn; crop_w 0: all */
    float *latent;                      /* [channels, h, w] scaled */
    float *spread;      /* standard deviations of the latent; NULL: it is taken as it is */
    float *latent_mask; /* [channels, h, w], 1 = draw anew; NULL without mask */
    float *extra;       /* [extra_channels, h, w] for inpaint and edit models, or NULL */
    int extra_channels;
} limn_init;

/* Loads and prepares what the plan asks for; nothing to do without an init image. */
limn_status limn_init_make(limn_init *out, const limn_draw_plan *plan, limn_checkpoint *ckpt,
                           const limn_vae_options *vae, limn_err *err);
void limn_init_deinit(limn_init *in);
/* The finished picture: `drawn` laid over the original through the mask. Takes and replaces it. */
limn_status limn_init_finish(const limn_init *in, limn_image **drawn, limn_err *err);
/* Checks that the files can be read as pictures, without decoding them. */
limn_status limn_init_check(const limn_gen *gen, limn_err *err);

#endif
