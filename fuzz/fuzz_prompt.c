/* SPDX-License-Identifier: MIT */
/* Prompt syntax: the first byte sets options, the rest is the prompt. Whatever parses must encode,
 * and ranges must cover the steps. */
#include <stdlib.h>
#include <string.h>

#include "text/prompt.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_part(const limn_prompt_part *p, int steps) {
    int at = 0;
    for (size_t i = 0; i < p->n_ranges; i++) {
        if (p->ranges[i].from != at || p->ranges[i].variant >= p->n_variants) abort();
        at = p->ranges[i].to;
    }
    if (at != steps) abort();
}

static void encode_part(const limn_tokenizer *t, const limn_prompt_part *p) {
    static const limn_prompt_embedding names[] = {{"cat", 3}, {"<x>", 75}};
    limn_prompt_encode_options opt = {
        .embeddings = names, .n_embeddings = 2, .pad = -1, .comma_backtrack = 20};
    for (size_t i = 0; i < p->n_variants && i < 4; i++) {
        const char *s = p->variants[i].encoder[0];
        limn_prompt_chunk *c = NULL;
        size_t n = 0;
        if (limn_prompt_encode(&c, &n, t, s, strlen(s), &opt, NULL) == LIMN_OK && n == 0) abort();
        limn_mem_free(c);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static limn_tokenizer *t;
    if (!t && limn_tokenizer_new_clip(&t, NULL) != LIMN_OK) abort();
    if (size == 0) return 0;
    limn_prompt_options opt = {.steps = 1 + data[0] % 50,
                               .first_pass = data[0] & 8 ? 20 : 0,
                               .seed = data[0],
                               .hash_breaks = data[0] & 1,
                               .line_breaks = data[0] & 2,
                               .comments = data[0] & 4};
    const char *text = (const char *)data + 1;
    limn_prompt *p = NULL;
    limn_prompt_span *spans = NULL;
    size_t count = 0;
    if (limn_prompt_parse(&p, text, size - 1, &opt, NULL) == LIMN_OK) {
        for (size_t i = 0; i < p->n_parts; i++) {
            check_part(&p->parts[i], opt.steps);
            encode_part(t, &p->parts[i]);
        }
    }
    if (limn_prompt_spans(&spans, &count, text, size - 1, &opt, NULL) == LIMN_OK)
        for (size_t i = 1; i < count; i++)
            if (spans[i].begin < spans[i - 1].end) abort();
    limn_mem_free(spans);
    limn_prompt_free(&p);
    return 0;
}
