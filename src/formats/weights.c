/* SPDX-License-Identifier: MIT */
/* Named tensor sets; see weights.h. Names are found through an open-addressing hash table that is
 * kept at most half full; strings live in the set's arena. */
#include "formats/weights.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

enum { NAME_MAX_BYTES = 1023 };

typedef struct entry {
    const char *name;
    limn_tensor tensor;
} entry;

struct limn_weights {
    atomic_int refs;
    limn_arena arena;
    const char *path, *format;
    entry *list;
    size_t count, cap;
    uint32_t *slots; /* index + 1 into list, 0 = empty */
    size_t n_slots;  /* power of two, > 2 * count */
    limn_fsmap **maps;
    size_t n_maps, cap_maps;
    limn_weights **parents;
    size_t n_parents, cap_parents;
    void **blocks;
    size_t n_blocks, cap_blocks;
    limn_meta *metas;
    uint32_t *meta_hash; /* of each key: a quick no */
    size_t n_metas, cap_metas, cap_hash;
};

static limn_status no_memory(const limn_weights *w, limn_err *err) {
    return limn_fail(err, LIMN_E_NOMEM, "%s: no memory for its list of tensors", w->path);
}

limn_status limn_weights_new(limn_weights **out, const char *path, const char *format,
                             limn_err *err) {
    *out = NULL;
    limn_weights *w = limn_mem_calloc(1, sizeof *w);
    if (!w) return limn_fail(err, LIMN_E_NOMEM, "%s: no memory to open it", path);
    atomic_init(&w->refs, 1);
    limn_arena_init(&w->arena);
    w->path = limn_arena_strdup(&w->arena, path);
    w->format = limn_arena_strdup(&w->arena, format);
    if (w->arena.failed) {
        limn_weights_unref(&w);
        return limn_fail(err, LIMN_E_NOMEM, "%s: no memory to open it", path);
    }
    *out = w;
    return LIMN_OK;
}

limn_weights *limn_weights_ref(const limn_weights *w) {
    limn_weights *m = (limn_weights *)w;
    atomic_fetch_add(&m->refs, 1);
    return m;
}

void limn_weights_unref(limn_weights **pw) {
    limn_weights *w = pw ? *pw : NULL;
    if (!w) return;
    *pw = NULL;
    if (atomic_fetch_sub(&w->refs, 1) != 1) return;
    for (size_t i = 0; i < w->n_maps; i++) limn_fsmap_unref(&w->maps[i]);
    for (size_t i = 0; i < w->n_parents; i++) limn_weights_unref(&w->parents[i]);
    for (size_t i = 0; i < w->n_blocks; i++) limn_mem_free(w->blocks[i]);
    limn_mem_free(w->maps);
    limn_mem_free(w->parents);
    limn_mem_free(w->blocks);
    limn_mem_free(w->metas);
    limn_mem_free(w->meta_hash);
    limn_mem_free(w->list);
    limn_mem_free(w->slots);
    limn_arena_deinit(&w->arena);
    limn_mem_free(w);
}

/* Room for one more element of `size` bytes in a growing array. */
static bool grow(void **list, size_t *cap, size_t count, size_t size) {
    if (count < *cap) return true;
    size_t n = *cap ? *cap * 2 : 8, bytes;
    if (!limn_mul_size(&bytes, n, size)) return false;
    void *p = limn_mem_realloc(*list, bytes);
    if (!p) return false;
    *list = p;
    *cap = n;
    return true;
}

/* ---- names ---- */
static uint32_t hash_of(const char *name) {
    uint64_t h = 0xcbf29ce484222325u; /* FNV-1a */
    for (const unsigned char *p = (const unsigned char *)name; *p; p++)
        h = (h ^ *p) * 0x100000001b3u;
    return (uint32_t)(h ^ (h >> 32));
}

/* The slot that holds `name`, or the free one where it belongs. The table must not be full. */
static size_t slot_of(const limn_weights *w, const char *name) {
    size_t mask = w->n_slots - 1, s = hash_of(name) & mask;
    while (w->slots[s] && strcmp(w->list[w->slots[s] - 1].name, name) != 0) s = (s + 1) & mask;
    return s;
}

static bool table_grow(limn_weights *w) {
    if ((w->count + 1) * 2 < w->n_slots) return true;
    size_t n = w->n_slots ? w->n_slots * 2 : 64;
    uint32_t *slots = limn_mem_calloc(n, sizeof *slots);
    if (!slots) return false;
    limn_mem_free(w->slots);
    w->slots = slots;
    w->n_slots = n;
    for (size_t i = 0; i < w->count; i++) slots[slot_of(w, w->list[i].name)] = (uint32_t)i + 1;
    return true;
}

static bool name_is_valid(const char *name) {
    size_t n = strlen(name);
    if (n == 0 || n > NAME_MAX_BYTES) return false;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f) return false;
    return true;
}

limn_status limn_weights_add(limn_weights *w, const char *name, const limn_tensor *t,
                             limn_err *err) {
    if (!name_is_valid(name))
        return limn_fail(err, LIMN_E_FORMAT,
                         "%s: tensor %zu has no valid name (1 to %d bytes without control "
                         "characters): '%.40s'",
                         w->path, w->count, NAME_MAX_BYTES, name);
    if (w->count >= UINT32_MAX / 2 || !table_grow(w) ||
        !grow((void **)&w->list, &w->cap, w->count, sizeof *w->list))
        return no_memory(w, err);
    size_t s = slot_of(w, name);
    if (w->slots[s])
        return limn_fail(err, LIMN_E_FORMAT, "%s: tensor '%s' is there twice", w->path, name);
    const char *copy = limn_arena_strdup(&w->arena, name);
    if (!copy) return no_memory(w, err);
    w->list[w->count] = (entry){copy, *t};
    w->slots[s] = (uint32_t)++w->count;
    return LIMN_OK;
}

limn_status limn_weights_add_owned(limn_weights *w, const char *name, limn_dtype t,
                                   const limn_shape *shape, void **data, limn_err *err) {
    limn_tensor made;
    *data = NULL;
    limn_status st = limn_tensor_new(&made, t, shape, err);
    if (st == LIMN_OK) st = limn_weights_keep_block(w, made.data, err);
    if (st == LIMN_OK) st = limn_weights_add(w, name, &made, err);
    if (st == LIMN_OK)
        *data = made.data;
    else
        limn_err_prefix(err, "%s", name);
    return st;
}

limn_status limn_weights_keep_map(limn_weights *w, limn_fsmap *map, limn_err *err) {
    if (!grow((void **)&w->maps, &w->cap_maps, w->n_maps, sizeof *w->maps))
        return no_memory(w, err);
    w->maps[w->n_maps++] = limn_fsmap_ref(map);
    return LIMN_OK;
}

limn_status limn_weights_keep_parent(limn_weights *w, const limn_weights *parent, limn_err *err) {
    if (!grow((void **)&w->parents, &w->cap_parents, w->n_parents, sizeof *w->parents))
        return no_memory(w, err);
    w->parents[w->n_parents++] = limn_weights_ref(parent);
    return LIMN_OK;
}

limn_status limn_weights_keep_block(limn_weights *w, void *block, limn_err *err) {
    if (!grow((void **)&w->blocks, &w->cap_blocks, w->n_blocks, sizeof *w->blocks)) {
        limn_mem_free(block);
        return no_memory(w, err);
    }
    w->blocks[w->n_blocks++] = block;
    return LIMN_OK;
}

/* ---- reading ---- */
size_t limn_weights_index(const limn_weights *w, const char *name) {
    if (w->n_slots == 0) return SIZE_MAX;
    uint32_t at = w->slots[slot_of(w, name)];
    return at ? at - 1 : SIZE_MAX;
}

const limn_tensor *limn_weights_find(const limn_weights *w, const char *name) {
    size_t i = limn_weights_index(w, name);
    return i == SIZE_MAX ? NULL : &w->list[i].tensor;
}

const limn_tensor *limn_weights_findf(const limn_weights *w, const char *fmt, ...) {
    char name[512];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    return n < 0 || (size_t)n >= sizeof name ? NULL : limn_weights_find(w, name);
}

limn_status limn_weights_need(const limn_tensor **out, const limn_weights *w, const char *name,
                              const limn_shape *shape, limn_err *err) {
    *out = limn_weights_find(w, name);
    if (!*out) return limn_fail(err, LIMN_E_MISSING, "%s: tensor '%s' is missing", w->path, name);
    if (!shape || limn_shape_equal(&(*out)->shape, shape)) return LIMN_OK;
    char is[96], should[96];
    return limn_fail(err, LIMN_E_SHAPE, "%s: tensor '%s' is %s and should be %s", w->path, name,
                     limn_shape_format(&(*out)->shape, is, sizeof is),
                     limn_shape_format(shape, should, sizeof should));
}

size_t limn_weights_count(const limn_weights *w) {
    return w->count;
}
const char *limn_weights_name(const limn_weights *w, size_t i) {
    return w->list[i].name;
}
const limn_tensor *limn_weights_at(const limn_weights *w, size_t i) {
    return &w->list[i].tensor;
}
const char *limn_weights_path(const limn_weights *w) {
    return w->path;
}
const char *limn_weights_format(const limn_weights *w) {
    return w->format;
}

bool limn_weights_has_prefix(const limn_weights *w, const char *prefix) {
    size_t n = strlen(prefix);
    for (size_t i = 0; i < w->count; i++)
        if (strncmp(w->list[i].name, prefix, n) == 0) return true;
    return false;
}

const limn_fsmap *limn_weights_map_of(const limn_weights *w, const limn_tensor *t) {
    uintptr_t p = (uintptr_t)t->data;
    for (size_t i = 0; i < w->n_maps; i++) {
        uintptr_t begin = (uintptr_t)w->maps[i]->data;
        if (p >= begin && p - begin < w->maps[i]->size) return w->maps[i];
    }
    for (size_t i = 0; i < w->n_parents; i++) {
        const limn_fsmap *m = limn_weights_map_of(w->parents[i], t);
        if (m) return m;
    }
    return NULL;
}

static void hint(const limn_weights *w, const limn_tensor *t,
                 void (*fn)(const limn_fsmap *, size_t, size_t)) {
    const limn_fsmap *m = limn_weights_map_of(w, t);
    size_t bytes;
    if (m && limn_tensor_bytes(&bytes, t->dtype, &t->shape))
        fn(m, (size_t)((const uint8_t *)t->data - m->data), bytes);
}

void limn_weights_will_need(const limn_weights *w, const limn_tensor *t) {
    hint(w, t, limn_fsmap_will_need);
}
void limn_weights_drop(const limn_weights *w, const limn_tensor *t) {
    hint(w, t, limn_fsmap_drop);
}

/* ---- metadata ---- */
limn_status limn_weights_set_meta(limn_weights *w, const limn_meta *m, limn_err *err) {
    if (limn_weights_meta_find(w, m->key))
        return limn_fail(err, LIMN_E_FORMAT, "%s: metadata key '%s' is there twice", w->path,
                         m->key);
    if (!grow((void **)&w->metas, &w->cap_metas, w->n_metas, sizeof *w->metas) ||
        !grow((void **)&w->meta_hash, &w->cap_hash, w->n_metas, sizeof *w->meta_hash))
        return no_memory(w, err);
    limn_meta copy = *m;
    copy.key = limn_arena_strdup(&w->arena, m->key);
    if (!copy.key) return no_memory(w, err);
    w->meta_hash[w->n_metas] = hash_of(copy.key);
    w->metas[w->n_metas++] = copy;
    return LIMN_OK;
}

limn_status limn_weights_set_meta_str(limn_weights *w, const char *key, const char *value,
                                      size_t len, limn_err *err) {
    limn_str_view *v = limn_arena_alloc(&w->arena, sizeof *v);
    char *text = limn_arena_strndup(&w->arena, value, len);
    if (!v || !text) return no_memory(w, err);
    *v = (limn_str_view){text, len};
    limn_meta m = {.key = key, .type = LIMN_META_STR, .count = 1, .data = v, .width = 1};
    return limn_weights_set_meta(w, &m, err);
}

size_t limn_weights_meta_count(const limn_weights *w) {
    return w->n_metas;
}
const limn_meta *limn_weights_meta_at(const limn_weights *w, size_t i) {
    return &w->metas[i];
}

const limn_meta *limn_weights_meta_find(const limn_weights *w, const char *key) {
    uint32_t hash = hash_of(key);
    for (size_t i = 0; i < w->n_metas; i++)
        if (w->meta_hash[i] == hash && strcmp(w->metas[i].key, key) == 0) return &w->metas[i];
    return NULL;
}

const char *limn_weights_meta_str(const limn_weights *w, const char *key) {
    const limn_meta *m = limn_weights_meta_find(w, key);
    return m && m->type == LIMN_META_STR && !m->is_array ? limn_meta_str_at(m, 0).p : NULL;
}

int64_t limn_weights_meta_int(const limn_weights *w, const char *key, int64_t fallback) {
    const limn_meta *m = limn_weights_meta_find(w, key);
    bool fits = m && !m->is_array && (m->type == LIMN_META_INT || m->type == LIMN_META_BOOL);
    return fits ? limn_meta_int_at(m, 0) : fallback;
}

double limn_weights_meta_float(const limn_weights *w, const char *key, double fallback) {
    const limn_meta *m = limn_weights_meta_find(w, key);
    if (!m || m->is_array) return fallback;
    if (m->type == LIMN_META_FLOAT) return limn_meta_float_at(m, 0);
    return m->type == LIMN_META_INT ? (double)limn_meta_int_at(m, 0) : fallback;
}

limn_str_view limn_meta_str_at(const limn_meta *m, size_t i) {
    if (m->type != LIMN_META_STR) return (limn_str_view){"", 0};
    return ((const limn_str_view *)m->data)[i];
}

int64_t limn_meta_int_at(const limn_meta *m, size_t i) {
    if (m->type != LIMN_META_INT && m->type != LIMN_META_BOOL) return 0;
    int bytes = m->width < 0 ? -m->width : m->width;
    uint64_t u = 0; /* elements are little-endian and may be unaligned */
    memcpy(&u, (const uint8_t *)m->data + i * (size_t)bytes, (size_t)bytes);
    if (m->width < 0 && bytes < 8 && (u >> (8 * bytes - 1)) != 0) u |= ~(uint64_t)0 << (8 * bytes);
    return (int64_t)u;
}

double limn_meta_float_at(const limn_meta *m, size_t i) {
    if (m->type != LIMN_META_FLOAT) return 0;
    const uint8_t *p = (const uint8_t *)m->data + i * (size_t)m->width;
    double d;
    float f;
    memcpy(&f, p, sizeof f);
    if (m->width == 4) return f;
    memcpy(&d, p, sizeof d);
    return d;
}

/* ---- derived sets ---- */
static limn_status metas_share(limn_weights *out, const limn_weights *w, limn_err *err) {
    limn_status st = LIMN_OK;
    for (size_t i = 0; i < w->n_metas && st == LIMN_OK; i++)
        if (!limn_weights_meta_find(out, w->metas[i].key))
            st = limn_weights_set_meta(out, &w->metas[i], err);
    return st;
}

limn_status limn_weights_scope(limn_weights **out, const limn_weights *w, const char *prefix,
                               limn_err *err) {
    limn_status st;
    limn_weights *s = NULL;
    size_t n = strlen(prefix);
    *out = NULL;
    LIMN_TRY(limn_weights_new(&s, w->path, w->format, err));
    LIMN_TRY(limn_weights_keep_parent(s, w, err));
    for (size_t i = 0; i < w->count; i++) {
        const char *name = w->list[i].name;
        if (strncmp(name, prefix, n) == 0 && name[n])
            LIMN_TRY(limn_weights_add(s, name + n, &w->list[i].tensor, err));
    }
    LIMN_TRY(metas_share(s, w, err));
    *out = s;
    s = NULL;
out:
    limn_weights_unref(&s);
    return st;
}

limn_status limn_weights_merge(limn_weights **out, const limn_weights *const *sets,
                               const char *const *prefixes, size_t n, const char *path,
                               const char *format, limn_err *err) {
    limn_status st;
    limn_weights *s = NULL;
    char name[2 * NAME_MAX_BYTES];
    *out = NULL;
    LIMN_TRY(limn_weights_new(&s, path, format, err));
    for (size_t k = 0; k < n; k++) {
        LIMN_TRY(limn_weights_keep_parent(s, sets[k], err));
        for (size_t i = 0; i < sets[k]->count; i++) {
            snprintf(name, sizeof name, "%s%s", prefixes ? prefixes[k] : "", sets[k]->list[i].name);
            LIMN_TRY(limn_weights_add(s, name, &sets[k]->list[i].tensor, err));
        }
        LIMN_TRY(metas_share(s, sets[k], err));
    }
    *out = s;
    s = NULL;
out:
    limn_weights_unref(&s);
    return st;
}
