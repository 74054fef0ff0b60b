/* SPDX-License-Identifier: MIT */
/* The key file and private files; see auth_file.h. */
#include "server/auth_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "param/serve.h"
#include "server/serve_paths.h"

enum { KEY_FILE_MAX = 4 << 20, KEYS_MAX = 10000, KEY_BYTES = 32 };

static const char *const scope_words[] = {"none", "read", "infer", "admin"};

const char *limn_scope_word(limn_scope s) {
    return scope_words[s];
}

bool limn_scope_find(limn_scope *out, const char *word) {
    for (int i = LIMN_SCOPE_READ; i <= LIMN_SCOPE_ADMIN; i++) {
        if (strcmp(word, scope_words[i]) != 0) continue;
        *out = (limn_scope)i;
        return true;
    }
    return false;
}

/* ---- private files ---- */

limn_status limn_private_read(void **data, size_t *size, const char *path, size_t limit,
                              limn_err *err) {
    *data = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return limn_fail(err, errno == ENOENT || errno == ENOTDIR ? LIMN_E_NOT_FOUND : LIMN_E_IO,
                         "%s: cannot be opened (%s)", path, strerror(errno));
    limn_status st = LIMN_OK;
    struct stat info;
    char *bytes = NULL;
    size_t have = 0;
    LIMN_CHECK(err, fstat(fd, &info) == 0 && S_ISREG(info.st_mode), LIMN_E_IO, "%s: not a file",
               path);
    LIMN_CHECK(err, (uint64_t)info.st_size <= limit, LIMN_E_LIMIT, "%s: larger than %zu bytes",
               path, limit);
    bytes = limn_mem_alloc((size_t)info.st_size + 1);
    LIMN_CHECK(err, bytes, LIMN_E_NOMEM, "no memory for %s", path);
    while (have < (size_t)info.st_size) {
        ssize_t n = read(fd, bytes + have, (size_t)info.st_size - have);
        if (n < 0 && errno == EINTR) continue;
        LIMN_CHECK(err, n >= 0, LIMN_E_IO, "%s: %s", path, strerror(errno));
        if (n == 0) break;
        have += (size_t)n;
    }
    bytes[have] = 0;
    *data = bytes;
    *size = have;
    bytes = NULL;
out:
    limn_mem_free(bytes);
    close(fd);
    return st;
}

static bool write_all(int fd, const char *data, size_t size) {
    while (size > 0) {
        ssize_t n = write(fd, data, size);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        data += n;
        size -= (size_t)n;
    }
    return true;
}

limn_status limn_private_write(const char *path, const void *data, size_t size, limn_err *err) {
    char tmp[LIMN_SERVE_PATH_MAX + 32];
    int n = snprintf(tmp, sizeof tmp, "%s.%ld.tmp", path, (long)getpid());
    if (n < 0 || n >= (int)sizeof tmp) return limn_fail(err, LIMN_E_LIMIT, "path is too long");
    int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) return limn_fail(err, LIMN_E_IO, "%s: %s", tmp, strerror(errno));
    bool ok = write_all(fd, data, size) && fsync(fd) == 0;
    ok = close(fd) == 0 && ok;
    if (ok && rename(tmp, path) == 0) return LIMN_OK;
    int why = errno;
    unlink(tmp);
    return limn_fail(err, LIMN_E_IO, "%s: cannot be written (%s)", path, strerror(why));
}

limn_status limn_private_dir(const char *path, limn_err *err) {
    char part[LIMN_SERVE_PATH_MAX];
    if (strlen(path) >= sizeof part) return limn_fail(err, LIMN_E_LIMIT, "path is too long");
    for (size_t i = 1;; i++) {
        if (path[i] != '/' && path[i]) continue;
        memcpy(part, path, i);
        part[i] = 0;
        if (mkdir(part, 0700) != 0 && errno != EEXIST)
            return limn_fail(err, LIMN_E_IO, "%s: cannot be made (%s)", part, strerror(errno));
        if (!path[i]) return LIMN_OK;
    }
}

/* ---- rows ---- */

static bool read_row(limn_key_row *row, const json_t *o) {
    const char *id = json_string_value(json_object_get(o, "id"));
    const char *owner = json_string_value(json_object_get(o, "owner"));
    const char *scope = json_string_value(json_object_get(o, "scope"));
    const char *hash = json_string_value(json_object_get(o, "hash"));
    if (!id || !owner || !scope || !hash) return false;
    if (strlen(id) > LIMN_KEY_ID_MAX || strlen(owner) > LIMN_OWNER_MAX) return false;
    size_t n = 0;
    if (strlen(hash) != 64 ||
        sodium_hex2bin(row->hash, sizeof row->hash, hash, 64, NULL, &n, NULL) != 0 ||
        n != sizeof row->hash)
        return false;
    snprintf(row->id, sizeof row->id, "%s", id);
    snprintf(row->owner, sizeof row->owner, "%s", owner);
    row->created_ms = json_integer_value(json_object_get(o, "created"));
    row->expires_ms = json_integer_value(json_object_get(o, "expires"));
    return limn_scope_find(&row->scope, scope);
}

limn_status limn_key_file_load(limn_key_row **rows, int *count, const char *path, limn_err *err) {
    void *data;
    size_t size;
    limn_err why = {0};
    limn_status st = limn_private_read(&data, &size, path, KEY_FILE_MAX, &why);
    *rows = NULL;
    *count = 0;
    if (st == LIMN_E_NOT_FOUND) return LIMN_OK;
    if (st != LIMN_OK) return limn_fail(err, st, "%s", why.text);
    json_t *root = json_loadb(data, size, JSON_REJECT_DUPLICATES, NULL);
    const json_t *list = json_object_get(root, "keys");
    limn_mem_free(data);
    LIMN_CHECK(err, json_is_array(list) && json_array_size(list) <= KEYS_MAX, LIMN_E_FORMAT,
               "%s: not a key file", path);
    *rows = limn_mem_calloc(json_array_size(list) + 1, sizeof **rows);
    LIMN_CHECK(err, *rows, LIMN_E_NOMEM, "no memory for keys");
    for (size_t i = 0; i < json_array_size(list); i++)
        LIMN_CHECK(err, read_row(*rows + i, json_array_get(list, i)), LIMN_E_FORMAT,
                   "%s: key %zu is damaged", path, i);
    *count = (int)json_array_size(list);
out:
    if (st != LIMN_OK) {
        limn_mem_free(*rows);
        *rows = NULL;
    }
    json_decref(root);
    return st;
}

limn_status limn_key_file_save(const limn_key_row *rows, int count, const char *path,
                               limn_err *err) {
    json_t *list = json_array();
    for (int i = 0; i < count; i++) {
        char hash[65];
        sodium_bin2hex(hash, sizeof hash, rows[i].hash, sizeof rows[i].hash);
        json_array_append_new(list,
                              json_pack("{s:s, s:s, s:s, s:s, s:I, s:I}", "id", rows[i].id, "owner",
                                        rows[i].owner, "scope", limn_scope_word(rows[i].scope),
                                        "hash", hash, "created", (json_int_t)rows[i].created_ms,
                                        "expires", (json_int_t)rows[i].expires_ms));
    }
    json_t *root = json_pack("{s:o}", "keys", list);
    char *text = json_dumps(root, JSON_INDENT(1));
    json_decref(root);
    if (!text) return limn_fail(err, LIMN_E_NOMEM, "no memory for keys");
    limn_status st = limn_private_write(path, text, strlen(text), err);
    free(text);
    return st;
}

/* ---- limn key ---- */

/* Opens the lock beside the file, waits for it, and loads. */
static limn_status open_locked(int *lock, limn_key_row **rows, int *count,
                               char path[LIMN_SERVE_PATH_MAX], const limn_params *serve,
                               limn_err *err) {
    char name[LIMN_SERVE_PATH_MAX + 8], dir[LIMN_SERVE_PATH_MAX];
    *lock = -1;
    *rows = NULL;
    if (sodium_init() < 0) return limn_fail(err, LIMN_E_INTERNAL, "libsodium does not start");
    limn_status st = limn_serve_path_data(dir, serve, err);
    if (st == LIMN_OK) st = limn_private_dir(dir, err);
    if (st == LIMN_OK) st = limn_serve_path_keys(path, serve, err);
    if (st != LIMN_OK) return st;
    snprintf(name, sizeof name, "%s.lock", path);
    *lock = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (*lock < 0 || flock(*lock, LOCK_EX) != 0)
        return limn_fail(err, LIMN_E_IO, "%s: %s", name, strerror(errno));
    return limn_key_file_load(rows, count, path, err);
}

/* Keys with the scope admin that are not over. */
static int count_admins(const limn_key_row *rows, int count) {
    int64_t now = limn_clock_unix_ms();
    int n = 0;
    for (int i = 0; i < count; i++)
        n += rows[i].scope == LIMN_SCOPE_ADMIN && (!rows[i].expires_ms || rows[i].expires_ms > now);
    return n;
}

/* With the lock: whether the asker may still change these rows. */
static limn_status check_asker(const limn_key_row *rows, int count, const char *asker,
                               limn_err *err) {
    int at = 0;
    if (!asker || (!*asker && count == 0)) return LIMN_OK;
    while (at < count && strcmp(rows[at].id, asker) != 0) at++;
    if (at < count && count_admins(&rows[at], 1)) return LIMN_OK;
    return limn_fail(err, LIMN_E_CONFLICT,
                     *asker ? "the key of this request was revoked meanwhile"
                            : "a key was made meanwhile: this request needs one now");
}

static bool is_owner(const char *s) {
    size_t n = strlen(s);
    for (size_t i = 0; i < n; i++)
        if (!((s[i] >= 'a' && s[i] <= 'z') || (s[i] >= 'A' && s[i] <= 'Z') ||
              (s[i] >= '0' && s[i] <= '9') || strchr("._-@", s[i])))
            return false;
    return n > 0 && n <= LIMN_OWNER_MAX;
}

limn_status limn_key_create(char **out, const limn_params *serve, const char *owner,
                            const char *scope, int days, const char *asker, limn_err *err) {
    char path[LIMN_SERVE_PATH_MAX], text[64];
    unsigned char secret[KEY_BYTES], id[4];
    limn_key_row *rows = NULL, *more = NULL, row = {0};
    int count = 0, lock = -1;
    limn_status st = LIMN_OK;
    *out = NULL;
    LIMN_CHECK(err, is_owner(owner), LIMN_E_VALUE,
               "an owner is 1 to %d characters of a-z A-Z 0-9 . _ - @", LIMN_OWNER_MAX);
    LIMN_CHECK(err, limn_scope_find(&row.scope, scope), LIMN_E_VALUE,
               "a scope is read, infer or admin, not \"%.40s\"", scope);
    LIMN_TRY(open_locked(&lock, &rows, &count, path, serve, err));
    LIMN_TRY(check_asker(rows, count, asker, err));
    LIMN_CHECK(err, count < KEYS_MAX, LIMN_E_LIMIT, "there are %d keys already", count);
    LIMN_CHECK(err, !asker || row.scope == LIMN_SCOPE_ADMIN || count_admins(rows, count) > 0,
               LIMN_E_CONFLICT,
               "/scope: the first key must have the scope admin: it makes and revokes the others");
    more = limn_mem_calloc((size_t)count + 1, sizeof *more);
    LIMN_CHECK(err, more, LIMN_E_NOMEM, "no memory for keys");
    if (count) memcpy(more, rows, sizeof *rows * (size_t)count);
    randombytes_buf(secret, sizeof secret);
    randombytes_buf(id, sizeof id);
    memcpy(text, "lk_", 3);
    sodium_bin2base64(text + 3, sizeof text - 3, secret, sizeof secret,
                      sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    sodium_bin2hex(row.id, sizeof row.id, id, sizeof id);
    snprintf(row.owner, sizeof row.owner, "%s", owner);
    crypto_hash_sha256(row.hash, (const unsigned char *)text, strlen(text));
    row.created_ms = limn_clock_unix_ms();
    row.expires_ms = days > 0 ? row.created_ms + (int64_t)days * 86400000 : 0;
    more[count] = row;
    LIMN_TRY(limn_key_file_save(more, count + 1, path, err));
    *out = limn_mem_strdup(text);
    LIMN_CHECK(err, *out, LIMN_E_NOMEM, "no memory for the key");
out:
    sodium_memzero(text, sizeof text);
    limn_mem_free(rows);
    limn_mem_free(more);
    if (lock >= 0) close(lock);
    return st;
}

limn_status limn_key_list(char **out, const limn_params *serve, limn_err *err) {
    char path[LIMN_SERVE_PATH_MAX];
    limn_key_row *rows = NULL;
    int count = 0, lock = -1;
    *out = NULL;
    limn_status st = open_locked(&lock, &rows, &count, path, serve, err);
    json_t *list = json_array();
    for (int i = 0; st == LIMN_OK && i < count; i++)
        json_array_append_new(list,
                              json_pack("{s:s, s:s, s:s, s:I, s:I}", "id", rows[i].id, "owner",
                                        rows[i].owner, "scope", limn_scope_word(rows[i].scope),
                                        "created", (json_int_t)rows[i].created_ms, "expires",
                                        (json_int_t)rows[i].expires_ms));
    if (st == LIMN_OK) {
        char *text = json_dumps(list, 0);
        *out = text ? limn_mem_strdup(text) : NULL;
        free(text);
        if (!*out) st = limn_fail(err, LIMN_E_NOMEM, "no memory for the list");
    }
    json_decref(list);
    limn_mem_free(rows);
    if (lock >= 0) close(lock);
    return st;
}

limn_status limn_key_revoke(const limn_params *serve, const char *id, const char *asker,
                            limn_err *err) {
    char path[LIMN_SERVE_PATH_MAX];
    limn_key_row *rows = NULL;
    int count = 0, lock = -1, at = 0;
    limn_status st = LIMN_OK;
    LIMN_TRY(open_locked(&lock, &rows, &count, path, serve, err));
    LIMN_TRY(check_asker(rows, count, asker, err));
    while (at < count && strcmp(rows[at].id, id) != 0) at++;
    LIMN_CHECK(err, at < count, LIMN_E_NOT_FOUND, "there is no key \"%.40s\"", id);
    memmove(rows + at, rows + at + 1, sizeof *rows * (size_t)(count - at - 1));
    /* without a key that may revoke, or without any, the door would be shut for good or open */
    LIMN_CHECK(err, !asker || count_admins(rows, count - 1) > 0, LIMN_E_CONFLICT,
               "the last key with the scope admin is revoked with `limn key revoke` only");
    LIMN_TRY(limn_key_file_save(rows, count - 1, path, err));
out:
    limn_mem_free(rows);
    if (lock >= 0) close(lock);
    return st;
}
