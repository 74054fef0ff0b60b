/* SPDX-License-Identifier: MIT */
/* What the files of quantised panels with AVX-512 VNNI share. A register holds four elements of all
 * sixteen outputs of a panel. Internal. */
#ifndef LIMN_KERNELS_X86_QUANT_ZMM_H
#define LIMN_KERNELS_X86_QUANT_ZMM_H

#include "kernels/gemm_body.h"
#include "kernels/quant_panel.h"
#include "kernels/x86/intrin.h"
#include "kernels/x86/quant_scales.h"

enum { NR = LIMN_QUANT_NR };

/* LIMN_ROLLED: one function with loops does for every height. */
#ifdef LIMN_ROLLED
#define QUANT_TILE static
#define EACH_ROW for (int r = 0; r < mr; r++)
#define EACH_PANEL for (int p = 0; p < np; p++)
#else
#define QUANT_TILE LIMN_INLINE
#define EACH_ROW _Pragma("GCC unroll 8") for (int r = 0; r < mr; r++)
#define EACH_PANEL _Pragma("GCC unroll 2") for (int p = 0; p < np; p++)
#endif

LIMN_INLINE __m512i zmm_codes(const uint8_t *p) {
    return _mm512_loadu_si512(p);
}

/* Sixteen f16. */
LIMN_INLINE __m512 zmm_halves(const uint8_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

/* Sixteen bytes; those of q4_K and q5_K are below 64. */
LIMN_INLINE __m512i zmm_bytes(__m128i v) {
    return _mm512_cvtepi8_epi32(v);
}

LIMN_INLINE __m512 zmm_bytes_f32(__m128i v) {
    return _mm512_cvtepi32_ps(zmm_bytes(v));
}

/* Low and high nibbles of a word of codes: words s and s + 4 of the group. */
LIMN_INLINE void zmm_nibbles(__m512i *lo, __m512i *hi, const uint8_t *b, int s) {
    const __m512i low = _mm512_set1_epi32(0x0f0f0f0f);
    __m512i w = zmm_codes(b + s * 64);
    *lo = _mm512_and_si512(w, low);
    *hi = _mm512_and_si512(_mm512_srli_epi32(w, 4), low);
}

/* Fifth bits of word s of a group of q5_K, in place. */
LIMN_INLINE __m512i zmm_fifth(__m512i bits, const int s) {
    bits = s < 4 ? _mm512_slli_epi32(bits, 4 - s) : _mm512_srli_epi32(bits, s - 4);
    return _mm512_and_si512(bits, _mm512_set1_epi32(0x10101010));
}

/* Top bits of word s of a group of q6_K, in place. */
LIMN_INLINE __m512i zmm_top(__m512i field, const int s) {
    field = s % 4 == 0   ? _mm512_slli_epi32(field, 4)
            : s % 4 == 1 ? _mm512_slli_epi32(field, 2)
            : s % 4 == 2 ? field
                         : _mm512_srli_epi32(field, 2);
    return _mm512_and_si512(field, _mm512_set1_epi32(0x30303030));
}

/* Eight words of codes without sign of a group of q4_0 and q4_K, q5_K, q6_K. */
LIMN_INLINE void zmm_fours(__m512i w[8], const uint8_t *b) {
    LIMN_UNROLL
    for (int s = 0; s < 4; s++) zmm_nibbles(&w[s], &w[s + 4], b, s);
}

LIMN_INLINE void zmm_fives(__m512i w[8], const uint8_t *b) {
    __m512i bits = zmm_codes(b + LIMN_QUANT_NIBBLES);
    zmm_fours(w, b);
    LIMN_UNROLL
    for (int s = 0; s < 8; s++) w[s] = _mm512_or_si512(w[s], zmm_fifth(bits, s));
}

LIMN_INLINE void zmm_sixes(__m512i w[8], const uint8_t *b) {
    __m512i top[2] = {zmm_codes(b + LIMN_QUANT_NIBBLES), zmm_codes(b + LIMN_QUANT_NIBBLES + 64)};
    zmm_fours(w, b);
    LIMN_UNROLL
    for (int s = 0; s < 8; s++) w[s] = _mm512_or_si512(w[s], zmm_top(top[s / 4], s));
}

/* Tiles of many rows, in quant_vnni_tile.c. */
void LIMN_ISA_FN(limn_gemm_fill_quant_vnni_tile)(limn_gemm_kernels *k);

#endif
