/* SPDX-License-Identifier: MIT */
/* Sigma schedules and noise levels against k-diffusion, diffusers, A1111 and ComfyUI formulas. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "golden_file.h"
#include "sample/guider.h"
#include "sample/schedule.h"

static const int step_counts[] = {1, 4, 7, 20, 30};

static limn_noising sd_model(void) {
    limn_noising m;
    limn_noising_args a = {.kind = LIMN_NOISING_DISCRETE};
    assert_int_equal(limn_noising_init(&m, &a, NULL), LIMN_OK);
    return m;
}

static limn_noising flow_model(double shift) {
    limn_noising m;
    limn_noising_args a = {
        .kind = LIMN_NOISING_FLOW, .prediction = LIMN_PREDICT_FLOW, .shift = shift};
    assert_int_equal(limn_noising_init(&m, &a, NULL), LIMN_OK);
    return m;
}

static const limn_schedule *row(const char *name) {
    const limn_schedule *s = NULL;
    limn_err err = {0};
    if (limn_schedule_find(&s, name, &err) != LIMN_OK) fail_msg("%s", err.text);
    return s;
}

/* Relative at every sigma, so that the small ones count. The reference rounds timesteps to f32. */
static void close_to(const double *sigmas, int made, const golden_tensor *t, const char *what) {
    if (made + 1 != t->count) fail_msg("%s: %d sigmas, not %d", what, made + 1, (int)t->count);
    for (int i = 0; i <= made; i++) {
        double want = golden_at(t, i);
        if (!(fabs(sigmas[i] - want) <= 1e-6 * fabs(want) + 1e-12))
            fail_msg("%s: sigma %d is %.12g, not %.12g", what, i, sigmas[i], want);
    }
}

static void compare(const golden_file *g, const char *name, const limn_noising *m,
                    const char *golden, const limn_schedule_options *o, int least) {
    for (size_t k = 0; k < sizeof step_counts / sizeof *step_counts; k++) {
        double sigmas[LIMN_TRAIN_STEPS + 2];
        char text[96];
        int made;
        if (step_counts[k] < least) continue;
        snprintf(text, sizeof text, "%s/%d", golden, step_counts[k]);
        golden_tensor t = golden_typed(g, text, "F64");
        assert_int_equal(limn_schedule_build(sigmas, &made, row(name), step_counts[k], m, o, NULL),
                         LIMN_OK);
        close_to(sigmas, made, &t, text);
    }
}

static void test_tables(void **state) {
    (void)state;
    golden_file g;
    golden_open(&g, "sched.safetensors");
    limn_noising m = sd_model(), f = flow_model(3);
    golden_tensor sd = golden_typed(&g, "sd/table", "F64");
    golden_tensor flow = golden_typed(&g, "flow3/table", "F64");
    for (int i = 0; i < LIMN_TRAIN_STEPS; i++) {
        assert_true(fabs(m.sigma[i] / golden_at(&sd, i) - 1) < 1e-10);
        assert_true(fabs(f.sigma[i] / golden_at(&flow, i) - 1) < 1e-12);
    }
    golden_tensor s = golden_typed(&g, "sigma_to_t/sigma", "F64");
    golden_tensor t = golden_typed(&g, "sigma_to_t/t", "F64");
    for (int i = 0; i < s.count; i++)
        assert_true(fabs(limn_noising_timestep(&m, golden_at(&s, i)) - golden_at(&t, i)) < 2e-4);
    s = golden_typed(&g, "t_to_sigma/sigma", "F64");
    t = golden_typed(&g, "t_to_sigma/t", "F64");
    for (int i = 0; i < s.count; i++) {
        double sigma = limn_noising_sigma(&m, golden_at(&t, i));
        assert_true(fabs(sigma / golden_at(&s, i) - 1) < 1e-6);
        assert_true(fabs(limn_noising_timestep(&m, sigma) - golden_at(&t, i)) < 1e-6);
    }
    golden_close(&g);
}

static void test_discrete(void **state) {
    (void)state;
    static const char *const same[] = {"normal",           "sgm_uniform",  "karras",  "exponential",
                                       "simple",           "ddim_uniform", "beta",    "beta_range",
                                       "linear_quadratic", "leading",      "trailing"};
    golden_file g;
    golden_open(&g, "sched.safetensors");
    limn_noising m = sd_model();
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        char name[64];
        snprintf(name, sizeof name, "sd/%s", same[i]);
        compare(&g, same[i], &m, name, NULL, 1);
    }
    limn_schedule_options rho = {.rho = 2}, sdxl = {.sdxl = true};
    compare(&g, "polyexponential", &m, "sd/polyexponential_rho1", NULL, 1);
    compare(&g, "polyexponential", &m, "sd/polyexponential_rho2", &rho, 1);
    compare(&g, "kl_optimal", &m, "sd/kl_optimal_zero", NULL, 2);
    compare(&g, "ays", &m, "sd/ays_sd1", NULL, 2);
    compare(&g, "ays", &m, "sd/ays_sdxl", &sdxl, 2);
    compare(&g, "linspace", &m, "sd/linspace", NULL, 4);
    compare(&g, "automatic", &m, "sd/normal", NULL, 1);
    double sigmas[16];
    int made;
    golden_tensor t = golden_typed(&g, "sd/ays_sd1/11", "F64");
    assert_int_equal(
        limn_schedule_build(sigmas, &made, row("align your steps"), 11, &m, NULL, NULL), LIMN_OK);
    close_to(sigmas, made, &t, "ays 11");
    golden_close(&g);
}

static void test_flow(void **state) {
    (void)state;
    static const char *const same[] = {"simple", "ddim_uniform", "beta",   "linear_quadratic",
                                       "karras", "exponential",  "normal", "sgm_uniform"};
    golden_file g;
    golden_open(&g, "sched.safetensors");
    limn_noising m = flow_model(3);
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        char name[64];
        snprintf(name, sizeof name, "flow3/%s", same[i]);
        compare(&g, same[i], &m, name, NULL, 1);
    }
    compare(&g, "kl_optimal", &m, "flow3/kl_optimal_zero", NULL, 2);
    compare(&g, "trailing", &m, "flow3/uniform", NULL, 1);
    compare(&g, "automatic", &m, "flow3/uniform", NULL, 1);
    golden_close(&g);
    assert_true(fabs(limn_flow_mu(256) - 0.5) < 1e-12);
    assert_true(fabs(limn_flow_mu(4096) - 1.15) < 1e-12);
    assert_true(fabs(limn_flow_shift_of_mu(0) - 1) < 1e-12);
}

/* Every row at every step count: descending, ends at 0, starts within the model's range. */
static void test_every_row(void **state) {
    (void)state;
    limn_noising models[3] = {sd_model(), flow_model(1.7)};
    limn_noising_args edm = {.kind = LIMN_NOISING_EDM, .prediction = LIMN_PREDICT_EDM};
    assert_int_equal(limn_noising_init(&models[2], &edm, NULL), LIMN_OK);
    static const int counts[] = {1, 2, 3, 5, 11, 29, 50, 51, 64, 333, 501, 999, 1000, 10000};
    double *sigmas = malloc(LIMN_SIGMAS_ROOM * sizeof *sigmas);
    for (int k = 0; k < 3; k++)
        for (int r = 0; r < limn_schedule_count; r++)
            for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
                const limn_schedule *s = &limn_schedules[r];
                int made;
                limn_status st =
                    limn_schedule_build(sigmas, &made, s, counts[c], &models[k], NULL, NULL);
                if (k == 1 && s->fits == LIMN_SCHEDULE_DISCRETE) {
                    assert_int_equal(st, LIMN_E_VALUE);
                    continue;
                }
                assert_int_equal(st, LIMN_OK);
                assert_in_range(made, 1, counts[c] > 1000 ? counts[c] : 1000);
                if (counts[c] <= 50 && made < counts[c]) fail_msg("%s lost steps", s->name);
                assert_true(sigmas[made] == 0);
                for (int i = 0; i < made; i++) assert_true(sigmas[i] > sigmas[i + 1]);
                assert_true(sigmas[0] <= models[k].sigma[LIMN_TRAIN_STEPS - 1] * 1.001);
            }
    free(sigmas);
}

static void test_discard(void **state) {
    (void)state;
    limn_noising m = sd_model();
    double a[16], b[16];
    int na, nb;
    assert_int_equal(limn_schedule_build(a, &na, row("karras"), 9, &m, NULL, NULL), LIMN_OK);
    assert_int_equal(limn_schedule_build_discard(b, &nb, row("karras"), 8, &m, NULL, NULL),
                     LIMN_OK);
    assert_int_equal(nb, 8);
    for (int i = 0; i < 8; i++) assert_true(a[i] == b[i]);
    assert_true(b[8] == 0);
}

static void test_strength(void **state) {
    (void)state;
    limn_strength_plan p;
    assert_int_equal(limn_strength_plan_get(&p, LIMN_STRENGTH_STEPS, 20, 0.75, NULL), LIMN_OK);
    assert_true(p.schedule_steps == 20 && p.run == 15);
    assert_int_equal(limn_strength_plan_get(&p, LIMN_STRENGTH_STEPS, 20, 1, NULL), LIMN_OK);
    assert_true(p.schedule_steps == 20 && p.run == 20);
    assert_int_equal(limn_strength_plan_get(&p, LIMN_STRENGTH_STEPS, 20, 0.04, NULL), LIMN_OK);
    assert_int_equal(p.run, 0);
    assert_int_equal(limn_strength_plan_get(&p, LIMN_STRENGTH_A1111, 20, 0.75, NULL), LIMN_OK);
    assert_true(p.schedule_steps == 20 && p.run == 16);
    assert_int_equal(limn_strength_plan_get(&p, LIMN_STRENGTH_A1111, 20, 1, NULL), LIMN_OK);
    assert_int_equal(p.run, 20);
    assert_int_equal(limn_strength_plan_get(&p, LIMN_STRENGTH_COMFYUI, 20, 0.4, NULL), LIMN_OK);
    assert_true(p.schedule_steps == 50 && p.run == 20);
    assert_int_equal(limn_strength_plan_get(&p, LIMN_STRENGTH_COMFYUI, 20, 1e-4, NULL),
                     LIMN_E_VALUE);
    assert_int_equal(limn_strength_plan_get(&p, LIMN_STRENGTH_STEPS, 20, NAN, NULL), LIMN_E_VALUE);
    assert_int_equal(limn_strength_plan_get(&p, LIMN_STRENGTH_STEPS, 20, 1.01, NULL), LIMN_E_VALUE);
    assert_int_equal(limn_strength_plan_get(&p, LIMN_STRENGTH_STEPS, 0, 0.5, NULL), LIMN_E_VALUE);
}

/* The eps and v wrappers of k-diffusion, on stored network outputs. */
static void test_wrappers(void **state) {
    (void)state;
    golden_file g;
    golden_open(&g, "sampler_traces.safetensors");
    golden_tensor sigma = golden_typed(&g, "wrapper/sigma", "F64");
    golden_tensor x = golden_typed(&g, "wrapper/x", "F64"), w = golden_typed(&g, "toy/W", "F64");
    for (int v = 0; v < 2; v++) {
        limn_noising m;
        limn_noising_args a = {.prediction = v ? LIMN_PREDICT_V : LIMN_PREDICT_EPS};
        assert_int_equal(limn_noising_init(&m, &a, NULL), LIMN_OK);
        golden_tensor in = golden_typed(&g, v ? "wrapper/v/input" : "wrapper/eps/input", "F64");
        golden_tensor t =
            golden_typed(&g, v ? "wrapper/v/timestep" : "wrapper/eps/timestep", "F64");
        golden_tensor d =
            golden_typed(&g, v ? "wrapper/v/denoised" : "wrapper/eps/denoised", "F64");
        for (int i = 0; i < sigma.count; i++) {
            limn_precond p = limn_precond_get(&m, golden_at(&sigma, i));
            assert_true(fabs(p.timestep - golden_at(&t, i)) < 2e-4);
            for (int c = 0; c < 6; c++) {
                double y = 0;
                assert_true(fabs(p.in * golden_at(&x, i * 6 + c) - golden_at(&in, i * 6 + c)) <
                            1e-9);
                for (int j = 0; j < 6; j++)
                    y += golden_at(&w, c * 6 + j) * golden_at(&in, i * 6 + j);
                y = tanh(y) + 0.1 * p.timestep / 1000;
                double x0 = p.skip * golden_at(&x, i * 6 + c) + p.out * y;
                assert_true(fabs(x0 - golden_at(&d, i * 6 + c)) < 1e-6);
            }
        }
    }
    golden_close(&g);
}

/* A perfect network of each prediction type gives back x0 exactly. */
static void test_preconditioning(void **state) {
    (void)state;
    static const struct {
        limn_noising_kind kind;
        limn_prediction prediction;
    } rows[] = {{LIMN_NOISING_DISCRETE, LIMN_PREDICT_EPS}, {LIMN_NOISING_DISCRETE, LIMN_PREDICT_V},
                {LIMN_NOISING_DISCRETE, LIMN_PREDICT_X0},  {LIMN_NOISING_EDM, LIMN_PREDICT_EDM},
                {LIMN_NOISING_EDM, LIMN_PREDICT_EPS},      {LIMN_NOISING_EDM, LIMN_PREDICT_V},
                {LIMN_NOISING_FLOW, LIMN_PREDICT_FLOW},    {LIMN_NOISING_FLOW, LIMN_PREDICT_X0}};
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        limn_noising m;
        limn_noising_args a = {.kind = rows[r].kind, .prediction = rows[r].prediction};
        assert_int_equal(limn_noising_init(&m, &a, NULL), LIMN_OK);
        for (double sigma = 0.03; sigma < 1; sigma += 0.2) {
            double x0 = 0.7, noise = -1.3, x = limn_noising_alpha(&m, sigma) * x0 + sigma * noise;
            double d = m.sigma_data, root = sqrt(sigma * sigma + d * d), y = 0;
            switch (m.prediction) {
            case LIMN_PREDICT_EPS: y = noise; break;
            case LIMN_PREDICT_V: y = (d * d * noise - sigma * x0) / (d * root); break;
            case LIMN_PREDICT_EDM: y = (sigma * x0 - d * d * noise) / (d * root); break;
            case LIMN_PREDICT_FLOW: y = noise - x0; break;
            default: y = x0; break;
            }
            limn_precond p = limn_precond_get(&m, sigma);
            assert_true(fabs(p.skip * x + p.out * y - x0) < 1e-12);
            double lambda = limn_noising_lambda(&m, sigma);
            assert_true(fabs(limn_noising_sigma_of_lambda(&m, lambda) - sigma) < 1e-12);
            double back = limn_noising_sigma(&m, p.timestep);
            assert_true(fabs(back - sigma) < 1e-9);
        }
    }
}

static void test_whole_timesteps(void **state) {
    (void)state;
    limn_noising m;
    limn_noising_args a = {.whole_timesteps = true};
    assert_int_equal(limn_noising_init(&m, &a, NULL), LIMN_OK);
    double sigma = limn_noising_sigma(&m, 785.6);
    assert_true(limn_precond_get(&m, sigma).timestep == 786);
    assert_true(fabs(limn_noising_timestep(&m, sigma) - 785.6) < 1e-6);
}

static void test_other_betas(void **state) {
    (void)state;
    limn_noising m;
    limn_noising_args a = {.zero_terminal_snr = true, .prediction = LIMN_PREDICT_V};
    assert_int_equal(limn_noising_init(&m, &a, NULL), LIMN_OK);
    assert_true(fabs(limn_noising_sigma_max(&m) - 4096) < 0.01);
    assert_true(fabs(limn_noising_sigma_min(&m) - sd_model().sigma[0]) < 1e-9);
    a = (limn_noising_args){.betas = LIMN_BETAS_LINEAR, .beta_start = 1e-4, .beta_end = 0.02};
    assert_int_equal(limn_noising_init(&m, &a, NULL), LIMN_OK);
    assert_true(fabs(limn_noising_sigma_max(&m) - 157.4) <
                0.1); /* DDPM: signal 4.04e-5 at the end */
    a = (limn_noising_args){.betas = LIMN_BETAS_COSINE};
    assert_int_equal(limn_noising_init(&m, &a, NULL), LIMN_OK);
    for (int i = 1; i < LIMN_TRAIN_STEPS; i++) assert_true(m.sigma[i] > m.sigma[i - 1]);
    /* half way the cosine schedule has nearly as much signal as noise */
    assert_true(fabs(m.sigma[499] - 1) < 0.05);
}

static void test_bad_values(void **state) {
    (void)state;
    limn_noising m = sd_model(), other;
    limn_err err = {0};
    double sigmas[1100];
    int made;
    const limn_schedule *s = row("karras");
    assert_int_equal(limn_schedule_build(sigmas, &made, s, 0, &m, NULL, &err), LIMN_E_VALUE);
    assert_int_equal(limn_schedule_build(sigmas, &made, s, 1 << 30, &m, NULL, &err), LIMN_E_VALUE);
    limn_schedule_options o = {.rho = NAN};
    assert_int_equal(limn_schedule_build(sigmas, &made, s, 5, &m, &o, &err), LIMN_E_VALUE);
    o = (limn_schedule_options){.sigma_min = 3, .sigma_max = 2};
    assert_int_equal(limn_schedule_build(sigmas, &made, s, 5, &m, &o, &err), LIMN_E_VALUE);
    o = (limn_schedule_options){.beta_alpha = -1};
    assert_int_equal(limn_schedule_build(sigmas, &made, row("beta"), 5, &m, &o, &err),
                     LIMN_E_VALUE);
    const limn_schedule *found;
    assert_int_equal(limn_schedule_find(&found, "karas", &err), LIMN_E_VALUE);
    assert_non_null(strstr(err.text, "Karras"));
    assert_int_equal(limn_schedule_find(&found, "", &err), LIMN_E_VALUE);
    assert_int_equal(limn_schedule_find(&found, NULL, &err), LIMN_E_VALUE);
    char longer[5000];
    memset(longer, 'k', sizeof longer - 1);
    longer[sizeof longer - 1] = 0;
    assert_int_equal(limn_schedule_find(&found, longer, &err), LIMN_E_VALUE);
    limn_noising_args bad[] = {
        {.beta_start = NAN},
        {.beta_start = 0.5, .beta_end = 0.1},
        {.prediction = LIMN_PREDICT_FLOW},
        {.prediction = (limn_prediction)77},
        {.kind = (limn_noising_kind)9},
        {.kind = LIMN_NOISING_FLOW},
        {.kind = LIMN_NOISING_FLOW, .prediction = LIMN_PREDICT_FLOW, .shift = -1},
        {.kind = LIMN_NOISING_EDM, .prediction = LIMN_PREDICT_EDM, .sigma_max = INFINITY},
        {.boundary_scale = NAN},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(limn_noising_init(&other, &bad[i], &err), LIMN_E_VALUE);
    limn_prediction p;
    assert_int_equal(limn_prediction_parse(&p, "V-Prediction", &err), LIMN_OK);
    assert_int_equal(p, LIMN_PREDICT_V);
    assert_int_equal(limn_prediction_parse(&p, "w", &err), LIMN_E_VALUE);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tables),
        cmocka_unit_test(test_discrete),
        cmocka_unit_test(test_flow),
        cmocka_unit_test(test_every_row),
        cmocka_unit_test(test_discard),
        cmocka_unit_test(test_strength),
        cmocka_unit_test(test_wrappers),
        cmocka_unit_test(test_preconditioning),
        cmocka_unit_test(test_whole_timesteps),
        cmocka_unit_test(test_other_betas),
        cmocka_unit_test(test_bad_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
