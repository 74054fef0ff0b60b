/* SPDX-License-Identifier: MIT */
/*
 * Canonical scopes: one naming and one set of shapes per network, whatever dialect the file speaks.
 *
 * Canonical names are diffusers' for UNet, AutoencoderKL and AutoencoderTiny ("down_blocks.0.
 * attentions.1.transformer_blocks.0.attn1.to_q.weight"), transformers' CLIPTextModel names for text
 * encoders ("text_model.encoder.layers.3.mlp.fc1.weight", "text_projection.weight"), and
 * Real-ESRGAN's for upscalers. A scope is a limn_weights whose tensors are views of the file's:
 *   - projections that diffusers may store as 1x1 convolutions (proj_in, proj_out, the VAE's
 *     attention) are always [out, in];
 *   - fused OpenCLIP in_proj tensors are split into q/k/v row views;
 *   - f8 weights with a scale of their own ("scaled fp8") are widened to owned f16;
 *   - text_projection.weight is always [projection, width] (OpenCLIP stores the transpose: that one
 *     small tensor is copied).
 * The config comes from `config_json` (the text of diffusers' or transformers' config.json, see
 * "limn.config*" in weights.h) when that is not NULL, else from the tensors themselves; the head
 * rule is then: 8 heads when the context is 768 wide (SD 1.x), else 64 channels per head.
 *
 * `prefix` selects the part inside the set ("model.diffusion_model.", "unet.", ""); detect.h finds
 * it. Tensors under the prefix that have no place in the network are named in the scope's metadata
 * "limn.unmapped" (comma separated, at most 8) and logged, never silently dropped.
 * Any thread; results are immutable.
 */
#ifndef LIMN_FORMATS_CANON_H
#define LIMN_FORMATS_CANON_H

#include "formats/model_config.h"
#include "formats/weights.h"

/* Each: E_MISSING when the part is not there or lacks tensors, E_SHAPE / E_UNSUPPORTED when its
 * shapes make no network of this kind. */
limn_status limn_canon_unet(limn_weights **out, limn_unet_config *cfg, const limn_weights *w,
                            const char *prefix, const char *config_json, limn_err *err);
limn_status limn_canon_vae(limn_weights **out, limn_vae_config *cfg, const limn_weights *w,
                           const char *prefix, const char *config_json, limn_err *err);
limn_status limn_canon_taesd(limn_weights **out, limn_taesd_config *cfg, const limn_weights *w,
                             const char *prefix, const char *config_json, limn_err *err);
limn_status limn_canon_clip(limn_weights **out, limn_clip_config *cfg, const limn_weights *w,
                            const char *prefix, const char *config_json, limn_err *err);
limn_status limn_canon_upscaler(limn_weights **out, limn_upscaler_config *cfg,
                                const limn_weights *w, const char *prefix, limn_err *err);
/* The original (CompVis) name of a canonical UNet tensor or module, into name [size]; false when it
 * has none. LoRA files use either. */
bool limn_canon_unet_original(char *name, size_t size, const limn_unet_config *cfg,
                              const char *canonical);
/* llama.cpp names (blk.N.attn_q.weight) or transformers names -> transformers names without the
 * "model." / "language_model." prefix ("layers.0.self_attn.q_proj.weight"). No config: GGUF
 * metadata or config.json carry it. Rows of Q and K are as the file has them (llama.cpp permutes
 * them for the "llama" architecture only). */
limn_status limn_canon_llm(limn_weights **out, const limn_weights *w, limn_err *err);
/* llama.cpp's name of a canonical tensor of limn_canon_llm, into name [size]; false: it has none.
 */
bool limn_canon_llm_gguf(char *name, size_t size, const char *canonical);

#endif
