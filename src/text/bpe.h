/* SPDX-License-Identifier: MIT */
/*
 * Pair merging: the inner loop of all BPE tokenizers.
 *
 * A word is a list of symbols; the neighbouring pair with the best rank (leftmost among equals) is
 * joined until none is left. Ranks come from a merge table, or, for SentencePiece models, from the
 * score of the joined token. Short words are scanned, long ones use a heap: O(n log n) for any
 * input. Both give the same result (test_tokenizer.c). Immutable models, scratch per call.
 */
#ifndef LIMN_TEXT_BPE_H
#define LIMN_TEXT_BPE_H

#include "text/ids.h"
#include "text/vocab.h"

/* One symbol of a word. `len` bytes at `at`, an id or -1 when the vocabulary lacks it. */
typedef struct limn_bpe_symbol {
    int32_t id;
    uint32_t at, len;
    int32_t prev, next; /* -1 at the ends; kept by limn_bpe_merge */
} limn_bpe_symbol;

typedef struct limn_bpe_scratch {
    limn_bpe_symbol *symbol; /* filled by the caller: [n] */
    size_t n, cap;
    void *heap;
    size_t heap_len, heap_cap;
    bool failed;    /* latched: out of memory */
    bool heap_only; /* tests: never scan */
} limn_bpe_scratch;

typedef struct limn_bpe_rules {
    const limn_merges *merges; /* NULL: by score */
    const limn_vocab *vocab;
    const double *scores; /* by score: [vocab->n] */
} limn_bpe_rules;

void limn_bpe_scratch_deinit(limn_bpe_scratch *s);
void limn_bpe_add_symbol(limn_bpe_scratch *s, int32_t id, size_t at, size_t len);
/* Joins symbols of `text` until no rule applies. What remains is the chain from symbol 0 by `next`.
 */
void limn_bpe_merge(limn_bpe_scratch *s, const limn_bpe_rules *rules, const char *text);

#endif
