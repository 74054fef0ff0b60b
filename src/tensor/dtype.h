/* SPDX-License-Identifier: MIT */
/*
 * Element types: one table row each, and conversion of rows to and from f32.
 *
 * A quantised type stores blocks of `block` consecutive elements in `bytes` bytes along the last
 * dimension; the byte layouts are those of ggml (github.com/ggml-org/ggml, ggml-common.h), which
 * are the de facto file format. These conversions are the specification; fast kernels are tested
 * against them. Pure functions, any thread.
 */
#ifndef LIMN_TENSOR_DTYPE_H
#define LIMN_TENSOR_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* X(id, name, elements per block, bytes per block, is quantised) */
#define LIMN_DTYPE_LIST(X)                                                                         \
    X(F32, "f32", 1, 4, 0)                                                                         \
    X(F16, "f16", 1, 2, 0)                                                                         \
    X(BF16, "bf16", 1, 2, 0)                                                                       \
    X(F64, "f64", 1, 8, 0)                                                                         \
    X(F8_E4M3, "f8_e4m3", 1, 1, 0)                                                                 \
    X(F8_E5M2, "f8_e5m2", 1, 1, 0)                                                                 \
    X(I8, "i8", 1, 1, 0)                                                                           \
    X(U8, "u8", 1, 1, 0)                                                                           \
    X(I16, "i16", 1, 2, 0)                                                                         \
    X(I32, "i32", 1, 4, 0)                                                                         \
    X(I64, "i64", 1, 8, 0)                                                                         \
    X(BOOL, "bool", 1, 1, 0)                                                                       \
    X(Q4_0, "q4_0", 32, 18, 1)                                                                     \
    X(Q4_1, "q4_1", 32, 20, 1)                                                                     \
    X(Q5_0, "q5_0", 32, 22, 1)                                                                     \
    X(Q5_1, "q5_1", 32, 24, 1)                                                                     \
    X(Q8_0, "q8_0", 32, 34, 1)                                                                     \
    X(Q2_K, "q2_k", 256, 84, 1)                                                                    \
    X(Q3_K, "q3_k", 256, 110, 1)                                                                   \
    X(Q4_K, "q4_k", 256, 144, 1)                                                                   \
    X(Q5_K, "q5_k", 256, 176, 1)                                                                   \
    X(Q6_K, "q6_k", 256, 210, 1)                                                                   \
    X(IQ4_NL, "iq4_nl", 32, 18, 1)                                                                 \
    X(IQ4_XS, "iq4_xs", 256, 136, 1)

typedef enum limn_dtype {
#define X(id, name, block, bytes, quant) LIMN_##id,
    LIMN_DTYPE_LIST(X)
#undef X
        LIMN_DTYPE_COUNT
} limn_dtype;

typedef struct limn_dtype_info {
    const char *name;
    int block; /* elements per block */
    int bytes; /* bytes per block */
    bool quantised;
} limn_dtype_info;

const limn_dtype_info *limn_dtype_get(limn_dtype t);
/* By name, case-insensitive; false when unknown. */
bool limn_dtype_find(limn_dtype *out, const char *name);
/* Bytes of `n` elements of a row; false when n is negative, not a whole number of blocks, or too
 * big. */
bool limn_dtype_row_bytes(size_t *out, limn_dtype t, int64_t n);

/* dst[i] = (float)src[i] for n elements; n a multiple of the block. Every dtype is supported;
 * f8_e4m3 is the "fn" variant (no infinities, 0x7f/0xff are NaN), as files use it. */
void limn_dtype_to_f32(float *dst, const void *src, limn_dtype t, int64_t n);
/* Round to nearest even; saturating for integers and f8. false when the type cannot be written
 * (block types other than q8_0 and q4_0 are written by the quantiser, not here). */
bool limn_dtype_from_f32(void *dst, const float *src, limn_dtype t, int64_t n);

static inline float limn_bf16_to_f32(uint16_t h) {
    uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}

/* Round to nearest even; NaN stays NaN. */
static inline uint16_t limn_f32_to_bf16(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    if ((u & 0x7fffffff) > 0x7f800000) return (uint16_t)((u >> 16) | 0x40);
    return (uint16_t)((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}

float limn_f16_to_f32(uint16_t h);
uint16_t limn_f32_to_f16(float f);

#endif
