/* SPDX-License-Identifier: MIT */
/* Products of unsigned activation codes and signed weight codes with AVX-512 VNNI: four products
 * per output and instruction, exact 32-bit sums. */
#define ZMM_MAC(acc, x, b)                                                                         \
    _mm512_castsi512_ps(_mm512_dpbusd_epi32(_mm512_castps_si512(acc), _mm512_castps_si512(x),      \
                                            _mm512_castps_si512(b)))
#include "kernels/x86/gemm_zmm.h"

static void panel_i8(const limn_gemm_panel *p) {
    zmm_panel(p, LIMN_STORE_I8X4);
}

void LIMN_ISA_FN(limn_gemm_fill_vnni)(limn_gemm_kernels *k) {
    k->panel[LIMN_STORE_I8X4] = panel_i8;
    k->int8_words = LIMN_WORDS_U8X4;
}
