/* SPDX-License-Identifier: MIT */
/*
 * SentencePiece's precompiled normaliser: a double-array trie of byte strings and their
 * replacements (sentencepiece/src/normalizer.cc). Layout: u32 little-endian size of the trie in
 * bytes, the trie's u32 units, then NUL-terminated replacements that its values point into. Every
 * offset is checked while walking, so a damaged map cannot read outside. Immutable; any thread.
 */
#ifndef LIMN_TEXT_CHARSMAP_H
#define LIMN_TEXT_CHARSMAP_H

#include <stddef.h>

#include "base/mem.h"
#include "base/status.h"

typedef struct limn_charsmap limn_charsmap;

/* Copies the bytes. E_FORMAT when the sizes do not fit, E_NOMEM. */
limn_status limn_charsmap_new(limn_charsmap **out, const void *data, size_t n, limn_err *err);
void limn_charsmap_free(limn_charsmap **map);
/* Appends s with every longest match replaced. */
void limn_charsmap_apply(const limn_charsmap *map, limn_buf *out, const char *s, size_t n);

#endif
