/* SPDX-License-Identifier: MIT */
/*
 * limn_gen: everything that decides a picture, as the pipeline reads it.
 *
 * Ranges, defaults and meanings are in the rows of gen_table.c; fields always hold a usable value
 * (the default when nothing was set). Where "not set" differs from every value (seed, eta,
 * clip_skip ...), ask limn_gen_has(). The pipeline works on its own copy and fills what it decides
 * (seed, model defaults) with limn_params_set(..., LIMN_FROM_MODEL), so that the recipe in the
 * picture is complete.
 */
#ifndef LIMN_PARAM_GEN_H
#define LIMN_PARAM_GEN_H

#include <assert.h>

#include "param/param.h"

typedef enum limn_gen_emphasis {
    LIMN_GEN_EMPHASIS_ORIGINAL, /* weights scale the embedding, then its mean is restored (A1111) */
    LIMN_GEN_EMPHASIS_NO_NORM,  /* weights scale the embedding */
    LIMN_GEN_EMPHASIS_IGNORE,   /* syntax is read, weights are taken as 1 */
    LIMN_GEN_EMPHASIS_NONE      /* parentheses and brackets are ordinary text */
} limn_gen_emphasis;

typedef enum limn_gen_rng {
    LIMN_GEN_RNG_CPU, /* torch's CPU generator (mt19937), bit for bit */
    LIMN_GEN_RNG_CUDA /* torch's CUDA generator (Philox 4x32-10) */
} limn_gen_rng;

typedef enum limn_gen_prediction {
    LIMN_GEN_PREDICTION_AUTO, /* what the model says */
    LIMN_GEN_PREDICTION_EPS,
    LIMN_GEN_PREDICTION_V,
    LIMN_GEN_PREDICTION_FLOW
} limn_gen_prediction;

typedef enum limn_gen_precision {
    LIMN_GEN_PRECISION_AUTO,  /* the fastest that stays within the stated error */
    LIMN_GEN_PRECISION_EXACT, /* f32 everywhere */
    LIMN_GEN_PRECISION_BF16,
    LIMN_GEN_PRECISION_INT8 /* int8 activations in the network's large products */
} limn_gen_precision;

typedef enum limn_posterior { LIMN_POSTERIOR_SAMPLE, LIMN_POSTERIOR_MEAN } limn_posterior;
typedef enum limn_inpaint_fill {
    LIMN_FILL_ORIGINAL, /* start from the picture below the mask */
    LIMN_FILL_SMEAR,    /* surrounding colours drawn into the mask */
    LIMN_FILL_NOISE,    /* latent noise */
    LIMN_FILL_ZEROS     /* latent zeros */
} limn_inpaint_fill;

typedef enum limn_inpaint_area { LIMN_AREA_WHOLE, LIMN_AREA_MASKED } limn_inpaint_area;

typedef enum limn_fit {
    LIMN_FIT_STRETCH, /* to the size, whatever the shape */
    LIMN_FIT_CROP,    /* fill the size, cut what is over */
    LIMN_FIT_PAD,     /* fit inside, edges repeated */
    LIMN_FIT_LATENT   /* encoded as it is; its latent is brought to the size */
} limn_fit;

typedef enum limn_switch { LIMN_SWITCH_AUTO, LIMN_SWITCH_ON, LIMN_SWITCH_OFF } limn_switch;

typedef enum limn_file_format {
    LIMN_FILE_AUTO, /* by the name's ending */
    LIMN_FILE_PNG,
    LIMN_FILE_JPEG,
    LIMN_FILE_WEBP
} limn_file_format;

typedef struct limn_gen {
    limn_params head;
    /* prompt */
    char *prompt, *negative_prompt;
    limn_texts styles;
    int64_t clip_skip; /* 1 = last layer */
    int emphasis;      /* limn_gen_emphasis */
    /* model */
    char *model, *vae, *refiner;
    double refiner_switch; /* share of the steps */
    limn_texts loras;      /* "name:strength[:text-encoder strength]" */
    limn_texts embeddings; /* files */
    int prediction;        /* limn_gen_prediction */
    bool tiny_vae;
    /* size */
    int64_t width, height; /* pixels */
    int64_t count, batch_size;
    bool tiling; /* opposite edges meet */
    /* sampling */
    int64_t steps;
    char *sampler, *schedule;
    double eta, s_churn, s_tmin, s_tmax, s_noise;
    double sigma_min, sigma_max, rho, shift;
    int64_t solver_order;
    bool discard_penultimate;
    /* guidance */
    double cfg_scale, cfg_rescale, guidance_start, guidance_end, image_cfg_scale;
    /* seed */
    int64_t seed, variation_seed;
    double variation_strength;
    int64_t eta_seed_delta;
    int rng; /* limn_gen_rng */
    /* image */
    char *init_image;
    double strength;
    int fit; /* limn_fit */
    char *mask;
    bool mask_invert;
    double mask_blur; /* pixels, sigma */
    int64_t mask_grow;
    int init_posterior; /* limn_posterior */
    int inpaint_fill, inpaint_area;
    int64_t inpaint_padding;
    /* hires */
    double hires_scale; /* 1: off, unless hires_width/height are set */
    int64_t hires_width, hires_height, hires_steps;
    double hires_strength;
    char *hires_upscaler, *hires_sampler;
    double hires_cfg_scale;
    /* finish */
    char *upscaler;
    double upscale;
    /* computing */
    int precision, vae_tiling; /* limn_gen_precision, limn_switch */
    int64_t vae_tile;
    /* file */
    int format; /* limn_file_format */
    int64_t quality;
    bool lossless;
    int64_t compression;
    bool metadata;
} limn_gen;

/* The generation record inside `params`, which must be of kind LIMN_PARAMS_GEN. */
static inline const limn_gen *limn_gen_of(const limn_params *params) {
    assert(params->kind == LIMN_PARAMS_GEN);
    return (const limn_gen *)params;
}
static inline limn_gen *limn_gen_edit(limn_params *params) {
    assert(params->kind == LIMN_PARAMS_GEN);
    return (limn_gen *)params;
}
/* True when somebody (user, model, profile) set the value; `name` as in the table. */
static inline bool limn_gen_has(const limn_gen *g, const char *name) {
    return limn_params_is_set(&g->head, name);
}
/* hires_scale or a hires size asks for a second pass. */
bool limn_gen_wants_hires(const limn_gen *g);

#endif
