/* SPDX-License-Identifier: MIT */
/* Vector bodies of the norm micro-kernels, for any vec_*.h; see norm.h. */
#include "kernels/norm.h"
#include "kernels/x86/vec_math.h"

/* Four independent sums hide the latency of the addition; pieces are short, so f32 lanes suffice
 * and the caller goes on in f64. */
static void moments_v(const float *x, float shift, int64_t n, double *sum, double *sum_sq) {
    vf m = vf_set1(shift), s[4], q[4];
    for (int j = 0; j < 4; j++) s[j] = q[j] = vf_zero();
    int64_t i = 0;
    for (; i + 4 * VF <= n; i += 4 * VF)
        for (int j = 0; j < 4; j++) {
            vf d = vf_sub(vf_load(x + i + j * VF), m);
            s[j] = vf_add(s[j], d);
            q[j] = vf_fma(d, d, q[j]);
        }
    for (; i < n; i += VF) {
        int64_t t = n - i < VF ? n - i : VF;
        vf inside = vf_select(vf_lt(vf_iota(), vf_set1((float)t)), vf_set1(1.0f), vf_zero());
        vf d = t == VF ? vf_sub(vf_load(x + i), m)
                       : vf_fnma(m, inside, vf_load_n(x + i, t)); /* lanes outside stay 0 */
        s[0] = vf_add(s[0], d);
        q[0] = vf_fma(d, d, q[0]);
    }
    *sum += (double)vf_sum(vf_add(vf_add(s[0], s[1]), vf_add(s[2], s[3])));
    *sum_sq += (double)vf_sum(vf_add(vf_add(q[0], q[1]), vf_add(q[2], q[3])));
}

/* Absent weights are ones and absent biases zeros: one loop for all. */
static inline vf affine_part(const float *p, vf absent, int64_t i, int64_t n) {
    return p ? (n == VF ? vf_load(p + i) : vf_load_n(p + i, n)) : absent;
}

static void apply_v(float *y, const float *x, float mean, float rstd, float offset,
                    const float *weight, const float *bias, int64_t n) {
    vf m = vf_set1(mean), r = vf_set1(rstd), o = vf_set1(offset), one = vf_set1(1.0f),
       zero = vf_zero();
    int64_t i = 0;
    for (; i + VF <= n; i += VF) {
        vf v = vf_fma(vf_sub(vf_load(x + i), m), r, o);
        v = vf_fma(v, affine_part(weight, one, i, VF), affine_part(bias, zero, i, VF));
        vf_store(y + i, v);
    }
    if (i < n) {
        vf v = vf_fma(vf_sub(vf_load_n(x + i, n - i), m), r, o);
        v = vf_fma(v, affine_part(weight, one, i, n - i), affine_part(bias, zero, i, n - i));
        vf_store_n(y + i, v, n - i);
    }
}

/* VF numbers of row r from column c on; lanes from n on are zeros. */
static inline vf block_load(const limn_norm_block *b, const limn_dtype type, int64_t r, int64_t c,
                            int64_t n) {
    const char *p = (const char *)b->x + (r * b->stride + c) * (type == LIMN_F32 ? 4 : 2);
    uint16_t part[VF] = {0};
    if (type == LIMN_F32)
        return n >= VF ? vf_load((const float *)(const void *)p)
                       : vf_load_n((const float *)(const void *)p, n);
    if (n < VF) p = memcpy(part, p, (size_t)n * sizeof *part);
    return type == LIMN_BF16 ? vf_load_bf16((const uint16_t *)(const void *)p)
                             : vf_load_f16((const uint16_t *)(const void *)p);
}

static inline vf part_load(const float *p, int64_t n) {
    return n >= VF ? vf_load(p) : vf_load_n(p, n);
}

static inline void part_store(float *p, vf v, int64_t n) {
    if (n >= VF)
        vf_store(p, v);
    else
        vf_store_n(p, v, n);
}

/* `wide` vectors of columns at once: their sums stay in registers while the rows go by. */
static inline __attribute__((always_inline)) int64_t col_add_wide(float *acc,
                                                                  const limn_norm_block *b,
                                                                  int64_t i, int64_t n,
                                                                  const limn_dtype type,
                                                                  const int wide) {
    for (; wide == 1 ? i < n : i + wide * VF <= n; i += wide * VF) {
        vf a[8];
        for (int j = 0; j < wide; j++) a[j] = part_load(acc + i + j * VF, n - i);
        for (int64_t r = 0; r < b->rows; r++)
            for (int j = 0; j < wide; j++)
                a[j] = vf_add(a[j], block_load(b, type, r, i + j * VF, n - i));
        for (int j = 0; j < wide; j++) part_store(acc + i + j * VF, a[j], n - i);
    }
    return i;
}

static inline __attribute__((always_inline)) int64_t col_moments_wide(
    float *s1, float *s2, const limn_norm_block *b, const float *mean, int64_t i, int64_t n,
    const limn_dtype type, const int wide) {
    for (; wide == 1 ? i < n : i + wide * VF <= n; i += wide * VF) {
        vf s[4], q[4], m[4];
        for (int j = 0; j < wide; j++) {
            s[j] = part_load(s1 + i + j * VF, n - i);
            q[j] = part_load(s2 + i + j * VF, n - i);
            m[j] = part_load(mean + i + j * VF, n - i);
        }
        for (int64_t r = 0; r < b->rows; r++)
            for (int j = 0; j < wide; j++) {
                vf d = vf_sub(block_load(b, type, r, i + j * VF, n - i), m[j]);
                s[j] = vf_add(s[j], d);
                q[j] = vf_fma(d, d, q[j]);
            }
        for (int j = 0; j < wide; j++) {
            part_store(s1 + i + j * VF, s[j], n - i);
            part_store(s2 + i + j * VF, q[j], n - i);
        }
    }
    return i;
}

#define COLUMNS_OF_TYPE(NAME, WIDE, LAST, ...)                                                     \
    switch (b->type) {                                                                             \
    case LIMN_F32:                                                                                 \
        NAME(__VA_ARGS__, NAME(__VA_ARGS__, 0, LAST, LIMN_F32, WIDE), LAST, LIMN_F32, 1);          \
        break;                                                                                     \
    case LIMN_BF16:                                                                                \
        NAME(__VA_ARGS__, NAME(__VA_ARGS__, 0, LAST, LIMN_BF16, WIDE), LAST, LIMN_BF16, 1);        \
        break;                                                                                     \
    default: NAME(__VA_ARGS__, NAME(__VA_ARGS__, 0, LAST, LIMN_F16, WIDE), LAST, LIMN_F16, 1);     \
    }

static void col_add_v(float *acc, const limn_norm_block *b, int64_t n) {
    COLUMNS_OF_TYPE(col_add_wide, 8, n, acc, b)
}

static void col_moments_v(float *s1, float *s2, const limn_norm_block *b, const float *mean,
                          int64_t n) {
    COLUMNS_OF_TYPE(col_moments_wide, 4, n, s1, s2, b, mean)
}

static void col_apply_v(float *y, const float *x, const float *mean, const float *scale,
                        const float *bias, bool silu, int64_t n) {
    int64_t i = 0;
    for (; i + VF <= n; i += VF) {
        vf d = vf_sub(vf_load(x + i), vf_load(mean + i));
        vf v = vf_fma(d, vf_load(scale + i), vf_load(bias + i));
        vf_store(y + i, silu ? vm_silu(v) : v);
    }
    if (i < n) {
        int64_t t = n - i;
        vf d = vf_sub(vf_load_n(x + i, t), vf_load_n(mean + i, t));
        vf v = vf_fma(d, vf_load_n(scale + i, t), vf_load_n(bias + i, t));
        vf_store_n(y + i, silu ? vm_silu(v) : v, t);
    }
}

static float scale_mask_max_v(float *y, const float *x, const float *mask, float scale, int64_t n) {
    vf s = vf_set1(scale), low = vf_set1(-INFINITY), top = low;
    int64_t i = 0;
    for (; i + VF <= n; i += VF) {
        vf v = vf_mul(vf_load(x + i), s);
        if (mask) v = vf_add(v, vf_load(mask + i));
        vf_store(y + i, v);
        top = vf_max(v, top); /* a NaN score leaves the maximum alone */
    }
    if (i < n) {
        vf v = vf_mul(vf_load_n(x + i, n - i), s);
        if (mask) v = vf_add(v, vf_load_n(mask + i, n - i));
        vf_store_n(y + i, v, n - i);
        top = vf_max(vf_select(vf_lt(vf_iota(), vf_set1((float)(n - i))), v, low), top);
    }
    return vf_top(top);
}

static double exp_sum_v(float *x, float shift, int64_t n) {
    vf m = vf_set1(shift), sum = vf_zero();
    int64_t i = 0;
    for (; i + VF <= n; i += VF) {
        vf e = vm_exp(vf_sub(vf_load(x + i), m));
        vf_store(x + i, e);
        sum = vf_add(sum, e);
    }
    if (i < n) {
        vf e = vm_exp(vf_sub(vf_load_n(x + i, n - i), m));
        vf_store_n(x + i, e, n - i);
        sum = vf_add(sum, vf_select(vf_lt(vf_iota(), vf_set1((float)(n - i))), e, vf_zero()));
    }
    return (double)vf_sum(sum);
}

static void norm_fill(limn_norm_kernels *m) {
    *m = (limn_norm_kernels){
        .moments = moments_v,
        .apply = apply_v,
        .col_add = col_add_v,
        .col_moments = col_moments_v,
        .col_apply = col_apply_v,
        .scale_mask_max = scale_mask_max_v,
        .exp_sum = exp_sum_v,
    };
}
