/* SPDX-License-Identifier: MIT */
/* Elementwise latent operations; see latent_ops.h. */
#include "sample/latent_ops.h"

#include <math.h>

void limn_latent_add_noise(float *x, const float *x0, const float *noise, int64_t n,
                           const limn_noising *m, double sigma) {
    float a = (float)limn_noising_alpha(m, sigma), s = (float)sigma;
    for (int64_t i = 0; i < n; i++) x[i] = a * x0[i] + s * noise[i];
}

void limn_latent_blend_noised(float *x, const float *mask, const float *init, const float *noise,
                              int64_t n, const limn_noising *m, double sigma) {
    float a = (float)limn_noising_alpha(m, sigma), s = (float)sigma;
    for (int64_t i = 0; i < n; i++)
        x[i] = mask[i] * x[i] + (1.0f - mask[i]) * (a * init[i] + s * noise[i]);
}

void limn_latent_blend(float *x0, const float *mask, const float *init, int64_t n) {
    for (int64_t i = 0; i < n; i++) x0[i] = mask[i] * x0[i] + (1.0f - mask[i]) * init[i];
}

/* Cosine of the angle between two columns of a plane. */
static double column_cos(const float *a, const float *b, int64_t h, int64_t w) {
    double ab = 0, aa = 0, bb = 0;
    for (int64_t y = 0; y < h; y++) {
        double p = a[y * w], q = b[y * w];
        ab += p * q;
        aa += p * p;
        bb += q * q;
    }
    double len = sqrt(aa) * sqrt(bb);
    return len > 0 ? ab / len : 1.0;
}

void limn_latent_slerp(float *out, const float *a, const float *b, int64_t planes, int64_t h,
                       int64_t w, double part) {
    double mean = 0;
    for (int64_t p = 0; p < planes; p++)
        for (int64_t x = 0; x < w; x++)
            mean += column_cos(a + p * h * w + x, b + p * h * w + x, h, w);
    bool linear = mean / (double)(planes * w) > 0.9995;
    for (int64_t p = 0; p < planes; p++)
        for (int64_t x = 0; x < w; x++) {
            int64_t at = p * h * w + x;
            double c = fmin(fmax(column_cos(a + at, b + at, h, w), -1.0), 1.0);
            double angle = acos(c), so = sin(angle);
            bool flat = linear || so < 1e-9; /* parallel columns have no plane to turn in */
            double ka = flat ? 1 - part : sin((1 - part) * angle) / so;
            double kb = flat ? part : sin(part * angle) / so;
            for (int64_t y = 0; y < h; y++) {
                int64_t i = at + y * w;
                out[i] = (float)(ka * a[i] + kb * b[i]);
            }
        }
}
