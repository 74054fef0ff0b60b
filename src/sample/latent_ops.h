/* SPDX-License-Identifier: MIT */
/*
 * Small operations on latents that the drawing loop needs around a solver: adding noise, spherical
 * interpolation, inpaint blending. f32 arrays of n elements, no state, any thread.
 */
#ifndef LIMN_SAMPLE_LATENT_OPS_H
#define LIMN_SAMPLE_LATENT_OPS_H

#include <stdint.h>

#include "sample/noising.h"

/* x = alpha(sigma) * x0 + sigma * noise: the start of img2img. x may be x0. */
void limn_latent_add_noise(float *x, const float *x0, const float *noise, int64_t n,
                           const limn_noising *m, double sigma);
/* Keeps the picture where the mask is 0: x = mask * x + (1 - mask) * (alpha(sigma) init + sigma
 * noise). Inpainting before each step at the sigma of x (ComfyUI, sigma 0 at the end gives the
 * original back). mask [n], 1 = repaint. */
void limn_latent_blend_noised(float *x, const float *mask, const float *init, const float *noise,
                              int64_t n, const limn_noising *m, double sigma);
/* x0 = mask * x0 + (1 - mask) * init: A1111 blends the denoised estimate of every evaluation. */
void limn_latent_blend(float *x0, const float *mask, const float *init, int64_t n);
/* out = spherical interpolation from a (part 0) to b (part 1) along the rows direction: each column
 * vector of height h of [planes, h, w] is rotated on its own, as A1111 does for variation seeds;
 * nearly parallel inputs are mixed linearly. */
void limn_latent_slerp(float *out, const float *a, const float *b, int64_t planes, int64_t h,
                       int64_t w, double part);

#endif
