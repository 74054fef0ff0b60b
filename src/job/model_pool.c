/* SPDX-License-Identifier: MIT */
/* Open models and their memory; see model_pool.h. */
#include "job/model_pool.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "param/app.h"
#include "pipeline/engine.h"
#include "pipeline/see.h"

enum { SLOTS = 8 };
#define SHARE_OF_MACHINE 0.6
#define PACKED_SHARE                                                                               \
    2 /* a model that is about to be opened: its file, and about as much packed                    \
       */

typedef struct slot {
    bool used;
    limn_shelf_kind kind;
    char *name;     /* "" for the engine without a model */
    int64_t file;   /* bytes as stored */
    int64_t memory; /* as measured last */
    uint64_t last;  /* the pool's clock */
    limn_engine *engine;
    limn_seer *seer;
} slot;

struct limn_model_pool {
    limn_params *app;
    int64_t budget;
    pthread_mutex_t lock; /* of the slots' descriptions; models belong to the worker's thread */
    slot slots[SLOTS];
    uint64_t clock;
};

/* ---- memory ---- */
static int64_t machine_memory(void) {
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    return pages > 0 && size > 0 ? (int64_t)pages * size : (int64_t)8 << 30;
}

static int64_t measure(const slot *s) {
    int64_t packed = 0;
    if (s->engine && s->engine->backend)
        packed = (int64_t)limn_backend_packed_bytes(s->engine->backend);
    if (s->seer)
        packed = (int64_t)(s->seer->cache_bytes + limn_backend_packed_bytes(s->seer->backend));
    return s->file + packed;
}

static int64_t used_memory(const limn_model_pool *p) {
    int64_t sum = 0;
    for (int i = 0; i < SLOTS; i++)
        if (p->slots[i].used) sum += p->slots[i].memory;
    return sum;
}

/* ---- slots; worker's thread ---- */
static void slot_close(limn_model_pool *p, slot *s) {
    if (!s->used) return;
    pthread_mutex_lock(&p->lock);
    s->used = false;
    char *name = s->name;
    s->name = NULL;
    pthread_mutex_unlock(&p->lock);
    if (name[0]) limn_log(LIMN_LOG_INFO, "models", "%s is closed", name);
    limn_engine_free(&s->engine);
    limn_seer_free(&s->seer);
    limn_mem_free(name);
    s->file = s->memory = 0;
}

static slot *slot_oldest(limn_model_pool *p, const slot *but) {
    slot *oldest = NULL;
    for (int i = 0; i < SLOTS; i++) {
        slot *s = &p->slots[i];
        if (s->used && s != but && (!oldest || s->last < oldest->last)) oldest = s;
    }
    return oldest;
}

static void make_room(limn_model_pool *p, int64_t need, const slot *but) {
    slot *s;
    while (used_memory(p) + need > p->budget && (s = slot_oldest(p, but)) != NULL) slot_close(p, s);
}

static slot *slot_find(limn_model_pool *p, limn_shelf_kind kind, const char *name) {
    for (int i = 0; i < SLOTS; i++) {
        slot *s = &p->slots[i];
        if (s->used && s->kind == kind && strcmp(s->name, name) == 0) return s;
    }
    return NULL;
}

/* A free slot, by closing the oldest when there is none. */
static slot *slot_free(limn_model_pool *p) {
    for (int i = 0; i < SLOTS; i++)
        if (!p->slots[i].used) return &p->slots[i];
    slot *s = slot_oldest(p, NULL);
    slot_close(p, s);
    return s;
}

static limn_status slot_publish(limn_model_pool *p, slot *s, limn_shelf_kind kind, const char *name,
                                int64_t file, limn_err *err) {
    char *copy = limn_mem_strdup(name);
    if (!copy) {
        limn_engine_free(&s->engine);
        limn_seer_free(&s->seer);
        return limn_fail(err, LIMN_E_NOMEM, "no memory for a model");
    }
    s->file = file;
    int64_t memory = measure(s);
    pthread_mutex_lock(&p->lock);
    s->name = copy;
    s->kind = kind;
    s->memory = memory;
    s->last = ++p->clock;
    s->used = true;
    pthread_mutex_unlock(&p->lock);
    if (name[0]) limn_log(LIMN_LOG_INFO, "models", "%s is open", name);
    return LIMN_OK;
}

static void slot_touch(limn_model_pool *p, slot *s) {
    pthread_mutex_lock(&p->lock);
    s->last = ++p->clock;
    pthread_mutex_unlock(&p->lock);
}

/* ---- the pool ---- */
limn_status limn_model_pool_new(limn_model_pool **out, const limn_params *app, limn_err *err) {
    *out = NULL;
    limn_model_pool *p = limn_mem_calloc(1, sizeof *p);
    if (!p || pthread_mutex_init(&p->lock, NULL) != 0) {
        limn_mem_free(p);
        return limn_fail(err, LIMN_E_NOMEM, "no memory for models");
    }
    limn_status st = limn_params_copy(&p->app, app, err);
    if (st != LIMN_OK) {
        limn_model_pool_free(&p);
        return st;
    }
    p->budget = limn_app_of(app)->memory;
    if (p->budget <= 0) p->budget = (int64_t)((double)machine_memory() * SHARE_OF_MACHINE);
    *out = p;
    return LIMN_OK;
}

void limn_model_pool_free(limn_model_pool **pool) {
    limn_model_pool *p = pool ? *pool : NULL;
    if (!p) return;
    for (int i = 0; i < SLOTS; i++) slot_close(p, &p->slots[i]);
    limn_params_free(&p->app);
    pthread_mutex_destroy(&p->lock);
    limn_mem_free(p);
    *pool = NULL;
}

limn_status limn_model_pool_draw(limn_model_pool *p, limn_engine **out, const limn_shelf_item *item,
                                 limn_err *err) {
    const char *name = item ? item->name : "";
    slot *s = slot_find(p, LIMN_SHELF_DRAW, name);
    *out = NULL;
    if (!s) {
        int64_t file = item ? item->bytes : 0;
        make_room(p, file * PACKED_SHARE, NULL);
        s = slot_free(p);
        limn_status st = limn_engine_new(&s->engine, p->app, err);
        if (st != LIMN_OK) return st;
        s->engine->names_only = true;
        st = slot_publish(p, s, LIMN_SHELF_DRAW, name, file, err);
        if (st != LIMN_OK) return st;
    }
    slot_touch(p, s);
    *out = s->engine;
    return LIMN_OK;
}

limn_status limn_model_pool_see(limn_model_pool *p, limn_seer **out, const limn_shelf_item *item,
                                const limn_params *see, limn_err *err) {
    slot *s = slot_find(p, LIMN_SHELF_SEE, item->name);
    *out = NULL;
    if (!s) {
        make_room(p, item->bytes * PACKED_SHARE, NULL);
        s = slot_free(p);
        limn_status st = limn_seer_new(&s->seer, p->app, see, err);
        if (st != LIMN_OK) return st;
        st = slot_publish(p, s, LIMN_SHELF_SEE, item->name, item->bytes, err);
        if (st != LIMN_OK) return st;
    }
    slot_touch(p, s);
    *out = s->seer;
    return LIMN_OK;
}

limn_status limn_model_pool_close_one(limn_model_pool *p, limn_shelf_kind kind, const char *name,
                                      limn_err *err) {
    slot *s = slot_find(p, kind, name);
    if (!s) return limn_fail(err, LIMN_E_NOT_FOUND, "%s: is not loaded", name);
    slot_close(p, s);
    return LIMN_OK;
}

void limn_model_pool_settle(limn_model_pool *p) {
    slot *newest = NULL;
    for (int i = 0; i < SLOTS; i++) {
        slot *s = &p->slots[i];
        if (!s->used) continue;
        int64_t memory = measure(s);
        pthread_mutex_lock(&p->lock);
        s->memory = memory;
        pthread_mutex_unlock(&p->lock);
        if (!newest || s->last > newest->last) newest = s;
    }
    make_room(p, 0, newest);
}

void limn_model_pool_save(limn_model_pool *p) {
    for (int i = 0; i < SLOTS; i++) {
        const slot *s = &p->slots[i];
        limn_err err = {0};
        limn_backend *b = !s->used ? NULL : s->engine ? s->engine->backend : s->seer->backend;
        if (b && limn_backend_save_packs(b, &err) != LIMN_OK)
            limn_log(LIMN_LOG_WARN, "cache", "packed weights were not kept: %s", err.text);
    }
}

int64_t limn_model_pool_memory_of(limn_model_pool *p, limn_shelf_kind kind, const char *name) {
    pthread_mutex_lock(&p->lock);
    const slot *s = slot_find(p, kind, name);
    int64_t memory = s ? s->memory : -1;
    pthread_mutex_unlock(&p->lock);
    return memory;
}

void limn_model_pool_memory(limn_model_pool *p, int64_t *budget, int64_t *used, int *loaded) {
    pthread_mutex_lock(&p->lock);
    *budget = p->budget;
    *used = used_memory(p);
    *loaded = 0;
    for (int i = 0; i < SLOTS; i++) *loaded += p->slots[i].used && p->slots[i].name[0];
    pthread_mutex_unlock(&p->lock);
}

void limn_model_pool_last(limn_model_pool *p, unsigned kinds, char *out, size_t size) {
    const slot *newest = NULL;
    pthread_mutex_lock(&p->lock);
    for (int i = 0; i < SLOTS; i++) {
        const slot *s = &p->slots[i];
        if (s->used && s->name[0] && kinds >> s->kind & 1 && (!newest || s->last > newest->last))
            newest = s;
    }
    snprintf(out, size, "%s", newest ? newest->name : "");
    pthread_mutex_unlock(&p->lock);
}
