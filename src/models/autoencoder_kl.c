/* SPDX-License-Identifier: MIT */
/* AutoencoderKL; see autoencoder.h. */
#include <stdio.h>

#include "models/autoencoder.h"

static limn_node *kl_resnet(const limn_nn *nn, const limn_vae_config *c, limn_node *x,
                            const char *p) {
    limn_graph_set_label(nn->g, p);
    return limn_nn_resblock(nn, x, NULL, p, c->groups, c->norm_eps);
}

static limn_node *kl_mid(const limn_nn *nn, const limn_vae_config *c, limn_node *x,
                         const char *half) {
    char p[96];
    snprintf(p, sizeof p, "%s.mid_block.resnets.0", half);
    x = kl_resnet(nn, c, x, p);
    if (c->mid_attention) {
        snprintf(p, sizeof p, "%s.mid_block.attentions.0.group_norm", half);
        limn_node *h = limn_nn_to_tokens(nn, limn_nn_group_norm(nn, x, p, c->groups, c->norm_eps));
        snprintf(p, sizeof p, "%s.mid_block.attentions.0", half);
        h = limn_nn_attention(nn, h, NULL, p, &limn_attention_diffusers, 1, false);
        x = limn_nn_to_map(nn, limn_g_add(nn->g, h, limn_nn_to_tokens(nn, x)), x);
    }
    snprintf(p, sizeof p, "%s.mid_block.resnets.1", half);
    return kl_resnet(nn, c, x, p);
}

static limn_node *kl_head(const limn_nn *nn, const limn_vae_config *c, limn_node *x,
                          const char *half) {
    char p[64];
    snprintf(p, sizeof p, "%s.conv_norm_out", half);
    x = limn_nn_group_norm(nn, x, p, c->groups, c->norm_eps);
    snprintf(p, sizeof p, "%s.conv_out", half);
    return limn_nn_conv(nn, limn_g_unary(nn->g, x, LIMN_ACT_SILU), p, 1);
}

/* Downsample2D of the encoder: stride 2, padded by one at the right and bottom only. */
static limn_node *kl_down(const limn_nn *nn, limn_node *x, int level) {
    const limn_weight *w =
        limn_nn_need(nn, "encoder.down_blocks.%d.downsamplers.0.conv.weight", level);
    const limn_weight *b =
        limn_nn_find(nn, "encoder.down_blocks.%d.downsamplers.0.conv.bias", level);
    return limn_g_conv2d(nn->g, x, w, b, &(limn_attr){.stride = 2, .pad_r = 1, .pad_b = 1});
}

/* down_blocks [first, last) with the downsamplers behind them. */
static limn_node *kl_down_blocks(const limn_nn *nn, const limn_vae_config *c, limn_node *x,
                                 int first, int last) {
    char p[96];
    for (int i = first; i < last; i++) {
        for (int k = 0; k < c->layers; k++) {
            snprintf(p, sizeof p, "encoder.down_blocks.%d.resnets.%d", i, k);
            x = kl_resnet(nn, c, x, p);
        }
        if (i + 1 < c->levels) x = kl_down(nn, x, i);
    }
    return x;
}

static void kl_moments(const limn_nn *nn, const limn_vae_config *c, limn_node *x) {
    x = kl_head(nn, c, kl_mid(nn, c, x, "encoder"), "encoder");
    if (c->quant_conv) x = limn_nn_conv(nn, x, "quant_conv", 1);
    limn_g_output(nn->g, x, "moments");
}

static limn_node *kl_begin_encoder(const limn_nn *nn, const limn_vae_config *c,
                                   const limn_vae_request *r) {
    limn_shape in = LIMN_SHAPE(r->batch, r->height, r->width, c->in_channels);
    return limn_nn_conv(nn, limn_g_input(nn->g, "image", LIMN_F32, in), "encoder.conv_in", 1);
}

void limn_vae_build_encoder(const limn_nn *nn, const limn_vae_config *c,
                            const limn_vae_request *r) {
    kl_moments(nn, c, kl_down_blocks(nn, c, kl_begin_encoder(nn, c, r), 0, c->levels));
}

/* up_blocks [first, last) with the upsamplers behind them. */
static limn_node *kl_up_blocks(const limn_nn *nn, const limn_vae_config *c, limn_node *x, int first,
                               int last) {
    char p[96];
    for (int i = first; i < last; i++) {
        for (int k = 0; k <= c->layers; k++) {
            snprintf(p, sizeof p, "decoder.up_blocks.%d.resnets.%d", i, k);
            x = kl_resnet(nn, c, x, p);
        }
        if (i + 1 == c->levels || !x) continue;
        snprintf(p, sizeof p, "decoder.up_blocks.%d.upsamplers.0.conv", i);
        x = limn_g_upsample(nn->g, x, 2 * x->shape.dim[1], 2 * x->shape.dim[2]);
        x = limn_nn_conv(nn, x, p, 1);
    }
    return x;
}

static limn_node *kl_begin_decoder(const limn_nn *nn, const limn_vae_config *c,
                                   const limn_vae_request *r) {
    limn_shape in = LIMN_SHAPE(r->batch, r->height, r->width, c->latent_channels);
    limn_node *x = limn_g_input(nn->g, "latent", LIMN_F32, in);
    if (c->post_quant_conv) x = limn_nn_conv(nn, x, "post_quant_conv", 1);
    return kl_mid(nn, c, limn_nn_conv(nn, x, "decoder.conv_in", 1), "decoder");
}

void limn_vae_build_decoder(const limn_nn *nn, const limn_vae_config *c,
                            const limn_vae_request *r) {
    limn_node *x = kl_up_blocks(nn, c, kl_begin_decoder(nn, c, r), 0, c->levels);
    limn_g_output(nn->g, kl_head(nn, c, x, "decoder"), "image");
}

/* ---- parts ---- */
int limn_vae_middle_channels(const limn_vae_config *c, bool decode, int split) {
    return decode ? c->dec_channels[c->levels - split] : c->channels[split - 1];
}

void limn_vae_build_decoder_part(const limn_nn *nn, const limn_vae_config *c,
                                 const limn_vae_request *r, limn_vae_part part, int split) {
    if (part == LIMN_VAE_INNER) {
        limn_node *x = kl_up_blocks(nn, c, kl_begin_decoder(nn, c, r), 0, split);
        limn_g_output(nn->g, x, "middle");
        return;
    }
    limn_shape in = LIMN_SHAPE(r->batch, r->height << split, r->width << split,
                               limn_vae_middle_channels(c, true, split));
    limn_node *x = limn_g_input(nn->g, "middle", LIMN_F32, in);
    x = kl_up_blocks(nn, c, x, split, c->levels);
    limn_g_output(nn->g, kl_head(nn, c, x, "decoder"), "image");
}

void limn_vae_build_encoder_part(const limn_nn *nn, const limn_vae_config *c,
                                 const limn_vae_request *r, limn_vae_part part, int split) {
    if (part == LIMN_VAE_OUTER) {
        limn_node *x = kl_down_blocks(nn, c, kl_begin_encoder(nn, c, r), 0, split);
        limn_g_output(nn->g, x, "middle");
        return;
    }
    limn_shape in = LIMN_SHAPE(r->batch, r->height >> split, r->width >> split,
                               limn_vae_middle_channels(c, false, split));
    limn_node *x = limn_g_input(nn->g, "middle", LIMN_F32, in);
    kl_moments(nn, c, kl_down_blocks(nn, c, x, split, c->levels));
}

/* Each 3x3 convolution sees one pixel further at its own level; level i of a decoder has 2^i pixels
 * per latent, of an encoder 2^(levels - 1 - i). Counted in picture pixels, rounded up. */
int64_t limn_vae_halo(const limn_vae_config *c, bool decode, int split) {
    int64_t side = (int64_t)1 << (c->levels - 1), pixels = 1; /* conv_in or conv_out */
    for (int i = split; decode && i < c->levels; i++) {
        int64_t one = side >> i;
        pixels += 2 * (c->layers + 1) * one + (i + 1 < c->levels ? one / 2 : 0);
    }
    for (int i = 0; !decode && i < split; i++) pixels += (2 * c->layers + 2) * ((int64_t)1 << i);
    return (pixels + side - 1) / side + 1;
}
