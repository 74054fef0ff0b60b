/* SPDX-License-Identifier: MIT */
/* Images in memory; see image.h. */
#include "image/image.h"

#include <math.h>
#include <string.h>

limn_status limn_image_new(limn_image **out, int width, int height, int channels, limn_err *err) {
    *out = NULL;
    if (width < 1 || height < 1 || width > LIMN_IMAGE_MAX_SIDE || height > LIMN_IMAGE_MAX_SIDE ||
        (int64_t)width * height > LIMN_IMAGE_MAX_PIXELS)
        return limn_fail(err, LIMN_E_LIMIT, "an image of %d x %d pixels: at most %d megapixels",
                         width, height, (int)(LIMN_IMAGE_MAX_PIXELS >> 20));
    if (channels != 1 && channels != 3 && channels != 4)
        return limn_fail(err, LIMN_E_VALUE, "an image of %d channels: 1, 3 or 4", channels);
    limn_image *im = limn_mem_calloc(1, sizeof *im);
    if (im) im->data = limn_mem_calloc((size_t)width * (size_t)height, (size_t)channels);
    if (!im || !im->data) {
        limn_mem_free(im);
        return limn_fail(err, LIMN_E_NOMEM, "no memory for an image of %d x %d", width, height);
    }
    im->width = width;
    im->height = height;
    im->channels = channels;
    *out = im;
    return LIMN_OK;
}

void limn_image_free(limn_image **image) {
    if (!image || !*image) return;
    limn_mem_free((*image)->data);
    limn_mem_free(*image);
    *image = NULL;
}

int limn_image_width(const limn_image *image) {
    return image->width;
}
int limn_image_height(const limn_image *image) {
    return image->height;
}
int limn_image_channels(const limn_image *image) {
    return image->channels;
}
uint8_t *limn_image_pixels(limn_image *image) {
    return image->data;
}
const uint8_t *limn_image_bytes(const limn_image *image) {
    return image->data;
}

static size_t pixel_count(const limn_image *im) {
    return (size_t)im->width * (size_t)im->height;
}

limn_status limn_image_copy(limn_image **out, const limn_image *image, limn_err *err) {
    limn_status st = limn_image_new(out, image->width, image->height, image->channels, err);
    if (st == LIMN_OK)
        memcpy((*out)->data, image->data, pixel_count(image) * (size_t)image->channels);
    return st;
}

/* (v * alpha + 255 * (255 - alpha)) / 255, rounded */
static uint8_t over_white(unsigned v, unsigned alpha) {
    return (uint8_t)((v * alpha + 255 * (255 - alpha) + 127) / 255);
}

limn_status limn_image_convert(limn_image **out, const limn_image *image, int channels,
                               limn_err *err) {
    limn_status st = limn_image_new(out, image->width, image->height, channels, err);
    if (st != LIMN_OK) return st;
    const uint8_t *s = image->data;
    uint8_t *d = (*out)->data;
    int from = image->channels;
    for (size_t i = 0; i < pixel_count(image); i++, s += from, d += channels) {
        uint8_t rgba[4] = {s[0], from > 1 ? s[1] : s[0], from > 1 ? s[2] : s[0],
                           from == 4 ? s[3] : 255};
        if (channels < 4 && from == 4)
            for (int c = 0; c < 3; c++) rgba[c] = over_white(rgba[c], rgba[3]);
        if (channels == 1 && from == 1)
            d[0] = s[0];
        else if (channels == 1)
            d[0] =
                (uint8_t)((19595u * rgba[0] + 38470u * rgba[1] + 7471u * rgba[2] + 32768u) >> 16);
        else
            memcpy(d, rgba, (size_t)channels);
    }
    return LIMN_OK;
}

static int clamp_int(int v, int low, int high) {
    return v < low ? low : v > high ? high : v;
}

limn_status limn_image_crop(limn_image **out, const limn_image *image, int x, int y, int width,
                            int height, limn_err *err) {
    limn_status st = limn_image_new(out, width, height, image->channels, err);
    if (st != LIMN_OK) return st;
    size_t n = (size_t)image->channels;
    uint8_t *d = (*out)->data;
    for (int row = 0; row < height; row++) {
        int64_t sy = (int64_t)y + row;
        int from_row = (int)(sy < 0 ? 0 : sy >= image->height ? image->height - 1 : sy);
        const uint8_t *line = image->data + (size_t)from_row * (size_t)image->width * n;
        for (int col = 0; col < width; col++, d += n) {
            int64_t sx = (int64_t)x + col;
            int from_col = (int)(sx < 0 ? 0 : sx >= image->width ? image->width - 1 : sx);
            memcpy(d, line + (size_t)from_col * n, n);
        }
    }
    return LIMN_OK;
}

limn_status limn_image_composite(limn_image **out, const limn_image *top, const limn_image *bottom,
                                 const limn_image *mask, limn_err *err) {
    *out = NULL;
    if (top->width != bottom->width || top->height != bottom->height ||
        top->channels != bottom->channels || mask->width != top->width ||
        mask->height != top->height || mask->channels != 1)
        return limn_fail(err, LIMN_E_SHAPE,
                         "cannot composite %dx%dx%d over %dx%dx%d with a mask of %dx%dx%d",
                         top->width, top->height, top->channels, bottom->width, bottom->height,
                         bottom->channels, mask->width, mask->height, mask->channels);
    limn_status st = limn_image_new(out, top->width, top->height, top->channels, err);
    if (st != LIMN_OK) return st;
    size_t n = (size_t)top->channels;
    for (size_t i = 0; i < pixel_count(top); i++) {
        unsigned m = mask->data[i];
        for (size_t c = i * n; c < (i + 1) * n; c++)
            (*out)->data[c] =
                (uint8_t)((top->data[c] * m + bottom->data[c] * (255 - m) + 127) / 255);
    }
    return LIMN_OK;
}

void limn_image_to_f32(float *dst, const limn_image *image) {
    size_t n = pixel_count(image), step = (size_t)image->channels;
    for (size_t c = 0; c < 3; c++)
        for (size_t i = 0; i < n; i++) {
            float v = (float)image->data[i * step + (step > 1 ? c : 0)] / 255.0f;
            dst[c * n + i] = 2.0f * v - 1.0f;
        }
}

limn_status limn_image_from_f32(limn_image **out, const float *src, int width, int height,
                                limn_err *err) {
    limn_status st = limn_image_new(out, width, height, 3, err);
    if (st != LIMN_OK) return st;
    size_t n = pixel_count(*out);
    for (size_t c = 0; c < 3; c++)
        for (size_t i = 0; i < n; i++) {
            float v = src[c * n + i] / 2.0f + 0.5f;
            /* the comparison also turns NaN into black; the pipeline refuses NaN before */
            v = v > 0.0f ? (v < 1.0f ? v : 1.0f) : 0.0f;
            (*out)->data[i * 3 + c] = (uint8_t)clamp_int((int)lrintf(v * 255.0f), 0, 255);
        }
    return LIMN_OK;
}
