/* SPDX-License-Identifier: MIT */
/*
 * Guiders: which conditionings the network is asked for and how its answers are combined.
 *
 * A guider works on raw network outputs (noise, v or velocity), as diffusers does; the way to x0 is
 * noising.h. All conditionings of one evaluation are asked for in one call, so that the caller can
 * batch them. Independent of solver and schedule. Pure functions, any thread; scratch is the
 * caller's.
 */
#ifndef LIMN_SAMPLE_GUIDER_H
#define LIMN_SAMPLE_GUIDER_H

#include "base/status.h"
#include "sample/noising.h"
#include "sample/solver.h"

typedef enum limn_cond {
    LIMN_COND_POSITIVE,
    LIMN_COND_NEGATIVE,
    LIMN_COND_IMAGE /* edit models: negative text, picture kept; NEGATIVE drops the picture too */
} limn_cond;
enum { LIMN_GUIDER_CONDS_MAX = 3 };

typedef struct limn_predict_at {
    double sigma;
    double timestep;           /* for the network */
    const limn_denoise_at *at; /* step index, for prompts that change over the steps */
} limn_predict_at;

/* outs[i] [n] = raw output of the network for conditioning conds[i] at input x [n] (already scaled
 * by limn_precond.in); 1 <= count <= 3. */
typedef limn_status limn_predict_fn(void *user, float *const *outs, const limn_cond *conds,
                                    int count, const float *x, int64_t n, const limn_predict_at *at,
                                    limn_err *err);

typedef struct limn_guider_options {
    double scale;       /* cfg; 1 = positive alone */
    double image_scale; /* ip2p: weight of the picture, 1.5 */
    double rescale;     /* phi in [0, 1]: std of the result towards that of the positive answer */
    /* Guidance acts while first <= part < last, part = step / steps; default 0 and 1 ... */
    double first, last;
    /* ... and while sigma_low <= sigma <= sigma_high; default 0 and INFINITY. */
    double sigma_low, sigma_high;
    int zero_steps; /* cfg_zero: the first so many steps predict zero, default 0 */
} limn_guider_options;

typedef struct limn_guider limn_guider;
struct limn_guider {
    const char *name;    /* "cfg" */
    const char *label;   /* "Classifier-free guidance" */
    const char *aliases; /* separated by '|' */
    const char *about;
    /* Conditionings needed at these options when guidance acts; returns their number. */
    int (*conds)(limn_cond *out, const limn_guider_options *o);
    /* outs[0] [images, each] becomes the combined answer; outs in the order of conds. */
    void (*combine)(float *const *outs, int count, int images, int64_t each,
                    const limn_guider_options *o, const limn_predict_at *at);
};

extern const limn_guider limn_guiders[];
extern const int limn_guider_count;

limn_status limn_guider_find(const limn_guider **out, const char *name, limn_err *err);
limn_guider_options limn_guider_defaults(void);
limn_status limn_guider_options_check(const limn_guider_options *o, limn_err *err);
/* Evaluations of one guided prediction at `at`: 1 when guidance is off there. */
int limn_guider_conds_get(limn_cond *out, const limn_guider *g, const limn_guider_options *o,
                          const limn_predict_at *at);

/* ---- network + noising + guider = the denoise callback of solver.h ---- */
typedef struct limn_denoiser {
    const limn_noising *noising;
    const limn_guider *guider;
    limn_guider_options options;
    int images; /* n = images * each */
    limn_predict_fn *predict;
    void *predict_user;
    float *scratch; /* [n * (1 + LIMN_GUIDER_CONDS_MAX)], made by init */
    int64_t n;
    int evaluations; /* network passes made so far (conditionings counted) */
} limn_denoiser;

/* Fill noising, guider, options, images, n, predict first. E_VALUE, E_NOMEM. */
limn_status limn_denoiser_init(limn_denoiser *d, limn_err *err);
void limn_denoiser_deinit(limn_denoiser *d);
/* A limn_denoise_fn; `user` is the limn_denoiser. */
limn_status limn_denoiser_run(void *user, float *x0, const float *x, int64_t n,
                              const limn_denoise_at *at, limn_err *err);

#endif
