/* SPDX-License-Identifier: MIT */
/* The gemm table in plain C: what every instruction set is tested against. */
#include <math.h>

#include "kernels/gemm_body.h"

enum { NR = 16, MR = 4 };

LIMN_GEMM_BODY(NR)

static void f16_to_f32(float *dst, const uint16_t *src, size_t n) {
    for (size_t i = 0; i < n; i++) dst[i] = limn_f16_to_f32(src[i]);
}

static void f32_to_f16(uint16_t *dst, const float *src, size_t n) {
    for (size_t i = 0; i < n; i++) dst[i] = limn_f32_to_f16(src[i]);
}

/* One step of a panel as f32. */
LIMN_INLINE void load_step(float *v, const void *b, size_t step, const limn_store store) {
    const uint16_t *h = (const uint16_t *)b + step * NR;
    if (store == LIMN_STORE_F32)
        memcpy(v, (const float *)b + step * NR, NR * sizeof *v);
    else if (store == LIMN_STORE_F16)
        f16_to_f32(v, h, NR);
    else
        body_bf16_to_f32(v, h, NR);
}

/* MR x NR sums over all segments; `rows` <= MR are real. */
LIMN_INLINE void tile_f32(const limn_gemm_panel *p, const char *b, float *c, int row, int rows,
                          const limn_store store) {
    float acc[MR][NR] = {{0}};
    if (p->accumulate) memcpy(acc, c, (size_t)rows * NR * sizeof **acc);
    size_t step = 0;
    for (int s = 0; s < p->segs; s++) {
        const float *a[MR];
        for (int r = 0; r < MR; r++) /* rows beyond the last read the last one again */
            a[r] = (const float *)((const char *)p->rows[(size_t)s * p->rows_stride +
                                                         (size_t)(row + (r < rows ? r : 0))] +
                                   p->row_offset);
        for (int w = 0; w < p->words; w++, step++) {
            float v[NR];
            load_step(v, b, step, store);
            for (int r = 0; r < MR; r++)
                for (int j = 0; j < NR; j++) acc[r][j] += a[r][w] * v[j];
        }
    }
    memcpy(c, acc, (size_t)rows * NR * sizeof **acc);
}

LIMN_INLINE void panel_f32_any(const limn_gemm_panel *p, const limn_store store) {
    for (int q = 0; q < p->panels; q++) {
        const char *b = (const char *)p->b + (size_t)q * p->b_stride;
        float *c = p->c + (size_t)q * p->c_stride;
        for (int i = 0; i < p->m; i += MR)
            tile_f32(p, b, c + (size_t)i * NR, i, p->m - i < MR ? p->m - i : MR, store);
    }
}

static void panel_f32(const limn_gemm_panel *p) {
    panel_f32_any(p, LIMN_STORE_F32);
}

static void panel_f16(const limn_gemm_panel *p) {
    panel_f32_any(p, LIMN_STORE_F16);
}

static void panel_bf16(const limn_gemm_panel *p) {
    panel_f32_any(p, LIMN_STORE_BF16);
}

/* Sums of four products of 8-bit codes; A words are four s16. */
static void panel_i8(const limn_gemm_panel *p) {
    for (int q = 0; q < p->panels; q++)
        for (int i = 0; i < p->m; i++) {
            int32_t acc[NR] = {0}, *c = (int32_t *)p->c + (size_t)q * p->c_stride + (size_t)i * NR;
            const int8_t *b = (const int8_t *)p->b + (size_t)q * p->b_stride;
            if (p->accumulate) memcpy(acc, c, sizeof acc);
            for (int s = 0; s < p->segs; s++) {
                const char *row = p->rows[(size_t)s * p->rows_stride + (size_t)i];
                const int16_t *a = (const int16_t *)(row + p->row_offset);
                for (int w = 0; w < p->words; w++, a += 4, b += 4 * NR)
                    for (int j = 0; j < NR; j++)
                        acc[j] += a[0] * b[4 * j] + a[1] * b[4 * j + 1] + a[2] * b[4 * j + 2] +
                                  a[3] * b[4 * j + 3];
            }
            memcpy(c, acc, sizeof acc);
        }
}

/* Blocks of fixed point; A words are two s16. */
static void panel_fix(const limn_gemm_panel *p) {
    for (int q = 0; q < p->panels; q++)
        for (int i = 0; i < p->m; i++) {
            float *c = p->c + (size_t)q * p->c_stride + (size_t)i * NR;
            const char *row = p->rows[i];
            const int16_t *a = (const int16_t *)(row + p->row_offset);
            const float *scale = (const float *)(row + p->scale_offset);
            const int16_t *b = (const int16_t *)((const char *)p->b + (size_t)q * p->b_stride);
            for (int w0 = 0; w0 < p->words; w0 += p->fix_words, scale++) {
                int32_t acc[NR] = {0};
                int n = p->words - w0 < p->fix_words ? p->words - w0 : p->fix_words;
                for (int w = 0; w < n; w++, a += 2, b += 2 * NR)
                    for (int j = 0; j < NR; j++) acc[j] += a[0] * b[2 * j] + a[1] * b[2 * j + 1];
                const float *ws = (const float *)b;
                for (int j = 0; j < NR; j++) {
                    float s = *scale * ws[j];
                    c[j] = fmaf((float)acc[j], s, w0 > 0 || p->accumulate ? c[j] : 0.0f);
                }
                b += 2 * NR;
            }
        }
}

static void transpose(float *dst, const float *src, size_t stride, size_t n) {
    for (size_t i = 0; i < n; i++)
        for (size_t r = 0; r < NR; r++) dst[i * NR + r] = src[r * stride + i];
}

#define EXPAND(ID)                                                                                 \
    static void expand_##ID(float *dst, const void *src, size_t n) {                               \
        limn_dtype_to_f32(dst, src, LIMN_##ID, (int64_t)n);                                        \
    }
#define X(id, name, block, bytes, quant) EXPAND(id)
LIMN_DTYPE_LIST(X)
#undef X

/* Sixteen running sums, added up in order. */
static void dot(float *out, const float *w, const float *const *x, int rows, size_t n) {
    for (int r = 0; r < rows; r++) {
        float acc[16] = {0}, all = 0;
        size_t i = 0;
        for (; i + 16 <= n; i += 16)
            for (size_t j = 0; j < 16; j++) acc[j] += w[i + j] * x[r][i + j];
        for (; i < n; i++) all += w[i] * x[r][i];
        for (int j = 0; j < 16; j++) all += acc[j];
        out[r] += all;
    }
}

void limn_gemm_fill_c(limn_gemm_kernels *k) {
    set_body(k);
    k->mr = MR;
    k->half = LIMN_STORE_F16;
    k->int8_words = LIMN_WORDS_S16X4;
    k->panel[LIMN_STORE_F32] = panel_f32;
    k->panel[LIMN_STORE_F16] = panel_f16;
    k->panel[LIMN_STORE_BF16] = panel_bf16;
    k->panel[LIMN_STORE_I8X4] = panel_i8;
    k->panel[LIMN_STORE_S16X2] = panel_fix;
    k->f16_to_f32 = f16_to_f32;
    k->f32_to_f16 = f32_to_f16;
    k->transpose = transpose;
#define X(id, name, block, bytes, quant) k->expand[LIMN_##id] = expand_##id;
    LIMN_DTYPE_LIST(X)
#undef X
    k->dot = dot;
    limn_gemm_fill_quant_c(k);
}
