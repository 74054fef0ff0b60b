# SPDX-License-Identifier: MIT
"""Draw 48 fixed prompts with the exported mini-draw and write one labelled sheet (PNG, 8 x 6).

    python contact_sheet.py --limn build/limn --model models/mini-draw --out docs/mini-draw.png
"""
import argparse

import torch
from PIL import Image, ImageDraw, ImageFont

from eval_draw import artist_of

PROMPTS = (
    "a dog", "a cat", "a fox", "a panda", "a frog", "an owl", "a penguin", "a butterfly",
    "a red apple", "a banana", "a strawberry", "a slice of pizza", "a hamburger", "a doughnut", "a cup of coffee",
    "a birthday cake", "a car", "a bus", "a bicycle", "a sailboat", "an airplane", "a rocket", "a helicopter",
    "a steam train", "a house", "a castle", "a palm tree", "a cactus", "a rose", "a sunflower", "a rainbow",
    "a snowman", "a guitar", "a camera", "a key", "an umbrella", "a crown", "a light bulb", "a skull", "a robot",
    "a fish on a light blue background", "a lemon on purple", "a big pumpkin on black", "a small star on blue",
    "two cats", "three balloons", "an apple on the left and a banana on the right", "a sun above a house")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--limn", help="limn's program; without it diffusers draws")
    parser.add_argument("--steps", type=int, help="in place of limn.json's")
    parser.add_argument("--guidance", type=float, help="in place of limn.json's")
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(2)
    columns, side, label = 8, 128, 26
    sheet = Image.new("RGB", (columns * (side + 8) + 8, len(PROMPTS) // columns * (side + label + 8) + 8), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=10)
    pictures = artist_of(args).draw(list(PROMPTS), [args.seed] * len(PROMPTS))
    for i, (prompt, picture) in enumerate(zip(PROMPTS, pictures)):
        x, y = 8 + i % columns * (side + 8), 8 + i // columns * (side + label + 8)
        values = ((picture + 1) * 127.5).round().clamp(0, 255).byte()
        sheet.paste(Image.fromarray(values.permute(1, 2, 0).numpy()), (x, y))
        words, lines = prompt.split(), [""]
        for word in words:
            if font.getlength(lines[-1] + word) > side:
                lines.append("")
            lines[-1] += word + " "
        pen.multiline_text((x, y + side + 1), "\n".join(lines[:2]), "black", font=font, spacing=1)
    sheet.save(args.out)


if __name__ == "__main__":
    main()
