/* SPDX-License-Identifier: MIT */
/* move: copies, transposes, upsampling, gathers of every dtype, timestep sinusoids, by plain loops;
 * nothing outside the destination is written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/mem.h"
#include "kernel_tables.h"
#include "kernels/exec.h"
#include "kernels/move.h"

static kernel_table tables[TABLES_MAX];
static int n_tables;
static limn_pool *pools[4];

static uint8_t *bytes(uint64_t *s, size_t n) {
    uint8_t *p = limn_mem_alloc(n + 64);
    for (size_t i = 0; i < n + 64; i++) p[i] = (uint8_t)test_range(s, 0, 255);
    return p;
}

static void test_copy(void **state) {
    (void)state;
    uint64_t s = 1;
    for (int i = 0; i < 60; i++) {
        size_t size = (size_t)1 << (i % 4);
        limn_copy_args a = {.size = size,
                            .planes = test_range(&s, 0, 4),
                            .rows = test_range(&s, 0, 40),
                            .cols = test_range(&s, 0, 300)};
        a.y_row = a.cols + test_range(&s, 0, 9);
        a.x_row = i % 5 == 0 ? 0 : a.cols + test_range(&s, 0, 9);
        a.y_plane = a.rows * a.y_row + 3;
        a.x_plane = a.rows * a.x_row + 1;
        size_t yn = (size_t)(a.planes * a.y_plane) * size;
        size_t xn = (size_t)(a.planes * a.x_plane + a.cols) * size;
        uint8_t *x = bytes(&s, xn), *y = bytes(&s, yn), *want = limn_mem_alloc(yn + 64);
        memcpy(want, y, yn + 64);
        for (int64_t p = 0; p < a.planes; p++)
            for (int64_t r = 0; r < a.rows; r++)
                for (size_t b = 0; b < (size_t)a.cols * size; b++)
                    want[(size_t)(p * a.y_plane + r * a.y_row) * size + b] =
                        x[(size_t)(p * a.x_plane + r * a.x_row) * size + b];
        a.x = x, a.y = y;
        limn_exec ex = {.k = &tables[0].k, .pool = pools[1 + i % 3]};
        limn_copy_run(&ex, &a);
        assert_memory_equal(y, want, yn + 64);
        limn_mem_free(x), limn_mem_free(y), limn_mem_free(want);
    }
}

static void test_transpose(void **state) {
    (void)state;
    static const int shapes[][3] = {{1, 1, 1},  {2, 3, 5},   {1, 16, 16},  {2, 17, 33},
                                    {1, 64, 1}, {1, 1, 100}, {1, 320, 81}, {0, 4, 4}};
    uint64_t s = 2;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (size_t size = 1; size <= 8; size *= 2) {
            limn_transpose_args a = {
                .size = size, .n = shapes[i][0], .rows = shapes[i][1], .cols = shapes[i][2]};
            size_t n = (size_t)(a.n * a.rows * a.cols) * size;
            uint8_t *x = bytes(&s, n), *y = bytes(&s, n), *want = limn_mem_alloc(n + 64);
            memcpy(want, y, n + 64);
            for (int64_t p = 0; p < a.n; p++)
                for (int64_t r = 0; r < a.rows; r++)
                    for (int64_t c = 0; c < a.cols; c++)
                        memcpy(want + (size_t)((p * a.cols + c) * a.rows + r) * size,
                               x + (size_t)((p * a.rows + r) * a.cols + c) * size, size);
            a.x = x, a.y = y;
            limn_exec ex = {.k = &tables[0].k, .pool = pools[1 + i % 3]};
            limn_transpose_run(&ex, &a);
            assert_memory_equal(y, want, n + 64);
            limn_mem_free(x), limn_mem_free(y), limn_mem_free(want);
        }
}

static void test_upsample(void **state) {
    (void)state;
    static const int shapes[][6] = {{1, 1, 1, 2, 2, 3},     {2, 3, 4, 6, 8, 5}, {1, 5, 7, 9, 13, 4},
                                    {1, 8, 8, 16, 16, 320}, {1, 4, 4, 3, 5, 2}, {1, 2, 2, 0, 4, 1}};
    uint64_t s = 3;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (size_t size = 2; size <= 4; size *= 2) {
            const int *z = shapes[i];
            limn_upsample_args a = {.size = size,
                                    .n = z[0],
                                    .in_h = z[1],
                                    .in_w = z[2],
                                    .out_h = z[3],
                                    .out_w = z[4],
                                    .channels = z[5]};
            size_t px = (size_t)a.channels * size, n = (size_t)(a.n * a.out_h * a.out_w) * px;
            uint8_t *x = bytes(&s, (size_t)(a.n * a.in_h * a.in_w) * px), *y = bytes(&s, n);
            uint8_t *want = limn_mem_alloc(n + 64);
            memcpy(want, y, n + 64);
            for (int64_t p = 0; p < a.n; p++)
                for (int64_t r = 0; r < a.out_h; r++)
                    for (int64_t c = 0; c < a.out_w; c++) {
                        int64_t from =
                            (p * a.in_h + r * a.in_h / a.out_h) * a.in_w + c * a.in_w / a.out_w;
                        memcpy(want + (size_t)((p * a.out_h + r) * a.out_w + c) * px,
                               x + (size_t)from * px, px);
                    }
            a.x = x, a.y = y;
            limn_exec ex = {.k = &tables[0].k, .pool = pools[1 + i % 3]};
            limn_upsample_run(&ex, &a);
            assert_memory_equal(y, want, n + 64);
            limn_mem_free(x), limn_mem_free(y), limn_mem_free(want);
        }
}

static void test_gather(void **state) {
    (void)state;
    enum { ROWS = 9, COLS = 2304, COUNT = 5 };
    const int32_t ids[COUNT] = {8, 0, 3, 3, 7};
    uint64_t s = 4;
    float *want = limn_mem_alloc(ROWS * COLS * 4), *y = limn_mem_alloc(COUNT * COLS * 4);
    for (int type = 0; type < LIMN_DTYPE_COUNT; type++) {
        size_t row;
        assert_true(limn_dtype_row_bytes(&row, (limn_dtype)type, COLS));
        uint8_t *table = bytes(&s, ROWS * row);
        limn_dtype_to_f32(want, table, (limn_dtype)type, ROWS * COLS);
        for (int t = 0; t < n_tables; t++) {
            limn_exec ex = {.k = &tables[t].k, .pool = pools[2]};
            limn_gather_args a = {.y = {y, LIMN_F32, COLS},
                                  .table = table,
                                  .type = (limn_dtype)type,
                                  .table_rows = ROWS,
                                  .ids = ids,
                                  .rows = COUNT,
                                  .cols = COLS};
            assert_int_equal(limn_gather_run(&ex, &a, NULL), LIMN_OK);
            for (int i = 0; i < COUNT * COLS; i++) {
                float w = want[ids[i / COLS] * COLS + i % COLS];
                assert_true(y[i] == w || (isnan(y[i]) && isnan(w)));
            }
        }
        limn_mem_free(table);
    }
    limn_mem_free(want);
    limn_mem_free(y);
}

static void test_gather_refuses(void **state) {
    (void)state;
    float table[8] = {0}, y[8] = {5, 5, 5, 5};
    int32_t ids[2] = {0, 2};
    limn_err err = {0};
    limn_exec ex = {.k = &tables[0].k};
    limn_gather_args a = {.y = {y, LIMN_F32, 4},
                          .table = table,
                          .type = LIMN_F32,
                          .table_rows = 2,
                          .ids = ids,
                          .rows = 2,
                          .cols = 4};
    assert_int_equal(limn_gather_run(&ex, &a, &err), LIMN_E_VALUE);
    assert_non_null(strstr(err.text, "id 2 at position 1"));
    assert_true(y[0] == 5);
    ids[1] = -1;
    assert_int_equal(limn_gather_run(&ex, &a, &err), LIMN_E_VALUE);
    a.type = LIMN_Q8_0;
    assert_int_equal(limn_gather_run(&ex, &a, &err), LIMN_E_SHAPE);
}

static void test_timestep(void **state) {
    (void)state;
    const double t[3] = {0, 999, 431.5};
    float y[3 * 9];
    limn_timestep_args a = {.y = y, .t = t, .n = 3, .dim = 9, .max_period = 10000};
    for (int flip = 0; flip < 2; flip++)
        for (int shift = 0; shift < 2; shift++) {
            a.flip_sin_to_cos = flip;
            a.shift = shift;
            limn_timestep_run(&a);
            for (int i = 0; i < 3; i++) {
                assert_true(y[i * 9 + 8] == 0);
                for (int c = 0; c < 4; c++) {
                    double w = t[i] * pow(10000, -c / (4.0 - shift));
                    float sine = y[i * 9 + c + (flip ? 4 : 0)],
                          cosine = y[i * 9 + c + (flip ? 0 : 4)];
                    assert_true(fabs((double)sine - sin(w)) < 1e-7);
                    assert_true(fabs((double)cosine - cos(w)) < 1e-7);
                }
            }
        }
}

int main(void) {
    n_tables = kernel_tables_fill(tables);
    for (int i = 1; i <= 3; i++)
        if (limn_pool_new(&pools[i], i, NULL) != LIMN_OK) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_copy),           cmocka_unit_test(test_transpose),
        cmocka_unit_test(test_upsample),       cmocka_unit_test(test_gather),
        cmocka_unit_test(test_gather_refuses), cmocka_unit_test(test_timestep),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    for (int i = 1; i <= 3; i++) limn_pool_free(&pools[i]);
    return failed;
}
