/* SPDX-License-Identifier: MIT */
/*
 * Pictures -> rows of the language model: runs the vision tower and keeps its results by content,
 * so that a picture that comes again (in the next turn, in another conversation) costs nothing.
 *
 * The key is a BLAKE2b digest of the pixels as the tower sees them, so equal pictures meet whatever
 * file they came in, and nobody can make two pictures meet. Rows are counted references: the cache
 * may drop what a conversation still holds. One thread at a time.
 */
#ifndef LIMN_PIPELINE_PICTURE_ENCODER_H
#define LIMN_PIPELINE_PICTURE_ENCODER_H

#include "pipeline/reader.h"
#include "pipeline/vl_model.h"

enum { LIMN_PICTURE_KEY = 32 };

typedef struct limn_picture_key {
    unsigned char bytes[LIMN_PICTURE_KEY];
} limn_picture_key;

/* A picture, or two frames of a video, at the size of the tower. */
typedef struct limn_picture_pixels {
    const uint8_t *first, *second; /* [height, width, 3]; the same one twice for a picture */
    int height, width;             /* multiples of patch * merge */
} limn_picture_pixels;

typedef struct limn_picture_rows {
    limn_reader_picture rows; /* [n, width] each */
    int64_t n;
    limn_picture_key key;
    size_t bytes;
    int refs;
    uint64_t used; /* the cache's clock */
} limn_picture_rows;

typedef struct limn_picture_encoder limn_picture_encoder;

/* Backend and model are borrowed; `room`: bytes of rows that are kept. */
limn_status limn_picture_encoder_new(limn_picture_encoder **out, limn_backend *b,
                                     const limn_vl_model *m, size_t room, limn_err *err);
void limn_picture_encoder_free(limn_picture_encoder **e);

void limn_picture_key_make(limn_picture_key *key, const limn_picture_pixels *px);
/* A reference to kept rows; NULL when there are none. */
limn_picture_rows *limn_picture_encoder_find(limn_picture_encoder *e, const limn_picture_key *key);
/* Computes rows and keeps them as far as there is room. E_CANCELLED, E_NOMEM, those of the graph.
 */
limn_status limn_picture_encoder_run(limn_picture_rows **out, limn_picture_encoder *e,
                                     const limn_picture_key *key, const limn_picture_pixels *px,
                                     const atomic_bool *cancel, limn_err *err);
void limn_picture_rows_unref(limn_picture_rows **rows); /* NULL-safe; nulls the pointer */

/* Bytes that encoding a picture of this size takes besides the weights: planned, not allocated. */
limn_status limn_picture_encoder_need(size_t *bytes, const limn_picture_encoder *e, int height,
                                      int width, limn_err *err);
/* Bytes of kept rows and of programs for sizes that came before. */
size_t limn_picture_encoder_bytes(const limn_picture_encoder *e);

#endif
