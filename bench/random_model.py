#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Random-weight models in real shapes, f16 safetensors: for time and memory, they draw noise.

usage: random_model.py sdxl OUT.safetensors     SDXL base, original key names, 6.9 GB
       random_model.py taesd OUT.safetensors    TAESD decoder, diffusers key names, 2.4 MB
Needs numpy.
"""
import json
import math
import struct
import sys

import numpy as np

TENSORS = []  # name, shape, kind: w(eight), e(mbedding), 0, 1


def conv(n, o, i, k):
    TENSORS.append((n + ".weight", (o, i, k, k), "w"))
    TENSORS.append((n + ".bias", (o,), "0"))


def lin(n, o, i, bias=True):
    TENSORS.append((n + ".weight", (o, i), "w"))
    if bias:
        TENSORS.append((n + ".bias", (o,), "0"))


def norm(n, c):
    TENSORS.append((n + ".weight", (c,), "1"))
    TENSORS.append((n + ".bias", (c,), "0"))


def unet(p):
    def res(q, i, o):
        norm(q + "in_layers.0", i)
        conv(q + "in_layers.2", o, i, 3)
        lin(q + "emb_layers.1", o, 1280)
        norm(q + "out_layers.0", o)
        conv(q + "out_layers.3", o, o, 3)
        if i != o:
            conv(q + "skip_connection", o, i, 1)

    def attention(q, c, depth):
        norm(q + "norm", c)
        lin(q + "proj_in", c, c)
        for d in range(depth):
            b = f"{q}transformer_blocks.{d}."
            for a, kv in (("attn1", c), ("attn2", 2048)):
                lin(b + a + ".to_q", c, c, False)
                lin(b + a + ".to_k", c, kv, False)
                lin(b + a + ".to_v", c, kv, False)
                lin(b + a + ".to_out.0", c, c)
            lin(b + "ff.net.0.proj", 8 * c, c)
            lin(b + "ff.net.2", c, 4 * c)
            for k in (1, 2, 3):
                norm(f"{b}norm{k}", c)
        lin(q + "proj_out", c, c)

    widths, depths = (320, 640, 1280), (0, 2, 10)
    lin(p + "time_embed.0", 1280, 320)
    lin(p + "time_embed.2", 1280, 1280)
    lin(p + "label_emb.0.0", 1280, 2816)
    lin(p + "label_emb.0.2", 1280, 1280)
    conv(p + "input_blocks.0.0", 320, 4, 3)
    skips, c, k = [320], 320, 1
    for level, w in enumerate(widths):
        for _ in range(2):
            res(f"{p}input_blocks.{k}.0.", c, w)
            c = w
            if depths[level]:
                attention(f"{p}input_blocks.{k}.1.", c, depths[level])
            skips.append(c)
            k += 1
        if level < 2:
            conv(f"{p}input_blocks.{k}.0.op", c, c, 3)
            skips.append(c)
            k += 1
    res(p + "middle_block.0.", c, c)
    attention(p + "middle_block.1.", c, 10)
    res(p + "middle_block.2.", c, c)
    k = 0
    for level in (2, 1, 0):
        for i in range(3):
            res(f"{p}output_blocks.{k}.0.", c + skips.pop(), widths[level])
            c = widths[level]
            if depths[level]:
                attention(f"{p}output_blocks.{k}.1.", c, depths[level])
            if level and i == 2:
                conv(f"{p}output_blocks.{k}.{2 if depths[level] else 1}.conv", c, c, 3)
            k += 1
    norm(p + "out.0", 320)
    conv(p + "out.2", 4, 320, 3)


def vae(p):
    def res(q, i, o):
        norm(q + "norm1", i)
        conv(q + "conv1", o, i, 3)
        norm(q + "norm2", o)
        conv(q + "conv2", o, o, 3)
        if i != o:
            conv(q + "nin_shortcut", o, i, 1)

    def middle(q):
        res(q + "mid.block_1.", 512, 512)
        norm(q + "mid.attn_1.norm", 512)
        for part in ("q", "k", "v", "proj_out"):
            conv(q + "mid.attn_1." + part, 512, 512, 1)
        res(q + "mid.block_2.", 512, 512)

    mult = (1, 2, 4, 4)
    e, d, c = p + "encoder.", p + "decoder.", 128
    conv(e + "conv_in", 128, 3, 3)
    for level, m in enumerate(mult):
        for b in range(2):
            res(f"{e}down.{level}.block.{b}.", c, 128 * m)
            c = 128 * m
        if level < 3:
            conv(f"{e}down.{level}.downsample.conv", c, c, 3)
    middle(e)
    norm(e + "norm_out", 512)
    conv(e + "conv_out", 8, 512, 3)
    conv(d + "conv_in", 512, 4, 3)
    middle(d)
    c = 512
    for level in (3, 2, 1, 0):
        for b in range(3):
            res(f"{d}up.{level}.block.{b}.", c, 128 * mult[level])
            c = 128 * mult[level]
        if level:
            conv(f"{d}up.{level}.upsample.conv", c, c, 3)
    norm(d + "norm_out", 128)
    conv(d + "conv_out", 3, 128, 3)
    conv(p + "quant_conv", 8, 8, 1)
    conv(p + "post_quant_conv", 4, 4, 1)


def text():
    p = "conditioner.embedders.0.transformer.text_model."
    TENSORS.append((p + "embeddings.token_embedding.weight", (49408, 768), "e"))
    TENSORS.append((p + "embeddings.position_embedding.weight", (77, 768), "e"))
    for i in range(12):
        q = f"{p}encoder.layers.{i}."
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            lin(q + "self_attn." + part, 768, 768)
        norm(q + "layer_norm1", 768)
        norm(q + "layer_norm2", 768)
        lin(q + "mlp.fc1", 3072, 768)
        lin(q + "mlp.fc2", 768, 3072)
    norm(p + "final_layer_norm", 768)
    p = "conditioner.embedders.1.model."
    TENSORS.append((p + "token_embedding.weight", (49408, 1280), "e"))
    TENSORS.append((p + "positional_embedding", (77, 1280), "e"))
    TENSORS.append((p + "text_projection", (1280, 1280), "w"))
    for i in range(32):
        q = f"{p}transformer.resblocks.{i}."
        TENSORS.append((q + "attn.in_proj_weight", (3840, 1280), "w"))
        TENSORS.append((q + "attn.in_proj_bias", (3840,), "0"))
        lin(q + "attn.out_proj", 1280, 1280)
        norm(q + "ln_1", 1280)
        norm(q + "ln_2", 1280)
        lin(q + "mlp.c_fc", 5120, 1280)
        lin(q + "mlp.c_proj", 1280, 5120)
    norm(p + "ln_final", 1280)


def taesd():
    def block(layer):
        for i in (0, 2, 4):
            conv(f"decoder.layers.{layer}.conv.{i}", 64, 64, 3)

    conv("decoder.layers.0", 64, 4, 3)
    layer = 2
    for blocks in (3, 3, 3, 1):
        for _ in range(blocks):
            block(layer)
            layer += 1
        if blocks == 3:  # upsampling has a number, the convolution behind it no bias
            TENSORS.append((f"decoder.layers.{layer + 1}.weight", (64, 64, 3, 3), "w"))
            layer += 2
    conv(f"decoder.layers.{layer}", 3, 64, 3)


def main(kind, path):
    if kind == "taesd":
        taesd()
    else:
        unet("model.diffusion_model.")
        vae("first_stage_model.")
        text()
    header, total = {}, 0
    for name, shape, _ in TENSORS:
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [total, total + size]}
        total += size
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    # one block of normals, scaled by powers of two, cut at another place for every tensor
    normal = np.random.default_rng(1).standard_normal(1 << 22, dtype=np.float32)
    blocks = {}
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(head)) + head)
        for i, (_, shape, kind) in enumerate(TENSORS):
            n = int(np.prod(shape))
            if kind in "01":
                f.write(np.full(n, int(kind), np.float16).tobytes())
                continue
            std = 0.02 if kind == "e" else 0.6 / math.sqrt(int(np.prod(shape[1:])))
            power = round(math.log2(std))
            if power not in blocks:
                blocks[power] = (normal * np.float32(2.0**power)).astype(np.float16)
            at = i * 7919 % (len(normal) // 2)
            while n > 0:
                part = blocks[power][at : at + n]
                f.write(part.tobytes())
                n, at = n - len(part), 0
    print(f"{path}: {len(TENSORS)} tensors, {total / 1e9:.2f} GB")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
