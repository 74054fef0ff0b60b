/* SPDX-License-Identifier: MIT */
/*
 * The op table: one row per op. Shape inference, cost and planner flags live here; the code that
 * computes an op lives in the backends (backend/cpu/cpu_ops.c has one row for each op it supports).
 * Const data, any thread.
 */
#ifndef LIMN_GRAPH_OP_TABLE_H
#define LIMN_GRAPH_OP_TABLE_H

#include "graph/graph.h"

typedef enum limn_op_flags {
    LIMN_OPF_INPLACE = 1,    /* output may take the storage of source 0 when that dies here */
    LIMN_OPF_VIEW = 2,       /* output is source 0's storage */
    LIMN_OPF_NARROW_OUT = 4, /* the CPU kernels can write this op's result as bf16 */
    LIMN_OPF_NARROW_IN = 8,  /* source 0 may be bf16 */
    LIMN_OPF_STATE = 16,     /* output is a state's storage, outside the arena */
} limn_op_flags;

typedef struct limn_op_info {
    const char *name;
    int min_src, max_src;
    unsigned flags;
    /* Sets n->shape (and dtype) from sources, weights and attributes, or fails with a full text. */
    limn_status (*infer)(limn_node *n, limn_err *err);
    /* Floating-point operations of one run (multiply-add = 2), for progress weights and bench. */
    double (*flops)(const limn_node *n);
} limn_op_info;

const limn_op_info *limn_op_get(limn_op op);

#endif
