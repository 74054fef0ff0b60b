# SPDX-License-Identifier: MIT
"""Render every concept in every style to a trimmed RGBA PNG: SPRITES/<style>/<hexcode>.png.

Reads what fetch.sh brought (DATA/npm) and the Noto colour font; writes 256 px art (Noto: its own
136 px bitmaps). A concept that a set lacks is reported and left out of that style, never replaced.

    python render.py --data DATA --out SPRITES
"""
import argparse
import io
import json
import subprocess
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from art import load_concepts

NOTO_FONT = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"


def trim(picture):
    box = picture.getchannel("A").point(lambda a: 255 if a > 8 else 0).getbbox()
    return picture.crop(box) if box else None


def render_noto(emoji, font):
    picture = Image.new("RGBA", (160, 160), (0, 0, 0, 0))
    ImageDraw.Draw(picture).text((8, 8), emoji, font=font, embedded_color=True)
    return trim(picture)


def render_flat(path):
    png = subprocess.run(["rsvg-convert", "-w", "256", "-h", "256", str(path)],
                         check=True, capture_output=True).stdout
    return trim(Image.open(io.BytesIO(png)).convert("RGBA"))


def find_3d(folder, code):
    plain = "-".join(p for p in code.lower().split("-") if p != "fe0f")
    for name in (code.lower(), plain, plain + "-fe0f"):
        path = folder / (name + ".webp")
        if path.exists():
            return path
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--font", default=NOTO_FONT)
    args = parser.parse_args()
    npm = args.data / "npm"
    rows = json.loads((npm / "emojibase-data/en/data.json").read_text())
    labels = {row["emoji"].replace("\ufe0f", ""): row["label"] for row in rows}
    font = ImageFont.truetype(args.font, 109)
    missing = 0
    for concept in load_concepts(tiers=(1, 2, 3)):
        bare = concept.emoji.replace("\ufe0f", "")
        slug = labels[bare].lower().replace(" ", "-").replace("’", "").replace(".", "")
        flat = npm / "fluentui-emoji/icons/flat" / (slug + ".svg")
        if not flat.exists():      # people and hands: the set names the plain tone so
            flat = flat.with_name(slug + "-default.svg")
        solid = find_3d(npm / "lobehub-fluent-emoji-3d/assets", concept.code)
        pictures = {
            "noto": render_noto(concept.emoji, font),
            "flat": render_flat(flat) if flat.exists() else None,
            "3d": trim(Image.open(solid).convert("RGBA")) if solid else None,
        }
        for style, picture in pictures.items():
            if picture is None:
                print("missing:", style, concept.name, slug)
                missing += 1
                continue
            path = args.out / style / (concept.code + ".png")
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path)
    print("done,", missing, "missing")


if __name__ == "__main__":
    main()
