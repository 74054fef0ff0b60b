/* SPDX-License-Identifier: MIT */
/* Reading texts; see reader.h. */
#include "pipeline/reader.h"

#include <assert.h>
#include <stdio.h>

#include "models/decoder.h"
#include "models/kv_cache.h"
#include "models/rope_table.h"

enum { LADDER = 4, DEFAULT_CHUNK = 256 };

struct limn_reader {
    limn_backend *backend;
    limn_model_weights *weights;
    limn_decoder_config cfg;
    limn_kv_cache *cache;
    limn_reader_mark *marks;           /* [sequences]: where each text ends */
    int64_t sequences, len[LADDER];    /* chunk lengths, ascending */
    limn_program *programs[LADDER][2]; /* made when first needed; [1] with pictures */
    int64_t bound[LADDER][2];          /* sequence + 1 that a program is bound to; 0: none */
};

limn_status limn_reader_new(limn_reader **out, limn_backend *b, limn_model_weights *w,
                            const limn_decoder_config *cfg, const limn_reader_options *opt,
                            limn_err *err) {
    limn_status st = LIMN_OK;
    int64_t chunk = opt->chunk > 0 ? opt->chunk : DEFAULT_CHUNK;
    limn_reader *r = limn_mem_calloc(1, sizeof *r);
    *out = NULL;
    LIMN_CHECK(err, r, LIMN_E_NOMEM, "no memory for a reader");
    r->backend = b;
    r->weights = w;
    r->cfg = *cfg;
    r->sequences = opt->sequences > 0 ? opt->sequences : 1;
    LIMN_CHECK(err, opt->context > 0 && opt->context <= INT32_MAX && r->sequences <= 4096,
               LIMN_E_LIMIT, "a context of %lld positions for %lld texts", (long long)opt->context,
               (long long)r->sequences);
    const int64_t steps[LADDER] = {1, 8, 64, chunk};
    for (int i = 0; i < LADDER; i++) {
        int64_t most = chunk < opt->context ? chunk : opt->context;
        r->len[i] = steps[i] < most ? steps[i] : most;
    }
    r->marks = limn_mem_calloc((size_t)r->sequences, sizeof *r->marks);
    LIMN_CHECK(err, r->marks, LIMN_E_NOMEM, "no memory for a reader");
    LIMN_TRY(limn_kv_cache_new(&r->cache, cfg, opt->cache, r->sequences, opt->context, err));
    *out = r;
    r = NULL;
out:
    limn_reader_free(&r);
    return st;
}

void limn_reader_free(limn_reader **reader) {
    limn_reader *r = reader ? *reader : NULL;
    if (!r) return;
    for (int i = 0; i < LADDER; i++)
        for (int k = 0; k < 2; k++) limn_program_free(&r->programs[i][k]);
    limn_kv_cache_free(&r->cache);
    limn_mem_free(r->marks);
    limn_mem_free(r);
    *reader = NULL;
}

const limn_decoder_config *limn_reader_config(const limn_reader *r) {
    return &r->cfg;
}
int64_t limn_reader_length(const limn_reader *r, int64_t sequence) {
    return r->marks[sequence].length;
}
int64_t limn_reader_room(const limn_reader *r, int64_t sequence) {
    return limn_kv_cache_rows(r->cache) - r->marks[sequence].length;
}

limn_reader_mark limn_reader_get_mark(const limn_reader *r, int64_t sequence) {
    return r->marks[sequence];
}

void limn_reader_set_mark(limn_reader *r, int64_t sequence, limn_reader_mark mark) {
    assert(mark.length >= 0 && mark.length <= r->marks[sequence].length);
    r->marks[sequence] = mark;
}

void limn_reader_fork(limn_reader *r, int64_t to, int64_t from, limn_reader_mark mark) {
    assert(mark.length >= 0 && mark.length <= r->marks[from].length);
    limn_kv_cache_copy(r->cache, to, from, mark.length);
    r->marks[to] = mark;
}

/* The program of a step, made when first needed, bound to a text. */
static limn_status program_get(limn_program **out, limn_reader *r, int step, bool pictures,
                               int64_t sequence, limn_err *err) {
    limn_graph *g = NULL;
    limn_program **p = &r->programs[step][pictures];
    limn_decoder_request req = {.batch = 1,
                                .len = r->len[step],
                                .rows = limn_kv_cache_rows(r->cache),
                                .cache = limn_kv_cache_type(r->cache),
                                .deepstack = pictures,
                                .head = LIMN_HEAD_LAST};
    limn_status st = LIMN_OK;
    if (!*p) {
        LIMN_TRY(limn_graph_new(&g, err));
        limn_nn nn = {g, limn_model_weights_find, r->weights};
        limn_decoder_build(&nn, &r->cfg, &req);
        LIMN_TRY(limn_program_new(p, r->backend, &g, err));
    }
    if (r->bound[step][pictures] != sequence + 1) {
        LIMN_TRY(limn_kv_cache_bind(r->cache, *p, sequence, err));
        r->bound[step][pictures] = sequence + 1;
    }
    *out = *p;
out:
    return st;
}

/* Tokens [from, from + n) of the text, as inputs of a chunk program. */
typedef struct chunk {
    const limn_reader *r;
    const limn_reader_text *text;
    const int32_t *pos; /* [3, text->n] */
    int64_t from, n;
} chunk;

/* Copies the part of a place's rows that lies in the chunk. */
static void rows_copy(float *to, const float *rows, const limn_vision_place *v, const chunk *c) {
    int64_t width = c->r->cfg.width, first = v->at, end = v->at + (int64_t)v->rows * v->cols;
    if (first < c->from) first = c->from;
    if (end > c->from + c->n) end = c->from + c->n;
    if (first < end)
        memcpy(to + (first - c->from) * width, rows + (first - v->at) * width,
               (size_t)((end - first) * width) * sizeof *to);
}

static bool chunk_has_pictures(const chunk *c) {
    for (size_t i = 0; i < c->text->n_places; i++) {
        const limn_vision_place *v = &c->text->places[i];
        if (v->at < c->from + c->n && v->at + (int64_t)v->rows * v->cols > c->from) return true;
    }
    return false;
}

static limn_status chunk_fill(limn_program *p, const chunk *c, const limn_reader_mark *mark,
                              limn_err *err) {
    const limn_reader *r = c->r;
    const limn_reader_text *t = c->text;
    float *embeds = limn_program_input(p, "embeds", NULL);
    int32_t *span = limn_program_input(p, "span", NULL);
    limn_nn nn = {NULL, limn_model_weights_find, r->weights};
    limn_status st = limn_decoder_embed(embeds, &nn, &r->cfg, t->ids + c->from, c->n, err);
    if (st != LIMN_OK) return st;
    for (size_t i = 0; i < t->n_places; i++)
        rows_copy(embeds, t->pictures[i].merged, &t->places[i], c);
    for (int k = 0; k < r->cfg.deepstack; k++) {
        char name[32];
        limn_shape s;
        snprintf(name, sizeof name, "deepstack.%d", k);
        float *d = limn_program_input(p, name, &s);
        if (!d) continue;
        memset(d, 0, (size_t)limn_shape_count(&s) * sizeof *d);
        for (size_t i = 0; i < t->n_places; i++)
            rows_copy(d, t->pictures[i].deepstack[k], &t->places[i], c);
    }
    limn_rope_table(limn_program_input(p, "cos", NULL), limn_program_input(p, "sin", NULL),
                    &r->cfg.rope, c->pos + c->from, t->n, c->n);
    span[0] = (int32_t)mark->length;
    span[1] = (int32_t)c->n;
    *(int32_t *)limn_program_input(p, "last", NULL) = (int32_t)c->n - 1;
    return LIMN_OK;
}

/* The shortest program that takes all of n, else the longest. */
static int step_for(const limn_reader *r, int64_t n) {
    int i = 0;
    while (i + 1 < LADDER && r->len[i] < n) i++;
    return i;
}

static int32_t largest(const int32_t *v, int64_t n, int32_t least) {
    for (int64_t i = 0; i < n; i++)
        if (v[i] >= least) least = v[i] + 1;
    return least;
}

limn_status limn_reader_read(limn_reader *r, int64_t sequence, const limn_reader_text *text,
                             const float **logits, const atomic_bool *cancel, limn_err *err) {
    limn_status st = LIMN_OK;
    limn_reader_mark *mark = &r->marks[sequence];
    int32_t next, *pos = NULL;
    *logits = NULL;
    LIMN_CHECK(err, text->n >= 1, LIMN_E_VALUE, "a text without tokens");
    LIMN_CHECK(err, text->n <= limn_reader_room(r, sequence), LIMN_E_LIMIT,
               "%lld tokens more than the context holds: %lld are there, %lld were to follow, "
               "the context is %lld",
               (long long)(text->n - limn_reader_room(r, sequence)), (long long)mark->length,
               (long long)text->n, (long long)limn_kv_cache_rows(r->cache));
    for (size_t i = 0; i < text->n_places; i++)
        for (int k = 0; k < r->cfg.deepstack; k++)
            LIMN_CHECK(err, text->pictures[i].merged && text->pictures[i].deepstack[k],
                       LIMN_E_VALUE, "picture %zu lacks rows of the vision tower", i);
    pos = limn_mem_alloc((size_t)text->n * 3 * sizeof *pos);
    LIMN_CHECK(err, pos, LIMN_E_NOMEM, "no memory for %lld positions", (long long)text->n);
    LIMN_TRY(limn_vision_text_positions(pos, text->n, text->places, text->n_places, mark->position,
                                        &next, err));
    for (int64_t at = 0; at < text->n;) {
        int step = step_for(r, text->n - at);
        int64_t n = text->n - at < r->len[step] ? text->n - at : r->len[step];
        chunk c = {r, text, pos, at, n};
        limn_program *p;
        LIMN_TRY(program_get(&p, r, step, chunk_has_pictures(&c) && r->cfg.deepstack > 0, sequence,
                             err));
        LIMN_TRY(chunk_fill(p, &c, mark, err));
        LIMN_TRY(limn_program_run(p, cancel, err));
        at += n;
        mark->length += n;
        /* a chunk may end inside a picture: what was read so far says where the text stands */
        for (int axis = 0; axis < 3; axis++)
            mark->position = largest(pos + axis * text->n + at - n, n, mark->position);
        if (at == text->n) *logits = limn_program_output(p, "logits", NULL);
    }
    mark->position = next;
out:
    limn_mem_free(pos);
    return st;
}
