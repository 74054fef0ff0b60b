/* SPDX-License-Identifier: MIT */
/*
 * LoRA files and their kin, bound to a model: which weight each adapter changes, and by how much.
 *
 * Dialects: kohya (lora_unet_*, lora_te_*, te1, te2, with diffusers' or the original block names),
 * diffusers / PEFT (unet.*, text_encoder.*, lora_A / lora_B, with adapter infix), old diffusers
 * (processor.to_q_lora.down), ComfyUI (diffusion_model.*). Kinds: LoRA with linear and convolution
 * factors and a Tucker core (lora_mid), LoHa, LoKr (both with Tucker cores), full differences
 * (.diff, .diff_b, w_norm, b_norm), and DoRA on top of any of them. Formulas are those of LyCORIS
 * (lycoris/modules) and PEFT (peft/tuners/lora/dora.py):
 *     W' = W + scale * delta,  DoRA: m * (W + scale * delta) / |W + scale * delta|,
 *     applied at a strength s: W + s * (W' - W).
 * scale is alpha / rank; a missing alpha counts as the rank (scale 1). LoKr with both factors in
 * full has scale 1.
 *
 * A limn_lora keeps the file's set and its targets' sets alive; it is immutable, any thread.
 */
#ifndef LIMN_FORMATS_LORA_FILE_H
#define LIMN_FORMATS_LORA_FILE_H

#include "formats/detect.h"

/* A network that adapters may change: its canonical scope (formats/canon.h), and for a UNet its
 * config, which gives the original block names. */
typedef struct limn_lora_target {
    limn_part part; /* UNET, TE, TE2 */
    const limn_weights *weights;
    const limn_unet_config *unet; /* NULL for text encoders */
} limn_lora_target;

typedef enum limn_lora_kind {
    LIMN_LORA_LOW_RANK,
    LIMN_LORA_LOHA,
    LIMN_LORA_LOKR,
    LIMN_LORA_FULL
} limn_lora_kind;

enum { LIMN_LORA_FACTORS = 7 };

/* One changed tensor. Factors by kind, NULL where absent:
 *   LOW_RANK  0 up [out, r], 1 down [r, in, ..], 2 mid [r, r, kh, kw]
 *   LOHA      0 w1_a [out, r], 1 w1_b [r, in * ..], 2 w2_a, 3 w2_b, 4 t1, 5 t2 [r, r, kh, kw]
 *             (with cores: w_a [r, out], w_b [r, in])
 *   LOKR      0 w1, 1 w1_a, 2 w1_b, 3 w2, 4 w2_a, 5 w2_b, 6 t2
 *   FULL      0 the difference, as the tensor
 */
typedef struct limn_lora_entry {
    int target;              /* index into the targets given to open */
    const char *name;        /* canonical tensor name: "<module>.weight" or ".bias" */
    const limn_tensor *base; /* the tensor it changes */
    int64_t rows, cols;      /* of the base as a matrix [out, in * kh * kw] */
    int64_t taps;            /* kh * kw */
    limn_lora_kind kind;
    const limn_tensor *factor[LIMN_LORA_FACTORS];
    int64_t rank;             /* 0 for FULL */
    double alpha, scale;      /* as in the file (rank when missing), and what multiplies */
    const limn_tensor *dora;  /* magnitudes, or NULL */
    const float *column_norm; /* DoRA by input channel: |W + delta| of each [in]; else NULL */
} limn_lora_entry;

typedef struct limn_lora limn_lora;

/* E_SHAPE: a factor does not fit its weight (the file is for another model). E_MISSING: nothing in
 * the file fits the targets. E_UNSUPPORTED: nothing but kinds that limn does not apply (OFT ...).
 */
limn_status limn_lora_open(limn_lora **out, const limn_weights *file,
                           const limn_lora_target *targets, size_t n_targets, limn_err *err);
void limn_lora_free(limn_lora **lora);
size_t limn_lora_count(const limn_lora *lora);
const limn_lora_entry *limn_lora_at(const limn_lora *lora, size_t i);
/* The entry that changes a tensor of a target; NULL when none does. */
const limn_lora_entry *limn_lora_find(const limn_lora *lora, int target, const char *name);
/* Tensors of the file that change nothing: modules that no target has, unknown kinds. */
size_t limn_lora_unmatched(const limn_lora *lora);
const char *limn_lora_unmatched_at(const limn_lora *lora, size_t i);

/*
 * rows [r1 - r0, cols] += strength * (W' - W) for output rows r0 <= r < r1 of the entry's tensor.
 * `base` [r1 - r0, cols] are those rows of W in f32 as the model has them, needed by DoRA only
 * (NULL: read from entry->base). Work is rows * rank * cols; each call widens the factors once, so
 * call it with many rows. Errors: E_VALUE (range), E_NOMEM.
 */
limn_status limn_lora_row_delta(const limn_lora_entry *e, double strength, int64_t r0, int64_t r1,
                                float *rows, const float *base, limn_err *err);

#endif
