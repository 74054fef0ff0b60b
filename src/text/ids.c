/* SPDX-License-Identifier: MIT */
/* Growable list of token ids; see ids.h. */
#include "text/ids.h"

#include <string.h>

#include "base/mem.h"

void limn_ids_init(limn_ids *ids, size_t limit) {
    *ids = (limn_ids){.limit = limit};
}

void limn_ids_deinit(limn_ids *ids) {
    limn_mem_free(ids->data);
    *ids = (limn_ids){0};
}

void limn_ids_clear(limn_ids *ids) {
    ids->len = 0;
}

static bool ids_reserve(limn_ids *ids, size_t extra) {
    if (ids->failed) return false;
    size_t need;
    if (!limn_add_size(&need, ids->len, extra) || need > ids->limit) {
        ids->failed = true;
        return false;
    }
    if (need <= ids->cap) return true;
    size_t cap = ids->cap < 16 ? 16 : ids->cap;
    while (cap < need) cap = cap > SIZE_MAX / 2 ? need : cap * 2;
    size_t bytes;
    int32_t *p = limn_mul_size(&bytes, cap, sizeof *p) ? limn_mem_realloc(ids->data, bytes) : NULL;
    if (!p) {
        ids->failed = true;
        return false;
    }
    ids->data = p;
    ids->cap = cap;
    return true;
}

void limn_ids_add(limn_ids *ids, int32_t id) {
    if (ids_reserve(ids, 1)) ids->data[ids->len++] = id;
}

void limn_ids_add_all(limn_ids *ids, const int32_t *data, size_t n) {
    if (n == 0 || !ids_reserve(ids, n)) return;
    memcpy(ids->data + ids->len, data, n * sizeof *data);
    ids->len += n;
}
