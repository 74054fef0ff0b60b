/* SPDX-License-Identifier: MIT */
/*
 * Autoencoders: AutoencoderKL (diffusers models/autoencoders/autoencoder_kl.py, vae.py) and
 * AutoencoderTiny / TAESD (autoencoder_tiny.py). Graphs work on images in [-1, 1], channels last,
 * and on unscaled latents: scaling_factor and shift_factor are the pipeline's.
 */
#ifndef LIMN_MODELS_AUTOENCODER_H
#define LIMN_MODELS_AUTOENCODER_H

#include "formats/model_config.h"
#include "nn/nn.h"

/* Sides of the graph's input: pixels for an encoder, latents for a decoder. */
typedef struct limn_vae_request {
    int64_t batch, height, width;
} limn_vae_request;

/* "image" [n, h, w, 3] -> "moments" [n, h/8, w/8, 2 * latent_channels]: mean, then log variance */
void limn_vae_build_encoder(const limn_nn *nn, const limn_vae_config *c, const limn_vae_request *r);
/* "latent" [n, h, w, latent_channels] -> "image" [n, 8h, 8w, 3] */
void limn_vae_build_decoder(const limn_nn *nn, const limn_vae_config *c, const limn_vae_request *r);

/* "image" [n, h, w, 3] in [-1, 1] -> "latent" [n, h/8, w/8, latent_channels] */
void limn_taesd_build_encoder(const limn_nn *nn, const limn_taesd_config *c,
                              const limn_vae_request *r);
/* "latent" -> "image" in [-1, 1] (not clamped) */
void limn_taesd_build_decoder(const limn_nn *nn, const limn_taesd_config *c,
                              const limn_vae_request *r);

#endif
