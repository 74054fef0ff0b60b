/* SPDX-License-Identifier: MIT */
/*
 * A SQLite VFS that fails when told to: writes, syncs and truncations of the real one are counted,
 * and from a chosen one on they answer an error (a full disk, a failed fsync), once or for ever.
 */
#ifndef LIMN_TESTS_FAIL_VFS_H
#define LIMN_TESTS_FAIL_VFS_H

#include <sqlite3.h>
#include <stdatomic.h>
#include <string.h>

typedef struct fail_plan {
    atomic_int countdown; /* good calls left before the first failure; < 0: none is planned */
    atomic_int times;     /* failures left; a large number: for ever */
    atomic_int code;      /* SQLITE_FULL, SQLITE_IOERR_FSYNC ... */
    atomic_int failed;    /* how often it happened */
} fail_plan;

static fail_plan vfs_plan = {.countdown = -1};

typedef struct fail_file {
    sqlite3_file base;
    sqlite3_file *real;
    sqlite3_io_methods methods;
} fail_file;

static int vfs_fails(int is_sync) {
    int code = atomic_load(&vfs_plan.code);
    if (atomic_load(&vfs_plan.countdown) < 0) return SQLITE_OK;
    if ((code == SQLITE_IOERR_FSYNC) != is_sync) return SQLITE_OK;
    if (atomic_load(&vfs_plan.countdown) > 0) {
        atomic_fetch_sub(&vfs_plan.countdown, 1);
        return SQLITE_OK;
    }
    if (atomic_fetch_sub(&vfs_plan.times, 1) <= 0) {
        atomic_store(&vfs_plan.countdown, -1);
        return SQLITE_OK;
    }
    atomic_fetch_add(&vfs_plan.failed, 1);
    return code;
}

#define REAL(f) (((fail_file *)(f))->real)

static int vfs_close(sqlite3_file *f) {
    int rc = REAL(f)->pMethods->xClose(REAL(f));
    sqlite3_free(REAL(f));
    return rc;
}
static int vfs_read(sqlite3_file *f, void *p, int n, sqlite3_int64 at) {
    return REAL(f)->pMethods->xRead(REAL(f), p, n, at);
}
static int vfs_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 at) {
    int rc = vfs_fails(0);
    return rc ? rc : REAL(f)->pMethods->xWrite(REAL(f), p, n, at);
}
static int vfs_truncate(sqlite3_file *f, sqlite3_int64 n) {
    int rc = vfs_fails(0);
    return rc ? rc : REAL(f)->pMethods->xTruncate(REAL(f), n);
}
static int vfs_sync(sqlite3_file *f, int flags) {
    int rc = vfs_fails(1);
    return rc ? rc : REAL(f)->pMethods->xSync(REAL(f), flags);
}
static int vfs_size(sqlite3_file *f, sqlite3_int64 *n) {
    return REAL(f)->pMethods->xFileSize(REAL(f), n);
}
static int vfs_lock(sqlite3_file *f, int how) {
    return REAL(f)->pMethods->xLock(REAL(f), how);
}
static int vfs_unlock(sqlite3_file *f, int how) {
    return REAL(f)->pMethods->xUnlock(REAL(f), how);
}
static int vfs_reserved(sqlite3_file *f, int *out) {
    return REAL(f)->pMethods->xCheckReservedLock(REAL(f), out);
}
static int vfs_control(sqlite3_file *f, int op, void *arg) {
    return REAL(f)->pMethods->xFileControl(REAL(f), op, arg);
}
static int vfs_sector(sqlite3_file *f) {
    return REAL(f)->pMethods->xSectorSize(REAL(f));
}
static int vfs_traits(sqlite3_file *f) {
    return REAL(f)->pMethods->xDeviceCharacteristics(REAL(f));
}
static int vfs_shm_map(sqlite3_file *f, int page, int size, int extend, void volatile **out) {
    return REAL(f)->pMethods->xShmMap(REAL(f), page, size, extend, out);
}
static int vfs_shm_lock(sqlite3_file *f, int at, int n, int flags) {
    return REAL(f)->pMethods->xShmLock(REAL(f), at, n, flags);
}
static void vfs_shm_barrier(sqlite3_file *f) {
    REAL(f)->pMethods->xShmBarrier(REAL(f));
}
static int vfs_shm_unmap(sqlite3_file *f, int remove) {
    return REAL(f)->pMethods->xShmUnmap(REAL(f), remove);
}

static int vfs_open(sqlite3_vfs *v, const char *name, sqlite3_file *file, int flags, int *out) {
    sqlite3_vfs *real = v->pAppData;
    fail_file *f = (fail_file *)file;
    memset(f, 0, sizeof *f);
    f->real = sqlite3_malloc(real->szOsFile);
    if (!f->real) return SQLITE_NOMEM;
    memset(f->real, 0, (size_t)real->szOsFile);
    int rc = real->xOpen(real, name, f->real, flags, out);
    if (rc != SQLITE_OK) {
        sqlite3_free(f->real);
        return rc;
    }
    f->methods = (sqlite3_io_methods){.iVersion = 2,
                                      .xClose = vfs_close,
                                      .xRead = vfs_read,
                                      .xWrite = vfs_write,
                                      .xTruncate = vfs_truncate,
                                      .xSync = vfs_sync,
                                      .xFileSize = vfs_size,
                                      .xLock = vfs_lock,
                                      .xUnlock = vfs_unlock,
                                      .xCheckReservedLock = vfs_reserved,
                                      .xFileControl = vfs_control,
                                      .xSectorSize = vfs_sector,
                                      .xDeviceCharacteristics = vfs_traits,
                                      .xShmMap = vfs_shm_map,
                                      .xShmLock = vfs_shm_lock,
                                      .xShmBarrier = vfs_shm_barrier,
                                      .xShmUnmap = vfs_shm_unmap};
    f->base.pMethods = &f->methods;
    return SQLITE_OK;
}

/* Registers the VFS "fail"; call once. */
static inline int fail_vfs_register(void) {
    static sqlite3_vfs vfs;
    sqlite3_vfs *real = sqlite3_vfs_find(NULL);
    if (!real) return SQLITE_ERROR;
    vfs = *real;
    vfs.zName = "fail";
    vfs.pAppData = real;
    vfs.szOsFile = (int)sizeof(fail_file);
    vfs.xOpen = vfs_open;
    return sqlite3_vfs_register(&vfs, 0);
}

static inline void vfs_fail_after(int calls, int times, int code) {
    atomic_store(&vfs_plan.code, code);
    atomic_store(&vfs_plan.times, times);
    atomic_store(&vfs_plan.failed, 0);
    atomic_store(&vfs_plan.countdown, calls);
}

static inline void vfs_heal(void) {
    atomic_store(&vfs_plan.countdown, -1);
}

#endif
