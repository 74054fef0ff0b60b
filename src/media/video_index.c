/* SPDX-License-Identifier: MIT */
/* Listing packets: cheap beside decoding, and the only count of frames that can be trusted. */
#include <stdlib.h>

#include "base/mem.h"
#include "media/media.h"
#include "media/video_index.h"

static limn_status add(limn_video_index *x, const AVPacket *packet, limn_err *err) {
    if (x->count >= LIMN_MEDIA_SOURCE_FRAMES)
        return limn_fail(err, LIMN_E_LIMIT, "the video has more than %d frames",
                         LIMN_MEDIA_SOURCE_FRAMES);
    if ((size_t)x->count == x->cap) {
        size_t cap = x->cap ? x->cap * 2 : 1024;
        limn_video_frame *list = limn_mem_realloc(x->list, cap * sizeof *list);
        if (!list) return limn_fail(err, LIMN_E_NOMEM, "no memory for %zu frame times", cap);
        x->list = list;
        x->cap = cap;
    }
    int64_t dts = packet->dts != AV_NOPTS_VALUE ? packet->dts : packet->pts;
    if (packet->pts == AV_NOPTS_VALUE) x->timed = false;
    x->list[x->count++] = (limn_video_frame){
        .pts = packet->pts, .key_dts = packet->flags & AV_PKT_FLAG_KEY ? dts : AV_NOPTS_VALUE};
    return LIMN_OK;
}

static int by_pts(const void *a, const void *b) {
    const limn_video_frame *l = a, *r = b;
    return l->pts < r->pts ? -1 : l->pts > r->pts;
}

limn_status limn_video_index_init(limn_video_index *x, AVFormatContext *file,
                                  const AVStream *stream, const atomic_bool *cancel,
                                  limn_err *err) {
    *x = (limn_video_index){.timed = true};
    AVPacket *packet = av_packet_alloc();
    if (!packet) return limn_fail(err, LIMN_E_NOMEM, "no memory for a packet");
    limn_status st = LIMN_OK;
    bool broken = false;
    int rc;
    while (st == LIMN_OK && (rc = av_read_frame(file, packet)) >= 0) {
        if (cancel && atomic_load(cancel)) st = limn_fail(err, LIMN_E_CANCELLED, "cancelled");
        if (packet->stream_index == stream->index) {
            broken = broken || packet->flags & AV_PKT_FLAG_CORRUPT;
            if (st == LIMN_OK && !(packet->flags & AV_PKT_FLAG_DISCARD)) st = add(x, packet, err);
        }
        av_packet_unref(packet);
    }
    av_packet_free(&packet);
    if (st != LIMN_OK) return st;
    if (rc == AVERROR_EXIT) return limn_fail(err, LIMN_E_CANCELLED, "cancelled");
    if (rc != AVERROR_EOF || broken)
        return limn_fail(err, LIMN_E_FORMAT, "the video is cut off or damaged after frame %lld",
                         (long long)x->count);
    if (x->timed && x->count > 0) qsort(x->list, (size_t)x->count, sizeof *x->list, by_pts);
    for (int64_t i = 1; x->timed && i < x->count; i++)
        if (x->list[i].pts == x->list[i - 1].pts) x->timed = false;
    return LIMN_OK;
}

void limn_video_index_deinit(limn_video_index *x) {
    limn_mem_free(x->list);
    *x = (limn_video_index){0};
}

int64_t limn_video_index_key(const limn_video_index *x, int64_t i) {
    while (i >= 0 && x->list[i].key_dts == AV_NOPTS_VALUE) i--;
    return i;
}
