/* SPDX-License-Identifier: MIT */
/*
 * <type:name:...> of a prompt: cut out of the text and read. Syntax: A1111 extra_networks.py
 * (<(\w+):([^>]+)>) with the named and stepwise strengths of SD.Next.
 */
#include <stdlib.h>
#include <string.h>

#include "text/prompt_impl.h"

enum { NETS_MAX = 256, POINTS_MAX = 64, ARGS_MAX = 32 };

typedef struct net_reader {
    limn_arena *arena;
    limn_prompt_net *nets;
    size_t n;
    limn_err *err;
} net_reader;

typedef struct point {
    float value, at;
} point;

static int point_order(const void *a, const void *b) {
    float x = ((const point *)a)->at, y = ((const point *)b)->at;
    return x < y ? -1 : x > y;
}

/* "0.8" or "0@0,1@0.5" ('~' for '@', ';' for ','; a point without place is at the end). */
static bool read_points(point *p, size_t *count, const char *s, size_t n) {
    *count = 0;
    for (size_t i = 0; i <= n;) {
        size_t end = i, sep;
        while (end < n && s[end] != ',' && s[end] != ';') end++;
        for (sep = i; sep < end && s[sep] != '@' && s[sep] != '~';) sep++;
        double value, at = 1;
        if (*count == POINTS_MAX || !limn_prompt_number(s + i, sep - i, &value)) return false;
        if (sep < end && !limn_prompt_number(s + sep + 1, end - sep - 1, &at)) return false;
        if (value < -100 || value > 100 || at < 0 || at > LIMN_PROMPT_STEPS) return false;
        p[(*count)++] = (point){(float)value, (float)at};
        i = end + 1;
    }
    qsort(p, *count, sizeof *p, point_order);
    return *count > 0;
}

static bool read_curve(net_reader *r, limn_prompt_curve *c, const char *s, size_t n) {
    point p[POINTS_MAX];
    size_t count;
    if (!read_points(p, &count, s, n)) return false;
    float *value = limn_arena_alloc(r->arena, count * sizeof *value);
    float *at = limn_arena_alloc(r->arena, count * sizeof *at);
    if (!value || !at) return true; /* the arena has latched: reported at the end */
    for (size_t i = 0; i < count; i++) {
        value[i] = p[i].value;
        at[i] = p[i].at;
    }
    *c = (limn_prompt_curve){value, at, count};
    return true;
}

static bool is_key(const char *s, size_t n, const char *key) {
    return strlen(key) == n && memcmp(s, key, n) == 0;
}

/* key=value; unknown keys stay in `args` for whoever knows them. */
static bool read_named(net_reader *r, limn_prompt_net *net, const char *s, size_t key,
                       const char *value, size_t n) {
    double number;
    if (is_key(s, key, "te")) return read_curve(r, &net->te, value, n);
    if (is_key(s, key, "unet")) return read_curve(r, &net->unet, value, n);
    if (is_key(s, key, "in")) return read_curve(r, &net->in, value, n);
    if (is_key(s, key, "mid")) return read_curve(r, &net->mid, value, n);
    if (is_key(s, key, "out")) return read_curve(r, &net->out, value, n);
    if (is_key(s, key, "dyn")) {
        if (!limn_prompt_number(value, n, &number) || number < 0 || number > 65536) return false;
        net->dyn = (int)number;
    }
    if (is_key(s, key, "module")) {
        const char *copy = limn_arena_strndup(r->arena, value, n);
        if (copy) net->module = copy;
    }
    return true;
}

static bool read_argument(net_reader *r, limn_prompt_net *net, int *position, const char *s,
                          size_t n) {
    const char *eq = memchr(s, '=', n);
    if (eq) return read_named(r, net, s, (size_t)(eq - s), eq + 1, n - (size_t)(eq - s) - 1);
    if (is_key(s, n, "high") || is_key(s, n, "low")) {
        net->stage = s[0] == 'h' ? 1 : 2;
        return true;
    }
    if (n == 0 || (s[0] == '_' && s[n - 1] == '_')) return true; /* trigger words: kept in args */
    limn_prompt_curve *to = *position == 0 ? &net->strength : *position == 1 ? &net->unet : NULL;
    (*position)++;
    return !to || read_curve(r, to, s, n);
}

static char *lower_copy(limn_arena *arena, const char *s, size_t n) {
    char *p = limn_arena_strndup(arena, s, n);
    for (size_t i = 0; p && i < n; i++)
        if (p[i] >= 'A' && p[i] <= 'Z') p[i] = (char)(p[i] + 32);
    return p;
}

/* s[0..n) is what stands between < and >. */
static limn_status read_net(net_reader *r, const char *s, size_t n) {
    limn_prompt_net net = {.module = ""};
    size_t type = (size_t)((const char *)memchr(s, ':', n) - s), at = type + 1, end = at;
    int position = 0;
    while (end < n && s[end] != ':') end++;
    net.type = lower_copy(r->arena, s, type);
    net.name = limn_arena_strndup(r->arena, s + at, end - at);
    net.args = end < n ? limn_arena_strndup(r->arena, s + end + 1, n - end - 1) : "";
    if (!net.type || !net.name || !net.args)
        return limn_fail(r->err, LIMN_E_NOMEM, "no memory to parse a prompt");
    if (strcmp(net.type, "lyco") == 0) net.type = "lora";
    bool numbers = strcmp(net.type, "lora") == 0 || strcmp(net.type, "hypernet") == 0;
    for (int k = 0; end < n; k++) {
        at = end + 1;
        for (end = at; end < n && s[end] != ':';) end++;
        bool good = k < ARGS_MAX && read_argument(r, &net, &position, s + at, end - at);
        if (!good && numbers)
            return limn_fail(r->err, LIMN_E_VALUE, "<%.*s>: \"%.*s\" cannot be read",
                             (int)(n < 100 ? n : 100), s, (int)(end - at < 40 ? end - at : 40),
                             s + at);
    }
    if (r->n == NETS_MAX)
        return limn_fail(r->err, LIMN_E_LIMIT, "the prompt names more than %d networks", NETS_MAX);
    r->nets[r->n++] = net;
    return LIMN_OK;
}

limn_status limn_prompt_take_nets(limn_buf *out, limn_prompt_net **nets, size_t *count,
                                  limn_arena *arena, const char *s, size_t n, limn_err *err) {
    limn_status st = LIMN_OK;
    limn_prompt_net found[NETS_MAX];
    net_reader r = {.arena = arena, .nets = found, .err = err};
    size_t done = 0, next_gt = 0;
    for (size_t i = 0; i < n;) {
        size_t len = limn_prompt_net_at(s, n, i, &next_gt);
        if (!len) {
            i += s[i] == '\\' && i + 1 < n ? 2 : 1;
            continue;
        }
        limn_buf_add(out, s + done, i - done);
        LIMN_TRY(read_net(&r, s + i + 1, len - 2));
        done = i += len;
    }
    limn_buf_add(out, s + done, n - done);
    *count = r.n;
    *nets = r.n ? limn_arena_alloc(arena, r.n * sizeof **nets) : NULL;
    LIMN_CHECK(err, !arena->failed && !out->failed, LIMN_E_NOMEM, "no memory to parse a prompt");
    if (r.n) memcpy(*nets, found, r.n * sizeof **nets);
out:
    return st;
}

float limn_prompt_curve_at(const limn_prompt_curve *c, int step, int steps, float fallback) {
    if (c->n == 0) return fallback;
    if (c->n == 1) return c->value[0];
    bool share = c->at[c->n - 1] <= 1.0f;
    float x = !share ? (float)step : steps > 1 ? (float)step / (float)(steps - 1) : 0.0f;
    if (x <= c->at[0]) return c->value[0];
    for (size_t i = 1; i < c->n; i++) {
        if (x > c->at[i]) continue;
        float span = c->at[i] - c->at[i - 1];
        float t = span > 0 ? (x - c->at[i - 1]) / span : 1.0f;
        return c->value[i - 1] + (c->value[i] - c->value[i - 1]) * t;
    }
    return c->value[c->n - 1];
}
