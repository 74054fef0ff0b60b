/* SPDX-License-Identifier: MIT */
/* Textual inversions; see embedding.h. */
#include "formats/embedding.h"

#include <stdio.h>
#include <string.h>

enum { VECTORS_MAX = 1024, WIDTH_MAX = 16384 };

static limn_status set_add(limn_embedding *e, const limn_weights *w, const char *name,
                           const limn_tensor *t, limn_part part, limn_err *err) {
    const limn_shape *s = &t->shape;
    char text[96];
    int64_t width = s->ndim ? s->dim[s->ndim - 1] : 0;
    int64_t n = s->ndim == 1 ? 1 : s->ndim == 2 ? s->dim[0] : 0;
    if (n < 1 || n > VECTORS_MAX || width < 1 || width > WIDTH_MAX ||
        limn_dtype_get(t->dtype)->quantised)
        return limn_fail(err, LIMN_E_FORMAT,
                         "%s: '%s' is %s; vectors of a textual inversion are [1 to %d, width]",
                         limn_weights_path(w), name, limn_shape_format(s, text, sizeof text),
                         VECTORS_MAX);
    if (e->n_sets && n != e->count)
        return limn_fail(err, LIMN_E_FORMAT, "%s: '%s' has %lld vectors, the other set %lld",
                         limn_weights_path(w), name, (long long)n, (long long)e->count);
    float *v = limn_mem_alloc((size_t)(n * width) * sizeof *v);
    if (!v) return limn_fail(err, LIMN_E_NOMEM, "%s: no memory to read it", limn_weights_path(w));
    limn_dtype_to_f32(v, t->data, t->dtype, n * width);
    e->set[e->n_sets].part = part;
    e->set[e->n_sets].width = width;
    e->set[e->n_sets++].v = v;
    e->count = n;
    return LIMN_OK;
}

static limn_status pair_add(limn_embedding *e, const limn_weights *w, const char *l, const char *g,
                            limn_err *err) {
    const limn_tensor *tl = limn_weights_find(w, l), *tg = limn_weights_find(w, g);
    limn_status st = LIMN_OK;
    if (tl) st = set_add(e, w, l, tl, LIMN_PART_TE, err);
    if (tg && st == LIMN_OK) st = set_add(e, w, g, tg, LIMN_PART_TE2, err);
    return st;
}

/* The one tensor of the other forms; NULL when there is none or a choice. */
static const limn_tensor *single_find(const limn_weights *w, const char **name, const char **word) {
    static const char begin[] = "string_to_param.";
    *name = *word = "emb_params";
    const limn_tensor *t = limn_weights_find(w, "emb_params");
    if (t) {
        *word = limn_weights_meta_str(w, "name");
        return t;
    }
    for (size_t i = 0; i < limn_weights_count(w); i++) {
        *name = limn_weights_name(w, i);
        if (strncmp(*name, begin, sizeof begin - 1) != 0) continue;
        const char *said = limn_weights_meta_str(w, "name");
        *word = said ? said : *name + sizeof begin - 1;
        return limn_weights_at(w, i);
    }
    if (limn_weights_count(w) != 1) return NULL;
    *name = *word = limn_weights_name(w, 0);
    return limn_weights_at(w, 0);
}

limn_status limn_embedding_open(limn_embedding *out, const limn_weights *w, limn_err *err) {
    const char *name, *word = NULL;
    *out = (limn_embedding){0};
    limn_status st = pair_add(out, w, "clip_l", "clip_g", err);
    if (st == LIMN_OK && out->n_sets == 0)
        st = pair_add(out, w, "text_encoders_0", "text_encoders_1", err);
    if (st == LIMN_OK && out->n_sets == 0) {
        const limn_tensor *t = single_find(w, &name, &word);
        st = t ? set_add(out, w, name, t, LIMN_PART_TE, err)
               : limn_fail(err, LIMN_E_FORMAT,
                           "%s: is no textual inversion (no emb_params, string_to_param, clip_l, "
                           "or single tensor)",
                           limn_weights_path(w));
    }
    if (word && strcmp(word, "*") != 0) snprintf(out->word, sizeof out->word, "%s", word);
    if (st != LIMN_OK) limn_embedding_free(out);
    return st;
}

void limn_embedding_free(limn_embedding *e) {
    for (int i = 0; i < LIMN_EMBEDDING_SETS; i++) limn_mem_free(e->set[i].v);
    *e = (limn_embedding){0};
}

const float *limn_embedding_find(const limn_embedding *e, limn_part part, int64_t width) {
    for (int i = 0; i < e->n_sets; i++)
        if (e->set[i].width == width && (e->set[i].part == part || e->n_sets == 1))
            return e->set[i].v;
    return NULL;
}
