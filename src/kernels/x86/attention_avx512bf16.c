/* SPDX-License-Identifier: MIT */
/*
 * The attention family for AVX-512 BF16: q, k, v and the weights are rounded to bf16, products are
 * exact and sums f32. The bodies are in attention_body.h.
 */
#include "kernels/x86/vec_avx512.h"

/* Register block: 12 rows x 2 vectors = 24 sums, beside 2 vectors and the broadcast. */
enum { ROWS_MAIN = 12, ROWS_PAD = 4 };
#define NEXT_ROWS(left) ((left) == 16 ? 8 : (left) >= 12 ? 12 : (left))
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

/* The high half of each `high` word, then the high half of each `low` word. */
static inline vf join_halves(vf low, vf high) {
    __m512i l = _mm512_srli_epi32(_mm512_castps_si512(low), 16), h = _mm512_castps_si512(high);
    __m512i mask = _mm512_set1_epi32((int)0xffff0000);
    return _mm512_castsi512_ps(_mm512_ternarylogic_epi32(h, mask, l, 0xea)); /* (h & mask) | l */
}

/* Words of bf16(low), bf16(high); ties round away from zero, which only the last bit of a number
 * exactly between two can tell. NaN stays NaN: only payloads that the arithmetic makes occur. */
static inline vf pair_words(vf low, vf high) {
    __m512i half = _mm512_set1_epi32(0x8000);
    __m512i l = _mm512_add_epi32(_mm512_castps_si512(low), half);
    __m512i h = _mm512_add_epi32(_mm512_castps_si512(high), half);
    return join_halves(_mm512_castsi512_ps(l), _mm512_castsi512_ps(h));
}

static inline vf row_words(vf low, vf high) {
#ifdef LIMN_SIMDE
    __m256i l = _mm512_cvtepi32_epi16(vf_bf16_codes(low));
    __m512i both = _mm512_castsi256_si512(l);
    both = _mm512_inserti64x4(both, _mm512_cvtepi32_epi16(vf_bf16_codes(high)), 1);
    return _mm512_castsi512_ps(both);
#else
    return _mm512_castsi512_ps((__m512i)_mm512_cvtne2ps_pbh(high, low));
#endif
}

/* 1, 1 in each word */
static inline vf vf_ones(void) {
    return _mm512_castsi512_ps(_mm512_set1_epi32(0x3f803f80));
}

#include "kernels/x86/vec_math.h"

#ifdef LIMN_SIMDE
static inline vf weight_words(vf x0, vf x1) {
    return pair_words(vm_exp2_neg(x0), vm_exp2_neg(x1));
}
#else
/* 2^x plus half of the last bit that bf16 keeps: cutting it there rounds. The half (2^-8 of the
 * power of two below) is part of the polynomial of 2^f, whose own error is 7.5e-5. x is kept in a
 * register: Zen 5 takes six times as long where vreduceps or vscalefps read it from memory. */
static inline vf power_to_cut(vf x) {
    __asm__("" : "+v"(x));
    vf f = vf_fraction(x);
    vf p = vf_fma(f, vf_set1(0.07802452352f), vf_set1(0.2260671542f));
    p = vf_fma(f, p, vf_set1(0.6958335409f));
    p = vf_fma(f, p, vf_set1(0.9999252186f + 0x1p-8f));
    return vf_ldexp_floor(p, x);
}

static inline vf weight_words(vf x0, vf x1) {
    return join_halves(power_to_cut(x0), power_to_cut(x1));
}
#endif

#include "kernels/x86/attention_body.h"

void LIMN_ISA_FN(limn_attention_fill_avx512bf16)(limn_attention_kernels *t) {
    t->bf16 = tiler;
}
