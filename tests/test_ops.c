/* SPDX-License-Identifier: MIT */
/*
 * Every op, on every instruction set of the CPU backend, against the reference backend; fusion
 * against the same graph kept apart; the arena against overlapping lifetimes; 1, 2 and 3 threads
 * bit for bit; shape errors that name both shapes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "golden_net.h"
#include "graph/op_table.h"

/* ---- random graphs ---- */
typedef struct fixture {
    limn_graph *g;
    uint32_t state;
    limn_weight weights[16];
    int n_weights;
    limn_tensor states[2];
    int n_states;
} fixture;

static float next(fixture *f) {
    f->state = f->state * 1664525u + 1013904223u;
    return (float)(f->state >> 8) / 8388608.0f - 1.0f;
}

static limn_weight *weight(fixture *f, limn_shape s, float scale, float offset) {
    limn_err err = {0};
    limn_weight *w = &f->weights[f->n_weights++];
    *w = (limn_weight){.name = "w", .version = 1};
    GOLDEN_OK(limn_tensor_new(&w->t, LIMN_F32, &s, &err));
    for (int64_t i = 0; i < limn_shape_count(&s); i++)
        ((float *)w->t.data)[i] = next(f) * scale + offset;
    return w;
}

static limn_node *input(fixture *f, const char *name, limn_shape s) {
    return limn_g_input(f->g, name, LIMN_F32, s);
}

typedef void op_case(fixture *f, int variant);

static void case_linear(fixture *f, int v) {
    static const int64_t k[] = {1, 7, 40, 64, 129}, n[] = {1, 3, 17, 48, 100};
    limn_node *x = input(f, "x", LIMN_SHAPE(2, 5 + v, k[v]));
    limn_node *y = limn_g_linear(f->g, x, weight(f, LIMN_SHAPE(n[v], k[v]), 0.3f, 0),
                                 v % 2 ? weight(f, LIMN_SHAPE(n[v]), 0.1f, 0) : NULL);
    y = limn_g_unary(f->g, y, (limn_act)(LIMN_ACT_SILU + v));
    limn_g_output(f->g, limn_g_add(f->g, y, input(f, "r", y->shape)), "y");
}

static void case_conv(fixture *f, int v) {
    static const limn_attr attrs[] = {
        {.stride = 1, .pad_l = 1, .pad_r = 1, .pad_t = 1, .pad_b = 1},
        {.stride = 2, .pad_r = 1, .pad_b = 1},
        {.stride = 1},
        {.stride = 2, .pad_l = 2, .pad_r = 2, .pad_t = 2, .pad_b = 2},
        {.stride = 1, .pad_l = 1, .pad_r = 1, .pad_t = 1, .pad_b = 1},
    };
    static const int64_t side[] = {3, 3, 1, 5, 3}, ic[] = {4, 9, 16, 3, 33},
                         oc[] = {8, 3, 20, 7, 34};
    limn_node *x = input(f, "x", LIMN_SHAPE(2, 7, 6 + v, ic[v]));
    if (v == 4) x = limn_g_upsample(f->g, x, 14, 2 * (6 + v));
    limn_node *y =
        limn_g_conv2d(f->g, x, weight(f, LIMN_SHAPE(oc[v], ic[v], side[v], side[v]), 0.2f, 0),
                      weight(f, LIMN_SHAPE(oc[v]), 0.1f, 0), &attrs[v]);
    limn_node *t = input(f, "t", LIMN_SHAPE(2, 1, 1, oc[v]));
    y = limn_g_add(f->g, y, t);
    if (v % 2) y = limn_g_unary(f->g, y, LIMN_ACT_SILU);
    limn_g_output(f->g, limn_g_add(f->g, y, input(f, "r", y->shape)), "y");
}

static void case_norms(fixture *f, int v) {
    int64_t c = 8 * (v + 1);
    limn_node *x = input(f, "x", LIMN_SHAPE(2, 5, 3, c));
    limn_node *g = limn_g_group_norm(f->g, x, weight(f, LIMN_SHAPE(c), 0.5f, 1),
                                     weight(f, LIMN_SHAPE(c), 0.1f, 0), 4, 1e-5f);
    if (v % 2) g = limn_g_unary(f->g, g, LIMN_ACT_SILU);
    limn_node *t = limn_g_reshape(f->g, g, LIMN_SHAPE(2, 15, c));
    t = limn_g_layer_norm(f->g, t, weight(f, LIMN_SHAPE(c), 0.5f, 1),
                          v % 2 ? weight(f, LIMN_SHAPE(c), 0.1f, 0) : NULL, 1e-6f);
    /* per head */
    limn_g_output(f->g, limn_g_rms_norm(f->g, t, weight(f, LIMN_SHAPE(c / 2), 0.5f, 1), 1e-6f),
                  "y");
}

/* Halves of whole panels go into the product, with a residual behind; others stay by themselves. */
static void case_gated(fixture *f, int v) {
    static const int64_t k[] = {40, 64, 7, 33, 64}, n[] = {64, 128, 64, 20, 192};
    limn_node *x = input(f, "x", LIMN_SHAPE(3, 5 * (v + 1), k[v]));
    limn_node *y = limn_g_linear(f->g, x, weight(f, LIMN_SHAPE(2 * n[v], k[v]), 0.3f, 0),
                                 v % 2 ? NULL : weight(f, LIMN_SHAPE(2 * n[v]), 0.1f, 0));
    y = limn_g_glu(f->g, y, v % 2 ? LIMN_GLU_SWIGLU : LIMN_GLU_GEGLU);
    if (v == 4) y = limn_g_unary(f->g, y, LIMN_ACT_SILU);
    limn_g_output(f->g, limn_g_add(f->g, y, input(f, "r", y->shape)), "y");
}

static void case_attention(fixture *f, int v) {
    static const int64_t dim[] = {8, 40, 64, 80, 160}, lq[] = {1, 9, 65, 130, 33};
    static const int heads[] = {1, 4, 2, 2, 1}, kv[] = {1, 2, 2, 1, 1};
    int64_t lk = v == 1 ? 9 : 77 - 9 * v;
    limn_node *q = input(f, "q", LIMN_SHAPE(2, lq[v], heads[v] * dim[v]));
    limn_node *k = input(f, "k", LIMN_SHAPE(2, lk, kv[v] * dim[v]));
    limn_node *w = input(f, "v", LIMN_SHAPE(2, lk, kv[v] * dim[v]));
    limn_node *mask = v == 2 ? input(f, "mask", LIMN_SHAPE(lq[v], lk)) : NULL;
    limn_attr a = {.heads = heads[v], .kv_heads = kv[v], .causal = v == 1};
    limn_g_output(f->g, limn_g_attention(f->g, q, k, w, mask, &a), "y");
}

static void case_elementwise(fixture *f, int v) {
    limn_node *x = input(f, "x", LIMN_SHAPE(2, 3, 5, 6));
    limn_shape b[] = {LIMN_SHAPE(2, 3, 5, 6), LIMN_SHAPE(6), LIMN_SHAPE(2, 1, 1, 6), LIMN_SHAPE(1),
                      LIMN_SHAPE(2, 3, 1, 1)};
    limn_node *y = limn_g_mul(f->g, x, input(f, "b", b[v]));
    y = limn_g_add(f->g, y, input(f, "c", b[4 - v]));
    y = limn_g_affine(f->g, y, 1.5f, -0.25f);
    y = limn_g_glu(f->g, y, v % 2 ? LIMN_GLU_GEGLU : LIMN_GLU_SWIGLU);
    y = limn_g_leaky_relu(f->g, limn_g_concat(f->g, y, x), 0.2f);
    y = limn_g_prelu(f->g, limn_g_slice(f->g, y, 1, 7),
                     weight(f, LIMN_SHAPE(v % 2 ? 7 : 1), 0.3f, 0));
    limn_g_output(f->g, limn_g_upsample(f->g, y, 3 + v, 7), "y");
}

static void case_rest(fixture *f, int v) {
    int64_t c = 16;
    limn_node *t = limn_g_timestep(f->g, input(f, "t", LIMN_SHAPE(3)), 2 * (v + 1), v % 2,
                                   (float)(v % 3 == 2));
    limn_g_output(f->g, t, "t");
    limn_node *x = input(f, "x", LIMN_SHAPE(2, 4, 6, c));
    limn_node *s = limn_g_pixel_shuffle(f->g, x, v % 2 ? 2 : 4);
    limn_g_output(f->g, limn_g_pixel_unshuffle(f->g, limn_g_affine(f->g, s, 2, 0), 2), "s");
    limn_node *seq = limn_g_reshape(f->g, x, LIMN_SHAPE(2, 24, c));
    limn_attr a = {.heads = 2, .rope_pairs = v % 2};
    limn_shape table = LIMN_SHAPE(24, v < 2 ? 4 : 2);
    if (v == 4) table = LIMN_SHAPE(2, 24, 4);
    limn_node *r = limn_g_rope(f->g, seq, input(f, "cos", table), input(f, "sin", table), &a);
    limn_g_output(f->g, r, "y");
}

/* A tile: statistics of a window of it, and a norm by statistics from elsewhere. */
static void case_tile(fixture *f, int v) {
    static const int64_t channels[] = {8, 12, 64, 6, 520};
    int64_t c = channels[v];
    int groups = v == 3 ? 3 : 4, factor = v % 2 + 1;
    limn_node *x = limn_g_affine(f->g, input(f, "x", LIMN_SHAPE(1, 8, 8, c)), 1.5f, 0.5f);
    limn_node *window = limn_g_input(f->g, "window", LIMN_I32, LIMN_SHAPE(4));
    limn_g_output(f->g, limn_g_group_stats(f->g, x, window, groups, factor), "stats");
    limn_node *n = limn_g_group_norm_given(f->g, x, weight(f, LIMN_SHAPE(c), 0.5f, 1),
                                           weight(f, LIMN_SHAPE(c), 0.5f, 0), groups,
                                           input(f, "given", LIMN_SHAPE(2, groups)));
    limn_g_output(f->g, limn_g_unary(f->g, n, LIMN_ACT_SILU), "y");
}

/* Attention over caches of 200 rows that two sequences have written to; `span` says which rows. */
static void add_cached(fixture *f, int v, limn_dtype type, int64_t len, limn_node *span) {
    int heads = 4, kv = v % 2 ? 2 : 1;
    int64_t dim = 32;
    limn_node *x = input(f, "x", LIMN_SHAPE(2, len, kv * dim));
    limn_shape s = LIMN_SHAPE(2, 200, kv * dim);
    limn_node *k =
        limn_g_store(f->g, limn_g_state(f->g, "k", type, s), limn_g_affine(f->g, x, 0.5f, 0), span);
    limn_node *w = limn_g_store(f->g, limn_g_state(f->g, "v", type, s), x, span);
    limn_node *q = input(f, "q", LIMN_SHAPE(2, len, heads * dim));
    limn_attr a = {.heads = heads, .kv_heads = kv};
    limn_g_output(f->g, limn_g_cached_attention(f->g, q, k, w, span, &a), "y");
}

/* Two sequences of different length, in a cache of each type; the last chunk is not full. */
static void case_cache(fixture *f, int v) {
    static const limn_dtype types[] = {LIMN_F32, LIMN_F16, LIMN_BF16, LIMN_Q8_0, LIMN_F16};
    static const int64_t len[] = {5, 1, 3, 40, 130};
    add_cached(f, v, types[v], len[v], limn_g_input(f->g, "span", LIMN_I32, LIMN_SHAPE(2, 2)));
}

/* The same numbers in another type. */
static limn_weight *weight_as(fixture *f, limn_dtype t, limn_shape s, float scale) {
    limn_err err = {0};
    limn_weight *w = weight(f, s, scale, 0);
    limn_tensor narrow;
    GOLDEN_OK(limn_tensor_new(&narrow, t, &s, &err));
    assert_true(limn_dtype_from_f32(narrow.data, w->t.data, t, limn_shape_count(&s)));
    limn_tensor_free(&w->t);
    w->t = narrow;
    return w;
}

/* Router, both products of a block (shared rows, then a part each), the sum; rows that nobody uses
 * choose nobody. Variants: dtypes, layouts, one expert or all of them, more rows than experts. */
static void case_experts(fixture *f, int v) {
    static const limn_dtype types[] = {LIMN_F32, LIMN_BF16, LIMN_Q8_0, LIMN_F16, LIMN_Q4_0};
    static const int64_t len[] = {5, 1, 3, 40, 70}, ff[] = {6, 34, 64, 18, 32};
    static const int count[] = {4, 7, 5, 3, 6}, top[] = {2, 1, 5, 2, 3};
    bool in_major = v % 2 == 1;
    int64_t e = count[v], k = 64, m = ff[v];
    limn_node *x = input(f, "x", LIMN_SHAPE(2, len[v], k));
    limn_node *span = v == 0 ? NULL : limn_g_input(f->g, "span", LIMN_I32, LIMN_SHAPE(2, 2));
    limn_node *route =
        limn_g_route(f->g, input(f, "logits", LIMN_SHAPE(2, len[v], e)), span, top[v]);
    limn_shape up = in_major ? LIMN_SHAPE(e, k, m) : LIMN_SHAPE(e, m, k);
    limn_shape down = in_major ? LIMN_SHAPE(e, m, k) : LIMN_SHAPE(e, k, m);
    limn_node *h = limn_g_experts(f->g, x, route, weight_as(f, types[v], up, 0.3f), in_major);
    h = limn_g_unary(f->g, h, LIMN_ACT_SILU);
    h = limn_g_experts(f->g, h, route, weight_as(f, types[v], down, 0.3f), in_major);
    limn_g_output(f->g, limn_g_mix(f->g, h, route), "y");
    limn_g_output(f->g, limn_g_affine(f->g, route, 1, 0), "route");
}

/* The same with branches: each query sees the beginning, and its own branch. */
static void case_branches(fixture *f, int v) {
    static const limn_dtype types[] = {LIMN_F32, LIMN_F16, LIMN_BF16, LIMN_Q8_0, LIMN_F32};
    static const int64_t len[] = {5, 1, 3, 32, 12};
    add_cached(f, v, types[v], len[v],
               limn_g_input(f->g, "branches", LIMN_I32, LIMN_SHAPE(2, 2 + len[v])));
}

typedef struct case_row {
    const char *name;
    op_case *build;
} case_row;

static const case_row cases[] = {
    {"linear", case_linear},      {"conv2d", case_conv},         {"norms", case_norms},
    {"gated linear", case_gated}, {"attention", case_attention}, {"elementwise", case_elementwise},
    {"rest", case_rest},          {"tile", case_tile},           {"cache", case_cache},
    {"branches", case_branches},  {"experts", case_experts},
};
enum { N_CASES = sizeof cases / sizeof cases[0], VARIANTS = 5 };

/* ---- running ---- */
/* Random memory for a state, the same for every program of a case: what an earlier run left. */
static void state_fill(fixture *f, limn_program *p, const limn_node *n) {
    limn_err err = {0};
    fixture own = {.state = 77};
    limn_tensor *t = &f->states[f->n_states++];
    GOLDEN_OK(limn_tensor_new(t, n->dtype, &n->shape, &err));
    int64_t count = limn_shape_count(&n->shape);
    float *x = malloc((size_t)count * sizeof *x);
    for (int64_t i = 0; i < count; i++) x[i] = next(&own);
    assert_true(limn_dtype_from_f32(t->data, x, n->dtype, count));
    free(x);
    GOLDEN_OK(limn_program_bind(p, n->name, t->data, &err));
}

static limn_program *program_of(const case_row *c, int variant, limn_backend *b, fixture *f) {
    limn_err err = {0};
    limn_program *p = NULL;
    *f = (fixture){.state = (uint32_t)(variant * 977 + 5)};
    GOLDEN_OK(limn_graph_new(&f->g, &err));
    c->build(f, variant);
    if (limn_graph_check(f->g, &err) != LIMN_OK) fail_msg("%s %d: %s", c->name, variant, err.text);
    if (limn_program_new(&p, b, &f->g, &err) != LIMN_OK)
        fail_msg("%s %d: %s", c->name, variant, err.text);
    for (int i = 0; i < p->plan->n_nodes; i++) {
        limn_node *n = limn_graph_node(p->plan->graph, i);
        if (n->op == LIMN_OP_STATE) state_fill(f, p, n);
        if (n->op != LIMN_OP_INPUT) continue;
        float *x = limn_program_data(p, n);
        if (strcmp(n->name, "window") == 0) {
            memcpy(x, (int32_t[]){1, 0, 3, 3}, 16);
            continue;
        }
        if (strcmp(n->name, "branches") == 0) { /* and branches of three queries */
            int32_t len = (int32_t)n->shape.dim[1] - 2, *at = (int32_t *)(void *)x;
            memset(at, 0, (size_t)(2 + len) * 8);
            at[0] = 17, at[1] = len, at[3 + len] = len - len / 3;
            for (int32_t k = 0; k < len; k++) at[2 + k] = at[4 + len + k] = k / 3 * 3;
            continue;
        }
        if (n->dtype == LIMN_I32) { /* {first, used} of two sequences */
            int32_t len = (int32_t)limn_plan_find_output(p->plan, "y")->shape.dim[1];
            memcpy(x, (int32_t[]){17, len, 0, len - len / 3}, 16);
            continue;
        }
        for (int64_t k = 0; k < limn_shape_count(&n->shape); k++) x[k] = next(f) * 2;
    }
    /* twice: a plan must leave its inputs alone */
    GOLDEN_OK(limn_program_run(p, NULL, &err));
    GOLDEN_OK(limn_program_run(p, NULL, &err));
    return p;
}

static void fixture_free(fixture *f) {
    for (int i = 0; i < f->n_weights; i++) limn_tensor_free(&f->weights[i].t);
    for (int i = 0; i < f->n_states; i++) limn_tensor_free(&f->states[i]);
}

static double outputs_error(const limn_program *a, const limn_program *b, bool bitwise) {
    double worst = 0;
    for (int i = 0; i < a->plan->n_nodes; i++) {
        limn_node *n = limn_graph_node(a->plan->graph, i);
        if (!n->is_output) continue;
        const limn_node *m = limn_plan_find_output(b->plan, n->name);
        const float *x = limn_program_data(a, n), *y = limn_program_data(b, m);
        double top = 1e-3, e = 0;
        for (int64_t k = 0; k < limn_shape_count(&n->shape); k++) {
            top = fmax(top, fabs(x[k]));
            e = fmax(e, fabs((double)x[k] - y[k]));
        }
        if (bitwise) assert_memory_equal(x, y, (size_t)limn_shape_count(&n->shape) * sizeof *x);
        worst = fmax(worst, e / top);
    }
    return worst;
}

static void test_ops_against_reference(void **state) {
    (void)state;
    static const golden_backend ref = {"reference", 1, NULL, LIMN_PRECISION_EXACT, 0};
    limn_backend *rb = golden_backend_new(&ref);
    for (int b = 1; b < GOLDEN_BACKENDS; b++)
        for (int c = 0; c < N_CASES; c++)
            for (int v = 0; v < VARIANTS; v++) {
                limn_backend *cb = golden_backend_new(&golden_backends[b]);
                fixture f1, f2;
                limn_program *want = program_of(&cases[c], v, rb, &f1);
                limn_program *got = program_of(&cases[c], v, cb, &f2);
                double e = outputs_error(want, got, false);
                if (!(e <= golden_backends[b].tolerance))
                    fail_msg("%s %d on %s: error %g", cases[c].name, v, golden_backends[b].name, e);
                limn_program_free(&want);
                limn_program_free(&got);
                limn_backend_free(&cb);
                fixture_free(&f1);
                fixture_free(&f2);
            }
    limn_backend_free(&rb);
}

static void test_threads_give_the_same_bits(void **state) {
    (void)state;
    for (int precision = 0; precision < 3; precision++)
        for (int c = 0; c < N_CASES; c++)
            for (int v = 0; v < VARIANTS; v++) {
                limn_program *p[3];
                limn_backend *b[3];
                fixture f[3];
                for (int t = 0; t < 3; t++) {
                    golden_backend gb = {"threads", t + 1, "native", (limn_precision)precision, 0};
                    b[t] = golden_backend_new(&gb);
                    p[t] = program_of(&cases[c], v, b[t], &f[t]);
                    outputs_error(p[0], p[t], true);
                }
                for (int t = 0; t < 3; t++) {
                    limn_program_free(&p[t]);
                    limn_backend_free(&b[t]);
                    fixture_free(&f[t]);
                }
            }
}

/* ---- planner ---- */
static limn_plan *plan_of(const case_row *c, int v, bool no_fuse, bool narrow, fixture *f) {
    limn_err err = {0};
    limn_plan *p = NULL;
    *f = (fixture){.state = 1};
    GOLDEN_OK(limn_graph_new(&f->g, &err));
    c->build(f, v);
    GOLDEN_OK(limn_plan_build(&p, &f->g, &(limn_plan_options){.no_fuse = no_fuse, .narrow = narrow},
                              &err));
    return p;
}

static void test_fusion_shortens_plans(void **state) {
    (void)state;
    for (int c = 0; c < 2; c++) { /* linear and conv: everything moves into one step */
        fixture f1, f2;
        limn_plan *fused = plan_of(&cases[c], 1, false, false, &f1);
        limn_plan *apart = plan_of(&cases[c], 1, true, false, &f2);
        assert_int_equal(fused->n_steps, 1);
        assert_true(apart->n_steps > 2);
        limn_plan_free(&fused);
        limn_plan_free(&apart);
        fixture_free(&f1);
        fixture_free(&f2);
    }
}

/* A gated unit goes into its product where the halves are whole panels of a file's own numbers. */
static void test_gates_fuse(void **state) {
    (void)state;
    static const int64_t half[] = {64, 20, 64};
    static const limn_dtype types[] = {LIMN_F32, LIMN_F32, LIMN_Q8_0};
    for (int i = 0; i < 3; i++) {
        limn_err err = {0};
        fixture f = {.state = 3};
        limn_plan *p = NULL;
        GOLDEN_OK(limn_graph_new(&f.g, &err));
        limn_node *x = input(&f, "x", LIMN_SHAPE(1, 8, 32));
        limn_weight *w = weight(&f, LIMN_SHAPE(2 * half[i], 32), 1, 0);
        w->t.dtype = types[i]; /* a plan reads no values */
        limn_node *y = limn_g_linear(f.g, x, w, NULL);
        limn_g_output(f.g, limn_g_glu(f.g, y, LIMN_GLU_GEGLU), "y");
        GOLDEN_OK(limn_plan_build(&p, &f.g, &(limn_plan_options){0}, &err));
        assert_int_equal(p->n_steps, i == 0 ? 1 : 2);
        assert_true(p->flops >= 2.0 * 8 * 32 * 2 * (double)half[i]);
        limn_plan_free(&p);
        w->t.dtype = LIMN_F32;
        fixture_free(&f);
    }
}

static void test_slots_never_overlap(void **state) {
    (void)state;
    for (int c = 0; c < N_CASES; c++)
        for (int v = 0; v < 2 * VARIANTS; v++) {
            fixture f;
            limn_plan *p = plan_of(&cases[c], v / 2, v % 2, false, &f);
            for (int i = 0; i < p->n_slots; i++)
                for (int j = 0; j < i; j++) {
                    const limn_plan_slot *a = &p->slots[i], *b = &p->slots[j];
                    bool alive = a->first <= b->last && b->first <= a->last;
                    bool touch =
                        a->offset < b->offset + b->bytes && b->offset < a->offset + a->bytes;
                    assert_false(a->bytes && b->bytes && alive && touch);
                }
            limn_plan_free(&p);
            fixture_free(&f);
        }
}

static void test_narrow_marks_only_product_inputs(void **state) {
    (void)state;
    limn_err err = {0};
    fixture f = {.state = 3};
    limn_plan *p = NULL;
    GOLDEN_OK(limn_graph_new(&f.g, &err));
    limn_node *x = input(&f, "x", LIMN_SHAPE(1, 8, 16));
    limn_node *n = limn_g_layer_norm(f.g, x, NULL, NULL, 1e-5f);
    limn_node *a = limn_g_linear(f.g, n, weight(&f, LIMN_SHAPE(16, 16), 1, 0), NULL);
    limn_node *b = limn_g_layer_norm(f.g, a, NULL, NULL, 1e-5f);
    limn_g_output(f.g, limn_g_add(f.g, b, n), "y"); /* n is also read by an add */
    GOLDEN_OK(limn_plan_build(&p, &f.g, &(limn_plan_options){.narrow = true}, &err));
    assert_int_equal(n->dtype, LIMN_F32);
    assert_int_equal(a->dtype, LIMN_F32);
    limn_plan_free(&p);
    GOLDEN_OK(limn_graph_new(&f.g, &err));
    x = input(&f, "x", LIMN_SHAPE(1, 8, 16));
    n = limn_g_layer_norm(f.g, x, NULL, NULL, 1e-5f);
    limn_g_output(f.g, limn_g_linear(f.g, n, &f.weights[0], NULL), "y");
    GOLDEN_OK(limn_plan_build(&p, &f.g, &(limn_plan_options){.narrow = true}, &err));
    assert_int_equal(n->dtype, LIMN_BF16);
    limn_plan_free(&p);
    fixture_free(&f);
}

/* ---- states ---- */
static void test_states_are_guarded(void **state) {
    (void)state;
    limn_err err = {0};
    fixture f = {.state = 3};
    limn_program *p = NULL;
    limn_backend *b = golden_backend_new(&golden_backends[2]);
    GOLDEN_OK(limn_graph_new(&f.g, &err));
    case_cache(&f, 0);
    GOLDEN_OK(limn_program_new(&p, b, &f.g, &err));
    assert_int_equal(limn_program_run(p, NULL, &err), LIMN_E_INTERNAL); /* nothing bound */
    assert_int_equal(limn_program_bind(p, "w", NULL, &err), LIMN_E_MISSING);
    state_fill(&f, p, limn_plan_find_state(p->plan, "k"));
    state_fill(&f, p, limn_plan_find_state(p->plan, "v"));
    memset(limn_program_input(p, "x", NULL), 0, sizeof(float) * 2 * 5 * 32);
    memset(limn_program_input(p, "q", NULL), 0, sizeof(float) * 2 * 5 * 4 * 32);
    int32_t *span = limn_program_input(p, "span", NULL);
    static const int32_t bad[][4] = {{196, 5, 0, 1}, {0, 6, 0, 1}, {0, 1, -1, 1}, {0, 1, 0, -1}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        memcpy(span, bad[i], sizeof bad[i]);
        assert_int_equal(limn_program_run(p, NULL, &err), LIMN_E_LIMIT);
    }
    memcpy(span, (int32_t[]){195, 5, 0, 0}, 16);
    GOLDEN_OK(limn_program_run(p, NULL, &err));
    limn_program_free(&p);
    /* a state is no tensor: other ops refuse it, and it is no output */
    for (int i = 0; i < 2; i++) {
        GOLDEN_OK(limn_graph_new(&f.g, &err));
        limn_node *s = limn_g_state(f.g, "s", LIMN_F16, LIMN_SHAPE(1, 4, 8));
        if (i)
            limn_g_output(f.g, limn_g_affine(f.g, s, 1, 0), "y");
        else
            limn_g_output(f.g, s, "y");
        assert_int_equal(limn_graph_check(f.g, &err), LIMN_E_INTERNAL);
        limn_graph_free(&f.g);
    }
    limn_backend_free(&b);
    fixture_free(&f);
}

/* ---- errors ---- */
static void test_shape_errors_name_both_shapes(void **state) {
    (void)state;
    limn_err err = {0};
    fixture f = {.state = 3};
    GOLDEN_OK(limn_graph_new(&f.g, &err));
    limn_weight *w = weight(&f, LIMN_SHAPE(4, 6), 1, 0);
    w->name = "down.proj.weight";
    limn_node *x = input(&f, "x", LIMN_SHAPE(2, 5));
    assert_null(limn_g_linear(f.g, x, w, NULL));
    assert_null(limn_g_output(f.g, x, "y")); /* latched */
    assert_int_equal(limn_graph_check(f.g, &err), LIMN_E_SHAPE);
    assert_non_null(strstr(err.text, "down.proj.weight"));
    assert_non_null(strstr(err.text, "[4, 6]"));
    assert_non_null(strstr(err.text, "[2, 5]"));
    limn_plan *p = NULL;
    limn_plan_options o = {0};
    assert_int_equal(limn_plan_build(&p, &f.g, &o, &err), LIMN_E_SHAPE);
    assert_null(p);
    assert_null(f.g);
    fixture_free(&f);
}

static void test_out_of_memory_is_a_status(void **state) {
    (void)state;
    for (int after = 0; after < 400; after++) {
        limn_err err = {0};
        fixture f = {.state = 9};
        limn_weight *w = weight(&f, LIMN_SHAPE(8, 8), 1, 0);
        limn_backend *b = NULL;
        limn_program *p = NULL;
        limn_mem_fail_after(after);
        limn_cpu_options o = {.threads = 2};
        limn_status st = limn_backend_new_cpu(&b, &o, &err);
        if (st == LIMN_OK) st = limn_graph_new(&f.g, &err);
        if (st == LIMN_OK) {
            limn_node *x = limn_g_input(f.g, "x", LIMN_F32, LIMN_SHAPE(3, 8));
            limn_g_output(f.g, limn_g_linear(f.g, x, w, NULL), "y");
            st = limn_program_new(&p, b, &f.g, &err);
        }
        limn_mem_fail_after(-1);
        limn_program_free(&p);
        limn_backend_free(&b);
        fixture_free(&f);
        if (st == LIMN_OK) return; /* every allocation before was failed once */
        assert_int_equal(st, LIMN_E_NOMEM);
        assert_true(err.text[0] != 0);
    }
    fail_msg("building a program takes more than 400 allocations");
}

static void test_cancel_stops(void **state) {
    (void)state;
    limn_err err = {0};
    atomic_bool cancel = true;
    fixture f;
    limn_backend *b = golden_backend_new(&golden_backends[2]);
    limn_program *p = program_of(&cases[0], 1, b, &f);
    assert_int_equal(limn_program_run(p, &cancel, &err), LIMN_E_CANCELLED);
    limn_program_free(&p);
    limn_backend_free(&b);
    fixture_free(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ops_against_reference),
        cmocka_unit_test(test_threads_give_the_same_bits),
        cmocka_unit_test(test_fusion_shortens_plans),
        cmocka_unit_test(test_gates_fuse),
        cmocka_unit_test(test_slots_never_overlap),
        cmocka_unit_test(test_narrow_marks_only_product_inputs),
        cmocka_unit_test(test_states_are_guarded),
        cmocka_unit_test(test_shape_errors_name_both_shapes),
        cmocka_unit_test(test_out_of_memory_is_a_status),
        cmocka_unit_test(test_cancel_stops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
