# SPDX-License-Identifier: MIT
"""Bring to the fore, by least squares, what mini-see's decoder has to copy from a picture's tokens.

    python lead_see.py --sprites D/sprites --tokenizer T/see/tokenizer --state T/see/run/state.pt --out T/see/run/state.pt
    python lead_see.py --pool T/see/pool ...       # the strokes of letters instead, before text is learnt

The tower's stream is a few loud directions (colour, brightness) and many faint ones; where a patch stands had drowned in it
(a linear reader of the merged tokens found the place with R2 .56, an absolute box of one thing among two with 10%), and the
decoder's RMS norm keeps what is faint faint. So: row and column are added to the position table along the two faintest
directions of the stream; four hidden units of the merger that matter least carry them through; and place, box and a code
of the thing's name, read from the merged tokens by ridge regression, are added to them along their own faintest directions,
loud. All of it is folded into existing weights: the network computes the same things as before, plus these.

Strokes had drowned too: of patches of text the patch embedding's loudest direction had deviation 89, the 64th .8, the 128th .17
(in pixels 9.7, .7 and .3). --pool raises what is faint there to 5, twentyfold at most; scenes suffer and come back in three minutes.
"""
import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import see_lines
import see_scene
from see_look import owners
from see_model import CELL, VISION, blocks, build, load_tokenizer, patches, see
from see_shards import Maker
from train_see import word_table

STROKES = 5.0
STREAM, LOUD, CODES = 5.0, 10.0, 24          # standard deviations in the stream and in merged tokens; width of the name code


def faintest(rows, count):
    """The directions [count, width] in which rows vary least."""
    rows = rows.reshape(-1, rows.shape[-1])
    return torch.linalg.eigh(torch.cov(rows.T))[1].T[:count]


def ridge(x, y, strength):
    """Weights [width, outs] and bias for y ~ x w + b."""
    mx, my = x.mean(0), y.mean(0)
    a = x - mx
    w = torch.linalg.solve(a.T @ a + strength * len(a) * torch.eye(a.shape[1], dtype=a.dtype), a.T @ (y - my))
    return w, my - mx @ w


def gather(maker, gallery, count, side):
    pictures = []
    while len(pictures) < count:
        p = gallery.picture(maker.rng, .2)
        if p.pixels.shape == (side, side, 3):
            pictures.append(p)
    return pictures


def lead_position(net, frames):
    tower = net.model.visual
    levels, last = blocks(net, frames, None)
    v = faintest(torch.cat([t.reshape(-1, t.shape[-1]) for t in [*levels, last]]), 2)
    side = int(VISION["num_position_embeddings"] ** .5)
    at = torch.linspace(-1, 1, side) / torch.linspace(-1, 1, side).std(correction=0)
    r, c = torch.meshgrid(at, at, indexing="ij")
    tower.pos_embed.weight += STREAM * (r.reshape(-1, 1) * v[0] + c.reshape(-1, 1) * v[1])


def lead_merger(net, frames, cells):
    """cells: f32 [n * cells, 2], row and column of every merged token. Hidden units of the merger in pairs that differ in
    sign: what they carry is linear, gelu(z) - gelu(-z) = z."""
    merger = net.model.visual.merger
    _, last = blocks(net, frames, None)
    x = merger.norm(last).reshape(-1, 4 * last.shape[-1])
    hidden = F.gelu(merger.linear_fc1(x))
    matter = hidden.std(0) * merger.linear_fc2.weight.norm(dim=0)
    spare = matter.argsort()[:4]
    w, b = ridge(x.double(), cells.double(), 1e-4)
    out = faintest(merger.linear_fc2(hidden), 2)
    merger.linear_fc2.bias += merger.linear_fc2.weight[:, spare] @ hidden[:, spare].mean(0)
    for i in range(2):
        for sign, unit in ((1, spare[2 * i]), (-1, spare[2 * i + 1])):
            merger.linear_fc1.weight[unit] = sign * w[:, i].float()
            merger.linear_fc1.bias[unit] = sign * b[i].float()
            merger.linear_fc2.weight[:, unit] = sign * LOUD * out[i]
    said = x.double() @ w + b
    print("place through the merger: R2 %.3f, least units mattered %.3f of %.3f" % (
        1 - ((said - cells) ** 2).mean() / cells.var(), matter[spare].max(), matter.median()))


def lead_strokes(net, pixels):
    """pixels: f32 [n, 3 * 256], patches of text. The mean of what they are embedded as stays."""
    proj = net.model.visual.patch_embed.proj
    kernel = proj.weight.sum(2).flatten(1)
    n = len(kernel)
    flat = torch.eye(n) - 1 / n                            # the norms take the mean away
    power, axes = torch.linalg.eigh(flat @ torch.cov(kernel @ pixels.T) @ flat)
    gain = (STROKES / power.clamp_min(1e-12).sqrt()).clamp(1, 20)
    gain[0] = 1                                            # the mean itself
    change = (axes * (gain - 1)) @ axes.T
    proj.bias -= change @ kernel @ pixels.mean(0)
    proj.weight += torch.einsum("ij,jklmn->iklmn", change, proj.weight)


def lead_facts(net, frames, facts, known):
    """facts [n * cells, k] to be had of merged tokens where known is true."""
    merger = net.model.visual.merger
    merged, _, _ = see(net, frames)
    merged = merged.reshape(-1, merged.shape[-1])
    half = torch.arange(len(merged)) % 4 != 0
    train, held = known & half, known & ~half
    w, b = ridge(merged[train].double(), facts[train].double(), 1e-3)
    said = merged.double() @ w + b
    r2 = 1 - ((said - facts)[held] ** 2).mean(0) / facts[held].double().var(0)
    print("facts of merged tokens: R2 of boxes %s, of codes %.2f" % (r2[:4].numpy().round(3), r2[4:4 + CODES].mean()))
    out = faintest(merged, facts.shape[1])
    w, b = w.float() * LOUD, b.float() * LOUD
    change = torch.eye(merged.shape[1]) + out.T @ w.T
    merger.linear_fc2.bias.copy_(change @ merger.linear_fc2.bias + out.T @ b)
    merger.linear_fc2.weight.copy_(change @ merger.linear_fc2.weight)


def codes(tokenizer, gallery, table):
    """[classes, CODES]: principal components of the words of every name."""
    ids = word_table(tokenizer, gallery)
    real = (ids >= 0)[..., None]
    names = F.normalize(((F.embedding(ids.clamp_min(0), table) * real).sum(2) / real.sum(2)).mean(0), dim=1)
    active = names[sorted(set(gallery.active))]
    axes = torch.linalg.svd(active - active.mean(0), full_matrices=False)[2][:CODES]
    out = (names - active.mean(0)) @ axes.T
    return out / out[sorted(set(gallery.active))].std(0)


def text_patches(folder):
    rng = np.random.default_rng(1)
    pool = see_lines.Pool(folder, rng, 4)
    pool.look()
    frames = [s["frames"][0] for _ in range(500) for s in see_lines.samples(rng, pool.batch(1, "line"))]
    rows = torch.cat([patches(torch.from_numpy(f)[None])[0] for f in frames])
    return rows[rows.std(1) > .2]


def lead_scenes(net, maker, tokenizer, count):
    gallery = maker.gallery((1,), see_scene.STYLES)
    pictures = gather(maker, gallery, count, see_scene.SIDE)
    frames = torch.from_numpy(np.stack([p.pixels for p in pictures]))
    n = see_scene.SIDE // CELL
    code = codes(tokenizer, gallery, net.model.language_model.embed_tokens.weight)
    tints = list(see_scene.COLOURS)
    facts, known = torch.zeros(len(pictures), n * n, 4 + CODES + len(tints)), torch.zeros(len(pictures), n * n, dtype=torch.bool)
    for i, p in enumerate(pictures):
        for thing, cells in zip(p.things, owners(p.things, n, n, CELL)[0]):
            facts[i, cells, :4] = torch.tensor(thing.box, dtype=torch.float32) / see_scene.SIDE
            facts[i, cells, 4:4 + CODES] = code[thing.index]
            if thing.colour:
                facts[i, cells, 4 + CODES + tints.index(thing.colour)] = 1
            known[i, cells] = True
    facts, known = facts.flatten(0, 1), known.flatten()
    facts = (facts - facts[known].mean(0)) / (facts[known].std(0) + 1e-3)
    at = torch.stack(torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij"), -1).reshape(-1, 2).float() - (n - 1) / 2
    lead_position(net, frames)
    lead_merger(net, frames, (at / at.std(correction=0)).repeat(len(pictures), 1))
    lead_facts(net, frames, facts, known)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sprites")
    parser.add_argument("--pool", type=Path, help="what see_lines.py makes")
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=900)
    args = parser.parse_args()
    torch.set_num_threads(1)
    tokenizer = load_tokenizer(args.tokenizer)
    net, state = build(tokenizer), torch.load(args.state)
    net.load_state_dict(state["net"])
    params = list(net.parameters())
    for p, e in zip(params, state["ema"]):
        p.data.copy_(e)
    net.requires_grad_(False)
    if args.pool:
        lead_strokes(net, text_patches(args.pool))
    else:
        lead_scenes(net, Maker(args.sprites, args.tokenizer, 10 ** 6 + 5), tokenizer, args.pictures)
    state["net"] = net.state_dict()
    state["ema"][:len(params)] = [p.detach().clone() for p in params]
    torch.save(state, args.out)


if __name__ == "__main__":
    main()
