/* SPDX-License-Identifier: MIT */
/*
 * The extras: one picture or several, enlarged by one job each, one after the other. A target size
 * is reached by enlarging enough and then fitting, as A1111 does.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image/resample.h"
#include "server/api/sdapi.h"

enum { BATCH_MAX = 64 };

typedef struct extras {
    json_t *list; /* base64 of what goes in; owned */
    json_t *done; /* base64 of what came out; owned */
    bool single;
    bool to_size, crop;
    int width, height;
    double factor;
    const char *upscaler; /* of the request's JSON */
} extras;

static void free_extras(void *data) {
    extras *x = data;
    json_decref(x->list);
    json_decref(x->done);
    limn_mem_free(x);
}

static void next_picture(limn_http_req *rq);

static void reply_extras(limn_http_req *rq) {
    extras *x = rq->data;
    if (x->single)
        limn_http_reply_json(
            rq, 200, json_pack("{s:s, s:O}", "html_info", "", "image", json_array_get(x->done, 0)));
    else
        limn_http_reply_json(rq, 200, json_pack("{s:s, s:O}", "html_info", "", "images", x->done));
}

/* The finished bytes, brought to the wanted size. */
static limn_status fit_size(void **data, size_t *size, const extras *x, limn_err *err) {
    limn_image *image = NULL, *fitted = NULL;
    limn_file_options opt = LIMN_FILE_OPTIONS;
    void *bytes = NULL;
    limn_status st = LIMN_OK;
    opt.format = "png";
    LIMN_TRY(limn_image_decode(&image, *data, *size, err));
    LIMN_TRY(limn_image_fit(&fitted, image, x->width, x->height, LIMN_RESIZE_CROP, err));
    LIMN_TRY(limn_image_encode(&bytes, size, fitted, &opt, NULL, err));
    limn_mem_free(*data);
    *data = bytes;
out:
    limn_image_free(&image);
    limn_image_free(&fitted);
    return st;
}

static void enlarged(limn_http_req *rq, limn_job *job, bool ended) {
    extras *x = rq->data;
    limn_err err = {0};
    void *data = NULL;
    size_t size = 0;
    (void)ended;
    limn_status st = LIMN_E_NOT_FOUND;
    if (job && job->state != LIMN_JOB_SUCCEEDED) {
        err.status = job->error;
        snprintf(err.text, sizeof err.text, "%s", job->error_text ? job->error_text : "");
        limn_api_fail(rq, &err);
        return;
    }
    for (int i = 0; job && i < job->n_artifacts; i++)
        if (job->artifacts[i].role == LIMN_ARTIFACT_RESULT && !data)
            st = limn_api_load_artifact(rq, &job->artifacts[i], &data, &size, &err);
    if (st == LIMN_OK && x->to_size && x->crop) st = fit_size(&data, &size, x, &err);
    char *text = st == LIMN_OK ? limn_base64_write(data, size) : NULL;
    limn_mem_free(data);
    if (!text) {
        if (err.status == LIMN_OK) limn_fail(&err, LIMN_E_INTERNAL, "no picture came out");
        limn_api_fail(rq, &err);
        return;
    }
    json_array_append_new(x->done, json_string_nocheck(text));
    limn_mem_free(text);
    next_picture(rq);
}

static double wanted_factor(const extras *x, const limn_artifact *a) {
    if (!x->to_size) return x->factor;
    double w = (double)x->width / a->width, h = (double)x->height / a->height;
    double f = x->crop ? fmax(w, h) : fmin(w, h);
    return fmin(fmax(f, 1), 8);
}

static limn_status submit_one(limn_http_req *rq, extras *x, const char *ref, limn_err *err) {
    limn_artifact a = {0};
    limn_params *gen = NULL;
    limn_submitted made;
    char factor[40];
    limn_submit submit = {.kind = LIMN_JOB_UPSCALE, .source = "sdapi"};
    limn_status st = LIMN_OK;
    LIMN_TRY(limn_queue_artifact(rq->server->queue, limn_http_owner(rq), ref + 9, &a, err));
    LIMN_TRY(limn_params_new(&gen, LIMN_PARAMS_GEN, err));
    snprintf(factor, sizeof factor, "%.17g", wanted_factor(x, &a));
    LIMN_TRY(limn_params_set(gen, "init_image", ref, LIMN_FROM_API, err));
    LIMN_TRY(limn_params_set(gen, "upscale", factor, LIMN_FROM_API, err));
    LIMN_TRY(limn_params_set(gen, "upscaler", x->upscaler, LIMN_FROM_API, err));
    LIMN_TRY(limn_params_set(gen, "format", "png", LIMN_FROM_API, err));
    LIMN_TRY(limn_api_check_names(gen, err));
    submit.params = gen;
    if (limn_api_submit(rq, &submit, &made)) limn_http_wait(rq, made.id, -1, true, enlarged);
out:
    limn_params_free(&gen);
    limn_artifact_deinit(&a);
    return st;
}

/* The next one of the list, or the answer. */
static void next_picture(limn_http_req *rq) {
    extras *x = rq->data;
    limn_err err = {0};
    size_t at = json_array_size(x->done);
    char ref[LIMN_PICTURE_REF_MAX];
    if (at == json_array_size(x->list)) {
        reply_extras(rq);
        return;
    }
    const char *text = json_string_value(json_array_get(x->list, at));
    limn_status st = limn_picture_take(rq, ref, text, true, "/image", &err);
    if (st == LIMN_OK && strcmp(x->upscaler, "None") == 0) {
        const char *comma = strncmp(text, "data:", 5) == 0 ? strchr(text, ',') : NULL;
        json_array_append_new(x->done, json_string(comma ? comma + 1 : text));
        next_picture(rq);
        return;
    }
    if (st == LIMN_OK) st = submit_one(rq, x, ref, &err);
    if (st != LIMN_OK) limn_api_fail(rq, &err);
}

static limn_status read_int(int *out, const json_t *body, const char *name, int fallback, int lo,
                            int hi, limn_err *err) {
    const json_t *v = json_object_get(body, name);
    *out = fallback;
    if (!v || json_is_null(v)) return LIMN_OK;
    double x = json_number_value(v);
    if (!json_is_number(v) || x != floor(x) || x < lo || x > hi)
        return limn_fail(err, LIMN_E_VALUE, "/%s: must be a whole number, %d to %d", name, lo, hi);
    *out = (int)x;
    return LIMN_OK;
}

static limn_status read_extras(limn_http_req *rq, extras *x, limn_err *err) {
    static const char *const absent[] = {"gfpgan_visibility", "codeformer_visibility",
                                         "extras_upscaler_2_visibility"};
    const json_t *body = rq->json, *factor = json_object_get(body, "upscaling_resize");
    const json_t *crop = json_object_get(body, "upscaling_crop");
    int mode;
    for (size_t i = 0; i < sizeof absent / sizeof absent[0]; i++)
        if (json_number_value(json_object_get(body, absent[i])) > 0)
            return limn_fail(err, LIMN_E_UNSUPPORTED, "%s is not there yet", absent[i]);
    limn_status st = read_int(&mode, body, "resize_mode", 0, 0, 1, err);
    if (st == LIMN_OK) st = read_int(&x->width, body, "upscaling_resize_w", 512, 1, 16384, err);
    if (st == LIMN_OK) st = read_int(&x->height, body, "upscaling_resize_h", 512, 1, 16384, err);
    if (st != LIMN_OK) return st;
    x->factor = json_is_number(factor) ? json_number_value(factor) : 2;
    if (!(x->factor >= 1 && x->factor <= 8))
        return limn_fail(err, LIMN_E_VALUE, "/upscaling_resize: must be a number, 1 to 8");
    x->to_size = mode == 1;
    x->crop = !json_is_false(crop);
    x->upscaler = json_string_value(json_object_get(body, "upscaler_1"));
    if (!x->upscaler || !*x->upscaler) x->upscaler = "None";
    return LIMN_OK;
}

/* Takes the list. */
static void start(limn_http_req *rq, json_t *list, bool single) {
    limn_err err = {0};
    extras *x = limn_mem_calloc(1, sizeof *x);
    if (!x) {
        json_decref(list);
        limn_http_fail(rq, LIMN_HTTP_NO_MEMORY, NULL, "no memory for the request");
        return;
    }
    *x = (extras){.list = list, .done = json_array(), .single = single};
    rq->data = x;
    rq->free_data = free_extras;
    if (read_extras(rq, x, &err) == LIMN_OK)
        next_picture(rq);
    else
        limn_api_fail(rq, &err);
}

void sdapi_extra_single(limn_http_req *rq) {
    json_t *image = json_object_get(rq->json, "image");
    if (json_is_string(image))
        start(rq, json_pack("[O]", image), true);
    else
        limn_http_fail(rq, LIMN_HTTP_INVALID, "image", "image must be a string");
}

void sdapi_extra_batch(limn_http_req *rq) {
    const json_t *given = json_object_get(rq->json, "imageList");
    size_t n = json_array_size(given);
    if (n < 1 || n > BATCH_MAX) {
        limn_http_fail(rq, LIMN_HTTP_INVALID, "imageList", "imageList has 1 to %d pictures",
                       BATCH_MAX);
        return;
    }
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        json_t *data = json_object_get(json_array_get(given, i), "data");
        if (!json_is_string(data)) {
            limn_http_fail(rq, LIMN_HTTP_INVALID, "imageList", "imageList is [{data, name}]");
            json_decref(list);
            return;
        }
        json_array_append(list, data);
    }
    start(rq, list, false);
}
