/* SPDX-License-Identifier: MIT */
/*
 * The studio's files inside the program: written by tools/embed_files.py from web/dist when limn is
 * built. One block of bytes, one row per file and coding. Immutable.
 */
#ifndef LIMN_SERVER_STATIC_FILES_H
#define LIMN_SERVER_STATIC_FILES_H

#include <stddef.h>

typedef struct limn_static_part {
    size_t at, size; /* in limn_static_bytes; size 0: there is none */
} limn_static_part;

typedef struct limn_static_file {
    const char *path; /* "/index.html" */
    const char *mime;
    const char *etag; /* "\"...\"" */
    int immutable;    /* its name has a hash of its contents */
    limn_static_part plain, gzip, brotli;
} limn_static_file;

extern const limn_static_file limn_static_files[]; /* ends with a NULL path */
extern const unsigned char limn_static_bytes[];

#endif
