/* SPDX-License-Identifier: MIT */
/* JSON bodies: jansson, with nesting and number of values bounded before it sees the text. */
#include <string.h>

#include "server/server.h"

/* Counts without understanding: a text that jansson accepts has no more depth and values. */
static limn_status measure(const char *s, size_t len, limn_err *err) {
    int depth = 0;
    size_t nodes = 1;
    bool text = false;
    for (size_t i = 0; i < len; i++) {
        char c = s[i];
        if (text) {
            if (c == '\\')
                i++;
            else if (c == '"')
                text = false;
        } else if (c == '"') {
            text = true;
        } else if (c == '{' || c == '[') {
            nodes++;
            if (++depth > LIMN_LIMIT_JSON_DEPTH)
                return limn_fail(err, LIMN_E_FORMAT, "JSON is nested deeper than %d",
                                 LIMN_LIMIT_JSON_DEPTH);
        } else if (c == '}' || c == ']') {
            depth--;
        } else if (c == ',') {
            nodes++;
        }
    }
    if (nodes > LIMN_LIMIT_JSON_NODES)
        return limn_fail(err, LIMN_E_FORMAT, "JSON has more than %d values", LIMN_LIMIT_JSON_NODES);
    return LIMN_OK;
}

limn_status limn_json_read(json_t **out, const char *text, size_t len, limn_err *err) {
    json_error_t why;
    *out = NULL;
    limn_status st = measure(text, len, err);
    if (st != LIMN_OK) return st;
    *out = json_loadb(text, len, JSON_REJECT_DUPLICATES, &why);
    if (!*out)
        return limn_fail(err, LIMN_E_FORMAT, "JSON line %d, column %d: %s", why.line, why.column,
                         why.text);
    return LIMN_OK;
}
