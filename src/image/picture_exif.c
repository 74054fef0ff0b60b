/* SPDX-License-Identifier: MIT */
/*
 * EXIF UserComment, written and read; see picture_text.h.
 *
 * Layout (EXIF 2.32, 4.6): TIFF header, IFD0 with the pointer 0x8769 to the EXIF IFD, in which tag
 * 0x9286 is UNDEFINED bytes: an 8-byte code ("UNICODE\0", "ASCII\0\0\0" or zeros) and the text.
 * UNICODE is UTF-16; its byte order is not settled by the standard. We write big-endian, as
 * A1111 (piexif) does, inside a big-endian TIFF, and when reading guess by where the zeros are.
 */
#include "image/picture_text.h"

#include <string.h>

enum { TAG_EXIF_IFD = 0x8769, TAG_COMMENT = 0x9286, CODE_SIZE = 8 };

/* ---- writing ---- */

static void add_be16(limn_buf *b, unsigned v) {
    limn_buf_add(b, (uint8_t[2]){(uint8_t)(v >> 8), (uint8_t)v}, 2);
}

static void add_be32(limn_buf *b, uint32_t v) {
    add_be16(b, v >> 16);
    add_be16(b, v & 0xffff);
}

/* The code point at s, which is valid UTF-8; its length goes to *len. */
static uint32_t code_point(const uint8_t *s, size_t *len) {
    *len = s[0] < 0x80 ? 1 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
    uint32_t c = *len == 1 ? s[0] : s[0] & (0xffu >> (*len + 1));
    for (size_t i = 1; i < *len && s[i]; i++) c = c << 6 | (s[i] & 0x3f);
    return c;
}

static void add_utf16(limn_buf *out, const char *text) {
    size_t len;
    for (const uint8_t *s = (const uint8_t *)text; *s; s += len) {
        uint32_t c = code_point(s, &len);
        if (c >= 0x10000) {
            add_be16(out, 0xd800 + ((c - 0x10000) >> 10));
            add_be16(out, 0xdc00 + ((c - 0x10000) & 0x3ff));
        } else {
            add_be16(out, c);
        }
    }
}

/* One IFD entry: tag, type (4 LONG, 7 UNDEFINED), count, value or offset. */
static void add_entry(limn_buf *out, unsigned tag, unsigned type, uint32_t count, uint32_t value) {
    add_be16(out, tag);
    add_be16(out, type);
    add_be32(out, count);
    add_be32(out, value);
}

void limn_exif_add_comment(limn_buf *out, const char *text) {
    limn_buf utf16;
    limn_buf_init(&utf16, 4 * (size_t)LIMN_PICTURE_TEXT_MAX);
    add_utf16(&utf16, text);
    limn_buf_add(out, "MM\0\x2a", 4);
    add_be32(out, 8);
    add_be16(out, 1); /* IFD0 at 8: one entry, then the end of the chain; 18 bytes */
    add_entry(out, TAG_EXIF_IFD, 4, 1, 26);
    add_be32(out, 0);
    add_be16(out, 1); /* EXIF IFD at 26 */
    add_entry(out, TAG_COMMENT, 7, (uint32_t)(CODE_SIZE + utf16.len), 44);
    add_be32(out, 0);
    limn_buf_add(out, "UNICODE\0", CODE_SIZE);
    limn_buf_add(out, utf16.data, utf16.len);
    out->failed = out->failed || utf16.failed;
    limn_buf_deinit(&utf16);
}

/* ---- reading ---- */

typedef struct tiff {
    const uint8_t *data;
    size_t size;
    bool big;
} tiff;

static uint32_t get16(const tiff *t, size_t at) {
    const uint8_t *p = t->data + at;
    return t->big ? (uint32_t)p[0] << 8 | p[1] : (uint32_t)p[1] << 8 | p[0];
}

static uint32_t get32(const tiff *t, size_t at) {
    return t->big ? get16(t, at) << 16 | get16(t, at + 2) : get16(t, at + 2) << 16 | get16(t, at);
}

/* Position of the entry `tag` in the IFD at `at`; 0 when it is not there or the IFD is cut off. */
static size_t find_entry(const tiff *t, size_t at, unsigned tag) {
    if (at < 8 || at > t->size - 2) return 0;
    uint32_t n = get16(t, at);
    for (size_t i = 0; i < n; i++) {
        size_t e = at + 2 + i * 12;
        if (e + 12 > t->size) return 0;
        if (get16(t, e) == tag) return e;
    }
    return 0;
}

static void add_utf8(limn_buf *out, uint32_t c) {
    if (c < 0x80) {
        limn_buf_addc(out, (char)c);
    } else if (c < 0x800) {
        limn_buf_addc(out, (char)(0xc0 | c >> 6));
        limn_buf_addc(out, (char)(0x80 | (c & 0x3f)));
    } else if (c < 0x10000) {
        limn_buf_addc(out, (char)(0xe0 | c >> 12));
        limn_buf_addc(out, (char)(0x80 | (c >> 6 & 0x3f)));
        limn_buf_addc(out, (char)(0x80 | (c & 0x3f)));
    } else {
        limn_buf_addc(out, (char)(0xf0 | c >> 18));
        limn_buf_addc(out, (char)(0x80 | (c >> 12 & 0x3f)));
        limn_buf_addc(out, (char)(0x80 | (c >> 6 & 0x3f)));
        limn_buf_addc(out, (char)(0x80 | (c & 0x3f)));
    }
}

/* Byte order by where the zero bytes of mostly Latin text are; ties go to the file's order. */
static bool utf16_is_big(const uint8_t *s, size_t n, bool file_is_big) {
    size_t even = 0, odd = 0;
    for (size_t i = 0; i + 1 < n; i += 2) {
        even += s[i] == 0;
        odd += s[i + 1] == 0;
    }
    return even != odd ? even > odd : file_is_big;
}

static void utf16_to_utf8(limn_buf *out, const uint8_t *s, size_t n, bool file_is_big) {
    tiff t = {s, n, utf16_is_big(s, n, file_is_big)};
    for (size_t i = 0; i + 1 < n; i += 2) {
        uint32_t c = get16(&t, i);
        if (c == 0) break;
        if (c >= 0xd800 && c < 0xdc00 && i + 3 < n) {
            uint32_t low = get16(&t, i + 2);
            if (low >= 0xdc00 && low < 0xe000) {
                c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
                i += 2;
            }
        }
        if (c >= 0xd800 && c < 0xe000) c = 0xfffd; /* half a pair */
        if (c == 0xfeff) continue;
        add_utf8(out, c);
    }
}

limn_status limn_exif_get_comment(char **out, const uint8_t *data, size_t size, limn_err *err) {
    *out = NULL;
    if (size >= 6 && memcmp(data, "Exif\0\0", 6) == 0) data += 6, size -= 6;
    if (size < 8 || (memcmp(data, "MM\0\x2a", 4) != 0 && memcmp(data, "II\x2a\0", 4) != 0))
        return limn_fail(err, LIMN_E_NOT_FOUND, "the picture has no recipe inside");
    tiff t = {data, size, data[0] == 'M'};
    size_t pointer = find_entry(&t, get32(&t, 4), TAG_EXIF_IFD);
    size_t entry = pointer ? find_entry(&t, get32(&t, pointer + 8), TAG_COMMENT) : 0;
    if (!entry) return limn_fail(err, LIMN_E_NOT_FOUND, "the picture has no recipe inside");
    size_t n = get32(&t, entry + 4), at = get32(&t, entry + 8);
    if (n <= CODE_SIZE || at > size || n > size - at)
        return limn_fail(err, LIMN_E_FORMAT, "the picture's EXIF comment is cut off");
    const uint8_t *s = data + at + CODE_SIZE;
    n -= CODE_SIZE;
    limn_buf b;
    limn_buf_init(&b, 2 * (size_t)LIMN_PICTURE_TEXT_MAX);
    if (memcmp(data + at, "UNICODE", 7) == 0)
        utf16_to_utf8(&b, s, n, t.big);
    else
        limn_buf_add(&b, s, strnlen((const char *)s, n));
    *out = limn_buf_take(&b);
    bool empty = !b.failed && !*out;
    limn_buf_deinit(&b);
    if (*out) return LIMN_OK;
    return empty ? limn_fail(err, LIMN_E_NOT_FOUND, "the picture has no recipe inside")
                 : limn_fail(err, LIMN_E_NOMEM, "no memory for the recipe");
}
