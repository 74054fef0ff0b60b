/* SPDX-License-Identifier: MIT */
/* Records: making, copying, freeing, and values by name; see param.h and limn.h. */
#include "param/param.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "param/gen.h"

static const limn_param_table *const tables[LIMN_PARAMS_KINDS] = {
    [LIMN_PARAMS_GEN] = &limn_gen_table,
    [LIMN_PARAMS_APP] = &limn_app_table,
    [LIMN_PARAMS_SEE] = &limn_seeing_table,
    [LIMN_PARAMS_SERVE] = &limn_serve_table,
};

const limn_param_table *limn_param_table_get(limn_params_kind kind) {
    return tables[kind];
}

static char fold(char c) {
    if (c == '-' || c == ' ') return '_';
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool same_word(const char *a, const char *b, size_t len) {
    size_t i = 0;
    for (; i < len; i++)
        if (!a[i] || fold(a[i]) != fold(b[i])) return false;
    return a[i] == 0 || a[i] == '|';
}

bool limn_param_word_is(const char *words, const char *word, size_t len) {
    while (words) {
        if (same_word(words, word, len)) return true;
        words = strchr(words, '|');
        if (words) words++;
    }
    return false;
}

static bool row_is_called(const limn_param *p, const char *name, size_t len) {
    return same_word(p->name, name, len) || limn_param_word_is(p->cli, name, len) ||
           limn_param_word_is(p->aliases, name, len);
}

const limn_param *limn_param_find(const limn_param_table *table, const char *name) {
    size_t len = strlen(name);
    for (int i = 0; i < table->count; i++)
        if (row_is_called(&table->rows[i], name, len)) return &table->rows[i];
    return NULL;
}

/* Edit distance of two short words; 99 when one is long. */
static int word_distance(const char *a, const char *b) {
    size_t n = strlen(a), m = strlen(b);
    if (n > 40 || m > 40) return 99;
    int row[41];
    for (size_t j = 0; j <= m; j++) row[j] = (int)j;
    for (size_t i = 1; i <= n; i++) {
        int diagonal = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= m; j++) {
            int best = diagonal + (fold(a[i - 1]) != fold(b[j - 1]));
            diagonal = row[j];
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[m];
}

const char *limn_param_nearest(const limn_param_table *table, const char *name, int *distance) {
    const char *best = NULL;
    int least = strlen(name) < 5 ? 2 : 3;
    for (int i = 0; i < table->count; i++) {
        const char *words[2] = {table->rows[i].name, table->rows[i].cli};
        for (int k = 0; k < 2; k++) {
            int d = words[k] ? word_distance(name, words[k]) : 99;
            if (d >= least) continue;
            least = d;
            best = words[k];
        }
    }
    *distance = best ? least : 99;
    return best;
}

static void texts_clear(limn_texts *t) {
    for (int i = 0; i < t->count; i++) limn_mem_free(t->item[i]);
    limn_mem_free(t->item);
    *t = (limn_texts){0};
}

limn_status limn_param_reset(limn_params *r, const limn_param *p, limn_err *err) {
    void *field = limn_param_field(r, p);
    char *text = NULL;
    switch (p->type) {
    case LIMN_TYPE_INT:
    case LIMN_TYPE_BYTES: *(int64_t *)field = p->def.i; break;
    case LIMN_TYPE_REAL: *(double *)field = p->def.r; break;
    case LIMN_TYPE_BOOL: *(bool *)field = p->def.i != 0; break;
    case LIMN_TYPE_ENUM: *(int *)field = (int)p->def.i; break;
    case LIMN_TYPE_TEXT:
        text = limn_mem_strdup(p->def.s ? p->def.s : "");
        if (!text) return limn_fail(err, LIMN_E_NOMEM, "no memory for the parameters");
        limn_mem_free(*(char **)field);
        *(char **)field = text;
        break;
    case LIMN_TYPE_LIST: texts_clear(field); break;
    }
    r->source[limn_param_index(tables[r->kind], p)] = LIMN_FROM_DEFAULT;
    return LIMN_OK;
}

limn_status limn_params_new(limn_params **out, limn_params_kind kind, limn_err *err) {
    *out = NULL;
    if ((unsigned)kind >= LIMN_PARAMS_KINDS)
        return limn_fail(err, LIMN_E_INTERNAL, "there is no parameter table %d", (int)kind);
    const limn_param_table *t = tables[kind];
    assert(t->count <= LIMN_PARAM_MAX);
    limn_params *r = limn_mem_calloc(1, t->size);
    if (!r) return limn_fail(err, LIMN_E_NOMEM, "no memory for the parameters");
    r->kind = kind;
    for (int i = 0; i < t->count; i++) {
        limn_status st = limn_param_reset(r, &t->rows[i], err);
        if (st != LIMN_OK) {
            limn_params_free(&r);
            return st;
        }
    }
    *out = r;
    return LIMN_OK;
}

void limn_params_free(limn_params **params) {
    limn_params *r = params ? *params : NULL;
    if (!r) return;
    *params = NULL;
    const limn_param_table *t = tables[r->kind];
    for (int i = 0; i < t->count; i++) {
        void *field = limn_param_field(r, &t->rows[i]);
        if (t->rows[i].type == LIMN_TYPE_TEXT) limn_mem_free(*(char **)field);
        if (t->rows[i].type == LIMN_TYPE_LIST) texts_clear(field);
    }
    limn_mem_free(r);
}

static bool texts_copy(limn_texts *to, const limn_texts *from) {
    if (from->count == 0) return true;
    to->item = limn_mem_calloc((size_t)from->count, sizeof *to->item);
    if (!to->item) return false;
    for (int i = 0; i < from->count; i++) {
        to->item[i] = limn_mem_strdup(from->item[i]);
        if (!to->item[i]) return false;
        to->count++;
    }
    return true;
}

limn_status limn_params_copy(limn_params **out, const limn_params *from, limn_err *err) {
    *out = NULL;
    const limn_param_table *t = tables[from->kind];
    limn_params *r = limn_mem_calloc(1, t->size);
    if (!r) return limn_fail(err, LIMN_E_NOMEM, "no memory for the parameters");
    memcpy(r, from, t->size);
    /* first no borrowed pointer is left, then the copies are made: a failure can free safely */
    for (int i = 0; i < t->count; i++) {
        void *field = limn_param_field(r, &t->rows[i]);
        if (t->rows[i].type == LIMN_TYPE_TEXT) *(char **)field = NULL;
        if (t->rows[i].type == LIMN_TYPE_LIST) *(limn_texts *)field = (limn_texts){0};
    }
    for (int i = 0; i < t->count; i++) {
        const limn_param *p = &t->rows[i];
        void *to = limn_param_field(r, p);
        const void *source = limn_param_field(from, p);
        bool ok = true;
        if (p->type == LIMN_TYPE_TEXT) {
            *(char **)to = limn_mem_strdup(*(char *const *)source);
            ok = *(char **)to != NULL;
        }
        if (p->type == LIMN_TYPE_LIST) ok = texts_copy(to, source);
        if (ok) continue;
        limn_params_free(&r);
        return limn_fail(err, LIMN_E_NOMEM, "no memory for the parameters");
    }
    *out = r;
    return LIMN_OK;
}

bool limn_param_may_set(const limn_params *r, const limn_param *p, limn_source from) {
    return r->source[limn_param_index(tables[r->kind], p)] <= (uint8_t)from;
}

static limn_status unknown_name(const limn_params *r, const char *name, limn_err *err) {
    int distance;
    const char *near = limn_param_nearest(tables[r->kind], name, &distance);
    return limn_fail(err, LIMN_E_USAGE, "there is no parameter \"%.60s\"%s%s%s", name,
                     near ? " (did you mean " : "", near ? near : "", near ? "?)" : "");
}

limn_status limn_params_set(limn_params *params, const char *name, const char *value,
                            limn_source from, limn_err *err) {
    const limn_param *p = limn_param_find(tables[params->kind], name);
    if (!p) return unknown_name(params, name, err);
    return limn_param_parse(params, p, value, p->name, from, err);
}

limn_status limn_params_unset(limn_params *params, const char *name, limn_err *err) {
    const limn_param *p = limn_param_find(tables[params->kind], name);
    if (!p) return unknown_name(params, name, err);
    return limn_param_reset(params, p, err);
}

limn_source limn_params_source(const limn_params *params, const char *name) {
    const limn_param_table *t = tables[params->kind];
    const limn_param *p = limn_param_find(t, name);
    return p ? (limn_source)params->source[limn_param_index(t, p)] : LIMN_FROM_DEFAULT;
}

bool limn_params_is_set(const limn_params *params, const char *name) {
    return limn_params_source(params, name) != LIMN_FROM_DEFAULT;
}

int64_t limn_params_int(const limn_params *params, const char *name) {
    const limn_param *p = limn_param_find(tables[params->kind], name);
    if (!p) return 0;
    const void *field = limn_param_field(params, p);
    switch (p->type) {
    case LIMN_TYPE_INT:
    case LIMN_TYPE_BYTES: return *(const int64_t *)field;
    case LIMN_TYPE_BOOL: return *(const bool *)field;
    default: return 0;
    }
}

double limn_params_real(const limn_params *params, const char *name) {
    const limn_param *p = limn_param_find(tables[params->kind], name);
    if (!p || p->type != LIMN_TYPE_REAL) return 0;
    return *(const double *)limn_param_field(params, p);
}

const char *limn_params_text(const limn_params *params, const char *name) {
    const limn_param *p = limn_param_find(tables[params->kind], name);
    if (!p) return "";
    const void *field = limn_param_field(params, p);
    if (p->type == LIMN_TYPE_TEXT) return *(char *const *)field;
    if (p->type == LIMN_TYPE_ENUM) return p->words[*(const int *)field].name;
    return "";
}

static const limn_texts *list_of(const limn_params *params, const char *name) {
    const limn_param *p = limn_param_find(tables[params->kind], name);
    return p && p->type == LIMN_TYPE_LIST ? limn_param_field(params, p) : NULL;
}

int limn_params_list_count(const limn_params *params, const char *name) {
    const limn_texts *t = list_of(params, name);
    return t ? t->count : 0;
}

const char *limn_params_list_item(const limn_params *params, const char *name, int index) {
    const limn_texts *t = list_of(params, name);
    return t && index >= 0 && index < t->count ? t->item[index] : "";
}

int limn_params_count(limn_params_kind kind) {
    return (unsigned)kind < LIMN_PARAMS_KINDS ? tables[kind]->count : 0;
}

bool limn_params_info(limn_param_info *out, limn_params_kind kind, int index) {
    if (index < 0 || index >= limn_params_count(kind)) return false;
    const limn_param *p = &tables[kind]->rows[index];
    *out = (limn_param_info){
        .name = p->name,
        .type = p->type,
        .group = p->group,
        .cli = p->cli ? p->cli : p->name,
        .cli_short = p->cli_short,
        .help = p->help,
        .list = p->list,
        .min = p->min,
        .max = p->max,
        .ui_min = p->ui_min,
        .ui_max = p->ui_max,
        .ui_step = p->ui_step,
    };
    return true;
}

bool limn_params_word(limn_choice *out, limn_params_kind kind, int index, int word) {
    if (index < 0 || index >= limn_params_count(kind) || word < 0) return false;
    const limn_word *w = tables[kind]->rows[index].words;
    while (w && w->name && word > 0) w++, word--;
    if (!w || !w->name) return false;
    *out = (limn_choice){.name = w->name, .aliases = w->aliases};
    return true;
}

bool limn_gen_wants_hires(const limn_gen *g) {
    return g->hires_scale > 1 || limn_gen_has(g, "hires_width") || limn_gen_has(g, "hires_height");
}

void limn_text_free(char **text) {
    if (!text) return;
    limn_mem_free(*text);
    *text = NULL;
}
