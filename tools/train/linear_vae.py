# SPDX-License-Identifier: MIT
"""The encoder half of mini-draw's autoencoder, made by algebra instead of training.

Measured: on two shared cores a jointly trained f8 autoencoder needs hours to find colours, while the
twelve leading principal components of 8x8x3 patches already rebuild the art at 27 dB with a linear
decoder. So the encoder is that projection, written exactly into a stock diffusers AutoencoderKL: every
residual branch is zero, the stride-2 convolutions move pixels into channels and project them, and the
last GroupNorm + SiLU is crossed by pairs (+z, -z) beside large constants: silu(x) - silu(-x) = x. The
decoder is an ordinary network and is trained (train_decoder.py); it begins as a painter of block means.
Latents are then a matrix product away from pixels, and a better decoder can be trained at any time
without touching the UNet.

    python linear_vae.py --sprites SPRITES --out VAE       # writes VAE/ (diffusers) and VAE/basis.npz
"""
import argparse
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

from art import SIZE, Painter, load_concepts

LATENT = 12
CONSTANT = 100.0     # the encoder's last norm sees constants this large, so that it barely moves


def space_to_depth(x):
    """[n, h, w, c] -> [n, h/2, w/2, (dy, dx, c)]"""
    n, h, w, c = x.shape
    return x.reshape(n, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5).reshape(n, h // 2, w // 2, 4 * c)


def principal(rows, count):
    """Leading axes [dims, count] and their deviations, of centred rows [n, dims]."""
    values, axes = np.linalg.eigh(np.cov(rows.T))
    return axes[:, ::-1][:, :count], np.sqrt(values[::-1][:count])


def fit(painter, rng, pictures=1500):
    """The projection: middle [48, 32], final [128, LATENT], mean [LATENT], back [LATENT, 192], base [192]."""
    x = np.stack([painter.sample(rng).picture for _ in range(pictures)]).astype(np.float64) / 127.5 - 1
    quarter = space_to_depth(space_to_depth(x))
    middle, _ = principal(quarter.reshape(-1, 48), 32)
    eighth = space_to_depth(quarter @ middle).reshape(-1, 128)
    final, deviation = principal(eighth, LATENT)
    # Half-way whitening: colours stay the loudest, fine structure is still heard over the noise.
    scale = deviation ** -.5
    scale /= np.sqrt(np.mean((deviation * scale) ** 2))
    final = final * scale
    mean = eighth.mean(0) @ final
    z = eighth @ final - mean
    patches = space_to_depth(quarter).reshape(-1, 192)
    base = patches.mean(0)
    back, *_ = np.linalg.lstsq(z, patches - base, rcond=None)
    return {k: v.astype(np.float32) for k, v in
            dict(middle=middle, final=final, mean=mean, back=back, base=base).items()}


def basis_of(folder):
    """The basis again from an exported autoencoder: projection out of the encoder's weights, `back` and `base`
    (which only show latents) by least squares on random patches."""
    weights = {k: v.float().numpy() for k, v in AutoencoderKL.from_pretrained(folder).state_dict().items()
               if k.startswith("encoder.down_blocks") and "downsamplers" in k}
    taps = lambda level, outs, inputs: weights["encoder.down_blocks.%d.downsamplers.0.conv.weight" % level][
        :outs, :inputs, :2, :2].transpose(2, 3, 1, 0).reshape(4 * inputs, outs)
    basis = {"middle": taps(1, 32, 12), "final": taps(2, LATENT, 32),
             "mean": -weights["encoder.down_blocks.2.downsamplers.0.conv.bias"][:LATENT]}
    whole = np.einsum("qm,kml->kql", basis["middle"], basis["final"].reshape(4, 32, LATENT)).reshape(192, LATENT)
    basis["back"] = np.linalg.pinv(whole).astype(np.float32)
    basis["base"] = basis["mean"] @ basis["back"]
    return basis


def encode(basis, pictures):
    """uint8 [n, h, w, 3] -> f32 [n, LATENT, h/8, w/8]: what the built encoder computes, by matrix product."""
    x = pictures.astype(np.float32) / 127.5 - 1
    z = space_to_depth(space_to_depth(space_to_depth(x)) @ basis["middle"]) @ basis["final"] - basis["mean"]
    return torch.from_numpy(np.ascontiguousarray(z.transpose(0, 3, 1, 2)))


def decode_linear(basis, z):
    """The linear inverse, for looking at latents before a decoder exists: [n, 3, h*8, w*8]."""
    x = z.permute(0, 2, 3, 1).numpy() @ basis["back"] + basis["base"]
    for channels in (48, 12, 3):
        n, h, w, _ = x.shape
        x = x.reshape(n, h, w, 2, 2, channels).transpose(0, 1, 3, 2, 4, 5).reshape(n, 2 * h, 2 * w, channels)
    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))


def build(widths=(16, 32, 64, 128)):
    return AutoencoderKL(
        in_channels=3, out_channels=3, down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, block_out_channels=widths, layers_per_block=1,
        latent_channels=LATENT, norm_num_groups=2, sample_size=SIZE, scaling_factor=1.0)


def still(block):
    """Silence a residual block's branch, whole, so that it packs to nothing; its shortcut, if any, becomes the identity."""
    for part in (block.conv1, block.conv2):
        torch.nn.init.zeros_(part.weight)
        torch.nn.init.zeros_(part.bias)
    if block.conv_shortcut is not None:
        torch.nn.init.zeros_(block.conv_shortcut.bias)
        weight = block.conv_shortcut.weight
        weight.zero_()
        for i in range(min(weight.shape[:2])):
            weight[i, i] = 1


def blank(layer):
    layer.weight.zero_()
    layer.bias.zero_()
    return layer


@torch.no_grad()
def write_encoder(vae, basis):
    encoder = vae.encoder
    for down in encoder.down_blocks:
        for block in down.resnets:
            still(block)
    for block in encoder.mid_block.resnets:
        still(block)
    attention = encoder.mid_block.attentions[0]
    for part in (attention.to_q, attention.to_k, attention.to_v, attention.to_out[0]):
        blank(part)
    first = blank(encoder.conv_in)
    for c in range(3):
        first.weight[c, c, 1, 1] = 1
    matrices = (np.eye(12, dtype=np.float32), basis["middle"], basis["final"])
    for down, matrix in zip(encoder.down_blocks, matrices):
        conv = blank(down.downsamplers[0].conv)
        inputs = matrix.shape[0] // 4
        taps = torch.from_numpy(matrix.T.copy()).view(-1, 2, 2, inputs).permute(0, 3, 1, 2)
        conv.weight[:len(taps), :inputs, :2, :2] = taps
    conv.bias[:LATENT] = -torch.from_numpy(basis["mean"])
    width = vae.config.block_out_channels[-1]
    half = width // 2                       # norm_num_groups is 2: each half is one group
    fan = blank(encoder.down_blocks[3].resnets[0].conv_shortcut)
    last = blank(encoder.conv_out)
    gain = CONSTANT * (2 / half) ** .5      # deviation that the constants give to a group
    encoder.conv_norm_out.weight.fill_(1)
    encoder.conv_norm_out.bias.zero_()
    for k in range(LATENT):
        at = (k % 2) * half + 2 * (k // 2)
        fan.weight[at, k], fan.weight[at + 1, k] = 1, -1
        last.weight[k, at, 1, 1], last.weight[k, at + 1, 1, 1] = gain, -gain
    for group in range(2):
        fan.bias[group * half + half - 1], fan.bias[group * half + half - 2] = CONSTANT, -CONSTANT
    last.bias[LATENT:] = -14                # log variance: the posterior is a point
    for conv in (vae.quant_conv, vae.post_quant_conv):
        blank(conv)
        for k in range(conv.weight.shape[0]):
            conv.weight[k, k] = 1


@torch.no_grad()
def begin_decoder(vae, basis):
    """Start the decoder as block means: channels (r, -r, g, -g, 3, -3 | b, -b, 3, -3) go straight through."""
    decoder = vae.decoder
    for block in decoder.mid_block.resnets:
        torch.nn.init.zeros_(block.conv2.weight)
    ups = decoder.up_blocks
    for up in ups:
        for block in up.resnets:
            torch.nn.init.zeros_(block.conv2.weight)
    torch.nn.init.zeros_(decoder.mid_block.attentions[0].to_out[0].weight)
    mean_rgb = torch.from_numpy(basis["back"]).view(LATENT, 8 * 8, 3).mean(1)    # any pixel order: a mean
    base_rgb = torch.from_numpy(basis["base"]).view(64, 3).mean(0)
    final = vae.config.block_out_channels[0]
    group = final // 2
    slots = [(0, 1), (2, 3), (group, group + 1)]
    constants = [(4, 5), (group + 2, group + 3)]
    lanes = [i for pair in slots + constants for i in pair]
    convs = [decoder.conv_in] + [u.upsamplers[0].conv for u in ups[:-1]] + \
            [b.conv_shortcut for u in ups for b in u.resnets if b.conv_shortcut is not None]
    for conv in convs:
        conv.weight[lanes] = 0
        conv.bias[lanes] = 0
        if conv is not decoder.conv_in:
            middle = conv.weight.shape[-1] // 2
            for i in lanes:
                conv.weight[i, i, middle, middle] = 1
    for block in [b for u in ups for b in u.resnets] + list(decoder.mid_block.resnets):
        block.conv2.bias[lanes] = 0
    for c, (plus, minus) in enumerate(slots):
        decoder.conv_in.weight[plus, :, 1, 1], decoder.conv_in.weight[minus, :, 1, 1] = mean_rgb[:, c], -mean_rgb[:, c]
        decoder.conv_in.bias[plus], decoder.conv_in.bias[minus] = base_rgb[c], -base_rgb[c]
    for plus, minus in constants:
        decoder.conv_in.bias[plus], decoder.conv_in.bias[minus] = 3, -3
    out = decoder.conv_out
    out.weight.mul_(.1)
    torch.nn.init.zeros_(out.bias)
    for c, (plus, minus) in enumerate(slots):
        out.weight[c] *= 0
        out.weight[c, plus, 1, 1], out.weight[c, minus, 1, 1] = (1.6, -1.6)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sprites", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--widths", default="16,32,64,128")
    args = parser.parse_args()
    torch.manual_seed(7)
    painter = Painter(args.sprites, load_concepts((1, 2, 3)))
    basis = fit(painter, np.random.default_rng(1))
    vae = build(tuple(int(w) for w in args.widths.split(",")))
    write_encoder(vae, basis)
    begin_decoder(vae, basis)
    vae.save_pretrained(args.out)
    np.savez(args.out / "basis.npz", **basis)
    rng = np.random.default_rng(2)
    pictures = np.stack([painter.sample(rng).picture for _ in range(16)])
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
    z = encode(basis, pictures)
    psnr = lambda a: float(-10 * torch.log10(((a.clamp(-1, 1) - x) / 2).square().mean()))
    with torch.no_grad():
        apart = (vae.encode(x).latent_dist.mode() - z).abs().max()
        print("encoder against matrix: largest difference %.2g of deviation %.2f" % (apart, z.std()))
        print("psnr: linear inverse %.2f, decoder as begun %.2f" % (psnr(decode_linear(basis, z)), psnr(vae.decode(z).sample)))


if __name__ == "__main__":
    main()
