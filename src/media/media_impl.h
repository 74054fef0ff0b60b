/* SPDX-License-Identifier: MIT */
/*
 * The inside of a media: one reader per kind of file, behind four calls. media.c decides which one
 * opens a file and which pictures of it are handed out. Internal to media/.
 */
#ifndef LIMN_MEDIA_MEDIA_IMPL_H
#define LIMN_MEDIA_MEDIA_IMPL_H

#include "base/cancel.h"
#include "media/media.h"

/* What a reader is told; all values settled. */
typedef struct limn_media_input {
    const uint8_t *data;
    size_t size;
    double dpi;
    int64_t max_pixels;
    int threads;
    const atomic_bool *cancel; /* may be NULL */
} limn_media_input;

/* What a reader answers. */
typedef struct limn_media_reader {
    void *self;
    limn_media_kind kind;
    const char *format;
    int64_t total; /* at least 1 */
    double fps;    /* VIDEO: above 0 */
    /* Size of picture `index` as `read` will hand it out. */
    limn_status (*measure)(int *width, int *height, void *self, int64_t index, limn_err *err);
    /* Picture `index`, upright RGB; called with rising numbers. */
    limn_status (*read)(limn_image **out, void *self, int64_t index, limn_err *err);
    void (*close)(void *self);
} limn_media_reader;

/* Each fills *out only on LIMN_OK. The first asks the content which of the others it is. */
limn_status limn_media_open_reader(limn_media_reader *out, const limn_media_input *in,
                                   limn_err *err);
limn_status limn_media_open_pdf(limn_media_reader *out, const limn_media_input *in, limn_err *err);
limn_status limn_media_open_stack(limn_media_reader *out, const limn_media_input *in,
                                  limn_err *err);
limn_status limn_media_open_video(limn_media_reader *out, const limn_media_input *in,
                                  limn_err *err);

/* E_FORMAT for a side below 1, E_LIMIT above the limits. `what` is "frames", "pages", ... */
limn_status limn_media_check_size(const char *what, double width, double height, int64_t max_pixels,
                                  limn_err *err);

#endif
