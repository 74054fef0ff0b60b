/* SPDX-License-Identifier: MIT */
/* Normalisers and pre-tokenizers; see pretok.h. */
#include "text/pretok.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <string.h>

struct limn_pattern {
    pcre2_general_context *memory;
    pcre2_code *re; /* NULL: literal */
    char *literal;
    size_t literal_len;
};

/* ---- patterns ---- */

static void *re_alloc(size_t n, void *user) {
    return limn_mem_alloc(n);
}

static void re_free(void *p, void *user) {
    limn_mem_free(p);
}

/* Spellings that PCRE2 would accept with another meaning than Oniguruma's. */
static const char *foreign_syntax(const char *text, size_t n) {
    for (size_t i = 0; i + 1 < n; i++) {
        if (text[i] == '&' && text[i + 1] == '&') return "&&";
        if (text[i] == '[' && text[i + 1] == '[' && (i + 2 == n || text[i + 2] != ':')) return "[[";
        if (text[i] != '\\') continue;
        if (text[i + 1] == 'h') return "\\h";
        i++;
    }
    return NULL;
}

static limn_status regex_compile(limn_pattern *p, const char *text, size_t n, limn_err *err) {
    int code = 0;
    PCRE2_SIZE at = 0;
    const char *foreign = foreign_syntax(text, n);
    if (foreign)
        return limn_fail(err, LIMN_E_UNSUPPORTED, "expression uses %s, which limn cannot match",
                         foreign);
    p->memory = pcre2_general_context_create(re_alloc, re_free, NULL);
    pcre2_compile_context *cc = p->memory ? pcre2_compile_context_create(p->memory) : NULL;
    if (!cc) return limn_fail(err, LIMN_E_NOMEM, "no memory for an expression");
    pcre2_set_parens_nest_limit(cc, 64);
    /* $ and . as Oniguruma's Ruby syntax has them would differ; no known tokenizer uses them. */
    p->re = pcre2_compile((PCRE2_SPTR)text, n, PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C,
                          &code, &at, cc);
    pcre2_compile_context_free(cc);
    if (!p->re) {
        PCRE2_UCHAR why[128] = "";
        pcre2_get_error_message(code, why, sizeof why);
        return limn_fail(err, LIMN_E_FORMAT, "expression does not compile at byte %zu: %s",
                         (size_t)at, (const char *)why);
    }
    /* Without JIT (not built in, no memory) the interpreter does the same more slowly. */
    pcre2_jit_compile(p->re, PCRE2_JIT_COMPLETE);
    return LIMN_OK;
}

limn_status limn_pattern_new(limn_pattern **out, const char *text, size_t n, bool regex,
                             limn_err *err) {
    limn_status st = LIMN_OK;
    limn_pattern *p = limn_mem_calloc(1, sizeof *p);
    LIMN_CHECK(err, p, LIMN_E_NOMEM, "no memory for an expression");
    LIMN_CHECK(err, n > 0 && n <= 65536, LIMN_E_FORMAT, "expression of %zu bytes", n);
    if (regex) {
        LIMN_TRY(regex_compile(p, text, n, err));
    } else {
        p->literal = limn_mem_strndup(text, n);
        p->literal_len = n;
        LIMN_CHECK(err, p->literal, LIMN_E_NOMEM, "no memory for an expression");
    }
    *out = p;
    p = NULL;
out:
    limn_pattern_free(&p);
    return st;
}

void limn_pattern_free(limn_pattern **pattern) {
    limn_pattern *p = *pattern;
    if (!p) return;
    pcre2_code_free(p->re);
    pcre2_general_context_free(p->memory);
    limn_mem_free(p->literal);
    limn_mem_free(p);
    *pattern = NULL;
}

/* A search through one text. */
typedef struct finder {
    const limn_pattern *pattern;
    const char *s; /* what is matched: the text or its shadow */
    size_t n, at;
    pcre2_match_data *data;
    pcre2_match_context *limits;
} finder;

static limn_status finder_init(finder *f, const limn_pattern *p, limn_err *err) {
    *f = (finder){.pattern = p};
    if (!p->re) return LIMN_OK;
    f->data = pcre2_match_data_create_from_pattern(p->re, p->memory);
    f->limits = pcre2_match_context_create(p->memory);
    if (!f->data || !f->limits) return limn_fail(err, LIMN_E_NOMEM, "no memory to match");
    pcre2_set_match_limit(f->limits, 10000000);
    pcre2_set_heap_limit(f->limits, 256u << 10); /* KiB */
    return LIMN_OK;
}

static void finder_deinit(finder *f) {
    pcre2_match_data_free(f->data);
    pcre2_match_context_free(f->limits);
}

/* The next match in [*begin, *end); *found false at the end. Empty matches are passed over. */
static limn_status finder_next(finder *f, size_t *begin, size_t *end, bool *found, limn_err *err) {
    *found = false;
    if (!f->pattern->re) {
        const char *hit =
            memmem(f->s + f->at, f->n - f->at, f->pattern->literal, f->pattern->literal_len);
        if (!hit) return LIMN_OK;
        *begin = (size_t)(hit - f->s);
        *end = f->at = *begin + f->pattern->literal_len;
        *found = true;
        return LIMN_OK;
    }
    while (f->at <= f->n) {
        uint32_t flags = PCRE2_NO_UTF_CHECK;
        int rc =
            pcre2_match(f->pattern->re, (PCRE2_SPTR)f->s, f->n, f->at, flags, f->data, f->limits);
        if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
            rc = pcre2_match(f->pattern->re, (PCRE2_SPTR)f->s, f->n, f->at, flags | PCRE2_NO_JIT,
                             f->data, f->limits);
        if (rc == PCRE2_ERROR_NOMATCH) return LIMN_OK;
        if (rc == PCRE2_ERROR_NOMEMORY) return limn_fail(err, LIMN_E_NOMEM, "no memory to match");
        if (rc < 0)
            return limn_fail(err, LIMN_E_LIMIT,
                             "the tokenizer's expression cannot split this text "
                             "(regex error %d)",
                             rc);
        const PCRE2_SIZE *v = pcre2_get_ovector_pointer(f->data);
        if (v[1] > v[0]) {
            *begin = v[0];
            *end = f->at = v[1];
            *found = true;
            return LIMN_OK;
        }
        f->at = v[1];
        if (f->at >= f->n) return LIMN_OK;
        limn_utf8_next(f->s, f->n, &f->at);
    }
    return LIMN_OK;
}

/* ---- pieces ---- */

void limn_pieces_deinit(limn_pieces *p) {
    limn_buf_deinit(&p->text);
    limn_mem_free(p->item);
    *p = (limn_pieces){0};
}

static void pieces_add(limn_pieces *p, size_t begin, size_t end) {
    if (p->failed || begin >= end) return;
    if (p->n == p->cap) {
        size_t cap = p->cap ? p->cap * 2 : 64;
        void *fresh = limn_mem_realloc(p->item, cap * sizeof *p->item);
        if (!fresh) {
            p->failed = true;
            return;
        }
        p->item = fresh;
        p->cap = cap;
    }
    p->item[p->n++] = (limn_piece){(uint32_t)begin, (uint32_t)end};
}

void limn_pieces_set(limn_pieces *p, const char *s, size_t n) {
    if (!p->text.limit) limn_buf_init(&p->text, LIMN_TEXT_MAX * 3);
    limn_buf_clear(&p->text);
    p->n = 0;
    limn_buf_add(&p->text, s, n);
    pieces_add(p, 0, n);
}

/* ---- operations ---- */

limn_status limn_text_ops_add(limn_text_ops *ops, limn_text_op op, limn_err *err) {
    if (ops->n < LIMN_TEXT_OPS_MAX) {
        ops->op[ops->n++] = op;
        return LIMN_OK;
    }
    limn_text_ops one = {.op[0] = op, .n = 1};
    limn_text_ops_deinit(&one);
    return limn_fail(err, LIMN_E_LIMIT, "more than %d text operations", LIMN_TEXT_OPS_MAX);
}

void limn_text_ops_deinit(limn_text_ops *ops) {
    for (size_t i = 0; i < ops->n; i++) {
        limn_pattern_free(&ops->op[i].pattern);
        limn_mem_free(ops->op[i].text);
        limn_charsmap_free(&ops->op[i].map);
    }
    ops->n = 0;
}

static limn_status apply_replace(const limn_text_op *op, limn_buf *out, const char *s, size_t n,
                                 limn_err *err) {
    limn_status st = LIMN_OK;
    finder f;
    limn_buf shadow;
    limn_buf_init(&shadow, LIMN_TEXT_MAX * 3);
    LIMN_TRY(finder_init(&f, op->pattern, err));
    f.s = op->pattern->re && limn_text_class_shadow(&shadow, s, n) ? shadow.data : s;
    f.n = n;
    LIMN_CHECK(err, !shadow.failed, LIMN_E_NOMEM, "no memory to replace text");
    size_t done = 0, begin, end;
    for (bool found;; done = end) {
        LIMN_TRY(finder_next(&f, &begin, &end, &found, err));
        if (!found) break;
        limn_buf_add(out, s + done, begin - done);
        limn_buf_add(out, op->text, op->text_len);
    }
    limn_buf_add(out, s + done, n - done);
out:
    finder_deinit(&f);
    limn_buf_deinit(&shadow);
    return st;
}

static void apply_strip(const limn_text_op *op, limn_buf *out, const char *s, size_t n) {
    size_t begin = 0, end = n;
    while (op->left && begin < n) {
        size_t next = begin;
        if (!limn_text_is_space(limn_utf8_next(s, n, &next))) break;
        begin = next;
    }
    while (op->right && end > begin) {
        size_t at = end - 1, next;
        while (at > begin && ((unsigned char)s[at] & 0xC0) == 0x80) at--;
        next = at;
        if (!limn_text_is_space(limn_utf8_next(s, end, &next))) break;
        end = at;
    }
    limn_buf_add(out, s + begin, end - begin);
}

static void apply_squeeze(limn_buf *out, const char *s, size_t n) {
    bool pending = false, any = false;
    for (size_t i = 0; i < n; i++) {
        if (s[i] == ' ') {
            pending = any;
            continue;
        }
        if (pending) limn_buf_addc(out, ' ');
        pending = false;
        any = true;
        limn_buf_addc(out, s[i]);
    }
}

static void apply_metaspace(const limn_text_op *op, limn_buf *out, const char *s, size_t n,
                            bool first) {
    bool wanted = op->scheme == LIMN_PREPEND_ALWAYS || (op->scheme == LIMN_PREPEND_FIRST && first);
    bool has = n && (s[0] == ' ' || (n >= op->text_len && !memcmp(s, op->text, op->text_len)));
    if (wanted && !has) limn_buf_add(out, op->text, op->text_len);
    for (size_t i = 0; i < n; i++) {
        if (s[i] == ' ')
            limn_buf_add(out, op->text, op->text_len);
        else
            limn_buf_addc(out, s[i]);
    }
}

static limn_status apply_op(const limn_text_op *op, limn_buf *out, const char *s, size_t n,
                            bool first, limn_err *err) {
    size_t zero = 0;
    switch (op->kind) {
    case LIMN_OP_NORMAL_FORM: limn_text_normalize(out, s, n, op->form); break;
    case LIMN_OP_LOWER: limn_text_lower(out, s, n); break;
    case LIMN_OP_REPLACE: return apply_replace(op, out, s, n, err);
    case LIMN_OP_PREPEND:
        if (n) limn_buf_add(out, op->text, op->text_len);
        limn_buf_add(out, s, n);
        break;
    case LIMN_OP_STRIP: apply_strip(op, out, s, n); break;
    case LIMN_OP_CHARSMAP: limn_charsmap_apply(op->map, out, s, n); break;
    case LIMN_OP_SQUEEZE: apply_squeeze(out, s, n); break;
    case LIMN_OP_PREFIX_SPACE:
        if (n && !limn_text_is_space(limn_utf8_next(s, n, &zero))) limn_buf_addc(out, ' ');
        limn_buf_add(out, s, n);
        break;
    case LIMN_OP_METASPACE: apply_metaspace(op, out, s, n, first); break;
    case LIMN_OP_SPLIT: break;
    }
    return LIMN_OK;
}

/* Rewrites every piece into a fresh text. */
static limn_status run_rewrite(const limn_text_op *op, limn_pieces *p, bool first, limn_err *err) {
    limn_status st = LIMN_OK;
    limn_buf out;
    limn_buf_init(&out, LIMN_TEXT_MAX * 3);
    size_t kept = 0;
    for (size_t i = 0; i < p->n; i++) {
        limn_piece in = p->item[i];
        size_t begin = out.len;
        LIMN_TRY(
            apply_op(op, &out, p->text.data + in.begin, in.end - in.begin, first && i == 0, err));
        if (out.len > begin) p->item[kept++] = (limn_piece){(uint32_t)begin, (uint32_t)out.len};
    }
    LIMN_CHECK(err, !out.failed, LIMN_E_NOMEM, "no memory to normalise text");
    p->n = kept;
    limn_buf old = p->text;
    p->text = out;
    out = old;
out:
    limn_buf_deinit(&out);
    return st;
}

/* Cuts one piece; `hit` tells whether a stretch is a match (after inversion). */
typedef struct cutter {
    const limn_text_op *op;
    limn_pieces *out;
    size_t open; /* start of a piece that is not closed yet */
    bool has_open, last_hit;
} cutter;

static void cut_stretch(cutter *c, size_t begin, size_t end, bool hit) {
    if (begin >= end) return;
    switch (c->op->behavior) {
    case LIMN_SPLIT_ISOLATED: pieces_add(c->out, begin, end); break;
    case LIMN_SPLIT_REMOVED:
        if (!hit) pieces_add(c->out, begin, end);
        break;
    case LIMN_SPLIT_MERGE_PREVIOUS:
        if (!c->has_open) c->open = begin;
        c->has_open = !hit;
        if (hit) pieces_add(c->out, c->open, end);
        break;
    case LIMN_SPLIT_MERGE_NEXT:
        if (hit && c->has_open) pieces_add(c->out, c->open, begin);
        if (hit || !c->has_open) c->open = begin;
        c->has_open = true;
        break;
    case LIMN_SPLIT_CONTIGUOUS:
        if (c->has_open && hit != c->last_hit) pieces_add(c->out, c->open, begin);
        if (!c->has_open || hit != c->last_hit) c->open = begin;
        c->has_open = true;
        break;
    }
    c->last_hit = hit;
}

static limn_status run_split(const limn_text_op *op, limn_pieces *p, limn_err *err) {
    limn_status st = LIMN_OK;
    limn_pieces out = {0};
    limn_buf shadow;
    finder f;
    limn_buf_init(&shadow, LIMN_TEXT_MAX * 3);
    LIMN_TRY(finder_init(&f, op->pattern, err));
    const char *text = p->text.data;
    if (op->pattern->re && p->n && limn_text_class_shadow(&shadow, text, p->text.len))
        text = shadow.data;
    LIMN_CHECK(err, !shadow.failed, LIMN_E_NOMEM, "no memory to split text");
    for (size_t i = 0; i < p->n; i++) {
        size_t base = p->item[i].begin, end = p->item[i].end, done = base, b, e;
        cutter c = {.op = op, .out = &out};
        f.s = text + base;
        f.n = end - base;
        f.at = 0;
        for (bool found;; done = base + e) {
            LIMN_TRY(finder_next(&f, &b, &e, &found, err));
            if (!found) break;
            cut_stretch(&c, done, base + b, op->invert);
            cut_stretch(&c, base + b, base + e, !op->invert);
        }
        cut_stretch(&c, done, end, op->invert);
        if (c.has_open) pieces_add(&out, c.open, end);
    }
    LIMN_CHECK(err, !out.failed, LIMN_E_NOMEM, "no memory to split text");
    limn_mem_free(p->item);
    p->item = out.item;
    p->n = out.n;
    p->cap = out.cap;
    out.item = NULL;
out:
    limn_mem_free(out.item);
    finder_deinit(&f);
    limn_buf_deinit(&shadow);
    return st;
}

limn_status limn_text_ops_run(const limn_text_ops *ops, limn_pieces *p, bool first, limn_err *err) {
    limn_status st = LIMN_OK;
    LIMN_CHECK(err, !p->failed && !p->text.failed, LIMN_E_NOMEM, "no memory for text");
    for (size_t i = 0; i < ops->n && p->n; i++) {
        const limn_text_op *op = &ops->op[i];
        if (op->kind == LIMN_OP_SPLIT)
            LIMN_TRY(run_split(op, p, err));
        else
            LIMN_TRY(run_rewrite(op, p, first, err));
    }
out:
    return st;
}
