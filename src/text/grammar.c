/* SPDX-License-Identifier: MIT */
/* Building networks of rules; see grammar_impl.h. */
#include "text/grammar.h"

#include <stdlib.h>
#include <string.h>

#include "text/grammar_impl.h"
#include "text/unicode.h"

limn_grammar *limn_grammar_new(void) {
    return limn_mem_calloc(1, sizeof(limn_grammar));
}

void limn_grammar_free(limn_grammar **grammar) {
    limn_grammar *g = *grammar;
    if (!g) return;
    limn_mem_free(g->node);
    limn_mem_free(g->class);
    limn_mem_free(g->rule);
    limn_mem_free(g);
    *grammar = NULL;
}

limn_status limn_g_check(const limn_grammar *g, limn_err *err) {
    if (g->failed == LIMN_E_LIMIT)
        return limn_fail(err, LIMN_E_LIMIT, "the grammar needs more than %u nodes",
                         LIMN_GRAMMAR_NODES);
    if (g->failed) return limn_fail(err, g->failed, "no memory for a grammar");
    return LIMN_OK;
}

/* Room for one more element of a growing array; false latches. */
static bool grow(limn_grammar *g, void **array, size_t n, size_t *cap, size_t size, size_t limit) {
    if (g->failed) return false;
    if (n < *cap) return true;
    size_t next = *cap ? *cap * 2 : 64;
    if (n >= limit) {
        g->failed = LIMN_E_LIMIT;
        return false;
    }
    void *p = limn_mem_realloc(*array, next * size);
    if (!p) {
        g->failed = LIMN_E_NOMEM;
        return false;
    }
    *array = p;
    *cap = next;
    return true;
}

static uint32_t add_node(limn_grammar *g, limn_gkind kind, uint32_t a, uint32_t b) {
    if (!grow(g, (void **)&g->node, g->n_nodes, &g->cap_nodes, sizeof *g->node, LIMN_GRAMMAR_NODES))
        return 0;
    g->node[g->n_nodes] = (limn_gnode){kind, a, b};
    return (uint32_t)g->n_nodes++;
}

static uint32_t add_class(limn_grammar *g, const limn_byte_class *c) {
    for (size_t i = 0; i < g->n_classes; i++)
        if (memcmp(&g->class[i], c, sizeof *c) == 0) return (uint32_t)i;
    if (!grow(g, (void **)&g->class, g->n_classes, &g->cap_classes, sizeof *g->class, 4096))
        return 0;
    g->class[g->n_classes] = *c;
    return (uint32_t)g->n_classes++;
}

static void connect(limn_grammar *g, uint32_t end, uint32_t to) {
    if (!g->failed) g->node[end].a = to;
}

static limn_frag byte_range(limn_grammar *g, unsigned lo, unsigned hi) {
    limn_byte_class c = {{0}};
    for (unsigned b = lo; b <= hi; b++) c.bits[b / 64] |= (uint64_t)1 << b % 64;
    uint32_t start = add_node(g, LIMN_G_BYTE, add_class(g, &c), LIMN_NIL);
    uint32_t end = add_node(g, LIMN_G_STEP, LIMN_NIL, LIMN_NIL);
    if (!g->failed) g->node[start].b = end;
    return (limn_frag){start, end, start};
}

uint32_t limn_g_rule(limn_grammar *g) {
    if (!grow(g, (void **)&g->rule, g->n_rules, &g->cap_rules, sizeof *g->rule, 1u << 16)) return 0;
    g->rule[g->n_rules] = LIMN_NIL;
    return (uint32_t)g->n_rules++;
}

void limn_g_define(limn_grammar *g, uint32_t rule, limn_frag f) {
    uint32_t done = add_node(g, LIMN_G_RETURN, 0, 0);
    connect(g, f.end, done);
    if (!g->failed) g->rule[rule] = f.start;
}

limn_frag limn_g_empty(limn_grammar *g) {
    uint32_t x = add_node(g, LIMN_G_STEP, LIMN_NIL, LIMN_NIL);
    return (limn_frag){x, x, x};
}

limn_frag limn_g_seq(limn_grammar *g, limn_frag a, limn_frag b) {
    connect(g, a.end, b.start);
    return (limn_frag){a.start, b.end, a.from < b.from ? a.from : b.from};
}

limn_frag limn_g_alt(limn_grammar *g, limn_frag a, limn_frag b) {
    uint32_t split = add_node(g, LIMN_G_SPLIT, a.start, b.start);
    uint32_t end = add_node(g, LIMN_G_STEP, LIMN_NIL, LIMN_NIL);
    connect(g, a.end, end);
    connect(g, b.end, end);
    return (limn_frag){split, end, a.from < b.from ? a.from : b.from};
}

limn_frag limn_g_bytes(limn_grammar *g, const char *s, size_t n) {
    limn_frag f = limn_g_empty(g);
    for (size_t i = 0; i < n && !g->failed; i++)
        f = limn_g_seq(g, f, byte_range(g, (unsigned char)s[i], (unsigned char)s[i]));
    return f;
}

limn_frag limn_g_text(limn_grammar *g, const char *s) {
    return limn_g_bytes(g, s, strlen(s));
}

limn_frag limn_g_call(limn_grammar *g, uint32_t rule) {
    uint32_t start = add_node(g, LIMN_G_CALL, rule, LIMN_NIL);
    uint32_t end = add_node(g, LIMN_G_STEP, LIMN_NIL, LIMN_NIL);
    if (!g->failed) g->node[start].b = end;
    return (limn_frag){start, end, start};
}

/* ---- characters ---- */

static int range_order(const void *a, const void *b) {
    const limn_cp_range *x = a, *y = b;
    return x->lo < y->lo ? -1 : x->lo > y->lo;
}

size_t limn_cp_normalize(limn_cp_range *r, size_t n, bool invert) {
    size_t kept = 0;
    if (n) qsort(r, n, sizeof *r, range_order);
    for (size_t i = 0; i < n; i++) {
        if (r[i].lo > r[i].hi) continue;
        if (kept && r[i].lo <= r[kept - 1].hi + 1)
            r[kept - 1].hi = r[i].hi > r[kept - 1].hi ? r[i].hi : r[kept - 1].hi;
        else
            r[kept++] = r[i];
    }
    if (!invert) return kept;
    uint32_t next = 0;
    size_t m = 0;
    for (size_t i = 0; i < kept; i++) {
        limn_cp_range x = r[i];
        if (x.lo > next) r[m++] = (limn_cp_range){next, x.lo - 1};
        next = x.hi + 1;
    }
    if (next <= 0x10FFFF) r[m++] = (limn_cp_range){next, 0x10FFFF};
    return m;
}

/* Adds the byte sequences of lo..hi, which all have one length, to *f (the first sets *any). */
static void add_sequences(limn_grammar *g, limn_frag *f, bool *any, uint32_t lo, uint32_t hi) {
    for (int i = 1; i < 4; i++) {
        uint32_t m = ((uint32_t)1 << 6 * i) - 1;
        if (lo < 0x80 || (lo & ~m) == (hi & ~m)) continue;
        if (lo & m) {
            add_sequences(g, f, any, lo, lo | m);
            add_sequences(g, f, any, (lo | m) + 1, hi);
            return;
        }
        if ((hi & m) != m) {
            add_sequences(g, f, any, lo, (hi & ~m) - 1);
            add_sequences(g, f, any, hi & ~m, hi);
            return;
        }
    }
    char a[4], b[4];
    size_t n = limn_utf8_put(a, lo);
    limn_utf8_put(b, hi);
    limn_frag s = byte_range(g, (unsigned char)a[0], (unsigned char)b[0]);
    for (size_t i = 1; i < n; i++)
        s = limn_g_seq(g, s, byte_range(g, (unsigned char)a[i], (unsigned char)b[i]));
    *f = *any ? limn_g_alt(g, *f, s) : s;
    *any = true;
}

static void add_range(limn_grammar *g, limn_frag *f, bool *any, uint32_t lo, uint32_t hi) {
    static const uint32_t top[] = {0x7F, 0x7FF, 0xD7FF, 0xDFFF, 0xFFFF, 0x10FFFF};
    for (size_t i = 0; i < sizeof top / sizeof top[0] && lo <= hi; i++) {
        if (lo > top[i]) continue;
        uint32_t end = hi < top[i] ? hi : top[i];
        if (top[i] != 0xDFFF) add_sequences(g, f, any, lo, end); /* no surrogates */
        lo = end + 1;
    }
}

limn_frag limn_g_chars(limn_grammar *g, const limn_cp_range *r, size_t n) {
    limn_byte_class ascii = {{0}};
    limn_frag f = {0};
    bool any = false;
    for (size_t i = 0; i < n; i++)
        for (uint32_t c = r[i].lo; c <= r[i].hi && c < 0x80; c++)
            ascii.bits[c / 64] |= (uint64_t)1 << c % 64;
    uint32_t start = add_node(g, LIMN_G_BYTE, add_class(g, &ascii), LIMN_NIL);
    uint32_t end = add_node(g, LIMN_G_STEP, LIMN_NIL, LIMN_NIL);
    if (!g->failed) g->node[start].b = end;
    for (size_t i = 0; i < n; i++)
        if (r[i].hi >= 0x80) add_range(g, &f, &any, r[i].lo < 0x80 ? 0x80 : r[i].lo, r[i].hi);
    limn_frag first = {start, end, start};
    return any ? limn_g_alt(g, first, f) : first;
}

/* ---- repetition ---- */

/* A copy of nodes [from, to). */
static limn_frag copy_frag(limn_grammar *g, limn_frag f, uint32_t from, uint32_t to) {
    uint32_t shift = (uint32_t)g->n_nodes - from;
    for (uint32_t i = from; i < to && !g->failed; i++) {
        limn_gnode x = g->node[i];
        bool a_is_node = x.kind == LIMN_G_STEP || x.kind == LIMN_G_SPLIT;
        bool b_is_node = x.kind != LIMN_G_STEP && x.kind != LIMN_G_RETURN;
        if (a_is_node && x.a >= from && x.a < to) x.a += shift;
        if (b_is_node && x.b >= from && x.b < to) x.b += shift;
        if (i == f.end) x.a = LIMN_NIL;
        add_node(g, (limn_gkind)x.kind, x.a, x.b);
    }
    return (limn_frag){f.start + shift, f.end + shift, from + shift};
}

limn_frag limn_g_repeat(limn_grammar *g, limn_frag f, uint32_t min, uint32_t max) {
    uint32_t from = f.from, to = (uint32_t)g->n_nodes;
    uint32_t first = add_node(g, LIMN_G_STEP, LIMN_NIL, LIMN_NIL);
    uint32_t done = add_node(g, LIMN_G_STEP, LIMN_NIL, LIMN_NIL);
    uint32_t at = first; /* an open STEP */
    bool endless = max == LIMN_NIL;
    uint32_t copies = endless ? min + 1 : max;
    for (uint32_t i = 0; i < copies && !g->failed; i++) {
        limn_frag x = i ? copy_frag(g, f, from, to) : f;
        uint32_t into = x.start;
        if (i >= min) into = add_node(g, LIMN_G_SPLIT, x.start, done);
        connect(g, at, into);
        at = x.end;
        if (endless && i == min) { /* the last copy goes round */
            connect(g, at, into);
            return (limn_frag){first, done, from};
        }
    }
    connect(g, at, done);
    return (limn_frag){first, done, from};
}
