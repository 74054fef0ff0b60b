/* SPDX-License-Identifier: MIT */
/* Making a tokenizer: the parts that all loaders share, and the facts; see tokenizer.h. */
#include "text/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fsmap.h"
#include "text/tokenizer_impl.h"
#include "text/unigram.h"

const char limn_gpt2_regex[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+"
                               "|\\s+(?!\\S)|\\s+";

static limn_text_view view_of(const char *s) {
    return (limn_text_view){s, strlen(s)};
}

limn_status limn_tokenizer_start(limn_tokenizer **out, limn_err *err) {
    limn_tokenizer *t = limn_mem_calloc(1, sizeof *t);
    if (!t) return limn_fail(err, LIMN_E_NOMEM, "no memory for a tokenizer");
    limn_arena_init(&t->arena);
    limn_vocab_init(&t->vocab);
    t->bos = t->eos = t->pad = t->unk = t->first_id = t->last_id = -1;
    for (int i = 0; i < 256; i++) t->byte_id[i] = t->byte_end_id[i] = -1;
    *out = t;
    return LIMN_OK;
}

void limn_tokenizer_free(limn_tokenizer **tokenizer) {
    limn_tokenizer *t = *tokenizer;
    if (!t) return;
    limn_vocab_deinit(&t->vocab);
    limn_merges_deinit(&t->merges);
    limn_text_ops_deinit(&t->normalize);
    limn_text_ops_deinit(&t->pre);
    limn_mem_free(t->scores);
    limn_mem_free(t->added);
    limn_mem_free(t->out);
    limn_mem_free(t->kind);
    limn_arena_deinit(&t->arena);
    limn_mem_free(t);
    *tokenizer = NULL;
}

/* ---- the byte alphabet of GPT-2 ---- */

/* Byte-level files spell bytes 33..126, 161..172, 174..255 as themselves and the other 68 as
 * U+0100 upwards, in order. */
static int byte_of_char(uint32_t cp) {
    if ((cp >= 33 && cp <= 126) || (cp >= 161 && cp <= 172) || (cp >= 174 && cp <= 255))
        return (int)cp;
    if (cp < 0x100 || cp > 0x143) return -1;
    uint32_t k = cp - 0x100; /* the k-th of 0..32, 127..160, 173 */
    if (k <= 32) return (int)k;
    if (k <= 66) return (int)(127 + k - 33);
    return 173;
}

/* Bytes of a byte-level spelling; false when a character is outside the alphabet. */
static bool spell_to_bytes(limn_buf *out, const char *s, size_t n) {
    for (size_t i = 0; i < n;) {
        int b = byte_of_char(limn_utf8_next(s, n, &i));
        if (b < 0) return false;
        limn_buf_addc(out, (char)b);
    }
    return true;
}

enum { SHORT = 120 };

/* The same for most spellings, without the heap: their number, -1 when it has to go the other way.
 */
static ptrdiff_t spell_short(char raw[SHORT], const char *s, size_t n) {
    ptrdiff_t len = 0;
    if (n > SHORT) return -1;
    for (size_t i = 0; i < n;) {
        int b = (unsigned char)s[i] < 0x80 ? byte_of_char((unsigned char)s[i++])
                                           : byte_of_char(limn_utf8_next(s, n, &i));
        if (b < 0) return -1;
        raw[len++] = (char)b;
    }
    return len;
}

/* As the vocabulary keeps a spelling; false when it has bytes that no token has. */
static bool spell_or_copy(limn_buf *out, const limn_tokenizer *t, limn_text_view v) {
    if (t->byte_level) return spell_to_bytes(out, v.data, v.len);
    limn_buf_add(out, v.data, v.len);
    return true;
}

limn_status limn_tokenizer_add_token(limn_tokenizer *t, int32_t id, const char *s, size_t n,
                                     bool findable, limn_err *err) {
    char small[SHORT];
    if (n > (1u << 16))
        return limn_fail(err, LIMN_E_FORMAT, "token %ld has %zu bytes", (long)id, n);
    if (!t->byte_level) return limn_vocab_add(&t->vocab, id, s, n, findable, err);
    ptrdiff_t len = spell_short(small, s, n);
    if (len >= 0) return limn_vocab_add(&t->vocab, id, small, (size_t)len, findable, err);
    limn_buf raw;
    limn_buf_init(&raw, 1u << 20);
    bool mapped = spell_to_bytes(&raw, s, n);
    limn_status st = LIMN_OK;
    if (raw.failed)
        st = limn_fail(err, LIMN_E_NOMEM, "no memory for a vocabulary");
    else if (mapped)
        st = limn_vocab_add(&t->vocab, id, limn_buf_text(&raw), raw.len, findable, err);
    else /* an added token inside the vocabulary: it has bytes, but no text leads to it */
        st = limn_vocab_add(&t->vocab, id, s, n, false, err);
    limn_buf_deinit(&raw);
    return st;
}

int32_t limn_tokenizer_model_find(const limn_tokenizer *t, const char *s, size_t n) {
    if (!t->byte_level) return limn_vocab_find(&t->vocab, s, n);
    char raw[256];
    size_t len = 0;
    for (size_t i = 0; i < n;) {
        int b = byte_of_char(limn_utf8_next(s, n, &i));
        if (b < 0) return -1;
        if (len == sizeof raw) { /* longer than any usual token: take the slow way */
            limn_buf buf;
            limn_buf_init(&buf, 1u << 20);
            spell_to_bytes(&buf, s, n);
            int32_t id = buf.failed ? -1 : limn_vocab_find(&t->vocab, buf.data, buf.len);
            limn_buf_deinit(&buf);
            return id;
        }
        raw[len++] = (char)b;
    }
    return limn_vocab_find(&t->vocab, raw, len);
}

limn_status limn_tokenizer_start_merges(limn_tokenizer *t, size_t n, limn_err *err) {
    bool plain = t->byte_level && !t->suffix && !t->by_score && !t->vocab.repeats;
    return plain ? limn_merges_start_cuts(&t->merges, n, err)
                 : limn_merges_reserve(&t->merges, n, err);
}

static limn_status bad_merge(limn_text_view left, limn_text_view right, uint32_t rank,
                             limn_err *err) {
    int a = (int)(left.len < 64 ? left.len : 64), b = (int)(right.len < 64 ? right.len : 64);
    return limn_fail(err, LIMN_E_FORMAT,
                     "merge %u joins \"%.*s\" and \"%.*s\", but there is no such token: the merges "
                     "belong to another vocabulary",
                     rank, a, left.data, b, right.data);
}

limn_status limn_tokenizer_add_merge(limn_tokenizer *t, limn_text_view left, limn_text_view right,
                                     uint32_t rank, limn_err *err) {
    limn_status st = LIMN_OK;
    limn_buf both; /* as the vocabulary has it */
    char small[256];
    limn_buf_init(&both, 1u << 18);
    if (left.len > (1u << 16) || right.len > (1u << 16))
        return limn_fail(err, LIMN_E_FORMAT, "merge %u is too long", rank);
    ptrdiff_t cut = t->byte_level ? spell_short(small, left.data, left.len) : -1, n = -1;
    if (cut >= 0) n = spell_short(small + cut, right.data, right.len);
    const char *raw = small;
    if (n < 0) { /* long, not of bytes, or not byte-level */
        bool known = spell_or_copy(&both, t, left);
        cut = (ptrdiff_t)both.len;
        known = known && spell_or_copy(&both, t, right);
        LIMN_CHECK(err, !both.failed, LIMN_E_NOMEM, "no memory for merges");
        if (!known) {
            st = bad_merge(left, right, rank, err);
            goto out;
        }
        n = (ptrdiff_t)both.len - cut;
        raw = limn_buf_text(&both);
    }
    size_t l = (size_t)cut, all = (size_t)(cut + n);
    if (t->merges.cut) {
        if (limn_merges_add_cut(&t->merges, &t->vocab, raw, l, all)) goto out;
        LIMN_TRY(limn_merges_leave_cuts(&t->merges, &t->vocab, err));
    }
    limn_merge m = {.left = limn_vocab_find(&t->vocab, raw, l),
                    .right = limn_vocab_find(&t->vocab, raw + l, (size_t)n),
                    .id = limn_vocab_find(&t->vocab, raw, all),
                    .rank = rank};
    if (m.left < 0 || m.right < 0 || m.id < 0)
        st = bad_merge(left, right, rank, err);
    else
        limn_merges_add(&t->merges, &m);
out:
    limn_buf_deinit(&both);
    return st;
}

limn_status limn_tokenizer_add_merge_line(limn_tokenizer *t, limn_text_view line, uint32_t rank,
                                          limn_err *err) {
    const char *sp = line.len > 2 ? memchr(line.data + 1, ' ', line.len - 2) : NULL;
    if (!sp) return limn_fail(err, LIMN_E_FORMAT, "merge %u has no two parts", rank);
    size_t left = (size_t)(sp - line.data);
    return limn_tokenizer_add_merge(t, (limn_text_view){line.data, left},
                                    (limn_text_view){sp + 1, line.len - left - 1}, rank, err);
}

limn_status limn_tokenizer_add_added(limn_tokenizer *t, const limn_added_token *a, limn_err *err) {
    if (a->shown.len == 0 || a->shown.len > 65536)
        return limn_fail(err, LIMN_E_FORMAT, "added token %ld has %zu bytes", (long)a->id,
                         a->shown.len);
    bool known = a->id >= 0 && (size_t)a->id < t->vocab.n && t->vocab.item[a->id].data;
    limn_status st =
        known ? LIMN_OK : limn_vocab_add(&t->vocab, a->id, a->shown.data, a->shown.len, false, err);
    if (st != LIMN_OK) return st;
    if (t->n_added == t->cap_added) {
        size_t cap = t->cap_added ? t->cap_added * 2 : 32;
        void *p = limn_mem_realloc(t->added, cap * sizeof *t->added);
        if (!p) return limn_fail(err, LIMN_E_NOMEM, "no memory for added tokens");
        t->added = p;
        t->cap_added = cap;
    }
    limn_added_token *to = &t->added[t->n_added];
    *to = *a;
    char *copy = limn_arena_strndup(&t->arena, a->shown.data, a->shown.len);
    if (!copy) return limn_fail(err, LIMN_E_NOMEM, "no memory for added tokens");
    to->shown = to->text = (limn_text_view){copy, a->shown.len};
    t->n_added++;
    return LIMN_OK;
}

/* ---- operations ---- */

limn_status limn_ops_add_simple(limn_text_ops *ops, limn_text_op_kind kind, limn_err *err) {
    return limn_text_ops_add(ops, (limn_text_op){.kind = kind}, err);
}

limn_status limn_ops_add_form(limn_text_ops *ops, limn_normal_form form, limn_err *err) {
    return limn_text_ops_add(ops, (limn_text_op){.kind = LIMN_OP_NORMAL_FORM, .form = form}, err);
}

limn_status limn_ops_add_split(limn_text_ops *ops, const char *regex, limn_split_behavior behavior,
                               bool invert, limn_err *err) {
    limn_text_op op = {.kind = LIMN_OP_SPLIT, .behavior = behavior, .invert = invert};
    limn_status st = limn_pattern_new(&op.pattern, regex, strlen(regex), true, err);
    return st == LIMN_OK ? limn_text_ops_add(ops, op, err) : st;
}

limn_status limn_ops_add_replace(limn_text_ops *ops, limn_text_view pattern, bool regex,
                                 limn_text_view text, limn_err *err) {
    limn_text_op op = {.kind = LIMN_OP_REPLACE, .text_len = text.len};
    limn_status st = limn_pattern_new(&op.pattern, pattern.data, pattern.len, regex, err);
    if (st != LIMN_OK) return st;
    op.text = limn_mem_strndup(text.data, text.len);
    if (!op.text) {
        limn_pattern_free(&op.pattern);
        return limn_fail(err, LIMN_E_NOMEM, "no memory for a normaliser");
    }
    return limn_text_ops_add(ops, op, err);
}

limn_status limn_ops_add_text(limn_text_ops *ops, limn_text_op_kind kind,
                              limn_prepend_scheme scheme, limn_text_view text, limn_err *err) {
    limn_text_op op = {.kind = kind, .scheme = scheme, .text_len = text.len};
    op.text = limn_mem_strndup(text.data, text.len);
    if (!op.text) return limn_fail(err, LIMN_E_NOMEM, "no memory for a normaliser");
    return limn_text_ops_add(ops, op, err);
}

/* transformers models/clip/tokenization_clip.py: NFC, white space to one space, lower case; words
 * are what the expression matches. */
limn_status limn_tokenizer_set_clip(limn_tokenizer *t, limn_err *err) {
    static const char words[] = "'s|'t|'re|'ve|'m|'ll|'d|[\\p{L}]+|[\\p{N}]|[^\\s\\p{L}\\p{N}]+";
    limn_status st;
    LIMN_TRY(limn_ops_add_form(&t->normalize, LIMN_NFC, err));
    LIMN_TRY(limn_ops_add_replace(&t->normalize, view_of("\\s+"), true, view_of(" "), err));
    LIMN_TRY(limn_ops_add_simple(&t->normalize, LIMN_OP_LOWER, err));
    LIMN_TRY(limn_ops_add_split(&t->pre, words, LIMN_SPLIT_REMOVED, true, err));
out:
    return st;
}

/* ---- finishing ---- */

static int added_order(const void *a, const void *b) {
    const limn_added_token *x = a, *y = b;
    if (x->normalized != y->normalized) return x->normalized ? 1 : -1;
    size_t n = x->text.len < y->text.len ? x->text.len : y->text.len;
    int c = memcmp(x->text.data, y->text.data, n);
    if (c) return c;
    return x->text.len < y->text.len ? -1 : x->text.len > y->text.len;
}

/* Tokens that are matched after normalisation are normalised like the text. */
static limn_status finish_added(limn_tokenizer *t, limn_err *err) {
    limn_status st = LIMN_OK;
    limn_pieces p = {0};
    for (size_t i = 0; i < t->n_added; i++) {
        limn_added_token *a = &t->added[i];
        t->n_plain += !a->normalized;
        if (!a->normalized || t->normalize.n == 0) continue;
        limn_pieces_set(&p, a->text.data, a->text.len);
        LIMN_TRY(limn_text_ops_run(&t->normalize, &p, true, err));
        a->text = (limn_text_view){
            limn_arena_strndup(&t->arena, limn_buf_text(&p.text), p.text.len), p.text.len};
        LIMN_CHECK(err, a->text.data, LIMN_E_NOMEM, "no memory for added tokens");
    }
    if (t->n_added) qsort(t->added, t->n_added, sizeof *t->added, added_order);
out:
    limn_pieces_deinit(&p);
    return st;
}

/* The byte of "<0x41>", -1 when the spelling is another. */
static int byte_spelling(limn_text_view v) {
    static const char digits[] = "0123456789ABCDEF";
    if (v.len != 6 || memcmp(v.data, "<0x", 3) != 0 || v.data[5] != '>') return -1;
    const char *hi = memchr(digits, v.data[3], 16), *lo = memchr(digits, v.data[4], 16);
    return hi && lo ? (int)((hi - digits) * 16 + (lo - digits)) : -1;
}

static void finish_bytes(limn_tokenizer *t) {
    for (int b = 0; b < 256; b++) {
        char raw[64] = {(char)b};
        if (t->byte_level) {
            t->byte_id[b] = limn_vocab_find(&t->vocab, raw, 1);
            if (t->suffix && t->suffix_len < sizeof raw) {
                memcpy(raw + 1, t->suffix, t->suffix_len);
                t->byte_end_id[b] = limn_vocab_find(&t->vocab, raw, 1 + t->suffix_len);
            }
        }
    }
    if (t->byte_level || !t->byte_fallback) return;
    for (size_t i = 0; i < t->vocab.n; i++) {
        int b = byte_spelling(limn_vocab_bytes(&t->vocab, (int32_t)i));
        if (b >= 0 && t->byte_id[b] < 0) t->byte_id[b] = (int32_t)i;
    }
}

/* What a token prints in the middle of a text. */
static limn_status finish_token(limn_tokenizer *t, int32_t id, limn_err *err) {
    limn_text_view v = limn_vocab_bytes(&t->vocab, id);
    int byte = t->byte_fallback && !t->byte_level ? byte_spelling(v) : -1;
    bool suffixed = t->suffix && v.len >= t->suffix_len &&
                    !memcmp(v.data + v.len - t->suffix_len, t->suffix, t->suffix_len);
    if (byte < 0 && !suffixed && !(t->space && memmem(v.data, v.len, t->space, strlen(t->space)))) {
        t->out[id] = v;
        return LIMN_OK;
    }
    limn_buf b;
    limn_buf_init(&b, 1u << 20);
    if (byte >= 0) {
        limn_buf_addc(&b, (char)byte);
    } else {
        size_t end = suffixed ? v.len - t->suffix_len : v.len, sp = t->space ? strlen(t->space) : 0;
        for (size_t i = 0; i < end;) {
            bool hit = sp && end - i >= sp && !memcmp(v.data + i, t->space, sp);
            limn_buf_addc(&b, hit ? ' ' : v.data[i]);
            i += hit ? sp : 1;
        }
        if (suffixed) limn_buf_addc(&b, ' ');
    }
    char *copy = limn_arena_strndup(&t->arena, limn_buf_text(&b), b.len);
    t->out[id] = (limn_text_view){copy, b.len};
    bool failed = b.failed || !copy;
    limn_buf_deinit(&b);
    return failed ? limn_fail(err, LIMN_E_NOMEM, "no memory for a tokenizer") : LIMN_OK;
}

static limn_status finish_scores(limn_tokenizer *t, limn_err *err) {
    if (!t->scores) {
        if (t->model != LIMN_MODEL_UNIGRAM && !t->by_score) return LIMN_OK;
        return limn_fail(err, LIMN_E_FORMAT, "the tokenizer has no scores");
    }
    double low = 0;
    for (size_t i = 0; i < t->vocab.n; i++) {
        double s = t->scores[i];
        if (!(s > -1e30f && s < 1e30f))
            return limn_fail(err, LIMN_E_FORMAT, "score of token %zu is no number", i);
        low = s < low ? s : low;
    }
    t->unk_score = t->single_scores ? (double)(float)(low - 10.0) : low - 10.0;
    if (t->model == LIMN_MODEL_UNIGRAM && t->longest > LIMN_UNIGRAM_TOKEN_MAX)
        return limn_fail(err, LIMN_E_LIMIT, "a token has %zu bytes, more than %d", t->longest,
                         LIMN_UNIGRAM_TOKEN_MAX);
    return LIMN_OK;
}

limn_status limn_tokenizer_finish(limn_tokenizer *t, limn_err *err) {
    limn_status st = LIMN_OK;
    size_t n = t->vocab.n;
    LIMN_CHECK(err, n > 0, LIMN_E_FORMAT, "the vocabulary is empty");
    t->out = limn_mem_calloc(n, sizeof *t->out);
    t->kind = limn_mem_calloc(n, 1);
    LIMN_CHECK(err, t->out && t->kind, LIMN_E_NOMEM, "no memory for a tokenizer");
    LIMN_TRY(finish_added(t, err));
    finish_bytes(t);
    for (size_t i = 0; i < n; i++) {
        size_t len = limn_vocab_bytes(&t->vocab, (int32_t)i).len;
        t->longest = len > t->longest ? len : t->longest;
        LIMN_TRY(finish_token(t, (int32_t)i, err));
    }
    LIMN_TRY(finish_scores(t, err));
    for (size_t i = 0; i < t->n_added; i++) {
        const limn_added_token *a = &t->added[i];
        t->kind[a->id] = LIMN_TOKEN_ADDED | (a->special ? LIMN_TOKEN_SPECIAL : 0);
        t->out[a->id] = a->shown;
    }
    const int32_t ids[] = {t->bos, t->eos, t->pad, t->unk, t->first_id, t->last_id};
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++)
        LIMN_CHECK(err, ids[i] < (int32_t)n, LIMN_E_FORMAT, "token id %ld is not in the vocabulary",
                   (long)ids[i]);
out:
    return st;
}

/* ---- facts ---- */

size_t limn_tokenizer_count(const limn_tokenizer *t) {
    return t->vocab.n;
}
int32_t limn_tokenizer_bos(const limn_tokenizer *t) {
    return t->bos;
}
int32_t limn_tokenizer_eos(const limn_tokenizer *t) {
    return t->eos;
}
int32_t limn_tokenizer_pad(const limn_tokenizer *t) {
    return t->pad;
}
int32_t limn_tokenizer_unk(const limn_tokenizer *t) {
    return t->unk;
}

int32_t limn_tokenizer_find(const limn_tokenizer *t, const char *token) {
    size_t n = strlen(token);
    for (size_t i = 0; i < t->n_added; i++)
        if (t->added[i].shown.len == n && memcmp(t->added[i].shown.data, token, n) == 0)
            return t->added[i].id;
    return limn_tokenizer_model_find(t, token, n);
}

bool limn_tokenizer_is_special(const limn_tokenizer *t, int32_t id) {
    return id >= 0 && (size_t)id < t->vocab.n && (t->kind[id] & LIMN_TOKEN_SPECIAL);
}

bool limn_tokenizer_is_added(const limn_tokenizer *t, int32_t id) {
    return id >= 0 && (size_t)id < t->vocab.n && (t->kind[id] & LIMN_TOKEN_ADDED);
}

limn_text_view limn_tokenizer_bytes(const limn_tokenizer *t, int32_t id) {
    if (id < 0 || (size_t)id >= t->vocab.n || (t->kind[id] & LIMN_TOKEN_SPECIAL) ||
        !t->out[id].data)
        return (limn_text_view){"", 0};
    return t->out[id];
}

limn_status limn_tokenizer_read_file(char **out, size_t *n, const char *path, size_t limit,
                                     limn_err *err) {
    limn_status st;
    limn_fsmap *map = NULL;
    LIMN_TRY(limn_fsmap_open(&map, path, err));
    LIMN_CHECK(err, map->size <= limit, LIMN_E_LIMIT, "%s: %zu bytes, more than %zu", path,
               map->size, limit);
    *out = limn_mem_strndup((const char *)map->data, map->size);
    LIMN_CHECK(err, *out, LIMN_E_NOMEM, "%s: no memory for %zu bytes", path, map->size);
    *n = map->size;
out:
    limn_fsmap_unref(&map);
    return st;
}
