/* SPDX-License-Identifier: MIT */
/* The planner; see plan.h. Fusion is in fuse.c, this file orders, narrows and places. */
#include "graph/plan.h"

#include <stdlib.h>

#include "graph/fuse.h"
#include "graph/op_table.h"

enum { ALIGN = 64, FOREVER = 1 << 30 };

typedef struct planner {
    limn_plan *p;
    int *uses;    /* node id -> number of live readers */
    bool *live;   /* node id -> reachable from an output */
    int *step_of; /* node id -> step, -1 */
    int n;
    limn_arena mem; /* of the passes */
} planner;

static void mark_live(planner *pl) {
    /* Build order is topological, so one backward sweep reaches everything. */
    for (int i = 0; i < pl->n; i++) pl->uses[i] = 0, pl->live[i] = false;
    for (int i = pl->n - 1; i >= 0; i--) {
        limn_node *nd = limn_graph_node(pl->p->graph, i);
        if (nd->is_output || nd->op == LIMN_OP_INPUT) pl->live[i] = true;
        if (!pl->live[i]) continue;
        for (int s = 0; s < nd->n_src; s++) {
            pl->live[nd->src[s]->id] = true;
            pl->uses[nd->src[s]->id]++;
        }
    }
}

/* A state lives outside the arena, and so does what was stored into it. */
static bool is_outside(const limn_node *nd) {
    return (limn_op_get(nd->op)->flags & LIMN_OPF_STATE) != 0;
}

static limn_node *storage_root(limn_node *nd) {
    while (nd->op == LIMN_OP_RESHAPE) nd = nd->src[0];
    return nd;
}

/* ---- narrowing ---- */
/* Whether source s of a node may be bf16. */
static bool takes_narrow(const limn_graph *g, const limn_node *nd, int s) {
    if (!(limn_op_get(nd->op)->flags & LIMN_OPF_NARROW_IN)) return false;
    bool sum = nd->attr.residual && s == nd->n_src - 1;
    return s == 0 || (nd->op == LIMN_OP_ATTENTION && s < 3) ||
           (sum && limn_graph_has_narrow_sums(g));
}

/* A result may be bf16 when every reader accepts that. */
static void narrow_pass(planner *pl) {
    bool *ok = limn_arena_alloc(&pl->mem, (size_t)pl->n * sizeof *ok);
    if (!ok) return;
    for (int i = 0; i < pl->n; i++) {
        limn_node *nd = limn_graph_node(pl->p->graph, i);
        unsigned fl = limn_op_get(nd->op)->flags;
        bool whole_rows = nd->shape.ndim > 0 && nd->shape.dim[nd->shape.ndim - 1] % 2 == 0;
        ok[i] = pl->live[i] && pl->uses[i] > 0 && (fl & LIMN_OPF_NARROW_OUT) && !nd->is_output &&
                nd->dtype == LIMN_F32 && whole_rows;
    }
    for (int i = 0; i < pl->n; i++) {
        limn_node *nd = limn_graph_node(pl->p->graph, i);
        if (!pl->live[i] || nd->op == LIMN_OP_RESHAPE) continue;
        for (int s = 0; s < nd->n_src; s++)
            if (!takes_narrow(pl->p->graph, nd, s)) ok[storage_root(nd->src[s])->id] = false;
    }
    /* Attention reads q, k and v with one dtype. */
    for (bool changed = true; changed;) {
        changed = false;
        for (int i = 0; i < pl->n; i++) {
            limn_node *nd = limn_graph_node(pl->p->graph, i);
            if (!pl->live[i] || nd->op != LIMN_OP_ATTENTION) continue;
            int r[3];
            bool all = true;
            for (int s = 0; s < 3; s++) r[s] = storage_root(nd->src[s])->id, all = all && ok[r[s]];
            for (int s = 0; s < 3 && !all; s++)
                if (ok[r[s]]) ok[r[s]] = false, changed = true;
        }
    }
    for (int i = 0; i < pl->n; i++) {
        limn_node *nd = limn_graph_node(pl->p->graph, i);
        if (ok[i])
            nd->dtype = LIMN_BF16;
        else if (nd->op == LIMN_OP_RESHAPE)
            nd->dtype = storage_root(nd)->dtype;
    }
}

/* ---- steps ---- */
static limn_status steps_pass(planner *pl, limn_err *err) {
    limn_plan *p = pl->p;
    p->steps = limn_mem_calloc((size_t)pl->n, sizeof *p->steps);
    if (!p->steps) return limn_fail(err, LIMN_E_NOMEM, "no memory for a plan of %d nodes", pl->n);
    for (int i = 0; i < pl->n; i++) {
        limn_node *nd = limn_graph_node(p->graph, i);
        pl->step_of[i] = -1;
        if (!pl->live[i] || nd->op == LIMN_OP_INPUT || nd->op == LIMN_OP_RESHAPE ||
            nd->op == LIMN_OP_STATE)
            continue;
        pl->step_of[i] = p->n_steps;
        p->steps[p->n_steps++] = nd;
        p->flops += limn_op_get(nd->op)->flops(nd);
    }
    return LIMN_OK;
}

/* ---- placement ---- */
static void slot_touch(limn_plan *p, const limn_node *reader_src, int step) {
    int at = p->slot[storage_root((limn_node *)reader_src)->id];
    if (at < 0) return;
    limn_plan_slot *s = &p->slots[at];
    if (step > s->last) s->last = step;
}

/* The source whose storage the result may take: source 0 of ops that say so, and what a product
 * adds at its end (each number is read just before its place is written). -1: none. */
static int overwritable(const limn_node *nd) {
    if (limn_op_get(nd->op)->flags & LIMN_OPF_INPLACE) return 0;
    return nd->attr.residual ? nd->n_src - 1 : -1;
}

static bool can_reuse(const planner *pl, const limn_node *nd, int at, int step, size_t bytes) {
    if (at < 0 || nd->is_output || nd->dtype != nd->src[at]->dtype) return false;
    const limn_node *root = storage_root(nd->src[at]);
    const limn_plan_slot *s = &pl->p->slots[pl->p->slot[root->id]];
    if (root->op == LIMN_OP_INPUT || s->last != step || s->bytes != bytes) return false;
    /* No other source may be the storage that is overwritten. */
    for (int i = 0; i < nd->n_src; i++)
        if (i != at && pl->p->slot[storage_root(nd->src[i])->id] == pl->p->slot[root->id])
            return false;
    return true;
}

static limn_status slots_pass(planner *pl, limn_err *err) {
    limn_plan *p = pl->p;
    p->slots = limn_mem_calloc((size_t)pl->n + 1, sizeof *p->slots);
    p->slot = limn_mem_calloc((size_t)pl->n + 1, sizeof *p->slot);
    if (!p->slots || !p->slot) return limn_fail(err, LIMN_E_NOMEM, "no memory for a plan");
    for (int i = 0; i < pl->n; i++) {
        limn_node *nd = limn_graph_node(p->graph, i);
        p->slot[i] = -1;
        if (!pl->live[i] || nd->op == LIMN_OP_RESHAPE || is_outside(nd)) continue;
        size_t bytes;
        if (!limn_tensor_bytes(&bytes, nd->dtype, &nd->shape) || bytes > SIZE_MAX / 4)
            return limn_fail(err, LIMN_E_LIMIT, "%s: a result is too large to hold",
                             limn_op_get(nd->op)->name);
        bytes = (bytes + ALIGN - 1) / ALIGN * ALIGN;
        int first = nd->op == LIMN_OP_INPUT ? -1 : pl->step_of[i];
        int last = nd->is_output || nd->op == LIMN_OP_INPUT ? FOREVER : first;
        p->slot[i] = p->n_slots;
        p->slots[p->n_slots++] = (limn_plan_slot){0, bytes, first, last};
        p->naive_bytes += bytes;
    }
    for (int k = 0; k < p->n_steps; k++)
        for (int s = 0; s < p->steps[k]->n_src; s++) slot_touch(p, p->steps[k]->src[s], k);
    /* In place: the node joins a source's slot, which lives on as long as the node. */
    for (int k = 0; k < p->n_steps; k++) {
        limn_node *nd = p->steps[k];
        if (is_outside(nd)) continue;
        limn_plan_slot *own = &p->slots[p->slot[nd->id]];
        int at = overwritable(nd);
        if (!can_reuse(pl, nd, at, k, own->bytes)) continue;
        int shared = p->slot[storage_root(nd->src[at])->id];
        p->slots[shared].last = own->last;
        own->bytes = 0;
        p->slot[nd->id] = shared;
    }
    return LIMN_OK;
}

static int by_size(const void *a, const void *b) {
    const limn_plan_slot *x = *(limn_plan_slot *const *)a, *y = *(limn_plan_slot *const *)b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
    return x->first < y->first ? -1 : x->first > y->first;
}

static int by_offset(const void *a, const void *b) {
    const limn_plan_slot *x = *(limn_plan_slot *const *)a, *y = *(limn_plan_slot *const *)b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* Largest first, each at the lowest gap among the placed slots whose lifetimes meet its own. */
static limn_status place_pass(planner *pl, limn_err *err) {
    limn_plan *p = pl->p;
    size_t n = (size_t)p->n_slots;
    limn_plan_slot **order = limn_arena_alloc(&pl->mem, (n + 1) * sizeof *order);
    limn_plan_slot **meet = limn_arena_alloc(&pl->mem, (n + 1) * sizeof *meet);
    if (!order || !meet) return limn_fail(err, LIMN_E_NOMEM, "no memory for a plan");
    for (size_t i = 0; i < n; i++) order[i] = &p->slots[i];
    qsort(order, n, sizeof *order, by_size);
    for (size_t i = 0; i < n && order[i]->bytes > 0; i++) {
        limn_plan_slot *s = order[i];
        size_t m = 0;
        for (size_t j = 0; j < i; j++)
            if (order[j]->first <= s->last && s->first <= order[j]->last) meet[m++] = order[j];
        qsort(meet, m, sizeof *meet, by_offset);
        size_t at = 0;
        for (size_t j = 0; j < m; j++) {
            if (meet[j]->offset >= at + s->bytes) break;
            if (meet[j]->offset + meet[j]->bytes > at) at = meet[j]->offset + meet[j]->bytes;
        }
        s->offset = at;
        if (at + s->bytes > p->arena_bytes) p->arena_bytes = at + s->bytes;
    }
    return LIMN_OK;
}

static limn_status passes_run(planner *pl, const limn_plan_options *opt, limn_err *err) {
    limn_status st = LIMN_OK;
    size_t n = (size_t)pl->n;
    pl->uses = limn_arena_alloc(&pl->mem, n * sizeof *pl->uses);
    pl->live = limn_arena_alloc(&pl->mem, n * sizeof *pl->live);
    pl->step_of = limn_arena_alloc(&pl->mem, n * sizeof *pl->step_of);
    LIMN_CHECK(err, pl->step_of, LIMN_E_NOMEM, "no memory for a plan of %d nodes", pl->n);
    mark_live(pl);
    if (!opt->no_fuse) {
        limn_graph_fuse(pl->p->graph, pl->uses, pl->live);
        mark_live(pl);
    }
    if (opt->narrow) narrow_pass(pl);
    LIMN_TRY(steps_pass(pl, err));
    LIMN_TRY(slots_pass(pl, err));
    LIMN_TRY(place_pass(pl, err));
out:
    return st;
}

limn_status limn_plan_build(limn_plan **out, limn_graph **graph, const limn_plan_options *opt,
                            limn_err *err) {
    *out = NULL;
    limn_graph *g = *graph;
    *graph = NULL;
    limn_status st = limn_graph_check(g, err);
    limn_plan *p = st == LIMN_OK ? limn_mem_calloc(1, sizeof *p) : NULL;
    if (st == LIMN_OK && !p) st = limn_fail(err, LIMN_E_NOMEM, "no memory for a plan");
    if (st != LIMN_OK) {
        limn_graph_free(&g);
        return st;
    }
    p->graph = g;
    p->n_nodes = limn_graph_count(g);
    planner pl = {.p = p, .n = p->n_nodes};
    limn_arena_init(&pl.mem);
    st = passes_run(&pl, opt, err);
    limn_arena_deinit(&pl.mem);
    if (st != LIMN_OK) limn_plan_free(&p);
    *out = p;
    return st;
}

void limn_plan_free(limn_plan **plan) {
    limn_plan *p = plan ? *plan : NULL;
    if (!p) return;
    limn_graph_free(&p->graph);
    limn_mem_free(p->steps);
    limn_mem_free(p->slot);
    limn_mem_free(p->slots);
    limn_mem_free(p);
    *plan = NULL;
}

static limn_node *node_find(const limn_plan *plan, const char *name, bool output) {
    for (int i = 0; i < plan->n_nodes; i++) {
        limn_node *nd = limn_graph_node(plan->graph, i);
        bool kind = output ? nd->is_output : nd->op == LIMN_OP_INPUT;
        if (kind && plan->slot[i] >= 0 && strcmp(nd->name, name) == 0) return nd;
    }
    return NULL;
}

limn_node *limn_plan_find_input(const limn_plan *plan, const char *name) {
    return node_find(plan, name, false);
}
limn_node *limn_plan_find_output(const limn_plan *plan, const char *name) {
    return node_find(plan, name, true);
}

/* Only stores take states, and a store runs only when it is live. */
static limn_node *state_of(const limn_plan *plan, int step) {
    limn_node *nd = plan->steps[step];
    return nd->op == LIMN_OP_STORE ? nd->src[0] : NULL;
}

limn_node *limn_plan_find_state(const limn_plan *plan, const char *name) {
    for (int k = 0; k < plan->n_steps; k++) {
        limn_node *nd = state_of(plan, k);
        if (nd && strcmp(nd->name, name) == 0) return nd;
    }
    return NULL;
}

bool limn_plan_has_states(const limn_plan *plan) {
    for (int k = 0; k < plan->n_steps; k++)
        if (state_of(plan, k)) return true;
    return false;
}

void limn_plan_print(const limn_plan *p, limn_buf *out) {
    char text[96];
    for (int k = 0; k < p->n_steps; k++) {
        const limn_node *nd = p->steps[k];
        const limn_plan_slot *s = is_outside(nd) ? NULL : &p->slots[p->slot[nd->id]];
        limn_buf_addf(out, "%5d %-10s %-5s %-22s @%-10zu %s%s%s%s%s %s\n", k,
                      limn_op_get(nd->op)->name, limn_dtype_get(nd->dtype)->name,
                      limn_shape_format(&nd->shape, text, sizeof text), s ? s->offset : 0,
                      nd->attr.channel_add ? " +channel" : "", nd->attr.act ? " +act" : "",
                      nd->attr.residual ? " +residual" : "", nd->attr.gated ? " +glu" : "",
                      nd->attr.upsample2 ? " +upsample" : "",
                      nd->w      ? nd->w->name
                      : nd->name ? nd->name
                                 : "");
    }
    limn_buf_addf(out, "%d steps, %.3f GFLOP, arena %.1f MB (apart: %.1f MB)\n", p->n_steps,
                  p->flops / 1e9, (double)p->arena_bytes / 1e6, (double)p->naive_bytes / 1e6);
}
