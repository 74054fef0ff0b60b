/* SPDX-License-Identifier: MIT */
/* The denoise loop; see sample_loop.h. */
#include "pipeline/sample_loop.h"

#include "sample/latent_ops.h"

typedef struct loop {
    const limn_sample_args *a;
    limn_predictor *net, *refiner; /* refiner may be NULL */
    limn_denoiser denoiser;
    limn_noise *noise;
    double *sigmas; /* of the steps that run */
    float *sampled; /* [n]: start latents drawn from a->init and its spread; NULL: a->init */
    int steps;
    int64_t n, each; /* values of the batch, of one picture */
    int64_t h, w, c;
    int prepared; /* step that args->prepare was last called for */
} loop;

uint64_t limn_sample_seed(const limn_draw_plan *plan, int i) {
    bool varied = limn_gen_of(plan->params)->variation_strength > 0;
    return plan->seed + (varied ? 0 : (uint64_t)i);
}

uint64_t limn_sample_variation_seed(const limn_draw_plan *plan, int i) {
    return plan->variation_seed + (uint64_t)i;
}

static limn_status make_noise(loop *l, limn_err *err) {
    const limn_sample_args *a = l->a;
    const limn_gen *g = limn_gen_of(a->plan->params);
    uint64_t seeds[64], varied[64];
    for (int i = 0; i < a->plan->images; i++) {
        seeds[i] = limn_sample_seed(a->plan, a->first_image + i) + a->seed_salt;
        varied[i] = limn_sample_variation_seed(a->plan, a->first_image + i) + a->seed_salt;
    }
    limn_noise_config c = {
        .rng = g->rng == LIMN_GEN_RNG_CUDA ? LIMN_RNG_PHILOX : LIMN_RNG_TORCH,
        .images = a->plan->images,
        .channels = l->c,
        .height = l->h,
        .width = l->w,
        .seeds = seeds,
        .variation_seeds = g->variation_strength > 0 ? varied : NULL,
        .variation_strength = g->variation_strength,
        .step_reseed = g->eta_seed_delta != 0,
        .step_rng = g->rng == LIMN_GEN_RNG_CUDA ? LIMN_RNG_PHILOX : LIMN_RNG_TORCH,
        .step_seed_delta = g->eta_seed_delta,
    };
    return limn_noise_new(&l->noise, &c, err);
}

/* Sigmas of the steps that run; strength below 1 leaves the first ones out. */
static limn_status make_sigmas(loop *l, limn_err *err) {
    const limn_sample_args *a = l->a;
    const limn_gen *g = limn_gen_of(a->plan->params);
    const limn_noising *m = &a->ckpt->noising;
    limn_strength_plan sp;
    limn_status st =
        limn_strength_plan_get(&sp, LIMN_STRENGTH_STEPS, a->pass->steps, a->pass->strength, err);
    if (st != LIMN_OK) return st;
    int room = sp.schedule_steps > LIMN_TRAIN_STEPS ? sp.schedule_steps : LIMN_TRAIN_STEPS;
    double *all = l->sigmas = limn_mem_calloc((size_t)room + 4, sizeof *all);
    if (!all) return limn_fail(err, LIMN_E_NOMEM, "no memory for a schedule");
    limn_schedule_options o = limn_pass_schedule_options(g, a->ckpt);
    const limn_schedule *chosen = a->pass->schedule ? a->pass->schedule : a->ckpt->schedule;
    const limn_schedule *s = limn_solver_schedule(a->pass->solver, chosen, m);
    bool discard = g->discard_penultimate || (a->pass->solver->flags & LIMN_SOLVER_DISCARD);
    int made = 0;
    st = discard ? limn_schedule_build_discard(all, &made, s, sp.schedule_steps, m, &o, err)
                 : limn_schedule_build(all, &made, s, sp.schedule_steps, m, &o, err);
    if (st != LIMN_OK) return st;
    /* Some schedules make a step more or less than asked for: the whole of it without a strength,
     * else the last steps of those made. */
    l->steps = sp.run == sp.schedule_steps || sp.run > made ? made : sp.run;
    memmove(all, all + (made - l->steps), (size_t)(l->steps + 1) * sizeof *all);
    if (l->steps > 0 && (a->pass->solver->flags & LIMN_SOLVER_ENDS_NOISY) && a->ckpt->ends_noisy &&
        m->kind == LIMN_NOISING_DISCRETE && all[l->steps - 1] > m->sigma[0])
        all[l->steps] = m->sigma[0];
    return LIMN_OK;
}

/* What was left of the noise stays; the latent is that of the variance-preserving form. */
static void scale_end(float *x, const loop *l) {
    double sigma = l->sigmas[l->steps];
    if (sigma <= 0) return;
    float f = (float)limn_precond_get(&l->a->ckpt->noising, sigma).in;
    for (int64_t i = 0; i < l->n; i++) x[i] *= f;
}

static const float *init_of(const loop *l, int image) {
    if (l->sampled) return l->sampled + image * l->each;
    return l->a->init + (l->a->init_per_image ? image * l->each : 0);
}

/* The posterior of the start picture, drawn before the noise that is laid over it. */
static limn_status sample_init(loop *l, limn_err *err) {
    const limn_sample_args *a = l->a;
    if (!a->init || !a->init_spread) return LIMN_OK;
    float *x = limn_mem_aligned((size_t)l->n * sizeof *x);
    if (!x) return limn_fail(err, LIMN_E_NOMEM, "no memory for a latent");
    limn_noise_before(l->noise, x);
    for (int64_t i = 0; i < l->n; i++)
        x[i] = a->init[i % l->each] + a->init_spread[i % l->each] * x[i];
    l->sampled = x;
    return LIMN_OK;
}

/* What the pictures start from: noise, or the given latents with noise on top. */
static limn_status make_start(float *x, loop *l, limn_err *err) {
    const limn_sample_args *a = l->a;
    const limn_noising *m = &a->ckpt->noising;
    limn_status st = limn_noise_first(l->noise, x, err);
    if (st != LIMN_OK) return st;
    double sigma = l->sigmas[0];
    if (!a->init) {
        float f = (float)limn_noising_initial_scale(m, sigma, true);
        for (int64_t i = 0; i < l->n; i++) x[i] *= f;
        return LIMN_OK;
    }
    float *base = limn_mem_aligned((size_t)l->each * sizeof *base);
    if (!base) return limn_fail(err, LIMN_E_NOMEM, "no memory for a latent");
    for (int i = 0; i < a->plan->images; i++) {
        const float *init = init_of(l, i);
        float *xi = x + i * l->each;
        for (int64_t k = 0; k < l->each; k++) {
            float keep = a->mask && a->fill == LIMN_FILL_ZEROS ? 1 - a->mask[k] : 1;
            base[k] = init[k] * keep;
            /* "noise" below the mask: the picture there is noise of unit variance */
            if (a->mask && a->fill == LIMN_FILL_NOISE)
                base[k] = init[k] * (1 - a->mask[k]) + xi[k] * a->mask[k];
        }
        limn_latent_add_noise(xi, base, xi, l->each, m, sigma);
    }
    limn_mem_free(base);
    return LIMN_OK;
}

static limn_status predict(void *user, float *const *outs, const limn_cond *conds, int count,
                           const float *x, int64_t n, const limn_predict_at *at, limn_err *err) {
    loop *l = user;
    if (l->a->prepare && at->at->step != l->prepared) {
        bool changed = false;
        limn_status st = l->a->prepare(l->a->user, &changed, at->at->step, at->at->steps, err);
        if (st != LIMN_OK) return st;
        if (changed) limn_predictor_reset(l->net);
        l->prepared = at->at->step;
    }
    bool late = l->refiner && at->at->part >= l->a->refiner_switch;
    return limn_predictor_run(late ? l->refiner : l->net, outs, conds, count, x, n, at, err);
}

/* SDXL's size ids: the picture is whole and has the size it is drawn at; the refiner takes
 * aesthetic scores instead of the target size (diffusers pipeline_stable_diffusion_xl_img2img.py: 6
 * and 2.5). */
static void size_ids(float *ids, const limn_pass *pass, int count, bool negative) {
    float h = (float)pass->height, w = (float)pass->width;
    const float all[6] = {h, w, 0, 0, h, w};
    memcpy(ids, all, sizeof all);
    if (count == 5) ids[4] = negative ? 2.5f : 6.0f;
}

static limn_status predictor_new(limn_predictor **out, const loop *l, limn_checkpoint *ckpt,
                                 const limn_conditioning *positive,
                                 const limn_conditioning *negative, limn_err *err) {
    const limn_sample_args *a = l->a;
    limn_predictor_args pa = {.backend = a->backend,
                              .ckpt = ckpt,
                              .images = a->plan->images,
                              .height = l->h,
                              .width = l->w,
                              .positive = positive,
                              .negative = negative,
                              .cfg_scale = a->pass->cfg_scale,
                              .extra = a->extra,
                              .extra_channels = a->extra_channels,
                              .wrap = limn_gen_of(a->plan->params)->tiling,
                              .cancel = a->cancel};
    int ids = limn_unet_time_ids(&ckpt->unet_cfg, ckpt->pooled_dim);
    size_ids(pa.time_ids, a->pass, ids, false);
    size_ids(pa.negative_time_ids, a->pass, ids, true);
    return limn_predictor_new(out, &pa, err);
}

/* The denoiser, and where the mask is 0 the original picture. */
static limn_status denoise_masked(void *user, float *x0, const float *x, int64_t n,
                                  const limn_denoise_at *at, limn_err *err) {
    loop *l = user;
    limn_status st = limn_denoiser_run(&l->denoiser, x0, x, n, at, err);
    for (int i = 0; st == LIMN_OK && l->a->mask && i < l->a->plan->images; i++)
        limn_latent_blend(x0 + i * l->each, l->a->mask, init_of(l, i), l->each);
    return st;
}

static limn_status run_steps(float *x, loop *l, limn_err *err) {
    const limn_sample_args *a = l->a;
    limn_solver_options o = limn_pass_solver_options(limn_gen_of(a->plan->params), a->pass->solver);
    limn_solver *solver = NULL;
    limn_solver_args sa = {.row = a->pass->solver,
                           .noising = &a->ckpt->noising,
                           .sigmas = l->sigmas,
                           .steps = l->steps,
                           .n = l->n,
                           .options = &o,
                           .denoise = denoise_masked,
                           .denoise_user = l,
                           .noise = limn_noise_draw,
                           .noise_user = l->noise};
    limn_status st = limn_solver_new(&solver, &sa, err);
    if (st != LIMN_OK) return st;
    int total = limn_solver_steps(solver);
    for (int i = 0; i < total && st == LIMN_OK; i++) {
        st = limn_solver_step(solver, x, i, err);
        if (st == LIMN_OK && a->done) a->done(a->user, i + 1, total, limn_solver_denoised(solver));
    }
    limn_solver_free(&solver);
    return st;
}

static limn_status set_noise_range(loop *l, limn_err *err) {
    double low = 0;
    for (int i = 0; i <= l->steps; i++)
        if (l->sigmas[i] > 0) low = l->sigmas[i];
    if (low <= 0 || low >= l->sigmas[0]) return LIMN_OK; /* one step: nothing Brownian is drawn */
    return limn_noise_set_range(l->noise, low, l->sigmas[0], err);
}

limn_status limn_sample_run(float *x, const limn_sample_args *a, limn_err *err) {
    limn_status st = LIMN_OK;
    loop l = {.a = a, .prepared = -1};
    l.c = a->ckpt->unet_cfg.out_channels;
    l.h = a->pass->height / a->ckpt->latent_scale;
    l.w = a->pass->width / a->ckpt->latent_scale;
    l.each = l.c * l.h * l.w;
    l.n = l.each * a->plan->images;
    LIMN_TRY(make_noise(&l, err));
    LIMN_TRY(make_sigmas(&l, err));
    if (l.steps == 0) { /* strength 0: the picture stays */
        if (a->ready) a->ready(a->user);
        for (int i = 0; i < a->plan->images; i++)
            memcpy(x + i * l.each, init_of(&l, i), (size_t)l.each * sizeof *x);
        goto out;
    }
    LIMN_TRY(set_noise_range(&l, err));
    LIMN_TRY(predictor_new(&l.net, &l, a->ckpt, a->positive, a->negative, err));
    if (a->refiner)
        LIMN_TRY(predictor_new(&l.refiner, &l, a->refiner, a->refiner_positive, a->refiner_negative,
                               err));
    l.denoiser = (limn_denoiser){.noising = &a->ckpt->noising,
                                 .guider = a->plan->guider,
                                 .options = a->plan->guidance,
                                 .images = a->plan->images,
                                 .predict = predict,
                                 .predict_user = &l,
                                 .n = l.n};
    l.denoiser.options.scale = a->pass->cfg_scale;
    LIMN_TRY(limn_denoiser_init(&l.denoiser, err));
    LIMN_TRY(sample_init(&l, err));
    LIMN_TRY(make_start(x, &l, err));
    LIMN_TRY(limn_predictor_prepare(l.net, err));
    if (a->ready) a->ready(a->user);
    LIMN_TRY(run_steps(x, &l, err));
    scale_end(x, &l);
out:
    limn_denoiser_deinit(&l.denoiser);
    limn_predictor_free(&l.net);
    limn_predictor_free(&l.refiner);
    limn_noise_free(&l.noise);
    limn_mem_free(l.sigmas);
    limn_mem_free(l.sampled);
    return st;
}
