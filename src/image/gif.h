/* SPDX-License-Identifier: MIT */
/*
 * GIF (87a and 89a) without the picture library: libvips 8.14 ends after 4,097 frames, takes the
 * first frame's size for a canvas of 640 x 480 and other sizes, and hands out what memory held for
 * a frame whose data are damaged.
 *
 * Accepted as browsers do: no trailer, anything behind the last picture, more data than a frame
 * needs, frames that lie partly or wholly outside the canvas, a first frame that is larger than it
 * (which grows), data that do not begin with a clear code, colours beyond the table (not drawn).
 * Refused: a file that ends within a block, and a frame whose data do not give all of its pixels.
 *
 * One limn_gif, one thread; the bytes of the file outlive it. Memory: the canvas at 4 bytes per
 * pixel, twice when a frame is taken back.
 */
#ifndef LIMN_IMAGE_GIF_H
#define LIMN_IMAGE_GIF_H

#include "image/image.h"

/* What stands before the data of one frame. */
typedef struct limn_gif_frame {
    uint32_t left, top, width, height; /* on the canvas, not clipped */
    bool interlaced;
    int disposal;    /* what happens to it before the next: 2 cleared, 3 taken back */
    int delay_ms;    /* as stored */
    int transparent; /* the colour that is not drawn; -1: none */
    int colours;
    const uint8_t *table; /* [colours, 3] */
    size_t data;          /* where its code size stands in the file */
} limn_gif_frame;

typedef struct limn_gif {
    const uint8_t *data; /* the caller's */
    size_t size;
    int width, height; /* of the canvas */
    int count;         /* frames, at least 1 */
    int channels;      /* 4 when something may be transparent, else 3 */
    double seconds;    /* one round, at the pace of browsers */
    /* internal: the canvas after `next` frames */
    int colours;
    const uint8_t *table;
    size_t first, at;
    int next;
    limn_gif_frame last;
    uint8_t *canvas, *kept; /* [height, width, 4] */
} limn_gif;

enum { LIMN_FRAME_MS_UNSET = 10, LIMN_FRAME_MS_DEFAULT = 100 };
/* How long browsers show a frame of an animation that says `ms`. */
static inline int limn_frame_ms(int ms) {
    return ms > LIMN_FRAME_MS_UNSET ? ms : LIMN_FRAME_MS_DEFAULT;
}

bool limn_gif_is(const void *data, size_t size);
/* Reads the whole file, every frame's data too, but draws nothing: time by its size, no memory.
 * E_FORMAT for what is damaged. Deinit also after a failure. */
limn_status limn_gif_init(limn_gif *g, const void *data, size_t size, limn_err *err);
void limn_gif_deinit(limn_gif *g);
/* The canvas with frame `index` (from 0, below count) on it. In rising order each frame is drawn
 * once; going back starts from the first. More than `max_pixels` are E_LIMIT. */
limn_status limn_gif_read(limn_image **out, limn_gif *g, int index, int64_t max_pixels,
                          limn_err *err);

#endif
