# SPDX-License-Identifier: MIT
"""Original tensor names and shapes of real checkpoints, from diffusers models without data.

python tools/reference/make_keys.py OUTDIR   -> OUTDIR/formats/keys_<model>.txt
First line: "<prefix> <number of tensors> <sum over canonical tensors of fnv1a64('name [a, b]') mod 2^64>", then one
tensor a line: "<original name> <dim> <dim> ...". Canonical 1x1 projections count as [out, in].
"""
import os
import sys

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from keymap import unet_map, vae_map, vae_tensor

SDXL = dict(in_channels=4, out_channels=4, block_out_channels=(320, 640, 1280), layers_per_block=2,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2, 10), attention_head_dim=(5, 10, 20), cross_attention_dim=2048,
            use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=256,
            projection_class_embeddings_input_dim=2816)
UNETS = {
    "sd15": dict(attention_head_dim=8, cross_attention_dim=768),
    "sd21": dict(attention_head_dim=(5, 10, 20, 20), cross_attention_dim=1024, use_linear_projection=True),
    "sdxl": SDXL,
    "refiner": dict(SDXL, block_out_channels=(384, 768, 1536, 1536), attention_head_dim=(6, 12, 24, 24),
                    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
                    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
                    transformer_layers_per_block=4, cross_attention_dim=1280,
                    projection_class_embeddings_input_dim=2560),
    "ssd1b": dict(SDXL, mid_block_type="UNetMidBlock2D", transformer_layers_per_block=(1, (2, 2), (4, 4)),
                  reverse_transformer_layers_per_block=((4, 4, 10), (2, 1, 1), 1)),
}
KL = dict(block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4,
          down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4)
LINEAR = (".proj_in.weight", ".proj_out.weight")


def fnv1a64(text):
    h = 0xcbf29ce484222325
    for b in text.encode():
        h = (h ^ b) * 0x100000001b3 % 2**64
    return h


def write(path, prefix, state, names, convert):
    total = 0
    for key, value in state.items():
        shape = list(value.shape)
        if key.endswith(LINEAR):
            shape = shape[:2]
        total = (total + fnv1a64(f"{key} {shape}")) % 2**64
    with open(path, "w") as f:
        f.write(f"{prefix} {len(state)} {total}\n")
        for key, value in state.items():
            dims = " ".join(str(d) for d in convert(key, value).shape)
            f.write(f"{names[key]} {dims}\n")


def main(outdir):
    out = os.path.join(outdir, "formats")
    os.makedirs(out, exist_ok=True)
    with torch.device("meta"):
        for name, config in UNETS.items():
            model = UNet2DConditionModel(**config)
            state = model.state_dict()
            names = unet_map(list(state), model.config)
            write(f"{out}/keys_{name}.txt", "model.diffusion_model.", state, names, lambda k, v: v)
        model = AutoencoderKL(**KL)
        state = model.state_dict()
        names = vae_map(list(state), model.config)
        write(f"{out}/keys_vae.txt", "first_stage_model.", state, names, vae_tensor)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
