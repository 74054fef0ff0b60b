/* SPDX-License-Identifier: MIT */
/*
 * The dispatch table: one struct of function pointers per kernel family.
 *
 * The program fills a limn_kernels once with limn_kernels_init() and passes it around as const;
 * there are no globals, so a test holds one table per instruction set side by side. Every pointer
 * is set: first to the plain C body (the specification), then the ladder of instruction sets
 * replaces what it does better. A family adds (1) its struct of micro-kernels in its own header,
 * (2) a member here, (3) a call to its C filler in kernels.c and (4) its ISA fillers in x86_init.c.
 */
#ifndef LIMN_KERNELS_KERNELS_H
#define LIMN_KERNELS_KERNELS_H

#include "kernels/attention.h"
#include "kernels/cpu_features.h"
#include "kernels/elementwise.h"
#include "kernels/gemm.h"
#include "kernels/norm.h"
#include "kernels/rope.h"
#include "kernels/winograd.h"

typedef struct limn_kernels {
    unsigned cpu; /* the flags it was filled for */
    limn_gemm_kernels gemm;
    limn_elementwise_kernels elementwise;
    limn_norm_kernels norm;
    limn_rope_kernels rope;
    limn_attention_kernels attention;
    limn_winograd_kernels winograd;
} limn_kernels;

/* `cpu_flags` must be a subset of limn_cpu_detect() (tests under emulation excepted). */
void limn_kernels_init(limn_kernels *k, unsigned cpu_flags);

/* ---- one pair per processor family; called by kernels.c and cpu_features.c only ---- */
unsigned limn_cpu_detect_x86(void);
void limn_kernels_init_x86(limn_kernels *k, unsigned cpu_flags);

#endif
