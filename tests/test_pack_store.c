/* SPDX-License-Identifier: MIT */
/* Packed weights on disk: found again, kept with later ones, ignored when damaged, evicted by age.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utime.h>
#include <cmocka.h>

#include "backend/cpu/pack_store.h"

static char dir[64];

static int setup(void **state) {
    (void)state;
    strcpy(dir, "/tmp/limn_packs_XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    char cmd[128];
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    return system(cmd);
}

static limn_pack_store *open_store(const char *variant, uint64_t limit) {
    limn_pack_store *s = NULL;
    char sub[96];
    snprintf(sub, sizeof sub, "%s/a/b", dir);
    assert_int_equal(limn_pack_store_new(&s, sub, variant, limit, NULL), LIMN_OK);
    return s;
}

static limn_weight weight_of(uint64_t source, uint64_t place) {
    return (limn_weight){.name = "w", .source = source, .source_place = place, .version = 1};
}

static void save(limn_pack_store *s, const limn_weight *w, int use, const void *bytes, size_t n) {
    limn_err err = {0};
    limn_pack_item item = {w, use, bytes, n};
    if (limn_pack_store_save(s, &item, 1, &err) != LIMN_OK) fail_msg("%s", err.text);
}

static void test_found_again(void **state) {
    (void)state;
    limn_weight a = weight_of(7, 100), b = weight_of(7, 200), c = weight_of(8, 100);
    size_t n = 0;
    limn_pack_store *s = open_store("x", 1 << 20);
    assert_null(limn_pack_store_find(s, &a, 0, &n));
    save(s, &a, 0, "hello", 5);
    limn_pack_store_free(&s);
    s = open_store("x", 1 << 20);
    save(s, &b, 1, "second weight of the same file, longer than a line of the record header", 71);
    limn_pack_store_free(&s);
    s = open_store("x", 1 << 20);
    const char *p = limn_pack_store_find(s, &a, 0, &n);
    assert_non_null(p);
    assert_int_equal(n, 5);
    assert_memory_equal(p, "hello", 5);
    assert_int_equal((uintptr_t)p % 64, 0);
    assert_non_null(limn_pack_store_find(s, &b, 1, &n));
    assert_int_equal(n, 71);
    assert_null(limn_pack_store_find(s, &b, 0, &n)); /* another use */
    assert_null(limn_pack_store_find(s, &c, 0, &n)); /* another file */
    a.delta = (limn_weight_delta_fn *)(uintptr_t)1;  /* adapted: not the stored values */
    assert_null(limn_pack_store_find(s, &a, 0, &n));
    limn_pack_store_free(&s);
    s = open_store("y", 1 << 20); /* another layout */
    a.delta = NULL;
    assert_null(limn_pack_store_find(s, &a, 0, &n));
    limn_pack_store_free(&s);
}

static void test_damage_is_ignored(void **state) {
    (void)state;
    limn_weight a = weight_of(7, 100), b = weight_of(7, 200);
    size_t n = 0;
    char path[160];
    char bytes[300];
    memset(bytes, 5, sizeof bytes);
    limn_pack_store *s = open_store("x", 1 << 20);
    limn_pack_item items[] = {{&a, 0, bytes, sizeof bytes}, {&b, 0, bytes, sizeof bytes}};
    assert_int_equal(limn_pack_store_save(s, items, 2, NULL), LIMN_OK);
    limn_pack_store_free(&s);
    snprintf(path, sizeof path, "%s/a/b/0000000000000007-x.pack", dir);
    assert_int_equal(truncate(path, 64 + 64 + 320 + 64 + 100), 0); /* in the second payload */
    s = open_store("x", 1 << 20);
    assert_non_null(limn_pack_store_find(s, &a, 0, &n));
    assert_null(limn_pack_store_find(s, &b, 0, &n));
    limn_pack_store_free(&s);
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    fseek(f, 64 + 16, SEEK_SET);
    fputc(0x7f, f); /* the first record's size */
    fclose(f);
    s = open_store("x", 1 << 20);
    assert_null(limn_pack_store_find(s, &a, 0, &n));
    limn_pack_store_free(&s);
}

static void test_oldest_go_first(void **state) {
    (void)state;
    char path[160];
    char *bytes = calloc(1, 10000);
    size_t n = 0;
    for (uint64_t i = 1; i <= 3; i++) {
        limn_pack_store *s = open_store("x", 25000);
        limn_weight w = weight_of(i, 0);
        save(s, &w, 0, bytes, 10000);
        limn_pack_store_free(&s);
        snprintf(path, sizeof path, "%s/a/b/%016llx-x.pack", dir, (unsigned long long)i);
        struct utimbuf t = {(time_t)(1000 * i), (time_t)(1000 * i)};
        if (i < 3) assert_int_equal(utime(path, &t), 0);
    }
    limn_pack_store *s = open_store("x", 25000);
    limn_weight first = weight_of(1, 0), second = weight_of(2, 0), third = weight_of(3, 0);
    assert_null(limn_pack_store_find(s, &first, 0, &n));
    assert_non_null(limn_pack_store_find(s, &second, 0, &n));
    assert_non_null(limn_pack_store_find(s, &third, 0, &n));
    limn_pack_store_free(&s);
    free(bytes);
}

static void test_unwritable_folder_is_a_status(void **state) {
    (void)state;
    limn_err err = {0};
    limn_pack_store *s = NULL;
    limn_weight w = weight_of(1, 0);
    limn_pack_item item = {&w, 0, "x", 1};
    assert_int_equal(limn_pack_store_new(&s, "/proc/limn", "x", 1, NULL), LIMN_OK);
    assert_int_equal(limn_pack_store_save(s, &item, 1, &err), LIMN_E_IO);
    assert_true(err.text[0] != 0);
    limn_pack_store_free(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_found_again, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damage_is_ignored, setup, teardown),
        cmocka_unit_test_setup_teardown(test_oldest_go_first, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unwritable_folder_is_a_status, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
