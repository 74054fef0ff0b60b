/* SPDX-License-Identifier: MIT */
/*
 * What this machine can do at most, measured in the same run as the kernels: register-only loops of
 * the instruction that a kernel lives on, and reading memory. The yardstick of every benchmark.
 */
#ifndef LIMN_BENCH_MACHINE_H
#define LIMN_BENCH_MACHINE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/pool.h"

typedef enum bench_unit {
    BENCH_FMA_SSE,  /* mulps + addps on 4 floats: the plain C level */
    BENCH_FMA_YMM,  /* vfmadd231ps, 8 floats */
    BENCH_FMA_ZMM,  /* vfmadd231ps, 16 floats */
    BENCH_BF16_ZMM, /* vdpbf16ps, 32 products */
    BENCH_VNNI_ZMM, /* vpdpbusd, 64 products */
    BENCH_MADD_YMM, /* vpmaddwd + vpaddd, 16 products */
    BENCH_UNIT_COUNT
} bench_unit;

/* Seconds: wall clock, or with LIMN_BENCH_CPU_TIME in the environment processor time divided by
 * `threads`, which stays meaningful on a machine that is not quiet. */
double bench_clock(int threads);

const char *bench_unit_name(bench_unit u);
/* Whether flags from limn_cpu_detect() have it. */
bool bench_unit_has(bench_unit u, unsigned cpu_flags);
/* 1e9 operations (a multiply and an add count as two) per second of all threads of the pool, over
 * about `seconds`. */
double bench_peak(bench_unit u, limn_pool *pool, double seconds);
/* Memory that is read again and again, `bytes` by each thread of the pool (borrowed). How fast it
 * is may change from minute to minute: measure beside every run. NULL without memory. */
typedef struct bench_memory bench_memory;
bench_memory *bench_memory_new(limn_pool *pool, size_t bytes);
void bench_memory_free(bench_memory **m);
/* GB/s of all threads over about `seconds`, by the fastest way of reading this processor has. */
double bench_memory_read(bench_memory *m, double seconds);

#endif
