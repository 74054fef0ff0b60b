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

struct limn_gguf_writer {
    FILE *file;
    char *path, *temp;
    size_t *bytes; /* [n] of each tensor */
    size_t n, at;  /* at: the tensor being written */
    size_t done;   /* bytes of it so far */
};

static limn_status write_failed(const limn_gguf_writer *w, limn_err *err) {
    return limn_fail(err, LIMN_E_IO, "%s: cannot be written: %s", w->path, strerror(errno));
}

static limn_status writer_init(limn_gguf_writer *w, const char *path, const limn_buf *head,
                               const limn_named_tensor *list, size_t n, limn_err *err) {
    limn_buf temp;
    limn_buf_init(&temp, 1 << 16);
    limn_buf_addf(&temp, "%s.part-%ld", path, (long)getpid());
    if (temp.failed) {
        limn_buf_deinit(&temp);
        return limn_fail(err, LIMN_E_VALUE, "%.200s: the path is too long", path);
    }
    w->temp = limn_buf_take(&temp);
    w->path = limn_mem_strdup(path);
    w->bytes = limn_mem_calloc(n ? n : 1, sizeof *w->bytes);
    if (!w->temp || !w->path || !w->bytes)
        return limn_fail(err, LIMN_E_NOMEM, "no memory to write %s", path);
    for (size_t i = 0; i < n; i++)
        limn_tensor_bytes(&w->bytes[i], list[i].tensor.dtype, &list[i].tensor.shape);
    w->n = n;
    w->file = fopen(w->temp, "wbxe");
    if (!w->file) return write_failed(w, err);
    if (fwrite(head->data, 1, head->len, w->file) != head->len) return write_failed(w, err);
    return LIMN_OK;
}

limn_status limn_gguf_writer_new(limn_gguf_writer **out, const char *path,
                                 const limn_named_tensor *list, size_t n, const limn_meta *meta,
                                 size_t n_meta, limn_err *err) {
    limn_buf head;
    limn_buf_init(&head, HEADER_LIMIT);
    *out = limn_mem_calloc(1, sizeof **out);
    limn_status st = *out ? header_format(&head, path, list, n, meta, n_meta, err)
                          : limn_fail(err, LIMN_E_NOMEM, "no memory to write %s", path);
    if (st == LIMN_OK) st = writer_init(*out, path, &head, list, n, err);
    limn_buf_deinit(&head);
    if (st != LIMN_OK) limn_gguf_writer_free(out);
    return st;
}

static limn_status tensor_end(limn_gguf_writer *w, limn_err *err) {
    static const uint8_t zeros[ALIGN];
    size_t gap = (ALIGN - w->bytes[w->at] % ALIGN) % ALIGN;
    if (fwrite(zeros, 1, gap, w->file) != gap) return write_failed(w, err);
    w->at++;
    w->done = 0;
    return LIMN_OK;
}

limn_status limn_gguf_writer_add(limn_gguf_writer *w, const void *bytes, size_t n, limn_err *err) {
    const uint8_t *p = bytes;
    limn_status st = LIMN_OK;
    while (st == LIMN_OK && n > 0) {
        while (st == LIMN_OK && w->at < w->n && w->bytes[w->at] == 0) st = tensor_end(w, err);
        if (st != LIMN_OK) break;
        if (w->at == w->n)
            return limn_fail(err, LIMN_E_INTERNAL, "%s: more bytes than tensors", w->path);
        size_t left = w->bytes[w->at] - w->done, step = n < left ? n : left;
        if (fwrite(p, 1, step, w->file) != step) return write_failed(w, err);
        p += step;
        n -= step;
        w->done += step;
        if (w->done == w->bytes[w->at]) st = tensor_end(w, err);
    }
    return st;
}

limn_status limn_gguf_writer_finish(limn_gguf_writer *w, limn_err *err) {
    limn_status st = LIMN_OK;
    while (st == LIMN_OK && w->at < w->n && w->bytes[w->at] == 0) st = tensor_end(w, err);
    if (st != LIMN_OK) return st;
    if (w->at != w->n)
        return limn_fail(err, LIMN_E_INTERNAL, "%s: bytes of tensors are missing", w->path);
    int bad = fclose(w->file);
    w->file = NULL;
    if (!bad && rename(w->temp, w->path) == 0) return LIMN_OK;
    st = write_failed(w, err);
    unlink(w->temp);
    return st;
}

void limn_gguf_writer_free(limn_gguf_writer **w) {
    if (!*w) return;
    bool opened = (*w)->file != NULL;
    if (opened) fclose((*w)->file);
    if ((*w)->temp && opened) unlink((*w)->temp);
    limn_mem_free((*w)->temp);
    limn_mem_free((*w)->path);
    limn_mem_free((*w)->bytes);
    limn_mem_free(*w);
    *w = NULL;
}

limn_status limn_gguf_save(const char *path, const limn_named_tensor *list, size_t n,
                           const limn_meta *meta, size_t n_meta, limn_err *err) {
    limn_gguf_writer *w;
    limn_status st = limn_gguf_writer_new(&w, path, list, n, meta, n_meta, err);
    for (size_t i = 0; i < n && st == LIMN_OK; i++)
        st = limn_gguf_writer_add(w, list[i].tensor.data, w->bytes[i], err);
    if (st == LIMN_OK) st = limn_gguf_writer_finish(w, err);
    limn_gguf_writer_free(&w);
    return st;
}
