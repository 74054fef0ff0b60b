# SPDX-License-Identifier: MIT
"""Small files of every weight format, written by the formats' own libraries.

python tools/reference/make_formats.py OUTDIR   -> OUTDIR/formats/*
Every tensor "x" of shape [n, m] holds x[i, j] = 0.25 * (i * m + j) - 3 unless said otherwise.
"""
import collections
import json
import os
import sys

import gguf
import numpy as np
import torch


class Evil:
    def __reduce__(self):
        return (os.system, ("touch executed",))


def ramp(*shape):
    return torch.arange(int(np.prod(shape)), dtype=torch.float32).reshape(shape) * 0.25 - 3


def torch_files(out):
    base = ramp(4, 6)
    state = collections.OrderedDict()
    state["plain"] = base
    state["half"] = base.half()
    state["bf16"] = base.bfloat16()
    state["transposed"] = base.t()
    state["row2"] = base[2]
    state["column1"] = base[:, 1]
    state["parameter"] = torch.nn.Parameter(ramp(3))
    state["ids"] = torch.arange(5)
    state["scalar"] = torch.tensor(2.5)
    state["empty"] = torch.zeros(0, 4)
    whole = {"state_dict": state, "epoch": 7, "note": "made by make_formats.py", "lr": [0.5, 1e-3]}
    torch.save(whole, f"{out}/zip.pt")
    torch.save(whole, f"{out}/legacy.pt", _use_new_zipfile_serialization=False)
    torch.save({"state_dict": {"a": ramp(2)}, "x": Evil()}, f"{out}/evil.pt")
    torch.save({"a": Evil()}, f"{out}/evil_legacy.pt", _use_new_zipfile_serialization=False)
    torch.save({"params": {"a": ramp(2)}, "params_ema": {"a": ramp(3)}}, f"{out}/ema.pth")
    ti = {"string_to_token": {"*": torch.tensor(265)}, "string_to_param": {"*": ramp(2, 8)},
          "name": "tiny-style", "step": 500, "sd_checkpoint": None}
    torch.save(ti, f"{out}/ti_a1111.pt")
    torch.save({"string_to_token": {"*": 265},
                "string_to_param": torch.nn.ParameterDict({"*": torch.nn.Parameter(ramp(1, 8))})},
               f"{out}/ti_original.pt")
    torch.save({"<cat-toy>": ramp(8)}, f"{out}/ti_concept.bin")


def gguf_file(out):
    w = gguf.GGUFWriter(f"{out}/typed.gguf", "sd1")
    w.add_uint8("t.u8", 200)
    w.add_int8("t.i8", -100)
    w.add_uint16("t.u16", 60000)
    w.add_int16("t.i16", -30000)
    w.add_uint32("t.u32", 4000000000)
    w.add_int32("t.i32", -2000000000)
    w.add_uint64("t.u64", 1 << 62)
    w.add_int64("t.i64", -(1 << 62))
    w.add_float32("t.f32", 0.5)
    w.add_float64("t.f64", 0.1)
    w.add_bool("t.bool", True)
    w.add_string("t.str", "lighthouse")
    w.add_array("t.words", ["a", "", "dusk"])
    w.add_array("t.ints", [1, -2, 3])
    w.add_array("t.floats", [0.5, 1.5])
    w.add_tensor("plain", ramp(4, 6).numpy())
    w.add_tensor("half", ramp(4, 6).numpy().astype(np.float16))
    q = gguf.quants.quantize(ramp(2, 64).numpy(), gguf.GGMLQuantizationType.Q8_0)
    w.add_tensor("rows", q, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    # a 3x3 convolution kernel [8, 4, 3, 4] flattened to rows of 64, as city96's converter does
    kernel = ramp(6, 64).numpy()
    w.add_tensor("kernel", gguf.quants.quantize(kernel, gguf.GGMLQuantizationType.Q8_0),
                 raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    w.add_array("comfy.gguf.orig_shape.kernel", [8, 4, 3, 4])
    w.add_tensor("kernel_f16", ramp(6, 64).numpy().astype(np.float16))
    w.add_array("comfy.gguf.orig_shape.kernel_f16", [8, 4, 3, 4])
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def shards(out):
    from safetensors.torch import save_file
    os.makedirs(f"{out}/sharded", exist_ok=True)
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    save_file({"a": ramp(2), "b": ramp(3)}, f"{out}/sharded/{names[0]}")
    save_file({"c": ramp(4).half()}, f"{out}/sharded/{names[1]}")
    index = {"metadata": {"total_size": 28}, "weight_map": {"a": names[0], "b": names[0], "c": names[1]}}
    with open(f"{out}/sharded/model.safetensors.index.json", "w") as f:
        json.dump(index, f, indent=1)
    with open(f"{out}/sharded/config.json", "w") as f:
        json.dump({"model_type": "tiny"}, f)


def main(outdir):
    out = os.path.join(outdir, "formats")
    os.makedirs(out, exist_ok=True)
    torch_files(out)
    gguf_file(out)
    shards(out)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
