/* SPDX-License-Identifier: MIT */
/*
 * Reading Python pickles (protocols 2 to 5: the binary opcodes that torch.save uses) as plain data.
 *
 * Nothing is imported or executed. A pickle may name classes and functions; those of a fixed list
 * (pickle_globals.c) become plain values: tensors, storages, dictionaries, or inert objects that
 * only hold their state. Any other name ends the reading with E_UNSUPPORTED and the name.
 *
 * Values live in the reader's arena until limn_pickle_deinit and may be shared or even cyclic (a
 * pickle can say so): walkers must bound their depth. Budgets: operations, stack, memo and arena
 * bytes, all far above what real files need. One thread per reader.
 */
#ifndef LIMN_FORMATS_PICKLE_H
#define LIMN_FORMATS_PICKLE_H

#include "base/mem.h"
#include "base/status.h"
#include "tensor/tensor.h"

typedef enum limn_pickle_type {
    LIMN_PK_NONE,
    LIMN_PK_BOOL,
    LIMN_PK_INT,
    LIMN_PK_FLOAT,
    LIMN_PK_STR, /* also bytes */
    LIMN_PK_TUPLE,
    LIMN_PK_LIST, /* also sets */
    LIMN_PK_DICT, /* items: key, value, key, value ... */
    LIMN_PK_GLOBAL,
    LIMN_PK_STORAGE,
    LIMN_PK_TENSOR,
    LIMN_PK_OBJECT /* inert: items[0] is its state when there is one */
} limn_pickle_type;

/* What a whitelisted global stands for. */
typedef enum limn_pickle_global {
    LIMN_PKG_TENSOR_V2,    /* torch._utils._rebuild_tensor, _rebuild_tensor_v2 */
    LIMN_PKG_PARAMETER,    /* torch._utils._rebuild_parameter: its first argument */
    LIMN_PKG_STORAGE_TYPE, /* torch.FloatStorage ... */
    LIMN_PKG_DTYPE,        /* torch.float16 ... */
    LIMN_PKG_DICT,         /* collections.OrderedDict, dict, defaultdict */
    LIMN_PKG_LIST,         /* list, set, tuple, torch.Size: its first argument */
    LIMN_PKG_OPAQUE        /* known and harmless: arguments and state are kept, nothing is done */
} limn_pickle_global;

/* A tensor's place in its storage, in elements. */
typedef struct limn_pickle_layout {
    limn_shape shape;
    int64_t stride[LIMN_MAX_DIMS];
    int64_t offset;
} limn_pickle_layout;

typedef struct limn_pickle_value limn_pickle_value;
struct limn_pickle_value {
    limn_pickle_type type;
    limn_pickle_global global; /* GLOBAL */
    limn_dtype dtype;          /* GLOBAL of a type, STORAGE */
    bool has_dtype;            /* false: torch.UntypedStorage and dtypes limn does not have */
    int64_t i;                 /* BOOL, INT; STORAGE: elements */
    double f;                  /* FLOAT */
    const char *s;             /* STR: bytes; GLOBAL, OBJECT: name; STORAGE: key. NUL-terminated. */
    size_t n;                  /* bytes of s, or number of items */
    limn_pickle_value **items; /* TUPLE, LIST, DICT, OBJECT; TENSOR: items[0] is the storage */
    size_t cap;
    int64_t view;                     /* STORAGE: first element of a view (legacy files) */
    const limn_pickle_layout *layout; /* TENSOR */
};

typedef struct limn_pickle limn_pickle;

/* `name` is used in errors (the path). */
limn_status limn_pickle_new(limn_pickle **out, const char *name, limn_err *err);
void limn_pickle_free(limn_pickle **p);
/* Reads one pickle from data; *used = its bytes. The value is never NULL on success. May be called
 * again for the next pickle of the same file (legacy torch files hold five). */
limn_status limn_pickle_load(limn_pickle *p, limn_pickle_value **out, const uint8_t *data,
                             size_t size, size_t *used, limn_err *err);
/* Value of a string key in a DICT; NULL when absent or not a dict. The last one wins, as in
 * Python. */
limn_pickle_value *limn_pickle_get(const limn_pickle_value *dict, const char *key);

/* The fixed list: fills a GLOBAL; false when the name is not on it. `name` must stay alive. */
bool limn_pickle_global_find(limn_pickle_value *out, const char *module, const char *name);

#endif
