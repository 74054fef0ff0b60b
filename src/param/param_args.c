/* SPDX-License-Identifier: MIT */
/*
 * Command-line options from the tables; see limn_params_parse_args in limn.h.
 *
 * Accepted: --name value, --name=value, -s value, -svalue, --flag, --no-flag, --flag=off, and "--"
 * after which nothing is an option. A negative number after a numeric option is its value.
 */
#include <stdio.h>
#include <string.h>

#include "param/param.h"

typedef struct target {
    limn_params *record;
    const limn_param *row;
    bool negated; /* --no-flag */
} target;

static bool find_long(target *out, limn_params *const *sets, int n_sets, const char *name) {
    for (int i = 0; i < n_sets; i++) {
        const limn_param *p = limn_param_find(limn_param_table_get(sets[i]->kind), name);
        if (!p) continue;
        *out = (target){sets[i], p, false};
        return true;
    }
    if (strncmp(name, "no-", 3) != 0) return false;
    if (!find_long(out, sets, n_sets, name + 3) || out->row->type != LIMN_TYPE_BOOL) return false;
    out->negated = !out->negated;
    return true;
}

static bool find_short(target *out, limn_params *const *sets, int n_sets, char letter) {
    for (int i = 0; i < n_sets; i++) {
        const limn_param_table *t = limn_param_table_get(sets[i]->kind);
        for (int k = 0; k < t->count; k++) {
            if (t->rows[k].cli_short != letter) continue;
            *out = (target){sets[i], &t->rows[k], false};
            return true;
        }
    }
    return false;
}

static limn_status unknown_option(limn_params *const *sets, int n_sets, const char *name,
                                  limn_err *err) {
    char word[80], best_word[80] = "";
    int least = 99;
    snprintf(word, sizeof word, "%.70s", name);
    for (int i = 0; i < n_sets; i++) {
        int d;
        const char *near = limn_param_nearest(limn_param_table_get(sets[i]->kind), word, &d);
        if (!near || d >= least) continue;
        least = d;
        snprintf(best_word, sizeof best_word, "%.70s", near);
    }
    for (char *c = best_word; *c; c++)
        if (*c == '_') *c = '-';
    return limn_fail(err, LIMN_E_USAGE, "unknown option --%s%s%s%s", word,
                     *best_word ? " (did you mean --" : "", best_word, *best_word ? "?)" : "");
}

/* Sets one option. `value` NULL: only a BOOL can go without. */
static limn_status set_option(const target *t, const char *where, const char *value,
                              limn_err *err) {
    if (t->row->type == LIMN_TYPE_BOOL && !value)
        return limn_param_parse(t->record, t->row, t->negated ? "off" : "on", where, LIMN_FROM_CLI,
                                err);
    if (t->negated) return limn_fail(err, LIMN_E_USAGE, "%s: takes no value", where);
    if (!value) return limn_fail(err, LIMN_E_USAGE, "%s: needs a value", where);
    return limn_param_parse(t->record, t->row, value, where, LIMN_FROM_CLI, err);
}

limn_status limn_params_parse_args(limn_params *const *sets, int n_sets, int argc, char **argv,
                                   int *n_rest, limn_err *err) {
    int rest = 0;
    bool options = true;
    *n_rest = 0;
    for (int i = 0; i < argc; i++) {
        char *arg = argv[i], *value = NULL;
        char where[80];
        target t;
        if (!options || arg[0] != '-' || arg[1] == 0) {
            argv[rest++] = arg;
            continue;
        }
        if (strcmp(arg, "--") == 0) {
            options = false;
            continue;
        }
        if (arg[1] == '-') {
            value = strchr(arg, '=');
            size_t len = value ? (size_t)(value - arg) : strlen(arg);
            if (value) value++;
            if (len >= sizeof where)
                return limn_fail(err, LIMN_E_USAGE, "unknown option %.60s...", arg);
            memcpy(where, arg, len);
            where[len] = 0;
            if (len < 4 || !find_long(&t, sets, n_sets, where + 2))
                return unknown_option(sets, n_sets, where + 2, err);
        } else {
            snprintf(where, sizeof where, "-%c", arg[1]);
            if (!find_short(&t, sets, n_sets, arg[1]))
                return limn_fail(err, LIMN_E_USAGE, "unknown option %s", where);
            if (arg[2]) value = arg + 2 + (arg[2] == '=');
        }
        if (!value && t.row->type != LIMN_TYPE_BOOL && i + 1 < argc) value = argv[++i];
        limn_status st = set_option(&t, where, value, err);
        if (st != LIMN_OK) return st;
    }
    *n_rest = rest;
    return LIMN_OK;
}
