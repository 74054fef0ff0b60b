/* SPDX-License-Identifier: MIT */
/* Any bytes as a gguf file. */
#include "formats/gguf.h"
#include "fuzz_weights.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    return fuzz_load(limn_gguf_load, data, size);
}
