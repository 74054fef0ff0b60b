# SPDX-License-Identifier: MIT
"""Train mini-upscale: x4, the compact SRVGG network of Real-ESRGAN's "compact" models.

State-dict keys are those users' files have (body.N.weight, body.N.bias, PReLU weights at the odd N), so
any loader of such upscalers takes it. Truth: the rendered art on coloured grounds at 256 px and crops of
free photographs (--photos FOLDER, any JPEG/PNG/WebP; optional). The small picture is made by one of
several resamplers, sometimes blurred, sometimes with a little noise, sometimes through JPEG, and often
through mini-draw's own autoencoder, because its pictures are what is enlarged most.

    python train_upscale.py --sprites SPRITES --out RUN --minutes 30 [--photos FOLDER] [--vae VAE]
    python train_upscale.py ... --export models/mini-upscale/mini-upscale.safetensors
"""
import argparse
import io
import math
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter
from safetensors.torch import save_file
from torch import nn

from art import COLOURS, Painter, load_concepts

SCALE = 4
RESAMPLERS = (Image.BOX, Image.BILINEAR, Image.BICUBIC, Image.LANCZOS)


class Compact(nn.Module):
    """[n, 3, h, w] in 0..1 -> [n, 3, 4h, 4w]: convolutions with PReLU, pixel shuffle, plus the nearest picture."""

    def __init__(self, features=32, convolutions=8):
        super().__init__()
        layers = [nn.Conv2d(3, features, 3, 1, 1), nn.PReLU(features)]
        for _ in range(convolutions):
            layers += [nn.Conv2d(features, features, 3, 1, 1), nn.PReLU(features)]
        layers.append(nn.Conv2d(features, 3 * SCALE * SCALE, 3, 1, 1))
        self.body = nn.ModuleList(layers)
        self.lead()

    @torch.no_grad()
    def lead(self):
        """Begin as the bilinear picture: red, green and blue travel in the first three features (they are not
        negative, so PReLU leaves them alone) and the last convolution adds bilinear less nearest."""
        for layer in self.body:
            if isinstance(layer, nn.Conv2d):
                layer.bias.zero_()
        for layer in self.body[:-1:2]:
            layer.weight[:3] = 0
            layer.weight[range(3), range(3), 1, 1] = 1
        last = self.body[-1].weight
        last.zero_()
        for k in range(SCALE * SCALE):
            offsets = [((p + .5) / SCALE - .5) for p in (k // SCALE, k % SCALE)]
            taps = [torch.tensor([max(0, -o), 1 - abs(o), max(0, o)]) for o in offsets]
            kernel = taps[0][:, None] * taps[1]
            kernel[1, 1] -= 1
            for colour in range(3):
                last[colour * SCALE * SCALE + k, colour] = kernel

    def forward(self, x):
        y = x
        for layer in self.body:
            y = layer(y)
        return F.pixel_shuffle(y, SCALE) + F.interpolate(x, scale_factor=SCALE, mode="nearest")


def held_out(index):
    """Every tenth thing is kept from training, in all styles: eval_upscale.py measures on these."""
    return index % 10 == 7


def art_picture(painter, rng, side, held=False):
    """One thing near its native size on a plain ground."""
    singles = [s for s in painter.singles if held_out(s[1]) == held]
    style, index = singles[int(rng.integers(len(singles)))]
    sprite = painter.sprites[style, index]
    limit = 1.0 if max(sprite.size) >= 200 else .6       # the 136 px bitmaps are not blown up
    scale = rng.uniform(.5, 1.0) * side * limit / max(sprite.size)
    sprite = sprite.resize([max(1, round(s * scale)) for s in sprite.size], Image.LANCZOS, reducing_gap=3.0)
    names = list(COLOURS)
    colour = COLOURS[names[int(rng.integers(len(names)))]] if rng.random() < .8 else tuple(
        int(c) for c in rng.integers(0, 256, 3))
    ground = Image.new("RGB", (side, side), colour)
    at = tuple(int(rng.integers(min(0, side - s), max(0, side - s) + 1)) for s in sprite.size)
    sprite = sprite.convert("RGBA")
    ground.paste(sprite, at, sprite)
    return ground


def photo_crop(paths, rng, side):
    picture = Image.open(paths[int(rng.integers(len(paths)))]).convert("RGB")
    shrink = max(side / min(picture.size), float(rng.uniform(.3, 1.0)))
    picture = picture.resize([max(side, round(s * shrink)) for s in picture.size], Image.LANCZOS)
    x, y = (int(rng.integers(0, s - side + 1)) for s in picture.size)
    return picture.crop((x, y, x + side, y + side))


def degrade(picture, rng):
    """The small picture for a large one: mostly clean (most of it area means), now and then with a flaw."""
    if rng.random() < .06:
        picture = picture.filter(ImageFilter.GaussianBlur(float(rng.uniform(.3, 1.2))))
    way = Image.BOX if rng.random() < .7 else RESAMPLERS[int(rng.integers(len(RESAMPLERS)))]
    small = picture.resize([s // SCALE for s in picture.size], way)
    if rng.random() < .05:
        buffer = io.BytesIO()
        small.save(buffer, "JPEG", quality=int(rng.integers(60, 96)))
        small = Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")
    values = np.asarray(small, np.float32) / 255
    if rng.random() < .06:
        values = values + rng.normal(0, rng.uniform(0, .02), values.shape).astype(np.float32)
    return np.clip(values, 0, 1)


class Supply:
    """Batches of (small, large) crops in 0..1."""

    def __init__(self, args):
        self.painter = Painter(args.sprites, load_concepts((1, 2, 3)))
        self.photos = sorted(p for p in Path(args.photos).rglob("*")
                             if p.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp")) if args.photos else []
        self.vae = None
        if args.vae:
            from diffusers import AutoencoderKL
            self.vae = AutoencoderKL.from_pretrained(args.vae).eval().requires_grad_(False)
        self.rng = np.random.default_rng(time.time_ns())

    def through_vae(self, small):
        x = torch.from_numpy(small).permute(2, 0, 1)[None] * 2 - 1
        rebuilt = self.vae.decode(self.vae.encode(x).latent_dist.mode()).sample[0].clamp(-1, 1)
        return (rebuilt.permute(1, 2, 0).numpy() + 1) / 2

    def batch(self, scenes, side=256, crop=32, crops=4):
        small, large = [], []
        for _ in range(scenes):
            photo = self.photos and self.rng.random() < .3
            picture = photo_crop(self.photos, self.rng, side) if photo else art_picture(self.painter, self.rng, side)
            low, high = degrade(picture, self.rng), np.asarray(picture, np.float32) / 255
            if self.vae and not photo and self.rng.random() < .15:
                low = self.through_vae(low)
            for _ in range(crops):
                tries = self.rng.integers(0, side // SCALE - crop + 1, (2, 2)).tolist()
                x, y = max(tries, key=lambda t: low[t[1]:t[1] + crop, t[0]:t[0] + crop].var())    # grounds teach little
                small.append(low[y:y + crop, x:x + crop])
                large.append(high[SCALE * y:SCALE * (y + crop), SCALE * x:SCALE * (x + crop)])
        tensor = lambda rows: torch.from_numpy(np.stack(rows)).permute(0, 3, 1, 2).contiguous()
        return tensor(small), tensor(large)


def loss_of(made, truth):
    """Mean absolute error, and a little of the same for the steps between neighbours, which keeps edges crisp."""
    total = F.l1_loss(made, truth)
    for dim in (2, 3):
        total = total + .25 * F.l1_loss(made.diff(dim=dim), truth.diff(dim=dim))
    return total


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sprites", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--photos")
    parser.add_argument("--vae")
    parser.add_argument("--minutes", type=float, default=12, help="of processor time, so that a shared core does no harm")
    parser.add_argument("--features", type=int, default=32)
    parser.add_argument("--convolutions", type=int, default=8)
    parser.add_argument("--scenes", type=int, default=4)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--export", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(5)
    args.out.mkdir(parents=True, exist_ok=True)
    model = Compact(args.features, args.convolutions)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr, betas=(.9, .99))
    state, spent, step, shown = args.out / "upscale.pt", 0.0, 0, 0.0
    if state.exists():
        saved = torch.load(state)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        spent, step = saved["spent"], saved["step"]
        shown = spent
    if args.export:
        args.export.parent.mkdir(parents=True, exist_ok=True)
        save_file({k: v.half() for k, v in model.state_dict().items()}, args.export, {"format": "pt", "scale": "4"})
        args.export.chmod(0o644)
        return

    def keep():
        torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "spent": spent, "step": step},
                   state.with_suffix(".part"))
        os.replace(state.with_suffix(".part"), state)

    model.to(memory_format=torch.channels_last)
    supply, last, total, count = Supply(args), time.process_time(), 0.0, 0
    while spent < args.minutes * 60:
        part = spent / (args.minutes * 60)
        for group in optimizer.param_groups:
            group["lr"] = args.lr * min(1, (step + 1) / 100) * (.02 + .98 * .5 * (1 + math.cos(math.pi * part)))
        small, large = supply.batch(args.scenes)
        loss = loss_of(model(small.contiguous(memory_format=torch.channels_last)), large)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        step, total, count = step + 1, total + loss.item(), count + 1
        now = time.process_time()
        spent, last = spent + now - last, now
        if step % 100 == 0:
            print("step %d  %.1f min  loss %.4f" % (step, spent / 60, total / count), flush=True)
            total, count = 0.0, 0
        if spent - shown > 180:
            shown = spent
            keep()
    keep()


if __name__ == "__main__":
    main()
