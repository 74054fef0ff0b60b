/* SPDX-License-Identifier: MIT */
/* The norm family where bf16 is stored with one instruction; the bodies are in norm_body.h. */
#include "kernels/x86/vec_avx512.h"

#include "kernels/x86/norm_body.h"

void LIMN_ISA_FN(limn_norm_fill_avx512bf16)(limn_norm_kernels *m) {
    norm_fill(m);
}
