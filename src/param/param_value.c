/* SPDX-License-Identifier: MIT */
/*
 * One value between text and field: parsing with its range, and the shortest text that reads back.
 *
 * Numbers do not depend on the program's locale: a German desktop must read and write "0.5".
 */
#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "param/param.h"

/* ---- numbers ---- */

bool limn_real_parse(double *out, const char *text) {
    /* strtod also takes hexadecimal, "inf" and "nan": only decimal text is a value here */
    if (!*text || strspn(text, "0123456789+-.eE") != strlen(text)) return false;
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (!c) return false;
    char *end;
    *out = strtod_l(text, &end, c);
    freelocale(c);
    return *end == 0 && isfinite(*out);
}

bool limn_int_parse(int64_t *out, const char *text) {
    char *end;
    if (!*text || strspn(text, "0123456789+-") != strlen(text)) return false;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    *out = v;
    return *end == 0 && errno == 0;
}

void limn_real_format(limn_buf *out, double value) {
    if (value == rint(value) && fabs(value) < 1e15) { /* 1000000 rather than 1e+06 */
        limn_buf_addf(out, "%.0f", value);
        return;
    }
    char text[40], *end;
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    locale_t before = c ? uselocale(c) : (locale_t)0;
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, &end) == value) break;
    }
    if (c) {
        uselocale(before);
        freelocale(c);
    }
    limn_buf_adds(out, text);
}

/* "6G", "512M", "1.5GiB", "1048576": powers of 1024. */
static bool bytes_parse(int64_t *out, const char *text) {
    char number[40];
    size_t n = strspn(text, "0123456789.");
    if (n == 0 || n >= sizeof number) return false;
    memcpy(number, text, n);
    number[n] = 0;
    const char *unit = text + n;
    double value, scale = 1;
    if (*unit) {
        const char *at = strchr("kmgtKMGT", *unit);
        if (!at) {
            if (strcmp(unit, "B") != 0 && strcmp(unit, "b") != 0) return false;
        } else {
            for (int i = 0; i <= (at - "kmgtKMGT") % 4; i++) scale *= 1024;
            unit++;
            if (*unit && strcmp(unit, "B") != 0 && strcmp(unit, "iB") != 0) return false;
        }
    }
    if (!limn_real_parse(&value, number) || value * scale > 9e15) return false;
    *out = (int64_t)(value * scale);
    return true;
}

static void bytes_format(limn_buf *out, int64_t v) {
    const char *units = "KMGT";
    int unit = -1;
    while (v != 0 && v % 1024 == 0 && unit < 3) {
        v /= 1024;
        unit++;
    }
    limn_buf_addf(out, "%lld", (long long)v);
    if (unit >= 0) limn_buf_addc(out, units[unit]);
}

/* ---- text ---- */

/* Length of the well-formed UTF-8 sequence at s (at most `len` bytes), 0 when there is none. */
static size_t utf8_sequence(const unsigned char *s, size_t len) {
    if (s[0] < 0x80) return 1;
    size_t n = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
    if (s[0] < 0xc2 || s[0] > 0xf4 || n > len) return 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80) return 0;
    if (s[0] == 0xe0 && s[1] < 0xa0) return 0; /* longer than needed */
    if (s[0] == 0xed && s[1] > 0x9f) return 0; /* half of a surrogate pair */
    if (s[0] == 0xf0 && s[1] < 0x90) return 0;
    if (s[0] == 0xf4 && s[1] > 0x8f) return 0; /* above U+10FFFF */
    return n;
}

bool limn_utf8_is_valid(const char *s, size_t len) {
    for (size_t i = 0; i < len;) {
        unsigned char c = (unsigned char)s[i];
        if ((c < 0x20 && c != '\t' && c != '\n' && c != '\r') || c == 0x7f) return false;
        size_t n = utf8_sequence((const unsigned char *)s + i, len - i);
        if (n == 0) return false;
        i += n;
    }
    return true;
}

/* ---- errors ---- */

/* How a rejected value is shown: short, one line, printable. */
static const char *shown(char *buf, size_t size, const char *value) {
    size_t n = 0;
    for (; value[n] && n < size - 4; n++) {
        unsigned char c = (unsigned char)value[n];
        buf[n] = c < 0x20 || c >= 0x7f ? '?' : (char)c;
    }
    snprintf(buf + n, size - n, "%s", value[n] ? "..." : "");
    return buf;
}

static limn_status bad_value(const limn_param *p, const char *where, const char *value,
                             limn_err *err) {
    char text[64], words[256] = "";
    size_t at = 0;
    shown(text, sizeof text, value);
    switch (p->type) {
    case LIMN_TYPE_INT:
        if (p->multiple > 1)
            return limn_fail(err, LIMN_E_VALUE, "%s %s: must be a multiple of %d from %.0f to %.0f",
                             where, text, p->multiple, ceil(p->min / p->multiple) * p->multiple,
                             p->max);
        return limn_fail(err, LIMN_E_VALUE, "%s %s: must be a whole number from %.0f to %.0f",
                         where, text, p->min, p->max);
    case LIMN_TYPE_REAL:
        return limn_fail(err, LIMN_E_VALUE, "%s %s: must be a number from %g to %g", where, text,
                         p->min, p->max);
    case LIMN_TYPE_BOOL:
        return limn_fail(err, LIMN_E_VALUE, "%s %s: must be on or off", where, text);
    case LIMN_TYPE_BYTES:
        return limn_fail(err, LIMN_E_VALUE, "%s %s: must be an amount of memory such as 512M or 6G",
                         where, text);
    case LIMN_TYPE_ENUM:
        for (const limn_word *w = p->words; w->name; w++) {
            int n = snprintf(words + at, sizeof words - at, "%s%s",
                             w == p->words ? ""
                             : w[1].name   ? ", "
                                           : " or ",
                             w->name);
            if (n < 0 || (size_t)n >= sizeof words - at) break;
            at += (size_t)n;
        }
        return limn_fail(err, LIMN_E_VALUE, "%s %s: must be %s", where, text, words);
    default: return limn_fail(err, LIMN_E_VALUE, "%s %s: is not a value", where, text);
    }
}

/* ---- fields ---- */

static limn_status mark(limn_params *r, const limn_param *p, limn_source from) {
    r->source[limn_param_index(limn_param_table_get(r->kind), p)] = (uint8_t)from;
    return LIMN_OK;
}

limn_status limn_param_parse_int(limn_params *r, const limn_param *p, int64_t value,
                                 const char *where, limn_source from, limn_err *err) {
    char text[32];
    snprintf(text, sizeof text, "%lld", (long long)value);
    if ((p->flags & LIMN_P_RANDOM) && value == -1)
        return limn_param_may_set(r, p, from) ? limn_param_reset(r, p, err) : LIMN_OK;
    if (value < p->min || value > p->max || (p->multiple > 1 && value % p->multiple != 0))
        return bad_value(p, where, text, err);
    if (!limn_param_may_set(r, p, from)) return LIMN_OK;
    *(int64_t *)limn_param_field(r, p) = value;
    return mark(r, p, from);
}

limn_status limn_param_parse_real(limn_params *r, const limn_param *p, double value,
                                  const char *where, limn_source from, limn_err *err) {
    char text[40];
    snprintf(text, sizeof text, "%.15g", value);
    if (!(value >= p->min && value <= p->max)) return bad_value(p, where, text, err);
    if (!limn_param_may_set(r, p, from)) return LIMN_OK;
    *(double *)limn_param_field(r, p) = value == 0 ? 0 : value; /* no negative zero */
    return mark(r, p, from);
}

static limn_status parse_text(limn_params *r, const limn_param *p, const char *value,
                              const char *where, limn_source from, limn_err *err) {
    size_t len = strlen(value), most = (size_t)p->max;
    if (len > most)
        return limn_fail(err, LIMN_E_LIMIT, "%s: %zu bytes of text, at most %zu are allowed", where,
                         len, most);
    if (!limn_utf8_is_valid(value, len))
        return limn_fail(err, LIMN_E_VALUE, "%s: is not UTF-8 text without control characters",
                         where);
    if (!limn_param_may_set(r, p, from)) return LIMN_OK;
    char *copy = limn_mem_strdup(value);
    if (!copy) return limn_fail(err, LIMN_E_NOMEM, "%s: no memory for the text", where);
    if (p->type == LIMN_TYPE_TEXT) {
        char **field = limn_param_field(r, p);
        limn_mem_free(*field);
        *field = copy;
        return mark(r, p, from);
    }
    limn_texts *list = limn_param_field(r, p);
    if (limn_param_may_set(r, p, from - 1) && limn_param_reset(r, p, err) != LIMN_OK) {
        limn_mem_free(copy);
        return LIMN_E_NOMEM;
    }
    if (list->count >= LIMN_LIST_MAX) {
        limn_mem_free(copy);
        return limn_fail(err, LIMN_E_LIMIT, "%s: more than %d", where, LIMN_LIST_MAX);
    }
    char **item = limn_mem_realloc(list->item, ((size_t)list->count + 1) * sizeof *item);
    if (!item) {
        limn_mem_free(copy);
        return limn_fail(err, LIMN_E_NOMEM, "%s: no memory for the list", where);
    }
    list->item = item;
    list->item[list->count++] = copy;
    return mark(r, p, from);
}

static int find_word(const limn_word *words, const char *value) {
    size_t len = strlen(value);
    for (int i = 0; words[i].name; i++)
        if (limn_param_word_is(words[i].name, value, len) ||
            limn_param_word_is(words[i].text, value, len) ||
            limn_param_word_is(words[i].aliases, value, len))
            return i;
    return -1;
}

static int bool_word(const char *value) {
    size_t len = strlen(value);
    if (limn_param_word_is("on|true|yes|1|enabled", value, len)) return 1;
    if (limn_param_word_is("off|false|no|0|disabled", value, len)) return 0;
    return -1;
}

limn_status limn_param_parse(limn_params *r, const limn_param *p, const char *value,
                             const char *where, limn_source from, limn_err *err) {
    void *field = limn_param_field(r, p);
    int64_t i;
    double d;
    int word;
    switch (p->type) {
    case LIMN_TYPE_INT:
        if ((p->flags & LIMN_P_RANDOM) && strcmp(value, "random") == 0)
            return limn_param_parse_int(r, p, -1, where, from, err);
        if (!limn_int_parse(&i, value)) return bad_value(p, where, value, err);
        return limn_param_parse_int(r, p, i, where, from, err);
    case LIMN_TYPE_BYTES:
        if (!bytes_parse(&i, value)) return bad_value(p, where, value, err);
        return limn_param_parse_int(r, p, i, where, from, err);
    case LIMN_TYPE_REAL:
        if (!limn_real_parse(&d, value)) return bad_value(p, where, value, err);
        return limn_param_parse_real(r, p, d, where, from, err);
    case LIMN_TYPE_BOOL:
        word = bool_word(value);
        if (word < 0) return bad_value(p, where, value, err);
        if (!limn_param_may_set(r, p, from)) return LIMN_OK;
        *(bool *)field = word == 1;
        return mark(r, p, from);
    case LIMN_TYPE_ENUM:
        word = find_word(p->words, value);
        if (word < 0) return bad_value(p, where, value, err);
        if (!limn_param_may_set(r, p, from)) return LIMN_OK;
        *(int *)field = word;
        return mark(r, p, from);
    case LIMN_TYPE_TEXT:
    case LIMN_TYPE_LIST: return parse_text(r, p, value, where, from, err);
    }
    return bad_value(p, where, value, err);
}

void limn_param_format(limn_buf *out, const limn_params *r, const limn_param *p, bool pretty,
                       int index) {
    const void *field = limn_param_field(r, p);
    const limn_texts *list = field;
    const limn_word *w;
    switch (p->type) {
    case LIMN_TYPE_INT: limn_buf_addf(out, "%lld", (long long)*(const int64_t *)field); break;
    case LIMN_TYPE_BYTES: bytes_format(out, *(const int64_t *)field); break;
    case LIMN_TYPE_REAL: limn_real_format(out, *(const double *)field); break;
    case LIMN_TYPE_BOOL:
        limn_buf_adds(out, pretty ? (*(const bool *)field ? "True" : "False")
                                  : (*(const bool *)field ? "on" : "off"));
        break;
    case LIMN_TYPE_ENUM:
        w = &p->words[*(const int *)field];
        limn_buf_adds(out, pretty && w->text ? w->text : w->name);
        break;
    case LIMN_TYPE_TEXT: limn_buf_adds(out, *(char *const *)field); break;
    case LIMN_TYPE_LIST:
        if (index >= 0 && index < list->count) limn_buf_adds(out, list->item[index]);
        break;
    }
}

bool limn_param_equal(const limn_params *a, const limn_params *b, const limn_param *p) {
    const void *x = limn_param_field(a, p), *y = limn_param_field(b, p);
    const limn_texts *s = x, *t = y;
    switch (p->type) {
    case LIMN_TYPE_INT:
    case LIMN_TYPE_BYTES: return *(const int64_t *)x == *(const int64_t *)y;
    case LIMN_TYPE_REAL: return *(const double *)x == *(const double *)y;
    case LIMN_TYPE_BOOL: return *(const bool *)x == *(const bool *)y;
    case LIMN_TYPE_ENUM: return *(const int *)x == *(const int *)y;
    case LIMN_TYPE_TEXT: return strcmp(*(char *const *)x, *(char *const *)y) == 0;
    case LIMN_TYPE_LIST:
        if (s->count != t->count) return false;
        for (int i = 0; i < s->count; i++)
            if (strcmp(s->item[i], t->item[i]) != 0) return false;
        return true;
    }
    return false;
}
