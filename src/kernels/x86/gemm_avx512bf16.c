/* SPDX-License-Identifier: MIT */
/* Products of bf16 pairs with f32 sums (AVX-512 BF16). vdpbf16ps treats denormals as zero. */
#include "kernels/gemm_body.h"
#include "kernels/x86/intrin.h"

LIMN_INLINE __m512 mac_pairs(__m512 acc, __m512 x, __m512 b) {
#if defined(__clang__) && !defined(LIMN_SIMDE)
    __asm__("" : "+v"(x)); /* clang 16 crashes when it folds the broadcast into vdpbf16ps */
#endif
    return _mm512_dpbf16_ps(acc, (__m512bh)_mm512_castps_si512(x),
                            (__m512bh)_mm512_castps_si512(b));
}

#define ZMM_MAC(acc, x, b) mac_pairs(acc, x, b)
#include "kernels/x86/gemm_zmm.h"

static void panel_pairs(const limn_gemm_panel *p) {
    zmm_panel(p, LIMN_STORE_BF16X2);
}

void LIMN_ISA_FN(limn_gemm_fill_avx512bf16)(limn_gemm_kernels *k) {
    k->panel[LIMN_STORE_BF16X2] = panel_pairs;
    k->half = LIMN_STORE_BF16X2;
}
