/* SPDX-License-Identifier: MIT */
/*
 * Block-quantised conversion in plain C; see quant_block.h.
 *
 * Layout facts are those of ggml-common.h. Each reader multiplies in the order of ggml's
 * dequantisers (scale products first, then the code), so that the results agree to the bit.
 * In the 256-element types `d` and `dmin` are f16 super-scales of 16 or 32 element groups.
 */
#include "tensor/quant_block.h"

#include <assert.h>
#include <math.h>

static float f16_at(const uint8_t *p) {
    uint16_t h;
    memcpy(&h, p, 2);
    return limn_f16_to_f32(h);
}

static void f16_put(uint8_t *p, float f) {
    uint16_t h = limn_f32_to_f16(f);
    memcpy(p, &h, 2);
}

/* q8_0: f16 scale, 32 signed bytes; x = d * q */
static void q8_0_read(float *y, const uint8_t *b) {
    float d = f16_at(b);
    for (int i = 0; i < 32; i++) y[i] = d * (float)(int8_t)b[2 + i];
}

static void q8_0_write(uint8_t *b, const float *x) {
    float amax = 0;
    for (int i = 0; i < 32; i++) amax = fmaxf(amax, fabsf(x[i]));
    float d = amax / 127.0f, id = d > 0 ? 1.0f / d : 0.0f;
    f16_put(b, d);
    for (int i = 0; i < 32; i++) b[2 + i] = (uint8_t)(int8_t)roundf(x[i] * id);
}

/* q4_0: f16 scale, 16 bytes; low nibbles are elements 0..15, high ones 16..31; x = d * (q - 8) */
static void q4_0_read(float *y, const uint8_t *b) {
    float d = f16_at(b);
    for (int i = 0; i < 16; i++) {
        y[i] = d * (float)((b[2 + i] & 15) - 8);
        y[i + 16] = d * (float)((b[2 + i] >> 4) - 8);
    }
}

static int q4_0_code(float v) {
    int q = (int)(v + 8.5f);
    return q > 15 ? 15 : q < 0 ? 0 : q;
}

static void q4_0_write(uint8_t *b, const float *x) {
    float peak = 0; /* the value of largest magnitude, with its sign, maps to code 0 (-8) */
    for (int i = 0; i < 32; i++)
        if (fabsf(x[i]) > fabsf(peak)) peak = x[i];
    float d = peak / -8.0f, id = d != 0 ? 1.0f / d : 0.0f;
    f16_put(b, d);
    for (int i = 0; i < 16; i++)
        b[2 + i] = (uint8_t)(q4_0_code(x[i] * id) | q4_0_code(x[i + 16] * id) << 4);
}

/* q4_1: f16 scale, f16 minimum, 16 bytes of nibbles as q4_0; x = d * q + m */
static void q4_1_read(float *y, const uint8_t *b) {
    float d = f16_at(b), m = f16_at(b + 2);
    for (int i = 0; i < 16; i++) {
        y[i] = d * (float)(b[4 + i] & 15) + m;
        y[i + 16] = d * (float)(b[4 + i] >> 4) + m;
    }
}

/* Code of element i (0..31): nibble as in q4_0, fifth bit from the little-endian word at qh. */
static int five_bit_code(const uint8_t *qh, const uint8_t *qs, int i) {
    int low = i < 16 ? qs[i] & 15 : qs[i - 16] >> 4;
    return low | ((qh[i / 8] >> (i % 8)) & 1) << 4;
}

/* q5_0: f16 scale, 4 bytes of fifth bits, 16 bytes of nibbles; x = d * (q - 16) */
static void q5_0_read(float *y, const uint8_t *b) {
    float d = f16_at(b);
    for (int i = 0; i < 32; i++) y[i] = d * (float)(five_bit_code(b + 2, b + 6, i) - 16);
}

/* q5_1: f16 scale, f16 minimum, then as q5_0; x = d * q + m */
static void q5_1_read(float *y, const uint8_t *b) {
    float d = f16_at(b), m = f16_at(b + 2);
    for (int i = 0; i < 32; i++) y[i] = d * (float)five_bit_code(b + 4, b + 8, i) + m;
}

/* Two-bit field of element i in 64 bytes: each 128 elements share 32 bytes, 32 per bit pair. */
static int two_bit_code(const uint8_t *qs, int i) {
    return (qs[i / 128 * 32 + i % 32] >> (2 * (i / 32 % 4))) & 3;
}

/* q2_K: 16 bytes (scale nibble low, minimum nibble high) per 16 elements, 64 bytes of 2-bit codes,
 * f16 d, f16 dmin; x = d * sc * q - dmin * m */
static void q2_k_read(float *y, const uint8_t *b) {
    const uint8_t *qs = b + 16;
    float d = f16_at(b + 80), dmin = f16_at(b + 82);
    for (int i = 0; i < 256; i++) {
        uint8_t sm = b[i / 16];
        float dl = d * (float)(sm & 15), ml = dmin * (float)(sm >> 4);
        y[i] = dl * (float)two_bit_code(qs, i) - ml;
    }
}

/* q3_K: 32 bytes of third bits (bit g of byte j: element 32 g + j; a clear bit subtracts 4),
 * 64 bytes of 2-bit codes, 12 bytes of sixteen 6-bit scales (offset 32), f16 d */
static void q3_k_read(float *y, const uint8_t *b) {
    const uint8_t *qs = b + 32, *s = b + 96;
    float d = f16_at(b + 108);
    for (int i = 0; i < 256; i++) {
        int g = i / 16, low = g < 8 ? s[g] & 15 : s[g - 8] >> 4;
        int sc = low | ((s[8 + g % 4] >> (2 * (g / 4))) & 3) << 4;
        int q = two_bit_code(qs, i) - ((b[i % 32] >> (i / 32)) & 1 ? 0 : 4);
        y[i] = d * (float)(sc - 32) * (float)q;
    }
}

/* Scale and minimum (6 bits each) of group g (0..7) in the 12 bytes of q4_K and q5_K: groups 0..3
 * have bytes of their own, 4..7 take their low nibble from bytes 8..11 and their top two bits from
 * the spare bits of the first eight. */
static void scale_min_at(const uint8_t *s, int g, float *sc, float *m) {
    if (g < 4) {
        *sc = (float)(s[g] & 63);
        *m = (float)(s[g + 4] & 63);
    } else {
        *sc = (float)((s[g + 4] & 15) | ((s[g - 4] >> 6) << 4));
        *m = (float)((s[g + 4] >> 4) | ((s[g] >> 6) << 4));
    }
}

/* q4_K: f16 d, f16 dmin, 12 bytes of scales, 128 bytes of nibbles: 32 bytes serve 64 elements, low
 * nibbles first; x = d * sc * q - dmin * m per 32 elements */
static void q4_k_read(float *y, const uint8_t *b) {
    float d = f16_at(b), dmin = f16_at(b + 2);
    for (int g = 0; g < 8; g++) {
        float sc, m;
        scale_min_at(b + 4, g, &sc, &m);
        const uint8_t *qs = b + 16 + g / 2 * 32;
        float dl = d * sc, ml = dmin * m;
        for (int i = 0; i < 32; i++)
            y[g * 32 + i] = dl * (float)((qs[i] >> (4 * (g & 1))) & 15) - ml;
    }
}

/* q5_K: as q4_K with 32 bytes of fifth bits (bit g of byte j: element 32 g + j) before the nibbles
 */
static void q5_k_read(float *y, const uint8_t *b) {
    float d = f16_at(b), dmin = f16_at(b + 2);
    const uint8_t *qh = b + 16;
    for (int g = 0; g < 8; g++) {
        float sc, m;
        scale_min_at(b + 4, g, &sc, &m);
        const uint8_t *qs = b + 48 + g / 2 * 32;
        float dl = d * sc, ml = dmin * m;
        for (int i = 0; i < 32; i++) {
            int q = ((qs[i] >> (4 * (g & 1))) & 15) | ((qh[i] >> g) & 1) << 4;
            y[g * 32 + i] = dl * (float)q - ml;
        }
    }
}

/* q6_K: 128 bytes of low nibbles, 64 bytes of top bit pairs, 16 signed scales, f16 d;
 * x = d * sc * (q - 32). Per 128 elements: 64 bytes serve two rows of 32 low and two rows high. */
static void q6_k_read(float *y, const uint8_t *b) {
    const uint8_t *qh = b + 128, *sc = b + 192;
    float d = f16_at(b + 208);
    for (int i = 0; i < 256; i++) {
        int half = i / 128, row = i / 32 % 4, j = i % 32;
        int low = (b[half * 64 + (row & 1) * 32 + j] >> (4 * (row >> 1))) & 15;
        int q = low | ((qh[half * 32 + j] >> (2 * row)) & 3) << 4;
        y[i] = d * (float)(int8_t)sc[i / 16] * (float)(q - 32);
    }
}

/* The 16 levels of the non-linear 4-bit types. */
static const int8_t iq4_levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                      1,    13,   25,  38,  53,  69,  89,  113};

/* 32 elements from 16 bytes of nibbles through the level table */
static void iq4_group_read(float *y, const uint8_t *qs, float d) {
    for (int i = 0; i < 16; i++) {
        y[i] = d * (float)iq4_levels[qs[i] & 15];
        y[i + 16] = d * (float)iq4_levels[qs[i] >> 4];
    }
}

/* iq4_nl: f16 scale, 16 bytes of nibbles */
static void iq4_nl_read(float *y, const uint8_t *b) {
    iq4_group_read(y, b + 2, f16_at(b));
}

/* iq4_xs: f16 d, 8 x 2 top bits, 8 low nibbles of 6-bit scales (offset 32), 128 bytes of nibbles */
static void iq4_xs_read(float *y, const uint8_t *b) {
    float d = f16_at(b);
    unsigned high = b[2] | (unsigned)b[3] << 8;
    for (int g = 0; g < 8; g++) {
        int sc = ((b[4 + g / 2] >> (4 * (g & 1))) & 15) | (int)((high >> (2 * g)) & 3) << 4;
        iq4_group_read(y + g * 32, b + 8 + g * 16, d * (float)(sc - 32));
    }
}

typedef void block_reader(float *y, const uint8_t *b);
typedef void block_writer(uint8_t *b, const float *x);

typedef struct block_row {
    block_reader *read;
    block_writer *write;
} block_row;

static const block_row block_rows[LIMN_DTYPE_COUNT] = {
    [LIMN_Q8_0] = {q8_0_read, q8_0_write}, [LIMN_Q4_0] = {q4_0_read, q4_0_write},
    [LIMN_Q4_1] = {q4_1_read, NULL},       [LIMN_Q5_0] = {q5_0_read, NULL},
    [LIMN_Q5_1] = {q5_1_read, NULL},       [LIMN_Q2_K] = {q2_k_read, NULL},
    [LIMN_Q3_K] = {q3_k_read, NULL},       [LIMN_Q4_K] = {q4_k_read, NULL},
    [LIMN_Q5_K] = {q5_k_read, NULL},       [LIMN_Q6_K] = {q6_k_read, NULL},
    [LIMN_IQ4_NL] = {iq4_nl_read, NULL},   [LIMN_IQ4_XS] = {iq4_xs_read, NULL},
};

void limn_quant_block_to_f32(float *dst, const void *src, limn_dtype t, int64_t n) {
    const limn_dtype_info *info = limn_dtype_get(t);
    const block_row *row = &block_rows[t];
    assert(row->read && n % info->block == 0);
    const uint8_t *b = src;
    for (int64_t i = 0; i < n; i += info->block, b += info->bytes) row->read(dst + i, b);
}

bool limn_quant_block_from_f32(void *dst, const float *src, limn_dtype t, int64_t n) {
    const limn_dtype_info *info = limn_dtype_get(t);
    const block_row *row = &block_rows[t];
    if (!row->write || n % info->block != 0) return false;
    uint8_t *b = dst;
    for (int64_t i = 0; i < n; i += info->block, b += info->bytes) row->write(b, src + i);
    return true;
}
