/* SPDX-License-Identifier: MIT */
/* Programs: a plan with its arena on a backend; see backend.h. */
#include "backend/backend.h"

void limn_backend_free(limn_backend **b) {
    if (!b || !*b) return;
    limn_turn_join(&(*b)->turn, NULL);
    (*b)->v->free(*b);
    *b = NULL;
}

void limn_backend_share(limn_backend *b, limn_turns *turns) {
    if (b->turn.turns != turns) limn_turn_join(&b->turn, turns);
}

void limn_backend_forget(limn_backend *b, const limn_weight *w) {
    b->v->forget(b, w);
}
size_t limn_backend_packed_bytes(const limn_backend *b) {
    return b->v->packed_bytes(b);
}

limn_status limn_backend_save_packs(limn_backend *b, limn_err *err) {
    return b->v->save_packs(b, err);
}

void limn_backend_rest(limn_backend *b, limn_weight_is_fn *is_one, const void *user, bool made) {
    if (b->v->rest) b->v->rest(b, is_one, user, made);
}

/* Without memory the workspace stays as it is: programs that fit it go on. */
static limn_status workspace_grow(limn_workspace *w, size_t bytes, limn_err *err) {
    if (w->data && w->bytes >= bytes) return LIMN_OK;
    uint8_t *data = limn_mem_aligned(bytes ? bytes : 64);
    if (!data)
        return limn_fail(err, LIMN_E_NOMEM, "no memory for %.0f MB of intermediate results",
                         (double)bytes / 1e6);
    limn_workspace_free(w);
    *w = (limn_workspace){data, bytes};
    return LIMN_OK;
}

void limn_workspace_free(limn_workspace *w) {
    limn_mem_free(w->data);
    *w = (limn_workspace){0};
}

limn_status limn_program_new(limn_program **out, limn_backend *b, limn_graph **graph,
                             limn_err *err) {
    return limn_program_new_in(out, b, graph, NULL, err);
}

limn_status limn_program_new_in(limn_program **out, limn_backend *b, limn_graph **graph,
                                limn_workspace *work, limn_err *err) {
    limn_status st = LIMN_OK;
    limn_program *p = limn_mem_calloc(1, sizeof *p);
    *out = NULL;
    if (!p) limn_graph_free(graph);
    LIMN_CHECK(err, p, LIMN_E_NOMEM, "no memory for a program");
    p->backend = b;
    limn_plan_options opt = b->v->plan_options(b);
    LIMN_TRY(limn_plan_build(&p->plan, graph, &opt, err));
    p->work = work ? work : &p->own;
    LIMN_TRY(workspace_grow(p->work, p->plan->arena_bytes, err));
    p->seen = p->work->data;
    if (limn_plan_has_states(p->plan)) {
        p->states = limn_mem_calloc((size_t)p->plan->n_nodes, sizeof *p->states);
        LIMN_CHECK(err, p->states, LIMN_E_NOMEM, "no memory for a program");
        p->rebound = true;
    }
    LIMN_TRY(b->v->prepare(b, p, err));
    *out = p;
    p = NULL;
out:
    limn_program_free(&p);
    return st;
}

void limn_program_free(limn_program **program) {
    limn_program *p = program ? *program : NULL;
    if (!p) return;
    limn_plan_free(&p->plan);
    limn_workspace_free(&p->own);
    limn_mem_free(p->states);
    limn_mem_free(p->seconds);
    limn_mem_free(p->data);
    limn_mem_free(p);
    *program = NULL;
}

void *limn_program_data(const limn_program *p, const limn_node *nd) {
    while (nd->op == LIMN_OP_RESHAPE || nd->op == LIMN_OP_STORE) nd = nd->src[0];
    if (nd->op == LIMN_OP_STATE) return p->states[nd->id];
    return p->work->data + p->plan->slots[p->plan->slot[nd->id]].offset;
}

static void *node_data(limn_program *p, const limn_node *nd, limn_shape *shape) {
    if (!nd) return NULL;
    if (shape) *shape = nd->shape;
    return limn_program_data(p, nd);
}

void *limn_program_input(limn_program *p, const char *name, limn_shape *shape) {
    return node_data(p, limn_plan_find_input(p->plan, name), shape);
}

const float *limn_program_output(limn_program *p, const char *name, limn_shape *shape) {
    return node_data(p, limn_plan_find_output(p->plan, name), shape);
}

limn_status limn_program_bind(limn_program *p, const char *name, void *data, limn_err *err) {
    const limn_node *nd = limn_plan_find_state(p->plan, name);
    if (!nd) return limn_fail(err, LIMN_E_MISSING, "the program has no state '%s'", name);
    p->states[nd->id] = data;
    p->rebound = true;
    return LIMN_OK;
}

static limn_status states_check(const limn_program *p, limn_err *err) {
    for (int k = 0; p->rebound && k < p->plan->n_steps; k++) {
        const limn_node *nd = p->plan->steps[k];
        if (nd->op == LIMN_OP_STORE && !limn_program_data(p, nd))
            return limn_fail(err, LIMN_E_INTERNAL, "state '%s' is not bound", nd->src[0]->name);
    }
    return LIMN_OK;
}

limn_status limn_program_run(limn_program *p, const atomic_bool *cancel, limn_err *err) {
    if (p->seen != p->work->data) p->rebound = true;
    p->seen = p->work->data;
    limn_status st = states_check(p, err);
    if (st != LIMN_OK) return st;
    limn_turn_begin(&p->backend->turn);
    st = p->backend->v->run(p->backend, p, cancel, err);
    limn_turn_end(&p->backend->turn);
    return st;
}

limn_status limn_program_profile(limn_program *p, limn_err *err) {
    if (!p->seconds) p->seconds = limn_mem_calloc((size_t)p->plan->n_steps + 1, sizeof(double));
    if (!p->seconds) return limn_fail(err, LIMN_E_NOMEM, "no memory for a profile");
    return LIMN_OK;
}
