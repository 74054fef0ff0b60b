/* SPDX-License-Identifier: MIT */
/*
 * Detection tables; see detect_rows.h. Keys are those that stable-diffusion.cpp (model_loader.cpp)
 * and diffusers (loaders/single_file_utils.py) also go by. The first row that fits wins, so
 * special cases stand before general ones.
 */
#include "formats/detect_rows.h"

#include <string.h>

#define P(part) LIMN_PART_##part
/* The position table tells a CLIP text tower from other encoders with the same layer names. */
#define BARE_CLIP                                                                                  \
    "embeddings.token_embedding.weight", "embeddings.position_embedding.weight",                   \
        "encoder.layers.0.self_attn.q_proj.weight"

const char *const *limn_detect_prefixes(limn_part part) {
    static const char *const net[] = {
        "model.diffusion_model.", "unet.", "transformer.", "diffusion_model.", "net.", "", NULL};
    static const char *const vae[] = {"first_stage_model.", "vae.", "", NULL};
    static const char *const te[] = {"cond_stage_model.",
                                     "conditioner.embedders.0.",
                                     "text_encoder.",
                                     "text_encoders.clip_l.",
                                     "",
                                     NULL};
    static const char *const te2[] = {"conditioner.embedders.1.", "conditioner.embedders.0.",
                                      "cond_stage_model.1.",      "text_encoder_2.",
                                      "text_encoders.clip_g.",    NULL};
    static const char *const te3[] = {"text_encoders.t5xxl.transformer.",
                                      "text_encoders.t5xxl.",
                                      "text_encoder_3.",
                                      "text_encoder_2.",
                                      "text_encoder.",
                                      "",
                                      NULL};
    static const char *const tiny[] = {"tae.", "vae.", "", NULL};
    static const char *const control[] = {"control_model.", "controlnet.", "", NULL};
    static const char *const none[] = {"", NULL};
    switch (part) {
    case P(UNET):
    case P(DIT): return net;
    case P(VAE): return vae;
    case P(TE): return te;
    case P(TE2): return te2;
    case P(TE3): return te3;
    case P(TAESD): return tiny;
    case P(CONTROLNET): return control;
    default: return none;
    }
}

/* clang-format off */
const limn_unet_row limn_unet_rows[] = {
    /* family, title, variant, in, context, add, mid, deep_up, supported */
    {"sdxl-refiner", "Stable Diffusion XL refiner", "", 4, 1280, 2560, 0, 0, true},
    {"sdxl", "Segmind Vega (pruned SDXL)", "vega", 4, 2048, 2816, 2, 2, true},
    {"sdxl", "Segmind SSD-1B (pruned SDXL)", "ssd-1b", 4, 2048, 2816, 2, 0, true},
    {"sdxl", "Stable Diffusion XL", "inpaint", 9, 2048, 2816, 0, 0, true},
    {"sdxl", "Stable Diffusion XL", "edit", 8, 2048, 2816, 0, 0, true},
    {"sdxl", "Stable Diffusion XL", "", 4, 2048, 2816, 0, 0, true},
    {"sd2", "Stable Diffusion 2.x", "inpaint", 9, 1024, 0, 0, 0, true},
    {"sd2", "Stable Diffusion 2 depth", "depth", 5, 1024, 0, 0, 0, false},
    {"sd2", "Stable Diffusion x4 upscaler", "x4-upscale", 7, 1024, 0, 0, 0, false},
    {"sd2", "Stable Diffusion 2.x", "edit", 8, 1024, 0, 0, 0, true},
    {"sd2", "SDXS (pruned SD 2.x)", "pruned", 4, 1024, 0, 3, 0, true},
    {"sd2", "Stable Diffusion 2.x", "", 4, 1024, 0, 0, 0, true},
    {"sd1", "Stable Diffusion 1.x", "inpaint", 9, 768, 0, 0, 0, true},
    {"sd1", "InstructPix2Pix (Stable Diffusion 1.x)", "edit", 8, 768, 0, 0, 0, true},
    {"sd1", "Stable Diffusion 1.x, pruned", "pruned", 4, 768, 0, 3, 0, true},
    {"sd1", "Stable Diffusion 1.x", "", 4, 768, 0, 0, 0, true},
    /* other sizes: own models, tests */
    {"sdxl", "UNet like Stable Diffusion XL", "custom", 0, 0, -1, 0, 0, true},
    {"sd1", "UNet like Stable Diffusion 1.x", "custom inpaint", 9, 0, 0, 0, 0, true},
    {"sd1", "UNet like Stable Diffusion 1.x", "custom edit", 8, 0, 0, 0, 0, true},
    {"sd1", "UNet like Stable Diffusion 1.x", "custom", 0, 0, 0, 0, 0, true},
};
const size_t limn_unet_row_count = sizeof limn_unet_rows / sizeof limn_unet_rows[0];

#define NO_DIM NULL, 0, 0
const limn_detect_row limn_detect_rows[] = {
    /* ---- diffusion transformers: recognised ---- */
    {P(DIT), "flux2", "FLUX.2 dev", "dev", false, {"double_stream_modulation_img.lin.weight", "single_blocks.47.linear1.weight"}, NULL, NO_DIM},
    {P(DIT), "flux2", "FLUX.2 klein", "klein", false, {"double_stream_modulation_img.lin.weight"}, NULL, NO_DIM},
    {P(DIT), "flux2", "FLUX.2", "", false, {"double_stream_modulation_img.linear.weight"}, NULL, NO_DIM},
    {P(DIT), "chroma-radiance", "Chroma Radiance", "", false, {"distilled_guidance_layer.in_proj.weight", "nerf_image_embedder.embedder.0.weight"}, NULL, NO_DIM},
    {P(DIT), "chroma", "Chroma", "", false, {"distilled_guidance_layer.in_proj.weight"}, NULL, NO_DIM},
    {P(DIT), "longcat", "LongCat-Image", "", false, {"double_blocks.0.img_attn.norm.key_norm.scale"}, NULL, "txt_in.weight", 1, 3584},
    {P(DIT), "flux", "FLUX.1 Fill", "fill", false, {"double_blocks.0.img_attn.norm.key_norm.scale"}, NULL, "img_in.weight", 1, 384},
    {P(DIT), "flux", "FLUX.1 control", "control", false, {"double_blocks.0.img_attn.norm.key_norm.scale"}, NULL, "img_in.weight", 1, 128},
    {P(DIT), "flux", "Flex.2 (FLUX.1 kin)", "flex2", false, {"double_blocks.0.img_attn.norm.key_norm.scale"}, NULL, "img_in.weight", 1, 196},
    {P(DIT), "hunyuan-video", "HunyuanVideo", "", false, {"txt_in.individual_token_refiner.blocks.0.norm1.weight"}, NULL, NO_DIM},
    {P(DIT), "flux", "FLUX.1 dev", "dev", false, {"double_blocks.0.img_attn.norm.key_norm.scale", "guidance_in.in_layer.weight"}, NULL, NO_DIM},
    {P(DIT), "flux", "FLUX.1 schnell", "schnell", false, {"double_blocks.0.img_attn.norm.key_norm.scale"}, NULL, NO_DIM},
    {P(DIT), "sd3", "Stable Diffusion 3.5 Large", "3.5-large", false, {"joint_blocks.37.x_block.attn.qkv.weight"}, NULL, NO_DIM},
    {P(DIT), "sd3", "Stable Diffusion 3.5 Medium", "3.5-medium", false, {"joint_blocks.0.x_block.attn2.qkv.weight"}, NULL, NO_DIM},
    {P(DIT), "sd3", "Stable Diffusion 3", "", false, {"joint_blocks.0.x_block.attn.qkv.weight"}, NULL, NO_DIM},
    {P(DIT), "zimage", "Z-Image", "", false, {"cap_embedder.0.weight", "layers.0.adaLN_modulation.0.weight"}, NULL, NO_DIM},
    {P(DIT), "lumina2", "Lumina-Image 2", "", false, {"cap_embedder.0.weight", "layers.0.adaLN_modulation.1.weight"}, NULL, NO_DIM},
    {P(DIT), "zimage", "Z-Image", "", false, {"all_x_embedder.2-1.weight"}, NULL, NO_DIM},
    {P(DIT), "qwen-image", "Qwen-Image Layered", "layered", false, {"transformer_blocks.0.img_mod.1.weight", "time_text_embed.addition_t_embedding.weight"}, NULL, NO_DIM},
    {P(DIT), "mage-flow", "Mage-Flow", "", false, {"transformer_blocks.0.img_mod.1.weight"}, NULL, "img_in.weight", 1, 128},
    {P(DIT), "qwen-image", "Qwen-Image", "", false, {"transformer_blocks.0.img_mod.1.weight"}, NULL, NO_DIM},
    {P(DIT), "anima", "Anima", "", false, {"llm_adapter.blocks.0.self_attn.q_proj.weight"}, NULL, NO_DIM},
    {P(DIT), "cosmos", "Cosmos Predict2", "", false, {"blocks.0.adaln_modulation_self_attn.1.weight"}, NULL, NO_DIM},
    {P(DIT), "krea2", "Krea 2", "", false, {"txtfusion.projector.weight"}, NULL, NO_DIM},
    {P(DIT), "ideogram4", "Ideogram 4", "", false, {"embed_image_indicator.weight"}, NULL, NO_DIM},
    {P(DIT), "ernie-image", "ERNIE-Image", "", false, {"adaLN_sa_ln.weight"}, NULL, NO_DIM},
    {P(DIT), "wan", "Wan, with VACE", "vace", false, {"head.modulation", "vace_blocks.0.after_proj.weight"}, NULL, NO_DIM},
    {P(DIT), "wan", "Wan 2.2 TI2V 5B", "5b", false, {"head.modulation", "blocks.0.cross_attn.norm_k.weight"}, NULL, "patch_embedding.weight", 1, 48},
    {P(DIT), "wan", "Wan, image to video", "i2v", false, {"head.modulation", "blocks.0.cross_attn.norm_k.weight"}, NULL, "patch_embedding.weight", 1, 36},
    {P(DIT), "wan", "Wan, text to video", "t2v", false, {"head.modulation", "blocks.0.cross_attn.norm_k.weight"}, NULL, NO_DIM},
    {P(DIT), "hidream", "HiDream-I1", "", false, {"double_stream_blocks.0.block.adaLN_modulation.1.weight"}, NULL, NO_DIM},
    {P(DIT), "sana", "Sana", "", false, {"blocks.0.cross_attn.q_linear.weight", "blocks.0.mlp.inverted_conv.conv.weight"}, NULL, NO_DIM},
    {P(DIT), "pixart", "PixArt", "", false, {"blocks.0.cross_attn.q_linear.weight"}, NULL, NO_DIM},
    {P(DIT), "ltx", "LTX-Video", "", false, {"adaln_single.emb.timestep_embedder.linear_1.bias", "patchify_proj.weight"}, NULL, NO_DIM},
    {P(DIT), "auraflow", "AuraFlow", "", false, {"double_layers.0.attn.w1q.weight"}, NULL, NO_DIM},
    {P(DIT), "cascade", "Stable Cascade", "", false, {"clf.1.weight", "clip_txt_mapper.weight"}, NULL, NO_DIM},
    /* diffusers names of the same */
    {P(DIT), "sd3", "Stable Diffusion 3.x", "", false, {"transformer_blocks.0.attn.add_q_proj.weight", "pos_embed.proj.weight"}, NULL, NO_DIM},
    {P(DIT), "flux", "FLUX.1", "", false, {"transformer_blocks.0.attn.add_q_proj.weight", "single_transformer_blocks.0.proj_mlp.weight"}, NULL, NO_DIM},
    {P(DIT), "flux2", "FLUX.2", "", false, {"single_transformer_blocks.0.attn.to_qkv_mlp_proj.weight"}, NULL, NO_DIM},

    /* ---- autoencoders ---- */
    {P(VAE), "wan-vae", "Wan / Qwen-Image video autoencoder", "", false, {"decoder.middle.0.residual.0.gamma"}, NULL, NO_DIM},
    {P(VAE), "dc-ae", "DC-AE", "", false, {"decoder.stages.0.op_list.0.main.conv.weight"}, NULL, NO_DIM},
    {P(VAE), "flux2-vae", "FLUX.2 autoencoder", "", false, {"decoder.conv_in.weight", "bn.running_mean"}, NULL, NO_DIM},
    {P(VAE), "kl16", "autoencoder with 16 latent channels (SD 3, FLUX.1)", "", true, {"decoder.conv_in.weight"}, NULL, "decoder.conv_in.weight", 1, 16},
    {P(VAE), "kl", "Stable Diffusion autoencoder", "", true, {"decoder.conv_in.weight"}, NULL, "decoder.conv_in.weight", 1, 4},
    {P(VAE), "kl", "autoencoder (KL)", "custom", true, {"decoder.conv_in.weight"}, NULL, NO_DIM},
    {P(VAE), "kl", "autoencoder (KL), encoder only", "encoder", true, {"encoder.conv_in.weight", "encoder.conv_out.weight"}, NULL, NO_DIM},
    {P(TAESD), "taesd", "TAESD", "", true, {"decoder.layers.0.weight", "decoder.layers.2.conv.0.weight"}, NULL, "decoder.layers.0.weight", 1, 4},
    {P(TAESD), "taesd16", "TAESD for 16 latent channels (SD 3, FLUX.1)", "", true, {"decoder.layers.0.weight", "decoder.layers.2.conv.0.weight"}, NULL, "decoder.layers.0.weight", 1, 16},
    {P(TAESD), "taesd", "TAESD", "custom", true, {"decoder.layers.0.weight", "decoder.layers.2.conv.0.weight"}, NULL, NO_DIM},
    {P(TAESD), "taesd", "TAESD", "", true, {"decoder.1.weight", "decoder.3.conv.0.weight"}, NULL, "decoder.1.weight", 1, 4},
    {P(TAESD), "taesd16", "TAESD for 16 latent channels (SD 3, FLUX.1)", "", true, {"decoder.1.weight", "decoder.3.conv.0.weight"}, NULL, "decoder.1.weight", 1, 16},
    {P(TAESD), "taesd", "TAESD, decoder only", "decoder", true, {"1.weight", "3.conv.0.weight"}, "0.weight", "1.weight", 1, 4},
    {P(TAESD), "taesd16", "TAESD for 16 latent channels, decoder only", "decoder", true, {"1.weight", "3.conv.0.weight"}, "0.weight", "1.weight", 1, 16},
    {P(TAESD), "taesd", "TAESD, encoder only", "encoder", true, {"0.weight", "1.conv.0.weight", "3.conv.0.weight"}, NULL, NO_DIM},

    /* ---- text encoders; "te" and "te2" share these through their prefixes ---- */
    {P(TE), "clip_l", "CLIP-L text encoder", "", true, {"transformer.text_model.embeddings.token_embedding.weight"}, NULL, "transformer.text_model.embeddings.token_embedding.weight", 1, 768},
    {P(TE), "clip_l", "CLIP-L text encoder", "", true, {"text_model.embeddings.token_embedding.weight"}, NULL, "text_model.embeddings.token_embedding.weight", 1, 768},
    {P(TE), "clip_l", "CLIP-L text encoder", "", true, {"transformer.embeddings.token_embedding.weight"}, NULL, NO_DIM},
    {P(TE), "clip_h", "OpenCLIP-H text encoder", "", true, {"model.token_embedding.weight"}, NULL, "model.token_embedding.weight", 1, 1024},
    {P(TE), "clip_h", "OpenCLIP-H text encoder", "", true, {"transformer.text_model.embeddings.token_embedding.weight"}, NULL, "transformer.text_model.embeddings.token_embedding.weight", 1, 1024},
    {P(TE), "clip_h", "OpenCLIP-H text encoder", "", true, {"text_model.embeddings.token_embedding.weight"}, NULL, "text_model.embeddings.token_embedding.weight", 1, 1024},
    {P(TE), "clip_g", "OpenCLIP-bigG text encoder", "", true, {"text_model.embeddings.token_embedding.weight"}, NULL, "text_model.embeddings.token_embedding.weight", 1, 1280},
    {P(TE), "clip", "CLIP text encoder", "custom", true, {"transformer.text_model.embeddings.token_embedding.weight"}, NULL, NO_DIM},
    {P(TE), "clip", "CLIP text encoder", "custom", true, {"text_model.embeddings.token_embedding.weight"}, NULL, NO_DIM},
    /* CLIPTextModel as transformers 5 writes it: no "text_model." */
    {P(TE), "clip_l", "CLIP-L text encoder", "", true, {BARE_CLIP}, NULL, "embeddings.token_embedding.weight", 1, 768},
    {P(TE), "clip_h", "OpenCLIP-H text encoder", "", true, {BARE_CLIP}, NULL, "embeddings.token_embedding.weight", 1, 1024},
    {P(TE), "clip_g", "OpenCLIP-bigG text encoder", "", true, {BARE_CLIP}, NULL, "embeddings.token_embedding.weight", 1, 1280},
    {P(TE), "clip", "CLIP text encoder", "custom", true, {BARE_CLIP}, NULL, NO_DIM},
    {P(TE2), "clip_g", "OpenCLIP-bigG text encoder", "", true, {"model.token_embedding.weight"}, NULL, "model.token_embedding.weight", 1, 1280},
    {P(TE2), "clip_g", "OpenCLIP-bigG text encoder", "", true, {"transformer.text_model.embeddings.token_embedding.weight"}, NULL, "transformer.text_model.embeddings.token_embedding.weight", 1, 1280},
    {P(TE2), "clip_g", "OpenCLIP-bigG text encoder", "", true, {"text_model.embeddings.token_embedding.weight"}, NULL, "text_model.embeddings.token_embedding.weight", 1, 1280},
    {P(TE2), "clip", "CLIP text encoder", "custom", true, {"model.token_embedding.weight"}, NULL, NO_DIM},
    {P(TE2), "clip", "CLIP text encoder", "custom", true, {"text_model.embeddings.token_embedding.weight"}, NULL, NO_DIM},
    {P(TE2), "clip_g", "OpenCLIP-bigG text encoder", "", true, {BARE_CLIP}, NULL, "embeddings.token_embedding.weight", 1, 1280},
    {P(TE2), "clip", "CLIP text encoder", "custom", true, {BARE_CLIP}, NULL, NO_DIM},
    {P(TE3), "umt5", "UMT5-XXL text encoder", "", false, {"shared.weight", "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight"}, NULL, NO_DIM},
    {P(TE3), "t5", "T5 text encoder", "", false, {"encoder.block.0.layer.0.SelfAttention.q.weight"}, NULL, NO_DIM},

    /* ---- add-ons ---- */
    {P(CONTROLNET), "controlnet", "ControlNet", "", false, {"input_hint_block.0.weight"}, NULL, NO_DIM},
    {P(CONTROLNET), "controlnet", "ControlNet", "", false, {"controlnet_cond_embedding.conv_in.weight"}, NULL, NO_DIM},
    {P(CONTROLNET), "controlnet", "ControlNet (transformer)", "", false, {"controlnet_blocks.0.weight"}, NULL, NO_DIM},
    {P(CONTROLNET), "controlnet", "Z-Image control branches", "", false, {"control_layers.0.adaLN_modulation.0.weight"}, NULL, NO_DIM},
    {P(IP_ADAPTER), "ip-adapter", "IP-Adapter Plus", "plus", false, {"image_proj.latents", "ip_adapter.1.to_k_ip.weight"}, NULL, NO_DIM},
    {P(IP_ADAPTER), "ip-adapter", "IP-Adapter", "", false, {"image_proj.proj.weight", "ip_adapter.1.to_k_ip.weight"}, NULL, NO_DIM},
    {P(UPSCALER), "rrdb", "ESRGAN upscaler (RRDBNet)", "", true, {"conv_first.weight", "body.0.rdb1.conv1.weight"}, NULL, NO_DIM},
    {P(UPSCALER), "rrdb", "ESRGAN upscaler (RRDBNet)", "", true, {"model.0.weight", "model.1.sub.0.RDB1.conv1.0.weight"}, NULL, NO_DIM},
    {P(UPSCALER), "rrdb", "ESRGAN upscaler (RRDBNet)", "", true, {"conv_first.weight", "RRDB_trunk.0.RDB1.conv1.weight"}, NULL, NO_DIM},
    {P(UPSCALER), "srvgg", "Real-ESRGAN compact upscaler (SRVGGNet)", "", true, {"body.0.weight", "body.1.weight", "body.2.weight"}, "conv_first.weight", NO_DIM},
    {P(DETECTOR), "yolov8", "YOLOv8 detector", "", false, {"model.0.conv.weight", "model.22.cv2.0.0.conv.weight"}, NULL, NO_DIM},

    /* ---- language and vision models by their tensors (transformers names) ---- */
    {P(LLM), "qwen3vlmoe", "Qwen3-VL mixture of experts", "", true, {"model.language_model.layers.0.self_attn.q_norm.weight", "model.language_model.layers.0.mlp.experts.gate_up_proj"}, NULL, NO_DIM},
    {P(LLM), "qwen3vlmoe", "Qwen3-VL mixture of experts", "", true, {"model.language_model.layers.0.self_attn.q_norm.weight", "model.language_model.layers.0.mlp.experts.0.gate_proj.weight"}, NULL, NO_DIM},
    {P(LLM), "qwen3vl", "Qwen3-VL", "", true, {"model.language_model.layers.0.self_attn.q_norm.weight", "model.visual.deepstack_merger_list.0.norm.weight"}, NULL, NO_DIM},
    {P(LLM), "qwen3vl", "Qwen3-VL", "", true, {"model.language_model.layers.0.self_attn.q_norm.weight"}, NULL, NO_DIM},
    {P(LLM), "qwen25vl", "Qwen2.5-VL", "", false, {"visual.blocks.0.attn.qkv.weight", "model.layers.0.self_attn.q_proj.bias"}, NULL, NO_DIM},
    {P(LLM), "qwen3moe", "Qwen3 mixture of experts", "", true, {"model.layers.0.self_attn.q_norm.weight", "model.layers.0.mlp.experts.0.gate_proj.weight"}, NULL, NO_DIM},
    {P(LLM), "qwen3", "Qwen3 language model", "", true, {"model.layers.0.self_attn.q_norm.weight", "model.layers.0.mlp.gate_proj.weight"}, NULL, NO_DIM},
    {P(LLM), "gemma", "Gemma language model", "", false, {"model.layers.0.pre_feedforward_layernorm.weight"}, NULL, NO_DIM},
    {P(LLM), "qwen2", "Qwen2 language model", "", true, {"model.layers.0.self_attn.q_proj.bias", "model.layers.0.mlp.gate_proj.weight"}, NULL, NO_DIM},
    {P(LLM), "llama", "Llama-type language model", "", true, {"model.layers.0.self_attn.q_proj.weight", "model.layers.0.mlp.gate_proj.weight"}, NULL, NO_DIM},
    {P(VISION), "clip-vision", "CLIP vision encoder", "", false, {"vision_model.embeddings.patch_embedding.weight"}, NULL, NO_DIM},
};
const size_t limn_detect_row_count = sizeof limn_detect_rows / sizeof limn_detect_rows[0];

static const limn_family_row families[] = {
    {"sd1", {"CLIP-L text encoder", "autoencoder (VAE)"}, {P(TE), P(VAE)}, LIMN_TRAINED_EPS, true, 0.18215f, 0},
    {"sd2", {"OpenCLIP-H text encoder", "autoencoder (VAE)"}, {P(TE), P(VAE)}, LIMN_TRAINED_V, false, 0.18215f, 0},
    {"sdxl", {"CLIP-L text encoder", "OpenCLIP-bigG text encoder", "autoencoder (VAE)"}, {P(TE), P(TE2), P(VAE)}, LIMN_TRAINED_EPS, true, 0.13025f, 0},
    {"sdxl-refiner", {"OpenCLIP-bigG text encoder", "autoencoder (VAE)"}, {P(TE2), P(VAE)}, LIMN_TRAINED_EPS, true, 0.13025f, 0},
    {"sd3", {"CLIP-L text encoder", "OpenCLIP-bigG text encoder", "autoencoder (VAE)"}, {P(TE), P(TE2), P(VAE)}, LIMN_TRAINED_FLOW, true, 1.5305f, 0.0609f},
    {"flux", {"CLIP-L text encoder", "T5-XXL text encoder", "autoencoder (VAE)"}, {P(TE), P(TE3), P(VAE)}, LIMN_TRAINED_FLOW, true, 0.3611f, 0.1159f},
    {"chroma", {"T5-XXL text encoder", "autoencoder (VAE)"}, {P(TE3), P(VAE)}, LIMN_TRAINED_FLOW, true, 0.3611f, 0.1159f},
    {"zimage", {"Qwen3-4B text encoder", "autoencoder (VAE)"}, {P(LLM), P(VAE)}, LIMN_TRAINED_FLOW, true, 0.3611f, 0.1159f},
    {"flux2", {"Qwen3 text encoder", "autoencoder (VAE)"}, {P(LLM), P(VAE)}, LIMN_TRAINED_FLOW, true, 0, 0},
    {"qwen-image", {"Qwen2.5-VL text encoder", "autoencoder (VAE)"}, {P(LLM), P(VAE)}, LIMN_TRAINED_FLOW, true, 0, 0},
};

static const limn_llm_row llms[] = {
    {"qwen3", P(LLM), "qwen3", "Qwen3 language model", true},
    {"qwen3vl", P(LLM), "qwen3vl", "Qwen3-VL language model", true},
    {"qwen3_vl", P(LLM), "qwen3vl", "Qwen3-VL", true},
    {"llama", P(LLM), "llama", "Llama-type language model", true},
    {"qwen2", P(LLM), "qwen2", "Qwen2 language model", true},
    {"qwen2vl", P(LLM), "qwen25vl", "Qwen2.5-VL language model", false},
    {"qwen2_5_vl", P(LLM), "qwen25vl", "Qwen2.5-VL", false},
    {"qwen3moe", P(LLM), "qwen3moe", "Qwen3 mixture of experts", true},
    {"qwen3vlmoe", P(LLM), "qwen3vlmoe", "Qwen3-VL mixture of experts", true},
    {"gemma2", P(LLM), "gemma", "Gemma 2 language model", false},
    {"gemma3", P(LLM), "gemma", "Gemma 3 language model", false},
    {"mistral3", P(LLM), "mistral", "Mistral language model", false},
    {"t5encoder", P(TE3), "t5", "T5 text encoder", false},
    {"t5", P(TE3), "t5", "T5 text encoder", false},
    {"clip", P(VISION), "mmproj", "vision tower for a language model (mmproj)", true},
};
/* clang-format on */

const limn_family_row *limn_family_row_find(const char *family) {
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++)
        if (strcmp(families[i].family, family) == 0) return &families[i];
    return NULL;
}

const limn_llm_row *limn_llm_row_find(const char *word) {
    for (size_t i = 0; word && i < sizeof llms / sizeof llms[0]; i++)
        if (strcmp(llms[i].word, word) == 0) return &llms[i];
    return NULL;
}
