/* SPDX-License-Identifier: MIT */
/* Reading GGUF; see gguf.h. The writer is gguf_save.c. */
#include "formats/gguf.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "formats/byte_ranges.h"

enum {
    TENSORS_MAX = 1 << 17,
    META_MAX = 8192,
    STRINGS_MAX = 4 << 20, /* in all arrays of a file; vocabularies have up to 300,000 */
    KEY_MAX = 65535,
    ALIGN_MAX = 1 << 20,
    SPLITS_MAX = 1000
};

typedef struct type_row {
    int number;
    const char *name;
    int dtype; /* -1: known and not read */
} type_row;

/* enum ggml_type of ggml.h */
static const type_row types[] = {
    {0, "F32", LIMN_F32},        {1, "F16", LIMN_F16},    {2, "Q4_0", LIMN_Q4_0},
    {3, "Q4_1", LIMN_Q4_1},      {6, "Q5_0", LIMN_Q5_0},  {7, "Q5_1", LIMN_Q5_1},
    {8, "Q8_0", LIMN_Q8_0},      {9, "Q8_1", -1},         {10, "Q2_K", LIMN_Q2_K},
    {11, "Q3_K", LIMN_Q3_K},     {12, "Q4_K", LIMN_Q4_K}, {13, "Q5_K", LIMN_Q5_K},
    {14, "Q6_K", LIMN_Q6_K},     {15, "Q8_K", -1},        {16, "IQ2_XXS", -1},
    {17, "IQ2_XS", -1},          {18, "IQ3_XXS", -1},     {19, "IQ1_S", -1},
    {20, "IQ4_NL", LIMN_IQ4_NL}, {21, "IQ3_S", -1},       {22, "IQ2_S", -1},
    {23, "IQ4_XS", LIMN_IQ4_XS}, {24, "I8", LIMN_I8},     {25, "I16", LIMN_I16},
    {26, "I32", LIMN_I32},       {27, "I64", LIMN_I64},   {28, "F64", LIMN_F64},
    {29, "IQ1_M", -1},           {30, "BF16", LIMN_BF16}, {34, "TQ1_0", -1},
    {35, "TQ2_0", -1},           {39, "MXFP4", -1},
};

int limn_gguf_type_number(limn_dtype t) {
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (types[i].dtype == (int)t) return types[i].number;
    return -1;
}

/* Metadata value types, in the order of their numbers; width 0 = string (8) and array (9). */
typedef struct value_row {
    const char *name;
    limn_meta_type type;
    int width; /* negative = signed */
} value_row;

enum { VALUE_STRING = 8, VALUE_ARRAY = 9, VALUE_U64 = 10, VALUE_TYPES = 13 };
static const value_row values[VALUE_TYPES] = {
    {"u8", LIMN_META_INT, 1},    {"i8", LIMN_META_INT, -1},   {"u16", LIMN_META_INT, 2},
    {"i16", LIMN_META_INT, -2},  {"u32", LIMN_META_INT, 4},   {"i32", LIMN_META_INT, -4},
    {"f32", LIMN_META_FLOAT, 4}, {"bool", LIMN_META_BOOL, 1}, {"string", LIMN_META_STR, 0},
    {"array", LIMN_META_STR, 0}, {"u64", LIMN_META_INT, 8},   {"i64", LIMN_META_INT, -8},
    {"f64", LIMN_META_FLOAT, 8},
};

typedef struct reader {
    limn_fsmap *map;
    size_t at; /* <= map->size */
    limn_weights *w;
    uint64_t align;
    limn_byte_ranges ranges;
    uint64_t n_strings;
    char key[KEY_MAX + 1];
    limn_err *err;
} reader;

bool limn_gguf_is(const uint8_t *data, size_t size) {
    return size >= 4 && memcmp(data, "GGUF", 4) == 0;
}

static limn_status cut_short(reader *r, const char *what) {
    return limn_fail(r->err, LIMN_E_FORMAT,
                     "%s: ends inside %s at byte %zu of %zu: the file is cut short or damaged",
                     r->map->path, what, r->at, r->map->size);
}

/* The next n bytes as a little-endian number; n <= 8. */
static limn_status number(reader *r, uint64_t *out, size_t n, const char *what) {
    *out = 0;
    if (r->map->size - r->at < n) return cut_short(r, what);
    memcpy(out, r->map->data + r->at, n);
    r->at += n;
    return LIMN_OK;
}

static limn_status string(reader *r, limn_str_view *out, const char *what) {
    uint64_t n = 0;
    limn_status st = number(r, &n, 8, what);
    if (st != LIMN_OK) return st;
    if (n > r->map->size - r->at) return cut_short(r, what);
    *out = (limn_str_view){(const char *)r->map->data + r->at, (size_t)n};
    r->at += (size_t)n;
    return LIMN_OK;
}

/* A string of at most `max` bytes without NUL, copied into r->key. */
static limn_status key_read(reader *r, size_t max, const char *what) {
    limn_str_view v = {0};
    limn_status st = string(r, &v, what);
    if (st != LIMN_OK) return st;
    if (v.n == 0 || v.n > max || memchr(v.p, 0, v.n))
        return limn_fail(r->err, LIMN_E_FORMAT,
                         "%s: %s of %zu bytes; 1 to %zu without NUL are allowed", r->map->path,
                         what, v.n, max);
    memcpy(r->key, v.p, v.n);
    r->key[v.n] = 0;
    return LIMN_OK;
}

/* ---- metadata ---- */
static limn_status strings_read(reader *r, limn_meta *m, uint64_t count) {
    if (count > STRINGS_MAX - r->n_strings || count > (r->map->size - r->at) / 8)
        return limn_fail(r->err, LIMN_E_LIMIT,
                         "%s: metadata '%s' has %llu strings; at most %d in the file are "
                         "allowed",
                         r->map->path, r->key, (unsigned long long)count, STRINGS_MAX);
    r->n_strings += count;
    limn_str_view *list = limn_mem_alloc((count ? (size_t)count : 1) * sizeof *list);
    if (!list)
        return limn_fail(r->err, LIMN_E_NOMEM, "%s: no memory for metadata '%s'", r->map->path,
                         r->key);
    limn_status st = limn_weights_keep_block(r->w, list, r->err);
    for (uint64_t i = 0; i < count && st == LIMN_OK; i++) st = string(r, &list[i], r->key);
    m->data = list;
    return st;
}

/* u64 values must fit int64_t, which is how limn_meta shows them */
static bool ints_fit(const limn_meta *m) {
    if (m->width != 8 || m->type != LIMN_META_INT) return true;
    for (size_t i = 0; i < m->count; i++)
        if (limn_meta_int_at(m, i) < 0) return false;
    return true;
}

static limn_status numbers_read(reader *r, limn_meta *m, const value_row *row, uint64_t count) {
    size_t bytes, width = (size_t)(row->width < 0 ? -row->width : row->width);
    if (!limn_mul_size(&bytes, (size_t)count, width) || bytes > r->map->size - r->at)
        return cut_short(r, r->key);
    m->data = r->map->data + r->at;
    m->width = row->width;
    r->at += bytes;
    if (ints_fit(m)) return LIMN_OK;
    return limn_fail(r->err, LIMN_E_FORMAT, "%s: metadata '%s' has a number above 2^63 - 1",
                     r->map->path, r->key);
}

static limn_status meta_read(reader *r) {
    limn_status st;
    uint64_t kind, count = 1;
    limn_meta m = {.key = r->key, .width = 1};
    LIMN_TRY(key_read(r, KEY_MAX, "a metadata key"));
    LIMN_TRY(number(r, &kind, 4, r->key));
    if (kind == VALUE_ARRAY) {
        m.is_array = true;
        LIMN_TRY(number(r, &kind, 4, r->key));
        LIMN_TRY(number(r, &count, 8, r->key));
    }
    LIMN_CHECK(r->err, kind < VALUE_TYPES && kind != VALUE_ARRAY, LIMN_E_FORMAT,
               "%s: metadata '%s' has value type %llu, which GGUF does not have here", r->map->path,
               r->key, (unsigned long long)kind);
    m.type = values[kind].type;
    m.count = (size_t)count;
    if (kind != VALUE_STRING)
        LIMN_TRY(numbers_read(r, &m, &values[kind], count));
    else if (m.is_array)
        LIMN_TRY(strings_read(r, &m, count));
    else { /* scalars are shown NUL-terminated, so they are copied */
        limn_str_view v = {0};
        LIMN_TRY(string(r, &v, r->key));
        return limn_weights_set_meta_str(r->w, r->key, v.p, v.n, r->err);
    }
    LIMN_TRY(limn_weights_set_meta(r->w, &m, r->err));
out:
    return st;
}

/* ---- tensors ---- */
static limn_status type_find(reader *r, uint64_t num, limn_dtype *out) {
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if ((uint64_t)types[i].number != num) continue;
        if (types[i].dtype < 0)
            return limn_fail(r->err, LIMN_E_UNSUPPORTED,
                             "%s: tensor '%s' has type %s, which limn does not read", r->map->path,
                             r->key, types[i].name);
        *out = (limn_dtype)types[i].dtype;
        return LIMN_OK;
    }
    return limn_fail(r->err, LIMN_E_UNSUPPORTED,
                     "%s: tensor '%s' has type number %llu, which limn does not know", r->map->path,
                     r->key, (unsigned long long)num);
}

static limn_status info_read(reader *r, limn_tensor *t, uint64_t *offset) {
    limn_status st;
    uint64_t n, d, num;
    LIMN_TRY(key_read(r, 1023, "a tensor name"));
    LIMN_TRY(number(r, &n, 4, r->key));
    LIMN_CHECK(r->err, n <= LIMN_MAX_DIMS, LIMN_E_FORMAT,
               "%s: tensor '%s' has %llu dimensions; at most %d are allowed", r->map->path, r->key,
               (unsigned long long)n, LIMN_MAX_DIMS);
    *t = (limn_tensor){.shape.ndim = (int)n};
    for (int i = (int)n - 1; i >= 0; i--) { /* innermost first in the file */
        LIMN_TRY(number(r, &d, 8, r->key));
        LIMN_CHECK(r->err, d <= INT64_MAX, LIMN_E_FORMAT, "%s: tensor '%s' has a dimension of %llu",
                   r->map->path, r->key, (unsigned long long)d);
        t->shape.dim[i] = (int64_t)d;
    }
    LIMN_TRY(number(r, &num, 4, r->key));
    LIMN_TRY(type_find(r, num, &t->dtype));
    LIMN_TRY(number(r, offset, 8, r->key));
out:
    return st;
}

/* Adds the tensor, whose `data` is for now its offset in the data area. */
static limn_status tensor_read(reader *r) {
    limn_tensor t;
    uint64_t offset;
    size_t bytes;
    char shape[96];
    limn_status st = info_read(r, &t, &offset);
    if (st != LIMN_OK) return st;
    if (!limn_tensor_bytes(&bytes, t.dtype, &t.shape))
        return limn_fail(r->err, LIMN_E_FORMAT, "%s: tensor '%s' cannot be %s of shape %s",
                         r->map->path, r->key, limn_dtype_get(t.dtype)->name,
                         limn_shape_format(&t.shape, shape, sizeof shape));
    if (offset % r->align != 0)
        return limn_fail(r->err, LIMN_E_FORMAT,
                         "%s: tensor '%s' begins at %llu, which is not a multiple of %llu",
                         r->map->path, r->key, (unsigned long long)offset,
                         (unsigned long long)r->align);
    if (offset > r->map->size || bytes > r->map->size - offset)
        return limn_fail(r->err, LIMN_E_FORMAT,
                         "%s: tensor '%s' needs %zu bytes from %llu of the data, the file has %zu: "
                         "it is cut short or damaged",
                         r->map->path, r->key, bytes, (unsigned long long)offset, r->map->size);
    t.data = (void *)(uintptr_t)offset;
    if (!limn_byte_ranges_add(&r->ranges, offset, offset + bytes, r->ranges.count))
        return limn_fail(r->err, LIMN_E_NOMEM, "%s: no memory for its list of tensors",
                         r->map->path);
    return limn_weights_add(r->w, r->key, &t, r->err);
}

/* The shape before flattening, from metadata; false when there is none for this tensor. */
static limn_status original_shape(reader *r, const limn_weights *w, size_t i, limn_shape *out,
                                  bool *has) {
    const char *name = limn_weights_name(w, i);
    const limn_tensor *t = limn_weights_at(w, i);
    snprintf(r->key, sizeof r->key, "comfy.gguf.orig_shape.%s", name);
    const limn_meta *m = limn_weights_meta_find(w, r->key);
    *has = false;
    if (!m) return LIMN_OK;
    *out = (limn_shape){.ndim = (int)m->count};
    bool fits = m->type == LIMN_META_INT && m->is_array && m->count <= LIMN_MAX_DIMS;
    for (size_t d = 0; fits && d < m->count; d++) out->dim[d] = limn_meta_int_at(m, d);
    if (!fits || limn_shape_count(out) != limn_shape_count(&t->shape))
        return limn_fail(r->err, LIMN_E_FORMAT,
                         "%s: metadata '%s' does not give a shape with as many elements as the "
                         "tensor has",
                         r->map->path, m->key);
    *has = true;
    return LIMN_OK;
}

static limn_status widen(reader *r, const char *name, const limn_tensor *t, const limn_shape *shape,
                         limn_weights *into) {
    enum { PIECE = 4096 }; /* a multiple of every block */
    void *data;
    float piece[PIECE];
    limn_status st = limn_weights_add_owned(into, name, LIMN_F16, shape, &data, r->err);
    if (st != LIMN_OK) return st;
    const limn_dtype_info *info = limn_dtype_get(t->dtype);
    int64_t n = limn_shape_count(shape);
    for (int64_t at = 0; at < n; at += PIECE) {
        int64_t len = n - at < PIECE ? n - at : PIECE;
        const uint8_t *src = (const uint8_t *)t->data + at / info->block * info->bytes;
        limn_dtype_to_f32(piece, src, t->dtype, len);
        limn_dtype_from_f32((uint16_t *)data + at, piece, LIMN_F16, len);
    }
    return LIMN_OK;
}

/* The second pass: real pointers and original shapes, into a fresh set. */
static limn_status place_tensors(reader *r, limn_weights *out, uint64_t data_at) {
    limn_status st = LIMN_OK;
    for (size_t i = 0; i < limn_weights_count(r->w); i++) {
        limn_tensor t = *limn_weights_at(r->w, i);
        const char *name = limn_weights_name(r->w, i);
        limn_shape shape;
        bool has;
        size_t bytes;
        uint64_t offset = (uint64_t)(uintptr_t)t.data;
        limn_tensor_bytes(&bytes, t.dtype, &t.shape);
        if (data_at > r->map->size || offset + bytes > r->map->size - data_at)
            return limn_fail(r->err, LIMN_E_FORMAT,
                             "%s: tensor '%s' needs %zu bytes from %llu of the data, which has "
                             "%lld: the file is cut short or damaged",
                             r->map->path, name, bytes, (unsigned long long)offset,
                             (long long)r->map->size - (long long)data_at);
        t.data = (void *)(r->map->data + data_at + offset);
        st = original_shape(r, r->w, i, &shape, &has);
        if (st != LIMN_OK) return st;
        if (has && !limn_tensor_bytes(&bytes, t.dtype, &shape)) {
            st = widen(r, name, &t, &shape, out);
        } else {
            if (has) t.shape = shape;
            st = limn_weights_add(out, name, &t, r->err);
        }
        if (st != LIMN_OK) return st;
    }
    return st;
}

static limn_status header_read(reader *r, uint64_t *n_tensors) {
    limn_status st;
    uint64_t version, n_meta;
    r->at = 4;
    LIMN_TRY(number(r, &version, 4, "the header"));
    LIMN_CHECK(r->err, version != 0x02000000 && version != 0x03000000, LIMN_E_UNSUPPORTED,
               "%s: is a big-endian GGUF file; only little-endian ones are read", r->map->path);
    LIMN_CHECK(r->err, version == 2 || version == 3, LIMN_E_UNSUPPORTED,
               "%s: is GGUF version %llu; versions 2 and 3 are read", r->map->path,
               (unsigned long long)version);
    LIMN_TRY(number(r, n_tensors, 8, "the header"));
    LIMN_TRY(number(r, &n_meta, 8, "the header"));
    LIMN_CHECK(r->err, *n_tensors <= TENSORS_MAX && n_meta <= META_MAX, LIMN_E_LIMIT,
               "%s: claims %llu tensors and %llu metadata keys; at most %d and %d are allowed",
               r->map->path, (unsigned long long)*n_tensors, (unsigned long long)n_meta,
               TENSORS_MAX, META_MAX);
    for (uint64_t i = 0; i < n_meta; i++) LIMN_TRY(meta_read(r));
    int64_t align = limn_weights_meta_int(r->w, "general.alignment", 32);
    LIMN_CHECK(r->err, align > 0 && align <= ALIGN_MAX && (align & (align - 1)) == 0, LIMN_E_FORMAT,
               "%s: general.alignment is %lld; a power of two up to %d is allowed", r->map->path,
               (long long)align, ALIGN_MAX);
    r->align = (uint64_t)align;
out:
    return st;
}

limn_status limn_gguf_load(limn_weights **out, limn_fsmap *map, limn_err *err) {
    limn_status st;
    limn_weights *made = NULL;
    uint64_t n = 0;
    *out = NULL;
    reader *r = limn_mem_calloc(1, sizeof *r);
    if (!r) return limn_fail(err, LIMN_E_NOMEM, "%s: no memory to open it", map->path);
    r->map = map;
    r->err = err;
    LIMN_CHECK(err, limn_gguf_is(map->data, map->size), LIMN_E_FORMAT, "%s: is not a GGUF file",
               map->path);
    LIMN_TRY(limn_weights_new(&r->w, map->path, "gguf", err));
    LIMN_TRY(limn_weights_keep_map(r->w, map, err));
    LIMN_TRY(header_read(r, &n));
    for (uint64_t i = 0; i < n; i++) LIMN_TRY(tensor_read(r));
    LIMN_TRY(limn_byte_ranges_check(&r->ranges, r->w, map->size, err));
    /* The list of the first pass becomes the parent: it keeps map and metadata alive. */
    LIMN_TRY(limn_weights_new(&made, map->path, "gguf", err));
    LIMN_TRY(limn_weights_keep_parent(made, r->w, err));
    for (size_t i = 0; i < limn_weights_meta_count(r->w); i++)
        LIMN_TRY(limn_weights_set_meta(made, limn_weights_meta_at(r->w, i), err));
    LIMN_TRY(place_tensors(r, made, (r->at + r->align - 1) / r->align * r->align));
    *out = made;
    made = NULL;
out:
    limn_weights_unref(&made);
    limn_weights_unref(&r->w);
    limn_byte_ranges_deinit(&r->ranges);
    limn_mem_free(r);
    return st;
}

/* ---- split files ---- */

/* Length of the path before "-00001-of-00003.gguf"; 0 when it does not end so. */
static size_t split_stem(const char *path) {
    static const char form[] = "-ddddd-of-ddddd.gguf";
    size_t n = strlen(path), m = sizeof form - 1;
    if (n <= m) return 0;
    for (size_t i = 0; i < m; i++) {
        char c = path[n - m + i];
        if (form[i] == 'd' ? !isdigit((unsigned char)c) : c != form[i]) return 0;
    }
    return n - m;
}

static limn_status part_open(limn_weights **out, const char *path, int64_t index, int64_t count,
                             limn_err *err) {
    limn_fsmap *map = NULL;
    limn_status st = limn_fsmap_open(&map, path, err);
    if (st != LIMN_OK) {
        limn_err_prefix(err, "part %lld of %lld", (long long)index + 1, (long long)count);
        return st;
    }
    st = limn_gguf_load(out, map, err);
    limn_fsmap_unref(&map);
    if (st != LIMN_OK) return st;
    if (limn_weights_meta_int(*out, "split.no", -1) == index &&
        limn_weights_meta_int(*out, "split.count", -1) == count)
        return LIMN_OK;
    limn_weights_unref(out);
    return limn_fail(err, LIMN_E_FORMAT, "%s: should be part %lld of %lld by its name and is not",
                     path, (long long)index + 1, (long long)count);
}

limn_status limn_gguf_load_split(limn_weights **out, limn_fsmap *map, limn_err *err) {
    limn_weights *one = NULL, **parts = NULL;
    limn_status st = limn_gguf_load(&one, map, err);
    int64_t n_opened = 0;
    limn_buf name;
    limn_buf_init(&name, 1 << 16);
    *out = NULL;
    if (st != LIMN_OK) return st;
    int64_t count = limn_weights_meta_int(one, "split.count", 0);
    if (count <= 1) {
        *out = one;
        return LIMN_OK;
    }
    size_t stem = split_stem(map->path);
    LIMN_CHECK(err, count <= SPLITS_MAX, LIMN_E_LIMIT, "%s: claims %lld parts", map->path,
               (long long)count);
    LIMN_CHECK(err, stem, LIMN_E_FORMAT,
               "%s: is one of %lld parts, but is not named <name>-00001-of-%05lld.gguf, so the "
               "others cannot be found",
               map->path, (long long)count, (long long)count);
    parts = limn_mem_calloc((size_t)count, sizeof *parts);
    LIMN_CHECK(err, parts, LIMN_E_NOMEM, "%s: no memory to open it", map->path);
    for (; n_opened < count; n_opened++) {
        limn_buf_clear(&name);
        limn_buf_addf(&name, "%.*s-%05lld-of-%05lld.gguf", (int)stem, map->path,
                      (long long)n_opened + 1, (long long)count);
        LIMN_TRY(part_open(&parts[n_opened], limn_buf_text(&name), n_opened, count, err));
    }
    LIMN_TRY(limn_weights_merge(out, (const limn_weights *const *)parts, NULL, (size_t)count,
                                map->path, "split gguf", err));
out:
    for (int64_t i = 0; i < n_opened; i++) limn_weights_unref(&parts[i]);
    limn_mem_free(parts);
    limn_weights_unref(&one);
    limn_buf_deinit(&name);
    return st;
}
