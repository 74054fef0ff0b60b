/* SPDX-License-Identifier: MIT */
/* base: status texts, buffers with ceilings, arenas, the pool, file maps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/fsmap.h"
#include "base/late.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/status.h"

static void test_fail_cleans_text(void **state) {
    (void)state;
    limn_err err = {0};
    assert_int_equal(limn_fail(&err, LIMN_E_FORMAT, "a\x1b[31m%s", "b\n"), LIMN_E_FORMAT);
    assert_string_equal(err.text, "a?[31mb?");
    limn_err_prefix(&err, "%s", "file");
    assert_string_equal(err.text, "file: a?[31mb?");
    assert_int_equal(limn_status_exit(LIMN_E_USAGE), 2);
    assert_int_equal(limn_status_http(LIMN_E_LIMIT), 413);
}

static void test_buf_ceiling(void **state) {
    (void)state;
    limn_buf b;
    limn_buf_init(&b, 10);
    limn_buf_adds(&b, "0123456789");
    assert_false(b.failed);
    limn_buf_addc(&b, 'x');
    assert_true(b.failed);
    assert_string_equal(limn_buf_text(&b), "0123456789");
    assert_null(limn_buf_take(&b));
}

static void test_alloc_failure_latches(void **state) {
    (void)state;
    limn_arena a;
    limn_arena_init(&a);
    limn_mem_fail_after(0);
    assert_null(limn_arena_alloc(&a, 8));
    limn_mem_fail_after(-1);
    assert_true(a.failed);
    assert_null(limn_arena_alloc(&a, 8));
    limn_arena_deinit(&a);
    char *s = limn_arena_printf(&a, "%d-%s", 7, "x");
    assert_string_equal(s, "7-x");
    limn_arena_deinit(&a);
}

static void mark(void *arg, size_t task, int worker) {
    (void)worker;
    ((uint8_t *)arg)[task]++;
}

static void test_pool_runs_each_task_once(void **state) {
    (void)state;
    for (int threads = 1; threads <= 5; threads++) {
        limn_pool *pool;
        assert_int_equal(limn_pool_new(&pool, threads, NULL), LIMN_OK);
        for (int round = 0; round < 200; round++) {
            uint8_t done[97] = {0};
            limn_pool_run(pool, mark, done, sizeof done);
            for (size_t i = 0; i < sizeof done; i++) assert_int_equal(done[i], 1);
            size_t count = (size_t)round % sizeof done; /* fewer than threads, too */
            limn_pool_run_near(pool, mark, done, count);
            for (size_t i = 0; i < sizeof done; i++) assert_int_equal(done[i], i < count ? 2 : 1);
        }
        limn_pool_free(&pool);
        assert_null(pool);
    }
    limn_err err = {0};
    limn_pool *pool;
    assert_int_equal(limn_pool_new(&pool, 1000, &err), LIMN_E_VALUE);
}

/* ---- libraries that are opened late ---- */
#define GONE_CALLS(X) X(limn_test_gone)
#define OTHER_CALLS(X) X(cabs) X(limn_test_other)
#define HERE_CALLS(X) X(zlibVersion)
#ifdef LIMN_LATE
void limn_test_gone(void);
void limn_test_other(void);
LIMN_LATE_LIBRARY(gone, "tests", GONE_CALLS, "liblimn-gone.so.1")
LIMN_LATE_LIBRARY(other, "tests", OTHER_CALLS, "libm.so.6")
#endif
const char *zlibVersion(void);
LIMN_LATE_LIBRARY(here, "tests", HERE_CALLS, "libz.so.1")

static void test_late(void **state) {
    limn_err err = {0};
    assert_int_equal(limn_late_open(&here, &err), LIMN_OK);
    assert_int_equal(limn_late_open(&here, NULL), LIMN_OK);
    assert_true(zlibVersion()[0] >= '1');
#ifdef LIMN_LATE
    for (int i = 0; i < 2; i++) { /* it is not tried again, and says the same */
        err = (limn_err){0};
        assert_int_equal(limn_late_open(&gone, &err), LIMN_E_UNAVAILABLE);
        assert_non_null(strstr(err.text, "tests need"));
        assert_non_null(strstr(err.text, "liblimn-gone.so.1"));
    }
    assert_int_equal(limn_late_open(&gone, NULL), LIMN_E_UNAVAILABLE);
    /* All functions or none. */
    assert_int_equal(limn_late_open(&other, &err), LIMN_E_UNAVAILABLE);
    assert_non_null(strstr(err.text, "limn_test_other"));
    assert_ptr_equal(limn_late_slot_cabs, (void *)limn_late_trap);
#endif
}

static void test_fsmap(void **state) {
    (void)state;
    limn_fsmap *m;
    limn_err err = {0};
    assert_int_equal(limn_fsmap_open(&m, "/nonexistent/file", &err), LIMN_E_NOT_FOUND);
    assert_int_equal(limn_fsmap_open(&m, "/tmp", &err), LIMN_E_IO);
    char path[] = "/tmp/limn_fsmap_XXXXXX";
    int fd = mkstemp(path);
    assert_int_equal(write(fd, "hello", 5), 5);
    close(fd);
    assert_int_equal(limn_fsmap_open(&m, path, &err), LIMN_OK);
    assert_int_equal(m->size, 5);
    assert_memory_equal(m->data, "hello", 5);
    limn_fsmap *again = limn_fsmap_ref(m);
    limn_fsmap_unref(&m);
    assert_null(m);
    limn_fsmap_drop(again, 0, 5);
    assert_memory_equal(again->data, "hello", 5);
    limn_fsmap_unref(&again);
    unlink(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fail_cleans_text),
        cmocka_unit_test(test_buf_ceiling),
        cmocka_unit_test(test_alloc_failure_latches),
        cmocka_unit_test(test_pool_runs_each_task_once),
        cmocka_unit_test(test_late),
        cmocka_unit_test(test_fsmap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
