/* SPDX-License-Identifier: MIT */
/* Drivers of layer norm, rms norm, group norm and softmax; see norm.h. */
#include "kernels/norm.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/rowio.h"

static int64_t min_i64(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* ---- layer norm and rms norm ---- */

enum { SHIFT_COLUMNS = 64, LINE_BYTES = 64 };

typedef struct row_norm_job {
    const limn_kernels *k;
    const limn_row_norm_args *a;
    int64_t parts, rows_per_task;
} row_norm_job;

static const void *row_at(const limn_row_norm_args *a, int64_t row, int64_t part) {
    return limn_rowio_at(a->x.data, a->x.type, row * a->x.stride + part * a->dim);
}

/* The sums are relative to the mean of the row's beginning. In n numbers the mean of m of them is
 * within sqrt(n / m) deviations of the whole's, so with a sixteenth of a row (or all of a short
 * one) little is lost in the difference. */
static limn_norm_row measure_row(const row_norm_job *j, const void *x) {
    const limn_row_norm_args *a = j->a;
    double left, sq, share = 1.0 / (double)a->dim, mean = 0;
    float shift = 0;
    if (!a->rms) {
        int64_t first = a->dim / 16 > SHIFT_COLUMNS ? a->dim / 16 : min_i64(a->dim, SHIFT_COLUMNS);
        shift = (float)(j->k->norm.row_sum(x, a->x.type, first) / (double)first);
    }
    j->k->norm.row_moments(x, a->x.type, shift, a->dim, &left, &sq);
    if (!a->rms) {
        mean = (double)shift + left * share;
        sq -= left * left * share;
    }
    double var = sq > 0 || isnan(sq) ? sq * share : 0, rstd = 1.0 / sqrt(var + (double)a->eps);
    limn_norm_row s = {.mean = (float)mean, .rstd = (float)rstd};
    s.offset = (float)(((double)s.mean - mean) * rstd);
    return s;
}

static int64_t broadcast_row(const limn_rows_in *in, int64_t row) {
    return (in->repeat > 1 ? row / in->repeat : row) * in->stride;
}

/* Columns [i, i + n) of part p where weights are stored minus one, or the row is modulated. */
static void row_piece(const row_norm_job *j, int64_t row, int64_t p, int64_t i, int64_t n,
                      const limn_norm_row *s) {
    const limn_row_norm_args *a = j->a;
    const limn_kernels *k = j->k;
    static const float zeros[LIMN_ROW_PIECE];
    _Alignas(64) float in[LIMN_ROW_PIECE], out[LIMN_ROW_PIECE], wbuf[LIMN_ROW_PIECE];
    int64_t col = p * a->dim + i, y_at = row * a->y.stride + col;
    limn_norm_block x = {limn_rowio_at(a->x.data, a->x.type, row * a->x.stride + col), a->x.type, 1,
                         0};
    const float *weight = a->weight ? a->weight + i : NULL, *bias = a->bias ? a->bias + i : NULL;
    if (weight && a->weight_plus) {
        k->elementwise.affine(wbuf, weight, 1.0f, 1.0f, n);
        weight = wbuf;
    }
    float *y = limn_rowio_dest(out, a->y.data, a->y.type, y_at);
    k->norm.row_apply(&(limn_rows){y, LIMN_F32, 0}, &x, s, weight, bias, n);
    if (a->scale.data || a->shift.data) {
        const float *scale = zeros, *shift = zeros;
        if (a->scale.data) /* wbuf is free again */
            scale = limn_rowio_load(k, wbuf, a->scale.data, a->scale.type,
                                    broadcast_row(&a->scale, row) + col, n);
        if (a->shift.data)
            shift = limn_rowio_load(k, in, a->shift.data, a->shift.type,
                                    broadcast_row(&a->shift, row) + col, n);
        k->elementwise.modulate(y, y, scale, shift, n);
    }
    limn_rowio_store(k, a->y.data, a->y.type, y_at, y, n);
}

/* Parts [i, i + n) of the rows, counted on from row to row; more than one lie at equal distances.
 */
static void finish_parts(const row_norm_job *j, int64_t i, int64_t n, const limn_norm_row *s) {
    const limn_row_norm_args *a = j->a;
    if (a->scale.data || a->shift.data || (a->weight && a->weight_plus)) {
        for (int64_t q = i; q < i + n; q++, s++)
            for (int64_t c = 0; c < a->dim; c += LIMN_ROW_PIECE)
                row_piece(j, q / j->parts, q % j->parts, c, min_i64(a->dim - c, LIMN_ROW_PIECE), s);
        return;
    }
    int64_t row = i / j->parts, part = i % j->parts, y_at = row * a->y.stride + part * a->dim;
    limn_rows y = {(char *)a->y.data + y_at * (a->y.type == LIMN_F32 ? 4 : 2), a->y.type,
                   j->parts > 1 ? a->dim : a->y.stride};
    limn_norm_block x = {row_at(a, row, part), a->x.type, n, j->parts > 1 ? a->dim : a->x.stride};
    j->k->norm.row_apply(&y, &x, s, a->weight, a->bias, a->dim);
}

/* Asks for the cache lines of a row that is needed soon; to ask for those of y as well made layer
 * norm a quarter slower. */
static void fetch_row(const limn_row_norm_args *a, int64_t row) {
    int64_t size = a->x.type == LIMN_F32 ? 4 : 2;
    const char *x = (const char *)a->x.data + row * a->x.stride * size;
    for (int64_t i = 0; i < a->dim * size; i += LINE_BYTES) __builtin_prefetch(x + i, 0, 3);
}

/* Some rows, as many as stay in L1, are measured before any is written: the long chain from a row's
 * sums to its scale then runs beside the sums of the next. */
static void row_norm_task(void *arg, size_t task, int worker) {
    (void)worker;
    enum { AT_ONCE = 8, ELEMENTS = 6144 };
    const row_norm_job *j = arg;
    const limn_row_norm_args *a = j->a;
    int64_t r0 = (int64_t)task * j->rows_per_task, r1 = min_i64(r0 + j->rows_per_task, a->rows);
    limn_norm_row s[AT_ONCE];
    int64_t step = a->dim * AT_ONCE <= ELEMENTS ? AT_ONCE : ELEMENTS / a->dim + 1;
    bool fetch = j->parts == 1 && a->dim <= ELEMENTS;
    for (int64_t i = r0 * j->parts, n, end = r1 * j->parts; i < end; i += n) {
        n = min_i64(end - i, step);
        if (j->parts > 1) n = min_i64(n, j->parts - i % j->parts);
        for (int64_t q = 0; q < n; q++) {
            if (fetch && i + q + step < end) fetch_row(a, i + q + step);
            s[q] = measure_row(j, row_at(a, (i + q) / j->parts, (i + q) % j->parts));
        }
        finish_parts(j, i, n, s);
    }
}

void limn_row_norm_run(const limn_exec *ex, const limn_row_norm_args *a) {
    row_norm_job j = {.k = ex->k, .a = a, .parts = a->parts > 1 ? a->parts : 1};
    assert(limn_rowio_is_type(a->x.type) && limn_rowio_is_type(a->y.type));
    int64_t width = j.parts * a->dim;
    if (a->rows <= 0 || width <= 0) return;
    j.rows_per_task = width >= LIMN_TASK_ELEMENTS ? 1 : LIMN_TASK_ELEMENTS / width;
    limn_pool_run(ex->pool, row_norm_task, &j,
                  (size_t)((a->rows + j.rows_per_task - 1) / j.rows_per_task));
}

/* ---- group norm ---- */

enum {
    CHUNK_ROWS = 128, /* summed in f32 before f64 takes over */
    SHIFT_ROWS = 8,   /* whose mean the rest is summed relative to */
    TASKS_MIN = 16,   /* fewer chunks are cut along the channels */
    APPLY_ROWS = 128  /* of a task of the second pass, at most */
};

typedef struct group_part { /* statistics of one group in one chunk */
    double mean, m2;        /* m2: sum of squared differences from the mean */
} group_part;

typedef struct group_job {
    const limn_kernels *k;
    const limn_group_norm_args *a;
    group_part *parts;         /* [n, chunks, groups], in the scratch */
    const float *mean, *scale; /* [n, channels], in the scratch */
    int64_t chunk_rows, chunks;
    int64_t cuts, cut_groups;        /* tasks of a chunk, groups of each */
    int64_t first, pitch;            /* pixel of chunk 0 of a picture, pixels from chunk to chunk */
    int64_t apply_rows, apply_tasks; /* of a picture */
} group_job;

static int64_t ceil_div(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

static group_job group_plan(const limn_exec *ex, const limn_group_norm_args *a) {
    group_job j = {.k = ex ? ex->k : NULL, .a = a, .parts = ex ? ex->scratch : NULL};
    j.chunk_rows = CHUNK_ROWS;
    j.chunks = ceil_div(a->pixels, CHUNK_ROWS);
    j.pitch = CHUNK_ROWS;
    int64_t cuts = min_i64(j.chunks > 0 ? ceil_div(TASKS_MIN, j.chunks) : 1, a->groups);
    j.cut_groups = ceil_div(a->groups, cuts > 0 ? cuts : 1);
    j.cuts = ceil_div(a->groups, j.cut_groups);
    j.apply_rows = min_i64(APPLY_ROWS, ceil_div(a->pixels, 4 * TASKS_MIN) * 4);
    j.apply_tasks = j.apply_rows > 0 ? ceil_div(a->pixels, j.apply_rows) : 0;
    return j;
}

/* Scratch: parts | mean, rstd [n, groups] | mean, scale [n, channels] */
size_t limn_group_norm_scratch_bytes(const limn_group_norm_args *a) {
    if (a->n < 0 || a->pixels < 0 || a->channels < 0 || a->groups < 1) return SIZE_MAX;
    if (a->pixels > 0 && a->channels > INT64_MAX / CHUNK_ROWS) return SIZE_MAX;
    group_job j = group_plan(NULL, a);
    size_t parts, stats, wide, all;
    bool ok = limn_mul_size(&parts, (size_t)a->n, (size_t)j.chunks) &&
              limn_mul_size(&parts, parts, (size_t)a->groups * sizeof(group_part)) &&
              limn_mul_size(&stats, (size_t)a->n, (size_t)a->groups * 2 * sizeof(float)) &&
              limn_mul_size(&wide, (size_t)a->n, (size_t)a->channels * 2 * sizeof(float)) &&
              limn_add_size(&all, parts, stats) && limn_add_size(&all, all, wide);
    return ok ? all : SIZE_MAX;
}

/* Joins (mean, m2) of n_b elements to (mean, m2) of n_a (Chan, Golub, LeVeque 1979). */
static void join_parts(double *mean, double *m2, double n_a, double mean_b, double m2_b,
                       double n_b) {
    double d = mean_b - *mean, n = n_a + n_b;
    *m2 += m2_b + d * d * n_a * n_b / n;
    *mean += d * n_b / n;
}

/* A group, or what of it lies in one piece of columns. */
typedef struct group_span {
    int64_t group, seen, n; /* columns of the group before this span, columns of the span */
} group_span;

static group_span span_at(const group_job *j, int64_t column, int64_t end) {
    int64_t per_group = j->a->channels / j->a->groups, seen = column % per_group;
    return (group_span){column / per_group, seen, min_i64(per_group - seen, end - column)};
}

/* A number near the mean of m columns, of which sum [m] adds up `rows` rows. */
static float shift_of(const float *sum, int64_t m, int64_t rows) {
    double all = 0;
    for (int64_t c = 0; c < m; c++) all += (double)sum[c];
    return (float)(all / (double)(m * rows));
}

/* m columns of `rows` numbers each as one part, from their sums relative to the shift. */
static group_part part_of(float shift, const float *s1, const float *s2, int64_t m, double rows) {
    double sum = 0, squares = 0, n = rows * (double)m;
    for (int64_t c = 0; c < m; c++) {
        sum += (double)s1[c];
        squares += (double)s2[c];
    }
    double m2 = squares - sum * sum / n;
    return (group_part){(double)shift + sum / n, m2 > 0 || isnan(m2) ? m2 : 0};
}

/* Columns [begin, end) of a chunk, at most LIMN_ROW_PIECE of them: their groups' parts. */
static void chunk_piece(const group_job *j, int64_t row0, int64_t rows, int64_t begin, int64_t end,
                        group_part *parts) {
    const limn_group_norm_args *a = j->a;
    _Alignas(64) float shift[LIMN_ROW_PIECE], s1[LIMN_ROW_PIECE] = {0}, s2[LIMN_ROW_PIECE] = {0};
    limn_norm_block b = {limn_rowio_at(a->x.data, a->x.type, row0 * a->x.stride + begin), a->x.type,
                         min_i64(rows, SHIFT_ROWS), a->x.stride};
    j->k->norm.col_add(s1, &b, end - begin);
    for (int64_t c = begin; c < end;) {
        group_span s = span_at(j, c, end);
        float k = shift_of(s1 + (c - begin), s.n, b.rows);
        for (int64_t i = 0; i < s.n; i++, c++) shift[c - begin] = k, s1[c - begin] = 0;
    }
    b.rows = rows;
    j->k->norm.col_moments(s1, s2, &b, shift, end - begin);
    for (int64_t c = begin; c < end;) {
        group_span s = span_at(j, c, end);
        int64_t at = c - begin;
        group_part p = part_of(shift[at], s1 + at, s2 + at, s.n, (double)rows);
        if (s.seen == 0)
            parts[s.group] = p;
        else
            join_parts(&parts[s.group].mean, &parts[s.group].m2, (double)(s.seen * rows), p.mean,
                       p.m2, (double)(s.n * rows));
        c += s.n;
    }
}

/* The groups of one cut of one chunk. */
static void group_stats_task(void *arg, size_t task, int worker) {
    (void)worker;
    const group_job *j = arg;
    const limn_group_norm_args *a = j->a;
    int64_t at = (int64_t)task / j->cuts, cut = (int64_t)task % j->cuts;
    int64_t image = at / j->chunks, chunk = at % j->chunks;
    int64_t p0 = j->first + chunk * j->pitch;
    int64_t rows = min_i64(j->chunk_rows, a->pixels - chunk * j->chunk_rows);
    int64_t per_group = a->channels / a->groups, begin = cut * j->cut_groups * per_group;
    int64_t end = min_i64(begin + j->cut_groups * per_group, a->channels);
    group_part *parts = j->parts + at * a->groups;
    for (int64_t c = begin; c < end; c += LIMN_ROW_PIECE)
        chunk_piece(j, image * a->pixels + p0, rows, c, min_i64(end, c + LIMN_ROW_PIECE), parts);
}

/* Mean and variance of a group from its parts. */
static void group_total(const group_job *j, int64_t image, int64_t g, double *mean, double *var) {
    const limn_group_norm_args *a = j->a;
    const group_part *p = j->parts + image * j->chunks * a->groups + g;
    double pixels = (double)a->pixels, chunk = (double)j->chunk_rows, sum = 0, m2 = 0, spread = 0;
    double last = pixels - (double)(j->chunks - 1) * chunk; /* rows of the last part */
    int64_t per_group = a->channels / a->groups;
    *mean = *var = 0;
    if (pixels <= 0 || per_group <= 0) return;
    for (int64_t c = 0; c < j->chunks; c++)
        sum += p[c * a->groups].mean * (c + 1 < j->chunks ? chunk : last);
    *mean = sum / pixels;
    for (int64_t c = 0; c < j->chunks; c++) {
        double d = p[c * a->groups].mean - *mean;
        m2 += p[c * a->groups].m2;
        spread += d * d * (c + 1 < j->chunks ? chunk : last);
    }
    *var = (m2 / (double)per_group + spread) / pixels;
}

void limn_group_norm_stats(const limn_exec *ex, const limn_group_norm_args *a, float *mean,
                           float *rstd) {
    assert(limn_rowio_is_type(a->x.type) && a->groups >= 1 && a->channels % a->groups == 0);
    group_job j = group_plan(ex, a);
    if (a->n <= 0) return;
    if (a->channels > 0)
        limn_pool_run(ex->pool, group_stats_task, &j, (size_t)(a->n * j.chunks * j.cuts));
    for (int64_t i = 0; i < a->n; i++)
        for (int64_t g = 0; g < a->groups; g++) {
            double m, var;
            group_total(&j, i, g, &m, &var);
            mean[i * a->groups + g] = (float)m;
            rstd[i * a->groups + g] = (float)(1.0 / sqrt(var + (double)a->eps));
        }
}

void limn_group_norm_window(const limn_exec *ex, const limn_group_norm_args *a,
                            const limn_norm_window *w, float *mean, float *var) {
    assert(a->n == 1 && a->channels > 0 && w->x1 > w->x0 && w->y1 > w->y0);
    assert(a->pixels == (w->x1 - w->x0) * (w->y1 - w->y0));
    group_job j = {.k = ex->k, .a = a, .parts = ex->scratch};
    j.chunk_rows = w->x1 - w->x0; /* a chunk is a row of the window */
    j.chunks = w->y1 - w->y0;
    j.first = w->y0 * w->width + w->x0;
    j.pitch = w->width;
    j.cuts = 1;
    j.cut_groups = a->groups;
    limn_pool_run(ex->pool, group_stats_task, &j, (size_t)j.chunks);
    for (int64_t g = 0; g < a->groups; g++) {
        double m, v;
        group_total(&j, 0, g, &m, &v);
        mean[g] = (float)m;
        var[g] = (float)v;
    }
}

/* From the last pixel to the first: what the first pass read last is still in the cache. */
static void group_apply_task(void *arg, size_t task, int worker) {
    (void)worker;
    const group_job *j = arg;
    const limn_group_norm_args *a = j->a;
    int64_t at = a->n * j->apply_tasks - 1 - (int64_t)task;
    int64_t image = at / j->apply_tasks, p0 = at % j->apply_tasks * j->apply_rows;
    int64_t px = image * a->pixels + p0, size = a->y.type == LIMN_F32 ? 4 : 2;
    limn_rows y = {(char *)a->y.data + px * a->y.stride * size, a->y.type, a->y.stride};
    limn_norm_block x = {limn_rowio_at(a->x.data, a->x.type, px * a->x.stride), a->x.type,
                         min_i64(j->apply_rows, a->pixels - p0), a->x.stride};
    j->k->norm.col_apply(&y, &x, j->mean + image * a->channels, j->scale + image * a->channels,
                         a->bias, a->silu, a->channels);
}

void limn_group_norm_apply(const limn_exec *ex, const limn_group_norm_args *a, const float *mean,
                           const float *rstd) {
    assert(limn_rowio_is_type(a->x.type) && limn_rowio_is_type(a->y.type));
    assert(a->groups >= 1 && a->channels % a->groups == 0);
    group_job j = group_plan(ex, a);
    if (a->n <= 0 || a->channels <= 0) return;
    int64_t per_group = a->channels / a->groups, all = a->n * a->channels;
    float *wide = (float *)(j.parts + a->n * j.chunks * a->groups) + 2 * a->n * a->groups;
    j.mean = wide, j.scale = wide + all;
    for (int64_t g = 0; g < a->n * a->groups; g++) {
        const float *weight = a->weight ? a->weight + g % a->groups * per_group : NULL;
        for (int64_t c = 0; c < per_group; c++, wide++) {
            wide[0] = mean[g];
            wide[all] = rstd[g] * (weight ? weight[c] : 1.0f);
        }
    }
    limn_pool_run(ex->pool, group_apply_task, &j, (size_t)(a->n * j.apply_tasks));
}

void limn_group_norm_run(const limn_exec *ex, const limn_group_norm_args *a) {
    group_job j = group_plan(ex, a);
    if (a->n <= 0) return;
    float *mean = (float *)(j.parts + a->n * j.chunks * a->groups);
    float *rstd = mean + a->n * a->groups;
    limn_group_norm_stats(ex, a, mean, rstd);
    limn_group_norm_apply(ex, a, mean, rstd);
}

/* ---- softmax ---- */

typedef struct softmax_job {
    const limn_kernels *k;
    const limn_softmax_args *a;
    int64_t rows_per_task;
} softmax_job;

static void softmax_row(const limn_kernels *k, float *y, const float *x, const float *mask,
                        float scale, int64_t n) {
    float top = -INFINITY;
    for (int64_t i = 0; i < n; i += LIMN_ROW_PIECE) {
        int64_t m = min_i64(n - i, LIMN_ROW_PIECE);
        float t = k->norm.scale_mask_max(y + i, x + i, mask ? mask + i : NULL, scale, m);
        if (t > top) top = t;
    }
    if (top == -INFINITY) top = 0; /* nothing to see: every exp below is 0 */
    double sum = 0;
    for (int64_t i = 0; i < n; i += LIMN_ROW_PIECE)
        sum += k->norm.exp_sum(y + i, top, min_i64(n - i, LIMN_ROW_PIECE));
    float inv = sum != 0 ? (float)(1.0 / sum) : 0; /* NaN goes through */
    k->elementwise.affine(y, y, inv, 0.0f, n);
}

static void softmax_task(void *arg, size_t task, int worker) {
    (void)worker;
    const softmax_job *j = arg;
    const limn_softmax_args *a = j->a;
    int64_t r0 = (int64_t)task * j->rows_per_task, r1 = min_i64(r0 + j->rows_per_task, a->rows);
    for (int64_t r = r0; r < r1; r++) {
        const float *mask = NULL;
        if (a->mask.data) mask = (const float *)a->mask.data + broadcast_row(&a->mask, r);
        softmax_row(j->k, (float *)a->y.data + r * a->y.stride,
                    (const float *)a->x.data + r * a->x.stride, mask, a->scale, a->cols);
    }
}

void limn_softmax_run(const limn_exec *ex, const limn_softmax_args *a) {
    assert(a->x.type == LIMN_F32 && a->y.type == LIMN_F32);
    assert(!a->mask.data || a->mask.type == LIMN_F32);
    if (a->rows <= 0 || a->cols <= 0) return;
    softmax_job j = {ex->k, a, a->cols >= LIMN_TASK_ELEMENTS ? 1 : LIMN_TASK_ELEMENTS / a->cols};
    limn_pool_run(ex->pool, softmax_task, &j,
                  (size_t)((a->rows + j.rows_per_task - 1) / j.rows_per_task));
}
