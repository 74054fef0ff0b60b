# SPDX-License-Identifier: MIT
"""Measure mini-upscale against Lanczos: art on coloured grounds (things that training never saw) and the
photographs of --photos, made four times smaller by area, enlarged by `limn upscale` and by Pillow's Lanczos; and
with --draw what mini-draw draws of such things, against the scene it means, painted four times as large.
Prints the mean PSNR of both; --show writes truth, Lanczos and mini-upscale side by side.

    python eval_upscale.py --limn build/limn --model models/mini-upscale/mini-upscale.safetensors --sprites SPRITES
"""
import argparse
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from art import Painter, article, load_concepts
from train_upscale import SCALE, art_picture, held_out, painted_large


def psnr(a, b):
    error = np.mean((np.asarray(a, np.float64) - np.asarray(b, np.float64)) ** 2)
    return 10 * np.log10(255 ** 2 / max(error, 1e-9))


def small_of(truth):
    return truth.resize([s // SCALE for s in truth.size], Image.BOX)


def drawn_pairs(args, folder):
    """[(drawn 128x128, painted 512x512)]: things that mini-upscale never saw, each on white and on a colour."""
    concepts = load_concepts((1, 2, 3))
    painter = Painter(args.sprites, concepts, styles=("3d",), shake=0)
    known, out = {c.code for c in load_concepts((1,))}, []
    for concept in concepts:
        if concept.code not in known or not held_out(concept.index):
            continue
        for colour in ("white", ("blue", "green", "pink")[len(out) // 2 % 3]):
            prompt = "%s on a %s background" % (article(concept.name), colour)
            made = str(Path(folder) / "drawn.png")
            subprocess.run([args.limn, "draw", "--quiet", "-y", "-m", args.draw, "-r", "7", "-o", made, prompt],
                           check=True, stdout=subprocess.DEVNULL)
            scene = painter.sample(np.random.default_rng(0), kind="single", style="3d", index=concept.index,
                                   colour=colour, size="normal")
            with Image.open(made) as picture:
                out.append((picture.convert("RGB"), painted_large(painter, scene)))
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limn", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--sprites", required=True)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--draw", help="mini-draw's folder")
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--show", type=Path)
    args = parser.parse_args()
    painter, rng = Painter(args.sprites, load_concepts((1, 2, 3)), styles=("3d", "flat")), np.random.default_rng(515151)
    truths = [art_picture(painter, rng, 256, held=True) for _ in range(args.count)]
    sets = {"art": [(small_of(t), t) for t in truths]}
    if args.photos:
        sets["photographs"] = []
        for path in sorted(args.photos.iterdir()):
            photo = Image.open(path).convert("RGB")
            photo = photo.crop((0, 0, photo.width // SCALE * SCALE, photo.height // SCALE * SCALE))
            sets["photographs"].append((small_of(photo), photo))
    rows = []
    print("%-12s %4s %10s %14s" % ("psnr, dB", "n", "lanczos", "mini-upscale"))
    with tempfile.TemporaryDirectory() as folder:
        if args.draw:
            sets["drawn"] = drawn_pairs(args, folder)
        for name, pairs in sets.items():
            scores = []
            for i, (small, truth) in enumerate(pairs):
                begin, end = Path(folder) / "small.png", Path(folder) / "large.png"
                small.save(begin)
                subprocess.run([args.limn, "upscale", "--quiet", "-y", "--upscale", str(SCALE), "--upscaler",
                                args.model, "-o", str(end), str(begin)], check=True, stdout=subprocess.DEVNULL)
                made, plain = Image.open(end).convert("RGB"), small.resize(truth.size, Image.LANCZOS)
                scores.append((psnr(plain, truth), psnr(made, truth)))
                if i < 6:
                    rows.append([p.crop((0, 0, 512, 512)) for p in (truth, plain, made)])
            print("%-12s %4d %10.2f %14.2f" % (name, len(scores), *np.mean(scores, 0)), flush=True)
    if args.show:
        tall = [max(p.height for p in row) + 4 for row in rows]
        sheet = Image.new("RGB", (3 * 516, sum(tall)), "white")
        for k, row in enumerate(rows):
            for x, picture in enumerate(row):
                sheet.paste(picture, (x * (row[0].width + 4), sum(tall[:k])))
        sheet.save(args.show)


if __name__ == "__main__":
    main()
