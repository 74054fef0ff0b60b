/* SPDX-License-Identifier: MIT */
/* The ops of the reference backend: one function per op, all data f32 (ids i32). Internal. */
#ifndef LIMN_BACKEND_REF_OPS_H
#define LIMN_BACKEND_REF_OPS_H

#include "graph/graph.h"

typedef struct ref_step {
    const limn_node *n;
    float *y;
    void *x[LIMN_NODE_SRC];
} ref_step;

typedef limn_status ref_op_fn(const ref_step *s, limn_err *err);

/* ref_experts.c */
limn_status limn_ref_route(const ref_step *s, limn_err *err);
limn_status limn_ref_experts(const ref_step *s, limn_err *err);
limn_status limn_ref_mix(const ref_step *s, limn_err *err);

/* NULL where an op never runs (inputs, views). */
extern ref_op_fn *const limn_ref_ops[LIMN_OP_COUNT];

#endif
