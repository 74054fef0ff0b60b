/* SPDX-License-Identifier: MIT */
/* One encoder per format; image_encode.c chooses. Each appends a whole file without a recipe; the
 * size fits the format and the options are in range. Internal to image/. */
#ifndef LIMN_IMAGE_IMAGE_ENCODE_H
#define LIMN_IMAGE_IMAGE_ENCODE_H

#include "image/image.h"

limn_status limn_png_encode(limn_buf *out, const limn_image *image, const limn_file_options *o,
                            limn_err *err);
/* 1 or 3 channels. */
limn_status limn_jpeg_encode(limn_buf *out, const limn_image *image, const limn_file_options *o,
                             limn_err *err);
/* 3 or 4 channels. */
limn_status limn_webp_encode(limn_buf *out, const limn_image *image, const limn_file_options *o,
                             limn_err *err);

#endif
