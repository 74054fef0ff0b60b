/* SPDX-License-Identifier: MIT */
/*
 * What happens to text before the model sees it: normalisers that rewrite it and pre-tokenizers
 * that cut it into pieces. Both are lists of operations, the data form of the `normalizer` and
 * `pre_tokenizer` trees of a tokenizer.json. Lists are immutable once built; any thread may run
 * them, each run has scratch of its own.
 */
#ifndef LIMN_TEXT_PRETOK_H
#define LIMN_TEXT_PRETOK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "base/status.h"
#include "text/charsmap.h"
#include "text/tokenizer.h"
#include "text/unicode.h"

#define LIMN_TEXT_MAX ((size_t)1 << 30) /* longest text that is tokenised at once */

/* A regular expression (Unicode, as Oniguruma reads it where the dialects agree) or a literal. */
typedef struct limn_pattern limn_pattern;
limn_status limn_pattern_new(limn_pattern **out, const char *text, size_t n, bool regex,
                             limn_err *err); /* E_FORMAT: does not compile */
void limn_pattern_free(limn_pattern **p);

typedef enum limn_text_op_kind {
    LIMN_OP_NORMAL_FORM, /* form */
    LIMN_OP_LOWER,
    LIMN_OP_REPLACE,      /* pattern -> text */
    LIMN_OP_PREPEND,      /* text before a piece that is not empty */
    LIMN_OP_STRIP,        /* white space at left and/or right */
    LIMN_OP_CHARSMAP,     /* SentencePiece's precompiled map */
    LIMN_OP_PREFIX_SPACE, /* " " before a piece that does not begin with white space */
    LIMN_OP_METASPACE,    /* " " -> text, text before the piece by `scheme` */
    LIMN_OP_SQUEEZE,      /* SentencePiece: outer spaces dropped, inner runs become one */
    LIMN_OP_SPLIT         /* pattern, behavior, invert: cuts */
} limn_text_op_kind;

typedef enum limn_split_behavior {
    LIMN_SPLIT_ISOLATED,       /* matches are pieces of their own */
    LIMN_SPLIT_REMOVED,        /* matches are dropped */
    LIMN_SPLIT_MERGE_PREVIOUS, /* a match ends the piece before it */
    LIMN_SPLIT_MERGE_NEXT,     /* a match begins the piece after it */
    LIMN_SPLIT_CONTIGUOUS      /* like isolated; neighbouring matches are one piece */
} limn_split_behavior;

typedef enum limn_prepend_scheme {
    LIMN_PREPEND_ALWAYS,
    LIMN_PREPEND_FIRST, /* only at the very beginning of the input */
    LIMN_PREPEND_NEVER
} limn_prepend_scheme;

typedef struct limn_text_op {
    limn_text_op_kind kind;
    limn_normal_form form;
    limn_pattern *pattern; /* owned */
    char *text;            /* owned */
    size_t text_len;
    limn_charsmap *map; /* owned */
    limn_split_behavior behavior;
    limn_prepend_scheme scheme;
    bool invert, left, right;
} limn_text_op;

enum { LIMN_TEXT_OPS_MAX = 24 };

typedef struct limn_text_ops {
    limn_text_op op[LIMN_TEXT_OPS_MAX];
    size_t n;
} limn_text_ops;

/* Takes over what `op` owns, also on failure. E_LIMIT: list full. */
limn_status limn_text_ops_add(limn_text_ops *ops, limn_text_op op, limn_err *err);
void limn_text_ops_deinit(limn_text_ops *ops);

typedef struct limn_piece {
    uint32_t begin, end; /* bytes of pieces.text */
} limn_piece;

/* Text and its pieces, in order. Zero-initialise; reusable. */
typedef struct limn_pieces {
    limn_buf text;
    limn_piece *item;
    size_t n, cap;
    bool failed; /* latched: out of memory */
} limn_pieces;

void limn_pieces_deinit(limn_pieces *p);
/* Starts with one piece: all of s (none when s is empty). */
void limn_pieces_set(limn_pieces *p, const char *s, size_t n);

/* Runs all operations. `first`: the text stands at the beginning of the input. Errors: E_LIMIT (an
 * expression needs too much work on this text), E_NOMEM. */
limn_status limn_text_ops_run(const limn_text_ops *ops, limn_pieces *p, bool first, limn_err *err);

#endif
