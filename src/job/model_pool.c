/* SPDX-License-Identifier: MIT */
/* Open models and their memory; see model_pool.h. */
#include "job/model_pool.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "param/app.h"
#include "pipeline/engine.h"
#include "pipeline/see.h"

enum { SLOTS = 8, LOOK_MS = 100 };
#define SHARE_OF_MACHINE 0.6

/* Who has a slot's model in hand; nobody else looks into it meanwhile. */
typedef enum holder {
    HELD_BY_LANE = 0, /* + lane */
    HELD_BY_HOUSE = LIMN_JOB_LANES,
    HELD_BY_NOBODY
} holder;

typedef struct slot {
    bool used;
    int holder;
    limn_shelf_kind kind;
    char *name;     /* "" for the engine without a model */
    int64_t file;   /* bytes as stored */
    int64_t memory; /* as measured last; while it is opened: what it will need */
    uint64_t last;  /* the pool's clock */
    limn_engine *engine;
    limn_seer *seer;
    int64_t context; /* of the seer; 0: not known yet */
} slot;

struct limn_model_pool {
    limn_params *app;
    int64_t budget;
    limn_turns *turns;
    pthread_mutex_t lock; /* of the slots; what a model is belongs to its holder */
    pthread_cond_t freed; /* a holder has let go */
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

int64_t limn_model_pool_need(const limn_shelf_item *item) {
    return item->bytes * LIMN_PACKED_SHARE;
}

/* ---- slots; `lock` held ---- */
/* Closes a model that nobody holds; the lock is given up meanwhile. */
static void slot_close(limn_model_pool *p, slot *s) {
    limn_engine *engine = s->engine;
    limn_seer *seer = s->seer;
    char *name = s->name;
    s->holder = HELD_BY_HOUSE; /* its memory counts until it is given back */
    pthread_mutex_unlock(&p->lock);
    if (name[0]) limn_log(LIMN_LOG_INFO, "models", "%s is closed", name);
    limn_engine_free(&engine);
    limn_seer_free(&seer);
    pthread_mutex_lock(&p->lock);
    *s = (slot){.holder = HELD_BY_NOBODY};
    limn_mem_free(name);
    pthread_cond_broadcast(&p->freed);
}

static slot *slot_oldest(limn_model_pool *p, const slot *but) {
    slot *oldest = NULL;
    for (int i = 0; i < SLOTS; i++) {
        slot *s = &p->slots[i];
        if (s->used && s->holder == HELD_BY_NOBODY && s != but &&
            (!oldest || s->last < oldest->last))
            oldest = s;
    }
    return oldest;
}

static bool is_held_elsewhere(const limn_model_pool *p, int by) {
    for (int i = 0; i < SLOTS; i++)
        if (p->slots[i].used && p->slots[i].holder != HELD_BY_NOBODY && p->slots[i].holder != by)
            return true;
    return false;
}

static slot *slot_find(limn_model_pool *p, limn_shelf_kind kind, const char *name) {
    for (int i = 0; i < SLOTS; i++) {
        slot *s = &p->slots[i];
        if (s->used && s->kind == kind && strcmp(s->name, name) == 0) return s;
    }
    return NULL;
}

static slot *slot_empty(limn_model_pool *p) {
    for (int i = 0; i < SLOTS; i++)
        if (!p->slots[i].used) return &p->slots[i];
    return NULL;
}

static void let_go(limn_model_pool *p, limn_job_lane lane) {
    for (int i = 0; i < SLOTS; i++)
        if (p->slots[i].used && p->slots[i].holder == (int)lane)
            p->slots[i].holder = HELD_BY_NOBODY;
    pthread_cond_broadcast(&p->freed);
}

/* A moment, or until somebody lets go. */
static limn_status wait_freed(limn_model_pool *p, const limn_model_user *who, bool *said,
                              limn_err *err) {
    struct timespec until;
    if (who->cancel && limn_cancel_is_set(who->cancel))
        return limn_fail(err, LIMN_E_CANCELLED, "cancelled");
    if (!*said && who->waits) {
        pthread_mutex_unlock(&p->lock);
        who->waits(who->user);
        pthread_mutex_lock(&p->lock);
    }
    *said = true;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += LOOK_MS * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000L;
    }
    pthread_cond_timedwait(&p->freed, &p->lock, &until);
    return LIMN_OK;
}

/* The slot of a model, held by the lane: the open one, or an empty one (`used` is false then) with
 * room in the budget, after others were closed. What does not fit at all is tried alone. */
static limn_status slot_take(slot **out, limn_model_pool *p, limn_shelf_kind kind, const char *name,
                             int64_t need, const limn_model_user *who, limn_err *err) {
    bool said = false;
    let_go(p, who->lane);
    for (;;) {
        slot *s = *out = slot_find(p, kind, name), *oldest;
        if (s && s->holder == HELD_BY_NOBODY) break;
        bool room = used_memory(p) + need <= p->budget || !is_held_elsewhere(p, (int)who->lane);
        if (!s && (used_memory(p) + need > p->budget || !slot_empty(p)) &&
            (oldest = slot_oldest(p, NULL)) != NULL) {
            slot_close(p, oldest);
            continue;
        }
        if (!s && room && (*out = slot_empty(p)) != NULL) break;
        limn_status st = wait_freed(p, who, &said, err);
        if (st != LIMN_OK) return st;
    }
    (*out)->holder = (int)who->lane;
    (*out)->last = ++p->clock;
    return LIMN_OK;
}

/* Marks an empty slot as taken by a model that is about to be opened. */
static limn_status slot_reserve(slot *s, limn_shelf_kind kind, const char *name, int64_t file,
                                limn_err *err) {
    s->name = limn_mem_strdup(name);
    if (!s->name) {
        s->holder = HELD_BY_NOBODY;
        return limn_fail(err, LIMN_E_NOMEM, "no memory for a model");
    }
    s->kind = kind;
    s->file = file;
    s->memory = file * LIMN_PACKED_SHARE;
    s->used = true;
    return LIMN_OK;
}

/* Opening has ended, well or not. */
static limn_status slot_settle(limn_model_pool *p, slot *s, limn_status st) {
    if (st == LIMN_OK) {
        if (s->name[0]) limn_log(LIMN_LOG_INFO, "models", "%s is open", s->name);
        return st;
    }
    pthread_mutex_lock(&p->lock);
    limn_mem_free(s->name);
    *s = (slot){.holder = HELD_BY_NOBODY};
    pthread_cond_broadcast(&p->freed);
    pthread_mutex_unlock(&p->lock);
    return st;
}

/* slot_take and slot_reserve; *open: has to be opened. */
static limn_status slot_for(slot **out, limn_model_pool *p, limn_shelf_kind kind, const char *name,
                            int64_t file, bool *open, const limn_model_user *who, limn_err *err) {
    pthread_mutex_lock(&p->lock);
    limn_status st = slot_take(out, p, kind, name, file * LIMN_PACKED_SHARE, who, err);
    *open = st == LIMN_OK && !(*out)->used;
    if (*open) st = slot_reserve(*out, kind, name, file, err);
    pthread_mutex_unlock(&p->lock);
    return st;
}

/* ---- the pool ---- */
limn_status limn_model_pool_new(limn_model_pool **out, const limn_params *app, limn_err *err) {
    *out = NULL;
    pthread_condattr_t attr;
    limn_model_pool *p = limn_mem_calloc(1, sizeof *p);
    if (!p || pthread_mutex_init(&p->lock, NULL) != 0) {
        limn_mem_free(p);
        return limn_fail(err, LIMN_E_NOMEM, "no memory for models");
    }
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&p->freed, &attr);
    pthread_condattr_destroy(&attr);
    for (int i = 0; i < SLOTS; i++) p->slots[i].holder = HELD_BY_NOBODY;
    limn_status st = limn_params_copy(&p->app, app, err);
    if (st == LIMN_OK) st = limn_turns_new(&p->turns, err);
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
    pthread_mutex_lock(&p->lock);
    for (int i = 0; i < SLOTS; i++)
        if (p->slots[i].used) slot_close(p, &p->slots[i]);
    pthread_mutex_unlock(&p->lock);
    limn_params_free(&p->app);
    limn_turns_free(&p->turns);
    pthread_cond_destroy(&p->freed);
    pthread_mutex_destroy(&p->lock);
    limn_mem_free(p);
    *pool = NULL;
}

limn_status limn_model_pool_draw(limn_model_pool *p, limn_engine **out, const limn_shelf_item *item,
                                 const limn_model_user *who, limn_err *err) {
    slot *s;
    bool open;
    *out = NULL;
    limn_status st = slot_for(&s, p, LIMN_SHELF_DRAW, item ? item->name : "",
                              item ? item->bytes : 0, &open, who, err);
    if (st != LIMN_OK) return st;
    if (open) {
        st = slot_settle(p, s, limn_engine_new(&s->engine, p->app, err));
        if (st != LIMN_OK) return st;
        s->engine->names_only = true;
        s->engine->turns = p->turns;
    }
    *out = s->engine;
    return LIMN_OK;
}

limn_status limn_model_pool_see(limn_model_pool *p, limn_seer **out, const limn_shelf_item *item,
                                const limn_params *see, const limn_model_user *who, limn_err *err) {
    slot *s;
    bool open;
    *out = NULL;
    limn_status st = slot_for(&s, p, LIMN_SHELF_SEE, item->name, item->bytes, &open, who, err);
    if (st != LIMN_OK) return st;
    if (open) {
        st = slot_settle(p, s, limn_seer_new(&s->seer, p->app, see, err));
        if (st != LIMN_OK) return st;
        limn_seer_info info;
        limn_seer_share(s->seer, p->turns);
        limn_seer_get_info(&info, s->seer);
        pthread_mutex_lock(&p->lock);
        s->context = info.context;
        pthread_mutex_unlock(&p->lock);
    }
    *out = s->seer;
    return LIMN_OK;
}

int64_t limn_model_pool_context(limn_model_pool *p, const char *name) {
    pthread_mutex_lock(&p->lock);
    const slot *s = slot_find(p, LIMN_SHELF_SEE, name);
    int64_t context = s ? s->context : 0;
    pthread_mutex_unlock(&p->lock);
    return context;
}

limn_status limn_model_pool_close_one(limn_model_pool *p, limn_shelf_kind kind, const char *name,
                                      limn_err *err) {
    slot *s;
    limn_status st = LIMN_OK;
    pthread_mutex_lock(&p->lock);
    while ((s = slot_find(p, kind, name)) != NULL && s->holder != HELD_BY_NOBODY)
        pthread_cond_wait(&p->freed, &p->lock);
    if (s)
        slot_close(p, s);
    else
        st = limn_fail(err, LIMN_E_NOT_FOUND, "%s: is not loaded", name);
    pthread_mutex_unlock(&p->lock);
    return st;
}

void limn_model_pool_settle(limn_model_pool *p, limn_job_lane lane) {
    slot *newest = NULL, *oldest;
    pthread_mutex_lock(&p->lock);
    for (int i = 0; i < SLOTS; i++) {
        slot *s = &p->slots[i];
        if (!s->used) continue;
        if (s->holder == (int)lane) s->memory = measure(s);
        if (!newest || s->last > newest->last) newest = s;
    }
    let_go(p, lane);
    while (used_memory(p) > p->budget && (oldest = slot_oldest(p, newest)) != NULL)
        slot_close(p, oldest);
    pthread_mutex_unlock(&p->lock);
}

void limn_model_pool_save(limn_model_pool *p) {
    for (int i = 0; i < SLOTS; i++) {
        slot *s = &p->slots[i];
        limn_err err = {0};
        pthread_mutex_lock(&p->lock);
        bool mine = s->used && s->holder == HELD_BY_NOBODY;
        if (mine) s->holder = HELD_BY_HOUSE;
        pthread_mutex_unlock(&p->lock);
        if (!mine) continue;
        limn_backend *b = s->engine ? s->engine->backend : s->seer->backend;
        if (b && limn_backend_save_packs(b, &err) != LIMN_OK)
            limn_log(LIMN_LOG_WARN, "cache", "packed weights were not kept: %s", err.text);
        pthread_mutex_lock(&p->lock);
        s->holder = HELD_BY_NOBODY;
        pthread_cond_broadcast(&p->freed);
        pthread_mutex_unlock(&p->lock);
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
