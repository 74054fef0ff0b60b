/* SPDX-License-Identifier: MIT */
/*
 * Elementwise work: activations, arithmetic with broadcasting, gated linear units, conversion.
 *
 * The functions below cut rows into tasks of a size that depends on the shape only, so that results
 * are the same bits for any number of threads; they need no scratch. They validate with assert
 * only: shapes were checked when the graph was built. Operands may be f32, f16 or bf16 (each its
 * own); arithmetic is f32. An output may be the same memory as an input of the same type and
 * stride, but must not overlap it otherwise.
 *
 * The micro-kernels in limn_elementwise_kernels work on contiguous f32 rows. The C bodies
 * (elementwise_c.c, act.h) are the specification; the largest errors of the vector bodies are
 * stated and held by tests/test_elementwise.c, against libm in f64 over all of f32's useful range.
 */
#ifndef LIMN_KERNELS_ELEMENTWISE_H
#define LIMN_KERNELS_ELEMENTWISE_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/act.h"
#include "tensor/dtype.h"

struct limn_exec;
struct limn_kernels;

/* X(id, name, formula) */
#define LIMN_BINARY_LIST(X)                                                                        \
    X(ADD, "add", "a + b")                                                                         \
    X(SUB, "sub", "a - b")                                                                         \
    X(MUL, "mul", "a * b")                                                                         \
    X(DIV, "div", "a / b")                                                                         \
    X(ADD_SCALED, "add_scaled", "a + alpha * b")

typedef enum limn_binary {
#define X(id, name, formula) LIMN_BINARY_##id,
    LIMN_BINARY_LIST(X)
#undef X
        LIMN_BINARY_COUNT
} limn_binary;

struct limn_glu_args;

/* Micro-kernels: n >= 0 contiguous elements, any alignment, y may equal an input. */
typedef struct limn_elementwise_kernels {
    void (*act[LIMN_ACT_COUNT])(float *y, const float *x, float slope, int64_t n);
    void (*exp)(float *y, const float *x, int64_t n);
    void (*erf)(float *y, const float *x, int64_t n);
    void (*affine)(float *y, const float *x, float mul, float add, int64_t n); /* x * mul + add */
    void (*binary[LIMN_BINARY_COUNT])(float *y, const float *a, const float *b, float alpha,
                                      int64_t n);
    void (*modulate)(float *y, const float *x, const float *scale, const float *shift, int64_t n);
    void (*gate_add)(float *y, const float *x, const float *gate, const float *h, int64_t n);
    /* A whole limn_glu_run on the calling thread: GELU or SILU, value and gate of one type, neither
     * repeated nor single */
    void (*glu)(const struct limn_glu_args *a);
    void (*bf16_to_f32)(float *y, const uint16_t *x, int64_t n);
    void (*f16_to_f32)(float *y, const uint16_t *x, int64_t n);
    void (*q8_0_to_f32)(float *y, const void *x, int64_t n);     /* n: whole blocks of 32 */
    void (*f32_to_bf16)(uint16_t *y, const float *x, int64_t n); /* nearest even; NaN stays NaN */
    void (*f32_to_f16)(uint16_t *y, const float *x, int64_t n);  /* nearest even; may be infinite */
} limn_elementwise_kernels;

/* Name in the table above, for example "add". Never NULL. */
const char *limn_binary_name(limn_binary op);

/* One operand: `rows` rows of `cols` elements, `stride` elements apart. */
typedef struct limn_rows {
    void *data;
    limn_dtype type; /* F32, F16 or BF16 */
    int64_t stride;
} limn_rows;

/* An operand that is read with broadcasting. Row r of the result reads row r / repeat of it
 * (repeat = rows: one row for all; 0 counts as 1); `single`: its rows hold one element each, which
 * serves all columns. A per-sample vector over tokens or pixels has repeat = tokens per sample. */
typedef struct limn_rows_in {
    const void *data; /* NULL: absent, where that is allowed */
    limn_dtype type;
    int64_t stride;
    int64_t repeat;
    bool single;
} limn_rows_in;

typedef struct limn_act_args {
    limn_rows y;    /* [rows, cols] */
    limn_rows_in x; /* [rows, cols] */
    int64_t rows, cols;
    limn_act act; /* NONE between types converts activations */
    float slope;  /* of leaky_relu */
} limn_act_args;

/* y = act(x) */
void limn_act_run(const struct limn_exec *ex, const limn_act_args *a);

typedef struct limn_affine_args {
    limn_rows y;    /* [rows, cols] */
    limn_rows_in x; /* [rows, cols] */
    int64_t rows, cols;
    float mul, add;
} limn_affine_args;

/* y = x * mul + add */
void limn_affine_run(const struct limn_exec *ex, const limn_affine_args *a);

typedef struct limn_binary_args {
    limn_rows y;    /* [rows, cols] */
    limn_rows_in a; /* [rows, cols] */
    limn_rows_in b; /* [rows / repeat, cols or 1] */
    int64_t rows, cols;
    limn_binary op;
    float alpha; /* of add_scaled */
} limn_binary_args;

void limn_binary_run(const struct limn_exec *ex, const limn_binary_args *a);

typedef struct limn_modulate_args {
    limn_rows y;        /* [rows, cols] */
    limn_rows_in x;     /* [rows, cols] */
    limn_rows_in scale; /* [rows / repeat, cols], NULL data: 0 */
    limn_rows_in shift; /* [rows / repeat, cols], NULL data: 0 */
    int64_t rows, cols;
} limn_modulate_args;

/* y = x * (1 + scale) + shift (adaptive layer norm of the DiT family) */
void limn_modulate_run(const struct limn_exec *ex, const limn_modulate_args *a);

typedef struct limn_gate_add_args {
    limn_rows y;       /* [rows, cols] */
    limn_rows_in x;    /* [rows, cols], the residual */
    limn_rows_in gate; /* [rows / repeat, cols or 1] */
    limn_rows_in h;    /* [rows, cols] */
    int64_t rows, cols;
} limn_gate_add_args;

/* y = x + gate * h */
void limn_gate_add_run(const struct limn_exec *ex, const limn_gate_add_args *a);

typedef struct limn_glu_args {
    limn_rows y;        /* [rows, cols] */
    limn_rows_in value; /* [rows, cols] */
    limn_rows_in gate;  /* [rows, cols] */
    int64_t rows, cols;
    limn_act act; /* GELU: GEGLU of diffusers' UNets; SILU: SwiGLU of the language models */
} limn_glu_args;

/* y = value * act(gate). For halves of one row [2 * cols], both operands point into the same data,
 * `cols` apart, with the stride of the whole row; which half is the gate differs per model. */
void limn_glu_run(const struct limn_exec *ex, const limn_glu_args *a);

typedef struct limn_convert_args {
    void *y;       /* [n], f32 / f16 / bf16 */
    const void *x; /* [n], any type; n a multiple of its block */
    limn_dtype y_type, x_type;
    int64_t n;
} limn_convert_args;

/* Dense conversion, dequantising block types. */
void limn_convert_run(const struct limn_exec *ex, const limn_convert_args *a);

/* n elements of f32 to any dtype (whole blocks) on the calling thread; the way back: rowio.h. */
void limn_row_from_f32(const struct limn_kernels *k, void *y, const float *x, limn_dtype t,
                       int64_t n);

/* Fillers of the dispatch table; called by kernels.c and x86_init.c only. */
void limn_elementwise_fill_c(limn_elementwise_kernels *e);
void limn_elementwise_fill_avx2(limn_elementwise_kernels *e);
void limn_elementwise_fill_avx512(limn_elementwise_kernels *e);
void limn_elementwise_fill_avx512bf16(limn_elementwise_kernels *e);

#endif
