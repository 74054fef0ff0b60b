/* SPDX-License-Identifier: MIT */
/*
 * safetensors: an 8-byte length, a JSON header, then the data (huggingface/safetensors, format
 * section of its README). The header is read by a scanner made for it: no tree is built, so a
 * hostile header costs no more than its own size.
 *
 * Checked: header length (at most 100 MB and inside the file), strict JSON of the one allowed
 * shape, duplicate names, dtype, dimensions (at most 5, product without overflow), shape x dtype =
 * byte range, ranges inside the file and not overlapping. Unused bytes between tensors are accepted
 * and logged. Any thread.
 */
#ifndef LIMN_FORMATS_SAFETENSORS_H
#define LIMN_FORMATS_SAFETENSORS_H

#include "formats/weights.h"

/* True when the bytes begin like a safetensors file. */
bool limn_safetensors_is(const uint8_t *data, size_t size);
/* A set of views into `map` (which it keeps). */
limn_status limn_safetensors_load(limn_weights **out, limn_fsmap *map, limn_err *err);

/* One tensor to write; data is dense and in a plain (not block-quantised) dtype. */
typedef struct limn_named_tensor {
    const char *name;
    limn_tensor tensor;
} limn_named_tensor;

/* Writes `path` through a temporary file beside it, so that a broken file never remains.
 * `meta` is a list of `n_meta` key, value pairs. The data area begins 64-byte aligned. E_VALUE: a
 * block type or a bad name; E_IO: disk full, read-only folder. */
limn_status limn_safetensors_save(const char *path, const limn_named_tensor *list, size_t n,
                                  const char *const (*meta)[2], size_t n_meta, limn_err *err);

#endif
