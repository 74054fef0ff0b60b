/* SPDX-License-Identifier: MIT */
/* Records as JSON objects; see limn.h. Reading is strict: nothing is ignored, errors name the
 * place.
 */
#include "param/param_json.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

void limn_json_add_string(limn_buf *out, const char *text) {
    limn_buf_addc(out, '"');
    for (const char *c = text; *c; c++) {
        switch (*c) {
        case '"': limn_buf_adds(out, "\\\""); break;
        case '\\': limn_buf_adds(out, "\\\\"); break;
        case '\n': limn_buf_adds(out, "\\n"); break;
        case '\r': limn_buf_adds(out, "\\r"); break;
        case '\t': limn_buf_adds(out, "\\t"); break;
        default:
            if ((unsigned char)*c < 0x20)
                limn_buf_addf(out, "\\u%04x", (unsigned)*c);
            else
                limn_buf_addc(out, *c);
        }
    }
    limn_buf_addc(out, '"');
}

void limn_json_add_value(limn_buf *out, const limn_params *r, const limn_param *p) {
    const limn_texts *list = limn_param_field(r, p);
    switch (p->type) {
    case LIMN_TYPE_INT:
    case LIMN_TYPE_REAL: limn_param_format(out, r, p, false, 0); break;
    case LIMN_TYPE_BYTES:
        limn_buf_addf(out, "%lld", (long long)*(const int64_t *)limn_param_field(r, p));
        break;
    case LIMN_TYPE_BOOL:
        limn_buf_adds(out, *(const bool *)limn_param_field(r, p) ? "true" : "false");
        break;
    case LIMN_TYPE_ENUM:
        limn_json_add_string(out, p->words[*(const int *)limn_param_field(r, p)].name);
        break;
    case LIMN_TYPE_TEXT: limn_json_add_string(out, *(char *const *)limn_param_field(r, p)); break;
    case LIMN_TYPE_LIST:
        limn_buf_addc(out, '[');
        for (int i = 0; i < list->count; i++) {
            if (i) limn_buf_adds(out, ", ");
            limn_json_add_string(out, list->item[i]);
        }
        limn_buf_addc(out, ']');
        break;
    }
}

limn_status limn_params_format_json(char **out, const limn_params *params, bool all,
                                    limn_err *err) {
    const limn_param_table *t = limn_param_table_get(params->kind);
    limn_buf b;
    limn_buf_init(&b, LIMN_JSON_MAX);
    limn_buf_addc(&b, '{');
    for (int i = 0, n = 0; i < t->count; i++) {
        if (!all && params->source[i] == LIMN_FROM_DEFAULT) continue;
        limn_buf_adds(&b, n++ ? ", " : "");
        limn_json_add_string(&b, t->rows[i].name);
        limn_buf_adds(&b, ": ");
        limn_json_add_value(&b, params, &t->rows[i]);
    }
    limn_buf_addc(&b, '}');
    *out = limn_buf_take(&b);
    limn_buf_deinit(&b);
    return *out ? LIMN_OK : limn_fail(err, LIMN_E_NOMEM, "no memory for the parameters as JSON");
}

static const char *wanted_type(const limn_param *p) {
    switch (p->type) {
    case LIMN_TYPE_INT: return "a whole number";
    case LIMN_TYPE_REAL: return "a number";
    case LIMN_TYPE_BOOL: return "true or false";
    case LIMN_TYPE_BYTES: return "bytes (number) or a string such as \"6G\"";
    case LIMN_TYPE_LIST: return "an array of strings";
    case LIMN_TYPE_ENUM:
    case LIMN_TYPE_TEXT: break;
    }
    return "a string";
}

static limn_status wrong_type(const char *where, const limn_param *p, limn_err *err) {
    return limn_fail(err, LIMN_E_VALUE, "%s: must be %s", where, wanted_type(p));
}

static limn_status set_list(limn_params *r, const limn_param *p, const json_t *value,
                            const char *where, limn_source from, limn_err *err) {
    if (!limn_param_may_set(r, p, from)) return LIMN_OK;
    limn_status st = limn_param_reset(r, p, err);
    for (size_t i = 0; st == LIMN_OK && i < json_array_size(value); i++) {
        const json_t *item = json_array_get(value, i);
        char place[160];
        snprintf(place, sizeof place, "%s/%zu", where, i);
        if (!json_is_string(item))
            return limn_fail(err, LIMN_E_VALUE, "%s: must be a string", place);
        st = limn_param_parse(r, p, json_string_value(item), place, from, err);
    }
    if (st == LIMN_OK)
        r->source[limn_param_index(limn_param_table_get(r->kind), p)] = (uint8_t)from;
    return st;
}

limn_status limn_json_set_value(limn_params *r, const limn_param *p, const json_t *value,
                                const char *where, limn_source from, limn_err *err) {
    switch (p->type) {
    case LIMN_TYPE_INT:
    case LIMN_TYPE_BYTES:
        if (json_is_integer(value))
            return limn_param_parse_int(r, p, json_integer_value(value), where, from, err);
        if (json_is_real(value)) { /* 20.0 is a whole number too */
            double v = json_real_value(value);
            if (v == floor(v) && fabs(v) < 9e15)
                return limn_param_parse_int(r, p, (int64_t)v, where, from, err);
        }
        if (p->type == LIMN_TYPE_BYTES && json_is_string(value))
            return limn_param_parse(r, p, json_string_value(value), where, from, err);
        return wrong_type(where, p, err);
    case LIMN_TYPE_REAL:
        if (!json_is_number(value)) return wrong_type(where, p, err);
        return limn_param_parse_real(r, p, json_number_value(value), where, from, err);
    case LIMN_TYPE_BOOL:
        if (!json_is_boolean(value)) return wrong_type(where, p, err);
        return limn_param_parse(r, p, json_is_true(value) ? "on" : "off", where, from, err);
    case LIMN_TYPE_ENUM:
    case LIMN_TYPE_TEXT:
        if (!json_is_string(value)) return wrong_type(where, p, err);
        return limn_param_parse(r, p, json_string_value(value), where, from, err);
    case LIMN_TYPE_LIST:
        if (!json_is_array(value)) return wrong_type(where, p, err);
        return set_list(r, p, value, where, from, err);
    }
    return wrong_type(where, p, err);
}

limn_status limn_json_load(json_t **out, const char *text, size_t len, limn_err *err) {
    json_error_t e;
    *out = NULL;
    if (len > LIMN_JSON_MAX)
        return limn_fail(err, LIMN_E_LIMIT, "JSON of %zu bytes, at most %d are allowed", len,
                         LIMN_JSON_MAX);
    *out = json_loadb(text, len, JSON_REJECT_DUPLICATES, &e);
    if (!*out)
        return limn_fail(err, LIMN_E_FORMAT, "JSON line %d column %d: %s", e.line, e.column,
                         e.text);
    return LIMN_OK;
}

void limn_params_swap(limn_params *a, limn_params *b) {
    size_t size = limn_param_table_get(a->kind)->size;
    unsigned char *x = (unsigned char *)a, *y = (unsigned char *)b;
    for (size_t i = 0; i < size; i++) {
        unsigned char t = x[i];
        x[i] = y[i];
        y[i] = t;
    }
}

limn_status limn_params_parse_json(limn_params *params, const char *text, size_t len,
                                   limn_source from, limn_err *err) {
    limn_status st = LIMN_OK;
    json_t *root = NULL;
    limn_params *work = NULL;
    const limn_param_table *t = limn_param_table_get(params->kind);
    const char *key;
    json_t *value;
    LIMN_TRY(limn_json_load(&root, text, len, err));
    LIMN_CHECK(err, json_is_object(root), LIMN_E_VALUE, "the JSON text must be an object");
    LIMN_TRY(limn_params_copy(&work, params, err));
    json_object_foreach(root, key, value) {
        char where[128];
        snprintf(where, sizeof where, "/%.100s", key);
        const limn_param *p = limn_param_find(t, key);
        if (!p) {
            int distance;
            const char *near = limn_param_nearest(t, key, &distance);
            st = limn_fail(err, LIMN_E_VALUE, "%s: there is no such parameter%s%s%s", where,
                           near ? " (did you mean " : "", near ? near : "", near ? "?)" : "");
            goto out;
        }
        LIMN_TRY(limn_json_set_value(work, p, value, where, from, err));
    }
    limn_params_swap(params, work);
out:
    limn_params_free(&work);
    json_decref(root);
    return st;
}
