/* SPDX-License-Identifier: MIT */
/*
 * The keys and values of a decoder: memory for `sequences` texts of up to `rows` positions, bound
 * to programs of any chunk length. What is in it and how long each text is, the owner knows.
 * One thread at a time.
 */
#ifndef LIMN_MODELS_KV_CACHE_H
#define LIMN_MODELS_KV_CACHE_H

#include "backend/backend.h"
#include "formats/llm_config.h"

typedef struct limn_kv_cache limn_kv_cache;

/* Bytes that a cache takes; SIZE_MAX on overflow or a type whose blocks do not fit the heads. */
size_t limn_kv_cache_bytes(const limn_decoder_config *cfg, limn_dtype type, int64_t sequences,
                           int64_t rows);
/* E_LIMIT (the size), E_UNSUPPORTED (the type), E_NOMEM. */
limn_status limn_kv_cache_new(limn_kv_cache **out, const limn_decoder_config *cfg, limn_dtype type,
                              int64_t sequences, int64_t rows, limn_err *err);
void limn_kv_cache_free(limn_kv_cache **c);
int64_t limn_kv_cache_rows(const limn_kv_cache *c);
limn_dtype limn_kv_cache_type(const limn_kv_cache *c);
/* Binds sequences first, first + 1, ... to a program built with this cache's rows and type. */
limn_status limn_kv_cache_bind(limn_kv_cache *c, limn_program *p, int64_t first, limn_err *err);
/* Copies the first `rows` positions of a sequence over those of another: a shared beginning. */
void limn_kv_cache_copy(limn_kv_cache *c, int64_t to, int64_t from, int64_t rows);

#endif
