/* SPDX-License-Identifier: MIT */
/* Guiders against their formulas, the denoiser that joins network and guider, latent operations. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/mem.h"
#include "sample/guider.h"
#include "sample/latent_ops.h"

enum { IMAGES = 2, EACH = 6, N = IMAGES * EACH };

/* A network whose answer depends on the conditioning, the input and the timestep. */
typedef struct fake {
    int calls, conds;
    limn_cond last[LIMN_GUIDER_CONDS_MAX];
    double timestep;
    limn_status fail;
} fake;

static double answer(limn_cond c, double x, double timestep, int i) {
    return sin(x * (1.0 + (double)c)) + 0.3 * (double)c * cos(i * 1.7) + timestep * 1e-4;
}

static limn_status predict(void *user, float *const *outs, const limn_cond *conds, int count,
                           const float *x, int64_t n, const limn_predict_at *at, limn_err *err) {
    fake *f = user;
    f->calls++;
    f->conds += count;
    f->timestep = at->timestep;
    if (f->fail != LIMN_OK) return limn_fail(err, f->fail, "no");
    for (int k = 0; k < count; k++) {
        f->last[k] = conds[k];
        for (int64_t i = 0; i < n; i++)
            outs[k][i] = (float)answer(conds[k], (double)x[i], at->timestep, (int)i);
    }
    return LIMN_OK;
}

static limn_noising model(limn_prediction p) {
    limn_noising m;
    limn_noising_args a = {.kind =
                               p == LIMN_PREDICT_FLOW ? LIMN_NOISING_FLOW : LIMN_NOISING_DISCRETE,
                           .prediction = p};
    assert_int_equal(limn_noising_init(&m, &a, NULL), LIMN_OK);
    return m;
}

static const limn_guider *guider(const char *name) {
    const limn_guider *g = NULL;
    assert_int_equal(limn_guider_find(&g, name, NULL), LIMN_OK);
    return g;
}

/* One evaluation at sigma; `step` of 10. Returns the conditionings asked for. */
static int run(fake *f, float *x0, const float *x, const limn_noising *m, const char *name,
               const limn_guider_options *o, double sigma, int step) {
    limn_denoiser d = {.noising = m,
                       .guider = guider(name),
                       .options = *o,
                       .images = IMAGES,
                       .n = N,
                       .predict = predict,
                       .predict_user = f};
    limn_denoise_at at = {.sigma = sigma, .step = step, .steps = 10};
    *f = (fake){0};
    assert_int_equal(limn_denoiser_init(&d, NULL), LIMN_OK);
    assert_int_equal(limn_denoiser_run(&d, x0, x, N, &at, NULL), LIMN_OK);
    assert_int_equal(f->calls, 1);
    assert_int_equal(d.evaluations, f->conds);
    limn_denoiser_deinit(&d);
    return f->conds;
}

static void fill(float *x) {
    for (int i = 0; i < N; i++) x[i] = (float)(2 * sin(i * 0.9) - 0.4);
}

static void raw(double *out, limn_cond c, const float *x, const limn_precond *p) {
    for (int i = 0; i < N; i++) out[i] = answer(c, (double)((float)p->in * x[i]), p->timestep, i);
}

static void check(const float *x0, const float *x, const double *y, const limn_precond *p) {
    for (int i = 0; i < N; i++)
        assert_true(fabs(p->skip * (double)x[i] + p->out * y[i] - (double)x0[i]) <
                    2e-6 * (1 + fabs(p->out)));
}

static void test_cfg(void **state) {
    (void)state;
    static const limn_prediction kinds[] = {LIMN_PREDICT_EPS, LIMN_PREDICT_V, LIMN_PREDICT_FLOW};
    for (int k = 0; k < 3; k++) {
        limn_noising m = model(kinds[k]);
        double sigma = 0.8, pos[N], neg[N];
        limn_precond p = limn_precond_get(&m, sigma);
        limn_guider_options o = limn_guider_defaults();
        float x[N], x0[N];
        fake f;
        fill(x);
        raw(pos, LIMN_COND_POSITIVE, x, &p);
        raw(neg, LIMN_COND_NEGATIVE, x, &p);
        assert_int_equal(run(&f, x0, x, &m, "cfg", &o, sigma, 3), 2);
        assert_int_equal(f.last[0], LIMN_COND_POSITIVE);
        assert_int_equal(f.last[1], LIMN_COND_NEGATIVE);
        assert_true(f.timestep == p.timestep);
        double y[N];
        for (int i = 0; i < N; i++) y[i] = neg[i] + 7 * (pos[i] - neg[i]);
        check(x0, x, y, &p);
        o.scale = 1; /* the fast path */
        assert_int_equal(run(&f, x0, x, &m, "cfg", &o, sigma, 3), 1);
        check(x0, x, pos, &p);
        o.scale = 7;
        assert_int_equal(run(&f, x0, x, &m, "none", &o, sigma, 3), 1);
        check(x0, x, pos, &p);
        o.scale = 0; /* negative prompt alone, still asked for properly */
        assert_int_equal(run(&f, x0, x, &m, "cfg", &o, sigma, 3), 2);
        check(x0, x, neg, &p);
    }
}

static double std_of(const double *v, int n) {
    double mean = 0, square = 0;
    for (int i = 0; i < n; i++) mean += v[i] / n;
    for (int i = 0; i < n; i++) square += (v[i] - mean) * (v[i] - mean);
    return sqrt(square / (n - 1));
}

/* diffusers rescale_noise_cfg, per image. */
static void test_rescale(void **state) {
    (void)state;
    limn_noising m = model(LIMN_PREDICT_EPS);
    double pos[N], neg[N], y[N], sigma = 2;
    limn_precond p = limn_precond_get(&m, sigma);
    limn_guider_options o = limn_guider_defaults();
    float x[N], x0[N];
    fake f;
    o.rescale = 0.7;
    fill(x);
    raw(pos, LIMN_COND_POSITIVE, x, &p);
    raw(neg, LIMN_COND_NEGATIVE, x, &p);
    for (int i = 0; i < N; i++) y[i] = neg[i] + 7 * (pos[i] - neg[i]);
    for (int k = 0; k < IMAGES; k++) {
        double gain = 0.7 * std_of(pos + k * EACH, EACH) / std_of(y + k * EACH, EACH) + 0.3;
        for (int i = 0; i < EACH; i++) y[k * EACH + i] *= gain;
    }
    assert_int_equal(run(&f, x0, x, &m, "cfg", &o, sigma, 0), 2);
    check(x0, x, y, &p);
}

static void test_ip2p(void **state) {
    (void)state;
    limn_noising m = model(LIMN_PREDICT_EPS);
    double pos[N], img[N], neg[N], y[N], sigma = 2;
    limn_precond p = limn_precond_get(&m, sigma);
    limn_guider_options o = limn_guider_defaults();
    float x[N], x0[N];
    fake f;
    fill(x);
    raw(pos, LIMN_COND_POSITIVE, x, &p);
    raw(img, LIMN_COND_IMAGE, x, &p);
    raw(neg, LIMN_COND_NEGATIVE, x, &p);
    for (int i = 0; i < N; i++) y[i] = neg[i] + 7 * (pos[i] - img[i]) + 1.5 * (img[i] - neg[i]);
    assert_int_equal(run(&f, x0, x, &m, "InstructPix2Pix", &o, sigma, 0), 3);
    check(x0, x, y, &p);
    o.scale = o.image_scale = 1; /* everything but the full answer cancels */
    assert_int_equal(run(&f, x0, x, &m, "ip2p", &o, sigma, 0), 1);
    check(x0, x, pos, &p);
}

static void test_cfg_zero(void **state) {
    (void)state;
    limn_noising m = model(LIMN_PREDICT_FLOW);
    double pos[N], neg[N], y[N], sigma = 0.7;
    limn_precond p = limn_precond_get(&m, sigma);
    limn_guider_options o = limn_guider_defaults();
    float x[N], x0[N];
    fake f;
    fill(x);
    raw(pos, LIMN_COND_POSITIVE, x, &p);
    raw(neg, LIMN_COND_NEGATIVE, x, &p);
    for (int k = 0; k < IMAGES; k++) {
        double pq = 0, qq = 0;
        for (int i = k * EACH; i < (k + 1) * EACH; i++) {
            pq += pos[i] * neg[i];
            qq += neg[i] * neg[i];
        }
        for (int i = k * EACH; i < (k + 1) * EACH; i++)
            y[i] = pq / qq * neg[i] + 7 * (pos[i] - pq / qq * neg[i]);
    }
    assert_int_equal(run(&f, x0, x, &m, "cfg_zero", &o, sigma, 0), 2);
    check(x0, x, y, &p);
    o.zero_steps = 1;
    run(&f, x0, x, &m, "cfg_zero", &o, sigma, 0);
    for (int i = 0; i < N; i++) assert_true(x0[i] == x[i]); /* velocity 0 */
    run(&f, x0, x, &m, "cfg_zero", &o, sigma, 1);
    check(x0, x, y, &p);
}

static void test_interval(void **state) {
    (void)state;
    limn_noising m = model(LIMN_PREDICT_EPS);
    limn_guider_options o = limn_guider_defaults();
    float x[N], x0[N];
    fake f;
    fill(x);
    o.first = 0.2;
    o.last = 0.7;
    for (int step = 0; step < 10; step++)
        assert_int_equal(run(&f, x0, x, &m, "cfg", &o, 1, step), step >= 2 && step < 7 ? 2 : 1);
    o = limn_guider_defaults();
    o.sigma_low = 0.3;
    o.sigma_high = 5;
    assert_int_equal(run(&f, x0, x, &m, "cfg", &o, 0.2, 9), 1);
    assert_int_equal(run(&f, x0, x, &m, "cfg", &o, 0.3, 9), 2);
    assert_int_equal(run(&f, x0, x, &m, "cfg", &o, 5, 0), 2);
    assert_int_equal(run(&f, x0, x, &m, "cfg", &o, 5.1, 0), 1);
}

static void test_bad_values(void **state) {
    (void)state;
    limn_err err = {0};
    limn_guider_options wrong[8];
    for (int i = 0; i < 8; i++) wrong[i] = limn_guider_defaults();
    wrong[0].scale = NAN;
    wrong[1].scale = INFINITY;
    wrong[2].rescale = 1.5;
    wrong[3].first = -0.1;
    wrong[4].last = NAN;
    wrong[5].sigma_low = -1;
    wrong[6].image_scale = -INFINITY;
    wrong[7].zero_steps = -1;
    for (int i = 0; i < 8; i++)
        assert_int_equal(limn_guider_options_check(&wrong[i], &err), LIMN_E_VALUE);
    const limn_guider *g = NULL;
    assert_int_equal(limn_guider_find(&g, "cgf", &err), LIMN_E_VALUE);
    assert_non_null(strstr(err.text, "Classifier-free guidance"));
    assert_null(g);
    for (int i = 0; i < limn_guider_count; i++) {
        assert_int_equal(limn_guider_find(&g, limn_guiders[i].label, NULL), LIMN_OK);
        assert_ptr_equal(g, &limn_guiders[i]);
    }

    limn_noising m = model(LIMN_PREDICT_EPS);
    fake f = {.fail = LIMN_E_CANCELLED};
    limn_denoiser d = {.noising = &m,
                       .guider = guider("cfg"),
                       .options = limn_guider_defaults(),
                       .images = 5,
                       .n = N,
                       .predict = predict,
                       .predict_user = &f};
    assert_int_equal(limn_denoiser_init(&d, &err), LIMN_E_VALUE); /* 12 values, 5 images */
    d.images = IMAGES;
    limn_mem_fail_after(0);
    assert_int_equal(limn_denoiser_init(&d, &err), LIMN_E_NOMEM);
    limn_mem_fail_after(-1);
    assert_int_equal(limn_denoiser_init(&d, &err), LIMN_OK);
    float x[N], x0[N];
    limn_denoise_at at = {.sigma = 1, .steps = 10};
    fill(x);
    assert_int_equal(limn_denoiser_run(&d, x0, x, N, &at, &err), LIMN_E_CANCELLED);
    assert_int_equal(d.evaluations, 0);
    assert_int_equal(limn_denoiser_run(&d, x0, x, N - 1, &at, &err), LIMN_E_INTERNAL);
    limn_denoiser_deinit(&d);
    limn_denoiser_deinit(&d); /* twice does no harm */
}

static void test_latents(void **state) {
    (void)state;
    limn_noising ve = model(LIMN_PREDICT_EPS), flow = model(LIMN_PREDICT_FLOW);
    float init[4] = {1, -2, 3, 0.5f}, noise[4] = {0.1f, 0.2f, -0.3f, 0.4f}, x[4];
    float mask[4] = {0, 1, 0.25f, 0};
    limn_latent_add_noise(x, init, noise, 4, &ve, 2);
    for (int i = 0; i < 4; i++) assert_true(fabsf(x[i] - (init[i] + 2 * noise[i])) < 1e-6f);
    limn_latent_add_noise(x, init, noise, 4, &flow, 0.75);
    for (int i = 0; i < 4; i++)
        assert_true(fabsf(x[i] - (0.25f * init[i] + 0.75f * noise[i])) < 1e-6f);
    float y[4] = {9, 9, 9, 9};
    limn_latent_blend_noised(y, mask, init, noise, 4, &ve, 2);
    assert_true(fabsf(y[0] - 1.2f) < 1e-6f && y[1] == 9);
    assert_true(fabsf(y[2] - (0.25f * 9 + 0.75f * (3 - 0.6f))) < 1e-5f);
    limn_latent_blend_noised(y, mask, init, noise, 4, &flow, 0); /* the original comes back */
    assert_true(y[0] == init[0] && y[3] == init[3] && y[1] == 9);
    float z[4] = {5, 5, 5, 5};
    limn_latent_blend(z, mask, init, 4);
    assert_true(z[0] == 1 && z[1] == 5 && fabsf(z[2] - 3.5f) < 1e-6f && z[3] == 0.5f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cfg),      cmocka_unit_test(test_rescale),
        cmocka_unit_test(test_ip2p),     cmocka_unit_test(test_cfg_zero),
        cmocka_unit_test(test_interval), cmocka_unit_test(test_bad_values),
        cmocka_unit_test(test_latents),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
