/* SPDX-License-Identifier: MIT */
/*
 * Packed forms of weights, made once and shared by all programs of a CPU backend.
 *
 * An entry is keyed by the limn_weight and how it is used, and remembers the version it was made
 * from; asking for it again after an adapter changed the weight packs it anew in place, so entry
 * pointers stay valid until the weight is forgotten. One thread at a time.
 */
#ifndef LIMN_BACKEND_WEIGHT_CACHE_H
#define LIMN_BACKEND_WEIGHT_CACHE_H

#include "backend/backend.h"
#include "backend/cpu/pack_store.h"
#include "graph/graph.h"
#include "kernels/pack.h"

typedef enum limn_weight_use {
    LIMN_USE_MATRIX,              /* limn_packed of [n, k] */
    LIMN_USE_CONV,                /* limn_packed of [oc, ic, kh, kw] */
    LIMN_USE_VECTOR,              /* f32 values */
    LIMN_USE_EXPERTS,             /* [experts, n, k]: a limn_packed each, all in their file */
    LIMN_USE_EXPERTS_INPUT_MAJOR, /* [experts, k, n] */
    LIMN_USE_MATRIX_EXACT /* limn_packed of [n, k] that keeps its value at every precision */
} limn_weight_use;

typedef struct limn_weight_entry {
    const limn_weight *w;
    limn_weight_use use;
    uint64_t version; /* 0: not made yet */
    limn_packed *packed;
    limn_packed **experts; /* [shape.dim[0]] */
    float *vector;
    size_t bytes;
    bool stored; /* the store has it */
    bool viewed; /* packed is a view into the store's file */
    struct limn_weight_entry *next;
} limn_weight_entry;

typedef struct limn_weight_cache limn_weight_cache;

/* `store` (taken, also on failure; may be NULL) keeps packed forms on disk. */
limn_status limn_weight_cache_new(limn_weight_cache **out, const limn_kernels *k, limn_pool *pool,
                                  limn_compute compute, limn_pack_store *store, limn_err *err);
/* Writes what was packed anew to the store; small models are not worth a file. */
limn_status limn_weight_cache_save(limn_weight_cache *c, limn_err *err);
void limn_weight_cache_free(limn_weight_cache **c);
/* The entry, packed and up to date. */
limn_status limn_weight_cache_get(limn_weight_entry **out, limn_weight_cache *c,
                                  const limn_weight *w, limn_weight_use use, limn_err *err);
/* Packs again when the weight's version moved on. */
limn_status limn_weight_cache_refresh(limn_weight_cache *c, limn_weight_entry *e, limn_err *err);
/* Weights that will not be used for a while, those that `is_one` is true for, give their memory
 * back: pages of views are dropped (the file stays in the system's cache), and with `made` what was
 * packed here goes to the store and out of memory, unless it is too small to be worth it or
 * adapted. Whatever was let go comes back when it is next used. */
void limn_weight_cache_rest(limn_weight_cache *c, limn_weight_is_fn *is_one, const void *user,
                            bool made);
void limn_weight_cache_forget(limn_weight_cache *c, const limn_weight *w); /* NULL: all */
size_t limn_weight_cache_bytes(const limn_weight_cache *c);

#endif
