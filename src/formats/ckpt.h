/* SPDX-License-Identifier: MIT */
/*
 * Torch files (.ckpt .pt .pth .bin): zip archives and the legacy layout (five pickles, then the
 * storages; torch/serialization.py describes both). The pickle is read as data (pickle.h).
 *
 * Tensor names are the paths of dictionary keys joined by '.'. When the top level wraps the
 * weights, the wrapper's name is left out and the rest of the file (optimizer state and the like)
 * is skipped: "state_dict", "params_ema", "params", "model_state_dict", "model", "ema" in this
 * order. Short strings and numbers of the top level become metadata. Tensors are views; one that
 * is not contiguous is copied, with a bound on all copies (4 times the file plus 64 MB).
 * Any thread.
 */
#ifndef LIMN_FORMATS_CKPT_H
#define LIMN_FORMATS_CKPT_H

#include "formats/weights.h"

bool limn_ckpt_is_zip(const uint8_t *data, size_t size);
bool limn_ckpt_is_legacy(const uint8_t *data, size_t size);
/* Either kind. */
limn_status limn_ckpt_load(limn_weights **out, limn_fsmap *map, limn_err *err);

#endif
