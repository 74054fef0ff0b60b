/* SPDX-License-Identifier: MIT */
/* Reading safetensors; see safetensors.h. The writer is safetensors_save.c. */
#include "formats/safetensors.h"

#include <string.h>

#include "formats/byte_ranges.h"
#include "formats/json_scan.h"

enum { HEADER_MAX = 100 << 20, TENSORS_MAX = 1 << 17, META_KEYS_MAX = 4096 };

typedef struct dtype_row {
    const char *name;
    limn_dtype dtype;
} dtype_row;

static const dtype_row dtypes[] = {
    {"F32", LIMN_F32},         {"F16", LIMN_F16},         {"BF16", LIMN_BF16}, {"F64", LIMN_F64},
    {"F8_E4M3", LIMN_F8_E4M3}, {"F8_E5M2", LIMN_F8_E5M2}, {"I8", LIMN_I8},     {"U8", LIMN_U8},
    {"I16", LIMN_I16},         {"I32", LIMN_I32},         {"I64", LIMN_I64},   {"BOOL", LIMN_BOOL},
};

typedef struct loader {
    limn_json_scan scan;
    limn_fsmap *map;
    limn_weights *w;
    const uint8_t *data; /* first byte after the header */
    int64_t data_size;
    limn_buf key, text;
    limn_byte_ranges ranges;
    limn_err *err;
} loader;

static uint64_t read_u64(const uint8_t *p) {
    uint64_t v = 0;
    for (int i = 7; i >= 0; i--) v = v << 8 | p[i];
    return v;
}

bool limn_safetensors_is(const uint8_t *data, size_t size) {
    if (size < 10) return false;
    uint64_t n = read_u64(data);
    return n >= 2 && n <= HEADER_MAX && data[8] == '{';
}

static limn_status scan_failed(const loader *l) {
    if (l->key.failed || l->text.failed)
        return limn_fail(l->err, LIMN_E_LIMIT,
                         "%s: no memory for a string of its header, or it is "
                         "too long",
                         l->map->path);
    return limn_fail(l->err, LIMN_E_FORMAT, "%s: header is damaged at byte %td: %s expected",
                     l->map->path, l->scan.at - l->scan.begin + 8,
                     l->scan.wrong ? l->scan.wrong : "JSON");
}

/* "__metadata__": {"key": "value", ...} */
static limn_status metadata_parse(loader *l) {
    limn_json_scan *s = &l->scan;
    size_t n = 0;
    limn_json_scan_take(s, '{');
    if (limn_json_scan_skip(s, '}')) return LIMN_OK;
    do {
        bool fine = limn_json_scan_string(s, &l->key) && limn_json_scan_take(s, ':') &&
                    limn_json_scan_string(s, &l->text);
        if (!fine) return scan_failed(l);
        if (++n > META_KEYS_MAX)
            return limn_fail(l->err, LIMN_E_LIMIT, "%s: more than %d metadata keys", l->map->path,
                             META_KEYS_MAX);
        limn_status st = limn_weights_set_meta_str(l->w, limn_buf_text(&l->key),
                                                   limn_buf_text(&l->text), l->text.len, l->err);
        if (st != LIMN_OK) return st;
    } while (limn_json_scan_skip(s, ','));
    return limn_json_scan_take(s, '}') ? LIMN_OK : scan_failed(l);
}

static limn_status dtype_parse(loader *l, const char *name, limn_dtype *out) {
    if (!limn_json_scan_string(&l->scan, &l->text)) return scan_failed(l);
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++)
        if (strcmp(dtypes[i].name, limn_buf_text(&l->text)) == 0) {
            *out = dtypes[i].dtype;
            return LIMN_OK;
        }
    return limn_fail(l->err, LIMN_E_UNSUPPORTED,
                     "%s: tensor '%s' has type '%.20s', which limn does not read", l->map->path,
                     name, limn_buf_text(&l->text));
}

static limn_status shape_parse(loader *l, const char *name, limn_shape *out) {
    limn_json_scan *s = &l->scan;
    *out = (limn_shape){0};
    limn_json_scan_take(s, '[');
    if (limn_json_scan_skip(s, ']')) return LIMN_OK;
    do {
        int64_t d;
        if (!limn_json_scan_count(s, &d)) return scan_failed(l);
        if (out->ndim == LIMN_MAX_DIMS)
            return limn_fail(l->err, LIMN_E_UNSUPPORTED,
                             "%s: tensor '%s' has more than %d dimensions", l->map->path, name,
                             LIMN_MAX_DIMS);
        out->dim[out->ndim++] = d;
    } while (limn_json_scan_skip(s, ','));
    return limn_json_scan_take(s, ']') ? LIMN_OK : scan_failed(l);
}

/* Checks the description of one tensor against the file and adds the view. */
static limn_status tensor_add(loader *l, const char *name, limn_tensor *t, int64_t begin,
                              int64_t end) {
    const char *path = l->map->path;
    char shape[96];
    size_t bytes;
    if (begin > end || end > l->data_size)
        return limn_fail(l->err, LIMN_E_FORMAT,
                         "%s: tensor '%s' lies at bytes %lld to %lld of the data, which has %lld: "
                         "the file is cut short or damaged",
                         path, name, (long long)begin, (long long)end, (long long)l->data_size);
    limn_shape_format(&t->shape, shape, sizeof shape);
    if (!limn_tensor_bytes(&bytes, t->dtype, &t->shape) || bytes != (size_t)(end - begin))
        return limn_fail(l->err, LIMN_E_FORMAT,
                         "%s: tensor '%s' has %lld bytes, but its shape %s in %s needs another "
                         "number",
                         path, name, (long long)(end - begin), shape,
                         limn_dtype_get(t->dtype)->name);
    if (l->ranges.count == TENSORS_MAX)
        return limn_fail(l->err, LIMN_E_LIMIT, "%s: more than %d tensors", path, TENSORS_MAX);
    t->data = (void *)(l->data + begin);
    if (!limn_byte_ranges_add(&l->ranges, (uint64_t)begin, (uint64_t)end, l->ranges.count))
        return limn_fail(l->err, LIMN_E_NOMEM, "%s: no memory for its list of tensors", path);
    return limn_weights_add(l->w, name, t, l->err);
}

/* {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]} in any order, each once */
static limn_status tensor_parse(loader *l, const char *name) {
    limn_json_scan *s = &l->scan;
    limn_tensor t = {0};
    int64_t begin = 0, end = 0;
    unsigned seen = 0;
    limn_status st = LIMN_OK;
    limn_json_scan_take(s, '{');
    do {
        if (!limn_json_scan_string(s, &l->text) || !limn_json_scan_take(s, ':'))
            return scan_failed(l);
        const char *key = limn_buf_text(&l->text);
        unsigned bit = strcmp(key, "dtype") == 0          ? 1
                       : strcmp(key, "shape") == 0        ? 2
                       : strcmp(key, "data_offsets") == 0 ? 4
                                                          : 0;
        if (bit == 0 || (seen & bit))
            return limn_fail(l->err, LIMN_E_FORMAT, "%s: tensor '%s': key '%.40s' %s", l->map->path,
                             name, key, bit ? "is there twice" : "is not part of the format");
        seen |= bit;
        if (bit == 1)
            st = dtype_parse(l, name, &t.dtype);
        else if (bit == 2)
            st = shape_parse(l, name, &t.shape);
        else if (!limn_json_scan_take(s, '[') || !limn_json_scan_count(s, &begin) ||
                 !limn_json_scan_take(s, ',') || !limn_json_scan_count(s, &end) ||
                 !limn_json_scan_take(s, ']'))
            st = scan_failed(l);
        if (st != LIMN_OK) return st;
    } while (limn_json_scan_skip(s, ','));
    if (!limn_json_scan_take(s, '}')) return scan_failed(l);
    if (seen != 7)
        return limn_fail(l->err, LIMN_E_FORMAT,
                         "%s: tensor '%s' lacks one of dtype, shape and data_offsets", l->map->path,
                         name);
    return tensor_add(l, name, &t, begin, end);
}

static limn_status header_parse(loader *l) {
    limn_json_scan *s = &l->scan;
    bool seen_meta = false;
    limn_status st = LIMN_OK;
    limn_json_scan_take(s, '{');
    if (!limn_json_scan_skip(s, '}')) {
        do {
            limn_buf_clear(&l->key);
            if (!limn_json_scan_string(s, &l->key) || !limn_json_scan_take(s, ':'))
                return scan_failed(l);
            if (strcmp(limn_buf_text(&l->key), "__metadata__") == 0) {
                if (seen_meta)
                    return limn_fail(l->err, LIMN_E_FORMAT, "%s: __metadata__ is there twice",
                                     l->map->path);
                seen_meta = true;
                st = metadata_parse(l);
            } else {
                st = tensor_parse(l, limn_buf_text(&l->key));
            }
            if (st != LIMN_OK) return st;
        } while (limn_json_scan_skip(s, ','));
        if (!limn_json_scan_take(s, '}')) return scan_failed(l);
    }
    if (limn_json_scan_peek(s) != 0 || s->at != s->end)
        limn_json_scan_fail(s, "the end of the header");
    return s->wrong ? scan_failed(l) : LIMN_OK;
}

limn_status limn_safetensors_load(limn_weights **out, limn_fsmap *map, limn_err *err) {
    limn_status st;
    loader l = {.map = map, .err = err};
    *out = NULL;
    if (map->size < 8)
        return limn_fail(err, LIMN_E_FORMAT, "%s: %zu bytes are too few for a safetensors file",
                         map->path, map->size);
    uint64_t n = read_u64(map->data);
    if (n > HEADER_MAX || n > map->size - 8)
        return limn_fail(err, LIMN_E_FORMAT,
                         "%s: says that its header has %llu bytes, but the file has %zu (and %d "
                         "are allowed): it is cut short or not safetensors",
                         map->path, (unsigned long long)n, map->size, HEADER_MAX);
    limn_json_scan_init(&l.scan, (const char *)map->data + 8, (size_t)n);
    l.data = map->data + 8 + n;
    l.data_size = (int64_t)(map->size - 8 - (size_t)n);
    limn_buf_init(&l.key, 1 << 16);
    limn_buf_init(&l.text, HEADER_MAX);
    LIMN_TRY(limn_weights_new(&l.w, map->path, "safetensors", err));
    LIMN_TRY(limn_weights_keep_map(l.w, map, err));
    LIMN_TRY(header_parse(&l));
    LIMN_TRY(limn_byte_ranges_check(&l.ranges, l.w, (uint64_t)l.data_size, err));
    *out = l.w;
    l.w = NULL;
out:
    limn_weights_unref(&l.w);
    limn_buf_deinit(&l.key);
    limn_buf_deinit(&l.text);
    limn_byte_ranges_deinit(&l.ranges);
    return st;
}
