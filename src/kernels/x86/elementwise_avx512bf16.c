/* SPDX-License-Identifier: MIT */
/* What of the elementwise family stores bf16 with one instruction: gated units. Conversions by
 * themselves keep denormal numbers and stay as AVX-512 has them. */
#include "kernels/x86/vec_avx512.h"

#include "kernels/x86/glu_body.h"

void LIMN_ISA_FN(limn_elementwise_fill_avx512bf16)(limn_elementwise_kernels *e) {
    e->glu = glu_v;
}
