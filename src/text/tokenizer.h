/* SPDX-License-Identifier: MIT */
/*
 * Tokenizers: one type for all that limn meets.
 *
 *   CLIP BPE        lower-cased words with "</w>"            SD 1.x, 2.x, SDXL, FLUX, SD3
 *   byte-level BPE  GPT-2 family: Qwen2/Qwen3, Llama 3        Qwen3-VL, text encoders of new DiTs
 *   SentencePiece   unigram, BPE by score or by merges        T5, Llama 2, Mistral, Gemma
 *
 * A tokenizer is a pipeline of data: normalisers, splitters, a model and a decoder, read from a
 * tokenizer.json, from vocab.json + merges.txt, from the arrays of a GGUF file, or built in (CLIP).
 * A component that limn does not know is an error that names it, never skipped.
 *
 * User text can never become a special token: added tokens ("<|im_start|>", "<think>") are only
 * recognised in text that was passed with LIMN_ENCODE_ADDED; otherwise their spelling is ordinary
 * text. Control tokens of GGUF files are not reachable through the ordinary vocabulary either.
 *
 * A tokenizer is immutable once made: any number of threads may use it. The id 32-bit range is
 * checked at load: 0 <= id < limn_tokenizer_count().
 */
#ifndef LIMN_TEXT_TOKENIZER_H
#define LIMN_TEXT_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "base/status.h"
#include "text/ids.h"

typedef struct limn_tokenizer limn_tokenizer;

/* Bytes that are not NUL-terminated, for example a string inside a mapped file. */
typedef struct limn_text_view {
    const char *data;
    size_t len;
} limn_text_view;

/* ---- making one ---- */

/* tokenizer.json of the Hugging Face `tokenizers` library. Errors: E_NOT_FOUND, E_IO, E_FORMAT
 * (damaged, ids out of range), E_UNSUPPORTED (unknown normaliser, model ...), E_LIMIT, E_NOMEM. */
limn_status limn_tokenizer_load(limn_tokenizer **out, const char *path, limn_err *err);
/* The same from memory; `text` is borrowed for the call only. */
limn_status limn_tokenizer_parse(limn_tokenizer **out, const char *text, size_t n, limn_err *err);
/* A diffusers / transformers folder: tokenizer.json if present, else vocab.json + merges.txt (CLIP
 * when the folder's vocabulary uses "</w>", byte-level GPT-2 otherwise), else tokenizer.model
 * (SentencePiece). bos/eos/pad come from tokenizer_config.json / special_tokens_map.json. */
limn_status limn_tokenizer_load_dir(limn_tokenizer **out, const char *dir, limn_err *err);
/* The standard 49,408-entry CLIP vocabulary that is built into the program. pad = eos (SD 1.x);
 * SD 2.x and SDXL's second encoder pad with 0, see limn_prompt_encode_options.pad. */
limn_status limn_tokenizer_new_clip(limn_tokenizer **out, limn_err *err);

/* Token types of tokenizer.ggml.token_type. */
enum {
    LIMN_GGUF_TOKEN_NORMAL = 1,
    LIMN_GGUF_TOKEN_UNKNOWN = 2,
    LIMN_GGUF_TOKEN_CONTROL = 3,
    LIMN_GGUF_TOKEN_USER_DEFINED = 4,
    LIMN_GGUF_TOKEN_UNUSED = 5,
    LIMN_GGUF_TOKEN_BYTE = 6
};

/* The tokenizer.ggml.* metadata of a GGUF file as plain arrays. Everything is copied. */
typedef struct limn_tokenizer_gguf {
    const char *model; /* "gpt2", "llama" (SentencePiece BPE by score), "t5" (unigram) */
    const char *pre; /* pre-tokenizer of gpt2 models: "qwen2", "llama-bpe", "default" ... or NULL */
    const limn_text_view *tokens; /* [n_tokens] */
    const float *scores;          /* [n_tokens] or NULL; needed by llama and t5 */
    const int32_t *types;         /* [n_tokens] or NULL: all NORMAL */
    size_t n_tokens;
    const limn_text_view *merges; /* [n_merges] "left right"; needed by gpt2 */
    size_t n_merges;
    int32_t bos, eos, pad, unk;  /* -1: none */
    int add_bos, add_eos;        /* 0, 1; -1: the model's default (llama: bos) */
    int add_space_prefix;        /* 0, 1; -1: the model's default (llama, t5: 1) */
    int remove_extra_whitespace; /* 0, 1; -1: default (0; t5: 1) */
    limn_text_view charsmap;     /* tokenizer.ggml.precompiled_charsmap, or empty */
} limn_tokenizer_gguf;

limn_status limn_tokenizer_new_gguf(limn_tokenizer **out, const limn_tokenizer_gguf *src,
                                    limn_err *err);

/* The names that `pre` may have, i from 0 on; NULL after the last. */
const char *limn_tokenizer_gguf_pre(int i);

void limn_tokenizer_free(limn_tokenizer **t); /* NULL-safe; nulls the caller's pointer */

/* ---- facts ---- */
size_t limn_tokenizer_count(const limn_tokenizer *t); /* highest id + 1 */
int32_t limn_tokenizer_bos(const limn_tokenizer *t);  /* each -1 when the tokenizer has none */
int32_t limn_tokenizer_eos(const limn_tokenizer *t);
int32_t limn_tokenizer_pad(const limn_tokenizer *t);
int32_t limn_tokenizer_unk(const limn_tokenizer *t);
/* Id of a token by its spelling in the vocabulary (added tokens included); -1 when absent. */
int32_t limn_tokenizer_find(const limn_tokenizer *t, const char *token);
/* True for control tokens ("special": true, GGUF control): left out by LIMN_DECODE_SKIP_SPECIAL. */
bool limn_tokenizer_is_special(const limn_tokenizer *t, int32_t id);
/* True when `id` is an added token of either kind. */
bool limn_tokenizer_is_added(const limn_tokenizer *t, int32_t id);
/* The bytes that `id` adds to decoded text when it stands in the middle of it (a raw byte sequence,
 * possibly part of a UTF-8 character); empty view for ids without text and for special tokens.
 * Valid as long as the tokenizer. Constrained decoding builds its trie from these. */
limn_text_view limn_tokenizer_bytes(const limn_tokenizer *t, int32_t id);

/* ---- text -> ids ---- */
enum {
    LIMN_ENCODE_ADDED = 1, /* recognise added tokens in the text: trusted text only */
    LIMN_ENCODE_BOS = 2,   /* put bos first, if the tokenizer has one and its model uses one */
    LIMN_ENCODE_EOS = 4    /* put eos last, likewise */
};
/* Appends the ids of text[0..n) to `out`. Invalid UTF-8 is replaced by U+FFFD first, as the
 * reference does. Time is O(n log n) for any text. Errors: E_LIMIT (out is full), E_NOMEM. */
limn_status limn_tokenizer_encode(const limn_tokenizer *t, limn_ids *out, const char *text,
                                  size_t n, unsigned flags, limn_err *err);

/* ---- ids -> text ---- */
enum { LIMN_DECODE_SKIP_SPECIAL = 1 };
/* Appends the text of ids[0..n). Incomplete UTF-8 at any place becomes U+FFFD. Ids outside the
 * vocabulary are E_VALUE. */
limn_status limn_tokenizer_decode(const limn_tokenizer *t, limn_buf *out, const int32_t *ids,
                                  size_t n, unsigned flags, limn_err *err);

/* Streaming: ids one by one; a character that is not complete yet is held back. */
typedef struct limn_detok {
    const limn_tokenizer *t; /* borrowed */
    unsigned flags;
    bool begun;            /* text was written: the leading-space rule is done with */
    bool space;            /* an end-of-word space that is only written if more follows (CLIP) */
    unsigned char held[8]; /* bytes of an unfinished character */
    unsigned n_held;       /* 0..3 */
} limn_detok;

void limn_detok_init(limn_detok *d, const limn_tokenizer *t, unsigned flags);
/* Appends what became complete. Concatenated output of add()s and one finish() is what
 * limn_tokenizer_decode gives. E_VALUE for an unknown id, E_LIMIT / E_NOMEM when `out` latched. */
limn_status limn_detok_add(limn_detok *d, limn_buf *out, int32_t id, limn_err *err);
/* Writes U+FFFD for bytes still held back. */
limn_status limn_detok_finish(limn_detok *d, limn_buf *out, limn_err *err);

#endif
