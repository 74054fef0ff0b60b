/* SPDX-License-Identifier: MIT */
/*
 * The recipe inside a finished file, handled on the container's bytes and never on pixels: PNG text
 * chunks, the EXIF UserComment of JPEG and WebP. Readers take files from strangers: every length is
 * checked, compressed text has a ceiling.
 */
#ifndef LIMN_IMAGE_PICTURE_TEXT_H
#define LIMN_IMAGE_PICTURE_TEXT_H

#include "image/image.h"

enum { LIMN_PICTURE_TEXT_MAX = 4 << 20 };

typedef enum limn_container {
    LIMN_CONTAINER_NONE,
    LIMN_CONTAINER_PNG,
    LIMN_CONTAINER_JPEG,
    LIMN_CONTAINER_WEBP
} limn_container;

limn_container limn_container_of(const uint8_t *data, size_t size);

/* Adds the file `data` with `text` inside to `out`. The file comes from our own encoder. E_LIMIT:
 * the text does not fit (JPEG: 64 KB of EXIF). */
limn_status limn_picture_text_add(limn_buf *out, const uint8_t *data, size_t size, const char *text,
                                  limn_err *err);
/* The recipe as UTF-8; E_NOT_FOUND when there is none, E_FORMAT when the container is broken. */
limn_status limn_picture_text_get(char **out, const uint8_t *data, size_t size, limn_err *err);

/* EXIF blocks (TIFF structure, no "Exif\0\0" before it) that hold one UserComment. */
void limn_exif_add_comment(limn_buf *out, const char *text);
/* E_NOT_FOUND when the block has no comment. */
limn_status limn_exif_get_comment(char **out, const uint8_t *data, size_t size, limn_err *err);

#endif
