/* SPDX-License-Identifier: MIT */
/*
 * Picture files: reading a whole file, and replacing one in a single step.
 *
 * A picture is written to a hidden temporary file beside its place, brought to the disk, and then
 * renamed: whatever happens (full disk, power cut, Ctrl-C) the name holds a complete picture or
 * what was there before.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fsmap.h"
#include "image/image.h"
#include "image/picture_text.h"

enum { READ_MAX = 1 << 30, NAME_TRIES = 100 };

/* ---- reading ---- */

/* A copy, not a map: another program may cut the file while we read it. */
static limn_status read_file(limn_buf *out, const char *path, limn_err *err) {
    struct stat sb;
    char block[65536];
    ssize_t n = 0;
    limn_status st = LIMN_OK;
    limn_buf_init(out, READ_MAX);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        st = errno == ENOENT || errno == ENOTDIR ? LIMN_E_NOT_FOUND : LIMN_E_IO;
        return limn_fail(err, st, "%s: cannot be opened: %s", path, strerror(errno));
    }
    LIMN_CHECK(err, fstat(fd, &sb) == 0 && S_ISREG(sb.st_mode), LIMN_E_IO,
               "%s: is not a regular file", path);
    LIMN_CHECK(err, sb.st_size <= READ_MAX, LIMN_E_LIMIT, "%s: more than 1 GB", path);
    while (!out->failed && (n = read(fd, block, sizeof block)) != 0) {
        if (n < 0 && errno == EINTR) continue;
        LIMN_CHECK(err, n > 0, LIMN_E_IO, "%s: cannot be read: %s", path, strerror(errno));
        limn_buf_add(out, block, (size_t)n);
    }
    LIMN_CHECK(err, !out->failed, LIMN_E_NOMEM, "%s: no memory to read it", path);
out:
    close(fd);
    return st;
}

limn_status limn_image_load(limn_image **out, const char *path, limn_err *err) {
    limn_buf file;
    *out = NULL;
    limn_status st = read_file(&file, path, err);
    if (st == LIMN_OK) {
        st = limn_image_decode(out, file.data, file.len, err);
        if (st != LIMN_OK) limn_err_prefix(err, "%s", path);
    }
    limn_buf_deinit(&file);
    return st;
}

limn_status limn_image_decode_text(char **out, const void *data, size_t size, limn_err *err) {
    const limn_image_decoder *other = limn_image_decoder_get();
    if (other->text) return other->text(out, other->user, data, size, err);
    return limn_picture_text_get(out, data, size, err);
}

limn_status limn_image_load_text(char **out, const char *path, limn_err *err) {
    limn_buf file;
    *out = NULL;
    limn_status st = read_file(&file, path, err);
    if (st == LIMN_OK) {
        st = limn_image_decode_text(out, limn_buf_text(&file), file.len, err);
        if (st != LIMN_OK) limn_err_prefix(err, "%s", path);
    }
    limn_buf_deinit(&file);
    return st;
}

/* ---- writing ---- */

static limn_status write_failed(limn_err *err, const char *path, int why) {
    return limn_fail(err, LIMN_E_IO, "%s: cannot be written: %s", path, strerror(why));
}

static limn_status write_all(int fd, const void *data, size_t size, const char *path,
                             limn_err *err) {
    const char *at = data;
    while (size > 0) {
        ssize_t n = write(fd, at, size);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return write_failed(err, path, errno);
        at += n;
        size -= (size_t)n;
    }
    return LIMN_OK;
}

/* Opens a new hidden file in the folder of `path`; its name goes to `temp`. */
static int open_temp(char *temp, size_t size, const char *path) {
    const char *slash = strrchr(path, '/');
    int folder = slash ? (int)(slash - path) + 1 : 0;
    for (int i = 0; i < NAME_TRIES; i++) {
        int n = snprintf(temp, size, "%.*s.limn-%ld-%llx%02d", folder, path, (long)getpid(),
                         (unsigned long long)limn_clock_unix_ms(), i);
        if (n < 0 || (size_t)n >= size) {
            errno = ENAMETOOLONG;
            return -1;
        }
        int fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (fd >= 0 || errno != EEXIST) return fd;
    }
    return -1;
}

/* The rename itself reaches the disk only with its folder. Some file systems cannot do that. */
static void sync_folder(const char *path) {
    char folder[4096] = ".";
    const char *slash = strrchr(path, '/');
    if (slash) snprintf(folder, sizeof folder, "%.*s", (int)(slash - path) + 1, path);
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return;
    fsync(fd);
    close(fd);
}

/* A pipe or device cannot be replaced, only written to. */
static limn_status write_device(const char *path, const void *data, size_t size, limn_err *err) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return write_failed(err, path, errno);
    limn_status st = write_all(fd, data, size, path, err);
    close(fd);
    return st;
}

static limn_status replace_file(const char *path, const void *data, size_t size, bool keep_existing,
                                limn_err *err) {
    char temp[4096 + 64];
    int fd = open_temp(temp, sizeof temp, path);
    if (fd < 0) return write_failed(err, path, errno);
    limn_status st = write_all(fd, data, size, path, err);
    if (st == LIMN_OK && fsync(fd) != 0 && errno != EINVAL) st = write_failed(err, path, errno);
    if (close(fd) != 0 && st == LIMN_OK) st = write_failed(err, path, errno);
    /* link() fails when the name is taken; rename() replaces it */
    if (st == LIMN_OK && keep_existing) {
        if (link(temp, path) != 0) st = write_failed(err, path, errno);
        unlink(temp);
    } else if (st == LIMN_OK && rename(temp, path) != 0) {
        st = write_failed(err, path, errno);
    }
    if (st != LIMN_OK) unlink(temp);
    if (st == LIMN_OK) sync_folder(path);
    return st;
}

limn_status limn_image_save(const limn_image *image, const char *path,
                            const limn_file_options *options, const char *text, limn_err *err) {
    limn_file_options o = LIMN_FILE_OPTIONS;
    void *data;
    size_t size;
    struct stat sb;
    if (options) o = *options;
    limn_status st = limn_image_format_find(&o.format, options, path, err);
    if (st != LIMN_OK) return st;
    st = limn_image_encode(&data, &size, image, &o, text, err);
    if (st != LIMN_OK) {
        limn_err_prefix(err, "%s", path);
        return st;
    }
    if (stat(path, &sb) == 0 && !S_ISREG(sb.st_mode) && !S_ISDIR(sb.st_mode))
        st = write_device(path, data, size, err);
    else
        st = replace_file(path, data, size, o.keep_existing, err);
    limn_bytes_free(&data);
    return st;
}
