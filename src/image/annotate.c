/* SPDX-License-Identifier: MIT */
/* Boxes, points and labels drawn on a picture; see limn_image_annotate in image.h. */
#include <math.h>
#include <stdio.h>

#include "image/image.h"

enum { LABEL_WIDTH = 2000 };

/* Fills the part of [x0, x1) x [y0, y1) that lies in the picture. */
static void fill(limn_image *im, int x0, int y0, int x1, int y1, const uint8_t *colour) {
    if (x0 < 0) x0 = 0;
    if (y0 < 0) y0 = 0;
    if (x1 > im->width) x1 = im->width;
    if (y1 > im->height) y1 = im->height;
    for (int y = y0; y < y1; y++)
        for (int x = x0; x < x1; x++)
            for (int c = 0; c < 3; c++)
                im->data[((size_t)y * (size_t)im->width + (size_t)x) * 3 + (size_t)c] = colour[c];
}

/* A disc in the colour with a rim that shows on any ground. */
static void disc(limn_image *im, double cx, double cy, double radius, const uint8_t *colour) {
    static const uint8_t white[3] = {255, 255, 255};
    int r = (int)radius + 2;
    for (int y = -r; y <= r; y++)
        for (int x = -r; x <= r; x++) {
            double d = hypot(x, y);
            int px = (int)cx + x, py = (int)cy + y;
            if (d <= radius + 1) fill(im, px, py, px + 1, py + 1, d <= radius - 1 ? colour : white);
        }
}

static void outline(limn_image *im, const double *box, int line, const uint8_t *colour) {
    int x0 = (int)floor(box[0]), y0 = (int)floor(box[1]);
    int x1 = (int)ceil(box[2]), y1 = (int)ceil(box[3]);
    if (x1 <= x0) x1 = x0 + 1;
    if (y1 <= y0) y1 = y0 + 1;
    fill(im, x0, y0, x1, y0 + line, colour);
    fill(im, x0, y1 - line, x1, y1, colour);
    fill(im, x0, y0, x0 + line, y1, colour);
    fill(im, x1 - line, y0, x1, y1, colour);
}

/* White on the colour: above the box, inside it where there is no room above. */
static limn_status label(limn_image *im, const limn_mark *m, int line, limn_err *err) {
    limn_ink ink;
    char font[32];
    int size = im->height < im->width ? im->height / 40 : im->width / 40;
    snprintf(font, sizeof font, "sans %d", size < 7 ? 7 : size > 40 ? 40 : size);
    limn_status st = limn_text_ink(&ink, m->label, LABEL_WIDTH, font, err);
    if (st != LIMN_OK || !ink.data) return st;
    int pad = line + 1, w = ink.width + 2 * pad, h = ink.height + 2 * pad;
    int x = (int)floor(m->box[0]), y = (int)floor(m->box[1]) - h;
    if (x + w > im->width) x = im->width - w;
    if (x < 0) x = 0;
    if (y < 0) y = (int)floor(m->box[1]);
    fill(im, x, y, x + w, y + h, m->colour);
    for (int r = 0; r < ink.height; r++)
        for (int c = 0; c < ink.width; c++) {
            int px = x + pad + c, py = y + pad + r, a = ink.data[r * ink.width + c];
            if (px >= im->width || py >= im->height) continue;
            uint8_t *p = im->data + ((size_t)py * (size_t)im->width + (size_t)px) * 3;
            for (int k = 0; k < 3; k++) p[k] = (uint8_t)((p[k] * (255 - a) + 255 * a + 127) / 255);
        }
    limn_mem_free(ink.data);
    return LIMN_OK;
}

limn_status limn_image_annotate(limn_image *im, const limn_mark *marks, size_t n, limn_err *err) {
    int side = im->width < im->height ? im->width : im->height;
    int line = side / 200 < 1 ? 1 : side / 200;
    limn_status st = LIMN_OK;
    if (im->channels != 3) return limn_fail(err, LIMN_E_VALUE, "marks are drawn on RGB pictures");
    for (size_t i = 0; i < n; i++) {
        const double *b = marks[i].box;
        if (b[0] == b[2] && b[1] == b[3])
            disc(im, b[0], b[1], side / 60.0 < 3 ? 3 : side / 60.0, marks[i].colour);
        else
            outline(im, b, line, marks[i].colour);
    }
    for (size_t i = 0; i < n && st == LIMN_OK; i++)
        if (marks[i].label[0]) st = label(im, &marks[i], line, err);
    return st;
}
