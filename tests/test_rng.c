/* SPDX-License-Identifier: MIT */
/* Noise against torch, torchsde and numpy: bits of the CPU generator, Philox, Brownian paths,
 * seeds per image, variations. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <sodium.h>

#include "base/mem.h"
#include "golden_file.h"
#include "sample/brownian.h"
#include "sample/latent_ops.h"
#include "sample/noise.h"

static uint64_t seed_at(const golden_tensor *t, int i) {
    uint64_t v;
    memcpy(&v, (const char *)t->data + 8 * i, 8);
    return v;
}

static void bits_equal(const float *x, const golden_tensor *t, int64_t from, int64_t n,
                       const char *what) {
    const char *want = (const char *)t->data + from * 4;
    for (int64_t i = 0; i < n; i++)
        if (memcmp(x + i, want + i * 4, 4) != 0) {
            float w;
            memcpy(&w, want + i * 4, 4);
            fail_msg("%s: value %lld is %.9g, torch gives %.9g", what, (long long)i, (double)x[i],
                     (double)w);
        }
}

static void whole_draws(const golden_file *g, limn_rng_kind kind) {
    static const int sizes[] = {1, 2, 7, 15, 16, 17, 31, 33, 64, 100};
    golden_tensor seeds = golden_typed(g, "seeds", "I64");
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        char name[64];
        float x[128];
        snprintf(name, sizeof name, "randn.%d", sizes[k]);
        golden_tensor t = golden_typed(g, name, "F32");
        for (int s = 0; s < seeds.count; s++) {
            limn_rng rng;
            limn_rng_init(&rng, kind, seed_at(&seeds, s));
            limn_rng_normal(&rng, x, sizes[k]);
            bits_equal(x, &t, s * sizes[k], sizes[k], name);
        }
    }
}

static void large_draws(const golden_file *g, limn_rng_kind kind) {
    static const int sizes[] = {1000, 4 * 64 * 64 + 3};
    golden_tensor seeds = golden_typed(g, "seeds", "I64");
    for (int k = 0; k < 2; k++) {
        char name[64];
        int n = sizes[k];
        float *x = malloc((size_t)n * sizeof *x);
        for (int s = 0; s < seeds.count; s++) {
            limn_rng rng;
            limn_rng_init(&rng, kind, seed_at(&seeds, s));
            limn_rng_normal(&rng, x, n);
            snprintf(name, sizeof name, "randn.%d.first16", n);
            golden_tensor first = golden_typed(g, name, "F32");
            bits_equal(x, &first, s * 16, 16, name);
            snprintf(name, sizeof name, "randn.%d.last32", n);
            golden_tensor last = golden_typed(g, name, "F32");
            bits_equal(x + n - 32, &last, s * 32, 32, name);
            unsigned char sha[32];
            crypto_hash_sha256(sha, (const unsigned char *)x, (unsigned long long)n * 4);
            snprintf(name, sizeof name, "randn.%d.sha256", n);
            golden_tensor want = golden_typed(g, name, "U8");
            assert_memory_equal(sha, (const char *)want.data + s * 32, 32);
        }
        free(x);
    }
}

static void sequences(const golden_file *g, limn_rng_kind kind) {
    golden_tensor sizes = golden_typed(g, "sequence.sizes", "I32");
    for (int seed = 0; seed <= 42; seed += 42) {
        char name[64];
        float x[64];
        limn_rng rng;
        snprintf(name, sizeof name, "sequence.seed%d", seed);
        golden_tensor t = golden_typed(g, name, "F32");
        limn_rng_init(&rng, kind, (uint64_t)seed);
        int64_t at = 0;
        for (int i = 0; i < sizes.count; i++) {
            int64_t n = (int64_t)golden_at(&sizes, i);
            limn_rng_normal(&rng, x, n);
            bits_equal(x, &t, at, n, name);
            at += n;
        }
        assert_int_equal(at, t.count);
    }
}

static void torch_file(const char *file, limn_rng_kind kind) {
    golden_file g;
    golden_open(&g, file);
    whole_draws(&g, kind);
    large_draws(&g, kind);
    sequences(&g, kind);
    golden_close(&g);
}

static void test_torch_bits(void **state) {
    (void)state;
    torch_file("rng_torch.safetensors", LIMN_RNG_TORCH);
}

static void test_torch_libm_bits(void **state) {
    (void)state;
    torch_file("rng_torch_scalar.safetensors", LIMN_RNG_TORCH_LIBM);
}

static void test_philox(void **state) {
    (void)state;
    static const int offsets[] = {0, 1, 5};
    golden_file g;
    golden_open(&g, "rng_philox.safetensors");
    golden_tensor seeds = golden_typed(&g, "seeds", "I64");
    for (int k = 0; k < 3; k++) {
        char name[64];
        snprintf(name, sizeof name, "randn.offset%d", offsets[k]);
        golden_tensor t = golden_typed(&g, name, "F32");
        for (int s = 0; s < seeds.count; s++) {
            float x[35];
            limn_rng rng;
            limn_rng_init(&rng, LIMN_RNG_PHILOX, seed_at(&seeds, s));
            for (int i = 0; i <= offsets[k]; i++) limn_rng_normal(&rng, x, 35);
            for (int i = 0; i < 35; i++)
                assert_true(fabs((double)x[i] - golden_at(&t, s * 35 + i)) < 2e-6);
        }
    }
    golden_close(&g);
}

/* A GPU of 512 threads: elements beyond are second, third and fourth normals of a thread, and the
 * fifth round takes a new counter. */
static void test_philox_capacity(void **state) {
    (void)state;
    enum { N = 2500 };
    float wide[N], small[N], next[N];
    limn_rng a, b;
    limn_rng_init(&a, LIMN_RNG_PHILOX, 9);
    limn_rng_init(&b, LIMN_RNG_PHILOX, 9);
    b.capacity = 512;
    limn_rng_normal(&a, wide, N);
    limn_rng_normal(&b, small, N);
    limn_rng_normal(&a, next, N); /* counter 1 */
    assert_memory_equal(wide, small, 512 * sizeof(float));
    assert_true(wide[512] != small[512]);
    assert_memory_equal(next, small + 2048, (N - 2048) * sizeof(float));
    assert_int_equal(b.offset, 2);
    double sum = 0, square = 0;
    for (int i = 0; i < N; i++) {
        sum += (double)small[i];
        square += (double)small[i] * (double)small[i];
    }
    assert_true(fabs(sum / N) < 0.08 && fabs(square / N - 1) < 0.1);
}

static void test_seed_sequence(void **state) {
    (void)state;
    static const struct {
        const char *name;
        uint64_t seed;
    } rows[] = {{"0", 0}, {"42", 42}, {"big", (1ull << 40) + 12345}, {"2^64-1", UINT64_MAX}};
    static const uint64_t keys[][2] = {{0, 1}, {1, 1}, {5, 3}, {(1ull << 33) + 1, 40}};
    golden_file g;
    golden_open(&g, "rng_brownian.safetensors");
    for (int r = 0; r < 4; r++) {
        char name[96];
        uint32_t w[8];
        snprintf(name, sizeof name, "seedseq.%s.pool24", rows[r].name);
        golden_tensor t = golden_typed(&g, name, "I64");
        limn_seed_sequence(w, 8, rows[r].seed, NULL, 0);
        for (int i = 0; i < 8; i++) assert_int_equal(w[i], (uint32_t)golden_at(&t, i));
        for (int k = 0; k < 4; k++) {
            snprintf(name, sizeof name, "seedseq.%s.key%llu_%llu", rows[r].name,
                     (unsigned long long)keys[k][0], (unsigned long long)keys[k][1]);
            t = golden_typed(&g, name, "I64");
            limn_seed_sequence(w, 4, rows[r].seed, keys[k], 2);
            for (int i = 0; i < 4; i++) assert_int_equal(w[i], (uint32_t)golden_at(&t, i));
        }
    }
    golden_close(&g);
}

static limn_noise *source(const uint64_t *seeds, int images, int64_t c, int64_t h, int64_t w) {
    limn_noise *n;
    limn_noise_config config = {
        .images = images, .channels = c, .height = h, .width = w, .seeds = seeds};
    assert_int_equal(limn_noise_new(&n, &config, NULL), LIMN_OK);
    return n;
}

/* Largest difference of one draw over (a, b) from a golden row. */
static double path_error(limn_noise *n, double a, double b, const golden_tensor *t, int64_t row,
                         int64_t count) {
    float x[64];
    limn_noise_at at = {.sigma = a, .sigma_next = b, .brownian = true};
    assert_int_equal(limn_noise_draw(n, x, count, &at, NULL), LIMN_OK);
    double worst = 0;
    for (int64_t i = 0; i < count; i++)
        worst = fmax(worst, fabs((double)x[i] - golden_at(t, row * count + i)));
    return worst;
}

static void test_brownian(void **state) {
    (void)state;
    static const uint64_t seeds[] = {0, 42, (1ull << 32) + 5};
    golden_file g;
    golden_open(&g, "rng_brownian.safetensors");
    golden_tensor sigmas = golden_typed(&g, "sigmas", "F32"),
                  mids = golden_typed(&g, "mids", "F32");
    double low = golden_at(&sigmas, 7), high = golden_at(&sigmas, 0);
    for (int s = 0; s < 3; s++) {
        char name[64];
        limn_noise *n = source(&seeds[s], 1, 4, 3, 2);
        assert_int_equal(limn_noise_set_range(n, low, high, NULL), LIMN_OK);
        snprintf(name, sizeof name, "steps.seed%llu", (unsigned long long)seeds[s]);
        golden_tensor t = golden_typed(&g, name, "F32");
        for (int i = 0; i < 7; i++) {
            double e = path_error(n, golden_at(&sigmas, i), golden_at(&sigmas, i + 1), &t, i, 24);
            if (!(e < 2e-6)) fail_msg("%s step %d: off by %g", name, i, e);
        }
        snprintf(name, sizeof name, "halves.seed%llu", (unsigned long long)seeds[s]);
        t = golden_typed(&g, name, "F32");
        for (int i = 0; i < 14; i++) {
            double to = i % 2 ? golden_at(&sigmas, i / 2 + 1) : golden_at(&mids, i / 2);
            double e = path_error(n, golden_at(&sigmas, i / 2), to, &t, i, 24);
            if (!(e < 2e-6)) fail_msg("%s question %d: off by %g", name, i, e);
        }
        limn_noise_free(&n);
    }
    static const uint64_t two[] = {5, 6};
    limn_noise *n = source(two, 2, 4, 3, 2);
    assert_int_equal(limn_noise_set_range(n, low, high, NULL), LIMN_OK);
    golden_tensor t = golden_typed(&g, "steps.seeds5_6", "F32");
    for (int i = 0; i < 7; i++)
        assert_true(path_error(n, golden_at(&sigmas, i), golden_at(&sigmas, i + 1), &t, i, 48) <
                    2e-6);
    limn_noise_free(&n);
    golden_close(&g);
}

/* Increments add up, and their variance is that of the interval. */
static void test_brownian_additive(void **state) {
    (void)state;
    enum { N = 4096 };
    limn_brownian *b;
    float whole[N], left[N], right[N];
    assert_int_equal(limn_brownian_new(&b, LIMN_RNG_TORCH, 7, N, 0.03, 14.6, NULL), LIMN_OK);
    assert_int_equal(limn_brownian_get(b, whole, 1.0, 9.0, NULL), LIMN_OK);
    assert_int_equal(limn_brownian_get(b, left, 1.0, 3.3, NULL), LIMN_OK);
    assert_int_equal(limn_brownian_get(b, right, 3.3, 9.0, NULL), LIMN_OK);
    double square = 0, cross = 0;
    for (int i = 0; i < N; i++) {
        assert_true(fabsf(whole[i] - left[i] - right[i]) < 1e-4f);
        square += (double)whole[i] * (double)whole[i];
        cross += (double)left[i] * (double)right[i];
    }
    assert_true(fabs(square / N - 8) < 0.6);
    assert_true(fabs(cross / N) < 0.25); /* separate intervals are independent */
    assert_int_equal(limn_brownian_get(b, whole, 2.0, 2.0, NULL), LIMN_OK);
    assert_true(whole[0] == 0);
    limn_brownian_free(&b);
    assert_null(b);
    assert_int_equal(limn_brownian_new(&b, LIMN_RNG_TORCH, 7, 4, 2, 1, NULL), LIMN_E_VALUE);
    assert_int_equal(limn_brownian_new(&b, LIMN_RNG_TORCH, 7, 4, NAN, 1, NULL), LIMN_E_VALUE);
}

/* An image of a batch equals the image alone; a whole batch is one stream; steps go on or reseed.
 */
static void test_batch_conventions(void **state) {
    (void)state;
    enum { EACH = 4 * 8 * 6 };
    static const uint64_t seeds[] = {100, 101, 102};
    float batch[3 * EACH], alone[EACH], step[3 * EACH], stream[3 * EACH];
    limn_noise_at at = {.sigma = 2, .sigma_next = 1};
    limn_noise *n = source(seeds, 3, 4, 8, 6);
    assert_int_equal(limn_noise_first(n, batch, NULL), LIMN_OK);
    assert_int_equal(limn_noise_draw(n, step, 3 * EACH, &at, NULL), LIMN_OK);
    limn_noise_free(&n);
    for (int i = 0; i < 3; i++) {
        limn_rng rng;
        limn_rng_init(&rng, LIMN_RNG_TORCH, seeds[i]);
        limn_rng_normal(&rng, alone, EACH);
        assert_memory_equal(alone, batch + i * EACH, sizeof alone);
        limn_rng_normal(&rng, alone, EACH);
        assert_memory_equal(alone, step + i * EACH, sizeof alone);
    }
    limn_noise_config c = {.images = 3,
                           .channels = 4,
                           .height = 8,
                           .width = 6,
                           .seeds = seeds,
                           .whole_batch = true,
                           .step_reseed = true,
                           .step_seed_delta = 31337,
                           .step_rng = LIMN_RNG_PHILOX};
    assert_int_equal(limn_noise_new(&n, &c, NULL), LIMN_OK);
    assert_int_equal(limn_noise_first(n, batch, NULL), LIMN_OK);
    assert_int_equal(limn_noise_draw(n, step, 3 * EACH, &at, NULL), LIMN_OK);
    limn_noise_free(&n);
    limn_rng rng;
    limn_rng_init(&rng, LIMN_RNG_TORCH, 100);
    limn_rng_normal(&rng, stream, 3 * EACH);
    assert_memory_equal(stream, batch, sizeof stream);
    limn_rng_init(&rng, LIMN_RNG_PHILOX, 100 + 31337);
    limn_rng_normal(&rng, stream, 3 * EACH);
    assert_memory_equal(stream, step, sizeof stream);
}

static void test_variation(void **state) {
    (void)state;
    enum { H = 8, W = 6, EACH = 4 * H * W };
    static const uint64_t seed = 3, other = 4;
    float a[EACH], b[EACH], x[EACH];
    limn_noise *n = source(&seed, 1, 4, H, W);
    limn_noise_first(n, a, NULL);
    limn_noise_free(&n);
    n = source(&other, 1, 4, H, W);
    limn_noise_first(n, b, NULL);
    limn_noise_free(&n);
    for (int k = 0; k <= 4; k++) {
        double part = k / 4.0;
        limn_noise_config c = {.images = 1,
                               .channels = 4,
                               .height = H,
                               .width = W,
                               .seeds = &seed,
                               .variation_seeds = &other,
                               .variation_strength = part};
        assert_int_equal(limn_noise_new(&n, &c, NULL), LIMN_OK);
        assert_int_equal(limn_noise_first(n, x, NULL), LIMN_OK);
        limn_noise_free(&n);
        for (int p = 0; p < 4; p++)
            for (int col = 0; col < W; col++) {
                double ab = 0, aa = 0, bb = 0;
                for (int y = 0; y < H; y++) {
                    int i = (p * H + y) * W + col;
                    ab += (double)a[i] * (double)b[i];
                    aa += (double)a[i] * (double)a[i];
                    bb += (double)b[i] * (double)b[i];
                }
                double angle = acos(ab / sqrt(aa * bb));
                for (int y = 0; y < H; y++) {
                    int i = (p * H + y) * W + col;
                    double want = (sin((1 - part) * angle) * (double)a[i] +
                                   sin(part * angle) * (double)b[i]) /
                                  sin(angle);
                    assert_true(fabs(want - (double)x[i]) < 1e-5);
                }
            }
    }
    limn_latent_slerp(x, a, a, 4, H, W, 0.3); /* parallel: linear, no division by zero */
    for (int i = 0; i < EACH; i++) assert_true(fabsf(x[i] - a[i]) < 1e-6f);
}

static void test_bad_values(void **state) {
    (void)state;
    static const uint64_t seed = 1;
    limn_err err = {0};
    limn_noise *n = NULL;
    const limn_noise_config good = {
        .images = 1, .channels = 4, .height = 8, .width = 8, .seeds = &seed};
    limn_noise_config c = good;
    c.images = 0;
    assert_int_equal(limn_noise_new(&n, &c, &err), LIMN_E_VALUE);
    c = good;
    c.height = INT64_MAX;
    assert_int_equal(limn_noise_new(&n, &c, &err), LIMN_E_VALUE);
    c = good;
    c.variation_strength = NAN;
    assert_int_equal(limn_noise_new(&n, &c, &err), LIMN_E_VALUE);
    c.variation_strength = 0.5; /* without a variation seed */
    assert_int_equal(limn_noise_new(&n, &c, &err), LIMN_E_VALUE);
    c = good;
    c.seeds = NULL;
    assert_int_equal(limn_noise_new(&n, &c, &err), LIMN_E_VALUE);
    assert_null(n);

    n = source(&seed, 1, 4, 8, 8);
    float x[256];
    limn_noise_at at = {.sigma = 2, .sigma_next = 1, .brownian = true};
    assert_int_equal(limn_noise_set_range(n, 0, 1, &err), LIMN_E_VALUE);
    assert_int_equal(limn_noise_set_range(n, 1, NAN, &err), LIMN_E_VALUE);
    assert_int_equal(limn_noise_draw(n, x, 256, &at, &err), LIMN_E_INTERNAL);
    assert_int_equal(limn_noise_draw(n, x, 255, &at, &err), LIMN_E_INTERNAL);
    limn_noise_free(&n);

    limn_rng_kind kind;
    assert_int_equal(limn_rng_kind_parse(&kind, "NV", &err), LIMN_OK);
    assert_int_equal(kind, LIMN_RNG_PHILOX);
    assert_int_equal(limn_rng_kind_parse(&kind, "pilox", &err), LIMN_E_VALUE);
    assert_non_null(strstr(err.text, "philox"));
}

/* Every allocation fails once: an error, no leak (ASan), no crash. */
static void test_out_of_memory(void **state) {
    (void)state;
    static const uint64_t seeds[] = {1, 2};
    for (int k = 0; k < 200; k++) {
        limn_noise *n = NULL;
        limn_noise_config c = {.images = 2,
                               .channels = 1,
                               .height = 4,
                               .width = 4,
                               .seeds = seeds,
                               .variation_seeds = seeds,
                               .variation_strength = 0.5};
        float x[32];
        limn_noise_at at = {.sigma = 2, .sigma_next = 1, .brownian = true};
        limn_mem_fail_after(k);
        limn_status st = limn_noise_new(&n, &c, NULL);
        if (st == LIMN_OK) st = limn_noise_first(n, x, NULL);
        if (st == LIMN_OK) st = limn_noise_set_range(n, 0.1, 10, NULL);
        if (st == LIMN_OK) st = limn_noise_draw(n, x, 32, &at, NULL);
        limn_mem_fail_after(-1);
        limn_noise_free(&n);
        if (st == LIMN_OK) return;
        assert_int_equal(st, LIMN_E_NOMEM);
    }
    fail_msg("still failing after 200 allocations");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_torch_bits),
        cmocka_unit_test(test_torch_libm_bits),
        cmocka_unit_test(test_philox),
        cmocka_unit_test(test_philox_capacity),
        cmocka_unit_test(test_seed_sequence),
        cmocka_unit_test(test_brownian),
        cmocka_unit_test(test_brownian_additive),
        cmocka_unit_test(test_batch_conventions),
        cmocka_unit_test(test_variation),
        cmocka_unit_test(test_bad_values),
        cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
