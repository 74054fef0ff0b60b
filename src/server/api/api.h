/* SPDX-License-Identifier: MIT */
/*
 * What the interfaces (native, sdapi, OpenAI) share: pictures that come in, parameters, submitting,
 * and pictures that go out. Handlers' thread only; everything hangs on the request.
 */
#ifndef LIMN_SERVER_API_API_H
#define LIMN_SERVER_API_API_H

#include "server/event_json.h"
#include "server/server.h"

/* ---- picture_in.c ---- */

/* What a picture's first bytes say. */
typedef struct limn_picture_head {
    const char *mime; /* "image/png", "image/jpeg", "image/webp" */
    int width, height;
} limn_picture_head;
/* PNG, JPEG or WebP with one frame, at most SIDE and PIXELS. E_FORMAT, E_LIMIT; the texts say
 * nothing that a library said. */
limn_status limn_picture_sniff(limn_picture_head *out, const void *data, size_t size,
                               limn_err *err);

enum { LIMN_PICTURE_REF_MAX = 80 }; /* "artifact:<sha>" and a NUL */
/* Stores bytes as an upload of the request's owner. */
limn_status limn_picture_keep(limn_http_req *rq, limn_artifact *out, const void *data, size_t size,
                              limn_err *err);
/* base64 (white space allowed, padding optional) into bytes from limn_mem_*. */
limn_status limn_base64_read(void **out, size_t *size, const char *text, size_t len, limn_err *err);
/* From limn_mem_*; NULL when out of memory. */
char *limn_base64_write(const void *data, size_t size);

/* ---- media_in.c: pictures, clips, documents ---- */

/* What is inside a file. */
typedef struct limn_media_facts {
    const char *kind; /* "picture", "clip", "document" */
    char format[16];
    int64_t total; /* frames, pages */
    int width, height;
    double fps, seconds; /* of a clip */
} limn_media_facts;
json_t *limn_media_facts_json(const limn_media_facts *f);
/* Stores bytes as an upload of the request's owner after a look inside. E_FORMAT, E_LIMIT,
 * E_UNSUPPORTED (a codec, a password). */
limn_status limn_media_keep(limn_http_req *rq, limn_artifact *out, limn_media_facts *facts,
                            const void *data, size_t size, limn_err *err);

/* A file of a request: its reference, and the word of a part of the queue's messages for it. */
typedef struct limn_media_ref {
    char text[LIMN_PICTURE_REF_MAX];
    const char *part; /* "image", "video", "document" */
} limn_media_ref;
/* A reference of a request into "artifact:<sha>": an artifact that the owner may see, a
 * data: URI, or, with `raw`, bare base64. URLs and paths are E_VALUE. `where` names the member. */
limn_status limn_media_take(limn_http_req *rq, limn_media_ref *out, const char *ref, bool raw,
                            const char *where, limn_err *err);
/* The same for pictures only. */
limn_status limn_picture_take(limn_http_req *rq, char out[LIMN_PICTURE_REF_MAX], const char *ref,
                              bool raw, const char *where, limn_err *err);

/* ---- submit.c ---- */

/* Generation values from a JSON object: pictures are taken in, names are checked to be names. The
 * member "job" is skipped. `kind` GEN or SEE. */
limn_status limn_api_read_params(limn_http_req *rq, limn_params *params, json_t *object,
                                 limn_err *err);
/* Model and file names of a request must be names of the lists, never paths. */
limn_status limn_api_check_names(const limn_params *params, limn_err *err);
/* The member "job": priority, preview_every, keep, tags. `submit` borrows from the request. */
limn_status limn_api_read_job(limn_http_req *rq, limn_submit *submit, limn_err *err);
/* The text of `spec` for the job; `text`, which `submit` borrows, is the caller's to free. NOMEM.
 */
limn_status limn_api_give_json(limn_submit *submit, const json_t *spec, char **text, limn_err *err);
/* Submits for the request's owner with its idempotency key; answers the error itself. */
bool limn_api_submit(limn_http_req *rq, limn_submit *submit, limn_submitted *out);
/* An answer from a limn_err, with how it is retried. */
void limn_api_fail(limn_http_req *rq, const limn_err *err);
/* The whole file of an artifact; limn_mem_free. */
limn_status limn_api_load_artifact(limn_http_req *rq, const limn_artifact *a, void **data,
                                   size_t *size, limn_err *err);

/* A whole number of the query; false and an answer when it is not one in lo..hi. */
bool limn_api_query_int(limn_http_req *rq, const char *name, int64_t lo, int64_t hi,
                        int64_t fallback, int64_t *out);

/* native_make.c: submits, and answers as a job-making route does, now or when the job has ended. */
void limn_api_make(limn_http_req *rq, limn_submit *submit);
/* native_system.c: {"total", "available", "rss", "limit", "models"} in bytes. */
json_t *limn_api_memory(limn_server *s);
/* {"seconds", "memory": {"model", "work", "fits"}} of a prepared job, null where not known. */
json_t *limn_api_cost(limn_server *s, const limn_job *job);
/* native_lists.c: the values that are set; with `all` the defaults too. */
json_t *limn_api_params_json(const limn_params *p, bool all);
/* native_lists.c: the styles of the models folder. */
json_t *limn_api_styles(limn_http_req *rq);

/* ---- handlers, by file ---- */
/* native_make.c */
limn_http_handler native_draw, native_edit, native_upscale, native_grid, native_load, native_unload,
    native_params_check, native_grid_check;
/* native_see.c */
limn_http_handler native_see;
/* native_jobs.c */
limn_http_handler native_jobs, native_job, native_job_change, native_job_cancel, native_job_skip,
    native_jobs_cancel, native_job_remove, native_job_restore, native_job_artifact_remove,
    native_job_artifact_restore, native_job_events, native_events, native_socket;
/* native_files.c */
limn_http_handler native_artifact, native_artifact_file, native_artifact_thumb,
    native_artifact_page, native_upload, native_recipe;
/* native_keys.c */
limn_http_handler native_keys, native_key_make, native_key_revoke;
/* native_lists.c */
limn_http_handler native_params, native_params_schema, native_params_parse, native_params_format,
    native_samplers, native_schedules, native_upscalers, native_models, native_model,
    native_model_info, native_model_advice, native_models_refresh, native_wildcards, native_loras,
    native_vaes, native_embeddings, native_styles, native_tokens;
/* native_system.c */
limn_http_handler native_system, native_logs, native_settings, native_settings_set,
    native_studio_set, native_session, native_session_make, native_session_end;
/* openapi.c */
limn_http_handler native_openapi, page_docs;
/* page.c */
limn_http_handler page_livez, page_readyz, page_metrics;

#endif
