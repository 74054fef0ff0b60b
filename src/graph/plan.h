/* SPDX-License-Identifier: MIT */
/*
 * The planner: turns a graph into a list of steps with fused epilogues, narrowed intermediates and
 * one arena for everything that lives between them.
 *
 * Passes, in order: dead nodes are dropped; element-wise tails move into the op before them (bias +
 * channel add + activation + residual into LINEAR / CONV2D, gated units into LINEAR, SiLU into
 * GROUP_NORM, 2x upsampling into the CONV2D that reads it); intermediates that only matrix products
 * read are kept as bf16 when the compute type is bf16; every remaining result gets a place in one
 * arena such that two share bytes only when their lifetimes do not meet.
 *
 * A plan owns its graph. It is immutable after limn_plan_build and may be shared between threads;
 * the arena itself belongs to an execution (backend/backend.h).
 */
#ifndef LIMN_GRAPH_PLAN_H
#define LIMN_GRAPH_PLAN_H

#include "graph/graph.h"

typedef struct limn_plan_options {
    bool narrow;  /* the backend multiplies in bf16: keep what only products read as bf16 */
    bool no_fuse; /* keep every op by itself; tests compare both ways */
} limn_plan_options;

typedef struct limn_plan_slot {
    size_t offset; /* bytes from the arena's start, multiple of 64 */
    size_t bytes;
    int first, last; /* steps between which the bytes are in use, inclusive */
} limn_plan_slot;

typedef struct limn_plan {
    limn_graph *graph;
    limn_node **steps; /* execution order, without inputs and views */
    int n_steps;
    int n_nodes; /* size of `slot` = limn_graph_count(graph) */
    int *slot;   /* node id -> index into slots; -1: does not run, or lives in a state */
    limn_plan_slot *slots;
    int n_slots;
    size_t arena_bytes;
    size_t naive_bytes; /* what separate buffers would have taken, for printing */
    double flops;       /* of one run */
} limn_plan;

/* Takes the graph (also when it fails) and nulls the caller's pointer. Fails with the graph's own
 * latched error first. */
limn_status limn_plan_build(limn_plan **out, limn_graph **graph, const limn_plan_options *opt,
                            limn_err *err);
void limn_plan_free(limn_plan **plan);
/* Inputs and outputs by name; NULL when there is none. */
limn_node *limn_plan_find_input(const limn_plan *plan, const char *name);
limn_node *limn_plan_find_output(const limn_plan *plan, const char *name);
/* A live state by name; NULL when there is none. */
limn_node *limn_plan_find_state(const limn_plan *plan, const char *name);
/* True when some step reads the state. */
bool limn_plan_has_states(const limn_plan *plan);

/* One line per step: op, shapes, what was fused, where it lives. For `limn info --plan` and tests.
 */
void limn_plan_print(const limn_plan *plan, limn_buf *out);

#endif
