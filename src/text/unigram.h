/* SPDX-License-Identifier: MIT */
/*
 * The unigram model of SentencePiece: the most probable way to cut a piece into tokens, found by
 * Viterbi over byte positions. Where the vocabulary has no token for a character, the character
 * costs `unk_score` and neighbouring ones are joined (tokenizers' encode_optimized).
 */
#ifndef LIMN_TEXT_UNIGRAM_H
#define LIMN_TEXT_UNIGRAM_H

#include "text/vocab.h"

#define LIMN_UNIGRAM_TOKEN_MAX 512 /* longest token in bytes */

typedef struct limn_unigram {
    const limn_vocab *vocab;
    const double *scores; /* [vocab->n] log probabilities */
    bool single;          /* sums in float, as SentencePiece has them; else double (tokenizers) */
    size_t longest;       /* bytes of the longest token, at most LIMN_UNIGRAM_TOKEN_MAX */
    double unk_score;     /* lowest score - 10 */
} limn_unigram;

/* A stretch of the piece: a token, or id -1 for joined unknown characters. */
typedef struct limn_unigram_cut {
    int32_t id;
    uint32_t begin, end;
} limn_unigram_cut;

/* Cuts s[0..n) into *cuts, in order; the caller frees with limn_mem_free. E_NOMEM. */
limn_status limn_unigram_cut_text(const limn_unigram *u, limn_unigram_cut **cuts, size_t *count,
                                  const char *s, size_t n, limn_err *err);

#endif
