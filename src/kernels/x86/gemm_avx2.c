/* SPDX-License-Identifier: MIT */
/*
 * Matrix micro-kernels for AVX2 + FMA + F16C: 6 rows x 16 outputs in 12 accumulators, the two
 * vectors of weights converted from 16 bits on the way in (the conversions run beside the FMAs). A
 * rows are read in place and broadcast; with few rows several panels are taken at once, so that
 * there are always enough independent sums to hide the FMA latency.
 */
#include "kernels/gemm_body.h"
#include "kernels/x86/gemm_ymm.h"

enum { NR = 16, MR = 6, ACC = 6, FETCH_STEPS = 4 };

LIMN_GEMM_BODY(NR)

static void f16_to_f32(float *dst, const uint16_t *src, size_t n) {
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm256_storeu_ps(dst + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(src + i))));
    for (; i < n; i++) dst[i] = _cvtsh_ss(src[i]);
}

static void f32_to_f16(uint16_t *dst, const float *src, size_t n) {
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        _mm_storeu_si128((__m128i *)(dst + i),
                         _mm256_cvtps_ph(_mm256_loadu_ps(src + i), _MM_FROUND_TO_NEAREST_INT));
    for (; i < n; i++) dst[i] = _cvtss_sh(src[i], _MM_FROUND_TO_NEAREST_INT);
}

LIMN_INLINE __m256 widen_bf16(const uint16_t *h) {
    __m256i v = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)h));
    return _mm256_castsi256_ps(_mm256_slli_epi32(v, 16));
}

/* The two vectors of step `w` of a panel. */
LIMN_INLINE void load_step(__m256 *b0, __m256 *b1, const void *b, size_t w, const limn_store st) {
    const float *f = (const float *)b + w * NR;
    const uint16_t *h = (const uint16_t *)b + w * NR;
    if (st == LIMN_STORE_F32) {
        *b0 = _mm256_loadu_ps(f);
        *b1 = _mm256_loadu_ps(f + 8);
    } else if (st == LIMN_STORE_F16) {
        *b0 = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)h));
        *b1 = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(h + 8)));
    } else {
        *b0 = widen_bf16(h);
        *b1 = widen_bf16(h + 8);
    }
}

/* mr rows x np panels; mr * np <= ACC, both constants after inlining. */
LIMN_INLINE void tile(const limn_gemm_panel *p, int row, int panel, const int mr, const int np,
                      const limn_store st) {
    const size_t step_bytes = NR * (st == LIMN_STORE_F32 ? 4 : 2);
    __m256 acc[ACC][2];
    const char *b[ACC];
    float *c = p->c + (size_t)panel * p->c_stride + (size_t)row * NR;
#pragma GCC unroll 6
    for (int q = 0; q < np; q++) {
        b[q] = (const char *)p->b + (size_t)(panel + q) * p->b_stride;
#pragma GCC unroll 6
        for (int r = 0; r < mr; r++) {
            const float *from = c + (size_t)q * p->c_stride + r * NR;
            acc[q * mr + r][0] = p->accumulate ? _mm256_load_ps(from) : _mm256_setzero_ps();
            acc[q * mr + r][1] = p->accumulate ? _mm256_load_ps(from + 8) : _mm256_setzero_ps();
        }
    }
    const char *ahead[2], *ahead_end[2];
    for (int i = 0; i < 2; i++) {
        size_t part = p->fetch_bytes[i] / (size_t)p->m;
        ahead[i] = p->fetch[i] + part * (size_t)row;
        ahead_end[i] = ahead[i] + part * mr;
    }
    const void *const *rows = p->rows + row;
    const size_t words = (size_t)p->words;
    for (int s = 0; s < p->segs; s++, rows += p->rows_stride) {
        const float *a[MR];
#pragma GCC unroll 6
        for (int r = 0; r < mr; r++) a[r] = (const float *)((const char *)rows[r] + p->row_offset);
        for (size_t w0 = 0; w0 < words; w0 += FETCH_STEPS) {
            size_t w1 = w0 + FETCH_STEPS < words ? w0 + FETCH_STEPS : words;
#pragma GCC unroll 2
            for (int i = 0; i < 2; i++)
                if (ahead[i] < ahead_end[i]) {
                    _mm_prefetch(ahead[i], _MM_HINT_T1);
                    ahead[i] += 64;
                }
            for (size_t w = w0; w < w1; w++) {
#pragma GCC unroll 6
                for (int q = 0; q < np; q++) {
                    __m256 b0, b1;
                    load_step(&b0, &b1, b[q], w, st);
#pragma GCC unroll 6
                    for (int r = 0; r < mr; r++) {
                        __m256 x = _mm256_broadcast_ss(a[r] + w);
                        acc[q * mr + r][0] = _mm256_fmadd_ps(x, b0, acc[q * mr + r][0]);
                        acc[q * mr + r][1] = _mm256_fmadd_ps(x, b1, acc[q * mr + r][1]);
                    }
                }
            }
        }
#pragma GCC unroll 6
        for (int q = 0; q < np; q++) b[q] += words * step_bytes;
    }
#pragma GCC unroll 6
    for (int q = 0; q < np; q++)
#pragma GCC unroll 6
        for (int r = 0; r < mr; r++) {
            float *to = c + (size_t)q * p->c_stride + r * NR;
            _mm256_store_ps(to, acc[q * mr + r][0]);
            _mm256_store_ps(to + 8, acc[q * mr + r][1]);
        }
}

/* One block of `mr` rows over all panels, np at a time. */
LIMN_INLINE void row_block(const limn_gemm_panel *p, int row, const int mr, const int np,
                           const limn_store st) {
    int q = 0;
    for (; q + np <= p->panels; q += np) tile(p, row, q, mr, np, st);
    for (; q < p->panels; q++) tile(p, row, q, mr, 1, st);
}

LIMN_INLINE void panel_any(const limn_gemm_panel *p, const limn_store st) {
    int row = 0;
    /* Blocks of nearly equal height, so that no thin one is left at the end. */
    for (int left = p->m, blocks = (left + MR - 1) / MR; blocks > 0; blocks--) {
        int mr = (left + blocks - 1) / blocks;
        switch (mr) {
        case 6: row_block(p, row, 6, 1, st); break;
        case 5: row_block(p, row, 5, 1, st); break;
        case 4: row_block(p, row, 4, 1, st); break;
        case 3: row_block(p, row, 3, 2, st); break;
        case 2: row_block(p, row, 2, 3, st); break;
        default: row_block(p, row, 1, 4, st); break;
        }
        row += mr;
        left -= mr;
    }
}

static void panel_f32(const limn_gemm_panel *p) {
    panel_any(p, LIMN_STORE_F32);
}

static void panel_f16(const limn_gemm_panel *p) {
    panel_any(p, LIMN_STORE_F16);
}

static void panel_bf16(const limn_gemm_panel *p) {
    panel_any(p, LIMN_STORE_BF16);
}

static void transpose(float *dst, const float *src, size_t stride, size_t n) {
    gemm_transpose(dst, NR, src, stride, n);
}

static void panel_i8(const limn_gemm_panel *p) {
    gemm_madd_panel(p, NR);
}

void limn_gemm_fill_avx2(limn_gemm_kernels *k) {
    set_body(k);
    k->mr = MR;
    k->panel[LIMN_STORE_F32] = panel_f32;
    k->panel[LIMN_STORE_F16] = panel_f16;
    k->panel[LIMN_STORE_BF16] = panel_bf16;
    k->panel[LIMN_STORE_I8X4] = panel_i8;
    k->int8_words = LIMN_WORDS_S16X4;
    k->f16_to_f32 = f16_to_f32;
    k->f32_to_f16 = f32_to_f16;
    k->transpose = transpose;
}
