/* SPDX-License-Identifier: MIT */
/*
 * /sdapi/v1: what clients of AUTOMATIC1111 and SD.Next speak. A blocking request here is one job;
 * its fields are translated by one table (sdapi_draw.c) into generation values. The profile
 * (--compat) decides defaults and a few shapes. Handlers' thread only.
 */
#ifndef LIMN_SERVER_API_SDAPI_H
#define LIMN_SERVER_API_SDAPI_H

#include "server/api/api.h"

static inline bool sdapi_is_sdnext(const limn_http_req *rq) {
    return rq->server->set->compat == LIMN_COMPAT_SDNEXT;
}

/* The stored options over the profile's defaults. */
json_t *sdapi_options_get(limn_http_req *rq);
/* What a request of txt2img or img2img says, over its infotext and the profile's defaults; to be
 * given back either way. E_VALUE. */
limn_status sdapi_drawing_body(json_t **out, limn_http_req *rq, bool image, limn_err *err);
/* The same as values of a drawing. E_VALUE, E_NOT_FOUND, E_UNSUPPORTED name the field. */
limn_status sdapi_read_drawing(limn_http_req *rq, limn_params *gen, const json_t *body, bool image,
                               limn_err *err);
/* The `info` object of a finished drawing; `images` of its artifacts are in the answer. */
json_t *sdapi_info(limn_http_req *rq, const limn_job *job);

limn_http_handler sdapi_txt2img, sdapi_img2img, sdapi_extra_single, sdapi_extra_batch,
    sdapi_png_info, sdapi_interrogate, sdapi_caption, sdapi_vqa, sdapi_progress, sdapi_interrupt,
    sdapi_skip, sdapi_options, sdapi_options_set, sdapi_samplers, sdapi_schedulers, sdapi_upscalers,
    sdapi_latent_modes, sdapi_models, sdapi_vaes, sdapi_loras, sdapi_embeddings, sdapi_styles,
    sdapi_scripts, sdapi_script_info, sdapi_empty_list, sdapi_empty_object, sdapi_memory,
    sdapi_refresh, sdapi_reload, sdapi_unload, sdapi_status, sdapi_history, sdapi_version,
    sdapi_queue, sdapi_ping, sdapi_internal_progress;

#endif
