/* SPDX-License-Identifier: MIT */
/* The native routes, one row each: the router, the guard, OpenAPI and the tests read this table. */
#include "server/api/api.h"

/* 8 x 8 pixels of one colour */
#define PICTURE                                                                                    \
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAIAAABLbSncAAAAEUlEQVR42mM4"           \
    "YaOBFTEMLQkAdntLAWbUZrkAAAAASUVORK5CYII="
#define GET .method = "GET"
#define POST .method = "POST"
#define JSON .flags = LIMN_ROUTE_JSON, .body = LIMN_LIMIT_JSON_BYTES
#define MEDIA .flags = LIMN_ROUTE_JSON | LIMN_ROUTE_SUBMIT, .body = LIMN_LIMIT_MEDIA_BYTES
#define NONE .scope = LIMN_SCOPE_NONE
#define READ .scope = LIMN_SCOPE_READ
#define INFER .scope = LIMN_SCOPE_INFER
#define ADMIN .scope = LIMN_SCOPE_ADMIN

/* clang-format off */
static const limn_route rows[] = {
    /* making jobs */
    {POST, .path = "/v1/draw", INFER, MEDIA, .cost = 5, .handler = native_draw,
     .summary = "draw pictures from a prompt", .request = "Draw", .response = "JobAnswer",
     .example = "{\"prompt\": \"a lighthouse at dusk\", \"steps\": 2, \"width\": 64, \"height\": 64, "
                "\"seed\": 7, \"job\": {\"tags\": [\"example\"]}}"},
    {POST, .path = "/v1/edit", INFER, MEDIA, .cost = 5, .handler = native_edit,
     .summary = "draw from a start picture, with a mask if wanted", .request = "Draw",
     .response = "JobAnswer",
     .example = "{\"prompt\": \"a lighthouse at night\", \"steps\": 2, \"width\": 64, \"height\": 64, "
                "\"strength\": 0.5, \"seed\": 7, \"init_image\": \"" PICTURE "\"}"},
    {POST, .path = "/v1/upscale", INFER, MEDIA, .cost = 5, .handler = native_upscale,
     .summary = "enlarge a picture", .request = "Upscale", .response = "JobAnswer",
     .example = "{\"upscaler\": \"Lanczos\", \"upscale\": 2, \"image\": \"" PICTURE "\"}"},
    {POST, .path = "/v1/grid", INFER, MEDIA, .cost = 5, .handler = native_grid,
     .summary = "one drawing per combination of up to three parameters", .request = "Grid",
     .response = "JobAnswer",
     .example = "{\"params\": {\"prompt\": \"a fox\", \"width\": 64, \"height\": 64, \"seed\": 7}, "
                "\"axes\": [{\"parameter\": \"steps\", \"values\": [1, 2]}], \"sheet\": true}"},
    {POST, .path = "/v1/see", INFER, MEDIA, .cost = 5, .handler = native_see,
     .summary = "ask about pictures, clips and documents", .request = "See", .response = "JobAnswer",
     .example = "{\"prompt\": \"What is here?\", \"max_tokens\": 8, \"seed\": 7}"},
    /* jobs */
    {GET, .path = "/v1/jobs", READ, .cost = 1, .handler = native_jobs,
     .summary = "history, newest first", .response = "JobList"},
    {POST, .path = "/v1/jobs/cancel", INFER, .cost = 1, .handler = native_jobs_cancel,
     .summary = "cancel all waiting jobs"},
    {GET, .path = "/v1/jobs/{id}", READ, .cost = 1, .handler = native_job, .summary = "one job",
     .response = "JobAnswer"},
    {.method = "PATCH", .path = "/v1/jobs/{id}", INFER, JSON, .cost = 1,
     .handler = native_job_change, .summary = "change a job's tags, priority or place",
     .request = "JobChange", .response = "JobAnswer"},
    {.method = "DELETE", .path = "/v1/jobs/{id}", INFER, .cost = 1, .handler = native_job_remove,
     .summary = "delete a finished job; ?forever=1: without a way back"},
    {POST, .path = "/v1/jobs/{id}/restore", INFER, .cost = 1, .handler = native_job_restore,
     .summary = "take back that a job was deleted", .response = "JobAnswer"},
    {.method = "DELETE", .path = "/v1/jobs/{id}/artifacts/{artifact}", INFER, .cost = 1,
     .handler = native_job_artifact_remove, .summary = "delete one picture of a finished job"},
    {POST, .path = "/v1/jobs/{id}/artifacts/{artifact}/restore", INFER, .cost = 1,
     .handler = native_job_artifact_restore, .summary = "take back that a picture was deleted",
     .response = "JobAnswer"},
    {POST, .path = "/v1/jobs/{id}/skip", INFER, .cost = 1, .handler = native_job_skip,
     .summary = "give up the picture in work and go on with the next", .response = "JobAnswer"},
    {POST, .path = "/v1/jobs/{id}/cancel", INFER, .cost = 1, .handler = native_job_cancel,
     .summary = "cancel a job", .response = "JobAnswer"},
    {GET, .path = "/v1/jobs/{id}/events", READ, .cost = 1, .handler = native_job_events,
     .summary = "a job's events (SSE)"},
    {GET, .path = "/v1/events", READ, .cost = 1, .handler = native_events,
     .summary = "events of all jobs (SSE)"},
    {GET, .path = "/v1/ws", READ, .flags = LIMN_ROUTE_UPGRADE, .cost = 1,
     .handler = native_socket, .summary = "events of jobs (WebSocket)"},
    /* files */
    {GET, .path = "/v1/artifacts/{id}", READ, .cost = 1, .handler = native_artifact,
     .summary = "a picture's facts and recipe", .response = "ArtifactAnswer"},
    {GET, .path = "/v1/artifacts/{id}/file", READ, .cost = 0, .handler = native_artifact_file,
     .summary = "a picture's bytes"},
    {GET, .path = "/v1/artifacts/{id}/thumbnail", READ, .cost = 0, .flags = LIMN_ROUTE_ASIDE,
     .handler = native_artifact_thumb, .summary = "a small WebP of a picture"},
    {POST, .path = "/v1/uploads", INFER, .flags = LIMN_ROUTE_RAW, .body = LIMN_LIMIT_MEDIA_BYTES,
     .cost = 2, .handler = native_upload,
     .summary = "keep a picture, a clip or a document for a coming job",
     .response = "ArtifactAnswer"},
    {POST, .path = "/v1/recipe", READ, .flags = LIMN_ROUTE_RAW, .body = LIMN_LIMIT_UPLOAD_BYTES,
     .cost = 2, .handler = native_recipe, .summary = "read the recipe inside a picture"},
    /* lists */
    {GET, .path = "/v1/params", READ, .cost = 1, .handler = native_params,
     .summary = "every generation parameter", .response = "ParamList"},
    {GET, .path = "/v1/params/schema", READ, .cost = 1, .handler = native_params_schema,
     .summary = "JSON Schema of a drawing"},
    {POST, .path = "/v1/params/parse", READ, JSON, .cost = 1, .handler = native_params_parse,
     .summary = "the text in pictures to parameters", .request = "Text",
     .example = "{\"text\": \"a fox\\nSteps: 20, Sampler: Euler a, Seed: 7, Size: 64x64\"}"},
    {POST, .path = "/v1/params/format", READ, JSON, .cost = 1, .handler = native_params_format,
     .summary = "parameters to the text in pictures", .request = "Draw",
     .example = "{\"prompt\": \"a fox\", \"steps\": 20, \"seed\": 7}"},
    {POST, .path = "/v1/params/check", READ, .flags = LIMN_ROUTE_JSON,
     .body = LIMN_LIMIT_MEDIA_BYTES, .cost = 1, .handler = native_params_check,
     .summary = "what drawing would refuse", .request = "Draw",
     .example = "{\"prompt\": \"a fox\", \"steps\": 20, \"width\": 64, \"height\": 64}"},
    {GET, .path = "/v1/samplers", READ, .cost = 1, .handler = native_samplers,
     .summary = "solvers", .response = "ChoiceList"},
    {GET, .path = "/v1/schedules", READ, .cost = 1, .handler = native_schedules,
     .summary = "noise schedules", .response = "ChoiceList"},
    {GET, .path = "/v1/upscalers", READ, .cost = 1, .handler = native_upscalers,
     .summary = "ways to enlarge", .response = "ChoiceList"},
    {GET, .path = "/v1/models", READ, .cost = 1, .handler = native_models, .summary = "models",
     .response = "ModelList"},
    {POST, .path = "/v1/models/load", ADMIN, .flags = LIMN_ROUTE_JSON | LIMN_ROUTE_SUBMIT,
     .body = LIMN_LIMIT_JSON_BYTES, .cost = 5, .handler = native_load,
     .summary = "make a model ready", .request = "ModelName", .response = "JobAnswer"},
    {POST, .path = "/v1/models/unload", ADMIN,
     .flags = LIMN_ROUTE_JSON | LIMN_ROUTE_OPTIONAL | LIMN_ROUTE_SUBMIT,
     .body = LIMN_LIMIT_JSON_BYTES, .cost = 1, .handler = native_unload,
     .summary = "give a model's memory back", .request = "ModelName", .response = "JobAnswer"},
    {POST, .path = "/v1/models/refresh", INFER, .cost = 5, .handler = native_models_refresh,
     .summary = "look at the models folder again"},
    {GET, .path = "/v1/models/{id}", READ, .cost = 1, .handler = native_model,
     .summary = "one model", .response = "Model"},
    {GET, .path = "/v1/models/{id}/info", READ, .cost = 1, .handler = native_model_info,
     .summary = "what is inside a model"},
    {GET, .path = "/v1/loras", READ, .cost = 1, .handler = native_loras, .summary = "LoRAs"},
    {GET, .path = "/v1/vaes", READ, .cost = 1, .handler = native_vaes, .summary = "autoencoders"},
    {GET, .path = "/v1/embeddings", READ, .cost = 1, .handler = native_embeddings,
     .summary = "textual inversions"},
    {GET, .path = "/v1/styles", READ, .cost = 1, .handler = native_styles, .summary = "styles"},
    {GET, .path = "/v1/wildcards", READ, .cost = 1, .handler = native_wildcards,
     .summary = "names that prompts may use as __name__", .response = "WildcardList"},
    {POST, .path = "/v1/tokens", READ, JSON, .cost = 1, .handler = native_tokens,
     .summary = "count a text's tokens", .request = "Text"},
    /* server */
    {GET, .path = "/v1/system", READ, .cost = 1, .handler = native_system,
     .summary = "version, memory, queue, limits"},
    {GET, .path = "/v1/system/logs", ADMIN, .flags = LIMN_ROUTE_QUIET, .cost = 1,
     .handler = native_logs, .summary = "the newest lines of the log, or as they come (SSE)",
     .response = "LogList"},
    {GET, .path = "/v1/settings", READ, .cost = 1, .handler = native_settings,
     .summary = "settings of the server and of the page"},
    {.method = "PATCH", .path = "/v1/settings", ADMIN, JSON, .cost = 1,
     .handler = native_settings_set, .summary = "change settings"},
    {.method = "PUT", .path = "/v1/settings/studio", INFER, .flags = LIMN_ROUTE_JSON,
     .body = LIMN_LIMIT_STUDIO_BYTES, .cost = 1, .handler = native_studio_set,
     .summary = "keep the page's settings"},
    {GET, .path = "/v1/session", NONE, .cost = 1, .handler = native_session,
     .summary = "who is signed in"},
    {POST, .path = "/v1/session", NONE, JSON, .cost = 1, .handler = native_session_make,
     .summary = "sign a browser in", .request = "Key"},
    {.method = "DELETE", .path = "/v1/session", NONE, .cost = 1, .handler = native_session_end,
     .summary = "sign out"},
    {GET, .path = "/v1/openapi.json", NONE, .cost = 1, .handler = native_openapi,
     .summary = "this document"},
};
/* clang-format on */

const limn_route_table limn_native_routes = {LIMN_FAMILY_NATIVE, "native", rows,
                                             (int)(sizeof rows / sizeof rows[0])};
