/* SPDX-License-Identifier: MIT */
/* See bench_util.h. */
#include "bench_util.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SAMPLES_MAX = 200 };

static void die(const char *what, const char *value) {
    fprintf(stderr, "bench: %s%s\n", what, value);
    exit(2);
}

static void parse_option(bench_options *o, unsigned *mask, const char *name, const char *value) {
    static const char *const computes[] = {"exact", "half", "int8"};
    if (!value) die("a value is missing after ", name);
    if (strcmp(name, "--threads") == 0) {
        o->threads = atoi(value);
    } else if (strcmp(name, "--seconds") == 0) {
        o->seconds = atof(value);
    } else if (strcmp(name, "--cpu-mask") == 0) {
        limn_err err = {0};
        if (limn_cpu_mask_parse(mask, value, &err) != LIMN_OK) die(err.text, "");
    } else if (strcmp(name, "--compute") == 0) {
        for (int i = 0; i < 3; i++)
            if (strcmp(value, computes[i]) == 0) o->compute = i;
        if (o->compute < 0) die("unknown mode ", value);
    } else {
        die("unknown option ", name);
    }
}

bench_options bench_parse(int argc, char **argv) {
    bench_options o = {.seconds = 0.3, .compute = -1};
    unsigned mask = ~0u;
    for (int i = 1; i < argc; i++) {
        if (argv[i][0] != '-') {
            o.filter = argv[i];
        } else {
            parse_option(&o, &mask, argv[i], i + 1 < argc ? argv[i + 1] : NULL);
            i++;
        }
    }
    limn_err err = {0};
    if (limn_pool_new(&o.pool, o.threads, &err) != LIMN_OK) die(err.text, "");
    o.threads = limn_pool_threads(o.pool);
    limn_kernels_init(&o.k, limn_cpu_detect() & mask);
    char text[64];
    printf("level %s, %d threads\n", limn_cpu_describe(o.k.cpu, text, sizeof text), o.threads);
    for (int u = 0; u < BENCH_UNIT_COUNT; u++)
        if (bench_unit_has((bench_unit)u, limn_cpu_detect()))
            printf("peak %-14s %8.1f G/s\n", bench_unit_name((bench_unit)u),
                   bench_peak((bench_unit)u, o.pool, 0.1));
    return o;
}

void bench_close(bench_options *o) {
    limn_pool_free(&o->pool);
}

bool bench_wanted(const bench_options *o, const char *text) {
    return !o->filter || strstr(text, o->filter);
}

bench_unit bench_unit_of(const limn_kernels *k, const limn_packed *w) {
    if (w->store == LIMN_STORE_QUANT && k->cpu & LIMN_CPU_AVX2)
        return k->cpu & LIMN_CPU_VNNI ? BENCH_VNNI_ZMM : BENCH_MADD_YMM;
    switch (limn_packed_words(w, k)) {
    case LIMN_WORDS_BF16X2: return BENCH_BF16_ZMM;
    case LIMN_WORDS_U8X4: return BENCH_VNNI_ZMM;
    case LIMN_WORDS_S16X2:
    case LIMN_WORDS_S16X4: return k->cpu & LIMN_CPU_AVX2 ? BENCH_MADD_YMM : BENCH_FMA_SSE;
    default: break;
    }
    if (k->cpu & LIMN_CPU_AVX512) return BENCH_FMA_ZMM;
    return k->cpu & LIMN_CPU_AVX2 ? BENCH_FMA_YMM : BENCH_FMA_SSE;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

double bench_median(const bench_options *o, void (*fn)(void *arg), void *arg) {
    double samples[SAMPLES_MAX], all = 0;
    int n = 0;
    fn(arg);
    while (n < SAMPLES_MAX && (n < 3 || all < o->seconds)) {
        double t = bench_clock(o->threads);
        fn(arg);
        samples[n] = bench_clock(o->threads) - t;
        all += samples[n++];
    }
    qsort(samples, (size_t)n, sizeof *samples, compare);
    return samples[getenv("LIMN_BENCH_CPU_TIME") ? 0 : n / 2];
}

void bench_fill(float *x, size_t n) {
    for (size_t i = 0; i < n; i++) x[i] = (float)(i * 7 % 23) * 0.01f - 0.1f;
}
