/* SPDX-License-Identifier: MIT */
/*
 * SentencePiece model files (tokenizer.model, spiece.model): a protocol buffer, read by field
 * number (sentencepiece/src/sentencepiece_model.proto) and turned into the arrays that GGUF files
 * carry.
 */
#include <string.h>

#include "text/tokenizer_impl.h"
#include "text/tokenizer_spm.h"

/* A stretch of protocol-buffer bytes. */
typedef struct wire {
    const unsigned char *p, *end;
} wire;

typedef struct field {
    uint32_t number;
    unsigned type; /* 0 varint, 1 64 bit, 2 bytes, 5 32 bit */
    uint64_t value;
    wire bytes;
} field;

static bool read_varint(wire *w, uint64_t *out) {
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (w->p == w->end) return false;
        unsigned char c = *w->p++;
        v |= (uint64_t)(c & 0x7F) << shift;
        if (!(c & 0x80)) {
            *out = v;
            return true;
        }
    }
    return false;
}

static bool read_fixed(wire *w, size_t n, uint64_t *out) {
    if ((size_t)(w->end - w->p) < n) return false;
    *out = 0;
    for (size_t i = 0; i < n; i++) *out |= (uint64_t)w->p[i] << 8 * i;
    w->p += n;
    return true;
}

/* The next field; 1 read, 0 at the end, -1 damaged. */
static int next_field(wire *w, field *f) {
    uint64_t tag;
    if (w->p == w->end) return 0;
    if (!read_varint(w, &tag) || tag >> 3 == 0 || tag >> 3 > 0x1FFFFFFF) return -1;
    f->number = (uint32_t)(tag >> 3);
    f->type = (unsigned)(tag & 7);
    switch (f->type) {
    case 0: return read_varint(w, &f->value) ? 1 : -1;
    case 1: return read_fixed(w, 8, &f->value) ? 1 : -1;
    case 5: return read_fixed(w, 4, &f->value) ? 1 : -1;
    case 2:
        if (!read_varint(w, &f->value) || f->value > (uint64_t)(w->end - w->p)) return -1;
        f->bytes = (wire){w->p, w->p + f->value};
        w->p += f->value;
        return 1;
    default: return -1;
    }
}

typedef struct spm_file {
    limn_text_view *tokens;
    float *scores;
    int32_t *types;
    size_t n, cap;
    int model_type; /* 1 unigram, 2 bpe */
    limn_tokenizer_gguf out;
} spm_file;

static limn_status damaged(limn_err *err) {
    return limn_fail(err, LIMN_E_FORMAT, "SentencePiece model is damaged");
}

static limn_status grow(spm_file *f, limn_err *err) {
    size_t cap = f->cap ? f->cap * 2 : 4096;
    if (cap > LIMN_VOCAB_MAX) return limn_fail(err, LIMN_E_LIMIT, "too many pieces");
    limn_text_view *t = limn_mem_realloc(f->tokens, cap * sizeof *t);
    if (t) f->tokens = t;
    float *s = limn_mem_realloc(f->scores, cap * sizeof *s);
    if (s) f->scores = s;
    int32_t *k = limn_mem_realloc(f->types, cap * sizeof *k);
    if (k) f->types = k;
    if (!t || !s || !k) return limn_fail(err, LIMN_E_NOMEM, "no memory for a vocabulary");
    f->cap = cap;
    return LIMN_OK;
}

static limn_status read_piece(spm_file *f, wire w, limn_err *err) {
    limn_status st = f->n == f->cap ? grow(f, err) : LIMN_OK;
    if (st != LIMN_OK) return st;
    limn_text_view text = {"", 0};
    float score = 0;
    int32_t type = LIMN_GGUF_TOKEN_NORMAL;
    field x = {0};
    int got;
    while ((got = next_field(&w, &x)) > 0) {
        if (x.number == 1 && x.type == 2) text = (limn_text_view){(const char *)x.bytes.p, x.value};
        if (x.number == 2 && x.type == 5) {
            uint32_t bits = (uint32_t)x.value;
            memcpy(&score, &bits, 4);
        }
        if (x.number == 3 && x.type == 0) type = (int32_t)x.value;
    }
    if (got < 0) return damaged(err);
    f->tokens[f->n] = text;
    f->scores[f->n] = score;
    f->types[f->n] = type;
    f->n++;
    return LIMN_OK;
}

static limn_status read_trainer(spm_file *f, wire w, limn_err *err) {
    field x = {0};
    int got;
    while ((got = next_field(&w, &x)) > 0) {
        if (x.type != 0) continue;
        int32_t v = (int32_t)(int64_t)x.value;
        if (x.number == 3) f->model_type = v;
        if (x.number == 40) f->out.unk = v;
        if (x.number == 41) f->out.bos = v;
        if (x.number == 42) f->out.eos = v;
        if (x.number == 43) f->out.pad = v;
    }
    return got < 0 ? damaged(err) : LIMN_OK;
}

static limn_status read_normalizer(spm_file *f, wire w, limn_err *err) {
    field x = {0};
    int got;
    while ((got = next_field(&w, &x)) > 0) {
        if (x.number == 2 && x.type == 2)
            f->out.charsmap = (limn_text_view){(const char *)x.bytes.p, x.value};
        if (x.number == 3 && x.type == 0) f->out.add_space_prefix = x.value != 0;
        if (x.number == 4 && x.type == 0) f->out.remove_extra_whitespace = x.value != 0;
    }
    return got < 0 ? damaged(err) : LIMN_OK;
}

limn_status limn_tokenizer_parse_spm(limn_tokenizer **out, const void *data, size_t n,
                                     limn_err *err) {
    limn_status st = LIMN_OK;
    spm_file f = {.model_type = 1};
    f.out = (limn_tokenizer_gguf){.unk = 0,
                                  .bos = 1,
                                  .eos = 2,
                                  .pad = -1,
                                  .add_bos = -1,
                                  .add_eos = -1,
                                  .add_space_prefix = 1,
                                  .remove_extra_whitespace = 1};
    wire w = {data, (const unsigned char *)data + n};
    field x = {0};
    int got;
    while ((got = next_field(&w, &x)) > 0) {
        if (x.type != 2) continue;
        if (x.number == 1) LIMN_TRY(read_piece(&f, x.bytes, err));
        if (x.number == 2) LIMN_TRY(read_trainer(&f, x.bytes, err));
        if (x.number == 3) LIMN_TRY(read_normalizer(&f, x.bytes, err));
    }
    if (got < 0) LIMN_TRY(damaged(err));
    LIMN_CHECK(err, f.n > 0, LIMN_E_FORMAT, "the file has no SentencePiece pieces");
    LIMN_CHECK(err, f.model_type == 1 || f.model_type == 2, LIMN_E_UNSUPPORTED,
               "SentencePiece model type %d", f.model_type);
    f.out.model = f.model_type == 1 ? "t5" : "llama";
    f.out.tokens = f.tokens;
    f.out.scores = f.scores;
    f.out.types = f.types;
    f.out.n_tokens = f.n;
    st = limn_tokenizer_new_gguf(out, &f.out, err);
out:
    limn_mem_free(f.tokens);
    limn_mem_free(f.scores);
    limn_mem_free(f.types);
    return st;
}
