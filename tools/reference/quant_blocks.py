# SPDX-License-Identifier: MIT
"""Golden blocks of every quantised type, dequantised by the PyPI package `gguf`.

Writes tests/golden/quant/<type>.bin: u32 block count, the raw blocks, then the f32 values, all
little-endian. The bytes of the codes are random; only the f16 scales are kept finite and moderate.
Usage: python tools/reference/quant_blocks.py tests/golden/quant
"""
import sys

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, quants

# byte offsets of the f16 fields of one block
F16_AT = {
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0],
    "Q2_K": [80, 82], "Q3_K": [108], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208],
    "IQ4_NL": [0], "IQ4_XS": [0],
}
BLOCKS = 5


def main(folder):
    for seed, (name, fields) in enumerate(F16_AT.items()):
        rng = np.random.default_rng(seed)
        qtype = GGMLQuantizationType[name]
        _, size = GGML_QUANT_SIZES[qtype]
        raw = rng.integers(0, 256, (BLOCKS, size), dtype=np.uint8)
        for at in fields:
            scale = rng.normal(0, 0.02, BLOCKS).astype(np.float16)
            scale[0] = np.float16(6e-8)  # the least subnormal
            raw[:, at:at + 2] = scale.view(np.uint8).reshape(BLOCKS, 2)
        values = quants.dequantize(raw, qtype).astype("<f4")
        with open(f"{folder}/{name.lower()}.bin", "wb") as f:
            f.write(np.uint32(BLOCKS).tobytes() + raw.tobytes() + values.tobytes())


main(sys.argv[1])
