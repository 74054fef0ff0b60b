# SPDX-License-Identifier: MIT
"""LoRA and relatives on the tiny sd1 UNet and clip_l (kohya_sdxl: on sdxl); textual inversion."""

import os
import sys

from common import e4m3, gen_for, rel_err, save_st, versions

import torch
from torch import nn

import make_clip
import make_unet
from keymap import unet_name

T = "down_blocks.0.attentions.0.transformer_blocks.0."
LINEAR = [
    T + "attn1.to_q",
    T + "attn1.to_out.0",
    T + "attn2.to_k",
    T + "attn2.to_v",
    T + "ff.net.0.proj",
    T + "ff.net.2",
    "mid_block.attentions.0.transformer_blocks.0.attn2.to_q",
    "up_blocks.1.attentions.1.transformer_blocks.0.attn1.to_v",
]
CONV1 = ["down_blocks.0.attentions.0.proj_in", "up_blocks.1.attentions.0.proj_out"]
CONV3 = [
    "down_blocks.0.resnets.0.conv1",
    "down_blocks.0.downsamplers.0.conv",
    "up_blocks.0.resnets.1.conv2",
]
EXTRA = [
    "conv_in",
    "mid_block.resnets.1.time_emb_proj",
    "time_embedding.linear_1",
    "up_blocks.1.resnets.0.conv_shortcut",
]
TEXT = [
    "encoder.layers.0.self_attn.q_proj",
    "encoder.layers.1.self_attn.out_proj",
    "encoder.layers.2.mlp.fc1",
    "encoder.layers.2.mlp.fc2",
]


def rnd(shape, std, *key):
    """Values that survive f16."""
    return e4m3(torch.randn(shape, generator=gen_for("lora", *key)) * std)


class Lora:
    """One file: tensors under the dialect's names and deltas (or whole weights) by module."""

    def __init__(self, name):
        self.name, self.file, self.delta, self.dora, self.bias = name, {}, {}, {}, {}

    def put(self, base, leaf, t):
        self.file[f"{base}.{leaf}"] = t.half()
        assert torch.equal(t.half().float(), t.float()), (base, leaf)


def factors(w, rank, *key):
    """down [rank, in, k, k], up [out, rank, 1, 1] (or matrices); product about a third of w."""
    down = rnd((rank,) + tuple(w.shape[1:]), 1.0, *key, "down")
    up_shape = (w.shape[0], rank) + (1,) * (w.dim() - 2)
    target = 0.35 * float(w.std()) / rank**0.5
    return down, rnd(up_shape, target, *key, "up")


def product(up, down):
    return (up.double().flatten(1) @ down.double().flatten(1)).reshape(
        up.shape[:1] + down.shape[1:]
    )


def kohya_name(kind, module):
    prefix = {"unet": "lora_unet_", "te": "lora_te_text_model_"}[kind]
    return prefix + module.replace(".", "_")


def all_modules(nets, *groups):
    return [("unet", m) for g in groups for m in g] + [("te", m) for m in TEXT]


def weight(nets, kind, module):
    net = nets[kind].get_submodule(module)
    return net.weight


def kohya(nets, plain=False):
    """LoRA of linear layers, ranks 2 to 4, own alphas; the first has none (then alpha = rank).

    plain: one rank and one alpha throughout, which is all that diffusers applies right.
    """
    f = Lora("kohya")
    for i, (kind, m) in enumerate(all_modules(nets, LINEAR, CONV1)):
        i = 3 * i + 1 if plain else i
        w, rank = weight(nets, kind, m), 2 + i % 3
        down, up = factors(w, rank, "kohya", m)
        base, alpha = kohya_name(kind, m), [1.0, 2.0, 6.0][i % 3]
        f.put(base, "lora_down.weight", down)
        f.put(base, "lora_up.weight", up)
        if i:
            f.put(base, "alpha", torch.tensor(alpha))
        f.delta[kind, m] = product(up, down) * (alpha / rank if i else 1.0)
    return f


def locon(nets, plain=False):
    """kohya LoRA of convolutions too, one of them with a Tucker core (lora_mid)."""
    f = Lora("locon")
    for i, (kind, m) in enumerate(all_modules(nets, LINEAR[:2], CONV3, EXTRA)):
        w, rank, base = weight(nets, kind, m), 3, kohya_name(kind, m)
        f.put(base, "alpha", torch.tensor(1.5))
        if m == CONV3[0] and not plain:
            down = rnd((rank, w.shape[1], 1, 1), 0.5, "locon", m, "down")
            mid = rnd((rank, rank, 3, 3), 0.5, "locon", m, "mid")
            up = rnd((w.shape[0], rank, 1, 1), 0.125, "locon", m, "up")
            f.put(base, "lora_mid.weight", mid)
            d = torch.einsum(
                "oa,abhw,bi->oihw", up[:, :, 0, 0].double(), mid.double(), down[:, :, 0, 0].double()
            )
        else:
            down, up = factors(w, rank, "locon", m)
            d = product(up, down)
        f.put(base, "lora_down.weight", down)
        f.put(base, "lora_up.weight", up)
        f.delta[kind, m] = d * 0.5
    return f


def peft(nets):
    """diffusers / PEFT names; no alpha, so the scale is 1."""
    f = Lora("peft")
    for kind, m in all_modules(nets, LINEAR, CONV1, CONV3[:1]):
        w = weight(nets, kind, m)
        down, up = factors(w, 4, "peft", m)
        base = "unet." + m if kind == "unet" else "text_encoder.text_model." + m
        f.put(base, "lora_A.weight", down)
        f.put(base, "lora_B.weight", up)
        f.delta[kind, m] = product(up, down)
    return f


def diffusers_old(nets):
    """The attention-processor names of early diffusers."""
    f = Lora("diffusers_old")
    for m in LINEAR[:4]:
        w = weight(nets, "unet", m)
        down, up = factors(w, 4, "old", m)
        attn, proj = m.split("attn")[0] + "attn" + m.split("attn")[-1][0], m.split("attn")[-1][2:]
        base = f"unet.{attn}.processor.{proj.replace('.0', '')}_lora"
        f.put(base, "down.weight", down)
        f.put(base, "up.weight", up)
        f.delta["unet", m] = product(up, down)
    return f


def cp(t, wa, wb):
    """LyCORIS' Tucker form: t [r, r, kh, kw], wa [r, out], wb [r, in]."""
    return torch.einsum("abhw,ao,bi->oihw", t.double(), wa.double(), wb.double())


def loha(nets):
    f = Lora("loha")
    for kind, m in all_modules(nets, LINEAR[:4], CONV1[:1], CONV3[:2]):
        w, rank, base = weight(nets, kind, m), 3, kohya_name(kind, m)
        out, inner = w.shape[0], w[0].numel()
        tucker = m == CONV3[1]
        parts, prod = {}, 1.0
        for i in "12":
            if tucker:
                wa = rnd((rank, out), 0.5, "loha", m, i, "a")
                wb = rnd((rank, w.shape[1]), 0.5, "loha", m, i, "b")
                t = rnd((rank, rank, 3, 3), 0.5, "loha", m, i, "t")
                parts["hada_t" + i] = t
                prod = prod * cp(t, wa, wb)
            else:
                wa = rnd((out, rank), 0.25, "loha", m, i, "a")
                wb = rnd((rank, inner), 0.5, "loha", m, i, "b")
                prod = prod * (wa.double() @ wb.double())
            parts[f"hada_w{i}_a"], parts[f"hada_w{i}_b"] = wa, wb
        for leaf, t in parts.items():
            f.put(base, leaf, t)
        f.put(base, "alpha", torch.tensor(1.5))
        f.delta[kind, m] = (prod * 0.5).reshape(w.shape)
    return f


def lokr(nets):
    """Four forms: w1 and w2 full (alpha ignored), w2 factored, both factored, w2 in Tucker form."""
    f = Lora("lokr")
    for n, (kind, m) in enumerate(all_modules(nets, LINEAR[:5], CONV1[:1], CONV3[:2])):
        w, base, rank = weight(nets, kind, m), kohya_name(kind, m), 2
        o1, i1 = 4, 4 if w.shape[1] % 4 == 0 else 1
        o2, i2, k = w.shape[0] // o1, w.shape[1] // i1, tuple(w.shape[2:])
        form = 3 if m == CONV3[1] else n % 3
        w1 = rnd((o1, i1), 0.5, "lokr", m, "w1")
        scale = 1.0
        if form == 2:
            a, b = rnd((o1, rank), 0.5, "lokr", m, "w1a"), rnd((rank, i1), 0.5, "lokr", m, "w1b")
            f.put(base, "lokr_w1_a", a)
            f.put(base, "lokr_w1_b", b)
            w1 = a.double() @ b.double()
        else:
            f.put(base, "lokr_w1", w1)
        if form == 0:
            w2 = rnd((o2, i2) + k, 0.125, "lokr", m, "w2")
            f.put(base, "lokr_w2", w2)
        elif form == 3:
            t = rnd((rank, rank) + k, 0.5, "lokr", m, "t2")
            a, b = rnd((rank, o2), 0.5, "lokr", m, "w2a"), rnd((rank, i2), 0.5, "lokr", m, "w2b")
            f.put(base, "lokr_t2", t)
            f.put(base, "lokr_w2_a", a)
            f.put(base, "lokr_w2_b", b)
            w2, scale = cp(t, a, b), 0.5
        else:
            a = rnd((o2, rank), 0.25, "lokr", m, "w2a")
            b = rnd((rank, i2 * (k[0] * k[1] if k else 1)), 0.5, "lokr", m, "w2b")
            f.put(base, "lokr_w2_a", a)
            f.put(base, "lokr_w2_b", b)
            w2, scale = (a.double() @ b.double()).reshape((o2, i2) + k), 0.5
        f.put(base, "alpha", torch.tensor(scale * rank))
        w1 = w1.double().reshape((o1, i1) + (1,) * len(k))
        f.delta[kind, m] = torch.kron(w1, w2.double().contiguous()).reshape(w.shape) * scale
    return f


def dora_weight(w, delta, scale):
    """(w + delta) rescaled to length `scale`, along the axis that the shape of `scale` names."""
    full = w.double() + delta
    axis = 0 if scale.shape[0] == w.shape[0] else 1
    dims = [d for d in range(w.dim()) if d != axis]
    return full * (scale.double() / full.pow(2).sum(dims, keepdim=True).sqrt())


def dora(nets):
    """kohya / LyCORIS names: dora_scale [out, 1, ..] for some modules, [1, in, ..] for others."""
    f = Lora("dora")
    for i, (kind, m) in enumerate(all_modules(nets, LINEAR[:6], CONV1[:1], CONV3[:1])):
        w, rank, base = weight(nets, kind, m), 2, kohya_name(kind, m)
        down, up = factors(w, rank, "dora", m)
        d, axis = product(up, down) * 0.5, i % 2
        dims = [k for k in range(w.dim()) if k != axis]
        norm = w.detach().pow(2).sum(dims, keepdim=True).sqrt()
        scale = e4m3(norm * (1 + 0.25 * torch.randn(norm.shape, generator=gen_for("dora", m))))
        f.put(base, "lora_down.weight", down)
        f.put(base, "lora_up.weight", up)
        f.put(base, "alpha", torch.tensor(1.0))
        f.put(base, "dora_scale", scale)
        f.dora[kind, m] = dora_weight(w.detach(), d, scale)
    return f


def dora_peft(nets):
    """PEFT names: lora_magnitude_vector [out]."""
    f = Lora("dora_peft")
    for m in LINEAR[:4]:
        w = weight(nets, "unet", m).detach()
        down, up = factors(w, 2, "dora_peft", m)
        norm = w.pow(2).sum(1).sqrt()
        mag = e4m3(norm * (1 + 0.25 * torch.randn(norm.shape, generator=gen_for("dora_peft", m))))
        f.put("unet." + m, "lora_A.weight", down)
        f.put("unet." + m, "lora_B.weight", up)
        f.put("unet." + m, "lora_magnitude_vector", mag)
        f.dora["unet", m] = dora_weight(w, product(up, down), mag[:, None])
    return f


def full(nets):
    """Whole differences: .diff, .diff_b, and norms as .diff or w_norm / b_norm."""
    f = Lora("full")
    for kind, m in all_modules(nets, LINEAR[1:3], CONV3[:1], ["down_blocks.0.resnets.0.norm1"]):
        w, base = weight(nets, kind, m), kohya_name(kind, m)
        d = rnd(tuple(w.shape), 0.3 * float(w.std()), "full", m)
        f.put(base, "diff", d)
        f.delta[kind, m] = d.double()
        mod = nets[kind].get_submodule(m)
        if mod.bias is not None:
            b = rnd(tuple(mod.bias.shape), 0.25, "full", m, "bias")
            f.put(base, "diff_b", b)
            f.bias[kind, m] = b.double()
    m = "up_blocks.1.resnets.1.norm2"
    w, b = rnd((32,), 0.25, "full", m, "w"), rnd((32,), 0.25, "full", m, "b")
    f.put(kohya_name("unet", m), "w_norm", w)
    f.put(kohya_name("unet", m), "b_norm", b)
    f.delta["unet", m], f.bias["unet", m] = w.double(), b.double()
    return f


def kohya_sdxl(nets):
    """kohya's SDXL dialect: original UNet block names, lora_te1_ and lora_te2_."""
    f = Lora("kohya_sdxl")
    cfg = make_unet.config_of("sdxl")
    for kind, mods in (
        (
            "unet",
            [
                "down_blocks.1.attentions.0.proj_in",
                "down_blocks.1.attentions.1." + "transformer_blocks.1.attn2.to_k",
                "mid_block.attentions.0.transformer_blocks.0.ff.net.2",
                "up_blocks.0.attentions.2.transformer_blocks.1.attn1.to_out.0",
            ],
        ),
        ("te", TEXT[:2]),
        ("te2", TEXT[2:]),
    ):
        for m in mods:
            w = weight(nets, kind, m)
            down, up = factors(w, 4, "kohya_sdxl", kind, m)
            if kind == "unet":
                orig = unet_name(
                    m + ".weight",
                    cfg["layers_per_block"],
                    2,
                    lambda level: "CrossAttn" in cfg["up_block_types"][level],
                )
                base = "lora_unet_" + orig[: -len(".weight")].replace(".", "_")
            else:
                base = (
                    {"te": "lora_te1_", "te2": "lora_te2_"}[kind]
                    + "text_model_"
                    + m.replace(".", "_")
                )
            f.put(base, "lora_down.weight", down)
            f.put(base, "lora_up.weight", up)
            f.put(base, "alpha", torch.tensor(2.0))
            f.delta[kind, m] = product(up, down) * 0.5
    return f


def text_root(model):
    return model.text_model if hasattr(model, "text_model") else model


def fresh(xl):
    nets = {"unet": make_unet.build("sdxl" if xl else "sd1"), "te": make_clip.build("clip_l")}
    if xl:
        nets["te2"] = make_clip.build("clip_g")
    return {k: (v if k == "unet" else text_root(v)).double() for k, v in nets.items()}


def apply(nets, f, strength):
    """W + strength * delta; DoRA: W + strength * (W_dora - W)."""
    for (kind, m), d in f.delta.items():
        mod = nets[kind].get_submodule(m)
        mod.weight.data += strength[kind] * d.reshape(mod.weight.shape)
    for (kind, m), new in f.dora.items():
        mod = nets[kind].get_submodule(m)
        mod.weight.data += strength[kind] * (new.reshape(mod.weight.shape) - mod.weight.data)
    for (kind, m), b in f.bias.items():
        nets[kind].get_submodule(m).bias.data += strength[kind] * b


@torch.no_grad()
def outputs(nets, xl):
    ins = make_unet.inputs("sdxl" if xl else "sd1", "a")
    cond = {k: ins[k].double() for k in ("time_ids", "text_embeds") if k in ins} or None
    y = nets["unet"](
        ins["sample"].double(),
        ins["timestep"].long(),
        ins["encoder_hidden_states"].double(),
        added_cond_kwargs=cond,
    ).sample
    out = {"unet": y, "text": nets["te"](make_clip.prompt_ids("clip_l")).last_hidden_state[:1]}
    if xl:
        out["text2"] = nets["te2"](make_clip.prompt_ids("clip_g")).last_hidden_state[:1]
    return {k: v.detach().float() for k, v in out.items()}


def make_file(make, out, io):
    xl = make is kohya_sdxl
    base = outputs(fresh(xl), xl)
    f = make({k: v.float() for k, v in fresh(xl).items()})
    save_st(f"{out}/lora/{f.name}.safetensors", f.file)
    for tag, s in (("1", (1.0, 1.0)), ("0.6_0.3", (0.6, 0.3))):
        nets = fresh(xl)
        apply(nets, f, {"unet": s[0], "te": s[1], "te2": s[1]})
        got = outputs(nets, xl)
        touched = {k for k, _ in list(f.delta) + list(f.dora)}
        for k, v in got.items():
            changed = rel_err(v, base[k])
            kind = {"unet": "unet", "text": "te", "text2": "te2"}[k]
            assert (changed > 0.01) == (kind in touched), (f.name, k, changed)
            if kind in touched:
                io[f"{f.name}/{tag}/{k}"] = v
        if tag == "1":
            for kind, m in (
                list(f.delta)[:2] + list(f.dora)[:2] + [k for k in f.delta if k[1] in CONV3][:1]
            ):
                io[f"{f.name}/merged/{kind}/{m}.weight"] = (
                    nets[kind].get_submodule(m).weight.detach().float()
                )
    return f, got


def expect(f):
    nets = fresh(False)
    apply(nets, f, {"unet": 1.0, "te": 1.0})
    return outputs(nets, False)


def cross_check():
    """diffusers' own loader must reach the same outputs where it knows the dialect.

    It does not know LoHa, LoKr, lora_mid and dora_scale as kohya's tools shape it (dora_peft
    covers the formula), and mixes up alphas that differ from module to module: those are left
    out here (plain=True).
    """
    from diffusers import StableDiffusionPipeline

    source = {k: v.float() for k, v in fresh(False).items()}
    for make, opts in (
        (kohya, dict(plain=True)),
        (locon, dict(plain=True)),
        (peft, {}),
        (dora_peft, {}),
        (diffusers_old, {}),
    ):
        f = make(source, **opts)
        want = expect(f)
        pipe = StableDiffusionPipeline(
            vae=None,
            text_encoder=make_clip.build("clip_l").double(),
            tokenizer=None,
            unet=fresh(False)["unet"],
            scheduler=None,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        pipe.load_lora_weights(dict(f.file))
        pipe.unet.double()
        got = outputs({"unet": pipe.unet, "te": pipe.text_encoder.double()}, False)
        errs = {k: rel_err(got[k], want[k]) for k in got}
        assert max(errs.values()) < 1e-6, (f.name, errs)
        print("lora: diffusers agrees on", f.name)


def make_ti(out):
    """Textual inversion files: two vectors for clip_l (and clip_g), and what the encoder says."""
    v = rnd((2, 32), 0.5, "ti", "l")
    g = rnd((2, 64), 0.5, "ti", "g")
    os.makedirs(f"{out}/ti", exist_ok=True)
    save_st(f"{out}/ti/emb_params.safetensors", {"emb_params": v})
    save_st(f"{out}/ti/sdxl.safetensors", {"clip_l": v, "clip_g": g})
    save_st(f"{out}/ti/diffusers.safetensors", {"<tiny>": v})
    a1111 = {
        "string_to_token": {"*": 265},
        "string_to_param": {"*": v.clone()},
        "name": "tiny",
        "step": 100,
        "sd_checkpoint": None,
        "sd_checkpoint_name": None,
    }
    torch.save(a1111, f"{out}/ti/a1111.pt")
    torch.save(a1111, f"{out}/ti/a1111_legacy.pt", _use_new_zipfile_serialization=False)
    torch.save(
        {
            "string_to_token": {"*": torch.tensor(265)},
            "string_to_param": nn.ParameterDict({"*": nn.Parameter(v.clone())}),
        },
        f"{out}/ti/compvis.pt",
    )
    torch.save({"<tiny>": v.clone()}, f"{out}/ti/diffusers.bin")
    te = text_root(make_clip.build("clip_l")).double()
    ids = [make_clip.BOS, 17, 901, 902, 42] + [make_clip.EOS] * 72
    te.embeddings.token_embedding.weight.data[901:903] = v.double()
    with torch.no_grad():
        h = te(torch.tensor([ids])).last_hidden_state.float()
    save_st(
        f"{out}/ti/ti.io.safetensors",
        {
            "in/input_ids": torch.tensor([ids], dtype=torch.int32),
            "vectors": v,
            "vectors_g": g,
            "out/last_hidden_state": h,
        },
    )


def main(out):
    io = {}
    for make in (kohya, locon, peft, diffusers_old, loha, lokr, dora, dora_peft, full, kohya_sdxl):
        make_file(make, out, io)
    cross_check()
    save_st(f"{out}/lora/lora.io.safetensors", io, versions())
    make_ti(out)


if __name__ == "__main__":
    main(sys.argv[1])
