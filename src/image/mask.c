/* SPDX-License-Identifier: MIT */
/* Masks; see mask.h. */
#include "image/mask.h"

#include <assert.h>
#include <math.h>
#include <string.h>

static size_t mask_size(const limn_image *m) {
    assert(m->channels == 1);
    return (size_t)m->width * (size_t)m->height;
}

limn_status limn_mask_from_image(limn_image **out, const limn_image *image, limn_err *err) {
    size_t n = (size_t)image->width * (size_t)image->height;
    bool alpha = false;
    for (size_t i = 0; image->channels == 4 && i < n && !alpha; i++)
        alpha = image->data[i * 4 + 3] != 255;
    if (!alpha) return limn_image_convert(out, image, 1, err);
    limn_status st = limn_image_new(out, image->width, image->height, 1, err);
    for (size_t i = 0; st == LIMN_OK && i < n; i++) (*out)->data[i] = image->data[i * 4 + 3];
    return st;
}

void limn_mask_invert(limn_image *mask) {
    for (size_t i = 0; i < mask_size(mask); i++) mask->data[i] = (uint8_t)(255 - mask->data[i]);
}

void limn_mask_threshold(limn_image *mask, int level) {
    for (size_t i = 0; i < mask_size(mask); i++) mask->data[i] = mask->data[i] >= level ? 255 : 0;
}

/* Largest (or smallest) of a sliding window of `reach` samples to both sides along one line. The
 * monotonic queue makes the cost independent of the reach. */
static void window_line(uint8_t *dst, const uint8_t *src, int n, size_t stride, int reach,
                        bool largest, int *queue) {
    int head = 0, tail = 0;
    for (int i = 0; i < n + reach; i++) {
        if (i < n) {
            uint8_t v = src[(size_t)i * stride];
            while (tail > head) {
                uint8_t back = src[(size_t)queue[tail - 1] * stride];
                if (largest ? back > v : back < v) break;
                tail--;
            }
            queue[tail++] = i;
        }
        int at = i - reach;
        if (at < 0) continue;
        while (queue[head] < at - reach) head++;
        dst[(size_t)at * stride] = src[(size_t)queue[head] * stride];
    }
}

limn_status limn_mask_grow(limn_image *mask, int pixels, limn_err *err) {
    if (pixels == 0) return LIMN_OK;
    bool largest = pixels > 0;
    int reach = largest ? pixels : -pixels, w = mask->width, h = mask->height;
    uint8_t *temp = limn_mem_alloc(mask_size(mask));
    int *queue = limn_mem_alloc((size_t)(w > h ? w : h) * sizeof *queue);
    if (temp && queue) {
        for (int y = 0; y < h; y++) {
            size_t at = (size_t)y * (size_t)w;
            window_line(temp + at, mask->data + at, w, 1, reach, largest, queue);
        }
        for (int x = 0; x < w; x++)
            window_line(mask->data + x, temp + x, h, (size_t)w, reach, largest, queue);
    }
    bool ok = temp && queue;
    limn_mem_free(temp);
    limn_mem_free(queue);
    return ok ? LIMN_OK : limn_fail(err, LIMN_E_NOMEM, "no memory to grow a mask");
}

/* Index -3 is 3, n + 2 is n - 4: mirrored without repeating the edge (cv2 BORDER_REFLECT_101). */
static int mirrored(int i, int n) {
    if (n == 1) return 0;
    int period = 2 * (n - 1);
    i %= period;
    if (i < 0) i += period;
    return i < n ? i : period - i;
}

static void blur_line(float *dst, const float *src, int n, size_t stride, const float *k, int r) {
    for (int i = 0; i < n; i++) {
        float sum = 0;
        for (int t = -r; t <= r; t++) {
            int at = i + t;
            if (at < 0 || at >= n) at = mirrored(at, n);
            sum += k[t + r] * src[(size_t)at * stride];
        }
        dst[(size_t)i * stride] = sum;
    }
}

limn_status limn_mask_blur(limn_image *mask, double sigma, limn_err *err) {
    if (!(sigma > 0)) return LIMN_OK;
    int r = (int)(2.5 * sigma + 0.5), w = mask->width, h = mask->height;
    if (r == 0) return LIMN_OK;
    size_t n = mask_size(mask);
    float *a = limn_mem_calloc(n, sizeof *a), *b = limn_mem_calloc(n, sizeof *b);
    float *k = limn_mem_calloc(2 * (size_t)r + 1, sizeof *k);
    bool ok = a && b && k;
    if (ok) {
        double sum = 0;
        for (int t = -r; t <= r; t++) sum += exp(-(double)t * t / (2 * sigma * sigma));
        for (int t = -r; t <= r; t++)
            k[t + r] = (float)(exp(-(double)t * t / (2 * sigma * sigma)) / sum);
        for (size_t i = 0; i < n; i++) a[i] = mask->data[i];
        for (int y = 0; y < h; y++)
            blur_line(b + (size_t)y * (size_t)w, a + (size_t)y * (size_t)w, w, 1, k, r);
        for (int x = 0; x < w; x++) blur_line(a + x, b + x, h, (size_t)w, k, r);
        for (size_t i = 0; i < n; i++) {
            long v = lrintf(a[i]);
            mask->data[i] = (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
        }
    }
    limn_mem_free(a);
    limn_mem_free(b);
    limn_mem_free(k);
    return ok ? LIMN_OK : limn_fail(err, LIMN_E_NOMEM, "no memory to blur a mask");
}

bool limn_mask_bounds(const limn_image *mask, int *x, int *y, int *width, int *height) {
    int x0 = mask->width, y0 = mask->height, x1 = -1, y1 = -1;
    for (int r = 0; r < mask->height; r++)
        for (int c = 0; c < mask->width; c++) {
            if (!mask->data[(size_t)r * (size_t)mask->width + (size_t)c]) continue;
            if (c < x0) x0 = c;
            if (c > x1) x1 = c;
            if (r < y0) y0 = r;
            y1 = r;
        }
    if (x1 < 0) return false;
    *x = x0;
    *y = y0;
    *width = x1 - x0 + 1;
    *height = y1 - y0 + 1;
    return true;
}
