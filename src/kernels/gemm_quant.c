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
    QUANTISE_ROWS = 10,        /* per task: whole blocks */
    TILE_ROWS = 128,           /* of a tile, at most: a stretch of x stays in the second cache */
    TILE_PANELS = 8,           /* of a task, at most */
    STRETCH_BYTES = 16 * 1024, /* of expanded codes */
    PAIR_ROWS = 520,           /* the same three where a tile takes two panels */
    PAIR_PANELS = 16,
    PAIR_BYTES = 24 * 1024,
    FEW_BYTES = 32 * 1024, /* of panels that a task of few rows reads, about */
    SEND_ROWS = 25         /* sent out at a time: whole blocks of rows of every kernel */
};

/* Where things lie in a row of x in 8 bits, and in all. */
typedef struct quant_layout {
    size_t w, d, s, h, row_bytes;         /* offsets after q */
    size_t codes, scales, tile, worker;   /* bytes per worker; of blocks one row more */
    size_t rows_bytes, total;             /* of all rows; of everything */
    int64_t tile_rows, row_tiles, panels; /* panels of a task */
    size_t groups, stretch;               /* of a row; of an expansion */
    bool few, blocks; /* blocks: rows lie as limn_q8_block [ceil(m / LIMN_Q8_BLOCK)][groups] */
} quant_layout;

static int64_t ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

static const limn_quant_kernels *kernels_of(const limn_kernels *k, const limn_packed *w) {
    return &k->gemm.quant[w->row_dtype];
}

/* Tasks of about equal size, some per thread so that a disturbed core does not hold up the rest. */
static void choose_tasks(quant_layout *l, const limn_packed *w, int64_t m, int threads, bool pair) {
    l->row_tiles = l->few ? 1 : ceil_div(m, pair ? PAIR_ROWS : TILE_ROWS);
    int64_t whole = pair ? LIMN_Q8_BLOCK : LIMN_QUANT_FEW;
    l->tile_rows = ceil_div(ceil_div(m, l->row_tiles), whole) * whole;
    int64_t per_thread = 4, most = pair ? PAIR_PANELS : TILE_PANELS;
    l->panels = l->few ? FEW_BYTES / (int64_t)w->panel_bytes + 1
                       : ceil_div(w->panels * l->row_tiles, per_thread * threads);
    if (l->few) return;
    if (pair) l->panels += l->panels & 1;
    if (l->panels > most) l->panels = most;
}

static quant_layout make_layout(const limn_kernels *k, const limn_packed *w, int64_t m,
                                int threads) {
    const limn_quant_kernels *q = kernels_of(k, w);
    size_t n = (size_t)w->k, row_floats = (size_t)k->gemm.nr;
    quant_layout l = {.groups = n / 32, .few = m <= q->few_rows};
    l.blocks = q->pair && !l.few;
    l.w = limn_gemm_align(n);
    l.d = l.w + (q->wide ? limn_gemm_align(2 * n) : 0);
    l.s = l.d + limn_gemm_align(l.groups * sizeof(float));
    l.h = l.s + limn_gemm_align(l.groups * sizeof(float));
    l.row_bytes = l.h + limn_gemm_align(l.groups * 2 * sizeof(int16_t));
    choose_tasks(&l, w, m, threads, q->pair);
    size_t each = q->group_bytes * (q->pair ? 2 : 1);
    l.stretch =
        (q->pair ? PAIR_BYTES : STRETCH_BYTES) / each / 8 * 8; /* whole blocks of any type */
    if (l.stretch > l.groups) l.stretch = l.groups;
    if (!l.few && q->expand) {
        l.codes = limn_gemm_align(l.stretch * each);
        l.scales = limn_gemm_align(l.stretch * LIMN_QUANT_NR * sizeof(float));
    }
    int64_t rows = l.few ? m : l.tile_rows, tiles = l.few ? 1 : ceil_div(l.panels, q->pair ? 2 : 1);
    l.tile = limn_gemm_align((size_t)(rows * tiles) * row_floats * sizeof(float));
    l.worker = l.codes + 2 * l.scales + l.tile + (l.blocks ? l.row_bytes : 0);
    l.rows_bytes = (size_t)m * l.row_bytes;
    if (l.blocks)
        l.rows_bytes =
            limn_gemm_align((size_t)ceil_div(m, LIMN_Q8_BLOCK) * l.groups * sizeof(limn_q8_block));
    l.total = l.worker * (size_t)threads + l.rows_bytes;
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
    char *rows; /* [m][row_bytes], or blocks */
} quant_job;

static limn_q8_rows rows_at(const quant_job *q, const char *at) {
    bool wide = kernels_of(q->job->ex->k, q->job->w)->wide;
    return (limn_q8_rows){.q = (const int8_t *)at,
                          .w = wide ? (const int16_t *)(const void *)(at + q->l.w) : NULL,
                          .d = (const float *)(const void *)(at + q->l.d),
                          .s = (const float *)(const void *)(at + q->l.s),
                          .h = (const int16_t *)(const void *)(at + q->l.h),
                          .stride = q->l.row_bytes};
}

static limn_q8_rows rows_from(const quant_job *q, int64_t row) {
    return rows_at(q, q->rows + (size_t)row * q->l.row_bytes);
}

static limn_q8_block *block_from(const quant_job *q, int64_t row, size_t group) {
    limn_q8_block *all = (limn_q8_block *)(void *)q->rows;
    return all + (size_t)(row / LIMN_Q8_BLOCK) * q->l.groups + group;
}

static void put_in_blocks(const quant_job *q, int64_t row, const limn_q8_rows *x) {
    limn_q8_block *b = block_from(q, row, 0);
    int r = (int)(row % LIMN_Q8_BLOCK);
    for (size_t g = 0; g < q->l.groups; g++, b++) {
        memcpy(b->q[r], x->q + 32 * g, sizeof b->q[r]);
        b->d[r] = x->d[g];
        b->s[r] = x->s[g];
    }
}

static void quantise_task(void *arg, size_t task, int worker) {
    const quant_job *q = arg;
    const limn_packed *w = q->job->w;
    const limn_kernels *k = q->job->ex->k;
    int64_t i = (int64_t)task * QUANTISE_ROWS, end = i + QUANTISE_ROWS;
    unsigned how = limn_quant_powers(w->row_dtype) ? LIMN_Q8_POWERS : 0;
    char *room = (char *)q->job->scratch + (size_t)(worker + 1) * q->l.worker - q->l.row_bytes;
    if (q->l.blocks) how |= LIMN_Q8_BIASED;
    for (; i < end && i < q->job->m; i++) {
        limn_q8_rows x = q->l.blocks ? rows_at(q, room) : rows_from(q, i);
        k->gemm.quantise_q8((int8_t *)x.q, (int16_t *)x.w, (float *)x.d, (float *)x.s,
                            (int16_t *)x.h, q->x + i * q->x_stride, (size_t)w->k, how);
        if (q->l.blocks) put_in_blocks(q, i, &x);
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
    if (end > w->panels) end = w->panels;
    int fit = job->ex->k->gemm.nr / LIMN_QUANT_NR; /* panels that are sent out together */
    float *c = t.c;
    for (int n; panel < end; panel += n) {
        n = end - panel < fit ? (int)(end - panel) : fit;
        for (int i = 0; i < n; i++) {
            t.b = (const char *)w->data + (size_t)(panel + i) * w->panel_bytes;
            t.c = c + i * LIMN_QUANT_NR;
            kernels_of(job->ex->k, w)->few(&t);
        }
        limn_gemm_finish_panels(job, 0, t.m, panel, n, c);
    }
}

/* Where a task is: its rows and panels, its scratch, and what its tiles have in common. */
typedef struct quant_place {
    const quant_job *q;
    int64_t row0, rows, panel0, panels;
    char *codes;
    float *scale, *min, *c; /* c [panels / step][rows][nr] */
    int step;               /* panels of a tile, side by side in c */
    limn_quant_tile tile;
} quant_place;

static quant_place place_of(const quant_job *q, size_t task, int worker) {
    const limn_gemm_job *job = q->job;
    const quant_layout *l = &q->l;
    char *mine = (char *)job->scratch + (size_t)worker * l->worker;
    quant_place p = {.q = q,
                     .row0 = (int64_t)task % l->row_tiles * l->tile_rows,
                     .panel0 = (int64_t)task / l->row_tiles * l->panels,
                     .codes = mine,
                     .scale = (float *)(void *)(mine + l->codes),
                     .min = (float *)(void *)(mine + l->codes + l->scales),
                     .c = (float *)(void *)(mine + l->codes + 2 * l->scales),
                     .step = kernels_of(job->ex->k, job->w)->pair ? 2 : 1};
    p.panels = job->w->panels - p.panel0 < l->panels ? job->w->panels - p.panel0 : l->panels;
    p.rows = job->m - p.row0 < l->tile_rows ? job->m - p.row0 : l->tile_rows;
    p.tile.scale = p.scale;
    p.tile.min = kernels_of(job->ex->k, job->w)->minima ? p.min : NULL;
    p.tile.c_stride = (size_t)job->ex->k->gemm.nr;
    p.tile.c_panel = LIMN_QUANT_NR;
    p.tile.blocks_stride = l->groups;
    return p;
}

/* The next stretch of tile.panels panels from `panel` on, as tile reads it. */
static void expand_panels(quant_place *p, int64_t panel) {
    const limn_packed *w = p->q->job->w;
    const limn_quant_kernels *kern = kernels_of(p->q->job->ex->k, w);
    limn_quant_tile *t = &p->tile;
    t->b = (const char *)w->data + (size_t)panel * w->panel_bytes +
           limn_quant_panel_bytes(w->row_dtype, t->group0);
    if (!kern->expand) return;
    t->b_stride = t->groups * kern->group_bytes;
    for (int i = 0; i < t->panels; i++)
        kern->expand(p->codes + (size_t)i * t->b_stride, p->scale, p->min,
                     (const char *)t->b + (size_t)i * w->panel_bytes, t->groups);
    t->b = p->codes;
}

/* A stretch of neighbouring panels that is expanded next and comes from far away. */
typedef struct next_stretch {
    const char *from; /* NULL: none */
    size_t bytes;     /* of each panel */
} next_stretch;

static next_stretch find_next(const quant_place *p, int64_t panel, size_t group) {
    const limn_packed *w = p->q->job->w;
    if (panel + p->tile.panels > w->panels || group >= p->q->l.groups) return (next_stretch){0};
    size_t left = p->q->l.groups - group;
    size_t groups = left < p->q->l.stretch ? left : p->q->l.stretch;
    return (next_stretch){(const char *)w->data + (size_t)panel * w->panel_bytes +
                              limn_quant_panel_bytes(w->row_dtype, group),
                          limn_quant_panel_bytes(w->row_dtype, groups)};
}

/* Part `i` of `parts` of what comes next: a kernel of pairs asks for it line by line while it
 * multiplies, for the others it is asked for here. */
static void fetch_part(const quant_place *p, limn_quant_tile *t, const next_stretch *next,
                       int64_t i, int64_t parts) {
    const limn_packed *w = p->q->job->w;
    size_t part = limn_gemm_align(next->bytes / (size_t)parts + 1), at = part * (size_t)i;
    size_t end = at + part < next->bytes ? at + part : next->bytes;
    bool pair = kernels_of(p->q->job->ex->k, w)->pair;
    for (int j = 0; j < 2; j++) t->fetch[j] = NULL;
    for (int j = 0; next->from && at < end && j < t->panels; j++) {
        const char *from = next->from + (size_t)j * w->panel_bytes;
        t->fetch[j] = from + at;
        for (size_t b = at; !pair && b < end; b += 64) __builtin_prefetch(from + b, 0, 2);
    }
    t->fetch_bytes = at < end ? end - at : 0;
}

/* The same for the rows of y that the sums of these rows go to. */
static void fetch_outputs(const quant_place *p, limn_quant_tile *t, int64_t panel, int64_t row) {
    const limn_gemm_job *job = p->q->job;
    size_t size = job->y_bf16 ? 2 : 4;
    t->y = NULL;
    t->y_stride = (size_t)job->y_stride * size;
    t->y_panel = LIMN_QUANT_NR * size;
    if (kernels_of(job->ex->k, job->w)->pair && !job->epi->residual)
        t->y = (const char *)job->y + (size_t)row * t->y_stride + (size_t)panel * t->y_panel;
    for (int j = 0; !t->y && j < t->panels; j++) limn_gemm_fetch_outputs(job, row, t->m, panel + j);
}

/* The products of all rows with a stretch of panels, some rows at a time; `next` and `group` say
 * what comes after it. The last stretch is sent out while it is in the first cache. */
static void multiply_panels(quant_place *p, int64_t panel, bool last, int64_t next, size_t group) {
    const limn_gemm_job *job = p->q->job;
    limn_quant_tile t = p->tile;
    float *c = p->c + (size_t)((panel - p->panel0) / p->step * p->rows) * t.c_stride;
    next_stretch after = find_next(p, next, group);
    int64_t parts = p->rows < SEND_ROWS ? 1 : p->rows / SEND_ROWS; /* the last may be larger */
    for (int64_t i = 0; i < parts; i++) {
        int64_t r = i * SEND_ROWS;
        t.m = (int)(i + 1 == parts ? p->rows - r : SEND_ROWS);
        if (p->q->l.blocks)
            t.blocks = block_from(p->q, p->row0 + r, t.group0);
        else
            t.x = rows_from(p->q, p->row0 + r);
        t.c = c + (size_t)r * t.c_stride;
        fetch_part(p, &t, &after, i, parts);
        if (last) fetch_outputs(p, &t, panel, p->row0 + r);
        kernels_of(job->ex->k, job->w)->tile(&t);
        if (last) limn_gemm_finish_panels(job, p->row0 + r, t.m, panel, t.panels, t.c);
    }
}

static void tile_task(void *arg, size_t task, int worker) {
    const quant_job *q = arg;
    const limn_gemm_job *job = q->job;
    if (limn_exec_cancelled(job->ex)) return;
    quant_place p = place_of(q, task, worker);
    for (size_t g = 0; g < q->l.groups; g += q->l.stretch) {
        size_t left = q->l.groups - g;
        p.tile.group0 = g;
        p.tile.groups = left < q->l.stretch ? left : q->l.stretch;
        p.tile.accumulate = g > 0;
        for (int64_t i = 0; i < p.panels; i += p.tile.panels) {
            p.tile.panels = i + p.step <= p.panels ? p.step : 1;
            bool more = i + p.tile.panels < p.panels;
            expand_panels(&p, p.panel0 + i);
            multiply_panels(&p, p.panel0 + i, left <= q->l.stretch,
                            p.panel0 + (more ? i + p.tile.panels : 0), more ? g : g + q->l.stretch);
        }
    }
}

/* ---- several weights and one x ---- */

/* Products with the same rows: tasks of one follow those of another. */
typedef struct quant_jobs {
    quant_job q[LIMN_MATMUL_TOGETHER];
    size_t end[LIMN_MATMUL_TOGETHER]; /* of its tasks */
} quant_jobs;

static void together_task(void *arg, size_t task, int worker) {
    const quant_jobs *f = arg;
    int i = 0;
    while (task >= f->end[i]) i++;
    (f->q[i].l.few ? few_task : tile_task)((void *)(uintptr_t)&f->q[i],
                                           task - (i > 0 ? f->end[i - 1] : 0), worker);
}

bool limn_gemm_quant_is_few(const limn_kernels *k, const limn_packed *w, int64_t m) {
    return m <= kernels_of(k, w)->few_rows;
}

/* Weights of one type share their rows of 8 bits. */
static void round_rows(quant_jobs *f, int i, char **room) {
    quant_job *q = &f->q[i];
    for (int k = 0; k < i && !q->rows; k++)
        if (f->q[k].job->w->row_dtype == q->job->w->row_dtype) q->rows = f->q[k].rows;
    if (q->rows) return;
    q->rows = *room;
    *room += q->l.rows_bytes;
    limn_pool_run(q->job->ex->pool, quantise_task, q, (size_t)ceil_div(q->job->m, QUANTISE_ROWS));
}

limn_status limn_gemm_quant(const limn_gemm_job *jobs, int n, const float *x, int64_t x_stride,
                            limn_err *err) {
    const limn_exec *ex = jobs[0].ex;
    int threads = limn_pool_threads(ex->pool);
    quant_jobs f;
    size_t worker = 0, tasks = 0;
    for (int i = 0; i < n; i++) {
        f.q[i] = (quant_job){.job = &jobs[i], .x = x, .x_stride = x_stride};
        f.q[i].l = make_layout(ex->k, jobs[i].w, jobs[i].m, threads);
        if (f.q[i].l.worker > worker) worker = f.q[i].l.worker;
        f.end[i] = tasks +=
            (size_t)(ceil_div(jobs[i].w->panels, f.q[i].l.panels) * f.q[i].l.row_tiles);
    }
    char *room = (char *)jobs[0].scratch + worker * (size_t)threads;
    for (int i = 0; i < n; i++) f.q[i].l.worker = worker;
    for (int i = 0; i < n; i++) round_rows(&f, i, &room);
    (f.q[0].l.few ? limn_pool_run_near : limn_pool_run)(ex->pool, together_task, &f, tasks);
    if (limn_exec_cancelled(ex)) return limn_fail(err, LIMN_E_CANCELLED, "cancelled");
    return LIMN_OK;
}
