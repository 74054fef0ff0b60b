/* SPDX-License-Identifier: MIT */
/* JSON in the spelling that models were trained on; see chat_impl.h. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/chat_impl.h"

static void dump_string(limn_buf *out, const char *s, size_t n) {
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
    limn_buf_addc(out, '"');
    for (size_t i = 0; i < n; i++) {
        const char *hit = memchr(from, s[i], sizeof from - 1);
        if (hit) {
            limn_buf_addc(out, '\\');
            limn_buf_addc(out, to[hit - from]);
        } else if ((unsigned char)s[i] < 0x20) {
            limn_buf_addf(out, "\\u%04x", (unsigned)(unsigned char)s[i]);
        } else {
            limn_buf_addc(out, s[i]);
        }
    }
    limn_buf_addc(out, '"');
}

/* Python's repr: the shortest digits that read back; an exponent below 1e-4 and from 1e16. */
static void dump_real(limn_buf *out, double v) {
    char text[40], digits[24];
    int precision = 0;
    do snprintf(text, sizeof text, "%.*e", precision, v);
    while (strtod(text, NULL) != v && ++precision < 17);
    int exponent = atoi(strchr(text, 'e') + 1), n = 0;
    for (const char *p = text; *p != 'e'; p++)
        if (*p >= '0' && *p <= '9') digits[n++] = *p;
    if (signbit(v)) limn_buf_addc(out, '-');
    if (exponent < -4 || exponent >= 16) {
        limn_buf_addc(out, digits[0]);
        if (n > 1) limn_buf_addf(out, ".%.*s", n - 1, digits + 1);
        limn_buf_addf(out, "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent));
        return;
    }
    if (exponent < 0) {
        limn_buf_adds(out, "0.");
        for (int i = exponent + 1; i < 0; i++) limn_buf_addc(out, '0');
        limn_buf_add(out, digits, (size_t)n);
        return;
    }
    for (int i = 0; i <= exponent; i++) limn_buf_addc(out, i < n ? digits[i] : '0');
    limn_buf_addc(out, '.');
    if (n > exponent + 1)
        limn_buf_add(out, digits + exponent + 1, (size_t)(n - exponent - 1));
    else
        limn_buf_addc(out, '0');
}

static void dump(limn_buf *out, const json_t *v) {
    size_t i;
    const char *key;
    json_t *item;
    const char *separator = "";
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        limn_buf_addc(out, '{');
        json_object_foreach((json_t *)v, key, item) {
            limn_buf_adds(out, separator);
            dump_string(out, key, strlen(key));
            limn_buf_adds(out, ": ");
            dump(out, item);
            separator = ", ";
        }
        limn_buf_addc(out, '}');
        break;
    case JSON_ARRAY:
        limn_buf_addc(out, '[');
        json_array_foreach(v, i, item) {
            limn_buf_adds(out, separator);
            dump(out, item);
            separator = ", ";
        }
        limn_buf_addc(out, ']');
        break;
    case JSON_STRING: dump_string(out, json_string_value(v), json_string_length(v)); break;
    case JSON_INTEGER: limn_buf_addf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(v)); break;
    case JSON_REAL: dump_real(out, json_real_value(v)); break;
    case JSON_TRUE: limn_buf_adds(out, "true"); break;
    case JSON_FALSE: limn_buf_adds(out, "false"); break;
    case JSON_NULL: limn_buf_adds(out, "null"); break;
    }
}

limn_status limn_chat_dump_json(limn_buf *out, const char *json, limn_err *err) {
    json_error_t je;
    json_t *v = json_loads(json, JSON_DECODE_ANY | JSON_ALLOW_NUL, &je);
    if (!v) return limn_fail(err, LIMN_E_VALUE, "JSON, line %d: %s", je.line, je.text);
    dump(out, v);
    json_decref(v);
    return out->failed ? limn_fail(err, LIMN_E_NOMEM, "no memory for JSON") : LIMN_OK;
}
