/* SPDX-License-Identifier: MIT */
/* Findings -> text, CSV, JSON; see task.h. */
#include <math.h>
#include <string.h>

#include "pipeline/task.h"

/* ---- which columns there are ---- */
typedef struct columns {
    bool picture, label, text, score, chosen, box, point, time;
} columns;

static columns columns_of(const limn_sight_box *b) {
    columns c = {.picture = b->sight.n_pictures > 1};
    for (size_t i = 0; i < b->found.n; i++) {
        const limn_finding *f = &b->found.list[i];
        c.label = c.label || f->label[0];
        c.text = c.text || f->text[0];
        c.score = c.score || f->score >= 0;
        c.chosen = c.chosen || (f->score >= 0 && f->chosen);
        c.box = c.box || f->has_box;
        c.point = c.point || f->has_point;
        c.time = c.time || f->has_time;
    }
    return c;
}

/* ---- text ---- */

static void text_row(limn_buf *out, const limn_finding *f, const columns *c) {
    size_t before = out->len;
#define GAP (out->len > before ? "  " : "")
    if (f->score >= 0) limn_buf_addf(out, "%s%.3f", GAP, f->score);
    if (f->has_time && f->end > f->start)
        limn_buf_addf(out, "%s%.1f - %.1f s", GAP, f->start, f->end);
    else if (f->has_time)
        limn_buf_addf(out, "%s%.1f s", GAP, f->start);
    if (f->label[0]) limn_buf_addf(out, "%s%s", GAP, f->label);
    if (f->has_box)
        limn_buf_addf(out, "%s[%.0f, %.0f, %.0f, %.0f]", GAP, f->box[0], f->box[1], f->box[2],
                      f->box[3]);
    if (f->has_point) limn_buf_addf(out, "%s(%.0f, %.0f)", GAP, f->point[0], f->point[1]);
    if (f->text[0]) limn_buf_addf(out, "%s%s", GAP, f->text);
    if (c->chosen && f->chosen && c->score) limn_buf_addf(out, "%s*", GAP);
    limn_buf_addc(out, '\n');
#undef GAP
}

static void text_write(limn_sight_box *b) {
    columns c = columns_of(b);
    int last = -1;
    for (size_t i = 0; i < b->found.n; i++) {
        const limn_finding *f = &b->found.list[i];
        if (c.picture && f->picture != last) {
            const limn_sight_picture *p = &b->pictures[f->picture];
            limn_buf_addf(&b->text, "%s%s, picture %d:\n", last < 0 ? "" : "\n", p->file,
                          f->picture + 1);
            last = f->picture;
        }
        text_row(&b->text, f, &c);
    }
}

/* ---- CSV (RFC 4180) ---- */

static void cell(limn_buf *out, bool *first, const char *text) {
    if (!*first) limn_buf_addc(out, ',');
    *first = false;
    if (!strpbrk(text, ",\"\r\n")) {
        limn_buf_adds(out, text);
        return;
    }
    limn_buf_addc(out, '"');
    for (; *text; text++) {
        if (*text == '"') limn_buf_addc(out, '"');
        limn_buf_addc(out, *text);
    }
    limn_buf_addc(out, '"');
}

static void number(limn_buf *out, bool *first, bool has, double v) {
    limn_buf text;
    limn_buf_init(&text, 64);
    if (has) limn_real_format(&text, round(v * 1000) / 1000);
    cell(out, first, limn_buf_text(&text));
    limn_buf_deinit(&text);
}

static void csv_write(limn_sight_box *b) {
    columns c = columns_of(b);
    limn_buf *out = &b->text;
    bool first = true;
    const struct {
        bool has;
        const char *name;
    } names[] = {{c.picture, "file"}, {c.picture, "picture"}, {c.label, "label"}, {c.text, "text"},
                 {c.score, "score"},  {c.chosen, "chosen"},   {c.time, "start"},  {c.time, "end"},
                 {c.box, "left"},     {c.box, "top"},         {c.box, "right"},   {c.box, "bottom"},
                 {c.point, "x"},      {c.point, "y"}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (names[i].has) cell(out, &first, names[i].name);
    limn_buf_adds(out, "\r\n");
    for (size_t i = 0; i < b->found.n; i++) {
        const limn_finding *f = &b->found.list[i];
        first = true;
        if (c.picture) cell(out, &first, b->pictures[f->picture].file);
        if (c.picture) number(out, &first, true, f->picture + 1);
        if (c.label) cell(out, &first, f->label);
        if (c.text) cell(out, &first, f->text);
        if (c.score) number(out, &first, f->score >= 0, f->score);
        if (c.chosen) cell(out, &first, f->chosen ? "yes" : "no");
        if (c.time) number(out, &first, f->has_time, f->start);
        if (c.time) number(out, &first, f->has_time, f->end);
        for (int k = 0; c.box && k < 4; k++) number(out, &first, f->has_box, f->box[k]);
        for (int k = 0; c.point && k < 2; k++) number(out, &first, f->has_point, f->point[k]);
        limn_buf_adds(out, "\r\n");
    }
}

/* ---- JSON ---- */

static json_t *rounded(double v) {
    double r = round(v * 1000) / 1000;
    return r == floor(r) && fabs(r) < 1e15 ? json_integer((json_int_t)r) : json_real(r);
}

static json_t *finding_json(const limn_finding *f) {
    json_t *row = json_object();
    if (f->label[0]) json_object_set_new(row, "label", json_string(f->label));
    if (f->text[0]) json_object_set_new(row, "text", json_string(f->text));
    if (f->score >= 0) json_object_set_new(row, "score", json_real(round(f->score * 1e6) / 1e6));
    if (f->score >= 0 || f->chosen) json_object_set_new(row, "chosen", json_boolean(f->chosen));
    json_object_set_new(row, "picture", json_integer(f->picture));
    if (f->has_box) {
        json_t *box = json_array();
        for (int k = 0; k < 4; k++) json_array_append_new(box, rounded(f->box[k]));
        json_object_set_new(row, "box", box);
    }
    if (f->has_point)
        json_object_set_new(row, "point",
                            json_pack("[o, o]", rounded(f->point[0]), rounded(f->point[1])));
    if (f->has_time) {
        json_object_set_new(row, "start", rounded(f->start));
        json_object_set_new(row, "end", rounded(f->end));
    }
    return row;
}

static json_t *findings_json(const limn_sight_box *b) {
    json_t *list = json_array();
    for (size_t i = 0; i < b->found.n; i++)
        json_array_append_new(list, finding_json(&b->found.list[i]));
    return list;
}

static limn_status json_write(limn_buf *out, const json_t *value, limn_err *err) {
    char *dump = value ? json_dumps(value, JSON_INDENT(1) | JSON_ENCODE_ANY) : NULL;
    if (!dump) return limn_fail(err, LIMN_E_NOMEM, "no memory for a result");
    limn_buf_adds(out, dump);
    limn_buf_addc(out, '\n');
    free(dump);
    return LIMN_OK;
}

limn_status limn_sight_write(limn_sight_box *b, limn_seeing_format format, limn_err *err) {
    limn_status st = LIMN_OK;
    json_t *list;
    switch (format) {
    case LIMN_SEEING_FORMAT_CSV: csv_write(b); break;
    case LIMN_SEEING_FORMAT_JSON:
        list = b->data ? json_incref(b->data) : findings_json(b);
        st = json_write(&b->text, list, err);
        json_decref(list);
        break;
    default: text_write(b);
    }
    if (st == LIMN_OK && b->text.failed)
        st = limn_fail(err, LIMN_E_LIMIT, "the result is too long");
    return st;
}

static const char *const finish_words[] = {
    [LIMN_FINISH_STOP_ID] = "stop",     [LIMN_FINISH_STOP_STRING] = "stop",
    [LIMN_FINISH_LENGTH] = "length",    [LIMN_FINISH_CONTEXT] = "context",
    [LIMN_FINISH_CALLER] = "cancelled", [LIMN_FINISH_LOOP] = "loop"};

limn_status limn_sight_format_json(char **out, const limn_sight *s, limn_err *err) {
    const limn_sight_box *b = (const limn_sight_box *)(const void *)s;
    json_t *pictures = json_array();
    char *dump = NULL;
    for (size_t i = 0; i < s->n_pictures; i++)
        json_array_append_new(pictures,
                              json_pack("{s:s, s:i, s:i, s:i}", "file", s->pictures[i].file, "page",
                                        s->pictures[i].page, "width", s->pictures[i].width,
                                        "height", s->pictures[i].height));
    json_t *root = json_pack(
        "{s:s, s:s, s:s%, s:o, s:o, s:s, s:{s:I, s:I, s:I, s:I}, s:f}", "task", s->task, "format",
        s->format, "text", s->text, s->len, "pictures", pictures, "findings", findings_json(b),
        "finish", finish_words[s->finish], "usage", "prompt_tokens", (json_int_t)s->prompt_tokens,
        "image_tokens", (json_int_t)s->image_tokens, "cached_tokens", (json_int_t)s->cached_tokens,
        "completion_tokens", (json_int_t)s->completion_tokens, "seconds", s->seconds);
    if (root && b->data) json_object_set(root, "data", b->data);
    if (root && s->note) json_object_set_new(root, "note", json_string(s->note));
    if (root) dump = json_dumps(root, JSON_REAL_PRECISION(9));
    json_decref(root);
    *out = dump ? limn_mem_strdup(dump) : NULL;
    free(dump);
    return *out ? LIMN_OK : limn_fail(err, LIMN_E_NOMEM, "no memory for a result");
}
