/* SPDX-License-Identifier: MIT */
/*
 * The built-in CLIP vocabulary. data/clip_merges.bin (see data/README.md) holds the 48,894 merges
 * as pairs of 16-bit ids; everything else follows from them. The assembler copies the file into the
 * program, so nothing is read at run time.
 */
#include <string.h>

#include "text/tokenizer_impl.h"

__asm__(".section .rodata\n"
        ".balign 16\n"
        ".global limn_clip_merges\n"
        ".hidden limn_clip_merges\n"
        "limn_clip_merges:\n"
        ".incbin \"clip_merges.bin\"\n"
        ".global limn_clip_merges_end\n"
        ".hidden limn_clip_merges_end\n"
        "limn_clip_merges_end:\n"
        ".previous\n");

extern const unsigned char limn_clip_merges[] __attribute__((visibility("hidden")));
extern const unsigned char limn_clip_merges_end[] __attribute__((visibility("hidden")));

enum { CLIP_MERGES = 48894, CLIP_FIRST_MERGE = 512, CLIP_BOS = 49406, CLIP_EOS = 49407 };

/* The order in which GPT-2 and CLIP number the bytes: printable ones first. */
static unsigned char byte_in_order(unsigned k) {
    if (k < 94) return (unsigned char)(33 + k);
    if (k < 106) return (unsigned char)(161 + k - 94);
    if (k < 188) return (unsigned char)(174 + k - 106);
    k -= 188;
    if (k <= 32) return (unsigned char)k;
    return (unsigned char)(k <= 66 ? 127 + k - 33 : 173);
}

static limn_status add_bytes(limn_tokenizer *t, limn_err *err) {
    limn_status st = LIMN_OK;
    char text[8];
    for (unsigned k = 0; k < 256; k++) {
        text[0] = (char)byte_in_order(k);
        memcpy(text + 1, "</w>", 4);
        LIMN_TRY(limn_vocab_add(&t->vocab, (int32_t)k, text, 1, true, err));
        LIMN_TRY(limn_vocab_add(&t->vocab, (int32_t)(256 + k), text, 5, true, err));
    }
out:
    return st;
}

static limn_status add_merges(limn_tokenizer *t, limn_err *err) {
    limn_status st;
    char text[512];
    LIMN_TRY(limn_merges_reserve(&t->merges, CLIP_MERGES, err));
    for (uint32_t i = 0; i < CLIP_MERGES; i++) {
        const unsigned char *p = limn_clip_merges + 4 * i;
        limn_merge m = {.left = p[0] | p[1] << 8,
                        .right = p[2] | p[3] << 8,
                        .id = (int32_t)(CLIP_FIRST_MERGE + i),
                        .rank = i};
        limn_text_view a = limn_vocab_bytes(&t->vocab, m.left);
        limn_text_view b = limn_vocab_bytes(&t->vocab, m.right);
        LIMN_CHECK(err, a.len && b.len && a.len + b.len <= sizeof text, LIMN_E_INTERNAL,
                   "the built-in CLIP vocabulary is damaged at merge %u", i);
        memcpy(text, a.data, a.len);
        memcpy(text + a.len, b.data, b.len);
        LIMN_TRY(limn_vocab_add(&t->vocab, m.id, text, a.len + b.len, true, err));
        limn_merges_add(&t->merges, &m);
    }
out:
    return st;
}

limn_status limn_tokenizer_new_clip(limn_tokenizer **out, limn_err *err) {
    limn_status st;
    limn_tokenizer *t = NULL;
    limn_added_token bos = {.shown = {"<|startoftext|>", 15}, .id = CLIP_BOS, .special = true};
    limn_added_token eos = {.shown = {"<|endoftext|>", 13}, .id = CLIP_EOS, .special = true};
    LIMN_CHECK(err, limn_clip_merges_end - limn_clip_merges == 4 * CLIP_MERGES, LIMN_E_INTERNAL,
               "the built-in CLIP vocabulary has a wrong size");
    LIMN_TRY(limn_tokenizer_start(&t, err));
    t->byte_level = true;
    t->suffix_len = 4;
    t->suffix = limn_arena_strdup(&t->arena, "</w>");
    LIMN_CHECK(err, t->suffix, LIMN_E_NOMEM, "no memory for a tokenizer");
    LIMN_TRY(limn_tokenizer_set_clip(t, err));
    LIMN_TRY(add_bytes(t, err));
    LIMN_TRY(add_merges(t, err));
    LIMN_TRY(limn_tokenizer_add_added(t, &bos, err));
    LIMN_TRY(limn_tokenizer_add_added(t, &eos, err));
    t->bos = t->first_id = CLIP_BOS;
    t->eos = t->last_id = t->pad = t->unk = CLIP_EOS;
    LIMN_TRY(limn_tokenizer_finish(t, err));
    *out = t;
    t = NULL;
out:
    limn_tokenizer_free(&t);
    return st;
}
