/* SPDX-License-Identifier: MIT */
/*
 * An engine for the tests of the command line: the interface of limn.h, with a gradient in place of
 * a network. It takes LIMN_FAKE_STEP_MS milliseconds a step, so that Ctrl-C and progress can be
 * seen, and stops when asked like the real one. LIMN_FAKE_STEPPING names a file that is made when
 * the first step begins.
 */
#include <unistd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "base/status.h"
#include "limn.h"

struct limn_engine {
    int threads;
};

struct limn_drawing {
    int count;
    limn_image *image[64];
    limn_params *params[64];
    char *text[64];
};

limn_status limn_engine_new(limn_engine **out, const limn_params *app, limn_err *err) {
    *out = limn_mem_calloc(1, sizeof **out);
    if (!*out) return limn_fail(err, LIMN_E_NOMEM, "no memory");
    (*out)->threads = (int)limn_params_int(app, "threads");
    return LIMN_OK;
}

void limn_engine_free(limn_engine **engine) {
    if (!engine || !*engine) return;
    limn_mem_free(*engine);
    *engine = NULL;
}

static const limn_choice samplers[] = {
    {"DPM++ 2M", "dpmpp_2m, k_dpmpp_2m", "second-order multistep"},
    {"Euler a", "euler_a", "ancestral Euler"},
};

bool limn_engine_choice(limn_choice *out, const char *list, int index) {
    if (strcmp(list, "sampler") != 0 || index < 0 || index > 1) return false;
    *out = samplers[index];
    return true;
}

limn_status limn_draw_check(limn_engine *engine, const limn_params *gen, limn_err *err) {
    const char *name = limn_params_text(gen, "sampler");
    for (int i = 0; i < 2; i++)
        if (strcmp(samplers[i].name, name) == 0) return LIMN_OK;
    return limn_fail(err, LIMN_E_VALUE, "--sampler %s: there is no such sampler", name);
}

static limn_status draw_one(limn_drawing *d, const limn_params *gen, int64_t seed, limn_err *err) {
    int w = (int)limn_params_int(gen, "width"), h = (int)limn_params_int(gen, "height");
    int i = d->count;
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)seed);
    limn_status st = limn_params_copy(&d->params[i], gen, err);
    if (st == LIMN_OK) st = limn_params_set(d->params[i], "seed", text, LIMN_FROM_SCRIPT, err);
    if (st == LIMN_OK) st = limn_image_new(&d->image[i], w, h, 3, err);
    if (st == LIMN_OK) st = limn_params_format_text(&d->text[i], d->params[i], err);
    d->count++;
    if (st != LIMN_OK) return st;
    uint8_t *p = limn_image_pixels(d->image[i]);
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++, p += 3) {
            p[0] = (uint8_t)(x * 255 / w);
            p[1] = (uint8_t)(y * 255 / h);
            p[2] = (uint8_t)(seed * 40);
        }
    return LIMN_OK;
}

limn_status limn_draw_forecast(limn_forecast *out, limn_engine *engine, const limn_params *gen,
                               limn_err *err) {
    *out = (limn_forecast){
        .family = "gradient",
        .images = (int)(limn_params_int(gen, "count") * limn_params_int(gen, "batch_size")),
        .model_bytes = 3000000,
        .work_bytes = 1,
        .free_bytes = 8000000000,
        .seconds = engine->threads == 1 ? 12.34 : -1,
        .model = limn_mem_strdup("fake")};
    return limn_params_copy(&out->params, gen, err);
}

void limn_forecast_deinit(limn_forecast *f) {
    limn_params_free(&f->params);
    limn_text_free(&f->model);
}

/* A step is not cut short by a signal. */
static void step_sleep(int ms) {
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
    while (nanosleep(&t, &t) != 0) continue;
}

limn_status limn_draw(limn_drawing **out, limn_engine *engine, const limn_params *gen,
                      const limn_watch *watch, limn_err *err) {
    const char *wait = getenv("LIMN_FAKE_STEP_MS"), *sign = getenv("LIMN_FAKE_STEPPING");
    FILE *made = sign ? fopen(sign, "w") : NULL;
    if (made) fclose(made);
    int ms = wait ? atoi(wait) : 0, steps = (int)limn_params_int(gen, "steps");
    int images = (int)(limn_params_int(gen, "count") * limn_params_int(gen, "batch_size"));
    limn_drawing *d = limn_mem_calloc(1, sizeof *d);
    limn_status st = d ? LIMN_OK : limn_fail(err, LIMN_E_NOMEM, "no memory");
    *out = NULL;
    for (int i = 0; st == LIMN_OK && i < images && i < 64; i++) {
        st = draw_one(d, gen, limn_params_int(gen, "seed") + i, err);
        for (int s = 1; st == LIMN_OK && s <= steps; s++) {
            step_sleep(ms);
            if (watch->cancel && limn_cancel_is_set(watch->cancel))
                st = limn_fail(err, LIMN_E_CANCELLED, "cancelled");
            limn_event e = {.stage = "denoise",
                            .image = i,
                            .images = images,
                            .step = s,
                            .steps = steps,
                            .step_seconds = ms / 1000.0,
                            .left_seconds = (steps - s) * ms / 1000.0};
            if (watch->preview_every && s % watch->preview_every == 0) e.preview = d->image[i];
            if (st == LIMN_OK && watch->event) watch->event(watch->user, &e);
        }
        if (st == LIMN_OK && watch->picture) st = watch->picture(watch->user, d, i, err);
    }
    if (st == LIMN_OK)
        *out = d;
    else
        limn_drawing_free(&d);
    return st;
}

void limn_drawing_free(limn_drawing **drawing) {
    limn_drawing *d = drawing ? *drawing : NULL;
    if (!d) return;
    for (int i = 0; i < d->count; i++) {
        limn_image_free(&d->image[i]);
        limn_params_free(&d->params[i]);
        limn_text_free(&d->text[i]);
    }
    limn_mem_free(d);
    *drawing = NULL;
}

int limn_drawing_count(const limn_drawing *d) {
    return d->count;
}
const limn_image *limn_drawing_image(const limn_drawing *d, int index) {
    return d->image[index];
}
const limn_params *limn_drawing_params(const limn_drawing *d, int index) {
    return d->params[index];
}
const char *limn_drawing_text(const limn_drawing *d, int index) {
    return d->text[index];
}

limn_status limn_upscale(limn_image **out, limn_engine *engine, const limn_image *image,
                         const limn_params *gen, const limn_watch *watch, limn_err *err) {
    double k = limn_params_real(gen, "upscale");
    return limn_image_new(out, (int)(limn_image_width(image) * k),
                          (int)(limn_image_height(image) * k), limn_image_channels(image), err);
}

limn_status limn_info(char **out, limn_engine *engine, const char *path, bool json, limn_err *err) {
    *out = NULL;
    if (access(path, F_OK) != 0) return limn_fail(err, LIMN_E_NOT_FOUND, "%s: no such file", path);
    return limn_fail(err, LIMN_E_FORMAT, "%s: not a model", path);
}
