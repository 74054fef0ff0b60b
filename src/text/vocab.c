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

static bool vocab_rehash(limn_vocab *v, size_t least) {
    size_t size = v->slot ? (v->mask + 1) * 2 : 1024;
    while (size < least) size *= 2;
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

limn_status limn_vocab_reserve(limn_vocab *v, size_t n, limn_err *err) {
    if (n > LIMN_VOCAB_MAX) n = LIMN_VOCAB_MAX; /* what is too much is refused when it comes */
    bool ok = vocab_grow(v, n) && (v->mask > 2 * n || vocab_rehash(v, 2 * n + 2));
    return ok ? LIMN_OK : limn_fail(err, LIMN_E_NOMEM, "no memory for a vocabulary");
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
    if ((!v->slot || v->used * 2 >= v->mask) && !vocab_rehash(v, 0))
        return limn_fail(err, LIMN_E_NOMEM, "no memory for a vocabulary");
    size_t at = vocab_probe(v, bytes, n);
    if (v->slot[at]) {
        v->repeats = true;
        return LIMN_OK;
    }
    v->slot[at] = (uint32_t)id + 1;
    v->used++;
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
    limn_mem_free(m->cut);
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

limn_status limn_merges_start_cuts(limn_merges *m, size_t n, limn_err *err) {
    if (n > LIMN_VOCAB_MAX * 2u) return limn_fail(err, LIMN_E_LIMIT, "too many merges: %zu", n);
    limn_mem_free(m->cut);
    m->cut = limn_mem_calloc(n + 1, sizeof *m->cut);
    if (!m->cut) return limn_fail(err, LIMN_E_NOMEM, "no memory for %zu merges", n);
    m->n_cuts = 0;
    m->cap_cuts = n;
    return LIMN_OK;
}

bool limn_merges_add_cut(limn_merges *m, const limn_vocab *v, const char *both, size_t left,
                         size_t n) {
    if (m->n_cuts == m->cap_cuts || left > UINT16_MAX) return false;
    if (m->n_cuts == 0) m->first = limn_vocab_find(v, both, n);
    if (m->first < 0) return false;
    size_t id = (size_t)m->first + m->n_cuts;
    if (id >= v->n || v->item[id].len != n || n == 0 || memcmp(v->item[id].data, both, n) != 0)
        return false;
    m->cut[m->n_cuts++] = (uint16_t)left;
    return true;
}

limn_status limn_merges_leave_cuts(limn_merges *m, const limn_vocab *v, limn_err *err) {
    limn_status st = limn_merges_reserve(m, m->cap_cuts, err);
    for (size_t i = 0; st == LIMN_OK && i < m->n_cuts; i++) {
        limn_text_view t = v->item[(size_t)m->first + i];
        limn_merge e = {.left = limn_vocab_find(v, t.data, m->cut[i]),
                        .right = limn_vocab_find(v, t.data + m->cut[i], t.len - m->cut[i]),
                        .id = m->first + (int32_t)i,
                        .rank = (uint32_t)i};
        if (e.left < 0 || e.right < 0)
            st = limn_fail(err, LIMN_E_FORMAT, "merge %zu joins what is no token", i);
        else
            limn_merges_add(m, &e);
    }
    limn_mem_free(m->cut);
    m->cut = NULL;
    return st;
}

bool limn_merges_find(limn_merge *out, const limn_merges *m, const limn_vocab *v, int32_t left_id,
                      int32_t right_id, const char *both, size_t left, size_t n) {
    if (m->cut) {
        int32_t id = left_id < 0 || right_id < 0 ? -1 : limn_vocab_find(v, both, n);
        int64_t rank = (int64_t)id - m->first;
        if (id < 0 || rank < 0 || rank >= (int64_t)m->n_cuts || m->cut[rank] != left) return false;
        *out = (limn_merge){left_id, right_id, id, (uint32_t)rank};
        return true;
    }
    if (!m->slot) return false;
    *out = m->slot[merges_probe(m, left_id, right_id)];
    return out->left >= 0;
}
