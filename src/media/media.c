/* SPDX-License-Identifier: MIT */
/*
 * One media: which reader opens the bytes, which of its pictures are handed out, in which order.
 * The readers are media_pdf.c, media_stack.c and media_video.c.
 */
#include <math.h>
#include <string.h>

#include "base/fsmap.h"
#include "base/mem.h"
#include "image/image.h"
#include "image/image_stack.h"
#include "media/decoders_impl.h"
#include "media/media_impl.h"
#include "media/sampling.h"

struct limn_media {
    limn_media_info info;
    limn_media_reader reader;
    limn_fsmap *map; /* NULL when the bytes are the caller's */
    char *name;
    int64_t *index; /* [info.count] */
    int at;         /* the next one */
    const limn_cancel *cancel;
};

limn_status limn_media_check_size(const char *what, double width, double height, int64_t max_pixels,
                                  limn_err *err) {
    if (!(width >= 1) || !(height >= 1))
        return limn_fail(err, LIMN_E_FORMAT, "%s of %.0f x %.0f pixels", what, width, height);
    if (width > LIMN_MEDIA_SIDE || height > LIMN_MEDIA_SIDE || width * height > (double)max_pixels)
        return limn_fail(err, LIMN_E_LIMIT,
                         "%s of %.0f x %.0f pixels: at most %d a side and %.1f megapixels", what,
                         width, height, LIMN_MEDIA_SIDE, (double)max_pixels / 1e6);
    return LIMN_OK;
}

/* ---- options ---- */

static limn_status settle(limn_media_options *o, const limn_media_options *given, limn_err *err) {
    *o = given ? *given : (limn_media_options){0};
    if (o->fps == 0) o->fps = 2;
    if (o->min_frames == 0) o->min_frames = LIMN_MEDIA_MIN_FRAMES;
    if (o->max_frames == 0) o->max_frames = LIMN_MEDIA_MAX_FRAMES;
    if (o->threads == 0) o->threads = 1;
    if (o->dpi == 0) o->dpi = 150;
    if (o->max_pages == 0) o->max_pages = LIMN_MEDIA_MAX_PAGES;
    if (o->max_pixels == 0) o->max_pixels = LIMN_MEDIA_MAX_PIXELS;
    if (!(o->fps > 0) || o->fps > 1000)
        return limn_fail(err, LIMN_E_VALUE, "%g frames per second: above 0, at most 1000", o->fps);
    if (o->frames < 0 || o->frames > LIMN_MEDIA_MAX_FRAMES)
        return limn_fail(err, LIMN_E_VALUE, "%d frames: 1 to %d", o->frames, LIMN_MEDIA_MAX_FRAMES);
    if (o->min_frames < 1 || o->max_frames < o->min_frames ||
        o->max_frames > LIMN_MEDIA_SOURCE_FRAMES)
        return limn_fail(err, LIMN_E_VALUE, "%d to %d frames: from 1 on, in rising order",
                         o->min_frames, o->max_frames);
    if (!(o->start >= 0) || !(o->end >= 0) || (o->end > 0 && o->end < o->start))
        return limn_fail(err, LIMN_E_VALUE, "from %g to %g seconds: from 0 on, in rising order",
                         o->start, o->end);
    if (!(o->dpi >= 18) || o->dpi > 1200)
        return limn_fail(err, LIMN_E_VALUE, "%g dots per inch: 18 to 1200", o->dpi);
    if (o->first < 0 || o->last < 0 || (o->last > 0 && o->last < o->first))
        return limn_fail(err, LIMN_E_VALUE, "pages %d to %d: from 1 on, in rising order", o->first,
                         o->last);
    if (o->threads < 1 || o->threads > 16 || o->max_pages < 1 || o->max_pixels < 1 ||
        o->max_pixels > LIMN_IMAGE_MAX_PIXELS)
        return limn_fail(err, LIMN_E_VALUE, "threads, pages or pixels out of range");
    return LIMN_OK;
}

/* ---- which pictures ---- */

static limn_status choose(limn_media *m, int64_t first, int64_t span, int count, limn_err *err) {
    m->index = limn_mem_calloc((size_t)count, sizeof *m->index);
    if (!m->index) return limn_fail(err, LIMN_E_NOMEM, "no memory for %d numbers", count);
    limn_sample_indices(m->index, count, span);
    for (int i = 0; i < count; i++) m->index[i] += first;
    m->info.count = count;
    return LIMN_OK;
}

static limn_status choose_pages(limn_media *m, const limn_media_options *o, limn_err *err) {
    int64_t total = m->info.total, first = o->first > 0 ? o->first : 1;
    int64_t last = o->last > 0 ? o->last : total;
    if (first > total || last > total)
        return limn_fail(err, LIMN_E_VALUE, "page %lld of %lld",
                         (long long)(first > total ? first : last), (long long)total);
    if (last - first + 1 > o->max_pages)
        return limn_fail(err, LIMN_E_LIMIT, "%lld pages: at most %d, choose a range",
                         (long long)(last - first + 1), o->max_pages);
    return choose(m, first - 1, last - first + 1, (int)(last - first + 1), err);
}

/* A range begins with the first frame at or after `start` and ends with the last one at or before
 * `end` (qwen-vl-utils vision_process.py calculate_video_frame_range). */
static limn_status choose_frames(limn_media *m, const limn_media_options *o, limn_err *err) {
    double fps = m->info.fps, begin = ceil(o->start * fps), end = (double)m->info.total - 1;
    if (o->end > 0 && floor(o->end * fps) < end) end = floor(o->end * fps);
    if (begin > end)
        return limn_fail(err, LIMN_E_VALUE,
                         "no frame from %g s to %g s: the clip has %lld frames, %.2f s", o->start,
                         o->end > 0 ? o->end : m->info.duration, (long long)m->info.total,
                         m->info.duration);
    int64_t first = (int64_t)begin, span = (int64_t)end - first + 1;
    int count = o->frames > 0 ? (int)(o->frames < span ? o->frames : span)
                              : limn_sample_count(span, fps, o->fps, o->min_frames, o->max_frames);
    return choose(m, first, span, count, err);
}

/* ---- opening ---- */

static bool is_pdf(const uint8_t *data, size_t size) {
    size_t n = size < 1024 ? size : 1024; /* readers allow that much before the mark */
    return n >= 5 && memmem(data, n, "%PDF-", 5) != NULL;
}

limn_status limn_media_open_reader(limn_media_reader *out, const limn_media_input *in,
                                   limn_err *err) {
    if (in->size == 0) return limn_fail(err, LIMN_E_FORMAT, "the file is empty");
    if (is_pdf(in->data, in->size)) return limn_media_open_pdf(out, in, err);
    if (limn_image_is_known(in->data, in->size)) return limn_media_open_stack(out, in, err);
    return limn_media_open_video(out, in, err);
}

static limn_status open_reader(limn_media *m, const limn_media_input *in, limn_err *err) {
    limn_decoders *away = limn_decoders_used();
    return away ? limn_media_open_away(&m->reader, away, in, err)
                : limn_media_open_reader(&m->reader, in, err);
}

static limn_status fill(limn_media *m, const limn_media_options *o, limn_err *err) {
    limn_media_info *info = &m->info;
    info->kind = m->reader.kind;
    info->format = m->reader.format;
    info->total = m->reader.total;
    if (info->kind == LIMN_MEDIA_VIDEO) {
        info->fps = m->reader.fps;
        info->duration = (double)info->total / info->fps;
    }
    limn_status st =
        info->kind == LIMN_MEDIA_VIDEO ? choose_frames(m, o, err) : choose_pages(m, o, err);
    if (st != LIMN_OK) return st;
    st = m->reader.measure(&info->width, &info->height, m->reader.self, m->index[0], err);
    if (st != LIMN_OK && info->kind == LIMN_MEDIA_PAGES)
        limn_err_prefix(err, "page %lld", (long long)m->index[0] + 1);
    return st;
}

static limn_status open_bytes(limn_media **out, limn_fsmap *map, const char *name, const void *data,
                              size_t size, const limn_media_options *options, limn_err *err) {
    limn_media_options o;
    limn_status st = settle(&o, options, err);
    if (st != LIMN_OK) return st;
    limn_media *m = limn_mem_calloc(1, sizeof *m);
    if (m) m->name = limn_mem_strdup(name);
    if (!m || !m->name) {
        limn_mem_free(m);
        return limn_fail(err, LIMN_E_NOMEM, "no memory for a media");
    }
    m->cancel = o.cancel;
    m->map = map ? limn_fsmap_ref(map) : NULL;
    limn_media_input in = {.data = data,
                           .size = size,
                           .dpi = o.dpi,
                           .max_pixels = o.max_pixels,
                           .threads = o.threads,
                           .cancel = limn_cancel_flag(o.cancel)};
    st = open_reader(m, &in, err);
    if (st == LIMN_OK) st = fill(m, &o, err);
    if (st != LIMN_OK) {
        limn_err_prefix(err, "%s", name);
        limn_media_close(&m);
    }
    *out = m;
    return st;
}

limn_status limn_media_open_memory(limn_media **out, const char *name, const void *data,
                                   size_t size, const limn_media_options *options, limn_err *err) {
    *out = NULL;
    return open_bytes(out, NULL, name, data, size, options, err);
}

limn_status limn_media_open(limn_media **out, const char *path, const limn_media_options *options,
                            limn_err *err) {
    *out = NULL;
    limn_fsmap *map;
    limn_status st = limn_fsmap_open(&map, path, err);
    if (st != LIMN_OK) return st;
    st = open_bytes(out, map, path, map->data, map->size, options, err);
    limn_fsmap_unref(&map);
    return st;
}

void limn_media_close(limn_media **m) {
    if (!*m) return;
    if ((*m)->reader.close) (*m)->reader.close((*m)->reader.self);
    limn_fsmap_unref(&(*m)->map);
    limn_mem_free((*m)->index);
    limn_mem_free((*m)->name);
    limn_mem_free(*m);
    *m = NULL;
}

/* ---- reading ---- */

const limn_media_info *limn_media_info_of(const limn_media *m) {
    return &m->info;
}

static limn_status to_rgb(limn_image **im, limn_err *err) {
    if (limn_image_channels(*im) == 3) return LIMN_OK;
    limn_image *rgb;
    limn_status st = limn_image_convert(&rgb, *im, 3, err);
    if (st != LIMN_OK) return st;
    limn_image_free(im);
    *im = rgb;
    return LIMN_OK;
}

limn_status limn_media_next(limn_image **out, limn_media *m, limn_err *err) {
    *out = NULL;
    if (m->at >= m->info.count) return LIMN_OK;
    const atomic_bool *cancel = limn_cancel_flag(m->cancel);
    if (cancel && atomic_load(cancel)) return limn_fail(err, LIMN_E_CANCELLED, "cancelled");
    int64_t index = m->index[m->at];
    limn_status st = m->reader.read(out, m->reader.self, index, err);
    if (st == LIMN_OK) st = to_rgb(out, err);
    if (st != LIMN_OK) {
        limn_image_free(out);
        limn_err_prefix(err, "%s, %s %lld", m->name,
                        m->info.kind == LIMN_MEDIA_VIDEO ? "frame" : "page", (long long)index + 1);
        return st;
    }
    m->at++;
    return LIMN_OK;
}

int64_t limn_media_index(const limn_media *m, int i) {
    return m->index[i];
}

double limn_media_time(const limn_media *m, int i) {
    return m->info.kind == LIMN_MEDIA_VIDEO ? (double)m->index[i] / m->info.fps : 0;
}

int limn_media_slice_count(const limn_media *m) {
    return m->info.kind == LIMN_MEDIA_VIDEO ? (m->info.count + 1) / 2 : 0;
}

double limn_media_slice_time(const limn_media *m, int i) {
    return limn_sample_slice_time(m->index, m->info.count, i, m->info.fps);
}
