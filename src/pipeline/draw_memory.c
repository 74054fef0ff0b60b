/* SPDX-License-Identifier: MIT */
/* What a drawing takes; see draw_memory.h. */
#include "pipeline/draw_memory.h"

#include "pipeline/denoise.h"
#include "pipeline/draw_plan.h"
#include "pipeline/vae_stage.h"

enum {
    TEXT_LEN = 77,         /* one chunk of a prompt */
    LATENTS = 8,           /* a solver's latents: state, noise, answers, what it remembers */
    DECODED_PER_PIXEL = 6, /* floats: a decoded picture in both layouts */
    BYTES_PER_PIXEL = 3
};
/* What ops take for themselves while they run and what the heap keeps, as a share of the plan: SD
 * 1.5 at 256, 512 and 768 pixels took 170, 651 and 1453 MB where 162, 649 and 1460 come out. */
static const double working_share = 1.25;

static limn_status pass_memory(int64_t *most, const limn_draw_plan *plan, const limn_pass *pass,
                               limn_checkpoint *ckpt, const limn_vae_options *vae, limn_err *err) {
    int64_t s = ckpt->latent_scale;
    bool edit = ckpt->unet_cfg.in_channels == 8;
    limn_predictor_args a = {.backend = vae->backend,
                             .ckpt = ckpt,
                             .images = plan->images,
                             .height = pass->height / s,
                             .width = pass->width / s,
                             .wrap = vae->wrap};
    size_t network = 0, decoder = 0;
    limn_status st = limn_predictor_memory(&network, &a, edit ? 3 : (pass->cfg_scale != 1 ? 2 : 1),
                                           TEXT_LEN, err);
    if (st == LIMN_OK) st = limn_vae_decode_memory(&decoder, ckpt, a.height, a.width, vae, err);
    if (st != LIMN_OK) return st;
    decoder += (size_t)(pass->width * pass->height) * DECODED_PER_PIXEL * sizeof(float);
    int64_t latents = (int64_t)plan->images * ckpt->unet_cfg.out_channels * a.height * a.width;
    double planned = (double)(network > decoder ? network : decoder);
    int64_t bytes = (int64_t)(planned * working_share) + latents * LATENTS * (int64_t)sizeof(float);
    if (bytes > *most) *most = bytes;
    return LIMN_OK;
}

limn_status limn_draw_memory(int64_t *bytes, limn_engine *engine, limn_checkpoint *ckpt,
                             const limn_gen *gen, limn_err *err) {
    limn_draw_plan plan = {0};
    limn_vae_options vae = {.tiling = (limn_tiling)gen->vae_tiling,
                            .tile = gen->vae_tile,
                            .memory = engine->memory / 2,
                            .tiny = gen->tiny_vae || (!ckpt->vae && ckpt->taesd),
                            .wrap = gen->tiling};
    limn_status st = LIMN_OK;
    *bytes = 0;
    LIMN_TRY(limn_draw_plan_make(&plan, gen, ckpt, err));
    LIMN_CHECK(err, vae.tiny ? ckpt->taesd != NULL : ckpt->vae != NULL, LIMN_E_MISSING,
               "%s: has no decoder", ckpt->path);
    LIMN_TRY(limn_engine_backend(&vae.backend, engine, (limn_gen_precision)gen->precision, err));
    LIMN_TRY(pass_memory(bytes, &plan, &plan.first, ckpt, &vae, err));
    const limn_pass *last = plan.wants_hires ? &plan.hires : &plan.first;
    if (plan.wants_hires) LIMN_TRY(pass_memory(bytes, &plan, last, ckpt, &vae, err));
    double large = gen->upscale > 1 ? gen->upscale * gen->upscale : 1;
    *bytes += (int64_t)((double)(last->width * last->height * BYTES_PER_PIXEL) * large) *
              plan.images * plan.batches;
out:
    limn_draw_plan_deinit(&plan);
    return st;
}
