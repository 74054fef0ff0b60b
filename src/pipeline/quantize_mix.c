/* SPDX-License-Identifier: MIT */
/* The recipes; see quantize_mix.h. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "pipeline/quantize_mix.h"

#define ALL(t) .base = t, .output = t, .embed = t, .value = {t, t}, .down = {t, t}, .joint = t
/* The base with a finer output layer. */
#define FINE(t, out)                                                                               \
    .base = t, .output = out, .embed = t, .value = {t, t}, .down = {t, t}, .joint = t

/* A table reads better in rows. */
/* clang-format off */
static const limn_mix mixes[] = {
    {"f32", 0, ALL(LIMN_F32), .image = LIMN_F32, .help = "32-bit floats"},
    {"f16", 1, ALL(LIMN_F16), .image = LIMN_F16, .help = "16-bit floats"},
    {"bf16", 32, ALL(LIMN_BF16), .image = LIMN_BF16, .help = "16-bit floats with the range of f32"},
    {"q8_0", 7, ALL(LIMN_Q8_0), .image = LIMN_Q8_0, .help = "8.5 bits, nothing to be seen of it"},
    {"q4_0", 2, FINE(LIMN_Q4_0, LIMN_Q6_K), .image = LIMN_Q4_0, .help = "4.5 bits, the simplest"},
    {"q4_1", 3, FINE(LIMN_Q4_1, LIMN_Q6_K), .image = LIMN_Q4_1, .help = "5 bits"},
    {"q5_0", 8, FINE(LIMN_Q5_0, LIMN_Q6_K), .image = LIMN_Q5_0, .help = "5.5 bits"},
    {"q5_1", 9, FINE(LIMN_Q5_1, LIMN_Q6_K), .image = LIMN_Q5_1, .help = "6 bits"},
    {"q2_k", 10, .base = LIMN_Q2_K, .output = LIMN_Q6_K, .embed = LIMN_Q2_K,
     .value = {LIMN_Q4_K, LIMN_Q3_K}, .down = {LIMN_Q4_K, LIMN_Q3_K}, .joint = LIMN_Q3_K,
     .image = LIMN_Q2_K, .help = "2.6 bits and up, for when nothing else fits"},
    {"q3_k_s", 11, FINE(LIMN_Q3_K, LIMN_Q6_K), .image = LIMN_Q3_K, .help = "3.4 bits"},
    {"q3_k_m", 12, .base = LIMN_Q3_K, .output = LIMN_Q6_K, .embed = LIMN_Q3_K,
     .value = {LIMN_Q5_K, LIMN_Q4_K}, .down = {LIMN_Q5_K, LIMN_Q4_K}, .joint = LIMN_Q4_K,
     .image = LIMN_Q3_K, .help = "3.4 bits, more for what matters"},
    {"q3_k_l", 13, .base = LIMN_Q3_K, .output = LIMN_Q6_K, .embed = LIMN_Q3_K,
     .value = {LIMN_Q5_K, LIMN_Q5_K}, .down = {LIMN_Q5_K, LIMN_Q5_K}, .joint = LIMN_Q5_K,
     .image = LIMN_Q3_K, .help = "3.4 bits, still more for what matters"},
    {"q4_k_s", 14, .base = LIMN_Q4_K, .output = LIMN_Q6_K, .embed = LIMN_Q4_K,
     .value = {LIMN_Q5_K, LIMN_Q4_K}, .down = {LIMN_Q5_K, LIMN_Q4_K}, .joint = LIMN_Q4_K,
     .image = LIMN_Q4_K, .help = "4.5 bits, a little more for what matters"},
    {"q4_k_m", 15, .base = LIMN_Q4_K, .output = LIMN_Q6_K, .embed = LIMN_Q4_K,
     .value = {LIMN_Q6_K, LIMN_Q4_K}, .down = {LIMN_Q6_K, LIMN_Q4_K}, .joint = LIMN_Q4_K,
     .image = LIMN_Q4_K, .help = "4.5 bits, more for what matters: the usual choice"},
    {"q5_k_s", 16, FINE(LIMN_Q5_K, LIMN_Q6_K), .image = LIMN_Q5_K, .help = "5.5 bits"},
    {"q5_k_m", 17, .base = LIMN_Q5_K, .output = LIMN_Q6_K, .embed = LIMN_Q5_K,
     .value = {LIMN_Q6_K, LIMN_Q5_K}, .down = {LIMN_Q6_K, LIMN_Q5_K}, .joint = LIMN_Q5_K,
     .image = LIMN_Q5_K, .help = "5.5 bits, more for what matters"},
    {"q6_k", 18, ALL(LIMN_Q6_K), .image = LIMN_Q6_K, .help = "6.6 bits"},
    {"iq4_nl", 25, .base = LIMN_IQ4_NL, .output = LIMN_Q6_K, .embed = LIMN_IQ4_NL,
     .value = {LIMN_Q5_K, LIMN_Q5_K}, .down = {LIMN_Q5_K, LIMN_IQ4_NL}, .joint = LIMN_IQ4_NL,
     .image = LIMN_IQ4_NL, .help = "4.5 bits on levels that are closer near zero"},
    {"iq4_xs", 30, .base = LIMN_IQ4_XS, .output = LIMN_Q6_K, .embed = LIMN_IQ4_XS,
     .value = {LIMN_Q5_K, LIMN_Q5_K}, .down = {LIMN_Q5_K, LIMN_IQ4_XS}, .joint = LIMN_IQ4_XS,
     .image = LIMN_IQ4_XS, .help = "4.25 bits on the same levels"},
    /* one type for every large tensor */
    {"q3_k", 11, ALL(LIMN_Q3_K), .image = LIMN_Q3_K, .help = "q3_K everywhere"},
    {"q4_k", 14, ALL(LIMN_Q4_K), .image = LIMN_Q4_K, .help = "q4_K everywhere"},
    {"q5_k", 16, ALL(LIMN_Q5_K), .image = LIMN_Q5_K, .help = "q5_K everywhere"},
};
/* clang-format on */
enum { MIXES = sizeof mixes / sizeof mixes[0] };

const limn_mix *limn_mix_at(int i) {
    return i >= 0 && i < MIXES ? &mixes[i] : NULL;
}

const limn_mix *limn_mix_find(const char *name) {
    for (int i = 0; i < MIXES; i++) {
        const char *a = mixes[i].name, *b = name;
        while (*a && *b && *a == (*b == '-' ? '_' : tolower((unsigned char)*b))) a++, b++;
        if (!*a && !*b) return &mixes[i];
    }
    return NULL;
}

/* The next type whose block divides a row. */
static limn_dtype fitting(limn_dtype t, int64_t cols) {
    static const limn_dtype instead[LIMN_DTYPE_COUNT] = {
        [LIMN_Q2_K] = LIMN_IQ4_NL, [LIMN_Q3_K] = LIMN_IQ4_NL, [LIMN_IQ4_XS] = LIMN_IQ4_NL,
        [LIMN_Q4_K] = LIMN_Q5_0,   [LIMN_Q5_K] = LIMN_Q5_1,   [LIMN_Q6_K] = LIMN_Q8_0,
    };
    if (cols % limn_dtype_get(t)->block == 0) return t;
    if (limn_dtype_get(t)->block == 256 && cols % 32 == 0) return instead[t];
    return LIMN_F16;
}

static bool is_important(int layer, int layers) {
    int edge = layers / 8;
    return layer < edge || layer >= layers - edge || (layer - edge) % 3 == 2;
}

static limn_dtype llm_type(const limn_mix *mix, const limn_export *x, const char *name) {
    int layer = -1;
    char what[64] = "";
    if (strcmp(name, "output.weight") == 0) return mix->output;
    if (strcmp(name, "token_embd.weight") == 0) {
        for (size_t i = 0; i < x->n_parts; i++)
            if (strcmp(x->parts[i].name, "output.weight") == 0) return mix->embed;
        return mix->output;
    }
    if (sscanf(name, "blk.%d.%63s", &layer, what) != 2) return mix->base;
    int rest = is_important(layer, x->layers) ? 0 : 1;
    if (strncmp(what, "attn_v.", 7) == 0) return mix->value[rest];
    if (strncmp(what, "ffn_down.", 9) == 0 || strncmp(what, "ffn_down_exps.", 14) == 0)
        return mix->down[rest];
    if (strncmp(what, "attn_output.", 12) == 0) return mix->joint;
    return mix->base;
}

/* Tensors of few numbers, or whose every number matters. */
static bool stays_f32(const limn_export *x, const limn_export_part *p) {
    if (p->shape.ndim < 2 || p->rows < 2) return true;
    if (x->kind == LIMN_EXPORT_LLM && strstr(p->name, ".ffn_gate_inp.")) return true; /* a router */
    return x->kind == LIMN_EXPORT_VISION && strcmp(p->name, "v.position_embd.weight") == 0;
}

limn_dtype limn_mix_type(const limn_mix *mix, const limn_export *x, const limn_export_part *p) {
    limn_dtype from = p->from.dtype;
    bool floating = limn_dtype_get(from)->quantised || from == LIMN_F32 || from == LIMN_F16 ||
                    from == LIMN_BF16 || from == LIMN_F64 || from == LIMN_F8_E4M3 ||
                    from == LIMN_F8_E5M2;
    if (!floating) return from;
    if (stays_f32(x, p) || mix->base == LIMN_F32) return LIMN_F32;
    bool plain = !limn_dtype_get(mix->base)->quantised;
    /* kernels of convolutions: few numbers, and no rows to cut into blocks */
    bool experts = x->kind == LIMN_EXPORT_LLM && strstr(p->name, "_exps.");
    if (p->shape.ndim > 2 && !experts) return plain ? mix->base : LIMN_F16;
    if (plain) return mix->base;
    if (x->kind == LIMN_EXPORT_VISION) return fitting(LIMN_Q8_0, p->cols); /* small and delicate */
    return fitting(x->kind == LIMN_EXPORT_LLM ? llm_type(mix, x, p->name) : mix->image, p->cols);
}
