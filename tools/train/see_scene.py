# SPDX-License-Identifier: MIT
"""Pictures of things for mini-see, and what can be asked about them.

`Gallery` paints a picture from mini-draw's art: the compositions of art.py, or one to five things placed freely
without overlap, with plain coloured shapes among them. `questions` turns what was painted into (task, question,
answer) triples. Answers are short and always worded the same way; questions come in several wordings. All chance
comes from the numpy Generator that is passed in.
"""
import json
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from art import COLOURS, STYLES, Painter, article, load_concepts

SIDE = 96                                  # of a square picture as the model sees it
SHAPES = ("circle", "square", "triangle")
SHAPE_COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "black", "white")
WORDS_OF_NUMBER = ("no", "one", "two", "three", "four", "five", "six")
MODERATION = {
    "weapon": ("sword", "water pistol", "bomb", "axe"),
    "alcohol": ("glass of wine", "cocktail", "mug of beer"),
    "tobacco": ("cigarette",),
    "gambling": ("die", "slot machine"),
    "medical": ("syringe", "pill"),
}
FLAGGED = .15            # how often a thing is one of these on purpose
MODERATION_NAMES = tuple(MODERATION) + ("none",)
UNKNOWN = (
    "Who painted this picture?", "What is the capital of France?", "How much does it cost?", "What time is it?",
    "Where was this picture taken?", "What is the name of the owner?", "Who is the president?", "What does it weigh?",
    "What will happen next?", "How old is it?", "What is 17 times 23?", "Which city is this?", "Who won the match?",
    "What is the weather tomorrow?", "Translate this into French.", "Write a poem about the sea.",
    "What is the meaning of life?", "Which year was this made?", "What is the phone number?", "Who is the author?",
    "How far away is the moon?", "What is the password?", "Is this legal advice?", "What is the name of this person?",
)
DO_NOT_KNOW = "I do not know."


@dataclass
class Thing:
    name: str            # the first name: label and answer
    plural: str
    names: tuple         # what questions may call it
    box: tuple           # x0, y0, x1, y1 in pixels
    index: int           # concept number; shapes come after the concepts
    colour: str = ""     # its one dominant colour, "" when it has none


@dataclass
class Picture:
    pixels: np.ndarray   # uint8 [height, width, 3]
    things: list
    colour: str          # of the background
    kind: str            # single two three beside above free
    size: str = "normal"


def colour_names(rgb):
    """Colour name index per pixel, rgb float [n, 3] in 0..255; order of COLOURS."""
    names = list(COLOURS)
    high, low = rgb.max(1), rgb.min(1)
    chroma = np.maximum(high - low, 1e-3)
    r, g, b = rgb.T
    hue = np.where(high == r, (g - b) / chroma % 6, np.where(high == g, (b - r) / chroma + 2, (r - g) / chroma + 4)) * 60
    full = chroma / np.maximum(high, 1)
    out = np.full(len(rgb), names.index("red"))
    for limit, name in ((12, "red"), (40, "orange"), (68, "yellow"), (165, "green"), (255, "blue"), (292, "purple"),
                        (340, "pink")):
        low_hue = {"red": -1, "orange": 12, "yellow": 40, "green": 68, "blue": 165, "purple": 255, "pink": 292}[name]
        out[(hue >= low_hue) & (hue < limit)] = names.index(name)
    out[(hue >= 165) & (hue < 230) & (full < .55) & (high > 180)] = names.index("light blue")
    out[((hue < 12) | (hue >= 340)) & (full < .5) & (high > 200)] = names.index("pink")
    out[(hue >= 0) & (hue < 40) & (high < 170)] = names.index("brown")
    out[full < .14] = names.index("grey")
    out[(full < .12) & (high > 215)] = names.index("white")
    out[high < 55] = names.index("black")
    return out


def dominant(sprite):
    """The colour that covers three fifths of the sprite (RGBa), or ""."""
    small = np.asarray(sprite.resize((32, 32), Image.BOX).convert("RGBA"), np.float32).reshape(-1, 4)
    small = small[small[:, 3] > 200][:, :3]
    if len(small) < 40:
        return ""
    share = np.bincount(colour_names(small), minlength=len(COLOURS)) / len(small)
    return list(COLOURS)[int(share.argmax())] if share.max() >= .6 else ""


def pick(rng, seq):
    return seq[int(rng.integers(len(seq)))]


class Gallery:
    """Paints pictures. `tiers` are the concepts in play; the numbering of concepts covers all of them always."""

    def __init__(self, sprites, tiers=(1,), moderation=True, styles=STYLES):
        concepts = load_concepts((1, 2, 3))
        chosen = {c.name for c in load_concepts(tiers)}
        if moderation:
            chosen |= {name for names in MODERATION.values() for name in names}
        self.painter = Painter(sprites, concepts, styles, shake=1.5)
        for key, sprite in self.painter.sprites.items():
            if max(sprite.size) > 132:
                scale = 132 / max(sprite.size)
                self.painter.sprites[key] = sprite.resize(
                    (max(1, round(sprite.width * scale)), max(1, round(sprite.height * scale))), Image.LANCZOS)
        self.concepts = concepts
        self.active = [c.index for c in concepts if c.name in chosen]
        self.colours = {key: dominant(s) for key, s in self.painter.sprites.items()}
        self.category = {}
        for category, names in MODERATION.items():
            for concept in concepts:
                if concept.name in names:
                    self.category[concept.index] = category
        self.flagged = sorted(self.category)

    def classes(self):
        return len(self.concepts) + len(SHAPES) + 1        # the last one is: nothing there

    def styles_of(self, index):
        return [s for s in self.painter.styles if (s, index) in self.painter.sprites]

    def thing(self, index, style, box):
        c = self.concepts[index]
        return Thing(c.name, c.plural, tuple(c.synonyms), tuple(box), index, self.colours[style, index])

    def any_index(self, rng):
        if rng.random() < FLAGGED:
            return pick(rng, self.flagged)
        return pick(rng, self.active)

    def composed(self, rng, kind=None, index=None, style=None):
        """A composition of mini-draw."""
        index = self.any_index(rng) if index is None else index
        kind = kind or pick(rng, ("single", "single", "two", "three", "beside", "beside", "above", "above"))
        style = style or pick(rng, self.styles_of(index))
        others = [i for i in (self.any_index(rng) for _ in range(4)) if i != index and style in self.styles_of(i)]
        if kind in ("beside", "above") and not others:
            kind = "single"
        size = None
        if kind == "single":
            size = pick(rng, ("normal", "normal", "normal", "big", "small"))
        scene = self.painter.sample(rng, kind=kind, index=index, style=style, size=size, other=others[0] if others else None)
        shrunk = np.asarray(Image.fromarray(scene.picture).resize((SIDE, SIDE), Image.BICUBIC))   # as limn would
        scale = SIDE / scene.picture.shape[0]
        things = [self.thing(i, style, [v * scale for v in b]) for i, b in zip(scene.things, scene.boxes)]
        return Picture(shrunk, things, scene.colour, kind, scene.size)

    def shape_patch(self, rng, shape, colour, side):
        """A plain shape as an RGBa sprite."""
        big = Image.new("RGBA", (4 * side, 4 * side), (0, 0, 0, 0))
        fill = tuple(int(np.clip(v + rng.integers(-12, 13), 0, 255)) for v in COLOURS[colour]) + (255,)
        draw = ImageDraw.Draw(big)
        end = 4 * side - 1
        if shape == "circle":
            draw.ellipse((0, 0, end, end), fill=fill)
        elif shape == "square":
            draw.rectangle((0, 0, end, end), fill=fill)
        else:
            draw.polygon(((2 * side, 0), (end, end), (0, end)), fill=fill)
        return big.resize((side, side), Image.LANCZOS).convert("RGBa")

    def places(self, rng, count, width, height):
        """Up to `count` squares (cx, cy, side) that do not overlap."""
        most = {1: 88, 2: 54, 3: 44, 4: 38, 5: 34}[count]
        found = []
        for _ in range(60):
            if len(found) == count:
                break
            side = float(rng.uniform(.55, 1) * most) if count > 1 else float(rng.uniform(28, most))
            cx, cy = float(rng.uniform(side / 2, width - side / 2)), float(rng.uniform(side / 2, height - side / 2))
            if all(max(abs(cx - x), abs(cy - y)) > (side + s) / 2 + 1 for x, y, s in found):
                found.append((cx, cy, side))
        return found

    def free(self, rng, count=None, width=None, height=None):
        """One to five things anywhere."""
        if width is None:
            width, height = pick(rng, ((SIDE, SIDE),) * 6 + ((128, SIDE), (SIDE, 128)))
        count = count or int(rng.integers(1, 6))
        colour = "white" if rng.random() < .25 else pick(rng, list(COLOURS))
        base = np.clip(np.array(COLOURS[colour], np.float32) + rng.uniform(-6, 6, 3), 0, 255).astype(np.float32)
        canvas = np.tile(base, (height, width, 1))
        things, pool = [], [self.any_index(rng) for _ in range(int(rng.integers(1, 4)))]
        for cx, cy, side in self.places(rng, count, width, height):
            if rng.random() < .14:
                shape = int(rng.integers(len(SHAPES)))
                tint = pick(rng, [c for c in SHAPE_COLOURS if c != colour])
                self.painter.sprites["shape", -1] = self.shape_patch(rng, SHAPES[shape], tint, max(8, round(side)))
                box = self.painter.paste(canvas, "shape", -1, (cx, cy, side))
                name = tint + " " + SHAPES[shape]
                things.append(Thing(name, name + "s", (name, SHAPES[shape]), box, len(self.concepts) + shape, tint))
                continue
            index = pick(rng, pool)
            style = pick(rng, self.styles_of(index))
            box = self.painter.paste(canvas, style, index, (cx, cy, side))
            things.append(self.thing(index, style, box))
        return Picture(np.clip(canvas + .5, 0, 255).astype(np.uint8), things, colour, "free")

    def picture(self, rng, simple=0.0):
        """`simple` = share of single things in a composition of mini-draw."""
        roll = rng.random()
        if roll < simple:
            picture = self.composed(rng, "single")
        elif roll < simple + (1 - simple) * .5:
            picture = self.composed(rng)
        else:
            roll = rng.random()
            picture = self.free(rng, count=1 if roll < .2 else 2 if roll < .65 else 3 if roll < .85 else None)
        picture.pixels = weather(rng, picture.pixels)
        return picture

    def cells(self, picture, step):
        """For every square of `step` pixels: the class of the thing that covers most of it (int16, -1 where too little
        is covered to say), its box in pixels (f32 [rows, columns, 4]), whether a thing's middle lies there, and the number
        of its colour in COLOURS (-1 where it has none)."""
        height, width = picture.pixels.shape[:2]
        top, left = np.arange(0, height, step)[:, None], np.arange(0, width, step)[None]
        out = np.full((len(top), left.shape[1]), self.classes() - 1, np.int16)
        best = np.zeros(out.shape)
        boxes = np.zeros(out.shape + (4,), np.float32)
        middles = np.zeros(out.shape, np.int16)
        tints = np.full(out.shape, -1, np.int16)
        names = list(COLOURS)
        for thing in picture.things:
            x0, y0, x1, y1 = thing.box
            w = np.maximum(0, np.minimum(x1, left + step) - np.maximum(x0, left))
            h = np.maximum(0, np.minimum(y1, top + step) - np.maximum(y0, top))
            cover = np.maximum(w * h / step ** 2, w * h / max(1, (x1 - x0) * (y1 - y0)))
            more = cover > best
            best[more] = cover[more]
            out[more] = np.where(cover[more] >= .35, thing.index, -1)
            boxes[more] = thing.box
            tints[more] = np.where(cover[more] >= .35, names.index(thing.colour) if thing.colour else -1, -1)
            middles[min(height - 1, int(y0 + y1) // 2) // step, min(width - 1, int(x0 + x1) // 2) // step] = 1
        return out, boxes, middles, tints


def weather(rng, pixels):
    """Light harm that keeps every answer true: noise, blur, contrast."""
    if rng.random() < .25:
        radius = float(rng.uniform(.3, 1.1))
        pixels = np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius)))
    if rng.random() < .35:
        gain, shift = float(rng.uniform(.92, 1.06)), float(rng.uniform(-6, 6))
        noise = rng.standard_normal(pixels.shape, np.float32) * float(rng.uniform(0, 5))
        pixels = np.clip(pixels * gain + shift + noise, 0, 255).astype(np.uint8)
    return pixels


# ---- wordings ----

NAME_ASKED = ("What is this?", "What is it?", "What is in the picture?", "What do you see?", "Name the thing in the picture.",
              "What is in this image?", "What does the picture show?", "What thing is this?", "what is this")
CAPTION_ASKED = ("Describe the picture.", "Describe this image.", "Caption this image.", "Write a caption for the picture.",
                 "Describe the image in one sentence.", "What can be seen in the picture? Describe it.", "Describe this picture.",
                 "Write one short sentence that describes the picture.")
LIST_ASKED = ("Name everything in the picture.", "What things are in the picture?", "Which things do you see?", "List the things.",
              "Tag the picture.", "List the objects in the image.")
GROUND_ASKED = ("What {c} is the background?", "What is the {c} of the background?", "Which {c} is the background?",
                "Background {c}?", "What is the background {c}?", "On what {c} is it?")
TINT_ASKED = ("What {c} is the {n}?", "Which {c} is the {n}?", "What is the {c} of the {n}?", "Name the {c} of the {n}.")
COUNT_ASKED = ("How many {p} are there?", "How many {p} do you see?", "How many {p} are in the picture?", "Count the {p}.",
               "How many {p}?")
TOTAL_ASKED = ("How many things are there?", "How many things are in the picture?", "How many objects do you see?",
               "Count the things.", "How many objects are in the image?")
THERE_ASKED = ("Is there {a} in the picture?", "Is there {n} in the picture?", "Is there {a}?", "Do you see {a}?")
PLACE_ASKED = ("Where is the {n}?", "In which part of the picture is the {n}?", "Where in the picture is the {n}?")
BOX_ASKED = ("Locate every {n} and report bbox coordinates in JSON format.", "Locate the {n}, output its bbox coordinates using JSON format.",
             "Detect all {p} in the image and return their locations in the form of coordinates as JSON.",
             "Find the {n} and give its bounding box as JSON.", "Give the box of the {n}.",
             "Locate every instance that belongs to the following categories: {n}. Report bbox coordinates in JSON format.",
             "Where is the {n}? Answer with bbox_2d in JSON.")
ALL_BOXES_ASKED = ("Locate every thing in the picture and report bbox coordinates in JSON format.", "Detect all objects.",
                   "Locate all objects in the image. Report bbox coordinates in JSON format.",
                   "Find every object and give bounding boxes with labels as JSON.")
POINT_ASKED = ("Point to the {n}.", "Point to every {n}, report the points in JSON format.", "Locate the {n} as a point in JSON format.",
               "Give the point_2d of the {n} as JSON.")
CLASS_ASKED = ("Classify the picture as one of: {l}.", "Which of these is it: {l}?", "Choose the label that fits the image: {l}. Answer with the label only.",
               "Classify this image. Labels: {l}. Answer with one label.", "Labels: {l}. Which one fits?")
MODERATE_ASKED = ("Moderate the picture. Categories: {l}. Answer in JSON with category and bbox_2d.", "Moderate this image. Categories: {l}.",
                  "Check the picture against these categories: {l}. Report category and bbox_2d in JSON format.")


def an(name):
    return article(name)


def sentence(text):
    return text[0].upper() + text[1:] + "."


def scaled(box, shape, step=1):
    """Pixels to 0..1000, as Qwen3-VL writes boxes, in multiples of `step`."""
    h, w = shape[:2]
    return [min(1000, max(0, step * round(v * 1000 / s / step))) for v, s in zip(box, (w, h, w, h))]


def place_of(thing, shape):
    """Left, right, top, bottom or middle, and None where it is arguable."""
    x = (thing.box[0] + thing.box[2]) / 2 / shape[1]
    y = (thing.box[1] + thing.box[3]) / 2 / shape[0]
    near = lambda v: -1 if v < .4 else 1 if v > .6 else 0
    sure = all(abs(v - edge) > .03 for v in (x, y) for edge in (.4, .6))
    if not sure:
        return None
    across, down = ("left", "", "right")[near(x) + 1], ("top", "", "bottom")[near(y) + 1]
    if across and down:
        return "At the %s %s." % (down, across)
    if across:
        return "On the %s." % across
    return "At the %s." % down if down else "In the middle."


def grouped(things):
    """[(thing, count)] in order of first appearance."""
    seen = {}
    for t in things:
        seen.setdefault(t.name, [t, 0])[1] += 1
    return list(seen.values())


def phrase(things):
    parts = [an(t.name) if n == 1 else WORDS_OF_NUMBER[n] + " " + t.plural for t, n in grouped(things)]
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def caption_of(picture):
    things = picture.things
    tail = " on %s background" % an(picture.colour)
    if picture.kind == "beside":
        body = "%s on the left and %s on the right" % (an(things[0].name), an(things[1].name))
        tail = "," + tail
    elif picture.kind == "above":
        body = "%s above %s" % (an(things[0].name), an(things[1].name))
        tail = "," + tail
    elif picture.kind == "single" and picture.size != "normal":
        body = "a %s %s" % (picture.size, things[0].name)
    else:
        body = phrase(things)
    return sentence(body + tail)


def boxes_json(things, shape, step):
    rows = [{"bbox_2d": scaled(t.box, shape, step), "label": t.name} for t in things]
    return json.dumps(rows)


def reading_order(things):
    return sorted(things, key=lambda t: (t.box[1] // 18, t.box[0]))


def absent(rng, gallery, picture):
    present = {t.index for t in picture.things}
    while True:
        index = gallery.any_index(rng)
        if index not in present:
            return gallery.concepts[index]


def called(rng, thing):
    return thing.names[0] if rng.random() < .6 else pick(rng, thing.names)


def spelled(rng):
    return "colour" if rng.random() < .6 else "color"


def questions(rng, gallery, picture, step=1, both=False):
    """Everything that can be asked about the picture: {task: [(question, answer)]}, coordinates in multiples of `step`.
    both: boxes of one kind and those of everything, otherwise one of the two."""
    shape, things = picture.pixels.shape, picture.things
    groups = grouped(things)
    unique = [t for t, n in groups if n == 1]
    one = pick(rng, things)
    many = {t.name: n for t, n in groups}
    plural_count = many[one.name]
    other = absent(rng, gallery, picture)
    out = {}
    out["name"] = [(pick(rng, NAME_ASKED), sentence(phrase(things)))]
    out["list"] = [(pick(rng, LIST_ASKED), ", ".join(t.name for t, _ in groups))]
    out["caption"] = [(pick(rng, CAPTION_ASKED), caption_of(picture))]
    out["ground"] = [(pick(rng, GROUND_ASKED).format(c=spelled(rng)), sentence(picture.colour))]
    tinted = [t for t in unique if t.colour]
    if tinted:
        t = pick(rng, tinted)
        name = t.names[-1] if t.index >= len(gallery.concepts) else called(rng, t)
        if sum(u.index == t.index for u in things) == 1:
            out["tint"] = [(pick(rng, TINT_ASKED).format(c=spelled(rng), n=name), sentence(t.colour))]
    asked = [(pick(rng, COUNT_ASKED).format(p=one.plural), str(plural_count)), (pick(rng, TOTAL_ASKED), str(len(things)))]
    if rng.random() < .15:
        asked = [(pick(rng, COUNT_ASKED).format(p=other.plural), "0")]
    out["count"] = asked
    out["yesno"] = yes_or_no(rng, picture, one, other)
    out["place"] = places_asked(rng, picture, unique)
    if picture.kind == "single" and picture.size != "normal":
        out["size"] = [("Is the %s big or small?" % called(rng, one), sentence(picture.size))]
    elif len(unique) >= 2:
        a, b = unique[0], unique[1]
        area = [(t.box[2] - t.box[0]) * (t.box[3] - t.box[1]) for t in (a, b)]
        if max(area) > 1.6 * min(area):
            word = pick(rng, ("bigger", "smaller", "larger"))
            first, second = (a, b) if rng.random() < .5 else (b, a)
            winner = (a if area[0] > area[1] else b) if word != "smaller" else (a if area[0] < area[1] else b)
            out["size"] = [("Which is %s, the %s or the %s?" % (word, first.name, second.name), "The %s." % winner.name)]
    same = [t for t in reading_order(things) if t.name == one.name]
    ask = lambda seq: pick(rng, seq).format(n=one.name if rng.random() < .8 else called(rng, one), p=one.plural)
    out["box"] = [(ask(BOX_ASKED), boxes_json(same, shape, step)), (pick(rng, ALL_BOXES_ASKED), boxes_json(reading_order(things), shape, step))]
    if not both:
        out["box"] = [out["box"][0 if rng.random() < .7 else 1]]
    if rng.random() < .04:
        out["box"] = [(pick(rng, BOX_ASKED).format(n=other.name, p=other.plural), "[]")]
    centres = [scaled(t.box, shape, step) for t in same]
    points = [{"point_2d": [(b[0] + b[2]) // 2, (b[1] + b[3]) // 2], "label": one.name} for b in centres]
    out["point"] = [(ask(POINT_ASKED), json.dumps(points))]
    if len(groups) == 1 and one.index < len(gallery.concepts):
        labels = {one.name} | {absent(rng, gallery, picture).name for _ in range(int(rng.integers(2, 6)))}
        labels = [str(v) for v in rng.permutation(sorted(labels))]
        out["classify"] = [(pick(rng, CLASS_ASKED).format(l=", ".join(labels)), one.name)]
    out["moderate"] = [moderation(rng, gallery, picture, step)]
    out["unknown"] = [(pick(rng, UNKNOWN), DO_NOT_KNOW)]
    return out


def yes_or_no(rng, picture, one, other):
    """A thing that is there, one that is not, and seldom the background."""
    name = called(rng, one)
    out = [(pick(rng, THERE_ASKED + ("Does the picture show {a}?",)).format(a=an(name), n=name), "Yes."),
           (pick(rng, THERE_ASKED + ("Is this {a}?",)).format(a=an(other.name), n=other.name), "No.")]
    if rng.random() < .2:
        wrong = pick(rng, [c for c in COLOURS if c != picture.colour])
        out[int(rng.integers(2))] = pick(rng, [("Is the background %s?" % picture.colour, "Yes."), ("Is the background %s?" % wrong, "No.")])
    return out


def places_asked(rng, picture, unique):
    out = []
    shape = picture.pixels.shape
    sure = [(t, place_of(t, shape)) for t in unique]
    sure = [(t, p) for t, p in sure if p]
    if sure:
        t, where = pick(rng, sure)
        out.append((pick(rng, PLACE_ASKED).format(n=called(rng, t)), where))
    if len(unique) == 2 and len(picture.things) == 2:
        a, b = unique
        dx = (b.box[0] + b.box[2] - a.box[0] - a.box[2]) / 2
        dy = (b.box[1] + b.box[3] - a.box[1] - a.box[3]) / 2
        if abs(dx) > 2 * abs(dy) and abs(dx) > 20:
            first, second = (a, b) if dx > 0 else (b, a)
            out += [("What is on the left?", sentence(an(first.name))), ("What is on the right?", sentence(an(second.name))),
                    ("Is the %s left or right of the %s?" % (first.name, second.name), "Left."),
                    ("Is the %s left or right of the %s?" % (second.name, first.name), "Right."),
                    ("What is to the right of the %s?" % first.name, sentence(an(second.name))),
                    ("What is to the left of the %s?" % second.name, sentence(an(first.name)))]
        elif abs(dy) > 2 * abs(dx) and abs(dy) > 20:
            first, second = (a, b) if dy > 0 else (b, a)
            out += [("What is at the top?", sentence(an(first.name))), ("What is at the bottom?", sentence(an(second.name))),
                    ("Is the %s above or below the %s?" % (first.name, second.name), "Above."),
                    ("Is the %s above or below the %s?" % (second.name, first.name), "Below."),
                    ("What is below the %s?" % first.name, sentence(an(second.name))),
                    ("What is above the %s?" % second.name, sentence(an(first.name)))]
    return [out[int(i)] for i in rng.permutation(len(out))[:2]]


def moderation(rng, gallery, picture, step):
    """The answer names the category of the first flagged thing in reading order and where it is."""
    labels = [str(v) for v in rng.permutation(MODERATION_NAMES[:-1])] + ["none"]
    labels = labels if rng.random() < .4 else list(MODERATION_NAMES)
    asked = pick(rng, MODERATE_ASKED).format(l=", ".join(labels[:-1] if rng.random() < .4 else labels))
    flagged = [t for t in reading_order(picture.things) if t.index in gallery.category]
    if not flagged:
        return asked, '{"category": "none"}'
    first = flagged[0]
    return asked, json.dumps({"category": gallery.category[first.index], "bbox_2d": scaled(first.box, picture.pixels.shape, step)})
