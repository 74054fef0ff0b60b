/* SPDX-License-Identifier: MIT */
/*
 * Normal generators, see rng.h. Facts: aten/src/ATen/native/cpu/DistributionTemplates.h (blocks of
 * 16, tail), aten/src/ATen/core/DistributionsHelper.h (pairs in double), avx_mathfun.h (Cephes
 * polynomials; wheels are compiled with FMA contraction, so every Horner step is one fmaf here),
 * aten/src/ATen/native/cuda/DistributionTemplates.h and curand_philox4x32_x.h (Philox).
 */
#include "sample/rng.h"

#include <math.h>
#include <string.h>

#include "sample/names.h"

enum { MT_N = 624, MT_M = 397, BLOCK = 16, GPU_BLOCK = 256 };

typedef struct kind_row {
    const char *name;
    const char *aliases;
} kind_row;

static const kind_row kinds[LIMN_RNG_KIND_COUNT] = {
    [LIMN_RNG_TORCH] = {"torch", "cpu"},
    [LIMN_RNG_TORCH_LIBM] = {"torch-libm", "libm|std_default"},
    [LIMN_RNG_PHILOX] = {"philox", "nv|cuda|gpu"},
};

static limn_name_row kind_row_name(int i) {
    return (limn_name_row){kinds[i].name, NULL, kinds[i].aliases};
}

limn_status limn_rng_kind_parse(limn_rng_kind *out, const char *name, limn_err *err) {
    int at = limn_name_find(name, LIMN_RNG_KIND_COUNT, kind_row_name);
    if (at < 0)
        return limn_name_fail(err, "noise generator", name, LIMN_RNG_KIND_COUNT, kind_row_name);
    *out = (limn_rng_kind)at;
    return LIMN_OK;
}

const char *limn_rng_kind_name(limn_rng_kind kind) {
    return kinds[kind].name;
}

/* ---- MT19937 ---- */

void limn_rng_init(limn_rng *rng, limn_rng_kind kind, uint64_t seed) {
    memset(rng, 0, sizeof *rng);
    rng->kind = kind;
    rng->seed = seed;
    if (kind == LIMN_RNG_PHILOX) return;
    rng->word[0] = (uint32_t)seed; /* torch keeps the low 32 bits only */
    for (uint32_t i = 1; i < MT_N; i++)
        rng->word[i] = 1812433253u * (rng->word[i - 1] ^ (rng->word[i - 1] >> 30)) + i;
    rng->at = MT_N;
}

static void mt_refill(limn_rng *rng) {
    uint32_t *w = rng->word;
    for (int i = 0; i < MT_N; i++) {
        uint32_t y = (w[i] & 0x80000000u) | (w[(i + 1) % MT_N] & 0x7fffffffu);
        w[i] = w[(i + MT_M) % MT_N] ^ (y >> 1) ^ ((y & 1) ? 0x9908b0dfu : 0);
    }
    rng->at = 0;
}

uint32_t limn_rng_word(limn_rng *rng) {
    if (rng->at >= MT_N) mt_refill(rng);
    uint32_t y = rng->word[rng->at++];
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c5680u;
    y ^= (y << 15) & 0xefc60000u;
    return y ^ (y >> 18);
}

static float uniform24(limn_rng *rng) {
    return (float)(limn_rng_word(rng) & 0xffffff) * 0x1p-24f;
}

static double uniform53(limn_rng *rng) {
    uint64_t hi = limn_rng_word(rng); /* the high word is drawn first */
    uint64_t lo = limn_rng_word(rng);
    return (double)(((hi << 32) | lo) & ((1ull << 53) - 1)) * 0x1p-53;
}

/* ---- fewer than 16 values: pairs in double, the second kept for later ---- */

static float normal_pairwise(limn_rng *rng) {
    if (rng->has_spare) {
        rng->has_spare = false;
        return (float)rng->spare;
    }
    double u1 = uniform53(rng);
    double u2 = uniform53(rng);
    double r = sqrt(-2.0 * log1p(-u2));
    double theta = 2.0 * M_PI * u1;
    rng->spare = r * sin(theta);
    rng->has_spare = true;
    return (float)(r * cos(theta));
}

/* ---- 16 and more: blocks of eight Box-Muller pairs in float ---- */

static float bits_float(uint32_t u) {
    float f;
    memcpy(&f, &u, 4);
    return f;
}

static uint32_t float_bits(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}

/* Natural logarithm of a positive normal float, Cephes logf. */
static float cephes_log(float x) {
    static const float p[9] = {7.0376836292E-2f,  -1.1514610310E-1f, 1.1676998740E-1f,
                               -1.2420140846E-1f, 1.4249322787E-1f,  -1.6668057665E-1f,
                               2.0000714765E-1f,  -2.4999993993E-1f, 3.3333331174E-1f};
    x = fmaxf(x, 0x1p-126f);
    uint32_t u = float_bits(x);
    float e = (float)((int)(u >> 23) - 127) + 1.0f;
    x = bits_float((u & 0x007fffffu) | 0x3f000000u); /* mantissa in [0.5, 1) */
    bool low = x < 0.707106781186547524f;
    float keep = low ? x : 0.0f;
    x -= 1.0f;
    if (low) e -= 1.0f;
    x += keep;
    float z = x * x;
    float y = p[0];
    for (int i = 1; i < 9; i++) y = fmaf(y, x, p[i]);
    y = y * x;
    /* y z + e q1 as the compiler contracted it: the second product is rounded on its own. */
    y = fmaf(y, z, e * -2.12194440e-4f);
    y = fmaf(-z, 0.5f, y);
    x = x + y;
    return fmaf(e, 0.693359375f, x);
}

/* Sine and cosine of x >= 0, Cephes sinf/cosf with a three-part pi/4. */
static void cephes_sincos(float x, float *sine, float *cosine) {
    uint32_t j = (uint32_t)(x * 1.27323954473516f);
    j = (j + 1) & ~1u;
    float y = (float)j;
    bool swap_sign_sin = (j & 4) != 0;
    bool use_sin_poly = (j & 2) == 0;
    bool negative_cos = ((j - 2) & 4) == 0;
    x = fmaf(y, -0.78515625f, x);
    x = fmaf(y, -2.4187564849853515625e-4f, x);
    x = fmaf(y, -3.77489497744594108e-8f, x);
    float z = x * x;
    float c = 2.443315711809948E-005f;
    c = fmaf(c, z, -1.388731625493765E-003f);
    c = fmaf(c, z, 4.166664568298827E-002f);
    c = c * z;
    c = fmaf(c, z, -(z * 0.5f));
    c = c + 1.0f;
    float s = -1.9515295891E-4f;
    s = fmaf(s, z, 8.3321608736E-3f);
    s = fmaf(s, z, -1.6666654611E-1f);
    s = s * z;
    s = fmaf(s, x, x);
    float out_sin = use_sin_poly ? s : c;
    float out_cos = use_sin_poly ? c : s;
    *sine = swap_sign_sin ? -out_sin : out_sin;
    *cosine = negative_cos ? -out_cos : out_cos;
}

static void block_vector(float *d) {
    for (int j = 0; j < BLOCK / 2; j++) {
        float u1 = 1.0f - d[j]; /* in (0, 1], so the logarithm is finite */
        float r = sqrtf(-2.0f * cephes_log(u1));
        float s, c;
        cephes_sincos(6.283185307179586f * d[j + 8], &s, &c);
        d[j] = r * c;
        d[j + 8] = r * s;
    }
}

static void block_libm(float *d) {
    for (int j = 0; j < BLOCK / 2; j++) {
        float u1 = 1.0f - d[j];
        float r = sqrtf(-2.0f * logf(u1));
        float theta = (float)(2.0 * M_PI * (double)d[j + 8]);
        d[j] = r * cosf(theta);
        d[j + 8] = r * sinf(theta);
    }
}

static void normal_torch(limn_rng *rng, float *out, int64_t n) {
    if (n < BLOCK) {
        for (int64_t i = 0; i < n; i++) out[i] = normal_pairwise(rng);
        return;
    }
    void (*block)(float *) = rng->kind == LIMN_RNG_TORCH ? block_vector : block_libm;
    for (int64_t i = 0; i < n; i++) out[i] = uniform24(rng);
    for (int64_t i = 0; i + BLOCK <= n; i += BLOCK) block(out + i);
    if (n % BLOCK == 0) return;
    float *tail = out + n - BLOCK; /* the last 16 are drawn anew, over part of the last block */
    for (int i = 0; i < BLOCK; i++) tail[i] = uniform24(rng);
    block(tail);
}

/* ---- Philox 4x32-10 ---- */

static void philox(uint32_t c[4], uint64_t seed) {
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)c[0] * 0xd2511f53u;
        uint64_t b = (uint64_t)c[2] * 0xcd9e8d57u;
        uint32_t c0 = (uint32_t)(b >> 32) ^ c[1] ^ k0;
        uint32_t c2 = (uint32_t)(a >> 32) ^ c[3] ^ k1;
        c[1] = (uint32_t)b;
        c[3] = (uint32_t)a;
        c[0] = c0;
        c[2] = c2;
        k0 += 0x9e3779b9u;
        k1 += 0xbb67ae85u;
    }
}

/* Computed in double from float constants and rounded once, as A1111 does; a GPU's own sincos
 * intrinsics differ in the last bits between models. */
static void philox_pair(uint32_t x, uint32_t y, float *first, float *second) {
    const double unit = (double)2.3283064e-10f, turn = (double)(2.3283064e-10f * 6.2831855f);
    double u = (double)x * unit + unit / 2;
    double v = (double)y * turn + turn / 2;
    double s = sqrt(-2.0 * log(u));
    *first = (float)(s * sin(v));
    *second = (float)(s * cos(v));
}

/* Thread `idx` of a grid of `stride` threads writes elements idx + stride * (0..3), then goes on by
 * four strides with its counter advanced. Without a capacity the grid covers all elements and only
 * the first normal of each four is used. */
static void normal_philox(limn_rng *rng, float *out, int64_t n) {
    if (n == 0) return;
    int64_t stride = (n + GPU_BLOCK - 1) / GPU_BLOCK * GPU_BLOCK;
    int64_t most = rng->capacity / GPU_BLOCK * GPU_BLOCK;
    if (most > 0 && stride > most) stride = most;
    uint64_t rounds = (uint64_t)((n - 1) / (stride * 4) + 1);
    for (uint64_t r = 0; r < rounds; r++)
        for (int64_t idx = 0; idx < stride; idx++) {
            int64_t at = idx + (int64_t)r * stride * 4;
            if (at >= n) break;
            uint64_t call = rng->offset + r;
            uint32_t c[4] = {(uint32_t)call, (uint32_t)(call >> 32), (uint32_t)idx,
                             (uint32_t)((uint64_t)idx >> 32)};
            float v[4];
            philox(c, rng->seed);
            philox_pair(c[0], c[1], &v[0], &v[1]);
            philox_pair(c[2], c[3], &v[2], &v[3]);
            for (int k = 0; k < 4 && at + k * stride < n; k++) out[at + k * stride] = v[k];
        }
    rng->offset += rounds;
}

void limn_rng_normal(limn_rng *rng, float *out, int64_t n) {
    if (rng->kind == LIMN_RNG_PHILOX)
        normal_philox(rng, out, n);
    else
        normal_torch(rng, out, n);
}
