/* SPDX-License-Identifier: MIT */
/*
 * The generation loop: read the prompt, pick, read the pick, until a stop id, a stop string, the
 * number of tokens asked for, the end of the context, a text that only repeats itself, or the
 * caller's word.
 *
 * Text streams as it becomes certain: a UTF-8 character that is not complete and an ending that may
 * become a stop string are held back. A limn_writer is the same without the reading, for those who
 * compute several texts together. One thread at a time.
 */
#ifndef LIMN_PIPELINE_GENERATE_H
#define LIMN_PIPELINE_GENERATE_H

#include "limn.h"
#include "pipeline/reader.h"
#include "pipeline/token_picker.h"
#include "text/ids.h"
#include "text/tokenizer.h"

enum { LIMN_STOP_STRINGS_MAX = 16, LIMN_STOP_STRING_BYTES = 256 };

typedef struct limn_generated {
    const limn_pick *pick; /* NULL when only held back text is delivered at the end */
    const char *text;      /* what became certain; may be empty */
    size_t len;
} limn_generated;

/* false ends the generation. */
typedef bool limn_on_token_fn(void *user, const limn_generated *g);

typedef struct limn_generate_request {
    int64_t sequence;
    const limn_reader_text *prompt; /* continues what the sequence holds */
    const int32_t *seen;            /* ids already in the sequence, for the repetition penalty */
    size_t n_seen;
    int64_t max_tokens;              /* 0: as many as fit */
    int64_t loop_limit;              /* ends after so many tokens of exact repetition; 0: never */
    const limn_pick_options *pick;   /* NULL: limn_pick_greedy */
    const limn_tokenizer *tokenizer; /* NULL: ids only, no text and no stop strings */
    const int32_t *stop_ids;         /* besides those of the model's config */
    size_t n_stop_ids;
    bool ignore_stop_ids;
    const char *const *stop; /* strings of 1 to 256 bytes, at most 16 */
    size_t n_stop;
    /* Both or none: the allowed ids before each pick (see limn_token_picker_take), and the pick. */
    limn_status (*allow)(void *user, const uint32_t **ids, limn_err *err);
    limn_status (*picked)(void *user, int32_t id, limn_err *err);
    limn_on_token_fn *on_token; /* may be NULL */
    void *user;
    const atomic_bool *cancel;
} limn_generate_request;

typedef struct limn_generate_result {
    limn_ids ids; /* picked, a final stop id included */
    limn_buf text;
    limn_finish finish;
    int64_t prompt_tokens;
    int32_t stop_id;  /* with LIMN_FINISH_STOP_ID, else -1 */
    const char *stop; /* the request's string, with LIMN_FINISH_STOP_STRING, else NULL */
} limn_generate_result;

void limn_generate_result_init(limn_generate_result *out);
void limn_generate_result_deinit(limn_generate_result *out);

/* Appends to an initialised result; what was made before an error stays in it. The sequence then
 * holds the prompt and every picked token but the last. Errors: those of limn_reader_read and of
 * the picker; E_VALUE for unusable stop strings. */
limn_status limn_generate(limn_generate_result *out, limn_reader *r,
                          const limn_generate_request *req, limn_err *err);

/* One text being written: from logits to picks, held-back text and the end. */
typedef struct limn_writer limn_writer;

/* `result` (initialised) and `req` are borrowed and must outlive the writer; of the request's
 * prompt only the ids are read, here. E_VALUE as above. */
limn_status limn_writer_new(limn_writer **out, limn_generate_result *result,
                            const limn_decoder_config *cfg, const limn_generate_request *req,
                            limn_err *err);
void limn_writer_free(limn_writer **w);
/* Picks the next token, the last of result->ids; *done when the text ends with it. `room`: how many
 * tokens still fit the context. */
limn_status limn_writer_take(limn_writer *w, const float *logits, int64_t room, bool *done,
                             limn_err *err);
/* Delivers what is still held back; once, at the end. */
limn_status limn_writer_finish(limn_writer *w, limn_err *err);

#endif
