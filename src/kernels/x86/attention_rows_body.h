/* SPDX-License-Identifier: MIT */
/*
 * Vector bodies of the micro-kernels of attention over few queries, for any vec_*.h. Keys and
 * values are read once, widened in registers and used for up to four rows (the query heads that
 * share them), since their traffic is what decoding costs.
 */
#include "kernels/attention.h"
#include "kernels/x86/attention_load.h"
#include "kernels/x86/intrin.h"

#define ROWS_INLINE static inline __attribute__((always_inline))

/* R rows times K keys from key j: R * K sums under way. */
ROWS_INLINE void dots_block(const int R, const int K, const limn_dtype type, float *s,
                            int64_t s_stride, const float *q, const limn_attention_rows_in *x,
                            int64_t j) {
    vf acc[4][4];
    const char *row[4];
    LIMN_UNROLL
    for (int k = 0; k < K; k++) {
        int64_t key = j + k < x->keys ? j + k : x->keys - 1;
        row[k] = (const char *)x->data + key * x->stride * (type == LIMN_F32 ? 4 : 2);
        LIMN_UNROLL
        for (int r = 0; r < R; r++) acc[r][k] = vf_zero();
    }
    int64_t d = 0;
    for (; d + VF <= x->dim; d += VF) {
        vf e[4];
        LIMN_UNROLL
        for (int k = 0; k < K; k++) e[k] = load_typed(row[k], d, type, VF);
        LIMN_UNROLL
        for (int r = 0; r < R; r++) {
            vf w = vf_load(q + r * x->dim + d);
            LIMN_UNROLL
            for (int k = 0; k < K; k++) acc[r][k] = vf_fma(w, e[k], acc[r][k]);
        }
    }
    int64_t left = x->dim - d;
    vf e[4], all[8];
    LIMN_UNROLL
    for (int k = 0; k < K; k++) e[k] = left > 0 ? load_typed(row[k], d, type, left) : vf_zero();
    LIMN_UNROLL
    for (int r = 0; r < R; r++) LIMN_UNROLL
    for (int k = 0; k < K; k++) {
        vf sum = acc[r][k];
        if (left > 0) sum = vf_fma(vf_load_n(q + r * x->dim + d, left), e[k], sum);
        all[r * K + k] = sum;
        if (R * K < 8) all[4 + k] = sum;
    }
    float sums[8];
    vf_sum8(sums, all);
    for (int r = 0; r < R; r++)
        for (int k = 0; k < K && j + k < x->keys; k++) s[r * s_stride + j + k] = sums[r * K + k];
}

ROWS_INLINE void dots_typed(const limn_dtype type, float *s, int64_t s_stride, const float *q,
                            int64_t rows, const limn_attention_rows_in *x) {
    int64_t r = 0;
    for (; r + 4 <= rows; r += 4, s += 4 * s_stride, q += 4 * x->dim)
        for (int64_t j = 0; j < x->keys; j += 2) dots_block(4, 2, type, s, s_stride, q, x, j);
    for (; r + 2 <= rows; r += 2, s += 2 * s_stride, q += 2 * x->dim)
        for (int64_t j = 0; j < x->keys; j += 4) dots_block(2, 4, type, s, s_stride, q, x, j);
    for (; r < rows; r++, s += s_stride, q += x->dim)
        for (int64_t j = 0; j < x->keys; j += 4) dots_block(1, 4, type, s, s_stride, q, x, j);
}

static void dots_v(float *s, int64_t s_stride, const float *q, int64_t rows,
                   const limn_attention_rows_in *x) {
    switch (x->type) {
    case LIMN_F32: dots_typed(LIMN_F32, s, s_stride, q, rows, x); break;
    case LIMN_F16: dots_typed(LIMN_F16, s, s_stride, q, rows, x); break;
    default: dots_typed(LIMN_BF16, s, s_stride, q, rows, x); break;
    }
}

/* Columns [d, d + W VF) of R rows over all keys; W = 1 may be a tail of n columns. */
ROWS_INLINE void mix_cols(const int R, const int W, const limn_dtype type, float *o, const float *p,
                          int64_t p_stride, const limn_attention_rows_in *x, int64_t d,
                          const int64_t n) {
    vf acc[4][4];
    LIMN_UNROLL
    for (int r = 0; r < R; r++) LIMN_UNROLL
    for (int w = 0; w < W; w++) {
        const float *from = o + r * x->dim + d + w * VF;
        acc[r][w] = n == VF ? vf_load(from) : vf_load_n(from, n);
    }
    const char *row = x->data;
    for (int64_t j = 0; j < x->keys; j++, row += x->stride * (type == LIMN_F32 ? 4 : 2)) {
        vf e[4];
        LIMN_UNROLL
        for (int w = 0; w < W; w++) e[w] = load_typed(row, d + w * VF, type, n);
        LIMN_UNROLL
        for (int r = 0; r < R; r++) {
            vf weight = vf_set1(p[r * p_stride + j]);
            LIMN_UNROLL
            for (int w = 0; w < W; w++) acc[r][w] = vf_fma(weight, e[w], acc[r][w]);
        }
    }
    LIMN_UNROLL
    for (int r = 0; r < R; r++) LIMN_UNROLL
    for (int w = 0; w < W; w++) {
        float *to = o + r * x->dim + d + w * VF;
        if (n == VF)
            vf_store(to, acc[r][w]);
        else
            vf_store_n(to, acc[r][w], n);
    }
}

ROWS_INLINE void mix_rows(const int R, const int W, const limn_dtype type, float *o, const float *p,
                          int64_t p_stride, const limn_attention_rows_in *x) {
    int64_t d = 0;
    for (; d + W * VF <= x->dim; d += W * VF) mix_cols(R, W, type, o, p, p_stride, x, d, VF);
    for (; d + VF <= x->dim; d += VF) mix_cols(R, 1, type, o, p, p_stride, x, d, VF);
    if (d < x->dim) mix_cols(R, 1, type, o, p, p_stride, x, d, x->dim - d);
}

ROWS_INLINE void mix_typed(const limn_dtype type, float *o, const float *p, int64_t p_stride,
                           int64_t rows, const limn_attention_rows_in *x) {
    int64_t r = 0;
    for (; r + 4 <= rows; r += 4, o += 4 * x->dim, p += 4 * p_stride)
        mix_rows(4, 2, type, o, p, p_stride, x);
    for (; r + 2 <= rows; r += 2, o += 2 * x->dim, p += 2 * p_stride)
        mix_rows(2, 4, type, o, p, p_stride, x);
    for (; r < rows; r++, o += x->dim, p += p_stride) mix_rows(1, 4, type, o, p, p_stride, x);
}

static void mix_v(float *o, const float *p, int64_t p_stride, int64_t rows,
                  const limn_attention_rows_in *x) {
    switch (x->type) {
    case LIMN_F32: mix_typed(LIMN_F32, o, p, p_stride, rows, x); break;
    case LIMN_F16: mix_typed(LIMN_F16, o, p, p_stride, rows, x); break;
    default: mix_typed(LIMN_BF16, o, p, p_stride, rows, x); break;
    }
}
