/* SPDX-License-Identifier: MIT */
/*
 * Walking a grammar: lazily made deterministic states and their token masks; see grammar.h.
 *
 * A configuration is a node that reads a byte plus a call stack; stacks are shared lists of frames,
 * each stored once. A state is a sorted set of configurations, stored once, with a table of the
 * next state per byte that is filled when asked for. When the tables grow past their budget
 * everything but the current state is forgotten.
 */
#include <stdlib.h>
#include <string.h>

#include "text/grammar_impl.h"

/* ---- the vocabulary in order ---- */

struct limn_token_trie {
    const limn_tokenizer *t;
    int32_t *id;   /* [n] sorted by bytes */
    uint16_t *lcp; /* [n] bytes shared with the token before */
    size_t n;
    size_t longest;
};

static int token_order(const void *a, const void *b, void *user) {
    limn_text_view x = limn_tokenizer_bytes(user, *(const int32_t *)a);
    limn_text_view y = limn_tokenizer_bytes(user, *(const int32_t *)b);
    int c = memcmp(x.data, y.data, x.len < y.len ? x.len : y.len);
    if (c) return c;
    return x.len < y.len ? -1 : x.len > y.len;
}

limn_status limn_token_trie_new(limn_token_trie **out, const limn_tokenizer *t, limn_err *err) {
    limn_status st = LIMN_OK;
    size_t count = limn_tokenizer_count(t);
    limn_token_trie *x = limn_mem_calloc(1, sizeof *x);
    LIMN_CHECK(err, x, LIMN_E_NOMEM, "no memory for a token order");
    x->t = t;
    x->id = limn_mem_alloc(count * sizeof *x->id);
    x->lcp = limn_mem_calloc(count, sizeof *x->lcp);
    LIMN_CHECK(err, x->id && x->lcp, LIMN_E_NOMEM, "no memory for a token order");
    for (size_t i = 0; i < count; i++) {
        limn_text_view v = limn_tokenizer_bytes(t, (int32_t)i);
        if (v.len == 0 || v.len > 4096 || limn_tokenizer_is_added(t, (int32_t)i)) continue;
        x->id[x->n++] = (int32_t)i;
        x->longest = v.len > x->longest ? v.len : x->longest;
    }
    qsort_r(x->id, x->n, sizeof *x->id, token_order, (void *)t);
    for (size_t i = 1; i < x->n; i++) {
        limn_text_view a = limn_tokenizer_bytes(t, x->id[i - 1]),
                       b = limn_tokenizer_bytes(t, x->id[i]);
        while (x->lcp[i] < a.len && x->lcp[i] < b.len && a.data[x->lcp[i]] == b.data[x->lcp[i]])
            x->lcp[i]++;
    }
    *out = x;
    x = NULL;
out:
    limn_token_trie_free(&x);
    return st;
}

void limn_token_trie_free(limn_token_trie **trie) {
    limn_token_trie *x = *trie;
    if (!x) return;
    limn_mem_free(x->id);
    limn_mem_free(x->lcp);
    limn_mem_free(x);
    *trie = NULL;
}

/* ---- constraint ---- */

enum { CONFIGS_MAX = 4096, DEAD = 0, START = 1, UNKNOWN = 0 };

typedef struct frame {
    uint32_t node;   /* where to go on */
    uint32_t parent; /* frame, LIMN_NIL: the root rule's caller */
    uint32_t depth;
} frame;

typedef struct config {
    uint32_t node, frame; /* node LIMN_NIL: the text is complete */
} config;

typedef struct gstate {
    uint32_t first, count; /* of pool */
    uint32_t *next;        /* [256] state + 1, UNKNOWN; NULL until asked */
    uint64_t *mask;        /* token mask, NULL until asked */
    bool complete;
} gstate;

struct limn_constraint {
    const limn_grammar *g;
    const limn_token_trie *trie;
    int32_t *stop;
    size_t n_stop, words;
    frame *frame;
    size_t n_frames, cap_frames;
    uint32_t *frame_slot; /* hash: frame + 1 */
    size_t frame_mask;
    gstate *state; /* 0 is dead */
    size_t n_states, cap_states;
    uint32_t *state_slot;
    size_t state_mask;
    config *pool;
    size_t n_pool, cap_pool;
    config *work; /* closure: the set that is being made, open addressing beside a list */
    uint32_t *work_slot;
    size_t n_work;
    config *todo;
    uint32_t *path; /* [longest + 1] states along the token that is tried */
    size_t bytes;   /* of state tables and masks */
    uint32_t at;
    limn_status failed;
};

static uint64_t mix(uint64_t a, uint64_t b) {
    uint64_t h = (a * 0x9E3779B97F4A7C15u) ^ (b + 0xD6E8FEB86659FD93u);
    h ^= h >> 29;
    return h * 0xBF58476D1CE4E5B9u ^ h >> 32;
}

static bool reserve(limn_constraint *c, void **p, size_t n, size_t *cap, size_t size,
                    size_t limit) {
    if (c->failed) return false;
    if (n < *cap) return true;
    size_t next = *cap ? *cap * 2 : 256;
    void *fresh = n >= limit ? NULL : limn_mem_realloc(*p, next * size);
    if (!fresh) {
        c->failed = n >= limit ? LIMN_E_LIMIT : LIMN_E_NOMEM;
        return false;
    }
    *p = fresh;
    *cap = next;
    return true;
}

/* Doubles a hash of indices; false latches. */
static bool slots_grow(limn_constraint *c, uint32_t **slot, size_t *mask) {
    size_t size = *slot ? (*mask + 1) * 2 : 1024;
    uint32_t *p = limn_mem_calloc(size, sizeof *p);
    if (!p) {
        c->failed = LIMN_E_NOMEM;
        return false;
    }
    limn_mem_free(*slot);
    *slot = p;
    *mask = size - 1;
    return true;
}

static void frame_insert(limn_constraint *c, uint32_t f) {
    size_t i = mix(c->frame[f].node, c->frame[f].parent) & c->frame_mask;
    while (c->frame_slot[i]) i = (i + 1) & c->frame_mask;
    c->frame_slot[i] = f + 1;
}

/* The frame (node, parent), LIMN_NIL when the nesting is too deep or on failure. */
static uint32_t frame_get(limn_constraint *c, uint32_t node, uint32_t parent) {
    uint32_t depth = parent == LIMN_NIL ? 1 : c->frame[parent].depth + 1;
    if (depth > LIMN_GRAMMAR_DEPTH || c->failed) return LIMN_NIL;
    if (!c->frame_slot || c->n_frames * 2 > c->frame_mask) {
        if (!slots_grow(c, &c->frame_slot, &c->frame_mask)) return LIMN_NIL;
        for (uint32_t i = 0; i < c->n_frames; i++) frame_insert(c, i);
    }
    size_t i = mix(node, parent) & c->frame_mask;
    for (; c->frame_slot[i]; i = (i + 1) & c->frame_mask) {
        const frame *f = &c->frame[c->frame_slot[i] - 1];
        if (f->node == node && f->parent == parent) return c->frame_slot[i] - 1;
    }
    if (!reserve(c, (void **)&c->frame, c->n_frames, &c->cap_frames, sizeof *c->frame, 1u << 22))
        return LIMN_NIL;
    c->frame[c->n_frames] = (frame){node, parent, depth};
    c->frame_slot[i] = (uint32_t)c->n_frames + 1;
    return (uint32_t)c->n_frames++;
}

/* ---- closure: everything that is reached without reading ---- */

/* Adds to the set; false when it was there. */
static bool work_add(limn_constraint *c, config x) {
    size_t mask = CONFIGS_MAX * 2 - 1, i = mix(x.node, x.frame) & mask;
    for (; c->work_slot[i]; i = (i + 1) & mask) {
        const config *y = &c->work[c->work_slot[i] - 1];
        if (y->node == x.node && y->frame == x.frame) return false;
    }
    if (c->n_work == CONFIGS_MAX) {
        c->failed = LIMN_E_LIMIT;
        return false;
    }
    c->work[c->n_work] = x;
    c->work_slot[i] = (uint32_t)++c->n_work;
    return true;
}

/* Past STEP nodes; a call in front of the end of its rule needs no frame of its own. */
static uint32_t skip_steps(const limn_grammar *g, uint32_t node) {
    for (int i = 0; i < 64 && g->node[node].kind == LIMN_G_STEP; i++) node = g->node[node].a;
    return node;
}

static void closure_step(limn_constraint *c, config x, size_t *n_todo) {
    const limn_grammar *g = c->g;
    config next[2];
    int n = 0;
    const limn_gnode *node = &g->node[x.node];
    uint32_t f;
    switch (node->kind) {
    case LIMN_G_STEP: next[n++] = (config){node->a, x.frame}; break;
    case LIMN_G_SPLIT:
        next[n++] = (config){node->a, x.frame};
        next[n++] = (config){node->b, x.frame};
        break;
    case LIMN_G_CALL:
        f = x.frame;
        if (g->node[skip_steps(g, node->b)].kind != LIMN_G_RETURN) {
            f = frame_get(c, node->b, x.frame);
            if (f == LIMN_NIL) return; /* too deep: not a way that may be taken */
        }
        next[n++] = (config){g->rule[node->a], f};
        break;
    case LIMN_G_RETURN:
        if (x.frame == LIMN_NIL)
            next[n++] = (config){LIMN_NIL, LIMN_NIL};
        else
            next[n++] = (config){c->frame[x.frame].node, c->frame[x.frame].parent};
        break;
    default: return;
    }
    for (int i = 0; i < n; i++)
        if (work_add(c, next[i]) && next[i].node != LIMN_NIL) c->todo[(*n_todo)++] = next[i];
}

static void closure_add(limn_constraint *c, config x) {
    size_t n_todo = 0;
    if (!work_add(c, x)) return;
    c->todo[n_todo++] = x;
    while (n_todo && !c->failed) {
        config y = c->todo[--n_todo];
        if (c->g->node[y.node].kind != LIMN_G_BYTE) closure_step(c, y, &n_todo);
    }
}

static void work_clear(limn_constraint *c) {
    memset(c->work_slot, 0, CONFIGS_MAX * 2 * sizeof *c->work_slot);
    c->n_work = 0;
}

/* ---- states ---- */

static int config_order(const void *a, const void *b) {
    const config *x = a, *y = b;
    if (x->node != y->node) return x->node < y->node ? -1 : 1;
    return x->frame < y->frame ? -1 : x->frame > y->frame;
}

static uint64_t hash_configs(const config *x, size_t n) {
    uint64_t h = n;
    for (size_t i = 0; i < n; i++) h = mix(h ^ x[i].node, x[i].frame);
    return h;
}

static void state_insert(limn_constraint *c, uint32_t s) {
    size_t i = hash_configs(c->pool + c->state[s].first, c->state[s].count) & c->state_mask;
    while (c->state_slot[i]) i = (i + 1) & c->state_mask;
    c->state_slot[i] = s + 1;
}

/* The state of the set in `work`; DEAD when it is empty or on failure. */
static uint32_t state_get(limn_constraint *c) {
    size_t n = 0;
    if (c->failed) return DEAD;
    for (size_t i = 0; i < c->n_work; i++) /* only places that read, and the end */
        if (c->work[i].node == LIMN_NIL || c->g->node[c->work[i].node].kind == LIMN_G_BYTE)
            c->work[n++] = c->work[i];
    if (n == 0) return DEAD;
    qsort(c->work, n, sizeof *c->work, config_order);
    if (!c->state_slot || c->n_states * 2 > c->state_mask) {
        if (!slots_grow(c, &c->state_slot, &c->state_mask)) return DEAD;
        for (uint32_t i = 1; i < c->n_states; i++) state_insert(c, i);
    }
    size_t i = hash_configs(c->work, n) & c->state_mask;
    for (; c->state_slot[i]; i = (i + 1) & c->state_mask) {
        const gstate *s = &c->state[c->state_slot[i] - 1];
        if (s->count == n && !memcmp(c->pool + s->first, c->work, n * sizeof *c->work))
            return c->state_slot[i] - 1;
    }
    while (c->n_pool + n > c->cap_pool)
        if (!reserve(c, (void **)&c->pool, c->cap_pool, &c->cap_pool, sizeof *c->pool, 1u << 23))
            return DEAD;
    if (!reserve(c, (void **)&c->state, c->n_states, &c->cap_states, sizeof *c->state, 1u << 20))
        return DEAD;
    memcpy(c->pool + c->n_pool, c->work, n * sizeof *c->work);
    c->state[c->n_states] = (gstate){.first = (uint32_t)c->n_pool,
                                     .count = (uint32_t)n,
                                     .complete = c->work[n - 1].node == LIMN_NIL};
    c->n_pool += n;
    c->bytes += n * sizeof *c->work + sizeof(gstate);
    c->state_slot[i] = (uint32_t)c->n_states + 1;
    return (uint32_t)c->n_states++;
}

static uint32_t state_next(limn_constraint *c, uint32_t s, unsigned char byte) {
    if (s == DEAD) return DEAD;
    if (!c->state[s].next) {
        c->state[s].next = limn_mem_calloc(256, sizeof(uint32_t));
        if (!c->state[s].next) {
            c->failed = LIMN_E_NOMEM;
            return DEAD;
        }
        c->bytes += 256 * sizeof(uint32_t);
    }
    uint32_t known = c->state[s].next[byte];
    if (known != UNKNOWN) return known - 1;
    if (c->bytes > 4 * LIMN_CONSTRAINT_BYTES) { /* within one mask: the choices explode */
        c->failed = LIMN_E_LIMIT;
        return DEAD;
    }
    work_clear(c);
    for (uint32_t i = 0; i < c->state[s].count; i++) {
        config x = c->pool[c->state[s].first + i];
        if (x.node == LIMN_NIL) continue;
        const limn_gnode *node = &c->g->node[x.node];
        if (c->g->class[node->a].bits[byte / 64] >> byte % 64 & 1)
            closure_add(c, (config){node->b, x.frame});
    }
    uint32_t to = state_get(c);
    if (c->failed) return DEAD;
    c->state[s].next[byte] = to + 1;
    return to;
}

static limn_status report(limn_constraint *c, limn_err *err) {
    limn_status st = c->failed;
    c->failed = LIMN_OK;
    if (st == LIMN_OK) return st;
    return limn_fail(err, st, "%s",
                     st == LIMN_E_LIMIT ? "the grammar leaves too many ways open at one place"
                                        : "no memory for constrained decoding");
}

/* ---- making, forgetting ---- */

static void forget_states(limn_constraint *c) {
    for (size_t i = 1; i < c->n_states; i++) {
        limn_mem_free(c->state[i].next);
        limn_mem_free(c->state[i].mask);
    }
    c->n_states = c->n_pool = c->n_frames = 0;
    if (c->state_slot) memset(c->state_slot, 0, (c->state_mask + 1) * sizeof *c->state_slot);
    if (c->frame_slot) memset(c->frame_slot, 0, (c->frame_mask + 1) * sizeof *c->frame_slot);
    c->bytes = 0;
}

static void make_start(limn_constraint *c) {
    if (!reserve(c, (void **)&c->state, 0, &c->cap_states, sizeof *c->state, 1u << 20)) return;
    c->state[DEAD] = (gstate){0};
    c->n_states = 1;
    work_clear(c);
    closure_add(c, (config){c->g->rule[c->g->root], LIMN_NIL});
    c->at = state_get(c);
}

/* Copies a stack of frames that is about to be forgotten; frames are numbered from the root up. */
static uint32_t frame_copy(limn_constraint *c, const frame *old, uint32_t f) {
    uint32_t chain[LIMN_GRAMMAR_DEPTH], n = 0, to = LIMN_NIL;
    for (; f != LIMN_NIL && n < LIMN_GRAMMAR_DEPTH; f = old[f].parent) chain[n++] = old[f].node;
    while (n--) to = frame_get(c, chain[n], to);
    return to;
}

/* Forgets all but the start and the current state. */
static void shrink(limn_constraint *c) {
    const gstate *s = &c->state[c->at];
    size_t n = s->count;
    config *keep = limn_mem_alloc(n * sizeof *keep);
    frame *old = limn_mem_alloc(c->n_frames ? c->n_frames * sizeof *old : 1);
    if (!keep || !old) {
        c->failed = LIMN_E_NOMEM;
    } else {
        memcpy(keep, c->pool + s->first, n * sizeof *keep);
        if (c->n_frames) memcpy(old, c->frame, c->n_frames * sizeof *old);
        forget_states(c);
        make_start(c);
        work_clear(c);
        for (size_t i = 0; i < n; i++)
            work_add(c, (config){keep[i].node, frame_copy(c, old, keep[i].frame)});
        c->at = state_get(c);
    }
    limn_mem_free(keep);
    limn_mem_free(old);
}

limn_status limn_constraint_new(limn_constraint **out, const limn_grammar *g,
                                const limn_token_trie *trie, const int32_t *stop, size_t n_stop,
                                limn_err *err) {
    limn_status st = LIMN_OK;
    limn_constraint *c = limn_mem_calloc(1, sizeof *c);
    LIMN_CHECK(err, c, LIMN_E_NOMEM, "no memory for constrained decoding");
    c->g = g;
    c->trie = trie;
    size_t count = limn_tokenizer_count(trie->t);
    c->words = (count + 63) / 64;
    c->stop = limn_mem_alloc((n_stop + 1) * sizeof *c->stop);
    c->work = limn_mem_alloc(CONFIGS_MAX * sizeof *c->work);
    c->todo = limn_mem_alloc((CONFIGS_MAX + 2) * sizeof *c->todo);
    c->work_slot = limn_mem_alloc(CONFIGS_MAX * 2 * sizeof *c->work_slot);
    c->path = limn_mem_alloc((trie->longest + 1) * sizeof *c->path);
    LIMN_CHECK(err, c->stop && c->work && c->todo && c->work_slot && c->path, LIMN_E_NOMEM,
               "no memory for constrained decoding");
    for (size_t i = 0; i < n_stop; i++) {
        LIMN_CHECK(err, stop[i] >= 0 && (size_t)stop[i] < count, LIMN_E_VALUE,
                   "stop token %ld is not in the vocabulary", (long)stop[i]);
        c->stop[c->n_stop++] = stop[i];
    }
    make_start(c);
    LIMN_TRY(report(c, err));
    LIMN_CHECK(err, c->at != DEAD, LIMN_E_VALUE, "the grammar matches nothing");
    *out = c;
    c = NULL;
out:
    limn_constraint_free(&c);
    return st;
}

void limn_constraint_free(limn_constraint **constraint) {
    limn_constraint *c = *constraint;
    if (!c) return;
    forget_states(c);
    limn_mem_free(c->stop);
    limn_mem_free(c->work);
    limn_mem_free(c->todo);
    limn_mem_free(c->work_slot);
    limn_mem_free(c->path);
    limn_mem_free(c->frame);
    limn_mem_free(c->frame_slot);
    limn_mem_free(c->state);
    limn_mem_free(c->state_slot);
    limn_mem_free(c->pool);
    limn_mem_free(c);
    *constraint = NULL;
}

void limn_constraint_reset(limn_constraint *c) {
    c->at = START; /* always the first that is made */
}

bool limn_constraint_is_complete(const limn_constraint *c) {
    return c->state[c->at].complete;
}

/* ---- tokens ---- */

/* Tries all tokens in order; what they share with the one before is not walked again. */
static void fill_mask(limn_constraint *c, uint64_t *mask, uint32_t from) {
    const limn_token_trie *x = c->trie;
    size_t alive = 0; /* bytes of the last tried token that lead somewhere */
    c->path[0] = from;
    for (size_t i = 0; i < x->n && !c->failed; i++) {
        size_t at = x->lcp[i];
        if (at > alive) continue; /* begins with what has just failed */
        limn_text_view v = limn_tokenizer_bytes(x->t, x->id[i]);
        uint32_t s = c->path[at];
        while (at < v.len && s != DEAD) {
            s = state_next(c, s, (unsigned char)v.data[at]);
            if (s != DEAD) c->path[++at] = s;
        }
        alive = at;
        if (s != DEAD) mask[x->id[i] / 64] |= (uint64_t)1 << x->id[i] % 64;
    }
    if (c->state[from].complete)
        for (size_t i = 0; i < c->n_stop; i++)
            mask[c->stop[i] / 64] |= (uint64_t)1 << c->stop[i] % 64;
}

limn_status limn_constraint_mask(limn_constraint *c, const uint64_t **mask, limn_err *err) {
    if (c->bytes > LIMN_CONSTRAINT_BYTES) shrink(c);
    limn_status st = report(c, err);
    if (st != LIMN_OK) return st;
    if (!c->state[c->at].mask) {
        uint64_t *m = limn_mem_calloc(c->words, sizeof *m);
        if (!m) return limn_fail(err, LIMN_E_NOMEM, "no memory for a token mask");
        fill_mask(c, m, c->at);
        st = report(c, err);
        if (st != LIMN_OK) {
            limn_mem_free(m);
            return st;
        }
        c->state[c->at].mask = m;
        c->bytes += c->words * sizeof *m;
    }
    *mask = c->state[c->at].mask;
    return LIMN_OK;
}

limn_status limn_constraint_accept_bytes(limn_constraint *c, const char *bytes, size_t n,
                                         limn_err *err) {
    uint32_t s = c->at;
    for (size_t i = 0; i < n && s != DEAD; i++) s = state_next(c, s, (unsigned char)bytes[i]);
    limn_status st = report(c, err);
    if (st != LIMN_OK) return st;
    if (s == DEAD) return limn_fail(err, LIMN_E_VALUE, "the grammar does not allow this text here");
    c->at = s;
    return LIMN_OK;
}

limn_status limn_constraint_accept(limn_constraint *c, int32_t id, limn_err *err) {
    for (size_t i = 0; i < c->n_stop; i++)
        if (c->stop[i] == id && c->state[c->at].complete) return LIMN_OK;
    limn_text_view v = limn_tokenizer_bytes(c->trie->t, id);
    if (v.len == 0 || limn_tokenizer_is_added(c->trie->t, id))
        return limn_fail(err, LIMN_E_VALUE, "token %ld is not allowed here", (long)id);
    return limn_constraint_accept_bytes(c, v.data, v.len, err);
}
