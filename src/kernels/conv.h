/* SPDX-License-Identifier: MIT */
/*
 * Two-dimensional convolution on channels-last data, as a matrix product whose rows are pixels and
 * whose k runs over taps x channels. Nothing is gathered: the micro-kernel gets one pointer per
 * pixel and tap, and a row of zeros where a tap falls into the padding.
 *
 * y[n, oy, ox, o] = epilogue(sum over ky, kx, c of
 *     x[n, oy * stride - pad_t + ky * dilation, ox * stride - pad_l + kx * dilation, c]
 *     * w[o, c, ky, kx])
 *
 * as torch.nn.functional.conv2d. With upsample2, x is read as if it had been enlarged twofold by
 * nearest neighbour first. The same bits for any number of threads.
 */
#ifndef LIMN_KERNELS_CONV_H
#define LIMN_KERNELS_CONV_H

#include "kernels/matmul.h"

typedef struct limn_conv_shape {
    int64_t n, h, w; /* of x as it lies in memory */
    int64_t ic, oc;
    int kh, kw;
    int stride;   /* 1.. */
    int dilation; /* 1.. */
    int pad_l, pad_r, pad_t, pad_b;
    bool upsample2;
    int groups; /* 1 for limn_conv; divides ic and oc */
} limn_conv_shape;

/* Height and width of y; false when the shape is impossible (nothing left, or too large). */
bool limn_conv_out(const limn_conv_shape *s, int64_t *oh, int64_t *ow);

typedef struct limn_conv_args {
    limn_conv_shape shape;
    void *y; /* [n, oh, ow, oc] F32 or BF16 */
    limn_dtype y_dtype;
    int64_t y_stride; /* elements between pixels */
    const void *x;    /* [n, h, w, ic] F32 or BF16; must not overlap y */
    limn_dtype x_dtype;
    int64_t x_stride;
    const limn_packed *w; /* packed from [oc, ic, kh, kw]; NULL for limn_conv_grouped */
    limn_epilogue epi;    /* add is [n, oc]; add_rows is not read */
} limn_conv_args;

/* Scratch for limn_conv with these arguments (pointers are not read) on `threads` threads. */
size_t limn_conv_scratch_bytes(const limn_kernels *k, const limn_conv_args *a, int threads);
/* E_SHAPE, E_UNSUPPORTED (dtype, groups), E_CANCELLED. */
limn_status limn_conv(const limn_exec *ex, const limn_conv_args *a, limn_err *err);

/* Any number of groups, plain loops over unpacked f32 weights [oc, ic / groups, kh, kw]: correct,
 * and fast enough for the rare depthwise layer. Needs no scratch. */
limn_status limn_conv_grouped(const limn_exec *ex, const limn_conv_args *a, const float *w,
                              limn_err *err);

/* The specification: plain loops over unpacked weights, sums in double. The shape must be valid. */
void limn_conv_ref(const limn_conv_args *a, const float *w);

#endif
