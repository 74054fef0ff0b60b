/* SPDX-License-Identifier: MIT */
/*
 * Constrained decoding: a grammar says which tokens may come next.
 *
 * A grammar (from a JSON Schema or a GBNF text) is a network of rules over bytes, immutable and
 * shared by any number of threads. A limn_token_trie orders a tokenizer's vocabulary once per
 * model, immutable too. A limn_constraint walks one sequence: it turns the network into
 * deterministic states as they are needed and remembers the token mask of each state, so that a
 * token costs a lookup once its state has been met. A constraint belongs to one thread.
 *
 * Bounds: nesting (rule calls in each other) is limited to LIMN_GRAMMAR_DEPTH, the network to
 * LIMN_GRAMMAR_NODES, the memory of a constraint to about LIMN_CONSTRAINT_BYTES; white space,
 * digits and arrays of JSON are bounded, so that a model cannot run on forever inside them.
 *
 * What is generated always satisfies the schema. Not every valid text can be generated: properties
 * come in the order of the schema, undeclared ones not at all, numbers have at most 15 digits.
 */
#ifndef LIMN_TEXT_GRAMMAR_H
#define LIMN_TEXT_GRAMMAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "text/tokenizer.h"

#define LIMN_GRAMMAR_DEPTH 128
#define LIMN_GRAMMAR_NODES (1u << 20)
#define LIMN_GRAMMAR_BYTES (1u << 20) /* longest grammar or schema text */
#define LIMN_CONSTRAINT_BYTES ((size_t)64 << 20)

typedef struct limn_grammar limn_grammar;

/* White space between the parts of JSON. */
typedef enum limn_json_space {
    LIMN_JSON_COMPACT, /* none: {"a":1,"b":2} */
    LIMN_JSON_ONE,     /* at most one space */
    LIMN_JSON_PRETTY   /* one space, or a line break and up to 16 spaces */
} limn_json_space;

typedef struct limn_schema_options {
    limn_json_space space;
    uint32_t max_items; /* bound of arrays and free objects without one of their own; 0: 256 */
    uint32_t max_chars; /* bound of strings without one of their own; 0: none */
} limn_schema_options;

/* GBNF as llama.cpp reads it: rules `name ::= ...`, literals, classes, groups, `* + ? {m,n}`, `|`,
 * `.`, comments; the first rule is `root`. Errors: E_FORMAT with the line, E_LIMIT, E_NOMEM. */
limn_status limn_grammar_parse(limn_grammar **out, const char *text, size_t n, limn_err *err);
/* JSON Schema: type, enum, const, properties, required, additionalProperties (false, or a schema
 * when there are no properties), items, prefixItems, min/maxItems, min/maxLength, pattern (^ $ . []
 * () | * + ? {}), minimum, maximum, exclusive..., anyOf, oneOf, allOf of one, $ref within the
 * document. Errors: E_FORMAT (no JSON, a broken pattern), E_UNSUPPORTED (a keyword that restricts
 * and is not listed, named), E_VALUE (a schema that nothing satisfies), E_LIMIT, E_NOMEM. */
limn_status limn_grammar_parse_schema(limn_grammar **out, const char *json, size_t n,
                                      const limn_schema_options *opt, limn_err *err);
void limn_grammar_free(limn_grammar **g);

/* ---- vocabulary ---- */
typedef struct limn_token_trie limn_token_trie;
/* Orders the ordinary tokens of `t`; special and added tokens and those without bytes are left out.
 * `t` must outlive it. */
limn_status limn_token_trie_new(limn_token_trie **out, const limn_tokenizer *t, limn_err *err);
void limn_token_trie_free(limn_token_trie **trie);

/* ---- one sequence ---- */
typedef struct limn_constraint limn_constraint;

/* Grammar and trie are borrowed. `stop` ids (end of turn, end of text) are allowed when the text is
 * complete. Errors: E_LIMIT (the grammar's choices explode, for example by left recursion). */
limn_status limn_constraint_new(limn_constraint **out, const limn_grammar *g,
                                const limn_token_trie *trie, const int32_t *stop, size_t n_stop,
                                limn_err *err);
void limn_constraint_free(limn_constraint **c);

/* Bit i of *mask: token i may come next; limn_tokenizer_count() bits in 64-bit words, valid until
 * the next call with this constraint. */
limn_status limn_constraint_mask(limn_constraint *c, const uint64_t **mask, limn_err *err);
/* Takes a token. E_VALUE when it is not allowed here (the state does not change), E_LIMIT. */
limn_status limn_constraint_accept(limn_constraint *c, int32_t id, limn_err *err);
/* The same for bytes, for example a prefix that is already written. */
limn_status limn_constraint_accept_bytes(limn_constraint *c, const char *bytes, size_t n,
                                         limn_err *err);
/* True when the text so far is complete (more may still be allowed). */
bool limn_constraint_is_complete(const limn_constraint *c);
/* Back to the beginning, keeping what was learnt. */
void limn_constraint_reset(limn_constraint *c);

#endif
