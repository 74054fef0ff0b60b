# SPDX-License-Identifier: MIT
"""Measure mini-upscale against Lanczos: art on coloured grounds (things that training never saw) and the
photographs of --photos, made four times smaller by area, enlarged by `limn upscale` and by Pillow's Lanczos.
Prints the mean PSNR of both; --show writes truth, Lanczos and mini-upscale side by side.

    python eval_upscale.py --limn build/limn --model models/mini-upscale/mini-upscale.safetensors --sprites SPRITES
"""
import argparse
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from art import Painter, load_concepts
from train_upscale import SCALE, art_picture


def psnr(a, b):
    error = np.mean((np.asarray(a, np.float64) - np.asarray(b, np.float64)) ** 2)
    return 10 * np.log10(255 ** 2 / max(error, 1e-9))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--limn", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--sprites", required=True)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--show", type=Path)
    args = parser.parse_args()
    painter, rng = Painter(args.sprites, load_concepts((1, 2, 3)), styles=("3d", "flat")), np.random.default_rng(515151)
    sets = {"art": [art_picture(painter, rng, 256, held=True) for _ in range(args.count)]}
    if args.photos:
        crops = []
        for path in sorted(args.photos.iterdir()):
            photo = Image.open(path).convert("RGB")
            crops.append(photo.crop((0, 0, photo.width // SCALE * SCALE, photo.height // SCALE * SCALE)))
        sets["photographs"] = crops
    rows = []
    print("%-12s %4s %10s %14s" % ("psnr, dB", "n", "lanczos", "mini-upscale"))
    with tempfile.TemporaryDirectory() as folder:
        for name, pictures in sets.items():
            scores = []
            for i, truth in enumerate(pictures):
                small = truth.resize([s // SCALE for s in truth.size], Image.BOX)
                begin, end = Path(folder) / "small.png", Path(folder) / "large.png"
                small.save(begin)
                subprocess.run([args.limn, "upscale", "--quiet", "-y", "--upscale", str(SCALE), "--upscaler",
                                args.model, "-o", str(end), str(begin)], check=True, stdout=subprocess.DEVNULL)
                made, plain = Image.open(end).convert("RGB"), small.resize(truth.size, Image.LANCZOS)
                scores.append((psnr(plain, truth), psnr(made, truth)))
                if i < 6:
                    rows.append([p.resize((256, 256), Image.BOX) if p.size != (256, 256) else p
                                 for p in (truth, plain, made)])
            print("%-12s %4d %10.2f %14.2f" % (name, len(scores), *np.mean(scores, 0)), flush=True)
    if args.show:
        sheet = Image.new("RGB", (3 * 260, len(rows) * 260), "white")
        for y, row in enumerate(rows):
            for x, picture in enumerate(row):
                sheet.paste(picture, (x * 260, y * 260))
        sheet.save(args.show)


if __name__ == "__main__":
    main()
