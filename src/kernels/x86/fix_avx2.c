/* SPDX-License-Identifier: MIT */
/*
 * Products in 16-bit fixed point for AVX2 (gemm.h: LIMN_FIX_BLOCK): vpmaddwd does two products
 * where an FMA does one. Up to 5 rows x 16 outputs in ten sums, so that weights, the broadcast and
 * one product have registers beside them; six rows measured slower.
 */
#include "kernels/gemm_body.h"
#include "kernels/x86/intrin.h"

enum { NR = 16, ROWS = 5, AHEAD = 2048 };

/* sum += pairs of x times pairs of b. In assembly, since compilers move all products of a step in
 * front of all sums and then run out of registers: half the speed. */
LIMN_INLINE __m256i add_pairs(__m256i sum, __m256i x, __m256i b) {
    __m256i product;
    __asm__("vpmaddwd %2, %3, %1\n\tvpaddd %1, %0, %0"
            : "+x"(sum), "=&x"(product)
            : "x"(b), "x"(x));
    return sum;
}

/* mr rows x one panel, over all blocks of the call. */
LIMN_INLINE void fix_tile(const limn_gemm_panel *p, int row, int panel, const int mr) {
    const char *b = (const char *)p->b + (size_t)panel * p->b_stride;
    float *c = p->c + (size_t)panel * p->c_stride + (size_t)row * NR;
    const int32_t *a[ROWS];
    const float *scale[ROWS];
    LIMN_UNROLL
    for (int r = 0; r < mr; r++) {
        const char *at = p->rows[row + r];
        a[r] = (const int32_t *)(at + p->row_offset);
        scale[r] = (const float *)(at + p->scale_offset);
    }
    /* What is read next comes in by a share of each row block, before its first step. */
    for (int i = 0; i < 2; i++) {
        size_t part = p->fetch_bytes[i] / (size_t)p->m;
        const char *at = p->fetch[i] + part * (size_t)row, *end = at + part * mr;
        for (; at < end; at += 64) _mm_prefetch(at, _MM_HINT_T1);
    }
    const size_t words = (size_t)p->words, block = (size_t)p->fix_words;
    for (size_t w0 = 0, n; w0 < words; w0 += n) {
        __m256i acc[ROWS][2];
        n = words - w0 < block ? words - w0 : block;
        LIMN_UNROLL
        for (int r = 0; r < mr; r++) acc[r][0] = acc[r][1] = _mm256_setzero_si256();
        for (size_t i = 0; i < n; i++, b += 4 * NR) {
            __m256i b0 = _mm256_load_si256((const __m256i *)b);
            __m256i b1 = _mm256_load_si256((const __m256i *)b + 1);
            if (mr == 1) _mm_prefetch(b + AHEAD, _MM_HINT_T0);
            LIMN_UNROLL
            for (int r = 0; r < mr; r++) {
                __m256i x = _mm256_set1_epi32(a[r][i]);
                acc[r][0] = add_pairs(acc[r][0], x, b0);
                acc[r][1] = add_pairs(acc[r][1], x, b1);
            }
        }
        LIMN_UNROLL
        for (int r = 0; r < mr; r++) a[r] += n;
        __m256 s0 = _mm256_load_ps((const float *)b), s1 = _mm256_load_ps((const float *)b + 8);
        b += 4 * NR;
        bool first = w0 == 0 && !p->accumulate;
        LIMN_UNROLL
        for (int r = 0; r < mr; r++) {
            float *to = c + r * NR;
            __m256 s = _mm256_broadcast_ss(scale[r]++);
            __m256 c0 = first ? _mm256_setzero_ps() : _mm256_load_ps(to);
            __m256 c1 = first ? _mm256_setzero_ps() : _mm256_load_ps(to + 8);
            c0 = _mm256_fmadd_ps(_mm256_cvtepi32_ps(acc[r][0]), _mm256_mul_ps(s, s0), c0);
            c1 = _mm256_fmadd_ps(_mm256_cvtepi32_ps(acc[r][1]), _mm256_mul_ps(s, s1), c1);
            _mm256_store_ps(to, c0);
            _mm256_store_ps(to + 8, c1);
        }
    }
}

static void panel_fix(const limn_gemm_panel *p) {
    int row = 0;
    /* Heights that differ by one at most. */
    for (int left = p->m, blocks = (left + ROWS - 1) / ROWS; blocks > 0; blocks--) {
        int mr = (left + blocks - 1) / blocks;
        for (int q = 0; q < p->panels; q++) switch (mr) {
            case 5: fix_tile(p, row, q, 5); break;
            case 4: fix_tile(p, row, q, 4); break;
            case 3: fix_tile(p, row, q, 3); break;
            case 2: fix_tile(p, row, q, 2); break;
            default: fix_tile(p, row, q, 1); break;
            }
        row += mr;
        left -= mr;
    }
}

/* Sixteen codes; src in any alignment. */
LIMN_INLINE __m256i codes16(const float *src, __m256 inv) {
    __m256i lo = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(src), inv));
    __m256i hi = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(src + 8), inv));
    return _mm256_permute4x64_epi64(_mm256_packs_epi32(lo, hi), 0xd8);
}

static void fix_row(int16_t *dst, float *scales, const float *src, size_t n, size_t block,
                    float top) {
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    for (size_t at = 0; at < n; at += block, dst += block, src += block, scales++) {
        size_t count = n - at < block ? n - at : block;
        if (count % 16) {
            body_fix_block(dst, scales, src, count, top);
            continue;
        }
        __m256i m0 = _mm256_setzero_si256(), m1 = m0;
        for (size_t i = 0; i < count; i += 16) {
            __m256i u0 = _mm256_loadu_si256((const __m256i *)(src + i));
            __m256i u1 = _mm256_loadu_si256((const __m256i *)(src + i + 8));
            m0 = _mm256_max_epi32(m0, _mm256_and_si256(u0, magnitude));
            m1 = _mm256_max_epi32(m1, _mm256_and_si256(u1, magnitude));
        }
        m0 = _mm256_max_epi32(m0, m1);
        __m128i m = _mm_max_epi32(_mm256_castsi256_si128(m0), _mm256_extracti128_si256(m0, 1));
        m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4e));
        m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0xb1));
        float amax = _mm_cvtss_f32(_mm_castsi128_ps(m));
        if (!(amax >= 0x1p-100f && amax < __builtin_inff())) { /* rare: zeros, NaN, infinity */
            body_fix_block(dst, scales, src, count, top);
            continue;
        }
        __m256 inv = _mm256_set1_ps(top / amax);
        for (size_t i = 0; i < count; i += 16)
            _mm256_storeu_si256((__m256i *)(dst + i), codes16(src + i, inv));
        *scales = amax / top;
    }
}

void limn_gemm_fill_fix_avx2(limn_gemm_kernels *k) {
    k->half = LIMN_STORE_S16X2;
    k->panel[LIMN_STORE_S16X2] = panel_fix;
    k->fix_row = fix_row;
}
