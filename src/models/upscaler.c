/* SPDX-License-Identifier: MIT */
/* Upscaling networks; see upscaler.h. */
#include "models/upscaler.h"

#include <stdio.h>

static const float slope = 0.2f, residual_scale = 0.2f;

static limn_node *conv_lrelu(const limn_nn *nn, limn_node *x, const char *p) {
    return limn_g_leaky_relu(nn->g, limn_nn_conv(nn, x, p, 1), slope);
}

/* Dense block: each convolution reads everything before it; x + 0.2 * conv5. */
static limn_node *dense_block(const limn_nn *nn, limn_node *x, int block, int part) {
    char p[64];
    limn_node *all = x;
    for (int i = 1; i <= 4; i++) {
        snprintf(p, sizeof p, "body.%d.rdb%d.conv%d", block, part, i);
        all = limn_g_concat(nn->g, all, conv_lrelu(nn, all, p));
    }
    snprintf(p, sizeof p, "body.%d.rdb%d.conv5", block, part);
    return limn_g_add(nn->g, limn_g_affine(nn->g, limn_nn_conv(nn, all, p, 1), residual_scale, 0),
                      x);
}

static limn_node *rrdb_body(const limn_nn *nn, const limn_upscaler_config *c, limn_node *x) {
    limn_graph *g = nn->g;
    char p[32];
    x = limn_nn_conv(nn, x, "conv_first", 1);
    limn_node *h = x;
    for (int b = 0; b < c->blocks; b++) {
        limn_node *r = h;
        for (int part = 1; part <= 3; part++) r = dense_block(nn, r, b, part);
        h = limn_g_add(g, limn_g_affine(g, r, residual_scale, 0), h);
    }
    h = limn_g_add(g, limn_nn_conv(nn, h, "conv_body", 1), x);
    for (int i = 1; i <= c->ups && h; i++) {
        snprintf(p, sizeof p, "conv_up%d", i);
        h = conv_lrelu(nn, limn_g_upsample(g, h, 2 * h->shape.dim[1], 2 * h->shape.dim[2]), p);
    }
    return limn_nn_conv(nn, conv_lrelu(nn, h, "conv_hr"), "conv_last", 1);
}

/* Convolutions and PReLUs, pixel shuffle, plus the picture itself enlarged by nearest neighbour. */
static limn_node *srvgg_body(const limn_nn *nn, const limn_upscaler_config *c, limn_node *x) {
    limn_graph *g = nn->g;
    char p[32];
    limn_node *h = x;
    int at = 0;
    for (int i = 0; i <= c->blocks; i++) {
        snprintf(p, sizeof p, "body.%d", at++);
        h = limn_nn_conv(nn, h, p, 1);
        h = limn_g_prelu(g, h, limn_nn_need(nn, "body.%d.weight", at++));
    }
    snprintf(p, sizeof p, "body.%d", at);
    h = limn_g_pixel_shuffle(g, limn_nn_conv(nn, h, p, 1), c->scale);
    if (!h) return NULL;
    return limn_g_add(g, h, limn_g_upsample(g, x, h->shape.dim[1], h->shape.dim[2]));
}

void limn_upscaler_build(const limn_nn *nn, const limn_upscaler_config *c, int64_t height,
                         int64_t width) {
    limn_shape in = LIMN_SHAPE(1, height, width, c->in_channels);
    limn_node *x = limn_g_input(nn->g, "image", LIMN_F32, in);
    if (c->unshuffle > 1) x = limn_g_pixel_unshuffle(nn->g, x, c->unshuffle);
    x = c->kind == LIMN_UPSCALER_RRDB ? rrdb_body(nn, c, x) : srvgg_body(nn, c, x);
    limn_g_output(nn->g, x, "image");
}
