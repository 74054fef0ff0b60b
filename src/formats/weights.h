/* SPDX-License-Identifier: MIT */
/*
 * A set of named tensors: what every weight file becomes, and what every network is built from.
 *
 * A set holds views into mapped files (never copies), the few tensors that had to be converted, and
 * the metadata of the files. It is filled by one loader and immutable from then on: any thread may
 * read it. Sets are reference-counted; a set that shows tensors of another one (a scope, a merge)
 * keeps that one alive, so a tensor is valid as long as any set that shows it.
 *
 * Names: a file keeps its own names. Networks ask for canonical names (those of diffusers for UNet
 * and autoencoders, of transformers for text encoders), which the scopes of formats/canon.h give
 * for every dialect: build a network from such a scope, not from the file's own set.
 *
 * A quantised tensor keeps its block type. Data of files may be unaligned: read elements with
 * memcpy or limn_dtype_to_f32.
 */
#ifndef LIMN_FORMATS_WEIGHTS_H
#define LIMN_FORMATS_WEIGHTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/fsmap.h"
#include "base/status.h"
#include "tensor/tensor.h"

typedef struct limn_weights limn_weights;

/*
 * Opens a file or folder by its content, never by its ending:
 *   a safetensors file, an index of shards (*.index.json), a GGUF file (one or the first of split
 *   ones), a torch file (zip or legacy pickle, parsed and never executed),
 *   a folder with config.json and weights: the tensors as named there, metadata "limn.config",
 *   a diffusers folder (model_index.json): all components in one set, each tensor's name prefixed
 *   with "<component>." ("unet.conv_in.weight"), metadata "limn.config.<component>" (the text of
 *   its config.json), "limn.model_index", "limn.config.scheduler" and
 *   "limn.advice" (limn.json: what the model recommends).
 * Errors: E_NOT_FOUND, E_IO, E_FORMAT (damaged), E_UNSUPPORTED (a known thing that is not read),
 * E_LIMIT, E_NOMEM; the text names the file and the tensor.
 */
limn_status limn_weights_open(limn_weights **out, const char *path, limn_err *err);
/* The same for a map: one file, by its content (for models built into the program). */
limn_status limn_weights_open_map(limn_weights **out, limn_fsmap *map, limn_err *err);
limn_weights *limn_weights_ref(const limn_weights *w);
void limn_weights_unref(limn_weights **w); /* nulls the caller's pointer; NULL-safe */

/* Tensor by exact name; NULL when there is none. Valid as long as the set is. */
const limn_tensor *limn_weights_find(const limn_weights *w, const char *name);
/* Same, with a printf-made name (at most 511 bytes; a longer one is never found). */
const limn_tensor *limn_weights_findf(const limn_weights *w, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* As find, and fails with E_MISSING / E_SHAPE naming file, tensor and both shapes. `shape` NULL:
 * any. */
limn_status limn_weights_need(const limn_tensor **out, const limn_weights *w, const char *name,
                              const limn_shape *shape, limn_err *err);

/* Iteration, in file order: 0 <= i < limn_weights_count(). */
size_t limn_weights_count(const limn_weights *w);
const char *limn_weights_name(const limn_weights *w, size_t i);
const limn_tensor *limn_weights_at(const limn_weights *w, size_t i);
/* Index of a name; SIZE_MAX when there is none. */
size_t limn_weights_index(const limn_weights *w, const char *name);
/* True when some name begins with `prefix` (linear in the number of tensors). */
bool limn_weights_has_prefix(const limn_weights *w, const char *prefix);

/* Where the set came from: a path as given to limn_weights_open. Never NULL. */
const char *limn_weights_path(const limn_weights *w);
/* "safetensors", "gguf", "torch zip", "torch legacy", "diffusers folder", ... Never NULL. */
const char *limn_weights_format(const limn_weights *w);

/* The file map that holds the tensor's data; NULL when the set owns a converted copy. */
const limn_fsmap *limn_weights_map_of(const limn_weights *w, const limn_tensor *t);
/* Hints over a tensor's pages: will be read soon / may leave memory (they stay readable). */
void limn_weights_will_need(const limn_weights *w, const limn_tensor *t);
void limn_weights_drop(const limn_weights *w, const limn_tensor *t);

/* ---- metadata: safetensors strings, GGUF typed values, config texts ---- */
typedef enum limn_meta_type {
    LIMN_META_STR,
    LIMN_META_INT, /* all signed and unsigned integers; u64 above INT64_MAX is refused */
    LIMN_META_FLOAT,
    LIMN_META_BOOL
} limn_meta_type;

typedef struct limn_str_view {
    const char *p; /* not NUL-terminated */
    size_t n;
} limn_str_view;

typedef struct limn_meta {
    const char *key;
    limn_meta_type type; /* of the value, or of each element */
    bool is_array;
    size_t count;     /* elements; 1 when not an array */
    const void *data; /* internal: read through limn_meta_*_at */
    int width;        /* internal: bytes per element in `data`, negative = signed */
} limn_meta;

size_t limn_weights_meta_count(const limn_weights *w);
const limn_meta *limn_weights_meta_at(const limn_weights *w, size_t i);
const limn_meta *limn_weights_meta_find(const limn_weights *w, const char *key);
/* Scalar string (NUL-terminated) or NULL when absent or of another type. */
const char *limn_weights_meta_str(const limn_weights *w, const char *key);
/* Scalar number; `fallback` when absent or of another type. */
int64_t limn_weights_meta_int(const limn_weights *w, const char *key, int64_t fallback);
double limn_weights_meta_float(const limn_weights *w, const char *key, double fallback);
/* Elements, i < m->count. Int of a float is 0 and so on: check m->type. */
limn_str_view limn_meta_str_at(const limn_meta *m, size_t i);
int64_t limn_meta_int_at(const limn_meta *m, size_t i);
double limn_meta_float_at(const limn_meta *m, size_t i);

/* ---- building: loaders, scopes and tests; only before the set is shown to anybody else ---- */
limn_status limn_weights_new(limn_weights **out, const char *path, const char *format,
                             limn_err *err);
/* Adds a view; the data must live in a kept map, block or parent. E_FORMAT on a duplicate or
 * invalid name (empty, longer than 1023 bytes, control characters). */
limn_status limn_weights_add(limn_weights *w, const char *name, const limn_tensor *t,
                             limn_err *err);
/* Adds an owned, uninitialised tensor; *data is where its bytes go (64-byte aligned). */
limn_status limn_weights_add_owned(limn_weights *w, const char *name, limn_dtype t,
                                   const limn_shape *shape, void **data, limn_err *err);
/* Keeps a map / a parent alive as long as the set (takes its own reference). */
limn_status limn_weights_keep_map(limn_weights *w, limn_fsmap *map, limn_err *err);
limn_status limn_weights_keep_parent(limn_weights *w, const limn_weights *parent, limn_err *err);
/* Frees `block` (limn_mem_*) with the set; takes it even on failure. */
limn_status limn_weights_keep_block(limn_weights *w, void *block, limn_err *err);
limn_status limn_weights_set_meta_str(limn_weights *w, const char *key, const char *value,
                                      size_t len, limn_err *err);
/* `data` must be kept alive by the set; see limn_meta. Strings: an array of limn_str_view. */
limn_status limn_weights_set_meta(limn_weights *w, const limn_meta *m, limn_err *err);

/* A set that shows the tensors of `w` whose names begin with `prefix`, without it. May be empty.
 * Metadata is that of `w`. */
limn_status limn_weights_scope(limn_weights **out, const limn_weights *w, const char *prefix,
                               limn_err *err);
/* One set of all; a name that occurs twice is E_FORMAT. Metadata: the first set's wins.
 * `prefixes` may be NULL; else prefixes[i] is put before each name of sets[i]. */
limn_status limn_weights_merge(limn_weights **out, const limn_weights *const *sets,
                               const char *const *prefixes, size_t n, const char *path,
                               const char *format, limn_err *err);

#endif
