# SPDX-License-Identifier: MIT
"""Short clips for mini-see: one thing that moves, appears, vanishes or changes its colour, and when it does.

Frames are taken at two per second; Qwen3-VL sees them in pairs, each pair under the mean time of its frames.
"""
import json

import numpy as np

from art import COLOURS
from see_scene import SHAPE_COLOURS, SHAPES, an, pick, sentence

SIDE, RATE = 96, 2.0
MOVES = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
MOTIONS = ("nothing", "stay", *MOVES, "appear", "vanish", "change")
ACTION_ASKED = ("What happens in the video?", "Describe the video.", "What happens?", "Describe what happens in the clip.")
MOVE_ASKED = ("In which direction does the {n} move?", "Where does the {n} move to?", "Which way does the {n} go?")
WHEN_ASKED = ("When does the {n} {e}?", "At what time does the {n} {e}?", "At which second does the {n} {e}?")
SPAN_ASKED = ("When does it happen? Answer in JSON with start, end and description.",
              "Locate the events with start and end in JSON format.")


def clip_sample(rng, gallery):
    """-> frames uint8 [n, SIDE, SIDE, 3], times of the pairs in seconds, {task: [(question, answer)]}, and for see_look.py the
    thing's name, its boxes per pair (None where it is not seen) and the pair of the event; and its class, and what each pair
    shows of it, numbers of MOTIONS"""
    count = 2 * int(rng.integers(2, 5))
    event = pick(rng, ("left", "right", "up", "down", "appear", "vanish", "change"))
    ground = pick(rng, list(COLOURS))
    base = np.array(COLOURS[ground], np.float32)
    side = float(rng.uniform(30, 46))
    lo, hi = side / 2 + 1, SIDE - side / 2 - 1
    moment = int(rng.integers(1, count - 1))          # the first frame after the event
    if event == "change":
        shape = int(rng.integers(len(SHAPES)))
        index = len(gallery.concepts) + shape
        tints = [str(t) for t in rng.choice([c for c in SHAPE_COLOURS if c != ground], 2, replace=False)]
        sprites = [gallery.shape_patch(rng, SHAPES[shape], t, round(side)) for t in tints]
        name = SHAPES[shape]
    else:
        index = gallery.any_index(rng)
        sprites = [gallery.painter.sprites[pick(rng, gallery.styles_of(index)), index]]
        name = gallery.concepts[index].name
    path = []
    if event in MOVES:
        dx, dy = MOVES[event]
        reach = float(rng.uniform(.6, 1)) * (hi - lo)
        across = float(rng.uniform(lo, hi))
        for i in range(count):
            t = (i / (count - 1) - .5) * reach
            path.append((SIDE / 2 + dx * t, across) if dx else (across, SIDE / 2 + dy * t))
    else:
        path = [(float(rng.uniform(lo, hi)), float(rng.uniform(lo, hi)))] * count
    frames, boxes = [], []
    for i, (x, y) in enumerate(path):
        canvas = np.tile(base, (SIDE, SIDE, 1)).astype(np.float32)
        visible = not (event == "appear" and i < moment) and not (event == "vanish" and i >= moment)
        if visible:
            gallery.painter.sprites["clip", -1] = sprites[1 if event == "change" and i >= moment else 0]
            boxes.append(gallery.painter.paste(canvas, "clip", -1, (x, y, side)))
        else:
            boxes.append(None)
        frames.append(np.clip(canvas + .5, 0, 255).astype(np.uint8))
    times = [(2 * i + .5) / RATE for i in range(count // 2)]
    out = {}
    if event in MOVES:
        verb = "moves " + event if event in ("up", "down") else "moves to the " + event
        out["clip_move"] = [(pick(rng, MOVE_ASKED).format(n=name), sentence(event if event in ("up", "down") else "to the " + event))]
        said = "%s %s" % (an(name), verb)
    else:
        at = "%.1f" % (moment / RATE)
        word = {"appear": "appear", "vanish": "vanish", "change": "change its colour"}[event]
        did = {"appear": "appears", "vanish": "vanishes", "change": "changes from %s to %s" % tuple(tints) if event == "change" else ""}[event]
        out["clip_when"] = [(pick(rng, WHEN_ASKED).format(n=name, e=word), "At %s seconds." % at)]
        said = "%s %s" % (an(name), did)
        if event == "change":
            out["clip_tint"] = [("Which colour does the %s have at the end?" % name, sentence(tints[1]))]
        out["clip_span"] = [(pick(rng, SPAN_ASKED), json.dumps([{"start": float(at), "end": float(at), "description": said}]))]
    out["clip_what"] = [(pick(rng, ACTION_ASKED), sentence(said))]
    pairs = [tuple(np.mean(seen, 0)) if (seen := [b for b in boxes[i:i + 2] if b]) else None for i in range(0, count, 2)]
    when = moment // 2 if event != "vanish" or moment % 2 else moment // 2 - 1
    shown = [event if event in MOVES or j == moment / 2 - .5 else "stay" for j in range(count // 2)]
    return np.stack(frames), times, out, (name, pairs, when), (index, [MOTIONS.index(s) for s in shown])
