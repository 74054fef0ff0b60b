/* SPDX-License-Identifier: MIT */
/*
 * The driver: cuts a product into tiles of rows x panels, one task each.
 *
 * A task walks the k blocks; for each it runs the micro-kernel over its panels, leaving sums in a
 * tile of scratch memory (one panel's worth when there is one block), and after the last block
 * sends the sums through the epilogue while they are still in L1. Cutting never changes a result:
 * every sum runs over the same blocks in the same order.
 */
#include "kernels/gemm_run.h"

#include <math.h>
#include <string.h>

enum {
    TILE_ROWS = 192,         /* rows of one task, about; A's part of a k block stays in L2 */
    TILE_ROWS_EXPAND = 384,  /* more when every task expands the weights for itself */
    TILE_FLOATS = 64 * 1024, /* sums that a task keeps between k blocks: 256 KiB */
    BLOCK_WORDS_MAX = 1280,  /* words of a k block of a matrix */
    FIX_CHANNELS_MAX = 1280, /* channels of a k block in fixed point */
    EXPAND_WORDS_MAX = 512,  /* the same when the block is expanded in scratch */
    CHUNK_ROWS = 30,         /* rows that are multiplied, then sent out while they are in L1 */
    SMALL_ROWS = 6           /* up to this many rows a task takes all its panels at once */
};

typedef struct run_plan {
    limn_words words;
    int word_elems;
    int64_t block; /* channels per k block */
    int blocks;
    int rows; /* of a tile, at most */
    int64_t m_tiles, n_tiles;
    int64_t units;   /* panels, or pairs of a panel of each half */
    int unit_panels; /* 1 or 2 */
    int64_t panels;  /* units of a tile, at most */
    bool expand;
    size_t table_bytes, tile_bytes, expand_bytes, half_bytes; /* per worker */
    size_t worker_bytes;
} run_plan;

static int64_t ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

static int64_t round_up(int64_t n, int64_t to) {
    return ceil_div(n, to) * to;
}

/* Channels per k block: convolutions are packed in blocks; a matrix is cut evenly. */
static int64_t choose_block(const limn_packed *w, const run_plan *p) {
    if (w->taps > 1) return w->block;
    int64_t unit = p->word_elems * 4, most = (int64_t)BLOCK_WORDS_MAX * p->word_elems;
    if (w->fix_block > 0) {
        unit = w->fix_block;
        most = FIX_CHANNELS_MAX / unit * unit;
    }
    if (p->expand) {
        int elems = limn_dtype_get(w->row_dtype)->block;
        if (elems > 1) unit = elems;
        most = (int64_t)EXPAND_WORDS_MAX * p->word_elems;
    }
    int64_t blocks = ceil_div(w->ic_pad, most);
    int64_t block = round_up(ceil_div(w->ic_pad, blocks), unit);
    return block < w->ic_pad ? block : w->ic_pad;
}

/* Cuts [m, panels] so that the slowest thread has least to do. Costs are in units of one row times
 * one panel: a panel costs some rows for bringing its weights in (and expanding them), a row a
 * little for bringing x in. */
static void choose_tiles(const limn_packed *w, int mr, int64_t m, int threads, run_plan *p) {
    int64_t rows_max = round_up(p->expand ? TILE_ROWS_EXPAND : TILE_ROWS, mr);
    int64_t unit_nr = (int64_t)w->nr * p->unit_panels;
    int64_t panels_max = p->blocks > 1 ? TILE_FLOATS / (rows_max * unit_nr) : p->units;
    if (m < rows_max) panels_max = panels_max * rows_max / round_up(m, mr);
    if (panels_max < 1) panels_max = 1;
    double best = HUGE_VAL, panel_cost = p->expand ? 30 : 3, row_cost = 0.5;
    int64_t m_min = ceil_div(m, rows_max), n_min = ceil_div(p->units, panels_max);
    for (int64_t mt = m_min; mt <= m_min + 2 * threads && (mt - 1) * mr < m; mt++) {
        int64_t rows = m < mr ? m : round_up(ceil_div(m, mt), mr), real_mt = ceil_div(m, rows);
        for (int64_t nt = n_min; nt <= n_min + 4 * threads && nt <= p->units; nt++) {
            int64_t panels = ceil_div(p->units, nt), real_nt = ceil_div(p->units, panels);
            int64_t rounds = ceil_div(real_mt * real_nt, threads);
            double cost = (double)rounds * ((double)(rows * panels) + panel_cost * (double)panels +
                                            row_cost * (double)rows);
            /* among equals many small tasks even out a disturbed core */
            if (cost < best * 0.999) {
                best = cost;
                p->rows = (int)rows;
                p->panels = panels;
                p->m_tiles = real_mt;
                p->n_tiles = real_nt;
            }
        }
    }
}

static run_plan make_plan(const limn_kernels *k, const limn_packed *w, int64_t m, bool gated,
                          int threads) {
    run_plan p = {.words = limn_packed_words(w, k)};
    p.word_elems = limn_words_elems(p.words);
    p.expand = w->store == LIMN_STORE_ROWS;
    p.unit_panels = gated ? 2 : 1;
    p.units = w->panels / p.unit_panels;
    p.block = choose_block(w, &p);
    p.blocks = (int)ceil_div(w->ic_pad, p.block);
    choose_tiles(w, k->gemm.mr, m, threads, &p);
    bool at_once = p.blocks > 1 || p.rows <= SMALL_ROWS;
    size_t panels = (size_t)p.unit_panels * (at_once ? (size_t)p.panels : 1);
    p.table_bytes = limn_gemm_align((size_t)w->taps * (size_t)p.rows * sizeof(void *));
    p.tile_bytes = limn_gemm_align(panels * (size_t)p.rows * (size_t)w->nr * 4);
    p.expand_bytes = p.expand ? limn_gemm_align((size_t)p.block * (size_t)w->nr * 4) * 2 : 0;
    p.half_bytes = gated ? limn_gemm_align((size_t)CHUNK_ROWS * (size_t)w->nr * 4) : 0;
    p.worker_bytes = p.table_bytes + p.tile_bytes + p.expand_bytes + p.half_bytes;
    return p;
}

size_t limn_gemm_scratch_bytes(const limn_kernels *k, const limn_packed *w, int64_t m, bool gated,
                               int threads) {
    if (m <= 0) return 0;
    return make_plan(k, w, m, gated, threads).worker_bytes * (size_t)threads;
}

typedef struct run_state {
    const limn_gemm_job *job;
    run_plan plan;
} run_state;

/* One task's place in the product. */
typedef struct tile_pos {
    int64_t row0, panel0;
    int rows, panels;
    float *room; /* of gated products: sums of one chunk of one panel */
} tile_pos;

static limn_gemm_finish finish_of(const limn_gemm_job *job, int64_t row0, int rows, int64_t panel,
                                  int panels, float *c) {
    const limn_packed *w = job->w;
    const limn_epilogue *e = job->epi;
    int64_t col = panel * w->nr, cols = (int64_t)panels * w->nr;
    size_t y_size = job->y_bf16 ? 2 : 4;
    bool res_bf16 = e->residual_dtype == LIMN_BF16;
    limn_gemm_finish f = {
        .c = c,
        .m = rows,
        .n = (int)(w->n - col < cols ? w->n - col : cols),
        .bias = e->bias ? e->bias + col : NULL,
        .add = e->add ? e->add + col : NULL,
        .add_stride = w->n,
        .add_rows = e->add_rows,
        .row0 = row0,
        .act = e->act,
        .slope = e->slope,
        .scale = e->scale,
        .res_stride = e->residual_stride,
        .y = (char *)job->y + (size_t)(row0 * job->y_stride + col) * y_size,
        .y_stride = job->y_stride,
        .res_bf16 = res_bf16,
        .y_bf16 = job->y_bf16,
    };
    if (e->residual)
        f.res = (const char *)e->residual +
                (size_t)(row0 * e->residual_stride + col) * (res_bf16 ? 2 : 4);
    if (w->store == LIMN_STORE_I8X4) {
        f.row_scale = job->row_scale + row0;
        f.col_scale = w->col_scale + col;
        f.col_fix = job->ex->k->gemm.int8_words == LIMN_WORDS_U8X4 ? w->col_sum + col : NULL;
    }
    return f;
}

void limn_gemm_finish_panels(const limn_gemm_job *job, int64_t row0, int rows, int64_t panel,
                             int panels, float *c) {
    limn_gemm_finish f = finish_of(job, row0, rows, panel, panels, c);
    job->ex->k->gemm.finish(&f);
}

/* Sums of a panel of each half get their bias and int8 scales, then value * act(gate) goes out.
 * `room` holds one of them; the other goes where the first one's sums were. They are rounded as y
 * is, as a product by itself and a gated unit after it would. */
static void finish_gated(const limn_gemm_job *job, int64_t row0, int rows, int64_t panel,
                         float *first, float *second, float *room) {
    const limn_packed *w = job->w;
    float *sums[] = {first, second}, *half[] = {room, first};
    for (int i = 0; i < 2; i++) {
        limn_gemm_finish f = finish_of(job, row0, rows, panel + i * w->panels / 2, 1, sums[i]);
        f.act = LIMN_ACT_NONE;
        f.y = half[i];
        f.y_stride = w->nr;
        job->ex->k->gemm.finish(&f);
    }
    bool second_gate = job->epi->gate == LIMN_GATE_SECOND;
    limn_dtype type = job->y_bf16 ? LIMN_BF16 : LIMN_F32;
    size_t at = (size_t)(row0 * job->y_stride + panel * w->nr) * (job->y_bf16 ? 2 : 4);
    limn_glu_args a = {.y = {(char *)job->y + at, type, job->y_stride},
                       .value = {half[second_gate ? 0 : 1], type, w->nr, 1, false},
                       .gate = {half[second_gate ? 1 : 0], type, w->nr, 1, false},
                       .rows = rows,
                       .cols = w->nr,
                       .act = job->epi->act};
    job->ex->k->elementwise.glu(&a);
}

void limn_gemm_finish_panel(const limn_gemm_job *job, int64_t row0, int rows, int64_t panel,
                            float *c) {
    limn_gemm_finish_panels(job, row0, rows, panel, 1, c);
}

/* The same from rows of outputs, which are in panel order as they lie in the file. */
static void expand_input_major(const run_state *s, float *out, float *tmp, int64_t panel,
                               int64_t c0, int64_t n) {
    const limn_packed *w = s->job->w;
    const limn_gemm_kernels *g = &s->job->ex->k->gemm;
    bool pairs = s->plan.words == LIMN_WORDS_BF16X2;
    int64_t col = panel * w->nr, cols = w->n - col < w->nr ? w->n - col : w->nr;
    const char *from = (const char *)w->data + (size_t)c0 * w->row_bytes +
                       (size_t)col * (size_t)limn_dtype_get(w->row_dtype)->bytes;
    float *to = pairs ? tmp : out;
    for (int64_t c = 0; c < n; c++, from += w->row_bytes, to += w->nr) {
        g->expand[w->row_dtype](to, from, (size_t)cols);
        memset(to + cols, 0, (size_t)(w->nr - cols) * sizeof *to);
    }
    uint16_t *half = (uint16_t *)out;
    for (int64_t c = 0; pairs && c < n; c++)
        for (int r = 0; r < w->nr; r++)
            half[(c / 2 * w->nr + r) * 2 + c % 2] = limn_f32_to_bf16(tmp[c * w->nr + r]);
}

/* Expands [c0, c0 + n) of the nr rows of a panel into panel order, as f32 or as bf16 pairs; `out`
 * and `tmp` hold [nr][block] f32. */
static void expand_block(const run_state *s, float *out, float *tmp, int64_t panel, int64_t c0,
                         int64_t n) {
    const limn_packed *w = s->job->w;
    const limn_gemm_kernels *g = &s->job->ex->k->gemm;
    const limn_dtype_info *info = limn_dtype_get(w->row_dtype);
    bool pairs = s->plan.words == LIMN_WORDS_BF16X2;
    size_t stride = (size_t)s->plan.block, at = (size_t)(c0 / info->block) * (size_t)info->bytes;
    for (int r = 0; r < w->nr; r++) {
        int64_t row = panel * w->nr + r;
        float *to = tmp + (size_t)r * stride, *row_f32 = pairs ? out : to;
        if (row >= w->n) {
            memset(to, 0, (size_t)n * sizeof *to);
            continue;
        }
        g->expand[w->row_dtype](row_f32, (const char *)w->data + (size_t)row * w->row_bytes + at,
                                (size_t)n);
        if (pairs) g->f32_to_bf16((uint16_t *)to, row_f32, (size_t)n);
    }
    g->transpose(out, tmp, stride, (size_t)(n / s->plan.word_elems));
}

void limn_gemm_fetch_outputs(const limn_gemm_job *job, int64_t row0, int rows, int64_t panel) {
    const limn_epilogue *e = job->epi;
    size_t col = (size_t)(panel * job->w->nr), size = job->y_bf16 ? 2 : 4;
    size_t res_size = e->residual_dtype == LIMN_BF16 ? 2 : 4;
    const char *y = (const char *)job->y + ((size_t)(row0 * job->y_stride) + col) * size;
    const char *res = e->residual;
    if (res == job->y) res = NULL;
    if (res) res += ((size_t)(row0 * e->residual_stride) + col) * res_size;
    for (int r = 0; r < rows; r++, y += (size_t)job->y_stride * size) {
        __builtin_prefetch(y, 1, 3);
        if (!res) continue;
        __builtin_prefetch(res, 0, 3);
        res += (size_t)e->residual_stride * res_size;
    }
}

/* One k block of one step of panels, a chunk of rows at a time; the last block is sent out. `next`
 * is what the task multiplies with after this. */
static void run_step(const run_state *s, const tile_pos *t, limn_gemm_panel *args, limn_store store,
                     int64_t panel, bool last, const char *next, size_t next_bytes) {
    const limn_gemm_job *job = s->job;
    const void *const *rows = args->rows;
    float *c = args->c;
    int chunks = (t->rows + CHUNK_ROWS - 1) / CHUNK_ROWS;
    bool keep = s->plan.blocks > 1;
    for (int i = 0, r = 0; r < t->rows; i++, r += CHUNK_ROWS) {
        args->rows = rows + r;
        args->m = t->rows - r < CHUNK_ROWS ? t->rows - r : CHUNK_ROWS;
        args->c = c + (keep ? r * job->w->nr : 0);
        args->fetch[0] = next ? next + next_bytes / (size_t)chunks * (size_t)i : NULL;
        args->fetch_bytes[0] = next_bytes / (size_t)chunks;
        if (last) limn_gemm_fetch_outputs(job, t->row0 + r, args->m, panel);
        job->ex->k->gemm.panel[store](args);
        if (last && s->plan.unit_panels > 1)
            finish_gated(job, t->row0 + r, args->m, panel, args->c, args->c + args->c_stride,
                         t->room);
        for (int q = 0; q < args->panels && last && s->plan.unit_panels == 1; q++)
            limn_gemm_finish_panel(job, t->row0 + r, args->m, panel + q,
                                   args->c + (size_t)q * args->c_stride);
    }
    args->rows = rows;
}

static void run_task(void *arg, size_t task, int worker) {
    const run_state *s = arg;
    const run_plan *p = &s->plan;
    const limn_gemm_job *job = s->job;
    const limn_packed *w = job->w;
    if (limn_exec_cancelled(job->ex)) return;
    int64_t mi = (int64_t)task / p->n_tiles, ni = (int64_t)task % p->n_tiles;
    tile_pos t = {.row0 = mi * p->rows, .panel0 = ni * p->panels};
    t.rows = (int)(job->m - t.row0 < p->rows ? job->m - t.row0 : p->rows);
    t.panels = (int)(p->units - t.panel0 < p->panels ? p->units - t.panel0 : p->panels);
    char *mine = (char *)job->scratch + (size_t)worker * p->worker_bytes;
    const void **table = (const void **)mine;
    float *tile = (float *)(mine + p->table_bytes);
    float *expanded = (float *)(mine + p->table_bytes + p->tile_bytes);
    t.room = (float *)(mine + p->table_bytes + p->tile_bytes + p->expand_bytes);
    job->fill_rows(job, table, (size_t)p->rows, t.row0, t.rows);
    bool gated = p->unit_panels > 1;
    int step = p->rows <= SMALL_ROWS && !p->expand && !gated ? t.panels : 1;
    bool keep = p->blocks > 1 || step > 1;
    limn_store store = w->store;
    if (p->expand) store = p->word_elems > 1 ? LIMN_STORE_BF16X2 : LIMN_STORE_F32;
    size_t tile_floats = (size_t)t.rows * (size_t)w->nr;
    limn_gemm_panel args = {.rows = table,
                            .rows_stride = (size_t)p->rows,
                            .segs = w->taps,
                            .nr = w->nr,
                            .panels = gated ? 2 : step,
                            .b_stride = w->panel_bytes * (gated ? (size_t)p->units : 1),
                            .c_stride = tile_floats};
    args.fix_words = (int)(w->fix_block / 2);
    for (int b = 0; b < p->blocks; b++) {
        int64_t c0 = b * p->block, n = w->ic_pad - c0 < p->block ? w->ic_pad - c0 : p->block;
        args.words = (int)(n / p->word_elems);
        args.row_offset = limn_words_bytes(p->words, c0);
        args.accumulate = b > 0;
        size_t fixes = w->fix_block > 0 ? (size_t)(c0 / w->fix_block) : 0; /* blocks before */
        args.scale_offset = limn_words_bytes(p->words, w->ic_pad) + fixes * sizeof(float);
        for (int q = 0; q < t.panels; q += step) {
            int64_t panel = t.panel0 + q;
            args.c = tile + (keep ? (size_t)(q * p->unit_panels) * tile_floats : 0);
            if (p->expand) {
                (w->input_major ? expand_input_major : expand_block)(
                    s, expanded, expanded + p->block * w->nr, panel, c0, n);
                args.b = expanded;
            } else {
                args.b = (const char *)w->data + (size_t)panel * w->panel_bytes +
                         (size_t)c0 * (size_t)w->taps * w->channel_bytes +
                         fixes * (size_t)w->nr * sizeof(float);
            }
            bool more = !p->expand && q + step < t.panels;
            run_step(s, &t, &args, store, panel, b + 1 == p->blocks,
                     more ? (const char *)args.b + (size_t)step * w->panel_bytes : NULL,
                     more ? (size_t)n * w->channel_bytes * (size_t)w->taps : 0);
        }
    }
}

limn_status limn_gemm_run(const limn_gemm_job *job, limn_err *err) {
    if (job->m <= 0) return LIMN_OK;
    run_state s = {.job = job,
                   .plan = make_plan(job->ex->k, job->w, job->m, job->epi->gate != LIMN_GATE_NONE,
                                     limn_pool_threads(job->ex->pool))};
    limn_pool_run(job->ex->pool, run_task, &s, (size_t)(s.plan.m_tiles * s.plan.n_tiles));
    if (limn_exec_cancelled(job->ex)) return limn_fail(err, LIMN_E_CANCELLED, "cancelled");
    return LIMN_OK;
}

limn_status limn_epilogue_check(const limn_epilogue *e, limn_dtype y_dtype, int64_t y_stride,
                                int64_t n, limn_err *err) {
    if (y_dtype != LIMN_F32 && y_dtype != LIMN_BF16)
        return limn_fail(err, LIMN_E_UNSUPPORTED, "a product cannot be written as %s",
                         limn_dtype_get(y_dtype)->name);
    if (e->gate != LIMN_GATE_NONE)
        return limn_fail(err, LIMN_E_UNSUPPORTED, "only a product of matrices can be gated");
    if (e->residual && e->residual_dtype != LIMN_F32 && e->residual_dtype != LIMN_BF16)
        return limn_fail(err, LIMN_E_UNSUPPORTED, "a residual of %s cannot be added",
                         limn_dtype_get(e->residual_dtype)->name);
    if (y_stride < n || (e->residual && e->residual_stride < n) || (e->add && e->add_rows <= 0))
        return limn_fail(err, LIMN_E_SHAPE, "rows of %lld outputs do not fit their stride",
                         (long long)n);
    return LIMN_OK;
}

void limn_gemm_convert_row(const limn_gemm_kernels *g, void *dst, limn_words words, const void *src,
                           bool src_bf16, int64_t k, int64_t k_pad, float inv_scale, float *tmp) {
    const float *f = src;
    size_t n = (size_t)k;
    char *end = (char *)dst + limn_words_bytes(words, k);
    size_t pad = limn_words_bytes(words, k_pad - k);
    if (words == LIMN_WORDS_BF16X2 && src_bf16) {
        memcpy(dst, src, n * 2);
        memset(end, 0, pad);
        return;
    }
    if (src_bf16) {
        g->bf16_to_f32(tmp, src, n);
        f = tmp;
    }
    switch (words) {
    case LIMN_WORDS_F32: memcpy(dst, f, n * 4); break;
    case LIMN_WORDS_BF16X2: g->f32_to_bf16(dst, f, n); break;
    case LIMN_WORDS_U8X4: g->quantise_u8(dst, f, n, inv_scale); break;
    default: g->quantise_s16(dst, f, n, inv_scale); break;
    }
    memset(end, words == LIMN_WORDS_U8X4 ? 0x80 : 0, pad); /* 128 stands for zero */
}

void limn_gemm_fix_row(const limn_gemm_kernels *g, void *dst, const limn_packed *w, const void *src,
                       bool src_bf16, float *tmp) {
    int16_t *codes = dst;
    if (src_bf16) {
        g->bf16_to_f32(tmp, src, (size_t)w->k);
        src = tmp;
    }
    memset(codes + w->k, 0, (size_t)(w->ic_pad - w->k) * sizeof *codes);
    g->fix_row(codes, (float *)(void *)(codes + w->ic_pad), src, (size_t)w->k, (size_t)w->fix_block,
               LIMN_FIX_X);
}
