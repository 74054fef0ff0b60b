/* SPDX-License-Identifier: MIT */
/*
 * The three transforms of winograd.h, written once over the vector `vf` of VF floats that the
 * including file brings (x86/vec_*.h; one float in winograd_c.c). Each is a one-dimensional
 * transform over columns, then over rows.
 */
#ifndef LIMN_KERNELS_WINOGRAD_BODY_H
#define LIMN_KERNELS_WINOGRAD_BODY_H

#include "kernels/winograd.h"

#define WG_INLINE static inline __attribute__((always_inline))

/* The points +-a and +-b. */
#define WG_A 0.75f
#define WG_B 1.5f
#define WG_A2 (WG_A * WG_A)
#define WG_B2 (WG_B * WG_B)

/* B^T: row p holds the coefficients of the product of (x - q) over the other points q. */
WG_INLINE void wg_input6(vf t[6], const vf d[6]) {
    const vf a = vf_set1(WG_A), b = vf_set1(WG_B), a2 = vf_set1(WG_A2), b2 = vf_set1(WG_B2);
    const vf sum = vf_set1(WG_A2 + WG_B2), prod = vf_set1(WG_A2 * WG_B2);
    vf even_a = vf_fnma(b2, d[2], d[4]), odd_a = vf_fnma(b2, d[1], d[3]);
    vf even_b = vf_fnma(a2, d[2], d[4]), odd_b = vf_fnma(a2, d[1], d[3]);
    t[0] = vf_fma(prod, d[0], vf_fnma(sum, d[2], d[4]));
    t[1] = vf_fma(a, odd_a, even_a);
    t[2] = vf_fnma(a, odd_a, even_a);
    t[3] = vf_fma(b, odd_b, even_b);
    t[4] = vf_fnma(b, odd_b, even_b);
    t[5] = vf_fma(prod, d[1], vf_fnma(sum, d[3], d[5]));
}

/* G: row p is (1, p, p^2) over the product of (p - q). */
WG_INLINE void wg_weights6(vf t[6], vf g0, vf g1, vf g2) {
    const float na = 1.0f / (2 * WG_A2 * (WG_A2 - WG_B2)),
                nb = 1.0f / (2 * WG_B2 * (WG_B2 - WG_A2));
    vf even_a = vf_fma(vf_set1(na * WG_A2), g2, vf_mul(vf_set1(na), g0));
    vf even_b = vf_fma(vf_set1(nb * WG_B2), g2, vf_mul(vf_set1(nb), g0));
    const vf odd_a = vf_set1(na * WG_A), odd_b = vf_set1(nb * WG_B);
    t[0] = vf_mul(vf_set1(1.0f / (WG_A2 * WG_B2)), g0);
    t[1] = vf_fma(odd_a, g1, even_a);
    t[2] = vf_fnma(odd_a, g1, even_a);
    t[3] = vf_fma(odd_b, g1, even_b);
    t[4] = vf_fnma(odd_b, g1, even_b);
    t[5] = g2;
}

/* A^T: column p is (1, p, p^2, p^3). */
WG_INLINE void wg_output4(vf y[4], const vf m[6]) {
    const vf a = vf_set1(WG_A), b = vf_set1(WG_B), a2 = vf_set1(WG_A2), b2 = vf_set1(WG_B2);
    const vf a3 = vf_set1(WG_A2 * WG_A), b3 = vf_set1(WG_B2 * WG_B);
    vf sum_a = vf_add(m[1], m[2]), dif_a = vf_sub(m[1], m[2]);
    vf sum_b = vf_add(m[3], m[4]), dif_b = vf_sub(m[3], m[4]);
    y[0] = vf_add(m[0], vf_add(sum_a, sum_b));
    y[1] = vf_fma(b, dif_b, vf_mul(a, dif_a));
    y[2] = vf_fma(b2, sum_b, vf_mul(a2, sum_a));
    y[3] = vf_fma(b3, dif_b, vf_fma(a3, dif_a, m[5]));
}

/* VF channels of a pixel from c on; n > 0: only n are there. */
WG_INLINE vf wg_load_pixel(const void *px, size_t c, const bool bf16, const int64_t n) {
    if (!bf16) return n > 0 ? vf_load_n((const float *)px + c, n) : vf_load((const float *)px + c);
    const uint16_t *p = (const uint16_t *)px + c;
    uint16_t part[VF] = {0};
    for (int64_t i = 0; i < n; i++) part[i] = p[i];
    return vf_load_bf16(n > 0 ? part : p);
}

/* `nv` vectors of channels from c on; the last has `n` channels when n > 0. */
WG_INLINE void wg_input_at(float *dst, size_t plane, const void *const *px, const bool bf16,
                           size_t c, const int nv, const int64_t n) {
    vf cols[2][36];
    LIMN_WG_UNROLL
    for (int x = 0; x < 6; x++) LIMN_WG_UNROLL
    for (int v = 0; v < nv; v++) {
        vf d[6], t[6];
        LIMN_WG_UNROLL
        for (int y = 0; y < 6; y++) {
            d[y] = wg_load_pixel(px[6 * y + x], c + (size_t)(v * VF), bf16, n);
        }
        wg_input6(t, d);
        LIMN_WG_UNROLL
        for (int y = 0; y < 6; y++) cols[v][6 * y + x] = t[y];
    }
    for (int y = 0; y < 6; y++) LIMN_WG_UNROLL
    for (int v = 0; v < nv; v++) {
        vf t[6];
        wg_input6(t, cols[v] + 6 * y);
        LIMN_WG_UNROLL
        for (int x = 0; x < 6; x++) {
            float *to = dst + (size_t)(6 * y + x) * plane + c + v * VF;
            if (n > 0)
                vf_store_n(to, t[x], n);
            else
                vf_store(to, t[x]);
        }
    }
}

WG_INLINE void wg_input_of(float *dst, size_t plane, const void *const *px, const bool bf16,
                           size_t n) {
    size_t c = 0;
    for (; c + 2 * VF <= n; c += 2 * VF) wg_input_at(dst, plane, px, bf16, c, 2, 0);
    for (; c + VF <= n; c += VF) wg_input_at(dst, plane, px, bf16, c, 1, 0);
    if (c < n) wg_input_at(dst, plane, px, bf16, c, 1, (int64_t)(n - c));
}

static void wg_input(float *dst, size_t plane, const void *const *px, bool bf16, size_t n) {
    if (bf16)
        wg_input_of(dst, plane, px, true, n);
    else
        wg_input_of(dst, plane, px, false, n);
}

WG_INLINE vf wg_load_weight(const char *w, size_t i, const limn_store store) {
    if (store == LIMN_STORE_F16) return vf_load_f16((const uint16_t *)(const void *)w + i);
    if (store == LIMN_STORE_BF16) return vf_load_bf16((const uint16_t *)(const void *)w + i);
    if (store == LIMN_STORE_BF16X2) /* i: of the first or the second numbers of pairs */
        return vf_load_pairs((const uint16_t *)(const void *)w + i / 2 * 2, i % 2);
    return vf_load((const float *)(const void *)w + i);
}

/* n is a multiple of a panel's width, which is one of VF, and with pairs of twice that. */
WG_INLINE void wg_weights_of(float *dst, size_t plane, const char *w, size_t tap_bytes, size_t nr,
                             size_t n, const limn_store store) {
    for (size_t at = 0; at < n; at += VF) {
        vf cols[18];
        size_t i = at, odd = at / nr % 2;
        if (store == LIMN_STORE_BF16X2) i = (at / (2 * nr) * nr + at % nr) * 2 + odd;
        LIMN_WG_UNROLL
        for (int x = 0; x < 3; x++) {
            vf t[6];
            const char *tap = w + (size_t)x * tap_bytes;
            wg_weights6(t, wg_load_weight(tap, i, store),
                        wg_load_weight(tap + 3 * tap_bytes, i, store),
                        wg_load_weight(tap + 6 * tap_bytes, i, store));
            LIMN_WG_UNROLL
            for (int y = 0; y < 6; y++) cols[3 * y + x] = t[y];
        }
        LIMN_WG_UNROLL
        for (int y = 0; y < 6; y++) {
            vf t[6];
            wg_weights6(t, cols[3 * y], cols[3 * y + 1], cols[3 * y + 2]);
            LIMN_WG_UNROLL
            for (int x = 0; x < 6; x++) vf_store(dst + (size_t)(6 * y + x) * plane + at, t[x]);
        }
    }
}

static void wg_weights(float *dst, size_t plane, const void *w, limn_store store, size_t tap_bytes,
                       size_t nr, size_t n) {
    switch (store) {
    case LIMN_STORE_F16: wg_weights_of(dst, plane, w, tap_bytes, nr, n, LIMN_STORE_F16); break;
    case LIMN_STORE_BF16: wg_weights_of(dst, plane, w, tap_bytes, nr, n, LIMN_STORE_BF16); break;
    case LIMN_STORE_BF16X2:
        wg_weights_of(dst, plane, w, tap_bytes, nr, n, LIMN_STORE_BF16X2);
        break;
    default: wg_weights_of(dst, plane, w, tap_bytes, nr, n, LIMN_STORE_F32); break;
    }
}

static void wg_output(float *dst, size_t row, const float *c, size_t plane, size_t nr,
                      size_t tiles) {
    for (size_t i = 0; i < tiles; i++, c += nr, dst += 4 * nr)
        for (size_t j = 0; j < nr; j += VF) {
            vf rows[24];
            LIMN_WG_UNROLL
            for (int x = 0; x < 6; x++) {
                vf m[6], t[4];
                LIMN_WG_UNROLL
                for (int y = 0; y < 6; y++) {
                    const float *from = c + (size_t)(6 * y + x) * plane + j;
                    __builtin_prefetch(from + nr, 0, 3);
                    m[y] = vf_load(from);
                }
                wg_output4(t, m);
                LIMN_WG_UNROLL
                for (int y = 0; y < 4; y++) rows[6 * y + x] = t[y];
            }
            LIMN_WG_UNROLL
            for (int y = 0; y < 4; y++) {
                vf t[4];
                wg_output4(t, rows + 6 * y);
                LIMN_WG_UNROLL
                for (int x = 0; x < 4; x++)
                    vf_store(dst + (size_t)y * row + (size_t)x * nr + j, t[x]);
            }
        }
}

WG_INLINE void wg_fill(limn_winograd_kernels *k) {
    *k = (limn_winograd_kernels){.input = wg_input, .weights = wg_weights, .output = wg_output};
}

#endif
