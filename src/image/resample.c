/* SPDX-License-Identifier: MIT */
/* Separable resampling; see resample.h. */
#include "image/resample.h"

#include <math.h>
#include <string.h>

enum { PRECISION_BITS = 32 - 8 - 2 };

/* ---- kernels: weight at distance x (in source pixels divided by the widening) ---- */

static double box_weight(double x) {
    return x > -0.5 && x <= 0.5 ? 1.0 : 0.0;
}

static double bilinear_weight(double x) {
    x = fabs(x);
    return x < 1.0 ? 1.0 - x : 0.0;
}

static double hamming_weight(double x) {
    x = fabs(x);
    if (x == 0.0) return 1.0;
    if (x >= 1.0) return 0.0;
    x = x * M_PI;
    return sin(x) / x * (0.54f + 0.46f * cos(x));
}

static double bicubic_weight(double x) {
    const double a = -0.5;
    x = fabs(x);
    if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
    return 0.0;
}

static double sinc(double x) {
    if (x == 0.0) return 1.0;
    x = x * M_PI;
    return sin(x) / x;
}

static double lanczos_weight(double x) {
    return x >= -3.0 && x < 3.0 ? sinc(x) * sinc(x / 3) : 0.0;
}

typedef struct kernel_row {
    double (*weight)(double x);
    double support;
} kernel_row;

static const kernel_row kernels[LIMN_FILTERS] = {
    [LIMN_FILTER_BOX] = {box_weight, 0.5},         [LIMN_FILTER_BILINEAR] = {bilinear_weight, 1.0},
    [LIMN_FILTER_HAMMING] = {hamming_weight, 1.0}, [LIMN_FILTER_BICUBIC] = {bicubic_weight, 2.0},
    [LIMN_FILTER_LANCZOS] = {lanczos_weight, 3.0},
};

/* ---- weights of one axis ---- */

typedef struct axis {
    int taps;       /* room per output sample */
    int *first;     /* [out] first source sample */
    int *count;     /* [out] how many */
    double *real;   /* [out, taps], sum 1 */
    int32_t *fixed; /* [out, taps], 22 fractional bits */
} axis;

static void axis_deinit(axis *a) {
    limn_mem_free(a->first);
    limn_mem_free(a->count);
    limn_mem_free(a->real);
    limn_mem_free(a->fixed);
    *a = (axis){0};
}

static limn_status axis_init(axis *a, int in, double in0, double in1, int out, const kernel_row *k,
                             limn_err *err) {
    double scale = (in1 - in0) / out, widen = scale < 1.0 ? 1.0 : scale;
    double support = k->support * widen, ss = 1.0 / widen;
    *a = (axis){.taps = (int)ceil(support) * 2 + 1};
    size_t n = (size_t)out, all;
    if (limn_mul_size(&all, n, (size_t)a->taps)) {
        a->first = limn_mem_calloc(n, sizeof *a->first);
        a->count = limn_mem_calloc(n, sizeof *a->count);
        a->real = limn_mem_calloc(all, sizeof *a->real);
        a->fixed = limn_mem_calloc(all, sizeof *a->fixed);
    }
    if (!a->first || !a->count || !a->real || !a->fixed) {
        axis_deinit(a);
        return limn_fail(err, LIMN_E_NOMEM, "no memory to resize an image to %d pixels", out);
    }
    for (int i = 0; i < out; i++) {
        double center = in0 + (i + 0.5) * scale, sum = 0.0;
        int low = (int)(center - support + 0.5), high = (int)(center + support + 0.5);
        if (low < 0) low = 0;
        if (high > in) high = in;
        double *w = a->real + (size_t)i * (size_t)a->taps;
        int32_t *f = a->fixed + (size_t)i * (size_t)a->taps;
        for (int x = 0; x < high - low; x++) {
            w[x] = k->weight((x + low - center + 0.5) * ss);
            sum += w[x];
        }
        for (int x = 0; x < high - low; x++) {
            if (sum != 0.0) w[x] /= sum;
            f[x] = (int32_t)((w[x] < 0 ? -0.5 : 0.5) + w[x] * (1 << PRECISION_BITS));
        }
        a->first[i] = low;
        a->count[i] = high - low;
    }
    return LIMN_OK;
}

static uint8_t clip8(int32_t v) {
    v >>= PRECISION_BITS;
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

/* One pass over an image seen as [outer, in, inner] -> [outer, out, inner]: horizontal with inner =
 * channels, vertical with inner = width * channels. */
static void pass_u8(uint8_t *dst, const uint8_t *src, const axis *a, size_t outer, int in, int out,
                    size_t inner) {
    for (size_t o = 0; o < outer; o++) {
        const uint8_t *s = src + o * (size_t)in * inner;
        for (int i = 0; i < out; i++) {
            const int32_t *w = a->fixed + (size_t)i * (size_t)a->taps;
            const uint8_t *from = s + (size_t)a->first[i] * inner;
            for (size_t c = 0; c < inner; c++) {
                int32_t sum = 1 << (PRECISION_BITS - 1);
                for (int x = 0; x < a->count[i]; x++) sum += from[(size_t)x * inner + c] * w[x];
                *dst++ = clip8(sum);
            }
        }
    }
}

static void pass_f32(float *dst, const float *src, const axis *a, size_t outer, int in, int out,
                     size_t inner) {
    for (size_t o = 0; o < outer; o++) {
        const float *s = src + o * (size_t)in * inner;
        for (int i = 0; i < out; i++) {
            const double *w = a->real + (size_t)i * (size_t)a->taps;
            const float *from = s + (size_t)a->first[i] * inner;
            for (size_t c = 0; c < inner; c++) {
                double sum = 0.0;
                for (int x = 0; x < a->count[i]; x++)
                    sum += (double)from[(size_t)x * inner + c] * w[x];
                *dst++ = (float)sum;
            }
        }
    }
}

/* Source sample of each output sample, stepping as Pillow's ImagingScaleAffine does. */
static void nearest(void *dst, const void *src, const limn_resample *how, const double *box,
                    size_t sample) {
    size_t pixel = sample * (size_t)how->channels;
    double sx = (box[2] - box[0]) / how->dst_width, sy = (box[3] - box[1]) / how->dst_height;
    unsigned char *d = dst;
    double yo = box[1] + sy * 0.5;
    for (int y = 0; y < how->dst_height; y++, yo += sy) {
        int from_y = yo < how->src_height ? (int)yo : how->src_height - 1;
        const unsigned char *line =
            (const unsigned char *)src + (size_t)from_y * (size_t)how->src_width * pixel;
        double xo = box[0] + sx * 0.5;
        for (int x = 0; x < how->dst_width; x++, xo += sx, d += pixel) {
            int from_x = xo < how->src_width ? (int)xo : how->src_width - 1;
            memcpy(d, line + (size_t)from_x * pixel, pixel);
        }
    }
}

/* Checks the request; the box to use goes to `box`. */
static limn_status check(double *box, const limn_resample *h, limn_err *err) {
    const double whole[4] = {0, 0, h->src_width, h->src_height};
    memcpy(box, h->box ? h->box : whole, sizeof whole);
    if (h->src_width < 1 || h->src_height < 1 || h->dst_width < 1 || h->dst_height < 1 ||
        h->channels < 1 || h->channels > 4 || (unsigned)h->filter >= LIMN_FILTERS)
        return limn_fail(err, LIMN_E_VALUE, "cannot resize %dx%d to %dx%d", h->src_width,
                         h->src_height, h->dst_width, h->dst_height);
    if (!(box[0] >= 0 && box[1] >= 0 && box[2] <= h->src_width && box[3] <= h->src_height &&
          box[0] < box[2] && box[1] < box[3]))
        return limn_fail(err, LIMN_E_VALUE, "the part to resize lies outside the %dx%d image",
                         h->src_width, h->src_height);
    return LIMN_OK;
}

typedef void pass_fn(void *dst, const void *src, const axis *a, size_t outer, int in, int out,
                     size_t inner);

static void pass_any_u8(void *dst, const void *src, const axis *a, size_t outer, int in, int out,
                        size_t inner) {
    pass_u8(dst, src, a, outer, in, out, inner);
}
static void pass_any_f32(void *dst, const void *src, const axis *a, size_t outer, int in, int out,
                         size_t inner) {
    pass_f32(dst, src, a, outer, in, out, inner);
}

static limn_status resample(void *dst, const void *src, const limn_resample *h, size_t sample,
                            pass_fn *pass, limn_err *err) {
    double box[4];
    axis ax = {0}, ay = {0};
    void *middle = NULL;
    limn_status st = check(box, h, err);
    if (st != LIMN_OK) return st;
    if (h->filter == LIMN_FILTER_NEAREST) {
        nearest(dst, src, h, box, sample);
        return LIMN_OK;
    }
    const kernel_row *k = &kernels[h->filter];
    /* an axis that does not change is not touched: Pillow skips the pass as well */
    bool across = h->dst_width != h->src_width || box[0] != 0 || box[2] != h->dst_width;
    bool down = h->dst_height != h->src_height || box[1] != 0 || box[3] != h->dst_height;
    size_t n = (size_t)h->channels, row_in = (size_t)h->src_width * n,
           row_out = (size_t)h->dst_width * n;
    if (across) LIMN_TRY(axis_init(&ax, h->src_width, box[0], box[2], h->dst_width, k, err));
    if (down) LIMN_TRY(axis_init(&ay, h->src_height, box[1], box[3], h->dst_height, k, err));
    if (across && down) {
        middle = limn_mem_alloc((size_t)h->src_height * row_out * sample);
        LIMN_CHECK(err, middle, LIMN_E_NOMEM, "no memory to resize an image");
    }
    if (across)
        pass(down ? middle : dst, src, &ax, (size_t)h->src_height, h->src_width, h->dst_width, n);
    if (down) pass(dst, across ? middle : src, &ay, 1, h->src_height, h->dst_height, row_out);
    if (!across && !down) memcpy(dst, src, (size_t)h->src_height * row_in * sample);
out:
    axis_deinit(&ax);
    axis_deinit(&ay);
    limn_mem_free(middle);
    return st;
}

limn_status limn_resample_u8(uint8_t *dst, const uint8_t *src, const limn_resample *how,
                             limn_err *err) {
    return resample(dst, src, how, 1, pass_any_u8, err);
}

limn_status limn_resample_f32(float *dst, const float *src, const limn_resample *how,
                              limn_err *err) {
    return resample(dst, src, how, sizeof(float), pass_any_f32, err);
}

/* Pillow's RGBA -> RGBa and back (Convert.c): rounded product, truncated quotient. */
static void premultiply(limn_image *im) {
    uint8_t *p = im->data;
    for (size_t i = 0; i < (size_t)im->width * (size_t)im->height; i++, p += 4)
        for (int c = 0; c < 3; c++) {
            unsigned t = p[c] * (unsigned)p[3] + 128;
            p[c] = (uint8_t)(((t >> 8) + t) >> 8);
        }
}

static void unpremultiply(limn_image *im) {
    uint8_t *p = im->data;
    for (size_t i = 0; i < (size_t)im->width * (size_t)im->height; i++, p += 4)
        for (int c = 0; c < 3 && p[3] != 0 && p[3] != 255; c++) {
            unsigned v = 255u * p[c] / p[3];
            p[c] = (uint8_t)(v > 255 ? 255 : v);
        }
}

limn_status limn_image_resize(limn_image **out, const limn_image *image, int width, int height,
                              limn_filter filter, limn_err *err) {
    limn_image *work = NULL;
    limn_status st = limn_image_new(out, width, height, image->channels, err);
    if (st != LIMN_OK) return st;
    bool alpha = image->channels == 4 && filter != LIMN_FILTER_NEAREST;
    if (alpha) {
        LIMN_TRY(limn_image_copy(&work, image, err));
        premultiply(work);
    }
    limn_resample how = {.src_width = image->width,
                         .src_height = image->height,
                         .dst_width = width,
                         .dst_height = height,
                         .channels = image->channels,
                         .filter = filter};
    LIMN_TRY(limn_resample_u8((*out)->data, work ? work->data : image->data, &how, err));
    if (alpha) unpremultiply(*out);
out:
    limn_image_free(&work);
    if (st != LIMN_OK) limn_image_free(out);
    return st;
}

limn_status limn_image_fit(limn_image **out, const limn_image *image, int width, int height,
                           limn_resize_fit fit, limn_err *err) {
    *out = NULL;
    if (fit == LIMN_RESIZE_STRETCH)
        return limn_image_resize(out, image, width, height, LIMN_FILTER_LANCZOS, err);
    double sx = (double)width / image->width, sy = (double)height / image->height;
    double scale = (fit == LIMN_RESIZE_CROP) == (sx > sy) ? sx : sy;
    int w = (int)lround(image->width * scale), h = (int)lround(image->height * scale);
    if (w < 1) w = 1;
    if (h < 1) h = 1;
    limn_image *sized = NULL;
    limn_status st = limn_image_resize(&sized, image, w, h, LIMN_FILTER_LANCZOS, err);
    if (st != LIMN_OK) return st;
    /* centred; a negative offset repeats the edge */
    st = limn_image_crop(out, sized, (w - width) / 2, (h - height) / 2, width, height, err);
    limn_image_free(&sized);
    return st;
}
