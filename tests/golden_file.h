/* SPDX-License-Identifier: MIT */
/* Golden tensors for tests: a small safetensors reader of its own, so that a test of one part does
 * not lean on the product's loader. Any failure ends the test with the file's name. */
#ifndef LIMN_TESTS_GOLDEN_FILE_H
#define LIMN_TESTS_GOLDEN_FILE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <jansson.h>

typedef struct golden_file {
    char *bytes; /* whole file */
    json_t *header;
    size_t data; /* offset of the tensors */
    char name[128];
} golden_file;

typedef struct golden_tensor {
    const char *dtype; /* "F32", "I64", ... */
    int ndim;
    int64_t dim[8];
    int64_t count;
    const void *data; /* unaligned */
} golden_tensor;

static inline void golden_open(golden_file *g, const char *name) {
    char path[1024];
    const char *dir = getenv("LIMN_GOLDEN_DIR");
    snprintf(path, sizeof path, "%s/%s", dir ? dir : "tests/golden", name);
    snprintf(g->name, sizeof g->name, "%s", name);
    FILE *f = fopen(path, "rb");
    if (!f) fail_msg("cannot open golden file %s", path);
    fseek(f, 0, SEEK_END);
    long size = ftell(f);
    rewind(f);
    g->bytes = malloc((size_t)size);
    if (!g->bytes || fread(g->bytes, 1, (size_t)size, f) != (size_t)size)
        fail_msg("cannot read golden file %s", path);
    fclose(f);
    uint64_t n;
    memcpy(&n, g->bytes, 8);
    g->header = json_loadb(g->bytes + 8, (size_t)n, 0, NULL);
    if (!g->header) fail_msg("golden file %s has no header", path);
    g->data = 8 + (size_t)n;
}

static inline void golden_close(golden_file *g) {
    json_decref(g->header);
    free(g->bytes);
}

static inline int golden_has(const golden_file *g, const char *name) {
    return json_object_get(g->header, name) != NULL;
}

static inline golden_tensor golden_get(const golden_file *g, const char *name) {
    json_t *row = json_object_get(g->header, name), *value;
    if (!row) fail_msg("golden file %s has no tensor %s", g->name, name);
    golden_tensor t = {.dtype = json_string_value(json_object_get(row, "dtype")), .count = 1};
    size_t i;
    json_array_foreach(json_object_get(row, "shape"), i, value) {
        t.dim[t.ndim++] = json_integer_value(value);
        t.count *= json_integer_value(value);
    }
    value = json_array_get(json_object_get(row, "data_offsets"), 0);
    t.data = g->bytes + g->data + (size_t)json_integer_value(value);
    return t;
}

static inline golden_tensor golden_typed(const golden_file *g, const char *name,
                                         const char *dtype) {
    golden_tensor t = golden_get(g, name);
    if (strcmp(t.dtype, dtype) != 0)
        fail_msg("%s: %s is %s, not %s", g->name, name, t.dtype, dtype);
    return t;
}

/* Element i as a number, whatever the type. */
static inline double golden_at(const golden_tensor *t, int64_t i) {
    const char *p = t->data;
    if (strcmp(t->dtype, "F32") == 0) {
        float v;
        memcpy(&v, p + i * 4, 4);
        return (double)v;
    }
    if (strcmp(t->dtype, "F64") == 0) {
        double v;
        memcpy(&v, p + i * 8, 8);
        return v;
    }
    if (strcmp(t->dtype, "I64") == 0) {
        int64_t v;
        memcpy(&v, p + i * 8, 8);
        return (double)v;
    }
    if (strcmp(t->dtype, "I32") == 0) {
        int32_t v;
        memcpy(&v, p + i * 4, 4);
        return (double)v;
    }
    fail_msg("unexpected golden type %s", t->dtype);
    return 0;
}

/* Metadata text, NULL when there is none. */
static inline const char *golden_meta(const golden_file *g, const char *key) {
    return json_string_value(json_object_get(json_object_get(g->header, "__metadata__"), key));
}

#endif
