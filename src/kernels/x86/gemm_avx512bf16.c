/* SPDX-License-Identifier: MIT */
/* Products of bf16 pairs with f32 sums (AVX-512 BF16).
 * vdpbf16ps treats denormals as zero. */
#define ZMM_MAC(acc, x, b)                                                                         \
    _mm512_dpbf16_ps(acc, (__m512bh)_mm512_castps_si512(x), (__m512bh)_mm512_castps_si512(b))
#include "kernels/x86/gemm_zmm.h"

static void panel_pairs(const limn_gemm_panel *p) {
    zmm_panel(p, LIMN_STORE_BF16X2);
}

void LIMN_ISA_FN(limn_gemm_fill_avx512bf16)(limn_gemm_kernels *k) {
    k->panel[LIMN_STORE_BF16X2] = panel_pairs;
    k->half = LIMN_STORE_BF16X2;
}
