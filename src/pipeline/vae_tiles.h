/* SPDX-License-Identifier: MIT */
/*
 * The large levels of an autoencoder in tiles that have no seams.
 *
 * A tile takes along as many neighbours as its convolutions see (halo), so its own part (core) is
 * what the whole picture would give, if its group norms knew the statistics of the whole. These are
 * found by passes over all tiles: every norm measures its core, the measures of all tiles are
 * joined, and the next pass normalises by them. The first norm's input depends on no statistics, so
 * its own are right after one pass, the second norm's after two, and after as many passes as there
 * are norms the result is that of the whole picture; trained networks agree with it to a fraction
 * of a colour step after three or four, which ends the passes early.
 *
 * Memory: the picture, "middle", and one tile's arena. Called by vae_stage.c on its thread.
 */
#ifndef LIMN_PIPELINE_VAE_TILES_H
#define LIMN_PIPELINE_VAE_TILES_H

#include "pipeline/vae_stage.h"

/* Sides in units: latents, or the picture's pixels / 8. */
typedef struct limn_vae_tiles {
    const limn_vae_options *opt;
    limn_checkpoint *ckpt;
    bool decode;
    int split; /* of the autoencoder (autoencoder.h); TAESD runs in one part */
    int64_t height, width;
    const float *in;           /* [height * in_side, width * in_side, in_channels] */
    float *out;                /* [height * out_side, width * out_side, out_channels] */
    int64_t in_side, out_side; /* pixels per unit */
    int64_t in_channels, out_channels;
    size_t memory; /* bytes that a tile's arena may take; tiles become smaller until it fits */
} limn_vae_tiles;

/* Fills t->out. E_CANCELLED, E_NOMEM. */
limn_status limn_vae_tiles_run(const limn_vae_tiles *t, limn_err *err);

#endif
