/* SPDX-License-Identifier: MIT */
/*
 * What the benches share: the best time of several runs, and this machine's measured limits (FMA
 * rate and streaming bandwidth at the same number of threads), of which results are a share.
 * Programs print; nothing here is asserted.
 */
#ifndef LIMN_BENCH_BENCH_H
#define LIMN_BENCH_BENCH_H

#include <immintrin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/pool.h"
#include "kernels/cpu_features.h"

/* Wall-clock seconds; with LIMN_BENCH_CPU_TIME in the environment, processor seconds of the whole
 * process, which with one thread stays meaningful on a machine that is not quiet. */
static inline double bench_now(void) {
    struct timespec t;
    if (!getenv("LIMN_BENCH_CPU_TIME")) return limn_clock_now();
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

typedef struct bench_limits {
    double gflops; /* f32 multiply-add, all threads */
    double gbytes; /* read + write of a copy */
} bench_limits;

/* Ten chains of multiply-adds; returns the operations of `rounds`. */
__attribute__((target("avx2,fma"))) static inline double bench_fma256(long rounds) {
    __m256 a[10], x = _mm256_set1_ps(0.5f);
    for (int i = 0; i < 10; i++) a[i] = _mm256_set1_ps((float)i);
    for (long r = 0; r < rounds; r++) {
#pragma GCC unroll 10
        for (int i = 0; i < 10; i++) a[i] = _mm256_fmadd_ps(a[i], x, x);
        __asm__ volatile("" : "+x"(x));
    }
    volatile float sink = 0;
    for (int i = 0; i < 10; i++) sink = sink + _mm256_cvtss_f32(a[i]);
    return (double)rounds * 10 * 16;
}

__attribute__((target("avx512f"))) static inline double bench_fma512(long rounds) {
    __m512 a[20], x = _mm512_set1_ps(0.5f);
    for (int i = 0; i < 20; i++) a[i] = _mm512_set1_ps((float)i);
    for (long r = 0; r < rounds; r++) {
#pragma GCC unroll 20
        for (int i = 0; i < 20; i++) a[i] = _mm512_fmadd_ps(a[i], x, x);
        __asm__ volatile("" : "+x"(x));
    }
    volatile float sink = 0;
    for (int i = 0; i < 20; i++) sink = sink + _mm512_cvtss_f32(a[i]);
    return (double)rounds * 20 * 32;
}

enum { BENCH_FMA_ROUNDS = 4000000, BENCH_COPY_BYTES = 64 << 20, BENCH_COPY_PART = 128 << 10 };

static inline void bench_fma_task(void *arg, size_t task, int worker) {
    (void)task, (void)worker;
    *(double *)arg = *(const unsigned *)((const char *)arg + 8) & LIMN_CPU_AVX512
                         ? bench_fma512(BENCH_FMA_ROUNDS)
                         : bench_fma256(BENCH_FMA_ROUNDS);
}

typedef struct bench_copy {
    char *to;
    const char *from;
    size_t part;
} bench_copy;

static inline void bench_copy_task(void *arg, size_t task, int worker) {
    (void)worker;
    const bench_copy *c = arg;
    memcpy(c->to + task * c->part, c->from + task * c->part, c->part);
}

typedef void bench_fn(void *arg);

/* Seconds of the fastest of at least three runs and half a second. */
static inline double bench_best(bench_fn *fn, void *arg) {
    double best = 1e30, all = 0;
    for (int i = 0; i < 200 && (i < 4 || all < 0.5); i++) {
        double t0 = bench_now();
        fn(arg);
        double t = bench_now() - t0;
        if (i > 0 && t < best) best = t; /* the first run warms up */
        all += t;
    }
    return best;
}

/* copy_bytes: of the copy's source. Both sides are memory that was written before: what nobody has
 * written yet is one page of zeros for all addresses, and reading it costs nothing. */
static inline bench_limits bench_measure(limn_pool *pool, unsigned cpu, size_t copy_bytes) {
    bench_limits m = {0};
    int threads = limn_pool_threads(pool);
    struct {
        double ops;
        unsigned cpu;
    } fma = {0, cpu};
    size_t parts = copy_bytes / BENCH_COPY_PART > 0 ? copy_bytes / BENCH_COPY_PART : 1;
    size_t bytes = parts * BENCH_COPY_PART;
    char *to = limn_mem_aligned(bytes), *from = limn_mem_aligned(bytes);
    bench_copy c = {to, from, BENCH_COPY_PART};
    if (to) memset(to, 1, bytes);
    if (from) memset(from, 2, bytes);
    for (int i = 0; i < 9 && to && from; i++) {
        double t0 = bench_now();
        if (i < 5) limn_pool_run(pool, bench_fma_task, &fma, (size_t)threads);
        double t1 = bench_now();
        limn_pool_run(pool, bench_copy_task, &c, parts);
        double t2 = bench_now();
        double f = fma.ops * threads / (t1 - t0) / 1e9, b = 2.0 * (double)bytes / (t2 - t1) / 1e9;
        if (i < 5 && f > m.gflops) m.gflops = f;
        if (b > m.gbytes) m.gbytes = b;
    }
    limn_mem_free(to);
    limn_mem_free(from);
    return m;
}

/* --threads N and --cpu-mask WORD, wherever they stand. */
static inline int bench_options(int argc, char **argv, int *threads, unsigned *cpu) {
    unsigned mask = ~0u;
    limn_err err = {0};
    *threads = 0;
    for (int i = 1; i + 1 < argc; i++) {
        if (strcmp(argv[i], "--threads") == 0) *threads = atoi(argv[i + 1]);
        if (strcmp(argv[i], "--cpu-mask") == 0 &&
            limn_cpu_mask_parse(&mask, argv[i + 1], &err) != LIMN_OK) {
            fprintf(stderr, "%s\n", err.text);
            return -1;
        }
    }
    *cpu = limn_cpu_detect() & mask;
    return 0;
}

#endif
