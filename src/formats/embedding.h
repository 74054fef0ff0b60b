/* SPDX-License-Identifier: MIT */
/*
 * Textual inversions: vectors that stand for a word, in front of a text encoder.
 *
 * Read from any set (limn_weights_open reads the pickles): A1111 and CompVis "string_to_param",
 * "emb_params", diffusers' "<token>", and SDXL's "clip_l" + "clip_g". The result owns its f32
 * copies (a few kilobytes). Any thread.
 */
#ifndef LIMN_FORMATS_EMBEDDING_H
#define LIMN_FORMATS_EMBEDDING_H

#include "formats/detect.h"

enum { LIMN_EMBEDDING_SETS = 2 };

typedef struct limn_embedding {
    int64_t count; /* vectors: so many tokens the word takes; the same in both sets */
    int n_sets;
    struct {
        limn_part part; /* TE (CLIP-L, or the only encoder), TE2 (CLIP-bigG) */
        int64_t width;
        float *v; /* [count, width], owned */
    } set[LIMN_EMBEDDING_SETS];
    char word[128]; /* the file's own name for it ("*" and none: ""), not where it was found */
} limn_embedding;

/* E_FORMAT: no embedding in it, or of impossible size (1 to 1024 vectors of up to 16384). */
limn_status limn_embedding_open(limn_embedding *out, const limn_weights *w, limn_err *err);
void limn_embedding_free(limn_embedding *e);
/* The vectors [count, width] for an encoder; NULL when there are none of that width. */
const float *limn_embedding_find(const limn_embedding *e, limn_part part, int64_t width);

#endif
