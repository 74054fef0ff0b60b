/* SPDX-License-Identifier: MIT */
/*
 * Pictures that come in: what they are is read from their first bytes before any decoder sees them,
 * and bounded. Sources: PNG (RFC 2083 section 4.1), JPEG (ITU T.81 annex B), WebP container.
 */
#include <ctype.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "server/api/api.h"

static uint32_t be32(const unsigned char *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static uint32_t le24(const unsigned char *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16;
}

/* ---- heads ---- */

/* An animated PNG has acTL before the first IDAT. */
static bool read_png(limn_picture_head *h, const unsigned char *p, size_t n) {
    if (n < 33 || memcmp(p + 12, "IHDR", 4) != 0 || be32(p + 8) != 13) return false;
    uint32_t w = be32(p + 16), height = be32(p + 20);
    if (w > INT32_MAX || height > INT32_MAX) return false;
    for (size_t at = 33; n - at >= 12;) {
        uint32_t len = be32(p + at);
        if (memcmp(p + at + 4, "acTL", 4) == 0) return false;
        if (memcmp(p + at + 4, "IDAT", 4) == 0) break;
        if (len > n - at - 12) return false;
        at += 12 + (size_t)len;
    }
    *h = (limn_picture_head){"image/png", (int)w, (int)height};
    return true;
}

static bool read_jpeg(limn_picture_head *h, const unsigned char *p, size_t n) {
    for (size_t at = 2; at + 4 <= n;) {
        if (p[at] != 0xff) return false;
        unsigned marker = p[at + 1];
        if (marker == 0xff) { /* fill */
            at++;
            continue;
        }
        if (marker == 0x01 || (marker >= 0xd0 && marker <= 0xd7)) { /* no length */
            at += 2;
            continue;
        }
        size_t len = (size_t)p[at + 2] << 8 | p[at + 3];
        if (len < 2 || len > n - at - 2) return false;
        bool frame =
            marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc;
        if (frame) {
            if (len < 8) return false;
            *h = (limn_picture_head){"image/jpeg", p[at + 7] << 8 | p[at + 8],
                                     p[at + 5] << 8 | p[at + 6]};
            return true;
        }
        if (marker == 0xda || marker == 0xd9) return false;
        at += 2 + len;
    }
    return false;
}

static bool read_webp(limn_picture_head *h, const unsigned char *p, size_t n) {
    if (n < 30) return false;
    int w = 0, height = 0;
    if (memcmp(p + 12, "VP8X", 4) == 0) {
        if (p[20] & 0x02) return false; /* animated */
        w = (int)le24(p + 24) + 1;
        height = (int)le24(p + 27) + 1;
    } else if (memcmp(p + 12, "VP8L", 4) == 0) {
        if (p[20] != 0x2f) return false;
        uint32_t bits =
            (uint32_t)p[21] | (uint32_t)p[22] << 8 | (uint32_t)p[23] << 16 | (uint32_t)p[24] << 24;
        w = (int)(bits & 0x3fff) + 1;
        height = (int)(bits >> 14 & 0x3fff) + 1;
    } else if (memcmp(p + 12, "VP8 ", 4) == 0) {
        if (p[23] != 0x9d || p[24] != 0x01 || p[25] != 0x2a) return false;
        w = (p[26] | p[27] << 8) & 0x3fff;
        height = (p[28] | p[29] << 8) & 0x3fff;
    } else {
        return false;
    }
    *h = (limn_picture_head){"image/webp", w, height};
    return true;
}

limn_status limn_picture_sniff(limn_picture_head *out, const void *data, size_t size,
                               limn_err *err) {
    const unsigned char *p = data;
    bool known = false;
    *out = (limn_picture_head){0};
    if (size >= 8 && memcmp(p, "\x89PNG\r\n\x1a\n", 8) == 0)
        known = read_png(out, p, size);
    else if (size >= 4 && p[0] == 0xff && p[1] == 0xd8)
        known = read_jpeg(out, p, size);
    else if (size >= 12 && memcmp(p, "RIFF", 4) == 0 && memcmp(p + 8, "WEBP", 4) == 0)
        known = read_webp(out, p, size);
    if (!known || out->width < 1 || out->height < 1)
        return limn_fail(err, LIMN_E_FORMAT, "not a PNG, JPEG or WebP picture of one frame");
    if (out->width > LIMN_LIMIT_SIDE || out->height > LIMN_LIMIT_SIDE ||
        (int64_t)out->width * out->height > LIMN_LIMIT_PIXELS)
        return limn_fail(err, LIMN_E_LIMIT, "the picture has more than %d pixels, or a side of %d",
                         LIMN_LIMIT_PIXELS, LIMN_LIMIT_SIDE);
    return LIMN_OK;
}

/* ---- base64 ---- */

limn_status limn_base64_read(void **out, size_t *size, const char *text, size_t len,
                             limn_err *err) {
    size_t room = len / 4 * 3 + 3;
    unsigned char *data = limn_mem_alloc(room + 1);
    const char *end = NULL;
    *out = NULL;
    *size = 0;
    if (!data) return limn_fail(err, LIMN_E_NOMEM, "no memory for the picture");
    while (len && (text[len - 1] == '=' || isspace((unsigned char)text[len - 1]))) len--;
    bool ok = sodium_base642bin(data, room, text, len, " \r\n\t", size, &end,
                                sodium_base64_VARIANT_ORIGINAL_NO_PADDING) == 0 &&
              end == text + len && *size > 0;
    if (!ok) {
        limn_mem_free(data);
        *size = 0;
        return limn_fail(err, LIMN_E_FORMAT, "not valid base64");
    }
    *out = data;
    return LIMN_OK;
}

char *limn_base64_write(const void *data, size_t size) {
    size_t room = sodium_base64_ENCODED_LEN(size, sodium_base64_VARIANT_ORIGINAL);
    char *text = limn_mem_alloc(room);
    if (text) sodium_bin2base64(text, room, data, size, sodium_base64_VARIANT_ORIGINAL);
    return text;
}

/* ---- references ---- */

limn_status limn_picture_keep(limn_http_req *rq, limn_artifact *out, const void *data, size_t size,
                              limn_err *err) {
    limn_picture_head head;
    *out = (limn_artifact){0};
    if (size > LIMN_LIMIT_UPLOAD_BYTES)
        return limn_fail(err, LIMN_E_LIMIT, "the picture has more than %d bytes",
                         LIMN_LIMIT_UPLOAD_BYTES);
    limn_status st = limn_picture_sniff(&head, data, size, err);
    if (st != LIMN_OK) return st;
    return limn_queue_upload(rq->server->queue, rq->who.owner, data, size, out, err);
}
