/* SPDX-License-Identifier: MIT */
/*
 * Inside of a tokenizer, shared by the files tokenizer*.c and nobody else.
 *
 * A loader fills the fields through the helpers below and ends with limn_tokenizer_finish, which
 * derives the tables that encoding and decoding use and checks that everything fits together.
 */
#ifndef LIMN_TEXT_TOKENIZER_IMPL_H
#define LIMN_TEXT_TOKENIZER_IMPL_H

#include "text/pretok.h"
#include "text/tokenizer.h"
#include "text/vocab.h"

typedef enum limn_token_model { LIMN_MODEL_BPE, LIMN_MODEL_UNIGRAM } limn_token_model;

/* A token that is matched in text before the model runs. */
typedef struct limn_added_token {
    limn_text_view text;  /* what is matched; of `normalized` tokens its normalised form */
    limn_text_view shown; /* what decoding prints */
    int32_t id;
    bool special, normalized, lstrip, rstrip, single_word;
} limn_added_token;

struct limn_tokenizer {
    limn_arena arena;
    limn_token_model model;
    limn_vocab vocab;   /* byte-level: raw bytes; else the spelling */
    limn_merges merges; /* BPE by rank */
    double *scores;     /* [vocab.n] unigram, BPE by score; else NULL */
    bool single_scores; /* they are floats and so are their sums */
    size_t n_scores;    /* how many of them were given */
    bool by_score, byte_level, byte_fallback, fuse_unk, ignore_merges;
    char *suffix; /* end of word: "</w>", or NULL */
    size_t suffix_len;
    int32_t byte_id[256];     /* byte-level: the byte's token; byte_fallback: <0xXX>; -1 none */
    int32_t byte_end_id[256]; /* the same with the suffix */
    double unk_score;
    size_t longest;

    limn_added_token *added; /* [n_added] sorted by text, plain ones first, then normalised */
    size_t n_added, cap_added, n_plain;

    limn_text_ops normalize, pre;
    int32_t bos, eos, pad, unk;
    int32_t first_id, last_id; /* what LIMN_ENCODE_BOS / _EOS put around, -1: nothing */

    /* decoding */
    char *space;         /* "\xE2\x96\x81" is printed as " ", or NULL */
    bool strip_first;    /* one leading space of the whole text is dropped */
    limn_text_view *out; /* [vocab.n] */
    unsigned char *kind; /* [vocab.n] LIMN_TOKEN_* */
};

enum { LIMN_TOKEN_SPECIAL = 1, LIMN_TOKEN_ADDED = 2 };

limn_status limn_tokenizer_start(limn_tokenizer **out, limn_err *err);
/* Derives tables; the tokenizer is ready afterwards. E_FORMAT, E_NOMEM. */
limn_status limn_tokenizer_finish(limn_tokenizer *t, limn_err *err);
/* Adds a model token by its spelling in files (byte-level spelling is turned into bytes). */
limn_status limn_tokenizer_add_token(limn_tokenizer *t, int32_t id, const char *s, size_t n,
                                     bool findable, limn_err *err);
/* Id of a model token by its spelling in files; -1. */
int32_t limn_tokenizer_model_find(const limn_tokenizer *t, const char *s, size_t n);
/* Before the merges, when the vocabulary is complete: n will come. E_NOMEM. */
limn_status limn_tokenizer_start_merges(limn_tokenizer *t, size_t n, limn_err *err);
/* Adds the next merge, of two spelled tokens. E_FORMAT when they do not make a token. (Parts that
 * are no tokens never meet; where merges make the tokens in order that is not looked for.) */
limn_status limn_tokenizer_add_merge(limn_tokenizer *t, limn_text_view left, limn_text_view right,
                                     uint32_t rank, limn_err *err);
/* Splits "left right" at its one space. E_FORMAT. */
limn_status limn_tokenizer_add_merge_line(limn_tokenizer *t, limn_text_view line, uint32_t rank,
                                          limn_err *err);
/* Adds a matched token; also gives its id to the vocabulary when the model has none of that id. */
limn_status limn_tokenizer_add_added(limn_tokenizer *t, const limn_added_token *a, limn_err *err);

/* Operations by hand; each appends to `ops`. */
limn_status limn_ops_add_simple(limn_text_ops *ops, limn_text_op_kind kind, limn_err *err);
limn_status limn_ops_add_form(limn_text_ops *ops, limn_normal_form form, limn_err *err);
limn_status limn_ops_add_split(limn_text_ops *ops, const char *regex, limn_split_behavior behavior,
                               bool invert, limn_err *err);
limn_status limn_ops_add_replace(limn_text_ops *ops, limn_text_view pattern, bool regex,
                                 limn_text_view text, limn_err *err);
limn_status limn_ops_add_text(limn_text_ops *ops, limn_text_op_kind kind,
                              limn_prepend_scheme scheme, limn_text_view text, limn_err *err);

/* The expression of the ByteLevel pre-tokenizer (GPT-2). */
extern const char limn_gpt2_regex[];
/* Qwen2 and Qwen3. */
extern const char limn_qwen2_regex[];
/* The operations of CLIP. */
limn_status limn_tokenizer_set_clip(limn_tokenizer *t, limn_err *err);

/* Reads a whole file of at most `limit` bytes into *out (limn_mem_free, NUL-terminated). */
limn_status limn_tokenizer_read_file(char **out, size_t *n, const char *path, size_t limit,
                                     limn_err *err);

#define LIMN_METASPACE "\xE2\x96\x81"

#endif
