/* SPDX-License-Identifier: MIT */
/*
 * Parts of the gemm table in AVX2 that serve several panel widths: moving words into panel order,
 * and int8 products without the dot-product instructions (codes widened to 16 bits, vpmaddwd, exact
 * 32-bit sums).
 */
#ifndef LIMN_KERNELS_X86_GEMM_YMM_H
#define LIMN_KERNELS_X86_GEMM_YMM_H

#include "kernels/gemm_body.h"
#include "kernels/x86/intrin.h"

/* 8 x 8 words: rows of src become columns of dst. Moves only, any bit pattern survives. */
LIMN_INLINE void gemm_transpose8(float *dst, size_t dst_stride, const float *src, size_t stride) {
    __m256 r[8], t[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) r[i] = _mm256_loadu_ps(src + (size_t)i * stride);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        const __m256 *u = t + 4 * i;
        r[4 * i] = _mm256_shuffle_ps(u[0], u[2], 0x44);
        r[4 * i + 1] = _mm256_shuffle_ps(u[0], u[2], 0xee);
        r[4 * i + 2] = _mm256_shuffle_ps(u[1], u[3], 0x44);
        r[4 * i + 3] = _mm256_shuffle_ps(u[1], u[3], 0xee);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        float *lo = dst + (size_t)i * dst_stride, *hi = lo + 4 * dst_stride;
        _mm256_storeu_ps(lo, _mm256_permute2f128_ps(r[i], r[4 + i], 0x20));
        _mm256_storeu_ps(hi, _mm256_permute2f128_ps(r[i], r[4 + i], 0x31));
    }
}

/* dst[i][r] = src[r][i] for nr rows of n words; nr a multiple of 8. */
LIMN_INLINE void gemm_transpose(float *dst, const size_t nr, const float *src, size_t stride,
                                size_t n) {
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (size_t r = 0; r < nr; r += 8)
            gemm_transpose8(dst + i * nr + r, nr, src + r * stride + i, stride);
    for (; i < n; i++)
        for (size_t r = 0; r < nr; r++) memcpy(dst + i * nr + r, src + r * stride + i, 4);
}

/* mr <= 3 rows x 16 outputs of a panel of nr; b points at the first of the 16 in step 0. Each sum
 * is kept in two halves (k 0, 1 and k 2, 3 of each step) until the end. */
LIMN_INLINE void gemm_madd_tile(const limn_gemm_panel *p, int row, const int8_t *b, int32_t *c,
                                const int mr, const int nr) {
    __m256i acc[3][4];
#pragma GCC unroll 3
    for (int r = 0; r < mr; r++)
#pragma GCC unroll 4
        for (int g = 0; g < 4; g++) acc[r][g] = _mm256_setzero_si256();
    const void *const *rows = p->rows + row;
    for (int s = 0; s < p->segs; s++, rows += p->rows_stride) {
        const char *a[3];
#pragma GCC unroll 3
        for (int r = 0; r < mr; r++) a[r] = (const char *)rows[r] + p->row_offset;
        for (size_t w = 0; w < (size_t)p->words; w++, b += 4 * nr) {
            __m256i x[3];
#pragma GCC unroll 3
            for (int r = 0; r < mr; r++)
                x[r] = _mm256_broadcastq_epi64(_mm_loadl_epi64((const __m128i *)(a[r] + 8 * w)));
#pragma GCC unroll 4
            for (int g = 0; g < 4; g++) {
                __m256i v = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(b + 16 * g)));
#pragma GCC unroll 3
                for (int r = 0; r < mr; r++)
                    acc[r][g] = _mm256_add_epi32(acc[r][g], _mm256_madd_epi16(x[r], v));
            }
        }
    }
#pragma GCC unroll 3
    for (int r = 0; r < mr; r++)
#pragma GCC unroll 2
        for (int h = 0; h < 2; h++) {
            __m256i sum = _mm256_hadd_epi32(acc[r][2 * h], acc[r][2 * h + 1]);
            __m256i *to = (__m256i *)(c + (row + r) * nr + 8 * h);
            sum = _mm256_permute4x64_epi64(sum, 0xd8);
            if (p->accumulate) sum = _mm256_add_epi32(sum, _mm256_loadu_si256(to));
            _mm256_storeu_si256(to, sum);
        }
}

LIMN_INLINE void gemm_madd_panel(const limn_gemm_panel *p, const int nr) {
    for (int q = 0; q < p->panels; q++)
        for (int j = 0; j < nr; j += 16) {
            const int8_t *b = (const int8_t *)p->b + (size_t)q * p->b_stride + 4 * j;
            int32_t *c = (int32_t *)p->c + (size_t)q * p->c_stride + j;
            int row = 0;
            for (; row + 3 <= p->m; row += 3) gemm_madd_tile(p, row, b, c, 3, nr);
            if (p->m - row == 2) gemm_madd_tile(p, row, b, c, 2, nr);
            if (p->m - row == 1) gemm_madd_tile(p, row, b, c, 1, nr);
        }
}

#endif
