/* SPDX-License-Identifier: MIT */
/*
 * Quantised panels times 8-bit activations in plain C: the specification of the instruction sets'
 * kernels, which give the same bits. Every type is brought to signed products of codes and scales
 * (16 bits, [32][LIMN_QUANT_NR]) with a scale, and for some a minimum, per group.
 */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "kernels/quant_panel.h"

enum { NR = LIMN_QUANT_NR, CODES = 32 * LIMN_QUANT_NR };

static float half_at(const uint8_t *p, int r) {
    uint16_t h;
    memcpy(&h, p + 2 * r, 2);
    return limn_f16_to_f32(h);
}

/* Byte of element e of row r in words below p. */
static uint8_t byte_at(const uint8_t *p, int e, int r) {
    return p[(e / 4 * NR + r) * 4 + e % 4];
}

static int nibble_at(const uint8_t *p, int e, int r) {
    return byte_at(p, e % 16, r) >> (e / 16 * 4) & 15;
}

static void expand_q8_0(void *codes, float *scale, float *min, const void *blocks, size_t groups) {
    const uint8_t *b = blocks;
    int16_t *out = codes;
    (void)min;
    for (size_t g = 0; g < groups; g++, b += NR * 34)
        for (int r = 0; r < NR; r++) {
            scale[g * NR + (size_t)r] = half_at(b + 32 * NR, r);
            for (int e = 0; e < 32; e++)
                out[g * CODES + (size_t)(e * NR + r)] = (int8_t)byte_at(b, e, r);
        }
}

static void expand_q4_0(void *codes, float *scale, float *min, const void *blocks, size_t groups) {
    const uint8_t *b = blocks;
    int16_t *out = codes;
    (void)min;
    for (size_t g = 0; g < groups; g++, b += NR * 18)
        for (int r = 0; r < NR; r++) {
            scale[g * NR + (size_t)r] = half_at(b + LIMN_QUANT_NIBBLES, r);
            for (int e = 0; e < 32; e++)
                out[g * CODES + (size_t)(e * NR + r)] = (int16_t)(nibble_at(b, e, r) - 8);
        }
}

/* Scale and minimum of group g of q4_K and q5_K: 6 bits each, in 12 rows of bytes. */
static void scales_at(const uint8_t *s, int g, int r, int *sc, int *m) {
    int a = s[(g & 3) * NR + r], b = s[((g & 3) + 4) * NR + r], c = s[((g & 3) + 8) * NR + r];
    *sc = g < 4 ? a & 63 : (c & 15) | a >> 6 << 4;
    *m = g < 4 ? b & 63 : c >> 4 | b >> 6 << 4;
}

static void expand_k45(int16_t *out, float *scale, float *min, const uint8_t *b, size_t groups,
                       bool fifth) {
    const uint8_t *head = NULL;
    for (size_t g = 0; g < groups; g++, out += CODES, scale += NR, min += NR) {
        if (g % 8 == 0) {
            head = b;
            b += LIMN_QUANT_K_HEAD;
        }
        for (int r = 0; r < NR; r++) {
            int sc, m;
            scales_at(head + LIMN_QUANT_K_SCALES, (int)(g % 8), r, &sc, &m);
            scale[r] = half_at(head, r) * (float)sc;
            min[r] = half_at(head + 2 * NR, r) * (float)m;
            for (int e = 0; e < 32; e++) {
                int q = nibble_at(b, e, r);
                if (fifth) q |= (byte_at(b + LIMN_QUANT_NIBBLES, e % 4, r) >> (e / 4) & 1) << 4;
                out[e * NR + r] = (int16_t)q;
            }
        }
        b += LIMN_QUANT_NIBBLES + (fifth ? 4 * NR : 0);
    }
}

static void expand_q4_k(void *codes, float *scale, float *min, const void *blocks, size_t groups) {
    expand_k45(codes, scale, min, blocks, groups, false);
}

static void expand_q5_k(void *codes, float *scale, float *min, const void *blocks, size_t groups) {
    expand_k45(codes, scale, min, blocks, groups, true);
}

static void expand_q6_k(void *codes, float *scale, float *min, const void *blocks, size_t groups) {
    const uint8_t *b = blocks, *head = NULL;
    int16_t *out = codes;
    (void)min;
    for (size_t g = 0; g < groups; g++, out += CODES, scale += NR) {
        if (g % 8 == 0) {
            head = b;
            b += LIMN_QUANT_6_HEAD;
        }
        const int8_t *sc = (const int8_t *)head + LIMN_QUANT_6_SCALES + g % 8 * 2 * NR;
        for (int r = 0; r < NR; r++) {
            scale[r] = half_at(head, r);
            for (int e = 0; e < 32; e++) {
                int s = e / 4, top = byte_at(b + LIMN_QUANT_NIBBLES, s / 4 * 4 + e % 4, r);
                int q = nibble_at(b, e, r) | (top >> (s % 4 * 2) & 3) << 4;
                out[e * NR + r] = (int16_t)(sc[e / 16 * NR + r] * (q - 32));
            }
        }
        b += LIMN_QUANT_NIBBLES + 8 * NR;
    }
}

static void tile(const limn_quant_tile *t) {
    for (int i = 0; i < t->m; i++) {
        size_t row = (size_t)i * t->x.stride;
        const int8_t *codes = t->x.q + row;
        const float *scales = (const float *)(const void *)((const char *)t->x.d + row);
        const float *sums = (const float *)(const void *)((const char *)t->x.s + row);
        float *c = t->c + (size_t)i * t->c_stride;
        if (!t->accumulate) memset(c, 0, NR * sizeof *c);
        for (size_t g = 0; g < t->groups; g++) {
            const int16_t *w = (const int16_t *)t->b + g * CODES;
            const int8_t *q = codes + (t->group0 + g) * 32;
            int32_t sum[NR] = {0};
            for (int e = 0; e < 32; e++)
                for (int r = 0; r < NR; r++) sum[r] += w[e * NR + r] * q[e];
            float d = scales[t->group0 + g], s = sums[t->group0 + g];
            for (int r = 0; r < NR; r++) {
                if (t->min) c[r] = fmaf(-t->min[g * NR + (size_t)r], s, c[r]);
                c[r] = fmaf((float)sum[r], t->scale[g * NR + (size_t)r] * d, c[r]);
            }
        }
    }
}

/* Expands a block after the other. */
static void few(const limn_quant_tile *t, limn_dtype type, const limn_quant_kernels *k) {
    int16_t codes[8 * CODES];
    float scale[8 * NR], min[8 * NR];
    size_t step = (size_t)limn_dtype_get(type)->block / 32;
    limn_quant_tile part = *t;
    part.b = codes;
    part.scale = scale;
    part.min = k->minima ? min : NULL;
    part.groups = step;
    for (size_t g = 0; g < t->groups; g += step) {
        part.group0 = t->group0 + g;
        k->expand(codes, scale, min, (const char *)t->b + limn_quant_panel_bytes(type, g), step);
        tile(&part);
        part.accumulate = true;
    }
}

#define KERNELS(ID, name, has_min)                                                                 \
    static const limn_quant_kernels expanded_##name = {.minima = has_min,                          \
                                                       .expand = expand_##name};                   \
    static void few_##name(const limn_quant_tile *t) {                                             \
        few(t, LIMN_##ID, &expanded_##name);                                                       \
    }
#define SET(ID, name, has_min)                                                                     \
    k->quant[LIMN_##ID] = (limn_quant_kernels){.minima = has_min,                                  \
                                               .few_rows = LIMN_QUANT_FEW,                         \
                                               .group_bytes = CODES * sizeof(int16_t),             \
                                               .few = few_##name,                                  \
                                               .expand = expand_##name,                            \
                                               .tile = tile};
#define EACH(X)                                                                                    \
    X(Q8_0, q8_0, false)                                                                           \
    X(Q4_0, q4_0, false)                                                                           \
    X(Q4_K, q4_k, true)                                                                            \
    X(Q5_K, q5_k, true)                                                                            \
    X(Q6_K, q6_k, false)

EACH(KERNELS)

static void quantise_q8(int8_t *q, int16_t *w, float *d, float *s, int16_t *h, const float *x,
                        size_t n, unsigned how) {
    const bool powers = how & LIMN_Q8_POWERS, biased = how & LIMN_Q8_BIASED;
    for (size_t b = 0; b < n / 32; b++, x += 32, q += 32) {
        float peak = 0;
        int32_t sum[2] = {0};
        for (int i = 0; i < 32; i++) peak = fmaxf(peak, fabsf(x[i]));
        d[b] = powers ? limn_quant_power(peak / 127.0f) : peak / 127.0f;
        float inverse = d[b] <= 0 ? 0 : powers ? 1.0f / d[b] : 127.0f / peak;
        for (int i = 0; i < 32; i++) {
            q[i] = (int8_t)nearbyintf(x[i] * inverse);
            sum[i / 16] += q[i];
            if (w) w[b * 32 + (size_t)((i & ~3) | (i & 1) << 1 | (i >> 1 & 1))] = q[i];
        }
        h[2 * b] = (int16_t)sum[0];
        h[2 * b + 1] = (int16_t)sum[1];
        s[b] = d[b] * (float)(sum[0] + sum[1]);
        for (int i = 0; biased && i < 32; i++) q[i] ^= -128;
        if (biased && powers) d[b] *= LIMN_Q8_SHIFT;
    }
}

void limn_gemm_fill_quant_c(limn_gemm_kernels *k) {
    EACH(SET)
    k->quantise_q8 = quantise_q8;
}
