/* SPDX-License-Identifier: MIT */
/* The gemm table for AVX-512 (F, CD, BW, DQ, VL): f32 FMA on 32-output panels, weights widened from
 * 16 bits on the way in; int8 without dot products by vpmaddwd. */
#define ZMM_MAC(acc, x, b) _mm512_fmadd_ps(x, b, acc)
#include "kernels/x86/gemm_zmm.h"
#include "kernels/x86/gemm_ymm.h"

LIMN_GEMM_BODY(ZMM_NR)

/* x * limn_vsigmoid(x) by the same operations. The compiler makes masked copies of the loop out of
 * the two limits, and SiLU was 3% of reading a prompt. */
LIMN_INLINE __m512 silu(__m512 x) {
    const __m512 magic = _mm512_set1_ps(12582912.0f), one = _mm512_set1_ps(1);
    static const float terms[] = {
        1.38888889e-3f, 8.33333333e-3f, 4.16666667e-2f, 1.66666667e-1f, 0.5f, 1.0f, 1.0f};
    __m512 a = _mm512_sub_ps(_mm512_setzero_ps(), x);
    a = _mm512_max_ps(_mm512_set1_ps(-87), a); /* the second one where that is not a number */
    a = _mm512_min_ps(_mm512_set1_ps(88), a);
    __m512 t = _mm512_add_ps(_mm512_mul_ps(a, _mm512_set1_ps(1.44269504f)), magic);
    __m512 n = _mm512_sub_ps(t, magic);
    __m512 r = _mm512_sub_ps(a, _mm512_mul_ps(n, _mm512_set1_ps(0.693359375f)));
    r = _mm512_add_ps(r, _mm512_mul_ps(n, _mm512_set1_ps(2.12194440e-4f)));
    __m512 p = _mm512_set1_ps(1.98412698e-4f);
    LIMN_UNROLL
    for (int i = 0; i < 7; i++) p = _mm512_add_ps(_mm512_mul_ps(p, r), _mm512_set1_ps(terms[i]));
    __m512i u = _mm512_add_epi32(_mm512_castps_si512(t), _mm512_set1_epi32(127));
    __m512 e = _mm512_mul_ps(p, _mm512_castsi512_ps(_mm512_slli_epi32(u, 23)));
    return _mm512_mul_ps(x, _mm512_div_ps(one, _mm512_add_ps(one, e)));
}

static void finish_fast(const limn_gemm_finish *f) {
    if (f->act != LIMN_ACT_SILU || f->add || f->row_scale) {
        finish(f);
        return;
    }
    limn_gemm_finish plain = *f;
    float bias[ZMM_NR] = {0};
    plain.act = LIMN_ACT_NONE;
    plain.bias = NULL;
    if (f->bias) memcpy(bias, f->bias, (size_t)f->n * sizeof *bias);
    for (int i = 0; i < f->m * ZMM_NR; i += 16) {
        __m512 x = _mm512_add_ps(_mm512_loadu_ps(f->c + i), _mm512_loadu_ps(bias + i % ZMM_NR));
        _mm512_storeu_ps(f->c + i, silu(x));
    }
    finish(&plain);
}

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
    k->finish = finish_fast;
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
