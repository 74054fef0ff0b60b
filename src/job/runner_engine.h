/* SPDX-License-Identifier: MIT */
/*
 * The runner that draws and sees: models opened on demand, kept while the memory budget lasts, the
 * least recently used one given up first. One thread of each lane runs jobs; everything else here
 * may be called from any thread.
 */
#ifndef LIMN_JOB_RUNNER_ENGINE_H
#define LIMN_JOB_RUNNER_ENGINE_H

#include "job/queue.h"
#include "job/shelf.h"

/* `app`: threads, cpu_mask, memory (the budget of all models together; 0: no limit), models_dir,
 * cache_dir. Read during the call only. The artifacts are borrowed: those of the queue. */
limn_status limn_runner_engine_new(limn_runner **out, const limn_params *app,
                                   limn_artifacts *artifacts, limn_err *err);
/* A queue with this runner and the usual files below `dir` (limn_queue_open_dir). */
limn_status limn_queue_open_engine(limn_queue **out, const char *dir, const limn_params *app,
                                   const limn_queue_options *opt, limn_err *err);
/* The models that this runner knows; borrowed. NULL when it is another kind of runner; the calls
 * below then answer nothing. */
limn_shelf *limn_runner_engine_shelf(limn_runner *r);
/* The shelf's list with `loaded` and `memory` filled in. */
limn_status limn_runner_engine_models(limn_runner *r, limn_shelf_page *out, unsigned kinds,
                                      limn_err *err);

typedef struct limn_model_memory {
    int64_t budget; /* 0: no limit */
    int64_t used;   /* of all loaded models: mapped weights that were read, packed forms, caches */
    int loaded;
} limn_model_memory;
void limn_runner_engine_memory(limn_runner *r, limn_model_memory *out);
/* Tokens that a conversation with this seeing model may have; 0: it is not open. */
int64_t limn_runner_engine_context(limn_runner *r, const char *model);
/* Bytes that a model of the list is expected to take when it is opened. */
int64_t limn_runner_engine_need(const limn_shelf_item *item);
typedef struct limn_draw_cost {
    int64_t model; /* bytes of the largest model that is drawn with, open */
    int64_t work;  /* bytes beside it (pipeline/draw_memory.h), of the largest picture */
} limn_draw_cost;
/* Of a prepared job of kind DRAW or GRID (of a grid the most that a cell takes); milliseconds, any
 * thread. E_UNSUPPORTED from another kind of runner. */
limn_status limn_runner_engine_cost(limn_runner *r, limn_draw_cost *out, const limn_job *job,
                                    limn_err *err);
/* What a drawing model recommends, as a JSON object of parameters: sampler, steps, guidance ... of
 * its own files, and the size that it was trained at. The caller frees. E_NOT_FOUND. */
limn_status limn_runner_engine_advice(limn_runner *r, char **out, const char *model, limn_err *err);
/* Tokens of a text as the model's text encoder counts them; names a model of kind DRAW or SEE. JSON
 * {"count", "limit", "chunks", "tokens": [{"id", "text"}], "used": [tokens of each chunk]}: the
 * text as it stands, and (`used`, of a drawing model) read as a prompt, without brackets and
 * weights. */
limn_status limn_runner_engine_tokens(limn_runner *r, char **out, const char *model,
                                      const char *text, limn_err *err);

/* The text of tokens; LIMN_DECODE_* flags none. E_VALUE for an id outside the vocabulary. */
limn_status limn_runner_engine_text(limn_runner *r, char **out, const char *model,
                                    const int32_t *ids, size_t n, limn_err *err);

#endif
