/* SPDX-License-Identifier: MIT */
/*
 * Listing the stored (uncompressed) entries of a zip archive inside a file map, as torch.save
 * writes them; zip64 included (PKWARE APPNOTE 4.3). Nothing is extracted: an entry is a range of
 * the map. Compressed or encrypted entries, disagreeing headers, ranges outside the file and
 * duplicate names are refused. Any thread.
 */
#ifndef LIMN_FORMATS_ZIP_H
#define LIMN_FORMATS_ZIP_H

#include "base/fsmap.h"

typedef struct limn_zip_entry {
    const char *name; /* not NUL-terminated: a view into the map */
    size_t name_len;
    const uint8_t *data;
    size_t size;
} limn_zip_entry;

typedef struct limn_zip {
    limn_zip_entry *list; /* sorted by name */
    size_t count;
} limn_zip;

/* The map must outlive the list. */
limn_status limn_zip_open(limn_zip *out, const limn_fsmap *map, limn_err *err);
void limn_zip_close(limn_zip *zip);
/* Entry by name; NULL when there is none. */
const limn_zip_entry *limn_zip_find(const limn_zip *zip, const char *name);

#endif
