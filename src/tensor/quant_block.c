/* SPDX-License-Identifier: MIT */
/* Block-quantised conversion in plain C; see quant_block.h. */
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

typedef void block_reader(float *y, const uint8_t *b);
typedef void block_writer(uint8_t *b, const float *x);

typedef struct block_row {
    block_reader *read;
    block_writer *write;
} block_row;

static const block_row block_rows[LIMN_DTYPE_COUNT] = {
    [LIMN_Q8_0] = {q8_0_read, q8_0_write},
    [LIMN_Q4_0] = {q4_0_read, q4_0_write},
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
