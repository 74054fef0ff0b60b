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

typedef struct row_norm_job {
    const limn_kernels *k;
    const limn_row_norm_args *a;
    int64_t parts, rows_per_task;
} row_norm_job;

typedef struct row_stats {
    float mean, rstd; /* mean 0 for rms */
    float offset;     /* -(exact mean - mean) * rstd */
} row_stats;

static row_stats measure_row(const row_norm_job *j, int64_t at) {
    const limn_row_norm_args *a = j->a;
    _Alignas(64) float buf[LIMN_ROW_PIECE];
    double sum = 0, left = 0, sq = 0, unused = 0, n = (double)a->dim;
    row_stats s = {0};
    for (int pass = a->rms ? 1 : 0; pass < 2; pass++) {
        for (int64_t i = 0; i < a->dim; i += LIMN_ROW_PIECE) {
            int64_t m = min_i64(a->dim - i, LIMN_ROW_PIECE);
            const float *x = limn_rowio_load(j->k, buf, a->x.data, a->x.type, at + i, m);
            j->k->norm.moments(x, s.mean, m, pass ? &left : &sum, pass ? &sq : &unused);
        }
        if (pass == 0) s.mean = (float)(sum / n);
    }
    if (a->rms)
        left = 0;
    else
        sq -= left * left / n; /* left: sum of x - mean, what the rounding of the mean left over */
    double var = sq / n > 0 || isnan(sq) ? sq / n : 0;
    s.rstd = (float)(1.0 / sqrt(var + (double)a->eps));
    s.offset = (float)(-left / n * (double)s.rstd);
    return s;
}

static int64_t broadcast_row(const limn_rows_in *in, int64_t row) {
    return (in->repeat > 1 ? row / in->repeat : row) * in->stride;
}

/* Columns [i, i + n) of part p: normalise, weight, modulate. */
static void row_piece(const row_norm_job *j, int64_t row, int64_t p, int64_t i, int64_t n,
                      row_stats s) {
    const limn_row_norm_args *a = j->a;
    const limn_kernels *k = j->k;
    static const float zeros[LIMN_ROW_PIECE];
    _Alignas(64) float in[LIMN_ROW_PIECE], out[LIMN_ROW_PIECE], wbuf[LIMN_ROW_PIECE];
    int64_t col = p * a->dim + i, x_at = row * a->x.stride + col, y_at = row * a->y.stride + col;
    const float *x = limn_rowio_load(k, in, a->x.data, a->x.type, x_at, n);
    const float *w = a->weight ? a->weight + i : NULL;
    if (w && a->weight_plus) {
        k->elementwise.affine(wbuf, w, 1.0f, 1.0f, n);
        w = wbuf;
    }
    float *y = limn_rowio_dest(out, a->y.data, a->y.type, y_at);
    k->norm.apply(y, x, s.mean, s.rstd, s.offset, w, a->bias ? a->bias + i : NULL, n);
    if (a->scale.data || a->shift.data) {
        const float *scale = zeros, *shift = zeros;
        if (a->scale.data) /* wbuf and in are free again */
            scale = limn_rowio_load(k, wbuf, a->scale.data, a->scale.type,
                                    broadcast_row(&a->scale, row) + col, n);
        if (a->shift.data)
            shift = limn_rowio_load(k, in, a->shift.data, a->shift.type,
                                    broadcast_row(&a->shift, row) + col, n);
        k->elementwise.modulate(y, y, scale, shift, n);
    }
    limn_rowio_store(k, a->y.data, a->y.type, y_at, y, n);
}

static void row_norm_task(void *arg, size_t task, int worker) {
    (void)worker;
    const row_norm_job *j = arg;
    const limn_row_norm_args *a = j->a;
    int64_t r0 = (int64_t)task * j->rows_per_task, r1 = min_i64(r0 + j->rows_per_task, a->rows);
    for (int64_t r = r0; r < r1; r++)
        for (int64_t p = 0; p < j->parts; p++) {
            row_stats s = measure_row(j, r * a->x.stride + p * a->dim);
            for (int64_t i = 0; i < a->dim; i += LIMN_ROW_PIECE)
                row_piece(j, r, p, i, min_i64(a->dim - i, LIMN_ROW_PIECE), s);
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
    CHUNK_ELEMENTS = 16384, /* 64 KiB of f32: both statistics passes find it in the cache */
    CHUNK_ROWS_MAX = 256    /* rows summed in f32 before f64 takes over */
};

typedef struct group_part { /* statistics of one group in one chunk */
    double mean, m2;        /* m2: sum of squared differences from the mean */
} group_part;

typedef struct group_job {
    const limn_kernels *k;
    const limn_group_norm_args *a;
    group_part *parts;        /* [n, chunks, groups], in the scratch */
    const float *mean, *rstd; /* [n, groups] */
    int64_t chunk_rows, chunks;
    int64_t first, pitch; /* pixel of chunk 0 of a picture, pixels from chunk to chunk */
} group_job;

static group_job group_plan(const limn_exec *ex, const limn_group_norm_args *a) {
    group_job j = {.k = ex ? ex->k : NULL, .a = a, .parts = ex ? ex->scratch : NULL};
    int64_t rows = CHUNK_ELEMENTS / (a->channels > 0 ? a->channels : 1);
    j.chunk_rows = rows < 1 ? 1 : rows > CHUNK_ROWS_MAX ? CHUNK_ROWS_MAX : rows;
    j.chunks = (a->pixels + j.chunk_rows - 1) / j.chunk_rows;
    j.pitch = j.chunk_rows;
    return j;
}

size_t limn_group_norm_scratch_bytes(const limn_group_norm_args *a) {
    if (a->n < 0 || a->pixels < 0 || a->channels < 0 || a->groups < 1) return SIZE_MAX;
    group_job j = group_plan(NULL, a);
    size_t parts, stats, all;
    bool ok = limn_mul_size(&parts, (size_t)a->n, (size_t)j.chunks) &&
              limn_mul_size(&parts, parts, (size_t)a->groups * sizeof(group_part)) &&
              limn_mul_size(&stats, (size_t)a->n, (size_t)a->groups * 2 * sizeof(float)) &&
              limn_add_size(&all, parts, stats);
    return ok ? all : SIZE_MAX;
}

/* Columns [c0, c0 + n) of the chunk's rows: s1, s2 [n] relative to mean [n], which is made here. */
static void chunk_columns(const group_job *j, int64_t row0, int64_t rows, int64_t c0, int64_t n,
                          float *mean, float *s1, float *s2) {
    const limn_group_norm_args *a = j->a;
    limn_norm_block b = {limn_rowio_at(a->x.data, a->x.type, row0 * a->x.stride + c0), a->x.type,
                         rows, a->x.stride};
    memset(mean, 0, (size_t)n * 4);
    memset(s1, 0, (size_t)n * 4);
    memset(s2, 0, (size_t)n * 4);
    j->k->norm.col_add(mean, &b, n);
    float inv = 1.0f / (float)rows;
    for (int64_t c = 0; c < n; c++) mean[c] *= inv;
    j->k->norm.col_moments(s1, s2, &b, mean, n);
}

/* Joins (mean, m2) of n_b elements to (mean, m2) of n_a (Chan, Golub, LeVeque 1979). */
static void join_parts(double *mean, double *m2, double n_a, double mean_b, double m2_b,
                       double n_b) {
    double d = mean_b - *mean, n = n_a + n_b;
    *m2 += m2_b + d * d * n_a * n_b / n;
    *mean += d * n_b / n;
}

/* Columns [0, m) of one group, `rows` numbers each, as one part. */
static group_part join_columns(const float *mean, const float *s1, const float *s2, int64_t m,
                               double rows) {
    group_part p = {0};
    double spread = 0, left = 0;
    for (int64_t c = 0; c < m; c++) p.mean += (double)mean[c] + (double)s1[c] / rows;
    p.mean /= (double)m;
    for (int64_t c = 0; c < m; c++) {
        double rest = (double)s1[c] / rows; /* rounding of the column's mean */
        double d = (double)mean[c] + rest - p.mean, own = (double)s2[c] - rest * rest * rows;
        left += own > 0 || isnan(own) ? own : 0;
        spread += d * d;
    }
    p.m2 = left + spread * rows;
    return p;
}

static void group_stats_task(void *arg, size_t task, int worker) {
    (void)worker;
    const group_job *j = arg;
    const limn_group_norm_args *a = j->a;
    int64_t image = (int64_t)task / j->chunks, chunk = (int64_t)task % j->chunks;
    int64_t p0 = j->first + chunk * j->pitch;
    int64_t rows = min_i64(j->chunk_rows, a->pixels - chunk * j->chunk_rows);
    int64_t per_group = a->channels / a->groups;
    group_part *parts = j->parts + (int64_t)task * a->groups;
    _Alignas(64) float mean[LIMN_ROW_PIECE], s1[LIMN_ROW_PIECE], s2[LIMN_ROW_PIECE];
    double n = (double)rows;
    for (int64_t c0 = 0; c0 < a->channels; c0 += LIMN_ROW_PIECE) {
        int64_t m = min_i64(a->channels - c0, LIMN_ROW_PIECE);
        chunk_columns(j, image * a->pixels + p0, rows, c0, m, mean, s1, s2);
        for (int64_t c = 0, w; c < m;
             c += w) { /* the columns of a group, as far as they are here */
            int64_t g = (c0 + c) / per_group, seen = (c0 + c) % per_group;
            w = min_i64(per_group - seen, m - c);
            group_part p = join_columns(mean + c, s1 + c, s2 + c, w, n);
            if (seen == 0)
                parts[g] = p;
            else
                join_parts(&parts[g].mean, &parts[g].m2, (double)seen * n, p.mean, p.m2,
                           (double)w * n);
        }
    }
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
    if (a->channels > 0) limn_pool_run(ex->pool, group_stats_task, &j, (size_t)(a->n * j.chunks));
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
    limn_pool_run(ex->pool, group_stats_task, &j, (size_t)j.chunks);
    for (int64_t g = 0; g < a->groups; g++) {
        double m, v;
        group_total(&j, 0, g, &m, &v);
        mean[g] = (float)m;
        var[g] = (float)v;
    }
}

static void group_apply_task(void *arg, size_t task, int worker) {
    (void)worker;
    const group_job *j = arg;
    const limn_group_norm_args *a = j->a;
    int64_t image = (int64_t)task / j->chunks, chunk = (int64_t)task % j->chunks;
    int64_t p0 = chunk * j->chunk_rows, rows = min_i64(j->chunk_rows, a->pixels - p0);
    int64_t per_group = a->channels / a->groups;
    _Alignas(64) float mean[LIMN_ROW_PIECE], scale[LIMN_ROW_PIECE], bias[LIMN_ROW_PIECE];
    _Alignas(64) float in[LIMN_ROW_PIECE], out[LIMN_ROW_PIECE];
    for (int64_t c0 = 0; c0 < a->channels; c0 += LIMN_ROW_PIECE) {
        int64_t m = min_i64(a->channels - c0, LIMN_ROW_PIECE);
        int64_t g = image * a->groups + c0 / per_group, left = per_group - c0 % per_group;
        for (int64_t c = 0; c < m; c++, left--) {
            if (left == 0) g++, left = per_group;
            mean[c] = j->mean[g];
            scale[c] = j->rstd[g] * (a->weight ? a->weight[c0 + c] : 1.0f);
            bias[c] = a->bias ? a->bias[c0 + c] : 0.0f;
        }
        for (int64_t r = 0; r < rows; r++) {
            int64_t px = image * a->pixels + p0 + r, y_at = px * a->y.stride + c0;
            const float *x =
                limn_rowio_load(j->k, in, a->x.data, a->x.type, px * a->x.stride + c0, m);
            float *y = limn_rowio_dest(out, a->y.data, a->y.type, y_at);
            j->k->norm.col_apply(y, x, mean, scale, bias, a->silu, m);
            limn_rowio_store(j->k, a->y.data, a->y.type, y_at, y, m);
        }
    }
}

void limn_group_norm_apply(const limn_exec *ex, const limn_group_norm_args *a, const float *mean,
                           const float *rstd) {
    assert(limn_rowio_is_type(a->y.type) && a->groups >= 1 && a->channels % a->groups == 0);
    group_job j = group_plan(ex, a);
    j.mean = mean, j.rstd = rstd;
    if (a->n <= 0 || a->channels <= 0) return;
    limn_pool_run(ex->pool, group_apply_task, &j, (size_t)(a->n * j.chunks));
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
