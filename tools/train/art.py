# SPDX-License-Identifier: MIT
"""The world of the miniatures: concepts, sprites, scenes and their captions.

A scene is one thing (most often), two or three of the same, or two different things beside or above
each other, in one style, on one named background colour. `Painter.sample` draws a fresh scene with a
caption in plain English that says all that was chosen; what a caption leaves out has a default (white
background, the 3d style), so that short prompts give clean pictures. Every random choice comes
from the numpy Generator that is passed in: a seed gives the same scenes again.
"""
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = 128
STYLES = ("noto", "flat", "3d")
COLOURS = {
    "white": (255, 255, 255), "black": (18, 18, 20), "grey": (150, 150, 152), "red": (216, 54, 54),
    "orange": (244, 146, 44), "yellow": (250, 220, 76), "green": (84, 176, 88), "blue": (52, 100, 214),
    "light blue": (152, 206, 246), "purple": (136, 84, 198), "pink": (248, 164, 200), "brown": (132, 88, 54),
}
COLOUR_WORDS = {"grey": ("grey", "gray"), "light blue": ("light blue", "sky blue"), "purple": ("purple", "violet")}
STYLE_WORDS = {
    "noto": ("noto", "noto emoji", "noto style"),
    "flat": ("fluent flat", "flat", "flat style", "flat icon"),
    "3d": ("fluent 3d", "3d", "3d style", "3d render"),
}
BIG_WORDS = ("big", "large", "huge")
SMALL_WORDS = ("small", "little", "tiny")


@dataclass
class Concept:
    emoji: str
    code: str            # hexcodes joined by '-', as in emojibase
    name: str
    synonyms: list       # the name is first
    plural: str
    index: int = 0


@dataclass
class Scene:
    picture: np.ndarray  # uint8 [SIZE, SIZE, 3]
    caption: str
    kind: str            # single two three beside above
    things: list         # concept indices, left to right or top to bottom
    style: str
    colour: str
    size: str            # small normal big
    boxes: list = field(default_factory=list)   # (x0, y0, x1, y1) per drawn thing


def plural_of(name):
    head, _, tail = name.partition(" of ")
    if head.endswith(("s", "x", "sh", "ch")):
        head += "es"
    elif head.endswith("y") and head[-2] not in "aeiou":
        head = head[:-1] + "ies"
    elif head.endswith(("leaf", "loaf")):
        head = head[:-1] + "ves"
    else:
        head += "s"
    return head + (" of " + tail if tail else "")


def load_concepts(tiers=(1,), path=Path(__file__).with_name("concepts.txt")):
    concepts = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line or line[0] == "#":
            continue
        tier, emoji, rest = line.split(" ", 2)
        if int(tier) not in tiers:
            continue
        names, _, plural = rest.partition("|")
        names = [n.strip() for n in names.split(";")]
        code = "-".join("%04X" % ord(c) for c in emoji)
        concepts.append(Concept(emoji, code, names[0], names, plural.strip() or plural_of(names[0]), len(concepts)))
    return concepts


MASS = {"bread", "toast", "corn", "maize", "garlic", "cheese", "meat", "bacon", "pizza", "popcorn", "rice", "ramen",
        "pasta", "sushi", "chocolate", "honey", "milk", "coffee", "wine", "beer", "yarn", "wool", "medicine",
        "lightning", "fire", "saturn", "santa claus", "santa", "father christmas", "soap", "toilet paper", "mail",
        "planet earth", "earth", "broccoli", "noodle soup", "soft ice", "salad", "green salad", "soda"}


def article(phrase):
    """The phrase with its indefinite article, if it takes one."""
    last = phrase.split()[-1]
    plural = last.endswith("s") and not last.endswith(("ss", "us")) and " of " not in phrase
    if phrase in MASS or plural:
        return phrase
    if phrase.startswith(("united", "unicorn", "ufo", "uni")):
        return "a " + phrase
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


class Painter:
    """Holds the sprites; paints scenes. Not shared between processes while painting."""

    def __init__(self, sprites, concepts, styles=STYLES, shake=1.0):
        self.concepts = concepts
        self.styles = styles
        self.shake = shake       # how far things stray from their places: 0 = exactly there
        self.sprites, self.sizes = {}, {}
        for concept in concepts:
            for style in styles:
                path = Path(sprites) / style / (concept.code + ".png")
                if path.exists():
                    self.sprites[style, concept.index] = Image.open(path).convert("RGBA").convert("RGBa")
        self.by_style = {s: [c.index for c in concepts if (s, c.index) in self.sprites] for s in styles}
        self.singles = sorted(self.sprites, key=str)

    def fitted(self, style, index, w, h):
        """The sprite at w x h, f32 with premultiplied alpha; kept, since unshaken scenes ask for a few sizes only."""
        key = style, index, w, h
        if key not in self.sizes:
            sprite = self.sprites[style, index].resize((w, h), Image.LANCZOS, reducing_gap=3.0)
            small = np.asarray(sprite.convert("RGBa"))
            if self.shake:
                return small.astype(np.float32)
            self.sizes[key] = small
        return self.sizes[key].astype(np.float32)

    def paste(self, canvas, style, index, box):
        """Fit the sprite into box = (centre x, centre y, side), keep its aspect; returns its rectangle."""
        sprite = self.sprites[style, index]
        cx, cy, side = box
        scale = side / max(sprite.size)
        w, h = max(1, round(sprite.width * scale)), max(1, round(sprite.height * scale))
        small = self.fitted(style, index, w, h)
        x0, y0 = round(cx - w / 2), round(cy - h / 2)
        x1, y1 = min(canvas.shape[1], x0 + w), min(canvas.shape[0], y0 + h)
        sx, sy = max(0, -x0), max(0, -y0)
        x0, y0 = max(0, x0), max(0, y0)
        part = small[sy:sy + y1 - y0, sx:sx + x1 - x0]
        region = canvas[y0:y1, x0:x1]
        region *= 1 - part[..., 3:] / 255
        region += part[..., :3]
        return (x0, y0, x1, y1)

    def sample(self, rng, kind=None, index=None, style=None, colour=None, size=None, other=None):
        """A fresh Scene. Whatever is passed is fixed; the rest is drawn from rng (numpy Generator)."""
        pick = lambda seq: seq[int(rng.integers(len(seq)))]
        if kind is None:
            kind = ("single", "two", "three", "beside", "above")[int(np.searchsorted(
                np.cumsum((.78, .06, .05, .08)), rng.random(), side="right"))]
        if style is None and index is None:
            style, index = pick(self.singles)
        elif style is None:
            style = pick([s for s in self.styles if (s, index) in self.sprites])
        elif index is None:
            index = pick(self.by_style[style])
        if size is None:
            size = "normal"
            if kind == "single":
                size = ("normal", "big", "small")[int(np.searchsorted((.84, .92), rng.random(), side="right"))]
        if colour is None:
            colour = "white" if rng.random() < .3 else pick(list(COLOURS))

        jitter = lambda amount: float(rng.uniform(-amount, amount)) * self.shake
        spot = lambda cx, cy, side: (cx + jitter(1.5), cy + jitter(1.5), side * (1 + jitter(.03)))
        c = SIZE / 2
        things = [index]
        if kind == "single":
            side = {"normal": 98, "big": 120, "small": 58}[size]
            boxes = [spot(c, c, side)]
        elif kind in ("two", "three"):
            n = 2 if kind == "two" else 3
            things = [index] * n
            side = 58 if n == 2 else 36
            boxes = [spot(SIZE * (i + .5) / n, c, side) for i in range(n)]
        else:
            if other is None:
                other = pick(self.by_style[style])
            while other == index:
                other = pick(self.by_style[style])
            things = [index, other]
            if kind == "beside":
                boxes = [spot(SIZE * .25, c, 58), spot(SIZE * .75, c, 58)]
            else:
                boxes = [spot(c, SIZE * .25, 58), spot(c, SIZE * .75, 58)]
        # A thing of 58 px lies alike on a grid of 32 px wherever it stands: mini-draw learns it once for all places.
        stray = rng.uniform(-2, 2, 3) if colour != "white" and self.shake else 0
        base = np.clip(np.array(COLOURS[colour], np.float32) + stray, 0, 255)
        canvas = np.tile(base.astype(np.float32), (SIZE, SIZE, 1))
        rects = [self.paste(canvas, style, t, b) for t, b in zip(things, boxes)]
        scene = Scene(np.clip(canvas + .5, 0, 255).astype(np.uint8), "", kind, things, style, colour, size, rects)
        scene.caption = self.recaption(rng, scene)
        return scene

    def recaption(self, rng, scene):
        """Another wording for the scene; may leave out the default style and the white background."""
        say_style = scene.style != "3d" or rng.random() < .5
        say_colour = scene.colour != "white" or rng.random() < .5
        return self.caption(rng, scene.kind, scene.things, scene.size, scene.style if say_style else None,
                            scene.colour if say_colour else None)

    def name_of(self, rng, index):
        names = self.concepts[index].synonyms
        if len(names) == 1 or rng.random() < .5:
            return names[0]
        return names[1 + int(rng.integers(len(names) - 1))]

    def caption(self, rng, kind, things, size, style, colour):
        pick = lambda seq: seq[int(rng.integers(len(seq)))]
        style_word = pick(STYLE_WORDS[style]) if style else None
        colour_word = pick(COLOUR_WORDS.get(colour, (colour,))) if colour else None
        if kind == "single":
            name = self.name_of(rng, things[0])
            if size != "normal":
                name = pick(BIG_WORDS if size == "big" else SMALL_WORDS) + " " + name
            text = pick((article(name), article(name), name, "a picture of " + article(name),
                         "a drawing of " + article(name), "one " + name))
        elif kind in ("two", "three"):
            text = kind + " " + self.concepts[things[0]].plural
        else:
            a, b = (self.name_of(rng, t) for t in things)
            if kind == "beside":
                form = pick(("{A} on the left and {B} on the right", "{A} left of {B}", "{A} to the left of {B}",
                             "{B} right of {A}", "{B} to the right of {A}", "{A} and {B}", "{A} next to {B}",
                             "{A} and {B} side by side"))
            else:
                form = pick(("{A} above {B}", "{B} below {A}", "{A} over {B}", "{B} under {A}", "{A} on top of {B}"))
            text = form.format(A=article(a), B=article(b))
        if style_word and rng.random() < .2:
            text = style_word + ": " + text
            style_word = None
        tail = []
        if colour_word:
            tail.append(pick(("on a {} background", "on {}", "{} background", "with a {} background"))
                        .format(colour_word))
            tail[0] = tail[0].replace("a orange", "an orange")
        if style_word:
            tail.append(style_word if style_word.endswith(("style", "emoji", "icon", "render"))
                        or rng.random() < .5 else "in " + style_word + " style")
        if len(tail) == 2 and rng.random() < .3:
            tail.reverse()
        for part in tail:
            text += (" " if part.startswith(("on ", "with ", "in ")) and rng.random() < .6 else ", ") + part
        return text
