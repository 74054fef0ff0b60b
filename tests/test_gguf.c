/* SPDX-License-Identifier: MIT */
/* GGUF: typed metadata, block types, original shapes, splits, damage, writing and reading back. */
#include "formats_test.h"

#include <math.h>

#include "formats/gguf.h"

static void test_reads_python_gguf(void **state) {
    (void)state;
    limn_weights *w = open_golden("formats/typed.gguf");
    assert_string_equal(limn_weights_format(w), "gguf");
    assert_string_equal(limn_weights_meta_str(w, "general.architecture"), "sd1");
    assert_int_equal(limn_weights_meta_int(w, "t.u8", 0), 200);
    assert_int_equal(limn_weights_meta_int(w, "t.i8", 0), -100);
    assert_int_equal(limn_weights_meta_int(w, "t.u16", 0), 60000);
    assert_int_equal(limn_weights_meta_int(w, "t.i16", 0), -30000);
    assert_int_equal(limn_weights_meta_int(w, "t.u32", 0), 4000000000);
    assert_int_equal(limn_weights_meta_int(w, "t.i32", 0), -2000000000);
    assert_true(limn_weights_meta_int(w, "t.u64", 0) == (int64_t)1 << 62);
    assert_true(limn_weights_meta_int(w, "t.i64", 0) == -((int64_t)1 << 62));
    assert_true(limn_weights_meta_float(w, "t.f32", 0) == 0.5);
    assert_true(limn_weights_meta_float(w, "t.f64", 0) == 0.1);
    assert_int_equal(limn_weights_meta_int(w, "t.bool", 0), 1);
    assert_int_equal(limn_weights_meta_int(w, "no.such.key", -7), -7);
    assert_string_equal(limn_weights_meta_str(w, "t.str"), "lighthouse");
    const limn_meta *m = limn_weights_meta_find(w, "t.words");
    assert_int_equal(m->count, 3);
    limn_str_view v = limn_meta_str_at(m, 2);
    assert_int_equal(v.n, 4);
    assert_memory_equal(v.p, "dusk", 4);
    m = limn_weights_meta_find(w, "t.ints");
    assert_int_equal(limn_meta_int_at(m, 1), -2);
    assert_true(limn_meta_float_at(limn_weights_meta_find(w, "t.floats"), 1) == 1.5);

    const limn_tensor *t = limn_weights_find(w, "plain");
    limn_shape shape = LIMN_SHAPE(4, 6);
    assert_true(limn_shape_equal(&t->shape, &shape));
    assert_true(element(t, 7) == 0.25f * 7 - 3);
    t = limn_weights_find(w, "rows");
    assert_int_equal(t->dtype, LIMN_Q8_0);
    assert_true(fabsf(element(t, 70) - (0.25f * 70 - 3)) < 0.1f);
    limn_weights_unref(&w);
}

static void test_original_shapes(void **state) {
    (void)state;
    limn_weights *w = open_golden("formats/typed.gguf");
    limn_shape shape = LIMN_SHAPE(8, 4, 3, 4);
    const limn_tensor *t = limn_weights_find(w, "kernel_f16"); /* a view */
    assert_true(limn_shape_equal(&t->shape, &shape));
    assert_non_null(limn_weights_map_of(w, t));
    assert_true(element(t, 383) == 0.25f * 383 - 3);
    t = limn_weights_find(w, "kernel"); /* blocks of 32 do not line up with rows of 4 */
    assert_true(limn_shape_equal(&t->shape, &shape));
    assert_int_equal(t->dtype, LIMN_F16);
    assert_null(limn_weights_map_of(w, t));
    for (int64_t i = 0; i < 384; i++) assert_true(fabsf(element(t, i) - (0.25f * i - 3)) < 0.4f);
    limn_weights_unref(&w);
}

/* ---- hand-made files ---- */
typedef struct maker {
    uint8_t data[4096];
    size_t n;
} maker;

static void put(maker *m, const void *p, size_t n) {
    memcpy(m->data + m->n, p, n);
    m->n += n;
}
static void put32(maker *m, uint32_t v) {
    put(m, &v, 4);
}
static void put64(maker *m, uint64_t v) {
    put(m, &v, 8);
}
static void put_text(maker *m, const char *s) {
    put64(m, strlen(s));
    put(m, s, strlen(s));
}
static void begin(maker *m, uint32_t version, uint64_t tensors, uint64_t metas) {
    m->n = 0;
    put(m, "GGUF", 4);
    put32(m, version);
    put64(m, tensors);
    put64(m, metas);
}
/* one [4] tensor of `type` at `offset`, then `bytes` of data after alignment */
static void finish(maker *m, const char *name, uint32_t dims, uint64_t dim, uint32_t type,
                   uint64_t offset, size_t bytes) {
    put_text(m, name);
    put32(m, dims);
    for (uint32_t i = 0; i < dims && i < 8; i++) put64(m, dim);
    put32(m, type);
    put64(m, offset);
    while (m->n % 32) m->data[m->n++] = 0;
    memset(m->data + m->n, 1, bytes);
    m->n += bytes;
}

static void refused(const maker *m, limn_status st, const char *word) {
    assert_refused(m->data, m->n, st, word);
}

static void test_refuses_damage(void **state) {
    (void)state;
    maker m;
    begin(&m, 1, 0, 0);
    refused(&m, LIMN_E_UNSUPPORTED, "version 1");
    begin(&m, 0x03000000, 0, 0);
    refused(&m, LIMN_E_UNSUPPORTED, "big-endian");
    begin(&m, 3, UINT64_MAX, 0);
    refused(&m, LIMN_E_LIMIT, "tensors");
    begin(&m, 3, 0, UINT64_MAX);
    refused(&m, LIMN_E_LIMIT, "metadata");
    begin(&m, 3, 1, 0);
    refused(&m, LIMN_E_FORMAT, "cut short");
    begin(&m, 3, 0, 1);
    put64(&m, UINT64_MAX);
    refused(&m, LIMN_E_FORMAT, "cut short");
    begin(&m, 3, 0, 1);
    put_text(&m, "k");
    put32(&m, 99);
    refused(&m, LIMN_E_FORMAT, "value type 99");
    begin(&m, 3, 0, 1);
    put_text(&m, "k");
    put32(&m, 9);
    put32(&m, 9);
    put64(&m, 1);
    refused(&m, LIMN_E_FORMAT, "value type 9");
    begin(&m, 3, 0, 1);
    put_text(&m, "k");
    put32(&m, 9);
    put32(&m, 8);
    put64(&m, (uint64_t)1 << 60);
    refused(&m, LIMN_E_LIMIT, "strings");
    begin(&m, 3, 0, 1);
    put_text(&m, "k");
    put32(&m, 9);
    put32(&m, 4);
    put64(&m, (uint64_t)1 << 62);
    refused(&m, LIMN_E_FORMAT, "cut short");
    begin(&m, 3, 0, 1);
    put_text(&m, "k");
    put32(&m, 10);
    put64(&m, UINT64_MAX);
    refused(&m, LIMN_E_FORMAT, "2^63");
    begin(&m, 3, 0, 2);
    for (int i = 0; i < 2; i++) {
        put_text(&m, "k");
        put32(&m, 4);
        put32(&m, 1);
    }
    refused(&m, LIMN_E_FORMAT, "twice");
    begin(&m, 3, 0, 1);
    put_text(&m, "general.alignment");
    put32(&m, 4);
    put32(&m, 48);
    refused(&m, LIMN_E_FORMAT, "power of two");
    begin(&m, 3, 1, 0);
    finish(&m, "x", 6, 1, 0, 0, 16);
    refused(&m, LIMN_E_FORMAT, "dimensions");
    begin(&m, 3, 1, 0);
    finish(&m, "x", 1, UINT64_MAX, 0, 0, 16);
    refused(&m, LIMN_E_FORMAT, "dimension");
    begin(&m, 3, 1, 0);
    finish(&m, "x", 4, (uint64_t)1 << 20, 0, 0, 16);
    refused(&m, LIMN_E_FORMAT, "cannot be f32");
    begin(&m, 3, 1, 0);
    finish(&m, "x", 1, 4, 0, 0, 12);
    refused(&m, LIMN_E_FORMAT, "cut short");
    begin(&m, 3, 1, 0);
    finish(&m, "x", 1, 4, 0, 8, 64);
    refused(&m, LIMN_E_FORMAT, "multiple of 32");
    begin(&m, 3, 1, 0);
    finish(&m, "x", 1, 4, 0, UINT64_MAX - 31, 64);
    refused(&m, LIMN_E_FORMAT, "cut short");
    begin(&m, 3, 1, 0);
    finish(&m, "x", 1, 33, 8, 0, 64);
    refused(&m, LIMN_E_FORMAT, "cannot be q8_0");
    begin(&m, 3, 1, 0);
    finish(&m, "x", 1, 256, 16, 0, 64);
    refused(&m, LIMN_E_UNSUPPORTED, "IQ2_XXS");
    begin(&m, 3, 1, 0);
    finish(&m, "x", 1, 4, 777, 0, 64);
    refused(&m, LIMN_E_UNSUPPORTED, "777");
    begin(&m, 3, 1, 1);
    put_text(&m, "comfy.gguf.orig_shape.x");
    put32(&m, 9);
    put32(&m, 4);
    put64(&m, 1);
    put32(&m, 5);
    finish(&m, "x", 1, 4, 0, 0, 16);
    refused(&m, LIMN_E_FORMAT, "as many elements");
}

static void test_saves_and_reads_back(void **state) {
    (void)state;
    limn_weights *w = open_golden("formats/typed.gguf"), *back;
    limn_named_tensor list[16];
    limn_meta meta[64];
    size_t n = limn_weights_count(w), n_meta = limn_weights_meta_count(w);
    for (size_t i = 0; i < n; i++)
        list[i] = (limn_named_tensor){limn_weights_name(w, i), *limn_weights_at(w, i)};
    for (size_t i = 0; i < n_meta; i++) meta[i] = *limn_weights_meta_at(w, i);
    limn_err err = {0};
    if (limn_gguf_save(temp_path(), list, n, meta, n_meta, &err) != LIMN_OK)
        fail_msg("%s", err.text);
    if (limn_weights_open(&back, temp_path(), &err) != LIMN_OK) fail_msg("%s", err.text);
    assert_int_equal(limn_weights_count(back), n);
    assert_int_equal(limn_weights_meta_count(back), n_meta);
    for (size_t i = 0; i < n; i++) {
        const limn_tensor *a = limn_weights_at(w, i);
        const limn_tensor *b = limn_weights_find(back, limn_weights_name(w, i));
        size_t bytes;
        assert_int_equal(a->dtype, b->dtype);
        assert_true(limn_shape_equal(&a->shape, &b->shape));
        assert_true(limn_tensor_bytes(&bytes, a->dtype, &a->shape));
        assert_memory_equal(a->data, b->data, bytes);
    }
    assert_true(limn_weights_meta_float(back, "t.f64", 0) == 0.1);
    assert_int_equal(limn_weights_meta_int(back, "t.i8", 0), -100);
    limn_weights_unref(&back);
    limn_weights_unref(&w);
    unlink(temp_path());
    float x[1] = {0};
    limn_named_tensor f8 = {"x", {.dtype = LIMN_F8_E4M3, .shape = LIMN_SHAPE(1), .data = x}};
    assert_int_equal(limn_gguf_save(temp_path(), &f8, 1, NULL, 0, &err), LIMN_E_VALUE);
}

static void test_split_files(void **state) {
    (void)state;
    char path[2][300];
    float x[2] = {1, 2};
    limn_err err = {0};
    for (uint16_t k = 0; k < 2; k++) {
        uint16_t count = 2;
        limn_meta meta[] = {
            {.key = "split.no", .type = LIMN_META_INT, .count = 1, .data = &k, .width = 2},
            {.key = "split.count", .type = LIMN_META_INT, .count = 1, .data = &count, .width = 2},
        };
        limn_named_tensor t = {k ? "b" : "a",
                               {.dtype = LIMN_F32, .shape = LIMN_SHAPE(2), .data = x}};
        snprintf(path[k], sizeof path[k], "%s-%05d-of-00002.gguf", temp_path(), k + 1);
        assert_int_equal(limn_gguf_save(path[k], &t, 1, meta, 2, &err), LIMN_OK);
    }
    limn_weights *w;
    for (int k = 0; k < 2; k++) { /* either part opens the whole */
        if (limn_weights_open(&w, path[k], &err) != LIMN_OK) fail_msg("%s", err.text);
        assert_int_equal(limn_weights_count(w), 2);
        assert_non_null(limn_weights_find(w, "b"));
        limn_weights_unref(&w);
    }
    unlink(path[1]);
    assert_int_equal(limn_weights_open(&w, path[0], &err), LIMN_E_NOT_FOUND);
    assert_non_null(strstr(err.text, "part 2 of 2"));
    unlink(path[0]);
}

static void test_torture(void **state) {
    (void)state;
    size_t n;
    uint8_t *data = golden_bytes("formats/typed.gguf", &n);
    torture_bytes(data, n, 1, false);
    free(data);
    torture_memory(golden_path("formats/typed.gguf"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_python_gguf), cmocka_unit_test(test_original_shapes),
        cmocka_unit_test(test_refuses_damage),    cmocka_unit_test(test_saves_and_reads_back),
        cmocka_unit_test(test_split_files),       cmocka_unit_test(test_torture),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
