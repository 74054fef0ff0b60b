/* SPDX-License-Identifier: MIT */
/*
 * attention: every dispatch table against a naive f64 softmax over ragged shapes, head counts,
 * strides, types, masks and limits; decoding by key ranges; hostile values; equal bits for 1, 2 and
 * 3 threads; no write outside the output.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/mem.h"
#include "kernel_tables.h"
#include "kernels/exec.h"

static kernel_table tables[TABLES_MAX];
static int n_tables;

typedef enum mask_kind { NO_MASK, FULL_BIAS, KEY_MASK, HEAD_BIAS, ROW_HOLES } mask_kind;

typedef struct at_case {
    int64_t n, len_q, len_k, heads, kv_heads, dim, dim_v;
    bool causal;
    int64_t offset;
    mask_kind mask;
    limn_dtype type, kv_type; /* q and out; k and v */
    bool fused;               /* q, k, v are windows into one wide buffer */
    float scale, size;        /* size: magnitude of q and k */
    bool rising;              /* keys grow from almost 0 to that magnitude */
} at_case;

typedef struct at_data {
    at_case c;
    limn_attention_args a;
    void *q, *k, *v, *out;
    float *bias;
    float *qf, *kf, *vf; /* the values that q, k and v hold, dense */
    size_t out_bytes;
    double *want; /* [n, len_q, heads, dim_v] */
    double top;   /* largest |v| */
} at_data;

enum { GUARD = 64 };

/* A dense f32 tensor of random values becomes a strided typed one; returns its data. */
static void *store(float *dense, limn_dtype t, int64_t rows, int64_t width, int64_t stride) {
    const limn_dtype_info *info = limn_dtype_get(t);
    size_t row_bytes = (size_t)(stride / info->block * info->bytes);
    uint8_t *p = limn_mem_calloc((size_t)rows * row_bytes + GUARD, 1);
    for (int64_t r = 0; r < rows; r++) {
        assert_true(limn_dtype_from_f32(p + (size_t)r * row_bytes, dense + r * width, t, width));
        limn_dtype_to_f32(dense + r * width, p + (size_t)r * row_bytes, t, width);
    }
    return p;
}

static float *randoms(uint64_t *s, int64_t n, float size) {
    float *x = limn_mem_alloc((size_t)(n > 0 ? n : 1) * 4);
    for (int64_t i = 0; i < n; i++) x[i] = test_random(s) * size;
    return x;
}

static void make_bias(at_data *d, uint64_t *s) {
    const at_case *c = &d->c;
    limn_attention_args *a = &d->a;
    int64_t rows = c->mask == KEY_MASK ? 1 : c->len_q, heads = c->mask == HEAD_BIAS ? c->heads : 1;
    d->bias = randoms(s, heads * rows * c->len_k, 4.0f);
    for (int64_t i = 0; i < heads * rows * c->len_k; i++) {
        float pick = test_random(s);
        if (c->mask != HEAD_BIAS && pick > 0.4f) d->bias[i] = -INFINITY;
        if (c->mask == ROW_HOLES && i / c->len_k % 3 == 1)
            d->bias[i] = pick > 0 ? -INFINITY : -3.4028235e38f;
    }
    a->bias = d->bias;
    a->bias_row = c->mask == KEY_MASK ? 0 : c->len_k;
    a->bias_head = c->mask == HEAD_BIAS ? c->len_q * c->len_k : 0;
}

static at_data make(const at_case *given, uint64_t seed) {
    at_case full = *given, *c = &full;
    if (c->n == 0) c->n = 1;
    if (c->heads == 0) c->heads = 1;
    if (c->kv_heads == 0) c->kv_heads = 1;
    if (c->size == 0) c->size = 1.0f;
    uint64_t s = seed * 2654435761u + 88172645463325252u;
    int64_t dv = c->dim_v ? c->dim_v : c->dim, wide = c->fused ? 7 : 0;
    at_data d = {.c = *c};
    d.qf = randoms(&s, c->n * c->len_q * c->heads * c->dim, c->size);
    d.kf = randoms(&s, c->n * c->len_k * c->kv_heads * c->dim, c->size);
    d.vf = randoms(&s, c->n * c->len_k * c->kv_heads * dv, 1.0f);
    int64_t qw = c->heads * c->dim, kw = c->kv_heads * c->dim, vw = c->kv_heads * dv;
    for (int64_t i = 0; c->rising && i < c->n * c->len_k * kw; i++)
        d.kf[i] *= (float)(i / kw % c->len_k + 1) / (float)c->len_k;
    d.q = store(d.qf, c->type, c->n * c->len_q, qw, qw + wide);
    d.k = store(d.kf, c->kv_type, c->n * c->len_k, kw, kw + wide);
    d.v = store(d.vf, c->kv_type, c->n * c->len_k, vw, vw + wide);
    int64_t ow = c->heads * dv;
    d.out_bytes = (size_t)(c->n * c->len_q * (ow + wide)) * (c->type == LIMN_F32 ? 4 : 2) + GUARD;
    d.out = limn_mem_alloc(d.out_bytes);
    d.a = (limn_attention_args){.q = {d.q, c->type, c->len_q * (qw + wide), qw + wide, c->dim},
                                .k = {d.k, c->kv_type, c->len_k * (kw + wide), kw + wide, c->dim},
                                .v = {d.v, c->kv_type, c->len_k * (vw + wide), vw + wide, dv},
                                .out = d.out,
                                .out_type = c->type,
                                .out_batch = c->len_q * (ow + wide),
                                .out_row = ow + wide,
                                .out_head = dv,
                                .n = c->n,
                                .len_q = c->len_q,
                                .len_k = c->len_k,
                                .heads = c->heads,
                                .kv_heads = c->kv_heads,
                                .dim = c->dim,
                                .dim_v = c->dim_v,
                                .scale = c->scale,
                                .causal = c->causal,
                                .offset = c->offset,
                                .exact = true};
    if (c->mask != NO_MASK) make_bias(&d, &s);
    for (int64_t i = 0; i < c->n * c->len_k * vw; i++)
        if (fabsf(d.vf[i]) > d.top) d.top = fabs((double)d.vf[i]);
    d.want = limn_mem_calloc((size_t)(c->n * c->len_q * ow) + 1, sizeof(double));
    return d;
}

static void drop(at_data *d) {
    void *all[] = {d->q, d->k, d->v, d->out, d->bias, d->qf, d->kf, d->vf, d->want};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) limn_mem_free(all[i]);
}

/* One query of the oracle. */
static void oracle_row(at_data *d, int64_t b, int64_t i, int64_t h, double *score) {
    const at_case *c = &d->c;
    int64_t dv = c->dim_v ? c->dim_v : c->dim, kvh = h / (c->heads / c->kv_heads);
    const float *q = d->qf + ((b * c->len_q + i) * c->heads + h) * c->dim;
    double top = -INFINITY, sum = 0, scale = c->scale != 0 ? c->scale : 1 / sqrt((double)c->dim);
    for (int64_t j = 0; j < c->len_k; j++) {
        const float *k = d->kf + ((b * c->len_k + j) * c->kv_heads + kvh) * c->dim;
        double x = 0;
        for (int64_t e = 0; e < c->dim; e++) x += (double)q[e] * (double)k[e];
        x *= scale;
        if (d->bias) x += (double)d->bias[h * d->a.bias_head + i * d->a.bias_row + j];
        if ((c->causal && j > i + c->offset) || x < -2.3e38) x = -INFINITY;
        score[j] = x;
        if (x > top) top = x;
    }
    double *want = d->want + ((b * c->len_q + i) * c->heads + h) * dv;
    if (top == -INFINITY) return; /* stays 0 */
    for (int64_t j = 0; j < c->len_k; j++) sum += score[j] = exp(score[j] - top);
    for (int64_t j = 0; j < c->len_k; j++)
        for (int64_t e = 0; e < dv; e++)
            want[e] +=
                score[j] / sum * (double)d->vf[((b * c->len_k + j) * c->kv_heads + kvh) * dv + e];
}

static void oracle(at_data *d) {
    double *score = limn_mem_alloc((size_t)(d->c.len_k + 1) * sizeof *score);
    for (int64_t b = 0; b < d->c.n; b++)
        for (int64_t i = 0; i < d->c.len_q; i++)
            for (int64_t h = 0; h < d->c.heads; h++) oracle_row(d, b, i, h, score);
    limn_mem_free(score);
}

static void run(const kernel_table *t, limn_pool *pool, at_data *d) {
    memset(d->out, 0xa5, d->out_bytes);
    size_t bytes = limn_attention_scratch_bytes(&t->k, &d->a, limn_pool_threads(pool));
    assert_true(bytes != SIZE_MAX);
    uint8_t *scratch = limn_mem_aligned(bytes + GUARD);
    memset(scratch, 0xff, bytes + GUARD); /* NaN everywhere: nothing unset may be used */
    limn_exec ex = {.k = &t->k, .pool = pool, .scratch = scratch, .scratch_bytes = bytes};
    limn_attention_run(&ex, &d->a);
    for (size_t i = 0; i < GUARD; i++) assert_int_equal(scratch[bytes + i], 0xff);
    limn_mem_free(scratch);
}

static void describe(const kernel_table *t, const at_case *c, const char *what) {
    print_error("%s, %s: n %d q %d k %d heads %d/%d dim %d/%d causal %d off %d mask %d type %d/%d "
                "fused %d size %g\n",
                t->name, what, (int)c->n, (int)c->len_q, (int)c->len_k, (int)c->heads,
                (int)c->kv_heads, (int)c->dim, (int)c->dim_v, c->causal, (int)c->offset, c->mask,
                c->type, c->kv_type, c->fused, (double)c->size);
}

/* Error of weights: exp doubles the relative error of a score of size s by s; sums add a little. */
static double tolerance(const at_data *d, bool exact) {
    const at_case *c = &d->c;
    double scale = c->scale != 0 ? fabs((double)c->scale) : 1 / sqrt((double)c->dim);
    double spread = scale * (double)c->size * (double)c->size * (double)c->dim + 4;
    double eps = exact ? 1.2e-7 : 4e-3;
    double out = c->type == LIMN_F32 ? 0 : c->type == LIMN_F16 ? 5e-4 : 4e-3;
    return d->top * (eps * (2 * spread + 8) + out) + 1e-7;
}

static void compare(const kernel_table *t, at_data *d) {
    const at_case *c = &d->c;
    int64_t ow = c->heads * (c->dim_v ? c->dim_v : c->dim);
    double limit = tolerance(d, d->a.exact);
    float *row = limn_mem_alloc((size_t)ow * 4);
    for (int64_t r = 0; r < c->n * c->len_q; r++) {
        size_t at = (size_t)(r * d->a.out_row) * (c->type == LIMN_F32 ? 4 : 2);
        limn_dtype_to_f32(row, (uint8_t *)d->out + at, c->type, ow);
        for (int64_t e = 0; e < ow; e++) {
            double want = d->want[r * ow + e], diff = fabs((double)row[e] - want);
            if (!(diff <= limit)) {
                describe(t, c, "differs");
                fail_msg("row %d column %d: %.9g, expected %.9g (limit %g)", (int)r, (int)e,
                         (double)row[e], want, limit);
            }
        }
    }
    limn_mem_free(row);
    const uint8_t *end = (uint8_t *)d->out + d->out_bytes;
    int64_t wide = d->a.out_row - ow; /* the gap after the last row and the guard are untouched */
    size_t gap = (size_t)wide * (c->type == LIMN_F32 ? 4 : 2) + GUARD;
    if (c->n * c->len_q > 0)
        for (size_t i = 1; i <= gap; i++) assert_int_equal(end[-(ptrdiff_t)i], 0xa5);
}

static limn_pool *pools[4];

static void check_case(const at_case *c, uint64_t seed) {
    at_data d = make(c, seed);
    oracle(&d);
    uint8_t *first = limn_mem_alloc(d.out_bytes);
    for (int t = 0; t < n_tables; t++)
        for (int exact = 1; exact >= 0; exact--) {
            d.a.exact = exact;
            for (int threads = 1; threads <= 3; threads++) {
                run(&tables[t], pools[threads], &d);
                if (threads == 1) {
                    compare(&tables[t], &d);
                    memcpy(first, d.out, d.out_bytes);
                } else if (memcmp(first, d.out, d.out_bytes) != 0) {
                    describe(&tables[t], c, "threads");
                    fail_msg("other bits with %d threads", threads);
                }
            }
        }
    limn_mem_free(first);
    drop(&d);
}

/* What is left out is 1. */
#define CASE(...) ((at_case){__VA_ARGS__})

static void test_head_dims(void **state) {
    (void)state;
    static const int dims[] = {1,  2,  3,  5,   7,   8,   17,  40,  64, 72,
                               80, 88, 96, 112, 128, 160, 256, 333, 512};
    for (size_t i = 0; i < sizeof dims / sizeof *dims; i++) {
        at_case c = CASE(.len_q = 19, .len_k = 101, .dim = dims[i], .heads = 2, .kv_heads = 2);
        check_case(&c, i);
    }
}

static void test_ragged_lengths(void **state) {
    (void)state;
    static const int lens[] = {1, 2, 3, 5, 15, 16, 17, 31, 33, 77, 95, 96, 97, 193};
    enum { COUNT = sizeof lens / sizeof *lens };
    for (int i = 0; i < COUNT; i++)
        for (int j = 0; j < COUNT; j++) {
            at_case c = CASE(.len_q = lens[i], .len_k = lens[j], .dim = 10, .n = 1 + (i + j) % 2);
            check_case(&c, (uint64_t)(i * 100 + j));
        }
}

static void test_masks_and_limits(void **state) {
    (void)state;
    uint64_t s = 12345;
    for (int i = 0; i < 90; i++) {
        at_case c = CASE(.len_q = test_range(&s, 1, 140), .len_k = test_range(&s, 1, 230),
                         .dim = test_range(&s, 1, 48), .n = test_range(&s, 1, 2));
        c.kv_heads = test_range(&s, 1, 3);
        c.heads = c.kv_heads * test_range(&s, 1, 3);
        c.mask = (mask_kind)(i % 5);
        c.causal = i % 3 == 1;
        c.offset = i % 2 ? c.len_k - c.len_q : test_range(&s, -20, 20);
        c.fused = i % 4 == 3;
        c.dim_v = i % 7 == 6 ? test_range(&s, 1, 50) : 0;
        c.scale = i % 5 == 4 ? 0.37f : 0;
        check_case(&c, (uint64_t)i + 1000);
    }
}

static void test_types(void **state) {
    (void)state;
    static const limn_dtype types[] = {LIMN_F32, LIMN_F16, LIMN_BF16, LIMN_Q8_0};
    for (int q = 0; q < 3; q++)
        for (int kv = 0; kv < 4; kv++)
            for (int len = 1; len < 40; len += 37) {
                at_case c = CASE(.len_q = len, .len_k = 70, .dim = 64, .heads = 4, .kv_heads = 2,
                                 .type = types[q], .kv_type = types[kv]);
                check_case(&c, (uint64_t)(q * 4 + kv));
            }
}

/* Few queries over many keys: several key ranges, joined. */
static void test_decoding(void **state) {
    (void)state;
    static const int lens[] = {1, 127, 128, 129, 513, 1024, 2500};
    for (size_t i = 0; i < sizeof lens / sizeof *lens; i++) {
        at_case c =
            CASE(.len_q = 1 + (int)i % 2, .len_k = lens[i], .dim = 32, .heads = 8, .kv_heads = 2,
                 .causal = true, .n = 2, .kv_type = LIMN_F16, .mask = i % 2 ? ROW_HOLES : NO_MASK);
        c.offset = c.len_k - c.len_q;
        check_case(&c, i + 50);
        c.offset = c.len_k / 3;
        check_case(&c, i + 60);
    }
    for (int kv = 1; kv <= 6; kv++) { /* kv heads in tasks of one, some or all */
        at_case c = CASE(.len_q = 1 + kv % 3, .len_k = 90 * kv, .dim = 48, .heads = 3 * kv,
                         .kv_heads = kv, .causal = true, .kv_type = kv % 2 ? LIMN_F16 : LIMN_F32);
        c.offset = c.len_k - c.len_q;
        check_case(&c, (uint64_t)kv + 70);
    }
}

/* Up to LIMN_ATTENTION_FEW_QUERIES new positions together give the bits of one after the other,
 * which reads fewer keys and has another number of rows. */
static void test_queries_alone(void **state) {
    (void)state;
    static const int lens[] = {4, 63, 66, 130, 386, 514, 1027}, groups[] = {1, 2, 4, 8};
    static const limn_dtype types[] = {LIMN_F32, LIMN_F16, LIMN_BF16, LIMN_Q8_0};
    for (size_t i = 0; i < sizeof lens / sizeof *lens; i++)
        for (int t = 0; t < n_tables; t++) {
            at_case c = CASE(.len_q = 2 + (int)i % 3, .len_k = lens[i], .dim = 64, .kv_heads = 2,
                             .causal = true, .kv_type = types[i % 4]);
            c.heads = 2 * groups[(i + (size_t)t) % 4];
            c.offset = c.len_k - c.len_q;
            at_data d = make(&c, i + 90);
            d.a.exact = i % 2;
            size_t row = (size_t)d.a.out_row * 4;
            run(&tables[t], pools[2], &d);
            uint8_t *together = limn_mem_alloc(d.out_bytes);
            memcpy(together, d.out, d.out_bytes);
            for (int64_t q = 0; q < c.len_q; q++) {
                at_data one = d;
                one.a.len_q = 1;
                one.a.offset = c.offset + q;
                one.a.len_k = one.a.offset + 1;
                one.a.q.data = (const uint8_t *)d.q + (size_t)(q * d.a.q.row) * 4;
                run(&tables[t], pools[1], &one);
                if (memcmp(d.out, together + (size_t)q * row, row) != 0) {
                    describe(&tables[t], &c, "queries together");
                    fail_msg("query %d has other bits", (int)q);
                }
            }
            limn_mem_free(together);
            drop(&d);
        }
}

/* Heads that share a kv head lie side by side in a tile: groups that fill vectors, that do not, and
 * that are longer than one; limits within and between vectors. */
static void test_groups(void **state) {
    (void)state;
    static const int groups[] = {2, 3, 4, 7, 8, 40}, lens[] = {9, 31, 70};
    enum { GROUPS = sizeof groups / sizeof *groups, LENS = sizeof lens / sizeof *lens };
    for (int g = 0; g < GROUPS; g++)
        for (int l = 0; l < LENS; l++) {
            at_case c = CASE(.len_q = lens[l], .len_k = 60 + lens[l], .dim = 20, .dim_v = 12,
                             .kv_heads = 1 + l % 2, .causal = true, .kv_type = LIMN_F16);
            c.heads = c.kv_heads * groups[g];
            c.offset = g % 2 ? c.len_k - c.len_q : 3;
            c.mask = l == 1 ? HEAD_BIAS : NO_MASK;
            check_case(&c, (uint64_t)(g * 10 + l));
        }
}

/* Maxima that grow with every range of keys, by less and by more than results wait for. */
static void test_rising_scores(void **state) {
    (void)state;
    static const float sizes[] = {2.0f, 4.0f, 9.0f};
    for (int i = 0; i < 6; i++) {
        at_case c = CASE(.len_q = 40 + i, .len_k = 400 - i, .dim = 64, .heads = 4, .kv_heads = 2,
                         .size = sizes[i / 2], .rising = true, .causal = i % 2);
        c.offset = c.len_k - c.len_q;
        check_case(&c, (uint64_t)i + 300);
    }
}

/* Scores up to thousands: the running maximum must carry. */
static void test_large_scores(void **state) {
    (void)state;
    at_case c = CASE(.len_q = 33, .len_k = 300, .dim = 40, .size = 20.0f);
    check_case(&c, 7);
    c.len_q = 2;
    check_case(&c, 8);
    c = CASE(.len_q = 40, .len_k = 200, .dim = 16, .size = 1e-30f);
    check_case(&c, 9);
}

static void test_empty(void **state) {
    (void)state;
    at_case c = CASE(.len_q = 20, .len_k = 0, .dim = 8);
    check_case(&c, 1);
    c.len_q = 1;
    check_case(&c, 2);
    c.len_q = 0;
    check_case(&c, 3);
    c = CASE(.len_q = 50, .len_k = 9, .dim = 8, .causal = true, .offset = -30);
    check_case(&c, 4);
}

/* A NaN in a key poisons the queries that see it and no other. */
static void test_nan(void **state) {
    (void)state;
    for (int few = 0; few < 2; few++) {
        at_case c = CASE(.len_q = few ? 4 : 64, .len_k = 64, .dim = 16, .causal = true);
        at_data d = make(&c, 3);
        int64_t bad = few ? 2 : 30;
        ((float *)d.k)[bad * 16 + 3] = NAN;
        for (int t = 0; t < n_tables; t++) {
            run(&tables[t], NULL, &d);
            for (int64_t i = 0; i < c.len_q; i++)
                for (int e = 0; e < 16; e++)
                    assert_int_equal(isnan(((float *)d.out)[i * 16 + e]) != 0, i >= bad);
        }
        drop(&d);
    }
}

static void test_impossible_scratch(void **state) {
    (void)state;
    limn_attention_args a = {.n = INT64_MAX / 4,
                             .len_q = 1,
                             .len_k = INT64_MAX / 4,
                             .heads = 8,
                             .kv_heads = 8,
                             .dim = 64};
    assert_true(limn_attention_scratch_bytes(&tables[0].k, &a, 2) == SIZE_MAX);
}

int main(void) {
    n_tables = kernel_tables_fill(tables);
    for (int i = 1; i <= 3; i++)
        if (limn_pool_new(&pools[i], i, NULL) != LIMN_OK) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_head_dims),
        cmocka_unit_test(test_ragged_lengths),
        cmocka_unit_test(test_masks_and_limits),
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_decoding),
        cmocka_unit_test(test_queries_alone),
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_rising_scores),
        cmocka_unit_test(test_large_scores),
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_nan),
        cmocka_unit_test(test_impossible_scratch),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    for (int i = 1; i <= 3; i++) limn_pool_free(&pools[i]);
    return failed;
}
