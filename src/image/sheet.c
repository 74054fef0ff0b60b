/* SPDX-License-Identifier: MIT */
/*
 * Contact sheets: pictures in a grid, each with its label below; see limn_image_sheet in limn.h.
 * Labels are set by libvips (pango), so any script that the machine has a font for works.
 */
#include <string.h>
#include <vips/vips.h>

#include "image/image.h"
#include "image/resample.h"

/* A label has room for two lines; for four where one of the sheet's labels has a line break. */
enum { GAP = 8, LABEL_HEIGHT = 36, LABEL_TALL = 68, LABEL_MAX_BYTES = 400 };

limn_status limn_text_ink(limn_ink *out, const char *label, int width, const char *font,
                          limn_err *err) {
    char text[LABEL_MAX_BYTES];
    size_t n = strlen(label), size;
    *out = (limn_ink){0};
    if (n >= sizeof text) n = sizeof text - 1;
    while (n > 0 && ((unsigned char)label[n] & 0xc0) == 0x80) n--; /* whole characters */
    memcpy(text, label, n);
    text[n] = 0;
    limn_status st = limn_vips_start(err);
    if (st != LIMN_OK || !*text) return st;
    gchar *plain = g_markup_escape_text(text, -1);
    VipsImage *im = NULL;
    int failed = vips_text(&im, plain, "font", font, "width", width, "dpi", 96, NULL);
    g_free(plain);
    if (failed) return limn_vips_failed(err, LIMN_E_UNSUPPORTED, "a label cannot be drawn");
    void *ink = vips_image_write_to_memory(im, &size);
    int w = im->Xsize, h = im->Ysize;
    g_object_unref(im);
    if (!ink) return limn_vips_failed(err, LIMN_E_NOMEM, "a label cannot be drawn");
    out->data = limn_mem_alloc(size);
    if (out->data) memcpy(out->data, ink, size);
    g_free(ink);
    if (!out->data) return limn_fail(err, LIMN_E_NOMEM, "no memory for a label");
    out->width = w;
    out->height = h;
    return LIMN_OK;
}

/* Draws `label` as black on the white sheet, at most `width` x `height` pixels. */
static limn_status draw_label(limn_image *sheet, int x, int y, int width, int height,
                              const char *label, limn_err *err) {
    limn_ink ink;
    limn_status st = limn_text_ink(&ink, label, width, "sans 9", err);
    if (st != LIMN_OK) return st;
    int w = ink.width < width ? ink.width : width, h = ink.height < height ? ink.height : height;
    for (int r = 0; r < h; r++)
        for (int c = 0; c < w; c++) {
            uint8_t *p =
                sheet->data + ((size_t)(y + r) * (size_t)sheet->width + (size_t)(x + c)) * 3;
            uint8_t v = (uint8_t)(255 - ink.data[(size_t)r * (size_t)ink.width + (size_t)c]);
            p[0] = p[1] = p[2] = v;
        }
    limn_mem_free(ink.data);
    return LIMN_OK;
}

static limn_status place(limn_image *sheet, const limn_image *image, int x, int y, limn_err *err) {
    limn_image *rgb;
    limn_status st = limn_image_convert(&rgb, image, 3, err);
    if (st != LIMN_OK) return st;
    for (int r = 0; r < rgb->height; r++)
        memcpy(sheet->data + ((size_t)(y + r) * (size_t)sheet->width + (size_t)x) * 3,
               rgb->data + (size_t)r * (size_t)rgb->width * 3, (size_t)rgb->width * 3);
    limn_image_free(&rgb);
    return LIMN_OK;
}

limn_status limn_image_sheet(limn_image **out, const limn_image *const *images,
                             const char *const *labels, int count, int columns, limn_err *err) {
    *out = NULL;
    if (count < 1 || columns < 1)
        return limn_fail(err, LIMN_E_VALUE, "a sheet of %d pictures in %d columns", count, columns);
    int cell_w = 0, cell_h = 0, label_h = labels ? LABEL_HEIGHT : 0;
    for (int i = 0; i < count; i++) {
        if (labels && labels[i] && strchr(labels[i], '\n')) label_h = LABEL_TALL;
        if (images[i]->width > cell_w) cell_w = images[i]->width;
        if (images[i]->height > cell_h) cell_h = images[i]->height;
    }
    if (columns > count) columns = count;
    int rows = (count + columns - 1) / columns;
    int64_t step_x = (int64_t)cell_w + GAP;
    int64_t step_y = (int64_t)cell_h + GAP + label_h;
    int64_t width = step_x * columns + GAP, height = step_y * rows + GAP;
    if (width > LIMN_IMAGE_MAX_SIDE || height > LIMN_IMAGE_MAX_SIDE)
        return limn_fail(err, LIMN_E_LIMIT, "a sheet of %lld x %lld pixels is too large",
                         (long long)width, (long long)height);
    limn_status st = limn_image_new(out, (int)width, (int)height, 3, err);
    if (st == LIMN_OK) memset((*out)->data, 255, (size_t)width * (size_t)height * 3);
    for (int i = 0; st == LIMN_OK && i < count; i++) {
        int x = GAP + (int)step_x * (i % columns), y = GAP + (int)step_y * (i / columns);
        st = place(*out, images[i], x, y, err);
        if (st == LIMN_OK && labels && labels[i])
            st = draw_label(*out, x, y + images[i]->height + 4, cell_w, label_h, labels[i], err);
    }
    if (st != LIMN_OK) limn_image_free(out);
    return st;
}
