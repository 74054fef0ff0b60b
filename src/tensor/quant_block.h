/* SPDX-License-Identifier: MIT */
/*
 * Block-quantised types: the byte layouts (as ggml's, see dtype.h) and their plain C conversion.
 * These functions are the specification for every quantised kernel. Pure, any thread.
 */
#ifndef LIMN_TENSOR_QUANT_BLOCK_H
#define LIMN_TENSOR_QUANT_BLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "tensor/dtype.h"

/* dst [n] from n / block blocks; `t` must be a quantised dtype. */
void limn_quant_block_to_f32(float *dst, const void *src, limn_dtype t, int64_t n);
/* Plain round-to-nearest quantisation; false when `t` has no writer here. */
bool limn_quant_block_from_f32(void *dst, const float *src, limn_dtype t, int64_t n);

#endif
