/* SPDX-License-Identifier: MIT */
/*
 * The compute pool: a fixed set of threads that run the pieces of one job at a time.
 *
 * limn_pool_run() cuts a job into `count` tasks, numbered 0..count-1; the caller's thread takes
 * part and the call returns when all are done. Which thread runs which task is not fixed, so a task
 * must write only what belongs to its number: then the same input gives the same bits for any
 * number of threads. `worker` (0..threads-1) identifies per-thread scratch and nothing else.
 *
 * One thread at a time may call limn_pool_run on a pool; tasks must not call it again.
 */
#ifndef LIMN_BASE_POOL_H
#define LIMN_BASE_POOL_H

#include <stddef.h>

#include "base/status.h"

typedef struct limn_pool limn_pool;

typedef void limn_task_fn(void *arg, size_t task, int worker);

/* threads <= 0: one per core that this process may use. At most 256. */
limn_status limn_pool_new(limn_pool **out, int threads, limn_err *err);
void limn_pool_free(limn_pool **pool);        /* NULL-safe; nulls the caller's pointer */
int limn_pool_threads(const limn_pool *pool); /* NULL pool counts as 1 */
/* A NULL pool runs all tasks on the calling thread as worker 0. */
void limn_pool_run(limn_pool *pool, limn_task_fn *fn, void *arg, size_t count);

/* The same for many small tasks (microseconds each) that read memory which lies in their order:
 * each thread begins with a stretch of neighbours and takes from the stretches of others when its
 * own is done, so that nobody waits for longer than a task. */
void limn_pool_run_near(limn_pool *pool, limn_task_fn *fn, void *arg, size_t count);

/* Cores that this process may use (affinity mask and cgroup CPU quota), at least 1. */
int limn_cpu_count(void);

#endif
