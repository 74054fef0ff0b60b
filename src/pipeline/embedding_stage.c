/* SPDX-License-Identifier: MIT */
/* Textual inversions; see embedding_stage.h. */
#include "pipeline/embedding_stage.h"

#include "formats/embedding.h"

static char *stem_of(limn_arena *a, const char *path) {
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    const char *dot = strrchr(name, '.');
    return limn_arena_strndup(a, name, dot && dot > name ? (size_t)(dot - name) : strlen(name));
}

static limn_status add_vectors(limn_text_encoder *te, const limn_embedding *e, const char *path,
                               char *name, int index, limn_err *err) {
    int64_t width = te->cfg.width;
    const float *v = limn_embedding_find(e, te->slot == 0 ? LIMN_PART_TE : LIMN_PART_TE2, width);
    if (!v)
        return limn_fail(err, LIMN_E_SHAPE,
                         "%s: has no vectors of width %lld; it was made for another model", path,
                         (long long)width);
    if (e->count > te->window - 2)
        return limn_fail(err, LIMN_E_LIMIT, "%s: has %lld vectors; at most %d fit into a prompt",
                         path, (long long)e->count, te->window - 2);
    size_t total = (size_t)((te->embed_rows + e->count) * width);
    float *all = limn_mem_realloc(te->embed_vectors, total * sizeof *all);
    if (!all) return limn_fail(err, LIMN_E_NOMEM, "no memory for embeddings");
    te->embed_vectors = all;
    memcpy(all + te->embed_rows * width, v, (size_t)(e->count * width) * sizeof *all);
    te->embeddings[index] = (limn_prompt_embedding){name, (int)e->count};
    te->embed_first[index] = (int)te->embed_rows;
    te->embed_rows += e->count;
    te->n_embeddings = (size_t)index + 1;
    return LIMN_OK;
}

static limn_status load_file(limn_checkpoint *c, const char *path, int index, limn_err *err) {
    limn_weights *w = NULL;
    limn_embedding e = {0};
    limn_status st = LIMN_OK;
    char *name = stem_of(&c->arena, path);
    LIMN_CHECK(err, name, LIMN_E_NOMEM, "no memory for embeddings");
    LIMN_TRY(limn_weights_open(&w, path, err));
    LIMN_TRY(limn_embedding_open(&e, w, err));
    for (int i = 0; i < c->n_text; i++)
        LIMN_TRY(add_vectors(&c->text[i], &e, path, name, index, err));
out:
    limn_embedding_free(&e);
    limn_weights_unref(&w);
    return st;
}

limn_status limn_embedding_stage_load(limn_checkpoint *c, const char *const *paths, int n,
                                      limn_err *err) {
    for (int i = 0; i < c->n_text && n > 0; i++) {
        limn_text_encoder *te = &c->text[i];
        te->embeddings = limn_arena_alloc(&c->arena, (size_t)n * sizeof *te->embeddings);
        te->embed_first = limn_arena_alloc(&c->arena, (size_t)n * sizeof *te->embed_first);
        if (!te->embeddings || !te->embed_first)
            return limn_fail(err, LIMN_E_NOMEM, "no memory for embeddings");
    }
    for (int i = 0; i < n; i++) {
        limn_status st = load_file(c, paths[i], i, err);
        if (st != LIMN_OK) return st;
    }
    return LIMN_OK;
}
