/* SPDX-License-Identifier: MIT */
/*
 * What the solver_*.c files share; not for callers. A solver is one `step` function over the state
 * below: it asks for x0, computes scalar coefficients in double, and writes x as one weighted sum.
 *
 * With k = sigma / alpha and lambda = -log k, every exponential integrator is written once for
 * all noisings: x / alpha moves in k as the variance-exploding form does in sigma. At a flow sigma
 * of 1, alpha is 0 and lambda -inf; the formulas here are arranged so that their limits come out
 * (e^-inf = 0), and history points of infinite lambda carry no information and are left out.
 */
#ifndef LIMN_SAMPLE_SOLVER_IMPL_H
#define LIMN_SAMPLE_SOLVER_IMPL_H

#include "sample/solver.h"

enum { LIMN_SOLVER_HISTORY = 4, LIMN_SOLVER_SCRATCH = 2 };

struct limn_solver_ops {
    /* Advances x from s->from[i] to s->to[i]. */
    limn_status (*step)(limn_solver *s, float *x, int i, limn_err *err);
    /* Optional: rewrites from, to and steps; room for `steps` of the schedule. */
    void (*respace)(limn_solver *s);
    int history; /* buffers wanted, at most LIMN_SOLVER_HISTORY */
    int scratch; /* likewise, LIMN_SOLVER_SCRATCH */
};

struct limn_solver {
    const limn_solver_row *row;
    const limn_noising *noising;
    limn_solver_options o;
    limn_denoise_fn *denoise;
    void *denoise_user;
    limn_noise_fn *noise_fn;
    void *noise_user;
    int64_t n;
    int steps, next;                     /* next = the step to be asked for */
    double *from, *to;                   /* [steps] */
    const float *last;                   /* x0 of the last evaluation, or NULL */
    float *x0;                           /* [n] first evaluation of the step */
    float *noise;                        /* [n] */
    float *history[LIMN_SOLVER_HISTORY]; /* [n], newest first */
    float *scratch[LIMN_SOLVER_SCRATCH]; /* [n] */
    int known;                           /* history entries filled */
    int last_order;                      /* UniPC: order of the previous step */
};

typedef struct limn_solver_term {
    double k;
    const float *v; /* [n]; may be the output itself */
} limn_solver_term;

/* out = sum of k v; terms with k == 0 are not read. */
void limn_solver_mix(float *out, int64_t n, const limn_solver_term *t, int count);
/* out = denoised x at sigma (out is s->x0 or a scratch buffer). */
limn_status limn_solver_eval(limn_solver *s, float *out, const float *x, double sigma, int i,
                             int stage, limn_err *err);
/* Fills s->noise for the interval. */
limn_status limn_solver_draw(limn_solver *s, double sigma, double sigma_next, limn_err *err);
/* Makes room for a new newest history entry and returns it, unwritten. */
float *limn_solver_push(limn_solver *s);

/* Pushes a copy of s->x0. */
void limn_solver_remember(limn_solver *s);
/* x = s->x0: the last step, to sigma 0. */
void limn_solver_finish(const limn_solver *s, float *x);
/* sigma / alpha; infinite at a flow sigma of 1. */
double limn_solver_k(const limn_solver *s, double sigma);
/* Steps back from step i, at most `most`, whose k is finite and whose x0 is in the history. */
int limn_solver_usable(const limn_solver *s, int i, int most);

/* One interval seen from the data prediction: x_to = keep x + pull x0 is the first-order step. */
typedef struct limn_solver_span {
    double alpha_from, alpha_to, h; /* h = lambda_to - lambda_from; may be infinite */
    double keep, pull;
} limn_solver_span;
limn_solver_span limn_solver_span_get(const limn_noising *m, double from, double to);

/* Ancestral split: go to `down`, then x = keep x + up noise brings the noise back to `to`. For
 * flow models this is the rectified-flow form (ComfyUI sample_euler_ancestral_RF). */
typedef struct limn_solver_split {
    double down, keep, up;
} limn_solver_split;
limn_solver_split limn_solver_split_get(const limn_noising *m, double from, double to, double eta);
/* The split of k-diffusion in plain k (get_ancestral_step). */
limn_solver_split limn_solver_split_k(double from, double to, double eta);
/* Noise that lifts x from `low` to `high` > low: x = keep x + up noise. */
limn_solver_split limn_solver_climb(const limn_noising *m, double low, double high);

extern const limn_solver_ops limn_ops_euler, limn_ops_ancestral, limn_ops_heun, limn_ops_dpm2,
    limn_ops_dpm2_ancestral, limn_ops_restart;
extern const limn_solver_ops limn_ops_dpmpp_2s_ancestral, limn_ops_dpmpp_sde, limn_ops_dpmpp_2m,
    limn_ops_dpmpp_2m_sde, limn_ops_dpmpp_3m_sde;
extern const limn_solver_ops limn_ops_er_sde, limn_ops_res_multistep;
extern const limn_solver_ops limn_ops_lms, limn_ops_pndm, limn_ops_ipndm, limn_ops_deis;
extern const limn_solver_ops limn_ops_unipc;
extern const limn_solver_ops limn_ops_lcm, limn_ops_tcd;

#endif
