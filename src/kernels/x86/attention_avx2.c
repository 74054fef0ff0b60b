/* SPDX-License-Identifier: MIT */
/* The attention family for AVX2 and FMA in f32; the bodies are in attention_body.h. */
#include "kernels/x86/vec_avx2.h"

/* Register block: 6 rows x 2 vectors = 12 sums, beside 2 vectors and the broadcast. */
enum { ROWS_MAIN = 6, ROWS_PAD = 2 };
#define NEXT_ROWS(left) ((left) == 4 || (left) == 8 ? 4 : 6)
#define PAIRS 1

static inline vf dot_words(vf acc, vf e, vf w) {
    return vf_fma(e, w, acc);
}

#include "kernels/x86/attention_body.h"
#include "kernels/x86/attention_rows_body.h"

void LIMN_ISA_FN(limn_attention_fill_avx2)(limn_attention_kernels *t) {
    t->f32 = t->bf16 = tiler;
    t->dots = dots_v;
    t->mix = mix_v;
}
