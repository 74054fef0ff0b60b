/* SPDX-License-Identifier: MIT */
/*
 * The only file that asks the processor what it can do (CPUID, XGETBV), and the ladder that puts
 * the x86 kernels into the dispatch table. Compiled without instruction-set flags: it must run
 * everywhere.
 */
#include <cpuid.h>
#include <stdbool.h>
#include <stdint.h>

#include "kernels/kernels.h"

/* XCR0: which register files the operating system saves on a context switch. */
static uint64_t read_xcr0(void) {
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

static bool has_all(unsigned reg, unsigned bits) {
    return (reg & bits) == bits;
}

unsigned limn_cpu_detect_x86(void) {
    unsigned a, b, c, d, flags = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
    if (!has_all(c, bit_OSXSAVE | bit_AVX | bit_FMA | bit_F16C)) return 0;
    uint64_t xcr0 = read_xcr0();
    if ((xcr0 & 0x6) != 0x6) return 0; /* xmm, ymm */
    unsigned b7, c7, d7, sub;
    if (!__get_cpuid_count(7, 0, &sub, &b7, &c7, &d7)) return 0;
    if (!has_all(b7, bit_AVX2)) return 0;
    flags |= LIMN_CPU_AVX2;
    if ((xcr0 & 0xe6) != 0xe6) return flags; /* opmask, upper zmm halves, zmm16..31 */
    if (!has_all(b7, bit_AVX512F | bit_AVX512CD | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL))
        return flags;
    flags |= LIMN_CPU_AVX512;
    if (!has_all(c7, bit_AVX512VNNI)) return flags;
    flags |= LIMN_CPU_VNNI;
    if (sub >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && has_all(a, bit_AVX512BF16))
        flags |= LIMN_CPU_AVX512BF16;
    return flags;
}

void limn_kernels_init_x86(limn_kernels *k, unsigned cpu_flags) {
    if (!(cpu_flags & LIMN_CPU_AVX2)) return;
    limn_gemm_fill_avx2(&k->gemm);
    limn_gemm_fill_fix_avx2(&k->gemm);
    limn_gemm_fill_expand_avx2(&k->gemm);
    limn_gemm_fill_dot_avx2(&k->gemm);
    limn_gemm_fill_quant_avx2(&k->gemm);
    limn_gemm_fill_quant_rows_avx2(&k->gemm);
    limn_elementwise_fill_avx2(&k->elementwise);
    limn_norm_fill_avx2(&k->norm);
    limn_rope_fill_avx2(&k->rope);
    limn_attention_fill_avx2(&k->attention);
    limn_winograd_fill_avx2(&k->winograd);
    if (!(cpu_flags & LIMN_CPU_AVX512)) return;
    limn_gemm_fill_avx512(&k->gemm);
    limn_elementwise_fill_avx512(&k->elementwise);
    limn_norm_fill_avx512(&k->norm);
    limn_rope_fill_avx512(&k->rope);
    limn_attention_fill_avx512(&k->attention);
    limn_winograd_fill_avx512(&k->winograd);
    if (!(cpu_flags & LIMN_CPU_VNNI)) return;
    limn_gemm_fill_vnni(&k->gemm);
    limn_gemm_fill_quant_vnni(&k->gemm);
    if (!(cpu_flags & LIMN_CPU_AVX512BF16)) return;
    limn_gemm_fill_avx512bf16(&k->gemm);
    limn_elementwise_fill_avx512bf16(&k->elementwise);
    limn_norm_fill_avx512bf16(&k->norm);
    limn_attention_fill_avx512bf16(&k->attention);
}
