/* SPDX-License-Identifier: MIT */
/*
 * A conversation (limn_talk) -> what the model reads: token ids, and the pictures at the sizes of
 * the vision tower with their places among the ids. Nothing of the conversation is needed
 * afterwards. Files are decoded here; nothing is computed.
 */
#ifndef LIMN_PIPELINE_TALK_H
#define LIMN_PIPELINE_TALK_H

#include "media/media.h"
#include "pipeline/picture_encoder.h"

/* A picture, or a pair of frames of a video, where the ids stand for it. */
typedef struct limn_talk_picture {
    limn_vision_place place;
    limn_picture_pixels pixels; /* borrowed from the prompt */
    limn_picture_key key;
} limn_talk_picture;

typedef struct limn_talk_prompt {
    limn_ids ids;
    limn_talk_picture *pictures; /* in the order of their places */
    size_t n_pictures;
    int64_t image_tokens;
    uint8_t **pixels; /* owned blocks */
    size_t n_pixels, cap_pixels;
} limn_talk_prompt;

typedef struct limn_talk_options {
    int64_t min_tokens, max_tokens; /* of a picture; 0: as the model says */
    bool number_pictures, no_thinking;
    const char
        *system; /* stands before the conversation; "": none. E_VALUE with a system message */
    limn_media_options media; /* which frames and pages of files are seen */
    int64_t context;          /* more tokens than this are E_CONTEXT, as soon as it is known */
} limn_talk_options;

/* E_VALUE (roles, empty conversation), E_UNSUPPORTED (pictures for a text model), E_NOT_FOUND,
 * E_IO, E_FORMAT (files), E_CONTEXT, E_NOMEM. */
limn_status limn_talk_prompt_make(limn_talk_prompt *out, const limn_vl_model *m,
                                  const limn_talk *talk, const limn_talk_options *opt,
                                  limn_err *err);
void limn_talk_prompt_deinit(limn_talk_prompt *p);

#endif
