/* SPDX-License-Identifier: MIT */
/*
 * Weights that carry their scale in a tensor of its own (ComfyUI's "scaled fp8": weight in f8 with
 * ".scale_weight" or ".weight_scale", a number or one per output row): widened to owned f16 while
 * a scope is made. Packed formats that limn does not read are refused by name. See canon_map.h.
 */
#include <stdio.h>
#include <string.h>

#include "formats/canon_map.h"

static bool ends_with(const char *s, const char *end) {
    size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

bool limn_canon_is_scale(const char *name) {
    static const char *const ends[] = {".scale_weight",    ".weight_scale", ".scale_input",
                                       ".input_scale",     ".comfy_quant",  "scaled_fp8",
                                       ".weight_scale_inv"};
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++)
        if (ends_with(name, ends[i])) return true;
    return false;
}

limn_status limn_canon_packed_check(const limn_canon *c, const char *name, const limn_tensor *t) {
    static const char fp8[] = "float8_e4m3fn";
    const char *path = limn_weights_path(c->src);
    if (strstr(name, ".quant_state.bitsandbytes"))
        return limn_fail(c->err, LIMN_E_UNSUPPORTED,
                         "%s: is quantised by bitsandbytes ('%s'), which limn does not read", path,
                         name);
    if (!ends_with(name, ".comfy_quant")) return LIMN_OK;
    size_t bytes = 0;
    limn_tensor_bytes(&bytes, t->dtype, &t->shape);
    if (memmem(t->data, bytes, fp8, sizeof fp8 - 1)) return LIMN_OK;
    return limn_fail(c->err, LIMN_E_UNSUPPORTED, "%s: '%s' says %.*s; of these limn reads %s", path,
                     name, bytes < 80 ? (int)bytes : 80, (const char *)t->data, fp8);
}

const limn_tensor *limn_canon_scale_find(const limn_canon *c, const char *full,
                                         const limn_tensor *t) {
    size_t n = strlen(full);
    if ((t->dtype != LIMN_F8_E4M3 && t->dtype != LIMN_F8_E5M2) || !ends_with(full, ".weight"))
        return NULL;
    const limn_tensor *s = limn_weights_findf(c->src, "%s_scale", full);
    if (!s) s = limn_weights_findf(c->src, "%s_scale_inv", full);
    return s ? s : limn_weights_findf(c->src, "%.*sscale_weight", (int)(n - 6), full);
}

enum { BLOCK = 128, PIECE = 1024 };

/* A scale for each 128 x 128 block of a matrix: "weight_scale_inv" of fp8 models on the hub. */
static bool is_by_blocks(const limn_tensor *t, const limn_tensor *scale) {
    const limn_shape *a = &t->shape, *s = &scale->shape;
    return a->ndim == 2 && s->ndim == 2 && s->dim[0] == (a->dim[0] + BLOCK - 1) / BLOCK &&
           s->dim[1] == (a->dim[1] + BLOCK - 1) / BLOCK;
}

limn_status limn_canon_scaled_add(limn_canon *c, const char *name, const limn_tensor *t,
                                  const limn_tensor *scale) {
    int64_t n = limn_shape_count(&t->shape), k = limn_shape_count(&scale->shape);
    int64_t rows = t->shape.ndim ? t->shape.dim[0] : 1;
    bool blocks = is_by_blocks(t, scale);
    if ((k != 1 && k != rows && !blocks) || limn_dtype_get(scale->dtype)->quantised)
        return limn_fail(
            c->err, LIMN_E_UNSUPPORTED,
            "%s: the scale of '%s' has %lld numbers; 1, one per row, or one per block of 128 "
            "x 128 are read",
            limn_weights_path(c->src), name, (long long)k);
    void *data = NULL;
    limn_status st = limn_weights_add_owned(c->out, name, LIMN_F16, &t->shape, &data, c->err);
    if (st != LIMN_OK || n <= 0) return st;
    float piece[PIECE], by = 1;
    const size_t scale_bytes = (size_t)limn_dtype_get(scale->dtype)->bytes;
    for (int64_t r = 0, cols = n / rows; r < rows; r++) {
        for (int64_t at = 0, step = blocks ? BLOCK : PIECE; at < cols; at += step) {
            int64_t len = cols - at < step ? cols - at : step, first = r * cols + at;
            int64_t which = blocks ? r / BLOCK * scale->shape.dim[1] + at / BLOCK : k == 1 ? 0 : r;
            const uint8_t *s = (const uint8_t *)scale->data + (size_t)which * scale_bytes;
            limn_dtype_to_f32(&by, s, scale->dtype, 1);
            limn_dtype_to_f32(piece, (const uint8_t *)t->data + first, t->dtype, len);
            for (int64_t i = 0; i < len; i++) piece[i] *= by;
            limn_dtype_from_f32((uint16_t *)data + first, piece, LIMN_F16, len);
        }
    }
    return LIMN_OK;
}
