/* SPDX-License-Identifier: MIT */
/*
 * ER-SDE (arXiv 2309.06169, noise scale k (exp(k^0.3) + 10)) and RES multistep (arXiv 2308.02157,
 * exponential Adams-Bashforth of order 2), both over k = sigma / alpha; see solver_impl.h.
 * Defaults are those of ComfyUI.
 */
#include <math.h>

#include "sample/solver_impl.h"

/* ---- ER-SDE ---- */

/* The noise scale divided by k. */
static double er_gain(double k) {
    return exp(pow(k, 0.3)) + 10;
}

/* Left Riemann sums over [to, from] of 1 / scale and (k - from) / scale, 200 points as the paper's
 * code: the sums belong to the method. */
static void er_integrals(double from, double to, double *plain, double *first) {
    enum { POINTS = 200 };
    double width = (from - to) / POINTS;
    *plain = *first = 0;
    for (int j = 0; j < POINTS; j++) {
        double k = to + j * width, f = width / (k * er_gain(k));
        *plain += f;
        *first += (k - from) * f;
    }
}

static limn_status step_er_sde(limn_solver *s, float *x, int i, limn_err *err) {
    limn_status st;
    double from = s->from[i], to = s->to[i];
    LIMN_TRY(limn_solver_eval(s, s->x0, x, from, i, 0, err));
    double a = limn_noising_alpha(s->noising, to), kf = limn_solver_k(s, from),
           kt = limn_solver_k(s, to);
    double gain = to > 0 ? er_gain(kt) / er_gain(kf) : 0, scale = kt * er_gain(kt);
    double c[3] = {a * (1 - kt / kf * gain), 0, 0};
    int known = to > 0 ? limn_solver_usable(s, i, s->o.order - 1) : 0;
    if (known >= 1) {
        double plain, first, dt = kt - kf, k1 = limn_solver_k(s, s->from[i - 1]);
        er_integrals(kf, kt, &plain, &first);
        double slope = a * (dt + plain * scale), gap = 1 / (kf - k1);
        if (known >= 2) {
            /* bend = (slope now - slope before) / half the span of both */
            double k2 = limn_solver_k(s, s->from[i - 2]), gap1 = 1 / (k1 - k2);
            double bend = a * (dt * dt / 2 + first * scale) * 2 / (kf - k2);
            slope += bend;
            c[1] -= bend * gap1;
            c[2] += bend * gap1;
        }
        c[0] += slope * gap;
        c[1] -= slope * gap;
    }
    double up = a * kt * sqrt(fmax(1 - gain * gain, 0)) * s->o.s_noise;
    if (up != 0) LIMN_TRY(limn_solver_draw(s, from, to, err));
    const limn_solver_term t[] = {{to / from * gain, x},
                                  {c[0], s->x0},
                                  {c[1], s->history[0]},
                                  {c[2], s->history[1]},
                                  {up, s->noise}};
    limn_solver_mix(x, s->n, t, 5);
    limn_solver_remember(s);
out:
    return st;
}

/* ---- RES multistep ---- */

static limn_status step_res(limn_solver *s, float *x, int i, limn_err *err) {
    limn_status st;
    double from = s->from[i], to = s->to[i], eta = s->o.eta;
    LIMN_TRY(limn_solver_eval(s, s->x0, x, from, i, 0, err));
    double a = limn_noising_alpha(s->noising, to), kf = limn_solver_k(s, from);
    limn_solver_split p = limn_solver_split_k(kf, limn_solver_k(s, to), eta);
    double c0 = a * (1 - p.down / kf), c1 = 0;
    if (p.down > 0 && limn_solver_usable(s, i, 1) == 1) {
        /* x0 is linear through the two points; the last step went down to its own split. */
        double k1 = limn_solver_k(s, s->from[i - 1]);
        double h = log(kf / p.down), last = log(k1 / limn_solver_split_k(k1, kf, eta).down);
        double slope = a * (h + expm1(-h)) / last;
        c0 += slope;
        c1 = -slope;
    }
    double up = a * p.up * s->o.s_noise;
    if (up != 0) LIMN_TRY(limn_solver_draw(s, from, to, err));
    const limn_solver_term t[] = {
        {a * p.down / from, x}, {c0, s->x0}, {c1, s->history[0]}, {up, s->noise}};
    limn_solver_mix(x, s->n, t, 4);
    limn_solver_remember(s);
out:
    return st;
}

const limn_solver_ops limn_ops_er_sde = {.step = step_er_sde, .history = 2};
const limn_solver_ops limn_ops_res_multistep = {.step = step_res, .history = 1};
