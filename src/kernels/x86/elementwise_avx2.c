/* SPDX-License-Identifier: MIT */
/* The elementwise family for AVX2 and FMA; the bodies are in elementwise_body.h. */
#include "kernels/x86/vec_avx2.h"

#include "kernels/x86/elementwise_body.h"

void LIMN_ISA_FN(limn_elementwise_fill_avx2)(limn_elementwise_kernels *e) {
    elementwise_fill(e);
}
