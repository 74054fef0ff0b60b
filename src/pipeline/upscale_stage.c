/* SPDX-License-Identifier: MIT */
/* Enlarging pictures; see upscale_stage.h. */
#include "pipeline/upscale_stage.h"

#include <math.h>
#include <string.h>
#include <strings.h>

#include "formats/canon.h"
#include "base/cancel.h"
#include "image/resample.h"
#include "models/model_weights.h"
#include "models/upscaler.h"
#include "param/gen.h"

enum { TILE = 192, MARGIN = 12 }; /* pixels of the small picture; margins are drawn and cut off */

typedef struct filter_row {
    const char *name;
    limn_filter filter;
    const char *help;
} filter_row;

static const filter_row filters[] = {
    {"Latent", LIMN_FILTER_BILINEAR, "hires: enlarge the latents; needs a strength above 0.5"},
    {"Lanczos", LIMN_FILTER_LANCZOS, "resampling, sharp"},
    {"Bicubic", LIMN_FILTER_BICUBIC, "resampling"},
    {"Bilinear", LIMN_FILTER_BILINEAR, "resampling, soft"},
    {"Nearest", LIMN_FILTER_NEAREST, "pixels stay square"},
    {"Box", LIMN_FILTER_BOX, "area average"},
    {"mini-upscale", LIMN_FILTER_LANCZOS, "the bundled x4 network"},
};
enum { N_FILTERS = sizeof filters / sizeof filters[0] };

static const filter_row *filter_find(const char *name) {
    for (int i = 0; i < N_FILTERS - 1; i++)
        if (strcasecmp(filters[i].name, name) == 0) return &filters[i];
    return NULL;
}

const char *limn_upscaler_default(void) {
    char *path = limn_engine_bundled("mini-upscale");
    const char *name = path ? "mini-upscale" : "Lanczos";
    limn_mem_free(path);
    return name;
}

bool limn_upscale_is_latent(const char *name) {
    return strcasecmp(name, "Latent") == 0;
}

bool limn_upscaler_choice(limn_choice *out, int index) {
    if (index < 0 || index >= N_FILTERS) return false;
    *out = (limn_choice){filters[index].name, NULL, filters[index].help};
    return true;
}

static limn_status network_path(char **path, const limn_engine *e, const char *name,
                                limn_err *err) {
    if (strcasecmp(name, "mini-upscale") == 0) {
        *path = limn_engine_bundled("mini-upscale");
        if (*path) return LIMN_OK;
        return limn_fail(err, LIMN_E_NOT_FOUND, "the bundled upscaler is not installed");
    }
    limn_status st = limn_engine_find(path, e, name, "upscale_models|ESRGAN|RealESRGAN|", err);
    if (st != LIMN_OK) limn_err_prefix(err, "upscaler (limn upscalers lists them)");
    return st;
}

limn_status limn_upscaler_check(const limn_engine *e, const char *name, limn_err *err) {
    char *path = NULL;
    if (filter_find(name)) return LIMN_OK;
    limn_status st = network_path(&path, e, name, err);
    limn_mem_free(path);
    return st;
}

/* ---- networks ---- */
typedef struct net {
    limn_backend *backend;
    limn_upscaler_config cfg;
    limn_model_weights *weights;
    limn_program *program;
    int th, tw; /* of the program */
} net;

static void net_forget(void *user, const limn_weight *w) {
    limn_backend_forget(user, w);
}

static void net_close(net *n) {
    limn_program_free(&n->program);
    if (n->weights) limn_model_weights_each(n->weights, net_forget, n->backend);
    limn_model_weights_free(&n->weights);
}

static limn_status net_open(net *n, limn_backend *backend, const char *path, limn_err *err) {
    limn_weights *w = NULL, *set = NULL;
    *n = (net){.backend = backend};
    limn_status st = LIMN_OK;
    LIMN_TRY(limn_weights_open(&w, path, err));
    LIMN_TRY(limn_canon_upscaler(&set, &n->cfg, w, "", err));
    LIMN_CHECK(err, n->cfg.in_channels == 3 && n->cfg.out_channels == 3, LIMN_E_UNSUPPORTED,
               "%s: works on %d channels; limn upscales RGB", path, n->cfg.in_channels);
    LIMN_TRY(limn_model_weights_new(&n->weights, set, err));
out:
    limn_weights_unref(&set);
    limn_weights_unref(&w);
    return st;
}

static limn_status net_program(net *n, int th, int tw, limn_err *err) {
    if (n->program && n->th == th && n->tw == tw) return LIMN_OK;
    limn_program_free(&n->program);
    limn_graph *g = NULL;
    limn_status st = limn_graph_new(&g, err);
    if (st != LIMN_OK) return st;
    limn_nn nn = {g, limn_model_weights_find, n->weights};
    limn_upscaler_build(&nn, &n->cfg, th, tw);
    n->th = th;
    n->tw = tw;
    return limn_program_new(&n->program, n->backend, &g, err);
}

static int clampi(int v, int lo, int hi) {
    return v < lo ? lo : v > hi ? hi : v;
}

/* The tile [y, y + h) x [x, x + w) with margins (edges repeated), enlarged into `out`. */
static limn_status net_tile(net *n, limn_image *out, const limn_image *in, int x, int y, int w,
                            int h, const atomic_bool *cancel, limn_err *err) {
    int unit = n->cfg.unshuffle > 1 ? n->cfg.unshuffle : 1, s = n->cfg.scale;
    int tw = (w + 2 * MARGIN + unit - 1) / unit * unit,
        th = (h + 2 * MARGIN + unit - 1) / unit * unit;
    limn_status st = net_program(n, th, tw, err);
    if (st != LIMN_OK) return st;
    float *src = limn_program_input(n->program, "image", NULL);
    for (int v = 0; v < th; v++)
        for (int u = 0; u < tw; u++) {
            int sy = clampi(y + v - MARGIN, 0, in->height - 1);
            int sx = clampi(x + u - MARGIN, 0, in->width - 1);
            for (int c = 0; c < 3; c++)
                src[(v * tw + u) * 3 + c] = in->data[(sy * in->width + sx) * 3 + c] / 255.0f;
        }
    st = limn_program_run(n->program, cancel, err);
    if (st != LIMN_OK) return st;
    const float *dst = limn_program_output(n->program, "image", NULL);
    for (int v = 0; v < h * s; v++)
        for (int u = 0; u < w * s; u++)
            for (int c = 0; c < 3; c++) {
                float f = dst[((v + MARGIN * s) * tw * s + u + MARGIN * s) * 3 + c] * 255.0f;
                out->data[((size_t)(y * s + v) * (size_t)out->width + (size_t)(x * s + u)) * 3 +
                          (size_t)c] = (uint8_t)lrintf(fminf(fmaxf(f, 0), 255));
            }
    return LIMN_OK;
}

static limn_status net_run(limn_image **out, net *n, const limn_image *in,
                           const atomic_bool *cancel, limn_err *err) {
    int s = n->cfg.scale;
    limn_status st = limn_image_new(out, in->width * s, in->height * s, 3, err);
    for (int y = 0; y < in->height && st == LIMN_OK; y += TILE)
        for (int x = 0; x < in->width && st == LIMN_OK; x += TILE)
            st = net_tile(n, *out, in, x, y, in->width - x < TILE ? in->width - x : TILE,
                          in->height - y < TILE ? in->height - y : TILE, cancel, err);
    if (st != LIMN_OK) limn_image_free(out);
    return st;
}

limn_status limn_upscale_image(limn_image **out, const limn_image *image,
                               const limn_upscale_args *a, limn_err *err) {
    *out = NULL;
    limn_status st = LIMN_OK;
    char *path = NULL;
    limn_image *rgb = NULL, *large = NULL;
    net n = {0};
    LIMN_TRY(limn_image_convert(&rgb, image, 3, err));
    const filter_row *f = filter_find(a->name);
    if (f) {
        st = limn_image_resize(out, rgb, a->width, a->height, f->filter, err);
        goto out;
    }
    LIMN_TRY(network_path(&path, a->engine, a->name, err));
    LIMN_TRY(net_open(&n, a->backend, path, err));
    while (rgb->width < a->width || rgb->height < a->height) {
        LIMN_CHECK(err, n.cfg.scale > 1, LIMN_E_VALUE, "%s: does not enlarge (scale 1)", path);
        LIMN_TRY(net_run(&large, &n, rgb, a->cancel, err));
        limn_image_free(&rgb);
        rgb = large;
        large = NULL;
    }
    st = limn_image_resize(out, rgb, a->width, a->height, LIMN_FILTER_LANCZOS, err);
out:
    net_close(&n);
    limn_image_free(&rgb);
    limn_image_free(&large);
    limn_mem_free(path);
    return st;
}

limn_status limn_upscale(limn_image **out, limn_engine *engine, const limn_image *image,
                         const limn_params *gen, const limn_watch *watch, limn_err *err) {
    const limn_gen *g = limn_gen_of(gen);
    *out = NULL;
    limn_upscale_args a = {.engine = engine,
                           .name =
                               limn_gen_has(g, "upscaler") ? g->upscaler : limn_upscaler_default(),
                           .width = (int)lrint(image->width * g->upscale),
                           .height = (int)lrint(image->height * g->upscale),
                           .cancel = watch ? limn_cancel_flag(watch->cancel) : NULL};
    if (limn_upscale_is_latent(a.name))
        return limn_fail(err, LIMN_E_VALUE,
                         "\"Latent\" enlarges latents, not pictures; try Lanczos");
    limn_status st = limn_engine_backend(&a.backend, engine, (limn_gen_precision)g->precision, err);
    if (st == LIMN_OK && !limn_gen_has(g, "upscaler") && watch && watch->event) {
        limn_event e = {.stage = "upscale", .left_seconds = -1};
        e.note = strcmp(a.name, "Lanczos") == 0
                     ? "enlarging with Lanczos; for a network give --upscaler FILE (ESRGAN, "
                       "Real-ESRGAN)"
                     : "enlarging with the bundled mini-upscale; for a larger network give "
                       "--upscaler FILE (ESRGAN, Real-ESRGAN)";
        watch->event(watch->user, &e);
    }
    return st == LIMN_OK ? limn_upscale_image(out, image, &a, err) : st;
}
