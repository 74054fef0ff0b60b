/* SPDX-License-Identifier: MIT */
/*
 * Sigma schedules: which noise levels the steps visit. One table row per schedule.
 *
 * A schedule is a strictly descending list of sigmas whose last one is 0 (or final_sigma). Asked
 * for n steps it has n + 1 sigmas as a rule; a few rows count as the programs they come from do
 * ("ddim_uniform" may make more, and values that repeat in very long schedules are dropped), so the
 * number made is an output. Pure functions, any thread.
 */
#ifndef LIMN_SAMPLE_SCHEDULE_H
#define LIMN_SAMPLE_SCHEDULE_H

#include "base/status.h"
#include "sample/noising.h"

enum {
    LIMN_STEPS_MAX = 1000,     /* that a user may ask for */
    LIMN_SCHEDULE_MAX = 10000, /* that a schedule may be built with (see LIMN_STRENGTH_COMFYUI) */
    LIMN_SIGMAS_ROOM = LIMN_SCHEDULE_MAX + 2 /* a buffer that fits every schedule */
};

typedef struct limn_schedule_options {
    double sigma_min, sigma_max;  /* 0 = those of the model */
    double rho;                   /* Karras and polyexponential; 0 = 7 and 1 */
    double beta_alpha, beta_beta; /* beta; 0 = 0.6 */
    /* What stands at the end instead of 0: the least sigma of the model for diffusers' configs with
     * set_alpha_to_one false (DDIM, PNDM of SD 1.x); x then still holds that much noise. */
    double final_sigma;
    bool sdxl; /* AYS: the SDXL table instead of that of SD 1.x */
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
    /* Writes positive sigmas for `steps` steps and returns how many; the caller drops repeats and
     * appends the 0. `o` has no unset fields. Room: max(steps, 1000) + 1. */
    int (*build)(double *sigmas, int steps, const limn_noising *m, const limn_schedule_options *o);
};

extern const limn_schedule limn_schedules[];
extern const int limn_schedule_count;

/* By name, label or alias, ignoring case, spaces and punctuation; E_VALUE names the nearest. */
limn_status limn_schedule_find(const limn_schedule **out, const char *name, limn_err *err);

/* *made = steps of the schedule; sigmas [*made + 1], room for max(steps, 1000) + 2. steps 1..10000;
 * `o` may be NULL. E_VALUE: numbers out of range, a schedule that does not fit the model. The row
 * "automatic" is resolved by limn_solver_schedule (solver.h); here it stands for "uniform"
 * (discrete), "karras" (EDM) or "trailing" (flow). */
limn_status limn_schedule_build(double *sigmas, int *made, const limn_schedule *schedule, int steps,
                                const limn_noising *m, const limn_schedule_options *o,
                                limn_err *err);
/* The same without the penultimate sigma: the schedule of steps + 1 steps, its last positive sigma
 * dropped (what A1111 and ComfyUI do for rows with LIMN_SOLVER_DISCARD). Room for one more. */
limn_status limn_schedule_build_discard(double *sigmas, int *made, const limn_schedule *schedule,
                                        int steps, const limn_noising *m,
                                        const limn_schedule_options *o, limn_err *err);

/* How img2img strength shortens a schedule. */
typedef enum limn_strength_rule {
    LIMN_STRENGTH_STEPS,  /* diffusers, default: the last int(steps * strength) steps of `steps` */
    LIMN_STRENGTH_A1111,  /* the last min(int(steps * strength), steps - 1) + 1 steps of `steps` */
    LIMN_STRENGTH_COMFYUI /* `steps` steps: the last of a schedule of int(steps / strength) */
} limn_strength_rule;
typedef struct limn_strength_plan {
    int schedule_steps; /* build the schedule with this many steps */
    int run;            /* and run the last so many of those made, from sigmas[made - run]; 0 when
                           the strength is too small to do anything */
} limn_strength_plan;
/* steps 1..1000, strength in [0, 1]; E_VALUE otherwise or when the schedule would pass 10000. */
limn_status limn_strength_plan_get(limn_strength_plan *out, limn_strength_rule rule, int steps,
                                   double strength, limn_err *err);

#endif
