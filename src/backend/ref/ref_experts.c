/* SPDX-License-Identifier: MIT */
/* A mixture of experts in plain loops; see ref_ops.h and graph/graph.h. */
#include <math.h>

#include "backend/ref/ref_ops.h"
#include "backend/weight_rows.h"

static int64_t last_of(const limn_node *n) {
    return n->shape.dim[n->shape.ndim - 1];
}

/* How many rows of sequence b are used; all without a span. */
static int64_t used_rows(const ref_step *s, int64_t b) {
    if (s->n->n_src == 1) return s->n->shape.dim[1];
    return ((const int32_t *)s->x[1])[b * last_of(s->n->src[1]) + 1];
}

limn_status limn_ref_route(const ref_step *s, limn_err *err) {
    const int64_t *x = s->n->src[0]->shape.dim;
    int64_t experts = x[2], top = s->n->attr.top;
    double *p = limn_mem_alloc((size_t)experts * sizeof *p);
    if (!p) return limn_fail(err, LIMN_E_NOMEM, "no memory for %lld experts", (long long)experts);
    for (int64_t r = 0; r < x[0] * x[1]; r++) {
        const float *in = (const float *)s->x[0] + r * experts;
        float *out = s->y + r * 2 * top;
        double most = -INFINITY, sum = 0;
        for (int64_t e = 0; e < experts; e++) most = fmax(most, in[e]);
        for (int64_t e = 0; e < experts; e++) p[e] = exp(in[e] - most);
        bool used = r % x[1] < used_rows(s, r / x[1]);
        for (int64_t k = 0; k < top; k++) {
            int64_t best = -1;
            for (int64_t e = 0; e < experts; e++)
                if (p[e] >= 0 && (best < 0 || p[e] > p[best])) best = e;
            out[k] = used ? (float)best : -1;
            out[top + k] = used && best >= 0 ? (float)p[best] : 0;
            sum += out[top + k];
            if (best >= 0) p[best] = -1; /* taken */
        }
        for (int64_t k = 0; k < top && sum > 0; k++) out[top + k] = (float)(out[top + k] / sum);
    }
    limn_mem_free(p);
    return LIMN_OK;
}

limn_status limn_ref_experts(const ref_step *s, limn_err *err) {
    const limn_shape *w = &s->n->w->t.shape;
    bool in_major = s->n->attr.input_major;
    int64_t k = w->dim[in_major ? 1 : 2], m = w->dim[in_major ? 2 : 1];
    int64_t top = last_of(s->n->src[1]) / 2, rows = s->n->shape.dim[0] * s->n->shape.dim[1];
    int64_t part = last_of(s->n->src[0]) == k ? 0 : k;
    limn_status st = LIMN_OK;
    float *e = limn_mem_alloc((size_t)(k * m) * sizeof *e);
    LIMN_CHECK(err, e, LIMN_E_NOMEM, "no memory for an expert of '%s'", s->n->w->name);
    memset(s->y, 0, (size_t)(rows * top * m) * sizeof *s->y);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t t = 0; t < top; t++) {
            float id = ((const float *)s->x[1])[r * 2 * top + t];
            const float *x = (const float *)s->x[0] + r * last_of(s->n->src[0]) + t * part;
            if (id < 0) continue;
            LIMN_TRY(limn_weight_read(e, s->n->w, (int64_t)id, 1, err));
            for (int64_t j = 0; j < m; j++) {
                double sum = 0;
                for (int64_t i = 0; i < k; i++)
                    sum += (double)x[i] * (double)(in_major ? e[i * m + j] : e[j * k + i]);
                s->y[(r * top + t) * m + j] = (float)sum;
            }
        }
out:
    limn_mem_free(e);
    return st;
}

limn_status limn_ref_mix(const ref_step *s, limn_err *err) {
    int64_t m = last_of(s->n), top = last_of(s->n->src[1]) / 2;
    (void)err;
    for (int64_t r = 0; r < s->n->shape.dim[0] * s->n->shape.dim[1]; r++)
        for (int64_t j = 0; j < m; j++) {
            double sum = 0;
            for (int64_t t = 0; t < top; t++)
                sum += (double)((const float *)s->x[1])[(r * 2 + 1) * top + t] *
                       (double)((const float *)s->x[0])[(r * top + t) * m + j];
            s->y[r * m + j] = (float)sum;
        }
    return LIMN_OK;
}
