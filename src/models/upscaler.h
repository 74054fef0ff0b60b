/* SPDX-License-Identifier: MIT */
/*
 * Upscaling networks: RRDBNet (ESRGAN, Real-ESRGAN) and SRVGGNetCompact (Real-ESRGAN's compact
 * models); basicsr/archs/rrdbnet_arch.py and realesrgan/archs/srvgg_arch.py.
 */
#ifndef LIMN_MODELS_UPSCALER_H
#define LIMN_MODELS_UPSCALER_H

#include "formats/model_config.h"
#include "nn/nn.h"

/* "image" f32 [1, height, width, in_channels] in 0..1 -> "image" [1, scale * height, scale * width,
 * out_channels], not clamped. With unshuffle > 1 the sides must be multiples of it. */
void limn_upscaler_build(const limn_nn *nn, const limn_upscaler_config *c, int64_t height,
                         int64_t width);

#endif
