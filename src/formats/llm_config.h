/* SPDX-License-Identifier: MIT */
/*
 * Shapes of language models and of Qwen3-VL's vision tower: plain structs, from the config.json of
 * transformers (as released checkpoints write it, or with transformers 5's rope_parameters) or from
 * the metadata of GGUF files. Pure data, any thread.
 */
#ifndef LIMN_FORMATS_LLM_CONFIG_H
#define LIMN_FORMATS_LLM_CONFIG_H

#include "formats/weights.h"

enum { LIMN_DEEPSTACK_MAX = 8, LIMN_STOP_MAX = 8, LIMN_ROPE_DIVIDE_MAX = 128 };

typedef enum limn_rope_scaling {
    LIMN_ROPE_PLAIN,
    LIMN_ROPE_LINEAR, /* positions / factor */
    LIMN_ROPE_LLAMA3, /* transformers modeling_rope_utils.py, "llama3" */
    LIMN_ROPE_YARN,   /* transformers modeling_rope_utils.py, "yarn" */
    LIMN_ROPE_DIVIDE  /* frequency i divided by divide[i]: rope_freqs.weight of GGUF files */
} limn_rope_scaling;

typedef struct limn_rope_config {
    double theta;
    int dim;        /* rotated elements of a head */
    int section[3]; /* interleaved M-RoPE: frequencies of t, h, w; all 0: one position per token */
    limn_rope_scaling scaling;
    double factor, low_freq, high_freq; /* LLAMA3 */
    double beta_fast, beta_slow;        /* YARN */
    double original;                    /* context the model was trained with */
    float divide[LIMN_ROPE_DIVIDE_MAX]; /* DIVIDE: [dim / 2] */
    bool pairs; /* adjacent pairs rotate, as llama.cpp stores the "llama" architecture */
} limn_rope_config;

/* Qwen3 (dense and MoE), Qwen2, Llama, Mistral, SmolLM. Whether there are QK norms or biases is
 * read off the tensors when the network is built. */
typedef struct limn_decoder_config {
    int vocab, width, layers, heads, kv_heads, head_dim, ff;
    int experts, experts_used, expert_ff; /* layers with a router; 0: every layer is dense */
    int context;                          /* positions the model was made for */
    float norm_eps;
    limn_rope_config rope;
    bool tied;     /* the output layer is the token embedding, also when the file has another */
    int deepstack; /* layers 0 .. n-1 take rows of the vision tower */
    int stop[LIMN_STOP_MAX], n_stop; /* ids that end a text, as far as the file says */
} limn_decoder_config;

/* Qwen3-VL's vision tower; transformers models/qwen3_vl. */
typedef struct limn_vision_config {
    int width, depth, heads, ff;
    int patch, temporal, merge, channels; /* 16, 2, 2, 3 */
    int side;                             /* the learned position table is [side * side, width] */
    int deepstack[LIMN_DEEPSTACK_MAX], n_deepstack; /* blocks whose output is merged too */
    int out_width;                                  /* = the decoder's width */
    float norm_eps;                                 /* 1e-6 */
    double rope_theta;                              /* 10000 */
} limn_vision_config;

typedef struct limn_vl_config {
    limn_decoder_config text;
    bool has_vision;
    limn_vision_config vision;
    int image_token, video_token, vision_start, vision_end; /* -1: none */
} limn_vl_config;

/* E_FORMAT: not a config, or numbers that make no network; E_UNSUPPORTED names what limn does not
 * run (experts that are chosen otherwise, sliding windows, other rope types). */
limn_status limn_vl_config_parse(limn_vl_config *cfg, const char *json, limn_err *err);
/* From a set's own metadata: its config.json, or the keys of a GGUF file with a language model.
 * E_MISSING when there is neither. */
limn_status limn_vl_config_read(limn_vl_config *cfg, const limn_weights *w, limn_err *err);
/* Bounds of height * width from preprocessor_config.json (or the video's) in a model's folder; left
 * as they are when there is no such file. E_FORMAT; E_UNSUPPORTED: a mean or deviation other than
 * 0.5, which is not what the tower's patches are made with. */
limn_status limn_vl_pixels_load(int64_t *least, int64_t *most, const char *dir, const char *name,
                                limn_err *err);
/* Adds the vision tower of a GGUF "mmproj" file. */
limn_status limn_vl_config_read_mmproj(limn_vl_config *cfg, const limn_weights *w, limn_err *err);

/*
 * The vision tower under transformers' names without prefix ("blocks.0.attn.qkv.weight",
 * "deepstack_merger_list.0.norm.weight", "pos_embed.weight"), from "model.visual.*" or from an
 * mmproj file. patch_embed.proj.weight is always [width, 3 * temporal * patch * patch].
 */
limn_status limn_canon_vision(limn_weights **out, const limn_weights *w, limn_err *err);
/* llama.cpp's name of such a tensor, into name [size]; false when it has none (also for
 * patch_embed.proj.weight, which GGUF keeps as two slices). */
bool limn_canon_vision_gguf(char *name, size_t size, const char *canonical,
                            const limn_vision_config *cfg);

#endif
