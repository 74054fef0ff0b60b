/* SPDX-License-Identifier: MIT */
/* Adapter differences row by row; see lora_file.h. Factors are widened to f32 once per call; sums
 * run over the rank in f32, four terms at a time. */
#include <math.h>
#include <string.h>

#include "formats/lora_math.h"

/* A factor in f32, [rows, cols]. */
typedef struct wide {
    float *v;
    int64_t rows, cols;
} wide;

enum { WIDES = LIMN_LORA_FACTORS };

typedef struct worker {
    const limn_lora_entry *e;
    wide f[WIDES];
    wide magnitude;
    float *delta; /* [cols] */
    float *left, *core, *second;
    int64_t channels; /* input channels: cols / taps */
} worker;

static bool floats_new(float **out, int64_t n) {
    size_t bytes;
    if (n < 0 || !limn_mul_size(&bytes, (size_t)(n ? n : 1), sizeof **out)) return false;
    *out = limn_mem_alloc(bytes);
    return *out != NULL;
}

/* Rows of a tensor as a matrix of `rows` rows. */
static bool widen(wide *w, const limn_tensor *t, int64_t rows) {
    int64_t n = limn_shape_count(&t->shape);
    if (!floats_new(&w->v, n)) return false;
    limn_dtype_to_f32(w->v, t->data, t->dtype, n);
    w->rows = rows;
    w->cols = rows ? n / rows : 0;
    return true;
}

/* dst [n] = sum over k of left[k * step] * right[k, :] */
static void combine(float *dst, const float *left, int64_t step, const float *right, int64_t rank,
                    int64_t n) {
    memset(dst, 0, (size_t)n * sizeof *dst);
    int64_t k = 0;
    for (; k + 4 <= rank; k += 4) {
        const float a = left[k * step], b = left[(k + 1) * step], c = left[(k + 2) * step],
                    d = left[(k + 3) * step];
        const float *p = right + k * n, *q = p + n, *r = q + n, *s = r + n;
        for (int64_t i = 0; i < n; i++) dst[i] += (a * p[i] + b * q[i]) + (c * r[i] + d * s[i]);
    }
    for (; k < rank; k++) {
        const float a = left[k * step];
        for (int64_t i = 0; i < n; i++) dst[i] += a * right[k * n + i];
    }
}

/* dst [in, taps] = sum over a, b of left[a * step] core[a, b, :] right[b, in]; tmp [b, taps] */
static void combine_core(float *dst, float *tmp, const float *left, int64_t step, const wide *core,
                         const wide *right, int64_t taps) {
    int64_t a = core->rows, b = right->rows, in = right->cols;
    combine(tmp, left, step, core->v, a, b * taps);
    for (int64_t i = 0; i < in; i++)
        for (int64_t t = 0; t < taps; t++) {
            float sum = 0;
            for (int64_t k = 0; k < b; k++) sum += tmp[k * taps + t] * right->v[k * in + i];
            dst[i * taps + t] = sum;
        }
}

static void low_rank_row(worker *w, int64_t o) {
    const wide *up = &w->f[0], *down = &w->f[1], *mid = &w->f[2];
    const float *left = up->v + o * up->cols;
    if (mid->v)
        combine_core(w->delta, w->core, left, 1, mid, down, w->e->taps);
    else
        combine(w->delta, left, 1, down->v, down->rows, w->e->cols);
}

static void loha_half(worker *w, float *dst, int half, int64_t o) {
    const wide *a = &w->f[2 * half], *b = &w->f[2 * half + 1], *t = &w->f[4 + half];
    if (t->v)
        combine_core(dst, w->core, a->v + o, a->cols, t, b, w->e->taps);
    else
        combine(dst, a->v + o * a->cols, 1, b->v, b->rows, w->e->cols);
}

static void loha_row(worker *w, int64_t o) {
    loha_half(w, w->delta, 0, o);
    loha_half(w, w->second, 1, o);
    for (int64_t i = 0; i < w->e->cols; i++) w->delta[i] *= w->second[i];
}

/* Row o of w1 x w2: o = o1 * rows(w2) + o2, and columns likewise. */
static void lokr_row(worker *w, int64_t o) {
    const wide *w1 = &w->f[0], *w1a = &w->f[1], *w1b = &w->f[2];
    const wide *w2 = &w->f[3], *w2a = &w->f[4], *w2b = &w->f[5], *t2 = &w->f[6];
    int64_t rows1 = w1->v ? w1->rows : w1a->rows, in1 = w1->v ? w1->cols : w1b->cols;
    int64_t rows2 = w->e->rows / rows1, cols2 = w->e->cols / in1;
    int64_t o1 = o / rows2, o2 = o % rows2;
    if (w1->v)
        memcpy(w->left, w1->v + o1 * in1, (size_t)in1 * sizeof *w->left);
    else
        combine(w->left, w1a->v + o1 * w1a->cols, 1, w1b->v, w1b->rows, in1);
    if (w2->v)
        memcpy(w->second, w2->v + o2 * cols2, (size_t)cols2 * sizeof *w->second);
    else if (t2->v)
        combine_core(w->second, w->core, w2a->v + o2, w2a->cols, t2, w2b, w->e->taps);
    else
        combine(w->second, w2a->v + o2 * w2a->cols, 1, w2b->v, w2b->rows, cols2);
    for (int64_t i = 0; i < in1; i++)
        for (int64_t k = 0; k < cols2; k++) w->delta[i * cols2 + k] = w->left[i] * w->second[k];
}

/* w->delta = scale * delta of row o */
static void delta_row(worker *w, int64_t o) {
    const limn_lora_entry *e = w->e;
    switch (e->kind) {
    case LIMN_LORA_LOW_RANK: low_rank_row(w, o); break;
    case LIMN_LORA_LOHA: loha_row(w, o); break;
    case LIMN_LORA_LOKR: lokr_row(w, o); break;
    case LIMN_LORA_FULL:
        memcpy(w->delta, w->f[0].v + o * e->cols, (size_t)e->cols * sizeof *w->delta);
        break;
    }
    float s = (float)e->scale;
    for (int64_t i = 0; i < e->cols; i++) w->delta[i] *= s;
}

static void worker_close(worker *w) {
    for (int i = 0; i < WIDES; i++) limn_mem_free(w->f[i].v);
    limn_mem_free(w->magnitude.v);
    limn_mem_free(w->delta);
    limn_mem_free(w->left);
    limn_mem_free(w->core);
    limn_mem_free(w->second);
}

static limn_status worker_open(worker *w, const limn_lora_entry *e, limn_err *err) {
    *w = (worker){.e = e, .channels = e->cols / (e->taps ? e->taps : 1)};
    bool fine = floats_new(&w->delta, e->cols);
    for (int i = 0; fine && i < WIDES; i++) {
        const limn_tensor *t = e->factor[i];
        if (!t) continue;
        int64_t rows = e->kind == LIMN_LORA_FULL ? e->rows : t->shape.ndim ? t->shape.dim[0] : 1;
        fine = widen(&w->f[i], t, rows);
    }
    /* a core's row of combinations is never longer than its second rank times the taps */
    fine = fine && floats_new(&w->core, (e->rank + 1) * (e->taps + 1));
    if (e->kind == LIMN_LORA_LOHA || e->kind == LIMN_LORA_LOKR)
        fine = fine && floats_new(&w->second, e->cols) && floats_new(&w->left, e->cols);
    if (e->dora) fine = fine && widen(&w->magnitude, e->dora, 1);
    if (fine) return LIMN_OK;
    worker_close(w);
    return limn_fail(err, LIMN_E_NOMEM, "no memory to apply a LoRA to '%s'", e->name);
}

static void base_row(float *dst, const limn_lora_entry *e, int64_t o) {
    size_t bytes = 0;
    limn_dtype_row_bytes(&bytes, e->base->dtype, e->cols);
    limn_dtype_to_f32(dst, (const uint8_t *)e->base->data + (size_t)o * bytes, e->base->dtype,
                      e->cols);
}

/* row += strength * (m (W + delta) / |W + delta| - W) */
static void dora_row(worker *w, float *row, const float *base, double strength, int64_t o) {
    const limn_lora_entry *e = w->e;
    double sum = 0;
    for (int64_t i = 0; i < e->cols; i++) {
        w->delta[i] += base[i];
        sum += (double)w->delta[i] * w->delta[i];
    }
    double by_row = sum > 0 ? w->magnitude.v[e->column_norm ? 0 : o] / sqrt(sum) : 0;
    for (int64_t i = 0; i < e->cols; i++) {
        double by = by_row;
        if (e->column_norm) {
            int64_t c = i / e->taps;
            by = e->column_norm[c] > 0 ? w->magnitude.v[c] / (double)e->column_norm[c] : 0;
        }
        row[i] += (float)(strength * (w->delta[i] * by - base[i]));
    }
}

limn_status limn_lora_row_delta(const limn_lora_entry *e, double strength, int64_t r0, int64_t r1,
                                float *rows, const float *base, limn_err *err) {
    worker w;
    if (r0 < 0 || r1 < r0 || r1 > e->rows)
        return limn_fail(err, LIMN_E_VALUE, "rows %lld to %lld of '%s', which has %lld",
                         (long long)r0, (long long)r1, e->name, (long long)e->rows);
    limn_status st = worker_open(&w, e, err);
    if (st != LIMN_OK) return st;
    float *own = NULL;
    if (e->dora && !base && !floats_new(&own, e->cols)) {
        worker_close(&w);
        return limn_fail(err, LIMN_E_NOMEM, "no memory to apply a LoRA to '%s'", e->name);
    }
    for (int64_t o = r0; o < r1; o++) {
        float *row = rows + (o - r0) * e->cols;
        delta_row(&w, o);
        if (!e->dora) {
            for (int64_t i = 0; i < e->cols; i++) row[i] += (float)strength * w.delta[i];
            continue;
        }
        if (own) base_row(own, e, o);
        dora_row(&w, row, own ? own : base + (o - r0) * e->cols, strength, o);
    }
    limn_mem_free(own);
    worker_close(&w);
    return st;
}

limn_status limn_lora_column_norms(float *norms, const limn_lora_entry *e, limn_err *err) {
    worker w;
    limn_status st = worker_open(&w, e, err);
    if (st != LIMN_OK) return st;
    float *row = NULL;
    double *sum = limn_mem_calloc((size_t)w.channels, sizeof *sum);
    if (!sum || !floats_new(&row, e->cols))
        st = limn_fail(err, LIMN_E_NOMEM, "no memory to apply a LoRA to '%s'", e->name);
    for (int64_t o = 0; st == LIMN_OK && o < e->rows; o++) {
        delta_row(&w, o);
        base_row(row, e, o);
        for (int64_t i = 0; i < e->cols; i++) {
            double v = (double)row[i] + w.delta[i];
            sum[i / e->taps] += v * v;
        }
    }
    for (int64_t c = 0; st == LIMN_OK && c < w.channels; c++) norms[c] = (float)sqrt(sum[c]);
    limn_mem_free(sum);
    limn_mem_free(row);
    worker_close(&w);
    return st;
}
