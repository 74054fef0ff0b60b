/* SPDX-License-Identifier: MIT */
/*
 * The noise of one batch of pictures: the initial noise and what stochastic solvers ask for.
 *
 * Who gets which numbers is a convention of its own, independent of the solver:
 *   per image   one generator per picture with its own seed (A1111, diffusers with a generator
 *               list): a picture of a batch is the same picture drawn alone;
 *   whole       one generator fills the whole batch tensor (ComfyUI).
 * Variation seeds blend the initial noise by spherical interpolation (A1111 "subseed").
 * Brownian solvers (DPM++ SDE family) read increments of a Brownian path from a tree that is
 * compatible with torchsde.BrownianTree (numpy SeedSequence keys, torch normals, halving
 * intervals), so their pictures do not depend on the number of calls, and seeds match A1111.
 *
 * Owned by the pipeline, one per batch; one thread at a time.
 */
#ifndef LIMN_SAMPLE_NOISE_H
#define LIMN_SAMPLE_NOISE_H

#include "base/status.h"
#include "sample/rng.h"

typedef struct limn_noise limn_noise;

typedef struct limn_noise_config {
    limn_rng_kind rng;
    bool whole_batch; /* one generator for all images, seeded with seeds[0] */
    int images;       /* 1..4096 */
    /* latent [channels, height, width] of one image; every dimension >= 1 */
    int64_t channels, height, width;
    const uint64_t *seeds; /* [images], copied; A1111 uses seed + i */
    /* Variation: NULL or [images], copied; strength in [0, 1], 0 = none. */
    const uint64_t *variation_seeds;
    double variation_strength;
    /* Step noise: false = the same generators go on (A1111). true = new generators of `step_rng`
     * seeded with seed + step_seed_delta (A1111 ENSD; ComfyUI: delta 1 when drawn on the CPU, 0
     * and philox when drawn on a GPU). */
    bool step_reseed;
    limn_rng_kind step_rng;
    int64_t step_seed_delta;
    int64_t philox_capacity; /* see limn_rng.capacity */
} limn_noise_config;

/* What a solver asks for. */
typedef struct limn_noise_at {
    double sigma, sigma_next; /* interval that the noise belongs to; sigma_next may be 0 */
    bool brownian;            /* increment of the path over the interval, scaled to unit variance */
} limn_noise_at;

/* The callback of solver.h: fills out [n] with unit-variance noise. limn_noise_draw is one. */
typedef limn_status limn_noise_fn(void *user, float *out, int64_t n, const limn_noise_at *at,
                                  limn_err *err);

/* E_VALUE for values out of range, E_NOMEM. */
limn_status limn_noise_new(limn_noise **out, const limn_noise_config *config, limn_err *err);
void limn_noise_free(limn_noise **noise);

/* Unit normals [images, channels, height, width] that are drawn before the initial noise: what
 * samples the latent of a start picture in diffusers. */
void limn_noise_before(limn_noise *noise, float *out);
/* The initial noise: out [images, channels, height, width], unit variance. Call once, before any
 * step's noise. */
limn_status limn_noise_first(limn_noise *noise, float *out, limn_err *err);
/* The range of the Brownian path; needed before a draw with at->brownian. k-diffusion takes the
 * least positive and the largest sigma of the schedule. E_VALUE unless 0 < low < high. */
limn_status limn_noise_set_range(limn_noise *noise, double sigma_low, double sigma_high,
                                 limn_err *err);
/* A limn_noise_fn; `user` is the limn_noise, n = images * channels * height * width. */
limn_status limn_noise_draw(void *user, float *out, int64_t n, const limn_noise_at *at,
                            limn_err *err);

#endif
