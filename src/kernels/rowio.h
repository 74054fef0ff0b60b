/* SPDX-License-Identifier: MIT */
/*
 * Typed access to pieces of activation rows, private to this folder: kernels compute in f32, rows
 * may be stored as f32, f16 or bf16. A piece holds at most LIMN_ROW_PIECE elements, so that the
 * converted copy lives on the stack and in the first-level cache.
 */
#ifndef LIMN_KERNELS_ROWIO_H
#define LIMN_KERNELS_ROWIO_H

#include <assert.h>
#include <stdint.h>

#include "kernels/exec.h"
#include "tensor/dtype.h"

enum {
    LIMN_ROW_PIECE = 1024,       /* elements converted at a time */
    LIMN_TASK_ELEMENTS = 1 << 15 /* elements one pool task should handle */
};

static inline bool limn_rowio_is_type(limn_dtype t) {
    return t == LIMN_F32 || t == LIMN_F16 || t == LIMN_BF16;
}

static inline const void *limn_rowio_at(const void *base, limn_dtype t, int64_t offset) {
    return (const char *)base + offset * (t == LIMN_F32 ? 4 : 2);
}

/* One element, for the plain bodies. */
static inline float limn_rowio_get(const void *x, limn_dtype t, int64_t i) {
    float f;
    limn_dtype_to_f32(&f, limn_rowio_at(x, t, i), t, 1);
    return f;
}

static inline void limn_rowio_put(void *y, limn_dtype t, int64_t i, float v) {
    limn_dtype_from_f32((char *)y + i * (t == LIMN_F32 ? 4 : 2), &v, t, 1);
}

/* n elements from `offset` as f32: the memory itself when it is f32, else a copy in buf. */
static inline const float *limn_rowio_load(const limn_kernels *k, float *buf, const void *base,
                                           limn_dtype t, int64_t offset, int64_t n) {
    const void *p = limn_rowio_at(base, t, offset);
    if (t == LIMN_F32) return p;
    assert(limn_rowio_is_type(t) && n <= LIMN_ROW_PIECE);
    if (t == LIMN_BF16)
        k->elementwise.bf16_to_f32(buf, p, n);
    else
        k->elementwise.f16_to_f32(buf, p, n);
    return buf;
}

/* Where to compute n elements that belong at `offset`: in place for f32, else in buf. */
static inline float *limn_rowio_dest(float *buf, void *base, limn_dtype t, int64_t offset) {
    return t == LIMN_F32 ? (float *)base + offset : buf;
}

/* Completes limn_rowio_dest. */
static inline void limn_rowio_store(const limn_kernels *k, void *base, limn_dtype t, int64_t offset,
                                    const float *buf, int64_t n) {
    if (t == LIMN_F32) return;
    assert(limn_rowio_is_type(t));
    uint16_t *p = (uint16_t *)base + offset;
    if (t == LIMN_BF16)
        k->elementwise.f32_to_bf16(p, buf, n);
    else
        k->elementwise.f32_to_f16(p, buf, n);
}

/* n elements of any dtype (whole blocks) to f32; elementwise.c. */
void limn_row_to_f32(const limn_kernels *k, float *y, const void *x, limn_dtype t, int64_t n);

#endif
