/* SPDX-License-Identifier: MIT */
/*
 * Recipes of programs that write JSON: ComfyUI's prompt graph and InvokeAI's metadata.
 *
 * A ComfyUI graph maps node ids to {class_type, inputs}; an input is a value or a link
 * [node id, slot]. The first sampler node is followed upwards: its conditioning to a text node, its
 * latent to a size or a picture, its model through LoRA loaders to a checkpoint. Values that limn
 * cannot hold are errors that name them, as everywhere.
 */
#include <stdio.h>
#include <string.h>

#include "param/param_json.h"

enum { MAX_HOPS = 32 }; /* a graph from a file may have cycles */

typedef struct foreign {
    limn_params *r;
    limn_source from;
    const json_t *nodes;
    limn_err *err;
} foreign;

/* One member of an object becomes one parameter; absent or linked members are left out. */
typedef struct field_map {
    const char *key, *param;
} field_map;

static limn_status set_json(foreign *f, const char *param, const char *key, const json_t *value) {
    char where[96];
    const limn_param *p = limn_param_find(&limn_gen_table, param);
    if (!value || json_is_null(value) || json_is_array(value) || json_is_object(value))
        return LIMN_OK;
    snprintf(where, sizeof where, "/%s", key);
    if (p->type == LIMN_TYPE_LIST && json_is_string(value))
        return limn_param_parse(f->r, p, json_string_value(value), where, f->from, f->err);
    return limn_json_set_value(f->r, p, value, where, f->from, f->err);
}

static limn_status set_fields(foreign *f, const json_t *object, const field_map *map) {
    limn_status st = LIMN_OK;
    for (; st == LIMN_OK && map->key; map++)
        st = set_json(f, map->param, map->key, json_object_get(object, map->key));
    return st;
}

/* ---- ComfyUI ---- */

static const json_t *inputs_of(const json_t *node) {
    return json_object_get(node, "inputs");
}

static const char *class_of(const json_t *node) {
    const char *s = json_string_value(json_object_get(node, "class_type"));
    return s ? s : "";
}

/* The node that input `name` of `node` is linked to; NULL when it is not a link. */
static const json_t *linked(const foreign *f, const json_t *node, const char *name) {
    const json_t *link = json_object_get(inputs_of(node), name);
    const char *id = json_string_value(json_array_get(link, 0));
    return id ? json_object_get(f->nodes, id) : NULL;
}

/* Follows the first of `via` that is a link, until a node has an input `wanted` that is a value. */
static const json_t *follow(const foreign *f, const json_t *node, const char *const *via,
                            const char *wanted) {
    for (int hop = 0; node && hop < MAX_HOPS; hop++) {
        const json_t *value = json_object_get(inputs_of(node), wanted);
        if (value && !json_is_array(value)) return node;
        const json_t *next = NULL;
        for (int i = 0; !next && via[i]; i++) next = linked(f, node, via[i]);
        node = next;
    }
    return NULL;
}

static limn_status comfy_prompt(foreign *f, const json_t *sampler, const char *input,
                                const char *param) {
    static const char *const via[] = {"text",     "conditioning", "conditioning_1",
                                      "positive", "clip",         NULL};
    const json_t *node = follow(f, linked(f, sampler, input), via, "text");
    return set_json(f, param, "text", json_object_get(inputs_of(node), "text"));
}

static limn_status comfy_latent(foreign *f, const json_t *sampler) {
    static const char *const via[] = {"samples", "pixels", "image", "latent_image", NULL};
    static const field_map size[] = {
        {"width", "width"}, {"height", "height"}, {"batch_size", "batch_size"}, {NULL, NULL}};
    const json_t *latent = linked(f, sampler, "latent_image");
    const json_t *empty = follow(f, latent, via, "width");
    if (empty && strstr(class_of(empty), "Latent")) return set_fields(f, inputs_of(empty), size);
    const json_t *picture = follow(f, latent, via, "image");
    return set_json(f, "init_image", "image", json_object_get(inputs_of(picture), "image"));
}

static limn_status comfy_model(foreign *f, const json_t *sampler) {
    static const field_map checkpoint[] = {
        {"ckpt_name", "model"}, {"unet_name", "model"}, {NULL, NULL}};
    limn_status st = LIMN_OK;
    const json_t *node = linked(f, sampler, "model");
    for (int hop = 0; st == LIMN_OK && node && hop < MAX_HOPS; hop++) {
        const json_t *in = inputs_of(node);
        const char *lora = json_string_value(json_object_get(in, "lora_name"));
        if (lora) {
            limn_buf text;
            limn_buf_init(&text, 8192);
            limn_buf_addf(&text, "%s:", lora);
            limn_real_format(&text, json_number_value(json_object_get(in, "strength_model")));
            const json_t *clip = json_object_get(in, "strength_clip");
            if (json_is_number(clip)) {
                limn_buf_addc(&text, ':');
                limn_real_format(&text, json_number_value(clip));
            }
            st = limn_param_parse(f->r, limn_param_find(&limn_gen_table, "loras"),
                                  limn_buf_text(&text), "/lora_name", f->from, f->err);
            limn_buf_deinit(&text);
        }
        if (st == LIMN_OK) st = set_fields(f, in, checkpoint);
        node = linked(f, node, "model");
    }
    return st;
}

static limn_status read_comfy(foreign *f, const json_t *sampler) {
    static const field_map fields[] = {{"seed", "seed"},
                                       {"noise_seed", "seed"},
                                       {"steps", "steps"},
                                       {"cfg", "cfg_scale"},
                                       {"sampler_name", "sampler"},
                                       {"scheduler", "schedule"},
                                       {"denoise", "strength"},
                                       {NULL, NULL}};
    limn_status st = set_fields(f, inputs_of(sampler), fields);
    if (st == LIMN_OK) st = comfy_prompt(f, sampler, "positive", "prompt");
    if (st == LIMN_OK) st = comfy_prompt(f, sampler, "negative", "negative_prompt");
    if (st == LIMN_OK) st = comfy_latent(f, sampler);
    if (st == LIMN_OK) st = comfy_model(f, sampler);
    return st;
}

/* The first node with a sampler's inputs; NULL when this is no ComfyUI graph. */
static const json_t *find_sampler(const json_t *root) {
    const char *id;
    json_t *node;
    json_object_foreach((json_t *)(uintptr_t)root, id, node) {
        const json_t *in = inputs_of(node);
        if (*class_of(node) && json_object_get(in, "positive") && json_object_get(in, "steps"))
            return node;
    }
    return NULL;
}

/* ---- InvokeAI ---- */

/* The model's name, which was a string first and an object with "name" or "model_name" later. */
static const json_t *model_name(const json_t *model) {
    if (json_is_string(model)) return model;
    const json_t *name = json_object_get(model, "name");
    return name ? name : json_object_get(model, "model_name");
}

/* "dpmpp_2m_k": a sampler and, behind it, that sigmas are spaced as Karras has them. */
static limn_status invoke_scheduler(foreign *f, const json_t *name) {
    const char *text = json_string_value(name);
    size_t n = text ? strlen(text) : 0;
    if (n < 3 || strcmp(text + n - 2, "_k") != 0) return set_json(f, "sampler", "scheduler", name);
    json_t *plain = json_stringn(text, n - 2), *karras = json_string("karras");
    limn_status st = plain && karras ? set_json(f, "sampler", "scheduler", plain)
                                     : limn_fail(f->err, LIMN_E_NOMEM, "no memory for a recipe");
    if (st == LIMN_OK) st = set_json(f, "schedule", "scheduler", karras);
    json_decref(plain);
    json_decref(karras);
    return st;
}

/* What stands there under another meaning than ours. */
static limn_status invoke_others(foreign *f, const json_t *root) {
    json_int_t skipped = json_integer_value(json_object_get(root, "clip_skip"));
    const char *device = json_string_value(json_object_get(root, "rand_device"));
    limn_status st = LIMN_OK;
    if (skipped > 0) { /* layers that are left out; ours counts the one that is used */
        json_t *ours = json_integer(skipped + 1);
        st = set_json(f, "clip_skip", "clip_skip", ours);
        json_decref(ours);
    }
    if (st == LIMN_OK && json_is_true(json_object_get(root, "seamless_x")) &&
        json_is_true(json_object_get(root, "seamless_y")))
        st = set_json(f, "tiling", "seamless_x", json_object_get(root, "seamless_x"));
    if (st == LIMN_OK && device && strcmp(device, "cuda") == 0)
        st = set_json(f, "rng", "rand_device", json_object_get(root, "rand_device"));
    if (st == LIMN_OK)
        st = set_json(f, "refiner", "refiner_model",
                      model_name(json_object_get(root, "refiner_model")));
    return st;
}

static limn_status read_invoke(foreign *f, const json_t *root) {
    static const field_map fields[] = {
        {"positive_prompt", "prompt"},
        {"negative_prompt", "negative_prompt"},
        {"width", "width"},
        {"height", "height"},
        {"seed", "seed"},
        {"steps", "steps"},
        {"cfg_scale", "cfg_scale"},
        {"cfg_rescale_multiplier", "cfg_rescale"},
        {"strength", "strength"},
        {"refiner_start", "refiner_switch"},
        {"init_image", "init_image"},
        {NULL, NULL},
    };
    limn_status st = set_fields(f, root, fields);
    if (st == LIMN_OK) st = invoke_scheduler(f, json_object_get(root, "scheduler"));
    if (st == LIMN_OK) st = invoke_others(f, root);
    if (st == LIMN_OK)
        st = set_json(f, "model", "model", model_name(json_object_get(root, "model")));
    if (st == LIMN_OK) st = set_json(f, "vae", "vae", model_name(json_object_get(root, "vae")));
    const json_t *loras = json_object_get(root, "loras");
    for (size_t i = 0; st == LIMN_OK && i < json_array_size(loras); i++) {
        const json_t *row = json_array_get(loras, i), *of = json_object_get(row, "model");
        const char *name = json_string_value(model_name(of ? of : json_object_get(row, "lora")));
        if (!name) continue;
        limn_buf text;
        limn_buf_init(&text, 8192);
        limn_buf_addf(&text, "%s:", name);
        limn_real_format(&text, json_number_value(json_object_get(row, "weight")));
        st = limn_param_parse(f->r, limn_param_find(&limn_gen_table, "loras"), limn_buf_text(&text),
                              "/loras", f->from, f->err);
        limn_buf_deinit(&text);
    }
    return st;
}

limn_status limn_meta_parse_foreign(limn_params *r, const json_t *root, limn_source from,
                                    bool *known, limn_err *err) {
    foreign f = {.r = r, .from = from, .nodes = root, .err = err};
    const json_t *sampler = find_sampler(root);
    bool invoke = json_object_get(root, "positive_prompt") != NULL;
    *known = sampler || invoke;
    if (sampler) return read_comfy(&f, sampler);
    return invoke ? read_invoke(&f, root) : LIMN_OK;
}
