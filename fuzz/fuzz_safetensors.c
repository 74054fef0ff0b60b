/* SPDX-License-Identifier: MIT */
/* Any bytes as a safetensors file. */
#include "formats/safetensors.h"
#include "fuzz_weights.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    return fuzz_load(limn_safetensors_load, data, size);
}
