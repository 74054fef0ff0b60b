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

/*
 * The same in two parts, so that large pictures run in tiles: the attention and what is near it
 * (LIMN_VAE_INNER) on the whole, the large levels (LIMN_VAE_OUTER) per tile. Between them stands
 * "middle", s pixels per latent and side:
 *   decoder: inner "latent" -> "middle", with up_blocks [0, split); outer "middle" -> "image";
 *            s = 2^split
 *   encoder: outer "image" -> "middle", down_blocks [0, split); inner "middle" -> "moments";
 *            s = 8 / 2^split
 * 1 <= split < levels. limn_graph_set_tiles must be set on a graph of an outer part.
 */
typedef enum limn_vae_part { LIMN_VAE_INNER, LIMN_VAE_OUTER } limn_vae_part;
void limn_vae_build_decoder_part(const limn_nn *nn, const limn_vae_config *c,
                                 const limn_vae_request *r, limn_vae_part part, int split);
void limn_vae_build_encoder_part(const limn_nn *nn, const limn_vae_config *c,
                                 const limn_vae_request *r, limn_vae_part part, int split);
int limn_vae_middle_channels(const limn_vae_config *c, bool decode, int split);
/* Latents (decoder) or units of 8 pixels (encoder) beyond which the outer part does not see. */
int64_t limn_vae_halo(const limn_vae_config *c, bool decode, int split);
int64_t limn_taesd_halo(const limn_taesd_config *c, bool decode);

/* "image" [n, h, w, 3] in [-1, 1] -> "latent" [n, h/8, w/8, latent_channels] */
void limn_taesd_build_encoder(const limn_nn *nn, const limn_taesd_config *c,
                              const limn_vae_request *r);
/* "latent" -> "image" in [-1, 1] (not clamped) */
void limn_taesd_build_decoder(const limn_nn *nn, const limn_taesd_config *c,
                              const limn_vae_request *r);

#endif
