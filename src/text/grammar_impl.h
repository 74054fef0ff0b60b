/* SPDX-License-Identifier: MIT */
/*
 * The network behind a grammar and how it is built; shared by grammar*.c and constraint.c.
 *
 * A fragment is a part of the network with one entry and one open exit (a STEP node whose target is
 * not set). Builders latch failure like a buffer: check `failed` once. Fragments are built one
 * after another, so the nodes of one are a contiguous range, which repetition copies.
 */
#ifndef LIMN_TEXT_GRAMMAR_IMPL_H
#define LIMN_TEXT_GRAMMAR_IMPL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "text/grammar.h"

#define LIMN_NIL UINT32_MAX

typedef enum limn_gkind {
    LIMN_G_STEP,  /* to a without reading */
    LIMN_G_SPLIT, /* to a and b without reading */
    LIMN_G_BYTE,  /* reads a byte of class a, to b */
    LIMN_G_CALL,  /* runs rule a, then to b */
    LIMN_G_RETURN /* the rule is done */
} limn_gkind;

typedef struct limn_gnode {
    uint32_t kind, a, b;
} limn_gnode;

typedef struct limn_byte_class {
    uint64_t bits[4];
} limn_byte_class;

struct limn_grammar {
    limn_gnode *node;
    size_t n_nodes, cap_nodes;
    limn_byte_class *class;
    size_t n_classes, cap_classes;
    uint32_t *rule; /* entry node of each rule, LIMN_NIL: not defined */
    size_t n_rules, cap_rules;
    uint32_t root;      /* rule */
    limn_status failed; /* latched: LIMN_OK, E_NOMEM or E_LIMIT */
};

typedef struct limn_frag {
    uint32_t start, end; /* end: a STEP node whose target is open */
    uint32_t from;       /* first node of the fragment */
} limn_frag;

typedef struct limn_cp_range {
    uint32_t lo, hi;
} limn_cp_range;

limn_grammar *limn_grammar_new(void);  /* NULL: no memory */
uint32_t limn_g_rule(limn_grammar *g); /* a new, undefined rule */
void limn_g_define(limn_grammar *g, uint32_t rule, limn_frag f);

limn_frag limn_g_empty(limn_grammar *g);
limn_frag limn_g_bytes(limn_grammar *g, const char *s, size_t n);
limn_frag limn_g_text(limn_grammar *g, const char *s);
/* One character out of ranges of code points (surrogates are left out). `n` 0 matches nothing. */
limn_frag limn_g_chars(limn_grammar *g, const limn_cp_range *r, size_t n);
limn_frag limn_g_call(limn_grammar *g, uint32_t rule);
limn_frag limn_g_seq(limn_grammar *g, limn_frag a, limn_frag b);
limn_frag limn_g_alt(limn_grammar *g, limn_frag a, limn_frag b);
/* min..max times; max LIMN_NIL: no bound. f must be the last fragment that was built. */
limn_frag limn_g_repeat(limn_grammar *g, limn_frag f, uint32_t min, uint32_t max);

/* Sorts and joins ranges; returns how many remain. With `invert` the complement, which needs room
 * for n + 1. */
size_t limn_cp_normalize(limn_cp_range *r, size_t n, bool invert);

/* A JSON string body (without quotes) that matches the expression. grammar_regex.c */
limn_status limn_g_json_regex(limn_grammar *g, limn_frag *out, const char *re, size_t n,
                              limn_err *err);
/* One character of a JSON string out of ranges, escaped where JSON needs it. */
limn_frag limn_g_json_chars(limn_grammar *g, const limn_cp_range *r, size_t n);

/* Decimal numbers lo..hi as JSON writes them; `fraction`: with up to six decimals. lo <= hi, both
 * in
 * +-1e15. grammar_number.c */
limn_frag limn_g_number_range(limn_grammar *g, double lo, double hi, bool fraction);

/* E_NOMEM or E_LIMIT in words. */
limn_status limn_g_check(const limn_grammar *g, limn_err *err);

#endif
