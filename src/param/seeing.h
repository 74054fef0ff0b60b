/* SPDX-License-Identifier: MIT */
/*
 * limn_seeing: how to look and to answer, as the pipeline reads it. Rows are in seeing_table.c.
 *
 * Fields always hold a usable value. What a model advises (generation_config.json) and what a task
 * wants is put below what the user said, by limn_params_set with LIMN_FROM_MODEL and
 * LIMN_FROM_PROFILE, into a copy of the record.
 */
#ifndef LIMN_PARAM_SEEING_H
#define LIMN_PARAM_SEEING_H

#include <assert.h>

#include "param/param.h"

typedef enum limn_seeing_template {
    LIMN_SEEING_TEMPLATE_AUTO, /* as the model's files say */
    LIMN_SEEING_TEMPLATE_QWEN3VL,
    LIMN_SEEING_TEMPLATE_QWEN3VL_THINKING,
    LIMN_SEEING_TEMPLATE_QWEN3,
    LIMN_SEEING_TEMPLATE_CHATML
} limn_seeing_template;

typedef enum limn_seeing_cache {
    LIMN_SEEING_CACHE_AUTO, /* f32 when the precision is exact, else f16 */
    LIMN_SEEING_CACHE_F32,
    LIMN_SEEING_CACHE_F16,
    LIMN_SEEING_CACHE_BF16,
    LIMN_SEEING_CACHE_Q8_0
} limn_seeing_cache;

typedef enum limn_seeing_format {
    LIMN_SEEING_FORMAT_AUTO, /* the task's first */
    LIMN_SEEING_FORMAT_TEXT,
    LIMN_SEEING_FORMAT_MARKDOWN,
    LIMN_SEEING_FORMAT_HTML,
    LIMN_SEEING_FORMAT_JSON,
    LIMN_SEEING_FORMAT_CSV
} limn_seeing_format;

typedef struct limn_seeing {
    limn_params head;
    /* question */
    char *prompt, *system;
    /* task */
    char *task;
    int format; /* limn_seeing_format */
    limn_texts categories, keys;
    char *policy;
    /* model */
    char *model, *vision_model;
    int chat_template; /* limn_seeing_template */
    int64_t context;   /* tokens; 0: what the model was made for, at most 32768 */
    int64_t sequences;
    int cache_type; /* limn_seeing_cache */
    int precision;  /* limn_gen_precision */
    /* pictures */
    int64_t image_min_tokens, image_max_tokens; /* 0: as the model's files say */
    bool number_pictures;
    int64_t picture_cache; /* bytes */
    /* clips and pages */
    double fps;
    int64_t frames, max_frames; /* frames 0: by fps */
    double start, end;          /* seconds; end 0: the clip's end */
    char *pages;                /* "3", "2-5", "4-"; "": all */
    double dpi;
    /* sampling */
    double temperature;
    int64_t top_k;
    double top_p, min_p;
    double repetition_penalty, presence_penalty, frequency_penalty;
    limn_texts logit_bias; /* "id:bias" */
    int64_t seed;
    /* answer */
    int64_t max_tokens;   /* 0: as many as fit */
    int64_t draft_tokens; /* guessed and checked together; 0: none */
    int64_t loop_limit;   /* tokens of exact repetition that end an answer; 0: none do */
    limn_texts stop;
    int64_t logprobs; /* how many of the likeliest; asked for when set */
    bool thinking;
    char *schema, *grammar;
} limn_seeing;

/* The record inside `params`, which must be of kind LIMN_PARAMS_SEE. */
static inline const limn_seeing *limn_seeing_of(const limn_params *params) {
    assert(params->kind == LIMN_PARAMS_SEE);
    return (const limn_seeing *)params;
}
static inline bool limn_seeing_has(const limn_seeing *s, const char *name) {
    return limn_params_is_set(&s->head, name);
}

#endif
