# SPDX-License-Identifier: MIT
"""Train mini-draw's UNet and text encoder on stored latents (see make_latents.py).

v-prediction on a scaled-linear schedule rescaled to zero terminal SNR; 10% empty captions for
classifier-free guidance; AdamW, gradient norm 1, EMA that begins short. The learning rate follows the
clock, not the step: warm-up, constant, then linear decay over the last --cool share of --minutes. Every
few minutes the state (weights, EMA, optimizer, clock) and a grid of fixed prompts from fixed noise are
written. Run again with a larger --minutes to go on from RUN/state.pt; new latent shards are picked up.

    python train_draw.py --latents LATENTS --tokenizer TOKENIZER --vae RUN/vae --out RUN --minutes 90
    python train_draw.py ... --export MODEL       # write the EMA as a diffusers folder and end
"""
import argparse
import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import torch
import torch.multiprocessing as mp
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from linear_vae import decode_linear

PROMPTS = (
    "a dog", "a red apple", "a car on a yellow background", "a tree, noto emoji",
    "a big pizza on blue", "a small fish on a light blue background", "two cats", "three stars on black",
    "an apple on the left and a banana on the right", "a rocket, fluent flat", "a guitar, 3d",
    "a house above a car", "an owl on a green background", "a cup of coffee, flat", "a sunflower",
    "a birthday cake on pink", "a skull on a purple background", "a penguin, noto", "a bus", "a camera, flat icon",
    "a butterfly", "a burger on a grey background", "a key", "a rabbit and a carrot")


def scheduler():
    return DDIMScheduler(
        num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
        prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing",
        clip_sample=False, set_alpha_to_one=True, steps_offset=1)


def build_text(tokenizer, width, layers):
    return CLIPTextModel(CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=width, intermediate_size=3 * width, num_hidden_layers=layers,
        num_attention_heads=4, max_position_embeddings=tokenizer.model_max_length, hidden_act="quick_gelu",
        projection_dim=width, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id))


def build_unet(latent, text, widths, attend, layers):
    down = tuple("CrossAttnDownBlock2D" if a == "1" else "DownBlock2D" for a in attend)
    up = tuple("CrossAttnUpBlock2D" if a == "1" else "UpBlock2D" for a in reversed(attend))
    unet = UNet2DConditionModel(
        sample_size=16, in_channels=latent, out_channels=latent, down_block_types=down, up_block_types=up,
        block_out_channels=widths, layers_per_block=layers, cross_attention_dim=text, attention_head_dim=4,
        norm_num_groups=16)
    begin(unet)
    return unet


@torch.no_grad()
def begin(unet):
    """Lead x itself straight to the output as pairs (+x, -x): conv_in, its skip connection, the last
    shortcut, conv_out; silu(x) - silu(-x) = x. At the quiet times v is nearly a multiple of x, so the network
    starts there and need not discover the way. The other weights stay as they are made: silencing the residual
    branches too was tried, and the captions were then not heard for a thousand steps."""
    latent, width = unet.config.in_channels, unet.config.block_out_channels[0]
    lanes = range(2 * latent)
    shortcut = unet.up_blocks[-1].resnets[-1].conv_shortcut
    skip = shortcut.weight.shape[1] - width          # the skip connection is concatenated last
    unet.conv_in.weight[:2 * latent] = 0
    shortcut.weight[:2 * latent] = 0
    torch.nn.init.zeros_(unet.conv_in.bias)
    torch.nn.init.zeros_(shortcut.bias)
    torch.nn.init.zeros_(unet.conv_out.weight)
    torch.nn.init.zeros_(unet.conv_out.bias)
    for lane in lanes:
        sign = 1 if lane % 2 == 0 else -1
        unet.conv_in.weight[lane, lane // 2, 1, 1] = sign
        shortcut.weight[lane, skip + lane] = 1
        unet.conv_out.weight[lane // 2, lane, 1, 1] = .2 * sign


class Both(torch.nn.Module):
    """Text encoder and UNet under one roof: one optimizer, one EMA."""

    def __init__(self, text, unet):
        super().__init__()
        self.text, self.unet = text, unet

    def forward(self, noisy, times, ids, target):
        words = self.text(ids).last_hidden_state
        error = (self.unet(noisy, times, words).sample.float() - target).square().mean(dim=(1, 2, 3))
        return error


def load_shards(folder):
    shards = [torch.load(p) for p in sorted(Path(folder).glob("*.pt"))]
    return torch.cat([s["latents"] for s in shards]), torch.cat([s["ids"] for s in shards])


@torch.inference_mode()
def draw(both, vae, tokenizer, prompts, steps=20, guidance=3.0, seed=0, noise=None, chunk=24, linear=None):
    """[n, 3, 128, 128] in -1..1, deterministic DDIM; the same law as the exported pipeline. With a basis
    in `linear` the latents are shown by its linear inverse instead of the trained decoder."""
    steps_of = scheduler()
    steps_of.set_timesteps(steps)
    length = tokenizer.model_max_length
    ids = lambda texts: torch.tensor(
        tokenizer(texts, padding="max_length", max_length=length, truncation=True).input_ids)
    empty = both.text(ids([""])).last_hidden_state
    channels = both.unet.config.in_channels
    if noise is None:
        noise = torch.randn(len(prompts), channels, 16, 16, generator=torch.Generator().manual_seed(seed))
    pictures = []
    for begin in range(0, len(prompts), chunk):
        words = both.text(ids(list(prompts[begin:begin + chunk]))).last_hidden_state
        x = noise[begin:begin + chunk]
        for t in steps_of.timesteps:
            out = both.unet(torch.cat([x, x]), t, torch.cat([empty.expand_as(words), words])).sample
            free, bound = out.chunk(2)
            x = steps_of.step(free + guidance * (bound - free), t, x).prev_sample
        pictures.append(vae.decode(x / vae.config.scaling_factor).sample.clamp(-1, 1) if linear is None
                        else decode_linear(linear, x).clamp(-1, 1))
    return torch.cat(pictures)


def save_grid(pictures, path, columns=8):
    rows = [torch.cat(list(r), 2) for r in pictures.split(columns) if len(r) == columns]
    Image.fromarray(((torch.cat(rows, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()).save(path)


def export(both, vae, tokenizer_dir, out):
    """A StableDiffusionPipeline folder, f16 weights (the text encoder too)."""
    tokenizer = CLIPTokenizer.from_pretrained(tokenizer_dir)
    pipeline = StableDiffusionPipeline(
        vae=vae, text_encoder=both.text, tokenizer=tokenizer, unet=both.unet, scheduler=scheduler(),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    pipeline.to(torch.float16).save_pretrained(out, safe_serialization=True)
    for name in ("vocab.json", "merges.txt", "special_tokens_map.json", "tokenizer_config.json"):
        shutil.copy(Path(tokenizer_dir) / name, Path(out) / "tokenizer" / name)
    (Path(out) / "tokenizer" / "tokenizer.json").unlink(missing_ok=True)
    # transformers 5 writes the text encoder without the prefix that every other reader of CLIP expects.
    path = Path(out) / "text_encoder" / "model.safetensors"
    tensors = {k if k.startswith("text_model.") else "text_model." + k: v for k, v in load_file(path).items()}
    save_file(tensors, path, {"format": "pt"})
    for config in Path(out).glob("*/config.json"):
        fields = json.loads(config.read_text())
        fields.pop("_name_or_path", None)
        config.write_text(json.dumps(fields, indent=2) + "\n")


def parse():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--latents")
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--vae", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=90)
    parser.add_argument("--cool", type=float, default=.25)
    parser.add_argument("--batch", type=int, default=16, help="per worker and step")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--late", type=float, default=1.0, help="below 1: more of the noisy times, where shapes form")
    parser.add_argument("--ema", type=float, default=.9985)
    parser.add_argument("--widths", default="48,96,256")
    parser.add_argument("--attend", default="011")
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--text-width", type=int, default=256)
    parser.add_argument("--text-layers", type=int, default=2)
    parser.add_argument("--grid-minutes", type=float, default=10)
    parser.add_argument("--linear", action="store_true", help="show grids by the linear inverse")
    parser.add_argument("--export", type=Path)
    return parser.parse_args()


def assemble(args, shape, vae, tokenizer):
    return Both(build_text(tokenizer, shape["text_width"], shape["text_layers"]),
                build_unet(vae.config.latent_channels, shape["text_width"], shape["widths"], shape["attend"],
                           shape["layers"])).to(memory_format=torch.channels_last)


def batches(args, tokenizer, rank):
    """Endless (latents, ids), 10% of the captions empty; shards are read once per worker."""
    latents, ids = load_shards(args.latents)
    blank = torch.tensor(tokenizer("", padding="max_length", max_length=tokenizer.model_max_length).input_ids)
    order = torch.empty(0, dtype=torch.long)
    if rank == 0:
        print("%d latents, mean %.3f, deviation %.3f" % (len(latents), latents.float().mean(), latents.float().std()))
    while True:
        if len(order) < args.batch:
            order = torch.randperm(len(latents))
        rows, order = order[:args.batch], order[args.batch:]
        text = ids[rows, torch.randint(ids.shape[1], (len(rows),))].long()
        yield latents[rows].float(), torch.where(torch.rand(len(rows), 1) < .1, blank, text)


def work(rank, args, shape, both, ema, saved, clock):
    """One worker, one thread: its own optimizer and batches, parameters shared with the others and written
    without locks. On cores that other work interrupts this beats two threads in step, which wait for each
    other; with two workers the stale gradients do no measurable harm. Worker 0 keeps EMA, log and state."""
    torch.set_num_threads(1)
    torch.manual_seed(time.time_ns() + rank)
    tokenizer = CLIPTokenizer.from_pretrained(args.tokenizer)
    params = list(both.parameters())
    optimizer = torch.optim.AdamW(params, lr=args.lr, betas=(.9, .99), weight_decay=.01, fused=True)
    if saved:
        optimizer.load_state_dict(saved["optimizer"])
    alphas = scheduler().alphas_cumprod
    source = batches(args, tokenizer, rank)
    bins, counts = torch.zeros(4), torch.zeros(4)
    last, shown, told = time.time(), float(clock[0]), float(clock[0])
    mine = 0
    log = open(args.out / "log.jsonl", "a") if rank == 0 else None
    if rank == 0:
        vae = AutoencoderKL.from_pretrained(args.vae).eval()
        basis = dict(np.load(Path(args.vae) / "basis.npz")) if args.linear else None
        easel = assemble(args, shape, vae, tokenizer)     # draws the grids from the EMA
    while float(clock[0]) < args.minutes * 60:
        x, text = next(source)
        noise = torch.randn_like(x)
        even = (torch.randperm(len(x)) + torch.rand(len(x))) / len(x)          # stratified
        times = (1000 * even ** args.late).long().clamp_max(999)
        a = alphas[times].view(-1, 1, 1, 1)
        noisy = (a.sqrt() * x + (1 - a).sqrt() * noise).contiguous(memory_format=torch.channels_last)
        target = a.sqrt() * noise - (1 - a).sqrt() * x
        part = float(clock[0]) / (args.minutes * 60)
        step = int(clock[1])
        rate = args.lr * min(1, (step + 1) / 150, .03 + .97 * (1 - part) / args.cool)
        for group in optimizer.param_groups:
            group["lr"] = rate
        error = both(noisy, times, text, target)
        optimizer.zero_grad(set_to_none=True)
        error.mean().backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0, foreach=True)
        optimizer.step()
        clock[1] += 1
        mine += 1
        bins.index_add_(0, times // 250, error.detach())
        counts.index_add_(0, times // 250, torch.ones(len(x)))
        if rank:
            continue
        if mine % 2 == 0:
            done = int(clock[1])
            decay = min(args.ema, (1 + done) / (10 + done)) ** (2 * args.workers)
            with torch.no_grad():
                torch._foreach_lerp_(ema, [p.detach() for p in params], 1 - decay)
        now = time.time()
        clock[0] += now - last
        last = now
        spent = float(clock[0])
        if mine in (1, 10) or spent - told > 60:
            told = spent
            row = {"step": int(clock[1]), "minutes": round(spent / 60, 2), "loss": round(float(bins.sum() / counts.sum()), 4),
                   "by_time": [round(float(b), 4) for b in bins / counts.clamp_min(1)], "lr": round(rate, 7)}
            print(json.dumps(row), flush=True)
            log.write(json.dumps(row) + "\n")
            log.flush()
            bins.zero_(), counts.zero_()
        if spent - shown > args.grid_minutes * 60:
            shown = spent
            keep(args, shape, both, ema, optimizer, clock)
            grid(args, easel, ema, vae, tokenizer, basis, clock)
    if rank == 0:
        keep(args, shape, both, ema, optimizer, clock)
        grid(args, easel, ema, vae, tokenizer, basis, clock)


def keep(args, shape, both, ema, optimizer, clock):
    part = args.out / "state.part"
    torch.save({"model": both.state_dict(), "ema": ema, "optimizer": optimizer.state_dict(), "spent": float(clock[0]),
                "step": int(clock[1]), "shape": shape}, part)
    os.replace(part, args.out / "state.pt")


def wear(both, ema):
    with torch.no_grad():
        for p, e in zip(both.parameters(), ema):
            p.copy_(e)


def grid(args, easel, ema, vae, tokenizer, basis, clock):
    wear(easel, ema)
    save_grid(draw(easel, vae, tokenizer, PROMPTS, steps=14, linear=basis), args.out / ("grid_%06d.png" % clock[1]))


def main():
    args = parse()
    args.out.mkdir(parents=True, exist_ok=True)
    tokenizer = CLIPTokenizer.from_pretrained(args.tokenizer)
    vae = AutoencoderKL.from_pretrained(args.vae).eval().requires_grad_(False)
    state = args.out / "state.pt"
    saved = torch.load(state) if state.exists() else None
    shape = saved["shape"] if saved else {
        "widths": tuple(int(w) for w in args.widths.split(",")), "attend": args.attend, "layers": args.layers,
        "text_width": args.text_width, "text_layers": args.text_layers}
    torch.manual_seed(1)
    both = assemble(args, shape, vae, tokenizer)
    if saved:
        both.load_state_dict(saved["model"])
    ema = saved["ema"] if saved else [p.detach().clone() for p in both.parameters()]
    clock = torch.tensor([saved["spent"], saved["step"]] if saved else [0, 0], dtype=torch.float64)
    if args.export:
        wear(both, ema)
        export(both, vae, args.tokenizer, args.export)
        print("exported after %d steps, %.1f minutes" % (clock[1], clock[0] / 60))
        return
    print("unet %.2f M, text %.2f M" % tuple(
        sum(p.numel() for p in m.parameters()) / 1e6 for m in (both.unet, both.text)), flush=True)
    both.share_memory()
    clock.share_memory_()
    mp.spawn(work, args=(args, shape, both, ema, saved, clock), nprocs=args.workers)


if __name__ == "__main__":
    main()
