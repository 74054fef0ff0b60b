# SPDX-License-Identifier: MIT
"""Paint scenes, project them to latents and store them with tokenised captions.

Each shard OUT/<seed>.pt holds `latents` f16 [n, c, 16, 16] and `ids` int16 [n, captions, length]:
several wordings of the same scene. Every concept appears equally often as the first thing; the 3d style,
the default of a prompt that names none, comes twice as often as the two others. Add shards with new seeds
at any time; training takes all it finds.

Scenes are exact here (no shake) and the projection works on 8x8 patches, so a picture of two different
things is put together from two halves that were painted once: a shard costs its captions only.

    python make_latents.py --sprites SPRITES --vae VAE --tokenizer TOKENIZER --out LATENTS --seed 1
"""
import argparse
from pathlib import Path

import numpy as np
import torch
from transformers import CLIPTokenizer

from art import COLOURS, Painter, Scene, load_concepts
from linear_vae import basis_of, encode

MIX = "single=.26,big=.06,small=.06,two=.15,three=.14,beside=.24,above=.09"
GROUNDS = "white=.3"


def shares_of(text):
    """"a=.3,b=.1" -> {"a": .3, "b": .1}"""
    return {k: float(v) for k, v in (part.split("=") for part in text.split(","))}


class Stock:
    """Latents by what is in them, painted when first asked for. Pairs are joined from their halves."""

    def __init__(self, painter, basis):
        self.painter, self.basis, self.kept = painter, basis, {}

    def painted(self, kind, style, index, colour, size="normal", other=None):
        scene = self.painter.sample(np.random.default_rng(0), kind=kind, style=style, index=index, colour=colour,
                                    size=size, other=other)
        return encode(self.basis, scene.picture[None])[0].half()

    def whole(self, kind, style, index, colour, size):
        key = kind, style, index, colour, size
        if key not in self.kept:
            self.kept[key] = self.painted(*key)
        return self.kept[key]

    def half(self, kind, style, index, colour, second):
        key = kind, style, index, colour, second
        if key not in self.kept:
            mate = next(i for i in self.painter.by_style[style] if i != index)
            things = (mate, index) if second else (index, mate)
            whole = self.painted(kind, style, things[0], colour, other=things[1])
            self.kept[key] = whole.chunk(2, 2 if kind == "beside" else 1)[second]
        return self.kept[key]

    def latent(self, kind, style, things, colour, size):
        if kind not in ("beside", "above"):
            return self.whole(kind, style, things[0], colour, size)
        return torch.cat([self.half(kind, style, t, colour, k) for k, t in enumerate(things)],
                         2 if kind == "beside" else 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sprites", required=True)
    parser.add_argument("--vae", type=Path, required=True)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--count", type=int, default=16384)
    parser.add_argument("--captions", type=int, default=4)
    parser.add_argument("--tiers", default="1")
    parser.add_argument("--styles", default="3d,flat,noto", help="a first stage learns faster from one style")
    parser.add_argument("--mix", default=MIX, help="shares of the kinds of scenes")
    parser.add_argument("--grounds", default=GROUNDS, help="shares of some colours; what is left falls on all alike")
    args = parser.parse_args()
    painter = Painter(args.sprites, load_concepts(tuple(int(t) for t in args.tiers.split(","))),
                      styles=args.styles.split(","), shake=0)
    rng = np.random.default_rng([2026, args.seed])
    stock = Stock(painter, basis_of(args.vae))
    tokenizer = CLIPTokenizer.from_pretrained(args.tokenizer)
    length = tokenizer.model_max_length
    pool = painter.singles + [s for s in painter.singles if s[0] == "3d"]
    shares, grounds = shares_of(args.mix), shares_of(args.grounds)
    kinds = rng.choice(list(shares), args.count, p=np.array(list(shares.values())) / sum(shares.values()))
    colours = np.array([grounds.get(c, 0) + (1 - sum(grounds.values())) / len(COLOURS) for c in COLOURS])
    latents, ids, order = [], [], []
    for kind in kinds.tolist():
        order = order or [pool[i] for i in rng.permutation(len(pool))]
        style, index = order.pop()
        size = kind if kind in ("big", "small") else "normal"
        kind = "single" if kind in ("big", "small") else kind
        things = [index] * {"two": 2, "three": 3}.get(kind, 1)
        if kind in ("beside", "above"):
            others = [i for i in painter.by_style[style] if i != index]
            things.append(others[int(rng.integers(len(others)))])
        colour = str(rng.choice(list(COLOURS), p=colours))
        scene = Scene(None, "", kind, things, style, colour, size)
        latents.append(stock.latent(kind, style, things, colour, size))
        texts = [painter.recaption(rng, scene) for _ in range(args.captions)]
        ids.append(tokenizer(texts, padding="max_length", max_length=length, truncation=True).input_ids)
    args.out.mkdir(parents=True, exist_ok=True)
    torch.save({"latents": torch.stack(latents), "ids": torch.tensor(ids, dtype=torch.int16)},
               args.out / ("%d.pt" % args.seed))


if __name__ == "__main__":
    main()
