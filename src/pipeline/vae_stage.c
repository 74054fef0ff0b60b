/* SPDX-License-Identifier: MIT */
/* The decode and encode stages; see vae_stage.h. */
#include "pipeline/vae_stage.h"

#include <math.h>

#include "pipeline/layout.h"

static const size_t default_arena = (size_t)4 << 30;

/* One direction of one autoencoder, as tiles see it: side lengths in input units. */
typedef struct vae_half {
    const limn_vae_options *opt;
    limn_checkpoint *ckpt;
    bool decode;
    int64_t in_c, out_c; /* channels of the graph's input and of what is kept of its output */
    int64_t up, down;    /* output side = input side * up / down */
    const char *input, *output;
} vae_half;

static int64_t out_side(const vae_half *v, int64_t side) {
    return side * v->up / v->down;
}

static limn_status half_graph(limn_graph **g, const vae_half *v, int64_t h, int64_t w,
                              limn_err *err) {
    limn_status st = limn_graph_new(g, err);
    if (st != LIMN_OK) return st;
    limn_checkpoint *c = v->ckpt;
    bool tiny = v->opt->tiny;
    limn_nn nn = {*g, limn_model_weights_find, tiny ? c->taesd : c->vae};
    limn_vae_request r = {1, h, w};
    if (tiny && v->decode)
        limn_taesd_build_decoder(&nn, &c->taesd_cfg, &r);
    else if (tiny)
        limn_taesd_build_encoder(&nn, &c->taesd_cfg, &r);
    else if (v->decode)
        limn_vae_build_decoder(&nn, &c->vae_cfg, &r);
    else
        limn_vae_build_encoder(&nn, &c->vae_cfg, &r);
    return LIMN_OK;
}

static limn_status half_program(limn_program **out, const vae_half *v, int64_t h, int64_t w,
                                limn_err *err) {
    limn_graph *g = NULL;
    limn_status st = half_graph(&g, v, h, w, err);
    return st == LIMN_OK ? limn_program_new(out, v->opt->backend, &g, err) : st;
}

/* Arena of a whole picture, without reserving it. */
static limn_status whole_arena(size_t *bytes, const vae_half *v, int64_t h, int64_t w,
                               limn_err *err) {
    limn_graph *g = NULL;
    limn_plan *plan = NULL;
    limn_status st = half_graph(&g, v, h, w, err);
    if (st != LIMN_OK) return st;
    limn_plan_options o = v->opt->backend->v->plan_options(v->opt->backend);
    st = limn_plan_build(&plan, &g, &o, err);
    if (st == LIMN_OK) *bytes = plan->arena_bytes;
    limn_plan_free(&plan);
    return st;
}

/* ---- tiles ---- */
typedef struct tile_axis {
    int64_t tile, count, total; /* input units */
    int64_t stride;
} tile_axis;

static tile_axis axis_of(int64_t total, int64_t tile, double overlap) {
    tile_axis a = {.tile = tile < total ? tile : total, .total = total, .count = 1};
    a.stride = (int64_t)((double)a.tile * (1.0 - overlap));
    if (a.stride < 1) a.stride = 1;
    if (a.tile < total) a.count = (total - a.tile + a.stride - 1) / a.stride + 1;
    return a;
}

/* The last tile is moved back so that it ends at the edge. */
static int64_t tile_start(const tile_axis *a, int64_t i) {
    int64_t at = i * a->stride;
    return at + a->tile > a->total ? a->total - a->tile : at;
}

/* Weight of position p of a tile of n: ramps of `ramp` towards the sides that have a neighbour. */
static float ramp_weight(int64_t p, int64_t n, int64_t ramp, bool before, bool after) {
    float w = 1;
    if (before && p < ramp) w = fminf(w, ((float)p + 0.5f) / (float)ramp);
    if (after && n - 1 - p < ramp) w = fminf(w, ((float)(n - 1 - p) + 0.5f) / (float)ramp);
    return w;
}

typedef struct blend_target {
    float *sum, *weight; /* [h, w, c], [h, w] */
    int64_t h, w, c;
} blend_target;

typedef struct tile_place {
    int64_t y, x, h, w, ramp_y, ramp_x; /* output units */
    bool above, below, left, right;     /* has a neighbour there */
} tile_place;

static void blend_tile(blend_target *t, const tile_place *p, const float *src, int64_t src_c) {
    for (int64_t y = 0; y < p->h; y++) {
        float wy = ramp_weight(y, p->h, p->ramp_y, p->above, p->below);
        for (int64_t x = 0; x < p->w; x++) {
            float w = wy * ramp_weight(x, p->w, p->ramp_x, p->left, p->right);
            int64_t at = (p->y + y) * t->w + p->x + x;
            const float *s = src + (y * p->w + x) * src_c;
            for (int64_t c = 0; c < t->c; c++) t->sum[at * t->c + c] += w * s[c];
            t->weight[at] += w;
        }
    }
}

static void load_tile(float *dst, const float *src, int64_t src_w, int64_t c, int64_t y, int64_t x,
                      int64_t h, int64_t w) {
    for (int64_t r = 0; r < h; r++)
        memcpy(dst + r * w * c, src + ((y + r) * src_w + x) * c, (size_t)(w * c) * sizeof *dst);
}

static limn_status run_tiles(float *out, const vae_half *v, const float *in, int64_t h, int64_t w,
                             int64_t tile, limn_err *err) {
    limn_status st = LIMN_OK;
    limn_program *prog = NULL;
    double overlap = v->opt->overlap;
    tile_axis ay = axis_of(h, tile, overlap), ax = axis_of(w, tile, overlap);
    int64_t oh = out_side(v, h), ow = out_side(v, w);
    blend_target t = {out, NULL, oh, ow, v->out_c};
    t.weight = limn_mem_calloc((size_t)(oh * ow), sizeof *t.weight);
    LIMN_CHECK(err, t.weight, LIMN_E_NOMEM, "no memory to blend tiles");
    memset(out, 0, (size_t)(oh * ow * v->out_c) * sizeof *out);
    LIMN_TRY(half_program(&prog, v, ay.tile, ax.tile, err));
    for (int64_t i = 0; i < ay.count * ax.count; i++) {
        int64_t iy = i / ax.count, ix = i % ax.count;
        int64_t y = tile_start(&ay, iy), x = tile_start(&ax, ix);
        load_tile(limn_program_input(prog, v->input, NULL), in, w, v->in_c, y, x, ay.tile, ax.tile);
        LIMN_TRY(limn_program_run(prog, v->opt->cancel, err));
        tile_place p = {out_side(v, y),
                        out_side(v, x),
                        out_side(v, ay.tile),
                        out_side(v, ax.tile),
                        out_side(v, ay.tile - ay.stride),
                        out_side(v, ax.tile - ax.stride),
                        iy > 0,
                        iy + 1 < ay.count,
                        ix > 0,
                        ix + 1 < ax.count};
        limn_shape s;
        const float *y_out = limn_program_output(prog, v->output, &s);
        blend_tile(&t, &p, y_out, s.dim[3]);
        if (v->opt->done) v->opt->done(v->opt->user, (int)(i + 1), (int)(ay.count * ax.count));
    }
    for (int64_t i = 0; i < oh * ow; i++)
        for (int64_t c = 0; c < v->out_c; c++) out[i * v->out_c + c] /= t.weight[i];
out:
    limn_program_free(&prog);
    limn_mem_free(t.weight);
    return st;
}

/* in [h, w, in_c] -> out [h', w', out_c] */
static limn_status run_half(float *out, const vae_half *v, const float *in, int64_t h, int64_t w,
                            limn_err *err) {
    const limn_vae_options *o = v->opt;
    int64_t tile = (o->tile > 0 ? o->tile : 512) / (v->decode ? v->up : 1);
    bool tiled = o->tiling == LIMN_TILING_ON;
    if (o->tiling == LIMN_TILING_AUTO) {
        size_t arena = 0;
        limn_status st = whole_arena(&arena, v, h, w, err);
        if (st != LIMN_OK) return st;
        tiled = arena > (o->memory ? o->memory : default_arena);
    }
    if (!tiled) tile = h > w ? h : w;
    limn_status st = run_tiles(out, v, in, h, w, tile, err);
    if (st != LIMN_OK) return st;
    int64_t n = out_side(v, h) * out_side(v, w) * v->out_c;
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(out[i]))
            return limn_fail(err, LIMN_E_NUMERIC, "the autoencoder produced NaN or infinity");
    return LIMN_OK;
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
    vae_half v = {opt, ckpt, true, c, 3, ckpt->latent_scale, 1, "latent", "image"};
    limn_status st = run_half(image, &v, in, h, w, err);
    limn_mem_free(in);
    return st;
}

limn_status limn_vae_encode(float *latent, limn_checkpoint *ckpt, const float *image,
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
    float *out = limn_mem_aligned((size_t)(c * n) * sizeof *out);
    if (!out) return limn_fail(err, LIMN_E_NOMEM, "no memory for a latent");
    vae_half v = {
        opt, ckpt, false, 3, c, 1, ckpt->latent_scale, "image", opt->tiny ? "latent" : "moments"};
    limn_status st = run_half(out, &v, image, height, width, err);
    if (st == LIMN_OK) limn_interleaved_to_planar(latent, out, c, n, c);
    for (int64_t i = 0; i < c * n && st == LIMN_OK; i++) latent[i] = (latent[i] - shift) * scale;
    limn_mem_free(out);
    return st;
}
