/* SPDX-License-Identifier: MIT */
/* Requests in canonical form; see request.h. */
#include "job/request.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "job/grid.h"
#include "param/gen.h"
#include "param/param_json.h"
#include "param/seeing.h"

#define SEED_BITS 53 /* exact in JSON readers of every language */
#define REFERENCE "artifact:"

/* ---- references ---- */
const char *limn_request_reference(const char *text) {
    size_t n = strlen(REFERENCE);
    if (strncmp(text, REFERENCE, n) != 0 || strlen(text) != n + LIMN_SHA_LEN) return NULL;
    return limn_sha_is_valid(text + n) ? text + n : NULL;
}

limn_status limn_request_add_input(limn_job *job, const char *text, const char *where,
                                   limn_err *err) {
    const char *sha = limn_request_reference(text);
    limn_artifact a = {.role = LIMN_ARTIFACT_INPUT};
    if (!sha)
        return limn_fail(err, LIMN_E_VALUE, "%s: is not a reference \"artifact:<id>\"", where);
    for (int i = 0; i < job->n_artifacts; i++)
        if (strcmp(job->artifacts[i].sha, sha) == 0) return LIMN_OK;
    memcpy(a.sha, sha, LIMN_SHA_LEN);
    return limn_job_add_artifact(job, &a, err);
}

/* ---- seeds ---- */
static limn_status set_random(limn_params *params, const char *name, limn_err *err) {
    uint64_t bits = 0;
    char text[32];
    if (limn_params_is_set(params, name)) return LIMN_OK;
    if (getrandom(&bits, sizeof bits, 0) != (ssize_t)sizeof bits)
        return limn_fail(err, LIMN_E_UNAVAILABLE, "there is no randomness for a seed");
    snprintf(text, sizeof text, "%llu", (unsigned long long)(bits >> (64 - SEED_BITS)));
    return limn_params_set(params, name, text, LIMN_FROM_API, err);
}

limn_status limn_request_fix_seed(limn_params *params, limn_err *err) {
    limn_status st = set_random(params, "seed", err);
    if (st == LIMN_OK && params->kind == LIMN_PARAMS_GEN &&
        limn_gen_of(params)->variation_strength > 0)
        st = set_random(params, "variation_seed", err);
    return st;
}

/* ---- cost ---- */
double limn_request_work(const limn_params *gen) {
    const limn_gen *g = limn_gen_of(gen);
    double pixels = (double)g->width * (double)g->height / 1e6;
    double work = pixels * (double)g->steps;
    if (limn_gen_wants_hires(g))
        work +=
            pixels * g->hires_scale * g->hires_scale * (double)g->hires_steps * g->hires_strength;
    return work * (double)(g->count * g->batch_size);
}

/* ---- kinds ---- */
static limn_status set_owned(char **field, char *text, limn_err *err) {
    if (!text) return limn_fail(err, LIMN_E_NOMEM, "no memory for a request");
    limn_mem_free(*field);
    *field = text;
    return LIMN_OK;
}

/* What the record of a job says about its picture values. */
static limn_status describe_gen(limn_job *job, const limn_params *params, limn_err *err) {
    const limn_gen *g = limn_gen_of(params);
    limn_status st = LIMN_OK;
    LIMN_TRY(limn_job_set_text(&job->words, g->prompt, err));
    LIMN_TRY(limn_job_set_text(&job->model, g->model, err));
    job->has_seed = limn_gen_has(g, "seed");
    job->seed = g->seed;
    if (g->init_image[0]) LIMN_TRY(limn_request_add_input(job, g->init_image, "/init_image", err));
    if (g->mask[0]) LIMN_TRY(limn_request_add_input(job, g->mask, "/mask", err));
out:
    return st;
}

static limn_status make_draw(limn_job *job, const limn_submit *s, limn_err *err) {
    limn_params *p = NULL;
    limn_status st = LIMN_OK;
    char *json = NULL;
    LIMN_TRY(limn_params_copy(&p, s->params, err));
    const limn_gen *g = limn_gen_of(p);
    int64_t images = g->count * g->batch_size;
    LIMN_CHECK(err, images <= LIMN_REQUEST_IMAGES_MAX, LIMN_E_VALUE,
               "/count: a job makes at most %d pictures, not %lld", LIMN_REQUEST_IMAGES_MAX,
               (long long)images);
    LIMN_TRY(limn_request_fix_seed(p, err));
    LIMN_TRY(describe_gen(job, p, err));
    job->images = (int)images;
    job->work = limn_request_work(p);
    LIMN_TRY(limn_params_format_json(&json, p, false, err));
    LIMN_TRY(set_owned(&job->request, json, err));
out:
    limn_params_free(&p);
    return st;
}

static limn_status make_upscale(limn_job *job, const limn_submit *s, limn_err *err) {
    const limn_gen *g = limn_gen_of(s->params);
    char *json = NULL;
    limn_status st = LIMN_OK;
    LIMN_CHECK(err, g->init_image[0], LIMN_E_VALUE, "/image: an upscale needs a picture");
    LIMN_TRY(describe_gen(job, s->params, err));
    LIMN_TRY(limn_job_set_text(&job->model, g->upscaler, err));
    job->has_seed = false;
    job->images = 1;
    job->work = g->upscale * g->upscale;
    LIMN_TRY(limn_params_format_json(&json, s->params, false, err));
    LIMN_TRY(set_owned(&job->request, json, err));
out:
    return st;
}

static limn_status make_grid(limn_job *job, const limn_submit *s, limn_err *err) {
    limn_params *p = NULL;
    limn_grid *grid = NULL;
    char *params = NULL;
    limn_buf text;
    limn_status st = LIMN_OK;
    limn_buf_init(&text, LIMN_JOB_REQUEST_MAX + 1);
    LIMN_CHECK(err, s->json, LIMN_E_VALUE, "/axes: a grid needs one to three");
    LIMN_TRY(limn_params_copy(&p, s->params, err));
    LIMN_TRY(limn_request_fix_seed(p, err));
    LIMN_TRY(limn_params_format_json(&params, p, false, err));
    /* Members of the given object are checked by limn_grid_parse; "params" is ours. */
    const char *rest = memchr(s->json, '{', s->json_len);
    LIMN_CHECK(err, rest, LIMN_E_VALUE, "a grid is a JSON object");
    limn_buf_addf(&text, "{\"params\":%s,", params);
    limn_buf_add(&text, rest + 1, s->json_len - (size_t)(rest + 1 - s->json));
    LIMN_CHECK(err, !text.failed, LIMN_E_LIMIT, "the request is too long");
    LIMN_TRY(limn_grid_parse(&grid, limn_buf_text(&text), text.len, err));
    LIMN_TRY(describe_gen(job, p, err));
    job->images = grid->cells;
    for (int i = 0; i < grid->cells; i++) {
        limn_params *cell = NULL;
        LIMN_TRY(limn_grid_cell(&cell, grid, i, err));
        job->work += limn_request_work(cell);
        limn_params_free(&cell);
    }
    LIMN_TRY(set_owned(&job->request, limn_buf_take(&text), err));
out:
    limn_grid_free(&grid);
    limn_params_free(&p);
    limn_text_free(&params);
    limn_buf_deinit(&text);
    return st;
}

static limn_status make_model(limn_job *job, const limn_submit *s, limn_err *err) {
    json_t *root = NULL;
    limn_buf text;
    limn_status st = LIMN_OK;
    limn_buf_init(&text, 1 << 16);
    LIMN_CHECK(err, s->json, LIMN_E_VALUE, "/model: is needed");
    LIMN_TRY(limn_json_load(&root, s->json, s->json_len, err));
    const char *model = json_string_value(json_object_get(root, "model"));
    LIMN_CHECK(err, model && json_object_size(root) == 1, LIMN_E_VALUE,
               "/model: a text, and nothing else, is needed");
    LIMN_TRY(limn_job_set_text(&job->model, model, err));
    LIMN_TRY(limn_job_set_text(&job->words, model, err));
    limn_buf_adds(&text, "{\"model\":");
    limn_json_add_string(&text, model);
    limn_buf_addc(&text, '}');
    LIMN_TRY(set_owned(&job->request, limn_buf_take(&text), err));
out:
    json_decref(root);
    limn_buf_deinit(&text);
    return st;
}

/* ---- seeing ---- */
/* One part of a message: text joins the words, pictures become inputs. */
static limn_status read_part(limn_job *job, const json_t *part, limn_buf *words, const char *where,
                             limn_err *err) {
    static const char *const media[] = {"image", "video", "document"};
    const char *type = json_string_value(json_object_get(part, "type"));
    const char *text = json_string_value(json_object_get(part, "text"));
    if (type && strcmp(type, "text") == 0 && text) {
        limn_buf_adds(words, words->len ? "\n" : "");
        limn_buf_adds(words, text);
        return LIMN_OK;
    }
    for (size_t i = 0; type && i < sizeof media / sizeof media[0]; i++) {
        const char *reference = json_string_value(json_object_get(part, media[i]));
        if (strcmp(type, media[i]) == 0 && reference)
            return limn_request_add_input(job, reference, where, err);
    }
    return limn_fail(err, LIMN_E_VALUE,
                     "%s: is neither {\"type\": \"text\", \"text\"} nor"
                     " {\"type\": \"image\", \"image\": \"artifact:<id>\"}, video or document",
                     where);
}

static limn_status read_message(limn_job *job, const json_t *message, limn_buf *words, int index,
                                limn_err *err) {
    char where[64];
    const json_t *content = json_object_get(message, "content");
    const char *role = json_string_value(json_object_get(message, "role"));
    bool user = role && strcmp(role, "user") == 0;
    limn_buf other;
    limn_status st = LIMN_OK;
    limn_buf_init(&other, LIMN_JOB_REQUEST_MAX);
    snprintf(where, sizeof where, "/messages/%d", index);
    LIMN_CHECK(err, role, LIMN_E_VALUE, "%s/role: is needed", where);
    if (user) limn_buf_clear(words); /* the last question is what people search for */
    if (json_is_string(content)) {
        if (user) limn_buf_adds(words, json_string_value(content));
    } else if (json_is_array(content)) {
        for (size_t i = 0; i < json_array_size(content) && st == LIMN_OK; i++) {
            snprintf(where, sizeof where, "/messages/%d/content/%d", index, (int)i);
            st = read_part(job, json_array_get(content, i), user ? words : &other, where, err);
        }
    } else {
        LIMN_CHECK(err, !content || json_is_null(content), LIMN_E_VALUE,
                   "%s/content: is neither a text nor a list", where);
    }
out:
    limn_buf_deinit(&other);
    return st;
}

static limn_status read_messages(limn_job *job, const json_t *root, limn_buf *words,
                                 limn_err *err) {
    const json_t *messages = json_object_get(root, "messages");
    limn_status st = LIMN_OK;
    if (!messages) return LIMN_OK;
    LIMN_CHECK(err, json_is_array(messages) && json_array_size(messages) > 0, LIMN_E_VALUE,
               "/messages: is not a list of messages");
    for (size_t i = 0; i < json_array_size(messages); i++)
        LIMN_TRY(read_message(job, json_array_get(messages, i), words, (int)i, err));
out:
    return st;
}

static limn_status make_see(limn_job *job, const limn_submit *s, limn_err *err) {
    limn_params *p = NULL;
    json_t *root = NULL;
    char *params = NULL, *rest = NULL;
    limn_buf words, text;
    limn_status st = LIMN_OK;
    limn_buf_init(&words, LIMN_JOB_REQUEST_MAX);
    limn_buf_init(&text, LIMN_JOB_REQUEST_MAX + 1);
    LIMN_TRY(limn_params_copy(&p, s->params, err));
    LIMN_TRY(limn_request_fix_seed(p, err));
    const limn_seeing *see = limn_seeing_of(p);
    if (s->json) LIMN_TRY(limn_json_load(&root, s->json, s->json_len, err));
    LIMN_CHECK(err, see->prompt[0] || json_object_get(root, "messages"), LIMN_E_VALUE,
               "/prompt: there is no question");
    limn_buf_adds(&words, see->prompt);
    LIMN_TRY(read_messages(job, root, &words, err));
    if (!words.len) limn_buf_adds(&words, see->prompt[0] ? see->prompt : see->task);
    LIMN_TRY(limn_params_format_json(&params, p, false, err));
    limn_buf_addf(&text, "{\"params\":%s", params);
    rest = root ? json_dumps(root, JSON_COMPACT) : NULL;
    if (rest && strlen(rest) > 2)
        limn_buf_addf(&text, ",%s", rest + 1);
    else
        limn_buf_addc(&text, '}');
    LIMN_CHECK(err, !text.failed && !words.failed, LIMN_E_LIMIT, "the request is too long");
    LIMN_TRY(limn_job_set_text(&job->words, limn_buf_text(&words), err));
    LIMN_TRY(limn_job_set_text(&job->model, see->model, err));
    job->has_seed = true;
    job->seed = see->seed;
    job->work = see->max_tokens > 0 ? (double)see->max_tokens : 256;
    LIMN_TRY(set_owned(&job->request, limn_buf_take(&text), err));
out:
    json_decref(root);
    free(rest);
    limn_text_free(&params);
    limn_params_free(&p);
    limn_buf_deinit(&words);
    limn_buf_deinit(&text);
    return st;
}

limn_status limn_request_make(limn_job *job, const limn_submit *s, limn_err *err) {
    bool gen = s->kind == LIMN_JOB_DRAW || s->kind == LIMN_JOB_UPSCALE || s->kind == LIMN_JOB_GRID;
    bool see = s->kind == LIMN_JOB_SEE;
    if ((gen && (!s->params || s->params->kind != LIMN_PARAMS_GEN)) ||
        (see && (!s->params || s->params->kind != LIMN_PARAMS_SEE)))
        return limn_fail(err, LIMN_E_INTERNAL, "a job of this kind needs its values");
    switch (s->kind) {
    case LIMN_JOB_DRAW: return make_draw(job, s, err);
    case LIMN_JOB_UPSCALE: return make_upscale(job, s, err);
    case LIMN_JOB_GRID: return make_grid(job, s, err);
    case LIMN_JOB_SEE: return make_see(job, s, err);
    default: return make_model(job, s, err);
    }
}

limn_status limn_request_params(limn_params **out, const limn_job *job, limn_err *err) {
    limn_params_kind kind = job->kind == LIMN_JOB_SEE ? LIMN_PARAMS_SEE : LIMN_PARAMS_GEN;
    json_t *root = NULL;
    char *params = NULL;
    const char *text = job->request;
    limn_status st = limn_params_new(out, kind, err);
    if (st != LIMN_OK) return st;
    if (job->kind == LIMN_JOB_SEE || job->kind == LIMN_JOB_GRID) {
        LIMN_TRY(limn_json_load(&root, text, strlen(text), err));
        params = json_dumps(json_object_get(root, "params"), JSON_COMPACT);
        LIMN_CHECK(err, params, LIMN_E_FORMAT, "the stored request has no values");
        text = params;
    }
    LIMN_TRY(limn_params_parse_json(*out, text, strlen(text), LIMN_FROM_API, err));
out:
    json_decref(root);
    free(params);
    if (st != LIMN_OK) limn_params_free(out);
    return st;
}
