/* SPDX-License-Identifier: MIT */
/*
 * Which dispatch tables a kernel test runs: plain C, every level this processor has, and, where the
 * build has them, the AVX-512 families under SIMDe emulation. Also the odds and ends that kernel
 * tests share: repeatable numbers and guarded buffers.
 */
#ifndef LIMN_TESTS_KERNEL_TABLES_H
#define LIMN_TESTS_KERNEL_TABLES_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"
#include "kernels/quant_panel.h"

enum { TABLES_MAX = 12 };

typedef struct kernel_table {
    char name[64];
    limn_kernels k;
} kernel_table;

#ifdef LIMN_TEST_SIMDE
void limn_attention_fill_avx512_simde(limn_attention_kernels *k);
void limn_attention_fill_avx512bf16_simde(limn_attention_kernels *k);
void limn_elementwise_fill_avx512_simde(limn_elementwise_kernels *k);
void limn_elementwise_fill_avx512bf16_simde(limn_elementwise_kernels *k);
void limn_norm_fill_avx512_simde(limn_norm_kernels *k);
void limn_norm_fill_avx512bf16_simde(limn_norm_kernels *k);
void limn_rope_fill_avx512_simde(limn_rope_kernels *k);
void limn_winograd_fill_avx512_simde(limn_winograd_kernels *k);
#endif
#ifdef LIMN_TEST_SIMDE_GEMM
void limn_gemm_fill_avx512_simde(limn_gemm_kernels *k);
void limn_gemm_fill_vnni_simde(limn_gemm_kernels *k);
void limn_gemm_fill_quant_vnni_simde(limn_gemm_kernels *k);
void limn_gemm_fill_avx512bf16_simde(limn_gemm_kernels *k);
#endif

static inline int kernel_tables_fill(kernel_table *t) {
    static const char *const levels[] = {"c", "avx2", "avx512", "vnni", "avx512bf16"};
    unsigned have = limn_cpu_detect(), last = ~0u;
    int n = 0;
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
        unsigned mask;
        if (limn_cpu_mask_parse(&mask, levels[i], NULL) != LIMN_OK || (mask & have) == last)
            continue;
        last = mask & have;
        limn_kernels_init(&t[n].k, last);
        snprintf(t[n].name, sizeof t[n].name, "%s", levels[i]);
        n++;
    }
#ifdef LIMN_TEST_SIMDE
    for (int i = 0; i < 3; i++, n++) {
        limn_kernels_init(&t[n].k, 0);
        limn_attention_fill_avx512_simde(&t[n].k.attention);
        if (i >= 2) limn_attention_fill_avx512bf16_simde(&t[n].k.attention);
        limn_elementwise_fill_avx512_simde(&t[n].k.elementwise);
        if (i >= 2) limn_elementwise_fill_avx512bf16_simde(&t[n].k.elementwise);
        limn_norm_fill_avx512_simde(&t[n].k.norm);
        if (i >= 2) limn_norm_fill_avx512bf16_simde(&t[n].k.norm);
        limn_rope_fill_avx512_simde(&t[n].k.rope);
        limn_winograd_fill_avx512_simde(&t[n].k.winograd);
#ifdef LIMN_TEST_SIMDE_GEMM
        limn_gemm_fill_avx512_simde(&t[n].k.gemm);
        if (i >= 1) limn_gemm_fill_vnni_simde(&t[n].k.gemm);
        if (i >= 1) limn_gemm_fill_quant_vnni_simde(&t[n].k.gemm);
        if (i >= 2) limn_gemm_fill_avx512bf16_simde(&t[n].k.gemm);
#endif
        snprintf(t[n].name, sizeof t[n].name, "%s (emulated)", levels[2 + i]);
    }
#endif
    return n;
}

/* Repeatable numbers: xorshift, uniform in [-1, 1). */
static inline float test_random(uint64_t *s) {
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return (float)(int32_t)(*s >> 32) * 4.6566129e-10f;
}

/* Rounds a row of k numbers as fixed point does; `block` of them share a scale. */
static inline void test_fix_row(float *x, int64_t k, int64_t block, float top) {
    for (int64_t i = 0; i < k; i += block) {
        int64_t n = k - i < block ? k - i : block;
        float amax = 0;
        for (int64_t j = i; j < i + n; j++) amax = fmaxf(amax, fabsf(x[j]));
        for (int64_t j = i; j < i + n && amax > 0; j++)
            x[j] = nearbyintf(x[j] * (top / amax)) * (amax / top);
    }
}

/* A row as quantised products see it: 8 bits with a scale for 32, of a power of two if `powers`. */
static inline void test_q8_row(float *x, int64_t k, bool powers) {
    for (int64_t i = 0; i < k; i += 32) {
        float amax = 0;
        for (int64_t j = i; j < i + 32; j++) amax = fmaxf(amax, fabsf(x[j]));
        float d = powers ? limn_quant_power(amax / 127.0f) : amax / 127.0f;
        float inverse = powers ? 1 / d : 127.0f / amax;
        for (int64_t j = i; j < i + 32; j++) x[j] = amax > 0 ? nearbyintf(x[j] * inverse) * d : 0;
    }
}

static inline int test_range(uint64_t *s, int lo, int hi) {
    (void)test_random(s);
    return lo + (int)((*s >> 33) % (uint64_t)(hi - lo + 1));
}

#endif
