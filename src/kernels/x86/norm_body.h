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

static void col_add_v(float *acc, const float *x, int64_t n) {
    int64_t i = 0;
    for (; i + VF <= n; i += VF) vf_store(acc + i, vf_add(vf_load(acc + i), vf_load(x + i)));
    if (i < n)
        vf_store_n(acc + i, vf_add(vf_load_n(acc + i, n - i), vf_load_n(x + i, n - i)), n - i);
}

static void col_moments_v(float *s1, float *s2, const float *x, const float *mean, int64_t n) {
    int64_t i = 0;
    for (; i + VF <= n; i += VF) {
        vf d = vf_sub(vf_load(x + i), vf_load(mean + i));
        vf_store(s1 + i, vf_add(vf_load(s1 + i), d));
        vf_store(s2 + i, vf_fma(d, d, vf_load(s2 + i)));
    }
    if (i < n) {
        int64_t t = n - i;
        vf d = vf_sub(vf_load_n(x + i, t), vf_load_n(mean + i, t));
        vf_store_n(s1 + i, vf_add(vf_load_n(s1 + i, t), d), t);
        vf_store_n(s2 + i, vf_fma(d, d, vf_load_n(s2 + i, t)), t);
    }
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
