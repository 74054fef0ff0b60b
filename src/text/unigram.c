/* SPDX-License-Identifier: MIT */
/* Viterbi over a unigram vocabulary; see unigram.h. */
#include "text/unigram.h"

#include "text/unicode.h"

/* Best way to reach a byte position: the token that ends there. */
typedef struct reach {
    double score;
    uint32_t from;
    int32_t id;
    bool known; /* some way leads here */
} reach;

static double sum(const limn_unigram *u, double a, double b) {
    return u->single ? (double)(float)(a + b) : a + b;
}

static void offer(reach *to, double score, size_t from, int32_t id) {
    if (to->known && score <= to->score) return;
    *to = (reach){score, (uint32_t)from, id, true};
}

static void extend(const limn_unigram *u, reach *r, const char *s, size_t n, size_t at) {
    size_t one = at, top = n - at < u->longest ? n - at : u->longest;
    limn_utf8_next(s, n, &one);
    bool single = false;
    for (size_t end = one; end <= at + top;) {
        int32_t id = limn_vocab_find(u->vocab, s + at, end - at);
        if (id >= 0) {
            offer(&r[end], sum(u, r[at].score, u->scores[id]), at, id);
            if (end == one) single = true;
        }
        if (end >= n) break;
        limn_utf8_next(s, n, &end);
    }
    if (!single) offer(&r[one], sum(u, r[at].score, u->unk_score), at, -1);
}

limn_status limn_unigram_cut_text(const limn_unigram *u, limn_unigram_cut **cuts, size_t *count,
                                  const char *s, size_t n, limn_err *err) {
    *cuts = NULL;
    *count = 0;
    if (n == 0) return LIMN_OK;
    limn_status st = LIMN_OK;
    reach *r = limn_mem_calloc(n + 1, sizeof *r);
    limn_unigram_cut *list = NULL;
    LIMN_CHECK(err, r, LIMN_E_NOMEM, "no memory to tokenise %zu bytes", n);
    r[0].known = true;
    for (size_t at = 0; at < n; limn_utf8_next(s, n, &at))
        if (r[at].known) extend(u, r, s, n, at);
    size_t m = 0;
    for (size_t at = n; at > 0; at = r[at].from) m++;
    list = limn_mem_alloc(m * sizeof *list);
    LIMN_CHECK(err, list, LIMN_E_NOMEM, "no memory to tokenise %zu bytes", n);
    size_t i = m;
    for (size_t at = n; at > 0; at = r[at].from)
        list[--i] = (limn_unigram_cut){r[at].id, r[at].from, (uint32_t)at};
    size_t kept = 0;
    for (i = 0; i < m; i++) {
        if (kept && list[i].id < 0 && list[kept - 1].id < 0)
            list[kept - 1].end = list[i].end;
        else
            list[kept++] = list[i];
    }
    *cuts = list;
    *count = kept;
    list = NULL;
out:
    limn_mem_free(list);
    limn_mem_free(r);
    return st;
}
