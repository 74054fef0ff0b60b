/* SPDX-License-Identifier: MIT */
/*
 * The value of "Range": whatever it says, what is sent lies in the file, and asking for exactly
 * that part gives it again. The first eight bytes are the size of the file.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_part(int64_t from, int64_t n, int64_t size) {
    char text[64];
    int64_t again_from, again_n;
    if (from < 0 || n < 1 || from > size || n > size - from) abort();
    snprintf(text, sizeof text, "bytes=%" PRId64 "-%" PRId64, from, from + n - 1);
    if (limn_http_range_read(text, size, &again_from, &again_n) != LIMN_HTTP_PART) abort();
    if (again_from != from || again_n != n) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint64_t bits;
    int64_t from = -1, n = -1;
    if (size < sizeof bits) return 0;
    memcpy(&bits, data, sizeof bits);
    int64_t bytes = (int64_t)(bits >> 1 >> (bits & 63)); /* small files as often as large ones */
    size -= sizeof bits;
    char *text = malloc(size + 1); /* of just this length, for the sanitizer to watch */
    if (!text) return 0;
    memcpy(text, data + sizeof bits, size);
    text[size] = 0;
    limn_http_range range = limn_http_range_read(text, bytes, &from, &n);
    if (range == LIMN_HTTP_PART) check_part(from, n, bytes);
    if (range == LIMN_HTTP_WHOLE && (from != 0 || n != bytes)) abort();
    free(text);
    return 0;
}
