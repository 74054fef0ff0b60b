/* SPDX-License-Identifier: MIT */
/* The attention family for AVX-512; the bodies are in attention_body.h. */
#include "kernels/x86/vec_avx512.h"

/* Register block: 12 rows x 2 vectors = 24 sums, beside 2 vectors and the broadcast. */
enum { ROWS_MAIN = 12, ROWS_PAD = 4 };
#define NEXT_ROWS(left) ((left) >= 12 ? 12 : (left))

#include "kernels/x86/attention_body.h"

void LIMN_ISA_FN(limn_attention_fill_avx512)(limn_attention_kernels *t) {
    attention_fill(t);
}
