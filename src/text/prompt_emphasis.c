/* SPDX-License-Identifier: MIT */
/*
 * Emphasis: text -> weighted pieces, as A1111's parse_prompt_attention does it (modules/
 * prompt_parser.py), with two differences: BREAK inside brackets stays a break, and consecutive
 * breaks are not glued together.
 */
#include <string.h>

#include "text/prompt_impl.h"

/* Weights are doubles until the end, so that equal products of A1111 are equal here too. */
typedef struct weighted {
    const char *text; /* NULL: BREAK */
    size_t len;
    double weight;
} weighted;

typedef struct emphasis {
    limn_arena *arena;
    weighted *piece;
    size_t n, cap;
    size_t round[LIMN_PROMPT_DEPTH], square[LIMN_PROMPT_DEPTH]; /* first piece inside */
    size_t n_round, n_square;
    bool failed;
} emphasis;

static const double round_factor = 1.1;

static void add(emphasis *e, const char *text, size_t len) {
    if (e->n == e->cap) {
        size_t cap = e->cap ? e->cap * 2 : 32;
        void *p = limn_mem_realloc(e->piece, cap * sizeof *e->piece);
        if (!p) {
            e->failed = true;
            return;
        }
        e->piece = p;
        e->cap = cap;
    }
    e->piece[e->n++] = (weighted){text, len, 1.0};
}

static void multiply(emphasis *e, size_t from, double factor) {
    for (size_t i = from; i < e->n; i++) e->piece[i].weight *= factor;
}

static bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Plain text, cut at BREAK; white space around BREAK goes away. */
static void add_text(emphasis *e, const char *s, size_t n) {
    size_t done = 0;
    for (size_t i = 0; i + 5 <= n; i++) {
        if (s[i] != 'B' || !limn_prompt_word_at(s, n, i, "BREAK", 5)) continue;
        size_t end = i;
        while (end > done && is_space(s[end - 1])) end--;
        if (end > done) add(e, s + done, end - done);
        add(e, NULL, 0);
        i += 5;
        while (i < n && is_space(s[i])) i++;
        done = i;
        if (i) i--;
    }
    if (done < n) add(e, s + done, n - done);
}

/* Length of ":1.3)" at s, 0: none; *weight is its number. */
static size_t weight_close(const char *s, size_t n, double *weight) {
    size_t i = 1;
    while (i < n && is_space(s[i])) i++;
    size_t begin = i;
    if (i < n && (s[i] == '+' || s[i] == '-')) i++;
    while (i < n && (s[i] == '.' || (s[i] >= '0' && s[i] <= '9'))) i++;
    size_t end = i;
    while (i < n && is_space(s[i])) i++;
    if (i >= n || s[i] != ')' || !limn_prompt_number(s + begin, end - begin, weight)) return 0;
    return i + 1;
}

static size_t plain_length(const char *s, size_t n) {
    size_t i = 0;
    while (i < n && !memchr("\\()[]:", s[i], 6)) i++;
    return i;
}

/* One lexical element at s; returns its length, 0 when the nesting is too deep. */
static size_t step(emphasis *e, const char *s, size_t n) {
    double weight;
    size_t len;
    switch (s[0]) {
    case '\\':
        if (n > 1 && memchr("()[]\\", s[1], 5)) {
            add(e, s + 1, 1);
            return 2;
        }
        return 1; /* a lone backslash vanishes */
    case '(':
        if (e->n_round == LIMN_PROMPT_DEPTH) return 0;
        e->round[e->n_round++] = e->n;
        return 1;
    case '[':
        if (e->n_square == LIMN_PROMPT_DEPTH) return 0;
        e->square[e->n_square++] = e->n;
        return 1;
    case ')':
        if (e->n_round)
            multiply(e, e->round[--e->n_round], round_factor);
        else
            add(e, s, 1);
        return 1;
    case ']':
        if (e->n_square)
            multiply(e, e->square[--e->n_square], 1.0 / round_factor);
        else
            add(e, s, 1);
        return 1;
    case ':':
        len = weight_close(s, n, &weight);
        if (len && e->n_round)
            multiply(e, e->round[--e->n_round], weight);
        else
            add(e, s, len ? len : 1);
        return len ? len : 1;
    default:
        len = plain_length(s, n);
        add_text(e, s, len);
        return len;
    }
}

/* Joins neighbours of equal weight; pieces become NUL-terminated copies in the arena. */
static size_t merge(emphasis *e, limn_prompt_piece *to) {
    size_t kept = 0;
    for (size_t i = 0; i < e->n && !e->failed;) {
        size_t j = i + 1, len = e->piece[i].len;
        while (e->piece[i].text && j < e->n && e->piece[j].text &&
               e->piece[j].weight == e->piece[i].weight)
            len += e->piece[j++].len;
        limn_prompt_piece out = {e->piece[i].text, 0, (float)e->piece[i].weight};
        if (out.text) {
            char *copy = limn_arena_alloc(e->arena, len + 1);
            if (!copy) {
                e->failed = true;
                break;
            }
            out.text = copy;
            out.len = len;
            for (; i < j; i++) {
                memcpy(copy, e->piece[i].text, e->piece[i].len);
                copy += e->piece[i].len;
            }
        } else {
            out.weight = 1.0f;
        }
        to[kept++] = out;
        i = j;
    }
    return kept;
}

limn_status limn_prompt_emphasis(limn_prompt_piece **out, size_t *count, limn_arena *arena,
                                 const char *text, size_t n, limn_err *err) {
    limn_status st = LIMN_OK;
    emphasis e = {.arena = arena};
    LIMN_CHECK(err, n <= LIMN_PROMPT_BYTES * 4, LIMN_E_LIMIT, "prompt of %zu bytes is too long", n);
    for (size_t i = 0; i < n && !e.failed;) {
        size_t used = step(&e, text + i, n - i);
        LIMN_CHECK(err, used, LIMN_E_LIMIT, "the prompt's brackets are nested deeper than %d",
                   LIMN_PROMPT_DEPTH);
        i += used;
    }
    while (e.n_round) multiply(&e, e.round[--e.n_round], round_factor);
    while (e.n_square) multiply(&e, e.square[--e.n_square], 1.0 / round_factor);
    if (e.n == 0) add(&e, "", 0);
    *out = e.failed ? NULL : limn_arena_alloc(arena, e.n * sizeof **out);
    *count = *out ? merge(&e, *out) : 0;
    LIMN_CHECK(err, !e.failed && *out, LIMN_E_NOMEM, "no memory to parse a prompt");
out:
    limn_mem_free(e.piece);
    return st;
}
