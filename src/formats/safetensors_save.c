/* SPDX-License-Identifier: MIT */
/* Writing safetensors; see safetensors.h. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "formats/safetensors.h"

enum { ALIGN = 64 };
static const size_t HEADER_LIMIT = (size_t)100 << 20;

/* NULL for a type that the format does not have. */
static const char *dtype_word(limn_dtype t) {
    switch (t) {
    case LIMN_F32: return "F32";
    case LIMN_F16: return "F16";
    case LIMN_BF16: return "BF16";
    case LIMN_F64: return "F64";
    case LIMN_F8_E4M3: return "F8_E4M3";
    case LIMN_F8_E5M2: return "F8_E5M2";
    case LIMN_I8: return "I8";
    case LIMN_U8: return "U8";
    case LIMN_I16: return "I16";
    case LIMN_I32: return "I32";
    case LIMN_I64: return "I64";
    case LIMN_BOOL: return "BOOL";
    default: return NULL;
    }
}

static void quote(limn_buf *b, const char *s) {
    limn_buf_addc(b, '"');
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\')
            limn_buf_addf(b, "\\%c", c);
        else if (c < 0x20)
            limn_buf_addf(b, "\\u%04x", c);
        else
            limn_buf_addc(b, (char)c);
    }
    limn_buf_addc(b, '"');
}

static limn_status header_format(limn_buf *b, const char *path, const limn_named_tensor *list,
                                 size_t n, const char *const (*meta)[2], size_t n_meta,
                                 limn_err *err) {
    size_t at = 0;
    limn_buf_addc(b, '{');
    if (n_meta) limn_buf_adds(b, "\"__metadata__\":{");
    for (size_t i = 0; i < n_meta; i++) {
        if (i) limn_buf_addc(b, ',');
        quote(b, meta[i][0]);
        limn_buf_addc(b, ':');
        quote(b, meta[i][1]);
    }
    if (n_meta) limn_buf_addc(b, '}');
    for (size_t i = 0; i < n; i++) {
        const limn_tensor *t = &list[i].tensor;
        const char *word = dtype_word(t->dtype);
        size_t bytes, end;
        if (!word || !list[i].name[0] || !limn_tensor_bytes(&bytes, t->dtype, &t->shape) ||
            !limn_add_size(&end, at, bytes))
            return limn_fail(err, LIMN_E_VALUE,
                             "%s: tensor '%s' cannot be written as safetensors (%s)", path,
                             list[i].name, limn_dtype_get(t->dtype)->name);
        if (i || n_meta) limn_buf_addc(b, ',');
        quote(b, list[i].name);
        limn_buf_addf(b, ":{\"dtype\":\"%s\",\"shape\":[", word);
        for (int d = 0; d < t->shape.ndim; d++)
            limn_buf_addf(b, "%s%lld", d ? "," : "", (long long)t->shape.dim[d]);
        limn_buf_addf(b, "],\"data_offsets\":[%zu,%zu]}", at, end);
        at = end;
    }
    limn_buf_addc(b, '}');
    while (!b->failed && (b->len + 8) % ALIGN != 0) limn_buf_addc(b, ' ');
    return b->failed ? limn_fail(err, LIMN_E_LIMIT, "%s: the header grows too big", path) : LIMN_OK;
}

limn_status limn_safetensors_save(const char *path, const limn_named_tensor *list, size_t n,
                                  const char *const (*meta)[2], size_t n_meta, limn_err *err) {
    limn_status st;
    FILE *f = NULL;
    limn_buf head, temp;
    uint8_t len[8];
    limn_buf_init(&head, HEADER_LIMIT);
    limn_buf_init(&temp, 1 << 16);
    limn_buf_addf(&temp, "%s.part-%ld", path, (long)getpid());
    LIMN_TRY(header_format(&head, path, list, n, meta, n_meta, err));
    LIMN_CHECK(err, !temp.failed, LIMN_E_VALUE, "%.200s: the path is too long", path);
    f = fopen(temp.data, "wbxe");
    LIMN_CHECK(err, f, LIMN_E_IO, "%s: cannot be written: %s", path, strerror(errno));
    for (int i = 0; i < 8; i++) len[i] = (uint8_t)(head.len >> (8 * i));
    fwrite(len, 1, 8, f);
    fwrite(head.data, 1, head.len, f);
    for (size_t i = 0; i < n && !ferror(f); i++) {
        size_t bytes;
        limn_tensor_bytes(&bytes, list[i].tensor.dtype, &list[i].tensor.shape);
        if (bytes) fwrite(list[i].tensor.data, 1, bytes, f);
    }
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
