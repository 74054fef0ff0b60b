/* SPDX-License-Identifier: MIT */
/*
 * `pattern` of a JSON Schema: a regular expression becomes the body of a JSON string that matches
 * it. Understood: literals, escapes (\d \w \s and their complements, \n \t \r \f \b \/ \uXXXX),
 * `.`, classes, groups, `|`, quantifiers, ^ at the beginning and $ at the end. As the standard
 * says, a pattern that is not anchored may match anywhere.
 */
#include <string.h>

#include "text/grammar_impl.h"
#include "text/unicode.h"

enum { CLASS_RANGES = 256, REGEX_DEPTH = 32, REPEAT_MAX = 4096 };

typedef struct regex {
    limn_grammar *g;
    const char *s;
    size_t n, at;
    int depth;
    limn_err *err;
} regex;

static limn_status parse_alternatives(regex *r, limn_frag *out);

static limn_status bad(const regex *r, const char *what) {
    return limn_fail(r->err, LIMN_E_UNSUPPORTED, "pattern: %s at byte %zu", what, r->at);
}

/* No regular expression at all. */
static limn_status broken(const regex *r, const char *what) {
    return limn_fail(r->err, LIMN_E_FORMAT, "pattern: %s at byte %zu", what, r->at);
}

/* ---- JSON escaping ---- */

limn_frag limn_g_json_chars(limn_grammar *g, const limn_cp_range *r, size_t n) {
    static const char special[] = "\"\\\b\f\n\r\t", letter[] = "\"\\bfnrt";
    limn_cp_range plain[CLASS_RANGES * 2 + 4], escaped[] = {{0, 0x1F}, {'"', '"'}, {'\\', '\\'}};
    size_t m = 0;
    for (size_t i = 0; i < n && m + 4 < sizeof plain / sizeof plain[0]; i++) {
        /* cut the characters that JSON escapes out of each range */
        uint32_t lo = r[i].lo < 0x20 ? 0x20 : r[i].lo, hi = r[i].hi;
        for (size_t k = 1; k < 3; k++) {
            uint32_t c = escaped[k].lo;
            if (lo > hi || c < lo || c > hi) continue;
            if (c > lo) plain[m++] = (limn_cp_range){lo, c - 1};
            lo = c + 1;
        }
        if (lo <= hi) plain[m++] = (limn_cp_range){lo, hi};
    }
    limn_frag f = limn_g_chars(g, plain, m);
    for (size_t k = 0; k < sizeof letter - 1; k++) {
        uint32_t c = (unsigned char)special[k];
        for (size_t i = 0; i < n; i++) {
            if (c < r[i].lo || c > r[i].hi) continue;
            char text[2] = {'\\', letter[k]};
            f = limn_g_alt(g, f, limn_g_bytes(g, text, 2));
            break;
        }
    }
    return f;
}

/* ---- classes ---- */

typedef struct class_set {
    limn_cp_range r[CLASS_RANGES];
    size_t n;
} class_set;

static bool add(class_set *c, uint32_t lo, uint32_t hi) {
    if (c->n + 8 >= CLASS_RANGES) return false;
    c->r[c->n++] = (limn_cp_range){lo, hi};
    return true;
}

/* \d \w \s and complements; false when `c` names no class. */
static bool add_named(class_set *set, char c) {
    class_set x = {.n = 0};
    char lower = (char)(c | 0x20);
    if (lower == 'd' || lower == 'w') add(&x, '0', '9');
    if (lower == 'w') {
        add(&x, 'a', 'z');
        add(&x, 'A', 'Z');
        add(&x, '_', '_');
    }
    if (lower == 's') {
        add(&x, 9, 13);
        add(&x, ' ', ' ');
    }
    if (x.n == 0) return false;
    x.n = limn_cp_normalize(x.r, x.n, c != lower);
    for (size_t i = 0; i < x.n; i++)
        if (!add(set, x.r[i].lo, x.r[i].hi)) return false;
    return true;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The character after a backslash. */
static limn_status read_escape(regex *r, uint32_t *cp) {
    static const char from[] = "nrtfv0b", to[] = "\n\r\t\f\v\0\b";
    char c = r->s[r->at++];
    const char *hit = c ? strchr(from, c) : NULL;
    if (hit) {
        *cp = (unsigned char)to[hit - from];
    } else if (c == 'u' || c == 'x') {
        size_t digits = c == 'u' ? 4 : 2;
        *cp = 0;
        for (size_t i = 0; i < digits; i++) {
            int d = r->at < r->n ? hex_digit(r->s[r->at++]) : -1;
            if (d < 0) return broken(r, "broken escape");
            *cp = *cp * 16 + (uint32_t)d;
        }
    } else if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '1' && c <= '9')) {
        return bad(r, "unknown escape");
    } else {
        *cp = (unsigned char)c;
    }
    return LIMN_OK;
}

/* One member of a class: a character (true) or a named class that was added (false). */
static limn_status class_member(regex *r, class_set *set, uint32_t *cp, bool *single) {
    *single = true;
    if (r->s[r->at] != '\\') {
        *cp = limn_utf8_next(r->s, r->n, &r->at);
        return LIMN_OK;
    }
    if (++r->at >= r->n) return broken(r, "open escape");
    if (strchr("dDwWsS", r->s[r->at])) {
        *single = false;
        return add_named(set, r->s[r->at++]) ? LIMN_OK : bad(r, "class is too large");
    }
    return read_escape(r, cp);
}

/* After '['. */
static limn_status read_class(regex *r, class_set *set) {
    limn_status st = LIMN_OK;
    bool invert = r->at < r->n && r->s[r->at] == '^';
    r->at += invert;
    set->n = 0;
    for (;;) {
        uint32_t lo, hi;
        bool single;
        if (r->at >= r->n) return broken(r, "open class");
        if (r->s[r->at] == ']') break;
        LIMN_TRY(class_member(r, set, &lo, &single));
        if (!single) continue;
        hi = lo;
        if (r->at + 1 < r->n && r->s[r->at] == '-' && r->s[r->at + 1] != ']') {
            r->at++;
            LIMN_TRY(class_member(r, set, &hi, &single));
            if (!single || hi < lo) return broken(r, "broken range");
        }
        if (!add(set, lo, hi)) return bad(r, "class is too large");
    }
    r->at++;
    set->n = limn_cp_normalize(set->r, set->n, invert);
out:
    return st;
}

/* ---- expressions ---- */

static limn_status parse_group(regex *r, limn_frag *out) {
    if (r->at + 1 < r->n && r->s[r->at] == '?') {
        if (r->s[r->at + 1] != ':') return bad(r, "look-around and flags are not supported");
        r->at += 2;
    }
    if (++r->depth > REGEX_DEPTH) return bad(r, "nested too deep");
    limn_status st = parse_alternatives(r, out);
    if (st != LIMN_OK) return st;
    r->depth--;
    if (r->at >= r->n || r->s[r->at] != ')') return broken(r, "open group");
    r->at++;
    return LIMN_OK;
}

static limn_status parse_atom(regex *r, limn_frag *out) {
    class_set set = {.n = 0};
    limn_status st = LIMN_OK;
    char c = r->s[r->at];
    if (c == '(') {
        r->at++;
        return parse_group(r, out);
    }
    if (strchr("^$*+?{", c)) return bad(r, "unexpected character");
    if (c == '[') {
        r->at++;
        LIMN_TRY(read_class(r, &set));
    } else if (c == '.') {
        r->at++;
        add(&set, '\n', '\n');
        add(&set, '\r', '\r');
        set.n = limn_cp_normalize(set.r, set.n, true);
    } else {
        uint32_t cp;
        bool single;
        LIMN_TRY(class_member(r, &set, &cp, &single));
        if (single) add(&set, cp, cp);
        set.n = limn_cp_normalize(set.r, set.n, false);
    }
    *out = limn_g_json_chars(r->g, set.r, set.n);
out:
    return st;
}

static bool read_number(regex *r, uint32_t *out) {
    size_t digits = 0;
    *out = 0;
    for (; r->at < r->n && r->s[r->at] >= '0' && r->s[r->at] <= '9' && digits < 5; digits++)
        *out = *out * 10 + (uint32_t)(r->s[r->at++] - '0');
    return digits > 0 && *out <= REPEAT_MAX;
}

static limn_status parse_quantifier(regex *r, limn_frag *f) {
    uint32_t min, max;
    char c = r->at < r->n ? r->s[r->at] : 0;
    if (c != '*' && c != '+' && c != '?' && c != '{') return LIMN_OK;
    r->at++;
    min = c == '+';
    max = c == '?' ? 1 : LIMN_NIL;
    if (c == '{') {
        if (!read_number(r, &min)) return bad(r, "broken repetition");
        max = min;
        if (r->at < r->n && r->s[r->at] == ',') {
            r->at++;
            max = LIMN_NIL;
            if (r->at < r->n && r->s[r->at] != '}' && !read_number(r, &max))
                return bad(r, "broken repetition");
        }
        if (r->at >= r->n || r->s[r->at] != '}' || max < min) return bad(r, "broken repetition");
        r->at++;
    }
    if (r->at < r->n && r->s[r->at] == '?') r->at++; /* lazy: the same language */
    *f = limn_g_repeat(r->g, *f, min, max);
    return LIMN_OK;
}

static limn_status parse_sequence(regex *r, limn_frag *out) {
    limn_status st = LIMN_OK;
    limn_frag f = limn_g_empty(r->g);
    while (r->at < r->n && r->s[r->at] != '|' && r->s[r->at] != ')') {
        if (r->s[r->at] == '$' && r->at + 1 == r->n && r->depth == 0) break;
        limn_frag x;
        LIMN_TRY(parse_atom(r, &x));
        LIMN_TRY(parse_quantifier(r, &x));
        f = limn_g_seq(r->g, f, x);
    }
    *out = f;
out:
    return st;
}

static limn_status parse_alternatives(regex *r, limn_frag *out) {
    limn_status st;
    limn_frag f, x;
    LIMN_TRY(parse_sequence(r, &f));
    while (r->at < r->n && r->s[r->at] == '|') {
        r->at++;
        LIMN_TRY(parse_sequence(r, &x));
        f = limn_g_alt(r->g, f, x);
    }
    *out = f;
out:
    return st;
}

static limn_frag anything(limn_grammar *g) {
    static const limn_cp_range all = {0, 0x10FFFF};
    limn_frag c = limn_g_json_chars(g, &all, 1);
    return limn_g_repeat(g, c, 0, LIMN_NIL);
}

limn_status limn_g_json_regex(limn_grammar *g, limn_frag *out, const char *re, size_t n,
                              limn_err *err) {
    regex r = {.g = g, .s = re, .n = n, .err = err};
    limn_status st = LIMN_OK;
    bool front = n > 0 && re[0] == '^';
    limn_frag body, head = {0};
    LIMN_CHECK(err, limn_utf8_sound(re, n) == n, LIMN_E_FORMAT, "pattern is not UTF-8");
    r.at = front;
    if (!front) head = anything(g);
    LIMN_TRY(parse_alternatives(&r, &body));
    bool back = r.at < n && re[r.at] == '$';
    if (r.at + back < n) LIMN_TRY(bad(&r, "unexpected character"));
    /* Of "^a|b$" each side anchors one alternative only; anchoring both is stricter, never wrong.
     */
    if (!front) body = limn_g_seq(g, head, body);
    if (!back) body = limn_g_seq(g, body, anything(g));
    *out = body;
out:
    return st;
}
