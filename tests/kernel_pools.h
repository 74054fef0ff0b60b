/* SPDX-License-Identifier: MIT */
/*
 * Dispatch tables and pools of two and three threads as one group fixture, for kernel tests that
 * compare tables and numbers of threads. One include per program: it holds the tables themselves.
 */
#ifndef LIMN_TESTS_KERNEL_POOLS_H
#define LIMN_TESTS_KERNEL_POOLS_H

#include "base/pool.h"
#include "kernel_tables.h"

static kernel_table tables[TABLES_MAX];
static int n_tables;
static limn_pool *pools[2];

static int pools_setup(void **state) {
    (void)state;
    n_tables = kernel_tables_fill(tables);
    return limn_pool_new(&pools[0], 2, NULL) != LIMN_OK ||
           limn_pool_new(&pools[1], 3, NULL) != LIMN_OK;
}

static int pools_teardown(void **state) {
    (void)state;
    limn_pool_free(&pools[0]);
    limn_pool_free(&pools[1]);
    return 0;
}

#endif
