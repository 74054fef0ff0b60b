/* SPDX-License-Identifier: MIT */
/*
 * Solvers of the plain probability-flow ODE  dx/dsigma = (x - x0) / sigma, which has the same form
 * for every noising: Euler, Heun, DPM2, their ancestral forms, Restart. DDIM is ancestral Euler
 * with its own default eta: in the variance-exploding form its variance is the ancestral one.
 * Formulas: Karras et al. 2022 algorithm 2, k_diffusion/sampling.py; Restart: Xu et al. 2023 with
 * the plan of A1111's sd_samplers_extra.py.
 */
#include <math.h>
#include <string.h>

#include "sample/solver_impl.h"

/* x += d (to - from) with d = (x - x0) / from. */
static void euler_to(const limn_solver *s, float *out, const float *x, const float *x0, double from,
                     double to) {
    const limn_solver_term t[] = {{to / from, x}, {1 - to / from, x0}};
    limn_solver_mix(out, s->n, t, 2);
}

static limn_status add_noise(limn_solver *s, float *x, const limn_solver_split *p, double from,
                             double to, limn_err *err) {
    limn_status st = limn_solver_draw(s, from, to, err);
    if (st != LIMN_OK) return st;
    const limn_solver_term t[] = {{p->keep, x}, {p->up * s->o.s_noise, s->noise}};
    limn_solver_mix(x, s->n, t, 2);
    return LIMN_OK;
}

/* Karras' churn: lifts x to a higher sigma before the step; *sigma is the level it ends at. Noise
 * is drawn at every step of a churned run, used or not, as k-diffusion does. */
static limn_status churn(limn_solver *s, float *x, int i, double *sigma, limn_err *err) {
    *sigma = s->from[i];
    if (s->o.s_churn == 0) return LIMN_OK;
    double k = *sigma / limn_noising_alpha(s->noising, *sigma);
    double gamma = fmin(s->o.s_churn / s->steps, sqrt(2) - 1);
    if (*sigma < s->o.s_tmin || *sigma > s->o.s_tmax || !isfinite(k)) gamma = 0;
    double high = limn_noising_sigma_of_lambda(s->noising, -log(k * (1 + gamma)));
    if (gamma == 0) return limn_solver_draw(s, *sigma, s->to[i], err);
    limn_solver_split p = limn_solver_climb(s->noising, *sigma, high);
    limn_status st = add_noise(s, x, &p, *sigma, s->to[i], err);
    *sigma = high;
    return st;
}

static limn_status step_euler(limn_solver *s, float *x, int i, limn_err *err) {
    limn_status st;
    double sigma;
    LIMN_TRY(churn(s, x, i, &sigma, err));
    LIMN_TRY(limn_solver_eval(s, s->x0, x, sigma, i, 0, err));
    euler_to(s, x, x, s->x0, sigma, s->to[i]);
out:
    return st;
}

static limn_status step_ancestral(limn_solver *s, float *x, int i, limn_err *err) {
    limn_status st;
    double from = s->from[i], to = s->to[i];
    limn_solver_split p = limn_solver_split_get(s->noising, from, to, s->o.eta);
    LIMN_TRY(limn_solver_eval(s, s->x0, x, from, i, 0, err));
    euler_to(s, x, x, s->x0, from, p.down);
    if (to > 0 && s->o.eta > 0) LIMN_TRY(add_noise(s, x, &p, from, to, err));
out:
    return st;
}

/* x at `from` -> `to` by Heun's method; scratch[0] = the Euler guess, scratch[1] = its x0. */
static limn_status heun_to(limn_solver *s, float *x, double from, double to, int i, limn_err *err) {
    limn_status st;
    LIMN_TRY(limn_solver_eval(s, s->x0, x, from, i, 0, err));
    if (to == 0) {
        euler_to(s, x, x, s->x0, from, to);
        goto out;
    }
    float *guess = s->scratch[0], *x1 = s->scratch[1];
    euler_to(s, guess, x, s->x0, from, to);
    LIMN_TRY(limn_solver_eval(s, x1, guess, to, i, 1, err));
    double half = (to - from) / 2;
    const limn_solver_term t[] = {
        {1 + half / from, x}, {-half / from, s->x0}, {half / to, guess}, {-half / to, x1}};
    limn_solver_mix(x, s->n, t, 4);
out:
    return st;
}

static limn_status step_heun(limn_solver *s, float *x, int i, limn_err *err) {
    limn_status st;
    double sigma;
    LIMN_TRY(churn(s, x, i, &sigma, err));
    LIMN_TRY(heun_to(s, x, sigma, s->to[i], i, err));
out:
    return st;
}

/* Midpoint step in log sigma from `from` to `to` > 0 with x0 already known. */
static limn_status midpoint_to(limn_solver *s, float *x, double from, double to, int i,
                               limn_err *err) {
    limn_status st;
    double mid = sqrt(from * to);
    float *guess = s->scratch[0], *x1 = s->scratch[1];
    euler_to(s, guess, x, s->x0, from, mid);
    LIMN_TRY(limn_solver_eval(s, x1, guess, mid, i, 1, err));
    double k = (to - from) / mid;
    const limn_solver_term t[] = {{1, x}, {k, guess}, {-k, x1}};
    limn_solver_mix(x, s->n, t, 3);
out:
    return st;
}

static limn_status step_dpm2(limn_solver *s, float *x, int i, limn_err *err) {
    limn_status st;
    double sigma;
    LIMN_TRY(churn(s, x, i, &sigma, err));
    LIMN_TRY(limn_solver_eval(s, s->x0, x, sigma, i, 0, err));
    if (s->to[i] == 0)
        euler_to(s, x, x, s->x0, sigma, 0);
    else
        LIMN_TRY(midpoint_to(s, x, sigma, s->to[i], i, err));
out:
    return st;
}

static limn_status step_dpm2_ancestral(limn_solver *s, float *x, int i, limn_err *err) {
    limn_status st;
    double from = s->from[i], to = s->to[i];
    limn_solver_split p = limn_solver_split_get(s->noising, from, to, s->o.eta);
    LIMN_TRY(limn_solver_eval(s, s->x0, x, from, i, 0, err));
    if (p.down == 0)
        euler_to(s, x, x, s->x0, from, 0);
    else
        LIMN_TRY(midpoint_to(s, x, from, p.down, i, err));
    if (to > 0 && s->o.eta > 0) LIMN_TRY(add_noise(s, x, &p, from, to, err));
out:
    return st;
}

/* ---- Restart ---- */

/* The ends are exact, so that parts of a plan join without a gap that would look like a climb. */
static double karras_at(double high, double low, int n, int i) {
    if (i == 0) return high;
    if (i == n - 1) return low;
    double a = pow(high, 1.0 / 7), b = pow(low, 1.0 / 7);
    return pow(a + (b - a) * i / (n - 1), 7);
}

static int nearest(const double *v, int n, double want) {
    int best = 0;
    for (int i = 1; i < n; i++)
        if (fabs(v[i] - want) < fabs(v[best] - want)) best = i;
    return best;
}

/* From 20 steps on, the last part is Karras-spaced with fewer steps, and the saved ones go back
 * from k = 0.1 up to 2 and down again, once, or twice from 36 on. The total stays the same. */
static void respace_restart(limn_solver *s) {
    int n = s->steps, again = n >= 36 ? n / 4 : 9, times = n >= 36 ? 2 : 1;
    if (n < 20) return;
    int base = n - again * times, count = 0;
    double high = s->from[0], low = s->from[n - 1], end = s->to[n - 1];
    double level[LIMN_SCHEDULE_MAX + 1];
    for (int i = 0; i < base; i++) level[i] = karras_at(high, low, base, i);
    level[base] = end;
    const limn_noising *m = s->noising;
    int bottom = nearest(level, base, limn_noising_sigma_of_lambda(m, -log(0.1)));
    int top = nearest(level, base, limn_noising_sigma_of_lambda(m, -log(2)));
    if (top >= bottom) return; /* too short a range to go back in (img2img at low strength) */
    for (int i = 0; i < base; i++) {
        s->from[count] = level[i];
        s->to[count++] = level[i + 1];
        if (i + 1 != bottom) continue;
        for (int t = 0; t < times; t++)
            for (int k = 0; k < again; k++) {
                s->from[count] = karras_at(level[top], level[bottom], again + 1, k);
                s->to[count++] = karras_at(level[top], level[bottom], again + 1, k + 1);
            }
    }
    s->steps = count;
}

static limn_status step_restart(limn_solver *s, float *x, int i, limn_err *err) {
    limn_status st;
    if (i > 0 && s->from[i] > s->to[i - 1]) {
        limn_solver_split p = limn_solver_climb(s->noising, s->to[i - 1], s->from[i]);
        LIMN_TRY(add_noise(s, x, &p, s->to[i - 1], s->from[i], err));
    }
    LIMN_TRY(heun_to(s, x, s->from[i], s->to[i], i, err));
out:
    return st;
}

const limn_solver_ops limn_ops_euler = {.step = step_euler};
const limn_solver_ops limn_ops_ancestral = {.step = step_ancestral};
const limn_solver_ops limn_ops_heun = {.step = step_heun, .scratch = 2};
const limn_solver_ops limn_ops_dpm2 = {.step = step_dpm2, .scratch = 2};
const limn_solver_ops limn_ops_dpm2_ancestral = {.step = step_dpm2_ancestral, .scratch = 2};
const limn_solver_ops limn_ops_restart = {
    .step = step_restart, .respace = respace_restart, .scratch = 2};
