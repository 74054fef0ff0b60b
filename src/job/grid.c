/* SPDX-License-Identifier: MIT */
/* Grids: reading axes, cells, and running them onto a sheet; see grid.h. */
#include "job/grid.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "image/image.h"
#include "image/resample.h"
#include "param/param_json.h"

enum { SHEET_CELL = 512 }; /* most pixels of a side of a picture on the sheet */

/* ---- reading ---- */
void limn_grid_free(limn_grid **grid) {
    limn_grid *g = grid ? *grid : NULL;
    if (!g) return;
    for (int a = 0; a < g->n_axes; a++) {
        for (int i = 0; i < g->axis[a].n; i++) limn_mem_free(g->axis[a].values[i]);
        limn_mem_free(g->axis[a].values);
        limn_mem_free(g->axis[a].search);
    }
    limn_params_free(&g->base);
    limn_mem_free(g);
    *grid = NULL;
}

/* A JSON scalar as the text that limn_params_set takes; NULL for anything else. */
static char *scalar_text(const json_t *v) {
    limn_buf b;
    limn_buf_init(&b, 1 << 20);
    if (json_is_string(v)) return limn_mem_strdup(json_string_value(v));
    if (json_is_integer(v))
        limn_buf_addf(&b, "%lld", (long long)json_integer_value(v));
    else if (json_is_real(v))
        limn_real_format(&b, json_real_value(v));
    else if (json_is_boolean(v))
        limn_buf_adds(&b, json_is_true(v) ? "on" : "off");
    else
        return NULL;
    return limn_buf_take(&b);
}

/* ---- search and replace ---- */
static const char *const replaced_in[] = {"prompt", "negative_prompt"};

static limn_status replace_in(limn_params *p, const char *row, const char *search, const char *by,
                              limn_err *err) {
    const char *at = limn_params_text(p, row), *found;
    limn_buf text;
    if (!strstr(at, search)) return LIMN_OK;
    limn_buf_init(&text, 1 << 20);
    for (; (found = strstr(at, search)); at = found + strlen(search)) {
        limn_buf_add(&text, at, (size_t)(found - at));
        limn_buf_adds(&text, by);
    }
    limn_buf_adds(&text, at);
    limn_status st = text.failed
                         ? limn_fail(err, LIMN_E_LIMIT, "the prompt is too long")
                         : limn_params_set(p, row, limn_buf_text(&text), LIMN_FROM_SCRIPT, err);
    limn_buf_deinit(&text);
    return st;
}

/* One value of an axis laid upon what the axes before it have made. */
static limn_status apply(limn_params *p, const limn_grid_axis *a, const char *value,
                         limn_err *err) {
    limn_status st = LIMN_OK;
    if (!a->search) return limn_params_set(p, a->param->name, value, LIMN_FROM_SCRIPT, err);
    for (size_t i = 0; i < 2 && st == LIMN_OK; i++)
        st = replace_in(p, replaced_in[i], a->search, value, err);
    return st;
}

static limn_status read_search(limn_grid_axis *a, const limn_grid *g, const json_t *search,
                               int index, limn_err *err) {
    const char *text = json_string_value(search);
    bool found = false;
    if (!search) return LIMN_OK;
    if (!text || !*text)
        return limn_fail(err, LIMN_E_VALUE, "/axes/%d/search: is not a text", index);
    if (strcmp(a->param->name, replaced_in[0]) != 0)
        return limn_fail(err, LIMN_E_VALUE, "/axes/%d/search: belongs to the parameter prompt",
                         index);
    for (size_t i = 0; i < 2; i++)
        found = found || strstr(limn_params_text(g->base, replaced_in[i]), text);
    if (!found)
        return limn_fail(err, LIMN_E_VALUE, "/axes/%d/search: \"%.80s\" is not in the prompt",
                         index, text);
    a->search = limn_mem_strdup(text);
    return a->search ? LIMN_OK : limn_fail(err, LIMN_E_NOMEM, "no memory for a grid");
}

static limn_status read_axis(limn_grid *g, const json_t *axis, int index, limn_err *err) {
    limn_grid_axis *a = &g->axis[g->n_axes++];
    const char *name = json_string_value(json_object_get(axis, "parameter"));
    const json_t *values = json_object_get(axis, "values");
    const json_t *search = json_object_get(axis, "search");
    limn_params *probe = NULL;
    limn_status st = LIMN_OK;
    size_t n = json_array_size(values);
    LIMN_CHECK(err, name && json_object_size(axis) == (search ? 3u : 2u), LIMN_E_VALUE,
               "/axes/%d: is not {\"parameter\", \"values\"} with or without \"search\"", index);
    a->param = limn_param_find(&limn_gen_table, name);
    LIMN_CHECK(err, a->param && (a->param->flags & LIMN_P_AXIS), LIMN_E_VALUE,
               "/axes/%d/parameter: %s cannot be an axis", index, name);
    LIMN_TRY(read_search(a, g, search, index, err));
    LIMN_CHECK(err, n >= 1 && n <= LIMN_GRID_VALUES, LIMN_E_VALUE,
               "/axes/%d/values: 1 to %d are needed", index, LIMN_GRID_VALUES);
    a->values = limn_mem_calloc(n, sizeof *a->values);
    LIMN_CHECK(err, a->values, LIMN_E_NOMEM, "no memory for a grid");
    for (size_t i = 0; i < n; i++) {
        char *text = scalar_text(json_array_get(values, i));
        LIMN_CHECK(err, text, LIMN_E_VALUE, "/axes/%d/values/%d: is not a text or a number", index,
                   (int)i);
        a->values[a->n++] = text;
        LIMN_TRY(limn_params_copy(&probe, g->base, err));
        st = apply(probe, a, text, err);
        limn_params_free(&probe);
        if (st != LIMN_OK) limn_err_prefix(err, "/axes/%d/values/%d", index, (int)i);
        LIMN_TRY(st);
    }
    g->cells *= a->n;
out:
    limn_params_free(&probe);
    return st;
}

static limn_status read_members(limn_grid *g, const json_t *root, limn_err *err) {
    const json_t *axes = json_object_get(root, "axes"), *sheet = json_object_get(root, "sheet");
    limn_status st = LIMN_OK;
    size_t n = json_array_size(axes);
    LIMN_CHECK(err, n >= 1 && n <= LIMN_GRID_AXES, LIMN_E_VALUE, "/axes: 1 to %d are needed",
               LIMN_GRID_AXES);
    LIMN_CHECK(err, !sheet || json_is_boolean(sheet), LIMN_E_VALUE, "/sheet: is not true or false");
    LIMN_CHECK(err, json_object_size(root) == (sheet ? 3u : 2u), LIMN_E_VALUE,
               "a grid has the members params, axes and sheet");
    g->sheet = !sheet || json_is_true(sheet);
    g->cells = 1;
    for (size_t i = 0; i < n; i++) LIMN_TRY(read_axis(g, json_array_get(axes, i), (int)i, err));
    LIMN_CHECK(err, g->cells <= LIMN_GRID_CELLS, LIMN_E_VALUE,
               "/axes: %d pictures are more than %d", g->cells, LIMN_GRID_CELLS);
out:
    return st;
}

limn_status limn_grid_parse(limn_grid **out, const char *json, size_t len, limn_err *err) {
    json_t *root = NULL;
    char *params = NULL;
    limn_status st = LIMN_OK;
    *out = NULL;
    limn_grid *g = limn_mem_calloc(1, sizeof *g);
    if (!g) return limn_fail(err, LIMN_E_NOMEM, "no memory for a grid");
    LIMN_TRY(limn_json_load(&root, json, len, err));
    LIMN_CHECK(err, json_is_object(json_object_get(root, "params")), LIMN_E_VALUE,
               "/params: is not an object");
    params = json_dumps(json_object_get(root, "params"), JSON_COMPACT);
    LIMN_CHECK(err, params, LIMN_E_NOMEM, "no memory for a grid");
    LIMN_TRY(limn_params_new(&g->base, LIMN_PARAMS_GEN, err));
    LIMN_TRY(limn_params_parse_json(g->base, params, strlen(params), LIMN_FROM_API, err));
    LIMN_TRY(limn_params_set(g->base, "count", "1", LIMN_FROM_SCRIPT, err));
    LIMN_TRY(limn_params_set(g->base, "batch_size", "1", LIMN_FROM_SCRIPT, err));
    LIMN_TRY(read_members(g, root, err));
    *out = g;
    g = NULL;
out:
    limn_grid_free(&g);
    json_decref(root);
    free(params);
    return st;
}

/* Index of a cell's value on an axis. */
static int value_of(const limn_grid *g, int axis, int cell) {
    for (int a = 0; a < axis; a++) cell /= g->axis[a].n;
    return cell % g->axis[axis].n;
}

limn_status limn_grid_cell(limn_params **out, const limn_grid *g, int cell, limn_err *err) {
    limn_status st = limn_params_copy(out, g->base, err);
    for (int a = 0; a < g->n_axes && st == LIMN_OK; a++)
        st = apply(*out, &g->axis[a], g->axis[a].values[value_of(g, a, cell)], err);
    if (st != LIMN_OK) limn_params_free(out);
    return st;
}

void limn_grid_label(limn_buf *out, const limn_grid *g, int cell) {
    for (int a = 0; a < g->n_axes; a++) {
        const limn_grid_axis *x = &g->axis[a];
        limn_buf_addf(out, "%s%s%s%s", a ? ", " : "", x->search ? "" : x->param->name,
                      x->search ? "" : ": ", x->values[value_of(g, a, cell)]);
    }
}

/* ---- running ---- */
typedef struct pictures {
    limn_image *image[LIMN_GRID_CELLS];
    char *label[LIMN_GRID_CELLS];
    int n;
} pictures;

static void pictures_free(pictures *p) {
    for (int i = 0; i < p->n; i++) {
        limn_image_free(&p->image[i]);
        limn_mem_free(p->label[i]);
    }
    limn_mem_free(p);
}

/* Keeps a copy of at most SHEET_CELL pixels a side. Takes the picture. */
static limn_status keep_small(pictures *p, limn_image **picture, const limn_grid *g,
                              limn_err *err) {
    limn_buf label;
    limn_image *im = *picture, *small = NULL;
    int edge = im->width > im->height ? im->width : im->height;
    limn_status st = LIMN_OK;
    limn_buf_init(&label, 1 << 20);
    if (edge > SHEET_CELL) {
        st = limn_image_resize(&small, im, im->width * SHEET_CELL / edge,
                               im->height * SHEET_CELL / edge, LIMN_FILTER_LANCZOS, err);
        limn_image_free(picture);
        *picture = small;
    }
    limn_grid_label(&label, g, p->n);
    if (st == LIMN_OK) {
        p->label[p->n] = limn_buf_take(&label);
        p->image[p->n++] = *picture;
        *picture = NULL;
    }
    limn_buf_deinit(&label);
    return st;
}

static limn_status make_sheet(limn_run *run, const limn_grid *g, const pictures *p, limn_err *err) {
    limn_image *sheet = NULL;
    void *data = NULL;
    size_t size = 0;
    limn_file_options how = LIMN_FILE_OPTIONS;
    limn_artifact a = {.role = LIMN_ARTIFACT_SHEET};
    limn_status st = LIMN_OK;
    how.format = "png";
    limn_run_report(run, &(limn_event){.stage = "sheet", .left_seconds = -1});
    LIMN_TRY(limn_image_sheet(&sheet, (const limn_image *const *)p->image,
                              (const char *const *)p->label, p->n, g->axis[0].n, err));
    LIMN_TRY(limn_image_encode(&data, &size, sheet, &how, NULL, err));
    LIMN_TRY(limn_run_output(run, &a, data, size, sheet, err));
out:
    limn_image_free(&sheet);
    limn_bytes_free(&data);
    return st;
}

static limn_status report_result(limn_run *run, const limn_grid *g, const pictures *p,
                                 limn_err *err) {
    limn_buf text;
    limn_buf_init(&text, LIMN_JOB_RESULT_MAX);
    limn_buf_addf(&text, "{\"columns\":%d,\"cells\":[", g->axis[0].n);
    for (int i = 0; i < p->n; i++) {
        limn_buf_adds(&text, i ? "," : "");
        limn_json_add_string(&text, p->label[i] ? p->label[i] : "");
    }
    limn_buf_adds(&text, "]}");
    limn_status st = limn_run_result(run, limn_buf_text(&text), err);
    limn_buf_deinit(&text);
    return st;
}

limn_status limn_grid_run(limn_run *run, limn_grid_draw_fn *draw, void *user, limn_err *err) {
    const limn_job *job = limn_run_job(run);
    limn_grid *g = NULL;
    limn_status st = LIMN_OK;
    pictures *p = limn_mem_calloc(1, sizeof *p);
    LIMN_CHECK(err, p, LIMN_E_NOMEM, "no memory for a grid");
    LIMN_TRY(limn_grid_parse(&g, job->request, strlen(job->request), err));
    for (int i = 0; i < g->cells; i++) {
        limn_params *cell = NULL;
        limn_image *picture = NULL;
        st = limn_grid_cell(&cell, g, i, err);
        if (st == LIMN_OK) st = draw(user, run, cell, i, g->cells, &picture, err);
        if (st == LIMN_OK) st = keep_small(p, &picture, g, err);
        limn_params_free(&cell);
        limn_image_free(&picture);
        LIMN_TRY(st);
    }
    if (g->sheet) LIMN_TRY(make_sheet(run, g, p, err));
    LIMN_TRY(report_result(run, g, p, err));
out:
    if (p) pictures_free(p);
    limn_grid_free(&g);
    return st;
}
