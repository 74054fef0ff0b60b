# SPDX-License-Identifier: MIT
"""AutoencoderKL and AutoencoderTiny (TAESD) at tiny size, encode and decode."""

import sys

from common import as_f8, gen_for, randomise, run_both, save_json, save_st, state_f16, versions

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

from keymap import vae_map, vae_tensor


def kl(channels, layers, latent, **extra):
    n = len(channels)
    return dict(
        block_out_channels=channels,
        layers_per_block=layers,
        latent_channels=latent,
        in_channels=3,
        out_channels=3,
        norm_num_groups=32,
        sample_size=64,
        down_block_types=["DownEncoderBlock2D"] * n,
        up_block_types=["UpDecoderBlock2D"] * n,
        **extra,
    )


KL = {
    # 4 levels, /8 as in SD 1.x: the autoencoder of the tiny pipelines
    "kl_sd": kl([32, 32, 32, 32], 1, 4, scaling_factor=0.18215),
    # 2 levels of different width, 16 channels, no quant convolutions, shift (Flux, SD3)
    "kl_16ch": kl(
        [32, 64],
        1,
        16,
        scaling_factor=0.3611,
        shift_factor=0.1159,
        use_quant_conv=False,
        use_post_quant_conv=False,
    ),
}

TINY = {
    "taesd": dict(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        encoder_block_out_channels=[16] * 4,
        decoder_block_out_channels=[16] * 4,
        num_encoder_blocks=[1, 3, 3, 3],
        num_decoder_blocks=[3, 3, 3, 1],
    )
}

# images and latents: (batch, height, width) ; KL encoders accept odd sizes, decoders any
KL_IMAGES = {"a": (1, 24, 32), "odd": (2, 33, 19)}
KL_LATENTS = {"a": (1, 3, 4), "odd": (2, 2, 5)}


def json_of(model, cls):
    cfg = {k: v for k, v in model.config.items() if not k.startswith("_")}
    return dict(cfg, _class_name=cls)


def kl_names(model, side):
    net = getattr(model, side)
    blocks = "down_blocks" if side == "encoder" else "up_blocks"
    names = [
        "conv_in",
        "mid_block",
        "mid_block.attentions.0",
        "mid_block.resnets.0",
        "conv_norm_out",
    ]
    names += [f"{blocks}.{i}" for i in range(len(getattr(net, blocks)))]
    return [f"{side}.{n}" for n in names]


def run_kl(name, model, case):
    _, h, w = KL_IMAGES[case]
    batch = KL_IMAGES[case][0]
    g = gen_for("vae", name, case)
    image = torch.rand(batch, 3, h, w, generator=g) * 2 - 1
    lat_h, lat_w = KL_LATENTS[case][1:]
    z = torch.randn(batch, model.config.latent_channels, lat_h, lat_w, generator=g)

    def enc(m, dtype):
        dist = m.encode(image.to(dtype)).latent_dist
        return {"moments": dist.parameters, "mean": dist.mean, "std": dist.std}

    def dec(m, dtype):
        return {"image": m.decode(z.to(dtype)).sample}

    keep = case == "a"
    e, e_err = run_both(model, kl_names(model, "encoder") if keep else [], enc)
    d, d_err = run_both(model, kl_names(model, "decoder") if keep else [], dec)
    e["in/image"], d["in/latent"] = image, z
    res = {f"{case}/enc/{k}": v for k, v in e.items()}
    res.update({f"{case}/dec/{k}": v for k, v in d.items()})
    return {
        k.replace("blk/encoder.", "blk/").replace("blk/decoder.", "blk/"): v for k, v in res.items()
    }, max(e_err, d_err)


def kl_original(model):
    """Original names, checked against the diffusers single-file converter."""
    sd = state_f16(model)
    names = vae_map(sd, model.config)
    out = {names[k]: vae_tensor(k, v) for k, v in sd.items()}
    back = convert_ldm_vae_checkpoint(dict(out), dict(model.config))
    assert set(back) == set(sd), set(back) ^ set(sd)
    assert all(torch.equal(back[k].reshape(sd[k].shape), sd[k]) for k in sd)
    return out


def build_kl(name):
    return randomise(AutoencoderKL(**KL[name]), "vae/" + name)


def make_kl(name, out):
    model = build_kl(name)
    io, worst = {}, 0.0
    for case in KL_IMAGES:
        part, err = run_kl(name, model, case)
        io.update(part)
        worst = max(worst, err)
    save_st(
        f"{out}/vae/{name}.io.safetensors",
        io,
        dict(versions(), model=name, f32_vs_f64=f"{worst:.1e}"),
    )
    save_json(f"{out}/vae/{name}.json", json_of(model, "AutoencoderKL"))
    orig = kl_original(model)
    if name == "kl_sd":  # under original names it is part of the all-in-one files
        save_st(f"{out}/vae/{name}.safetensors", state_f16(model), {"format": "pt"})
    else:  # stand-alone files carry no prefix
        bare = as_f8({k.removeprefix("first_stage_model."): v for k, v in orig.items()})
        save_st(f"{out}/vae/{name}.orig.safetensors", bare)
    print("vae", name, sum(p.numel() for p in model.parameters()), f"{worst:.1e}")


def taesd_original(sd):
    """Two files as published with the original code: encoder 'i.', decoder 'i.' shifted by one.

    The original decoder begins with the clamp as module 0, which diffusers keeps outside
    its layer list.
    """
    enc, dec = {}, {}
    for k, v in sd.items():
        side, rest = k.split(".layers.", 1)
        if side == "encoder":
            enc[rest] = v
        else:
            idx, tail = rest.split(".", 1)
            dec[f"{int(idx) + 1}.{tail}"] = v
    return enc, dec


def make_tiny(name, out):
    model = randomise(AutoencoderTiny(**TINY[name]), "vae/" + name)
    g = gen_for("vae", name)
    image = torch.rand(1, 3, 24, 32, generator=g)
    # twice the normal spread, so that the clamp 3 tanh(z / 3) matters
    z = torch.randn(1, 4, 3, 4, generator=g) * 2

    def enc(m, dtype):
        return {"latent": m.encode(image.to(dtype) * 2 - 1).latents}

    def dec(m, dtype):
        return {"image": m.decode(z.to(dtype)).sample}

    n_enc, n_dec = len(model.encoder.layers), len(model.decoder.layers)
    e, e_err = run_both(model, [f"encoder.layers.{i}" for i in (0, 1, 2, 6, 10, n_enc - 1)], enc)
    d, d_err = run_both(model, [f"decoder.layers.{i}" for i in (0, 2, 6, 12, n_dec - 1)], dec)
    e["in/image"], d["in/latent"] = image * 2 - 1, z
    io = {f"a/enc/{k}": v for k, v in e.items()}
    io.update({f"a/dec/{k}": v for k, v in d.items()})
    io = {
        k.replace("blk/encoder.", "blk/").replace("blk/decoder.", "blk/"): v for k, v in io.items()
    }
    worst = max(e_err, d_err)
    save_st(
        f"{out}/vae/{name}.io.safetensors",
        io,
        dict(versions(), model=name, f32_vs_f64=f"{worst:.1e}"),
    )
    save_json(f"{out}/vae/{name}.json", json_of(model, "AutoencoderTiny"))
    sd = state_f16(model)
    save_st(f"{out}/vae/{name}.safetensors", sd, {"format": "pt"})
    enc_sd, dec_sd = taesd_original(sd)
    save_st(f"{out}/vae/{name}_encoder.safetensors", enc_sd)
    save_st(f"{out}/vae/{name}_decoder.safetensors", dec_sd)
    print("vae", name, sum(p.numel() for p in model.parameters()), f"{worst:.1e}")


def main(out):
    for name in KL:
        make_kl(name, out)
    for name in TINY:
        make_tiny(name, out)


if __name__ == "__main__":
    main(sys.argv[1])
