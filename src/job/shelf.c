/* SPDX-License-Identifier: MIT */
/* Which models there are; see shelf.h. */
#include "job/shelf.h"

#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/log.h"
#include "formats/detect.h"
#include "param/param_json.h"
#include "pipeline/engine.h"

enum { DEPTH_MAX = 4, ITEMS_MAX = 8192, PATH_BYTES = 4096 };

struct limn_shelf {
    char *models_dir; /* NULL: none */
    bool pickles;
    pthread_mutex_t lock;
    limn_shelf_item *items; /* [count] by kind, then name */
    int count, cap;
    char *default_name[LIMN_SHELF_KINDS]; /* NULL: the bundled one */
};

static const struct {
    const char *word, *folders;
} kinds[] = {
#define X(id, word, folders) {word, folders},
    LIMN_SHELF_LIST(X)
#undef X
};

/* What comes with limn. */
static const struct {
    limn_shelf_kind kind;
    const char *name, *file;
} bundled[] = {
    {LIMN_SHELF_DRAW, "mini-draw", "mini-draw"},
    {LIMN_SHELF_SEE, "mini-see", "mini-see"},
    {LIMN_SHELF_UPSCALER, "mini-upscale", "mini-upscale/mini-upscale.safetensors"},
};

const char *limn_shelf_kind_word(limn_shelf_kind k) {
    return (unsigned)k < LIMN_SHELF_KINDS ? kinds[k].word : "unknown";
}

/* ---- items ---- */
void limn_shelf_item_deinit(limn_shelf_item *item) {
    limn_mem_free(item->name);
    limn_mem_free(item->path);
    *item = (limn_shelf_item){0};
}

void limn_shelf_page_deinit(limn_shelf_page *page) {
    for (int i = 0; i < page->count; i++) limn_shelf_item_deinit(&page->items[i]);
    limn_mem_free(page->items);
    *page = (limn_shelf_page){0};
}

static limn_status item_copy(limn_shelf_item *out, const limn_shelf_item *from, limn_err *err) {
    *out = *from;
    out->name = limn_mem_strdup(from->name);
    out->path = limn_mem_strdup(from->path);
    if (out->name && out->path) return LIMN_OK;
    limn_shelf_item_deinit(out);
    return limn_fail(err, LIMN_E_NOMEM, "no memory for a list of models");
}

/* Takes name and path, also on failure. */
static limn_status shelf_add(limn_shelf *s, limn_shelf_item *item, limn_err *err) {
    if (!item->name || !item->path || s->count == ITEMS_MAX) {
        limn_status st = item->name && item->path ? LIMN_E_LIMIT : LIMN_E_NOMEM;
        limn_shelf_item_deinit(item);
        return limn_fail(err, st, "the models folder has more than %d models", ITEMS_MAX);
    }
    if (s->count == s->cap) {
        int cap = s->cap ? s->cap * 2 : 32;
        limn_shelf_item *grown = limn_mem_realloc(s->items, (size_t)cap * sizeof *grown);
        if (!grown) {
            limn_shelf_item_deinit(item);
            return limn_fail(err, LIMN_E_NOMEM, "no memory for a list of models");
        }
        s->items = grown;
        s->cap = cap;
    }
    s->items[s->count++] = *item;
    return LIMN_OK;
}

/* ---- what a file is ---- */
static bool has(const limn_model_info *m, limn_part part) {
    return limn_model_info_find(m, part) != NULL;
}

/* false: nothing that a request could name. */
static bool kind_of(limn_shelf_kind *out, const limn_model_info *m) {
    if (has(m, LIMN_PART_UNET) || has(m, LIMN_PART_DIT))
        *out = LIMN_SHELF_DRAW;
    else if (has(m, LIMN_PART_LORA))
        *out = LIMN_SHELF_LORA;
    else if (has(m, LIMN_PART_LLM))
        *out = LIMN_SHELF_SEE;
    else if (has(m, LIMN_PART_UPSCALER))
        *out = LIMN_SHELF_UPSCALER;
    else if (has(m, LIMN_PART_EMBEDDING))
        *out = LIMN_SHELF_EMBEDDING;
    else if (has(m, LIMN_PART_VAE) || has(m, LIMN_PART_TAESD))
        *out = LIMN_SHELF_VAE;
    else
        return false;
    return true;
}

static int64_t bytes_below(const char *path, int depth) {
    struct stat sb;
    char below[PATH_BYTES];
    int64_t sum = 0;
    if (stat(path, &sb) != 0) return 0;
    if (!S_ISDIR(sb.st_mode)) return sb.st_size;
    DIR *d = depth < DEPTH_MAX ? opendir(path) : NULL;
    for (struct dirent *e; d && (e = readdir(d));) {
        if (e->d_name[0] == '.') continue;
        int n = snprintf(below, sizeof below, "%s/%s", path, e->d_name);
        if (n > 0 && (size_t)n < sizeof below) sum += bytes_below(below, depth + 1);
    }
    if (d) closedir(d);
    return sum;
}

/* The path below the models folder, without the folder of its kind and its ending. */
static char *name_of(const char *relative, limn_shelf_kind kind, bool folder) {
    const char *slash = strchr(relative, '/');
    for (const char *k = kinds[kind].folders; slash && k;) {
        const char *end = strchr(k, '|');
        size_t n = end ? (size_t)(end - k) : strlen(k);
        if (n == (size_t)(slash - relative) && strncmp(k, relative, n) == 0) {
            relative = slash + 1;
            break;
        }
        k = end ? end + 1 : NULL;
    }
    const char *dot = strrchr(relative, '.'), *last = strrchr(relative, '/');
    bool ending = !folder && dot && (!last || dot > last);
    return limn_mem_strndup(relative, ending ? (size_t)(dot - relative) : strlen(relative));
}

/* Looked at before and not changed since: nothing is opened. */
static const limn_shelf_item *known(const limn_shelf *old, const char *path,
                                    const struct stat *sb) {
    int64_t modified = sb->st_mtim.tv_sec * 1000 + sb->st_mtim.tv_nsec / 1000000;
    for (int i = 0; old && i < old->count; i++)
        if (strcmp(old->items[i].path, path) == 0 && old->items[i].modified_ms == modified)
            return &old->items[i];
    return NULL;
}

static limn_status look_at(limn_shelf *s, const limn_shelf *old, const char *path,
                           const char *relative, const struct stat *sb, limn_err *err) {
    limn_inspection x = {0};
    limn_shelf_item item = {0};
    const limn_shelf_item *before = known(old, path, sb);
    if (before) {
        limn_status st = item_copy(&item, before, err);
        item.bundled = false; /* found out anew */
        return st == LIMN_OK ? shelf_add(s, &item, err) : st;
    }
    limn_err why = {0};
    if (limn_inspect(&x, path, &why) != LIMN_OK) {
        limn_log(LIMN_LOG_WARN, "models", "%s", why.text);
        return LIMN_OK;
    }
    if (kind_of(&item.kind, &x.info)) {
        item.name = name_of(relative, item.kind, S_ISDIR(sb->st_mode));
        item.path = limn_mem_strdup(path);
        item.family = x.info.family ? x.info.family : "";
        item.title = x.info.title ? x.info.title : "";
        item.supported = x.info.supported;
        limn_license_find(&item.license, x.weights);
        item.bytes = bytes_below(path, 0);
        item.modified_ms = sb->st_mtim.tv_sec * 1000 + sb->st_mtim.tv_nsec / 1000000;
    }
    limn_inspection_free(&x);
    return item.name ? shelf_add(s, &item, err) : LIMN_OK;
}

/* ---- looking through folders ---- */
static bool exists_in(const char *folder, const char *name) {
    struct stat sb;
    char path[PATH_BYTES];
    int n = snprintf(path, sizeof path, "%s/%s", folder, name);
    return n > 0 && (size_t)n < sizeof path && stat(path, &sb) == 0;
}

static bool has_ending(const char *name, const char *const *endings) {
    const char *dot = strrchr(name, '.');
    for (; dot && *endings; endings++)
        if (strcasecmp(dot, *endings) == 0) return true;
    return false;
}

static bool is_candidate(const limn_shelf *s, const char *name) {
    static const char *const safe[] = {".safetensors", ".gguf", NULL};
    static const char *const pickles[] = {".ckpt", ".pt", ".pth", ".bin", NULL};
    const char *of = strstr(name, "-of-"); /* shards are opened through their folder */
    if (of && of > name + 5 && strspn(of - 5, "0123456789") == 5 &&
        strncmp(of - 5, "00001", 5) != 0)
        return false;
    return has_ending(name, safe) || (s->pickles && has_ending(name, pickles));
}

static limn_status scan(limn_shelf *s, const limn_shelf *old, const char *folder,
                        const char *relative, int depth, limn_err *err) {
    limn_status st = LIMN_OK;
    DIR *d = opendir(folder);
    if (!d) {
        limn_log(LIMN_LOG_WARN, "models", "%s: cannot be read", folder);
        return LIMN_OK;
    }
    for (struct dirent *e; st == LIMN_OK && (e = readdir(d));) {
        char path[PATH_BYTES], below[PATH_BYTES];
        struct stat sb;
        int n = snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        int m =
            snprintf(below, sizeof below, "%s%s%s", relative, relative[0] ? "/" : "", e->d_name);
        if (e->d_name[0] == '.' || n < 0 || (size_t)n >= sizeof path || m < 0 ||
            (size_t)m >= sizeof below || stat(path, &sb) != 0)
            continue;
        bool folder_model = S_ISDIR(sb.st_mode) &&
                            (exists_in(path, "model_index.json") || exists_in(path, "config.json"));
        if (folder_model || (S_ISREG(sb.st_mode) && is_candidate(s, e->d_name)))
            st = look_at(s, old, path, below, &sb, err);
        else if (S_ISDIR(sb.st_mode) && depth < DEPTH_MAX)
            st = scan(s, old, path, below, depth + 1, err);
    }
    closedir(d);
    return st;
}

static limn_status add_bundled(limn_shelf *s, limn_err *err) {
    limn_status st = LIMN_OK;
    for (size_t i = 0; i < sizeof bundled / sizeof bundled[0] && st == LIMN_OK; i++) {
        struct stat sb;
        char *path = limn_engine_bundled(bundled[i].file);
        if (!path) continue;
        limn_shelf_item item = {.kind = bundled[i].kind,
                                .name = limn_mem_strdup(bundled[i].name),
                                .path = path,
                                .family = "",
                                .title = "comes with limn",
                                .supported = true,
                                .bundled = true,
                                .bytes = bytes_below(path, 0)};
        if (stat(path, &sb) == 0) item.modified_ms = sb.st_mtim.tv_sec * 1000;
        limn_inspection x = {0};
        if (limn_inspect(&x, path, NULL) == LIMN_OK) {
            if (x.info.family) item.family = x.info.family;
            limn_license_find(&item.license, x.weights);
        }
        limn_inspection_free(&x);
        st = shelf_add(s, &item, err);
    }
    return st;
}

static int compare_items(const void *pa, const void *pb) {
    const limn_shelf_item *a = pa, *b = pb;
    if (a->kind != b->kind) return a->kind < b->kind ? -1 : 1;
    int c = strcasecmp(a->name, b->name);
    return c ? c : strcmp(a->path, b->path);
}

/* Where a folder and a file have one name, the file is called with its ending. */
static limn_status tell_apart(limn_shelf *s, limn_err *err) {
    for (int i = 0; i + 1 < s->count; i++) {
        limn_shelf_item *a = &s->items[i], *b = &s->items[i + 1];
        if (a->kind != b->kind || strcasecmp(a->name, b->name) != 0) continue;
        for (limn_shelf_item *item = a; item <= b; item++) {
            struct stat sb;
            const char *dot = strrchr(item->path, '.');
            if (!dot || stat(item->path, &sb) != 0 || S_ISDIR(sb.st_mode)) continue;
            limn_buf name;
            limn_buf_init(&name, PATH_BYTES);
            limn_buf_addf(&name, "%s%s", item->name, dot);
            char *longer = limn_buf_take(&name);
            if (!longer) return limn_fail(err, LIMN_E_NOMEM, "no memory for a list of models");
            limn_mem_free(item->name);
            item->name = longer;
        }
    }
    return LIMN_OK;
}

/* A bundled model that lies in the models folder too is one model: the folder's, as names are
 * looked up there first (pipeline/lookup.c). Sorted. */
static void drop_hidden(limn_shelf *s) {
    int kept = 0;
    for (int i = 0; i < s->count; i++) {
        limn_shelf_item *item = &s->items[i], *other = NULL;
        for (int k = i - 1; k <= i + 1 && item->bundled; k += 2)
            if (k >= 0 && k < s->count && s->items[k].name && s->items[k].kind == item->kind &&
                !s->items[k].bundled && strcasecmp(s->items[k].name, item->name) == 0)
                other = &s->items[k];
        if (other) {
            other->bundled = true;
            limn_shelf_item_deinit(item);
            if (other > item) i++; /* not to be asked again */
        }
    }
    for (int i = 0; i < s->count; i++)
        if (s->items[i].name) s->items[kept++] = s->items[i];
    s->count = kept;
}

static limn_status sort_items(limn_shelf *s, limn_err *err) {
    if (s->count == 0) return LIMN_OK;
    qsort(s->items, (size_t)s->count, sizeof *s->items, compare_items);
    drop_hidden(s);
    limn_status st = tell_apart(s, err);
    qsort(s->items, (size_t)s->count, sizeof *s->items, compare_items);
    return st;
}

/* ---- the shelf ---- */
void limn_shelf_free(limn_shelf **shelf) {
    limn_shelf *s = shelf ? *shelf : NULL;
    if (!s) return;
    for (int i = 0; i < s->count; i++) limn_shelf_item_deinit(&s->items[i]);
    for (int i = 0; i < LIMN_SHELF_KINDS; i++) limn_mem_free(s->default_name[i]);
    limn_mem_free(s->items);
    limn_mem_free(s->models_dir);
    pthread_mutex_destroy(&s->lock);
    limn_mem_free(s);
    *shelf = NULL;
}

limn_status limn_shelf_new(limn_shelf **out, const char *models_dir, limn_err *err) {
    limn_status st = LIMN_OK;
    *out = NULL;
    limn_shelf *s = limn_mem_calloc(1, sizeof *s);
    if (!s || pthread_mutex_init(&s->lock, NULL) != 0) {
        limn_mem_free(s);
        return limn_fail(err, LIMN_E_NOMEM, "no memory for a list of models");
    }
    if (models_dir && models_dir[0]) {
        s->models_dir = limn_mem_strdup(models_dir);
        LIMN_CHECK(err, s->models_dir, LIMN_E_NOMEM, "no memory for a list of models");
    }
    LIMN_TRY(limn_shelf_refresh(s, err));
    *out = s;
    return LIMN_OK;
out:
    limn_shelf_free(&s);
    return st;
}

/* Scans beside the present list, so that readers wait for the exchange only. */
limn_status limn_shelf_refresh(limn_shelf *s, limn_err *err) {
    limn_shelf fresh = {.models_dir = s->models_dir}, old;
    limn_status st = LIMN_OK;
    limn_shelf_page before;
    LIMN_TRY(limn_shelf_list(s, &before, 0, err));
    old = (limn_shelf){.items = before.items, .count = before.count};
    if (s->models_dir) {
        fresh.pickles = exists_in(s->models_dir, "allow-pickle");
        st = scan(&fresh, &old, s->models_dir, "", 0, err);
    }
    if (st == LIMN_OK) st = add_bundled(&fresh, err);
    limn_shelf_page_deinit(&before);
    if (st == LIMN_OK) st = sort_items(&fresh, err);
    if (st == LIMN_OK) {
        pthread_mutex_lock(&s->lock);
        limn_shelf_item *items = s->items;
        int count = s->count;
        s->items = fresh.items;
        s->count = fresh.count;
        s->cap = fresh.cap;
        s->pickles = fresh.pickles;
        pthread_mutex_unlock(&s->lock);
        fresh.items = items;
        fresh.count = count;
    }
    for (int i = 0; i < fresh.count; i++) limn_shelf_item_deinit(&fresh.items[i]);
    limn_mem_free(fresh.items);
out:
    return st;
}

/* `lock` held: what a request without a name means. */
static const limn_shelf_item *find_default(const limn_shelf *s, limn_shelf_kind kind) {
    const char *name = s->default_name[kind];
    for (int i = 0; i < s->count; i++)
        if (s->items[i].kind == kind &&
            (name ? strcmp(s->items[i].name, name) == 0 : s->items[i].bundled))
            return &s->items[i];
    return NULL;
}

limn_status limn_shelf_list(limn_shelf *s, limn_shelf_page *out, unsigned which, limn_err *err) {
    limn_status st = LIMN_OK;
    *out = (limn_shelf_page){0};
    pthread_mutex_lock(&s->lock);
    out->items = limn_mem_calloc((size_t)s->count + 1, sizeof *out->items);
    if (!out->items) st = limn_fail(err, LIMN_E_NOMEM, "no memory for a list of models");
    for (int i = 0; i < s->count && st == LIMN_OK; i++) {
        const limn_shelf_item *item = &s->items[i];
        if (which && !(which >> item->kind & 1)) continue;
        st = item_copy(&out->items[out->count], item, err);
        if (st != LIMN_OK) break;
        out->items[out->count++].is_default = find_default(s, item->kind) == item;
    }
    pthread_mutex_unlock(&s->lock);
    if (st != LIMN_OK) limn_shelf_page_deinit(out);
    return st;
}

/* ---- names ---- */
/* Length of the name without " [hash]" and a known ending. */
static size_t bare_length(const char *name) {
    static const char *const endings[] = {".safetensors", ".gguf", ".ckpt", ".pt", ".pth", ".bin"};
    size_t n = strlen(name);
    const char *open = strrchr(name, '[');
    if (n > 0 && name[n - 1] == ']' && open > name + 1 && open[-1] == ' ')
        n = (size_t)(open - name) - 1;
    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++) {
        size_t e = strlen(endings[i]);
        if (n > e && strncasecmp(name + n - e, endings[i], e) == 0) return n - e;
    }
    return n;
}

static bool same_name(const char *known_name, const char *name, size_t n) {
    return strlen(known_name) == n && strncasecmp(known_name, name, n) == 0;
}

/* `lock` held. The whole name, or the last part of it when only one model has that. */
static const limn_shelf_item *find_named(const limn_shelf *s, limn_shelf_kind kind,
                                         const char *name) {
    size_t n = bare_length(name);
    const limn_shelf_item *found = NULL;
    int matches = 0;
    for (int i = 0; i < s->count; i++)
        if (s->items[i].kind == kind && same_name(s->items[i].name, name, strlen(name)))
            return &s->items[i];
    for (int i = 0; i < s->count; i++)
        if (s->items[i].kind == kind && same_name(s->items[i].name, name, n)) return &s->items[i];
    for (int i = 0; i < s->count; i++) {
        const char *slash = strrchr(s->items[i].name, '/');
        if (s->items[i].kind != kind || !slash || !same_name(slash + 1, name, n)) continue;
        found = &s->items[i];
        matches++;
    }
    return matches == 1 ? found : NULL;
}

static limn_status not_found(const limn_shelf *s, limn_shelf_kind kind, const char *name,
                             limn_err *err) {
    limn_buf names;
    limn_buf_init(&names, 300);
    for (int i = 0, n = 0; i < s->count && n < 12; i++)
        if (s->items[i].kind == kind)
            limn_buf_addf(&names, "%s%s", n++ ? ", " : "", s->items[i].name);
    limn_status st = limn_fail(
        err, LIMN_E_NOT_FOUND, "%.120s: there is no such %s model (there is: %s)",
        name[0] ? name : "(default)", kinds[kind].word, names.len ? limn_buf_text(&names) : "none");
    limn_buf_deinit(&names);
    return st;
}

limn_status limn_shelf_find(limn_shelf *s, limn_shelf_item *out, limn_shelf_kind kind,
                            const char *name, limn_err *err) {
    limn_status st;
    *out = (limn_shelf_item){0};
    pthread_mutex_lock(&s->lock);
    const limn_shelf_item *item = name[0] ? find_named(s, kind, name) : find_default(s, kind);
    if (!item)
        st = not_found(s, kind, name, err);
    else if (!item->supported)
        st = limn_fail(err, LIMN_E_UNSUPPORTED, "%s: is %s, which limn cannot use", item->name,
                       item->title);
    else
        st = item_copy(out, item, err);
    if (st == LIMN_OK) out->is_default = find_default(s, kind) == item;
    pthread_mutex_unlock(&s->lock);
    return st;
}

limn_status limn_shelf_set_default(limn_shelf *s, limn_shelf_kind kind, const char *name,
                                   limn_err *err) {
    limn_shelf_item item = {0};
    char *copy = NULL;
    if (name[0]) {
        limn_status st = limn_shelf_find(s, &item, kind, name, err);
        if (st != LIMN_OK) return st;
        copy = item.name;
        item.name = NULL;
    }
    limn_shelf_item_deinit(&item);
    pthread_mutex_lock(&s->lock);
    limn_mem_free(s->default_name[kind]);
    s->default_name[kind] = copy;
    pthread_mutex_unlock(&s->lock);
    return LIMN_OK;
}

limn_status limn_shelf_info(limn_shelf *s, char **out, limn_shelf_kind kind, const char *name,
                            limn_err *err) {
    limn_shelf_item item = {0};
    limn_inspection x = {0};
    limn_buf text;
    json_t *root = NULL;
    char *dump = NULL;
    limn_status st = LIMN_OK;
    *out = NULL;
    limn_buf_init(&text, 16 << 20);
    pthread_mutex_lock(&s->lock);
    const limn_shelf_item *found = name[0] ? find_named(s, kind, name) : find_default(s, kind);
    st = found ? item_copy(&item, found, err) : not_found(s, kind, name, err);
    pthread_mutex_unlock(&s->lock);
    LIMN_TRY(st);
    /* the text of an error would name the path */
    st = limn_inspect(&x, item.path, NULL);
    LIMN_CHECK(err, st == LIMN_OK, st, "%s: %s", item.name, limn_status_text(st));
    LIMN_TRY(limn_inspect_json(&text, &x, err));
    LIMN_TRY(limn_json_load(&root, limn_buf_text(&text), text.len, err));
    json_object_set_new(root, "path", json_string(item.name));
    dump = json_dumps(root, JSON_COMPACT);
    *out = dump ? limn_mem_strdup(dump) : NULL;
    LIMN_CHECK(err, *out, LIMN_E_NOMEM, "no memory for the description of a model");
out:
    json_decref(root);
    free(dump);
    limn_inspection_free(&x);
    limn_shelf_item_deinit(&item);
    limn_buf_deinit(&text);
    return st;
}
