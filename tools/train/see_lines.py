# SPDX-License-Identifier: MIT
"""A pool of pictures of text for mini-see, made ahead and used many times: opacities of ink and where its characters are.

    python see_lines.py --pool T/see/pool

A line costs some 3 ms to draw and takes the tower 5 ms to learn from, so drawing must not be the trainer's: this fills the
pool on another core. Every time a line is used it is moved by some pixels and given other colours, sometimes noise, so that
patches cut it elsewhere: to the tower it is new. Pages are full of small lines, some sixty characters for the price of fifteen, for
the tower only. The pool keeps its newest --most thousand.
"""
import argparse
import os
import pickle
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

import see_look
import see_text
from see_model import CELL

CHUNK = 1000
KINDS = ("line", "table", "page")
PAGES = ((128, 96), (192, 64))           # what is cut out of a page
SHIFT = 16               # pixels at most


@dataclass
class Line:
    gray: np.ndarray       # uint8 [h, w], opacity of the ink
    marks: np.ndarray      # f32 [n, 3], x, y, class
    order: np.ndarray      # int16 [n], see Sheet
    rows: list             # of text: [(box, text)]; of a table: its rows of cells; of a page: None
    kind: str
    turn: float            # degrees


def drawn(rng, kind):
    rows, turn = None, 0.0
    if kind == "table":
        _, sheet, rows = see_text.table_sample(rng, plain=True)
    elif kind == "page":
        sheet = see_text.page_sample(rng, *(v + 2 * SHIFT for v in see_text.pick(rng, PAGES)))
    else:
        _, sheet, rows, turn = see_text.line_sample(rng, .6 * float(rng.integers(2)), plain=True, full=rng.random() < .5)
    gray = 255 - np.asarray(sheet.image.convert("L"))
    return Line(gray, np.array(sheet.marks, np.float32), np.array(sheet.order, np.int16), rows, kind, turn)


class Pool:
    """The lines of the newest chunks by size; look() takes in what is new."""

    def __init__(self, folder, rng, most=80):
        self.folder, self.rng, self.most, self.known, self.sizes, self.count = folder, rng, most * CHUNK, set(), {}, 0
        self.looked = 0.0

    def look(self):
        if time.monotonic() - self.looked < 20:
            return
        for path in sorted(self.folder.glob("*.lines")):
            if path.name in self.known:
                continue
            try:
                lines = pickle.loads(path.read_bytes())
            except FileNotFoundError:
                continue
            self.known.add(path.name)
            for line in lines:
                of = self.sizes.setdefault((*line.gray.shape, line.kind), [])
                if self.count < self.most:
                    of.append(line)
                    self.count += 1
                else:
                    of[int(self.rng.integers(len(of)))] = line
        self.looked = time.monotonic()

    def batch(self, size, kind):
        """Lines of one size."""
        shapes = sorted(s for s in self.sizes if s[2] == kind)
        share = np.array([len(self.sizes[s]) for s in shapes], float)
        of = self.sizes[shapes[int(self.rng.choice(len(shapes), p=share / share.sum()))]]
        return [of[int(i)] for i in self.rng.integers(0, len(of), size)]


def moved(rng, line):
    """The same line some pixels elsewhere, as far as its ink allows; of a page some part."""
    h, w = line.gray.shape
    if line.kind == "page":
        y, x = rng.integers(0, 2 * SHIFT + 1, 2)
        h, w = h - 2 * SHIFT, w - 2 * SHIFT
        marks = line.marks - np.array([x, y, 0], np.float32)
        inside = (marks[:, 0] >= 2) & (marks[:, 0] < w - 2) & (marks[:, 1] >= 5) & (marks[:, 1] < h - 4)
        return Line(line.gray[y:y + h, x:x + w], marks[inside], line.order[inside], None, line.kind, 0.0)
    rows, columns = np.flatnonzero(line.gray.max(1) > 40), np.flatnonzero(line.gray.max(0) > 40)
    if not len(rows):
        return line
    dy = int(rng.integers(max(-SHIFT, -rows[0]), min(SHIFT, h - 1 - rows[-1]) + 1))
    dx = int(rng.integers(max(-SHIFT, -columns[0]), min(SHIFT, w - 1 - columns[-1]) + 1))
    shift = np.array([dx, dy, dx, dy])
    rows = line.rows if line.kind == "table" else [(tuple(shift + box), text) for box, text in line.rows]
    marks = line.marks + np.array([dx, dy, 0], np.float32)
    return Line(np.roll(line.gray, (dy, dx), (0, 1)), marks, line.order, rows, line.kind, line.turn)


@lru_cache(maxsize=1)
def noises():
    return np.random.default_rng(0).standard_normal(2 ** 20).astype(np.float32)


def coloured(rng, line):
    """uint8 [h, w, 3]"""
    paper, ink = (np.array(c, np.float32) for c in see_text.colours(rng))
    shades = (paper + (ink - paper) * (np.arange(256, dtype=np.float32)[:, None] / 255) + .5).astype(np.uint8)
    pixels = shades[line.gray]
    if rng.random() < .2:
        at = int(rng.integers(len(noises()) - pixels.size))
        noise = noises()[at:at + pixels.size].reshape(pixels.shape) * np.float32(rng.uniform(0, 9))
        pixels = np.clip(pixels + noise, 0, 255).astype(np.uint8)
    return pixels


def samples(rng, lines, encode=None):
    """Samples for train_see.py. encode(line) -> Encoded; without it for the tower alone."""
    lines = [moved(rng, line) for line in lines]
    h, w = lines[0].gray.shape
    out = []
    for line in lines:
        signs, mine, begins, parts = see_text.signs_of(line.marks, line.order, w, h, CELL)
        if line.kind == "page":
            begins[:] = -1                 # there is no one order in which it is read
        out.append({"frames": coloured(rng, line)[None], "clip": False, "dense": None, "motion": None,
                    "chars": see_text.chars_of(line.marks, w, h), "signs": signs, "begins": begins, "parts": parts,
                    "look": (mine, np.zeros(len(mine), int)), "encoded": encode(line) if encode else None})
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pool", type=Path, required=True)
    parser.add_argument("--most", type=int, default=80, help="chunks of 1,000 lines that are kept")
    parser.add_argument("--kinds", default="line,line,table,page")
    args = parser.parse_args()
    args.pool.mkdir(parents=True, exist_ok=True)
    kinds = [k for k in args.kinds.split(",")]
    rng = np.random.default_rng(10 ** 6 + time.time_ns() % 10 ** 12)
    while True:
        have = sorted(args.pool.glob("*.lines"))
        if len(have) >= args.most:
            os.unlink(have[0])
        path = args.pool / ("%020d.part" % time.time_ns())
        path.write_bytes(pickle.dumps([drawn(rng, see_text.pick(rng, kinds)) for _ in range(CHUNK)], protocol=5))
        path.rename(path.with_suffix(".lines"))


if __name__ == "__main__":
    import see_lines       # lines are pickled by the module's name
    see_lines.main()
