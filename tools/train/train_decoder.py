# SPDX-License-Identifier: MIT
"""Train the decoder half of mini-draw's autoencoder against the fixed linear encoder (linear_vae.py).

Scenes are painted on the fly and projected by a matrix product; the network sees crops of the latents,
slightly noised so that it forgives what the UNet gets wrong, and learns to paint them back: L1 and some
MSE at four scales, and L1 of the finite differences (edges). The last part of the run sees whole
pictures, so that the attention in the middle knows the size it works at. Since the encoder never moves,
this may run before, beside or after the UNet, and again at any time. Workers share the parameters without
locks, as in train_draw.py. The learning rate follows the clock; RUN/decoder.pt resumes.

    python train_decoder.py --sprites SPRITES --vae VAE --out RUN --minutes 20      # updates VAE at the end
"""
import argparse
import math
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.multiprocessing as mp
import torch.nn.functional as F
from diffusers import AutoencoderKL
from PIL import Image

from art import SIZE, Painter, load_concepts
from linear_vae import basis_of, encode


def loss_of(rebuilt, target):
    total = 0
    for level in range(4):
        total = total + F.l1_loss(rebuilt, target) + .5 * F.mse_loss(rebuilt, target)
        for dim in (2, 3):
            total = total + F.l1_loss(rebuilt.diff(dim=dim), target.diff(dim=dim))
        if level < 3:
            rebuilt, target = F.avg_pool2d(rebuilt, 2), F.avg_pool2d(target, 2)
    return total


def to_tensor(pictures):
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def batch_of(painter, basis, rng, count, side):
    """(latents, target) crops of side px aimed at things; two crops from each scene below full size."""
    latents, targets = [], []
    while len(latents) < count:
        scene = painter.sample(rng)
        z = encode(basis, scene.picture[None])[0]
        for _ in range(1 if side == SIZE else 2):
            x0, y0, x1, y1 = scene.boxes[int(rng.integers(len(scene.boxes)))]
            x, y = (int(np.clip((c - side / 2) // 8, 0, (SIZE - side) // 8))
                    for c in (rng.uniform(x0, x1), rng.uniform(y0, y1)))
            n = side // 8
            latents.append(z[:, y:y + n, x:x + n])
            targets.append(scene.picture[8 * y:8 * y + side, 8 * x:8 * x + side])
    return torch.stack(latents[:count]), to_tensor(np.stack(targets[:count]))


def show(vae, basis, painter, path):
    """Write truth over rebuilt for fixed held-out scenes; the mean PSNR."""
    rng = np.random.default_rng(99)
    pictures = np.stack([painter.sample(rng).picture for _ in range(24)])
    x = to_tensor(pictures)
    with torch.no_grad():
        rebuilt = vae.decode(encode(basis, pictures)).sample.clamp(-1, 1)
    error = ((rebuilt - x) / 2).square().mean(dim=(1, 2, 3)).clamp_min(1e-10)
    rows = torch.cat([torch.cat(list(r), 2) for pair in zip(x.split(12), rebuilt.split(12)) for r in pair], 1)
    Image.fromarray(((rows + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()).save(path)
    return float((-10 * torch.log10(error)).mean())


def work(rank, args, vae, saved, clock):
    torch.set_num_threads(1)
    torch.manual_seed(time.time_ns() + rank)
    painter = Painter(args.sprites, load_concepts((1, 2, 3)), shake=0)
    basis = basis_of(args.start or args.vae)
    rng = np.random.default_rng(time.time_ns() + rank)
    params = [*vae.decoder.parameters(), *vae.post_quant_conv.parameters()]
    optimizer = torch.optim.AdamW(params, lr=args.lr, betas=(.9, .99), weight_decay=1e-4)
    if saved:
        optimizer.load_state_dict(saved["optimizer"])
    last = time.time()
    shown = told = float(clock[0])
    total, mine, share = 0.0, 0, 0

    def keep():
        part = args.out / "decoder.part"
        torch.save({"vae": vae.state_dict(), "optimizer": optimizer.state_dict(), "clock": clock}, part)
        os.replace(part, args.out / "decoder.pt")
        print("psnr %.2f" % show(vae, basis, painter, args.out / "rebuilt.png"), flush=True)

    while float(clock[0]) < args.minutes * 60:
        part = float(clock[0]) / (args.minutes * 60)
        rate = args.lr * min(1, (float(clock[1]) + 1) / 100) * (.02 + .98 * .5 * (1 + math.cos(math.pi * part)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        side, size = (32, 2 * args.batch) if part < args.small else (64, args.batch)
        if part > 1 - args.whole:
            side, size = SIZE, max(1, args.batch // 4)
        z, x = batch_of(painter, basis, rng, size, side)
        z = z + torch.randn_like(z) * args.noise * torch.rand(size, 1, 1, 1)
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
            made = vae.decode(z.contiguous(memory_format=torch.channels_last)).sample
        loss = loss_of(made.float(), x)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        optimizer.step()
        clock[1] += 1
        mine, share, total = mine + 1, share + 1, total + loss.item()
        if rank:
            continue
        now = time.time()
        clock[0] += now - last
        last = now
        spent = float(clock[0])
        if spent - told > 60 or mine == 5:
            told = spent
            print("step %d  %.1f min  loss %.4f" % (clock[1], spent / 60, total / share), flush=True)
            total, share = 0.0, 0
        if spent - shown > 180:
            shown = spent
            keep()
    if rank == 0:
        keep()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sprites", required=True)
    parser.add_argument("--vae", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--noise", type=float, default=.1)
    parser.add_argument("--small", type=float, default=.3, help="first share of the budget on 32 px crops")
    parser.add_argument("--whole", type=float, default=.1, help="last share of the budget on whole pictures")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--start", type=Path, help="begin with this autoencoder, an exported one say")
    parser.add_argument("--bf16", action="store_true", help="for processors with bf16 dot products")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    vae = AutoencoderKL.from_pretrained(args.start or args.vae).float().to(memory_format=torch.channels_last)
    state = args.out / "decoder.pt"
    saved = torch.load(state) if state.exists() else None
    if saved:
        vae.load_state_dict(saved["vae"])
    clock = saved["clock"] if saved else torch.zeros(2, dtype=torch.float64)      # seconds, steps
    vae.share_memory()
    clock.share_memory_()
    if float(clock[0]) < args.minutes * 60:
        mp.spawn(work, args=(args, vae, saved, clock), nprocs=args.workers)
    vae.save_pretrained(args.vae)


if __name__ == "__main__":
    main()
