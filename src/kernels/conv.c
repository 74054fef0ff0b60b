/* SPDX-License-Identifier: MIT */
/* Convolution as a product with one segment per tap; see conv.h and gemm.h. */
#include "kernels/conv.h"

#include <string.h>

#include "base/mem.h"
#include "kernels/gemm_run.h"

typedef struct conv_view {
    limn_conv_shape s;
    int64_t oh, ow;
    const char *base;
    size_t pixel_bytes;
    const void *zeros; /* one pixel of zeros in the kernel's words */
} conv_view;

/* Out of `in` virtual positions; -1 when there is no output. */
static int64_t out_size(int64_t in, int kernel, int stride, int dilation, int64_t pads) {
    int64_t span = (int64_t)(kernel - 1) * dilation + 1;
    return in + pads < span ? -1 : (in + pads - span) / stride + 1;
}

bool limn_conv_out(const limn_conv_shape *s, int64_t *oh, int64_t *ow) {
    enum { SIDE_MAX = 1 << 24, SMALL_MAX = 1 << 12 };
    if (s->n < 1 || s->h < 1 || s->w < 1 || s->ic < 1 || s->oc < 1) return false;
    if (s->n > SIDE_MAX || s->h > SIDE_MAX || s->w > SIDE_MAX || s->ic > SIDE_MAX ||
        s->oc > SIDE_MAX)
        return false;
    const int small[] = {s->kh, s->kw, s->stride, s->dilation, s->groups};
    for (size_t i = 0; i < sizeof small / sizeof *small; i++)
        if (small[i] < 1 || small[i] > SIDE_MAX || (i < 4 && small[i] > SMALL_MAX)) return false;
    const int pads[] = {s->pad_l, s->pad_r, s->pad_t, s->pad_b};
    for (int i = 0; i < 4; i++)
        if (pads[i] < 0 || pads[i] > SIDE_MAX) return false;
    if (s->ic % s->groups != 0 || s->oc % s->groups != 0) return false;
    int64_t up = s->upsample2 ? 2 : 1;
    *oh = out_size(s->h * up, s->kh, s->stride, s->dilation, (int64_t)s->pad_t + s->pad_b);
    *ow = out_size(s->w * up, s->kw, s->stride, s->dilation, (int64_t)s->pad_l + s->pad_r);
    int64_t area, all;
    return *oh > 0 && *ow > 0 && limn_mul_i64(&area, *oh, *ow) && limn_mul_i64(&all, area, s->n) &&
           limn_mul_i64(&all, all, s->oc);
}

/* Pointer to the pixel under a tap, or the zeros. */
static const void *tap_pixel(const conv_view *v, int64_t img, int64_t y, int64_t x) {
    const limn_conv_shape *s = &v->s;
    int up = s->upsample2;
    if (y < 0 || x < 0 || y >= s->h << up || x >= s->w << up) return v->zeros;
    int64_t pixel = (img * s->h + (y >> up)) * s->w + (x >> up);
    return v->base + (size_t)pixel * v->pixel_bytes;
}

static void fill_rows(const limn_gemm_job *job, const void **table, size_t rows_stride,
                      int64_t row0, int rows) {
    const conv_view *v = job->rows_arg;
    const limn_conv_shape *s = &v->s;
    int64_t img = row0 / (v->oh * v->ow), oy = row0 / v->ow % v->oh, ox = row0 % v->ow;
    for (int i = 0; i < rows; i++) {
        const void **at = table + i;
        for (int ky = 0; ky < s->kh; ky++)
            for (int kx = 0; kx < s->kw; kx++, at += rows_stride)
                *at = tap_pixel(v, img, oy * s->stride - s->pad_t + (int64_t)ky * s->dilation,
                                ox * s->stride - s->pad_l + (int64_t)kx * s->dilation);
        if (++ox < v->ow) continue;
        ox = 0;
        if (++oy < v->oh) continue;
        oy = 0;
        img++;
    }
}

/* Scratch: converted image | row scales | maxima | one f32 pixel per thread | zeros | driver's. */
typedef struct layout {
    limn_words words;
    size_t pixel_bytes; /* of the converted image, 0 when x is read in place */
    size_t scale_off, max_off, tmp_off, tmp_row, zero_off, zero_bytes, run_off, total;
    int64_t oh, ow;
} layout;

static bool reads_in_place(const limn_conv_args *a, limn_words words) {
    if (words == LIMN_WORDS_F32) return a->x_dtype == LIMN_F32;
    return words == LIMN_WORDS_BF16X2 && a->x_dtype == LIMN_BF16 && a->w->ic_pad == a->w->ic;
}

static bool is_int8(limn_words words) {
    return words == LIMN_WORDS_U8X4 || words == LIMN_WORDS_S16X4;
}

static bool make_layout(layout *l, const limn_kernels *k, const limn_conv_args *a, int threads) {
    const limn_conv_shape *s = &a->shape;
    *l = (layout){.words = limn_packed_words(a->w, k)};
    if (!limn_conv_out(s, &l->oh, &l->ow)) return false;
    int64_t m = s->n * l->oh * l->ow;
    size_t at = 0;
    l->zero_bytes = limn_packed_row_bytes(a->w, l->words);
    if (!reads_in_place(a, l->words)) {
        l->pixel_bytes = l->zero_bytes; /* a multiple of 4 */
        at = limn_gemm_align(l->pixel_bytes * (size_t)(s->n * s->h * s->w));
        l->scale_off = at;
        if (is_int8(l->words)) at += limn_gemm_align((size_t)m * sizeof(float));
        l->max_off = at;
        if (is_int8(l->words)) at += limn_gemm_align((size_t)(s->n * s->h) * sizeof(float));
        l->tmp_off = at;
        l->tmp_row = limn_gemm_align((size_t)s->ic * sizeof(float));
        at += l->tmp_row * (size_t)threads;
    }
    l->zero_off = at;
    at += limn_gemm_align(l->zero_bytes);
    l->run_off = at;
    l->total = at + limn_gemm_scratch_bytes(k, a->w, m, false, threads);
    return true;
}

size_t limn_conv_scratch_bytes(const limn_kernels *k, const limn_conv_args *a, int threads) {
    layout l;
    if (limn_winograd_takes(k, a)) return limn_winograd_scratch_bytes(k, a, threads);
    return make_layout(&l, k, a, threads) ? l.total : 0;
}

typedef struct convert_job {
    const limn_exec *ex;
    const limn_conv_args *a;
    const layout *l;
    char *scratch;
} convert_job;

static float *worker_tmp(const convert_job *job, int worker) {
    return (float *)(job->scratch + job->l->tmp_off + (size_t)worker * job->l->tmp_row);
}

static const char *pixel_at(const limn_conv_args *a, int64_t i) {
    return (const char *)a->x + (size_t)(i * a->x_stride) * (a->x_dtype == LIMN_BF16 ? 2 : 4);
}

/* One line of the image: its largest magnitude. */
static void line_max(void *arg, size_t task, int worker) {
    const convert_job *job = arg;
    const limn_conv_args *a = job->a;
    const limn_gemm_kernels *g = &job->ex->k->gemm;
    int64_t first = (int64_t)task * a->shape.w;
    size_t ic = (size_t)a->shape.ic;
    float *tmp = worker_tmp(job, worker), most = 0;
    for (int64_t i = first; i < first + a->shape.w; i++) {
        const void *src = pixel_at(a, i);
        if (a->x_dtype == LIMN_BF16) {
            g->bf16_to_f32(tmp, src, ic);
            src = tmp;
        }
        float m = g->max_abs(src, ic);
        if (m > most) most = m;
    }
    ((float *)(job->scratch + job->l->max_off))[task] = most;
}

/* One line of the image into the kernel's words. After line_max, the line's slot holds the image's
 * maximum. */
static void convert_line(void *arg, size_t task, int worker) {
    const convert_job *job = arg;
    const limn_conv_args *a = job->a;
    const layout *l = job->l;
    float inv = 0;
    if (is_int8(l->words)) {
        float amax = ((const float *)(job->scratch + l->max_off))[task];
        inv = amax > 0 ? 127.0f / amax : 0;
    }
    int64_t first = (int64_t)task * a->shape.w;
    const limn_gemm_kernels *g = &job->ex->k->gemm;
    bool bf16 = a->x_dtype == LIMN_BF16;
    float *tmp = worker_tmp(job, worker);
    for (int64_t i = first; i < first + a->shape.w; i++) {
        void *dst = job->scratch + (size_t)i * l->pixel_bytes;
        if (l->words == LIMN_WORDS_S16X2)
            limn_gemm_fix_row(g, dst, a->w, pixel_at(a, i), bf16, tmp);
        else
            limn_gemm_convert_row(g, dst, l->words, pixel_at(a, i), bf16, a->shape.ic, a->w->ic_pad,
                                  inv, tmp);
    }
}

/* Image maxima from line maxima, and from them the scale of every output row. */
static void image_scales(const convert_job *job) {
    const limn_conv_shape *s = &job->a->shape;
    float *max = (float *)(job->scratch + job->l->max_off);
    float *scale = (float *)(job->scratch + job->l->scale_off);
    int64_t area = job->l->oh * job->l->ow;
    for (int64_t img = 0; img < s->n; img++) {
        float most = 0, *lines = max + img * s->h;
        for (int64_t y = 0; y < s->h; y++) most = lines[y] > most ? lines[y] : most;
        for (int64_t y = 0; y < s->h; y++) lines[y] = most;
        for (int64_t i = 0; i < area; i++) scale[img * area + i] = most / 127.0f;
    }
}

static void convert_image(const convert_job *job) {
    const limn_exec *ex = job->ex;
    size_t lines = (size_t)(job->a->shape.n * job->a->shape.h);
    if (is_int8(job->l->words)) {
        limn_pool_run(ex->pool, line_max, (void *)job, lines);
        image_scales(job);
    }
    limn_pool_run(ex->pool, convert_line, (void *)job, lines);
}

static limn_status check(const limn_conv_args *a, limn_err *err) {
    const limn_conv_shape *s = &a->shape;
    int64_t oh, ow;
    if (!limn_conv_out(s, &oh, &ow))
        return limn_fail(err, LIMN_E_SHAPE, "a %dx%d convolution does not fit %lld x %lld pixels",
                         s->kh, s->kw, (long long)s->w, (long long)s->h);
    if (a->x_dtype != LIMN_F32 && a->x_dtype != LIMN_BF16)
        return limn_fail(err, LIMN_E_UNSUPPORTED, "a convolution cannot read %s",
                         limn_dtype_get(a->x_dtype)->name);
    if (a->x_stride < s->ic)
        return limn_fail(err, LIMN_E_SHAPE, "pixels of %lld channels do not fit their stride",
                         (long long)s->ic);
    limn_epilogue epi = a->epi;
    epi.add_rows = oh * ow;
    return limn_epilogue_check(&epi, a->y_dtype, a->y_stride, s->oc, err);
}

static limn_status check_weight(const limn_conv_args *a, limn_err *err) {
    const limn_conv_shape *s = &a->shape;
    const limn_packed *w = a->w;
    if (s->groups != 1)
        return limn_fail(err, LIMN_E_UNSUPPORTED, "limn_conv has one group, not %d", s->groups);
    if (w->store == LIMN_STORE_QUANT)
        return limn_fail(err, LIMN_E_UNSUPPORTED, "the weight is packed as a matrix");
    if (w->kh != s->kh || w->kw != s->kw || w->ic != s->ic || w->n != s->oc)
        return limn_fail(err, LIMN_E_SHAPE, "the packed weight has another shape");
    return LIMN_OK;
}

limn_status limn_conv(const limn_exec *ex, const limn_conv_args *a, limn_err *err) {
    layout l;
    limn_status st = check(a, err);
    if (st == LIMN_OK) st = check_weight(a, err);
    if (st != LIMN_OK) return st;
    size_t need = limn_conv_scratch_bytes(ex->k, a, limn_pool_threads(ex->pool));
    if (ex->scratch_bytes < need)
        return limn_fail(err, LIMN_E_INTERNAL, "a convolution needs %zu bytes of scratch, has %zu",
                         need, ex->scratch_bytes);
    if (limn_winograd_takes(ex->k, a)) return limn_winograd_conv(ex, a, err);
    make_layout(&l, ex->k, a, limn_pool_threads(ex->pool));
    char *scratch = ex->scratch;
    conv_view v = {.s = a->shape,
                   .oh = l.oh,
                   .ow = l.ow,
                   .base = a->x,
                   .pixel_bytes = (size_t)a->x_stride * (a->x_dtype == LIMN_BF16 ? 2 : 4),
                   .zeros = scratch + l.zero_off};
    memset(scratch + l.zero_off, l.words == LIMN_WORDS_U8X4 ? 0x80 : 0, l.zero_bytes);
    if (l.pixel_bytes > 0) {
        convert_job c = {.ex = ex, .a = a, .l = &l, .scratch = scratch};
        convert_image(&c);
        v.base = scratch;
        v.pixel_bytes = l.pixel_bytes;
    }
    limn_epilogue epi = a->epi;
    epi.add_rows = l.oh * l.ow;
    limn_gemm_job job = {.ex = ex,
                         .w = a->w,
                         .m = a->shape.n * l.oh * l.ow,
                         .fill_rows = fill_rows,
                         .rows_arg = &v,
                         .row_scale = is_int8(l.words) ? (float *)(scratch + l.scale_off) : NULL,
                         .y = a->y,
                         .y_stride = a->y_stride,
                         .y_bf16 = a->y_dtype == LIMN_BF16,
                         .epi = &epi,
                         .scratch = scratch + l.run_off};
    return limn_gemm_run(&job, err);
}

/* ---- plain loops: the specification and the grouped path ---- */

static float load_elem(const void *p, limn_dtype t, int64_t i) {
    return t == LIMN_BF16 ? limn_bf16_to_f32(((const uint16_t *)p)[i]) : ((const float *)p)[i];
}

static void store_out(const limn_conv_args *a, int64_t row, int64_t area, int64_t o, float sum) {
    const limn_epilogue *e = &a->epi;
    if (e->bias) sum += e->bias[o];
    if (e->add) sum += e->add[row / area * a->shape.oc + o];
    float v = limn_act_apply(e->act, e->slope, sum) * e->scale;
    if (e->residual) v += load_elem(e->residual, e->residual_dtype, row * e->residual_stride + o);
    if (a->y_dtype == LIMN_BF16)
        ((uint16_t *)a->y)[row * a->y_stride + o] = limn_f32_to_bf16(v);
    else
        ((float *)a->y)[row * a->y_stride + o] = v;
}

/* Index of the pixel under a tap, -1 in the padding. */
static int64_t tap_index(const limn_conv_shape *s, int64_t img, int64_t y, int64_t x) {
    int up = s->upsample2;
    if (y < 0 || x < 0 || y >= s->h << up || x >= s->w << up) return -1;
    return (img * s->h + (y >> up)) * s->w + (x >> up);
}

typedef struct plain_job {
    const limn_exec *ex;
    const limn_conv_args *a;
    const float *w;
    int64_t oh, ow;
} plain_job;

static double plain_sum(const plain_job *job, int64_t img, int64_t oy, int64_t ox, int64_t o) {
    const limn_conv_args *a = job->a;
    const limn_conv_shape *s = &a->shape;
    int64_t icg = s->ic / s->groups, c0 = o / (s->oc / s->groups) * icg;
    const float *w = job->w + o * icg * s->kh * s->kw;
    double sum = 0;
    for (int ky = 0; ky < s->kh; ky++)
        for (int kx = 0; kx < s->kw; kx++) {
            int64_t p = tap_index(s, img, oy * s->stride - s->pad_t + (int64_t)ky * s->dilation,
                                  ox * s->stride - s->pad_l + (int64_t)kx * s->dilation);
            if (p < 0) continue;
            for (int64_t c = 0; c < icg; c++)
                sum += (double)load_elem(a->x, a->x_dtype, p * a->x_stride + c0 + c) *
                       w[(c * s->kh + ky) * s->kw + kx];
        }
    return sum;
}

/* One line of outputs. */
static void plain_line(void *arg, size_t task, int worker) {
    const plain_job *job = arg;
    int64_t img = (int64_t)task / job->oh, oy = (int64_t)task % job->oh;
    (void)worker;
    if (job->ex && limn_exec_cancelled(job->ex)) return;
    for (int64_t ox = 0; ox < job->ow; ox++)
        for (int64_t o = 0; o < job->a->shape.oc; o++)
            store_out(job->a, (img * job->oh + oy) * job->ow + ox, job->oh * job->ow, o,
                      (float)plain_sum(job, img, oy, ox, o));
}

void limn_conv_ref(const limn_conv_args *a, const float *w) {
    plain_job job = {.a = a, .w = w};
    limn_conv_out(&a->shape, &job.oh, &job.ow);
    for (int64_t i = 0; i < a->shape.n * job.oh; i++) plain_line(&job, (size_t)i, 0);
}

limn_status limn_conv_grouped(const limn_exec *ex, const limn_conv_args *a, const float *w,
                              limn_err *err) {
    limn_status st = check(a, err);
    if (st != LIMN_OK) return st;
    plain_job job = {.ex = ex, .a = a, .w = w};
    limn_conv_out(&a->shape, &job.oh, &job.ow);
    limn_pool_run(ex->pool, plain_line, &job, (size_t)(a->shape.n * job.oh));
    if (limn_exec_cancelled(ex)) return limn_fail(err, LIMN_E_CANCELLED, "cancelled");
    return LIMN_OK;
}
