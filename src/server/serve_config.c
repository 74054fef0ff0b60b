/* SPDX-License-Identifier: MIT */
/*
 * Settings from the environment and from a file, and the folders that follow from them. Both walk
 * the table; neither knows a setting by name.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "server/auth_file.h"
#include "server/serve_paths.h"

enum { CONFIG_MAX = 1 << 20 };

static limn_status join(char out[LIMN_SERVE_PATH_MAX], const char *a, const char *b,
                        limn_err *err) {
    int n = snprintf(out, LIMN_SERVE_PATH_MAX, "%s%s", a, b);
    if (n < 0 || n >= LIMN_SERVE_PATH_MAX) return limn_fail(err, LIMN_E_LIMIT, "path is too long");
    return LIMN_OK;
}

limn_status limn_serve_path_data(char out[LIMN_SERVE_PATH_MAX], const limn_params *serve,
                                 limn_err *err) {
    const limn_serve_settings *s = limn_serve_of(serve);
    const char *xdg = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    if (s->data_dir[0]) return join(out, s->data_dir, "", err);
    if (xdg && xdg[0] == '/') return join(out, xdg, "/limn", err);
    if (home && home[0] == '/') return join(out, home, "/.local/share/limn", err);
    return limn_fail(err, LIMN_E_NOT_FOUND, "there is no home folder; name one with --data-dir");
}

limn_status limn_serve_path_in(char out[LIMN_SERVE_PATH_MAX], const limn_params *serve,
                               const char *name, limn_err *err) {
    char dir[LIMN_SERVE_PATH_MAX];
    limn_status st = limn_serve_path_data(dir, serve, err);
    if (st != LIMN_OK) return st;
    size_t n = strlen(dir);
    if (n + 1 + strlen(name) >= LIMN_SERVE_PATH_MAX)
        return limn_fail(err, LIMN_E_LIMIT, "path is too long");
    memcpy(out, dir, n);
    out[n] = '/';
    memcpy(out + n + 1, name, strlen(name) + 1);
    return LIMN_OK;
}

limn_status limn_serve_path_keys(char out[LIMN_SERVE_PATH_MAX], const limn_params *serve,
                                 limn_err *err) {
    const limn_serve_settings *s = limn_serve_of(serve);
    if (s->keys[0]) return join(out, s->keys, "", err);
    return limn_serve_path_in(out, serve, "keys.json", err);
}

limn_status limn_params_parse_env(limn_params *params, const char *prefix, limn_err *err) {
    const limn_param_table *t = limn_param_table_get(params->kind);
    char name[128], item[LIMN_SERVE_PATH_MAX];
    for (int i = 0; i < t->count; i++) {
        const limn_param *p = &t->rows[i];
        snprintf(name, sizeof name, "%s%s", prefix, p->name);
        for (char *c = name; *c; c++) *c = (char)toupper((unsigned char)*c);
        const char *value = getenv(name);
        if (!value || !*value || !limn_param_may_set(params, p, LIMN_FROM_ENV)) continue;
        if (p->type != LIMN_TYPE_LIST) {
            limn_status st = limn_param_parse(params, p, value, name, LIMN_FROM_ENV, err);
            if (st != LIMN_OK) return st;
            continue;
        }
        while (*value) {
            size_t n = strcspn(value, ",");
            snprintf(item, sizeof item, "%.*s", (int)n, value);
            limn_status st = limn_param_parse(params, p, item, name, LIMN_FROM_ENV, err);
            if (st != LIMN_OK) return st;
            value += n + (value[n] == ',');
        }
    }
    return LIMN_OK;
}

static char *trim(char *s) {
    while (*s == ' ' || *s == '\t') s++;
    size_t n = strlen(s);
    while (n && strchr(" \t\r", s[n - 1])) s[--n] = 0;
    if (n >= 2 && s[0] == '"' && s[n - 1] == '"') {
        s[n - 1] = 0;
        s++;
    }
    return s;
}

static limn_status set_line(limn_params *const *sets, int n_sets, const char *name,
                            const char *value, const char *where, limn_err *err) {
    for (int i = 0; i < n_sets; i++) {
        const limn_param *p = limn_param_find(limn_param_table_get(sets[i]->kind), name);
        if (!p) continue;
        if (!limn_param_may_set(sets[i], p, LIMN_FROM_FILE)) return LIMN_OK;
        return limn_param_parse(sets[i], p, value, where, LIMN_FROM_FILE, err);
    }
    return limn_fail(err, LIMN_E_USAGE, "%s: there is no setting \"%.60s\"", where, name);
}

limn_status limn_params_parse_lines(limn_params *const *sets, int n_sets, const char *path,
                                    limn_err *err) {
    void *data;
    size_t size;
    limn_status st = limn_private_read(&data, &size, path, CONFIG_MAX, err);
    if (st != LIMN_OK) return st;
    int number = 0;
    char where[300];
    for (char *line = data, *next; st == LIMN_OK && line && *line; line = next) {
        next = strchr(line, '\n');
        if (next) *next++ = 0;
        number++;
        snprintf(where, sizeof where, "%.200s:%d", path, number);
        char *text = trim(line);
        if (!*text || *text == '#' || *text == ';' || *text == '[') continue;
        char *eq = strchr(text, '=');
        if (!eq) {
            st = limn_fail(err, LIMN_E_FORMAT, "%s: not \"name = value\"", where);
            break;
        }
        *eq = 0;
        st = set_line(sets, n_sets, trim(text), trim(eq + 1), where, err);
    }
    limn_mem_free(data);
    return st;
}
