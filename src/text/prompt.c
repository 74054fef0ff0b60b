/* SPDX-License-Identifier: MIT */
/*
 * A prompt from text to schedule; see prompt.h. Scheduling brackets are parsed into a tree once;
 * the text of a step is a walk over it. Semantics: A1111 modules/prompt_parser.py
 * (get_learned_conditioning_prompt_schedules, get_multicond_prompt_list).
 */
#include "text/prompt.h"

#include <math.h>
#include <string.h>

#include "text/prompt_impl.h"
#include "text/unicode.h"

enum { VARIANT_BYTES = 16 << 20 /* all texts of one prompt together */ };

typedef struct prompt_owner {
    limn_prompt prompt; /* first: the caller's pointer */
    limn_arena arena;
} prompt_owner;

/* ---- the schedule tree ---- */

typedef struct node node;
struct node {
    node *next;
    limn_square kind;
    uint32_t begin, end; /* LIMN_SQUARE_TEXT: bytes of the text */
    node **child;        /* SCHEDULE: before, after; ALTERNATE: n_child lists */
    size_t n_child;
    int when; /* SCHEDULE: `before` while step <= when, 1-based */
};

typedef struct scheduler {
    const char *s;
    const uint32_t *match;
    const limn_prompt_options *opt;
    limn_arena *arena;
    bool *boundary; /* [steps + 1]: a text ends after this step, 1-based */
    bool alternates;
    limn_err *err;
} scheduler;

static limn_status parse_list(scheduler *p, node **out, size_t begin, size_t end, int depth);

/* The step after which a schedule changes. A number with a point is a share of the steps. */
static int read_when(const scheduler *p, size_t begin, size_t end) {
    const limn_prompt_options *o = p->opt;
    double v = 0;
    limn_prompt_number(p->s + begin, end - begin, &v);
    bool share = memchr(p->s + begin, '.', end - begin) != NULL;
    if (share)
        v = (v - (o->first_pass ? 1 : 0)) * o->steps;
    else
        v -= o->first_pass;
    if (v > o->steps) v = o->steps;
    return v < -1 ? -1 : (int)v;
}

static node *new_node(scheduler *p, limn_square kind, size_t children) {
    node *x = limn_arena_alloc(p->arena, sizeof *x);
    if (!x) return NULL;
    x->kind = kind;
    x->n_child = children;
    x->child = children ? limn_arena_alloc(p->arena, children * sizeof *x->child) : NULL;
    return children && !x->child ? NULL : x;
}

static limn_status parse_square(scheduler *p, node **out, const limn_square_form *f, size_t open,
                                int depth) {
    limn_status st = LIMN_OK;
    size_t close = p->match[open], begin = open + 1;
    bool alternate = f->kind == LIMN_SQUARE_ALTERNATE;
    node *x = new_node(p, f->kind, alternate ? f->n_cut + 1 : 2);
    LIMN_CHECK(p->err, x, LIMN_E_NOMEM, "no memory to parse a prompt");
    if (alternate) {
        p->alternates = true;
        for (size_t i = 0; i <= f->n_cut; i++) {
            size_t end = i < f->n_cut ? f->cut[i] : close;
            LIMN_TRY(parse_list(p, &x->child[i], begin, end, depth + 1));
            begin = end + 1;
        }
    } else {
        size_t last = f->cut[f->n_cut - 1];
        x->when = read_when(p, last + 1, close);
        if (x->when >= 1) p->boundary[x->when] = true;
        if (f->n_cut == 2) {
            LIMN_TRY(parse_list(p, &x->child[0], begin, f->cut[0], depth + 1));
            begin = f->cut[0] + 1;
        }
        LIMN_TRY(parse_list(p, &x->child[1], begin, last, depth + 1));
    }
    *out = x;
out:
    return st;
}

static limn_status parse_list(scheduler *p, node **out, size_t begin, size_t end, int depth) {
    limn_status st = LIMN_OK;
    node **tail = out;
    size_t text = begin;
    *out = NULL;
    LIMN_CHECK(p->err, depth <= LIMN_PROMPT_DEPTH, LIMN_E_LIMIT,
               "the prompt's brackets are nested deeper than %d", LIMN_PROMPT_DEPTH);
    for (size_t i = begin; i <= end; i++) {
        limn_square_form form = {.kind = LIMN_SQUARE_TEXT};
        if (i < end && p->s[i] == '[' && p->match[i] != LIMN_NO_MATCH && p->match[i] < end)
            limn_prompt_square(&form, p->s, p->match, i);
        if (i < end && form.kind == LIMN_SQUARE_TEXT) continue;
        if (i > text) {
            node *t = new_node(p, LIMN_SQUARE_TEXT, 0);
            LIMN_CHECK(p->err, t, LIMN_E_NOMEM, "no memory to parse a prompt");
            t->begin = (uint32_t)text;
            t->end = (uint32_t)i;
            *tail = t;
            tail = &t->next;
        }
        if (i == end) break;
        LIMN_TRY(parse_square(p, tail, &form, i, depth));
        tail = &(*tail)->next;
        i = p->match[i];
        text = i + 1;
    }
out:
    return st;
}

static void print_list(const scheduler *p, limn_buf *out, const node *x, int step) {
    for (; x; x = x->next) {
        if (x->kind == LIMN_SQUARE_TEXT)
            limn_buf_add(out, p->s + x->begin, x->end - x->begin);
        else if (x->kind == LIMN_SQUARE_SCHEDULE)
            print_list(p, out, x->child[step <= x->when ? 0 : 1], step);
        else
            print_list(p, out, x->child[(size_t)(step - 1) % x->n_child], step);
    }
}

/* ---- variants ---- */

/* Text for one encoder after another: "a TE2: b" -> {"a", "b"}. */
static limn_prompt_variant split_encoders(limn_arena *arena, const char *s, size_t n) {
    limn_prompt_variant v = {{NULL}};
    size_t begin = 0, encoder = 0;
    for (size_t i = 0; i <= n; i++) {
        bool mark = i < n && n - i >= 4 && s[i] == 'T' && s[i + 1] == 'E' && s[i + 2] >= '2' &&
                    s[i + 2] <= '4' && s[i + 3] == ':' && limn_prompt_word_at(s, n, i, s + i, 4);
        if (i < n && !mark) continue;
        size_t from = begin, to = i;
        bool more = encoder > 0 || mark; /* a plain prompt keeps its outer spaces */
        while (more && from < to && (s[from] == ' ' || s[from] == '\n')) from++;
        while (more && to > from && (s[to - 1] == ' ' || s[to - 1] == '\n')) to--;
        v.encoder[encoder] = limn_arena_strndup(arena, s + from, to - from);
        if (mark) {
            encoder = (size_t)(s[i + 2] - '1');
            i += 3;
            begin = i + 1;
        }
    }
    return v;
}

static uint64_t hash_text(const char *s, size_t n) {
    uint64_t h = 0xCBF29CE484222325u;
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)s[i]) * 0x100000001B3u;
    return h;
}

typedef struct text_set {
    char **text; /* [n] */
    uint64_t *hash;
    size_t n;
    size_t bytes;
} text_set;

/* Number of the text in the set, added when new; SIZE_MAX: no memory. */
static size_t set_add(text_set *set, limn_arena *arena, const limn_buf *b) {
    const char *s = limn_buf_text(b);
    uint64_t h = hash_text(s, b->len);
    for (size_t i = set->n; i-- > 0;)
        if (set->hash[i] == h && strcmp(set->text[i], s) == 0) return i;
    set->text[set->n] = limn_arena_strndup(arena, s, b->len);
    if (!set->text[set->n]) return SIZE_MAX;
    set->hash[set->n] = h;
    return set->n++;
}

static limn_status fill_ranges(scheduler *p, const node *tree, limn_prompt_part *part,
                               text_set *set) {
    limn_status st = LIMN_OK;
    int steps = p->opt->steps;
    size_t n = 0;
    limn_buf text;
    limn_buf_init(&text, LIMN_PROMPT_BYTES * 2);
    limn_prompt_range *range = limn_arena_alloc(p->arena, (size_t)steps * sizeof *range);
    LIMN_CHECK(p->err, range, LIMN_E_NOMEM, "no memory to parse a prompt");
    for (int step = 1, from = 0; step <= steps; step++) {
        if (!p->alternates && !p->boundary[step] && step < steps) continue;
        limn_buf_clear(&text);
        print_list(p, &text, tree, step);
        set->bytes += text.len + 64;
        LIMN_CHECK(p->err, set->bytes <= VARIANT_BYTES && !text.failed, LIMN_E_LIMIT,
                   "the prompt's schedule makes more than %d MiB of text", VARIANT_BYTES >> 20);
        size_t v = set_add(set, p->arena, &text);
        LIMN_CHECK(p->err, v != SIZE_MAX, LIMN_E_NOMEM, "no memory to parse a prompt");
        if (n && range[n - 1].variant == v)
            range[n - 1].to = step;
        else
            range[n++] = (limn_prompt_range){from, step, (uint32_t)v};
        from = step;
    }
    part->ranges = range;
    part->n_ranges = n;
out:
    limn_buf_deinit(&text);
    return st;
}

/* One part of an AND composition, s[0..n). */
static limn_status make_part(limn_arena *arena, limn_prompt_part *part, const char *s, size_t n,
                             const limn_prompt_options *opt, limn_err *err) {
    limn_status st = LIMN_OK;
    size_t steps = (size_t)opt->steps;
    text_set set = {0};
    node *tree = NULL;
    uint32_t *match = limn_prompt_match(s, n, "([");
    scheduler p = {.s = s, .match = match, .opt = opt, .arena = arena, .err = err};
    p.boundary = limn_mem_calloc(steps + 1, sizeof *p.boundary);
    set.text = limn_mem_calloc(steps, sizeof *set.text);
    set.hash = limn_mem_calloc(steps, sizeof *set.hash);
    LIMN_CHECK(err, match && p.boundary && set.text && set.hash, LIMN_E_NOMEM,
               "no memory to parse a prompt");
    LIMN_TRY(parse_list(&p, &tree, 0, n, 0));
    LIMN_TRY(fill_ranges(&p, tree, part, &set));
    limn_prompt_variant *variant = limn_arena_alloc(arena, set.n * sizeof *variant);
    LIMN_CHECK(err, variant, LIMN_E_NOMEM, "no memory to parse a prompt");
    for (size_t i = 0; i < set.n; i++)
        variant[i] = split_encoders(arena, set.text[i], strlen(set.text[i]));
    part->variants = variant;
    part->n_variants = set.n;
    LIMN_CHECK(err, !arena->failed, LIMN_E_NOMEM, "no memory to parse a prompt");
out:
    limn_mem_free(match);
    limn_mem_free(p.boundary);
    limn_mem_free(set.text);
    limn_mem_free(set.hash);
    return st;
}

/* ---- AND ---- */

/* "text :0.5" -> weight; returns the length without it. Only parts of an AND have one. */
static size_t read_weight(const char *s, size_t n, float *weight) {
    double v;
    size_t colon = n;
    while (colon > 0 && n - colon < 40 && s[colon - 1] != ':') colon--;
    if (colon == 0 || s[colon - 1] != ':' || !limn_prompt_number(s + colon, n - colon, &v))
        return n;
    *weight = (float)v;
    n = colon - 1;
    while (n && (s[n - 1] == ' ' || s[n - 1] == '\n' || s[n - 1] == '\t')) n--;
    return n;
}

enum { PARTS_MAX = 64 };

static limn_status make_parts(prompt_owner *o, const char *s, size_t n,
                              const limn_prompt_options *opt, limn_err *err) {
    limn_status st = LIMN_OK;
    limn_prompt_part part[PARTS_MAX] = {{0}};
    size_t count = 0, begin = 0;
    for (size_t i = 0; i <= n; i++) {
        bool cut = !opt->raw && i < n && s[i] == 'A' && limn_prompt_word_at(s, n, i, "AND", 3);
        if (i < n && !cut) continue;
        LIMN_CHECK(err, count < PARTS_MAX, LIMN_E_LIMIT, "more than %d parts joined by AND",
                   PARTS_MAX);
        limn_prompt_part *to = &part[count];
        to->weight = 1.0f;
        size_t len = i - begin;
        if (cut || count) len = read_weight(s + begin, len, &to->weight);
        LIMN_TRY(make_part(&o->arena, to, s + begin, len, opt, err));
        count++;
        if (cut) i += 2;
        begin = i + 1;
    }
    limn_prompt_part *copy = limn_arena_alloc(&o->arena, count * sizeof *copy);
    LIMN_CHECK(err, copy, LIMN_E_NOMEM, "no memory to parse a prompt");
    memcpy(copy, part, count * sizeof *copy);
    o->prompt.parts = copy;
    o->prompt.n_parts = count;
out:
    return st;
}

/* ---- line-wise preparation ---- */

/* Drops "# ..." comments; "##" is none. */
static void drop_comments(limn_buf *out, const char *s, size_t n) {
    for (size_t i = 0; i < n; i++) {
        bool comment =
            s[i] == '#' && !(i + 1 < n && s[i + 1] == '#') && !(i > 0 && s[i - 1] == '#');
        if (!comment) {
            limn_buf_addc(out, s[i]);
            continue;
        }
        while (i < n && s[i] != '\n') i++;
        if (i < n) limn_buf_addc(out, '\n');
    }
}

/* "##" and line breaks become BREAK, one for a run of them, none at the ends. */
static void mark_breaks(limn_buf *out, const char *s, size_t n, const limn_prompt_options *opt) {
    bool pending = false, any = false;
    for (size_t i = 0; i < n; i++) {
        bool line = opt->line_breaks && (s[i] == '\n' || s[i] == '\r');
        bool hash = opt->hash_breaks && s[i] == '#' && i + 1 < n && s[i + 1] == '#';
        if (line || hash) {
            pending = any;
            i += hash;
            continue;
        }
        if (pending && (s[i] == ' ' || s[i] == '\t')) continue;
        if (pending) limn_buf_adds(out, " BREAK ");
        pending = false;
        any = any || (s[i] != ' ' && s[i] != '\t');
        limn_buf_addc(out, s[i]);
    }
}

static limn_status prepare(prompt_owner *o, limn_buf *body, const char *text, size_t n,
                           const limn_prompt_options *opt, limn_err *err) {
    limn_status st = LIMN_OK;
    limn_buf plain, expanded, bare;
    limn_buf_init(&plain, LIMN_PROMPT_BYTES);
    limn_buf_init(&expanded, LIMN_PROMPT_BYTES);
    limn_buf_init(&bare, LIMN_PROMPT_BYTES);
    if (opt->comments)
        drop_comments(&plain, text, n);
    else
        limn_buf_add(&plain, text, n);
    LIMN_CHECK(err, !plain.failed, LIMN_E_NOMEM, "no memory to parse a prompt");
    LIMN_TRY(limn_prompt_expand(&expanded, limn_buf_text(&plain), plain.len, opt, err));
    o->prompt.expanded = limn_arena_strndup(&o->arena, limn_buf_text(&expanded), expanded.len);
    LIMN_CHECK(err, o->prompt.expanded, LIMN_E_NOMEM, "no memory to parse a prompt");
    limn_prompt_net *nets = NULL;
    LIMN_TRY(limn_prompt_take_nets(&bare, &nets, &o->prompt.n_nets, &o->arena, o->prompt.expanded,
                                   expanded.len, err));
    o->prompt.nets = nets;
    mark_breaks(body, limn_buf_text(&bare), bare.len, opt);
    LIMN_CHECK(err, !body->failed, LIMN_E_LIMIT, "the prompt has too many breaks");
out:
    limn_buf_deinit(&plain);
    limn_buf_deinit(&expanded);
    limn_buf_deinit(&bare);
    return st;
}

static limn_status make_raw(prompt_owner *o, const char *text, size_t n,
                            const limn_prompt_options *opt, limn_err *err) {
    limn_prompt_part *part = limn_arena_alloc(&o->arena, sizeof *part);
    limn_prompt_range *range = limn_arena_alloc(&o->arena, sizeof *range);
    limn_prompt_variant *variant = limn_arena_alloc(&o->arena, sizeof *variant);
    char *copy = limn_arena_strndup(&o->arena, text, n);
    if (!part || !range || !variant || !copy)
        return limn_fail(err, LIMN_E_NOMEM, "no memory to parse a prompt");
    variant->encoder[0] = copy;
    *range = (limn_prompt_range){0, opt->steps, 0};
    *part = (limn_prompt_part){1.0f, range, 1, variant, 1};
    o->prompt.expanded = copy;
    o->prompt.parts = part;
    o->prompt.n_parts = 1;
    return LIMN_OK;
}

limn_status limn_prompt_parse(limn_prompt **out, const char *text, size_t n,
                              const limn_prompt_options *opt, limn_err *err) {
    limn_status st = LIMN_OK;
    prompt_owner *o = NULL;
    limn_buf body;
    limn_buf_init(&body, LIMN_PROMPT_BYTES * 2);
    LIMN_CHECK(err, opt->steps >= 1 && opt->steps <= LIMN_PROMPT_STEPS, LIMN_E_VALUE,
               "steps: %d is outside 1..%d", opt->steps, LIMN_PROMPT_STEPS);
    LIMN_CHECK(err, opt->first_pass >= 0 && opt->first_pass <= LIMN_PROMPT_STEPS, LIMN_E_VALUE,
               "first_pass: %d is outside 0..%d", opt->first_pass, LIMN_PROMPT_STEPS);
    LIMN_CHECK(err, n <= LIMN_PROMPT_BYTES, LIMN_E_LIMIT,
               "the prompt has %zu bytes, more than %u are not read", n, LIMN_PROMPT_BYTES);
    LIMN_CHECK(err, !memchr(text, 0, n) && limn_utf8_sound(text, n) == n, LIMN_E_VALUE,
               "the prompt is not UTF-8 text");
    o = limn_mem_calloc(1, sizeof *o);
    LIMN_CHECK(err, o, LIMN_E_NOMEM, "no memory to parse a prompt");
    limn_arena_init(&o->arena);
    if (opt->raw) {
        LIMN_TRY(make_raw(o, text, n, opt, err));
    } else {
        LIMN_TRY(prepare(o, &body, text, n, opt, err));
        LIMN_TRY(make_parts(o, limn_buf_text(&body), body.len, opt, err));
    }
    *out = &o->prompt;
    o = NULL;
out:
    if (o) {
        limn_prompt *p = &o->prompt;
        limn_prompt_free(&p);
    }
    limn_buf_deinit(&body);
    return st;
}

void limn_prompt_free(limn_prompt **prompt) {
    prompt_owner *o = (prompt_owner *)*prompt;
    if (!o) return;
    limn_arena_deinit(&o->arena);
    limn_mem_free(o);
    *prompt = NULL;
}
