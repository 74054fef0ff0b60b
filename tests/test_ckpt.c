/* SPDX-License-Identifier: MIT */
/* Torch files: zip and legacy, strided and shared tensors, wrappers, refusals, damage. */
#include "formats_test.h"

#include <math.h>

#include "formats/pickle.h"

static void check_ramp(const limn_weights *w, const char *name, limn_dtype dtype,
                       const limn_shape *shape, int64_t first, int64_t step) {
    const limn_tensor *t = limn_weights_find(w, name);
    if (!t) fail_msg("no tensor %s", name);
    assert_int_equal(t->dtype, dtype);
    assert_true(limn_shape_equal(&t->shape, shape));
    for (int64_t i = 0; i < limn_shape_count(shape); i++)
        if (element(t, i) != 0.25f * (float)(first + i * step) - 3)
            fail_msg("%s[%d]", name, (int)i);
}

static void check_state(const char *file, const char *format) {
    limn_weights *w = open_golden(file);
    assert_string_equal(limn_weights_format(w), format);
    assert_int_equal(limn_weights_count(w), 10);
    limn_shape full = LIMN_SHAPE(4, 6), row = LIMN_SHAPE(6), col = LIMN_SHAPE(4),
               three = LIMN_SHAPE(3), turned = LIMN_SHAPE(6, 4);
    check_ramp(w, "plain", LIMN_F32, &full, 0, 1);
    check_ramp(w, "half", LIMN_F16, &full, 0, 1);
    check_ramp(w, "bf16", LIMN_BF16, &full, 0, 1);
    check_ramp(w, "row2", LIMN_F32, &row, 12, 1);
    check_ramp(w, "column1", LIMN_F32, &col, 1, 6);
    check_ramp(w, "parameter", LIMN_F32, &three, 0, 1);
    const limn_tensor *t = limn_weights_find(w, "transposed");
    assert_true(limn_shape_equal(&t->shape, &turned));
    for (int64_t i = 0; i < 24; i++)
        assert_true(element(t, i) == 0.25f * (float)(i % 4 * 6 + i / 4) - 3);
    assert_int_equal(limn_weights_find(w, "ids")->dtype, LIMN_I64);
    assert_true(element(limn_weights_find(w, "scalar"), 0) == 2.5f);
    assert_int_equal(limn_weights_find(w, "empty")->shape.dim[1], 4);
    /* views stay views, and share their storage */
    const limn_tensor *plain = limn_weights_find(w, "plain"), *r = limn_weights_find(w, "row2");
    assert_ptr_equal((const uint8_t *)plain->data + 12 * 4, r->data);
    assert_non_null(limn_weights_map_of(w, plain));
    assert_null(limn_weights_map_of(w, limn_weights_find(w, "column1")));
    assert_string_equal(limn_weights_meta_str(w, "note"), "made by make_formats.py");
    assert_string_equal(limn_weights_meta_str(w, "epoch"), "7");
    limn_weights_unref(&w);
}

static void test_zip(void **state) {
    (void)state;
    check_state("formats/zip.pt", "torch zip");
}

static void test_legacy(void **state) {
    (void)state;
    check_state("formats/legacy.pt", "torch legacy");
}

static void test_wrappers(void **state) {
    (void)state;
    limn_weights *w = open_golden("formats/ema.pth");
    assert_int_equal(limn_weights_count(w), 1); /* params_ema wins over params */
    assert_int_equal(limn_weights_find(w, "a")->shape.dim[0], 3);
    limn_weights_unref(&w);
    w = open_golden("formats/ti_original.pt");
    assert_int_equal(limn_weights_find(w, "string_to_param.*")->shape.dim[1], 8);
    limn_weights_unref(&w);
    w = open_golden("formats/ti_a1111.pt");
    assert_int_equal(limn_weights_find(w, "string_to_param.*")->shape.dim[0], 2);
    assert_string_equal(limn_weights_meta_str(w, "name"), "tiny-style");
    limn_weights_unref(&w);
    w = open_golden("formats/ti_concept.bin");
    assert_int_equal(limn_weights_find(w, "<cat-toy>")->shape.dim[0], 8);
    limn_weights_unref(&w);
}

static void test_refuses_code(void **state) {
    (void)state;
    limn_weights *w = NULL;
    limn_err err = {0};
    assert_int_equal(limn_weights_open(&w, golden_path("formats/evil.pt"), &err),
                     LIMN_E_UNSUPPORTED);
    assert_non_null(strstr(err.text, "posix.system"));
    assert_int_equal(limn_weights_open(&w, golden_path("formats/evil_legacy.pt"), &err),
                     LIMN_E_UNSUPPORTED);
    assert_non_null(strstr(err.text, "posix.system"));
    assert_int_not_equal(access("executed", F_OK), 0);
    static const char raw[] = "\x80\x02}q\x00.";
    assert_refused(raw, sizeof raw - 1, LIMN_E_UNSUPPORTED, "torch did not write");
}

/* A pickle on its own must fail with the status and the word. */
static void pickle_refused(const char *code, size_t n, limn_status st, const char *word) {
    limn_pickle *p;
    limn_pickle_value *v;
    limn_err err = {0};
    size_t used;
    assert_int_equal(limn_pickle_new(&p, "x", &err), LIMN_OK);
    limn_status got = limn_pickle_load(p, &v, (const uint8_t *)code, n, &used, &err);
    if (got != st || !strstr(err.text, word))
        fail_msg("wanted '%s', got %d %s", word, got, err.text);
    limn_pickle_free(&p);
}
#define PICKLE_REFUSED(code, st, word) pickle_refused(code, sizeof code - 1, st, word)

static void test_pickle_machine(void **state) {
    (void)state;
    PICKLE_REFUSED("", LIMN_E_FORMAT, "no end");
    PICKLE_REFUSED(".", LIMN_E_FORMAT, "empty");
    PICKLE_REFUSED("R", LIMN_E_FORMAT, "call");
    PICKLE_REFUSED("t", LIMN_E_FORMAT, "mark");
    PICKLE_REFUSED("0", LIMN_E_FORMAT, "drops");
    PICKLE_REFUSED("K\x01(0", LIMN_E_FORMAT, "drops"); /* nothing above the mark */
    PICKLE_REFUSED("h\x05", LIMN_E_FORMAT, "recalls");
    PICKLE_REFUSED("Nr\xff\xff\xff\xff", LIMN_E_FORMAT, "too much");
    PICKLE_REFUSED("X\xff\xff\xff\x7f", LIMN_E_FORMAT, "cut");
    PICKLE_REFUSED("\x8d\xff\xff\xff\xff\xff\xff\xff\xff", LIMN_E_FORMAT, "cut");
    PICKLE_REFUSED("\x8a\x09zzz", LIMN_E_FORMAT, "cut");
    PICKLE_REFUSED("}(K\x01u", LIMN_E_FORMAT, "hold");
    PICKLE_REFUSED("K\x01K\x01"
                   "a",
                   LIMN_E_FORMAT, "hold");
    PICKLE_REFUSED("K\x01Q", LIMN_E_FORMAT, "storage");
    PICKLE_REFUSED("I1\n.", LIMN_E_UNSUPPORTED, "opcode 0x49");
    PICKLE_REFUSED("\x80\x09", LIMN_E_UNSUPPORTED, "protocol 9");
    PICKLE_REFUSED("cbuiltins\neval\n", LIMN_E_UNSUPPORTED, "builtins.eval");
    PICKLE_REFUSED("\x8c\x08"
                   "builtins\x8c\x04"
                   "exec\x93",
                   LIMN_E_UNSUPPORTED, "builtins.exec");
    PICKLE_REFUSED("ctorch\nload\n", LIMN_E_UNSUPPORTED, "torch.load");
    char deep[8192];
    memset(deep, '(', sizeof deep);
    pickle_refused(deep, sizeof deep, LIMN_E_FORMAT, "nested");
}

static void test_torture(void **state) {
    (void)state;
    static const char *const files[] = {"formats/zip.pt", "formats/legacy.pt"};
    for (int i = 0; i < 2; i++) {
        size_t n;
        uint8_t *data = golden_bytes(files[i], &n);
        torture_bytes(data, n, 1, true);
        free(data);
        torture_memory(golden_path(files[i]));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_zip),
        cmocka_unit_test(test_legacy),
        cmocka_unit_test(test_wrappers),
        cmocka_unit_test(test_refuses_code),
        cmocka_unit_test(test_pickle_machine),
        cmocka_unit_test(test_torture),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
