/* SPDX-License-Identifier: MIT */
/*
 * Pages and frames through libvips, a GIF by gif.h. A TIFF page is opened by its number. A WebP is
 * one tall picture to libvips: it is opened as a stream and read frame by frame, because opening
 * frame n on its own would decode all before it again each time.
 */
#include <string.h>

#include "image/image_stack.h"
#include "image/image_vips.h"

enum { TIFF_PAGES_MAX = 1 << 20 };

typedef struct format_row {
    const char *loader; /* how libvips' "vips-loader" begins */
    const char *name;
    bool animated;
} format_row;

static const format_row formats[] = {
    {"tiffload", "tiff", false}, {"webpload", "webp", true},  {"pngload", "png", false},
    {"jpegload", "jpeg", false}, {"heifload", "heif", false},
};

/* Also what libvips does not know for one, as its directory is not there any more. */
static bool is_tiff(const void *data, size_t size) {
    static const char magic[4][4] = {"II*", {'M', 'M', 0, '*'}, "II+", {'M', 'M', 0, '+'}};
    for (int i = 0; i < 4; i++)
        if (size >= 4 && memcmp(data, magic[i], 4) == 0) return true;
    return false;
}

bool limn_image_is_known(const void *data, size_t size) {
    if (limn_gif_is(data, size)) return true;
    if (limn_vips_start(NULL) != LIMN_OK || size == 0) return false;
    return is_tiff(data, size) || limn_vips_is_known(data, size);
}

static VipsImage *open_page(const limn_image_stack *s, int page) {
    if (s->count <= 1)
        return vips_image_new_from_buffer(s->data, s->size, "", "fail_on", VIPS_FAIL_ON_TRUNCATED,
                                          NULL);
    return vips_image_new_from_buffer(s->data, s->size, "", "fail_on", VIPS_FAIL_ON_TRUNCATED,
                                      "page", page, NULL);
}

/* vips_image_get_n_pages() says 1 of ten thousand and more. */
static int count_pages(VipsImage *im) {
    int n;
    if (!vips_image_get_typeof(im, VIPS_META_N_PAGES) ||
        vips_image_get_int(im, VIPS_META_N_PAGES, &n))
        return 1;
    return n > 1 ? n : 1;
}

static double animation_seconds(VipsImage *im, int count) {
    int *delay, n = 0;
    double ms = 0;
    if (!vips_image_get_typeof(im, "delay") || vips_image_get_array_int(im, "delay", &delay, &n))
        n = 0;
    for (int i = 0; i < count; i++) ms += limn_frame_ms(i < n ? delay[i] : 0);
    return ms / 1000;
}

static uint64_t get_number(const uint8_t *p, int bytes, bool big) {
    uint64_t v = 0;
    for (int i = 0; i < bytes; i++) v = v << 8 | p[big ? i : bytes - 1 - i];
    return v;
}

/* libvips counts the pages that it reaches: a file that breaks off would only look shorter. Follows
 * the chain of directories (TIFF 6.0 section 2; BigTIFF with 8-byte offsets). */
static bool tiff_is_complete(const uint8_t *d, size_t size) {
    if (!is_tiff(d, size)) return true;
    if (size < 16) return false;
    bool big = d[0] == 'M', wide = get_number(d + 2, 2, big) == 43;
    int offset_bytes = wide ? 8 : 4, count_bytes = wide ? 8 : 2, entry = wide ? 20 : 12;
    uint64_t at = get_number(d + offset_bytes, offset_bytes, big);
    for (int pages = 0; at != 0 && pages < TIFF_PAGES_MAX; pages++) {
        if (at > size || size - at < (uint64_t)count_bytes) return false;
        uint64_t n = get_number(d + at, count_bytes, big), left = size - at - (uint64_t)count_bytes;
        if (n > 65535 || left < n * (uint64_t)entry + (uint64_t)offset_bytes) return false;
        at = get_number(d + at + count_bytes + n * (uint64_t)entry, offset_bytes, big);
    }
    return true;
}

static limn_status init_gif(limn_image_stack *s, limn_err *err) {
    s->gif = limn_mem_alloc(sizeof *s->gif);
    if (!s->gif) return limn_fail(err, LIMN_E_NOMEM, "no memory for a picture");
    limn_status st = limn_gif_init(s->gif, s->data, s->size, err);
    s->format = "gif";
    s->count = s->gif->count;
    s->width = s->gif->width;
    s->height = s->gif->height;
    s->animated = s->count > 1;
    if (s->animated) s->seconds = s->gif->seconds;
    return st;
}

limn_status limn_image_stack_init(limn_image_stack *s, const void *data, size_t size,
                                  limn_err *err) {
    *s = (limn_image_stack){.data = data, .size = size, .format = "picture", .count = 1};
    limn_status st = limn_vips_check_file(data, size, err);
    if (st == LIMN_OK && limn_gif_is(data, size)) return init_gif(s, err);
    if (st == LIMN_OK) st = limn_vips_start(err);
    if (st == LIMN_OK && !tiff_is_complete(data, size))
        st = limn_fail(err, LIMN_E_FORMAT, "the picture is cut off");
    if (st != LIMN_OK) return st;
    vips_error_clear();
    VipsImage *im = open_page(s, 0);
    if (!im) return limn_vips_refuse(data, size, err);
    s->width = im->Xsize;
    s->height = im->Ysize;
    s->count = count_pages(im);
    const char *loader;
    if (vips_image_get_string(im, VIPS_META_LOADER, &loader)) loader = "";
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
        if (strncmp(loader, formats[i].loader, strlen(formats[i].loader)) != 0) continue;
        s->format = formats[i].name;
        s->animated = formats[i].animated && s->count > 1;
    }
    if (s->animated) s->seconds = animation_seconds(im, s->count);
    g_object_unref(im);
    vips_error_clear();
    return LIMN_OK;
}

static void close_frames(limn_image_stack *s) {
    if (s->frames) g_object_unref(s->frames);
    s->frames = NULL;
    s->next = 0;
}

void limn_image_stack_deinit(limn_image_stack *s) {
    close_frames(s);
    if (s->gif) limn_gif_deinit(s->gif);
    limn_mem_free(s->gif);
    *s = (limn_image_stack){0};
}

static limn_status open_frames(limn_image_stack *s, limn_err *err) {
    close_frames(s);
    if ((int64_t)s->height * s->count > VIPS_MAX_COORD)
        return limn_fail(err, LIMN_E_LIMIT, "an animation of %d frames, %d pixels high", s->count,
                         s->height);
    s->frames =
        vips_image_new_from_buffer(s->data, s->size, "", "n", -1, "access", VIPS_ACCESS_SEQUENTIAL,
                                   "fail_on", VIPS_FAIL_ON_TRUNCATED, NULL);
    return s->frames ? LIMN_OK : limn_vips_failed(err, LIMN_E_FORMAT, "cannot be decoded");
}

static limn_status next_frame(limn_image **out, limn_image_stack *s, int64_t max_pixels,
                              limn_err *err) {
    VipsImage *im;
    if (vips_crop(s->frames, &im, 0, s->next * s->height, s->width, s->height, NULL))
        return limn_vips_failed(err, LIMN_E_FORMAT, "cannot be decoded");
    limn_status st = limn_vips_read(out, &im, max_pixels, err);
    g_object_unref(im);
    s->next++;
    return st;
}

limn_status limn_image_stack_read(limn_image **out, limn_image_stack *s, int index,
                                  int64_t max_pixels, limn_err *err) {
    *out = NULL;
    if (index < 0 || index >= s->count)
        return limn_fail(err, LIMN_E_VALUE, "picture %d of %d", index + 1, s->count);
    limn_status st = LIMN_OK;
    if (s->gif) return limn_gif_read(out, s->gif, index, max_pixels, err);
    vips_error_clear();
    if (s->animated) {
        if (!s->frames || s->next > index) st = open_frames(s, err);
        while (st == LIMN_OK && s->next <= index) {
            limn_image_free(out);
            st = next_frame(out, s, max_pixels, err);
        }
    } else {
        VipsImage *im = open_page(s, index);
        if (!im) return limn_vips_failed(err, LIMN_E_FORMAT, "cannot be decoded");
        st = limn_vips_read(out, &im, max_pixels, err);
        g_object_unref(im);
    }
    vips_error_clear();
    if (st != LIMN_OK) limn_image_free(out);
    return st;
}
