/* SPDX-License-Identifier: MIT */
/*
 * What every family function needs to run: the dispatch table, threads, scratch memory and a way to
 * stop. The caller owns all of it; scratch is as large as the family's *_scratch_bytes() says for
 * the same arguments and the same number of threads, so that running never allocates. One run at a
 * time may use an exec.
 */
#ifndef LIMN_KERNELS_EXEC_H
#define LIMN_KERNELS_EXEC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/pool.h"
#include "kernels/kernels.h"

typedef struct limn_exec {
    const limn_kernels *k;
    limn_pool *pool; /* NULL: the calling thread */
    void *scratch;   /* 64-byte aligned */
    size_t scratch_bytes;
    const atomic_bool *cancel; /* polled between tasks; NULL: never */
} limn_exec;

static inline bool limn_exec_cancelled(const limn_exec *ex) {
    return ex->cancel && atomic_load_explicit(ex->cancel, memory_order_relaxed);
}

#endif
