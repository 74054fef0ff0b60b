# SPDX-License-Identifier: MIT
"""CLIP text encoders: transformers' CLIPTextModel(WithProjection) at tiny size."""

import sys

from common import gen_for, randomise, run_both, save_json, save_st, state_f16, versions

import torch
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

VOCAB, BOS, EOS = 1000, 998, 999

# name: (class, act, hidden, heads, ffn, projection, eos in config, pad id)
# eos_token_id 2 is what the SD 1.x configs say: "pool at the largest id".
ENCODERS = {
    "clip_l": (CLIPTextModel, "quick_gelu", 32, 4, 96, 32, 2, EOS),
    "clip_h": (CLIPTextModel, "gelu", 48, 3, 160, 32, 2, 0),
    "clip_g": (CLIPTextModelWithProjection, "gelu", 64, 2, 192, 48, EOS, 0),
}


def config_of(name):
    _, act, hidden, heads, ffn, proj, eos, _ = ENCODERS[name]
    return dict(
        vocab_size=VOCAB,
        hidden_size=hidden,
        intermediate_size=ffn,
        num_hidden_layers=3,
        num_attention_heads=heads,
        max_position_embeddings=77,
        hidden_act=act,
        projection_dim=proj,
        layer_norm_eps=1e-5,
        bos_token_id=BOS,
        eos_token_id=eos,
        pad_token_id=1,
    )


def config_json(name):
    cls = ENCODERS[name][0].__name__
    return dict(
        config_of(name),
        architectures=[cls],
        model_type="clip_text_model",
        torch_dtype="float16",
        attention_dropout=0.0,
        initializer_range=0.02,
        initializer_factor=1.0,
        dropout=0.0,
    )


def build(name):
    model = ENCODERS[name][0](CLIPTextConfig(**config_of(name)))
    return randomise(model, name)


def state(name, model):
    """On-disk names of transformers: always under text_model., except text_projection."""
    out = {}
    for k, v in state_f16(model).items():
        if not k.startswith(("text_model.", "text_projection.")):
            k = "text_model." + k
        out[k] = v
    return out


OPEN_CLIP_LAYER = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}


def to_open_clip(sd, prefix, hidden, proj_key="text_projection"):
    """transformers names -> OpenCLIP names (fused in_proj, transposed text_projection)."""
    out = {}
    for k, v in sd.items():
        if k == "text_projection.weight":
            out[prefix + proj_key] = v.t().contiguous()
            continue
        k = k[len("text_model.") :]
        if k == "embeddings.token_embedding.weight":
            out[prefix + "token_embedding.weight"] = v
        elif k == "embeddings.position_embedding.weight":
            out[prefix + "positional_embedding"] = v
        elif k.startswith("final_layer_norm."):
            out[prefix + "ln_final." + k.split(".")[-1]] = v
        else:
            _, _, layer, rest = k.split(".", 3)
            base = f"{prefix}transformer.resblocks.{layer}."
            mod, leaf = rest.rsplit(".", 1)
            if mod in OPEN_CLIP_LAYER:
                out[base + OPEN_CLIP_LAYER[mod] + "." + leaf] = v
            else:
                name = base + "attn.in_proj_" + leaf
                part = {"q_proj": 0, "k_proj": 1, "v_proj": 2}[mod.split(".")[-1]]
                if name not in out:
                    out[name] = torch.zeros(
                        (3 * hidden,) + v.shape[1:], dtype=v.dtype, device=v.device
                    )
                out[name][part * hidden : (part + 1) * hidden] = v
    return out


def prompt_ids(name):
    """Two prompts of 77 ids: one short, one that fills the window."""
    pad = ENCODERS[name][7]
    g = gen_for("ids", name)
    rows = []
    for length in (9, 75):
        body = torch.randint(1, 900, (length,), generator=g).tolist()
        row = [BOS] + body + [EOS]
        rows.append(row + [pad] * (77 - len(row)))
    return torch.tensor(rows)


def make_one(name, out):
    model = build(name)
    root = "text_model." if hasattr(model, "text_model") else ""
    names = [
        root + f"encoder.layers.0.{m}" for m in ("layer_norm1", "self_attn", "layer_norm2", "mlp")
    ]
    ids = prompt_ids(name)

    def call(m, _dtype):
        r = m(ids, output_hidden_states=True)
        res = {"last_hidden_state": r.last_hidden_state}
        for i, h in enumerate(r.hidden_states):
            res[f"hidden_states.{i}"] = h
        if hasattr(r, "text_embeds"):
            res["text_embeds"] = r.text_embeds
        if getattr(r, "pooler_output", None) is not None:
            res["pooled"] = r.pooler_output
        return res

    io, err = run_both(model, names, call)
    io = {k.replace("blk/text_model.", "blk/"): v for k, v in io.items()}
    if "out/pooled" not in io:
        last, eos = io["out/last_hidden_state"], (ids == EOS).int().argmax(-1)
        io["out/pooled"] = last[torch.arange(2), eos]
    io["in/input_ids"] = ids.int()
    save_st(
        f"{out}/clip/{name}.io.safetensors",
        io,
        dict(versions(), model=name, f32_vs_f64=f"{err:.1e}"),
    )
    save_json(f"{out}/clip/{name}.json", config_json(name))
    sd = state(name, model)
    save_st(f"{out}/clip/{name}.safetensors", sd, {"format": "pt"})
    return sd


def make_weighted(out):
    """A prompt of two chunks with token weights, as A1111 and ComfyUI combine them (own formula).

    A1111 multiplies each row by its weight and restores the mean of the whole chunk; ComfyUI
    blends each row with that of the empty prompt. Chunks are joined along the token axis.
    """
    model = build("clip_l").double()
    ids = prompt_ids("clip_l")
    g = gen_for("clip weights")
    weights = torch.ones(2, 77, dtype=torch.float64)
    weights[:, 1:10] = (torch.randint(0, 9, (2, 9), generator=g) / 4.0).double()
    empty = torch.tensor([[BOS] + [EOS] * 76])
    t = {"in/input_ids": ids.int(), "in/weights": weights.float()}
    with torch.no_grad():
        full, blank = (model(i, output_hidden_states=True) for i in (ids, empty))
        norm = (
            model.text_model.final_layer_norm
            if hasattr(model, "text_model")
            else model.final_layer_norm
        )
        for name, z, z0 in (
            ("", full.last_hidden_state, blank.last_hidden_state),
            ("_clip_skip2", norm(full.hidden_states[-2]), norm(blank.hidden_states[-2])),
        ):
            w = weights[:, :, None]
            scaled = [c * k * (c.mean() / (c * k).mean()) for c, k in zip(z, w)]
            t["out/a1111" + name] = torch.cat(scaled)[None].float()
            t["out/comfy" + name] = torch.cat(list(z0 + (z - z0) * w))[None].float()
    save_st(f"{out}/clip/weighted.io.safetensors", t, dict(versions(), model="clip_l"))


def main(out):
    make_weighted(out)
    sds = {name: make_one(name, out) for name in ENCODERS}
    h = ENCODERS["clip_h"][2]
    sd2 = to_open_clip(sds["clip_h"], "cond_stage_model.model.", h)
    # Real SD 2.x files carry one more layer, whose output is never used: the encoder is
    # tapped before the last layer. diffusers drops it, a single-file loader must ignore it.
    g = gen_for("clip_h", "unused last layer")
    for k, v in list(sd2.items()):
        if ".resblocks.2." in k:
            extra = torch.randn(v.shape, generator=g) * 0.125
            sd2[k.replace(".resblocks.2.", ".resblocks.3.")] = extra.half()
    sd2["cond_stage_model.model.text_projection"] = torch.randn(h, 32, generator=g).half()
    sd2["cond_stage_model.model.logit_scale"] = torch.tensor(4.6052).half()
    save_st(f"{out}/clip/clip_h.openclip.safetensors", sd2)


if __name__ == "__main__":
    main(sys.argv[1])
