/* SPDX-License-Identifier: MIT */
/* Forms of strangers: the first line is their Content-Type, the rest their body. Parts lie inside
 * the body, in order, and none holds the boundary; a refusal has a reason. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "server/multipart.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(bool ok) {
    if (!ok) __builtin_trap();
}

static void read_form(const char *type, const char *body, size_t size) {
    limn_multipart m;
    limn_multipart_part part;
    limn_err err = {0};
    bool more = true;
    const char *last = body;
    if (limn_multipart_open(&m, type, body, size, &err) != LIMN_OK) {
        demand(err.text[0]);
        return;
    }
    for (int n = 0; more; n++) {
        limn_status st = limn_multipart_next(&m, &part, &more, &err);
        demand(n <= LIMN_MULTIPART_PARTS && (st == LIMN_OK || (err.text[0] && !more)));
        if (!more) break;
        demand(part.name[0] && memchr(part.name, 0, sizeof part.name));
        demand(part.data >= last && part.data + part.size <= body + size);
        demand(!memmem(part.data, part.size, m.mark, m.mark_len));
        last = part.data + part.size;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *text = (const char *)data, *line = memchr(text, '\n', size);
    if (!line) return 0;
    size_t n = (size_t)(line - text);
    char *type = limn_mem_strndup(text, n);
    char *body = malloc(size - n); /* exactly as long, so that reading on is seen */
    if (type && body) {
        memcpy(body, line + 1, size - n - 1);
        read_form(type, body, size - n - 1);
    }
    free(body);
    limn_mem_free(type);
    return 0;
}
