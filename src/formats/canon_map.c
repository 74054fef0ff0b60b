/* SPDX-License-Identifier: MIT */
/* Walking and renaming; see canon_map.h. */
#include "formats/canon_map.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"

limn_status limn_canon_begin(limn_canon *c, const limn_weights *src, const char *prefix,
                             limn_err *err) {
    *c = (limn_canon){.src = src, .prefix = prefix, .err = err};
    limn_buf_init(&c->unmapped, 1 << 14);
    limn_status st =
        limn_weights_new(&c->out, limn_weights_path(src), limn_weights_format(src), err);
    return st == LIMN_OK ? limn_weights_keep_parent(c->out, src, err) : st;
}

const limn_tensor *limn_canon_source(const limn_canon *c, const char *fmt, ...) {
    char name[LIMN_CANON_NAME];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    return n < 0 || (size_t)n >= sizeof name ? NULL
                                             : limn_weights_findf(c->src, "%s%s", c->prefix, name);
}

bool limn_canon_is_linear_name(const char *name) {
    static const char *const ends[] = {".proj_in.weight", ".proj_out.weight", ".to_q.weight",
                                       ".to_k.weight",    ".to_v.weight",     ".to_out.0.weight",
                                       ".ff.net.2.weight"};
    size_t n = strlen(name);
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        size_t m = strlen(ends[i]);
        if (n >= m && strcmp(name + n - m, ends[i]) == 0) return true;
    }
    return false;
}

limn_tensor limn_canon_as_linear(const limn_tensor *t) {
    limn_tensor v = *t;
    while (v.shape.ndim > 2 && v.shape.dim[v.shape.ndim - 1] == 1) v.shape.ndim--;
    return v;
}

static void unmapped_note(limn_canon *c, const char *rest) {
    if (c->n_unmapped++ >= 8) return;
    if (c->n_unmapped > 1) limn_buf_adds(&c->unmapped, ",");
    limn_buf_adds(&c->unmapped, rest);
}

limn_status limn_canon_walk(limn_canon *c, limn_canon_name_fn *fn, void *user) {
    size_t n = strlen(c->prefix);
    char name[LIMN_CANON_NAME];
    for (size_t i = 0; i < limn_weights_count(c->src); i++) {
        const char *full = limn_weights_name(c->src, i);
        if (strncmp(full, c->prefix, n) != 0) continue;
        const limn_tensor *t = limn_weights_at(c->src, i);
        limn_status st = limn_canon_packed_check(c, full, t);
        if (st != LIMN_OK) return st;
        if (limn_canon_is_scale(full)) continue;
        limn_canon_verdict v = fn(user, full + n, name);
        if (v == LIMN_CANON_UNKNOWN) unmapped_note(c, full);
        if (v != LIMN_CANON_KEEP) continue;
        limn_tensor view = limn_canon_is_linear_name(name) ? limn_canon_as_linear(t) : *t;
        const limn_tensor *scale = limn_canon_scale_find(c, full, t);
        st = scale ? limn_canon_scaled_add(c, name, &view, scale)
                   : limn_weights_add(c->out, name, &view, c->err);
        if (st != LIMN_OK) return st;
    }
    return LIMN_OK;
}

limn_status limn_canon_end(limn_canon *c, limn_weights **out, limn_status st) {
    *out = NULL;
    if (st == LIMN_OK && c->n_unmapped) {
        limn_log(LIMN_LOG_WARN, "load", "%s: %zu tensors have no place in the network: %s",
                 limn_weights_path(c->src), c->n_unmapped, limn_buf_text(&c->unmapped));
        st = limn_weights_set_meta_str(c->out, "limn.unmapped", limn_buf_text(&c->unmapped),
                                       c->unmapped.len, c->err);
    }
    limn_buf_deinit(&c->unmapped);
    if (st == LIMN_OK)
        *out = c->out;
    else
        limn_weights_unref(&c->out);
    return st;
}

bool limn_canon_rules(char *name, const char *rest, const limn_canon_rule *rules, size_t n) {
    for (size_t i = 0; i < n; i++) {
        size_t m = strlen(rules[i].from);
        if (strncmp(rest, rules[i].from, m) != 0 || (rest[m] != '.' && rest[m] != 0)) continue;
        return limn_canon_put(name, "%s%s", rules[i].to, rest + m) == LIMN_CANON_KEEP;
    }
    return false;
}

int limn_canon_number(const char **p, const char *word) {
    const char *s = *p;
    size_t n = strlen(word);
    if (strncmp(s, word, n) != 0) return -1;
    s += n;
    if (n) {
        if (*s != '.') return -1;
        s++;
    }
    int v = 0, digits = 0;
    for (; isdigit((unsigned char)*s) && digits < 5; s++, digits++) v = v * 10 + (*s - '0');
    if (digits == 0 || (*s != '.' && *s != 0)) return -1;
    *p = *s ? s + 1 : s;
    return v;
}

limn_canon_verdict limn_canon_put(char *name, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(name, LIMN_CANON_NAME, fmt, ap);
    va_end(ap);
    return n > 0 && n < LIMN_CANON_NAME ? LIMN_CANON_KEEP : LIMN_CANON_UNKNOWN;
}

int limn_canon_count(const limn_weights *w, int max, const char *before, const char *after) {
    int n = 0;
    while (n < max && limn_weights_findf(w, "%s%d%s", before, n, after)) n++;
    return n;
}

int limn_canon_dim(const limn_tensor *t, int d) {
    if (!t || d >= t->shape.ndim || t->shape.dim[d] > 1 << 30) return 0;
    return (int)t->shape.dim[d];
}
