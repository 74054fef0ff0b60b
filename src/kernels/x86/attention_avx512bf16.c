/* SPDX-License-Identifier: MIT */
/*
 * The attention family for AVX-512 BF16: q, k, v and the weights are rounded to bf16, products are
 * exact and sums f32. The bodies are in attention_body.h.
 */
#include "kernels/x86/vec_avx512.h"

/* Register block: 12 rows x 2 vectors = 24 sums, beside 2 vectors and the broadcast. */
enum { ROWS_MAIN = 12, ROWS_PAD = 4 };
#define NEXT_ROWS(left) ((left) >= 12 ? 12 : (left))
#define PAIRS 2

static inline vf dot_words(vf acc, vf e, vf w) {
#if defined(__clang__) && __clang_major__ <= 16 && !defined(LIMN_SIMDE)
    /* clang 16 crashes when a broadcast becomes a vector of bf16 */
    __asm__("vdpbf16ps %2, %1, %0" : "+v"(acc) : "v"(w), "v"(e));
    return acc;
#else
    return _mm512_dpbf16_ps(acc, (__m512bh)e, (__m512bh)w);
#endif
}

/* Words of bf16(low), bf16(high); ties round away from zero, which only the last bit of a number
 * exactly between two can tell. NaN stays NaN: only payloads that the arithmetic makes occur. */
static inline vf pair_words(vf low, vf high) {
    __m512i half = _mm512_set1_epi32(0x8000);
    __m512i l = _mm512_srli_epi32(_mm512_add_epi32(_mm512_castps_si512(low), half), 16);
    __m512i h = _mm512_add_epi32(_mm512_castps_si512(high), half);
    h = _mm512_and_si512(h, _mm512_set1_epi32((int)0xffff0000));
    return _mm512_castsi512_ps(_mm512_or_si512(l, h));
}

#include "kernels/x86/attention_body.h"

void LIMN_ISA_FN(limn_attention_fill_avx512bf16)(limn_attention_kernels *t) {
    t->bf16 = tiler;
}
