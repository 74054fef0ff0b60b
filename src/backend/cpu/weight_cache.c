/* SPDX-License-Identifier: MIT */
/* Packed weights; see weight_cache.h. */
#include "backend/cpu/weight_cache.h"

#include <sys/mman.h>
#include <unistd.h>

#include "backend/weight_rows.h"

enum { BUCKETS = 4096 };

struct limn_weight_cache {
    const limn_kernels *k;
    limn_pool *pool;
    limn_compute compute;
    limn_pack_store *store;
    size_t bytes;
    limn_weight_entry *buckets[BUCKETS];
};

limn_status limn_weight_cache_new(limn_weight_cache **out, const limn_kernels *k, limn_pool *pool,
                                  limn_compute compute, limn_pack_store *store, limn_err *err) {
    *out = limn_mem_calloc(1, sizeof **out);
    if (!*out) {
        limn_pack_store_free(&store);
        return limn_fail(err, LIMN_E_NOMEM, "no memory for a weight cache");
    }
    (*out)->store = store;
    (*out)->k = k;
    (*out)->pool = pool;
    (*out)->compute = compute;
    return LIMN_OK;
}

static void entry_clear(limn_weight_cache *c, limn_weight_entry *e) {
    limn_packed_free(&e->packed);
    for (int64_t i = 0; e->experts && i < limn_weight_rows(e->w); i++)
        limn_packed_free(&e->experts[i]);
    limn_mem_free(e->experts);
    e->experts = NULL;
    limn_mem_free(e->vector);
    e->vector = NULL;
    c->bytes -= e->bytes;
    e->bytes = 0;
    e->version = 0;
    e->stored = e->viewed = false;
}

static size_t bucket_of(const limn_weight *w, limn_weight_use use) {
    uint64_t h = (uint64_t)(uintptr_t)w * 0x9e3779b97f4a7c15u + (uint64_t)use * 0x85ebca6bu;
    return (size_t)(h >> 40) % BUCKETS;
}

void limn_weight_cache_forget(limn_weight_cache *c, const limn_weight *w) {
    for (size_t i = 0; i < BUCKETS; i++) {
        limn_weight_entry **at = &c->buckets[i];
        while (*at) {
            limn_weight_entry *e = *at;
            if (w && e->w != w) {
                at = &e->next;
                continue;
            }
            *at = e->next;
            entry_clear(c, e);
            limn_mem_free(e);
        }
    }
}

void limn_weight_cache_free(limn_weight_cache **cache) {
    if (!cache || !*cache) return;
    limn_weight_cache_forget(*cache, NULL);
    limn_pack_store_free(&(*cache)->store);
    limn_mem_free(*cache);
    *cache = NULL;
}

size_t limn_weight_cache_bytes(const limn_weight_cache *c) {
    return c->bytes;
}

/* Gives mapped pages back: only whole ones, which neighbours do not touch. */
static void drop_pages(const void *data, size_t bytes) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uintptr_t begin = ((uintptr_t)data + page - 1) / page * page;
    uintptr_t end = ((uintptr_t)data + bytes) / page * page;
    if (end > begin) madvise((void *)begin, end - begin, MADV_DONTNEED);
}

/* The file's pages are not needed again until the next packing. */
static void drop_source(const limn_weight *w) {
    size_t bytes;
    if (w->mapped && limn_tensor_bytes(&bytes, w->t.dtype, &w->t.shape))
        drop_pages(w->t.data, bytes);
}

static limn_status make_vector(limn_weight_cache *c, limn_weight_entry *e, limn_err *err) {
    int64_t n = limn_shape_count(&e->w->t.shape);
    e->vector = limn_mem_aligned((size_t)n * sizeof(float));
    if (!e->vector) return limn_fail(err, LIMN_E_NOMEM, "no memory for '%s'", e->w->name);
    e->bytes = (size_t)n * sizeof(float);
    c->bytes += e->bytes;
    return limn_weight_read(e->vector, e->w, 0, limn_weight_rows(e->w), err);
}

/* A view of the stored form; false when there is none that fits this machine. */
static bool view_stored(limn_weight_cache *c, limn_weight_entry *e) {
    size_t size = 0;
    const void *bytes = c->store ? limn_pack_store_find(c->store, e->w, (int)e->use, &size) : NULL;
    if (!bytes || limn_packed_view(&e->packed, c->k, bytes, size, NULL) != LIMN_OK) return false;
    if (e->packed->n != limn_weight_rows(e->w) || e->packed->k != limn_weight_row_size(e->w)) {
        limn_packed_free(&e->packed);
        return false;
    }
    e->stored = e->viewed = true;
    e->bytes = size;
    c->bytes += size;
    return true;
}

static limn_status make_packed(limn_weight_cache *c, limn_weight_entry *e, limn_err *err) {
    const limn_weight *w = e->w;
    if (view_stored(c, e)) return LIMN_OK;
    bool conv = e->use == LIMN_USE_CONV;
    limn_pack_args a = {
        .data = w->t.data,
        .dtype = w->t.dtype,
        .n = limn_weight_rows(w),
        .k = limn_weight_row_size(w),
        .kh = conv ? (int)w->t.shape.dim[2] : 0,
        .kw = conv ? (int)w->t.shape.dim[3] : 0,
        .compute = e->use == LIMN_USE_MATRIX_EXACT ? LIMN_COMPUTE_EXACT : c->compute,
        .delta = w->delta,
        .delta_user = w->delta_user,
    };
    limn_status st = limn_packed_new(&e->packed, c->k, c->pool, &a, err);
    if (st != LIMN_OK) {
        limn_err_prefix(err, "%s", w->name);
        return st;
    }
    bool owned = limn_packed_bytes(e->packed, &e->bytes) != NULL;
    if (!owned) e->bytes = 0;
    c->bytes += e->bytes;
    if (owned) drop_source(w);
    return LIMN_OK;
}

/* Views of the file, made once: nothing is copied, and what nobody chooses is never read. */
static limn_status make_experts(limn_weight_cache *c, limn_weight_entry *e, limn_err *err) {
    const limn_weight *w = e->w;
    const limn_shape *s = &w->t.shape;
    bool in_major = e->use == LIMN_USE_EXPERTS_INPUT_MAJOR;
    limn_shape one = LIMN_SHAPE(s->dim[1], s->dim[2]);
    size_t bytes = 0;
    limn_status st = LIMN_OK;
    LIMN_CHECK(err, !w->delta, LIMN_E_UNSUPPORTED, "%s: experts take no adapters", w->name);
    LIMN_CHECK(err, limn_tensor_bytes(&bytes, w->t.dtype, &one), LIMN_E_SHAPE,
               "%s: experts are not whole blocks", w->name);
    e->experts = limn_mem_calloc((size_t)s->dim[0], sizeof *e->experts);
    LIMN_CHECK(err, e->experts, LIMN_E_NOMEM, "no memory for '%s'", w->name);
    for (int64_t i = 0; i < s->dim[0]; i++) {
        limn_pack_args a = {.data = limn_tensor_part(&w->t, i),
                            .dtype = w->t.dtype,
                            .n = s->dim[in_major ? 2 : 1],
                            .k = s->dim[in_major ? 1 : 2],
                            .compute = c->compute == LIMN_COMPUTE_EXACT ? LIMN_COMPUTE_EXACT
                                                                        : LIMN_COMPUTE_HALF,
                            .borrow = true,
                            .input_major = in_major};
        st = limn_packed_new(&e->experts[i], c->k, c->pool, &a, err);
        if (st != LIMN_OK) limn_err_prefix(err, "%s", w->name);
        if (st != LIMN_OK) goto out;
    }
out:
    return st;
}

static limn_status make_form(limn_weight_cache *c, limn_weight_entry *e, limn_err *err) {
    switch (e->use) {
    case LIMN_USE_VECTOR: return make_vector(c, e, err);
    case LIMN_USE_EXPERTS:
    case LIMN_USE_EXPERTS_INPUT_MAJOR: return make_experts(c, e, err);
    default: return make_packed(c, e, err);
    }
}

limn_status limn_weight_cache_refresh(limn_weight_cache *c, limn_weight_entry *e, limn_err *err) {
    if (e->version == e->w->version) return LIMN_OK;
    entry_clear(c, e);
    limn_status st = make_form(c, e, err);
    if (st == LIMN_OK)
        e->version = e->w->version;
    else
        entry_clear(c, e);
    return st;
}

limn_status limn_weight_cache_get(limn_weight_entry **out, limn_weight_cache *c,
                                  const limn_weight *w, limn_weight_use use, limn_err *err) {
    size_t b = bucket_of(w, use);
    limn_weight_entry *e = c->buckets[b];
    while (e && (e->w != w || e->use != use)) e = e->next;
    if (!e) {
        e = limn_mem_calloc(1, sizeof *e);
        if (!e) return limn_fail(err, LIMN_E_NOMEM, "no memory for '%s'", w->name);
        e->w = w;
        e->use = use;
        e->next = c->buckets[b];
        c->buckets[b] = e;
    }
    *out = e;
    return limn_weight_cache_refresh(c, e, err);
}

enum { WORTH_STORING = 64 << 20 };

/* What was packed here and the store does not have, as far as `is_one` (NULL: all); *out is to be
 * freed. */
static limn_status fresh_items(limn_pack_item **out, size_t *n, size_t *bytes,
                               const limn_weight_cache *c, limn_weight_is_fn *is_one,
                               const void *user, limn_err *err) {
    size_t room = 0;
    *n = *bytes = 0;
    for (size_t i = 0; i < BUCKETS; i++)
        for (const limn_weight_entry *e = c->buckets[i]; e; e = e->next) room++;
    limn_pack_item *items = *out = limn_mem_calloc(room + 1, sizeof *items);
    if (!items) return limn_fail(err, LIMN_E_NOMEM, "no memory to store packed weights");
    for (size_t i = 0; i < BUCKETS; i++)
        for (const limn_weight_entry *e = c->buckets[i]; e; e = e->next) {
            limn_pack_item *it = &items[*n];
            if (!e->packed || e->stored || e->version != e->w->version || e->w->delta) continue;
            if (is_one && !is_one(user, e->w)) continue;
            *it = (limn_pack_item){.w = e->w, .use = (int)e->use};
            it->bytes = limn_packed_bytes(e->packed, &it->size);
            if (!it->bytes) continue;
            *bytes += it->size;
            (*n)++;
        }
    return LIMN_OK;
}

limn_status limn_weight_cache_save(limn_weight_cache *c, limn_err *err) {
    size_t n, bytes;
    limn_pack_item *items;
    if (!c->store) return LIMN_OK;
    limn_status st = fresh_items(&items, &n, &bytes, c, NULL, NULL, err);
    bool worth = st == LIMN_OK && bytes >= WORTH_STORING;
    if (worth) st = limn_pack_store_save(c->store, items, n, err);
    for (size_t i = 0; i < BUCKETS && st == LIMN_OK && worth; i++)
        for (limn_weight_entry *e = c->buckets[i]; e; e = e->next)
            if (e->packed && !e->w->delta) e->stored = true;
    limn_mem_free(items);
    return st;
}

/* A store that cannot be written (a full disk) costs time at the next use, nothing else. */
void limn_weight_cache_rest(limn_weight_cache *c, limn_weight_is_fn *is_one, const void *user,
                            bool made) {
    size_t n, bytes;
    limn_pack_item *items = NULL;
    made = made && fresh_items(&items, &n, &bytes, c, is_one, user, NULL) == LIMN_OK &&
           bytes >= WORTH_STORING;
    if (made && c->store) (void)limn_pack_store_save(c->store, items, n, NULL);
    limn_mem_free(items);
    for (size_t i = 0; i < BUCKETS; i++)
        for (limn_weight_entry *e = c->buckets[i]; e; e = e->next) {
            if (!e->packed || !is_one(user, e->w)) continue;
            if (e->viewed)
                drop_pages(e->packed->bytes, e->packed->size);
            else if (made && !e->w->delta && e->packed->bytes)
                entry_clear(c, e);
        }
}
