# SPDX-License-Identifier: MIT
"""Teach the decoder to be kind to what the UNet draws: its latents are a little noisy, and a decoder that
has only seen exact ones shows that as grain on plain grounds. Half of every batch are exact latents, half
the UNet's guess (guidance 2) from a noised scene whose exact picture is known. Run when the UNet is done.

    python tune_decoder.py --draw RUN --vae VAE --tokenizer TOKENIZER --sprites SPRITES --out TUNED --minutes 5
"""
import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from transformers import CLIPTokenizer

from art import Painter, load_concepts
from linear_vae import encode
from train_decoder import loss_of, to_tensor
from train_draw import assemble, scheduler, wear

KINDS = ("single", "single", "single", "two", "three", "beside", "above")


class World:
    """Scenes with captions, and the artist's guesses at them."""

    def __init__(self, args, vae):
        self.painter = Painter(args.sprites, load_concepts((1,)), styles=("3d",), shake=0)
        self.basis = dict(np.load(args.vae / "basis.npz"))
        self.tokenizer = CLIPTokenizer.from_pretrained(args.tokenizer)
        saved = torch.load(args.draw / "state.pt")
        self.both = assemble(args, saved["shape"], vae, self.tokenizer).eval()
        wear(self.both, saved["ema"])
        self.alphas = scheduler().alphas_cumprod

    def scenes(self, rng, count):
        return [self.painter.sample(rng, kind=KINDS[int(rng.integers(len(KINDS)))]) for _ in range(count)]

    def words(self, captions):
        length = self.tokenizer.model_max_length
        ids = self.tokenizer(captions, padding="max_length", max_length=length, truncation=True).input_ids
        return self.both.text(torch.tensor(ids)).last_hidden_state

    @torch.no_grad()
    def guesses(self, scenes, z):
        """What the UNet makes of z in one step from a time between 50 and 700."""
        times = torch.randint(50, 700, (len(z),))
        a = self.alphas[times].view(-1, 1, 1, 1)
        x = a.sqrt() * z + (1 - a).sqrt() * torch.randn_like(z)
        words = self.words([""] * len(z) + [s.caption for s in scenes])
        free, bound = self.both.unet(torch.cat([x, x]), torch.cat([times, times]), words).sample.chunk(2)
        return a.sqrt() * x - (1 - a).sqrt() * (free + 2 * (bound - free))


def measure(world, vae, scenes, latents):
    """(PSNR of exact latents decoded, PSNR of drawn ones)"""
    truth = to_tensor(np.stack([s.picture for s in scenes]))
    with torch.no_grad():
        made = [vae.decode(z).sample.clamp(-1, 1) for z in latents]
    return tuple(float((-10 * torch.log10(((m - truth) / 2).square().mean((1, 2, 3)))).mean()) for m in made)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draw", type=Path, required=True)
    parser.add_argument("--vae", type=Path, required=True)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--sprites", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=5, help="of processor time")
    parser.add_argument("--lr", type=float, default=4e-4)
    parser.add_argument("--held", type=int, default=12, help="scenes to measure on")
    args = parser.parse_args()
    torch.set_num_threads(1)
    vae = AutoencoderKL.from_pretrained(args.vae).to(memory_format=torch.channels_last)
    world, rng = World(args, vae), np.random.default_rng(time.time_ns())
    held = world.scenes(np.random.default_rng(31337), args.held)
    exact = encode(world.basis, np.stack([s.picture for s in held]))
    steps, x = scheduler(), torch.randn(len(held), *exact.shape[1:], generator=torch.Generator().manual_seed(3))
    steps.set_timesteps(10)
    with torch.no_grad():
        words = world.words([""] * len(held) + [s.caption for s in held])
        for t in steps.timesteps:
            free, bound = world.both.unet(torch.cat([x, x]), t, words).sample.chunk(2)
            x = steps.step(free + 2 * (bound - free), t, x).prev_sample
    print("psnr before: exact %.2f, drawn %.2f" % measure(world, vae, held, (exact, x)), flush=True)
    params = [*vae.decoder.parameters(), *vae.post_quant_conv.parameters()]
    optimizer = torch.optim.AdamW(params, lr=args.lr, betas=(.9, .99), weight_decay=1e-4)
    begun, step, total = time.process_time(), 0, 0.0
    while (part := (time.process_time() - begun) / (60 * args.minutes)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = args.lr * min(1, (step + 1) / 20) * (.02 + .98 * .5 * (1 + math.cos(math.pi * part)))
        scenes = world.scenes(rng, 4)
        pictures = np.stack([s.picture for s in scenes])
        z, target = encode(world.basis, pictures), to_tensor(pictures)
        guessed = world.guesses(scenes, z)
        rows, wanted = [], []
        for k in range(4):
            for latent in (z, guessed):
                y, x0 = (int(v) for v in rng.integers(0, 9, 2))
                rows.append(latent[k, :, y:y + 8, x0:x0 + 8])
                wanted.append(target[k, :, 8 * y:8 * y + 64, 8 * x0:8 * x0 + 64])
        made = vae.decode(torch.stack(rows).contiguous(memory_format=torch.channels_last)).sample
        loss = loss_of(made, torch.stack(wanted))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        optimizer.step()
        step, total = step + 1, total + loss.item()
        if step % 20 == 0:
            print("step %d  %.1f min  loss %.4f" % (step, part * args.minutes, total / 20), flush=True)
            total = 0.0
    print("psnr after: exact %.2f, drawn %.2f" % measure(world, vae, held, (exact, x)), flush=True)
    vae.save_pretrained(args.out)


if __name__ == "__main__":
    main()
