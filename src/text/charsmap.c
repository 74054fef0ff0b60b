/* SPDX-License-Identifier: MIT */
/* Precompiled character map; see charsmap.h. */
#include "text/charsmap.h"

#include <stdint.h>
#include <string.h>

#include "text/unicode.h"

struct limn_charsmap {
    uint32_t *unit;
    size_t n_units;
    char *text; /* replacements; one NUL more than the file has, so that the last one ends */
    size_t n_text;
};

static uint32_t read_u32(const unsigned char *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

limn_status limn_charsmap_new(limn_charsmap **out, const void *data, size_t n, limn_err *err) {
    limn_status st = LIMN_OK;
    limn_charsmap *m = NULL;
    const unsigned char *p = data;
    LIMN_CHECK(err, n >= 8, LIMN_E_FORMAT, "precompiled charsmap is too short: %zu bytes", n);
    size_t size = read_u32(p);
    LIMN_CHECK(err, size >= 4 && size % 4 == 0 && size <= n - 4, LIMN_E_FORMAT,
               "precompiled charsmap: trie of %zu bytes in a map of %zu", size, n);
    m = limn_mem_calloc(1, sizeof *m);
    LIMN_CHECK(err, m, LIMN_E_NOMEM, "no memory for a charsmap");
    m->n_units = size / 4;
    m->n_text = n - 4 - size;
    m->unit = limn_mem_alloc(size);
    m->text = limn_mem_strndup((const char *)p + 4 + size, m->n_text);
    LIMN_CHECK(err, m->unit && m->text, LIMN_E_NOMEM, "no memory for a charsmap");
    for (size_t i = 0; i < m->n_units; i++) m->unit[i] = read_u32(p + 4 + 4 * i);
    *out = m;
    m = NULL;
out:
    limn_charsmap_free(&m);
    return st;
}

void limn_charsmap_free(limn_charsmap **map) {
    if (!*map) return;
    limn_mem_free((*map)->unit);
    limn_mem_free((*map)->text);
    limn_mem_free(*map);
    *map = NULL;
}

/* Darts-clone units: bit 8 has-leaf, bits 0..7 label, bit 31 marks a value, offset in bits 10..30
 * shifted by 8 more when bit 9 is set. */
static size_t unit_offset(uint32_t u) {
    return (size_t)(u >> 10) << ((u & (1u << 9)) >> 6);
}

/* Longest key that begins s; its value in *value. 0: none. */
static size_t longest_match(const limn_charsmap *m, const char *s, size_t n, size_t *value) {
    size_t node = unit_offset(m->unit[0]), best = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        node ^= c;
        if (node >= m->n_units) break;
        uint32_t u = m->unit[node];
        if ((u & (1u << 31 | 0xFF)) != c) break;
        node ^= unit_offset(u);
        if (!(u >> 8 & 1)) continue;
        if (node >= m->n_units) break;
        size_t v = m->unit[node] & 0x7FFFFFFF;
        if (v > m->n_text) break;
        *value = v;
        best = i + 1;
    }
    return best;
}

void limn_charsmap_apply(const limn_charsmap *m, limn_buf *out, const char *s, size_t n) {
    size_t i = 0;
    while (i < n) {
        size_t value = 0, used = longest_match(m, s + i, n - i, &value);
        if (used) {
            limn_buf_adds(out, m->text + value);
            i += used;
            continue;
        }
        size_t at = i;
        limn_utf8_next(s, n, &i);
        limn_buf_add(out, s + at, i - at);
    }
}
