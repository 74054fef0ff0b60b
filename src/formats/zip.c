/* SPDX-License-Identifier: MIT */
/* Stored zip archives; see zip.h. The central directory is the authority; each local header is
 * checked against it, because the data begins behind the local one. */
#include "formats/zip.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { END_SIZE = 22, END64_SIZE = 56, LOCATOR_SIZE = 20, CENTRAL_SIZE = 46, LOCAL_SIZE = 30 };
enum { ENTRIES_MAX = 1 << 20 };

static uint32_t get16(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}
static uint32_t get32(const uint8_t *p) {
    return get16(p) | get16(p + 2) << 16;
}
static uint64_t get64(const uint8_t *p) {
    return get32(p) | (uint64_t)get32(p + 4) << 32;
}

typedef struct directory {
    uint64_t at, size, count;
} directory;

static limn_status damaged(const limn_fsmap *map, const char *what, limn_err *err) {
    return limn_fail(err, LIMN_E_FORMAT, "%s: %s: the archive is cut short or damaged", map->path,
                     what);
}

/* The end record is searched from the back, behind a comment of at most 65535 bytes. */
static limn_status directory_find(directory *d, const limn_fsmap *map, limn_err *err) {
    const uint8_t *p = map->data;
    if (map->size < END_SIZE) return damaged(map, "too few bytes for a zip archive", err);
    size_t at = map->size - END_SIZE, least = at > 65535 ? at - 65535 : 0;
    while (get32(p + at) != 0x06054b50) {
        if (at == least) return damaged(map, "the zip directory is not there", err);
        at--;
    }
    *d = (directory){get32(p + at + 16), get32(p + at + 12), get16(p + at + 10)};
    if (at >= LOCATOR_SIZE && get32(p + at - LOCATOR_SIZE) == 0x07064b50) {
        uint64_t at64 = get64(p + at - LOCATOR_SIZE + 8);
        if (at64 > map->size || map->size - at64 < END64_SIZE || get32(p + at64) != 0x06064b50)
            return damaged(map, "the zip64 directory record is not there", err);
        *d = (directory){get64(p + at64 + 48), get64(p + at64 + 40), get64(p + at64 + 32)};
    }
    if (d->at > map->size || d->size > map->size - d->at || d->count > d->size / CENTRAL_SIZE)
        return damaged(map, "the zip directory lies outside the file", err);
    if (d->count > ENTRIES_MAX)
        return limn_fail(err, LIMN_E_LIMIT, "%s: more than %d files in the archive", map->path,
                         ENTRIES_MAX);
    return LIMN_OK;
}

/* Replaces 32-bit fields that say "see zip64" by the values of the extra field. */
static bool extra64(const uint8_t *extra, size_t n, uint64_t *size, uint64_t *packed,
                    uint64_t *local) {
    uint64_t *field[3] = {size, packed, local};
    while (n >= 4) {
        size_t id = get16(extra), len = get16(extra + 2);
        if (len > n - 4) return false;
        const uint8_t *p = extra + 4;
        if (id == 1) {
            for (int i = 0; i < 3; i++) {
                if (*field[i] != 0xffffffff) continue;
                if (len < 8) return false;
                *field[i] = get64(p);
                p += 8;
                len -= 8;
            }
            return true;
        }
        extra += 4 + get16(extra + 2);
        n -= 4 + len;
    }
    return *size != 0xffffffff && *packed != 0xffffffff && *local != 0xffffffff;
}

static limn_status entry_read(limn_zip_entry *e, const limn_fsmap *map, const uint8_t *p,
                              size_t left, size_t *used, limn_err *err) {
    if (left < CENTRAL_SIZE || get32(p) != 0x02014b50)
        return damaged(map, "a zip directory entry is not there", err);
    size_t name = get16(p + 28), extra = get16(p + 30), comment = get16(p + 32);
    *used = CENTRAL_SIZE + name + extra + comment;
    if (*used > left) return damaged(map, "a zip directory entry is cut", err);
    uint64_t packed = get32(p + 20), size = get32(p + 24), local = get32(p + 42);
    e->name = (const char *)p + CENTRAL_SIZE;
    e->name_len = name;
    if (!extra64(p + CENTRAL_SIZE + name, extra, &size, &packed, &local))
        return damaged(map, "a zip64 size is not there", err);
    if (get16(p + 10) != 0 || (get16(p + 8) & 1) || packed != size)
        return limn_fail(err, LIMN_E_UNSUPPORTED,
                         "%s: '%.*s' is compressed or encrypted; torch.save stores files as they "
                         "are",
                         map->path, (int)name, e->name);
    if (local > map->size || map->size - local < LOCAL_SIZE ||
        get32(map->data + local) != 0x04034b50)
        return damaged(map, "a file header is not there", err);
    const uint8_t *head = map->data + local;
    uint64_t data = local + LOCAL_SIZE + get16(head + 26) + get16(head + 28);
    if (get16(head + 26) != name || data > map->size || size > map->size - data ||
        memcmp(head + LOCAL_SIZE, e->name, name) != 0)
        return damaged(map, "a file header disagrees with the directory", err);
    e->data = map->data + data;
    e->size = (size_t)size;
    return LIMN_OK;
}

static int name_compare(const char *a, size_t an, const char *b, size_t bn) {
    int c = memcmp(a, b, an < bn ? an : bn);
    return c ? c : an < bn ? -1 : an > bn;
}

static int entry_compare(const void *a, const void *b) {
    const limn_zip_entry *x = a, *y = b;
    return name_compare(x->name, x->name_len, y->name, y->name_len);
}

limn_status limn_zip_open(limn_zip *out, const limn_fsmap *map, limn_err *err) {
    limn_status st;
    directory d = {0};
    *out = (limn_zip){0};
    LIMN_TRY(directory_find(&d, map, err));
    out->list = limn_mem_calloc(d.count ? (size_t)d.count : 1, sizeof *out->list);
    LIMN_CHECK(err, out->list, LIMN_E_NOMEM, "%s: no memory for its directory", map->path);
    const uint8_t *p = map->data + d.at;
    size_t left = (size_t)d.size, used = 0;
    for (; out->count < d.count; out->count++) {
        LIMN_TRY(entry_read(&out->list[out->count], map, p, left, &used, err));
        p += used;
        left -= used;
    }
    qsort(out->list, out->count, sizeof *out->list, entry_compare);
    for (size_t i = 1; i < out->count; i++)
        LIMN_CHECK(err, entry_compare(&out->list[i - 1], &out->list[i]) != 0, LIMN_E_FORMAT,
                   "%s: file '%.*s' is there twice in the archive", map->path,
                   (int)out->list[i].name_len, out->list[i].name);
out:
    if (st != LIMN_OK) limn_zip_close(out);
    return st;
}

void limn_zip_close(limn_zip *zip) {
    limn_mem_free(zip->list);
    *zip = (limn_zip){0};
}

const limn_zip_entry *limn_zip_find(const limn_zip *zip, const char *name) {
    size_t lo = 0, hi = zip->count, n = strlen(name);
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        int c = name_compare(name, n, zip->list[mid].name, zip->list[mid].name_len);
        if (c == 0) return &zip->list[mid];
        if (c < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}
