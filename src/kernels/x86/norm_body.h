/* SPDX-License-Identifier: MIT */
/* Vector bodies of the norm micro-kernels, for any vec_*.h; see norm.h. */
#include "kernels/norm.h"
#include "kernels/x86/vec_math.h"
#include "kernels/x86/vec_typed.h"

/* Four independent sums hide the latency of the addition; pieces are short, so f32 lanes suffice.
 * Without squares only sum is made, and shift is not used. */
VEC_INLINE void piece_moments(const void *x, int64_t at, int64_t n, float shift, double *sum,
                              double *sum_sq, const bool squares, const limn_dtype type) {
    vf m = vf_set1(shift), s[4], q[4];
    for (int j = 0; j < 4; j++) s[j] = q[j] = vf_zero();
    int64_t i = 0;
    for (; i + 4 * VF <= n; i += 4 * VF)
        for (int j = 0; j < 4; j++) {
            vf d = typed_load(x, at + i + j * VF, VF, type);
            if (squares) d = vf_sub(d, m);
            s[j] = vf_add(s[j], d);
            if (squares) q[j] = vf_fma(d, d, q[j]);
        }
    for (; i < n; i += VF) {
        int64_t t = n - i < VF ? n - i : VF;
        vf d = typed_load(x, at + i, t, type);
        vf inside = vf_select(vf_lt(vf_iota(), vf_set1((float)t)), vf_set1(1.0f), vf_zero());
        if (squares) d = t == VF ? vf_sub(d, m) : vf_fnma(m, inside, d); /* outside stays 0 */
        s[0] = vf_add(s[0], d);
        if (squares) q[0] = vf_fma(d, d, q[0]);
    }
    *sum += (double)vf_sum(vf_add(vf_add(s[0], s[1]), vf_add(s[2], s[3])));
    if (squares) *sum_sq += (double)vf_sum(vf_add(vf_add(q[0], q[1]), vf_add(q[2], q[3])));
}

VEC_INLINE void sum_pieces(double *sum, const void *x, int64_t n, const limn_dtype type) {
    for (int64_t i = 0; i < n; i += LIMN_NORM_PIECE)
        piece_moments(x, i, n - i < LIMN_NORM_PIECE ? n - i : LIMN_NORM_PIECE, 0, sum, NULL, false,
                      type);
}

static double row_sum_v(const void *x, limn_dtype type, int64_t n) {
    double sum = 0;
    WITH_TYPE(type, sum_pieces, &sum, x, n)
    return sum;
}

VEC_INLINE void moments_pieces(double *sum, double *sum_sq, const void *x, float shift, int64_t n,
                               const limn_dtype type) {
    for (int64_t i = 0; i < n; i += LIMN_NORM_PIECE)
        piece_moments(x, i, n - i < LIMN_NORM_PIECE ? n - i : LIMN_NORM_PIECE, shift, sum, sum_sq,
                      true, type);
}

static void row_moments_v(const void *x, limn_dtype type, float shift, int64_t n, double *sum,
                          double *sum_sq) {
    *sum = *sum_sq = 0;
    WITH_TYPE(type, moments_pieces, sum, sum_sq, x, shift, n)
}

/* Absent weights are ones and absent biases zeros: one loop for all. */
static inline vf affine_part(const float *p, vf absent, int64_t i, int64_t n) {
    return p ? (n == VF ? vf_load(p + i) : vf_load_n(p + i, n)) : absent;
}

VEC_INLINE void row_apply_types(void *y, const void *x, const limn_norm_row *row, int64_t n,
                                const limn_dtype x_type, const limn_dtype y_type) {
    vf m = vf_set1(row->mean), r = vf_set1(row->rstd), o = vf_set1(row->offset);
    vf one = vf_set1(1.0f), zero = vf_zero();
    int64_t i = 0;
    for (; i + VF <= n; i += VF) {
        vf v = vf_fma(vf_sub(typed_load(x, i, VF, x_type), m), r, o);
        v = vf_fma(v, affine_part(row->weight, one, i, VF), affine_part(row->bias, zero, i, VF));
        typed_store(y, i, v, VF, y_type);
    }
    if (i < n) {
        vf v = vf_fma(vf_sub(typed_load(x, i, n - i, x_type), m), r, o);
        v = vf_fma(v, affine_part(row->weight, one, i, n - i),
                   affine_part(row->bias, zero, i, n - i));
        typed_store(y, i, v, n - i, y_type);
    }
}

VEC_INLINE void row_apply_from(void *y, const void *x, const limn_norm_row *row, int64_t n,
                               limn_dtype y_type, const limn_dtype x_type) {
    WITH_TYPE(y_type, row_apply_types, y, x, row, n, x_type)
}

static void row_apply_v(void *y, limn_dtype y_type, const void *x, limn_dtype x_type,
                        const limn_norm_row *row, int64_t n) {
    WITH_TYPE(x_type, row_apply_from, y, x, row, n, y_type)
}

/* VF numbers of row r from column c on; lanes from n on are zeros. */
static inline vf block_load(const limn_norm_block *b, const limn_dtype type, int64_t r, int64_t c,
                            int64_t n) {
    return typed_load(b->x, r * b->stride + c, n, type);
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
VEC_INLINE int64_t col_add_wide(float *acc, const limn_norm_block *b, int64_t i, int64_t n,
                                const limn_dtype type, const int wide) {
    for (; wide == 1 ? i < n : i + wide * VF <= n; i += wide * VF) {
        vf a[8];
        const int64_t w = wide > 1 ? VF : n - i;
        for (int j = 0; j < wide; j++) a[j] = part_load(acc + i + j * VF, w);
        for (int64_t r = 0; r < b->rows; r++)
            for (int j = 0; j < wide; j++)
                a[j] = vf_add(a[j], block_load(b, type, r, i + j * VF, w));
        for (int j = 0; j < wide; j++) part_store(acc + i + j * VF, a[j], w);
    }
    return i;
}

VEC_INLINE int64_t col_moments_wide(float *s1, float *s2, const limn_norm_block *b,
                                    const float *mean, int64_t i, int64_t n, const limn_dtype type,
                                    const int wide) {
    for (; wide == 1 ? i < n : i + wide * VF <= n; i += wide * VF) {
        vf s[4], q[4], m[4];
        const int64_t w = wide > 1 ? VF : n - i;
        for (int j = 0; j < wide; j++) {
            s[j] = part_load(s1 + i + j * VF, w);
            q[j] = part_load(s2 + i + j * VF, w);
            m[j] = part_load(mean + i + j * VF, w);
        }
        for (int64_t r = 0; r < b->rows; r++)
            for (int j = 0; j < wide; j++) {
                vf d = vf_sub(block_load(b, type, r, i + j * VF, w), m[j]);
                s[j] = vf_add(s[j], d);
                q[j] = vf_fma(d, d, q[j]);
            }
        for (int j = 0; j < wide; j++) {
            part_store(s1 + i + j * VF, s[j], w);
            part_store(s2 + i + j * VF, q[j], w);
        }
    }
    return i;
}

VEC_INLINE void col_add_type(float *acc, const limn_norm_block *b, int64_t n,
                             const limn_dtype type) {
    int64_t i = col_add_wide(acc, b, 0, n, type, 8);
    i = col_add_wide(acc, b, i, n, type, 4);
    col_add_wide(acc, b, i, n, type, 1);
}

static void col_add_v(float *acc, const limn_norm_block *b,
                      int64_t n){WITH_TYPE(b->type, col_add_type, acc, b, n)}

VEC_INLINE void col_moments_type(float *s1, float *s2, const limn_norm_block *b, const float *mean,
                                 int64_t n, const limn_dtype type) {
    int64_t i = col_moments_wide(s1, s2, b, mean, 0, n, type, 4);
    col_moments_wide(s1, s2, b, mean, i, n, type, 1);
}

static void col_moments_v(float *s1, float *s2, const limn_norm_block *b, const float *mean,
                          int64_t n) {
    WITH_TYPE(b->type, col_moments_type, s1, s2, b, mean, n)
}

typedef struct col_apply_args {
    limn_rows y;
    limn_norm_block x;
    const float *mean, *scale, *bias; /* bias may be NULL */
    int64_t n;
} col_apply_args;

/* Columns [i, i + n), n <= VF, of a row that begins at elements y_at and x_at. */
VEC_INLINE void apply_part(const col_apply_args *a, int64_t y_at, int64_t x_at, int64_t i,
                           int64_t n, const bool biased, const bool silu, const limn_dtype x_type,
                           const limn_dtype y_type) {
    vf d = vf_sub(typed_load(a->x.x, x_at + i, n, x_type), part_load(a->mean + i, n));
    vf v = vf_fma(d, part_load(a->scale + i, n), biased ? part_load(a->bias + i, n) : vf_zero());
    typed_store(a->y.data, y_at + i, silu ? vm_silu(v) : v, n, y_type);
}

VEC_INLINE void col_apply_types(const col_apply_args *args, bool silu, const limn_dtype x_type,
                                const limn_dtype y_type) {
    const col_apply_args a = *args; /* y might be anything, but not these */
    for (int64_t r = 0; r < a.x.rows; r++) {
        int64_t i = 0, ya = r * a.y.stride, xa = r * a.x.stride;
        if (silu && a.bias)
            for (; i + VF <= a.n; i += VF)
                apply_part(&a, ya, xa, i, VF, true, true, x_type, y_type);
        else if (a.bias)
            for (; i + VF <= a.n; i += VF)
                apply_part(&a, ya, xa, i, VF, true, false, x_type, y_type);
        else
            for (; i + VF <= a.n; i += VF)
                apply_part(&a, ya, xa, i, VF, false, silu, x_type, y_type);
        if (i < a.n) apply_part(&a, ya, xa, i, a.n - i, a.bias, silu, x_type, y_type);
    }
}

VEC_INLINE void col_apply_from(const col_apply_args *a, bool silu, limn_dtype y_type,
                               const limn_dtype x_type) {
    WITH_TYPE(y_type, col_apply_types, a, silu, x_type)
}

static void col_apply_v(const limn_rows *y, const limn_norm_block *x, const float *mean,
                        const float *scale, const float *bias, bool silu, int64_t n) {
    col_apply_args a = {*y, *x, mean, scale, bias, n};
    WITH_TYPE(x->type, col_apply_from, &a, silu, y->type)
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
        .row_sum = row_sum_v,
        .row_moments = row_moments_v,
        .row_apply = row_apply_v,
        .col_add = col_add_v,
        .col_moments = col_moments_v,
        .col_apply = col_apply_v,
        .scale_mask_max = scale_mask_max_v,
        .exp_sum = exp_sum_v,
    };
}
