/* SPDX-License-Identifier: MIT */
/*
 * Media intake: whatever a person hands in (a photo, a video, a PDF, a scan of many pages, an
 * animation) becomes a short row of pictures, read one at a time.
 *
 *     limn_media *m;
 *     limn_media_open(&m, "clip.mp4", &(limn_media_options){0}, &err);
 *     const limn_media_info *info = limn_media_info_of(m);
 *     for (limn_image *im; (st = limn_media_next(&im, m, &err)) == LIMN_OK && im; ...)
 *
 * A file is known by its content, never by its ending. Of a video the frames that Qwen3-VL was
 * trained with are handed out (transformers models/qwen3_vl/video_processing_qwen3_vl.py): `fps`
 * per second, evenly spread over the clip, and the times that stand before each pair of frames in
 * the prompt. GIF and WebP animations are sampled in the same way.
 *
 * Memory: the file is mapped or the caller's; beside it one picture, the decoder's reference
 * frames (bounded by max_pixels) and 24 bytes per frame of a video are held. Nothing outside the
 * one file is ever opened: playlists and external references are refused.
 *
 * A limn_media belongs to one thread at a time; different ones may be used at once.
 */
#ifndef LIMN_MEDIA_MEDIA_H
#define LIMN_MEDIA_MEDIA_H

#include <stddef.h>
#include <stdint.h>

#include "limn.h"

#include "base/status.h"

typedef struct limn_media limn_media;

typedef enum limn_media_kind {
    LIMN_MEDIA_PICTURE, /* one still picture */
    LIMN_MEDIA_PAGES,   /* pages of a PDF or a TIFF: each is a picture of its own */
    LIMN_MEDIA_VIDEO    /* frames with times: a video, or an animation of GIF or WebP */
} limn_media_kind;

enum {
    LIMN_MEDIA_MIN_FRAMES = 4,
    LIMN_MEDIA_MAX_FRAMES = 768,
    LIMN_MEDIA_MAX_PAGES = 2000,
    LIMN_MEDIA_SOURCE_FRAMES = 4 << 20, /* frames that a video may have in the file */
    LIMN_MEDIA_SIDE = 16384             /* pixels of a frame's or a page's side */
};
#define LIMN_MEDIA_MAX_PIXELS ((int64_t)64 << 20)

/* Zero means the default everywhere. */
typedef struct limn_media_options {
    /* video */
    double fps; /* frames taken per second of the clip: 2 */
    int frames; /* this many frames instead, evenly spread; then fps, min and max do not count */
    int min_frames;    /* at least so many, if the clip has them: 4 */
    int max_frames;    /* at most so many: 768 */
    double start, end; /* seconds of the clip; end 0: up to its end */
    int threads;       /* of the video decoder: 1 */
    /* pages */
    double dpi;      /* of a PDF page: 150, within 18..1200; less where max_pixels asks for it */
    int first, last; /* page numbers from 1 on: all */
    int max_pages;   /* more pages than this in the range are E_LIMIT: 2000 */
    /* both */
    int64_t max_pixels; /* of one frame or picture, above it E_LIMIT: 64 Mi */
    const limn_cancel *cancel;
} limn_media_options;

typedef struct limn_media_info {
    limn_media_kind kind;
    const char *format; /* "mp4", "pdf", "tiff", ...; valid while the media is open */
    int count;          /* pictures that limn_media_next will hand out */
    int64_t total;      /* frames or pages in the file */
    int width, height;  /* of the first picture handed out, upright */
    double fps;         /* of the source, VIDEO only; 24 where the file does not say */
    double duration;    /* seconds: total / fps, VIDEO only */
} limn_media_info;

/*
 * Opens a file / memory that outlives the media (`name` stands in errors). Errors: E_NOT_FOUND,
 * E_IO; E_FORMAT (damaged, cut off, no known picture, video or document, frames of 0 x 0 pixels),
 * E_UNSUPPORTED (sound only, a codec that is not read, an encrypted document), E_LIMIT (pixels,
 * pages, frames), E_VALUE (options out of range, a page or a time outside the file), E_CANCELLED,
 * E_NOMEM.
 */
limn_status limn_media_open(limn_media **out, const char *path, const limn_media_options *options,
                            limn_err *err);
limn_status limn_media_open_memory(limn_media **out, const char *name, const void *data,
                                   size_t size, const limn_media_options *options, limn_err *err);
void limn_media_close(limn_media **m); /* NULL-safe; nulls the caller's pointer */

const limn_media_info *limn_media_info_of(const limn_media *m);

/* The next picture, RGB and upright, owned by the caller; *out NULL with LIMN_OK after the last.
 * Frames of a video all have the size of the first. */
limn_status limn_media_next(limn_image **out, limn_media *m, limn_err *err);

/* Which frame or page of the file picture i (0 <= i < count) is, from 0 on. */
int64_t limn_media_index(const limn_media *m, int i);
/* Its time in seconds, index / fps; 0 for pages. */
double limn_media_time(const limn_media *m, int i);

/* A video's temporal slices are pairs of frames, an odd last one is doubled: how many there are,
 * and the seconds written before slice i as "<%.1f seconds>" (mean of both frames). */
int limn_media_slice_count(const limn_media *m);
double limn_media_slice_time(const limn_media *m, int i);

#endif
