/* SPDX-License-Identifier: MIT */
/* The encode stage; see conditioning.h. */
#include "pipeline/conditioning.h"

#include <math.h>

typedef struct cond_part {
    float weight;
    const limn_prompt_range *ranges; /* borrowed copy in the arena */
    size_t n_ranges;
    limn_text_state *variants;
    size_t n_variants;
} cond_part;

struct limn_conditioning {
    limn_arena arena;
    cond_part *parts;
    int n_parts;
};

/* ---- one text encoder, one variant ---- */
typedef struct encoded {
    float *hidden; /* [chunks * window, width] */
    float *pooled; /* [projection or width] of the first chunk, or NULL */
    int64_t len;
} encoded;

/* Multiplies rows by their weights; ORIGINAL then restores the mean over everything. */
static void emphasise(float *z, const limn_prompt_chunk *chunks, size_t n, int window,
                      int64_t width, bool restore_mean) {
    double before = 0, after = 0;
    size_t total = n * (size_t)window * (size_t)width;
    bool changed = false;
    for (size_t i = 0; i < total; i++) before += z[i];
    for (size_t c = 0; c < n; c++)
        for (int t = 0; t < window; t++) {
            float w = chunks[c].weights[t],
                  *row = z + (c * (size_t)window + (size_t)t) * (size_t)width;
            if (w == 1.0f) continue;
            changed = true;
            for (int64_t j = 0; j < width; j++) row[j] *= w;
        }
    if (!changed || !restore_mean) return;
    for (size_t i = 0; i < total; i++) after += z[i];
    if (after == 0) return;
    float f = (float)(before / after);
    for (size_t i = 0; i < total; i++) z[i] *= f;
}

static int end_index(const limn_prompt_chunk *chunk, const limn_text_encoder *te) {
    int window = te->window;
    if (te->pool_largest) { /* older CLIP configs: the largest id, which is eos in real files */
        int best = 0;
        for (int i = 1; i < window; i++)
            if (chunk->ids[i] > chunk->ids[best]) best = i;
        return best;
    }
    for (int i = 0; i < window; i++)
        if (chunk->ids[i] == te->cfg.eos) return i;
    return window - 1;
}

static limn_status embed_chunks(float *embeds, int32_t *end, const limn_text_encoder *te,
                                const limn_nn *nn, const limn_prompt_chunk *chunks, size_t n,
                                limn_err *err) {
    for (size_t c = 0; c < n; c++) {
        int32_t ids[LIMN_PROMPT_WINDOW];
        for (int i = 0; i < te->window; i++) {
            int e = chunks[c].embed[i];
            ids[i] = e < 0 ? chunks[c].ids[i] : -1 - (te->embed_first[e] + chunks[c].row[i]);
        }
        size_t at = c * (size_t)te->window * (size_t)te->cfg.width;
        limn_status st = limn_clip_embed(embeds + at, nn, &te->cfg, ids, te->window,
                                         te->embed_vectors, te->embed_rows, err);
        if (st != LIMN_OK) return st;
        if (end) end[c] = end_index(&chunks[c], te);
    }
    return LIMN_OK;
}

static limn_status run_encoder(encoded *out, const limn_conditioning_args *a, limn_text_encoder *te,
                               limn_arena *arena, const limn_prompt_chunk *chunks, size_t n,
                               limn_err *err) {
    limn_status st = LIMN_OK;
    limn_program *p = NULL;
    limn_graph *g = NULL;
    LIMN_TRY(limn_graph_new(&g, err));
    limn_nn nn = {g, limn_model_weights_find, te->weights};
    int skip = a->clip_skip > 0 ? a->clip_skip - 1 : te->skip;
    if (skip < te->skip_min) skip = te->skip_min;
    limn_clip_request req = {.batch = (int64_t)n,
                             .len = te->window,
                             .skip = skip,
                             .final_norm = te->final_norm,
                             .pooled = te->pooled};
    limn_clip_build(&nn, &te->cfg, &req);
    LIMN_TRY(limn_program_new(&p, a->backend, &g, err));
    LIMN_TRY(embed_chunks(limn_program_input(p, "embeds", NULL), limn_program_input(p, "end", NULL),
                          te, &nn, chunks, n, err));
    LIMN_TRY(limn_program_run(p, a->cancel, err));
    size_t total = n * (size_t)te->window * (size_t)te->cfg.width;
    out->len = (int64_t)n * te->window;
    out->hidden = limn_arena_alloc(arena, total * sizeof(float));
    LIMN_CHECK(err, out->hidden, LIMN_E_NOMEM, "no memory for text states");
    memcpy(out->hidden, limn_program_output(p, "hidden", NULL), total * sizeof(float));
    if (te->pooled) {
        limn_shape s;
        const float *pooled = limn_program_output(p, "pooled", &s);
        out->pooled = limn_arena_alloc(arena, (size_t)s.dim[1] * sizeof(float));
        LIMN_CHECK(err, out->pooled, LIMN_E_NOMEM, "no memory for text states");
        memcpy(out->pooled, pooled, (size_t)s.dim[1] * sizeof(float));
    }
    if (a->emphasis == LIMN_GEN_EMPHASIS_ORIGINAL || a->emphasis == LIMN_GEN_EMPHASIS_NO_NORM)
        emphasise(out->hidden, chunks, n, te->window, te->cfg.width,
                  a->emphasis == LIMN_GEN_EMPHASIS_ORIGINAL);
out:
    limn_program_free(&p);
    limn_graph_free(&g);
    return st;
}

static limn_status tokenise(limn_prompt_chunk **chunks, size_t *n, const limn_conditioning_args *a,
                            const limn_text_encoder *te, const char *text, limn_err *err) {
    limn_prompt_encode_options opt = {.embeddings = te->embeddings,
                                      .n_embeddings = te->n_embeddings,
                                      .pad = te->cfg.pad,
                                      .comma_backtrack = 20,
                                      .window = te->window,
                                      .no_emphasis = a->emphasis == LIMN_GEN_EMPHASIS_NONE};
    return limn_prompt_encode(chunks, n, te->tokenizer, text, strlen(text), &opt, err);
}

/* Fills the shorter of two encoders' texts with empty chunks, so that their rows line up. */
static limn_status pad_chunks(limn_prompt_chunk **chunks, size_t *n, size_t want,
                              const limn_conditioning_args *a, const limn_text_encoder *te,
                              limn_err *err) {
    if (*n >= want) return LIMN_OK;
    limn_prompt_chunk *empty = NULL;
    size_t n_empty;
    limn_status st = tokenise(&empty, &n_empty, a, te, "", err);
    if (st != LIMN_OK) return st;
    limn_prompt_chunk *p = limn_mem_realloc(*chunks, want * sizeof *p);
    if (p) {
        for (size_t i = *n; i < want; i++) p[i] = empty[0];
        *chunks = p;
        *n = want;
    }
    limn_mem_free(empty);
    return p ? LIMN_OK : limn_fail(err, LIMN_E_NOMEM, "no memory for text chunks");
}

/* Rows of all encoders side by side (SDXL: CLIP-L | bigG). */
static limn_status join_encoders(limn_text_state *out, limn_arena *arena, const encoded *e,
                                 const limn_checkpoint *ck, limn_err *err) {
    int64_t width = 0, at = 0;
    for (int i = 0; i < ck->n_text; i++) width += ck->text[i].cfg.width;
    out->len = e[0].len;
    out->context = limn_arena_alloc(arena, (size_t)(out->len * width) * sizeof(float));
    if (!out->context) return limn_fail(err, LIMN_E_NOMEM, "no memory for text states");
    for (int i = 0; i < ck->n_text; i++) {
        int64_t w = ck->text[i].cfg.width;
        for (int64_t r = 0; r < out->len; r++)
            memcpy(out->context + r * width + at, e[i].hidden + r * w, (size_t)w * sizeof(float));
        at += w;
        if (e[i].pooled) out->pooled = e[i].pooled;
    }
    return LIMN_OK;
}

static limn_status encode_variant(limn_text_state *out, limn_conditioning *c,
                                  const limn_conditioning_args *a, const limn_prompt_variant *v,
                                  limn_err *err) {
    limn_checkpoint *ck = a->ckpt;
    limn_prompt_chunk *chunks[LIMN_TEXT_ENCODERS] = {0};
    size_t n[LIMN_TEXT_ENCODERS] = {0}, most = 0;
    encoded e[LIMN_TEXT_ENCODERS] = {0};
    limn_status st = LIMN_OK;
    for (int i = 0; i < ck->n_text; i++) {
        const char *text =
            v->encoder[ck->text[i].slot] ? v->encoder[ck->text[i].slot] : v->encoder[0];
        LIMN_TRY(tokenise(&chunks[i], &n[i], a, &ck->text[i], text, err));
        if (n[i] > most) most = n[i];
    }
    for (int i = 0; i < ck->n_text; i++) {
        LIMN_TRY(pad_chunks(&chunks[i], &n[i], most, a, &ck->text[i], err));
        LIMN_TRY(run_encoder(&e[i], a, &ck->text[i], &c->arena, chunks[i], n[i], err));
    }
    st = join_encoders(out, &c->arena, e, ck, err);
    if (st == LIMN_OK && a->zero_empty && v->encoder[0][0] == 0) {
        memset(out->context, 0, (size_t)(out->len * ck->unet_cfg.context_dim) * sizeof(float));
        if (out->pooled) memset(out->pooled, 0, (size_t)ck->pooled_dim * sizeof(float));
    }
out:
    for (int i = 0; i < LIMN_TEXT_ENCODERS; i++) limn_mem_free(chunks[i]);
    return st;
}

static limn_status encode_part(cond_part *out, limn_conditioning *c,
                               const limn_conditioning_args *a, const limn_prompt_part *part,
                               limn_err *err) {
    limn_prompt_range *ranges = limn_arena_alloc(&c->arena, part->n_ranges * sizeof *ranges);
    out->variants = limn_arena_alloc(&c->arena, part->n_variants * sizeof *out->variants);
    if (!ranges || !out->variants) return limn_fail(err, LIMN_E_NOMEM, "no memory for text states");
    memcpy(ranges, part->ranges, part->n_ranges * sizeof *ranges);
    out->ranges = ranges;
    out->n_ranges = part->n_ranges;
    out->n_variants = part->n_variants;
    out->weight = part->weight;
    for (size_t i = 0; i < part->n_variants; i++) {
        limn_status st = encode_variant(&out->variants[i], c, a, &part->variants[i], err);
        if (st != LIMN_OK) return st;
    }
    return LIMN_OK;
}

limn_status limn_conditioning_new(limn_conditioning **out, const limn_conditioning_args *a,
                                  limn_err *err) {
    limn_status st = LIMN_OK;
    limn_conditioning *c = limn_mem_calloc(1, sizeof *c);
    *out = NULL;
    LIMN_CHECK(err, c, LIMN_E_NOMEM, "no memory for text states");
    limn_arena_init(&c->arena);
    c->n_parts = (int)a->prompt->n_parts;
    c->parts = limn_arena_alloc(&c->arena, a->prompt->n_parts * sizeof *c->parts);
    LIMN_CHECK(err, c->parts, LIMN_E_NOMEM, "no memory for text states");
    for (int i = 0; i < c->n_parts; i++)
        LIMN_TRY(encode_part(&c->parts[i], c, a, &a->prompt->parts[i], err));
    *out = c;
    c = NULL;
out:
    limn_conditioning_free(&c);
    return st;
}

void limn_conditioning_free(limn_conditioning **c) {
    if (!c || !*c) return;
    limn_arena_deinit(&(*c)->arena);
    limn_mem_free(*c);
    *c = NULL;
}

int limn_conditioning_parts(const limn_conditioning *c) {
    return c->n_parts;
}
float limn_conditioning_weight(const limn_conditioning *c, int part) {
    return c->parts[part].weight;
}

const limn_text_state *limn_conditioning_at(const limn_conditioning *c, int part, int step) {
    const cond_part *p = &c->parts[part];
    for (size_t i = 0; i < p->n_ranges; i++)
        if (step < p->ranges[i].to) return &p->variants[p->ranges[i].variant];
    return &p->variants[p->ranges[p->n_ranges - 1].variant];
}
