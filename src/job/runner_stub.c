/* SPDX-License-Identifier: MIT */
/* The runner without models; see runner_stub.h. */
#include "job/runner_stub.h"

#include <jansson.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/cancel.h"
#include "image/image.h"
#include "job/grid.h"
#include "job/request.h"
#include "param/gen.h"
#include "param/param_json.h"

typedef struct stub {
    limn_runner head;
    limn_stub_options opt;
} stub;

/* ---- time ---- */
static void sleep_ms(double ms) {
    struct timespec t = {(time_t)(ms / 1000),
                         (long)((ms - (double)(time_t)(ms / 1000) * 1000) * 1e6)};
    if (ms > 0) nanosleep(&t, NULL);
}

static bool has_word(const stub *s, const limn_run *run, const char *word) {
    return s->opt.misbehave && strstr(limn_run_job(run)->words, word) != NULL;
}

/* What the prompt asks for besides a picture. */
static limn_status misbehave(const stub *s, limn_run *run, limn_err *err) {
    if (has_word(s, run, "stub:die")) raise(SIGKILL);
    if (has_word(s, run, "stub:fail"))
        return limn_fail(err, LIMN_E_NUMERIC, "the prompt asked for a failure");
    if (has_word(s, run, "stub:nomem"))
        return limn_fail(err, LIMN_E_NOMEM, "the prompt asked for too much memory");
    return LIMN_OK;
}

/* One step of pretended work. */
static limn_status step(const stub *s, limn_run *run, limn_err *err) {
    sleep_ms(s->opt.step_ms * (has_word(s, run, "stub:slow") ? 100 : 1));
    if (limn_cancel_is_set(limn_run_cancel(run)) && !has_word(s, run, "stub:deaf"))
        return limn_fail(err, LIMN_E_CANCELLED, "cancelled");
    return LIMN_OK;
}

/* ---- pictures ---- */
/* A gradient whose colours come from the seed. */
static limn_status make_picture(limn_image **out, const stub *s, const limn_gen *g, int64_t seed,
                                limn_err *err) {
    int side = s->opt.picture_side > 0 ? s->opt.picture_side : 64;
    int w = g->width < side ? (int)g->width : side, h = g->height < side ? (int)g->height : side;
    limn_status st = limn_image_new(out, w, h, 3, err);
    if (st != LIMN_OK) return st;
    uint64_t x = (uint64_t)seed * 0x9E3779B97F4A7C15u + 1;
    uint8_t *p = limn_image_pixels(*out);
    for (int v = 0; v < h; v++)
        for (int u = 0; u < w; u++) {
            *p++ = (uint8_t)(u * 255 / w + (int)(x >> 56));
            *p++ = (uint8_t)(v * 255 / h + (int)(x >> 48));
            *p++ = (uint8_t)(x >> 40);
        }
    return LIMN_OK;
}

static limn_status put_picture(limn_run *run, const limn_image *image, const limn_params *params,
                               limn_artifact_role role, limn_err *err) {
    static const char *const formats[] = {"png", "png", "jpeg", "webp"};
    limn_artifact a = {.role = role};
    void *data = NULL;
    size_t size;
    limn_file_options how = LIMN_FILE_OPTIONS;
    limn_status st = LIMN_OK;
    how.format = formats[limn_gen_of(params)->format];
    LIMN_TRY(limn_params_format_json(&a.recipe, params, false, err));
    LIMN_TRY(limn_params_format_text(&a.text, params, err));
    LIMN_TRY(limn_image_encode(&data, &size, image, &how, a.text, err));
    LIMN_TRY(limn_run_output(run, &a, data, size, image, err));
out:
    limn_artifact_deinit(&a);
    limn_bytes_free(&data);
    return st;
}

static limn_status steps_of(const stub *s, limn_run *run, const limn_params *p,
                            const limn_image *picture, int index, int images, limn_err *err) {
    const limn_gen *g = limn_gen_of(p);
    int every = limn_run_job(run)->preview_every;
    limn_status st = LIMN_OK;
    for (int i = 0; i < (int)g->steps && st == LIMN_OK; i++) {
        st = step(s, run, err);
        double left =
            s->opt.step_ms * 1e-3 * (double)((g->steps - i - 1) + g->steps * (images - index - 1));
        limn_event e = {.stage = "denoise",
                        .image = index,
                        .images = images,
                        .step = i + 1,
                        .steps = (int)g->steps,
                        .step_seconds = s->opt.step_ms * 1e-3,
                        .left_seconds = left,
                        .preview = every > 0 && (i + 1) % every == 0 ? picture : NULL};
        if (st == LIMN_OK) limn_run_report(run, &e);
    }
    return st;
}

/* One picture of a drawing or a grid, handed out when somebody wants it. */
static limn_status draw_one(const stub *s, limn_run *run, const limn_params *params, int64_t seed,
                            int index, int images, limn_image **picture, limn_err *err) {
    limn_image *image = NULL;
    limn_params *recipe = NULL;
    limn_status st = LIMN_OK;
    char text[32];
    limn_buf number;
    limn_buf_init(&number, sizeof text);
    limn_buf_addf(&number, "%lld", (long long)seed);
    LIMN_TRY(make_picture(&image, s, limn_gen_of(params), seed, err));
    LIMN_TRY(steps_of(s, run, params, image, index, images, err));
    LIMN_TRY(limn_params_copy(&recipe, params, err));
    LIMN_TRY(limn_params_set(recipe, "seed", limn_buf_text(&number), LIMN_FROM_SCRIPT, err));
    LIMN_TRY(limn_params_set(recipe, "count", "1", LIMN_FROM_SCRIPT, err));
    LIMN_TRY(limn_params_set(recipe, "batch_size", "1", LIMN_FROM_SCRIPT, err));
    LIMN_TRY(put_picture(run, image, recipe, LIMN_ARTIFACT_RESULT, err));
    if (picture) {
        *picture = image;
        image = NULL;
    }
out:
    limn_buf_deinit(&number);
    limn_params_free(&recipe);
    limn_image_free(&image);
    return st;
}

static limn_status run_draw(const stub *s, limn_run *run, limn_err *err) {
    limn_params *p = NULL;
    limn_status st = limn_request_params(&p, limn_run_job(run), err);
    if (st != LIMN_OK) return st;
    const limn_gen *g = limn_gen_of(p);
    int images = (int)(g->count * g->batch_size);
    for (int i = 0; i < images && st == LIMN_OK; i++) {
        st = draw_one(s, run, p, g->seed + i, i, images, NULL, err);
        if (st == LIMN_E_CANCELLED && limn_run_skip(run)) st = LIMN_OK;
    }
    limn_params_free(&p);
    return st;
}

static limn_status draw_cell(void *user, limn_run *run, const limn_params *cell, int index,
                             int cells, limn_image **picture, limn_err *err) {
    return draw_one(user, run, cell, limn_gen_of(cell)->seed, index, cells, picture, err);
}

static limn_status run_upscale(const stub *s, limn_run *run, limn_err *err) {
    limn_params *p = NULL;
    void *data = NULL;
    size_t size;
    limn_image *image = NULL;
    limn_status st = LIMN_OK;
    LIMN_TRY(limn_request_params(&p, limn_run_job(run), err));
    const char *sha = limn_request_reference(limn_gen_of(p)->init_image);
    LIMN_CHECK(err, sha, LIMN_E_FORMAT, "the stored request has no picture");
    LIMN_TRY(step(s, run, err));
    LIMN_TRY(limn_artifacts_read(limn_run_artifacts(run), &data, &size, sha, err));
    LIMN_TRY(limn_image_decode(&image, data, size, err));
    LIMN_TRY(put_picture(run, image, p, LIMN_ARTIFACT_RESULT, err));
out:
    limn_mem_free(data);
    limn_image_free(&image);
    limn_params_free(&p);
    return st;
}

/* ---- words ---- */
/* What was asked for with tools that must be called: the first of them, without arguments. */
static limn_status call_tool(limn_run *run, bool *called, limn_err *err) {
    json_t *root = NULL;
    char *text = NULL;
    const char *request = limn_run_job(run)->request;
    limn_status st = LIMN_OK;
    *called = false;
    LIMN_TRY(limn_json_load(&root, request, strlen(request), err));
    if (!json_is_true(json_object_get(root, "must_call"))) goto out;
    const json_t *tool = json_array_get(json_object_get(root, "tools"), 0);
    json_t *name = json_object_get(json_object_get(tool, "function"), "name");
    json_t *result = json_pack("{s:s, s:[{s:O?, s:{}}], s:s, s:{s:i, s:i, s:i, s:i}}", "text", "",
                               "tool_calls", "name", name, "arguments", "finish_reason",
                               "tool_calls", "usage", "prompt_tokens", 1, "completion_tokens", 1,
                               "image_tokens", 0, "cached_tokens", 0);
    text = result ? json_dumps(result, JSON_COMPACT) : NULL;
    json_decref(result);
    LIMN_CHECK(err, text, LIMN_E_NOMEM, "no memory for an answer");
    *called = true;
    LIMN_TRY(limn_run_result(run, text, err));
out:
    free(text);
    json_decref(root);
    return st;
}

static limn_status run_see(const stub *s, limn_run *run, limn_err *err) {
    const char *words = limn_run_job(run)->words;
    limn_buf answer, result;
    limn_status st = LIMN_OK;
    int tokens = 0;
    bool called;
    st = call_tool(run, &called, err);
    if (st != LIMN_OK || called) return st;
    limn_buf_init(&answer, 1 << 20);
    limn_buf_init(&result, 4 << 20);
    limn_buf_addf(&answer, "You said: %s", words);
    for (const char *p = limn_buf_text(&answer); *p; tokens++) {
        size_t n = strcspn(p, " ");
        n += strspn(p + n, " ");
        LIMN_TRY(step(s, run, err));
        limn_run_text(run, LIMN_SAID_TEXT, p, n, NULL);
        p += n;
    }
    limn_buf_adds(&result, "{\"text\":");
    limn_json_add_string(&result, limn_buf_text(&answer));
    limn_buf_addf(&result,
                  ",\"finish_reason\":\"stop\",\"usage\":{\"prompt_tokens\":%d,"
                  "\"completion_tokens\":%d,\"image_tokens\":0,\"cached_tokens\":0}}",
                  tokens > 2 ? tokens - 2 : 0, tokens);
    LIMN_TRY(limn_run_result(run, limn_buf_text(&result), err));
out:
    limn_buf_deinit(&answer);
    limn_buf_deinit(&result);
    return st;
}

/* ---- vtable ---- */
static limn_status stub_prepare(limn_runner *r, limn_job *job, const limn_submit *submit,
                                limn_err *err) {
    return limn_request_make(job, submit, err);
}

static limn_status stub_run(limn_runner *r, limn_run *run, limn_err *err) {
    stub *s = (stub *)r;
    limn_status st = misbehave(s, run, err);
    if (st != LIMN_OK) return st;
    switch (limn_run_job(run)->kind) {
    case LIMN_JOB_DRAW: return run_draw(s, run, err);
    case LIMN_JOB_UPSCALE: return run_upscale(s, run, err);
    case LIMN_JOB_GRID: return limn_grid_run(run, draw_cell, s, err);
    case LIMN_JOB_SEE: return run_see(s, run, err);
    default: return step(s, run, err);
    }
}

static void stub_close(limn_runner *r) {
    limn_mem_free(r);
}

static const limn_runner_ops stub_ops = {
    .name = "stub", .close = stub_close, .prepare = stub_prepare, .run = stub_run};

limn_status limn_runner_stub_new(limn_runner **out, const limn_stub_options *opt, limn_err *err) {
    stub *s = limn_mem_calloc(1, sizeof *s);
    *out = NULL;
    if (!s) return limn_fail(err, LIMN_E_NOMEM, "no memory for a runner");
    s->head.ops = &stub_ops;
    if (opt) s->opt = *opt;
    *out = &s->head;
    return LIMN_OK;
}
