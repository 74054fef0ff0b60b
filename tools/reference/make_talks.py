# SPDX-License-Identifier: MIT
"""tests/golden/qwen3vl/talks.json: whole conversations on the folder tiny_see as transformers answers them.

The real chat template (CHAT_TEMPLATES names the folder with qwen3vl.jinja), the image processor (Pillow's bicubic),
placeholders expanded as processing_qwen3_vl.py does, and 32 greedy tokens in float64 without a cache. Pictures are
patterns of a seed, which the test paints itself; frames of clips need no resizing, because the video processor's
resizing is torchvision's.
"""
import json
import os
import sys

import make_qwen3vl as vl
from common import versions

import torch
from tokenizers import Tokenizer
from transformers.models.qwen2_vl import image_processing_pil_qwen2_vl as image_pil

NEW_TOKENS = 32
STOPS = (490, 492)
TOOL = {"type": "function", "function": {"name": "zoom", "description": "Zoom in", "parameters": {
    "type": "object", "properties": {"z": {"type": "number"}}, "required": ["z"]}}}


def image(w, h, seed):
    return {"type": "image", "w": w, "h": h, "seed": seed}


def video(frames, w, h, seed):
    return {"type": "video", "frames": frames, "w": w, "h": h, "seed": seed}


def text(s):
    return {"type": "text", "text": s}


def user(*content):
    return {"role": "user", "content": list(content)}


def assistant(s, **more):
    return {"role": "assistant", "content": [text(s)], **more}


def tool(*content):
    return {"role": "tool", "content": list(content)}


CALL = {"type": "function", "function": {"name": "zoom", "arguments": {"z": 0.5}}}
Q = text("what is the user?")
CASES = {
    "text": [user(text("what is the box of the user?"))],
    "square": [user(image(96, 96, 1), Q)],
    "wide": [user(image(160, 64, 2), Q)],
    "tall, resized": [user(image(70, 200, 3), Q)],
    "reduced": [user(image(400, 300, 4), Q)],
    "enlarged": [user(image(30, 20, 5), Q)],
    "half even": [user(image(80, 80, 6), Q)],
    "two": [user(image(96, 64, 7), text("a"), image(64, 96, 8), text("b"))],
    "video of one slice": [user(video(2, 64, 64, 9), Q)],
    "video of two slices, odd": [user(video(3, 96, 64, 10), Q)],
    "video of three slices": [user(video(6, 64, 64, 11), Q)],
    "mixed": [user(image(64, 64, 12), video(4, 64, 64, 13), text("and"), image(96, 64, 14), Q)],
    "turns": [user(image(96, 64, 15), Q), assistant("a text"), user(image(64, 96, 16), text("and this?"))],
    "tool result with a picture": [user(image(96, 96, 17), text("zoom")), assistant("I look.", tool_calls=[CALL]),
                                   tool(image(64, 64, 18), text("the box"))],
    "tool result with a clip": [user(text("go")), assistant("I will.", tool_calls=[CALL]),
                                tool(text("the box"), video(4, 64, 64, 19))],
}


class Words:
    """The tokenizer with the ids of its file: tokenizers numbers added tokens behind the vocabulary, without the gap."""

    def __init__(self, path):
        self.inner = Tokenizer.from_file(path)
        with open(path, encoding="utf-8") as f:
            added = json.load(f)["added_tokens"]
        self.ids = {self.inner.token_to_id(a["content"]): a["id"] for a in added}
        self.rows = max(self.ids.values()) + 1

    def encode(self, s):
        return [self.ids.get(i, i) for i in self.inner.encode(s).ids]


def pattern(w, h, seed):
    i = torch.arange(w * h * 3)
    return ((i * (2 * seed + 3) + i // (w * 3) * 7 * seed) >> 2).to(torch.uint8).reshape(h, w, 3)


def parts_of(messages, kind):
    return [p for m in messages for p in m["content"] if p["type"] == kind]


def expand(printed, images, videos):
    for n in images:
        printed = printed.replace("<|image_pad|>", "<|IMAGE|>" * n, 1)
    mark = "<|vision_start|><|video_pad|><|vision_end|>"
    for times, n in videos:
        slices = "".join(f"<{t:.1f} seconds><|vision_start|>" + "<|VIDEO|>" * n + "<|vision_end|>" for t in times)
        printed = printed.replace(mark, slices, 1)
    return printed.replace("<|IMAGE|>", "<|image_pad|>").replace("<|VIDEO|>", "<|video_pad|>")


def answer(model, processor, tokenizer, template, messages):
    from transformers.utils.chat_template_utils import render_jinja_template
    tools = [TOOL] if any(m["role"] == "tool" for m in messages) else None
    printed = render_jinja_template(conversations=[messages], tools=tools, chat_template=template,
                                    add_generation_prompt=True)
    printed = (printed[0] if isinstance(printed, tuple) else printed)[0]
    kw, image_tokens, clips = {}, [], []
    pictures = [pattern(p["w"], p["h"], p["seed"]).numpy() for p in parts_of(messages, "image")]
    if pictures:
        got = processor(images=pictures, return_tensors="pt")
        kw.update(pixel_values=got["pixel_values"].double(), image_grid_thw=got["image_grid_thw"])
        image_tokens = [int(t * h * w) // 4 for t, h, w in got["image_grid_thw"]]
    patches, grids = [], []
    for p in parts_of(messages, "video"):
        n, w, h = p["frames"], p["w"], p["h"]
        patches.append(vl.patchify(torch.stack([pattern(w, h, p["seed"] + k) for k in range(n)])).double())
        grids.append(((n + 1) // 2, h // 16, w // 16))
        at = [k / 2 for k in range(n)] + [(n - 1) / 2] * (n % 2)
        clips.append(([(at[k] + at[k + 1]) / 2 for k in range(0, len(at), 2)], h * w // 1024))
    if patches:
        kw.update(pixel_values_videos=torch.cat(patches), video_grid_thw=torch.tensor(grids))
    ids = tokenizer.encode(expand(printed, image_tokens, clips))
    cur, tokens, margin = torch.tensor([ids]), [], 1e30
    with torch.no_grad():
        while len(tokens) < NEW_TOKENS and not (tokens and tokens[-1] in STOPS):
            kinds = (cur == vl.IMAGE).long() + 2 * (cur == vl.VIDEO).long()
            kinds[0, len(ids):] = 0
            model.model.rope_deltas = None
            row = model(input_ids=cur, mm_token_type_ids=kinds, **kw).logits[0, -1]
            row[tokenizer.rows:] = -1e30
            top = torch.topk(row, 2)
            margin = min(margin, float(top.values[0] - top.values[1]))
            tokens.append(int(top.indices[0]))
            cur = torch.cat([cur, top.indices[:1][None]], 1)
    return ids, tokens, margin


def main(out_dir):
    if "CHAT_TEMPLATES" not in os.environ:
        print("CHAT_TEMPLATES is not set: talks.json stays as it is")
        return
    with open(os.path.join(os.environ["CHAT_TEMPLATES"], "qwen3vl.jinja"), encoding="utf-8") as f:
        template = f.read()
    tokenizer = Words(f"{out_dir}/tiny_see/tokenizer.json")
    processor = image_pil.Qwen2VLImageProcessorPil(
        patch_size=16, merge_size=2, temporal_patch_size=2, image_mean=[0.5] * 3, image_std=[0.5] * 3,
        size=dict(shortest_edge=4096, longest_edge=65536))
    model = vl.build().double()
    rows = []
    for name, messages in CASES.items():
        ids, tokens, margin = answer(model, processor, tokenizer, template, messages)
        print("%-28s %3d ids, %2d tokens, margin %.1e" % (name, len(ids), len(tokens), margin), flush=True)
        assert margin > 1e-4, name
        rows.append({"name": name, "messages": messages, "ids": ids, "tokens": tokens})
    tools = json.dumps(TOOL, separators=(",", ":"))
    with open(f"{out_dir}/qwen3vl/talks.json", "w", encoding="utf-8") as f:
        f.write('{"made_with":%s,"tool":%s,"talks":[\n' % (json.dumps(versions()), tools))
        f.write(",\n".join(json.dumps(r, separators=(",", ":")) for r in rows) + "\n]}\n")


if __name__ == "__main__":
    main(sys.argv[1])
