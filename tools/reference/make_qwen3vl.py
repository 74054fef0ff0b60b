# SPDX-License-Identifier: MIT
"""Qwen3-VL on a tiny configuration, and tiny Qwen3, Qwen2 and Llama text models.

Sizes are chosen so that every branch differs: head_dim is not hidden / heads, the vision MLP is
not a multiple of anything, the position table is smaller and larger than the grids. Positions,
interpolation weights and rotary angles are float32 in transformers in both runs.
"""

import ast
import glob
import importlib.util
import math
import sys
import tempfile

from common import e4m3, gen_for, rel_err, save_json, save_st, versions

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM
from transformers import Qwen3Config, Qwen3ForCausalLM, Qwen3VLConfig
from transformers import Qwen3VLForConditionalGeneration
from transformers import Qwen3VLMoeConfig, Qwen3VLMoeForConditionalGeneration
from transformers.models.qwen2_vl import image_processing_pil_qwen2_vl as image_pil

IMAGE, VIDEO, START, END = 500, 501, 502, 503
MERGE, PATCH = 2, 16
NEW_TOKENS = 32

TEXT = dict(
    vocab_size=512,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=32,
    rms_norm_eps=1e-6,
    hidden_act="silu",
    max_position_embeddings=4096,
    attention_bias=False,
)
ROPE = dict(rope_type="default", mrope_interleaved=True, mrope_section=[8, 4, 4])
VISION = dict(
    depth=4,
    hidden_size=48,
    num_heads=2,
    intermediate_size=70,
    patch_size=PATCH,
    temporal_patch_size=2,
    spatial_merge_size=MERGE,
    in_channels=3,
    num_position_embeddings=36,
    deepstack_visual_indexes=[0, 2, 3],
    out_hidden_size=64,
    hidden_act="gelu_pytorch_tanh",
)


def config_json(tied):
    """As released checkpoints write it (transformers 4.57: rope_theta beside rope_scaling)."""
    ids = dict(
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        vision_start_token_id=START,
        vision_end_token_id=END,
    )
    text = dict(
        TEXT, model_type="qwen3_vl_text", rope_theta=5000000, rope_scaling=ROPE, dtype="bfloat16"
    )
    return dict(
        ids,
        architectures=["Qwen3VLForConditionalGeneration"],
        model_type="qwen3_vl",
        text_config=text,
        vision_config=dict(VISION, model_type="qwen3_vl"),
        tie_word_embeddings=tied,
    )


def fill(model, key):
    """Norm weights U(0.5, 1.5), biases N(0, 0.1), matrices wide enough to expose errors."""
    for name, p in model.named_parameters():
        g = gen_for(key, name)
        leaf = name.split(".")[-1]
        if leaf == "bias":
            v = torch.randn(p.shape, generator=g) * 0.1
        elif p.dim() == 1:
            v = torch.rand(p.shape, generator=g) + 0.5
        elif "embed" in name and p.dim() == 2:
            v = torch.randn(p.shape, generator=g) * 0.5
        else:
            v = torch.randn(p.shape, generator=g) * (1.2 / p[0].numel() ** 0.5)
        with torch.no_grad():
            p.copy_(e4m3(v))
    return model.eval()


def build(tied=False):
    text = dict(TEXT, rope_parameters=dict(ROPE, rope_theta=5000000.0))
    cfg = Qwen3VLConfig(
        text_config=dict(text, tie_word_embeddings=tied),
        vision_config=VISION,
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        vision_start_token_id=START,
        vision_end_token_id=END,
        tie_word_embeddings=tied,
    )
    cfg._attn_implementation = "eager"
    cfg.text_config._attn_implementation = cfg.vision_config._attn_implementation = "eager"
    return fill(Qwen3VLForConditionalGeneration(cfg), "qwen3vl")


# ---- cases: ("t", n) text, ("i", h, w) image and ("v", frames, h, w) video, in patches ----
CASES = {
    "text": [("t", 21)],
    "square": [("t", 4), ("i", 4, 4), ("t", 5)],
    "wide": [("t", 3), ("i", 2, 10), ("t", 4)],
    "tall": [("t", 3), ("i", 8, 2), ("t", 4)],
    "large": [("t", 2), ("i", 10, 8), ("t", 3)],
    "two": [("i", 4, 6), ("t", 2), ("i", 6, 2), ("t", 3)],
    "last": [("t", 2), ("I", 4, 4)],
    "video1": [("t", 3), ("v", 2, 4, 4), ("t", 3)],
    "video2": [("t", 3), ("v", 3, 4, 2), ("t", 3)],
    "video3": [("t", 3), ("v", 6, 2, 6), ("t", 3)],
    "mixed": [("t", 2), ("i", 4, 2), ("t", 2), ("v", 4, 2, 4), ("t", 2), ("i", 2, 2), ("t", 3)],
}
STAGES = {"square", "wide", "two", "video2", "mixed"}  # with every intermediate tensor


def patchify(frames):
    """u8 [t, h, w, 3] -> f32 [patches, 1536] in merge order; the last frame repeats to even."""
    t, h, w, _ = frames.shape
    if t % 2:
        frames = torch.cat([frames, frames[-1:]])
        t += 1
    x = (frames.float() - 127.5) / 127.5
    x = x.permute(0, 3, 1, 2).reshape(
        t // 2, 2, 3, h // 32, 2, 16, w // 32, 2, 16
    )  # t, T, C, bh, ih, y, bw, iw, x
    return x.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(-1, 1536)


def make_inputs(name):
    g = gen_for("qwen3vl case", name)

    def words(n):
        return torch.randint(0, 490, (n,), generator=g).tolist()

    def pixels(t, h, w):
        small = torch.rand((t, 3, h * 2, w * 2), generator=g)
        big = torch.nn.functional.interpolate(small, scale_factor=8, mode="bilinear")
        return (big * 255.99).to(torch.uint8).permute(0, 2, 3, 1).contiguous()

    ids, kinds, media = [], [], []
    for part in CASES[name]:
        if part[0] == "t":
            ids += words(part[1])
            kinds += [0] * part[1]
        elif part[0] in "iI":
            _, h, w = part
            media.append((1, pixels(1, h, w), (1, h, w)))
            n = h * w // 4
            # "I": the image is the last thing of the prompt, without its end token
            tail = [END] if part[0] == "i" else []
            ids += [START] + [IMAGE] * n + tail
            kinds += [0] + [1] * n + [0] * len(tail)
        else:
            _, frames, h, w = part
            t = (frames + 1) // 2
            media.append((2, pixels(frames, h, w), (t, h, w)))
            for _ in range(t):
                stamp = words(4)
                n = h * w // 4
                ids += stamp + [START] + [VIDEO] * n + [END]
                kinds += [0] * 5 + [2] * n + [0]
    return torch.tensor([ids]), torch.tensor([kinds]), media


def kwargs_of(media, kinds, dtype):
    kw = {"mm_token_type_ids": kinds}
    for kind, px, grid in ((1, "pixel_values", "image_grid_thw"),
                           (2, "pixel_values_videos", "video_grid_thw")):
        mine = [m for m in media if m[0] == kind]
        if mine:
            kw[px] = torch.cat([patchify(m[1]) if m[0] == 2 else
                                patchify(m[1].repeat(2, 1, 1, 1)) for m in mine]).to(dtype)
            kw[grid] = torch.tensor([m[2] for m in mine])
    return kw


class Record:
    """Every output of the named modules in calling order, and what goes into `inputs`."""

    def __init__(self, model, names, inputs):
        mods = dict(model.named_modules())
        self.out = {n: [] for n in names}
        self.into = {}
        self.handles = [mods[n].register_forward_hook(self.hook(n)) for n in names]
        self.handles += [mods[n].register_forward_pre_hook(self.pre_hook(n)) for n in inputs]

    def pre_hook(self, name):
        def fn(_mod, args):
            self.into[name] = args[0].detach()

        return fn

    def hook(self, name):
        def fn(_mod, _args, res):
            res = res[0] if isinstance(res, (tuple, list)) else res
            self.out[name].append(res.detach())

        return fn

    def close(self):
        for h in self.handles:
            h.remove()


def run_case(model, name, dtype):
    ids, kinds, media = make_inputs(name)
    vis = ["model.visual.patch_embed"]
    vis += [f"model.visual.blocks.{i}" for i in range(VISION["depth"])]
    vis += [f"model.visual.deepstack_merger_list.{i}" for i in range(3)] + ["model.visual.merger"]
    norm = "model.language_model.norm"
    # deepstack rows are added after a layer: its result is what goes into the next one
    n_layers = model.config.text_config.num_hidden_layers
    after = [f"model.language_model.layers.{i}" for i in range(1, n_layers)] + [norm]
    rec = Record(model, vis + [norm], after)
    out = {}
    with torch.no_grad():
        pos, delta = model.model.get_rope_index(
            ids,
            mm_token_type_ids=kinds,
            **{k: v for k, v in kwargs_of(media, kinds, dtype).items() if "grid" in k},
        )
        logits = model(input_ids=ids, **kwargs_of(media, kinds, dtype)).logits[0]
    rec.close()
    # images go through the tower in one call, videos in another: images first
    for n in vis:
        if rec.out[n]:
            out["vision/" + n[len("model.visual."):]] = torch.cat(
                [r.reshape(-1, r.shape[-1]) for r in rec.out[n]]
            )
    for i, n in enumerate(after):
        out[f"text/layers.{i}"] = rec.into[n][0]
    out["text/norm"] = rec.out[norm][0][0]
    out["logits"] = logits
    tokens, margin = [], 1e30
    with torch.no_grad():
        for _ in range(NEW_TOKENS):
            model.model.rope_deltas = None
            row = model(input_ids=ids, **kwargs_of(media, kinds, dtype)).logits[0, -1]
            top = torch.topk(row, 2)
            margin = min(margin, float(top.values[0] - top.values[1]))
            tokens.append(int(top.indices[0]))
            ids = torch.cat([ids, top.indices[:1][None]], 1)
            kinds = torch.cat([kinds, torch.zeros(1, 1, dtype=kinds.dtype)], 1)
    return out, pos[:, 0], int(delta[0, 0]), tokens, margin


def golden_case(model, name, io):
    """Runs a case in both precisions and keeps its inputs and integers; returns its float64
    stages, their distance from float32, and the least margin between two best tokens."""
    results = {}
    for dtype in (torch.float32, torch.float64):
        model.to(dtype)
        results[dtype] = run_case(model, name, dtype)
    model.to(torch.float32)
    (f32, _, _, tok32, _), (f64, pos, delta, tokens, margin) = results[torch.float32], results[torch.float64]
    assert tok32 == tokens, name
    ids, _, media = make_inputs(name)
    io[f"{name}/ids"] = ids[0].int()
    io[f"{name}/position_ids"] = pos.int()
    io[f"{name}/delta"] = torch.tensor([delta], dtype=torch.int32)
    io[f"{name}/tokens"] = torch.tensor(tokens, dtype=torch.int32)
    for i, (kind, frames, grid) in enumerate(media):
        io[f"{name}/media.{i}/pixels"] = frames
        io[f"{name}/media.{i}/grid"] = torch.tensor((kind,) + grid, dtype=torch.int32)
    return f64, max(rel_err(f32[k], f64[k]) for k in f64), margin


def make_vl(out_dir):
    model = build()
    io, worst, least = {}, 0.0, 1e30
    for name in CASES:
        f64, distance, margin = golden_case(model, name, io)
        worst, least = max(worst, distance), min(least, margin)
        io[f"{name}/kinds"] = make_inputs(name)[1][0].to(torch.uint8)
        for k, v in f64.items():
            if k == "logits":
                v = v if name in ("text", "square") else v[-1:]
            elif name not in STAGES and not (name == "text" and k.startswith("text/")):
                continue
            io[f"{name}/{k}"] = v.float()
    assert least > 3e-4, least
    assert worst < 2e-4, worst
    meta = dict(versions(), f32_vs_f64=f"{worst:.1e}", least_margin=f"{least:.1e}")
    tied = build(tied=True).double()
    ids, _, _ = make_inputs("text")
    with torch.no_grad():
        io["tied/logits"] = tied(input_ids=ids).logits[0].float()
    save_st(f"{out_dir}/qwen3vl/vl.io.safetensors", io, meta)
    sd = {k: v.bfloat16() for k, v in model.state_dict().items()}
    for k, v in model.state_dict().items():
        assert torch.equal(sd[k].float(), v), k
    save_st(f"{out_dir}/qwen3vl/vl.safetensors", sd, {"format": "pt"})
    save_json(f"{out_dir}/qwen3vl/vl.json", config_json(False))
    save_json(f"{out_dir}/qwen3vl/vl_tied.json", config_json(True))


# ---- a mixture of experts ----
MOE = dict(TEXT, num_hidden_layers=3, num_experts=6, num_experts_per_tok=2, moe_intermediate_size=20,
           mlp_only_layers=[1], decoder_sparse_step=1)
MOE_CASES = ("text", "wide", "mixed")


def build_moe():
    cfg = Qwen3VLMoeConfig(
        text_config=dict(MOE, rope_parameters=dict(ROPE, rope_theta=5000000.0), tie_word_embeddings=False),
        vision_config=VISION,
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        vision_start_token_id=START,
        vision_end_token_id=END,
        tie_word_embeddings=False,
    )
    for c in (cfg, cfg.text_config, cfg.vision_config):
        c._attn_implementation = "eager"
        c._experts_implementation = "eager"
    model = Qwen3VLMoeForConditionalGeneration(cfg)
    fill(model, "qwen3vl moe")
    for name, p in model.named_parameters():
        if ".experts." in name:  # the rows of one expert, not all of them, are its fan-in
            g = gen_for("qwen3vl moe", name)
            with torch.no_grad():
                p.copy_(e4m3(torch.randn(p.shape, generator=g) * (1.2 / p.shape[-1] ** 0.5)))
    return model


def hub_state(model):
    """Names and layout of released checkpoints: experts as [experts, in, out]."""
    return {k: (v.transpose(1, 2) if ".experts." in k else v).contiguous() for k, v in model.state_dict().items()}


def check_hub_state(model):
    """transformers reads it as the same model (what it writes itself are [experts, out, in])."""
    with tempfile.TemporaryDirectory() as d:
        model.save_pretrained(d)
        (path,) = glob.glob(f"{d}/*.safetensors")
        save_file(hub_state(model), path, {"format": "pt"})
        again = Qwen3VLMoeForConditionalGeneration.from_pretrained(d).state_dict()
    assert all(torch.equal(again[k], v) for k, v in model.state_dict().items())


def make_moe(out_dir):
    model = build_moe()
    check_hub_state(model)
    io, worst, least = {}, 0.0, 1e30
    for name in MOE_CASES:
        f64, distance, margin = golden_case(model, name, io)
        worst, least = max(worst, distance), min(least, margin)
        for k, v in f64.items():
            if k.startswith("text/"):
                io[f"{name}/{k}"] = v.float()
            elif k == "logits":
                io[f"{name}/{k}"] = (v if name == "text" else v[-1:]).float()
    assert least > 3e-4, least
    assert worst < 2e-4, worst
    meta = dict(versions(), f32_vs_f64=f"{worst:.1e}", least_margin=f"{least:.1e}")
    save_st(f"{out_dir}/qwen3vl/moe.io.safetensors", io, meta)
    sd = {k: v.bfloat16() for k, v in hub_state(model).items()}
    for k, v in hub_state(model).items():
        assert torch.equal(sd[k].float(), v), k
    save_st(f"{out_dir}/qwen3vl/moe.safetensors", sd, {"format": "pt"})
    cfg = config_json(False)
    cfg.update(architectures=["Qwen3VLMoeForConditionalGeneration"], model_type="qwen3_vl_moe")
    text = dict(MOE, model_type="qwen3_vl_moe_text", rope_theta=5000000, rope_scaling=ROPE, dtype="bfloat16",
                norm_topk_prob=True)
    cfg.update(text_config=text, vision_config=dict(VISION, model_type="qwen3_vl_moe"))
    save_json(f"{out_dir}/qwen3vl/moe.json", cfg)


# ---- text models ----
SMALL = dict(
    vocab_size=160,
    hidden_size=48,
    intermediate_size=64,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=256,
)
LLAMA3 = dict(
    rope_type="llama3",
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_position_embeddings=32,
)
TEXTS = {  # class, config class, arguments, rope as checkpoints write it
    "qwen3": (
        Qwen3ForCausalLM,
        Qwen3Config,
        dict(SMALL, head_dim=16, rms_norm_eps=1e-6, tie_word_embeddings=True),
        dict(rope_theta=1000000.0),
    ),
    "qwen2": (
        Qwen2ForCausalLM,
        Qwen2Config,
        dict(SMALL, rms_norm_eps=1e-5, tie_word_embeddings=False),
        dict(rope_theta=1000000.0),
    ),
    "llama": (
        LlamaForCausalLM,
        LlamaConfig,
        dict(SMALL, num_key_value_heads=4, rms_norm_eps=1e-5, tie_word_embeddings=False),
        dict(rope_theta=500000.0, rope_scaling=LLAMA3),
    ),
}


def make_text(name, out_dir):
    cls, cfg_cls, args, rope = TEXTS[name]
    scaling = rope.get("rope_scaling") or dict(rope_type="default")
    cfg = cfg_cls(**args, rope_parameters=dict(scaling, rope_theta=rope["rope_theta"]))
    cfg._attn_implementation = "eager"
    model = fill(cls(cfg), name).double()
    ids = torch.randint(0, 160, (1, 40), generator=gen_for(name, "ids"))
    io = {"ids": ids[0].int()}
    with torch.no_grad():
        r = model(input_ids=ids, output_hidden_states=True)
        io["logits"] = r.logits[0].float()
        for i, h in enumerate(r.hidden_states):  # the last one is after the final norm
            io[f"hidden_states.{i}"] = h[0].float()
        cur, margin = ids, 1e30
        for _ in range(NEW_TOKENS):
            top = torch.topk(model(input_ids=cur).logits[0, -1], 2)
            margin = min(margin, float(top.values[0] - top.values[1]))
            cur = torch.cat([cur, top.indices[:1][None]], 1)
        assert margin > 1e-3, (name, margin)
    io["tokens"] = cur[0, 40:].int()
    save_st(f"{out_dir}/qwen3vl/{name}.io.safetensors", io, versions())
    sd = {k: v.bfloat16() for k, v in model.state_dict().items()}
    if args["tie_word_embeddings"]:
        sd.pop("lm_head.weight", None)
    save_st(f"{out_dir}/qwen3vl/{name}.safetensors", sd, {"format": "pt"})
    save_json(
        f"{out_dir}/qwen3vl/{name}.json",
        dict(args, **rope, architectures=[cls.__name__], model_type=cfg.model_type),
    )


# ---- preprocessing ----
SIZES = [
    (32, 32), (80, 80), (80, 48), (112, 144), (1, 1), (1, 200), (16, 500), (33, 6000), (1024, 1024),
    (1080, 1920), (1754, 1240), (4096, 4096), (5000, 7000), (30000, 200), (255, 257), (768, 48),
    (720, 1280), (3000, 3000), (176, 208), (240, 272), (4097, 4095), (20000, 101),
]
LIMITS = [(65536, 16777216), (4096, 16777216), (1048576, 2097152), (65536, 65536), (1024, 8192)]
VIDEOS = [
    (2, 240, 320), (4, 720, 1280), (7, 480, 854), (16, 1080, 1920), (48, 360, 640), (768, 720, 1280),
    (5, 20, 700), (3, 1000, 30), (600, 64, 64), (9, 80, 80),
]


def video_smart_resize():
    """transformers' own function; its module cannot be imported without torchvision."""
    spec = importlib.util.find_spec("transformers.models.qwen3_vl.video_processing_qwen3_vl")
    with open(spec.origin) as f:
        tree = ast.parse(f.read())
    tree.body = [
        n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "smart_resize"
    ]
    scope = {"math": math}
    exec(compile(tree, spec.origin, "exec"), scope)
    return scope["smart_resize"]


def make_preprocess(out_dir):
    video_resize = video_smart_resize()
    rows = []
    for lo, hi in LIMITS:
        for h, w in SIZES:
            try:
                rows.append([h, w, lo, hi, *image_pil.smart_resize(h, w, 32, lo, hi)])
            except ValueError:
                rows.append([h, w, lo, hi, 0, 0])
    clips = []
    for lo, hi in [(4096, 25165824), (131072, 25165824), (131072, 1000000)]:
        for n, h, w in VIDEOS:
            for cap in (False, True):
                top = hi
                if cap:
                    top = max(min(768 * 1024, hi // n), int(lo * 1.05)) * n
                try:
                    size = video_resize(n, h, w, 2, 32, lo, top)
                except ValueError:
                    size = (0, 0)
                clips.append([n, h, w, lo, hi, int(cap), *size])
    save_json(f"{out_dir}/qwen3vl/preprocess.json", dict(images=rows, videos=clips))
    proc = image_pil.Qwen2VLImageProcessorPil(
        patch_size=16, merge_size=2, temporal_patch_size=2, image_mean=[0.5] * 3,
        image_std=[0.5] * 3, size=dict(shortest_edge=1024, longest_edge=16777216),
    )
    g = gen_for("patch order")
    px = torch.randint(0, 256, (64, 96, 3), generator=g, dtype=torch.uint8)
    px.view(-1)[:256] = torch.arange(256)
    got = proc(images=[px.numpy()], return_tensors="pt")
    own = patchify(px[None].repeat(2, 1, 1, 1))
    assert got["image_grid_thw"].tolist() == [[1, 4, 6]]
    assert float((got["pixel_values"] - own).abs().max()) < 2e-6
    save_st(
        f"{out_dir}/qwen3vl/patches.safetensors",
        {"pixels": px, "patches": got["pixel_values"].float()},
        versions(),
    )


def main(out_dir):
    make_preprocess(out_dir)
    for name in TEXTS:
        make_text(name, out_dir)
    make_vl(out_dir)
    make_moe(out_dir)


if __name__ == "__main__":
    main(sys.argv[1])
