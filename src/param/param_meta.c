/* SPDX-License-Identifier: MIT */
/*
 * The recipe as text inside a picture, in the form that A1111 made common:
 *
 *     a lighthouse at dusk
 *     Negative prompt: blurry
 *     Steps: 20, Sampler: DPM++ 2M, CFG scale: 7, Seed: 5, Size: 512x512, ..., App: limn
 *
 * The last line is a list of "Key: value"; a value with a comma, colon, quote or control character
 * is written as a JSON string. A prompt that would not read back (it has a line that looks like
 * "Negative prompt:", blanks at its ends ...) is repeated as the keys Prompt and Negative, so what
 * is written always reads back to the same values.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "param/gen.h"
#include "param/param_json.h"

enum { TEXT_MAX = 4 << 20, VALUE_MAX = 1 << 20 };

static const char negative_mark[] = "Negative prompt:";

/* Two numbers in one key: "512x768". 0 stands for "not set". */
typedef struct size_key {
    const char *key, *width, *height;
    bool always;
} size_key;

static const size_key size_keys[] = {
    {"Size", "width", "height", true},
    {"Hires resize", "hires_width", "hires_height", false},
};
enum { SIZE_KEYS = sizeof size_keys / sizeof size_keys[0] };

/* Keys that say where a picture comes from; nothing to set, nothing to report. */
static const char known_keys[] = "App|Version|Model hash|VAE hash|Lora hashes|TI hashes|Hashes";

/* ---- writing ---- */

static bool is_plain(const char *v) {
    if (!*v || *v == ' ' || *v == '[' || *v == '{' || v[strlen(v) - 1] == ' ') return false;
    for (; *v; v++)
        if (*v == ',' || *v == ':' || *v == '"' || (unsigned char)*v < 0x20) return false;
    return true;
}

static void add_pair(limn_buf *out, const char *key, const char *value, bool first) {
    limn_buf_addf(out, "%s%s: ", first ? "" : ", ", key);
    if (is_plain(value))
        limn_buf_adds(out, value);
    else
        limn_json_add_string(out, value);
}

static void add_row(limn_buf *out, const limn_params *r, const limn_param *p, bool first) {
    limn_buf value;
    limn_buf_init(&value, VALUE_MAX);
    if (p->type == LIMN_TYPE_LIST)
        limn_json_add_value(&value, r, p);
    else
        limn_param_format(&value, r, p, true, 0);
    add_pair(out, p->png, limn_buf_text(&value), first);
    out->failed = out->failed || value.failed;
    limn_buf_deinit(&value);
}

static void add_size(limn_buf *out, const limn_params *r, const size_key *k) {
    bool w = k->always || limn_params_is_set(r, k->width);
    bool h = k->always || limn_params_is_set(r, k->height);
    if (!w && !h) return;
    limn_buf_addf(out, ", %s: %lldx%lld", k->key, w ? (long long)limn_params_int(r, k->width) : 0LL,
                  h ? (long long)limn_params_int(r, k->height) : 0LL);
}

static void add_pairs(limn_buf *out, const limn_params *r) {
    const limn_param_table *t = limn_param_table_get(r->kind);
    int n = 0;
    for (int i = 0; i < t->count; i++)
        if (t->rows[i].png && (t->rows[i].flags & LIMN_P_ALWAYS))
            add_row(out, r, &t->rows[i], n++ == 0);
    for (int i = 0; i < SIZE_KEYS; i++) add_size(out, r, &size_keys[i]);
    for (int i = 0; i < t->count; i++)
        if (t->rows[i].png && !(t->rows[i].flags & LIMN_P_ALWAYS) &&
            (t->rows[i].flags & LIMN_P_META) && r->source[i] != LIMN_FROM_DEFAULT)
            add_row(out, r, &t->rows[i], false);
}

/* ---- the parts of a text ---- */

typedef struct span {
    const char *s;
    size_t len;
} span;

static bool is_blank(char c) {
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

static span trim(span t) {
    while (t.len && is_blank(t.s[0])) t.s++, t.len--;
    while (t.len && is_blank(t.s[t.len - 1])) t.len--;
    return t;
}

static bool is_key_char(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == ' ' || c == '-' || c == '/' || (unsigned char)c >= 0x80;
}

/* End of a JSON string, array or object that begins at s[0]; 0 when it does not end. */
static size_t json_extent(const char *s, size_t len) {
    int depth = 0;
    bool quoted = false;
    for (size_t i = 0; i < len; i++) {
        if (quoted) {
            if (s[i] == '\\')
                i++;
            else if (s[i] == '"')
                quoted = false;
        } else if (s[i] == '"') {
            quoted = true;
        } else if (s[i] == '[' || s[i] == '{') {
            depth++;
        } else if (s[i] == ']' || s[i] == '}') {
            depth--;
        }
        if (!quoted && depth <= 0) return i + 1 < len ? i + 1 : len;
    }
    return 0;
}

/* Takes the next "Key: value" off `rest`; false at its end. Pieces that are no pair are skipped. */
static bool next_pair(span *rest, span *key, span *value) {
    while (rest->len) {
        *rest = trim(*rest);
        size_t k = 0;
        while (k < rest->len && is_key_char(rest->s[k])) k++;
        bool has_key = k > 0 && k < rest->len && rest->s[k] == ':';
        size_t at = has_key ? k + 1 : k;
        while (at < rest->len && rest->s[at] == ' ') at++;
        size_t begin = at, end = 0;
        if (has_key && at < rest->len && strchr("\"[{", rest->s[at]))
            end = json_extent(rest->s + at, rest->len - at);
        if (end) at += end;
        while (at < rest->len && rest->s[at] != ',') at++;
        *key = trim((span){rest->s, k});
        *value = trim((span){rest->s + begin, at - begin});
        size_t used = at < rest->len ? at + 1 : at;
        rest->s += used;
        rest->len -= used;
        if (has_key && key->len) return true;
    }
    return false;
}

static int count_pairs(span line) {
    span key, value;
    int n = 0;
    while (next_pair(&line, &key, &value)) n++;
    return n;
}

typedef struct parts {
    span prompt, negative, pairs; /* trimmed */
} parts;

static parts split(span text) {
    parts out = {{text.s, 0}, {text.s, 0}, {text.s, 0}};
    text = trim(text);
    size_t last = text.len;
    while (last > 0 && text.s[last - 1] != '\n') last--;
    span line = {text.s + last, text.len - last};
    if (count_pairs(line) >= 3) {
        out.pairs = line;
        text.len = last;
    }
    out.prompt = text;
    for (size_t i = 0; i < text.len;) {
        size_t end = i;
        while (end < text.len && text.s[end] != '\n') end++;
        span l = trim((span){text.s + i, end - i});
        size_t mark = sizeof negative_mark - 1;
        if (l.len >= mark && memcmp(l.s, negative_mark, mark) == 0) {
            out.prompt.len = i;
            size_t begin = (size_t)(l.s - text.s) + mark;
            out.negative = (span){text.s + begin, text.len - begin};
            break;
        }
        i = end + 1;
    }
    out.prompt = trim(out.prompt);
    out.negative = trim(out.negative);
    return out;
}

static bool span_is(span t, const char *s) {
    return t.len == strlen(s) && memcmp(t.s, s, t.len) == 0;
}

limn_status limn_params_format_text(char **out, const limn_params *params, limn_err *err) {
    *out = NULL;
    if (params->kind != LIMN_PARAMS_GEN)
        return limn_fail(err, LIMN_E_INTERNAL, "only generation parameters have a text form");
    const limn_gen *g = limn_gen_of(params);
    limn_buf b;
    limn_buf_init(&b, TEXT_MAX);
    limn_buf_adds(&b, g->prompt);
    if (*g->negative_prompt) limn_buf_addf(&b, "\n%s ", negative_mark);
    limn_buf_adds(&b, g->negative_prompt);
    limn_buf_addc(&b, '\n');
    add_pairs(&b, params);
    parts back = split((span){limn_buf_text(&b), b.len});
    if (!span_is(back.prompt, g->prompt) || !span_is(back.negative, g->negative_prompt)) {
        limn_buf_adds(&b, ", Prompt: ");
        limn_json_add_string(&b, g->prompt);
        limn_buf_adds(&b, ", Negative: ");
        limn_json_add_string(&b, g->negative_prompt);
    }
    limn_buf_addf(&b, ", App: limn, Version: %s", limn_version());
    *out = limn_buf_take(&b);
    limn_buf_deinit(&b);
    return *out ? LIMN_OK : limn_fail(err, LIMN_E_NOMEM, "no memory for the recipe text");
}

/* ---- reading ---- */

typedef struct reader {
    limn_params *r;
    limn_source from;
    bool ours; /* written by limn: no dialect to allow for */
    bool has_hires, has_hires_strength, has_strength;
    limn_buf unknown;
    limn_err *err;
} reader;

static limn_status set_named(reader *rd, const char *name, const char *value, const char *where) {
    const limn_param *p = limn_param_find(limn_param_table_get(rd->r->kind), name);
    return limn_param_parse(rd->r, p, value, where, rd->from, rd->err);
}

static limn_status set_size(reader *rd, const size_key *k, const char *value) {
    long long size[2];
    char tail;
    if (sscanf(value, "%10lldx%10lld%c", &size[0], &size[1], &tail) != 2)
        return limn_fail(rd->err, LIMN_E_VALUE, "%s %.40s: must be WIDTHxHEIGHT", k->key, value);
    const char *names[2] = {k->width, k->height};
    for (int i = 0; i < 2; i++) {
        char text[32];
        if (size[i] == 0 && !k->always) continue;
        snprintf(text, sizeof text, "%lld", size[i]);
        limn_status st = set_named(rd, names[i], text, k->key);
        if (st != LIMN_OK) return st;
    }
    return LIMN_OK;
}

static limn_status set_list(reader *rd, const limn_param *p, const char *value) {
    json_t *array = NULL;
    if (value[0] == '[') array = json_loads(value, 0, NULL);
    if (!array) array = json_pack("[s]", value);
    if (!array) return limn_fail(rd->err, LIMN_E_NOMEM, "%s: no memory for the list", p->png);
    limn_status st = limn_json_set_value(rd->r, p, array, p->png, rd->from, rd->err);
    json_decref(array);
    return st;
}

/* "name [abcd1234]" -> "name": other programs put a short hash behind model names. */
static void drop_hash(char *value) {
    size_t n = strlen(value), k = n;
    if (n < 3 || value[n - 1] != ']') return;
    while (k > 0 && value[k - 1] != '[') k--;
    if (k < 3 || value[k - 2] != ' ') return;
    size_t hex = strspn(value + k, "0123456789abcdefABCDEF");
    if (hex >= 6 && k + hex == n - 1) value[k - 2] = 0;
}

static limn_status set_pair(reader *rd, const char *key, char *value) {
    const limn_param_table *t = limn_param_table_get(rd->r->kind);
    size_t len = strlen(key);
    if (strcmp(key, "Prompt") == 0) return set_named(rd, "prompt", value, key);
    if (strcmp(key, "Negative") == 0) return set_named(rd, "negative_prompt", value, key);
    for (int i = 0; i < SIZE_KEYS; i++) {
        if (!limn_param_word_is(size_keys[i].key, key, len)) continue;
        rd->has_hires = rd->has_hires || i > 0;
        return set_size(rd, &size_keys[i], value);
    }
    for (int i = 0; i < t->count; i++) {
        const limn_param *p = &t->rows[i];
        if (!limn_param_word_is(p->png, key, len) && !limn_param_word_is(p->png_too, key, len))
            continue;
        if (strcmp(p->name, "hires_scale") == 0) rd->has_hires = true;
        if (strcmp(p->name, "hires_strength") == 0) rd->has_hires_strength = true;
        if (strcmp(p->name, "strength") == 0) rd->has_strength = true;
        if (p->type == LIMN_TYPE_LIST) return set_list(rd, p, value);
        if (!rd->ours && (p->flags & LIMN_P_PATH)) drop_hash(value);
        return limn_param_parse(rd->r, p, value, key, rd->from, rd->err);
    }
    if (limn_param_word_is(known_keys, key, len)) return LIMN_OK;
    limn_buf_addf(&rd->unknown, "%s%s", rd->unknown.len ? ", " : "", key);
    return LIMN_OK;
}

/* A value as plain text: JSON strings lose their quotes. Freed by the caller. */
static char *unquote(span v) {
    if (v.len >= 2 && v.s[0] == '"' && v.s[v.len - 1] == '"') {
        json_t *text = json_loadb(v.s, v.len, JSON_DECODE_ANY, NULL);
        char *out = json_is_string(text) ? limn_mem_strdup(json_string_value(text)) : NULL;
        json_decref(text);
        if (out) return out;
    }
    return limn_mem_strndup(v.s, v.len);
}

static limn_status read_pairs(reader *rd, span line) {
    span key, value;
    limn_status st = LIMN_OK;
    while (st == LIMN_OK && next_pair(&line, &key, &value)) {
        char *k = limn_mem_strndup(key.s, key.len), *v = unquote(value);
        st = k && v ? set_pair(rd, k, v)
                    : limn_fail(rd->err, LIMN_E_NOMEM, "no memory for the recipe text");
        limn_mem_free(k);
        limn_mem_free(v);
    }
    return st;
}

static limn_status set_span(reader *rd, const char *name, span text) {
    char *copy = limn_mem_strndup(text.s, text.len);
    if (!copy) return limn_fail(rd->err, LIMN_E_NOMEM, "no memory for the recipe text");
    limn_status st = set_named(rd, name, copy, name);
    limn_mem_free(copy);
    return st;
}

static limn_status read_a1111(reader *rd, span text) {
    parts p = split(text);
    span line = p.pairs, key, value;
    while (next_pair(&line, &key, &value))
        if (span_is(key, "App") && span_is(value, "limn")) rd->ours = true;
    limn_status st = LIMN_OK;
    if (p.prompt.len || rd->ours) st = set_span(rd, "prompt", p.prompt);
    if (st == LIMN_OK && (p.negative.len || rd->ours))
        st = set_span(rd, "negative_prompt", p.negative);
    if (st == LIMN_OK) st = read_pairs(rd, p.pairs);
    /* A1111 has one "Denoising strength", which is the second pass's when there is one. */
    if (st == LIMN_OK && !rd->ours && rd->has_hires && rd->has_strength &&
        !rd->has_hires_strength) {
        double strength = limn_gen_of(rd->r)->strength;
        st = limn_param_parse_real(rd->r, limn_param_find(&limn_gen_table, "hires_strength"),
                                   strength, "hires_strength", rd->from, rd->err);
    }
    return st;
}

static limn_status read_json(reader *rd, span text) {
    json_t *root;
    bool known = false;
    limn_status st = limn_json_load(&root, text.s, text.len, rd->err);
    if (st != LIMN_OK) return st;
    st = limn_meta_parse_foreign(rd->r, root, rd->from, &known, rd->err);
    json_decref(root);
    if (st == LIMN_OK && !known)
        st = limn_params_parse_json(rd->r, text.s, text.len, rd->from, rd->err);
    return st;
}

limn_status limn_params_parse_text(limn_params *params, const char *text, size_t len,
                                   limn_source from, char **unknown, limn_err *err) {
    limn_status st = LIMN_OK;
    if (unknown) *unknown = NULL;
    if (params->kind != LIMN_PARAMS_GEN)
        return limn_fail(err, LIMN_E_INTERNAL, "only generation parameters have a text form");
    if (len > TEXT_MAX)
        return limn_fail(err, LIMN_E_LIMIT, "recipe text of %zu bytes, at most %d are allowed", len,
                         TEXT_MAX);
    reader rd = {.from = from, .err = err};
    limn_buf_init(&rd.unknown, 64 * 1024);
    LIMN_CHECK(err, !memchr(text, 0, len) && limn_utf8_is_valid(text, len), LIMN_E_FORMAT,
               "the recipe is not UTF-8 text");
    LIMN_TRY(limn_params_copy(&rd.r, params, err));
    span whole = trim((span){text, len});
    /* a prompt may begin with a choice, "{a|b} cat", but then a list of keys ends the text */
    if (whole.len && whole.s[0] == '{' && whole.s[whole.len - 1] == '}')
        LIMN_TRY(read_json(&rd, whole));
    else
        LIMN_TRY(read_a1111(&rd, whole));
    limn_params_swap(params, rd.r);
    if (unknown && rd.unknown.len) *unknown = limn_mem_strdup(limn_buf_text(&rd.unknown));
out:
    limn_params_free(&rd.r);
    limn_buf_deinit(&rd.unknown);
    return st;
}
