/* SPDX-License-Identifier: MIT */
/* Packed weights on disk; see pack_store.h. */
#include "backend/cpu/pack_store.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/folder.h"
#include "base/fsmap.h"

enum { ALIGN = 64, MAX_FILES = 32, MAX_RECORDS = 1 << 16 };
static const char file_magic[8] = "LIMNPK1";
static const uint64_t record_magic = 0x6b6361706e6d696cu;

typedef struct record {
    uint64_t magic;
    uint64_t place; /* of the tensor in its source file */
    uint64_t use;
    uint64_t size;  /* of the payload that follows, padded to ALIGN */
    uint64_t check; /* of the four before */
    uint64_t pad[3];
} record;

typedef struct pack_file {
    uint64_t source;
    limn_fsmap *map; /* NULL: there is no file yet */
} pack_file;

/* A file that was replaced while views into it may be in use. */
typedef struct old_map {
    limn_fsmap *map;
    struct old_map *next;
} old_map;

struct limn_pack_store {
    char *dir, *variant;
    uint64_t limit;
    pack_file files[MAX_FILES];
    int n_files;
    old_map *old;
};

static uint64_t mix(uint64_t h, uint64_t v) {
    h ^= v + 0x9e3779b97f4a7c15u + (h << 6) + (h >> 2);
    h *= 0xff51afd7ed558ccdu;
    return h ^ (h >> 33);
}

static uint64_t record_check(const record *r) {
    return mix(mix(mix(mix(1, r->magic), r->place), r->use), r->size);
}

static size_t padded(size_t n) {
    return (n + ALIGN - 1) / ALIGN * ALIGN;
}

limn_status limn_pack_store_new(limn_pack_store **out, const char *dir, const char *variant,
                                uint64_t limit, limn_err *err) {
    limn_pack_store *s = limn_mem_calloc(1, sizeof *s);
    *out = NULL;
    if (s) {
        s->dir = limn_mem_strdup(dir);
        s->variant = limn_mem_strdup(variant);
        s->limit = limit;
    }
    if (!s || !s->dir || !s->variant) {
        limn_pack_store_free(&s);
        return limn_fail(err, LIMN_E_NOMEM, "no memory for a cache of packed weights");
    }
    *out = s;
    return LIMN_OK;
}

void limn_pack_store_free(limn_pack_store **store) {
    limn_pack_store *s = store ? *store : NULL;
    if (!s) return;
    for (int i = 0; i < s->n_files; i++) limn_fsmap_unref(&s->files[i].map);
    for (old_map *o = s->old, *next; o; o = next) {
        next = o->next;
        limn_fsmap_unref(&o->map);
        limn_mem_free(o);
    }
    limn_mem_free(s->dir);
    limn_mem_free(s->variant);
    limn_mem_free(s);
    *store = NULL;
}

static void path_of(char *path, size_t size, const limn_pack_store *s, uint64_t source) {
    snprintf(path, size, "%s/%016llx-%s.pack", s->dir, (unsigned long long)source, s->variant);
}

static limn_fsmap *map_file(const limn_pack_store *s, uint64_t source) {
    char path[4096];
    limn_fsmap *map = NULL;
    path_of(path, sizeof path, s, source);
    if (limn_fsmap_open(&map, path, NULL) != LIMN_OK) return NULL;
    if (map->size < ALIGN || memcmp(map->data, file_magic, sizeof file_magic) != 0)
        limn_fsmap_unref(&map);
    return map;
}

/* The file of a source, opened on first use; NULL when too many sources are in use. */
static pack_file *file_of(limn_pack_store *s, uint64_t source) {
    for (int i = 0; i < s->n_files; i++)
        if (s->files[i].source == source) return &s->files[i];
    if (s->n_files == MAX_FILES) return NULL;
    pack_file *f = &s->files[s->n_files++];
    *f = (pack_file){.source = source, .map = map_file(s, source)};
    return f;
}

/* Maps the file anew after it was replaced: what was saved is found, and kept by the next save.
 * Views into the old one stay. Without memory to remember the old one it goes on being read. */
static void map_again(limn_pack_store *s, pack_file *f) {
    old_map *o = f->map ? limn_mem_calloc(1, sizeof *o) : NULL;
    if (f->map && !o) return;
    if (o) {
        *o = (old_map){f->map, s->old};
        s->old = o;
    }
    f->map = map_file(s, f->source);
}

/* The record at `at`, or NULL at the end or where the file is damaged; *next is the one after. */
static const record *record_at(const limn_fsmap *map, size_t at, size_t *next) {
    if (!map || at > map->size || map->size - at < sizeof(record)) return NULL;
    const record *r = (const record *)(map->data + at);
    if (r->magic != record_magic || r->check != record_check(r)) return NULL;
    if (r->size > map->size - at - sizeof *r) return NULL;
    *next = at + sizeof *r + padded((size_t)r->size);
    return r;
}

static bool is_storable(const limn_weight *w) {
    return w->source != 0 && !w->delta;
}

const void *limn_pack_store_find(limn_pack_store *s, const limn_weight *w, int use, size_t *size) {
    pack_file *f = is_storable(w) ? file_of(s, w->source) : NULL;
    if (!f) return NULL;
    size_t at = ALIGN;
    for (const record *r; (r = record_at(f->map, at, &at));)
        if (r->place == w->source_place && r->use == (uint64_t)use) {
            *size = (size_t)r->size;
            return r + 1;
        }
    return NULL;
}

/* ---- writing ---- */
static limn_status put(FILE *f, const void *bytes, size_t n, limn_err *err, const char *path) {
    static const char zeros[ALIGN] = {0};
    size_t pad = padded(n) - n;
    if (fwrite(bytes, 1, n, f) == n && fwrite(zeros, 1, pad, f) == pad) return LIMN_OK;
    return limn_fail(err, LIMN_E_IO, "%s: cannot be written: %s", path, strerror(errno));
}

static limn_status put_record(FILE *f, uint64_t place, uint64_t use, const void *bytes, size_t n,
                              limn_err *err, const char *path) {
    record r = {.magic = record_magic, .place = place, .use = use, .size = n};
    r.check = record_check(&r);
    limn_status st = put(f, &r, sizeof r, err, path);
    return st == LIMN_OK ? put(f, bytes, n, err, path) : st;
}

static bool is_new(const pack_file *f, const limn_pack_item *i) {
    size_t at = ALIGN;
    for (const record *r; (r = record_at(f->map, at, &at));)
        if (r->place == i->w->source_place && r->use == (uint64_t)i->use) return false;
    return true;
}

static limn_status write_file(FILE *out, const pack_file *f, const limn_pack_item *items, size_t n,
                              const char *path, limn_err *err) {
    limn_status st = LIMN_OK;
    char head[ALIGN] = {0};
    size_t at = ALIGN;
    memcpy(head, file_magic, sizeof file_magic);
    LIMN_TRY(put(out, head, sizeof head, err, path));
    for (const record *r; (r = record_at(f->map, at, &at));)
        LIMN_TRY(put_record(out, r->place, r->use, r + 1, (size_t)r->size, err, path));
    for (size_t i = 0; i < n; i++)
        if (is_storable(items[i].w) && items[i].w->source == f->source && is_new(f, &items[i]))
            LIMN_TRY(put_record(out, items[i].w->source_place, (uint64_t)items[i].use,
                                items[i].bytes, items[i].size, err, path));
    LIMN_CHECK(err, fflush(out) == 0, LIMN_E_IO, "%s: cannot be written: %s", path,
               strerror(errno));
out:
    return st;
}

static limn_status save_source(const limn_pack_store *s, const pack_file *f,
                               const limn_pack_item *items, size_t n, limn_err *err) {
    char path[4096], temp[4200];
    path_of(path, sizeof path, s, f->source);
    snprintf(temp, sizeof temp, "%s.%ld.tmp", path, (long)getpid());
    FILE *out = fopen(temp, "wb");
    if (!out) return limn_fail(err, LIMN_E_IO, "%s: cannot be made: %s", temp, strerror(errno));
    limn_status st = write_file(out, f, items, n, temp, err);
    if (fclose(out) != 0 && st == LIMN_OK)
        st = limn_fail(err, LIMN_E_IO, "%s: cannot be written: %s", temp, strerror(errno));
    if (st == LIMN_OK && rename(temp, path) != 0)
        st = limn_fail(err, LIMN_E_IO, "%s: cannot be replaced: %s", path, strerror(errno));
    if (st != LIMN_OK) unlink(temp);
    return st;
}

/* ---- keeping the folder small ---- */
typedef struct aged_file {
    char name[256];
    uint64_t bytes;
    int64_t written; /* seconds */
} aged_file;

static int by_age(const void *a, const void *b) {
    int64_t x = ((const aged_file *)a)->written, y = ((const aged_file *)b)->written;
    return x < y ? -1 : x > y;
}

static void evict(const limn_pack_store *s) {
    enum { MOST = 1024 };
    DIR *d = opendir(s->dir);
    aged_file *list = d ? limn_mem_calloc(MOST, sizeof *list) : NULL;
    size_t n = 0;
    uint64_t total = 0;
    char path[4400];
    for (struct dirent *e; list && n < MOST && (e = readdir(d));) {
        struct stat sb;
        size_t len = strlen(e->d_name);
        if (len < 5 || len >= sizeof list->name || strcmp(e->d_name + len - 5, ".pack") != 0)
            continue;
        snprintf(path, sizeof path, "%s/%s", s->dir, e->d_name);
        if (stat(path, &sb) != 0) continue;
        memcpy(list[n].name, e->d_name, len + 1);
        list[n].bytes = (uint64_t)sb.st_size;
        list[n].written = sb.st_mtime;
        total += list[n++].bytes;
    }
    if (d) closedir(d);
    if (list) qsort(list, n, sizeof *list, by_age);
    for (size_t i = 0; i + 1 < n && total > s->limit; i++) {
        snprintf(path, sizeof path, "%s/%s", s->dir, list[i].name);
        if (unlink(path) == 0) total -= list[i].bytes;
    }
    limn_mem_free(list);
}

limn_status limn_pack_store_save(limn_pack_store *s, const limn_pack_item *items, size_t n,
                                 limn_err *err) {
    bool dirty[MAX_FILES] = {false};
    bool any = false;
    for (size_t i = 0; i < n; i++) {
        pack_file *f = is_storable(items[i].w) ? file_of(s, items[i].w->source) : NULL;
        if (!f || dirty[f - s->files] || !is_new(f, &items[i])) continue;
        dirty[f - s->files] = any = true;
    }
    limn_status st = any ? limn_folder_make(s->dir, err) : LIMN_OK;
    for (int i = 0; i < s->n_files && st == LIMN_OK; i++)
        if (dirty[i]) {
            st = save_source(s, &s->files[i], items, n, err);
            if (st == LIMN_OK) map_again(s, &s->files[i]);
        }
    if (any && st == LIMN_OK) evict(s);
    return st;
}
