/* SPDX-License-Identifier: MIT */
/* Named styles from CSV and JSON; see styles.h. */
#include "text/styles.h"

#include <dirent.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fsmap.h"
#include "text/prompt_impl.h"
#include "text/unicode.h"

enum { FILE_BYTES = 16 << 20, STYLES_MAX = 65536, FOLDER_DEPTH = 8, CSV_FIELDS = 16 };

typedef struct styles_owner {
    limn_styles styles; /* first: the caller's pointer */
    limn_arena arena;
    limn_style *item;
    size_t cap;
} styles_owner;

static limn_status add_style(styles_owner *o, const limn_style *s, limn_err *err) {
    if (o->styles.n == STYLES_MAX)
        return limn_fail(err, LIMN_E_LIMIT, "more than %d styles", STYLES_MAX);
    if (o->styles.n == o->cap) {
        size_t cap = o->cap ? o->cap * 2 : 64;
        void *p = limn_mem_realloc(o->item, cap * sizeof *o->item);
        if (!p) return limn_fail(err, LIMN_E_NOMEM, "no memory for styles");
        o->item = p;
        o->styles.items = o->item;
        o->cap = cap;
    }
    limn_style *to = &o->item[o->styles.n];
    const char *const from[] = {s->name, s->prompt, s->negative, s->extra, s->wildcards};
    const char **const put[] = {&to->name, &to->prompt, &to->negative, &to->extra, &to->wildcards};
    for (size_t i = 0; i < 5; i++) {
        *put[i] = limn_arena_strdup(&o->arena, from[i] ? from[i] : "");
        if (!*put[i]) return limn_fail(err, LIMN_E_NOMEM, "no memory for styles");
    }
    o->styles.n++;
    return LIMN_OK;
}

/* ---- CSV: RFC 4180, first line names the columns ---- */

/* One record into fields[CSV_FIELDS]; returns how many, 0 at the end, -1 when damaged. */
static int csv_record(limn_buf *fields, const char *s, size_t n, size_t *at) {
    int count = 0;
    size_t i = *at;
    if (i >= n) return 0;
    for (;;) {
        if (count == CSV_FIELDS) return -1;
        limn_buf *f = &fields[count++];
        limn_buf_clear(f);
        if (i < n && s[i] == '"') {
            for (i++; i < n && !(s[i] == '"' && !(i + 1 < n && s[i + 1] == '"')); i++) {
                limn_buf_addc(f, s[i]);
                i += s[i] == '"';
            }
            if (i++ >= n) return -1; /* open quote */
        }
        while (i < n && s[i] != ',' && s[i] != '\n' && s[i] != '\r') limn_buf_addc(f, s[i++]);
        if (i < n && s[i] == ',') {
            i++;
            continue;
        }
        if (i < n && s[i] == '\r') i++;
        if (i < n && s[i] == '\n') i++;
        *at = i;
        return count;
    }
}

static const char *csv_get(const limn_buf *fields, int count, int column) {
    return column >= 0 && column < count ? limn_buf_text(&fields[column]) : "";
}

static limn_status load_csv(styles_owner *o, const char *s, size_t n, limn_err *err) {
    static const char *const names[] = {"name", "prompt", "negative_prompt"};
    limn_status st = LIMN_OK;
    limn_buf field[CSV_FIELDS];
    int column[3] = {-1, -1, -1}, count;
    size_t at = n >= 3 && memcmp(s, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;
    for (int i = 0; i < CSV_FIELDS; i++) limn_buf_init(&field[i], FILE_BYTES);
    count = csv_record(field, s, n, &at);
    for (int i = 0; i < count; i++)
        for (int k = 0; k < 3; k++)
            if (strcmp(limn_buf_text(&field[i]), names[k]) == 0) column[k] = i;
    LIMN_CHECK(err, column[0] >= 0, LIMN_E_FORMAT, "the first line names no column \"name\"");
    while ((count = csv_record(field, s, n, &at)) > 0) {
        limn_style style = {.name = csv_get(field, count, column[0]),
                            .prompt = csv_get(field, count, column[1]),
                            .negative = csv_get(field, count, column[2])};
        if (*style.name) LIMN_TRY(add_style(o, &style, err));
    }
    LIMN_CHECK(err, count == 0, LIMN_E_FORMAT, "a record near byte %zu is damaged", at);
out:
    for (int i = 0; i < CSV_FIELDS; i++) limn_buf_deinit(&field[i]);
    return st;
}

/* ---- JSON ---- */

static const char *json_text(const json_t *o, const char *key) {
    return json_string_value(json_object_get(o, key));
}

static limn_status add_json(styles_owner *o, const json_t *v, const char *name, limn_err *err) {
    const char *negative = json_text(v, "negative");
    if (!json_is_object(v)) return limn_fail(err, LIMN_E_FORMAT, "a style is no object");
    limn_style s = {.name = json_text(v, "name") ? json_text(v, "name") : name,
                    .prompt = json_text(v, "prompt"),
                    .negative = negative ? negative : json_text(v, "negative_prompt"),
                    .extra = json_text(v, "extra"),
                    .wildcards = json_text(v, "wildcards")};
    if (!s.name || !*s.name) return limn_fail(err, LIMN_E_FORMAT, "a style has no name");
    return add_style(o, &s, err);
}

static limn_status load_json(styles_owner *o, const char *s, size_t n, const char *name,
                             limn_err *err) {
    json_error_t je;
    json_t *root = json_loadb(s, n, 0, &je), *v;
    limn_status st = LIMN_OK;
    size_t i;
    if (!root) return limn_fail(err, LIMN_E_FORMAT, "line %d: %s", je.line, je.text);
    if (json_is_array(root)) {
        json_array_foreach(root, i, v) {
            st = add_json(o, v, NULL, err);
            if (st != LIMN_OK) break;
        }
    } else {
        st = add_json(o, root, name, err);
    }
    json_decref(root);
    return st;
}

/* ---- files and folders ---- */

static limn_status load_file(styles_owner *o, const char *path, limn_err *err) {
    limn_status st;
    limn_fsmap *map = NULL;
    char name[NAME_MAX + 1];
    const char *base = strrchr(path, '/'), *dot = strrchr(path, '.');
    base = base ? base + 1 : path;
    if (!dot || dot < base) dot = base + strlen(base);
    snprintf(name, sizeof name, "%.*s", (int)(dot - base), base);
    LIMN_TRY(limn_fsmap_open(&map, path, err));
    LIMN_CHECK(err, map->size <= FILE_BYTES, LIMN_E_LIMIT, "the file has %zu bytes", map->size);
    LIMN_CHECK(err, limn_utf8_sound((const char *)map->data, map->size) == map->size, LIMN_E_FORMAT,
               "the file is not UTF-8");
    if (strcmp(dot, ".csv") == 0)
        st = load_csv(o, (const char *)map->data, map->size, err);
    else
        st = load_json(o, (const char *)map->data, map->size, name, err);
out:
    limn_fsmap_unref(&map);
    if (st != LIMN_OK) limn_err_prefix(err, "%s", path);
    return st;
}

static limn_status load_path(styles_owner *o, const char *path, int depth, limn_err *err);

static limn_status load_folder(styles_owner *o, const char *path, int depth, limn_err *err) {
    struct dirent **list = NULL;
    limn_status st = LIMN_OK;
    int n = scandir(path, &list, NULL, alphasort);
    if (n < 0) return limn_fail(err, LIMN_E_IO, "%s: cannot be listed", path);
    for (int i = 0; i < n; i++) {
        char full[PATH_MAX];
        struct stat info;
        bool fits = snprintf(full, sizeof full, "%s/%s", path, list[i]->d_name) < (int)sizeof full;
        const char *dot = strrchr(list[i]->d_name, '.');
        bool wanted = dot && (!strcmp(dot, ".csv") || !strcmp(dot, ".json"));
        if (st == LIMN_OK && list[i]->d_name[0] != '.' && fits && lstat(full, &info) == 0 &&
            (S_ISDIR(info.st_mode) || (S_ISREG(info.st_mode) && wanted)))
            st = load_path(o, full, depth + 1, err);
        free(list[i]);
    }
    free(list);
    return st;
}

static limn_status load_path(styles_owner *o, const char *path, int depth, limn_err *err) {
    struct stat info;
    if (depth > FOLDER_DEPTH) return LIMN_OK;
    if (stat(path, &info) != 0) return limn_fail(err, LIMN_E_NOT_FOUND, "%s: not found", path);
    return S_ISDIR(info.st_mode) ? load_folder(o, path, depth, err) : load_file(o, path, err);
}

limn_status limn_styles_load(limn_styles **out, const char *path, limn_err *err) {
    styles_owner *o = limn_mem_calloc(1, sizeof *o);
    if (!o) return limn_fail(err, LIMN_E_NOMEM, "no memory for styles");
    limn_arena_init(&o->arena);
    limn_status st = load_path(o, path, 0, err);
    limn_styles *s = &o->styles;
    if (st == LIMN_OK)
        *out = s;
    else
        limn_styles_free(&s);
    return st;
}

void limn_styles_free(limn_styles **styles) {
    styles_owner *o = (styles_owner *)*styles;
    if (!o) return;
    limn_arena_deinit(&o->arena);
    limn_mem_free(o->item);
    limn_mem_free(o);
    *styles = NULL;
}

const limn_style *limn_styles_find(const limn_styles *s, const char *name) {
    for (size_t i = s->n; i-- > 0;)
        if (strcmp(s->items[i].name, name) == 0) return &s->items[i];
    return NULL;
}

/* ---- applying ---- */

static void trim(const char **s, size_t *n) {
    while (*n && memchr(" \t\r\n", **s, 4)) (*s)++, (*n)--;
    while (*n && memchr(" \t\r\n", (*s)[*n - 1], 4)) (*n)--;
}

/* Puts `text` into the style's text: at "{prompt}", or before it. */
static void splice(limn_buf *out, const char *style, const char *text) {
    const char *mark = strstr(style, "{prompt}");
    size_t a = strlen(text), b = strlen(style);
    if (mark) {
        for (; mark; mark = strstr(style, "{prompt}")) {
            limn_buf_add(out, style, (size_t)(mark - style));
            limn_buf_adds(out, text);
            style = mark + 8;
        }
        limn_buf_adds(out, style);
        return;
    }
    trim(&text, &a);
    trim(&style, &b);
    limn_buf_add(out, text, a);
    if (a && b) limn_buf_adds(out, text[a - 1] == ',' ? " " : ", ");
    limn_buf_add(out, style, b);
}

/* Replaces every `word` of `text` by one of the comma-separated `values`. */
static limn_status replace_word(limn_buf *text, const char *word, size_t n_word, const char *values,
                                size_t n_values, uint64_t *random, limn_err *err) {
    size_t count = 1, wanted;
    for (size_t i = 0; i < n_values; i++) count += values[i] == ',';
    wanted = limn_prompt_random(random, count);
    for (; wanted; wanted--) {
        size_t skip = (size_t)((const char *)memchr(values, ',', n_values) - values) + 1;
        values += skip;
        n_values -= skip;
    }
    const char *end = memchr(values, ',', n_values);
    if (end) n_values = (size_t)(end - values);
    trim(&values, &n_values);
    limn_buf out;
    limn_buf_init(&out, text->limit);
    const char *s = limn_buf_text(text), *hit;
    size_t left = text->len;
    while (left && (hit = memmem(s, left, word, n_word))) {
        limn_buf_add(&out, s, (size_t)(hit - s));
        limn_buf_add(&out, values, n_values);
        left -= (size_t)(hit - s) + n_word;
        s = hit + n_word;
    }
    limn_buf_add(&out, s, left);
    limn_buf_deinit(text);
    *text = out;
    return out.failed ? limn_fail(err, LIMN_E_LIMIT, "the styled prompt is too long") : LIMN_OK;
}

/* "what=a,b,c; where=d,e" */
static limn_status apply_wildcards(limn_buf *text, const char *spec, uint64_t *random,
                                   limn_err *err) {
    limn_status st = LIMN_OK;
    for (const char *p = spec; *p && st == LIMN_OK;) {
        size_t len = strcspn(p, ";\n");
        const char *eq = memchr(p, '=', len), *word = p, *values = eq ? eq + 1 : p;
        size_t n_word = eq ? (size_t)(eq - p) : 0, n_values = eq ? len - n_word - 1 : 0;
        trim(&word, &n_word);
        trim(&values, &n_values);
        if (n_word && n_values)
            st = replace_word(text, word, n_word, values, n_values, random, err);
        p += len;
        if (*p) p++;
    }
    return st;
}

limn_status limn_styles_apply(const limn_styles *s, limn_buf *prompt, limn_buf *negative,
                              const char *const *names, size_t n_names, const char *text,
                              const char *negative_text, uint64_t seed, limn_err *err) {
    limn_status st = LIMN_OK;
    limn_buf a, b;
    limn_buf_init(&a, LIMN_PROMPT_BYTES);
    limn_buf_init(&b, LIMN_PROMPT_BYTES);
    limn_buf_adds(&a, text);
    limn_buf_adds(&b, negative_text);
    for (size_t i = 0; i < n_names; i++) {
        const limn_style *style = limn_styles_find(s, names[i]);
        limn_buf *both[] = {&a, &b};
        const char *const texts[] = {style ? style->prompt : "", style ? style->negative : ""};
        LIMN_CHECK(err, style, LIMN_E_NOT_FOUND, "there is no style \"%s\"", names[i]);
        for (int k = 0; k < 2; k++) {
            limn_buf next;
            limn_buf_init(&next, LIMN_PROMPT_BYTES);
            splice(&next, texts[k], limn_buf_text(both[k]));
            limn_buf_deinit(both[k]);
            *both[k] = next;
            LIMN_CHECK(err, !next.failed, LIMN_E_LIMIT, "the styled prompt is too long");
            LIMN_TRY(apply_wildcards(both[k], style->wildcards, &seed, err));
        }
    }
    limn_buf_add(prompt, limn_buf_text(&a), a.len);
    limn_buf_add(negative, limn_buf_text(&b), b.len);
    LIMN_CHECK(err, !a.failed && !b.failed && !prompt->failed && !negative->failed, LIMN_E_LIMIT,
               "the styled prompt is too long");
out:
    limn_buf_deinit(&a);
    limn_buf_deinit(&b);
    return st;
}
