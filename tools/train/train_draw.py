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
import torch.nn.functional as F
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
    return unet


KNEE = 8.0         # lanes cross the last SiLU raised by this much, where it is nearly a straight line
GAIN = 10.0        # the codes travel this much louder than they are, above what else is on their way
LOUD = 20.0        # the constant in each lane's group of the last norm, so that it barely moves


def lane(k, first=0):
    """Where number k travels at the last level: two numbers and one constant to each norm group of three."""
    return first + 3 * (k // 2) + k % 2


def doubling(outs):
    """A 3x3 kernel behind nearest doubling that makes four different children of one parent: input 4 o + 2 py + px
    is read at offset (py, px), so the part with p = 0 reaches both children and the part with p = 1 the edge
    between two parents. Every picture is such a sum: left = s + d, right = s + d', and so in both directions."""
    kernel = torch.zeros(outs, 4 * outs, 3, 3)
    for o in range(outs):
        for part in range(4):
            kernel[o, 4 * o + part, 1 + part // 2, 1 + part % 2] = 1
    return kernel


def codes_to_latents(channels):
    """[256, 256]: one channel's codes (cell, part) -> its 16x16 picture, as the two doublings of `lead` do."""
    x = torch.eye(256).view(256, 4, 4, 16).permute(0, 3, 1, 2)
    for outs in (4, 1):
        x = F.conv2d(F.interpolate(x, scale_factor=2.0), doubling(outs), padding=1)
    return x.reshape(256, 256)


def paint(codes, canvas):
    """[n, 16 cells, 16 c] -> [n, c, 16, 16]."""
    n, c = codes.shape[0], codes.shape[2] // 16
    rows = codes.view(n, CELLS, c, 16).permute(0, 2, 1, 3).reshape(n * c, 256)
    return (rows @ canvas).view(n, c, 16, 16)


@torch.no_grad()
def lead(unet, reading, bias):
    """Begin with two straight ways through the network, everything else at a third of its usual strength.
    x itself: conv_in, its skip connection, the last shortcut. The words' picture: the last cross-attention at
    4x4 copies the code of its cell (reading: token -> code), two doublings unfold it to 16x16. Both end as
    lanes in front of conv_out, whose weights `settle` finds by least squares."""
    c, (thin, middle, wide) = unet.config.in_channels, unet.config.block_out_channels
    up = unet.up_blocks
    resnets = [*unet.mid_block.resnets] + [r for u in (*unet.down_blocks, *up) for r in u.resnets]
    for block in resnets:
        block.conv2.weight.mul_(.33)
    seat = up[0].attentions[-1]
    cross = seat.transformer_blocks[0]
    for part in [t.proj_out for u in up[:2] for t in u.attentions] + [
            up[0].resnets[-1].conv_shortcut, seat.proj_in, cross.attn1.to_out[0], cross.ff.net[2]]:
        part.weight.mul_(.33)
    axes = torch.linalg.svd(reading, full_matrices=False)[2]
    cross.attn2.to_v.weight.copy_(axes)
    cross.attn2.to_out[0].weight.copy_(GAIN * reading @ axes.t())
    cross.attn2.to_out[0].bias.copy_(GAIN * bias)
    seat.proj_out.weight.add_(torch.eye(wide)[:, :, None, None])

    def pass_on(conv, into, out_of):
        conv.weight[into] = 0
        conv.bias[into] = 0
        conv.weight[into, out_of] = 1

    for conv, outs in ((up[0].upsamplers[0].conv, 4 * c), (up[1].upsamplers[0].conv, c)):
        conv.weight[:outs] = 0
        conv.bias[:outs] = 0
        conv.weight[:outs, :4 * outs] = doubling(outs)
    for block in up[1].resnets:
        pass_on(block.conv_shortcut, list(range(4 * c)), list(range(4 * c)))
    numbers = list(range(c))
    straight, told = [lane(k) for k in numbers], [lane(k, 3 * c // 2) for k in numbers]
    unet.conv_in.weight[:c] = 0
    unet.conv_in.weight[numbers, numbers, 1, 1] = 1
    unet.conv_in.bias[:c] = 0
    first, last = (r.conv_shortcut for r in up[2].resnets)
    pass_on(first, told, numbers)
    first.weight[told] /= GAIN
    pass_on(last, told, told)
    pass_on(last, straight, [thin + k for k in numbers])       # the skip connection is concatenated last
    constants = [g * 3 + 2 for g in range(c)]
    last.weight[constants] = 0
    up[2].resnets[1].conv2.weight[constants] = 0
    up[2].resnets[1].conv2.bias[constants] = 0
    last.bias[constants] = LOUD
    unet.conv_norm_out.weight[straight + told] = LOUD * 2 ** .5 / 3
    unet.conv_norm_out.bias[straight + told] = LOUD / 3 + KNEE


@torch.no_grad()
def settle(both, latents, ids, rounds=8):
    """conv_out by least squares on v over all times."""
    unet, gram, right = both.unet, 0, 0
    alphas = scheduler().alphas_cumprod
    held = {}
    hook = unet.conv_act.register_forward_hook(lambda m, i, o: held.__setitem__("x", o))
    for _ in range(rounds):
        rows = torch.randint(0, len(latents), (32,))
        times = torch.randint(0, 1000, (32,))
        noisy, target = noised(latents[rows].float(), times, alphas)
        both.unet(noisy, times, both.text(ids[rows, 0].long()).last_hidden_state)
        taps = F.unfold(held["x"].contiguous(), 3, padding=1).transpose(1, 2).flatten(0, 1)
        taps = torch.cat([taps, torch.ones(len(taps), 1)], 1).double()
        gram, right = gram + taps.t() @ taps, right + taps.t() @ target.permute(0, 2, 3, 1).reshape(len(taps), -1).double()
    hook.remove()
    keep = 1e-5 * gram.diagonal().mean() * torch.eye(len(gram)).double()
    best = torch.linalg.solve(gram + keep, right).float()
    unet.conv_out.weight.copy_(best[:-1].t().view_as(unet.conv_out.weight))
    unet.conv_out.bias.copy_(best[-1])


def noised(x, times, alphas):
    """(x at that time, its v)"""
    noise = torch.randn_like(x)
    a = alphas[times].view(-1, 1, 1, 1)
    noisy = (a.sqrt() * x + (1 - a).sqrt() * noise).contiguous(memory_format=torch.channels_last)
    return noisy, a.sqrt() * noise - (1 - a).sqrt() * x


class FastConv(torch.autograd.Function):
    """3x3 stride-1 convolution whose weight gradient is one matrix product: twice as fast as the stock one on
    these small pictures (measured 65 against 30-45 GFLOPS of one Zen 3 core); the rest stays stock."""

    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, bias, padding=1)

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        dx = torch.ops.aten.convolution_backward(
            grad, x, weight, None, [1, 1], [1, 1], [1, 1], False, [0, 0], 1,
            [True, False, False])[0] if ctx.needs_input_grad[0] else None
        n, c, h, w = x.shape
        padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
        taps = padded.unfold(1, 3, 1).unfold(2, 3, 1).permute(0, 1, 2, 4, 5, 3).reshape(n * h * w, 9 * c)
        rows = grad.permute(0, 2, 3, 1).reshape(n * h * w, -1)
        dw = (rows.t() @ taps).view(-1, 3, 3, c).permute(0, 3, 1, 2)
        return dx, dw, rows.sum(0)


class QuickConv2d(torch.nn.Conv2d):
    def forward(self, x):
        return FastConv.apply(x, self.weight, self.bias)


def quicken(unet):
    for module in unet.modules():
        if type(module) is torch.nn.Conv2d and module.kernel_size == (3, 3) and module.stride == (1, 1):
            module.__class__ = QuickConv2d


CELLS, FIRST = 16, 24       # the last 16 tokens stand behind every caption: one for each 4x4 cell of the latent


class Reader(torch.nn.Linear):
    """Reads the picture out of the last tokens: token FIRST + k -> the code of cell k."""

    def __init__(self, width, channels):
        super().__init__(width, 16 * channels)
        canvas = codes_to_latents(channels)
        values, axes = torch.linalg.eigh(canvas.t() @ canvas)
        self.register_buffer("canvas", canvas, persistent=False)
        self.register_buffer("fine", axes * (values + .05) ** -.5, persistent=False)

    def forward(self, cells):
        """[n, 16, width], the last tokens -> codes, picture."""
        codes = super().forward(cells)
        return codes, paint(codes, self.canvas)

    def apart(self, made, x):
        """Mean square error, and the same weighed towards what the doublings make faint: without it the single
        pixels of the latents stayed unlearnt (0.14 of their 0.23) when all that is coarser was right."""
        error = (made - x).reshape(-1, 256)
        return error.square().mean(), (error @ self.fine).square().mean()


def hear(text, ids):
    """The last tokens only, as the reader wants them: the last layer is not computed for the others, which saves
    a fifth of the work."""
    body = getattr(text, "text_model", text)
    n, length = ids.shape
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    x = body.embeddings.token_embedding(ids) + body.embeddings.position_embedding.weight[:length]
    for layer in body.encoder.layers:
        first = FIRST if layer is body.encoder.layers[-1] else 0
        seen, attn = layer.layer_norm1(x), layer.self_attn
        heads = lambda y: y.view(n, y.shape[1], attn.num_heads, -1).transpose(1, 2)
        q, k, v = heads(attn.q_proj(seen[:, first:])), heads(attn.k_proj(seen)), heads(attn.v_proj(seen))
        scores = (q * attn.scale @ k.transpose(-1, -2)).masked_fill(~causal[first:], -1e4)
        mixed = scores.softmax(-1).to(v.dtype) @ v         # torch's own attention takes half as long again in bf16
        x = x[:, first:] + attn.out_proj(mixed.transpose(1, 2).flatten(2))
        x = x + layer.mlp(layer.layer_norm2(x))
    return body.final_layer_norm(x)


def warm_words(text, reader, latents, ids, minutes, lr=1.2e-3, batch=48):
    """Teach the text encoder alone what captions look like. The whole picture is a function of the caption in
    this world, and a caption costs a tenth of what it costs through the UNet, which heard no captions at all
    for its first thousand steps. Small codes are asked for at first, exact pictures later."""
    params = [*text.parameters(), *reader.parameters()]
    optimizer = torch.optim.AdamW(params, lr=lr, betas=(.9, .98), weight_decay=0, fused=True)
    canvas, channels = reader.canvas, latents.shape[1]
    small = torch.linalg.solve(canvas @ canvas.t() + torch.eye(256), canvas)
    begun, step, total = time.time(), 0, 0.0
    while (part := (time.time() - begun) / (60 * minutes)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1, (step + 1) / 60, .02 + (1 - part) * 1.5)
        rows = torch.randint(0, len(latents), (batch,))
        words = ids[rows, torch.randint(0, ids.shape[1], (batch,))].long()
        x = latents[rows].float()
        codes, made = reader(hear(text, words))
        wanted = (x.reshape(-1, 256) @ small.t()).view(batch, channels, CELLS, 16).transpose(1, 2).flatten(2)
        error, fine = reader.apart(made, x)
        loss = error + fine + (4 if part < .4 else .3) * (codes - wanted).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        optimizer.step()
        step, total = step + 1, total + error.item()
        if step % 100 == 0:
            print("words: step %d  %.1f min  loss %.4f" % (step, (time.time() - begun) / 60, total / 100), flush=True)
            total = 0.0


def ridge(x, y, weight, strength=.02):
    """Least squares y ~ x w of rows, [dims, outputs]."""
    wx = x * weight[:, None]
    gram = wx.t() @ x
    return torch.linalg.solve(gram + strength * gram.diagonal().mean() * torch.eye(len(gram)), wx.t() @ y)


@torch.no_grad()
def aim(both, reading, ids, sharp=6.0):
    """Point every cross-attention at the token of its own cell, by least squares: queries from what the zero
    padding tells of the place, keys from the token's position, values along the leading axes of `reading`."""
    rows = torch.randint(0, len(ids), (32,))
    tokens = both.text(ids[rows, 0].long()).last_hidden_state
    channels = both.unet.config.in_channels
    noisy, times = torch.randn(32, channels, 16, 16), torch.randint(0, 1000, (32,))
    blocks = [m for m in both.unet.modules() if type(m).__name__ == "BasicTransformerBlock"]
    heard = {}
    hooks = [b.norm2.register_forward_hook(lambda m, i, o, b=b: heard.__setitem__(b, o)) for b in blocks]
    both.unet(noisy, times, tokens)
    for hook in hooks:
        hook.remove()
    axes = torch.linalg.svd(reading, full_matrices=False)[2]
    seat = both.unet.up_blocks[0].attentions[-1].transformer_blocks[0]
    for block in blocks:
        seen, attn = heard[block], block.attn2
        side, heads = int(seen.shape[1] ** .5), attn.heads
        width = attn.to_q.weight.shape[0] // heads
        code = torch.zeros(CELLS, width)           # which row and which column: their products add up
        code[range(CELLS), [k // 4 for k in range(CELLS)]] = 1
        code[range(CELLS), [4 + k % 4 for k in range(CELLS)]] = 1
        code[:, :8] -= .25
        at = torch.arange(side) * 4 // side
        place = (at[:, None] * 4 + at[None]).flatten().repeat(32)
        flat = seen.reshape(-1, seen.shape[2])
        query = ridge(flat, code[place], torch.ones(len(flat)))
        wanted = torch.cat([torch.zeros(FIRST, width), code]).repeat(32, 1)
        key = ridge(tokens.reshape(-1, tokens.shape[2]), wanted, torch.ones(len(wanted)))
        fit = (flat @ query - code[place]).square().mean() / code[place].square().mean()
        match = ((flat @ query) * code[place]).sum(1).mean() / code.square().sum(1).mean()
        attn.to_q.weight.copy_((query.t() * (sharp * width ** .5 / match)).repeat(heads, 1))
        attn.to_k.weight.copy_(key.t().repeat(heads, 1))
        if block is not seat:
            attn.to_v.weight.copy_(axes[:len(attn.to_v.weight)])
        print("aim: side %d width %d, place error %.2f" % (side, width, fit), flush=True)


class Both(torch.nn.Module):
    """Text encoder, UNet and reader under one roof: one optimizer, one EMA."""

    def __init__(self, text, unet):
        super().__init__()
        self.text, self.unet = text, unet
        self.reader = Reader(text.config.hidden_size, unet.config.in_channels)     # for training only

    def forward(self, noisy, times, ids, target, x, apart):
        """Error of v per sample, for the leading rows, and of the pictures read from the words alone. There may
        be more captions (and x) than noisy latents: a caption alone is cheap, and the words learn longest. While
        `apart`, the text encoder hears the reader only: the UNet's gradients disturbed it more than they taught."""
        if apart is None:                                          # the words are learnt: only the UNet learns
            with torch.no_grad():
                words = self.text(ids[:len(noisy)]).last_hidden_state
            error = (self.unet(noisy, times, words).sample.float() - target).square().mean(dim=(1, 2, 3))
            return error, torch.zeros(()), torch.zeros(())
        tokens = self.text(ids[:len(noisy)]).last_hidden_state
        words = tokens.detach() if apart else tokens
        error = (self.unet(noisy, times, words).sample.float() - target).square().mean(dim=(1, 2, 3))
        cells = torch.cat([tokens[:, FIRST:], hear(self.text, ids[len(noisy):])])
        spoken = ids[:, 1] != ids[:, -1]
        return error, *self.reader.apart(self.reader(cells[spoken])[1], x[spoken])


def load_shards(folder):
    shards = [torch.load(p) for p in sorted(Path(folder).glob("*.pt"))]
    return torch.cat([s["latents"] for s in shards]), torch.cat([s["ids"] for s in shards])


@torch.inference_mode()
def sample(both, tokenizer, captions, noise, steps=20, guidance=1.25):
    """Latents f32 of the captions from this noise by deterministic DDIM; the same law as the exported pipeline."""
    law = scheduler()
    law.set_timesteps(steps)
    length = tokenizer.model_max_length
    ids = lambda texts: torch.tensor(
        tokenizer(texts, padding="max_length", max_length=length, truncation=True).input_ids)
    empty = both.text(ids([""])).last_hidden_state
    words = both.text(ids(list(captions))).last_hidden_state
    x = noise.contiguous(memory_format=torch.channels_last)
    for t in law.timesteps:
        if guidance == 1:
            out = both.unet(x, t, words).sample.float()
        else:
            pair = both.unet(torch.cat([x, x]), t, torch.cat([empty.expand_as(words), words])).sample.float()
            free, bound = pair.chunk(2)
            out = free + guidance * (bound - free)
        x = law.step(out, t, x).prev_sample
    return x.float()


@torch.inference_mode()
def draw(both, vae, tokenizer, prompts, steps=20, guidance=1.25, seed=0, chunk=24, linear=None):
    """[n, 3, 128, 128] in -1..1. With a basis in `linear` the latents are shown by its linear inverse instead of
    the trained decoder."""
    noise = torch.randn(len(prompts), both.unet.config.in_channels, 16, 16,
                        generator=torch.Generator().manual_seed(seed))
    pictures = []
    for begin in range(0, len(prompts), chunk):
        x = sample(both, tokenizer, prompts[begin:begin + chunk], noise[begin:begin + chunk], steps, guidance)
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
    (Path(out) / "limn.json").write_text('{"steps": 20, "cfg_scale": 1.25}\n')      # what limn takes unless told
    strip_names(out)


def strip_names(model):
    """diffusers writes into each config where it was loaded from: nobody's business."""
    for config in Path(model).glob("*/config.json"):
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
    parser.add_argument("--batch", type=int, default=8, help="per worker and step")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--lr", type=float, default=6e-4)
    parser.add_argument("--words", type=float, default=40, help="minutes for the text encoder alone, before all else")
    parser.add_argument("--extra", type=int, default=16, help="captions per step that only the text encoder sees")
    parser.add_argument("--read", type=float, default=1.0, help="weight of the picture read from the words alone")
    parser.add_argument("--text-share", type=float, default=1.5, help="the text encoder's share of the learning rate; 0: it is learnt already")
    parser.add_argument("--apart", type=float, default=.6, help="share of the budget before the UNet teaches the words")
    parser.add_argument("--late", type=float, default=.7, help="below 1: more of the noisy times, where shapes form")
    parser.add_argument("--ema", type=float, default=.998)
    parser.add_argument("--widths", default="48,96,192")
    parser.add_argument("--attend", default="011")
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--text-width", type=int, default=256)
    parser.add_argument("--text-layers", type=int, default=4)
    parser.add_argument("--grid-minutes", type=float, default=10)
    parser.add_argument("--linear", action="store_true", help="show grids by the linear inverse")
    parser.add_argument("--export", type=Path)
    return parser.parse_args()


def assemble(args, shape, vae, tokenizer):
    return Both(build_text(tokenizer, shape["text_width"], shape["text_layers"]),
                build_unet(vae.config.latent_channels, shape["text_width"], shape["widths"], shape["attend"],
                           shape["layers"])).to(memory_format=torch.channels_last)


def from_export(model):
    """Both from an exported folder, f32. Its reader knows nothing yet (`refit`): the export does not hold it."""
    return Both(CLIPTextModel.from_pretrained(model, subfolder="text_encoder", dtype=torch.float32),
                UNet2DConditionModel.from_pretrained(model, subfolder="unet", torch_dtype=torch.float32)
                ).to(memory_format=torch.channels_last)


def batches(args, tokenizer, rank):
    """Endless (latents, ids), 10% of the captions empty; shards are read once per worker."""
    latents, ids = load_shards(args.latents)
    blank = torch.tensor(tokenizer("", padding="max_length", max_length=tokenizer.model_max_length).input_ids)
    order = torch.empty(0, dtype=torch.long)
    if rank == 0:
        print("%d latents, mean %.3f, deviation %.3f" % (len(latents), latents.float().mean(), latents.float().std()))
    while True:
        size = args.batch + args.extra
        if len(order) < size:
            order = torch.randperm(len(latents))
        rows, order = order[:size], order[size:]
        text = ids[rows, torch.randint(ids.shape[1], (len(rows),))].long()
        yield latents[rows].float(), torch.where(torch.rand(len(rows), 1) < .1, blank, text)


def work(rank, args, shape, both, ema, saved, clock):
    """One worker, one thread: its own optimizer and batches, parameters shared with the others and written
    without locks. On cores that other work interrupts this beats two threads in step, which wait for each
    other; with two workers the stale gradients do no measurable harm. Worker 0 keeps EMA, log and state."""
    torch.set_num_threads(1)
    torch.manual_seed(time.time_ns() + rank)
    tokenizer = CLIPTokenizer.from_pretrained(args.tokenizer)
    for module in (both.text, both.reader):
        module.requires_grad_(args.text_share > 0)
    params = list(both.parameters())
    taught = {id(p) for m in (both.text, both.reader) for p in m.parameters()}
    optimizer = torch.optim.AdamW(
        [{"params": [p for p in params if id(p) not in taught], "share": 1.0},
         {"params": [p for p in params if id(p) in taught], "share": args.text_share}],
        lr=args.lr, betas=(.9, .99), weight_decay=.01, fused=True)
    if saved and "optimizer" in saved:
        optimizer.load_state_dict(saved["optimizer"])
    quicken(both.unet)
    alphas = scheduler().alphas_cumprod
    source = batches(args, tokenizer, rank)
    bins, counts, heard = torch.zeros(4), torch.zeros(4), 0.0
    last, shown, told = time.time(), float(clock[0]), float(clock[0])
    mine = 0
    log = open(args.out / "log.jsonl", "a") if rank == 0 else None
    if rank == 0:
        vae = AutoencoderKL.from_pretrained(args.vae).eval()
        basis = dict(np.load(Path(args.vae) / "basis.npz")) if args.linear else None
        easel = assemble(args, shape, vae, tokenizer)     # draws the grids from the EMA
    while float(clock[0]) < args.minutes * 60:
        x, text = next(source)
        even = (torch.randperm(args.batch) + torch.rand(args.batch)) / args.batch          # stratified
        times = (1000 * even ** args.late).long().clamp_max(999)
        noisy, target = noised(x[:args.batch], times, alphas)
        part = float(clock[0]) / (args.minutes * 60)
        step = int(clock[1])
        rate = args.lr * min(1, (step + 1) / 150, .03 + .97 * (1 - part) / args.cool)
        for group in optimizer.param_groups:
            group["lr"] = rate * group["share"]
        error, said, fine = both(noisy, times, text, target, x, part < args.apart if args.text_share else None)
        optimizer.zero_grad(set_to_none=True)
        (error.mean() + args.read * (said + fine)).backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0, foreach=True)
        optimizer.step()
        clock[1] += 1
        mine += 1
        bins.index_add_(0, times // 250, error.detach())
        counts.index_add_(0, times // 250, torch.ones(len(times)))
        heard += .05 * (said.item() - heard)
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
                   "by_time": [round(float(b), 4) for b in bins / counts.clamp_min(1)],
                   "words": round(heard, 4), "lr": round(rate, 7)}
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


def start(args, both):
    """The text encoder first, then a UNet that can already paint what the words say."""
    torch.set_num_threads(args.workers)
    latents, ids = load_shards(args.latents)
    kept = args.out / "words.pt"
    if kept.exists():
        words = torch.load(kept)
        both.text.load_state_dict(words["text"])
        both.reader.load_state_dict(words["reader"])
    else:
        warm_words(both.text, both.reader, latents, ids, args.words)
        torch.save({"text": both.text.state_dict(), "reader": both.reader.state_dict()}, kept)
    lead(both.unet, both.reader.weight.detach(), both.reader.bias.detach())
    aim(both, both.reader.weight.detach(), ids)
    settle(both, latents, ids)


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
    else:
        start(args, both)
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
