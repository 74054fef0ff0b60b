/* SPDX-License-Identifier: MIT */
/*
 * Models that are open: made ready when a job needs them, kept while the memory budget lasts, the
 * least recently used one given up first.
 *
 * Each lane (job.h) holds at most one model while its job runs, and the lanes share one budget: a
 * job whose model does not fit beside the one that the other lane holds waits until that is free.
 * Open models also share the cores, by turns (base/turns.h). Memory is what the weights take as
 * stored (they are mapped) and what their packed forms and caches take.
 *
 * Threads: each lane's worker opens and uses its models; the rest may be called from any thread.
 */
#ifndef LIMN_JOB_MODEL_POOL_H
#define LIMN_JOB_MODEL_POOL_H

#include "job/job.h"
#include "job/shelf.h"

typedef struct limn_model_pool limn_model_pool;

/* `app` as for limn_runner_engine_new; copied. Without a limit in it, models take at most 60
 * percent of the machine's memory. */
limn_status limn_model_pool_new(limn_model_pool **out, const limn_params *app, limn_err *err);
void limn_model_pool_free(limn_model_pool **pool);

/* ---- a lane's worker ---- */
/* Who asks for a model. */
typedef struct limn_model_user {
    limn_job_lane lane;
    const limn_cancel *cancel; /* ends waiting with E_CANCELLED; NULL: nothing does */
    void (*waits)(void *user); /* called once when it has to wait for memory; NULL: none */
    void *user;
} limn_model_user;

/* The engine of a DRAW model, or of none (item NULL: resampling and upscalers). Others are closed
 * if the budget asks for it. Held, and no other model of the lane, until the lane's next call of
 * these two or limn_model_pool_settle. */
limn_status limn_model_pool_draw(limn_model_pool *p, limn_engine **out, const limn_shelf_item *item,
                                 const limn_model_user *who, limn_err *err);
/* The seer of a SEE model; `see` as for limn_seer_new. */
limn_status limn_model_pool_see(limn_model_pool *p, limn_seer **out, const limn_shelf_item *item,
                                const limn_params *see, const limn_model_user *who, limn_err *err);
/* Tokens that a conversation with this seeing model may have; 0: it is not open. */
int64_t limn_model_pool_context(limn_model_pool *p, const char *name);
/* E_NOT_FOUND: is not open. Waits while it is in use. */
limn_status limn_model_pool_close_one(limn_model_pool *p, limn_shelf_kind kind, const char *name,
                                      limn_err *err);
/* After a run of the lane: measures anew what it held, gives that free, closes what is over the
 * budget and not in use. */
void limn_model_pool_settle(limn_model_pool *p, limn_job_lane lane);
/* Writes packed weights of models that nobody uses to the disk, seconds for large ones. */
void limn_model_pool_save(limn_model_pool *p);

/* ---- any thread ---- */
/* Bytes that a model holds; -1 when it is not open. */
int64_t limn_model_pool_memory_of(limn_model_pool *p, limn_shelf_kind kind, const char *name);
/* Bytes that it is expected to take when it is opened. */
int64_t limn_model_pool_need(const limn_shelf_item *item);
void limn_model_pool_memory(limn_model_pool *p, int64_t *budget, int64_t *used, int *loaded);
/* The model that was used last, of these kinds (bits 1u << limn_shelf_kind); "" when none is open.
 */
void limn_model_pool_last(limn_model_pool *p, unsigned kinds, char *out, size_t size);

#endif
