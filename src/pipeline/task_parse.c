/* SPDX-License-Identifier: MIT */
/*
 * What a model wrote -> findings; see task.h. Nothing here trusts the text: it may be cut, fenced,
 * wrapped in words, nested without end, or something else altogether.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "pipeline/task.h"

enum { DEPTH = 64, STARTS = 16, ROWS_MAX = 65536, TIME_MAX = 10000000 };

/* ---- findings ---- */

void limn_findings_init(limn_findings *f) {
    *f = (limn_findings){0};
    limn_arena_init(&f->arena);
}

void limn_findings_deinit(limn_findings *f) {
    limn_mem_free(f->list);
    limn_arena_deinit(&f->arena);
}

limn_status limn_findings_add(limn_findings *f, const limn_finding *row, limn_err *err) {
    if (f->n == f->cap) {
        size_t cap = f->cap ? f->cap * 2 : 16;
        limn_finding *grown = limn_mem_realloc(f->list, cap * sizeof *grown);
        if (!grown) return limn_fail(err, LIMN_E_NOMEM, "no memory for what was found");
        f->list = grown;
        f->cap = cap;
    }
    limn_finding *to = &f->list[f->n];
    *to = *row;
    to->label = limn_arena_strdup(&f->arena, row->label ? row->label : "");
    to->text = limn_arena_strdup(&f->arena, row->text ? row->text : "");
    if (!to->label || !to->text) return limn_fail(err, LIMN_E_NOMEM, "no memory for a finding");
    f->n++;
    return LIMN_OK;
}

/* ---- JSON out of a text ---- */

/* Walks over JSON that may end anywhere and remembers the last place at which it could be closed.
 */
typedef struct walker {
    char stack[DEPTH];
    int depth;
    size_t safe; /* bytes up to the last whole element; 0: none */
    char safe_stack[DEPTH];
    int safe_depth;
} walker;

static void mark_safe(walker *w, size_t at) {
    w->safe = at;
    w->safe_depth = w->depth;
    memcpy(w->safe_stack, w->stack, (size_t)w->depth);
}

/* Elements of lists are whole by themselves, members of an object are not; but of an object that is
 * all there is, what came is kept. */
static bool is_list(const walker *w) {
    return w->depth > 0 && (w->stack[w->depth - 1] == '[' || w->depth == 1);
}

/* Bytes of the string that begins at text[at]; past the end when it is not closed. */
static size_t string_end(const char *text, size_t len, size_t at) {
    for (at++; at < len && text[at] != '"'; at++)
        if (text[at] == '\\') at++;
    return at + 1;
}

static void walk(walker *w, const char *text, size_t len) {
    *w = (walker){.depth = 0};
    for (size_t at = 0; at < len;) {
        char c = text[at];
        if (c == '"') {
            at = string_end(text, len, at);
            if (at <= len && w->depth > 0 && w->stack[w->depth - 1] == '[') mark_safe(w, at);
            continue;
        }
        if (c == '[' || c == '{') {
            if (w->depth == DEPTH) return;
            w->stack[w->depth++] = c;
        } else if (c == ']' || c == '}') {
            if (w->depth == 0) return;
            w->depth--;
            if (is_list(w)) mark_safe(w, at + 1);
        } else if (c == ',' && is_list(w)) {
            mark_safe(w, at);
        }
        at++;
    }
}

/* The value that begins here, closed after its last whole element. */
static json_t *salvage(const char *text, size_t len) {
    walker w;
    json_t *value = NULL;
    limn_buf b;
    walk(&w, text, len);
    if (w.safe == 0) return NULL;
    limn_buf_init(&b, len + DEPTH + 1);
    limn_buf_add(&b, text, w.safe);
    for (int i = w.safe_depth; i > 0; i--)
        limn_buf_addc(&b, w.safe_stack[i - 1] == '[' ? ']' : '}');
    if (!b.failed) value = json_loads(limn_buf_text(&b), 0, NULL);
    limn_buf_deinit(&b);
    return value;
}

json_t *limn_task_json(const char *text, size_t len, bool *cut) {
    const char *first = NULL;
    int tried = 0;
    *cut = false;
    for (size_t at = 0; at < len && tried < STARTS; at++) {
        if (text[at] != '[' && text[at] != '{') continue;
        if (!first) first = text + at;
        tried++;
        json_t *v = json_loadb(text + at, len - at, JSON_DISABLE_EOF_CHECK, NULL);
        if (v) return v;
        /* When it was only cut, what follows is inside it: no use to look there first. */
        walker w;
        walk(&w, text + at, len - at);
        if (w.depth > 0) break;
    }
    *cut = first != NULL;
    return first ? salvage(first, len - (size_t)(first - text)) : NULL;
}

/* ---- rows ---- */

static json_t *get(const json_t *row, const char *const *names) {
    for (; *names; names++) {
        json_t *v = json_object_get(row, *names);
        if (v) return v;
    }
    return NULL;
}

static const char *const box_names[] = {"bbox_2d", "bbox", "box_2d", "box", NULL};
static const char *const point_names[] = {"point_2d", "point", NULL};
static const char *const label_names[] = {"label", "name", "category", "tag", NULL};
static const char *const text_names[] = {"text_content", "text",  "content", "description",
                                         "reason",       "event", NULL};
static const char *const start_names[] = {"start", "start_time", "time", NULL};
static const char *const end_names[] = {"end", "end_time", "time", NULL};

/* `n` numbers of 0..1000, a little over is forgiven, as pixels of a picture. */
static bool numbers_get(double *out, const json_t *v, size_t n, const limn_task_frame *frame) {
    if (json_array_size(v) != n) return false;
    for (size_t i = 0; i < n; i++) {
        json_t *x = json_array_get(v, i);
        double d = json_number_value(x);
        if (!json_is_number(x) || !(d >= -50 && d <= 1050)) return false;
        d = d < 0 ? 0 : d > 1000 ? 1000 : d;
        out[i] = d / 1000 * (i % 2 == 0 ? frame->width : frame->height);
    }
    return true;
}

static bool box_get(limn_finding *f, const json_t *v, const limn_task_frame *frame) {
    if (!numbers_get(f->box, v, 4, frame)) return false;
    for (int i = 0; i < 2; i++) { /* corners in any order */
        double a = f->box[i], b = f->box[i + 2];
        f->box[i] = a < b ? a : b;
        f->box[i + 2] = a < b ? b : a;
    }
    return f->has_box = true;
}

bool limn_task_time_parse(double *seconds, const char *text) {
    double part[3];
    int n = 0;
    const char *at = text;
    char *end;
    while (n < 3) {
        if (*at < '0' || *at > '9') return false;
        part[n++] = strtod(at, &end);
        if (*end != ':') break;
        at = end + 1;
    }
    while (*end == ' ') end++;
    if (strcmp(end, "s") != 0 && strcmp(end, "seconds") != 0 && *end) return false;
    double sum = 0;
    for (int i = 0; i < n; i++) sum = sum * 60 + part[i];
    if (!(sum >= 0 && sum < TIME_MAX)) return false;
    *seconds = sum;
    return true;
}

static bool time_get(double *out, const json_t *v) {
    if (json_is_string(v)) return limn_task_time_parse(out, json_string_value(v));
    if (!json_is_number(v) || !(json_number_value(v) >= 0 && json_number_value(v) < TIME_MAX))
        return false;
    *out = json_number_value(v);
    return true;
}

/* A time in the clip, from start to end. */
static bool time_fits(limn_finding *f, const limn_task_frame *frame) {
    if (f->end < f->start || (frame->end > 0 && f->start > frame->end)) return false;
    if (frame->end > 0 && f->end > frame->end) f->end = frame->end;
    return true;
}

static bool row_read(limn_finding *f, const json_t *row, const limn_task_frame *frame) {
    json_t *box = get(row, box_names), *point = get(row, point_names), *v;
    *f = (limn_finding){.score = -1, .picture = frame->picture};
    if (!json_is_object(row)) return false;
    f->label = json_string_value(get(row, label_names));
    f->text = json_string_value(get(row, text_names));
    if (box && !json_is_null(box) && !box_get(f, box, frame)) return false;
    if (point && !json_is_null(point)) {
        if (!numbers_get(f->point, point, 2, frame)) return false;
        f->has_point = true;
    }
    if ((v = get(row, start_names)) != NULL) {
        f->has_time = time_get(&f->start, v) && time_get(&f->end, get(row, end_names));
        if (!f->has_time || !time_fits(f, frame)) return false;
    }
    v = json_object_get(row, "score");
    if (json_is_number(v) && json_number_value(v) >= 0 && json_number_value(v) <= 1)
        f->score = json_number_value(v);
    return f->label || f->text || f->has_box || f->has_point || f->has_time;
}

/* {"00:23.00 - 00:48.00": "what happens", ...} */
static bool span_read(limn_finding *f, const char *key, const json_t *value,
                      const limn_task_frame *frame) {
    char from[32];
    const char *dash = strstr(key, " - ");
    if (!dash || dash - key >= (long)sizeof from || !json_is_string(value)) return false;
    snprintf(from, sizeof from, "%.*s", (int)(dash - key), key);
    *f = (limn_finding){
        .score = -1, .picture = frame->picture, .text = json_string_value(value), .has_time = true};
    return limn_task_time_parse(&f->start, from) && limn_task_time_parse(&f->end, dash + 3) &&
           time_fits(f, frame);
}

static limn_status object_parse(limn_findings *out, json_t *root, const limn_task_frame *frame,
                                limn_err *err) {
    limn_finding f;
    const char *key;
    json_t *v;
    limn_status st = LIMN_OK;
    if (row_read(&f, root, frame)) return limn_findings_add(out, &f, err);
    size_t before = out->n;
    json_object_foreach(root, key, v) {
        if (span_read(&f, key, v, frame)) st = limn_findings_add(out, &f, err);
        if (st != LIMN_OK) return st;
    }
    if (out->n == before) out->dropped++;
    return LIMN_OK;
}

limn_status limn_task_rows_parse(limn_findings *out, const char *text, size_t len,
                                 const limn_task_frame *frame, limn_err *err) {
    limn_status st = LIMN_OK;
    bool cut;
    limn_finding f;
    size_t i;
    json_t *root = limn_task_json(text, len, &cut), *list = root, *v;
    const char *key;
    if (cut) out->cut = true;
    if (!root) {
        out->dropped++;
        return LIMN_OK;
    }
    if (json_is_object(root)) { /* {"objects": [...]} */
        list = NULL;
        json_object_foreach(root, key, v) {
            json_t *one = json_array_get(v, 0);
            if (json_is_object(one)) list = v;
        }
        if (!list) st = object_parse(out, root, frame, err);
    }
    json_array_foreach(list, i, v) {
        if (st != LIMN_OK || i == ROWS_MAX) break;
        if (row_read(&f, v, frame))
            st = limn_findings_add(out, &f, err);
        else
            out->dropped++;
    }
    json_decref(root);
    return st;
}

/* ---- tags ---- */

static limn_status tag_add(limn_findings *out, const char *text, size_t len, int picture,
                           limn_err *err) {
    char word[128];
    while (len > 0 && strchr(" \t\r\n-*\"'.;:[](){}0123456789", *text)) text++, len--;
    while (len > 0 && strchr(" \t\r\n\"'.;:[](){}", text[len - 1])) len--;
    if (len > 4 && strncasecmp(text, "and ", 4) == 0) text += 4, len -= 4;
    if (len == 0) return LIMN_OK;
    if (len >= sizeof word) {
        out->dropped++;
        return LIMN_OK;
    }
    memcpy(word, text, len);
    word[len] = 0;
    for (size_t i = 0; i < out->n; i++)
        if (out->list[i].picture == picture && strcasecmp(out->list[i].label, word) == 0)
            return LIMN_OK;
    return limn_findings_add(
        out, &(limn_finding){.label = word, .score = -1, .picture = picture, .chosen = true}, err);
}

limn_status limn_task_tags_parse(limn_findings *out, const char *text, size_t len, int picture,
                                 limn_err *err) {
    limn_status st = LIMN_OK;
    bool cut;
    size_t i, from = 0;
    json_t *root = limn_task_json(text, len, &cut), *list = root, *v;
    if (json_is_object(root)) list = json_object_get(root, "tags");
    if (json_is_array(list)) {
        out->cut = out->cut || cut;
        json_array_foreach(list, i, v) {
            const char *s = json_string_value(v);
            if (!s)
                out->dropped++;
            else if (st == LIMN_OK)
                st = tag_add(out, s, strlen(s), picture, err);
        }
        json_decref(root);
        return st;
    }
    json_decref(root);
    for (size_t at = 0; at <= len && st == LIMN_OK; at++) {
        bool and = at + 5 <= len && strncasecmp(text + at, " and ", 5) == 0;
        if (at < len && !strchr(",;\n", text[at]) && !and) continue;
        st = tag_add(out, text + from, at - from, picture, err);
        from = at + 1;
    }
    return st;
}
