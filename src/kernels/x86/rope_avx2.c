/* SPDX-License-Identifier: MIT */
/* The rope family for AVX2: the plain bodies, vectorised by the compiler. */
#include "kernels/rope_body.h"
#include "kernels/x86/intrin.h"

void LIMN_ISA_FN(limn_rope_fill_avx2)(limn_rope_kernels *r) {
    rope_fill(r);
}
