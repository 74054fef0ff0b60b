/* SPDX-License-Identifier: MIT */
/* Loading a drawing model from any file form; see checkpoint.h. */
#include "pipeline/checkpoint.h"

#include <math.h>
#include <stdio.h>
#include <sys/stat.h>

#include "formats/canon.h"
#include "formats/detect.h"
#include "pipeline/embedding_stage.h"
#include "pipeline/lora_stage.h"

static limn_status bind_set(limn_model_weights **out, limn_weights **set, limn_err *err) {
    limn_status st = limn_model_weights_new(out, *set, err);
    limn_weights_unref(set);
    return st;
}

static limn_status load_unet(limn_checkpoint *c, const limn_inspection *x, limn_err *err) {
    const limn_found *f = limn_model_info_find(&x->info, LIMN_PART_UNET);
    limn_weights *set = NULL;
    if (!f)
        return limn_fail(err, LIMN_E_UNSUPPORTED,
                         "%s: %s; limn draws with Stable Diffusion 1.x, 2.x "
                         "and SDXL checkpoints",
                         c->path,
                         x->info.n_parts > 0 ? x->info.title : "not a model that limn knows");
    limn_status st = limn_canon_unet(&set, &c->unet_cfg, x->weights, f->prefix,
                                     limn_found_config(f, x->weights), err);
    if (st == LIMN_OK) c->family = f->family;
    return st == LIMN_OK ? bind_set(&c->unet, &set, err) : st;
}

/* An autoencoder of either kind from a set. E_MISSING when there is none. */
static limn_status load_vae(limn_checkpoint *c, const limn_inspection *x, limn_err *err) {
    const limn_found *kl = limn_model_info_find(&x->info, LIMN_PART_VAE);
    const limn_found *tiny = limn_model_info_find(&x->info, LIMN_PART_TAESD);
    limn_weights *set = NULL;
    limn_status st = LIMN_OK;
    if (kl && !c->vae) {
        LIMN_TRY(limn_canon_vae(&set, &c->vae_cfg, x->weights, kl->prefix,
                                limn_found_config(kl, x->weights), err));
        /* Tensors do not tell SDXL's latent scale from SD 1.x's; the family found beside them does.
         */
        if (!limn_found_config(kl, x->weights) && x->info.latent_scale > 0) {
            c->vae_cfg.scaling_factor = x->info.latent_scale;
            c->vae_cfg.shift_factor = x->info.latent_shift;
        }
        LIMN_TRY(bind_set(&c->vae, &set, err));
    }
    if (tiny && !c->taesd) {
        LIMN_TRY(limn_canon_taesd(&set, &c->taesd_cfg, x->weights, tiny->prefix,
                                  limn_found_config(tiny, x->weights), err));
        LIMN_TRY(bind_set(&c->taesd, &set, err));
    }
    LIMN_CHECK(err, c->vae || c->taesd, LIMN_E_MISSING,
               "%s: holds no autoencoder; give one with --vae FILE", limn_weights_path(x->weights));
out:
    return st;
}

/* An autoencoder in a file of its own. It cannot know how the model scales its latents: the model's
 * family does. */
static limn_status load_vae_file(limn_checkpoint *c, const limn_inspection *model, const char *path,
                                 limn_err *err) {
    limn_inspection x = {0};
    bool had = c->vae != NULL;
    limn_status st = limn_inspect(&x, path, err);
    if (st == LIMN_OK) st = load_vae(c, &x, err);
    if (st == LIMN_OK && c->vae && !had && model->info.latent_scale > 0) {
        c->vae_cfg.scaling_factor = model->info.latent_scale;
        c->vae_cfg.shift_factor = model->info.latent_shift;
    }
    limn_inspection_free(&x);
    return st;
}

static limn_status load_tokenizer(limn_text_encoder *te, const limn_checkpoint *c,
                                  const char *folder, limn_err *err) {
    struct stat sb;
    char dir[4096];
    if (snprintf(dir, sizeof dir, "%s/%s", c->path, folder) < (int)sizeof dir &&
        stat(dir, &sb) == 0)
        return limn_tokenizer_load_dir(&te->tokenizer, dir, err);
    return limn_tokenizer_new_clip(&te->tokenizer, err);
}

/* Which layer is tapped and how, by the kind of UNet that reads it. */
static void text_rules(limn_text_encoder *te, limn_checkpoint *c) {
    bool xl = c->unet_cfg.add_embed_dim > 0;
    te->skip = te->skip_min = xl ? 1 : 0; /* SDXL: hidden_states[-2] */
    te->final_norm = !xl;
    te->pooled = xl && te->cfg.projection > 0;
    te->window = te->cfg.positions < LIMN_PROMPT_WINDOW ? te->cfg.positions : LIMN_PROMPT_WINDOW;
    if (te->pooled) c->pooled_dim = te->cfg.projection;
}

static limn_status load_text(limn_checkpoint *c, const limn_inspection *x, limn_err *err) {
    static const limn_part parts[] = {LIMN_PART_TE, LIMN_PART_TE2};
    static const char *const folders[] = {"tokenizer", "tokenizer_2"};
    for (int i = 0; i < LIMN_TEXT_ENCODERS; i++) {
        const limn_found *f = limn_model_info_find(&x->info, parts[i]);
        limn_text_encoder *te = &c->text[c->n_text];
        limn_weights *set = NULL;
        if (!f) continue;
        limn_status st = limn_canon_clip(&set, &te->cfg, x->weights, f->prefix,
                                         limn_found_config(f, x->weights), err);
        if (st == LIMN_OK) st = bind_set(&te->weights, &set, err);
        if (st == LIMN_OK) st = load_tokenizer(te, c, folders[i], err);
        c->n_text++;
        te->slot = i;
        if (st != LIMN_OK) return st;
        text_rules(te, c);
    }
    if (c->n_text > 0) return LIMN_OK;
    return limn_fail(err, LIMN_E_MISSING, "%s: holds no text encoder", c->path);
}

static limn_status check_widths(const limn_checkpoint *c, limn_err *err) {
    int width = 0;
    for (int i = 0; i < c->n_text; i++) width += c->text[i].cfg.width;
    if (limn_unet_time_ids(&c->unet_cfg, c->pooled_dim) < 0)
        return limn_fail(err, LIMN_E_MISSING, "%s: holds no text encoder with a pooled vector",
                         c->path);
    if (width == c->unet_cfg.context_dim) return LIMN_OK;
    return limn_fail(err, LIMN_E_SHAPE,
                     "%s: the UNet reads text states of width %d, the text encoders give %d",
                     c->path, c->unet_cfg.context_dim, width);
}

/* ---- noise ---- */
/* SD 2.x single files do not say whether they predict noise or v; the spread of this bias tells the
 * 768-pixel v models apart (a fact that ComfyUI's model detection relies on). */
static bool looks_like_v(limn_checkpoint *c) {
    const limn_tensor *t =
        limn_weights_find(limn_model_weights_set(c->unet),
                          "up_blocks.3.attentions.2.transformer_blocks.0.norm1.bias");
    int64_t n = t ? limn_shape_count(&t->shape) : 0;
    float *v = n > 0 ? limn_mem_alloc((size_t)n * sizeof *v) : NULL;
    double sum = 0, sq = 0;
    if (!v) return false;
    limn_dtype_to_f32(v, t->data, t->dtype, n);
    for (int64_t i = 0; i < n; i++) sum += v[i], sq += (double)v[i] * v[i];
    limn_mem_free(v);
    double mean = sum / (double)n;
    return sqrt(sq / (double)n - mean * mean) > 0.09;
}

static limn_status load_noising(limn_checkpoint *c, const limn_inspection *x,
                                const limn_checkpoint_options *opt, limn_err *err) {
    static const limn_prediction of[] = {[LIMN_TRAINED_EPS] = LIMN_PREDICT_EPS,
                                         [LIMN_TRAINED_V] = LIMN_PREDICT_V,
                                         [LIMN_TRAINED_SAMPLE] = LIMN_PREDICT_X0,
                                         [LIMN_TRAINED_FLOW] = LIMN_PREDICT_FLOW,
                                         [LIMN_TRAINED_EDM] = LIMN_PREDICT_EDM};
    limn_trained_noise t = x->info.noise;
    if (!x->info.noise_is_sure && c->unet_cfg.context_dim == 1024 && looks_like_v(c))
        t.prediction = LIMN_TRAINED_V;
    if (t.train_steps != LIMN_TRAIN_STEPS)
        return limn_fail(err, LIMN_E_UNSUPPORTED, "%s: trained on %d noise levels; limn knows %d",
                         c->path, t.train_steps, LIMN_TRAIN_STEPS);
    limn_noising_args a = {.prediction = of[t.prediction],
                           .betas = t.scaled_linear ? LIMN_BETAS_SCALED_LINEAR : LIMN_BETAS_LINEAR,
                           .beta_start = t.beta_start,
                           .beta_end = t.beta_end,
                           .zero_terminal_snr = t.zero_snr,
                           .sigma_min = t.sigma_min,
                           .sigma_max = t.sigma_max,
                           .shift = opt->shift > 0 ? opt->shift : t.shift};
    c->ends_noisy = t.ends_noisy;
    c->sampler = t.sampler;
    c->sampler_schedule = t.schedule;
    if (opt->prediction >= 0) a.prediction = (limn_prediction)opt->prediction;
    a.kind = a.prediction == LIMN_PREDICT_FLOW  ? LIMN_NOISING_FLOW
             : a.prediction == LIMN_PREDICT_EDM ? LIMN_NOISING_EDM
                                                : LIMN_NOISING_DISCRETE;
    /* With a terminal SNR of zero the first step must start at the last training step. */
    if (t.zero_snr) {
        limn_status st = limn_schedule_find(&c->schedule, "trailing", err);
        if (st != LIMN_OK) return st;
    }
    return limn_noising_init(&c->noising, &a, err);
}

/* ---- the whole ---- */
/* Pixels that the model was trained at: a folder says it, else the kind of UNet does. */
static int64_t native_size(const limn_checkpoint *c) {
    const limn_unet_config *u = &c->unet_cfg;
    if (u->sample_size > 0) return (int64_t)u->sample_size * c->latent_scale;
    if (u->add_embed_dim > 0) return 1024;
    return u->context_dim == 1024 && c->noising.prediction == LIMN_PREDICT_V ? 768 : 512;
}

static limn_status load_parts(limn_checkpoint *c, const limn_inspection *x,
                              const limn_checkpoint_options *opt, limn_err *err) {
    limn_status st = LIMN_OK;
    LIMN_TRY(load_unet(c, x, err));
    if (opt->vae_path && opt->vae_path[0])
        LIMN_TRY(load_vae_file(c, x, opt->vae_path, err));
    else
        LIMN_TRY(load_vae(c, x, err));
    if (opt->taesd_path && opt->taesd_path[0] && !c->taesd)
        LIMN_TRY(load_vae_file(c, x, opt->taesd_path, err));
    LIMN_TRY(load_text(c, x, err));
    LIMN_TRY(check_widths(c, err));
    LIMN_TRY(load_noising(c, x, opt, err));
    c->latent_scale = 1 << ((c->vae ? c->vae_cfg.levels : c->taesd_cfg.levels) - 1);
    c->native_size = native_size(c);
    LIMN_TRY(limn_embedding_stage_load(c, opt->embeddings, opt->n_embeddings, err));
out:
    return st;
}

limn_status limn_checkpoint_open(limn_checkpoint **out, const char *path,
                                 const limn_checkpoint_options *opt, limn_err *err) {
    *out = NULL;
    limn_status st = LIMN_OK;
    limn_inspection x = {0};
    limn_checkpoint *c = limn_mem_calloc(1, sizeof *c);
    LIMN_CHECK(err, c, LIMN_E_NOMEM, "no memory for a model");
    limn_arena_init(&c->arena);
    c->path = limn_arena_strdup(&c->arena, path);
    LIMN_CHECK(err, c->path, LIMN_E_NOMEM, "no memory for a model");
    LIMN_TRY(limn_inspect(&x, path, err));
    const char *advice = limn_weights_meta_str(x.weights, "limn.advice");
    if (advice) c->advice = limn_arena_strdup(&c->arena, advice);
    LIMN_CHECK(err, c->advice || !advice, LIMN_E_NOMEM, "no memory for a model");
    LIMN_TRY(load_parts(c, &x, opt, err));
    *out = c;
    c = NULL;
out:
    limn_inspection_free(&x);
    limn_checkpoint_free(&c);
    return st;
}

void limn_checkpoint_free(limn_checkpoint **ckpt) {
    limn_checkpoint *c = ckpt ? *ckpt : NULL;
    if (!c) return;
    limn_lora_stage_free(c);
    limn_model_weights_free(&c->unet);
    limn_model_weights_free(&c->vae);
    limn_model_weights_free(&c->taesd);
    for (int i = 0; i < LIMN_TEXT_ENCODERS; i++) {
        limn_model_weights_free(&c->text[i].weights);
        limn_tokenizer_free(&c->text[i].tokenizer);
        limn_mem_free(c->text[i].embed_vectors);
    }
    limn_arena_deinit(&c->arena);
    limn_mem_free(c);
    *ckpt = NULL;
}

static int64_t network_bytes(const limn_model_weights *mw) {
    const limn_weights *set = mw ? limn_model_weights_set(mw) : NULL;
    int64_t sum = 0;
    for (size_t i = 0; set && i < limn_weights_count(set); i++) {
        const limn_tensor *t = limn_weights_at(set, i);
        size_t n = 0;
        if (limn_tensor_bytes(&n, t->dtype, &t->shape)) sum += (int64_t)n;
    }
    return sum;
}

int64_t limn_checkpoint_bytes(const limn_checkpoint *c) {
    int64_t sum = network_bytes(c->unet) + network_bytes(c->vae) + network_bytes(c->taesd);
    for (int i = 0; i < c->n_text; i++) sum += network_bytes(c->text[i].weights);
    return sum;
}
