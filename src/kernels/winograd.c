/* SPDX-License-Identifier: MIT */
/*
 * The driver of winograd.h: which convolutions, in which pieces.
 *
 * Tiles of all images are numbered row by row and go in *passes* of as many as V may hold. A pass
 * has two phases over the pool: the tiles' inputs are transformed into V, shared by all; then tasks
 * of some panels times some blocks of tiles each
 *
 *     for each chunk of channels: transform the panels' weights into U, then for each block,
 *         position and panel run the micro-kernel of the direct form on V and U, summing in C
 *     transform C to outputs and send them through the epilogue, row by row of pixels
 *
 * U and C belong to a worker. V and U come from far, C goes there: the micro-kernel asks for the
 * next position of V and the next panel of U while it works on the present ones. A plane is what
 * one position holds; planes lie an odd number of cache lines apart, so that the 36 that a
 * transform touches do not meet in one set of a cache.
 */
#include "kernels/winograd.h"

#include <math.h>
#include <string.h>

#include "kernels/conv.h"
#include "kernels/gemm_run.h"

enum {
    BLOCK_TILES = 64,     /* rows of a product: a plane of V and a panel of U lie in L2 */
    CHUNK = 320,          /* channels of a product: a panel of U lies in L1 */
    GROUP = 8,            /* panels of a task, at most */
    THIN_TILES = 48,      /* fewer are thin: U must lie in L2, */
    THIN_CHUNK = 64,      /* so that it holds one panel of few channels */
    PASS_TILES = 256,     /* enough for the transform of weights to cost little; V stays near */
    V_FLOATS = 6 << 20,   /* of the tiles of a pass, at most: 24 MiB */
    C_FLOATS = 640 << 10, /* sums of a task, about: 2.5 MiB */
    SEG_TILES = 16,       /* neighbouring tiles whose outputs are finished together */
    INPUT_TILES = 8       /* of a task of the first phase */
};

typedef struct wg_plan {
    int64_t oh, ow;
    int64_t rows, cols;  /* tiles of an image */
    int64_t tiles;       /* of all images */
    int64_t pass, block; /* tiles of a pass and of a block; a pass holds whole blocks */
    int64_t blocks;      /* of a pass */
    bool thin;           /* so few tiles that transforming weights costs most */
    int64_t chunk;       /* channels, a multiple of the packed weight's blocks */
    int64_t chunks;
    int64_t group;                    /* panels of a task */
    int64_t split;                    /* parts of a pass's blocks that are tasks of their own */
    size_t v_plane, c_plane, u_plane; /* floats between positions */
    size_t v_bytes, zero_bytes, u_bytes, c_bytes, out_bytes;
} wg_plan;

static int64_t ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

/* Whole cache lines of floats, an odd number of them. */
static size_t odd_lines(int64_t floats) {
    return ((size_t)(floats + 15) / 16 | 1) * 16;
}

/* Time of both ways per channel and output, in cycles of an 8-float FMA machine as measured on Zen
 * 3: a pixel costs the direct form its nine multiplications; here weights are transformed once, and
 * a tile costs its 36 multiplications and its share of the two other transforms. */
static bool is_faster(const limn_conv_shape *s, const limn_packed *w, int64_t oh, int64_t ow) {
    /* bf16 products are twice as fast; measured on Zen 5, where 16 x 16 gain and 8 x 8 lose */
    double pixel = w->store == LIMN_STORE_BF16X2 ? 2.5 : 5.3;
    double tiles = (double)(ceil_div(oh, LIMN_WG_OUT) * ceil_div(ow, LIMN_WG_OUT));
    double outs = (double)(w->panels * w->nr), direct = pixel * (double)(oh * ow);
    return 77 + tiles * (21 + 250 / outs + 250 / (double)s->ic) < direct;
}

bool limn_winograd_takes(const limn_kernels *k, const limn_conv_args *a) {
    const limn_conv_shape *s = &a->shape;
    int64_t oh, ow;
    if (s->kh != 3 || s->kw != 3 || s->stride != 1 || s->dilation != 1 || s->groups != 1)
        return false;
    limn_words words = limn_packed_words(a->w, k);
    bool pairs = words == LIMN_WORDS_BF16X2 && a->w->store == LIMN_STORE_BF16X2 && s->ic % 2 == 0;
    if (a->w->compute != LIMN_COMPUTE_HALF || (words != LIMN_WORDS_F32 && !pairs) ||
        (a->x_dtype != LIMN_F32 && a->x_dtype != LIMN_BF16) || !limn_conv_out(s, &oh, &ow))
        return false;
    return is_faster(s, a->w, oh, ow);
}

/* Panels of a task and parts of a pass: the least work of the busiest thread. A panel's transform
 * costs some tiles, reading V again for the next panels a part of the products. */
static void choose_tasks(wg_plan *p, const limn_packed *w, int threads) {
    double best = HUGE_VAL;
    for (int64_t g = 1; g <= (p->thin ? 1 : GROUP) && g <= w->panels; g++)
        for (int64_t s = 1; s <= p->blocks; s++) {
            int64_t part = ceil_div(p->blocks, s), tiles = part * p->block;
            if (g * tiles * w->nr * LIMN_WG_POS > C_FLOATS && (g > 1 || part > 1)) continue;
            if (ceil_div(p->blocks, part) != s) continue;
            int64_t rounds = ceil_div(ceil_div(w->panels, g) * s, threads);
            double cost =
                (double)rounds * ((double)g * ((double)tiles + 3.5) + 0.15 * (double)tiles);
            if (cost >= best * 0.999) continue;
            best = cost;
            p->group = g;
            p->split = s;
        }
}

static wg_plan make_plan(const limn_conv_args *a, int threads) {
    const limn_packed *w = a->w;
    wg_plan p = {0};
    limn_conv_out(&a->shape, &p.oh, &p.ow);
    p.rows = ceil_div(p.oh, LIMN_WG_OUT);
    p.cols = ceil_div(p.ow, LIMN_WG_OUT);
    p.tiles = a->shape.n * p.rows * p.cols;
    int64_t most = V_FLOATS / (LIMN_WG_POS * w->ic);
    if (most > PASS_TILES) most = PASS_TILES;
    if (most < BLOCK_TILES) most = BLOCK_TILES;
    p.pass = ceil_div(p.tiles, ceil_div(p.tiles, most));
    p.blocks = ceil_div(p.pass, BLOCK_TILES);
    p.block = ceil_div(p.pass, p.blocks);
    p.pass = p.block * p.blocks;
    p.thin = p.pass < THIN_TILES;
    p.chunk = w->ic;
    int64_t chunk = p.thin ? THIN_CHUNK : CHUNK;
    if (w->ic > chunk) {
        p.chunk = ceil_div(w->ic, ceil_div(w->ic, chunk));
        p.chunk = ceil_div(p.chunk, w->block) * w->block;
    }
    p.chunks = ceil_div(w->ic, p.chunk);
    choose_tasks(&p, w, threads);
    size_t part = p.chunks > 1 ? (size_t)ceil_div(p.blocks, p.split) : 1;
    p.v_plane = odd_lines(p.block * p.chunk);
    p.c_plane = odd_lines(p.block * w->nr);
    p.u_plane = odd_lines(p.chunk * w->nr);
    p.v_bytes = p.v_plane * LIMN_WG_POS * (size_t)(p.blocks * p.chunks) * sizeof(float);
    p.zero_bytes = limn_gemm_align((size_t)w->ic * sizeof(float));
    p.u_bytes = p.u_plane * LIMN_WG_POS * (size_t)p.group * sizeof(float);
    p.c_bytes = p.c_plane * LIMN_WG_POS * (size_t)p.group * part * sizeof(float);
    p.out_bytes = (size_t)(LIMN_WG_OUT * LIMN_WG_OUT * SEG_TILES * w->nr) * sizeof(float);
    return p;
}

static size_t worker_bytes(const wg_plan *p) {
    return p->u_bytes + p->c_bytes + p->out_bytes;
}

size_t limn_winograd_scratch_bytes(const limn_kernels *k, const limn_conv_args *a, int threads) {
    (void)k;
    wg_plan p = make_plan(a, threads);
    return p.v_bytes + p.zero_bytes + worker_bytes(&p) * (size_t)threads;
}

typedef struct wg_state {
    const limn_exec *ex;
    const limn_conv_args *a;
    wg_plan p;
    limn_gemm_job job; /* of limn_gemm_finish_panel */
    int64_t first;     /* tile of this pass */
    int64_t tiles;     /* of this pass */
    float *v;
    const float *zeros;
    char *workers;
} wg_state;

static size_t pixel_size(const wg_state *s) {
    return s->a->x_dtype == LIMN_BF16 ? 2 : 4;
}

/* The 36 pixels under a tile, the zeros where it hangs over. */
static void tile_pixels(const wg_state *s, int64_t tile, const void **px) {
    const limn_conv_shape *c = &s->a->shape;
    const wg_plan *p = &s->p;
    int up = c->upsample2;
    int64_t img = tile / (p->rows * p->cols), in = tile % (p->rows * p->cols);
    int64_t y0 = in / p->cols * LIMN_WG_OUT - c->pad_t, x0 = in % p->cols * LIMN_WG_OUT - c->pad_l;
    size_t pitch = (size_t)s->a->x_stride * pixel_size(s);
    const char *base = (const char *)s->a->x + (size_t)(img * c->h * c->w) * pitch;
    for (int64_t y = y0; y < y0 + LIMN_WG_IN; y++)
        for (int64_t x = x0; x < x0 + LIMN_WG_IN; x++) {
            bool in_image = y >= 0 && x >= 0 && y < c->h << up && x < c->w << up;
            *px++ = in_image ? base + (size_t)((y >> up) * c->w + (x >> up)) * pitch
                             : (const void *)s->zeros;
        }
}

/* Position 0 of a block's chunk: [block tiles][channels of the chunk]. */
static float *v_block(const wg_state *s, int64_t block, int64_t chunk) {
    return s->v + (size_t)(block * s->p.chunks + chunk) * LIMN_WG_POS * s->p.v_plane;
}

static int64_t chunk_size(const wg_state *s, int64_t chunk) {
    int64_t left = s->a->shape.ic - chunk * s->p.chunk;
    return left < s->p.chunk ? left : s->p.chunk;
}

static void input_task(void *arg, size_t task, int worker) {
    const wg_state *s = arg;
    const wg_plan *p = &s->p;
    const void *px[LIMN_WG_POS];
    bool bf16 = s->a->x_dtype == LIMN_BF16;
    int64_t t = (int64_t)task * INPUT_TILES, end = t + INPUT_TILES;
    (void)worker;
    if (limn_exec_cancelled(s->ex)) return;
    for (; t < end && t < s->tiles; t++) {
        tile_pixels(s, s->first + t, px);
        for (int64_t j = 0; j < p->chunks; j++) {
            int64_t n = chunk_size(s, j);
            float *v = v_block(s, t / p->block, j) + t % p->block * n;
            s->ex->k->winograd.input(v, p->v_plane, px, bf16, (size_t)n);
            for (int i = 0; i < LIMN_WG_POS; i++)
                if (px[i] != s->zeros) px[i] = (const char *)px[i] + (size_t)n * pixel_size(s);
        }
    }
}

/* U of one panel: channels [c0, c0 + n), which begin and end with blocks of the packed weight. */
static void panel_weights(const wg_state *s, float *u, int64_t panel, int64_t c0, int64_t n) {
    const limn_packed *w = s->a->w;
    const char *data = (const char *)w->data + (size_t)panel * w->panel_bytes;
    for (int64_t c = c0; c < c0 + n; c += w->block) {
        int64_t in = w->ic - c < w->block ? w->ic - c : w->block;
        s->ex->k->winograd.weights(
            u + (c - c0) * w->nr, s->p.u_plane, data + (size_t)(c * w->taps) * w->channel_bytes,
            w->store, (size_t)in * w->channel_bytes, (size_t)w->nr, (size_t)(in * w->nr));
    }
}

/* Outputs of the tiles [t, t + n) of one tile row from their sums, which begin at c. */
static void finish_tiles(const wg_state *s, const float *c, float *out, int64_t t, int64_t n,
                         int64_t panel) {
    const wg_plan *p = &s->p;
    size_t nr = (size_t)s->a->w->nr, row = (size_t)n * LIMN_WG_OUT * nr;
    int64_t image_row = t / p->cols, img = image_row / p->rows, x = t % p->cols * LIMN_WG_OUT;
    int64_t y = image_row % p->rows * LIMN_WG_OUT;
    int64_t width = p->ow - x < n * LIMN_WG_OUT ? p->ow - x : n * LIMN_WG_OUT;
    s->ex->k->winograd.output(out, row, c, p->c_plane, nr, (size_t)n);
    for (int i = 0; i < LIMN_WG_OUT && y + i < p->oh; i++)
        limn_gemm_finish_panel(&s->job, (img * p->oh + y + i) * p->ow + x, (int)width, panel,
                               out + (size_t)i * row);
}

/* A task's place in the product, and its memory. */
typedef struct wg_task {
    int64_t block0, block1, panel0;
    int panels;
    float *u, *c, *out;
    size_t u_panel, c_panel; /* floats between panels */
} wg_task;

static int64_t block_tiles(const wg_state *s, int64_t block) {
    int64_t left = s->tiles - block * s->p.block;
    return left < s->p.block ? left : s->p.block;
}

/* All outputs of a task's panels for one block. */
static void finish_block(const wg_state *s, const wg_task *t, const float *c, int64_t block) {
    int64_t first = s->first + block * s->p.block, n = block_tiles(s, block);
    for (int64_t i = 0; i < n;) {
        int64_t left = s->p.cols - (first + i) % s->p.cols, run = n - i;
        if (run > left) run = left;
        if (run > SEG_TILES) run = SEG_TILES;
        for (int q = 0; q < t->panels; q++)
            finish_tiles(s, c + (size_t)q * t->c_panel + i * s->a->w->nr, t->out, first + i, run,
                         t->panel0 + q);
        i += run;
    }
}

/* Sums of a block over one chunk of channels. */
static void block_product(const wg_state *s, const wg_task *t, float *c, int64_t block,
                          int64_t chunk) {
    const wg_plan *p = &s->p;
    const float *v = v_block(s, block, chunk);
    int64_t n = chunk_size(s, chunk);
    const void *rows[BLOCK_TILES];
    limn_gemm_panel args = {.rows = rows,
                            .rows_stride = BLOCK_TILES,
                            .m = (int)block_tiles(s, block),
                            .segs = 1,
                            .words = (int)n,
                            .panels = 1,
                            .nr = s->a->w->nr,
                            .accumulate = chunk > 0};
    size_t v_part = (size_t)(args.m * n) * sizeof(float) / (size_t)t->panels;
    for (int i = 0; i < args.m; i++) rows[i] = v + i * n;
    for (size_t pos = 0; pos < LIMN_WG_POS; pos++) {
        args.row_offset = pos * p->v_plane * sizeof(float);
        for (int q = 0; q < t->panels; q++) {
            bool last = q + 1 == t->panels;
            const float *next = t->u + (last ? 0 : (size_t)(q + 1) * t->u_panel);
            args.b = t->u + (size_t)q * t->u_panel + pos * p->u_plane;
            args.c = c + (size_t)q * t->c_panel + pos * p->c_plane;
            if (pos + 1 < LIMN_WG_POS) {
                args.fetch[0] = (const char *)(v + (pos + 1) * p->v_plane) + (size_t)q * v_part;
                args.fetch_bytes[0] = v_part;
            } else {
                args.fetch_bytes[0] = 0;
            }
            args.fetch[1] = (const char *)(next + (pos + last) * p->u_plane);
            args.fetch_bytes[1] =
                last && pos + 1 == LIMN_WG_POS ? 0 : (size_t)(n * args.nr) * sizeof(float);
            s->ex->k->gemm.panel[LIMN_STORE_F32](&args);
        }
    }
}

static void product_task(void *arg, size_t task, int worker) {
    const wg_state *s = arg;
    const wg_plan *p = &s->p;
    const limn_packed *w = s->a->w;
    if (limn_exec_cancelled(s->ex)) return;
    char *mine = s->workers + (size_t)worker * worker_bytes(p);
    int64_t part = ceil_div(p->blocks, p->split), blocks = ceil_div(s->tiles, p->block);
    wg_task t = {.block0 = (int64_t)task % p->split * part,
                 .panel0 = (int64_t)task / p->split * p->group,
                 .u = (float *)mine,
                 .c = (float *)(mine + p->u_bytes),
                 .out = (float *)(mine + p->u_bytes + p->c_bytes),
                 .u_panel = p->u_plane * LIMN_WG_POS,
                 .c_panel = p->c_plane * LIMN_WG_POS};
    t.block1 = t.block0 + part < blocks ? t.block0 + part : blocks;
    t.panels = (int)(w->panels - t.panel0 < p->group ? w->panels - t.panel0 : p->group);
    if (t.block0 >= t.block1) return; /* the last pass may be shorter */
    for (int64_t j = 0; j < p->chunks; j++) {
        for (int q = 0; q < t.panels; q++)
            panel_weights(s, t.u + (size_t)q * t.u_panel, t.panel0 + q, j * p->chunk,
                          chunk_size(s, j));
        for (int64_t b = t.block0; b < t.block1; b++) {
            int64_t slot = p->chunks > 1 ? b - t.block0 : 0;
            float *c = t.c + (size_t)(slot * p->group) * t.c_panel;
            block_product(s, &t, c, b, j);
            if (j + 1 == p->chunks) finish_block(s, &t, c, b);
        }
    }
}

limn_status limn_winograd_conv(const limn_exec *ex, const limn_conv_args *a, limn_err *err) {
    wg_state s = {.ex = ex, .a = a, .p = make_plan(a, limn_pool_threads(ex->pool))};
    char *scratch = ex->scratch;
    limn_epilogue epi = a->epi;
    epi.add_rows = s.p.oh * s.p.ow;
    s.v = ex->scratch;
    s.zeros = (const float *)(scratch + s.p.v_bytes);
    s.workers = scratch + s.p.v_bytes + s.p.zero_bytes;
    memset(scratch + s.p.v_bytes, 0, s.p.zero_bytes);
    s.job = (limn_gemm_job){.ex = ex,
                            .w = a->w,
                            .y = a->y,
                            .y_stride = a->y_stride,
                            .y_bf16 = a->y_dtype == LIMN_BF16,
                            .epi = &epi};
    size_t tasks = (size_t)(ceil_div(a->w->panels, s.p.group) * s.p.split);
    for (; s.first < s.p.tiles; s.first += s.p.pass) {
        s.tiles = s.p.tiles - s.first < s.p.pass ? s.p.tiles - s.first : s.p.pass;
        limn_pool_run(ex->pool, input_task, &s, (size_t)ceil_div(s.tiles, INPUT_TILES));
        limn_pool_run(ex->pool, product_task, &s, tasks);
        if (limn_exec_cancelled(ex)) return limn_fail(err, LIMN_E_CANCELLED, "cancelled");
    }
    return LIMN_OK;
}
