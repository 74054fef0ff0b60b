/* SPDX-License-Identifier: MIT */
/*
 * Tensors: a dtype, up to five dimensions (outermost first, as in PyTorch and safetensors), and a
 * pointer to data that somebody else owns (a file map, a plan's arena, the caller).
 *
 * A limn_tensor is a plain value: copy it freely. Strides are implicit (dense, row-major); views
 * with other strides exist only inside the graph (graph/graph.h), where the planner resolves them.
 */
#ifndef LIMN_TENSOR_TENSOR_H
#define LIMN_TENSOR_TENSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "base/status.h"
#include "tensor/dtype.h"

enum { LIMN_MAX_DIMS = 5 };

typedef struct limn_shape {
    int ndim; /* 0 = scalar */
    int64_t dim[LIMN_MAX_DIMS];
} limn_shape;

typedef struct limn_tensor {
    limn_dtype dtype;
    limn_shape shape;
    void *data; /* borrowed */
    /* NULL, or [dim[0]]: where the outermost parts lie that are not in one run (the experts of
     * some files); data is NULL then. Borrowed. */
    const void *const *parts;
} limn_tensor;

/* LIMN_SHAPE(batch, len, dim): a shape from its dimensions, outermost first. */
#define LIMN_SHAPE(...)                                                                            \
    ((limn_shape){.ndim = (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)),               \
                  .dim = {__VA_ARGS__}})
int64_t limn_shape_count(const limn_shape *s); /* product; -1 on overflow or a negative dimension */
bool limn_shape_equal(const limn_shape *a, const limn_shape *b);
/* "[2, 77, 768]" into buf; returns buf. 96 bytes are always enough. */
const char *limn_shape_format(const limn_shape *s, char *buf, size_t size);

/* Bytes of the dense data; false on overflow or a last dimension that is not whole blocks. */
bool limn_tensor_bytes(size_t *out, limn_dtype t, const limn_shape *s);

/* The i-th of the outermost dimension, wherever it lies. A part must be whole blocks. */
const void *limn_tensor_part(const limn_tensor *t, int64_t i);

/* Owning allocation: data is 64-byte aligned, not cleared. Free with limn_tensor_free. */
limn_status limn_tensor_new(limn_tensor *out, limn_dtype t, const limn_shape *s, limn_err *err);
void limn_tensor_free(limn_tensor *t); /* frees data made by limn_tensor_new, zeroes the struct */

#endif
