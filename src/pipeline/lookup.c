/* SPDX-License-Identifier: MIT */
/* From names to files: the models folder and the bundled models; see engine.h. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "pipeline/engine.h"

static const char *const endings[] = {"", ".safetensors", ".gguf", ".ckpt", ".pt", ".pth", ".bin"};

static bool exists(const char *path) {
    struct stat sb;
    return stat(path, &sb) == 0;
}

static char *join(const char *a, const char *b, const char *c, const char *end) {
    limn_buf p;
    limn_buf_init(&p, 8192);
    limn_buf_addf(&p, "%s/%s%s%s%s", a, b, b[0] ? "/" : "", c, end);
    return limn_buf_take(&p);
}

/* dir/sub/name + ending, first that exists; NULL when none does. */
static char *find_below(const char *dir, const char *sub, const char *name) {
    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++) {
        char *p = join(dir, sub, name, endings[i]);
        if (p && exists(p)) return p;
        limn_mem_free(p);
    }
    return NULL;
}

/* A name may not climb out of the models folder. */
static bool is_plain(const char *name) {
    if (name[0] == '/' || name[0] == 0) return false;
    for (const char *p = name; p; p = strchr(p, '/')) {
        if (*p == '/') p++;
        if (strncmp(p, "..", 2) == 0 && (p[2] == 0 || p[2] == '/')) return false;
    }
    return true;
}

static void list_names(limn_buf *out, const char *dir, const char *sub) {
    char *path = join(dir, "", sub, "");
    DIR *d = path ? opendir(path) : NULL;
    int n = 0;
    for (struct dirent *e; d && n < 12 && (e = readdir(d));) {
        if (e->d_name[0] == '.') continue;
        limn_buf_addf(out, "%s%s", out->len ? ", " : "", e->d_name);
        n++;
    }
    if (d) closedir(d);
    limn_mem_free(path);
}

limn_status limn_engine_find(char **path, const limn_engine *e, const char *name, const char *kinds,
                             limn_err *err) {
    *path = NULL;
    if (!e->names_only && exists(name)) {
        *path = limn_mem_strdup(name);
        return *path ? LIMN_OK : limn_fail(err, LIMN_E_NOMEM, "no memory for a path");
    }
    limn_buf seen;
    limn_buf_init(&seen, 300);
    for (const char *k = kinds; e->models_dir && is_plain(name) && k;) {
        const char *end = strchr(k, '|');
        char *sub = limn_mem_strndup(k, end ? (size_t)(end - k) : strlen(k));
        if (sub) *path = find_below(e->models_dir, sub, name);
        if (sub && !*path) list_names(&seen, e->models_dir, sub);
        limn_mem_free(sub);
        if (*path) break;
        k = end ? end + 1 : NULL;
    }
    if (!*path && is_plain(name)) *path = limn_engine_bundled(name);
    if (!*path && e->models_dir)
        limn_fail(err, LIMN_E_NOT_FOUND,
                  "%s: no such file, and nothing of that name in %s (it has: %s)", name,
                  e->models_dir, seen.len ? limn_buf_text(&seen) : "nothing");
    else if (!*path)
        limn_fail(err, LIMN_E_NOT_FOUND,
                  "%s: no such file (names need a models folder: --models-dir)", name);
    limn_buf_deinit(&seen);
    return *path ? LIMN_OK : LIMN_E_NOT_FOUND;
}

/* dir/name when it exists, else NULL; dir may be NULL or empty. */
static char *bundled_in(const char *dir, const char *sub, const char *name) {
    char *p = dir && dir[0] ? join(dir, sub, name, "") : NULL;
    if (p && exists(p)) return p;
    limn_mem_free(p);
    return NULL;
}

char *limn_engine_bundled(const char *name) {
    char exe[4096], *p = bundled_in(getenv("LIMN_MODELS"), "", name);
    if (p) return p;
    /* beside the program and up to two folders above: in a source tree that is build/limn and
     * models/; an installation that was moved has bin/limn and share/limn/models/ */
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    exe[n > 0 ? n : 0] = 0;
    for (int up = 0; up < 3; up++) {
        char *slash = strrchr(exe, '/');
        if (!slash) break;
        *slash = 0;
        p = bundled_in(exe, "models", name);
        if (!p) p = bundled_in(exe, "share/limn/models", name);
        if (p) return p;
    }
    return bundled_in(LIMN_DATA_DIR, "models", name);
}
