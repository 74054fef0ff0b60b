/* SPDX-License-Identifier: MIT */
/*
 * Quantised panels: every dispatch table x type x ragged size, from blocks of random bytes (every
 * code, every scale) and from quantised rows, against products in double precision; the same bits
 * on every table, for every number of rows and threads, as for each row alone; from a view of the
 * packed bytes as well.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/mem.h"
#include "kernel_pools.h"
#include "kernels/matmul.h"
#include "kernels/quant_panel.h"
#include "tensor/quantise.h"

static const limn_dtype types[] = {LIMN_Q8_0, LIMN_Q4_0, LIMN_Q4_K, LIMN_Q5_K, LIMN_Q6_K};
enum { TYPES = sizeof types / sizeof *types };

static void *room(size_t n) {
    void *p = limn_mem_aligned(n ? n : 64);
    assert_non_null(p);
    return p;
}

/* n rows of k elements: quantised random rows, or random bytes with f16 scales near 1/64 that keep
 * sums finite. */
static uint8_t *make_rows(limn_dtype t, int n, int k, bool wild, uint64_t *seed) {
    size_t row;
    const limn_dtype_info *info = limn_dtype_get(t);
    assert_true(limn_dtype_row_bytes(&row, t, k));
    uint8_t *file = room(row * (size_t)n);
    float *x = room((size_t)k * sizeof *x);
    for (int i = 0; i < n; i++) {
        uint8_t *to = file + (size_t)i * row;
        for (int j = 0; j < k; j++) x[j] = test_random(seed);
        if (!wild) limn_quantise_row(to, x, t, k, NULL);
        for (size_t b = 0; wild && b < row; b++) to[b] = (uint8_t)(test_random(seed) * 128 + 128);
        for (size_t b = 0; wild && b < row; b += (size_t)info->bytes) {
            to[b + (t == LIMN_Q6_K ? (size_t)info->bytes - 1 : 1)] = 0x24;
            if (t == LIMN_Q4_K || t == LIMN_Q5_K) to[b + 3] = 0xa4; /* a negative minimum */
        }
    }
    limn_mem_free(x);
    return file;
}

typedef struct product {
    int m, n, k;
    limn_packed *w;
    const float *x;
    float *y; /* [m][n] */
    limn_act act;
} product;

static limn_matmul_args args_of(const product *p) {
    return (limn_matmul_args){.y = p->y,
                              .y_dtype = LIMN_F32,
                              .y_stride = p->n,
                              .x = p->x,
                              .x_dtype = LIMN_F32,
                              .x_stride = p->k,
                              .m = p->m,
                              .w = p->w,
                              .epi = {.scale = 1, .act = p->act}};
}

static void multiply(const kernel_table *t, limn_pool *pool, const product *p) {
    limn_err err = {0};
    limn_matmul_args a = args_of(p);
    size_t need = limn_matmul_scratch_bytes(&t->k, &a, limn_pool_threads(pool));
    limn_exec ex = {.k = &t->k, .pool = pool, .scratch = room(need), .scratch_bytes = need};
    memset(ex.scratch, 0xff, need);
    if (limn_matmul(&ex, &a, &err) != LIMN_OK) fail_msg("%s: %s", t->name, err.text);
    limn_mem_free(ex.scratch);
}

static void check_values(const product *p, limn_dtype type, const uint8_t *file) {
    size_t row;
    limn_dtype_row_bytes(&row, type, p->k);
    float *w = room((size_t)p->k * sizeof *w);
    float *x = room((size_t)p->k * sizeof *x);
    for (int i = 0; i<p->m; i += p->m> 9 ? 7 : 1) {
        memcpy(x, p->x + (size_t)i * (size_t)p->k, (size_t)p->k * sizeof *x);
        test_q8_row(x, p->k, limn_quant_powers(type));
        for (int j = 0; j < p->n; j++) {
            double want = 0, size = 0, got = p->y[(size_t)i * (size_t)p->n + (size_t)j];
            limn_dtype_to_f32(w, file + (size_t)j * row, type, p->k);
            for (int c = 0; c < p->k; c++) {
                want += (double)x[c] * (double)w[c];
                size += fabs((double)x[c] * (double)w[c]);
            }
            if (!(fabs(got - want) <= 1e-5 * size + 1e-6))
                fail_msg("%s m=%d n=%d k=%d: y[%d][%d] = %.9g, not %.9g",
                         limn_dtype_get(type)->name, p->m, p->n, p->k, i, j, got, want);
        }
    }
    limn_mem_free(w);
    limn_mem_free(x);
}

static void same(const float *a, const float *b, size_t n, const char *name, const char *what,
                 const product *p) {
    if (memcmp(a, b, n * sizeof *a) == 0) return;
    size_t i = 0;
    while (memcmp(a + i, b + i, sizeof *a) == 0) i++;
    fail_msg("%s, %s, m=%d n=%d k=%d: element %zu is %.9g, not %.9g", name, what, p->m, p->n, p->k,
             i, (double)a[i], (double)b[i]);
}

/* One table: threads, rows alone, a view. `want` are the plain C results. */
static void check_table(const kernel_table *t, product p, const limn_pack_args *pa,
                        const float *want, const char *type) {
    char name[96];
    size_t size, count = (size_t)p.m * (size_t)p.n;
    float *y = room(count * sizeof *y);
    snprintf(name, sizeof name, "%s %s", t->name, type);
    p.y = y;
    assert_int_equal(limn_packed_new(&p.w, &t->k, pools[0], pa, NULL), LIMN_OK);
    assert_int_equal(p.w->store, LIMN_STORE_QUANT);
    multiply(t, NULL, &p);
    same(y, want, count, name, "plain C", &p);
    for (int i = 0; i < 2; i++) {
        memset(y, 0xa5, count * sizeof *y);
        multiply(t, pools[i], &p);
        same(y, want, count, name, "threads", &p);
    }
    limn_packed *w = p.w;
    const void *bytes = limn_packed_bytes(w, &size);
    assert_int_equal(limn_packed_view(&p.w, &t->k, bytes, size, NULL), LIMN_OK);
    product one = p;
    for (int i = 0; i<p.m; i += p.m> 9 ? 37 : 1) {
        one.m = 1;
        one.x = p.x + (size_t)i * (size_t)p.k;
        multiply(t, NULL, &one);
        same(y, want + (size_t)i * (size_t)p.n, (size_t)p.n, name, "one row", &one);
    }
    limn_packed_free(&p.w);
    limn_packed_free(&w);
    limn_mem_free(y);
}

static void run_case(limn_dtype type, int m, int n, int k, bool wild, uint64_t seed) {
    uint64_t s = seed * 0x9e3779b97f4a7c15u + 1;
    uint8_t *file = make_rows(type, n, k, wild, &s);
    float *x = room((size_t)m * (size_t)k * sizeof *x);
    float *y = room((size_t)m * (size_t)n * sizeof *y);
    for (int i = 0; i < m * k; i++) x[i] = test_random(&s) * (float)(1 + i % 40);
    for (int i = 0; i < 32; i++) x[i] = 0; /* a group without a largest value */
    limn_pack_args pa = {.data = file, .dtype = type, .n = n, .k = k, .compute = LIMN_COMPUTE_HALF};
    product p = {.m = m, .n = n, .k = k, .x = x, .y = y};
    assert_int_equal(limn_packed_new(&p.w, &tables[0].k, NULL, &pa, NULL), LIMN_OK);
    multiply(&tables[0], NULL, &p);
    check_values(&p, type, file);
    if (seed & 1) { /* the same with what a gate adds to it */
        p.act = LIMN_ACT_SILU;
        multiply(&tables[0], NULL, &p);
    }
    limn_packed_free(&p.w);
    for (int t = 0; t < n_tables; t++)
        check_table(&tables[t], p, &pa, y, limn_dtype_get(type)->name);
    limn_mem_free(file);
    limn_mem_free(x);
    limn_mem_free(y);
}

static void test_every_height(void **state) {
    (void)state;
    for (int t = 0; t < TYPES; t++)
        for (int m = 1; m <= 9; m++)
            run_case(types[t], m, 3 + 5 * m, 256 * (1 + m % 3), m & 1, (uint64_t)(m + 100 * t));
}

static void test_ragged(void **state) {
    (void)state;
    uint64_t s = 5;
    for (int round = 0; round < 24; round++) {
        limn_dtype type = types[round % TYPES];
        int block = limn_dtype_get(type)->block, most = block == 32 ? 40 : 5;
        int k = block * (1 + (int)((test_random(&s) + 1) / 2 * (float)most));
        int n = 1 + (int)((test_random(&s) + 1) * 40), m = 1 + (int)((test_random(&s) + 1) * 20);
        run_case(type, m, n, k, round % 3 == 0, (uint64_t)round + 7);
    }
}

/* Several tiles of rows and several stretches of a row. */
static void test_large(void **state) {
    (void)state;
    for (int t = 0; t < TYPES; t++) run_case(types[t], 261 + t, 35, 1792, true, (uint64_t)t + 50);
}

/* The largest codes everywhere: no sum of pairs may overflow. */
static void test_extremes(void **state) {
    (void)state;
    enum { K = 256, N = 16, M = 5 };
    for (int t = 0; t < TYPES; t++)
        for (int round = 0; round < 2; round++) {
            size_t row;
            const limn_dtype_info *info = limn_dtype_get(types[t]);
            limn_dtype_row_bytes(&row, types[t], K);
            uint8_t *file = room(row * N);
            memset(file, round ? 0x80 : 0xff, row * N); /* round 1: the least signed codes */
            for (size_t b = 0; b < row * N; b += (size_t)info->bytes) {
                uint8_t *d = file + b + (types[t] == LIMN_Q6_K ? info->bytes - 2 : 0);
                d[0] = d[2 * (types[t] == LIMN_Q4_K || types[t] == LIMN_Q5_K)] = 0;
                d[1] = 0x3c;
                if (types[t] == LIMN_Q4_K || types[t] == LIMN_Q5_K) d[3] = 0x38;
            }
            float x[M * K], y[M * N];
            for (int i = 0; i < M * K; i++) x[i] = i / K % 2 ? -1 : 1;
            limn_pack_args pa = {
                .data = file, .dtype = types[t], .n = N, .k = K, .compute = LIMN_COMPUTE_HALF};
            for (int i = 0; i < n_tables; i++) {
                product p = {.m = M, .n = N, .k = K, .x = x, .y = y};
                assert_int_equal(limn_packed_new(&p.w, &tables[i].k, NULL, &pa, NULL), LIMN_OK);
                multiply(&tables[i], NULL, &p);
                check_values(&p, types[t], file);
                p.m = 1;
                multiply(&tables[i], NULL, &p);
                check_values(&p, types[t], file);
                limn_packed_free(&p.w);
            }
            limn_mem_free(file);
        }
}

/* With `powers` each scale is the least power of two that does; tiny groups become zeros. */
static void check_power(float d, float exact) {
    int exponent;
    if (exact < 0x1p-101f) {
        assert_true(d <= 0);
        return;
    }
    assert_true(frexpf(d, &exponent) == 0.5f);
    assert_true(d >= exact && d < 2 * exact);
}

static void check_quantise(bool powers) {
    enum { K = 608 }; /* 19 groups: eight at a time and three */
    float x[K], d[2][K / 32], s[2][K / 32];
    int8_t q[2][K] __attribute__((aligned(64)));
    int16_t w[2][K] __attribute__((aligned(64))), h[2][K / 16];
    uint64_t seed = 3;
    for (int i = 0; i < K; i++)
        x[i] = test_random(&seed) * (float)(i / 32); /* first group: zeros */
    x[32 * 3] = 127 * 0.25f;                         /* already a power of two */
    for (int i = K - 32; i < K; i++) x[i] *= 1e-32f;
    tables[0].k.gemm.quantise_q8(q[0], w[0], d[0], s[0], h[0], x, K, powers ? LIMN_Q8_POWERS : 0);
    for (int i = 0; i < K; i++) {
        bool none = powers && i >= K - 32;
        assert_true(fabsf(x[i] - d[0][i / 32] * q[0][i]) <= 0.5001f * d[0][i / 32] + 1e-30f * none);
        static const int order[4] = {0, 2, 1, 3};
        assert_int_equal(w[0][i], q[0][(i & ~3) + order[i & 3]]);
    }
    for (int g = 1; powers && g < K / 32; g++) {
        float peak = 0;
        for (int i = 32 * g; i < 32 * g + 32; i++) peak = fmaxf(peak, fabsf(x[i]));
        check_power(d[0][g], peak / 127.0f);
    }
    for (int t = 1; t < n_tables; t++) {
        tables[t].k.gemm.quantise_q8(q[1], w[1], d[1], s[1], h[1], x, K,
                                     powers ? LIMN_Q8_POWERS : 0);
        assert_memory_equal(q[0], q[1], sizeof q[0]);
        assert_memory_equal(w[0], w[1], sizeof w[0]);
        assert_memory_equal(d[0], d[1], sizeof d[0]);
        assert_memory_equal(s[0], s[1], sizeof s[0]);
        assert_memory_equal(h[0], h[1], sizeof h[0]);
    }
    for (int t = 0; t < n_tables; t++) {
        tables[t].k.gemm.quantise_q8(q[1], NULL, d[1], s[1], h[1], x, K,
                                     (powers ? LIMN_Q8_POWERS : 0) | LIMN_Q8_BIASED);
        for (int i = 0; i < K; i++) assert_int_equal((uint8_t)q[1][i], q[0][i] + 128);
        for (int g = 0; g < K / 32; g++)
            assert_true(d[1][g] == d[0][g] * (powers ? LIMN_Q8_SHIFT : 1));
        assert_memory_equal(s[0], s[1], sizeof s[0]);
        assert_memory_equal(h[0], h[1], sizeof h[0]);
    }
}

static void test_quantise(void **state) {
    (void)state;
    check_quantise(false);
    check_quantise(true);
    assert_true(limn_quant_power(0) <= 0 && limn_quant_power(1) == 1);
    assert_true(limn_quant_power(1.0001f) == 2 && limn_quant_power(0x1p-100f) == 0x1p-100f);
    assert_true(isinf(limn_quant_power(0x1.1p100f)) && isinf(limn_quant_power(INFINITY)));
    assert_true(isinf(limn_quant_power(NAN)));
}

/* Weights of mixed types times one x, together and one by one; x also in bf16. */
enum { SIDES = 4, SIDE_K = 512, SIDE_ROWS = 14 };

static void together(const kernel_table *t, limn_pool *pool, product *p, const uint16_t *narrow) {
    limn_err err = {0};
    limn_matmul_args a[SIDES];
    float *alone[SIDES], *y[SIDES];
    for (int i = 0; i < SIDES; i++) {
        size_t count = (size_t)p[i].m * (size_t)p[i].n;
        y[i] = memset(room(count * sizeof(float)), 0xa5, count * sizeof(float));
        p[i].y = alone[i] = room(count * sizeof(float));
        multiply(t, pool, &p[i]);
        a[i] = args_of(&p[i]);
        a[i].y = y[i];
        if (narrow) a[i].x = narrow, a[i].x_dtype = LIMN_BF16;
    }
    size_t need = limn_matmul_together_scratch_bytes(&t->k, a, SIDES, limn_pool_threads(pool));
    limn_exec ex = {.k = &t->k, .pool = pool, .scratch = room(need + 64), .scratch_bytes = need};
    memset(ex.scratch, 0xff, need + 64);
    if (limn_matmul_together(&ex, a, SIDES, &err) != LIMN_OK) fail_msg("%s: %s", t->name, err.text);
    for (size_t i = 0; i < 64; i++) assert_int_equal(((uint8_t *)ex.scratch)[need + i], 0xff);
    for (int i = 0; i < SIDES; i++) {
        same(y[i], alone[i], (size_t)p[i].m * (size_t)p[i].n, t->name, "together", &p[i]);
        limn_mem_free(y[i]);
        limn_mem_free(alone[i]);
    }
    limn_mem_free(ex.scratch);
}

static void test_together(void **state) {
    (void)state;
    static const limn_dtype mixed[SIDES] = {LIMN_Q4_K, LIMN_Q8_0, LIMN_Q4_K, LIMN_Q6_K};
    static const int widths[SIDES] = {200, 16, 7, 530};
    uint64_t seed = 5;
    uint16_t narrow[SIDE_ROWS * SIDE_K];
    float x[SIDE_ROWS * SIDE_K];
    for (size_t i = 0; i < SIDE_ROWS * SIDE_K; i++) {
        narrow[i] = limn_f32_to_bf16(test_random(&seed));
        x[i] = limn_bf16_to_f32(narrow[i]);
    }
    uint8_t *file[SIDES];
    for (int i = 0; i < SIDES; i++) file[i] = make_rows(mixed[i], widths[i], SIDE_K, true, &seed);
    for (int i = 0; i < n_tables; i++) {
        product p[SIDES];
        for (int k = 0; k < SIDES; k++) {
            limn_pack_args pa = {.data = file[k],
                                 .dtype = mixed[k],
                                 .n = widths[k],
                                 .k = SIDE_K,
                                 .compute = LIMN_COMPUTE_HALF};
            p[k] = (product){.n = widths[k], .k = SIDE_K, .x = x};
            assert_int_equal(limn_packed_new(&p[k].w, &tables[i].k, pools[0], &pa, NULL), LIMN_OK);
        }
        for (int m = 1; m <= SIDE_ROWS; m += m < 4 ? 1 : 5)
            for (int thread = 0; thread < 6; thread++) {
                for (int k = 0; k < SIDES; k++) p[k].m = m;
                together(&tables[i], thread % 3 ? pools[thread % 3 - 1] : NULL, p,
                         thread < 3 ? NULL : narrow);
            }
        for (int k = 0; k < SIDES; k++) limn_packed_free(&p[k].w);
    }
    for (int i = 0; i < SIDES; i++) limn_mem_free(file[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quantise), cmocka_unit_test(test_every_height),
        cmocka_unit_test(test_ragged),   cmocka_unit_test(test_large),
        cmocka_unit_test(test_extremes), cmocka_unit_test(test_together),
    };
    return cmocka_run_group_tests(tests, pools_setup, pools_teardown);
}
