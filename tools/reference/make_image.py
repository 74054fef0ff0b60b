# SPDX-License-Identifier: MIT
"""Golden pictures from Pillow 11 (13 sometimes swaps the passes): exact resampling, decoded formats, recipes in foreign files.

Writes tests/golden/image/. resample.bin is a sequence of records: 8 int32 (filter, channels, source
width and height, result width and height, has box, is float), 4 doubles (box), source, result.
"""
import json
import struct
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

FILTERS = [Image.NEAREST, Image.BOX, Image.BILINEAR, Image.HAMMING, Image.BICUBIC, Image.LANCZOS]
MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def resample(out_dir):
    rng = np.random.default_rng(5)
    sizes = [((13, 9), (7, 5)), ((7, 5), (16, 11)), ((16, 16), (16, 5)), ((5, 8), (9, 8)), ((31, 3), (4, 7)),
             ((1, 1), (3, 3)), ((10, 10), (1, 1))]
    boxes = [None, (0.5, 0.25, 4.5, 2.75)]
    out = bytearray()
    count = 0
    for f, pil in enumerate(FILTERS):
        for channels in (1, 3, 4, 0):  # 0: one channel of floats
            for (sw, sh), (dw, dh) in sizes:
                for box in boxes:
                    if box and (box[2] > sw or box[3] > sh):
                        continue
                    if channels == 0:
                        a = rng.normal(0, 2, (sh, sw)).astype(np.float32)
                        im = Image.fromarray(a, "F")
                    else:
                        a = rng.integers(0, 256, (sh, sw, channels), dtype=np.uint8)
                        a[rng.random((sh, sw)) < 0.2] = 255  # overshoot at edges
                        im = Image.fromarray(a[..., 0] if channels == 1 else a, MODES[channels])
                    res = np.asarray(im.resize((dw, dh), pil, box=box))
                    b = box or (0, 0, sw, sh)
                    out += struct.pack("<8i4d", f, channels or 1, sw, sh, dw, dh, box is not None, channels == 0, *b)
                    out += a.tobytes() + res.tobytes()
                    count += 1
    (out_dir / "resample.bin").write_bytes(out)
    print(count, "resample cases,", len(out), "bytes")


def picture(w=24, h=16):
    y, x = np.mgrid[0:h, 0:w]
    return np.stack([x * 255 // (w - 1), y * 255 // (h - 1), (x + y) * 255 // (w + h - 2)], -1).astype(np.uint8)


def formats(out_dir):
    rgb = Image.fromarray(picture())
    rgb.save(out_dir / "plain.png")
    rgb.save(out_dir / "plain.webp", lossless=True)
    rgb.save(out_dir / "plain.tif")
    rgb.convert("L").save(out_dir / "grey.png")
    alpha = rgb.convert("RGBA")
    alpha.putalpha(Image.fromarray(picture()[..., 0]))
    alpha.save(out_dir / "alpha.png")
    rgb.convert("P", palette=Image.ADAPTIVE, colors=256).save(out_dir / "palette.gif")
    Image.fromarray((picture()[..., 0].astype(np.uint16) * 257)).save(out_dir / "grey16.png")
    rgb.save(out_dir / "plain.jpg", quality=95, subsampling=0)
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to see it upright
    rgb.save(out_dir / "turned.jpg", quality=95, subsampling=0, exif=exif)
    rgb.convert("CMYK").save(out_dir / "cmyk.jpg", quality=95)


def recipes(out_dir):
    rgb = Image.fromarray(picture(8, 8))
    text = "a cat, caf\u00e9 \u2728\nNegative prompt: dog\nSteps: 5, Sampler: Euler a, CFG scale: 6.5, Seed: 7, Size: 64x64"
    for name, zipped in (("recipe_itxt.png", False), ("recipe_itxt_zip.png", True)):
        info = PngImagePlugin.PngInfo()
        info.add_itxt("parameters", text, zip=zipped)
        rgb.save(out_dir / name, pnginfo=info)
    info = PngImagePlugin.PngInfo()
    info.add_text("Software", "none")
    info.add_text("parameters", text.replace("\u2728", "!"), zip=True)
    rgb.save(out_dir / "recipe_ztxt.png", pnginfo=info)
    for kind, order in (("be", "utf-16-be"), ("le", "utf-16-le")):
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + text.encode(order)
        rgb.save(out_dir / f"recipe_{kind}.jpg", exif=exif)
        rgb.save(out_dir / f"recipe_{kind}.webp", exif=exif)


# What InvokeAI 5 records of a drawing with SD 1.5: the members of its core_metadata node that are set
# (invokeai/app/invocations/metadata.py), in that order, with a model identifier as its models have it.
def invoke_model(name, kind):
    return {"key": "0f3b6e0c-5d3e-4a53-9f0e-1c3c6f1d7a52", "hash": "blake3:" + "5" * 64, "name": name, "base": "sd-1",
            "type": kind}


INVOKE = {
    "generation_mode": "txt2img", "positive_prompt": "a red fox, caf\u00e9 window, \u4e24\u53ea",
    "negative_prompt": "blurry, text", "width": 768, "height": 512, "seed": 2849503841, "rand_device": "cpu",
    "cfg_scale": 6.5, "cfg_rescale_multiplier": 0.25, "steps": 28, "scheduler": "dpmpp_2m_sde_k", "seamless_x": False,
    "seamless_y": False, "clip_skip": 1, "model": invoke_model("dreamshaper-8", "main"),
    "loras": [{"model": invoke_model("ink-wash", "lora"), "weight": 0.75}], "app_version": "5.6.0",
}


def invoke(out_dir):
    # As its image storage writes it: json.dumps into a text chunk, the graph of nodes in another one behind it.
    info = PngImagePlugin.PngInfo()
    info.add_text("invokeai_metadata", json.dumps(INVOKE))
    node = {"id": "core_metadata:1", "type": "core_metadata", "is_intermediate": True, "use_cache": True, "steps": 28}
    info.add_text("invokeai_graph", json.dumps({"id": "sd1_graph:1", "nodes": {"core_metadata:1": node}, "edges": []}))
    Image.fromarray(picture(24, 16)).save(out_dir / "invokeai.png", "PNG", pnginfo=info, compress_level=6)


def main(outdir):
    out_dir = Path(outdir) / "image"
    out_dir.mkdir(parents=True, exist_ok=True)
    resample(out_dir)
    formats(out_dir)
    recipes(out_dir)
    invoke(out_dir)
