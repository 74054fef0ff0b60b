/* SPDX-License-Identifier: MIT */
/* Engines: backends, the loaded model, and checks before work; see engine.h and limn.h. */
#include "pipeline/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "kernels/cpu_features.h"
#include "param/app.h"
#include "pipeline/draw_plan.h"
#include "pipeline/init_stage.h"
#include "pipeline/task.h"
#include "pipeline/upscale_stage.h"

/* A name in cache_dir, else $XDG_CACHE_HOME/limn, else ~/.cache/limn; "none" turns the cache off.
 */
static char *cache_path(const limn_app *a, const char *name) {
    const char *dir = a->cache_dir, *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    limn_buf path;
    limn_buf_init(&path, 4096);
    if (strcmp(dir, "none") == 0) return NULL;
    if (dir[0])
        limn_buf_addf(&path, "%s/%s", dir, name);
    else if (xdg && xdg[0])
        limn_buf_addf(&path, "%s/limn/%s", xdg, name);
    else if (home && home[0])
        limn_buf_addf(&path, "%s/.cache/limn/%s", home, name);
    return path.len > 0 ? limn_buf_take(&path) : NULL;
}

limn_status limn_engine_new(limn_engine **out, const limn_params *app, limn_err *err) {
    *out = NULL;
    const limn_app *a = limn_app_of(app);
    limn_status st = LIMN_OK;
    unsigned mask = ~0u;
    limn_engine *e = limn_mem_calloc(1, sizeof *e);
    LIMN_CHECK(err, e, LIMN_E_NOMEM, "no memory for an engine");
    if (a->cpu_mask[0]) LIMN_TRY(limn_cpu_mask_parse(&mask, a->cpu_mask, err));
    e->cpu_flags = limn_cpu_detect() & mask;
    e->threads = (int)a->threads;
    e->memory = (size_t)a->memory;
    const char *dir = a->models_dir[0] ? a->models_dir : getenv("LIMN_MODELS");
    if (dir && dir[0]) {
        e->models_dir = limn_mem_strdup(dir);
        LIMN_CHECK(err, e->models_dir, LIMN_E_NOMEM, "no memory for an engine");
    }
    e->pack_dir = cache_path(a, "packs");
    e->speed_file = cache_path(a, "speeds");
    *out = e;
    e = NULL;
out:
    limn_engine_free(&e);
    return st;
}

/* All packed weights go; those of a model that stays are packed (or mapped) again when it runs. */
static void drop_checkpoint(limn_engine *e, limn_checkpoint **ckpt, char **key) {
    if (e->backend && *ckpt) limn_backend_forget(e->backend, NULL);
    limn_checkpoint_free(ckpt);
    limn_mem_free(*key);
    *key = NULL;
}

/* A cache that cannot be written costs time on the next start, nothing else. */
static void save_packs(limn_engine *e) {
    limn_err err = {0};
    if (e->backend && limn_backend_save_packs(e->backend, &err) != LIMN_OK)
        limn_log(LIMN_LOG_WARN, "cache", "packed weights were not kept: %s", err.text);
}

void limn_engine_free(limn_engine **engine) {
    limn_engine *e = engine ? *engine : NULL;
    if (!e) return;
    save_packs(e);
    drop_checkpoint(e, &e->ckpt, &e->ckpt_key);
    drop_checkpoint(e, &e->refiner, &e->refiner_key);
    limn_backend_free(&e->backend);
    limn_mem_free(e->models_dir);
    limn_mem_free(e->pack_dir);
    limn_mem_free(e->speed_file);
    limn_mem_free(e);
    *engine = NULL;
}

limn_status limn_engine_backend(limn_backend **out, limn_engine *e, limn_gen_precision precision,
                                limn_err *err) {
    static const limn_precision of[] = {[LIMN_GEN_PRECISION_AUTO] = LIMN_PRECISION_FAST,
                                        [LIMN_GEN_PRECISION_EXACT] = LIMN_PRECISION_EXACT,
                                        [LIMN_GEN_PRECISION_BF16] = LIMN_PRECISION_FAST,
                                        [LIMN_GEN_PRECISION_INT8] = LIMN_PRECISION_INT8};
    if (precision == LIMN_GEN_PRECISION_BF16 && !(e->cpu_flags & LIMN_CPU_AVX512BF16))
        return limn_fail(err, LIMN_E_UNSUPPORTED,
                         "this processor has no bf16 arithmetic; use --precision auto or exact");
    if (!e->backend || e->precision != of[precision]) {
        save_packs(e);
        limn_backend_free(&e->backend);
        limn_cpu_options o = {.threads = e->threads,
                              .cpu_flags = e->cpu_flags,
                              .precision = of[precision],
                              .pack_dir = e->pack_dir};
        limn_status st = limn_backend_new_cpu(&e->backend, &o, err);
        if (st != LIMN_OK) return st;
        e->precision = of[precision];
        limn_backend_share(e->backend, e->turns);
    }
    *out = e->backend;
    return LIMN_OK;
}

/* Everything that decides how a checkpoint is opened, as one text. */
static void key_of(limn_buf *key, const limn_gen *g) {
    limn_buf_addf(key, "%s\n%s\n%d\n%g\n", g->model, g->vae, g->prediction,
                  limn_gen_has(g, "shift") ? g->shift : 0);
    for (int i = 0; i < g->embeddings.count; i++) limn_buf_addf(key, "%s\n", g->embeddings.item[i]);
}

/* -1: what the model says */
static int prediction_of(const limn_gen *g) {
    switch (g->prediction) {
    case LIMN_GEN_PREDICTION_EPS: return LIMN_PREDICT_EPS;
    case LIMN_GEN_PREDICTION_V: return LIMN_PREDICT_V;
    case LIMN_GEN_PREDICTION_FLOW: return LIMN_PREDICT_FLOW;
    default: return -1;
    }
}

enum { NOTE_BYTES = 256 }; /* as limn_engine_checkpoint promises */

static limn_status model_path(char **path, const limn_engine *e, const limn_gen *g, char *note,
                              limn_err *err) {
    if (g->model[0])
        return limn_engine_find(path, e, g->model, "|checkpoints|Stable-diffusion", err);
    *path = limn_engine_bundled("mini-draw");
    if (!*path)
        return limn_fail(
            err, LIMN_E_NOT_FOUND,
            "no model was named and the bundled mini-draw is not installed: give --model FILE, any "
            "Stable Diffusion 1.x, 2.x or SDXL checkpoint");
    snprintf(
        note, NOTE_BYTES, "%s",
        "drawing with the bundled mini-draw (small pictures of everyday things); for more give "
        "--model FILE, any Stable Diffusion 1.x, 2.x or SDXL checkpoint");
    return LIMN_OK;
}

static limn_status open_checkpoint(limn_engine *e, const limn_gen *g, char *note, limn_err *err) {
    char *path = NULL, *vae = NULL;
    char **embeddings = NULL;
    limn_status st = LIMN_OK;
    LIMN_TRY(model_path(&path, e, g, note, err));
    if (g->vae[0]) LIMN_TRY(limn_engine_find(&vae, e, g->vae, "vae|VAE|", err));
    embeddings = limn_mem_calloc((size_t)g->embeddings.count + 1, sizeof *embeddings);
    LIMN_CHECK(err, embeddings, LIMN_E_NOMEM, "no memory for embeddings");
    for (int i = 0; i < g->embeddings.count; i++)
        LIMN_TRY(limn_engine_find(&embeddings[i], e, g->embeddings.item[i], "embeddings|", err));
    char *taesd = NULL;
    if (g->tiny_vae && limn_engine_find(&taesd, e, "taesd", "vae_approx|", NULL) != LIMN_OK)
        taesd = NULL; /* the --vae file may be one; decoding says when there is none */
    limn_checkpoint_options o = {.vae_path = vae,
                                 .taesd_path = taesd,
                                 .prediction = prediction_of(g),
                                 .shift = limn_gen_has(g, "shift") ? g->shift : 0,
                                 .embeddings = (const char *const *)embeddings,
                                 .n_embeddings = g->embeddings.count};
    st = limn_checkpoint_open(&e->ckpt, path, &o, err);
    limn_mem_free(taesd);
out:
    for (int i = 0; embeddings && i < g->embeddings.count; i++) limn_mem_free(embeddings[i]);
    limn_mem_free(embeddings);
    limn_mem_free(path);
    limn_mem_free(vae);
    return st;
}

limn_status limn_engine_checkpoint(limn_checkpoint **out, limn_engine *e, const limn_gen *g,
                                   char *note, limn_err *err) {
    limn_buf key;
    limn_buf_init(&key, 1 << 20);
    key_of(&key, g);
    limn_status st = LIMN_OK;
    note[0] = 0;
    if (!e->ckpt || strcmp(e->ckpt_key, limn_buf_text(&key)) != 0) {
        save_packs(e);
        drop_checkpoint(e, &e->ckpt, &e->ckpt_key);
        st = open_checkpoint(e, g, note, err);
        if (st == LIMN_OK) e->ckpt_key = limn_buf_take(&key);
        if (st == LIMN_OK && !e->ckpt_key) {
            drop_checkpoint(e, &e->ckpt, &e->ckpt_key);
            st = limn_fail(err, LIMN_E_NOMEM, "no memory for a model");
        }
    }
    limn_buf_deinit(&key);
    *out = e->ckpt;
    return st;
}

limn_status limn_engine_refiner(limn_checkpoint **out, limn_engine *e, const limn_gen *g,
                                limn_err *err) {
    limn_status st = LIMN_OK;
    char *path = NULL;
    *out = NULL;
    if (!g->refiner[0]) return LIMN_OK;
    if (!e->refiner || strcmp(e->refiner_key, g->refiner) != 0) {
        limn_checkpoint_options o = {.prediction = -1};
        save_packs(e);
        drop_checkpoint(e, &e->refiner, &e->refiner_key);
        LIMN_TRY(limn_engine_find(&path, e, g->refiner, "|checkpoints|Stable-diffusion", err));
        LIMN_TRY(limn_checkpoint_open(&e->refiner, path, &o, err));
        e->refiner_key = limn_mem_strdup(g->refiner);
        LIMN_CHECK(err, e->refiner_key, LIMN_E_NOMEM, "no memory for a model");
    }
    LIMN_CHECK(err,
               e->refiner->unet_cfg.in_channels == e->ckpt->unet_cfg.in_channels &&
                   e->refiner->latent_scale == e->ckpt->latent_scale,
               LIMN_E_SHAPE, "%s: its latents are not those of %s", g->refiner, e->ckpt->path);
    *out = e->refiner;
out:
    limn_mem_free(path);
    if (st != LIMN_OK) drop_checkpoint(e, &e->refiner, &e->refiner_key);
    return st;
}

limn_status limn_draw_check(limn_engine *e, const limn_params *gen, limn_err *err) {
    const limn_gen *g = limn_gen_of(gen);
    char note[256] = "", *path = NULL;
    limn_status st = LIMN_OK;
    LIMN_TRY(limn_draw_names_check(g, err));
    LIMN_TRY(limn_init_check(g, err));
    LIMN_TRY(model_path(&path, e, g, note, err));
    limn_mem_free(path);
    path = NULL;
    if (g->vae[0]) LIMN_TRY(limn_engine_find(&path, e, g->vae, "vae|VAE|", err));
    limn_mem_free(path);
    path = NULL;
    if (g->refiner[0])
        LIMN_TRY(limn_engine_find(&path, e, g->refiner, "|checkpoints|Stable-diffusion", err));
    if (g->upscale > 1) LIMN_TRY(limn_upscaler_check(e, g->upscaler, err));
    if (limn_gen_wants_hires(g)) LIMN_TRY(limn_upscaler_check(e, g->hires_upscaler, err));
out:
    limn_mem_free(path);
    return st;
}

/* ---- lists ---- */
static bool sampler_choice(limn_choice *out, int i) {
    if (i >= limn_solver_count) return false;
    const limn_solver_row *r = &limn_solvers[i];
    *out = (limn_choice){r->label, r->aliases, r->about};
    return true;
}

static bool schedule_choice(limn_choice *out, int i) {
    if (i >= limn_schedule_count) return false;
    const limn_schedule *r = &limn_schedules[i];
    *out = (limn_choice){r->name, r->aliases, r->about};
    return true;
}

static bool model_choice(limn_choice *out, int i) {
    char *path = i == 0 ? limn_engine_bundled("mini-draw") : NULL;
    if (!path) return false;
    limn_mem_free(path);
    *out = (limn_choice){"mini-draw", NULL, "comes with limn: small pictures of everyday things"};
    return true;
}

bool limn_engine_choice(limn_choice *out, const char *list, int index) {
    static const struct {
        const char *list;
        bool (*get)(limn_choice *out, int i);
    } rows[] = {{"sampler", sampler_choice},
                {"schedule", schedule_choice},
                {"upscaler", limn_upscaler_choice},
                {"task", limn_task_choice},
                {"model", model_choice}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (strcmp(rows[i].list, list) == 0) return index >= 0 && rows[i].get(out, index);
    return false;
}
