/* SPDX-License-Identifier: MIT */
/*
 * UniPC (arXiv 2302.04867), data prediction, B(h) = h ("bh1") or e^h - 1 ("bh2"), order 1 to 3:
 * every evaluation first corrects the state it was made at, then predicts the next one.
 * Formulas: diffusers scheduling_unipc_multistep.py. The last step to sigma 0 is the limit x0.
 */
#include <math.h>
#include <string.h>

#include "sample/solver_impl.h"

enum { ORDER = 3 };

/* Scalars of one update over a step: ratio[j] places the older points, b the right-hand sides. */
typedef struct update {
    limn_solver_span span;
    double big_h; /* B(h) */
    double ratio[ORDER];
    double b[ORDER];
} update;

/* The update from sigma index `at` (its interval is from[at] -> to[at]) with `order` points. */
static update update_get(const limn_solver *s, int at, int order) {
    const limn_noising *m = s->noising;
    update u = {.span = limn_solver_span_get(m, s->from[at], s->to[at])};
    double hh = -u.span.h, lambda = limn_noising_lambda(m, s->from[at]);
    for (int j = 1; j < order; j++)
        u.ratio[j - 1] = (limn_noising_lambda(m, s->from[at - j]) - lambda) / u.span.h;
    u.ratio[order - 1] = 1;
    u.big_h = s->row->variant == 1 ? hh : expm1(hh);
    double phi = expm1(hh) / hh - 1, factorial = 1;
    for (int k = 1; k <= order; k++) {
        u.b[k - 1] = phi * factorial / u.big_h;
        factorial *= k + 1;
        phi = phi / hh - 1 / factorial;
    }
    return u;
}

/* Solves sum_j ratio_j^k rho_j = b_k, k = 0..n-1, by elimination with pivoting. */
static void vandermonde(double *rho, const double *ratio, const double *b, int n) {
    double a[ORDER][ORDER + 1];
    for (int k = 0; k < n; k++) {
        for (int j = 0; j < n; j++) a[k][j] = pow(ratio[j], k);
        a[k][n] = b[k];
    }
    for (int p = 0; p < n; p++) {
        int best = p;
        for (int k = p + 1; k < n; k++)
            if (fabs(a[k][p]) > fabs(a[best][p])) best = k;
        for (int j = 0; j <= n; j++) {
            double t = a[p][j];
            a[p][j] = a[best][j];
            a[best][j] = t;
        }
        for (int k = p + 1; k < n; k++) {
            double f = a[k][p] / a[p][p];
            for (int j = p; j <= n; j++) a[k][j] -= f * a[p][j];
        }
    }
    for (int p = n - 1; p >= 0; p--) {
        rho[p] = a[p][n];
        for (int j = p + 1; j < n; j++) rho[p] -= a[p][j] * rho[j];
        rho[p] /= a[p][p];
    }
}

/* out = keep x + pull m0 - alpha B(h) (sum_j rho_j (m_j - m0) / ratio_j + last (newest - m0)), with
 * m0 and older points in history[first], history[first + 1], .. */
static void apply(const limn_solver *s, float *out, const float *x, const update *u, int first,
                  int order, const double *rho, double last, const float *newest) {
    double unit = -u->span.alpha_to * u->big_h, c0 = u->span.pull;
    limn_solver_term t[5];
    int count = 0;
    t[count++] = (limn_solver_term){u->span.keep, x};
    for (int j = 1; j < order; j++) {
        double c = unit * rho[j - 1] / u->ratio[j - 1];
        t[count++] = (limn_solver_term){c, s->history[first + j]};
        c0 -= c;
    }
    if (newest) {
        t[count++] = (limn_solver_term){unit * last, newest};
        c0 -= unit * last;
    }
    t[count++] = (limn_solver_term){c0, s->history[first]};
    limn_solver_mix(out, s->n, t, count);
}

/* x at step i from the state before the last step (scratch[0]) and the new estimate s->x0. */
static void correct(limn_solver *s, float *x, int i) {
    int order = s->last_order;
    update u = update_get(s, i - 1, order);
    double rho[ORDER] = {0.5};
    if (order > 1) vandermonde(rho, u.ratio, u.b, order);
    apply(s, x, s->scratch[0], &u, 0, order, rho, rho[order - 1], s->x0);
}

static int step_order(const limn_solver *s, int i) {
    int order = s->o.order, left = s->steps - i;
    if (s->o.lower_order_final && order > left) order = left;
    if (order > s->known) order = s->known; /* history already holds this step's estimate */
    /* a point of pure flow noise has no lambda */
    while (order > 1 && !isfinite(limn_noising_lambda(s->noising, s->from[i - order + 1]))) order--;
    return order;
}

static limn_status step_unipc(limn_solver *s, float *x, int i, limn_err *err) {
    limn_status st;
    LIMN_TRY(limn_solver_eval(s, s->x0, x, s->from[i], i, 0, err));
    /* from pure flow noise the step is exact in its linear part and h is infinite: nothing to
     * correct with */
    if (i > 0 && isfinite(limn_noising_lambda(s->noising, s->from[i - 1]))) correct(s, x, i);
    memcpy(s->scratch[0], x, (size_t)s->n * sizeof(float));
    limn_solver_remember(s);
    if (s->to[i] == 0) {
        limn_solver_finish(s, x);
        goto out;
    }
    int order = s->last_order = step_order(s, i);
    limn_solver_span span = limn_solver_span_get(s->noising, s->from[i], s->to[i]);
    if (order == 1) { /* also where h is infinite */
        const limn_solver_term t[] = {{span.keep, x}, {span.pull, s->x0}};
        limn_solver_mix(x, s->n, t, 2);
        goto out;
    }
    update u = update_get(s, i, order);
    double rho[ORDER] = {0.5};
    if (order > 2) vandermonde(rho, u.ratio, u.b, order - 1);
    apply(s, x, x, &u, 0, order, rho, 0, NULL);
out:
    return st;
}

const limn_solver_ops limn_ops_unipc = {.step = step_unipc, .history = 3, .scratch = 1};
