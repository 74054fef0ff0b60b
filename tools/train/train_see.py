# SPDX-License-Identifier: MIT
"""Train mini-see on the shards that see_shards.py makes.

First the tower alone learns what it is asked directly (class and box of the thing in each cell, characters in each
patch: a dense signal, several times cheaper than words), then everything learns together, the direct questions staying
on as helpers. Muon and AdamW, gradient norm 1, EMA that begins short; the learning rate follows the clock (minutes of processor time): warm-up, constant,
linear decay over the last --cool share of --minutes. Samples are fresh, so the shares of exact answers in the log are
those of pictures never seen before. Ended by SIGTERM it saves first. Run again with a larger --minutes to go on from RUN/state.pt.

    python train_see.py --shards T/see/shards --tokenizer T/see/tokenizer --sprites D/sprites --out T/see/run --minutes 100
    python train_see.py ... --export models/mini-see      # write the EMA as an HF folder and end
"""
import argparse
import json
import os
import pickle
import signal
import time
from pathlib import Path

import numpy as np
import torch
import torch.multiprocessing as mp
import torch.nn.functional as F

import see_clip
import see_lines
import see_look
import see_scene
import see_text
from see_model import CELL, PATCH, SPOTS, Encoder, Helpers, batch_of, begin_from, begin_patches, build, check, export, load_tokenizer, read, see
from eval_see import MEASURED as MEASURED_TASKS
from eval_see import Batches, measure
from see_shards import STAGES, STEP, TASKS, Maker, stage_at

CHARS = len(see_text.CHARS) + 1
LOOK = .6                # weight of see_look.py's loss
MEASURED = torch.tensor([TASKS.index(t) for t in ("box", "point", "moderate")])     # where digits, and whether a further row comes,
DECISIVE = (*"0123456789", '"},', '"}]')                                                 # count for more than brackets
NOTHING = 347            # the class of a square without a thing


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=Path)
    parser.add_argument("--pool", type=Path, help="what see_lines.py makes")
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--sprites")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=100)
    parser.add_argument("--cool", type=float, default=.3)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--tower-batch", type=int, default=64)
    parser.add_argument("--text-batch", type=int, default=48)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--ema", type=float, default=.998)
    parser.add_argument("--start", type=Path, help="begin with the weights of an exported folder; the heads are new then")
    parser.add_argument("--trained", type=float, default=0, help="with --start: the minutes these weights were trained for")
    parser.add_argument("--refit", type=float, default=0, help="with --start: so many minutes for the new heads alone")
    parser.add_argument("--frozen", type=float, default=0, help="up to this minute the tower's blocks stay as they are")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--cores", default="", help="core of each worker, for example 1,0; the second one yields to others")
    parser.add_argument("--classes", type=int, default=348)
    parser.add_argument("--measure", type=int, default=0, help="at the end export the EMA to OUT/folder and ask so many questions of a kind")
    parser.add_argument("--tasks", default=MEASURED_TASKS)
    parser.add_argument("--bf16", type=int, default=1, help="0: products in f32")
    parser.add_argument("--export", type=Path)
    return parser.parse_args()


def shards(folder, maker, clock):
    """Endless samples; a shard is taken by renaming it, so that workers never share one. While none waits, one of the last
    come again."""
    last = []
    while True:
        waiting = sorted(folder.glob("*.shard"))
        taken = None
        for path in waiting:
            mine = path.with_suffix(".taken%d" % os.getpid())
            try:
                os.rename(path, mine)
            except FileNotFoundError:
                continue
            taken = mine
            break
        if taken is None and last:
            again = last[int(torch.randint(len(last), ()))]
            yield from (again[i] for i in torch.randperm(len(again))[:128].tolist())
            continue
        if taken is None:
            for _ in range(32):
                yield maker.fresh(float(clock[0]) / 60)
            continue
        with open(taken, "rb") as f:
            samples = pickle.load(f)
        os.unlink(taken)
        last = last[-19:] + [samples]
        yield from samples


def mirrored(s):
    """A scene as a mirror shows it: for the tower only, since words for left and right are not turned."""
    width = s["frames"].shape[2]
    turn = lambda boxes: np.stack([width - boxes[..., 2], boxes[..., 1], width - boxes[..., 0], boxes[..., 3]], -1)[:, ::-1]
    dense = [turn(d) if d.ndim == 3 else d[:, ::-1] for d in s["dense"]]
    return dict(s, frames=s["frames"][:, :, ::-1], dense=tuple(np.ascontiguousarray(d) for d in dense), encoded=None)


def twice(source, share):
    """Scenes come back once more mirrored, some hundreds of samples later; share() of them do."""
    waiting = []
    for s in source:
        yield s
        if s["dense"] is not None and torch.rand(()) < share():
            waiting.append(mirrored(s))
            if len(waiting) > 600:
                at = int(torch.randint(len(waiting), ()))
                waiting[at], waiting[-1] = waiting[-1], waiting[at]
                yield waiting.pop()


def batches(source, size, tower_size):
    """Samples of one picture size and kind together; four batches are gathered and sorted by length, so that little is
    padding."""
    buckets = {}
    for s in source:
        key = (None if s["frames"] is None else s["frames"].shape, s["clip"], s["dense"] is None, s["encoded"] is None)
        bucket = buckets.setdefault(key, [])
        bucket.append(s)
        limit = size if s["encoded"] is not None else tower_size
        limit = max(2, limit // 3) if s["clip"] else limit
        if len(bucket) >= 4 * limit:
            bucket.sort(key=lambda s: 0 if s["encoded"] is None else len(s["encoded"].ids))
            for part in torch.randperm(4).tolist():
                yield bucket[part * limit:(part + 1) * limit]
            buckets.pop(key)


class Texts:
    """Batches from the pool of lines, of one size and, of tables, one form."""

    def __init__(self, args, maker):
        self.maker, self.pool = maker, see_lines.Pool(args.pool, maker.rng)
        self.sizes = args.text_batch, args.tower_batch

    def asked(self, line, form):
        rng, shape = self.maker.rng, line.gray.shape
        table = line.kind == "table"
        asked = see_text.table_questions(rng, line.rows) if table else see_text.line_questions(rng, shape, line.rows, line.turn, STEP)
        return {form: asked[form]} if form in asked else asked

    def batch(self, stage, words):
        self.pool.look()
        rng = self.maker.rng
        shares = [stage[1].get(k, 0) for k in see_lines.KINDS]
        kind = see_lines.KINDS[int(rng.choice(len(shares), p=np.array(shares) / sum(shares)))]
        if not words or kind == "page":
            return see_lines.samples(rng, self.pool.batch(self.sizes[1], kind))
        lines = self.pool.batch(3 * self.sizes[0], kind)
        size = self.sizes[0] // 2 if kind == "table" else self.sizes[0]
        lines = sorted(lines, key=lambda line: len(line.marks))[int(rng.integers(3)) * self.sizes[0]:][:size]
        forms = ["table_" + form for form in (*see_text.TABLE_ASKED, "json")] if kind == "table" else ["ocr"] * 9 + ["spot"]
        form = see_text.pick(rng, forms)
        encode = lambda line: self.maker.reads(line.gray.shape, line.rows, self.asked(line, form))["encoded"]
        return see_lines.samples(rng, lines, encode)


def blended(scenes, texts, minutes):
    """Batches of scenes and clips, and of text as often as the stage has it."""
    while True:
        stage = stage_at(minutes())
        share = sum(stage[1].get(k, 0) for k in see_lines.KINDS) / sum(stage[1].values())
        if texts and torch.rand(()) < share:
            yield texts.batch(stage, stage[6])
        else:
            yield next(scenes)


def in_merge_order(x):
    """[b, rows, columns, ...] per patch -> [b, patches, ...] in the order of the tower."""
    b, r, c = x.shape[:3]
    return x.reshape(b, r // 2, 2, c // 2, 2, *x.shape[3:]).transpose(2, 3).reshape(b, r * c, *x.shape[3:])


def square_loss(samples, part, thing, edges, step, name, bins):
    """Class and box of what lies in every square; thing and edges are the answers of the heads."""
    tensor = lambda at: torch.from_numpy(np.stack([s["dense"][at] for s in samples]))
    cells, boxes = tensor(part), tensor(part + 1)
    rows, columns = cells.shape[1:]
    middle = torch.stack(torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij"), -1).flip(-1) * step + step / 2
    boxes = (boxes - middle.repeat(1, 1, 2)) / 48
    if step == PATCH:
        cells, boxes = in_merge_order(cells), in_merge_order(boxes)
    cells, boxes = cells.reshape(len(samples), -1).long(), boxes.reshape(len(samples), -1, 4)
    none = thing.shape[-1] - 1
    weight = torch.ones(none + 1)
    weight[-1] = .3
    loss = F.cross_entropy(thing.flatten(0, 1), cells.flatten(), weight, ignore_index=-1)
    there = (cells >= 0) & (cells < none)
    bins.add(name + "_thing", (thing.detach().argmax(-1) == cells)[there])
    if there.any():
        said, want = edges[there], boxes[there]
        loss = loss + 3 * F.smooth_l1_loss(said, want, beta=.05)
        with torch.no_grad():
            inside = (torch.minimum(said[:, 2:], want[:, 2:]) - torch.maximum(said[:, :2], want[:, :2])).clamp_min(0).prod(1)
            area = lambda b: (b[:, 2:] - b[:, :2]).clamp_min(0).prod(1)
            bins.add(name + "_box", inside / (area(said) + area(want) - inside) > .5)
    return loss


def copy_loss(samples, place, tint, spot, bins):
    """What the decoder is to copy from a cell: where its thing lies in the whole picture, and in which colour."""
    tensor = lambda at: torch.from_numpy(np.stack([s["dense"][at] for s in samples]))
    cells, boxes, tints = tensor(0).flatten(), tensor(1).reshape(-1, 4), tensor(3).flatten().long()
    height, width = samples[0]["frames"].shape[1:3]
    there = (cells >= 0) & (cells < NOTHING)
    loss = F.cross_entropy(tint.flatten(0, 1), tints, ignore_index=-1) if (tints >= 0).any() else 0.0
    bins.add("cell_tint", (tint.detach().argmax(-1).flatten() == tints)[tints >= 0])
    if there.any():
        want = boxes[there] / torch.tensor([width, height, width, height]) * 2 - 1
        said = place.flatten(0, 1)[there]
        loss = loss + 3 * F.smooth_l1_loss(said, want, beta=.05)
        bins.add("cell_place", ((said.detach() - want).abs() < .1).float().mean(1))
        loss = loss + spot_loss(spot.flatten(0, 1)[there], want, bins)
    return loss


def spot_loss(said, want, bins):
    """The edges of boxes, want in -1..1, as the numbers that answers write."""
    said, numbers = said.reshape(-1, SPOTS), ((want + 1) * (SPOTS - 1) / 2).round().long().flatten()
    bins.add("spot", ((said.detach().argmax(-1) - numbers).abs() <= 1))
    return F.cross_entropy(said, numbers, label_smoothing=.02)


def motion_loss(helpers, samples, merged, bins):
    """Of clips: the thing of every cell of every pair, where it is, and what it does there."""
    tensor = lambda at: torch.from_numpy(np.stack([s["motion"][at] for s in samples]))
    things, motions, boxes = tensor(0).flatten().long(), tensor(1).flatten().long(), tensor(2).reshape(-1, 4)
    there = motions > 0
    merged = merged.flatten(0, 1)[there]
    said = helpers.motion(merged)
    bins.add("motion", said.detach().argmax(-1) == motions[there])
    want = boxes / see_clip.SIDE * 2 - 1
    return (F.cross_entropy(said, motions[there]) + F.cross_entropy(helpers.thing(merged), things[there])
            + 3 * F.smooth_l1_loss(helpers.place(merged), want[there], beta=.05) + spot_loss(helpers.spot(merged), want[there], bins))


def sign_loss(helpers, samples, merged, last, bins):
    """The characters of every cell in the order in which they are read."""
    want = torch.from_numpy(np.stack([s["signs"] for s in samples])).long()
    said = helpers.signs(merged).view(*want.shape, helpers.chars)
    parts = torch.from_numpy(np.stack([s["parts"] for s in samples])).long()
    within = (want > 0)[:, :, None].expand_as(parts)       # of what stands in the cell, what stands in each of its patches
    part = helpers.part(last).view(*parts.shape, helpers.chars)[within]
    parts = parts[within]
    bins.add("part", (part.detach().argmax(-1) == parts)[parts > 0])
    weight = torch.ones(helpers.chars)
    weight[0] = .3
    loss = F.cross_entropy(part, parts, weight)
    ask = (want > 0).any(-1)                               # cells with text, up to the end of theirs and one further
    ask = ask[..., None] & ((want > 0) | (torch.arange(want.shape[2]) == (want > 0).sum(-1, keepdim=True)))
    said, want = said[ask], want[ask]
    bins.add("sign", said.detach().argmax(-1) == want)
    number = torch.from_numpy(np.stack([s["begins"] for s in samples]))
    there = number >= 0
    guess = helpers.begins(merged)[there].float()
    bins.add("begins", (guess.detach() * 8 - number[there]).abs() < .5)
    loss = loss + F.cross_entropy(said, want)
    return loss + 2 * F.smooth_l1_loss(guess, number[there] / 8, beta=.05) if there.any() else loss


def word_table(tokenizer, gallery, variants=4):
    """Tokens of the names of every class, [variants, classes - 1, longest], -1 behind the end: the name, its plural, two
    of its other names."""
    rows = [[c.name, c.plural, c.synonyms[-1], c.synonyms[len(c.synonyms) // 2]] for c in gallery.concepts]
    rows += [[shape, shape + "s", shape, shape] for shape in see_scene.SHAPES]
    ids = [[tokenizer.encode(" " + row[v], add_special_tokens=False).ids for row in rows] for v in range(variants)]
    longest = max(len(i) for of in ids for i in of)
    return torch.tensor([[i + [-1] * (longest - len(i)) for i in of] for of in ids])


def word_loss(embedding, words, helpers, samples, merged, bins):
    """Which thing's words does every merged token resemble?"""
    cells = torch.from_numpy(np.stack([s["dense"][0] for s in samples])).flatten().long()
    ids = words[int(torch.randint(len(words), ()))]
    real = (ids >= 0)[..., None]
    names = (F.embedding(ids.clamp_min(0), embedding) * real).sum(1) / real.sum(1)
    names = F.normalize(torch.cat([names, helpers.nothing]), dim=1)
    logits = F.normalize(merged.flatten(0, 1), dim=1) @ names.T * helpers.sharp.exp()
    weight = torch.ones(len(names))
    weight[-1] = .3
    there = (cells >= 0) & (cells < len(names) - 1)
    bins.add("word", (logits.detach().argmax(-1) == cells)[there])
    return F.cross_entropy(logits, cells, weight, ignore_index=-1)


def helper_loss(helpers, samples, merged, last, bins, frozen):
    if samples[0]["dense"] is not None:
        middles = in_merge_order(torch.from_numpy(np.stack([s["dense"][6] for s in samples])))
        guess = helpers.middle(merged).flatten(1)
        loss = F.binary_cross_entropy_with_logits(guess, middles.float(), pos_weight=torch.tensor(3.0))
        bins.add("middles", ((guess.detach() > 0).sum(1) == middles.sum(1)))
        loss = loss + square_loss(samples, 0, helpers.thing(merged), helpers.edges(merged), CELL, "cell", bins)
        loss = loss + copy_loss(samples, helpers.place(merged), helpers.tint(merged), helpers.spot(merged), bins)
        return loss if frozen else loss + square_loss(samples, 4, helpers.patch_thing(last), helpers.patch_edges(last), PATCH, "patch", bins)
    if samples[0]["chars"] is not None and not frozen:
        chars = in_merge_order(torch.from_numpy(np.stack([s["chars"] for s in samples]).astype(np.int64)))
        logits = helpers.letter(last).view(*chars.shape, helpers.chars)
        weight = torch.ones(helpers.chars)
        weight[0] = .03
        there = (chars > 0) & (chars < helpers.chars - 1)
        bins.add("page_char" if samples[0]["begins"].max() < 0 else "char", (logits.detach().argmax(-1) == chars)[there])
        return F.cross_entropy(logits.flatten(0, 2), chars.flatten(), weight) + sign_loss(helpers, samples, merged, last, bins)
    if samples[0]["motion"] is not None:
        return motion_loss(helpers, samples, merged, bins)
    return 0.0


class Bins:
    """Running means by name."""

    def __init__(self):
        self.sums = {}

    def add(self, name, values):
        if len(values):
            s = self.sums.setdefault(name, [0.0, 0])
            s[0] += float(values.float().sum())
            s[1] += len(values)

    def row(self):
        out = {k: round(s / n, 3) for k, (s, n) in sorted(self.sums.items())}
        self.sums = {}
        return out


def answer_loss(net, samples, special, merged, deep, bins, kept=None):
    weighty = torch.tensor([i for token, i in special.items() if token in DECISIVE])
    ids, positions, mask, labels, task = batch_of([s["encoded"] for s in samples], special["<|im_end|>"])
    seen = (ids == special["<|image_pad|>"]) | (ids == special["<|video_pad|>"])
    asked = labels >= 0
    logits = F.linear(read(net, ids, positions, mask, seen, merged, deep, asked, kept), net.model.language_model.embed_tokens.weight)
    want = labels[asked]
    each = F.cross_entropy(logits, want, reduction="none")
    with torch.no_grad():
        right = logits.gather(1, want[:, None])[:, 0] >= logits.amax(-1)
        kinds = task[asked]
        starts = torch.cat([torch.tensor([True]), want[:-1] == special["<|im_end|>"]])
        answer = starts.cumsum(0) - 1
        whole = torch.ones(int(answer[-1]) + 1).index_reduce(0, answer, right.float(), "amin")
        of = kinds[starts]
        for k in of.unique().tolist():
            bins.add(TASKS[k], whole[of == k])
        letters = kinds == TASKS.index("ocr")
        bins.add("ocr_letter", right[letters])
        bins.add("loss", each)
        weight = torch.bincount(answer).float().rsqrt()[answer]      # a yes counts for more than one bracket of many
        weight = weight * torch.where(torch.isin(want, weighty) & torch.isin(kinds, MEASURED), 3.0, 1.0)
    loss = (each * weight).sum() / weight.sum()
    if kept and seen.any():
        loss = loss + LOOK * see_look.look_loss(kept, mask, samples, seen, bins)
    return loss


class Muon:
    """For the matrices of the blocks: momentum made orthogonal by five Newton-Schulz steps (K. Jordan's coefficients), so that no
    direction of a weight waits for the loud ones; scaled to the size of AdamW's steps, so that both share one rate (Liu et
    al. 2025, arXiv:2502.16982). Matrices of one shape are turned together."""

    def __init__(self, params, decay, beta=.95):
        self.decay, self.beta, self.momentum = decay, beta, {}
        self.shapes = {}
        for p in params:
            self.shapes.setdefault(tuple(p.shape), []).append(p)

    @torch.no_grad()
    def step(self, rate):
        for shape, params in self.shapes.items():
            params = [p for p in params if p.grad is not None]
            if not params:
                continue
            held = [self.momentum.setdefault(p, torch.zeros_like(p)) for p in params]
            torch._foreach_mul_(held, self.beta)
            torch._foreach_add_(held, [p.grad for p in params])
            turned = self.orthogonal(torch.stack([g + self.beta * (m - g) for g, m in zip((p.grad for p in params), held)]))
            torch._foreach_mul_(params, 1 - rate * self.decay)
            torch._foreach_add_(params, list(turned.float().unbind(0)), alpha=-rate * .2 * max(shape) ** .5)

    @staticmethod
    def orthogonal(g):
        tall = g.shape[1] > g.shape[2]
        x = (g / (torch.linalg.matrix_norm(g, keepdim=True) + 1e-7)).to(torch.bfloat16)
        x = x.mT if tall else x
        for _ in range(5):
            a = x @ x.mT
            x = 3.4445 * x + (-4.775 * a + 2.0315 * (a @ a)) @ x
        return x.mT if tall else x


class Optimizer:
    """Muon for the matrices of the blocks and AdamW for the rest, saved by the names of the parameters, so that heads may come and go
    between two sittings."""

    def __init__(self, net, helpers, rate):
        self.named = [("net." + n, p) for n, p in net.named_parameters()] + [("helpers." + n, p) for n, p in helpers.named_parameters()]
        matrix = lambda n, p: p.ndim == 2 and ("visual.blocks." in n or "language_model.layers." in n)
        self.muon = Muon([p for n, p in self.named if matrix(n, p)], .03)
        decay = [p for n, p in self.named if p.ndim >= 2 and not matrix(n, p)]
        gains = [p for n, p in self.named if n.endswith(("q_norm.weight", "k_norm.weight"))]     # how sharply a head looks
        rest = [p for n, p in self.named if p.ndim < 2 and not n.endswith(("q_norm.weight", "k_norm.weight"))]
        self.adam = torch.optim.AdamW([{"params": decay, "weight_decay": .03}, {"params": rest, "weight_decay": 0.0},
                                       {"params": gains, "weight_decay": 0.0, "times": 10}],
                                      lr=rate, betas=(.9, .98), fused=True)

    def load(self, saved):
        for n, p in self.named:
            if n not in saved:
                continue
            state = {k: v.clone() for k, v in saved[n].items()}
            if "momentum" in state:
                self.muon.momentum[p] = state["momentum"]
            elif any(p is q for group in self.adam.param_groups for q in group["params"]):
                self.adam.state[p] = state

    def state(self):
        turned = {n: {"momentum": self.muon.momentum[p]} for n, p in self.named if p in self.muon.momentum}
        return turned | {n: self.adam.state[p] for n, p in self.named if p in self.adam.state}

    def step(self, rate):
        for group in self.adam.param_groups:
            group["lr"] = rate * group.get("times", 1)
        self.adam.step()
        self.muon.step(rate)


def settle(args, rank):
    """One thread; the second worker in a session of its own at the lowest priority, so that builds go first."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    cores = [int(c) for c in args.cores.split(",") if c]
    if rank < len(cores):
        os.sched_setaffinity(0, {cores[rank]})
    if rank:
        os.setsid()
        os.nice(19)
        try:
            Path("/proc/self/autogroup").write_text("19")
        except OSError as e:
            print("no autogroup priority: %s" % e, flush=True)


def total_loss(args, net, helpers, samples, words, special, bins, frozen=False, alone=False, refit=False):
    """What one batch costs, or None where nothing is asked of it now."""
    if samples[0]["frames"] is None:
        if alone:
            return None
        merged, deep, seen = torch.zeros(0, net.config.text_config.hidden_size), [], None
    elif samples[0]["clip"]:
        frames = torch.from_numpy(np.stack([s["frames"] for s in samples]))
        flat = frames.flatten(0, 1)
        merged, deep, seen = see(net, flat[0::2], flat[1::2], frozen)
        fold = lambda t: t.reshape(len(samples), -1, t.shape[-1])
        merged, deep = fold(merged), [fold(d) for d in deep]
    else:
        merged, deep, seen = see(net, torch.from_numpy(np.stack([s["frames"][0] for s in samples])), frozen=frozen)
    loss = helper_loss(helpers, samples, merged, seen, bins, frozen)
    if samples[0]["dense"] is not None:
        table = net.model.language_model.embed_tokens.weight
        loss = loss + word_loss(table.detach() if alone else table, words, helpers, samples, merged, bins)
    if not alone and not refit and samples[0]["encoded"] is not None:
        return loss * .5 + answer_loss(net, samples, special, merged, deep, bins, dict.fromkeys(see_look.WATCHED))
    return loss if isinstance(loss, torch.Tensor) else None


def work(rank, args, net, helpers, ema, saved, clock):
    settle(args, rank)
    torch.manual_seed(time.time_ns() + rank)
    tokenizer, maker = load_tokenizer(args.tokenizer), Maker(args.sprites, args.tokenizer, time.time_ns())
    special = Encoder(tokenizer).special
    words = word_table(tokenizer, maker.gallery((1,), STAGES[-1][5]))
    params = list(net.parameters()) + list(helpers.parameters())
    optimizer = Optimizer(net, helpers, args.lr)
    if saved:
        optimizer.load(saved["optimizer"])
    ended = []
    if rank == 0:
        signal.signal(signal.SIGTERM, lambda *_: ended.append(1))
    bins, told, kept, last, mine = Bins(), float(clock[0]), float(clock[0]), time.process_time(), 0
    log = open(args.out / "log.jsonl", "a") if rank == 0 else None
    alone = lambda: stage_at(float(clock[0]) / 60)[6] == 0
    source = twice(shards(args.shards, maker, clock), lambda: 1)
    minutes = lambda: float(clock[0]) / 60
    texts = Texts(args, maker) if args.pool else None
    for samples in blended(batches(source, args.batch, args.tower_batch), texts, minutes):
        if ended or float(clock[0]) >= args.minutes * 60:
            break
        part, step = float(clock[0]) / (args.minutes * 60), int(clock[1])
        rate = args.lr * min(1, (step + 1) / 200, .03 + .97 * (1 - part) / args.cool)
        b, frozen = len(samples), float(clock[0]) < args.frozen * 60
        refit = float(clock[0]) < (args.trained + args.refit) * 60
        net.requires_grad_(not refit)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bool(args.bf16)):
            loss = total_loss(args, net, helpers, samples, words, special, bins, frozen, alone(), refit)
        if loss is None:
            continue
        for p in params:
            p.grad = None
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0, foreach=True)
        optimizer.step(rate)
        clock[1] += 1
        clock[2] += b
        mine += 1
        if rank:
            continue
        if mine % 4 == 0:
            keep = min(args.ema, (1 + step) / (10 + step)) ** 4
            with torch.no_grad():
                torch._foreach_lerp_(ema, [p.detach() for p in params], 1 - keep)
        now = time.process_time()
        clock[0] += now - last
        last = now
        if mine == 10 or float(clock[0]) - told > 60:
            told = float(clock[0])
            row = {"minutes": round(told / 60, 2), "step": int(clock[1]), "samples": int(clock[2]), "lr": round(rate, 6)} | bins.row()
            print(json.dumps(row), flush=True)
            log.write(json.dumps(row) + "\n")
            log.flush()
            (args.out / "clock.part").write_text("%.2f" % (told / 60))
            os.replace(args.out / "clock.part", args.out / "clock")
        if float(clock[0]) - kept > 120:
            kept = float(clock[0])
            save(args, net, helpers, ema, optimizer, clock)
    if rank == 0:
        save(args, net, helpers, ema, optimizer, clock)


def save(args, net, helpers, ema, optimizer, clock):
    torch.save({"net": net.state_dict(), "helpers": helpers.state_dict(), "ema": ema, "optimizer": optimizer.state(),
                "clock": clock.clone()}, args.out / "state.part")
    os.replace(args.out / "state.part", args.out / "state.pt")


def wear(net, ema):
    with torch.no_grad():
        for p, e in zip(net.parameters(), ema):
            p.copy_(e)


def main():
    args = parse()
    args.out.mkdir(parents=True, exist_ok=True)
    tokenizer = load_tokenizer(args.tokenizer)
    net = build(tokenizer)
    helpers = Helpers(args.classes, CHARS, see_text.SLOTS, see_text.ORDINALS, len(see_clip.MOTIONS))
    state = args.out / "state.pt"
    saved = torch.load(state) if state.exists() else None
    if saved:
        net.load_state_dict(saved["net"])
        news = helpers.load_state_dict(saved["helpers"], strict=False)
        if news.missing_keys or news.unexpected_keys:
            print("heads begun afresh: %s; dropped: %s" % (news.missing_keys, news.unexpected_keys), flush=True)
    elif args.start:
        begin_from(net, args.start)
    elif not args.export:
        maker = Maker(args.sprites, args.tokenizer, 5)
        begin_patches(net, [maker.sample(STAGES[0], 0)["frames"][0] for _ in range(600)])
    params = list(net.parameters()) + list(helpers.parameters())
    ema = [p.detach().clone() for p in params]
    if saved:
        n = len(list(net.parameters()))
        ema[:n] = saved["ema"][:n]              # the heads may be others by now
    clock = saved["clock"] if saved else torch.tensor([args.trained * 60, 0, 0], dtype=torch.float64)     # seconds, steps, samples
    if args.export:
        wear(net, ema)
        export(net, args.tokenizer, args.export)
        print("exported after %d steps, %d samples, %.1f minutes" % (clock[1], clock[2], clock[0] / 60))
        return
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (h, w, 3)).astype(np.uint8) for h, w in ((96, 96), (32, 288), (96, 128))]
    print("%.2f M parameters; differs from transformers by %.1e" % (
        sum(p.numel() for p in net.parameters()) / 1e6, check(net, Encoder(tokenizer), noise)), flush=True)
    net.share_memory()
    helpers.share_memory()
    clock.share_memory_()
    if args.workers == 1:
        work(0, args, net, helpers, ema, saved, clock)
    else:
        mp.spawn(work, args=(args, net, helpers, ema, saved, clock), nprocs=args.workers)
    if args.measure:
        wear(net, torch.load(state)["ema"])
        export(net, args.tokenizer, args.out / "folder")
        measure(Batches(args.out / "folder"), args.sprites, args.measure, args.tasks)


if __name__ == "__main__":
    main()
