/* SPDX-License-Identifier: MIT */
/*
 * Products with quantised panels (LIMN_STORE_QUANT): rows of x are rounded to 8 bits once, then
 * tasks of panels run over them. Few rows unpack the panels as they go; more rows are cut into
 * tiles, and each tile expands a stretch of a panel into the first cache for all its rows. Both
 * give the same bits for a row, so a prompt may be read one token at a time or all at once.
 */
#include "kernels/gemm_run.h"
#include "kernels/quant_panel.h"

enum {
    QUANTISE_ROWS = 8,        /* per task */
    TILE_ROWS = 128,          /* of a tile, at most: a stretch of x stays in the second cache */
    TILE_PANELS = 8,          /* of a task, at most */
    STRETCH_BYTES = 16 * 1024 /* of expanded codes */
};

/* Where things lie in a row of x in 8 bits, and in all. */
typedef struct quant_layout {
    size_t w, d, s, h, row_bytes;         /* offsets after q */
    size_t codes, scales, tile, worker;   /* bytes per worker */
    size_t total;                         /* bytes */
    int64_t tile_rows, row_tiles, panels; /* panels of a task */
    size_t groups, stretch;               /* of a row; of an expansion */
    bool few;
} quant_layout;

static int64_t ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

static const limn_quant_kernels *kernels_of(const limn_kernels *k, const limn_packed *w) {
    return &k->gemm.quant[w->row_dtype];
}

/* Tasks of about equal size, some per thread so that a disturbed core does not hold up the rest. */
static void choose_tasks(quant_layout *l, const limn_packed *w, int64_t m, int threads) {
    l->row_tiles = l->few ? 1 : ceil_div(m, TILE_ROWS);
    l->tile_rows = ceil_div(ceil_div(m, l->row_tiles), LIMN_QUANT_FEW) * LIMN_QUANT_FEW;
    int64_t per_thread = l->few ? 8 : 4;
    l->panels = ceil_div(w->panels * l->row_tiles, per_thread * threads);
    if (!l->few && l->panels > TILE_PANELS) l->panels = TILE_PANELS;
}

static quant_layout make_layout(const limn_kernels *k, const limn_packed *w, int64_t m,
                                int threads) {
    const limn_quant_kernels *q = kernels_of(k, w);
    size_t n = (size_t)w->k, row_floats = (size_t)k->gemm.nr;
    quant_layout l = {.groups = n / 32, .few = m <= LIMN_QUANT_FEW};
    l.w = limn_gemm_align(n);
    l.d = l.w + (q->wide ? limn_gemm_align(2 * n) : 0);
    l.s = l.d + limn_gemm_align(l.groups * sizeof(float));
    l.h = l.s + limn_gemm_align(l.groups * sizeof(float));
    l.row_bytes = l.h + limn_gemm_align(l.groups * 2 * sizeof(int16_t));
    choose_tasks(&l, w, m, threads);
    l.stretch = STRETCH_BYTES / q->group_bytes / 8 * 8; /* whole blocks of every type */
    if (l.stretch > l.groups) l.stretch = l.groups;
    if (!l.few && q->expand) {
        l.codes = limn_gemm_align(l.stretch * q->group_bytes);
        l.scales = limn_gemm_align(l.stretch * LIMN_QUANT_NR * sizeof(float));
    }
    int64_t rows = l.few ? m : l.tile_rows, tiles = l.few ? 1 : l.panels;
    l.tile = limn_gemm_align((size_t)(rows * tiles) * row_floats * sizeof(float));
    l.worker = l.codes + 2 * l.scales + l.tile;
    l.total = l.worker * (size_t)threads + (size_t)m * l.row_bytes;
    return l;
}

size_t limn_gemm_quant_scratch_bytes(const limn_kernels *k, const limn_packed *w, int64_t m,
                                     int threads) {
    return m > 0 ? make_layout(k, w, m, threads).total : 0;
}

typedef struct quant_job {
    const limn_gemm_job *job;
    const float *x;
    int64_t x_stride;
    quant_layout l;
    char *rows; /* [m][row_bytes] */
} quant_job;

static limn_q8_rows rows_from(const quant_job *q, int64_t row) {
    const char *at = q->rows + (size_t)row * q->l.row_bytes;
    bool wide = kernels_of(q->job->ex->k, q->job->w)->wide;
    return (limn_q8_rows){.q = (const int8_t *)at,
                          .w = wide ? (const int16_t *)(const void *)(at + q->l.w) : NULL,
                          .d = (const float *)(const void *)(at + q->l.d),
                          .s = (const float *)(const void *)(at + q->l.s),
                          .h = (const int16_t *)(const void *)(at + q->l.h),
                          .stride = q->l.row_bytes};
}

static void quantise_task(void *arg, size_t task, int worker) {
    const quant_job *q = arg;
    const limn_packed *w = q->job->w;
    const limn_kernels *k = q->job->ex->k;
    int64_t i = (int64_t)task * QUANTISE_ROWS, end = i + QUANTISE_ROWS;
    (void)worker;
    for (; i < end && i < q->job->m; i++) {
        limn_q8_rows x = rows_from(q, i);
        k->gemm.quantise_q8((int8_t *)x.q, (int16_t *)x.w, (float *)x.d, (float *)x.s,
                            (int16_t *)x.h, q->x + i * q->x_stride, (size_t)w->k);
    }
}

static void few_task(void *arg, size_t task, int worker) {
    const quant_job *q = arg;
    const limn_gemm_job *job = q->job;
    const limn_packed *w = job->w;
    if (limn_exec_cancelled(job->ex)) return;
    limn_quant_tile t = {.x = rows_from(q, 0), .m = (int)job->m, .groups = q->l.groups};
    t.c = (float *)(void *)((char *)job->scratch + (size_t)worker * q->l.worker);
    t.c_stride = (size_t)job->ex->k->gemm.nr;
    int64_t panel = (int64_t)task * q->l.panels, end = panel + q->l.panels;
    for (; panel < end && panel < w->panels; panel++) {
        t.b = (const char *)w->data + (size_t)panel * w->panel_bytes;
        kernels_of(job->ex->k, w)->few(&t);
        limn_gemm_finish_panel(job, 0, t.m, panel, t.c);
    }
}

static void tile_task(void *arg, size_t task, int worker) {
    const quant_job *q = arg;
    const limn_gemm_job *job = q->job;
    const limn_packed *w = job->w;
    const limn_quant_kernels *kern = kernels_of(job->ex->k, w);
    const quant_layout *l = &q->l;
    if (limn_exec_cancelled(job->ex)) return;
    int64_t row0 = (int64_t)task % l->row_tiles * l->tile_rows;
    int64_t panel0 = (int64_t)task / l->row_tiles * l->panels;
    int64_t panels = w->panels - panel0 < l->panels ? w->panels - panel0 : l->panels;
    int64_t rows = job->m - row0 < l->tile_rows ? job->m - row0 : l->tile_rows;
    char *mine = (char *)job->scratch + (size_t)worker * l->worker;
    float *scale = (float *)(void *)(mine + l->codes);
    float *min = (float *)(void *)(mine + l->codes + l->scales);
    float *c = (float *)(void *)(mine + l->codes + 2 * l->scales);
    size_t nr = (size_t)job->ex->k->gemm.nr, each = (size_t)rows * nr;
    limn_quant_tile t = {.scale = scale,
                         .min = kern->minima ? min : NULL,
                         .x = rows_from(q, row0),
                         .m = (int)rows,
                         .c_stride = nr};
    for (size_t g = 0; g < l->groups; g += l->stretch) {
        t.group0 = g;
        t.groups = l->groups - g < l->stretch ? l->groups - g : l->stretch;
        t.accumulate = g > 0;
        for (int64_t p = 0; p < panels; p++) {
            const char *panel = (const char *)w->data + (size_t)(panel0 + p) * w->panel_bytes;
            t.b = panel + limn_quant_panel_bytes(w->row_dtype, g);
            if (kern->expand) {
                kern->expand(mine, scale, min, t.b, t.groups);
                t.b = mine;
            }
            t.c = c + (size_t)p * each;
            kern->tile(&t);
        }
    }
    for (int64_t p = 0; p < panels; p++)
        limn_gemm_finish_panel(job, row0, (int)rows, panel0 + p, c + (size_t)p * each);
}

limn_status limn_gemm_quant(const limn_gemm_job *job, const float *x, int64_t x_stride,
                            limn_err *err) {
    const limn_packed *w = job->w;
    limn_pool *pool = job->ex->pool;
    int threads = limn_pool_threads(pool);
    quant_job q = {.job = job, .x = x, .x_stride = x_stride};
    q.l = make_layout(job->ex->k, w, job->m, threads);
    q.rows = (char *)job->scratch + q.l.worker * (size_t)threads;
    limn_pool_run(pool, quantise_task, &q, (size_t)ceil_div(job->m, QUANTISE_ROWS));
    size_t tasks = (size_t)(ceil_div(w->panels, q.l.panels) * q.l.row_tiles);
    limn_pool_run(pool, q.l.few ? few_task : tile_task, &q, tasks);
    if (limn_exec_cancelled(job->ex)) return limn_fail(err, LIMN_E_CANCELLED, "cancelled");
    return LIMN_OK;
}
