/* SPDX-License-Identifier: MIT */
/* The tables behind detect.h; internal to formats/detect*.c. */
#ifndef LIMN_FORMATS_DETECT_ROWS_H
#define LIMN_FORMATS_DETECT_ROWS_H

#include "formats/detect.h"

enum { LIMN_DETECT_KEYS = 3 };

/* A network is `family` when all keys are there under a prefix, `absent` is not, and dimension
 * `dim` of tensor `dim_key` is `value` (dim_key NULL: not asked). */
typedef struct limn_detect_row {
    limn_part part;
    const char *family, *title, *variant;
    bool supported;
    const char *key[LIMN_DETECT_KEYS];
    const char *absent;
    const char *dim_key;
    int dim;
    int64_t value;
} limn_detect_row;

extern const limn_detect_row limn_detect_rows[];
extern const size_t limn_detect_row_count;

/* Prefixes under which a part may live, most telling first; NULL-terminated. */
const char *const *limn_detect_prefixes(limn_part part);

/* Facts about a UNet in either dialect, and the families they make; 0 in a row = any value. */
typedef struct limn_unet_facts {
    int in, context, add; /* channels of conv_in, width of text states, of the added embedding */
    bool mid, mid_attention, deep_up; /* up_blocks.1.attentions.0 has a second transformer block */
} limn_unet_facts;

typedef struct limn_unet_row {
    const char *family, *title, *variant;
    int in, context, add;
    int mid;     /* 0: any, 1: with attention, 2: without attention, 3: no middle block */
    int deep_up; /* 0: any, 1: yes, 2: no */
    bool supported;
} limn_unet_row;

extern const limn_unet_row limn_unet_rows[];
extern const size_t limn_unet_row_count;

/* What a diffusion family needs beside its network, and its latents. */
typedef struct limn_family_row {
    const char *family;
    const char *needs[4]; /* titles of missing parts, parallel to `parts` */
    limn_part parts[4];
    limn_trained_prediction prediction;
    bool prediction_is_sure;
    float latent_scale, latent_shift;
} limn_family_row;

const limn_family_row *limn_family_row_find(const char *family);

/* GGUF general.architecture and config.json model_type of language models. */
typedef struct limn_llm_row {
    const char *word; /* as in the file */
    limn_part part;
    const char *family, *title;
    bool supported;
} limn_llm_row;

const limn_llm_row *limn_llm_row_find(const char *word);

#endif
