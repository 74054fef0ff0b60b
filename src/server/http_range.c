/* SPDX-License-Identifier: MIT */
/* Parts of files, and whether a client has one already (RFC 9110, sections 13 and 14); see http.h.
 */
#include <inttypes.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/server.h"

bool limn_http_has_tag(const limn_http_req *rq, const char *etag) {
    const char *list = limn_http_header(rq, "If-None-Match");
    return list && (strcmp(list, "*") == 0 || strstr(list, etag) != NULL);
}

/* Digits, as many as there are: a number too large for its type is as good as the largest. */
static bool read_number(int64_t *out, const char **at) {
    char *end;
    size_t n = strspn(*at, "0123456789");
    if (n == 0) return false;
    *out = strtoll(*at, &end, 10);
    *at = end;
    return true;
}

limn_http_range limn_http_range_read(const char *text, int64_t size, int64_t *from, int64_t *n) {
    int64_t first = 0, last = size - 1;
    *from = 0;
    *n = size;
    if (!text || strncmp(text, "bytes=", 6) != 0) return LIMN_HTTP_WHOLE;
    text += 6;
    if (*text == '-') { /* so many at the end */
        text++;
        if (!read_number(&last, &text) || *text) return LIMN_HTTP_WHOLE;
        if (last == 0 || size == 0) return LIMN_HTTP_NOTHING;
        *from = last < size ? size - last : 0;
        *n = size - *from;
        return LIMN_HTTP_PART;
    }
    if (!read_number(&first, &text) || *text++ != '-') return LIMN_HTTP_WHOLE;
    if (*text && (!read_number(&last, &text) || *text || last < first)) return LIMN_HTTP_WHOLE;
    if (first >= size) return LIMN_HTTP_NOTHING;
    *from = first;
    *n = (last < size ? last + 1 : size) - first;
    return LIMN_HTTP_PART;
}

void limn_http_reply_file(limn_http_req *rq, const char *mime, int fd, int64_t size,
                          const char *etag) {
    const char *wanted = limn_http_header(rq, "Range"), *as = limn_http_header(rq, "If-Range");
    int64_t from = 0, n = size;
    limn_http_range range = LIMN_HTTP_WHOLE;
    if (wanted && strcmp(rq->method, "GET") == 0 && (!as || strcmp(as, etag) == 0))
        range = limn_http_range_read(wanted, size, &from, &n);
    if (range == LIMN_HTTP_NOTHING) {
        close(fd);
        limn_http_fail(rq, LIMN_HTTP_BAD_RANGE, NULL, "the file has %" PRId64 " bytes", size);
        limn_http_add_header(rq, "Content-Range", limn_http_printf(rq, "bytes */%" PRId64, size));
        return;
    }
    limn_http_reply_fd(rq, range == LIMN_HTTP_PART ? 206 : 200, mime, fd, from, n);
    limn_http_add_header(rq, "Accept-Ranges", "bytes");
    if (range == LIMN_HTTP_PART)
        limn_http_add_header(rq, "Content-Range",
                             limn_http_printf(rq, "bytes %" PRId64 "-%" PRId64 "/%" PRId64, from,
                                              from + n - 1, size));
}
