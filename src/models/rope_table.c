/* SPDX-License-Identifier: MIT */
/* Rotary tables; see rope_table.h. */
#include "models/rope_table.h"

#include <math.h>

enum { DIM_MAX = 1024 };

static const double two_pi = 6.283185307179586;

/* Long waves are slowed by the factor, short ones kept, those between blended. */
static double llama3_scaled(double f, const limn_rope_config *c) {
    double wave = two_pi / f;
    if (wave < c->original / c->high_freq) return f;
    if (wave > c->original / c->low_freq) return f / c->factor;
    double smooth = (c->original / wave - c->low_freq) / (c->high_freq - c->low_freq);
    return (1 - smooth) * f / c->factor + smooth * f;
}

/* Index of the frequency that turns `rotations` times within the trained context. */
static double yarn_index(double rotations, const limn_rope_config *c) {
    return c->dim * log(c->original / (rotations * two_pi)) / (2 * log(c->theta));
}

static double yarn_scaled(double f, int i, const limn_rope_config *c) {
    double low = floor(yarn_index(c->beta_fast, c)), high = ceil(yarn_index(c->beta_slow, c));
    if (low < 0) low = 0;
    if (high > c->dim - 1) high = c->dim - 1;
    if (high <= low) high = low + 0.001;
    double ramp = (i - low) / (high - low);
    ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
    return f / c->factor * ramp + f * (1 - ramp);
}

float limn_rope_frequencies(float *freq, const limn_rope_config *c) {
    for (int i = 0; i < c->dim / 2; i++) {
        /* transformers: 1 / theta^(2i / dim), each step in f32 */
        double f = 1.0f / powf((float)c->theta, (float)(2 * i) / (float)c->dim);
        switch (c->scaling) {
        case LIMN_ROPE_LINEAR: f /= c->factor; break;
        case LIMN_ROPE_LLAMA3: f = llama3_scaled(f, c); break;
        case LIMN_ROPE_YARN: f = yarn_scaled(f, i, c); break;
        case LIMN_ROPE_DIVIDE: f /= c->divide[i]; break;
        case LIMN_ROPE_PLAIN: break;
        }
        freq[i] = (float)f;
    }
    bool yarn = c->scaling == LIMN_ROPE_YARN && c->factor > 1;
    return yarn ? (float)(0.1 * log(c->factor) + 1.0) : 1.0f;
}

static int axis_of(const limn_rope_config *c, int i) {
    int axis = i % 3;
    return axis > 0 && i < 3 * c->section[axis] ? axis : 0;
}

void limn_rope_table(float *cosines, float *sines, const limn_rope_config *c, const int32_t *pos,
                     int64_t pos_stride, int64_t n) {
    float freq[DIM_MAX / 2], factor = limn_rope_frequencies(freq, c);
    int half = c->dim / 2;
    for (int64_t t = 0; t < n; t++)
        for (int i = 0; i < half; i++) {
            float angle = (float)pos[axis_of(c, i) * pos_stride + t] * freq[i];
            cosines[t * half + i] = (float)cos((double)angle) * factor;
            sines[t * half + i] = (float)sin((double)angle) * factor;
        }
}
