/* SPDX-License-Identifier: MIT */
/* Packed weights on disk: found again, kept with later ones, ignored when damaged, evicted by age;
 * weights that rest leave memory and come back as they were. */
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

#include "backend/backend.h"
#include "backend/cpu/pack_store.h"
#include "kernels/cpu_features.h"

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

/* What one process saves in two parts, with views into the first. */
static void test_saved_in_parts(void **state) {
    (void)state;
    limn_weight a = weight_of(7, 100), b = weight_of(7, 200);
    size_t n = 0;
    limn_pack_store *s = open_store("x", 1 << 20);
    assert_null(limn_pack_store_find(s, &a, 0, &n));
    save(s, &a, 0, "hello", 5);
    const char *first = limn_pack_store_find(s, &a, 0, &n);
    assert_non_null(first);
    save(s, &b, 0, "world", 5);
    assert_memory_equal(first, "hello", 5);
    for (int again = 0; again < 2; again++) {
        const char *p = limn_pack_store_find(s, &a, 0, &n), *q;
        assert_non_null(p);
        assert_memory_equal(p, "hello", 5);
        assert_non_null(q = limn_pack_store_find(s, &b, 0, &n));
        assert_memory_equal(q, "world", 5);
        limn_pack_store_free(&s);
        s = open_store("x", 1 << 20);
    }
    limn_pack_store_free(&s);
}

/* ---- weights that rest ---- */
enum { SIDE = 4160 }; /* 69 MB of f32: worth storing */

static bool is_same(const void *user, const limn_weight *w) {
    return user == w;
}

static void run_into(float *out, limn_program *p) {
    limn_err err = {0};
    if (limn_program_run(p, NULL, &err) != LIMN_OK) fail_msg("%s", err.text);
    memcpy(out, limn_program_output(p, "y", NULL), SIDE * sizeof *out);
}

/* One matrix on a backend with (or without) a cache folder. */
static void rest_once(const limn_weight *w, const char *packs, bool kept) {
    limn_cpu_options o = {.threads = 2,
                          .cpu_flags = limn_cpu_detect(),
                          .precision = LIMN_PRECISION_EXACT,
                          .pack_dir = packs};
    limn_backend *b = NULL;
    limn_graph *g = NULL;
    limn_program *p = NULL;
    static float before[SIDE], after[SIDE];
    assert_int_equal(limn_backend_new_cpu(&b, &o, NULL), LIMN_OK);
    assert_int_equal(limn_graph_new(&g, NULL), LIMN_OK);
    limn_node *x = limn_g_input(g, "x", LIMN_F32, LIMN_SHAPE(1, SIDE));
    limn_g_output(g, limn_g_linear(g, x, w, NULL), "y");
    assert_int_equal(limn_program_new(&p, b, &g, NULL), LIMN_OK);
    float *in = limn_program_input(p, "x", NULL);
    for (int i = 0; i < SIDE; i++) in[i] = (float)(i % 17) - 8;
    run_into(before, p);
    size_t packed = limn_backend_packed_bytes(b);
    assert_true(packed >= (size_t)SIDE * SIDE * 4);
    limn_backend_rest(b, is_same, NULL, true); /* of another weight: nothing happens */
    limn_backend_rest(b, is_same, w, false);   /* what was made here stays */
    assert_int_equal(limn_backend_packed_bytes(b), packed);
    limn_backend_rest(b, is_same, w, true);
    assert_int_equal(limn_backend_packed_bytes(b), kept ? packed : 0);
    run_into(after, p);
    assert_memory_equal(before, after, sizeof before);
    assert_int_equal(limn_backend_packed_bytes(b), packed);
    limn_backend_rest(b, is_same, w, true); /* with a folder: only pages of a view go */
    run_into(after, p);
    assert_memory_equal(before, after, sizeof before);
    limn_program_free(&p);
    limn_backend_free(&b);
}

static void test_rest(void **state) {
    (void)state;
    char packs[96];
    float *data = malloc((size_t)SIDE * SIDE * sizeof *data);
    assert_non_null(data);
    for (size_t i = 0; i < (size_t)SIDE * SIDE; i++) data[i] = (float)(i * 7 % 23) - 11;
    limn_weight w = weight_of(9, 64);
    w.t = (limn_tensor){.dtype = LIMN_F32, .shape = LIMN_SHAPE(SIDE, SIDE), .data = data};
    snprintf(packs, sizeof packs, "%s/packs", dir);
    rest_once(&w, NULL, false);
    rest_once(&w, "/proc/limn", false); /* a store that cannot be written */
    rest_once(&w, packs, false);
    rest_once(&w, packs, true); /* found on disk from the start */
    free(data);
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
        cmocka_unit_test_setup_teardown(test_saved_in_parts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rest, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damage_is_ignored, setup, teardown),
        cmocka_unit_test_setup_teardown(test_oldest_go_first, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unwritable_folder_is_a_status, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
