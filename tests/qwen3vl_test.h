/* SPDX-License-Identifier: MIT */
/* The tiny Qwen3-VL of tests/golden/qwen3vl as a test has it: opening it, encoding its pictures,
 * making prompts (with one mistake, if asked), comparing stages. Include after cmocka.h. */
#ifndef LIMN_TESTS_QWEN3VL_TEST_H
#define LIMN_TESTS_QWEN3VL_TEST_H

#include "formats/canon.h"
#include "golden_net.h"
#include "models/decoder.h"
#include "models/kv_cache.h"
#include "models/model_weights.h"
#include "models/qwen3vl_host.h"
#include "models/qwen3vl_vision.h"
#include "models/rope_table.h"

enum { TOKENS = 32, MEDIA = 4, DEEP = 3 };

static const char *const cases[] = {"text", "square", "wide",   "tall",   "large", "two",
                                    "last", "video1", "video2", "video3", "mixed"};
enum { N_CASES = sizeof cases / sizeof cases[0] };

/* ---- fixtures ---- */
typedef struct model {
    limn_vl_config cfg;
    limn_weights *file, *text, *vision;
    limn_model_weights *text_weights, *vision_weights;
} model;

static inline void model_open(model *m, const char *weights, const char *config) {
    limn_err err = {0};
    char *json = golden_text(config);
    assert_non_null(json);
    *m = (model){.file = golden_open(weights)};
    GOLDEN_OK(limn_vl_config_parse(&m->cfg, json, &err));
    GOLDEN_OK(limn_canon_llm(&m->text, m->file, &err));
    GOLDEN_OK(limn_model_weights_new(&m->text_weights, m->text, &err));
    if (m->cfg.has_vision) {
        GOLDEN_OK(limn_canon_vision(&m->vision, m->file, &err));
        assert_null(limn_weights_meta_str(m->vision, "limn.unmapped"));
        GOLDEN_OK(limn_model_weights_new(&m->vision_weights, m->vision, &err));
    }
    free(json);
}

static inline void model_close(model *m) {
    limn_model_weights_free(&m->text_weights);
    limn_model_weights_free(&m->vision_weights);
    limn_weights_unref(&m->text);
    limn_weights_unref(&m->vision);
    limn_weights_unref(&m->file);
}

/* What may be done wrong, one at a time; 0: nothing. */
typedef enum mutation {
    RIGHT,
    NO_ALIGN_CORNERS,
    MEAN_STD_CLIP,
    RASTER_ORDER,
    ROW_COL_SWAPPED,
    NO_SECOND_FRAME,
    DEEPSTACK_OFF,
    DEEPSTACK_SHIFTED,
    SECTIONED_ROPE,
    ADVANCE_BY_AREA,
    MUTATIONS
} mutation;

/* A prompt ready for the decoder. */
typedef struct prompt {
    int64_t n, width;
    int32_t *ids, *pos, next; /* pos [3, n] */
    float *embeds, *deep[DEEP];
} prompt;

static inline void prompt_free(prompt *p) {
    free(p->ids);
    free(p->pos);
    free(p->embeds);
    for (int i = 0; i < DEEP; i++) free(p->deep[i]);
}

static const limn_tensor *part(const limn_weights *io, const char *name, const char *key) {
    char text[96];
    snprintf(text, sizeof text, "%s/%s", name, key);
    return golden_get(io, text, "");
}

static const limn_tensor *medium(const limn_weights *io, const char *name, int i, const char *key) {
    return limn_weights_findf(io, "%s/media.%d/%s", name, i, key);
}

/* All rows but `spare` must be within the tolerance of the largest value. */
static inline void compare_rows(const char *what, const golden_backend *b, const float *y,
                                const limn_tensor *want, int64_t row0, int64_t rows,
                                double tolerance, int64_t spare) {
    int64_t cols = want->shape.dim[1], apart = 0;
    const float *w = (const float *)want->data + row0 * cols;
    double top = 0, worst = 0;
    for (int64_t i = 0; i < rows * cols; i++) top = fmax(top, fabs(w[i]));
    for (int64_t r = 0; r < rows; r++) {
        double e = 0;
        for (int64_t i = r * cols; i < (r + 1) * cols; i++)
            e = isfinite(y[i]) ? fmax(e, fabs((double)y[i] - w[i]) / top) : INFINITY;
        apart += e > tolerance;
        worst = fmax(worst, e);
    }
    if (apart > spare)
        fail_msg("%s on %s: error %g > %g in %d of %d rows", what, b->name, worst, tolerance,
                 (int)apart, (int)rows);
}

static inline void compare(const char *what, const golden_backend *b, const float *y,
                           const limn_tensor *want, int64_t row0, int64_t rows, double tolerance) {
    compare_rows(what, b, y, want, row0, rows, tolerance, 0);
}

/* ---- the tower ---- */
typedef struct encoded {
    int64_t rows; /* merged, of all slices */
    float *merged, *deep[DEEP];
} encoded;

static inline void encoded_free(encoded *e) {
    free(e->merged);
    for (int i = 0; i < DEEP; i++) free(e->deep[i]);
}

static inline float *output_copy(limn_program *p, const char *name) {
    limn_shape s;
    const float *y = limn_program_output(p, name, &s);
    if (!y) fail_msg("no output %s", name);
    size_t bytes = (size_t)limn_shape_count(&s) * sizeof *y;
    float *copy = malloc(bytes);
    memcpy(copy, y, bytes);
    return copy;
}

static inline void swap_inputs(float *a, float *b, size_t n) {
    for (size_t i = 0; i < n; i++) {
        float t = a[i];
        a[i] = b[i];
        b[i] = t;
    }
}

/* What the named mistakes do to the inputs of the tower. */
static inline void spoil_inputs(limn_program *p, mutation m, const model *mod, int rows, int cols,
                                int slices) {
    limn_err err = {0};
    const limn_vision_config *v = &mod->cfg.vision;
    int n = rows * cols, half = v->width / v->heads / 2;
    float *px = limn_program_input(p, "patches", NULL), *pos = limn_program_input(p, "pos", NULL);
    float *cosines = limn_program_input(p, "cos", NULL),
          *sines = limn_program_input(p, "sin", NULL);
    int64_t values = (int64_t)slices * n * 1536;
    if (m == MEAN_STD_CLIP)
        for (int64_t i = 0; i < values; i++) px[i] = (px[i] * 0.5f + 0.5f - 0.48f) / 0.27f;
    if (m == NO_SECOND_FRAME)
        for (int64_t i = 0; i < values; i++)
            if (i % 512 >= 256) px[i] = 0;
    if (m == RASTER_ORDER) /* patches 1 and 2 of the first block: what a raster of width 2 gives */
        for (int i = 0; i + 3 < n; i += 4)
            swap_inputs(px + (i + 1) * 1536, px + (i + 2) * 1536, 1536);
    if (m == ROW_COL_SWAPPED)
        for (int i = 0; i < n; i++) {
            swap_inputs(cosines + i * half, cosines + i * half + half / 2, (size_t)half / 2);
            swap_inputs(sines + i * half, sines + i * half + half / 2, (size_t)half / 2);
        }
    if (m == NO_ALIGN_CORNERS) { /* half-pixel centres: as if the grid lay half a step inside */
        float *a = malloc((size_t)(rows + 2) * (size_t)(cols + 2) * (size_t)v->width * sizeof *a);
        GOLDEN_OK(limn_vision_positions(a, limn_weights_find(mod->vision, "pos_embed.weight"),
                                        rows + 2, cols + 2, v, &err));
        memcpy(pos, a, (size_t)n * (size_t)v->width * sizeof *a);
        free(a);
    }
}

static inline void tower_compare(limn_program *p, const golden_backend *b,
                                 const limn_vision_config *v, const limn_weights *io,
                                 const char *name, int64_t patch0, int64_t patches) {
    char out[64], key[64];
    if (!limn_weights_findf(io, "%s/vision/merger", name)) return;
    compare("patch embedding", b, limn_program_output(p, "patch_embed", NULL),
            part(io, name, "vision/patch_embed"), patch0, patches, b->tolerance);
    for (int i = 0; i < v->depth; i++) {
        snprintf(out, sizeof out, "block.%d", i);
        snprintf(key, sizeof key, "vision/blocks.%d", i);
        compare(key, b, limn_program_output(p, out, NULL), part(io, name, key), patch0, patches,
                b->tolerance);
    }
    for (int i = 0; i < v->n_deepstack; i++) {
        snprintf(out, sizeof out, "deepstack.%d", i);
        snprintf(key, sizeof key, "vision/deepstack_merger_list.%d", i);
        compare(key, b, limn_program_output(p, out, NULL), part(io, name, key), patch0 / 4,
                patches / 4, b->tolerance);
    }
    compare("merger", b, limn_program_output(p, "merged", NULL), part(io, name, "vision/merger"),
            patch0 / 4, patches / 4, b->tolerance);
}

/* Encodes medium i; with `io` rows compared from patch0 of the joined goldens on. */
static inline encoded encode(const model *m, limn_backend *backend, const golden_backend *b,
                             const limn_weights *io, const char *name, int i, int64_t patch0,
                             mutation mut) {
    limn_err err = {0};
    limn_graph *g = NULL;
    limn_program *p = NULL;
    const limn_vision_config *v = &m->cfg.vision;
    const int32_t *grid = medium(io, name, i, "grid")->data;
    const limn_tensor *pixels = medium(io, name, i, "pixels");
    int slices = grid[1], rows = grid[2], cols = grid[3], n = rows * cols;
    int64_t frame = pixels->shape.dim[1] * pixels->shape.dim[2] * 3,
            last = pixels->shape.dim[0] - 1;
    GOLDEN_OK(limn_graph_new(&g, &err));
    limn_nn nn = {g, limn_model_weights_find, m->vision_weights};
    limn_vision_request r = {slices, rows, cols, true};
    limn_vision_build(&nn, v, &r);
    GOLDEN_OK(limn_program_new(&p, backend, &g, &err));
    float *px = limn_program_input(p, "patches", NULL), *pos = limn_program_input(p, "pos", NULL);
    for (int t = 0; t < slices; t++) {
        const uint8_t *frames = pixels->data;
        int64_t first = 2 * t <= last ? 2 * t : last, second = 2 * t + 1 <= last ? 2 * t + 1 : last;
        limn_vision_patchify(px + (int64_t)t * n * 1536, frames + first * frame,
                             frames + second * frame, rows, cols, v);
        GOLDEN_OK(limn_vision_positions(pos + (int64_t)t * n * v->width,
                                        limn_weights_find(m->vision, "pos_embed.weight"), rows,
                                        cols, v, &err));
    }
    GOLDEN_OK(limn_vision_rope(limn_program_input(p, "cos", NULL),
                               limn_program_input(p, "sin", NULL), rows, cols, v, &err));
    spoil_inputs(p, mut, m, rows, cols, slices);
    GOLDEN_OK(limn_program_run(p, NULL, &err));
    if (b) tower_compare(p, b, v, io, name, patch0, (int64_t)slices * n);
    encoded e = {.rows = slices * n / 4, .merged = output_copy(p, "merged")};
    for (int k = 0; k < v->n_deepstack; k++) {
        char out[32];
        snprintf(out, sizeof out, "deepstack.%d", k);
        e.deep[k] = output_copy(p, out);
    }
    limn_program_free(&p);
    return e;
}

/* Goldens hold images first, then videos: patches before medium i. */
static inline int64_t patches_before(const limn_weights *io, const char *name, int i) {
    const int32_t *mine = medium(io, name, i, "grid")->data;
    int64_t n = 0;
    for (int k = 0; k < MEDIA; k++) {
        const limn_tensor *t = medium(io, name, k, "grid");
        const int32_t *grid = t ? t->data : NULL;
        if (grid && (grid[0] < mine[0] || (grid[0] == mine[0] && k < i)))
            n += (int64_t)grid[1] * grid[2] * grid[3];
    }
    return n;
}

/* ---- prompts ---- */
/* Places of a case, from its ids: runs of picture tokens, a slice of a video each. */
static inline size_t places_of(limn_vision_place *places, const model *m, const limn_weights *io,
                               const char *name) {
    const limn_tensor *ids = part(io, name, "ids");
    const int32_t *id = ids->data;
    size_t n = 0;
    for (int64_t i = 0; i < ids->shape.dim[0]; i++) {
        bool video = id[i] == m->cfg.video_token;
        if (id[i] != m->cfg.image_token && !video) continue;
        for (int k = 0, left = 0; k < MEDIA; k++) { /* the n-th place of its kind */
            const limn_tensor *t = medium(io, name, k, "grid");
            if (!t) break;
            const int32_t *grid = t->data;
            left += grid[1];
            if ((int)n >= left) continue;
            assert_int_equal(grid[0], video ? 2 : 1);
            places[n] = (limn_vision_place){i, grid[2] / 2, grid[3] / 2};
            break;
        }
        i += (int64_t)places[n].rows * places[n].cols - 1;
        n++;
    }
    return n;
}

static inline prompt prompt_make(const model *m, limn_backend *backend, const golden_backend *b,
                                 const limn_weights *io, const char *name, mutation mut) {
    limn_err err = {0};
    limn_vision_place places[16];
    const limn_tensor *ids = part(io, name, "ids");
    int64_t width = m->cfg.text.width, n = ids->shape.dim[0];
    size_t row = (size_t)width * sizeof(float), n_places = places_of(places, m, io, name), at = 0;
    prompt p = {.n = n, .width = width, .ids = malloc((size_t)n * 4)};
    memcpy(p.ids, ids->data, (size_t)n * 4);
    p.pos = malloc((size_t)n * 12);
    p.embeds = malloc((size_t)n * row);
    for (int k = 0; k < DEEP; k++) p.deep[k] = calloc((size_t)n, row);
    GOLDEN_OK(limn_vision_text_positions(p.pos, n, places, n_places, 0, &p.next, &err));
    limn_nn nn = {NULL, limn_model_weights_find, m->text_weights};
    GOLDEN_OK(limn_decoder_embed(p.embeds, &nn, &m->cfg.text, p.ids, n, &err));
    for (int i = 0; i < MEDIA && medium(io, name, i, "grid"); i++) {
        const int32_t *grid = medium(io, name, i, "grid")->data;
        encoded e = encode(m, backend, b, io, name, i, patches_before(io, name, i), mut);
        int64_t per = e.rows / grid[1];
        for (int t = 0; t < grid[1]; t++, at++) {
            memcpy(p.embeds + places[at].at * width, e.merged + t * per * width, (size_t)per * row);
            for (int k = 0; k < DEEP && mut != DEEPSTACK_OFF; k++)
                memcpy(p.deep[(k + (mut == DEEPSTACK_SHIFTED)) % DEEP] + places[at].at * width,
                       e.deep[k] + t * per * width, (size_t)per * row);
        }
        encoded_free(&e);
    }
    assert_int_equal(at, n_places);
    if (mut == ADVANCE_BY_AREA) /* what follows the first picture counts its tokens */
        for (int64_t i = places[0].at + (int64_t)places[0].rows * places[0].cols; i < n; i++)
            for (int axis = 0; axis < 3; axis++)
                p.pos[axis * n + i] += places[0].rows * places[0].cols - places[0].rows;
    return p;
}

/* ---- the decoder ---- */
static inline limn_program *decoder_program(const limn_decoder_config *cfg, limn_model_weights *w,
                                            limn_backend *backend, const limn_decoder_request *r) {
    limn_err err = {0};
    limn_graph *g = NULL;
    limn_program *p = NULL;
    GOLDEN_OK(limn_graph_new(&g, &err));
    limn_nn nn = {g, limn_model_weights_find, w};
    limn_decoder_build(&nn, cfg, r);
    GOLDEN_OK(limn_program_new(&p, backend, &g, &err));
    return p;
}

/* Writes rows [from, from + n) of a prompt into sequence b of a program of chunks of len. */
static inline void chunk_fill(limn_program *p, const limn_decoder_config *cfg, const prompt *pr,
                              int64_t from, int64_t n, int64_t b, int64_t len) {
    size_t row = (size_t)pr->width;
    int64_t half = cfg->rope.dim / 2;
    float *cosines = limn_program_input(p, "cos", NULL),
          *sines = limn_program_input(p, "sin", NULL);
    float *embeds = limn_program_input(p, "embeds", NULL);
    memcpy(embeds + b * len * pr->width, pr->embeds + from * pr->width, (size_t)n * row * 4);
    limn_rope_table(cosines + b * len * half, sines + b * len * half, &cfg->rope, pr->pos + from,
                    pr->n, n);
    for (int k = 0; k < DEEP; k++) {
        char name[32];
        snprintf(name, sizeof name, "deepstack.%d", k);
        float *d = limn_program_input(p, name, NULL);
        if (d) memcpy(d + b * len * pr->width, pr->deep[k] + from * pr->width, (size_t)n * row * 4);
    }
    int32_t *span = limn_program_input(p, "span", NULL),
            *last = limn_program_input(p, "last", NULL);
    if (span) span[2 * b] = (int32_t)from, span[2 * b + 1] = (int32_t)n;
    if (last) last[b] = (int32_t)n - 1;
}

static inline int32_t argmax(const float *x, int64_t n) {
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return (int32_t)best;
}

/* Appends one token at the prompt's next position. */
static inline void prompt_push(prompt *p, const limn_decoder_config *cfg, limn_model_weights *w,
                               int32_t id) {
    limn_err err = {0};
    int64_t n = p->n + 1;
    size_t row = (size_t)p->width * sizeof(float);
    int32_t *pos = malloc((size_t)n * 12);
    for (int a = 0; a < 3; a++) {
        if (p->n > 0) memcpy(pos + a * n, p->pos + a * p->n, (size_t)p->n * 4);
        pos[a * n + p->n] = p->next;
    }
    free(p->pos);
    p->pos = pos;
    p->ids = realloc(p->ids, (size_t)n * 4);
    p->ids[p->n] = id;
    p->embeds = realloc(p->embeds, (size_t)n * row);
    limn_nn nn = {NULL, limn_model_weights_find, w};
    GOLDEN_OK(limn_decoder_embed(p->embeds + p->n * p->width, &nn, cfg, &id, 1, &err));
    for (int k = 0; k < DEEP; k++) {
        p->deep[k] = realloc(p->deep[k], (size_t)n * row);
        memset(p->deep[k] + p->n * p->width, 0, row);
    }
    p->n = n;
    p->next++;
}

/* Prefill in chunks, then one token at a time from the same cache; the logits of the last step go
 * to `last` [vocab]. */
static inline void generate(int32_t *tokens, float *last, const limn_decoder_config *cfg,
                            limn_model_weights *w, limn_backend *backend, prompt *pr,
                            limn_dtype type, int64_t chunk) {
    limn_err err = {0};
    enum { ROWS = 96 };
    limn_kv_cache *cache = NULL;
    GOLDEN_OK(limn_kv_cache_new(&cache, cfg, type, 1, ROWS, &err));
    limn_decoder_request r = {.batch = 1,
                              .len = chunk,
                              .rows = ROWS,
                              .cache = type,
                              .deepstack = cfg->deepstack > 0,
                              .head = LIMN_HEAD_LAST};
    limn_program *many = decoder_program(cfg, w, backend, &r), *one;
    r.len = 1;
    r.deepstack = false;
    one = decoder_program(cfg, w, backend, &r);
    GOLDEN_OK(limn_kv_cache_bind(cache, many, 0, &err));
    GOLDEN_OK(limn_kv_cache_bind(cache, one, 0, &err));
    for (int64_t at = 0; at < pr->n; at += chunk) {
        chunk_fill(many, cfg, pr, at, pr->n - at < chunk ? pr->n - at : chunk, 0, chunk);
        GOLDEN_OK(limn_program_run(many, NULL, &err));
    }
    const float *logits = limn_program_output(many, "logits", NULL);
    for (int i = 0; i < TOKENS; i++) {
        tokens[i] = argmax(logits, cfg->vocab);
        if (i == TOKENS - 1) break;
        prompt_push(pr, cfg, w, tokens[i]);
        chunk_fill(one, cfg, pr, pr->n - 1, 1, 0, 1);
        GOLDEN_OK(limn_program_run(one, NULL, &err));
        logits = limn_program_output(one, "logits", NULL);
    }
    memcpy(last, logits, (size_t)cfg->vocab * sizeof *last);
    limn_program_free(&many);
    limn_program_free(&one);
    limn_kv_cache_free(&cache);
}

/* All layers and logits without a cache. */
/* At the fast precision a token that stands near a tie may go to other experts. */
static int64_t spare_rows(const limn_decoder_config *cfg, const golden_backend *b, int64_t rows) {
    return cfg->experts && b->precision == LIMN_PRECISION_FAST ? rows / 10 : 0;
}

static inline void whole_compare(const model *m, limn_backend *backend, const golden_backend *b,
                                 const limn_weights *io, const char *name, const prompt *pr) {
    limn_err err = {0};
    const limn_decoder_config *cfg = &m->cfg.text;
    static const int taps[] = {1, 2, 3, 4};
    assert_true(cfg->layers <= 4);
    limn_decoder_request r = {.batch = 1,
                              .len = pr->n,
                              .deepstack = true,
                              .head = LIMN_HEAD_ALL,
                              .norm = true,
                              .taps = taps,
                              .n_taps = cfg->layers};
    limn_program *p = decoder_program(cfg, m->text_weights, backend, &r);
    chunk_fill(p, cfg, pr, 0, pr->n, 0, pr->n);
    GOLDEN_OK(limn_program_run(p, NULL, &err));
    bool stages = limn_weights_findf(io, "%s/text/norm", name) != NULL;
    for (int i = 0; stages && i < cfg->layers; i++) {
        char key[32], out[32];
        snprintf(key, sizeof key, "text/layers.%d", i);
        snprintf(out, sizeof out, "hidden.%d", i + 1);
        compare_rows(key, b, limn_program_output(p, out, NULL), part(io, name, key), 0, pr->n,
                     b->tolerance, spare_rows(cfg, b, pr->n));
    }
    if (stages)
        compare_rows("norm", b, limn_program_output(p, "norm", NULL), part(io, name, "text/norm"),
                     0, pr->n, b->tolerance, spare_rows(cfg, b, pr->n));
    const limn_tensor *want = part(io, name, "logits");
    int64_t rows = want->shape.dim[0];
    compare_rows("logits", b,
                 limn_program_output(p, "logits", NULL) + (pr->n - rows) * want->shape.dim[1], want,
                 0, rows, 10 * b->tolerance, spare_rows(cfg, b, rows));
    limn_program_free(&p);
}

#endif
