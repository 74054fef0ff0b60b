/* SPDX-License-Identifier: MIT */
/* The attention family for AVX2 and FMA; the bodies are in attention_body.h. */
#include "kernels/x86/vec_avx2.h"

/* Register block: 6 rows x 2 vectors = 12 sums, beside 2 vectors and the broadcast. */
enum { ROWS_MAIN = 6, ROWS_PAD = 2 };
#define NEXT_ROWS(left) ((left) == 4 || (left) == 8 ? 4 : 6)

#include "kernels/x86/attention_body.h"

void LIMN_ISA_FN(limn_attention_fill_avx2)(limn_attention_kernels *t) {
    attention_fill(t);
}
