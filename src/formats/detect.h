/* SPDX-License-Identifier: MIT */
/*
 * What a set of weights is: which networks it holds, of which family, under which prefix, and why
 * limn thinks so. Tables (detect_rows.c) of tensor names and shapes decide; file names never do.
 *
 * One file may hold several parts (an all-in-one checkpoint), and a diffusers folder is one set
 * with a prefix per component. Families that limn recognises but cannot draw with yet are named,
 * with `supported` false, so that an error can say what the file is.
 * Results are plain data that borrow static strings; any thread.
 */
#ifndef LIMN_FORMATS_DETECT_H
#define LIMN_FORMATS_DETECT_H

#include "formats/model_config.h"
#include "formats/weights.h"

/* X(id, word, what it is called) */
#define LIMN_PART_LIST(X)                                                                          \
    X(UNET, "unet", "UNet")                                                                        \
    X(DIT, "dit", "diffusion transformer")                                                         \
    X(TE, "te", "text encoder")                                                                    \
    X(TE2, "te2", "second text encoder")                                                           \
    X(TE3, "te3", "third text encoder")                                                            \
    X(VAE, "vae", "autoencoder")                                                                   \
    X(TAESD, "taesd", "tiny autoencoder")                                                          \
    X(LORA, "lora", "LoRA")                                                                        \
    X(EMBEDDING, "embedding", "textual inversion")                                                 \
    X(CONTROLNET, "controlnet", "ControlNet")                                                      \
    X(IP_ADAPTER, "ip_adapter", "IP-Adapter")                                                      \
    X(UPSCALER, "upscaler", "upscaler")                                                            \
    X(DETECTOR, "detector", "object detector")                                                     \
    X(LLM, "llm", "language model")                                                                \
    X(VISION, "vision", "vision tower")

typedef enum limn_part {
#define X(id, word, title) LIMN_PART_##id,
    LIMN_PART_LIST(X)
#undef X
        LIMN_PART_COUNT
} limn_part;

const char *limn_part_word(limn_part p);
const char *limn_part_title(limn_part p);

enum { LIMN_FOUND_MAX = 16 };

/* One network found in a set. */
typedef struct limn_found {
    limn_part part;
    const char *family;  /* "sd1", "sd2", "sdxl", "flux", "clip_l", "qwen3vl", ... */
    const char *title;   /* "Stable Diffusion 1.x" */
    const char *variant; /* "", "inpaint", "edit", "refiner", "pruned" ... */
    bool supported;
    char prefix[72];     /* of its tensor names; for formats/canon.h */
    char config_key[96]; /* metadata with its config.json; "" = none */
    char why[200];       /* "attn2.to_k takes 768, conv_in takes 4 channels" */
    size_t tensors;
    int64_t params;
    uint64_t bytes;
    int64_t dtype_params[LIMN_DTYPE_COUNT]; /* parameters stored in each dtype */
} limn_found;

typedef struct limn_model_info {
    limn_found part[LIMN_FOUND_MAX];
    size_t n_parts;
    const char *family; /* of the whole: that of the diffusion network, else of the first part */
    const char *title;
    const char *variant;
    bool supported; /* every part is */
    /* Parts that drawing needs and the set does not hold ("VAE", "T5-XXL text encoder"). */
    const char *missing[6];
    size_t n_missing;
    limn_trained_noise noise;         /* of a diffusion network */
    bool noise_is_sure;               /* false: tensors cannot tell eps from v (SD 2.x files) */
    float latent_scale, latent_shift; /* of the family's latents; 0 = not known */
    size_t other_tensors;             /* that belong to no part found */
    char other_first[128];            /* the first of them */
} limn_model_info;

/* Never fails on a strange set: n_parts is then 0. Only E_FORMAT of a broken config text. */
limn_status limn_detect(limn_model_info *out, const limn_weights *w, limn_err *err);
/* The first part of a kind; NULL when there is none. */
const limn_found *limn_model_info_find(const limn_model_info *info, limn_part part);
/* The text of the part's config.json; NULL when there is none. */
const char *limn_found_config(const limn_found *f, const limn_weights *w);

/* Opens and detects. Errors as limn_weights_open. */
typedef struct limn_inspection {
    limn_weights *weights;
    limn_model_info info;
} limn_inspection;
limn_status limn_inspect(limn_inspection *out, const char *path, limn_err *err);
void limn_inspection_free(limn_inspection *x);
/* What `limn info` prints: a few lines of text, or one JSON object. Both end with a newline. */
void limn_inspect_text(limn_buf *out, const limn_inspection *x);
limn_status limn_inspect_json(limn_buf *out, const limn_inspection *x, limn_err *err);

#endif
