/* SPDX-License-Identifier: MIT */
/* Which bytes of a prompt mean something: for editors that colour it; see prompt.h. */
#include <string.h>

#include "text/prompt_impl.h"

typedef struct spanner {
    const char *s;
    size_t n;
    const uint32_t *match;
    const limn_prompt_options *opt;
    limn_prompt_span *span;
    size_t count, cap;
    uint32_t *open; /* open brackets that have a partner: [depth] */
    size_t depth;
    size_t next_gt;
    bool failed;
} spanner;

static void add(spanner *p, limn_prompt_span_kind kind, size_t begin, size_t end) {
    if (p->failed) return;
    if (p->count == p->cap) {
        size_t cap = p->cap ? p->cap * 2 : 32;
        void *fresh = limn_mem_realloc(p->span, cap * sizeof *p->span);
        if (!fresh) {
            p->failed = true;
            return;
        }
        p->span = fresh;
        p->cap = cap;
    }
    uint16_t depth = p->depth > UINT16_MAX ? UINT16_MAX : (uint16_t)p->depth;
    p->span[p->count++] = (limn_prompt_span){kind, (uint32_t)begin, (uint32_t)end, depth};
}

static size_t keyword_length(const spanner *p, size_t i) {
    const char *s = p->s + i;
    size_t left = p->n - i;
    if (s[0] == 'B' && limn_prompt_word_at(p->s, p->n, i, "BREAK", 5)) return 5;
    if (s[0] == 'A' && limn_prompt_word_at(p->s, p->n, i, "AND", 3)) return 3;
    if (s[0] == '#' && left > 1 && s[1] == '#' && p->opt->hash_breaks) return 2;
    if (s[0] == 'T' && left >= 4 && s[1] == 'E' && s[2] >= '2' && s[2] <= '4' && s[3] == ':' &&
        limn_prompt_word_at(p->s, p->n, i, s, 4))
        return 4;
    return 0;
}

static bool is_comment(const spanner *p, size_t i) {
    return p->opt->comments && p->s[i] == '#' && !(i + 1 < p->n && p->s[i + 1] == '#') &&
           !(i > 0 && p->s[i - 1] == '#');
}

/* A ':' or '|' directly inside a pair; returns where to go on. */
static size_t separator(spanner *p, size_t i) {
    if (p->depth == 0) return i + 1;
    size_t open = p->open[p->depth - 1], close = p->match[open], end = i + 1;
    double number;
    limn_square_form form;
    switch (p->s[open]) {
    case '[':
        limn_prompt_square(&form, p->s, p->match, open);
        if (form.kind == LIMN_SQUARE_TEXT) return i + 1;
        if ((form.kind == LIMN_SQUARE_SCHEDULE) != (p->s[i] == ':')) return i + 1;
        break;
    case '{':
        while (end < close && p->s[end] != '|') end++;
        if (p->s[i] == ':' && !limn_prompt_number(p->s + i + 1, end - i - 1, &number)) return i + 1;
        break;
    default:
        if (p->s[i] == '|' || !limn_prompt_number(p->s + i + 1, close - i - 1, &number))
            return i + 1;
    }
    add(p, LIMN_SPAN_BRACKET, i, i + 1);
    if (p->s[i] == '|') return i + 1;
    end = i + 1;
    while (end < close && p->s[end] != '|' && p->s[end] != ':') end++;
    if (!limn_prompt_number(p->s + i + 1, end - i - 1, &number)) return i + 1;
    add(p, LIMN_SPAN_NUMBER, i + 1, end);
    return end;
}

static size_t bracket(spanner *p, size_t i) {
    if (p->match[i] == LIMN_NO_MATCH) {
        add(p, LIMN_SPAN_STRAY, i, i + 1);
    } else if (p->match[i] > i) {
        add(p, LIMN_SPAN_BRACKET, i, i + 1);
        p->open[p->depth++] = (uint32_t)i;
    } else {
        p->depth--;
        add(p, LIMN_SPAN_BRACKET, i, i + 1);
    }
    return i + 1;
}

static size_t element(spanner *p, size_t i) {
    char c = p->s[i];
    size_t len;
    if (c == '\\' && i + 1 < p->n) {
        if (memchr("()[]{}\\", p->s[i + 1], 7)) add(p, LIMN_SPAN_ESCAPE, i, i + 2);
        return i + 2;
    }
    if (is_comment(p, i)) {
        const char *nl = memchr(p->s + i, '\n', p->n - i);
        size_t end = nl ? (size_t)(nl - p->s) : p->n;
        add(p, LIMN_SPAN_COMMENT, i, end);
        return end;
    }
    if (memchr("()[]{}", c, 6)) return bracket(p, i);
    if (c == ':' || c == '|') return separator(p, i);
    len = limn_prompt_net_at(p->s, p->n, i, &p->next_gt);
    if (len) {
        add(p, LIMN_SPAN_NETWORK, i, i + len);
        return i + len;
    }
    len = limn_prompt_wildcard_at(p->s, p->n, i);
    if (len) {
        add(p, LIMN_SPAN_WILDCARD, i, i + len);
        return i + len;
    }
    len = keyword_length(p, i);
    if (len) {
        add(p, LIMN_SPAN_KEYWORD, i, i + len);
        return i + len;
    }
    return i + 1;
}

/* Brackets inside networks, wildcards and comments are not brackets: blank them before pairing. */
static char *blank_copy(spanner *p) {
    char *copy = limn_mem_strndup(p->s, p->n);
    size_t next_gt = 0;
    for (size_t i = 0; copy && i < p->n;) {
        size_t len = 0;
        if (p->s[i] == '\\' && i + 1 < p->n) {
            i += 2;
            continue;
        }
        if (is_comment(p, i))
            while (i + len < p->n && p->s[i + len] != '\n') len++;
        else
            len = limn_prompt_net_at(p->s, p->n, i, &next_gt);
        memset(copy + i, ' ', len);
        i += len ? len : 1;
    }
    return copy;
}

limn_status limn_prompt_spans(limn_prompt_span **out, size_t *count, const char *text, size_t n,
                              const limn_prompt_options *opt, limn_err *err) {
    limn_status st = LIMN_OK;
    spanner p = {.s = text, .n = n, .opt = opt};
    char *blank = NULL;
    uint32_t *match = NULL;
    *out = NULL;
    *count = 0;
    LIMN_CHECK(err, n <= LIMN_PROMPT_BYTES, LIMN_E_LIMIT,
               "the prompt has %zu bytes, more than %u are not read", n, LIMN_PROMPT_BYTES);
    if (opt->raw || n == 0) goto out;
    blank = blank_copy(&p);
    match = blank ? limn_prompt_match(blank, n, "([{") : NULL;
    p.open = limn_mem_alloc((n + 1) * sizeof *p.open);
    LIMN_CHECK(err, match && p.open, LIMN_E_NOMEM, "no memory to read a prompt");
    p.match = match;
    for (size_t i = 0; i < n;) i = element(&p, i);
    LIMN_CHECK(err, !p.failed, LIMN_E_NOMEM, "no memory to read a prompt");
    *out = p.span;
    *count = p.count;
    p.span = NULL;
out:
    limn_mem_free(p.span);
    limn_mem_free(p.open);
    limn_mem_free(match);
    limn_mem_free(blank);
    return st;
}
