/* SPDX-License-Identifier: MIT */
/*
 * DPM-Solver++ and its relatives: exponential integrators of the data prediction in
 * lambda = log(alpha / sigma). The state is moved as x / alpha in k = sigma / alpha (see
 * solver_impl.h), so one formula serves k-diffusion's sigma space and flow models.
 * Formulas: k_diffusion/sampling.py (2S a, SDE, 2M, 2M SDE, 3M SDE), diffusers
 * scheduling_dpmsolver_multistep.py (third order), ComfyUI k_diffusion/sampling.py (flow forms).
 */
#include <math.h>

#include "sample/solver_impl.h"

static double lambda_step(const limn_solver *s, int i) {
    return limn_noising_lambda(s->noising, s->to[i]) - limn_noising_lambda(s->noising, s->from[i]);
}

/* ---- 2S a ---- */

static limn_status step_2s_ancestral(limn_solver *s, float *x, int i, limn_err *err) {
    limn_status st;
    const limn_noising *m = s->noising;
    double from = s->from[i], to = s->to[i];
    limn_solver_split p = limn_solver_split_get(m, from, to, s->o.eta);
    LIMN_TRY(limn_solver_eval(s, s->x0, x, from, i, 0, err));
    const float *x0 = s->x0;
    if (p.down > 0) {
        double half = (limn_noising_lambda(m, from) + limn_noising_lambda(m, p.down)) / 2;
        double mid = limn_noising_sigma_of_lambda(m, half);
        if (!isfinite(half)) mid = 0.9999; /* flow from pure noise, as ComfyUI */
        const limn_solver_term t[] = {{mid / from, x}, {1 - mid / from, s->x0}};
        limn_solver_mix(s->scratch[0], s->n, t, 2);
        LIMN_TRY(limn_solver_eval(s, s->scratch[1], s->scratch[0], mid, i, 1, err));
        x0 = s->scratch[1];
    }
    const limn_solver_term t[] = {{p.down / from, x}, {1 - p.down / from, x0}};
    limn_solver_mix(x, s->n, t, 2);
    if (to > 0 && s->o.eta > 0) {
        LIMN_TRY(limn_solver_draw(s, from, to, err));
        const limn_solver_term up[] = {{p.keep, x}, {p.up * s->o.s_noise, s->noise}};
        limn_solver_mix(x, s->n, up, 2);
    }
out:
    return st;
}

/* ---- SDE ---- */

/* out = x moved from sigma `from` to sigma `to` by x0 in the ancestral split of k. */
static limn_status sde_move(limn_solver *s, float *out, const float *x,
                            const limn_solver_term x0[2], double from, double to, limn_err *err) {
    double a = limn_noising_alpha(s->noising, to), k = limn_solver_k(s, from);
    limn_solver_split p = limn_solver_split_k(k, limn_solver_k(s, to), s->o.eta);
    double pull = a * (1 - p.down / k), up = a * p.up * s->o.s_noise;
    if (up != 0) {
        limn_status st = limn_solver_draw(s, from, to, err);
        if (st != LIMN_OK) return st;
    }
    const limn_solver_term t[] = {{a * p.down / from, x},
                                  {pull * x0[0].k, x0[0].v},
                                  {pull * x0[1].k, x0[1].v},
                                  {up, s->noise}};
    limn_solver_mix(out, s->n, t, 4);
    return LIMN_OK;
}

static limn_status step_sde(limn_solver *s, float *x, int i, limn_err *err) {
    limn_status st;
    const limn_noising *m = s->noising;
    double from = s->from[i], to = s->to[i], lambda = limn_noising_lambda(m, from);
    LIMN_TRY(limn_solver_eval(s, s->x0, x, from, i, 0, err));
    if (to == 0) {
        limn_solver_finish(s, x);
        goto out;
    }
    double mid = limn_noising_sigma_of_lambda(m, lambda + s->o.r * lambda_step(s, i));
    double weight = 1 / (2 * s->o.r);
    float *guess = s->scratch[0], *x1 = s->scratch[1];
    const limn_solver_term first[2] = {{1, s->x0}, {0, s->x0}};
    LIMN_TRY(sde_move(s, guess, x, first, from, mid, err));
    LIMN_TRY(limn_solver_eval(s, x1, guess, mid, i, 1, err));
    const limn_solver_term both[2] = {{1 - weight, s->x0}, {weight, x1}};
    LIMN_TRY(sde_move(s, x, x, both, from, to, err));
out:
    return st;
}

/* ---- third-order correction shared by 2M (order 3) and 3M SDE ---- */

/* Adds to c[0..2], the weights of x0 and the two before it, the terms p d1 - q d2 with the divided
 * differences d1, d2 of x0 over the step ratios r0, r1. */
static void three_points(double c[3], double p, double q, double r0, double r1) {
    double a = 1 / r0, b = 1 / r1, w = r0 / (r0 + r1), v = 1 / (r0 + r1);
    double bend = p * w - q * v; /* weight of (D1_0 - D1_1) */
    c[0] += p * a + bend * a;
    c[1] += -p * a - bend * (a + b);
    c[2] += bend * b;
}

/* ---- 2M ---- */

static limn_status step_2m(limn_solver *s, float *x, int i, limn_err *err) {
    limn_status st;
    double from = s->from[i], to = s->to[i];
    LIMN_TRY(limn_solver_eval(s, s->x0, x, from, i, 0, err));
    limn_solver_span p = limn_solver_span_get(s->noising, from, to);
    int order = limn_solver_usable(s, i, s->o.order - 1) + 1;
    if (order == 3 && s->o.lower_order_final && s->steps < 15 && i == s->steps - 2) order = 2;
    double c[3] = {p.pull, 0, 0};
    if (to > 0 && order == 2) {
        double half = 0.5 * p.pull * p.h / lambda_step(s, i - 1);
        c[0] += half;
        c[1] -= half;
    } else if (to > 0 && order == 3) {
        double phi2 = expm1(-p.h) / p.h + 1, phi3 = phi2 / p.h - 0.5;
        three_points(c, p.alpha_to * phi2, p.alpha_to * phi3, lambda_step(s, i - 1) / p.h,
                     lambda_step(s, i - 2) / p.h);
    }
    const limn_solver_term t[] = {
        {p.keep, x}, {c[0], s->x0}, {c[1], s->history[0]}, {c[2], s->history[1]}};
    limn_solver_mix(x, s->n, t, 4);
    limn_solver_remember(s);
out:
    return st;
}

/* ---- 2M SDE, 3M SDE ---- */

static limn_status step_multistep_sde(limn_solver *s, float *x, int i, int order, limn_err *err) {
    limn_status st;
    double from = s->from[i], to = s->to[i], eta = s->o.eta;
    LIMN_TRY(limn_solver_eval(s, s->x0, x, from, i, 0, err));
    if (to == 0) {
        limn_solver_finish(s, x);
        goto out;
    }
    limn_solver_span p = limn_solver_span_get(s->noising, from, to);
    double h = p.h * (1 + eta), gone = -expm1(-h);
    double damp = eta > 0 ? exp(-p.h * eta) : 1;
    double phi2 = 1 - gone / h; /* 1 at infinite h */
    double c[3] = {p.alpha_to * gone, 0, 0};
    int known = limn_solver_usable(s, i, order - 1);
    if (known == 2) {
        double phi3 = phi2 / h - 0.5;
        three_points(c, p.alpha_to * phi2, p.alpha_to * phi3, lambda_step(s, i - 1) / p.h,
                     lambda_step(s, i - 2) / p.h);
    } else if (known == 1) {
        /* variant 0, midpoint of 2M: half of the first-order weight; else the exact integral */
        double slope = order == 2 && s->row->variant == 0 ? 0.5 * gone : phi2;
        slope *= p.alpha_to * p.h / lambda_step(s, i - 1);
        c[0] += slope;
        c[1] -= slope;
    }
    double up = eta > 0 ? to * sqrt(-expm1(-2 * p.h * eta)) * s->o.s_noise : 0;
    if (up != 0) LIMN_TRY(limn_solver_draw(s, from, to, err));
    const limn_solver_term t[] = {{p.keep * damp, x},
                                  {c[0], s->x0},
                                  {c[1], s->history[0]},
                                  {c[2], s->history[order - 2]},
                                  {up, s->noise}};
    limn_solver_mix(x, s->n, t, 5);
    limn_solver_remember(s);
out:
    return st;
}

static limn_status step_2m_sde(limn_solver *s, float *x, int i, limn_err *err) {
    return step_multistep_sde(s, x, i, 2, err);
}

static limn_status step_3m_sde(limn_solver *s, float *x, int i, limn_err *err) {
    return step_multistep_sde(s, x, i, 3, err);
}

const limn_solver_ops limn_ops_dpmpp_2s_ancestral = {.step = step_2s_ancestral, .scratch = 2};
const limn_solver_ops limn_ops_dpmpp_sde = {.step = step_sde, .scratch = 2};
const limn_solver_ops limn_ops_dpmpp_2m = {.step = step_2m, .history = 2};
const limn_solver_ops limn_ops_dpmpp_2m_sde = {.step = step_2m_sde, .history = 1};
const limn_solver_ops limn_ops_dpmpp_3m_sde = {.step = step_3m_sde, .history = 2};
