/* SPDX-License-Identifier: MIT */
/*
 * Few-step solvers for distilled networks: LCM jumps to the estimate and noises it again; TCD goes
 * to a cleaner level first and climbs back from there. The boundary scaling of LCM belongs to the
 * network's preconditioning (limn_noising.boundary_scale).
 * Formulas: diffusers scheduling_lcm.py, scheduling_tcd.py, scheduling_flow_match_lcm.py.
 */
#include <math.h>

#include "sample/solver_impl.h"

static limn_status step_lcm(limn_solver *s, float *x, int i, limn_err *err) {
    limn_status st;
    double to = s->to[i];
    LIMN_TRY(limn_solver_eval(s, s->x0, x, s->from[i], i, 0, err));
    if (to > 0) LIMN_TRY(limn_solver_draw(s, s->from[i], to, err));
    const limn_solver_term t[] = {{limn_noising_alpha(s->noising, to), s->x0},
                                  {to * s->o.s_noise, s->noise}};
    limn_solver_mix(x, s->n, t, 2);
out:
    return st;
}

/* The level (1 - gamma) of the way in timesteps, whole ones where the model counts in them. */
static double tcd_level(const limn_solver *s, double to) {
    const limn_noising *m = s->noising;
    if (m->kind != LIMN_NOISING_DISCRETE || to == 0) return to * (1 - s->o.gamma);
    double t = (1 - s->o.gamma) * limn_noising_timestep(m, to);
    return fmin(limn_noising_sigma(m, floor(t + 1e-6)), to);
}

static limn_status step_tcd(limn_solver *s, float *x, int i, limn_err *err) {
    limn_status st;
    double from = s->from[i], to = s->to[i];
    double level = s->o.gamma > 0 ? tcd_level(s, to) : to;
    LIMN_TRY(limn_solver_eval(s, s->x0, x, from, i, 0, err));
    limn_solver_split p = {.keep = 1};
    if (level < to) {
        p = limn_solver_climb(s->noising, level, to);
        LIMN_TRY(limn_solver_draw(s, from, to, err));
    }
    limn_solver_span a = limn_solver_span_get(s->noising, from, level);
    const limn_solver_term t[] = {
        {p.keep * a.keep, x}, {p.keep * a.pull, s->x0}, {p.up * s->o.s_noise, s->noise}};
    limn_solver_mix(x, s->n, t, 3);
out:
    return st;
}

const limn_solver_ops limn_ops_lcm = {.step = step_lcm};
const limn_solver_ops limn_ops_tcd = {.step = step_tcd};
