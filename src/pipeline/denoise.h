/* SPDX-License-Identifier: MIT */
/*
 * The denoise stage: the UNet as the callback that guiders ask, for one batch of pictures.
 *
 * A limn_predictor binds a checkpoint, the conditionings and what a model wants beside the latent
 * (inpaint channels, edit image, size ids). Programs are planned once per batch and text length and
 * kept. One thread at a time.
 */
#ifndef LIMN_PIPELINE_DENOISE_H
#define LIMN_PIPELINE_DENOISE_H

#include "pipeline/checkpoint.h"
#include "pipeline/conditioning.h"
#include "sample/guider.h"

typedef struct limn_predictor limn_predictor;

typedef struct limn_predictor_args {
    limn_backend *backend;
    limn_checkpoint *ckpt;
    int images;
    int64_t height, width;                        /* of the latent */
    const limn_conditioning *positive, *negative; /* negative may be NULL when cfg is 1 */
    double cfg_scale; /* the LCM guidance embedding, where a model has one */
    /* SDXL: original h, w, crop top, left, target h, w; refiner: original, crop, aesthetic score */
    float time_ids[6], negative_time_ids[6];
    const float *extra; /* [extra_channels, h, w] appended to each latent, or NULL */
    int extra_channels; /* 5: mask + masked latent (inpaint), 4: picture (edit) */
    bool wrap;          /* opposite edges meet (limn_graph_set_wrap) */
    const atomic_bool *cancel;
} limn_predictor_args;

limn_status limn_predictor_new(limn_predictor **out, const limn_predictor_args *args,
                               limn_err *err);
void limn_predictor_free(limn_predictor **p);
/* Bytes that the network's results take when each step asks for `conds` conditionings with texts of
 * `len` tokens: planned as a run would be, nothing reserved. Of `a` what says sizes, the backend,
 * the checkpoint and `wrap` is read. */
limn_status limn_predictor_memory(size_t *bytes, const limn_predictor_args *a, int conds,
                                  int64_t len, limn_err *err);
/* The network's weights have changed: programs are made again when next needed. */
void limn_predictor_reset(limn_predictor *p);
/* Plans and packs now what the first run would: afterwards a step takes as long as any other. */
limn_status limn_predictor_prepare(limn_predictor *p, limn_err *err);
/* A limn_predict_fn; `user` is the limn_predictor. */
limn_status limn_predictor_run(void *user, float *const *outs, const limn_cond *conds, int count,
                               const float *x, int64_t n, const limn_predict_at *at, limn_err *err);

#endif
