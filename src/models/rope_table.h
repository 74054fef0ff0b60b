/* SPDX-License-Identifier: MIT */
/*
 * Rotary tables of language models, made on the host: plain, scaled (linear, llama3, YaRN) and
 * interleaved M-RoPE. Frequencies and angles are f32 as in transformers (modeling_rope_utils.py;
 * models/qwen3_vl Qwen3VLTextRotaryEmbedding). Pure functions, any thread.
 */
#ifndef LIMN_MODELS_ROPE_TABLE_H
#define LIMN_MODELS_ROPE_TABLE_H

#include "formats/llm_config.h"

/* freq [cfg->dim / 2]; returns the factor of cos and sin (YaRN's attention factor, else 1). */
float limn_rope_frequencies(float *freq, const limn_rope_config *cfg);
/* cos and sin [n, cfg->dim / 2]; pos [3, n] (t, h, w; stride between axes pos_stride), of which
 * models without sections read t only. Frequency i follows h when i % 3 == 1, w when i % 3 == 2, as
 * far as their sections reach, else t. cfg->dim is at most 1024. */
void limn_rope_table(float *cosines, float *sines, const limn_rope_config *cfg, const int32_t *pos,
                     int64_t pos_stride, int64_t n);

#endif
