/* SPDX-License-Identifier: MIT */
/*
 * JSON Schema -> grammar. Every schema becomes a rule of its own, remembered by its place in the
 * document, so that $ref may recurse and nothing is expanded twice. A keyword that restricts and is
 * not understood is an error: silence would promise what is not kept.
 */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/grammar_impl.h"

enum { SCHEMAS_MAX = 16384, SCHEMA_DEPTH = 64, ITEMS_DEFAULT = 256, NUMBER_MAX_DIGITS = 15 };

typedef struct schema_rule {
    const json_t *schema;
    uint32_t rule;
} schema_rule;

typedef struct schema_reader {
    limn_grammar *g;
    const json_t *root;
    limn_schema_options opt;
    schema_rule *known;
    size_t n_known;
    uint32_t space, string, value; /* shared rules */
    int depth;
    limn_err *err;
} schema_reader;

static limn_status schema_frag(schema_reader *r, limn_frag *out, const json_t *s);

/* ---- pieces of JSON ---- */

static limn_frag space(schema_reader *r) {
    return limn_g_call(r->g, r->space);
}

static limn_frag literal(schema_reader *r, const char *s) {
    return limn_g_text(r->g, s);
}

static void define_space(schema_reader *r) {
    limn_grammar *g = r->g;
    limn_frag f = limn_g_empty(g);
    if (r->opt.space != LIMN_JSON_COMPACT) f = limn_g_alt(g, f, limn_g_text(g, " "));
    if (r->opt.space == LIMN_JSON_PRETTY) {
        limn_frag nl = limn_g_text(g, "\n");
        limn_frag indent = limn_g_repeat(g, limn_g_text(g, " "), 0, 16);
        f = limn_g_alt(g, f, limn_g_seq(g, nl, indent));
    }
    limn_g_define(g, r->space, f);
}

/* One character of a JSON string, any spelling. \u escapes of surrogates are left out. */
static limn_frag string_char(limn_grammar *g) {
    static const limn_cp_range plain[] = {{0x20, 0x21}, {0x23, 0x5B}, {0x5D, 0x10FFFF}};
    static const limn_cp_range escapes[] = {{'"', '"'}, {'/', '/'}, {'\\', '\\'}, {'b', 'b'},
                                            {'f', 'f'}, {'n', 'n'}, {'r', 'r'},   {'t', 't'}};
    static const limn_cp_range hex[] = {{'0', '9'}, {'A', 'F'}, {'a', 'f'}};
    static const limn_cp_range not_d[] = {
        {'0', '9'}, {'A', 'C'}, {'E', 'F'}, {'a', 'c'}, {'e', 'f'}};
    static const limn_cp_range low[] = {{'0', '7'}}, d[] = {{'D', 'D'}, {'d', 'd'}};
    limn_frag f = limn_g_chars(g, plain, 3);
    limn_frag back = limn_g_text(g, "\\");
    f = limn_g_alt(g, f, limn_g_seq(g, back, limn_g_chars(g, escapes, 8)));
    limn_frag u = limn_g_text(g, "\\u");
    limn_frag first = limn_g_chars(g, not_d, 5);
    first = limn_g_seq(g, first, limn_g_chars(g, hex, 3));
    limn_frag second = limn_g_chars(g, d, 2);
    second = limn_g_seq(g, second, limn_g_chars(g, low, 1));
    limn_frag head = limn_g_alt(g, first, second);
    limn_frag tail = limn_g_chars(g, hex, 3);
    tail = limn_g_repeat(g, tail, 2, 2);
    return limn_g_alt(g, f, limn_g_seq(g, u, limn_g_seq(g, head, tail)));
}

static limn_frag quoted(schema_reader *r, uint32_t min, uint32_t max) {
    limn_frag open = literal(r, "\"");
    limn_frag body = limn_g_repeat(r->g, limn_g_call(r->g, r->string), min, max);
    open = limn_g_seq(r->g, open, body);
    return limn_g_seq(r->g, open, literal(r, "\""));
}

static limn_frag digits(limn_grammar *g, uint32_t min, uint32_t max) {
    static const limn_cp_range d = {'0', '9'};
    return limn_g_repeat(g, limn_g_chars(g, &d, 1), min, max);
}

static limn_frag optional(limn_grammar *g, limn_frag f) {
    return limn_g_alt(g, limn_g_empty(g), f);
}

static limn_frag plain_integer(limn_grammar *g) {
    static const limn_cp_range nonzero = {'1', '9'};
    limn_frag sign = optional(g, limn_g_text(g, "-"));
    limn_frag zero = limn_g_text(g, "0");
    limn_frag first = limn_g_chars(g, &nonzero, 1);
    first = limn_g_seq(g, first, digits(g, 0, NUMBER_MAX_DIGITS - 1));
    return limn_g_seq(g, sign, limn_g_alt(g, zero, first));
}

static limn_frag plain_number(limn_grammar *g) {
    static const limn_cp_range e[] = {{'E', 'E'}, {'e', 'e'}}, sign[] = {{'+', '+'}, {'-', '-'}};
    limn_frag f = plain_integer(g);
    limn_frag dot = limn_g_text(g, ".");
    dot = limn_g_seq(g, dot, digits(g, 1, NUMBER_MAX_DIGITS));
    f = limn_g_seq(g, f, optional(g, dot));
    limn_frag exp = limn_g_chars(g, e, 2);
    limn_frag minus = limn_g_chars(g, sign, 2);
    exp = limn_g_seq(g, exp, optional(g, minus));
    exp = limn_g_seq(g, exp, digits(g, 1, 2));
    return limn_g_seq(g, f, optional(g, exp));
}

/* open ws [item (ws , ws item)*] ws close, with min..max items of `item` (a rule). */
static limn_frag item_list(schema_reader *r, const char *open, const char *close, uint32_t item,
                           uint32_t min, uint32_t max) {
    limn_grammar *g = r->g;
    limn_frag f = literal(r, open);
    f = limn_g_seq(g, f, space(r));
    if (max > 0) {
        limn_frag first = limn_g_call(g, item);
        limn_frag sep = space(r);
        sep = limn_g_seq(g, sep, literal(r, ","));
        sep = limn_g_seq(g, sep, space(r));
        sep = limn_g_seq(g, sep, limn_g_call(g, item));
        sep = limn_g_repeat(g, sep, min > 0 ? min - 1 : 0, max - 1);
        first = limn_g_seq(g, first, sep);
        first = limn_g_seq(g, first, space(r));
        f = limn_g_seq(g, f, min > 0 ? first : optional(g, first));
    }
    return limn_g_seq(g, f, literal(r, close));
}

/* "key" ws : ws value */
static uint32_t pair_rule(schema_reader *r, limn_frag key, limn_frag value) {
    limn_grammar *g = r->g;
    uint32_t rule = limn_g_rule(g);
    limn_frag colon = space(r);
    colon = limn_g_seq(g, colon, literal(r, ":"));
    colon = limn_g_seq(g, colon, space(r));
    limn_g_define(g, rule, limn_g_seq(g, limn_g_seq(g, key, colon), value));
    return rule;
}

static uint32_t max_items(const schema_reader *r) {
    return r->opt.max_items ? r->opt.max_items : ITEMS_DEFAULT;
}

static uint32_t max_chars(const schema_reader *r) {
    return r->opt.max_chars ? r->opt.max_chars : LIMN_NIL;
}

static limn_frag free_object(schema_reader *r, limn_frag value, uint32_t min, uint32_t max) {
    uint32_t pair = pair_rule(r, quoted(r, 0, max_chars(r)), value);
    return item_list(r, "{", "}", pair, min, max);
}

static void define_value(schema_reader *r) {
    limn_grammar *g = r->g;
    limn_frag f = quoted(r, 0, max_chars(r));
    f = limn_g_alt(g, f, plain_number(g));
    f = limn_g_alt(g, f, item_list(r, "[", "]", r->value, 0, max_items(r)));
    f = limn_g_alt(g, f, free_object(r, limn_g_call(g, r->value), 0, max_items(r)));
    f = limn_g_alt(g, f, literal(r, "true"));
    f = limn_g_alt(g, f, literal(r, "false"));
    f = limn_g_alt(g, f, literal(r, "null"));
    limn_g_define(g, r->value, f);
}

/* ---- keywords ---- */

static limn_status bad(const schema_reader *r, limn_status st, const char *what, const char *name) {
    return limn_fail(r->err, st, "schema: %s%s%s", what, name ? " " : "", name ? name : "");
}

/* Keywords that only describe, and those that the functions below read. */
static limn_status check_keywords(schema_reader *r, const json_t *s) {
    static const char *const known[] = {"title",
                                        "description",
                                        "default",
                                        "examples",
                                        "example",
                                        "$schema",
                                        "$id",
                                        "$comment",
                                        "$defs",
                                        "definitions",
                                        "deprecated",
                                        "readOnly",
                                        "writeOnly",
                                        "format",
                                        "contentEncoding",
                                        "contentMediaType",
                                        "name",
                                        "strict",
                                        "nullable",
                                        "type",
                                        "enum",
                                        "const",
                                        "properties",
                                        "required",
                                        "additionalProperties",
                                        "minProperties",
                                        "maxProperties",
                                        "items",
                                        "prefixItems",
                                        "minItems",
                                        "maxItems",
                                        "minLength",
                                        "maxLength",
                                        "pattern",
                                        "minimum",
                                        "maximum",
                                        "exclusiveMinimum",
                                        "exclusiveMaximum",
                                        "anyOf",
                                        "oneOf",
                                        "allOf",
                                        "$ref"};
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)s, key, v) {
        bool found = false;
        for (size_t i = 0; i < sizeof known / sizeof known[0] && !found; i++)
            found = strcmp(key, known[i]) == 0;
        if (!found) return bad(r, LIMN_E_UNSUPPORTED, "keyword is not supported:", key);
    }
    return LIMN_OK;
}

/* A count such as maxItems; `absent` when it is not given. */
static limn_status read_count(schema_reader *r, const json_t *s, const char *key, uint32_t absent,
                              uint32_t *out) {
    const json_t *v = json_object_get(s, key);
    *out = absent;
    if (!v) return LIMN_OK;
    double x = json_number_value(v);
    if (!json_is_number(v) || x < 0 || x > 1e6 || x != floor(x))
        return bad(r, LIMN_E_VALUE, "no sensible count:", key);
    *out = (uint32_t)x;
    return LIMN_OK;
}

static limn_status dump_literal(schema_reader *r, limn_frag *out, const json_t *v) {
    char *text = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(15));
    if (!text) return limn_fail(r->err, LIMN_E_NOMEM, "no memory for a schema");
    *out = literal(r, text);
    free(text);
    return LIMN_OK;
}

static limn_status enum_frag(schema_reader *r, limn_frag *out, const json_t *list) {
    limn_status st = LIMN_OK;
    limn_frag f = {0}, x;
    size_t i;
    json_t *v;
    if (json_array_size(list) == 0) return bad(r, LIMN_E_VALUE, "enum is empty", NULL);
    json_array_foreach(list, i, v) {
        LIMN_TRY(dump_literal(r, &x, v));
        f = i ? limn_g_alt(r->g, f, x) : x;
    }
    *out = f;
out:
    return st;
}

static limn_status string_frag(schema_reader *r, limn_frag *out, const json_t *s) {
    limn_status st;
    uint32_t min, max;
    const json_t *pattern = json_object_get(s, "pattern");
    LIMN_TRY(read_count(r, s, "minLength", 0, &min));
    LIMN_TRY(read_count(r, s, "maxLength", max_chars(r), &max));
    if (max < min) LIMN_TRY(bad(r, LIMN_E_VALUE, "maxLength is below minLength", NULL));
    if (!pattern) {
        *out = quoted(r, min, max);
        goto out;
    }
    if (json_object_get(s, "minLength") || json_object_get(s, "maxLength"))
        LIMN_TRY(bad(r, LIMN_E_UNSUPPORTED, "pattern together with minLength or maxLength", NULL));
    if (!json_is_string(pattern)) LIMN_TRY(bad(r, LIMN_E_VALUE, "pattern is no text", NULL));
    limn_frag open = literal(r, "\""), body;
    LIMN_TRY(limn_g_json_regex(r->g, &body, json_string_value(pattern), json_string_length(pattern),
                               r->err));
    open = limn_g_seq(r->g, open, body);
    *out = limn_g_seq(r->g, open, literal(r, "\""));
out:
    return st;
}

/* One bound; exclusive ones are moved inward by the last digit that is written. */
static limn_status read_bound(schema_reader *r, const json_t *s, const char *key, const char *open,
                              double inward, double *bound, bool *given) {
    const json_t *v = json_object_get(s, key), *x = json_object_get(s, open);
    if (json_is_true(x)) return bad(r, LIMN_E_UNSUPPORTED, "draft-4 form of", open);
    double limits[2] = {json_number_value(v), json_number_value(x) + inward};
    bool has[2] = {v != NULL, json_is_number(x)};
    if ((v && !json_is_number(v)) || (x && !json_is_number(x) && !json_is_false(x)))
        return bad(r, LIMN_E_VALUE, "no number:", key);
    for (int i = 0; i < 2; i++) {
        if (!has[i]) continue;
        bool tighter = inward > 0 ? limits[i] > *bound : limits[i] < *bound;
        if (!*given || tighter) *bound = limits[i];
        *given = true;
    }
    return LIMN_OK;
}

static limn_status number_frag(schema_reader *r, limn_frag *out, const json_t *s, bool whole) {
    limn_status st;
    double top = whole ? 1e15 - 1 : 1e9, lo = -top, hi = top, step = whole ? 1.0 : 1e-6;
    bool has_lo = false, has_hi = false;
    LIMN_TRY(read_bound(r, s, "minimum", "exclusiveMinimum", step, &lo, &has_lo));
    LIMN_TRY(read_bound(r, s, "maximum", "exclusiveMaximum", -step, &hi, &has_hi));
    if (!has_lo && !has_hi) {
        *out = whole ? plain_integer(r->g) : plain_number(r->g);
        goto out;
    }
    /* An open exclusive integer bound such as > 2.5 was moved to 3.5: floor and ceil would lose 3.
     */
    if (lo < -top) lo = -top;
    if (hi > top) hi = top;
    if (!(lo <= hi) || ceil(lo / step - 1e-9) > floor(hi / step + 1e-9))
        LIMN_TRY(bad(r, LIMN_E_VALUE, "no number lies between minimum and maximum", NULL));
    *out = limn_g_number_range(r->g, lo, hi, !whole);
out:
    return st;
}

/* ---- arrays and objects ---- */

static limn_status array_frag(schema_reader *r, limn_frag *out, const json_t *s) {
    limn_status st;
    uint32_t min, max, item;
    const json_t *items = json_object_get(s, "items"), *prefix = json_object_get(s, "prefixItems");
    limn_frag f;
    LIMN_TRY(read_count(r, s, "minItems", 0, &min));
    LIMN_TRY(read_count(r, s, "maxItems", max_items(r) > min ? max_items(r) : min, &max));
    if (max < min) LIMN_TRY(bad(r, LIMN_E_VALUE, "maxItems is below minItems", NULL));
    if (json_array_size(prefix) > 0) { /* a tuple: exactly these */
        size_t i, n = json_array_size(prefix);
        if (min > n || max < n)
            LIMN_TRY(bad(r, LIMN_E_UNSUPPORTED, "prefixItems with more items", NULL));
        limn_frag list = literal(r, "[");
        for (i = 0; i < n; i++) {
            if (i) list = limn_g_seq(r->g, list, literal(r, ","));
            list = limn_g_seq(r->g, list, space(r));
            LIMN_TRY(schema_frag(r, &f, json_array_get(prefix, i)));
            list = limn_g_seq(r->g, list, f);
            list = limn_g_seq(r->g, list, space(r));
        }
        *out = limn_g_seq(r->g, list, literal(r, "]"));
        goto out;
    }
    item = limn_g_rule(r->g);
    if (items)
        LIMN_TRY(schema_frag(r, &f, items));
    else
        f = limn_g_call(r->g, r->value);
    limn_g_define(r->g, item, f);
    *out = item_list(r, "[", "]", item, min, max);
out:
    return st;
}

static bool is_required(const json_t *s, const char *key) {
    const json_t *list = json_object_get(s, "required");
    size_t i;
    json_t *v;
    json_array_foreach(list, i, v) {
        if (json_is_string(v) && strcmp(json_string_value(v), key) == 0) return true;
    }
    return false;
}

/* Properties i.. when nothing is written yet (fresh) and when something is (written: a comma comes
 * first). Each is a rule that ends in the next, so the whole stays linear in the schema. */
static limn_frag property_chain(schema_reader *r, const uint32_t *pair, const bool *required,
                                size_t n) {
    limn_grammar *g = r->g;
    uint32_t fresh = limn_g_rule(g), written = limn_g_rule(g);
    limn_g_define(g, fresh, limn_g_empty(g));
    limn_g_define(g, written, limn_g_empty(g));
    for (size_t i = n; i-- > 0;) {
        uint32_t fresh_here = limn_g_rule(g), written_here = limn_g_rule(g);
        limn_frag first = limn_g_call(g, pair[i]);
        first = limn_g_seq(g, first, limn_g_call(g, written));
        if (!required[i]) first = limn_g_alt(g, first, limn_g_call(g, fresh));
        limn_g_define(g, fresh_here, first);
        limn_frag comma = space(r);
        comma = limn_g_seq(g, comma, literal(r, ","));
        comma = limn_g_seq(g, comma, space(r));
        comma = limn_g_seq(g, comma, limn_g_call(g, pair[i]));
        if (!required[i]) comma = optional(g, comma);
        limn_g_define(g, written_here, limn_g_seq(g, comma, limn_g_call(g, written)));
        fresh = fresh_here;
        written = written_here;
    }
    return limn_g_call(g, fresh);
}

static limn_status declared_object(schema_reader *r, limn_frag *out, const json_t *s,
                                   const json_t *properties) {
    limn_status st = LIMN_OK;
    size_t n = json_object_size(properties), i = 0, n_required = 0;
    uint32_t *pair = limn_mem_calloc(n, sizeof *pair), least;
    bool *required = limn_mem_calloc(n, sizeof *required);
    const char *key;
    json_t *v;
    LIMN_CHECK(r->err, pair && required, LIMN_E_NOMEM, "no memory for a schema");
    json_object_foreach((json_t *)properties, key, v) {
        limn_frag value, name;
        json_t *text = json_string(key);
        st = text ? dump_literal(r, &name, text) : limn_fail(r->err, LIMN_E_NOMEM, "no memory");
        json_decref(text);
        if (st != LIMN_OK) goto out;
        LIMN_TRY(schema_frag(r, &value, v));
        pair[i] = pair_rule(r, name, value);
        required[i] = is_required(s, key);
        n_required += required[i++];
    }
    LIMN_CHECK(r->err, json_array_size(json_object_get(s, "required")) == n_required,
               LIMN_E_UNSUPPORTED, "schema: a required property is not declared");
    LIMN_TRY(read_count(r, s, "minProperties", 0, &least));
    LIMN_CHECK(r->err, least <= n_required, LIMN_E_UNSUPPORTED,
               "schema: minProperties beyond the required properties");
    LIMN_CHECK(r->err, !json_object_get(s, "maxProperties"), LIMN_E_UNSUPPORTED,
               "schema: maxProperties beside properties");
    limn_frag f = literal(r, "{");
    f = limn_g_seq(r->g, f, space(r));
    f = limn_g_seq(r->g, f, property_chain(r, pair, required, n));
    f = limn_g_seq(r->g, f, space(r));
    *out = limn_g_seq(r->g, f, literal(r, "}"));
out:
    limn_mem_free(pair);
    limn_mem_free(required);
    return st;
}

static limn_status object_frag(schema_reader *r, limn_frag *out, const json_t *s) {
    limn_status st;
    uint32_t min, max;
    const json_t *properties = json_object_get(s, "properties");
    const json_t *more = json_object_get(s, "additionalProperties");
    limn_frag value;
    if (json_object_size(properties) > 0) return declared_object(r, out, s, properties);
    if (json_array_size(json_object_get(s, "required")) > 0)
        return bad(r, LIMN_E_UNSUPPORTED, "a required property is not declared", NULL);
    LIMN_TRY(read_count(r, s, "minProperties", 0, &min));
    LIMN_TRY(read_count(r, s, "maxProperties", max_items(r) > min ? max_items(r) : min, &max));
    if (max < min) LIMN_TRY(bad(r, LIMN_E_VALUE, "maxProperties is below minProperties", NULL));
    if (json_is_false(more)) max = 0;
    if (json_is_object(more))
        LIMN_TRY(schema_frag(r, &value, more));
    else
        value = limn_g_call(r->g, r->value);
    *out = free_object(r, value, min, max);
out:
    return st;
}

/* ---- schemas ---- */

static limn_status type_frag(schema_reader *r, limn_frag *out, const json_t *s, const char *type) {
    if (strcmp(type, "string") == 0) return string_frag(r, out, s);
    if (strcmp(type, "integer") == 0) return number_frag(r, out, s, true);
    if (strcmp(type, "number") == 0) return number_frag(r, out, s, false);
    if (strcmp(type, "array") == 0) return array_frag(r, out, s);
    if (strcmp(type, "object") == 0) return object_frag(r, out, s);
    if (strcmp(type, "null") == 0) {
        *out = literal(r, "null");
        return LIMN_OK;
    }
    if (strcmp(type, "boolean") == 0) {
        limn_frag yes = literal(r, "true");
        *out = limn_g_alt(r->g, yes, literal(r, "false"));
        return LIMN_OK;
    }
    return bad(r, LIMN_E_VALUE, "no such type:", type);
}

/* The type that a schema without one means by its other keywords; NULL: any. */
static const char *implied_type(const json_t *s) {
    static const char *const hints[][2] = {
        {"properties", "object"},       {"additionalProperties", "object"},
        {"required", "object"},         {"items", "array"},
        {"prefixItems", "array"},       {"minItems", "array"},
        {"maxItems", "array"},          {"pattern", "string"},
        {"minLength", "string"},        {"maxLength", "string"},
        {"minimum", "number"},          {"maximum", "number"},
        {"exclusiveMinimum", "number"}, {"exclusiveMaximum", "number"}};
    for (size_t i = 0; i < sizeof hints / sizeof hints[0]; i++)
        if (json_object_get(s, hints[i][0])) return hints[i][1];
    return NULL;
}

static limn_status typed_frag(schema_reader *r, limn_frag *out, const json_t *s) {
    limn_status st = LIMN_OK;
    const json_t *type = json_object_get(s, "type");
    size_t i;
    json_t *v;
    if (json_is_array(type) && json_array_size(type) > 0) {
        limn_frag f = {0}, x;
        json_array_foreach(type, i, v) {
            LIMN_CHECK(r->err, json_is_string(v), LIMN_E_VALUE, "schema: a type is no text");
            LIMN_TRY(type_frag(r, &x, s, json_string_value(v)));
            f = i ? limn_g_alt(r->g, f, x) : x;
        }
        *out = f;
        goto out;
    }
    LIMN_CHECK(r->err, !type || json_is_string(type), LIMN_E_VALUE, "schema: type is no text");
    const char *name = type ? json_string_value(type) : implied_type(s);
    if (name)
        st = type_frag(r, out, s, name);
    else
        *out = limn_g_call(r->g, r->value);
out:
    return st;
}

static limn_status any_of(schema_reader *r, limn_frag *out, const json_t *list) {
    limn_status st = LIMN_OK;
    limn_frag f = {0}, x;
    size_t i;
    json_t *v;
    if (json_array_size(list) == 0) return bad(r, LIMN_E_VALUE, "an empty list of schemas", NULL);
    json_array_foreach(list, i, v) {
        LIMN_TRY(schema_frag(r, &x, v));
        f = i ? limn_g_alt(r->g, f, x) : x;
    }
    *out = f;
out:
    return st;
}

/* "#", "#/a/b~1c" within the document. */
static const json_t *find_ref(const schema_reader *r, const char *ref) {
    const json_t *at = r->root;
    if (*ref++ != '#') return NULL;
    while (*ref == '/' && at) {
        char name[256];
        size_t n = 0;
        for (ref++; *ref && *ref != '/' && n + 1 < sizeof name; ref++) {
            bool escaped = ref[0] == '~' && (ref[1] == '0' || ref[1] == '1');
            name[n++] = escaped ? (ref[1] == '0' ? '~' : '/') : *ref;
            ref += escaped;
        }
        name[n] = 0;
        at = json_is_array(at) ? json_array_get(at, (size_t)strtoul(name, NULL, 10))
                               : json_object_get(at, name);
    }
    return *ref ? NULL : at;
}

/* $ref, const, enum, anyOf ... stand alone: beside another restriction only one would be kept. */
static limn_status schema_body(schema_reader *r, limn_frag *out, const json_t *s) {
    static const char *const alone[] = {"$ref", "const", "enum", "anyOf", "oneOf", "allOf"};
    const char *found = NULL;
    if (json_is_false(s)) return bad(r, LIMN_E_VALUE, "false allows nothing", NULL);
    if (json_is_true(s)) {
        *out = limn_g_call(r->g, r->value);
        return LIMN_OK;
    }
    if (!json_is_object(s)) return bad(r, LIMN_E_VALUE, "a schema is no object", NULL);
    limn_status st = check_keywords(r, s);
    if (st != LIMN_OK) return st;
    for (size_t i = 0; i < sizeof alone / sizeof alone[0]; i++) {
        if (!json_object_get(s, alone[i])) continue;
        if (found)
            return bad(r, LIMN_E_UNSUPPORTED, "two combining keywords, the second is", alone[i]);
        found = alone[i];
    }
    if (!found) return typed_frag(r, out, s);
    const json_t *v = json_object_get(s, found);
    if (strcmp(found, "const") == 0) return dump_literal(r, out, v);
    if (strcmp(found, "enum") == 0) return enum_frag(r, out, v);
    if (implied_type(s)) return bad(r, LIMN_E_UNSUPPORTED, "other restrictions beside", found);
    if (strcmp(found, "$ref") == 0) {
        const json_t *to = json_is_string(v) ? find_ref(r, json_string_value(v)) : NULL;
        if (!to) return bad(r, LIMN_E_VALUE, "$ref leads nowhere:", json_string_value(v));
        return schema_frag(r, out, to);
    }
    if (strcmp(found, "allOf") == 0) {
        if (json_array_size(v) != 1)
            return bad(r, LIMN_E_UNSUPPORTED, "allOf of more than one schema", NULL);
        return schema_frag(r, out, json_array_get(v, 0));
    }
    return any_of(r, out, v);
}

static limn_status schema_frag(schema_reader *r, limn_frag *out, const json_t *s) {
    for (size_t i = 0; i < r->n_known; i++) {
        if (r->known[i].schema != s || json_is_boolean(s)) continue;
        *out = limn_g_call(r->g, r->known[i].rule);
        return LIMN_OK;
    }
    if (r->n_known == SCHEMAS_MAX) return bad(r, LIMN_E_LIMIT, "too many parts", NULL);
    if (r->depth == SCHEMA_DEPTH) return bad(r, LIMN_E_LIMIT, "nested too deep", NULL);
    uint32_t rule = limn_g_rule(r->g);
    r->known[r->n_known++] = (schema_rule){s, rule};
    r->depth++;
    limn_frag body;
    limn_status st = schema_body(r, &body, s);
    r->depth--;
    if (st == LIMN_OK) st = limn_g_check(r->g, r->err);
    if (st != LIMN_OK) return st;
    limn_g_define(r->g, rule, body);
    *out = limn_g_call(r->g, rule);
    return LIMN_OK;
}

static limn_status read_schema(schema_reader *r) {
    limn_status st;
    limn_grammar *g = r->g;
    limn_frag f;
    r->known = limn_mem_alloc(SCHEMAS_MAX * sizeof *r->known);
    LIMN_CHECK(r->err, r->known, LIMN_E_NOMEM, "no memory for a schema");
    r->space = limn_g_rule(g);
    r->string = limn_g_rule(g);
    r->value = limn_g_rule(g);
    g->root = limn_g_rule(g);
    define_space(r);
    limn_g_define(g, r->string, string_char(g));
    define_value(r);
    LIMN_TRY(schema_frag(r, &f, r->root));
    limn_g_define(g, g->root, f);
    st = limn_g_check(g, r->err);
out:
    limn_mem_free(r->known);
    return st;
}

limn_status limn_grammar_parse_schema(limn_grammar **out, const char *json, size_t n,
                                      const limn_schema_options *opt, limn_err *err) {
    limn_status st;
    json_error_t je;
    json_t *root = NULL;
    schema_reader r = {.opt = *opt, .err = err};
    LIMN_CHECK(err, n <= LIMN_GRAMMAR_BYTES, LIMN_E_LIMIT, "a schema of %zu bytes is too long", n);
    root = json_loadb(json, n, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &je);
    LIMN_CHECK(err, root, LIMN_E_FORMAT, "schema, line %d: %s", je.line, je.text);
    r.root = root;
    r.g = limn_grammar_new();
    LIMN_CHECK(err, r.g, LIMN_E_NOMEM, "no memory for a schema");
    LIMN_TRY(read_schema(&r));
    *out = r.g;
    r.g = NULL;
out:
    limn_grammar_free(&r.g);
    json_decref(root);
    return st;
}
