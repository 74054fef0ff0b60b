/* SPDX-License-Identifier: MIT */
/*
 * Enlarging finished pictures: resampling filters by name, or an upscaling network from a file. A
 * network works in overlapping tiles at its own scale; the rest of the way is Lanczos.
 */
#ifndef LIMN_PIPELINE_UPSCALE_STAGE_H
#define LIMN_PIPELINE_UPSCALE_STAGE_H

#include "backend/backend.h"
#include "image/image.h"
#include "pipeline/engine.h"

typedef struct limn_upscale_args {
    limn_engine *engine;
    limn_backend *backend;
    const char *name; /* "Lanczos", ..., "mini-upscale", or a file / name in the models folder */
    int width, height;
    const atomic_bool *cancel;
} limn_upscale_args;

/* RGB in, RGB out. */
limn_status limn_upscale_image(limn_image **out, const limn_image *image,
                               const limn_upscale_args *args, limn_err *err);
/* What enlarges when nobody says: "mini-upscale" where it is installed, else "Lanczos". Static. */
const char *limn_upscaler_default(void);
/* "Latent": the hires pass enlarges latents, no picture. */
bool limn_upscale_is_latent(const char *name);
/* E_NOT_FOUND when the name is neither a filter nor a file. */
limn_status limn_upscaler_check(const limn_engine *e, const char *name, limn_err *err);
/* The built-in names, for lists. */
bool limn_upscaler_choice(limn_choice *out, int index);

#endif
