# SPDX-License-Identifier: MIT
"""Train the independent judge: a small CNN that names the thing in a 64 px picture.

It never sees mini-draw's pictures or latents: only the renderings, with an augmentation of its own (free
scale and place, any background colour, blur, noise, contrast, turned by a few degrees), so that what it
says about drawn pictures is a second opinion. Held out: fresh scenes from a seed that training never
uses; the accuracy on them is printed per style and stored with the weights.

    python train_classifier.py --sprites SPRITES --out RUN --minutes 8
"""
import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from art import STYLES, Painter, load_concepts

SIDE = 64


class Judge(nn.Module):
    """[n, 3, 64, 64] in -1..1 -> [n, classes]."""

    def __init__(self, classes, width=32):
        super().__init__()
        layers, channels = [nn.Conv2d(3, width, 5, 2, 2, bias=False), nn.BatchNorm2d(width), nn.ReLU()], width
        for wide, stride in ((width * 2, 2), (width * 2, 1), (width * 4, 2), (width * 4, 1), (width * 8, 2)):
            layers += [nn.Conv2d(channels, wide, 3, stride, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU()]
            channels = wide
        self.body = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Flatten(), nn.Dropout(.2), nn.Linear(channels * 16, classes))

    def forward(self, x):
        return self.head(self.body(x))


def augmented(painter, rng, count):
    """Own renderings, not the painter's scenes: [count, 3, 64, 64] and class indices."""
    out, truth = np.empty((count, SIDE, SIDE, 3), np.uint8), np.empty(count, np.int64)
    for i in range(count):
        style, index = painter.singles[int(rng.integers(len(painter.singles)))]
        sprite = painter.sprites[style, index].convert("RGBA")
        side = SIDE * rng.uniform(.45, 1.0)
        scale = side / max(sprite.size)
        small = sprite.resize((max(1, round(sprite.width * scale)), max(1, round(sprite.height * scale))),
                              Image.BILINEAR, reducing_gap=2.0)
        if rng.random() < .5:
            small = small.rotate(float(rng.uniform(-10, 10)), Image.BILINEAR, expand=True)
        colour = (255, 255, 255) if rng.random() < .25 else tuple(int(c) for c in rng.integers(0, 256, 3))
        base = Image.new("RGB", (SIDE, SIDE), colour)
        slack = [(SIDE - s) / 2 for s in small.size]
        at = tuple(round(s + rng.uniform(-1, 1) * min(6 + abs(s) * .6, 12)) for s in slack)
        base.paste(small, at, small)
        if rng.random() < .3:
            low = int(rng.integers(28, 56))
            base = base.resize((low, low), Image.BILINEAR).resize((SIDE, SIDE), Image.BILINEAR)
        out[i] = np.asarray(base)
        truth[i] = index
    x = torch.from_numpy(out).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
    gain = torch.from_numpy(rng.uniform(.85, 1.15, (count, 3, 1, 1)).astype(np.float32))
    x = x * gain + torch.from_numpy(rng.normal(0, .04, (count, 1, 1, 1)).astype(np.float32))
    x = x + torch.randn_like(x) * torch.from_numpy(rng.uniform(0, .06, (count, 1, 1, 1)).astype(np.float32))
    return x.clamp(-1.2, 1.2), torch.from_numpy(truth)


def shrink(pictures):
    """Painted or drawn pictures [n, 3, 128, 128] -> the judge's input."""
    return F.avg_pool2d(pictures, pictures.shape[-1] // SIDE)


def held_out(judge, painter, count=600):
    """Share right on fresh painted single scenes, per style."""
    rng, right = np.random.default_rng(777001), {}
    for style in painter.styles:
        scenes = [painter.sample(rng, kind="single", style=style, size="normal",
                                 index=painter.by_style[style][i % len(painter.by_style[style])]) for i in range(count)]
        x = torch.from_numpy(np.stack([s.picture for s in scenes])).permute(0, 3, 1, 2).float() / 127.5 - 1
        with torch.inference_mode():
            named = torch.cat([judge(shrink(part)).argmax(1) for part in x.split(100)])
        right[style] = float((named == torch.tensor([s.things[0] for s in scenes])).float().mean())
    return right


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sprites", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=5, help="of processor time")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--tiers", default="1")
    parser.add_argument("--styles", default=",".join(STYLES))
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(11)
    concepts = load_concepts(tuple(int(t) for t in args.tiers.split(",")))
    painter = Painter(args.sprites, concepts, styles=args.styles.split(","))
    rng = np.random.default_rng(11)
    judge = Judge(len(concepts)).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(judge.parameters(), lr=args.lr, weight_decay=.02)
    begun, step, total = time.process_time(), 0, 0.0
    while (part := (time.process_time() - begun) / (args.minutes * 60)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = args.lr * min(1, (step + 1) / 100) * (.01 + .99 * .5 * (1 + math.cos(math.pi * part)))
        x, y = augmented(painter, rng, args.batch)
        loss = F.cross_entropy(judge(x.contiguous(memory_format=torch.channels_last)), y, label_smoothing=.05)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        step, total = step + 1, total + loss.item()
        if step % 100 == 0:
            print("step %d  %.1f min  loss %.3f" % (step, (time.process_time() - begun) / 60, total / 100), flush=True)
            total = 0.0
    judge.eval()
    right = held_out(judge, painter)
    print("held-out scenes named right:", right)
    args.out.mkdir(parents=True, exist_ok=True)
    torch.save({"judge": judge.state_dict(), "names": [c.name for c in concepts], "held_out": right},
               args.out / "judge.pt")


if __name__ == "__main__":
    main()
