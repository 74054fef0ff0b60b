/* SPDX-License-Identifier: MIT */
/* Fills the dispatch table: C bodies first, then the processor family's ladder. */
#include "kernels/kernels.h"

void limn_kernels_init(limn_kernels *k, unsigned cpu_flags) {
    *k = (limn_kernels){.cpu = cpu_flags};
#if defined(__x86_64__)
    limn_kernels_init_x86(k, cpu_flags);
#endif
}
