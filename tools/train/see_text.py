# SPDX-License-Identifier: MIT
"""Pictures of text for mini-see: lines and short blocks, and small tables.

Fonts are those of Debian's fonts-dejavu, fonts-liberation, fonts-freefont-ttf, fonts-lato and fonts-open-sans; words come
from Debian's wamerican (public domain) and from the things of the miniatures' world.
"""
import json
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from see_scene import scaled

CHARS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.,:;!?-+/%&()'\"#@=*$ "
CHAR_INDEX = {c: i + 1 for i, c in enumerate(CHARS)}     # 0: no character stands there
ORDINALS = 10                                            # characters of a cell that are asked for, in reading order
SLOTS = 4                                                # per patch of 16 pixels, left to right
FONT_FOLDERS = ("dejavu", "liberation", "freefont", "lato", "open-sans")
UNFIT = ("Math", "ExtraLight", "Thin", "Hairline", "Black", "Light")
READ_ASKED = ("Read the text.", "What does the text say?", "Read all the text in the image.", "Read all text in the image.",
              "What is written here?", "Transcribe the text.", "Output only the text content of the image.",
              "Please output only the text content from the image without any additional descriptions or formatting.", "OCR")
SPOT_ASKED = ("Spot all the text in the image with line-level, and output in JSON format.",
              "Spot the text lines and give bbox_2d and text_content as JSON.")
TABLE_ASKED = {
    "markdown": ("Convert the table to Markdown.", "Write the table as Markdown.", "Output the table in Markdown format.", "qwenvl markdown"),
    "html": ("Convert the table to HTML.", "Write the table as HTML.", "Output the table in HTML format.", "qwenvl html"),
    "csv": ("Convert the table to CSV.", "Write the table as CSV.", "Output the table in CSV format."),
    "json": ("Convert the table to JSON.", "Write the table as JSON.", "Output the table in JSON format."),
}
PAPERS = ((255, 255, 255),) * 6 + ((250, 246, 232), (236, 240, 248), (228, 228, 226), (255, 246, 180), (214, 236, 214))
SHEETS = ((192, 64), (192, 64), (288, 32), (384, 32), (96, 96), (128, 96))
# Heights of letters in pixels of the picture as the tower sees it. A token is 32 pixels square: of the small ones four or five
# stand in it, of which a tower this size confuses the order (34% of the characters of 12 to 14 pixels were wrong when it was 6% from 18 on).
LETTERS, LARGE, SMALL = (16, 28), (20, 28), (12, 15)
CELL_PITCH = 30
TABLES = {2: ((96, 96), (128, 96), (96, 128)), 3: ((128, 96),)}      # sheets by columns; a row of cells takes some 30 pixels
INKS = ((0, 0, 0),) * 5 + ((30, 34, 60), (90, 20, 24), (20, 60, 40), (60, 60, 64))


def pick(rng, seq):
    return seq[int(rng.integers(len(seq)))]


@lru_cache(maxsize=1)
def font_paths():
    paths = []
    for folder in FONT_FOLDERS:
        for path in sorted(Path("/usr/share/fonts/truetype", folder).glob("*.ttf")):
            if not any(word in path.stem for word in UNFIT):
                paths.append(str(path))
    if len(paths) < 10:
        raise SystemExit("see_text: fonts are missing, install fonts-liberation fonts-freefont-ttf fonts-lato fonts-open-sans")
    return paths


@lru_cache(maxsize=4096)
def font_of(path, size):
    return ImageFont.truetype(path, size)


@lru_cache(maxsize=200000)
def advance(font, c):
    return font.getlength(c)


def edges_of(font, text):
    """Where every character begins and the last one ends, kerning spread evenly."""
    edges = np.cumsum([0.0] + [advance(font, c) for c in text])
    return edges * (font.getlength(text) / max(1e-6, edges[-1]))


@lru_cache(maxsize=1)
def word_list():
    lines = Path("/usr/share/dict/words").read_text(encoding="utf-8").split()
    words = [w for w in lines if w.isascii() and w.isalpha() and 2 <= len(w) <= 9]
    return words


def word(rng):
    w = pick(rng, word_list())
    roll = rng.random()
    return w.upper() if roll < .2 else w.capitalize() if roll < .4 else w.lower()


def number(rng):
    roll = rng.random()
    if roll < .35:
        return str(int(rng.integers(0, 10 ** int(rng.integers(1, 6)))))
    if roll < .5:
        return "%.2f" % rng.uniform(0, 10 ** int(rng.integers(1, 4)))
    if roll < .6:
        return "$%.2f" % rng.uniform(0, 500)
    if roll < .7:
        return "%d%%" % rng.integers(0, 101)
    if roll < .8:
        return "%02d:%02d" % (rng.integers(24), rng.integers(60))
    if roll < .9:
        return "%d-%02d-%02d" % (rng.integers(1950, 2040), rng.integers(1, 13), rng.integers(1, 29))
    return "".join(pick(rng, "ABCDEFGHJKLMNPQRSTUVWXYZ0123456789") for _ in range(int(rng.integers(3, 8))))


def some_text(rng, length, full=False):
    """Words and numbers of about `length` characters; often one word only unless full."""
    parts = []
    while sum(map(len, parts)) + len(parts) < length:
        roll = rng.random()
        part = number(rng) if roll < .25 else word(rng)
        if rng.random() < .12:
            part += pick(rng, ".,:;!?")
        if rng.random() < .04:
            part = "(" + part + ")"
        parts.append(part)
        if len(parts) == 1 and not full and rng.random() < .3:
            break
    text = " ".join(parts)
    return text if len(text) <= length + 6 else text[:length].strip()


def colours(rng):
    """Of paper and ink, sometimes light on dark."""
    paper, ink = pick(rng, PAPERS), pick(rng, INKS)
    return ((25, 28, 40), (240, 240, 236)) if rng.random() < .12 else (paper, ink)


class Sheet:
    """A sheet of paper on which text is written; keeps the centre of every character."""

    def __init__(self, rng, width, height, plain=False, dark=False):
        paper, ink = (PAPERS[0], INKS[0]) if plain else (pick(rng, PAPERS), pick(rng, INKS)) if dark else colours(rng)
        self.width, self.height, self.ink = width, height, ink
        self.image = Image.new("RGB", (width, height), paper)
        self.paper = paper
        self.draw = ImageDraw.Draw(self.image)
        self.marks = []                   # (x, y, class) in the order of writing, spaces too
        self.order = []                   # of every mark, which character of the answer it is: ends of lines count

    def write(self, x, y, text, font):
        """Draws with the left top of the line box at x, y; returns its rectangle."""
        ascent, descent = font.getmetrics()
        self.draw.text((x, y), text, font=font, fill=self.ink)
        top, bottom = y + ascent * .25, y + ascent
        edges = edges_of(font, text)
        begin = self.order[-1] + 2 if self.order else 0
        self.order += range(begin, begin + len(text))
        for i, c in enumerate(text):
            self.marks.append((x + (edges[i] + edges[i + 1]) / 2, (top + bottom) / 2, CHAR_INDEX.get(c, 0)))
        return (x, y, x + edges[-1], y + ascent + descent)

    def finish(self, rng, turn=0.0, noise=0.0):
        if turn:
            self.image = self.image.rotate(turn, Image.BICUBIC, fillcolor=self.paper)
            a, cx, cy = np.deg2rad(turn), self.width / 2, self.height / 2
            self.marks = [((x - cx) * np.cos(a) + (y - cy) * np.sin(a) + cx, -(x - cx) * np.sin(a) + (y - cy) * np.cos(a) + cy, k)
                          for x, y, k in self.marks]
        pixels = np.asarray(self.image)
        if noise:
            pixels = np.clip(pixels + rng.standard_normal(pixels.shape, np.float32) * noise, 0, 255).astype(np.uint8)
        return pixels

    def chars(self):
        return chars_of(np.array(self.marks).reshape(-1, 3), self.width, self.height)

    def signs(self, cell):
        return signs_of(np.array(self.marks).reshape(-1, 3), np.array(self.order), self.width, self.height, cell)


def chars_of(marks, width, height):
    """int16 [height / 16, width / 16, SLOTS]: the character whose centre falls there, 0 for none."""
    out = np.zeros((height // 16, width // 16, SLOTS), np.int16)
    x, y, k = np.floor(marks).astype(int).T
    fit = (k > 0) & (x >= 0) & (x < width) & (y >= 0) & (y < height)
    x, y = x[fit], y[fit]
    out[y // 16, x // 16, x % 16 * SLOTS // 16] = k[fit]
    return out


def signs_of(marks, order, width, height, cell):
    """(int16 [cells, ORDINALS] the characters of every cell as they are read, bool [marks, cells] whose centre lies where,
    int16 [cells, 2] which character of the answer is the cell's first one, and the first one of its last line; -1 for none,
    int16 [cells, 4, ORDINALS] those of the signs that stand in each patch of the cell)"""
    columns, rows = width // cell, height // cell
    x, y, k = np.floor(marks).astype(int).T
    at = np.clip(y // cell, 0, rows - 1) * columns + np.clip(x // cell, 0, columns - 1)
    quarter = np.clip(y % cell * 2 // cell, 0, 1) * 2 + np.clip(x % cell * 2 // cell, 0, 1)
    signs, mine = np.zeros((rows * columns, ORDINALS), np.int16), np.zeros((len(marks), rows * columns), bool)
    parts = np.zeros((rows * columns, 4, ORDINALS), np.int16)
    begins, last = np.full((rows * columns, 2), -1, np.int16), {}
    mine[np.arange(len(marks)), at] = True
    held = [0] * (rows * columns)
    for c, kind, number, of in zip(at.tolist(), k.tolist(), order.tolist(), quarter.tolist()):
        if kind and held[c] < ORDINALS:
            signs[c, held[c]] = parts[c, of, held[c]] = kind
            held[c] += 1
        if last.get(c) != number - 1:
            begins[c] = (number if c not in last else begins[c, 0]), number
        last[c] = number
    return signs, mine, begins, parts


def line_sample(rng, ease=0.0, plain=False, form="line", full=False):
    """One line, sometimes two or three. ease 1: large and short; 0: all sizes. plain: black on white, without noise. form
    "clean": one line, dark on light, without noise, not turned; "small": such a line in small letters; "block": two or three such.
    full: as long as there is room.
    -> pixels, sheet, [(box, text)], turn"""
    width, height = pick(rng, SHEETS[-2:] if form == "block" else SHEETS)
    lines = 1 if height <= 64 or form in ("clean", "small") or (form == "line" and rng.random() < .4) else int(rng.integers(2, 4))
    low, high = SMALL if form == "small" else LARGE if rng.random() < ease else LETTERS
    size = min(int(rng.integers(low, high + 1)), 24 if height == 32 else 99)
    if lines > 1:
        size = min(size, int(height / (1.3 * lines)))
    font = font_of(pick(rng, font_paths()), size)
    average = font.getlength("abcdefgh 123ABC") / 15
    room = max(2, int((width - 12) / average))
    longest = min(room, 8) if rng.random() < ease else room
    sheet = Sheet(rng, width, height, plain, dark=form != "line")
    boxes = []
    pitch = size * float(rng.uniform(1.2, 1.4))
    y = float(rng.uniform(2, max(3, height - pitch * lines - 2)))
    x = float(rng.uniform(3, 14))
    for _ in range(lines):
        text = some_text(rng, room if full else int(rng.integers(min(2, longest), longest + 1)), full)
        while len(text) > 1 and font.getlength(text) > width - x - 3:
            text = text[:-1].strip()
        shift = float(rng.uniform(0, max(0, width - x - 3 - font.getlength(text)))) if lines == 1 else 0
        boxes.append((sheet.write(x + shift, y, text, font), text))
        y += pitch
    turn = float(rng.uniform(-2, 2)) if form == "line" and rng.random() < .25 * (1 - ease) and lines == 1 else 0.0
    noise = float(rng.uniform(0, 9)) if form == "line" and not plain and rng.random() < .3 else 0.0
    pixels = sheet.finish(rng, turn, noise)
    return pixels, sheet, boxes, turn


def page_sample(rng, width, height):
    """A sheet full of lines, each in a font and size of its own: many characters for what a picture costs the tower."""
    sheet = Sheet(rng, width, height, plain=True)
    y = float(rng.uniform(-8, 4))
    while y < height - 8:
        size = int(rng.integers(14, 23) if rng.random() < .75 else rng.integers(22, 29))
        font = font_of(pick(rng, font_paths()), size)
        x = float(rng.uniform(-6, 10))
        text = " ".join(some_text(rng, 12) for _ in range(3))[:int(width / size * 2.4)].strip()
        sheet.write(x, y, text, font)
        y += size * float(rng.uniform(1.05, 1.4))
    sheet.finish(rng, float(rng.uniform(-2, 2)) if rng.random() < .15 else 0.0)
    return sheet


def line_questions(rng, shape, boxes, turn, step=1):
    """Boxes of answers are multiples of `step`."""
    out = {"ocr": [(pick(rng, READ_ASKED), "\n".join(t for _, t in boxes))]}
    if not turn and rng.random() < .5:
        rows = [{"bbox_2d": scaled(b, shape, step), "text_content": t} for b, t in boxes]
        out["spot"] = [(pick(rng, SPOT_ASKED), json.dumps(rows))]
    return out


def spot_spans(boxes, answer):
    """[(start, end, first mark)] of the lines' texts in the answer."""
    out, at, mark = [], 0, 0
    for _, text in boxes:
        at = answer.index('"text_content": "', at) + len('"text_content": "')
        out.append((at, at + len(text), mark))
        mark += len(text)
    return out


def cell_text(rng):
    roll = rng.random()
    if roll < .5:
        return str(int(rng.integers(0, 1000)))
    if roll < .6:
        return "%.1f" % rng.uniform(0, 100)
    return word(rng)[:5]


def table_sample(rng, plain=False):
    """A table of two or three columns and as many rows, four where the sheet is high; four of five are ruled.
    -> pixels, sheet, rows"""
    columns = int(rng.integers(2, 4))
    width, height = pick(rng, TABLES[columns])
    count = int(rng.integers(2, height // CELL_PITCH + 1))
    size = int(rng.integers(15, 20 if columns == 3 else 22))
    path = pick(rng, font_paths())
    font = font_of(path, size)
    rows = [[word(rng)[:5].capitalize() for _ in range(columns)]] + [[cell_text(rng) for _ in range(columns)] for _ in range(count - 1)]
    sheet = Sheet(rng, width, height, plain)
    cw, rh = (width - 8) / columns, min(CELL_PITCH + 4, (height - 6) / count)
    x0, y0 = float(rng.uniform(2, 6)), float(rng.uniform(2, height - rh * count - 2))
    ruled = rng.random() < .8
    for r, row in enumerate(rows):
        for c, text in enumerate(row):
            while font.getlength(text) > cw - 6:
                text = text[:-1].rstrip(".")
            row[c] = text
            sheet.write(x0 + c * cw + 4, y0 + r * rh + (rh - size * 1.2) / 2, text, font)
    if ruled:
        for r in range(count + 1):
            sheet.draw.line((x0, y0 + r * rh, x0 + columns * cw, y0 + r * rh), fill=sheet.ink)
        for c in range(columns + 1):
            sheet.draw.line((x0 + c * cw, y0, x0 + c * cw, y0 + count * rh), fill=sheet.ink)
    return sheet.finish(rng), sheet, rows


def table_pieces(rows, form):
    """The table as it is written: strings, and (row, column) where a cell's text stands."""
    n = len(rows[0])
    cells = lambda r, between: [piece for c in range(n) for piece in (between, (r, c))][1:]
    body = range(1, len(rows))
    if form == "markdown":
        line = lambda r: ["| ", *cells(r, " | "), " |"]
        return [*line(0), "\n|" + " --- |" * n, *(piece for r in body for piece in ("\n", *line(r)))]
    if form == "html":
        line = lambda r, tag: ["\n<tr><%s>" % tag, *cells(r, "</%s><%s>" % (tag, tag)), "</%s></tr>" % tag]
        return ["<table>", *line(0, "th"), *(piece for r in body for piece in line(r, "td")), "\n</table>"]
    if form == "csv":
        return [piece for r in range(len(rows)) for piece in (["\n"] if r else []) + cells(r, ",")]
    pair = lambda r, c: [', "' if c else '{"', (0, c), '": "', (r, c), '"']
    row = lambda r: [piece for c in range(n) for piece in pair(r, c)] + ["}"]
    return ["[", *(piece for r in body for piece in ([", "] if r > 1 else []) + row(r)), "]"]


def table_text(rows, form):
    return "".join(rows[p[0]][p[1]] if isinstance(p, tuple) else p for p in table_pieces(rows, form))


def table_spans(rows, form):
    """[(start, end, first mark)] of the cells' texts in table_text; marks are counted as the sheet was written."""
    begins, at, mark = {}, 0, 0
    for r, row in enumerate(rows):
        for c, text in enumerate(row):
            begins[r, c], mark = mark, mark + len(text)
    out = []
    for p in table_pieces(rows, form):
        text = rows[p[0]][p[1]] if isinstance(p, tuple) else p
        if isinstance(p, tuple):
            out.append((at, at + len(text), begins[p]))
        at += len(text)
    return out


def table_questions(rng, rows):
    forms = ("markdown", "html", "csv", "json") if len(set(rows[0])) == len(rows[0]) else ("markdown", "html", "csv")
    out = {}
    for form in forms:
        out["table_" + form] = [(pick(rng, TABLE_ASKED[form]), table_text(rows, form))]
    return out
