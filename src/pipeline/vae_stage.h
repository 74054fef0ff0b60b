/* SPDX-License-Identifier: MIT */
/*
 * The decode and encode stages: latents to pictures and back, whole or in overlapping tiles.
 *
 * Tiles overlap and are blended with linear ramps, so no tile edge shows; the statistics of the
 * group norms differ between tiles, which is the price of bounded memory: on the tests' random
 * network, tiles of 64 px change samples by 10 of 255 on average (tests/test_pipeline.c holds it
 * under 16; not measured on a trained model). One tile or less is exactly the whole picture.
 */
#ifndef LIMN_PIPELINE_VAE_STAGE_H
#define LIMN_PIPELINE_VAE_STAGE_H

#include "backend/backend.h"
#include "pipeline/checkpoint.h"

typedef enum limn_tiling { LIMN_TILING_AUTO, LIMN_TILING_ON, LIMN_TILING_OFF } limn_tiling;

/* Called after each tile; done counts from 1. */
typedef void limn_tile_done_fn(void *user, int done, int total);

typedef struct limn_vae_options {
    limn_backend *backend;
    limn_tiling tiling;
    int64_t tile;  /* side of a tile's own part in pixels; 0: 512 */
    size_t memory; /* AUTO: largest arena in bytes; 0: 4 GiB */
    bool tiny;     /* TAESD instead of the autoencoder */
    bool wrap;     /* opposite edges meet (limn_graph_set_wrap); always whole, never in tiles */
    const atomic_bool *cancel;
    limn_tile_done_fn *done;
    void *user;
} limn_vae_options;

/* latent [channels, h, w] as the UNet sees it (scaled) -> image [8h, 8w, 3], nominally -1..1.
 * E_MISSING without a decoder, E_NUMERIC when the result has NaN. */
limn_status limn_vae_decode(float *image, limn_checkpoint *ckpt, const float *latent, int64_t h,
                            int64_t w, const limn_vae_options *opt, limn_err *err);
/* Bytes that the decoder's results take, planned and not reserved; in tiles about one tile's. */
limn_status limn_vae_decode_memory(size_t *bytes, limn_checkpoint *ckpt, int64_t h, int64_t w,
                                   const limn_vae_options *opt, limn_err *err);
/* image [height, width, 3] in -1..1, sides multiples of 8 -> latent [channels, height/8, width/8],
 * scaled: the mean of the posterior. `spread` (or NULL) gets its standard deviations, as large and
 * scaled alike: latent + spread * noise is a sample; zeros from TAESD, which has no posterior. */
limn_status limn_vae_encode(float *latent, float *spread, limn_checkpoint *ckpt, const float *image,
                            int64_t height, int64_t width, const limn_vae_options *opt,
                            limn_err *err);

#endif
