/* SPDX-License-Identifier: MIT */
/* Native routes about what there is: parameters, samplers, models (docs/API.md, 6). */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "param/gen.h"
#include "server/api/api.h"
#include "text/styles.h"
#include "text/wildcards.h"

static void reply_list(limn_http_req *rq, json_t *list) {
    limn_http_reply_json(rq, 200, json_pack("{s:o, s:n}", "data", list, "next"));
}

/* "a|b" or "a, b" as a list. */
static json_t *split_words(const char *words) {
    json_t *list = json_array();
    while (words && *words) {
        size_t n = strcspn(words, "|,");
        const char *at = words;
        words += n + (words[n] != 0);
        while (n && *at == ' ') at++, n--;
        if (n) json_array_append_new(list, json_stringn(at, n));
    }
    return list;
}

static void reply_choices(limn_http_req *rq, const char *name) {
    json_t *list = json_array();
    limn_choice c;
    for (int i = 0; limn_engine_choice(&c, name, i); i++)
        json_array_append_new(list,
                              json_pack("{s:s, s:o, s:s}", "name", c.name, "aliases",
                                        split_words(c.aliases), "help", c.help ? c.help : ""));
    reply_list(rq, list);
}

void native_samplers(limn_http_req *rq) {
    reply_choices(rq, "sampler");
}

void native_schedules(limn_http_req *rq) {
    reply_choices(rq, "schedule");
}

void native_upscalers(limn_http_req *rq) {
    json_t *list = json_array();
    limn_choice c;
    limn_shelf_page page = {0};
    for (int i = 0; limn_engine_choice(&c, "upscaler", i); i++)
        json_array_append_new(list,
                              json_pack("{s:s, s:o, s:s}", "name", c.name, "aliases",
                                        split_words(c.aliases), "help", c.help ? c.help : ""));
    if (limn_shelf_list(rq->server->shelf, &page, 1u << LIMN_SHELF_UPSCALER, NULL) == LIMN_OK)
        for (int i = 0; i < page.count; i++)
            json_array_append_new(list,
                                  json_pack("{s:s, s:[], s:s}", "name", page.items[i].name,
                                            "aliases", "help", "a network of the models folder"));
    limn_shelf_page_deinit(&page);
    reply_list(rq, list);
}

/* ---- parameters ---- */

static const char *const type_words[] = {
    [LIMN_TYPE_INT] = "int",   [LIMN_TYPE_REAL] = "real", [LIMN_TYPE_BOOL] = "bool",
    [LIMN_TYPE_ENUM] = "enum", [LIMN_TYPE_BYTES] = "int", [LIMN_TYPE_TEXT] = "text",
    [LIMN_TYPE_LIST] = "list",
};

static json_t *default_json(const limn_params *defaults, const limn_param *p) {
    switch (p->type) {
    case LIMN_TYPE_INT:
    case LIMN_TYPE_BYTES: return json_integer(limn_params_int(defaults, p->name));
    case LIMN_TYPE_REAL: return json_real(limn_params_real(defaults, p->name));
    case LIMN_TYPE_BOOL: return json_boolean(limn_params_int(defaults, p->name) != 0);
    case LIMN_TYPE_ENUM:
    case LIMN_TYPE_TEXT: return json_string(limn_params_text(defaults, p->name));
    case LIMN_TYPE_LIST: break;
    }
    return json_array();
}

static json_t *flags_json(const limn_param *p) {
    json_t *list = json_array();
    bool image = strcmp(p->name, "init_image") == 0 || strcmp(p->name, "mask") == 0;
    if (image) json_array_append_new(list, json_string("image"));
    if (p->flags & LIMN_P_AXIS) json_array_append_new(list, json_string("axis"));
    if (p->flags & LIMN_P_MODEL_DEFAULT) json_array_append_new(list, json_string("model_default"));
    if (p->flags & LIMN_P_RANDOM) json_array_append_new(list, json_string("random"));
    return list;
}

static json_t *words_json(const limn_param *p) {
    json_t *list = json_array();
    for (const limn_word *w = p->words; w && w->name; w++)
        json_array_append_new(list, json_string(w->name));
    return list;
}

static json_t *param_json(const limn_params *defaults, const limn_param *p) {
    bool number = p->type == LIMN_TYPE_INT || p->type == LIMN_TYPE_REAL;
    bool whole = p->type == LIMN_TYPE_INT;
    json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:s?, s:o, s:s?, s:i}", "name", p->name, "type",
                          type_words[p->type], "group", p->group, "help", p->help, "unit", p->unit,
                          "default", default_json(defaults, p), "default_note", p->default_note,
                          "multiple", p->multiple);
    json_object_set_new(o, "min",
                        !number ? json_null()
                        : whole ? json_integer((json_int_t)p->min)
                                : json_real(p->min));
    json_object_set_new(o, "max",
                        !number ? json_null()
                        : whole ? json_integer((json_int_t)p->max)
                                : json_real(p->max));
    json_object_set_new(o, "words", words_json(p));
    json_object_set_new(o, "list", p->list ? json_string(p->list) : json_null());
    json_object_set_new(o, "ui",
                        p->ui_step > 0 ? json_pack("{s:f, s:f, s:f}", "min", p->ui_min, "max",
                                                   p->ui_max, "step", p->ui_step)
                                       : json_null());
    json_object_set_new(o, "aliases", split_words(p->aliases));
    json_object_set_new(o, "flags", flags_json(p));
    return o;
}

void native_params(limn_http_req *rq) {
    const limn_param_table *t = limn_param_table_get(LIMN_PARAMS_GEN);
    limn_err err = {0};
    limn_params *defaults;
    if (limn_params_new(&defaults, LIMN_PARAMS_GEN, &err) != LIMN_OK) {
        limn_api_fail(rq, &err);
        return;
    }
    json_t *list = json_array(), *groups = json_array();
    const char *group = "";
    for (int i = 0; i < t->count; i++) {
        if (strcmp(group, t->rows[i].group) != 0)
            json_array_append_new(groups, json_string(group = t->rows[i].group));
        json_array_append_new(list, param_json(defaults, &t->rows[i]));
    }
    limn_params_free(&defaults);
    limn_http_reply_json(rq, 200,
                         json_pack("{s:o, s:o, s:n}", "groups", groups, "data", list, "next"));
}

void native_params_schema(limn_http_req *rq) {
    limn_err err = {0};
    char *text;
    if (limn_params_schema(&text, LIMN_PARAMS_GEN, limn_engine_choice, &err) == LIMN_OK)
        limn_http_reply_bytes(rq, 200, "application/schema+json", text, strlen(text));
    else
        limn_api_fail(rq, &err);
}

json_t *limn_api_params_json(const limn_params *p, bool all) {
    char *text;
    if (limn_params_format_json(&text, p, all, NULL) != LIMN_OK) return json_null();
    json_t *o = json_loads(text, 0, NULL);
    limn_text_free(&text);
    return o ? o : json_null();
}

void native_params_parse(limn_http_req *rq) {
    const char *text = json_string_value(json_object_get(rq->json, "text"));
    limn_err err = {0};
    limn_params *gen = NULL;
    char *unknown = NULL;
    if (!text) {
        limn_http_fail(rq, LIMN_HTTP_BAD_VALUE, "text", "/text: must be a string");
        return;
    }
    limn_status st = limn_params_new(&gen, LIMN_PARAMS_GEN, &err);
    if (st == LIMN_OK)
        st = limn_params_parse_text(gen, text, strlen(text), LIMN_FROM_FILE, &unknown, &err);
    if (st == LIMN_OK)
        limn_http_reply_json(rq, 200,
                             json_pack("{s:o, s:s?}", "params", limn_api_params_json(gen, false),
                                       "unknown", unknown));
    else
        limn_api_fail(rq, &err);
    limn_text_free(&unknown);
    limn_params_free(&gen);
}

void native_params_format(limn_http_req *rq) {
    limn_err err = {0};
    limn_params *gen = NULL;
    char *text = NULL;
    limn_status st = limn_params_new(&gen, LIMN_PARAMS_GEN, &err);
    if (st == LIMN_OK) st = limn_api_read_params(rq, gen, rq->json, &err);
    if (st == LIMN_OK) st = limn_params_format_text(&text, gen, &err);
    if (st == LIMN_OK)
        limn_http_reply_json(rq, 200, json_pack("{s:s}", "text", text));
    else
        limn_api_fail(rq, &err);
    limn_text_free(&text);
    limn_params_free(&gen);
}

/* ---- models ---- */

static limn_status list_models(limn_http_req *rq, limn_shelf_page *page, unsigned kinds,
                               limn_err *err) {
    limn_server *s = rq->server;
    if (s->engine) return limn_runner_engine_models(s->engine, page, kinds, err);
    return limn_shelf_list(s->shelf, page, kinds, err);
}

static json_t *model_json(const limn_http_req *rq, const limn_shelf_item *m) {
    limn_model_memory memory;
    limn_runner_engine_memory(limn_queue_runner(rq->server->queue), &memory);
    int64_t need = limn_runner_engine_need(m);
    return json_pack(
        "{s:s, s:s, s:I, s:s, s:s, s:s, s:s, s:s?, s:s?, s:b, s:b, s:b, s:b, s:I, s:I,"
        " s:I, s:s}",
        "id", m->name, "object", "model", "created", (json_int_t)(m->modified_ms / 1000),
        "owned_by", "limn", "kind", limn_shelf_kind_word(m->kind), "family", m->family, "title",
        m->title, "license", m->license.name[0] ? m->license.name : NULL, "license_from",
        m->license.name[0] ? m->license.from : NULL, "supported", m->supported, "bundled",
        m->bundled, "default", m->is_default, "loaded", m->loaded, "memory", (json_int_t)m->memory,
        "bytes", (json_int_t)m->bytes, "need", (json_int_t)need, "fits",
        m->loaded || memory.budget == 0 || memory.used + need <= memory.budget ? "now"
        : need <= memory.budget                                                ? "after_unload"
                                                                               : "no");
}

enum { MODELS = 1u << LIMN_SHELF_DRAW | 1u << LIMN_SHELF_SEE };

void native_models(limn_http_req *rq) {
    limn_err err = {0};
    limn_shelf_page page = {0};
    if (list_models(rq, &page, MODELS, &err) != LIMN_OK) {
        limn_api_fail(rq, &err);
        return;
    }
    json_t *list = json_array();
    for (int i = 0; i < page.count; i++)
        json_array_append_new(list, model_json(rq, &page.items[i]));
    limn_shelf_page_deinit(&page);
    limn_http_reply_json(rq, 200,
                         json_pack("{s:s, s:o, s:n}", "object", "list", "data", list, "next"));
}

static void no_model(limn_http_req *rq) {
    limn_http_fail(rq, LIMN_HTTP_NO_MODEL, "model", "The model `%.100s` does not exist",
                   rq->args[0]);
}

void native_model(limn_http_req *rq) {
    limn_err err = {0};
    limn_shelf_page page = {0};
    json_t *found = NULL;
    if (list_models(rq, &page, MODELS, &err) != LIMN_OK) {
        limn_api_fail(rq, &err);
        return;
    }
    for (int i = 0; i < page.count && !found; i++)
        if (strcmp(page.items[i].name, rq->args[0]) == 0) found = model_json(rq, &page.items[i]);
    limn_shelf_page_deinit(&page);
    if (found)
        limn_http_reply_json(rq, 200, found);
    else
        no_model(rq);
}

void native_model_info(limn_http_req *rq) {
    limn_err err = {0};
    char *text = NULL;
    limn_status st = LIMN_E_NOT_FOUND;
    const limn_shelf_kind kinds[] = {LIMN_SHELF_DRAW, LIMN_SHELF_SEE};
    for (int i = 0; i < 2 && st == LIMN_E_NOT_FOUND; i++)
        st = limn_shelf_info(rq->server->shelf, &text, kinds[i], rq->args[0], &err);
    if (st == LIMN_OK)
        limn_http_reply_bytes(rq, 200, "application/json", text, strlen(text));
    else if (st == LIMN_E_NOT_FOUND)
        no_model(rq);
    else
        limn_api_fail(rq, &err);
}

void native_model_advice(limn_http_req *rq) {
    limn_err err = {0};
    char *text = NULL;
    limn_status st =
        limn_runner_engine_advice(limn_queue_runner(rq->server->queue), &text, rq->args[0], &err);
    if (st == LIMN_OK)
        limn_http_reply_json(rq, 200, json_pack("{s:o}", "params", json_loads(text, 0, NULL)));
    else if (st == LIMN_E_NOT_FOUND)
        no_model(rq);
    else
        limn_api_fail(rq, &err);
    limn_text_free(&text);
}

void native_models_refresh(limn_http_req *rq) {
    limn_err err = {0};
    if (limn_shelf_refresh(rq->server->shelf, &err) == LIMN_OK)
        limn_http_reply_json(rq, 200, json_object());
    else
        limn_api_fail(rq, &err);
}

static void reply_shelf(limn_http_req *rq, limn_shelf_kind kind) {
    limn_err err = {0};
    limn_shelf_page page = {0};
    if (limn_shelf_list(rq->server->shelf, &page, 1u << kind, &err) != LIMN_OK) {
        limn_api_fail(rq, &err);
        return;
    }
    json_t *list = json_array();
    for (int i = 0; i < page.count; i++)
        json_array_append_new(
            list, json_pack("{s:s, s:I, s:I, s:s, s:b}", "name", page.items[i].name, "bytes",
                            (json_int_t)page.items[i].bytes, "modified",
                            (json_int_t)page.items[i].modified_ms, "family", page.items[i].family,
                            "supported", page.items[i].supported));
    limn_shelf_page_deinit(&page);
    reply_list(rq, list);
}

void native_loras(limn_http_req *rq) {
    reply_shelf(rq, LIMN_SHELF_LORA);
}

void native_vaes(limn_http_req *rq) {
    reply_shelf(rq, LIMN_SHELF_VAE);
}

void native_embeddings(limn_http_req *rq) {
    reply_shelf(rq, LIMN_SHELF_EMBEDDING);
}

/* "" when there is none */
static const char *models_dir(limn_http_req *rq) {
    const char *dir = limn_params_text(rq->server->app, "models_dir");
    const char *env = getenv("LIMN_MODELS");
    return !*dir && env ? env : dir;
}

void native_wildcards(limn_http_req *rq) {
    const char *dir = models_dir(rq);
    limn_wildcards all = {0};
    limn_err err = {0};
    if (*dir &&
        limn_wildcards_list(&all, limn_http_printf(rq, "%s/wildcards", dir), &err) != LIMN_OK) {
        limn_api_fail(rq, &err);
        return;
    }
    json_t *list = json_array();
    for (size_t i = 0; i < all.n; i++)
        json_array_append_new(
            list, json_pack("{s:s, s:o, s:I}", "name", all.items[i].name, "lines",
                            all.items[i].lines < 0 ? json_null() : json_integer(all.items[i].lines),
                            "modified", (json_int_t)all.items[i].modified_ms));
    limn_wildcards_deinit(&all);
    reply_list(rq, list);
}

json_t *limn_api_styles(limn_http_req *rq) {
    json_t *list = json_array();
    const char *dir = models_dir(rq);
    limn_styles *styles = NULL;
    const char *path = limn_http_printf(rq, "%s/styles.csv", dir);
    if (*dir) limn_styles_load(&styles, path, NULL); /* no file: no styles */
    for (size_t i = 0; styles && i < styles->n; i++)
        json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "name", styles->items[i].name,
                                              "prompt", styles->items[i].prompt, "negative_prompt",
                                              styles->items[i].negative));
    limn_styles_free(&styles);
    return list;
}

void native_styles(limn_http_req *rq) {
    reply_list(rq, limn_api_styles(rq));
}

void native_tokens(limn_http_req *rq) {
    const char *text = json_string_value(json_object_get(rq->json, "text"));
    const char *model = json_string_value(json_object_get(rq->json, "model"));
    limn_err err = {0};
    char *out;
    if (!text) {
        limn_http_fail(rq, LIMN_HTTP_BAD_VALUE, "text", "/text: must be a string");
    } else if (!rq->server->engine) {
        limn_http_fail(rq, LIMN_HTTP_ABSENT, NULL, "the stub has no tokenizer");
    } else if (limn_runner_engine_tokens(rq->server->engine, &out, model ? model : "", text,
                                         &err) == LIMN_OK) {
        limn_http_reply_bytes(rq, 200, "application/json", out, strlen(out));
    } else {
        limn_api_fail(rq, &err);
    }
}
