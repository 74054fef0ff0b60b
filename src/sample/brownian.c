/* SPDX-License-Identifier: MIT */
/* Brownian path by halving intervals; see brownian.h. */
#include "sample/brownian.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum {
    POOL_WORDS = 24,    /* torchsde's pool_size */
    ENTROPY_WORDS = 64, /* assembled entropy: the padded seed and the key */
    DEPTH_MAX = 60      /* times have six decimals, so 2^60 halvings never happen */
};

/* ---- numpy SeedSequence ---- */

static uint32_t hash_mix(uint32_t value, uint32_t *state, uint32_t factor) {
    value ^= *state;
    *state *= factor;
    value *= *state;
    return value ^ (value >> 16);
}

static uint32_t pool_mix(uint32_t x, uint32_t y) {
    uint32_t r = 0xca01f9ddu * x - 0x4973f715u * y;
    return r ^ (r >> 16);
}

/* Appends the 32-bit words of v, least first, at least one. */
static int words_add(uint32_t *w, int n, uint64_t v) {
    w[n++] = (uint32_t)v;
    if (v >> 32) w[n++] = (uint32_t)(v >> 32);
    return n;
}

void limn_seed_sequence(uint32_t *out, int count, uint64_t seed, const uint64_t *key,
                        int key_count) {
    uint32_t entropy[ENTROPY_WORDS] = {0}, pool[POOL_WORDS];
    int n = words_add(entropy, 0, seed);
    if (key_count > 0 && n < POOL_WORDS) n = POOL_WORDS; /* zero padding keeps keys apart */
    for (int i = 0; i < key_count; i++) n = words_add(entropy, n, key[i]);

    uint32_t state = 0x43b0d7e5u;
    for (int i = 0; i < POOL_WORDS; i++)
        pool[i] = hash_mix(i < n ? entropy[i] : 0, &state, 0x931e8875u);
    for (int s = 0; s < POOL_WORDS; s++)
        for (int d = 0; d < POOL_WORDS; d++)
            if (s != d) pool[d] = pool_mix(pool[d], hash_mix(pool[s], &state, 0x931e8875u));
    for (int s = POOL_WORDS; s < n; s++)
        for (int d = 0; d < POOL_WORDS; d++)
            pool[d] = pool_mix(pool[d], hash_mix(entropy[s], &state, 0x931e8875u));

    state = 0x8b51f9ddu;
    for (int i = 0; i < count; i++) out[i] = hash_mix(pool[i % POOL_WORDS], &state, 0x58f38dedu);
}

/* ---- the tree ---- */

struct limn_brownian {
    limn_rng_kind kind;
    uint64_t seed;
    int64_t n;
    double t0, t1;           /* rounded */
    float *root;             /* [n] W(t1) - W(t0) */
    float *noise;            /* [n] scratch */
    float *level[DEPTH_MAX]; /* [n] increment of the child being walked, made when first needed */
};

/* An interval of the tree with its place: the k-th of its depth is path k. */
typedef struct node {
    double start, end;
    uint64_t path;
    int depth;
    const float *w; /* [n] its increment */
} node;

/* To six decimals as Python's round(): correctly rounded decimal, read back. */
static double six_decimals(double t) {
    char text[64];
    snprintf(text, sizeof text, "%.6f", t);
    return strtod(text, NULL);
}

static void draw(limn_brownian *b, uint32_t seed) {
    limn_rng rng;
    limn_rng_init(&rng, b->kind, seed);
    limn_rng_normal(&rng, b->noise, b->n);
}

limn_status limn_brownian_new(limn_brownian **out, limn_rng_kind kind, uint64_t seed, int64_t n,
                              double t0, double t1, limn_err *err) {
    limn_status st = LIMN_OK;
    limn_brownian *b = NULL;
    size_t bytes;
    *out = NULL;
    LIMN_CHECK(err, isfinite(t0) && isfinite(t1) && t0 < t1 && fabs(t0) < 1e6 && fabs(t1) < 1e6,
               LIMN_E_VALUE, "a Brownian path from %g to %g cannot be made", t0, t1);
    LIMN_CHECK(err, n >= 1 && limn_mul_size(&bytes, (size_t)n, sizeof(float)), LIMN_E_VALUE,
               "a Brownian path of %lld values cannot be made", (long long)n);
    b = limn_mem_calloc(1, sizeof *b);
    LIMN_CHECK(err, b, LIMN_E_NOMEM, "no memory for a Brownian path");
    *b = (limn_brownian){.kind = kind, .seed = seed, .n = n};
    b->t0 = six_decimals(t0);
    b->t1 = six_decimals(t1);
    b->root = limn_mem_alloc(bytes);
    b->noise = limn_mem_alloc(bytes);
    LIMN_CHECK(err, b->root && b->noise, LIMN_E_NOMEM, "no memory for a Brownian path");
    uint32_t first;
    limn_seed_sequence(&first, 1, seed, NULL, 0);
    draw(b, first);
    float spread = (float)sqrt(t1 - t0); /* of the unrounded ends */
    for (int64_t i = 0; i < n; i++) b->root[i] = b->noise[i] * spread;
    *out = b;
    b = NULL;
out:
    limn_brownian_free(&b);
    return st;
}

void limn_brownian_free(limn_brownian **b) {
    if (!b || !*b) return;
    for (int i = 0; i < DEPTH_MAX; i++) limn_mem_free((*b)->level[i]);
    limn_mem_free((*b)->root);
    limn_mem_free((*b)->noise);
    limn_mem_free(*b);
    *b = NULL;
}

/* w = increment of the left half of `at`. Products are rounded one by one, as tensor code does. */
static void left_half(limn_brownian *b, float *w, const node *at, double mid) {
    uint64_t key[2] = {at->path, (uint64_t)at->depth};
    uint32_t seed;
    limn_seed_sequence(&seed, 1, b->seed, key, 2);
    draw(b, seed);
    double left = mid - at->start, right = at->end - mid, per = 1 / (at->end - at->start);
    float left_f = (float)left, per_f = (float)per, spread = (float)sqrt(left * right * per);
    for (int64_t i = 0; i < b->n; i++) w[i] = left_f * at->w[i] * per_f + spread * b->noise[i];
}

/* Adds to out the increment over the part of `at` that lies in [ta, tb], left pieces first. */
static limn_status walk(limn_brownian *b, float *out, const node *at, double ta, double tb) {
    double mid = six_decimals(0.5 * (at->end + at->start));
    bool whole = ta <= at->start && tb >= at->end;
    if (whole || at->depth + 1 >= DEPTH_MAX || mid <= at->start || mid >= at->end) {
        for (int64_t i = 0; i < b->n; i++) out[i] += at->w[i];
        return LIMN_OK;
    }
    float **w = &b->level[at->depth];
    if (!*w) *w = limn_mem_alloc((size_t)b->n * sizeof(float));
    if (!*w) return LIMN_E_NOMEM;
    left_half(b, *w, at, mid);
    limn_status st = LIMN_OK;
    if (ta < mid) {
        node left = {at->start, mid, 2 * at->path, at->depth + 1, *w};
        st = walk(b, out, &left, ta, tb);
    }
    if (st == LIMN_OK && tb > mid) {
        for (int64_t i = 0; i < b->n; i++) (*w)[i] = at->w[i] - (*w)[i];
        node right = {mid, at->end, 2 * at->path + 1, at->depth + 1, *w};
        st = walk(b, out, &right, ta, tb);
    }
    return st;
}

limn_status limn_brownian_get(limn_brownian *b, float *out, double ta, double tb, limn_err *err) {
    memset(out, 0, (size_t)b->n * sizeof(float));
    ta = six_decimals(fmin(fmax(ta, b->t0), b->t1));
    tb = six_decimals(fmin(fmax(tb, b->t0), b->t1));
    if (!(ta < tb)) return LIMN_OK;
    node root = {b->t0, b->t1, 0, 0, b->root};
    limn_status st = walk(b, out, &root, ta, tb);
    if (st != LIMN_OK) return limn_fail(err, st, "no memory for a Brownian path");
    return LIMN_OK;
}
