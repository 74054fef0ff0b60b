/* SPDX-License-Identifier: MIT */
/*
 * The arrays of a GGUF file -> tokenizer. Three families: "gpt2" (byte-level BPE; `pre` names the
 * splitting), "llama" (SentencePiece BPE by score) and "t5" (unigram). Facts: llama.cpp
 * src/llama-vocab.cpp, gguf-py constants. Where llama.cpp leaves out the reference's NFC (Qwen),
 * limn follows the reference.
 */
#include <string.h>

#include "text/tokenizer_impl.h"

#define NOT_SPACE_LETTER_NUMBER "[^\\s\\p{L}\\p{N}]"
#define QWEN_TAIL "| ?" NOT_SPACE_LETTER_NUMBER "+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define QWEN_HEAD "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
#define GPT4O_UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define GPT4O_LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define NOT_LINE_LETTER_NUMBER "[^\\r\\n\\p{L}\\p{N}]?"
#define GPT4O_END "(?i:'s|'t|'re|'ve|'m|'ll|'d)?"

const char limn_qwen2_regex[] = QWEN_HEAD "\\p{N}" QWEN_TAIL;
static const char llama3_regex[] = QWEN_HEAD "\\p{N}{1,3}" QWEN_TAIL;
static const char gpt4o_regex[] = NOT_LINE_LETTER_NUMBER GPT4O_UPPER
    "*" GPT4O_LOWER "+" GPT4O_END "|" NOT_LINE_LETTER_NUMBER GPT4O_UPPER "+" GPT4O_LOWER
    "*" GPT4O_END "|\\p{N}{1,3}| ?" NOT_SPACE_LETTER_NUMBER
    "+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
static const char tekken_regex[] = NOT_LINE_LETTER_NUMBER GPT4O_UPPER
    "*" GPT4O_LOWER "+|" NOT_LINE_LETTER_NUMBER GPT4O_UPPER "+" GPT4O_LOWER
    "*|\\p{N}| ?" NOT_SPACE_LETTER_NUMBER "+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/* One row per value of tokenizer.ggml.pre; the expressions are applied one after another. */
typedef struct pre_row {
    const char *name;
    const char *regex[3];
    bool nfc, ignore_merges, add_bos;
} pre_row;

static const pre_row pre_rows[] = {
    {"default", {limn_gpt2_regex}, .add_bos = false},
    {"gpt-2", {limn_gpt2_regex}, .add_bos = false},
    {"phi-2", {limn_gpt2_regex}, .add_bos = false},
    {"qwen2", {limn_qwen2_regex}, .nfc = true},
    {"deepseek-r1-qwen", {limn_qwen2_regex}, .nfc = true},
    {"llama-bpe", {llama3_regex}, .ignore_merges = true, .add_bos = true},
    {"llama3", {llama3_regex}, .ignore_merges = true, .add_bos = true},
    {"llama-v3", {llama3_regex}, .ignore_merges = true, .add_bos = true},
    {"dbrx", {llama3_regex}, .add_bos = false},
    {"smaug-bpe", {llama3_regex}, .add_bos = false},
    {"smollm", {"\\p{N}", limn_gpt2_regex}, .add_bos = false},
    {"starcoder", {"\\p{N}", limn_gpt2_regex}, .add_bos = false},
    {"refact", {"\\p{N}", limn_gpt2_regex}, .add_bos = false},
    {"command-r", {"\\p{N}", limn_gpt2_regex}, .nfc = true, .add_bos = true},
    {"gpt-4o", {gpt4o_regex}, .add_bos = false},
    {"llama4", {gpt4o_regex}, .add_bos = true},
    {"tekken", {tekken_regex}, .ignore_merges = true, .add_bos = true},
};

const char *limn_tokenizer_gguf_pre(int i) {
    return i >= 0 && (size_t)i < sizeof pre_rows / sizeof pre_rows[0] ? pre_rows[i].name : NULL;
}

static int option(int given, bool fallback) {
    return given < 0 ? fallback : given != 0;
}

static limn_status set_gpt2(limn_tokenizer *t, const limn_tokenizer_gguf *src, limn_err *err) {
    limn_status st = LIMN_OK;
    const pre_row *row = NULL;
    const char *name = src->pre ? src->pre : "default";
    for (size_t i = 0; i < sizeof pre_rows / sizeof pre_rows[0]; i++)
        if (strcmp(name, pre_rows[i].name) == 0) row = &pre_rows[i];
    LIMN_CHECK(err, row, LIMN_E_UNSUPPORTED, "tokenizer.ggml.pre \"%s\" is not known", name);
    t->byte_level = true;
    t->ignore_merges = row->ignore_merges;
    if (row->nfc) LIMN_TRY(limn_ops_add_form(&t->normalize, LIMN_NFC, err));
    if (option(src->add_space_prefix, false))
        LIMN_TRY(limn_ops_add_simple(&t->pre, LIMN_OP_PREFIX_SPACE, err));
    for (size_t i = 0; i < 3 && row->regex[i]; i++)
        LIMN_TRY(limn_ops_add_split(&t->pre, row->regex[i], LIMN_SPLIT_ISOLATED, false, err));
    if (option(src->add_bos, row->add_bos)) t->first_id = src->bos;
    if (option(src->add_eos, false)) t->last_id = src->eos;
out:
    return st;
}

/* SentencePiece: spaces become U+2581, one is put in front; unknown characters become bytes. */
static limn_status set_spm(limn_tokenizer *t, const limn_tokenizer_gguf *src, bool unigram,
                           limn_err *err) {
    limn_status st = LIMN_OK;
    limn_text_view mark = {LIMN_METASPACE, sizeof LIMN_METASPACE - 1};
    bool prefix = option(src->add_space_prefix, true);
    if (unigram) t->model = LIMN_MODEL_UNIGRAM;
    t->by_score = !unigram;
    t->byte_fallback = true;
    t->fuse_unk = unigram;
    if (src->charsmap.len) {
        limn_text_op op = {.kind = LIMN_OP_CHARSMAP};
        LIMN_TRY(limn_charsmap_new(&op.map, src->charsmap.data, src->charsmap.len, err));
        LIMN_TRY(limn_text_ops_add(&t->normalize, op, err));
    }
    if (option(src->remove_extra_whitespace, unigram))
        LIMN_TRY(limn_ops_add_simple(&t->normalize, LIMN_OP_SQUEEZE, err));
    if (prefix)
        LIMN_TRY(limn_ops_add_text(&t->normalize, LIMN_OP_PREPEND, LIMN_PREPEND_ALWAYS,
                                   (limn_text_view){" ", 1}, err));
    LIMN_TRY(limn_ops_add_replace(&t->normalize, (limn_text_view){" ", 1}, false, mark, err));
    t->space = limn_arena_strdup(&t->arena, LIMN_METASPACE);
    LIMN_CHECK(err, t->space, LIMN_E_NOMEM, "no memory for a tokenizer");
    t->strip_first = prefix;
    if (option(src->add_bos, !unigram)) t->first_id = src->bos;
    if (option(src->add_eos, unigram)) t->last_id = src->eos;
out:
    return st;
}

static int32_t type_of(const limn_tokenizer_gguf *src, size_t i) {
    return src->types ? src->types[i] : LIMN_GGUF_TOKEN_NORMAL;
}

static limn_status add_tokens(limn_tokenizer *t, const limn_tokenizer_gguf *src, limn_err *err) {
    limn_status st = limn_vocab_reserve(&t->vocab, src->n_tokens, err);
    if (st != LIMN_OK) return st;
    for (size_t i = 0; i < src->n_tokens; i++) {
        int32_t type = type_of(src, i);
        limn_text_view v = src->tokens[i];
        bool user = type == LIMN_GGUF_TOKEN_USER_DEFINED;
        bool control = type == LIMN_GGUF_TOKEN_CONTROL || type == LIMN_GGUF_TOKEN_UNKNOWN;
        /* SentencePiece finds user-defined pieces in any text; in byte-level files they are the
         * added tokens that are not special, which text must not become. */
        bool findable = !control && type != LIMN_GGUF_TOKEN_BYTE && !(user && t->byte_level);
        bool matched = (user || control) && v.len > 0;
        if (!(matched && t->byte_level))
            LIMN_TRY(limn_tokenizer_add_token(t, (int32_t)i, v.data, v.len, findable, err));
        if (!matched) continue;
        limn_added_token a = {.shown = v, .id = (int32_t)i, .special = control};
        LIMN_TRY(limn_tokenizer_add_added(t, &a, err));
    }
out:
    return st;
}

static limn_status add_scores(limn_tokenizer *t, const limn_tokenizer_gguf *src, limn_err *err) {
    if (t->model != LIMN_MODEL_UNIGRAM && !t->by_score) return LIMN_OK;
    if (!src->scores) return limn_fail(err, LIMN_E_MISSING, "tokenizer.ggml.scores is missing");
    t->scores = limn_mem_calloc(src->n_tokens, sizeof *t->scores);
    if (!t->scores) return limn_fail(err, LIMN_E_NOMEM, "no memory for scores");
    for (size_t i = 0; i < src->n_tokens; i++) t->scores[i] = src->scores[i];
    t->single_scores = true;
    t->n_scores = src->n_tokens;
    return LIMN_OK;
}

static limn_status add_merges(limn_tokenizer *t, const limn_tokenizer_gguf *src, limn_err *err) {
    limn_status st;
    LIMN_CHECK(err, src->merges && src->n_merges, LIMN_E_MISSING,
               "tokenizer.ggml.merges is missing");
    LIMN_CHECK(err, src->n_merges <= UINT32_MAX, LIMN_E_LIMIT, "too many merges");
    LIMN_TRY(limn_tokenizer_start_merges(t, src->n_merges, err));
    for (size_t i = 0; i < src->n_merges; i++)
        LIMN_TRY(limn_tokenizer_add_merge_line(t, src->merges[i], (uint32_t)i, err));
out:
    return st;
}

/* Rows behind the vocabulary that only fill the embedding up ("[PAD151669]" ...) are no tokens:
 * nobody may pick them. */
static size_t count_used(const limn_tokenizer_gguf *src) {
    size_t n = src->n_tokens;
    while (n > 0 && type_of(src, n - 1) == LIMN_GGUF_TOKEN_UNUSED) n--;
    return n;
}

limn_status limn_tokenizer_new_gguf(limn_tokenizer **out, const limn_tokenizer_gguf *file,
                                    limn_err *err) {
    limn_status st;
    limn_tokenizer *t = NULL;
    limn_tokenizer_gguf used = *file, *src = &used;
    const char *model = src->model ? src->model : "(none)";
    used.n_tokens = count_used(file);
    LIMN_TRY(limn_tokenizer_start(&t, err));
    LIMN_CHECK(err, src->n_tokens > 0 && src->n_tokens <= LIMN_VOCAB_MAX, LIMN_E_FORMAT,
               "tokenizer.ggml.tokens has %zu entries", src->n_tokens);
    if (strcmp(model, "gpt2") == 0)
        LIMN_TRY(set_gpt2(t, src, err));
    else if (strcmp(model, "llama") == 0 || strcmp(model, "t5") == 0)
        LIMN_TRY(set_spm(t, src, strcmp(model, "t5") == 0, err));
    else
        LIMN_CHECK(err, false, LIMN_E_UNSUPPORTED, "tokenizer.ggml.model \"%s\" is not known",
                   model);
    LIMN_TRY(add_tokens(t, src, err));
    LIMN_TRY(add_scores(t, src, err));
    if (t->byte_level) LIMN_TRY(add_merges(t, src, err));
    t->bos = src->bos;
    t->eos = src->eos;
    t->pad = src->pad;
    t->unk = src->unk;
    LIMN_TRY(limn_tokenizer_finish(t, err));
    *out = t;
    t = NULL;
out:
    limn_tokenizer_free(&t);
    return st;
}
