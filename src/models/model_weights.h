/* SPDX-License-Identifier: MIT */
/*
 * The parameters of one network: a canonical set of tensors (formats/canon.h) as the limn_weight
 * objects that graphs hold, plus the adapters (LoRA and its kin) that change them.
 *
 * A limn_weight is made when it is first asked for and lives as long as the limn_model_weights, so
 * pointers stay good across graphs. Changing adapters bumps the versions of the weights they touch;
 * backends then pack those again. One thread at a time.
 */
#ifndef LIMN_MODELS_MODEL_WEIGHTS_H
#define LIMN_MODELS_MODEL_WEIGHTS_H

#include "formats/weights.h"
#include "nn/nn.h"

typedef struct limn_model_weights limn_model_weights;

/* Adds strength * delta to f32 rows [row0, row0 + rows) of the weight `name`; the weight's own
 * values are already there, then those of adapters added before. */
typedef limn_status limn_adapter_fn(void *adapter, const char *name, float *w, int64_t row0,
                                    int64_t rows, int64_t in, limn_err *err);
/* True when the adapter changes the weight of that name. */
typedef bool limn_adapter_has_fn(void *adapter, const char *name);

/* Keeps a reference to `set`. */
limn_status limn_model_weights_new(limn_model_weights **out, const limn_weights *set,
                                   limn_err *err);
void limn_model_weights_free(limn_model_weights **mw);
/* A limn_nn_find_fn; `user` is the limn_model_weights. */
const limn_weight *limn_model_weights_find(void *user, const char *name);
const limn_weights *limn_model_weights_set(const limn_model_weights *mw);

/* Whether `w` is one of its weights (a limn_weight_is_fn; `mw` is the limn_model_weights). */
bool limn_model_weights_has(const void *mw, const limn_weight *w);
/* Calls fn for each weight made so far; used to drop packed forms. */
void limn_model_weights_each(limn_model_weights *mw, void (*fn)(void *user, const limn_weight *w),
                             void *user);

/* Removes all adapters / adds one (borrowed; must outlive its use). At most 32. E_LIMIT. */
void limn_model_weights_clear_adapters(limn_model_weights *mw);
limn_status limn_model_weights_add_adapter(limn_model_weights *mw, limn_adapter_fn *apply,
                                           limn_adapter_has_fn *has, void *adapter, limn_err *err);
/* The adapters will answer otherwise from now on (another strength): versions are bumped. */
void limn_model_weights_adapters_changed(limn_model_weights *mw);

#endif
