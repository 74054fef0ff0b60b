/* SPDX-License-Identifier: MIT */
/*
 * Text -> ids. Order, as in the reference: added tokens are cut out of the raw text, the rest is
 * normalised, normalised added tokens are cut out, the rest is pre-tokenised, and each piece goes
 * through the model.
 */
#include <string.h>

#include "text/bpe.h"
#include "text/tokenizer_impl.h"
#include "text/unigram.h"

/* Everything one call needs. */
typedef struct encoder {
    const limn_tokenizer *t;
    limn_ids *out;
    limn_pieces pieces, inner;
    limn_bpe_scratch bpe;
    bool added;    /* LIMN_ENCODE_ADDED */
    bool unk_open; /* the last id is an unk that the next unk joins */
    limn_err *err;
} encoder;

/* ---- models ---- */

/* Ids for text that no token covers: bytes, or unk, or nothing. */
static void emit_unknown(encoder *e, const char *s, size_t n) {
    const limn_tokenizer *t = e->t;
    bool bytes = t->byte_fallback;
    for (size_t i = 0; bytes && i < n; i++) bytes = t->byte_id[(unsigned char)s[i]] >= 0;
    if (bytes) {
        for (size_t i = 0; i < n; i++) limn_ids_add(e->out, t->byte_id[(unsigned char)s[i]]);
        e->unk_open = false;
        return;
    }
    if (t->unk < 0) return;
    if (!(t->fuse_unk && e->unk_open)) limn_ids_add(e->out, t->unk);
    e->unk_open = true;
}

static void emit(encoder *e, int32_t id, const char *s, size_t n) {
    if (id < 0) {
        emit_unknown(e, s, n);
        return;
    }
    limn_ids_add(e->out, id);
    e->unk_open = false;
}

/* First symbols of a word: bytes of byte-level models, else characters. */
static void bpe_symbols(encoder *e, const char *s, size_t n) {
    const limn_tokenizer *t = e->t;
    if (t->byte_level) {
        for (size_t i = 0; i < n; i++) {
            bool last = t->suffix && i + 1 == n;
            const int32_t *ids = last ? t->byte_end_id : t->byte_id;
            limn_bpe_add_symbol(&e->bpe, ids[(unsigned char)s[i]], i, 1);
        }
        return;
    }
    char with_suffix[80];
    for (size_t i = 0; i < n;) {
        size_t at = i;
        limn_utf8_next(s, n, &i);
        int32_t id;
        if (i == n && t->suffix && t->suffix_len + 4 < sizeof with_suffix) {
            memcpy(with_suffix, s + at, i - at);
            memcpy(with_suffix + (i - at), t->suffix, t->suffix_len);
            id = limn_vocab_find(&t->vocab, with_suffix, i - at + t->suffix_len);
        } else {
            id = limn_vocab_find(&t->vocab, s + at, i - at);
        }
        limn_bpe_add_symbol(&e->bpe, id, at, i - at);
    }
}

static limn_status encode_bpe(encoder *e, const char *s, size_t n) {
    const limn_tokenizer *t = e->t;
    if (t->ignore_merges) {
        int32_t whole = limn_vocab_find(&t->vocab, s, n);
        if (whole >= 0) {
            emit(e, whole, s, n);
            return LIMN_OK;
        }
    }
    limn_bpe_rules rules = {
        .merges = t->by_score ? NULL : &t->merges, .vocab = &t->vocab, .scores = t->scores};
    e->bpe.n = 0;
    bpe_symbols(e, s, n);
    limn_bpe_merge(&e->bpe, &rules, s);
    if (e->bpe.failed) return limn_fail(e->err, LIMN_E_NOMEM, "no memory to tokenise %zu bytes", n);
    for (int32_t i = e->bpe.n ? 0 : -1; i >= 0; i = e->bpe.symbol[i].next)
        emit(e, e->bpe.symbol[i].id, s + e->bpe.symbol[i].at, e->bpe.symbol[i].len);
    e->unk_open = false; /* unknowns of different words stay apart */
    return LIMN_OK;
}

static limn_status encode_unigram(encoder *e, const char *s, size_t n) {
    const limn_tokenizer *t = e->t;
    limn_unigram u = {.vocab = &t->vocab,
                      .scores = t->scores,
                      .single = t->single_scores,
                      .longest = t->longest,
                      .unk_score = t->unk_score};
    limn_unigram_cut *cuts;
    size_t count;
    limn_status st = limn_unigram_cut_text(&u, &cuts, &count, s, n, e->err);
    if (st != LIMN_OK) return st;
    for (size_t i = 0; i < count; i++)
        emit(e, cuts[i].id, s + cuts[i].begin, cuts[i].end - cuts[i].begin);
    e->unk_open = false;
    limn_mem_free(cuts);
    return LIMN_OK;
}

static limn_status encode_pieces(encoder *e, const limn_pieces *p) {
    limn_status st = LIMN_OK;
    for (size_t i = 0; i < p->n && st == LIMN_OK; i++) {
        const char *s = p->text.data + p->item[i].begin;
        size_t n = p->item[i].end - p->item[i].begin;
        st = e->t->model == LIMN_MODEL_BPE ? encode_bpe(e, s, n) : encode_unigram(e, s, n);
    }
    return st;
}

/* ---- added tokens ---- */

static bool is_word_char(uint32_t cp) {
    return (cp >= '0' && cp <= '9') || (cp >= 'a' && cp <= 'z') || (cp >= 'A' && cp <= 'Z') ||
           cp == '_' || (cp >= 0xAA && !limn_text_is_space(cp));
}

static bool stands_alone(const char *s, size_t n, size_t begin, size_t end) {
    size_t at = begin;
    if (begin > 0) {
        do at--;
        while (at > 0 && ((unsigned char)s[at] & 0xC0) == 0x80);
        if (is_word_char(limn_utf8_next(s, n, &at))) return false;
    }
    return end == n || !is_word_char(limn_utf8_next(s, n, &end));
}

/* The longest of list[0..count), sorted, that begins s + at; NULL. */
static const limn_added_token *added_match(const limn_added_token *list, size_t count,
                                           const char *s, size_t n, size_t at) {
    const limn_added_token *best = NULL;
    size_t lo = 0, hi = count;
    for (size_t k = 0; lo < hi && at + k <= n; k++) {
        if (list[lo].text.len == k && k > 0) {
            best = &list[lo]; /* shorter ones sort first, so this is complete */
            while (lo < hi && list[lo].text.len == k) lo++;
        }
        if (at + k == n) break;
        unsigned char c = (unsigned char)s[at + k];
        /* Narrow to those whose byte k is c. All of [lo, hi) agree on bytes before k. */
        size_t a = lo, b = hi;
        while (a < b) {
            size_t m = (a + b) / 2;
            if ((unsigned char)list[m].text.data[k] < c)
                a = m + 1;
            else
                b = m;
        }
        lo = a;
        b = hi;
        while (a < b) {
            size_t m = (a + b) / 2;
            if ((unsigned char)list[m].text.data[k] <= c)
                a = m + 1;
            else
                b = m;
        }
        hi = a;
    }
    return best;
}

typedef limn_status segment_fn(encoder *e, const char *s, size_t n, bool first);

static size_t skip_space_left(const char *s, size_t from, size_t at) {
    while (at > from) {
        size_t p = at;
        do p--;
        while (p > from && ((unsigned char)s[p] & 0xC0) == 0x80);
        size_t next = p;
        if (!limn_text_is_space(limn_utf8_next(s, at, &next))) break;
        at = p;
    }
    return at;
}

static size_t skip_space_right(const char *s, size_t n, size_t at) {
    while (at < n) {
        size_t next = at;
        if (!limn_text_is_space(limn_utf8_next(s, n, &next))) break;
        at = next;
    }
    return at;
}

/* Cuts the tokens of `list` out of s and gives what lies between to `segment`. */
static limn_status cut_added(encoder *e, const limn_added_token *list, size_t count, const char *s,
                             size_t n, bool first, segment_fn *segment) {
    limn_status st = LIMN_OK;
    bool starts[256] = {0};
    for (size_t i = 0; i < count; i++)
        if (list[i].text.len) starts[(unsigned char)list[i].text.data[0]] = true;
    size_t done = 0;
    for (size_t i = 0; i < n;) {
        const limn_added_token *a =
            starts[(unsigned char)s[i]] ? added_match(list, count, s, n, i) : NULL;
        if (!a || (a->single_word && !stands_alone(s, n, i, i + a->text.len))) {
            i++;
            continue;
        }
        size_t begin = a->lstrip ? skip_space_left(s, done, i) : i;
        size_t end = i + a->text.len;
        if (begin > done) LIMN_TRY(segment(e, s + done, begin - done, first && done == 0));
        limn_ids_add(e->out, a->id);
        e->unk_open = false;
        done = i = a->rstrip ? skip_space_right(s, n, end) : end;
    }
    if (done < n) st = segment(e, s + done, n - done, first && done == 0);
out:
    return st;
}

/* ---- segments ---- */

static limn_status segment_normalized(encoder *e, const char *s, size_t n, bool first) {
    limn_status st;
    limn_pieces_set(&e->inner, s, n);
    LIMN_TRY(limn_text_ops_run(&e->t->pre, &e->inner, first, e->err));
    st = encode_pieces(e, &e->inner);
out:
    return st;
}

static limn_status segment_raw(encoder *e, const char *s, size_t n, bool first) {
    const limn_tokenizer *t = e->t;
    limn_status st;
    limn_pieces_set(&e->pieces, s, n);
    LIMN_TRY(limn_text_ops_run(&t->normalize, &e->pieces, first, e->err));
    if (e->pieces.n == 0) goto out;
    if (e->added && t->n_added > t->n_plain) {
        st = cut_added(e, t->added + t->n_plain, t->n_added - t->n_plain, e->pieces.text.data,
                       e->pieces.text.len, first, segment_normalized);
    } else {
        LIMN_TRY(limn_text_ops_run(&t->pre, &e->pieces, first, e->err));
        st = encode_pieces(e, &e->pieces);
    }
out:
    return st;
}

limn_status limn_tokenizer_encode(const limn_tokenizer *t, limn_ids *out, const char *text,
                                  size_t n, unsigned flags, limn_err *err) {
    limn_status st = LIMN_OK;
    encoder e = {.t = t, .out = out, .added = (flags & LIMN_ENCODE_ADDED) != 0, .err = err};
    limn_buf clean;
    limn_buf_init(&clean, LIMN_TEXT_MAX * 3);
    LIMN_CHECK(err, n <= LIMN_TEXT_MAX, LIMN_E_LIMIT, "text of %zu bytes is too long", n);
    if (limn_utf8_sound(text, n) != n) {
        limn_utf8_clean(&clean, text, n);
        LIMN_CHECK(err, !clean.failed, LIMN_E_NOMEM, "no memory to tokenise %zu bytes", n);
        text = clean.data;
        n = clean.len;
    }
    if ((flags & LIMN_ENCODE_BOS) && t->first_id >= 0) limn_ids_add(out, t->first_id);
    if (n && e.added && t->n_plain)
        LIMN_TRY(cut_added(&e, t->added, t->n_plain, text, n, true, segment_raw));
    else if (n)
        LIMN_TRY(segment_raw(&e, text, n, true));
    if ((flags & LIMN_ENCODE_EOS) && t->last_id >= 0) limn_ids_add(out, t->last_id);
    LIMN_CHECK(err, !out->failed, LIMN_E_LIMIT, "the text has more than %zu tokens", out->limit);
out:
    limn_pieces_deinit(&e.pieces);
    limn_pieces_deinit(&e.inner);
    limn_bpe_scratch_deinit(&e.bpe);
    limn_buf_deinit(&clean);
    return st;
}
