/* SPDX-License-Identifier: MIT */
/* The norm family for AVX2 and FMA; the bodies are in norm_body.h. */
#include "kernels/x86/vec_avx2.h"

#include "kernels/x86/norm_body.h"

void LIMN_ISA_FN(limn_norm_fill_avx2)(limn_norm_kernels *m) {
    norm_fill(m);
}
