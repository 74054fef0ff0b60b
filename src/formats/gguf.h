/* SPDX-License-Identifier: MIT */
/*
 * GGUF versions 2 and 3, little-endian (ggml-org/ggml, docs/gguf.md): header, typed metadata,
 * tensor descriptions, aligned data.
 *
 * Shapes are shown outermost first, the reverse of the file's order. "comfy.gguf.orig_shape.<name>"
 * (city96's files, whose convolution kernels were flattened to rows of 256) is applied: plain types
 * become views of the original shape; a block type whose blocks do not line up with that shape is
 * widened to an owned f16 copy. Split files are opened from any of their parts. Metadata numbers,
 * strings and arrays are typed (limn_meta). Nested arrays, version 1, big-endian files and types
 * that dtype.h does not list are refused by name.
 *
 * Checked: counts against the file size, string lengths, dimensions and their product, block
 * alignment, data ranges, overlaps, duplicates. Any thread.
 */
#ifndef LIMN_FORMATS_GGUF_H
#define LIMN_FORMATS_GGUF_H

#include "formats/safetensors.h"
#include "formats/weights.h"

bool limn_gguf_is(const uint8_t *data, size_t size);
/* One file. */
limn_status limn_gguf_load(limn_weights **out, limn_fsmap *map, limn_err *err);
/* As above, and merges the other parts of a split file, found beside it by name
 * (<name>-00001-of-00003.gguf). */
limn_status limn_gguf_load_split(limn_weights **out, limn_fsmap *map, limn_err *err);

/* Writes version 3 with 32-byte alignment through a temporary file. Metadata elements are written
 * with the width and type that they have (4-byte floats as f32, 8-byte as f64, ...). E_VALUE: a
 * dtype that GGUF does not have (f8, bool), more than 4 dimensions. */
limn_status limn_gguf_save(const char *path, const limn_named_tensor *list, size_t n,
                           const limn_meta *meta, size_t n_meta, limn_err *err);

/* The same piece by piece, for sets that do not fit into memory: the header is made from the list
 * (its data pointers are not read), then the tensors' bytes are added in its order, cut anywhere.
 * One thread; nothing is at `path` before finish. */
typedef struct limn_gguf_writer limn_gguf_writer;
limn_status limn_gguf_writer_new(limn_gguf_writer **out, const char *path,
                                 const limn_named_tensor *list, size_t n, const limn_meta *meta,
                                 size_t n_meta, limn_err *err);
limn_status limn_gguf_writer_add(limn_gguf_writer *w, const void *bytes, size_t n, limn_err *err);
/* All bytes must have been added. */
limn_status limn_gguf_writer_finish(limn_gguf_writer *w, limn_err *err);
/* Removes what was written when it was not finished. NULL-safe; nulls the caller's pointer. */
void limn_gguf_writer_free(limn_gguf_writer **w);

/* The number of a dtype in GGUF files; -1 when it has none. */
int limn_gguf_type_number(limn_dtype t);

#endif
