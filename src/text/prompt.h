/* SPDX-License-Identifier: MIT */
/*
 * Prompt syntax of Stable Diffusion front ends (A1111, SD.Next): text -> schedule -> token chunks.
 *
 *   (x) [x] (x:1.3)       weight x1.1, /1.1, x1.3; nested weights multiply; \( \[ \\ are literal
 *   [a:b:N] [b:N] [a::N]  a for the first N steps, then b; N with a point is a share of the steps
 *   [a|b|c]               a, b, c, a ... one per step
 *   BREAK  ##  newline    start the next 75-token chunk (## and newline by option)
 *   a AND b:0.5           composition: several conditionings, each with a weight
 *   TE2: TE3: TE4:        the text after it goes to that text encoder only
 *   <lora:name:0.8>       a network; removed from the text and listed, see limn_prompt_net
 *   __name__              a random line of wildcards/name.txt
 *   {a|b:0.6|{c|d}}       a random alternative, with weights
 *
 * Order of work: comments, wildcards and choices (seeded; the result is `expanded`, which is what
 * metadata should record), networks, AND, encoders, schedule, emphasis, tokens. Text that does not
 * form a construct stays text: an unbalanced bracket never fails.
 *
 * Everything is linear in the text for a given number of steps, nesting is bounded by
 * LIMN_PROMPT_DEPTH and the text by LIMN_PROMPT_BYTES. Parsed prompts are immutable; any thread may
 * read them. Semantics follow A1111's prompt_parser (its documented examples are in test_prompt.c).
 */
#ifndef LIMN_TEXT_PROMPT_H
#define LIMN_TEXT_PROMPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "text/tokenizer.h"

#define LIMN_PROMPT_BYTES (256u << 10) /* longest prompt, before and after expansion */
#define LIMN_PROMPT_DEPTH 64           /* deepest nesting of brackets, choices and wildcards */
#define LIMN_PROMPT_STEPS 10000        /* most sampling steps */
#define LIMN_PROMPT_ENCODERS 4
#define LIMN_PROMPT_CHUNK 75  /* tokens in a chunk without bos and eos */
#define LIMN_PROMPT_WINDOW 77 /* with them */
#define LIMN_PROMPT_MAX_CHUNKS 256

/* How weights act on the encoder's output. Parsing ignores it; the pipeline applies it. */
typedef enum limn_emphasis {
    LIMN_EMPHASIS_ORIGINAL, /* multiply, then restore the mean of the whole tensor (A1111) */
    LIMN_EMPHASIS_NO_NORM,  /* multiply only */
    LIMN_EMPHASIS_COMFY,    /* interpolate between the empty prompt's vectors and these */
    LIMN_EMPHASIS_IGNORE    /* weights are read and not applied */
} limn_emphasis;

typedef struct limn_prompt_options {
    int steps;      /* 1..LIMN_PROMPT_STEPS: steps of the pass that is planned */
    int first_pass; /* 0, or for a second (hires) pass the steps of the first: [a:b:N] then means
                       N - first_pass, and a share N means N - 1, as A1111 does */
    uint64_t seed;  /* drives wildcards and choices */
    const char *wildcard_dir; /* NULL: __name__ stays text */
    bool raw;                 /* no syntax at all: one part, one variant, the text as it is */
    bool hash_breaks;         /* "##" splits like BREAK (SD.Next) */
    bool line_breaks;         /* a line break splits like BREAK (SD.Next default) */
    bool comments; /* "# ..." to the end of the line is dropped (A1111's comments extension) */
} limn_prompt_options;

/* Strength over the steps: constant (n == 1, at[0] unused) or piecewise linear between points. */
typedef struct limn_prompt_curve {
    const float *value; /* [n] */
    const float *at; /* [n] ascending; shares 0..1 of the run when the last is <= 1, else steps */
    size_t n;        /* 0: not given */
} limn_prompt_curve;

/* Value at step 0..steps-1; `fallback` when the curve was not given. Clamped outside its points. */
float limn_prompt_curve_at(const limn_prompt_curve *c, int step, int steps, float fallback);

/* <type:name:...>: positional numbers are strength and then the UNet's strength, as in A1111
 * (`<lora:name:te:unet>`); keys te= unet= in= mid= out= dyn= module=; others stay in `args`. */
typedef struct limn_prompt_net {
    const char *type; /* "lora" (also for lyco), "hypernet", "embedding" ... lower case */
    const char *name;
    limn_prompt_curve strength;     /* first positional value; n == 0: 1.0 */
    limn_prompt_curve te, unet;     /* n == 0: strength */
    limn_prompt_curve in, mid, out; /* UNet blocks, multiply `unet`; n == 0: 1.0 */
    int dyn;                        /* rank limit, 0: none */
    const char *module;             /* "" when not given */
    int stage;        /* 0: all; 1: "high", 2: "low" transformer of two-stage video models */
    const char *args; /* everything after the name, as written */
} limn_prompt_net;

/* Text of one stretch of steps; encoder[0] is always set, the others NULL unless TEn: was used. */
typedef struct limn_prompt_variant {
    const char *encoder[LIMN_PROMPT_ENCODERS];
} limn_prompt_variant;

/* Steps [from, to), 0-based, use variants[variant]. */
typedef struct limn_prompt_range {
    int from, to;
    uint32_t variant;
} limn_prompt_range;

/* One conditioning of an AND composition. The denoiser's answer is
 * uncond + sum_i weight_i * cfg * (cond_i - uncond), as in A1111. */
typedef struct limn_prompt_part {
    float weight;
    const limn_prompt_range *ranges; /* cover [0, steps) without gap, ascending */
    size_t n_ranges;
    const limn_prompt_variant *variants; /* distinct texts: encode each once */
    size_t n_variants;
} limn_prompt_part;

typedef struct limn_prompt {
    const char *expanded;        /* after wildcards and choices */
    const limn_prompt_net *nets; /* in order of appearance */
    size_t n_nets;
    const limn_prompt_part *parts; /* at least one */
    size_t n_parts;
} limn_prompt;

/* Errors: E_LIMIT (too long, too deep, too many variants), E_VALUE (bad options, invalid UTF-8, a
 * network whose numbers cannot be read), E_NOT_FOUND (a wildcard without a file), E_IO, E_NOMEM. */
limn_status limn_prompt_parse(limn_prompt **out, const char *text, size_t n,
                              const limn_prompt_options *opt, limn_err *err);
void limn_prompt_free(limn_prompt **p);

/* ---- emphasis: the last textual stage, also usable alone ---- */
typedef struct limn_prompt_piece {
    const char *text; /* NUL-terminated; NULL for a BREAK */
    size_t len;
    float weight;
} limn_prompt_piece;

/* Splits a variant's text into weighted pieces; neighbours of equal weight are merged. `arena` owns
 * the result. At least one piece. Errors: E_LIMIT (depth), E_NOMEM. */
limn_status limn_prompt_emphasis(limn_prompt_piece **out, size_t *count, limn_arena *arena,
                                 const char *text, size_t n, limn_err *err);

/* ---- tokens ---- */
/* A textual inversion that the pipeline has: its name in prompts and its number of vectors. */
typedef struct limn_prompt_embedding {
    const char *name;
    int vectors; /* 1..75 */
} limn_prompt_embedding;

typedef struct limn_prompt_encode_options {
    const limn_prompt_embedding *embeddings; /* [n_embeddings], longest match wins */
    size_t n_embeddings;
    int32_t pad; /* id after the first eos; -1: the tokenizer's (SD1: eos). 0 for SD2, bigG */
    int comma_backtrack; /* when a chunk is full, move back to a comma at most this far; A1111: 20
                          */
    int window;          /* tokens per chunk with bos and eos, 3..77; 0: 77 */
    bool no_emphasis;    /* brackets are text, all weights 1 (the prompt was parsed raw) */
} limn_prompt_encode_options;

/* One window of a text encoder: bos, 75 tokens, eos; with a smaller opt.window the first so many
 * entries count. */
typedef struct limn_prompt_chunk {
    int32_t ids[LIMN_PROMPT_WINDOW];
    float weights[LIMN_PROMPT_WINDOW]; /* 1 for bos, eos and padding */
    int16_t embed[LIMN_PROMPT_WINDOW]; /* index into embeddings, -1: none (ids holds 0 there) */
    int16_t row[LIMN_PROMPT_WINDOW];   /* vector of that embedding */
    int used;                          /* prompt tokens, 0..75 */
} limn_prompt_chunk;

/* Tokenises a variant's text into at least one chunk; the caller frees with limn_mem_free.
 * Errors: E_VALUE (tokenizer without bos/eos, vectors out of range), E_LIMIT (more than
 * LIMN_PROMPT_MAX_CHUNKS), E_NOMEM. */
limn_status limn_prompt_encode(limn_prompt_chunk **chunks, size_t *count, const limn_tokenizer *t,
                               const char *text, size_t n, const limn_prompt_encode_options *opt,
                               limn_err *err);

/* ---- front ends ---- */
typedef enum limn_prompt_span_kind {
    LIMN_SPAN_BRACKET,  /* ( ) [ ] { } and the | and : that belong to them */
    LIMN_SPAN_NUMBER,   /* weight, step or share */
    LIMN_SPAN_KEYWORD,  /* BREAK, AND, TE2:, ## */
    LIMN_SPAN_NETWORK,  /* <lora:...> */
    LIMN_SPAN_WILDCARD, /* __name__ */
    LIMN_SPAN_ESCAPE,   /* \( */
    LIMN_SPAN_COMMENT,
    LIMN_SPAN_STRAY /* a bracket without partner: text, worth marking */
} limn_prompt_span_kind;

typedef struct limn_prompt_span {
    limn_prompt_span_kind kind;
    uint32_t begin, end; /* bytes */
    uint16_t depth;      /* nesting, 0 outside */
} limn_prompt_span;

/* Spans in order, not overlapping; plain text is what lies between. The caller frees *out with
 * limn_mem_free (NULL when there are none). Errors: E_LIMIT, E_NOMEM. */
limn_status limn_prompt_spans(limn_prompt_span **out, size_t *count, const char *text, size_t n,
                              const limn_prompt_options *opt, limn_err *err);

#endif
