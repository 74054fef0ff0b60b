/* SPDX-License-Identifier: MIT */
/*
 * Multistep solvers that remember derivatives: LMS (exact Adams-Bashforth on the given sigmas),
 * PNDM/PLMS and iPNDM (its constant-step coefficients), DEIS (polynomials in log k). All of them
 * end on the denoised estimate when the last sigma is 0, except LMS, as k-diffusion.
 * Formulas: k_diffusion/sampling.py sample_lms; diffusers scheduling_pndm.py (skip_prk_steps),
 * scheduling_ipndm.py, scheduling_deis_multistep.py (logrho).
 */
#include <math.h>

#include "sample/solver_impl.h"

/* Pushes the derivative (x - a x0) / sigma. */
static void remember_slope(limn_solver *s, const float *x, double sigma, double a) {
    const limn_solver_term t[] = {{1 / sigma, x}, {-a / sigma, s->x0}};
    limn_solver_mix(limn_solver_push(s), s->n, t, 2);
}

/* x += sum of c[j] history[j] */
static void advance(limn_solver *s, float *x, const double *c, int count) {
    limn_solver_term t[LIMN_SOLVER_HISTORY + 1] = {{1, x}};
    for (int j = 0; j < count; j++) t[j + 1] = (limn_solver_term){c[j], s->history[j]};
    limn_solver_mix(x, s->n, t, count + 1);
}

/* ---- LMS ---- */

/* Integral over [t[0], next] of the Lagrange polynomial that is 1 at t[j] and 0 at the others;
 * four Gauss points are exact for the degrees used. */
static double lagrange_integral(const double *t, int order, int j, double next) {
    static const double at[4] = {-0.861136311594052575, -0.339981043584856265, 0.339981043584856265,
                                 0.861136311594052575};
    static const double weight[4] = {0.347854845137453857, 0.652145154862546143,
                                     0.652145154862546143, 0.347854845137453857};
    double half = (next - t[0]) / 2, sum = 0;
    for (int g = 0; g < 4; g++) {
        double tau = t[0] + half * (1 + at[g]), product = weight[g];
        for (int k = 0; k < order; k++)
            if (k != j) product *= (tau - t[k]) / (t[j] - t[k]);
        sum += product;
    }
    return sum * half;
}

static limn_status step_lms(limn_solver *s, float *x, int i, limn_err *err) {
    limn_status st;
    LIMN_TRY(limn_solver_eval(s, s->x0, x, s->from[i], i, 0, err));
    remember_slope(s, x, s->from[i], 1);
    int order = s->known < s->o.order ? s->known : s->o.order;
    double t[LIMN_SOLVER_HISTORY], c[LIMN_SOLVER_HISTORY];
    for (int j = 0; j < order; j++) t[j] = s->from[i - j];
    for (int j = 0; j < order; j++) c[j] = lagrange_integral(t, order, j, s->to[i]);
    advance(s, x, c, order);
out:
    return st;
}

/* ---- PNDM, iPNDM ---- */

static void adams_bashforth(double c[LIMN_SOLVER_HISTORY], int order, double dt) {
    static const double rows[4][4] = {{1},
                                      {3.0 / 2, -1.0 / 2},
                                      {23.0 / 12, -16.0 / 12, 5.0 / 12},
                                      {55.0 / 24, -59.0 / 24, 37.0 / 24, -9.0 / 24}};
    for (int j = 0; j < order; j++) c[j] = rows[order - 1][j] * dt;
}

static limn_status step_ipndm(limn_solver *s, float *x, int i, limn_err *err) {
    limn_status st;
    double c[LIMN_SOLVER_HISTORY];
    LIMN_TRY(limn_solver_eval(s, s->x0, x, s->from[i], i, 0, err));
    remember_slope(s, x, s->from[i], 1);
    int order = s->known < s->o.order ? s->known : s->o.order;
    adams_bashforth(c, order, s->to[i] - s->from[i]);
    if (s->to[i] == 0)
        limn_solver_finish(s, x);
    else
        advance(s, x, c, order);
out:
    return st;
}

/* The first step is a Heun step whose second slope is forgotten. */
static limn_status pndm_first(limn_solver *s, float *x, limn_err *err) {
    limn_status st;
    double from = s->from[0], to = s->to[0], half = (to - from) / 2;
    float *guess = s->scratch[0], *x1 = s->scratch[1];
    const limn_solver_term euler[] = {{1, x}, {to - from, s->history[0]}};
    limn_solver_mix(guess, s->n, euler, 2);
    LIMN_TRY(limn_solver_eval(s, x1, guess, to, 0, 1, err));
    const limn_solver_term t[] = {
        {1, x}, {half, s->history[0]}, {half / to, guess}, {-half / to, x1}};
    limn_solver_mix(x, s->n, t, 4);
out:
    return st;
}

static limn_status step_pndm(limn_solver *s, float *x, int i, limn_err *err) {
    limn_status st;
    double c[LIMN_SOLVER_HISTORY];
    LIMN_TRY(limn_solver_eval(s, s->x0, x, s->from[i], i, 0, err));
    remember_slope(s, x, s->from[i], 1);
    adams_bashforth(c, s->known, s->to[i] - s->from[i]);
    if (s->to[i] == 0)
        limn_solver_finish(s, x);
    else if (i == 0)
        LIMN_TRY(pndm_first(s, x, err));
    else
        advance(s, x, c, s->known);
out:
    return st;
}

/* ---- DEIS ---- */

/* Integrals of e^v v^m over [0, v]. */
static void exp_moments(double m[3], double v) {
    double e = exp(v);
    m[0] = expm1(v);
    m[1] = e * (v - 1) + 1;
    m[2] = e * (v * v - 2 * v + 2) - 2;
}

/* Weights of the noise predictions at log k = u[0..order-1] for the way to log k = next, in
 * k / k[0]: integrals of Lagrange polynomials in log k over k. */
static void deis_weights(double *c, const double *u, int order, double next) {
    double m[3];
    exp_moments(m, next - u[0]);
    for (int j = 0; j < order; j++) {
        double p[2], vj = u[j] - u[0], other = 1;
        int roots = 0;
        for (int k = 0; k < order; k++)
            if (k != j) {
                p[roots] = u[k] - u[0];
                other *= vj - p[roots++];
            }
        if (order == 1) c[j] = m[0];
        if (order == 2) c[j] = (m[1] - p[0] * m[0]) / other;
        if (order == 3) c[j] = (m[2] - (p[0] + p[1]) * m[1] + p[0] * p[1] * m[0]) / other;
    }
}

static int deis_order(const limn_solver *s, int i) {
    int order = s->known < s->o.order ? s->known : s->o.order, left = s->steps - i;
    if (s->o.lower_order_final && s->steps < 15 && left < 3 && order > left) order = left;
    /* a point of pure flow noise has no log k */
    while (order > 1 && !isfinite(limn_noising_lambda(s->noising, s->from[i - order + 1]))) order--;
    return order;
}

static limn_status step_deis(limn_solver *s, float *x, int i, limn_err *err) {
    limn_status st;
    const limn_noising *m = s->noising;
    double from = s->from[i], to = s->to[i];
    LIMN_TRY(limn_solver_eval(s, s->x0, x, from, i, 0, err));
    limn_solver_span p = limn_solver_span_get(m, from, to);
    remember_slope(s, x, from, p.alpha_from);
    int order = deis_order(s, i);
    double u[3], c[3] = {0, 0, 0};
    for (int j = 0; j < order; j++) u[j] = -limn_noising_lambda(m, s->from[i - j]);
    if (to > 0 && order > 1) {
        deis_weights(c, u, order, -limn_noising_lambda(m, to));
        double unit = p.alpha_to * exp(u[0]);
        for (int j = 0; j < order; j++) c[j] *= unit;
    }
    /* first-order step plus weighted differences of the older slopes: no cancellation of large
     * terms while alpha is small */
    const limn_solver_term t[] = {{p.keep, x},
                                  {p.pull, s->x0},
                                  {-c[1] - c[2], s->history[0]},
                                  {c[1], s->history[1]},
                                  {c[2], s->history[2]}};
    limn_solver_mix(x, s->n, t, 5);
out:
    return st;
}

const limn_solver_ops limn_ops_lms = {.step = step_lms, .history = 4};
const limn_solver_ops limn_ops_ipndm = {.step = step_ipndm, .history = 4};
const limn_solver_ops limn_ops_pndm = {.step = step_pndm, .history = 4, .scratch = 2};
const limn_solver_ops limn_ops_deis = {.step = step_deis, .history = 3};
