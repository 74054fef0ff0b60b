# SPDX-License-Identifier: MIT
"""Shared pieces of the golden-tensor scripts.

Every network is filled with random numbers that survive a cast to any of
f32, f16, bf16 and f8_e4m3 unchanged (they are rounded to the e4m3 grid first),
so that a test may store the same weights in another dtype and expect the same
outputs. Outputs are computed in float64 and stored as float32; the float32 run
of the reference is compared with it and the difference is recorded.
"""

import hashlib
import json
import math
import os
import struct

import warnings

import numpy as np
import torch
from torch import nn

os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
warnings.filterwarnings("ignore")
torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)

ST_DTYPE = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def versions():
    """Library versions as metadata strings."""
    out = {"torch": torch.__version__.split("+")[0], "numpy": np.__version__}
    for name in ("diffusers", "transformers", "peft"):
        try:
            out[name] = __import__(name).__version__
        except ImportError:
            pass
    return out


def tensor_bytes(t):
    t = t.detach().contiguous().cpu()
    if t.dtype in (torch.bfloat16, torch.float8_e4m3fn):
        view = torch.int16 if t.dtype == torch.bfloat16 else torch.uint8
        return t.view(view).numpy().tobytes()
    return t.numpy().tobytes()


def save_st(path, tensors, meta=None):
    """Write safetensors with a deterministic header (names sorted, 8-byte aligned)."""
    header = {}
    if meta:
        header["__metadata__"] = {k: str(meta[k]) for k in sorted(meta)}
    order = sorted(tensors, key=lambda n: (-tensors[n].element_size(), n))
    pos = 0
    for name in order:
        t = tensors[name]
        size = t.numel() * t.element_size()
        header[name] = {
            "dtype": ST_DTYPE[t.dtype],
            "shape": list(t.shape),
            "data_offsets": [pos, pos + size],
        }
        pos += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)))
        f.write(text)
        for name in order:
            f.write(tensor_bytes(tensors[name]))


def save_json(path, obj):
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "w") as f:
        json.dump(obj, f, indent=1, sort_keys=True)
        f.write("\n")


def gen_for(*key):
    """A torch generator whose seed depends on the words of `key` only."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    g = torch.Generator()
    g.manual_seed(int.from_bytes(digest[:4], "little"))
    return g


def e4m3(t):
    """Round to the f8_e4m3 grid, keep float32."""
    return t.float().to(torch.float8_e4m3fn).float()


def randomise(model, key, gain=1.0):
    """Norms U(0.5, 1.5), biases N(0, 0.1), matrices N(0, gain / sqrt(fan_in))."""
    norms = (nn.LayerNorm, nn.GroupNorm)
    for mod_name, mod in model.named_modules():
        for p_name, p in mod.named_parameters(recurse=False):
            g = gen_for(key, mod_name, p_name)
            if isinstance(mod, norms) and p_name == "weight":
                v = torch.rand(p.shape, generator=g) + 0.5
            elif p_name == "bias":
                v = torch.randn(p.shape, generator=g) * 0.1
            elif isinstance(mod, nn.Embedding):
                v = torch.randn(p.shape, generator=g) * 0.5
            else:
                fan_in = p[0].numel() if p.dim() > 1 else p.numel()
                v = torch.randn(p.shape, generator=g) * (gain / math.sqrt(fan_in))
            with torch.no_grad():
                p.copy_(e4m3(v))
    return model.eval()


def state_f16(model, prefix=""):
    """Weights as f16 (exact, see e4m3)."""
    out = {}
    for k, v in model.state_dict().items():
        if v.is_floating_point():
            assert torch.equal(v.half().double(), v.double()), k
            out[prefix + k] = v.half()
    return out


def as_f8(sd):
    """The same values as f8_e4m3."""
    out = {}
    for k, v in sd.items():
        out[k] = v.to(torch.float8_e4m3fn)
        assert torch.equal(out[k].float(), v.float()), k
    return out


class Capture:
    """Forward hooks that keep the (first) output of named modules."""

    def __init__(self, model, names):
        self.out, self.handles = {}, []
        mods = dict(model.named_modules())
        for n in names:
            self.handles.append(mods[n].register_forward_hook(self.hook(n)))

    def hook(self, name):
        def fn(_mod, _args, res):
            if hasattr(res, "sample"):
                res = res.sample
            if isinstance(res, (tuple, list)):
                skips = res[1] if len(res) > 1 and isinstance(res[1], tuple) else ()
                for i, r in enumerate(skips[:-1]):  # the last one is the block's output itself
                    self.out[f"{name}/skip{i}"] = r.detach()
                res = res[0]
            self.out[name] = res.detach()

        return fn

    def close(self):
        for h in self.handles:
            h.remove()


def rel_err(a, b):
    a, b = a.double(), b.double()
    return float((a - b).abs().max() / b.abs().max().clamp_min(1e-30))


def run_both(model, names, call):
    """call(model, dtype) -> dict of outputs. Returns ({name: f32}, worst f32 error).

    The float64 run is stored; the float32 run must agree with it.
    """
    results = []
    for dtype in (torch.float32, torch.float64):
        model.to(dtype)
        cap = Capture(model, names)
        with torch.no_grad():
            out = {f"out/{k}": v.detach() for k, v in call(model, dtype).items()}
        cap.close()
        out.update({f"blk/{k}": v for k, v in cap.out.items()})
        results.append(out)
    model.to(torch.float32)
    f32, f64 = results
    worst = max(rel_err(f32[k], f64[k]) for k in f64)
    assert worst < 2e-4, worst
    for k, v in f64.items():
        assert torch.isfinite(v).all(), k
    return {k: v.float() for k, v in f64.items()}, worst
