/* SPDX-License-Identifier: MIT */
/* The runner that draws and sees; see runner_engine.h. */
#include "job/runner_engine.h"

#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/cancel.h"
#include "base/log.h"
#include "image/image.h"
#include "job/grid.h"
#include "job/model_pool.h"
#include "job/request.h"
#include "job/run_see.h"
#include "param/app.h"
#include "param/gen.h"
#include "param/param_json.h"
#include "param/seeing.h"
#include "pipeline/advice.h"
#include "pipeline/draw_memory.h"
#include "pipeline/engine.h"
#include "pipeline/vl_model.h"
#include "pipeline/upscale_stage.h"
#include "text/prompt.h"

typedef struct engine_runner {
    limn_runner head;
    limn_artifacts *artifacts;
    limn_shelf *shelf;
    limn_model_pool *pool;
    char *models_dir;         /* "": none */
    pthread_mutex_t check;    /* of the two below */
    limn_engine *checker;     /* looks names up and plans, computes nothing */
    limn_checkpoint *counted; /* for token counts and costs; its files are mapped, not read */
    char *counted_name;
} engine_runner;

/* ---- what clients may not see ---- */
static void cut_out(char *text, const char *dir) {
    size_t n = strlen(dir);
    for (char *p = text; n > 1 && (p = strstr(p, dir)) != NULL;) {
        size_t skip = p[n] == '/' ? n + 1 : n;
        memmove(p, p + skip, strlen(p + skip) + 1);
    }
}

/* Errors name files; where those lie is nobody's business. */
static limn_status hide_paths(const engine_runner *r, limn_status st, limn_err *err) {
    char dir[4200];
    if (st == LIMN_OK || !err) return st;
    cut_out(err->text, r->models_dir);
    limn_artifacts_path(r->artifacts, dir, sizeof dir,
                        "0000000000000000000000000000000000000000000000000000000000000000");
    if (strlen(dir) > LIMN_SHA_LEN + 4) {
        dir[strlen(dir) - LIMN_SHA_LEN - 4] = 0; /* "/00/" and the name */
        cut_out(err->text, dir);
    }
    return st;
}

/* ---- names ---- */
/* Replaces the value by the shelf's own name for it. */
static limn_status settle_name(engine_runner *r, limn_params *p, const char *row,
                               limn_shelf_kind kind, limn_err *err) {
    limn_shelf_item item;
    limn_status st = limn_shelf_find(r->shelf, &item, kind, limn_params_text(p, row), err);
    if (st != LIMN_OK) return st;
    st = limn_params_set(p, row, item.name, LIMN_FROM_SCRIPT, err);
    limn_shelf_item_deinit(&item);
    return st;
}

static bool is_choice(const char *list, const char *name) {
    limn_choice c;
    for (int i = 0; limn_engine_choice(&c, list, i); i++)
        if (strcasecmp(c.name, name) == 0) return true;
    return false;
}

static limn_status settle_upscaler(engine_runner *r, limn_params *p, const char *row,
                                   limn_err *err) {
    if (is_choice("upscaler", limn_params_text(p, row))) return LIMN_OK;
    return settle_name(r, p, row, LIMN_SHELF_UPSCALER, err);
}

/* "NAME:0.8:0.5": the name must be on the shelf. */
static limn_status check_lora(engine_runner *r, const char *text, limn_err *err) {
    limn_shelf_item item;
    const char *colon = strchr(text, ':');
    char *name = limn_mem_strndup(text, colon ? (size_t)(colon - text) : strlen(text));
    if (!name) return limn_fail(err, LIMN_E_NOMEM, "no memory for a name");
    limn_status st = limn_shelf_find(r->shelf, &item, LIMN_SHELF_LORA, name, err);
    limn_mem_free(name);
    if (st == LIMN_OK) limn_shelf_item_deinit(&item);
    return st;
}

/* Every name in the values, so that a request says the same after the shelf's default changed. */
static limn_status settle_names(engine_runner *r, limn_params *p, limn_err *err) {
    const limn_gen *g = limn_gen_of(p);
    limn_shelf_item item;
    limn_status st = LIMN_OK;
    LIMN_TRY(settle_name(r, p, "model", LIMN_SHELF_DRAW, err));
    if (g->vae[0]) LIMN_TRY(settle_name(r, p, "vae", LIMN_SHELF_VAE, err));
    if (g->refiner[0]) LIMN_TRY(settle_name(r, p, "refiner", LIMN_SHELF_DRAW, err));
    LIMN_TRY(settle_upscaler(r, p, "upscaler", err));
    LIMN_TRY(settle_upscaler(r, p, "hires_upscaler", err));
    for (int i = 0; i < g->loras.count; i++) LIMN_TRY(check_lora(r, g->loras.item[i], err));
    for (int i = 0; i < g->embeddings.count; i++) {
        LIMN_TRY(
            limn_shelf_find(r->shelf, &item, LIMN_SHELF_EMBEDDING, g->embeddings.item[i], err));
        limn_shelf_item_deinit(&item);
    }
out:
    return st;
}

/* ---- pictures by reference ---- */
static limn_status use_file(const engine_runner *r, limn_params *p, const char *row,
                            limn_err *err) {
    char path[4200];
    const char *text = limn_params_text(p, row);
    const char *sha = limn_request_reference(text);
    if (!text[0]) return LIMN_OK;
    if (!sha) return limn_fail(err, LIMN_E_VALUE, "/%s: is not a reference \"artifact:<id>\"", row);
    limn_status st = limn_artifacts_file(r->artifacts, sha, err);
    if (st != LIMN_OK) return st;
    limn_artifacts_path(r->artifacts, path, sizeof path, sha);
    return limn_params_set(p, row, path, LIMN_FROM_SCRIPT, err);
}

/* The values as the pipeline takes them: files in place of references. */
static limn_status use_files(const engine_runner *r, limn_params **out, const limn_params *p,
                             limn_err *err) {
    limn_status st = limn_params_copy(out, p, err);
    if (st == LIMN_OK) st = use_file(r, *out, "init_image", err);
    if (st == LIMN_OK) st = use_file(r, *out, "mask", err);
    if (st != LIMN_OK) limn_params_free(out);
    return st;
}

/* And back, for recipes. */
static limn_status use_references(limn_params *recipe, const limn_params *request, limn_err *err) {
    static const char *const rows[] = {"init_image", "mask"};
    limn_status st = LIMN_OK;
    for (size_t i = 0; i < 2 && st == LIMN_OK; i++)
        if (limn_params_is_set(recipe, rows[i]))
            st = limn_params_set(recipe, rows[i], limn_params_text(request, rows[i]),
                                 LIMN_FROM_SCRIPT, err);
    return st;
}

/* ---- preparing ---- */
/* What limn_draw would refuse; any thread. */
static limn_status check_values(engine_runner *r, const limn_params *p, limn_err *err) {
    limn_params *files = NULL;
    limn_status st = use_files(r, &files, p, err);
    if (st != LIMN_OK) return st;
    pthread_mutex_lock(&r->check);
    st = limn_draw_check(r->checker, files, err);
    pthread_mutex_unlock(&r->check);
    limn_params_free(&files);
    return st;
}

static limn_status prepare_gen(engine_runner *r, limn_job *job, const limn_submit *submit,
                               limn_err *err) {
    limn_params *p = NULL;
    limn_submit s = *submit;
    limn_status st = LIMN_OK;
    LIMN_TRY(limn_params_copy(&p, submit->params, err));
    LIMN_TRY(settle_names(r, p, err));
    s.params = p;
    LIMN_TRY(limn_request_make(job, &s, err));
    LIMN_TRY(check_values(r, p, err));
out:
    limn_params_free(&p);
    return st;
}

/* A grid is refused when one of its cells would be. */
static limn_status prepare_grid(engine_runner *r, limn_job *job, const limn_submit *submit,
                                limn_err *err) {
    limn_grid *g = NULL;
    limn_status st = LIMN_OK;
    LIMN_TRY(prepare_gen(r, job, submit, err));
    LIMN_TRY(limn_grid_parse(&g, job->request, strlen(job->request), err));
    for (int i = 0; i < g->cells; i++) {
        limn_params *cell = NULL;
        LIMN_TRY(limn_grid_cell(&cell, g, i, err));
        st = settle_names(r, cell, err);
        if (st == LIMN_OK) st = check_values(r, cell, err);
        limn_params_free(&cell);
        LIMN_TRY(st);
    }
out:
    limn_grid_free(&g);
    return st;
}

static limn_status prepare_upscale(engine_runner *r, limn_job *job, const limn_submit *submit,
                                   limn_err *err) {
    limn_params *p = NULL;
    limn_submit s = *submit;
    limn_status st = LIMN_OK;
    LIMN_TRY(limn_params_copy(&p, submit->params, err));
    LIMN_TRY(settle_upscaler(r, p, "upscaler", err));
    LIMN_CHECK(err, !limn_upscale_is_latent(limn_gen_of(p)->upscaler), LIMN_E_VALUE,
               "/upscaler: \"Latent\" enlarges latents, not pictures; try Lanczos");
    if (!limn_params_is_set(p, "upscale"))
        LIMN_TRY(limn_params_set(p, "upscale", "2", LIMN_FROM_PROFILE, err));
    s.params = p;
    LIMN_TRY(limn_request_make(job, &s, err));
out:
    limn_params_free(&p);
    return st;
}

/* What decides how the model is opened is for whoever runs the server. */
static limn_status check_see(const limn_params *p, limn_err *err) {
    static const char *const rows[] = {"vision_model", "context",   "sequences",
                                       "cache_type",   "precision", "picture_cache",
                                       "chat_template"};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (limn_params_is_set(p, rows[i]))
            return limn_fail(err, LIMN_E_VALUE, "/%s: is chosen by the server", rows[i]);
    return LIMN_OK;
}

/* How many files come is known when the job runs; the question of "ask" may be a message. */
static limn_status check_task(const limn_params *p, limn_err *err) {
    enum { ANY_FILES = 1 << 20 };
    const limn_seeing *see = limn_seeing_of(p);
    if (strcmp(see->task, "ask") == 0)
        return see->categories.count + see->keys.count == 0 && !see->policy[0]
                   ? LIMN_OK
                   : limn_fail(err, LIMN_E_VALUE, "/task: ask takes no categories, keys or policy");
    limn_status st = limn_task_check(p, ANY_FILES, err);
    if (st == LIMN_OK) return st;
    limn_err_prefix(err, "/task");
    if (st == LIMN_E_USAGE) st = LIMN_E_VALUE; /* whoever asks has no command line */
    if (err) err->status = st;
    return st;
}

static limn_status prepare_see(engine_runner *r, limn_job *job, const limn_submit *submit,
                               limn_err *err) {
    limn_params *p = NULL;
    limn_submit s = *submit;
    limn_status st = LIMN_OK;
    LIMN_TRY(check_see(submit->params, err));
    LIMN_TRY(check_task(submit->params, err));
    LIMN_TRY(limn_params_copy(&p, submit->params, err));
    LIMN_TRY(settle_name(r, p, "model", LIMN_SHELF_SEE, err));
    s.params = p;
    LIMN_TRY(limn_request_make(job, &s, err));
out:
    limn_params_free(&p);
    return st;
}

/* The model that a LOAD or UNLOAD names, of either kind. */
static limn_status find_model(engine_runner *r, limn_shelf_item *out, const char *name,
                              limn_err *err) {
    limn_status st = limn_shelf_find(r->shelf, out, LIMN_SHELF_DRAW, name, err);
    if (st == LIMN_E_NOT_FOUND && name[0] &&
        limn_shelf_find(r->shelf, out, LIMN_SHELF_SEE, name, NULL) == LIMN_OK)
        st = LIMN_OK;
    return st;
}

static limn_status prepare_model(engine_runner *r, limn_job *job, const limn_submit *submit,
                                 limn_err *err) {
    limn_shelf_item item;
    limn_status st = limn_request_make(job, submit, err);
    if (st == LIMN_OK) st = find_model(r, &item, job->model, err);
    if (st != LIMN_OK) return st;
    st = limn_job_set_text(&job->model, item.name, err);
    if (item.kind == LIMN_SHELF_SEE) job->lane = LIMN_JOB_LANE_SEE;
    limn_shelf_item_deinit(&item);
    return st;
}

static limn_status engine_prepare(limn_runner *runner, limn_job *job, const limn_submit *submit,
                                  limn_err *err) {
    engine_runner *r = (engine_runner *)runner;
    limn_status st;
    switch (submit->kind) {
    case LIMN_JOB_DRAW: st = prepare_gen(r, job, submit, err); break;
    case LIMN_JOB_GRID: st = prepare_grid(r, job, submit, err); break;
    case LIMN_JOB_UPSCALE: st = prepare_upscale(r, job, submit, err); break;
    case LIMN_JOB_SEE: st = prepare_see(r, job, submit, err); break;
    default: st = prepare_model(r, job, submit, err);
    }
    return hide_paths(r, st, err);
}

/* ---- drawing ---- */
static void waits(void *user) {
    limn_run_wait_memory(user);
}

static limn_model_user user_of(limn_run *run) {
    return (limn_model_user){.lane = limn_run_job(run)->lane,
                             .cancel = limn_run_cancel(run),
                             .waits = waits,
                             .user = run};
}

typedef struct drawing_run {
    limn_run *run;
    const limn_params *request; /* with references */
    int offset, images;         /* of this drawing among the job's pictures */
    limn_image **picture;       /* wanted by a grid; NULL: not */
} drawing_run;

static void report(void *user, const limn_event *e) {
    const drawing_run *d = user;
    limn_event all = *e;
    all.image += d->offset;
    all.images = d->images;
    if (d->picture) all.left_seconds = -1; /* of this cell only */
    limn_run_report(d->run, &all);
}

static limn_file_options file_options(const limn_gen *g) {
    static const char *const formats[] = {[LIMN_FILE_AUTO] = "png",
                                          [LIMN_FILE_PNG] = "png",
                                          [LIMN_FILE_JPEG] = "jpeg",
                                          [LIMN_FILE_WEBP] = "webp"};
    return (limn_file_options){.format = formats[g->format],
                               .quality = (int)g->quality,
                               .lossless = g->lossless,
                               .compression = (int)g->compression};
}

static limn_status put_picture(limn_run *run, const limn_image *image, const limn_params *recipe,
                               const char *text, limn_err *err) {
    const limn_gen *g = limn_gen_of(recipe);
    limn_file_options how = file_options(g);
    limn_artifact a = {.role = LIMN_ARTIFACT_RESULT};
    void *data = NULL;
    size_t size;
    limn_status st = LIMN_OK;
    LIMN_TRY(limn_params_format_json(&a.recipe, recipe, false, err));
    LIMN_TRY(limn_job_set_text(&a.text, text, err));
    LIMN_TRY(limn_image_encode(&data, &size, image, &how, g->metadata ? text : NULL, err));
    LIMN_TRY(limn_run_output(run, &a, data, size, image, err));
out:
    limn_artifact_deinit(&a);
    limn_bytes_free(&data);
    return st;
}

static limn_status picture_done(void *user, const limn_drawing *drawing, int index, limn_err *err) {
    drawing_run *d = user;
    limn_params *recipe = NULL;
    char *text = NULL;
    const limn_image *image = limn_drawing_image(drawing, index);
    limn_status st = LIMN_OK;
    LIMN_TRY(limn_params_copy(&recipe, limn_drawing_params(drawing, index), err));
    LIMN_TRY(use_references(recipe, d->request, err));
    LIMN_TRY(limn_params_format_text(&text, recipe, err));
    LIMN_TRY(put_picture(d->run, image, recipe, text, err));
    if (d->picture) LIMN_TRY(limn_image_copy(d->picture, image, err));
out:
    limn_params_free(&recipe);
    limn_text_free(&text);
    return st;
}

static bool skip(void *user) {
    return limn_run_skip(((const drawing_run *)user)->run);
}

static limn_status draw(engine_runner *r, drawing_run *d, limn_err *err) {
    limn_shelf_item item = {0};
    limn_model_user who = user_of(d->run);
    limn_engine *engine;
    limn_params *files = NULL;
    limn_drawing *drawing = NULL;
    limn_watch watch = {.event = report,
                        .user = d,
                        .cancel = limn_run_cancel(d->run),
                        .picture = picture_done,
                        .skip = d->picture ? NULL : skip,
                        .preview_every = limn_run_job(d->run)->preview_every};
    limn_status st = LIMN_OK;
    LIMN_TRY(limn_shelf_find(r->shelf, &item, LIMN_SHELF_DRAW,
                             limn_params_text(d->request, "model"), err));
    LIMN_TRY(limn_model_pool_draw(r->pool, &engine, &item, &who, err));
    LIMN_TRY(use_files(r, &files, d->request, err));
    LIMN_TRY(settle_names(r, files, err)); /* axes of grids come as they were written */
    LIMN_TRY(limn_draw(&drawing, engine, files, &watch, err));
out:
    limn_drawing_free(&drawing);
    limn_params_free(&files);
    limn_shelf_item_deinit(&item);
    return st;
}

static limn_status run_draw(engine_runner *r, limn_run *run, limn_err *err) {
    limn_params *p = NULL;
    limn_status st = limn_request_params(&p, limn_run_job(run), err);
    if (st != LIMN_OK) return st;
    drawing_run d = {.run = run, .request = p, .images = limn_run_job(run)->images};
    st = draw(r, &d, err);
    limn_params_free(&p);
    return st;
}

static limn_status draw_cell(void *user, limn_run *run, const limn_params *cell, int index,
                             int cells, limn_image **picture, limn_err *err) {
    drawing_run d = {
        .run = run, .request = cell, .offset = index, .images = cells, .picture = picture};
    return draw(user, &d, err);
}

static limn_status run_upscale(engine_runner *r, limn_run *run, limn_err *err) {
    limn_params *p = NULL;
    limn_model_user who = user_of(run);
    limn_engine *engine;
    void *data = NULL;
    size_t size;
    char *text = NULL;
    limn_image *image = NULL, *large = NULL;
    limn_watch watch = {.cancel = limn_run_cancel(run)};
    limn_status st = LIMN_OK;
    LIMN_TRY(limn_request_params(&p, limn_run_job(run), err));
    const char *sha = limn_request_reference(limn_gen_of(p)->init_image);
    LIMN_CHECK(err, sha, LIMN_E_FORMAT, "the stored request has no picture");
    limn_run_report(run, &(limn_event){.stage = "upscale", .images = 1, .left_seconds = -1});
    LIMN_TRY(limn_artifacts_read(r->artifacts, &data, &size, sha, err));
    LIMN_TRY(limn_image_decode(&image, data, size, err));
    LIMN_TRY(limn_model_pool_draw(r->pool, &engine, NULL, &who, err));
    LIMN_TRY(limn_upscale(&large, engine, image, p, &watch, err));
    /* the recipe inside the picture stays with it */
    if (limn_image_decode_text(&text, data, size, NULL) != LIMN_OK) text = NULL;
    LIMN_TRY(put_picture(run, large, p, text ? text : "", err));
out:
    limn_text_free(&text);
    limn_mem_free(data);
    limn_image_free(&image);
    limn_image_free(&large);
    limn_params_free(&p);
    return st;
}

/* ---- seeing and models ---- */
static limn_status open_seer(engine_runner *r, limn_run *run, limn_seer **out,
                             const limn_shelf_item *item, limn_err *err) {
    limn_params *how = NULL;
    limn_model_user who = user_of(run);
    limn_status st = LIMN_OK;
    LIMN_TRY(limn_params_new(&how, LIMN_PARAMS_SEE, err));
    LIMN_TRY(limn_params_set(how, "model", item->path, LIMN_FROM_SCRIPT, err));
    LIMN_TRY(limn_model_pool_see(r->pool, out, item, how, &who, err));
out:
    limn_params_free(&how);
    return st;
}

static limn_status run_see(engine_runner *r, limn_run *run, limn_err *err) {
    limn_params *p = NULL;
    limn_seer *seer;
    limn_shelf_item item = {0};
    limn_status st = LIMN_OK;
    limn_run_report(run, &(limn_event){.stage = "load", .left_seconds = -1});
    LIMN_TRY(limn_request_params(&p, limn_run_job(run), err));
    LIMN_TRY(limn_shelf_find(r->shelf, &item, LIMN_SHELF_SEE, limn_seeing_of(p)->model, err));
    LIMN_TRY(open_seer(r, run, &seer, &item, err));
    LIMN_TRY(limn_run_see(run, seer, p, err));
out:
    limn_shelf_item_deinit(&item);
    limn_params_free(&p);
    return st;
}

static limn_status run_load(engine_runner *r, limn_run *run, limn_err *err) {
    limn_shelf_item item = {0};
    limn_model_user who = user_of(run);
    limn_engine *engine;
    limn_seer *seer;
    limn_checkpoint *ckpt;
    limn_params *p = NULL;
    char note[256];
    limn_status st = LIMN_OK;
    limn_run_report(run, &(limn_event){.stage = "load", .left_seconds = -1});
    LIMN_TRY(find_model(r, &item, limn_run_job(run)->model, err));
    if (item.kind == LIMN_SHELF_SEE) {
        st = open_seer(r, run, &seer, &item, err);
        goto out;
    }
    LIMN_TRY(limn_params_new(&p, LIMN_PARAMS_GEN, err));
    LIMN_TRY(limn_params_set(p, "model", item.name, LIMN_FROM_SCRIPT, err));
    LIMN_TRY(limn_model_pool_draw(r->pool, &engine, &item, &who, err));
    LIMN_TRY(limn_engine_checkpoint(&ckpt, engine, limn_gen_of(p), note, err));
out:
    limn_params_free(&p);
    limn_shelf_item_deinit(&item);
    return st;
}

static limn_status run_unload(engine_runner *r, limn_run *run, limn_err *err) {
    limn_shelf_item item = {0};
    limn_status st = find_model(r, &item, limn_run_job(run)->model, err);
    if (st == LIMN_OK) st = limn_model_pool_close_one(r->pool, item.kind, item.name, err);
    limn_shelf_item_deinit(&item);
    return st;
}

static limn_status engine_run(limn_runner *runner, limn_run *run, limn_err *err) {
    engine_runner *r = (engine_runner *)runner;
    limn_status st;
    switch (limn_run_job(run)->kind) {
    case LIMN_JOB_DRAW: st = run_draw(r, run, err); break;
    case LIMN_JOB_UPSCALE: st = run_upscale(r, run, err); break;
    case LIMN_JOB_GRID: st = limn_grid_run(run, draw_cell, r, err); break;
    case LIMN_JOB_SEE: st = run_see(r, run, err); break;
    case LIMN_JOB_LOAD: st = run_load(r, run, err); break;
    case LIMN_JOB_UNLOAD: st = run_unload(r, run, err); break;
    default: st = limn_fail(err, LIMN_E_UNSUPPORTED, "the engine does not know this kind of job");
    }
    limn_model_pool_settle(r->pool, limn_run_job(run)->lane);
    return hide_paths(r, st, err);
}

static void engine_idle(limn_runner *runner) {
    limn_model_pool_save(((engine_runner *)runner)->pool);
}

static void engine_ready_model(limn_runner *runner, limn_job_lane lane, char *out, size_t size) {
    unsigned kinds = 1u << LIMN_SHELF_DRAW | 1u << LIMN_SHELF_SEE;
    if (lane == LIMN_JOB_LANE_DRAW) kinds = 1u << LIMN_SHELF_DRAW;
    if (lane == LIMN_JOB_LANE_SEE) kinds = 1u << LIMN_SHELF_SEE;
    limn_model_pool_last(((engine_runner *)runner)->pool, kinds, out, size);
}

/* ---- the runner ---- */
static void engine_close(limn_runner *runner) {
    engine_runner *r = (engine_runner *)runner;
    limn_model_pool_free(&r->pool);
    limn_shelf_free(&r->shelf);
    limn_engine_free(&r->checker);
    limn_checkpoint_free(&r->counted);
    limn_mem_free(r->counted_name);
    limn_mem_free(r->models_dir);
    pthread_mutex_destroy(&r->check);
    limn_mem_free(r);
}

static const limn_runner_ops engine_ops = {.name = "engine",
                                           .close = engine_close,
                                           .prepare = engine_prepare,
                                           .run = engine_run,
                                           .idle = engine_idle,
                                           .ready_model = engine_ready_model};

limn_status limn_runner_engine_new(limn_runner **out, const limn_params *app,
                                   limn_artifacts *artifacts, limn_err *err) {
    limn_status st = LIMN_OK;
    *out = NULL;
    engine_runner *r = limn_mem_calloc(1, sizeof *r);
    if (!r || pthread_mutex_init(&r->check, NULL) != 0) {
        limn_mem_free(r);
        return limn_fail(err, LIMN_E_NOMEM, "no memory for a runner");
    }
    r->head.ops = &engine_ops;
    r->artifacts = artifacts;
    LIMN_TRY(limn_engine_new(&r->checker, app, err));
    r->checker->names_only = true;
    r->checker->threads = 1; /* plans, and computes nothing */
    r->models_dir = limn_mem_strdup(r->checker->models_dir ? r->checker->models_dir : "");
    LIMN_CHECK(err, r->models_dir, LIMN_E_NOMEM, "no memory for a runner");
    LIMN_TRY(limn_shelf_new(&r->shelf, r->checker->models_dir, err));
    LIMN_TRY(limn_model_pool_new(&r->pool, app, err));
    *out = &r->head;
    return LIMN_OK;
out:
    engine_close(&r->head);
    return st;
}

limn_status limn_queue_open_engine(limn_queue **out, const char *dir, const limn_params *app,
                                   const limn_queue_options *opt, limn_err *err) {
    limn_artifacts *artifacts = NULL;
    limn_runner *runner = NULL;
    limn_store *store = NULL;
    limn_status st = LIMN_OK;
    *out = NULL;
    LIMN_TRY(limn_queue_files_open(&store, &artifacts, dir, err));
    LIMN_TRY(limn_runner_engine_new(&runner, app, artifacts, err));
    return limn_queue_open(out, store, artifacts, runner, opt, err);
out:
    limn_store_close(&store);
    limn_artifacts_close(&artifacts);
    return st;
}

static engine_runner *self(limn_runner *runner) {
    return runner->ops == &engine_ops ? (engine_runner *)runner : NULL;
}

limn_shelf *limn_runner_engine_shelf(limn_runner *runner) {
    engine_runner *r = self(runner);
    return r ? r->shelf : NULL;
}

limn_status limn_runner_engine_models(limn_runner *runner, limn_shelf_page *out, unsigned kinds,
                                      limn_err *err) {
    engine_runner *r = self(runner);
    *out = (limn_shelf_page){0};
    if (!r) return LIMN_OK;
    limn_status st = limn_shelf_list(r->shelf, out, kinds, err);
    for (int i = 0; i < out->count; i++) {
        limn_shelf_item *item = &out->items[i];
        int64_t memory = limn_model_pool_memory_of(r->pool, item->kind, item->name);
        item->loaded = memory >= 0;
        item->memory = memory >= 0 ? memory : 0;
    }
    return st;
}

void limn_runner_engine_memory(limn_runner *runner, limn_model_memory *out) {
    engine_runner *r = self(runner);
    *out = (limn_model_memory){0};
    if (r) limn_model_pool_memory(r->pool, &out->budget, &out->used, &out->loaded);
}

int64_t limn_runner_engine_context(limn_runner *runner, const char *model) {
    engine_runner *r = self(runner);
    return r ? limn_model_pool_context(r->pool, model) : 0;
}

int64_t limn_runner_engine_need(const limn_shelf_item *item) {
    return limn_model_pool_need(item);
}

/* ---- token counts ---- */
enum { COUNTED_STEPS = 20 }; /* where [a:b:N] changes does not matter here: every wording counts */

/* How many tokens of each chunk the fullest wording of a prompt takes: of [a:b:5], [a|b] and AND
 * the one with the most. */
static limn_status add_used(limn_buf *out, const limn_text_encoder *te, const limn_prompt *p,
                            limn_err *err) {
    const limn_prompt_encode_options opt = {.embeddings = te->embeddings,
                                            .n_embeddings = te->n_embeddings,
                                            .pad = te->cfg.pad,
                                            .comma_backtrack = 20,
                                            .window = te->window};
    limn_prompt_chunk *most = NULL;
    size_t n_most = 0, best = 0;
    limn_status st = LIMN_OK;
    for (size_t i = 0; i < p->n_parts; i++) {
        for (size_t v = 0; v < p->parts[i].n_variants; v++) {
            const char *text = p->parts[i].variants[v].encoder[0];
            limn_prompt_chunk *chunks = NULL;
            size_t n, sum = 0;
            LIMN_TRY(limn_prompt_encode(&chunks, &n, te->tokenizer, text, strlen(text), &opt, err));
            for (size_t c = 0; c < n; c++) sum += (size_t)chunks[c].used;
            bool fuller = !most || n > n_most || (n == n_most && sum > best);
            limn_mem_free(fuller ? most : chunks);
            if (!fuller) continue;
            most = chunks;
            n_most = n;
            best = sum;
        }
    }
    for (size_t c = 0; c < n_most; c++) limn_buf_addf(out, "%s%d", c ? "," : "", most[c].used);
out:
    limn_mem_free(most);
    return st;
}

/* The text as a drawing would read it. What is no prompt (a wildcard without a file, a LoRA whose
 * weight is no number) counts as it stands: it may be in the middle of being typed. */
static limn_status count_prompt(limn_buf *out, engine_runner *r, const char *text, limn_err *err) {
    const limn_text_encoder *te = &r->counted->text[0];
    char *wildcards = NULL;
    limn_prompt *p = NULL;
    limn_status st = LIMN_OK;
    if (limn_engine_find(&wildcards, r->checker, "wildcards", "", NULL) != LIMN_OK)
        wildcards = NULL;
    limn_prompt_options opt = {.steps = COUNTED_STEPS, .wildcard_dir = wildcards};
    if (limn_prompt_parse(&p, text, strlen(text), &opt, NULL) != LIMN_OK) {
        opt.raw = true;
        LIMN_TRY(limn_prompt_parse(&p, text, strlen(text), &opt, err));
    }
    LIMN_TRY(add_used(out, te, p, err));
out:
    limn_prompt_free(&p);
    limn_mem_free(wildcards);
    return st;
}

static limn_status count_tokens(limn_buf *out, const limn_tokenizer *t, const char *text,
                                int window, limn_err *err) {
    limn_ids ids;
    limn_status st = LIMN_OK;
    limn_ids_init(&ids, 1 << 20);
    LIMN_TRY(limn_tokenizer_encode(t, &ids, text, strlen(text), 0, err));
    int room = window > 2 ? window - 2 : 0;
    limn_buf_addf(out, "{\"count\":%zu,\"limit\":%d,\"chunks\":%zu,\"tokens\":[", ids.len, room,
                  room ? (ids.len + (size_t)room - 1) / (size_t)room : (size_t)1);
    for (size_t i = 0; i < ids.len; i++) {
        limn_text_view v = limn_tokenizer_bytes(t, ids.data[i]);
        char *piece = limn_mem_strndup(v.data, v.len);
        limn_buf_addf(out, "%s{\"id\":%d,\"text\":", i ? "," : "", ids.data[i]);
        limn_json_add_string(out,
                             piece && limn_utf8_is_valid(piece, v.len) ? piece : "\xef\xbf\xbd");
        limn_buf_addc(out, '}');
        limn_mem_free(piece);
    }
    limn_buf_adds(out, "],\"used\":[");
out:
    limn_ids_deinit(&ids);
    return st;
}

/* `check` held. Opening maps files and reads configs; the last one is kept. */
static limn_status open_counted(engine_runner *r, const limn_shelf_item *item, limn_err *err) {
    limn_checkpoint_options o = {.prediction = -1};
    if (r->counted && strcmp(r->counted_name, item->name) == 0) return LIMN_OK;
    limn_checkpoint_free(&r->counted);
    limn_status st = limn_job_set_text(&r->counted_name, item->name, err);
    return st == LIMN_OK ? limn_checkpoint_open(&r->counted, item->path, &o, err) : st;
}

/* ---- costs ---- */
/* What decides how much memory a drawing takes, as a number that grows with it. */
static double size_of(const limn_gen *g) {
    double scale = limn_gen_wants_hires(g) ? g->hires_scale * g->hires_scale : 1;
    if (limn_gen_has(g, "hires_width") && g->hires_width > 0)
        scale = (double)(g->hires_width * g->hires_width) / (double)(g->width * g->width);
    return (double)(g->width * g->height * g->batch_size) * scale;
}

static limn_status cost_of(engine_runner *r, limn_draw_cost *out, const limn_params *p,
                           limn_err *err) {
    const limn_gen *g = limn_gen_of(p);
    limn_shelf_item item = {0};
    int64_t work = 0;
    limn_status st = LIMN_OK;
    LIMN_TRY(limn_shelf_find(r->shelf, &item, LIMN_SHELF_DRAW, g->model, err));
    LIMN_TRY(open_counted(r, &item, err));
    LIMN_TRY(limn_draw_memory(&work, r->checker, r->counted, g, err));
    int64_t open = limn_model_pool_memory_of(r->pool, item.kind, item.name);
    int64_t model = open > 0 ? open : limn_model_pool_need(&item);
    if (model > out->model) out->model = model;
    if (work > out->work) out->work = work;
out:
    limn_shelf_item_deinit(&item);
    return st;
}

/* The largest cell of each model. */
static limn_status grid_cost(engine_runner *r, limn_draw_cost *out, const limn_job *job,
                             limn_err *err) {
    limn_grid *g = NULL;
    limn_params *cell[LIMN_GRID_CELLS] = {0};
    limn_status st = LIMN_OK;
    int kept = 0;
    LIMN_TRY(limn_grid_parse(&g, job->request, strlen(job->request), err));
    for (int i = 0; i < g->cells; i++) {
        limn_params *p = NULL;
        int at = 0;
        LIMN_TRY(limn_grid_cell(&p, g, i, err));
        const char *model = limn_gen_of(p)->model;
        while (at < kept && strcmp(limn_gen_of(cell[at])->model, model) != 0) at++;
        if (at == kept) {
            cell[kept++] = p;
        } else if (size_of(limn_gen_of(p)) > size_of(limn_gen_of(cell[at]))) {
            limn_params_free(&cell[at]);
            cell[at] = p;
        } else {
            limn_params_free(&p);
        }
    }
    for (int i = 0; i < kept; i++) LIMN_TRY(cost_of(r, out, cell[i], err));
out:
    for (int i = 0; i < kept; i++) limn_params_free(&cell[i]);
    limn_grid_free(&g);
    return st;
}

limn_status limn_runner_engine_cost(limn_runner *runner, limn_draw_cost *out, const limn_job *job,
                                    limn_err *err) {
    engine_runner *r = self(runner);
    limn_params *p = NULL;
    limn_status st = LIMN_OK;
    *out = (limn_draw_cost){0};
    if (!r) return limn_fail(err, LIMN_E_UNSUPPORTED, "this engine takes no memory");
    pthread_mutex_lock(&r->check);
    if (job->kind == LIMN_JOB_GRID) {
        LIMN_TRY(grid_cost(r, out, job, err));
    } else {
        LIMN_TRY(limn_params_new(&p, LIMN_PARAMS_GEN, err));
        LIMN_TRY(limn_params_parse_json(p, job->request, strlen(job->request), LIMN_FROM_API, err));
        LIMN_TRY(cost_of(r, out, p, err));
    }
out:
    pthread_mutex_unlock(&r->check);
    limn_params_free(&p);
    return hide_paths(r, st, err);
}

static limn_status advise_size(limn_params *p, const limn_checkpoint *ckpt, limn_err *err) {
    char side[24];
    snprintf(side, sizeof side, "%lld", (long long)ckpt->native_size);
    limn_status st = limn_params_set(p, "width", side, LIMN_FROM_MODEL, err);
    return st == LIMN_OK ? limn_params_set(p, "height", side, LIMN_FROM_MODEL, err) : st;
}

limn_status limn_runner_engine_advice(limn_runner *runner, char **out, const char *model,
                                      limn_err *err) {
    engine_runner *r = self(runner);
    limn_shelf_item item = {0};
    limn_params *p = NULL;
    limn_status st = LIMN_OK;
    *out = NULL;
    if (!r) return limn_fail(err, LIMN_E_UNSUPPORTED, "this engine has no models");
    pthread_mutex_lock(&r->check);
    LIMN_TRY(limn_shelf_find(r->shelf, &item, LIMN_SHELF_DRAW, model, err));
    LIMN_TRY(open_counted(r, &item, err));
    LIMN_TRY(limn_params_new(&p, LIMN_PARAMS_GEN, err));
    LIMN_TRY(limn_advice_apply(p, r->counted, err));
    LIMN_TRY(advise_size(p, r->counted, err));
    LIMN_TRY(limn_params_format_json(out, p, false, err));
out:
    pthread_mutex_unlock(&r->check);
    limn_shelf_item_deinit(&item);
    limn_params_free(&p);
    return hide_paths(r, st, err);
}

/* A model's tokenizer while `check` is held. *window: of a drawing model, else 0. *vl: to be freed
 * after its use. */
static limn_status open_tokenizer(engine_runner *r, const limn_tokenizer **out, int *window,
                                  limn_vl_model **vl, const char *model, limn_err *err) {
    limn_shelf_item item = {0};
    limn_status st = LIMN_OK;
    *window = 0;
    LIMN_TRY(find_model(r, &item, model, err));
    if (item.kind == LIMN_SHELF_SEE) {
        LIMN_TRY(limn_vl_model_open(vl, item.path, NULL, LIMN_SEEING_TEMPLATE_AUTO, err));
        *out = (*vl)->tokenizer;
    } else {
        LIMN_TRY(open_counted(r, &item, err));
        LIMN_CHECK(err, r->counted->n_text > 0, LIMN_E_UNSUPPORTED, "the model reads no text");
        *out = r->counted->text[0].tokenizer;
        *window = r->counted->text[0].window;
    }
out:
    limn_shelf_item_deinit(&item);
    return st;
}

limn_status limn_runner_engine_tokens(limn_runner *runner, char **out, const char *model,
                                      const char *text, limn_err *err) {
    engine_runner *r = self(runner);
    const limn_tokenizer *t;
    limn_vl_model *vl = NULL;
    limn_buf json;
    limn_status st = LIMN_OK;
    int window;
    *out = NULL;
    if (!r) return limn_fail(err, LIMN_E_UNSUPPORTED, "this engine has no tokenizer");
    limn_buf_init(&json, 16 << 20);
    pthread_mutex_lock(&r->check);
    LIMN_TRY(open_tokenizer(r, &t, &window, &vl, model, err));
    LIMN_TRY(count_tokens(&json, t, text, window, err));
    if (window > 0) LIMN_TRY(count_prompt(&json, r, text, err));
    limn_buf_adds(&json, "]}");
    *out = limn_buf_take(&json);
    LIMN_CHECK(err, *out, LIMN_E_NOMEM, "no memory for tokens");
out:
    pthread_mutex_unlock(&r->check);
    limn_vl_model_free(&vl);
    limn_buf_deinit(&json);
    return hide_paths(r, st, err);
}

limn_status limn_runner_engine_text(limn_runner *runner, char **out, const char *model,
                                    const int32_t *ids, size_t n, limn_err *err) {
    engine_runner *r = self(runner);
    const limn_tokenizer *t;
    limn_vl_model *vl = NULL;
    limn_buf text;
    limn_status st = LIMN_OK;
    int window;
    *out = NULL;
    if (!r) return limn_fail(err, LIMN_E_UNSUPPORTED, "this engine has no tokenizer");
    limn_buf_init(&text, 16 << 20);
    pthread_mutex_lock(&r->check);
    LIMN_TRY(open_tokenizer(r, &t, &window, &vl, model, err));
    LIMN_TRY(limn_tokenizer_decode(t, &text, ids, n, 0, err));
    limn_buf_addc(&text, 0); /* also when nothing was written */
    *out = limn_buf_take(&text);
    LIMN_CHECK(err, *out, LIMN_E_NOMEM, "no memory for a text");
out:
    pthread_mutex_unlock(&r->check);
    limn_vl_model_free(&vl);
    limn_buf_deinit(&text);
    return hide_paths(r, st, err);
}
