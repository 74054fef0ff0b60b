/* SPDX-License-Identifier: MIT */
/* The files of the wildcard folder, and what can be chosen in them; see wildcards.h. */
#include "text/wildcards.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { FILES_MAX = 20000, FOLDER_DEPTH = 8, COUNTED_BYTES = 1 << 20 };

void limn_wildcard_files_deinit(limn_wildcard_files *f) {
    for (size_t i = 0; i < f->n; i++) limn_mem_free(f->path[i]);
    limn_mem_free(f->path);
    *f = (limn_wildcard_files){0};
}

static void files_add(limn_wildcard_files *f, const char *path) {
    if (f->n == f->cap) {
        size_t cap = f->cap ? f->cap * 2 : 64;
        void *p = limn_mem_realloc(f->path, cap * sizeof *f->path);
        if (!p) {
            f->failed = true;
            return;
        }
        f->path = p;
        f->cap = cap;
    }
    f->path[f->n] = limn_mem_strdup(path);
    if (f->path[f->n])
        f->n++;
    else
        f->failed = true;
}

static bool ends_with(const char *s, const char *tail) {
    size_t a = strlen(s), b = strlen(tail);
    return a >= b && memcmp(s + a - b, tail, b) == 0;
}

/* All .txt files below root/below. Links are not followed. */
static void files_scan(limn_wildcard_files *f, const char *root, const char *below, int depth) {
    char path[PATH_MAX];
    if (depth > FOLDER_DEPTH || f->failed || f->n >= FILES_MAX) return;
    if (snprintf(path, sizeof path, "%s/%s", root, below) >= (int)sizeof path) return;
    DIR *d = opendir(path);
    if (!d) return;
    for (struct dirent *e; (e = readdir(d)) && f->n < FILES_MAX;) {
        char rel[PATH_MAX], full[PATH_MAX];
        struct stat info;
        if (e->d_name[0] == '.') continue;
        int a = snprintf(rel, sizeof rel, "%s%s%s", below, *below ? "/" : "", e->d_name);
        int b = snprintf(full, sizeof full, "%s/%s", root, rel);
        if (a >= (int)sizeof rel || b >= (int)sizeof full || lstat(full, &info) != 0) continue;
        if (S_ISDIR(info.st_mode)) files_scan(f, root, rel, depth + 1);
        if (S_ISREG(info.st_mode) && ends_with(rel, ".txt")) files_add(f, rel);
    }
    closedir(d);
}

void limn_wildcard_files_scan(limn_wildcard_files *f, const char *root, const char *below) {
    files_scan(f, root, below, 0);
}

/* ---- the list ---- */

/* Lines that are neither empty nor comments. */
static int count_lines(const char *path) {
    FILE *f = fopen(path, "re");
    char *line = NULL;
    size_t room = 0;
    int n = 0;
    if (!f) return -1;
    for (ssize_t len; (len = getline(&line, &room, f)) >= 0;) {
        size_t blank = strspn(line, " \t\r\n\v\f");
        n += blank < (size_t)len && line[blank] != '#';
    }
    free(line);
    fclose(f);
    return n;
}

static int name_order(const void *a, const void *b) {
    return strcmp(((const limn_wildcard *)a)->name, ((const limn_wildcard *)b)->name);
}

limn_status limn_wildcards_list(limn_wildcards *out, const char *root, limn_err *err) {
    limn_wildcard_files files = {0};
    char path[PATH_MAX];
    struct stat info;
    limn_status st = LIMN_OK;
    *out = (limn_wildcards){0};
    limn_wildcard_files_scan(&files, root, "");
    LIMN_CHECK(err, !files.failed, LIMN_E_NOMEM, "no memory to list wildcards");
    out->items = limn_mem_calloc(files.n + 1, sizeof *out->items);
    LIMN_CHECK(err, out->items, LIMN_E_NOMEM, "no memory to list wildcards");
    for (size_t i = 0; i < files.n; i++) {
        limn_wildcard *w = &out->items[out->n];
        if (snprintf(path, sizeof path, "%s/%s", root, files.path[i]) >= (int)sizeof path ||
            lstat(path, &info) != 0 || !S_ISREG(info.st_mode))
            continue;
        w->name = limn_mem_strndup(files.path[i], strlen(files.path[i]) - strlen(".txt"));
        LIMN_CHECK(err, w->name, LIMN_E_NOMEM, "no memory to list wildcards");
        w->lines = info.st_size > COUNTED_BYTES ? -1 : count_lines(path);
        w->modified_ms = (int64_t)info.st_mtim.tv_sec * 1000 + info.st_mtim.tv_nsec / 1000000;
        out->n++;
    }
    qsort(out->items, out->n, sizeof *out->items, name_order);
out:
    limn_wildcard_files_deinit(&files);
    if (st != LIMN_OK) limn_wildcards_deinit(out);
    return st;
}

void limn_wildcards_deinit(limn_wildcards *w) {
    for (size_t i = 0; i < w->n; i++) limn_mem_free(w->items[i].name);
    limn_mem_free(w->items);
    *w = (limn_wildcards){0};
}
