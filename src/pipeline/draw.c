/* SPDX-License-Identifier: MIT */
/*
 * limn_draw: the stages of a drawing in order, per batch:
 *   load -> adapters -> encode prompts -> start picture -> denoise -> (hires) -> decode -> finish
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/cancel.h"
#include "base/clock.h"
#include "base/folder.h"
#include "base/log.h"
#include "image/resample.h"
#include "pipeline/draw_memory.h"
#include "pipeline/drawing.h"
#include "pipeline/engine.h"
#include "pipeline/init_stage.h"
#include "pipeline/layout.h"
#include "pipeline/lora_stage.h"
#include "pipeline/draw_progress.h"
#include "pipeline/sample_loop.h"
#include "pipeline/speeds.h"
#include "pipeline/upscale_stage.h"
#include "text/styles.h"

typedef struct draw_run {
    limn_engine *engine;
    limn_backend *backend;
    limn_checkpoint *ckpt, *refiner; /* refiner: NULL when none was asked for */
    const limn_watch *watch;
    const atomic_bool *cancel;
    limn_draw_plan plan;
    limn_progress progress;
    limn_vae_options vae;
    limn_prompt *positive, *negative;
    limn_conditioning *cond, *uncond;
    limn_conditioning *refiner_cond, *refiner_uncond;
    limn_init init;
    double eval_work; /* of one step of the current pass, for the time left */
    bool hires;       /* it is the second */
    int64_t h, w;     /* latent of the current pass */
} draw_run;

/* ---- prompts ---- */
static limn_status read_styles(draw_run *r, limn_buf *prompt, limn_buf *negative, limn_err *err) {
    const limn_gen *g = limn_gen_of(r->plan.params);
    if (g->styles.count == 0) {
        limn_buf_adds(prompt, g->prompt);
        limn_buf_adds(negative, g->negative_prompt);
        return prompt->failed || negative->failed
                   ? limn_fail(err, LIMN_E_LIMIT, "the prompt is too long")
                   : LIMN_OK;
    }
    char *path = NULL;
    limn_styles *styles = NULL;
    limn_status st = LIMN_OK;
    if (limn_engine_find(&path, r->engine, "styles.csv", "", NULL) != LIMN_OK)
        LIMN_TRY(limn_engine_find(&path, r->engine, "styles", "", err));
    LIMN_TRY(limn_styles_load(&styles, path, err));
    LIMN_TRY(limn_styles_apply(styles, prompt, negative, (const char *const *)g->styles.item,
                               (size_t)g->styles.count, g->prompt, g->negative_prompt, r->plan.seed,
                               err));
out:
    limn_styles_free(&styles);
    limn_mem_free(path);
    return st;
}

static limn_status parse_prompts(draw_run *r, int first_image, limn_err *err) {
    const limn_gen *g = limn_gen_of(r->plan.params);
    limn_status st = LIMN_OK;
    char *wildcards = NULL;
    limn_buf pos, neg;
    limn_buf_init(&pos, LIMN_PROMPT_BYTES);
    limn_buf_init(&neg, LIMN_PROMPT_BYTES);
    if (limn_engine_find(&wildcards, r->engine, "wildcards", "", NULL) != LIMN_OK) wildcards = NULL;
    limn_prompt_options opt = {.steps = r->plan.first.steps,
                               .seed = limn_sample_seed(&r->plan, first_image),
                               .wildcard_dir = wildcards,
                               .raw = g->emphasis == LIMN_GEN_EMPHASIS_NONE};
    LIMN_TRY(read_styles(r, &pos, &neg, err));
    LIMN_TRY(limn_prompt_parse(&r->positive, limn_buf_text(&pos), pos.len, &opt, err));
    LIMN_TRY(limn_prompt_parse(&r->negative, limn_buf_text(&neg), neg.len, &opt, err));
out:
    limn_buf_deinit(&pos);
    limn_buf_deinit(&neg);
    limn_mem_free(wildcards);
    return st;
}

/* Both prompts by the text encoders of one checkpoint. */
static limn_status encode_for(limn_conditioning **cond, limn_conditioning **uncond, draw_run *r,
                              limn_checkpoint *ckpt, bool guided, limn_err *err) {
    const limn_gen *g = limn_gen_of(r->plan.params);
    limn_conditioning_args a = {
        .backend = r->backend,
        .ckpt = ckpt,
        .prompt = r->positive,
        .steps = r->plan.first.steps,
        .clip_skip = limn_gen_has(g, "clip_skip") ? (int)g->clip_skip : 0,
        .emphasis = (limn_gen_emphasis)g->emphasis,
        .cancel = r->cancel,
    };
    limn_status st = limn_conditioning_new(cond, &a, err);
    if (st != LIMN_OK || !guided) return st;
    a.prompt = r->negative;
    a.zero_empty = ckpt->unet_cfg.add_embed_dim > 0;
    return limn_conditioning_new(uncond, &a, err);
}

static limn_status encode_prompts(draw_run *r, limn_err *err) {
    bool guided = r->plan.first.cfg_scale != 1 ||
                  (r->plan.wants_hires && r->plan.hires.cfg_scale != 1) ||
                  r->init.extra_channels == 4;
    limn_progress_stage(&r->progress, "encode", guided ? 2 : 1);
    limn_status st = encode_for(&r->cond, &r->uncond, r, r->ckpt, guided, err);
    if (st != LIMN_OK || !r->refiner) return st;
    return encode_for(&r->refiner_cond, &r->refiner_uncond, r, r->refiner, guided, err);
}

/* ---- decoding ---- */
static limn_status decode_latent(limn_image **out, draw_run *r, const float *latent, int64_t h,
                                 int64_t w, const limn_vae_options *opt, limn_err *err) {
    int64_t s = r->ckpt->latent_scale, n = h * w * s * s;
    float *inter = limn_mem_aligned((size_t)(3 * n) * sizeof *inter);
    float *planar = limn_mem_aligned((size_t)(3 * n) * sizeof *planar);
    limn_status st =
        inter && planar ? LIMN_OK : limn_fail(err, LIMN_E_NOMEM, "no memory for a picture");
    if (st == LIMN_OK) st = limn_vae_decode(inter, r->ckpt, latent, h, w, opt, err);
    if (st == LIMN_OK) {
        limn_interleaved_to_planar(planar, inter, 3, n, 3);
        st = limn_image_from_f32(out, planar, (int)(w * s), (int)(h * s), err);
    }
    limn_mem_free(inter);
    limn_mem_free(planar);
    return st;
}

/* A preview of the first picture: TAESD or the autoencoder when that is cheap, else a linear fit.
 */
static limn_image *make_preview(draw_run *r, const float *x0) {
    enum { CHEAP_PIXELS = 32 * 32 };
    limn_image *image = NULL;
    limn_vae_options quick = r->vae;
    quick.done = NULL;
    if (!x0) return NULL;
    quick.tiny = r->ckpt->taesd != NULL;
    if (quick.tiny || r->h * r->w <= CHEAP_PIXELS)
        (void)decode_latent(&image, r, x0, r->h, r->w, &quick, NULL);
    else
        (void)limn_preview_linear(&image, r->ckpt, x0, r->h, r->w, NULL);
    return image;
}

static void step_done(void *user, int done, int total, const float *x0) {
    draw_run *r = user;
    limn_image *preview =
        limn_progress_wants_preview(&r->progress, done, total) ? make_preview(r, x0) : NULL;
    limn_progress_step(&r->progress, done, total, r->eval_work, preview);
    limn_image_free(&preview);
}

static limn_status step_prepare(void *user, bool *changed, int step, int steps, limn_err *err) {
    draw_run *r = user;
    return limn_lora_stage_step(changed, r->ckpt, limn_gen_of(r->plan.params), r->positive, step,
                                steps, err);
}

static void steps_begin(void *user) {
    draw_run *r = user;
    const limn_pass *pass = r->hires ? &r->plan.hires : &r->plan.first;
    limn_progress_stage(&r->progress, r->hires ? "hires" : "denoise", pass->steps);
}

static void tile_done(void *user, int done, int total) {
    draw_run *r = user;
    limn_progress_step(&r->progress, done, total, 0, NULL);
}

/* ---- passes ---- */
static limn_sample_args sample_args(draw_run *r, const limn_pass *pass, int first_image) {
    r->h = pass->height / r->ckpt->latent_scale;
    r->w = pass->width / r->ckpt->latent_scale;
    r->eval_work = limn_pass_step_work(pass, r->ckpt->latent_scale) * r->plan.images;
    return (limn_sample_args){.backend = r->backend,
                              .ckpt = r->ckpt,
                              .plan = &r->plan,
                              .pass = pass,
                              .positive = r->cond,
                              .negative = r->uncond,
                              .refiner = r->refiner,
                              .refiner_positive = r->refiner_cond,
                              .refiner_negative = r->refiner_uncond,
                              .refiner_switch = limn_gen_of(r->plan.params)->refiner_switch,
                              .first_image = first_image,
                              .cancel = r->cancel,
                              .done = step_done,
                              .prepare = step_prepare,
                              .ready = steps_begin,
                              .user = r};
}

static limn_status first_pass(float *x, draw_run *r, int first_image, limn_err *err) {
    limn_sample_args a = sample_args(r, &r->plan.first, first_image);
    a.init = r->init.latent;
    a.init_spread = r->init.spread;
    a.mask = r->init.latent_mask;
    a.fill = limn_gen_of(r->plan.params)->inpaint_fill;
    a.extra = r->init.extra;
    a.extra_channels = r->init.extra_channels;
    r->hires = false;
    limn_progress_stage(&r->progress, "load", 0); /* packing the weights takes its time */
    return limn_sample_run(x, &a, err);
}

/* Bilinear enlargement of latents, as "Latent" of A1111's hires fix. */
static limn_status enlarge_latents(float *dst, const float *src, int64_t planes, int64_t h,
                                   int64_t w, int64_t oh, int64_t ow, limn_err *err) {
    limn_resample how = {.src_width = (int)w,
                         .src_height = (int)h,
                         .dst_width = (int)ow,
                         .dst_height = (int)oh,
                         .channels = 1,
                         .filter = LIMN_FILTER_BILINEAR};
    limn_status st = LIMN_OK;
    for (int64_t i = 0; i < planes && st == LIMN_OK; i++)
        st = limn_resample_f32(dst + i * oh * ow, src + i * h * w, &how, err);
    return st;
}

/* Through pixels: decode, enlarge, encode. */
static limn_status enlarge_image(float *dst, draw_run *r, const float *src, int64_t h, int64_t w,
                                 const limn_pass *pass, limn_err *err) {
    limn_image *small = NULL, *large = NULL;
    float *planar = NULL, *inter = NULL;
    int64_t n = pass->width * pass->height;
    limn_status st = LIMN_OK;
    LIMN_TRY(decode_latent(&small, r, src, h, w, &r->vae, err));
    limn_upscale_args ua = {.engine = r->engine,
                            .backend = r->backend,
                            .name = limn_gen_of(r->plan.params)->hires_upscaler,
                            .width = (int)pass->width,
                            .height = (int)pass->height,
                            .cancel = r->cancel};
    LIMN_TRY(limn_upscale_image(&large, small, &ua, err));
    planar = limn_mem_aligned((size_t)(3 * n) * sizeof *planar);
    inter = limn_mem_aligned((size_t)(3 * n) * sizeof *inter);
    LIMN_CHECK(err, planar && inter, LIMN_E_NOMEM, "no memory for a picture");
    limn_image_to_f32(planar, large);
    limn_planar_to_interleaved(inter, planar, 3, n, 3, 0, 1);
    LIMN_TRY(limn_vae_encode(dst, NULL, r->ckpt, inter, pass->height, pass->width, &r->vae, err));
out:
    limn_image_free(&small);
    limn_image_free(&large);
    limn_mem_free(planar);
    limn_mem_free(inter);
    return st;
}

/* Replaces *x (first pass) by the latents of the second. */
static limn_status hires_pass(float **x, draw_run *r, int first_image, limn_err *err) {
    const limn_pass *pass = &r->plan.hires;
    const char *how = limn_gen_of(r->plan.params)->hires_upscaler;
    int64_t h = r->h, w = r->w, c = r->ckpt->unet_cfg.out_channels, s = r->ckpt->latent_scale;
    int64_t oh = pass->height / s, ow = pass->width / s, images = r->plan.images;
    float *init = limn_mem_aligned((size_t)(images * c * oh * ow) * sizeof *init);
    float *y = limn_mem_aligned((size_t)(images * c * oh * ow) * sizeof *y);
    limn_status st = LIMN_OK;
    LIMN_CHECK(err, init && y, LIMN_E_NOMEM, "no memory for the second pass");
    limn_progress_stage(&r->progress, "hires", pass->steps);
    if (limn_upscale_is_latent(how)) {
        LIMN_TRY(enlarge_latents(init, *x, images * c, h, w, oh, ow, err));
    } else {
        for (int64_t i = 0; i < images; i++)
            LIMN_TRY(enlarge_image(init + i * c * oh * ow, r, *x + i * c * h * w, h, w, pass, err));
    }
    limn_sample_args a = sample_args(r, pass, first_image);
    a.init = init;
    a.init_per_image = true;
    r->hires = true;
    LIMN_TRY(limn_sample_run(y, &a, err));
    limn_mem_free(*x);
    *x = y;
    y = NULL;
out:
    limn_mem_free(init);
    limn_mem_free(y);
    return st;
}

/* ---- results ---- */
static limn_status finish_image(limn_drawn *out, draw_run *r, limn_image **image, int index,
                                limn_err *err) {
    limn_status st = LIMN_OK;
    char seed[32];
    const limn_gen *g = limn_gen_of(r->plan.params);
    LIMN_TRY(limn_init_finish(&r->init, image, err));
    if (g->upscale > 1) {
        limn_image *large = NULL;
        limn_upscale_args ua = {.engine = r->engine,
                                .backend = r->backend,
                                .name = g->upscaler,
                                .width = (int)((*image)->width * g->upscale + 0.5),
                                .height = (int)((*image)->height * g->upscale + 0.5),
                                .cancel = r->cancel};
        limn_progress_stage(&r->progress, "upscale", 0);
        LIMN_TRY(limn_upscale_image(&large, *image, &ua, err));
        limn_image_free(image);
        *image = large;
    }
    LIMN_TRY(limn_params_copy(&out->params, r->plan.params, err));
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)limn_sample_seed(&r->plan, index));
    LIMN_TRY(limn_params_set(out->params, "seed", seed, LIMN_FROM_SCRIPT, err));
    if (g->variation_strength > 0) {
        snprintf(seed, sizeof seed, "%llu",
                 (unsigned long long)limn_sample_variation_seed(&r->plan, index));
        LIMN_TRY(limn_params_set(out->params, "variation_seed", seed, LIMN_FROM_SCRIPT, err));
    }
    /* One picture's recipe draws one picture. */
    LIMN_TRY(limn_params_set(out->params, "count", "1", LIMN_FROM_SCRIPT, err));
    LIMN_TRY(limn_params_set(out->params, "batch_size", "1", LIMN_FROM_SCRIPT, err));
    if (g->metadata)
        LIMN_TRY(limn_params_format_text(&out->text, out->params, err));
    else
        out->text = limn_mem_strdup("");
    LIMN_CHECK(err, out->text, LIMN_E_NOMEM, "no memory for a recipe");
    out->image = *image;
    *image = NULL;
out:
    return st;
}

/* Decoding needs the most working memory and neither text encoders nor UNet: what of them can be
 * had back cheaply makes room. */
static void rest_networks(const draw_run *r, const limn_checkpoint *c) {
    for (int i = 0; i < c->n_text; i++)
        limn_backend_rest(r->backend, limn_model_weights_has, c->text[i].weights, true);
    limn_backend_rest(r->backend, limn_model_weights_has, c->unet, false);
}

static limn_status decode_batch(limn_drawing *d, draw_run *r, const float *x, int first_image,
                                limn_err *err) {
    rest_networks(r, r->ckpt);
    if (r->refiner) rest_networks(r, r->refiner);
    int64_t each = r->ckpt->unet_cfg.out_channels * r->h * r->w;
    for (int i = 0; i < r->plan.images; i++) {
        limn_image *image = NULL;
        r->progress.image = first_image + i;
        limn_progress_stage(&r->progress, "decode", 0);
        limn_vae_options o = r->vae;
        o.done = tile_done;
        o.user = r;
        limn_status st = decode_latent(&image, r, x + i * each, r->h, r->w, &o, err);
        if (st == LIMN_OK)
            st = finish_image(&d->items[first_image + i], r, &image, first_image + i, err);
        limn_image_free(&image);
        if (st == LIMN_OK && r->watch && r->watch->picture)
            st = r->watch->picture(r->watch->user, d, first_image + i, err);
        if (st != LIMN_OK) return st;
    }
    return LIMN_OK;
}

static void batch_clear(draw_run *r) {
    limn_conditioning_free(&r->cond);
    limn_conditioning_free(&r->uncond);
    limn_conditioning_free(&r->refiner_cond);
    limn_conditioning_free(&r->refiner_uncond);
    limn_prompt_free(&r->positive);
    limn_prompt_free(&r->negative);
}

static limn_status draw_batch(limn_drawing *d, draw_run *r, int batch, limn_err *err) {
    int first = batch * r->plan.images;
    limn_status st = LIMN_OK;
    int64_t s = r->ckpt->latent_scale;
    int64_t n = r->plan.images * r->ckpt->unet_cfg.out_channels * (r->plan.first.height / s) *
                (r->plan.first.width / s);
    float *x = limn_mem_aligned((size_t)n * sizeof *x);
    LIMN_CHECK(err, x, LIMN_E_NOMEM, "no memory for latents");
    r->progress.image = first;
    LIMN_TRY(parse_prompts(r, first, err));
    LIMN_TRY(limn_lora_stage_apply(r->engine, r->ckpt, limn_gen_of(r->plan.params), r->positive,
                                   r->plan.first.steps, err));
    LIMN_TRY(encode_prompts(r, err));
    LIMN_TRY(first_pass(x, r, first, err));
    if (r->plan.wants_hires) LIMN_TRY(hires_pass(&x, r, first, err));
    LIMN_TRY(decode_batch(d, r, x, first, err));
out:
    limn_mem_free(x);
    batch_clear(r);
    return st;
}

/* Everything before the first network runs. `r` is to be cleared by run_clear whatever comes out.
 */
static limn_status prepare(draw_run *r, const limn_params *gen, limn_err *err) {
    limn_engine *engine = r->engine;
    const limn_gen *g = limn_gen_of(gen);
    char note[256] = "";
    limn_status st = LIMN_OK;
    r->cancel = r->watch ? limn_cancel_flag(r->watch->cancel) : NULL;
    limn_progress_init(&r->progress, r->watch, (int)(g->count * g->batch_size), 0);
    LIMN_TRY(limn_draw_check(engine, gen, err));
    limn_progress_stage(&r->progress, "load", 0);
    LIMN_TRY(limn_engine_backend(&r->backend, engine, (limn_gen_precision)g->precision, err));
    LIMN_TRY(limn_engine_checkpoint(&r->ckpt, engine, g, note, err));
    LIMN_TRY(limn_engine_refiner(&r->refiner, engine, g, err));
    if (note[0]) limn_progress_note(&r->progress, note);
    LIMN_TRY(limn_draw_plan_make(&r->plan, g, r->ckpt, err));
    g = limn_gen_of(r->plan.params);
    /* "--vae taesd.safetensors" brings a tiny autoencoder and no other: it is meant */
    bool tiny = g->tiny_vae || (!r->ckpt->vae && r->ckpt->taesd);
    r->vae = (limn_vae_options){.backend = r->backend,
                                .tiling = (limn_tiling)g->vae_tiling,
                                .tile = g->vae_tile,
                                .memory = engine->memory / 2,
                                .tiny = tiny,
                                .wrap = g->tiling,
                                .cancel = r->cancel};
    r->progress.total_work = limn_draw_plan_work(&r->plan, r->ckpt->latent_scale);
out:
    return st;
}

static void run_clear(draw_run *r) {
    limn_init_deinit(&r->init);
    limn_draw_plan_deinit(&r->plan);
}

/* ---- how long it takes ---- */
static void speed_key(limn_buf *key, const draw_run *r) {
    char *path = realpath(r->ckpt->path, NULL);
    limn_buf_addf(key, "%s\n%d\n%d\n%u\n%d", path ? path : r->ckpt->path, (int)r->engine->precision,
                  r->engine->threads, r->engine->cpu_flags, r->vae.tiny);
    free(path);
}

/* Enlarging and a second model take times of their own, which nobody measures. */
static bool is_foreseen(const draw_run *r) {
    return limn_gen_of(r->plan.params)->upscale <= 1 && !r->refiner;
}

/* Keeps how fast it went; a cache that cannot be written costs a forecast, nothing else. Who shares
 * the cores measures others too. */
static void note_speed(const draw_run *r) {
    const limn_progress *p = &r->progress;
    limn_err err = {0};
    limn_buf key;
    if (!r->engine->speed_file || r->engine->turns || !is_foreseen(r) || p->done_work <= 0) return;
    double rest = limn_clock_now() - p->first_step - p->work_seconds;
    limn_speed s = {.load = p->first_step - p->begin,
                    .per_work = p->work_seconds / p->done_work,
                    .per_pixel = rest > 0 ? rest / limn_draw_plan_pixels(&r->plan) : 0};
    limn_buf_init(&key, 8192);
    speed_key(&key, r);
    if (limn_speeds_note(r->engine->speed_file, limn_buf_text(&key), &s, &err) != LIMN_OK)
        limn_log(LIMN_LOG_WARN, "cache", "the speed was not kept: %s", err.text);
    limn_buf_deinit(&key);
}

static double seconds_of(const draw_run *r) {
    limn_speed s;
    limn_buf key;
    limn_buf_init(&key, 8192);
    speed_key(&key, r);
    bool known = r->engine->speed_file && is_foreseen(r) &&
                 limn_speeds_find(&s, r->engine->speed_file, limn_buf_text(&key));
    limn_buf_deinit(&key);
    return known ? s.load + s.per_work * r->progress.total_work +
                       s.per_pixel * limn_draw_plan_pixels(&r->plan)
                 : -1;
}

limn_status limn_draw_forecast(limn_forecast *out, limn_engine *engine, const limn_params *gen,
                               limn_err *err) {
    draw_run r = {.engine = engine};
    limn_status st = LIMN_OK;
    *out = (limn_forecast){.seconds = -1};
    LIMN_TRY(prepare(&r, gen, err));
    LIMN_TRY(parse_prompts(&r, 0, err));
    LIMN_TRY(limn_lora_stage_apply(engine, r.ckpt, limn_gen_of(r.plan.params), r.positive,
                                   r.plan.first.steps, err));
    LIMN_TRY(limn_draw_memory(&out->work_bytes, engine, r.ckpt, limn_gen_of(gen), err));
    out->model_bytes = limn_checkpoint_bytes(r.ckpt) * LIMN_PACKED_SHARE;
    if (r.refiner) out->model_bytes += limn_checkpoint_bytes(r.refiner) * LIMN_PACKED_SHARE;
    out->free_bytes = limn_proc_bytes("/proc/meminfo", "MemAvailable");
    out->limit_bytes = (int64_t)engine->memory;
    out->images = r.plan.images * r.plan.batches;
    out->seconds = seconds_of(&r);
    out->family = r.ckpt->family;
    out->model = limn_mem_strdup(r.ckpt->path);
    LIMN_CHECK(err, out->model, LIMN_E_NOMEM, "no memory for a forecast");
    LIMN_TRY(limn_params_copy(&out->params, r.plan.params, err));
out:
    batch_clear(&r);
    run_clear(&r);
    if (st != LIMN_OK) limn_forecast_deinit(out);
    return st;
}

void limn_forecast_deinit(limn_forecast *f) {
    limn_params_free(&f->params);
    limn_text_free(&f->model);
}

limn_status limn_draw(limn_drawing **out, limn_engine *engine, const limn_params *gen,
                      const limn_watch *watch, limn_err *err) {
    *out = NULL;
    limn_status st = LIMN_OK;
    draw_run r = {.engine = engine, .watch = watch};
    limn_drawing *d = NULL;
    LIMN_TRY(prepare(&r, gen, err));
    LIMN_TRY(limn_drawing_new(&d, r.plan.batches * r.plan.images, err));
    LIMN_TRY(limn_init_make(&r.init, &r.plan, r.ckpt, &r.vae, err));
    for (int b = 0; b < r.plan.batches; b++) {
        st = draw_batch(d, &r, b, err);
        if (st == LIMN_E_CANCELLED && watch && watch->skip && watch->skip(watch->user))
            st = LIMN_OK;
        LIMN_TRY(st);
    }
    note_speed(&r);
    *out = d;
    d = NULL;
out:
    run_clear(&r);
    limn_drawing_free(&d);
    return st;
}
