/* SPDX-License-Identifier: MIT */
/* Keys in memory, cookies, token buckets; see auth.h. */
#include "server/auth.h"

#include <pthread.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "server/auth_file.h"
#include "server/serve_paths.h"

enum { COOKIE_DAYS = 30, SECRET_BYTES = crypto_auth_KEYBYTES };

struct limn_keyring {
    pthread_mutex_t lock;
    char path[LIMN_SERVE_PATH_MAX];
    limn_key_row *rows;
    int count;
    double looked; /* when the file was looked at last */
    struct timespec changed;
    int64_t size;
    unsigned char secret[SECRET_BYTES];
};

/* With the lock. A file that cannot be read any more keeps the keys that were read last. */
static void look(limn_keyring *ring, bool force) {
    double now = limn_clock_now();
    if (!force && now - ring->looked < 1) return;
    ring->looked = now;
    struct stat info;
    if (stat(ring->path, &info) != 0) memset(&info, 0, sizeof info);
    if (!force && info.st_mtim.tv_sec == ring->changed.tv_sec &&
        info.st_mtim.tv_nsec == ring->changed.tv_nsec && info.st_size == ring->size)
        return;
    limn_key_row *rows;
    int count;
    limn_err err = {0};
    if (limn_key_file_load(&rows, &count, ring->path, &err) != LIMN_OK) {
        limn_log(LIMN_LOG_ERROR, "keys", "%s; the keys read before stay", err.text);
        return;
    }
    limn_mem_free(ring->rows);
    ring->rows = rows;
    ring->count = count;
    ring->changed = info.st_mtim;
    ring->size = info.st_size;
}

void limn_keyring_reload(limn_keyring *ring) {
    pthread_mutex_lock(&ring->lock);
    look(ring, true);
    pthread_mutex_unlock(&ring->lock);
}

static limn_status load_secret(limn_keyring *ring, limn_err *err) {
    char path[LIMN_SERVE_PATH_MAX + 8];
    void *data;
    size_t size;
    snprintf(path, sizeof path, "%s.secret", ring->path);
    limn_err why = {0};
    limn_status st = limn_private_read(&data, &size, path, SECRET_BYTES, &why);
    if (st == LIMN_OK && size == SECRET_BYTES) {
        memcpy(ring->secret, data, SECRET_BYTES);
        limn_mem_free(data);
        return LIMN_OK;
    }
    if (st == LIMN_OK) limn_mem_free(data);
    randombytes_buf(ring->secret, SECRET_BYTES);
    return limn_private_write(path, ring->secret, SECRET_BYTES, err);
}

limn_status limn_keyring_open(limn_keyring **out, const char *path, limn_err *err) {
    *out = NULL;
    if (sodium_init() < 0) return limn_fail(err, LIMN_E_INTERNAL, "libsodium does not start");
    limn_keyring *ring = limn_mem_calloc(1, sizeof *ring);
    if (!ring) return limn_fail(err, LIMN_E_NOMEM, "no memory for keys");
    pthread_mutex_init(&ring->lock, NULL);
    snprintf(ring->path, sizeof ring->path, "%s", path);
    limn_key_row *rows;
    int count;
    limn_status st = limn_key_file_load(&rows, &count, path, err); /* damaged: do not start open */
    if (st == LIMN_OK) {
        limn_mem_free(rows);
        look(ring, true);
        st = load_secret(ring, err);
    }
    if (st == LIMN_OK)
        *out = ring;
    else
        limn_keyring_close(&ring);
    return st;
}

void limn_keyring_close(limn_keyring **ring) {
    limn_keyring *r = *ring;
    if (!r) return;
    limn_mem_free(r->rows);
    sodium_memzero(r->secret, sizeof r->secret);
    pthread_mutex_destroy(&r->lock);
    limn_mem_free(r);
    *ring = NULL;
}

static bool is_valid(const limn_key_row *row) {
    return row->expires_ms == 0 || row->expires_ms > limn_clock_unix_ms();
}

bool limn_keyring_has_keys(limn_keyring *ring) {
    pthread_mutex_lock(&ring->lock);
    look(ring, false);
    bool any = ring->count > 0; /* an expired key still means that a key is needed */
    pthread_mutex_unlock(&ring->lock);
    return any;
}

static void fill(limn_principal *out, const limn_key_row *row) {
    out->known = true;
    out->scope = row->scope;
    snprintf(out->owner, sizeof out->owner, "%s", row->owner);
    snprintf(out->key, sizeof out->key, "%s", row->id);
}

bool limn_keyring_check(limn_keyring *ring, limn_principal *out, const char *key) {
    unsigned char hash[32];
    bool found = false;
    crypto_hash_sha256(hash, (const unsigned char *)key, strlen(key));
    pthread_mutex_lock(&ring->lock);
    look(ring, false);
    for (int i = 0; i < ring->count; i++) { /* all of them, whichever fits */
        if (sodium_memcmp(hash, ring->rows[i].hash, sizeof hash) != 0) continue;
        if (!is_valid(&ring->rows[i])) continue;
        fill(out, &ring->rows[i]);
        found = true;
    }
    pthread_mutex_unlock(&ring->lock);
    return found;
}

static void sign(const limn_keyring *ring, char out[2 * crypto_auth_BYTES + 1], const char *text) {
    unsigned char mac[crypto_auth_BYTES];
    crypto_auth(mac, (const unsigned char *)text, strlen(text), ring->secret);
    sodium_bin2hex(out, 2 * crypto_auth_BYTES + 1, mac, sizeof mac);
}

limn_status limn_keyring_make_cookie(limn_keyring *ring, char out[LIMN_COOKIE_MAX],
                                     const limn_principal *who, limn_err *err) {
    char text[64], mac[2 * crypto_auth_BYTES + 1];
    int64_t until = limn_clock_unix_ms() + (int64_t)COOKIE_DAYS * 86400000;
    snprintf(text, sizeof text, "%s.%lld", who->key, (long long)until);
    sign(ring, mac, text);
    int n = snprintf(out, LIMN_COOKIE_MAX, "%s.%s", text, mac);
    if (n < 0 || n >= LIMN_COOKIE_MAX)
        return limn_fail(err, LIMN_E_INTERNAL, "the cookie does not fit");
    return LIMN_OK;
}

bool limn_keyring_check_cookie(limn_keyring *ring, limn_principal *out, const char *cookie) {
    char text[64], mac[2 * crypto_auth_BYTES + 1];
    const char *dot = strrchr(cookie, '.'), *first = strchr(cookie, '.');
    if (!dot || first == dot || (size_t)(dot - cookie) >= sizeof text) return false;
    snprintf(text, sizeof text, "%.*s", (int)(dot - cookie), cookie);
    sign(ring, mac, text);
    if (strlen(dot + 1) != sizeof mac - 1 || sodium_memcmp(mac, dot + 1, sizeof mac - 1) != 0)
        return false;
    if (strtoll(first + 1, NULL, 10) < limn_clock_unix_ms()) return false;
    bool found = false;
    size_t n = (size_t)(first - cookie);
    pthread_mutex_lock(&ring->lock);
    look(ring, false);
    for (int i = 0; i < ring->count && !found; i++) {
        const limn_key_row *row = &ring->rows[i];
        if (strlen(row->id) != n || memcmp(row->id, cookie, n) != 0 || !is_valid(row)) continue;
        fill(out, row);
        found = true;
    }
    pthread_mutex_unlock(&ring->lock);
    return found;
}

/* ---- token buckets: a fixed table; the one that is fullest (longest unused) gives way ---- */

enum { BUCKETS = 4096, PROBE = 8 };

typedef struct bucket {
    uint64_t who; /* hash; 0: free */
    double units, at;
} bucket;

struct limn_buckets {
    pthread_mutex_t lock;
    double per_second, burst;
    unsigned char seed[crypto_shorthash_KEYBYTES];
    bucket rows[BUCKETS];
};

limn_status limn_buckets_new(limn_buckets **out, double per_minute, double burst, limn_err *err) {
    limn_buckets *b = *out = limn_mem_calloc(1, sizeof *b);
    if (!b) return limn_fail(err, LIMN_E_NOMEM, "no memory for rate limits");
    pthread_mutex_init(&b->lock, NULL);
    b->per_second = per_minute / 60;
    b->burst = burst;
    randombytes_buf(b->seed, sizeof b->seed);
    return LIMN_OK;
}

void limn_buckets_set(limn_buckets *b, double per_minute, double burst) {
    pthread_mutex_lock(&b->lock);
    b->per_second = per_minute / 60;
    b->burst = burst;
    pthread_mutex_unlock(&b->lock);
}

void limn_buckets_free(limn_buckets **b) {
    if (!*b) return;
    pthread_mutex_destroy(&(*b)->lock);
    limn_mem_free(*b);
    *b = NULL;
}

static bucket *find_bucket(limn_buckets *b, const char *who, double now) {
    uint64_t hash = 0;
    crypto_shorthash((unsigned char *)&hash, (const unsigned char *)who, strlen(who), b->seed);
    if (hash == 0) hash = 1;
    bucket *best = NULL;
    for (int i = 0; i < PROBE; i++) {
        bucket *row = &b->rows[(hash + (uint64_t)i) % BUCKETS];
        if (row->who == hash) return row;
        if (!best || (best->who && (row->who == 0 || row->at < best->at))) best = row;
    }
    *best = (bucket){hash, b->burst, now};
    return best;
}

/* With the lock: the row as it is now. */
static bucket *fill_bucket(limn_buckets *b, const char *who) {
    double now = limn_clock_now();
    bucket *row = find_bucket(b, who, now);
    row->units += (now - row->at) * b->per_second;
    if (row->units > b->burst) row->units = b->burst;
    row->at = now;
    return row;
}

void limn_buckets_look(limn_buckets *b, const char *who, limn_rate *out) {
    *out = (limn_rate){0};
    pthread_mutex_lock(&b->lock);
    if (b->per_second > 0) {
        double left = fill_bucket(b, who)->units;
        *out = (limn_rate){b->per_second * 60, b->burst, left, (b->burst - left) / b->per_second};
    }
    pthread_mutex_unlock(&b->lock);
}

bool limn_buckets_take(limn_buckets *b, const char *who, double cost, double *retry_seconds) {
    *retry_seconds = 0;
    pthread_mutex_lock(&b->lock);
    if (b->per_second <= 0) {
        pthread_mutex_unlock(&b->lock);
        return true;
    }
    double need = cost > 0 ? cost : 1;
    bucket *row = fill_bucket(b, who);
    if (need > b->burst) need = b->burst;
    bool ok = row->units >= need;
    if (ok && cost > 0)
        row->units -= need;
    else if (!ok)
        *retry_seconds = (need - row->units) / b->per_second;
    pthread_mutex_unlock(&b->lock);
    return ok;
}
