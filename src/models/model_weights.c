/* SPDX-License-Identifier: MIT */
/* Parameters of a network; see model_weights.h. */
#include "models/model_weights.h"

#include <sys/stat.h>

enum { MAX_ADAPTERS = 32 };

typedef struct adapter {
    limn_adapter_fn *apply;
    limn_adapter_has_fn *has;
    void *user;
} adapter;

typedef struct bound_weight {
    limn_weight w;
    limn_model_weights *owner;
} bound_weight;

struct limn_model_weights {
    limn_weights *set;
    bound_weight **bound; /* by tensor index; NULL until asked for */
    size_t count;
    limn_arena arena;
    adapter adapters[MAX_ADAPTERS];
    int n_adapters;
    uint64_t version;           /* grows with every change of adapters */
    const limn_fsmap *last_map; /* and the hash that names it: neighbours share a file */
    uint64_t last_source;
};

limn_status limn_model_weights_new(limn_model_weights **out, const limn_weights *set,
                                   limn_err *err) {
    limn_model_weights *mw = limn_mem_calloc(1, sizeof *mw);
    size_t n = limn_weights_count(set);
    bound_weight **bound = limn_mem_calloc(n + 1, sizeof *bound);
    *out = NULL;
    if (!mw || !bound) {
        limn_mem_free(mw);
        limn_mem_free(bound);
        return limn_fail(err, LIMN_E_NOMEM, "no memory for %zu weights", n);
    }
    limn_arena_init(&mw->arena);
    mw->set = limn_weights_ref(set);
    mw->bound = bound;
    mw->count = n;
    *out = mw;
    return LIMN_OK;
}

void limn_model_weights_free(limn_model_weights **pmw) {
    limn_model_weights *mw = pmw ? *pmw : NULL;
    if (!mw) return;
    limn_weights_unref(&mw->set);
    limn_arena_deinit(&mw->arena);
    limn_mem_free(mw->bound);
    limn_mem_free(mw);
    *pmw = NULL;
}

const limn_weights *limn_model_weights_set(const limn_model_weights *mw) {
    return mw->set;
}

static limn_status apply_adapters(void *user, float *w, int64_t row0, int64_t rows, int64_t in,
                                  limn_err *err) {
    const bound_weight *b = user;
    const limn_model_weights *mw = b->owner;
    for (int i = 0; i < mw->n_adapters; i++) {
        const adapter *a = &mw->adapters[i];
        if (!a->has(a->user, b->w.name)) continue;
        limn_status st = a->apply(a->user, b->w.name, w, row0, rows, in, err);
        if (st != LIMN_OK) return st;
    }
    return LIMN_OK;
}

static bool is_adapted(const limn_model_weights *mw, const char *name) {
    for (int i = 0; i < mw->n_adapters; i++)
        if (mw->adapters[i].has(mw->adapters[i].user, name)) return true;
    return false;
}

/* Names a file in the state it has now: device, inode, size, time of change (FNV-1a). 0 when
 * unknown. */
static uint64_t source_of(const limn_fsmap *map) {
    struct stat sb;
    if (!map || stat(map->path, &sb) != 0 || (size_t)sb.st_size != map->size) return 0;
    uint64_t h = 0xcbf29ce484222325u;
    int64_t facts[] = {(int64_t)sb.st_dev, (int64_t)sb.st_ino, sb.st_size, sb.st_mtim.tv_sec,
                       sb.st_mtim.tv_nsec};
    for (size_t i = 0; i < sizeof facts; i++)
        h = (h ^ ((const unsigned char *)facts)[i]) * 0x100000001b3u;
    return h ? h : 1;
}

static void bind_source(limn_model_weights *mw, limn_weight *w, const limn_tensor *t) {
    const limn_fsmap *map = limn_weights_map_of(mw->set, t);
    w->mapped = map != NULL;
    if (!map) return;
    if (mw->last_map != map) {
        mw->last_map = map;
        mw->last_source = source_of(map);
    }
    w->source = mw->last_source;
    w->source_place = (uint64_t)((const uint8_t *)t->data - map->data);
}

const limn_weight *limn_model_weights_find(void *user, const char *name) {
    limn_model_weights *mw = user;
    size_t i = limn_weights_index(mw->set, name);
    if (i >= mw->count) return NULL;
    if (mw->bound[i]) return &mw->bound[i]->w;
    bound_weight *b = limn_arena_alloc(&mw->arena, sizeof *b);
    if (!b) return NULL;
    b->owner = mw;
    b->w.name = limn_weights_name(mw->set, i);
    b->w.t = *limn_weights_at(mw->set, i);
    bind_source(mw, &b->w, limn_weights_at(mw->set, i));
    b->w.version = 1;
    if (is_adapted(mw, name)) {
        b->w.delta = apply_adapters;
        b->w.delta_user = b;
        b->w.version = ++mw->version + 1;
    }
    mw->bound[i] = b;
    return &b->w;
}

bool limn_model_weights_has(const void *weights, const limn_weight *w) {
    const limn_model_weights *mw = weights;
    size_t i = limn_weights_index(mw->set, w->name);
    return i < mw->count && mw->bound[i] && &mw->bound[i]->w == w;
}

void limn_model_weights_each(limn_model_weights *mw, void (*fn)(void *user, const limn_weight *w),
                             void *user) {
    for (size_t i = 0; i < mw->count; i++)
        if (mw->bound[i]) fn(user, &mw->bound[i]->w);
}

/* Turns the delta hook of bound weights on or off; a weight that is or was adapted is new. */
static void rebind(limn_model_weights *mw) {
    uint64_t version = ++mw->version + 1;
    for (size_t i = 0; i < mw->count; i++) {
        bound_weight *b = mw->bound[i];
        if (!b) continue;
        bool on = is_adapted(mw, b->w.name);
        if (on || b->w.delta) b->w.version = version;
        b->w.delta = on ? apply_adapters : NULL;
        b->w.delta_user = on ? b : NULL;
    }
}

void limn_model_weights_adapters_changed(limn_model_weights *mw) {
    rebind(mw);
}

void limn_model_weights_clear_adapters(limn_model_weights *mw) {
    if (mw->n_adapters == 0) return;
    mw->n_adapters = 0;
    rebind(mw);
}

limn_status limn_model_weights_add_adapter(limn_model_weights *mw, limn_adapter_fn *apply,
                                           limn_adapter_has_fn *has, void *user, limn_err *err) {
    if (mw->n_adapters == MAX_ADAPTERS)
        return limn_fail(err, LIMN_E_LIMIT, "more than %d LoRAs at once", MAX_ADAPTERS);
    mw->adapters[mw->n_adapters++] = (adapter){apply, has, user};
    rebind(mw);
    return LIMN_OK;
}
