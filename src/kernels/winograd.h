/* SPDX-License-Identifier: MIT */
/*
 * 3x3 convolutions with stride 1 in a quarter of the multiplications: Winograd's F(4x4, 3x3), in
 * f32 also where the direct form multiplies bf16: a quarter of them at half the rate is still less.
 *
 * A tile of 4 x 4 outputs sees 6 x 6 inputs. Tiles, weights and sums are taken to 36 *positions*,
 * where the convolution is one product [tiles, ic] x [ic, oc] per position:
 *
 *     y = A^T [ sum over ic of (G w G^T) * (B^T x B) ] A
 *
 * The polynomials are interpolated at 0, +-3/4, +-3/2 and infinity. All constants of A and B are
 * exact in f32, and the error of a sum is about twice that of the direct form; the customary
 * 0, +-1, +-2 give four times it (docs/PRECISION.md). Derivation: Lavin and Gray, arXiv 1509.09308.
 *
 * Weights stay packed as they are for the direct form and are transformed in every call, one
 * cache's worth at a time: for 64 tiles and more that is a few percent of the time, and memory
 * holds no second copy. Used by conv.c for compute modes other than exact; the same bits for any
 * number of threads. Internal to kernels/.
 */
#ifndef LIMN_KERNELS_WINOGRAD_H
#define LIMN_KERNELS_WINOGRAD_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"
#include "kernels/gemm.h"

struct limn_exec;
struct limn_kernels;
struct limn_conv_args;

enum { LIMN_WG_OUT = 4, LIMN_WG_IN = 6, LIMN_WG_POS = 36 };

typedef struct limn_winograd_kernels {
    /* dst[p * plane + c] = (B^T x B)[p] for n channels; px[6 * y + x] are the tile's pixels, f32 or
     * bf16. */
    void (*input)(float *dst, size_t plane, const void *const *px, bool bf16, size_t n);
    /* dst[p * plane + i] = (G w G^T)[p] for n numbers of each tap, which lie tap_bytes apart, as
     * F32, F16 or BF16 panels of nr outputs hold them; BF16X2 panels are taken apart: dst is in the
     * order of the others. */
    void (*weights)(float *dst, size_t plane, const void *w, limn_store store, size_t tap_bytes,
                    size_t nr, size_t n);
    /* dst[r * row + s * nr + j] = (A^T m A)[4 * r + s] of the nr sums m = c[p * plane + j]; nr is a
     * panel's. Tiles lie nr apart in c and 4 * nr apart in dst. */
    void (*output)(float *dst, size_t row, const float *c, size_t plane, size_t nr, size_t tiles);
} limn_winograd_kernels;

void limn_winograd_fill_c(limn_winograd_kernels *k);
void limn_winograd_fill_avx2(limn_winograd_kernels *k);
void limn_winograd_fill_avx512(limn_winograd_kernels *k);

/* Whether a convolution is computed this way: a rule of its shape, its weight's store and compute
 * mode, never of threads. */
bool limn_winograd_takes(const struct limn_kernels *k, const struct limn_conv_args *a);
/* Bytes of scratch that limn_winograd_conv needs; grows with `threads`. */
size_t limn_winograd_scratch_bytes(const struct limn_kernels *k, const struct limn_conv_args *a,
                                   int threads);
/* Arguments are checked, limn_winograd_takes holds, scratch is large enough. E_CANCELLED. */
limn_status limn_winograd_conv(const struct limn_exec *ex, const struct limn_conv_args *a,
                               limn_err *err);

#endif
