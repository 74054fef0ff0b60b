/* SPDX-License-Identifier: MIT */
/* Interleaves quantised rows; see quant_panel.h. Works on words, since nothing but their place
 * changes. */
#include "kernels/quant_panel.h"

#include <assert.h>
#include <string.h>

enum { NR = LIMN_QUANT_NR };

bool limn_quant_panel_has(limn_dtype t) {
    return t == LIMN_Q8_0 || t == LIMN_Q4_0 || t == LIMN_Q4_K || t == LIMN_Q5_K || t == LIMN_Q6_K;
}

size_t limn_quant_panel_bytes(limn_dtype t, size_t groups) {
    const limn_dtype_info *info = limn_dtype_get(t);
    return groups * 32 / (size_t)info->block * (size_t)info->bytes * NR;
}

static inline uint32_t word_at(const uint8_t *p) {
    uint32_t w;
    memcpy(&w, p, 4);
    return w;
}

/* Word `s` of row `r` below `dst`. */
static inline void put_word(uint8_t *dst, int s, int r, uint32_t w) {
    memcpy(dst + (s * NR + r) * 4, &w, 4);
}

static inline void put_half(uint8_t *dst, int r, const uint8_t *half) {
    memcpy(dst + 2 * r, half, 2);
}

static void pack_q8_0(uint8_t *dst, int r, const uint8_t *b) {
    for (int s = 0; s < 8; s++) put_word(dst, s, r, word_at(b + 2 + 4 * s));
    put_half(dst + 8 * 4 * NR, r, b);
}

static void pack_q4_0(uint8_t *dst, int r, const uint8_t *b) {
    for (int s = 0; s < 4; s++) put_word(dst, s, r, word_at(b + 2 + 4 * s));
    put_half(dst + LIMN_QUANT_NIBBLES, r, b);
}

/* Nibbles of 32 elements from eight words: those of `shift` (0 or 4) belong to the group. */
static void put_nibbles(uint8_t *dst, int r, const uint32_t *w, int shift) {
    for (int s = 0; s < 4; s++)
        put_word(dst, s, r, (w[s] >> shift & 0x0f0f0f0f) | (w[s + 4] >> shift & 0x0f0f0f0f) << 4);
}

static void words_8(uint32_t *w, const uint8_t *p) {
    for (int s = 0; s < 8; s++) w[s] = word_at(p + 4 * s);
}

static void pack_k45(uint8_t *dst, int r, const uint8_t *b, bool fifth) {
    uint32_t w[8];
    size_t group = (size_t)LIMN_QUANT_NIBBLES + (fifth ? NR * 4 : 0);
    put_half(dst, r, b);
    put_half(dst + 2 * NR, r, b + 2);
    for (int i = 0; i < 12; i++) dst[LIMN_QUANT_K_SCALES + i * NR + r] = b[4 + i];
    uint8_t *to = dst + LIMN_QUANT_K_HEAD;
    for (int g = 0; g < 8; g++) {
        words_8(w, b + (fifth ? 48 : 16) + g / 2 * 32);
        put_nibbles(to + (size_t)g * group, r, w, 4 * (g & 1));
    }
    if (!fifth) return;
    words_8(w, b + 16);
    for (int g = 0; g < 8; g++) {
        uint32_t bits = 0;
        for (int s = 0; s < 8; s++) bits |= (w[s] >> g & 0x01010101) << s;
        put_word(to + (size_t)g * group + LIMN_QUANT_NIBBLES, 0, r, bits);
    }
}

static void pack_q4_k(uint8_t *dst, int r, const uint8_t *b) {
    pack_k45(dst, r, b, false);
}

static void pack_q5_k(uint8_t *dst, int r, const uint8_t *b) {
    pack_k45(dst, r, b, true);
}

static void pack_q6_k(uint8_t *dst, int r, const uint8_t *b) {
    uint32_t w[8];
    put_half(dst, r, b + 208);
    for (int i = 0; i < 16; i++) dst[LIMN_QUANT_6_SCALES + i * NR + r] = b[192 + i];
    uint8_t *to = dst + LIMN_QUANT_6_HEAD;
    for (int g = 0; g < 8; g++, to += LIMN_QUANT_NIBBLES + 8 * NR) {
        int half = g / 4, row = g % 4;
        words_8(w, b + half * 64 + (row & 1) * 32);
        put_nibbles(to, r, w, 4 * (row >> 1));
        words_8(w, b + 128 + half * 32);
        for (int t = 0; t < 2; t++) {
            uint32_t top = 0;
            for (int s = 0; s < 4; s++) top |= (w[4 * t + s] >> (2 * row) & 0x03030303) << (2 * s);
            put_word(to + LIMN_QUANT_NIBBLES, t, r, top);
        }
    }
}

void limn_quant_panel_pack(void *dst, const void *src, size_t row_bytes, int rows, limn_dtype t,
                           size_t k) {
    static void (*const pack[LIMN_DTYPE_COUNT])(uint8_t *, int, const uint8_t *) = {
        [LIMN_Q8_0] = pack_q8_0, [LIMN_Q4_0] = pack_q4_0, [LIMN_Q4_K] = pack_q4_k,
        [LIMN_Q5_K] = pack_q5_k, [LIMN_Q6_K] = pack_q6_k,
    };
    const limn_dtype_info *info = limn_dtype_get(t);
    size_t bytes = (size_t)info->bytes, blocks = k / (size_t)info->block;
    assert(pack[t] && rows <= NR && k % (size_t)info->block == 0);
    if (rows < NR) memset(dst, 0, blocks * bytes * NR);
    for (size_t i = 0; i < blocks; i++) {
        uint8_t *to = (uint8_t *)dst + i * bytes * NR;
        for (int r = 0; r < rows; r++)
            pack[t](to, r, (const uint8_t *)src + (size_t)r * row_bytes + i * bytes);
    }
}
