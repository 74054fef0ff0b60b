/* SPDX-License-Identifier: MIT */
/* Mixtures of experts; see experts.h. */
#include "kernels/experts.h"

#include <math.h>
#include <string.h>

#include "kernels/gemm_run.h"
#include "kernels/matmul.h"

static size_t align_up(size_t n) {
    return (n + 63) & ~(size_t)63;
}

/* ---- choosing ---- */

static void route_task(void *arg, size_t task, int worker) {
    const limn_route_args *a = arg;
    int64_t row = (int64_t)task;
    const float *x = a->logits + row * a->experts;
    float *id = a->y + row * 2 * a->top, *share = id + a->top;
    bool used = !a->span || row % a->len < a->span[row / a->len * a->span_stride + 1];
    double sum = 0, all = 0;
    float most = -INFINITY;
    (void)worker;
    for (int k = 0; k < a->top; k++) id[k] = -1, share[k] = 0;
    if (!used) return;
    for (int64_t e = 0; e < a->experts; e++) most = x[e] > most ? x[e] : most;
    for (int64_t e = 0; e < a->experts; e++) all += exp((double)(x[e] - most));
    for (int k = 0; k < a->top; k++) { /* the best that comes after the one before */
        int64_t best = -1, before = k > 0 ? (int64_t)id[k - 1] : -1;
        for (int64_t e = 0; e < a->experts; e++) {
            bool after = k == 0 || x[e] < x[before] || (x[e] == x[before] && e > before);
            if (after && x[e] == x[e] && (best < 0 || x[e] > x[best])) best = e;
        }
        if (best < 0) break;
        id[k] = (float)best;
        share[k] = (float)(exp((double)(x[best] - most)) / all);
        sum += (double)share[k];
    }
    for (int k = 0; k < a->top && sum > 0; k++) share[k] = (float)((double)share[k] / sum);
}

void limn_route_run(const limn_exec *ex, const limn_route_args *a) {
    limn_pool_run(ex->pool, route_task, (void *)(uintptr_t)a, (size_t)a->rows);
}

/* ---- products ---- */

/* first [experts + 1]: where each expert's places begin in place [rows * top] = row * top + part;
 * then products of one row, gathered rows of x and of y, then what the products need. */
typedef struct layout {
    size_t place, ones, x, y, product;
} layout;

/* Experts that at most have one row each. */
static int64_t most_ones(const limn_experts_args *a) {
    return a->rows * a->top < a->experts ? a->rows * a->top : a->experts;
}

static limn_matmul_args product_of(const limn_experts_args *a, const limn_packed *w, int64_t m) {
    return (limn_matmul_args){.y_dtype = LIMN_F32,
                              .y_stride = w->n,
                              .x_dtype = LIMN_F32,
                              .x_stride = m == 1 ? a->x_stride : w->k,
                              .m = m,
                              .w = w,
                              .epi = {.scale = 1}};
}

static layout layout_make(const limn_experts_args *a) {
    const limn_packed *w = a->w[0];
    size_t rows = (size_t)a->rows;
    layout l = {.place = align_up((size_t)(a->experts + 1) * sizeof(int32_t))};
    l.ones = l.place + align_up(rows * (size_t)a->top * sizeof(int32_t));
    l.x = l.ones + align_up((size_t)most_ones(a) * sizeof(limn_gemm_one));
    l.y = l.x + align_up(rows * (size_t)w->k * sizeof(float));
    l.product = l.y + align_up(rows * (size_t)w->n * sizeof(float));
    return l;
}

size_t limn_experts_scratch_bytes(const limn_kernels *k, const limn_experts_args *a, int threads) {
    size_t most = limn_gemm_ones_scratch_bytes(a->w[0], most_ones(a), threads);
    for (int64_t m = 1; m <= a->rows; m++) { /* an expert may have any number of the rows */
        limn_matmul_args p = product_of(a, a->w[0], m);
        size_t bytes = limn_matmul_scratch_bytes(k, &p, threads);
        if (bytes > most) most = bytes;
    }
    return layout_make(a).product + most;
}

/* Counts, sums up, fills: places of each expert in the order of the rows. */
static limn_status sort_places(int32_t *first, int32_t *place, const limn_experts_args *a,
                               limn_err *err) {
    memset(first, 0, (size_t)(a->experts + 1) * sizeof *first);
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t r = 0; r < a->rows; r++)
            for (int t = 0; t < a->top; t++) {
                float id = a->route[r * 2 * a->top + t];
                if (!(id >= 0)) continue;
                if (!(id < (float)a->experts))
                    return limn_fail(err, LIMN_E_VALUE, "expert %g of %lld", (double)id,
                                     (long long)a->experts);
                if (pass == 0)
                    first[(int64_t)id + 1]++;
                else
                    place[first[(int64_t)id]++] = (int32_t)(r * a->top + t);
            }
        for (int64_t e = 0; pass == 0 && e < a->experts; e++) first[e + 1] += first[e];
    }
    /* the second pass moved each beginning to the next one's */
    memmove(first + 1, first, (size_t)a->experts * sizeof *first);
    first[0] = 0;
    return LIMN_OK;
}

static const float *x_of(const limn_experts_args *a, int32_t place) {
    return a->x + place / a->top * a->x_stride + place % a->top * a->x_part;
}

static limn_status expert_run(const limn_exec *ex, const limn_experts_args *a, const limn_packed *w,
                              const int32_t *place, int64_t m, const layout *l, limn_err *err) {
    char *scratch = ex->scratch;
    float *x = (float *)(scratch + l->x), *y = (float *)(scratch + l->y);
    limn_exec inner = *ex;
    inner.scratch = scratch + l->product;
    inner.scratch_bytes = ex->scratch_bytes - l->product;
    limn_matmul_args p = product_of(a, w, m);
    p.x = m == 1 ? x_of(a, place[0]) : x;
    p.y = m == 1 ? a->y + place[0] * w->n : y;
    for (int64_t i = 0; m > 1 && i < m; i++)
        memcpy(x + i * w->k, x_of(a, place[i]), (size_t)w->k * sizeof *x);
    limn_status st = limn_matmul(&inner, &p, err);
    for (int64_t i = 0; m > 1 && st == LIMN_OK && i < m; i++)
        memcpy(a->y + place[i] * w->n, y + i * w->n, (size_t)w->n * sizeof *y);
    return st;
}

/* All experts that one row chose, side by side: *together says whether they were. */
static limn_status ones_run(bool *together, const limn_exec *ex, const limn_experts_args *a,
                            const int32_t *first, const int32_t *place, const layout *l,
                            limn_err *err) {
    limn_gemm_one *ones = (limn_gemm_one *)(void *)((char *)ex->scratch + l->ones);
    int64_t n = 0;
    *together = limn_gemm_takes_few(&ex->k->gemm, a->w[0], 1);
    for (int64_t e = 0; e < a->experts && *together; e++) {
        if (first[e + 1] - first[e] != 1) continue;
        int32_t at = place[first[e]];
        ones[n++] = (limn_gemm_one){a->w[e], x_of(a, at), a->y + at * a->w[e]->n};
    }
    return n > 0 ? limn_gemm_ones(ex, ones, n, (char *)ex->scratch + l->product, err) : LIMN_OK;
}

limn_status limn_experts_run(const limn_exec *ex, const limn_experts_args *a, limn_err *err) {
    layout l = layout_make(a);
    if (ex->scratch_bytes < l.product)
        return limn_fail(err, LIMN_E_INTERNAL, "experts need %zu bytes of scratch, have %zu",
                         l.product, ex->scratch_bytes);
    int32_t *first = ex->scratch, *place = (int32_t *)(void *)((char *)ex->scratch + l.place);
    int64_t n = a->w[0]->n;
    limn_status st = sort_places(first, place, a, err);
    for (int64_t i = 0; i < a->rows * a->top && st == LIMN_OK; i++)
        if (!(a->route[i / a->top * 2 * a->top + i % a->top] >= 0))
            memset(a->y + i * n, 0, (size_t)n * sizeof *a->y);
    bool together = false;
    if (st == LIMN_OK) st = ones_run(&together, ex, a, first, place, &l, err);
    for (int64_t e = 0; e < a->experts && st == LIMN_OK; e++)
        if (first[e + 1] - first[e] > (together ? 1 : 0))
            st = expert_run(ex, a, a->w[e], place + first[e], first[e + 1] - first[e], &l, err);
    return st;
}

/* ---- summing up ---- */

static void mix_task(void *arg, size_t task, int worker) {
    const limn_mix_args *a = arg;
    const float *x = a->x + (int64_t)task * a->top * a->n;
    const float *share = a->route + ((int64_t)task * 2 + 1) * a->top;
    float *y = a->y + (int64_t)task * a->n;
    (void)worker;
    for (int64_t j = 0; j < a->n; j++) y[j] = share[0] * x[j];
    for (int t = 1; t < a->top; t++)
        for (int64_t j = 0; j < a->n; j++) y[j] += share[t] * x[t * a->n + j];
}

void limn_mix_run(const limn_exec *ex, const limn_mix_args *a) {
    limn_pool_run(ex->pool, mix_task, (void *)(uintptr_t)a, (size_t)a->rows);
}
