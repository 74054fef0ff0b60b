/* SPDX-License-Identifier: MIT */
/*
 * Who asks: API keys, sessions of browsers, scopes, and the rate limit.
 *
 * Keys are 256 random bits; the file keeps their SHA-256 only, and comparing takes the same time
 * for every key. The file is read again when it changes, so that `limn key revoke` acts on a
 * running server. A session cookie is the key's id, an end, and an HMAC by a secret beside the key
 * file: no table of sessions, and revoking the key ends them.
 *
 * All functions may be called from any thread.
 */
#ifndef LIMN_SERVER_AUTH_H
#define LIMN_SERVER_AUTH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

/* Each includes those before it. */
typedef enum limn_scope {
    LIMN_SCOPE_NONE,
    LIMN_SCOPE_READ,
    LIMN_SCOPE_INFER,
    LIMN_SCOPE_ADMIN
} limn_scope;

enum { LIMN_KEY_ID_MAX = 16, LIMN_OWNER_MAX = 64, LIMN_COOKIE_MAX = 160 };

/* Who a request is from. */
typedef struct limn_principal {
    bool known; /* a valid key, or no keys are needed */
    limn_scope scope;
    char owner[LIMN_OWNER_MAX + 1]; /* "" without keys */
    char key[LIMN_KEY_ID_MAX + 1];  /* id of the key; "" without */
} limn_principal;

typedef struct limn_keyring limn_keyring;

/* `path` of the key file, which need not exist. The secret is made beside it when needed. */
limn_status limn_keyring_open(limn_keyring **out, const char *path, limn_err *err);
void limn_keyring_close(limn_keyring **ring);
/* Reads the file now. */
void limn_keyring_reload(limn_keyring *ring);
/* Any key that is not revoked or expired. Looks at the file at most once a second. */
bool limn_keyring_has_keys(limn_keyring *ring);
/* false: no such key. */
bool limn_keyring_check(limn_keyring *ring, limn_principal *out, const char *key);
/* A cookie value for the key `who` came with, valid for 30 days. */
limn_status limn_keyring_make_cookie(limn_keyring *ring, char out[LIMN_COOKIE_MAX],
                                     const limn_principal *who, limn_err *err);
bool limn_keyring_check_cookie(limn_keyring *ring, limn_principal *out, const char *cookie);

/* ---- token buckets ---- */
typedef struct limn_buckets limn_buckets;
/* `per_minute` units come back per minute, `burst` at most are saved; 0 per minute: no limit. */
limn_status limn_buckets_new(limn_buckets **out, double per_minute, double burst, limn_err *err);
void limn_buckets_set(limn_buckets *b, double per_minute, double burst);
void limn_buckets_free(limn_buckets **b);
/* Takes `cost` units from the bucket of `who`. false: not enough; *retry_seconds then. cost 0 asks
 * whether one unit is there. */
bool limn_buckets_take(limn_buckets *b, const char *who, double cost, double *retry_seconds);
/* What is left, in units; per_minute 0: there is no limit. */
typedef struct limn_rate {
    double per_minute, burst, left, full_seconds; /* ... and when it is all back */
} limn_rate;
void limn_buckets_look(limn_buckets *b, const char *who, limn_rate *out);

#endif
