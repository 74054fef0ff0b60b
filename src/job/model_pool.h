/* SPDX-License-Identifier: MIT */
/*
 * Models that are open: made ready when a job needs them, kept while the memory budget lasts, the
 * least recently used one given up first.
 *
 * The worker's thread opens, uses and closes models; lists and numbers may be asked for from any
 * thread. Memory is what the weights take as stored (they are mapped) and what their packed forms
 * and caches take.
 */
#ifndef LIMN_JOB_MODEL_POOL_H
#define LIMN_JOB_MODEL_POOL_H

#include "job/shelf.h"

typedef struct limn_model_pool limn_model_pool;

/* `app` as for limn_runner_engine_new; copied. Without a limit in it, models take at most 60
 * percent of the machine's memory. */
limn_status limn_model_pool_new(limn_model_pool **out, const limn_params *app, limn_err *err);
void limn_model_pool_free(limn_model_pool **pool);

/* ---- the worker's thread ---- */
/* The engine of a DRAW model, or of none (item NULL: resampling and upscalers). Others are closed
 * if the budget asks for it. Borrowed until the next call. */
limn_status limn_model_pool_draw(limn_model_pool *p, limn_engine **out, const limn_shelf_item *item,
                                 limn_err *err);
/* The seer of a SEE model; `see` as for limn_seer_new. */
limn_status limn_model_pool_see(limn_model_pool *p, limn_seer **out, const limn_shelf_item *item,
                                const limn_params *see, limn_err *err);
/* E_NOT_FOUND: is not open. */
limn_status limn_model_pool_close_one(limn_model_pool *p, limn_shelf_kind kind, const char *name,
                                      limn_err *err);
/* After a run: measures anew and closes what is over the budget. */
void limn_model_pool_settle(limn_model_pool *p);
/* Writes packed weights to the disk, seconds for large models. */
void limn_model_pool_save(limn_model_pool *p);

/* ---- any thread ---- */
/* Bytes that a model holds; -1 when it is not open. */
int64_t limn_model_pool_memory_of(limn_model_pool *p, limn_shelf_kind kind, const char *name);
void limn_model_pool_memory(limn_model_pool *p, int64_t *budget, int64_t *used, int *loaded);
/* The model that was used last, of these kinds (bits 1u << limn_shelf_kind); "" when none is open.
 */
void limn_model_pool_last(limn_model_pool *p, unsigned kinds, char *out, size_t size);

#endif
