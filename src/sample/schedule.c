/* SPDX-License-Identifier: MIT */
/*
 * The schedule table and its builders; see schedule.h. Formulas: k_diffusion/sampling.py (Karras,
 * exponential, polyexponential), A1111 modules/sd_schedulers.py, ComfyUI comfy/samplers.py
 * (simple, sgm_uniform, ddim_uniform, beta, linear_quadratic), diffusers set_timesteps (leading,
 * trailing, LCM), Align Your Steps (arXiv 2404.14507), KL-optimal (arXiv 2404.14507, eq. 7).
 */
#include "sample/schedule.h"

#include <math.h>
#include <stddef.h>

#include "sample/names.h"

enum { TABLE = LIMN_TRAIN_STEPS };

/* i-th of n points from a to b, both included; a alone when n is 1. */
static double linspace(double a, double b, int n, int i) {
    return n == 1 ? a : a + (b - a) * i / (n - 1);
}

/* Sigma at a fractional table index. Flow models have a formula instead of a table. */
static double at_index(const limn_noising *m, double index) {
    if (m->kind == LIMN_NOISING_DISCRETE) return limn_noising_sigma(m, index);
    double t = fmin(fmax(index, 0), TABLE - 1);
    int low = (int)floor(t), high = (int)ceil(t);
    if (low == high) return m->sigma[low];
    double part = t - low;
    return exp((1 - part) * m->log_sigma[low] + part * m->log_sigma[high]);
}

static double flow_shift(const limn_noising *m, double t) {
    return m->shift * t / (1 + (m->shift - 1) * t);
}

static bool is_flow(const limn_noising *m) {
    return m->kind == LIMN_NOISING_FLOW;
}

/* ---- evenly spaced timesteps ---- */

/* `points` evenly spaced timesteps from the noisiest to the cleanest, of which n are kept. For flow
 * models the ends are sigmas taken as timesteps, so the shift acts twice on the last (ComfyUI). */
static int even_steps(double *out, int n, int points, const limn_noising *m) {
    double high = limn_noising_sigma_max(m), low = limn_noising_sigma_min(m);
    for (int i = 0; i < n; i++)
        out[i] = is_flow(m) ? flow_shift(m, linspace(high, low, points, i))
                            : at_index(m, linspace(TABLE - 1, 0, points, i));
    return n;
}

static int build_uniform(double *out, int n, const limn_noising *m,
                         const limn_schedule_options *o) {
    return even_steps(out, n, n, m);
}

static int build_sgm_uniform(double *out, int n, const limn_noising *m,
                             const limn_schedule_options *o) {
    return even_steps(out, n, n + 1, m);
}

static int build_simple(double *out, int n, const limn_noising *m, const limn_schedule_options *o) {
    for (int i = 0; i < n; i++) out[i] = m->sigma[TABLE - 1 - (int)((int64_t)i * TABLE / n)];
    return n;
}

/* Every (1000 / n)-th entry from the second on: more than n unless n divides 1000. */
static int build_ddim_uniform(double *out, int n, const limn_noising *m,
                              const limn_schedule_options *o) {
    int stride = n >= TABLE ? 1 : TABLE / n, count = (TABLE - 2) / stride + 1;
    for (int i = 0; i < count; i++) out[i] = m->sigma[1 + (count - 1 - i) * stride];
    return count;
}

/* diffusers timestep_spacing "linspace": as uniform, but linear in sigma between table entries. */
static int build_linspace(double *out, int n, const limn_noising *m,
                          const limn_schedule_options *o) {
    if (is_flow(m)) return even_steps(out, n, n, m);
    for (int i = 0; i < n; i++) {
        double t = linspace(TABLE - 1, 0, n, i), part = t - floor(t);
        out[i] = (1 - part) * m->sigma[(int)floor(t)] + part * m->sigma[(int)ceil(t)];
    }
    return n;
}

/* diffusers timestep_spacing "leading" with steps_offset 1. */
static int build_leading(double *out, int n, const limn_noising *m,
                         const limn_schedule_options *o) {
    int stride = n >= TABLE ? 1 : TABLE / n;
    for (int i = 0; i < n; i++) {
        int index = (n - 1 - i) * stride + 1;
        out[i] = is_flow(m) ? flow_shift(m, fmin(index, TABLE) / TABLE) : at_index(m, index);
    }
    return n;
}

/* The "leading" of diffusers' multistep solvers (DPM-Solver++, UniPC, DEIS): n of n + 1 parts. */
static int build_leading_open(double *out, int n, const limn_noising *m,
                              const limn_schedule_options *o) {
    int stride = n + 1 >= TABLE ? 1 : TABLE / (n + 1);
    for (int i = 0; i < n; i++) {
        int index = (n - i) * stride + 1;
        out[i] = is_flow(m) ? flow_shift(m, fmin(index, TABLE) / TABLE) : at_index(m, index);
    }
    return n;
}

/* diffusers timestep_spacing "trailing"; for flow models 1 .. 1/n, shifted. */
static int build_trailing(double *out, int n, const limn_noising *m,
                          const limn_schedule_options *o) {
    for (int i = 0; i < n; i++) {
        double t = 1 - (double)i / n;
        out[i] = is_flow(m) ? flow_shift(m, t)
                            : at_index(m, nearbyint(TABLE - i * ((double)TABLE / n)) - 1);
    }
    return n;
}

/* diffusers LCM and TCD: n of the 50 timesteps 999, 979, .. 19 of the distillation; more than 50
 * steps are taken from all 1000. */
static int build_lcm(double *out, int n, const limn_noising *m, const limn_schedule_options *o) {
    int origin = n <= 50 ? 50 : TABLE, stride = TABLE / origin;
    for (int i = 0; i < n; i++) {
        int skip = (int)((int64_t)i * origin / n);
        int index = (origin - skip) * stride - 1;
        out[i] = is_flow(m) ? flow_shift(m, (index + 1.0) / TABLE) : at_index(m, index);
    }
    return n;
}

/* ---- spaced in sigma ---- */

static int build_karras(double *out, int n, const limn_noising *m, const limn_schedule_options *o) {
    double low = pow(o->sigma_min, 1 / o->rho), high = pow(o->sigma_max, 1 / o->rho);
    for (int i = 0; i < n; i++) out[i] = pow(high + linspace(0, 1, n, i) * (low - high), o->rho);
    return n;
}

static int build_exponential(double *out, int n, const limn_noising *m,
                             const limn_schedule_options *o) {
    for (int i = 0; i < n; i++) out[i] = exp(linspace(log(o->sigma_max), log(o->sigma_min), n, i));
    return n;
}

static int build_polyexponential(double *out, int n, const limn_noising *m,
                                 const limn_schedule_options *o) {
    double low = log(o->sigma_min), high = log(o->sigma_max);
    for (int i = 0; i < n; i++)
        out[i] = exp(pow(linspace(1, 0, n, i), o->rho) * (high - low) + low);
    return n;
}

static int build_kl_optimal(double *out, int n, const limn_noising *m,
                            const limn_schedule_options *o) {
    double low = atan(o->sigma_min), high = atan(o->sigma_max);
    for (int i = 0; i < n; i++) out[i] = tan(linspace(high, low, n, i));
    return n;
}

/* Mochi: linear up to 0.025 of the way in the first half of the steps, then a parabola. */
static int build_linear_quadratic(double *out, int n, const limn_noising *m,
                                  const limn_schedule_options *o) {
    const double threshold = 0.025;
    int half = n / 2;
    out[0] = o->sigma_max;
    if (n == 1) return 1;
    double rest = n - half, slack = half - threshold * n;
    double quad = slack / (half * rest * rest);
    double lin = threshold / half - 2 * slack / (rest * rest);
    for (int i = 1; i < n; i++) {
        double up = i < half ? i * threshold / half
                             : quad * i * (double)i + lin * i + quad * half * (double)half;
        out[i] = (1 - up) * o->sigma_max;
    }
    return n;
}

/* ---- Align Your Steps ---- */

enum { AYS_POINTS = 11 };
static const double ays_sd1[AYS_POINTS] = {14.615, 6.475, 3.861, 2.697, 1.886, 1.396,
                                           0.963,  0.652, 0.399, 0.152, 0.029};
static const double ays_sdxl[AYS_POINTS] = {14.615, 6.315, 3.771, 2.181, 1.342, 0.862,
                                            0.555,  0.380, 0.234, 0.113, 0.029};

static int build_ays(double *out, int n, const limn_noising *m, const limn_schedule_options *o) {
    const double *points = o->sdxl ? ays_sdxl : ays_sd1;
    for (int i = 0; i < n; i++) {
        double at = linspace(0, AYS_POINTS - 1, n, i);
        int low = (int)at < AYS_POINTS - 1 ? (int)at : AYS_POINTS - 2;
        double part = at - low;
        out[i] = exp((1 - part) * log(points[low]) + part * log(points[low + 1]));
    }
    return n;
}

/* ---- beta ---- */

/* Continued fraction of the incomplete beta function (Lentz); good for x < (a + 1) / (a + b + 2).
 */
static double beta_fraction(double a, double b, double x) {
    const double tiny = 1e-300;
    double c = 1, d = 1 - (a + b) * x / (a + 1);
    d = 1 / (fabs(d) < tiny ? tiny : d);
    double f = d;
    for (int k = 1; k < 500; k++) {
        double even = k * (b - k) * x / ((a + 2 * k - 1) * (a + 2 * k));
        double odd = -(a + k) * (a + b + k) * x / ((a + 2 * k) * (a + 2 * k + 1));
        for (int half = 0; half < 2; half++) {
            double t = half ? odd : even;
            d = 1 + t * d;
            c = 1 + t / c;
            d = 1 / (fabs(d) < tiny ? tiny : d);
            if (fabs(c) < tiny) c = tiny;
            f *= d * c;
        }
        if (fabs(d * c - 1) < 1e-16) break;
    }
    return f;
}

/* Regularised incomplete beta function I_x(a, b). */
static double beta_cdf(double a, double b, double x) {
    if (x <= 0) return 0;
    if (x >= 1) return 1;
    double front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x));
    if (x < (a + 1) / (a + b + 2)) return front * beta_fraction(a, b, x) / a;
    return 1 - front * beta_fraction(b, a, 1 - x) / b;
}

/* Its inverse by halving: slow and certain, called once per step. */
static double beta_ppf(double p, double a, double b) {
    double low = 0, high = 1;
    if (p <= 0) return 0;
    if (p >= 1) return 1;
    for (int i = 0; i < 80; i++) {
        double mid = (low + high) / 2, off = beta_cdf(a, b, mid) - p;
        if (fabs(off) < 1e-14) return mid; /* the middle of a symmetric curve is exact */
        if (off < 0)
            low = mid;
        else
            high = mid;
    }
    return (low + high) / 2;
}

static int build_beta(double *out, int n, const limn_noising *m, const limn_schedule_options *o) {
    for (int i = 0; i < n; i++) {
        double q = beta_ppf(1 - (double)i / n, o->beta_alpha, o->beta_beta);
        out[i] = m->sigma[(int)nearbyint(q * (TABLE - 1))];
    }
    return n;
}

static int build_beta_range(double *out, int n, const limn_noising *m,
                            const limn_schedule_options *o) {
    for (int i = 0; i < n; i++) {
        double q = beta_ppf(1 - linspace(0, 1, n, i), o->beta_alpha, o->beta_beta);
        out[i] = o->sigma_min + q * (o->sigma_max - o->sigma_min);
    }
    return n;
}

/* ---- automatic ---- */

static int build_automatic(double *out, int n, const limn_noising *m,
                           const limn_schedule_options *o) {
    if (m->kind == LIMN_NOISING_FLOW) return build_trailing(out, n, m, o);
    if (m->kind == LIMN_NOISING_EDM) return build_karras(out, n, m, o);
    return build_uniform(out, n, m, o);
}

/* ---- table ---- */

const limn_schedule limn_schedules[] = {
    {"automatic", "Automatic", "auto|default", "what suits solver and model", LIMN_SCHEDULE_ANY,
     build_automatic},
    {"uniform", "Uniform", "normal|discrete", "evenly spaced timesteps 999 .. 0", LIMN_SCHEDULE_ANY,
     build_uniform},
    {"karras", "Karras", "ka", "evenly spaced in sigma^(1/rho), rho 7", LIMN_SCHEDULE_ANY,
     build_karras},
    {"exponential", "Exponential", "exp", "evenly spaced in log sigma", LIMN_SCHEDULE_ANY,
     build_exponential},
    {"polyexponential", "Polyexponential", "poly_exponential|polyexp",
     "a power of even steps in log sigma, rho 1", LIMN_SCHEDULE_ANY, build_polyexponential},
    {"simple", "Simple", NULL, "every (1000 / n)-th trained sigma", LIMN_SCHEDULE_ANY,
     build_simple},
    {"sgm_uniform", "SGM Uniform", "sgm", "evenly spaced timesteps without the last",
     LIMN_SCHEDULE_ANY, build_sgm_uniform},
    {"ddim_uniform", "DDIM Uniform", "ddim", "every (1000 / n)-th trained sigma from below",
     LIMN_SCHEDULE_ANY, build_ddim_uniform},
    {"beta", "Beta", "beta60|betas", "dense at both ends: quantiles of Beta(0.6, 0.6) of timesteps",
     LIMN_SCHEDULE_ANY, build_beta},
    {"beta_range", "Beta (sigma range)", "beta_sigmas", "quantiles of Beta(0.6, 0.6) of sigma",
     LIMN_SCHEDULE_ANY, build_beta_range},
    {"ays", "Align Your Steps", "align_your_steps|ays_sd1|ays_sdxl",
     "optimised for SD 1.x and SDXL, best at 10 steps", LIMN_SCHEDULE_DISCRETE, build_ays},
    {"kl_optimal", "KL Optimal", "kl", "evenly spaced in arctan sigma", LIMN_SCHEDULE_ANY,
     build_kl_optimal},
    {"linear_quadratic", "Linear Quadratic", "linearquad", "small linear steps, then a parabola",
     LIMN_SCHEDULE_ANY, build_linear_quadratic},
    {"trailing", "Trailing", "flowmatch", "timesteps counted from the noisy end", LIMN_SCHEDULE_ANY,
     build_trailing},
    {"leading", "Leading", NULL, "timesteps counted from the clean end (diffusers)",
     LIMN_SCHEDULE_ANY, build_leading},
    {"leading_open", "Leading (multistep)", NULL,
     "the same without the first part (diffusers DPM++, UniPC, DEIS)", LIMN_SCHEDULE_ANY,
     build_leading_open},
    {"linspace", "Linspace", NULL, "evenly spaced timesteps, linear in sigma between (diffusers)",
     LIMN_SCHEDULE_ANY, build_linspace},
    {"lcm", "LCM", "tcd", "timesteps of few-step distillations", LIMN_SCHEDULE_ANY, build_lcm},
};
const int limn_schedule_count = (int)(sizeof limn_schedules / sizeof limn_schedules[0]);

static limn_name_row schedule_row(int i) {
    const limn_schedule *s = &limn_schedules[i];
    return (limn_name_row){s->name, s->label, s->aliases};
}

limn_status limn_schedule_find(const limn_schedule **out, const char *name, limn_err *err) {
    int at = limn_name_find(name, limn_schedule_count, schedule_row);
    if (at < 0) return limn_name_fail(err, "schedule", name, limn_schedule_count, schedule_row);
    *out = &limn_schedules[at];
    return LIMN_OK;
}

/* Fills unset fields and checks the rest. */
static limn_status options_fill(limn_schedule_options *o, const limn_schedule *s,
                                const limn_noising *m, limn_err *err) {
    if (o->sigma_min == 0) o->sigma_min = limn_noising_sigma_min(m);
    if (o->sigma_max == 0) o->sigma_max = limn_noising_sigma_max(m);
    if (o->rho == 0) o->rho = s->build == build_polyexponential ? 1 : 7;
    if (o->beta_alpha == 0) o->beta_alpha = 0.6;
    if (o->beta_beta == 0) o->beta_beta = 0.6;
    double most = is_flow(m) ? 1 : 1e5;
    if (!(o->sigma_min > 0 && o->sigma_min < o->sigma_max && o->sigma_max <= most))
        return limn_fail(err, LIMN_E_VALUE,
                         "sigmas from %g to %g make no schedule; need 0 < min < max <= %g",
                         o->sigma_min, o->sigma_max, most);
    if (!(o->rho >= 0.1 && o->rho <= 100))
        return limn_fail(err, LIMN_E_VALUE, "rho is 0.1 to 100, not %g", o->rho);
    if (!(o->beta_alpha >= 0.01 && o->beta_alpha <= 100 && o->beta_beta >= 0.01 &&
          o->beta_beta <= 100))
        return limn_fail(err, LIMN_E_VALUE,
                         "the parameters of a beta schedule are 0.01 to 100, not %g and %g",
                         o->beta_alpha, o->beta_beta);
    return LIMN_OK;
}

limn_status limn_schedule_build(double *sigmas, int *made, const limn_schedule *schedule, int steps,
                                const limn_noising *m, const limn_schedule_options *options,
                                limn_err *err) {
    limn_schedule_options o = options ? *options : (limn_schedule_options){0};
    *made = 0;
    if (steps < 1 || steps > LIMN_SCHEDULE_MAX)
        return limn_fail(err, LIMN_E_VALUE, "a schedule has 1 to %d steps, not %d",
                         LIMN_SCHEDULE_MAX, steps);
    if (!(schedule->fits & (is_flow(m) ? LIMN_SCHEDULE_FLOW : LIMN_SCHEDULE_DISCRETE)))
        return limn_fail(err, LIMN_E_VALUE, "the schedule \"%s\" does not fit %s models",
                         schedule->name, is_flow(m) ? "flow" : "discrete");
    limn_status st = options_fill(&o, schedule, m, err);
    if (st != LIMN_OK) return st;
    int count = schedule->build(sigmas, steps, m, &o), kept = 0;
    for (int i = 0; i < count; i++)
        if (sigmas[i] > 0 && (kept == 0 || sigmas[i] < sigmas[kept - 1]))
            sigmas[kept++] = sigmas[i];
    if (!(o.final_sigma >= 0 && kept > 0 && o.final_sigma < sigmas[kept - 1]))
        return limn_fail(err, LIMN_E_VALUE, "the final sigma %g is not below the last one, %g",
                         o.final_sigma, kept > 0 ? sigmas[kept - 1] : 0.0);
    sigmas[kept] = o.final_sigma;
    *made = kept;
    return LIMN_OK;
}

limn_status limn_schedule_build_discard(double *sigmas, int *made, const limn_schedule *schedule,
                                        int steps, const limn_noising *m,
                                        const limn_schedule_options *o, limn_err *err) {
    *made = 0;
    if (steps < 1 || steps >= LIMN_SCHEDULE_MAX)
        return limn_fail(err, LIMN_E_VALUE, "a schedule has 1 to %d steps, not %d",
                         LIMN_SCHEDULE_MAX - 1, steps);
    limn_status st = limn_schedule_build(sigmas, made, schedule, steps + 1, m, o, err);
    if (st != LIMN_OK || *made < 2) return st;
    sigmas[*made - 1] = sigmas[*made];
    *made -= 1;
    return LIMN_OK;
}

/* ---- img2img ---- */

limn_status limn_strength_plan_get(limn_strength_plan *out, limn_strength_rule rule, int steps,
                                   double strength, limn_err *err) {
    *out = (limn_strength_plan){0};
    if (steps < 1 || steps > LIMN_STEPS_MAX)
        return limn_fail(err, LIMN_E_VALUE, "steps are 1 to %d, not %d", LIMN_STEPS_MAX, steps);
    if (!(strength >= 0 && strength <= 1))
        return limn_fail(err, LIMN_E_VALUE, "strength is 0 to 1, not %g", strength);
    int part = (int)(steps * strength);
    out->schedule_steps = steps;
    out->run = part;
    if (rule == LIMN_STRENGTH_A1111) out->run = (part < steps - 1 ? part : steps - 1) + 1;
    if (rule == LIMN_STRENGTH_COMFYUI && strength > 0) {
        double all = floor(steps / strength);
        if (all > LIMN_SCHEDULE_MAX - 1)
            return limn_fail(err, LIMN_E_VALUE, "%d steps at strength %g need a schedule of %g",
                             steps, strength, all);
        out->schedule_steps = (int)all;
        out->run = steps;
    }
    return LIMN_OK;
}
