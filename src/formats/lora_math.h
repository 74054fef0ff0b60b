/* SPDX-License-Identifier: MIT */
/* What lora_file.c asks of lora_delta.c while binding; internal. */
#ifndef LIMN_FORMATS_LORA_MATH_H
#define LIMN_FORMATS_LORA_MATH_H

#include "formats/lora_file.h"

/* norms [cols / taps] = length of each input channel of W + delta, over outputs and taps. */
limn_status limn_lora_column_norms(float *norms, const limn_lora_entry *e, limn_err *err);

#endif
