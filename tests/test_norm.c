/* SPDX-License-Identifier: MIT */
/*
 * norm: layer, rms and group norm and softmax of every dispatch table against f64 loops: ragged
 * shapes, strides, types, per-head parts, modulation, constant rows, means far larger than the
 * deviation, masks; equal bits for 1, 2 and 3 threads.
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
static limn_pool *pools[4];
static const limn_dtype types[] = {LIMN_F32, LIMN_F16, LIMN_BF16};

/* A tensor of rows in some type, and the values it holds. */
typedef struct tensor {
    float *f;
    void *p;
    limn_dtype type;
    int64_t n, stride;
} tensor;

static tensor make_tensor(uint64_t *s, limn_dtype t, int64_t rows, int64_t stride, float size,
                          float offset) {
    tensor x = {.type = t, .n = rows * stride, .stride = stride};
    x.f = limn_mem_alloc((size_t)x.n * 4 + 64);
    x.p = limn_mem_alloc((size_t)x.n * 4 + 64);
    for (int64_t i = 0; i < x.n; i++) x.f[i] = test_random(s) * size + offset;
    assert_true(limn_dtype_from_f32(x.p, x.f, t, x.n));
    limn_dtype_to_f32(x.f, x.p, t, x.n);
    return x;
}

static void drop(tensor *x) {
    limn_mem_free(x->f);
    limn_mem_free(x->p);
}

static double type_eps(limn_dtype t) {
    return t == LIMN_F32 ? 2e-6 : t == LIMN_F16 ? 6e-4 : 5e-3;
}

/* Compares `rows` rows of `cols`; the gaps between rows must still hold 0xa5. */
static void check_rows(const char *name, const tensor *y, const double *want, int64_t rows,
                       int64_t cols, double slack) {
    size_t size = y->type == LIMN_F32 ? 4 : 2;
    limn_dtype_to_f32(y->f, y->p, y->type, y->n);
    for (int64_t r = 0; r < rows; r++) {
        double top = 1e-3;
        for (int64_t c = 0; c < cols; c++) top = fmax(top, fabs(want[r * cols + c]));
        double limit = type_eps(y->type) * top + slack;
        for (int64_t c = 0; c < cols; c++) {
            double got = (double)y->f[r * y->stride + c], w = want[r * cols + c];
            if (!(fabs(got - w) <= limit))
                fail_msg("%s row %d column %d: %.9g, expected %.9g (limit %g)", name, (int)r,
                         (int)c, got, w, limit);
        }
        const uint8_t *gap = (uint8_t *)y->p + (size_t)(r * y->stride + cols) * size;
        for (size_t i = 0; i < (size_t)(y->stride - cols) * size; i++)
            assert_int_equal(gap[i], 0xa5);
    }
}

/* ---- layer norm and rms norm ---- */

typedef struct ln_case {
    int64_t rows, parts, dim;
    bool rms, plus, weight, bias, modulate;
    limn_dtype x_type, y_type;
    float size, offset;
} ln_case;

static void ln_oracle(const ln_case *c, const limn_row_norm_args *a, const tensor *x,
                      const float *scale, const float *shift, double *want) {
    int64_t width = c->parts * c->dim;
    for (int64_t r = 0; r < c->rows; r++)
        for (int64_t p = 0; p < c->parts; p++) {
            const float *v = x->f + r * x->stride + p * c->dim;
            double mean = 0, var = 0;
            for (int64_t i = 0; i < c->dim && !c->rms; i++) mean += (double)v[i];
            mean /= (double)c->dim;
            for (int64_t i = 0; i < c->dim; i++)
                var += ((double)v[i] - mean) * ((double)v[i] - mean);
            double rstd = 1 / sqrt(var / (double)c->dim + (double)a->eps);
            for (int64_t i = 0; i < c->dim; i++) {
                double y = ((double)v[i] - mean) * rstd;
                if (a->weight) y *= (double)a->weight[i] + (c->plus ? 1 : 0);
                if (a->bias) y += (double)a->bias[i];
                int64_t m = r / 2 * width + p * c->dim + i;
                if (c->modulate) y = y * (1 + (double)scale[m]) + (double)shift[m];
                want[r * width + p * c->dim + i] = y;
            }
        }
}

static void ln_check(const ln_case *c, uint64_t seed) {
    uint64_t s = seed * 7919 + 3;
    int64_t width = c->parts * c->dim;
    tensor x = make_tensor(&s, c->x_type, c->rows, width + 3, c->size, c->offset);
    tensor y = make_tensor(&s, c->y_type, c->rows, width + 2, 1, 0);
    tensor w = make_tensor(&s, LIMN_F32, 2, c->dim, 1, 0.5f);
    tensor m = make_tensor(&s, LIMN_F32, c->rows + 2, width, 1, 0);
    const float *shift = m.f + (c->rows + 1) / 2 * width;
    limn_row_norm_args a = {.y = {y.p, y.type, y.stride},
                            .x = {x.p, x.type, x.stride, 1, false},
                            .rows = c->rows,
                            .parts = c->parts,
                            .dim = c->dim,
                            .weight = c->weight ? w.f : NULL,
                            .bias = c->bias ? w.f + c->dim : NULL,
                            .eps = 1e-5f,
                            .rms = c->rms,
                            .weight_plus = c->plus};
    if (c->modulate) {
        a.scale = (limn_rows_in){m.f, LIMN_F32, width, 2, false};
        a.shift = (limn_rows_in){shift, LIMN_F32, width, 2, false};
    }
    double *want = limn_mem_calloc((size_t)(c->rows * width) + 1, sizeof *want);
    ln_oracle(c, &a, &x, m.f, shift, want);
    uint8_t *first = limn_mem_alloc((size_t)y.n * 4 + 64);
    for (int t = 0; t < n_tables; t++)
        for (int threads = 1; threads <= 3; threads++) {
            limn_exec ex = {.k = &tables[t].k, .pool = pools[threads]};
            memset(y.p, 0xa5, (size_t)y.n * 4);
            limn_row_norm_run(&ex, &a);
            if (threads == 1) {
                check_rows(tables[t].name, &y, want, c->rows, width, 0);
                memcpy(first, y.p, (size_t)y.n * 4);
            }
            assert_memory_equal(first, y.p, (size_t)y.n * 4);
        }
    limn_mem_free(first);
    limn_mem_free(want);
    drop(&x), drop(&y), drop(&w), drop(&m);
}

static void test_row_norm(void **state) {
    (void)state;
    static const int dims[] = {1, 2, 7, 16, 33, 64, 320, 1023, 1024, 1025, 2560};
    uint64_t s = 17;
    for (size_t d = 0; d < sizeof dims / sizeof *dims; d++)
        for (int i = 0; i < 12; i++) {
            ln_case c = {.rows = test_range(&s, 0, 70),
                         .parts = test_range(&s, 1, 3),
                         .dim = dims[d],
                         .rms = i & 1,
                         .plus = i % 3 == 0,
                         .weight = i & 2,
                         .bias = i & 4,
                         .modulate = i % 5 == 4,
                         .x_type = types[i % 3],
                         .y_type = types[i / 3 % 3],
                         .size = 1};
            if (i == 7) c.size = 1e-18f;
            if (i == 8) c.size = 1e15f, c.x_type = LIMN_F32;
            if (i == 9 || i == 10) c.offset = 1000, c.x_type = LIMN_F32, c.rms = false;
            if (i == 11) c.rows = 900;
            ln_check(&c, d * 100 + (uint64_t)i);
        }
}

/* A constant row has variance 0: the bias comes out, not noise. */
static void test_constant_rows(void **state) {
    (void)state;
    float x[700], y[700];
    for (int i = 0; i < 700; i++) x[i] = 12345.678f;
    for (int t = 0; t < n_tables; t++) {
        limn_exec ex = {.k = &tables[t].k};
        limn_row_norm_args a = {.y = {y, LIMN_F32, 700},
                                .x = {x, LIMN_F32, 700, 1, false},
                                .rows = 1,
                                .dim = 700,
                                .eps = 1e-5f};
        limn_row_norm_run(&ex, &a);
        for (int i = 0; i < 700; i++) assert_true(fabsf(y[i]) < 1e-6f);
        x[3] = NAN;
        limn_row_norm_run(&ex, &a);
        for (int i = 0; i < 700; i++) assert_true(isnan(y[i]));
        x[3] = x[4];
    }
}

/* ---- group norm ---- */

typedef struct gn_case {
    int64_t n, pixels, channels, groups;
    bool silu, weight;
    limn_dtype x_type, y_type;
    float offset;
} gn_case;

static void gn_oracle(const gn_case *c, const limn_group_norm_args *a, const tensor *x,
                      double *want) {
    int64_t per = c->channels / c->groups;
    for (int64_t g = 0; g < c->n * c->groups; g++) {
        int64_t px0 = g / c->groups * c->pixels, c0 = g % c->groups * per;
        double mean = 0, var = 0, count = (double)(c->pixels * per);
        for (int64_t i = 0; i < c->pixels * per; i++)
            mean += (double)x->f[(px0 + i / per) * x->stride + c0 + i % per] / count;
        for (int64_t i = 0; i < c->pixels * per; i++) {
            double d = (double)x->f[(px0 + i / per) * x->stride + c0 + i % per] - mean;
            var += d * d / count;
        }
        for (int64_t i = 0; i < c->pixels * per; i++) {
            int64_t px = px0 + i / per, ch = c0 + i % per;
            double y = ((double)x->f[px * x->stride + ch] - mean) / sqrt(var + (double)a->eps);
            if (a->weight) y = y * (double)a->weight[ch] + (double)a->bias[ch];
            want[px * c->channels + ch] = c->silu ? y / (1 + exp(-y)) : y;
        }
    }
}

static void gn_check(const gn_case *c, uint64_t seed) {
    uint64_t s = seed * 104729 + 11;
    tensor x = make_tensor(&s, c->x_type, c->n * c->pixels, c->channels + 5, 1, c->offset);
    tensor y = make_tensor(&s, c->y_type, c->n * c->pixels, c->channels + 1, 1, 0);
    tensor w = make_tensor(&s, LIMN_F32, 2, c->channels, 1, 0.5f);
    limn_group_norm_args a = {.y = {y.p, y.type, y.stride},
                              .x = {x.p, x.type, x.stride, 1, false},
                              .n = c->n,
                              .pixels = c->pixels,
                              .channels = c->channels,
                              .groups = c->groups,
                              .weight = c->weight ? w.f : NULL,
                              .bias = c->weight ? w.f + c->channels : NULL,
                              .eps = 1e-6f,
                              .silu = c->silu};
    double *want = limn_mem_calloc((size_t)(c->n * c->pixels * c->channels) + 1, sizeof *want);
    gn_oracle(c, &a, &x, want);
    double slack = fabs((double)c->offset) * 6e-8 * 8;
    size_t bytes = limn_group_norm_scratch_bytes(&a);
    assert_true(bytes != SIZE_MAX);
    uint8_t *scratch = limn_mem_aligned(bytes + 64);
    uint8_t *first = limn_mem_alloc((size_t)y.n * 4 + 64);
    for (int t = 0; t < n_tables; t++)
        for (int threads = 1; threads <= 3; threads++) {
            limn_exec ex = {.k = &tables[t].k,
                            .pool = pools[threads],
                            .scratch = scratch,
                            .scratch_bytes = bytes};
            memset(scratch, 0xff, bytes + 64);
            memset(y.p, 0xa5, (size_t)y.n * 4);
            limn_group_norm_run(&ex, &a);
            for (int i = 0; i < 64; i++) assert_int_equal(scratch[bytes + (size_t)i], 0xff);
            if (threads == 1) {
                check_rows(tables[t].name, &y, want, c->n * c->pixels, c->channels, slack);
                memcpy(first, y.p, (size_t)y.n * 4);
            }
            assert_memory_equal(first, y.p, (size_t)y.n * 4);
        }
    limn_mem_free(first);
    limn_mem_free(scratch);
    limn_mem_free(want);
    drop(&x), drop(&y), drop(&w);
}

static void test_group_norm(void **state) {
    (void)state;
    static const int shapes[][3] = {{1, 1, 1},     {5, 4, 2},     {64, 32, 32},  {17, 320, 32},
                                    {300, 96, 3},  {7, 2560, 32}, {600, 33, 11}, {1000, 8, 1},
                                    {33, 1100, 1}, {2, 3072, 2},  {257, 6, 6},   {70, 4096, 2},
                                    {300, 640, 32}};
    for (size_t z = 0; z < sizeof shapes / sizeof *shapes; z++)
        for (int i = 0; i < 6; i++) {
            gn_case c = {.n = 1 + i % 2,
                         .pixels = shapes[z][0],
                         .channels = shapes[z][1],
                         .groups = shapes[z][2],
                         .silu = i & 1,
                         .weight = i % 3 != 0,
                         .x_type = types[i % 3],
                         .y_type = types[i / 2 % 3]};
            if (i == 3) c.offset = 3000, c.x_type = LIMN_F32; /* E[x^2] - E[x]^2 would fail */
            gn_check(&c, z * 10 + (uint64_t)i);
        }
    gn_case none = {.n = 0, .pixels = 5, .channels = 4, .groups = 2};
    gn_check(&none, 1);
    none.n = 1, none.pixels = 0;
    gn_check(&none, 2);
}

/* Statistics by themselves equal the ones of the whole. */
static void test_group_stats(void **state) {
    (void)state;
    uint64_t s = 5;
    tensor x = make_tensor(&s, LIMN_F32, 40, 12, 1, 2);
    tensor y = make_tensor(&s, LIMN_F32, 80, 12, 1, 0);
    float mean[3], rstd[3];
    for (int t = 0; t < n_tables; t++) {
        limn_group_norm_args a = {.y = {y.p, LIMN_F32, 12},
                                  .x = {x.p, LIMN_F32, 12, 1, false},
                                  .n = 1,
                                  .pixels = 40,
                                  .channels = 12,
                                  .groups = 3,
                                  .eps = 1e-5f};
        limn_exec ex = {.k = &tables[t].k};
        ex.scratch_bytes = limn_group_norm_scratch_bytes(&a);
        ex.scratch = limn_mem_aligned(ex.scratch_bytes);
        limn_group_norm_run(&ex, &a);
        limn_group_norm_stats(&ex, &a, mean, rstd);
        a.y.data = (float *)y.p + 480;
        limn_group_norm_apply(&ex, &a, mean, rstd);
        assert_memory_equal(y.p, a.y.data, 480 * 4);
        limn_mem_free(ex.scratch);
    }
    limn_group_norm_args huge = {
        .n = INT64_MAX / 2, .pixels = INT64_MAX / 2, .channels = 8, .groups = 8};
    assert_true(limn_group_norm_scratch_bytes(&huge) == SIZE_MAX);
    drop(&x), drop(&y);
}

/* ---- softmax ---- */

static void softmax_check(int64_t rows, int64_t cols, bool mask, uint64_t seed) {
    uint64_t s = seed + 1;
    tensor x = make_tensor(&s, LIMN_F32, rows, cols + 1, 30, 0);
    tensor y = make_tensor(&s, LIMN_F32, rows, cols + 2, 1, 0);
    tensor m = make_tensor(&s, LIMN_F32, (rows + 2) / 3, cols, 2, 0);
    for (int64_t i = 0; i < m.n; i++)
        if (m.f[i] > 0 || i / cols == 1) m.f[i] = -INFINITY; /* row 1 of the mask hides all */
    double *want = limn_mem_calloc((size_t)(rows * cols) + 1, sizeof *want);
    for (int64_t r = 0; r < rows; r++) {
        double top = -INFINITY, sum = 0, *w = want + r * cols;
        for (int64_t c = 0; c < cols; c++) {
            w[c] = (double)x.f[r * x.stride + c] * 0.7 + (mask ? (double)m.f[r / 3 * cols + c] : 0);
            top = fmax(top, w[c]);
        }
        for (int64_t c = 0; c < cols; c++) sum += w[c] = top == -INFINITY ? 0 : exp(w[c] - top);
        for (int64_t c = 0; c < cols; c++) w[c] /= sum > 0 ? sum : 1;
    }
    limn_softmax_args a = {.y = {y.p, LIMN_F32, y.stride},
                           .x = {x.p, LIMN_F32, x.stride, 1, false},
                           .rows = rows,
                           .cols = cols,
                           .scale = 0.7f};
    if (mask) a.mask = (limn_rows_in){m.f, LIMN_F32, cols, 3, false};
    uint8_t *first = limn_mem_alloc((size_t)y.n * 4 + 64);
    for (int t = 0; t < n_tables; t++)
        for (int threads = 1; threads <= 3; threads++) {
            limn_exec ex = {.k = &tables[t].k, .pool = pools[threads]};
            memset(y.p, 0xa5, (size_t)y.n * 4);
            limn_softmax_run(&ex, &a);
            if (threads == 1) {
                check_rows(tables[t].name, &y, want, rows, cols, 4e-6);
                memcpy(first, y.p, (size_t)y.n * 4);
            }
            assert_memory_equal(first, y.p, (size_t)y.n * 4);
        }
    limn_mem_free(first);
    limn_mem_free(want);
    drop(&x), drop(&y), drop(&m);
}

static void test_softmax(void **state) {
    (void)state;
    static const int sizes[][2] = {{0, 4}, {3, 0}, {1, 1}, {5, 2}, {7, 77}, {40, 1025}, {70, 5000}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int mask = 0; mask < 2; mask++)
            softmax_check(sizes[i][0], sizes[i][1], mask, i * 2 + (uint64_t)mask);
}

/* ---- micro-kernels: tails and guards ---- */

/* Columns of blocks of every type against plain sums in the same order. */
static void test_columns(void **state) {
    (void)state;
    enum { ROWS = 5, STRIDE = 150 };
    static const limn_dtype kinds[] = {LIMN_F32, LIMN_F16, LIMN_BF16};
    static float x[ROWS * STRIDE], wide[ROWS * STRIDE], mean[STRIDE], a[STRIDE + 1], b[STRIDE + 1];
    static uint16_t narrow[ROWS * STRIDE];
    uint64_t s = 9;
    for (int i = 0; i < STRIDE; i++) mean[i] = test_random(&s);
    for (int i = 0; i < ROWS * STRIDE; i++) x[i] = test_random(&s);
    for (size_t y = 0; y < sizeof kinds / sizeof *kinds; y++) {
        void *data = kinds[y] == LIMN_F32 ? (void *)x : narrow;
        if (kinds[y] != LIMN_F32) limn_dtype_from_f32(narrow, x, kinds[y], ROWS * STRIDE);
        limn_dtype_to_f32(wide, data, kinds[y], ROWS * STRIDE);
        limn_norm_block block = {data, kinds[y], ROWS, STRIDE};
        for (int t = 0; t < n_tables; t++)
            for (int n = 0; n <= STRIDE; n += n < 40 ? 1 : 11) {
                float sum[STRIDE], s1[STRIDE], s2[STRIDE];
                for (int i = 0; i < STRIDE; i++) sum[i] = s1[i] = s2[i] = a[i] = b[i] = 3;
                a[n] = b[n] = 7;
                for (int i = 0; i < n * ROWS; i++) {
                    float v = wide[i / n * STRIDE + i % n], d = v - mean[i % n];
                    sum[i % n] += v, s1[i % n] += d, s2[i % n] += d * d;
                }
                tables[t].k.norm.col_add(a, &block, n);
                assert_memory_equal(a, sum, (size_t)n * 4);
                for (int i = 0; i < n; i++) a[i] = 3;
                tables[t].k.norm.col_moments(a, b, &block, mean, n);
                assert_memory_equal(a, s1, (size_t)n * 4);
                for (int i = 0; i < n; i++) assert_true(fabsf(b[i] - s2[i]) < 2e-6f * s2[i]);
                assert_true(a[n] == 7 && b[n] == 7);
            }
    }
}

static void test_tails(void **state) {
    (void)state;
    enum { SPAN = 70 };
    float x[SPAN], m[SPAN], a[SPAN + 1], b[SPAN + 1];
    uint64_t s = 8;
    for (int i = 0; i < SPAN; i++) x[i] = test_random(&s), m[i] = test_random(&s);
    for (int t = 0; t < n_tables; t++)
        for (int n = 0; n <= SPAN; n++) {
            const limn_norm_kernels *k = &tables[t].k.norm;
            double sum, sq, want_sum = 0, want_sq = 0, top = -INFINITY, e = 0;
            for (int i = 0; i < SPAN + 1; i++) a[i] = b[i] = 7;
            k->row_moments(x, LIMN_F32, 0.25f, n, &sum, &sq);
            assert_true(fabs(k->row_sum(x, LIMN_F32, n) - sum - 0.25 * n) < 1e-5);
            limn_norm_block one = {.x = x, .type = LIMN_F32, .rows = 1, .stride = SPAN};
            k->col_add(a, &one, n);
            for (int i = 0; i < n; i++) {
                double d = (double)x[i] - 0.25, v = (double)x[i] * 1.5 + (double)m[i];
                want_sum += d, want_sq += d * d, top = fmax(top, v), e += exp(v - 0.5);
                assert_true(fabsf(a[i] - 7 - x[i]) < 1e-6f);
            }
            assert_true(a[n] == 7 && fabs(sum - want_sum) < 1e-5 && fabs(sq - want_sq) < 1e-5);
            for (int i = 0; i < SPAN + 1; i++) a[i] = 7;
            k->col_moments(a, b, &one, m, n);
            for (int i = 0; i < n; i++) {
                float d = x[i] - m[i];
                assert_true(fabsf(a[i] - 7 - d) < 1e-6f && fabsf(b[i] - 7 - d * d) < 2e-6f);
            }
            assert_true(a[n] == 7 && b[n] == 7);
            float got = k->scale_mask_max(a, x, m, 1.5f, n);
            assert_true(n == 0 ? got == -INFINITY : fabs((double)got - top) < 1e-6);
            assert_true(fabs(k->exp_sum(a, 0.5f, n) - e) < 1e-4 && a[n] == 7);
        }
}

/* Rows of n numbers equal those in f32 rounded once; bf16 may be off by what its shorter arithmetic
 * adds to the rounding, 1e-3 of a unit of the terms. */
static void rounded_check(const uint16_t *got, const float *y, limn_dtype to, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        float want, value;
        limn_dtype_to_f32(&value, got + i, to, 1);
        assert_true(limn_dtype_from_f32(&want, y + i, to, 1));
        if (to == LIMN_BF16)
            assert_true(fabsf(value - y[i]) <= fabsf(y[i]) * (0x1p-8f + 1.5e-4f) + 1e-6f);
        else
            assert_memory_equal(got + i, &want, 2);
    }
}

/* Rows and columns from every type to every other, with every tail: the same numbers as from f32
 * to f32, rounded, and not an element more. */
static void typed_check(const limn_norm_kernels *k, limn_dtype from, limn_dtype to, int n) {
    enum { SPAN = 50, ROWS = 6 };
    float x[ROWS * SPAN], mean[SPAN], scale[SPAN], y[ROWS * SPAN];
    uint16_t narrow[ROWS * SPAN], got[ROWS * SPAN + 1];
    uint64_t s = (uint64_t)n + 1;
    for (int i = 0; i < ROWS * SPAN; i++) x[i] = test_random(&s) * 3;
    for (int i = 0; i < SPAN; i++) mean[i] = test_random(&s), scale[i] = test_random(&s);
    const void *in = from == LIMN_F32 ? (void *)x : narrow;
    if (from != LIMN_F32) assert_true(limn_dtype_from_f32(narrow, x, from, ROWS * SPAN));
    limn_dtype_to_f32(x, in, from, ROWS * SPAN);
    double sum, sq, sum32, sq32;
    k->row_moments(in, from, 0.5f, n, &sum, &sq);
    k->row_moments(x, LIMN_F32, 0.5f, n, &sum32, &sq32);
    assert_true(sum == sum32 && sq == sq32);
    assert_true(k->row_sum(in, from, n) == k->row_sum(x, LIMN_F32, n));
    if (to == LIMN_F32) return;
    limn_norm_row row[ROWS];
    for (int i = 0; i < ROWS; i++) row[i] = (limn_norm_row){0.25f * (float)i, 1.5f, 1e-4f};
    limn_rows y32 = {y, LIMN_F32, n}, y16 = {got, to, n};
    limn_norm_block wide = {x, LIMN_F32, ROWS, SPAN}, own = {in, from, ROWS, SPAN};
    const float *weight = n % 3 == 1 ? NULL : scale, *bias = n % 2 ? mean : NULL;
    k->row_apply(&y32, &wide, row, weight, bias, n);
    got[n * ROWS] = 0xa5a5;
    k->row_apply(&y16, &own, row, weight, bias, n);
    rounded_check(got, y, to, (int64_t)n * ROWS);
    assert_int_equal(got[n * ROWS], 0xa5a5);
    k->col_apply(&y32, &wide, mean, scale, bias, n % 3 == 0, n);
    k->col_apply(&y16, &own, mean, scale, bias, n % 3 == 0, n);
    rounded_check(got, y, to, (int64_t)n * ROWS);
    assert_int_equal(got[n * ROWS], 0xa5a5);
}

static void test_types(void **state) {
    (void)state;
    for (int t = 0; t < n_tables; t++)
        for (int from = 0; from < 3; from++)
            for (int to = 0; to < 3; to++)
                for (int n = 0; n <= 50; n++)
                    typed_check(&tables[t].k.norm, types[from], types[to], n);
}

/* SiLU in bf16 from every number that is not too far out: 0.51 of a unit in the last place, where
 * rounding alone is 0.5. Signs, infinity and NaN as in f32. */
static void test_short_silu(void **state) {
    (void)state;
    enum { N = 4096 };
    static float x[N], ones[N], zeros[N];
    static uint16_t got[N];
    for (int i = 0; i < N; i++) ones[i] = 1;
    for (int t = 0; t < n_tables; t++)
        for (uint32_t at = 0; at < 0x42a00000u; at += 0x1000 * N) /* to 80 */
            for (int sign = 0; sign < 2; sign++) {
                for (uint32_t i = 0; i < N; i++) {
                    uint32_t bits = (at + i * 0x1000) | (sign ? 0x80000000u : 0);
                    memcpy(&x[i], &bits, 4);
                }
                limn_rows y = {got, LIMN_BF16, N};
                limn_norm_block b = {x, LIMN_F32, 1, N};
                tables[t].k.norm.col_apply(&y, &b, zeros, ones, zeros, true, N);
                for (int i = 0; i < N; i++) {
                    double want = (double)x[i] / (1 + exp(-(double)x[i])), unit;
                    float v;
                    limn_dtype_to_f32(&v, got + i, LIMN_BF16, 1);
                    unit = want == 0 ? 0x1p-126 : fmax(ldexp(1, ilogb(want) - 7), 0x1p-126);
                    if (fabsf(x[i]) <= 80 &&
                        !(fabs((double)v - want) <= fmax(0.51 * unit, 1.2e-38)))
                        fail_msg("%s: silu(%.9g) is %.9g, not %.9g", tables[t].name, (double)x[i],
                                 (double)v, want);
                }
            }
    for (int t = 0; t < n_tables; t++) {
        float far[4] = {INFINITY, NAN, 1e30f, -1e30f}, v[4];
        limn_rows y = {got, LIMN_BF16, 4};
        limn_norm_block b = {far, LIMN_F32, 1, 4};
        tables[t].k.norm.col_apply(&y, &b, zeros, ones, zeros, true, 4);
        limn_dtype_to_f32(v, got, LIMN_BF16, 4);
        assert_true(v[0] == INFINITY && isnan(v[1]) && v[2] > 9e29f && fabsf(v[3]) < 1e-6f);
    }
}

int main(void) {
    n_tables = kernel_tables_fill(tables);
    for (int i = 1; i <= 3; i++)
        if (limn_pool_new(&pools[i], i, NULL) != LIMN_OK) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_row_norm),    cmocka_unit_test(test_constant_rows),
        cmocka_unit_test(test_columns),     cmocka_unit_test(test_group_norm),
        cmocka_unit_test(test_group_stats), cmocka_unit_test(test_softmax),
        cmocka_unit_test(test_tails),       cmocka_unit_test(test_types),
        cmocka_unit_test(test_short_silu),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    for (int i = 1; i <= 3; i++) limn_pool_free(&pools[i]);
    return failed;
}
