/* SPDX-License-Identifier: MIT */
/*
 * The ops of the CPU backend: a table row per op that says which packed forms its weights need, how
 * much scratch it takes and how to run it. Internal to backend/cpu.
 */
#ifndef LIMN_BACKEND_CPU_OPS_H
#define LIMN_BACKEND_CPU_OPS_H

#include "backend/cpu/weight_cache.h"
#include "kernels/exec.h"

typedef struct cpu_step {
    const limn_node *n;
    void *y;
    void *x[LIMN_NODE_SRC];
    limn_weight_entry *w, *bias; /* NULL: none */
    bool exact;                  /* f32 throughout */
    int together; /* this and steps after it that run as one: products of one source; else 0 */
} cpu_step;

typedef struct cpu_op {
    bool supported;
    limn_weight_use w_use; /* of n->w; a bias is always a vector */
    /* Scratch in bytes for `threads` threads; NULL: none. */
    size_t (*scratch)(const cpu_step *s, const limn_kernels *k, int threads);
    limn_status (*run)(const cpu_step *s, const limn_exec *ex, limn_err *err);
} cpu_op;

extern const cpu_op limn_cpu_ops[LIMN_OP_COUNT];

/* Steps from s on, at most `left`, that may run together; less than 2: none. */
int limn_cpu_together(const cpu_step *s, int left);
size_t limn_cpu_together_scratch(const cpu_step *s, const limn_kernels *k, int threads);
limn_status limn_cpu_together_run(const cpu_step *s, const limn_exec *ex, limn_err *err);

#endif
