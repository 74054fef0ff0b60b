/* SPDX-License-Identifier: MIT */
/* Memory maps; see fsmap.h. */
#include "base/fsmap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

typedef struct map_impl {
    limn_fsmap pub; /* first: the public pointer is the impl pointer */
    bool wrapped;   /* the caller's memory: neither unmapped nor advised upon */
    atomic_int refs;
} map_impl;

static const uint8_t empty_file[1] = {0};

static limn_status open_failed(limn_err *err, const char *path) {
    limn_status st = errno == ENOENT || errno == ENOTDIR ? LIMN_E_NOT_FOUND : LIMN_E_IO;
    return limn_fail(err, st, "%s: cannot be opened: %s", path, strerror(errno));
}

limn_status limn_fsmap_open(limn_fsmap **out, const char *path, limn_err *err) {
    *out = NULL;
    limn_status st = LIMN_OK;
    map_impl *m = NULL;
    void *data = MAP_FAILED;
    struct stat sb;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return open_failed(err, path);
    LIMN_CHECK(err, fstat(fd, &sb) == 0, LIMN_E_IO, "%s: %s", path, strerror(errno));
    LIMN_CHECK(err, S_ISREG(sb.st_mode), LIMN_E_IO, "%s: is not a regular file", path);
    m = limn_mem_calloc(1, sizeof *m);
    char *name = m ? limn_mem_strdup(path) : NULL;
    LIMN_CHECK(err, name, LIMN_E_NOMEM, "%s: no memory to open it", path);
    m->pub.path = name;
    m->pub.size = (size_t)sb.st_size;
    m->pub.data = empty_file;
    atomic_init(&m->refs, 1);
    if (m->pub.size > 0) {
        data = mmap(NULL, m->pub.size, PROT_READ, MAP_PRIVATE, fd, 0);
        LIMN_CHECK(err, data != MAP_FAILED, LIMN_E_IO, "%s: cannot be mapped: %s", path,
                   strerror(errno));
        m->pub.data = data;
    }
    *out = &m->pub;
    m = NULL;
out:
    if (m) {
        limn_mem_free((char *)m->pub.path);
        limn_mem_free(m);
    }
    close(fd);
    return st;
}

limn_status limn_fsmap_wrap(limn_fsmap **out, const char *name, const void *data, size_t size,
                            limn_err *err) {
    map_impl *m = limn_mem_calloc(1, sizeof *m);
    char *copy = m ? limn_mem_strdup(name) : NULL;
    *out = NULL;
    if (!copy) {
        limn_mem_free(m);
        return limn_fail(err, LIMN_E_NOMEM, "%s: no memory to open it", name);
    }
    m->pub = (limn_fsmap){.data = size ? data : empty_file, .size = size, .path = copy};
    m->wrapped = true;
    atomic_init(&m->refs, 1);
    *out = &m->pub;
    return LIMN_OK;
}

limn_fsmap *limn_fsmap_ref(limn_fsmap *map) {
    atomic_fetch_add(&((map_impl *)map)->refs, 1);
    return map;
}

void limn_fsmap_unref(limn_fsmap **map) {
    map_impl *m = map ? (map_impl *)*map : NULL;
    if (!m) return;
    *map = NULL;
    if (atomic_fetch_sub(&m->refs, 1) != 1) return;
    if (m->pub.size > 0 && !m->wrapped) munmap((void *)m->pub.data, m->pub.size);
    limn_mem_free((char *)m->pub.path);
    limn_mem_free(m);
}

static void advise(const limn_fsmap *map, size_t offset, size_t size, int advice) {
    if (offset >= map->size || size == 0 || ((const map_impl *)map)->wrapped) return;
    if (size > map->size - offset) size = map->size - offset;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t begin = offset / page * page;
    madvise((void *)(map->data + begin), size + (offset - begin), advice);
}

void limn_fsmap_will_need(const limn_fsmap *map, size_t offset, size_t size) {
    advise(map, offset, size, MADV_WILLNEED);
}

void limn_fsmap_drop(const limn_fsmap *map, size_t offset, size_t size) {
    advise(map, offset, size, MADV_DONTNEED);
}
