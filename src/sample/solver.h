/* SPDX-License-Identifier: MIT */
/*
 * Solvers: from noise to picture, one step per call.
 *
 * A solver integrates x (f32 latents of a whole batch, form of noising.h) along the sigmas of a
 * schedule. It knows nothing of networks: it asks a callback for the denoised x0 at (x, sigma), and
 * another for noise. The caller drives the steps, so progress, cancel, previews and inpainting
 * live outside. Schedule, guider and noise source are chosen independently.
 *
 * Names combine: "DPM++ 2M Karras", "k_dpmpp_2m_ka" and solver "dpmpp_2m" with schedule "karras"
 * are the same; see limn_sampler_parse.
 *
 * One thread at a time per solver; the callbacks run on the calling thread.
 */
#ifndef LIMN_SAMPLE_SOLVER_H
#define LIMN_SAMPLE_SOLVER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "sample/noise.h"
#include "sample/noising.h"
#include "sample/schedule.h"

/* ---- callbacks ---- */
typedef struct limn_denoise_at {
    double sigma;
    int step;    /* 0..steps-1 */
    int steps;   /* all steps of this solver */
    int stage;   /* 0 = first evaluation of the step, 1 = second */
    double part; /* progress in [0, 1): (step + stage / evaluations) / steps */
} limn_denoise_at;

/* x0 [n] = denoised estimate of x [n]; must not change x; x0 and x do not overlap. A failure (also
 * E_CANCELLED) ends the step and is returned from limn_solver_step. */
typedef limn_status limn_denoise_fn(void *user, float *x0, const float *x, int64_t n,
                                    const limn_denoise_at *at, limn_err *err);

/* ---- options ---- */
typedef struct limn_solver_options {
    double eta;             /* noise put back per step, 0 = none; >= 0 */
    double s_churn;         /* Karras stochasticity, >= 0; Euler, Heun, DPM2 */
    double s_tmin, s_tmax;  /* sigmas between which churn acts; s_tmax may be INFINITY */
    double s_noise;         /* factor of the noise put back, >= 0 */
    double r;               /* DPM++ SDE: place of the middle evaluation, 0 < r < 1 */
    double gamma;           /* TCD stochasticity, 0..1 */
    int order;              /* multistep solvers, 1..row->order_max */
    bool lower_order_final; /* fall to lower orders at the end (UniPC, DEIS) */
} limn_solver_options;

/* ---- table ---- */
enum {
    LIMN_SOLVER_STOCHASTIC = 1, /* draws noise with the default options */
    LIMN_SOLVER_BROWNIAN = 2,   /* that noise is a Brownian path */
    LIMN_SOLVER_LOG_SNR = 4,    /* needs finite log SNR: a first flow sigma of 1 becomes 0.9999 */
    LIMN_SOLVER_DISCARD = 8,    /* A1111 and ComfyUI drop the penultimate sigma of the schedule */
    LIMN_SOLVER_RESPACES = 16,  /* makes its own list of steps from the schedule (Restart) */
    LIMN_SOLVER_ENDS_NOISY = 32 /* ends at the model's least noise where the model asks for it (see
                                   final_sigma in schedule.h) */
};

typedef struct limn_solver_ops limn_solver_ops; /* solver_impl.h */
typedef struct limn_solver_row {
    const char *name;     /* "dpmpp_2m" */
    const char *label;    /* "DPM++ 2M" */
    const char *aliases;  /* other spellings, separated by '|' */
    const char *about;    /* one line for help */
    int order;            /* default order */
    int order_max;        /* 0: the order is fixed */
    int evaluations;      /* network evaluations per step (the last step may need fewer) */
    int flags;            /* LIMN_SOLVER_* */
    double eta;           /* default eta */
    const char *schedule; /* what "automatic" means for it, NULL = the model's own */
    int variant;          /* private to ops */
    const limn_solver_ops *ops;
} limn_solver_row;

extern const limn_solver_row limn_solvers[];
extern const int limn_solver_count;

/* By name, label or alias, ignoring case, spaces and punctuation; E_VALUE names the nearest. */
limn_status limn_solver_find(const limn_solver_row **out, const char *name, limn_err *err);
/* Like limn_solver_find, but also takes a schedule apart: "DPM++ 2M SDE Karras", "k_euler_a",
 * "Euler SGM". *schedule is left alone when the name holds none. */
limn_status limn_sampler_parse(const limn_solver_row **solver, const limn_schedule **schedule,
                               const char *name, limn_err *err);
/* The schedule that `chosen` (NULL = automatic) means for this solver and model. */
const limn_schedule *limn_solver_schedule(const limn_solver_row *row, const limn_schedule *chosen,
                                          const limn_noising *m);
/* The row's defaults; change what is wanted and pass it on. */
limn_solver_options limn_solver_defaults(const limn_solver_row *row);
/* E_VALUE when an option is NaN or out of its range. */
limn_status limn_solver_options_check(const limn_solver_row *row, const limn_solver_options *o,
                                      limn_err *err);

/* ---- object ---- */
typedef struct limn_solver limn_solver;
typedef struct limn_solver_args {
    const limn_solver_row *row;
    const limn_noising *noising;        /* borrowed */
    const double *sigmas;               /* [steps + 1], copied; descending, >= 0 */
    int steps;                          /* 1..10000 */
    int64_t n;                          /* elements of x, whole batch */
    const limn_solver_options *options; /* NULL = defaults of the row */
    limn_denoise_fn *denoise;
    void *denoise_user;
    limn_noise_fn *noise; /* may be NULL; a step that needs it then fails with E_VALUE */
    void *noise_user;
} limn_solver_args;

/* E_VALUE (sigmas not descending or NaN, bad option), E_NOMEM. */
limn_status limn_solver_new(limn_solver **out, const limn_solver_args *args, limn_err *err);
void limn_solver_free(limn_solver **s);
/* Steps to run; differs from args->steps only for rows with LIMN_SOLVER_RESPACES. */
int limn_solver_steps(const limn_solver *s);
/* Noise level of x before step i (0..steps); i = steps gives the final one. */
double limn_solver_sigma(const limn_solver *s, int i);
/* Steps 0, 1, 2, ... in order; x [n] is updated in place. After a failure the solver must be freed
 * and x holds no meaning. E_NUMERIC when x becomes NaN or infinite. */
limn_status limn_solver_step(limn_solver *s, float *x, int step, limn_err *err);
/* The x0 [n] of the last evaluation, for previews; NULL before the first. Valid until the next
 * step. */
const float *limn_solver_denoised(const limn_solver *s);

#endif
