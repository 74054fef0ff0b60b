/* SPDX-License-Identifier: MIT */
/*
 * What the processor (and the operating system) lets us use, as a set of flags.
 *
 * The program detects once, narrows the set by --cpu-mask, and hands it to limn_kernels_init();
 * nothing else in limn looks at the processor. Levels form a ladder: each implies the ones before.
 * Pure functions, any thread.
 */
#ifndef LIMN_KERNELS_CPU_FEATURES_H
#define LIMN_KERNELS_CPU_FEATURES_H

#include <stddef.h>

#include "base/status.h"

/* X(id, bit, text, what it stands for) */
#define LIMN_CPU_FLAG_LIST(X)                                                                      \
    X(AVX2, 0, "avx2", "AVX2 + FMA + F16C")                                                        \
    X(AVX512, 1, "avx512", "AVX-512 F, CD, BW, DQ, VL")                                            \
    X(VNNI, 2, "vnni", "AVX-512 VNNI")                                                             \
    X(AVX512BF16, 3, "avx512bf16", "AVX-512 BF16")

enum limn_cpu_flag {
#define X(id, bit, text, what) LIMN_CPU_##id = 1u << (bit),
    LIMN_CPU_FLAG_LIST(X)
#undef X
};

/* Flags of this machine; a flag is set only when the operating system saves its registers. */
unsigned limn_cpu_detect(void);

/* Text of --cpu-mask to the set of flags it allows: a level ("c", "avx2", "avx512", "vnni",
 * "avx512bf16") allows itself and all below, "native" allows everything. The caller uses
 * `limn_cpu_detect() & mask`. E_VALUE names the accepted words. */
limn_status limn_cpu_mask_parse(unsigned *mask, const char *text, limn_err *err);

/* "avx2 avx512", or "c" for the empty set, into buf; returns buf. 64 bytes are always enough. */
const char *limn_cpu_describe(unsigned flags, char *buf, size_t size);

#endif
