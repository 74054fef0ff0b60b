/* SPDX-License-Identifier: MIT */
/* Plain loops, one function per op; see ref_ops.h and graph/graph.h. */
#include "backend/ref/ref_ops.h"

#include <math.h>

#include "backend/weight_rows.h"

static int64_t count_of(const limn_node *n) {
    return limn_shape_count(&n->shape);
}
static int64_t last_of(const limn_node *n) {
    return n->shape.dim[n->shape.ndim - 1];
}

/* A whole weight as f32; NULL stays NULL. The caller frees. */
static limn_status weight_values(float **out, const limn_weight *w, limn_err *err) {
    *out = NULL;
    if (!w) return LIMN_OK;
    int64_t n = limn_shape_count(&w->t.shape);
    *out = limn_mem_alloc((size_t)n * sizeof **out);
    if (!*out) return limn_fail(err, LIMN_E_NOMEM, "no memory for '%s'", w->name);
    return limn_weight_read(*out, w, 0, limn_weight_rows(w), err);
}

/* bias, channel add, activation, factor, residual: the epilogue of LINEAR and CONV2D */
static float epilogue(const ref_step *s, double sum, const float *bias, int64_t row, int64_t col,
                      int64_t cols, int64_t rows_per_image) {
    const limn_attr *a = &s->n->attr;
    int at = 1;
    if (bias) sum += bias[col];
    if (a->channel_add) sum += ((float *)s->x[at++])[row / rows_per_image * cols + col];
    float v = limn_act_apply(a->act, a->slope, (float)sum) * a->mul;
    if (a->residual) v += ((float *)s->x[at])[row * cols + col];
    return v;
}

static float glu_of(limn_glu kind, float first, float second) {
    return kind == LIMN_GLU_GEGLU ? first * limn_act_apply(LIMN_ACT_GELU, 0, second)
                                  : limn_act_apply(LIMN_ACT_SILU, 0, first) * second;
}

static double dot(const float *x, const float *w, int64_t k) {
    double sum = 0;
    for (int64_t t = 0; t < k; t++) sum += (double)x[t] * w[t];
    return sum;
}

static limn_status ref_linear(const ref_step *s, limn_err *err) {
    int64_t n = last_of(s->n), k = last_of(s->n->src[0]), m = count_of(s->n) / n;
    float *w = NULL, *b = NULL;
    const float *x = s->x[0];
    limn_status st;
    LIMN_TRY(weight_values(&w, s->n->w, err));
    LIMN_TRY(weight_values(&b, s->n->bias, err));
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            float v = epilogue(s, dot(x + i * k, w + j * k, k), b, i, j, n, m);
            if (s->n->attr.gated) {
                int64_t second = j + n; /* of 2 n outputs */
                v = glu_of(s->n->attr.glu, v,
                           epilogue(s, dot(x + i * k, w + second * k, k), b, i, second, n, m));
            }
            s->y[i * n + j] = v;
        }
out:
    limn_mem_free(w);
    limn_mem_free(b);
    return st;
}

typedef struct conv_dims {
    int64_t h, w, ic, oh, ow, oc, kh, kw; /* h, w: after the fused upsampling */
} conv_dims;

static double conv_sum(const ref_step *s, const conv_dims *d, const float *w, int64_t img,
                       int64_t oy, int64_t ox, int64_t oc) {
    const limn_attr *a = &s->n->attr;
    int up = a->upsample2 ? 2 : 1;
    const float *x = (const float *)s->x[0] + img * (d->h / up) * (d->w / up) * d->ic;
    double sum = 0;
    for (int64_t ky = 0; ky < d->kh; ky++)
        for (int64_t kx = 0; kx < d->kw; kx++) {
            int64_t iy = oy * a->stride + ky - a->pad_t, ix = ox * a->stride + kx - a->pad_l;
            if (iy < 0 || ix < 0 || iy >= d->h || ix >= d->w) continue;
            const float *px = x + ((iy / up) * (d->w / up) + ix / up) * d->ic;
            for (int64_t c = 0; c < d->ic; c++)
                sum += (double)px[c] * w[((oc * d->ic + c) * d->kh + ky) * d->kw + kx];
        }
    return sum;
}

static limn_status ref_conv2d(const ref_step *s, limn_err *err) {
    const int64_t *xd = s->n->src[0]->shape.dim, *yd = s->n->shape.dim;
    const int64_t *wd = s->n->w->t.shape.dim;
    int up = s->n->attr.upsample2 ? 2 : 1;
    conv_dims d = {xd[1] * up, xd[2] * up, xd[3], yd[1], yd[2], yd[3], wd[2], wd[3]};
    float *w = NULL, *b = NULL;
    limn_status st;
    LIMN_TRY(weight_values(&w, s->n->w, err));
    LIMN_TRY(weight_values(&b, s->n->bias, err));
    for (int64_t row = 0; row < yd[0] * d.oh * d.ow; row++)
        for (int64_t oc = 0; oc < d.oc; oc++) {
            int64_t img = row / (d.oh * d.ow), at = row % (d.oh * d.ow);
            double sum = conv_sum(s, &d, w, img, at / d.ow, at % d.ow, oc);
            s->y[row * d.oc + oc] = epilogue(s, sum, b, row, oc, d.oc, d.oh * d.ow);
        }
out:
    limn_mem_free(w);
    limn_mem_free(b);
    return st;
}

/* y = (x - mean) * rstd * w + b over `rows` rows of `cols` values, `stride` apart */
static void normalise(float *y, const float *x, int64_t rows, int64_t cols, int64_t stride,
                      float eps, const float *w, const float *b, bool centre) {
    double sum = 0, sq = 0, n = (double)(rows * cols);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++) sum += x[r * stride + c];
    double mean = centre ? sum / n : 0;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++) {
            double d = x[r * stride + c] - mean;
            sq += d * d;
        }
    double rstd = 1.0 / sqrt(sq / n + eps);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++) {
            double v = (x[r * stride + c] - mean) * rstd;
            y[r * stride + c] = (float)(v * (w ? w[c] : 1.0f) + (b ? b[c] : 0.0f));
        }
}

static void apply_given(float *y, const float *x, int64_t rows, int64_t cols, int64_t stride,
                        double mean, double rstd, const float *w, const float *b) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++) {
            double v = (x[r * stride + c] - mean) * rstd;
            y[r * stride + c] = (float)(v * (w ? w[c] : 1.0f) + (b ? b[c] : 0.0f));
        }
}

static limn_status ref_group_stats(const ref_step *s, limn_err *err) {
    const int64_t *x = s->n->src[0]->shape.dim;
    const int32_t *at = s->x[1];
    int64_t f = s->n->attr.factor, groups = s->n->attr.groups, per = x[3] / groups;
    int64_t y0 = at[0] * f, x0 = at[1] * f, y1 = at[2] * f, x1 = at[3] * f;
    if (y0 < 0 || x0 < 0 || y1 <= y0 || x1 <= x0 || y1 > x[1] || x1 > x[2])
        return limn_fail(err, LIMN_E_LIMIT, "a window [%d, %d) x [%d, %d) does not lie in a tile",
                         at[0], at[2], at[1], at[3]);
    double n = (double)((y1 - y0) * (x1 - x0) * per);
    for (int64_t g = 0; g < groups; g++)
        for (int pass = 0; pass < 2; pass++) {
            double sum = 0, mean = pass ? s->y[g] : 0;
            for (int64_t r = y0; r < y1; r++)
                for (int64_t c = x0; c < x1; c++)
                    for (int64_t k = g * per; k < (g + 1) * per; k++) {
                        double v = ((float *)s->x[0])[(r * x[2] + c) * x[3] + k] - mean;
                        sum += pass ? v * v : v;
                    }
            s->y[pass * groups + g] = (float)(sum / n);
        }
    return LIMN_OK;
}

static limn_status ref_group_norm(const ref_step *s, limn_err *err) {
    const limn_attr *a = &s->n->attr;
    int64_t c = last_of(s->n), n = s->n->shape.dim[0], rows = count_of(s->n) / n / c;
    int64_t per = c / a->groups;
    float *w = NULL, *b = NULL;
    limn_status st;
    LIMN_TRY(weight_values(&w, s->n->w, err));
    LIMN_TRY(weight_values(&b, s->n->bias, err));
    for (int64_t i = 0; i < n; i++)
        for (int64_t g = 0; g < a->groups; g++) {
            int64_t at = i * rows * c + g * per;
            const float *wg = w ? w + g * per : NULL, *bg = b ? b + g * per : NULL;
            if (s->n->n_src == 2)
                apply_given(s->y + at, (float *)s->x[0] + at, rows, per, c, ((float *)s->x[1])[g],
                            ((float *)s->x[1])[a->groups + g], wg, bg);
            else
                normalise(s->y + at, (float *)s->x[0] + at, rows, per, c, a->eps, wg, bg, true);
        }
    for (int64_t i = 0; i < count_of(s->n); i++) s->y[i] = limn_act_apply(a->act, 0, s->y[i]);
out:
    limn_mem_free(w);
    limn_mem_free(b);
    return st;
}

static limn_status row_norm(const ref_step *s, bool centre, limn_err *err) {
    int64_t c = last_of(s->n), total = count_of(s->n);
    float *w = NULL, *b = NULL;
    limn_status st;
    LIMN_TRY(weight_values(&w, s->n->w, err));
    LIMN_TRY(weight_values(&b, s->n->bias, err));
    if (!centre && s->n->w) c = limn_shape_count(&s->n->w->t.shape); /* per head */
    for (int64_t at = 0; at < total; at += c)
        normalise(s->y + at, (float *)s->x[0] + at, 1, c, c, s->n->attr.eps, w, b, centre);
out:
    limn_mem_free(w);
    limn_mem_free(b);
    return st;
}

static limn_status ref_layer_norm(const ref_step *s, limn_err *err) {
    return row_norm(s, true, err);
}
static limn_status ref_rms_norm(const ref_step *s, limn_err *err) {
    return row_norm(s, false, err);
}

/* One query row of one head; p [lk] is scratch. A row that sees no key gives zeros. */
static void attend(float *y, const float *q, const float *k, const float *v, const float *mask,
                   float *p, int64_t lk, int64_t see, int64_t dim, int64_t stride, float scale) {
    double top = -INFINITY, sum = 0;
    for (int64_t j = 0; j < lk; j++) {
        double dot = 0;
        for (int64_t t = 0; t < dim; t++) dot += (double)q[t] * k[j * stride + t];
        p[j] = j < see ? (float)(dot * scale + (mask ? mask[j] : 0.0f)) : -INFINITY;
        if (p[j] > top) top = p[j];
    }
    for (int64_t j = 0; j < lk; j++) {
        p[j] = top > -INFINITY ? (float)exp(p[j] - top) : 0;
        sum += p[j];
    }
    for (int64_t t = 0; t < dim; t++) {
        double o = 0;
        for (int64_t j = 0; j < lk; j++) o += (double)p[j] * v[j * stride + t];
        y[t] = sum > 0 ? (float)(o / sum) : 0;
    }
}

static limn_status ref_attention(const ref_step *s, limn_err *err) {
    const limn_attr *a = &s->n->attr;
    const int64_t *qd = s->n->src[0]->shape.dim, *kd = s->n->src[1]->shape.dim;
    int64_t lq = qd[1], lk = kd[1], dim = qd[2] / a->heads, per = a->heads / a->kv_heads;
    const float *q = s->x[0], *k = s->x[1], *v = s->x[2], *mask = s->n->n_src > 3 ? s->x[3] : NULL;
    float *p = limn_mem_alloc((size_t)lk * sizeof *p);
    if (!p) return limn_fail(err, LIMN_E_NOMEM, "no memory for attention scores");
    for (int64_t i = 0; i < qd[0] * lq; i++)
        for (int64_t h = 0; h < a->heads; h++) {
            int64_t img = i / lq, row = i % lq, kv = (img * lk) * kd[2] + h / per * dim;
            int64_t see = a->causal ? row + 1 + a->offset : lk;
            attend(s->y + i * qd[2] + h * dim, q + i * qd[2] + h * dim, k + kv, v + kv,
                   mask ? mask + row * lk : NULL, p, lk, see, dim, kd[2], a->scale);
        }
    limn_mem_free(p);
    return LIMN_OK;
}

static limn_status ref_unary(const ref_step *s, limn_err *err) {
    (void)err;
    const float *x = s->x[0];
    for (int64_t i = 0; i < count_of(s->n); i++)
        s->y[i] = limn_act_apply(s->n->attr.act, s->n->attr.slope, x[i]);
    return LIMN_OK;
}

static limn_status ref_glu(const ref_step *s, limn_err *err) {
    (void)err;
    int64_t c = last_of(s->n), rows = count_of(s->n) / c;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < c; i++) {
            const float *x = (const float *)s->x[0] + r * 2 * c;
            s->y[r * c + i] = glu_of(s->n->attr.glu, x[i], x[c + i]);
        }
    return LIMN_OK;
}

/* Index into b of element i of x, b broadcast to x. */
static int64_t broadcast_index(const limn_node *n, int64_t i) {
    const limn_shape *x = &n->shape, *b = &n->src[1]->shape;
    int64_t at = 0, step = 1;
    for (int d = 1; d <= x->ndim; d++) {
        int64_t here = i % x->dim[x->ndim - d];
        i /= x->dim[x->ndim - d];
        if (d > b->ndim) break;
        if (b->dim[b->ndim - d] != 1) at += here * step;
        step *= b->dim[b->ndim - d];
    }
    return at;
}

static limn_status ref_add(const ref_step *s, limn_err *err) {
    (void)err;
    const float *a = s->x[0], *b = s->x[1];
    for (int64_t i = 0; i < count_of(s->n); i++) s->y[i] = a[i] + b[broadcast_index(s->n, i)];
    return LIMN_OK;
}

static limn_status ref_mul(const ref_step *s, limn_err *err) {
    (void)err;
    const float *a = s->x[0], *b = s->x[1];
    for (int64_t i = 0; i < count_of(s->n); i++) s->y[i] = a[i] * b[broadcast_index(s->n, i)];
    return LIMN_OK;
}

static limn_status ref_affine(const ref_step *s, limn_err *err) {
    (void)err;
    const float *x = s->x[0];
    for (int64_t i = 0; i < count_of(s->n); i++) s->y[i] = x[i] * s->n->attr.mul + s->n->attr.add;
    return LIMN_OK;
}

static limn_status ref_concat(const ref_step *s, limn_err *err) {
    (void)err;
    int64_t c = last_of(s->n), a = last_of(s->n->src[0]), rows = count_of(s->n) / c;
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < c; i++)
            s->y[r * c + i] =
                i < a ? ((float *)s->x[0])[r * a + i] : ((float *)s->x[1])[r * (c - a) + i - a];
    return LIMN_OK;
}

static limn_status ref_upsample(const ref_step *s, limn_err *err) {
    (void)err;
    const int64_t *x = s->n->src[0]->shape.dim, *y = s->n->shape.dim;
    for (int64_t i = 0; i < count_of(s->n); i++) {
        int64_t c = i % y[3], ox = i / y[3] % y[2], oy = i / y[3] / y[2] % y[1];
        int64_t img = i / (y[3] * y[2] * y[1]), iy = oy * x[1] / y[1], ix = ox * x[2] / y[2];
        s->y[i] = ((float *)s->x[0])[((img * x[1] + iy) * x[2] + ix) * x[3] + c];
    }
    return LIMN_OK;
}

static limn_status ref_timestep(const ref_step *s, limn_err *err) {
    (void)err;
    int64_t dim = last_of(s->n), half = dim / 2, n = s->n->shape.dim[0];
    const limn_attr *a = &s->n->attr;
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < half; j++) {
            double f = exp(-log(a->max_period) * (double)j / ((double)half - a->shift));
            double arg = ((float *)s->x[0])[i] * f;
            s->y[i * dim + j] = (float)(a->flip ? cos(arg) : sin(arg));
            s->y[i * dim + half + j] = (float)(a->flip ? sin(arg) : cos(arg));
        }
    return LIMN_OK;
}

static limn_status ref_rows(const ref_step *s, limn_err *err) {
    const int64_t *x = s->n->src[0]->shape.dim;
    for (int64_t i = 0; i < x[0]; i++) {
        int32_t row = ((int32_t *)s->x[1])[i];
        if (row < 0 || row >= x[1])
            return limn_fail(err, LIMN_E_VALUE, "row %d of a sequence of %lld", row,
                             (long long)x[1]);
        memcpy(s->y + i * x[2], (float *)s->x[0] + (i * x[1] + row) * x[2], (size_t)x[2] * 4);
    }
    return LIMN_OK;
}

static limn_status ref_rope(const ref_step *s, limn_err *err) {
    (void)err;
    const limn_attr *a = &s->n->attr;
    const limn_shape *t = &s->n->src[1]->shape;
    int64_t len = s->n->shape.dim[1], width = s->n->shape.dim[2], dim = width / a->heads;
    int64_t half = t->dim[t->ndim - 1];
    const float *x = s->x[0], *cosines = s->x[1], *sines = s->x[2];
    for (int64_t i = 0; i < s->n->shape.dim[0] * len; i++) {
        int64_t row = (t->ndim == 3 ? i : i % len) * half;
        for (int64_t h = 0; h < a->heads; h++)
            for (int64_t j = 0; j < dim; j++) {
                int64_t at = i * width + h * dim, p0 = a->rope_pairs ? 2 * (j / 2) : j % half;
                int64_t p1 = a->rope_pairs ? p0 + 1 : p0 + half, f = a->rope_pairs ? j / 2 : p0;
                if (j >= 2 * half) {
                    s->y[at + j] = x[at + j];
                    continue;
                }
                float c = cosines[row + f], z = sines[row + f];
                if (j == p0) { /* both of the pair at once: the output may be the input */
                    float v0 = x[at + p0], v1 = x[at + p1];
                    s->y[at + p0] = v0 * c - v1 * z;
                    s->y[at + p1] = v1 * c + v0 * z;
                }
            }
    }
    return LIMN_OK;
}

static limn_status ref_slice(const ref_step *s, limn_err *err) {
    (void)err;
    int64_t c = last_of(s->n), all = last_of(s->n->src[0]), rows = count_of(s->n) / c;
    for (int64_t r = 0; r < rows; r++)
        memcpy(s->y + r * c, (float *)s->x[0] + r * all + s->n->attr.offset, (size_t)c * 4);
    return LIMN_OK;
}

static limn_status ref_prelu(const ref_step *s, limn_err *err) {
    float *w = NULL;
    int64_t c = last_of(s->n), one = limn_shape_count(&s->n->w->t.shape) == 1;
    limn_status st = weight_values(&w, s->n->w, err);
    for (int64_t i = 0; st == LIMN_OK && i < count_of(s->n); i++) {
        float v = ((float *)s->x[0])[i];
        s->y[i] = v < 0 ? v * w[one ? 0 : i % c] : v;
    }
    limn_mem_free(w);
    return st;
}

/* Both directions: element [y, x, c, i, j] of the large map pairs with [y, x, c*f*f + i*f + j]. */
static limn_status ref_shuffle(const ref_step *s, limn_err *err) {
    (void)err;
    bool up = s->n->op == LIMN_OP_PIXEL_SHUFFLE;
    const limn_node *small = up ? s->n->src[0] : s->n;
    const int64_t *d = small->shape.dim;
    int64_t f = s->n->attr.factor, c = d[3] / (f * f);
    for (int64_t at = 0; at < count_of(s->n); at++) {
        int64_t ch = at % d[3], x = at / d[3] % d[2], y = at / d[3] / d[2] % d[1];
        int64_t img = at / (d[3] * d[2] * d[1]), i = ch / f % f, j = ch % f;
        int64_t big = ((img * d[1] * f + y * f + i) * d[2] * f + x * f + j) * c + ch / (f * f);
        if (up)
            s->y[big] = ((float *)s->x[0])[at];
        else
            s->y[at] = ((float *)s->x[0])[big];
    }
    return LIMN_OK;
}

static limn_status span_check(const int32_t *at, int64_t len, int64_t rows, limn_err *err) {
    if (at[0] >= 0 && at[1] >= 0 && at[1] <= len && (int64_t)at[0] + at[1] <= rows) return LIMN_OK;
    return limn_fail(err, LIMN_E_LIMIT, "%d positions from %d on do not fit a context of %lld",
                     at[1], at[0], (long long)rows);
}

static limn_status ref_store(const ref_step *s, limn_err *err) {
    const int64_t *x = s->n->src[1]->shape.dim;
    int64_t rows = s->n->shape.dim[1];
    const int32_t *span = s->x[2];
    size_t row;
    (void)limn_dtype_row_bytes(&row, s->n->dtype, x[2]);
    for (int64_t b = 0; b < x[0]; b++, span += last_of(s->n->src[2])) {
        limn_status st = span_check(span, x[1], rows, err);
        if (st != LIMN_OK) return st;
        for (int64_t i = 0; i < span[1]; i++)
            limn_dtype_from_f32((char *)s->y + (size_t)(b * rows + span[0] + i) * row,
                                (const float *)s->x[1] + (b * x[1] + i) * x[2], s->n->dtype, x[2]);
    }
    return LIMN_OK;
}

static limn_status ref_cached_attention(const ref_step *s, limn_err *err) {
    const limn_attr *a = &s->n->attr;
    const limn_node *kn = s->n->src[1];
    const int64_t *q = s->n->shape.dim, *kd = kn->shape.dim;
    int64_t dim = q[2] / a->heads, per = a->heads / a->kv_heads;
    size_t row, all = (size_t)(kd[1] * kd[2]);
    limn_status st = LIMN_OK;
    const int32_t *span = s->x[3];
    int64_t stride = last_of(s->n->src[3]);
    float *k = limn_mem_alloc(2 * (all + (size_t)kd[1]) * sizeof *k), *v = k + all, *p = v + all;
    float *mask = p + kd[1];
    LIMN_CHECK(err, k, LIMN_E_NOMEM, "no memory for attention scores");
    (void)limn_dtype_row_bytes(&row, kn->dtype, kd[2]);
    memset(s->y, 0, (size_t)count_of(s->n) * sizeof *s->y);
    for (int64_t b = 0; b < q[0]; b++, span += stride) {
        LIMN_TRY(span_check(span, q[1], kd[1], err));
        int64_t seen = span[0] + span[1];
        size_t at = (size_t)(b * kd[1]) * row;
        limn_dtype_to_f32(k, (const char *)s->x[1] + at, kn->dtype, seen * kd[2]);
        limn_dtype_to_f32(v, (const char *)s->x[2] + at, kn->dtype, seen * kd[2]);
        for (int64_t i = 0; i < span[1]; i++) {
            int64_t from = stride > 2 ? span[2 + i] : 0; /* where its branch begins */
            LIMN_CHECK(err, from >= 0 && from <= i, LIMN_E_VALUE,
                       "row %lld of a branch that begins at %lld", (long long)i, (long long)from);
            for (int64_t j = 0; j < seen; j++)
                mask[j] = j >= span[0] && j < span[0] + from ? -INFINITY : 0;
            for (int64_t h = 0; h < a->heads; h++) {
                int64_t to = (b * q[1] + i) * q[2] + h * dim, kv = h / per * dim;
                attend(s->y + to, (const float *)s->x[0] + to, k + kv, v + kv, mask, p, seen,
                       span[0] + i + 1, dim, kd[2], a->scale);
            }
        }
    }
out:
    limn_mem_free(k);
    return st;
}

ref_op_fn *const limn_ref_ops[LIMN_OP_COUNT] = {
    [LIMN_OP_LINEAR] = ref_linear,
    [LIMN_OP_CONV2D] = ref_conv2d,
    [LIMN_OP_GROUP_NORM] = ref_group_norm,
    [LIMN_OP_GROUP_STATS] = ref_group_stats,
    [LIMN_OP_LAYER_NORM] = ref_layer_norm,
    [LIMN_OP_RMS_NORM] = ref_rms_norm,
    [LIMN_OP_ATTENTION] = ref_attention,
    [LIMN_OP_UNARY] = ref_unary,
    [LIMN_OP_GLU] = ref_glu,
    [LIMN_OP_ADD] = ref_add,
    [LIMN_OP_MUL] = ref_mul,
    [LIMN_OP_AFFINE] = ref_affine,
    [LIMN_OP_CONCAT] = ref_concat,
    [LIMN_OP_UPSAMPLE] = ref_upsample,
    [LIMN_OP_TIMESTEP] = ref_timestep,
    [LIMN_OP_ROWS] = ref_rows,
    [LIMN_OP_ROPE] = ref_rope,
    [LIMN_OP_SLICE] = ref_slice,
    [LIMN_OP_PRELU] = ref_prelu,
    [LIMN_OP_PIXEL_SHUFFLE] = ref_shuffle,
    [LIMN_OP_PIXEL_UNSHUFFLE] = ref_shuffle,
    [LIMN_OP_STORE] = ref_store,
    [LIMN_OP_CACHED_ATTENTION] = ref_cached_attention,
    [LIMN_OP_ROUTE] = limn_ref_route,
    [LIMN_OP_EXPERTS] = limn_ref_experts,
    [LIMN_OP_MIX] = limn_ref_mix,
};
