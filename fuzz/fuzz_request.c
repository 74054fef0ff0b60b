/* SPDX-License-Identifier: MIT */
/*
 * The JSON part of requests from strangers: grids, conversations, names of models. What is accepted
 * must be stored in a form that is read back, and making it again must give the same text.
 */
#include <string.h>

#include "job/grid.h"
#include "job/request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(bool ok) {
    if (!ok) __builtin_trap();
}

/* The stored request of this text; NULL when it is refused, which needs a reason. */
static limn_job *make(limn_job_kind kind, const limn_params *params, const char *text, size_t len) {
    limn_err err = {0};
    limn_job *j;
    limn_submit s = {.kind = kind, .params = params, .json = text, .json_len = len};
    demand(limn_job_new(&j, &err) == LIMN_OK);
    if (limn_request_make(j, &s, &err) == LIMN_OK) return j;
    demand(err.text[0] != 0);
    limn_job_free(&j);
    return NULL;
}

static void read_back(const limn_job *j) {
    limn_err err = {0};
    limn_params *p = NULL;
    limn_grid *g = NULL;
    for (int i = 0; i < j->n_artifacts; i++) demand(limn_sha_is_valid(j->artifacts[i].sha));
    if (j->kind == LIMN_JOB_SEE || j->kind == LIMN_JOB_GRID)
        demand(limn_request_params(&p, j, &err) == LIMN_OK);
    if (j->kind == LIMN_JOB_GRID) {
        demand(limn_grid_parse(&g, j->request, strlen(j->request), &err) == LIMN_OK);
        demand(g->cells == j->images);
    }
    limn_grid_free(&g);
    limn_params_free(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const limn_job_kind kinds[] = {LIMN_JOB_GRID, LIMN_JOB_SEE, LIMN_JOB_LOAD};
    if (size < 1) return 0;
    limn_job_kind kind = kinds[data[0] % 3];
    limn_params *p;
    demand(limn_params_new(&p, kind == LIMN_JOB_SEE ? LIMN_PARAMS_SEE : LIMN_PARAMS_GEN, NULL) ==
           LIMN_OK);
    demand(limn_params_set(p, "seed", "7", LIMN_FROM_API, NULL) == LIMN_OK);
    limn_job *a = make(kind, p, (const char *)data + 1, size - 1);
    if (a) {
        limn_job *b = make(kind, p, (const char *)data + 1, size - 1);
        read_back(a);
        demand(b && strcmp(a->request, b->request) == 0);
        limn_job_free(&b);
    }
    limn_job_free(&a);
    limn_params_free(&p);
    return 0;
}
