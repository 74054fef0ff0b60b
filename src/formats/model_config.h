/* SPDX-License-Identifier: MIT */
/*
 * What a network needs to know about its own shape: plain structs, filled by formats/canon.h from
 * the tensors of a single file, or from config.json where there is one. Pure data, any thread.
 *
 * Field meanings follow diffusers (models/unets/unet_2d_condition.py,
 * models/autoencoders/autoencoder_kl.py, autoencoder_tiny.py) and transformers (models/clip).
 */
#ifndef LIMN_FORMATS_MODEL_CONFIG_H
#define LIMN_FORMATS_MODEL_CONFIG_H

#include <stdbool.h>

#include "base/status.h"

enum { LIMN_CFG_LEVELS = 6, LIMN_CFG_LAYERS = 8 };

/* UNet2DConditionModel: SD 1.x, 2.x, SDXL, refiner, edit / inpaint, SSD-1B, Vega, distilled. */
typedef struct limn_unet_config {
    int in_channels; /* 4; 8 = edit (image latents), 9 = inpaint (mask + masked latents) */
    int out_channels;
    int levels;                       /* number of down_blocks and of up_blocks */
    int channels[LIMN_CFG_LEVELS];    /* of down_blocks.N; up_blocks.N has those of levels-1-N */
    int down_layers[LIMN_CFG_LEVELS]; /* resnets in down_blocks.N */
    int up_layers[LIMN_CFG_LEVELS];   /* resnets in up_blocks.N (N = 0 is the deepest) */
    /* transformer blocks after resnet i of the block; 0 = no attention there */
    int down_depth[LIMN_CFG_LEVELS][LIMN_CFG_LAYERS];
    int up_depth[LIMN_CFG_LEVELS][LIMN_CFG_LAYERS];
    int heads[LIMN_CFG_LEVELS]; /* attention heads of down_blocks.N; up_blocks.N: levels-1-N */
    int mid_resnets;   /* 0 = no mid block; 1 = resnet only; 2 = resnet, attention, resnet */
    int mid_depth;     /* transformer blocks of the mid block; 0 = none */
    int context_dim;   /* width of the text states: 768, 1024, 2048, 1280 (refiner) */
    int time_dim;      /* width of the time embedding: 4 * channels[0] */
    int groups;        /* of GroupNorm: 32 */
    float norm_eps;    /* of resnets and conv_norm_out: 1e-5 (transformers' norm: 1e-6) */
    bool linear_proj;  /* as the file was trained; proj_in/out are shown as [out, in] either way */
    int add_embed_dim; /* input width of add_embedding: 2816 SDXL, 2560 refiner, 0 = none */
    int add_time_dim;  /* sinusoid width of each size id: 256 */
    int time_cond_dim; /* LCM guidance embedding (time_embedding.cond_proj), 0 = none */
    bool flip_sin_to_cos;
    float freq_shift;
    int sample_size; /* latent side the model was trained at; 0: not known */
} limn_unet_config;

/* AutoencoderKL. encoder.down_blocks.N has channels[N]; decoder.up_blocks.N has
 * dec_channels[levels-1-N] and layers + 1 resnets. */
typedef struct limn_vae_config {
    int in_channels, out_channels; /* 3 */
    int latent_channels;           /* 4, 16, 32 */
    int levels;
    int channels[LIMN_CFG_LEVELS];
    int dec_channels[LIMN_CFG_LEVELS]; /* equal to channels in all but "small decoder" files */
    int layers;                        /* resnets per down block */
    int groups;                        /* 32 */
    float norm_eps;                    /* 1e-6 */
    bool mid_attention;
    bool quant_conv, post_quant_conv;
    bool has_encoder, has_decoder;
    float scaling_factor; /* latent = (mean - shift) * scaling */
    float shift_factor;
    bool force_upcast; /* activations overflow f16 (SDXL's original VAE) */
} limn_vae_config;

/* AutoencoderTiny (TAESD): images in [0, 1], latents already scaled as the UNet expects. */
typedef struct limn_taesd_config {
    int latent_channels;             /* 4, 16 */
    int channels;                    /* 64 */
    int levels;                      /* 4 */
    int enc_blocks[LIMN_CFG_LEVELS]; /* residual blocks per level: 1, 3, 3, 3 */
    int dec_blocks[LIMN_CFG_LEVELS]; /* 3, 3, 3, 1 */
    bool has_encoder, has_decoder;
    float scaling_factor, shift_factor; /* 1, 0 unless config.json says otherwise */
} limn_taesd_config;

typedef enum limn_clip_act { LIMN_CLIP_QUICK_GELU, LIMN_CLIP_GELU } limn_clip_act;

/* CLIPTextModel / CLIPTextModelWithProjection. */
typedef struct limn_clip_config {
    int vocab, positions; /* 49408, 77 */
    int width, layers, heads, ff;
    limn_clip_act act;
    int projection; /* rows of text_projection.weight; 0 = none */
    float norm_eps; /* 1e-5 */
    int bos, eos;   /* 49406, 49407 */
    int pad;        /* 49407 (CLIP-L) or 0 (OpenCLIP) */
} limn_clip_config;

typedef enum limn_upscaler_kind { LIMN_UPSCALER_RRDB, LIMN_UPSCALER_SRVGG } limn_upscaler_kind;

/* RRDBNet (ESRGAN, Real-ESRGAN) and SRVGGNetCompact. */
typedef struct limn_upscaler_config {
    limn_upscaler_kind kind;
    int in_channels, out_channels; /* of the image: 3 */
    int scale;                     /* 1, 2, 4, 8 */
    int unshuffle;                 /* pixel-unshuffle before conv_first: 1, 2, 4 */
    int features, blocks, growth;  /* RRDB: 64, 23, 32; SRVGG: features and middle convolutions */
    int ups;                       /* RRDB: nearest x2 + conv_upN stages */
} limn_upscaler_config;

typedef enum limn_trained_prediction {
    LIMN_TRAINED_EPS,
    LIMN_TRAINED_V,
    LIMN_TRAINED_SAMPLE,
    LIMN_TRAINED_FLOW,
    LIMN_TRAINED_EDM
} limn_trained_prediction;

/* Training noise schedule, from scheduler_config.json or the family's row. */
typedef struct limn_trained_noise {
    limn_trained_prediction prediction;
    int train_steps;             /* 1000 */
    double beta_start, beta_end; /* 0.00085, 0.012 */
    bool scaled_linear;          /* betas linear in their square root */
    bool zero_snr;               /* rescale_betas_zero_snr */
    double shift;                /* flow: 1 = none */
    double sigma_min, sigma_max; /* EDM only, else 0 */
    /* DDIM and PNDM end at the least trained noise level instead of none (set_alpha_to_one false,
     * as Stable Diffusion's own samplers do; so when there is no config). */
    bool ends_noisy;
    /* What the config's scheduler is called here, static; "": no advice. */
    const char *sampler, *schedule;
} limn_trained_noise;

/*
 * From the text of a config.json. Structure (levels, channels, depths) is left alone: canon.h reads
 * it from the tensors first and then lets these overwrite what tensors cannot tell (heads, groups,
 * epsilons, factors). Features that limn does not draw with are refused by name (E_UNSUPPORTED).
 */
/* cfg->levels, channels: set. Overwrites heads, groups, norm_eps, add_time_dim, sinusoid flags. */
limn_status limn_unet_config_parse(limn_unet_config *cfg, const char *json, limn_err *err);
/* Overwrites groups, scaling_factor, shift_factor, force_upcast. */
limn_status limn_vae_config_parse(limn_vae_config *cfg, const char *json, limn_err *err);
/* Overwrites scaling_factor, shift_factor. */
limn_status limn_taesd_config_parse(limn_taesd_config *cfg, const char *json, limn_err *err);
/* cfg->vocab, width: set. Overwrites heads, act, norm_eps, bos, eos, pad. */
limn_status limn_clip_config_parse(limn_clip_config *cfg, const char *json, limn_err *err);
/* scheduler_config.json; what it leaves out is as SD 1.x was trained (1000 scaled-linear steps). */
limn_status limn_trained_noise_parse(limn_trained_noise *cfg, const char *json, limn_err *err);

#endif
