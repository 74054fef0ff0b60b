/* SPDX-License-Identifier: MIT */
/*
 * Sigma schedules: which noise levels the steps visit. One table row per schedule.
 *
 * A schedule of `steps` steps is steps + 1 sigmas, descending, the last one 0 (except for rows that
 * end above 0 by definition, see limn_schedule.ends_at_zero). Pure functions, any thread.
 */
#ifndef LIMN_SAMPLE_SCHEDULE_H
#define LIMN_SAMPLE_SCHEDULE_H

#include "base/status.h"
#include "sample/noising.h"

enum { LIMN_STEPS_MAX = 1000 };

typedef struct limn_schedule_options {
    double sigma_min, sigma_max;  /* 0 = those of the model */
    double rho;                   /* Karras and polyexponential; 0 = 7 and 1 */
    double beta_alpha, beta_beta; /* beta; 0 = 0.6 */
    bool sdxl;                    /* AYS: the SDXL table instead of SD 1.x */
} limn_schedule_options;

enum {
    LIMN_SCHEDULE_DISCRETE = 1, /* fits models with discrete noising (and EDM) */
    LIMN_SCHEDULE_FLOW = 2,
    LIMN_SCHEDULE_ANY = 3
};

typedef struct limn_schedule limn_schedule;
struct limn_schedule {
    const char *name;    /* "karras" */
    const char *label;   /* "Karras" */
    const char *aliases; /* other spellings, separated by '|' */
    const char *about;   /* one line for help */
    int fits;            /* LIMN_SCHEDULE_* */
    limn_status (*build)(double *sigmas, int steps, const limn_noising *m,
                         const limn_schedule_options *o, limn_err *err);
};

extern const limn_schedule limn_schedules[];
extern const int limn_schedule_count;

/* By name, label or alias, ignoring case, spaces and punctuation; E_VALUE names the nearest. */
limn_status limn_schedule_find(const limn_schedule **out, const char *name, limn_err *err);

/* sigmas [steps + 1]; steps 1..1000; `o` may be NULL. E_VALUE. The row "automatic" is resolved by
 * limn_solver_schedule (solver.h) and stands for "uniform" (discrete, EDM) or "trailing" (flow)
 * here. */
limn_status limn_schedule_build(double *sigmas, const limn_schedule *schedule, int steps,
                                const limn_noising *m, const limn_schedule_options *o,
                                limn_err *err);
/* The same without the penultimate sigma: the schedule of steps + 1 steps, its last positive sigma
 * dropped (what A1111 and ComfyUI do for DPM2, DPM2 a, DPM++ 3M SDE). */
limn_status limn_schedule_build_discard(double *sigmas, const limn_schedule *schedule, int steps,
                                        const limn_noising *m, const limn_schedule_options *o,
                                        limn_err *err);

/* How img2img strength shortens a schedule. */
typedef enum limn_strength_rule {
    LIMN_STRENGTH_STEPS,  /* diffusers, default: the last int(steps * strength) steps of `steps` */
    LIMN_STRENGTH_A1111,  /* the last min(int(steps * strength), steps - 1) + 1 steps of `steps` */
    LIMN_STRENGTH_COMFYUI /* `steps` steps: the last of a schedule of int(steps / strength) */
} limn_strength_rule;
typedef struct limn_strength_plan {
    int schedule_steps; /* build the schedule with this many steps */
    int first;          /* and begin at this index; sigmas[first] is the noise to add */
    int run;            /* steps to run; 0 when strength is too small to do anything */
} limn_strength_plan;
/* steps 1..1000, strength in [0, 1]; E_VALUE otherwise or when the schedule would pass 10,000. */
limn_status limn_strength_plan_get(limn_strength_plan *out, limn_strength_rule rule, int steps,
                                   double strength, limn_err *err);

#endif
