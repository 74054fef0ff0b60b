/* SPDX-License-Identifier: MIT */
/*
 * The machinery behind canon.h: walk the tensors under a prefix, give each its canonical name, note
 * those that have none. Internal to formats/canon_*.c; one thread.
 */
#ifndef LIMN_FORMATS_CANON_MAP_H
#define LIMN_FORMATS_CANON_MAP_H

#include "formats/canon.h"

enum { LIMN_CANON_NAME = 512 };

/* "from" at the beginning of a name (up to its end or a '.') becomes "to". */
typedef struct limn_canon_rule {
    const char *from, *to;
} limn_canon_rule;

typedef enum limn_canon_verdict {
    LIMN_CANON_KEEP,   /* `name` holds the canonical name */
    LIMN_CANON_SKIP,   /* known, not needed (position_ids, logit_scale, ...) */
    LIMN_CANON_JOIN,   /* `name` holds the name of a part; see limn_canon_experts */
    LIMN_CANON_UNKNOWN /* has no place */
} limn_canon_verdict;

typedef struct limn_canon {
    const limn_weights *src;
    const char *prefix;
    limn_weights *out;
    limn_buf unmapped;
    size_t n_unmapped;
    limn_err *err;
} limn_canon;

/* name: LIMN_CANON_NAME bytes for the canonical name of `rest`, the file's name without prefix. */
typedef limn_canon_verdict limn_canon_name_fn(void *user, const char *rest, char *name);

limn_status limn_canon_begin(limn_canon *c, const limn_weights *src, const char *prefix,
                             limn_err *err);
/* Names every tensor under the prefix. */
limn_status limn_canon_walk(limn_canon *c, limn_canon_name_fn *fn, void *user);
/* Hands the set out (on OK) or drops it, depending on `st`, which it returns. */
limn_status limn_canon_end(limn_canon *c, limn_weights **out, limn_status st);

/* The tensor prefix + name in the source. */
const limn_tensor *limn_canon_source(const limn_canon *c, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* Applies the first rule that fits; the rest of the name is kept. false: none fits. */
bool limn_canon_rules(char *name, const char *rest, const limn_canon_rule *rules, size_t n);
/* Reads "word.N." or "word.N" at *p (word may be ""), advances *p behind it; -1 if not there. */
int limn_canon_number(const char **p, const char *word);
/* As printf; UNKNOWN when it does not fit. */
limn_canon_verdict limn_canon_put(char *name, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* How many of "<fmt with 0>", "<fmt with 1>", ... a set has, up to `max`. */
int limn_canon_count(const limn_weights *w, int max, const char *before, const char *after);
/* Dimension d of a tensor; 0 when it is absent or has fewer dimensions. */
int limn_canon_dim(const limn_tensor *t, int d);
/* A view of a [o, i, 1, 1] (or [o, i, 1]) tensor as [o, i]; others unchanged. */
limn_tensor limn_canon_as_linear(const limn_tensor *t);
/* True when names ending so are linear maps that files may store as 1x1 convolutions. */
bool limn_canon_is_linear_name(const char *name);

/* ---- experts with tensors of their own (canon_experts.c) ---- */
/* True for "layers.N.mlp.experts.E.gate_proj.weight" and its like: canonical names that stand for
 * one part of a joined tensor. */
bool limn_canon_is_expert(const char *name);
/* Adds the joined tensors of `fn`'s names: "layers.N.mlp.experts.gate_proj.weight" [experts, out,
 * in], whose parts lie where they are. E_MISSING, E_SHAPE naming the expert that does not fit. */
limn_status limn_canon_experts(limn_canon *c, limn_canon_name_fn *fn, void *user);

/* ---- scaled and packed weights (canon_quant.c) ---- */
/* True for tensors that only describe another one (scales, marks). */
bool limn_canon_is_scale(const char *name);
/* E_UNSUPPORTED when the tensor tells of a packing that limn does not read. */
limn_status limn_canon_packed_check(const limn_canon *c, const char *name, const limn_tensor *t);
/* The scale that belongs to an f8 weight of the source; NULL when it has none. */
const limn_tensor *limn_canon_scale_find(const limn_canon *c, const char *full,
                                         const limn_tensor *t);
/* Adds t * scale as an owned f16 tensor. */
limn_status limn_canon_scaled_add(limn_canon *c, const char *name, const limn_tensor *t,
                                  const limn_tensor *scale);

#endif
