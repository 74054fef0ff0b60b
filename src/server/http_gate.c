/* SPDX-License-Identifier: MIT */
/* The gate in front of every request; see http_gate.h. */
#include "server/http_gate.h"

#include <string.h>
#include <strings.h>

#include "server/limits.h"

static bool refuse(limn_http_gate *gate, int status, const char *reason) {
    if (!gate->status) {
        gate->status = status;
        gate->reason = reason;
    }
    return false;
}

static bool is_token_char(unsigned char c) {
    if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) return true;
    return c && strchr("!#$%&'*+-.^_`|~", c);
}

static bool is_token(const char *s, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!is_token_char((unsigned char)s[i])) return false;
    return n > 0;
}

static int hex_value(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

bool limn_http_decode(char *out, const char *text, size_t len, bool plus) {
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '%') {
            if (len - i < 3) return false;
            int hi = hex_value(text[i + 1]), lo = hex_value(text[i + 2]);
            if (hi < 0 || lo < 0) return false;
            c = (unsigned char)(hi * 16 + lo);
            i += 2;
        } else if (c == '+' && plus) {
            c = ' ';
        }
        if (c < 0x20 || c == 0x7f) return false;
        *out++ = (char)c;
    }
    *out = 0;
    return true;
}

static bool equals(const char *s, size_t n, const char *word) {
    return n == strlen(word) && strncasecmp(s, word, n) == 0;
}

static bool is_method(limn_http_gate *gate, const char *s, size_t n) {
    static const char *const known[] = {"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"};
    if (!is_token(s, n)) return refuse(gate, 400, "bad request line");
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (n != strlen(known[i]) || memcmp(s, known[i], n) != 0) continue;
        gate->is_get = i < 3;
        return true;
    }
    return refuse(gate, 501, "unknown method");
}

/* Origin form only; every escape complete, none of NUL or control characters in the path. */
static bool is_target(limn_http_gate *gate, const char *s, size_t n) {
    if (n > LIMN_LIMIT_TARGET_BYTES) return refuse(gate, 414, "request target is too long");
    if (n == 0 || s[0] != '/') return refuse(gate, 400, "request target must begin with /");
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c <= 0x20 || c >= 0x7f || c == '#') return refuse(gate, 400, "bad request target");
        if (c != '%') continue;
        if (n - i < 3 || hex_value(s[i + 1]) < 0 || hex_value(s[i + 2]) < 0)
            return refuse(gate, 400, "broken escape in request target");
        if (s[i + 1] == '0' && s[i + 2] == '0')
            return refuse(gate, 400, "encoded NUL in request target");
    }
    return true;
}

bool limn_http_gate_line(limn_http_gate *gate, const char *method, size_t method_len,
                         const char *target, size_t target_len, const char *version,
                         size_t version_len) {
    *gate = (limn_http_gate){0};
    if (version_len != 8 || memcmp(version, "HTTP/", 5) != 0 || version[6] != '.' ||
        version[5] < '0' || version[5] > '9' || version[7] < '0' || version[7] > '9')
        return refuse(gate, 400, "bad request line");
    if (version[5] != '1' || version[7] > '1') return refuse(gate, 505, "HTTP/1.0 or 1.1 only");
    gate->minor = version[7] - '0';
    return is_method(gate, method, method_len) && is_target(gate, target, target_len);
}

static bool is_host(const char *s, size_t n) {
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        bool word = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!word && (!c || !strchr(".-_:[]", c))) return false;
    }
    return n > 0 && n < 256;
}

static bool is_length(const char *s, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (s[i] < '0' || s[i] > '9') return false;
    return n > 0 && n <= 18;
}

bool limn_http_gate_header(limn_http_gate *gate, const char *name, size_t name_len,
                           const char *value, size_t value_len) {
    if (gate->status) return false;
    if (++gate->headers > LIMN_LIMIT_HEADERS) return refuse(gate, 431, "too many headers");
    if (!is_token(name, name_len)) return refuse(gate, 400, "bad header name");
    for (size_t i = 0; i < value_len; i++) {
        unsigned char c = (unsigned char)value[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return refuse(gate, 400, "control character in a header");
    }
    if (equals(name, name_len, "host")) {
        if (++gate->hosts > 1) return refuse(gate, 400, "more than one Host");
        if (!is_host(value, value_len)) return refuse(gate, 400, "bad Host");
    } else if (equals(name, name_len, "content-length")) {
        if (++gate->lengths > 1) return refuse(gate, 400, "more than one Content-Length");
        if (!is_length(value, value_len)) return refuse(gate, 400, "bad Content-Length");
    } else if (equals(name, name_len, "transfer-encoding")) {
        if (++gate->codings > 1) return refuse(gate, 400, "more than one Transfer-Encoding");
        if (!equals(value, value_len, "chunked"))
            return refuse(gate, 501, "only chunked is known as Transfer-Encoding");
    } else if (equals(name, name_len, "expect")) {
        if (!equals(value, value_len, "100-continue"))
            return refuse(gate, 417, "only 100-continue may be expected");
    }
    return true;
}

bool limn_http_gate_end(limn_http_gate *gate) {
    if (gate->status) return false;
    if (gate->codings && gate->lengths)
        return refuse(gate, 400, "Content-Length beside Transfer-Encoding");
    if (gate->codings && gate->minor == 0)
        return refuse(gate, 400, "Transfer-Encoding in HTTP/1.0");
    if (!gate->hosts && gate->minor == 1) return refuse(gate, 400, "no Host");
    return true;
}

/* One line of `len` bytes without its CRLF. */
static bool read_line(limn_http_gate *gate, const char *s, size_t len) {
    const char *sp = memchr(s, ' ', len);
    const char *last = sp ? memrchr(s, ' ', len) : NULL;
    if (!sp || last == sp) return refuse(gate, 400, "bad request line");
    size_t target = (size_t)(last - sp) - 1;
    return limn_http_gate_line(gate, s, (size_t)(sp - s), sp + 1, target, last + 1,
                               len - (size_t)(last + 1 - s));
}

static bool read_header(limn_http_gate *gate, const char *s, size_t len) {
    if (s[0] == ' ' || s[0] == '\t') return refuse(gate, 400, "folded header");
    const char *colon = memchr(s, ':', len);
    if (!colon) return refuse(gate, 400, "header without a colon");
    const char *value = colon + 1, *end = s + len;
    while (value < end && (*value == ' ' || *value == '\t')) value++;
    while (end > value && (end[-1] == ' ' || end[-1] == '\t')) end--;
    return limn_http_gate_header(gate, s, (size_t)(colon - s), value, (size_t)(end - value));
}

limn_gate_verdict limn_http_gate_head(limn_http_gate *gate, const char *data, size_t len,
                                      size_t *head_len) {
    size_t at = 0, line = 0;
    *gate = (limn_http_gate){0};
    while (at < len) {
        const char *nl = memchr(data + at, '\n', len - at);
        size_t end = nl ? (size_t)(nl - data) : len;
        if (line == 0 && end - at > LIMN_LIMIT_TARGET_BYTES + 64)
            refuse(gate, 414, "request target is too long");
        else if (end > LIMN_LIMIT_HEAD_BYTES)
            refuse(gate, 431, "headers are too long");
        if (gate->status) return LIMN_GATE_REFUSE;
        if (!nl) return LIMN_GATE_MORE;
        if (end == at || data[end - 1] != '\r') {
            refuse(gate, 400, "line does not end with CRLF");
            return LIMN_GATE_REFUSE;
        }
        size_t n = end - 1 - at;
        if (memchr(data + at, '\r', n)) {
            refuse(gate, 400, "bare CR");
        } else if (line == 0) {
            read_line(gate, data + at, n);
        } else if (n == 0) {
            limn_http_gate_end(gate);
            if (gate->status) return LIMN_GATE_REFUSE;
            if (head_len) *head_len = end + 1;
            return LIMN_GATE_PASS;
        } else {
            read_header(gate, data + at, n);
        }
        if (gate->status) return LIMN_GATE_REFUSE;
        at = end + 1;
        line++;
    }
    return LIMN_GATE_MORE;
}
