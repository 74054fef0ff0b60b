/* SPDX-License-Identifier: MIT */
/*
 * Planar (torch, [c, h, w]) to interleaved (graph, [h, w, c]) and back. Latents keep torch's order
 * outside the graphs, because seeds and solvers count in it. Pure, any thread.
 */
#ifndef LIMN_PIPELINE_LAYOUT_H
#define LIMN_PIPELINE_LAYOUT_H

#include <stdint.h>

/* dst [pixels, dst_channels], columns [at, at + channels) from src [channels, pixels] * factor */
static inline void limn_planar_to_interleaved(float *dst, const float *src, int64_t channels,
                                              int64_t pixels, int64_t dst_channels, int64_t at,
                                              float factor) {
    for (int64_t c = 0; c < channels; c++)
        for (int64_t i = 0; i < pixels; i++)
            dst[i * dst_channels + at + c] = src[c * pixels + i] * factor;
}

/* dst [channels, pixels] from the first `channels` columns of src [pixels, src_channels] */
static inline void limn_interleaved_to_planar(float *dst, const float *src, int64_t channels,
                                              int64_t pixels, int64_t src_channels) {
    for (int64_t c = 0; c < channels; c++)
        for (int64_t i = 0; i < pixels; i++) dst[c * pixels + i] = src[i * src_channels + c];
}

#endif
