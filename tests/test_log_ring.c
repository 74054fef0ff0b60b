/* SPDX-License-Identifier: MIT */
/* The newest lines of the log in memory: numbers, bounds, readers that are woken, many threads. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "server/log_ring.h"

static void wake(void *user) {
    atomic_fetch_add((atomic_int *)user, 1);
}

static limn_log_reader *reader_open(limn_log_ring *ring, int64_t after, atomic_int *woken) {
    limn_log_reader *r = NULL;
    limn_err err = {0};
    limn_log_query q = {.after = after, .least = LIMN_LOG_DEBUG};
    assert_int_equal(limn_log_reader_open(&r, ring, &q, wake, woken, &err), LIMN_OK);
    return r;
}

static void test_lines_are_numbered_and_bounded(void **state) {
    (void)state;
    limn_log_ring *ring;
    limn_buf line;
    bool lost = false;
    atomic_int woken = 0;
    assert_int_equal(limn_log_ring_new(&ring, NULL), LIMN_OK);
    limn_log_reader *first = reader_open(ring, 0, &woken);
    for (int i = 0; i < LIMN_LOG_RING_LINES + 10; i++)
        limn_log_ring_add(ring, LIMN_LOG_INFO, i, "\"message\":\"m\"");
    limn_buf_init(&line, 1 << 16);
    int64_t id = limn_log_reader_next(first, &line, &lost);
    assert_true(lost && id > 1 && strstr(limn_buf_text(&line), "\"message\":\"m\""));
    int n = 1;
    for (int64_t next; (next = limn_log_reader_next(first, &line, &lost)) > 0; id = next, n++) {
        assert_true(next == id + 1 && !lost);
        limn_buf_clear(&line);
    }
    assert_int_equal(id, LIMN_LOG_RING_LINES + 10);
    assert_true(n <= LIMN_LOG_RING_LINES);
    /* it has seen all: the next line wakes it, once */
    int before = atomic_load(&woken);
    limn_log_ring_add(ring, LIMN_LOG_INFO, 0, "\"message\":\"a\"");
    limn_log_ring_add(ring, LIMN_LOG_INFO, 0, "\"message\":\"b\"");
    assert_int_equal(atomic_load(&woken), before + 1);
    limn_buf_deinit(&line);
    limn_log_reader_close(&first);
    limn_log_ring_free(&ring);
}

enum { WRITERS = 4, LINES = 1500 };

static void *write_lines(void *ring) {
    for (int i = 0; i < LINES; i++)
        limn_log_ring_add(ring, i % 3 ? LIMN_LOG_INFO : LIMN_LOG_WARN, i, "\"message\":\"x\"");
    return NULL;
}

/* Reads while others write; what it sees rises, and it ends behind the last line. */
static void *read_lines(void *user) {
    limn_log_ring *ring = user;
    atomic_int woken = 0;
    limn_log_reader *r = reader_open(ring, 0, &woken);
    limn_buf line;
    limn_buf_init(&line, 1 << 16);
    for (int64_t last = 0, id; last < (int64_t)WRITERS * LINES;) {
        bool lost;
        limn_buf_clear(&line);
        id = limn_log_reader_next(r, &line, &lost);
        if (id == 0) continue;
        if (id <= last) return ring;
        last = id;
    }
    limn_buf_deinit(&line);
    limn_log_reader_close(&r);
    return NULL;
}

static void test_threads(void **state) {
    (void)state;
    limn_log_ring *ring;
    pthread_t writers[WRITERS], readers[2];
    assert_int_equal(limn_log_ring_new(&ring, NULL), LIMN_OK);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&readers[i], NULL, read_lines, ring), 0);
    for (int i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_create(&writers[i], NULL, write_lines, ring), 0);
    for (int i = 0; i < 20; i++) {
        limn_buf list;
        limn_buf_init(&list, LIMN_LOG_RING_BYTES * 2);
        limn_log_query q = {.tail = 10, .least = LIMN_LOG_WARN};
        limn_log_ring_list(ring, &list, &q);
        assert_int_equal(limn_buf_text(&list)[0], '[');
        limn_buf_deinit(&list);
    }
    for (int i = 0; i < WRITERS; i++) pthread_join(writers[i], NULL);
    for (int i = 0; i < 2; i++) {
        void *bad;
        pthread_join(readers[i], &bad);
        assert_null(bad);
    }
    limn_log_ring_free(&ring);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_lines_are_numbered_and_bounded),
                                       cmocka_unit_test(test_threads)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
