/* SPDX-License-Identifier: MIT */
/* The gemm table for AVX-512 (F, CD, BW, DQ, VL): f32 FMA on 32-output panels, weights widened from
 * 16 bits on the way in; int8 without dot products by vpmaddwd. */
#define ZMM_MAC(acc, x, b) _mm512_fmadd_ps(x, b, acc)
#include "kernels/x86/gemm_zmm.h"
#include "kernels/x86/gemm_ymm.h"

LIMN_GEMM_BODY(ZMM_NR)

static void panel_f32(const limn_gemm_panel *p) {
    zmm_panel(p, LIMN_STORE_F32);
}

static void panel_f16(const limn_gemm_panel *p) {
    zmm_panel(p, LIMN_STORE_F16);
}

static void panel_bf16(const limn_gemm_panel *p) {
    zmm_panel(p, LIMN_STORE_BF16);
}

static void panel_i8(const limn_gemm_panel *p) {
    gemm_madd_panel(p, ZMM_NR);
}

static void f16_to_f32(float *dst, const uint16_t *src, size_t n) {
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(dst + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(src + i))));
    for (; i < n; i++) dst[i] = limn_f16_to_f32(src[i]);
}

static void f32_to_f16(uint16_t *dst, const float *src, size_t n) {
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm_storeu_si128((__m128i *)(dst + i),
                         _mm256_cvtps_ph(_mm256_loadu_ps(src + i), _MM_FROUND_TO_NEAREST_INT));
    for (; i < n; i++) dst[i] = limn_f32_to_f16(src[i]);
}

static void transpose(float *dst, const float *src, size_t stride, size_t n) {
    gemm_transpose(dst, ZMM_NR, src, stride, n);
}

void LIMN_ISA_FN(limn_gemm_fill_avx512)(limn_gemm_kernels *k) {
    set_body(k);
    k->mr = ZMM_MR;
    k->half = LIMN_STORE_F16;
    k->int8_words = LIMN_WORDS_S16X4;
    k->panel[LIMN_STORE_F32] = panel_f32;
    k->panel[LIMN_STORE_F16] = panel_f16;
    k->panel[LIMN_STORE_BF16] = panel_bf16;
    k->panel[LIMN_STORE_BF16X2] = NULL;
    k->panel[LIMN_STORE_S16X2] = NULL;
    k->panel[LIMN_STORE_I8X4] = panel_i8;
    k->f16_to_f32 = f16_to_f32;
    k->f32_to_f16 = f32_to_f16;
    k->transpose = transpose;
}
