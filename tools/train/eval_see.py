# SPDX-License-Identifier: MIT
"""The table of mini-see: greedy answers of transformers on an exported folder, to samples of a seed that training never used.

    python eval_see.py --model models/mini-see --sprites D/sprites --tokenizer models/mini-see --each 100
    python eval_see.py --model models/mini-see --circle pictures.json      # [{"file": ..., "concept": ...}] drawn by mini-draw

Pictures go through the folder's own processor. A row says how many samples it rests on.
"""
import argparse
import json
import re
from itertools import zip_longest
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import AutoProcessor, Qwen3VLForConditionalGeneration

from see_model import CELL, Encoder, check, load_tokenizer, write
from see_shards import TASKS, Maker

KIND_OF = {"ocr": "clean", "ocr_block": "block", "ocr_rough": "line", "ocr_small": "small", "spot": "block", "table": "table", "clip": "clip"}
MEASURED = ",".join(t for t in (*TASKS, "ocr_block", "ocr_rough", "ocr_small") if t not in ("talk", "list"))
SEED = 424242          # below 10 ** 6, where the seeds of training begin


class Model:
    """The exported folder as transformers runs it."""

    def __init__(self, folder):
        self.folder = folder
        self.processor = AutoProcessor.from_pretrained(folder)
        self.net = Qwen3VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()

    def answer(self, pictures, question, times=None, most=160):
        return self.processor.tokenizer.decode(self.writes(pictures, question, times, most)[0], skip_special_tokens=True)

    def inputs(self, pictures, question, times=None):
        """pictures: one PIL image, or the frames of a clip (uint8 [n, h, w, 3])."""
        content = [{"type": "image", "image": pictures} if times is None else {"type": "video"}, {"type": "text", "text": question}]
        text = self.processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False)
        if times is None:
            return self.processor(text=[text], images=[pictures], return_tensors="pt")
        meta = {"fps": 2.0, "total_num_frames": len(pictures), "frames_indices": list(range(len(pictures)))}
        return self.processor(text=[text], videos=[torch.from_numpy(pictures).permute(0, 3, 1, 2)], video_metadata=[meta],
                              do_sample_frames=False, return_tensors="pt")

    @torch.inference_mode()
    def writes(self, pictures, question, times=None, most=160, forbidden=()):
        """The greedy token ids, and by how much each stood above the next best one."""
        inputs = self.inputs(pictures, question, times)
        out = self.net.generate(**inputs, max_new_tokens=most, do_sample=False, suppress_tokens=list(forbidden) or None,
                                return_dict_in_generate=True, output_scores=True)
        best = torch.cat(out.scores).topk(2).values
        return out.sequences[0, inputs["input_ids"].shape[1]:].tolist(), (best[:, 0] - best[:, 1]).tolist()


    def answers(self, samples):
        """To every sample's first question."""
        for s in samples:
            _, question, want = s["conversation"][0][0][:3]
            picture = s["frames"] if s["clip"] else Image.fromarray(s["frames"][0])
            yield self.answer(picture, question, s["times"], most=self.room(want))

    def room(self, want):
        return len(want) + 40              # text is written character by character


class Batches(Model):
    """The same folder by see_model.py's own forward pass, which is checked against transformers' first: many answers at once,
    some ten times faster."""

    def __init__(self, folder):
        super().__init__(folder)
        self.encoder = Encoder(load_tokenizer(folder))
        noise = np.random.default_rng(1).integers(0, 256, (96, 96, 3)).astype(np.uint8)
        worst = check(self.net, self.encoder, [noise])
        print("logits differ from transformers' by %.1e at most" % worst)
        if worst > 1e-3:
            raise SystemExit("see_model.py is not transformers' network: leave --batches out")

    def answers(self, samples):
        said = [None] * len(samples)
        sizes = {}
        for i, s in enumerate(samples):
            sizes.setdefault((s["frames"].shape, s["clip"]), []).append(i)
        for (shape, clip), of in sizes.items():
            prompts = []
            for i in of:
                _, question, want = samples[i]["conversation"][0][0][:3]
                e = self.encoder.encode(shape[1] // CELL, shape[2] // CELL, samples[i]["times"], [[(0, question, want, False)]])
                n = int((e.labels >= 0).argmax()) + 1
                prompts.append((e.ids[:n], e.positions[:, :n]))
            most = max(self.room(samples[i]["conversation"][0][0][2]) for i in of)
            for i, ids in zip(of, write(self.net, self.encoder, [samples[i]["frames"] for i in of], clip, prompts, most)):
                said[i] = self.processor.tokenizer.decode(ids, skip_special_tokens=True)
        return said


def rows_of(text):
    try:
        value = json.loads(text)
    except ValueError:
        return []
    value = [value] if isinstance(value, dict) else value
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


def overlap(a, b):
    if len(a) != 4 or not all(isinstance(v, (int, float)) for v in a):
        return 0.0
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inside = max(0, w) * max(0, h)
    area = lambda r: max(0, r[2] - r[0]) * max(0, r[3] - r[1])
    return inside / max(1, area(a) + area(b) - inside)


def boxes_found(said, want):
    """(boxes that a box of the same label covers with IoU over 0.5, boxes wanted)"""
    said, want = rows_of(said), rows_of(want)
    hits = 0
    for w in want:
        match = [s for s in said if s.get("label") == w["label"] and overlap(s.get("bbox_2d", []), w["bbox_2d"]) > .5]
        if match:
            hits += 1
            said.remove(match[0])
    return hits, len(want)


def distance(a, b):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
    return row[-1]


def seconds_in(text):
    found = re.search(r"\d+\.\d+", text)
    return float(found.group()) if found else None


def cells_of(text, form):
    """The texts of a table's cells in reading order. Of JSON the heads are those of its first row, and what stands under another one in
    a further row is no cell of the table."""
    if form == "table_json":
        rows = rows_of(text)
        heads = [str(h) for h in rows[0]] if rows else []
        under = lambda row, head, pair: str(pair[1]) if pair and pair[0] == head else ""
        return heads + [under(row, h, p) for row in rows for h, p in zip_longest(heads, row.items())]
    return [c.strip() for c in re.split(r"[|\n]|,|<[^>]*>", text) if c.strip() and set(c.strip()) != {"-"}]


def pairs_of(text):
    """Of JSON: every text with its head."""
    return [pair for row in rows_of(text) for pair in row.items()]


def circle(model, path):
    entries = json.loads(Path(path).read_text())
    right = 0
    for e in entries:
        said = model.answer(Image.open(e["file"]).convert("RGB"), "What is this?")
        right += e["concept"] in said.lower()
        print("%-24s %s" % (e["concept"], said))
    print("circle: %.3f of %d" % (right / max(1, len(entries)), len(entries)))


def collect(maker, task, count, stage):
    """`count` samples that ask exactly this task."""
    kind = KIND_OF.get(task) or KIND_OF.get(task.split("_")[0], "scene")
    task = "ocr" if task.startswith("ocr") else task
    while count:
        rare = stage if task != "name" else (stage[0], stage[1], 1.0) + stage[3:]
        s = maker.sample(rare, 1, kind, only=task)
        if s is not None:
            count -= 1
            yield s


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--sprites")
    parser.add_argument("--each", type=int, default=100)
    parser.add_argument("--styles", default="noto,flat,3d")
    parser.add_argument("--tasks", default=MEASURED)
    parser.add_argument("--circle")
    parser.add_argument("--batches", action="store_true", help="many answers at once, by see_model.py instead of transformers")
    parser.add_argument("--show", type=int, default=0, help="print so many answers per task")
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = (Batches if args.batches else Model)(args.model)
    if args.circle:
        return circle(model, args.circle)
    measure(model, args.sprites, args.each, args.tasks, args.styles, args.show)


def measure(model, sprites, each, tasks=MEASURED, styles="noto,flat,3d", show=0):
    """Prints the table."""
    maker = Maker(sprites, model.folder, SEED)
    stage = (0, {"scene": 1.0}, .3, 0.0, (1,), tuple(styles.split(",")), 1, 0)
    flags, pairs = {"hit": 0, "said": 0, "want": 0}, {"right": 0, "all": 0}
    for task in tasks.split(","):
        score, total, extra = 0.0, 0, ""
        asked = list(collect(maker, task, each, stage))
        for i, (s, said) in enumerate(zip(asked, model.answers(asked))):
            _, question, want = s["conversation"][0][0][:3]
            if i < show:
                print("   ", json.dumps([question, want, said]))
            if task == "box":
                hits, count = boxes_found(said, want)
                if count == 0:
                    hits, count = int(said == "[]"), 1
            elif task.startswith("ocr"):
                hits, count = distance(said, want), len(want)
            elif task.startswith("table"):
                wanted = cells_of(want, task)
                hits, count = sum(a == b for a, b in zip(wanted, cells_of(said, task))), len(wanted)
                pairs["right"] += sum(a == b for a, b in zip(pairs_of(want), pairs_of(said)))
                pairs["all"] += len(pairs_of(want))
            elif task == "clip_when":
                guess = seconds_in(said)
                hits, count = int(guess is not None and abs(guess - seconds_in(want)) <= .5), 1
            elif task == "moderate":
                a, b = ([r.get("category") for r in rows_of(t)] or [None] for t in (said, want))
                hits, count = int(a[0] == b[0]), 1
                flags["said"] += a[0] not in (None, "none")
                flags["want"] += b[0] != "none"
                flags["hit"] += a[0] == b[0] != "none"
            elif task == "point":
                a, b = rows_of(said), rows_of(want)
                hits = sum(any(r.get("label") == w["label"] and np.hypot(*np.subtract(r.get("point_2d", (9e3, 9e3)), w["point_2d"])) < 80
                               for r in a) for w in b)
                count = len(b)
            else:
                hits, count = int(said == want), 1
            score, total = score + hits, total + count
        if task.startswith("ocr"):
            extra = "character error"
        elif pairs["all"]:
            extra = "cells; texts under their right heads %.3f of %d" % (pairs["right"] / pairs["all"], pairs["all"])
            pairs = {"right": 0, "all": 0}
        elif task == "moderate":
            extra = "category; F1 of flagging %.3f" % (2 * flags["hit"] / max(1, flags["said"] + flags["want"]))
        print("%-16s %.3f of %d %s" % (task, score / max(1, total), total, extra), flush=True)


if __name__ == "__main__":
    main()
