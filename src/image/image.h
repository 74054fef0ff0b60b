/* SPDX-License-Identifier: MIT */
/*
 * Images in memory: 8 bits per sample, interleaved, dense, sRGB; 1 grey, 3 RGB or 4 RGBA channels
 * (alpha not premultiplied). The public calls are in limn.h; this header adds what the pipeline
 * needs: pixels as floats, cropping, compositing. Resampling is in resample.h, masks in mask.h,
 * files in picture_text.h and image_file.c.
 *
 * An image owns its pixels. Nothing here is shared; different images may be used by different
 * threads at once.
 */
#ifndef LIMN_IMAGE_IMAGE_H
#define LIMN_IMAGE_IMAGE_H

#include "limn.h"

#include "base/mem.h"
#include "base/status.h"

enum { LIMN_IMAGE_MAX_SIDE = 65535 };
#define LIMN_IMAGE_MAX_PIXELS ((int64_t)256 << 20)

struct limn_image {
    int width, height, channels;
    uint8_t *data; /* [height, width, channels] */
};

limn_status limn_image_copy(limn_image **out, const limn_image *image, limn_err *err);

/* The same picture with 1, 3 or 4 channels. Grey is Rec. 601 luma as Pillow's "L": (19595 R + 38470
 * G + 7471 B + 32768) >> 16. Alpha that goes is laid over white. */
limn_status limn_image_convert(limn_image **out, const limn_image *image, int channels,
                               limn_err *err);

/* The part [x, x + width) x [y, y + height); what lies outside repeats the edge. */
limn_status limn_image_crop(limn_image **out, const limn_image *image, int x, int y, int width,
                            int height, limn_err *err);

/* top where mask is 255, bottom where it is 0, rounded mixes between. The two pictures have the
 * same size and channels, the mask the same size and one channel. */
limn_status limn_image_composite(limn_image **out, const limn_image *top, const limn_image *bottom,
                                 const limn_image *mask, limn_err *err);

/* Network values and back: dst [channels, height, width], v / 127.5 - 1 in f32 (diffusers
 * VaeImageProcessor: v / 255 * 2 - 1 in this order of roundings). Of RGBA only RGB is taken. */
void limn_image_to_f32(float *dst, const limn_image *image);
/* src [3, height, width] in -1..1, clamped; round to nearest even as numpy does. */
limn_status limn_image_from_f32(limn_image **out, const float *src, int width, int height,
                                limn_err *err);

/* The ink of a text set by libvips (pango): 0 paper, 255 ink; empty for "". The caller frees data
 * with limn_mem_free. `font` as pango names it: "sans 9". */
typedef struct limn_ink {
    uint8_t *data; /* [height, width] */
    int width, height;
} limn_ink;
limn_status limn_text_ink(limn_ink *out, const char *text, int width, const char *font,
                          limn_err *err);

/* A box or a point with a label, to be drawn on a picture. */
typedef struct limn_mark {
    double box[4];     /* left, top, right, bottom in pixels; a point: left = right, top = bottom */
    const char *label; /* "" for none */
    uint8_t colour[3];
} limn_mark;
/* Draws marks on an RGB picture, lines as wide as suits its size, labels where they fit. */
limn_status limn_image_annotate(limn_image *image, const limn_mark *marks, size_t n, limn_err *err);

/* What libvips left in its error buffer, as one line into err. Used by image_*.c only. */
limn_status limn_vips_failed(limn_err *err, limn_status st, const char *what);
/* Who decodes instead of this process; see media/decoders.h. Copied; set once at program start, as
 * the log is (base/log.h). NULL: decode here. */
typedef struct limn_image_decoder {
    limn_status (*decode)(limn_image **out, void *user, const void *data, size_t size,
                          limn_err *err);
    limn_status (*text)(char **out, void *user, const void *data, size_t size, limn_err *err);
    void *user;
} limn_image_decoder;
void limn_image_set_decoder(const limn_image_decoder *decoder);
/* The one that is set; its calls are NULL when none is. */
const limn_image_decoder *limn_image_decoder_get(void);

/* Starts libvips on the first call. E_INTERNAL when it cannot start. */
limn_status limn_vips_start(limn_err *err);

#endif
