/* SPDX-License-Identifier: MIT */
/* AutoencoderTiny (TAESD); see autoencoder.h. Layers are numbered as in diffusers' Sequential. */
#include <stdio.h>

#include "models/autoencoder.h"

/* A convolution of the Sequential; the mid-stream ones have no bias. */
static limn_node *tiny_conv(const limn_nn *nn, limn_node *x, const char *half, int layer,
                            int stride) {
    char p[64];
    snprintf(p, sizeof p, "%s.layers.%d", half, layer);
    return limn_nn_conv(nn, x, p, stride);
}

/* conv relu conv relu conv, plus x (or a 1x1 of it), relu */
static limn_node *tiny_block(const limn_nn *nn, limn_node *x, const char *half, int layer) {
    char p[64];
    limn_node *h = x;
    for (int i = 0; i < 3; i++) {
        snprintf(p, sizeof p, "%s.layers.%d.conv.%d", half, layer, 2 * i);
        h = limn_nn_conv(nn, h, p, 1);
        if (i < 2) h = limn_g_unary(nn->g, h, LIMN_ACT_RELU);
    }
    snprintf(p, sizeof p, "%s.layers.%d.skip", half, layer);
    if (limn_nn_find(nn, "%s.weight", p)) x = limn_nn_conv(nn, x, p, 1);
    return limn_g_unary(nn->g, limn_g_add(nn->g, h, x), LIMN_ACT_RELU);
}

void limn_taesd_build_encoder(const limn_nn *nn, const limn_taesd_config *c,
                              const limn_vae_request *r) {
    limn_graph *g = nn->g;
    int layer = 0;
    limn_graph_set_narrow_sums(g, true);
    limn_node *x = limn_g_input(g, "image", LIMN_F32, LIMN_SHAPE(r->batch, r->height, r->width, 3));
    x = limn_g_affine(g, x, 0.5f, 0.5f); /* the network works on [0, 1] */
    for (int i = 0; i < c->levels; i++) {
        x = tiny_conv(nn, x, "encoder", layer++, i == 0 ? 1 : 2);
        for (int k = 0; k < c->enc_blocks[i]; k++) x = tiny_block(nn, x, "encoder", layer++);
    }
    limn_g_output(g, tiny_conv(nn, x, "encoder", layer, 1), "latent");
}

void limn_taesd_build_decoder(const limn_nn *nn, const limn_taesd_config *c,
                              const limn_vae_request *r) {
    limn_graph *g = nn->g;
    limn_shape in = LIMN_SHAPE(r->batch, r->height, r->width, c->latent_channels);
    limn_graph_set_narrow_sums(g, true);
    limn_node *x = limn_g_input(g, "latent", LIMN_F32, in);
    x = limn_g_unary(g, limn_g_affine(g, x, 1.0f / 3.0f, 0), LIMN_ACT_TANH);
    x = limn_g_affine(g, x, 3.0f, 0); /* soft clamp to (-3, 3) */
    x = limn_g_unary(g, tiny_conv(nn, x, "decoder", 0, 1), LIMN_ACT_RELU);
    int layer = 2;
    for (int i = 0; i < c->levels; i++) {
        for (int k = 0; k < c->dec_blocks[i]; k++) x = tiny_block(nn, x, "decoder", layer++);
        if (i + 1 < c->levels) {
            if (!x) return;
            x = limn_g_upsample(g, x, 2 * x->shape.dim[1], 2 * x->shape.dim[2]);
            layer++;
        }
        x = tiny_conv(nn, x, "decoder", layer++, 1);
    }
    limn_g_output(g, limn_g_affine(g, x, 2.0f, -1.0f), "image");
}

/* As limn_vae_halo: a block has three convolutions, each stage is followed by one at the next size.
 */
int64_t limn_taesd_halo(const limn_taesd_config *c, bool decode) {
    int64_t side = (int64_t)1 << (c->levels - 1), pixels = side; /* conv at the latent's size */
    for (int i = 0; i < c->levels; i++) {
        int64_t one = decode ? side >> i : (int64_t)1 << i;
        pixels += (3 * (decode ? c->dec_blocks[i] : c->enc_blocks[i]) + 1) * one;
    }
    return (pixels + side - 1) / side + 1;
}
