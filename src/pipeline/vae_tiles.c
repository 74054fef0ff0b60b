/* SPDX-License-Identifier: MIT */
/* Tiles that share their statistics; see vae_tiles.h. */
#include "pipeline/vae_tiles.h"

#include <math.h>
#include <stdio.h>

enum { CORE_MIN = 4, NAME = 32 };
/* Two passes that agree to this share of the largest value: a quarter of a colour step. */
static const double agreement = 2e-3;

/* Tiles along one side; all are `tile` units long, cores are `core` long but the last. */
typedef struct axis {
    int64_t total, core, halo, tile, count;
} axis;

typedef struct span {
    int64_t tile, first, last; /* start of the tile; its core [first, last) */
} span;

typedef struct norm_stats {
    double mean, m2; /* of one group, over the cores so far */
} norm_stats;

typedef struct run {
    const limn_vae_tiles *t;
    axis y, x;
    limn_program *program;
    bool given;
    int norms, groups;
    float eps;
    norm_stats *seen; /* [norms, groups] of this pass */
    float *shared;    /* [norms, 2, groups] of the pass before: mean, 1 / sqrt(var + eps) */
    double counted;   /* units whose statistics are in `seen` */
    double differs, largest;
    int done, expected; /* tiles, for the progress */
} run;

static axis axis_of(int64_t total, int64_t core, int64_t halo) {
    axis a = {.total = total, .core = core < total ? core : total, .halo = halo};
    a.tile = a.core + 2 * halo < total ? a.core + 2 * halo : total;
    a.count = (total + a.core - 1) / a.core;
    return a;
}

/* Tiles at the edges are moved inwards, so that all have one size. */
static span span_at(const axis *a, int64_t i) {
    span s = {.first = i * a->core};
    s.last = s.first + a->core < a->total ? s.first + a->core : a->total;
    s.tile = s.first - a->halo > 0 ? s.first - a->halo : 0;
    if (s.tile + a->tile > a->total) s.tile = a->total - a->tile;
    return s;
}

/* ---- programs ---- */
static void build(const limn_nn *nn, const limn_vae_tiles *t, int64_t h, int64_t w) {
    const limn_checkpoint *c = t->ckpt;
    int64_t side = t->decode ? 1 : t->in_side;
    limn_vae_request r = {1, h * side, w * side};
    if (t->opt->tiny && t->decode)
        limn_taesd_build_decoder(nn, &c->taesd_cfg, &r);
    else if (t->opt->tiny)
        limn_taesd_build_encoder(nn, &c->taesd_cfg, &r);
    else if (t->decode)
        limn_vae_build_decoder_part(nn, &c->vae_cfg, &r, LIMN_VAE_OUTER, t->split);
    else
        limn_vae_build_encoder_part(nn, &c->vae_cfg, &r, LIMN_VAE_OUTER, t->split);
}

static limn_status tile_graph(limn_graph **g, run *r, limn_err *err) {
    const limn_vae_tiles *t = r->t;
    limn_status st = limn_graph_new(g, err);
    if (st != LIMN_OK) return st;
    limn_nn_tiles tiles = {.unit_rows = r->y.tile, .given = r->given};
    limn_nn nn = {*g, limn_model_weights_find, t->opt->tiny ? t->ckpt->taesd : t->ckpt->vae};
    if (!t->opt->tiny) {
        tiles.window = limn_g_input(*g, "window", LIMN_I32, LIMN_SHAPE(4));
        limn_graph_set_tiles(*g, &tiles);
    }
    build(&nn, t, r->y.tile, r->x.tile);
    limn_graph_set_tiles(*g, NULL);
    r->norms = tiles.count;
    return LIMN_OK;
}

static limn_status tile_program(run *r, bool given, limn_err *err) {
    limn_graph *g = NULL;
    limn_program_free(&r->program);
    r->given = given;
    limn_status st = tile_graph(&g, r, err);
    return st == LIMN_OK ? limn_program_new(&r->program, r->t->opt->backend, &g, err) : st;
}

/* Smaller cores until a tile fits the memory. */
static limn_status choose_tiles(run *r, limn_err *err) {
    const limn_vae_tiles *t = r->t;
    const limn_backend *b = t->opt->backend;
    int64_t unit = t->ckpt->latent_scale, core = (t->opt->tile > 0 ? t->opt->tile : 512) / unit;
    int64_t halo = t->opt->tiny ? limn_taesd_halo(&t->ckpt->taesd_cfg, t->decode)
                                : limn_vae_halo(&t->ckpt->vae_cfg, t->decode, t->split);
    limn_plan_options o = b->v->plan_options(b);
    for (r->given = true;; core = core / 2 > CORE_MIN ? core / 2 : CORE_MIN) {
        limn_graph *g = NULL;
        limn_plan *plan = NULL;
        r->y = axis_of(t->height, core, halo);
        r->x = axis_of(t->width, core, halo);
        limn_status st = tile_graph(&g, r, err);
        if (st == LIMN_OK) st = limn_plan_build(&plan, &g, &o, err);
        if (st != LIMN_OK) return st;
        bool fits = plan->arena_bytes <= t->memory;
        limn_plan_free(&plan);
        if (fits || core <= CORE_MIN) return LIMN_OK;
    }
}

/* ---- one tile ---- */
/* Rows of `n` floats each, between arrays of different pitch. */
static void copy_rows(float *dst, int64_t dst_pitch, const float *src, int64_t src_pitch,
                      int64_t rows, int64_t n) {
    for (int64_t i = 0; i < rows; i++)
        memcpy(dst + i * dst_pitch, src + i * src_pitch, (size_t)n * sizeof *dst);
}

static void load_tile(run *r, const span *y, const span *x) {
    const limn_vae_tiles *t = r->t;
    const char *name = t->decode ? t->opt->tiny ? "latent" : "middle" : "image";
    int64_t s = t->in_side, c = t->in_channels, pitch = t->width * s * c;
    copy_rows(limn_program_input(r->program, name, NULL), r->x.tile * s * c,
              t->in + y->tile * s * pitch + x->tile * s * c, pitch, r->y.tile * s,
              r->x.tile * s * c);
    if (t->opt->tiny) return;
    int32_t *window = limn_program_input(r->program, "window", NULL);
    window[0] = (int32_t)(y->first - y->tile);
    window[1] = (int32_t)(x->first - x->tile);
    window[2] = (int32_t)(y->last - y->tile);
    window[3] = (int32_t)(x->last - x->tile);
    for (int i = 0; r->given && i < r->norms; i++) {
        char shared[NAME];
        snprintf(shared, sizeof shared, "shared.%d", i);
        memcpy(limn_program_input(r->program, shared, NULL), r->shared + i * 2 * r->groups,
               (size_t)(2 * r->groups) * sizeof(float));
    }
}

/* Joins the core's statistics to those of the cores before (Chan, Golub, LeVeque 1979); all norms
 * have the same share of pixels in a core, so units are weight enough. */
static void join_stats(run *r, double units) {
    double n = r->counted + units;
    for (int i = 0; i < r->norms; i++) {
        char name[NAME];
        snprintf(name, sizeof name, "stats.%d", i);
        const float *s = limn_program_output(r->program, name, NULL);
        for (int g = 0; g < r->groups; g++) {
            norm_stats *p = &r->seen[i * r->groups + g];
            double d = (double)s[g] - p->mean;
            p->m2 += (double)s[r->groups + g] * units + d * d * r->counted * units / n;
            p->mean += d * units / n;
        }
    }
    r->counted = n;
}

/* The core to its place, and how far it is from what was there. */
static void keep_core(run *r, const span *y, const span *x) {
    const limn_vae_tiles *t = r->t;
    const char *name = t->decode ? "image" : t->opt->tiny ? "latent" : "middle";
    limn_shape shape;
    const float *src = limn_program_output(r->program, name, &shape);
    int64_t s = t->out_side, c = t->out_channels, from_c = shape.dim[3];
    for (int64_t v = y->first * s; v < y->last * s; v++)
        for (int64_t u = x->first * s; u < x->last * s; u++) {
            const float *a = src + ((v - y->tile * s) * r->x.tile * s + u - x->tile * s) * from_c;
            float *b = t->out + (v * t->width * s + u) * c;
            for (int64_t k = 0; k < c; k++) {
                double d = fabs((double)a[k] - (double)b[k]), m = fabs((double)a[k]);
                if (!(d <= r->differs)) r->differs = d; /* NaN is a difference */
                if (m > r->largest) r->largest = m;
                b[k] = a[k];
            }
        }
}

static limn_status run_tile(run *r, int64_t i, bool keep, limn_err *err) {
    const limn_vae_options *o = r->t->opt;
    span y = span_at(&r->y, i / r->x.count), x = span_at(&r->x, i % r->x.count);
    load_tile(r, &y, &x);
    limn_status st = limn_program_run(r->program, o->cancel, err);
    if (st != LIMN_OK) return st;
    join_stats(r, (double)((y.last - y.first) * (x.last - x.first)));
    if (keep) keep_core(r, &y, &x);
    if (++r->done > r->expected) r->expected = r->done;
    if (o->done) o->done(o->user, r->done, r->expected);
    return LIMN_OK;
}

/* ---- passes ---- */
static void share_stats(run *r) {
    for (int i = 0; i < r->norms; i++)
        for (int g = 0; g < r->groups; g++) {
            const norm_stats *p = &r->seen[i * r->groups + g];
            float *to = r->shared + i * 2 * r->groups + g;
            to[0] = (float)p->mean;
            to[r->groups] = (float)(1.0 / sqrt(p->m2 / r->counted + (double)r->eps));
        }
    memset(r->seen, 0, (size_t)(r->norms * r->groups) * sizeof *r->seen);
    r->counted = 0;
}

static limn_status run_pass(run *r, limn_err *err) {
    limn_status st = LIMN_OK;
    r->differs = r->largest = 0;
    for (int64_t i = 0; i < r->y.count * r->x.count && st == LIMN_OK; i++)
        st = run_tile(r, i, true, err);
    return st;
}

limn_status limn_vae_tiles_run(const limn_vae_tiles *t, limn_err *err) {
    run r = {.t = t, .groups = t->opt->tiny ? 1 : t->ckpt->vae_cfg.groups};
    limn_status st = LIMN_OK;
    r.eps = t->ckpt->vae_cfg.norm_eps;
    LIMN_TRY(choose_tiles(&r, err));
    int64_t tiles = r.y.count * r.x.count;
    r.expected = (int)(r.norms > 0 ? 4 * tiles + 1 : tiles);
    size_t groups = (size_t)(r.norms * r.groups) + 1;
    r.seen = limn_mem_calloc(groups, sizeof *r.seen);
    r.shared = limn_mem_calloc(groups, 2 * sizeof *r.shared);
    LIMN_CHECK(err, r.seen && r.shared, LIMN_E_NOMEM, "no memory for the statistics of tiles");
    if (r.norms > 0) { /* a first guess: what the tile in the middle sees */
        LIMN_TRY(tile_program(&r, false, err));
        LIMN_TRY(run_tile(&r, r.y.count / 2 * r.x.count + r.x.count / 2, false, err));
        share_stats(&r);
    }
    LIMN_TRY(tile_program(&r, r.norms > 0, err));
    int64_t pixels = t->height * t->width * t->out_side * t->out_side;
    memset(t->out, 0, (size_t)(pixels * t->out_channels) * sizeof *t->out);
    for (int pass = 0; pass <= r.norms; pass++) {
        LIMN_TRY(run_pass(&r, err));
        if (pass > 0 && r.differs <= agreement * r.largest) break;
        share_stats(&r);
    }
out:
    limn_program_free(&r.program);
    limn_mem_free(r.seen);
    limn_mem_free(r.shared);
    return st;
}
