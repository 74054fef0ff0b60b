/* SPDX-License-Identifier: MIT */
/*
 * The 512-bit register tile, shared by AVX-512, VNNI and AVX-512 BF16: up to 14 rows x 32 outputs
 * in 28 accumulators. A file defines ZMM_MAC(acc, x, b), the instruction that multiplies a word of
 * x, broadcast, with a vector of the panel (all as __m512, whatever they hold), and includes this.
 */
#ifndef LIMN_KERNELS_X86_GEMM_ZMM_H
#define LIMN_KERNELS_X86_GEMM_ZMM_H

#include "kernels/gemm_body.h"
#include "kernels/x86/intrin.h"

enum { ZMM_NR = 32, ZMM_MR = 14 };

/* Every height is a function of its own with its sums in registers; LIMN_ROLLED: one function with
 * loops does for all. */
#ifdef LIMN_ROLLED
#define ZMM_TILE static
#define ZMM_UNROLL
#else
#define ZMM_TILE LIMN_INLINE
#define ZMM_UNROLL _Pragma("GCC unroll 14")
#endif

LIMN_INLINE __m512 zmm_widen_bf16(const uint16_t *h) {
    __m512i v = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)h));
    return _mm512_castsi512_ps(_mm512_slli_epi32(v, 16));
}

/* A word of an A row, broadcast; pairs of bf16 may lie at any even address. */
LIMN_INLINE __m512 zmm_word(const char *a) {
    float word;
    memcpy(&word, a, 4);
    return _mm512_set1_ps(word);
}

/* The two vectors of step `w` of a panel; 32-bit words of any kind load as F32. */
LIMN_INLINE void zmm_step(__m512 *b0, __m512 *b1, const void *b, size_t w, const limn_store st) {
    const float *f = (const float *)b + w * ZMM_NR;
    const uint16_t *h = (const uint16_t *)b + w * ZMM_NR;
    if (st == LIMN_STORE_F16) {
        *b0 = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)h));
        *b1 = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(h + 16)));
    } else if (st == LIMN_STORE_BF16) {
        *b0 = zmm_widen_bf16(h);
        *b1 = zmm_widen_bf16(h + 16);
    } else {
        *b0 = _mm512_loadu_ps(f);
        *b1 = _mm512_loadu_ps(f + 16);
    }
}

/* mr rows x np panels; mr * np <= ZMM_MR, both constants after inlining. */
ZMM_TILE void zmm_tile(const limn_gemm_panel *p, int row, int panel, const int mr, const int np,
                       const limn_store st) {
    const size_t step_bytes = ZMM_NR * (st == LIMN_STORE_F16 || st == LIMN_STORE_BF16 ? 2 : 4);
    __m512 acc[ZMM_MR][2];
    const char *b[ZMM_MR];
    float *c = p->c + (size_t)panel * p->c_stride + (size_t)row * ZMM_NR;
    ZMM_UNROLL
    for (int q = 0; q < np; q++) {
        b[q] = (const char *)p->b + (size_t)(panel + q) * p->b_stride;
        ZMM_UNROLL
        for (int r = 0; r < mr; r++) {
            const float *from = c + (size_t)q * p->c_stride + r * ZMM_NR;
            acc[q * mr + r][0] = p->accumulate ? _mm512_loadu_ps(from) : _mm512_setzero_ps();
            acc[q * mr + r][1] = p->accumulate ? _mm512_loadu_ps(from + 16) : _mm512_setzero_ps();
        }
    }
    const void *const *rows = p->rows + row;
    const size_t words = (size_t)p->words;
    for (int s = 0; s < p->segs; s++, rows += p->rows_stride) {
        const char *a[ZMM_MR];
        ZMM_UNROLL
        for (int r = 0; r < mr; r++) a[r] = (const char *)rows[r] + p->row_offset;
        for (size_t w = 0; w < words; w++) {
            ZMM_UNROLL
            for (int q = 0; q < np; q++) {
                __m512 b0, b1;
                zmm_step(&b0, &b1, b[q], w, st);
                ZMM_UNROLL
                for (int r = 0; r < mr; r++) {
                    __m512 x = zmm_word(a[r] + 4 * w);
                    acc[q * mr + r][0] = ZMM_MAC(acc[q * mr + r][0], x, b0);
                    acc[q * mr + r][1] = ZMM_MAC(acc[q * mr + r][1], x, b1);
                }
            }
        }
        ZMM_UNROLL
        for (int q = 0; q < np; q++) b[q] += words * step_bytes;
    }
    ZMM_UNROLL
    for (int q = 0; q < np; q++) ZMM_UNROLL
    for (int r = 0; r < mr; r++) {
        float *to = c + (size_t)q * p->c_stride + r * ZMM_NR;
        _mm512_storeu_ps(to, acc[q * mr + r][0]);
        _mm512_storeu_ps(to + 16, acc[q * mr + r][1]);
    }
}

/* One block of `mr` rows over all panels, np at a time. */
ZMM_TILE void zmm_row_block(const limn_gemm_panel *p, int row, const int mr, const int np,
                            const limn_store st) {
    int q = 0;
    for (; q + np <= p->panels; q += np) zmm_tile(p, row, q, mr, np, st);
    for (; np > 1 && q < p->panels; q++) zmm_tile(p, row, q, mr, 1, st);
}

#define ZMM_CASE(MR, NP)                                                                           \
    case MR: zmm_row_block(p, row, MR, NP, st); break;

LIMN_INLINE void zmm_panel(const limn_gemm_panel *p, const limn_store st) {
    int row = 0;
    /* Blocks of nearly equal height, so that no thin one is left at the end. */
    for (int left = p->m, blocks = (left + ZMM_MR - 1) / ZMM_MR; blocks > 0; blocks--) {
        int mr = (left + blocks - 1) / blocks;
        switch (mr) {
            ZMM_CASE(14, 1)
            ZMM_CASE(13, 1)
            ZMM_CASE(12, 1)
            ZMM_CASE(11, 1)
            ZMM_CASE(10, 1)
            ZMM_CASE(9, 1)
            ZMM_CASE(8, 1)
            ZMM_CASE(7, 2)
            ZMM_CASE(6, 2)
            ZMM_CASE(5, 2)
            ZMM_CASE(4, 3)
            ZMM_CASE(3, 4)
            ZMM_CASE(2, 6)
        default: zmm_row_block(p, row, 1, 6, st); break;
        }
        row += mr;
        left -= mr;
    }
}

#endif
