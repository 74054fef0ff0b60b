/* SPDX-License-Identifier: MIT */
/* Writing GGUF version 3; see gguf.h. The header is made in memory, then the tensors follow. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "formats/gguf.h"

enum { ALIGN = 32 };
static const size_t HEADER_LIMIT = (size_t)512 << 20;

static void u32(limn_buf *b, uint32_t v) {
    limn_buf_add(b, &v, sizeof v);
}
static void u64(limn_buf *b, uint64_t v) {
    limn_buf_add(b, &v, sizeof v);
}
static void text(limn_buf *b, const char *s, size_t n) {
    u64(b, n);
    limn_buf_add(b, s, n);
}

/* Value type number of gguf.md; -1 when the element width has none. */
static int value_number(const limn_meta *m) {
    if (m->type == LIMN_META_STR) return 8;
    if (m->type == LIMN_META_BOOL) return 7;
    if (m->type == LIMN_META_FLOAT) return m->width == 4 ? 6 : m->width == 8 ? 12 : -1;
    switch (m->width) {
    case 1: return 0;
    case -1: return 1;
    case 2: return 2;
    case -2: return 3;
    case 4: return 4;
    case -4: return 5;
    case 8: return 10;
    case -8: return 11;
    default: return -1;
    }
}

static limn_status meta_format(limn_buf *b, const limn_meta *m, const char *path, limn_err *err) {
    int num = value_number(m);
    if (num < 0 || !m->key[0])
        return limn_fail(err, LIMN_E_VALUE, "%s: metadata '%s' cannot be written", path, m->key);
    text(b, m->key, strlen(m->key));
    u32(b, m->is_array ? 9 : (uint32_t)num);
    if (m->is_array) {
        u32(b, (uint32_t)num);
        u64(b, m->count);
    }
    if (m->type != LIMN_META_STR) {
        size_t width = (size_t)(m->width < 0 ? -m->width : m->width);
        limn_buf_add(b, m->data, m->count * width);
        return LIMN_OK;
    }
    for (size_t i = 0; i < m->count; i++) {
        limn_str_view v = limn_meta_str_at(m, i);
        text(b, v.p, v.n);
    }
    return LIMN_OK;
}

static void pad(limn_buf *b) {
    while (!b->failed && b->len % ALIGN != 0) limn_buf_addc(b, 0);
}

static limn_status header_format(limn_buf *b, const char *path, const limn_named_tensor *list,
                                 size_t n, const limn_meta *meta, size_t n_meta, limn_err *err) {
    uint64_t at = 0;
    limn_buf_adds(b, "GGUF");
    u32(b, 3);
    u64(b, n);
    u64(b, n_meta);
    for (size_t i = 0; i < n_meta; i++) {
        limn_status st = meta_format(b, &meta[i], path, err);
        if (st != LIMN_OK) return st;
    }
    for (size_t i = 0; i < n; i++) {
        const limn_tensor *t = &list[i].tensor;
        size_t bytes;
        int num = limn_gguf_type_number(t->dtype);
        if (num < 0 || t->shape.ndim > 4 || !list[i].name[0] ||
            !limn_tensor_bytes(&bytes, t->dtype, &t->shape))
            return limn_fail(err, LIMN_E_VALUE,
                             "%s: tensor '%s' cannot be written as GGUF (%s, %d dimensions)", path,
                             list[i].name, limn_dtype_get(t->dtype)->name, t->shape.ndim);
        text(b, list[i].name, strlen(list[i].name));
        u32(b, (uint32_t)t->shape.ndim);
        for (int d = t->shape.ndim - 1; d >= 0; d--) u64(b, (uint64_t)t->shape.dim[d]);
        u32(b, (uint32_t)num);
        u64(b, at);
        at += (bytes + ALIGN - 1) / ALIGN * ALIGN;
    }
    pad(b);
    return b->failed ? limn_fail(err, LIMN_E_LIMIT, "%s: the header grows too big", path) : LIMN_OK;
}

static void data_write(FILE *f, const limn_named_tensor *list, size_t n) {
    static const uint8_t zeros[ALIGN];
    for (size_t i = 0; i < n && !ferror(f); i++) {
        size_t bytes;
        limn_tensor_bytes(&bytes, list[i].tensor.dtype, &list[i].tensor.shape);
        if (bytes) fwrite(list[i].tensor.data, 1, bytes, f);
        fwrite(zeros, 1, (ALIGN - bytes % ALIGN) % ALIGN, f);
    }
}

limn_status limn_gguf_save(const char *path, const limn_named_tensor *list, size_t n,
                           const limn_meta *meta, size_t n_meta, limn_err *err) {
    limn_status st;
    FILE *f = NULL;
    limn_buf head, temp;
    limn_buf_init(&head, HEADER_LIMIT);
    limn_buf_init(&temp, 1 << 16);
    limn_buf_addf(&temp, "%s.part-%ld", path, (long)getpid());
    LIMN_TRY(header_format(&head, path, list, n, meta, n_meta, err));
    LIMN_CHECK(err, !temp.failed, LIMN_E_VALUE, "%.200s: the path is too long", path);
    f = fopen(temp.data, "wbxe");
    LIMN_CHECK(err, f, LIMN_E_IO, "%s: cannot be written: %s", path, strerror(errno));
    fwrite(head.data, 1, head.len, f);
    data_write(f, list, n);
    int bad = ferror(f), failed = fclose(f);
    f = NULL;
    if (bad || failed || rename(temp.data, path) != 0) {
        st = limn_fail(err, LIMN_E_IO, "%s: cannot be written: %s", path, strerror(errno));
        unlink(temp.data);
    }
out:
    if (f) fclose(f);
    limn_buf_deinit(&head);
    limn_buf_deinit(&temp);
    return st;
}
