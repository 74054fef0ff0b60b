/* SPDX-License-Identifier: MIT */
/*
 * Finding the row for a path. The tables are small and matched in order; a literal segment is
 * listed before {name} where both fit.
 */
#include <string.h>
#include <strings.h>

#include "server/http_gate.h"
#include "server/server.h"

static const char *const methods[] = {"GET", "POST", "PUT", "PATCH", "DELETE"};

static const limn_route_table *const tables[] = {&limn_native_routes, &limn_openai_routes,
                                                 &limn_sdapi_routes, &limn_page_routes, NULL};

const limn_route_table *const *limn_route_tables(void) {
    return tables;
}

/* Segment of `s` up to '/' or the end. */
static size_t segment(const char *s, size_t len) {
    const char *slash = memchr(s, '/', len);
    return slash ? (size_t)(slash - s) : len;
}

/* Walks pattern and path together; the raw spans of {segments} go to `at` and `n`. */
static bool fits(const char *pattern, const char *path, size_t len, const char *at[], size_t n[]) {
    size_t plen = strlen(pattern);
    int args = 0;
    while (plen && len) {
        if (*pattern != '/' || *path != '/') return false;
        pattern++, plen--, path++, len--;
        size_t a = segment(pattern, plen), b = segment(path, len);
        if (a && pattern[0] == '{') {
            if (!b || args == LIMN_ROUTE_ARGS) return false;
            at[args] = path;
            n[args++] = b;
        } else if (a != b || memcmp(pattern, path, a) != 0) {
            return false;
        }
        pattern += a, plen -= a, path += b, len -= b;
    }
    for (; args < LIMN_ROUTE_ARGS; args++) at[args] = NULL;
    return plen == 0 && len == 0;
}

static bool decode_args(const char *args[], limn_arena *arena, const char *at[], const size_t n[]) {
    for (int i = 0; i < LIMN_ROUTE_ARGS; i++) {
        args[i] = NULL;
        if (!at[i]) continue;
        char *text = limn_arena_alloc(arena, n[i] + 1);
        if (!text || !limn_http_decode(text, at[i], n[i], false)) return false;
        args[i] = text;
    }
    return true;
}

static unsigned method_bit(const char *method) {
    for (unsigned i = 0; i < sizeof methods / sizeof methods[0]; i++)
        if (strcmp(methods[i], method) == 0) return 1u << i;
    return 0;
}

const limn_route *limn_route_find(const limn_route_table **table, const char *method,
                                  const char *raw_path, size_t len, limn_arena *arena,
                                  const char *args[LIMN_ROUTE_ARGS], unsigned *allow) {
    const char *at[LIMN_ROUTE_ARGS];
    size_t n[LIMN_ROUTE_ARGS];
    const char *want = strcmp(method, "HEAD") == 0 ? "GET" : method;
    *allow = 0;
    for (int t = 0; tables[t]; t++) {
        for (int i = 0; i < tables[t]->count; i++) {
            const limn_route *row = &tables[t]->rows[i];
            if (!fits(row->path, raw_path, len, at, n)) continue;
            *allow |= method_bit(row->method);
            if (strcmp(row->method, want) != 0) continue;
            if (!decode_args(args, arena, at, n)) return NULL;
            *table = tables[t];
            return row;
        }
    }
    return NULL;
}

limn_http_family limn_route_family(const char *raw_path, size_t len) {
    static const struct {
        const char *prefix;
        limn_http_family family;
    } rows[] = {{"/sdapi/", LIMN_FAMILY_SDAPI},        {"/internal/", LIMN_FAMILY_SDAPI},
                {"/v1/chat/", LIMN_FAMILY_OPENAI},     {"/v1/images/", LIMN_FAMILY_OPENAI},
                {"/v1/responses", LIMN_FAMILY_OPENAI}, {"/v1/moderations", LIMN_FAMILY_OPENAI},
                {"/v1/", LIMN_FAMILY_NATIVE}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        size_t n = strlen(rows[i].prefix);
        if (len >= n && memcmp(raw_path, rows[i].prefix, n) == 0) return rows[i].family;
    }
    return LIMN_FAMILY_PAGE;
}
