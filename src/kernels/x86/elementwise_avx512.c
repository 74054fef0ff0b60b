/* SPDX-License-Identifier: MIT */
/* The elementwise family for AVX-512; the bodies are in elementwise_body.h. */
#include "kernels/x86/vec_avx512.h"

#include "kernels/x86/elementwise_body.h"

void LIMN_ISA_FN(limn_elementwise_fill_avx512)(limn_elementwise_kernels *e) {
    elementwise_fill(e);
}
