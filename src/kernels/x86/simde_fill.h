/* SPDX-License-Identifier: MIT */
/* AVX-512 intrinsics that SIMDe 0.7 lacks, as plain loops; test builds only, see intrin.h. */
#ifndef LIMN_KERNELS_X86_SIMDE_FILL_H
#define LIMN_KERNELS_X86_SIMDE_FILL_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "tensor/dtype.h"

static inline simde__m512 fill_maskz_loadu_ps(simde__mmask16 m, const void *p) {
    float t[16] = {0};
    for (int i = 0; i < 16; i++)
        if (m >> i & 1) memcpy(&t[i], (const char *)p + 4 * i, 4);
    return simde_mm512_loadu_ps(t);
}

static inline void fill_mask_storeu_ps(void *p, simde__mmask16 m, simde__m512 v) {
    float t[16];
    simde_mm512_storeu_ps(t, v);
    for (int i = 0; i < 16; i++)
        if (m >> i & 1) memcpy((char *)p + 4 * i, &t[i], 4);
}

static inline simde__m256i fill_cvtepi32_epi16(simde__m512i v) {
    int32_t t[16];
    int16_t h[16];
    simde_mm512_storeu_si512(t, v);
    for (int i = 0; i < 16; i++) h[i] = (int16_t)t[i];
    return simde_mm256_loadu_si256((const simde__m256i *)(const void *)h);
}

static inline simde__m512i fill_cvtepu16_epi32(simde__m256i v) {
    uint16_t h[16];
    int32_t t[16];
    simde_mm256_storeu_si256((simde__m256i *)(void *)h, v);
    for (int i = 0; i < 16; i++) t[i] = h[i];
    return simde_mm512_loadu_si512(t);
}

static inline simde__m512 fill_cvtph_ps(simde__m256i v) {
    uint16_t h[16];
    float t[16];
    simde_mm256_storeu_si256((simde__m256i *)(void *)h, v);
    for (int i = 0; i < 16; i++) t[i] = limn_f16_to_f32(h[i]);
    return simde_mm512_loadu_ps(t);
}

static inline simde__m512i fill_cvtps_epi32(simde__m512 v) {
    float t[16];
    int32_t r[16];
    simde_mm512_storeu_ps(t, v);
    for (int i = 0; i < 16; i++) /* out of range and NaN: the "indefinite" value */
        r[i] = fabsf(t[i]) < 2147483648.0f ? (int32_t)nearbyintf(t[i]) : INT32_MIN;
    return simde_mm512_loadu_si512(r);
}

static inline simde__m512i fill_srai_epi32(simde__m512i v, unsigned count) {
    int32_t t[16];
    simde_mm512_storeu_si512(t, v);
    for (int i = 0; i < 16; i++) t[i] >>= count;
    return simde_mm512_loadu_si512(t);
}

static inline simde__m512 fill_cvtepi32_ps(simde__m512i v) {
    int32_t t[16];
    float r[16];
    simde_mm512_storeu_si512(t, v);
    for (int i = 0; i < 16; i++) r[i] = (float)t[i];
    return simde_mm512_loadu_ps(r);
}

static inline simde__m512i fill_cvtepi8_epi32(simde__m128i v) {
    int8_t b[16];
    int32_t t[16];
    simde_mm_storeu_si128((simde__m128i *)(void *)b, v);
    for (int i = 0; i < 16; i++) t[i] = b[i];
    return simde_mm512_loadu_si512(t);
}

static inline simde__m512i fill_madd_epi16(simde__m512i a, simde__m512i b) {
    int16_t x[32], y[32];
    int32_t t[16];
    simde_mm512_storeu_si512(x, a);
    simde_mm512_storeu_si512(y, b);
    for (int i = 0; i < 16; i++) t[i] = x[2 * i] * y[2 * i] + x[2 * i + 1] * y[2 * i + 1];
    return simde_mm512_loadu_si512(t);
}

#undef _mm512_madd_epi16
#define _mm512_madd_epi16 fill_madd_epi16
#undef _mm512_cvtepi32_ps
#undef _mm512_cvtepi8_epi32
#define _mm512_cvtepi32_ps fill_cvtepi32_ps
#define _mm512_cvtepi8_epi32 fill_cvtepi8_epi32
#undef _mm512_srai_epi32
#define _mm512_srai_epi32 fill_srai_epi32
#undef _mm512_maskz_loadu_ps
#undef _mm512_mask_storeu_ps
#undef _mm512_cvtepi32_epi16
#undef _mm512_cvtepu16_epi32
#undef _mm512_cvtph_ps
#undef _mm512_cvtps_epi32
#define _mm512_maskz_loadu_ps fill_maskz_loadu_ps
#define _mm512_mask_storeu_ps fill_mask_storeu_ps
#define _mm512_cvtepi32_epi16 fill_cvtepi32_epi16
#define _mm512_cvtepu16_epi32 fill_cvtepu16_epi32
#define _mm512_cvtph_ps fill_cvtph_ps
#define _mm512_cvtps_epi32 fill_cvtps_epi32

#endif
