/* SPDX-License-Identifier: MIT */
/*
 * Backends: what turns a plan into numbers. A backend is a small vtable; models and pipelines see
 * only the functions at the end.
 *
 *     limn_backend (threads, packed weights)  --  lives as long as the models that use it
 *     limn_program = plan + arena, bound to a backend  --  one per network, shape and use
 *
 * Packed weights are shared by all programs of a backend and keyed by limn_weight, so a second plan
 * for another picture size costs no second copy. A program runs on one thread at a time; two
 * programs of one backend must not run at once (they share the scratch and the pool).
 */
#ifndef LIMN_BACKEND_BACKEND_H
#define LIMN_BACKEND_BACKEND_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/turns.h"
#include "graph/plan.h"

/* How exact the arithmetic is. */
typedef enum limn_precision {
    LIMN_PRECISION_FAST,  /* the fastest whose error is stated in docs/PRECISION.md */
    LIMN_PRECISION_EXACT, /* f32 throughout */
    LIMN_PRECISION_INT8   /* int8 activations and weights in linear layers and convolutions */
} limn_precision;

typedef struct limn_backend limn_backend;
typedef struct limn_program limn_program;

/* Whether a weight is one of those in question. */
typedef bool limn_weight_is_fn(const void *user, const limn_weight *w);

typedef struct limn_backend_vtable {
    const char *name; /* "cpu" */
    void (*free)(limn_backend *b);
    /* Plan options that suit the backend at this precision. */
    limn_plan_options (*plan_options)(const limn_backend *b);
    /* Packs weights, sizes scratch; fails naming the op when something is not supported. */
    limn_status (*prepare)(limn_backend *b, limn_program *p, limn_err *err);
    limn_status (*run)(limn_backend *b, limn_program *p, const atomic_bool *cancel, limn_err *err);
    /* Drops packed forms of a weight (before its owner goes away); NULL: of all. */
    void (*forget)(limn_backend *b, const limn_weight *w);
    size_t (*packed_bytes)(const limn_backend *b);
    limn_status (*save_packs)(limn_backend *b, limn_err *err);
    void (*rest)(limn_backend *b, limn_weight_is_fn *is_one, const void *user, bool made);
} limn_backend_vtable;

struct limn_backend {
    const limn_backend_vtable *v;
    limn_turn turn; /* runs take it and offer it between ops */
};

/* Memory for intermediate results. {0} before the first program; freed after the last. */
typedef struct limn_workspace {
    uint8_t *data;
    size_t bytes;
} limn_workspace;

struct limn_program {
    limn_backend *backend;
    limn_plan *plan; /* owned */
    limn_workspace own;
    limn_workspace *work; /* own, or one that is shared; at least plan->arena_bytes */
    const uint8_t *seen;  /* work->data when the program last ran */
    void **states;        /* owned, by node id: where each state is bound; NULL without states */
    bool rebound;         /* states or workspace changed since the backend last looked */
    double *seconds;      /* per step, summed over runs; NULL unless profiling was asked for */
    int runs;
    void *data; /* the backend's own, one block of limn_mem_*; freed with the program */
};

typedef struct limn_cpu_options {
    int threads;        /* 0: all cores */
    unsigned cpu_flags; /* from limn_cpu_detect() & mask */
    limn_precision precision;
    const char *pack_dir; /* folder for packed weights on disk; NULL or "": none */
    uint64_t pack_limit;  /* bytes that the folder may take; 0: 16 GB */
} limn_cpu_options;

/* Data of a node: in the program's arena, or where its state is bound; resolves views. NULL for a
 * state that is not bound yet. For backends. */
void *limn_program_data(const limn_program *p, const limn_node *nd);

limn_status limn_backend_new_cpu(limn_backend **out, const limn_cpu_options *opt, limn_err *err);
/* Plain loops in f32 with f64 sums, one thread: the specification that the others are tested with.
 */
limn_status limn_backend_new_ref(limn_backend **out, limn_err *err);
void limn_backend_free(limn_backend **b);
/* Shares the cores with other backends that have the same turns, which must outlive it. Between
 * runs. NULL: no more. */
void limn_backend_share(limn_backend *b, limn_turns *turns);
void limn_backend_forget(limn_backend *b, const limn_weight *w);
size_t limn_backend_packed_bytes(const limn_backend *b);
/* Writes packed weights that are not on disk yet, if the backend keeps them there; a matter of
 * seconds for gigabytes, so call it when nobody waits. */
limn_status limn_backend_save_packs(limn_backend *b, limn_err *err);
/* Gives back the memory of packed weights that are not needed for a while (`is_one`); they come
 * back when they are next used. Those that are mapped from disk go in any case. With `made` those
 * that were packed by this process go too: to disk first if the backend keeps them there, else
 * they are packed again. Small models stay. Between runs. */
void limn_backend_rest(limn_backend *b, limn_weight_is_fn *is_one, const void *user, bool made);

/* Plans the graph (taken, also on failure), reserves its arena, packs its weights. */
limn_status limn_program_new(limn_program **out, limn_backend *b, limn_graph **graph,
                             limn_err *err);
/* The same in a workspace that programs share which run one after the other; it grows to what the
 * largest needs and must outlive them. What lies there (inputs, outputs) lasts until another of
 * them is made, written to or run. */
limn_status limn_program_new_in(limn_program **out, limn_backend *b, limn_graph **graph,
                                limn_workspace *work, limn_err *err);
void limn_workspace_free(limn_workspace *work);
void limn_program_free(limn_program **p);
/* Where to write an input before a run / read an output after it; valid until the program is freed.
 * Inputs keep their values between runs. NULL when there is no such name. The element count and
 * dtype are those of the node. */
void *limn_program_input(limn_program *p, const char *name, limn_shape *shape);
const float *limn_program_output(limn_program *p, const char *name, limn_shape *shape);
/* Where a state of the graph is: memory of its dtype and shape, which the caller owns and which
 * must outlive the runs that use it. May be called again between runs. E_MISSING: no such state. A
 * run with a state that was never bound is E_INTERNAL. */
limn_status limn_program_bind(limn_program *p, const char *name, void *data, limn_err *err);
/* E_CANCELLED when *cancel became true (it is polled between ops and inside long ones). */
limn_status limn_program_run(limn_program *p, const atomic_bool *cancel, limn_err *err);
/* Turns per-step timing on: p->seconds over p->runs. */
limn_status limn_program_profile(limn_program *p, limn_err *err);

#endif
