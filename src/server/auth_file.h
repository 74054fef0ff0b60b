/* SPDX-License-Identifier: MIT */
/*
 * The key file: a JSON object {"keys": [{"id", "owner", "scope", "hash", "created", "expires"}]},
 * readable by its owner only and replaced as a whole. Used by the server (reading) and by `limn
 * key` (changing, under a lock file). Also: small private files in general.
 */
#ifndef LIMN_SERVER_AUTH_FILE_H
#define LIMN_SERVER_AUTH_FILE_H

#include <jansson.h>

#include "server/auth.h"

typedef struct limn_key_row {
    char id[LIMN_KEY_ID_MAX + 1];
    char owner[LIMN_OWNER_MAX + 1];
    limn_scope scope;
    unsigned char hash[32];
    int64_t created_ms, expires_ms; /* 0: never */
} limn_key_row;

const char *limn_scope_word(limn_scope s);
bool limn_scope_find(limn_scope *out, const char *word);

/* A missing file has no keys. *rows from limn_mem_*. E_FORMAT, E_IO. */
limn_status limn_key_file_load(limn_key_row **rows, int *count, const char *path, limn_err *err);
limn_status limn_key_file_save(const limn_key_row *rows, int count, const char *path,
                               limn_err *err);

/* The whole file when it has at most `limit` bytes; E_NOT_FOUND, E_LIMIT, E_IO. */
limn_status limn_private_read(void **data, size_t *size, const char *path, size_t limit,
                              limn_err *err);
/* Mode 0600, complete or not at all (temporary, fsync, rename). */
limn_status limn_private_write(const char *path, const void *data, size_t size, limn_err *err);
/* The folder and those above it, mode 0700 for new ones. */
limn_status limn_private_dir(const char *path, limn_err *err);

#endif
