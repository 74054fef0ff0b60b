/* SPDX-License-Identifier: MIT */
/*
 * Masks: one-channel images, 255 where to draw anew. All calls change the mask in place.
 */
#ifndef LIMN_IMAGE_MASK_H
#define LIMN_IMAGE_MASK_H

#include "image/image.h"

/* Any picture becomes a mask: its alpha when it has one that is not all opaque, else its grey. */
limn_status limn_mask_from_image(limn_image **out, const limn_image *image, limn_err *err);
void limn_mask_invert(limn_image *mask);
/* >= level becomes 255, the rest 0; level 1..255. */
void limn_mask_threshold(limn_image *mask, int level);
/* Widens the white part by `pixels` in a square neighbourhood; negative: narrows it. */
limn_status limn_mask_grow(limn_image *mask, int pixels, limn_err *err);
/* Gaussian of deviation `sigma` pixels with 2 * floor(2.5 sigma + 0.5) + 1 taps and mirrored edges
 * (A1111: cv2.GaussianBlur with that kernel size). sigma <= 0 changes nothing. */
limn_status limn_mask_blur(limn_image *mask, double sigma, limn_err *err);
/* The smallest part with white (> 0) in it; false when there is none. */
bool limn_mask_bounds(const limn_image *mask, int *x, int *y, int *width, int *height);

#endif
