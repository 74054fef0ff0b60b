/* SPDX-License-Identifier: MIT */
/*
 * The micro-kernel contract under matmul and conv, and the driver that both share.
 *
 * A product is out[m, n] = sum over segments s and words w of A[s][m][w] * B[s][w][n]. The rows of
 * A are given by pointers, so that a convolution is the same thing with one segment per tap and a
 * row of zeros for padding: nothing is gathered. A *word* is 32 bits of an A row: one f32, two
 * bf16, two s16, four u8, or (AVX2's int8) four s16 in 64 bits; a kernel broadcasts it against one
 * step of a packed panel of `nr` outputs (pack.h). Sums run over k in one fixed order per output
 * whatever the tile, so tiles may be cut for any number of threads without changing a bit.
 *
 * Internal to kernels/.
 */
#ifndef LIMN_KERNELS_GEMM_H
#define LIMN_KERNELS_GEMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/act.h"
#include "tensor/dtype.h"

/* How a packed weight lies in memory: steps of `nr` outputs. */
typedef enum limn_store {
    LIMN_STORE_F32,    /* [k][nr] */
    LIMN_STORE_F16,    /* [k][nr] */
    LIMN_STORE_BF16,   /* [k][nr] */
    LIMN_STORE_BF16X2, /* [k/2][nr][2], for dot products of bf16 pairs */
    LIMN_STORE_I8X4,   /* [k/4][nr][4] signed, one scale per output */
    LIMN_STORE_S16X2,  /* fixed point, see LIMN_FIX_BLOCK */
    LIMN_STORE_ROWS,   /* the file's own rows, expanded block by block */
    LIMN_STORE_QUANT,  /* the file's blocks, sixteen rows interleaved: quant_panel.h */
    LIMN_STORE_COUNT
} limn_store;

/* What a kernel reads from the rows of A. */
typedef enum limn_words {
    LIMN_WORDS_F32,
    LIMN_WORDS_BF16X2,
    LIMN_WORDS_U8X4,  /* value + 128 */
    LIMN_WORDS_S16X4, /* plain value */
    LIMN_WORDS_S16X2, /* codes of the whole row, then f32 scales, one per block */
    LIMN_WORDS_COUNT
} limn_words;

/*
 * Products in fixed point of 16 bits, where an integer unit multiplies more pairs than the f32 unit
 * (AVX2's vpmaddwd: twice as many). Rows of A and of W are cut along k into blocks of at most
 * LIMN_FIX_BLOCK; a block has one f32 scale and codes of at most LIMN_FIX_X (A) or LIMN_FIX_W (W)
 * in magnitude, so that its sum of products is exact in 32 bits. For each block in order
 *
 *     c = fma((float)sum, scale of A * scale of W, c), beginning with 0
 *
 * which gives the same bits on every instruction set and for any tile. A block of a panel is
 * [pairs][nr][2] codes, then [nr] scales. A block with a number that is not finite has codes of 0
 * and a scale of NaN.
 */
enum { LIMN_FIX_BLOCK = 160, LIMN_FIX_X = 5000, LIMN_FIX_W = 2680 };
_Static_assert((int64_t)LIMN_FIX_BLOCK *LIMN_FIX_X *LIMN_FIX_W <= INT32_MAX, "sums overflow");

typedef struct limn_gemm_panel {
    const void *const *rows; /* [segs][rows_stride], `m` of each used */
    size_t rows_stride;
    size_t row_offset; /* bytes added to every row pointer */
    int m, segs;
    int words;  /* of each segment */
    int panels; /* neighbouring panels, each b_stride bytes after the one before */
    int nr;     /* outputs per panel */
    const void *b;
    size_t b_stride;
    float *c;            /* [panels][c_stride], of each [m][nr]; s32 for int8. 64-byte aligned */
    size_t c_stride;     /* in elements */
    bool accumulate;     /* add to c, else overwrite */
    int fix_words;       /* S16X2: words of a block; `words` is cut into them from the first on */
    size_t scale_offset; /* S16X2: bytes from a row pointer to the scale of the first block */
    /* Two ranges that the caller reads next, brought into L2 meanwhile as far as there is time. */
    const char *fetch[2];
    size_t fetch_bytes[2];
} limn_gemm_panel;

typedef void limn_gemm_panel_fn(const limn_gemm_panel *p);

/* Turns a finished tile of sums into output rows. */
typedef struct limn_gemm_finish {
    float *c;               /* [m][nr] of the table, changed in place; s32 with row_scale */
    int m, n;               /* n <= nr outputs are real */
    const float *row_scale; /* [m] int8: activation scale, else NULL */
    const float *col_scale; /* [n] int8: weight scale */
    const int32_t *col_fix; /* [n] int8: subtracted from the sum before scaling, or NULL */
    const float *bias;      /* [n] or NULL */
    const float *add; /* row r of the tile adds add[((row0 + r) / add_rows) * add_stride + j] */
    int64_t add_stride, add_rows, row0;
    limn_act act;
    float slope, scale;
    const void *res; /* residual [m, n] or NULL */
    int64_t res_stride;
    void *y;
    int64_t y_stride; /* in elements, as res_stride */
    bool res_bf16, y_bf16;
} limn_gemm_finish;

/* Rows of activations in 8 bits, 32 elements b to a scale: x ~ d[b] * q, |q| <= 127. Row r of each
 * array lies r * stride bytes further; stride is a multiple of 64. Beside weights of
 * limn_quant_powers d is a power of two. */
typedef struct limn_q8_rows {
    const int8_t *q; /* [k] codes, 64-byte aligned */
    const int16_t
        *w;         /* [k] the same, each four in the order 0, 2, 1, 3; NULL where not asked for */
    const float *d; /* [k / 32] */
    const float *s; /* [k / 32] d times the sum of q */
    const int16_t *h; /* [k / 16] sums of q */
    size_t stride;
} limn_q8_rows;

/* A group of some rows together, as tiles of pairs read it: x goes by as one stream. Codes are +
 * 128, scales that are powers of two times LIMN_Q8_SHIFT. */
enum { LIMN_Q8_BLOCK = 5 };
typedef struct limn_q8_block {
    uint8_t q[LIMN_Q8_BLOCK][32];
    float d[LIMN_Q8_BLOCK], s[LIMN_Q8_BLOCK];
} limn_q8_block;

/* Products of rows of 8-bit activations with `groups` groups of 32 elements of one quantised panel
 * of LIMN_QUANT_NR outputs. For each group in order
 *
 *     with minima c = fma(-min, s, c), then c = fma((float)sum, scale * d, c)
 *
 * where the sum of 32 products of codes (signed ones in q4_0) is exact: the same bits on every
 * instruction set and for any number of rows, few or many. Where d is a power of two,
 * fma(sum * d, scale, c) has the same bits. */
enum { LIMN_QUANT_NR = 16, LIMN_QUANT_FEW = 4 };
typedef struct limn_quant_tile {
    const void *b;               /* the panel's blocks from group0 on, or expanded codes */
    const float *scale, *min;    /* of expanded codes: [groups][LIMN_QUANT_NR]; min NULL: none */
    size_t b_stride, c_panel;    /* to the second panel: bytes of b, elements of c */
    limn_q8_rows x;              /* of kernels without `pair` */
    const limn_q8_block *blocks; /* of kernels with it: [m / LIMN_Q8_BLOCK, rounded up], */
    size_t blocks_stride;        /* blocks apart, from group0 on */
    int m, panels;               /* panels: two only for `tile` of a kernel with `pair` */
    size_t group0, groups;       /* group0: where the rows of x begin, in groups; whole blocks */
    float *c; /* [m][c_stride], LIMN_QUANT_NR of each row used; 32-byte aligned */
    size_t c_stride;
    bool accumulate; /* add to c, else begin with 0 */
    /* For a `tile` of a kernel with `pair`, to bring near while it multiplies: ranges of weights
     * that come next, one for each panel, and the lines that the sums will be sent to. */
    const char *fetch[2];     /* NULL: none */
    size_t fetch_bytes;       /* of each */
    const char *y;            /* row 0, panel 0; NULL: none */
    size_t y_stride, y_panel; /* bytes to the next row, to the second panel */
} limn_quant_tile;

/* How rows are quantised: with powers of two as scales; as limn_q8_block holds them. */
enum { LIMN_Q8_POWERS = 1, LIMN_Q8_BIASED = 2 };
#define LIMN_Q8_SHIFT 0x1.8p23f

typedef struct limn_quant_kernels {
    bool wide;                             /* reads limn_q8_rows.w */
    bool minima;                           /* expand fills `min` */
    bool pair;                             /* tile takes blocks of x and two expanded panels */
    int few_rows;                          /* of `few`, at most */
    size_t group_bytes;                    /* what tile reads of a group of a panel, about */
    void (*few)(const limn_quant_tile *t); /* m <= few_rows; NULL: no kernels for the type */
    /* Codes as tile reads them; NULL: it reads the panel's blocks. Scales and minima may lie among
     * the codes instead. */
    void (*expand)(void *codes, float *scale, float *min, const void *blocks, size_t groups);
    void (*tile)(const limn_quant_tile *t); /* any m */
} limn_quant_kernels;

typedef struct limn_gemm_kernels {
    int mr, nr;
    limn_store half;       /* store of LIMN_COMPUTE_HALF for weights that are wider */
    limn_words int8_words; /* what panel[I8X4] reads */
    limn_gemm_panel_fn *panel[LIMN_STORE_COUNT]; /* NULL: not of this table */
    void (*finish)(const limn_gemm_finish *f);
    void (*f16_to_f32)(float *dst, const uint16_t *src, size_t n);
    void (*f32_to_f16)(uint16_t *dst, const float *src, size_t n);
    void (*bf16_to_f32)(float *dst, const uint16_t *src, size_t n);
    void (*f32_to_bf16)(uint16_t *dst, const float *src, size_t n);
    /* 8-bit codes of src * inv_scale: nearest in [-127, 127], + 128 for u8 */
    void (*quantise_u8)(uint8_t *dst, const float *src, size_t n, float inv_scale);
    void (*quantise_s16)(int16_t *dst, const float *src, size_t n, float inv_scale);
    float (*max_abs)(const float *src, size_t n);
    /* A row of n numbers in fixed point: codes of at most `top`, one scale for each `block`. May
     * write the scales over its source. */
    void (*fix_row)(int16_t *dst, float *scales, const float *src, size_t n, size_t block,
                    float top);
    /* dst[i][r] = src[r][i]: nr rows of n 32-bit words, `stride` words apart, to panel order */
    void (*transpose)(float *dst, const float *src, size_t stride, size_t n);
    /* n elements of a row of a quantised dtype (and of any other) to f32 */
    void (*expand[LIMN_DTYPE_COUNT])(float *dst, const void *src, size_t n);
    /* out[r] += sum of w[i] * x[r][i] over n elements, for 1 to 4 rows */
    void (*dot)(float *out, const float *w, const float *const *x, int rows, size_t n);
    /* out[r] = a row of k quantised weights, as in the file, times 8-bit activations, for 1 to 4
     * rows; sums within 32 elements are exact. NULL: the type has no such kernel here. */
    void (*dot_q8[LIMN_DTYPE_COUNT])(float *out, const void *w, const limn_q8_rows *x, int rows,
                                     size_t k);
    /* The same with panels of interleaved blocks */
    limn_quant_kernels quant[LIMN_DTYPE_COUNT];
    /* Codes, scales and sums of a row of n elements, n a multiple of 32: scale max|x| / 127 or,
     * with LIMN_Q8_POWERS, limn_quant_power of that; nearest even. w may be NULL. */
    void (*quantise_q8)(int8_t *q, int16_t *w, float *d, float *s, int16_t *h, const float *x,
                        size_t n, unsigned how);
} limn_gemm_kernels;

/* Fillers; each leaves alone what it does not do better. */
void limn_gemm_fill_c(limn_gemm_kernels *k);
void limn_gemm_fill_avx2(limn_gemm_kernels *k);
void limn_gemm_fill_fix_avx2(limn_gemm_kernels *k);
void limn_gemm_fill_expand_avx2(limn_gemm_kernels *k);
void limn_gemm_fill_dot_avx2(limn_gemm_kernels *k);
void limn_gemm_fill_quant_c(limn_gemm_kernels *k);
void limn_gemm_fill_quant_avx2(limn_gemm_kernels *k);
void limn_gemm_fill_quant_rows_avx2(limn_gemm_kernels *k);
void limn_gemm_fill_avx512(limn_gemm_kernels *k);
void limn_gemm_fill_vnni(limn_gemm_kernels *k);
void limn_gemm_fill_quant_vnni(limn_gemm_kernels *k);
void limn_gemm_fill_avx512bf16(limn_gemm_kernels *k);

#endif
