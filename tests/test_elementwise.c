/* SPDX-License-Identifier: MIT */
/*
 * elementwise and rope: errors of every function of every dispatch table against libm in f64 over
 * f32's whole range, tails, alignment, in-place use; drivers with broadcasting, types and strides
 * against plain loops; conversions to the bit; equal bits for 1, 2 and 3 threads.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/mem.h"
#include "kernel_tables.h"
#include "kernels/exec.h"

static kernel_table tables[TABLES_MAX];
static int n_tables;
static limn_pool *pools[4];

static uint32_t bits_of(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}

static float float_of(uint32_t u) {
    float f;
    memcpy(&f, &u, 4);
    return f;
}

/* ---- accuracy ---- */

static double ref_exp(double x) {
    return exp(x);
}
static double ref_erf(double x) {
    return erf(x);
}
static double ref_tanh(double x) {
    return tanh(x);
}
static double ref_sigmoid(double x) {
    return 1 / (1 + exp(-x));
}
static double ref_silu(double x) {
    return x / (1 + exp(-x));
}
static double ref_quick_gelu(double x) {
    return x / (1 + exp(-1.702 * x));
}
static double ref_gelu(double x) {
    return x / 2 * erfc(-x * 0.70710678118654752440);
}
static double ref_gelu_tanh(double x) {
    return x / (1 + exp(-1.5957691216057308 * (x + 0.044715 * x * x * x)));
}

/* A bound is `ulp` units in the last place of the exact result, or `abs` times |x|, whichever is
 * wider; each function is held to what its row says, in every table. Where 1 + exp(-x) overflows,
 * results of magnitude below `floor` may be 0. */
typedef struct accuracy {
    const char *name;
    double (*ref)(double);
    limn_act act; /* NONE: exp or erf */
    double ulp, abs, floor;
} accuracy;

static const accuracy accuracies[] = {
    {"exp", ref_exp, LIMN_ACT_NONE, 1.2, 0, 0},
    {"erf", ref_erf, LIMN_ACT_NONE, 2.6, 0, 0},
    {"tanh", ref_tanh, LIMN_ACT_TANH, 2.4, 0, 0},
    {"sigmoid", ref_sigmoid, LIMN_ACT_SIGMOID, 2.5, 0, 1.2e-38},
    {"silu", ref_silu, LIMN_ACT_SILU, 2.5, 0, 3e-37},
    {"quick_gelu", ref_quick_gelu, LIMN_ACT_QUICK_GELU, 4.0, 2e-7, 3e-37},
    {"gelu", ref_gelu, LIMN_ACT_GELU, 4.0, 2.5e-7, 3e-37},
    {"gelu_tanh", ref_gelu_tanh, LIMN_ACT_GELU_TANH, 4.0, 2.5e-7, 3e-37},
};

enum { BATCH = 1024, BIT_STEP = 2741 };

static double ulp_size(double v) {
    double a = fabs(v);
    if (a < 1.1754943508222875e-38) return 1.401298464324817e-45;
    int e;
    frexp(a, &e);
    return ldexp(1.0, e - 24);
}

static void call(const accuracy *f, const limn_kernels *k, float *y, const float *x, int64_t n) {
    if (f->act != LIMN_ACT_NONE)
        k->elementwise.act[f->act](y, x, 0, n);
    else if (f->ref == ref_exp)
        k->elementwise.exp(y, x, n);
    else
        k->elementwise.erf(y, x, n);
}

typedef struct worst_error {
    double ulp, abs; /* abs: in units of |x|; only where the bound is an absolute one */
} worst_error;

static void check_value(const kernel_table *t, const accuracy *f, float x, float y,
                        worst_error *worst) {
    double want = f->ref((double)x);
    if (fabs(want) > 3.4028235677973366e38) { /* beyond the largest finite f32 */
        assert_true(isinf(y) && (y > 0) == (want > 0));
        return;
    }
    double err = fabs((double)y - want), ulps = err / ulp_size(want);
    if (err <= f->floor) return;
    if (!(ulps <= f->ulp || err <= f->abs * fabs((double)x)))
        fail_msg("%s: %s(%.9g) = %.9g, exact %.9g: %.2f ulp", t->name, f->name, (double)x,
                 (double)y, want, ulps);
    if (f->abs == 0 && ulps > worst->ulp) worst->ulp = ulps;
    if (f->abs > 0 && ulps > f->ulp && err > worst->abs * fabs((double)x))
        worst->abs = err / fabs((double)x);
}

static void test_accuracy(void **state) {
    (void)state;
    float x[BATCH], y[BATCH];
    for (int t = 0; t < n_tables; t++)
        for (size_t i = 0; i < sizeof accuracies / sizeof *accuracies; i++) {
            worst_error worst = {0, 0};
            for (uint64_t u = 0; u < 0x100000000u;) {
                int n = 0;
                for (; n < BATCH && u < 0x100000000u; u += BIT_STEP) {
                    float v = float_of((uint32_t)u);
                    if (isfinite(v)) x[n++] = v;
                }
                call(&accuracies[i], &tables[t].k, y, x, n);
                for (int j = 0; j < n; j++)
                    check_value(&tables[t], &accuracies[i], x[j], y[j], &worst);
            }
            print_message("%s: %s within %.2f ulp or %.2g |x|\n", tables[t].name,
                          accuracies[i].name, worst.ulp, worst.abs);
        }
}

static void test_special_values(void **state) {
    (void)state;
    const float in[] = {0.0f, -0.0f, INFINITY, -INFINITY, NAN, 1e-45f, -1e-45f, 3e38f, -3e38f};
    enum { COUNT = sizeof in / sizeof *in };
    float y[COUNT];
    for (int t = 0; t < n_tables; t++) {
        const limn_elementwise_kernels *e = &tables[t].k.elementwise;
        e->exp(y, in, COUNT);
        assert_true(y[0] == 1 && y[1] == 1 && y[2] == INFINITY && y[3] == 0 && isnan(y[4]));
        e->erf(y, in, COUNT);
        assert_true(y[0] == 0 && y[2] == 1 && y[3] == -1 && isnan(y[4]) && y[8] == -1);
        e->act[LIMN_ACT_TANH](y, in, 0, COUNT);
        assert_true(y[2] == 1 && y[3] == -1 && isnan(y[4]) && y[7] == 1);
        e->act[LIMN_ACT_SIGMOID](y, in, 0, COUNT);
        assert_true(y[0] == 0.5f && y[2] == 1 && y[3] == 0 && isnan(y[4]) && y[8] == 0);
        for (int a = LIMN_ACT_SILU; a <= LIMN_ACT_QUICK_GELU; a++) {
            e->act[a](y, in, 0, COUNT);
            assert_true(y[0] == 0 && y[2] == INFINITY && isnan(y[4]) && y[7] == 3e38f);
            assert_true(y[8] == 0);
        }
        e->act[LIMN_ACT_RELU](y, in, 0, COUNT);
        assert_true(y[0] == 0 && y[2] == INFINITY && y[3] == 0 && y[7] == 3e38f && y[8] == 0);
        e->act[LIMN_ACT_LEAKY_RELU](y, in, 0.5f, COUNT);
        assert_true(y[3] == -INFINITY && y[7] == 3e38f && y[8] == -1.5e38f && isnan(y[4]));
    }
}

/* ---- tails: the result of an element depends on nothing but the element ---- */

static void test_tails(void **state) {
    (void)state;
    enum { SPAN = 80 };
    float x[SPAN + 8], whole[SPAN + 8], y[SPAN + 16];
    uint64_t s = 99;
    for (int i = 0; i < SPAN + 8; i++) x[i] = test_random(&s) * 6;
    for (int t = 0; t < n_tables; t++) {
        const limn_elementwise_kernels *e = &tables[t].k.elementwise;
        for (int act = 0; act < LIMN_ACT_COUNT; act++)
            for (int from = 0; from < 3; from++)
                for (int n = 0; n <= SPAN; n++) {
                    e->act[act](whole, x, 0.1f, SPAN + 8);
                    for (int i = 0; i < SPAN + 16; i++) y[i] = -77;
                    e->act[act](y + from, x + from, 0.1f, n);
                    assert_memory_equal(y + from, whole + from, (size_t)n * 4);
                    assert_true(y[from + n] == -77 && (from == 0 || y[from - 1] == -77));
                    memcpy(y, x, sizeof x); /* in place */
                    e->act[act](y + from, y + from, 0.1f, n);
                    assert_memory_equal(y + from, whole + from, (size_t)n * 4);
                    assert_true(y[from + n] == x[from + n]);
                }
    }
}

/* ---- drivers ---- */

static void *typed(float *dense, limn_dtype t, int64_t n) {
    uint8_t *p = limn_mem_alloc((size_t)n * 4 + 64);
    assert_true(limn_dtype_from_f32(p, dense, t, n));
    limn_dtype_to_f32(dense, p, t, n);
    return p;
}

/* Operands of one random driver case: wide rows with a gap, values also as f32. */
typedef struct operand {
    float *f;
    limn_rows_in in;
} operand;

static operand make_operand(uint64_t *s, int64_t rows, int64_t cols, int64_t repeat, bool single) {
    static const limn_dtype types[] = {LIMN_F32, LIMN_F16, LIMN_BF16};
    operand o;
    int64_t have = repeat > 1 ? (rows + repeat - 1) / repeat : rows, width = single ? 1 : cols;
    int64_t stride = width + test_range(s, 0, 3);
    int64_t n = (have ? have : 1) * stride;
    o.f = limn_mem_alloc((size_t)(n ? n : 1) * 4);
    for (int64_t i = 0; i < n; i++) o.f[i] = test_random(s) * 3;
    limn_dtype t = types[test_range(s, 0, 2)];
    o.in = (limn_rows_in){typed(o.f, t, n), t, stride, repeat, single};
    return o;
}

static double at(const operand *o, int64_t r, int64_t c) {
    int64_t row = o->in.repeat > 1 ? r / o->in.repeat : r;
    return (double)o->f[row * o->in.stride + (o->in.single ? 0 : c)];
}

typedef enum driver { D_ACT, D_AFFINE, D_BINARY, D_MODULATE, D_GATE_ADD, D_GLU, D_COUNT } driver;

typedef struct driver_case {
    driver d;
    int64_t rows, cols, repeat;
    operand in[3];
    int op; /* binary op, activation */
    limn_rows y;
    size_t y_bytes;
} driver_case;

static driver_case make_driver(uint64_t *s, driver d, int64_t rows, int64_t cols) {
    static const limn_dtype types[] = {LIMN_F32, LIMN_F16, LIMN_BF16};
    driver_case c = {.d = d, .rows = rows, .cols = cols};
    int kind = test_range(s, 0, 3);
    c.repeat = kind == 0 ? 1 : kind == 1 ? rows : test_range(s, 2, 9);
    bool single = test_range(s, 0, 3) == 0;
    bool b_broadcast = d == D_BINARY || d == D_GATE_ADD || d == D_MODULATE;
    c.in[0] = make_operand(s, rows, cols, 1, false);
    c.in[1] = make_operand(s, rows, cols, b_broadcast ? c.repeat : 1, b_broadcast && single);
    c.in[2] = make_operand(s, rows, cols, d == D_MODULATE ? c.repeat : 1, false);
    c.op = d == D_BINARY ? test_range(s, 0, LIMN_BINARY_COUNT - 1)
                         : test_range(s, 0, LIMN_ACT_COUNT - 1);
    c.y.type = types[test_range(s, 0, 2)];
    c.y.stride = cols + test_range(s, 0, 2);
    c.y_bytes = (size_t)(rows * c.y.stride) * 4 + 64;
    c.y.data = limn_mem_alloc(c.y_bytes);
    return c;
}

static void run_driver(const limn_exec *ex, const driver_case *c) {
    const limn_rows_in *a = &c->in[0].in, *b = &c->in[1].in, *d = &c->in[2].in;
    switch (c->d) {
    case D_ACT:
        limn_act_run(ex, &(limn_act_args){c->y, *a, c->rows, c->cols, (limn_act)c->op, 0.2f});
        break;
    case D_AFFINE:
        limn_affine_run(ex, &(limn_affine_args){c->y, *a, c->rows, c->cols, 1.5f, -0.25f});
        break;
    case D_BINARY:
        limn_binary_run(
            ex, &(limn_binary_args){c->y, *a, *b, c->rows, c->cols, (limn_binary)c->op, 0.3f});
        break;
    case D_MODULATE:
        limn_modulate_run(ex, &(limn_modulate_args){c->y, *a, *b, *d, c->rows, c->cols});
        break;
    case D_GATE_ADD:
        limn_gate_add_run(ex, &(limn_gate_add_args){c->y, *a, *b, *d, c->rows, c->cols});
        break;
    default:
        limn_glu_run(ex, &(limn_glu_args){c->y, *a, *b, c->rows, c->cols, (limn_act)c->op});
        break;
    }
}

static double want_driver(const driver_case *c, int64_t r, int64_t i) {
    double a = at(&c->in[0], r, i), b = at(&c->in[1], r, i), d = at(&c->in[2], r, i);
    switch (c->d) {
    case D_ACT: return (double)limn_act_apply((limn_act)c->op, 0.2f, (float)a);
    case D_AFFINE: return a * 1.5 - 0.25;
    case D_MODULATE: return a * (1 + b) + d;
    case D_GATE_ADD: return a + b * d;
    case D_GLU: return a * (double)limn_act_apply((limn_act)c->op, 0, (float)b);
    default: break;
    }
    switch (c->op) {
    case LIMN_BINARY_ADD: return a + b;
    case LIMN_BINARY_SUB: return a - b;
    case LIMN_BINARY_MUL: return a * b;
    case LIMN_BINARY_DIV: return a / b;
    default: return a + 0.3 * b;
    }
}

static void check_driver(const kernel_table *t, const driver_case *c) {
    double eps = c->y.type == LIMN_F32 ? 1e-6 : c->y.type == LIMN_F16 ? 6e-4 : 5e-3;
    float *row = limn_mem_alloc((size_t)(c->y.stride + 1) * 4);
    size_t size = c->y.type == LIMN_F32 ? 4 : 2;
    for (int64_t r = 0; r < c->rows; r++) {
        const uint8_t *from = (uint8_t *)c->y.data + (size_t)(r * c->y.stride) * size;
        limn_dtype_to_f32(row, from, c->y.type, c->cols);
        for (int64_t i = 0; i < c->cols; i++) {
            double want = want_driver(c, r, i), err = fabs((double)row[i] - want);
            if (fabs(want) > 60000 && c->y.type == LIMN_F16) continue; /* overflows to infinity */
            if (!(err <= eps * (fabs(want) + 1)))
                fail_msg("%s driver %d op %d type %d at %d,%d of %d,%d: %g, expected %g", t->name,
                         c->d, c->op, c->y.type, (int)r, (int)i, (int)c->rows, (int)c->cols,
                         (double)row[i], want);
        }
        for (size_t i = (size_t)c->cols * size; i < (size_t)c->y.stride * size; i++)
            assert_int_equal(from[i], 0xa5);
    }
    limn_mem_free(row);
}

static void test_drivers(void **state) {
    (void)state;
    uint64_t s = 4242;
    static const int sizes[][2] = {{0, 5},   {5, 0},     {1, 1},    {3, 17},
                                   {40, 33}, {70, 1025}, {3, 40000}};
    for (int round = 0; round < 6; round++)
        for (size_t z = 0; z < sizeof sizes / sizeof *sizes; z++)
            for (int d = 0; d < D_COUNT; d++) {
                driver_case c = make_driver(&s, (driver)d, sizes[z][0], sizes[z][1]);
                uint8_t *first = limn_mem_alloc(c.y_bytes);
                for (int t = 0; t < n_tables; t++)
                    for (int threads = 1; threads <= 3; threads++) {
                        limn_exec ex = {.k = &tables[t].k, .pool = pools[threads]};
                        memset(c.y.data, 0xa5, c.y_bytes);
                        run_driver(&ex, &c);
                        if (threads == 1) {
                            check_driver(&tables[t], &c);
                            memcpy(first, c.y.data, c.y_bytes);
                        } else {
                            assert_memory_equal(first, c.y.data, c.y_bytes);
                        }
                    }
                limn_mem_free(first);
                limn_mem_free(c.y.data);
                for (int i = 0; i < 3; i++) {
                    limn_mem_free(c.in[i].f);
                    limn_mem_free((void *)c.in[i].in.data);
                }
            }
}

static void test_absent_operands(void **state) {
    (void)state;
    float x[40], y[40];
    for (int i = 0; i < 40; i++) x[i] = (float)i - 20;
    for (int t = 0; t < n_tables; t++) {
        limn_exec ex = {.k = &tables[t].k};
        limn_modulate_args a = {.y = {y, LIMN_F32, 8}, .x = {x, LIMN_F32, 8, 1, false}};
        a.rows = 5, a.cols = 8;
        limn_modulate_run(&ex, &a);
        assert_memory_equal(x, y, sizeof x);
    }
    assert_string_equal(limn_binary_name(LIMN_BINARY_ADD_SCALED), "add_scaled");
}

/* ---- conversion ---- */

static bool same_or_nan(float a, float b) {
    return bits_of(a) == bits_of(b) || (isnan(a) && isnan(b));
}

static void test_conversions(void **state) {
    (void)state;
    uint16_t h[1000], b[1000];
    float f[1000];
    for (int t = 0; t < n_tables; t++) {
        const limn_elementwise_kernels *e = &tables[t].k.elementwise;
        for (uint32_t u = 0; u < 65536; u += 1000) {
            int n = u + 1000 <= 65536 ? 1000 : (int)(65536 - u);
            for (int i = 0; i < n; i++) h[i] = (uint16_t)(u + (uint32_t)i);
            e->f16_to_f32(f, h, n);
            for (int i = 0; i < n; i++) assert_true(same_or_nan(f[i], limn_f16_to_f32(h[i])));
            e->bf16_to_f32(f, h, n);
            for (int i = 0; i < n; i++) assert_true(same_or_nan(f[i], limn_bf16_to_f32(h[i])));
        }
        for (uint64_t u = 0; u < 0x100000000u; u += 999u * 4099u) {
            for (uint32_t i = 0; i < 999; i++) f[i] = float_of((uint32_t)u + i * 4099u);
            e->f32_to_f16(h, f, 999);
            e->f32_to_bf16(b, f, 999);
            for (int i = 0; i < 999; i++) {
                if (isnan(f[i])) {
                    assert_true(isnan(limn_f16_to_f32(h[i])) && isnan(limn_bf16_to_f32(b[i])));
                    continue;
                }
                assert_int_equal(h[i], limn_f32_to_f16(f[i]));
                assert_int_equal(b[i], limn_f32_to_bf16(f[i]));
            }
        }
    }
}

static void test_convert_run(void **state) {
    (void)state;
    enum { COUNT = 256 * 300 };
    float *x = limn_mem_alloc(COUNT * 4), *want = limn_mem_alloc(COUNT * 4);
    uint8_t *q = limn_mem_alloc(COUNT * 4);
    uint16_t *y = limn_mem_alloc(COUNT * 2);
    uint64_t s = 5;
    for (int i = 0; i < COUNT; i++) x[i] = test_random(&s);
    static const limn_dtype types[] = {LIMN_F32, LIMN_F16, LIMN_BF16, LIMN_Q8_0, LIMN_F8_E4M3};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        assert_true(limn_dtype_from_f32(q, x, types[i], COUNT));
        limn_dtype_to_f32(want, q, types[i], COUNT);
        for (int t = 0; t < n_tables; t++) {
            limn_exec ex = {.k = &tables[t].k, .pool = pools[2]};
            limn_convert_run(&ex, &(limn_convert_args){y, q, LIMN_BF16, types[i], COUNT});
            for (int j = 0; j < COUNT; j++) assert_int_equal(y[j], limn_f32_to_bf16(want[j]));
        }
    }
    limn_mem_free(x);
    limn_mem_free(want);
    limn_mem_free(q);
    limn_mem_free(y);
}

/* ---- rope ---- */

static void rope_case(uint64_t *s, limn_rope_layout layout, int rows, int heads, int dim, int rot) {
    int n = rows * heads * dim, pairs = rot / 2, table_rows = (rows + 1) / 2;
    float *x = limn_mem_alloc((size_t)n * 4 + 4), *y = limn_mem_alloc((size_t)n * 4 + 4);
    float *first = limn_mem_alloc((size_t)n * 4 + 4);
    float *cosines = limn_mem_alloc((size_t)(table_rows * pairs) * 4 + 4);
    float *sines = limn_mem_alloc((size_t)(table_rows * pairs) * 4 + 4);
    for (int i = 0; i < n; i++) x[i] = test_random(s);
    for (int i = 0; i < table_rows * pairs; i++) {
        cosines[i] = cosf((float)i);
        sines[i] = sinf((float)i);
    }
    for (int t = 0; t < n_tables; t++)
        for (int threads = 1; threads <= 3; threads++) {
            limn_exec ex = {.k = &tables[t].k, .pool = pools[threads]};
            limn_rope_args a = {.y = {y, LIMN_F32, heads * dim},
                                .x = {y, LIMN_F32, heads * dim, 1, false},
                                .rows = rows,
                                .heads = heads,
                                .dim = dim,
                                .rot = rot,
                                .cos = cosines,
                                .sin = sines,
                                .table_stride = pairs,
                                .table_rows = table_rows,
                                .layout = layout};
            memcpy(y, x, (size_t)n * 4); /* in place */
            limn_rope_run(&ex, &a);
            for (int i = 0; i < n; i++) {
                int d = i % dim, row = i / dim / heads % table_rows;
                float want = x[i];
                if (d < rot) {
                    int p = layout == LIMN_ROPE_HALF ? d % pairs : d / 2;
                    bool second = layout == LIMN_ROPE_HALF ? d >= pairs : d % 2;
                    int step = layout == LIMN_ROPE_HALF ? pairs : 1;
                    float c = cosines[row * pairs + p], si = sines[row * pairs + p];
                    want = second ? x[i] * c + x[i - step] * si : x[i] * c - x[i + step] * si;
                }
                assert_true(fabsf(y[i] - want) <= 2e-7f);
            }
            if (t == 0 && threads == 1) memcpy(first, y, (size_t)n * 4);
            assert_memory_equal(first, y, (size_t)n * 4); /* every table, to the bit */
        }
    void *all[] = {x, y, first, cosines, sines};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) limn_mem_free(all[i]);
}

static void test_rope(void **state) {
    (void)state;
    uint64_t s = 31;
    for (int layout = 0; layout < LIMN_ROPE_LAYOUT_COUNT; layout++) {
        rope_case(&s, (limn_rope_layout)layout, 7, 3, 128, 128);
        rope_case(&s, (limn_rope_layout)layout, 5, 2, 80, 34);
        rope_case(&s, (limn_rope_layout)layout, 1, 1, 6, 2);
        rope_case(&s, (limn_rope_layout)layout, 3, 1, 5, 0);
        rope_case(&s, (limn_rope_layout)layout, 200, 4, 72, 72);
    }
}

int main(void) {
    n_tables = kernel_tables_fill(tables);
    for (int i = 1; i <= 3; i++)
        if (limn_pool_new(&pools[i], i, NULL) != LIMN_OK) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accuracy),        cmocka_unit_test(test_special_values),
        cmocka_unit_test(test_tails),           cmocka_unit_test(test_drivers),
        cmocka_unit_test(test_absent_operands), cmocka_unit_test(test_conversions),
        cmocka_unit_test(test_convert_run),     cmocka_unit_test(test_rope),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    for (int i = 1; i <= 3; i++) limn_pool_free(&pools[i]);
    return failed;
}
