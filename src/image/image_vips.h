/* SPDX-License-Identifier: MIT */
/* What the files of image/ that call libvips share. Internal to image/. */
#ifndef LIMN_IMAGE_IMAGE_VIPS_H
#define LIMN_IMAGE_IMAGE_VIPS_H

#include <vips/vips.h>

#include "base/late.h"
#include "image/image.h"

extern limn_late limn_late_vips, limn_late_objects;

/* E_LIMIT for a picture with a side or more pixels than may be decoded. */
limn_status limn_vips_check_size(int width, int height, int64_t max_pixels, limn_err *err);

/* The pixels of *im as 8-bit sRGB of 3 or 4 channels, upright. *im is replaced on the way and
 * still belongs to the caller. E_LIMIT for a picture of more than `max_pixels`, before any is
 * decoded; E_FORMAT for damaged data. */
limn_status limn_vips_read(limn_image **out, VipsImage **im, int64_t max_pixels, limn_err *err);

/* E_FORMAT when a PNG or JPEG ends before its end marker, which libvips 8.14 would fill with grey,
 * when the bytes are empty; E_LIMIT above 1 GB. */
limn_status limn_vips_check_file(const void *data, size_t size, limn_err *err);

/* True when a loader that is used takes the bytes, judged by how they begin. */
bool limn_vips_is_known(const void *data, size_t size);
/* Says why libvips could not open the bytes. Clears its error buffer. */
limn_status limn_vips_refuse(const void *data, size_t size, limn_err *err);

#endif
