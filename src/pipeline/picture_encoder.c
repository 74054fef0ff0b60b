/* SPDX-License-Identifier: MIT */
/* Encoding pictures; see picture_encoder.h. */
#include "pipeline/picture_encoder.h"

#include <sodium/crypto_generichash.h>
#include <stdio.h>

#include "models/qwen3vl_vision.h"

enum { PROGRAMS = 2, KEPT_MAX = 4096 };

typedef struct tower {
    limn_program *program;
    int rows, cols; /* patches */
    uint64_t used;
} tower;

struct limn_picture_encoder {
    limn_backend *backend;
    const limn_vl_model *model;
    tower towers[PROGRAMS]; /* of the last sizes */
    limn_picture_rows *kept[KEPT_MAX];
    size_t n_kept, bytes, room;
    uint64_t clock;
};

limn_status limn_picture_encoder_new(limn_picture_encoder **out, limn_backend *b,
                                     const limn_vl_model *m, size_t room, limn_err *err) {
    limn_picture_encoder *e = limn_mem_calloc(1, sizeof *e);
    *out = e;
    if (!e) return limn_fail(err, LIMN_E_NOMEM, "no memory for a picture encoder");
    e->backend = b;
    e->model = m;
    e->room = room;
    return LIMN_OK;
}

void limn_picture_encoder_free(limn_picture_encoder **encoder) {
    limn_picture_encoder *e = encoder ? *encoder : NULL;
    if (!e) return;
    for (int i = 0; i < PROGRAMS; i++) limn_program_free(&e->towers[i].program);
    for (size_t i = 0; i < e->n_kept; i++) limn_picture_rows_unref(&e->kept[i]);
    limn_mem_free(e);
    *encoder = NULL;
}

/* ---- kept rows ---- */

void limn_picture_key_make(limn_picture_key *key, const limn_picture_pixels *px) {
    crypto_generichash_state h;
    const int32_t head[3] = {px->height, px->width, px->second != px->first};
    unsigned long long n = (unsigned long long)px->height * (unsigned long long)px->width * 3;
    crypto_generichash_init(&h, NULL, 0, LIMN_PICTURE_KEY);
    crypto_generichash_update(&h, (const unsigned char *)head, sizeof head);
    crypto_generichash_update(&h, px->first, n);
    if (px->second != px->first) crypto_generichash_update(&h, px->second, n);
    crypto_generichash_final(&h, key->bytes, LIMN_PICTURE_KEY);
}

void limn_picture_rows_unref(limn_picture_rows **rows) {
    limn_picture_rows *r = rows ? *rows : NULL;
    if (!r) return;
    *rows = NULL;
    if (--r->refs > 0) return;
    limn_mem_free((void *)(uintptr_t)r->rows.merged); /* the first of one block */
    limn_mem_free(r);
}

limn_picture_rows *limn_picture_encoder_find(limn_picture_encoder *e, const limn_picture_key *key) {
    for (size_t i = 0; i < e->n_kept; i++) {
        limn_picture_rows *r = e->kept[i];
        if (memcmp(&r->key, key, sizeof *key) != 0) continue;
        r->used = ++e->clock;
        r->refs++;
        return r;
    }
    return NULL;
}

/* Room for `bytes` more: what was not used for longest goes. */
static bool room_make(limn_picture_encoder *e, size_t bytes) {
    if (bytes > e->room) return false;
    while (e->n_kept == KEPT_MAX || e->bytes > e->room - bytes) {
        size_t oldest = 0;
        for (size_t i = 1; i < e->n_kept; i++)
            if (e->kept[i]->used < e->kept[oldest]->used) oldest = i;
        e->bytes -= e->kept[oldest]->bytes;
        limn_picture_rows_unref(&e->kept[oldest]);
        e->kept[oldest] = e->kept[--e->n_kept];
    }
    return true;
}

/* ---- the tower ---- */

static limn_status graph_build(limn_graph **g, const limn_picture_encoder *e, int rows, int cols,
                               limn_err *err) {
    limn_status st = limn_graph_new(g, err);
    if (st != LIMN_OK) return st;
    limn_nn nn = {*g, limn_model_weights_find, e->model->vision};
    limn_vision_request req = {.slices = 1, .rows = rows, .cols = cols};
    limn_vision_build(&nn, &e->model->cfg.vision, &req);
    return LIMN_OK;
}

limn_status limn_picture_encoder_need(size_t *bytes, const limn_picture_encoder *e, int height,
                                      int width, limn_err *err) {
    limn_graph *g;
    limn_plan *plan = NULL;
    const limn_vision_config *v = &e->model->cfg.vision;
    *bytes = 0;
    limn_status st = graph_build(&g, e, height / v->patch, width / v->patch, err);
    if (st != LIMN_OK) return st;
    limn_plan_options o = e->backend->v->plan_options(e->backend);
    st = limn_plan_build(&plan, &g, &o, err);
    if (st == LIMN_OK) {
        size_t rows =
            (size_t)(height / v->patch / v->merge) * (size_t)(width / v->patch / v->merge);
        *bytes = plan->arena_bytes +
                 rows * (size_t)(1 + v->n_deepstack) * (size_t)v->out_width * sizeof(float);
    }
    limn_plan_free(&plan);
    return st;
}

size_t limn_picture_encoder_bytes(const limn_picture_encoder *e) {
    size_t n = e->bytes;
    for (int i = 0; i < PROGRAMS; i++)
        if (e->towers[i].program) n += e->towers[i].program->plan->arena_bytes;
    return n;
}

/* Positions and rotary tables depend on the size only and are written once. */
static limn_status tower_make(tower *t, limn_picture_encoder *e, int rows, int cols,
                              limn_err *err) {
    limn_status st = LIMN_OK;
    limn_graph *g;
    const limn_vision_config *v = &e->model->cfg.vision;
    const limn_tensor *table = limn_weights_find(e->model->vision_set, "pos_embed.weight");
    limn_program_free(&t->program);
    LIMN_CHECK(err, table, LIMN_E_MISSING, "%s: the vision tower has no pos_embed.weight",
               e->model->path);
    LIMN_TRY(graph_build(&g, e, rows, cols, err));
    LIMN_TRY(limn_program_new(&t->program, e->backend, &g, err));
    LIMN_TRY(limn_vision_positions(limn_program_input(t->program, "pos", NULL), table, rows, cols,
                                   v, err));
    LIMN_TRY(limn_vision_rope(limn_program_input(t->program, "cos", NULL),
                              limn_program_input(t->program, "sin", NULL), rows, cols, v, err));
    t->rows = rows;
    t->cols = cols;
out:
    if (st != LIMN_OK) limn_program_free(&t->program);
    return st;
}

static limn_status tower_get(limn_program **out, limn_picture_encoder *e, int rows, int cols,
                             limn_err *err) {
    limn_status st = LIMN_OK;
    tower *t = &e->towers[0];
    for (int i = 0; i < PROGRAMS; i++) {
        tower *o = &e->towers[i];
        if (o->program && o->rows == rows && o->cols == cols) {
            t = o;
            break;
        }
        if (o->used < t->used) t = o;
    }
    if (!t->program || t->rows != rows || t->cols != cols) st = tower_make(t, e, rows, cols, err);
    t->used = ++e->clock;
    *out = t->program;
    return st;
}

/* One block: merged rows, then those of each inner block. */
static limn_status rows_take(limn_picture_rows **out, limn_program *p, const limn_vision_config *v,
                             limn_err *err) {
    limn_shape shape;
    const float *merged = limn_program_output(p, "merged", &shape);
    size_t n = (size_t)limn_shape_count(&shape), parts = 1 + (size_t)v->n_deepstack;
    limn_picture_rows *r = limn_mem_calloc(1, sizeof *r);
    float *data = limn_mem_alloc(n * parts * sizeof *data);
    *out = NULL;
    if (!r || !data) {
        limn_mem_free(r);
        limn_mem_free(data);
        return limn_fail(err, LIMN_E_NOMEM, "no memory for an encoded picture");
    }
    memcpy(data, merged, n * sizeof *data);
    for (int k = 0; k < v->n_deepstack; k++) {
        char name[32];
        snprintf(name, sizeof name, "deepstack.%d", k);
        float *to = data + (size_t)(k + 1) * n;
        memcpy(to, limn_program_output(p, name, NULL), n * sizeof *data);
        r->rows.deepstack[k] = to;
    }
    r->rows.merged = data;
    r->n = (int64_t)n / v->out_width;
    r->bytes = n * parts * sizeof *data + sizeof *r;
    r->refs = 1;
    *out = r;
    return LIMN_OK;
}

limn_status limn_picture_encoder_run(limn_picture_rows **out, limn_picture_encoder *e,
                                     const limn_picture_key *key, const limn_picture_pixels *px,
                                     const atomic_bool *cancel, limn_err *err) {
    limn_status st = LIMN_OK;
    limn_program *p;
    const limn_vision_config *v = &e->model->cfg.vision;
    int rows = px->height / v->patch, cols = px->width / v->patch;
    *out = NULL;
    LIMN_TRY(tower_get(&p, e, rows, cols, err));
    limn_vision_patchify(limn_program_input(p, "patches", NULL), px->first, px->second, rows, cols,
                         v);
    LIMN_TRY(limn_program_run(p, cancel, err));
    LIMN_TRY(rows_take(out, p, v, err));
    (*out)->key = *key;
    (*out)->used = ++e->clock;
    if (room_make(e, (*out)->bytes)) {
        e->kept[e->n_kept++] = *out;
        e->bytes += (*out)->bytes;
        (*out)->refs++;
    }
out:
    return st;
}
