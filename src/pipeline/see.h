/* SPDX-License-Identifier: MIT */
/*
 * The inside of seeing: what limn.h calls a limn_seer and a limn_look.
 *
 * A seer owns the model, a backend of its own (so that drawing may go on meanwhile on another
 * thread), one reader with a KV cache of `sequences` slots, and the picture encoder. A slot
 * remembers what its cache rows stand for, ids and pictures by content; a new look takes the slot
 * that shares the longest beginning with it, or a copy of that, and reads only the rest.
 *
 * A look goes through stages: pictures are encoded, the prompt is read in chunks, then it writes;
 * limn_seer_step does one piece at a time (see.c). look.c is about one look, answer.c about what is
 * handed out. One thread at a time.
 */
#ifndef LIMN_PIPELINE_SEE_H
#define LIMN_PIPELINE_SEE_H

#include "base/cancel.h"
#include "pipeline/draft.h"
#include "pipeline/engine.h"
#include "pipeline/generate.h"
#include "pipeline/talk.h"
#include "text/grammar.h"

/* ---- the seer ---- */

enum { LIMN_SEQUENCES_MAX = 64 }; /* as the row "sequences" of seeing_table.c */

/* What the rows of a sequence's cache stand for. */
typedef struct limn_seer_slot {
    limn_ids ids;
    limn_talk_picture *pictures; /* pixels are gone; place and key count */
    size_t n_pictures, cap_pictures;
    limn_look *look; /* that uses it now; NULL: free */
    uint64_t used;   /* the seer's clock */
} limn_seer_slot;

struct limn_seer {
    limn_engine *engine; /* lookups and the backend; never draws */
    limn_backend *backend;
    limn_vl_model *model;
    limn_reader *reader;
    limn_picture_encoder *encoder; /* NULL: text only */
    limn_token_trie *trie;         /* made when a grammar is first asked for */
    int64_t context;
    limn_seer_slot *slots;
    int n_slots;
    limn_look *first, *last; /* looks in the order in which they came */
    uint64_t clock;
    bool read_last; /* the last step read; writers go first now */
    limn_draft_cost cost;
    bool guesses, guess_always; /* guesses leave answers as they are; tests: whatever they cost */
    size_t cache_bytes;
    const char *cache_type; /* of its keys and values; static */
    size_t need; /* bytes that questions take at most, weights included, without pictures */
    char note[256];
};

/* Shares the cores with others that have the same turns; between looks. */
void limn_seer_share(limn_seer *s, limn_turns *turns);
/* Bytes that a question with one picture of this size takes at most, weights included.
 * E_UNSUPPORTED when it takes no pictures. */
limn_status limn_seer_need_picture(size_t *bytes, const limn_seer *s, int height, int width,
                                   limn_err *err);
/* Takes a free slot for the prompt, with as much of its beginning as some slot holds: *cached
 * tokens. NULL when all are in use. */
limn_seer_slot *limn_seer_slot_take(limn_seer *s, const limn_talk_prompt *p, int64_t *cached);
/* The slot now holds the first `n` tokens of the prompt. E_NOMEM. */
limn_status limn_seer_slot_set(limn_seer_slot *slot, const limn_talk_prompt *p, int64_t n,
                               limn_err *err);
static inline int64_t limn_seer_slot_index(const limn_seer *s, const limn_seer_slot *slot) {
    return slot - s->slots;
}

/* ---- a look ---- */

typedef enum limn_look_stage {
    LIMN_LOOK_ENCODE,
    LIMN_LOOK_READ,
    LIMN_LOOK_WRITE,
    LIMN_LOOK_DONE
} limn_look_stage;

/* Parts the stream of an answer: thinking, text, tool calls. */
typedef struct limn_look_sink {
    limn_said_kind kind;
    limn_buf pending;         /* may be the beginning of a mark */
    limn_buf text, reasoning; /* what was said of each */
    limn_buf call;            /* the call that is being written */
    limn_buf calls;           /* finished ones: JSON texts, each with a NUL behind */
    int64_t thoughts;         /* tokens of the thinking, with the mark that ends it */
    bool tools, begun;        /* calls are expected; text other than white space was said */
    bool fresh;               /* after a mark: line breaks are not part of what follows */
} limn_look_sink;

struct limn_look {
    limn_seer *seer;
    limn_look *next;
    limn_look_stage stage;
    limn_status st; /* how it ended */
    limn_err err;
    limn_look_watch watch;
    limn_params *see;
    limn_talk_prompt prompt;
    limn_picture_rows **rows; /* [prompt.n_pictures] references; NULL: not needed or not yet */
    size_t encoded;           /* pictures that are looked after */
    int64_t cached, patches;
    size_t memory; /* bytes that it takes at most, reckoned before the work */
    int cached_images;
    limn_seer_slot *slot;
    limn_vision_place *places; /* of what is read */
    limn_reader_picture *pictures;
    limn_reader_text text;
    limn_reader_feed *feed;
    limn_generate_request request;
    limn_pick_options pick;
    limn_logit_bias *bias;
    limn_generate_result result;
    limn_writer *writer;
    limn_draft draft; /* .before is NULL until it writes */
    int64_t draft_tokens;
    int64_t seed;
    limn_grammar *grammar;
    limn_constraint *constraint;
    uint32_t *mask;
    limn_reader_branch *branches; /* [n_branches] answers to score instead of writing one */
    size_t n_branches;
    limn_ids branch_ids;
    int32_t wait_for; /* the constraint begins after this id; -1: at once */
    limn_look_sink sink;
    limn_token_logprobs *tokens;
    size_t n_tokens, cap_tokens;
    bool stopped; /* by watch.said */
    double began, image_seconds, read_seconds, first, written, stage_began;
};

/* Before the first step: instead of writing, the look gives the answers `lead` + texts[i] (and the
 * end of the turn, when `whole`) their log-probabilities: l->branches[i].sum, without the lead's.
 */
limn_status limn_look_score(limn_look *l, const char *lead, const char *const *texts, size_t n,
                            bool whole, limn_err *err);
/* Which frames and pages of files are looked at. E_VALUE: pages that are no range. */
limn_status limn_media_settle(limn_media_options *m, const limn_seeing *o, limn_err *err);

/* One piece of work of a look that is encoding or reading. Errors are the look's own. */
void limn_look_advance(limn_look *l);
/* Takes the logits of its next token; afterwards it is writing or done. */
void limn_look_take_logits(limn_look *l, const float *logits);
/* Ends a look with this status; gives its slot back. */
void limn_look_end(limn_look *l, limn_status st);
bool limn_look_is_cancelled(const limn_look *l);

/* ---- sinks (look_sink.c) ---- */
typedef bool limn_look_say(limn_look *l, limn_said_kind kind, const char *text, size_t len);
/* first: what the answer begins in the middle of, by the opening of its turn. */
limn_status limn_look_sink_init(limn_look_sink *s, limn_said_kind first, bool tools);
void limn_look_sink_deinit(limn_look_sink *s);
/* Parts `text` and says what is certain; `last`: nothing follows. false: the listener has enough.
 */
bool limn_look_sink_add(limn_look *l, limn_look_say *say, const char *text, size_t len, bool last);

/* ---- answers (answer.c) ---- */
limn_status limn_answer_make(limn_answer **out, limn_look *l, limn_err *err);

#endif
