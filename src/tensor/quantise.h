/* SPDX-License-Identifier: MIT */
/*
 * The quantiser: rows of f32 into any element type that files use, with as little error as its
 * layout allows (layouts: quant_block.h). Scales and minima are searched, not computed from the
 * extremes: for each group a row of candidates is rounded, the best scale of the result follows
 * by weighted least squares, and the shared scales of 256-element blocks are fitted again to the
 * rounded ones.
 *
 * The weight of an element is importance * sqrt(mean(x^2) + x^2): large weights count a little
 * more. The same input gives the same bytes on every machine. Pure, any thread.
 */
#ifndef LIMN_TENSOR_QUANTISE_H
#define LIMN_TENSOR_QUANTISE_H

#include <stdbool.h>
#include <stdint.h>

#include "tensor/dtype.h"

/* dst from src [n] finite numbers; importance [n] > 0 per element, or NULL: all alike. false when
 * n is no whole number of blocks or `t` is no type to store weights in. */
bool limn_quantise_row(void *dst, const float *src, limn_dtype t, int64_t n,
                       const float *importance);

#endif
