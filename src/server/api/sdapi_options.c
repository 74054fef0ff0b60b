/* SPDX-License-Identifier: MIT */
/*
 * Options. Clients read the whole object, change one member and send all of it back: unknown
 * members are taken silently, and what limn acts on is sd_model_checkpoint, sd_vae, samples_format,
 * CLIP_stop_at_last_layers and randn_source. The rest is kept and shown.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "server/api/sdapi.h"

enum { MEMBERS_MAX = 2000, TEXT_MAX_BYTES = 4096 };

static json_t *defaults(limn_http_req *rq) {
    bool sdnext = sdapi_is_sdnext(rq);
    limn_shelf_item model = {0};
    limn_shelf_find(rq->server->shelf, &model, LIMN_SHELF_DRAW, "", NULL);
    json_t *o = json_pack("{s:s, s:n, s:s, s:s, s:i, s:s, s:i, s:b, s:b, s:b, s:s, s:b}",
                          "sd_model_checkpoint", model.name ? model.name : "", "sd_checkpoint_hash",
                          "sd_vae", "Automatic", "samples_format", sdnext ? "jpg" : "png",
                          "CLIP_stop_at_last_layers", 1, "randn_source", "CPU", "jpeg_quality", 90,
                          "samples_save", 1, "return_grid", 0, "enable_pnginfo", 1,
                          "upscaler_for_img2img", "None", "live_previews_enable", 1);
    limn_shelf_item_deinit(&model);
    return o;
}

/* What was stored, over what follows from the profile; the model is always the one that is. */
json_t *sdapi_options_get(limn_http_req *rq) {
    json_t *o = defaults(rq), *kept = limn_prefs_get_object(rq->server->prefs, "sdapi", "options");
    json_object_del(kept, "sd_model_checkpoint");
    json_object_del(kept, "sd_checkpoint_hash");
    json_object_update(o, kept);
    json_decref(kept);
    return o;
}

void sdapi_options(limn_http_req *rq) {
    limn_http_reply_json(rq, 200, sdapi_options_get(rq));
}

/* ---- change ---- */

static bool is_kept(const json_t *v) {
    return json_is_boolean(v) || json_is_number(v) || json_is_null(v) ||
           (json_is_string(v) && json_string_length(v) <= TEXT_MAX_BYTES);
}

static limn_status check(const json_t *changes, limn_err *err) {
    const json_t *format = json_object_get(changes, "samples_format");
    const json_t *skip = json_object_get(changes, "CLIP_stop_at_last_layers");
    const char *f = json_string_value(format);
    if (json_object_size(changes) > MEMBERS_MAX)
        return limn_fail(err, LIMN_E_VALUE, "/: too many options");
    if (format && (!f || (strcasecmp(f, "png") && strcasecmp(f, "jpg") && strcasecmp(f, "jpeg") &&
                          strcasecmp(f, "webp"))))
        return limn_fail(err, LIMN_E_VALUE, "/samples_format: png, jpg or webp");
    if (skip &&
        (!json_is_number(skip) || json_number_value(skip) < 1 || json_number_value(skip) > 12))
        return limn_fail(err, LIMN_E_VALUE, "/CLIP_stop_at_last_layers: 1 to 12");
    return LIMN_OK;
}

static json_t *updated(const json_t *changes) {
    json_t *list = json_array();
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)changes, key, v) {
        (void)v;
        json_array_append_new(list, json_pack("{s:b}", key, 1));
    }
    return json_pack("{s:o}", "updated", list);
}

static void reply_set(limn_http_req *rq) {
    limn_http_reply_json(rq, 200, sdapi_is_sdnext(rq) ? updated(rq->json) : json_null());
}

static void loaded(limn_http_req *rq, limn_job *job, bool ended) {
    limn_err err = {.status = job ? job->error : LIMN_E_NOT_FOUND};
    (void)ended;
    if (job && job->state == LIMN_JOB_SUCCEEDED) {
        reply_set(rq);
        return;
    }
    snprintf(err.text, sizeof err.text, "%s", job && job->error_text ? job->error_text : "");
    limn_api_fail(rq, &err);
}

/* Makes a model the default and loads it; answers when it is ready. true: the answer comes. */
static bool change_model(limn_http_req *rq, const char *name, limn_err *err) {
    limn_server *s = rq->server;
    limn_shelf_item item = {0};
    limn_submit submit = {.kind = LIMN_JOB_LOAD, .source = "sdapi", .keep = true};
    limn_submitted made;
    char *text = NULL;
    limn_status st = limn_shelf_find(s->shelf, &item, LIMN_SHELF_DRAW, name, err);
    if (st == LIMN_OK && item.is_default) {
        limn_shelf_item_deinit(&item);
        return false;
    }
    json_t *change = st == LIMN_OK ? json_pack("{s:s}", "default_model", item.name) : NULL;
    if (st == LIMN_OK) st = limn_prefs_set(s->prefs, change, err);
    json_decref(change);
    json_t *spec = st == LIMN_OK ? json_pack("{s:s}", "model", item.name) : NULL;
    if (st == LIMN_OK) st = limn_api_give_json(&submit, spec, &text, err);
    json_decref(spec);
    if (st == LIMN_OK && limn_api_submit(rq, &submit, &made))
        limn_http_wait(rq, made.id, -1, false, loaded);
    free(text);
    limn_shelf_item_deinit(&item);
    return st == LIMN_OK;
}

void sdapi_options_set(limn_http_req *rq) {
    limn_err err = {0};
    limn_prefs *prefs = rq->server->prefs;
    const char *model = json_string_value(json_object_get(rq->json, "sd_model_checkpoint")), *key;
    json_t *v;
    if (check(rq->json, &err) != LIMN_OK) {
        limn_api_fail(rq, &err);
        return;
    }
    json_t *kept = limn_prefs_get_object(prefs, "sdapi", "options");
    json_object_foreach(rq->json, key, v) {
        if (is_kept(v)) json_object_set(kept, key, v);
    }
    limn_status st = limn_prefs_set_object(prefs, "sdapi", "options", kept, &err);
    json_decref(kept);
    if (st == LIMN_OK && model && *model && change_model(rq, model, &err)) return;
    if (err.status != LIMN_OK)
        limn_api_fail(rq, &err);
    else
        reply_set(rq);
}
