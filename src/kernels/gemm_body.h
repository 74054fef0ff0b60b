/* SPDX-License-Identifier: MIT */
/*
 * The parts of the gemm table that are plain loops: the way out of a tile and the conversions.
 * gemm_c.c and every instruction set's file include this and let the compiler vectorise it with
 * their own flags; all floating-point operations are single ones, so all give the same bits.
 */
#ifndef LIMN_KERNELS_GEMM_BODY_H
#define LIMN_KERNELS_GEMM_BODY_H

#include <string.h>

#include "kernels/gemm.h"
#include "kernels/vmath.h"

#define LIMN_INLINE static inline __attribute__((always_inline))

enum { GEMM_NR_MAX = 64 };
enum { IO_NONE, IO_F32, IO_BF16 };

static inline float body_bf16(uint16_t h) {
    uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}

/* Branch-free twin of limn_f32_to_bf16. */
static inline uint16_t body_to_bf16(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    uint32_t rounded = (u + 0x7fff + ((u >> 16) & 1)) >> 16;
    uint32_t nan = (u >> 16) | 0x40;
    return (uint16_t)((u & 0x7fffffff) > 0x7f800000 ? nan : rounded);
}

/* y = (c + bias) * scale + res for one row; `n` is nr when the panel is whole. */
LIMN_INLINE void body_store(const limn_gemm_finish *f, int r, const float *c, const float *bias,
                            const int n, const int res, const int out) {
    size_t at = (size_t)r * (size_t)f->res_stride;
    const float *rf = f->res ? (const float *)f->res + at : NULL;
    const uint16_t *rh = f->res ? (const uint16_t *)f->res + at : NULL;
    float *yf = (float *)f->y + (size_t)r * (size_t)f->y_stride;
    uint16_t *yh = (uint16_t *)f->y + (size_t)r * (size_t)f->y_stride;
    float scale = f->scale;
    for (int j = 0; j < n; j++) {
        float v = (c[j] + bias[j]) * scale;
        if (res == IO_F32) v += rf[j];
        if (res == IO_BF16) v += body_bf16(rh[j]);
        if (out == IO_F32)
            yf[j] = v;
        else
            yh[j] = body_to_bf16(v);
    }
}

#define BODY_ACT_LOOP(A)                                                                           \
    case A:                                                                                        \
        for (int j = 0; j < nr; j++) c[j] = limn_vact(A, f->slope, c[j] + bias[j]);                \
        return

/* c = act(c + bias), in place */
LIMN_INLINE void body_act(const limn_gemm_finish *f, float *c, const float *bias, const int nr) {
    switch (f->act) {
        BODY_ACT_LOOP(LIMN_ACT_SILU);
        BODY_ACT_LOOP(LIMN_ACT_GELU);
        BODY_ACT_LOOP(LIMN_ACT_GELU_TANH);
        BODY_ACT_LOOP(LIMN_ACT_QUICK_GELU);
        BODY_ACT_LOOP(LIMN_ACT_RELU);
        BODY_ACT_LOOP(LIMN_ACT_LEAKY_RELU);
        BODY_ACT_LOOP(LIMN_ACT_TANH);
        BODY_ACT_LOOP(LIMN_ACT_SIGMOID);
    default:
        for (int j = 0; j < nr; j++) c[j] += bias[j];
        return;
    }
}

/* c = activation scale * weight scale * (sum - correction), in place from s32 */
LIMN_INLINE void body_dequant(const limn_gemm_finish *f, float *c, float row_scale) {
    for (int j = 0; j < f->n; j++) {
        int32_t sum, fix = f->col_fix ? f->col_fix[j] * 128 : 0; /* x codes were shifted by 128 */
        memcpy(&sum, c + j, sizeof sum);
        c[j] = (float)(sum - fix) * (row_scale * f->col_scale[j]);
    }
}

/* All that is not a plain bias: int8 scales, rows added per image, activation; in place. */
LIMN_INLINE void body_prepare(const limn_gemm_finish *f, const int nr) {
    float bias[GEMM_NR_MAX] = {0};
    int64_t group = -1;
    if (f->bias) memcpy(bias, f->bias, (size_t)f->n * sizeof *bias);
    for (int r = 0; r < f->m; r++) {
        float *c = f->c + (size_t)r * (size_t)nr;
        if (f->add && (f->row0 + r) / f->add_rows != group) {
            group = (f->row0 + r) / f->add_rows;
            const float *add = f->add + group * f->add_stride;
            for (int j = 0; j < f->n; j++) bias[j] = (f->bias ? f->bias[j] : 0.0f) + add[j];
        }
        if (f->row_scale) body_dequant(f, c, f->row_scale[r]);
        body_act(f, c, bias, nr);
    }
}

LIMN_INLINE void body_rows(const limn_gemm_finish *f, const int nr, const int res, const int out) {
    float bias[GEMM_NR_MAX] = {0};
    if (f->act == LIMN_ACT_NONE && !f->add && !f->row_scale && f->bias)
        memcpy(bias, f->bias, (size_t)f->n * sizeof *bias);
    for (int r = 0; r < f->m; r++) {
        const float *c = f->c + (size_t)r * (size_t)nr;
        if (f->n == nr)
            body_store(f, r, c, bias, nr, res, out);
        else
            body_store(f, r, c, bias, f->n, res, out);
    }
}

LIMN_INLINE void body_finish(const limn_gemm_finish *f, const int nr) {
    if (f->act != LIMN_ACT_NONE || f->add || f->row_scale) body_prepare(f, nr);
    int res = !f->res ? IO_NONE : f->res_bf16 ? IO_BF16 : IO_F32;
    if (f->y_bf16) {
        if (res == IO_NONE)
            body_rows(f, nr, IO_NONE, IO_BF16);
        else if (res == IO_F32)
            body_rows(f, nr, IO_F32, IO_BF16);
        else
            body_rows(f, nr, IO_BF16, IO_BF16);
    } else {
        if (res == IO_NONE)
            body_rows(f, nr, IO_NONE, IO_F32);
        else if (res == IO_F32)
            body_rows(f, nr, IO_F32, IO_F32);
        else
            body_rows(f, nr, IO_BF16, IO_F32);
    }
}

LIMN_INLINE void body_bf16_to_f32(float *dst, const uint16_t *src, size_t n) {
    for (size_t i = 0; i < n; i++) dst[i] = body_bf16(src[i]);
}

LIMN_INLINE void body_f32_to_bf16(uint16_t *dst, const float *src, size_t n) {
    for (size_t i = 0; i < n; i++) dst[i] = body_to_bf16(src[i]);
}

/* Nearest code in [-127, 127], ties to even; NaN becomes 0 */
static inline int32_t body_code(float f) {
    const float round_magic = 12582912.0f;
    f = f > -127.0f ? f : f != f ? 0.0f : -127.0f;
    f = f < 127.0f ? f : 127.0f;
    f += round_magic;
    int32_t i;
    memcpy(&i, &f, 4);
    return i - 0x4b400000;
}

LIMN_INLINE void body_quantise_u8(uint8_t *dst, const float *src, size_t n, float inv) {
    for (size_t i = 0; i < n; i++) dst[i] = (uint8_t)(body_code(src[i] * inv) + 128);
}

LIMN_INLINE void body_quantise_s16(int16_t *dst, const float *src, size_t n, float inv) {
    for (size_t i = 0; i < n; i++) dst[i] = (int16_t)body_code(src[i] * inv);
}

/* Eight running maxima, so that it vectorises; a maximum does not depend on the order. */
LIMN_INLINE float body_max_abs(const float *src, size_t n) {
    float m[16] = {0};
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (int j = 0; j < 16; j++) {
            float a = __builtin_fabsf(src[i + (size_t)j]);
            m[j] = a > m[j] ? a : m[j];
        }
    for (; i < n; i++) {
        float a = __builtin_fabsf(src[i]);
        m[0] = a > m[0] ? a : m[0];
    }
    for (int j = 1; j < 16; j++) m[0] = m[j] > m[0] ? m[j] : m[0];
    return m[0];
}

/* One block in fixed point. Blocks whose numbers are all below 2^-100 count as zeros. */
LIMN_INLINE void body_fix_block(int16_t *dst, float *scale, const float *src, size_t n, float top) {
    uint32_t most = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, src + i, 4);
        u &= 0x7fffffff;
        most = u > most ? u : most;
    }
    float amax;
    memcpy(&amax, &most, 4);
    bool finite = most < 0x7f800000, some = finite && amax >= 0x1p-100f;
    float inv = some ? top / amax : 0;
    for (size_t i = 0; i < n; i++) {
        const float round_magic = 12582912.0f;
        float f = (finite ? src[i] : 0.0f) * inv + round_magic;
        int32_t code;
        memcpy(&code, &f, 4);
        dst[i] = (int16_t)(code - 0x4b400000);
    }
    *scale = finite ? (some ? amax / top : 0) : __builtin_nanf("");
}

LIMN_INLINE void body_fix_row(int16_t *dst, float *scales, const float *src, size_t n, size_t block,
                              float top) {
    for (size_t i = 0, b = 0; i < n; i += block, b++)
        body_fix_block(dst + i, scales + b, src + i, n - i < block ? n - i : block, top);
}

/* Defines the plain-loop members for one table and a function that sets them. */
#define LIMN_GEMM_BODY(NR)                                                                         \
    static void finish(const limn_gemm_finish *f) {                                                \
        body_finish(f, NR);                                                                        \
    }                                                                                              \
    static void bf16_to_f32(float *dst, const uint16_t *src, size_t n) {                           \
        body_bf16_to_f32(dst, src, n);                                                             \
    }                                                                                              \
    static void f32_to_bf16(uint16_t *dst, const float *src, size_t n) {                           \
        body_f32_to_bf16(dst, src, n);                                                             \
    }                                                                                              \
    static void quantise_u8(uint8_t *dst, const float *src, size_t n, float inv) {                 \
        body_quantise_u8(dst, src, n, inv);                                                        \
    }                                                                                              \
    static void quantise_s16(int16_t *dst, const float *src, size_t n, float inv) {                \
        body_quantise_s16(dst, src, n, inv);                                                       \
    }                                                                                              \
    static float max_abs(const float *src, size_t n) {                                             \
        return body_max_abs(src, n);                                                               \
    }                                                                                              \
    static void fix_row(int16_t *dst, float *scales, const float *src, size_t n, size_t block,     \
                        float top) {                                                               \
        body_fix_row(dst, scales, src, n, block, top);                                             \
    }                                                                                              \
    static void set_body(limn_gemm_kernels *k) {                                                   \
        k->fix_row = fix_row;                                                                      \
        k->nr = (NR);                                                                              \
        k->finish = finish;                                                                        \
        k->bf16_to_f32 = bf16_to_f32;                                                              \
        k->f32_to_bf16 = f32_to_bf16;                                                              \
        k->quantise_u8 = quantise_u8;                                                              \
        k->quantise_s16 = quantise_s16;                                                            \
        k->max_abs = max_abs;                                                                      \
    }

#endif
