/* SPDX-License-Identifier: MIT */
/* Vectors from and to rows of f32, f16 or bf16. Included after vec_avx2.h or vec_avx512.h. */
#ifndef LIMN_KERNELS_X86_VEC_TYPED_H
#define LIMN_KERNELS_X86_VEC_TYPED_H

#include "tensor/dtype.h"

#define VEC_INLINE static inline __attribute__((always_inline))

/* Calls NAME(..., type) with a type that is a constant there. */
#define WITH_TYPE(type, NAME, ...)                                                                 \
    switch (type) {                                                                                \
    case LIMN_F32: NAME(__VA_ARGS__, LIMN_F32); break;                                             \
    case LIMN_BF16: NAME(__VA_ARGS__, LIMN_BF16); break;                                           \
    default: NAME(__VA_ARGS__, LIMN_F16); break;                                                   \
    }

/* VF numbers from element i on; lanes from n on are zeros. */
VEC_INLINE vf typed_load(const void *x, int64_t i, int64_t n, const limn_dtype type) {
    const char *p = (const char *)x + i * (type == LIMN_F32 ? 4 : 2);
    uint16_t part[VF] = {0};
    if (type == LIMN_F32)
        return n >= VF ? vf_load((const float *)(const void *)p)
                       : vf_load_n((const float *)(const void *)p, n);
#ifdef VF_PARTS_16
    if (n < VF)
        return type == LIMN_BF16 ? vf_load_bf16_n((const uint16_t *)(const void *)p, n)
                                 : vf_load_f16_n((const uint16_t *)(const void *)p, n);
#endif
    if (n < VF) p = memcpy(part, p, (size_t)n * sizeof *part);
    return type == LIMN_BF16 ? vf_load_bf16((const uint16_t *)(const void *)p)
                             : vf_load_f16((const uint16_t *)(const void *)p);
}

VEC_INLINE void typed_store(void *y, int64_t i, vf v, int64_t n, const limn_dtype type) {
    uint16_t part[VF], *h = (uint16_t *)y + i, *to = n >= VF ? h : part;
    if (type == LIMN_F32) {
        if (n >= VF)
            vf_store((float *)y + i, v);
        else
            vf_store_n((float *)y + i, v, n);
        return;
    }
    if (type == LIMN_BF16)
        vf_store_bf16(to, v);
    else
        vf_store_f16(to, v);
    if (n < VF) memcpy(h, part, (size_t)n * sizeof *part);
}

/* Two whole vectors, one behind the other. */
VEC_INLINE void typed_store2(void *y, int64_t i, vf v, vf w, const limn_dtype type) {
#ifdef VF_STORES_2
    if (type == LIMN_BF16) {
        vf_store2_bf16((uint16_t *)y + i, v, w);
        return;
    }
#endif
    typed_store(y, i, v, VF, type);
    typed_store(y, i + VF, w, VF, type);
}

#endif
