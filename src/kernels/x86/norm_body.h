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

enum { ROWS_AT_ONCE = 4 };

/* v[k * wide + w] goes to vector w of row r + k. */
VEC_INLINE void store_rows(const limn_rows *y, int64_t r, int64_t i, int64_t n, const vf *v,
                           const int rows, const int wide, const limn_dtype type) {
    LIMN_UNROLL
    for (int k = 0; k < rows; k++) {
        int64_t at = (r + k) * y->stride + i;
        if (wide == 2)
            typed_store2(y->data, at, v[2 * k], v[2 * k + 1], type);
        else
            typed_store(y->data, at, v[k], n, type);
    }
}

/* As many columns as fit two vectors a row at once, the rest in single vectors. */
#define EACH_PART(PART, n, ...)                                                                    \
    do {                                                                                           \
        int64_t i_ = 0;                                                                            \
        for (; i_ + 2 * VF <= (n); i_ += 2 * VF) PART(__VA_ARGS__, i_, 2 * VF, 2);                 \
        for (; i_ < (n); i_ += VF) PART(__VA_ARGS__, i_, (n)-i_, 1);                               \
    } while (0)

typedef struct row_apply_args {
    limn_rows y;
    limn_norm_block x;
    const float *weight, *bias; /* NULL: ones, zeros */
} row_apply_args;

/* Columns [i, i + n) of rows [r, r + rows), in `wide` vectors a row; n is less than a vector only
 * when wide is 1. */
VEC_INLINE void row_part(const row_apply_args *a, const limn_norm_row *row, int64_t r,
                         const int rows, const limn_dtype x_type, const limn_dtype y_type,
                         int64_t i, int64_t n, const int wide) {
    vf v[2 * ROWS_AT_ONCE];
    LIMN_UNROLL
    for (int w = 0; w < wide; w++) {
        const int64_t c = i + w * VF, part = wide > 1 ? VF : n;
        vf weight = a->weight ? part_load(a->weight + c, part) : vf_set1(1.0f);
        vf bias = a->bias ? part_load(a->bias + c, part) : vf_zero();
        LIMN_UNROLL
        for (int k = 0; k < rows; k++) {
            vf x = block_load(&a->x, x_type, r + k, c, part), m = vf_set1(row[k].mean);
            vf s = vf_set1(row[k].rstd), o = vf_set1(row[k].offset);
            v[k * wide + w] = vf_fma(vf_fma(vf_sub(x, m), s, o), weight, bias);
        }
    }
    store_rows(&a->y, r, i, n, v, rows, wide, y_type);
}

VEC_INLINE void row_apply_types(const row_apply_args *args, const limn_norm_row *row, int64_t n,
                                const limn_dtype x_type, const limn_dtype y_type) {
    const row_apply_args a = *args; /* y might be anything, but not these */
    int64_t r = 0;
    for (; r + ROWS_AT_ONCE <= a.x.rows; r += ROWS_AT_ONCE)
        EACH_PART(row_part, n, &a, row + r, r, ROWS_AT_ONCE, x_type, y_type);
    for (; r < a.x.rows; r++) EACH_PART(row_part, n, &a, row + r, r, 1, x_type, y_type);
}

VEC_INLINE void row_apply_from(const row_apply_args *a, const limn_norm_row *row, int64_t n,
                               limn_dtype y_type, const limn_dtype x_type) {
    WITH_TYPE(y_type, row_apply_types, a, row, n, x_type)
}

static void row_apply_v(const limn_rows *y, const limn_norm_block *x, const limn_norm_row *row,
                        const float *weight, const float *bias, int64_t n) {
    row_apply_args a = {*y, *x, weight, bias};
    WITH_TYPE(x->type, row_apply_from, &a, row, n, y->type)
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

/* Rows from one row to the one whose cache lines are asked for meanwhile, in rows of n columns. */
static inline int64_t rows_ahead(int64_t n) {
    enum { COLUMNS = 5120 };
    return n > 0 && n < COLUMNS
               ? (COLUMNS + ROWS_AT_ONCE * n - 1) / (ROWS_AT_ONCE * n) * ROWS_AT_ONCE
               : ROWS_AT_ONCE;
}

/* The row that is asked for beside row r; never one behind the block. */
static inline int64_t row_ahead(int64_t rows, int64_t r, int64_t ahead) {
    return r + ahead + ROWS_AT_ONCE <= rows ? r + ahead : rows - ROWS_AT_ONCE;
}

VEC_INLINE void fetch_columns(const void *x, int64_t stride, int64_t r, int64_t i, int64_t n,
                              const limn_dtype type) {
    const int64_t size = type == LIMN_F32 ? 4 : 2;
    LIMN_UNROLL
    for (int k = 0; k < ROWS_AT_ONCE; k++)
        for (int64_t b = 0; b < n * size; b += 64)
            __builtin_prefetch((const char *)x + ((r + k) * stride + i) * size + b, 0, 3);
}

typedef struct moments_args {
    limn_norm_block b;
    float *s1, *s2;
    const float *mean;
} moments_args;

/* Columns [i, i + n) of rows [r, r + rows): the sums are in the first-level cache, so that the rows
 * go by as they lie in memory. */
VEC_INLINE void moments_part(const moments_args *a, int64_t r, int64_t ahead, const int rows,
                             const limn_dtype type, int64_t i, int64_t n, const int wide) {
    if (rows > 1 && wide > 1) fetch_columns(a->b.x, a->b.stride, ahead, i, n, type);
    LIMN_UNROLL
    for (int w = 0; w < wide; w++) {
        const int64_t c = i + w * VF, part = wide > 1 ? VF : n;
        vf s = part_load(a->s1 + c, part), q = part_load(a->s2 + c, part);
        vf m = part_load(a->mean + c, part);
        LIMN_UNROLL
        for (int k = 0; k < rows; k++) {
            vf d = vf_sub(block_load(&a->b, type, r + k, c, part), m);
            s = vf_add(s, d);
            q = vf_fma(d, d, q);
        }
        part_store(a->s1 + c, s, part);
        part_store(a->s2 + c, q, part);
    }
}

VEC_INLINE void col_add_type(float *acc, const limn_norm_block *b, int64_t n,
                             const limn_dtype type) {
    int64_t i = col_add_wide(acc, b, 0, n, type, 8);
    i = col_add_wide(acc, b, i, n, type, 4);
    col_add_wide(acc, b, i, n, type, 1);
}

static void col_add_v(float *acc, const limn_norm_block *b,
                      int64_t n){WITH_TYPE(b->type, col_add_type, acc, b, n)}

VEC_INLINE void col_moments_type(const moments_args *args, int64_t n, const limn_dtype type) {
    const moments_args a = *args;
    int64_t r = 0, ahead = rows_ahead(n);
    for (; r + ROWS_AT_ONCE <= a.b.rows; r += ROWS_AT_ONCE)
        EACH_PART(moments_part, n, &a, r, row_ahead(a.b.rows, r, ahead), ROWS_AT_ONCE, type);
    for (; r < a.b.rows; r++) EACH_PART(moments_part, n, &a, r, r, 1, type);
}

static void col_moments_v(float *s1, float *s2, const limn_norm_block *b, const float *mean,
                          int64_t n) {
    moments_args a = {*b, s1, s2, mean};
    WITH_TYPE(b->type, col_moments_type, &a, n)
}

typedef struct col_apply_args {
    limn_rows y;
    limn_norm_block x;
    const float *mean, *scale, *bias; /* bias may be NULL */
    int64_t n;
} col_apply_args;

/* As row_part, by columns. */
VEC_INLINE void apply_part(const col_apply_args *a, int64_t r, int64_t ahead, const int rows,
                           const bool silu, const limn_dtype x_type, const limn_dtype y_type,
                           int64_t i, int64_t n, const int wide) {
    vf v[2 * ROWS_AT_ONCE];
    if (rows > 1 && wide > 1) fetch_columns(a->x.x, a->x.stride, ahead, i, n, x_type);
    LIMN_UNROLL
    for (int w = 0; w < wide; w++) {
        const int64_t c = i + w * VF, part = wide > 1 ? VF : n;
        vf mean = part_load(a->mean + c, part), scale = part_load(a->scale + c, part);
        vf bias = a->bias ? part_load(a->bias + c, part) : vf_zero();
        LIMN_UNROLL
        for (int k = 0; k < rows; k++) {
            vf x = block_load(&a->x, x_type, r + k, c, part);
            v[k * wide + w] = vf_fma(vf_sub(x, mean), scale, bias);
        }
    }
    if (silu && y_type == LIMN_BF16)
        vm_silu_short(v, rows * wide);
    else if (silu)
        for (int k = 0; k < rows * wide; k++) v[k] = vm_silu(v[k]);
    store_rows(&a->y, r, i, n, v, rows, wide, y_type);
}

VEC_INLINE void apply_all(const col_apply_args *a, const bool silu, const limn_dtype x_type,
                          const limn_dtype y_type) {
    int64_t r = 0, rows = a->x.rows, ahead = rows_ahead(a->n);
    for (; r + ROWS_AT_ONCE <= rows; r += ROWS_AT_ONCE)
        EACH_PART(apply_part, a->n, a, r, row_ahead(rows, r, ahead), ROWS_AT_ONCE, silu, x_type,
                  y_type);
    for (; r < rows; r++) EACH_PART(apply_part, a->n, a, r, r, 1, silu, x_type, y_type);
}

VEC_INLINE void col_apply_types(const col_apply_args *args, bool silu, const limn_dtype x_type,
                                const limn_dtype y_type) {
    const col_apply_args a = *args; /* y might be anything, but not these */
    if (silu)
        apply_all(&a, true, x_type, y_type);
    else
        apply_all(&a, false, x_type, y_type);
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
