/* SPDX-License-Identifier: MIT */
/*
 * What a GGUF file made from a set of weights will hold: names and metadata as llama.cpp has them
 * (gguf-py/gguf/constants.py, convert_hf_to_gguf.py), each tensor with the place it comes from.
 * Types are the caller's business (pipeline/quantize.h): this file only says what is there and
 * reads rows of it as f32.
 *
 * An export borrows from the sets it was made of, which it keeps alive. One thread while it is
 * made; reading rows is safe from any thread.
 */
#ifndef LIMN_FORMATS_GGUF_EXPORT_H
#define LIMN_FORMATS_GGUF_EXPORT_H

#include "formats/llm_config.h"
#include "formats/weights.h"

typedef enum limn_export_order {
    LIMN_EXPORT_AS_IS,
    LIMN_EXPORT_PAIRS,  /* rows of heads, halves -> adjacent pairs (the "llama" architecture) */
    LIMN_EXPORT_SLICE,  /* one of the two temporal slices of the patch kernel */
    LIMN_EXPORT_PART,   /* rows slice .. of each expert of [experts, all, cols] */
    LIMN_EXPORT_COLUMNS /* the same of [experts, cols, all]: columns become rows */
} limn_export_order;

/* One tensor of the file to be. Rows are what follows the last dimension: [rows, cols]. */
typedef struct limn_export_part {
    const char *name;
    limn_tensor from; /* source data; for made up tensors memory of the export */
    limn_shape shape; /* in the file, outermost first */
    int64_t rows, cols;
    limn_export_order order;
    int heads;
    int slice; /* which slice; the first row of a part */
} limn_export_part;

typedef enum limn_export_kind {
    LIMN_EXPORT_LLM,    /* a language model: llama.cpp's names */
    LIMN_EXPORT_VISION, /* Qwen3-VL's tower: an "mmproj" file */
    LIMN_EXPORT_OTHER   /* names as they are: diffusion models, any GGUF file */
} limn_export_kind;

typedef struct limn_export {
    limn_export_kind kind;
    int layers; /* LLM */
    limn_export_part *parts;
    size_t n_parts, cap_parts;
    limn_meta *meta;
    size_t n_meta, cap_meta;
    limn_arena arena;
    limn_weights *keep; /* a reference */
} limn_export;

/* True when the set is a transformers folder with a vision tower beside its language model. */
bool limn_export_has_vision(const limn_weights *w);

/*
 * Fills *x from an opened set. A GGUF set and a diffusion model keep their names and metadata
 * (OTHER, or LLM when it holds a language model); a transformers folder becomes LLM or VISION as
 * `kind` asks, with the tokenizer of the folder. E_UNSUPPORTED for architectures and tokenizers
 * that llama.cpp has no words for here; E_MISSING for parts that are not there.
 */
limn_status limn_export_init(limn_export *x, limn_weights *w, limn_export_kind kind, limn_err *err);
void limn_export_deinit(limn_export *x);

/* dst [n, cols] = rows first .. first + n - 1 of a part. Whole rows of blocks only. */
void limn_export_rows(float *dst, const limn_export_part *part, int64_t first, int64_t n);

/* ---- building; gguf_export.c, gguf_tokens.c ---- */
limn_status limn_export_add_text(limn_export *x, const char *key, const char *value, limn_err *err);
limn_status limn_export_add_u32(limn_export *x, const char *key, int64_t value, limn_err *err);
limn_status limn_export_add_f32(limn_export *x, const char *key, double value, limn_err *err);
limn_status limn_export_add_bool(limn_export *x, const char *key, bool value, limn_err *err);
/* `data` [count] must live as long as the export; width as in limn_meta, texts: limn_str_view. */
limn_status limn_export_add_array(limn_export *x, const char *key, limn_meta_type type, int width,
                                  const void *data, size_t count, limn_err *err);
/* The tokenizer of a transformers folder as tokenizer.ggml.*; `vocab` ids, the last ones padding.
 */
limn_status limn_export_add_tokenizer(limn_export *x, const char *folder, int vocab, limn_err *err);

#endif
