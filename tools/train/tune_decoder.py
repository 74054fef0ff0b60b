# SPDX-License-Identifier: MIT
"""Teach the decoder to paint what the UNet meant. The UNet's latents are a little wrong, and a decoder that has seen
exact ones only shows that as soft edges and mottled grounds; what it should have drawn is known, so the decoder learns
from the pairs of draw_pairs.py, beside exact latents of every thing, style and some photographs, which it must still
decode as they are. The loss is the absolute error of shades and of the steps between neighbours, square for what the
eye does not see: mean squares alone blur what is in doubt. First crops, then whole pictures.

    python tune_decoder.py --vae models/mini-draw/vae --widths 16,32,128,256 --pairs PAIRS --sprites SPRITES \\
        --photos PHOTOS --out TUNED --minutes 40        # without --widths it goes on from the decoder as it is
"""
import argparse
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from PIL import Image

from art import SIZE, STYLES, Painter, load_concepts
from linear_vae import basis_of, build, encode, write_encoder
from train_decoder import batch_of, to_tensor
from train_draw import strip_names
from train_upscale import Muon, photo_crop

HELD = 64          # pairs of the first shard that are measured on, never learnt
KNEES = .08, .016  # of 2: shades nearer than this pull with the square of their distance; shapes first, then flat grounds
CROP = 80          # px


def loss_of(made, truth, knee):
    total = F.smooth_l1_loss(made, truth, beta=knee)
    for dim in (2, 3):
        total = total + F.smooth_l1_loss(made.diff(dim=dim), truth.diff(dim=dim), beta=knee)
    return total


class Stock:
    """What is learnt from: pairs, and scenes and photographs whose exact latents a matrix product gives."""

    def __init__(self, args, basis):
        self.basis, self.folder, self.paths = basis, args.pairs, []
        self.read()
        self.painter = Painter(args.sprites, load_concepts((1, 2, 3)))
        self.photos = sorted(args.photos.iterdir()) if args.photos else []

    def read(self):
        """All shards there are by now."""
        paths = sorted(self.folder.glob("*.pt"), key=lambda p: int(p.stem))
        if paths != self.paths:
            shards = [torch.load(p) for p in paths]
            self.latents = torch.cat([s["latents"] for s in shards])
            self.pictures = torch.cat([s["pictures"] for s in shards])
            self.kinds = [k for s in shards for k in s["kinds"]]
            self.paths = paths
            wrong = torch.stack([(z.float() - encode(self.basis, x[None].numpy())[0]).square().mean()
                                 for z, x in zip(self.latents[HELD:], self.pictures[HELD:])]).sqrt().numpy()
            self.often = wrong / wrong.sum()       # what is drawn worst is learnt most

    def drawn(self, rng, count, side):
        """Crops of drawn latents, now and then part of the way to the exact ones."""
        n, latents, targets = side // 8, [], []
        rows = HELD + rng.choice(len(self.often), count, p=self.often)
        for row in rows.tolist():
            y, x = (int(v) for v in rng.integers(0, SIZE // 8 - n + 1, 2))
            latents.append(self.latents[row, :, y:y + n, x:x + n].float())
            targets.append(self.pictures[row, 8 * y:8 * y + side, 8 * x:8 * x + side].numpy())
        exact, share = encode(self.basis, np.stack(targets)), torch.ones(count, 1, 1, 1)
        some = torch.rand(count) < .25
        share[some] = torch.rand(int(some.sum()), 1, 1, 1)
        return torch.lerp(exact, torch.stack(latents), share), to_tensor(np.stack(targets))

    def photographed(self, rng, side):
        picture = np.asarray(photo_crop(self.photos, rng, side))[None]
        return encode(self.basis, picture), to_tensor(picture)

    def batch(self, rng, count, side):
        others = count // 4
        parts = [self.drawn(rng, count - others, side), batch_of(self.painter, self.basis, rng, others - 1, side),
                 self.photographed(rng, side) if self.photos else batch_of(self.painter, self.basis, rng, 1, side)]
        z, x = (torch.cat(p) for p in zip(*parts))
        return z.contiguous(memory_format=torch.channels_last), x


class Measure:
    """PSNR on fixed pictures: what was drawn (by kind and ground), its exact latents, the other styles, photographs."""

    def __init__(self, args, stock):
        self.sets = {"drawn": (stock.latents[:HELD].float(), stock.pictures[:HELD].numpy())}
        self.sets["exact 3d"] = encode(stock.basis, self.sets["drawn"][1]), self.sets["drawn"][1]
        rng = np.random.default_rng(31337)
        for style in STYLES[:2]:
            pictures = np.stack([stock.painter.sample(rng, style=style).picture for _ in range(24)])
            self.sets["exact " + style] = encode(stock.basis, pictures), pictures
        if args.photos_held:
            pictures = np.stack([np.asarray(photo_crop(sorted(args.photos_held.iterdir()), rng, SIZE)) for _ in range(8)])
            self.sets["exact photographs"] = encode(stock.basis, pictures), pictures
        self.kinds = stock.kinds[:HELD]

    @torch.inference_mode()
    def __call__(self, vae, path=None):
        lines, groups = [], {}
        for name, (z, pictures) in self.sets.items():
            made = torch.cat([vae.decode(part.contiguous(memory_format=torch.channels_last)).sample for part in z.split(8)])
            made = made.clamp(-1, 1)
            psnr = -10 * torch.log10(((made - to_tensor(pictures)) / 2).square().mean((1, 2, 3)))
            lines.append("%s %.2f" % (name, psnr.mean()))
            if name == "drawn":
                for value, (kind, size, colour, _) in zip(psnr.tolist(), self.kinds):
                    groups.setdefault(kind if size == "normal" else size, []).append(value)
                    groups.setdefault("on " + colour, []).append(value)
                if path:
                    rows = torch.cat([torch.cat(list(r), 2) for r in made.split(8)], 1)
                    Image.fromarray(((rows + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()).save(path)
        detail = ", ".join("%s %.1f" % (k, np.mean(v)) for k, v in sorted(groups.items()))
        return "psnr: " + ", ".join(lines) + "\n      drawn: " + detail


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vae", type=Path, required=True)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--sprites", required=True)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--photos-held", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--widths", help="widen the decoder to multiples of what it has, from 128 to 16 px")
    parser.add_argument("--minutes", type=float, default=40, help="of processor time")
    parser.add_argument("--whole", type=float, default=.4, help="last share of the budget on whole pictures")
    parser.add_argument("--batch", type=int, default=24, help="crops; of whole pictures half as many")
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--cool", type=float, default=.5, help="last share of the budget with falling rate")
    parser.add_argument("--bf16", action="store_true", help="for processors with bf16 dot products")
    parser.add_argument("--export", type=Path, help="write what was learnt into this model's folder, f16, and end")
    return parser.parse_args()


@torch.no_grad()
def widen(old, new):
    """Write the decoder `old` into the wider `new` (each width a multiple): every channel comes several times, and who
    reads it divides its weight among the copies by chance. The picture stays the same, the copies part when trained."""
    kept = old.state_dict()
    for name, slot in new.state_dict().items():
        value = kept[name]
        if value.ndim > 1 and slot.shape[1] != value.shape[1]:
            times = slot.shape[1] // value.shape[1]
            shares = torch.rand(slot.shape[0], value.shape[1], times, *[1] * (value.ndim - 2)) + .5
            shares = shares / shares.sum(2, keepdim=True)
            value = value.repeat_interleave(slot.shape[0] // value.shape[0], 0)
            value = (value.unsqueeze(2) * shares).flatten(1, 2)
        elif slot.shape[0] != value.shape[0]:
            value = value.repeat_interleave(slot.shape[0] // value.shape[0], 0)
        if ".to_q." in name:
            value = value / (len(slot) / len(kept[name])) ** .5      # attention divides by the root of its width
        slot.copy_(value)


def begin(args, basis):
    old = AutoencoderKL.from_pretrained(args.vae).float()
    if not args.widths:
        return old
    vae = build(tuple(int(w) for w in args.widths.split(",")))
    write_encoder(vae, basis)
    widen(old.decoder, vae.decoder)
    vae.post_quant_conv.load_state_dict(old.post_quant_conv.state_dict())
    return vae


class Teacher:
    """The decoder's optimizers: Muon for kernels, Adam for all else, both at one rate."""

    def __init__(self, vae, lr, bf16):
        decoder = vae.decoder
        ends = {id(p) for m in (decoder.conv_in, decoder.conv_out) for p in m.parameters()}
        self.params = [*decoder.parameters(), *vae.post_quant_conv.parameters()]
        kernels = [p for p in decoder.parameters() if p.ndim > 1 and id(p) not in ends]
        taken = {id(p) for p in kernels}
        self.muon, self.lr = Muon(kernels, bf16), lr
        self.adam = torch.optim.AdamW([p for p in self.params if id(p) not in taken], lr=lr, betas=(.9, .98), weight_decay=0)

    def step(self, loss, rate):
        for p in self.params:
            p.grad = None
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.params, 1.0)
        self.adam.param_groups[0]["lr"] = rate
        self.adam.step()
        self.muon.step(rate)

    def state(self):
        return {"adam": self.adam.state_dict(), "momentum": self.muon.momentum}

    def load(self, state):
        self.adam.load_state_dict(state["adam"])
        self.muon.momentum = state["momentum"]


def main():
    args = parse()
    torch.set_num_threads(1)
    torch.manual_seed(5)
    args.out.mkdir(parents=True, exist_ok=True)
    basis = basis_of(args.vae)
    vae = begin(args, basis).to(memory_format=torch.channels_last)
    teacher, state, spent, step = Teacher(vae, args.lr, args.bf16), args.out / "tune.pt", 0.0, 0
    if state.exists():
        saved = torch.load(state)
        vae.load_state_dict(saved["vae"])
        teacher.load(saved["teacher"])
        spent, step = saved["spent"], saved["step"]
    if args.export:
        write_encoder(vae, basis)
        vae.half().save_pretrained(args.export / "vae")
        (args.export / "vae" / "diffusion_pytorch_model.safetensors").chmod(0o644)
        strip_names(args.export)
        return
    stock = Stock(args, basis)
    measure, rng = Measure(args, stock), np.random.default_rng([7, step])
    print("%d pairs; decoder %.2f M\nbefore, %s" % (
        len(stock.latents), sum(p.numel() for p in teacher.params) / 1e6, measure(vae)), flush=True)

    def keep():
        torch.save({"vae": vae.state_dict(), "teacher": teacher.state(), "spent": spent, "step": step}, args.out / "part")
        os.replace(args.out / "part", state)
        vae.save_pretrained(args.out / "vae")
        print("%.1f min, %s" % (spent / 60, measure(vae, args.out / "held.png")), flush=True)

    begun = time.process_time() - spent
    told = shown = spent
    total, since = 0.0, 0
    while (part := spent / (60 * args.minutes)) < 1:
        rate = args.lr * min(1, (step + 1) / 50, .01 + (1 - part) / args.cool)
        whole = part > 1 - args.whole
        z, x = stock.batch(rng, args.batch // 2 if whole else args.batch, SIZE if whole else CROP)
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
            made = vae.decode(z).sample
        loss = loss_of(made.float(), x, KNEES[whole])
        teacher.step(loss, rate)
        step, since, total = step + 1, since + 1, total + loss.item()
        spent = time.process_time() - begun
        if spent - told > 60:
            print("step %d  %.1f min  loss %.4f" % (step, spent / 60, total / since), flush=True)
            told, total, since = spent, 0.0, 0
        if spent - shown > 300:
            shown = spent
            keep()
            stock.read()
    keep()


if __name__ == "__main__":
    main()
