/* SPDX-License-Identifier: MIT */
/* /v1/images/generations, edits, variations; see openai.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "image/mask.h"
#include "param/gen.h"
#include "server/api/openai.h"

enum { PARTIAL_MAX = 3 };
#define SEED_MAX 9007199254740991.0

typedef enum image_kind { MAKE, EDIT, VARY } image_kind;

/* clang-format off */
static const openai_field fields[] = {
    {"prompt", "prompt", OPENAI_TEXT, 0, 0},
    {"n", "count", OPENAI_INT, 1, 10},
    {"output_compression", "quality", OPENAI_INT, 0, 100},
    /* beyond OpenAI's: limn's own words, and those of other servers of this dialect */
    {"negative_prompt", "negative_prompt", OPENAI_TEXT, 0, 0},
    {"seed", "seed", OPENAI_INT, -1, SEED_MAX},
    {"steps", "steps", OPENAI_INT, 1, 1000},
    {"cfg_scale", "cfg_scale", OPENAI_REAL, 0, 100},
    {"guidance_scale", "cfg_scale", OPENAI_REAL, 0, 100},
    {"sampler", "sampler", OPENAI_TEXT, 0, 0},
    {"strength", "strength", OPENAI_REAL, 0, 1},
};
/* clang-format on */

/* How the answer has to look; hangs on the request, copied into a stream. */
typedef struct picture_ask {
    image_kind kind;
    char job[LIMN_JOB_ID_LEN + 1];
    int64_t created;
    bool stream, url;
    int partial;
    char format[8], size[24], background[16], quality[16];
} picture_ask;

/* ---- the request ---- */

static limn_status one_of(char *out, size_t room, const json_t *body, const char *name,
                          const char *words, const char *fallback, limn_err *err) {
    const json_t *v = json_object_get(body, name);
    const char *text = json_string_value(v);
    char list[128], *save = NULL;
    snprintf(out, room, "%s", fallback);
    if (!v || json_is_null(v)) return LIMN_OK;
    snprintf(list, sizeof list, "%s", words);
    for (char *w = strtok_r(list, "|", &save); w && text; w = strtok_r(NULL, "|", &save))
        if (strcmp(w, text) == 0) {
            snprintf(out, room, "%s", w);
            return LIMN_OK;
        }
    return limn_fail(err, LIMN_E_VALUE, "/%s: is one of %s", name, words);
}

static limn_status read_size(picture_ask *ask, json_t *values, const json_t *body, limn_err *err) {
    const json_t *v = json_object_get(body, "size");
    const char *text = json_string_value(v);
    int w = 0, h = 0, used = 0;
    snprintf(ask->size, sizeof ask->size, "auto");
    if (!v || json_is_null(v) || (text && strcmp(text, "auto") == 0)) return LIMN_OK;
    if (!text || sscanf(text, "%5dx%5d%n", &w, &h, &used) != 2 || text[used] || w < 1 || h < 1)
        return limn_fail(err, LIMN_E_VALUE, "/size: is auto or WIDTHxHEIGHT");
    snprintf(ask->size, sizeof ask->size, "%dx%d", w, h);
    json_object_set_new(values, "width", json_integer(w));
    json_object_set_new(values, "height", json_integer(h));
    return LIMN_OK;
}

/* Form members are all text: numbers and true/false become what they say. */
static json_t *typed(const json_t *fields_of_form) {
    static const char *const plain[] = {"n",
                                        "seed",
                                        "steps",
                                        "cfg_scale",
                                        "guidance_scale",
                                        "strength",
                                        "output_compression",
                                        "partial_images",
                                        "stream"};
    json_t *o = json_copy((json_t *)(uintptr_t)fields_of_form);
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++) {
        const char *text = json_string_value(json_object_get(o, plain[i]));
        json_t *v = text ? json_loads(text, JSON_DECODE_ANY, NULL) : NULL;
        if (v) json_object_set_new(o, plain[i], v);
    }
    return o;
}

static limn_status read_stream(picture_ask *ask, const json_t *body, limn_err *err) {
    const json_t *stream = json_object_get(body, "stream");
    const json_t *partial = json_object_get(body, "partial_images");
    if (stream && !json_is_boolean(stream) && !json_is_null(stream))
        return limn_fail(err, LIMN_E_VALUE, "/stream: must be true or false");
    ask->stream = json_is_true(stream);
    if (!partial || json_is_null(partial)) return LIMN_OK;
    if (!json_is_integer(partial) || json_integer_value(partial) < 0 ||
        json_integer_value(partial) > PARTIAL_MAX)
        return limn_fail(err, LIMN_E_VALUE, "/partial_images: is a whole number, 0 to %d",
                         PARTIAL_MAX);
    ask->partial = (int)json_integer_value(partial);
    return LIMN_OK;
}

/* What is wrong with a width or height, said of the member that has both. */
static limn_status size_named(limn_status st, limn_err *err) {
    char why[sizeof err->text];
    bool is_size = st != LIMN_OK &&
                   (strncmp(err->text, "/width", 6) == 0 || strncmp(err->text, "/height", 7) == 0);
    if (!is_size) return st;
    snprintf(why, sizeof why, "%s", err->text + 1);
    return limn_fail(err, st, "/size: %s", why);
}

static limn_status read_values(limn_http_req *rq, picture_ask *ask, limn_params **gen,
                               json_t *values, const json_t *body, limn_err *err) {
    char answer[12];
    char *text = NULL;
    limn_status st = LIMN_OK;
    LIMN_TRY(openai_check_model(rq, body, LIMN_SHELF_DRAW, false, err));
    LIMN_CHECK(err, ask->kind == VARY || openai_text(body, "prompt"), LIMN_E_VALUE,
               "/prompt: is needed");
    LIMN_TRY(
        openai_read_fields(values, body, fields, (int)(sizeof fields / sizeof fields[0]), err));
    if (json_integer_value(json_object_get(values, "quality")) == 0 &&
        json_object_get(values, "quality"))
        json_object_set_new(values, "quality", json_integer(1));
    LIMN_TRY(read_size(ask, values, body, err));
    LIMN_TRY(read_stream(ask, body, err));
    LIMN_TRY(one_of(ask->format, sizeof ask->format, body, "output_format", "png|jpeg|webp", "png",
                    err));
    LIMN_TRY(
        one_of(answer, sizeof answer, body, "response_format", "b64_json|url", "b64_json", err));
    LIMN_TRY(one_of(ask->background, sizeof ask->background, body, "background", "auto|opaque",
                    "opaque", err));
    LIMN_TRY(one_of(ask->quality, sizeof ask->quality, body, "quality",
                    "auto|low|medium|high|standard|hd", "auto", err));
    ask->url = strcmp(answer, "url") == 0;
    json_object_set_new(values, "format", json_string(ask->format));
    if (openai_text(body, "model"))
        json_object_set(values, "model", json_object_get(body, "model"));
    text = json_dumps(values, JSON_COMPACT);
    LIMN_CHECK(err, text, LIMN_E_NOMEM, "no memory for the request");
    LIMN_TRY(limn_params_new(gen, LIMN_PARAMS_GEN, err));
    LIMN_TRY(size_named(limn_params_parse_json(*gen, text, strlen(text), LIMN_FROM_API, err), err));
    LIMN_TRY(limn_api_check_names(*gen, err));
out:
    free(text);
    return st;
}

/* ---- pictures of a form ---- */

static limn_status keep_picture(limn_http_req *rq, json_t *values, const char *name,
                                const openai_file *file, limn_err *err) {
    limn_artifact a = {0};
    limn_err why = {0};
    limn_status st = limn_picture_keep(rq, &a, file->data, file->size, &why);
    if (st == LIMN_OK)
        json_object_set_new(values, name, json_sprintf("artifact:%s", a.sha));
    else
        limn_fail(err, st == LIMN_E_FORMAT || st == LIMN_E_LIMIT ? LIMN_E_VALUE : st, "/%s: %s",
                  strcmp(name, "mask") == 0 ? "mask" : "image", why.text);
    limn_artifact_deinit(&a);
    return st == LIMN_OK ? LIMN_OK : err->status;
}

/* Here a mask is edited where it is transparent; limn draws where a mask is white. */
static limn_status turn_mask(void **out, size_t *size, const openai_file *mask, limn_err *err) {
    limn_picture_head head;
    limn_image *image = NULL, *white = NULL;
    limn_status st = LIMN_OK;
    const limn_file_options png = {.format = "png"};
    LIMN_TRY(limn_picture_sniff(&head, mask->data, mask->size, err));
    LIMN_TRY(limn_image_decode(&image, mask->data, mask->size, err));
    LIMN_CHECK(err, limn_image_channels(image) == 4 || limn_image_channels(image) == 2,
               LIMN_E_VALUE, "/mask: has no transparent part to say where to edit");
    LIMN_TRY(limn_mask_from_image(&white, image, err));
    limn_mask_invert(white);
    LIMN_TRY(limn_image_encode(out, size, white, &png, NULL, err));
out:
    limn_image_free(&image);
    limn_image_free(&white);
    return st;
}

static limn_status read_form(limn_http_req *rq, picture_ask *ask, json_t *values, json_t **body,
                             limn_err *err) {
    openai_form form;
    void *white = NULL;
    size_t size = 0;
    limn_status st = openai_form_read(rq, &form, err);
    if (st != LIMN_OK) goto out;
    *body = typed(form.fields);
    LIMN_CHECK(err, form.n_images > 0, LIMN_E_VALUE, "/image: is needed");
    /* gpt-image puts several into one; a model that draws from one picture cannot, and editing each
     * by itself would be another answer than was asked for */
    LIMN_CHECK(
        err, form.n_images == 1, LIMN_E_VALUE,
        "/image: %d pictures, but the models here draw from one: send a request for each, or "
        "put them into one picture first",
        form.n_images);
    LIMN_TRY(keep_picture(rq, values, "init_image", &form.image, err));
    if (ask->kind == EDIT && form.mask.size) {
        LIMN_TRY(turn_mask(&white, &size, &form.mask, err));
        LIMN_TRY(keep_picture(rq, values, "mask", &(openai_file){white, size}, err));
    }
out:
    limn_bytes_free(&white);
    openai_form_deinit(&form);
    return st;
}

/* ---- the answer ---- */

/* base64 of a stored picture; NULL when it cannot be read. */
static json_t *picture_b64(limn_queue *queue, const char *sha) {
    void *data;
    size_t size;
    if (limn_artifacts_read(limn_queue_artifacts(queue), &data, &size, sha, NULL) != LIMN_OK)
        return NULL;
    char *text = limn_base64_write(data, size);
    json_t *v = text ? json_string_nocheck(text) : NULL;
    limn_mem_free(data);
    limn_mem_free(text);
    return v;
}

static json_t *picture_json(limn_http_req *rq, const picture_ask *ask, const limn_artifact *a) {
    if (ask->url)
        return json_pack("{s:o}", "url",
                         json_sprintf("%s/v1/artifacts/%s/file", limn_http_origin(rq), a->sha));
    json_t *data = picture_b64(rq->server->queue, a->sha);
    return data ? json_pack("{s:o}", "b64_json", data) : NULL;
}

static void reply_pictures(limn_http_req *rq, limn_job *job, bool ended) {
    const picture_ask *ask = rq->data;
    char size[24] = "auto";
    json_t *list = json_array();
    if (!job || !ended || job->state != LIMN_JOB_SUCCEEDED) {
        json_decref(list);
        openai_fail_job(rq, job);
        return;
    }
    for (int i = 0; i < job->n_artifacts; i++) {
        const limn_artifact *a = &job->artifacts[i];
        if (a->role != LIMN_ARTIFACT_RESULT) continue;
        json_t *o = picture_json(rq, ask, a);
        if (!o || json_array_append_new(list, o) != 0) {
            json_decref(list);
            limn_http_fail(rq, LIMN_HTTP_IO, NULL, "a picture cannot be read");
            return;
        }
        snprintf(size, sizeof size, "%dx%d", a->width, a->height);
    }
    limn_http_reply_json(rq, 200,
                         json_pack("{s:I, s:o, s:s, s:s, s:s, s:s}", "created",
                                   (json_int_t)ask->created, "data", list, "background",
                                   ask->background, "output_format", ask->format, "quality",
                                   ask->quality, "size", size));
}

/* ---- the stream ---- */

typedef struct picture_stream {
    limn_queue *queue;
    picture_ask ask;
    int sent;  /* partial pictures of the present one */
    int image; /* which one that is */
    int done;  /* finished pictures */
} picture_stream;

static void send_picture(const picture_stream *s, limn_buf *out, const char *what, json_t *data,
                         int width, int height, int index) {
    char type[48], size[24];
    snprintf(type, sizeof type, "%s.%s", s->ask.kind == MAKE ? "image_generation" : "image_edit",
             what);
    snprintf(size, sizeof size, "%dx%d", width, height);
    json_t *o =
        json_pack("{s:s, s:o, s:I, s:s, s:s, s:s, s:s}", "type", type, "b64_json", data,
                  "created_at", (json_int_t)s->ask.created, "size", size, "quality", s->ask.quality,
                  "background", s->ask.background, "output_format", s->ask.format);
    if (index >= 0) json_object_set_new(o, "partial_image_index", json_integer(index));
    openai_sse(out, type, o);
}

static void send_preview(picture_stream *s, limn_buf *out, const limn_job_event *e) {
    if (e->image != s->image) s->sent = 0;
    s->image = e->image;
    /* evenly over the steps: the k-th of p after k/(p+1) of them */
    bool due = e->steps > 0 && e->step * (s->ask.partial + 1) >= (s->sent + 1) * e->steps;
    if (s->sent >= s->ask.partial || !due) return;
    char *text = limn_base64_write(e->data, e->size);
    if (text)
        send_picture(s, out, "partial_image", json_string_nocheck(text), e->width, e->height,
                     s->sent++);
    limn_mem_free(text);
}

static void send_finished(picture_stream *s, limn_buf *out, const limn_artifact *a) {
    json_t *data = picture_b64(s->queue, a->sha);
    if (!data) return;
    send_picture(s, out, "completed", data, a->width, a->height, -1);
    s->done++;
}

/* Finished pictures that no event told of, then the end. */
static void send_end(picture_stream *s, limn_buf *out) {
    limn_job *job = NULL;
    int k = 0;
    bool good = limn_queue_get(s->queue, NULL, s->ask.job, &job, NULL) == LIMN_OK &&
                job->state == LIMN_JOB_SUCCEEDED;
    for (int i = 0; good && i < job->n_artifacts; i++)
        if (job->artifacts[i].role == LIMN_ARTIFACT_RESULT && k++ >= s->done)
            send_finished(s, out, &job->artifacts[i]);
    if (!good)
        openai_sse(
            out, "error",
            json_pack("{s:s, s:o}", "type", "error", "error",
                      job ? openai_job_error(job)
                          : limn_http_error_json(LIMN_HTTP_NO_JOB, NULL, "the job is gone", NULL)));
    limn_job_free(&job);
}

static void on_event(void *user, limn_buf *out, const limn_job_event *e, bool lost, bool *end) {
    picture_stream *s = user;
    (void)lost; /* what matters is sent at the end */
    if (e->kind == LIMN_JOB_EVENT_PREVIEW) send_preview(s, out, e);
    *end = e->kind == LIMN_JOB_EVENT_STATE && limn_job_state_is_final(e->state);
    if (*end) send_end(s, out);
}

static void on_bye(void *user, limn_buf *out) {
    (void)user;
    openai_sse(out, "error",
               json_pack("{s:s, s:o}", "type", "error", "error",
                         limn_http_error_json(LIMN_HTTP_UNAVAILABLE, NULL, "the server is stopping",
                                              NULL)));
}

static void on_free(void *user, bool ended) {
    picture_stream *s = user;
    limn_job_state was;
    if (!ended) limn_queue_cancel(s->queue, NULL, s->ask.job, &was, NULL);
    limn_mem_free(s);
}

static void stream_pictures(limn_http_req *rq, const picture_ask *ask) {
    static const limn_http_stream_ops ops = {NULL, on_event, on_bye, on_free};
    limn_feed_options opt = {
        .job = ask->job, .owner = limn_http_owner(rq), .previews = ask->partial > 0};
    picture_stream *s = limn_mem_calloc(1, sizeof *s);
    if (!s) {
        limn_http_fail(rq, LIMN_HTTP_NO_MEMORY, NULL, "no memory for a stream");
        return;
    }
    s->queue = rq->server->queue;
    s->ask = *ask;
    limn_http_stream(rq, &opt, 1, &ops, s);
}

/* ---- handlers ---- */

static limn_status read_request(limn_http_req *rq, picture_ask *ask, limn_params **gen,
                                limn_err *err) {
    json_t *values = json_object(), *body = NULL;
    limn_status st = LIMN_OK;
    LIMN_CHECK(err, values, LIMN_E_NOMEM, "no memory for the request");
    if (ask->kind == MAKE)
        body = json_incref(rq->json);
    else
        LIMN_TRY(read_form(rq, ask, values, &body, err));
    LIMN_TRY(read_values(rq, ask, gen, values, body, err));
out:
    json_decref(values);
    json_decref(body);
    return st;
}

static void handle(limn_http_req *rq, image_kind kind) {
    limn_err err = {0};
    limn_params *gen = NULL;
    limn_submitted made;
    picture_ask *ask = limn_arena_alloc(&rq->arena, sizeof *ask);
    if (!ask) {
        limn_http_fail(rq, LIMN_HTTP_NO_MEMORY, NULL, "no memory for the request");
        return;
    }
    *ask = (picture_ask){.kind = kind, .created = limn_clock_unix_ms() / 1000};
    rq->data = ask; /* of the arena: nothing to free */
    if (read_request(rq, ask, &gen, &err) != LIMN_OK) {
        openai_fail(rq, &err);
    } else {
        limn_submit submit = {.kind = LIMN_JOB_DRAW,
                              .params = gen,
                              .source = "openai",
                              .preview_every = ask->stream && ask->partial ? 1 : 0};
        if (limn_api_submit(rq, &submit, &made)) {
            snprintf(ask->job, sizeof ask->job, "%s", made.id);
            if (ask->stream)
                stream_pictures(rq, ask);
            else
                limn_http_wait(rq, made.id, -1, true, reply_pictures);
        }
    }
    limn_params_free(&gen);
}

void openai_image_make(limn_http_req *rq) {
    handle(rq, MAKE);
}

void openai_image_edit(limn_http_req *rq) {
    handle(rq, EDIT);
}

void openai_image_vary(limn_http_req *rq) {
    handle(rq, VARY);
}
