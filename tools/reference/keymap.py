# SPDX-License-Identifier: MIT
"""diffusers names -> names of the original single-file checkpoints."""

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}

UNET_FIXED = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}

VAE_ATTN = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def _unet_resnet(rest):
    """'norm1.weight' -> 'in_layers.0.weight'."""
    mod, leaf = rest.rsplit(".", 1)
    return RESNET[mod] + "." + leaf


def unet_name(key, layers, levels, has_attn):
    """Original name of one UNet tensor.

    layers: layers_per_block; has_attn(level): whether up block `level` has attention
    (its upsampler is then the third module of the last output block, else the second).
    """
    for src, dst in UNET_FIXED.items():
        if key.startswith(src + "."):
            return dst + key[len(src) :]
    part = key.split(".", 4)
    if part[0] == "mid_block":
        kind, idx, rest = key.split(".", 3)[1:]
        if kind == "attentions":
            return f"middle_block.1.{rest}"
        return f"middle_block.{2 * int(idx)}." + _unet_resnet(rest)
    where, level, kind, idx = part[0], int(part[1]), part[2], int(part[3])
    rest = part[4]
    if where == "down_blocks":
        base = level * (layers + 1) + 1
        if kind == "downsamplers":
            return f"input_blocks.{base + layers}.0.op." + rest.split(".", 1)[1]
        if kind == "attentions":
            return f"input_blocks.{base + idx}.1.{rest}"
        return f"input_blocks.{base + idx}.0." + _unet_resnet(rest)
    base = level * (layers + 1)
    if kind == "upsamplers":
        slot = 2 if has_attn(level) else 1
        return f"output_blocks.{base + layers}.{slot}.{rest}"
    if kind == "attentions":
        return f"output_blocks.{base + idx}.1.{rest}"
    return f"output_blocks.{base + idx}.0." + _unet_resnet(rest)


def unet_map(keys, config, prefix="model.diffusion_model."):
    """{diffusers key: original key} for a UNet2DConditionModel config."""
    up = config["up_block_types"]
    return {
        k: prefix
        + unet_name(k, config["layers_per_block"], len(up), lambda level: "CrossAttn" in up[level])
        for k in keys
    }


def vae_name(key, levels):
    """Original name of one AutoencoderKL tensor."""
    if key.startswith(("quant_conv", "post_quant_conv")):
        return key
    side, rest = key.split(".", 1)
    if rest.startswith("conv_norm_out."):
        return f"{side}.norm_out." + rest.split(".", 1)[1]
    if rest.startswith("mid_block.attentions.0."):
        mod, leaf = rest[len("mid_block.attentions.0.") :].rsplit(".", 1)
        return f"{side}.mid.attn_1.{VAE_ATTN[mod]}.{leaf}"
    if rest.startswith("mid_block.resnets."):
        idx, tail = rest[len("mid_block.resnets.") :].split(".", 1)
        return f"{side}.mid.block_{int(idx) + 1}.{tail}"
    if rest.startswith(("down_blocks.", "up_blocks.")):
        kind, level, part, idx, tail = rest.split(".", 4)
        way = kind.split("_")[0]
        n = int(level) if way == "down" else levels - 1 - int(level)
        if part.endswith("samplers"):
            return f"{side}.{way}.{n}.{part[:-2]}e.{tail}".replace("samplee", "sample")
        return f"{side}.{way}.{n}.block.{idx}." + tail.replace("conv_shortcut", "nin_shortcut")
    return key


def vae_map(keys, config, prefix="first_stage_model."):
    """{diffusers key: original key}. Attention matrices become 1x1 convolutions there."""
    levels = len(config["block_out_channels"])
    return {k: prefix + vae_name(k, levels) for k in keys}


def vae_tensor(key, value):
    """Shape of the original file: attention projections are [n, n, 1, 1]."""
    if ".attentions." in key and key.endswith("weight") and value.dim() == 2:
        return value[:, :, None, None]
    return value
