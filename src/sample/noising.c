/* SPDX-License-Identifier: MIT */
/* Noise levels of training and preconditioning; see noising.h for sources and forms. */
#include "sample/noising.h"

#include <math.h>
#include <string.h>

#include "sample/names.h"

enum { LAST = LIMN_TRAIN_STEPS - 1 };

/* ---- names ---- */

static const char *const prediction_rows[LIMN_PREDICT_COUNT][2] = {
    [LIMN_PREDICT_EPS] = {"epsilon", "eps|noise"},
    [LIMN_PREDICT_V] = {"v_prediction", "v|velocity_vp"},
    [LIMN_PREDICT_X0] = {"sample", "x0"},
    [LIMN_PREDICT_EDM] = {"edm", NULL},
    [LIMN_PREDICT_FLOW] = {"flow", "flow_prediction|rectified_flow|const"},
};

static limn_name_row prediction_row(int i) {
    return (limn_name_row){prediction_rows[i][0], NULL, prediction_rows[i][1]};
}

limn_status limn_prediction_parse(limn_prediction *out, const char *name, limn_err *err) {
    int at = limn_name_find(name, LIMN_PREDICT_COUNT, prediction_row);
    if (at < 0)
        return limn_name_fail(err, "prediction type", name, LIMN_PREDICT_COUNT, prediction_row);
    *out = (limn_prediction)at;
    return LIMN_OK;
}

const char *limn_prediction_name(limn_prediction p) {
    return prediction_rows[p][0];
}

/* ---- tables ---- */

static double beta_at(const limn_noising_args *a, double b0, double b1, int i) {
    double part = (double)i / LAST;
    if (a->betas == LIMN_BETAS_LINEAR) return b0 + (b1 - b0) * part;
    if (a->betas == LIMN_BETAS_SCALED_LINEAR) {
        double root = sqrt(b0) + (sqrt(b1) - sqrt(b0)) * part;
        return root * root;
    }
    /* squaredcos_cap_v2: signal cos^2, steps capped at 0.999 */
    double now = cos(((double)i / LIMN_TRAIN_STEPS + 0.008) / 1.008 * M_PI / 2);
    double next = cos(((double)(i + 1) / LIMN_TRAIN_STEPS + 0.008) / 1.008 * M_PI / 2);
    return fmin(1 - next * next / (now * now), 0.999);
}

/* Lin et al. 2023 (arXiv 2305.08891), algorithm 1: shift and scale sqrt(signal) so that it ends at
 * 0; the end is kept at 2^-24 so that sigma stays finite (diffusers EulerDiscreteScheduler). */
static void zero_terminal_snr(double *signal) {
    double first = sqrt(signal[0]), last = sqrt(signal[LAST]);
    for (int i = 0; i < LIMN_TRAIN_STEPS; i++) {
        double root = (sqrt(signal[i]) - last) * first / (first - last);
        signal[i] = root * root;
    }
    signal[LAST] = 0x1p-24;
}

static void discrete_table(limn_noising *m, const limn_noising_args *a, double b0, double b1) {
    double signal[LIMN_TRAIN_STEPS], product = 1;
    for (int i = 0; i < LIMN_TRAIN_STEPS; i++) {
        product *= 1 - beta_at(a, b0, b1, i);
        signal[i] = product;
    }
    if (a->zero_terminal_snr) zero_terminal_snr(signal);
    for (int i = 0; i < LIMN_TRAIN_STEPS; i++) m->sigma[i] = sqrt((1 - signal[i]) / signal[i]);
}

static bool in_range(double v, double low, double high) {
    return v >= low && v <= high; /* false for NaN */
}

static limn_status discrete_init(limn_noising *m, const limn_noising_args *a, limn_err *err) {
    double b0 = a->beta_start == 0 ? 0.00085 : a->beta_start;
    double b1 = a->beta_end == 0 ? 0.012 : a->beta_end;
    if (!in_range(b0, 1e-8, 0.5) || !in_range(b1, b0, 0.5))
        return limn_fail(err, LIMN_E_VALUE, "betas go up from 1e-8 to 0.5 at most; %g to %g do not",
                         b0, b1);
    if (m->prediction > LIMN_PREDICT_X0)
        return limn_fail(err, LIMN_E_VALUE,
                         "a model with betas predicts epsilon, v_prediction or sample, not %s",
                         limn_prediction_name(m->prediction));
    discrete_table(m, a, b0, b1);
    return LIMN_OK;
}

static limn_status edm_init(limn_noising *m, const limn_noising_args *a, limn_err *err) {
    double low = a->sigma_min == 0 ? 0.002 : a->sigma_min;
    double high = a->sigma_max == 0 ? 80 : a->sigma_max;
    if (a->sigma_data != 0) m->sigma_data = a->sigma_data;
    if (!in_range(low, 1e-6, 1e4) || !in_range(high, 1e-6, 1e4) || low >= high)
        return limn_fail(err, LIMN_E_VALUE, "sigmas go up from 1e-6 to 1e4; %g to %g do not", low,
                         high);
    if (!in_range(m->sigma_data, 1e-3, 1e3))
        return limn_fail(err, LIMN_E_VALUE, "sigma_data is 0.001 to 1000, not %g", m->sigma_data);
    if (m->prediction == LIMN_PREDICT_FLOW || m->prediction == LIMN_PREDICT_X0)
        return limn_fail(err, LIMN_E_VALUE,
                         "an EDM model predicts edm, v_prediction or epsilon, not %s",
                         limn_prediction_name(m->prediction));
    for (int i = 0; i < LIMN_TRAIN_STEPS; i++)
        m->sigma[i] = exp(log(low) + (log(high) - log(low)) * i / LAST);
    return LIMN_OK;
}

static limn_status flow_init(limn_noising *m, const limn_noising_args *a, limn_err *err) {
    m->shift = a->shift == 0 ? 1 : a->shift;
    m->timestep_scale = a->timestep_scale == 0 ? 1000 : a->timestep_scale;
    if (!in_range(m->shift, 0.01, 1000))
        return limn_fail(err, LIMN_E_VALUE, "the shift of a flow is 0.01 to 1000, not %g",
                         m->shift);
    if (!in_range(m->timestep_scale, 1e-3, 1e6))
        return limn_fail(err, LIMN_E_VALUE, "the timestep scale is 0.001 to 1e6, not %g",
                         m->timestep_scale);
    if (m->prediction != LIMN_PREDICT_FLOW && m->prediction != LIMN_PREDICT_X0)
        return limn_fail(err, LIMN_E_VALUE, "a flow model predicts flow or sample, not %s",
                         limn_prediction_name(m->prediction));
    for (int i = 0; i < LIMN_TRAIN_STEPS; i++) {
        double t = (double)(i + 1) / LIMN_TRAIN_STEPS;
        m->sigma[i] = m->shift * t / (1 + (m->shift - 1) * t);
    }
    return LIMN_OK;
}

limn_status limn_noising_init(limn_noising *out, const limn_noising_args *a, limn_err *err) {
    limn_status st;
    memset(out, 0, sizeof *out);
    out->kind = a->kind;
    out->prediction = a->prediction;
    out->sigma_data = a->kind == LIMN_NOISING_EDM ? 0.5 : 1.0;
    out->shift = 1;
    out->timestep_scale = 1000;
    out->boundary_scale = a->boundary_scale;
    out->whole_timesteps = a->whole_timesteps && a->kind == LIMN_NOISING_DISCRETE;
    if ((unsigned)a->prediction >= LIMN_PREDICT_COUNT)
        return limn_fail(err, LIMN_E_VALUE, "unknown prediction type");
    if (!in_range(a->boundary_scale, 0, 1e6))
        return limn_fail(err, LIMN_E_VALUE, "the boundary scale is 0 to 1e6, not %g",
                         a->boundary_scale);
    switch (a->kind) {
    case LIMN_NOISING_DISCRETE: st = discrete_init(out, a, err); break;
    case LIMN_NOISING_EDM: st = edm_init(out, a, err); break;
    case LIMN_NOISING_FLOW: st = flow_init(out, a, err); break;
    default: st = limn_fail(err, LIMN_E_VALUE, "unknown kind of noising"); break;
    }
    for (int i = 0; st == LIMN_OK && i < LIMN_TRAIN_STEPS; i++)
        out->log_sigma[i] = log(out->sigma[i]);
    return st;
}

double limn_flow_shift_of_mu(double mu) {
    return exp(mu);
}

double limn_flow_mu(int64_t tokens) {
    double slope = (1.15 - 0.5) / (4096 - 256);
    return 0.5 + slope * (double)(tokens - 256);
}

/* ---- maps ---- */

double limn_noising_sigma_min(const limn_noising *m) {
    return m->sigma[0];
}

double limn_noising_sigma_max(const limn_noising *m) {
    return m->sigma[LAST];
}

/* k-diffusion DiscreteSchedule.sigma_to_t: linear in log sigma between neighbours, clamped. */
static double table_timestep(const limn_noising *m, double sigma) {
    double v = log(sigma);
    int low = 0, high = LAST;
    while (high - low > 1) {
        int mid = (low + high) / 2;
        if (v >= m->log_sigma[mid])
            low = mid;
        else
            high = mid;
    }
    double part = (v - m->log_sigma[low]) / (m->log_sigma[high] - m->log_sigma[low]);
    return low + fmin(fmax(part, 0), 1);
}

double limn_noising_timestep(const limn_noising *m, double sigma) {
    if (m->kind == LIMN_NOISING_EDM) return 0.25 * log(sigma);
    if (m->kind == LIMN_NOISING_FLOW) return m->timestep_scale * sigma;
    return sigma > 0 ? table_timestep(m, sigma) : 0;
}

double limn_noising_sigma(const limn_noising *m, double timestep) {
    if (m->kind == LIMN_NOISING_EDM) return exp(4 * timestep);
    if (m->kind == LIMN_NOISING_FLOW) return timestep / m->timestep_scale;
    double t = fmin(fmax(timestep, 0), LAST);
    int low = (int)floor(t), high = (int)ceil(t);
    if (low == high) return m->sigma[low];
    double part = t - low;
    return exp((1 - part) * m->log_sigma[low] + part * m->log_sigma[high]);
}

double limn_noising_alpha(const limn_noising *m, double sigma) {
    return m->kind == LIMN_NOISING_FLOW ? 1 - sigma : 1;
}

double limn_noising_lambda(const limn_noising *m, double sigma) {
    return log(limn_noising_alpha(m, sigma)) - log(sigma);
}

double limn_noising_sigma_of_lambda(const limn_noising *m, double lambda) {
    return m->kind == LIMN_NOISING_FLOW ? 1 / (1 + exp(lambda)) : exp(-lambda);
}

double limn_noising_initial_scale(const limn_noising *m, double sigma, bool whole_signal) {
    if (m->kind == LIMN_NOISING_FLOW || !whole_signal) return sigma;
    return sqrt(m->sigma_data * m->sigma_data + sigma * sigma);
}

limn_precond limn_precond_get(const limn_noising *m, double sigma) {
    double d = m->sigma_data, total = sigma * sigma + d * d, root = sqrt(total);
    limn_precond p = {.in = 1 / root, .timestep = limn_noising_timestep(m, sigma)};
    if (m->kind == LIMN_NOISING_FLOW) p.in = 1;
    if (m->whole_timesteps) p.timestep = nearbyint(p.timestep);
    switch (m->prediction) {
    case LIMN_PREDICT_EPS:
    case LIMN_PREDICT_FLOW:
        p.skip = 1;
        p.out = -sigma;
        break;
    case LIMN_PREDICT_V:
        p.skip = d * d / total;
        p.out = -sigma * d / root;
        break;
    case LIMN_PREDICT_EDM:
        p.skip = d * d / total;
        p.out = sigma * d / root;
        break;
    default:
        p.skip = 0;
        p.out = 1;
        break;
    }
    if (m->boundary_scale > 0) {
        /* diffusers LCMScheduler: x0 <- b_out x0 + b_skip x_vp, sigma_data 0.5 */
        double t = p.timestep * m->boundary_scale, b = t * t + 0.25;
        double b_skip = 0.25 / b, b_out = t / sqrt(b);
        p.skip = b_out * p.skip + b_skip * p.in;
        p.out *= b_out;
    }
    return p;
}
