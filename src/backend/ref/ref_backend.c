/* SPDX-License-Identifier: MIT */
/*
 * The reference backend: every op as plain loops over f32 with f64 sums. It is the specification of
 * the ops (graph/graph.h states them in words) and what every other backend is compared with; it
 * reads weights anew on each run and is slow on purpose.
 */
#include <assert.h>

#include "backend/backend.h"
#include "backend/ref/ref_ops.h"
#include "graph/op_table.h"

static void ref_free(limn_backend *b) {
    limn_mem_free(b);
}

static limn_plan_options ref_plan_options(const limn_backend *b) {
    (void)b;
    return (limn_plan_options){0};
}

static limn_status ref_prepare(limn_backend *b, limn_program *p, limn_err *err) {
    (void)b;
    for (int k = 0; k < p->plan->n_steps; k++) {
        limn_op op = p->plan->steps[k]->op;
        if (!limn_ref_ops[op])
            return limn_fail(err, LIMN_E_UNSUPPORTED, "the reference backend has no op '%s'",
                             limn_op_get(op)->name);
    }
    return LIMN_OK;
}

static limn_status ref_run(limn_backend *b, limn_program *p, const atomic_bool *cancel,
                           limn_err *err) {
    (void)b;
    for (int k = 0; k < p->plan->n_steps; k++) {
        const limn_node *nd = p->plan->steps[k];
        if (cancel && atomic_load(cancel)) return limn_fail(err, LIMN_E_CANCELLED, "cancelled");
        ref_step s = {.n = nd, .y = limn_program_data(p, nd)};
        for (int i = 0; i < nd->n_src; i++) s.x[i] = limn_program_data(p, nd->src[i]);
        limn_status st = limn_ref_ops[nd->op](&s, err);
        if (st != LIMN_OK) return st;
    }
    return LIMN_OK;
}

static void ref_forget(limn_backend *b, const limn_weight *w) {
    (void)b;
    (void)w;
}

static size_t ref_packed_bytes(const limn_backend *b) {
    (void)b;
    return 0;
}

static limn_status ref_save_packs(limn_backend *b, limn_err *err) {
    (void)b;
    (void)err;
    return LIMN_OK;
}

static const limn_backend_vtable ref_vtable = {
    .name = "ref",
    .free = ref_free,
    .plan_options = ref_plan_options,
    .prepare = ref_prepare,
    .run = ref_run,
    .forget = ref_forget,
    .packed_bytes = ref_packed_bytes,
    .save_packs = ref_save_packs,
};

limn_status limn_backend_new_ref(limn_backend **out, limn_err *err) {
    *out = limn_mem_calloc(1, sizeof **out);
    if (!*out) return limn_fail(err, LIMN_E_NOMEM, "no memory for a backend");
    (*out)->v = &ref_vtable;
    return LIMN_OK;
}
