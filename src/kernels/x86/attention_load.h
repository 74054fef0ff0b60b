/* SPDX-License-Identifier: MIT */
/* Elements of queries, keys and values as f32 vectors. Included after vec_avx2.h or vec_avx512.h.
 */
#ifndef LIMN_KERNELS_X86_ATTENTION_LOAD_H
#define LIMN_KERNELS_X86_ATTENTION_LOAD_H

#include <stdint.h>
#include <string.h>

#include "tensor/dtype.h"

/* n (at most VF) elements from `at` of a row. */
static inline __attribute__((always_inline)) vf load_typed(const void *row, int64_t at,
                                                           const limn_dtype type, int64_t n) {
    if (type == LIMN_F32) {
        const float *p = (const float *)row + at;
        return n == VF ? vf_load(p) : vf_load_n(p, n);
    }
    uint16_t part[VF] = {0};
    const uint16_t *p = (const uint16_t *)row + at;
    if (n < VF) p = memcpy(part, p, (size_t)n * 2);
    return type == LIMN_F16 ? vf_load_f16(p) : vf_load_bf16(p);
}

/* Elements [at, at + VF) of a row of n; zeros beyond it. */
static inline __attribute__((always_inline)) vf load_part(const void *row, int64_t at,
                                                          const limn_dtype type, int64_t n) {
    if (at >= n) return vf_zero();
    return load_typed(row, at, type, n - at < VF ? n - at : VF);
}

#endif
