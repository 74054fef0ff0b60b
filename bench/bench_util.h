/* SPDX-License-Identifier: MIT */
/*
 * What the benchmark programs share: options, a table for the chosen level, medians.
 *
 *   bench_NAME [--threads N] [--cpu-mask LEVEL] [--seconds S] [--compute exact|half|int8] [FILTER]
 *
 * FILTER is part of a shape's printed text. --seconds is the time per shape and mode.
 */
#ifndef LIMN_BENCH_UTIL_H
#define LIMN_BENCH_UTIL_H

#include <stdbool.h>

#include "base/pool.h"
#include "kernels/exec.h"
#include "kernels/pack.h"
#include "machine.h"

typedef struct bench_options {
    limn_kernels k;
    limn_pool *pool;
    int threads;
    double seconds;
    int compute; /* a limn_compute, or -1 for all */
    const char *filter;
} bench_options;

/* Prints what was chosen; ends the program after a line on stderr when an option is wrong. */
bench_options bench_parse(int argc, char **argv);
void bench_close(bench_options *o);
bool bench_wanted(const bench_options *o, const char *text);

/* The instruction that bounds a packed weight's kernel on this table. */
bench_unit bench_unit_of(const limn_kernels *k, const limn_packed *w);

/* Median seconds of one call: one warm-up, then at least three calls and o->seconds in all. With
 * LIMN_BENCH_CPU_TIME, for machines that are not quiet, the least. */
double bench_median(const bench_options *o, void (*fn)(void *arg), void *arg);

/* Fills n floats with repeatable small numbers. */
void bench_fill(float *x, size_t n);

#endif
