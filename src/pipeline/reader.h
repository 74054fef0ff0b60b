/* SPDX-License-Identifier: MIT */
/*
 * A language model that is reading: the decoder's programs, the KV cache, and how far each of its
 * texts has come. Text and picture rows go in, the logits of the last token come out. Prefill runs
 * in chunks, one token at a time runs the program of length 1; no plan is made per token.
 *
 * A text's cache row and its rotary position differ once it holds pictures; both are kept here.
 * What does not fit the context is refused, nothing is forgotten silently. One thread at a time.
 */
#ifndef LIMN_PIPELINE_READER_H
#define LIMN_PIPELINE_READER_H

#include "backend/backend.h"
#include "formats/llm_config.h"
#include "kernels/attention.h"
#include "models/model_weights.h"
#include "models/qwen3vl_host.h"

typedef struct limn_reader limn_reader;

typedef struct limn_reader_options {
    int64_t context;   /* positions of each text */
    int64_t sequences; /* texts held at once; 0 counts as 1 */
    int64_t chunk;     /* tokens of a prefill step; 0: 512 */
    limn_dtype cache;  /* f32, f16, bf16, q8_0 */
} limn_reader_options;

/* Rows of the vision tower for one place of a text: [rows * cols, width] each. */
typedef struct limn_reader_picture {
    const float *merged;
    const float *deepstack[LIMN_DEEPSTACK_MAX];
} limn_reader_picture;

typedef struct limn_reader_text {
    const int32_t *ids;
    int64_t n;
    const limn_vision_place *places;     /* where ids stand for pictures, in order */
    const limn_reader_picture *pictures; /* [n_places] */
    size_t n_places;
} limn_reader_text;

/* Backend and weights are borrowed and must outlive the reader. E_LIMIT, E_UNSUPPORTED (cache
 * type), E_NOMEM. */
limn_status limn_reader_new(limn_reader **out, limn_backend *b, limn_model_weights *w,
                            const limn_decoder_config *cfg, const limn_reader_options *opt,
                            limn_err *err);
void limn_reader_free(limn_reader **r);
const limn_decoder_config *limn_reader_config(const limn_reader *r);
/* Tokens held of a text, and how many more fit. */
int64_t limn_reader_length(const limn_reader *r, int64_t sequence);
int64_t limn_reader_room(const limn_reader *r, int64_t sequence);

/* Continues a text by n >= 1 tokens; *logits [vocab] of the last one, valid until the next call.
 * E_CONTEXT when it does not fit (the text is then unchanged), E_CANCELLED (tokens of finished
 * chunks stay), E_VALUE (ids, places). */
limn_status limn_reader_read(limn_reader *r, int64_t sequence, const limn_reader_text *text,
                             const float **logits, const atomic_bool *cancel, limn_err *err);

/*
 * The same in pieces, so that others may take their turn: one step reads one chunk. `text` is
 * borrowed until the feed is freed. Between the steps nothing else may change the sequence.
 */
typedef struct limn_reader_feed limn_reader_feed;
limn_status limn_reader_feed_new(limn_reader_feed **out, limn_reader *r, int64_t sequence,
                                 const limn_reader_text *text, limn_err *err);
void limn_reader_feed_free(limn_reader_feed **f);
/* Tokens of the text that are read; text->n: all. */
int64_t limn_reader_feed_done(const limn_reader_feed *f);
/* *logits as above after the last chunk, NULL before. */
limn_status limn_reader_feed_step(limn_reader_feed *f, const float **logits,
                                  const atomic_bool *cancel, limn_err *err);

/* One token more for each of n texts, computed together: ids[i] continues sequences[i] (all
 * different). logits[i] [vocab], valid until the next call. E_CONTEXT when one of them is full. */
limn_status limn_reader_step(limn_reader *r, size_t n, const int64_t *sequences, const int32_t *ids,
                             const float **logits, const atomic_bool *cancel, limn_err *err);

/*
 * Guesses: n >= 1 tokens behind the text, computed together. logits[i] [vocab] are those behind
 * ids[i], valid until the next call. The text stays as it is until limn_reader_accept takes the
 * first of the tokens that are not taken yet; any other call forgets them. E_LIMIT when they do not
 * fit the context or are more than LIMN_READER_GUESSES, E_VALUE (ids), E_CANCELLED.
 */
enum { LIMN_READER_GUESSES = LIMN_ATTENTION_FEW_QUERIES };
limn_status limn_reader_try(limn_reader *r, int64_t sequence, const int32_t *ids, int64_t n,
                            const float **logits, const atomic_bool *cancel, limn_err *err);
void limn_reader_accept(limn_reader *r, int64_t sequence);
/* Whether logits of guesses have the bits that reading one token after the other gives. `expanded`:
 * quantised weights are widened to f32 (precision exact). */
bool limn_reader_is_exact(const limn_reader *r, bool expanded);

/* One of several ways a text may go on. */
typedef struct limn_reader_branch {
    const int32_t *ids;
    int64_t n;  /* >= 1 */
    double sum; /* out: the log-probability of all of them, one after the other */
} limn_reader_branch;

/* Scores branches behind the text of a sequence, whose next token has these logits; as many as fit
 * 32 rows are computed together. The text stays as it is; ids from `usable` on (0: none) have no
 * probability. E_CONTEXT when the longest does not fit, E_VALUE (ids), E_CANCELLED. */
limn_status limn_reader_score(limn_reader *r, int64_t sequence, const float *logits, int32_t usable,
                              limn_reader_branch *branches, size_t n, const atomic_bool *cancel,
                              limn_err *err);
/* Bytes that the cache, every program that may be made (planned, not made) and look-ups of the
 * token embedding take together, without the backend's scratch. */
limn_status limn_reader_need(size_t *bytes, const limn_reader *r, limn_err *err);
/* Bytes that cache and programs take so far. */
size_t limn_reader_bytes(const limn_reader *r);

/* A place in a text to come back to. */
typedef struct limn_reader_mark {
    int64_t length;
    int32_t position;
} limn_reader_mark;
limn_reader_mark limn_reader_get_mark(const limn_reader *r, int64_t sequence);
/* Forgets what came after the mark of this text; {0, 0} empties it. */
void limn_reader_set_mark(limn_reader *r, int64_t sequence, limn_reader_mark mark);
/* Text `to` becomes the beginning of `from` up to a mark of that one. */
void limn_reader_fork(limn_reader *r, int64_t to, int64_t from, limn_reader_mark mark);

#endif
