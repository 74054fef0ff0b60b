# SPDX-License-Identifier: MIT
"""Make mini-see's training samples ahead of the trainer: shards of fresh pictures with tokenised conversations.

    python see_shards.py --sprites D/sprites --tokenizer T/see/tokenizer --out T/see/shards --clock T/see/run/clock

Keeps --ahead shards waiting and sleeps meanwhile; the trainer deletes what it has used, and makes samples itself (about
5 ms each) while none waits. What is asked depends on the
minutes trained so far, which the trainer writes into --clock: see STAGES.
"""
import argparse
import os
import pickle
import time
from pathlib import Path

import numpy as np

import see_clip
import see_look
import see_scene
import see_text
from see_model import CELL, PATCH, Encoder, load_tokenizer

# From which minute; shares of the kinds; share of single things; ease of the lines; concept tiers; styles (one that is
# named twice comes twice as often); branches, 0 while the tower learns alone; share of the pictures without words, for the tower only.
ALL = see_scene.STYLES
STAGES = (
    (0, {"scene": .88, "line": .12}, .7, .8, (1,), ("3d",), 0, 0),
    (24, {"scene": .93, "line": .05, "talk": .02}, .5, .8, (1,), ("3d",), 3, 0),
    (44, {"scene": .93, "line": .03, "clip": .03, "talk": .01}, .45, .7, (1,), ("3d",), 3, 0),
    (62, {"scene": .89, "line": .03, "clip": .06, "table": .01, "talk": .01}, .4, .7, (1,), ("3d", "3d", "flat", "noto"), 3, 0),
    (98, {"scene": .88, "line": .12}, .1, 1.0, (1,), ("3d", "3d", "flat", "noto"), 0, 0),
    (120, {"scene": .9, "clip": .1}, .25, 1.0, (1,), ("3d", "flat", "noto"), 7, 0),
    (301, {"scene": .62, "clip": .2, "line": .18}, .15, .6, (1,), ("3d", "flat", "noto"), 5, .9),
    (317, {"scene": .74, "clip": .26}, .15, 1.0, (1,), ("3d", "flat", "noto"), 5, .3),
    (327, {"scene": .88, "clip": .12}, .2, 1.0, (1,), ("3d", "flat", "noto"), 6, .1),
    (346.5, {"scene": .14, "page": .6, "line": .2, "table": .06}, .15, 1.0, (1,), ("3d", "flat", "noto"), 0, 0),
    (381, {"scene": .11, "clip": .03, "page": .54, "line": .27, "table": .05}, .15, 1.0, (1,), ("3d", "flat", "noto"), 5, .4),
    (406, {"scene": .13, "clip": .03, "page": .4, "line": .4, "table": .04}, .15, 1.0, (1,), ("3d", "flat", "noto"), 5, .3),
    (418, {"scene": .36, "clip": .07, "page": .13, "line": .36, "table": .08}, .15, 1.0, (1,), ("3d", "flat", "noto"), 6, .1),
    (432, {"scene": .33, "clip": .06, "page": .1, "line": .38, "table": .13}, .15, 1.0, (1,), ("3d", "flat", "noto"), 6, .1),
    (438.4, {"scene": .5, "clip": .24, "page": .03, "line": .2, "table": .03}, .15, 1.0, (1,), ("3d", "flat", "noto"), 6, .1),
    (441.4, {"scene": .45, "clip": .12, "page": .06, "line": .32, "table": .05}, .15, 1.0, (1,), ("3d", "flat", "noto"), 6, .1),
    (460, {"scene": .22, "clip": .1, "page": .06, "line": .4, "table": .22}, .15, .3, (1,), ("3d", "flat", "noto"), 6, .1),
    (508, {"scene": .45, "clip": .2, "page": .01, "line": .21, "table": .13}, .08, 0.0, (1,), ("3d", "flat", "noto"), 6, .1),
    (542, {"scene": .43, "clip": .2, "line": .14, "table": .23}, .08, 0.0, (1,), ("3d", "flat", "noto"), 6, .05),
)
STEP = 20          # coordinates are taught in multiples of this: two digits to learn instead of three
LATE = 44          # from this minute on the second weight holds
# How often each question is chosen, early and late.
WEIGHTS = {
    "name": (4, 2), "list": (.5, .2), "caption": (3, 1), "ground": (2, .4), "tint": (1, 2), "count": (1.5, 5), "yesno": (2, 2.5),
    "place": (1, 5), "size": (.5, .7), "box": (.5, 9), "point": (.1, 2.5), "classify": (.5, .4), "moderate": (.2, 1.2),
    "unknown": (.2, .6), "ocr": (3, 3), "spot": (.2, .3), "table_markdown": (1, 1), "table_html": (1, 1), "table_csv": (1, 1),
    "table_json": (1, 1), "clip_move": (2, 5), "clip_when": (2, 5), "clip_tint": (1, 1), "clip_span": (1, 1), "clip_what": (2, 3), "talk": (1, 1),
}
TASKS = tuple(WEIGHTS)
# Talk without a picture.
TALK = (
    (("Hello.", "Hi!", "Hello", "hi", "Good morning.", "Hey there."), "Hello! Show me a picture and ask about it."),
    (("What can you do?", "Help", "Who are you?", "What are you?"),
     "I am mini-see, a small model. I name things, colours, counts, places and boxes, and I read short text."),
    (("Thank you.", "Thanks!", "Thanks"), "You are welcome."),
    (see_scene.NAME_ASKED + see_scene.CAPTION_ASKED + see_text.READ_ASKED, "I see no picture."),
    (see_scene.UNKNOWN, see_scene.DO_NOT_KNOW),
)
LINES = ("line", "clean", "block", "small")       # kinds of see_text.line_sample
SYSTEMS = ("You are a helpful assistant.", "Answer questions about pictures.")


class Maker:
    """Fresh samples: dicts with frames, conversation, targets of the helpers."""

    def __init__(self, sprites, tokenizer, seed):
        self.rng = np.random.default_rng(seed)
        self.encoder = Encoder(load_tokenizer(tokenizer))
        self.galleries = {}
        self.found = None
        self.sprites = sprites

    def gallery(self, tiers, styles):
        if (tiers, styles) not in self.galleries:
            self.galleries[tiers, styles] = see_scene.Gallery(self.sprites, tiers, styles=styles)
        return self.galleries[tiers, styles]

    def sample(self, stage, late, kind=None, only=None, step=1):
        """`only`: a task; None when this picture cannot be asked it. Coordinates of answers are multiples of `step`."""
        rng = self.rng
        _, kinds, simple, ease, tiers, styles, most, _ = stage
        kind = kind or str(rng.choice(list(kinds), p=np.array(list(kinds.values())) / sum(kinds.values())))
        times = dense = chars = signs = begins = parts = motion = look = told = rows = None
        if kind == "talk":
            pairs = [see_scene.pick(rng, TALK) for _ in range(4)]
            turns = [(TASKS.index("talk"), see_scene.pick(rng, asked), answer, False) for asked, answer in pairs]
            conversation = [[turns[0]], [turns[1]], turns[2:]]
            nothing = dict.fromkeys(("frames", "dense", "chars", "signs", "begins", "parts", "motion", "look", "times"))
            return dict(nothing, clip=False, encoded=self.encoder.encode(0, 0, None, conversation), conversation=conversation, first="picture")
        if kind == "scene":
            gallery = self.gallery(tiers, styles)
            picture = gallery.picture(rng, simple)
            pixels = picture.pixels
            dense = gallery.cells(picture, CELL) + gallery.cells(picture, PATCH)
            asked = see_scene.questions(rng, gallery, picture, step, both=only is None) if most else {}
            look = see_look.owners(picture.things, *dense[0].shape, CELL)
            told = lambda task, question, answer: see_look.looks(
                self.finder(gallery), task, picture.things, pixels.shape, step, question, answer)
        elif kind in LINES:
            pixels, sheet, rows, turn = see_text.line_sample(rng, ease, form=kind)
            asked = see_text.line_questions(rng, pixels.shape, rows, turn, step)
        elif kind == "table":
            pixels, sheet, rows = see_text.table_sample(rng)
            asked = see_text.table_questions(rng, rows)
        else:
            pixels, times, asked, (name, pairs, when), shown = see_clip.clip_sample(rng, self.gallery(tiers, styles))
            look = see_look.clip_owners(pairs, when, see_clip.SIDE, CELL), np.zeros(4, int)
            motion = see_look.clip_cells(look[0][0], pairs, *shown, self.gallery(tiers, styles).classes() - 1)
            told = lambda task, question, answer: see_look.clip_looks(task, question, answer, name)
        if rows is not None:
            chars = sheet.chars()
            signs, mine, begins, parts = sheet.signs(CELL)
            look = mine, np.zeros(len(mine), int)
        if only:
            asked = {t: pairs for t, pairs in asked.items() if t == only and pairs}
            if not asked:
                return None
        frames = pixels if kind == "clip" else pixels[None]
        if not most:
            return {"frames": frames, "clip": kind == "clip", "encoded": None, "dense": dense, "chars": chars, "signs": signs,
                    "begins": begins, "parts": parts, "motion": motion, "look": None}
        if rows is not None:
            return dict(self.reads(frames.shape[1:3], rows, asked), frames=frames, chars=chars, signs=signs, begins=begins, parts=parts,
                        look=look)
        conversation = self.choose(asked, late, most)
        size = (frames.shape[1] // CELL, frames.shape[2] // CELL)
        first = "text" if len(conversation) == 1 and len(conversation[0]) == 1 and rng.random() < .1 else "picture"
        system = see_scene.pick(rng, SYSTEMS) if rng.random() < .04 else None
        if told:
            conversation = [[turn + (told(TASKS[turn[0]], turn[1], turn[2]),) for turn in turns] for turns in conversation]
        encoded = self.encoder.encode(*size, times, conversation, first, system)
        return {"frames": frames, "clip": kind == "clip", "encoded": encoded, "dense": dense, "chars": chars, "signs": signs,
                "begins": begins, "parts": parts, "motion": motion, "look": look, "conversation": conversation, "times": times,
                "first": first}

    def reads(self, shape, rows, asked):
        """One question about a picture of text, answered character by character but for markup."""
        rng = self.rng
        weight = np.array([WEIGHTS[t][1] for t in asked])
        task = list(asked)[int(rng.choice(len(asked), p=weight / weight.sum()))]
        question, answer = asked[task][0]
        if task == "ocr":
            spelled, told = True, see_look.sign_looks(answer)
        else:
            spelled = see_text.spot_spans(rows, answer) if task == "spot" else see_text.table_spans(rows, task[6:])
            told = see_look.span_looks(spelled)
        conversation = [[(TASKS.index(task), question, answer, spelled, told)]]
        first = "text" if rng.random() < .1 else "picture"
        encoded = self.encoder.encode(shape[0] // CELL, shape[1] // CELL, None, conversation, first)
        return {"clip": False, "encoded": encoded, "dense": None, "motion": None, "times": None, "conversation": conversation,
                "first": first}

    def fresh(self, minutes):
        """A sample for training as it is asked after so many minutes."""
        stage = stage_at(minutes)
        kinds = {k: v for k, v in stage[1].items() if k in ("scene", "clip", "talk")}       # text comes from see_lines.py
        stage = stage[:1] + (kinds,) + stage[2:]
        if self.rng.random() < stage[7]:
            stage = stage[:6] + (0, 1)
        s = self.sample(stage, int(minutes >= LATE), step=STEP)
        return {k: s[k] for k in ("frames", "clip", "encoded", "dense", "chars", "signs", "begins", "parts", "motion", "look")}

    def finder(self, gallery):
        self.found = self.found or see_look.Finder(gallery.concepts)
        return self.found

    def choose(self, asked, late, most):
        """Branches of one turn, sometimes one branch of two. A task that has several pairs may come several times."""
        rng = self.rng
        names = [t for t, pairs in asked.items() for _ in pairs]
        pairs = [pair for of in asked.values() for pair in of]
        weight = np.array([WEIGHTS[t][late] / len(asked[t]) ** .5 for t in names])
        if "moderate" in names and "none" not in asked["moderate"][0][1]:
            weight[names.index("moderate")] *= 4
        weight[[i for i, pair in enumerate(pairs) if pair[1].count("bbox_2d") > 1]] *= 2     # a second box is the hard one
        count = min(len(names), 1 if rng.random() < .1 else most)
        turns = []
        for i in rng.choice(len(names), count, replace=False, p=weight / weight.sum()):
            t = names[int(i)]
            turns.append((TASKS.index(t), *pairs[int(i)], False))
        branches = [[t] for t in turns]
        if len(branches) >= 3 and rng.random() < .2:
            branches = [turns[:2]] + branches[2:]
        return branches


def stage_at(minutes):
    return [s for s in STAGES if s[0] <= minutes][-1]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sprites", required=True)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clock", type=Path, required=True)
    parser.add_argument("--ahead", type=int, default=8)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--seed", type=int, default=None, help="default: from the clock; never one of eval_see.py")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    seed = args.seed if args.seed is not None else 10 ** 6 + time.time_ns() % 10 ** 12
    maker = Maker(args.sprites, args.tokenizer, seed)
    while True:
        if len(list(args.out.glob("*.shard"))) >= args.ahead:
            time.sleep(3)
            continue
        minutes = float(args.clock.read_text()) if args.clock.exists() else 0.0
        samples = [maker.fresh(minutes) for _ in range(args.size)]
        name = args.out / ("%020d.shard" % time.time_ns())
        with open(name.with_suffix(".part"), "wb") as f:
            pickle.dump(samples, f, protocol=5)
        os.replace(name.with_suffix(".part"), name)


if __name__ == "__main__":
    main()
