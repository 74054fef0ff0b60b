/* SPDX-License-Identifier: MIT */
/*
 * Pictures as terminal escape codes; see limn_image_format_terminal in limn.h.
 *
 * Kitty: the PNG in base64 pieces of 4096 characters (sw.kovidgoyal.net/kitty/graphics-protocol),
 * shown over `columns` x `rows` cells. Sixel (DEC VT330/340): six rows of pixels at a time in a
 * 6 x 6 x 6 colour cube with ordered dither. Half blocks: U+2580 with 24-bit colours, two pixels a
 * cell; works almost everywhere.
 */
#include <string.h>

#include "image/image.h"
#include "image/resample.h"

enum { OUTPUT_MAX = 64 << 20, CELL_WIDTH = 10, CELL_HEIGHT = 20, PIECE = 4096 };

/* The largest size with the picture's shape inside `max_width` x `max_height` pixels of the given
 * width : height ratio. */
static void inside(int *w, int *h, const limn_image *im, int max_width, int max_height) {
    double sx = (double)max_width / im->width, sy = (double)max_height / im->height;
    double s = sx < sy ? sx : sy;
    *w = (int)(im->width * s + 0.5);
    *h = (int)(im->height * s + 0.5);
    if (*w < 1) *w = 1;
    if (*h < 1) *h = 1;
}

/* RGB at the size; alpha is laid over white. */
static limn_status scaled(limn_image **out, const limn_image *im, int w, int h, limn_err *err) {
    limn_image *rgb;
    limn_status st = limn_image_convert(&rgb, im, 3, err);
    if (st != LIMN_OK) return st;
    st = limn_image_resize(out, rgb, w, h,
                           w < im->width ? LIMN_FILTER_BILINEAR : LIMN_FILTER_NEAREST, err);
    limn_image_free(&rgb);
    return st;
}

/* ---- Kitty ---- */

static void add_base64(limn_buf *out, const uint8_t *s, size_t n) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        unsigned v = (unsigned)s[i] << 16 | (i + 1 < n ? (unsigned)s[i + 1] << 8 : 0) |
                     (i + 2 < n ? s[i + 2] : 0);
        limn_buf_addc(out, digits[v >> 18]);
        limn_buf_addc(out, digits[v >> 12 & 63]);
        limn_buf_addc(out, i + 1 < n ? digits[v >> 6 & 63] : '=');
        limn_buf_addc(out, i + 2 < n ? digits[v & 63] : '=');
    }
}

static limn_status format_kitty(limn_buf *out, const limn_image *im, int columns, int rows,
                                limn_err *err) {
    static const limn_file_options png = {.format = "png", .compression = 1};
    void *file;
    size_t size, piece = PIECE / 4 * 3;
    int w, h;
    inside(&w, &h, im, columns * CELL_WIDTH, rows * CELL_HEIGHT);
    limn_status st = limn_image_encode(&file, &size, im, &png, NULL, err);
    if (st != LIMN_OK) return st;
    for (size_t at = 0; at < size; at += piece) {
        size_t n = size - at < piece ? size - at : piece;
        limn_buf_adds(out, "\033_G");
        if (at == 0)
            limn_buf_addf(out, "a=T,f=100,q=2,c=%d,r=%d,", (w + CELL_WIDTH - 1) / CELL_WIDTH,
                          (h + CELL_HEIGHT - 1) / CELL_HEIGHT);
        limn_buf_addf(out, "m=%d;", at + n < size);
        add_base64(out, (const uint8_t *)file + at, n);
        limn_buf_adds(out, "\033\\");
    }
    limn_buf_addc(out, '\n');
    limn_bytes_free(&file);
    return LIMN_OK;
}

/* ---- sixel ---- */

/* Level 0..5 of a sample, with the 4 x 4 Bayer threshold of its place. */
static int cube_level(int v, int x, int y) {
    static const uint8_t bayer[4][4] = {
        {0, 8, 2, 10}, {12, 4, 14, 6}, {3, 11, 1, 9}, {15, 7, 13, 5}};
    return (v * 5 * 16 + bayer[y & 3][x & 3] * 255 + 127) / (255 * 16);
}

static void add_run(limn_buf *out, char c, int n) {
    if (n > 3)
        limn_buf_addf(out, "!%d%c", n, c);
    else
        while (n-- > 0) limn_buf_addc(out, c);
}

/* One band of six rows: each colour that occurs is drawn over the whole width, "$" goes back. */
static void add_band(limn_buf *out, const uint8_t *index, int w, int h, int y0) {
    bool used[216] = {false};
    int rows = h - y0 < 6 ? h - y0 : 6, drawn = 0;
    for (int y = y0; y < y0 + rows; y++)
        for (int x = 0; x < w; x++) used[index[(size_t)y * (size_t)w + (size_t)x]] = true;
    for (int c = 0; c < 216; c++) {
        if (!used[c]) continue;
        limn_buf_addf(out, "%s#%d", drawn++ ? "$" : "", c);
        char last = 0;
        int run = 0;
        for (int x = 0; x < w; x++) {
            int bits = 0;
            for (int y = 0; y < rows; y++)
                if (index[(size_t)(y0 + y) * (size_t)w + (size_t)x] == c) bits |= 1 << y;
            char now = (char)('?' + bits);
            if (now != last) {
                add_run(out, last, run);
                run = 0;
            }
            last = now;
            run++;
        }
        add_run(out, last, run);
    }
    limn_buf_addc(out, '-');
}

static limn_status format_sixel(limn_buf *out, const limn_image *im, int columns, int rows,
                                limn_err *err) {
    limn_image *small;
    int w, h;
    inside(&w, &h, im, columns * CELL_WIDTH, rows * CELL_HEIGHT);
    limn_status st = scaled(&small, im, w, h, err);
    if (st != LIMN_OK) return st;
    uint8_t *index = limn_mem_alloc((size_t)w * (size_t)h);
    if (!index) st = limn_fail(err, LIMN_E_NOMEM, "no memory for the preview");
    for (int y = 0; st == LIMN_OK && y < h; y++)
        for (int x = 0; x < w; x++) {
            size_t at = (size_t)y * (size_t)w + (size_t)x;
            const uint8_t *p = small->data + at * 3;
            index[at] = (uint8_t)(cube_level(p[0], x, y) * 36 + cube_level(p[1], x, y) * 6 +
                                  cube_level(p[2], x, y));
        }
    if (st == LIMN_OK) {
        limn_buf_addf(out, "\033P0;1q\"1;1;%d;%d", w, h);
        for (int c = 0; c < 216; c++)
            limn_buf_addf(out, "#%d;2;%d;%d;%d", c, c / 36 * 20, c / 6 % 6 * 20, c % 6 * 20);
        for (int y = 0; y < h; y += 6) add_band(out, index, w, h, y);
        limn_buf_adds(out, "\033\\\n");
    }
    limn_mem_free(index);
    limn_image_free(&small);
    return st;
}

/* ---- half blocks ---- */

static limn_status format_blocks(limn_buf *out, const limn_image *im, int columns, int rows,
                                 limn_err *err) {
    limn_image *small;
    int w, h;
    inside(&w, &h, im, columns, rows * 2);
    limn_status st = scaled(&small, im, w, h, err);
    if (st != LIMN_OK) return st;
    for (int y = 0; y < h; y += 2) {
        const uint8_t *top = small->data + (size_t)y * (size_t)w * 3, *below = top + (size_t)w * 3;
        for (int x = 0; x < w * 3; x += 3) {
            limn_buf_addf(out, "\033[38;2;%d;%d;%dm", top[x], top[x + 1], top[x + 2]);
            if (y + 1 < h)
                limn_buf_addf(out, "\033[48;2;%d;%d;%dm", below[x], below[x + 1], below[x + 2]);
            limn_buf_adds(out, "\xe2\x96\x80"); /* upper half block */
        }
        limn_buf_adds(out, "\033[0m\n");
    }
    limn_image_free(&small);
    return LIMN_OK;
}

limn_status limn_image_format_terminal(char **out, size_t *len, const limn_image *image,
                                       limn_terminal how, int columns, int rows, limn_err *err) {
    typedef limn_status format_fn(limn_buf *, const limn_image *, int, int, limn_err *);
    static format_fn *const formats[] = {[LIMN_TERMINAL_KITTY] = format_kitty,
                                         [LIMN_TERMINAL_SIXEL] = format_sixel,
                                         [LIMN_TERMINAL_BLOCKS] = format_blocks};
    limn_buf b;
    *out = NULL;
    *len = 0;
    if ((unsigned)how >= sizeof formats / sizeof formats[0] || columns < 1 || rows < 1 ||
        columns > 1000 || rows > 1000)
        return limn_fail(err, LIMN_E_VALUE, "a preview of %d x %d cells", columns, rows);
    limn_buf_init(&b, OUTPUT_MAX);
    limn_status st = formats[how](&b, image, columns, rows, err);
    *len = b.len;
    if (st == LIMN_OK) *out = limn_buf_take(&b);
    if (st == LIMN_OK && !*out) st = limn_fail(err, LIMN_E_NOMEM, "no memory for the preview");
    limn_buf_deinit(&b);
    return st;
}
