/* SPDX-License-Identifier: MIT */
/* The attention family for AVX-512 in f32; the bodies are in attention_body.h. */
#include "kernels/x86/vec_avx512.h"

/* Register block: 12 rows x 2 vectors = 24 sums, beside 2 vectors and the broadcast. */
enum { ROWS_MAIN = 12, ROWS_PAD = 4 };
#define NEXT_ROWS(left) ((left) >= 12 ? 12 : (left))
#define PAIRS 1

static inline vf dot_words(vf acc, vf e, vf w) {
    return vf_fma(e, w, acc);
}

#include "kernels/x86/attention_body.h"
#include "kernels/x86/attention_rows_body.h"

void LIMN_ISA_FN(limn_attention_fill_avx512)(limn_attention_kernels *t) {
    t->f32 = t->bf16 = tiler;
    t->dots = dots_v;
    t->mix = mix_v;
}
