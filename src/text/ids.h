/* SPDX-License-Identifier: MIT */
/*
 * A growable list of token ids with a ceiling. Owned by whoever initialised it; one thread at a
 * time. Failure latches as in limn_buf: after the first failed growth additions do nothing, so
 * that a tokenizer can be checked once at its end.
 */
#ifndef LIMN_TEXT_IDS_H
#define LIMN_TEXT_IDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct limn_ids {
    int32_t *data; /* NULL until the first id */
    size_t len, cap;
    size_t limit; /* most ids it may hold */
    bool failed;  /* latched: out of memory, or the limit was reached */
} limn_ids;

void limn_ids_init(limn_ids *ids, size_t limit);
void limn_ids_deinit(limn_ids *ids);
void limn_ids_clear(limn_ids *ids); /* len = 0; keeps memory and the latch */
void limn_ids_add(limn_ids *ids, int32_t id);
void limn_ids_add_all(limn_ids *ids, const int32_t *data, size_t n);

#endif
