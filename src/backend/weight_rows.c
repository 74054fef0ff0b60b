/* SPDX-License-Identifier: MIT */
/* Weight rows as f32; see weight_rows.h. */
#include "backend/weight_rows.h"

int64_t limn_weight_rows(const limn_weight *w) {
    return w->t.shape.ndim > 0 ? w->t.shape.dim[0] : 1;
}

int64_t limn_weight_row_size(const limn_weight *w) {
    int64_t rows = limn_weight_rows(w);
    return rows > 0 ? limn_shape_count(&w->t.shape) / rows : 0;
}

limn_status limn_weight_read(float *out, const limn_weight *w, int64_t row0, int64_t count,
                             limn_err *err) {
    int64_t size = limn_weight_row_size(w);
    size_t offset, bytes;
    /* A row of a block type is whole blocks, except for flattened convolution kernels: then the
     * rows asked for must begin on a block. */
    if (!limn_dtype_row_bytes(&offset, w->t.dtype, row0 * size) ||
        !limn_dtype_row_bytes(&bytes, w->t.dtype, count * size))
        return limn_fail(err, LIMN_E_UNSUPPORTED, "%s: rows of %lld elements cut through %s blocks",
                         w->name, (long long)size, limn_dtype_get(w->t.dtype)->name);
    for (int64_t i = 0; w->t.parts && i < count; i++)
        limn_dtype_to_f32(out + i * size, w->t.parts[row0 + i], w->t.dtype, size);
    if (!w->t.parts)
        limn_dtype_to_f32(out, (const char *)w->t.data + offset, w->t.dtype, count * size);
    return w->delta ? w->delta(w->delta_user, out, row0, count, size, err) : LIMN_OK;
}
