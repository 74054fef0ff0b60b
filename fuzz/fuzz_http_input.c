/* SPDX-License-Identifier: MIT */
/* What comes in over HTTP besides its head: JSON bodies, base64, heads of pictures, query escapes.
 */
#include <stdlib.h>
#include <string.h>

#include "server/api/api.h"
#include "server/http_gate.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_json(const char *text, size_t size) {
    json_t *o = NULL;
    limn_err err = {0};
    if (limn_json_read(&o, text, size, &err) != LIMN_OK) {
        if (o || !err.text[0]) abort();
        return;
    }
    char *again = json_dumps(o, JSON_ENCODE_ANY);
    if (!again) abort();
    free(again);
    json_decref(o);
}

static void fuzz_base64(const char *text, size_t size) {
    void *bytes;
    size_t n;
    if (limn_base64_read(&bytes, &n, text, size, NULL) != LIMN_OK) return;
    char *back = limn_base64_write(bytes, n);
    void *same;
    size_t m;
    if (!back || limn_base64_read(&same, &m, back, strlen(back), NULL) != LIMN_OK || m != n ||
        memcmp(same, bytes, n) != 0)
        abort();
    limn_mem_free(bytes);
    limn_mem_free(same);
    limn_mem_free(back);
}

static void fuzz_picture(const uint8_t *data, size_t size) {
    limn_picture_head head;
    if (limn_picture_sniff(&head, data, size, NULL) != LIMN_OK) return;
    if (!head.mime || head.width < 1 || head.height < 1 ||
        (int64_t)head.width * head.height > LIMN_LIMIT_PIXELS)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1) return 0;
    const char *text = (const char *)data + 1;
    size--;
    switch (data[0] % 4) {
    case 0: fuzz_json(text, size); break;
    case 1: fuzz_base64(text, size); break;
    case 2: fuzz_picture(data + 1, size); break;
    default: {
        char *out = malloc(size + 1);
        if (out && limn_http_decode(out, text, size, true) && strlen(out) > size) abort();
        free(out);
    }
    }
    return 0;
}
