/* SPDX-License-Identifier: MIT */
/*
 * Random parts of a prompt: {a|b:0.6|{c|d}} and __wildcard__, resolved with the prompt's seed.
 *
 * Choice weights are shares, as in SD.Next: alternatives without one divide what the others leave
 * of 1 equally. Braces without a bar stay text. A wildcard is a line of NAME.txt in the wildcard
 * folder; when there is no such file, any file of that name in its sub-folders; "__dir/__" is any
 * file below dir. Lines that begin with '#' are comments. What is put in is expanded again, to a
 * depth of WILDCARD_DEPTH. Paths cannot leave the folder.
 */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "text/prompt_impl.h"
#include "text/unicode.h"
#include "text/wildcards.h"

enum {
    WILDCARD_DEPTH = 10,
    ALTERNATIVES = 1024,
    WILDCARDS_MAX = 1000, /* wildcards of one prompt */
    FILE_BYTES = 16 << 20
};

typedef struct expander {
    limn_buf *out;
    const limn_prompt_options *opt;
    uint64_t random;
    int wildcards; /* resolved so far */
    limn_err *err;
} expander;

static limn_status expand(expander *x, const char *s, size_t n, int depth, int files);

/* ---- choices ---- */

typedef struct alternative {
    const char *s;
    size_t n;
    double weight; /* < 0: not given */
} alternative;

static void trim(const char **s, size_t *n) {
    while (*n && (**s == ' ' || (**s >= '\t' && **s <= '\r'))) (*s)++, (*n)--;
    while (*n && ((*s)[*n - 1] == ' ' || ((*s)[*n - 1] >= '\t' && (*s)[*n - 1] <= '\r'))) (*n)--;
}

/* s[begin..end) without its weight. `colon`: its last colon outside brackets, 0: none. */
static alternative make_alternative(const char *s, size_t begin, size_t end, size_t colon) {
    alternative a = {s + begin, end - begin, -1};
    double w;
    if (colon > begin && limn_prompt_number(s + colon + 1, end - colon - 1, &w)) {
        a.weight = w < 0 ? 0 : w > 1 ? 1 : w;
        a.n = colon - begin;
    }
    trim(&a.s, &a.n);
    return a;
}

/* The alternatives between the braces at `open`; 0: no bar, so it is text; ALTERNATIVES: too many.
 */
static size_t find_alternatives(alternative *list, const char *s, const uint32_t *match,
                                size_t open) {
    size_t close = match[open], begin = open + 1, colon = 0, n = 0;
    for (size_t i = open + 1; i <= close && n < ALTERNATIVES; i++) {
        if (i < close && s[i] == '\\') {
            i++;
        } else if (i < close && match[i] != LIMN_NO_MATCH && match[i] > i && match[i] < close) {
            i = match[i];
        } else if (i < close && s[i] == ':') {
            colon = i;
        } else if (i == close || s[i] == '|') {
            list[n++] = make_alternative(s, begin, i, colon);
            begin = i + 1;
            colon = 0;
        }
    }
    return n > 1 ? n : 0;
}

static const alternative *choose(const alternative *list, size_t n, uint64_t *random) {
    double given = 0, rest;
    size_t open = 0;
    for (size_t i = 0; i < n; i++) {
        if (list[i].weight < 0)
            open++;
        else
            given += list[i].weight;
    }
    if (given <= 0 && open == 0) return &list[limn_prompt_random(random, n)];
    rest = open && given < 1 ? (1 - given) / (double)open : 0;
    double at = limn_prompt_random_unit(random) * (given + rest * (double)open);
    const alternative *last = list;
    for (size_t i = 0; i < n; i++) {
        double w = list[i].weight < 0 ? rest : list[i].weight;
        if (w <= 0) continue;
        last = &list[i];
        if (at < w) return last;
        at -= w;
    }
    return last;
}

static limn_status expand_choice(expander *x, const char *s, const uint32_t *match, size_t open,
                                 int depth, int files, bool *done) {
    alternative *list = limn_mem_alloc(ALTERNATIVES * sizeof *list);
    if (!list) return limn_fail(x->err, LIMN_E_NOMEM, "no memory to expand a prompt");
    size_t n = find_alternatives(list, s, match, open);
    limn_status st = LIMN_OK;
    *done = n > 0;
    if (n == ALTERNATIVES) {
        st = limn_fail(x->err, LIMN_E_LIMIT, "a choice has more than %d alternatives",
                       ALTERNATIVES - 1);
    } else if (n > 0) {
        const alternative *a = choose(list, n, &x->random);
        st = expand(x, a->s, a->n, depth + 1, files);
    }
    limn_mem_free(list);
    return st;
}

/* ---- wildcard files ---- */

static bool ends_with(const char *s, const char *tail) {
    size_t a = strlen(s), b = strlen(tail);
    return a >= b && memcmp(s + a - b, tail, b) == 0;
}

static int path_order(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* No empty, "." or ".." part and not absolute; one '/' at the end is allowed. */
static bool is_safe_name(const char *name) {
    for (const char *p = name; *p;) {
        size_t len = strcspn(p, "/");
        if (len == 0 || p[0] == '.') return false;
        p += len;
        if (*p == '/') p++;
    }
    return *name != 0;
}

/* Chooses the file that `name` means; its relative path in out[PATH_MAX]. */
static limn_status find_file(expander *x, char *out, const char *name) {
    const char *root = x->opt->wildcard_dir;
    limn_wildcard_files all = {0};
    char full[PATH_MAX];
    struct stat info;
    limn_status st = LIMN_OK;
    bool folder = ends_with(name, "/");
    LIMN_CHECK(x->err, is_safe_name(name), LIMN_E_VALUE, "wildcard \"%s\" is not a plain name",
               name);
    snprintf(out, PATH_MAX, "%s.txt", name);
    if (!folder && snprintf(full, sizeof full, "%s/%s", root, out) < (int)sizeof full &&
        lstat(full, &info) == 0 && S_ISREG(info.st_mode))
        goto out;
    snprintf(out, PATH_MAX, "%.*s", (int)(strlen(name) - 1), name);
    limn_wildcard_files_scan(&all, root, folder ? out : "");
    LIMN_CHECK(x->err, !all.failed, LIMN_E_NOMEM, "no memory to list wildcards");
    size_t kept = 0;
    snprintf(full, sizeof full, "/%s.txt", name);
    for (size_t i = 0; i < all.n; i++) {
        if (folder || ends_with(all.path[i], full)) {
            char *swap = all.path[kept];
            all.path[kept++] = all.path[i];
            all.path[i] = swap;
        }
    }
    LIMN_CHECK(x->err, kept, LIMN_E_NOT_FOUND, "wildcard \"%s\" has no file", name);
    qsort(all.path, kept, sizeof *all.path, path_order);
    snprintf(out, PATH_MAX, "%s", all.path[folder ? limn_prompt_random(&x->random, kept) : 0]);
out:
    limn_wildcard_files_deinit(&all);
    return st;
}

/* Reads root/path, opening no link on the way. */
static limn_status read_file(expander *x, limn_buf *text, const char *path) {
    char part[PATH_MAX], chunk[16384];
    int dir = open(x->opt->wildcard_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), file = -1;
    const char *p = path;
    while (dir >= 0) {
        size_t len = strcspn(p, "/");
        snprintf(part, sizeof part, "%.*s", (int)len, p);
        bool last = p[len] == 0;
        int kind = last ? O_NONBLOCK : O_DIRECTORY;
        int next = openat(dir, part, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | kind);
        close(dir);
        dir = last ? -1 : next;
        if (last) file = next;
        p += len + 1;
    }
    if (file < 0) return limn_fail(x->err, LIMN_E_IO, "wildcard file %s cannot be read", path);
    ssize_t got;
    while ((got = read(file, chunk, sizeof chunk)) > 0) limn_buf_add(text, chunk, (size_t)got);
    close(file);
    if (got < 0) return limn_fail(x->err, LIMN_E_IO, "wildcard file %s cannot be read", path);
    if (text->failed) return limn_fail(x->err, LIMN_E_LIMIT, "wildcard file %s is too large", path);
    return LIMN_OK;
}

/* A random line; NULL when there is none. Two passes: count, then take. */
static const char *choose_line(expander *x, const limn_buf *text, size_t *n) {
    size_t count = 0, wanted = 0;
    for (int pass = 0; pass < 2; pass++) {
        size_t k = 0;
        for (size_t i = 0; i < text->len;) {
            const char *line = text->data + i, *nl = memchr(line, '\n', text->len - i);
            size_t len = nl ? (size_t)(nl - line) : text->len - i;
            i += len + 1;
            trim(&line, &len);
            if (len == 0 || line[0] == '#') continue;
            if (pass && k == wanted) {
                *n = len;
                return line;
            }
            k++;
        }
        if (pass || k == 0) return NULL;
        count = k;
        wanted = limn_prompt_random(&x->random, count);
    }
    return NULL;
}

/* "a|b|c" in a line is a choice too. */
static limn_status expand_line(expander *x, const char *line, size_t n, int depth, int files) {
    limn_buf wrapped;
    limn_status st = LIMN_OK;
    limn_buf_init(&wrapped, LIMN_PROMPT_BYTES + 8);
    limn_buf_addc(&wrapped, '{');
    limn_buf_add(&wrapped, line, n);
    limn_buf_addc(&wrapped, '}');
    uint32_t *match = wrapped.failed ? NULL : limn_prompt_match(wrapped.data, wrapped.len, "([{");
    bool done = false;
    LIMN_CHECK(x->err, !wrapped.failed, LIMN_E_LIMIT, "a wildcard line is too long");
    LIMN_CHECK(x->err, match, LIMN_E_NOMEM, "no memory to expand a prompt");
    if (match[0] == wrapped.len - 1)
        LIMN_TRY(expand_choice(x, wrapped.data, match, 0, depth, files, &done));
    if (!done) st = expand(x, line, n, depth + 1, files);
out:
    limn_mem_free(match);
    limn_buf_deinit(&wrapped);
    return st;
}

static limn_status expand_wildcard(expander *x, const char *s, size_t n, int depth, int files) {
    char name[256], path[PATH_MAX];
    limn_buf text;
    limn_status st = LIMN_OK;
    limn_buf_init(&text, FILE_BYTES);
    snprintf(name, sizeof name, "%.*s", (int)n, s);
    LIMN_CHECK(x->err, files < WILDCARD_DEPTH, LIMN_E_LIMIT,
               "wildcard \"%s\" is nested deeper than %d", name, WILDCARD_DEPTH);
    LIMN_CHECK(x->err, x->wildcards++ < WILDCARDS_MAX, LIMN_E_LIMIT,
               "the prompt has more than %d wildcards", WILDCARDS_MAX);
    LIMN_TRY(find_file(x, path, name));
    LIMN_TRY(read_file(x, &text, path));
    const char *line = choose_line(x, &text, &n);
    LIMN_CHECK(x->err, line, LIMN_E_FORMAT, "wildcard file %s has no lines", path);
    LIMN_CHECK(x->err, limn_utf8_sound(line, n) == n, LIMN_E_FORMAT,
               "wildcard file %s is not UTF-8", path);
    st = expand_line(x, line, n, depth, files + 1);
out:
    limn_buf_deinit(&text);
    return st;
}

static limn_status expand(expander *x, const char *s, size_t n, int depth, int files) {
    limn_status st = LIMN_OK;
    uint32_t *match = limn_prompt_match(s, n, "([{");
    LIMN_CHECK(x->err, match, LIMN_E_NOMEM, "no memory to expand a prompt");
    LIMN_CHECK(x->err, depth <= LIMN_PROMPT_DEPTH, LIMN_E_LIMIT,
               "choices are nested deeper than %d", LIMN_PROMPT_DEPTH);
    for (size_t i = 0; i < n;) {
        size_t wild = x->opt->wildcard_dir ? limn_prompt_wildcard_at(s, n, i) : 0;
        bool done = false;
        if (wild) {
            LIMN_TRY(expand_wildcard(x, s + i + 2, wild - 4, depth, files));
            i += wild;
            continue;
        }
        if (s[i] == '{' && match[i] != LIMN_NO_MATCH)
            LIMN_TRY(expand_choice(x, s, match, i, depth, files, &done));
        if (done) {
            i = match[i] + 1;
            continue;
        }
        size_t len = s[i] == '\\' && i + 1 < n ? 2 : 1;
        limn_buf_add(x->out, s + i, len);
        i += len;
    }
    LIMN_CHECK(x->err, !x->out->failed, LIMN_E_LIMIT, "the expanded prompt exceeds %u bytes",
               LIMN_PROMPT_BYTES);
out:
    limn_mem_free(match);
    return st;
}

limn_status limn_prompt_expand(limn_buf *out, const char *s, size_t n,
                               const limn_prompt_options *opt, limn_err *err) {
    expander x = {.out = out, .opt = opt, .random = opt->seed, .err = err};
    return expand(&x, s, n, 0, 0);
}
