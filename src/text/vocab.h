/* SPDX-License-Identifier: MIT */
/*
 * Vocabulary of a tokenizer: id <-> bytes, and the table of pair merges.
 *
 * Both are hash tables with open addressing, filled once while a tokenizer is built by one thread
 * and read by any thread afterwards. Bytes live in the vocabulary's arena.
 */
#ifndef LIMN_TEXT_VOCAB_H
#define LIMN_TEXT_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "base/status.h"
#include "text/tokenizer.h"

#define LIMN_VOCAB_MAX                                                                             \
    (1u << 22) /* ids are below this; the largest known vocabulary is 262,208                      \
                */

typedef struct limn_vocab {
    limn_arena arena;
    limn_text_view *item; /* [n] bytes of each id; data NULL: the id has no token */
    size_t n, cap;        /* n: highest id + 1 */
    uint32_t *slot;       /* [mask + 1] id + 1, 0: empty */
    size_t mask, used;
    bool repeats; /* some findable token has the bytes of another */
} limn_vocab;

void limn_vocab_init(limn_vocab *v);
void limn_vocab_deinit(limn_vocab *v);
/* Room for n findable tokens, so that nothing is moved while they come. E_NOMEM. */
limn_status limn_vocab_reserve(limn_vocab *v, size_t n, limn_err *err);
/* Gives `id` its bytes. With `findable` limn_vocab_find can answer it; of equal bytes the first
 * stays findable. Errors: E_FORMAT (id out of range or given twice), E_NOMEM. */
limn_status limn_vocab_add(limn_vocab *v, int32_t id, const char *bytes, size_t n, bool findable,
                           limn_err *err);
/* -1: absent */
int32_t limn_vocab_find(const limn_vocab *v, const char *bytes, size_t n);
/* An empty view for ids without a token. */
limn_text_view limn_vocab_bytes(const limn_vocab *v, int32_t id);

/* A merge: left right -> id; the lower rank goes first. */
typedef struct limn_merge {
    int32_t left, right, id;
    uint32_t rank;
} limn_merge;

/*
 * A table; or, where merge i makes token first + i (GPT-2, Qwen, Llama 3), only where each token is
 * cut: nothing has to be looked up to build that, and a pair is found by the bytes of both.
 */
typedef struct limn_merges {
    limn_merge *slot; /* [mask + 1]; left < 0: empty */
    size_t mask, used;
    uint16_t *cut; /* [n_cuts] bytes of the left part; NULL: the table is used */
    size_t n_cuts, cap_cuts;
    int32_t first;
} limn_merges;

void limn_merges_deinit(limn_merges *m);
/* A table with room for n merges. E_NOMEM. */
limn_status limn_merges_reserve(limn_merges *m, size_t n, limn_err *err);
/* Needs room; a later merge of the same pair replaces the earlier, as in the reference. */
void limn_merges_add(limn_merges *m, const limn_merge *merge);
/* Instead of a table, as long as every merge fits; n in all. E_NOMEM. */
limn_status limn_merges_start_cuts(limn_merges *m, size_t n, limn_err *err);
/* The next merge of a vocabulary that repeats nothing: `left` and the rest of `both`. false: it
 * does not make the next token, and limn_merges_leave_cuts has to follow. */
bool limn_merges_add_cut(limn_merges *m, const limn_vocab *v, const char *both, size_t left,
                         size_t n);
/* Turns cuts into a table. E_FORMAT when a part of a merge is no token, E_NOMEM. */
limn_status limn_merges_leave_cuts(limn_merges *m, const limn_vocab *v, limn_err *err);
/* The merge of two tokens with the bytes `both`, of which the first has `left`. */
bool limn_merges_find(limn_merge *out, const limn_merges *m, const limn_vocab *v, int32_t left_id,
                      int32_t right_id, const char *both, size_t left, size_t n);

#endif
