# SPDX-License-Identifier: MIT
"""Go on teaching the text encoder and the UNet of an exported mini-draw together, where what the words say falls short.

At t = 999 the UNet sees nothing but noise: what it paints there is what it makes of the words, and nearly all that is
wrong after twenty steps is wrong then. So half of its samples are of that time and the rest of all times. Beside them
stand captions that only the text encoder sees, read by a linear reader (fitted again, the export does not hold it) at
a fifth of the price: they teach the words, the UNet's samples keep the language that it understands. What stands out
little from its ground (a skull on white, strings of balloons) weighs more than its squares would give it. `--ff`
widens the text encoder's hidden layers first, with neurons that are silent until taught.

    python make_latents.py ... --mix single=.25,big=.3,... --grounds white=.25,black=.12,...   # what is drawn worst
    python tune_words.py --model models/mini-draw --latents LATENTS --sprites SPRITES --out WORDS --minutes 60 --bf16
    python tune_words.py --model models/mini-draw --out WORDS --export models/mini-draw        # the EMA, and end
"""
import argparse
import os
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from diffusers.models.attention_processor import AttnProcessor
from transformers import CLIPTokenizer

from art import Painter, load_concepts
from draw_pairs import scenes_of
from linear_vae import basis_of, encode
from train_draw import CELLS, FIRST, export, from_export, hear, load_shards, noised, ridge, scheduler, wear

HELD = (("all", 128, {}), ("big", 32, {"size": "big"}), ("on black", 32, {"colour": "black"}),
        ("on light blue", 32, {"colour": "light blue"}), ("three", 32, {"kind": "three"}))
PALE = "panda", "cup of coffee", "castle", "cloud", "snowman", "light bulb", "skull", "robot", "rocket", "soccer ball"


def widen(text, ff):
    """The hidden layers of the text encoder to ff neurons; the new ones hear at random and say nothing yet."""
    if text.config.intermediate_size >= ff:
        return
    for layer in text.text_model.encoder.layers if hasattr(text, "text_model") else text.encoder.layers:
        old, wide = layer.mlp, torch.nn.Linear(text.config.hidden_size, ff)
        said = torch.nn.Linear(ff, text.config.hidden_size)
        had = old.fc1.out_features
        with torch.no_grad():
            wide.weight.mul_(old.fc1.weight.std() / wide.weight.std())
            wide.weight[:had], wide.bias[:had] = old.fc1.weight, old.fc1.bias
            said.weight.zero_()
            said.weight[:, :had] = old.fc2.weight
            said.bias.copy_(old.fc2.bias)
        old.fc1, old.fc2 = wide, said
    text.config.intermediate_size = ff


def cell_codes(reader, latents):
    """The small codes whose picture is nearly the latents: [n, cells, 16 c]."""
    small = torch.linalg.solve(reader.canvas @ reader.canvas.t() + torch.eye(256), reader.canvas)
    n, c = latents.shape[:2]
    return (latents.reshape(-1, 256) @ small.t()).view(n, c, CELLS, 16).transpose(1, 2).flatten(2)


def refit(both, latents, ids, count=3072, rounds=300):
    """The reader by least squares on the codes, then by its own measure, the picture."""
    reader, rows = both.reader, torch.randperm(len(latents))[:count]
    x = latents[rows].float()
    with torch.no_grad():
        tokens = torch.cat([hear(both.text, part) for part in ids[rows, 0].long().split(64)])
        flat = torch.cat([tokens.flatten(0, 1), torch.ones(count * CELLS, 1)], 1)
        best = ridge(flat, cell_codes(reader, x).flatten(0, 1), torch.ones(len(flat)), 1e-4)
        reader.weight.copy_(best[:-1].t())
        reader.bias.copy_(best[-1])
    optimizer = torch.optim.Adam(reader.parameters(), lr=2e-3)
    for step in range(rounds):
        optimizer.param_groups[0]["lr"] = 2e-3 * (1 - step / rounds)
        some = torch.randint(0, count, (96,))
        error, fine = reader.apart(reader(tokens[some])[1], x[some])
        optimizer.zero_grad()
        (error + fine).backward()
        optimizer.step()
    print("reader fitted: %.4f" % error.item(), flush=True)


class Measure:
    """Mean square error of latents that the UNet paints in one step from noise, by kind of scene."""

    def __init__(self, args, tokenizer, basis):
        concepts = load_concepts((1,))
        painter = Painter(args.sprites, concepts, styles=("3d",), shake=0)
        rng, self.parts, scenes = np.random.default_rng(31337), {}, []
        for name, count, fixed in HELD:
            self.parts[name] = slice(len(scenes), len(scenes) + count)
            scenes += list(scenes_of(painter, rng, count)) if not fixed else [
                painter.sample(rng, **{"kind": "single", **fixed}) for _ in range(count)]
        pale = [c.index for c in concepts if c.name in PALE]
        self.parts["pale on white"] = slice(len(scenes), len(scenes) + 2 * len(pale))
        scenes += [painter.sample(rng, kind="single", index=i, colour="white") for i in pale * 2]
        self.exact = encode(basis, np.stack([s.picture for s in scenes]))
        self.ids = torch.tensor(tokenizer([s.caption for s in scenes], padding="max_length", truncation=True,
                                          max_length=tokenizer.model_max_length).input_ids)
        self.noise = torch.randn(self.exact.shape, generator=torch.Generator().manual_seed(3))

    @torch.inference_mode()
    def __call__(self, both, bf16):
        errors = []
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            for ids, noise, exact in zip(self.ids.split(32), self.noise.split(32), self.exact.split(32)):
                x = noise.contiguous(memory_format=torch.channels_last)
                made = -both.unet(x, 999, both.text(ids).last_hidden_state).sample.float()       # v is -x there
                errors += (made - exact).square().mean((1, 2, 3)).tolist()
        return ", ".join("%s %.4f" % (name, np.mean(errors[part])) for name, part in self.parts.items())


def weights_of(latents):
    """How much each scene weighs: what differs little from its ground (its corner) more, on average 1."""
    x = latents.float()
    contrast = (x - x[:, :, :1, :1]).square().mean((1, 2, 3))
    weight = (contrast.mean() / contrast).sqrt().clamp(.5, 3)
    return weight / weight.mean()


class Lessons:
    """Batches for both: UNet samples first, then captions alone."""

    def __init__(self, args, tokenizer):
        self.args, self.alphas = args, scheduler().alphas_cumprod
        self.latents, self.ids = load_shards(args.latents)
        self.weights = weights_of(self.latents)
        self.blank = torch.tensor(tokenizer("", padding="max_length", max_length=tokenizer.model_max_length).input_ids)
        self.order = torch.empty(0, dtype=torch.long)

    def batch(self):
        n, size = self.args.batch, self.args.batch + self.args.captions
        if len(self.order) < size:
            self.order = torch.randperm(len(self.latents))
        rows, self.order = self.order[:size], self.order[size:]
        ids = self.ids[rows, torch.randint(self.ids.shape[1], (size,))].long()
        empty = torch.rand(n) < .05
        ids[:n][empty] = self.blank
        x, weight = self.latents[rows].float(), self.weights[rows]
        weight[:n][empty] = 1
        times = (1000 * (torch.randperm(n) + torch.rand(n)) / n).long().clamp_max(999)           # stratified
        times[torch.rand(n) < self.args.blind] = 999
        return x, ids, weight, times, *noised(x[:n], times, self.alphas)


def loss_of(both, args, lesson):
    """(loss, error at t = 999, error of the words alone)"""
    x, ids, weight, times, noisy, target = lesson
    n = args.batch
    with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
        tokens = both.text(ids[:n]).last_hidden_state
        made = both.unet(noisy, times, tokens).sample
        cells = torch.cat([tokens[:, FIRST:], hear(both.text, ids[n:])]) if args.captions else tokens[:, FIRST:]
    error = (made.float() - target).square().mean((1, 2, 3))
    spoken = ids[:, 1] != ids[:, -1]
    scale = weight[spoken].sqrt().view(-1, 1, 1, 1)
    said, fine = both.reader.apart(both.reader(cells.float()[spoken])[1] * scale, x[spoken] * scale)
    blind = (times == 999) & spoken[:n]
    return (weight[:n] * error).mean() + args.read * (said + fine), error[blind].mean(), said


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="an exported folder to begin from")
    parser.add_argument("--latents")
    parser.add_argument("--sprites")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--ff", type=int, default=2048)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--cool", type=float, default=.5, help="last share of the budget with falling rate")
    parser.add_argument("--batch", type=int, default=16, help="samples through the UNet")
    parser.add_argument("--captions", type=int, default=64, help="captions for the text encoder alone")
    parser.add_argument("--blind", type=float, default=.5, help="share of the UNet's samples at t = 999")
    parser.add_argument("--read", type=float, default=1.0, help="weight of the picture read from the words alone")
    parser.add_argument("--lr", type=float, default=7e-4, help="of the text encoder")
    parser.add_argument("--unet-share", type=float, default=.4, help="the UNet's share of the rate")
    parser.add_argument("--ema", type=float, default=.985)
    parser.add_argument("--bf16", action="store_true", help="for processors with bf16 dot products")
    parser.add_argument("--export", type=Path)
    return parser.parse_args()


class Run:
    """What is learnt, and where it stands."""

    def __init__(self, args):
        self.args, self.spent, self.step = args, 0.0, 0
        self.both = from_export(args.model)
        widen(self.both.text, args.ff)
        self.both.text.set_attn_implementation("eager")               # torch's own is slow backward in bf16
        self.both.unet.set_attn_processor(AttnProcessor())
        unet, words = [*self.both.unet.parameters()], [*self.both.text.parameters(), *self.both.reader.parameters()]
        self.optimizer = torch.optim.AdamW([{"params": words, "share": 1.0}, {"params": unet, "share": args.unet_share}],
                                           lr=args.lr, betas=(.9, .98), weight_decay=0, fused=True)
        path = args.out / "words.pt"
        self.saved = torch.load(path) if path.exists() else None
        if self.saved:
            self.both.load_state_dict(self.saved["model"])
            self.optimizer.load_state_dict(self.saved["optimizer"])
            self.spent, self.step = self.saved["spent"], self.saved["step"]

    def begin(self):
        """The moving averages, once the reader is fitted."""
        self.ema = self.saved["ema"] if self.saved else [p.detach().clone() for p in self.both.parameters()]
        self.easel = from_export(self.args.model).eval()
        widen(self.easel.text, self.args.ff)

    def learn(self, lesson):
        part = self.spent / (60 * self.args.minutes)
        rate = self.args.lr * min(1, (self.step + 1) / 100, .005 + (1 - part) / self.args.cool)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["share"]
        loss, blind, said = loss_of(self.both, self.args, lesson)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.both.parameters(), 1.0, foreach=True)
        self.optimizer.step()
        self.step += 1
        with torch.no_grad():
            decay = min(self.args.ema, (1 + self.step) / (10 + self.step))
            torch._foreach_lerp_(self.ema, [p.detach() for p in self.both.parameters()], 1 - decay)
        return blind.item(), said.item()

    def keep(self, measure):
        torch.save({"model": self.both.state_dict(), "ema": self.ema, "optimizer": self.optimizer.state_dict(),
                    "spent": self.spent, "step": self.step}, self.args.out / "part")
        os.replace(self.args.out / "part", self.args.out / "words.pt")
        wear(self.easel, self.ema)
        print("step %d  %.1f min (%.1f of processor)  %s" % (
            self.step, self.spent / 60, time.process_time() / 60, measure(self.easel, self.args.bf16)), flush=True)


def main():
    args = parse()
    torch.set_num_threads(1)
    torch.manual_seed(time.time_ns())
    args.out.mkdir(parents=True, exist_ok=True)
    tokenizer = CLIPTokenizer.from_pretrained(args.model, subfolder="tokenizer")
    run = Run(args)
    if args.export:
        vae = AutoencoderKL.from_pretrained(args.model, subfolder="vae")
        wear(run.both, run.saved["ema"])
        export(run.both, vae, Path(args.model) / "tokenizer", args.export)
        return
    lessons, measure = Lessons(args, tokenizer), Measure(args, tokenizer, basis_of(Path(args.model) / "vae"))
    if not run.saved:
        refit(run.both, lessons.latents, lessons.ids)
    run.begin()
    run.keep(measure)
    last, told, sums, count = time.time(), run.spent, np.zeros(2), 0
    while run.spent < 60 * args.minutes:
        got = run.learn(lessons.batch())
        if np.isfinite(got[0]):
            sums, count = sums + got, count + 1
        run.spent, last = run.spent + time.time() - last, time.time()
        if run.spent - told > 120:
            print("  at 999 %.4f, words %.4f" % tuple(sums / max(1, count)))
            told, sums, count = run.spent, np.zeros(2), 0
            run.keep(measure)
    run.keep(measure)


if __name__ == "__main__":
    main()
