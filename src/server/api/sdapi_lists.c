/* SPDX-License-Identifier: MIT */
/* What there is, in the shapes that clients of A1111 and SD.Next read. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sample/schedule.h"
#include "server/api/sdapi.h"

static json_t *split_aliases(const char *words) {
    json_t *list = json_array();
    while (words && *words) {
        size_t n = strcspn(words, "|");
        json_array_append_new(list, json_stringn(words, n));
        words += n + (words[n] != 0);
    }
    return list;
}

void sdapi_samplers(limn_http_req *rq) {
    json_t *list = json_array();
    limn_choice c;
    for (int i = 0; limn_engine_choice(&c, "sampler", i); i++)
        json_array_append_new(list, json_pack("{s:s, s:o, s:{}}", "name", c.name, "aliases",
                                              split_aliases(c.aliases), "options"));
    limn_http_reply_json(rq, 200, list);
}

/* "Karras", which their pages show. */
static const char *label_of(const char *name) {
    const limn_schedule *s;
    return limn_schedule_find(&s, name, NULL) == LIMN_OK ? s->label : name;
}

void sdapi_schedulers(limn_http_req *rq) {
    json_t *list = json_array();
    limn_choice c;
    bool sdnext = sdapi_is_sdnext(rq); /* there, schedulers are the samplers */
    for (int i = 0; limn_engine_choice(&c, sdnext ? "sampler" : "schedule", i); i++)
        json_array_append_new(
            list,
            sdnext ? json_pack("{s:s, s:s, s:{}}", "name", c.name, "cls", c.name, "options")
                   : json_pack("{s:s, s:s, s:o, s:f, s:b}", "name", c.name, "label",
                               label_of(c.name), "aliases", split_aliases(c.aliases), "default_rho",
                               strcmp(c.name, "karras") == 0 ? 7.0 : -1.0, "need_inner_model", 0));
    limn_http_reply_json(rq, 200, list);
}

void sdapi_upscalers(limn_http_req *rq) {
    json_t *list = json_array();
    limn_choice c;
    limn_shelf_page page = {0};
    json_array_append_new(list, json_pack("{s:s, s:n, s:n, s:n, s:i}", "name", "None", "model_name",
                                          "model_path", "model_url", "scale", 4));
    for (int i = 0; limn_engine_choice(&c, "upscaler", i); i++)
        if (strcmp(c.name, "Latent") != 0)
            json_array_append_new(list,
                                  json_pack("{s:s, s:n, s:n, s:n, s:i}", "name", c.name,
                                            "model_name", "model_path", "model_url", "scale", 4));
    if (limn_shelf_list(rq->server->shelf, &page, 1u << LIMN_SHELF_UPSCALER, NULL) == LIMN_OK)
        for (int i = 0; i < page.count; i++)
            json_array_append_new(list,
                                  json_pack("{s:s, s:s, s:n, s:n, s:i}", "name", page.items[i].name,
                                            "model_name", page.items[i].name, "model_path",
                                            "model_url", "scale", 4));
    limn_shelf_page_deinit(&page);
    limn_http_reply_json(rq, 200, list);
}

void sdapi_latent_modes(limn_http_req *rq) {
    limn_http_reply_json(rq, 200, json_pack("[{s:s}]", "name", "Latent"));
}

/* Names stand where the originals show paths of the server. */
static json_t *model_json(limn_http_req *rq, const limn_shelf_item *m) {
    json_t *o = json_pack("{s:s, s:s, s:n, s:n, s:s, s:n}", "title", m->name, "model_name", m->name,
                          "hash", "sha256", "filename", m->name, "config");
    if (sdapi_is_sdnext(rq)) json_object_set_new(o, "type", json_string(m->family));
    return o;
}

typedef json_t *item_fn(limn_http_req *rq, const limn_shelf_item *m);

static void reply_shelf(limn_http_req *rq, limn_shelf_kind kind, item_fn *fn) {
    limn_err err = {0};
    limn_shelf_page page = {0};
    if (limn_shelf_list(rq->server->shelf, &page, 1u << kind, &err) != LIMN_OK) {
        limn_api_fail(rq, &err);
        return;
    }
    json_t *list = json_array();
    for (int i = 0; i < page.count; i++)
        if (page.items[i].supported) json_array_append_new(list, fn(rq, &page.items[i]));
    limn_shelf_page_deinit(&page);
    limn_http_reply_json(rq, 200, list);
}

void sdapi_models(limn_http_req *rq) {
    reply_shelf(rq, LIMN_SHELF_DRAW, model_json);
}

static json_t *vae_json(limn_http_req *rq, const limn_shelf_item *m) {
    (void)rq;
    return json_pack("{s:s, s:s}", "model_name", m->name, "filename", m->name);
}

void sdapi_vaes(limn_http_req *rq) {
    reply_shelf(rq, LIMN_SHELF_VAE, vae_json);
}

static json_t *lora_json(limn_http_req *rq, const limn_shelf_item *m) {
    (void)rq;
    const char *slash = strrchr(m->name, '/');
    return json_pack("{s:s, s:s, s:s, s:{}}", "name", m->name, "alias", slash ? slash + 1 : m->name,
                     "path", m->name, "metadata");
}

void sdapi_loras(limn_http_req *rq) {
    reply_shelf(rq, LIMN_SHELF_LORA, lora_json);
}

void sdapi_embeddings(limn_http_req *rq) {
    limn_shelf_page page = {0};
    bool sdnext = sdapi_is_sdnext(rq);
    json_t *loaded = sdnext ? json_array() : json_object();
    if (limn_shelf_list(rq->server->shelf, &page, 1u << LIMN_SHELF_EMBEDDING, NULL) == LIMN_OK)
        for (int i = 0; i < page.count; i++) {
            if (sdnext)
                json_array_append_new(loaded, json_string(page.items[i].name));
            else
                json_object_set_new(
                    loaded, page.items[i].name,
                    json_pack("{s:n, s:n, s:n}", "step", "sd_checkpoint", "sd_checkpoint_name"));
        }
    limn_shelf_page_deinit(&page);
    limn_http_reply_json(rq, 200,
                         json_pack("{s:o, s:o}", "loaded", loaded, "skipped",
                                   sdnext ? json_array() : json_object()));
}

void sdapi_styles(limn_http_req *rq) {
    limn_http_reply_json(rq, 200, limn_api_styles(rq));
}

void sdapi_scripts(limn_http_req *rq) {
    limn_http_reply_json(rq, 200, json_pack("{s:[], s:[]}", "txt2img", "img2img"));
}

void sdapi_script_info(limn_http_req *rq) {
    limn_http_reply_json(rq, 200, json_array());
}

void sdapi_empty_list(limn_http_req *rq) {
    limn_http_reply_json(rq, 200, json_array());
}

void sdapi_empty_object(limn_http_req *rq) {
    limn_http_reply_json(rq, 200, json_object());
}
