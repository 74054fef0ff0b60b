/* SPDX-License-Identifier: MIT */
/* tokenizer.json and SentencePiece models: whatever loads must tokenise and print any bytes. */
#include <stdlib.h>

#include "text/tokenizer.h"
#include "text/tokenizer_spm.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(const limn_tokenizer *t, const char *text, size_t n) {
    limn_ids ids;
    limn_buf out;
    limn_ids_init(&ids, 1 << 16);
    limn_buf_init(&out, 1 << 20);
    unsigned flags = LIMN_ENCODE_ADDED | LIMN_ENCODE_BOS | LIMN_ENCODE_EOS;
    limn_tokenizer_encode(t, &ids, text, n, flags, NULL);
    for (size_t i = 0; i < ids.len; i++)
        if (ids.data[i] < 0 || (size_t)ids.data[i] >= limn_tokenizer_count(t)) abort();
    limn_tokenizer_decode(t, &out, ids.data, ids.len, 0, NULL);
    limn_ids_clear(&ids);
    limn_tokenizer_encode(t, &ids, text, n, 0, NULL);
    limn_ids_deinit(&ids);
    limn_buf_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char sample[] =
        "The cat\xCC\x81 sat <s>  on 42 \xE4\xB8\xAD\xE6\x96\x87\n\xFF mats.";
    limn_tokenizer *t = NULL;
    limn_status st = size && data[0] == '{'
                         ? limn_tokenizer_parse(&t, (const char *)data, size, NULL)
                         : limn_tokenizer_parse_spm(&t, data, size, NULL);
    if (st == LIMN_OK) {
        use(t, sample, sizeof sample - 1);
        use(t, (const char *)data, size < 512 ? size : 512);
    }
    limn_tokenizer_free(&t);
    return 0;
}
