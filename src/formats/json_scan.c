/* SPDX-License-Identifier: MIT */
/* Forward-only JSON scanner; see json_scan.h. */
#include "formats/json_scan.h"

void limn_json_scan_init(limn_json_scan *s, const char *text, size_t size) {
    *s = (limn_json_scan){.begin = text, .at = text, .end = text + size};
}

bool limn_json_scan_fail(limn_json_scan *s, const char *expected) {
    if (!s->wrong) s->wrong = expected;
    return false;
}

char limn_json_scan_peek(limn_json_scan *s) {
    if (s->wrong) return 0;
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\n' || *s->at == '\r' || *s->at == '\t'))
        s->at++;
    return s->at < s->end ? *s->at : 0;
}

bool limn_json_scan_skip(limn_json_scan *s, char c) {
    if (limn_json_scan_peek(s) != c) return false;
    s->at++;
    return true;
}

bool limn_json_scan_take(limn_json_scan *s, char c) {
    if (limn_json_scan_skip(s, c)) return true;
    switch (c) {
    case '{': return limn_json_scan_fail(s, "'{'");
    case '}': return limn_json_scan_fail(s, "',' or '}'");
    case '[': return limn_json_scan_fail(s, "'['");
    case ']': return limn_json_scan_fail(s, "',' or ']'");
    case ':': return limn_json_scan_fail(s, "':'");
    default: return limn_json_scan_fail(s, "','");
    }
}

/* Four hex digits at s->at. */
static bool hex4(limn_json_scan *s, uint32_t *out) {
    if (s->end - s->at < 4) return limn_json_scan_fail(s, "four hex digits");
    uint32_t v = 0;
    for (int i = 0; i < 4; i++) {
        char c = s->at[i];
        uint32_t d = c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
                     : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a' + 10)
                     : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A' + 10)
                                            : 16;
        if (d == 16) return limn_json_scan_fail(s, "four hex digits");
        v = v << 4 | d;
    }
    s->at += 4;
    *out = v;
    return true;
}

static void utf8_add(limn_buf *out, uint32_t c) {
    if (c < 0x80) {
        limn_buf_addc(out, (char)c);
    } else if (c < 0x800) {
        limn_buf_addc(out, (char)(0xc0 | c >> 6));
        limn_buf_addc(out, (char)(0x80 | (c & 63)));
    } else if (c < 0x10000) {
        limn_buf_addc(out, (char)(0xe0 | c >> 12));
        limn_buf_addc(out, (char)(0x80 | (c >> 6 & 63)));
        limn_buf_addc(out, (char)(0x80 | (c & 63)));
    } else {
        limn_buf_addc(out, (char)(0xf0 | c >> 18));
        limn_buf_addc(out, (char)(0x80 | (c >> 12 & 63)));
        limn_buf_addc(out, (char)(0x80 | (c >> 6 & 63)));
        limn_buf_addc(out, (char)(0x80 | (c & 63)));
    }
}

/* After "\u": one code point, from one or two escapes. */
static bool unicode_escape(limn_json_scan *s, limn_buf *out) {
    uint32_t c, low;
    if (!hex4(s, &c)) return false;
    if (c == 0) return limn_json_scan_fail(s, "a string without NUL");
    if (c >= 0xdc00 && c < 0xe000) return limn_json_scan_fail(s, "a high surrogate first");
    if (c >= 0xd800 && c < 0xdc00) {
        if (s->end - s->at < 2 || s->at[0] != '\\' || s->at[1] != 'u')
            return limn_json_scan_fail(s, "a low surrogate");
        s->at += 2;
        if (!hex4(s, &low)) return false;
        if (low < 0xdc00 || low >= 0xe000) return limn_json_scan_fail(s, "a low surrogate");
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    }
    utf8_add(out, c);
    return true;
}

static bool escape(limn_json_scan *s, limn_buf *out) {
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (s->at == s->end) return limn_json_scan_fail(s, "an escape");
    char c = *s->at++;
    if (c == 'u') return unicode_escape(s, out);
    for (size_t i = 0; from[i]; i++)
        if (from[i] == c) {
            limn_buf_addc(out, to[i]);
            return true;
        }
    return limn_json_scan_fail(s, "a known escape");
}

bool limn_json_scan_string(limn_json_scan *s, limn_buf *out) {
    limn_buf_clear(out);
    if (limn_json_scan_peek(s) != '"') return limn_json_scan_fail(s, "a string");
    s->at++;
    for (;;) {
        const char *run = s->at;
        while (s->at < s->end && *s->at != '"' && *s->at != '\\' && (unsigned char)*s->at >= 0x20)
            s->at++;
        limn_buf_add(out, run, (size_t)(s->at - run));
        if (s->at == s->end) return limn_json_scan_fail(s, "the end of a string");
        char c = *s->at;
        if ((unsigned char)c < 0x20) return limn_json_scan_fail(s, "no control character");
        s->at++;
        if (c == '"') break;
        if (!escape(s, out)) return false;
    }
    return !out->failed || limn_json_scan_fail(s, "a shorter string (or more memory)");
}

bool limn_json_scan_count(limn_json_scan *s, int64_t *out) {
    char c = limn_json_scan_peek(s);
    if (c < '0' || c > '9') return limn_json_scan_fail(s, "a non-negative integer");
    int64_t v = 0;
    const char *first = s->at;
    while (s->at < s->end && *s->at >= '0' && *s->at <= '9') {
        if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, *s->at - '0', &v))
            return limn_json_scan_fail(s, "a smaller integer");
        s->at++;
    }
    if (*first == '0' && s->at - first > 1) return limn_json_scan_fail(s, "no leading zero");
    *out = v;
    return true;
}
