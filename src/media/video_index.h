/* SPDX-License-Identifier: MIT */
/*
 * Which frames a video stream has, found by listing its packets without decoding any: frame i is
 * the one with the i-th smallest presentation time. Key frames are remembered, so that a reader can
 * jump. Internal to media/; one thread.
 */
#ifndef LIMN_MEDIA_VIDEO_INDEX_H
#define LIMN_MEDIA_VIDEO_INDEX_H

#include <libavformat/avformat.h>
#include <stdatomic.h>

#include "base/status.h"

typedef struct limn_video_frame {
    int64_t pts;     /* stream time base */
    int64_t key_dts; /* where to jump to when this is a key frame, else AV_NOPTS_VALUE */
} limn_video_frame;

typedef struct limn_video_index {
    limn_video_frame *list; /* sorted by pts */
    int64_t count;
    size_t cap;
    bool timed; /* every frame has a time of its own; else frames can only be counted */
} limn_video_index;

/* Reads all packets of `stream`; the file stands at its end afterwards. E_FORMAT when the file
 * breaks off, E_LIMIT for too many frames, E_CANCELLED. Deinit also after a failure. */
limn_status limn_video_index_init(limn_video_index *x, AVFormatContext *file,
                                  const AVStream *stream, const atomic_bool *cancel, limn_err *err);
void limn_video_index_deinit(limn_video_index *x);
/* The last key frame at or before frame i; -1 when none is marked. */
int64_t limn_video_index_key(const limn_video_index *x, int64_t i);

#endif
