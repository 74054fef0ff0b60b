/* SPDX-License-Identifier: MIT */
/*
 * What a job's request says, as JSON that both runners write and read:
 *   DRAW, UPSCALE  the values that are set, with the seed
 *   GRID           {"params": values, "axes": [{"parameter", "values"}], "sheet": bool}
 *   SEE            {"params": values, "messages": [...], "tools": [...], "must_call": true}
 *   LOAD, UNLOAD   {"model": name}
 * Whether names and pictures exist is for runners to say; here is form only.
 */
#ifndef LIMN_JOB_REQUEST_H
#define LIMN_JOB_REQUEST_H

#include "job/runner.h"
#include "param/param.h"

enum { LIMN_REQUEST_IMAGES_MAX = 256 }; /* of one job */

/* Fills request, words, model, seed, images, work (megapixel steps, or tokens of an answer) and
 * inputs of a job. Every random choice is made here. E_VALUE names the member. */
limn_status limn_request_make(limn_job *job, const limn_submit *submit, limn_err *err);
/* The values of a DRAW, UPSCALE or SEE job. */
limn_status limn_request_params(limn_params **out, const limn_job *job, limn_err *err);
/* "artifact:<sha>" -> the 64 digits inside; NULL when it is not such a reference. */
const char *limn_request_reference(const char *text);
/* Adds the artifact that `text` refers to as an input of the job, once. E_VALUE: is not a
 * reference; `where` names it. */
limn_status limn_request_add_input(limn_job *job, const char *text, const char *where,
                                   limn_err *err);
/* Seeds that were left open are chosen now. */
limn_status limn_request_fix_seed(limn_params *params, limn_err *err);
/* Cost of one drawing in megapixel steps. */
double limn_request_work(const limn_params *gen);

#endif
