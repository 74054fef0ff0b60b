/* SPDX-License-Identifier: MIT */
/* The dtype table and conversions of the plain types; block types are in quant_block.c. */
#include "tensor/dtype.h"

#include <math.h>
#include <strings.h>

#include "base/mem.h"
#include "tensor/quant_block.h"

static const limn_dtype_info infos[LIMN_DTYPE_COUNT] = {
#define X(id, name, block, bytes, quant) [LIMN_##id] = {name, block, bytes, quant},
    LIMN_DTYPE_LIST(X)
#undef X
};

const limn_dtype_info *limn_dtype_get(limn_dtype t) {
    return &infos[t];
}

bool limn_dtype_find(limn_dtype *out, const char *name) {
    for (int i = 0; i < LIMN_DTYPE_COUNT; i++)
        if (strcasecmp(infos[i].name, name) == 0) {
            *out = (limn_dtype)i;
            return true;
        }
    return false;
}

bool limn_dtype_row_bytes(size_t *out, limn_dtype t, int64_t n) {
    const limn_dtype_info *info = &infos[t];
    if (n < 0 || n % info->block != 0) return false;
    return limn_mul_size(out, (size_t)(n / info->block), (size_t)info->bytes);
}

float limn_f16_to_f32(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, e = (h >> 10) & 31, m = h & 0x3ff, u;
    if (e == 31)
        u = sign | 0x7f800000 | (m << 13);
    else if (e != 0)
        u = sign | ((e + 112) << 23) | (m << 13);
    else {
        float f = ldexpf((float)m, -24);
        return sign ? -f : f;
    }
    float f;
    memcpy(&f, &u, 4);
    return f;
}

uint16_t limn_f32_to_f16(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    uint32_t sign = (u >> 16) & 0x8000, a = u & 0x7fffffff;
    if (a > 0x7f800000) return (uint16_t)(sign | 0x7e00);   /* NaN */
    if (a >= 0x47800000) return (uint16_t)(sign | 0x7c00);  /* 65536 and up, infinity */
    if (a < 0x38800000) {                                   /* below 2^-14: subnormal */
        float scaled = ldexpf(fabsf(f), 24);                /* exact; in units of 2^-24 */
        return (uint16_t)(sign | (uint32_t)lrintf(scaled)); /* ties to even; may become 2^-14 */
    }
    uint32_t r = a + 0xfff + ((a >> 13) & 1);
    return (uint16_t)(sign | ((r - 0x38000000) >> 13)); /* may round up to infinity, as it should */
}

static float f8_decode(uint8_t v, int mant_bits, int bias, bool has_inf) {
    int e_bits = 7 - mant_bits;
    int e = (v >> mant_bits) & ((1 << e_bits) - 1), m = v & ((1 << mant_bits) - 1);
    int e_max = (1 << e_bits) - 1;
    float f;
    if (has_inf && e == e_max)
        f = m ? NAN : INFINITY;
    else if (!has_inf && e == e_max && m == (1 << mant_bits) - 1)
        f = NAN;
    else if (e == 0)
        f = ldexpf((float)m, 1 - bias - mant_bits);
    else
        f = ldexpf((float)(m + (1 << mant_bits)), e - bias - mant_bits);
    return v & 0x80 ? -f : f;
}

/* Nearest f8 code by exact search over the 127 magnitudes; ties go to the even code. Saturates. */
static uint8_t f8_encode(float f, int mant_bits, int bias, bool has_inf) {
    uint8_t sign = signbit(f) ? 0x80 : 0;
    if (isnan(f)) return (uint8_t)(sign | 0x7f);
    float a = fabsf(f);
    int top = has_inf ? (((1 << (7 - mant_bits)) - 1) << mant_bits) - 1 : 0x7e;
    int lo = 0, hi = top;
    while (lo < hi) { /* largest code whose value is <= a */
        int mid = (lo + hi + 1) / 2;
        if (f8_decode((uint8_t)mid, mant_bits, bias, has_inf) <= a)
            lo = mid;
        else
            hi = mid - 1;
    }
    if (lo < top) {
        float d0 = a - f8_decode((uint8_t)lo, mant_bits, bias, has_inf);
        float d1 = f8_decode((uint8_t)(lo + 1), mant_bits, bias, has_inf) - a;
        if (d1 < d0 || (d1 == d0 && (lo & 1))) lo++;
    }
    return (uint8_t)(sign | lo);
}

#define READ_LOOP(type, expr)                                                                      \
    do {                                                                                           \
        for (int64_t i = 0; i < n; i++) {                                                          \
            type v;                                                                                \
            memcpy(&v, (const char *)src + (size_t)i * sizeof v, sizeof v);                        \
            dst[i] = (expr);                                                                       \
        }                                                                                          \
    } while (0)

void limn_dtype_to_f32(float *dst, const void *src, limn_dtype t, int64_t n) {
    switch (t) {
    case LIMN_F32: memcpy(dst, src, (size_t)n * 4); return;
    case LIMN_F16: READ_LOOP(uint16_t, limn_f16_to_f32(v)); return;
    case LIMN_BF16: READ_LOOP(uint16_t, limn_bf16_to_f32(v)); return;
    case LIMN_F64: READ_LOOP(double, (float)v); return;
    case LIMN_F8_E4M3: READ_LOOP(uint8_t, f8_decode(v, 3, 7, false)); return;
    case LIMN_F8_E5M2: READ_LOOP(uint8_t, f8_decode(v, 2, 15, true)); return;
    case LIMN_I8: READ_LOOP(int8_t, (float)v); return;
    case LIMN_U8:
    case LIMN_BOOL: READ_LOOP(uint8_t, (float)v); return;
    case LIMN_I16: READ_LOOP(int16_t, (float)v); return;
    case LIMN_I32: READ_LOOP(int32_t, (float)v); return;
    case LIMN_I64: READ_LOOP(int64_t, (float)v); return;
    default: limn_quant_block_to_f32(dst, src, t, n); return;
    }
}

static float clamp_round(float f, float lo, float hi) {
    if (!(f > lo)) return lo; /* NaN goes to the lower end */
    return f < hi ? nearbyintf(f) : hi;
}

#define WRITE_LOOP(type, expr)                                                                     \
    do {                                                                                           \
        for (int64_t i = 0; i < n; i++) {                                                          \
            type v = (type)(expr);                                                                 \
            memcpy((char *)dst + (size_t)i * sizeof v, &v, sizeof v);                              \
        }                                                                                          \
    } while (0)

bool limn_dtype_from_f32(void *dst, const float *src, limn_dtype t, int64_t n) {
    switch (t) {
    case LIMN_F32: memcpy(dst, src, (size_t)n * 4); return true;
    case LIMN_F16: WRITE_LOOP(uint16_t, limn_f32_to_f16(src[i])); return true;
    case LIMN_BF16: WRITE_LOOP(uint16_t, limn_f32_to_bf16(src[i])); return true;
    case LIMN_F64: WRITE_LOOP(double, src[i]); return true;
    case LIMN_F8_E4M3: WRITE_LOOP(uint8_t, f8_encode(src[i], 3, 7, false)); return true;
    case LIMN_F8_E5M2: WRITE_LOOP(uint8_t, f8_encode(src[i], 2, 15, true)); return true;
    case LIMN_I8: WRITE_LOOP(int8_t, clamp_round(src[i], -128, 127)); return true;
    case LIMN_U8: WRITE_LOOP(uint8_t, clamp_round(src[i], 0, 255)); return true;
    case LIMN_I16: WRITE_LOOP(int16_t, clamp_round(src[i], -32768, 32767)); return true;
    case LIMN_I32:
        WRITE_LOOP(int32_t, clamp_round(src[i], -2147483648.0f, 2147483520.0f));
        return true;
    case LIMN_I64:
        WRITE_LOOP(int64_t, clamp_round(src[i], -9.2233715e18f, 9.2233715e18f));
        return true;
    case LIMN_BOOL: WRITE_LOOP(uint8_t, src[i] != 0); return true;
    default: return limn_quant_block_from_f32(dst, src, t, n);
    }
}
