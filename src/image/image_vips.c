/* SPDX-License-Identifier: MIT */
/*
 * Pixels out of file bytes, by libvips.
 *
 * libvips keeps an error text and an operation cache per process: the text is fetched at once, the
 * cache is switched off. Loaders that libvips itself calls unfit for strangers' files are blocked.
 */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "image/gif.h"
#include "image/image_vips.h"
#include "image/picture_text.h"

enum { FILE_BYTES_MAX = 1 << 30 };

/* Written once, under pthread_once. */
static struct {
    pthread_once_t once;
    bool ok;
    limn_err why;
} vips_state = {.once = PTHREAD_ONCE_INIT};

static void drop_log(const gchar *domain, GLogLevelFlags level, const gchar *text, gpointer user) {
    limn_log(LIMN_LOG_DEBUG, "image", "%s: %s", domain ? domain : "glib", text);
}

static void start_vips(void) {
    if (limn_late_open(&limn_late_vips, &vips_state.why) != LIMN_OK ||
        limn_late_open(&limn_late_objects, &vips_state.why) != LIMN_OK)
        return;
    g_log_set_handler("VIPS", (GLogLevelFlags)(G_LOG_LEVEL_MASK & ~G_LOG_FLAG_FATAL), drop_log,
                      NULL);
    vips_state.ok = VIPS_INIT("limn") == 0;
    if (!vips_state.ok) return;
    vips_block_untrusted_set(TRUE);
    vips_cache_set_max(0);
    vips_leak_set(FALSE);
}

limn_status limn_vips_start(limn_err *err) {
    pthread_once(&vips_state.once, start_vips);
    if (vips_state.ok) return LIMN_OK;
    if (vips_state.why.status == LIMN_OK)
        return limn_fail(err, LIMN_E_INTERNAL, "the image library cannot start");
    if (err) *err = vips_state.why;
    return vips_state.why.status;
}

limn_status limn_vips_failed(limn_err *err, limn_status st, const char *what) {
    char *text = vips_error_buffer_copy();
    size_t n = strcspn(text, "\n");
    limn_fail(err, st, "%s: %.*s", what, (int)(n > 200 ? 200 : n), text);
    g_free(text);
    return st;
}

static void drop_image(VipsImage **im) {
    if (*im) g_object_unref(*im);
    *im = NULL;
}

/* Replaces *im by `next`, the output of an operation on it. */
static void step(VipsImage **im, VipsImage *next) {
    g_object_unref(*im);
    *im = next;
}

/* Everything becomes 8-bit sRGB with 3 or 4 bands. */
static int to_srgb(VipsImage **im) {
    VipsImage *t;
    if (vips_autorot(*im, &t, NULL)) return -1;
    step(im, t);
    if (vips_image_get_typeof(*im, VIPS_META_ICC_NAME)) {
        if (vips_icc_transform(*im, &t, "srgb", "embedded", TRUE, "intent", VIPS_INTENT_RELATIVE,
                               "depth", 8, NULL) == 0) {
            step(im, t);
        } else {
            limn_log(LIMN_LOG_WARN, "image", "the colour profile is broken and was left out");
            vips_error_clear();
        }
    }
    if (vips_colourspace(*im, &t, VIPS_INTERPRETATION_sRGB, NULL)) return -1;
    step(im, t);
    if (vips_cast_uchar(*im, &t, NULL)) return -1;
    step(im, t);
    if ((*im)->Bands > 4) {
        if (vips_extract_band(*im, &t, 0, "n", 4, NULL)) return -1;
        step(im, t);
    }
    return 0;
}

limn_status limn_vips_check_size(int width, int height, int64_t max_pixels, limn_err *err) {
    if (width <= LIMN_IMAGE_MAX_SIDE && height <= LIMN_IMAGE_MAX_SIDE &&
        (int64_t)width * height <= max_pixels)
        return LIMN_OK;
    return limn_fail(err, LIMN_E_LIMIT, "the picture has %d x %d pixels, at most %.1f megapixels",
                     width, height, (double)max_pixels / 1e6);
}

limn_status limn_vips_read(limn_image **out, VipsImage **im, int64_t max_pixels, limn_err *err) {
    limn_status st = limn_vips_check_size((*im)->Xsize, (*im)->Ysize, max_pixels, err);
    if (st != LIMN_OK) return st;
    if (to_srgb(im)) return limn_vips_failed(err, LIMN_E_FORMAT, "cannot be decoded");
    if ((*im)->Bands < 3)
        return limn_fail(err, LIMN_E_UNSUPPORTED, "a picture of %d channels", (*im)->Bands);
    size_t size;
    void *data = vips_image_write_to_memory(*im, &size);
    if (!data) return limn_vips_failed(err, LIMN_E_FORMAT, "cannot be decoded");
    st = limn_image_new(out, (*im)->Xsize, (*im)->Ysize, (*im)->Bands, err);
    if (st == LIMN_OK) memcpy((*out)->data, data, size);
    g_free(data);
    return st;
}

/* libvips 8.14 fills the rest of a PNG or JPEG that is cut off with grey: look for the end first.
 */
static bool png_is_complete(const uint8_t *d, size_t size) {
    for (size_t at = 8; size - at >= 12;) {
        size_t n =
            (size_t)d[at] << 24 | (size_t)d[at + 1] << 16 | (size_t)d[at + 2] << 8 | d[at + 3];
        if (n > size - at - 12) return false;
        if (memcmp(d + at + 4, "IEND", 4) == 0) return true;
        at += n + 12;
    }
    return false;
}

static bool is_png_of_nothing(const uint8_t *d, size_t size) {
    static const uint8_t zero[4];
    return limn_container_of(d, size) == LIMN_CONTAINER_PNG && size >= 24 &&
           (memcmp(d + 16, zero, 4) == 0 || memcmp(d + 20, zero, 4) == 0);
}

/* The end marker comes after the first start of scan; one before it belongs to a thumbnail. */
static bool jpeg_is_complete(const uint8_t *d, size_t size) {
    size_t at = 2;
    while (at + 4 <= size && d[at] == 0xff && d[at + 1] != 0xda)
        at += d[at + 1] == 0xff ? 1 : 2 + ((size_t)d[at + 2] << 8 | d[at + 3]);
    for (; at + 2 <= size; at++)
        if (d[at] == 0xff && d[at + 1] == 0xd9) return true;
    return false;
}

static bool is_complete(const uint8_t *d, size_t size) {
    switch (limn_container_of(d, size)) {
    case LIMN_CONTAINER_PNG: return png_is_complete(d, size);
    case LIMN_CONTAINER_JPEG: return jpeg_is_complete(d, size);
    default: return true;
    }
}

limn_status limn_vips_check_file(const void *data, size_t size, limn_err *err) {
    if (size == 0) return limn_fail(err, LIMN_E_FORMAT, "the file is empty");
    if (size > FILE_BYTES_MAX)
        return limn_fail(err, LIMN_E_LIMIT, "a picture file of %zu bytes: at most 1 GB", size);
    if (!is_complete(data, size)) return limn_fail(err, LIMN_E_FORMAT, "the picture is cut off");
    if (is_png_of_nothing(data, size))
        return limn_fail(err, LIMN_E_FORMAT, "a picture without pixels: a side is 0");
    return LIMN_OK;
}

/* By class name: the loader that hands on to other libraries claims nearly everything. */
bool limn_vips_is_known(const void *data, size_t size) {
    static const char *const kinds[] = {"Jpeg", "Png", "Webp", "Tiff", "Heif", "Jp2k", "Jxl"};
    const char prefix[] = "VipsForeignLoad";
    const char *loader = vips_foreign_find_load_buffer(data, size);
    vips_error_clear();
    if (!loader || strncmp(loader, prefix, sizeof prefix - 1) != 0) return false;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (strncmp(loader + sizeof prefix - 1, kinds[i], strlen(kinds[i])) == 0) return true;
    return false;
}

limn_status limn_vips_refuse(const void *data, size_t size, limn_err *err) {
    bool known = limn_vips_is_known(data, size);
    return limn_fail(err, LIMN_E_FORMAT,
                     known ? "the picture is damaged" : "not a picture of a known format");
}

/* Set once at program start (image.h); read-only afterwards. */
static limn_image_decoder another;

void limn_image_set_decoder(const limn_image_decoder *decoder) {
    another = decoder ? *decoder : (limn_image_decoder){0};
}

const limn_image_decoder *limn_image_decoder_get(void) {
    return &another;
}

static limn_status decode_gif(limn_image **out, const void *data, size_t size, limn_err *err) {
    limn_gif gif;
    limn_status st = limn_gif_init(&gif, data, size, err);
    if (st == LIMN_OK) st = limn_gif_read(out, &gif, 0, LIMN_IMAGE_MAX_PIXELS, err);
    limn_gif_deinit(&gif);
    return st;
}

limn_status limn_image_decode(limn_image **out, const void *data, size_t size, limn_err *err) {
    *out = NULL;
    if (another.decode) return another.decode(out, another.user, data, size, err);
    limn_status st = limn_vips_check_file(data, size, err);
    if (st == LIMN_OK && limn_gif_is(data, size)) return decode_gif(out, data, size, err);
    if (st == LIMN_OK) st = limn_vips_start(err);
    if (st != LIMN_OK) return st;
    vips_error_clear();
    VipsImage *im =
        vips_image_new_from_buffer(data, size, "", "fail_on", VIPS_FAIL_ON_TRUNCATED, NULL);
    if (!im) return limn_vips_refuse(data, size, err);
    st = limn_vips_read(out, &im, LIMN_IMAGE_MAX_PIXELS, err);
    drop_image(&im);
    vips_error_clear();
    if (st != LIMN_OK) limn_image_free(out);
    return st;
}
