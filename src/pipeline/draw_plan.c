/* SPDX-License-Identifier: MIT */
/* Resolving a request; see draw_plan.h. */
#include "pipeline/draw_plan.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "pipeline/advice.h"
#include "pipeline/upscale_stage.h"

/* SEED_MAX of the parameter table: seeds stay exact in every JSON reader. */
static const uint64_t seed_mask = ((uint64_t)1 << 32) - 1;

static uint64_t random_seed(void) {
    uint64_t s = 0;
    if (getrandom(&s, sizeof s, 0) != (ssize_t)sizeof s) s = (uint64_t)limn_clock_unix_ms();
    return s & seed_mask;
}

/* A sampler name may carry its schedule ("DPM++ 2M Karras"); the schedule parameter wins. */
static limn_status pass_names(limn_pass *pass, const char *option, const char *sampler,
                              const char *schedule, limn_err *err) {
    pass->schedule = NULL;
    limn_status st = limn_sampler_parse(&pass->solver, &pass->schedule, sampler, err);
    if (st != LIMN_OK) limn_err_prefix(err, "%s", option);
    if (st != LIMN_OK || schedule[0] == 0 || strcmp(schedule, "automatic") == 0) return st;
    st = limn_schedule_find(&pass->schedule, schedule, err);
    if (st != LIMN_OK) limn_err_prefix(err, "--schedule");
    return st;
}

limn_status limn_draw_names_check(const limn_gen *gen, limn_err *err) {
    limn_pass pass = {0};
    limn_status st = pass_names(&pass, "--sampler", gen->sampler, gen->schedule, err);
    if (st == LIMN_OK && gen->hires_sampler[0])
        st = pass_names(&pass, "--hires-sampler", gen->hires_sampler, gen->schedule, err);
    if (st != LIMN_OK) return st;
    if (gen->mask[0] && !gen->init_image[0])
        return limn_fail(err, LIMN_E_VALUE, "--mask needs a picture to work on: give --init FILE");
    if (gen->guidance_start > gen->guidance_end)
        return limn_fail(err, LIMN_E_VALUE, "guidance starts at %g, after its end at %g",
                         gen->guidance_start, gen->guidance_end);
    return LIMN_OK;
}

static limn_status set_int(limn_params *p, const char *name, int64_t v, limn_err *err) {
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)v);
    return limn_params_set(p, name, text, LIMN_FROM_MODEL, err);
}

/* Size: asked for, else that of the other side, else what the model was trained at. */
static limn_status plan_size(limn_draw_plan *plan, const limn_checkpoint *ckpt, limn_err *err) {
    limn_gen *g = limn_gen_edit(plan->params);
    limn_status st = LIMN_OK;
    if (!limn_gen_has(g, "width")) LIMN_TRY(set_int(plan->params, "width", ckpt->native_size, err));
    if (!limn_gen_has(g, "height"))
        LIMN_TRY(set_int(plan->params, "height", ckpt->native_size, err));
    LIMN_CHECK(err, g->width % ckpt->latent_scale == 0 && g->height % ckpt->latent_scale == 0,
               LIMN_E_VALUE, "%lldx%lld: this model needs sides that are multiples of %d",
               (long long)g->width, (long long)g->height, ckpt->latent_scale);
    plan->first.width = g->width;
    plan->first.height = g->height;
out:
    return st;
}

static int64_t round_to(double v, int64_t multiple) {
    int64_t n = (int64_t)(v / (double)multiple + 0.5) * multiple;
    return n < multiple ? multiple : n;
}

static void plan_hires(limn_draw_plan *plan, const limn_gen *g, const limn_checkpoint *ckpt) {
    limn_pass *h = &plan->hires;
    *h = plan->first;
    int64_t unit = ckpt->latent_scale;
    double scale = g->hires_scale;
    bool has_w = limn_gen_has(g, "hires_width"), has_h = limn_gen_has(g, "hires_height");
    if (has_w && !has_h) scale = (double)g->hires_width / (double)g->width;
    if (has_h && !has_w) scale = (double)g->hires_height / (double)g->height;
    h->width =
        has_w ? round_to((double)g->hires_width, unit) : round_to((double)g->width * scale, unit);
    h->height =
        has_h ? round_to((double)g->hires_height, unit) : round_to((double)g->height * scale, unit);
    h->steps = limn_gen_has(g, "hires_steps") ? (int)g->hires_steps : plan->first.steps;
    h->strength = g->hires_strength;
    if (limn_gen_has(g, "hires_cfg_scale")) h->cfg_scale = g->hires_cfg_scale;
}

static limn_status plan_seeds(limn_draw_plan *plan, limn_err *err) {
    const limn_gen *g = limn_gen_of(plan->params);
    limn_status st = LIMN_OK;
    if (!limn_gen_has(g, "seed"))
        LIMN_TRY(set_int(plan->params, "seed", (int64_t)random_seed(), err));
    if (g->variation_strength > 0 && !limn_gen_has(g, "variation_seed"))
        LIMN_TRY(set_int(plan->params, "variation_seed", (int64_t)random_seed(), err));
    plan->seed = (uint64_t)g->seed;
    plan->variation_seed = (uint64_t)g->variation_seed;
out:
    return st;
}

static limn_status plan_guidance(limn_draw_plan *plan, const limn_gen *g,
                                 const limn_checkpoint *ckpt, limn_err *err) {
    bool edit = ckpt->unet_cfg.in_channels == 8;
    plan->guidance = limn_guider_defaults();
    plan->guidance.scale = plan->first.cfg_scale;
    plan->guidance.rescale = g->cfg_rescale;
    plan->guidance.first = g->guidance_start;
    plan->guidance.last = g->guidance_end;
    plan->guidance.image_scale = g->image_cfg_scale;
    limn_status st = limn_guider_find(&plan->guider, edit ? "ip2p" : "cfg", err);
    return st == LIMN_OK ? limn_guider_options_check(&plan->guidance, err) : st;
}

/* Defaults that depend on what is installed; a recipe names what was used. */
static limn_status plan_defaults(limn_params *p, limn_err *err) {
    const limn_gen *g = limn_gen_of(p);
    limn_status st = LIMN_OK;
    if (!g->model[0]) LIMN_TRY(limn_params_set(p, "model", "mini-draw", LIMN_FROM_MODEL, err));
    if (g->upscale > 1 && !limn_gen_has(g, "upscaler"))
        LIMN_TRY(limn_params_set(p, "upscaler", limn_upscaler_default(), LIMN_FROM_MODEL, err));
out:
    return st;
}

limn_status limn_draw_plan_make(limn_draw_plan *out, const limn_gen *gen,
                                const limn_checkpoint *ckpt, limn_err *err) {
    limn_status st = LIMN_OK;
    *out = (limn_draw_plan){0};
    LIMN_TRY(limn_draw_names_check(gen, err));
    LIMN_TRY(limn_params_copy(&out->params, &gen->head, err));
    limn_gen *g = limn_gen_edit(out->params);
    LIMN_TRY(limn_advice_apply(out->params, ckpt, err));
    LIMN_TRY(plan_defaults(out->params, err));
    LIMN_TRY(plan_size(out, ckpt, err));
    LIMN_TRY(plan_seeds(out, err));
    LIMN_TRY(pass_names(&out->first, "--sampler", g->sampler, g->schedule, err));
    out->has_init = g->init_image[0] != 0;
    out->has_mask = g->mask[0] != 0;
    out->first.steps = (int)g->steps;
    out->first.strength = out->has_init ? g->strength : 1.0;
    out->first.cfg_scale = g->cfg_scale;
    out->wants_hires = limn_gen_wants_hires(g) && !out->has_init;
    plan_hires(out, g, ckpt);
    if (g->hires_sampler[0])
        LIMN_TRY(pass_names(&out->hires, "--hires-sampler", g->hires_sampler, g->schedule, err));
    out->images = (int)g->batch_size;
    out->batches = (int)g->count;
    LIMN_CHECK(err, ckpt->unet_cfg.in_channels == ckpt->unet_cfg.out_channels || out->has_init,
               LIMN_E_VALUE, "%s works on a picture: give --init FILE%s", ckpt->path,
               ckpt->unet_cfg.in_channels == 9 ? " and --mask FILE" : "");
    LIMN_TRY(plan_guidance(out, g, ckpt, err));
out:
    if (st != LIMN_OK) limn_draw_plan_deinit(out);
    return st;
}

void limn_draw_plan_deinit(limn_draw_plan *plan) {
    limn_params_free(&plan->params);
}

limn_solver_options limn_pass_solver_options(const limn_gen *g, const limn_solver_row *row) {
    limn_solver_options o = limn_solver_defaults(row);
    if (limn_gen_has(g, "eta")) o.eta = g->eta;
    if (limn_gen_has(g, "s_churn")) o.s_churn = g->s_churn;
    if (limn_gen_has(g, "s_tmin")) o.s_tmin = g->s_tmin;
    if (limn_gen_has(g, "s_tmax")) o.s_tmax = g->s_tmax;
    if (limn_gen_has(g, "s_noise")) o.s_noise = g->s_noise;
    if (limn_gen_has(g, "solver_order")) o.order = (int)g->solver_order;
    return o;
}

limn_schedule_options limn_pass_schedule_options(const limn_gen *g, const limn_checkpoint *ckpt) {
    limn_schedule_options o = {.sdxl = strncmp(ckpt->family, "sdxl", 4) == 0};
    if (limn_gen_has(g, "sigma_min")) o.sigma_min = g->sigma_min;
    if (limn_gen_has(g, "sigma_max")) o.sigma_max = g->sigma_max;
    if (limn_gen_has(g, "rho")) o.rho = g->rho;
    return o;
}

double limn_pass_step_work(const limn_pass *pass, int64_t scale) {
    return (double)(pass->width / scale * (pass->height / scale)) * pass->solver->evaluations *
           (pass->cfg_scale != 1 ? 2 : 1);
}

static double pass_work(const limn_pass *pass, int64_t scale) {
    double steps = pass->steps * (pass->strength < 1 ? pass->strength : 1);
    return steps * limn_pass_step_work(pass, scale);
}

double limn_draw_plan_work(const limn_draw_plan *plan, int64_t scale) {
    double work = pass_work(&plan->first, scale);
    if (plan->wants_hires) work += pass_work(&plan->hires, scale);
    return work * plan->images * plan->batches;
}

double limn_draw_plan_pixels(const limn_draw_plan *plan) {
    const limn_pass *last = plan->wants_hires ? &plan->hires : &plan->first;
    return (double)(last->width * last->height) * plan->images * plan->batches;
}
