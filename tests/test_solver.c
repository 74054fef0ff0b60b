/* SPDX-License-Identifier: MIT */
/* Solvers: golden traces of k-diffusion and diffusers, closed forms, orders of convergence,
 * variances, names, bad input. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/mem.h"
#include "golden_file.h"
#include "sample/guider.h"
#include "sample/solver.h"

/* ---- the closed-form denoiser of the golden traces (tests/golden/README.md) ---- */

enum { DIM = 6 };

static void toy_denoise(double *d, const double *x, double alpha, double sigma) {
    double r = sqrt(alpha * alpha + sigma * sigma);
    for (int i = 0; i < DIM; i++) {
        double sum = 0;
        for (int j = 0; j < DIM; j++) sum += 0.7 * sin(1 + 3 * i + 5 * j) * x[j] / r;
        d[i] = alpha / r * x[i] / r + 0.3 * tanh(sum);
    }
}

/* A network of the model's prediction type that knows the toy denoiser. */
static limn_status toy_predict(void *user, float *const *outs, const limn_cond *conds, int count,
                               const float *x, int64_t n, const limn_predict_at *at,
                               limn_err *err) {
    const limn_noising *m = user;
    limn_noising plain = *m;
    plain.boundary_scale = 0; /* the network does not know of the consistency boundary */
    limn_precond p = limn_precond_get(&plain, at->sigma);
    double in[DIM], d[DIM];
    assert_int_equal(n, DIM);
    assert_int_equal(count, 1);
    for (int i = 0; i < DIM; i++) in[i] = (double)x[i] / p.in;
    toy_denoise(d, in, limn_noising_alpha(m, at->sigma), at->sigma);
    for (int i = 0; i < DIM; i++) outs[0][i] = (float)((d[i] - p.skip * in[i]) / p.out);
    return LIMN_OK;
}

/* ---- stored noise ---- */

typedef struct stored_noise {
    golden_tensor t;
    int64_t used;
} stored_noise;

static limn_status noise_stored(void *user, float *out, int64_t n, const limn_noise_at *at,
                                limn_err *err) {
    stored_noise *s = user;
    if ((s->used + 1) * n > s->t.count) return limn_fail(err, LIMN_E_INTERNAL, "out of noise");
    for (int64_t i = 0; i < n; i++) out[i] = (float)golden_at(&s->t, s->used * n + i);
    s->used++;
    return LIMN_OK;
}

/* ---- golden traces ---- */

/* Longest prefix of a trace's name decides its solver; NULL = another method than ours. */
static const struct {
    const char *prefix, *solver;
} trace_rows[] = {
    {"euler.", "euler"},
    {"euler_churn.", "euler"},
    {"euler_ancestral.", "euler_ancestral"},
    {"euler_ancestral_eta", "euler_ancestral"},
    {"heun", "heun"},
    {"dpm2.", "dpm2"},
    {"dpm2_ancestral.", "dpm2_ancestral"},
    {"lms.", "lms"},
    {"dpmpp_2s_ancestral", "dpmpp_2s_ancestral"},
    {"dpmpp_2s_ancestral.flow8", NULL}, /* sigma-space split on flow; ours is the flow split */
    {"dpmpp_sde", "dpmpp_sde"},
    {"dpmpp_2m.", "dpmpp_2m"},
    {"dpmsolverpp_order", "dpmpp_2m"},
    {"dpmpp_2m_sde", "dpmpp_2m_sde"},
    {"dpmpp_2m_sde_heun", "dpmpp_2m_sde_heun"},
    {"dpmpp_3m_sde", "dpmpp_3m_sde"},
    {"ddim_", "ddim"},
    {"ddpm.", "ddpm"},
    {"pndm.", "pndm"},
    {"ipndm.", "ipndm"},
    {"unipc_bh1", "unipc_bh1"},
    {"unipc_bh2", "unipc"},
    {"deis_", "deis"},
    {"lcm", "lcm"},
    {"tcd_", "tcd"},
    {"restart.", "restart"},
    {"er_sde.", "er_sde"},
    {"res_multistep.", "res_multistep"},
    {"res_multistep.flow_neglog8", NULL}, /* -log sigma on flow; ours is log SNR */
};

static int trace_row(const char *name) {
    int best = -1;
    size_t longest = 0;
    for (size_t i = 0; i < sizeof trace_rows / sizeof *trace_rows; i++) {
        size_t len = strlen(trace_rows[i].prefix);
        if (len > longest && strncmp(name, trace_rows[i].prefix, len) == 0) {
            best = (int)i;
            longest = len;
        }
    }
    return best;
}

static double json_option(const json_t *info, const char *key, double other) {
    const json_t *v = json_object_get(info, key);
    return v ? json_number_value(v) : other;
}

static limn_noising trace_model(const char *name, bool flow, limn_prediction p) {
    limn_noising m;
    limn_noising_args a = {.kind = flow ? LIMN_NOISING_FLOW : LIMN_NOISING_DISCRETE,
                           .prediction = p};
    if (strncmp(name, "lcm_diffusers", 13) == 0) a.boundary_scale = 10;
    assert_int_equal(limn_noising_init(&m, &a, NULL), LIMN_OK);
    return m;
}

static void run_trace(const golden_file *g, const char *name, const json_t *info,
                      const limn_solver_row *row, limn_prediction prediction) {
    bool flow = strcmp(json_string_value(json_object_get(info, "space")), "flow") == 0;
    bool pndm = strcmp(row->name, "pndm") == 0;
    char key[128];
    double sigmas[64];
    limn_noising m = trace_model(name, flow, prediction);
    limn_guider_options none = limn_guider_defaults();
    none.scale = 1;
    limn_denoiser d = {.noising = &m,
                       .guider = &limn_guiders[0],
                       .options = none,
                       .images = 1,
                       .n = DIM,
                       .predict = toy_predict,
                       .predict_user = &m};
    assert_int_equal(limn_denoiser_init(&d, NULL), LIMN_OK);

    snprintf(key, sizeof key, "%s/sigmas", name);
    golden_tensor s = golden_typed(g, key, "F64");
    int steps = -1;
    for (int i = 0; i < s.count; i++)
        if (!(pndm && i == 2)) sigmas[++steps] = golden_at(&s, i); /* evaluated twice there */
    snprintf(key, sizeof key, "%s/x", name);
    golden_tensor want = golden_typed(g, key, "F64");
    stored_noise noise = {0};
    snprintf(key, sizeof key, "%s/noise", name);
    if (golden_has(g, key)) noise.t = golden_typed(g, key, "F64");

    limn_solver_options o = limn_solver_defaults(row);
    o.eta = json_option(info, "eta", o.eta);
    o.gamma = json_option(info, "eta", o.gamma);
    o.s_churn = json_option(info, "s_churn", o.s_churn);
    o.s_tmin = json_option(info, "s_tmin", o.s_tmin);
    o.s_tmax = json_option(info, "s_tmax", o.s_tmax);
    o.s_noise = json_option(info, "s_noise", o.s_noise);
    o.order = (int)json_option(info, "solver_order", o.order);
    limn_solver_args a = {.row = row,
                          .noising = &m,
                          .sigmas = sigmas,
                          .steps = steps,
                          .n = DIM,
                          .options = &o,
                          .denoise = limn_denoiser_run,
                          .denoise_user = &d,
                          .noise = noise_stored,
                          .noise_user = &noise};
    limn_solver *solver;
    limn_err err = {0};
    if (limn_solver_new(&solver, &a, &err) != LIMN_OK) fail_msg("%s: %s", name, err.text);
    assert_int_equal(limn_solver_steps(solver), want.dim[0] - 1 - pndm);
    float x[DIM];
    for (int c = 0; c < DIM; c++) x[c] = (float)golden_at(&want, c);
    for (int i = 0; i < limn_solver_steps(solver); i++) {
        if (limn_solver_step(solver, x, i, &err) != LIMN_OK) fail_msg("%s: %s", name, err.text);
        double size = 1, off = 0;
        if (o.s_churn > 0 && i + 1 < limn_solver_steps(solver))
            continue; /* k-diffusion shows the state after the churn of the next step */
        for (int c = 0; c < DIM; c++) {
            double w = golden_at(&want, (i + 1 + pndm) * DIM + c);
            size = fmax(size, fabs(w));
            off = fmax(off, fabs(w - (double)x[c]));
        }
        if (!(off <= 1e-5 * size))
            fail_msg("%s (%s) step %d: off by %g of %g", name, limn_prediction_name(prediction), i,
                     off, size);
    }
    limn_solver_free(&solver);
    assert_null(solver);
    limn_denoiser_deinit(&d);
}

static void test_golden_traces(void **state) {
    (void)state;
    static const limn_prediction ve[] = {LIMN_PREDICT_EPS, LIMN_PREDICT_V, LIMN_PREDICT_X0};
    static const limn_prediction flow[] = {LIMN_PREDICT_FLOW, LIMN_PREDICT_X0};
    golden_file g;
    golden_open(&g, "sampler_traces.safetensors");
    json_t *traces = json_loads(golden_meta(&g, "traces"), 0, NULL), *info;
    const char *name;
    int ran = 0, skipped = 0;
    assert_non_null(traces);
    json_object_foreach(traces, name, info) {
        int at = trace_row(name);
        if (at < 0) fail_msg("no solver is named for the trace %s", name);
        if (!trace_rows[at].solver) {
            skipped++;
            continue;
        }
        const limn_solver_row *row;
        assert_int_equal(limn_solver_find(&row, trace_rows[at].solver, NULL), LIMN_OK);
        bool is_flow = strcmp(json_string_value(json_object_get(info, "space")), "flow") == 0;
        for (int p = 0; p < (is_flow ? 2 : 3); p++)
            run_trace(&g, name, info, row, is_flow ? flow[p] : ve[p]);
        ran++;
    }
    json_decref(traces);
    golden_close(&g);
    assert_int_equal(skipped, 2);
    assert_true(ran >= 110);
}

/* ---- Gaussian data: everything is known in closed form ---- */

static const double DATA = 0.6; /* standard deviation of the data */

typedef struct gauss {
    const limn_noising *m;
    int calls;
} gauss;

/* E[x0 | x] for x0 ~ N(0, DATA^2). */
static limn_status gauss_denoise(void *user, float *x0, const float *x, int64_t n,
                                 const limn_denoise_at *at, limn_err *err) {
    gauss *g = user;
    double a = limn_noising_alpha(g->m, at->sigma), v = DATA * DATA;
    double k = a * v / (a * a * v + at->sigma * at->sigma);
    assert_true(at->part >= 0 && at->part < 1 && at->stage < 2 && at->step < at->steps);
    for (int64_t i = 0; i < n; i++) x0[i] = (float)(k * (double)x[i]);
    g->calls++;
    return LIMN_OK;
}

/* Where the probability-flow ODE takes x from sigma to `end`. */
static double gauss_exact(const limn_noising *m, double x, double sigma, double end) {
    double a = limn_noising_alpha(m, sigma), b = limn_noising_alpha(m, end);
    return x * sqrt((b * b * DATA * DATA + end * end) / (a * a * DATA * DATA + sigma * sigma));
}

static limn_status noise_torch(void *user, float *out, int64_t n, const limn_noise_at *at,
                               limn_err *err) {
    limn_rng_normal(user, out, n);
    return LIMN_OK;
}

static int gauss_run(const limn_solver_row *row, const limn_noising *m, const double *sigmas,
                     int steps, const limn_solver_options *o, float *x, int64_t n) {
    limn_solver *s;
    limn_rng rng;
    limn_err err = {0};
    gauss g = {.m = m};
    limn_rng_init(&rng, LIMN_RNG_TORCH, 77);
    limn_solver_args a = {.row = row,
                          .noising = m,
                          .sigmas = sigmas,
                          .steps = steps,
                          .n = n,
                          .options = o,
                          .denoise = gauss_denoise,
                          .denoise_user = &g,
                          .noise = noise_torch,
                          .noise_user = &rng};
    if (limn_solver_new(&s, &a, &err) != LIMN_OK) fail_msg("%s: %s", row->name, err.text);
    assert_null(limn_solver_denoised(s));
    for (int i = 0; i < limn_solver_steps(s); i++) {
        if (limn_solver_step(s, x, i, &err) != LIMN_OK) fail_msg("%s: %s", row->name, err.text);
        assert_non_null(limn_solver_denoised(s));
    }
    assert_true(limn_solver_sigma(s, limn_solver_steps(s)) == sigmas[steps]);
    limn_solver_free(&s);
    return g.calls;
}

static limn_noising model_of(limn_noising_kind kind) {
    limn_noising m;
    limn_noising_args a = {.kind = kind,
                           .prediction = kind == LIMN_NOISING_FLOW  ? LIMN_PREDICT_FLOW
                                         : kind == LIMN_NOISING_EDM ? LIMN_PREDICT_EDM
                                                                    : LIMN_PREDICT_EPS};
    assert_int_equal(limn_noising_init(&m, &a, NULL), LIMN_OK);
    return m;
}

static bool is_consistency(const limn_solver_row *row) {
    return strcmp(row->name, "lcm") == 0 || strcmp(row->name, "tcd") == 0;
}

/* Sigmas from `high` to `low` > 0, even in log k, n steps: smooth, so that orders show. */
static void smooth_sigmas(double *out, const limn_noising *m, int n, double k_high, double k_low) {
    for (int i = 0; i <= n; i++) {
        double log_k = log(k_high) + (log(k_low) - log(k_high)) * i / n;
        out[i] = limn_noising_sigma_of_lambda(m, -log_k);
    }
}

static double smooth_error(const limn_solver_row *row, const limn_noising *m, int n) {
    double sigmas[700];
    limn_solver_options o = limn_solver_defaults(row);
    o.eta = 0;
    o.s_noise = 0;
    o.gamma = 0;
    o.lower_order_final = false;
    smooth_sigmas(sigmas, m, n, 10, 0.1);
    float x = (float)(sigmas[0] * 1.3);
    double want = gauss_exact(m, (double)x, sigmas[0], sigmas[n]);
    gauss_run(row, m, sigmas, n, &o, &x, 1);
    return fabs((double)x - want);
}

/* Halving the step divides the error by 2^order. Third and fourth orders sink into f32 noise soon,
 * so they are asked for 2.5 only. Restart is Heun here, the plan begins at 20 steps. */
static void test_orders(void **state) {
    (void)state;
    static const struct {
        const char *name;
        int n;
        double order;
    } rows[] = {{"euler", 100, 0.9},
                {"ddim", 100, 0.9},
                {"heun", 40, 1.8},
                {"dpm2", 40, 1.8},
                {"lms", 20, 2.5},
                {"dpmpp_2s_ancestral", 20, 1.8},
                {"dpmpp_sde", 20, 1.8},
                {"dpmpp_2m", 40, 1.8},
                {"dpmpp_3m", 20, 2.3},
                {"dpmpp_2m_sde", 40, 1.8},
                {"dpmpp_2m_sde_heun", 40, 1.8},
                {"dpmpp_3m_sde", 20, 2.3},
                {"pndm", 40, 0.9},
                {"ipndm", 40, 0.9},
                {"unipc", 40, 1.8},
                {"unipc_bh1", 40, 1.8},
                {"deis", 40, 1.8},
                {"res_multistep", 40, 1.8},
                {"tcd", 100, 0.9}};
    for (int kind = 0; kind < 2; kind++) {
        limn_noising m = model_of(kind ? LIMN_NOISING_FLOW : LIMN_NOISING_DISCRETE);
        for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
            const limn_solver_row *row;
            assert_int_equal(limn_solver_find(&row, rows[i].name, NULL), LIMN_OK);
            double a = smooth_error(row, &m, rows[i].n), b = smooth_error(row, &m, 2 * rows[i].n);
            double order = log2(a / b);
            if (!(b < 2e-6 || order > rows[i].order))
                fail_msg("%s, %s: order %.2f (errors %g, %g)", row->name, kind ? "flow" : "sigma",
                         order, a, b);
        }
    }
}

/* Every solver x schedule x kind of model: no NaN, ends near the exact picture (deterministic) or
 * the right spread (stochastic), and asks for as many evaluations as its row says. */
static void every_schedule(const limn_solver_row *row, const limn_noising *m) {
    enum { N = 512, STEPS = 40 };
    double sigmas[LIMN_TRAIN_STEPS + 2];
    static float x[N], start[N];
    for (int k = 0; k < limn_schedule_count; k++) {
        const limn_schedule *sch = &limn_schedules[k];
        int made;
        limn_rng rng;
        if (limn_schedule_build(sigmas, &made, sch, STEPS, m, NULL, NULL) != LIMN_OK) continue;
        double a = limn_noising_alpha(m, sigmas[0]);
        double spread = sqrt(a * a * DATA * DATA + sigmas[0] * sigmas[0]);
        limn_rng_init(&rng, LIMN_RNG_TORCH, 5);
        limn_rng_normal(&rng, start, N);
        for (int i = 0; i < N; i++) x[i] = start[i] = start[i] * (float)spread;
        /* made for flow: on wide sigmas neighbouring steps differ by large factors in
         * log sigma, and every multistep method leaves its region of stability */
        bool coarse =
            strcmp(sch->name, "linear_quadratic") == 0 || strcmp(sch->name, "beta_range") == 0;
        int calls = gauss_run(row, m, sigmas, made, NULL, x, N);
        assert_in_range(calls, made * (row->evaluations > 1) + made - (row->evaluations > 1),
                        made * row->evaluations + 1);
        double square = 0, off = 0;
        for (int i = 0; i < N; i++) {
            double want = gauss_exact(m, (double)start[i], sigmas[0], 0);
            square += (double)x[i] * (double)x[i];
            off = fmax(off, fabs((double)x[i] - want));
        }
        if (is_consistency(row)) continue; /* made for networks that jump, not for this one */
        /* the last step takes the mean of what can be behind x, so it narrows the spread */
        double al = limn_noising_alpha(m, sigmas[made - 1]) * DATA, sl = sigmas[made - 1];
        double rms = sqrt(square / N) / (DATA * al / sqrt(al * al + sl * sl));
        if (row->flags & LIMN_SOLVER_STOCHASTIC) {
            /* Second- and third-order SDE steps overshoot where one step is much longer in log
             * sigma than the one before, as at the end of evenly spaced timesteps. */
            bool even = strstr(sch->name, "exponential") || strcmp(sch->name, "karras") == 0;
            if (!(rms > (even ? 0.8 : 0.3) && rms < (even ? 1.25 : coarse ? 10 : 3)))
                fail_msg("%s, %s: spread %g", row->name, sch->name, rms);
        } else if (!(off < (coarse ? 20 : 0.3))) {
            fail_msg("%s, %s: off by %g", row->name, sch->name, off);
        }
    }
}

static void test_every_solver_and_schedule(void **state) {
    (void)state;
    for (int kind = LIMN_NOISING_DISCRETE; kind <= LIMN_NOISING_FLOW; kind++) {
        limn_noising m = model_of((limn_noising_kind)kind);
        for (int i = 0; i < limn_solver_count; i++) every_schedule(&limn_solvers[i], &m);
    }
}

/* With many steps the stochastic solvers sample the data distribution. */
static void test_spread(void **state) {
    (void)state;
    enum { N = 20000, STEPS = 200 };
    double sigmas[STEPS + 2];
    float *x = malloc(N * sizeof *x);
    for (int kind = 0; kind < 2; kind++) {
        limn_noising m = model_of(kind ? LIMN_NOISING_FLOW : LIMN_NOISING_DISCRETE);
        const limn_schedule *sch = NULL;
        int made;
        assert_int_equal(limn_schedule_find(&sch, kind ? "trailing" : "karras", NULL), LIMN_OK);
        assert_int_equal(limn_schedule_build(sigmas, &made, sch, STEPS, &m, NULL, NULL), LIMN_OK);
        for (int i = 0; i < limn_solver_count; i++) {
            const limn_solver_row *row = &limn_solvers[i];
            if (!(row->flags & LIMN_SOLVER_STOCHASTIC) || is_consistency(row)) continue;
            limn_rng rng;
            limn_rng_init(&rng, LIMN_RNG_TORCH, 11);
            limn_rng_normal(&rng, x, N);
            double a = limn_noising_alpha(&m, sigmas[0]);
            double spread = sqrt(a * a * DATA * DATA + sigmas[0] * sigmas[0]);
            for (int k = 0; k < N; k++) x[k] *= (float)spread;
            gauss_run(row, &m, sigmas, made, NULL, x, N);
            double square = 0;
            for (int k = 0; k < N; k++) square += (double)x[k] * (double)x[k];
            double rms = sqrt(square / N) / DATA;
            if (!(fabs(rms - 1) < 0.03)) fail_msg("%s, kind %d: spread %g", row->name, kind, rms);
        }
    }
    free(x);
}

/* Churn and eta keep the spread, too. */
static void test_churn_spread(void **state) {
    (void)state;
    enum { N = 20000, STEPS = 400 };
    static const char *const names[] = {"euler", "heun", "dpm2"};
    double sigmas[STEPS + 1];
    float *x = malloc(N * sizeof *x);
    for (int kind = 0; kind < 2; kind++)
        for (int i = 0; i < 3; i++) {
            limn_noising m = model_of(kind ? LIMN_NOISING_FLOW : LIMN_NOISING_DISCRETE);
            const limn_solver_row *row;
            limn_rng rng;
            assert_int_equal(limn_solver_find(&row, names[i], NULL), LIMN_OK);
            limn_solver_options o = limn_solver_defaults(row);
            o.s_churn = 20;
            smooth_sigmas(sigmas, &m, STEPS, 30, 0.01);
            sigmas[STEPS] = 0;
            limn_rng_init(&rng, LIMN_RNG_TORCH, 3);
            limn_rng_normal(&rng, x, N);
            double a = limn_noising_alpha(&m, sigmas[0]);
            double spread = sqrt(a * a * DATA * DATA + sigmas[0] * sigmas[0]);
            for (int k = 0; k < N; k++) x[k] *= (float)spread;
            gauss_run(row, &m, sigmas, STEPS, &o, x, N);
            double square = 0;
            for (int k = 0; k < N; k++) square += (double)x[k] * (double)x[k];
            double rms = sqrt(square / N) / DATA;
            if (!(fabs(rms - 1) < 0.05)) fail_msg("%s, kind %d: spread %g", names[i], kind, rms);
        }
    free(x);
}

/* One to three steps, and the longest run: no index runs over, nothing becomes NaN. */
static void test_few_and_many_steps(void **state) {
    (void)state;
    double *sigmas = malloc(LIMN_SIGMAS_ROOM * sizeof *sigmas);
    static const int counts[] = {1, 2, 3, 4, 14, 15, 19, 20, 35, 36, 1000};
    for (int kind = LIMN_NOISING_DISCRETE; kind <= LIMN_NOISING_FLOW; kind++) {
        limn_noising m = model_of((limn_noising_kind)kind);
        for (int i = 0; i < limn_solver_count; i++)
            for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
                const limn_schedule *sch = limn_solver_schedule(&limn_solvers[i], NULL, &m);
                float x[3] = {1, -2, 0.5f};
                int made;
                assert_non_null(sch);
                assert_int_equal(
                    limn_schedule_build_discard(sigmas, &made, sch, counts[c], &m, NULL, NULL),
                    LIMN_OK);
                gauss_run(&limn_solvers[i], &m, sigmas, made, NULL, x, 3);
                for (int k = 0; k < 3; k++) assert_true(fabsf(x[k]) < 20);
            }
    }
    free(sigmas);
}

/* ---- names ---- */

static void test_names(void **state) {
    (void)state;
    static const struct {
        const char *name, *solver, *schedule;
    } rows[] = {
        {"k_euler_a", "euler_ancestral", NULL},
        {"Euler a", "euler_ancestral", NULL},
        {"euler_ancestral", "euler_ancestral", NULL},
        {"Euler", "euler", NULL},
        {"DPM++ 2M Karras", "dpmpp_2m", "karras"},
        {"DPM++ 2M", "dpmpp_2m", NULL},
        {"dpmpp_2m", "dpmpp_2m", NULL},
        {"dpm++2m", "dpmpp_2m", NULL},
        {"k_dpmpp_2m_ka", "dpmpp_2m", "karras"},
        {"DPM++ 2M SDE Heun Exponential", "dpmpp_2m_sde_heun", "exponential"},
        {"DPM++ 2M SDE Karras", "dpmpp_2m_sde", "karras"},
        {"DPM++ 3M SDE Exponential", "dpmpp_3m_sde", "exponential"},
        {"DPM++ SDE", "dpmpp_sde", NULL},
        {"dpmpp_sde_gpu", "dpmpp_sde", NULL},
        {"DPM2 a Karras", "dpm2_ancestral", "karras"},
        {"KDPM2 a", "dpm2_ancestral", NULL},
        {"LMS Karras", "lms", "karras"},
        {"LMSD", "lms", NULL},
        {"DDIM", "ddim", NULL},
        {"ddim_trailing", "ddim", "trailing"},
        {"PLMS", "pndm", NULL},
        {"PNDM", "pndm", NULL},
        {"IPNDM", "ipndm", NULL},
        {"UniPC", "unipc", NULL},
        {"uni_pc", "unipc", NULL},
        {"uni_pc_bh1", "unipc_bh1", NULL},
        {"uni_pc_bh2", "unipc", NULL},
        {"UniPC FlowMatch", "unipc", "trailing"},
        {"Euler FlowMatch", "euler", "trailing"},
        {"Euler SGM", "euler", "sgm_uniform"},
        {"Euler EDM", "euler", NULL},
        {"DPM++ 3M", "dpmpp_3m", NULL},
        {"DPM2++ 2M FlowMatch", "dpmpp_2m", "trailing"},
        {"ER-SDE 2M", "er_sde_2m", NULL},
        {"ER-SDE 3M", "er_sde", NULL},
        {"RES-Multistep 2M", "res_multistep", NULL},
        {"res_multistep_ancestral", "res_multistep_ancestral", NULL},
        {"LCM", "lcm", NULL},
        {"TCD", "tcd", NULL},
        {"Restart", "restart", NULL},
        {"DEIS", "deis", NULL},
        {"Heun Beta", "heun", "beta"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const limn_solver_row *solver = NULL;
        const limn_schedule *schedule = NULL;
        limn_err err = {0};
        if (limn_sampler_parse(&solver, &schedule, rows[i].name, &err) != LIMN_OK)
            fail_msg("%s", err.text);
        assert_string_equal(solver->name, rows[i].solver);
        if (rows[i].schedule)
            assert_string_equal(schedule->name, rows[i].schedule);
        else
            assert_null(schedule);
    }
    const limn_solver_row *solver = NULL;
    const limn_schedule *schedule = NULL;
    limn_err err = {0};
    assert_int_equal(limn_sampler_parse(&solver, &schedule, "eular", &err), LIMN_E_VALUE);
    assert_non_null(strstr(err.text, "Euler"));
    assert_int_equal(limn_sampler_parse(&solver, &schedule, "DPM++ 2M Sunny", &err), LIMN_E_VALUE);
    assert_int_equal(limn_sampler_parse(&solver, &schedule, "", &err), LIMN_E_VALUE);
    assert_int_equal(limn_sampler_parse(&solver, &schedule, NULL, &err), LIMN_E_VALUE);
    assert_int_equal(limn_sampler_parse(&solver, &schedule, "\x1b[2J\xff", &err), LIMN_E_VALUE);
    assert_null(strchr(err.text, 0x1b));
    assert_null(solver);
}

/* Every name, label and default schedule is found and leads back to its own row. */
static void test_table(void **state) {
    (void)state;
    limn_noising m = model_of(LIMN_NOISING_DISCRETE);
    for (int i = 0; i < limn_solver_count; i++) {
        const limn_solver_row *row = &limn_solvers[i], *found = NULL;
        assert_int_equal(limn_solver_find(&found, row->name, NULL), LIMN_OK);
        assert_ptr_equal(found, row);
        assert_int_equal(limn_solver_find(&found, row->label, NULL), LIMN_OK);
        assert_ptr_equal(found, row);
        char aliases[256];
        snprintf(aliases, sizeof aliases, "%s", row->aliases ? row->aliases : "");
        for (char *a = strtok(aliases, "|"); a; a = strtok(NULL, "|")) {
            assert_int_equal(limn_solver_find(&found, a, NULL), LIMN_OK);
            if (found != row) fail_msg("%s leads to %s and to %s", a, found->name, row->name);
        }
        assert_non_null(row->about);
        assert_in_range(row->evaluations, 1, 2);
        limn_solver_options o = limn_solver_defaults(row);
        assert_int_equal(limn_solver_options_check(row, &o, NULL), LIMN_OK);
        const limn_schedule *s = limn_solver_schedule(row, &limn_schedules[0], &m);
        assert_string_equal(s->name, row->schedule ? row->schedule : "uniform");
        assert_ptr_equal(limn_solver_schedule(row, &limn_schedules[3], &m), &limn_schedules[3]);
    }
    for (int i = 0; i < limn_schedule_count; i++) {
        const limn_schedule *found = NULL;
        assert_int_equal(limn_schedule_find(&found, limn_schedules[i].name, NULL), LIMN_OK);
        assert_ptr_equal(found, &limn_schedules[i]);
        assert_int_equal(limn_schedule_find(&found, limn_schedules[i].label, NULL), LIMN_OK);
        assert_ptr_equal(found, &limn_schedules[i]);
    }
}

/* ---- bad input ---- */

static limn_status denoise_nan(void *user, float *x0, const float *x, int64_t n,
                               const limn_denoise_at *at, limn_err *err) {
    for (int64_t i = 0; i < n; i++) x0[i] = NAN;
    return LIMN_OK;
}

static limn_status denoise_cancelled(void *user, float *x0, const float *x, int64_t n,
                                     const limn_denoise_at *at, limn_err *err) {
    return limn_fail(err, LIMN_E_CANCELLED, "cancelled");
}

static void test_bad_input(void **state) {
    (void)state;
    limn_noising m = model_of(LIMN_NOISING_DISCRETE), flow = model_of(LIMN_NOISING_FLOW);
    const double good[] = {2, 1, 0}, rising[] = {1, 2, 0}, same[] = {1, 1, 0}, nan[] = {NAN, 1, 0},
                 negative[] = {1, 0, -1}, endless[] = {INFINITY, 1, 0};
    const double *bad[] = {rising, same, nan, negative, endless};
    limn_err err = {0};
    limn_solver *s = NULL;
    gauss g = {.m = &m};
    limn_solver_args base = {.row = &limn_solvers[0],
                             .noising = &m,
                             .sigmas = good,
                             .steps = 2,
                             .n = 2,
                             .denoise = gauss_denoise,
                             .denoise_user = &g};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        limn_solver_args a = base;
        a.sigmas = bad[i];
        assert_int_equal(limn_solver_new(&s, &a, &err), LIMN_E_VALUE);
        assert_null(s);
    }
    limn_solver_args a = base;
    a.noising = &flow;
    assert_int_equal(limn_solver_new(&s, &a, &err), LIMN_E_VALUE);
    a = base;
    a.steps = 0;
    assert_int_equal(limn_solver_new(&s, &a, &err), LIMN_E_VALUE);
    a = base;
    a.n = 0;
    assert_int_equal(limn_solver_new(&s, &a, &err), LIMN_E_VALUE);
    const limn_solver_row *unipc;
    assert_int_equal(limn_solver_find(&unipc, "unipc", NULL), LIMN_OK);
    limn_solver_options wrong[8];
    for (int i = 0; i < 8; i++) wrong[i] = limn_solver_defaults(unipc);
    wrong[0].eta = NAN;
    wrong[1].eta = -0.1;
    wrong[2].s_churn = -1;
    wrong[3].s_noise = INFINITY;
    wrong[4].r = 0;
    wrong[5].gamma = 2;
    wrong[6].order = 4;
    wrong[7].order = 0;
    for (int i = 0; i < 8; i++) {
        a = base;
        a.row = unipc;
        a.options = &wrong[i];
        assert_int_equal(limn_solver_new(&s, &a, &err), LIMN_E_VALUE);
        assert_null(s);
    }
    float x[2] = {1, 2};
    a = base; /* steps out of order */
    assert_int_equal(limn_solver_new(&s, &a, &err), LIMN_OK);
    assert_int_equal(limn_solver_step(s, x, 1, &err), LIMN_E_INTERNAL);
    assert_int_equal(limn_solver_step(s, x, 0, &err), LIMN_OK);
    assert_int_equal(limn_solver_step(s, x, 0, &err), LIMN_E_INTERNAL);
    assert_int_equal(limn_solver_step(s, x, 1, &err), LIMN_OK);
    assert_int_equal(limn_solver_step(s, x, 2, &err), LIMN_E_INTERNAL);
    limn_solver_free(&s);
    a.denoise = denoise_nan;
    assert_int_equal(limn_solver_new(&s, &a, &err), LIMN_OK);
    assert_int_equal(limn_solver_step(s, x, 0, &err), LIMN_E_NUMERIC);
    limn_solver_free(&s);
    for (int i = 0; i < limn_solver_count; i++) { /* every solver passes a failure on */
        x[0] = 1;
        x[1] = 2;
        a.row = &limn_solvers[i];
        a.denoise = denoise_cancelled;
        assert_int_equal(limn_solver_new(&s, &a, &err), LIMN_OK);
        assert_int_equal(limn_solver_step(s, x, 0, &err), LIMN_E_CANCELLED);
        limn_solver_free(&s);
        a.denoise = gauss_denoise; /* and says so when it lacks noise */
        if (!(a.row->flags & LIMN_SOLVER_STOCHASTIC) || (a.row->flags & LIMN_SOLVER_RESPACES))
            continue;
        assert_int_equal(limn_solver_new(&s, &a, &err), LIMN_OK);
        assert_int_equal(limn_solver_step(s, x, 0, &err), LIMN_E_VALUE);
        limn_solver_free(&s);
    }
}

static void test_out_of_memory(void **state) {
    (void)state;
    limn_noising m = model_of(LIMN_NOISING_DISCRETE);
    const double sigmas[] = {2, 1, 0};
    gauss g = {.m = &m};
    for (int i = 0; i < limn_solver_count; i++)
        for (int k = 0;; k++) {
            limn_solver *s = NULL;
            limn_solver_args a = {.row = &limn_solvers[i],
                                  .noising = &m,
                                  .sigmas = sigmas,
                                  .steps = 2,
                                  .n = 4,
                                  .denoise = gauss_denoise,
                                  .denoise_user = &g};
            limn_mem_fail_after(k);
            limn_status st = limn_solver_new(&s, &a, NULL);
            limn_mem_fail_after(-1);
            limn_solver_free(&s);
            if (st == LIMN_OK) break;
            assert_int_equal(st, LIMN_E_NOMEM);
            assert_true(k < 20);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_traces),
        cmocka_unit_test(test_orders),
        cmocka_unit_test(test_every_solver_and_schedule),
        cmocka_unit_test(test_spread),
        cmocka_unit_test(test_churn_spread),
        cmocka_unit_test(test_few_and_many_steps),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_bad_input),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
