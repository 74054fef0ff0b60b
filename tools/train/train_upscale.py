# SPDX-License-Identifier: MIT
"""Train mini-upscale: x4, the compact SRVGG network of Real-ESRGAN's "compact" models.

State-dict keys are those users' files have (body.N.weight, body.N.bias, PReLU weights at the odd N), so
any loader of such upscalers takes it. Truth: the rendered art on coloured grounds at 256 px and crops of
free photographs (--photos FOLDER, any JPEG/PNG/WebP; optional). The small picture is made by one of
several resamplers, now and then blurred, with a little noise or through JPEG. A third of the pairs are
mini-draw's own pictures beside the scene they mean, because those are what is enlarged most. Crops are made
ahead (RUN/pool.pt), turned and recoloured anew each time.

    python train_upscale.py --sprites SPRITES --out RUN --minutes 20 [--photos FOLDER] [--model models/mini-draw]
    python train_upscale.py ... --export models/mini-upscale/mini-upscale.safetensors
"""
import argparse
import io
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from PIL import Image, ImageFilter
from safetensors.torch import load_file, save_file
from torch import nn

from art import COLOURS, SIZE, Painter, load_concepts

SCALE = 4
KNEE = .04
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

    @torch.no_grad()
    def lead(self, amount=.3):
        """Begin with straight ways: the first convolution hands on the pixel itself (first three features, never
        negative, so PReLU leaves them alone) and differences to it; every layer behind adds `amount` of chance."""
        layers = self.body[:-1:2]
        for layer in layers:
            layer.bias.zero_()
        layers[0].weight[:3] = 0
        layers[0].weight[range(3), range(3), 1, 1] = 1
        for layer in layers[1:]:
            layer.weight.mul_(amount)
            layer.weight[:3] = 0
            nn.init.dirac_(extra := torch.empty_like(layer.weight))
            layer.weight.add_(extra)

    @torch.no_grad()
    def settle(self, pairs, strength=1e-6):
        """The last convolution by least squares over (small, large) batches: where the bilinear start of an
        earlier version stood below Lanczos for minutes, this one begins above it."""
        gram, right = 0, 0
        last = self.body[-1]
        for small, large in pairs:
            x = small
            for layer in self.body[:-1]:
                x = layer(x)
            taps = F.unfold(x.contiguous(), 3, padding=1).transpose(1, 2).flatten(0, 1)
            taps = torch.cat([taps, torch.ones(len(taps), 1)], 1)
            wanted = F.pixel_unshuffle(large - F.interpolate(small, scale_factor=SCALE, mode="nearest"), SCALE)
            wanted = wanted.permute(0, 2, 3, 1).reshape(len(taps), -1)
            gram, right = gram + (taps.t() @ taps).double(), right + (taps.t() @ wanted).double()
        keep = strength * gram.diagonal().mean() * torch.eye(len(gram)).double()
        best = torch.linalg.solve(gram + keep, right).float()
        last.weight.copy_(best[:-1].t().reshape(last.weight.shape))
        last.bias.copy_(best[-1])

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


def painted_large(painter, scene):
    """The scene four times as large. Its things are pasted at four times their whole pixels."""
    canvas = Image.new("RGB", (SCALE * SIZE, SCALE * SIZE), tuple(int(v) for v in scene.picture[0, 0]))
    for index, (x0, y0, x1, y1) in zip(scene.things, scene.boxes):
        sprite = painter.sprites[scene.style, index]
        side = SCALE * (x1 - x0), SCALE * (y1 - y0)
        small, sprite = side[0] > sprite.width, sprite.resize(side, Image.LANCZOS).convert("RGBA")
        if small:
            sprite = sprite.filter(ImageFilter.UnsharpMask(1.5, 60, 0))
        canvas.paste(sprite, (SCALE * x0, SCALE * y0), sprite)
    return canvas


class Drawn:
    """What mini-draw made of scenes (the pairs of draw_pairs.py, decoded), beside the same scenes painted four times
    larger. Scenes with held-out things are left out."""

    def __init__(self, args):
        self.vae = AutoencoderKL.from_pretrained(args.model, subfolder="vae").float().eval()
        shards = [torch.load(p) for p in sorted(args.pairs.glob("*.pt"))]
        concepts = load_concepts((1,))
        self.painter = Painter(args.sprites, concepts, styles=("3d",), shake=0)
        held = {c.code for c in load_concepts((1, 2, 3)) if held_out(c.index)}
        kept = {c.index for c in concepts if c.code not in held}
        self.rows = [(z, kind) for s in shards for z, kind in zip(s["latents"], s["kinds"]) if kept.issuperset(kind[3])]

    @torch.no_grad()
    def pair(self, rng):
        """(small float [128, 128, 3], large picture)"""
        z, (kind, size, colour, things) = self.rows[int(rng.integers(len(self.rows)))]
        scene = self.painter.sample(rng, kind=kind, size=size, colour=colour, style="3d", index=things[0], other=things[-1])
        made = self.vae.decode(z[None].float()).sample[0].clamp(-1, 1)
        return (made.permute(1, 2, 0).numpy() + 1) / 2, painted_large(self.painter, scene)


def stock(args, count, shares, crop=32, crops=6, side=256):
    """Crops made ahead, uint8: small [n, crop, crop, 3], large [n, 4 crop, 4 crop, 3]. shares: {art, photo, drawn}"""
    rng = np.random.default_rng(2026)
    painter = Painter(args.sprites, load_concepts((1, 2, 3)))
    photos = sorted(p for p in Path(args.photos).rglob("*")
                    if p.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp")) if args.photos else []
    drawn = Drawn(args) if args.model else None
    small, large = [], []
    for kind in rng.choice(list(shares), count // crops, p=list(shares.values())).tolist():
        if kind == "drawn":
            low, picture = drawn.pair(rng)
        else:
            picture = photo_crop(photos, rng, side) if kind == "photo" else art_picture(painter, rng, side)
            low = degrade(picture, rng)
        low, high = (low * 255 + .5).astype(np.uint8), np.asarray(picture)
        for _ in range(crops):
            tries = rng.integers(0, len(low) - crop + 1, (2, 2)).tolist()
            x, y = max(tries, key=lambda t: low[t[1]:t[1] + crop, t[0]:t[0] + crop].var())    # grounds teach little
            small.append(low[y:y + crop, x:x + crop])
            large.append(high[SCALE * y:SCALE * (y + crop), SCALE * x:SCALE * (x + crop)])
    pack = lambda rows: torch.from_numpy(np.stack(rows))
    return pack(small), pack(large)


def batch_of(small, large, size):
    """A random batch in 0..1, each time turned, mirrored and with its colours exchanged by chance."""
    rows = torch.randint(len(small), (size,))
    turns, flip, colours = int(torch.randint(4, ())), bool(torch.randint(2, ())), torch.randperm(3)
    out = []
    for pool in (small, large):
        x = pool[rows].permute(0, 3, 1, 2)[:, colours].rot90(turns, (2, 3))
        out.append((x.flip(3) if flip else x).float().div(255).contiguous(memory_format=torch.channels_last))
    return out


def loss_of(made, truth):
    """Absolute error, square below KNEE (else the many flat pixels, right within a shade, pull as hard as the
    edges), and a little of the same for the steps between neighbours, which keeps edges crisp."""
    total = F.smooth_l1_loss(made, truth, beta=KNEE)
    for dim in (2, 3):
        total = total + .25 * F.smooth_l1_loss(made.diff(dim=dim), truth.diff(dim=dim), beta=KNEE)
    return total


def orthogonal(x):
    """Muon's step: five Newton-Schulz rounds bring all singular values of [rows, columns] near one."""
    wide = x if x.shape[0] <= x.shape[1] else x.t()
    wide = wide / (wide.norm() + 1e-7)
    for _ in range(5):
        square = wide @ wide.t()
        wide = 3.4445 * wide + (-4.775 * square + 2.0315 * (square @ square)) @ wide
    return wide if x.shape[0] <= x.shape[1] else wide.t()


class Muon:
    """For the kernels, each as one matrix; `rate` is the root mean square of a step's change, times five."""

    def __init__(self, kernels, bf16=False):
        self.kernels, self.momentum, self.bf16 = kernels, [torch.zeros_like(k) for k in kernels], bf16

    @torch.no_grad()
    def step(self, rate):
        for kernel, momentum in zip(self.kernels, self.momentum):
            momentum.lerp_(kernel.grad, .05)
            turn = kernel.grad.lerp(momentum, .95).flatten(1)
            turn = orthogonal(turn.bfloat16() if self.bf16 else turn).float().reshape(kernel.shape)
            kernel.add_(turn, alpha=-.2 * rate * max(kernel.shape[0], kernel[0].numel()) ** .5)


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sprites", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--photos")
    parser.add_argument("--model", help="mini-draw's folder: its pictures, of --pairs, are learnt to be enlarged too")
    parser.add_argument("--pairs", type=Path, help="what draw_pairs.py wrote")
    parser.add_argument("--minutes", type=float, default=9, help="of processor time, so that a shared core does no harm")
    parser.add_argument("--features", type=int, default=32)
    parser.add_argument("--convolutions", type=int, default=8)
    parser.add_argument("--crops", type=int, default=6000)
    parser.add_argument("--drawn", type=float, default=6, help="their weight, beside art (8) and photographs (1)")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=1.2e-3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--start", type=Path, help="begin with these exported weights")
    parser.add_argument("--bf16", action="store_true", help="for processors with bf16 dot products")
    parser.add_argument("--export", type=Path)
    return parser.parse_args()


def main():
    args = parse()
    torch.set_num_threads(args.threads)
    torch.manual_seed(5)
    args.out.mkdir(parents=True, exist_ok=True)
    model = Compact(args.features, args.convolutions)
    state, spent, step = args.out / "upscale.pt", 0.0, 0
    saved = torch.load(state) if state.exists() else None
    if saved:
        model.load_state_dict(saved["model"])
        spent, step = saved["spent"], saved["step"]
    if args.export:
        args.export.parent.mkdir(parents=True, exist_ok=True)
        save_file({k: v.half() for k, v in model.state_dict().items()}, args.export, {"format": "pt", "scale": "4"})
        args.export.chmod(0o644)
        return
    kept = args.out / "pool.pt"
    if not kept.exists():
        shares = {"art": 8, "photo": bool(args.photos), "drawn": args.drawn * bool(args.model)}
        torch.save(stock(args, args.crops, {k: v / sum(shares.values()) for k, v in shares.items()}), kept)
    small, large = torch.load(kept)
    if not saved and args.start:
        model.load_state_dict({k: v.float() for k, v in load_file(args.start).items()})
    elif not saved:
        model.lead()
        model.settle([batch_of(small, large, args.batch) for _ in range(16)])
    model.to(memory_format=torch.channels_last)
    kernels = [p for p in model.parameters() if p.dim() == 4]
    muon, adam = Muon(kernels, args.bf16), torch.optim.Adam([p for p in model.parameters() if p.dim() != 4], betas=(.9, .99))
    if saved:
        muon.momentum = saved["momentum"]
        adam.load_state_dict(saved["adam"])

    def keep():
        torch.save({"model": model.state_dict(), "momentum": muon.momentum, "adam": adam.state_dict(), "spent": spent,
                    "step": step}, state.with_suffix(".part"))
        os.replace(state.with_suffix(".part"), state)

    last, shown, total, count = time.process_time(), spent, 0.0, 0
    while spent < args.minutes * 60:
        part = spent / (args.minutes * 60)
        share = min(1, (step + 1) / 20, 1.5 * (1 - part) + .01)
        for group in adam.param_groups:
            group["lr"] = .5 * args.lr * share
        lower, higher = batch_of(small, large, args.batch)
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
            made = model(lower)
        loss = loss_of(made.float(), higher)
        model.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()
        muon.step(args.lr * share)
        step, total, count = step + 1, total + loss.item(), count + 1
        now = time.process_time()
        spent, last = spent + now - last, now
        if step % 100 == 0:
            print("step %d  %.1f min  loss %.4f" % (step, spent / 60, total / count), flush=True)
            total, count = 0.0, 0
        if spent - shown > 120:
            shown = spent
            keep()
    keep()


if __name__ == "__main__":
    main()
