/* SPDX-License-Identifier: MIT */
/* What limn_image_decode and limn_media_open* do when other processes decode; see decoders.h. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "image/image.h"
#include "media/decoders_impl.h"
#include "param/param.h"

enum { TEXT_MAX = 64 << 20 };

/* Set once at program start (decoders.h); read-only afterwards. */
static limn_decoders *used;

limn_decoders *limn_decoders_used(void) {
    return used;
}

/* ---- pictures ---- */

static limn_status take_image(limn_image **out, limn_decode_visit *v, const limn_decode_reply *r,
                              limn_err *err) {
    int64_t pixels = (int64_t)r->width * r->height;
    *out = NULL;
    if (r->width < 1 || r->height < 1 || r->width > LIMN_IMAGE_MAX_SIDE ||
        r->height > LIMN_IMAGE_MAX_SIDE || pixels > LIMN_IMAGE_MAX_PIXELS ||
        (r->channels != 1 && r->channels != 3 && r->channels != 4) ||
        r->bytes != (uint64_t)pixels * (uint64_t)r->channels)
        return limn_fail(err, LIMN_E_FORMAT, "the file made its decoder fail");
    limn_status st = limn_image_new(out, r->width, r->height, r->channels, err);
    if (st == LIMN_OK) st = limn_decode_visit_body(v, (*out)->data, (size_t)r->bytes, err);
    if (st != LIMN_OK) limn_image_free(out);
    return st;
}

static limn_status decode(limn_image **out, void *user, const void *data, size_t size,
                          limn_err *err) {
    limn_decode_visit *v;
    limn_decode_reply r;
    limn_decode_ask ask = {.op = LIMN_DECODE_PICTURE};
    *out = NULL;
    limn_status st = limn_decode_visit_begin(&v, user, ask, data, size, NULL, err);
    if (st != LIMN_OK) return st;
    st = limn_decode_visit_reply(v, &r, err);
    if (st == LIMN_OK) st = take_image(out, v, &r, err);
    limn_decode_visit_end(&v);
    return st;
}

static limn_status decode_text(char **out, void *user, const void *data, size_t size,
                               limn_err *err) {
    limn_decode_visit *v;
    limn_decode_reply r;
    limn_decode_ask ask = {.op = LIMN_DECODE_TEXT};
    char *text = NULL;
    *out = NULL;
    limn_status st = limn_decode_visit_begin(&v, user, ask, data, size, NULL, err);
    if (st != LIMN_OK) return st;
    LIMN_TRY(limn_decode_visit_reply(v, &r, err));
    LIMN_CHECK(err, r.bytes <= TEXT_MAX, LIMN_E_FORMAT, "the file made its decoder fail");
    text = limn_mem_alloc((size_t)r.bytes + 1);
    LIMN_CHECK(err, text, LIMN_E_NOMEM, "no memory for a picture's text");
    LIMN_TRY(limn_decode_visit_body(v, text, (size_t)r.bytes, err));
    text[r.bytes] = 0;
    LIMN_CHECK(err, strlen(text) == r.bytes, LIMN_E_FORMAT, "the file made its decoder fail");
    *out = text;
    text = NULL;
out:
    limn_mem_free(text);
    limn_decode_visit_end(&v);
    return st;
}

void limn_decoders_use(limn_decoders *d) {
    used = d;
    limn_image_set_decoder(
        d ? &(limn_image_decoder){.decode = decode, .text = decode_text, .user = d} : NULL);
}

/* ---- clips and documents ---- */

typedef struct away {
    limn_decode_visit *visit;
    int64_t max_pixels;
    limn_media_kind kind;
    int width, height; /* VIDEO: of the first frame read; 0: none yet */
    char format[LIMN_DECODE_FORMAT_MAX];
} away;

static void close_away(void *self) {
    away *a = self;
    limn_decode_visit_end(&a->visit);
    limn_mem_free(a);
}

static limn_status measure_away(int *width, int *height, void *self, int64_t index, limn_err *err) {
    away *a = self;
    limn_decode_reply r;
    limn_status st = limn_decode_visit_step(a->visit, false, index, err);
    if (st == LIMN_OK) st = limn_decode_visit_reply(a->visit, &r, err);
    if (st == LIMN_OK)
        st = limn_media_check_size("pictures", r.width, r.height, a->max_pixels, err);
    if (st != LIMN_OK) return st;
    *width = r.width;
    *height = r.height;
    return LIMN_OK;
}

static limn_status read_away(limn_image **out, void *self, int64_t index, limn_err *err) {
    away *a = self;
    limn_decode_reply r;
    limn_status st = limn_decode_visit_step(a->visit, true, index, err);
    if (st == LIMN_OK) st = limn_decode_visit_reply(a->visit, &r, err);
    if (st == LIMN_OK)
        st = limn_media_check_size("pictures", r.width, r.height, a->max_pixels, err);
    if (st == LIMN_OK && a->width && (r.width != a->width || r.height != a->height))
        st = limn_fail(err, LIMN_E_FORMAT, "the file made its decoder fail");
    if (st == LIMN_OK) st = take_image(out, a->visit, &r, err);
    if (st != LIMN_OK || a->kind != LIMN_MEDIA_VIDEO) return st;
    a->width = r.width;
    a->height = r.height;
    return LIMN_OK;
}

/* What a decoder may say about a file; the rest of the program counts on it. */
static limn_status settle(limn_media_reader *out, away *a, const limn_decode_reply *r,
                          limn_err *err) {
    size_t n = strnlen(r->format, sizeof r->format);
    bool video = r->kind == LIMN_MEDIA_VIDEO;
    if (n == 0 || n == sizeof r->format || !limn_utf8_is_valid(r->format, n) ||
        (r->kind != LIMN_MEDIA_PICTURE && r->kind != LIMN_MEDIA_PAGES && !video) || r->total < 1 ||
        r->total > LIMN_MEDIA_SOURCE_FRAMES ||
        (video && (!isfinite(r->fps) || !(r->fps > 0) || r->fps > 1e6)))
        return limn_fail(err, LIMN_E_FORMAT, "the file made its decoder fail");
    memcpy(a->format, r->format, n);
    a->kind = (limn_media_kind)r->kind;
    *out = (limn_media_reader){.self = a,
                               .kind = a->kind,
                               .format = a->format,
                               .total = r->total,
                               .fps = video ? r->fps : 0,
                               .measure = measure_away,
                               .read = read_away,
                               .close = close_away};
    return LIMN_OK;
}

limn_status limn_media_open_away(limn_media_reader *out, limn_decoders *d,
                                 const limn_media_input *in, limn_err *err) {
    away *a = limn_mem_calloc(1, sizeof *a);
    limn_decode_reply r;
    limn_decode_ask ask = {.op = LIMN_DECODE_MEDIA,
                           .dpi = in->dpi,
                           .max_pixels = in->max_pixels,
                           .threads = in->threads};
    if (!a) return limn_fail(err, LIMN_E_NOMEM, "no memory for a media");
    a->max_pixels = in->max_pixels;
    limn_status st =
        limn_decode_visit_begin(&a->visit, d, ask, in->data, in->size, in->cancel, err);
    if (st == LIMN_OK) st = limn_decode_visit_reply(a->visit, &r, err);
    if (st == LIMN_OK) st = settle(out, a, &r, err);
    if (st != LIMN_OK) close_away(a);
    return st;
}
