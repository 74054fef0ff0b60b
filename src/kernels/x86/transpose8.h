/* SPDX-License-Identifier: MIT */
/* 8 x 8 blocks of 32-bit words, transposed in registers; for AVX2 and up. Bits are only moved. */
#ifndef LIMN_KERNELS_X86_TRANSPOSE8_H
#define LIMN_KERNELS_X86_TRANSPOSE8_H

#include <stdint.h>

#include "kernels/x86/intrin.h"

/* dst[c * dst_stride + r] = src[r * src_stride + c] for r, c in 0..7 */
static inline void transpose8(float *dst, int64_t dst_stride, const float *src,
                              int64_t src_stride) {
    __m256 r[8], t[8];
    for (int i = 0; i < 8; i++) r[i] = _mm256_loadu_ps(src + i * src_stride);
    for (int i = 0; i < 4; i++) {
        t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 2; i++) { /* columns 4i.. of rows 0..3 and 4..7 */
        r[4 * i] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0x44);
        r[4 * i + 1] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0xee);
        r[4 * i + 2] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0x44);
        r[4 * i + 3] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0xee);
    }
    for (int i = 0; i < 4; i++) {
        _mm256_storeu_ps(dst + i * dst_stride, _mm256_permute2f128_ps(r[i], r[i + 4], 0x20));
        _mm256_storeu_ps(dst + (i + 4) * dst_stride, _mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
    }
}

/* Whole 8 x 8 blocks that cover rows x cols; both sides must have the room. */
static inline void transpose_blocks(float *dst, int64_t dst_stride, const float *src,
                                    int64_t src_stride, int64_t rows, int64_t cols) {
    for (int64_t c = 0; c < cols; c += 8)
        for (int64_t r = 0; r < rows; r += 8)
            transpose8(dst + c * dst_stride + r, dst_stride, src + r * src_stride + c, src_stride);
}

#endif
