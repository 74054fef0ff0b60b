/* SPDX-License-Identifier: MIT */
/* The denoise stage; see denoise.h. */
#include "pipeline/denoise.h"

#include <math.h>

#include "pipeline/layout.h"

enum {
    PROGRAMS = 2,             /* positive and negative prompts of different lengths alternate */
    SMALL_BATCH_PIXELS = 4096 /* below, conditionings share one batch: short ops fill the cores */
};

typedef struct cached_program {
    limn_program *p;
    int64_t batch, len;
    uint64_t used;
} cached_program;

struct limn_predictor {
    limn_predictor_args a;
    cached_program programs[PROGRAMS];
    uint64_t clock;
    int64_t pixels, each; /* of one latent: pixels, values */
    float *part;          /* [images * each]: one part of an AND composition */
};

/* One row of a network batch: a picture under a text. */
typedef struct batch_row {
    const float *x; /* [channels, pixels] */
    const limn_text_state *text;
    bool with_image;
    float *out; /* [channels, pixels] */
    const float *time_ids;
} batch_row;

limn_status limn_predictor_new(limn_predictor **out, const limn_predictor_args *args,
                               limn_err *err) {
    *out = NULL;
    limn_predictor *p = limn_mem_calloc(1, sizeof *p);
    if (!p) return limn_fail(err, LIMN_E_NOMEM, "no memory for the denoiser");
    p->a = *args;
    p->pixels = args->height * args->width;
    p->each = p->pixels * args->ckpt->unet_cfg.out_channels;
    p->part = limn_mem_aligned((size_t)(p->each * args->images) * sizeof(float));
    if (!p->part) {
        limn_predictor_free(&p);
        return limn_fail(err, LIMN_E_NOMEM, "no memory for the denoiser");
    }
    *out = p;
    return LIMN_OK;
}

void limn_predictor_reset(limn_predictor *p) {
    for (int i = 0; i < PROGRAMS; i++) {
        limn_program_free(&p->programs[i].p);
        p->programs[i] = (cached_program){0};
    }
}

void limn_predictor_free(limn_predictor **pp) {
    limn_predictor *p = pp ? *pp : NULL;
    if (!p) return;
    for (int i = 0; i < PROGRAMS; i++) limn_program_free(&p->programs[i].p);
    limn_mem_free(p->part);
    limn_mem_free(p);
    *pp = NULL;
}

static limn_status network_graph(limn_graph **g, const limn_predictor_args *a, int64_t batch,
                                 int64_t len, limn_err *err) {
    limn_status st = limn_graph_new(g, err);
    if (st != LIMN_OK) return st;
    limn_graph_set_wrap(*g, a->wrap);
    limn_nn nn = {*g, limn_model_weights_find, a->ckpt->unet};
    limn_unet_request req = {batch, a->height, a->width, len, a->ckpt->pooled_dim};
    limn_unet_build(&nn, &a->ckpt->unet_cfg, &req);
    return LIMN_OK;
}

/* Rows of a network batch at most: small latents go together. */
static int64_t rows_of_batch(int64_t pixels) {
    return pixels < SMALL_BATCH_PIXELS ? SMALL_BATCH_PIXELS / pixels : 1;
}

limn_status limn_predictor_memory(size_t *bytes, const limn_predictor_args *a, int conds,
                                  int64_t len, limn_err *err) {
    limn_graph *g = NULL;
    limn_plan *plan = NULL;
    int64_t rows = (int64_t)a->images * conds, most = rows_of_batch(a->height * a->width);
    limn_status st = network_graph(&g, a, rows < most ? rows : most, len, err);
    if (st != LIMN_OK) return st;
    limn_plan_options o = a->backend->v->plan_options(a->backend);
    st = limn_plan_build(&plan, &g, &o, err);
    if (st == LIMN_OK) *bytes = plan->arena_bytes;
    limn_plan_free(&plan);
    return st;
}

static limn_status program_get(limn_program **out, limn_predictor *p, int64_t batch, int64_t len,
                               limn_err *err) {
    cached_program *slot = &p->programs[0];
    for (int i = 0; i < PROGRAMS; i++) {
        cached_program *c = &p->programs[i];
        if (c->p && c->batch == batch && c->len == len) {
            c->used = ++p->clock;
            *out = c->p;
            return LIMN_OK;
        }
        if (c->used < slot->used) slot = c;
    }
    limn_program_free(&slot->p);
    limn_graph *g = NULL;
    limn_status st = network_graph(&g, &p->a, batch, len, err);
    if (st != LIMN_OK) return st;
    st = limn_program_new(&slot->p, p->a.backend, &g, err);
    if (st != LIMN_OK) return st;
    *slot = (cached_program){slot->p, batch, len, ++p->clock};
    *out = slot->p;
    return LIMN_OK;
}

/* Guidance scale embedding of LCM models (diffusers pipelines/latent_consistency_models,
 * get_guidance_scale_embedding): sinusoids of 1000 * (scale - 1). */
static void guidance_embedding(float *out, int dim, double scale) {
    int half = dim / 2;
    for (int i = 0; i < half; i++) {
        double f = exp(-log(10000.0) * i / (half - 1)), arg = (scale - 1) * 1000.0 * f;
        out[i] = (float)sin(arg);
        out[half + i] = (float)cos(arg);
    }
}

static limn_status fill_added(limn_predictor *p, limn_program *prog, int64_t i,
                              const batch_row *row, limn_err *err) {
    const limn_unet_config *c = &p->a.ckpt->unet_cfg;
    if (c->time_cond_dim > 0) {
        float *w = limn_program_input(prog, "guidance", NULL);
        guidance_embedding(w + i * c->time_cond_dim, c->time_cond_dim, p->a.cfg_scale);
    }
    if (c->add_embed_dim == 0) return LIMN_OK;
    int pooled = p->a.ckpt->pooled_dim, ids = limn_unet_time_ids(c, pooled);
    if (!row->text->pooled)
        return limn_fail(err, LIMN_E_MISSING,
                         "this model needs a pooled text vector, and its text "
                         "encoder gives none");
    float *t = limn_program_input(prog, "text_embeds", NULL);
    memcpy(t + i * pooled, row->text->pooled, (size_t)pooled * sizeof *t);
    memcpy((float *)limn_program_input(prog, "time_ids", NULL) + i * ids, row->time_ids,
           (size_t)ids * sizeof(float));
    return LIMN_OK;
}

/* Runs rows [0, n), all with texts of one length, as one batch. */
static limn_status run_batch(limn_predictor *p, const batch_row *rows, int n, double timestep,
                             limn_err *err) {
    const limn_unet_config *c = &p->a.ckpt->unet_cfg;
    limn_program *prog;
    int64_t len = rows[0].text->len;
    limn_status st = program_get(&prog, p, n, len, err);
    if (st != LIMN_OK) return st;
    float *sample = limn_program_input(prog, "sample", NULL);
    float *context = limn_program_input(prog, "context", NULL);
    float *times = limn_program_input(prog, "timestep", NULL);
    for (int i = 0; i < n && st == LIMN_OK; i++) {
        float *dst = sample + i * p->pixels * c->in_channels;
        limn_planar_to_interleaved(dst, rows[i].x, c->out_channels, p->pixels, c->in_channels, 0,
                                   1);
        if (c->in_channels > c->out_channels)
            limn_planar_to_interleaved(dst, p->a.extra, p->a.extra_channels, p->pixels,
                                       c->in_channels, c->out_channels, rows[i].with_image);
        size_t bytes = (size_t)(len * c->context_dim) * sizeof(float);
        memcpy(context + i * len * c->context_dim, rows[i].text->context, bytes);
        times[i] = (float)timestep;
        st = fill_added(p, prog, i, &rows[i], err);
    }
    if (st == LIMN_OK) st = limn_program_run(prog, p->a.cancel, err);
    if (st != LIMN_OK) return st;
    const float *y = limn_program_output(prog, "out", NULL);
    for (int i = 0; i < n; i++)
        limn_interleaved_to_planar(rows[i].out, y + i * p->each, c->out_channels, p->pixels,
                                   c->out_channels);
    return LIMN_OK;
}

/* The first batch of step 0: run_rows() cuts the same. */
limn_status limn_predictor_prepare(limn_predictor *p, limn_err *err) {
    int64_t len = limn_conditioning_at(p->a.positive, 0, 0)->len, rows = p->a.images;
    int64_t most = SMALL_BATCH_PIXELS / p->pixels;
    limn_program *unused;
    if (p->a.negative && limn_conditioning_at(p->a.negative, 0, 0)->len == len) rows *= 2;
    if (most < 1) most = 1;
    return program_get(&unused, p, rows < most ? rows : most, len, err);
}

/* Cuts rows into batches: small latents together while their texts are equally long. */
static limn_status run_rows(limn_predictor *p, const batch_row *rows, int n, double timestep,
                            limn_err *err) {
    int64_t most = rows_of_batch(p->pixels);
    for (int i = 0, end; i < n; i = end) {
        end = i + 1;
        while (end < n && end - i < most && rows[end].text->len == rows[i].text->len) end++;
        limn_status st = run_batch(p, rows + i, end - i, timestep, err);
        if (st != LIMN_OK) return st;
    }
    return LIMN_OK;
}

static const limn_conditioning *conditioning_of(const limn_predictor *p, limn_cond cond) {
    return cond == LIMN_COND_POSITIVE || !p->a.negative ? p->a.positive : p->a.negative;
}

/* Which rows keep the picture of an edit model: all but the fully unconditional ones. Inpaint
 * channels are always given. */
static bool keeps_image(const limn_predictor *p, limn_cond cond) {
    return p->a.ckpt->unet_cfg.in_channels != 8 || cond != LIMN_COND_NEGATIVE;
}

/* AND compositions: out = base + sum_i w_i (part_i - base), base = the negative answer when there
 * is one, else the weighted mean of the parts. */
static limn_status compose_parts(limn_predictor *p, float *out, const float *base, const float *x,
                                 const limn_predict_at *at, limn_err *err) {
    const limn_conditioning *c = p->a.positive;
    int parts = limn_conditioning_parts(c), images = p->a.images;
    int64_t n = p->each * images;
    double sum = 0;
    batch_row *rows = limn_mem_calloc((size_t)images, sizeof *rows);
    if (!rows) return limn_fail(err, LIMN_E_NOMEM, "no memory for a composition");
    limn_status st = LIMN_OK;
    for (int64_t i = 0; i < n; i++) out[i] = base ? base[i] : 0;
    for (int k = 0; k < parts; k++) sum += limn_conditioning_weight(c, k);
    for (int k = 0; k < parts && st == LIMN_OK; k++) {
        for (int i = 0; i < images; i++)
            rows[i] = (batch_row){x + i * p->each, limn_conditioning_at(c, k, at->at->step), true,
                                  p->part + i * p->each, p->a.time_ids};
        st = run_rows(p, rows, images, at->timestep, err);
        float w = limn_conditioning_weight(c, k);
        if (!base) w = sum != 0 ? (float)(w / sum) : 1.0f / (float)parts;
        for (int64_t i = 0; i < n && st == LIMN_OK; i++)
            out[i] += w * (p->part[i] - (base ? base[i] : 0));
    }
    limn_mem_free(rows);
    return st;
}

limn_status limn_predictor_run(void *user, float *const *outs, const limn_cond *conds, int count,
                               const float *x, int64_t n, const limn_predict_at *at,
                               limn_err *err) {
    limn_predictor *p = user;
    (void)n;
    int images = p->a.images, n_rows = 0, composed = -1;
    const float *base = NULL;
    batch_row *rows = limn_mem_calloc((size_t)images * (size_t)count, sizeof *rows);
    if (!rows) return limn_fail(err, LIMN_E_NOMEM, "no memory for a batch");
    for (int k = 0; k < count; k++) {
        const limn_conditioning *c = conditioning_of(p, conds[k]);
        if (conds[k] == LIMN_COND_POSITIVE && limn_conditioning_parts(c) > 1) {
            composed = k;
            continue;
        }
        if (conds[k] == LIMN_COND_NEGATIVE) base = outs[k];
        for (int i = 0; i < images; i++)
            rows[n_rows++] = (batch_row){x + i * p->each, limn_conditioning_at(c, 0, at->at->step),
                                         keeps_image(p, conds[k]), outs[k] + i * p->each,
                                         conds[k] == LIMN_COND_POSITIVE ? p->a.time_ids
                                                                        : p->a.negative_time_ids};
    }
    limn_status st = n_rows > 0 ? run_rows(p, rows, n_rows, at->timestep, err) : LIMN_OK;
    if (st == LIMN_OK && composed >= 0) st = compose_parts(p, outs[composed], base, x, at, err);
    limn_mem_free(rows);
    return st;
}
