/* SPDX-License-Identifier: MIT */
/* The specification of the micro-kernels of norm.h: plain loops. */
#include <math.h>

#include "kernels/norm.h"
#include "kernels/rowio.h"

static double row_sum_c(const void *x, limn_dtype type, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)limn_rowio_get(x, type, i);
    return sum;
}

static void row_moments_c(const void *x, limn_dtype type, float shift, int64_t n, double *sum,
                          double *sum_sq) {
    *sum = *sum_sq = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = (double)limn_rowio_get(x, type, i) - (double)shift;
        *sum += d;
        *sum_sq += d * d;
    }
}

static float block_at(const limn_norm_block *b, int64_t row, int64_t col) {
    return limn_rowio_get(b->x, b->type, row * b->stride + col);
}

static void row_apply_c(const limn_rows *y, const limn_norm_block *x, const limn_norm_row *row,
                        const float *weight, const float *bias, int64_t n) {
    for (int64_t r = 0; r < x->rows; r++)
        for (int64_t i = 0; i < n; i++) {
            float v = (block_at(x, r, i) - row[r].mean) * row[r].rstd + row[r].offset;
            if (weight) v *= weight[i];
            if (bias) v += bias[i];
            limn_rowio_put(y->data, y->type, r * y->stride + i, v);
        }
}

static void col_add_c(float *acc, const limn_norm_block *b, int64_t n) {
    for (int64_t r = 0; r < b->rows; r++)
        for (int64_t i = 0; i < n; i++) acc[i] += block_at(b, r, i);
}

static void col_moments_c(float *s1, float *s2, const limn_norm_block *b, const float *mean,
                          int64_t n) {
    for (int64_t r = 0; r < b->rows; r++)
        for (int64_t i = 0; i < n; i++) {
            float d = block_at(b, r, i) - mean[i];
            s1[i] += d;
            s2[i] += d * d;
        }
}

static void col_apply_c(const limn_rows *y, const limn_norm_block *x, const float *mean,
                        const float *scale, const float *bias, bool silu, int64_t n) {
    for (int64_t r = 0; r < x->rows; r++)
        for (int64_t i = 0; i < n; i++) {
            float v = (block_at(x, r, i) - mean[i]) * scale[i] + (bias ? bias[i] : 0.0f);
            limn_rowio_put(y->data, y->type, r * y->stride + i,
                           silu ? (float)(v / (1.0 + exp(-(double)v))) : v);
        }
}

static float scale_mask_max_c(float *y, const float *x, const float *mask, float scale, int64_t n) {
    float top = -INFINITY;
    for (int64_t i = 0; i < n; i++) {
        y[i] = x[i] * scale + (mask ? mask[i] : 0.0f);
        if (y[i] > top) top = y[i];
    }
    return top;
}

static double exp_sum_c(float *x, float shift, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        x[i] = (float)exp((double)x[i] - (double)shift);
        sum += (double)x[i];
    }
    return sum;
}

void limn_norm_fill_c(limn_norm_kernels *m) {
    *m = (limn_norm_kernels){
        .row_sum = row_sum_c,
        .row_moments = row_moments_c,
        .row_apply = row_apply_c,
        .col_add = col_add_c,
        .col_moments = col_moments_c,
        .col_apply = col_apply_c,
        .scale_mask_max = scale_mask_max_c,
        .exp_sum = exp_sum_c,
    };
}
