/* SPDX-License-Identifier: MIT */
/* Any bytes as a torch file (zip or legacy); other bytes as a bare pickle stream. */
#include "formats/ckpt.h"
#include "formats/pickle.h"
#include "fuzz_weights.h"

static void bare(const uint8_t *data, size_t size) {
    limn_pickle *p = NULL;
    limn_pickle_value *v = NULL;
    size_t used = 0;
    if (limn_pickle_new(&p, "fuzz", NULL) != LIMN_OK) return;
    while (size > 0 && limn_pickle_load(p, &v, data, size, &used, NULL) == LIMN_OK) {
        if (!v || used == 0 || used > size) abort();
        data += used;
        size -= used;
    }
    limn_pickle_free(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (limn_ckpt_is_zip(data, size) || limn_ckpt_is_legacy(data, size))
        return fuzz_load(limn_ckpt_load, data, size);
    bare(data, size);
    return 0;
}
