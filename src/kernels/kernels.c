/* SPDX-License-Identifier: MIT */
/* Fills the dispatch table: C bodies first, then the processor family's ladder. */
#include "kernels/kernels.h"

void limn_kernels_init(limn_kernels *k, unsigned cpu_flags) {
    *k = (limn_kernels){.cpu = cpu_flags};
    limn_elementwise_fill_c(&k->elementwise);
    limn_norm_fill_c(&k->norm);
    limn_rope_fill_c(&k->rope);
    limn_attention_fill_c(&k->attention);
    limn_gemm_fill_c(&k->gemm);
    limn_winograd_fill_c(&k->winograd);
#if defined(__x86_64__)
    limn_kernels_init_x86(k, cpu_flags);
#endif
}
