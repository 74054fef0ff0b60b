/* SPDX-License-Identifier: MIT */
/* img2img and inpainting preparation; see init_stage.h. */
#include "pipeline/init_stage.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "image/mask.h"
#include "image/resample.h"
#include "pipeline/layout.h"

static limn_status load_rgb(limn_image **out, const char *path, limn_err *err) {
    limn_image *raw = NULL;
    limn_status st = limn_image_load(&raw, path, err);
    if (st == LIMN_OK) st = limn_image_convert(out, raw, 3, err);
    limn_image_free(&raw);
    return st;
}

static limn_status load_mask(limn_image **out, const limn_gen *g, const limn_image *picture,
                             limn_err *err) {
    limn_image *raw = NULL, *mask = NULL;
    limn_status st = LIMN_OK;
    LIMN_TRY(limn_image_load(&raw, g->mask, err));
    LIMN_TRY(limn_mask_from_image(&mask, raw, err));
    LIMN_TRY(
        limn_image_resize(out, mask, picture->width, picture->height, LIMN_FILTER_BILINEAR, err));
    if (g->mask_invert) limn_mask_invert(*out);
    if (g->mask_grow != 0) LIMN_TRY(limn_mask_grow(*out, (int)g->mask_grow, err));
    LIMN_TRY(limn_mask_blur(*out, g->mask_blur, err));
out:
    limn_image_free(&raw);
    limn_image_free(&mask);
    return st;
}

/* Grows an interval of length n to `want`, keeping its middle, inside [0, total). */
static void widen(int *at, int *n, int want, int total) {
    if (want > total) want = total;
    if (*n >= want) return;
    *at -= (want - *n) / 2;
    *n = want;
    if (*at < 0) *at = 0;
    if (*at + *n > total) *at = total - *n;
}

/* Area "masked": the mask's bounds with padding, in the drawing's proportions. */
static limn_status crop_to_mask(limn_init *in, const limn_draw_plan *plan, limn_err *err) {
    const limn_gen *g = limn_gen_of(plan->params);
    limn_status st = LIMN_OK;
    limn_image *picture = NULL, *mask = NULL;
    int x, y, w, h, pad = (int)g->inpaint_padding;
    LIMN_CHECK(err, limn_mask_bounds(in->mask, &x, &y, &w, &h), LIMN_E_VALUE,
               "%s: nothing is white, so there is nothing to draw anew", g->mask);
    int total_w = in->picture->width, total_h = in->picture->height;
    widen(&x, &w, w + 2 * pad, total_w);
    widen(&y, &h, h + 2 * pad, total_h);
    double ratio = (double)plan->first.width / (double)plan->first.height;
    if ((double)w / h < ratio)
        widen(&x, &w, (int)ceil(h * ratio), total_w);
    else
        widen(&y, &h, (int)ceil(w / ratio), total_h);
    LIMN_TRY(limn_image_crop(&picture, in->picture, x, y, w, h, err));
    LIMN_TRY(limn_image_crop(&mask, in->mask, x, y, w, h, err));
    in->original = in->picture;
    in->picture = NULL;
    limn_image_free(&in->mask);
    LIMN_TRY(limn_image_resize(&in->picture, picture, (int)plan->first.width,
                               (int)plan->first.height, LIMN_FILTER_LANCZOS, err));
    LIMN_TRY(limn_image_resize(&in->mask, mask, (int)plan->first.width, (int)plan->first.height,
                               LIMN_FILTER_BILINEAR, err));
    in->crop_x = x, in->crop_y = y, in->crop_w = w, in->crop_h = h;
out:
    limn_image_free(&picture);
    limn_image_free(&mask);
    return st;
}

static limn_status load_pictures(limn_init *in, const limn_draw_plan *plan, limn_err *err) {
    const limn_gen *g = limn_gen_of(plan->params);
    limn_image *raw = NULL;
    limn_status st = LIMN_OK;
    bool masked_area = plan->has_mask && g->inpaint_area == LIMN_AREA_MASKED;
    LIMN_TRY(load_rgb(&raw, g->init_image, err));
    if (masked_area) {
        in->picture = raw;
        raw = NULL;
    } else {
        limn_resize_fit fit =
            g->fit == LIMN_FIT_LATENT ? LIMN_RESIZE_STRETCH : (limn_resize_fit)g->fit;
        LIMN_TRY(limn_image_fit(&in->picture, raw, (int)plan->first.width, (int)plan->first.height,
                                fit, err));
    }
    if (g->fit == LIMN_FIT_LATENT && !masked_area) {
        in->own = raw;
        raw = NULL;
    }
    if (plan->has_mask) LIMN_TRY(load_mask(&in->mask, g, in->picture, err));
    if (masked_area) LIMN_TRY(crop_to_mask(in, plan, err));
out:
    limn_image_free(&raw);
    return st;
}

/* "fill": the masked part takes the colours around it, from coarse blurs to fine ones, as A1111. */
static limn_status smear(limn_image **out, const limn_image *picture, const limn_image *mask,
                         limn_err *err) {
    static const int sizes[] = {64, 32, 16, 8, 4, 2};
    limn_status st = limn_image_copy(out, picture, err);
    int w = picture->width, h = picture->height;
    for (size_t k = 0; k < sizeof sizes / sizeof sizes[0] && st == LIMN_OK; k++) {
        int sw = w / sizes[k] > 0 ? w / sizes[k] : 1, sh = h / sizes[k] > 0 ? h / sizes[k] : 1;
        for (int y = 0; y < h; y++)
            for (int x = 0; x < w; x++) {
                if (mask->data[y * w + x] < 128) continue;
                /* mean of the kept pixels of this cell and its neighbours */
                int cy = y * sh / h, cx = x * sw / w, n = 0, sum[3] = {0};
                for (int v = (cy - 1) * h / sh; v < (cy + 2) * h / sh; v += 1 + h / sh / 4)
                    for (int u = (cx - 1) * w / sw; u < (cx + 2) * w / sw; u += 1 + w / sw / 4) {
                        if (u < 0 || v < 0 || u >= w || v >= h || mask->data[v * w + u] >= 128)
                            continue;
                        for (int c = 0; c < 3; c++) sum[c] += picture->data[(v * w + u) * 3 + c];
                        n++;
                    }
                for (int c = 0; c < 3 && n > 0; c++)
                    (*out)->data[(y * w + x) * 3 + c] = (uint8_t)(sum[c] / n);
            }
    }
    return st;
}

/* spread: NULL or as limn_vae_encode. */
static limn_status encode_image(float *latent, float *spread, limn_checkpoint *ckpt,
                                const limn_image *image, const limn_vae_options *vae,
                                limn_err *err) {
    int64_t n = (int64_t)image->width * image->height;
    float *planar = limn_mem_aligned((size_t)n * 3 * sizeof *planar);
    float *inter = limn_mem_aligned((size_t)n * 3 * sizeof *inter);
    limn_status st =
        planar && inter ? LIMN_OK : limn_fail(err, LIMN_E_NOMEM, "no memory for a picture");
    if (st == LIMN_OK) {
        limn_image_to_f32(planar, image);
        limn_planar_to_interleaved(inter, planar, 3, n, 3, 0, 1);
        st = limn_vae_encode(latent, spread, ckpt, inter, image->height, image->width, vae, err);
    }
    limn_mem_free(planar);
    limn_mem_free(inter);
    return st;
}

/* One plane to another size as torch's interpolate(mode="bilinear") without antialias does. */
static void resize_plane(float *dst, const float *src, int64_t h, int64_t w, int64_t oh,
                         int64_t ow) {
    for (int64_t y = 0; y < oh; y++) {
        double sy = fmax(((double)y + 0.5) * (double)h / (double)oh - 0.5, 0);
        int64_t y0 = (int64_t)sy, y1 = y0 + 1 < h ? y0 + 1 : y0;
        double fy = sy - (double)y0;
        for (int64_t x = 0; x < ow; x++) {
            double sx = fmax(((double)x + 0.5) * (double)w / (double)ow - 0.5, 0);
            int64_t x0 = (int64_t)sx, x1 = x0 + 1 < w ? x0 + 1 : x0;
            double fx = sx - (double)x0;
            double top = src[y0 * w + x0] * (1 - fx) + src[y0 * w + x1] * fx;
            double low = src[y1 * w + x0] * (1 - fx) + src[y1 * w + x1] * fx;
            dst[y * ow + x] = (float)(top * (1 - fy) + low * fy);
        }
    }
}

/* A1111's resize mode 3 (modules/processing.py, init of img2img): the picture is encoded at its own
 * size, cut to whole latents, and the mean of its latent is brought to [c, oh, ow]. */
static limn_status encode_resized(float *latent, limn_checkpoint *ckpt, const limn_image *own,
                                  int64_t c, int64_t oh, int64_t ow, const limn_vae_options *vae,
                                  limn_err *err) {
    int64_t s = ckpt->latent_scale, h = own->height / s, w = own->width / s;
    limn_image *whole = NULL;
    float *small = NULL;
    limn_status st = LIMN_OK;
    LIMN_CHECK(err, h > 0 && w > 0, LIMN_E_VALUE, "the start picture is smaller than one latent");
    LIMN_TRY(limn_image_crop(&whole, own, 0, 0, (int)(w * s), (int)(h * s), err));
    small = limn_mem_aligned((size_t)(c * h * w) * sizeof *small);
    LIMN_CHECK(err, small, LIMN_E_NOMEM, "no memory for a latent");
    LIMN_TRY(encode_image(small, NULL, ckpt, whole, vae, err));
    for (int64_t i = 0; i < c; i++)
        resize_plane(latent + i * oh * ow, small + i * h * w, h, w, oh, ow);
out:
    limn_image_free(&whole);
    limn_mem_free(small);
    return st;
}

/* Area average of the mask over each latent cell, the same for all channels. */
static void mask_to_latent(float *out, const limn_image *mask, int64_t channels, int64_t h,
                           int64_t w, int scale) {
    for (int64_t y = 0; y < h; y++)
        for (int64_t x = 0; x < w; x++) {
            int64_t sum = 0;
            for (int v = 0; v < scale; v++)
                for (int u = 0; u < scale; u++)
                    sum += mask->data[(y * scale + v) * mask->width + x * scale + u];
            float m = (float)sum / (255.0f * (float)(scale * scale));
            for (int64_t c = 0; c < channels; c++) out[(c * h + y) * w + x] = m;
        }
}

/* Nine-channel inpaint models: binary mask, then the latent of the picture with the masked part at
 * mid grey (diffusers pipeline_stable_diffusion_inpaint.py prepare_mask_and_masked_image). */
static limn_status inpaint_extra(limn_init *in, limn_checkpoint *ckpt, int64_t h, int64_t w,
                                 const limn_vae_options *vae, limn_err *err) {
    limn_image *grey = NULL;
    limn_status st = limn_image_copy(&grey, in->picture, err);
    if (st != LIMN_OK) return st;
    for (int64_t i = 0; in->mask && i < (int64_t)grey->width * grey->height; i++)
        if (in->mask->data[i] >= 128) memset(grey->data + i * 3, 128, 3);
    if (!in->mask) memset(grey->data, 128, (size_t)grey->width * (size_t)grey->height * 3);
    for (int64_t i = 0; i < h * w; i++)
        in->extra[i] = !in->latent_mask || in->latent_mask[i] >= 0.5f ? 1.0f : 0.0f;
    st = encode_image(in->extra + h * w, NULL, ckpt, grey, vae, err);
    limn_image_free(&grey);
    return st;
}

static limn_status make_extra(limn_init *in, limn_checkpoint *ckpt, int64_t h, int64_t w,
                              const limn_vae_options *vae, limn_err *err) {
    const limn_unet_config *c = &ckpt->unet_cfg;
    in->extra_channels = c->in_channels - c->out_channels;
    if (in->extra_channels == 0) return LIMN_OK;
    in->extra = limn_mem_aligned((size_t)(in->extra_channels * h * w) * sizeof(float));
    if (!in->extra) return limn_fail(err, LIMN_E_NOMEM, "no memory for a latent");
    if (in->extra_channels == c->out_channels + 1) return inpaint_extra(in, ckpt, h, w, vae, err);
    if (in->extra_channels != c->out_channels)
        return limn_fail(err, LIMN_E_UNSUPPORTED, "%s: %d input channels for %d output channels",
                         ckpt->path, c->in_channels, c->out_channels);
    /* Edit models take the unscaled latent. */
    for (int64_t i = 0; i < in->extra_channels * h * w; i++)
        in->extra[i] = in->latent[i] / ckpt->vae_cfg.scaling_factor;
    return LIMN_OK;
}

limn_status limn_init_make(limn_init *in, const limn_draw_plan *plan, limn_checkpoint *ckpt,
                           const limn_vae_options *vae, limn_err *err) {
    *in = (limn_init){0};
    if (!plan->has_init) return LIMN_OK;
    const limn_gen *g = limn_gen_of(plan->params);
    limn_status st = LIMN_OK;
    limn_image *filled = NULL;
    int64_t h = plan->first.height / ckpt->latent_scale, w = plan->first.width / ckpt->latent_scale;
    int64_t c = ckpt->unet_cfg.out_channels;
    LIMN_TRY(load_pictures(in, plan, err));
    in->latent = limn_mem_aligned((size_t)(c * h * w) * sizeof(float));
    LIMN_CHECK(err, in->latent, LIMN_E_NOMEM, "no memory for a latent");
    /* Edit models read the picture beside the noise: their pipeline takes the mean. */
    bool own = in->own && !(in->mask && g->inpaint_fill == LIMN_FILL_SMEAR);
    if (g->init_posterior == LIMN_POSTERIOR_SAMPLE && ckpt->unet_cfg.in_channels != 8 && !own) {
        in->spread = limn_mem_aligned((size_t)(c * h * w) * sizeof(float));
        LIMN_CHECK(err, in->spread, LIMN_E_NOMEM, "no memory for a latent");
    }
    if (in->mask) {
        in->latent_mask = limn_mem_aligned((size_t)(c * h * w) * sizeof(float));
        LIMN_CHECK(err, in->latent_mask, LIMN_E_NOMEM, "no memory for a mask");
        mask_to_latent(in->latent_mask, in->mask, c, h, w, ckpt->latent_scale);
    }
    if (in->mask && g->inpaint_fill == LIMN_FILL_SMEAR)
        LIMN_TRY(smear(&filled, in->picture, in->mask, err));
    if (own)
        LIMN_TRY(encode_resized(in->latent, ckpt, in->own, c, h, w, vae, err));
    else
        LIMN_TRY(
            encode_image(in->latent, in->spread, ckpt, filled ? filled : in->picture, vae, err));
    LIMN_TRY(make_extra(in, ckpt, h, w, vae, err));
out:
    limn_image_free(&filled);
    limn_image_free(&in->own);
    if (st != LIMN_OK) limn_init_deinit(in);
    return st;
}

void limn_init_deinit(limn_init *in) {
    limn_image_free(&in->original);
    limn_image_free(&in->own);
    limn_image_free(&in->picture);
    limn_image_free(&in->mask);
    limn_mem_free(in->latent);
    limn_mem_free(in->spread);
    limn_mem_free(in->latent_mask);
    limn_mem_free(in->extra);
    *in = (limn_init){0};
}

static void paste(limn_image *dst, const limn_image *src, int x, int y) {
    for (int r = 0; r < src->height; r++)
        memcpy(dst->data + ((size_t)(y + r) * (size_t)dst->width + (size_t)x) * 3,
               src->data + (size_t)r * (size_t)src->width * 3, (size_t)src->width * 3);
}

limn_status limn_init_finish(const limn_init *in, limn_image **drawn, limn_err *err) {
    if (!in->mask) return LIMN_OK;
    limn_image *mixed = NULL, *part = NULL, *whole = NULL;
    limn_status st = LIMN_OK;
    LIMN_TRY(limn_image_composite(&mixed, *drawn, in->picture, in->mask, err));
    if (in->original) {
        LIMN_TRY(limn_image_resize(&part, mixed, in->crop_w, in->crop_h, LIMN_FILTER_LANCZOS, err));
        LIMN_TRY(limn_image_copy(&whole, in->original, err));
        paste(whole, part, in->crop_x, in->crop_y);
        limn_image_free(&mixed);
        mixed = whole;
        whole = NULL;
    }
    limn_image_free(drawn);
    *drawn = mixed;
    mixed = NULL;
out:
    limn_image_free(&mixed);
    limn_image_free(&part);
    limn_image_free(&whole);
    return st;
}

static limn_status readable(const char *path, const char *what, limn_err *err) {
    if (path[0] == 0 || access(path, R_OK) == 0) return LIMN_OK;
    int why = errno;
    return limn_fail(err, why == ENOENT || why == ENOTDIR ? LIMN_E_NOT_FOUND : LIMN_E_IO,
                     "%s: the %s cannot be read: %s", path, what, strerror(why));
}

limn_status limn_init_check(const limn_gen *gen, limn_err *err) {
    limn_status st = readable(gen->init_image, "start picture", err);
    return st == LIMN_OK ? readable(gen->mask, "mask", err) : st;
}
