/* SPDX-License-Identifier: MIT */
/*
 * matmul: every dispatch table x weight dtype x compute mode x ragged shapes, strides, misaligned
 * rows and epilogues against the double-precision reference, given the weights and activations as
 * the mode rounds them; the same bits for 1, 2 and 3 threads; packed bytes viewed again.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/mem.h"
#include "kernel_pools.h"
#include "kernels/gemm_run.h"
#include "kernels/matmul.h"
#include "tensor/quantise.h"

typedef struct mm_case {
    int m, n, k;
    limn_dtype w_dtype, x_dtype, y_dtype;
    limn_compute compute;
    bool bias, add, expand, delta, borrow;
    limn_act act;
    float scale;
    limn_gate gate; /* n is even then */
    int residual;   /* 0 none, 1 f32, 2 bf16 */
    int pad;        /* elements between rows, and misalignment of the pointers */
} mm_case;

typedef struct mm_data {
    mm_case c;
    uint8_t *w_file;
    float *w;     /* [n, k] as the file says (+ delta) */
    float *w_eff; /* as the compute mode sees it */
    void *x, *res, *y, *y_ref;
    float *x_eff;
    size_t y_bytes;
    float *bias, *add;
} mm_data;

static void *xmalloc(size_t n) {
    void *p = calloc(1, n + 64);
    assert_non_null(p);
    return p;
}

static void put(void *p, limn_dtype t, size_t i, float v) {
    if (t == LIMN_BF16)
        ((uint16_t *)p)[i] = limn_f32_to_bf16(v);
    else
        ((float *)p)[i] = v;
}

static float get(const void *p, limn_dtype t, size_t i) {
    return t == LIMN_BF16 ? limn_bf16_to_f32(((const uint16_t *)p)[i]) : ((const float *)p)[i];
}

static size_t size_of(limn_dtype t) {
    return t == LIMN_BF16 ? 2 : 4;
}

/* delta[i][j] = (row + 2 col) mod 5 / 8: depends on the place, so a wrong row shows */
static limn_status add_delta(void *user, float *w, int64_t row0, int64_t rows, int64_t k,
                             limn_err *err) {
    (void)user;
    (void)err;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < k; j++) w[i * k + j] += (float)((row0 + i + 2 * j) % 5) / 8;
    return LIMN_OK;
}

static mm_data make_data(const mm_case *c, uint64_t seed) {
    mm_data d = {.c = *c};
    uint64_t s = seed * 0x9e3779b97f4a7c15u + 1;
    size_t n = (size_t)c->n, k = (size_t)c->k, m = (size_t)c->m, row_bytes;
    size_t xs = k + (size_t)c->pad, ys = n + (size_t)c->pad, off = (size_t)c->pad;
    assert_true(limn_dtype_row_bytes(&row_bytes, c->w_dtype, c->k));
    d.w_file = xmalloc(n * row_bytes);
    d.w = xmalloc(n * k * 4);
    d.w_eff = xmalloc(n * k * 4);
    for (size_t i = 0; i < n * k; i++) d.w[i] = test_random(&s);
    for (size_t i = 0; i < n; i++) {
        assert_true(limn_dtype_from_f32(d.w_file + i * row_bytes, d.w + i * k, c->w_dtype, c->k));
        limn_dtype_to_f32(d.w + i * k, d.w_file + i * row_bytes, c->w_dtype, c->k);
    }
    if (c->delta) add_delta(NULL, d.w, 0, c->n, c->k, NULL);
    d.x = xmalloc((m * xs + off) * 4);
    d.x_eff = xmalloc(m * k * 4);
    d.res = xmalloc((m * ys + off) * 4);
    d.y_bytes = (m * ys + off) * 4 + 64;
    d.y = xmalloc(d.y_bytes);
    d.y_ref = xmalloc(d.y_bytes);
    for (size_t i = 0; i < m * xs + off; i++) put(d.x, c->x_dtype, i, test_random(&s));
    for (size_t i = 0; i < m * ys + off; i++)
        put(d.res, c->residual == 2 ? LIMN_BF16 : LIMN_F32, i, test_random(&s));
    d.bias = xmalloc(n * 4);
    d.add = xmalloc(n * (m + 1) * 4);
    for (size_t i = 0; i < n; i++) d.bias[i] = test_random(&s);
    for (size_t i = 0; i < n * (m + 1); i++) d.add[i] = test_random(&s);
    return d;
}

static void free_data(mm_data *d) {
    void *all[] = {d->w_file, d->w, d->w_eff, d->x,    d->x_eff,
                   d->res,    d->y, d->y_ref, d->bias, d->add};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

/* Rounds weights and activations as the packed form does. */
static void apply_mode(mm_data *d, const limn_packed *p, limn_words words, bool q8) {
    const mm_case *c = &d->c;
    for (int i = 0; i < c->n; i++) {
        float amax = 0, *w = d->w_eff + (size_t)i * (size_t)c->k;
        memcpy(w, d->w + (size_t)i * (size_t)c->k, (size_t)c->k * 4);
        for (int j = 0; j < c->k; j++) amax = fmaxf(amax, fabsf(w[j]));
        for (int j = 0; j < c->k; j++) {
            if (p->store == LIMN_STORE_F16) w[j] = limn_f16_to_f32(limn_f32_to_f16(w[j]));
            if (p->store == LIMN_STORE_BF16 || words == LIMN_WORDS_BF16X2)
                w[j] = limn_bf16_to_f32(limn_f32_to_bf16(w[j]));
            if (p->store == LIMN_STORE_I8X4 && amax > 0)
                w[j] = nearbyintf(w[j] * (127.0f / amax)) * (amax / 127.0f);
        }
        if (p->store == LIMN_STORE_S16X2) test_fix_row(w, c->k, p->fix_block, LIMN_FIX_W);
    }
    for (int i = 0; i < c->m; i++) {
        float amax = 0, *x = d->x_eff + (size_t)i * (size_t)c->k;
        size_t from = (size_t)i * (size_t)(c->k + c->pad) + (size_t)c->pad;
        for (int j = 0; j < c->k; j++) {
            x[j] = get(d->x, c->x_dtype, from + (size_t)j);
            amax = fmaxf(amax, fabsf(x[j]));
        }
        if (q8) test_q8_row(x, c->k, p->store == LIMN_STORE_QUANT && limn_quant_powers(c->w_dtype));
        for (int j = 0; j < c->k; j++) {
            if (words == LIMN_WORDS_BF16X2) x[j] = limn_bf16_to_f32(limn_f32_to_bf16(x[j]));
            if (p->store == LIMN_STORE_I8X4 && amax > 0)
                x[j] = nearbyintf(x[j] * (127.0f / amax)) * (amax / 127.0f);
        }
        if (p->store == LIMN_STORE_S16X2) test_fix_row(x, c->k, p->fix_block, LIMN_FIX_X);
    }
}

static limn_matmul_args make_args(mm_data *d, const limn_packed *w, void *y) {
    const mm_case *c = &d->c;
    limn_dtype res = c->residual == 2 ? LIMN_BF16 : LIMN_F32;
    size_t off = (size_t)c->pad;
    return (limn_matmul_args){
        .y = (char *)y + off * size_of(c->y_dtype),
        .y_dtype = c->y_dtype,
        .y_stride = c->n + c->pad,
        .x = (char *)d->x + off * size_of(c->x_dtype),
        .x_dtype = c->x_dtype,
        .x_stride = c->k + c->pad,
        .m = c->m,
        .w = w,
        .epi = {.bias = c->bias ? d->bias : NULL,
                .add = c->add ? d->add : NULL,
                .add_rows = 3,
                .act = c->act,
                .gate = c->gate,
                .slope = 0.1f,
                .scale = c->scale,
                .residual = c->residual ? (char *)d->res + off * size_of(res) : NULL,
                .residual_dtype = res,
                .residual_stride = c->n + c->pad},
    };
}

static void run(const kernel_table *t, limn_pool *pool, const limn_matmul_args *a) {
    limn_err err = {0};
    size_t need = limn_matmul_scratch_bytes(&t->k, a, limn_pool_threads(pool));
    void *scratch = limn_mem_aligned(need ? need : 1);
    limn_exec ex = {.k = &t->k, .pool = pool, .scratch = scratch, .scratch_bytes = need};
    assert_non_null(scratch);
    if (limn_matmul(&ex, a, &err) != LIMN_OK) fail_msg("%s: %s", t->name, err.text);
    limn_mem_free(scratch);
}

static void describe_fail(const kernel_table *t, const mm_case *c, int i, int j, double got,
                          double want, double tol) {
    fail_msg("%s m=%d n=%d k=%d w=%s x=%s y=%s compute=%d act=%d pad=%d: y[%d][%d] = %.9g, want "
             "%.9g +- %.3g",
             t->name, c->m, c->n, c->k, limn_dtype_get(c->w_dtype)->name,
             limn_dtype_get(c->x_dtype)->name, limn_dtype_get(c->y_dtype)->name, c->compute,
             (int)c->act, c->pad, i, j, got, want, tol);
}

/* Outputs of a row. */
static int outputs_of(const mm_case *c) {
    return c->gate == LIMN_GATE_NONE ? c->n : c->n / 2;
}

/* The sum of magnitudes behind sum j of row i, at least 1. */
static double magnitude(const mm_data *d, int i, int j) {
    double mag = 1;
    for (int q = 0; q < d->c.k; q++)
        mag += fabs((double)d->x_eff[(size_t)i * (size_t)d->c.k + (size_t)q] *
                    d->w_eff[(size_t)j * (size_t)d->c.k + (size_t)q]);
    return mag;
}

/* Sum j of row i with its bias. */
static double sum_of(const mm_data *d, int i, int j) {
    double sum = d->c.bias ? (double)d->bias[j] : 0;
    for (int q = 0; q < d->c.k; q++)
        sum += (double)d->x_eff[(size_t)i * (size_t)d->c.k + (size_t)q] *
               (double)d->w_eff[(size_t)j * (size_t)d->c.k + (size_t)q];
    return sum;
}

/* What rounding value and gate to bf16 does to value * act(gate): |act(g)| <= |g|, |act'| < 1.13.
 */
static double rounded_halves(const mm_data *d, int i, int j) {
    return fabs(sum_of(d, i, j) * sum_of(d, i, j + d->c.n / 2)) * 2.2 / 256;
}

/* Tolerance: 1e-5 of the sum of magnitudes, with a gate of the product of both (+ half a bf16 step
 * of the result when y is bf16). */
static void compare(const kernel_table *t, mm_data *d, const limn_matmul_args *ref) {
    const mm_case *c = &d->c;
    for (int i = 0; i < c->m; i++)
        for (int j = 0; j < outputs_of(c); j++) {
            size_t at = (size_t)i * (size_t)(c->n + c->pad) + (size_t)(c->pad + j);
            double got = get(d->y, c->y_dtype, at), mag = magnitude(d, i, j);
            double want = get(d->y_ref, LIMN_F32, at);
            if (c->gate != LIMN_GATE_NONE) mag *= 2 * magnitude(d, i, j + c->n / 2);
            double tol = 1e-5 * mag * fmax(1, fabs((double)c->scale));
            if (c->y_dtype == LIMN_BF16) tol += fabs(want) / 256;
            if (c->y_dtype == LIMN_BF16 && c->gate != LIMN_GATE_NONE)
                tol += rounded_halves(d, i, j);
            if (!(fabs(got - want) <= tol)) describe_fail(t, c, i, j, got, want, tol);
        }
    (void)ref;
}

/* Everything outside the [m, n] rows must still hold the fill pattern. */
static void check_guards(const kernel_table *t, mm_data *d, const uint8_t *y, uint8_t fill) {
    const mm_case *c = &d->c;
    size_t e = size_of(c->y_dtype), stride = (size_t)(c->n + c->pad) * e, off = (size_t)c->pad * e;
    for (size_t b = 0; b < d->y_bytes; b++) {
        bool in = b >= off && b < off + (size_t)c->m * stride &&
                  (b - off) % stride < (size_t)outputs_of(c) * e;
        if (!in && y[b] != fill) fail_msg("%s: byte %zu beyond y was written", t->name, b);
    }
}

static void run_case(const kernel_table *t, const mm_case *c, uint64_t seed) {
    mm_data d = make_data(c, seed);
    limn_packed *p;
    limn_err err = {0};
    limn_pack_args pa = {.data = d.w_file,
                         .dtype = c->w_dtype,
                         .n = c->n,
                         .k = c->k,
                         .compute = c->compute,
                         .expand = c->expand,
                         .borrow = c->borrow,
                         .delta = c->delta ? add_delta : NULL};
    if (limn_packed_new(&p, &t->k, pools[seed % 2], &pa, &err) != LIMN_OK) fail_msg("%s", err.text);
    /* quantised panels take x in 8 bits, as do few rows of file blocks where that exists */
    bool rows = p->store == LIMN_STORE_ROWS;
    bool q8 =
        p->store == LIMN_STORE_QUANT || (rows && c->compute == LIMN_COMPUTE_HALF &&
                                         t->k.gemm.dot_q8[c->w_dtype] && c->m <= LIMN_GEMM_Q8_ROWS);
    bool few = q8 || (rows && c->m <= LIMN_GEMM_FEW_ROWS);
    apply_mode(&d, p, few ? LIMN_WORDS_F32 : limn_packed_words(p, &t->k), q8);
    limn_matmul_args a = make_args(&d, p, d.y), ref = make_args(&d, p, d.y_ref);
    ref.y = (float *)d.y_ref + c->pad;
    ref.y_dtype = LIMN_F32;
    ref.x = d.x_eff;
    ref.x_dtype = LIMN_F32;
    ref.x_stride = c->k;
    limn_matmul_ref(&ref, d.w_eff, c->n, c->k);
    memset(d.y, 0xa5, d.y_bytes);
    run(t, NULL, &a);
    check_guards(t, &d, d.y, 0xa5);
    compare(t, &d, &ref);
    uint8_t *again = xmalloc(d.y_bytes);
    for (int i = 0; i < 2; i++) {
        limn_matmul_args b = make_args(&d, p, again);
        memset(again, 0xa5, d.y_bytes);
        run(t, pools[i], &b);
        if (memcmp(again, d.y, d.y_bytes) != 0) {
            fail_msg("%s m=%d n=%d k=%d compute=%d: other bits with %d threads", t->name, c->m,
                     c->n, c->k, c->compute, i + 2);
        }
    }
    free(again);
    limn_packed_free(&p);
    free_data(&d);
}

static mm_case random_case(uint64_t *s, int round) {
    static const limn_dtype w_types[] = {LIMN_F32,     LIMN_F16,  LIMN_BF16,
                                         LIMN_F8_E4M3, LIMN_Q8_0, LIMN_Q4_0};
    mm_case c = {.m = test_range(s, 1, 67), .n = test_range(s, 1, 67), .k = test_range(s, 1, 67)};
    if (round % 3 == 0) c.m = test_range(s, 1, 9);
    if (round % 7 == 0) c.k = test_range(s, 300, 3000); /* several k blocks */
    if (round % 11 == 0) c.m = test_range(s, 200, 420); /* several row tiles */
    c.w_dtype = w_types[test_range(s, 0, 5)];
    if (limn_dtype_get(c.w_dtype)->quantised) c.k = (c.k + 31) / 32 * 32;
    c.x_dtype = test_range(s, 0, 2) ? LIMN_F32 : LIMN_BF16;
    c.y_dtype = test_range(s, 0, 2) ? LIMN_F32 : LIMN_BF16;
    c.compute = (limn_compute)test_range(s, 0, 2);
    c.bias = test_range(s, 0, 1);
    c.add = test_range(s, 0, 3) == 0;
    c.expand = test_range(s, 0, 3) == 0;
    c.delta = test_range(s, 0, 3) == 0;
    c.act = (limn_act)test_range(s, 0, LIMN_ACT_COUNT - 1);
    if (test_range(s, 0, 1)) c.act = LIMN_ACT_NONE;
    c.scale = test_range(s, 0, 1) ? 1.0f : 0.75f;
    c.residual = test_range(s, 0, 2);
    c.pad = test_range(s, 0, 3);
    return c;
}

static void test_ragged(void **state) {
    (void)state;
    for (int t = 0; t < n_tables; t++) {
        uint64_t s = 77;
        int rounds = strstr(tables[t].name, "emulated") ? 250 : 400;
        for (int i = 0; i < rounds; i++) {
            mm_case c = random_case(&s, i);
            run_case(&tables[t], &c, (uint64_t)i + 1);
        }
    }
}

/* Gated products: every compute mode, one and several k blocks, ragged rows. */
static void test_gates(void **state) {
    (void)state;
    static const limn_dtype w_types[] = {LIMN_F32, LIMN_F16, LIMN_BF16};
    for (int t = 0; t < n_tables; t++) {
        uint64_t s = 31;
        for (int i = 0; i < 36; i++) {
            mm_case c = {.m = test_range(&s, 1, i % 3 ? 40 : 400),
                         .n = 2 * tables[t].k.gemm.nr * (1 + i % 3),
                         .k = test_range(&s, 1, i % 6 == 5 ? 3000 : 90),
                         .w_dtype = w_types[i % 3],
                         .x_dtype = i % 2 ? LIMN_F32 : LIMN_BF16,
                         .y_dtype = i / 2 % 2 ? LIMN_F32 : LIMN_BF16,
                         .compute = (limn_compute)(i / 3 % 3),
                         .bias = i % 4 != 3,
                         .act = i % 5 < 3 ? LIMN_ACT_GELU : LIMN_ACT_SILU,
                         .gate = i % 7 < 4 ? LIMN_GATE_SECOND : LIMN_GATE_FIRST,
                         .scale = 1,
                         .pad = test_range(&s, 0, 3)};
            if (c.k > 90) c.m = test_range(&s, 1, 30);
            run_case(&tables[t], &c, (uint64_t)i + 1);
        }
    }
}

/* What cannot be gated says so. */
static void test_gates_refused(void **state) {
    (void)state;
    static float w[34 * 32], x[32], y[34];
    for (int i = 0; i < 2; i++) { /* halves of 17; quantised rows */
        limn_packed *p;
        limn_err err = {0};
        static uint8_t q8[128 * 34];
        limn_pack_args pa = {.data = i ? (void *)q8 : w,
                             .dtype = i ? LIMN_Q8_0 : LIMN_F32,
                             .n = i ? 128 : 34,
                             .k = 32,
                             .compute = LIMN_COMPUTE_HALF};
        assert_int_equal(limn_packed_new(&p, &tables[0].k, NULL, &pa, &err), LIMN_OK);
        limn_matmul_args a = {.y = y,
                              .y_dtype = LIMN_F32,
                              .y_stride = 64,
                              .x = x,
                              .x_dtype = LIMN_F32,
                              .x_stride = 32,
                              .m = 1,
                              .w = p,
                              .epi = {.scale = 1, .act = LIMN_ACT_GELU, .gate = LIMN_GATE_FIRST}};
        size_t need = limn_matmul_scratch_bytes(&tables[0].k, &a, 1);
        limn_exec ex = {.k = &tables[0].k, .scratch = limn_mem_aligned(need)};
        ex.scratch_bytes = need;
        assert_int_equal(limn_matmul(&ex, &a, &err), LIMN_E_UNSUPPORTED);
        limn_mem_free(ex.scratch);
        limn_packed_free(&p);
    }
}

/* Every height of the register tile and every group of panels. */
static void test_small_rows(void **state) {
    (void)state;
    for (int t = 0; t < n_tables; t++)
        for (int m = 1; m <= 30; m++)
            for (int compute = 0; compute < 3; compute++) {
                mm_case c = {.m = m,
                             .n = 5 * 32 + m,
                             .k = 40,
                             .w_dtype = LIMN_F16,
                             .compute = (limn_compute)compute,
                             .bias = true,
                             .scale = 1};
                run_case(&tables[t], &c, (uint64_t)m);
            }
}

/* Every quantised type from random bytes: the bits of the plain C conversion. */
static void test_expand(void **state) {
    (void)state;
    enum { N = 2048 };
    uint8_t *bytes = xmalloc(N * 4);
    float *want = xmalloc(N * 4), *got = xmalloc(N * 4);
    uint64_t s = 11;
    for (int t = 0; t < n_tables; t++)
        for (int type = 0; type < LIMN_DTYPE_COUNT; type++) {
            if (!limn_dtype_get((limn_dtype)type)->quantised) continue;
            for (int i = 0; i < N * 4; i++) bytes[i] = (uint8_t)test_range(&s, 0, 255);
            limn_dtype_to_f32(want, bytes, (limn_dtype)type, N);
            memset(got, 0, N * 4);
            tables[t].k.gemm.expand[type](got, bytes, N);
            for (int i = 0; i < N; i++)
                if (!(isnan(want[i]) && isnan(got[i])) && memcmp(want + i, got + i, 4) != 0)
                    fail_msg("%s %s: element %d is %g, want %g", tables[t].name,
                             limn_dtype_get((limn_dtype)type)->name, i, got[i], want[i]);
        }
    free(bytes);
    free(want);
    free(got);
}

/* A row of quantised weights longer than one piece, for few and for many rows. */
static void test_long_quantised_rows(void **state) {
    (void)state;
    for (int t = 0; t < n_tables; t++)
        for (int m = 1; m <= 6; m++) {
            mm_case c = {.m = m,
                         .n = 37,
                         .k = 3104,
                         .w_dtype = m & 1 ? LIMN_Q8_0 : LIMN_Q4_0,
                         .borrow = m > 2,
                         .x_dtype = m & 2 ? LIMN_BF16 : LIMN_F32,
                         .compute = LIMN_COMPUTE_HALF,
                         .bias = true,
                         .scale = 1};
            run_case(&tables[t], &c, (uint64_t)m);
        }
}

/* Each type's integer products against its own expansion, from random blocks with sane scales. */
static void test_dot_q8(void **state) {
    (void)state;
    enum { K = 1024, ROWS = 4 };
    static uint8_t bytes[K * 2] __attribute__((aligned(64)));
    static struct {
        int8_t q[K] __attribute__((aligned(64)));
        float d[K / 32], s[K / 32];
        int16_t h[K / 16];
    } row[ROWS];
    static float x[K], w[K];
    const limn_q8_rows rows = {row[0].q, NULL, row[0].d, row[0].s, row[0].h, sizeof row[0]};
    uint64_t seed = 17;
    int kernels = 0;
    for (int t = 0; t < n_tables; t++)
        for (int type = 0; type < LIMN_DTYPE_COUNT; type++) {
            const limn_gemm_kernels *g = &tables[t].k.gemm;
            if (!g->dot_q8[type]) continue;
            kernels++;
            for (int round = 0; round < 20; round++) {
                for (int i = 0; i < K; i++) x[i] = test_random(&seed);
                size_t size;
                limn_dtype_row_bytes(&size, (limn_dtype)type, K);
                if (round < 10) {
                    limn_quantise_row(bytes, x, (limn_dtype)type, K, NULL);
                } else { /* every code, and scales that stay finite */
                    for (size_t i = 0; i < size; i++) bytes[i] = (uint8_t)test_range(&seed, 0, 255);
                    int each = limn_dtype_get((limn_dtype)type)->bytes;
                    for (size_t i = 0; i < size; i += (size_t)each) {
                        uint8_t *scale = bytes + i + (type == LIMN_Q6_K ? each - 2 : 0);
                        scale[1] = 0x24;
                        if (type == LIMN_Q4_K || type == LIMN_Q5_K) scale[3] = 0x24;
                    }
                }
                limn_dtype_to_f32(w, bytes, (limn_dtype)type, K);
                for (int r = 0; r < ROWS; r++) {
                    for (int i = 0; i < K; i++) x[i] = test_random(&seed) * (float)(1 + i % 40);
                    g->quantise_q8(row[r].q, NULL, row[r].d, row[r].s, row[r].h, x, K, 0);
                    for (int i = 0; i < K; i++) /* half a step, and a little for the rounding */
                        assert_true(fabsf(x[i] - row[r].d[i / 32] * row[r].q[i]) <=
                                    0.5001f * row[r].d[i / 32]);
                }
                for (int n = 1; n <= ROWS; n++) {
                    float got[ROWS] = {0};
                    g->dot_q8[type](got, bytes, &rows, n, K);
                    for (int r = 0; r < n; r++) {
                        double sum = 0, size_of_sum = 0;
                        for (int i = 0; i < K; i++) {
                            double p = (double)w[i] * (double)row[r].d[i / 32] * row[r].q[i];
                            sum += p;
                            size_of_sum += fabs(p);
                        }
                        if (!(fabs(got[r] - sum) <= 2e-5 * size_of_sum))
                            fail_msg("%s %s: %g, not %g", tables[t].name,
                                     limn_dtype_get((limn_dtype)type)->name, (double)got[r], sum);
                    }
                }
            }
        }
    print_message("%d integer kernels\n", kernels);
}

/* Fixed point: every table that has it gives the bits of the plain C loops. */
static void test_fix_same_bits(void **state) {
    (void)state;
    enum { M = 13, N = 37, K = 500 };
    static float w[N * K], x[M * K], want[M * N], got[M * N];
    uint64_t s = 23;
    for (int t = 0; t < n_tables; t++) {
        if (!tables[t].k.gemm.panel[LIMN_STORE_S16X2]) continue;
        for (int k = 1; k <= K; k += k < 40 ? 1 : 37)
            for (int m = 1; m <= M; m += 3) {
                for (int i = 0; i < N * k; i++) w[i] = test_random(&s) * (float)(1 + i % 7);
                for (int i = 0; i < m * k; i++) x[i] = test_random(&s) * (float)(1 + i % 50);
                for (int i = 0; i < k / 3; i++) x[i] = 0;
                limn_err err = {0};
                for (int which = 0; which < 2; which++) {
                    kernel_table c = {.name = "fixed point"};
                    limn_kernels_init(&c.k, 0);
                    c.k.gemm.half = LIMN_STORE_S16X2;
                    const kernel_table *table = which ? &tables[t] : &c;
                    if (which && tables[t].k.gemm.half != LIMN_STORE_S16X2) continue;
                    limn_packed *p;
                    limn_pack_args a = {
                        .data = w, .dtype = LIMN_F32, .n = N, .k = k, .compute = LIMN_COMPUTE_HALF};
                    assert_int_equal(limn_packed_new(&p, &table->k, NULL, &a, &err), LIMN_OK);
                    assert_int_equal(p->store, LIMN_STORE_S16X2);
                    limn_matmul_args mm = {.y = which ? got : want,
                                           .y_stride = N,
                                           .x = x,
                                           .x_stride = k,
                                           .m = m,
                                           .w = p,
                                           .epi = {.scale = 1}};
                    run(table, NULL, &mm);
                    limn_packed_free(&p);
                    if (which && memcmp(got, want, (size_t)(m * N) * 4) != 0)
                        fail_msg("%s: m %d k %d: other bits than C", tables[t].name, m, k);
                }
            }
    }
}

/* What is not finite stays so: it spoils its own rows only. */
static void test_fix_not_finite(void **state) {
    (void)state;
    float w[2 * 320], x[2 * 320], y[4];
    for (int t = 0; t < n_tables; t++)
        for (int kind = 0; kind < 2; kind++) {
            limn_packed *p;
            limn_pack_args a = {
                .data = w, .dtype = LIMN_F32, .n = 2, .k = 320, .compute = LIMN_COMPUTE_HALF};
            for (int i = 0; i < 640; i++) w[i] = x[i] = 1;
            x[320 + 170] = kind ? NAN : INFINITY;
            assert_int_equal(limn_packed_new(&p, &tables[t].k, NULL, &a, NULL), LIMN_OK);
            limn_matmul_args mm = {.y = y,
                                   .y_stride = 2,
                                   .x = x,
                                   .x_stride = 320,
                                   .m = 2,
                                   .w = p,
                                   .epi = {.scale = 1}};
            run(&tables[t], NULL, &mm);
            limn_packed_free(&p);
            assert_true(fabsf(y[0] - 320) < 1e-2f && fabsf(y[1] - 320) < 1e-2f);
            assert_false(isfinite(y[2]) || isfinite(y[3]));
        }
}

static void test_overflow_becomes_bf16(void **state) {
    (void)state;
    float w[2] = {70000.0f, 1.0f};
    limn_packed *p;
    limn_pack_args a = {.data = w, .dtype = LIMN_F32, .n = 1, .k = 2, .compute = LIMN_COMPUTE_HALF};
    assert_int_equal(limn_packed_new(&p, &tables[0].k, NULL, &a, NULL), LIMN_OK);
    assert_int_equal(p->store, LIMN_STORE_BF16);
    limn_packed_free(&p);
}

static void test_view(void **state) {
    (void)state;
    float w[5 * 70];
    uint64_t s = 5;
    for (size_t i = 0; i < sizeof w / 4; i++) w[i] = test_random(&s);
    for (int t = 0; t < n_tables; t++)
        for (int compute = 0; compute < 3; compute++) {
            limn_packed *p, *v;
            size_t size;
            limn_pack_args a = {
                .data = w, .dtype = LIMN_F32, .n = 5, .k = 70, .compute = (limn_compute)compute};
            assert_int_equal(limn_packed_new(&p, &tables[t].k, NULL, &a, NULL), LIMN_OK);
            const void *bytes = limn_packed_bytes(p, &size);
            assert_int_equal(limn_packed_view(&v, &tables[t].k, bytes, size, NULL), LIMN_OK);
            assert_ptr_equal(v->data, p->data);
            assert_int_equal(v->block, p->block);
            limn_packed_free(&v);
            assert_int_equal(limn_packed_view(&v, &tables[t].k, bytes, size - 64, NULL),
                             LIMN_E_FORMAT);
            uint8_t *bad = limn_mem_aligned(size);
            for (size_t at = 0; at < 128; at++) { /* a damaged header must not lead outside */
                memcpy(bad, bytes, size);
                bad[at] ^= 0x41;
                if (limn_packed_view(&v, &tables[t].k, bad, size, NULL) == LIMN_OK) {
                    assert_true((const uint8_t *)v->data + (size_t)v->panels * v->panel_bytes <=
                                bad + size);
                    limn_packed_free(&v);
                }
            }
            limn_mem_free(bad);
            limn_packed_free(&p);
        }
}

static limn_status failing_delta(void *user, float *w, int64_t row0, int64_t rows, int64_t k,
                                 limn_err *err) {
    (void)user, (void)w, (void)rows, (void)k;
    return row0 >= 32 ? limn_fail(err, LIMN_E_FORMAT, "row %lld is bad", (long long)row0) : LIMN_OK;
}

static void test_errors(void **state) {
    (void)state;
    float w[64 * 4] = {0};
    limn_packed *p;
    limn_err err = {0};
    const limn_kernels *k = &tables[0].k;
    limn_pack_args a = {.data = w, .dtype = LIMN_F32, .n = 64, .k = 4, .delta = failing_delta};
    assert_int_equal(limn_packed_new(&p, k, pools[0], &a, &err), LIMN_E_FORMAT);
    assert_non_null(strstr(err.text, "is bad"));
    a.delta = NULL;
    a.k = 0;
    assert_int_equal(limn_packed_new(&p, k, NULL, &a, &err), LIMN_E_VALUE);
    a.k = 4;
    a.dtype = LIMN_Q8_0;
    assert_int_equal(limn_packed_new(&p, k, NULL, &a, &err), LIMN_E_SHAPE);
    a.dtype = LIMN_F32;
    for (int n = 0; n < 4; n++) { /* every allocation fails once */
        limn_mem_fail_after(n);
        limn_status st = limn_packed_new(&p, k, NULL, &a, &err);
        limn_mem_fail_after(-1);
        if (st == LIMN_OK) break;
        assert_int_equal(st, LIMN_E_NOMEM);
        assert_null(p);
        assert_int_not_equal(n, 3);
    }
    limn_packed_free(&p);
    assert_int_equal(limn_packed_new(&p, k, NULL, &a, &err), LIMN_OK);
    float x[4] = {0}, y[64];
    atomic_bool cancel = true;
    limn_matmul_args ma = {.y = y,
                           .y_dtype = LIMN_F32,
                           .y_stride = 64,
                           .x = x,
                           .x_dtype = LIMN_F32,
                           .x_stride = 4,
                           .m = 1,
                           .w = p,
                           .epi = {.scale = 1}};
    char room[65536] __attribute__((aligned(64)));
    limn_exec ex = {.k = k, .scratch = room, .scratch_bytes = sizeof room, .cancel = &cancel};
    assert_int_equal(limn_matmul(&ex, &ma, &err), LIMN_E_CANCELLED);
    ex.cancel = NULL;
    ma.x_stride = 3;
    assert_int_equal(limn_matmul(&ex, &ma, &err), LIMN_E_SHAPE);
    ma.x_stride = 4;
    ma.y_dtype = LIMN_I32;
    assert_int_equal(limn_matmul(&ex, &ma, &err), LIMN_E_UNSUPPORTED);
    ma.y_dtype = LIMN_F32;
    ex.scratch_bytes = 0;
    assert_int_equal(limn_matmul(&ex, &ma, &err), LIMN_E_INTERNAL);
    limn_packed_free(&p);
}

/* Products of one row side by side have the bits of each by itself, for any number of threads. */
static void test_ones(void **state) {
    (void)state;
    enum { COUNT = 5, N = 200, K = 512 };
    static const limn_dtype types[] = {LIMN_F32, LIMN_BF16, LIMN_Q8_0, LIMN_Q4_K, LIMN_Q6_K};
    static float w[K], x[COUNT * K], want[COUNT * N], got[COUNT * N];
    static char scratch[1 << 20] __attribute__((aligned(64)));
    uint64_t seed = 11;
    for (int i = 0; i < COUNT * K; i++) x[i] = test_random(&seed);
    for (size_t v = 0; v < 2 * (sizeof types / sizeof *types); v++)
        for (int t = 0; t < n_tables; t++) { /* a row each, or one for all */
            limn_dtype type = types[v / 2];
            limn_packed *p[COUNT] = {0};
            void *file[COUNT];
            limn_gemm_one ones[COUNT];
            for (int i = 0; i < COUNT; i++) {
                file[i] = xmalloc(N * K * sizeof *w);
                size_t row_bytes;
                assert_true(limn_dtype_row_bytes(&row_bytes, type, K));
                for (size_t row = 0; row < N; row++) {
                    for (int j = 0; j < K; j++) w[j] = test_random(&seed);
                    char *to = (char *)file[i] + row * row_bytes;
                    if (limn_dtype_get(type)->quantised)
                        limn_quantise_row(to, w, type, K, NULL);
                    else
                        limn_dtype_from_f32(to, w, type, K);
                }
                limn_pack_args pa = {.data = file[i],
                                     .dtype = type,
                                     .n = N,
                                     .k = K,
                                     .compute = LIMN_COMPUTE_HALF,
                                     .borrow = true};
                assert_int_equal(limn_packed_new(&p[i], &tables[t].k, NULL, &pa, NULL), LIMN_OK);
                assert_true(limn_gemm_takes_few(&tables[t].k.gemm, p[i], 1));
                limn_matmul_args a = {.y = want + i * N, .y_dtype = LIMN_F32, .y_stride = N};
                a.x = x + i * K * (int)(v % 2), a.x_dtype = LIMN_F32, a.x_stride = K;
                a.m = 1, a.w = p[i], a.epi.scale = 1;
                limn_exec ex = {&tables[t].k, NULL, scratch, sizeof scratch, NULL};
                assert_int_equal(limn_matmul(&ex, &a, NULL), LIMN_OK);
                ones[i] = (limn_gemm_one){p[i], a.x, got + i * N};
            }
            for (int threads = 1; threads <= 3; threads++) {
                limn_exec ex = {&tables[t].k, threads > 1 ? pools[threads - 2] : NULL, scratch,
                                sizeof scratch, NULL};
                assert_true(limn_gemm_ones_scratch_bytes(p[0], COUNT, threads) <= sizeof scratch);
                memset(got, 0xa5, sizeof got);
                assert_int_equal(limn_gemm_ones(&ex, ones, COUNT, scratch, NULL), LIMN_OK);
                assert_memory_equal(got, want, sizeof got);
            }
            for (int i = 0; i < COUNT; i++) {
                limn_packed_free(&p[i]);
                free(file[i]);
            }
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ragged),
        cmocka_unit_test(test_gates),
        cmocka_unit_test(test_gates_refused),
        cmocka_unit_test(test_small_rows),
        cmocka_unit_test(test_expand),
        cmocka_unit_test(test_dot_q8),
        cmocka_unit_test(test_long_quantised_rows),
        cmocka_unit_test(test_ones),
        cmocka_unit_test(test_fix_same_bits),
        cmocka_unit_test(test_fix_not_finite),
        cmocka_unit_test(test_overflow_becomes_bf16),
        cmocka_unit_test(test_view),
        cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, pools_setup, pools_teardown);
}
