/* SPDX-License-Identifier: MIT */
/* Pair merging; see bpe.h. */
#include "text/bpe.h"

enum { SCAN_MAX = 24 }; /* words up to this length are scanned; longer ones use the heap */

/* A possible join of `left` and the symbol after it. `key` orders: smaller is better. */
typedef struct bpe_pair {
    double key;
    int32_t left, right;
    uint32_t len; /* bytes of both when it was found: stale when the symbols have grown since */
    int32_t id;
} bpe_pair;

void limn_bpe_scratch_deinit(limn_bpe_scratch *s) {
    limn_mem_free(s->symbol);
    limn_mem_free(s->heap);
    *s = (limn_bpe_scratch){0};
}

void limn_bpe_add_symbol(limn_bpe_scratch *s, int32_t id, size_t at, size_t len) {
    if (s->failed) return;
    if (s->n == s->cap) {
        size_t cap = s->cap ? s->cap * 2 : 64;
        void *p = cap > INT32_MAX ? NULL : limn_mem_realloc(s->symbol, cap * sizeof *s->symbol);
        if (!p) {
            s->failed = true;
            return;
        }
        s->symbol = p;
        s->cap = cap;
    }
    int32_t i = (int32_t)s->n++;
    s->symbol[i] = (limn_bpe_symbol){id, (uint32_t)at, (uint32_t)len, i - 1, -1};
    if (i) s->symbol[i - 1].next = i;
}

/* The join of symbol `left` with its right neighbour; false when there is none. */
static bool pair_find(bpe_pair *p, const limn_bpe_scratch *s, const limn_bpe_rules *r,
                      const char *text, int32_t left) {
    int32_t right = left < 0 ? -1 : s->symbol[left].next;
    if (right < 0) return false;
    const limn_bpe_symbol *a = &s->symbol[left], *b = &s->symbol[right];
    p->left = left;
    p->right = right;
    p->len = a->len + b->len;
    if (r->merges) {
        limn_merge m;
        if (!limn_merges_find(&m, r->merges, r->vocab, a->id, b->id, text + a->at, a->len, p->len))
            return false;
        p->key = m.rank;
        p->id = m.id;
        return true;
    }
    p->id = limn_vocab_find(r->vocab, text + a->at, p->len);
    if (p->id < 0) return false;
    p->key = -r->scores[p->id];
    return true;
}

static void pair_apply(limn_bpe_scratch *s, const bpe_pair *p) {
    limn_bpe_symbol *a = &s->symbol[p->left], *b = &s->symbol[p->right];
    a->id = p->id;
    a->len = p->len;
    a->next = b->next;
    b->len = 0;
    if (b->next >= 0) s->symbol[b->next].prev = p->left;
}

static void merge_by_scan(limn_bpe_scratch *s, const limn_bpe_rules *r, const char *text) {
    bpe_pair pair[SCAN_MAX];
    bool has[SCAN_MAX];
    for (size_t i = 0; i < s->n; i++) has[i] = pair_find(&pair[i], s, r, text, (int32_t)i);
    for (;;) {
        const bpe_pair *best = NULL;
        for (int32_t i = 0; i >= 0; i = s->symbol[i].next)
            if (has[i] && (!best || pair[i].key < best->key)) best = &pair[i];
        if (!best) return;
        int32_t left = best->left;
        pair_apply(s, best);
        has[left] = pair_find(&pair[left], s, r, text, left);
        int32_t before = s->symbol[left].prev;
        if (before >= 0) has[before] = pair_find(&pair[before], s, r, text, before);
    }
}

/* ---- heap ---- */

static bool pair_less(const bpe_pair *a, const bpe_pair *b) {
    return a->key != b->key ? a->key < b->key : a->left < b->left;
}

static void heap_push(limn_bpe_scratch *s, const bpe_pair *p) {
    if (s->heap_len == s->heap_cap) {
        size_t cap = s->heap_cap ? s->heap_cap * 2 : 256;
        void *fresh = limn_mem_realloc(s->heap, cap * sizeof(bpe_pair));
        if (!fresh) {
            s->failed = true;
            return;
        }
        s->heap = fresh;
        s->heap_cap = cap;
    }
    bpe_pair *h = s->heap;
    size_t i = s->heap_len++;
    for (; i > 0 && pair_less(p, &h[(i - 1) / 2]); i = (i - 1) / 2) h[i] = h[(i - 1) / 2];
    h[i] = *p;
}

static bpe_pair heap_pop(limn_bpe_scratch *s) {
    bpe_pair *h = s->heap;
    bpe_pair top = h[0], last = h[--s->heap_len];
    size_t i = 0;
    for (;;) {
        size_t kid = 2 * i + 1;
        if (kid >= s->heap_len) break;
        if (kid + 1 < s->heap_len && pair_less(&h[kid + 1], &h[kid])) kid++;
        if (!pair_less(&h[kid], &last)) break;
        h[i] = h[kid];
        i = kid;
    }
    h[i] = last;
    return top;
}

static void heap_try(limn_bpe_scratch *s, const limn_bpe_rules *r, const char *text, int32_t left) {
    bpe_pair p;
    if (pair_find(&p, s, r, text, left)) heap_push(s, &p);
}

/* A symbol only ever grows or vanishes, so equal lengths mean that nothing has changed. */
static bool pair_is_current(const limn_bpe_scratch *s, const bpe_pair *p) {
    const limn_bpe_symbol *a = &s->symbol[p->left], *b = &s->symbol[p->right];
    return a->len && b->len && a->next == p->right && a->len + b->len == p->len;
}

static void merge_by_heap(limn_bpe_scratch *s, const limn_bpe_rules *r, const char *text) {
    s->heap_len = 0;
    for (size_t i = 0; i < s->n; i++) heap_try(s, r, text, (int32_t)i);
    while (s->heap_len && !s->failed) {
        bpe_pair p = heap_pop(s);
        if (!pair_is_current(s, &p)) continue;
        pair_apply(s, &p);
        heap_try(s, r, text, p.left);
        heap_try(s, r, text, s->symbol[p.left].prev);
    }
}

void limn_bpe_merge(limn_bpe_scratch *s, const limn_bpe_rules *rules, const char *text) {
    if (s->failed || s->n < 2) return;
    if (s->n <= SCAN_MAX && !s->heap_only)
        merge_by_scan(s, rules, text);
    else
        merge_by_heap(s, rules, text);
}
