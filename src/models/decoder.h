/* SPDX-License-Identifier: MIT */
/*
 * Decoder-only language models: one block for Qwen3 (norms on q and k), Qwen2 (biases on q, k, v),
 * Llama, Mistral and SmolLM (neither), dense or with experts; what a file has decides. Also the
 * text half of Qwen3-VL and the text encoder of image models (transformers models/qwen3, qwen2,
 * llama, qwen3_vl).
 *
 * Token embeddings are looked up by limn_decoder_embed, outside the graph, so that rows of a vision
 * tower can stand where tokens do; rotary tables are inputs made by models/rope_table.h. One graph
 * serves one batch and chunk length, at any position of the cache.
 */
#ifndef LIMN_MODELS_DECODER_H
#define LIMN_MODELS_DECODER_H

#include "formats/llm_config.h"
#include "nn/nn.h"

typedef enum limn_decoder_head {
    LIMN_HEAD_NONE, /* hidden states only */
    LIMN_HEAD_LAST, /* logits of one row of each sequence */
    LIMN_HEAD_ALL   /* logits of every row */
} limn_decoder_head;

typedef struct limn_decoder_request {
    int64_t batch, len;
    int64_t rows;     /* positions that the KV cache holds; 0: no cache, the text is whole */
    limn_dtype cache; /* of its states: f32, f16, bf16, q8_0 (heads of whole blocks) */
    bool branches;    /* the rows of a chunk are several ways to go on; see "span" */
    bool deepstack;   /* rows of the vision tower are added after the first layers */
    int layers;       /* how many to run; 0: all. Fewer need LIMN_HEAD_NONE */
    limn_decoder_head head;
    bool norm;       /* also give "norm": the states after the final norm */
    const int *taps; /* also give "hidden.N": 0 the embeddings, N the states after layer N - 1 */
    int n_taps;
} limn_decoder_request;

/*
 * Inputs  "embeds" f32 [batch, len, width]
 *         "cos", "sin" f32 [batch, len, rope.dim / 2]
 *         "span" i32 [batch, 2]: first cache row and used rows of each sequence; with a cache. With
 *         branches [batch, 2 + len], see limn_g_cached_attention
 *         "deepstack.N" f32 [batch, len, width]: 0 where there is no picture; with deepstack
 *         "last" i32 [batch]: the row to read; with LIMN_HEAD_LAST
 * States  "k.N", "v.N" [batch, rows, kv_heads * head_dim] (models/kv_cache.h binds them)
 * Output  "logits" [batch, vocab] or [batch, len, vocab], "norm", "hidden.N" [batch, len, width]
 * E_VALUE for layers or taps that the model does not have, E_MISSING for missing tensors.
 */
void limn_decoder_build(const limn_nn *nn, const limn_decoder_config *cfg,
                        const limn_decoder_request *req);

/* embeds [n, width] = rows ids[i] of the token embedding. E_VALUE for an id outside it. */
limn_status limn_decoder_embed(float *embeds, const limn_nn *nn, const limn_decoder_config *cfg,
                               const int32_t *ids, int64_t n, limn_err *err);

#endif
