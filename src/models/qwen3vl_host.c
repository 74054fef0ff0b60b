/* SPDX-License-Identifier: MIT */
/* Host side of Qwen3-VL; see qwen3vl_host.h. */
#include "models/qwen3vl_host.h"

#include <math.h>

const limn_pixel_limits limn_vision_image_limits = {65536, 16777216};
const limn_pixel_limits limn_vision_video_limits = {4096, 25165824};

enum { ASPECT_MAX = 200, FRAME_TOKENS_MAX = 768, HALF_MAX = 512 };

/* ---- sizes ---- */
/* rint() rounds half to even in the default rounding mode, as Python's round() does. */
static double to_multiple(double x, int factor) {
    return rint(x / factor) * factor;
}

static double floor_multiple(double x, int factor) {
    double v = floor(x / factor) * factor;
    return v < factor ? factor : v;
}

/* frames: that many, and the (even) number that is counted. */
static limn_status fit(int *out_height, int *out_width, double frames, double counted, int height,
                       int width, int factor, double least, double most, limn_err *err) {
    double h = to_multiple(height, factor), w = to_multiple(width, factor);
    double long_side = height > width ? height : width;
    double short_side = height > width ? width : height;
    if (short_side < 1 || long_side / short_side > ASPECT_MAX)
        return limn_fail(err, LIMN_E_VALUE,
                         "a picture of %d x %d pixels: its sides may be at most %d times apart",
                         width, height, ASPECT_MAX);
    double area = frames * height * width;
    if (counted * h * w > most) {
        double beta = sqrt(area / most);
        h = floor_multiple(height / beta, factor);
        w = floor_multiple(width / beta, factor);
    } else if (counted * h * w < least) {
        double beta = sqrt(least / area);
        h = ceil(height * beta / factor) * factor;
        w = ceil(width * beta / factor) * factor;
    }
    if (!(h >= factor && w >= factor && h <= 1 << 24 && w <= 1 << 24))
        return limn_fail(err, LIMN_E_VALUE,
                         "a picture of %d x %d pixels fits no limits of %.0f "
                         "to %.0f pixels",
                         width, height, least, most);
    *out_height = (int)h;
    *out_width = (int)w;
    return LIMN_OK;
}

limn_status limn_vision_fit(int *out_height, int *out_width, int height, int width, int factor,
                            const limn_pixel_limits *limits, limn_err *err) {
    return fit(out_height, out_width, 1, 1, height, width, factor, (double)limits->least,
               (double)limits->most, err);
}

limn_status limn_vision_fit_video(int *out_height, int *out_width, int frames, int height,
                                  int width, int factor, const limn_pixel_limits *limits,
                                  bool cap_frames, limn_err *err) {
    int64_t most = limits->most;
    if (frames < 2 || height < 1 || width < 1)
        return limn_fail(err, LIMN_E_VALUE, "a video of %d frames of %d x %d pixels", frames, width,
                         height);
    if (cap_frames) {
        int64_t cap = (int64_t)FRAME_TOKENS_MAX * factor * factor, share = most / frames;
        int64_t least = (int64_t)((double)limits->least * 1.05);
        int64_t each = cap < share ? cap : share;
        most = (each > least ? each : least) * frames;
    }
    if (height < factor || width < factor) { /* enlarged before anything is measured */
        double by_h = (double)factor / height, by_w = (double)factor / width;
        double scale = by_h > by_w ? by_h : by_w;
        double h = height * scale, w = width * scale;
        if (h > 1 << 24 || w > 1 << 24)
            return limn_fail(err, LIMN_E_VALUE, "a video of %d x %d pixels", width, height);
        height = (int)h;
        width = (int)w;
    }
    return fit(out_height, out_width, frames, rint(frames / 2.0) * 2, height, width, factor,
               (double)limits->least, (double)most, err);
}

/* ---- inputs of the tower ---- */
/* Calls for each patch in merge order would cost a function each: the loops are written out. */
typedef struct grid_walk {
    int merge, cols;
    int64_t i; /* patch number */
} grid_walk;

static void grid_at(const grid_walk *g, int *row, int *col) {
    int64_t unit = (int64_t)g->merge * g->merge, in = g->i % unit, b = g->i / unit;
    int blocks = g->cols / g->merge;
    *row = (int)(b / blocks) * g->merge + (int)(in / g->merge);
    *col = (int)(b % blocks) * g->merge + (int)(in % g->merge);
}

void limn_vision_patchify(float *patches, const uint8_t *first, const uint8_t *second, int rows,
                          int cols, const limn_vision_config *cfg) {
    int size = cfg->patch;
    int64_t line = (int64_t)cols * size * 3;
    float value[256];
    for (int v = 0; v < 256; v++) value[v] = ((float)v - 127.5f) / 127.5f;
    grid_walk g = {.merge = cfg->merge, .cols = cols};
    for (; g.i < (int64_t)rows * cols; g.i++) {
        int row, col;
        grid_at(&g, &row, &col);
        int64_t corner = (int64_t)row * size * line + (int64_t)col * size * 3;
        for (int c = 0; c < 3; c++)
            for (int t = 0; t < 2; t++) {
                const uint8_t *px = (t ? second : first) + corner + c;
                for (int y = 0; y < size; y++, px += line)
                    for (int x = 0; x < size; x++) *patches++ = value[px[3 * x]];
            }
    }
}

/* Position i of n on an axis of `side` places, corners on corners: the place before it, and how far
 * behind that it lies. In f32 as the reference computes it. */
static int place_of(float *rest, int i, int n, int side) {
    float at = (float)i * (float)(side - 1) / (float)(n > 1 ? n - 1 : 1);
    int low = (int)floorf(at);
    if (low > side - 1) low = side - 1;
    *rest = at - (float)low;
    return low;
}

limn_status limn_vision_positions(float *pos, const limn_tensor *table, int rows, int cols,
                                  const limn_vision_config *cfg, limn_err *err) {
    limn_status st = LIMN_OK;
    int64_t width = cfg->width, side = cfg->side;
    float *t = NULL;
    LIMN_CHECK(err,
               table && table->shape.ndim == 2 && table->shape.dim[0] == side * side &&
                   table->shape.dim[1] == width,
               LIMN_E_SHAPE, "pos_embed.weight is not [%lld, %lld]", (long long)(side * side),
               (long long)width);
    t = limn_mem_alloc((size_t)(side * side * width) * sizeof *t);
    LIMN_CHECK(err, t, LIMN_E_NOMEM, "no memory for a position table");
    limn_dtype_to_f32(t, table->data, table->dtype, side * side * width);
    grid_walk g = {.merge = cfg->merge, .cols = cols};
    for (; g.i < (int64_t)rows * cols; g.i++, pos += width) {
        int row, col;
        float dy, dx;
        grid_at(&g, &row, &col);
        int64_t y0 = place_of(&dy, row, rows, (int)side), y1 = y0 + 1 < side ? y0 + 1 : y0;
        int64_t x0 = place_of(&dx, col, cols, (int)side), x1 = x0 + 1 < side ? x0 + 1 : x0;
        const float *a = t + (y0 * side + x0) * width, *b = t + (y0 * side + x1) * width;
        const float *c = t + (y1 * side + x0) * width, *d = t + (y1 * side + x1) * width;
        float wa = (1 - dy) * (1 - dx), wb = (1 - dy) * dx, wc = dy * (1 - dx), wd = dy * dx;
        for (int64_t j = 0; j < width; j++) pos[j] = a[j] * wa + b[j] * wb + c[j] * wc + d[j] * wd;
    }
out:
    limn_mem_free(t);
    return st;
}

limn_status limn_vision_rope(float *cosines, float *sines, int rows, int cols,
                             const limn_vision_config *cfg, limn_err *err) {
    float freq[HALF_MAX];
    int half = cfg->width / cfg->heads / 2, n = half / 2;
    if (half > HALF_MAX)
        return limn_fail(err, LIMN_E_LIMIT, "vision heads of %d", cfg->width / cfg->heads);
    for (int i = 0; i < n; i++)
        freq[i] = 1.0f / powf((float)cfg->rope_theta, (float)(2 * i) / (float)half);
    grid_walk g = {.merge = cfg->merge, .cols = cols};
    for (; g.i < (int64_t)rows * cols; g.i++) {
        int row, col;
        grid_at(&g, &row, &col);
        for (int i = 0; i < 2 * n; i++) {
            float angle = (float)(i < n ? row : col) * freq[i % n];
            *cosines++ = (float)cos((double)angle);
            *sines++ = (float)sin((double)angle);
        }
    }
    return LIMN_OK;
}

/* ---- positions of the language model ---- */
limn_status limn_vision_text_positions(int32_t *pos, int64_t n, const limn_vision_place *places,
                                       size_t n_places, int32_t start, int32_t *next,
                                       limn_err *err) {
    int32_t p = start;
    int64_t i = 0;
    size_t at = 0;
    while (i < n) {
        const limn_vision_place *v = at < n_places ? &places[at] : NULL;
        if (!v || i < v->at) {
            pos[i] = pos[n + i] = pos[2 * n + i] = p++;
            i++;
            continue;
        }
        int64_t count = (int64_t)v->rows * v->cols;
        if (v->at < i || v->rows < 1 || v->cols < 1 || count > n - i) break;
        for (int64_t j = 0; j < count; j++, i++) {
            pos[i] = p;
            pos[n + i] = p + (int32_t)(j / v->cols);
            pos[2 * n + i] = p + (int32_t)(j % v->cols);
        }
        p += v->rows > v->cols ? v->rows : v->cols;
        at++;
    }
    if (i < n || at < n_places)
        return limn_fail(err, LIMN_E_VALUE, "picture %zu does not fit its place in the text", at);
    *next = p;
    return LIMN_OK;
}
