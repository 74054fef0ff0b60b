/* SPDX-License-Identifier: MIT */
/*
 * The guider table and the denoiser that joins network, noising and guider; see guider.h.
 * Formulas: CFG (Ho & Salimans 2022); rescale (arXiv 2305.08891 section 3.4, diffusers
 * rescale_noise_cfg); InstructPix2Pix (arXiv 2211.09800 eq. 3); CFG-Zero* (arXiv 2503.18886);
 * interval (arXiv 2404.07724).
 */
#include "sample/guider.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "base/mem.h"
#include "sample/names.h"

/* ---- combinations ---- */

/* Standard deviation over one image, with n - 1 as torch.std. */
static double deviation(const float *v, int64_t n) {
    double sum = 0, square = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)v[i];
    double mean = sum / (double)n;
    for (int64_t i = 0; i < n; i++) square += ((double)v[i] - mean) * ((double)v[i] - mean);
    return n > 1 ? sqrt(square / (double)(n - 1)) : 0;
}

/* outs[0] = negative + scale (positive - negative), then pulled towards the spread of positive. */
static void combine_cfg(float *const *outs, int count, int images, int64_t each,
                        const limn_guider_options *o, const limn_predict_at *at) {
    float scale = (float)o->scale;
    if (count < 2) return;
    for (int k = 0; k < images; k++) {
        float *p = outs[0] + k * each;
        const float *q = outs[1] + k * each;
        double before = o->rescale > 0 ? deviation(p, each) : 0;
        for (int64_t i = 0; i < each; i++) p[i] = q[i] + scale * (p[i] - q[i]);
        double after = o->rescale > 0 ? deviation(p, each) : 0;
        if (!(after > 0)) continue;
        float gain = (float)(o->rescale * before / after + (1 - o->rescale));
        for (int64_t i = 0; i < each; i++) p[i] *= gain;
    }
}

/* Three answers: text and picture, picture alone, neither. */
static void combine_ip2p(float *const *outs, int count, int images, int64_t each,
                         const limn_guider_options *o, const limn_predict_at *at) {
    float text = (float)o->scale, picture = (float)o->image_scale;
    if (count < 3) return;
    float *full = outs[0];
    const float *image = outs[1], *none = outs[2];
    for (int64_t i = 0; i < images * each; i++)
        full[i] = none[i] + text * (full[i] - image[i]) + picture * (image[i] - none[i]);
}

/* The negative answer is first scaled to its best fit to the positive one, per image. */
static void combine_zero(float *const *outs, int count, int images, int64_t each,
                         const limn_guider_options *o, const limn_predict_at *at) {
    if (count < 2) return;
    for (int k = 0; k < images; k++) {
        float *p = outs[0] + k * each;
        const float *q = outs[1] + k * each;
        double pq = 0, qq = 0;
        for (int64_t i = 0; i < each; i++) {
            pq += (double)p[i] * (double)q[i];
            qq += (double)q[i] * (double)q[i];
        }
        double fit = qq > 0 ? pq / qq : 1;
        bool silent = at->at && at->at->step < o->zero_steps;
        for (int64_t i = 0; i < each; i++) {
            double base = fit * (double)q[i];
            p[i] = silent ? 0 : (float)(base + o->scale * ((double)p[i] - base));
        }
    }
}

static int conds_cfg(limn_cond *out, const limn_guider_options *o) {
    out[0] = LIMN_COND_POSITIVE;
    if (o->scale == 1) return 1;
    out[1] = LIMN_COND_NEGATIVE;
    return 2;
}

static int conds_ip2p(limn_cond *out, const limn_guider_options *o) {
    out[0] = LIMN_COND_POSITIVE;
    if (o->scale == 1 && o->image_scale == 1) return 1;
    out[1] = LIMN_COND_IMAGE;
    out[2] = LIMN_COND_NEGATIVE;
    return 3;
}

static int conds_zero(limn_cond *out, const limn_guider_options *o) {
    out[0] = LIMN_COND_POSITIVE;
    if (o->scale == 1 && o->zero_steps == 0) return 1;
    out[1] = LIMN_COND_NEGATIVE;
    return 2;
}

static int conds_none(limn_cond *out, const limn_guider_options *o) {
    out[0] = LIMN_COND_POSITIVE;
    return 1;
}

static void combine_none(float *const *outs, int count, int images, int64_t each,
                         const limn_guider_options *o, const limn_predict_at *at) {}

/* ---- table ---- */

const limn_guider limn_guiders[] = {
    {"cfg", "Classifier-free guidance", "classifier_free", "positive against negative prompt",
     conds_cfg, combine_cfg},
    {"ip2p", "Edit guidance", "instruct_pix2pix|instructpix2pix|edit",
     "prompt and source picture weighted apart", conds_ip2p, combine_ip2p},
    {"cfg_zero", "CFG-Zero*", "cfg_zero_star", "guidance with a fitted negative, for flow models",
     conds_zero, combine_zero},
    {"none", "No guidance", "off", "the positive prompt alone", conds_none, combine_none},
};
const int limn_guider_count = (int)(sizeof limn_guiders / sizeof limn_guiders[0]);

static limn_name_row guider_row(int i) {
    const limn_guider *g = &limn_guiders[i];
    return (limn_name_row){g->name, g->label, g->aliases};
}

limn_status limn_guider_find(const limn_guider **out, const char *name, limn_err *err) {
    int at = limn_name_find(name, limn_guider_count, guider_row);
    if (at < 0) return limn_name_fail(err, "guider", name, limn_guider_count, guider_row);
    *out = &limn_guiders[at];
    return LIMN_OK;
}

limn_guider_options limn_guider_defaults(void) {
    return (limn_guider_options){.scale = 7, .image_scale = 1.5, .last = 1, .sigma_high = INFINITY};
}

limn_status limn_guider_options_check(const limn_guider_options *o, limn_err *err) {
    const struct {
        const char *name;
        double value, low, high;
    } rows[] = {
        {"cfg scale", o->scale, -1000, 1000},
        {"image cfg scale", o->image_scale, -1000, 1000},
        {"cfg rescale", o->rescale, 0, 1},
        {"start of guidance", o->first, 0, 1},
        {"end of guidance", o->last, 0, 1},
        {"lowest guided sigma", o->sigma_low, 0, INFINITY},
        {"highest guided sigma", o->sigma_high, 0, INFINITY},
        {"silent steps", o->zero_steps, 0, 10000},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (!(rows[i].value >= rows[i].low && rows[i].value <= rows[i].high))
            return limn_fail(err, LIMN_E_VALUE, "%s is %g to %g, not %g", rows[i].name, rows[i].low,
                             rows[i].high, rows[i].value);
    return LIMN_OK;
}

int limn_guider_conds_get(limn_cond *out, const limn_guider *g, const limn_guider_options *o,
                          const limn_predict_at *at) {
    double part = at->at ? (double)at->at->step / at->at->steps : 0;
    bool acts = part >= o->first && (part < o->last || o->last >= 1) && at->sigma >= o->sigma_low &&
                at->sigma <= o->sigma_high;
    return acts ? g->conds(out, o) : conds_none(out, o);
}

/* ---- denoiser ---- */

limn_status limn_denoiser_init(limn_denoiser *d, limn_err *err) {
    size_t count;
    d->scratch = NULL;
    d->evaluations = 0;
    if (d->images < 1 || d->n < 1 || d->n % d->images != 0)
        return limn_fail(err, LIMN_E_VALUE, "%lld values are not %d images", (long long)d->n,
                         d->images);
    limn_status st = limn_guider_options_check(&d->options, err);
    if (st != LIMN_OK) return st;
    if (limn_mul_size(&count, (size_t)d->n, (1 + LIMN_GUIDER_CONDS_MAX) * sizeof(float)))
        d->scratch = limn_mem_aligned(count);
    if (!d->scratch) return limn_fail(err, LIMN_E_NOMEM, "no memory for guidance");
    return LIMN_OK;
}

void limn_denoiser_deinit(limn_denoiser *d) {
    limn_mem_free(d->scratch);
    d->scratch = NULL;
}

limn_status limn_denoiser_run(void *user, float *x0, const float *x, int64_t n,
                              const limn_denoise_at *at, limn_err *err) {
    limn_denoiser *d = user;
    limn_precond p = limn_precond_get(d->noising, at->sigma);
    limn_predict_at where = {.sigma = at->sigma, .timestep = p.timestep, .at = at};
    limn_cond conds[LIMN_GUIDER_CONDS_MAX];
    float *outs[LIMN_GUIDER_CONDS_MAX], *input = d->scratch;
    if (n != d->n)
        return limn_fail(err, LIMN_E_INTERNAL, "a denoiser of %lld values was given %lld",
                         (long long)d->n, (long long)n);
    for (int i = 0; i < LIMN_GUIDER_CONDS_MAX; i++) outs[i] = d->scratch + (i + 1) * n;
    float in = (float)p.in;
    for (int64_t i = 0; i < n; i++) input[i] = in * x[i];
    int count = limn_guider_conds_get(conds, d->guider, &d->options, &where);
    limn_status st = d->predict(d->predict_user, outs, conds, count, input, n, &where, err);
    if (st != LIMN_OK) return st;
    d->evaluations += count;
    if (count > 1) d->guider->combine(outs, count, d->images, n / d->images, &d->options, &where);
    for (int64_t i = 0; i < n; i++)
        x0[i] = (float)(p.skip * (double)x[i] + p.out * (double)outs[0][i]);
    return LIMN_OK;
}
