/* SPDX-License-Identifier: MIT */
/*
 * The CPU backend: a thread pool, a dispatch table, packed weights and one scratch block that is
 * shared by all its programs. See backend.h for the contract, cpu_ops.c for the ops.
 */
#include <stdio.h>
#include <stdlib.h>

#include "backend/backend.h"
#include "backend/cpu/cpu_ops.h"
#include "base/clock.h"
#include "graph/op_table.h"

typedef struct cpu_backend {
    limn_backend base; /* first */
    limn_kernels kernels;
    limn_pool *pool;
    limn_precision precision;
    limn_weight_cache *weights;
    void *scratch;
    size_t scratch_bytes;
} cpu_backend;

static void cpu_free(limn_backend *backend) {
    cpu_backend *b = (cpu_backend *)backend;
    limn_weight_cache_free(&b->weights);
    limn_pool_free(&b->pool);
    limn_mem_free(b->scratch);
    limn_mem_free(b);
}

static limn_plan_options cpu_plan_options(const limn_backend *backend) {
    const cpu_backend *b = (const cpu_backend *)backend;
    bool bf16 = b->precision == LIMN_PRECISION_FAST && (b->kernels.cpu & LIMN_CPU_AVX512BF16);
    return (limn_plan_options){.narrow = bf16};
}

static void step_point(const limn_program *p, cpu_step *s) {
    s->y = limn_program_data(p, s->n);
    for (int i = 0; i < s->n->n_src; i++) s->x[i] = limn_program_data(p, s->n->src[i]);
}

static limn_status step_bind(cpu_backend *b, limn_program *p, cpu_step *s, const limn_node *nd,
                             limn_err *err) {
    const cpu_op *op = &limn_cpu_ops[nd->op];
    limn_status st = LIMN_OK;
    LIMN_CHECK(err, op->supported, LIMN_E_UNSUPPORTED, "the CPU backend has no op '%s'",
               limn_op_get(nd->op)->name);
    s->n = nd;
    s->exact = b->precision == LIMN_PRECISION_EXACT;
    step_point(p, s);
    limn_weight_use use = nd->attr.input_major ? LIMN_USE_EXPERTS_INPUT_MAJOR
                          : nd->attr.exact     ? LIMN_USE_MATRIX_EXACT
                                               : op->w_use;
    if (nd->w) LIMN_TRY(limn_weight_cache_get(&s->w, b->weights, nd->w, use, err));
    if (nd->bias)
        LIMN_TRY(limn_weight_cache_get(&s->bias, b->weights, nd->bias, LIMN_USE_VECTOR, err));
out:
    return st;
}

typedef struct step_size {
    size_t bytes; /* of the weight in its file */
    size_t step;
} step_size;

static int larger_first(const void *x, const void *y) {
    const step_size *a = x, *b = y;
    if (a->bytes != b->bytes) return a->bytes < b->bytes ? 1 : -1;
    return a->step < b->step ? -1 : 1;
}

/* Binds all steps, large weights first: a weight is in memory twice while it is packed, and what
 * is packed last is small. */
static limn_status steps_bind(cpu_backend *b, limn_program *p, cpu_step *steps, limn_err *err) {
    limn_status st = LIMN_OK;
    size_t n = (size_t)p->plan->n_steps;
    step_size *order = limn_mem_calloc(n + 1, sizeof *order);
    LIMN_CHECK(err, order, LIMN_E_NOMEM, "no memory for a program of %zu steps", n);
    for (size_t i = 0; i < n; i++) {
        const limn_weight *w = p->plan->steps[i]->w;
        order[i].step = i;
        if (w && !limn_tensor_bytes(&order[i].bytes, w->t.dtype, &w->t.shape)) order[i].bytes = 0;
    }
    qsort(order, n, sizeof *order, larger_first);
    for (size_t i = 0; i < n; i++)
        LIMN_TRY(step_bind(b, p, &steps[order[i].step], p->plan->steps[order[i].step], err));
out:
    limn_mem_free(order);
    return st;
}

static size_t step_scratch(const cpu_step *s, const limn_kernels *k, int threads) {
    const cpu_op *op = &limn_cpu_ops[s->n->op];
    if (s->together > 1) return limn_cpu_together_scratch(s, k, threads);
    return op->scratch ? op->scratch(s, k, threads) : 0;
}

/* Marks the first of steps that run together. */
static void steps_join(cpu_step *steps, int n) {
    for (int i = 0, together; i<n; i += together> 1 ? together : 1) {
        together = limn_cpu_together(&steps[i], n - i);
        steps[i].together = together > 1 ? together : 0;
    }
}

static limn_status step_run(const cpu_step *s, const limn_exec *ex, limn_err *err) {
    if (s->together > 1) return limn_cpu_together_run(s, ex, err);
    return limn_cpu_ops[s->n->op].run(s, ex, err);
}

static limn_status cpu_prepare(limn_backend *backend, limn_program *p, limn_err *err) {
    cpu_backend *b = (cpu_backend *)backend;
    limn_status st = LIMN_OK;
    size_t need = 0, n = (size_t)p->plan->n_steps;
    int threads = limn_pool_threads(b->pool);
    cpu_step *steps = p->data = limn_mem_calloc(n + 1, sizeof *steps);
    LIMN_CHECK(err, steps, LIMN_E_NOMEM, "no memory for a program of %zu steps", n);
    LIMN_TRY(steps_bind(b, p, steps, err));
    steps_join(steps, p->plan->n_steps);
    for (size_t i = 0; i < n; i++) {
        size_t bytes = step_scratch(&steps[i], &b->kernels, threads);
        if (bytes > need) need = bytes;
    }
    if (need > b->scratch_bytes) {
        limn_mem_free(b->scratch);
        b->scratch_bytes = 0;
        b->scratch = limn_mem_aligned(need);
        LIMN_CHECK(err, b->scratch, LIMN_E_NOMEM, "no memory for %zu bytes of scratch", need);
        b->scratch_bytes = need;
    }
out:
    return st;
}

static limn_status steps_refresh(cpu_backend *b, cpu_step *steps, int n, limn_err *err) {
    limn_status st = LIMN_OK;
    for (int i = 0; i < n; i++) {
        if (steps[i].w) LIMN_TRY(limn_weight_cache_refresh(b->weights, steps[i].w, err));
        if (steps[i].bias) LIMN_TRY(limn_weight_cache_refresh(b->weights, steps[i].bias, err));
        limn_turn_offer(&b->base.turn);
    }
out:
    return st;
}

static limn_status cpu_run(limn_backend *backend, limn_program *p, const atomic_bool *cancel,
                           limn_err *err) {
    cpu_backend *b = (cpu_backend *)backend;
    limn_status st = LIMN_OK;
    cpu_step *steps = p->data;
    limn_exec ex = {.k = &b->kernels,
                    .pool = b->pool,
                    .scratch = b->scratch,
                    .scratch_bytes = b->scratch_bytes,
                    .cancel = cancel};
    LIMN_TRY(steps_refresh(b, steps, p->plan->n_steps, err));
    for (int i = 0; p->rebound && i < p->plan->n_steps; i++) step_point(p, &steps[i]);
    p->rebound = false;
    for (int i = 0; i<p->plan->n_steps; i += steps[i].together> 1 ? steps[i].together : 1) {
        LIMN_CHECK(err, !limn_exec_cancelled(&ex), LIMN_E_CANCELLED, "cancelled");
        double t = p->seconds ? limn_clock_now() : 0;
        LIMN_TRY(step_run(&steps[i], &ex, err));
        if (p->seconds) p->seconds[i] += limn_clock_now() - t;
        limn_turn_offer(&b->base.turn);
    }
    p->runs++;
out:
    return st;
}

static void cpu_forget(limn_backend *backend, const limn_weight *w) {
    limn_weight_cache_forget(((cpu_backend *)backend)->weights, w);
}

static size_t cpu_packed_bytes(const limn_backend *backend) {
    return limn_weight_cache_bytes(((const cpu_backend *)backend)->weights);
}

static limn_status cpu_save_packs(limn_backend *backend, limn_err *err) {
    return limn_weight_cache_save(((cpu_backend *)backend)->weights, err);
}

static void cpu_rest(limn_backend *backend, limn_weight_is_fn *is_one, const void *user,
                     bool made) {
    limn_weight_cache_rest(((cpu_backend *)backend)->weights, is_one, user, made);
}

static const limn_backend_vtable cpu_vtable = {
    .name = "cpu",
    .free = cpu_free,
    .plan_options = cpu_plan_options,
    .prepare = cpu_prepare,
    .run = cpu_run,
    .forget = cpu_forget,
    .packed_bytes = cpu_packed_bytes,
    .save_packs = cpu_save_packs,
    .rest = cpu_rest,
};

static const limn_compute compute_of[] = {
    [LIMN_PRECISION_FAST] = LIMN_COMPUTE_HALF,
    [LIMN_PRECISION_EXACT] = LIMN_COMPUTE_EXACT,
    [LIMN_PRECISION_INT8] = LIMN_COMPUTE_INT8,
};

/* "avx2-half": instruction sets and compute type decide the layout of packed weights. */
static limn_status store_new(limn_pack_store **out, const limn_cpu_options *opt, limn_err *err) {
    static const char *const names[] = {
        [LIMN_COMPUTE_EXACT] = "exact", [LIMN_COMPUTE_HALF] = "half", [LIMN_COMPUTE_INT8] = "int8"};
    char cpu[64], variant[96];
    *out = NULL;
    if (!opt->pack_dir || !opt->pack_dir[0]) return LIMN_OK;
    limn_cpu_describe(opt->cpu_flags, cpu, sizeof cpu);
    for (char *p = cpu; *p; p++)
        if (*p == ' ') *p = '-';
    snprintf(variant, sizeof variant, "%s-%s", cpu, names[compute_of[opt->precision]]);
    uint64_t limit = opt->pack_limit ? opt->pack_limit : (uint64_t)16 << 30;
    return limn_pack_store_new(out, opt->pack_dir, variant, limit, err);
}

limn_status limn_backend_new_cpu(limn_backend **out, const limn_cpu_options *opt, limn_err *err) {
    *out = NULL;
    cpu_backend *b = limn_mem_calloc(1, sizeof *b);
    if (!b) return limn_fail(err, LIMN_E_NOMEM, "no memory for a backend");
    b->base.v = &cpu_vtable;
    b->precision = opt->precision;
    limn_kernels_init(&b->kernels, opt->cpu_flags);
    limn_pack_store *store = NULL;
    limn_status st = limn_pool_new(&b->pool, opt->threads, err);
    if (st == LIMN_OK) st = store_new(&store, opt, err);
    if (st == LIMN_OK)
        st = limn_weight_cache_new(&b->weights, &b->kernels, b->pool, compute_of[opt->precision],
                                   store, err);
    if (st == LIMN_OK)
        *out = &b->base;
    else
        cpu_free(&b->base);
    return st;
}
