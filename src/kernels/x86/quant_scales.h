/* SPDX-License-Identifier: MIT */
/* Scales of the 256-element blocks in quantised panels, for the files of an instruction set;
 * include after intrin.h. */
#ifndef LIMN_KERNELS_X86_QUANT_SCALES_H
#define LIMN_KERNELS_X86_QUANT_SCALES_H

#include "kernels/quant_panel.h"

/* Six-bit scales and minima of group g of a block of q4_K or q5_K, as bytes. */
LIMN_INLINE void scales_k45(__m128i *scale, __m128i *min, const uint8_t *head, int g) {
    const __m128i *p = (const __m128i *)(head + LIMN_QUANT_K_SCALES) + (g & 3);
    const __m128i six = _mm_set1_epi8(63), four = _mm_set1_epi8(15), top = _mm_set1_epi8(48);
    __m128i a = _mm_load_si128(p), b = _mm_load_si128(p + 4), c = _mm_load_si128(p + 8);
    if (g < 4) {
        *scale = _mm_and_si128(a, six);
        *min = _mm_and_si128(b, six);
    } else {
        *scale = _mm_or_si128(_mm_and_si128(c, four), _mm_and_si128(_mm_srli_epi16(a, 2), top));
        *min = _mm_or_si128(_mm_and_si128(_mm_srli_epi16(c, 4), four),
                            _mm_and_si128(_mm_srli_epi16(b, 2), top));
    }
}

#endif
