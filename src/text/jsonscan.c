/* SPDX-License-Identifier: MIT */
/* Pull reader for JSON; see jsonscan.h. */
#include "text/jsonscan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "text/unicode.h"

void limn_jsonscan_init(limn_jsonscan *j, const char *s, size_t n) {
    *j = (limn_jsonscan){.s = s, .n = n};
    limn_buf_init(&j->key, (size_t)64 << 20);
}

void limn_jsonscan_deinit(limn_jsonscan *j) {
    limn_buf_deinit(&j->key);
}

static limn_status damaged(const limn_jsonscan *j, limn_err *err, const char *what) {
    return limn_fail(err, LIMN_E_FORMAT, "JSON is damaged at byte %zu: %s", j->at, what);
}

char limn_jsonscan_peek(limn_jsonscan *j) {
    while (j->at < j->n && (j->s[j->at] == ' ' || j->s[j->at] == '\n' || j->s[j->at] == '\r' ||
                            j->s[j->at] == '\t'))
        j->at++;
    return j->at < j->n ? j->s[j->at] : 0;
}

limn_status limn_jsonscan_expect(limn_jsonscan *j, char c, limn_err *err) {
    if (limn_jsonscan_peek(j) != c) {
        char what[] = "expected ' '";
        what[10] = c;
        return damaged(j, err, what);
    }
    j->at++;
    return LIMN_OK;
}

static int hex_value(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

static bool read_hex4(limn_jsonscan *j, uint32_t *out) {
    if (j->n - j->at < 4) return false;
    uint32_t v = 0;
    for (int i = 0; i < 4; i++) {
        int h = hex_value(j->s[j->at + (size_t)i]);
        if (h < 0) return false;
        v = v << 4 | (uint32_t)h;
    }
    j->at += 4;
    *out = v;
    return true;
}

/* After "\u". */
static bool read_unicode_escape(limn_jsonscan *j) {
    uint32_t cp, low;
    if (!read_hex4(j, &cp)) return false;
    if (cp >= 0xDC00 && cp <= 0xDFFF) return false;
    if (cp >= 0xD800 && cp <= 0xDBFF) {
        if (j->n - j->at < 6 || j->s[j->at] != '\\' || j->s[j->at + 1] != 'u') return false;
        j->at += 2;
        if (!read_hex4(j, &low) || low < 0xDC00 || low > 0xDFFF) return false;
        cp = 0x10000 + ((cp - 0xD800) << 10) + (low - 0xDC00);
    }
    limn_buf_add_utf8(&j->key, cp);
    return true;
}

static bool read_escape(limn_jsonscan *j) {
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (j->at >= j->n) return false;
    char c = j->s[j->at++];
    if (c == 'u') return read_unicode_escape(j);
    const char *hit = memchr(from, c, sizeof from - 1);
    if (!hit) return false;
    limn_buf_addc(&j->key, to[hit - from]);
    return true;
}

limn_status limn_jsonscan_string(limn_jsonscan *j, limn_err *err) {
    limn_status st = limn_jsonscan_expect(j, '"', err);
    if (st != LIMN_OK) return st;
    limn_buf_clear(&j->key);
    for (;;) {
        size_t i = j->at;
        while (i < j->n && (unsigned char)j->s[i] >= 0x20 && j->s[i] != '"' && j->s[i] != '\\') i++;
        if (limn_utf8_sound(j->s + j->at, i - j->at) != i - j->at)
            return damaged(j, err, "text is not UTF-8");
        limn_buf_add(&j->key, j->s + j->at, i - j->at);
        j->at = i;
        if (i >= j->n || (unsigned char)j->s[i] < 0x20) return damaged(j, err, "open string");
        j->at++;
        if (j->s[i] == '"') break;
        if (!read_escape(j)) return damaged(j, err, "bad escape");
    }
    if (j->key.failed) return limn_fail(err, LIMN_E_NOMEM, "no memory for a JSON string");
    return LIMN_OK;
}

/* Length of a number at the current place by JSON's grammar, 0: none; *whole: no point, exponent.
 */
static size_t number_length(limn_jsonscan *j, bool *whole) {
    limn_jsonscan_peek(j);
    const char *p = j->s + j->at, *end = j->s + j->n, *q = p;
    *whole = true;
    if (q < end && *q == '-') q++;
    const char *digits = q;
    while (q < end && *q >= '0' && *q <= '9') q++;
    if (q == digits || (*digits == '0' && q - digits > 1)) return 0;
    if (q < end && *q == '.') {
        const char *f = ++q;
        while (q < end && *q >= '0' && *q <= '9') q++;
        if (q == f) return 0;
        *whole = false;
    }
    if (q < end && (*q == 'e' || *q == 'E')) {
        q++;
        if (q < end && (*q == '+' || *q == '-')) q++;
        const char *f = q;
        while (q < end && *q >= '0' && *q <= '9') q++;
        if (q == f) return 0;
        *whole = false;
    }
    return (size_t)(q - p);
}

limn_status limn_jsonscan_number(limn_jsonscan *j, double *out, limn_err *err) {
    bool whole;
    size_t len = number_length(j, &whole);
    char tmp[64];
    if (len == 0 || len >= sizeof tmp) return damaged(j, err, "expected a number");
    memcpy(tmp, j->s + j->at, len);
    tmp[len] = 0;
    *out = strtod(tmp, NULL);
    j->at += len;
    return LIMN_OK;
}

limn_status limn_jsonscan_int(limn_jsonscan *j, int64_t *out, limn_err *err) {
    bool whole;
    size_t len = number_length(j, &whole);
    if (len == 0 || len > 20 || !whole) return damaged(j, err, "expected a whole number");
    char tmp[24];
    memcpy(tmp, j->s + j->at, len);
    tmp[len] = 0;
    errno = 0;
    long long v = strtoll(tmp, NULL, 10);
    if (errno) return damaged(j, err, "number is too large");
    *out = v;
    j->at += len;
    return LIMN_OK;
}

static limn_status skip_string(limn_jsonscan *j, limn_err *err) {
    for (j->at++; j->at < j->n; j->at++) {
        if (j->s[j->at] == '"') {
            j->at++;
            return LIMN_OK;
        }
        if (j->s[j->at] == '\\') j->at++;
    }
    return damaged(j, err, "open string");
}

static limn_status skip_word(limn_jsonscan *j, limn_err *err) {
    bool whole;
    static const char *const words[] = {"true", "false", "null"};
    for (size_t i = 0; i < 3; i++) {
        size_t len = strlen(words[i]);
        if (j->n - j->at >= len && memcmp(j->s + j->at, words[i], len) == 0) {
            j->at += len;
            return LIMN_OK;
        }
    }
    size_t len = number_length(j, &whole);
    if (len == 0) return damaged(j, err, "expected a value");
    j->at += len;
    return LIMN_OK;
}

limn_status limn_jsonscan_skip(limn_jsonscan *j, size_t *begin, size_t *end, limn_err *err) {
    char open[LIMN_JSON_DEPTH];
    size_t depth = 0;
    bool need_value = true;
    limn_jsonscan_peek(j);
    *begin = j->at;
    do {
        char c = limn_jsonscan_peek(j);
        limn_status st = LIMN_OK;
        if (c == '{' || c == '[') {
            if (depth == LIMN_JSON_DEPTH) return damaged(j, err, "nested too deep");
            open[depth++] = c == '{' ? '}' : ']';
            j->at++;
        } else if (c == '}' || c == ']') {
            if (depth == 0 || open[depth - 1] != c) return damaged(j, err, "unbalanced bracket");
            depth--;
            j->at++;
        } else if (c == '"') {
            st = skip_string(j, err);
        } else if ((c == ',' || c == ':') && depth > 0) {
            j->at++;
        } else {
            st = skip_word(j, err);
        }
        if (st != LIMN_OK) return st;
        need_value = false;
    } while (depth > 0 || need_value);
    *end = j->at;
    return LIMN_OK;
}

limn_status limn_jsonscan_next(limn_jsonscan *j, char open, bool *first, bool *more,
                               limn_err *err) {
    char close = open == '{' ? '}' : ']';
    limn_status st = LIMN_OK;
    if (*first) st = limn_jsonscan_expect(j, open, err);
    if (st != LIMN_OK) return st;
    char c = limn_jsonscan_peek(j);
    if (c == close) {
        j->at++;
        *more = false;
        return LIMN_OK;
    }
    if (!*first) {
        st = limn_jsonscan_expect(j, ',', err);
        if (st == LIMN_OK && limn_jsonscan_peek(j) == close)
            st = damaged(j, err, "comma at the end");
    }
    *first = false;
    *more = true;
    return st;
}
