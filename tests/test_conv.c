/* SPDX-License-Identifier: MIT */
/*
 * conv: every dispatch table x compute mode x kernel sizes, strides, pads, dilation, upsampling,
 * odd channel counts, pixel strides and epilogues against the double-precision reference, given
 * weights and activations as the mode rounds them; the same bits for 1, 2 and 3 threads.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/mem.h"
#include "kernel_pools.h"
#include "kernels/conv.h"
#include "kernels/winograd.h"

typedef struct cv_case {
    limn_conv_shape s;
    limn_dtype w_dtype, x_dtype, y_dtype;
    limn_compute compute;
    bool bias, add, residual;
    limn_act act;
    int pad;       /* elements between pixels */
    bool winograd; /* must be computed so where products are f32 */
} cv_case;

typedef struct cv_data {
    cv_case c;
    int64_t oh, ow;
    size_t nw, nx, ny; /* elements, with the gaps */
    uint8_t *w_file;
    float *w_eff, *x_eff, *bias, *add, *res;
    void *x;
    uint8_t *y, *again;
    float *y_ref, *mag;
} cv_data;

static void *xmalloc(size_t n) {
    void *p = limn_mem_calloc(1, n + 64);
    assert_non_null(p);
    return p;
}

static void free_data(cv_data *d) {
    void *all[] = {d->w_file, d->w_eff, d->x_eff, d->bias,  d->add, d->res,
                   d->x,      d->y,     d->again, d->y_ref, d->mag};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) limn_mem_free(all[i]);
}

static size_t y_elem(const cv_case *c) {
    return c->y_dtype == LIMN_BF16 ? 2 : 4;
}

static cv_data make_data(const cv_case *c, uint64_t seed) {
    cv_data d = {.c = *c};
    const limn_conv_shape *s = &c->s;
    uint64_t r = seed * 0x9e3779b97f4a7c15u + 7;
    assert_true(limn_conv_out(s, &d.oh, &d.ow));
    d.nw = (size_t)(s->oc * (s->ic / s->groups) * s->kh * s->kw);
    d.nx = (size_t)(s->n * s->h * s->w * (s->ic + c->pad));
    d.ny = (size_t)(s->n * d.oh * d.ow * (s->oc + c->pad));
    d.w_file = xmalloc(d.nw * 4);
    d.w_eff = xmalloc(d.nw * 4);
    d.x = xmalloc(d.nx * 4);
    d.x_eff = xmalloc(d.nx * 4);
    d.bias = xmalloc((size_t)s->oc * 4);
    d.add = xmalloc((size_t)(s->n * s->oc) * 4);
    d.res = xmalloc(d.ny * 4);
    d.y = xmalloc(d.ny * 4);
    d.again = xmalloc(d.ny * 4);
    d.y_ref = xmalloc(d.ny * 4);
    d.mag = xmalloc(d.ny * 4);
    for (size_t i = 0; i < d.nw; i++) d.w_eff[i] = test_random(&r);
    assert_true(limn_dtype_from_f32(d.w_file, d.w_eff, c->w_dtype, (int64_t)d.nw));
    limn_dtype_to_f32(d.w_eff, d.w_file, c->w_dtype, (int64_t)d.nw);
    for (size_t i = 0; i < d.nx; i++) d.x_eff[i] = test_random(&r);
    assert_true(limn_dtype_from_f32(d.x, d.x_eff, c->x_dtype, (int64_t)d.nx));
    limn_dtype_to_f32(d.x_eff, d.x, c->x_dtype, (int64_t)d.nx);
    for (int64_t i = 0; i < s->oc; i++) d.bias[i] = test_random(&r);
    for (int64_t i = 0; i < s->n * s->oc; i++) d.add[i] = test_random(&r);
    for (size_t i = 0; i < d.ny; i++) d.res[i] = test_random(&r);
    return d;
}

static float to_code_value(float v, float amax) {
    return amax > 0 ? nearbyintf(v * (127.0f / amax)) * (amax / 127.0f) : v;
}

/* Rounds weights (per output) and activations (per image, real channels only) like the mode; bf16
 * products round activations, Winograd's of bf16 weights do not. */
static void apply_mode(cv_data *d, const limn_packed *p, limn_words words, bool winograd) {
    const limn_conv_shape *s = &d->c.s;
    size_t per_out = d->nw / (size_t)s->oc, per_image = d->nx / (size_t)s->n;
    size_t ps = (size_t)(s->ic + d->c.pad);
    for (size_t i = 0; i < d->nw; i++) {
        float *w = d->w_eff + i, amax = 0;
        if (p->store == LIMN_STORE_F16) *w = limn_f16_to_f32(limn_f32_to_f16(*w));
        if (words == LIMN_WORDS_BF16X2) *w = limn_bf16_to_f32(limn_f32_to_bf16(*w));
        if (p->store == LIMN_STORE_S16X2 && i % per_out == 0)
            test_fix_row(w, s->ic, p->fix_block, LIMN_FIX_W);
        if (p->store != LIMN_STORE_I8X4 || i % per_out != 0) continue;
        for (size_t j = 0; j < per_out; j++) amax = fmaxf(amax, fabsf(w[j]));
        for (size_t j = 0; j < per_out; j++) w[j] = to_code_value(w[j], amax);
    }
    for (int64_t img = 0; img < s->n; img++) {
        float amax = 0, *x = d->x_eff + (size_t)img * per_image;
        for (size_t i = 0; i < per_image; i++)
            if (i % ps < (size_t)s->ic) amax = fmaxf(amax, fabsf(x[i]));
        for (size_t i = 0; i < per_image; i++) {
            if (words == LIMN_WORDS_BF16X2 && !winograd)
                x[i] = limn_bf16_to_f32(limn_f32_to_bf16(x[i]));
            if (p->store == LIMN_STORE_I8X4) x[i] = to_code_value(x[i], amax);
        }
        for (size_t i = 0; p->store == LIMN_STORE_S16X2 && i < per_image; i += ps)
            test_fix_row(x + i, s->ic, p->fix_block, LIMN_FIX_X);
    }
}

static limn_conv_args make_args(cv_data *d, const limn_packed *w, void *y) {
    const cv_case *c = &d->c;
    return (limn_conv_args){
        .shape = c->s,
        .y = y,
        .y_dtype = c->y_dtype,
        .y_stride = c->s.oc + c->pad,
        .x = d->x,
        .x_dtype = c->x_dtype,
        .x_stride = c->s.ic + c->pad,
        .w = w,
        .epi = {.bias = c->bias ? d->bias : NULL,
                .add = c->add ? d->add : NULL,
                .act = c->act,
                .scale = 1,
                .residual = c->residual ? d->res : NULL,
                .residual_dtype = LIMN_F32,
                .residual_stride = c->s.oc + c->pad},
    };
}

/* y_ref, and in mag the sum of magnitudes of every output: the same thing with |x| and |w|. */
static void reference(cv_data *d) {
    limn_conv_args a = make_args(d, NULL, d->y_ref);
    a.y_dtype = a.x_dtype = LIMN_F32;
    a.x = d->x_eff;
    limn_conv_ref(&a, d->w_eff);
    float *w = xmalloc(d->nw * 4), *x = xmalloc(d->nx * 4);
    for (size_t i = 0; i < d->nw; i++) w[i] = fabsf(d->w_eff[i]);
    for (size_t i = 0; i < d->nx; i++) x[i] = fabsf(d->x_eff[i]);
    a.x = x;
    a.y = d->mag;
    a.epi = (limn_epilogue){.scale = 1};
    limn_conv_ref(&a, w);
    limn_mem_free(w);
    limn_mem_free(x);
}

static void fail_case(const kernel_table *t, const cv_case *c, const char *what, size_t i,
                      double got, double want) {
    const limn_conv_shape *s = &c->s;
    fail_msg("%s: %s: n=%d %dx%d ic=%d oc=%d kernel %dx%d stride %d dilation %d up %d compute=%d "
             "w=%s x=%s y=%s act=%d pad=%d: element %zu is %.9g, want %.9g",
             t->name, what, (int)s->n, (int)s->w, (int)s->h, (int)s->ic, (int)s->oc, s->kw, s->kh,
             s->stride, s->dilation, s->upsample2, c->compute, limn_dtype_get(c->w_dtype)->name,
             limn_dtype_get(c->x_dtype)->name, limn_dtype_get(c->y_dtype)->name, c->act, c->pad, i,
             got, want);
}

static void compare(const kernel_table *t, const cv_data *d) {
    const cv_case *c = &d->c;
    size_t ps = (size_t)(c->s.oc + c->pad);
    for (size_t i = 0; i < d->ny; i++) {
        float got;
        limn_dtype_to_f32(&got, d->y + i * y_elem(c), c->y_dtype, 1);
        if (i % ps >= (size_t)c->s.oc) { /* a gap between pixels */
            for (size_t b = 0; b < y_elem(c); b++)
                if (d->y[i * y_elem(c) + b] != 0xa5) fail_case(t, c, "wrote a gap", i, got, 0);
            continue;
        }
        double tol = 1e-5 * (d->mag[i] + 2);
        if (c->y_dtype == LIMN_BF16) tol += fabs((double)d->y_ref[i]) / 256;
        if (!(fabs((double)got - d->y_ref[i]) <= tol))
            fail_case(t, c, "value", i, got, d->y_ref[i]);
    }
}

static void run(const kernel_table *t, limn_pool *pool, const limn_conv_args *a) {
    limn_err err = {0};
    size_t need = limn_conv_scratch_bytes(&t->k, a, limn_pool_threads(pool));
    void *scratch = limn_mem_aligned(need);
    limn_exec ex = {.k = &t->k, .pool = pool, .scratch = scratch, .scratch_bytes = need};
    assert_non_null(scratch);
    if (limn_conv(&ex, a, &err) != LIMN_OK) fail_msg("%s: %s", t->name, err.text);
    limn_mem_free(scratch);
}

static void run_case(const kernel_table *t, const cv_case *c, uint64_t seed) {
    cv_data d = make_data(c, seed);
    limn_packed *p;
    limn_err err = {0};
    limn_pack_args pa = {.data = d.w_file,
                         .dtype = c->w_dtype,
                         .n = c->s.oc,
                         .k = c->s.ic * c->s.kh * c->s.kw,
                         .kh = c->s.kh,
                         .kw = c->s.kw,
                         .compute = c->compute};
    if (limn_packed_new(&p, &t->k, pools[seed % 2], &pa, &err) != LIMN_OK) fail_msg("%s", err.text);
    limn_conv_args a = make_args(&d, p, d.y);
    limn_words words = limn_packed_words(p, &t->k);
    bool winograd = limn_winograd_takes(&t->k, &a);
    if (c->winograd && (words == LIMN_WORDS_F32 || c->s.ic >= 98)) /* the others are odd or small */
        assert_int_equal(winograd, words == LIMN_WORDS_F32 || c->s.n < 5);
    apply_mode(&d, p, words, winograd);
    reference(&d);
    memset(d.y, 0xa5, d.ny * 4);
    run(t, NULL, &a);
    compare(t, &d);
    for (int i = 0; i < 2; i++) {
        memset(d.again, 0xa5, d.ny * 4);
        a.y = d.again;
        run(t, pools[i], &a);
        if (memcmp(d.again, d.y, d.ny * 4) != 0) fail_case(t, c, "other bits", (size_t)i, 0, 0);
    }
    limn_packed_free(&p);
    free_data(&d);
}

static cv_case random_case(uint64_t *s, int round) {
    static const int kernels[] = {1, 2, 3, 3, 3, 5};
    static const limn_dtype types[] = {LIMN_F32, LIMN_F16, LIMN_BF16};
    cv_case c = {.s = {.n = test_range(s, 1, 2),
                       .h = test_range(s, 1, 9),
                       .w = test_range(s, 1, 11),
                       .ic = test_range(s, 1, 40),
                       .oc = test_range(s, 1, 40),
                       .kh = kernels[test_range(s, 0, 5)],
                       .stride = test_range(s, 1, 3),
                       .dilation = 1,
                       .groups = 1}};
    limn_conv_shape *h = &c.s;
    h->kw = test_range(s, 0, 3) ? h->kh : kernels[test_range(s, 0, 5)];
    if (test_range(s, 0, 4) == 0) h->dilation = 2;
    if (round % 2) h->stride = 1;
    if (round % 5 == 0) h->ic = test_range(s, 60, 300); /* several channel blocks */
    if (round % 4 == 0) h->ic = test_range(s, 3, 4);
    if (round % 6 == 0) h->oc = test_range(s, 3, 4);
    if (round % 9 == 0) h->h = h->w = 20; /* several row tiles */
    h->pad_t = test_range(s, 0, h->kh - 1);
    h->pad_l = test_range(s, 0, h->kw - 1);
    h->pad_b = test_range(s, 0, h->kh - 1);
    h->pad_r = test_range(s, 0, h->kw - 1);
    h->upsample2 = test_range(s, 0, 3) == 0;
    int need_h = (h->kh - 1) * h->dilation + 1, need_w = (h->kw - 1) * h->dilation + 1;
    if (h->h < need_h) h->h = need_h;
    if (h->w < need_w) h->w = need_w;
    c.w_dtype = types[test_range(s, 0, 2)];
    if (h->kh == 1 && h->kw == 1 && test_range(s, 0, 1)) { /* the file's own blocks */
        h->ic = 64;
        c.w_dtype = LIMN_Q8_0;
    }
    c.x_dtype = test_range(s, 0, 2) ? LIMN_F32 : LIMN_BF16;
    c.y_dtype = test_range(s, 0, 2) ? LIMN_F32 : LIMN_BF16;
    c.compute = (limn_compute)test_range(s, 0, 2);
    c.bias = test_range(s, 0, 1);
    c.add = test_range(s, 0, 1);
    c.residual = test_range(s, 0, 1);
    c.act = test_range(s, 0, 2) ? LIMN_ACT_NONE : LIMN_ACT_SILU;
    c.pad = test_range(s, 0, 3);
    return c;
}

static void test_ragged(void **state) {
    (void)state;
    for (int t = 0; t < n_tables; t++) {
        uint64_t s = 99;
        int rounds = strstr(tables[t].name, "emulated") ? 120 : 250;
        for (int i = 0; i < rounds; i++) {
            cv_case c = random_case(&s, i);
            run_case(&tables[t], &c, (uint64_t)i + 1);
        }
    }
}

/* Shapes that a quarter of the multiplications are saved for (winograd.h): several passes, blocks,
 * tasks and chunks of channels; ragged edges; images whose tiles share a block. */
static void test_winograd(void **state) {
    (void)state;
    static const struct {
        int n, h, w, ic, oc;
        bool up;
    } shapes[] = {
        {1, 48, 47, 1300, 3, false}, {1, 70, 66, 9, 70, false}, {5, 7, 9, 330, 33, false},
        {2, 17, 30, 97, 40, true},   {1, 12, 12, 16, 1, false}, {3, 33, 8, 8, 17, false},
        {2, 20, 31, 98, 40, true},
    };
    for (int t = 0; t < n_tables; t++)
        for (size_t j = 0; j < 2 * sizeof shapes / sizeof *shapes; j++) {
            size_t i = j / 2;
            if (i == 0 && strstr(tables[t].name, "emulated")) continue; /* seconds */
            cv_case c = {.s = {.n = shapes[i].n,
                               .h = shapes[i].h,
                               .w = shapes[i].w,
                               .ic = shapes[i].ic,
                               .oc = shapes[i].oc,
                               .kh = 3,
                               .kw = 3,
                               .stride = 1,
                               .dilation = 1,
                               .pad_l = 1,
                               .pad_r = 1,
                               .pad_t = i % 2,
                               .pad_b = 1,
                               .upsample2 = shapes[i].up,
                               .groups = 1},
                         .w_dtype = LIMN_F16,
                         .x_dtype = j % 2 ? LIMN_BF16 : LIMN_F32,
                         .compute = LIMN_COMPUTE_HALF,
                         .winograd = true,
                         .bias = true,
                         .add = i % 2,
                         .residual = i % 3 == 0,
                         .act = i % 2 ? LIMN_ACT_SILU : LIMN_ACT_NONE,
                         .pad = (int)i % 3};
            run_case(&tables[t], &c, i);
        }
}

static void test_grouped(void **state) {
    (void)state;
    static const int groups[] = {1, 2, 4, 12};
    for (int i = 0; i < 4; i++) {
        cv_case c = {.s = {.n = 2,
                           .h = 6,
                           .w = 5,
                           .ic = 12,
                           .oc = 24,
                           .kh = 3,
                           .kw = 3,
                           .stride = 1 + i % 2,
                           .dilation = 1,
                           .pad_l = 1,
                           .pad_r = 1,
                           .pad_t = 1,
                           .pad_b = 1,
                           .groups = groups[i]},
                     .bias = true,
                     .add = true};
        cv_data d = make_data(&c, 3);
        reference(&d);
        limn_conv_args a = make_args(&d, NULL, d.y);
        limn_exec ex = {.k = &tables[0].k, .pool = pools[1]};
        memset(d.y, 0xa5, d.ny * 4);
        assert_int_equal(limn_conv_grouped(&ex, &a, d.w_eff, NULL), LIMN_OK);
        compare(&tables[0], &d);
        free_data(&d);
    }
}

/* A hand-checked value, so that the reference itself is pinned: 2x2 input, 3x3 ones, pad 1. */
static void test_known_values(void **state) {
    (void)state;
    float x[4] = {1, 2, 3, 4}, w[9] = {1, 2, 3, 4, 5, 6, 7, 8, 9}, y[4], up[16];
    limn_conv_args a = {.shape = {.n = 1,
                                  .h = 2,
                                  .w = 2,
                                  .ic = 1,
                                  .oc = 1,
                                  .kh = 3,
                                  .kw = 3,
                                  .stride = 1,
                                  .dilation = 1,
                                  .pad_l = 1,
                                  .pad_r = 1,
                                  .pad_t = 1,
                                  .pad_b = 1,
                                  .groups = 1},
                        .y = y,
                        .y_dtype = LIMN_F32,
                        .y_stride = 1,
                        .x = x,
                        .x_dtype = LIMN_F32,
                        .x_stride = 1,
                        .epi = {.scale = 1}};
    limn_conv_ref(&a, w);
    const float want[4] = {77, 67, 47, 37}; /* torch.nn.functional.conv2d(..., padding=1) */
    for (int i = 0; i < 4; i++) assert_true(y[i] == want[i]);
    a.shape.upsample2 = true;
    a.y = up;
    limn_conv_ref(&a, w);
    assert_true(up[0] == 1 * 5 + 1 * 6 + 1 * 8 + 1 * 9);
    assert_true(up[15] == 4 * 5 + 4 * 4 + 4 * 2 + 4 * 1);
}

static void test_errors(void **state) {
    (void)state;
    float w[9] = {0}, x[4] = {0}, y[4];
    limn_packed *p;
    limn_err err = {0};
    limn_pack_args pa = {.data = w, .dtype = LIMN_F32, .n = 1, .k = 9, .kh = 3, .kw = 3};
    assert_int_equal(limn_packed_new(&p, &tables[0].k, NULL, &pa, &err), LIMN_OK);
    limn_conv_args a = {.shape = {.n = 1,
                                  .h = 2,
                                  .w = 2,
                                  .ic = 1,
                                  .oc = 1,
                                  .kh = 3,
                                  .kw = 3,
                                  .stride = 1,
                                  .dilation = 1,
                                  .groups = 1},
                        .y = y,
                        .y_dtype = LIMN_F32,
                        .y_stride = 1,
                        .x = x,
                        .x_dtype = LIMN_F32,
                        .x_stride = 1,
                        .w = p,
                        .epi = {.scale = 1}};
    limn_exec ex = {.k = &tables[0].k};
    assert_int_equal(limn_conv(&ex, &a, &err), LIMN_E_SHAPE); /* 3x3 does not fit 2x2 unpadded */
    a.shape.pad_l = a.shape.pad_r = a.shape.pad_t = a.shape.pad_b = 1;
    assert_int_equal(limn_conv(&ex, &a, &err), LIMN_E_INTERNAL); /* no scratch */
    a.shape.groups = 3;
    assert_int_equal(limn_conv(&ex, &a, &err), LIMN_E_SHAPE);
    a.shape.groups = 1;
    a.shape.oc = 2;
    a.y_stride = 2;
    assert_int_equal(limn_conv(&ex, &a, &err), LIMN_E_SHAPE);
    a.shape.stride = 0;
    assert_int_equal(limn_conv(&ex, &a, &err), LIMN_E_SHAPE);
    limn_packed_free(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ragged),  cmocka_unit_test(test_winograd),
        cmocka_unit_test(test_grouped), cmocka_unit_test(test_known_values),
        cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, pools_setup, pools_teardown);
}
