/* SPDX-License-Identifier: MIT */
/* Shapes and owning tensors; see tensor.h. */
#include "tensor/tensor.h"

#include <stdio.h>
#include <string.h>

int64_t limn_shape_count(const limn_shape *s) {
    int64_t n = 1;
    for (int i = 0; i < s->ndim; i++)
        if (s->dim[i] < 0 || !limn_mul_i64(&n, n, s->dim[i])) return -1;
    return n;
}

bool limn_shape_equal(const limn_shape *a, const limn_shape *b) {
    if (a->ndim != b->ndim) return false;
    for (int i = 0; i < a->ndim; i++)
        if (a->dim[i] != b->dim[i]) return false;
    return true;
}

const char *limn_shape_format(const limn_shape *s, char *buf, size_t size) {
    size_t at = 0;
    for (int i = 0; i <= s->ndim; i++) {
        int n = i < s->ndim
                    ? snprintf(buf + at, size - at, "%s%lld", i ? ", " : "[", (long long)s->dim[i])
                    : snprintf(buf + at, size - at, "%s", s->ndim ? "]" : "[]");
        if (n < 0 || (size_t)n >= size - at) break;
        at += (size_t)n;
    }
    return buf;
}

bool limn_tensor_bytes(size_t *out, limn_dtype t, const limn_shape *s) {
    int64_t n = limn_shape_count(s);
    if (n < 0) return false;
    const limn_dtype_info *info = limn_dtype_get(t);
    if (info->block > 1 && (s->ndim == 0 || s->dim[s->ndim - 1] % info->block != 0)) return false;
    return limn_dtype_row_bytes(out, t, n);
}

const void *limn_tensor_part(const limn_tensor *t, int64_t i) {
    size_t bytes = 0;
    limn_shape one = {.ndim = t->shape.ndim - 1};
    if (t->parts) return t->parts[i];
    memcpy(one.dim, t->shape.dim + 1, (size_t)one.ndim * sizeof *one.dim);
    return limn_tensor_bytes(&bytes, t->dtype, &one) ? (const char *)t->data + (size_t)i * bytes
                                                     : NULL;
}

limn_status limn_tensor_new(limn_tensor *out, limn_dtype t, const limn_shape *s, limn_err *err) {
    char text[96];
    size_t bytes;
    *out = (limn_tensor){.dtype = t, .shape = *s};
    if (!limn_tensor_bytes(&bytes, t, s))
        return limn_fail(err, LIMN_E_SHAPE, "a %s tensor of shape %s cannot exist",
                         limn_dtype_get(t)->name, limn_shape_format(s, text, sizeof text));
    out->data = limn_mem_aligned(bytes ? bytes : 1);
    if (!out->data)
        return limn_fail(err, LIMN_E_NOMEM, "no memory for a tensor of %zu bytes", bytes);
    return LIMN_OK;
}

void limn_tensor_free(limn_tensor *t) {
    limn_mem_free(t->data);
    *t = (limn_tensor){0};
}
