# SPDX-License-Identifier: MIT
"""Element types: small floats by torch, ggml block formats by gguf-py, and GGUF image files."""

import os
import sys

from common import gen_for, rel_err, save_st, state_f16, versions

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Q
from gguf import quants

import make_unet
from keymap import unet_map

# type: (bytes per block, offsets of the f16 scales in a block)
BLOCKS = {
    "Q4_0": (18, [0]),
    "Q4_1": (20, [0, 2]),
    "Q5_0": (22, [0]),
    "Q5_1": (24, [0, 2]),
    "Q8_0": (34, [0]),
    "Q2_K": (84, [80, 82]),
    "Q3_K": (110, [108]),
    "Q4_K": (144, [0, 2]),
    "Q5_K": (176, [0, 2]),
    "Q6_K": (210, [208]),
    "IQ4_NL": (18, [0]),
    "IQ4_XS": (136, [0]),
}
QUANTISE = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]


def random_blocks(name, rows, blocks):
    """Random bits with scales of a sane size."""
    size, scales = BLOCKS[name]
    rng = np.random.default_rng(sum(map(ord, name)))
    raw = rng.integers(0, 256, (rows, blocks, size), dtype=np.uint8)
    for off in scales:
        v = rng.uniform(-0.1, 0.1, (rows, blocks)).astype(np.float16)
        raw[:, :, off : off + 2] = v.view(np.uint8).reshape(rows, blocks, 2)
    return raw.reshape(rows, blocks * size)


def quant_vectors(t):
    g = gen_for("quants")
    x = torch.randn(3, 256, generator=g)
    x[0, :32] = 0
    x[1, 32:64] *= 1e-6
    x[2, 64:96] = torch.linspace(-8, 8, 32)
    t["quantise/x"] = x
    for name in BLOCKS:
        kind = Q[name]
        raw = random_blocks(name, 3, 2 if BLOCKS[name][0] > 40 else 8)
        t[f"{name.lower()}/bytes"] = torch.from_numpy(raw)
        t[f"{name.lower()}/f32"] = torch.from_numpy(quants.dequantize(raw, kind).astype(np.float32))
        if name in QUANTISE:
            q = quants.quantize(x.numpy(), kind)
            t[f"quantise/{name.lower()}"] = torch.from_numpy(np.ascontiguousarray(q))


def small_floats(t):
    """Every f8 code to f32, and rounding of hard cases to each small type."""
    codes = torch.arange(256, dtype=torch.int32).to(torch.uint8)
    for name, dtype in (("f8_e4m3", torch.float8_e4m3fn), ("f8_e5m2", torch.float8_e5m2)):
        t[f"{name}/all"] = codes.view(dtype).float()
    bits16 = torch.arange(0, 65536, 7, dtype=torch.int32).to(torch.int16)
    t["f16/bits"], t["f16/f32"] = bits16, bits16.view(torch.float16).float()
    g = gen_for("small floats")
    x = torch.randn(300, generator=g) * torch.exp(torch.randn(300, generator=g) * 4)
    edge = [
        0.0,
        -0.0,
        1.0,
        65504.0,
        65519.0,
        65520.0,
        1e6,
        2.0**-14,
        2.0**-24,
        2.0**-25,
        1.5 * 2.0**-25,
        2.0**-26,
        448.0,
        464.0,
        464.1,
        480.0,
        500.0,
        2.0**-9,
        2.0**-10,
        1.5 * 2.0**-10,
        57344.0,
        61439.0,
        61440.0,
        2.0**-16,
        2.0**-17,
        1.0625,
        1.1875,
        1.125 + 2.0**-20,
        3.3895314e38,
        1e-40,
        float("inf"),
        float("-inf"),
        float("nan"),
    ]
    x = torch.cat([x, torch.tensor(edge, dtype=torch.float32)])
    t["round/x"] = x
    t["round/f16"] = x.half().view(torch.int16)
    t["round/bf16"] = x.bfloat16().view(torch.int16)
    t["round/f8_e4m3"] = x.to(torch.float8_e4m3fn).view(torch.uint8)
    t["round/f8_e5m2"] = x.to(torch.float8_e5m2).view(torch.uint8)


def write_gguf(path, tensors, arch):
    w = gguf.GGUFWriter(path, arch or "none")
    if arch is None:
        w.kv_data[0].clear()  # stable-diffusion.cpp writes no keys
    else:
        w.add_quantization_version(2)
        w.add_file_type(7)
    for name, (data, kind) in tensors.items():
        w.add_tensor(name, data, raw_dtype=kind)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def gguf_unet(out, io, name, prefix, arch, kind):
    """The ip2p UNet: matrices quantised, 4-D weights f16, vectors f32.

    The output is that of the dequantised weights.
    """
    model = make_unet.build("sd1_ip2p").double()
    sd = state_f16(model)
    names = unet_map(sd, dict(model.config), prefix)
    packed, back = {}, {}
    for k, v in sd.items():
        a = v.float().numpy()
        if v.dim() == 2 and v.shape[1] % 32 == 0:
            q = quants.quantize(a, kind)
            packed[names[k]] = (q, kind)
            back[k] = torch.from_numpy(quants.dequantize(q, kind).astype(np.float32))
        elif v.dim() == 1:
            packed[names[k]], back[k] = (a, Q.F32), v.float()
        else:
            packed[names[k]], back[k] = (a.astype(np.float16), Q.F16), v.float()
    write_gguf(f"{out}/dtype/{name}.gguf", packed, arch)
    model.load_state_dict({k: v.double() for k, v in back.items()})
    ins = make_unet.inputs("sd1_ip2p", "tsteps")
    with torch.no_grad():
        y = model(
            ins["sample"].double(), ins["timestep"], ins["encoder_hidden_states"].double()
        ).sample
    io[f"{name}/out/sample"] = y.float()
    return y.float()


def main(out):
    t = {}
    quant_vectors(t)
    small_floats(t)
    os.makedirs(f"{out}/dtype", exist_ok=True)
    save_st(f"{out}/dtype/dtype.safetensors", t, dict(versions(), gguf="0.19.0"))
    io = {}
    a = gguf_unet(out, io, "sd1_ip2p_city96_q8_0", "", "sd1", Q.Q8_0)
    b = gguf_unet(out, io, "sd1_ip2p_sdcpp_q4_0", "model.diffusion_model.", None, Q.Q4_0)
    print("dtype: q4_0 against q8_0", f"{rel_err(b, a):.2f}")
    save_st(f"{out}/dtype/gguf.io.safetensors", io, versions())
    r = gguf.GGUFReader(f"{out}/dtype/sd1_ip2p_sdcpp_q4_0.gguf")
    assert not [k for k in r.fields if not k.startswith("GGUF.")], list(r.fields)


if __name__ == "__main__":
    main(sys.argv[1])
