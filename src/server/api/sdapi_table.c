/* SPDX-License-Identifier: MIT */
/*
 * The routes of A1111 and SD.Next. What limn does not have yet is listed too and answers 501 with
 * its name; what lets a client reach into the server's files or end it is left out on purpose.
 */
#include "server/api/sdapi.h"

#define V1 "/sdapi/v1"
#define GET(name, fn, says)                                                                        \
    {                                                                                              \
        .method = "GET", .path = V1 name, .scope = LIMN_SCOPE_READ, .cost = 1, .handler = fn,      \
        .summary = says                                                                            \
    }
#define DO(name, who, price, fn, says)                                                             \
    {                                                                                              \
        .method = "POST", .path = V1 name, .scope = LIMN_SCOPE_##who, .cost = price,               \
        .flags = LIMN_ROUTE_JSON | LIMN_ROUTE_OPTIONAL, .body = LIMN_LIMIT_JSON_BYTES,             \
        .handler = fn, .summary = says                                                             \
    }
#define MAKE(name, fn, says)                                                                       \
    {                                                                                              \
        .method = "POST", .path = V1 name, .scope = LIMN_SCOPE_INFER, .cost = 5,                   \
        .flags = LIMN_ROUTE_JSON | LIMN_ROUTE_SUBMIT, .body = LIMN_LIMIT_MEDIA_BYTES,              \
        .handler = fn, .summary = says                                                             \
    }
#define ABSENT(verb, name)                                                                         \
    {                                                                                              \
        .method = verb, .path = V1 name, .scope = LIMN_SCOPE_READ, .cost = 1,                      \
        .flags = LIMN_ROUTE_ABSENT, .summary = "not there yet"                                     \
    }

/* clang-format off */
static const limn_route rows[] = {
    MAKE("/txt2img", sdapi_txt2img, "draw from a prompt"),
    MAKE("/img2img", sdapi_img2img, "draw from a picture"),
    MAKE("/extra-single-image", sdapi_extra_single, "enlarge a picture"),
    MAKE("/extra-batch-images", sdapi_extra_batch, "enlarge pictures"),
    MAKE("/process", sdapi_extra_single, "enlarge a picture"),
    MAKE("/process-batch", sdapi_extra_batch, "enlarge pictures"),
    {.method = "POST", .path = V1 "/png-info", .scope = LIMN_SCOPE_READ, .cost = 2,
     .flags = LIMN_ROUTE_JSON, .body = LIMN_LIMIT_MEDIA_BYTES, .handler = sdapi_png_info,
     .summary = "the text inside a picture"},
    MAKE("/interrogate", sdapi_interrogate, "words for a picture"),
    MAKE("/caption", sdapi_caption, "words for a picture"),
    MAKE("/vqa", sdapi_vqa, "ask about a picture"),
    {.method = "GET", .path = V1 "/progress", .scope = LIMN_SCOPE_READ, .flags = LIMN_ROUTE_QUIET,
     .handler = sdapi_progress, .summary = "how far the running job is"},
    DO("/interrupt", INFER, 1, sdapi_interrupt, "stop the running job"),
    DO("/skip", INFER, 1, sdapi_skip, "give up the picture in work, go on with the next"),
    GET("/options", sdapi_options, "settings"),
    DO("/options", INFER, 2, sdapi_options_set, "change settings"),
    GET("/samplers", sdapi_samplers, "solvers"),
    GET("/schedulers", sdapi_schedulers, "noise schedules"),
    GET("/upscalers", sdapi_upscalers, "ways to enlarge"),
    GET("/latent-upscale-modes", sdapi_latent_modes, "ways to enlarge latents"),
    GET("/sd-models", sdapi_models, "checkpoints"),
    GET("/sd-vae", sdapi_vaes, "autoencoders"),
    GET("/sd-modules", sdapi_vaes, "autoencoders"),
    GET("/loras", sdapi_loras, "LoRAs"),
    GET("/embeddings", sdapi_embeddings, "textual inversions"),
    GET("/prompt-styles", sdapi_styles, "styles"),
    GET("/scripts", sdapi_scripts, "scripts: none"),
    GET("/script-info", sdapi_script_info, "scripts: none"),
    GET("/hypernetworks", sdapi_empty_list, "hypernetworks: none"),
    GET("/face-restorers", sdapi_empty_list, "face restorers: none"),
    GET("/realesrgan-models", sdapi_empty_list, "models that upscalers lists"),
    GET("/extensions", sdapi_empty_list, "extensions: none"),
    GET("/cmd-flags", sdapi_empty_object, "flags are not told"),
    GET("/memory", sdapi_memory, "memory of the machine"),
    GET("/version", sdapi_version, "version"),
    GET("/status", sdapi_status, "what runs"),
    GET("/history", sdapi_history, "jobs"),
    GET("/queue", sdapi_queue, "how many wait"),
    DO("/refresh-checkpoints", INFER, 5, sdapi_refresh, "look at the models folder again"),
    DO("/refresh-vae", INFER, 5, sdapi_refresh, "look at the models folder again"),
    DO("/refresh-loras", INFER, 5, sdapi_refresh, "look at the models folder again"),
    DO("/refresh-embeddings", INFER, 5, sdapi_refresh, "look at the models folder again"),
    DO("/unload-checkpoint", INFER, 5, sdapi_unload, "give the model's memory back"),
    DO("/reload-checkpoint", INFER, 5, sdapi_reload, "make the model ready"),
    {.method = "GET", .path = "/internal/ping", .scope = LIMN_SCOPE_NONE, .handler = sdapi_ping,
     .flags = LIMN_ROUTE_QUIET, .summary = "the server answers"},
    {.method = "POST", .path = "/internal/progress", .scope = LIMN_SCOPE_READ,
     .flags = LIMN_ROUTE_JSON | LIMN_ROUTE_OPTIONAL | LIMN_ROUTE_QUIET,
     .body = LIMN_LIMIT_JSON_BYTES, .handler = sdapi_internal_progress,
     .summary = "how far the running job is"},
    ABSENT("POST", "/create/embedding"), ABSENT("POST", "/create/hypernetwork"),
    ABSENT("POST", "/train/embedding"), ABSENT("POST", "/train/hypernetwork"),
    ABSENT("POST", "/control"), ABSENT("POST", "/detect"), ABSENT("POST", "/detail"),
    ABSENT("POST", "/mask"), ABSENT("GET", "/masking"), ABSENT("POST", "/preprocess"),
    ABSENT("GET", "/preprocessors"), ABSENT("POST", "/prompt-enhance"), ABSENT("POST", "/tagger"),
    ABSENT("POST", "/rembg"), ABSENT("POST", "/analyze"), ABSENT("GET", "/controlnets"),
    ABSENT("GET", "/control-models"), ABSENT("GET", "/ip-adapters"), ABSENT("GET", "/detailers"),
    ABSENT("GET", "/extra-networks"), ABSENT("GET", "/wildcards"), ABSENT("GET", "/xyz-grid"),
    /* SD.Next's own, besides those that tell paths, write files or end the server */
    ABSENT("GET", "/motd"), ABSENT("GET", "/torch"), ABSENT("GET", "/platform"),
    ABSENT("GET", "/start"), ABSENT("GET", "/gpu"), ABSENT("GET", "/gpu-smi"),
    ABSENT("GET", "/sampler"), ABSENT("GET", "/checkpoint"), ABSENT("POST", "/checkpoint"),
    ABSENT("GET", "/modules"), ABSENT("GET", "/unets"), ABSENT("POST", "/refresh-unets"),
    ABSENT("GET", "/latents"), ABSENT("POST", "/latents"), ABSENT("GET", "/options-info"),
    ABSENT("GET", "/lora"), ABSENT("GET", "/loaded-loras"), ABSENT("GET", "/control-modes"),
    ABSENT("GET", "/extra-network-detail"), ABSENT("GET", "/extra-network-details"),
    ABSENT("GET", "/network"), ABSENT("POST", "/upload"), ABSENT("PUT", "/upload"),
    ABSENT("GET", "/browser/folders"), ABSENT("GET", "/browser/files"),
    ABSENT("GET", "/browser/thumb"), ABSENT("GET", "/openclip"), ABSENT("POST", "/openclip"),
    ABSENT("GET", "/vqa/models"), ABSENT("GET", "/vqa/prompts"), ABSENT("GET", "/tagger/models"),
    ABSENT("GET", "/autocomplete"), ABSENT("POST", "/nudenet"), ABSENT("POST", "/prompt-lang"),
    ABSENT("POST", "/image-guard"), ABSENT("POST", "/prompt-banned"), ABSENT("POST", "/framepack"),
};
/* clang-format on */

const limn_route_table limn_sdapi_routes = {LIMN_FAMILY_SDAPI, "sdapi", rows,
                                            (int)(sizeof rows / sizeof rows[0])};
