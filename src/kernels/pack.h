/* SPDX-License-Identifier: MIT */
/*
 * Packed weights: a matrix [n, k] (or convolution weights [oc, ic, kh, kw]) rearranged once into
 * panels of `nr` outputs for the micro-kernels of one dispatch table.
 *
 * Order inside a panel: blocks of `block` channels; in a block the taps (row by row); in a tap the
 * channels; for each channel (or pair, or four) nr outputs. A matrix has one tap. The last panel is
 * filled up with zeros. A packed weight is immutable, may be shared between threads, and is one run
 * of bytes that can be written to disk and viewed again (limn_packed_bytes / limn_packed_view).
 */
#ifndef LIMN_KERNELS_PACK_H
#define LIMN_KERNELS_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/pool.h"
#include "base/status.h"
#include "kernels/gemm.h"
#include "kernels/kernels.h"
#include "tensor/dtype.h"

/* What may be given up for speed. */
typedef enum limn_compute {
    /* Weights keep their value, products and sums are f32. */
    LIMN_COMPUTE_EXACT,
    /* Weights are kept in 16 bits. On AVX2 matrices (and convolutions of one tap) and what they are
     * multiplied with are in fixed point (gemm.h: at most 1/5360 and 1/10000 of the largest of
     * 160). bf16 dot products round weights and activations to bf16 (relative 2^-9 each). Elsewhere
     * f16 and bf16 files keep their value, f32 files are rounded to f16, or to bf16 when a value is
     * beyond f16's range, and activations stay f32. Sums are f32. Quantised
     * weights keep their value; where kernels for the type exist, activations are rounded to 8 bits
     * with a scale for 32 (at most 1/254 of their largest), sums of 32 products are exact. */
    LIMN_COMPUTE_HALF,
    /* 8-bit weights (scale per output) and activations (scale per row; per image in conv). */
    LIMN_COMPUTE_INT8
} limn_compute;

/* Adds to rows [row0, row0 + rows) of the f32 matrix [n, k], row-major in `w`. Called from several
 * threads at once, for different rows. */
typedef limn_status limn_pack_delta_fn(void *user, float *w, int64_t row0, int64_t rows, int64_t k,
                                       limn_err *err);

typedef struct limn_pack_args {
    const void *data; /* [n, k] dense rows; for conv [oc, ic, kh, kw], k = ic * kh * kw */
    limn_dtype dtype;
    int64_t n, k;
    int kh, kw; /* 0 for a matrix; a convolution says 1 too */
    limn_compute compute;
    limn_pack_delta_fn *delta; /* or NULL */
    void *delta_user;
    /* Quantised matrices without delta keep their size, except with INT8: with HALF and kernels for
     * the type they are interleaved (quant_panel.h), else they stay as they are: `data` is then
     * borrowed for the life of the packed weight. true expands them instead (more memory, no
     * expansion at run time). */
    bool expand;
    /* Dense types stay in their file as well (one expert of many: a copy of all would not fit);
     * k even. `input_major`: data is [k, n], of a dense type. */
    bool borrow, input_major;
} limn_pack_args;

typedef struct limn_packed {
    limn_store store;
    limn_compute compute;
    int nr;
    int taps; /* kh * kw */
    int kh, kw;
    int64_t n, k;      /* as given */
    int64_t ic;        /* k / taps */
    int64_t ic_pad;    /* ic rounded up to whole words */
    int64_t block;     /* channels per block; ic_pad when taps == 1 */
    int64_t fix_block; /* LIMN_STORE_S16X2: channels that share a scale, else 0 */
    int64_t panels;
    size_t panel_bytes;
    size_t channel_bytes;   /* of one channel of one tap in a panel, without S16X2's scales */
    const float *col_scale; /* [panels * nr] INT8, else NULL */
    const int32_t *col_sum; /* [panels * nr] INT8: sum of each output's codes */
    const void *data;       /* [panels][panel_bytes]; file rows for LIMN_STORE_ROWS */
    limn_dtype row_dtype;   /* LIMN_STORE_ROWS, LIMN_STORE_QUANT */
    size_t row_bytes;
    bool input_major;  /* LIMN_STORE_ROWS: rows are of outputs, one for each of k */
    const void *bytes; /* all of it with its header; NULL for LIMN_STORE_ROWS */
    size_t size;
    bool owned;
} limn_packed;

/* E_VALUE for impossible sizes, E_UNSUPPORTED for a dtype that cannot be multiplied, E_NOMEM, or
 * what `delta` returned. */
limn_status limn_packed_new(limn_packed **out, const limn_kernels *k, limn_pool *pool,
                            const limn_pack_args *a, limn_err *err);
/* Reads bytes made by limn_packed_bytes, in place; `bytes` is borrowed and 64-byte aligned.
 * E_FORMAT when damaged, E_UNSUPPORTED when packed for another instruction set. */
limn_status limn_packed_view(limn_packed **out, const limn_kernels *k, const void *bytes,
                             size_t size, limn_err *err);
/* All bytes, or NULL for weights that stay in their file (LIMN_STORE_ROWS). */
const void *limn_packed_bytes(const limn_packed *p, size_t *size);
void limn_packed_free(limn_packed **p); /* NULL-safe; nulls the caller's pointer */

/* Words that a panel kernel of this store reads from A. */
limn_words limn_packed_words(const limn_packed *p, const limn_kernels *k);
/* A-row elements per word (1, 2, 4) and bytes of `n` elements in that form. */
int limn_words_elems(limn_words w);
size_t limn_words_bytes(limn_words w, int64_t n);
/* Bytes of a whole row of A in that form, for products with `p`; with LIMN_WORDS_S16X2 its scales
 * begin at limn_words_bytes(w, p->ic_pad). */
size_t limn_packed_row_bytes(const limn_packed *p, limn_words w);

#endif
