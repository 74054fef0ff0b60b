/* SPDX-License-Identifier: MIT */
/* Vocabulary and merge tables; see vocab.h. */
#include "text/vocab.h"

#include <string.h>

/* ---- vocabulary ---- */

void limn_vocab_init(limn_vocab *v) {
    *v = (limn_vocab){0};
    limn_arena_init(&v->arena);
}

void limn_vocab_deinit(limn_vocab *v) {
    limn_arena_deinit(&v->arena);
    limn_mem_free(v->item);
    limn_mem_free(v->slot);
    *v = (limn_vocab){0};
}

static uint64_t hash_bytes(const char *p, size_t n) {
    uint64_t h = 0x9E3779B97F4A7C15u ^ n;
    while (n >= 8) {
        uint64_t w;
        memcpy(&w, p, 8);
        h = (h ^ w) * 0xD6E8FEB86659FD93u;
        h ^= h >> 32;
        p += 8;
        n -= 8;
    }
    uint64_t w = 0;
    if (n) memcpy(&w, p, n);
    h = (h ^ w) * 0xD6E8FEB86659FD93u;
    h ^= h >> 29;
    return h * 0xFF51AFD7ED558CCDu >> 8;
}

static size_t vocab_probe(const limn_vocab *v, const char *bytes, size_t n) {
    size_t i = hash_bytes(bytes, n) & v->mask;
    while (v->slot[i]) {
        limn_text_view t = v->item[v->slot[i] - 1];
        if (t.len == n && (n == 0 || memcmp(t.data, bytes, n) == 0)) break;
        i = (i + 1) & v->mask;
    }
    return i;
}

static bool vocab_rehash(limn_vocab *v) {
    size_t size = v->slot ? (v->mask + 1) * 2 : 1024;
    uint32_t *fresh = limn_mem_calloc(size, sizeof *fresh);
    if (!fresh) return false;
    uint32_t *old = v->slot;
    size_t old_size = old ? v->mask + 1 : 0;
    v->slot = fresh;
    v->mask = size - 1;
    for (size_t i = 0; i < old_size; i++) {
        if (!old[i]) continue;
        limn_text_view t = v->item[old[i] - 1];
        v->slot[vocab_probe(v, t.data, t.len)] = old[i];
    }
    limn_mem_free(old);
    return true;
}

static bool vocab_grow(limn_vocab *v, size_t need) {
    if (need <= v->cap) return true;
    size_t cap = v->cap ? v->cap : 1024;
    while (cap < need) cap *= 2;
    limn_text_view *p = limn_mem_realloc(v->item, cap * sizeof *p);
    if (!p) return false;
    memset(p + v->cap, 0, (cap - v->cap) * sizeof *p);
    v->item = p;
    v->cap = cap;
    return true;
}

limn_status limn_vocab_add(limn_vocab *v, int32_t id, const char *bytes, size_t n, bool findable,
                           limn_err *err) {
    if (id < 0 || (uint32_t)id >= LIMN_VOCAB_MAX)
        return limn_fail(err, LIMN_E_FORMAT, "token id %ld is outside 0..%u", (long)id,
                         LIMN_VOCAB_MAX - 1);
    size_t need = (size_t)id + 1;
    if (!vocab_grow(v, need)) return limn_fail(err, LIMN_E_NOMEM, "no memory for a vocabulary");
    if (v->item[id].data)
        return limn_fail(err, LIMN_E_FORMAT, "token id %ld is given twice", (long)id);
    char *copy = limn_arena_strndup(&v->arena, bytes, n);
    if (!copy) return limn_fail(err, LIMN_E_NOMEM, "no memory for a vocabulary");
    v->item[id] = (limn_text_view){copy, n};
    if (need > v->n) v->n = need;
    if (!findable) return LIMN_OK;
    if ((!v->slot || v->used * 2 >= v->mask) && !vocab_rehash(v))
        return limn_fail(err, LIMN_E_NOMEM, "no memory for a vocabulary");
    size_t at = vocab_probe(v, bytes, n);
    if (!v->slot[at]) {
        v->slot[at] = (uint32_t)id + 1;
        v->used++;
    }
    return LIMN_OK;
}

int32_t limn_vocab_find(const limn_vocab *v, const char *bytes, size_t n) {
    if (!v->slot) return -1;
    return (int32_t)v->slot[vocab_probe(v, bytes, n)] - 1;
}

limn_text_view limn_vocab_bytes(const limn_vocab *v, int32_t id) {
    if (id < 0 || (size_t)id >= v->n || !v->item[id].data) return (limn_text_view){"", 0};
    return v->item[id];
}

/* ---- merges ---- */

void limn_merges_deinit(limn_merges *m) {
    limn_mem_free(m->slot);
    *m = (limn_merges){0};
}

static size_t merges_probe(const limn_merges *m, int32_t left, int32_t right) {
    uint64_t h = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9E3779B97F4A7C15u;
    size_t i = (h ^ h >> 29) * 0xD6E8FEB86659FD93u >> 20 & m->mask;
    while (m->slot[i].left >= 0 && (m->slot[i].left != left || m->slot[i].right != right))
        i = (i + 1) & m->mask;
    return i;
}

limn_status limn_merges_reserve(limn_merges *m, size_t n, limn_err *err) {
    size_t size = 1024;
    if (n > LIMN_VOCAB_MAX * 2u) return limn_fail(err, LIMN_E_LIMIT, "too many merges: %zu", n);
    while (size < n * 2) size *= 2;
    limn_mem_free(m->slot);
    m->slot = limn_mem_alloc(size * sizeof *m->slot);
    if (!m->slot) return limn_fail(err, LIMN_E_NOMEM, "no memory for %zu merges", n);
    memset(m->slot, 0xFF, size * sizeof *m->slot);
    m->mask = size - 1;
    m->used = 0;
    return LIMN_OK;
}

void limn_merges_add(limn_merges *m, const limn_merge *merge) {
    size_t at = merges_probe(m, merge->left, merge->right);
    if (m->slot[at].left < 0) m->used++;
    m->slot[at] = *merge;
}

const limn_merge *limn_merges_find(const limn_merges *m, int32_t left, int32_t right) {
    if (!m->slot) return NULL;
    const limn_merge *e = &m->slot[merges_probe(m, left, right)];
    return e->left < 0 ? NULL : e;
}
