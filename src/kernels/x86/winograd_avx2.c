/* SPDX-License-Identifier: MIT */
/* The Winograd transforms for AVX2, FMA and F16C; the bodies are in winograd_body.h. */
#include "kernels/x86/vec_avx2.h"

#define LIMN_WG_UNROLL LIMN_UNROLL
#include "kernels/winograd_body.h"

void LIMN_ISA_FN(limn_winograd_fill_avx2)(limn_winograd_kernels *k) {
    wg_fill(k);
}
