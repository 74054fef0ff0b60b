/* SPDX-License-Identifier: MIT */
/* Keys and values; see kv_cache.h. */
#include "models/kv_cache.h"

#include <assert.h>
#include <stdio.h>
#include <sys/mman.h>

struct limn_kv_cache {
    char *data; /* [layer][k, v][sequence][row] */
    size_t row_bytes;
    limn_dtype type;
    int layers;
    int64_t sequences, rows;
};

static size_t row_bytes(const limn_decoder_config *cfg, limn_dtype type) {
    size_t bytes;
    bool whole = cfg->head_dim % limn_dtype_get(type)->block == 0;
    if (!whole || !limn_dtype_row_bytes(&bytes, type, (int64_t)cfg->kv_heads * cfg->head_dim))
        return SIZE_MAX;
    return bytes;
}

size_t limn_kv_cache_bytes(const limn_decoder_config *cfg, limn_dtype type, int64_t sequences,
                           int64_t rows) {
    size_t n = row_bytes(cfg, type);
    bool ok = n != SIZE_MAX && sequences > 0 && rows > 0 && limn_mul_size(&n, n, (size_t)rows) &&
              limn_mul_size(&n, n, (size_t)sequences) &&
              limn_mul_size(&n, n, 2 * (size_t)cfg->layers);
    return ok ? n : SIZE_MAX;
}

enum { FIRST_BYTES = 2 << 20, ADVISED_MAX = 1024 };

/* The first rows of each layer come in small pages: a short text touches all layers, and clearing a
 * huge page for each would take longer than reading it. */
static void spare_first_rows(const limn_kv_cache *c) {
    size_t parts = 2 * (size_t)c->layers * (size_t)c->sequences, page = 4096;
    size_t bytes = (size_t)c->rows * c->row_bytes;
    size_t first = bytes < FIRST_BYTES ? bytes : FIRST_BYTES;
    for (size_t i = 0; parts <= ADVISED_MAX && i < parts; i++) {
        uintptr_t from = (uintptr_t)c->data + i * bytes, to = from + first;
        from = (from + page - 1) / page * page;
        to = to / page * page;
        if (to > from) madvise((void *)from, to - from, MADV_NOHUGEPAGE); /* a hint */
    }
}

limn_status limn_kv_cache_new(limn_kv_cache **out, const limn_decoder_config *cfg, limn_dtype type,
                              int64_t sequences, int64_t rows, limn_err *err) {
    limn_status st = LIMN_OK;
    limn_kv_cache *c = NULL;
    size_t bytes = limn_kv_cache_bytes(cfg, type, sequences, rows);
    bool known = type == LIMN_F32 || type == LIMN_F16 || type == LIMN_BF16 || type == LIMN_Q8_0;
    *out = NULL;
    LIMN_CHECK(err, known && row_bytes(cfg, type) != SIZE_MAX, LIMN_E_UNSUPPORTED,
               "a KV cache of %s for heads of %d", limn_dtype_get(type)->name, cfg->head_dim);
    LIMN_CHECK(err, bytes != SIZE_MAX, LIMN_E_LIMIT, "a KV cache of %lld x %lld positions",
               (long long)sequences, (long long)rows);
    c = limn_mem_calloc(1, sizeof *c);
    LIMN_CHECK(err, c, LIMN_E_NOMEM, "no memory for a KV cache");
    c->data = limn_mem_aligned(bytes);
    LIMN_CHECK(err, c->data, LIMN_E_NOMEM, "no memory for a KV cache of %.0f MB",
               (double)bytes / 1e6);
    c->row_bytes = row_bytes(cfg, type);
    c->type = type;
    c->layers = cfg->layers;
    c->sequences = sequences;
    c->rows = rows;
    spare_first_rows(c);
    *out = c;
    c = NULL;
out:
    limn_kv_cache_free(&c);
    return st;
}

void limn_kv_cache_free(limn_kv_cache **cache) {
    if (!cache || !*cache) return;
    limn_mem_free((*cache)->data);
    limn_mem_free(*cache);
    *cache = NULL;
}

int64_t limn_kv_cache_rows(const limn_kv_cache *c) {
    return c->rows;
}
limn_dtype limn_kv_cache_type(const limn_kv_cache *c) {
    return c->type;
}

static char *part(const limn_kv_cache *c, int layer, int kind, int64_t sequence) {
    size_t at = ((size_t)layer * 2 + (size_t)kind) * (size_t)c->sequences + (size_t)sequence;
    return c->data + at * (size_t)c->rows * c->row_bytes;
}

limn_status limn_kv_cache_bind(limn_kv_cache *c, limn_program *p, int64_t first, limn_err *err) {
    for (int layer = 0; layer < c->layers; layer++)
        for (int kind = 0; kind < 2; kind++) {
            char name[32];
            snprintf(name, sizeof name, "%c.%d", kind ? 'v' : 'k', layer);
            const limn_node *s = limn_plan_find_state(p->plan, name);
            if (s && (s->dtype != c->type || s->shape.dim[1] != c->rows || first < 0 ||
                      first + s->shape.dim[0] > c->sequences))
                return limn_fail(err, LIMN_E_INTERNAL, "the program was made for another cache");
            limn_status st = limn_program_bind(p, name, part(c, layer, kind, first), err);
            if (st != LIMN_OK) return st;
        }
    return LIMN_OK;
}

void limn_kv_cache_copy(limn_kv_cache *c, int64_t to, int64_t from, int64_t rows) {
    assert(rows >= 0 && rows <= c->rows && to < c->sequences && from < c->sequences);
    if (to == from) return;
    for (int layer = 0; layer < c->layers; layer++)
        for (int kind = 0; kind < 2; kind++)
            memcpy(part(c, layer, kind, to), part(c, layer, kind, from),
                   (size_t)rows * c->row_bytes);
}
