# SPDX-License-Identifier: MIT
"""Names and shapes of the real networks, in original and diffusers naming (no weights)."""

import os
import sys

from common import versions  # noqa: F401  (sets the environment)

import torch
from diffusers import UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

import make_clip
from keymap import unet_map
from make_unet import CROSS_D, CROSS_U, PLAIN_D, PLAIN_U

XL = dict(
    block_out_channels=[320, 640, 1280],
    layers_per_block=2,
    attention_head_dim=[5, 10, 20],
    down_block_types=[PLAIN_D, CROSS_D, CROSS_D],
    up_block_types=[CROSS_U, CROSS_U, PLAIN_U],
    cross_attention_dim=2048,
    use_linear_projection=True,
    addition_embed_type="text_time",
    addition_time_embed_dim=256,
    projection_class_embeddings_input_dim=2816,
)
SD = dict(
    block_out_channels=[320, 640, 1280, 1280],
    layers_per_block=2,
    down_block_types=[CROSS_D] * 3 + [PLAIN_D],
    up_block_types=[PLAIN_U] + [CROSS_U] * 3,
)

UNETS = {  # config, parameters in millions as published
    "sd15": (dict(SD, attention_head_dim=8, cross_attention_dim=768), 859.5),
    "sd21": (
        dict(
            SD,
            attention_head_dim=[5, 10, 20, 20],
            cross_attention_dim=1024,
            use_linear_projection=True,
        ),
        865.9,
    ),
    "sdxl": (dict(XL, transformer_layers_per_block=[1, 2, 10]), 2567.5),
    "sdxl_refiner": (
        dict(
            block_out_channels=[384, 768, 1536, 1536],
            layers_per_block=2,
            attention_head_dim=[6, 12, 24, 24],
            down_block_types=[PLAIN_D, CROSS_D, CROSS_D, PLAIN_D],
            up_block_types=[PLAIN_U, CROSS_U, CROSS_U, PLAIN_U],
            transformer_layers_per_block=4,
            cross_attention_dim=1280,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2560,
        ),
        2259.5,
    ),
    "ssd1b": (
        dict(
            XL,
            mid_block_type="UNetMidBlock2D",
            transformer_layers_per_block=[1, [2, 2], [4, 4]],
            reverse_transformer_layers_per_block=[[4, 4, 10], [2, 1, 1], 1],
        ),
        1330.0,
    ),
    "vega": (
        dict(
            XL,
            mid_block_type="UNetMidBlock2D",
            transformer_layers_per_block=[1, [1, 1], [2, 2]],
            reverse_transformer_layers_per_block=[[2, 2, 2], [1, 1, 1], 1],
        ),
        745.0,
    ),
}


def rows_unet(name):
    cfg, millions = UNETS[name]
    with torch.device("meta"):
        model = UNet2DConditionModel(sample_size=64, in_channels=4, out_channels=4, **cfg)
    count = sum(p.numel() for p in model.parameters()) / 1e6
    assert abs(count - millions) < 0.005 * millions, (name, count)
    sd = model.state_dict()
    names = unet_map(sd, dict(model.config))
    back = convert_ldm_unet_checkpoint({names[k]: v for k, v in sd.items()}, dict(model.config))
    assert set(back) == set(sd) and all(back[k] is sd[k] for k in sd), name
    return [(names[k], k, v) for k, v in sd.items()], count


def text(cls, hidden, layers, heads, ffn):
    with torch.device("meta"):
        model = cls(
            CLIPTextConfig(
                vocab_size=49408,
                hidden_size=hidden,
                intermediate_size=ffn,
                hidden_act="gelu",
                num_hidden_layers=layers,
                num_attention_heads=heads,
                projection_dim=hidden,
            )
        )
    return {
        (k if k.startswith("text_") else "text_model." + k): v
        for k, v in model.state_dict().items()
        if "position_ids" not in k
    }


def write(out, name, rows):
    os.makedirs(out + "/layout", exist_ok=True)
    with open(f"{out}/layout/{name}.tsv", "w") as f:
        for orig, diff, t in sorted(rows, key=lambda r: r[0]):
            f.write(f"{orig}\t{diff}\t{'x'.join(map(str, t.shape))}\n")


def main(out):
    for name in ("sd15", "sd21", "sdxl", "sdxl_refiner", "ssd1b", "vega"):
        rows, count = rows_unet(name)
        print("layout", name, len(rows), f"{count:.1f}M")
        if name == "vega":  # the others: formats/keys_*.txt (make_keys.py)
            write(out, name + "_unet", rows)
    clip_l = text(CLIPTextModel, 768, 12, 12, 3072)
    write(out, "clip_l", [("cond_stage_model.transformer." + k, k, v) for k, v in clip_l.items()])
    for name, cls, dims, prefix in (
        ("open_clip_h", CLIPTextModel, (1024, 24, 16, 4096), "cond_stage_model.model."),
        (
            "open_clip_bigg",
            CLIPTextModelWithProjection,
            (1280, 32, 20, 5120),
            "conditioner.embedders.1.model.",
        ),
    ):
        sd = text(cls, *dims)
        fused = make_clip.to_open_clip(
            {k: torch.empty(v.shape, device="meta") for k, v in sd.items()}, prefix, dims[0]
        )
        write(out, name, [(k, "-", v) for k, v in fused.items()])


if __name__ == "__main__":
    main(sys.argv[1])
