# SPDX-License-Identifier: MIT
"""Where in the picture an answer is to be found, told to a few attention heads of the decoder while it learns.

Looking things up is what a small decoder learns last: that a question's noun should find its cell. So nine heads are shown
it: of block 1 one that leads from a name in the question to the cells of what it names, or to the first token when nothing
of the kind is there; one that counts: every middle of such a thing gets the same share as the first token, so that
1 / (n + 1) stays there; of block 3 the same two for the token that begins an answer, a name or a row of boxes; two
that see the first and the last pair of a clip; and for text three that see the cell of the character last written (block 2)
and of the next one (blocks 3 and 5). `looks` finds the names in the words, `look_loss` is the cross entropy.
"""
import json
import re
from types import SimpleNamespace

import numpy as np
import torch
import torch.nn.functional as F

from see_scene import SHAPE_COLOURS, SHAPES, scaled

# (block, head) by kind; heads 0-2 share the first keys, 3-5 the second.
NAMED, NAMED_COUNT, TOLD, TOLD_COUNT, FIRST_PAIR, LAST_PAIR, SIGN, NEXT_SIGN, NEXT_AGAIN = range(9)
HEADS = ((1, 0), (1, 3), (3, 0), (3, 3), (3, 1), (3, 4), (2, 0), (3, 2), (5, 0))
WATCHED = tuple(sorted({block for block, _ in HEADS}))


class Finder:
    """Finds names of things in words."""

    def __init__(self, concepts):
        self.names = {n.lower() for c in concepts for n in list(c.synonyms) + [c.plural]}
        for shape in SHAPES:
            self.names |= {p + shape + s for p in [""] + [c + " " for c in SHAPE_COLOURS] for s in ("", "s")}
        self.longest = max(len(n.split()) for n in self.names)

    def named(self, things, text):
        """[(start, end, numbers of the things that are called so)]"""
        found, free = [], 0
        words = [(m.start(), m.end()) for m in re.finditer(r"[\w'-]+", text)]
        for i, (start, _) in enumerate(words):
            for j in range(min(len(words), i + self.longest) - 1, i - 1, -1) if i >= free else ():
                end = words[j][1]
                word = text[start:end].lower()
                if word in self.names and not text.startswith(" background", end):
                    of = [k for k, t in enumerate(things) if word == t.plural.lower() or word in (n.lower() for n in t.names)]
                    found.append((start, end, of))
                    free = j + 1
                    break
        return found


def looks(finder, task, things, shape, step, question, answer):
    """(in the question, in the answer): [(start, end, kinds, things)] of characters. In the question the last token of the
    span looks, in the answer whatever token comes before one of the span."""
    if task in ("ground", "unknown") or "background" in question:
        return [], []
    asked = finder.named(things, question)
    heard = [(s, e, (NAMED, NAMED_COUNT), of) for s, e, of in asked]
    told = []
    if task in ("box", "point", "moderate"):
        boxes = [scaled(t.box, shape, step) for t in things]
        for m in re.finditer(r"\{[^{}]*\}", answer):
            row = json.loads(m.group())
            fits = lambda i: ((row.get("label") in (None, things[i].name)) and
                              (row.get("bbox_2d") == boxes[i] or row.get("point_2d") == middle(boxes[i])))
            of = [i for i in range(len(things)) if fits(i)][:1]
            shown = re.finditer(r"(?<=: )[\[\"]|(?<=[ \[\"])\w+(?![\w\"]*:)", m.group())
            told += [(m.start() + p.start(), m.start() + p.end(), (TOLD,), of) for p in shown]
        return heard, told or [(0, 1, (TOLD,), [])]
    if task != "tint":
        told = [(s, s + 1, (TOLD,), of) for s, _, of in finder.named(things, answer)]
    if told:
        if told[0][0] > 0:
            told.insert(0, (0, 1) + told[0][2:])
    elif len(asked) == 1:
        told = [(0, 1, (TOLD, TOLD_COUNT), asked[0][2])]
    elif not asked and task == "count":
        told = [(0, 1, (TOLD_COUNT,), list(range(len(things))))]
    return heard, told


def clip_looks(task, question, answer, name):
    """Of a clip: its things are 0 = all along, 1 = in the first pair, 2 = in the last, 3 = when it happens; empty where the
    thing is not seen there."""
    at = question.find(name)
    heard = [(at, at + len(name), (NAMED,), [0])] if at >= 0 else []
    if task in ("clip_when", "clip_span"):
        return heard, [(m.start(), m.end(), (TOLD,), [3]) for m in re.finditer(r"\d+\.\d+", answer)]
    told = [(0, len(answer), (FIRST_PAIR,), [1]), (0, len(answer), (LAST_PAIR,), [2])]
    return heard, told


def sign_looks(answer):
    """Of text that is read character by character: its things are the characters but for ends of lines. What comes before one
    looks at the cell of the last one, then at that of the next."""
    told, mark = [], 0
    for j, c in enumerate(answer):
        if j and answer[j - 1] != "\n":
            told.append((j, j + 1, (SIGN,), [mark - 1]))
        if c != "\n":
            told.append((j, j + 1, (NEXT_SIGN, NEXT_AGAIN), [mark]))
            mark += 1
    return [], told


def span_looks(spans):
    """Of text among markup: spans of see_text.table_spans or spot_spans. Markup looks at the last character written and at the one to come."""
    told, before = [], None
    for start, end, mark in spans:
        for j in range(start, end):
            if before is not None:
                told.append((j, j + 1, (SIGN,), [before]))
            before = mark + j - start
            told.append((j, j + 1, (NEXT_SIGN, NEXT_AGAIN), [before]))
        told.append((end, end + 1, (SIGN,), [before]))
    return [], told


def clip_owners(pairs, when, side, cell):
    """bool [4, pairs * cells] for clip_looks: where the thing is all along, in the first pair, in the last, at the event."""
    cells = side // cell
    each = np.zeros((len(pairs), cells * cells), bool)
    for j, box in enumerate(pairs):
        if box is not None:
            spot = SimpleNamespace(box=box)
            each[j] = owners([spot], cells, cells, cell)[0][0]
    out = np.zeros((4, len(pairs), cells * cells), bool)
    out[0], out[1, 0], out[2, -1], out[3, when] = each, each[0], each[-1], each[when]
    return out.reshape(4, -1)


def clip_cells(mine, pairs, index, shown, nothing):
    """Of every cell of every pair, mine bool [pairs * cells] being those of the thing: its class, its motion, its box."""
    of = np.arange(len(mine)) * len(pairs) // len(mine)
    boxes = np.array([box or (0, 0, 0, 0) for box in pairs], np.float32)[of]
    return np.where(mine, index, nothing).astype(np.int16), np.where(mine, np.array(shown)[of], 0).astype(np.int16), boxes


def middle(box):
    return [(box[0] + box[2]) // 2, (box[1] + box[3]) // 2]


def owners(things, rows, columns, cell):
    """(bool [things, rows * columns] of the cells that belong to each, its middle's cell [things])"""
    best = np.full((rows, columns), .35)
    whose = np.full((rows, columns), -1)
    top, left = np.arange(rows)[:, None] * cell, np.arange(columns)[None] * cell
    middles = []
    for i, t in enumerate(things):
        x0, y0, x1, y1 = t.box
        w = np.clip(np.minimum(x1, left + cell) - np.maximum(x0, left), 0, None)
        h = np.clip(np.minimum(y1, top + cell) - np.maximum(y0, top), 0, None)
        cover = np.maximum(w * h / cell ** 2, w * h / max(1, (x1 - x0) * (y1 - y0)))
        more = cover > best
        best[more], whose[more] = cover[more], i
        middles.append(min(rows - 1, int(y0 + y1) // 2 // cell) * columns + min(columns - 1, int(x0 + x1) // 2 // cell))
    out = np.stack([(whose == i).reshape(-1) for i in range(len(things))])
    for i, m in enumerate(middles):
        if not out[i].any():
            out[i, m] = True
    return out, np.array(middles)


def look_loss(kept, mask, samples, seen, bins):
    """kept: {block: (queries [b, heads, n, d], keys [b, heads of keys, n, d])}; mask as in read; the first token is the
    place for what is not there."""
    n = mask.shape[-1]
    total, parts = 0.0, 0
    spots = [np.flatnonzero(s) for s in seen.numpy()]
    for kind, (block, head) in enumerate(HEADS):
        rows, at, want = [], [], []
        for b, s in enumerate(samples):
            if s["look"] is None:
                continue
            mine, middles = s["look"]
            for place, of, things in s["encoded"].look:
                if of != kind:
                    continue
                goal = np.zeros(n, np.float32)
                if kind in (NAMED_COUNT, TOLD_COUNT):
                    goal[0] = 1
                    np.add.at(goal, spots[b][middles[list(things)]], 1)
                else:
                    held = [i for i in things if mine[i].any()]
                    for i in held:
                        cells = spots[b][mine[i]]
                        goal[cells] += 1 / len(cells)
                    if not held:
                        goal[0] = 1
                rows.append(b)
                at.append(place)
                want.append(goal / goal.sum())
        if not rows:
            continue
        q, k = kept[block]
        rows, at, want = torch.tensor(rows), torch.tensor(at), torch.from_numpy(np.stack(want))
        score = (k[rows, head * k.shape[1] // q.shape[1]] @ q[rows, head, at][..., None])[..., 0] * q.shape[-1] ** -.5
        score = score.masked_fill(~mask[rows, 0, at], -1e4)
        if kind in (NAMED_COUNT, TOLD_COUNT):
            each = -(F.log_softmax(score, 1) * want).sum(1) + torch.special.xlogy(want, want).sum(1)
        else:                                    # any of a thing's cells will do
            share = torch.softmax(score, 1)
            each = -torch.log((share * (want > 0)).sum(1) + 1e-6)
            bins.add("look%d" % kind, (share.detach() * (want > 0)).sum(1))
        if kind in (NAMED_COUNT, TOLD_COUNT):
            bins.add("look%d_kl" % kind, each.detach())
        total = total + each.mean()
        parts += 1
    return total / max(1, parts)
