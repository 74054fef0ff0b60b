/* SPDX-License-Identifier: MIT */
/* Shared by the tests of src/formats: cmocka, paths of golden files, throw-away files. */
#ifndef LIMN_TESTS_FORMATS_TEST_H
#define LIMN_TESTS_FORMATS_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "formats/weights.h"

/* Path below the golden folder; a static buffer per call site is enough for tests. */
static inline const char *golden_path(const char *name) {
    static char path[4][1024];
    static int turn;
    const char *dir = getenv("LIMN_GOLDEN_DIR");
    char *p = path[turn++ & 3];
    snprintf(p, sizeof path[0], "%s/%s", dir ? dir : "tests/golden", name);
    return p;
}

static inline const char *temp_path(void) {
    static char path[256];
    const char *dir = getenv("TMPDIR");
    snprintf(path, sizeof path, "%s/limn-test-%ld", dir ? dir : "/tmp", (long)getpid());
    return path;
}

static inline const char *temp_write(const void *data, size_t size) {
    FILE *f = fopen(temp_path(), "wb");
    if (!f || (size && fwrite(data, 1, size, f) != size) || fclose(f) != 0)
        fail_msg("cannot write %s", temp_path());
    return temp_path();
}

/* Opens a golden file that must open. */
static inline limn_weights *open_golden(const char *name) {
    limn_weights *w = NULL;
    limn_err err = {0};
    if (limn_weights_open(&w, golden_path(name), &err) != LIMN_OK) fail_msg("%s", err.text);
    return w;
}

/* The bytes must be refused with `st` and a text that contains `word`. */
static inline void assert_refused(const void *data, size_t size, limn_status st, const char *word) {
    limn_weights *w = NULL;
    limn_err err = {0};
    limn_status got = limn_weights_open(&w, temp_write(data, size), &err);
    unlink(temp_path());
    if (got != st || !strstr(err.text, word))
        fail_msg("wanted status %d with '%s', got %d: %s", st, word, got, err.text);
    assert_null(w);
}

static inline float element(const limn_tensor *t, int64_t i) {
    const limn_dtype_info *info = limn_dtype_get(t->dtype);
    float block[256];
    const uint8_t *p = (const uint8_t *)t->data + i / info->block * info->bytes;
    limn_dtype_to_f32(block, p, t->dtype, info->block);
    return block[i % info->block];
}

/* The whole content of a golden file. */
static inline uint8_t *golden_bytes(const char *name, size_t *size) {
    FILE *f = fopen(golden_path(name), "rb");
    if (!f) fail_msg("cannot open golden file %s", name);
    fseek(f, 0, SEEK_END);
    *size = (size_t)ftell(f);
    rewind(f);
    uint8_t *p = malloc(*size + 1);
    if (!p || fread(p, 1, *size, f) != *size) fail_msg("cannot read golden file %s", name);
    fclose(f);
    return p;
}

/* Cuts the file at every `step` bytes, and flips a byte at each: nothing may crash, and a cut file
 * must not open. */
static inline void torture_bytes(const uint8_t *data, size_t size, size_t step, bool cut_fails) {
    limn_weights *w = NULL;
    uint8_t *copy = malloc(size);
    for (size_t n = 0; n < size; n += step) {
        limn_status st = limn_weights_open(&w, temp_write(data, n), NULL);
        if (cut_fails && st == LIMN_OK) fail_msg("opened although cut at byte %zu", n);
        limn_weights_unref(&w);
    }
    for (size_t n = 0; n < size; n += step) {
        memcpy(copy, data, size);
        copy[n] ^= (uint8_t)(1u << (n % 8));
        limn_err err = {0};
        limn_status st = limn_weights_open(&w, temp_write(copy, size), &err);
        if (st != LIMN_OK) assert_true(err.text[0]);
        limn_weights_unref(&w);
    }
    free(copy);
    unlink(temp_path());
}

/* Lets each allocation of opening `path` fail in turn. */
static inline void torture_memory(const char *path) {
    limn_weights *w = NULL;
    for (int64_t n = 0; n < 100000; n++) {
        limn_err err = {0};
        limn_mem_fail_after(n);
        limn_status st = limn_weights_open(&w, path, &err);
        limn_mem_fail_after(-1);
        limn_weights_unref(&w);
        if (st == LIMN_OK) return;
        if (st != LIMN_E_NOMEM && st != LIMN_E_LIMIT && st != LIMN_E_VALUE &&
            st != LIMN_E_NOT_FOUND)
            fail_msg("allocation %lld: %s", (long long)n, err.text);
    }
    fail_msg("%s never opened", path);
}

#endif
