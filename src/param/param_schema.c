/* SPDX-License-Identifier: MIT */
/* JSON Schema (draft 2020-12) of a table; see limn.h. */
#include "param/param_json.h"

#include <string.h>

static const char *const json_types[] = {
    [LIMN_TYPE_INT] = "integer", [LIMN_TYPE_REAL] = "number",   [LIMN_TYPE_BOOL] = "boolean",
    [LIMN_TYPE_ENUM] = "string", [LIMN_TYPE_BYTES] = "integer", [LIMN_TYPE_TEXT] = "string",
    [LIMN_TYPE_LIST] = "array",
};

static void add_number(limn_buf *out, const char *key, double value) {
    limn_buf_addf(out, ", \"%s\": ", key);
    if (value == (double)(int64_t)value)
        limn_buf_addf(out, "%lld", (long long)value);
    else
        limn_real_format(out, value);
}

static void add_words(limn_buf *out, const limn_param *p) {
    limn_buf_adds(out, ", \"enum\": [");
    for (const limn_word *w = p->words; w->name; w++) {
        if (w != p->words) limn_buf_adds(out, ", ");
        limn_json_add_string(out, w->name);
    }
    limn_buf_addc(out, ']');
}

/* A list of the engine is a suggestion ("examples"): aliases and files are valid too. */
static void add_choices(limn_buf *out, const limn_param *p, limn_choice_fn *choices) {
    limn_choice c;
    if (!choices || !p->list || !choices(&c, p->list, 0)) return;
    limn_buf_adds(out, ", \"examples\": [");
    for (int i = 0; choices(&c, p->list, i); i++) {
        if (i) limn_buf_adds(out, ", ");
        limn_json_add_string(out, c.name);
    }
    limn_buf_addc(out, ']');
}

static void add_row(limn_buf *out, const limn_params *defaults, const limn_param *p,
                    limn_choice_fn *choices) {
    limn_buf_adds(out, "    ");
    limn_json_add_string(out, p->name);
    limn_buf_addf(out, ": {\"type\": \"%s\", \"description\": ", json_types[p->type]);
    limn_json_add_string(out, p->help);
    if (p->type == LIMN_TYPE_INT || p->type == LIMN_TYPE_REAL || p->type == LIMN_TYPE_BYTES) {
        add_number(out, "minimum", p->flags & LIMN_P_RANDOM ? -1 : p->min);
        add_number(out, "maximum", p->max);
        if (p->multiple > 1) add_number(out, "multipleOf", p->multiple);
    }
    if (p->type == LIMN_TYPE_ENUM) add_words(out, p);
    if (p->type == LIMN_TYPE_LIST)
        limn_buf_addf(out, ", \"items\": {\"type\": \"string\"}, \"maxItems\": %d", LIMN_LIST_MAX);
    if (p->type == LIMN_TYPE_TEXT) {
        add_number(out, "maxLength", p->max);
        add_choices(out, p, choices);
    }
    if (!p->default_note) {
        limn_buf_adds(out, ", \"default\": ");
        limn_json_add_value(out, defaults, p);
    }
    limn_buf_adds(out, ", \"x-group\": ");
    limn_json_add_string(out, p->group);
    if (p->ui_step > 0) {
        add_number(out, "x-ui-min", p->ui_min);
        add_number(out, "x-ui-max", p->ui_max);
        add_number(out, "x-ui-step", p->ui_step);
    }
    limn_buf_addc(out, '}');
}

limn_status limn_params_schema(char **out, limn_params_kind kind, limn_choice_fn *choices,
                               limn_err *err) {
    limn_params *defaults;
    *out = NULL;
    limn_status st = limn_params_new(&defaults, kind, err);
    if (st != LIMN_OK) return st;
    const limn_param_table *t = limn_param_table_get(kind);
    limn_buf b;
    limn_buf_init(&b, LIMN_JSON_MAX);
    limn_buf_addf(&b,
                  "{\n  \"$schema\": \"https://json-schema.org/draft/2020-12/schema\",\n"
                  "  \"title\": \"limn %s parameters\",\n  \"type\": \"object\",\n"
                  "  \"additionalProperties\": false,\n  \"properties\": {\n",
                  t->name);
    for (int i = 0; i < t->count; i++) {
        add_row(&b, defaults, &t->rows[i], choices);
        limn_buf_adds(&b, i + 1 < t->count ? ",\n" : "\n");
    }
    limn_buf_adds(&b, "  }\n}\n");
    *out = limn_buf_take(&b);
    limn_buf_deinit(&b);
    limn_params_free(&defaults);
    return *out ? LIMN_OK : limn_fail(err, LIMN_E_NOMEM, "no memory for the schema");
}
