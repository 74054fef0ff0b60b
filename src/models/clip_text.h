/* SPDX-License-Identifier: MIT */
/*
 * CLIP text encoders: CLIP-L, OpenCLIP-H and bigG (transformers models/clip/modeling_clip.py).
 *
 * Token and position embeddings are summed by the caller's helper below, outside the graph, so that
 * textual-inversion vectors can stand where tokens do. One graph serves one batch and length.
 */
#ifndef LIMN_MODELS_CLIP_TEXT_H
#define LIMN_MODELS_CLIP_TEXT_H

#include "formats/model_config.h"
#include "nn/nn.h"

typedef struct limn_clip_request {
    int64_t batch, len;
    int skip;        /* hidden states are taken before the last `skip` layers: 0 = after all */
    bool final_norm; /* the tapped states pass the final LayerNorm (SD 1.x, 2.x; not SDXL) */
    bool pooled;     /* also give the pooled vector (needs all layers) */
} limn_clip_request;

/*
 * Input  "embeds" f32 [batch, len, width]: token + position embeddings
 *        "end" i32 [batch]: index of each sequence's end token; only when pooled
 * Output "hidden" [batch, len, width]; "pooled" [batch, projection or width]
 * E_VALUE when skip is outside 0..layers.
 */
void limn_clip_build(const limn_nn *nn, const limn_clip_config *cfg, const limn_clip_request *req);

/* embeds[i] = token_embedding[ids[i]] + position_embedding[i]; ids below 0 are textual-inversion
 * vectors: row -1 - ids[i] of `extra` [n_extra, width]. E_VALUE for an id outside the table. */
limn_status limn_clip_embed(float *embeds, const limn_nn *nn, const limn_clip_config *cfg,
                            const int32_t *ids, int64_t len, const float *extra, int64_t n_extra,
                            limn_err *err);

#endif
