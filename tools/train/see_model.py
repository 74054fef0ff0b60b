# SPDX-License-Identifier: MIT
"""mini-see's network: a Qwen3-VL of transformers that holds the weights, and a faster forward pass to train it.

Two things make training affordable on one core. Pictures of one size are encoded as a batch, stills with the two
frame kernels added up. And many questions share one picture: the tokens up to the picture's end are the prefix,
every question with its answer is a branch that sees the prefix and itself only, at the positions it would have if
it stood alone. `check` proves that this equals transformers' own forward pass, branch by branch.
"""
import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import nn
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

PATCH, MERGE = 16, 2
CELL = PATCH * MERGE
SPOTS = 51                               # numbers that an edge of a box may have: 0, 20 .. 1000
STILL_PIXELS = (96 * 96, 128 * 96)       # of a picture after resizing: nine to twelve tokens
CLIP_PIXELS = (4 * 96 * 96, 16 * 96 * 96)
TEXT = dict(
    vocab_size=4096, hidden_size=192, intermediate_size=640, num_hidden_layers=7, num_attention_heads=6,
    num_key_value_heads=2, head_dim=32, hidden_act="silu", rms_norm_eps=1e-6, max_position_embeddings=4096,
    attention_bias=False, attention_dropout=0.0, initializer_range=0.02, use_cache=True)
ROPE = dict(rope_type="default", mrope_interleaved=True, mrope_section=[6, 5, 5])
THETA = 10000.0
VISION = dict(
    depth=8, hidden_size=192, num_heads=3, intermediate_size=768, in_channels=3, patch_size=PATCH, temporal_patch_size=2,
    spatial_merge_size=MERGE, out_hidden_size=192, num_position_embeddings=36, deepstack_visual_indexes=[1, 3],
    hidden_act="gelu_pytorch_tanh", initializer_range=0.02)


def config_json(tokenizer):
    """As released checkpoints write it (transformers 4.57: rope_theta beside rope_scaling), which 5.x reads too."""
    special = lambda t: tokenizer.token_to_id(t)
    ends = [special("<|im_end|>"), special("<|endoftext|>")]
    text = dict(TEXT, model_type="qwen3_vl_text", rope_theta=THETA, rope_scaling=ROPE, dtype="bfloat16",
                bos_token_id=special("<|endoftext|>"), eos_token_id=special("<|im_end|>"), tie_word_embeddings=True)
    return dict(
        architectures=["Qwen3VLForConditionalGeneration"], model_type="qwen3_vl", dtype="bfloat16",
        image_token_id=special("<|image_pad|>"), video_token_id=special("<|video_pad|>"),
        vision_start_token_id=special("<|vision_start|>"), vision_end_token_id=special("<|vision_end|>"),
        tie_word_embeddings=True, text_config=text, vision_config=dict(VISION, model_type="qwen3_vl")), ends


def load_tokenizer(folder):
    return Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))


def build(tokenizer, seed=1):
    """A fresh network on f32, with a beginning that suits its narrowness."""
    fields, _ = config_json(tokenizer)
    config = Qwen3VLConfig(text_config=fields["text_config"], vision_config=fields["vision_config"], **{
        k: fields[k] for k in ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id",
                               "tie_word_embeddings")})
    net = Qwen3VLForConditionalGeneration(config).float()
    generator = torch.Generator().manual_seed(seed)
    for name, p in net.named_parameters():
        with torch.no_grad():
            if name.endswith("bias"):
                p.zero_()
            elif p.ndim == 2 and not name.endswith(("embed_tokens.weight", "pos_embed.weight")):
                deviation = p.shape[1] ** -.5 * .8
                if name.endswith(("o_proj.weight", "down_proj.weight", "attn.proj.weight", "mlp.linear_fc2.weight")):
                    deviation *= .4
                p.normal_(0, deviation, generator=generator)
            elif name.endswith("embed_tokens.weight"):
                p.normal_(0, .03, generator=generator)
    with torch.no_grad():
        net.model.visual.pos_embed.weight.copy_(.3 * waves(int(VISION["num_position_embeddings"] ** .5), VISION["hidden_size"]))
    return net


def waves(side, width):
    """[side * side, width] sines and cosines of row and column."""
    n = width // 4
    rate = torch.exp(torch.linspace(math.log(math.pi / 16), math.log(math.pi), n))
    at = torch.arange(side).float()[:, None] * rate
    one = torch.cat([at.sin(), at.cos()], 1)
    return torch.cat([one[:, None].expand(side, side, -1), one[None].expand(side, side, -1)], 2).reshape(side * side, -1)


def begin_from(net, folder):
    """The weights of an exported folder. Blocks that it lacks come after its own and begin silent: they change nothing."""
    have = load_file(str(Path(folder) / "model.safetensors"))
    silent = ("o_proj.weight", "down_proj.weight", "attn.proj.weight", "mlp.linear_fc2.weight")
    with torch.no_grad():
        for name, p in net.state_dict().items():
            if name in have:
                p.copy_(have.pop(name))
            elif name.endswith(silent):
                p.zero_()
    if have:
        raise SystemExit("%s has tensors that this network lacks: %s" % (folder, ", ".join(sorted(have)[:4])))


def begin_patches(net, pictures):
    """Patch embedding = whitened principal components of patches of the pictures (uint8 [h, w, 3] each)."""
    rows = torch.cat([patches(torch.from_numpy(p)[None])[0] for p in pictures])
    rows = rows - (mean := rows.mean(0))
    power, axes = torch.linalg.eigh(rows.T @ rows / len(rows))
    power, axes = power.flip(0)[:VISION["hidden_size"]], axes.flip(1)[:, :VISION["hidden_size"]]
    weight = (axes / (power + power.sum() * 1e-3).sqrt()).T * .7
    proj = net.model.visual.patch_embed.proj
    with torch.no_grad():
        shaped = weight.view(-1, 3, 1, PATCH, PATCH) / 2
        proj.weight.copy_(shaped.expand(-1, -1, 2, -1, -1))
        proj.bias.copy_(-weight @ mean)


class Helpers(nn.Module):
    """What the tower is asked directly while it learns, thrown away at export. Of the merged tokens: the class and the
    box of the thing in every cell, its edges in the picture as the numbers that answers write, in which of its four patches the
    middle of a thing lies, the characters as they are read and which of the text the first one is, and of clips what moves how. Of the last block's
    patches: class, box, and the characters, by place and by their number in the cell. Boxes are distances of the edges from the middle of the square, over 48
    pixels. And that a merged token points where the words for its thing do, so that a question finds what it names."""

    def __init__(self, classes, chars, slots, ordinals, motions):
        super().__init__()
        self.classes, self.chars, self.slots = classes, chars, slots
        head = lambda width, n: nn.Sequential(nn.LayerNorm(width), nn.Linear(width, n))
        text, tower = TEXT["hidden_size"], VISION["hidden_size"]
        self.thing, self.edges, self.middle = head(text, classes), head(text, 4), head(text, MERGE * MERGE)
        self.place, self.tint = head(text, 4), head(text, 12)
        self.patch_thing, self.patch_edges = head(tower, classes), head(tower, 4)
        self.letter, self.signs, self.begins = head(tower, slots * chars), head(text, ordinals * chars), head(text, 2)
        self.part = head(tower, ordinals * chars)
        self.spot, self.motion = head(text, 4 * SPOTS), head(text, motions)
        self.nothing, self.sharp = nn.Parameter(torch.randn(1, text) * .03), nn.Parameter(torch.tensor(2.5))


def patches(frames):
    """uint8 [n, h, w, 3] -> f32 [n, patches in merge order, 3 * 256]"""
    n, h, w, _ = frames.shape
    x = frames.float().sub_(127.5).div_(127.5).permute(0, 3, 1, 2)
    x = x.reshape(n, 3, h // CELL, MERGE, PATCH, w // CELL, MERGE, PATCH)
    return x.permute(0, 2, 5, 3, 6, 1, 4, 7).reshape(n, h * w // PATCH ** 2, 3 * PATCH * PATCH)


def grid_tables(net, rows, columns):
    """Positions of the table (indices and weights) and rotary cos, sin for one grid, kept per size."""
    cache = net.__dict__.setdefault("_grids", {})
    if (rows, columns) not in cache:
        side = int(VISION["num_position_embeddings"] ** .5)
        r, c = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        order = lambda t: t.reshape(rows // 2, 2, columns // 2, 2).permute(0, 2, 1, 3).reshape(-1)
        r, c = order(r), order(c)
        y, x = torch.linspace(0, side - 1, rows)[r], torch.linspace(0, side - 1, columns)[c]
        y0, x0 = y.long(), x.long()
        y1, x1 = (y0 + 1).clamp_max(side - 1), (x0 + 1).clamp_max(side - 1)
        dy, dx = y - y0, x - x0
        index = torch.stack([y0 * side + x0, y0 * side + x1, y1 * side + x0, y1 * side + x1], 1)
        weight = torch.stack([(1 - dy) * (1 - dx), (1 - dy) * dx, dy * (1 - dx), dy * dx], 1)
        n = VISION["hidden_size"] // VISION["num_heads"] // 4
        rate = 1 / 10000 ** (torch.arange(n).float() / n)
        angle = torch.cat([r[:, None] * rate, c[:, None] * rate], 1)
        cache[rows, columns] = index, weight, angle.cos(), angle.sin()
    return cache[rows, columns]


def rotate(x, cos, sin):
    """x [..., n, d], cos and sin [n, d / 2]"""
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def see(net, first, second=None, frozen=False):
    """Frames uint8 [n, h, w, 3] (for clips the second frame of each pair too) -> merged [n, cells, width], the
    DeepStack list likewise, and the last block's patches [n, patches, width]. Frozen: only the mergers learn."""
    with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
        levels, x = blocks(net, first, second)
    tower = net.model.visual
    deep = []
    for merger, level in zip(tower.deepstack_merger_list, levels):
        deep.append(merger.linear_fc2(F.gelu(merger.linear_fc1(merger.norm(level.reshape(len(x), -1, 4 * x.shape[-1]))))))
    merger = tower.merger
    merged = merger.linear_fc2(F.gelu(merger.linear_fc1(merger.norm(x).reshape(len(x), -1, 4 * x.shape[-1]))))
    return merged, deep, x


def blocks(net, first, second):
    """The tower without its mergers: what DeepStack takes, and the last block's patches."""
    tower = net.model.visual
    n, h, w, _ = first.shape
    index, weight, cos, sin = grid_tables(net, h // PATCH, w // PATCH)
    kernel = tower.patch_embed.proj.weight
    if second is None:
        x = F.linear(patches(first), kernel.sum(2).flatten(1), tower.patch_embed.proj.bias)
    else:
        both = torch.cat([patches(first), patches(second)], -1)
        x = F.linear(both, torch.cat([kernel[:, :, 0].flatten(1), kernel[:, :, 1].flatten(1)], 1), tower.patch_embed.proj.bias)
    x = x + (tower.pos_embed.weight[index] * weight[..., None]).sum(1)
    heads = VISION["num_heads"]
    levels = []
    for i, block in enumerate(tower.blocks):
        q, k, v = block.attn.qkv(block.norm1(x)).view(n, -1, 3, heads, x.shape[-1] // heads).permute(2, 0, 3, 1, 4).unbind(0)
        scale = q.shape[-1] ** -.5
        a = Attend.apply((rotate(q, cos, sin) * scale).to(v.dtype), rotate(k, cos, sin).to(v.dtype), v, None)
        x = x + block.attn.proj(a.transpose(1, 2).reshape(x.shape))
        x = x + block.mlp.linear_fc2(F.gelu(block.mlp.linear_fc1(block.norm2(x)), approximate="tanh"))
        if i in VISION["deepstack_visual_indexes"]:
            levels.append(x)
    return levels, x


class Rms(torch.autograd.Function):
    """RMS norm in few passes; the answer is in bf16 under autocast."""

    @staticmethod
    def forward(ctx, x, weight):
        r = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32).square_().div_(x.shape[-1]).add_(1e-6).rsqrt_()
        r = r.to(x.dtype)
        ctx.save_for_backward(x, weight, r)
        return (x * r).to(fast(x)) * weight.to(fast(x))

    @staticmethod
    def backward(ctx, g):
        x, weight, r = ctx.saved_tensors
        g, y = g.to(x.dtype), x * r
        gw = (g * y).reshape(-1, x.shape[-1]).sum(0, dtype=torch.float32)
        g = g * weight.to(x.dtype)
        return g.sub_(y * ((g * y).mean(-1, keepdim=True))).mul_(r), gw


def rms(x, norm):
    return Rms.apply(x, norm.weight)


class Attend(torch.autograd.Function):
    """Softmax attention with its scores written out: at these lengths, and with masks, several times faster than torch's own
    on the processor. q [b, h, m, d] is scaled already, k and v [b, h, n, d], bias [b, 1, m, n] or None."""

    @staticmethod
    def forward(ctx, q, k, v, bias):
        p = q @ k.transpose(-1, -2)
        if bias is not None:
            p = p.view(len(q), -1, *bias.shape[2:]).add_(bias).view(p.shape)
        p = torch.softmax(p, -1)
        ctx.save_for_backward(q, k, v, p)
        return p @ v

    @staticmethod
    def backward(ctx, g):
        q, k, v, p = ctx.saved_tensors
        gv = p.transpose(-1, -2) @ g
        gs = torch._softmax_backward_data(g @ v.transpose(-1, -2), p, -1, p.dtype)
        return gs @ k, gs.transpose(-1, -2) @ q, gv, None


def fast(x):
    """What products are computed in."""
    return torch.bfloat16 if torch.is_autocast_enabled("cpu") else x.dtype


def joined(x, *linears):
    """Several linear maps of the same rows as one product."""
    return F.linear(x, torch.cat([part.weight for part in linears]))


def read(net, ids, positions, mask, seen, merged, deep, asked=None, kept=None, past=None):
    """ids [b, n], positions [3, b, n], mask bool [b, 1, n, n], seen bool [b, n] marks picture tokens -> [b, n, width],
    or with asked, bool [b, n]: [asked, width], and the last block's second half is spared for all others.
    kept: a dict whose keys are blocks; it is given their queries and keys. past: a dict of the keys and values of every block's
    earlier tokens, which it lengthens; mask is [b, 1, n, earlier + n] then."""
    language = net.model.language_model
    b, n = ids.shape
    x = language.embed_tokens(ids)
    at = seen.view(-1).nonzero().view(-1)
    flat = lambda t: t.reshape(-1, t.shape[-1])
    x = flat(x).index_copy(0, at, flat(merged).to(x.dtype)).view(b, n, -1)
    d, held = TEXT["head_dim"], TEXT["num_key_value_heads"]
    rate = 1 / THETA ** (torch.arange(0, d, 2).float() / d)
    axis = torch.zeros(d // 2, dtype=torch.long)
    for a in (1, 2):
        axis[a:3 * ROPE["mrope_section"][a]:3] = a
    angle = positions.float()[axis].permute(1, 2, 0) * rate              # [b, n, d / 2]
    cos, sin = angle.cos()[:, None].to(fast(x)), angle.sin()[:, None].to(fast(x))
    bias = torch.zeros(mask.shape, dtype=fast(x)).masked_fill_(~mask, -1e9)
    for i, layer in enumerate(language.layers):
        att, mlp = layer.self_attn, layer.mlp
        h = joined(rms(x, layer.input_layernorm), att.q_proj, att.k_proj, att.v_proj).view(b, n, -1, d)
        q, k, v = h.transpose(1, 2).split([h.shape[2] - 2 * held, held, held], 1)
        q, k = rotate(rms(q, att.q_norm), cos, sin), rotate(rms(k, att.k_norm), cos, sin)
        if kept is not None and i in kept:
            kept[i] = q, k
        if past is not None:
            past[i] = k, v = [torch.cat(pair, 2) for pair in zip(past[i], (k, v))] if i in past else (k, v)
        h = Attend.apply((q * d ** -.5).reshape(b, held, -1, d), k, v, bias)         # heads that share keys lie one below the other
        h = h.view(b, -1, n, d).transpose(1, 2).reshape(b, n, -1)
        if asked is not None and i + 1 == len(language.layers):
            x, h = x[asked], h[asked]
        x = x + att.o_proj(h)
        gate, up = joined(rms(x, layer.post_attention_layernorm), mlp.gate_proj, mlp.up_proj).chunk(2, -1)
        x = x + mlp.down_proj(F.silu(gate) * up)
        if i < len(deep):
            x = flat(x).index_add(0, at, flat(deep[i]).to(x.dtype)).view(b, n, -1)
    return rms(x, language.norm)


@torch.no_grad()
def write(net, encoder, frames, clip, prompts, most):
    """Greedy answers to several pictures or clips of one size at once, frames uint8 [n, frames, h, w, 3] and prompts [(ids,
    positions [3, length])] -> lists of token ids without the end."""
    flat = torch.from_numpy(np.concatenate(frames))
    merged, deep, _ = see(net, flat[0::2], flat[1::2]) if clip else see(net, flat)
    fold = lambda t: t.reshape(len(frames), -1, t.shape[-1])
    merged, deep = fold(merged), [fold(d) for d in deep]
    end, b, n = encoder.special["<|im_end|>"], len(prompts), max(len(ids) for ids, _ in prompts)
    ids, positions, real = torch.full((b, n), end), torch.zeros(3, b, n, dtype=torch.long), torch.zeros(b, n, dtype=torch.bool)
    for i, (of, places) in enumerate(prompts):
        ids[i, :len(of)] = torch.from_numpy(of.astype(np.int64))
        positions[:, i, :len(of)] = torch.from_numpy(places.astype(np.int64))
        real[i, :len(of)] = True
    seen = (ids == encoder.special["<|image_pad|>"]) | (ids == encoder.special["<|video_pad|>"])
    mask = (torch.ones(n, n, dtype=torch.bool).tril() & real[:, None]) | torch.eye(n, dtype=torch.bool)
    last = real.sum(1) - 1
    past, out, ended = {}, [[] for _ in prompts], torch.zeros(b, dtype=torch.bool)
    x = read(net, ids, positions, mask[:, None], seen, merged, deep, past=past)[torch.arange(b), last]
    at = positions[0, torch.arange(b), last]
    for _ in range(most):
        token = (x @ net.model.language_model.embed_tokens.weight.T).argmax(-1)
        ended |= token == end
        if ended.all():
            break
        for i in (~ended).nonzero()[:, 0].tolist():
            out[i].append(int(token[i]))
        at = at + 1
        real = torch.cat([real, torch.ones(b, 1, dtype=torch.bool)], 1)
        x = read(net, token[:, None], at[None, :, None].expand(3, b, 1), real[:, None, None], torch.zeros(b, 1, dtype=torch.bool),
                 merged[:, :0], [d[:, :0] for d in deep], past=past)[:, 0]
    return out


# ---- samples as tokens ----

@dataclass
class Encoded:
    ids: np.ndarray        # int16 [n]
    positions: np.ndarray  # int16 [3, n]
    branch: np.ndarray     # int16 [n], 0 is the prefix
    labels: np.ndarray     # int16 [n], the token that should follow, -1 where nothing is asked
    task: np.ndarray       # int16 [n], which task a label belongs to
    look: list = ()        # (token, kind, things), see see_look.py


class Encoder:
    """Turns conversations about one picture or clip into tokens."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.special = {t: tokenizer.token_to_id(t) for t in (
            "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>", *"0123456789",
            '"},', '"}]')}
        self.letters = {chr(c): tokenizer.token_to_id(chr(c)) for c in range(33, 127)}
        self.letters.update({" ": tokenizer.token_to_id("\u0120"), "\n": tokenizer.token_to_id("\u010a")})

    def words(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def spell(self, text):
        return [self.letters[c] for c in text]

    def answer(self, text, spelled):
        """Tokens and the characters that each stands for; spelled: True for character by character, or the spans that are."""
        if not spelled:
            e = self.tokenizer.encode(text, add_special_tokens=False)
            return e.ids, e.offsets
        tokens, spans, at = [], [], 0
        for start, end, *_ in [(0, len(text))] if spelled is True else [*spelled, (len(text), len(text))]:
            e = self.tokenizer.encode(text[at:start], add_special_tokens=False)
            tokens += e.ids + self.spell(text[start:end])
            spans += [(at + a, at + b) for a, b in e.offsets] + [(j, j + 1) for j in range(start, end)]
            at = end
        return tokens, spans

    def media(self, rows, columns, times=None):
        """Tokens and positions (from 0) of a picture, or of a clip's pairs with their times."""
        ids, places, at = [], [], 0
        s = self.special
        for time in times if times is not None else [None]:
            text = ([] if time is None else self.words("<%.1f seconds>" % time)) + [s["<|vision_start|>"]]
            ids += text
            places += [(at + i,) * 3 for i in range(len(text))]
            at += len(text)
            ids += [s["<|image_pad|>" if time is None else "<|video_pad|>"]] * (rows * columns)
            places += [(at, at + r, at + c) for r in range(rows) for c in range(columns)]
            at += max(rows, columns)
            ids.append(s["<|vision_end|>"])
            places.append((at,) * 3)
            at += 1
        return ids, places, at

    def encode(self, rows, columns, times, branches, first="picture", system=None):
        """branches: lists of turns (task number, question, answer, spelled as in `answer`[, looks of see_look.py]). With
        first="text" the question comes before the picture; there is one branch then."""
        s = self.special
        open_user, close = [s["<|im_start|>"]] + self.words("user\n"), [s["<|im_end|>"]] + self.words("\n")
        reply = [s["<|im_start|>"]] + self.words("assistant\n")
        ids, places, branch, labels, task, look = [], [], [], [], [], []

        def put(tokens, at, number, answer=False, kind=-1):
            for i, token in enumerate(tokens):
                if answer:
                    labels[-1], task[-1] = token, kind
                ids.append(token)
                places.append((at + i,) * 3)
                branch.append(number)
                labels.append(-1)
                task.append(-1)
            return at + len(tokens)

        at = 0
        if system:
            at = put([s["<|im_start|>"]] + self.words("system\n") + self.words(system) + close, at, 0)
        at = put(open_user, at, 0)
        if first == "text":
            at = put(self.words(branches[0][0][1]), at, 0)
        if rows:
            media, where, length = self.media(rows, columns, times)
            ids += media
            places += [tuple(at + v for v in p) for p in where]
            branch += [0] * len(media)
            labels += [-1] * len(media)
            task += [-1] * len(media)
            at += length
        start = at
        for number, turns in enumerate(branches, 1):
            at = start
            for i, (kind, question, answer, spelled, *told) in enumerate(turns):
                if i:
                    at = put(open_user, at, number)
                heard, told = told[0] if told else ([], [])
                if i or first != "text":
                    begin = len(ids)
                    at = put(self.words(question), at, number)
                    spans = self.tokenizer.encode(question, add_special_tokens=False).offsets if heard else []
                    for start, end, kinds, things in heard:
                        last = [j for j, (a, b) in enumerate(spans) if a < end and b > start][-1]
                        look += [(begin + last, k, things) for k in kinds]
                at = put(close + reply, at, number)
                tokens, spans = self.answer(answer, spelled)
                for start, end, kinds, things in told:
                    look += [(len(ids) + j - 1, k, things) for j, (a, b) in enumerate(spans) if a < end and b > start for k in kinds]
                at = put(tokens + [s["<|im_end|>"]], at, number, True, kind)
                if i + 1 < len(turns):
                    at = put(self.words("\n"), at, number)
        pack = lambda v: np.array(v, np.int16)
        return Encoded(pack(ids), pack(places).T.copy(), pack(branch), pack(labels), pack(task), look)


def batch_of(samples, pad):
    """Encoded samples of one picture size -> ids, positions, mask, labels, task as tensors."""
    n = max(len(s.ids) for s in samples)
    b = len(samples)
    ids = torch.full((b, n), pad)
    positions = torch.zeros(3, b, n, dtype=torch.long)
    labels, task = torch.full((b, n), -1), torch.full((b, n), -1)
    branch = torch.full((b, n), -1)
    for i, s in enumerate(samples):
        m = len(s.ids)
        ids[i, :m] = torch.from_numpy(s.ids.astype(np.int64))
        positions[:, i, :m] = torch.from_numpy(s.positions.astype(np.int64))
        labels[i, :m] = torch.from_numpy(s.labels.astype(np.int64))
        task[i, :m] = torch.from_numpy(s.task.astype(np.int64))
        branch[i, :m] = torch.from_numpy(s.branch.astype(np.int64))
    mask = (branch[:, None, :] == 0) | (branch[:, None, :] == branch[:, :, None])
    mask &= torch.ones(n, n, dtype=torch.bool).tril()
    mask |= torch.eye(n, dtype=torch.bool)
    return ids, positions, mask[:, None], labels, task


def export(net, tokenizer_folder, out):
    """An HF folder in bf16."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    tokenizer = load_tokenizer(tokenizer_folder)
    fields, ends = config_json(tokenizer)
    tensors = {k: v.detach().to(torch.bfloat16).contiguous() for k, v in net.state_dict().items() if k != "lm_head.weight"}
    save_file(tensors, out / "model.safetensors.part", {"format": "pt"})
    (out / "model.safetensors.part").rename(out / "model.safetensors")
    write = lambda name, value: (out / name).write_text(json.dumps(value, indent=2) + "\n")
    write("config.json", fields)
    write("generation_config.json", {"bos_token_id": ends[1], "do_sample": False, "eos_token_id": ends, "pad_token_id": ends[1]})
    common = {"do_convert_rgb": True, "do_normalize": True, "do_rescale": True, "do_resize": True, "image_mean": [.5] * 3,
              "image_std": [.5] * 3, "merge_size": MERGE, "patch_size": PATCH, "resample": 3, "rescale_factor": 1 / 255,
              "temporal_patch_size": 2, "processor_class": "Qwen3VLProcessor"}
    write("preprocessor_config.json", dict(common, image_processor_type="Qwen2VLImageProcessorFast",
                                           size={"shortest_edge": STILL_PIXELS[0], "longest_edge": STILL_PIXELS[1]}))
    write("video_preprocessor_config.json", dict(common, video_processor_type="Qwen3VLVideoProcessor", fps=2, min_frames=4,
                                                 max_frames=16, size={"shortest_edge": CLIP_PIXELS[0], "longest_edge": CLIP_PIXELS[1]}))
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"):
        (out / name).write_text((Path(tokenizer_folder) / name).read_text(encoding="utf-8").rstrip("\n") + "\n", encoding="utf-8")
    template = json.loads((Path(tokenizer_folder) / "tokenizer_config.json").read_text())["chat_template"]
    (out / "chat_template.jinja").write_text(template)
    write("chat_template.json", {"chat_template": template})


@torch.no_grad()
def check(net, encoder, pictures):
    """Largest difference of the logits between this forward pass and transformers', over branches put one by one."""
    worst = 0.0
    for pixels in pictures:
        h, w = pixels.shape[:2]
        frames = torch.from_numpy(pixels)[None]
        merged, deep, _ = see(net, frames)
        branches = [[(0, "What is this?", "A dog.", False)], [(0, "Read the text.", "abc 1", True), (0, "Why?", "No.", False)]]
        packed = encoder.encode(h // CELL, w // CELL, None, branches)
        ids, positions, mask, labels, _ = batch_of([packed], 0)
        ours = F.linear(read(net, ids, positions, mask, ids == encoder.special["<|image_pad|>"], merged, deep),
                        net.model.language_model.embed_tokens.weight)[0]
        x = patches(frames)[0].view(-1, 3, 1, PATCH * PATCH).expand(-1, -1, 2, -1).reshape(-1, 6 * PATCH * PATCH)
        for number, turns in enumerate(branches, 1):
            alone = torch.from_numpy(encoder.encode(h // CELL, w // CELL, None, [turns]).ids.astype(np.int64))[None]
            kind = (alone == encoder.special["<|image_pad|>"]).int()
            theirs = net(input_ids=alone, pixel_values=x, image_grid_thw=torch.tensor([[1, h // PATCH, w // PATCH]]),
                         mm_token_type_ids=kind, attention_mask=torch.ones_like(alone)).logits[0]
            rows = torch.from_numpy(((packed.branch == 0) | (packed.branch == number)).nonzero()[0])
            worst = max(worst, float((ours[rows] - theirs).abs().max()))
    return worst
