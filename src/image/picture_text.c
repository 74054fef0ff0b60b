/* SPDX-License-Identifier: MIT */
/* Text in PNG, JPEG and WebP containers; see picture_text.h. */
#include "image/picture_text.h"

#include <string.h>
#include <zlib.h>

static const uint8_t png_magic[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
/* Keys under which programs keep recipes, best first. */
static const char *const png_keys[] = {"parameters", "invokeai_metadata", "prompt", "Comment",
                                       "Description"};
enum { PNG_KEYS = sizeof png_keys / sizeof png_keys[0] };

limn_container limn_container_of(const uint8_t *d, size_t size) {
    if (size >= 8 && memcmp(d, png_magic, 8) == 0) return LIMN_CONTAINER_PNG;
    if (size >= 3 && d[0] == 0xff && d[1] == 0xd8 && d[2] == 0xff) return LIMN_CONTAINER_JPEG;
    if (size >= 12 && memcmp(d, "RIFF", 4) == 0 && memcmp(d + 8, "WEBP", 4) == 0)
        return LIMN_CONTAINER_WEBP;
    return LIMN_CONTAINER_NONE;
}

static uint32_t be32(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}
static uint32_t le32(const uint8_t *p) {
    return (uint32_t)p[3] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[1] << 8 | p[0];
}
static void put_be32(uint8_t *p, uint32_t v) {
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(v >> (24 - 8 * i));
}
static void put_le32(uint8_t *p, uint32_t v) {
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(v >> (8 * i));
}

static limn_status broken(limn_err *err, const char *kind) {
    return limn_fail(err, LIMN_E_FORMAT, "the %s file is damaged or cut off", kind);
}

/* ---- PNG (PNG specification 1.2, 4.2.3) ---- */

/* UTF-8 that fits Latin-1 goes to a tEXt chunk as Latin-1, which every reader knows. */
static bool add_latin1(limn_buf *out, const char *text) {
    for (const uint8_t *s = (const uint8_t *)text; *s; s++) {
        if (*s < 0x80) {
            limn_buf_addc(out, (char)*s);
        } else if ((*s == 0xc2 || *s == 0xc3) && (s[1] & 0xc0) == 0x80) {
            limn_buf_addc(out, (char)((*s & 3) << 6 | (s[1] & 0x3f)));
            s++;
        } else {
            return false;
        }
    }
    return true;
}

static void png_add_chunk(limn_buf *out, const char *type, const limn_buf *body) {
    uint8_t word[4];
    uLong crc = crc32(0, (const Bytef *)type, 4);
    crc = crc32(crc, (const Bytef *)limn_buf_text(body), (uInt)body->len);
    put_be32(word, (uint32_t)body->len);
    limn_buf_add(out, word, 4);
    limn_buf_add(out, type, 4);
    limn_buf_add(out, body->data, body->len);
    put_be32(word, (uint32_t)crc);
    limn_buf_add(out, word, 4);
}

static limn_status png_add(limn_buf *out, const uint8_t *d, size_t size, const char *text,
                           limn_err *err) {
    static const char key[] = "parameters";
    const size_t head = 8 + 25; /* signature and IHDR, which comes first */
    limn_buf body;
    if (size < head || be32(d + 8) != 13) return broken(err, "PNG");
    limn_buf_init(&body, LIMN_PICTURE_TEXT_MAX + 64);
    limn_buf_add(&body, key, sizeof key);
    bool latin = add_latin1(&body, text);
    if (!latin) {
        limn_buf_clear(&body);
        limn_buf_add(&body, key, sizeof key);
        limn_buf_add(&body, "\0\0\0\0", 4); /* not compressed, no language, no translated key */
        limn_buf_adds(&body, text);
    }
    limn_buf_add(out, d, head);
    png_add_chunk(out, latin ? "tEXt" : "iTXt", &body);
    limn_buf_add(out, d + head, size - head);
    out->failed = out->failed || body.failed;
    limn_buf_deinit(&body);
    return LIMN_OK;
}

static bool inflate_text(limn_buf *out, const uint8_t *s, size_t n) {
    z_stream z = {.next_in = (Bytef *)(uintptr_t)s, .avail_in = (uInt)n};
    char block[4096];
    int st;
    if (inflateInit(&z) != Z_OK) return false;
    do {
        z.next_out = (Bytef *)block;
        z.avail_out = sizeof block;
        st = inflate(&z, Z_NO_FLUSH);
        if (st == Z_OK || st == Z_STREAM_END) limn_buf_add(out, block, sizeof block - z.avail_out);
    } while (st == Z_OK && !out->failed && (z.avail_in || z.avail_out == 0));
    inflateEnd(&z);
    return st == Z_STREAM_END && !out->failed;
}

static void add_from_latin1(limn_buf *out, const uint8_t *s, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (s[i] >= 0x80) limn_buf_addc(out, (char)(0xc0 | s[i] >> 6));
        limn_buf_addc(out, (char)(s[i] < 0x80 ? s[i] : 0x80 | (s[i] & 0x3f)));
    }
}

/* Some programs write UTF-8 where the standard wants Latin-1: what reads as UTF-8 is UTF-8. */
static bool looks_like_utf8(const uint8_t *s, size_t n) {
    bool wide = false;
    for (size_t i = 0; i < n; i++) {
        if (s[i] < 0x80) continue;
        size_t more = s[i] >= 0xf0 ? 3 : s[i] >= 0xe0 ? 2 : 1;
        if (s[i] < 0xc2 || s[i] > 0xf4 || i + more >= n) return false;
        for (size_t k = 1; k <= more; k++)
            if ((s[i + k] & 0xc0) != 0x80) return false;
        i += more;
        wide = true;
    }
    return wide;
}

/* The text of a tEXt, zTXt or iTXt body behind its key. */
static bool png_chunk_text(limn_buf *out, const char *type, const uint8_t *s, size_t n) {
    limn_buf plain;
    bool ok = true, international = type[0] == 'i', packed = type[0] == 'z';
    limn_buf_init(&plain, LIMN_PICTURE_TEXT_MAX);
    if (international) {
        if (n < 2) return false;
        packed = s[0] == 1;
        s += 2, n -= 2;
        for (int skip = 0; skip < 2; skip++) { /* language, translated key */
            size_t len = strnlen((const char *)s, n);
            if (len == n) return false;
            s += len + 1, n -= len + 1;
        }
    } else if (packed) {
        if (n < 1) return false;
        s++, n--;
    }
    if (packed) {
        ok = inflate_text(&plain, s, n);
        s = (const uint8_t *)limn_buf_text(&plain);
        n = plain.len;
    }
    if (ok && (international || looks_like_utf8(s, n)))
        limn_buf_add(out, s, n);
    else if (ok)
        add_from_latin1(out, s, n);
    limn_buf_deinit(&plain);
    return ok;
}

static limn_status png_get(limn_buf *out, const uint8_t *d, size_t size, limn_err *err) {
    int best = PNG_KEYS;
    for (size_t at = 8; at + 12 <= size;) {
        size_t n = be32(d + at);
        const char *type = (const char *)d + at + 4;
        const uint8_t *body = d + at + 8;
        if (n > size - at - 12) return broken(err, "PNG");
        if (memcmp(type, "IEND", 4) == 0) break;
        bool is_text = memcmp(type + 1, "EXt", 3) == 0 || memcmp(type + 1, "TXt", 3) == 0;
        size_t key = is_text ? strnlen((const char *)body, n) : n;
        for (int i = 0; key < n && i < best; i++) {
            if (strlen(png_keys[i]) != key || memcmp(png_keys[i], body, key) != 0) continue;
            limn_buf_clear(out);
            if (!png_chunk_text(out, type, body + key + 1, n - key - 1)) return broken(err, "PNG");
            best = i;
        }
        at += n + 12;
    }
    return LIMN_OK;
}

/* ---- JPEG (ITU T.81 B.1.1.4) ---- */

static limn_status jpeg_add(limn_buf *out, const uint8_t *d, size_t size, const char *text,
                            limn_err *err) {
    limn_buf exif;
    limn_buf_init(&exif, 4 * (size_t)LIMN_PICTURE_TEXT_MAX + 64);
    limn_exif_add_comment(&exif, text);
    size_t n = exif.len + 8; /* length word, "Exif\0\0" */
    bool fits = n <= 0xffff;
    if (fits) {
        limn_buf_add(out, d, 2);
        limn_buf_add(out, (uint8_t[4]){0xff, 0xe1, (uint8_t)(n >> 8), (uint8_t)n}, 4);
        limn_buf_add(out, "Exif\0\0", 6);
        limn_buf_add(out, exif.data, exif.len);
        limn_buf_add(out, d + 2, size - 2);
    }
    out->failed = out->failed || exif.failed;
    limn_buf_deinit(&exif);
    if (fits) return LIMN_OK;
    return limn_fail(err, LIMN_E_LIMIT,
                     "the recipe has %zu bytes and a JPEG holds 64 KB: save as PNG or WebP, or "
                     "without metadata",
                     strlen(text));
}

/* The next marker segment before the image data; false at its end. */
static bool jpeg_segment(const uint8_t *d, size_t size, size_t *at, int *marker, size_t *n) {
    while (*at + 4 <= size && d[*at] == 0xff && d[*at + 1] == 0xff) ++*at; /* fill bytes */
    if (*at + 4 > size || d[*at] != 0xff) return false;
    *marker = d[*at + 1];
    *n = (size_t)d[*at + 2] << 8 | d[*at + 3];
    return *marker != 0xda && *marker != 0xd9 && *n >= 2 && *n <= size - *at - 2;
}

static limn_status jpeg_get(limn_buf *out, const uint8_t *d, size_t size, limn_err *err) {
    size_t at = 2, n;
    int marker;
    while (jpeg_segment(d, size, &at, &marker, &n)) {
        const uint8_t *body = d + at + 4;
        if (marker == 0xe1 && n >= 8 && memcmp(body, "Exif\0\0", 6) == 0) {
            char *text;
            limn_status st = limn_exif_get_comment(&text, body, n - 2, err);
            if (st == LIMN_OK) {
                limn_buf_adds(out, text);
                limn_mem_free(text);
                return LIMN_OK;
            }
            if (st != LIMN_E_NOT_FOUND) return st;
        }
        if (marker == 0xfe && out->len == 0)
            limn_buf_add(out, body, strnlen((const char *)body, n - 2));
        at += 2 + n;
    }
    return LIMN_OK;
}

/* ---- WebP (RIFF container, developers.google.com/speed/webp/docs/riff_container) ---- */

static void riff_add_chunk(limn_buf *out, const char *type, const uint8_t *body, size_t n) {
    uint8_t word[4];
    put_le32(word, (uint32_t)n);
    limn_buf_add(out, type, 4);
    limn_buf_add(out, word, 4);
    limn_buf_add(out, body, n);
    if (n & 1) limn_buf_addc(out, 0);
}

/* Width, height and alpha of a file with a single VP8 or VP8L chunk, for the header it needs. */
static bool webp_canvas(const uint8_t *d, size_t size, uint32_t *w, uint32_t *h, bool *alpha) {
    if (size >= 30 && memcmp(d + 12, "VP8 ", 4) == 0) {
        *w = (le32(d + 26) & 0x3fff);
        *h = (le32(d + 26) >> 16 & 0x3fff);
        *alpha = false;
        return true;
    }
    if (size >= 25 && memcmp(d + 12, "VP8L", 4) == 0 && d[20] == 0x2f) {
        uint32_t bits = le32(d + 21);
        *w = (bits & 0x3fff) + 1;
        *h = (bits >> 14 & 0x3fff) + 1;
        *alpha = bits >> 28 & 1;
        return true;
    }
    return false;
}

static limn_status webp_add(limn_buf *out, const uint8_t *d, size_t size, const char *text,
                            limn_err *err) {
    limn_buf body, exif;
    limn_buf_init(&body, out->limit);
    limn_buf_init(&exif, 4 * (size_t)LIMN_PICTURE_TEXT_MAX + 64);
    limn_exif_add_comment(&exif, text);
    limn_status st = LIMN_OK;
    if (size >= 30 && memcmp(d + 12, "VP8X", 4) == 0) {
        /* the encoder may have put EXIF of its own there (resolution): ours replaces it */
        for (size_t at = 12, n; at + 8 <= size; at += 8 + n + (n & 1)) {
            n = le32(d + at + 4);
            LIMN_CHECK(err, n <= size - at - 8, LIMN_E_FORMAT, "the WebP file is cut off");
            if (memcmp(d + at, "EXIF", 4) != 0)
                riff_add_chunk(&body, (const char *)d + at, d + at + 8, n);
        }
        if (body.data) body.data[8] |= 0x08; /* flag: has EXIF */
    } else {
        uint32_t w, h;
        bool alpha;
        uint8_t head[10] = {0};
        LIMN_CHECK(err, webp_canvas(d, size, &w, &h, &alpha), LIMN_E_FORMAT,
                   "the WebP file is damaged or cut off");
        put_le32(head, 0x08 | (alpha ? 0x10 : 0));
        put_le32(head + 4, w - 1); /* 24 bits; the fourth byte is written over */
        head[7] = (uint8_t)(h - 1);
        head[8] = (uint8_t)((h - 1) >> 8);
        head[9] = (uint8_t)((h - 1) >> 16);
        riff_add_chunk(&body, "VP8X", head, sizeof head);
        limn_buf_add(&body, d + 12, size - 12);
    }
    riff_add_chunk(&body, "EXIF", (const uint8_t *)limn_buf_text(&exif), exif.len);
    uint8_t word[4];
    put_le32(word, (uint32_t)(body.len + 4));
    limn_buf_add(out, "RIFF", 4);
    limn_buf_add(out, word, 4);
    limn_buf_add(out, "WEBP", 4);
    limn_buf_add(out, body.data, body.len);
    out->failed = out->failed || body.failed || exif.failed;
out:
    limn_buf_deinit(&body);
    limn_buf_deinit(&exif);
    return st;
}

static limn_status webp_get(limn_buf *out, const uint8_t *d, size_t size, limn_err *err) {
    for (size_t at = 12; at + 8 <= size;) {
        size_t n = le32(d + at + 4);
        if (n > size - at - 8) return broken(err, "WebP");
        if (memcmp(d + at, "EXIF", 4) == 0) {
            char *text;
            limn_status st = limn_exif_get_comment(&text, d + at + 8, n, err);
            if (st != LIMN_OK) return st;
            limn_buf_adds(out, text);
            limn_mem_free(text);
            return LIMN_OK;
        }
        at += 8 + n + (n & 1);
    }
    return LIMN_OK;
}

/* ---- all ---- */

limn_status limn_picture_text_add(limn_buf *out, const uint8_t *data, size_t size, const char *text,
                                  limn_err *err) {
    limn_status st;
    if (strlen(text) > LIMN_PICTURE_TEXT_MAX)
        return limn_fail(err, LIMN_E_LIMIT, "a recipe of %zu bytes, at most %d fit", strlen(text),
                         LIMN_PICTURE_TEXT_MAX);
    switch (limn_container_of(data, size)) {
    case LIMN_CONTAINER_PNG: st = png_add(out, data, size, text, err); break;
    case LIMN_CONTAINER_JPEG: st = jpeg_add(out, data, size, text, err); break;
    case LIMN_CONTAINER_WEBP: st = webp_add(out, data, size, text, err); break;
    default: return limn_fail(err, LIMN_E_FORMAT, "not a PNG, JPEG or WebP file");
    }
    if (st == LIMN_OK && out->failed)
        st = limn_fail(err, LIMN_E_NOMEM, "no memory to write the picture");
    return st;
}

limn_status limn_picture_text_get(char **out, const uint8_t *data, size_t size, limn_err *err) {
    limn_buf b;
    limn_status st = LIMN_OK;
    *out = NULL;
    limn_buf_init(&b, 2 * (size_t)LIMN_PICTURE_TEXT_MAX);
    switch (limn_container_of(data, size)) {
    case LIMN_CONTAINER_PNG: st = png_get(&b, data, size, err); break;
    case LIMN_CONTAINER_JPEG: st = jpeg_get(&b, data, size, err); break;
    case LIMN_CONTAINER_WEBP: st = webp_get(&b, data, size, err); break;
    case LIMN_CONTAINER_NONE: break;
    }
    if (st == LIMN_OK && b.failed)
        st = limn_fail(err, LIMN_E_NOMEM, "no memory for the picture's recipe");
    if (st == LIMN_OK && b.len == 0)
        st = limn_fail(err, LIMN_E_NOT_FOUND, "the picture has no recipe inside");
    if (st == LIMN_OK) *out = limn_buf_take(&b);
    limn_buf_deinit(&b);
    return st;
}
