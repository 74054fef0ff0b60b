# SPDX-License-Identifier: MIT
"""Paint scenes, project them to latents and store them with tokenised captions.

Each shard OUT/<seed>.pt holds `latents` f16 [n, c, 16, 16] and `ids` int16 [n, captions, length]:
several wordings of the same scene. Every concept appears equally often as the first thing; the 3d style,
the default of a prompt that names none, comes twice as often as the two others. Add shards with new seeds
at any time; training takes all it finds.

    python make_latents.py --sprites SPRITES --vae VAE --tokenizer TOKENIZER --out LATENTS --seed 1
"""
import argparse
from pathlib import Path

import numpy as np
import torch
from transformers import CLIPTokenizer

from art import Painter, load_concepts
from linear_vae import encode


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sprites", required=True)
    parser.add_argument("--vae", type=Path, required=True)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--count", type=int, default=16384)
    parser.add_argument("--captions", type=int, default=4)
    parser.add_argument("--tiers", default="1")
    parser.add_argument("--styles", default="3d,flat,noto", help="a first stage learns faster from one style")
    parser.add_argument("--shake", type=float, default=0.0, help="stray from the exact places, 1 = up to 1.5 px")
    args = parser.parse_args()
    painter = Painter(args.sprites, load_concepts(tuple(int(t) for t in args.tiers.split(","))),
                      styles=args.styles.split(","), shake=args.shake)
    rng = np.random.default_rng([2026, args.seed])
    basis = dict(np.load(args.vae / "basis.npz"))
    tokenizer = CLIPTokenizer.from_pretrained(args.tokenizer)
    length = tokenizer.model_max_length
    pool = painter.singles + [s for s in painter.singles if s[0] == "3d"]
    latents, ids, order = [], [], []
    for begin in range(0, args.count, 256):
        scenes = []
        for _ in range(256):
            order = order or [pool[i] for i in rng.permutation(len(pool))]
            style, index = order.pop()
            scenes.append(painter.sample(rng, style=style, index=index))
        latents.append(encode(basis, np.stack([s.picture for s in scenes])).half())
        texts = [painter.recaption(rng, s) for s in scenes for _ in range(args.captions)]
        tokens = tokenizer(texts, padding="max_length", max_length=length, truncation=True).input_ids
        ids.append(torch.tensor(tokens, dtype=torch.int16).view(256, args.captions, length))
    args.out.mkdir(parents=True, exist_ok=True)
    torch.save({"latents": torch.cat(latents), "ids": torch.cat(ids)}, args.out / ("%d.pt" % args.seed))


if __name__ == "__main__":
    main()
