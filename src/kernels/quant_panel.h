/* SPDX-License-Identifier: MIT */
/*
 * Quantised weights in panels: the blocks of sixteen file rows with their bytes interleaved, so
 * that a vector register holds the same four elements of eight or sixteen outputs. No value and no
 * size changes; rows beyond the last are zeros. A "word" is four neighbouring elements (of codes:
 * four bytes) of one row; [16] below is one for each row of the panel.
 *
 *   q8_0  32 elements    8 x [16] words of codes; [16] d
 *   q4_0  32             4 x [16] words, low nibbles words 0..3, high ones 4..7; [16] d
 *   q4_K  256            [16] d, [16] dmin, 12 x [16] bytes of scales as in the file;
 *                        8 groups: 4 x [16] words of nibbles as in q4_0
 *   q5_K  256            the same, and after a group's nibbles [16] words of fifth bits: bit s of
 *                        a byte belongs to word s
 *   q6_K  256            [16] d, 16 x [16] scales; 8 groups: nibbles as in q4_0, then 2 x [16]
 *                        words of top bits: field s % 4 (two bits) of word s / 4 belongs to word s
 *
 * Layouts of the file blocks: tensor/quant_block.c. Pure functions, any thread.
 */
#ifndef LIMN_KERNELS_QUANT_PANEL_H
#define LIMN_KERNELS_QUANT_PANEL_H

#include <math.h>
#include <string.h>

#include "kernels/gemm.h"

enum {
    LIMN_QUANT_NIBBLES = LIMN_QUANT_NR * 16, /* bytes of a group's nibbles */
    LIMN_QUANT_K_HEAD = LIMN_QUANT_NR * 16,  /* before the groups of q4_K and q5_K */
    LIMN_QUANT_K_SCALES = LIMN_QUANT_NR * 4, /* of these, before the scales */
    LIMN_QUANT_6_HEAD = LIMN_QUANT_NR * 18,  /* before the groups of q6_K */
    LIMN_QUANT_6_SCALES = LIMN_QUANT_NR * 2  /* of these, before the scales */
};

bool limn_quant_panel_has(limn_dtype t);

/* Whether activations beside weights of this type take powers of two as scales: where the weights'
 * own rounding weighs more than that of x. Such scales cost no multiplication with AVX-512. The
 * errors that decided are in docs/PRECISION.md. */
static inline bool limn_quant_powers(limn_dtype t) {
    return t == LIMN_Q4_0 || t == LIMN_Q4_K || t == LIMN_Q5_K || t == LIMN_Q6_K;
}

/* The least power of two >= d >= 0, so that a code is at most 127 after all. Below 2^-100 it is 0:
 * sums times scales stay numbers, exactly scaled. Above 2^100, or no number, it is infinite. */
static inline float limn_quant_power(float d) {
    uint32_t bits;
    if (!(d <= 0x1p100f)) return INFINITY;
    memcpy(&bits, &d, sizeof bits);
    bits = (bits + 0x7fffff) & 0x7f800000; /* a fraction adds one to the exponent */
    memcpy(&d, &bits, sizeof d);
    return d < 0x1p-100f ? 0 : d;
}

/* Bytes of one group of 32 elements on average times `groups`; whole blocks. */
size_t limn_quant_panel_bytes(limn_dtype t, size_t groups);
/* One panel of k elements from rows [0, rows) of `src`, row_bytes apart; rows <= LIMN_QUANT_NR.
 * limn_quant_panel_has(t); k is whole blocks. */
void limn_quant_panel_pack(void *dst, const void *src, size_t row_bytes, int rows, limn_dtype t,
                           size_t k);

#endif
