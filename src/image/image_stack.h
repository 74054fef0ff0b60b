/* SPDX-License-Identifier: MIT */
/*
 * Picture files that hold more than one picture: pages of a TIFF, frames of a GIF or WebP.
 * One stack, one thread; the bytes of the file outlive it.
 */
#ifndef LIMN_IMAGE_IMAGE_STACK_H
#define LIMN_IMAGE_IMAGE_STACK_H

#include "image/gif.h"

typedef struct limn_image_stack {
    const uint8_t *data; /* the caller's */
    size_t size;
    const char *format; /* "tiff", "gif", "webp", "png", ...; static */
    int count;          /* pages or frames, at least 1 */
    int width, height;  /* of the first, as stored */
    bool animated;      /* frames with times */
    double seconds;     /* one round of an animation */
    limn_gif *gif;      /* internal: a GIF, which libvips does not read */
    void *frames;       /* internal: an animation being read from top to bottom */
    int next;           /* internal: the frame that comes next there */
} limn_image_stack;

/* True when the bytes begin like a picture file that is read. */
bool limn_image_is_known(const void *data, size_t size);
/* Reads the header only; of a GIF each frame's data, without drawing them. Errors as
 * limn_image_decode; deinit also after a failure. */
limn_status limn_image_stack_init(limn_image_stack *s, const void *data, size_t size,
                                  limn_err *err);
void limn_image_stack_deinit(limn_image_stack *s);
/* Picture `index`, upright sRGB. The frames of an animation can be read in rising order without
 * starting again; going back starts from the first. A page may be larger than the first: more than
 * `max_pixels` are E_LIMIT, before any is decoded. */
limn_status limn_image_stack_read(limn_image **out, limn_image_stack *s, int index,
                                  int64_t max_pixels, limn_err *err);

#endif
