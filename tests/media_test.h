/* SPDX-License-Identifier: MIT */
/* Small clips for the tests of media intake: each frame shows its own number as black and white
 * blocks, so that a test can see which frame it was given. Made with the FFmpeg encoders. */
#ifndef LIMN_TESTS_MEDIA_TEST_H
#define LIMN_TESTS_MEDIA_TEST_H

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/display.h>
#include <stdbool.h>
#include <string.h>

#include "media/media_late.h"

enum { CLIP_BITS = 14, CLIP_BLOCK = 8, CLIP_W = CLIP_BITS * CLIP_BLOCK, CLIP_H = 32 };

typedef struct clip_options {
    const char *container; /* "mp4", "matroska", "avi", "mpegts" */
    enum AVCodecID codec;
    enum AVPixelFormat pixels;
    int frames, fps;
    int gop, between; /* key frame distance, B frames */
    double degrees;   /* how a player turns it, clockwise */
    bool header_first;
} clip_options;

/* The upper half shows the number, most significant bit left; the lower half is a ramp. */
static void clip_paint(AVFrame *f, int number) {
    for (int y = 0; y < CLIP_H; y++)
        for (int x = 0; x < CLIP_W; x++) {
            bool bit = number >> (CLIP_BITS - 1 - x / CLIP_BLOCK) & 1;
            f->data[0][y * f->linesize[0] + x] =
                (uint8_t)(y < CLIP_H / 2 ? bit ? 235 : 16 : 16 + x);
        }
    for (int y = 0; y < CLIP_H / 2; y++) {
        memset(f->data[1] + y * f->linesize[1], 128, CLIP_W / 2);
        memset(f->data[2] + y * f->linesize[2], 128, CLIP_W / 2);
    }
}

static void clip_drain(AVFormatContext *file, AVCodecContext *codec, AVStream *stream,
                       AVPacket *packet) {
    while (avcodec_receive_packet(codec, packet) == 0) {
        packet->duration = packet->duration ? packet->duration : 1;
        av_packet_rescale_ts(packet, codec->time_base, stream->time_base);
        packet->stream_index = stream->index;
        assert_int_equal(av_interleaved_write_frame(file, packet), 0);
    }
}

static void clip_turn(AVStream *stream, double degrees) {
#if LIBAVFORMAT_VERSION_MAJOR >= 61
    AVPacketSideData *d = av_packet_side_data_new(&stream->codecpar->coded_side_data,
                                                  &stream->codecpar->nb_coded_side_data,
                                                  AV_PKT_DATA_DISPLAYMATRIX, 36, 0);
    assert_non_null(d);
    av_display_rotation_set((int32_t *)(void *)d->data, degrees);
#else
    uint8_t *d = av_stream_new_side_data(stream, AV_PKT_DATA_DISPLAYMATRIX, 36);
    assert_non_null(d);
    av_display_rotation_set((int32_t *)(void *)d, degrees);
#endif
}

/* Writes a clip to `path`. */
static void clip_make(const char *path, const clip_options *o) {
    AVFormatContext *file = NULL;
    assert_int_equal(limn_late_open(&limn_late_av, NULL), LIMN_OK);
    const AVCodec *coder = avcodec_find_encoder(o->codec);
    assert_non_null(coder);
    AVCodecContext *codec = avcodec_alloc_context3(coder);
    codec->width = CLIP_W;
    codec->height = CLIP_H;
    codec->time_base = (AVRational){1, o->fps};
    codec->framerate = (AVRational){o->fps, 1};
    codec->pix_fmt = o->pixels;
    codec->gop_size = o->gop;
    codec->max_b_frames = o->between;
    codec->global_quality = 2 * FF_QP2LAMBDA;
    codec->flags |= AV_CODEC_FLAG_QSCALE;
    avformat_alloc_output_context2(&file, NULL, o->container, path);
    assert_non_null(file);
    if (file->oformat->flags & AVFMT_GLOBALHEADER) codec->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;
    assert_int_equal(avcodec_open2(codec, coder, NULL), 0);
    AVStream *stream = avformat_new_stream(file, NULL);
    stream->time_base = codec->time_base;
    stream->avg_frame_rate = codec->framerate;
    avcodec_parameters_from_context(stream->codecpar, codec);
    if (o->degrees != 0) clip_turn(stream, o->degrees);
    assert_int_equal(avio_open(&file->pb, path, AVIO_FLAG_WRITE), 0);
    AVDictionary *flags = NULL;
    if (o->header_first) av_dict_set(&flags, "movflags", "faststart", 0);
    assert_true(avformat_write_header(file, &flags) >= 0);
    av_dict_free(&flags);
    AVPacket *packet = av_packet_alloc();
    AVFrame *frame = av_frame_alloc();
    frame->width = CLIP_W;
    frame->height = CLIP_H;
    frame->format = o->pixels;
    assert_int_equal(av_frame_get_buffer(frame, 0), 0);
    for (int i = 0; i < o->frames; i++) {
        assert_int_equal(av_frame_make_writable(frame), 0);
        clip_paint(frame, i);
        frame->pts = i;
        assert_int_equal(avcodec_send_frame(codec, frame), 0);
        clip_drain(file, codec, stream, packet);
    }
    avcodec_send_frame(codec, NULL);
    clip_drain(file, codec, stream, packet);
    av_write_trailer(file);
    avio_closep(&file->pb);
    av_frame_free(&frame);
    av_packet_free(&packet);
    avcodec_free_context(&codec);
    avformat_free_context(file);
}

/* The number that a frame shows. */
static inline int clip_number(const limn_image *im) {
    int number = 0;
    for (int b = 0; b < CLIP_BITS; b++) {
        int x = b * CLIP_BLOCK + CLIP_BLOCK / 2, y = CLIP_H / 4;
        number = number << 1 | (im->data[((size_t)y * (size_t)im->width + (size_t)x) * 3] > 127);
    }
    return number;
}

#endif
