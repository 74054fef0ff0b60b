/* SPDX-License-Identifier: MIT */
/*
 * Resampling with the results of Pillow (src/libImaging/Resample.c, Geometry.c), which every
 * diffusion pipeline was trained and measured with: 8-bit samples are the same bit for bit.
 *
 * The kernel is widened by the scale when the image shrinks (antialiasing). 8-bit passes use fixed
 * point with 22 fractional bits, horizontal first, and round to 8 bits between the passes; float
 * passes sum in double. This is Pillow up to 12; Pillow 13 sometimes begins with the vertical pass,
 * which differs by one in some samples. Any thread; nothing is shared.
 */
#ifndef LIMN_IMAGE_RESAMPLE_H
#define LIMN_IMAGE_RESAMPLE_H

#include "image/image.h"

typedef enum limn_filter {
    LIMN_FILTER_NEAREST,
    LIMN_FILTER_BOX,
    LIMN_FILTER_BILINEAR,
    LIMN_FILTER_HAMMING,
    LIMN_FILTER_BICUBIC, /* a = -0.5 */
    LIMN_FILTER_LANCZOS, /* 3 lobes */
    LIMN_FILTERS
} limn_filter;

/* dst [dst_height, dst_width, channels] from the part box = {x0, y0, x1, y1} of src (NULL: all of
 * it), in source pixels, fractions allowed. E_VALUE: a size below 1 or a box outside the source. */
typedef struct limn_resample {
    int src_width, src_height, dst_width, dst_height;
    int channels; /* 1..4 */
    limn_filter filter;
    const double *box; /* [4] or NULL */
} limn_resample;

limn_status limn_resample_u8(uint8_t *dst, const uint8_t *src, const limn_resample *how,
                             limn_err *err);
/* Like Pillow's mode "F" for each channel. */
limn_status limn_resample_f32(float *dst, const float *src, const limn_resample *how,
                              limn_err *err);

/* Image.resize(): RGBA is premultiplied meanwhile, so that hidden colours do not bleed. */
limn_status limn_image_resize(limn_image **out, const limn_image *image, int width, int height,
                              limn_filter filter, limn_err *err);

/* To the size by Lanczos: stretched; filled and cut (centred); or fitted inside with its edges
 * repeated. The values are the first ones of limn_fit (param/gen.h), which a sibling cannot
 * include. */
typedef enum limn_resize_fit {
    LIMN_RESIZE_STRETCH,
    LIMN_RESIZE_CROP,
    LIMN_RESIZE_PAD
} limn_resize_fit;
limn_status limn_image_fit(limn_image **out, const limn_image *image, int width, int height,
                           limn_resize_fit fit, limn_err *err);

#endif
