/* SPDX-License-Identifier: MIT */
/* GBNF, the grammar notation of llama.cpp (grammars/README.md), as a network; see grammar.h. */
#include <string.h>

#include "text/grammar_impl.h"
#include "text/unicode.h"

enum {
    NAME_MAX_BYTES = 128,
    RULES_MAX = 4096,
    RANGES_MAX = 512,
    GROUP_DEPTH = 64,
    REPEAT_MAX = 4096
};

typedef struct gbnf_name {
    const char *s;
    size_t n;
    uint32_t rule;
    bool defined;
} gbnf_name;

typedef struct gbnf {
    limn_grammar *g;
    const char *s;
    size_t n, at;
    gbnf_name *name;
    size_t n_names;
    int depth;
    limn_err *err;
} gbnf;

static limn_status parse_alternatives(gbnf *p, limn_frag *out);

static limn_status bad(const gbnf *p, const char *what) {
    size_t line = 1;
    for (size_t i = 0; i < p->at && i < p->n; i++) line += p->s[i] == '\n';
    return limn_fail(p->err, LIMN_E_FORMAT, "grammar, line %zu: %s", line, what);
}

static char peek(const gbnf *p) {
    return p->at < p->n ? p->s[p->at] : 0;
}

/* Blanks and comments; line breaks too inside of groups. */
static void skip(gbnf *p, bool lines) {
    for (; p->at < p->n; p->at++) {
        char c = p->s[p->at];
        if (c == '#')
            while (p->at + 1 < p->n && p->s[p->at + 1] != '\n') p->at++;
        else if (c != ' ' && c != '\t' && !(lines && (c == '\n' || c == '\r')))
            return;
    }
}

static bool is_name_char(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
}

static limn_status read_name(gbnf *p, gbnf_name **out) {
    const char *s = p->s + p->at;
    size_t n = 0;
    while (p->at + n < p->n && is_name_char(s[n])) n++;
    if (n == 0 || n > NAME_MAX_BYTES) return bad(p, "expected a name");
    p->at += n;
    for (size_t i = 0; i < p->n_names; i++) {
        if (p->name[i].n != n || memcmp(p->name[i].s, s, n) != 0) continue;
        *out = &p->name[i];
        return LIMN_OK;
    }
    if (p->n_names == RULES_MAX) return limn_fail(p->err, LIMN_E_LIMIT, "too many rules");
    p->name[p->n_names] = (gbnf_name){s, n, limn_g_rule(p->g), false};
    *out = &p->name[p->n_names++];
    return LIMN_OK;
}

/* ---- characters ---- */

static limn_status read_hex(gbnf *p, size_t digits, uint32_t *out) {
    *out = 0;
    for (size_t i = 0; i < digits; i++, p->at++) {
        char c = peek(p), lower = (char)(c | 0x20);
        bool digit = c >= '0' && c <= '9', letter = lower >= 'a' && lower <= 'f';
        if (!digit && !letter) return bad(p, "broken escape");
        *out = *out * 16 + (uint32_t)(digit ? c - '0' : lower - 'a' + 10);
    }
    return *out <= 0x10FFFF ? LIMN_OK : bad(p, "no such character");
}

static limn_status read_char(gbnf *p, uint32_t *cp) {
    static const char from[] = "nrt\\\"[]-^", to[] = "\n\r\t\\\"[]-^";
    if (p->at >= p->n) return bad(p, "the text ends inside of a rule");
    if (p->s[p->at] != '\\') {
        *cp = limn_utf8_next(p->s, p->n, &p->at);
        return LIMN_OK;
    }
    p->at++;
    char c = peek(p);
    p->at++;
    if (c == 'x') return read_hex(p, 2, cp);
    if (c == 'u') return read_hex(p, 4, cp);
    if (c == 'U') return read_hex(p, 8, cp);
    const char *hit = c ? strchr(from, c) : NULL;
    if (!hit) return bad(p, "unknown escape");
    *cp = (unsigned char)to[hit - from];
    return LIMN_OK;
}

static limn_status parse_literal(gbnf *p, limn_frag *out) {
    limn_status st = LIMN_OK;
    limn_frag f = limn_g_empty(p->g);
    for (p->at++; peek(p) != '"';) {
        uint32_t cp;
        char text[4];
        LIMN_TRY(read_char(p, &cp));
        f = limn_g_seq(p->g, f, limn_g_bytes(p->g, text, limn_utf8_put(text, cp)));
    }
    p->at++;
    *out = f;
out:
    return st;
}

static limn_status parse_class(gbnf *p, limn_frag *out) {
    limn_status st = LIMN_OK;
    limn_cp_range r[RANGES_MAX + 1];
    size_t n = 0;
    p->at++;
    bool invert = peek(p) == '^';
    p->at += invert;
    while (peek(p) != ']') {
        if (n == RANGES_MAX) return bad(p, "class is too large");
        LIMN_TRY(read_char(p, &r[n].lo));
        r[n].hi = r[n].lo;
        if (peek(p) == '-' && p->at + 1 < p->n && p->s[p->at + 1] != ']') {
            p->at++;
            LIMN_TRY(read_char(p, &r[n].hi));
            if (r[n].hi < r[n].lo) return bad(p, "broken range");
        }
        n++;
    }
    p->at++;
    n = limn_cp_normalize(r, n, invert);
    *out = limn_g_chars(p->g, r, n);
out:
    return st;
}

/* ---- expressions ---- */

static limn_status parse_item(gbnf *p, limn_frag *out) {
    static const limn_cp_range all = {0, 0x10FFFF};
    gbnf_name *name;
    limn_status st = LIMN_OK;
    switch (peek(p)) {
    case '"': return parse_literal(p, out);
    case '[': return parse_class(p, out);
    case '.':
        p->at++;
        *out = limn_g_chars(p->g, &all, 1);
        return LIMN_OK;
    case '(':
        p->at++;
        if (++p->depth > GROUP_DEPTH) return bad(p, "nested too deep");
        st = parse_alternatives(p, out);
        if (st != LIMN_OK) return st;
        if (peek(p) != ')') return bad(p, "open group");
        p->at++;
        p->depth--;
        return LIMN_OK;
    default:
        st = read_name(p, &name);
        if (st == LIMN_OK) *out = limn_g_call(p->g, name->rule);
        return st;
    }
}

static bool read_number(gbnf *p, uint32_t *out) {
    size_t digits = 0;
    *out = 0;
    for (; peek(p) >= '0' && peek(p) <= '9' && digits < 5; digits++, p->at++)
        *out = *out * 10 + (uint32_t)(peek(p) - '0');
    return digits > 0 && *out <= REPEAT_MAX;
}

static limn_status parse_repeat(gbnf *p, limn_frag *f) {
    uint32_t min = 0, max = LIMN_NIL;
    char c = peek(p);
    if (c != '*' && c != '+' && c != '?' && c != '{') return LIMN_OK;
    p->at++;
    if (c == '+') min = 1;
    if (c == '?') max = 1;
    if (c == '{') {
        skip(p, false);
        if (!read_number(p, &min)) return bad(p, "broken repetition");
        max = min;
        skip(p, false);
        if (peek(p) == ',') {
            p->at++;
            skip(p, false);
            max = LIMN_NIL;
            if (peek(p) != '}' && !read_number(p, &max)) return bad(p, "broken repetition");
            skip(p, false);
        }
        if (peek(p) != '}' || max < min) return bad(p, "broken repetition");
        p->at++;
    }
    *f = limn_g_repeat(p->g, *f, min, max);
    return LIMN_OK;
}

static limn_status parse_sequence(gbnf *p, limn_frag *out) {
    limn_status st = LIMN_OK;
    limn_frag f = limn_g_empty(p->g);
    for (;;) {
        skip(p, p->depth > 0);
        char c = peek(p);
        if (c == 0 || c == '|' || c == ')' || c == '\n' || c == '\r') break;
        limn_frag x;
        LIMN_TRY(parse_item(p, &x));
        LIMN_TRY(parse_repeat(p, &x));
        f = limn_g_seq(p->g, f, x);
    }
    *out = f;
out:
    return st;
}

/* A rule goes on in the next line when that begins with '|'. */
static bool at_bar(gbnf *p) {
    size_t back = p->at;
    skip(p, true);
    if (peek(p) == '|') return true;
    p->at = back;
    return false;
}

static limn_status parse_alternatives(gbnf *p, limn_frag *out) {
    limn_status st;
    limn_frag f, x;
    skip(p, true);
    LIMN_TRY(parse_sequence(p, &f));
    while (at_bar(p)) {
        p->at++;
        skip(p, true);
        LIMN_TRY(parse_sequence(p, &x));
        f = limn_g_alt(p->g, f, x);
    }
    *out = f;
out:
    return st;
}

static limn_status parse_rule(gbnf *p) {
    limn_status st;
    gbnf_name *name;
    limn_frag f;
    LIMN_TRY(read_name(p, &name));
    if (name->defined) return bad(p, "a rule is defined twice");
    skip(p, false);
    if (p->n - p->at < 3 || memcmp(p->s + p->at, "::=", 3) != 0) return bad(p, "expected ::=");
    p->at += 3;
    LIMN_TRY(parse_alternatives(p, &f));
    if (peek(p) != 0 && peek(p) != '\n' && peek(p) != '\r') return bad(p, "unexpected character");
    limn_g_define(p->g, name->rule, f);
    name->defined = true;
    st = limn_g_check(p->g, p->err);
out:
    return st;
}

static limn_status parse_rules(gbnf *p) {
    limn_status st = LIMN_OK;
    bool root = false;
    for (skip(p, true); p->at < p->n; skip(p, true)) LIMN_TRY(parse_rule(p));
    for (size_t i = 0; i < p->n_names; i++) {
        const gbnf_name *x = &p->name[i];
        LIMN_CHECK(p->err, x->defined, LIMN_E_FORMAT, "grammar: rule \"%.*s\" is not defined",
                   (int)x->n, x->s);
        if (x->n != 4 || memcmp(x->s, "root", 4) != 0) continue;
        p->g->root = x->rule;
        root = true;
    }
    LIMN_CHECK(p->err, root, LIMN_E_FORMAT, "grammar: there is no rule \"root\"");
out:
    return st;
}

limn_status limn_grammar_parse(limn_grammar **out, const char *text, size_t n, limn_err *err) {
    limn_status st;
    gbnf p = {.s = text, .n = n, .err = err};
    LIMN_CHECK(err, n <= LIMN_GRAMMAR_BYTES, LIMN_E_LIMIT, "a grammar of %zu bytes is too long", n);
    LIMN_CHECK(err, limn_utf8_sound(text, n) == n && !memchr(text, 0, n), LIMN_E_FORMAT,
               "the grammar is not UTF-8 text");
    p.g = limn_grammar_new();
    p.name = limn_mem_alloc(RULES_MAX * sizeof *p.name);
    LIMN_CHECK(err, p.g && p.name, LIMN_E_NOMEM, "no memory for a grammar");
    LIMN_TRY(parse_rules(&p));
    *out = p.g;
    p.g = NULL;
out:
    limn_grammar_free(&p.g);
    limn_mem_free(p.name);
    return st;
}
