/* SPDX-License-Identifier: MIT */
/*
 * multipart/form-data (RFC 7578, RFC 2046 section 5.1) of a body that is complete in memory:
 * strict, without copies of the parts. What is not exactly a form is refused: no preamble, no
 * nesting, no transfer encodings, a final boundary, and names of files that are names only.
 */
#ifndef LIMN_SERVER_MULTIPART_H
#define LIMN_SERVER_MULTIPART_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

enum {
    LIMN_MULTIPART_PARTS = 64,
    LIMN_MULTIPART_HEAD_BYTES = 4096, /* headers of one part */
    LIMN_MULTIPART_NAME_BYTES = 64,
    LIMN_MULTIPART_BOUNDARY_BYTES = 70 /* RFC 2046 */
};

typedef struct limn_multipart_part {
    char name[LIMN_MULTIPART_NAME_BYTES];
    bool file;        /* it has a file name */
    const char *data; /* borrowed from the body */
    size_t size;
} limn_multipart_part;

/* A place in a body, borrowed. */
typedef struct limn_multipart {
    const char *at, *end;
    char mark[LIMN_MULTIPART_BOUNDARY_BYTES + 5]; /* CR LF "--" boundary */
    size_t mark_len;
    int parts;
} limn_multipart;

/* E_VALUE: the type names no form, or has no boundary. */
limn_status limn_multipart_open(limn_multipart *m, const char *content_type, const void *body,
                                size_t size, limn_err *err);
/* *more false: there was no other part, and the form ended as it has to. E_VALUE, E_LIMIT. */
limn_status limn_multipart_next(limn_multipart *m, limn_multipart_part *part, bool *more,
                                limn_err *err);

#endif
