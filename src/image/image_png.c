/* SPDX-License-Identifier: MIT */
/*
 * PNG files out of pixels, by zlib alone: most pictures that limn makes leave it here, and a
 * picture library would cost more to load than a small picture takes to draw.
 *
 * Sources: PNG specification, third edition: 5 (chunks), 9 (filters), 12.7 (which filter: the one
 * with the least sum of absolute differences), 10 (zlib).
 */
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "image/image_encode.h"

enum { CHUNK_BYTES = 1 << 16, FILTERS = 5, MEMORY_LEVEL = 9 };

static void put_be32(uint8_t *p, uint32_t v) {
    p[0] = (uint8_t)(v >> 24);
    p[1] = (uint8_t)(v >> 16);
    p[2] = (uint8_t)(v >> 8);
    p[3] = (uint8_t)v;
}

static void add_chunk(limn_buf *out, const char *type, const uint8_t *data, size_t size) {
    uint8_t head[8], tail[4];
    put_be32(head, (uint32_t)size);
    memcpy(head + 4, type, 4);
    uLong crc = crc32(crc32(0, NULL, 0), head + 4, 4);
    if (size > 0) crc = crc32(crc, data, (uInt)size);
    put_be32(tail, (uint32_t)crc);
    limn_buf_add(out, head, sizeof head);
    limn_buf_add(out, data, size);
    limn_buf_add(out, tail, sizeof tail);
}

/* ---- filters ---- */

static uint8_t paeth(int left, int up, int corner) {
    int p = left + up - corner, l = abs(p - left), u = abs(p - up), c = abs(p - corner);
    return (uint8_t)(l <= u && l <= c ? left : u <= c ? up : corner);
}

/* One row by filter `type`. `px` bytes before `row` and `above` are zero. */
static void filter_row(uint8_t *to, int type, const uint8_t *row, const uint8_t *above, size_t n,
                       size_t px) {
    const uint8_t *left = row - px, *corner = above - px;
    *to++ = (uint8_t)type;
    switch (type) {
    case 0: memcpy(to, row, n); break;
    case 1:
        for (size_t i = 0; i < n; i++) to[i] = (uint8_t)(row[i] - left[i]);
        break;
    case 2:
        for (size_t i = 0; i < n; i++) to[i] = (uint8_t)(row[i] - above[i]);
        break;
    case 3:
        for (size_t i = 0; i < n; i++) to[i] = (uint8_t)(row[i] - (left[i] + above[i]) / 2);
        break;
    default:
        for (size_t i = 0; i < n; i++)
            to[i] = (uint8_t)(row[i] - paeth(left[i], above[i], corner[i]));
        break;
    }
}

static uint64_t sum_of(const uint8_t *filtered, size_t n) {
    uint64_t sum = 0;
    for (size_t i = 1; i <= n; i++) sum += (uint64_t)abs((int8_t)filtered[i]);
    return sum;
}

/* The row, filtered as compresses best, into to[0]; to[1] is scratch. */
static void filter_best(uint8_t *to[2], const uint8_t *row, const uint8_t *above, size_t n,
                        size_t px) {
    uint64_t least = UINT64_MAX;
    for (int type = 0; type < FILTERS; type++) {
        filter_row(to[1], type, row, above, n, px);
        uint64_t sum = sum_of(to[1], n);
        if (sum >= least) continue;
        least = sum;
        uint8_t *best = to[1];
        to[1] = to[0];
        to[0] = best;
    }
}

/* ---- compressed rows ---- */

/* Compresses what z->next_in holds; full pieces become chunks. */
static bool deflate_rows(limn_buf *out, z_stream *z, uint8_t *piece, int flush) {
    for (;;) {
        int rc = deflate(z, flush);
        if (rc != Z_OK && rc != Z_STREAM_END && rc != Z_BUF_ERROR) return false;
        bool last = rc == Z_STREAM_END;
        if (z->avail_out == 0 || last) {
            add_chunk(out, "IDAT", piece, CHUNK_BYTES - z->avail_out);
            z->next_out = piece;
            z->avail_out = CHUNK_BYTES;
        }
        if (last || (flush == Z_NO_FLUSH && z->avail_in == 0)) return true;
    }
}

static bool add_rows(limn_buf *out, z_stream *z, const limn_image *image, uint8_t *room) {
    size_t px = (size_t)image->channels, n = (size_t)image->width * px;
    uint8_t *row = room + px, *above = row + n + px;
    uint8_t *filtered[2] = {above + n, above + n + n + 1}, *piece = filtered[1] + n + 1;
    z->next_out = piece;
    z->avail_out = CHUNK_BYTES;
    for (int y = 0; y < image->height; y++) {
        memcpy(row, image->data + (size_t)y * n, n);
        filter_best(filtered, row, above, n, px);
        z->next_in = filtered[0];
        z->avail_in = (uInt)(n + 1);
        if (!deflate_rows(out, z, piece, Z_NO_FLUSH)) return false;
        uint8_t *swap = above; /* both have zeros before them */
        above = row;
        row = swap;
    }
    return deflate_rows(out, z, piece, Z_FINISH);
}

limn_status limn_png_encode(limn_buf *out, const limn_image *image, const limn_file_options *o,
                            limn_err *err) {
    static const uint8_t signature[8] = "\x89PNG\r\n\x1a\n";
    size_t px = (size_t)image->channels, n = (size_t)image->width * px;
    uint8_t head[13] = {[8] = 8, [9] = image->channels == 1 ? 0 : image->channels == 3 ? 2 : 6};
    z_stream z = {0};
    uint8_t *room = limn_mem_calloc(1, 2 * (px + n) + 2 * (n + 1) + CHUNK_BYTES);
    if (!room ||
        deflateInit2(&z, o->compression, Z_DEFLATED, MAX_WBITS, MEMORY_LEVEL, Z_FILTERED) != Z_OK) {
        limn_mem_free(room);
        return limn_fail(err, LIMN_E_NOMEM, "no memory to write the picture");
    }
    put_be32(head, (uint32_t)image->width);
    put_be32(head + 4, (uint32_t)image->height);
    limn_buf_add(out, signature, sizeof signature);
    add_chunk(out, "IHDR", head, sizeof head);
    bool ok = add_rows(out, &z, image, room);
    add_chunk(out, "IEND", NULL, 0);
    deflateEnd(&z);
    limn_mem_free(room);
    return ok ? LIMN_OK : limn_fail(err, LIMN_E_INTERNAL, "the picture cannot be compressed");
}
