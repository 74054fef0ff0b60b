/* SPDX-License-Identifier: MIT */
/*
 * Packed weights on disk, so that the second start of a model packs nothing.
 *
 * One file per source file and instruction set, below a cache folder: a header, then records of
 * (place in the source file, use, bytes of limn_packed). It is mapped, and entries are views into
 * it. A source is known by its device, inode, size and time of change, so an edited model is never
 * confused with its old self. Files are replaced whole by rename; a reader sees the old one or the
 * new one. When the folder grows past its limit the files that were written longest ago go first.
 *
 * One thread at a time.
 */
#ifndef LIMN_BACKEND_PACK_STORE_H
#define LIMN_BACKEND_PACK_STORE_H

#include "graph/graph.h"

typedef struct limn_pack_store limn_pack_store;

/* `variant` tells layouts apart that must not be mixed ("avx2-half"). `limit` in bytes. The folder
 * is made when something is first written. */
limn_status limn_pack_store_new(limn_pack_store **out, const char *dir, const char *variant,
                                uint64_t limit, limn_err *err);
void limn_pack_store_free(limn_pack_store **store); /* views become invalid */

/* The stored bytes of a weight's packed form; NULL when there are none (or the weight is adapted or
 * not from a file). Valid until the store is freed. */
const void *limn_pack_store_find(limn_pack_store *s, const limn_weight *w, int use, size_t *size);

/* One packed form to be written; `bytes` must stay until the save. */
typedef struct limn_pack_item {
    const limn_weight *w;
    int use;
    const void *bytes;
    size_t size;
} limn_pack_item;

/* Writes the items of each source file that has something new, together with what its file held;
 * they are found from then on. E_IO (disk full, read-only folder): the cache is left as it was. */
limn_status limn_pack_store_save(limn_pack_store *s, const limn_pack_item *items, size_t n,
                                 limn_err *err);

#endif
