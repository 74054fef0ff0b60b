# SPDX-License-Identifier: MIT
"""Draw scenes with the exported mini-draw and keep what its UNet made beside what should have been drawn: the pairs
that tune_decoder.py learns from. OUT/<seed>.pt holds `latents` f16 [n, c, 16, 16], `pictures` uint8 [n, 128, 128, 3] as
painted and `kinds`, a list of (kind, size, colour, things). Noise, wording, steps and guidance differ from one to the next.

    python draw_pairs.py --model models/mini-draw --sprites SPRITES --out PAIRS --seed 1
"""
import argparse
import os
from pathlib import Path

import numpy as np
import torch
from transformers import CLIPTokenizer

from art import COLOURS, Painter, load_concepts
from train_draw import from_export, sample

MIX = {("single", "normal"): .36, ("single", "big"): .12, ("single", "small"): .11, ("two", "normal"): .11,
       ("three", "normal"): .1, ("beside", "normal"): .12, ("above", "normal"): .08}
# (steps, guidance): what limn.json recommends most often, and what users may ask for
WAYS = ((20, 1.25), (20, 1.25), (20, 1.0), (20, 1.5), (20, 2.0), (8, 1.25), (8, 1.0), (4, 1.25), (12, 1.0), (12, 1.25))


def scenes_of(painter, rng, count):
    kinds, shares = list(MIX), np.array(list(MIX.values()))
    order = []
    for _ in range(count):
        order = order or rng.permutation(len(painter.concepts)).tolist()
        kind, size = kinds[rng.choice(len(kinds), p=shares / shares.sum())]
        colour = "white" if rng.random() < .3 else str(rng.choice(list(COLOURS)))
        yield painter.sample(rng, kind=kind, size=size, colour=colour, index=order.pop())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--sprites", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--count", type=int, default=512)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--bf16", action="store_true", help="for processors with bf16 dot products")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    rng = np.random.default_rng([31, args.seed])
    both = from_export(args.model).eval()
    tokenizer = CLIPTokenizer.from_pretrained(args.model, subfolder="tokenizer")
    painter = Painter(args.sprites, load_concepts((1,)), styles=("3d",), shake=0)
    scenes = list(scenes_of(painter, rng, args.count))
    latents = []
    for begin in range(0, args.count, args.batch):
        captions = [s.caption for s in scenes[begin:begin + args.batch]]
        steps, guidance = WAYS[int(rng.integers(len(WAYS)))]
        noise = torch.randn(len(captions), both.unet.config.in_channels, 16, 16)
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
            latents.append(sample(both, tokenizer, captions, noise, steps, guidance).half())
    args.out.mkdir(parents=True, exist_ok=True)
    part = args.out / "part"
    torch.save({"latents": torch.cat(latents), "pictures": torch.from_numpy(np.stack([s.picture for s in scenes])),
                "kinds": [(s.kind, s.size, s.colour, s.things) for s in scenes]}, part)
    os.replace(part, args.out / ("%d.pt" % args.seed))


if __name__ == "__main__":
    main()
