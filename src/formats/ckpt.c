/* SPDX-License-Identifier: MIT */
/* Torch files; see ckpt.h. */
#include "formats/ckpt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "formats/pickle.h"
#include "formats/zip.h"

enum { DEPTH_MAX = 24, VISITS_MAX = 4 << 20, META_TEXT_MAX = 1024, KEY_MAX = 512 };

/* A legacy file's storages, by key. */
typedef struct legacy_storage {
    const char *key;
    const uint8_t *data; /* NULL until found */
    size_t size;         /* bytes */
    limn_dtype dtype;
    int64_t elements;
} legacy_storage;

typedef struct loader {
    limn_fsmap *map;
    limn_weights *w;
    limn_pickle *pickle;
    limn_zip zip;
    char root[KEY_MAX]; /* folder of data.pkl in the archive, with '/' */
    legacy_storage *legacy;
    size_t n_legacy;
    size_t copied, copy_max;
    size_t visits;
    char name[1024];
    limn_err *err;
} loader;

/* The pickle of torch.serialization.MAGIC_NUMBER, protocol 2 and up. */
static const uint8_t magic[10] = {0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19};

bool limn_ckpt_is_zip(const uint8_t *data, size_t size) {
    return size >= 4 && memcmp(data, "PK\x03\x04", 4) == 0;
}

bool limn_ckpt_is_legacy(const uint8_t *data, size_t size) {
    /* PROTO n, LONG1 10, magic */
    return size >= 14 && data[0] == 0x80 && memcmp(data + 2, "\x8a\x0a", 2) == 0 &&
           memcmp(data + 4, magic, sizeof magic) == 0;
}

/* ---- storages ---- */
static int storage_compare(const void *a, const void *b) {
    return strcmp(((const legacy_storage *)a)->key, ((const legacy_storage *)b)->key);
}

/* The bytes of a storage and how many there are. */
static limn_status storage_find(loader *l, const limn_pickle_value *s, const uint8_t **data,
                                size_t *size) {
    if (l->legacy) {
        legacy_storage want = {.key = s->s};
        const legacy_storage *f =
            bsearch(&want, l->legacy, l->n_legacy, sizeof want, storage_compare);
        if (f && f->data) {
            *data = f->data;
            *size = f->size;
            return LIMN_OK;
        }
    } else {
        char path[2 * KEY_MAX];
        int n = snprintf(path, sizeof path, "%sdata/%s", l->root, s->s);
        const limn_zip_entry *e =
            n > 0 && (size_t)n < sizeof path ? limn_zip_find(&l->zip, path) : NULL;
        if (e) {
            *data = e->data;
            *size = e->size;
            return LIMN_OK;
        }
    }
    return limn_fail(l->err, LIMN_E_FORMAT, "%s: tensor '%s': its data '%.60s' is not in the file",
                     l->map->path, l->name, s->s);
}

/* ---- tensors ---- */
static bool is_contiguous(const limn_pickle_layout *t) {
    int64_t want = 1;
    for (int i = t->shape.ndim - 1; i >= 0; i--) {
        if (t->shape.dim[i] != 1 && t->stride[i] != want) return false;
        want *= t->shape.dim[i];
    }
    return true;
}

/* Index after the last element that the tensor touches; -1 on overflow. */
static int64_t extent(const limn_pickle_layout *t) {
    int64_t last = t->offset;
    for (int i = 0; i < t->shape.ndim; i++) {
        int64_t step;
        if (t->shape.dim[i] == 0) return t->offset;
        if (!limn_mul_i64(&step, t->shape.dim[i] - 1, t->stride[i]) ||
            !limn_add_i64(&last, last, step))
            return -1;
    }
    return limn_add_i64(&last, last, 1) ? last : -1;
}

static void strided_copy(uint8_t *dst, const uint8_t *src, const limn_pickle_layout *t, int64_t n,
                         size_t width) {
    int64_t at[LIMN_MAX_DIMS] = {0}, from = t->offset;
    for (int64_t i = 0; i < n; i++) {
        memcpy(dst + (size_t)i * width, src + (size_t)from * width, width);
        for (int d = t->shape.ndim - 1; d >= 0; d--) {
            from += t->stride[d];
            if (++at[d] < t->shape.dim[d]) break;
            from -= t->stride[d] * t->shape.dim[d];
            at[d] = 0;
        }
    }
}

static limn_status tensor_add(loader *l, const limn_pickle_value *v) {
    const limn_pickle_value *s = v->items[0];
    const limn_pickle_layout *t = v->layout;
    const uint8_t *data = NULL;
    size_t size = 0, bytes, first;
    if (!s->has_dtype)
        return limn_fail(l->err, LIMN_E_UNSUPPORTED,
                         "%s: tensor '%s' has a storage without type, which limn does not read",
                         l->map->path, l->name);
    limn_status st = storage_find(l, s, &data, &size);
    if (st != LIMN_OK) return st;
    size_t width = (size_t)limn_dtype_get(s->dtype)->bytes;
    int64_t n = limn_shape_count(&t->shape), end = extent(t);
    bool fits = n >= 0 && end >= 0 && end <= s->i && limn_add_i64(&end, end, s->view) &&
                (uint64_t)end <= size / width && limn_mul_size(&first, (size_t)s->view, width);
    if (!fits || !limn_tensor_bytes(&bytes, s->dtype, &t->shape))
        return limn_fail(l->err, LIMN_E_FORMAT,
                         "%s: tensor '%s' reaches outside its data of %zu bytes: the file is cut "
                         "short or damaged",
                         l->map->path, l->name, size);
    data += first;
    limn_tensor made = {
        .dtype = s->dtype, .shape = t->shape, .data = (void *)(data + (size_t)t->offset * width)};
    if (n == 0) made.data = (void *)data;
    if (is_contiguous(t) || n == 0) return limn_weights_add(l->w, l->name, &made, l->err);
    if (bytes > l->copy_max - l->copied)
        return limn_fail(l->err, LIMN_E_LIMIT,
                         "%s: tensor '%s' is a strided view that grows to %zu bytes", l->map->path,
                         l->name, bytes);
    l->copied += bytes;
    void *copy = NULL;
    st = limn_weights_add_owned(l->w, l->name, s->dtype, &t->shape, &copy, l->err);
    if (st == LIMN_OK) strided_copy(copy, data, t, n, width);
    return st;
}

/* Adds "key" to the path in l->name; false when it grows too long. */
static bool path_add(loader *l, size_t at, const limn_pickle_value *key) {
    size_t room = sizeof l->name - at;
    const char *dot = at ? "." : "";
    int n = key->type == LIMN_PK_INT
                ? snprintf(l->name + at, room, "%s%lld", dot, (long long)key->i)
                : snprintf(l->name + at, room, "%s%s", dot, key->s);
    return n >= 0 && (size_t)n < room;
}

static limn_status walk(loader *l, const limn_pickle_value *v, size_t at, int depth);

static limn_status walk_dict(loader *l, const limn_pickle_value *v, size_t at, int depth) {
    for (size_t i = 0; i + 1 < v->n; i += 2) {
        const limn_pickle_value *key = v->items[i];
        if (key->type != LIMN_PK_STR && key->type != LIMN_PK_INT) continue;
        if (!path_add(l, at, key))
            return limn_fail(l->err, LIMN_E_FORMAT, "%s: a tensor name has more than 1023 bytes",
                             l->map->path);
        limn_status st = walk(l, v->items[i + 1], strlen(l->name), depth + 1);
        if (st != LIMN_OK) return st;
        l->name[at] = 0;
    }
    return LIMN_OK;
}

/* All tensors below a value. Shared values can make the tree exponentially larger than the file,
 * so visits are counted. */
static limn_status walk(loader *l, const limn_pickle_value *v, size_t at, int depth) {
    if (++l->visits > VISITS_MAX || depth > DEPTH_MAX)
        return limn_fail(l->err, LIMN_E_LIMIT, "%s: its values are nested too deeply or too often",
                         l->map->path);
    switch (v->type) {
    case LIMN_PK_TENSOR:
        if (at == 0) snprintf(l->name, sizeof l->name, "tensor");
        return tensor_add(l, v);
    case LIMN_PK_DICT: return walk_dict(l, v, at, depth);
    case LIMN_PK_OBJECT: { /* a ParameterDict keeps its tensors in _parameters */
        const limn_pickle_value *in = v->n ? limn_pickle_get(v->items[0], "_parameters") : NULL;
        return in ? walk(l, in, at, depth + 1) : LIMN_OK;
    }
    case LIMN_PK_LIST:
    case LIMN_PK_TUPLE:
        for (size_t i = 0; i < v->n; i++) {
            limn_pickle_value key = {.type = LIMN_PK_INT, .i = (int64_t)i};
            if (!path_add(l, at, &key)) break;
            limn_status st = walk(l, v->items[i], strlen(l->name), depth + 1);
            if (st != LIMN_OK) return st;
            l->name[at] = 0;
        }
        return LIMN_OK;
    default: return LIMN_OK;
    }
}

/* ---- the top level ---- */
static const limn_pickle_value *unwrap(loader *l, const limn_pickle_value *v) {
    static const char *const wrappers[] = {"state_dict",       "params_ema", "params",
                                           "model_state_dict", "model",      "ema"};
    for (size_t i = 0; i < sizeof wrappers / sizeof wrappers[0]; i++) {
        const limn_pickle_value *in = limn_pickle_get(v, wrappers[i]);
        if (!in || in->type != LIMN_PK_DICT) continue;
        if (v->n > 2)
            limn_log(LIMN_LOG_INFO, "load", "%s: read '%s' and left out %zu other entries",
                     l->map->path, wrappers[i], v->n / 2 - 1);
        return in;
    }
    return v;
}

static limn_status metas_add(loader *l, const limn_pickle_value *v) {
    char num[32];
    for (size_t i = 0; v->type == LIMN_PK_DICT && i + 1 < v->n && i < 512; i += 2) {
        const limn_pickle_value *key = v->items[i], *val = v->items[i + 1];
        if (key->type != LIMN_PK_STR || limn_weights_meta_find(l->w, key->s)) continue;
        const char *text = val->s;
        size_t n = val->n;
        if (val->type == LIMN_PK_INT) {
            n = (size_t)snprintf(num, sizeof num, "%lld", (long long)val->i);
            text = num;
        } else if (val->type != LIMN_PK_STR || n > META_TEXT_MAX) {
            continue;
        }
        limn_status st = limn_weights_set_meta_str(l->w, key->s, text, n, l->err);
        if (st != LIMN_OK) return st;
    }
    return LIMN_OK;
}

static limn_status root_add(loader *l, const limn_pickle_value *root) {
    limn_status st = metas_add(l, root);
    if (st == LIMN_OK) st = walk(l, unwrap(l, root), 0, 0);
    if (st == LIMN_OK && limn_weights_count(l->w) == 0)
        st = limn_fail(l->err, LIMN_E_FORMAT, "%s: holds no tensors", l->map->path);
    return st;
}

/* ---- zip ---- */
static limn_status zip_load(loader *l) {
    limn_status st;
    limn_pickle_value *root = NULL;
    size_t used;
    LIMN_TRY(limn_zip_open(&l->zip, l->map, l->err));
    const limn_zip_entry *pkl = NULL;
    for (size_t i = 0; i < l->zip.count && !pkl; i++) {
        const limn_zip_entry *e = &l->zip.list[i];
        static const char tail[] = "data.pkl";
        size_t n = sizeof tail - 1;
        if (e->name_len < n || memcmp(e->name + e->name_len - n, tail, n) != 0) continue;
        size_t root_len = e->name_len - n;
        if (root_len >= sizeof l->root || (root_len && e->name[root_len - 1] != '/')) continue;
        memcpy(l->root, e->name, root_len);
        l->root[root_len] = 0;
        pkl = e;
    }
    LIMN_CHECK(l->err, pkl, LIMN_E_FORMAT,
               "%s: is a zip archive without data.pkl, so torch did not write it", l->map->path);
    char order[KEY_MAX + 16];
    snprintf(order, sizeof order, "%sbyteorder", l->root);
    const limn_zip_entry *e = limn_zip_find(&l->zip, order);
    LIMN_CHECK(l->err, !e || (e->size == 6 && memcmp(e->data, "little", 6) == 0),
               LIMN_E_UNSUPPORTED, "%s: was written on a big-endian machine", l->map->path);
    LIMN_TRY(limn_pickle_load(l->pickle, &root, pkl->data, pkl->size, &used, l->err));
    LIMN_TRY(root_add(l, root));
out:
    return st;
}

/* ---- legacy: magic, protocol, system, weights, list of storage keys, then the storages ---- */

/* Every storage that the pickle mentions, each key once. */
static limn_status legacy_collect(loader *l, const limn_pickle_value *keys) {
    if (keys->type != LIMN_PK_LIST)
        return limn_fail(l->err, LIMN_E_FORMAT, "%s: has no list of its data", l->map->path);
    l->legacy = limn_mem_calloc(keys->n ? keys->n : 1, sizeof *l->legacy);
    if (!l->legacy)
        return limn_fail(l->err, LIMN_E_NOMEM, "%s: no memory for its list of data", l->map->path);
    for (size_t i = 0; i < keys->n; i++) {
        if (keys->items[i]->type != LIMN_PK_STR)
            return limn_fail(l->err, LIMN_E_FORMAT, "%s: its list of data is damaged",
                             l->map->path);
        l->legacy[l->n_legacy++] = (legacy_storage){.key = keys->items[i]->s};
    }
    return LIMN_OK;
}

/* Element widths are known to the pickled storages only: finds them below `v`. */
static limn_status legacy_types(loader *l, const limn_pickle_value *v, int depth) {
    if (++l->visits > VISITS_MAX || depth > DEPTH_MAX)
        return limn_fail(l->err, LIMN_E_LIMIT, "%s: its values are nested too deeply or too often",
                         l->map->path);
    if (v->type == LIMN_PK_STORAGE) {
        legacy_storage want = {.key = v->s};
        legacy_storage *f = bsearch(&want, l->legacy, l->n_legacy, sizeof want, storage_compare);
        if (f) {
            f->dtype = v->dtype;
            f->elements = v->has_dtype ? 1 : 0;
        }
        return LIMN_OK;
    }
    limn_status st = LIMN_OK;
    bool holds = v->type == LIMN_PK_TENSOR || v->type == LIMN_PK_DICT || v->type == LIMN_PK_LIST ||
                 v->type == LIMN_PK_TUPLE || v->type == LIMN_PK_OBJECT;
    for (size_t i = 0; holds && i < v->n && st == LIMN_OK; i++)
        st = legacy_types(l, v->items[i], depth + 1);
    return st;
}

/* Walks the data in file order: for each key a count of elements and the elements. */
static limn_status legacy_place(loader *l, const limn_pickle_value *keys, size_t at) {
    for (size_t i = 0; i < keys->n; i++) {
        legacy_storage want = {.key = keys->items[i]->s};
        legacy_storage *f = bsearch(&want, l->legacy, l->n_legacy, sizeof want, storage_compare);
        int64_t n = 0;
        size_t bytes = 0;
        bool fits = f && l->map->size - at >= 8;
        if (fits) {
            memcpy(&n, l->map->data + at, 8);
            at += 8;
            fits = f->elements == 1 && n >= 0 &&
                   limn_mul_size(&bytes, (size_t)n, (size_t)limn_dtype_get(f->dtype)->bytes) &&
                   bytes <= l->map->size - at;
        }
        if (!fits)
            return limn_fail(l->err, LIMN_E_FORMAT,
                             "%s: data '%.60s' is not all there: the file is cut short or damaged",
                             l->map->path, want.key);
        f->data = l->map->data + at;
        f->size = bytes;
        at += bytes;
    }
    return LIMN_OK;
}

static limn_status legacy_next(loader *l, limn_pickle_value **v, size_t *at) {
    size_t used = 0;
    limn_status st =
        limn_pickle_load(l->pickle, v, l->map->data + *at, l->map->size - *at, &used, l->err);
    *at += used;
    return st;
}

static limn_status legacy_load(loader *l) {
    limn_status st;
    limn_pickle_value *v = NULL, *root = NULL, *keys = NULL;
    size_t at = 0;
    LIMN_TRY(legacy_next(l, &v, &at)); /* magic number, checked by limn_ckpt_is_legacy */
    LIMN_TRY(legacy_next(l, &v, &at));
    LIMN_CHECK(l->err, v->type == LIMN_PK_INT && v->i == 1001, LIMN_E_UNSUPPORTED,
               "%s: torch file protocol %lld; 1001 is read", l->map->path, (long long)v->i);
    LIMN_TRY(legacy_next(l, &v, &at));
    const limn_pickle_value *little = limn_pickle_get(v, "little_endian");
    LIMN_CHECK(l->err, !little || little->i == 1, LIMN_E_UNSUPPORTED,
               "%s: was written on a big-endian machine", l->map->path);
    LIMN_TRY(legacy_next(l, &root, &at));
    LIMN_TRY(legacy_next(l, &keys, &at));
    LIMN_TRY(legacy_collect(l, keys));
    qsort(l->legacy, l->n_legacy, sizeof *l->legacy, storage_compare);
    LIMN_TRY(legacy_types(l, root, 0));
    LIMN_TRY(legacy_place(l, keys, at));
    l->visits = 0;
    LIMN_TRY(root_add(l, root));
out:
    return st;
}

limn_status limn_ckpt_load(limn_weights **out, limn_fsmap *map, limn_err *err) {
    limn_status st;
    bool zip = limn_ckpt_is_zip(map->data, map->size);
    *out = NULL;
    loader *l = limn_mem_calloc(1, sizeof *l);
    if (!l) return limn_fail(err, LIMN_E_NOMEM, "%s: no memory to open it", map->path);
    l->map = map;
    l->err = err;
    l->copy_max = map->size * 4 + ((size_t)64 << 20);
    LIMN_TRY(limn_weights_new(&l->w, map->path, zip ? "torch zip" : "torch legacy", err));
    LIMN_TRY(limn_weights_keep_map(l->w, map, err));
    LIMN_TRY(limn_pickle_new(&l->pickle, map->path, err));
    LIMN_TRY(zip ? zip_load(l) : legacy_load(l));
    *out = l->w;
    l->w = NULL;
out:
    limn_weights_unref(&l->w);
    limn_pickle_free(&l->pickle);
    limn_zip_close(&l->zip);
    limn_mem_free(l->legacy);
    limn_mem_free(l);
    return st;
}
