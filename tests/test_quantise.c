/* SPDX-License-Identifier: MIT */
/* quantise: the error of every type, hard rows, and whole models written as GGUF. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "formats/gguf.h"
#include "golden_net.h"
#include "limn.h"
#include "models/model_weights.h"
#include "pipeline/quantize_mix.h"
#include "pipeline/reader.h"
#include "qwen3vl_test.h"
#include "tensor/quantise.h"

enum { NUMBERS = 1 << 14 };

/* Sum of twelve uniform numbers: nearly normal, the same everywhere. */
static float normal(uint32_t *seed) {
    float u = -6;
    for (int i = 0; i < 12; i++) {
        *seed = *seed * 1664525u + 1013904223u;
        u += (float)(*seed >> 8) / 16777216.0f;
    }
    return u;
}

static double error_of(const float *x, limn_dtype t, int n) {
    static uint8_t packed[NUMBERS * 4];
    static float y[NUMBERS];
    double loss = 0, power = 0;
    assert_true(limn_quantise_row(packed, x, t, n, NULL));
    limn_dtype_to_f32(y, packed, t, n);
    for (int i = 0; i < n; i++) {
        loss += ((double)y[i] - (double)x[i]) * ((double)y[i] - (double)x[i]);
        power += (double)x[i] * (double)x[i];
    }
    return power > 0 ? sqrt(loss / power) : loss;
}

/* Normal numbers, for which the best possible errors are known to within a few percent. */
static const struct {
    limn_dtype type;
    double most;
} bounds[] = {
    {LIMN_Q8_0, 0.0055}, {LIMN_Q4_0, 0.082},  {LIMN_Q4_1, 0.0705},  {LIMN_Q5_0, 0.0405},
    {LIMN_Q5_1, 0.0345}, {LIMN_Q2_K, 0.27},   {LIMN_Q3_K, 0.147},   {LIMN_Q4_K, 0.071},
    {LIMN_Q5_K, 0.0350}, {LIMN_Q6_K, 0.0168}, {LIMN_IQ4_NL, 0.075}, {LIMN_IQ4_XS, 0.0755},
    {LIMN_F16, 0.0003},  {LIMN_BF16, 0.0018},
};

static void test_errors(void **state) {
    (void)state;
    static float x[NUMBERS];
    uint32_t seed = 7;
    for (int i = 0; i < NUMBERS; i++) x[i] = normal(&seed) * 0.02f;
    for (size_t k = 0; k < sizeof bounds / sizeof bounds[0]; k++) {
        double e = error_of(x, bounds[k].type, NUMBERS);
        if (!(e <= bounds[k].most))
            fail_msg("%s: error %.5f, at most %.5f", limn_dtype_get(bounds[k].type)->name, e,
                     bounds[k].most);
    }
    /* searching must beat taking the extremes */
    static uint8_t plain[NUMBERS];
    static float y[NUMBERS];
    double loss = 0, power = 0;
    assert_true(limn_dtype_from_f32(plain, x, LIMN_Q4_0, NUMBERS));
    limn_dtype_to_f32(y, plain, LIMN_Q4_0, NUMBERS);
    for (int i = 0; i < NUMBERS; i++) {
        loss += ((double)y[i] - (double)x[i]) * ((double)y[i] - (double)x[i]);
        power += (double)x[i] * (double)x[i];
    }
    assert_true(error_of(x, LIMN_Q4_0, NUMBERS) < 0.97 * sqrt(loss / power));
}

static void test_hard_rows(void **state) {
    (void)state;
    static float x[512];
    for (size_t k = 0; k < sizeof bounds / sizeof bounds[0]; k++) {
        limn_dtype t = bounds[k].type;
        memset(x, 0, sizeof x);
        assert_true(error_of(x, t, 512) == 0); /* zeros stay zeros */
        for (int i = 0; i < 512; i++) x[i] = 0.25f;
        assert_true(error_of(x, t, 512) < 0.07);
        for (int i = 0; i < 512; i++) x[i] = -0.25f;
        assert_true(error_of(x, t, 512) < 0.07);
        memset(x, 0, sizeof x);
        x[300] = -8; /* one large number among zeros */
        assert_true(error_of(x, t, 512) < 0.07);
        for (int i = 0; i < 512; i++) x[i] = (i % 2 ? 1e-30f : -1e-30f);
        assert_true(isfinite(error_of(x, t, 512)));
        for (int i = 0; i < 512; i++) x[i] = (i % 2 ? 30000.0f : -30000.0f);
        assert_true(error_of(x, t, 512) < 0.2);
    }
    assert_false(limn_quantise_row(x, x, LIMN_Q4_K, 128, NULL));
}

/* Elements that count more are kept better. */
static void test_importance(void **state) {
    (void)state;
    static float x[256], w[256], y[2][256];
    static uint8_t packed[256];
    uint32_t seed = 3;
    for (int i = 0; i < 256; i++) {
        x[i] = normal(&seed);
        w[i] = i % 4 ? 1e-4f : 1;
    }
    double loss[2] = {0};
    for (int k = 0; k < 2; k++) {
        assert_true(limn_quantise_row(packed, x, LIMN_Q2_K, 256, k ? w : NULL));
        limn_dtype_to_f32(y[k], packed, LIMN_Q2_K, 256);
        for (int i = 0; i < 256; i += 4)
            loss[k] += ((double)y[k][i] - (double)x[i]) * ((double)y[k][i] - (double)x[i]);
    }
    assert_true(loss[1] < 0.6 * loss[0]);
}

/* ---- whole models ---- */

static const char *temp(const char *name) {
    static char path[4][512];
    static int turn;
    char *p = path[turn++ % 4];
    const char *dir = getenv("TMPDIR");
    snprintf(p, 512, "%s/limn_quantise_%ld_%s", dir ? dir : "/tmp", (long)getpid(), name);
    return p;
}

static void copy_file(const char *to, const char *from_golden) {
    const char *dir = getenv("LIMN_GOLDEN_DIR");
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", dir ? dir : "tests/golden", from_golden);
    FILE *a = fopen(path, "rb"), *b = fopen(to, "wb");
    assert_non_null(a);
    assert_non_null(b);
    char block[4096];
    size_t n;
    while ((n = fread(block, 1, sizeof block, a)) > 0) fwrite(block, 1, n, b);
    fclose(a);
    fclose(b);
}

/* A transformers folder of a golden model. */
static const char *folder_of(const char *name) {
    char file[256];
    const char *dir = temp(name);
    mkdir(dir, 0700);
    snprintf(file, sizeof file, "%s/config.json", dir);
    char from[256];
    snprintf(from, sizeof from, "qwen3vl/%s.json", name);
    copy_file(file, from);
    snprintf(file, sizeof file, "%s/model.safetensors", dir);
    snprintf(from, sizeof from, "qwen3vl/%s.safetensors", name);
    copy_file(file, from);
    return dir;
}

static void folder_drop(const char *dir) {
    char file[640];
    snprintf(file, sizeof file, "%s/config.json", dir);
    unlink(file);
    snprintf(file, sizeof file, "%s/model.safetensors", dir);
    unlink(file);
    rmdir(dir);
}

/* The logits after some ids by a model file. */
static float *logits_of(const char *path, int *vocab) {
    static const int32_t ids[] = {5, 17, 40, 3, 99, 12, 64, 7};
    limn_err err = {0};
    limn_weights *file, *set;
    limn_model_weights *weights;
    limn_reader *reader;
    limn_vl_config *cfg = calloc(1, sizeof *cfg);
    const float *row;
    GOLDEN_OK(limn_weights_open(&file, path, &err));
    GOLDEN_OK(limn_vl_config_read(cfg, file, &err));
    GOLDEN_OK(limn_canon_llm(&set, file, &err));
    GOLDEN_OK(limn_model_weights_new(&weights, set, &err));
    limn_backend *backend = golden_backend_new(&golden_backends[2]);
    limn_reader_options o = {.context = 32, .sequences = 1, .chunk = 16, .cache = LIMN_F32};
    GOLDEN_OK(limn_reader_new(&reader, backend, weights, &cfg->text, &o, &err));
    limn_reader_text text = {.ids = ids, .n = sizeof ids / sizeof ids[0]};
    GOLDEN_OK(limn_reader_read(reader, 0, &text, &row, NULL, &err));
    *vocab = cfg->text.vocab;
    float *out = malloc((size_t)*vocab * sizeof *out);
    memcpy(out, row, (size_t)*vocab * sizeof *out);
    limn_reader_free(&reader);
    limn_backend_free(&backend);
    limn_model_weights_free(&weights);
    limn_weights_unref(&set);
    limn_weights_unref(&file);
    free(cfg);
    return out;
}

static double distance(const float *a, const float *b, int n) {
    double d = 0, p = 0;
    for (int i = 0; i < n; i++) {
        d += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        p += (double)b[i] * (double)b[i];
    }
    return sqrt(d / p);
}

static void quantize_ok(const char *in, const char *out, const char *type) {
    limn_err err = {0};
    char *report = NULL;
    limn_quantize_options o = {.type = type, .threads = 2};
    if (limn_quantize(&report, in, out, &o, NULL, &err) != LIMN_OK) fail_msg("%s", err.text);
    assert_non_null(strstr(report, "all"));
    limn_text_free(&report);
}

/* A folder as GGUF gives the logits of the folder; so does the GGUF file written again. */
static void test_models_stay_what_they_are(void **state) {
    (void)state;
    static const char *const names[] = {"qwen3", "qwen2", "llama"};
    for (size_t k = 0; k < 3; k++) {
        const char *dir = folder_of(names[k]), *out = temp("a.gguf"), *again = temp("b.gguf");
        int n, m;
        float *want = logits_of(dir, &n);
        quantize_ok(dir, out, "f32");
        float *got = logits_of(out, &m);
        assert_int_equal(n, m);
        double d = distance(got, want, n);
        if (!(d < 2e-6)) fail_msg("%s: logits differ by %g", names[k], d);
        free(got);
        quantize_ok(out, again, "q8_0"); /* f16 where rows are no blocks */
        got = logits_of(again, &m);
        assert_true(distance(got, want, n) < 0.05);
        free(got);
        unlink(again);
        unlink(out);
        free(want);
        folder_drop(dir);
    }
}

/* Qwen3-VL becomes two files, whose tensors are those of the folder. */
static void test_vision(void **state) {
    (void)state;
    limn_err err = {0};
    const char *dir = folder_of("vl"), *out = temp("vl.gguf");
    char mmproj[640];
    quantize_ok(dir, out, "f32");
    const char *name = strrchr(out, '/') + 1;
    snprintf(mmproj, sizeof mmproj, "%.*smmproj-%s", (int)(name - out), out, name);
    limn_weights *a, *b, *va, *vb;
    limn_vl_config *ca = calloc(1, sizeof *ca), *cb = calloc(1, sizeof *cb);
    GOLDEN_OK(limn_weights_open(&a, dir, &err));
    GOLDEN_OK(limn_vl_config_read(ca, a, &err));
    GOLDEN_OK(limn_weights_open(&b, out, &err));
    assert_string_equal(limn_weights_meta_str(b, "general.architecture"), "qwen3vl");
    GOLDEN_OK(limn_vl_config_read(cb, b, &err));
    assert_int_equal(cb->text.rope.section[0], ca->text.rope.section[0]);
    limn_weights_unref(&b);
    GOLDEN_OK(limn_weights_open(&b, mmproj, &err));
    GOLDEN_OK(limn_vl_config_read_mmproj(cb, b, &err));
    assert_memory_equal(&ca->vision, &cb->vision, sizeof ca->vision);
    GOLDEN_OK(limn_canon_vision(&va, a, &err));
    GOLDEN_OK(limn_canon_vision(&vb, b, &err));
    assert_int_equal(limn_weights_count(va), limn_weights_count(vb));
    for (size_t i = 0; i < limn_weights_count(va); i++) {
        const limn_tensor *t = limn_weights_at(va, i);
        const limn_tensor *u = limn_weights_find(vb, limn_weights_name(va, i));
        assert_non_null(u);
        assert_true(limn_shape_equal(&t->shape, &u->shape));
        int64_t n = limn_shape_count(&t->shape);
        float *x = malloc((size_t)n * 4), *y = malloc((size_t)n * 4);
        limn_dtype_to_f32(x, t->data, t->dtype, n);
        limn_dtype_to_f32(y, u->data, u->dtype, n);
        assert_memory_equal(x, y, (size_t)n * 4);
        free(x);
        free(y);
    }
    limn_weights_unref(&va);
    limn_weights_unref(&vb);
    limn_weights_unref(&a);
    limn_weights_unref(&b);
    free(ca);
    free(cb);
    unlink(out);
    unlink(mmproj);
    folder_drop(dir);
}

static void test_refused(void **state) {
    (void)state;
    limn_err err = {0};
    char *report;
    const char *dir = folder_of("qwen3"), *out = temp("x.gguf");
    limn_quantize_options o = {.type = "q9_z"};
    assert_int_equal(limn_quantize(&report, dir, out, &o, NULL, &err), LIMN_E_VALUE);
    o.type = "F16";
    o.dry_run = true;
    assert_int_equal(limn_quantize(&report, dir, out, &o, NULL, &err), LIMN_OK);
    assert_non_null(strstr(report, "nothing written"));
    limn_text_free(&report);
    assert_int_not_equal(access(out, F_OK), 0);
    o.dry_run = false;
    assert_int_equal(limn_quantize(&report, dir, out, &o, NULL, &err), LIMN_OK);
    limn_text_free(&report);
    assert_int_equal(limn_quantize(&report, dir, out, &o, NULL, &err), LIMN_E_VALUE); /* exists */
    o.overwrite = true;
    assert_int_equal(limn_quantize(&report, out, out, &o, NULL, &err), LIMN_E_VALUE); /* itself */
    assert_int_equal(limn_quantize(&report, dir, out, &o, NULL, &err), LIMN_OK);
    limn_text_free(&report);
    unlink(out);
    folder_drop(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_errors),     cmocka_unit_test(test_hard_rows),
        cmocka_unit_test(test_importance), cmocka_unit_test(test_models_stay_what_they_are),
        cmocka_unit_test(test_vision),     cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
