/* SPDX-License-Identifier: MIT */
/* Reading texts; see reader.h. */
#include "pipeline/reader.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "kernels/quant_panel.h"
#include "models/decoder.h"
#include "models/kv_cache.h"
#include "models/rope_table.h"

enum { LADDER = 9, DEFAULT_CHUNK = 512, MOST_SEQUENCES = 4096, BATCHES = 13 };

struct limn_reader {
    limn_backend *backend;
    limn_model_weights *weights;
    limn_decoder_config cfg;
    limn_kv_cache *cache;
    limn_reader_mark *marks;           /* [sequences]: where each text ends */
    int64_t sequences, len[LADDER];    /* chunk lengths, ascending */
    limn_workspace work;               /* of all programs */
    limn_program *programs[LADDER][2]; /* made when first needed; [1] with pictures */
    int64_t bound[LADDER][2];          /* sequence + 1 that a program is bound to; 0: none */
    limn_program *batches[BATCHES];    /* one token for 2^k (or all) neighbouring sequences */
    int64_t batch_bound[BATCHES];
    limn_program *scorer; /* logits of every row of branches */
    int64_t scorer_bound;
    limn_program *guesser; /* logits of every one of LIMN_READER_GUESSES rows */
    int64_t guesser_bound;
    int64_t tried;  /* tokens behind a text that limn_reader_accept may take */
    int64_t looked; /* rows of the token embedding that were read since its pages were dropped */
};

/* Rows of the token embedding lie in their file. A look-up may bring FAULT_BYTES around its row
 * into memory: after LOOKED_MAX of them the pages are given back. */
enum { LOOKED_MAX = 512, FAULT_BYTES = 1 << 16 };

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
    LIMN_CHECK(err, opt->context > 0 && opt->context <= INT32_MAX && r->sequences <= MOST_SEQUENCES,
               LIMN_E_LIMIT, "a context of %lld positions for %lld texts", (long long)opt->context,
               (long long)r->sequences);
    const int64_t steps[LADDER] = {1, 4, 8, 12, 16, 24, 32, 64, chunk};
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
    for (int k = 0; k < BATCHES; k++) limn_program_free(&r->batches[k]);
    limn_program_free(&r->scorer);
    limn_program_free(&r->guesser);
    limn_workspace_free(&r->work);
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
    r->tried = 0;
    r->marks[sequence] = mark;
}

void limn_reader_fork(limn_reader *r, int64_t to, int64_t from, limn_reader_mark mark) {
    assert(mark.length >= 0 && mark.length <= r->marks[from].length);
    limn_kv_cache_copy(r->cache, to, from, mark.length);
    r->tried = 0;
    r->marks[to] = mark;
}

static limn_status program_make(limn_program **out, limn_reader *r, int64_t batch, int64_t len,
                                bool pictures, limn_err *err) {
    limn_graph *g = NULL;
    limn_decoder_request req = {.batch = batch,
                                .len = len,
                                .rows = limn_kv_cache_rows(r->cache),
                                .cache = limn_kv_cache_type(r->cache),
                                .deepstack = pictures,
                                .head = LIMN_HEAD_LAST};
    limn_status st = limn_graph_new(&g, err);
    if (st != LIMN_OK) return st;
    limn_nn nn = {g, limn_model_weights_find, r->weights};
    limn_decoder_build(&nn, &r->cfg, &req);
    return limn_program_new_in(out, r->backend, &g, &r->work, err);
}

/* The program of a step, made when first needed, bound to a text. */
static limn_status program_get(limn_program **out, limn_reader *r, int step, bool pictures,
                               int64_t sequence, limn_err *err) {
    limn_program **p = &r->programs[step][pictures];
    limn_status st = LIMN_OK;
    if (!*p) LIMN_TRY(program_make(p, r, 1, r->len[step], pictures, err));
    if (r->bound[step][pictures] != sequence + 1) {
        LIMN_TRY(limn_kv_cache_bind(r->cache, *p, sequence, err));
        r->bound[step][pictures] = sequence + 1;
    }
    *out = *p;
out:
    return st;
}

static limn_status embed(float *embeds, limn_reader *r, const int32_t *ids, int64_t n,
                         limn_err *err) {
    limn_nn nn = {NULL, limn_model_weights_find, r->weights};
    const limn_weights *set = limn_model_weights_set(r->weights);
    r->looked += n;
    if (r->looked > LOOKED_MAX) {
        const limn_tensor *t = limn_weights_find(set, "embed_tokens.weight");
        if (t) limn_weights_drop(set, t);
        r->looked = n;
    }
    return limn_decoder_embed(embeds, &nn, &r->cfg, ids, n, err);
}

/* Tokens [from, from + n) of the text, as inputs of a chunk program. */
typedef struct chunk {
    limn_reader *r;
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
    limn_status st = embed(embeds, c->r, t->ids + c->from, c->n, err);
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

/* The shortest program that takes all of n, unless a third of its rows would be for nothing: then
 * the longest that n fills, and the rest by another. */
static int step_for(const limn_reader *r, int64_t n) {
    int i = 0;
    while (i + 1 < LADDER && r->len[i] < n) i++;
    while (i > 0 && 2 * r->len[i] > 3 * n) i--;
    return i;
}

static int32_t largest(const int32_t *v, int64_t n, int32_t least) {
    for (int64_t i = 0; i < n; i++)
        if (v[i] >= least) least = v[i] + 1;
    return least;
}

struct limn_reader_feed {
    limn_reader *r;
    const limn_reader_text *text;
    int64_t sequence, at;
    int32_t next; /* position after the text */
    int32_t *pos; /* [3, text->n] */
};

static limn_status text_check(const limn_reader *r, int64_t sequence, const limn_reader_text *text,
                              limn_err *err) {
    limn_status st = LIMN_OK;
    LIMN_CHECK(err, text->n >= 1, LIMN_E_VALUE, "a text without tokens");
    LIMN_CHECK(err, text->n <= limn_reader_room(r, sequence), LIMN_E_CONTEXT,
               "%lld tokens more than the context holds: %lld are there, %lld were to follow, "
               "the context is %lld",
               (long long)(text->n - limn_reader_room(r, sequence)),
               (long long)r->marks[sequence].length, (long long)text->n,
               (long long)limn_kv_cache_rows(r->cache));
    for (size_t i = 0; i < text->n_places; i++)
        for (int k = 0; k < r->cfg.deepstack; k++)
            LIMN_CHECK(err, text->pictures[i].merged && text->pictures[i].deepstack[k],
                       LIMN_E_VALUE, "picture %zu lacks rows of the vision tower", i);
out:
    return st;
}

limn_status limn_reader_feed_new(limn_reader_feed **out, limn_reader *r, int64_t sequence,
                                 const limn_reader_text *text, limn_err *err) {
    limn_status st = LIMN_OK;
    limn_reader_feed *f = NULL;
    *out = NULL;
    LIMN_TRY(text_check(r, sequence, text, err));
    f = limn_mem_calloc(1, sizeof *f);
    LIMN_CHECK(err, f, LIMN_E_NOMEM, "no memory for a text");
    *f = (limn_reader_feed){.r = r, .text = text, .sequence = sequence};
    f->pos = limn_mem_alloc((size_t)text->n * 3 * sizeof *f->pos);
    LIMN_CHECK(err, f->pos, LIMN_E_NOMEM, "no memory for %lld positions", (long long)text->n);
    LIMN_TRY(limn_vision_text_positions(f->pos, text->n, text->places, text->n_places,
                                        r->marks[sequence].position, &f->next, err));
    *out = f;
    f = NULL;
out:
    limn_reader_feed_free(&f);
    return st;
}

void limn_reader_feed_free(limn_reader_feed **feed) {
    if (!feed || !*feed) return;
    limn_mem_free((*feed)->pos);
    limn_mem_free(*feed);
    *feed = NULL;
}

int64_t limn_reader_feed_done(const limn_reader_feed *f) {
    return f->at;
}

limn_status limn_reader_feed_step(limn_reader_feed *f, const float **logits,
                                  const atomic_bool *cancel, limn_err *err) {
    limn_status st = LIMN_OK;
    limn_reader *r = f->r;
    const limn_reader_text *text = f->text;
    limn_reader_mark *mark = &r->marks[f->sequence];
    int step = step_for(r, text->n - f->at);
    int64_t n = text->n - f->at < r->len[step] ? text->n - f->at : r->len[step];
    chunk c = {r, text, f->pos, f->at, n};
    limn_program *p;
    *logits = NULL;
    r->tried = 0;
    LIMN_TRY(
        program_get(&p, r, step, chunk_has_pictures(&c) && r->cfg.deepstack > 0, f->sequence, err));
    LIMN_TRY(chunk_fill(p, &c, mark, err));
    LIMN_TRY(limn_program_run(p, cancel, err));
    f->at += n;
    mark->length += n;
    /* a chunk may end inside a picture: what was read so far says where the text stands */
    for (int axis = 0; axis < 3; axis++)
        mark->position = largest(f->pos + axis * text->n + f->at - n, n, mark->position);
    if (f->at < text->n) goto out;
    *logits = limn_program_output(p, "logits", NULL);
    mark->position = f->next;
out:
    return st;
}

limn_status limn_reader_read(limn_reader *r, int64_t sequence, const limn_reader_text *text,
                             const float **logits, const atomic_bool *cancel, limn_err *err) {
    limn_reader_feed *f;
    *logits = NULL;
    limn_status st = limn_reader_feed_new(&f, r, sequence, text, err);
    while (st == LIMN_OK && f->at < text->n) st = limn_reader_feed_step(f, logits, cancel, err);
    limn_reader_feed_free(&f);
    return st;
}

/* ---- one token for each of several texts ---- */

/* The program for `batch` = 2^k neighbouring sequences from `first` on. */
static limn_status batch_get(limn_program **out, limn_reader *r, int k, int64_t batch,
                             int64_t first, limn_err *err) {
    limn_status st = LIMN_OK;
    if (!r->batches[k]) LIMN_TRY(program_make(&r->batches[k], r, batch, 1, false, err));
    if (r->batch_bound[k] != first + 1) {
        LIMN_TRY(limn_kv_cache_bind(r->cache, r->batches[k], first, err));
        r->batch_bound[k] = first + 1;
    }
    *out = r->batches[k];
out:
    return st;
}

limn_status limn_reader_step(limn_reader *r, size_t n, const int64_t *sequences, const int32_t *ids,
                             const float **logits, const atomic_bool *cancel, limn_err *err) {
    limn_status st = LIMN_OK;
    limn_program *p;
    int64_t low = INT64_MAX, high = 0, batch = 1, width = r->cfg.width, half = r->cfg.rope.dim / 2;
    int k = 0;
    r->tried = 0;
    for (size_t i = 0; i < n; i++) {
        low = sequences[i] < low ? sequences[i] : low;
        high = sequences[i] > high ? sequences[i] : high;
        LIMN_CHECK(err, limn_reader_room(r, sequences[i]) > 0, LIMN_E_CONTEXT,
                   "the context of %lld tokens is full", (long long)limn_kv_cache_rows(r->cache));
    }
    while (batch < high - low + 1) batch *= 2, k++;
    if (batch > r->sequences) batch = r->sequences;
    if (low + batch > r->sequences) low = r->sequences - batch;
    LIMN_TRY(batch_get(&p, r, k, batch, low, err));
    float *embeds = limn_program_input(p, "embeds", NULL),
          *sines = limn_program_input(p, "sin", NULL),
          *cosines = limn_program_input(p, "cos", NULL);
    int32_t *span = limn_program_input(p, "span", NULL),
            *last = limn_program_input(p, "last", NULL);
    for (int64_t b = 0; b < batch; b++) { /* texts that wait store nothing and see nothing */
        span[2 * b] = (int32_t)r->marks[low + b].length;
        span[2 * b + 1] = 0;
        last[b] = 0;
    }
    for (size_t i = 0; i < n; i++) {
        int64_t b = sequences[i] - low;
        int32_t at = r->marks[sequences[i]].position, pos[3] = {at, at, at};
        span[2 * b + 1] = 1;
        LIMN_TRY(embed(embeds + b * width, r, ids + i, 1, err));
        limn_rope_table(cosines + b * half, sines + b * half, &r->cfg.rope, pos, 1, 1);
    }
    LIMN_TRY(limn_program_run(p, cancel, err));
    const float *rows = limn_program_output(p, "logits", NULL);
    for (size_t i = 0; i < n; i++) {
        r->marks[sequences[i]].length++;
        r->marks[sequences[i]].position++;
        logits[i] = rows + (sequences[i] - low) * r->cfg.vocab;
    }
out:
    return st;
}

/* ---- guesses ---- */

static limn_status all_rows_make(limn_program **out, limn_reader *r, int64_t len, bool branches,
                                 limn_err *err);

static limn_status guesser_get(limn_reader *r, int64_t sequence, limn_err *err) {
    limn_status st = LIMN_OK;
    if (!r->guesser) LIMN_TRY(all_rows_make(&r->guesser, r, LIMN_READER_GUESSES, false, err));
    if (r->guesser_bound != sequence + 1)
        LIMN_TRY(limn_kv_cache_bind(r->cache, r->guesser, sequence, err));
    r->guesser_bound = sequence + 1;
out:
    return st;
}

/* Whether each weight's products give a row the same bits alone and among others: all that have one
 * kernel for any number of rows (docs/PRECISION.md). */
bool limn_reader_is_exact(const limn_reader *r, bool expanded) {
    const limn_weights *set = limn_model_weights_set(r->weights);
    for (size_t i = 0; i < limn_weights_count(set); i++) {
        const limn_tensor *t = limn_weights_at(set, i);
        if (!limn_dtype_get(t->dtype)->quantised || t->shape.ndim < 2) continue;
        if (expanded || t->shape.ndim > 2 || !limn_quant_panel_has(t->dtype)) return false;
    }
    return true;
}

limn_status limn_reader_try(limn_reader *r, int64_t sequence, const int32_t *ids, int64_t n,
                            const float **logits, const atomic_bool *cancel, limn_err *err) {
    limn_status st = LIMN_OK;
    limn_program *p;
    const limn_reader_mark *mark = &r->marks[sequence];
    int32_t pos[3 * LIMN_READER_GUESSES];
    r->tried = 0;
    LIMN_CHECK(err, n >= 1 && n <= LIMN_READER_GUESSES && n <= limn_reader_room(r, sequence),
               LIMN_E_LIMIT, "%lld guessed tokens: at most %d, and %lld fit the context",
               (long long)n, LIMN_READER_GUESSES, (long long)limn_reader_room(r, sequence));
    LIMN_TRY(guesser_get(r, sequence, err));
    p = r->guesser;
    LIMN_TRY(embed(limn_program_input(p, "embeds", NULL), r, ids, n, err));
    for (int64_t i = 0; i < 3 * n; i++) pos[i] = mark->position + (int32_t)(i % n);
    limn_rope_table(limn_program_input(p, "cos", NULL), limn_program_input(p, "sin", NULL),
                    &r->cfg.rope, pos, n, n);
    int32_t *span = limn_program_input(p, "span", NULL);
    span[0] = (int32_t)mark->length;
    span[1] = (int32_t)n;
    LIMN_TRY(limn_program_run(p, cancel, err));
    const float *rows = limn_program_output(p, "logits", NULL);
    for (int64_t i = 0; i < n; i++) logits[i] = rows + i * r->cfg.vocab;
    r->tried = n;
out:
    return st;
}

void limn_reader_accept(limn_reader *r, int64_t sequence) {
    assert(r->tried > 0);
    r->tried--;
    r->marks[sequence].length++;
    r->marks[sequence].position++;
}

/* ---- several ways to go on ---- */

enum { SCORE_ROWS = 32 };

/* The log-probability of an id; adds it to *sum. */
static limn_status score_add(double *sum, const limn_reader *r, const float *logits, int32_t usable,
                             int32_t id, limn_err *err) {
    int32_t n = usable > 0 && usable < r->cfg.vocab ? usable : r->cfg.vocab;
    double top = -INFINITY, all = 0;
    if (id < 0 || id >= n)
        return limn_fail(err, LIMN_E_VALUE, "token id %d is outside the vocabulary of %d", id, n);
    for (int32_t i = 0; i < n; i++) top = logits[i] > top ? logits[i] : top;
    for (int32_t i = 0; i < n; i++) all += exp((double)logits[i] - top);
    *sum += (double)logits[id] - top - log(all);
    return LIMN_OK;
}

/* A program that gives the logits of each of `len` rows. */
static limn_status all_rows_make(limn_program **out, limn_reader *r, int64_t len, bool branches,
                                 limn_err *err) {
    limn_graph *g = NULL;
    limn_decoder_request req = {.batch = 1,
                                .len = len,
                                .rows = limn_kv_cache_rows(r->cache),
                                .cache = limn_kv_cache_type(r->cache),
                                .branches = branches,
                                .head = LIMN_HEAD_ALL};
    limn_status st = limn_graph_new(&g, err);
    if (st != LIMN_OK) return st;
    limn_nn nn = {g, limn_model_weights_find, r->weights};
    limn_decoder_build(&nn, &r->cfg, &req);
    return limn_program_new_in(out, r->backend, &g, &r->work, err);
}

static limn_status scorer_get(limn_reader *r, int64_t sequence, limn_err *err) {
    limn_status st = LIMN_OK;
    if (!r->scorer) LIMN_TRY(all_rows_make(&r->scorer, r, SCORE_ROWS, true, err));
    if (r->scorer_bound != sequence + 1)
        LIMN_TRY(limn_kv_cache_bind(r->cache, r->scorer, sequence, err));
    r->scorer_bound = sequence + 1;
out:
    return st;
}

/* Branches [0, n) in one pass: all ids but the last of each are rows. */
static limn_status score_together(limn_reader *r, int64_t sequence, int32_t usable,
                                  limn_reader_branch *branches, size_t n, const atomic_bool *cancel,
                                  limn_err *err) {
    limn_status st;
    const limn_reader_mark *mark = &r->marks[sequence];
    int64_t used = 0, width = r->cfg.width, half = r->cfg.rope.dim / 2;
    r->tried = 0;
    LIMN_TRY(scorer_get(r, sequence, err));
    float *embeds = limn_program_input(r->scorer, "embeds", NULL),
          *cosines = limn_program_input(r->scorer, "cos", NULL),
          *sines = limn_program_input(r->scorer, "sin", NULL);
    int32_t *span = limn_program_input(r->scorer, "span", NULL);
    memset(span, 0, (2 + SCORE_ROWS) * sizeof *span);
    for (size_t i = 0; i < n; i++) {
        int64_t begin = used;
        for (int64_t k = 0; k + 1 < branches[i].n; k++, used++) {
            int32_t at = mark->position + (int32_t)k, pos[3] = {at, at, at};
            LIMN_TRY(embed(embeds + used * width, r, branches[i].ids + k, 1, err));
            limn_rope_table(cosines + used * half, sines + used * half, &r->cfg.rope, pos, 1, 1);
            span[2 + used] = (int32_t)begin;
        }
    }
    span[0] = (int32_t)mark->length;
    span[1] = (int32_t)used;
    LIMN_TRY(limn_program_run(r->scorer, cancel, err));
    const float *logits = limn_program_output(r->scorer, "logits", NULL);
    for (size_t i = 0; i < n; i++)
        for (int64_t k = 1; k < branches[i].n; k++, logits += r->cfg.vocab)
            LIMN_TRY(score_add(&branches[i].sum, r, logits, usable, branches[i].ids[k], err));
out:
    return st;
}

/* A branch of more rows than fit: token by token, and back. */
static limn_status score_long(limn_reader *r, int64_t sequence, int32_t usable,
                              limn_reader_branch *b, const atomic_bool *cancel, limn_err *err) {
    limn_reader_mark mark = r->marks[sequence];
    limn_status st = LIMN_OK;
    for (int64_t k = 1; k < b->n && st == LIMN_OK; k++) {
        const float *logits;
        limn_reader_text one = {.ids = b->ids + k - 1, .n = 1};
        st = limn_reader_read(r, sequence, &one, &logits, cancel, err);
        if (st == LIMN_OK) st = score_add(&b->sum, r, logits, usable, b->ids[k], err);
    }
    limn_reader_set_mark(r, sequence, mark);
    return st;
}

limn_status limn_reader_score(limn_reader *r, int64_t sequence, const float *logits, int32_t usable,
                              limn_reader_branch *branches, size_t n, const atomic_bool *cancel,
                              limn_err *err) {
    limn_status st = LIMN_OK;
    int64_t room = limn_reader_room(r, sequence), most = room < SCORE_ROWS ? room : SCORE_ROWS;
    for (size_t i = 0; i < n; i++) {
        branches[i].sum = 0;
        LIMN_CHECK(err, branches[i].n >= 1, LIMN_E_VALUE, "a branch without tokens");
        LIMN_CHECK(err, branches[i].n - 1 <= room, LIMN_E_CONTEXT,
                   "%lld tokens do not fit what is left of the context, %lld",
                   (long long)branches[i].n - 1, (long long)room);
        LIMN_TRY(score_add(&branches[i].sum, r, logits, usable, branches[i].ids[0], err));
    }
    for (size_t i = 0, end; i < n; i = end) {
        int64_t rows = branches[i].n - 1;
        end = i + 1;
        if (rows > most) {
            LIMN_TRY(score_long(r, sequence, usable, &branches[i], cancel, err));
            continue;
        }
        while (end < n && rows + branches[end].n - 1 <= most) rows += branches[end++].n - 1;
        if (rows > 0)
            LIMN_TRY(score_together(r, sequence, usable, branches + i, end - i, cancel, err));
    }
out:
    return st;
}

/* ---- memory ---- */

/* *most: at least what the program's intermediate results take. */
static limn_status plan_most(size_t *most, const limn_reader *r, limn_decoder_request req,
                             limn_err *err) {
    limn_graph *g = NULL;
    limn_plan *plan = NULL;
    limn_plan_options o = r->backend->v->plan_options(r->backend);
    req.rows = limn_kv_cache_rows(r->cache);
    req.cache = limn_kv_cache_type(r->cache);
    limn_status st = limn_graph_new(&g, err);
    if (st != LIMN_OK) return st;
    limn_nn nn = {g, limn_model_weights_find, r->weights};
    limn_decoder_build(&nn, &r->cfg, &req);
    st = limn_plan_build(&plan, &g, &o, err);
    if (st == LIMN_OK && plan->arena_bytes > *most) *most = plan->arena_bytes;
    limn_plan_free(&plan);
    return st;
}

/* What look-ups of the token embedding may bring into memory. */
static size_t embedding_pages(const limn_reader *r) {
    const limn_weights *set = limn_model_weights_set(r->weights);
    const limn_tensor *t = limn_weights_find(set, "embed_tokens.weight");
    size_t bytes = 0, most = (size_t)(LOOKED_MAX + r->len[LADDER - 1]) * FAULT_BYTES;
    if (t && !limn_tensor_bytes(&bytes, t->dtype, &t->shape)) bytes = 0;
    return bytes < most ? bytes : most;
}

limn_status limn_reader_need(size_t *bytes, const limn_reader *r, limn_err *err) {
    limn_status st = LIMN_OK;
    size_t work = 0;
    for (int i = 0; i < LADDER; i++)
        for (int k = 0; k < (r->cfg.deepstack > 0 ? 2 : 1); k++)
            LIMN_TRY(plan_most(
                &work, r,
                (limn_decoder_request){
                    .batch = 1, .len = r->len[i], .deepstack = k > 0, .head = LIMN_HEAD_LAST},
                err));
    LIMN_TRY(plan_most(
        &work, r, (limn_decoder_request){.batch = r->sequences, .len = 1, .head = LIMN_HEAD_LAST},
        err));
    LIMN_TRY(plan_most(&work, r,
                       (limn_decoder_request){
                           .batch = 1, .len = SCORE_ROWS, .branches = true, .head = LIMN_HEAD_ALL},
                       err));
    LIMN_TRY(plan_most(
        &work, r,
        (limn_decoder_request){.batch = 1, .len = LIMN_READER_GUESSES, .head = LIMN_HEAD_ALL},
        err));
    *bytes = limn_kv_cache_bytes(&r->cfg, limn_kv_cache_type(r->cache), r->sequences,
                                 limn_kv_cache_rows(r->cache)) +
             embedding_pages(r) + work;
out:
    return st;
}

size_t limn_reader_bytes(const limn_reader *r) {
    return r->work.bytes + limn_kv_cache_bytes(&r->cfg, limn_kv_cache_type(r->cache), r->sequences,
                                               limn_kv_cache_rows(r->cache));
}
