/* SPDX-License-Identifier: MIT */
/*
 * The gate: a verdict never changes when more bytes follow, whatever passes has the shape that the
 * rest of the server relies on, and targets decode within their room.
 */
#include <stdlib.h>
#include <string.h>

#include "server/http_gate.h"
#include "server/limits.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_passed(const char *text, size_t len) {
    if (len > LIMN_LIMIT_HEAD_BYTES + 2 || memcmp(text + len - 4, "\r\n\r\n", 4) != 0) abort();
    if (memchr(text, 0, len)) abort();
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '\n' && (i == 0 || text[i - 1] != '\r')) abort();
        if (text[i] == '\r' && text[i + 1] != '\n') abort();
    }
    char *out = malloc(len + 1);
    if (out && limn_http_decode(out, text, strcspn(text, " "), true) && strlen(out) > len) abort();
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *text = (const char *)data;
    limn_http_gate whole, part;
    size_t len = 0;
    limn_gate_verdict last = limn_http_gate_head(&whole, text, size, &len);
    if (last == LIMN_GATE_PASS) check_passed(text, len);
    if (last == LIMN_GATE_REFUSE && (!whole.status || !whole.reason)) abort();
    for (size_t n = 0; n <= size && n < 2048; n++) {
        limn_gate_verdict v = limn_http_gate_head(&part, text, n, NULL);
        if (v == LIMN_GATE_MORE) continue;
        if (v != last) abort();
        break;
    }
    return 0;
}
