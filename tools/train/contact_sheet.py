# SPDX-License-Identifier: MIT
"""Draw 48 fixed prompts with the exported mini-draw and write one labelled sheet (PNG, 8 x 6).

    python contact_sheet.py --model models/mini-draw --out docs/mini-draw.png
"""
import argparse

import torch
from diffusers import StableDiffusionPipeline
from PIL import Image, ImageDraw, ImageFont

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
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    torch.set_num_threads(2)
    pipe = StableDiffusionPipeline.from_pretrained(args.model, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    columns, side, label = 8, 128, 26
    sheet = Image.new("RGB", (columns * (side + 8) + 8, len(PROMPTS) // columns * (side + label + 8) + 8), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=10)
    for begin in range(0, len(PROMPTS), 16):
        part = PROMPTS[begin:begin + 16]
        generators = [torch.Generator().manual_seed(args.seed) for _ in part]
        images = pipe(list(part), num_inference_steps=args.steps, guidance_scale=args.guidance,
                      generator=generators).images
        for i, (prompt, image) in enumerate(zip(part, images), begin):
            x, y = 8 + i % columns * (side + 8), 8 + i // columns * (side + label + 8)
            sheet.paste(image, (x, y))
            words, lines = prompt.split(), [""]
            for word in words:
                if font.getlength(lines[-1] + word) > side:
                    lines.append("")
                lines[-1] += word + " "
            pen.multiline_text((x, y + side + 1), "\n".join(lines[:2]), "black", font=font, spacing=1)
    sheet.save(args.out)


if __name__ == "__main__":
    main()
