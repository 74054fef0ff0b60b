# SPDX-License-Identifier: MIT
"""UNet2DConditionModel of SD 1.x, 2.x, SDXL, refiner, inpaint, instruct-pix2pix, SSD-1B shape."""

import sys

from common import as_f8, gen_for, randomise, run_both, save_json, save_st, state_f16, versions

import torch
from diffusers import UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

from keymap import unet_map

CROSS_D, PLAIN_D = "CrossAttnDownBlock2D", "DownBlock2D"
CROSS_U, PLAIN_U = "CrossAttnUpBlock2D", "UpBlock2D"
XL = dict(use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=8)

SD1 = dict(
    down_block_types=[CROSS_D, PLAIN_D],
    up_block_types=[PLAIN_U, CROSS_U],
    attention_head_dim=4,
    cross_attention_dim=32,
    layers_per_block=1,
)

UNETS = {
    "sd1": dict(SD1, block_out_channels=[32, 32]),
    "sd2": dict(
        block_out_channels=[32, 64],
        layers_per_block=1,
        attention_head_dim=[2, 4],
        down_block_types=[CROSS_D, PLAIN_D],
        up_block_types=[PLAIN_U, CROSS_U],
        cross_attention_dim=48,
        use_linear_projection=True,
    ),
    "sdxl": dict(
        XL,
        block_out_channels=[32, 32],
        layers_per_block=2,
        down_block_types=[PLAIN_D, CROSS_D],
        up_block_types=[CROSS_U, PLAIN_U],
        attention_head_dim=[2, 4],
        transformer_layers_per_block=[1, 2],
        cross_attention_dim=96,
        projection_class_embeddings_input_dim=48 + 6 * 8,
    ),
    "sdxl_refiner": dict(
        XL,
        block_out_channels=[32, 32, 32],
        layers_per_block=1,
        down_block_types=[PLAIN_D, CROSS_D, PLAIN_D],
        up_block_types=[PLAIN_U, CROSS_U, PLAIN_U],
        attention_head_dim=[1, 2, 4],
        transformer_layers_per_block=2,
        cross_attention_dim=64,
        projection_class_embeddings_input_dim=48 + 5 * 8,
    ),
    "ssd1b": dict(
        XL,
        block_out_channels=[32, 32, 32],
        layers_per_block=1,
        down_block_types=[PLAIN_D, CROSS_D, CROSS_D],
        up_block_types=[CROSS_U, CROSS_U, PLAIN_U],
        mid_block_type="UNetMidBlock2D",
        attention_head_dim=[1, 2, 4],
        transformer_layers_per_block=[1, [1], [2]],
        reverse_transformer_layers_per_block=[[1, 3], [2, 1], 1],
        cross_attention_dim=96,
        projection_class_embeddings_input_dim=48 + 6 * 8,
    ),
    "sd1_inpaint": dict(SD1, block_out_channels=[32, 32], in_channels=9),
    "sd1_ip2p": dict(
        SD1,
        block_out_channels=[32],
        in_channels=8,
        down_block_types=[CROSS_D],
        up_block_types=[CROSS_U],
    ),
}

# What is written per network: "d" diffusers names in f16; "o" original names in f8_e4m3 (no
# value is lost). The all-in-one files of make_pipe.py carry sd1 and sdxl under original names.
DIALECTS = {
    "sd1": "d",
    "sdxl": "d",
    "sd2": "o",
    "sdxl_refiner": "o",
    "ssd1b": "o",
    "sd1_inpaint": "d",
    "sd1_ip2p": "o",
}

# case: (batch, height, width, timesteps, keep blocks)
CASES = {
    "a": (2, 8, 12, [981, 981], True),
    "odd": (1, 9, 7, [1], True),
    "tsteps": (2, 8, 8, [999.0, 0.0], False),
    "tfrac": (1, 8, 8, [432.625], False),
    "wide": (1, 16, 24, [500], False),
}


def config_of(name):
    base = dict(sample_size=8, in_channels=4, out_channels=4, norm_num_groups=32)
    return dict(base, **UNETS[name])


def build(name):
    model = UNet2DConditionModel(**config_of(name))
    return randomise(model, "unet/" + name)


def config_json(model):
    cfg = {k: v for k, v in model.config.items() if not k.startswith("_") or k == "_class_name"}
    cfg["_class_name"] = "UNet2DConditionModel"
    return cfg


def block_names(model):
    names = ["conv_in", "time_embedding", "mid_block", "conv_norm_out"]
    if hasattr(model, "add_embedding") and model.add_embedding is not None:
        names.append("add_embedding")
    names += [f"down_blocks.{i}" for i in range(len(model.down_blocks))]
    names += [f"up_blocks.{i}" for i in range(len(model.up_blocks))]
    first = next(n for n, _ in model.named_modules() if n.endswith("transformer_blocks.0"))
    attn = first.rsplit(".transformer_blocks", 1)[0]
    names += [first.split(".attentions")[0] + ".resnets.0", attn, first]
    return names + [f"{first}.{m}" for m in ("attn1", "attn2", "ff")]


def inputs(name, case):
    batch, h, w, ts, _ = CASES[case]
    cfg = config_of(name)
    g = gen_for("unet", name, case)
    ins = {
        "sample": torch.randn(batch, cfg["in_channels"], h, w, generator=g),
        "timestep": torch.tensor(ts, dtype=torch.float32),
        "encoder_hidden_states": torch.randn(
            batch, 77 if case == "a" else 11, cfg["cross_attention_dim"], generator=g
        ),
    }
    if "addition_embed_type" in cfg:
        ids = [[64.0, 96.0, 0.0, 8.0, 64.0, 96.0], [1024.0, 768.0, 16.0, 0.0, 512.0, 1536.0]]
        if name == "sdxl_refiner":
            ids = [r[:4] + [s] for r, s in zip(ids, (6.0, 2.5))]
        ins["time_ids"] = torch.tensor(ids[:batch])
        ins["text_embeds"] = torch.randn(batch, 48, generator=g)
    return ins


def make_case(model, name, case):
    ins = inputs(name, case)

    def call(m, dtype):
        cond = {k: ins[k].to(dtype) for k in ("time_ids", "text_embeds") if k in ins} or None
        t = ins["timestep"]
        if case in ("a", "odd", "wide"):
            t = t.long()
        y = m(
            ins["sample"].to(dtype),
            t,
            ins["encoder_hidden_states"].to(dtype),
            added_cond_kwargs=cond,
        )
        return {"sample": y.sample}

    names = block_names(model) if CASES[case][4] and "_i" not in name else []
    if case == "odd":
        names = [n for n in names if "transformer" not in n]
    res, err = run_both(model, names, call)
    res.update({f"in/{k}": v for k, v in ins.items()})
    return {f"{case}/{k}": v for k, v in res.items()}, err


def original(model):
    """Original-name state dict, checked against the diffusers single-file converter."""
    sd = state_f16(model)
    cfg = dict(model.config)
    names = unet_map(sd, cfg)
    out = {names[k]: v for k, v in sd.items()}
    assert len(out) == len(sd)
    back = convert_ldm_unet_checkpoint(dict(out), cfg)
    # Real SDXL names carry "addition_embed_type" in the config only.
    missing = set(sd) ^ set(back)
    assert not missing, sorted(missing)[:5]
    assert all(back[k] is out[names[k]] for k in sd)
    return out


def main(out):
    for name in UNETS:
        model = build(name)
        io, worst = {}, 0.0
        for case in CASES:
            if case in ("wide", "tfrac") and name not in ("sd1", "sdxl"):
                continue
            part, err = make_case(model, name, case)
            io.update(part)
            worst = max(worst, err)
        save_st(
            f"{out}/unet/{name}.io.safetensors",
            io,
            dict(versions(), model=name, f32_vs_f64=f"{worst:.1e}"),
        )
        save_json(f"{out}/unet/{name}.json", config_json(model))
        orig = original(model)
        if "d" in DIALECTS[name]:
            save_st(f"{out}/unet/{name}.safetensors", state_f16(model), {"format": "pt"})
        if "o" in DIALECTS[name]:
            save_st(f"{out}/unet/{name}.orig.safetensors", as_f8(orig))
        print("unet", name, sum(p.numel() for p in model.parameters()), f"{worst:.1e}")


if __name__ == "__main__":
    main(sys.argv[1])
