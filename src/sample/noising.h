/* SPDX-License-Identifier: MIT */
/*
 * How a network was trained to see noise, and the way from its output to a denoised picture.
 *
 * Solvers work on x with  x = alpha(sigma) * x0 + sigma * noise:
 *   discrete, EDM: alpha = 1        ("variance exploding" form of k-diffusion, also for VP models)
 *   flow:          alpha = 1 - sigma, sigma in [0, 1]
 * A VP sample (diffusers DDIM, PNDM, ...) is x_vp = x / sqrt(1 + sigma^2), that is, x times the
 * `in` of its preconditioning.
 *
 * A limn_noising is a plain value (a table of 1000 sigmas included), immutable after set-up and
 * free to share between threads. Sources: k_diffusion/external.py, ldm's make_beta_schedule,
 * diffusers EDMEulerScheduler and FlowMatchEulerDiscreteScheduler.
 */
#ifndef LIMN_SAMPLE_NOISING_H
#define LIMN_SAMPLE_NOISING_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

enum { LIMN_TRAIN_STEPS = 1000 };

typedef enum limn_noising_kind {
    LIMN_NOISING_DISCRETE,
    LIMN_NOISING_EDM,
    LIMN_NOISING_FLOW
} limn_noising_kind;

typedef enum limn_prediction {
    LIMN_PREDICT_EPS,
    LIMN_PREDICT_V,
    LIMN_PREDICT_X0,
    LIMN_PREDICT_EDM,  /* F of Karras et al. 2022 */
    LIMN_PREDICT_FLOW, /* velocity noise - x0 */
    LIMN_PREDICT_COUNT
} limn_prediction;

typedef enum limn_betas {
    LIMN_BETAS_SCALED_LINEAR,
    LIMN_BETAS_LINEAR,
    LIMN_BETAS_COSINE
} limn_betas;

typedef struct limn_noising {
    limn_noising_kind kind;
    limn_prediction prediction;
    double sigma_data;     /* EDM, 0.5 */
    double shift;          /* flow: sigma' = shift sigma / (1 + (shift - 1) sigma) */
    double timestep_scale; /* flow: timestep = scale * sigma, 1000 */
    double boundary_scale; /* > 0: consistency boundary of LCM, timestep scaling 10; 0 = off */
    bool whole_timesteps;  /* discrete: the network gets the nearest trained timestep */
    double sigma[LIMN_TRAIN_STEPS]; /* ascending */
    double log_sigma[LIMN_TRAIN_STEPS];
} limn_noising;

typedef struct limn_noising_args {
    limn_noising_kind kind;
    limn_prediction prediction;
    /* discrete */
    limn_betas betas;
    double beta_start, beta_end; /* 0 = 0.00085, 0.012 */
    bool zero_terminal_snr;      /* rescale so that the last step is (nearly) pure noise */
    bool whole_timesteps; /* round the network's timestep (diffusers DPM-Solver++, UniPC; an option
                             of A1111); the default is k-diffusion's interpolation */
    /* EDM */
    double sigma_min, sigma_max, sigma_data; /* 0 = 0.002, 80, 0.5 */
    /* flow */
    double shift;          /* 0 = 1; for dynamic shifting pass limn_flow_shift_of_mu(mu) */
    double timestep_scale; /* 0 = 1000 */
    double boundary_scale;
} limn_noising_args;

/* E_VALUE when a number is NaN, negative or out of range, or the prediction does not fit. */
limn_status limn_noising_init(limn_noising *out, const limn_noising_args *args, limn_err *err);

/* "epsilon", "v_prediction", "sample", "edm", "flow" and aliases. */
limn_status limn_prediction_parse(limn_prediction *out, const char *name, limn_err *err);
const char *limn_prediction_name(limn_prediction p);

/* exp(mu): the shift that diffusers' "exponential" time shift with mu applies. */
double limn_flow_shift_of_mu(double mu);
/* mu of Flux: linear in the number of image tokens through (256, 0.5) and (4096, 1.15). */
double limn_flow_mu(int64_t tokens);

double limn_noising_sigma_min(const limn_noising *m);
double limn_noising_sigma_max(const limn_noising *m);
/* Discrete: timestep in [0, 999], fractional by interpolation of log sigma (k-diffusion); EDM:
 * log(sigma) / 4; flow: scale * sigma. */
double limn_noising_timestep(const limn_noising *m, double sigma);
double limn_noising_sigma(const limn_noising *m, double timestep);
/* alpha(sigma), and half the log signal-to-noise ratio log(alpha / sigma) and its inverse. */
double limn_noising_alpha(const limn_noising *m, double sigma);
double limn_noising_lambda(const limn_noising *m, double sigma);
double limn_noising_sigma_of_lambda(const limn_noising *m, double lambda);
/* Factor of unit noise for the initial x of pure text-to-image: sigma (flow, EDM, k-diffusion), or
 * sqrt(1 + sigma^2) with `whole_signal` (ComfyUI and diffusers Euler at the full sigma). */
double limn_noising_initial_scale(const limn_noising *m, double sigma, bool whole_signal);

/* network input = in * x at `timestep`; x0 = skip * x + out * network output. */
typedef struct limn_precond {
    double in, skip, out;
    double timestep;
} limn_precond;
/* sigma > 0 */
limn_precond limn_precond_get(const limn_noising *m, double sigma);

#endif
