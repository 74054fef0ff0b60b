/* SPDX-License-Identifier: MIT */
/*
 * Experts that have a tensor each ("experts.17.gate_proj.weight", as Qwen3's text models store
 * them) as the joined tensors that networks are built from. Nothing is copied: a joined tensor
 * knows where its parts lie.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/canon_map.h"

enum { EXPERTS_MAX = 4096 };

/* One expert's tensor: its place among all ("layers.3.mlp.experts." + "up_proj.weight"). */
typedef struct expert_part {
    int layer, expert;
    char what[32];
    const limn_tensor *t;
} expert_part;

static bool part_read(expert_part *p, const char *name) {
    p->layer = limn_canon_number(&name, "layers");
    p->expert = p->layer >= 0 ? limn_canon_number(&name, "mlp.experts") : -1;
    size_t n = strlen(name);
    if (p->expert < 0 || n == 0 || n >= sizeof p->what) return false;
    memcpy(p->what, name, n + 1);
    return true;
}

bool limn_canon_is_expert(const char *name) {
    expert_part p;
    return part_read(&p, name);
}

static int group_order(const expert_part *a, const expert_part *b) {
    return a->layer != b->layer ? (a->layer < b->layer ? -1 : 1) : strcmp(a->what, b->what);
}

static int part_order(const void *x, const void *y) {
    const expert_part *a = x, *b = y;
    int by_group = group_order(a, b);
    return by_group ? by_group : a->expert < b->expert ? -1 : a->expert > b->expert;
}

static limn_status join(limn_canon *c, const expert_part *list, int64_t n) {
    limn_status st = LIMN_OK;
    char name[LIMN_CANON_NAME], want[96], got[96];
    const limn_tensor *first = list[0].t;
    limn_tensor joined = {.dtype = first->dtype};
    const void **parts = NULL;
    LIMN_CHECK(c->err, first->shape.ndim == 2, LIMN_E_SHAPE,
               "%s: %s of expert %d in layer %d is no matrix but %s", limn_weights_path(c->src),
               list->what, list->expert, list->layer,
               limn_shape_format(&first->shape, got, sizeof got));
    joined.shape = LIMN_SHAPE(n, first->shape.dim[0], first->shape.dim[1]);
    parts = limn_mem_calloc((size_t)n, sizeof *parts);
    LIMN_CHECK(c->err, parts, LIMN_E_NOMEM, "no memory for a list of experts");
    LIMN_TRY(limn_weights_keep_block(c->out, parts, c->err));
    for (int64_t i = 0; i < n; i++) {
        const limn_tensor *t = list[i].t;
        LIMN_CHECK(c->err, list[i].expert == i, LIMN_E_MISSING,
                   "%s: layer %d has no %s of expert %lld", limn_weights_path(c->src), list->layer,
                   list->what, (long long)i);
        LIMN_CHECK(c->err, t->dtype == joined.dtype && limn_shape_equal(&t->shape, &first->shape),
                   LIMN_E_SHAPE,
                   "%s: %s of expert %lld in layer %d is %s %s, that of expert 0 %s %s",
                   limn_weights_path(c->src), list->what, (long long)i, list->layer,
                   limn_dtype_get(t->dtype)->name, limn_shape_format(&t->shape, got, sizeof got),
                   limn_dtype_get(joined.dtype)->name,
                   limn_shape_format(&first->shape, want, sizeof want));
        parts[i] = t->data;
    }
    joined.parts = parts;
    snprintf(name, sizeof name, "layers.%d.mlp.experts.%s", list->layer, list->what);
    st = limn_weights_add(c->out, name, &joined, c->err);
out:
    return st;
}

limn_status limn_canon_experts(limn_canon *c, limn_canon_name_fn *fn, void *user) {
    limn_status st = LIMN_OK;
    char name[LIMN_CANON_NAME];
    size_t n = 0, prefix = strlen(c->prefix), all = limn_weights_count(c->src);
    expert_part *list = NULL;
    for (size_t pass = 0; pass < 2; pass++) { /* count, then fill */
        n = 0;
        for (size_t i = 0; i < all; i++) {
            const char *full = limn_weights_name(c->src, i);
            if (strncmp(full, c->prefix, prefix) != 0 || limn_canon_is_scale(full) ||
                fn(user, full + prefix, name) != LIMN_CANON_JOIN)
                continue;
            const limn_tensor *t = limn_weights_at(c->src, i);
            LIMN_CHECK(c->err, !limn_canon_scale_find(c, full, t), LIMN_E_UNSUPPORTED,
                       "%s: the expert '%s' is scaled fp8, which limn reads of other tensors only",
                       limn_weights_path(c->src), full);
            if (list && part_read(&list[n], name)) list[n].t = t;
            n++;
        }
        if (n == 0) return LIMN_OK;
        if (!list) list = limn_mem_calloc(n, sizeof *list);
        LIMN_CHECK(c->err, list, LIMN_E_NOMEM, "no memory for a list of experts");
    }
    qsort(list, n, sizeof *list, part_order);
    for (size_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && group_order(&list[i], &list[end]) == 0;) end++;
        LIMN_CHECK(c->err, end - i <= EXPERTS_MAX, LIMN_E_LIMIT,
                   "%s: layer %d has %zu experts, at most %d are read", limn_weights_path(c->src),
                   list[i].layer, end - i, EXPERTS_MAX);
        LIMN_TRY(join(c, list + i, (int64_t)(end - i)));
    }
out:
    limn_mem_free(list);
    return st;
}
