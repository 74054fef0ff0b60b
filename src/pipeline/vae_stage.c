/* SPDX-License-Identifier: MIT */
/* The decode and encode stages; see vae_stage.h. */
#include "pipeline/vae_stage.h"

#include <math.h>

#include "pipeline/layout.h"
#include "pipeline/vae_tiles.h"

static const size_t default_arena = (size_t)4 << 30;

/* One direction of one autoencoder: side lengths in input units. */
typedef struct vae_half {
    const limn_vae_options *opt;
    limn_checkpoint *ckpt;
    bool decode;
    int64_t in_c, out_c; /* channels of the graph's input and of what is kept of its output */
    int64_t up, down;    /* output side = input side * up / down */
    const char *input, *output;
} vae_half;

enum { WHOLE = 0 }; /* else a split: the graph is the inner part */

static limn_status half_graph(limn_graph **g, const vae_half *v, int64_t h, int64_t w, int split,
                              limn_err *err) {
    limn_status st = limn_graph_new(g, err);
    if (st != LIMN_OK) return st;
    limn_checkpoint *c = v->ckpt;
    bool tiny = v->opt->tiny;
    limn_graph_set_wrap(*g, v->opt->wrap);
    limn_nn nn = {*g, limn_model_weights_find, tiny ? c->taesd : c->vae};
    limn_vae_request r = {1, h, w};
    if (tiny && v->decode)
        limn_taesd_build_decoder(&nn, &c->taesd_cfg, &r);
    else if (tiny)
        limn_taesd_build_encoder(&nn, &c->taesd_cfg, &r);
    else if (split != WHOLE && v->decode)
        limn_vae_build_decoder_part(&nn, &c->vae_cfg, &r, LIMN_VAE_INNER, split);
    else if (split != WHOLE)
        limn_vae_build_encoder_part(&nn, &c->vae_cfg, &r, LIMN_VAE_INNER, split);
    else if (v->decode)
        limn_vae_build_decoder(&nn, &c->vae_cfg, &r);
    else
        limn_vae_build_encoder(&nn, &c->vae_cfg, &r);
    return LIMN_OK;
}

/* Arena of a graph, without reserving it. */
static limn_status half_arena(size_t *bytes, const vae_half *v, int64_t h, int64_t w, int split,
                              limn_err *err) {
    limn_graph *g = NULL;
    limn_plan *plan = NULL;
    limn_status st = half_graph(&g, v, h, w, split, err);
    if (st != LIMN_OK) return st;
    limn_plan_options o = v->opt->backend->v->plan_options(v->opt->backend);
    st = limn_plan_build(&plan, &g, &o, err);
    if (st == LIMN_OK) *bytes = plan->arena_bytes;
    limn_plan_free(&plan);
    return st;
}

/* Runs one graph of the whole picture: in [in_n] -> out [pixels, out_c]. */
static limn_status run_graph(float *out, const vae_half *v, const float *in, size_t in_n,
                             const char *input, const char *output, int64_t h, int64_t w, int split,
                             int64_t out_c, limn_err *err) {
    limn_graph *g = NULL;
    limn_program *p = NULL;
    limn_shape s;
    limn_status st = LIMN_OK;
    LIMN_TRY(half_graph(&g, v, h, w, split, err));
    LIMN_TRY(limn_program_new(&p, v->opt->backend, &g, err));
    memcpy(limn_program_input(p, input, NULL), in, in_n * sizeof *in);
    LIMN_TRY(limn_program_run(p, v->opt->cancel, err));
    const float *y = limn_program_output(p, output, &s);
    for (int64_t i = 0; i < s.dim[1] * s.dim[2]; i++)
        memcpy(out + i * out_c, y + i * s.dim[3], (size_t)out_c * sizeof *out);
out:
    limn_program_free(&p);
    return st;
}

static limn_status run_whole(float *out, const vae_half *v, const float *in, int64_t h, int64_t w,
                             limn_err *err) {
    limn_status st = run_graph(out, v, in, (size_t)(h * w * v->in_c), v->input, v->output, h, w,
                               WHOLE, v->out_c, err);
    if (st == LIMN_OK && v->opt->done) v->opt->done(v->opt->user, 1, 1);
    return st;
}

/* ---- tiles ---- */
/* How much of the autoencoder runs whole: as much as the memory allows, or with tiling asked for as
 * little as there can be. */
static limn_status choose_split(int *split, const vae_half *v, int64_t h, int64_t w, size_t memory,
                                limn_err *err) {
    int levels = v->ckpt->vae_cfg.levels, least = v->decode ? 1 : levels - 1;
    int step = v->decode ? -1 : 1;
    *split = least;
    if (v->opt->tiling == LIMN_TILING_ON) return LIMN_OK;
    for (int s = v->decode ? levels - 1 : 1; s != least; s += step) {
        size_t arena = 0;
        limn_status st = half_arena(&arena, v, h, w, s, err);
        if (st != LIMN_OK) return st;
        if (arena > memory) continue;
        *split = s;
        return LIMN_OK;
    }
    return LIMN_OK;
}

static limn_status run_tiled(float *out, const vae_half *v, const float *in, int64_t h, int64_t w,
                             size_t memory, limn_err *err) {
    limn_status st = LIMN_OK;
    int64_t unit = v->ckpt->latent_scale;
    limn_vae_tiles t = {.opt = v->opt,
                        .ckpt = v->ckpt,
                        .decode = v->decode,
                        .height = v->decode ? h : h / unit,
                        .width = v->decode ? w : w / unit,
                        .in = in,
                        .out = out,
                        .in_side = v->decode ? 1 : unit,
                        .out_side = v->decode ? unit : 1,
                        .in_channels = v->in_c,
                        .out_channels = v->out_c,
                        .memory = memory};
    if (v->opt->tiny) return limn_vae_tiles_run(&t, err);
    const limn_vae_config *c = &v->ckpt->vae_cfg;
    float *middle = NULL;
    LIMN_TRY(choose_split(&t.split, v, h, w, memory, err));
    int64_t side = v->decode ? (int64_t)1 << t.split : unit >> t.split;
    int64_t mid_c = limn_vae_middle_channels(c, v->decode, t.split);
    int64_t n = t.height * side * t.width * side * mid_c;
    middle = limn_mem_aligned((size_t)n * sizeof *middle);
    LIMN_CHECK(err, middle, LIMN_E_NOMEM, "no memory between the parts of an autoencoder");
    if (v->decode) {
        LIMN_TRY(run_graph(middle, v, in, (size_t)(h * w * v->in_c), v->input, "middle", h, w,
                           t.split, mid_c, err));
        t.in = middle, t.in_side = side, t.in_channels = mid_c;
        LIMN_TRY(limn_vae_tiles_run(&t, err));
    } else {
        t.out = middle, t.out_side = side, t.out_channels = mid_c;
        LIMN_TRY(limn_vae_tiles_run(&t, err));
        LIMN_TRY(run_graph(out, v, middle, (size_t)n, "middle", v->output, h, w, t.split, v->out_c,
                           err));
    }
out:
    limn_mem_free(middle);
    return st;
}

/* in [h, w, in_c] -> out [h', w', out_c] */
static limn_status run_half(float *out, const vae_half *v, const float *in, int64_t h, int64_t w,
                            limn_err *err) {
    const limn_vae_options *o = v->opt;
    int64_t core = (o->tile > 0 ? o->tile : 512) / (v->decode ? v->up : 1);
    size_t memory = o->memory ? o->memory : default_arena;
    bool tiled = o->tiling == LIMN_TILING_ON && (h > core || w > core);
    limn_status st = LIMN_OK;
    if (o->wrap) {
        tiled = false;
    } else if (o->tiling == LIMN_TILING_AUTO) {
        size_t arena = 0;
        st = half_arena(&arena, v, h, w, WHOLE, err);
        tiled = arena > memory;
    }
    if (st == LIMN_OK)
        st = tiled ? run_tiled(out, v, in, h, w, memory, err) : run_whole(out, v, in, h, w, err);
    if (st != LIMN_OK) return st;
    int64_t n = h * v->up / v->down * (w * v->up / v->down) * v->out_c;
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(out[i]))
            return limn_fail(err, LIMN_E_NUMERIC, "the autoencoder produced NaN or infinity");
    return LIMN_OK;
}

static vae_half decoder_of(limn_checkpoint *ckpt, const limn_vae_options *opt) {
    int64_t c = opt->tiny ? ckpt->taesd_cfg.latent_channels : ckpt->vae_cfg.latent_channels;
    return (vae_half){opt, ckpt, true, c, 3, ckpt->latent_scale, 1, "latent", "image"};
}

limn_status limn_vae_decode_memory(size_t *bytes, limn_checkpoint *ckpt, int64_t h, int64_t w,
                                   const limn_vae_options *opt, limn_err *err) {
    vae_half v = decoder_of(ckpt, opt);
    size_t most = opt->memory ? opt->memory : default_arena;
    int64_t core = (opt->tile > 0 ? opt->tile : 512) / v.up;
    bool tiled = opt->tiling == LIMN_TILING_ON && !opt->wrap;
    limn_status st = half_arena(bytes, &v, tiled && h > core ? core : h,
                                tiled && w > core ? core : w, WHOLE, err);
    if (opt->tiling == LIMN_TILING_AUTO && !opt->wrap && *bytes > most) *bytes = most;
    return st;
}

limn_status limn_vae_decode(float *image, limn_checkpoint *ckpt, const float *latent, int64_t h,
                            int64_t w, const limn_vae_options *opt, limn_err *err) {
    bool has = opt->tiny ? ckpt->taesd && ckpt->taesd_cfg.has_decoder
                         : ckpt->vae && ckpt->vae_cfg.has_decoder;
    if (!has)
        return limn_fail(err, LIMN_E_MISSING, "%s: has no %sdecoder; give one with --vae FILE",
                         ckpt->path, opt->tiny ? "TAESD " : "");
    int64_t c = opt->tiny ? ckpt->taesd_cfg.latent_channels : ckpt->vae_cfg.latent_channels;
    float scale = opt->tiny ? ckpt->taesd_cfg.scaling_factor : ckpt->vae_cfg.scaling_factor;
    float shift = opt->tiny ? ckpt->taesd_cfg.shift_factor : ckpt->vae_cfg.shift_factor;
    float *in = limn_mem_aligned((size_t)(c * h * w) * sizeof *in);
    if (!in) return limn_fail(err, LIMN_E_NOMEM, "no memory for a latent");
    limn_planar_to_interleaved(in, latent, c, h * w, c, 0, 1.0f / scale);
    for (int64_t i = 0; i < c * h * w && shift != 0; i++) in[i] += shift;
    vae_half v = decoder_of(ckpt, opt);
    limn_status st = run_half(image, &v, in, h, w, err);
    limn_mem_free(in);
    return st;
}

limn_status limn_vae_encode(float *latent, float *spread, limn_checkpoint *ckpt, const float *image,
                            int64_t height, int64_t width, const limn_vae_options *opt,
                            limn_err *err) {
    bool has = opt->tiny ? ckpt->taesd && ckpt->taesd_cfg.has_encoder
                         : ckpt->vae && ckpt->vae_cfg.has_encoder;
    if (!has)
        return limn_fail(err, LIMN_E_MISSING, "%s: has no %sencoder; give one with --vae FILE",
                         ckpt->path, opt->tiny ? "TAESD " : "");
    int64_t c = opt->tiny ? ckpt->taesd_cfg.latent_channels : ckpt->vae_cfg.latent_channels;
    float scale = opt->tiny ? ckpt->taesd_cfg.scaling_factor : ckpt->vae_cfg.scaling_factor;
    float shift = opt->tiny ? ckpt->taesd_cfg.shift_factor : ckpt->vae_cfg.shift_factor;
    int64_t n = (height / ckpt->latent_scale) * (width / ckpt->latent_scale);
    int64_t kept = opt->tiny ? c : 2 * c; /* means, log variances */
    float *out = limn_mem_aligned((size_t)(kept * n) * sizeof *out);
    if (!out) return limn_fail(err, LIMN_E_NOMEM, "no memory for a latent");
    vae_half v = {opt,
                  ckpt,
                  false,
                  3,
                  kept,
                  1,
                  ckpt->latent_scale,
                  "image",
                  opt->tiny ? "latent" : "moments"};
    limn_status st = run_half(out, &v, image, height, width, err);
    if (st == LIMN_OK) limn_interleaved_to_planar(latent, out, c, n, kept);
    for (int64_t i = 0; i < c * n && st == LIMN_OK; i++) latent[i] = (latent[i] - shift) * scale;
    if (st == LIMN_OK && spread && !opt->tiny) {
        limn_interleaved_to_planar(spread, out + c, c, n, kept);
        /* diffusers models/autoencoders/vae.py, DiagonalGaussianDistribution */
        for (int64_t i = 0; i < c * n; i++)
            spread[i] = expf(0.5f * fminf(fmaxf(spread[i], -30), 20)) * scale;
    } else if (st == LIMN_OK && spread) {
        memset(spread, 0, (size_t)(c * n) * sizeof *spread);
    }
    limn_mem_free(out);
    return st;
}
