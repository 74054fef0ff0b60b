/* SPDX-License-Identifier: MIT */
/* See multipart.h. */
#include "server/multipart.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static limn_status broken(limn_err *err, const char *why) {
    return limn_fail(err, LIMN_E_VALUE, "the form is broken: %s", why);
}

/* ---- the type ---- */

static bool is_boundary_char(unsigned char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c && strchr("'()+_,-./:=? ", c));
}

/* The value of a parameter, quoted or not: its length, and *next behind it. 0: there is none. */
static size_t read_value(const char *at, const char **from, const char **next) {
    if (*at != '"') {
        *from = at;
        *next = at + strcspn(at, "; \t");
        return (size_t)(*next - at);
    }
    const char *close = strchr(at + 1, '"');
    if (!close) return 0;
    *from = at + 1;
    *next = close + 1;
    return (size_t)(close - at - 1);
}

limn_status limn_multipart_open(limn_multipart *m, const char *content_type, const void *body,
                                size_t size, limn_err *err) {
    const char *at = content_type, *from = NULL;
    size_t n = 0;
    *m = (limn_multipart){.at = body, .end = body ? (const char *)body + size : NULL};
    if (strncasecmp(at, "multipart/form-data", 19) != 0 || !strchr("; \t", at[19]))
        return limn_fail(err, LIMN_E_VALUE, "Content-Type must be multipart/form-data");
    for (at += 19; *at;) {
        at += strspn(at, "; \t");
        bool wanted = strncasecmp(at, "boundary=", 9) == 0;
        at += strcspn(at, "=;");
        if (*at != '=') continue;
        const char *value;
        size_t len = read_value(at + 1, &value, &at);
        if (len == 0 || (wanted && from)) return broken(err, "its boundary cannot be read");
        if (wanted) from = value, n = len;
    }
    if (!from) return broken(err, "it has no boundary");
    bool fits = n <= LIMN_MULTIPART_BOUNDARY_BYTES && from[n - 1] != ' ';
    for (size_t i = 0; fits && i < n; i++) fits = is_boundary_char((unsigned char)from[i]);
    if (!fits) return broken(err, "its boundary is none");
    memcpy(m->mark, "\r\n--", 4);
    memcpy(m->mark + 4, from, n);
    m->mark_len = n + 4;
    return LIMN_OK;
}

/* ---- headers of a part ---- */

/* One parameter of Content-Disposition, unquoted into `out`. false: broken, or too long. */
static bool take_text(char *out, size_t room, const char *at, size_t len) {
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        char c = at[i];
        if (c == '\\' && i + 1 < len && (at[i + 1] == '"' || at[i + 1] == '\\')) c = at[++i];
        if (n + 1 >= room || (unsigned char)c < 0x20 || c == 0x7f) return false;
        out[n++] = c;
    }
    out[n] = 0;
    return true;
}

/* The end of a quoted string that begins behind `at`. */
static const char *find_quote(const char *at, const char *end) {
    for (; at < end && *at != '"'; at++)
        if (*at == '\\' && at + 1 < end) at++;
    return at < end ? at : NULL;
}

static bool is_plain_name(const char *name) {
    return !strpbrk(name, "/\\:") && strcmp(name, "..") != 0 && strcmp(name, ".") != 0;
}

static bool read_disposition(limn_multipart_part *part, const char *at, const char *end) {
    char file[512];
    if (end - at < 9 || strncasecmp(at, "form-data", 9) != 0) return false;
    at += 9;
    while (at < end) {
        while (at < end && (*at == ' ' || *at == '\t')) at++;
        if (at == end) break;
        if (*at++ != ';') return false;
        while (at < end && (*at == ' ' || *at == '\t')) at++;
        const char *equals = memchr(at, '=', (size_t)(end - at));
        if (!equals || equals + 1 >= end) return false;
        size_t len = (size_t)(equals - at);
        bool name = len == 4 && strncasecmp(at, "name", 4) == 0;
        bool filename = len == 8 && strncasecmp(at, "filename", 8) == 0;
        const char *value = equals + 1, *close;
        if (*value == '"') {
            close = find_quote(++value, end);
            if (!close) return false;
            at = close + 1;
        } else {
            for (close = value; close < end && *close != ';' && *close != ' '; close++) continue;
            at = close;
        }
        size_t n = (size_t)(close - value);
        if (name && (part->name[0] || !take_text(part->name, sizeof part->name, value, n)))
            return false;
        if (filename &&
            (part->file || !take_text(file, sizeof file, value, n) || !is_plain_name(file)))
            return false;
        part->file |= filename;
    }
    return part->name[0] != 0;
}

static bool is_header(const char *line, size_t len, const char *name, const char **value) {
    size_t n = strlen(name);
    if (len <= n || strncasecmp(line, name, n) != 0 || line[n] != ':') return false;
    *value = line + n + 1;
    while (*value < line + len && (**value == ' ' || **value == '\t')) (*value)++;
    return true;
}

static limn_status read_line(limn_multipart_part *part, const char *line, size_t len,
                             limn_err *err) {
    const char *value, *end = line + len;
    for (size_t i = 0; i < len; i++)
        if (((unsigned char)line[i] < 0x20 && line[i] != '\t') || line[i] == 0x7f)
            return broken(err, "a control character in a header");
    if (len == 0 || line[0] == ' ' || line[0] == '\t' || !memchr(line, ':', len))
        return broken(err, "a header without a name");
    if (is_header(line, len, "Content-Disposition", &value)) {
        if (part->name[0]) return broken(err, "a part with two dispositions");
        return read_disposition(part, value, end)
                   ? LIMN_OK
                   : broken(err, "a part without a plain name, or with a path");
    }
    if (is_header(line, len, "Content-Type", &value) && end - value >= 10 &&
        strncasecmp(value, "multipart/", 10) == 0)
        return broken(err, "a form in a form");
    if (is_header(line, len, "Content-Transfer-Encoding", &value)) {
        size_t n = (size_t)(end - value);
        bool plain = (n == 6 && strncasecmp(value, "binary", 6) == 0) ||
                     (n == 4 && (memcmp(value, "7bit", 4) == 0 || memcmp(value, "8bit", 4) == 0));
        if (!plain) return broken(err, "a transfer encoding");
    }
    return LIMN_OK;
}

/* From behind the line of a boundary to the first byte of the part. */
static limn_status read_head(limn_multipart *m, limn_multipart_part *part, limn_err *err) {
    const char *begin = m->at;
    for (;;) {
        size_t left = (size_t)(m->end - m->at);
        const char *line = m->at, *close = memmem(line, left, "\r\n", 2);
        if (!close || close - begin > LIMN_MULTIPART_HEAD_BYTES)
            return close ? limn_fail(err, LIMN_E_LIMIT, "the headers of a part are too long")
                         : broken(err, "it is cut off");
        m->at = close + 2;
        if (close == line) break;
        limn_status st = read_line(part, line, (size_t)(close - line), err);
        if (st != LIMN_OK) return st;
    }
    return part->name[0] ? LIMN_OK : broken(err, "a part without a name");
}

limn_status limn_multipart_next(limn_multipart *m, limn_multipart_part *part, bool *more,
                                limn_err *err) {
    *part = (limn_multipart_part){0};
    *more = false;
    /* the first boundary has no line break before it */
    size_t skip = m->parts == 0 ? 2 : 0, n = m->mark_len - skip;
    if (!m->at || (size_t)(m->end - m->at) < n + 2 || memcmp(m->at, m->mark + skip, n) != 0)
        return broken(err, "it is cut off, or begins with something else");
    m->at += n;
    if (memcmp(m->at, "--", 2) == 0) {
        m->at += 2;
        size_t left = (size_t)(m->end - m->at);
        bool ends = left == 0 || (left == 2 && memcmp(m->at, "\r\n", 2) == 0);
        return ends ? LIMN_OK : broken(err, "something follows its end");
    }
    if (memcmp(m->at, "\r\n", 2) != 0) return broken(err, "its boundary goes on");
    m->at += 2;
    if (++m->parts > LIMN_MULTIPART_PARTS)
        return limn_fail(err, LIMN_E_LIMIT, "the form has more than %d parts",
                         LIMN_MULTIPART_PARTS);
    limn_status st = read_head(m, part, err);
    if (st != LIMN_OK) return st;
    /* an empty part's boundary shares the line break of its head */
    const char *from = m->at - 2;
    const char *mark = memmem(from, (size_t)(m->end - from), m->mark, m->mark_len);
    if (!mark) return broken(err, "it is cut off");
    part->data = m->at;
    part->size = mark < m->at ? 0 : (size_t)(mark - m->at);
    m->at = mark;
    *more = true;
    return LIMN_OK;
}
