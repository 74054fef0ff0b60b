/* SPDX-License-Identifier: MIT */
/* The Winograd transforms in plain C: one float at a time, what the vector forms are tested
 * against. */
#include <stdint.h>

#include "tensor/dtype.h"

enum { VF = 1 };
typedef float vf;
#define LIMN_WG_UNROLL

static inline vf vf_set1(float x) {
    return x;
}
static inline vf vf_load(const float *p) {
    return *p;
}
static inline vf vf_load_n(const float *p, int64_t n) {
    return n > 0 ? *p : 0;
}
static inline void vf_store(float *p, vf v) {
    *p = v;
}
static inline void vf_store_n(float *p, vf v, int64_t n) {
    if (n > 0) *p = v;
}
static inline vf vf_load_f16(const uint16_t *p) {
    return limn_f16_to_f32(*p);
}
static inline vf vf_load_bf16(const uint16_t *p) {
    return limn_bf16_to_f32(*p);
}
static inline vf vf_load_pairs(const uint16_t *p, size_t odd) {
    return limn_bf16_to_f32(p[odd]);
}
static inline vf vf_add(vf a, vf b) {
    return a + b;
}
static inline vf vf_sub(vf a, vf b) {
    return a - b;
}
static inline vf vf_mul(vf a, vf b) {
    return a * b;
}
static inline vf vf_fma(vf a, vf b, vf c) {
    return a * b + c;
}
static inline vf vf_fnma(vf a, vf b, vf c) {
    return c - a * b;
}

#include "kernels/winograd_body.h"

void limn_winograd_fill_c(limn_winograd_kernels *k) {
    wg_fill(k);
}
