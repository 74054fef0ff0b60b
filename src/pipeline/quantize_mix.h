/* SPDX-License-Identifier: MIT */
/*
 * Which type each tensor of a quantised file gets: a row per recipe, and what to do where a type
 * does not fit. Pure functions, any thread.
 *
 * What is kept in more bits: the output layer and the embedding (each answer passes through them),
 * the values and the second half of the feed-forward of the first and last eighth of the layers and
 * of every third layer between (as llama.cpp's *_M recipes), norms and biases always in f32.
 */
#ifndef LIMN_PIPELINE_QUANTIZE_MIX_H
#define LIMN_PIPELINE_QUANTIZE_MIX_H

#include "formats/gguf_export.h"

typedef struct limn_mix {
    const char *name;
    int file_type;       /* general.file_type, llama.h enum llama_ftype */
    limn_dtype base;     /* most of it */
    limn_dtype output;   /* the output layer, or the embedding that serves as one */
    limn_dtype embed;    /* an embedding beside an output layer */
    limn_dtype value[2]; /* attention values: in important layers, in others */
    limn_dtype down[2];  /* the second half of the feed-forward, likewise */
    limn_dtype joint;    /* the attention's output */
    limn_dtype image;    /* linear maps of a vision tower or a diffusion model */
    const char *help;
} limn_mix;

/* By name, '-' as '_', any case; NULL when there is none. */
const limn_mix *limn_mix_find(const char *name);
/* i from 0 on; NULL after the last. */
const limn_mix *limn_mix_at(int i);

/* The type of one tensor; one whose rows do not divide into blocks gets the nearest type that
 * fits. */
limn_dtype limn_mix_type(const limn_mix *mix, const limn_export *x, const limn_export_part *part);

#endif
