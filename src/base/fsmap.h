/* SPDX-License-Identifier: MIT */
/*
 * Read-only memory maps of whole files. Weights are views into such a map.
 *
 * A map is reference-counted and immutable; any thread may read it and ref/unref it. The file must
 * not shrink while it is mapped: limn opens model files only, and says so in its documentation.
 */
#ifndef LIMN_BASE_FSMAP_H
#define LIMN_BASE_FSMAP_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct limn_fsmap {
    const uint8_t *data; /* never NULL for an open map, even when size is 0 */
    size_t size;
    const char *path; /* as given */
} limn_fsmap;

/* Maps a regular file. Errors: E_NOT_FOUND, E_IO (unreadable, a folder, a device), E_NOMEM. */
limn_status limn_fsmap_open(limn_fsmap **out, const char *path, limn_err *err);
/* Shows memory that the caller owns and that outlives the map (a model built into the program);
 * `name` stands where a path would. Hints do nothing. */
limn_status limn_fsmap_wrap(limn_fsmap **out, const char *name, const void *data, size_t size,
                            limn_err *err);
limn_fsmap *limn_fsmap_ref(limn_fsmap *map);
void limn_fsmap_unref(limn_fsmap **map); /* nulls the caller's pointer */
/* Hints: the range will be read soon / its pages may be dropped from memory (they stay readable).
 */
void limn_fsmap_will_need(const limn_fsmap *map, size_t offset, size_t size);
void limn_fsmap_drop(const limn_fsmap *map, size_t offset, size_t size);

#endif
