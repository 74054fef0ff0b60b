/* SPDX-License-Identifier: MIT */
/* What is said about pictures: `info` of an answer, png-info, and words for a picture. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "server/api/sdapi.h"

/* ---- infotext ---- */

/* "Steps: 20, Sampler: Euler a, Size: 64x64" of the last line into an object; "Size-1" and "Size-2"
 * beside "Size", as the originals split it. Values in quotes are JSON strings. */
static json_t *split_infotext(const char *text) {
    json_t *o = json_object();
    const char *negative = strstr(text, "\nNegative prompt:"), *last = strrchr(text, '\n');
    const char *values = last && strstr(last, "Steps:") ? last + 1 : "";
    const char *end = negative ? negative : *values ? last : text + strlen(text);
    json_object_set_new(o, "Prompt", json_stringn(text, (size_t)(end - text)));
    if (negative) {
        negative += 17;
        while (*negative == ' ') negative++;
        const char *stop = *values && last > negative ? last : negative + strlen(negative);
        json_object_set_new(o, "Negative prompt",
                            json_stringn(negative, (size_t)(stop - negative)));
    }
    while (*values) {
        char key[64];
        const char *colon = strchr(values, ':');
        if (!colon) break;
        snprintf(key, sizeof key, "%.*s", (int)(colon - values), values);
        const char *at = colon + 1;
        while (*at == ' ') at++;
        const char *stop = at;
        bool quoted = *at == '"';
        if (quoted)
            for (stop++; *stop && *stop != '"'; stop++) stop += *stop == '\\' && stop[1];
        stop += strcspn(stop, ",");
        int w, h;
        json_object_set_new(o, key, json_stringn(at, (size_t)(stop - at)));
        if (strcmp(key, "Size") == 0 && sscanf(at, "%5dx%5d", &w, &h) == 2) {
            json_object_set_new(o, "Size-1", json_integer(w));
            json_object_set_new(o, "Size-2", json_integer(h));
        }
        values = stop + (*stop == ',');
        while (*values == ' ') values++;
    }
    return o;
}

/* ---- info ---- */

static const char *text_in(const json_t *o, const char *name) {
    const char *text = json_string_value(json_object_get(o, name));
    return text ? text : "";
}

static json_t *member_in(const json_t *o, const char *name) {
    json_t *v = json_object_get(o, name);
    return v ? json_incref(v) : json_null();
}

/* A number that their clients expect to be there; `none` is what A1111 says when it is not. */
static json_t *number_or(const json_t *o, const char *name, int none) {
    json_t *v = json_object_get(o, name);
    return json_is_number(v) ? json_incref(v) : json_integer(none);
}

static void add_lists(json_t *info, const limn_job *job, json_t **first) {
    static const char *const names[][2] = {{"all_prompts", "prompt"},
                                           {"all_negative_prompts", "negative_prompt"},
                                           {"all_seeds", "seed"},
                                           {"all_subseeds", "variation_seed"}};
    json_t *lists[4], *texts = json_array();
    for (int k = 0; k < 4; k++) lists[k] = json_array();
    for (int i = 0; i < job->n_artifacts; i++) {
        const limn_artifact *a = &job->artifacts[i];
        if (a->role != LIMN_ARTIFACT_RESULT) continue;
        json_t *recipe = a->recipe ? json_loads(a->recipe, 0, NULL) : json_object();
        for (int k = 0; k < 3; k++) json_array_append_new(lists[k], member_in(recipe, names[k][1]));
        json_array_append_new(lists[3], number_or(recipe, names[3][1], -1));
        json_array_append_new(texts, json_string(a->text ? a->text : ""));
        if (!*first)
            *first = recipe;
        else
            json_decref(recipe);
    }
    for (int k = 0; k < 4; k++) json_object_set_new(info, names[k][0], lists[k]);
    json_object_set_new(info, "infotexts", texts);
}

static const char *first_text(const json_t *info) {
    const char *text = json_string_value(json_array_get(json_object_get(info, "infotexts"), 0));
    return text ? text : "";
}

/* What an infotext says besides what has a member of its own. */
static json_t *extra_params(const char *text) {
    static const char *const own[] = {
        "Prompt", "Negative prompt", "Steps", "Sampler", "CFG scale", "Seed",      "Size",
        "Size-1", "Size-2",          "Model", "App",     "Version",   "Model hash"};
    json_t *o = split_infotext(text);
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) json_object_del(o, own[i]);
    return o;
}

json_t *sdapi_info(limn_http_req *rq, const limn_job *job) {
    json_t *info = json_object(), *r = NULL;
    limn_shelf_item model = {0};
    char stamp[32];
    time_t seconds = (time_t)(job->created_ms / 1000);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    strftime(stamp, sizeof stamp, "%Y%m%d%H%M%S", &tm);
    add_lists(info, job, &r);
    limn_shelf_find(rq->server->shelf, &model, LIMN_SHELF_DRAW, text_in(r, "model"), NULL);
    static const char *const same[][2] = {{"seed", "seed"},     {"width", "width"},
                                          {"height", "height"}, {"cfg_scale", "cfg_scale"},
                                          {"steps", "steps"},   {"denoising_strength", "strength"}};
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++)
        json_object_set_new(info, same[i][0], member_in(r, same[i][1]));
    if (json_object_get(r, "hires_strength"))
        json_object_set(info, "denoising_strength", json_object_get(r, "hires_strength"));
    json_object_set_new(info, "subseed", number_or(r, "variation_seed", -1));
    json_object_set_new(info, "batch_size", number_or(r, "batch_size", 1));
    json_object_set_new(info, "clip_skip", number_or(r, "clip_skip", 1));
    json_object_set_new(info, "subseed_strength", number_or(r, "variation_strength", 0));
    json_object_set_new(info, "prompt", json_string(text_in(r, "prompt")));
    json_object_set_new(info, "negative_prompt", json_string(text_in(r, "negative_prompt")));
    json_object_set_new(info, "sampler_name", json_string(text_in(r, "sampler")));
    json_object_set_new(info, "sd_model_name", json_string(model.name ? model.name : ""));
    json_object_set_new(info, "sd_model_hash", json_null());
    json_object_set_new(info, "sd_vae_name",
                        *text_in(r, "vae") ? json_string(text_in(r, "vae")) : json_null());
    json_object_set_new(info, "sd_vae_hash", json_null());
    json_object_set_new(info, "restore_faces", json_false());
    json_object_set_new(info, "face_restoration_model", json_null());
    json_object_set_new(info, "seed_resize_from_w", json_integer(-1));
    json_object_set_new(info, "seed_resize_from_h", json_integer(-1));
    json_object_set_new(info, "extra_generation_params", extra_params(first_text(info)));
    json_object_set_new(info, "index_of_first_image", json_integer(0));
    json_t *styles = json_object_get(r, "styles");
    json_object_set_new(info, "styles", styles ? json_incref(styles) : json_array());
    json_object_set_new(info, "job_timestamp", json_string(stamp));
    json_object_set_new(info, "is_using_inpainting_conditioning", json_false());
    json_object_set_new(info, "version", json_string(limn_version()));
    if (sdapi_is_sdnext(rq)) {
        json_object_set_new(info, "cfg_end", number_or(r, "guidance_end", 1));
        json_object_set_new(info, "detailer", json_false());
        json_object_set_new(info, "detailer_model", json_null());
    }
    limn_shelf_item_deinit(&model);
    json_decref(r);
    return info;
}

/* ---- png-info ---- */

void sdapi_png_info(limn_http_req *rq) {
    const char *image = json_string_value(json_object_get(rq->json, "image"));
    limn_picture_head head;
    limn_err err = {0};
    void *data = NULL;
    size_t size;
    char *text = NULL;
    if (!image) {
        limn_http_fail(rq, LIMN_HTTP_INVALID, "image", "image must be a string");
        return;
    }
    const char *comma = strncmp(image, "data:", 5) == 0 ? strchr(image, ',') : NULL;
    const char *base64 = comma ? comma + 1 : image;
    if (limn_base64_read(&data, &size, base64, strlen(base64), &err) != LIMN_OK ||
        limn_picture_sniff(&head, data, size, &err) != LIMN_OK) {
        limn_mem_free(data);
        limn_http_fail(rq, LIMN_HTTP_BAD_IMAGE, "image", "Invalid encoded image");
        return;
    }
    bool have = limn_image_decode_text(&text, data, size, NULL) == LIMN_OK;
    limn_mem_free(data);
    limn_http_reply_json(rq, 200,
                         json_pack("{s:s, s:o, s:o}", "info", have ? text : "", "items",
                                   have ? json_pack("{s:s}", "parameters", text) : json_object(),
                                   "parameters", have ? split_infotext(text) : json_object()));
    limn_text_free(&text);
}

/* ---- words for a picture ---- */

static void described(limn_http_req *rq, limn_job *job, bool ended) {
    limn_err err = {.status = job ? job->error : LIMN_E_NOT_FOUND};
    json_t *result = job && job->result ? json_loads(job->result, 0, NULL) : NULL;
    const char *text = json_string_value(json_object_get(result, "text"));
    (void)ended;
    if (text && job->state == LIMN_JOB_SUCCEEDED) {
        limn_http_reply_json(rq, 200, json_pack("{s:s}", rq->data ? "answer" : "caption", text));
    } else {
        if (err.status == LIMN_OK) err.status = LIMN_E_INTERNAL;
        snprintf(err.text, sizeof err.text, "%s",
                 job && job->error_text && *job->error_text ? job->error_text : "no answer");
        limn_api_fail(rq, &err);
    }
    json_decref(result);
}

static void look(limn_http_req *rq, const char *question, bool answer) {
    const char *image = json_string_value(json_object_get(rq->json, "image"));
    const json_t *max_tokens = json_object_get(rq->json, "max_tokens");
    char ref[LIMN_PICTURE_REF_MAX], limit[16];
    limn_err err = {0};
    limn_params *see = NULL;
    limn_submit submit = {.kind = LIMN_JOB_SEE, .source = "sdapi"};
    json_t *messages = NULL;
    limn_submitted made;
    char *spec = NULL;
    limn_status st = LIMN_OK;
    static char is_answer[] = "answer";
    LIMN_CHECK(&err, image, LIMN_E_NOT_FOUND, "Image not found");
    LIMN_TRY(limn_picture_take(rq, ref, image, true, "/image", &err));
    LIMN_TRY(limn_params_new(&see, LIMN_PARAMS_SEE, &err));
    snprintf(limit, sizeof limit, "%lld",
             json_is_integer(max_tokens) && json_integer_value(max_tokens) > 0 &&
                     json_integer_value(max_tokens) <= 8192
                 ? (long long)json_integer_value(max_tokens)
                 : 256LL);
    LIMN_TRY(limn_params_set(see, "max_tokens", limit, LIMN_FROM_API, &err));
    messages =
        json_pack("{s:[{s:s, s:[{s:s, s:s}, {s:s, s:s}]}]}", "messages", "role", "user", "content",
                  "type", "image", "image", ref, "type", "text", "text", question);
    LIMN_TRY(limn_api_give_json(&submit, messages, &spec, &err));
    submit.params = see;
    rq->data = answer ? is_answer : NULL;
    if (limn_api_submit(rq, &submit, &made)) limn_http_wait(rq, made.id, -1, true, described);
out:
    if (st != LIMN_OK) limn_api_fail(rq, &err);
    limn_params_free(&see);
    json_decref(messages);
    free(spec);
}

void sdapi_interrogate(limn_http_req *rq) {
    const char *model = json_string_value(json_object_get(rq->json, "model"));
    if (model && strcmp(model, "clip") != 0 && strcmp(model, "deepdanbooru") != 0) {
        limn_http_fail(rq, LIMN_HTTP_NOT_FOUND, "model", "Model not found");
        return;
    }
    look(rq,
         model && model[0] == 'd' ? "List what is in this picture as short comma-separated tags."
                                  : "Describe this picture in one sentence, for a prompt.",
         false);
}

void sdapi_caption(limn_http_req *rq) {
    look(rq, "Describe this picture in one sentence, for a prompt.", false);
}

void sdapi_vqa(limn_http_req *rq) {
    const char *prompt = json_string_value(json_object_get(rq->json, "prompt"));
    const char *question = json_string_value(json_object_get(rq->json, "question"));
    if (prompt && *prompt)
        look(rq, prompt, true);
    else
        look(rq, question && *question ? question : "describe the image", true);
}
