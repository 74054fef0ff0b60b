/* SPDX-License-Identifier: MIT */
/* safetensors: reading, every kind of damage, shards, writing and reading back; the weight set. */
#include "formats_test.h"

#include <math.h>
#include <sys/stat.h>

#include "formats/safetensors.h"

/* A file from a header and `n` bytes of data 0, 1, 2, ... */
static size_t file_make(uint8_t *out, const char *header, size_t n) {
    uint64_t len = strlen(header);
    memcpy(out, &len, 8);
    memcpy(out + 8, header, (size_t)len);
    for (size_t i = 0; i < n; i++) out[8 + len + i] = (uint8_t)i;
    return 8 + (size_t)len + n;
}

static void refused(const char *header, size_t n, limn_status st, const char *word) {
    uint8_t file[8192];
    assert_refused(file, file_make(file, header, n), st, word);
}

static void test_reads_what_is_there(void **state) {
    (void)state;
    uint8_t file[1024];
    size_t n = file_make(file,
                         "{\"__metadata__\":{\"a\\u00e9\\n\":\"\\ud83d\\ude00\"},"
                         " \"x\" : {\"shape\":[2, 1],\"dtype\":\"F16\",\"data_offsets\":[3,7]},"
                         "\"s\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1]},"
                         "\"none\":{\"dtype\":\"F32\",\"shape\":[0,9],\"data_offsets\":[8,8]}}  ",
                         8);
    limn_weights *w;
    limn_err err = {0};
    if (limn_weights_open(&w, temp_write(file, n), &err) != LIMN_OK) fail_msg("%s", err.text);
    assert_string_equal(limn_weights_format(w), "safetensors");
    assert_int_equal(limn_weights_count(w), 3);
    assert_string_equal(limn_weights_name(w, 0), "x");
    const limn_tensor *t = limn_weights_find(w, "x");
    assert_int_equal(t->dtype, LIMN_F16);
    assert_int_equal(t->shape.ndim, 2);
    assert_int_equal(((const uint8_t *)t->data)[0], 3); /* an odd address */
    assert_int_equal(((const uint8_t *)limn_weights_find(w, "s")->data)[0], 0);
    assert_int_equal(limn_weights_find(w, "none")->shape.dim[1], 9);
    assert_null(limn_weights_find(w, "y"));
    assert_string_equal(limn_weights_meta_str(w, "a\xc3\xa9\n"), "\xf0\x9f\x98\x80");
    assert_non_null(limn_weights_map_of(w, t));
    limn_weights_unref(&w);
    unlink(temp_path());
}

#define ONE(dtype, shape, at)                                                                      \
    "{\"x\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" at "}}"

static void test_refuses_damage(void **state) {
    (void)state;
    limn_status bad = LIMN_E_FORMAT;
    refused(ONE("F32", "[2]", "[0,8]"), 7, bad, "cut short");
    refused(ONE("F32", "[2]", "[0,7]"), 8, bad, "needs another number");
    refused(ONE("F32", "[2]", "[8,0]"), 8, bad, "cut short");
    refused(ONE("F32", "[3037000500,3037000500,2]", "[0,8]"), 8, bad, "'x'");
    refused(ONE("F32", "[9223372036854775808]", "[0,8]"), 8, bad, "smaller integer");
    refused(ONE("F32", "[-1]", "[0,8]"), 8, bad, "non-negative");
    refused(ONE("F32", "[2.0]", "[0,8]"), 8, bad, "expected");
    refused(ONE("F32", "[02]", "[0,8]"), 8, bad, "leading zero");
    refused(ONE("F32", "[1,1,1,1,1,2]", "[0,8]"), 8, LIMN_E_UNSUPPORTED, "dimensions");
    refused(ONE("C64", "[1]", "[0,8]"), 8, LIMN_E_UNSUPPORTED, "C64");
    refused(ONE("F32", "[2]", "[0,8,9]"), 8, bad, "expected");
    refused("{\"x\":{\"dtype\":\"U8\",\"shape\":[1]}}", 8, bad, "lacks");
    refused("{\"x\":{\"dtype\":\"U8\",\"dtype\":\"U8\"}}", 8, bad, "twice");
    refused("{\"x\":{\"colour\":1}}", 8, bad, "colour");
    refused("{\"x\":[]}", 8, bad, "expected");
    refused("{\"x\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
            "\"x\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[2,4]}}",
            8, bad, "'x' is there twice");
    refused("{\"x\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
            "\"y\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}",
            8, bad, "overlap");
    refused("{\"\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 8, bad, "valid name");
    refused("{\"a\\u0000\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 8, bad,
            "NUL");
    refused("{\"a\\u0007\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 8, bad,
            "control");
    refused("{\"a\\ud800\":{}}", 8, bad, "surrogate");
    refused("{\"__metadata__\":{\"a\":1}}", 8, bad, "a string expected");
    refused("{\"__metadata__\":{\"a\":\"b\",\"a\":\"c\"}}", 8, bad, "twice");
    refused("{} x", 8, bad, "end of the header");
    refused("{ ", 8, bad, "expected");
    refused("{\"x\"", 8, bad, "':'");
}

static void test_refuses_strangers(void **state) {
    (void)state;
    uint8_t file[64] = {0};
    uint64_t huge = (uint64_t)1 << 40;
    assert_refused("", 0, LIMN_E_FORMAT, "empty");
    assert_refused("abc", 3, LIMN_E_FORMAT, "no weight file");
    memcpy(file, &huge, 8);
    file[8] = '{';
    assert_refused(file, sizeof file, LIMN_E_FORMAT, "no weight file");
    huge = 1000;
    memcpy(file, &huge, 8);
    assert_refused(file, sizeof file, LIMN_E_FORMAT, "cut short");
    assert_refused("<!DOCTYPE html>", 15, LIMN_E_UNSUPPORTED, "web page");
    assert_refused("version https://git-lfs.github.com/spec/v1", 42, LIMN_E_UNSUPPORTED, "LFS");
    assert_refused("\x89PNG\r\n\x1a\n", 8, LIMN_E_UNSUPPORTED, "PNG");
    limn_weights *w = NULL;
    limn_err err = {0};
    assert_int_equal(limn_weights_open(&w, "/does/not/exist", &err), LIMN_E_NOT_FOUND);
    assert_int_equal(limn_weights_open(&w, "/dev/null", &err), LIMN_E_IO);
}

static void test_shards(void **state) {
    (void)state;
    limn_weights *w = open_golden("formats/sharded");
    assert_int_equal(limn_weights_count(w), 3);
    assert_true(element(limn_weights_find(w, "c"), 3) == -2.25f);
    assert_non_null(strstr(limn_weights_meta_str(w, "limn.config"), "tiny"));
    limn_weights_unref(&w);
    w = open_golden("formats/sharded/model.safetensors.index.json");
    assert_int_equal(limn_weights_count(w), 3);
    limn_weights_unref(&w);
    static const char *const bad[][2] = {
        {"{\"weight_map\":{\"a\":\"../../etc/passwd\"}}", "plain file name"},
        {"{\"weight_map\":{\"a\":\"/etc/passwd\"}}", "plain file name"},
        {"{\"weight_map\":{\"a\":7}}", "plain file name"},
        {"{\"weight_map\":{}}", "no index"},
        {"{\"weight_map\":{\"a\":\"no-such-shard.safetensors\"}}", "no-such-shard"},
        {"{\"a\":1}", "no index"},
        {"{\"a\":", "line 1"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        limn_err err = {0};
        assert_int_not_equal(limn_weights_open(&w, temp_write(bad[i][0], strlen(bad[i][0])), &err),
                             LIMN_OK);
        if (!strstr(err.text, bad[i][1])) fail_msg("'%s' lacks '%s'", err.text, bad[i][1]);
    }
    /* an index that names itself must not be followed */
    char self[256];
    const char *base = strrchr(temp_path(), '/') + 1;
    int n = snprintf(self, sizeof self, "{\"weight_map\":{\"a\":\"%s\"}}", base);
    assert_refused(self, (size_t)n, LIMN_E_FORMAT, "no weight file");
}

static void test_saves_and_reads_back(void **state) {
    (void)state;
    float x[6] = {1, -2, 0.5f, 3, 4, 5};
    uint16_t h[2] = {0x3c00, 0xbc00};
    limn_named_tensor list[] = {
        {"a \"quoted\"\\name", {.dtype = LIMN_F32, .shape = LIMN_SHAPE(2, 3), .data = x}},
        {"h", {.dtype = LIMN_F16, .shape = LIMN_SHAPE(2), .data = h}},
    };
    const char *const meta[][2] = {{"format", "limn"}, {"text", "two\nlines"}};
    limn_err err = {0};
    assert_int_equal(limn_safetensors_save(temp_path(), list, 2, meta, 2, &err), LIMN_OK);
    limn_weights *w;
    assert_int_equal(limn_weights_open(&w, temp_path(), &err), LIMN_OK);
    const limn_tensor *t = limn_weights_find(w, "a \"quoted\"\\name");
    assert_non_null(t);
    assert_memory_equal(t->data, x, sizeof x);
    assert_int_equal((uintptr_t)t->data % 64, 0);
    assert_true(element(limn_weights_find(w, "h"), 1) == -1.0f);
    assert_string_equal(limn_weights_meta_str(w, "text"), "two\nlines");
    limn_weights_unref(&w);
    unlink(temp_path());
    limn_named_tensor q = {"q", {.dtype = LIMN_Q8_0, .shape = LIMN_SHAPE(32), .data = x}};
    assert_int_equal(limn_safetensors_save(temp_path(), &q, 1, NULL, 0, &err), LIMN_E_VALUE);
    assert_int_equal(limn_safetensors_save("/no/such/folder/x", list, 1, NULL, 0, &err), LIMN_E_IO);
}

static void test_scope_and_merge(void **state) {
    (void)state;
    limn_weights *w = open_golden("formats/sharded"), *m = NULL, *s = NULL;
    const limn_weights *two[] = {w, w};
    const char *const prefixes[] = {"l.", "r."};
    limn_err err = {0};
    assert_int_equal(limn_weights_merge(&m, two, prefixes, 2, "m", "merge", &err), LIMN_OK);
    assert_int_equal(limn_weights_count(m), 6);
    assert_true(limn_weights_has_prefix(m, "r."));
    assert_int_equal(limn_weights_scope(&s, m, "r.", &err), LIMN_OK);
    limn_weights_unref(&m);
    limn_weights_unref(&w); /* the scope keeps everything alive */
    assert_int_equal(limn_weights_count(s), 3);
    assert_true(element(limn_weights_find(s, "c"), 3) == -2.25f);
    const limn_tensor *t;
    limn_shape want = LIMN_SHAPE(5);
    assert_int_equal(limn_weights_need(&t, s, "c", &want, &err), LIMN_E_SHAPE);
    assert_non_null(strstr(err.text, "'c' is [4] and should be [5]"));
    assert_int_equal(limn_weights_need(&t, s, "d", NULL, &err), LIMN_E_MISSING);
    m = NULL;
    two[0] = two[1] = s;
    assert_int_equal(limn_weights_merge(&m, two, NULL, 2, "m", "merge", &err), LIMN_E_FORMAT);
    limn_weights_unref(&s);
}

static void test_torture(void **state) {
    (void)state;
    size_t n;
    uint8_t *data = golden_bytes("formats/sharded/model-00001-of-00002.safetensors", &n);
    torture_bytes(data, n, 1, true);
    free(data);
    torture_memory(golden_path("formats/sharded"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_what_is_there),
        cmocka_unit_test(test_refuses_damage),
        cmocka_unit_test(test_refuses_strangers),
        cmocka_unit_test(test_shards),
        cmocka_unit_test(test_saves_and_reads_back),
        cmocka_unit_test(test_scope_and_merge),
        cmocka_unit_test(test_torture),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
