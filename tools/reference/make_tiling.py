#!/usr/bin/env python3
"""Drawings whose edges meet, and start pictures whose latents are resized: pipe/tiling.io.safetensors.

usage: make_tiling.py OUTDIR   (after make_pipe.py: reads OUTDIR/pipe/sd1)

"tiling": every Conv2d of UNet and VAE with padding_mode "circular", as A1111's option of that name does
(modules/sd_hijack.py). "latent": a picture of 88 x 48 encoded at its own size, its mean resized by
torch's bilinear interpolation (A1111's resize mode 3), handed to diffusers' img2img as latents.
"""

import sys

import torch
from common import save_st, versions
from make_pipe import NEGATIVE, load, picture, run
from PIL import Image


def wrap(*models):
    for m in models:
        for layer in m.modules():
            if isinstance(layer, torch.nn.Conv2d):
                layer.padding_mode = "circular"


def main(out):
    import diffusers

    diffusers.utils.logging.set_verbosity_error()
    io, info = {}, {}
    pipe = load(out + "/pipe/sd1", "StableDiffusionPipeline")
    base = pipe.scheduler.config
    parts = {k: v for k, v in pipe.components.items() if k != "image_encoder"}
    i2i = diffusers.StableDiffusionImg2ImgPipeline(**parts, requires_safety_checker=False)
    i2i.set_progress_bar_config(disable=True)
    rgb, _ = picture(48, 88)
    pixels = torch.from_numpy(rgb).float().permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        latent = pipe.vae.encode(pixels).latent_dist.mean * pipe.vae.config.scaling_factor
    for name, (h, w) in (("larger", (96, 128)), ("smaller", (32, 40))):
        resized = torch.nn.functional.interpolate(latent, size=(h // 8, w // 8), mode="bilinear")
        run(io, info, "latent_" + name, i2i, "ddim", base, image=resized, strength=0.6, negative_prompt=NEGATIVE)
    io["picture"] = torch.from_numpy(rgb)
    wrap(pipe.unet, pipe.vae)
    size = dict(height=64, width=64, negative_prompt=NEGATIVE)
    run(io, info, "tiling", pipe, "ddim", base, **size)
    run(io, info, "tiling_odd", pipe, "euler", base, height=72, width=88, negative_prompt=NEGATIVE)
    square, _ = picture(64, 64)
    io["square"] = torch.from_numpy(square)
    run(io, info, "tiling_img2img", i2i, "ddim", base, image=Image.fromarray(square), strength=0.6, negative_prompt=NEGATIVE)
    keep = {k: v.detach() for k, v in io.items() if k.endswith("/image") or "/" not in k}
    save_st(out + "/pipe/tiling.io.safetensors", keep, versions())


if __name__ == "__main__":
    main(sys.argv[1])
