/* SPDX-License-Identifier: MIT */
/*
 * Weighted text -> 77-token windows, as A1111's sd_hijack_clip.tokenize_line: 75 tokens a chunk, a
 * full chunk may hand what follows its last comma to the next one, an embedding is never cut.
 */
#include <stdlib.h>
#include <string.h>

#include "text/prompt_impl.h"

/* A textual inversion's name as tokens. */
typedef struct trigger {
    int32_t *ids;
    size_t n;
    int16_t index;
} trigger;

typedef struct chunker {
    const limn_tokenizer *t;
    const limn_prompt_encode_options *opt;
    limn_prompt_chunk *chunk; /* [n], the last one is open */
    size_t n, cap;
    trigger *trigger; /* sorted by first id, longer ones first */
    size_t n_trigger;
    int32_t comma;
    int last_comma; /* place in the open chunk, -1: none */
    limn_err *err;
} chunker;

/* Tokens of a window with bos and eos. */
static int window_of(const limn_prompt_encode_options *opt) {
    return opt->window > 0 ? opt->window : LIMN_PROMPT_WINDOW;
}

static limn_status open_chunk(chunker *c) {
    if (c->n == LIMN_PROMPT_MAX_CHUNKS)
        return limn_fail(c->err, LIMN_E_LIMIT, "the prompt fills more than %d chunks of %d tokens",
                         LIMN_PROMPT_MAX_CHUNKS, window_of(c->opt) - 2);
    if (c->n == c->cap) {
        size_t cap = c->cap ? c->cap * 2 : 4;
        void *p = limn_mem_realloc(c->chunk, cap * sizeof *c->chunk);
        if (!p) return limn_fail(c->err, LIMN_E_NOMEM, "no memory for prompt chunks");
        c->chunk = p;
        c->cap = cap;
    }
    limn_prompt_chunk *k = &c->chunk[c->n++];
    memset(k, 0, sizeof *k);
    for (int i = 0; i < LIMN_PROMPT_WINDOW; i++) {
        k->weights[i] = 1.0f;
        k->embed[i] = -1;
    }
    c->last_comma = -1;
    return LIMN_OK;
}

static void put(limn_prompt_chunk *k, int32_t id, float weight, int16_t embed, int16_t row) {
    int at = 1 + k->used++;
    k->ids[at] = id;
    k->weights[at] = weight;
    k->embed[at] = embed;
    k->row[at] = row;
}

/* Moves what follows the last comma into a fresh chunk. */
static limn_status move_tail(chunker *c) {
    limn_status st;
    int keep = c->last_comma + 1;
    LIMN_TRY(open_chunk(c));
    limn_prompt_chunk *from = &c->chunk[c->n - 2], *to = &c->chunk[c->n - 1];
    for (int i = keep; i < from->used; i++)
        put(to, from->ids[1 + i], from->weights[1 + i], from->embed[1 + i], from->row[1 + i]);
    for (int i = keep; i < from->used; i++) {
        from->ids[1 + i] = 0;
        from->weights[1 + i] = 1.0f;
        from->embed[1 + i] = -1;
        from->row[1 + i] = 0;
    }
    from->used = keep;
out:
    return st;
}

static limn_status put_token(chunker *c, int32_t id, float weight) {
    limn_status st = LIMN_OK;
    const limn_prompt_chunk *k = &c->chunk[c->n - 1];
    bool full = k->used == window_of(c->opt) - 2;
    int back = c->opt->comma_backtrack;
    bool comma = id == c->comma;
    if (full && !comma && back > 0 && c->last_comma >= 0 && k->used - c->last_comma <= back &&
        c->last_comma + 1 < k->used)
        LIMN_TRY(move_tail(c));
    else if (full)
        LIMN_TRY(open_chunk(c));
    if (comma) c->last_comma = c->chunk[c->n - 1].used;
    put(&c->chunk[c->n - 1], id, weight, -1, 0);
out:
    return st;
}

static limn_status put_embedding(chunker *c, int16_t index, float weight) {
    limn_status st = LIMN_OK;
    int vectors = c->opt->embeddings[index].vectors;
    if (c->chunk[c->n - 1].used + vectors > window_of(c->opt) - 2) LIMN_TRY(open_chunk(c));
    for (int i = 0; i < vectors; i++) put(&c->chunk[c->n - 1], 0, weight, index, (int16_t)i);
out:
    return st;
}

/* ---- textual inversions ---- */

static int trigger_order(const void *a, const void *b) {
    const trigger *x = a, *y = b;
    if (x->ids[0] != y->ids[0]) return x->ids[0] < y->ids[0] ? -1 : 1;
    if (x->n != y->n) return x->n > y->n ? -1 : 1;
    return x->index - y->index;
}

static limn_status encode_text(const chunker *c, limn_ids *ids, const char *s, size_t n) {
    limn_ids_clear(ids);
    return limn_tokenizer_encode(c->t, ids, s, n, LIMN_ENCODE_ADDED, c->err);
}

static limn_status add_trigger(chunker *c, const limn_ids *ids, size_t index) {
    if (ids->len == 0) return LIMN_OK;
    trigger *t = &c->trigger[c->n_trigger];
    t->ids = limn_mem_alloc(ids->len * sizeof *t->ids);
    if (!t->ids) return limn_fail(c->err, LIMN_E_NOMEM, "no memory for embedding names");
    memcpy(t->ids, ids->data, ids->len * sizeof *t->ids);
    t->n = ids->len;
    t->index = (int16_t)index;
    c->n_trigger++;
    return LIMN_OK;
}

/* Each name is found as it is and as ComfyUI writes it: "embedding:name". */
static limn_status make_triggers(chunker *c, limn_ids *ids) {
    limn_status st = LIMN_OK;
    const limn_prompt_encode_options *o = c->opt;
    limn_buf name;
    limn_buf_init(&name, 4096);
    LIMN_CHECK(c->err, o->n_embeddings <= INT16_MAX, LIMN_E_LIMIT, "too many embeddings: %zu",
               o->n_embeddings);
    if (o->n_embeddings == 0) goto out;
    c->trigger = limn_mem_calloc(o->n_embeddings * 2, sizeof *c->trigger);
    LIMN_CHECK(c->err, c->trigger, LIMN_E_NOMEM, "no memory for embedding names");
    for (size_t i = 0; i < o->n_embeddings; i++) {
        const limn_prompt_embedding *e = &o->embeddings[i];
        LIMN_CHECK(c->err, e->vectors >= 1 && e->vectors <= window_of(o) - 2, LIMN_E_VALUE,
                   "embedding %s has %d vectors, 1..%d fit", e->name, e->vectors, window_of(o) - 2);
        LIMN_TRY(encode_text(c, ids, e->name, strlen(e->name)));
        LIMN_TRY(add_trigger(c, ids, i));
        limn_buf_clear(&name);
        limn_buf_addf(&name, "embedding:%s", e->name);
        LIMN_CHECK(c->err, !name.failed, LIMN_E_LIMIT, "the name of an embedding is too long");
        LIMN_TRY(encode_text(c, ids, name.data, name.len));
        LIMN_TRY(add_trigger(c, ids, i));
    }
    qsort(c->trigger, c->n_trigger, sizeof *c->trigger, trigger_order);
out:
    limn_buf_deinit(&name);
    return st;
}

static const trigger *find_trigger(const chunker *c, const int32_t *ids, size_t n) {
    size_t lo = 0, hi = c->n_trigger;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (c->trigger[mid].ids[0] < ids[0])
            lo = mid + 1;
        else
            hi = mid;
    }
    for (; lo < c->n_trigger && c->trigger[lo].ids[0] == ids[0]; lo++) {
        const trigger *t = &c->trigger[lo];
        if (t->n <= n && memcmp(t->ids, ids, t->n * sizeof *ids) == 0) return t;
    }
    return NULL;
}

/* ---- the whole ---- */

static limn_status put_piece(chunker *c, limn_ids *ids, const limn_prompt_piece *p) {
    limn_status st;
    if (!p->text) return open_chunk(c);
    LIMN_TRY(encode_text(c, ids, p->text, p->len));
    for (size_t i = 0; i < ids->len;) {
        const trigger *t = find_trigger(c, ids->data + i, ids->len - i);
        if (t)
            LIMN_TRY(put_embedding(c, t->index, p->weight));
        else
            LIMN_TRY(put_token(c, ids->data[i], p->weight));
        i += t ? t->n : 1;
    }
out:
    return st;
}

static void close_chunks(chunker *c) {
    int32_t bos = limn_tokenizer_bos(c->t), eos = limn_tokenizer_eos(c->t);
    int32_t pad = c->opt->pad >= 0 ? c->opt->pad : limn_tokenizer_pad(c->t);
    if (pad < 0) pad = eos;
    for (size_t i = 0; i < c->n; i++) {
        limn_prompt_chunk *k = &c->chunk[i];
        k->ids[0] = bos;
        k->ids[1 + k->used] = eos;
        for (int j = k->used + 2; j < window_of(c->opt); j++) k->ids[j] = pad;
    }
}

limn_status limn_prompt_encode(limn_prompt_chunk **chunks, size_t *count, const limn_tokenizer *t,
                               const char *text, size_t n, const limn_prompt_encode_options *opt,
                               limn_err *err) {
    limn_status st = LIMN_OK;
    chunker c = {.t = t, .opt = opt, .comma = -1, .last_comma = -1, .err = err};
    limn_prompt_piece whole = {text, n, 1.0f}, *piece = &whole;
    size_t pieces = 1;
    limn_arena arena;
    limn_ids ids;
    limn_arena_init(&arena);
    limn_ids_init(&ids, LIMN_PROMPT_BYTES * 8);
    LIMN_CHECK(err, limn_tokenizer_bos(t) >= 0 && limn_tokenizer_eos(t) >= 0, LIMN_E_VALUE,
               "the tokenizer has no begin and end tokens");
    LIMN_CHECK(err, window_of(opt) >= 3 && window_of(opt) <= LIMN_PROMPT_WINDOW, LIMN_E_VALUE,
               "a window of %d tokens: 3..%d are possible", opt->window, LIMN_PROMPT_WINDOW);
    LIMN_CHECK(err, n <= LIMN_PROMPT_BYTES * 4, LIMN_E_LIMIT, "prompt of %zu bytes is too long", n);
    if (!opt->no_emphasis) LIMN_TRY(limn_prompt_emphasis(&piece, &pieces, &arena, text, n, err));
    LIMN_TRY(encode_text(&c, &ids, ",", 1));
    if (ids.len == 1) c.comma = ids.data[0];
    LIMN_TRY(make_triggers(&c, &ids));
    LIMN_TRY(open_chunk(&c));
    for (size_t i = 0; i < pieces; i++) LIMN_TRY(put_piece(&c, &ids, &piece[i]));
    /* A break at the very end opens a chunk that nothing follows. */
    if (c.n > 1 && c.chunk[c.n - 1].used == 0) c.n--;
    close_chunks(&c);
    *chunks = c.chunk;
    *count = c.n;
    c.chunk = NULL;
out:
    for (size_t i = 0; i < c.n_trigger; i++) limn_mem_free(c.trigger[i].ids);
    limn_mem_free(c.trigger);
    limn_mem_free(c.chunk);
    limn_ids_deinit(&ids);
    limn_arena_deinit(&arena);
    return st;
}
