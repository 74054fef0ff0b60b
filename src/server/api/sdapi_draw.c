/* SPDX-License-Identifier: MIT */
/*
 * txt2img, img2img and the extras. Fields that clients send and limn does not know are ignored, as
 * the originals do; what limn knows is checked, and what it cannot do yet is refused by name when
 * it is switched on. Sources: A1111 modules/api/models.py, modules/processing.py; SD.Next
 * modules/api/models.py.
 */
#include "server/api/sdapi.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "sample/schedule.h"
#include "sample/solver.h"

typedef enum field_type { FIELD_INT, FIELD_REAL, FIELD_BOOL, FIELD_TEXT, FIELD_LIST } field_type;

/* A field of the request and the generation value that it becomes. */
typedef struct field {
    const char *name, *param; /* param NULL: read by hand or by nobody, but checked */
    field_type type;
    double min, max;
    bool skip_zero; /* 0 means "not given" */
} field;

#define BIG 9007199254740991.0

/* clang-format off */
static const field fields[] = {
    {"prompt", "prompt", FIELD_TEXT, 0, 0, false},
    {"negative_prompt", "negative_prompt", FIELD_TEXT, 0, 0, false},
    {"styles", "styles", FIELD_LIST, 0, 0, false},
    {"seed", "seed", FIELD_INT, -1, BIG, false},
    {"subseed", "variation_seed", FIELD_INT, -1, BIG, false},
    {"subseed_strength", "variation_strength", FIELD_REAL, 0, 1, false},
    {"batch_size", "batch_size", FIELD_INT, 1, 64, false},
    {"n_iter", "count", FIELD_INT, 1, 64, false},
    {"steps", "steps", FIELD_INT, 1, 1000, false},
    {"cfg_scale", "cfg_scale", FIELD_REAL, 0, 100, false},
    {"width", "width", FIELD_INT, 16, 16384, false},
    {"height", "height", FIELD_INT, 16, 16384, false},
    {"eta", "eta", FIELD_REAL, 0, 10, false},
    {"s_churn", "s_churn", FIELD_REAL, 0, 1000, false},
    {"s_tmin", "s_tmin", FIELD_REAL, 0, 1e6, false},
    {"s_tmax", "s_tmax", FIELD_REAL, 0, 1e6, true},
    {"s_noise", "s_noise", FIELD_REAL, 0, 10, false},
    {"clip_skip", "clip_skip", FIELD_INT, 1, 12, false},
    {"refiner_checkpoint", "refiner", FIELD_TEXT, 0, 0, true},
    {"refiner_switch_at", "refiner_switch", FIELD_REAL, 0, 1, false},
    {"guidance_rescale", "cfg_rescale", FIELD_REAL, 0, 1, false},
    {"cfg_rescale", "cfg_rescale", FIELD_REAL, 0, 1, false},
    {"cfg_end", "guidance_end", FIELD_REAL, 0, 1, false},
    {"tiling", "tiling", FIELD_BOOL, 0, 0, false},
    {"denoising_strength", NULL, FIELD_REAL, 0, 1, false},
    {"hr_denoising_strength", NULL, FIELD_REAL, 0, 1, false},
    {"enable_hr", NULL, FIELD_BOOL, 0, 0, false},
    {"hr_scale", NULL, FIELD_REAL, 1, 8, false},
    {"hr_resize_x", NULL, FIELD_INT, 0, 16384, false},
    {"hr_resize_y", NULL, FIELD_INT, 0, 16384, false},
    {"hr_second_pass_steps", NULL, FIELD_INT, 0, 1000, false},
    {"hr_upscaler", NULL, FIELD_TEXT, 0, 0, false},
    {"hr_sampler_name", NULL, FIELD_TEXT, 0, 0, false},
    {"hr_cfg", NULL, FIELD_REAL, 0, 100, false},
    {"sampler_name", NULL, FIELD_TEXT, 0, 0, false},
    {"scheduler", NULL, FIELD_TEXT, 0, 0, false},
    {"schedulers_sigma", NULL, FIELD_TEXT, 0, 0, false},
    {"hr_scheduler", NULL, FIELD_TEXT, 0, 0, false},
    {"infotext", NULL, FIELD_TEXT, 0, 0, false},
    {"send_images", NULL, FIELD_BOOL, 0, 0, false},
    {"save_images", NULL, FIELD_BOOL, 0, 0, false},
    {"include_init_images", NULL, FIELD_BOOL, 0, 0, false},
};
static const field image_fields[] = {
    {"image_cfg_scale", "image_cfg_scale", FIELD_REAL, 0, 100, false},
    {"mask_blur", "mask_blur", FIELD_REAL, 0, 256, false},
    {"inpaint_full_res_padding", "inpaint_padding", FIELD_INT, 0, 2048, false},
    {"resize_mode", NULL, FIELD_INT, 0, 5, false},
    {"inpainting_fill", NULL, FIELD_INT, 0, 3, false},
    {"inpainting_mask_invert", NULL, FIELD_INT, 0, 1, false},
    {"mask", NULL, FIELD_TEXT, 0, 0, false},
};
/* What would change the picture, and limn has not: switched on it is refused, off it is nothing. */
static const struct {
    const char *name;
    double off;       /* of a number, besides -1 */
    const char *word; /* of a text, besides an empty one; NULL: none */
} absent[] = {
    {"restore_faces", 0, NULL}, {"hr_prompt", 0, NULL}, {"hr_negative_prompt", 0, NULL},
    {"hr_checkpoint_name", 0, "Use same checkpoint"},
    {"firstphase_width", 0, NULL}, {"firstphase_height", 0, NULL}, {"latent_mask", 0, NULL},
    {"initial_noise_multiplier", 1, NULL}, {"seed_resize_from_w", 0, NULL},
    {"seed_resize_from_h", 0, NULL}, {"s_min_uncond", 0, NULL},
    {"disable_extra_networks", 0, NULL},
    /* SD.Next's */
    {"detailer_enabled", 0, NULL}, {"hidiffusion", 0, NULL},
    {"refiner_start", 0, NULL}, {"cfg_true", 0, NULL}, {"guidance_name", 0, "Default"},
    {"vae_type", 0, "Full"}, {"ip_adapter", 0, NULL}, {"face", 0, NULL}, {"face_id", 0, NULL},
    {"control", 0, NULL}, {"extra", 0, NULL},
    {"hdr_brightness", 0, NULL}, {"hdr_color", 0, NULL}, {"hdr_sharpen", 0, NULL},
    {"hdr_clamp", 0, NULL}, {"hdr_maximize", 0, NULL}, {"hdr_tint_ratio", 0, NULL},
    {"grading_brightness", 0, NULL}, {"grading_contrast", 0, NULL},
    {"grading_saturation", 0, NULL}, {"grading_hue", 0, NULL}, {"grading_gamma", 1, NULL},
    {"grading_sharpness", 0, NULL}, {"grading_color_temp", 6500, NULL},
    {"grading_shadows", 0, NULL}, {"grading_midtones", 0, NULL}, {"grading_highlights", 0, NULL},
    {"grading_clahe_clip", 0, NULL}, {"grading_vignette", 0, NULL}, {"grading_grain", 0, NULL},
    {"grading_lut_file", 0, NULL},
};
/* clang-format on */
#define COUNT(a) ((int)(sizeof(a) / sizeof(a)[0]))

/* ---- one field ---- */

static limn_status bad_field(const char *name, const char *want, limn_err *err) {
    return limn_fail(err, LIMN_E_VALUE, "/%s: %s", name, want);
}

static limn_status check_number(const field *f, const json_t *v, limn_err *err) {
    double x = json_number_value(v);
    bool whole = f->type != FIELD_INT || x == floor(x);
    if (json_is_number(v) && whole && x >= f->min && x <= f->max) return LIMN_OK;
    return limn_fail(err, LIMN_E_VALUE, "/%s: must be a%s number, %.15g to %.15g", f->name,
                     f->type == FIELD_INT ? " whole" : "", f->min, f->max);
}

static limn_status check_field(const field *f, const json_t *v, limn_err *err) {
    switch (f->type) {
    case FIELD_INT:
    case FIELD_REAL: return check_number(f, v, err);
    case FIELD_BOOL:
        return json_is_boolean(v) || json_is_integer(v)
                   ? LIMN_OK
                   : bad_field(f->name, "must be true or false", err);
    case FIELD_TEXT:
        return json_is_string(v) ? LIMN_OK : bad_field(f->name, "must be a string", err);
    case FIELD_LIST: return json_is_array(v) ? LIMN_OK : bad_field(f->name, "must be a list", err);
    }
    return LIMN_OK;
}

static limn_status set_text(limn_params *gen, const char *param, const char *value, limn_err *err) {
    return limn_params_set(gen, param, value, LIMN_FROM_API, err);
}

static limn_status set_number(limn_params *gen, const char *param, double value, limn_err *err) {
    char text[40];
    snprintf(text, sizeof text, "%.17g", value);
    return set_text(gen, param, text, err);
}

static limn_status take_field(limn_params *gen, const field *f, const json_t *v, limn_err *err) {
    limn_status st = check_field(f, v, err);
    if (st != LIMN_OK || !f->param) return st;
    double x = json_number_value(v);
    bool size = strcmp(f->name, "width") == 0 || strcmp(f->name, "height") == 0;
    switch (f->type) {
    case FIELD_INT:
        if (x < 0) return LIMN_OK; /* random */
        return set_number(gen, f->param, size ? floor(x / 8) * 8 : x, err);
    case FIELD_REAL: return f->skip_zero && x == 0 ? LIMN_OK : set_number(gen, f->param, x, err);
    case FIELD_TEXT:
        if (f->skip_zero && (!json_string_length(v) || strcmp(json_string_value(v), "None") == 0))
            return LIMN_OK;
        return set_text(gen, f->param, json_string_value(v), err);
    case FIELD_LIST:
        for (size_t i = 0; st == LIMN_OK && i < json_array_size(v); i++) {
            const char *item = json_string_value(json_array_get(v, i));
            st = item ? set_text(gen, f->param, item, err)
                      : bad_field(f->name, "must be a list of strings", err);
        }
        return st;
    case FIELD_BOOL: return set_text(gen, f->param, json_is_true(v) || x != 0 ? "on" : "off", err);
    }
    return LIMN_OK;
}

static limn_status take_fields(limn_params *gen, const json_t *body, const field *list, int count,
                               limn_err *err) {
    for (int i = 0; i < count; i++) {
        const json_t *v = json_object_get(body, list[i].name);
        if (!v || json_is_null(v)) continue;
        limn_status st = take_field(gen, &list[i], v, err);
        if (st != LIMN_OK) return st;
    }
    return LIMN_OK;
}

/* ---- what needs a hand ---- */

static const char *text_of(const json_t *body, const char *name) {
    const char *text = json_string_value(json_object_get(body, name));
    return text ? text : "";
}

static double number_of(const json_t *body, const char *name, double fallback) {
    const json_t *v = json_object_get(body, name);
    return json_is_number(v) ? json_number_value(v) : fallback;
}

static bool is_on(const json_t *body, const char *name) {
    const json_t *v = json_object_get(body, name);
    return json_is_true(v) || (json_is_integer(v) && json_integer_value(v) != 0);
}

static bool is_one_of(const char *word, const char *a, const char *b, const char *c) {
    return !*word || strcasecmp(word, a) == 0 || strcasecmp(word, b) == 0 ||
           strcasecmp(word, c) == 0;
}

/* sampler_name, or its old name sampler_index (which some clients send as a number: the default).
 * E_NOT_FOUND: "Sampler not found", which clients look for. */
static limn_status take_sampler(limn_params *gen, const json_t *body, limn_err *err) {
    const char *name = text_of(body, "sampler_name"), *schedule = text_of(body, "scheduler");
    const limn_solver_row *solver;
    const limn_schedule *sigma;
    limn_status st = LIMN_OK;
    if (!*name) name = text_of(body, "sampler_index");
    if (!*schedule) schedule = text_of(body, "schedulers_sigma"); /* SD.Next's name for it */
    if (!is_one_of(name, "Default", "Automatic", "None")) {
        if (limn_sampler_parse(&solver, &sigma, name, NULL) != LIMN_OK)
            return limn_fail(err, LIMN_E_NOT_FOUND, "Sampler not found");
        st = set_text(gen, "sampler", name, err);
    }
    if (st == LIMN_OK && !is_one_of(schedule, "Automatic", "Use same scheduler", "Default")) {
        if (limn_schedule_find(&sigma, schedule, NULL) != LIMN_OK)
            return limn_fail(err, LIMN_E_NOT_FOUND, "Scheduler not found");
        st = set_text(gen, "schedule", schedule, err);
    }
    return st;
}

/* hr_scheduler: limn's second pass has a schedule of its own only as a part of its sampler's name
 * ("Euler Karras"), and then the first pass too. */
static limn_status take_hires_schedule(limn_params *gen, const json_t *body, limn_err *err) {
    const char *own = text_of(body, "hr_scheduler"), *first = limn_params_text(gen, "sampler");
    const char *hires = limn_params_text(gen, "hires_sampler");
    const char *schedule = limn_params_text(gen, "schedule");
    const limn_schedule *sigma;
    char name[160];
    limn_status st = LIMN_OK;
    if (is_one_of(own, "Use same scheduler", "Default", "None")) return LIMN_OK;
    LIMN_CHECK(err, *first, LIMN_E_VALUE, "/hr_scheduler: needs a sampler_name");
    bool any = strcasecmp(own, "Automatic") == 0;
    LIMN_CHECK(err, any || limn_schedule_find(&sigma, own, NULL) == LIMN_OK, LIMN_E_NOT_FOUND,
               "Scheduler not found");
    snprintf(name, sizeof name, "%s%s%s", *hires ? hires : first, any ? "" : " ", any ? "" : own);
    LIMN_TRY(set_text(gen, "hires_sampler", name, err));
    if (!*schedule || strcasecmp(schedule, "automatic") == 0) return LIMN_OK;
    snprintf(name, sizeof name, "%s %s", first, schedule);
    LIMN_TRY(set_text(gen, "sampler", name, err));
    LIMN_TRY(set_text(gen, "schedule", "automatic", err));
out:
    return st;
}

static limn_status take_hires(limn_http_req *rq, limn_params *gen, const json_t *body,
                              limn_err *err) {
    const char *upscaler = text_of(body, "hr_upscaler"),
               *sampler = text_of(body, "hr_sampler_name");
    double x = floor(number_of(body, "hr_resize_x", 0) / 8) * 8;
    double y = floor(number_of(body, "hr_resize_y", 0) / 8) * 8;
    double steps = number_of(body, "hr_second_pass_steps", 0);
    double strength = sdapi_is_sdnext(rq) ? number_of(body, "hr_denoising_strength", 0.5)
                                          : number_of(body, "denoising_strength", 0.75);
    limn_status st = LIMN_OK;
    if (!is_on(body, "enable_hr")) return LIMN_OK;
    if (x > 0) LIMN_TRY(set_number(gen, "hires_width", x, err));
    if (y > 0) LIMN_TRY(set_number(gen, "hires_height", y, err));
    if (x <= 0 && y <= 0)
        LIMN_TRY(set_number(gen, "hires_scale", number_of(body, "hr_scale", 2), err));
    if (steps > 0) LIMN_TRY(set_number(gen, "hires_steps", steps, err));
    LIMN_TRY(set_number(gen, "hires_strength", strength, err));
    if (*upscaler && strcmp(upscaler, "None") != 0)
        LIMN_TRY(set_text(gen, "hires_upscaler", upscaler, err));
    if (!is_one_of(sampler, "Use same sampler", "Same as primary", "Default"))
        LIMN_TRY(set_text(gen, "hires_sampler", sampler, err));
    LIMN_TRY(take_hires_schedule(gen, body, err));
    if (json_is_number(json_object_get(body, "hr_cfg")))
        LIMN_TRY(set_number(gen, "hires_cfg_scale", number_of(body, "hr_cfg", 7), err));
out:
    return st;
}

static limn_status take_model(limn_http_req *rq, limn_params *gen, const char *name,
                              limn_err *err) {
    limn_shelf_item item = {0};
    if (!*name) return LIMN_OK;
    limn_status st = limn_shelf_find(rq->server->shelf, &item, LIMN_SHELF_DRAW, name, err);
    if (st == LIMN_OK) st = set_text(gen, "model", item.name, err);
    limn_shelf_item_deinit(&item);
    return st;
}

/* Options of the server, then of this request. */
static limn_status take_settings(limn_http_req *rq, limn_params *gen, const json_t *body,
                                 limn_err *err) {
    json_t *options = sdapi_options_get(rq);
    const json_t *own = json_object_get(body, "override_settings");
    limn_status st = LIMN_OK;
    if (json_is_object(own)) {
        json_object_update(options, (json_t *)(uintptr_t)own);
        LIMN_TRY(take_model(rq, gen, text_of(own, "sd_model_checkpoint"), err));
    }
    const char *vae = text_of(options, "sd_vae"), *format = text_of(options, "samples_format");
    double skip = number_of(options, "CLIP_stop_at_last_layers", 1);
    if (!is_one_of(vae, "Automatic", "None", "Default")) LIMN_TRY(set_text(gen, "vae", vae, err));
    if (skip > 1 && !limn_params_is_set(gen, "clip_skip"))
        LIMN_TRY(set_number(gen, "clip_skip", skip, err));
    LIMN_TRY(set_text(gen, "format", strcasecmp(format, "jpg") == 0 ? "jpeg" : format, err));
    if (strcmp(text_of(options, "randn_source"), "NV") == 0)
        LIMN_TRY(set_text(gen, "rng", "cuda", err));
out:
    json_decref(options);
    return st;
}

static limn_status check_scripts(const json_t *body, limn_err *err) {
    const char *script = text_of(body, "script_name"), *name;
    json_t *scripts = json_object_get(body, "alwayson_scripts"), *v;
    if (*script && strcasecmp(script, "None") != 0)
        return limn_fail(err, LIMN_E_VALUE, "/script_name: Script '%.60s' not found", script);
    if (scripts && !json_is_object(scripts) && !json_is_null(scripts))
        return bad_field("alwayson_scripts", "must be an object", err);
    json_object_foreach(scripts, name, v) {
        /* clients send the ones they know of without arguments: nothing is asked for */
        if (json_array_size(json_object_get(v, "args")) == 0) continue;
        return limn_fail(err, LIMN_E_VALUE, "/alwayson_scripts: always on script %.60s not found",
                         name);
    }
    return LIMN_OK;
}

static bool is_switched_on(const json_t *v, double off, const char *word) {
    const char *text = json_string_value(v);
    if (text) return *text && !(word && strcmp(text, word) == 0);
    if (json_is_number(v)) return json_number_value(v) != off && json_number_value(v) != -1;
    return json_is_true(v) || json_array_size(v) > 0 || json_object_size(v) > 0;
}

static limn_status check_absent(const json_t *body, limn_err *err) {
    for (int i = 0; i < COUNT(absent); i++)
        if (is_switched_on(json_object_get(body, absent[i].name), absent[i].off, absent[i].word))
            return limn_fail(err, LIMN_E_UNSUPPORTED, "%s is not there yet", absent[i].name);
    return LIMN_OK;
}

/* What an infotext says lies between the defaults and what the client says. Files that it names are
 * of another machine: only the fields of a request are taken. */
static limn_status lay_infotext(limn_http_req *rq, json_t *o, limn_err *err) {
    static const char *const by_hand[][2] = {{"sampler_name", "sampler"},
                                             {"scheduler", "schedule"},
                                             {"denoising_strength", "strength"},
                                             {"hr_scale", "hires_scale"},
                                             {"hr_resize_x", "hires_width"},
                                             {"hr_resize_y", "hires_height"},
                                             {"hr_second_pass_steps", "hires_steps"},
                                             {"hr_upscaler", "hires_upscaler"},
                                             {"hr_sampler_name", "hires_sampler"},
                                             {"hr_cfg", "hires_cfg_scale"}};
    const char *text = text_of(rq->json, "infotext");
    limn_params *said = NULL;
    char *dump = NULL;
    json_t *values = NULL;
    limn_status st = LIMN_OK;
    if (!*text) return LIMN_OK;
    LIMN_TRY(limn_params_new(&said, LIMN_PARAMS_GEN, err));
    LIMN_TRY(limn_params_parse_text(said, text, strlen(text), LIMN_FROM_FILE, NULL, err));
    LIMN_TRY(limn_params_format_json(&dump, said, false, err));
    values = json_loads(dump, 0, NULL);
    for (int i = 0; i < COUNT(fields); i++) {
        json_t *v = fields[i].param ? json_object_get(values, fields[i].param) : NULL;
        if (v && check_field(&fields[i], v, NULL) == LIMN_OK) json_object_set(o, fields[i].name, v);
    }
    for (int i = 0; i < COUNT(by_hand); i++)
        if (json_object_get(values, by_hand[i][1]))
            json_object_set(o, by_hand[i][0], json_object_get(values, by_hand[i][1]));
    if (json_object_get(values, "sampler")) json_object_del(o, "sampler_index");
    json_t *strength = json_object_get(values, "hires_strength");
    if (strength)
        json_object_set(o, sdapi_is_sdnext(rq) ? "hr_denoising_strength" : "denoising_strength",
                        strength);
    if (strength || json_object_get(values, "hires_scale") ||
        json_object_get(values, "hires_width"))
        json_object_set_new(o, "enable_hr", json_true());
out:
    limn_params_free(&said);
    limn_text_free(&dump);
    json_decref(values);
    return st;
}

/* The profile's defaults lie under what the client says. */
static json_t *default_body(limn_http_req *rq, bool image) {
    bool sdnext = sdapi_is_sdnext(rq);
    int side = sdnext ? 1024 : 512;
    json_t *o = json_pack(
        "{s:s, s:s, s:[], s:i, s:i, s:f, s:i, s:i, s:i, s:f, s:i, s:i, s:b, s:b, s:{}, s:{}, s:s, "
        "s:[], s:s?}",
        "prompt", "", "negative_prompt", "", "styles", "seed", -1, "subseed", -1,
        "subseed_strength", 0.0, "batch_size", 1, "n_iter", 1, "steps", sdnext ? 20 : 50,
        "cfg_scale", sdnext ? 6.0 : 7.0, "width", side, "height", side, "send_images", 1,
        "save_images", 0, "override_settings", "alwayson_scripts", "script_name", "", "script_args",
        "sampler_name", sdnext ? "Default" : NULL);
    if (!sdnext) json_object_set_new(o, "sampler_index", json_string("Euler"));
    if (image) {
        json_object_set_new(o, "denoising_strength", json_real(sdnext ? 0.5 : 0.75));
        json_object_set_new(o, "resize_mode", json_integer(0));
        json_object_set_new(o, "mask_blur", json_integer(4));
        json_object_set_new(o, "inpainting_fill", json_integer(sdnext ? 1 : 0));
        json_object_set_new(o, "inpaint_full_res", json_boolean(!sdnext));
        json_object_set_new(o, "inpaint_full_res_padding", json_integer(0));
        json_object_set_new(o, "inpainting_mask_invert", json_integer(0));
        json_object_set_new(o, "include_init_images", json_false());
    }
    return o;
}

limn_status sdapi_drawing_body(json_t **out, limn_http_req *rq, bool image, limn_err *err) {
    json_t *o = *out = default_body(rq, image), *v;
    const char *key;
    if (!o) return limn_fail(err, LIMN_E_NOMEM, "no memory for the request");
    limn_status st = lay_infotext(rq, o, err);
    json_object_foreach(rq->json, key, v) {
        if (!json_is_null(v) || !json_object_get(o, key)) json_object_set(o, key, v);
    }
    return st;
}

static limn_status take_pictures(limn_http_req *rq, limn_params *gen, const json_t *body,
                                 limn_err *err) {
    static const char *const fits[2][4] = {{"stretch", "crop", "pad", "latent"},
                                           {"stretch", "stretch", "crop", "pad"}}; /* SD.Next */
    static const char *const fills[] = {"fill", "original", "noise", "zeros"};
    const json_t *list = json_object_get(body, "init_images");
    const char *mask = text_of(body, "mask");
    char ref[LIMN_PICTURE_REF_MAX];
    int mode = (int)number_of(body, "resize_mode", 0);
    limn_status st = LIMN_OK;
    const char *first = json_string_value(json_array_get(list, 0));
    LIMN_CHECK(err, first, LIMN_E_VALUE, "/init_images: must be a list of strings");
    LIMN_CHECK(err, json_array_size(list) <= LIMN_LIMIT_IMAGES_IN, LIMN_E_VALUE,
               "/init_images: at most %d pictures", LIMN_LIMIT_IMAGES_IN);
    LIMN_CHECK(err, mode <= 3, sdapi_is_sdnext(rq) ? LIMN_E_UNSUPPORTED : LIMN_E_VALUE,
               "/resize_mode: %d is not there, 0 to 3 are", mode);
    LIMN_TRY(limn_picture_take(rq, ref, first, true, "/init_images", err));
    LIMN_TRY(set_text(gen, "init_image", ref, err));
    LIMN_TRY(set_text(gen, "fit", fits[sdapi_is_sdnext(rq)][mode & 3], err));
    LIMN_TRY(set_number(gen, "strength", number_of(body, "denoising_strength", 0.75), err));
    if (*mask) {
        LIMN_TRY(limn_picture_take(rq, ref, mask, true, "/mask", err));
        LIMN_TRY(set_text(gen, "mask", ref, err));
        LIMN_TRY(set_text(gen, "mask_invert",
                          number_of(body, "inpainting_mask_invert", 0) != 0 ? "on" : "off", err));
        LIMN_TRY(set_text(gen, "inpaint_fill",
                          fills[(int)number_of(body, "inpainting_fill", 0) & 3], err));
        LIMN_TRY(set_text(gen, "inpaint_area", is_on(body, "inpaint_full_res") ? "masked" : "whole",
                          err));
    }
out:
    return st;
}

limn_status sdapi_read_drawing(limn_http_req *rq, limn_params *gen, const json_t *body, bool image,
                               limn_err *err) {
    limn_status st = LIMN_OK;
    LIMN_TRY(check_absent(body, err));
    LIMN_TRY(check_scripts(body, err));
    LIMN_TRY(take_fields(gen, body, fields, COUNT(fields), err));
    if (image) LIMN_TRY(take_fields(gen, body, image_fields, COUNT(image_fields), err));
    LIMN_CHECK(
        err,
        limn_params_int(gen, "count") * limn_params_int(gen, "batch_size") <= LIMN_LIMIT_IMAGES_OUT,
        LIMN_E_VALUE, "/n_iter: n_iter x batch_size may be %d at most", LIMN_LIMIT_IMAGES_OUT);
    LIMN_TRY(take_sampler(gen, body, err));
    LIMN_TRY(take_settings(rq, gen, body, err));
    if (image)
        LIMN_TRY(take_pictures(rq, gen, body, err));
    else
        LIMN_TRY(take_hires(rq, gen, body, err));
    LIMN_TRY(limn_api_check_names(gen, err));
out:
    return st;
}

/* ---- the answer ---- */

/* base64 of the artifacts of a role, in order; false and an answer when one cannot be read. */
static bool add_images(limn_http_req *rq, json_t *list, const limn_job *job) {
    limn_err err = {0};
    for (int i = 0; i < job->n_artifacts; i++) {
        void *data;
        size_t size;
        if (job->artifacts[i].role != LIMN_ARTIFACT_RESULT) continue;
        if (limn_api_load_artifact(rq, &job->artifacts[i], &data, &size, &err) != LIMN_OK) {
            limn_api_fail(rq, &err);
            return false;
        }
        char *text = limn_base64_write(data, size);
        limn_mem_free(data);
        json_array_append_new(list, text ? json_string_nocheck(text) : json_string(""));
        limn_mem_free(text);
    }
    return true;
}

static void fail_ended(limn_http_req *rq, const limn_job *job) {
    limn_err err = {.status = job ? job->error : LIMN_E_NOT_FOUND};
    snprintf(err.text, sizeof err.text, "%s",
             job && job->error_text ? job->error_text : "the job is gone");
    limn_api_fail(rq, &err);
}

/* One request: a job, or with several init_images a job for each of them in each round. */
typedef struct drawing {
    json_t *body, *images, *info; /* info NULL: no job has ended yet */
    char (*jobs)[LIMN_JOB_ID_LEN + 1];
    int n, done;
    bool cancel; /* when the client goes away */
    limn_queue *queue;
} drawing;

static void cancel_rest(const drawing *d, int from) {
    limn_job_state was;
    for (int i = from; i < d->n; i++) limn_queue_cancel(d->queue, NULL, d->jobs[i], &was, NULL);
}

static void free_drawing(void *data) {
    drawing *d = data;
    if (d->cancel) cancel_rest(d, d->done + 1); /* those that nobody has waited for yet */
    json_decref(d->body);
    json_decref(d->images);
    json_decref(d->info);
    limn_mem_free(d->jobs);
    limn_mem_free(d);
}

/* What a further job says goes behind what the first ones said. */
static void add_info(drawing *d, json_t *info) {
    static const char *const lists[] = {"all_prompts", "all_negative_prompts", "all_seeds",
                                        "all_subseeds", "infotexts"};
    for (size_t i = 0; d->info && i < COUNT(lists); i++)
        json_array_extend(json_object_get(d->info, lists[i]), json_object_get(info, lists[i]));
    if (!d->info) d->info = json_incref(info);
    json_decref(info);
}

static void reply_drawing(limn_http_req *rq, drawing *d, int per_round) {
    if (!is_on(d->body, "include_init_images") && json_object_get(d->body, "init_images")) {
        json_object_set_new(d->body, "init_images", json_null());
        json_object_set_new(d->body, "mask", json_null());
    }
    if (per_round > 1)
        json_object_set_new(d->info, "batch_size", json_integer(per_round));
    else if (d->info)
        json_object_set(d->info, "batch_size", json_object_get(d->body, "batch_size"));
    char *text = d->info ? json_dumps(d->info, 0) : NULL;
    limn_http_reply_json(rq, 200,
                         json_pack("{s:O, s:O, s:s}", "images", d->images, "parameters", d->body,
                                   "info", text ? text : "{}"));
    free(text);
}

static void drawn(limn_http_req *rq, limn_job *job, bool ended) {
    drawing *d = rq->data;
    (void)ended;
    int have = 0, given = (int)json_array_size(json_object_get(d->body, "init_images"));
    for (int i = 0; job && i < job->n_artifacts; i++)
        have += job->artifacts[i].role == LIMN_ARTIFACT_RESULT;
    /* as the originals do, what was drawn before an interrupt is an answer */
    bool whole = job && job->state == LIMN_JOB_SUCCEEDED;
    if (!whole && have == 0 && !d->info) {
        cancel_rest(d, d->done + 1);
        fail_ended(rq, job);
        return;
    }
    if (have && !json_is_false(json_object_get(d->body, "send_images")) &&
        !add_images(rq, d->images, job)) {
        cancel_rest(d, d->done + 1);
        return;
    }
    if (have) add_info(d, sdapi_info(rq, job));
    if (!whole) cancel_rest(d, d->done + 1);
    if (whole && ++d->done < d->n)
        limn_http_wait(rq, d->jobs[d->done], -1, d->cancel, drawn);
    else
        reply_drawing(rq, d, given);
}

/* The values of job `k` of several: its picture, and the next seed. */
static limn_status next_values(limn_http_req *rq, limn_params *gen, const json_t *list, int k,
                               limn_err *err) {
    char ref[LIMN_PICTURE_REF_MAX];
    const char *text = json_string_value(json_array_get(list, (size_t)k % json_array_size(list)));
    limn_status st = LIMN_OK;
    LIMN_CHECK(err, text, LIMN_E_VALUE, "/init_images: must be a list of strings");
    LIMN_TRY(limn_picture_take(rq, ref, text, true, "/init_images", err));
    LIMN_TRY(set_text(gen, "init_image", ref, err));
    LIMN_TRY(set_number(gen, "count", 1, err));
    LIMN_TRY(set_number(gen, "batch_size", 1, err));
    if (k > 0 && limn_params_is_set(gen, "seed")) {
        char seed[32];
        snprintf(seed, sizeof seed, "%lld", (long long)(limn_params_int(gen, "seed") + 1));
        LIMN_TRY(set_text(gen, "seed", seed, err));
    }
out:
    return st;
}

/* false: rq has been answered. */
static bool submit_drawing(limn_http_req *rq, drawing *d, limn_params *gen, limn_submit *submit) {
    const json_t *list = json_object_get(d->body, "init_images");
    int given = (int)json_array_size(list), jobs = 1;
    limn_submitted made;
    limn_err err = {0};
    limn_status st = LIMN_OK;
    if (given > 1) jobs = given * (int)limn_params_int(gen, "count");
    LIMN_CHECK(&err, jobs <= LIMN_LIMIT_IMAGES_OUT, LIMN_E_VALUE,
               "/n_iter: n_iter x init_images may be %d at most", LIMN_LIMIT_IMAGES_OUT);
    LIMN_CHECK(&err, jobs == 1 || !limn_http_header(rq, "Idempotency-Key"), LIMN_E_VALUE,
               "/init_images: with an Idempotency-Key it must be one");
    d->jobs = limn_mem_calloc((size_t)jobs, sizeof *d->jobs);
    LIMN_CHECK(&err, d->jobs, LIMN_E_NOMEM, "no memory for the request");
    while (d->n < jobs) {
        if (jobs > 1) LIMN_TRY(next_values(rq, gen, list, d->n, &err));
        if (!limn_api_submit(rq, submit, &made)) {
            cancel_rest(d, 0);
            return false;
        }
        snprintf(d->jobs[d->n++], sizeof *d->jobs, "%s", made.id);
    }
out:
    if (st != LIMN_OK) {
        cancel_rest(d, 0);
        limn_api_fail(rq, &err);
    }
    return st == LIMN_OK;
}

static void draw(limn_http_req *rq, bool image) {
    limn_err err = {0};
    limn_params *gen = NULL;
    static const char *const tags[] = {"sdapi"};
    limn_submit submit = {
        .kind = LIMN_JOB_DRAW, .source = "sdapi", .tags = tags, .n_tags = 1, .preview_every = 5};
    drawing *d = limn_mem_calloc(1, sizeof *d);
    limn_status st = LIMN_OK;
    LIMN_CHECK(&err, d, LIMN_E_NOMEM, "no memory for the request");
    d->queue = rq->server->queue;
    rq->data = d;
    rq->free_data = free_drawing;
    if (image && json_array_size(json_object_get(rq->json, "init_images")) == 0) {
        limn_http_fail(rq, sdapi_is_sdnext(rq) ? LIMN_HTTP_BAD_REQUEST : LIMN_HTTP_NOT_FOUND, NULL,
                       "Init image not found");
        return;
    }
    d->images = json_array();
    LIMN_CHECK(&err, d->images, LIMN_E_NOMEM, "no memory for the request");
    LIMN_TRY(sdapi_drawing_body(&d->body, rq, image, &err));
    LIMN_TRY(limn_params_new(&gen, LIMN_PARAMS_GEN, &err));
    LIMN_TRY(sdapi_read_drawing(rq, gen, d->body, image, &err));
    /* a client that only wants the picture in its answer has gone: nobody wants it */
    submit.keep = is_on(d->body, "save_images") || *text_of(d->body, "force_task_id");
    submit.params = gen;
    d->cancel = !submit.keep;
    if (submit_drawing(rq, d, gen, &submit)) limn_http_wait(rq, d->jobs[0], -1, d->cancel, drawn);
out:
    if (st != LIMN_OK) limn_api_fail(rq, &err);
    limn_params_free(&gen);
}

void sdapi_txt2img(limn_http_req *rq) {
    draw(rq, false);
}

void sdapi_img2img(limn_http_req *rq) {
    draw(rq, true);
}
