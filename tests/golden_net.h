/* SPDX-License-Identifier: MIT */
/* Helpers for tests against tests/golden: open, look up, compare. Include after cmocka.h. */
#ifndef LIMN_TESTS_GOLDEN_NET_H
#define LIMN_TESTS_GOLDEN_NET_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backend.h"
#include "formats/weights.h"
#include "kernels/cpu_features.h"

static inline limn_weights *golden_open(const char *name) {
    char path[1024];
    limn_weights *w = NULL;
    limn_err err = {0};
    const char *dir = getenv("LIMN_GOLDEN_DIR");
    snprintf(path, sizeof path, "%s/%s", dir ? dir : "tests/golden", name);
    if (limn_weights_open(&w, path, &err) != LIMN_OK) fail_msg("%s", err.text);
    return w;
}

/* The text of a file, NUL-terminated; the caller frees. NULL when there is none. */
static inline char *golden_text(const char *name) {
    char path[1024];
    const char *dir = getenv("LIMN_GOLDEN_DIR");
    snprintf(path, sizeof path, "%s/%s", dir ? dir : "tests/golden", name);
    FILE *f = fopen(path, "rb");
    if (!f) return NULL;
    char *text = calloc(1, 1 << 20);
    size_t n = fread(text, 1, (1 << 20) - 1, f);
    text[n] = 0;
    fclose(f);
    return text;
}

static inline const limn_tensor *golden_get(const limn_weights *io, const char *a, const char *b) {
    const limn_tensor *t = limn_weights_findf(io, "%s%s", a, b);
    if (!t) fail_msg("fixture has no '%s%s'", a, b);
    return t;
}

/* [n, c, h, w] -> [n, h, w, c] */
static inline void to_nhwc(float *dst, const limn_tensor *t) {
    const int64_t *d = t->shape.dim;
    int64_t hw = d[2] * d[3];
    for (int64_t b = 0; b < d[0]; b++)
        for (int64_t c = 0; c < d[1]; c++)
            for (int64_t p = 0; p < hw; p++)
                dst[(b * hw + p) * d[1] + c] = ((const float *)t->data)[(b * d[1] + c) * hw + p];
}

/* Largest |y - want| relative to the largest |want|; y channels-last when want is [n, c, h, w]. */
static inline double golden_error(const float *y, const limn_tensor *want) {
    int64_t n = limn_shape_count(&want->shape);
    float *w = malloc((size_t)n * sizeof *w);
    double top = 0, worst = 0;
    if (want->shape.ndim == 4)
        to_nhwc(w, want);
    else
        memcpy(w, want->data, (size_t)n * sizeof *w);
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(y[i])) worst = INFINITY;
        top = fmax(top, fabs(w[i]));
        worst = fmax(worst, fabs((double)y[i] - w[i]));
    }
    free(w);
    return worst / top;
}

/* The backends that every network is checked on. */
typedef struct golden_backend {
    const char *name;
    int threads;
    const char *cpu_mask; /* NULL: the reference backend */
    limn_precision precision;
    double tolerance; /* of golden_error */
} golden_backend;

static const golden_backend golden_backends[] = {
    {"reference", 1, NULL, LIMN_PRECISION_EXACT, 1e-5},
    {"plain C", 1, "c", LIMN_PRECISION_EXACT, 1e-5},
    {"native exact", 2, "native", LIMN_PRECISION_EXACT, 1e-5},
    {"avx2 exact, 3 threads", 3, "avx2", LIMN_PRECISION_EXACT, 1e-5},
    {"native fast", 2, "native", LIMN_PRECISION_FAST, 2e-2},
};
enum { GOLDEN_BACKENDS = sizeof golden_backends / sizeof golden_backends[0] };

static inline limn_backend *golden_backend_new(const golden_backend *b) {
    limn_backend *backend = NULL;
    limn_err err = {0};
    unsigned mask = 0;
    limn_status st;
    if (!b->cpu_mask) {
        st = limn_backend_new_ref(&backend, &err);
    } else {
        st = limn_cpu_mask_parse(&mask, b->cpu_mask, &err);
        limn_cpu_options o = {.threads = b->threads,
                              .cpu_flags = limn_cpu_detect() & mask,
                              .precision = b->precision};
        if (st == LIMN_OK) st = limn_backend_new_cpu(&backend, &o, &err);
    }
    if (st != LIMN_OK) fail_msg("%s: %s", b->name, err.text);
    return backend;
}

#define GOLDEN_OK(call)                                                                            \
    do {                                                                                           \
        if ((call) != LIMN_OK) fail_msg("%s: %s", #call, err.text);                                \
    } while (0)

#endif
