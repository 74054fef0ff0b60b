/* SPDX-License-Identifier: MIT */
/*
 * Video through the FFmpeg libraries.
 *
 * FFmpeg sees one block of bytes and nothing else: no protocol, no second file; containers and
 * decoders are the listed ones. Frames are found by the number that video_index.h gives them. The
 * reader jumps to a key frame when one lies between where it is and what is wanted, and decodes on
 * otherwise, dropping frames that nothing refers to.
 *
 * Colours follow what the stream says (matrix, range); without a word it is BT.601 and limited
 * range, as FFmpeg takes it. Pixels that are not square stay as they are stored, as in the
 * reference.
 */
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/avstring.h>
#include <libavutil/display.h>
#include <libavutil/imgutils.h>
#include <libavutil/opt.h>
#include <libavutil/pixdesc.h>
#include <libswscale/swscale.h>
#include <math.h>
#include <pthread.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "image/image.h"
#include "media/media_impl.h"
#include "media/media_late.h"
#include "media/video_index.h"

enum { IO_BYTES = 1 << 16, STREAMS_MAX = 64, PROBE_BYTES = 8 << 20 };

static const char containers[] = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,"
                                 "ogg,mxf,nut,ivf,mpegvideo,h264,hevc,wav,mp3,flac,aac,dv,gif";
/* The sound decoders only serve to tell a sound file from a broken one; none is ever opened. */
static const char codecs[] =
    "h264,hevc,vp8,vp9,av1,libdav1d,libaom-av1,mpeg4,msmpeg4v1,msmpeg4v2,msmpeg4,mpeg1video,"
    "mpeg2video,h261,h263,flv,mjpeg,prores,dnxhd,theora,ffv1,huffyuv,ffvhuff,wmv1,wmv2,wmv3,vc1,"
    "rawvideo,dvvideo,qtrle,png,vp6,vp6f,libvpx,libvpx-vp9";

typedef struct memory_file {
    const uint8_t *data;
    int64_t size, at;
} memory_file;

/* A rotation by quarter turns clockwise, after an optional mirror left-right. */
typedef struct turn {
    int quarters;
    bool mirror;
} turn;

typedef struct video_reader {
    memory_file bytes;
    AVIOContext *io;
    AVFormatContext *file;
    AVStream *stream;
    AVCodecContext *codec;
    AVPacket *packet;
    AVFrame *frame;
    struct SwsContext *scaler;
    limn_video_index index;
    char format[64];
    turn turn;
    int width, height; /* of frames as stored; all are brought to this size */
    int64_t max_pixels;
    int64_t next;   /* number of the frame that decoding continues with, when counting */
    int64_t at_pts; /* of the last decoded frame; AV_NOPTS_VALUE before the first */
    bool linear;    /* jumping does not work in this file */
    bool draining;
    const atomic_bool *cancel;
} video_reader;

/* ---- FFmpeg's words ---- */

/* Its log goes where limn's goes; it would print to stderr otherwise. One callback per process. */
static void take_log(void *object, int level, const char *format, va_list args) {
    char text[256];
    if (level > AV_LOG_ERROR) return;
    vsnprintf(text, sizeof text, format, args);
    text[strcspn(text, "\n")] = 0;
    limn_log(LIMN_LOG_DEBUG, "video", "%s", text);
}

static void start_log(void) {
    av_log_set_callback(take_log);
}

/* ---- bytes ---- */

static int io_read(void *user, uint8_t *to, int n) {
    memory_file *f = user;
    int64_t left = f->size - f->at;
    if (left <= 0) return AVERROR_EOF;
    if (n > left) n = (int)left;
    memcpy(to, f->data + f->at, (size_t)n);
    f->at += n;
    return n;
}

static int64_t io_seek(void *user, int64_t offset, int whence) {
    memory_file *f = user;
    if (whence & AVSEEK_SIZE) return f->size;
    whence &= ~AVSEEK_FORCE;
    int64_t base = whence == SEEK_CUR ? f->at : whence == SEEK_END ? f->size : 0, to;
    if (whence != SEEK_SET && whence != SEEK_CUR && whence != SEEK_END) return AVERROR(EINVAL);
    if (__builtin_add_overflow(base, offset, &to) || to < 0) return AVERROR(EINVAL);
    f->at = to;
    return to;
}

static int interrupted(void *user) {
    const atomic_bool *flag = ((video_reader *)user)->cancel;
    return flag && atomic_load(flag);
}

static limn_status av_failed(limn_err *err, const video_reader *r, int rc, const char *what) {
    char why[AV_ERROR_MAX_STRING_SIZE] = "";
    if (rc == AVERROR_EXIT || interrupted((void *)(uintptr_t)r))
        return limn_fail(err, LIMN_E_CANCELLED, "cancelled");
    if (rc == AVERROR(ENOMEM)) return limn_fail(err, LIMN_E_NOMEM, "%s: no memory", what);
    av_strerror(rc, why, sizeof why);
    return limn_fail(err, LIMN_E_FORMAT, "%s: %s", what, why);
}

/* ---- opening ---- */

static void close_video(void *self) {
    video_reader *r = self;
    sws_freeContext(r->scaler);
    av_frame_free(&r->frame);
    av_packet_free(&r->packet);
    avcodec_free_context(&r->codec);
    avformat_close_input(&r->file);
    if (r->io) av_freep(&r->io->buffer);
    avio_context_free(&r->io);
    limn_video_index_deinit(&r->index);
    limn_mem_free(r);
}

static limn_status open_file(video_reader *r, limn_err *err) {
    uint8_t *buffer = av_malloc(IO_BYTES);
    r->io =
        buffer ? avio_alloc_context(buffer, IO_BYTES, 0, &r->bytes, io_read, NULL, io_seek) : NULL;
    if (!r->io) av_free(buffer);
    r->file = r->io ? avformat_alloc_context() : NULL;
    if (!r->file) return limn_fail(err, LIMN_E_NOMEM, "no memory for a video");
    r->file->pb = r->io;
    r->file->flags |= AVFMT_FLAG_CUSTOM_IO;
    r->file->interrupt_callback = (AVIOInterruptCB){interrupted, r};
    r->file->max_streams = STREAMS_MAX;
    r->file->probesize = PROBE_BYTES;
    AVDictionary *options = NULL;
    av_dict_set(&options, "format_whitelist", containers, 0);
    av_dict_set(&options, "codec_whitelist", codecs, 0);
    av_dict_set(&options, "protocol_whitelist", "none", 0);
    int rc = avformat_open_input(&r->file, NULL, NULL, &options);
    av_dict_free(&options);
    if (rc == AVERROR_INVALIDDATA || rc == AVERROR(EINVAL))
        return limn_fail(err, LIMN_E_FORMAT,
                         "no picture, document or video of a known format, or cut off");
    return rc < 0 ? av_failed(err, r, rc, "cannot be opened") : LIMN_OK;
}

/* FFmpeg decodes a little to learn the parameters: the limits hold there too. */
static limn_status find_streams(video_reader *r, limn_err *err) {
    unsigned n = r->file->nb_streams;
    for (unsigned i = 0; i < n; i++) {
        const AVCodecParameters *par = r->file->streams[i]->codecpar;
        if (par->codec_type != AVMEDIA_TYPE_VIDEO || par->width == 0 || par->height == 0) continue;
        limn_status st =
            limn_media_check_size("frames", par->width, par->height, r->max_pixels, err);
        if (st != LIMN_OK) return st;
    }
    AVDictionary **options = av_calloc(n ? n : 1, sizeof *options);
    if (!options) return limn_fail(err, LIMN_E_NOMEM, "no memory for a video");
    for (unsigned i = 0; i < n; i++) {
        av_dict_set_int(&options[i], "max_pixels", r->max_pixels, 0);
        av_dict_set_int(&options[i], "threads", 1, 0);
    }
    int rc = avformat_find_stream_info(r->file, options);
    for (unsigned i = 0; i < n; i++) av_dict_free(&options[i]);
    av_free(options);
    if (rc >= 0 && interrupted(r)) rc = AVERROR_EXIT;
    return rc < 0 ? av_failed(err, r, rc, "cannot be read") : LIMN_OK;
}

static limn_status choose_stream(video_reader *r, limn_err *err) {
    bool sound = false;
    r->stream = NULL;
    for (unsigned i = 0; i < r->file->nb_streams; i++) {
        AVStream *s = r->file->streams[i];
        bool cover = s->disposition & AV_DISPOSITION_ATTACHED_PIC;
        sound = sound || s->codecpar->codec_type == AVMEDIA_TYPE_AUDIO;
        s->discard = AVDISCARD_ALL;
        if (s->codecpar->codec_type != AVMEDIA_TYPE_VIDEO || cover) continue;
        if (!r->stream || s->disposition & AV_DISPOSITION_DEFAULT) {
            if (!r->stream || !(r->stream->disposition & AV_DISPOSITION_DEFAULT)) r->stream = s;
        }
    }
    if (!r->stream)
        return sound ? limn_fail(err, LIMN_E_UNSUPPORTED, "the file has sound but no video")
                     : limn_fail(err, LIMN_E_FORMAT, "the file has no video");
    r->stream->discard = AVDISCARD_DEFAULT;
    return LIMN_OK;
}

static limn_status open_codec(video_reader *r, int threads, limn_err *err) {
    const AVCodecParameters *par = r->stream->codecpar;
    const char *name = avcodec_get_name(par->codec_id);
    const AVCodec *codec = avcodec_find_decoder(par->codec_id);
    if (!codec || !av_match_list(codec->name, codecs, ','))
        return limn_fail(err, LIMN_E_UNSUPPORTED, "video of the kind \"%s\" is not read", name);
    r->codec = avcodec_alloc_context3(codec);
    if (!r->codec) return limn_fail(err, LIMN_E_NOMEM, "no memory for a decoder");
    int rc = avcodec_parameters_to_context(r->codec, par);
    r->codec->pkt_timebase = r->stream->time_base;
    r->codec->thread_count = threads;
    r->codec->max_pixels = r->max_pixels;
    if (rc >= 0) rc = avcodec_open2(r->codec, codec, NULL);
    if (rc < 0) return av_failed(err, r, rc, "the decoder does not start");
    r->packet = av_packet_alloc();
    r->frame = av_frame_alloc();
    return r->packet && r->frame ? LIMN_OK : limn_fail(err, LIMN_E_NOMEM, "no memory for a frame");
}

static const int32_t *display_matrix(const AVStream *s) {
#if LIBAVFORMAT_VERSION_MAJOR >= 61
    const AVPacketSideData *d = av_packet_side_data_get(
        s->codecpar->coded_side_data, s->codecpar->nb_coded_side_data, AV_PKT_DATA_DISPLAYMATRIX);
    return d && d->size >= 9 * sizeof(int32_t) ? (const int32_t *)(const void *)d->data : NULL;
#else
    size_t size = 0;
    const uint8_t *d = av_stream_get_side_data(s, AV_PKT_DATA_DISPLAYMATRIX, &size);
    return d && size >= 9 * sizeof(int32_t) ? (const int32_t *)(const void *)d : NULL;
#endif
}

/* Phones turn by quarters; another angle is brought to the nearest one. */
static turn turn_of(const AVStream *s) {
    const int32_t *m = display_matrix(s);
    turn t = {0, false};
    if (!m) return t;
    int32_t flat[9];
    memcpy(flat, m, sizeof flat);
    t.mirror = (double)flat[0] * flat[4] - (double)flat[1] * flat[3] < 0;
    if (t.mirror) av_display_matrix_flip(flat, 1, 0);
    double degrees = av_display_rotation_get(flat); /* counter-clockwise */
    if (!isnan(degrees)) t.quarters = (int)((lrint(-degrees / 90) % 4 + 4) % 4);
    return t;
}

static double rate_of(const video_reader *r) {
    AVRational avg = r->stream->avg_frame_rate, base = r->stream->r_frame_rate;
    if (avg.num > 0 && avg.den > 0) return av_q2d(avg);
    if (base.num > 0 && base.den > 0) return av_q2d(base);
    return 24; /* as the reference takes it */
}

static limn_status check_video(video_reader *r, limn_err *err) {
    const AVCodecParameters *par = r->stream->codecpar;
    r->width = par->width;
    r->height = par->height;
    if (par->width == 0 || par->height == 0) /* what FFmpeg leaves of frames above the limit, too */
        return limn_fail(err, LIMN_E_FORMAT,
                         "frames of %d x %d pixels: damaged, or more than %.1f megapixels",
                         par->width, par->height, (double)r->max_pixels / 1e6);
    limn_status st = limn_media_check_size("frames", par->width, par->height, r->max_pixels, err);
    if (st != LIMN_OK) return st;
    r->turn = turn_of(r->stream);
    st = limn_video_index_init(&r->index, r->file, r->stream, r->cancel, err);
    if (st != LIMN_OK) return st;
    if (r->index.count < 1) return limn_fail(err, LIMN_E_FORMAT, "the video has no frames");
    size_t n = strcspn(r->file->iformat->name, ",");
    snprintf(r->format, sizeof r->format, "%.*s", (int)n, r->file->iformat->name);
    if (strcmp(r->format, "mov") == 0) snprintf(r->format, sizeof r->format, "mp4");
    return LIMN_OK;
}

/* ---- decoding ---- */

/* Back to a key frame (its number), or to the beginning: 0. */
static limn_status jump(video_reader *r, int64_t to, limn_err *err) {
    int64_t dts = r->index.list[to].key_dts;
    if (to == 0 || dts == AV_NOPTS_VALUE) {
        dts = r->stream->start_time != AV_NOPTS_VALUE ? r->stream->start_time : 0;
        for (int64_t i = 0; i < r->index.count && i < 64; i++) {
            int64_t d = r->index.list[i].key_dts;
            if (d != AV_NOPTS_VALUE && d < dts) dts = d;
        }
    }
    int rc = av_seek_frame(r->file, r->stream->index, dts, AVSEEK_FLAG_BACKWARD);
    if (rc < 0 && to == 0) rc = av_seek_frame(r->file, -1, 0, AVSEEK_FLAG_BYTE);
    if (rc < 0) return av_failed(err, r, rc, "cannot go back in the video");
    avcodec_flush_buffers(r->codec);
    r->draining = false;
    r->at_pts = AV_NOPTS_VALUE;
    r->next = 0;
    return LIMN_OK;
}

/* Gives the decoder one more packet, or tells it that there are none. */
static limn_status feed(video_reader *r, int64_t wanted_pts, limn_err *err) {
    int rc;
    while ((rc = av_read_frame(r->file, r->packet)) >= 0 &&
           r->packet->stream_index != r->stream->index)
        av_packet_unref(r->packet);
    if (rc == AVERROR_EXIT) return limn_fail(err, LIMN_E_CANCELLED, "cancelled");
    if (rc < 0) {
        r->draining = true;
        avcodec_send_packet(r->codec, NULL);
        return LIMN_OK;
    }
    bool skip = r->index.timed && r->packet->pts < wanted_pts;
    r->codec->skip_frame = skip ? AVDISCARD_NONREF : AVDISCARD_DEFAULT;
    rc = avcodec_send_packet(r->codec, r->packet);
    av_packet_unref(r->packet);
    if (rc == AVERROR(ENOMEM)) return av_failed(err, r, rc, "cannot be decoded");
    if (rc < 0) limn_log(LIMN_LOG_WARN, "video", "a damaged part was left out");
    return LIMN_OK;
}

/* The next frame that the decoder gives, into r->frame; *end when there is none. */
static limn_status pull(video_reader *r, int64_t wanted_pts, bool *end, limn_err *err) {
    *end = false;
    for (;;) {
        if (interrupted(r)) return limn_fail(err, LIMN_E_CANCELLED, "cancelled");
        int rc = avcodec_receive_frame(r->codec, r->frame);
        if (rc == 0) break;
        if (rc == AVERROR_EOF || (rc != AVERROR(EAGAIN) && r->draining)) {
            *end = true;
            return LIMN_OK;
        }
        if (rc == AVERROR(ENOMEM)) return av_failed(err, r, rc, "cannot be decoded");
        limn_status st = feed(r, wanted_pts, err);
        if (st != LIMN_OK) return st;
    }
    if (r->frame->best_effort_timestamp != AV_NOPTS_VALUE)
        r->at_pts = r->frame->best_effort_timestamp;
    r->next++;
    return LIMN_OK;
}

/* Jumps where that saves decoding; `first`: nothing has been decoded yet, the file is at its end.
 */
static limn_status seek_to(video_reader *r, int64_t index, bool first, limn_err *err) {
    const limn_video_index *x = &r->index;
    int64_t key = x->timed && !r->linear ? limn_video_index_key(x, index) : 0;
    if (key < 0) key = 0;
    if (first) return jump(r, key, err);
    bool ahead = r->at_pts != AV_NOPTS_VALUE && key > 0 && x->list[key].pts > r->at_pts;
    return ahead ? jump(r, key, err) : LIMN_OK;
}

/* Decodes until frame `index` is in r->frame. *late: the first frame after a jump lay behind it. */
static limn_status decode_to(video_reader *r, int64_t index, bool *late, limn_err *err) {
    const limn_video_index *x = &r->index;
    int64_t wanted = x->timed ? x->list[index].pts : 0;
    bool fresh = r->at_pts == AV_NOPTS_VALUE, end;
    *late = false;
    for (;;) {
        limn_status st = pull(r, wanted, &end, err);
        if (st != LIMN_OK) return st;
        if (end) return limn_fail(err, LIMN_E_FORMAT, "cannot be decoded: damaged or cut off");
        if (x->timed ? r->at_pts >= wanted : r->next > index) break;
        fresh = false;
        av_frame_unref(r->frame);
    }
    *late = fresh && x->timed && r->at_pts > wanted;
    return LIMN_OK;
}

/* ---- colours and turning ---- */

static limn_status to_rgb(limn_image **out, video_reader *r, limn_err *err) {
    AVFrame *f = r->frame;
    limn_status st = limn_media_check_size("a frame", f->width, f->height, r->max_pixels, err);
    if (st != LIMN_OK) return st;
    r->scaler = sws_getCachedContext(
        r->scaler, f->width, f->height, (enum AVPixelFormat)f->format, r->width, r->height,
        AV_PIX_FMT_RGB24, SWS_BICUBIC | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT | SWS_FULL_CHR_H_INP,
        NULL, NULL, NULL);
    if (!r->scaler)
        return limn_fail(err, LIMN_E_UNSUPPORTED, "frames of the pixel format %s are not read",
                         av_get_pix_fmt_name((enum AVPixelFormat)f->format));
    int matrix = f->colorspace == AVCOL_SPC_UNSPECIFIED ? SWS_CS_DEFAULT : (int)f->colorspace;
    sws_setColorspaceDetails(r->scaler, sws_getCoefficients(matrix),
                             f->color_range == AVCOL_RANGE_JPEG,
                             sws_getCoefficients(SWS_CS_DEFAULT), 1, 0, 1 << 16, 1 << 16);
    st = limn_image_new(out, r->width, r->height, 3, err);
    if (st != LIMN_OK) return st;
    uint8_t *planes[4] = {(*out)->data};
    int strides[4] = {3 * r->width};
    int rows = sws_scale(r->scaler, (const uint8_t *const *)f->data, f->linesize, 0, f->height,
                         planes, strides);
    return rows == r->height ? LIMN_OK
                             : limn_fail(err, LIMN_E_FORMAT, "the colours cannot be converted");
}

static limn_status turn_image(limn_image **im, turn t, limn_err *err) {
    if (t.quarters == 0 && !t.mirror) return LIMN_OK;
    int w = (*im)->width, h = (*im)->height;
    bool across = t.quarters % 2;
    limn_image *to;
    limn_status st = limn_image_new(&to, across ? h : w, across ? w : h, 3, err);
    if (st != LIMN_OK) return st;
    const uint8_t *from = (*im)->data;
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++, from += 3) {
            int mx = t.mirror ? w - 1 - x : x, tx = mx, ty = y;
            if (t.quarters == 1) tx = h - 1 - y, ty = mx;
            if (t.quarters == 2) tx = w - 1 - mx, ty = h - 1 - y;
            if (t.quarters == 3) tx = y, ty = w - 1 - mx;
            memcpy(to->data + 3 * ((size_t)ty * (size_t)to->width + (size_t)tx), from, 3);
        }
    limn_image_free(im);
    *im = to;
    return LIMN_OK;
}

static limn_status read_video(limn_image **out, void *self, int64_t index, limn_err *err) {
    video_reader *r = self;
    bool late;
    limn_status st = seek_to(r, index, r->next < 0, err);
    if (st == LIMN_OK) st = decode_to(r, index, &late, err);
    if (st == LIMN_OK && late && !r->linear) { /* the jump missed: this file is read in order */
        r->linear = true;
        av_frame_unref(r->frame);
        st = jump(r, 0, err);
        if (st == LIMN_OK) st = decode_to(r, index, &late, err);
    }
    if (st == LIMN_OK) st = to_rgb(out, r, err);
    if (st == LIMN_OK) st = turn_image(out, r->turn, err);
    av_frame_unref(r->frame);
    return st;
}

static limn_status measure_video(int *width, int *height, void *self, int64_t index,
                                 limn_err *err) {
    const video_reader *r = self;
    *width = r->turn.quarters % 2 ? r->height : r->width;
    *height = r->turn.quarters % 2 ? r->width : r->height;
    return LIMN_OK;
}

limn_status limn_media_open_video(limn_media_reader *out, const limn_media_input *in,
                                  limn_err *err) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    limn_status st = limn_late_open(&limn_late_av, err);
    if (st != LIMN_OK) return st;
    pthread_once(&once, start_log);
    video_reader *r = limn_mem_calloc(1, sizeof *r);
    if (!r) return limn_fail(err, LIMN_E_NOMEM, "no memory for a video");
    r->bytes = (memory_file){in->data, (int64_t)in->size, 0};
    r->max_pixels = in->max_pixels;
    r->cancel = in->cancel;
    r->next = -1;
    r->at_pts = AV_NOPTS_VALUE;
    st = open_file(r, err);
    if (st == LIMN_OK) st = find_streams(r, err);
    if (st == LIMN_OK) st = choose_stream(r, err);
    if (st == LIMN_OK) st = check_video(r, err);
    if (st == LIMN_OK) st = open_codec(r, in->threads, err);
    if (st != LIMN_OK) {
        close_video(r);
        return st;
    }
    *out = (limn_media_reader){.self = r,
                               .kind = LIMN_MEDIA_VIDEO,
                               .format = r->format,
                               .total = r->index.count,
                               .fps = rate_of(r),
                               .measure = measure_video,
                               .read = read_video,
                               .close = close_video};
    return LIMN_OK;
}
