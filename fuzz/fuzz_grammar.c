/* SPDX-License-Identifier: MIT */
/* JSON Schema and GBNF: whatever compiles can be walked along its own masks. */
#include <stdlib.h>

#include "text/grammar.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void walk(const limn_grammar *g, const limn_token_trie *trie, size_t n_tokens) {
    limn_constraint *c = NULL;
    static const int32_t stop = 49407;
    if (limn_constraint_new(&c, g, trie, &stop, 1, NULL) != LIMN_OK) return;
    for (size_t step = 0; step < 4; step++) {
        const uint64_t *mask;
        if (limn_constraint_mask(c, &mask, NULL) != LIMN_OK) break;
        size_t i = step * 977 % n_tokens, tried = 0;
        while (tried < n_tokens && !(mask[i / 64] >> i % 64 & 1)) {
            i = (i + 1) % n_tokens;
            tried++;
        }
        if (tried == n_tokens) break;
        if (limn_constraint_accept(c, (int32_t)i, NULL) == LIMN_E_VALUE) abort();
    }
    limn_constraint_free(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static limn_tokenizer *t;
    static limn_token_trie *trie;
    if (!trie && (limn_tokenizer_new_clip(&t, NULL) != LIMN_OK ||
                  limn_token_trie_new(&trie, t, NULL) != LIMN_OK))
        abort();
    limn_grammar *g = NULL;
    limn_schema_options opt = {.space = size % 3, .max_items = 3, .max_chars = 8};
    limn_status st = size && data[0] == '{'
                         ? limn_grammar_parse_schema(&g, (const char *)data, size, &opt, NULL)
                         : limn_grammar_parse(&g, (const char *)data, size, NULL);
    if (st == LIMN_OK) walk(g, trie, limn_tokenizer_count(t));
    limn_grammar_free(&g);
    return 0;
}
