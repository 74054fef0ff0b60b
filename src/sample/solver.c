/* SPDX-License-Identifier: MIT */
/* The solver object and what all solvers share; see solver.h and solver_impl.h. */
#include "sample/solver_impl.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "base/mem.h"

enum { STEPS_MAX = LIMN_SCHEDULE_MAX };

/* ---- options ---- */

limn_solver_options limn_solver_defaults(const limn_solver_row *row) {
    return (limn_solver_options){.eta = row->eta,
                                 .s_tmax = INFINITY,
                                 .s_noise = 1,
                                 .r = 0.5,
                                 .gamma = 0.3,
                                 .order = row->order,
                                 .lower_order_final = true};
}

limn_status limn_solver_options_check(const limn_solver_row *row, const limn_solver_options *o,
                                      limn_err *err) {
    const struct {
        const char *name;
        double value, low, high;
    } rows[] = {
        {"eta", o->eta, 0, 10},          {"s_churn", o->s_churn, 0, 1e6},
        {"s_tmin", o->s_tmin, 0, 1e6},   {"s_tmax", o->s_tmax, 0, INFINITY},
        {"s_noise", o->s_noise, 0, 100}, {"r", o->r, 0.01, 0.99},
        {"gamma", o->gamma, 0, 1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (!(rows[i].value >= rows[i].low && rows[i].value <= rows[i].high))
            return limn_fail(err, LIMN_E_VALUE, "%s of the solver is %g to %g, not %g",
                             rows[i].name, rows[i].low, rows[i].high, rows[i].value);
    if (row->order_max > 0 && (o->order < 1 || o->order > row->order_max))
        return limn_fail(err, LIMN_E_VALUE, "the order of %s is 1 to %d, not %d", row->label,
                         row->order_max, o->order);
    return LIMN_OK;
}

/* ---- object ---- */

static limn_status args_check(const limn_solver_args *a, limn_err *err) {
    if (a->steps < 1 || a->steps > STEPS_MAX)
        return limn_fail(err, LIMN_E_VALUE, "a solver makes 1 to %d steps, not %d", STEPS_MAX,
                         a->steps);
    if (a->n < 1) return limn_fail(err, LIMN_E_VALUE, "a solver needs at least one value");
    for (int i = 0; i <= a->steps; i++) {
        bool good = isfinite(a->sigmas[i]) && a->sigmas[i] >= 0 &&
                    (i == 0 || a->sigmas[i] < a->sigmas[i - 1]);
        if (!good)
            return limn_fail(err, LIMN_E_VALUE,
                             "sigma %d of the schedule is %g; sigmas must fall and not be negative",
                             i, a->sigmas[i]);
    }
    if (a->noising->kind == LIMN_NOISING_FLOW && a->sigmas[0] > 1)
        return limn_fail(err, LIMN_E_VALUE, "sigmas of a flow model are at most 1, not %g",
                         a->sigmas[0]);
    return LIMN_OK;
}

static bool buffer_new(float **out, int64_t n) {
    size_t bytes;
    if (!limn_mul_size(&bytes, (size_t)n, sizeof(float))) return false;
    *out = limn_mem_aligned(bytes);
    return *out != NULL;
}

static bool buffers_new(limn_solver *s) {
    const limn_solver_ops *ops = s->row->ops;
    bool good = buffer_new(&s->x0, s->n) && buffer_new(&s->noise, s->n);
    for (int i = 0; good && i < ops->history; i++) good = buffer_new(&s->history[i], s->n);
    for (int i = 0; good && i < ops->scratch; i++) good = buffer_new(&s->scratch[i], s->n);
    return good;
}

limn_status limn_solver_new(limn_solver **out, const limn_solver_args *a, limn_err *err) {
    limn_status st = LIMN_OK;
    limn_solver *s = NULL;
    *out = NULL;
    LIMN_TRY(args_check(a, err));
    s = limn_mem_calloc(1, sizeof *s);
    LIMN_CHECK(err, s, LIMN_E_NOMEM, "no memory for a solver");
    s->row = a->row;
    s->noising = a->noising;
    s->o = a->options ? *a->options : limn_solver_defaults(a->row);
    LIMN_TRY(limn_solver_options_check(a->row, &s->o, err));
    s->denoise = a->denoise;
    s->denoise_user = a->denoise_user;
    s->noise_fn = a->noise;
    s->noise_user = a->noise_user;
    s->n = a->n;
    s->steps = a->steps;
    s->from = limn_mem_calloc((size_t)a->steps, sizeof(double));
    s->to = limn_mem_calloc((size_t)a->steps, sizeof(double));
    LIMN_CHECK(err, s->from && s->to && buffers_new(s), LIMN_E_NOMEM,
               "no memory for a solver of %lld values", (long long)a->n);
    for (int i = 0; i < a->steps; i++) {
        s->from[i] = a->sigmas[i];
        s->to[i] = a->sigmas[i + 1];
    }
    if ((a->row->flags & LIMN_SOLVER_LOG_SNR) && a->noising->kind == LIMN_NOISING_FLOW &&
        s->from[0] > 0.9999 && s->to[0] < 0.9999)
        s->from[0] = 0.9999;
    if (a->row->ops->respace) a->row->ops->respace(s);
    *out = s;
    s = NULL;
out:
    limn_solver_free(&s);
    return st;
}

void limn_solver_free(limn_solver **solver) {
    if (!solver || !*solver) return;
    limn_solver *s = *solver;
    limn_mem_free(s->from);
    limn_mem_free(s->to);
    limn_mem_free(s->x0);
    limn_mem_free(s->noise);
    for (int i = 0; i < LIMN_SOLVER_HISTORY; i++) limn_mem_free(s->history[i]);
    for (int i = 0; i < LIMN_SOLVER_SCRATCH; i++) limn_mem_free(s->scratch[i]);
    limn_mem_free(s);
    *solver = NULL;
}

int limn_solver_steps(const limn_solver *s) {
    return s->steps;
}

double limn_solver_sigma(const limn_solver *s, int i) {
    return i < s->steps ? s->from[i] : s->to[s->steps - 1];
}

const float *limn_solver_denoised(const limn_solver *s) {
    return s->last;
}

limn_status limn_solver_step(limn_solver *s, float *x, int step, limn_err *err) {
    if (step != s->next || step >= s->steps)
        return limn_fail(err, LIMN_E_INTERNAL, "step %d of %d was asked for, not %d", step,
                         s->steps, s->next);
    limn_status st = s->row->ops->step(s, x, step, err);
    if (st != LIMN_OK) return st;
    for (int64_t i = 0; i < s->n; i++)
        if (!isfinite(x[i]))
            return limn_fail(err, LIMN_E_NUMERIC, "%s gave NaN or infinity at step %d of %d",
                             s->row->label, step + 1, s->steps);
    s->next++;
    return LIMN_OK;
}

/* ---- shared by the solvers ---- */

void limn_solver_mix(float *out, int64_t n, const limn_solver_term *t, int count) {
    limn_solver_term used[8];
    int terms = 0;
    for (int j = 0; j < count; j++)
        if (t[j].k != 0) used[terms++] = t[j];
    for (int64_t i = 0; i < n; i++) {
        double sum = 0;
        for (int j = 0; j < terms; j++) sum += used[j].k * (double)used[j].v[i];
        out[i] = (float)sum;
    }
}

limn_status limn_solver_eval(limn_solver *s, float *out, const float *x, double sigma, int i,
                             int stage, limn_err *err) {
    double within = (double)stage / s->row->evaluations;
    limn_denoise_at at = {.sigma = sigma,
                          .step = i,
                          .steps = s->steps,
                          .stage = stage,
                          .part = (i + fmin(within, 0.999)) / s->steps};
    limn_status st = s->denoise(s->denoise_user, out, x, s->n, &at, err);
    if (st == LIMN_OK) s->last = out;
    return st;
}

limn_status limn_solver_draw(limn_solver *s, double sigma, double sigma_next, limn_err *err) {
    limn_noise_at at = {.sigma = sigma,
                        .sigma_next = sigma_next,
                        .brownian = (s->row->flags & LIMN_SOLVER_BROWNIAN) != 0};
    if (!s->noise_fn)
        return limn_fail(err, LIMN_E_VALUE, "%s draws noise, but no noise source was given",
                         s->row->label);
    return s->noise_fn(s->noise_user, s->noise, s->n, &at, err);
}

float *limn_solver_push(limn_solver *s) {
    int most = s->row->ops->history;
    float *slot = s->history[most - 1];
    for (int i = most - 1; i > 0; i--) s->history[i] = s->history[i - 1];
    s->history[0] = slot;
    if (s->known < most) s->known++;
    return slot;
}

void limn_solver_remember(limn_solver *s) {
    memcpy(limn_solver_push(s), s->x0, (size_t)s->n * sizeof(float));
}

void limn_solver_finish(const limn_solver *s, float *x) {
    memcpy(x, s->x0, (size_t)s->n * sizeof(float));
}

double limn_solver_k(const limn_solver *s, double sigma) {
    return sigma / limn_noising_alpha(s->noising, sigma);
}

int limn_solver_usable(const limn_solver *s, int i, int most) {
    int n = 0;
    while (n < most && n < s->known && isfinite(limn_solver_k(s, s->from[i - n - 1]))) n++;
    return n;
}

limn_solver_span limn_solver_span_get(const limn_noising *m, double from, double to) {
    limn_solver_span p = {.alpha_from = limn_noising_alpha(m, from),
                          .alpha_to = limn_noising_alpha(m, to),
                          .keep = to / from};
    p.h = limn_noising_lambda(m, to) - limn_noising_lambda(m, from);
    p.pull = -expm1(-p.h) * p.alpha_to;
    return p;
}

limn_solver_split limn_solver_split_k(double from, double to, double eta) {
    limn_solver_split p = {.down = to, .keep = 1};
    if (eta == 0) return p;
    p.up = fmin(to, eta * to * sqrt(1 - (to / from) * (to / from)));
    p.down = sqrt(to * to - p.up * p.up);
    return p;
}

limn_solver_split limn_solver_split_get(const limn_noising *m, double from, double to, double eta) {
    if (m->kind != LIMN_NOISING_FLOW) return limn_solver_split_k(from, to, eta);
    limn_solver_split p = {.down = to, .keep = 1};
    if (eta == 0 || to == 0) return p;
    p.down = fmax(to * (1 + (to / from - 1) * eta), 0);
    p.keep = (1 - to) / (1 - p.down);
    p.up = sqrt(fmax(to * to - p.down * p.down * p.keep * p.keep, 0));
    return p;
}

limn_solver_split limn_solver_climb(const limn_noising *m, double low, double high) {
    limn_solver_split p = {.down = low};
    p.keep = limn_noising_alpha(m, high) / limn_noising_alpha(m, low);
    p.up = sqrt(fmax(high * high - p.keep * p.keep * low * low, 0));
    return p;
}
