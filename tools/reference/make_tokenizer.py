# SPDX-License-Identifier: MIT
"""A CLIP tokenizer of 1000 tokens with its own vocabulary, and the ids of some texts."""

import collections
import json
import os
import sys

from common import save_json

VOCAB = 1000
TEXT = """a lighthouse at dusk, oil painting of the quiet harbour where small boats rest and gulls circle
over grey water. an old man mends his nets by lantern light while children run along the stone
pier. portrait of a woman in a red coat, soft window light, detailed face, sharp focus, film
grain. a cat sleeping on a pile of books beside a cup of tea. mountains in the morning mist, a
river winding through pine forest, watercolour. city street in the rain at night, neon signs
reflected in puddles, wide angle photograph. still life with lemons, a silver knife and a glass of
wine on a dark table. astronaut riding a horse on the moon, cinematic lighting, highly detailed,
masterpiece, best quality. ugly, blurry, low quality, deformed hands, extra fingers, watermark,
text, cropped. a castle of sand before the tide, golden hour, children playing. robot gardener
watering sunflowers, pastel colours, flat illustration. dragon sleeping under the northern lights,
fantasy concept art, intricate. bowl of ramen, steam, close up, macro lens. the fox and the crow
in an autumn field, pencil sketch on rough paper. abstract shapes, bold colours, geometric
pattern, modern art. train crossing a bridge in winter snow, aerial view. an empty room with a
single chair, sunlight through blinds, long shadows. deep sea creature glowing blue,
bioluminescent, dark background. wooden ship model inside a bottle. market in a desert town,
spices, fabric, crowded alley. two swans on a lake, reflection, symmetry. volcano erupting at
night, lava flowing, dramatic sky. library with tall shelves, ladder, dust in the air, warm light."""


def byte_chars():
    """GPT-2's printable stand-ins of bytes: printable bytes stay, the others move up."""
    keep = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    chars = {b: chr(b) for b in keep}
    for n, b in enumerate(b for b in range(256) if b not in chars):
        chars[b] = chr(256 + n)
    return chars


def train(count):
    """Plain byte-pair merges, most frequent pair first, ties in order of the pair."""
    chars = byte_chars()
    words = collections.Counter("".join(c if c.isalpha() else " " for c in TEXT.lower()).split())
    pieces = {
        w: [chars[b] for b in w.encode()][:-1] + [chars[w.encode()[-1]] + "</w>"] for w in words
    }
    merges = []
    while len(merges) < count:
        pairs = collections.Counter()
        for w, p in pieces.items():
            for pair in zip(p, p[1:]):
                pairs[pair] += words[w]
        best = min(pairs, key=lambda k: (-pairs[k], k))
        merges.append(best)
        for w, p in pieces.items():
            out, i = [], 0
            while i < len(p):
                if tuple(p[i : i + 2]) == best:
                    out.append(p[i] + p[i + 1])
                    i += 2
                else:
                    out.append(p[i])
                    i += 1
            pieces[w] = out
    return merges


def write(folder, pad):
    chars = byte_chars()
    order = sorted(chars, key=lambda b: (ord(chars[b]) > 255, ord(chars[b])))
    base = [chars[b] for b in order]
    merges = train(VOCAB - 2 - 2 * len(base))
    tokens = base + [c + "</w>" for c in base] + [a + b for a, b in merges]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    assert len(set(tokens)) == VOCAB
    os.makedirs(folder, exist_ok=True)
    with open(folder + "/vocab.json", "w") as f:
        json.dump(
            {t: i for i, t in enumerate(tokens)}, f, ensure_ascii=False, separators=(",", ":")
        )
    with open(folder + "/merges.txt", "w") as f:
        f.write("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    special = {
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": pad,
    }
    save_json(folder + "/special_tokens_map.json", special)
    save_json(
        folder + "/tokenizer_config.json",
        dict(
            special,
            model_max_length=77,
            do_lower_case=True,
            add_prefix_space=False,
            tokenizer_class="CLIPTokenizer",
        ),
    )


PROBES = [
    "",
    " ",
    "a",
    "a lighthouse at dusk, oil painting",
    "A LightHouse  at\tDUSK,\n oil painting.",
    "the artist's cat isn't here; they'll say we've won, I'd bet you're right, I'm sure",
    "1girl, 2024, 3.14, x2",
    "wow!!! (really?) [yes] {no} -- dash",
    "naïve café, Ünïcödé, straße",
    "cafe\u0301 and e\u0301",
    "日本語のテスト",
    "emoji 🦊 and 👩\u200d🚀 flag 🇩🇪",
    "<|startoftext|>a cat<|endoftext|>",
    "a<|endoftext|>b",
    "under_score and-dash/slash\\back",
    "кот и пёс",
    "١٢٣ ½ ² Ⅷ",
    "tab\u00a0nbsp\u3000wide",
    "word " * 90,
]


def load(folder):
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(folder)


def main(out):
    folder = out + "/pipe/sd1/tokenizer"
    write(folder, "<|endoftext|>")
    write(out + "/pipe/sdxl/tokenizer", "<|endoftext|>")
    write(out + "/pipe/sdxl/tokenizer_2", "!")
    tok = load(folder)
    rows = [{"text": t, "ids": tok(t, truncation=False)["input_ids"]} for t in PROBES]
    assert tok("a cat", padding="max_length")["input_ids"][-1] == 999
    assert load(out + "/pipe/sdxl/tokenizer_2")("a cat", padding="max_length")["input_ids"][-1] == 0
    with open(out + "/pipe/tokenizer.io.json", "w") as f:
        json.dump(rows, f, indent=0, ensure_ascii=False)
        f.write("\n")
    for r in rows:
        print("tokenizer", len(r["ids"]), repr(r["text"][:40]))


if __name__ == "__main__":
    main(sys.argv[1])
